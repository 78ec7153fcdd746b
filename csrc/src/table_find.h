/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_find.h - the look-up, inline in the calls whose speed it decides (get, put)
 *
 * A get is bound by how many of them fit into the processor's window at once: instructions decide (design, 11). So:
 * one compare for each bound (a page number cannot overflow 64 bits), no memcmp, the second bucket inline, the first
 * candidate straight, nothing that depends on data before the bucket's line is there. Everything rare is a call.
 */
#ifndef SHF_TABLE_FIND_H
#define SHF_TABLE_FIND_H

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
static inline uint32_t shf_match_tag(const shf_au64 *bucket, uint64_t want) {
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
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(lo, hi), _mm_setzero_si128()));
#else
    uint32_t bits = 0;
    for (uint32_t i = 0; i < SHF_BUCKET_SLOTS; i++)
        bits |= (uint32_t)(shm_load_relaxed(&bucket[i]) >> SHF_TAG_SHIFT == want >> SHF_TAG_SHIFT) << i;
    return bits;
#endif
}

/* Bits of the empty slots. The shard's lock is held: nobody else writes here. */
static inline uint32_t shf_match_empty(const shf_au64 *bucket) {
#if defined(__SSE2__) && !defined(SHF_PORTABLE)
    const __m128i *b = (const __m128i *)(const void *)bucket;
    const __m128i mask = _mm_set1_epi64x((long long)SHF_REF_MASK), zero = _mm_setzero_si128();
    __m128i m01 = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(b), mask), zero);
    __m128i m23 = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(b + 1), mask), zero);
    __m128i m45 = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(b + 2), mask), zero);
    __m128i m67 = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(b + 3), mask), zero);
    /* a word is 0 if both halves are */
    __m128i lo = _mm_and_si128(_mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(m01), _mm_castsi128_ps(m23), 0xdd)),
                               _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(m01), _mm_castsi128_ps(m23), 0x88)));
    __m128i hi = _mm_and_si128(_mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(m45), _mm_castsi128_ps(m67), 0xdd)),
                               _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(m45), _mm_castsi128_ps(m67), 0x88)));
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(lo, hi), zero));
#else
    uint32_t bits = 0;
    for (uint32_t i = 0; i < SHF_BUCKET_SLOTS; i++)
        bits |= (uint32_t)((shm_load_relaxed(&bucket[i]) & SHF_REF_MASK) == 0) << i;
    return bits;
#endif
}

struct shf_wanted {
    const void *key;
    size_t klen;
    uint64_t first, mask; /* word 0 of a record with this key, but for vlen */
};

static inline __attribute__((always_inline)) struct shf_wanted shf_wanted_key(const void *key, size_t klen) {
    struct shf_wanted w = {key, klen, 0, 0};
    if (SHF_LIKELY(klen >= 4)) {
        w.first = klen | (uint64_t)SHF_KIND_RECORD << 28 | (uint64_t)shf_load32(key) << 32;
        w.mask = SHF_RECORD_LENGTH_MASK | UINT64_C(15) << 28 | ~UINT64_C(0) << 32;
        if (SHF_UNLIKELY(klen > SHF_RECORD_LENGTH_MASK)) w.first = 0, w.mask = ~UINT64_C(0); /* only a large one */
    } else {
        w.first = klen | (uint64_t)SHF_KIND_RECORD << 28 | shf_load_tail(key, klen) << 32;
        w.mask = SHF_RECORD_LENGTH_MASK | UINT64_C(15) << 28 | ((UINT64_C(1) << (8 * klen)) - 1) << 32;
    }
    return w;
}

int shf__table_open_record_checked(struct shf_table *t, struct shf_found *f);
int shf__table_key_equal_large(const struct shf_found *f, const void *key, size_t klen);
int shf__table_search_stash(struct shf_table *t, const struct shf_wanted *k, uint64_t want, struct shf_found *f);
int shf__table_find_again(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, size_t klen,
                          size_t size, struct shf_found *f);

/* No record in a chunk reaches further than this behind its first byte, whatever its lengths say. */
#define SHF_RECORD_REACH (2 * (SHF_RECORD_LENGTH_MASK + 1) + 32)

static inline __attribute__((always_inline)) int shf_open_record(struct shf_table *t, size_t size, struct shf_found *f) {
    uint64_t off = shf_word_offset(f->word);
    if (SHF_UNLIKELY(off + SHF_RECORD_REACH > size)) return shf__table_open_record_checked(t, f);
    f->record = (shf_au64 *)(void *)(t->region.base + off);
    f->word0 = shm_load_relaxed(f->record);
    if (SHF_UNLIKELY((f->word0 >> 28 & 15) != SHF_KIND_RECORD)) return shf__table_open_record_checked(t, f);
    f->vlen = f->word0 >> 14 & SHF_RECORD_LENGTH_MASK;
    return SHF_FOUND;
}

/* 1 if the record of f (opened, in a chunk) has this key. */
static inline __attribute__((always_inline)) int shf_key_equal(const struct shf_found *f, const struct shf_wanted *w) {
    if (SHF_UNLIKELY(((f->word0 ^ w->first) & w->mask) != 0)) return 0;
    if (SHF_LIKELY(w->klen <= 4)) return 1;
    const unsigned char *k = (const unsigned char *)w->key + 4;
    const shf_au64 *r = f->record + (f->vlen == 8 ? 2 : 1);
    size_t n = w->klen - 4;
    for (; n >= 8; n -= 8, k += 8, r++)
        if (shm_load_relaxed(r) != shf_load64(k)) return 0;
    return n == 0 || ((shm_load_relaxed(r) ^ shf_load_tail(k, n)) & ((UINT64_C(1) << (8 * n)) - 1)) == 0;
}

/* Copies the value of a record in a chunk; one word, if it lies in one at its beginning. */
static inline __attribute__((always_inline)) void shf_copy_value(const shf_au64 *record, size_t klen, size_t n, void *buf) {
    size_t off = n == 8 ? 8 : 4 + klen;
    if (SHF_LIKELY((off & 7) == 0 && n - 1 < 8)) { /* not 0: there may be no word behind the key */
        uint64_t v = shm_load_relaxed(record + off / 8);
        if (n == 4) memcpy(buf, &v, 4);
        else shf_store_tail(buf, v, n);
    } else {
        shm_copy_out(buf, record, off, n);
    }
}

/* The candidates of one bucket of f->segment. */
static inline __attribute__((always_inline)) int shf_search_bucket(struct shf_table *t, size_t size, const struct shf_wanted *w, uint32_t bucket,
                                    uint64_t want, struct shf_found *f) {
    shf_au64 *b = f->segment + bucket * SHF_BUCKET_SLOTS;
    for (uint32_t bits = shf_match_tag(b, want); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(bits);
        f->word = shm_load_acquire(&b[i]);
        if (SHF_UNLIKELY(f->word >> SHF_TAG_SHIFT != want >> SHF_TAG_SHIFT || (f->word & SHF_REF_MASK) == 0)) continue;
        if (SHF_UNLIKELY(shf_open_record(t, size, f) != SHF_FOUND)) return SHF_NONSENSE;
        if (SHF_LIKELY(!shf_is_large(f->word0)) ? shf_key_equal(f, w)
                                                : shf__table_key_equal_large(f, w->key, w->klen)) {
            f->slot = b + i;
            f->index = bucket * SHF_BUCKET_SLOTS + i;
            return SHF_FOUND;
        }
    }
    return SHF_ABSENT_KEY;
}

static inline __attribute__((always_inline)) int shf_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h,
                                                          const void *key, size_t klen, struct shf_found *f) {
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    uint64_t directory = shm_load_acquire(&s->directory), want = shf_hash_tag(h);
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h);
    uint64_t at = shf_directory_entry(directory, shf_hash_dir(h));
    const unsigned char *base = t->region.base;
    f->segment = NULL;
    if (SHF_UNLIKELY(at >= size)) return shf__table_find_again(t, s, h, key, klen, size, f); /* 4-aligned, as is size */
    f->segment_page = shm_load_acquire32((const shf_au32 *)(const void *)(base + at));
    if (SHF_UNLIKELY(f->segment_page == 0)) return SHF_ABSENT_KEY;
    at = (uint64_t)f->segment_page * SHF_PAGE;
    if (SHF_UNLIKELY(at + SHF_PAGE > size)) return shf__table_find_again(t, s, h, key, klen, size, f);
    f->segment = (shf_au64 *)(void *)(t->region.base + at);

    struct shf_wanted w = shf_wanted_key(key, klen);
    int rc = shf_search_bucket(t, size, &w, b1, want, f);
    if (SHF_LIKELY(rc != SHF_ABSENT_KEY)) return rc;
    const shf_au64 *bucket = f->segment + b1 * SHF_BUCKET_SLOTS;
    uint64_t flags = (shm_load_relaxed(&bucket[delta & 7]) & SHF_FLAG_OVERFLOW) | (shm_load_relaxed(bucket) & SHF_FLAG_STASH);
    if (SHF_LIKELY(flags == 0)) return SHF_ABSENT_KEY;
    uint32_t b2 = b1 ^ delta;
    if (flags & SHF_FLAG_OVERFLOW) {
        rc = shf_search_bucket(t, size, &w, b2, want | SHF_ROLE, f);
        if (rc != SHF_ABSENT_KEY) return rc;
    }
    if (SHF_LIKELY((flags & shm_load_relaxed(&f->segment[b2 * SHF_BUCKET_SLOTS]) & SHF_FLAG_STASH) == 0))
        return SHF_ABSENT_KEY;
    return shf__table_search_stash(t, &w, want, f);
}

#endif
