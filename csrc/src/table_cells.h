/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_cells.h - tables of fixed lengths: keys and values lie in the index itself
 *
 * WHAT       A table created with fixed lengths k and v has the shards, locks, directories, splits and UIDs of table.h,
 *            but its buckets hold cells, key and value, in place of words that name records. No records, no garbage,
 *            no cleaner; a get costs one cache line. Chosen at creation, kept in the header.
 * NOT        Keys of 0 bytes, k + v over 120: not created.
 *
 * LAYOUT     A segment is 64 buckets; a run of 1 to 15 pages. A bucket is whole lines:
 *
 *    narrow, k + v <= 8:   header word | 7 cells of one word: value in bytes 0..v-1, key in v..v+k-1, then zeros
 *    wide:                 header word | version word | 7 cells: value, zeros to 8 bytes, key, zeros to 8 bytes
 *
 *    header word  byte 0: flags. byte i = 1..7: tag of cell i, 0 = empty. Tag: bit 7 and 7 hash bits (6-0): never
 *                 empty, never equal to the flags, so that a look-up compares all eight bytes.
 *                 flags: bit 0-5 overflow: a key of this primary bucket whose flag number is that lies in its b2
 *                 (flag number = 6 * delta >> 6); bit 6 stash: a key of this bucket (b1 or b2) lies in a third bucket
 *                 of the segment. A flag may be set without need, never clear with need; splits compute them anew.
 *    version word even: cells are as the header says. odd: one cell's value is being written; it stands in the redo record.
 *    redo record  one a shard, behind the shards, if v > 8: {cell: byte offset in units, value words}; 64 or 128 bytes.
 *    uid          shard 8 | directory bits 15 | bucket 6 | cell 3. Cells are 1..7: UID 0 is never issued. A UID is
 *                 resolved with as many bits as the directory has; then the cell's key is hashed and all 15 compared.
 *
 * WHO WRITES The holder of the shard's lock, all of it.
 *
 * STEPS      besides FIRST, SPLIT, DOUBLE, CLEAR, BURY_SEGMENT, BURY_ARRAY of table.h. Their intents lie in the lock line
 *            (cell_word, cell_count): one line for lock, count and intent.
 *
 *    change              before the arm (harmless alone)       step: stores, in order
 *    new key             [wide: version += 2, F1] cell         CELL: header word [C0], count
 *    remove              -                                     CELL: header word [C0], count
 *    replace, v <= 8     -                                     none: the value's word is one store (narrow: the cell's)
 *    replace, v > 8      F1, redo record                       VALUE: version odd [D1], F2, value words, version even [D2]
 *
 *    CELL: arm = bucket, cell_word = the new header word, cell_count = the new count.
 *    VALUE: arm = bucket, cell_word = the new (even) version, cell_count = cell number; the bytes: the redo record.
 *    SPLIT: the new segment is filled before the arm. In the step: entries, shard version, then the old segment's
 *    header words, one store a bucket: moved cells' tags 0, flags as what stays needs them. Redone from the
 *    cells that the header words still name: those that stay do not change, so the words come out the same.
 *
 * READERS    in the frame of table.h (V1, V2: nothing below frees them of it), and for a bucket:
 *
 *    narrow   header (acquire) [C1]; for each tag that fits: cell (acquire) [C2]; its key is the one: header again
 *             (relaxed) [C3] is the same word: found. Else the bucket again.
 *    wide     version (acquire) [B1]; header (acquire) [B2]; for each tag that fits: key words (relaxed); its key is the
 *             one: value words (relaxed), of the redo record if B1 is odd and it names this cell; fence(acquire) [B3];
 *             version (relaxed) [B4] == B1: found. Else the bucket again.
 *    absent   needs no second look at the bucket: V2 alone.
 *
 *    Why C3: a cell is written before its tag is. A reader that came with the tag of a key since removed must
 *    not return the value of a put that is not committed. The same header word again after the cell was
 *    read: either no change came between, or the cell's new key was published with the same tag, before C3. A put that
 *    died between cell and tag would spoil that: a later one could publish the tag over other bytes than the reader
 *    has. So whoever takes a dead owner's lock over moves the shard's version (table_step.c), and V2 fails.
 *    Why B4: the same; and key and value words must be of one content. F1 stands between the version and the
 *    stores that follow: who has read one of them finds another version at B4.
 *    Why absent needs none: the key is in at most one cell, under one lock from look-up to tag. Tags and flags come from
 *    one load of one word, and a flag is stored before the cell's tag in the other bucket. If the tag was not there at
 *    C1/B2, the key was not in that cell then; if the cell held another key (or half of a new one) when it was read, our
 *    key had been removed, or was not committed, since the reader began. Either way there was a moment without it. That
 *    the key moves from one of its buckets to the other is a remove and a put. Both buckets under one V1 and V2, or each
 *    under a pair that holds: a split between them could take the key along.
 *    Odd: the redo record was complete before D1 and is not touched before D2 was stored and F1 of the next replace
 *    was passed. Who reads it between B1 odd and B4 the same odd has read it whole; the step is armed, so the
 *    value is committed. So a reader never waits for a stopped writer. A redo after D2 makes the version odd once more,
 *    with the same bytes.
 *
 * ORDERING   C0 release  pairs with C1, B2: who sees the tag sees the cell.
 *            N1 release  version += 2, pairs with B1: who sees it sees, at B2, the header that emptied the cell.
 *            N2 release  a narrow cell, pairs with C2: who sees it sees, at C3, the header that emptied the cell.
 *            C2 acquire  C3 is not loaded before the cell.
 *            F1 fence(release), before the version word's += 2 is followed by cell words, and before the redo
 *               record's first store. Pairs with B3. Weaker: a reader sees new bytes under the old version.
 *            D1 release  pairs with B1: the redo record is whole. Then F2, fence(release): pairs with B3.
 *            D2 release  pairs with B1: the value words are whole.
 *
 * A DEATH    before the arm: a cell without a tag is written, the version has moved by 2, the redo record is half
 *            new: nobody reads any of it (the version is even). After it: the step is done again, absolute values.
 *
 * INVARIANTS as in table.h; T3 here: each cell with a tag: its key's hash agrees with shard, directory interval and
 *            tag; T4: it lies in b1, or in b2 and b1's flag says so, or b1 and b2 both say stash; versions are even.
 */
#ifndef SHF_TABLE_CELLS_H
#define SHF_TABLE_CELLS_H

#include "table.h"

/* As in table_find.h: plain vector loads would race in ThreadSanitizer's eyes; these work on a word already loaded. */
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SHF_CELL_WORDS_MAX 16u
#define SHF_CELL_STASH UINT64_C(0x40)
#define SHF_CELL_FLAGS UINT64_C(0x7f) /* of byte 0; bit 7 stays 0 */

static inline uint32_t shf_cell_tag(uint64_t h) { return ((uint32_t)h & 0x7f) | 0x80; }
static inline uint32_t shf_cell_flag_number(uint32_t delta) { return 6 * delta >> 6; }
static inline uint64_t shf_cell_overflow(uint32_t delta) { return UINT64_C(1) << shf_cell_flag_number(delta); }

/* Bits 1..7: the cells with the tag of this hash. */
static inline uint64_t shf_cell_match(uint64_t header, uint64_t h) {
#if defined(__SSE2__)
    __m128i tag = _mm_cvtsi32_si128((int)(uint32_t)h);
    tag = _mm_or_si128(_mm_shufflelo_epi16(_mm_unpacklo_epi8(tag, tag), 0), _mm_set1_epi8((char)0x80));
    __m128i same = _mm_cmpeq_epi8(_mm_cvtsi64_si128((long long)header), tag);
    return (uint32_t)_mm_movemask_epi8(same) & 0xfe; /* a forged flags byte is no cell */
#else
    uint64_t x = header ^ shf_cell_tag(h) * UINT64_C(0x0101010101010101), low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t zero = ~((((x & low) + low) | x) | low); /* 0x80 where a byte is 0, exactly */
    return zero * UINT64_C(0x0002040810204081) >> 56 & 0xfe;
#endif
}
/* Bits 1..7: the empty cells; the used ones. */
static inline uint32_t shf_cell_used(uint64_t header) {
    return (uint32_t)((header & UINT64_C(0x8080808080808000)) * UINT64_C(0x0002040810204081) >> 56);
}
static inline uint32_t shf_cells_used(uint64_t header) { /* how many */
    return (uint32_t)((header >> 7 & UINT64_C(0x0101010101010100)) * UINT64_C(0x0101010101010101) >> 56);
}
static inline uint32_t shf_cell_empty(uint64_t header) { return 0xfe ^ shf_cell_used(header); }

/* The geometry of the commonest lengths, as constants. Code made for one is only chosen if it is the table's. */
#define SHF_FOUR_FOUR ((struct shf_fixed){4, 4, 1, 4, 1, SHF_LINE, 1, 0})
#define SHF_EIGHT_EIGHT ((struct shf_fixed){8, 8, 0, 8, 2, 2 * SHF_LINE, 2, 0})
static inline int shf_fixed_is(const struct shf_table *t, struct shf_fixed x) { return memcmp(&t->fixed, &x, sizeof x) == 0; }

/* Where the key lies in a cell. */
static inline uint32_t shf_cell_key_at(uint32_t key, uint32_t value) {
    return key + value <= 8 ? value : (value + 7) / 8 * 8;
}
static inline shf_au64 *shf_cells_bucket(struct shf_fixed x, const shf_au64 *segment, uint32_t bucket) {
    return (shf_au64 *)(uintptr_t)segment + bucket * (x.bucket_bytes / 8);
}
/* Cell i, 1..7, of a bucket. */
static inline shf_au64 *shf_cell(struct shf_fixed x, const shf_au64 *bucket, uint64_t i) {
    return (shf_au64 *)(uintptr_t)bucket + (x.narrow ? i : 2 + (i - 1) * x.cell_words);
}
static inline shf_au64 *shf_cells_redo(const struct shf_table *t, const struct shf_shm_shard *s) {
    shf_au64 *all = (shf_au64 *)(void *)(t->region.base + (uint64_t)(SHF_OBJECT_PAGE + SHF_TABLE_PAGES) * SHF_PAGE);
    return all + (size_t)shf_shard_number(t, s) * t->fixed.redo_words;
}
/* Is it this key in a narrow cell's word? */
static inline int shf_cell_is(struct shf_fixed x, uint64_t word, const void *key) {
    if (x.key == 4) return (uint32_t)(word >> 8 * x.value) == shf_load32(key);
    return word >> 8 * x.value == shf_load_tail(key, x.key);
}
/* Does a cell hold this key? Wide: words beside a writer; the caller looks at the version then. */
static inline int shf_cell_has_key(struct shf_fixed x, const shf_au64 *cell, const void *key) {
    if (x.narrow) return shf_cell_is(x, shm_load_relaxed(cell), key);
    const unsigned char *k = key;
    uint32_t n = x.key;
    for (cell += x.key_at / 8; n >= 8; n -= 8, k += 8, cell++)
        if (shm_load_relaxed(cell) != shf_load64(k)) return 0;
    return n == 0 || shm_load_relaxed(cell) == shf_load_tail(k, n);
}

static inline uint64_t shf_cells_segment_bytes(const struct shf_table *t) { return (uint64_t)t->fixed.segment_pages * SHF_PAGE; }
/* The segment of these directory bits, f->segment and its page: SHF_FOUND, ABSENT (none yet), NONSENSE. */
static inline int shf_cells_segment(struct shf_table *t, struct shf_shm_shard *s, uint32_t dir, struct shf_found *f) {
    uint64_t directory = shm_load_acquire(&s->directory);
    shf_au32 *entries = shf__table_entries(t, s, directory);
    f->segment = NULL;
    if (SHF_UNLIKELY(entries == NULL)) return SHF_NONSENSE;
    f->segment_page = shm_load_acquire32(&entries[dir >> (directory & 15)]);
    if (SHF_UNLIKELY(f->segment_page == 0)) return SHF_ABSENT_KEY;
    f->segment = shf__region_at(&t->region, (uint64_t)f->segment_page * SHF_PAGE, shf_cells_segment_bytes(t));
    return SHF_LIKELY(f->segment != NULL) ? SHF_FOUND : SHF_NONSENSE;
}

/* The geometry of these lengths: 1; 0 = they cannot be. */
int shf__cells_geometry(uint32_t key, uint32_t value, struct shf_fixed *x);
/* Pages of the object area, redo records included; 0 = lengths that cannot be. */
uint32_t shf__cells_object_pages(uint32_t key, uint32_t value);

/* ---- the shard's lock is held (table_cells.c) ---------------------------------------------------------- */
/* As shf__table_find: f->slot = the bucket's header word, f->record = the cell, f->word = the key's tag as of table.h. */
int shf__cells_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, struct shf_found *f);
/* As shf__table_find_uid, with the key's hash and, if `checked`, its check compared. */
int shf__cells_find_uid(struct shf_table *t, struct shf_shm_shard *s, const struct shf_target *g, struct shf_found *f);
/* Stores a value for the key, found or not. SHF_OK (*uid set), SHF__GROW with *need pages, an error. */
int shf__cells_store(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, const void *val,
                     const struct shf_found *f, int found, uint32_t *uid, uint32_t *need);
/* shf_table_put for the lengths of this table; and with the hash known, lengths right, on a handle that can write. */
shf_put_fn *shf__cells_put(const struct shf_table *t);
int shf__cells_put_hashed(struct shf_table *t, uint64_t h, const void *key, const void *val);
int shf__cells_remove(struct shf_table *t, struct shf_shm_shard *s, const struct shf_found *f);
/* The header words of a segment's two halves by directory bit `bit` (15: all in sides[0]), with the flags each needs. */
void shf__cells_sides(struct shf_table *t, const shf_au64 *segment, uint32_t bit, uint64_t sides[2][SHF_BUCKETS]);
/* Hash of a cell's key. */
uint64_t shf__cells_hash(const struct shf_table *t, const shf_au64 *cell);

/* table_step.c's part for fixed lengths: CELL and VALUE; SPLIT, inputs checked (so not read from the intent again): n entries from
 * `first` on = page; `stay` = the old segment's new headers. */
int shf__cells_apply(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *bucket);
void shf__cells_apply_split(struct shf_table *t, struct shf_shm_shard *s, shf_au32 *entries, uint32_t first, uint32_t n,
                            uint32_t page, shf_au64 *segment, const uint64_t stay[SHF_BUCKETS]);

/* ---- readers (table_cells_read.c) ---------------------------------------------------------------------- */
/* shf_table_get for the lengths of this table. */
shf_get_fn *shf__cells_get(const struct shf_table *t);
/* shf_table_get_by_uid likewise. */
shf_get_uid_fn *shf__cells_get_uid(const struct shf_table *t);
/* Value (or key) of a target. len may be NULL. */
int shf__cells_read(struct shf_table *t, const struct shf_target *g, int want_key, void *buf, size_t cap, size_t *len);
int shf__cells_uid(struct shf_table *t, const struct shf_target *g, uint32_t *uid);
/* In a frame: copies cell `index` of a segment. SHF_FOUND and the key's hash, SHF_ABSENT_KEY, SHF_CHANGED. */
int shf__cells_copy(struct shf_table *t, struct shf_shm_shard *s, const shf_au64 *segment, uint32_t index,
                    uint64_t copy[SHF_CELL_WORDS_MAX], uint64_t *hash);

#endif
