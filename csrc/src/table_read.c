/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_read.c - reads: no lock, no store to shared memory, no system call
 *
 * THE FRAME  v0 = version (acquire) [V1]; the body reads what it likes, every word as a relaxed or acquire atomic,
 *            every offset checked; fence(acquire); version (relaxed) == v0 [V2]. Only then its verdict holds: found,
 *            absent, corrupt alike. Pairs with V3/V4 (table_step.c): whoever saw a store made after V4 sees V3.
 *            Weaker: without V1's acquire the directory word could be older than the version; without V2's fence the
 *            bytes could be read after the check.
 * RETRIES    The version moves when the shard splits, doubles, frees a chunk or a large value. After 100 tries an
 *            attached handle takes the shard's lock, so that it ends; a read-only one yields, 10,000 times at most,
 *            then gives SHF_ERR_BUSY.
 * LARGE      A version that moved in the middle of a long value says that something was freed, seldom that it was
 *            this value. The slot is looked up again: the same reference with the same sequence number means that the
 *            run was linked all the time (numbers are never used twice), so the bytes so far are right.
 */
#include "table_cells.h"
#include "table_find.h"

#define TRIES_BEFORE_LOCK 100u
#define TRIES_READ_ONLY 10000u
#define PIECE (64u * 1024u) /* of a large value between two looks at the version */

static inline void read_begin(struct shf_read *r, struct shf_table *t, struct shf_shm_shard *s) {
    r->t = t, r->s = s, r->tries = 0, r->locked = 0;
    r->version = shm_load_acquire(&s->version); /* V1 */
}
static inline int version_holds(const struct shf_read *r) {
    if (r->locked) return 1;
    shf_fence_acquire();
    return shm_load_relaxed(&r->s->version) == r->version; /* V2 */
}

SHF_COLD static int read_end_slow(struct shf_read *r, int rc) {
    uint32_t number = shf_shard_number(r->t, r->s);
    if (r->locked) shf__table_unlock(r->s);
    if (r->locked && rc == SHF_CHANGED) rc = SHF_NONSENSE; /* nobody changes it but who ignores the lock */
    if (rc != SHF_CHANGED && (r->locked || version_holds(r)))
        return rc == SHF_NONSENSE ? shf__region_corrupt(&r->t->region, "shard", number) : 1;
    r->tries++;
    if (r->tries > TRIES_BEFORE_LOCK && !r->t->region.read_only) {
        int lock = r->tries == UINT32_MAX ? SHF_ERR_TIMEOUT : shf__table_lock(r->t, r->s);
        /* A stopped holder changes nothing either: one more try as a reader before saying so. */
        if (lock == SHF_ERR_TIMEOUT && r->tries < UINT32_MAX - 1) r->tries = UINT32_MAX - 1;
        else if (lock != SHF_OK) return lock;
        r->locked = lock == SHF_OK;
    } else if (r->tries > TRIES_BEFORE_LOCK) {
        if (r->tries > TRIES_READ_ONLY)
            return shf__fail(SHF_ERR_BUSY, 0, "read", r->t->region.path,
                             "%s: a read-only handle could not finish beside the writers; try again",
                             r->t->region.path);
        os_yield();
    }
    r->version = shm_load_acquire(&r->s->version); /* V1 */
    return 0;
}

static inline int read_end(struct shf_read *r, int rc) {
    if (SHF_LIKELY(rc >= SHF_ABSENT_KEY && !r->locked && version_holds(r))) return 1;
    return read_end_slow(r, rc);
}

void shf__read_begin(struct shf_read *r, struct shf_table *t, struct shf_shm_shard *s) { read_begin(r, t, s); }
int shf__read_end(struct shf_read *r, int rc) { return read_end(r, rc); }

/* ---- targets ------------------------------------------------------------------------------------------ */

struct shf_shm_shard *shf__target_shard(struct shf_table *t, const struct shf_target *g) {
    uint32_t n = g->uid ? g->uid >> 24 : shf_hash_shard(g->hash);
    return n < SHF_SHARD_COUNT ? &t->shards[n] : NULL;
}

static uint32_t record_check(struct shf_table *t, const struct shf_found *f) {
    unsigned char key[SHF_RECORD_LENGTH_MASK];
    size_t klen = shf_record_klen(f->word0);
    if (shf_is_large(f->word0)) return (uint32_t)shm_load_relaxed(&((struct shf_shm_large *)(void *)f->record)->hash);
    shf__record_key(f, key, klen);
    return (uint32_t)shf__hash(&t->hash, key, klen);
}

int shf__target_find(struct shf_table *t, struct shf_shm_shard *s, const struct shf_target *g, struct shf_found *f) {
    if (shf_is_fixed(t))
        return g->uid == 0 ? shf__cells_find(t, s, g->hash, g->key, f) : shf__cells_find_uid(t, s, g, f);
    if (SHF_LIKELY(g->uid == 0)) return shf__table_find(t, s, g->hash, g->key, g->klen, f);
    int rc = shf__table_find_uid(t, s, g->uid, f);
    if (rc == SHF_FOUND && g->checked && record_check(t, f) != (uint32_t)g->hash) return SHF_ABSENT_KEY;
    return rc;
}

/* ---- values ------------------------------------------------------------------------------------------- */

/* Looks the target up again after the version moved: 1 if it is the same large value still. */
static int same_large(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, uint64_t sequence) {
    for (uint32_t i = 0; i < TRIES_BEFORE_LOCK; i++) {
        struct shf_found now;
        r->version = shm_load_acquire(&r->s->version); /* V1 */
        int rc = shf__target_find(r->t, r->s, g, &now);
        int same = rc == SHF_FOUND && shf_word_offset(now.word) == shf_word_offset(f->word) &&
                   shf_is_large(now.word0) && shf_large_sequence(&now) == sequence;
        if (version_holds(r)) return same;
    }
    return 0;
}

int shf__read_large(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, void *buf, uint64_t n,
                    const void *compare, int *equal) {
    uint64_t sequence = shf_large_sequence(f), at = shf_large_value_offset(shf_record_klen(f->word0));
    uint64_t end = compare != NULL ? f->vlen : n;
    if (compare != NULL) *equal = 1;
    if (!version_holds(r)) return 0;
    for (uint64_t done = 0; done < end; done += PIECE) {
        uint64_t piece = end - done < PIECE ? end - done : PIECE;
        if (compare != NULL && *equal &&
            !shm_equal(f->record, at + done, (const unsigned char *)compare + done, piece))
            *equal = 0;
        if (done < n)
            shm_copy_out((unsigned char *)buf + done, f->record, at + done, n - done < piece ? n - done : piece);
        if (!version_holds(r) && !same_large(r, g, f, sequence)) {
            /* What was copied in vain counts: a hundred times 256 MiB took seconds. (Not in the one try after a timeout.) */
            if (r->tries < TRIES_READ_ONLY) r->tries += (uint32_t)(done >> 20);
            return 0;
        }
        if (compare != NULL && !*equal && done + piece >= n) break;
    }
    return 1;
}

/* Copies the value of f. 1, or 0 = again. */
static inline int copy_value(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, void *buf) {
    if (SHF_UNLIKELY(shf_is_large(f->word0))) return shf__read_large(r, g, f, buf, f->vlen, NULL, NULL);
    shf_copy_value(f->record, shf_record_klen(f->word0), (size_t)f->vlen, buf);
    return 1;
}
int shf__copy_value(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, void *buf) {
    return copy_value(r, g, f, buf);
}

/* A key that is too long is in no table; one that has not the fixed length is a mistake. Neither is hashed. */
static SHF_COLD int refuse_key(const struct shf_table *t, size_t klen) {
    return shf_is_fixed(t) ? shf__wrong_length(t, klen, t->fixed.value) : SHF_NOT_FOUND;
}

/* The body of all reads of one value or key. */
static int read_one(struct shf_table *t, const struct shf_target *g, int want_key, void *buf, size_t cap, size_t *len) {
    struct shf_read r;
    struct shf_found f;
    struct shf_shm_shard *s = shf__target_shard(t, g);
    if (SHF_UNLIKELY(shf_is_fixed(t))) return shf__cells_read(t, g, want_key, buf, cap, len);
    if (SHF_UNLIKELY(s == NULL)) return SHF_NOT_FOUND;
    read_begin(&r, t, s);
    for (;;) {
        size_t n = 0;
        int found = shf__target_find(t, s, g, &f), whole = 1;
        if (SHF_LIKELY(found == SHF_FOUND)) {
            n = want_key ? shf_record_klen(f.word0) : (size_t)f.vlen;
            if (SHF_LIKELY(n <= cap)) {
                if (SHF_UNLIKELY(want_key)) shf__record_key(&f, buf, n);
                else whole = copy_value(&r, g, &f, buf);
            }
        }
        int end = read_end(&r, SHF_LIKELY(whole) ? found : SHF_CHANGED);
        if (SHF_UNLIKELY(end < 0)) return end;
        if (SHF_UNLIKELY(end == 0)) continue;
        if (found != SHF_FOUND) return SHF_NOT_FOUND;
        if (len != NULL) *len = n;
        return n <= cap ? SHF_OK : SHF_TRUNCATED;
    }
}

/* Every get that is not the straight one below. */
int shf__table_get_any(struct shf_table *t, const void *key, size_t klen, void *buf, size_t cap, size_t *vlen) {
    SHF_CHECK_ARGS(t != NULL && (key != NULL || klen == 0) && (buf != NULL || cap == 0) && vlen != NULL);
    if (SHF_UNLIKELY(klen - t->key_least > t->key_span)) return refuse_key(t, klen);
    struct shf_target g = shf_target_key(t, key, klen);
    return read_one(t, &g, 0, buf, cap, vlen);
}

#define GET_ARGUMENTS struct shf_table *t, const void *key, size_t klen, void *buf, size_t cap, size_t *vlen

/* The straight way: keys of 4 to 16 bytes, the first candidate of one of two buckets, and a value that fits; or no candidate
 * at all. The same reads in the same order as shf_find. What is not as expected begins again in get_any. How many gets overlap
 * in the processor's window decides the rate (design, 11): each instruction counts. No tag is compared twice (the key
 * decides), one compare for kind, key length and the key's first four bytes, the handle's fields loaded where they are needed
 * rather than kept; a forged directory word or entry only finds a wrong place inside the file. klen, if 4, is a constant when
 * inlined. */
static inline __attribute__((always_inline)) int get_straight(GET_ARGUMENTS) {
    uint64_t h = shf__hash_short(&t->hash, key, klen);
    const struct shf_shm_shard *s = &t->shards[shf_hash_shard(h)];
    uint64_t version = shm_load_acquire(&s->version); /* V1 */
    uint64_t at = shf_directory_entry(shm_load_acquire(&s->directory), shf_hash_dir(h));
    if (SHF_UNLIKELY(at >= atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return shf__table_get_any(t, key, klen, buf, cap, vlen);
    /* No segment yet is page 0: the header's bytes are nobody's tags, and a record decides by its key. */
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(t->region.base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at >= atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return shf__table_get_any(t, key, klen, buf, cap, vlen);
    uint32_t tag = shf_hash_tag32(h);
    at += h >> 29 & 0xfc0;
    const shf_au64 *bucket = (const shf_au64 *)(const void *)(t->region.base + at);
    uint64_t bits = shf_match_tag(bucket, (uint64_t)tag << 32);
    if (bits == 0) {
        uint32_t delta = shf_hash_delta(h);
        if (SHF_UNLIKELY(shm_load_relaxed(bucket) & SHF_FLAG_STASH)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
        if (shm_load_relaxed(&bucket[delta & 7]) & SHF_FLAG_OVERFLOW) { /* the second bucket, in the same frame */
            bucket = (const shf_au64 *)(const void *)(t->region.base + (at ^ (uint64_t)delta * SHF_LINE));
            bits = shf_match_tag(bucket, (uint64_t)(tag | (uint32_t)(SHF_ROLE >> 32)) << 32);
        }
        if (bits == 0) {
            shf_fence_acquire();
            if (SHF_LIKELY(shm_load_relaxed(&s->version) == version)) return SHF_NOT_FOUND; /* V2 */
            return shf__table_get_any(t, key, klen, buf, cap, vlen);
        }
    }
    at = shm_load_acquire(&bucket[__builtin_ctz((uint32_t)bits)]) << 26 >> 23; /* its reference, in bytes */
    if (SHF_UNLIKELY(at + SHF_RECORD_REACH > atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return shf__table_get_any(t, key, klen, buf, cap, vlen);
    const shf_au64 *record = (const shf_au64 *)(const void *)(t->region.base + at);
    uint64_t word0 = shm_load_relaxed(record);
    uint64_t want = klen | (uint64_t)SHF_KIND_RECORD << 28 | (uint64_t)shf_load32(key) << 32;
    uint64_t n = word0 >> 14 & SHF_RECORD_LENGTH_MASK;
    if (SHF_UNLIKELY(((word0 ^ want) & ~((uint64_t)SHF_RECORD_LENGTH_MASK << 14)) != 0 || n > cap))
        return shf__table_get_any(t, key, klen, buf, cap, vlen);
    if (klen == 4) {
        if (SHF_UNLIKELY(n > 8)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
        uint64_t v = shm_load_relaxed(record + 1); /* the value is word 1, whatever its length */
        if (SHF_LIKELY(n == 4)) memcpy(buf, &v, 4);
        else shf_store_tail(buf, v, n);
    } else {
        struct shf_found f = {.record = (shf_au64 *)(uintptr_t)record, .word0 = word0, .vlen = n};
        struct shf_wanted w = {key, klen, 0, 0};
        if (!shf_key_equal(&f, &w)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
        copy_value(NULL, NULL, &f, buf);
    }
    shf_fence_acquire();
    if (SHF_UNLIKELY(shm_load_relaxed(&s->version) != version)) /* V2 */
        return shf__table_get_any(t, key, klen, buf, cap, vlen);
    *vlen = n;
    return SHF_OK;
}
static __attribute__((noinline)) int get_16(GET_ARGUMENTS) { return get_straight(t, key, klen, buf, cap, vlen); }

int shf__table_get_short(GET_ARGUMENTS) {
    if (SHF_UNLIKELY(klen - 4 > 12)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(key == NULL)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(buf == NULL)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(vlen == NULL)) return shf__table_get_any(t, key, klen, buf, cap, vlen);
    if (klen != 4) return get_16(t, key, klen, buf, cap, vlen);
    return get_straight(t, key, 4, buf, cap, vlen);
}

int shf_table_get(GET_ARGUMENTS) {
    if (SHF_UNLIKELY(t == NULL)) return shf__fail(SHF_ERR_INVALID, 0, __func__, NULL, NULL);
    return t->get(t, key, klen, buf, cap, vlen);
}

int shf_table_contains(struct shf_table *t, const void *key, size_t klen) {
    unsigned char unused[128]; /* get's straight way wants a value that fits; longer ones are not copied */
    size_t n;
    SHF_CHECK_ARGS(t != NULL && (key != NULL || klen == 0));
    int rc = t->get(t, key, klen, unused, sizeof unused, &n);
    return rc == SHF_TRUNCATED ? SHF_OK : rc;
}

static int find_uid(struct shf_table *t, const void *key, size_t klen, uint32_t *uid, uint64_t *hash) {
    struct shf_read r;
    struct shf_found f;
    if (SHF_UNLIKELY(klen - t->key_least > t->key_span)) return refuse_key(t, klen);
    struct shf_target g = shf_target_key(t, key, klen);
    struct shf_shm_shard *s = shf__target_shard(t, &g);
    *hash = g.hash;
    if (shf_is_fixed(t)) return shf__cells_uid(t, &g, uid);
    read_begin(&r, t, s);
    for (;;) {
        int found = shf__target_find(t, s, &g, &f), end = read_end(&r, found);
        if (end < 0) return end;
        if (end == 0) continue;
        if (found != SHF_FOUND) return SHF_NOT_FOUND;
        *uid = shf_uid(shf_shard_number(t, s), g.hash << 8, f.index);
        return SHF_OK;
    }
}

int shf_table_uid(struct shf_table *t, const void *key, size_t klen, uint32_t *uid) {
    uint64_t h;
    SHF_CHECK_ARGS(t != NULL && (key != NULL || klen == 0) && uid != NULL);
    return find_uid(t, key, klen, uid, &h);
}
int shf_table_checked_uid(struct shf_table *t, const void *key, size_t klen, uint64_t *uid) {
    uint64_t h = 0;
    uint32_t u = 0;
    SHF_CHECK_ARGS(t != NULL && (key != NULL || klen == 0) && uid != NULL);
    int rc = find_uid(t, key, klen, &u, &h);
    if (rc == SHF_OK) *uid = (uint64_t)u << 32 | (uint32_t)h;
    return rc;
}

static int read_uid(struct shf_table *t, uint32_t uid, uint32_t check, int checked, int want_key, void *buf,
                    size_t cap, size_t *len) {
    SHF_CHECK_ARGS(t != NULL && (buf != NULL || cap == 0) && len != NULL);
    struct shf_target g = {NULL, 0, check, uid, checked};
    return uid == 0 ? SHF_NOT_FOUND : read_one(t, &g, want_key, buf, cap, len);
}

#define GET_UID_ARGUMENTS struct shf_table *t, uint32_t uid, void *buf, size_t cap, size_t *vlen
int shf__table_get_uid_any(GET_UID_ARGUMENTS) { return read_uid(t, uid, 0, 0, 0, buf, cap, vlen); }
static __attribute__((noinline)) int get_uid_long(GET_UID_ARGUMENTS);

/* The straight way by UID: variable lengths, a record in a chunk, a value that fits. One slot in place of a search; all
 * else as in get_straight. UID 0 is a slot that is never used. `longer` is a constant: values that are not in one word. */
static inline __attribute__((always_inline)) int get_uid_straight(GET_UID_ARGUMENTS, int longer) {
    uint32_t shard = uid >> 24, dir = uid >> 9 & 0x7fff;
    if (SHF_UNLIKELY(buf == NULL || vlen == NULL || shard >= SHF_SHARD_COUNT))
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    const struct shf_shm_shard *s = &t->shards[shard];
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    const unsigned char *base = t->region.base;
    uint64_t version = shm_load_acquire(&s->version); /* V1 */
    uint64_t at = shf_directory_entry(shm_load_acquire(&s->directory), dir);
    if (SHF_UNLIKELY(at >= size)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at - 1 >= size - 1)) return shf__table_get_uid_any(t, uid, buf, cap, vlen); /* 0 or beyond */
    uint64_t word = shm_load_acquire((const shf_au64 *)(const void *)(base + at) + (uid & 511));
    if (SHF_UNLIKELY(shf_word_dir(word) != dir || (word & SHF_REF_MASK) == 0)) {
        shf_fence_acquire();
        if (SHF_LIKELY(shm_load_relaxed(&s->version) == version)) return SHF_NOT_FOUND; /* V2 */
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    }
    at = shf_word_offset(word);
    if (SHF_UNLIKELY(at + SHF_RECORD_REACH > size)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    const shf_au64 *record = (const shf_au64 *)(const void *)(base + at);
    uint64_t word0 = shm_load_relaxed(record);
    size_t n = word0 >> 14 & SHF_RECORD_LENGTH_MASK, off = n == 8 ? 8 : 4 + (word0 & SHF_RECORD_LENGTH_MASK);
    if (SHF_UNLIKELY((word0 >> 28 & 15) != SHF_KIND_RECORD || n > cap)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (SHF_LIKELY((off & 7) == 0 && n <= 8)) {
        uint64_t v = shm_load_relaxed(record + off / 8);
        if (SHF_LIKELY(n == 4)) memcpy(buf, &v, 4);
        else shf_store_tail(buf, v, n);
    } else if (longer) {
        shm_copy_out(buf, record, off, n);
    } else {
        return get_uid_long(t, uid, buf, cap, vlen);
    }
    shf_fence_acquire();
    if (SHF_UNLIKELY(shm_load_relaxed(&s->version) != version)) /* V2 */
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    *vlen = n;
    return SHF_OK;
}
static int get_uid_long(GET_UID_ARGUMENTS) { return get_uid_straight(t, uid, buf, cap, vlen, 1); }
int shf__table_get_uid_short(GET_UID_ARGUMENTS) { return get_uid_straight(t, uid, buf, cap, vlen, 0); }
int shf_table_get_by_uid(GET_UID_ARGUMENTS) {
    if (SHF_UNLIKELY(t == NULL)) return shf__fail(SHF_ERR_INVALID, 0, __func__, NULL, NULL);
    return t->get_uid(t, uid, buf, cap, vlen);
}
int shf_table_key_by_uid(struct shf_table *t, uint32_t uid, void *buf, size_t cap, size_t *klen) {
    return read_uid(t, uid, 0, 0, 1, buf, cap, klen);
}
int shf_table_get_by_checked_uid(struct shf_table *t, uint64_t uid, void *buf, size_t cap, size_t *vlen) {
    return read_uid(t, (uint32_t)(uid >> 32), (uint32_t)uid, 1, 0, buf, cap, vlen);
}
int shf_table_key_by_checked_uid(struct shf_table *t, uint64_t uid, void *buf, size_t cap, size_t *klen) {
    return read_uid(t, (uint32_t)(uid >> 32), (uint32_t)uid, 1, 1, buf, cap, klen);
}
