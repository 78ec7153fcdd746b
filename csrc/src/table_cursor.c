/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_cursor.c - iteration: a position that is a number, no state in the table, no lock between steps
 *
 * POSITION   shard 48.. | start 33-47 | log2 of the interval 29-32 | index 19-28 | at 4-18.
 *            The interval [start, start + 2^log2) of directory bits is that of the segment found when it was entered
 *            (nothing seen yet: index 0 and at == start). Then, for each slot number from `index` on, every segment
 *            inside is looked at, in the order of directory bits, from `at` on. Splits and doublings never move a key
 *            to another slot number or change its bits: each key that lives throughout has exactly one (index, bits),
 *            and these are passed in order once.
 */
#include "table_cells.h"

struct cursor {
    uint32_t shard, start, log2, index, at;
};
static struct cursor cursor_of(uint64_t p) {
    struct cursor c = {(uint32_t)(p >> 48), (uint32_t)(p >> 33) & 0x7fff, (uint32_t)(p >> 29) & 15,
                       (uint32_t)(p >> 19) & 1023, (uint32_t)(p >> 4) & 0x7fff};
    return c;
}
static uint64_t cursor_position(const struct cursor *c) {
    return (uint64_t)c->shard << 48 | (uint64_t)c->start << 33 | (uint64_t)c->log2 << 29 | (uint64_t)c->index << 19 |
           (uint64_t)c->at << 4;
}

/* The next used slot from the cursor on, in its interval. SHF_FOUND (f->word, index; c: at the slot), ABSENT (the
 * interval is done; c: behind it), NONSENSE, CHANGED. Fixed lengths: the cell is in `copy`. */
static int cursor_find(struct shf_table *t, struct shf_shm_shard *s, struct cursor *c, struct shf_found *f,
                       uint64_t copy[SHF_CELL_WORDS_MAX]) {
    uint64_t directory = shm_load_acquire(&s->directory);
    uint32_t depth = shf_directory_depth(directory), shift = 15 - depth;
    shf_au32 *entries = shf__table_entries(t, s, directory);
    if (entries == NULL) return SHF_NONSENSE;
    if (c->index == 0 && c->at == c->start) {
        uint32_t first, count, aligned;
        if (shm_load_acquire32(&entries[c->start >> shift]) == 0) { /* no segment: no key in this shard */
            c->start = 0, c->log2 = 0, c->index = 0, c->at = 0, c->shard++;
            return SHF_ABSENT_KEY;
        }
        shf__table_interval(entries, depth, c->start >> shift, &first, &count);
        /* After a clear the segment may begin before `start`, where this iteration has been already: then the largest
         * aligned piece of it that begins here. */
        c->log2 = (uint32_t)__builtin_ctz(count) + shift;
        aligned = c->start ? (uint32_t)__builtin_ctz(c->start) : 15;
        if (first << shift != c->start && aligned < c->log2) c->log2 = aligned;
    }
    uint32_t end = c->start + (1u << c->log2);
    for (; c->index < SHF_SEGMENT_SLOTS; c->index++, c->at = c->start) {
        uint32_t last = 0;
        for (uint32_t e = c->at >> shift; e << shift < end; e++) {
            uint32_t page = shm_load_acquire32(&entries[e]);
            if (page == last || page == 0) continue;
            last = page;
            f->segment = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, (uint64_t)shf_segment_pages(t) * SHF_PAGE);
            if (f->segment == NULL) return SHF_NONSENSE;
            if (shf_is_fixed(t)) {
                uint64_t h;
                int rc = shf__cells_copy(t, s, f->segment, c->index, copy, &h);
                if (rc == SHF_CHANGED) return rc;
                f->word = rc == SHF_FOUND ? shf_hash_tag(h) | 1 : 0; /* a reference that is not 0 */
            } else { /* a key at the place that is never used, which damage alone brings there, would have UID 0 */
                f->word = shf_slot_reserved(c->shard, c->index) ? 0 : shm_load_acquire(&f->segment[c->index]);
            }
            uint32_t bits = shf_word_dir(f->word);
            if ((f->word & SHF_REF_MASK) == 0 || bits < c->at || bits < c->start || bits >= end) continue;
            c->at = bits;
            f->index = c->index;
            if (shf_is_fixed(t)) return SHF_FOUND;
            f->slot = &f->segment[c->index];
            return shf__table_open_record(t, f);
        }
    }
    c->index = 0, c->log2 = 0, c->start = c->at = end;
    if (end >= 1u << 15) c->start = c->at = 0, c->shard++;
    return SHF_ABSENT_KEY;
}

int shf_table_next(struct shf_table *t, uint64_t *position, void *key, size_t kcap, size_t *klen, void *val,
                   size_t vcap, size_t *vlen, uint32_t *uid) {
    SHF_CHECK_ARGS(t != NULL && position != NULL && (key != NULL || kcap == 0) && (val != NULL || vcap == 0) &&
                   klen != NULL && vlen != NULL);
    struct cursor c = cursor_of(*position);
    if (c.log2 > 15 || c.index >= SHF_SEGMENT_SLOTS || c.start + (1u << c.log2) > 1u << 15 || c.at < c.start)
        return shf__fail(SHF_ERR_INVALID, 0, "position", t->region.path, "%s: not a position of an iteration",
                         t->region.path);
    /* Each interval that is left without an entry had a segment of its own. A forged directory that names few of them over
     * and over would take minutes. */
    uint64_t passed = 0;
    while (c.shard < SHF_SHARD_COUNT) {
        struct shf_shm_shard *s = &t->shards[c.shard];
        /* The pages known now: whoever meets a new segment looks at the end of the file again. */
        uint64_t pages = atomic_load_explicit(&t->region.size, memory_order_relaxed) / SHF_PAGE;
        if (passed++ > 16 * SHF_SHARD_COUNT + 2 * pages) return shf__region_corrupt(&t->region, "directory", c.shard);
        struct shf_read r;
        shf__read_begin(&r, t, s);
        for (;;) {
            struct cursor now = c;
            struct shf_found f;
            size_t kn = 0, vn = 0;
            uint64_t copy[SHF_CELL_WORDS_MAX];
            uint32_t number = 0;
            int whole = 1, found = cursor_find(t, s, &now, &f, copy);
            if (found == SHF_FOUND) {
                kn = shf_is_fixed(t) ? t->fixed.key : shf_record_klen(f.word0);
                vn = shf_is_fixed(t) ? t->fixed.value : (size_t)f.vlen;
                number = shf_uid(c.shard, f.word, f.index);
                if (kn <= kcap && vn <= vcap && shf_is_fixed(t)) {
                    memcpy(key, (const unsigned char *)copy + t->fixed.key_at, kn);
                    if (vn != 0) memcpy(val, copy, vn);
                } else if (kn <= kcap && vn <= vcap) {
                    struct shf_target g = {NULL, 0, 0, number, 0};
                    shf__record_key(&f, key, kn);
                    whole = shf__copy_value(&r, &g, &f, val);
                }
            }
            int end = shf__read_end(&r, whole ? found : SHF_CHANGED);
            if (end < 0) return end;
            if (end == 0) continue;
            c = now;
            if (found != SHF_FOUND) break; /* on, in the next interval or shard */
            *klen = kn, *vlen = vn;
            if (kn > kcap || vn > vcap) return SHF_TRUNCATED;
            if (uid != NULL) *uid = number;
            /* behind this slot: the next bits, or the next slot number */
            if (c.at + 1 < c.start + (1u << c.log2)) c.at++;
            else c.index++, c.at = c.start;
            if (c.index == SHF_SEGMENT_SLOTS) {
                c.start += 1u << c.log2, c.index = 0, c.log2 = 0, c.at = c.start;
                if (c.start >= 1u << 15) c.start = c.at = 0, c.shard++;
            }
            *position = cursor_position(&c);
            return SHF_OK;
        }
    }
    return SHF_NOT_FOUND;
}
