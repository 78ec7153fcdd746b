/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_cells.c - fixed lengths: finding, placing and changing cells, under the shard's lock
 *
 * The protocol is in table_cells.h; labels here are its labels. Placement is table_index.c's: the primary bucket until it
 * holds 6 of 7, then the emptier of the two; then a split, a doubling, or a place anywhere in the segment.
 */
#include "table_cells.h"

int shf__cells_geometry(uint32_t key, uint32_t value, struct shf_fixed *x) {
    memset(x, 0, sizeof *x);
    if (key == 0 && value == 0) return 1;
    if (key == 0 || key > SHF_FIXED_MAX || value > SHF_FIXED_MAX || key + value > SHF_FIXED_MAX) return 0;
    x->key = key, x->value = value;
    x->narrow = key + value <= 8;
    x->key_at = shf_cell_key_at(key, value);
    x->cell_words = x->narrow ? 1 : x->key_at / 8 + (key + 7) / 8;
    x->bucket_bytes = (8 * (x->narrow ? 1 + SHF_CELLS : 2 + SHF_CELLS * x->cell_words) + SHF_LINE - 1) / SHF_LINE * SHF_LINE;
    x->segment_pages = SHF_BUCKETS * x->bucket_bytes / SHF_PAGE;
    if (!x->narrow && value > 8) x->redo_words = (8 + x->key_at + SHF_LINE - 1) / SHF_LINE * (SHF_LINE / 8);
    return 1;
}

uint32_t shf__cells_object_pages(uint32_t key, uint32_t value) {
    struct shf_fixed x;
    if (!shf__cells_geometry(key, value, &x)) return 0;
    return SHF_TABLE_PAGES + (SHF_SHARD_COUNT * x.redo_words * 8 + SHF_PAGE - 1) / SHF_PAGE;
}

uint64_t shf__cells_hash(const struct shf_table *t, const shf_au64 *cell) {
    unsigned char key[SHF_FIXED_MAX];
    if (t->fixed.narrow) { /* the commonest, and a split hashes hundreds */
        uint64_t word = shm_load_relaxed(cell) >> 8 * t->fixed.value;
        return shf__hash(&t->hash, &word, t->fixed.key);
    }
    shm_copy_out(key, cell, t->fixed.key_at, t->fixed.key);
    return shf__hash(&t->hash, key, t->fixed.key);
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static inline int found_at(struct shf_table *t, uint64_t tag, shf_au64 *bucket, uint32_t b, uint32_t i, struct shf_found *f) {
    f->slot = bucket;
    f->record = shf_cell(t->fixed, bucket, i);
    f->word = tag;
    f->word0 = t->fixed.key | (uint64_t)t->fixed.value << 14 | (uint64_t)SHF_KIND_CELL << 28;
    f->vlen = t->fixed.value;
    f->index = b * SHF_BUCKET_SLOTS + i;
    return SHF_FOUND;
}

static inline int search(struct shf_table *t, uint64_t h, const void *key, uint32_t b, struct shf_found *f) {
    shf_au64 *bucket = shf_cells_bucket(t->fixed, f->segment, b);
    for (uint64_t bits = shf_cell_match(shm_load_relaxed(bucket), h); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        if (SHF_LIKELY(shf_cell_has_key(t->fixed, shf_cell(t->fixed, bucket, i), key)))
            return found_at(t, shf_hash_tag(h), bucket, b, i, f);
    }
    return SHF_ABSENT_KEY;
}

int shf__cells_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, struct shf_found *f) {
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h), b2 = b1 ^ delta;
    int rc = shf_cells_segment(t, s, shf_hash_dir(h), f);
    if (SHF_UNLIKELY(rc != SHF_FOUND)) return rc;
    if (search(t, h, key, b1, f) == SHF_FOUND) return SHF_FOUND;
    uint64_t flags = shm_load_relaxed(shf_cells_bucket(t->fixed, f->segment, b1));
    if (SHF_LIKELY((flags & (shf_cell_overflow(delta) | SHF_CELL_STASH)) == 0)) return SHF_ABSENT_KEY;
    if ((flags & shf_cell_overflow(delta)) && search(t, h, key, b2, f) == SHF_FOUND) return SHF_FOUND;
    if (SHF_LIKELY((flags & shm_load_relaxed(shf_cells_bucket(t->fixed, f->segment, b2)) & SHF_CELL_STASH) == 0))
        return SHF_ABSENT_KEY;
    for (uint32_t b = 0; b < SHF_BUCKETS; b++)
        if (search(t, h, key, b, f) == SHF_FOUND) return SHF_FOUND;
    return SHF_ABSENT_KEY;
}

int shf__cells_find_uid(struct shf_table *t, struct shf_shm_shard *s, const struct shf_target *g, struct shf_found *f) {
    uint32_t index = g->uid & 511, i = index & 7, dir = g->uid >> 9 & 0x7fff;
    int rc = i == 0 ? SHF_ABSENT_KEY : shf_cells_segment(t, s, dir, f);
    if (rc != SHF_FOUND) return rc;
    shf_au64 *bucket = shf_cells_bucket(t->fixed, f->segment, index / SHF_BUCKET_SLOTS);
    if ((shm_load_relaxed(bucket) >> 8 * i & 0xff) == 0) return SHF_ABSENT_KEY;
    uint64_t h = shf__cells_hash(t, shf_cell(t->fixed, bucket, i));
    if (shf_hash_dir(h) != dir || shf_hash_shard(h) != shf_shard_number(t, s) || (g->checked && (uint32_t)h != (uint32_t)g->hash))
        return SHF_ABSENT_KEY;
    return found_at(t, shf_hash_tag(h), bucket, index / SHF_BUCKET_SLOTS, i, f);
}

/* ---- splitting ----------------------------------------------------------------------------------------- */

void shf__cells_sides(struct shf_table *t, const shf_au64 *segment, uint32_t bit, uint64_t sides[2][SHF_BUCKETS]) {
    int stashed[2] = {0, 0};
    memset(sides, 0, 2 * sizeof sides[0]);
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        const shf_au64 *bucket = shf_cells_bucket(t->fixed, segment, b);
        uint64_t header = shm_load_relaxed(bucket);
        for (uint32_t bits = shf_cell_used(header); bits != 0; bits &= bits - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(bits);
            uint64_t h = shf__cells_hash(t, shf_cell(t->fixed, bucket, i));
            uint32_t side = bit < 15 ? shf_hash_dir(h) >> bit & 1 : 0, b1 = shf_hash_b1(h), delta = shf_hash_delta(h);
            sides[side][b] |= header & (UINT64_C(0xff) << 8 * i);
            if (b == (b1 ^ delta)) sides[side][b1] |= shf_cell_overflow(delta);
            else if (b != b1) stashed[side] = 1;
        }
    }
    /* Which buckets a stashed key belongs to is not looked for: all stash flags stay while there is one. */
    for (uint32_t side = 0; side < 2; side++)
        for (uint32_t b = 0; stashed[side] && b < SHF_BUCKETS; b++)
            sides[side][b] |= shm_load_relaxed(shf_cells_bucket(t->fixed, segment, b)) & SHF_CELL_STASH;
}

void shf__cells_apply_split(struct shf_table *t, struct shf_shm_shard *s, shf_au32 *entries, uint32_t first, uint32_t n,
                            uint32_t page, shf_au64 *segment, const uint64_t stay[SHF_BUCKETS]) {
    for (uint32_t i = 0; i < n; i++) shm_store_release32(&entries[first + i], page); /* A2 */
    shf_move_version(s);
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        shf_au64 *header = shf_cells_bucket(t->fixed, segment, b);
        if (shm_load_relaxed(header) != stay[b]) shm_store_release(header, stay[b]);
    }
    shm_store_relaxed32(&s->run, 0);
}

/* Splits the segment f->segment of entries first .. first + count - 1, count >= 2. */
static int split(struct shf_table *t, struct shf_shm_shard *s, shf_au32 *entries, uint32_t depth, uint32_t first,
                 uint32_t count, const struct shf_found *f, uint32_t *need) {
    uint64_t sides[2][SHF_BUCKETS];
    uint32_t page = 0, bit = 14 - (depth - (uint32_t)__builtin_ctz(count));
    *need = t->fixed.segment_pages;
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_SEGMENT, shf_shard_number(t, s), *need, &page);
    if (rc != SHF_OK) return rc;
    shf_au64 *to = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, shf_cells_segment_bytes(t));
    if (to == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    shf__cells_sides(t, f->segment, bit, sides);
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        const shf_au64 *old = shf_cells_bucket(t->fixed, f->segment, b);
        shf_au64 *bucket = shf_cells_bucket(t->fixed, to, b);
        for (uint32_t bits = shf_cell_used(sides[1][b]); bits != 0; bits &= bits - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(bits);
            const shf_au64 *from = shf_cell(t->fixed, old, i);
            shf_au64 *cell = shf_cell(t->fixed, bucket, i);
            for (uint32_t w = 0; w < t->fixed.cell_words; w++) shm_store_relaxed(cell + w, shm_load_relaxed(from + w));
        }
        if (!t->fixed.narrow) shm_store_relaxed(bucket + 1, 0);
        shm_store_relaxed(bucket, sides[1][b]);
    }
    shm_store_relaxed32(&s->new_run, page);
    shm_store_relaxed32(&s->arg0, f->segment_page);
    shm_store_relaxed32(&s->arg1, first + count / 2);
    shm_store_relaxed32(&s->new_count, count / 2);
    shm_store_relaxed32(&s->new_dead, bit);
    shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
    shf_arm(t, s, SHF_STEP_SPLIT, NULL); /* as shf__step_run, but what stays was computed already */
    shf__cells_apply_split(t, s, entries, first + count / 2, count / 2, page, f->segment, sides[0]);
    shf_disarm(s);
    return SHF_OK;
}

/* ---- placing ------------------------------------------------------------------------------------------- */

struct place {
    shf_au64 *bucket;
    uint32_t b, i;
    uint32_t splits;
    uint32_t need;
};

static void set_flag(shf_au64 *header, uint64_t flag) {
    uint64_t w = shm_load_relaxed(header);
    if ((w & flag) == 0) shm_store_release(header, w | flag);
}

/* Both buckets are full: splits, doubles (then p->bucket stays NULL: look again), or takes any cell of the segment. */
SHF_COLD static int make_place(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, struct shf_found *f, struct place *p) {
    uint64_t directory = shm_load_relaxed(&s->directory);
    uint32_t depth = shf_directory_depth(directory), used = 0, first, count, old_run = 0;
    uint32_t b1 = shf_hash_b1(h), b2 = b1 ^ shf_hash_delta(h), free_b = SHF_BUCKETS, empty = 0;
    shf_au32 *entries = shf__table_entries(t, s, directory);
    if (entries == NULL) return shf__region_corrupt(&t->region, "directory", shf_shard_number(t, s));
    for (uint32_t b = SHF_BUCKETS; b-- > 0;) {
        uint64_t header = shm_load_relaxed(shf_cells_bucket(t->fixed, f->segment, b));
        used += shf_cells_used(header);
        if (shf_cell_empty(header) != 0) free_b = b, empty = shf_cell_empty(header);
    }
    shf__table_interval(entries, depth, shf_hash_dir(h) >> (15 - depth), &first, &count);
    if (p->splits < 2 && used >= SHF_BUCKETS * SHF_CELLS / 2 && (count > 1 || depth < SHF_DIR_MAX)) {
        if (count == 1) {
            int rc = shf__table_double(t, s, &p->need, &old_run);
            if (rc == SHF_OK && old_run != 0) shf__pages_hint(&t->pages, old_run);
            return rc;
        }
        int rc = split(t, s, entries, depth, first, count, f, &p->need);
        p->splits += rc == SHF_OK;
        return rc;
    }
    if (free_b == SHF_BUCKETS)
        return shf__fail(SHF_ERR_FULL, 0, "index", t->region.path,
                         "%s: the part of the index that this key belongs to is full", t->region.path);
    set_flag(shf_cells_bucket(t->fixed, f->segment, b1), SHF_CELL_STASH); /* before the cell is published */
    set_flag(shf_cells_bucket(t->fixed, f->segment, b2), SHF_CELL_STASH);
    p->b = free_b;
    p->bucket = shf_cells_bucket(t->fixed, f->segment, free_b);
    p->i = (uint32_t)__builtin_ctz(empty);
    return SHF_OK;
}

static inline int take_cell(struct place *p, shf_au64 *bucket, uint32_t b, uint32_t empty) {
    p->bucket = bucket, p->b = b, p->i = (uint32_t)__builtin_ctz(empty);
    return SHF_OK;
}

static int place(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, struct place *p) {
    uint32_t b1 = shf_hash_b1(h), delta = shf_hash_delta(h), b2 = b1 ^ delta;
    for (;;) {
        struct shf_found f;
        int rc = shf_cells_segment(t, s, shf_hash_dir(h), &f);
        if (SHF_UNLIKELY(rc == SHF_NONSENSE)) return shf__region_corrupt(&t->region, "segment", f.segment_page);
        if (SHF_UNLIKELY(rc == SHF_ABSENT_KEY)) {
            rc = shf__table_first_segment(t, s, &p->need);
            if (rc != SHF_OK) return rc;
            continue;
        }
        shf_au64 *one = shf_cells_bucket(t->fixed, f.segment, b1), *two = shf_cells_bucket(t->fixed, f.segment, b2);
        uint32_t empty1 = shf_cell_empty(shm_load_relaxed(one));
        if (SHF_LIKELY((empty1 & (empty1 - 1)) != 0)) return take_cell(p, one, b1, empty1); /* two or more */
        uint32_t empty2 = shf_cell_empty(shm_load_relaxed(two));
        if (empty1 == 0 ? empty2 != 0 : (empty2 & (empty2 - 1)) != 0) { /* the second has more */
            set_flag(one, shf_cell_overflow(delta)); /* before the cell is published */
            return take_cell(p, two, b2, empty2);
        }
        if (empty1 != 0) return take_cell(p, one, b1, empty1);
        rc = make_place(t, s, h, &f, p);
        if (rc != SHF_OK || p->bucket != NULL) return rc;
    }
}

/* ---- changing ------------------------------------------------------------------------------------------ */

static inline uint64_t next_version(const shf_au64 *version) { return (shm_load_relaxed(version) + 2) & ~UINT64_C(1); }

static inline void apply_cell(struct shf_shm_shard *s, shf_au64 *bucket, uint64_t header, uint32_t count) {
    shm_store_release(bucket, header); /* C0 */
    shm_store_relaxed32(&s->count, count);
}

static void apply_value(struct shf_table *t, struct shf_shm_shard *s, shf_au64 *bucket, uint64_t version, uint32_t i) {
    const shf_au64 *redo = shf_cells_redo(t, s);
    shf_au64 *cell = shf_cell(t->fixed, bucket, i);
    shm_store_release(bucket + 1, version - 1); /* D1 */
    shf_fence_release();                        /* F2 */
    for (uint32_t w = 0; w < t->fixed.key_at / 8; w++) shm_store_relaxed(cell + w, shm_load_relaxed(redo + 1 + w));
    shm_store_release(bucket + 1, version); /* D2 */
}

int shf__cells_apply(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *bucket) {
    uint64_t at = bucket != NULL ? (uint64_t)((unsigned char *)bucket - t->region.base) : 1;
    uint64_t data = (uint64_t)(SHF_OBJECT_PAGE + shf__cells_object_pages(t->fixed.key, t->fixed.value)) * SHF_PAGE;
    uint64_t word = shm_load_relaxed(&s->cell_word);
    uint32_t number = shm_load_relaxed32(&s->cell_count);
    if (!shf_is_fixed(t) || at % SHF_LINE != 0 || at < data || shf__region_at(&t->region, at, t->fixed.bucket_bytes) == NULL)
        return shf__region_corrupt(&t->region, "intent: bucket", shf_shard_number(t, s));
    if (op == SHF_STEP_CELL) {
        apply_cell(s, bucket, word, number);
        return SHF_OK;
    }
    if (t->fixed.redo_words == 0 || number == 0 || number > SHF_CELLS || word % 2 != 0)
        return shf__region_corrupt(&t->region, "intent: cell", shf_shard_number(t, s));
    apply_value(t, s, bucket, word, number);
    return SHF_OK;
}

static inline void step_cell(struct shf_table *t, struct shf_shm_shard *s, shf_au64 *bucket, uint64_t header, uint32_t count) {
    SHF_INTENT(shm_store_relaxed(&s->cell_word, header));
    SHF_INTENT(shm_store_relaxed32(&s->cell_count, count));
    shf_arm(t, s, SHF_STEP_CELL, bucket);
    apply_cell(s, bucket, header, count);
    shf_disarm(s);
}

/* A value over 8 bytes, through the redo record. */
static void replace_long(struct shf_table *t, struct shf_shm_shard *s, const struct shf_found *f, const void *val) {
    shf_au64 *redo = shf_cells_redo(t, s);
    uint64_t version = next_version(f->slot + 1);
    uint32_t i = f->index % SHF_BUCKET_SLOTS, n = t->fixed.value;
    const unsigned char *v = val;
    shf_fence_release(); /* F1 */
    shm_store_relaxed(redo, (uint64_t)((unsigned char *)f->record - t->region.base) / 8);
    for (redo++; n >= 8; n -= 8, v += 8) shm_store_relaxed(redo++, shf_load64(v));
    if (n != 0) shm_store_relaxed(redo, shf_load_tail(v, n));
    shm_store_relaxed(&s->cell_word, version);
    shm_store_relaxed32(&s->cell_count, i);
    shf_arm(t, s, SHF_STEP_VALUE, f->slot);
    apply_value(t, s, f->slot, version, i);
    shf_disarm(s);
}

/* All words of the cell, whole: zeros behind key and value are part of the format. */
static inline void write_cell(struct shf_fixed x, shf_au64 *cell, const void *key, const void *val) {
    if (x.narrow) {
        uint64_t word = x.key == 4 ? (uint64_t)shf_load32(key) : shf_load_tail(key, x.key);
        shm_store_release(cell, shf_load_tail(val, x.value) | word << 8 * x.value); /* N2 */
        return;
    }
    const unsigned char *p = val;
    for (uint32_t n = x.value, k; n != 0; p += k, n -= k) {
        k = n < 8 ? n : 8;
        shm_store_relaxed(cell++, shf_load_tail(p, k));
    }
    p = key;
    for (uint32_t n = x.key, k; n != 0; p += k, n -= k) {
        k = n < 8 ? n : 8;
        shm_store_relaxed(cell++, shf_load_tail(p, k));
    }
}

/* A new key into the empty cell i. */
static inline __attribute__((always_inline)) void new_cell(struct shf_table *t, struct shf_shm_shard *s, struct shf_fixed x, uint64_t h, shf_au64 *bucket,
                            uint32_t i, const void *key, const void *val) {
    if (!x.narrow) {
        shm_store_release(bucket + 1, next_version(bucket + 1)); /* N1 */
        shf_fence_release();                                     /* F1 */
    }
    write_cell(x, shf_cell(x, bucket, i), key, val);
    step_cell(t, s, bucket, shm_load_relaxed(bucket) | (uint64_t)shf_cell_tag(h) << 8 * i, shm_load_relaxed32(&s->count) + 1);
}

/* A value of at most 8 bytes: one store. */
static inline void replace_short(struct shf_fixed x, shf_au64 *cell, const void *val) {
    if (x.value == 0) return; /* a set of keys */
    shf_store_bytes(cell, 0, val, x.value);
}

int shf__cells_store(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, const void *val,
                     const struct shf_found *f, int found, uint32_t *uid, uint32_t *need) {
    struct place p = {NULL, 0, 0, 0, 0};
    if (found) {
        *uid = shf_uid(shf_shard_number(t, s), f->word, f->index);
        if (t->fixed.value > 8) replace_long(t, s, f, val);
        else replace_short(t->fixed, f->record, val);
        return SHF_OK;
    }
    int rc = place(t, s, h, &p);
    if (SHF_UNLIKELY(rc != SHF_OK)) {
        *need = p.need;
        return rc;
    }
    new_cell(t, s, t->fixed, h, p.bucket, p.i, key, val);
    *uid = shf_uid(shf_shard_number(t, s), shf_hash_tag(h), p.b * SHF_BUCKET_SLOTS + p.i);
    return SHF_OK;
}

int shf__cells_remove(struct shf_table *t, struct shf_shm_shard *s, const struct shf_found *f) {
    uint32_t i = f->index % SHF_BUCKET_SLOTS, count = shm_load_relaxed32(&s->count);
    uint32_t removes = shm_load_relaxed32(&s->removes) + 1;
    step_cell(t, s, f->slot, shm_load_relaxed(f->slot) & ~(UINT64_C(0xff) << 8 * i), count ? count - 1 : 0);
    shm_store_relaxed32(&s->removes, removes);
    if (removes % 256 == 0) { /* flags that nobody needs any more; each store is one header word, whole */
        uint64_t sides[2][SHF_BUCKETS];
        shf__cells_sides(t, f->segment, 15, sides);
        for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
            shf_au64 *header = shf_cells_bucket(t->fixed, f->segment, b);
            if (shm_load_relaxed(header) != sides[0][b]) shm_store_release(header, sides[0][b]);
        }
    }
    return SHF_OK;
}

/* ---- put ----------------------------------------------------------------------------------------------- */

static inline void unlock(struct shf_table *t, struct shf_shm_shard *s) {
    shf__table_unlock(s);
    if (SHF_UNLIKELY(atomic_load_explicit(&t->pages.want_ahead, memory_order_relaxed) != 0)) shf__pages_grow_ahead(&t->pages);
}

/* The lock is held, and given back: look-up and store as for any change; what needs a new run begins again. */
static __attribute__((noinline)) int put_locked(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key,
                                                const void *val, uint32_t *uid) {
    struct shf_found f;
    uint32_t need, number;
    if (shm_load_relaxed32(&s->grave_full) != 0) shf__grave_step(t, s);
    int found = shf__cells_find(t, s, h, key, &f);
    int rc = found >= 0 ? shf__cells_store(t, s, h, key, val, &f, found, &number, &need) : SHF__GROW;
    unlock(t, s);
    if (SHF_UNLIKELY(rc != SHF_OK)) return shf__table_put_any(t, key, t->fixed.key, val, t->fixed.value, uid);
    if (uid != NULL) *uid = number;
    return SHF_OK;
}

/* The key's cell in a bucket; 0 = none. */
static inline __attribute__((always_inline)) uint32_t cell_of(struct shf_fixed x, const shf_au64 *bucket, uint64_t header,
                                                              uint64_t h, const void *key) {
    for (uint64_t bits = shf_cell_match(header, h); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctz((uint32_t)bits);
        if (SHF_LIKELY(shf_cell_has_key(x, shf_cell(x, bucket, i), key))) return i;
    }
    return 0;
}

/* The straight way: the key is in one of its buckets, or in none and one has room. Lengths are right. x is a constant for
 * the commonest ones. */
static inline __attribute__((always_inline)) int put_straight(struct shf_table *t, uint64_t h, const void *key, const void *val,
                                                              uint32_t *uid, struct shf_fixed x) {
    struct shf_shm_shard *s = &t->shards[shf_hash_shard(h)];
    int rc = shf__table_lock(t, s);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_UNLIKELY(shm_load_relaxed32(&s->grave_full) != 0)) return put_locked(t, s, h, key, val, uid);
    size_t size = atomic_load_explicit(&t->region.size, memory_order_relaxed);
    uint64_t at = shf_directory_entry(shm_load_relaxed(&s->directory), shf_hash_dir(h));
    if (SHF_UNLIKELY(at >= size)) return put_locked(t, s, h, key, val, uid);
    at = (uint64_t)shm_load_relaxed32((const shf_au32 *)(const void *)(t->region.base + at)) * SHF_PAGE;
    if (SHF_UNLIKELY(at < SHF_OBJECT_PAGE * SHF_PAGE)) return put_locked(t, s, h, key, val, uid); /* no segment yet */
    if (SHF_UNLIKELY(at + x.segment_pages * SHF_PAGE > size)) return put_locked(t, s, h, key, val, uid);
    const shf_au64 *segment = (const shf_au64 *)(const void *)(t->region.base + at);
    uint32_t b = shf_hash_b1(h), i;
    shf_au64 *bucket = shf_cells_bucket(x, segment, b);
    uint64_t header = shm_load_relaxed(bucket);
    if (SHF_UNLIKELY((header & SHF_CELL_STASH) != 0)) return put_locked(t, s, h, key, val, uid);
    if ((i = cell_of(x, bucket, header, h, key)) != 0) goto found;
    uint32_t empty = shf_cell_empty(header), delta = shf_hash_delta(h), few = (empty & (empty - 1)) == 0;
    if (SHF_UNLIKELY((header & shf_cell_overflow(delta)) != 0 || few)) { /* the second bucket has a say */
        shf_au64 *two = shf_cells_bucket(x, segment, b ^ delta);
        uint64_t header2 = shm_load_relaxed(two);
        if ((header & shf_cell_overflow(delta)) != 0 && (i = cell_of(x, two, header2, h, key)) != 0) {
            b ^= delta, bucket = two;
            goto found;
        }
        uint32_t empty2 = shf_cell_empty(header2);
        if (few && (empty == 0 ? empty2 != 0 : (empty2 & (empty2 - 1)) != 0)) { /* it has more room */
            set_flag(bucket, shf_cell_overflow(delta));                        /* before the cell is published */
            b ^= delta, bucket = two, empty = empty2;
        } else if (SHF_UNLIKELY(empty == 0)) {
            return put_locked(t, s, h, key, val, uid);
        }
    }
    i = (uint32_t)__builtin_ctz(empty);
    new_cell(t, s, x, h, bucket, i, key, val);
    goto done;
found:
    if (x.value > 8) return put_locked(t, s, h, key, val, uid);
    replace_short(x, shf_cell(x, bucket, i), val);
done:
    unlock(t, s);
    if (uid != NULL) *uid = shf_uid(shf_hash_shard(h), shf_hash_tag(h), b * SHF_BUCKET_SLOTS + i);
    return SHF_OK;
}

#define PUT_ARGUMENTS struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid
static inline __attribute__((always_inline)) int put_short(PUT_ARGUMENTS, struct shf_fixed x) {
    if (SHF_UNLIKELY(klen != x.key || vlen != x.value || key == NULL || (val == NULL && vlen != 0)))
        return shf__table_put_any(t, key, klen, val, vlen, uid);
    return put_straight(t, shf__hash_short(&t->hash, key, x.key), key, val, uid, x);
}
static int put_4_4(PUT_ARGUMENTS) { return put_short(t, key, klen, val, vlen, uid, SHF_FOUR_FOUR); }
static int put_8_8(PUT_ARGUMENTS) { return put_short(t, key, klen, val, vlen, uid, SHF_EIGHT_EIGHT); }
static int put_fixed(PUT_ARGUMENTS) {
    if (SHF_UNLIKELY(klen != t->fixed.key || vlen != t->fixed.value || key == NULL || (val == NULL && vlen != 0)))
        return shf__table_put_any(t, key, klen, val, vlen, uid);
    return put_straight(t, shf__hash(&t->hash, key, klen), key, val, uid, t->fixed);
}

shf_put_fn *shf__cells_put(const struct shf_table *t) {
    if (t->region.read_only) return shf__table_put_any;
    if (t->hash_id == SHF_HASH_FOLDED && shf_fixed_is(t, SHF_FOUR_FOUR)) return put_4_4;
    if (t->hash_id == SHF_HASH_FOLDED && shf_fixed_is(t, SHF_EIGHT_EIGHT)) return put_8_8;
    return put_fixed;
}

int shf__cells_put_hashed(struct shf_table *t, uint64_t h, const void *key, const void *val) {
    if (t->put == put_4_4) return put_straight(t, h, key, val, NULL, SHF_FOUR_FOUR);
    return put_straight(t, h, key, val, NULL, t->fixed);
}
