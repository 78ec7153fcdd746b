/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_ops.c - every change of one key: put, insert, replace, remove, take, compare and swap, add, update
 *
 * FRAME      lock the shard (finishing what a death left); look the key up; decide; one step; a little cleaning;
 *            unlock. What needs room is done before the deciding step: a new chunk, a split, a doubling are steps of
 *            their own. When there is no free run: unlock, grow (no lock held), and begin again with the look-up.
 *            Nothing is acknowledged before its step was disarmed.
 * LARGE      new values over 8 KiB are written into a PENDING run before the lock. Old ones that must be compared or
 *            copied out are read before the lock too, as a reader; under the lock the same reference and sequence
 *            number say that it is that value still, else all again.
 * ONE WORD   a value that lies in one word, over one of the same length, is one atomic store in the record: no step, nothing
 *            to recover, no garbage.
 * NO SPACE   in order: a smaller chunk, what dead processes and clears left, cleaning whole chunks of this shard.
 */
#include "table_cells.h"
#include "table_find.h"

#include <stdlib.h>

enum kind { PUT, INSERT, REPLACE, ADD, REMOVE, TAKE, REMOVE_IF, SWAP };

/* A large old value, as read before the lock. */
struct seen {
    uint64_t offset, sequence, vlen;
    int valid, equal;
};

struct op {
    struct shf_table *t;
    struct shf_shm_shard *s;
    struct shf_target target;
    enum kind kind;
    const struct shf_bytes *expected; /* REMOVE_IF, SWAP; data SHF_ABSENT */
    struct shf_bytes desired;         /* what is stored */
    int desired_absent;
    int64_t delta, previous;
    void *old;                        /* old value wanted: REPLACE, TAKE, SWAP when unchanged */
    size_t cap;
    size_t *old_len;
    uint32_t uid;
    /* private */
    struct seen seen;
    uint32_t large_page, large_pages, large_entry; /* the desired value's run, 0 = none */
    uint32_t need;                                 /* pages, for growth */
    uint32_t freed;                                /* a run for a hint after the lock */
    uint32_t only_uid;                             /* REPLACE: the key must have this UID; 0 = any */
    int minimal, stage, linked;
};

#define LOOK 101 /* unlock, read the large old value, and look again */

/* ---- room --------------------------------------------------------------------------------------------- */

static void empty_graves(struct shf_table *t) {
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) {
        struct shf_shm_shard *s = &t->shards[i];
        if (shm_load_relaxed32(&s->grave_full) == 0 || shf__table_lock(t, s) != SHF_OK) continue;
        while (shf__grave_step(t, s)) {
        }
        shf__table_unlock(s);
    }
}

/* SHF__GROW was the answer, no lock is held: SHF_OK = try again. */
SHF_COLD static int make_room(struct op *o) {
    struct shf_table *t = o->t;
    int rc = shf__pages_grow(&t->pages, o->need);
    if (rc != SHF_ERR_NO_SPACE && rc != SHF_ERR_ADDRESS_SPACE) return rc;
    switch (o->stage++) {
    case 0: o->minimal = 1; return SHF_OK;
    case 1:
        (void)shf__registry_sweep(&t->registry, 1);
        empty_graves(t);
        return SHF_OK;
    default:
        if (o->stage < 40 && !shf_is_fixed(t)) { /* cells leave nothing to clean */
            int lock = shf__table_lock(t, o->s), freed;
            if (lock != SHF_OK) return lock;
            freed = shf__records_clean_hard(t, o->s);
            shf__table_unlock(o->s);
            shf__pages_fill_reserve(&t->pages);
            if (freed) return SHF_OK;
        }
        return shf__pages_grow(&t->pages, o->need); /* again, so that its error is the thread's last one */
    }
}

/* ---- steps -------------------------------------------------------------------------------------------- */

static int is_large(const struct op *o) {
    return !o->desired_absent && shf_record_size(o->target.klen, o->desired.len) > SHF_RECORD_MAX;
}

/* Stores o->desired for the target, found or not. */
static inline int store(struct op *o, const struct shf_found *f, int found) {
    struct shf_table *t = o->t;
    struct shf_shm_shard *s = o->s;
    const void *key = o->target.key, *val = o->desired.data;
    size_t klen = o->target.klen, vlen = o->desired.len;
    struct shf_place p = {NULL, 0, 0, 0, 0};
    uint64_t garbage = 0, size = 0, ref, head;
    int rc, large = o->large_page != 0;
    if (SHF_UNLIKELY(shf_is_fixed(t)))
        return shf__cells_store(t, s, o->target.hash, key, val, f, found, &o->uid, &o->need);
    if (found && vlen == f->vlen && shf_in_one_word(f->word0, vlen)) {
        shf_store_in_word(f->record, f->word0, val, vlen);
        o->uid = shf_uid(shf_shard_number(t, s), f->word, f->index);
        return SHF_OK;
    }
    if (SHF_LIKELY(!large)) {
        size = shf_record_size(klen, vlen);
        rc = shf__records_room(t, s, size, o->minimal, &head, &o->need);
        if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    } else {
        head = shm_load_relaxed(&s->head);
    }
    if (!found) {
        rc = shf__table_place(t, s, o->target.hash, &p);
        o->need = rc == SHF__GROW ? p.need : o->need;
        if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
        o->uid = shf_uid(shf_shard_number(t, s), p.tag, p.index);
        /* A stashed key's tag has its directory bits too. */
    } else {
        rc = shf__records_kill(t, s, f, &garbage);
        if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
        o->uid = shf_uid(shf_shard_number(t, s), f->word, f->index);
    }
    ref = large ? (uint64_t)o->large_page * (SHF_PAGE / 8) : head / 8;
    if (SHF_LIKELY(!large)) shf__record_write((shf_au64 *)(void *)(t->region.base + head), key, klen, val, vlen);
    if (found) p.slot = f->slot, p.tag = shm_load_relaxed(f->slot) & ~SHF_FLAGS & ~SHF_REF_MASK;
    shm_store_relaxed(&s->new_word, p.tag | (shm_load_relaxed(p.slot) & SHF_FLAGS) | ref);
    shm_store_relaxed(&s->new_head, head + size);
    shm_store_relaxed32(&s->new_count, shm_load_relaxed32(&s->count) + !found);
    if (SHF_LIKELY(!found && !large)) return shf__step_run(t, s, SHF_STEP_PUT, p.slot);
    if (!found) {
        shm_store_relaxed32(&s->chunk_a, 0);
        shm_store_relaxed32(&s->old_run, 0);
        shm_store_relaxed32(&s->new_garbage, shm_load_relaxed32(&s->garbage));
    }
    shm_store_relaxed32(&s->new_run, o->large_page);
    shm_store_relaxed32(&s->arg0, o->large_pages);
    o->freed = shm_load_relaxed32(&s->old_run);
    o->linked = large; /* armed, and with that the run is the shard's */
    rc = shf__step_run(t, s, SHF_STEP_SLOT, p.slot);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (garbage) shf__records_clean(t, s, garbage);
    return SHF_OK;
}

static int remove_key(struct op *o, const struct shf_found *f) {
    struct shf_table *t = o->t;
    struct shf_shm_shard *s = o->s;
    uint64_t garbage;
    uint32_t removes = shm_load_relaxed32(&s->removes) + 1, count = shm_load_relaxed32(&s->count);
    if (shf_is_fixed(t)) {
        o->uid = 0;
        return shf__cells_remove(t, s, f);
    }
    int rc = shf__records_kill(t, s, f, &garbage);
    if (rc != SHF_OK) return rc;
    shm_store_relaxed(&s->new_word, shm_load_relaxed(f->slot) & SHF_FLAGS);
    shm_store_relaxed(&s->new_head, shm_load_relaxed(&s->head));
    shm_store_relaxed32(&s->new_count, count ? count - 1 : 0);
    shm_store_relaxed32(&s->new_run, 0);
    o->freed = shm_load_relaxed32(&s->old_run);
    o->uid = 0;
    rc = shf__step_run(t, s, SHF_STEP_SLOT, f->slot);
    if (rc != SHF_OK) return rc;
    shm_store_relaxed32(&s->removes, removes);
    if (removes % 256 == 0) shf__table_tidy_flags(f->segment);
    if (garbage) shf__records_clean(t, s, garbage);
    return SHF_OK;
}

/* ---- old values --------------------------------------------------------------------------------------- */

/* Is this the large value that was read before the lock? */
static int was_seen(const struct op *o, const struct shf_found *f) {
    return o->seen.valid && o->seen.offset == shf_word_offset(f->word) && o->seen.sequence == shf_large_sequence(f) &&
           o->seen.vlen == f->vlen; /* only a scribbler changes it alone: what was copied is what is reported */
}

/* A value that is compared or copied under the lock; longer ones were read before it. (A short value may belong to a
 * long key, and an 8-byte one changes in place: reference and sequence would not tell.) */
#define DIRECT 4096u
static inline int is_direct(const struct shf_found *f) { return f->vlen <= DIRECT || !shf_is_large(f->word0); }

/* Copies the old value out, if wanted. SHF_OK, SHF_TRUNCATED, LOOK. */
static int copy_old(struct op *o, const struct shf_found *f) {
    if (o->old_len == NULL && o->cap == 0) return SHF_OK;
    if (o->old_len != NULL) *o->old_len = (size_t)f->vlen;
    if (f->vlen > o->cap) return SHF_TRUNCATED;
    if (!is_direct(f)) return was_seen(o, f) ? SHF_OK : LOOK;
    shm_copy_out(o->old, f->record, shf_value_offset(f->word0, f->vlen), f->vlen);
    return SHF_OK;
}

/* Is the present value the expected one? 1, 0, LOOK. */
static int is_expected(struct op *o, const struct shf_found *f, int found) {
    if (o->expected->data == SHF_ABSENT) return !found;
    if (!found || f->vlen != o->expected->len) return 0;
    if (!is_direct(f)) return was_seen(o, f) ? o->seen.equal : LOOK;
    return shm_equal(f->record, shf_value_offset(f->word0, f->vlen), o->expected->data, f->vlen);
}

/* SWAP found another value: gives it to the caller, cut at cap. */
static int give_present(struct op *o, const struct shf_found *f, int found) {
    if (!found) {
        if (o->old_len != NULL) *o->old_len = SIZE_MAX;
        return SHF_UNCHANGED;
    }
    size_t n = f->vlen < o->cap ? (size_t)f->vlen : o->cap;
    if (n != 0 && !is_direct(f) && !was_seen(o, f)) return LOOK;
    if (o->old_len != NULL) *o->old_len = (size_t)f->vlen;
    if (n != 0 && is_direct(f)) shm_copy_out(o->old, f->record, shf_value_offset(f->word0, f->vlen), n);
    return SHF_UNCHANGED;
}

/* Reads a large old value without a lock: copies it to o->old, compares it with o->expected, notes its identity. */
static int look_at_old(struct op *o) {
    struct shf_read r;
    shf__read_begin(&r, o->t, o->s);
    for (;;) {
        struct shf_found f;
        int rc = shf__target_find(o->t, o->s, &o->target, &f);
        o->seen.valid = 0;
        if (rc == SHF_FOUND && shf_is_large(f.word0)) {
            uint64_t n = o->old != NULL && o->kind != REMOVE_IF ? (f.vlen < o->cap ? f.vlen : o->cap) : 0;
            const void *with = o->expected != NULL && o->expected->data != SHF_ABSENT &&
                               o->expected->len == f.vlen ? o->expected->data : NULL;
            o->seen.offset = shf_word_offset(f.word);
            o->seen.sequence = shf_large_sequence(&f);
            o->seen.vlen = f.vlen;
            o->seen.equal = 0;
            if (shf__read_large(&r, &o->target, &f, o->old, n, with, &o->seen.equal) == 1) o->seen.valid = 1;
            else rc = SHF_CHANGED;
        }
        int end = shf__read_end(&r, rc);
        if (end < 0) return end;
        if (end == 1) return SHF_OK; /* a small one by now: seen.valid is 0 */
    }
}

static SHF_COLD int not_a_counter(const struct shf_table *t, uint64_t vlen) {
    return shf__fail(SHF_ERR_NOT_A_COUNTER, 0, "add", t->region.path,
                     "%s: add needs a value of 8 bytes, this one has %llu", t->region.path, (unsigned long long)vlen);
}

/* ---- the frame ---------------------------------------------------------------------------------------- */

static inline int decide(struct op *o, const struct shf_found *f, int found) {
    shf_au64 *value;
    int rc;
    if (found) o->uid = shf_uid(shf_shard_number(o->t, o->s), f->word, f->index);
    switch (o->kind) {
    case PUT: return store(o, f, found);
    case INSERT: return found ? SHF_EXISTS : store(o, f, 0);
    case REPLACE:
        if (!found || (o->only_uid != 0 && o->only_uid != o->uid)) return SHF_NOT_FOUND;
        rc = copy_old(o, f);
        return rc == SHF_OK ? store(o, f, 1) : rc;
    case ADD:
        if (!found) {
            o->previous = 0;
            return store(o, f, 0);
        }
        if (f->vlen != 8) return not_a_counter(o->t, f->vlen);
        value = f->record + shf_value_offset(f->word0, 8) / 8; /* aligned, beside a key over 8 KiB too */
        o->previous = (int64_t)shm_load_relaxed(value);
        shm_store_release(value, (uint64_t)o->previous + (uint64_t)o->delta);
        return SHF_OK;
    case REMOVE: return found ? remove_key(o, f) : SHF_NOT_FOUND;
    case TAKE:
        if (!found) return SHF_NOT_FOUND;
        rc = copy_old(o, f);
        return rc == SHF_OK ? remove_key(o, f) : rc;
    case REMOVE_IF:
        if (!found) return SHF_NOT_FOUND;
        rc = is_expected(o, f, found);
        return rc == 1 ? remove_key(o, f) : rc == 0 ? SHF_UNCHANGED : rc;
    case SWAP:
        rc = is_expected(o, f, found);
        if (rc == 0) return give_present(o, f, found);
        if (rc != 1) return rc;
        if (!o->desired_absent) return store(o, f, found);
        o->uid = 0;
        return found ? remove_key(o, f) : SHF_OK;
    }
    return SHF_ERR_INVALID;
}

/* The desired value's run, filled. No lock is held. */
SHF_COLD static int fill_large(struct op *o) {
    struct shf_table *t = o->t;
    uint64_t klen = o->target.klen, vlen = o->desired.len, pages = shf_large_pages(klen, vlen);
    uint32_t page = 0;
    for (;;) {
        int rc = shf__pages_pending_begin(&t->pages, shf_shard_number(t, o->s), (uint32_t)pages, &page, &o->large_entry);
        if (rc == SHF_OK) break;
        if (rc != SHF__GROW) return rc;
        o->need = (uint32_t)pages;
        rc = make_room(o);
        if (rc != SHF_OK) return rc;
    }
    struct shf_shm_large *l = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, pages * SHF_PAGE);
    o->large_page = page, o->large_pages = (uint32_t)pages;
    if (l == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    uint64_t sequence = 1 + atomic_fetch_add_explicit(&t->region.header->sequence, 1, memory_order_relaxed);
    shm_store_relaxed(&l->word0, klen << 32 | (uint64_t)SHF_KIND_LARGE << 28);
    shm_store_relaxed(&l->vlen, vlen);
    shm_store_relaxed(&l->sequence, sequence);
    shm_store_relaxed(&l->hash, o->target.hash);
    shm_copy_in((shf_au64 *)(void *)l + SHF_LARGE_HEADER / 8, o->target.key, klen);
    shm_copy_in((shf_au64 *)(void *)l + shf_large_value_offset(klen) / 8, o->desired.data, vlen);
    return SHF_OK;
}

SHF_COLD static int too_long(const struct shf_table *t, size_t klen, size_t vlen) {
    return shf__fail(SHF_ERR_TOO_LONG, 0, "change", t->region.path,
                     "%s: key (%zu bytes) and value (%zu) are together beyond the limit of 4294967295", t->region.path,
                     klen, vlen);
}

int shf__wrong_length(const struct shf_table *t, size_t klen, size_t vlen) {
    return shf__fail(SHF_ERR_WRONG_LENGTH, 0, "fixed lengths", t->region.path,
                     "%s: keys have %u bytes here and values %u, not %zu and %zu", t->region.path, t->fixed.key,
                     t->fixed.value, klen, vlen);
}

/* Fixed lengths: what is stored has them; what is only compared may have any. */
static int check_lengths(const struct op *o) {
    const struct shf_fixed *x = &o->t->fixed;
    size_t klen = o->target.uid == 0 ? o->target.klen : x->key, vlen = o->desired_absent ? x->value : o->desired.len;
    if (o->kind == ADD && x->value != 8 && klen == x->key) return not_a_counter(o->t, x->value);
    return klen == x->key && vlen == x->value ? SHF_OK : shf__wrong_length(o->t, klen, vlen);
}

/* One operation on one key. `held`: the shard's lock is held already and the key was looked up (found, *held). */
static int run_from(struct op *o, const struct shf_found *held, int found) {
    struct shf_table *t = o->t;
    int rc = SHF_OK;
    if (SHF_UNLIKELY(t->region.read_only))
        return shf__fail(SHF_ERR_READ_ONLY, 0, "change", t->region.path, "%s: this handle is read-only", t->region.path);
    if (SHF_UNLIKELY(shf_is_fixed(t)) && (rc = check_lengths(o)) != SHF_OK) return rc;
    if (!o->desired_absent) {
        if (SHF_UNLIKELY(o->desired.len > UINT32_MAX - o->target.klen))
            return too_long(t, o->target.klen, o->desired.len);
        if (SHF_UNLIKELY(is_large(o)) && (rc = fill_large(o)) != SHF_OK) {
            if (o->large_page) shf__pages_pending_finish(&t->pages, o->large_page, o->large_entry, 1);
            return rc;
        }
    }
    for (;;) {
        struct shf_found f;
        o->freed = 0;
        if (held != NULL) {
            f = *held;
            held = NULL;
        } else {
            rc = shf__table_lock(t, o->s);
            if (SHF_UNLIKELY(rc != SHF_OK)) break;
            if (SHF_UNLIKELY(shm_load_relaxed32(&o->s->grave_full) != 0)) shf__grave_step(t, o->s);
            found = shf__target_find(t, o->s, &o->target, &f);
        }
        rc = SHF_LIKELY(found >= 0) ? decide(o, &f, found)
                                    : shf__region_corrupt(&t->region, "shard", shf_shard_number(t, o->s));
        shf__table_unlock(o->s);
        if (SHF_UNLIKELY(rc == SHF__GROW)) {
            rc = make_room(o);
            if (rc != SHF_OK) break;
        } else if (SHF_UNLIKELY(rc == LOOK)) {
            rc = look_at_old(o);
            if (rc != SHF_OK) break;
        } else {
            break;
        }
    }
    if (SHF_UNLIKELY(o->freed != 0)) shf__pages_hint(&t->pages, o->freed);
    if (SHF_UNLIKELY(o->large_page != 0))
        shf__pages_pending_finish(&t->pages, o->large_page, o->large_entry, !o->linked);
    if (SHF_UNLIKELY(atomic_load_explicit(&t->pages.want_ahead, memory_order_relaxed) != 0))
        shf__pages_grow_ahead(&t->pages);
    return rc;
}

static int run(struct op *o) { return run_from(o, NULL, 0); }

static inline struct op op_hashed(struct shf_table *t, enum kind kind, uint64_t h, const void *key, size_t klen) {
    struct op o = {.t = t, .kind = kind, .target = {key, klen, h, 0, 0}, .desired_absent = 1};
    o.s = &t->shards[shf_hash_shard(h)];
    return o;
}
static inline struct op op_key(struct shf_table *t, enum kind kind, const void *key, size_t klen) {
    return op_hashed(t, kind, shf__hash(&t->hash, key, klen), key, klen);
}
static inline void op_store(struct op *o, const void *val, size_t vlen) {
    o->desired.data = val, o->desired.len = vlen, o->desired_absent = 0;
}
/* A key that is too long, or has not the fixed length, is not even hashed: it is in no table. */
static SHF_COLD int refuse_key(const struct shf_table *t, size_t klen) {
    return shf_is_fixed(t) ? shf__wrong_length(t, klen, t->fixed.value) : too_long(t, klen, 0);
}
#define CHECK_KEY(t, key, klen)                                                                                        \
    do {                                                                                                               \
        SHF_CHECK_ARGS((t) != NULL && ((key) != NULL || (klen) == 0));                                                 \
        if (SHF_UNLIKELY((klen) - (t)->key_least > (t)->key_span)) return refuse_key(t, klen);                         \
    } while (0)
#define CHECK_VALUE(val, vlen) SHF_CHECK_ARGS((val) != NULL || (vlen) == 0)

/* ---- the public calls --------------------------------------------------------------------------------- */

/* Bits of the slots that look empty by their tag. A stashed key may look so too: its reference tells. `first` 0: slot 0 is
 * never used, UID 0. */
static inline uint32_t no_tag(const shf_au64 *bucket, uint32_t first) {
    uint32_t bits = shf_match_tag(bucket, 0);
    return first == 0 ? bits & ~1u : bits;
}

/* The straight way for a new short key: one of its buckets has room, and so has the current chunk. The lock is held, the
 * key was not found. 1 if done. The same stores as store() makes, in the same order. */
static inline int put_new(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const struct shf_found *f,
                          const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid) {
    uint32_t b = shf_hash_b1(h), number = shf_hash_shard(h), count = shm_load_relaxed32(&s->count);
    uint64_t head = shm_load_relaxed(&s->head), end = shm_load_relaxed(&s->chunk_end), tag = shf_hash_tag(h);
    uint64_t size = shf_record_size(klen, vlen);
    if (SHF_UNLIKELY(f->segment == NULL)) return 0;
    if (SHF_UNLIKELY(head > end || end - head < size || (head & 7) != 0 || head < SHF_OBJECT_PAGE * SHF_PAGE ||
                     end > atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return 0;
    shf_au64 *bucket = f->segment + b * SHF_BUCKET_SLOTS;
    uint32_t empty = no_tag(bucket, number | b);
    if ((empty & (empty - 1)) == 0) { /* fewer than two: the second bucket, if it has more */
        uint32_t delta = shf_hash_delta(h), b2 = b ^ delta;
        uint32_t empty2 = no_tag(f->segment + b2 * SHF_BUCKET_SLOTS, number | b2);
        if (empty == 0 ? empty2 == 0 : (empty2 & (empty2 - 1)) == 0) {
            if (empty == 0) return 0;
        } else {
            shf_au64 *flag = bucket + (delta & 7);
            uint64_t w = shm_load_relaxed(flag);
            if ((w & SHF_FLAG_OVERFLOW) == 0) shm_store_release(flag, w | SHF_FLAG_OVERFLOW); /* before the slot */
            b = b2, bucket = f->segment + b2 * SHF_BUCKET_SLOTS, empty = empty2, tag |= SHF_ROLE;
        }
    }
    uint32_t index = (uint32_t)__builtin_ctz(empty);
    shf_au64 *slot = bucket + index;
    uint64_t word = shm_load_relaxed(slot);
    if (SHF_UNLIKELY((word & SHF_REF_MASK) != 0)) return 0;
    word = tag | (word & SHF_FLAGS) | head / 8;
    if (klen == 4 && vlen <= 8) { /* the commonest: two words */
        shf_au64 *record = (shf_au64 *)(void *)(t->region.base + head);
        shm_store_relaxed(record, 4 | (uint64_t)vlen << 14 | (uint64_t)SHF_KIND_RECORD << 28 | (uint64_t)shf_load32(key) << 32);
        if (vlen != 0) shm_store_relaxed(record + 1, shf_load_tail(val, vlen));
    } else {
        shf__record_write((shf_au64 *)(void *)(t->region.base + head), key, klen, val, vlen);
    }
    SHF_INTENT(shm_store_relaxed(&s->new_word, word));
    SHF_INTENT(shm_store_relaxed(&s->new_head, head + size));
    SHF_INTENT(shm_store_relaxed32(&s->new_count, count + 1));
    shf_arm(t, s, SHF_STEP_PUT, slot);
    shf_apply_put(s, slot, word, head + size, count + 1); /* A2 */
    shf_disarm(s);
    if (uid != NULL) *uid = shf_uid(number, tag, b * SHF_BUCKET_SLOTS + index);
    return 1;
}

static inline __attribute__((always_inline)) int put_hashed(struct shf_table *t, uint64_t h, const void *key, size_t klen,
                                                            const void *val, size_t vlen, uint32_t *uid) {
    struct shf_found f, *held = NULL;
    int found = 0, rc;
    if (SHF_LIKELY(klen <= 16 && vlen <= 1024)) {
        struct shf_shm_shard *s = &t->shards[shf_hash_shard(h)];
        rc = shf__table_lock(t, s);
        if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
        if (SHF_UNLIKELY(shm_load_relaxed32(&s->grave_full) != 0)) shf__grave_step(t, s);
        found = shf_find(t, s, h, key, klen, &f);
        if (found == SHF_ABSENT_KEY && SHF_LIKELY(put_new(t, s, h, &f, key, klen, val, vlen, uid))) {
            shf__table_unlock(s);
            if (SHF_UNLIKELY(atomic_load_explicit(&t->pages.want_ahead, memory_order_relaxed) != 0))
                shf__pages_grow_ahead(&t->pages);
            return SHF_OK;
        }
        if (found == SHF_FOUND && vlen == f.vlen && shf_in_one_word(f.word0, vlen)) {
            shf_store_in_word(f.record, f.word0, val, vlen);
            shf__table_unlock(s);
            if (uid != NULL) *uid = shf_uid(shf_hash_shard(h), f.word, f.index);
            return SHF_OK;
        }
        held = &f;
    }
    struct op o = op_hashed(t, PUT, h, key, klen);
    op_store(&o, val, vlen);
    rc = run_from(&o, held, found);
    if (SHF_LIKELY(rc == SHF_OK) && uid != NULL) *uid = o.uid;
    return rc;
}

int shf__table_put_short(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(val, vlen);
    return put_hashed(t, shf__hash(&t->hash, key, klen), key, klen, val, vlen, uid);
}

int shf__table_put_any(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(val, vlen);
    struct op o = op_key(t, PUT, key, klen);
    op_store(&o, val, vlen);
    int rc = run(&o);
    if (rc == SHF_OK && uid != NULL) *uid = o.uid;
    return rc;
}

int shf_table_put(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid) {
    SHF_CHECK_ARGS(t != NULL);
    return t->put(t, key, klen, val, vlen, uid);
}

int shf__table_put_hashed(struct shf_table *t, uint64_t h, const void *key, size_t klen, const void *val, size_t vlen) {
    if (SHF_UNLIKELY(t->region.read_only || (shf_is_fixed(t) && (klen != t->fixed.key || vlen != t->fixed.value))))
        return shf__table_put_any(t, key, klen, val, vlen, NULL);
    return shf_is_fixed(t) ? shf__cells_put_hashed(t, h, key, val) : put_hashed(t, h, key, klen, val, vlen, NULL);
}

int shf_table_insert(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(val, vlen);
    struct op o = op_key(t, INSERT, key, klen);
    op_store(&o, val, vlen);
    int rc = run(&o);
    if (rc >= 0 && uid != NULL) *uid = o.uid;
    return rc;
}

int shf_table_replace(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, void *old,
                      size_t cap, size_t *old_len) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(val, vlen);
    CHECK_VALUE(old, cap);
    struct op o = op_key(t, REPLACE, key, klen);
    op_store(&o, val, vlen);
    o.old = old, o.cap = cap, o.old_len = old_len;
    return run(&o);
}

int shf_table_del(struct shf_table *t, const void *key, size_t klen) {
    CHECK_KEY(t, key, klen);
    return shf__table_del_hashed(t, shf__hash(&t->hash, key, klen), key, klen);
}

int shf__table_del_hashed(struct shf_table *t, uint64_t h, const void *key, size_t klen) {
    struct op o = op_hashed(t, REMOVE, h, key, klen);
    return run(&o);
}

int shf_table_take(struct shf_table *t, const void *key, size_t klen, void *buf, size_t cap, size_t *vlen) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(buf, cap);
    struct op o = op_key(t, TAKE, key, klen);
    o.old = buf, o.cap = cap, o.old_len = vlen;
    return run(&o);
}

int shf_table_del_if_equal(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(val, vlen);
    struct shf_bytes expected = {val, vlen};
    struct op o = op_key(t, REMOVE_IF, key, klen);
    o.expected = &expected;
    return run(&o);
}

int shf_table_add(struct shf_table *t, const void *key, size_t klen, int64_t delta, int64_t *previous) {
    CHECK_KEY(t, key, klen);
    struct op o = op_key(t, ADD, key, klen);
    o.delta = delta;
    op_store(&o, &delta, sizeof delta);
    int rc = run(&o);
    if (rc == SHF_OK && previous != NULL) *previous = o.previous;
    return rc;
}

/* *sequence (may be NULL) = the number of the large value that was compared, 0 if it was none. */
static int swap(struct shf_table *t, const void *key, size_t klen, const struct shf_bytes *expected,
                const struct shf_bytes *desired, void *buf, size_t cap, size_t *vlen, uint32_t *uid, uint64_t *sequence) {
    struct op o = op_key(t, SWAP, key, klen);
    o.expected = expected;
    if (desired->data != SHF_ABSENT) op_store(&o, desired->data, desired->len);
    o.old = buf, o.cap = cap, o.old_len = vlen;
    int rc = run(&o);
    if (rc == SHF_OK && uid != NULL) *uid = o.uid;
    if (sequence != NULL) *sequence = o.seen.valid ? o.seen.sequence : 0;
    return rc;
}

int shf_table_cas(struct shf_table *t, const void *key, size_t klen, const struct shf_bytes *expected,
                  const struct shf_bytes *desired, void *buf, size_t cap, size_t *vlen) {
    CHECK_KEY(t, key, klen);
    CHECK_VALUE(buf, cap);
    SHF_CHECK_ARGS(expected != NULL && desired != NULL);
    CHECK_VALUE(expected->data, expected->len);
    CHECK_VALUE(desired->data, desired->len);
    return swap(t, key, klen, expected, desired, buf, cap, vlen, NULL, NULL);
}

/* A reader's look-up and one under the lock agree but for changes in between. In a damaged file they may differ for ever:
 * so many disagreements in a row about one and the same old value, or key of a UID, are damage. */
#define DISAGREEMENTS 100u
struct disagreement {
    uint64_t last;
    uint32_t same;
};
static int is_damage(struct disagreement *d, uint64_t about) {
    d->same = about == d->last ? d->same + 1 : 0;
    d->last = about;
    return d->same == DISAGREEMENTS;
}

int shf_table_update(struct shf_table *t, const void *key, size_t klen, shf_update_fn *fn, void *context,
                     uint32_t *uid) {
    CHECK_KEY(t, key, klen);
    SHF_CHECK_ARGS(fn != NULL);
    if (t->region.read_only) return swap(t, key, klen, NULL, &(struct shf_bytes){SHF_ABSENT, 0}, NULL, 0, NULL, NULL, NULL);
    unsigned char small[256], *buf = small;
    size_t cap = sizeof small, n = 0;
    struct disagreement d = {0, 0};
    int rc;
    for (;;) {
        struct shf_bytes old, desired = {SHF_ABSENT, 0};
        rc = shf_table_get(t, key, klen, buf, cap, &n);
        if (rc == SHF_TRUNCATED) {
            if (buf != small) free(buf);
            cap = n + n / 8;
            buf = malloc(cap);
            if (buf != NULL) continue;
            return shf__fail(SHF_ERR_NO_MEMORY, 0, "update", t->region.path, "%s: no memory for a copy of %zu bytes",
                             t->region.path, cap);
        }
        if (rc < 0) break;
        old.data = rc == SHF_NOT_FOUND ? SHF_ABSENT : buf;
        old.len = rc == SHF_NOT_FOUND ? 0 : n;
        desired = old;
        if (fn(context, &old, &desired) != 0) {
            rc = SHF_STOPPED;
            break;
        }
        if (desired.data == NULL && desired.len != 0) {
            rc = shf__fail(SHF_ERR_INVALID, 0, "update", t->region.path, NULL);
            break;
        }
        uint64_t sequence;
        rc = swap(t, key, klen, &old, &desired, NULL, 0, NULL, uid, &sequence);
        if (rc != SHF_UNCHANGED) break;
        /* A large value by its number, which no other ever has: its bytes, if damage made it overlap what changes all the
         * time, would be others at each look. */
        uint64_t about = sequence != 0 ? sequence | UINT64_C(1) << 63 : old.data == SHF_ABSENT ? 0 : shf__hash(&t->hash, buf, n) | 1;
        if (is_damage(&d, about)) {
            rc = shf__region_corrupt(&t->region, "update: readers and writers find different values", 0);
            break;
        }
    }
    if (buf != small) free(buf);
    return rc;
}

/* ---- by UID ------------------------------------------------------------------------------------------- */

static int del_uid(struct shf_table *t, uint32_t uid, uint32_t check, int checked) {
    SHF_CHECK_ARGS(t != NULL);
    struct op o = {.t = t, .kind = REMOVE, .target = {NULL, 0, check, uid, checked}, .desired_absent = 1};
    o.s = shf__target_shard(t, &o.target);
    return uid == 0 || o.s == NULL ? SHF_NOT_FOUND : run(&o);
}

/* The key is needed for the new record: it is read first; under the lock it must still be the slot's key. */
static int put_uid(struct shf_table *t, uint32_t uid, uint32_t check, int checked, const void *val, size_t vlen) {
    unsigned char small[256], *key = small;
    size_t cap = sizeof small, klen = 0;
    struct disagreement d = {0, 0};
    int rc;
    SHF_CHECK_ARGS(t != NULL && (val != NULL || vlen == 0));
    for (;;) {
        rc = checked ? shf_table_key_by_checked_uid(t, (uint64_t)uid << 32 | check, key, cap, &klen)
                     : shf_table_key_by_uid(t, uid, key, cap, &klen);
        if (rc == SHF_OK) {
            struct op o = op_key(t, REPLACE, key, klen);
            op_store(&o, val, vlen);
            o.only_uid = uid;
            rc = run(&o);
            if (rc != SHF_NOT_FOUND) break;
            if (is_damage(&d, o.target.hash | 1)) { /* of the key just read */
                rc = shf__region_corrupt(&t->region, "UID: its key is not where a look-up goes", uid);
                break;
            }
            continue; /* the UID may have gone to another key meanwhile, which is not this one: read again */
        }
        if (rc != SHF_TRUNCATED) break;
        if (key != small) free(key);
        cap = klen;
        key = malloc(cap);
        if (key == NULL)
            return shf__fail(SHF_ERR_NO_MEMORY, 0, "put_by_uid", t->region.path, "%s: no memory for a key of %zu bytes",
                             t->region.path, cap);
    }
    if (key != small) free(key);
    return rc;
}

int shf_table_put_by_uid(struct shf_table *t, uint32_t uid, const void *val, size_t vlen) {
    return put_uid(t, uid, 0, 0, val, vlen);
}
int shf_table_put_by_checked_uid(struct shf_table *t, uint64_t uid, const void *val, size_t vlen) {
    return put_uid(t, (uint32_t)(uid >> 32), (uint32_t)uid, 1, val, vlen);
}
int shf_table_del_by_uid(struct shf_table *t, uint32_t uid) { return del_uid(t, uid, 0, 0); }
int shf_table_del_by_checked_uid(struct shf_table *t, uint64_t uid) {
    return del_uid(t, (uint32_t)(uid >> 32), (uint32_t)uid, 1);
}
