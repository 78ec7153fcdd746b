/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_index.c - buckets, segments, directories: finding a slot, and placing a new key
 *
 * The protocol is in table.h. Algorithms: extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979) by the top
 * bits after the shard's; two-choice buckets (Azar, Broder, Karlin, Upfal 1994) with the primary first, so that a
 * hit costs little more than one line; the second bucket by xor of a short hash (Fan, Andersen, Kaminsky,
 * Mitzenmacher 2014), which needs no record to compute.
 */
#include "table.h"

/* The filter's plain vector loads race on purpose: ThreadSanitizer gets the portable loop. */
#if defined(__SANITIZE_THREAD__)
#define SHF_PORTABLE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHF_PORTABLE 1
#endif
#endif
#if defined(__SSE2__) && !defined(SHF_PORTABLE)
#include <emmintrin.h>
#endif

/* Bits of the slots whose tag is that of `want`. A filter: the caller loads a candidate again as one atomic. */
static inline uint32_t match_tag(const shf_au64 *bucket, uint64_t want) {
#if defined(__SSE2__) && !defined(SHF_PORTABLE)
    const __m128i *b = (const __m128i *)(const void *)bucket;
    const __m128i tag = _mm_set1_epi32((int)(uint32_t)(want >> 32));
    const __m128i mask = _mm_set1_epi32((int)0xffffff00u);
    __m128 a01 = _mm_castsi128_ps(_mm_load_si128(b)), a23 = _mm_castsi128_ps(_mm_load_si128(b + 1));
    __m128 a45 = _mm_castsi128_ps(_mm_load_si128(b + 2)), a67 = _mm_castsi128_ps(_mm_load_si128(b + 3));
    __m128i lo = _mm_castps_si128(_mm_shuffle_ps(a01, a23, 0xdd));
    __m128i hi = _mm_castps_si128(_mm_shuffle_ps(a45, a67, 0xdd));
    lo = _mm_cmpeq_epi32(_mm_and_si128(lo, mask), tag);
    hi = _mm_cmpeq_epi32(_mm_and_si128(hi, mask), tag);
    return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(lo)) | (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(hi)) << 4;
#else
    uint32_t bits = 0;
    for (uint32_t i = 0; i < SHF_BUCKET_SLOTS; i++)
        bits |= (uint32_t)(shm_load_relaxed(&bucket[i]) >> SHF_TAG_SHIFT == want >> SHF_TAG_SHIFT) << i;
    return bits;
#endif
}

SHF_COLD static int open_record_checked(struct shf_table *t, struct shf_found *f) {
    uint64_t off = shf_word_offset(f->word), need;
    if (off < SHF_OBJECT_PAGE * SHF_PAGE || (f->record = shf__region_at(&t->region, off, 16)) == NULL)
        return SHF_NONSENSE;
    f->word0 = shm_load_relaxed(f->record);
    if (shf_is_large(f->word0)) {
        uint64_t klen = shf_record_klen(f->word0);
        if (off % SHF_PAGE != 0 || shf__region_page(&t->region, (uint32_t)(off / SHF_PAGE)) == NULL)
            return SHF_NONSENSE;
        f->vlen = shm_load_relaxed(&((struct shf_shm_large *)(void *)f->record)->vlen);
        if (f->vlen > UINT32_MAX) return SHF_NONSENSE;
        need = shf_large_value_offset(klen) + (f->vlen + 7) / 8 * 8;
    } else {
        if ((f->word0 >> 28 & 15) != SHF_KIND_RECORD) return SHF_NONSENSE;
        f->vlen = f->word0 >> 14 & SHF_RECORD_LENGTH_MASK;
        need = shf_record_size(shf_record_klen(f->word0), f->vlen);
    }
    return shf__region_at(&t->region, off, need) ? SHF_FOUND : SHF_NONSENSE;
}

/* No record in a chunk reaches further than this behind its first byte, whatever its lengths say. */
#define RECORD_REACH (2 * (SHF_RECORD_LENGTH_MASK + 1) + 32)

int shf__table_open_record(struct shf_table *t, struct shf_found *f) {
    uint64_t off = shf_word_offset(f->word);
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    if (SHF_UNLIKELY(off + RECORD_REACH > size || off == 0)) return open_record_checked(t, f);
    f->record = (shf_au64 *)(void *)(t->region.base + off);
    f->word0 = shm_load_relaxed(f->record);
    if (SHF_UNLIKELY((f->word0 >> 28 & 15) != SHF_KIND_RECORD)) return open_record_checked(t, f);
    f->vlen = f->word0 >> 14 & SHF_RECORD_LENGTH_MASK;
    return SHF_FOUND;
}

/* 1 if the record of f (opened) has this key. */
static inline int key_equal(const struct shf_found *f, const void *key, size_t klen, uint64_t first, uint64_t mask) {
    if (((f->word0 ^ first) & mask) != 0) return 0;
    if (SHF_LIKELY(klen <= 4)) return 1;
    const unsigned char *k = (const unsigned char *)key + 4;
    const shf_au64 *r = f->record + (f->vlen == 8 ? 2 : 1);
    size_t n = klen - 4;
    for (; n >= 8; n -= 8, k += 8, r++)
        if (shm_load_relaxed(r) != shf_load64(k)) return 0;
    return n == 0 || ((shm_load_relaxed(r) ^ shf_load_tail(k, n)) & ((UINT64_C(1) << (8 * n)) - 1)) == 0;
}

SHF_COLD static int key_equal_large(struct shf_table *t, const struct shf_found *f, const void *key, size_t klen) {
    if (shf_record_klen(f->word0) != klen) return 0;
    (void)t;
    return shm_equal(f->record, SHF_LARGE_HEADER, key, klen);
}

struct wanted {
    const void *key;
    size_t klen;
    uint64_t first, mask; /* word 0 of a record with this key, but for vlen */
};

/* The candidates of one bucket. */
static inline int search_bucket(struct shf_table *t, const struct wanted *k, shf_au64 *segment, uint32_t bucket,
                                uint64_t want, struct shf_found *f) {
    shf_au64 *b = segment + bucket * SHF_BUCKET_SLOTS;
    for (uint32_t bits = match_tag(b, want); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(bits);
        f->word = shm_load_acquire(&b[i]);
        if (SHF_UNLIKELY(f->word >> SHF_TAG_SHIFT != want >> SHF_TAG_SHIFT || (f->word & SHF_REF_MASK) == 0)) continue;
        if (SHF_UNLIKELY(shf__table_open_record(t, f) != SHF_FOUND)) return SHF_NONSENSE;
        if (SHF_LIKELY(!shf_is_large(f->word0)) ? key_equal(f, k->key, k->klen, k->first, k->mask)
                                                : key_equal_large(t, f, k->key, k->klen)) {
            f->slot = b + i;
            f->index = bucket * SHF_BUCKET_SLOTS + i;
            return SHF_FOUND;
        }
    }
    return SHF_ABSENT_KEY;
}

SHF_COLD static int search_stash(struct shf_table *t, const struct wanted *k, shf_au64 *segment, uint64_t want,
                                 struct shf_found *f) {
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        int rc = search_bucket(t, k, segment, b, want & ~SHF_TAG_DELTA, f);
        if (rc != SHF_ABSENT_KEY) return rc;
    }
    return SHF_ABSENT_KEY;
}

int shf__table_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, size_t klen,
                    struct shf_found *f) {
    struct wanted k;
    uint64_t directory = shm_load_acquire(&s->directory), want = shf_hash_tag(h);
    uint32_t depth = shf_directory_depth(directory), b1 = shf_hash_b1(h), delta = shf_hash_delta(h);
    shf_au32 *entries = shf__table_entries(t, s, directory);
    f->segment = NULL;
    if (SHF_UNLIKELY(entries == NULL)) return SHF_NONSENSE;
    f->segment_page = shm_load_acquire32(&entries[shf_hash_dir(h) >> (15 - depth)]);
    if (SHF_UNLIKELY(f->segment_page == 0)) return SHF_ABSENT_KEY;
    shf_au64 *segment = shf__region_page(&t->region, f->segment_page);
    if (SHF_UNLIKELY(segment == NULL)) return SHF_NONSENSE;
    f->segment = segment;
    __builtin_prefetch(segment + b1 * SHF_BUCKET_SLOTS);
    k.key = key, k.klen = klen;
    k.first = (klen & SHF_RECORD_LENGTH_MASK) | (uint64_t)SHF_KIND_RECORD << 28 |
              shf_load_tail(key, klen < 4 ? klen : 4) << 32;
    k.mask = SHF_RECORD_LENGTH_MASK | UINT64_C(15) << 28 |
             (klen >= 4 ? ~UINT64_C(0) << 32 : ((UINT64_C(1) << (8 * klen)) - 1) << 32);
    if (SHF_UNLIKELY(klen > SHF_RECORD_LENGTH_MASK)) k.mask = ~UINT64_C(0), k.first = 0; /* only a large one */

    int rc = search_bucket(t, &k, segment, b1, want, f);
    if (SHF_LIKELY(rc != SHF_ABSENT_KEY)) return rc;
    uint64_t filter = shm_load_relaxed(&segment[b1 * SHF_BUCKET_SLOTS + (delta & 7)]);
    uint64_t first = shm_load_relaxed(&segment[b1 * SHF_BUCKET_SLOTS]);
    if (SHF_LIKELY(((filter & SHF_FLAG_OVERFLOW) | (first & SHF_FLAG_STASH)) == 0)) return SHF_ABSENT_KEY;
    uint32_t b2 = b1 ^ delta;
    if (filter & SHF_FLAG_OVERFLOW) {
        rc = search_bucket(t, &k, segment, b2, want | SHF_ROLE, f);
        if (rc != SHF_ABSENT_KEY) return rc;
    }
    if (SHF_LIKELY((first & shm_load_relaxed(&segment[b2 * SHF_BUCKET_SLOTS]) & SHF_FLAG_STASH) == 0))
        return SHF_ABSENT_KEY;
    return search_stash(t, &k, segment, want, f);
}

int shf__table_find_uid(struct shf_table *t, struct shf_shm_shard *s, uint32_t uid, struct shf_found *f) {
    uint64_t directory = shm_load_acquire(&s->directory);
    uint32_t dir = uid >> 9 & 0x7fff;
    shf_au32 *entries = shf__table_entries(t, s, directory);
    f->segment = NULL;
    if (SHF_UNLIKELY(entries == NULL)) return SHF_NONSENSE;
    f->segment_page = shm_load_acquire32(&entries[dir >> (15 - shf_directory_depth(directory))]);
    if (f->segment_page == 0) return SHF_ABSENT_KEY;
    f->segment = shf__region_page(&t->region, f->segment_page);
    if (SHF_UNLIKELY(f->segment == NULL)) return SHF_NONSENSE;
    f->index = uid & 511;
    f->slot = f->segment + f->index;
    f->word = shm_load_acquire(f->slot);
    if ((f->word & SHF_REF_MASK) == 0 || shf_word_dir(f->word) != dir) return SHF_ABSENT_KEY;
    return shf__table_open_record(t, f);
}

/* ---- placing a new key -------------------------------------------------------------------------------- */

void shf__table_interval(const shf_au32 *entries, uint32_t depth, uint32_t i, uint32_t *first, uint32_t *count) {
    uint32_t page = shm_load_relaxed32(&entries[i]), n = 1;
    /* Entries of one segment are an aligned power of two: try twice as many as long as all are equal. */
    while (n < 1u << depth) {
        uint32_t base = i & ~(2 * n - 1), k;
        for (k = base; k < base + 2 * n; k++)
            if (shm_load_relaxed32(&entries[k]) != page) break;
        if (k < base + 2 * n) break;
        n *= 2;
    }
    *first = i & ~(n - 1);
    *count = n;
}

void shf__segment_flags(const shf_au64 *segment, uint32_t bit, uint32_t side, uint64_t flags[SHF_SEGMENT_SLOTS]) {
    int stashed = 0;
    memset(flags, 0, SHF_SEGMENT_SLOTS * sizeof flags[0]);
    for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS; i++) {
        uint64_t w = shm_load_relaxed(&segment[i]);
        uint32_t delta = shf_word_delta(w), primary;
        if ((w & SHF_REF_MASK) == 0 || (bit < 15 && (shf_word_dir(w) >> bit & 1) != side)) continue;
        if (delta == 0) stashed = 1;
        if (delta == 0 || (w & SHF_ROLE) == 0) continue;
        primary = i / SHF_BUCKET_SLOTS ^ delta;
        flags[primary * SHF_BUCKET_SLOTS + (delta & 7)] = SHF_FLAG_OVERFLOW;
    }
    /* A stashed slot does not say which buckets it belongs to: all stash flags stay while there is one. */
    for (uint32_t b = 0; stashed && b < SHF_SEGMENT_SLOTS; b += SHF_BUCKET_SLOTS)
        flags[b] |= shm_load_relaxed(&segment[b]) & SHF_FLAG_STASH;
}

void shf__table_tidy_flags(shf_au64 *segment) {
    uint64_t flags[SHF_SEGMENT_SLOTS];
    shf__segment_flags(segment, 15, 0, flags);
    for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS; i++) {
        uint64_t w = shm_load_relaxed(&segment[i]);
        if ((w & SHF_FLAGS) != flags[i]) shm_store_release(&segment[i], (w & ~SHF_FLAGS) | flags[i]);
    }
}

static void set_flag(shf_au64 *slot, uint64_t flag) {
    uint64_t w = shm_load_relaxed(slot);
    if ((w & flag) == 0) shm_store_release(slot, w | flag);
}

static int first_segment(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need) {
    uint32_t page = 0;
    *need = 1;
    for (uint32_t i = 0; i < 1u << SHF_DIR_INLINE; i++)
        if (shm_load_relaxed32(&s->entries[i]) != 0 || shf_directory_page(shm_load_relaxed(&s->directory)) != 0)
            return shf__region_corrupt(&t->region, "directory: an entry is empty", shf_shard_number(t, s));
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_SEGMENT, shf_shard_number(t, s), 1, &page);
    if (rc != SHF_OK) return rc;
    shf_au64 *slots = shf__region_page(&t->region, page);
    if (slots == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    shm_clear(slots, SHF_SEGMENT_SLOTS);
    shm_store_relaxed32(&s->new_run, page);
    return shf__step_run(t, s, SHF_STEP_FIRST, NULL);
}

static int double_directory(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need, uint32_t *old_run) {
    uint64_t directory = shm_load_relaxed(&s->directory);
    uint32_t depth = shf_directory_depth(directory), page = 0;
    *need = ((8u << depth) + SHF_PAGE - 1) / SHF_PAGE;
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_DIRECTORY, shf_shard_number(t, s), *need, &page);
    if (rc != SHF_OK) return rc;
    shf_au32 *from = shf__table_entries(t, s, directory);
    shf_au64 *to = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, UINT64_C(8) << depth);
    if (from == NULL || to == NULL) return shf__region_corrupt(&t->region, "directory", shf_shard_number(t, s));
    for (uint32_t i = 0; i < 1u << depth; i++) { /* each entry twice: one 8-byte store */
        uint64_t e = shm_load_relaxed32(&from[i]);
        shm_store_relaxed(&to[i], e << 32 | e);
    }
    *old_run = shf_directory_page(directory);
    shm_store_relaxed(&s->new_word, shf_directory_word(depth + 1, page));
    shm_store_relaxed32(&s->new_run, page);
    shm_store_relaxed32(&s->old_run, *old_run);
    shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
    return shf__step_run(t, s, SHF_STEP_DOUBLE, NULL);
}

/* Splits the segment of entry i, whose entries are first .. first + count - 1, count >= 2. */
static int split(struct shf_table *t, struct shf_shm_shard *s, uint32_t depth, uint32_t first, uint32_t count,
                 const struct shf_found *f, uint32_t *need) {
    uint64_t flags[SHF_SEGMENT_SLOTS];
    uint32_t page = 0, bit = 14 - (depth - (uint32_t)__builtin_ctz(count));
    *need = 1;
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_SEGMENT, shf_shard_number(t, s), 1, &page);
    if (rc != SHF_OK) return rc;
    shf_au64 *to = shf__region_page(&t->region, page);
    if (to == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    shf__segment_flags(f->segment, bit, 1, flags);
    for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS; i++) {
        uint64_t w = shm_load_relaxed(&f->segment[i]);
        uint64_t moves = (w & SHF_REF_MASK) != 0 && (shf_word_dir(w) >> bit & 1) != 0 ? w & ~SHF_FLAGS : 0;
        shm_store_relaxed(&to[i], moves | flags[i]);
    }
    shm_store_relaxed32(&s->new_run, page);
    shm_store_relaxed32(&s->arg0, f->segment_page);
    shm_store_relaxed32(&s->arg1, first + count / 2);
    shm_store_relaxed32(&s->new_count, count / 2);
    shm_store_relaxed32(&s->new_dead, bit);
    shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
    return shf__step_run(t, s, SHF_STEP_SPLIT, NULL);
}

static uint32_t bucket_free(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *segment, uint32_t bucket,
                            uint32_t *free_slot) {
    uint32_t n = 0, number = shf_shard_number(t, s);
    for (uint32_t i = SHF_BUCKET_SLOTS; i-- > 0;) {
        uint32_t index = bucket * SHF_BUCKET_SLOTS + i;
        if ((shm_load_relaxed(&segment[index]) & SHF_REF_MASK) != 0 || shf_slot_reserved(number, index)) continue;
        n++;
        *free_slot = index;
    }
    return n;
}

static int take_slot(struct shf_found *f, uint32_t index, uint64_t tag, struct shf_place *p) {
    p->slot = f->segment + index;
    p->index = index;
    p->tag = tag;
    return SHF_OK;
}

/* Both buckets are full. */
SHF_COLD static int make_place(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, struct shf_found *f,
                               struct shf_place *p, uint32_t *old_run) {
    uint64_t directory = shm_load_relaxed(&s->directory);
    uint32_t depth = shf_directory_depth(directory), used = 0, free_slot = SHF_SEGMENT_SLOTS, first, count;
    uint32_t b1 = shf_hash_b1(h), b2 = b1 ^ shf_hash_delta(h), number = shf_shard_number(t, s);
    shf_au32 *entries = shf__table_entries(t, s, directory);
    if (entries == NULL) return shf__region_corrupt(&t->region, "directory", number);
    for (uint32_t i = SHF_SEGMENT_SLOTS; i-- > 0;) {
        if ((shm_load_relaxed(&f->segment[i]) & SHF_REF_MASK) != 0) used++;
        else if (!shf_slot_reserved(number, i)) free_slot = i;
    }
    shf__table_interval(entries, depth, shf_hash_dir(h) >> (15 - depth), &first, &count);
    if (p->splits < 2 && used >= SHF_SEGMENT_SLOTS / 2 && (count > 1 || depth < SHF_DIR_MAX)) {
        if (count == 1) return double_directory(t, s, &p->need, old_run);
        int rc = split(t, s, depth, first, count, f, &p->need);
        p->splits += rc == SHF_OK;
        return rc;
    }
    if (free_slot == SHF_SEGMENT_SLOTS)
        return shf__fail(SHF_ERR_FULL, 0, "index", t->region.path,
                         "%s: the part of the index that this key belongs to is full", t->region.path);
    set_flag(f->segment + b1 * SHF_BUCKET_SLOTS, SHF_FLAG_STASH); /* before the slot is published */
    set_flag(f->segment + b2 * SHF_BUCKET_SLOTS, SHF_FLAG_STASH);
    return take_slot(f, free_slot, shf_hash_tag(h) & ~SHF_TAG_DELTA, p);
}

int shf__table_place(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, struct shf_place *p) {
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h), b2 = b1 ^ delta;
    for (;;) {
        struct shf_found f;
        uint64_t directory = shm_load_relaxed(&s->directory);
        uint32_t i1 = 0, i2 = 0, old_run = 0, depth = shf_directory_depth(directory);
        shf_au32 *entries = shf__table_entries(t, s, directory);
        int rc;
        if (entries == NULL) return shf__region_corrupt(&t->region, "directory", shf_shard_number(t, s));
        f.segment_page = shm_load_relaxed32(&entries[shf_hash_dir(h) >> (15 - depth)]);
        if (f.segment_page == 0) {
            rc = first_segment(t, s, &p->need);
            if (rc != SHF_OK) return rc;
            continue;
        }
        f.segment = shf__region_page(&t->region, f.segment_page);
        if (f.segment == NULL) return shf__region_corrupt(&t->region, "segment", f.segment_page);
        uint32_t n1 = bucket_free(t, s, f.segment, b1, &i1);
        if (SHF_LIKELY(n1 >= 2)) return take_slot(&f, i1, shf_hash_tag(h), p);
        uint32_t n2 = bucket_free(t, s, f.segment, b2, &i2);
        if (n2 > n1) {
            set_flag(f.segment + b1 * SHF_BUCKET_SLOTS + (delta & 7), SHF_FLAG_OVERFLOW); /* before the slot */
            return take_slot(&f, i2, shf_hash_tag(h) | SHF_ROLE, p);
        }
        if (n1 == 1) return take_slot(&f, i1, shf_hash_tag(h), p);
        rc = make_place(t, s, h, &f, p, &old_run);
        if (rc != SHF_OK) return rc;
        if (old_run != 0) shf__pages_hint(&t->pages, old_run);
        if (p->slot != NULL) return SHF_OK;
    }
}
