/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_cells_read.c - fixed lengths: reads without a lock, a store or a system call
 *
 * Bucket labels C1-C3, B1-B4 are table_cells.h's, V1 and V2 the frame's (table_read.c).
 *
 * TWO WAYS   straight: get of short keys and get by plain UID, as few instructions as can be; whatever is not as expected
 *            begins again in the other. general: in the frame, which retries, and at last takes the lock. It copies the
 *            cell, value and key, out whole, says what it saw, and only then looks at whose it was.
 */
#include "table_cells.h"

/* ---- the general way ----------------------------------------------------------------------------------- */

/* Copies cell i, that the header word named, out. 1; 0 = the bucket has changed meanwhile. */
static inline int copy_cell(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *bucket, uint32_t i,
                            uint64_t header, uint64_t version, uint64_t copy[SHF_CELL_WORDS_MAX]) {
    const shf_au64 *cell = shf_cell(t->fixed, bucket, i);
    if (t->fixed.narrow) {
        copy[0] = shm_load_acquire(cell);             /* C2 */
        return shm_load_relaxed(bucket) == header;    /* C3 */
    }
    const shf_au64 *value = cell;
    uint32_t words = t->fixed.key_at / 8;
    if (SHF_UNLIKELY(version % 2 != 0 && t->fixed.redo_words != 0)) {
        const shf_au64 *redo = shf_cells_redo(t, s);
        if (shm_load_relaxed(redo) == (uint64_t)((const unsigned char *)cell - t->region.base) / 8) value = redo + 1;
    }
    for (uint32_t w = 0; w < words; w++) copy[w] = shm_load_relaxed(value + w);
    for (uint32_t w = words; w < t->fixed.cell_words; w++) copy[w] = shm_load_relaxed(cell + w);
    shf_fence_acquire();                              /* B3 */
    return shm_load_relaxed(bucket + 1) == version;   /* B4 */
}

static inline uint64_t copy_hash(const struct shf_table *t, const uint64_t *copy) {
    return shf__hash(&t->hash, (const unsigned char *)copy + t->fixed.key_at, t->fixed.key);
}

/* FOUND, ABSENT, CHANGED. *flags: the bucket's. */
static int look_bucket(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *segment, uint32_t b, uint64_t h,
                       const void *key, uint64_t copy[SHF_CELL_WORDS_MAX], uint32_t *index, uint64_t *flags) {
    const shf_au64 *bucket = shf_cells_bucket(t->fixed, segment, b);
    uint64_t version = t->fixed.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    uint64_t header = shm_load_acquire(bucket);                            /* C1, B2 */
    *flags = header & SHF_CELL_FLAGS;
    for (uint64_t bits = shf_cell_match(header, h); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        int whole = copy_cell(t, s, bucket, i, header, version, copy);
        if (memcmp((const unsigned char *)copy + t->fixed.key_at, key, t->fixed.key) != 0) continue;
        *index = b * SHF_BUCKET_SLOTS + i;
        return whole ? SHF_FOUND : SHF_CHANGED;
    }
    return SHF_ABSENT_KEY;
}

static int look_key(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key,
                    uint64_t copy[SHF_CELL_WORDS_MAX], uint32_t *index) {
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h), b2 = b1 ^ delta;
    struct shf_found f;
    uint64_t flags1, flags2;
    int rc = shf_cells_segment(t, s, shf_hash_dir(h), &f);
    if (rc != SHF_FOUND) return rc;
    const shf_au64 *segment = f.segment;
    rc = look_bucket(t, s, segment, b1, h, key, copy, index, &flags1);
    if (rc != SHF_ABSENT_KEY || (flags1 & (shf_cell_overflow(delta) | SHF_CELL_STASH)) == 0) return rc;
    rc = look_bucket(t, s, segment, b2, h, key, copy, index, &flags2);
    if (rc != SHF_ABSENT_KEY || (flags1 & flags2 & SHF_CELL_STASH) == 0) return rc;
    for (uint32_t b = 0; b < SHF_BUCKETS && rc == SHF_ABSENT_KEY; b++)
        rc = look_bucket(t, s, segment, b, h, key, copy, index, &flags1);
    return rc;
}

int shf__cells_copy(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *segment, uint32_t index,
                    uint64_t copy[SHF_CELL_WORDS_MAX], uint64_t *hash) {
    const shf_au64 *bucket = shf_cells_bucket(t->fixed, segment, index / SHF_BUCKET_SLOTS);
    uint32_t i = index % SHF_BUCKET_SLOTS;
    uint64_t version = t->fixed.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    uint64_t header = shm_load_acquire(bucket);                            /* C1, B2 */
    if (i == 0 || (header >> 8 * i & 0xff) == 0) return SHF_ABSENT_KEY;
    if (!copy_cell(t, s, bucket, i, header, version, copy)) return SHF_CHANGED;
    *hash = copy_hash(t, copy);
    return SHF_FOUND;
}

static int look_uid(struct shf_table *t, struct shf_shm_shard *s, const struct shf_target *g,
                    uint64_t copy[SHF_CELL_WORDS_MAX]) {
    struct shf_found f;
    uint32_t dir = g->uid >> 9 & 0x7fff;
    uint64_t h = 0;
    int rc = shf_cells_segment(t, s, dir, &f);
    if (rc == SHF_FOUND) rc = shf__cells_copy(t, s, f.segment, g->uid & 511, copy, &h);
    if (rc != SHF_FOUND) return rc;
    return shf_hash_dir(h) == dir && shf_hash_shard(h) == shf_shard_number(t, s) &&
                   (!g->checked || (uint32_t)h == (uint32_t)g->hash)
               ? SHF_FOUND
               : SHF_ABSENT_KEY;
}

/* In the frame. SHF_OK, SHF_NOT_FOUND, an error. */
static int look(struct shf_table *t, const struct shf_target *g, uint64_t copy[SHF_CELL_WORDS_MAX], uint32_t *index) {
    struct shf_shm_shard *s = shf__target_shard(t, g);
    struct shf_read r;
    if (s == NULL) return SHF_NOT_FOUND;
    shf__read_begin(&r, t, s);
    for (;;) {
        int rc = g->uid != 0 ? look_uid(t, s, g, copy) : look_key(t, s, g->hash, g->key, copy, index);
        int end = shf__read_end(&r, rc);
        if (end < 0) return end;
        if (end == 1) return rc == SHF_FOUND ? SHF_OK : SHF_NOT_FOUND;
    }
}

int shf__cells_read(struct shf_table *t, const struct shf_target *g, int want_key, void *buf, size_t cap, size_t *len) {
    uint64_t copy[SHF_CELL_WORDS_MAX];
    uint32_t index, n = want_key ? t->fixed.key : t->fixed.value;
    if (g->uid == 0 && SHF_UNLIKELY(g->klen != t->fixed.key)) return shf__wrong_length(t, g->klen, t->fixed.value);
    int rc = look(t, g, copy, &index);
    if (rc != SHF_OK) return rc;
    if (len != NULL) *len = n;
    if (n > cap) return SHF_TRUNCATED;
    if (n != 0) memcpy(buf, (const unsigned char *)copy + (want_key ? t->fixed.key_at : 0), n);
    return SHF_OK;
}

int shf__cells_uid(struct shf_table *t, const struct shf_target *g, uint32_t *uid) {
    uint64_t copy[SHF_CELL_WORDS_MAX];
    uint32_t index = 0;
    if (SHF_UNLIKELY(g->klen != t->fixed.key)) return shf__wrong_length(t, g->klen, t->fixed.value);
    int rc = look(t, g, copy, &index);
    if (rc == SHF_OK) *uid = shf_uid(shf_hash_shard(g->hash), shf_hash_tag(g->hash), index);
    return rc;
}

/* ---- the straight way ---------------------------------------------------------------------------------- */

#define GET_ARGUMENTS struct shf_table *t, const void *key, size_t klen, void *buf, size_t cap, size_t *vlen
static __attribute__((noinline)) int get_general(GET_ARGUMENTS) {
    SHF_CHECK_ARGS((key != NULL || klen == 0) && (buf != NULL || cap == 0) && vlen != NULL);
    if (klen != t->fixed.key) return shf__wrong_length(t, klen, t->fixed.value);
    struct shf_target g = shf_target_key(t, key, klen);
    return shf__cells_read(t, &g, 0, buf, cap, vlen);
}

/* Looks for the key in one bucket; its value goes to buf. 1; 0 = not there (*header = its header word); -1 = ask the general
 * way: the bucket has changed meanwhile, or its version is odd. */
static inline __attribute__((always_inline)) int look_straight(struct shf_fixed x, const shf_au64 *bucket, uint64_t h,
                                                               const void *key, void *buf, uint64_t *header) {
    uint64_t odd = x.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    *header = shm_load_acquire(bucket);                         /* C1, B2 */
    for (uint64_t bits = shf_cell_match(*header, h); bits != 0; bits &= bits - 1) {
        const shf_au64 *cell = shf_cell(x, bucket, (uint32_t)__builtin_ctzll(bits));
        if (x.narrow) {
            uint64_t word = shm_load_acquire(cell); /* C2 */
            if (SHF_UNLIKELY(!shf_cell_is(x, word, key))) continue;
            if (SHF_UNLIKELY(shm_load_relaxed(bucket) != *header)) return -1; /* C3 */
            shf_store_tail(buf, word, x.value);
        } else {
            if (SHF_UNLIKELY(!shf_cell_has_key(x, cell, key))) continue;
            if (SHF_UNLIKELY(odd % 2 != 0)) return -1;
            shm_copy_out(buf, cell, 0, x.value);
            shf_fence_acquire();                                              /* B3 */
            if (SHF_UNLIKELY(shm_load_relaxed(bucket + 1) != odd)) return -1; /* B4 */
        }
        return 1;
    }
    return 0;
}

/* The rest of the straight way: the key is not the first candidate, or it may be stashed. In the frame that V1 opened. */
static inline __attribute__((always_inline)) int get_more(struct shf_table *t, const void *key, uint64_t h, void *buf,
                                                          uint64_t version, size_t *vlen, struct shf_fixed x) {
    const struct shf_shm_shard *s = &t->shards[shf_hash_shard(h)];
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    uint64_t at = shf_directory_entry(shm_load_acquire(&s->directory), shf_hash_dir(h)), header;
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h);
    if (SHF_UNLIKELY(at >= size)) return get_general(t, key, x.key, buf, x.value, vlen);
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(t->region.base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at == 0 || at + x.segment_pages * SHF_PAGE > size))
        return get_general(t, key, x.key, buf, x.value, vlen);
    const shf_au64 *segment = (const shf_au64 *)(const void *)(t->region.base + at);
    int rc = look_straight(x, shf_cells_bucket(x, segment, b1), h, key, buf, &header);
    if (rc == 0) {
        if (SHF_UNLIKELY((header & SHF_CELL_STASH) != 0)) return get_general(t, key, x.key, buf, x.value, vlen);
        if (header >> shf_cell_flag_number(delta) & 1)
            rc = look_straight(x, shf_cells_bucket(x, segment, b1 ^ delta), h, key, buf, &header);
    }
    shf_fence_acquire();
    if (SHF_UNLIKELY(rc < 0 || shm_load_relaxed(&s->version) != version)) /* V2 */
        return get_general(t, key, x.key, buf, x.value, vlen);
    if (rc == 0) return SHF_NOT_FOUND;
    *vlen = x.value;
    return SHF_OK;
}
typedef int get_more_fn(struct shf_table *t, const void *key, uint64_t h, void *buf, uint64_t version, size_t *vlen);

/* x is a constant for the commonest lengths. Each condition has an `if` of its own: gathered into one they cost more. klen and
 * cap are not needed any more once they have been compared, which leaves registers: the general way gets the table's own. */
static inline __attribute__((always_inline)) int get_straight(GET_ARGUMENTS, struct shf_fixed x, get_more_fn *more) {
    if (SHF_UNLIKELY(klen != x.key)) return get_general(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(cap < x.value)) return get_general(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(key == NULL)) return get_general(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(buf == NULL)) return get_general(t, key, klen, buf, cap, vlen);
    if (SHF_UNLIKELY(vlen == NULL)) return get_general(t, key, klen, buf, cap, vlen);
    uint64_t h = shf__hash_short(&t->hash, key, x.key);
    const struct shf_shm_shard *s = &t->shards[shf_hash_shard(h)];
    uint64_t version = shm_load_acquire(&s->version); /* V1 */
    uint64_t at = shf_directory_entry(shm_load_acquire(&s->directory), shf_hash_dir(h));
    if (SHF_UNLIKELY(at >= atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return get_general(t, key, x.key, buf, x.value, vlen);
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(t->region.base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at == 0)) return get_general(t, key, x.key, buf, x.value, vlen); /* no segment yet */
    if (SHF_UNLIKELY(at + x.segment_pages * SHF_PAGE > atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return get_general(t, key, x.key, buf, x.value, vlen);
    at += x.bucket_bytes == SHF_LINE ? h >> 29 & 0xfc0 : (uint64_t)shf_hash_b1(h) * x.bucket_bytes;
    const shf_au64 *bucket = (const shf_au64 *)(const void *)(t->region.base + at);
    uint64_t odd = x.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    uint64_t header = shm_load_acquire(bucket);                 /* C1, B2 */
    uint64_t bits = shf_cell_match(header, h);
    if (bits == 0) {
        uint32_t delta = shf_hash_delta(h);
        if (SHF_UNLIKELY((header & SHF_CELL_STASH) != 0)) return more(t, key, h, buf, version, vlen);
        if (header >> shf_cell_flag_number(delta) & 1) { /* the second bucket, in the same frame */
            if (x.bucket_bytes == SHF_LINE) /* a page is a segment: the bucket's number is part of the address */
                bucket = (const shf_au64 *)(const void *)(t->region.base + (at ^ (uint64_t)delta * SHF_LINE));
            else bucket += ((int64_t)(shf_hash_b1(h) ^ delta) - (int64_t)shf_hash_b1(h)) * (int64_t)(x.bucket_bytes / 8);
            odd = x.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
            header = shm_load_acquire(bucket);                 /* C1, B2 */
            bits = shf_cell_match(header, h);
        }
        if (bits == 0) {
            shf_fence_acquire();
            if (SHF_LIKELY(shm_load_relaxed(&s->version) == version)) return SHF_NOT_FOUND; /* V2 */
            return get_general(t, key, x.key, buf, x.value, vlen);
        }
    }
    const shf_au64 *cell = shf_cell(x, bucket, (uint32_t)__builtin_ctz((uint32_t)bits));
    if (x.narrow) {
        uint64_t word = shm_load_acquire(cell); /* C2 */
        if (SHF_UNLIKELY(!shf_cell_is(x, word, key))) return more(t, key, h, buf, version, vlen);
        if (SHF_UNLIKELY(shm_load_relaxed(bucket) != header)) /* C3 */
            return get_general(t, key, x.key, buf, x.value, vlen);
        shf_store_tail(buf, word, x.value);
        shf_fence_acquire();
    } else {
        if (SHF_UNLIKELY(!shf_cell_has_key(x, cell, key))) return more(t, key, h, buf, version, vlen);
        if (SHF_UNLIKELY(odd % 2 != 0)) return get_general(t, key, x.key, buf, x.value, vlen);
        shm_copy_out(buf, cell, 0, x.value);
        shf_fence_acquire();                                 /* B3 */
        if (SHF_UNLIKELY(shm_load_relaxed(bucket + 1) != odd)) /* B4 */
            return get_general(t, key, x.key, buf, x.value, vlen);
    }
    if (SHF_UNLIKELY(shm_load_relaxed(&s->version) != version)) /* V2 */
        return get_general(t, key, x.key, buf, x.value, vlen);
    *vlen = x.value;
    return SHF_OK;
}

#define GET_OF_LENGTHS(name, x)                                                                                        \
    static __attribute__((noinline)) int name##_more(struct shf_table *t, const void *key, uint64_t h, void *buf,      \
                                                     uint64_t version, size_t *vlen) {                                 \
        return get_more(t, key, h, buf, version, vlen, x);                                                             \
    }                                                                                                                  \
    static int name(GET_ARGUMENTS) { return get_straight(t, key, klen, buf, cap, vlen, x, name##_more); }
GET_OF_LENGTHS(get_4_4, SHF_FOUR_FOUR)
GET_OF_LENGTHS(get_8_8, SHF_EIGHT_EIGHT)
GET_OF_LENGTHS(get_short, t->fixed)

shf_get_fn *shf__cells_get(const struct shf_table *t) {
    if (t->fixed.key > 16 || t->hash_id != SHF_HASH_FOLDED) return get_general;
    if (shf_fixed_is(t, SHF_FOUR_FOUR)) return get_4_4;
    if (shf_fixed_is(t, SHF_EIGHT_EIGHT)) return get_8_8;
    return get_short;
}

/* By plain UID: one cell in place of a search; its key is hashed, as only the hash says which segment it belongs to. */
static inline __attribute__((always_inline)) int uid_straight(struct shf_table *t, uint32_t uid, void *buf, size_t cap,
                                                              size_t *vlen, struct shf_fixed x) {
    uint32_t shard = uid >> 24, dir = uid >> 9 & 0x7fff, b = uid >> 3 & 63, i = uid & 7;
    if (SHF_UNLIKELY(cap < x.value)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (SHF_UNLIKELY(buf == NULL)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (SHF_UNLIKELY(vlen == NULL)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (SHF_UNLIKELY(i == 0 || shard >= SHF_SHARD_COUNT)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    const struct shf_shm_shard *s = &t->shards[shard];
    uint64_t version = shm_load_acquire(&s->version); /* V1 */
    uint64_t at = shf_directory_entry(shm_load_acquire(&s->directory), dir);
    if (SHF_UNLIKELY(at >= atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(t->region.base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at == 0)) return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (SHF_UNLIKELY(at + x.segment_pages * SHF_PAGE > atomic_load_explicit(&t->region.size, memory_order_relaxed)))
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    const shf_au64 *bucket = (const shf_au64 *)(const void *)(t->region.base + at + b * x.bucket_bytes);
    const shf_au64 *cell = shf_cell(x, bucket, i);
    uint64_t odd = x.narrow ? 0 : shm_load_acquire(bucket + 1); /* B1 */
    uint64_t header = shm_load_acquire(bucket), h = 0;          /* C1, B2 */
    int there = (header >> 8 * i & 0xff) != 0;
    if (there && x.narrow) {
        uint64_t word = shm_load_acquire(cell), key = word >> 8 * x.value; /* C2 */
        h = shf__hash_short(&t->hash, &key, x.key);
        if (SHF_UNLIKELY(shm_load_relaxed(bucket) != header)) /* C3 */
            return shf__table_get_uid_any(t, uid, buf, cap, vlen);
        shf_store_tail(buf, word, x.value);
    } else if (there) {
        uint64_t key[2]; /* straight: at most 16 bytes */
        for (uint32_t w = 0; w < (x.key + 7) / 8; w++) key[w] = shm_load_relaxed(cell + x.key_at / 8 + w);
        h = shf__hash_short(&t->hash, key, x.key);
        shm_copy_out(buf, cell, 0, x.value);
        shf_fence_acquire();                                                      /* B3 */
        if (SHF_UNLIKELY(odd % 2 != 0 || shm_load_relaxed(bucket + 1) != odd)) /* B4 */
            return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    }
    shf_fence_acquire();
    if (SHF_UNLIKELY(shm_load_relaxed(&s->version) != version)) /* V2 */
        return shf__table_get_uid_any(t, uid, buf, cap, vlen);
    if (!there || shf_hash_dir(h) != dir || shf_hash_shard(h) != shard) return SHF_NOT_FOUND;
    *vlen = x.value;
    return SHF_OK;
}
#define UID_ARGUMENTS struct shf_table *t, uint32_t uid, void *buf, size_t cap, size_t *vlen
static int uid_4_4(UID_ARGUMENTS) { return uid_straight(t, uid, buf, cap, vlen, SHF_FOUR_FOUR); }
static int uid_8_8(UID_ARGUMENTS) { return uid_straight(t, uid, buf, cap, vlen, SHF_EIGHT_EIGHT); }
static int uid_short(UID_ARGUMENTS) { return uid_straight(t, uid, buf, cap, vlen, t->fixed); }

shf_get_uid_fn *shf__cells_get_uid(const struct shf_table *t) {
    if (t->fixed.key > 16 || t->hash_id != SHF_HASH_FOLDED) return shf__table_get_uid_any;
    if (shf_fixed_is(t, SHF_FOUR_FOUR)) return uid_4_4;
    if (shf_fixed_is(t, SHF_EIGHT_EIGHT)) return uid_8_8;
    return uid_short;
}
