/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_batch.c - many keys at once
 *
 * WHAT       A look-up is a chain of cache misses: directory entry, bucket, record. Here GROUP keys take each step of
 *            it together: a key asks for its next line and makes way for the next key. When the first one's turn comes
 *            again, its line is there. Three groups are under way, so that there is work between any two steps of one.
 * NOT        A snapshot: each key is read at a moment of its own.
 *
 * STAGES     begin     hash, version [V1], directory word; asks for the directory entry
 *            locate    entry; asks for the bucket (by UID: the slot)
 *            match     tags (by UID: the slot); asks for the record, or for the second bucket
 *            second    the second bucket's tags; asks for the record
 *            finish    key compared, value copied, version [V2]
 *            The groups take turns: match(g) begin(g+2) second(g) locate(g+1) finish(g). Where finish is short (cells) or
 *            there is no second (UIDs), begin and locate change places: so a bucket has the time of a begin to arrive
 *            (measured: 4 + 4 bytes better by a tenth or more).
 *            Fixed lengths: the bucket holds the cell. A narrow one is read by `match`; a wide one is asked for there
 *            and read by `finish`, in a frame of its own (table_cells.h, B1-B4) inside of the shard's.
 *            Whatever is not as usual becomes SINGLE: at its turn in `finish` the single call answers for it, from the
 *            start. So every rare thing (stash, large value, another key with this tag, version moved, no room in the
 *            buffer, a bad argument) has its answer, its retries and its errors there, and not a second time here.
 *
 * ORDERING   For each key the loads are those of the frame in table_read.c, in its order: V1 (acquire), directory word,
 *            entry, slot (acquire), record (relaxed), fence(acquire), V2. Other keys' loads between them only make
 *            the time longer, and the argument there does not speak of time. It does need V1 before the
 *            directory word of the same key: a version taken later, for a whole group say, would vouch for
 *            buckets that were read before a split, and present keys would get lost. Every verdict has its own V2,
 *            absent ones too, after its last byte was copied. The file's size may be an old one: it only grows, and
 *            what lies beyond is SINGLE.
 *
 * CHANGES    The stages are hints: no verdict, no lock. Then the single calls, in order, with the hash known. What the
 *            change of one key does to the line that was fetched for the next costs a miss and nothing else.
 *
 * PROOF      csrc/tests/validate_batch_table.c (equals the single calls), crash_batch_table.c (splits and doublings in
 *            random pauses between the stages; a death at every store of put_many), stress_batch_table.c
 */
#include "table_cells.h"
#include "table_find.h"

/* Measured: 8 too few to hide a miss, 32 more than a core keeps under way; 16 was best for batches of 32 and 1,000. */
#define GROUP 16u

#ifdef SHF_CRASH_POINTS
/* Called between two stages: a test has its own instead. */
void shf__batch_pause(void);
__attribute__((weak)) void shf__batch_pause(void) {}
#else
SHF_INLINE void shf__batch_pause(void) {}
#endif

/* What the stages need of the handle, in locals: stores to lanes and buffers could change the handle for all that the
 * compiler knows, so it would load them again for each key. */
struct view {
    struct shf_table *t;
    const unsigned char *base;
    struct shf_shm_shard *shards;
    size_t size; /* of the file as known */
};
SHF_INLINE struct view view_of(struct shf_table *t) {
    struct view w = {t, t->region.base, t->shards, atomic_load_explicit(&t->region.size, memory_order_relaxed)};
    return w;
}
/* Asks for the line at an offset, which may be any. */
SHF_INLINE void prefetch(struct view w, uint64_t at) { __builtin_prefetch((const void *)((uintptr_t)w.base + at), 0, 3); }
SHF_INLINE void prefetch_write(struct view w, uint64_t at) { __builtin_prefetch((const void *)((uintptr_t)w.base + at), 1, 3); }
SHF_INLINE const shf_au64 *words_at(struct view w, uint64_t at) { return (const shf_au64 *)(const void *)(w.base + at); }
SHF_INLINE uint32_t at_most_group(size_t n) { return n < GROUP ? (uint32_t)n : GROUP; }

/* One key on its way. */
struct lane {
    uint64_t hash; /* of the key; or UID << 32 | check */
    const struct shf_shm_shard *s;
    uint64_t version; /* [V1] */
    uint64_t at;      /* byte offset of the directory entry, then of the bucket or slot, then of the record or cell */
    uint64_t word;    /* fixed lengths: the narrow cell; the wide one's bucket version */
    uint32_t distance; /* fixed lengths: words from the bucket to the wide cell */
    enum { FOUND, ABSENT, SECOND, SINGLE } state;
};
#define NOWHERE UINT64_MAX /* beyond any file */

/* From the entry to the byte `inside` of the segment; NOWHERE if there is none, or it lies beyond the size we know. */
SHF_INLINE void locate(struct view w, struct lane *l, uint32_t pages, uint64_t inside) {
    uint64_t at = l->at;
    l->at = NOWHERE;
    if (SHF_UNLIKELY(at >= w.size)) return; /* 4-aligned, as is size */
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(w.base + at)) * SHF_PAGE;
    /* Not page 0, and inside of the file, which has whole pages: one compare. */
    if (SHF_LIKELY(at - 1 < w.size - (uint64_t)(pages - 1) * SHF_PAGE - 1)) l->at = at + inside;
}
SHF_INLINE void ask_record(struct view w, struct lane *l, uint64_t word) {
    l->at = shf_word_offset(word);
    l->state = SHF_LIKELY(l->at + SHF_RECORD_REACH <= w.size) ? FOUND : SINGLE;
    prefetch(w, l->at);
}
/* Byte offset of bucket b1 in a segment, and from there to b2. */
SHF_INLINE uint64_t first_bucket(uint64_t h, uint32_t bytes) {
    return bytes == SHF_LINE ? h >> 29 & 0xfc0 : (uint64_t)shf_hash_b1(h) * bytes;
}
SHF_INLINE void to_second(struct lane *l, uint32_t bytes) {
    uint32_t b1 = shf_hash_b1(l->hash), delta = shf_hash_delta(l->hash);
    l->state = SECOND;
    if (bytes == SHF_LINE) l->at ^= (uint64_t)delta * SHF_LINE; /* a segment is aligned to its page */
    else l->at += ((uint64_t)(b1 ^ delta) - b1) * bytes;
}

/* V2: what was read for this lane belongs together. */
SHF_INLINE int holds(const struct lane *l) {
    shf_fence_acquire();
    return shm_load_relaxed(&l->s->version) == l->version; /* V2 */
}
SHF_INLINE int is_absent(const struct lane *l) { return SHF_LIKELY(holds(l)) ? SHF_NOT_FOUND : SHF_CHANGED; }

/* ---- get by key --------------------------------------------------------------------------------------- */
/* The finishes return SHF_OK with *len; SHF_NOT_FOUND or SHF_CHANGED (let the single call answer) with *len left alone. */

/* A lane with a place in the directory, or without. */
SHF_INLINE void enter(struct view w, struct lane *l, uint64_t hash, uint32_t shard, uint32_t bits) {
    l->hash = hash;
    l->s = &w.shards[shard];
    l->version = shm_load_acquire(&l->s->version); /* V1 */
    l->at = shf_directory_entry(shm_load_acquire(&l->s->directory), bits);
    prefetch(w, l->at);
}
SHF_INLINE void stay_out(struct lane *l) { l->hash = 0, l->at = NOWHERE; }

SHF_INLINE void key_begin(struct view w, struct lane *l, const struct shf_bytes *key) {
    if (SHF_UNLIKELY(key->data == NULL || key->len > SHF_RECORD_LENGTH_MASK)) {
        stay_out(l);
        return;
    }
    uint64_t h = shf__hash(&w.t->hash, key->data, key->len);
    enter(w, l, h, shf_hash_shard(h), shf_hash_dir(h));
}

SHF_INLINE void key_match(struct view w, struct lane *l) {
    l->state = SINGLE;
    if (SHF_UNLIKELY(l->at == NOWHERE)) return;
    const shf_au64 *bucket = words_at(w, l->at);
    uint32_t bits = shf_match_tag(bucket, shf_hash_tag(l->hash)), delta = shf_hash_delta(l->hash);
    if (SHF_LIKELY(bits != 0)) {
        ask_record(w, l, shm_load_acquire(&bucket[__builtin_ctz(bits)]));
        return;
    }
    if (SHF_UNLIKELY(shm_load_relaxed(bucket) & SHF_FLAG_STASH)) return;
    l->state = ABSENT;
    if (shm_load_relaxed(&bucket[delta & 7]) & SHF_FLAG_OVERFLOW) {
        to_second(l, SHF_LINE);
        prefetch(w, l->at);
    }
}

SHF_INLINE void key_second(struct view w, struct lane *l) {
    const shf_au64 *bucket = words_at(w, l->at);
    uint32_t bits = shf_match_tag(bucket, shf_hash_tag(l->hash) | SHF_ROLE);
    l->state = ABSENT;
    if (bits != 0) ask_record(w, l, shm_load_acquire(&bucket[__builtin_ctz(bits)]));
}

SHF_INLINE int key_finish(struct view w, const struct lane *l, const struct shf_bytes *key, void *buf, size_t cap,
                      size_t *len) {
    if (l->state != FOUND) return l->state == ABSENT ? is_absent(l) : SHF_CHANGED;
    struct shf_wanted k = {key->data, key->len, 0, 0};
    const shf_au64 *record = words_at(w, l->at);
    uint64_t word0 = shm_load_relaxed(record);
    struct shf_found f = {.record = (shf_au64 *)(uintptr_t)record, .word0 = word0,
                          .vlen = word0 >> 14 & SHF_RECORD_LENGTH_MASK};
    if (SHF_LIKELY(k.klen >= 4)) { /* one compare for kind, key length, and its first four bytes; the rest below */
        uint64_t want = k.klen | (uint64_t)SHF_KIND_RECORD << 28 | (uint64_t)shf_load32(k.key) << 32;
        if (SHF_UNLIKELY(((word0 ^ want) & ~((uint64_t)SHF_RECORD_LENGTH_MASK << 14)) != 0)) return SHF_CHANGED;
    } else {
        k = shf_wanted_key(k.key, k.klen);
    }
    if (SHF_UNLIKELY(f.vlen > cap || !shf_key_equal(&f, &k))) return SHF_CHANGED;
    shf_copy_value(record, k.klen, (size_t)f.vlen, buf);
    if (SHF_UNLIKELY(!holds(l))) return SHF_CHANGED;
    *len = (size_t)f.vlen;
    return SHF_OK;
}

/* ---- get by UID --------------------------------------------------------------------------------------- */

SHF_INLINE uint32_t lane_bits(const struct lane *l) { return (uint32_t)(l->hash >> 41) & 0x7fff; }

SHF_INLINE void uid_begin(struct view w, struct lane *l, uint64_t uid) {
    uint32_t shard = (uint32_t)(uid >> 56);
    if (SHF_UNLIKELY(uid >> 32 == 0 || shard >= SHF_SHARD_COUNT)) stay_out(l);
    else enter(w, l, uid, shard, (uint32_t)(uid >> 41) & 0x7fff);
}

SHF_INLINE void uid_match(struct view w, struct lane *l) {
    l->state = SINGLE;
    if (SHF_UNLIKELY(l->at == NOWHERE)) return;
    uint64_t word = shm_load_acquire(words_at(w, l->at));
    l->state = ABSENT;
    if (SHF_LIKELY((word & SHF_REF_MASK) != 0 && shf_word_dir(word) == lane_bits(l))) ask_record(w, l, word);
}

SHF_INLINE int uid_finish(struct view w, const struct lane *l, int checked, void *buf, size_t cap, size_t *len) {
    if (l->state != FOUND) return l->state == ABSENT ? is_absent(l) : SHF_CHANGED;
    const shf_au64 *record = words_at(w, l->at);
    uint64_t word0 = shm_load_relaxed(record);
    size_t n = word0 >> 14 & SHF_RECORD_LENGTH_MASK, klen = word0 & SHF_RECORD_LENGTH_MASK;
    if (SHF_UNLIKELY(n > cap || (word0 >> 28 & 15) != SHF_KIND_RECORD)) return SHF_CHANGED;
    if (checked) {
        struct shf_found f = {.record = (shf_au64 *)(uintptr_t)record, .word0 = word0, .vlen = n};
        unsigned char key[16];
        if (SHF_UNLIKELY(klen > sizeof key)) return SHF_CHANGED;
        shf__record_key(&f, key, klen);
        if (SHF_UNLIKELY((uint32_t)shf__hash(&w.t->hash, key, klen) != (uint32_t)l->hash)) return is_absent(l);
    }
    shf_copy_value(record, klen, n, buf);
    if (SHF_UNLIKELY(!holds(l))) return SHF_CHANGED;
    *len = n;
    return SHF_OK;
}

/* ---- fixed lengths ------------------------------------------------------------------------------------ */
/* x is a constant where this is inlined for the commonest lengths. */

SHF_INLINE void cell_begin(struct view w, struct lane *l, struct shf_fixed x, const struct shf_bytes *key) {
    if (SHF_UNLIKELY(key->data == NULL || key->len != x.key)) {
        stay_out(l);
        return;
    }
    uint64_t h = shf__hash(&w.t->hash, key->data, x.key);
    enter(w, l, h, shf_hash_shard(h), shf_hash_dir(h));
}

/* One bucket: FOUND, ABSENT, SECOND (asked for), SINGLE. */
SHF_INLINE void cell_bucket(struct view w, struct lane *l, struct shf_fixed x, const void *key, int second) {
    const shf_au64 *bucket = words_at(w, l->at);
    uint64_t version = x.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    uint64_t header = shm_load_acquire(bucket);                     /* C1, B2 */
    uint64_t bits = shf_cell_match(header, l->hash);
    l->state = FOUND;
    if (x.narrow) {
        for (; bits != 0; bits &= bits - 1) {
            l->word = shm_load_acquire(bucket + __builtin_ctzll(bits)); /* C2 */
            if (SHF_UNLIKELY(!shf_cell_is(x, l->word, key))) continue;
            if (SHF_UNLIKELY(shm_load_relaxed(bucket) != header)) l->state = SINGLE; /* C3 */
            return;
        }
    } else if (bits != 0) {
        const shf_au64 *cell = shf_cell(x, bucket, (uint64_t)__builtin_ctzll(bits));
        if (SHF_UNLIKELY(version % 2 != 0)) l->state = SINGLE;
        l->word = version;
        l->distance = (uint32_t)(cell - bucket);
        prefetch(w, l->at + l->distance * 8);
        prefetch(w, l->at + (l->distance + x.cell_words - 1) * 8);
        return;
    }
    l->state = SHF_UNLIKELY(header & SHF_CELL_STASH) ? SINGLE : ABSENT;
    if (!second && l->state == ABSENT && (header & shf_cell_overflow(shf_hash_delta(l->hash))) != 0) {
        to_second(l, x.bucket_bytes);
        prefetch(w, l->at);
    }
}

SHF_INLINE int cell_finish(struct view w, const struct lane *l, struct shf_fixed x, const void *key, void *buf, size_t cap,
                       size_t *len) {
    if (l->state != FOUND) return l->state == ABSENT ? is_absent(l) : SHF_CHANGED;
    if (SHF_UNLIKELY(cap < x.value)) return SHF_CHANGED;
    if (x.narrow) {
        shf_store_tail(buf, l->word, x.value);
    } else {
        const shf_au64 *bucket = words_at(w, l->at), *cell = bucket + l->distance;
        if (SHF_UNLIKELY(!shf_cell_has_key(x, cell, key))) return SHF_CHANGED;
        shm_copy_out(buf, cell, 0, x.value);
        shf_fence_acquire();                                                       /* B3 */
        if (SHF_UNLIKELY(shm_load_relaxed(bucket + 1) != l->word)) return SHF_CHANGED; /* B4 */
    }
    if (SHF_UNLIKELY(!holds(l))) return SHF_CHANGED;
    *len = x.value;
    return SHF_OK;
}

/* By UID all is known after the entry: the bucket's first line and the cell's. l->at: the segment. */
SHF_INLINE void cell_uid_locate(struct view w, struct lane *l, struct shf_fixed x) {
    uint32_t index = (uint32_t)(l->hash >> 32) & 511, i = index % SHF_BUCKET_SLOTS;
    locate(w, l, x.segment_pages, 0);
    uint64_t bucket = l->at + (uint64_t)(index / SHF_BUCKET_SLOTS) * x.bucket_bytes;
    prefetch(w, bucket);
    if (!x.narrow) prefetch(w, bucket + (2 + (i - 1) * x.cell_words) * 8);
}
/* Is it the cell that the UID means? Its key's hash says which segment it belongs to. */
SHF_INLINE int cell_is_uid(struct view w, const struct lane *l, int checked, uint64_t h) {
    return shf_hash_dir(h) == lane_bits(l) && &w.shards[shf_hash_shard(h)] == l->s &&
           (!checked || (uint32_t)h == (uint32_t)l->hash);
}
SHF_INLINE int cell_uid_finish(struct view w, const struct lane *l, struct shf_fixed x, int checked, void *buf, size_t cap,
                           size_t *len) {
    uint64_t copy[SHF_CELL_WORDS_MAX], h = 0;
    uint32_t index = (uint32_t)(l->hash >> 32) & 511, i = index % SHF_BUCKET_SLOTS;
    if (SHF_UNLIKELY(l->at == NOWHERE || cap < x.value || i == 0)) return SHF_CHANGED;
    if (x.narrow) {
        const shf_au64 *bucket = words_at(w, l->at + (uint64_t)(index / SHF_BUCKET_SLOTS) * x.bucket_bytes);
        uint64_t header = shm_load_acquire(bucket), word = shm_load_acquire(bucket + i), key = word >> 8 * x.value; /* C1, C2 */
        if (SHF_UNLIKELY(shm_load_relaxed(bucket) != header)) return SHF_CHANGED;                                   /* C3 */
        if (SHF_UNLIKELY((header >> 8 * i & 0xff) == 0)) return is_absent(l);
        h = shf__hash(&w.t->hash, &key, x.key);
        if (SHF_UNLIKELY(!cell_is_uid(w, l, checked, h))) return is_absent(l);
        shf_store_tail(buf, word, x.value);
    } else {
        int rc = shf__cells_copy(w.t, (struct shf_shm_shard *)(uintptr_t)l->s, words_at(w, l->at), index, copy, &h);
        if (SHF_UNLIKELY(rc == SHF_CHANGED)) return rc;
        if (rc != SHF_FOUND || !cell_is_uid(w, l, checked, h)) return is_absent(l);
        if (x.value != 0) memcpy(buf, copy, x.value);
    }
    if (SHF_UNLIKELY(!holds(l))) return SHF_CHANGED;
    *len = x.value;
    return SHF_OK;
}

/* ---- a batch of gets ---------------------------------------------------------------------------------- */

/* What is asked for, one of three; and where the values go: each into its own buffer (`out`), or (out NULL) packed. */
struct gets {
    const struct shf_bytes *keys;
    const uint32_t *uids;
    const uint64_t *checked;
    struct shf_value *out;
    unsigned char *buf;
    size_t cap;
    size_t *lens;
};
/* By key or by UID, of records or of cells. */
enum way { KEY, UID, CELL, CELL_UID };
#define BY_KEY(way) ((way) == KEY || (way) == CELL)

SHF_INLINE void get_begin(struct view w, struct lane *l, enum way way, struct shf_fixed x, const struct gets *g, size_t i) {
    if (way == KEY) key_begin(w, l, &g->keys[i]);
    else if (way == CELL) cell_begin(w, l, x, &g->keys[i]);
    else uid_begin(w, l, g->uids != NULL ? (uint64_t)g->uids[i] << 32 : g->checked[i]);
}
SHF_INLINE void get_locate(struct view w, struct lane *l, enum way way, struct shf_fixed x) {
    if (way == CELL_UID) {
        cell_uid_locate(w, l, x);
        return;
    }
    if (way == CELL) locate(w, l, x.segment_pages, first_bucket(l->hash, x.bucket_bytes));
    else locate(w, l, 1, way == KEY ? first_bucket(l->hash, SHF_LINE) : (l->hash >> 32 & 511) * 8);
    prefetch(w, l->at);
}
SHF_INLINE void get_match(struct view w, struct lane *l, enum way way, struct shf_fixed x, const struct gets *g, size_t i) {
    if (way == KEY) {
        key_match(w, l);
    } else if (way == UID) {
        uid_match(w, l);
    } else if (way == CELL) {
        if (SHF_LIKELY(l->at != NOWHERE)) cell_bucket(w, l, x, g->keys[i].data, 0);
        else l->state = SINGLE;
    }
}
SHF_INLINE void get_second(struct view w, struct lane *l, enum way way, struct shf_fixed x, const struct gets *g, size_t i) {
    if (SHF_LIKELY(l->state != SECOND)) return;
    if (way == KEY) key_second(w, l);
    else cell_bucket(w, l, x, g->keys[i].data, 1);
}
static __attribute__((noinline)) int get_single(struct shf_table *t, const struct gets *g, size_t i, void *buf, size_t cap,
                                                size_t *len) {
    if (g->keys != NULL) return shf_table_get(t, g->keys[i].data, g->keys[i].len, buf, cap, len);
    if (g->uids != NULL) return shf_table_get_by_uid(t, g->uids[i], buf, cap, len);
    return shf_table_get_by_checked_uid(t, g->checked[i], buf, cap, len);
}
SHF_INLINE int get_finish(struct view w, const struct lane *l, enum way way, struct shf_fixed x, const struct gets *g, size_t i,
                      void *buf, size_t cap, size_t *len) {
    if (way == KEY) return key_finish(w, l, &g->keys[i], buf, cap, len);
    if (way == UID) return uid_finish(w, l, g->checked != NULL, buf, cap, len);
    if (way == CELL) return cell_finish(w, l, x, g->keys[i].data, buf, cap, len);
    return cell_uid_finish(w, l, x, g->checked != NULL, buf, cap, len);
}
/* SHF_OK: on to the next key. */
SHF_INLINE int get_answer(struct view w, const struct lane *l, enum way way, struct shf_fixed x, struct gets *g, size_t i) {
    size_t len = 0;
    int rc;
    if (g->out != NULL) {
        struct shf_value *v = &g->out[i];
        rc = get_finish(w, l, way, x, g, i, v->data, v->cap, &len);
        if (SHF_UNLIKELY(rc < 0) && (rc = get_single(w.t, g, i, v->data, v->cap, &len)) < 0) return rc;
        v->code = rc, v->len = len;
        return SHF_OK;
    }
    rc = get_finish(w, l, way, x, g, i, g->buf, g->cap, &len);
    if (SHF_UNLIKELY(rc < 0) && (rc = get_single(w.t, g, i, g->buf, g->cap, &len)) < 0) return rc;
    g->lens[i] = rc == SHF_NOT_FOUND ? SHF_NO_VALUE : len;
    if (SHF_UNLIKELY(rc == SHF_TRUNCATED)) return rc;
    if (len != 0) g->buf += len, g->cap -= len;
    return SHF_OK;
}

/* Inlined with constants for `way` and, where it pays, x. */
SHF_INLINE int get_way(struct shf_table *t, size_t n, enum way way, struct shf_fixed x, struct gets *g, size_t *done) {
    struct lane lanes[3][GROUP];
    struct view w = view_of(t);
    uint32_t m = at_most_group(n), next = at_most_group(n - m), after, turn = 0;
    for (uint32_t j = 0; j < m; j++) get_begin(w, &lanes[0][j], way, x, g, j);
    shf__batch_pause();
    for (uint32_t j = 0; j < m; j++) get_locate(w, &lanes[0][j], way, x);
    for (uint32_t j = 0; j < next; j++) get_begin(w, &lanes[1][j], way, x, g, m + j);
    for (size_t i = 0; i < n; i += m, m = next, next = after, turn = (turn + 1) % 3) {
        struct lane *l = lanes[turn], *ahead = lanes[(turn + 1) % 3], *last = lanes[(turn + 2) % 3];
        after = at_most_group(n - i - m - next);
        shf__batch_pause();
        for (uint32_t j = 0; j < m; j++) get_match(w, &l[j], way, x, g, i + j);
        shf__batch_pause();
        w = view_of(t);
        for (int half = 0; half < 2; half++) {
            if ((half == 0) == (way == KEY))
                for (uint32_t j = 0; j < after; j++) get_begin(w, &last[j], way, x, g, i + m + next + j);
            else
                for (uint32_t j = 0; j < next; j++) get_locate(w, &ahead[j], way, x);
            shf__batch_pause();
            if (half == 0)
                for (uint32_t j = 0; BY_KEY(way) && j < m; j++) get_second(w, &l[j], way, x, g, i + j);
        }
        shf__batch_pause();
        for (uint32_t j = 0; j < m; j++) {
            int rc = get_answer(w, &l[j], way, x, g, i + j);
            if (SHF_UNLIKELY(rc != SHF_OK)) {
                *done = i + j;
                return rc;
            }
        }
    }
    *done = n;
    return SHF_OK;
}

static int get_many(struct shf_table *t, size_t n, struct gets *g, size_t *done) {
    int four_four = shf_fixed_is(t, SHF_FOUR_FOUR);
    if (!shf_is_fixed(t))
        return g->keys != NULL ? get_way(t, n, KEY, t->fixed, g, done) : get_way(t, n, UID, t->fixed, g, done);
    if (g->keys == NULL)
        return four_four ? get_way(t, n, CELL_UID, SHF_FOUR_FOUR, g, done) : get_way(t, n, CELL_UID, t->fixed, g, done);
    return four_four ? get_way(t, n, CELL, SHF_FOUR_FOUR, g, done) : get_way(t, n, CELL, t->fixed, g, done);
}

int shf_table_get_many(struct shf_table *t, size_t n, const struct shf_bytes *keys, struct shf_value *out) {
    size_t done;
    SHF_CHECK_ARGS(t != NULL && (n == 0 || (keys != NULL && out != NULL)));
    return n == 0 ? SHF_OK : get_many(t, n, &(struct gets){.keys = keys, .out = out}, &done);
}
int shf_table_get_many_by_uid(struct shf_table *t, size_t n, const uint32_t *uids, struct shf_value *out) {
    size_t done;
    SHF_CHECK_ARGS(t != NULL && (n == 0 || (uids != NULL && out != NULL)));
    return n == 0 ? SHF_OK : get_many(t, n, &(struct gets){.uids = uids, .out = out}, &done);
}

#define CHECK_PACKED(what)                                                                                             \
    do {                                                                                                               \
        if (done != NULL) *done = 0;                                                                                   \
        SHF_CHECK_ARGS(t != NULL && done != NULL && (buf != NULL || cap == 0) &&                                       \
                       (n == 0 || ((what) != NULL && lens != NULL)));                                                  \
        if (n == 0) return SHF_OK;                                                                                     \
    } while (0)

int shf_table_get_many_packed(struct shf_table *t, size_t n, const struct shf_bytes *keys, void *buf, size_t cap,
                              size_t *lens, size_t *done) {
    CHECK_PACKED(keys);
    return get_many(t, n, &(struct gets){.keys = keys, .buf = buf, .cap = cap, .lens = lens}, done);
}
int shf_table_get_many_by_uid_packed(struct shf_table *t, size_t n, const uint32_t *uids, void *buf, size_t cap,
                                     size_t *lens, size_t *done) {
    CHECK_PACKED(uids);
    return get_many(t, n, &(struct gets){.uids = uids, .buf = buf, .cap = cap, .lens = lens}, done);
}
int shf_table_get_many_by_checked_uid_packed(struct shf_table *t, size_t n, const uint64_t *uids, void *buf,
                                             size_t cap, size_t *lens, size_t *done) {
    CHECK_PACKED(uids);
    return get_many(t, n, &(struct gets){.checked = uids, .buf = buf, .cap = cap, .lens = lens}, done);
}

/* ---- a batch of changes ------------------------------------------------------------------------------- */

/* Pairs to be put, or (pairs NULL) keys to be removed. */
struct changes {
    const struct shf_pair *pairs;
    const struct shf_bytes *keys;
};
SHF_INLINE const struct shf_bytes *change_key(const struct changes *c, int put, size_t i) {
    return put ? &c->pairs[i].key : &c->keys[i];
}

SHF_INLINE void change_begin(struct view w, struct lane *l, const struct shf_bytes *key) {
    const struct shf_table *t = w.t;
    stay_out(l);
    l->state = SINGLE;
    if (SHF_UNLIKELY((key->data == NULL && key->len != 0) || key->len - t->key_least > t->key_span)) return;
    uint64_t h = shf__hash(&t->hash, key->data, key->len);
    enter(w, l, h, shf_hash_shard(h), shf_hash_dir(h));
    l->state = ABSENT;
    __builtin_prefetch(&l->s->word, 1, 3);
    if (!shf_is_fixed(t)) __builtin_prefetch(&l->s->new_word, 1, 3);
}
SHF_INLINE void change_locate(struct view w, struct lane *l, int put) {
    const struct shf_table *t = w.t;
    if (SHF_UNLIKELY(l->state == SINGLE)) return;
    uint32_t bytes = shf_is_fixed(t) ? t->fixed.bucket_bytes : SHF_LINE;
    locate(w, l, shf_segment_pages(t), first_bucket(l->hash, bytes));
    prefetch_write(w, l->at);
    if (put && !shf_is_fixed(t)) prefetch_write(w, shm_load_relaxed(&l->s->head)); /* where a record will be written */
}
/* The candidate's record, for the comparison, and its page's map entry: if it dies, that counts the dead. */
SHF_INLINE void change_ask_record(struct view w, uint64_t word) {
    uint64_t at = shf_word_offset(word);
    prefetch(w, at);
    __builtin_prefetch(shf__pages_entry(&w.t->region, (uint32_t)(at / SHF_PAGE)), 1, 3);
}
/* Wide cells: the candidate's line, else that of the first empty one. */
SHF_INLINE void change_match_cell(struct view w, struct lane *l) {
    struct shf_fixed x = w.t->fixed;
    const shf_au64 *bucket = words_at(w, l->at);
    uint64_t header = shm_load_relaxed(bucket);
    uint64_t bits = shf_cell_match(header, l->hash), wanted = bits != 0 ? bits : shf_cell_empty(header);
    if (!x.narrow && wanted != 0) {
        const shf_au64 *cell = shf_cell(x, bucket, (uint64_t)__builtin_ctzll(wanted));
        prefetch_write(w, l->at + (uint64_t)(cell - bucket) * 8);
    }
    if (bits == 0 && (header & shf_cell_overflow(shf_hash_delta(l->hash))) != 0) {
        to_second(l, x.bucket_bytes);
        prefetch_write(w, l->at);
    }
}
SHF_INLINE void change_match(struct view w, struct lane *l) {
    if (SHF_UNLIKELY(l->at == NOWHERE)) return;
    if (shf_is_fixed(w.t)) {
        change_match_cell(w, l);
        return;
    }
    const shf_au64 *bucket = words_at(w, l->at);
    uint32_t bits = shf_match_tag(bucket, shf_hash_tag(l->hash)), delta = shf_hash_delta(l->hash);
    if (bits != 0) {
        change_ask_record(w, shm_load_relaxed(&bucket[__builtin_ctz(bits)]));
    } else if (shm_load_relaxed(&bucket[delta & 7]) & SHF_FLAG_OVERFLOW) {
        to_second(l, SHF_LINE);
        prefetch_write(w, l->at);
    }
}
SHF_INLINE void change_second(struct view w, const struct lane *l) {
    if (l->state != SECOND || shf_is_fixed(w.t)) return;
    const shf_au64 *bucket = words_at(w, l->at);
    uint32_t bits = shf_match_tag(bucket, shf_hash_tag(l->hash) | SHF_ROLE);
    if (bits != 0) change_ask_record(w, shm_load_relaxed(&bucket[__builtin_ctz(bits)]));
}
SHF_INLINE int change_one(struct shf_table *t, const struct lane *l, int put, const struct changes *c, size_t i) {
    const struct shf_bytes *key = change_key(c, put, i);
    if (!put) {
        if (SHF_UNLIKELY(l->state == SINGLE)) return shf_table_del(t, key->data, key->len);
        return shf__table_del_hashed(t, l->hash, key->data, key->len);
    }
    const struct shf_bytes *value = &c->pairs[i].value;
    if (SHF_UNLIKELY(l->state == SINGLE || value->data == NULL))
        return shf_table_put(t, key->data, key->len, value->data, value->len, NULL);
    return shf__table_put_hashed(t, l->hash, key->data, key->len, value->data, value->len);
}

/* Inlined with a constant for `put`. *changed = how many calls returned SHF_OK. */
SHF_INLINE int change_many(struct shf_table *t, size_t n, int put, const struct changes *c, size_t *changed, size_t *done) {
    struct lane lanes[3][GROUP];
    struct view w = view_of(t);
    uint32_t m = at_most_group(n), next = at_most_group(n - m), after, turn = 0;
    for (uint32_t j = 0; j < m; j++) change_begin(w, &lanes[0][j], change_key(c, put, j));
    for (uint32_t j = 0; j < m; j++) change_locate(w, &lanes[0][j], put);
    for (uint32_t j = 0; j < next; j++) change_begin(w, &lanes[1][j], change_key(c, put, m + j));
    for (size_t i = 0; i < n; i += m, m = next, next = after, turn = (turn + 1) % 3) {
        struct lane *l = lanes[turn], *ahead = lanes[(turn + 1) % 3], *last = lanes[(turn + 2) % 3];
        after = at_most_group(n - i - m - next);
        for (uint32_t j = 0; j < m; j++) change_match(w, &l[j]);
        for (uint32_t j = 0; j < after; j++) change_begin(w, &last[j], change_key(c, put, i + m + next + j));
        for (uint32_t j = 0; j < m; j++) change_second(w, &l[j]);
        for (uint32_t j = 0; j < next; j++) change_locate(w, &ahead[j], put);
        for (uint32_t j = 0; j < m; j++) {
            int rc = change_one(t, &l[j], put, c, i + j);
            if (SHF_UNLIKELY(rc < 0)) {
                *done = i + j;
                return rc;
            }
            *changed += rc == SHF_OK;
        }
        w = view_of(t);
    }
    *done = n;
    return SHF_OK;
}

int shf_table_put_many(struct shf_table *t, size_t n, const struct shf_pair *pairs, size_t *done) {
    size_t put = 0;
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && done != NULL && (n == 0 || pairs != NULL));
    return change_many(t, n, 1, &(struct changes){.pairs = pairs}, &put, done);
}

int shf_table_del_many(struct shf_table *t, size_t n, const struct shf_bytes *keys, size_t *removed, size_t *done) {
    size_t there = 0, treated = 0;
    if (removed != NULL) *removed = 0;
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && (n == 0 || keys != NULL));
    int rc = change_many(t, n, 0, &(struct changes){.keys = keys}, &there, &treated);
    if (removed != NULL) *removed = there;
    if (done != NULL) *done = treated;
    return rc;
}
