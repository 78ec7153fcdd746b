/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_index.c - buckets, segments, directories: finding a slot, and placing a new key
 *
 * The protocol is in table.h. Algorithms: extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979) by the top
 * bits after the shard's; two-choice buckets (Azar, Broder, Karlin, Upfal 1994) with the primary first, so that a
 * hit costs little more than one line; the second bucket by xor of a short hash (Fan, Andersen, Kaminsky,
 * Mitzenmacher 2014), which needs no record to compute.
 */
#include "table_find.h"

SHF_COLD int shf__table_open_record_checked(struct shf_table *t, struct shf_found *f) {
    uint64_t off = shf_word_offset(f->word), need;
    if (off < SHF_OBJECT_PAGE * SHF_PAGE || (f->record = shf__region_at(&t->region, off, 8)) == NULL)
        return SHF_NONSENSE; /* the shortest record is one word, and may be the file's last one */
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

int shf__table_open_record(struct shf_table *t, struct shf_found *f) {
    return shf_open_record(t, atomic_load_explicit(&t->region.size, memory_order_relaxed), f);
}

SHF_COLD int shf__table_key_equal_large(const struct shf_found *f, const void *key, size_t klen) {
    if (shf_record_klen(f->word0) != klen) return 0;
    return shm_equal(f->record, SHF_LARGE_HEADER, key, klen);
}

SHF_COLD int shf__table_search_stash(struct shf_table *t, const struct shf_wanted *k, uint64_t want,
                                     struct shf_found *f) {
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        int rc = shf_search_bucket(t, size, k, b, want & ~SHF_TAG_DELTA, f);
        if (rc != SHF_ABSENT_KEY) return rc;
    }
    return SHF_ABSENT_KEY;
}

int shf__table_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, size_t klen,
                    struct shf_found *f) {
    return shf_find(t, s, h, key, klen, f);
}

/* Beyond `size`, which was known: the file has grown, or nonsense. (Not what refresh returns: another thread of this handle
 * may have moved the size already.) */
SHF_COLD int shf__table_find_again(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key,
                                   size_t klen, size_t size, struct shf_found *f) {
    (void)shf__region_refresh(&t->region);
    if (atomic_load_explicit(&t->region.size, memory_order_relaxed) == size) return SHF_NONSENSE;
    return shf_find(t, s, h, key, klen, f);
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

/* Without branches on the slots' bits, here and where a split sorts them: half of 512 would be mispredicted, which was more
 * than half of a split's time (12 us; now 5). A slot that sets no flag sets one behind the end. */
void shf__segment_flags(const shf_au64 *segment, uint32_t bit, uint32_t side, uint64_t flags[SHF_SEGMENT_SLOTS]) {
    uint64_t out[SHF_SEGMENT_SLOTS + 1];
    uint64_t mask = bit < 15 ? UINT64_C(1) << (49 + bit) : 0, want = side ? mask : 0, stashed = 0;
    memset(out, 0, sizeof out);
    for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS; i++) {
        uint64_t w = shm_load_relaxed(&segment[i]);
        uint32_t delta = shf_word_delta(w), primary = i / SHF_BUCKET_SLOTS ^ delta;
        uint64_t here = (uint64_t)((w & SHF_REF_MASK) != 0) & (uint64_t)((w & mask) == want);
        stashed |= here & (uint64_t)(delta == 0);
        here &= (uint64_t)(delta != 0) & (uint64_t)((w & SHF_ROLE) != 0);
        uint64_t at = primary * SHF_BUCKET_SLOTS + (delta & 7);
        at = SHF_SEGMENT_SLOTS + ((at - SHF_SEGMENT_SLOTS) & (0 - here));
        out[at] = SHF_FLAG_OVERFLOW;
    }
    memcpy(flags, out, SHF_SEGMENT_SLOTS * sizeof flags[0]);
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

int shf__table_first_segment(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need) {
    uint32_t page = 0;
    *need = shf_segment_pages(t);
    for (uint32_t i = 0; i < 1u << SHF_DIR_INLINE; i++)
        if (shm_load_relaxed32(&s->entries[i]) != 0 || shf_directory_page(shm_load_relaxed(&s->directory)) != 0)
            return shf__region_corrupt(&t->region, "directory: an entry is empty", shf_shard_number(t, s));
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_SEGMENT, shf_shard_number(t, s), *need, &page);
    if (rc != SHF_OK) return rc;
    shf_au64 *slots = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, (uint64_t)*need * SHF_PAGE);
    if (slots == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    shm_clear(slots, (size_t)*need * (SHF_PAGE / 8));
    shm_store_relaxed32(&s->new_run, page);
    return shf__step_run(t, s, SHF_STEP_FIRST, NULL);
}

int shf__table_double(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need, uint32_t *old_run) {
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
    shm_store_relaxed(&s->new_word, shf_directory_array(depth + 1, page));
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
        uint64_t is = (uint64_t)((w & SHF_REF_MASK) != 0) & (w >> (49 + bit)) & 1;
        uint64_t moves = w & ~SHF_FLAGS & (0 - is);
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

/* The free slots of a bucket, a bit each. */
static uint32_t bucket_free(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *segment, uint32_t bucket) {
    uint32_t bits = shf_match_empty(segment + bucket * SHF_BUCKET_SLOTS);
    return shf_slot_reserved(shf_shard_number(t, s), bucket) ? bits & ~1u : bits;
}

static int take_slot(const struct shf_found *f, uint32_t index, uint64_t tag, struct shf_place *p) {
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
        int is = (shm_load_relaxed(&f->segment[i]) & SHF_REF_MASK) != 0;
        used += (uint32_t)is;
        free_slot = is | shf_slot_reserved(number, i) ? free_slot : i;
    }
    shf__table_interval(entries, depth, shf_hash_dir(h) >> (15 - depth), &first, &count);
    if (p->splits < 2 && used >= SHF_SEGMENT_SLOTS / 2 && (count > 1 || depth < SHF_DIR_MAX)) {
        if (count == 1) return shf__table_double(t, s, &p->need, old_run);
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
        uint32_t old_run = 0, depth = shf_directory_depth(directory);
        shf_au32 *entries = shf__table_entries(t, s, directory);
        int rc;
        if (entries == NULL) return shf__region_corrupt(&t->region, "directory", shf_shard_number(t, s));
        f.segment_page = shm_load_relaxed32(&entries[shf_hash_dir(h) >> (15 - depth)]);
        if (f.segment_page == 0) {
            rc = shf__table_first_segment(t, s, &p->need);
            if (rc != SHF_OK) return rc;
            continue;
        }
        f.segment = shf__region_page(&t->region, f.segment_page);
        if (f.segment == NULL) return shf__region_corrupt(&t->region, "segment", f.segment_page);
        uint32_t free1 = bucket_free(t, s, f.segment, b1);
        uint32_t i1 = b1 * SHF_BUCKET_SLOTS + (uint32_t)__builtin_ctz(free1 | 1u << 31);
        if (SHF_LIKELY((free1 & (free1 - 1)) != 0)) return take_slot(&f, i1, shf_hash_tag(h), p); /* two or more */
        uint32_t free2 = bucket_free(t, s, f.segment, b2);
        if (free1 == 0 ? free2 != 0 : (free2 & (free2 - 1)) != 0) { /* the second has more */
            set_flag(f.segment + b1 * SHF_BUCKET_SLOTS + (delta & 7), SHF_FLAG_OVERFLOW); /* before the slot */
            return take_slot(&f, b2 * SHF_BUCKET_SLOTS + (uint32_t)__builtin_ctz(free2), shf_hash_tag(h) | SHF_ROLE, p);
        }
        if (free1 != 0) return take_slot(&f, i1, shf_hash_tag(h), p);
        rc = make_place(t, s, h, &f, p, &old_run);
        if (rc != SHF_OK) return rc;
        if (old_run != 0) shf__pages_hint(&t->pages, old_run);
        if (p->slot != NULL) return SHF_OK;
    }
}
