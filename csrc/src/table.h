/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table.h - the shared hash table: protocol, and what the table_*.c files share
 *
 * WHAT       256 shards, each an extendible hash table of its own under one lock. Writers lock one shard.
 *            Readers store nothing. A death at any store leaves a table that the next taker of the lock makes
 *            whole at once.
 * NOT        Transactions over several keys. Protection from a process that scribbles over the map: it can make
 *            others return wrong data or SHF_ERR_CORRUPT, not make them read or write outside of the map.
 *
 * HASH       h: shard 63-56 | directory bits 55-41 (15) | bucket b1 40-35 | extra 34-33 | (32 unused) | check 31-0.
 *            delta = 1 + (63 * check >> 32), 1..63 (the multiply-shift is three instructions shorter than the
 *            remainder and as even); b2 = b1 ^ delta.
 *
 * INDEX      directory word: byte offset of the entries | 15 - depth; entries are page numbers of segments, 4 bytes; entry
 *            index = the top `depth` of the 15 directory bits. At first the shard's inline entries, depth SHF_DIR_INLINE.
 *            A segment serves the contiguous entries that hold its number: 2^(depth - local depth), aligned.
 *            entry 0 = no segment yet (then all are 0).
 *
 *    slot word  63-49 directory bits | 48-43 delta, 0 = stashed | 42-41 extra | 40 role, 1 = lies in b2
 *               | 39 overflow flag | 38 stash flag | 37-0 reference in units, 0 = empty
 *    The flags belong to the bucket, not to the slot's key, and are carried into every new word of the slot.
 *    overflow flag of slot i: a key of this primary bucket with delta & 7 == i lies in its b2.
 *    stash flag (slot 0 only): a key of this bucket (b1 or b2) lies anywhere in the segment, delta field 0.
 *    A flag may be set without need; never clear with need. Splits compute them anew.
 *
 *    uid        shard 8 | directory bits 15 | bucket 6 | slot 3: the position. Splits copy a slot to the same bucket
 *               and slot, so it never changes while the key lives. Slot 0 of bucket 0 of shard 0 is never used.
 *
 * WHO WRITES All of a shard, its segments, directory and chunks: the holder of the shard's lock. Map words of its
 *            runs too (layout.h, P2), and `dead` = aux of a chunk's head page. The version: in steps only.
 *
 * A STEP     1 compute after-images into the intent; take at most one run before (shard's `run`)
 *            2 arm: the commit [A1]       3 the stores, absolute values [A2]      4 run = 0, disarm [A3]
 *            Between A1 and A3 nothing fails, waits, allocates or makes a system call. Recovery does 3 and 4 again
 *            and compares nothing, with one exception: a run is made FREE only if its map word still names this
 *            shard. FREE is visible to all at once; another process may have taken the run before the death was
 *            seen, and a blind redo would free it under that process. The same word under the same shard can only
 *            have come back through this shard's lock, that is after the recovery. Found in review.
 *            An operation is a sequence of steps, each valid alone, each computed after the last was disarmed.
 *
 *    step          intent fields                                 stores, in order (table_step.c)
 *    PUT           new_word, new_head, new_count                 slot, head, count
 *    SLOT          new_word, new_head, new_count, new_garbage,   [LARGE word of new_run], slot, head, count, garbage,
 *                  chunk_a/new_dead, new_run/arg0 pages,         [dead A], [version, old_run FREE]
 *                  old_run, new_version
 *    FIRST         new_run                                       all inline entries, run = 0
 *    SPLIT         new_run, arg0 old page, arg1 first entry,     entries ascending, version, old segment: moved slots
 *                  new_count entries, new_dead bit               and flags cleared, run = 0
 *    DOUBLE        new_word directory word, new_run, old_run     directory word, version, old_run FREE, run = 0
 *    CHUNK         new_run, new_head, new_word = end, arg0 old   used(old), chunks, head, end, record_units, run = 0
 *                  chunk, arg1 its used, new_count units
 *    UNCHUNK       old_run victim, arg0 predecessor, arg1 next,  predecessor.next, victim = 0, record_units, garbage,
 *                  new_count units, new_garbage, new_version     version, victim FREE
 *    CLEAR         new_word, arg0: the old directory and chunks  grave, directory = a word that is always 0, inline entries 0,
 *                                                                directory = inline, chunks, head, end,
 *                  new_version                                   cleaner, units, garbage, count, version
 *    BURY_SEGMENT  arg0 segment, new_count next index            large runs FREE, segment FREE, grave index
 *    BURY_ARRAY    old_run                                       grave directory = 0, array FREE
 *    BURY_CHUNK    old_run, arg1 next                            grave chunks = next, chunk FREE
 *    A change of one word (a value in place, a flag, the cleaner's position) needs no step.
 *
 * RECORDS    lie in chunks of 4 to 64 KiB, appended at `head`, never changed once a slot names them, but for values
 *            that lie in one word (up to 8 bytes, by the key's length): such a value over one of the same length is one
 *            atomic store, without a step. A record that no slot names any more is dead: its units are counted in its
 *            chunk's `dead` and in the shard's garbage. Counting the dead and not the living keeps a put of a new key
 *            away from the page map (the design's live counter cost it one more line).
 *            Bytes past `head` that a death left are overwritten by the next record.
 * CLEANER    moves what lives out of a victim chunk, a little in every operation that made garbage, then frees it.
 * LARGE      key and value over 8 KiB: a run, filled as PENDING without a lock, linked by a SLOT step.
 *
 * READERS    v0 = version (acquire) [V1]; directory word, entry, slot (acquire), bytes (relaxed); fence(acquire);
 *            version == v0 (relaxed) [V2], for every verdict, absent and corrupt included. Otherwise again.
 * VERSION    moves before memory is reused, by the step that unlinked it: unlinking stores; version (release) [V3];
 *            fence(release) [V4]; then clear or FREE. A reader that sees a store after V4 sees V3 at V2. A record that
 *            dies stays readable until its chunk goes, so puts and removes do not move the version.
 *            And when a dead owner's lock was taken over, after the recovery: what the dead wrote and did not commit stays
 *            out of every frame that is open (table_cells.h, C3).
 *
 * INVARIANTS (numbers are used by tests and by check's messages)
 *    T1  arm != 0 or run != 0 only while the lock word is not 0
 *    T2  each entry names a SEGMENT page of this shard; equal entries are contiguous, aligned, a power of two
 *    T3  each used slot's directory bits lie in its segment's interval; its record is whole, in a CHUNK or LARGE run
 *        of this shard; the key's hash agrees with shard, bits, delta, extra, bucket and role
 *    T4  flags are set where needed
 *    T5  count = used slots; no key twice
 *    T6  per chunk: used = header + live + dead units; garbage = sum of dead; record_units = sum of chunk sizes
 *    T7  each page that names the shard is reached from it (directory, segments, chunks, larges, grave, run)
 *
 * LOCK ORDER byte R < shard(i) < shard(j > i) < allocator; grow alone.
 * PROOF      csrc/tests/crash_table.c (dies at every store, again in the recovery), validate_table.c (model),
 *            stress_table.c (torn and lost reads), stress_paused_table.c (a reader paused at every load, while segments
 *            split and cells change), hostile_table.c (edited images); the same for fixed lengths in *_cells_table.c
 */
#ifndef SHF_TABLE_H
#define SHF_TABLE_H

#include "pages.h"

#define SHF_TABLE_PAGES 16u /* object area: 256 shards of 256 bytes; then redo records, if any */
_Static_assert(SHF_SHARD_COUNT * sizeof(struct shf_shm_shard) <= SHF_TABLE_PAGES * SHF_PAGE, "object area");
_Static_assert(SHF_DIR_INLINE <= 3 && SHF_DIR_MAX <= 15, "directory");

#define SHF_GRAVE_DIRECTORY (UINT64_C(1) << 63) /* in grave_directory: there is one */

/* Fixed lengths (table_cells.h); key 0: variable ones. All follow from key and value. */
struct shf_fixed {
    uint32_t key, value;    /* bytes */
    uint32_t narrow;        /* 1: a cell is one word */
    uint32_t key_at;        /* byte offset of the key in a cell */
    uint32_t cell_words;
    uint32_t bucket_bytes;  /* whole lines */
    uint32_t segment_pages;
    uint32_t redo_words;    /* distance of the shards' redo records; 0: there are none */
};

typedef int shf_get_fn(struct shf_table *t, const void *key, size_t klen, void *buf, size_t cap, size_t *vlen);
typedef int shf_get_uid_fn(struct shf_table *t, uint32_t uid, void *buf, size_t cap, size_t *vlen);
typedef int shf_put_fn(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen, uint32_t *uid);

struct shf_table {
    struct shf_region region;
    struct shf_shm_shard *shards;
    struct shf_hash_key hash;
    struct shf_registry registry;
    struct shf_pages pages;
    uint32_t hash_id;
    uint32_t key_least, key_span; /* legal key lengths: 0 .. 2^32 - 1, or the fixed one */
    uint32_t lock_timeout_ms;
    uint32_t flags;     /* SHF_OPTION_*, as given */
    struct shf_fixed fixed;
    shf_get_fn *get; /* shf_table_get, _get_by_uid and _put for this table's hash and lengths */
    shf_get_uid_fn *get_uid;
    shf_put_fn *put;
};

/* table_huge.c: shf_table_collapse without a record of an error. 0 or -errno; *bytes is set in any case. */
int shf__table_collapse_full(struct shf_table *t, uint64_t *bytes);
static inline int shf_is_fixed(const struct shf_table *t) { return t->fixed.key != 0; }
/* Pages of a segment's run. */
static inline uint32_t shf_segment_pages(const struct shf_table *t) { return shf_is_fixed(t) ? t->fixed.segment_pages : 1; }
/* Records SHF_ERR_WRONG_LENGTH: it names what was given (one of them may be as it should be). */
int shf__wrong_length(const struct shf_table *t, size_t klen, size_t vlen);

/* ---- slot words --------------------------------------------------------------------------------------- */
#define SHF_REF_MASK ((UINT64_C(1) << 38) - 1)
#define SHF_FLAG_STASH (UINT64_C(1) << 38)
#define SHF_FLAG_OVERFLOW (UINT64_C(1) << 39)
#define SHF_FLAGS (SHF_FLAG_STASH | SHF_FLAG_OVERFLOW)
#define SHF_ROLE (UINT64_C(1) << 40)
#define SHF_TAG_SHIFT 40u /* word >> 40 = directory bits 15, delta 6, extra 2, role 1 */

static inline uint32_t shf_hash_shard(uint64_t h) { return (uint32_t)(h >> (64 - SHF_SHARD_BITS)); }
static inline uint32_t shf_hash_dir(uint64_t h) { return (uint32_t)(h >> 41) & 0x7fff; }
static inline uint32_t shf_hash_b1(uint64_t h) { return (uint32_t)(h >> 35) & 63; }
static inline uint32_t shf_hash_delta(uint64_t h) { return 1 + (uint32_t)((h & 0xffffffff) * 63 >> 32); }
/* The 24 tag bits of a key in its primary bucket, at the top of a word. */
static inline uint32_t shf_hash_tag32(uint64_t h) { /* its high half; directory bits and extra fall into place */
    return ((uint32_t)(h >> 24) & 0xfffe0600u) | shf_hash_delta(h) << 11;
}
static inline uint64_t shf_hash_tag(uint64_t h) { return (uint64_t)shf_hash_tag32(h) << 32; }
#define SHF_TAG_DELTA (UINT64_C(63) << 43)
static inline uint32_t shf_word_dir(uint64_t w) { return (uint32_t)(w >> 49); }
static inline uint32_t shf_word_delta(uint64_t w) { return (uint32_t)(w >> 43) & 63; }
static inline uint64_t shf_word_offset(uint64_t w) { return (w & SHF_REF_MASK) * 8; }
static inline uint32_t shf_uid(uint32_t shard, uint64_t word, uint32_t index) {
    return shard << 24 | shf_word_dir(word) << 9 | index;
}
/* 1 if this position is never used (UID 0). */
static inline int shf_slot_reserved(uint32_t shard, uint32_t index) { return (shard | index) == 0; }

/* ---- directory ---------------------------------------------------------------------------------------- */
/* A directory word is ready for use: the byte offset of its entries (a multiple of 32) | 15 - depth. The inline entries
 * have an offset too, so a look-up need not tell them from an array's; only arrays begin a page. 32: a shift of 32 bits
 * takes the low five bits of its count by itself. */
static inline uint32_t shf_directory_depth(uint64_t d) { return 15 - (uint32_t)(d & 15); }
static inline uint64_t shf_directory_offset(uint64_t d) { return d & ~UINT64_C(31) & ~SHF_GRAVE_DIRECTORY; }
/* Where the entry of these directory bits lies; any word gives an offset below 2^64 - 2^17. */
static inline uint64_t shf_directory_entry(uint64_t d, uint32_t bits) {
    return (d & ~UINT64_C(31)) + (uint64_t)(bits >> (d & 31)) * 4;
}
/* The array's page; 0: inline entries. */
static inline uint32_t shf_directory_page(uint64_t d) {
    uint64_t off = shf_directory_offset(d);
    return off % SHF_PAGE == 0 ? (uint32_t)(off / SHF_PAGE) : 0;
}
static inline uint64_t shf_directory_array(uint32_t depth, uint32_t page) {
    return (uint64_t)page * SHF_PAGE | (15 - depth);
}
static inline uint64_t shf_directory_inline(uint32_t shard) {
    return (SHF_OBJECT_PAGE * SHF_PAGE + shard * sizeof(struct shf_shm_shard) + offsetof(struct shf_shm_shard, entries)) |
           (15 - SHF_DIR_INLINE);
}
_Static_assert(offsetof(struct shf_shm_shard, entries) % 32 == 0, "directory word");
/* The entries behind a directory word of this shard; NULL if it makes no sense. */
static inline shf_au32 *shf__table_entries(struct shf_table *t, struct shf_shm_shard *s, uint64_t directory) {
    if (shf_directory_page(directory) == 0)
        return directory == shf_directory_inline((uint32_t)(s - t->shards)) ? s->entries : NULL;
    return shf__region_at(&t->region, shf_directory_offset(directory), UINT64_C(4) << shf_directory_depth(directory));
}

/* ---- looking a key up --------------------------------------------------------------------------------- */
struct shf_found {
    shf_au64 *segment; /* NULL: the shard has none yet */
    shf_au64 *slot;    /* of the key, if found */
    uint64_t word;     /* as loaded from the slot */
    shf_au64 *record;  /* its first word */
    uint64_t word0;    /* as loaded */
    uint64_t vlen;
    uint32_t index;    /* slot number in the segment, 0..511 */
    uint32_t segment_page;
};
#define SHF_FOUND 1
#define SHF_ABSENT_KEY 0
#define SHF_NONSENSE (-1) /* a check failed: corrupt if the version has not moved */
#define SHF_CHANGED (-2)

int shf__table_find(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, const void *key, size_t klen,
                    struct shf_found *f);
/* The slot of a UID: word, slot, record, vlen, word0; `dir` bits compared. */
int shf__table_find_uid(struct shf_table *t, struct shf_shm_shard *s, uint32_t uid, struct shf_found *f);
/* Reads the head of the record that f->word names: record, word0, vlen. SHF_FOUND or SHF_NONSENSE. */
int shf__table_open_record(struct shf_table *t, struct shf_found *f);

/* A cell of a table of fixed lengths, found under the lock, passes for a record: this kind, with both lengths, in word0;
 * `record` is the cell, its value at offset 0. No such word is in the file. */
#define SHF_KIND_CELL 3u
static inline int shf_is_large(uint64_t word0) { return (word0 >> 28 & 15) == SHF_KIND_LARGE; }
static inline size_t shf_record_klen(uint64_t word0) {
    return shf_is_large(word0) ? (size_t)(word0 >> 32) : (size_t)(word0 & SHF_RECORD_LENGTH_MASK);
}
/* Bytes of a record in a chunk, a multiple of 8. */
static inline uint64_t shf_record_size(uint64_t klen, uint64_t vlen) {
    if (vlen == 8) return 16 + (klen > 4 ? (klen - 4 + 7) / 8 * 8 : 0);
    return (4 + klen + vlen + 7) / 8 * 8;
}
/* Pages of a large run. */
static inline uint64_t shf_large_value_offset(uint64_t klen) { return (SHF_LARGE_HEADER + klen + 7) / 8 * 8; }
static inline uint64_t shf_large_pages(uint64_t klen, uint64_t vlen) {
    return (shf_large_value_offset(klen) + vlen + SHF_PAGE - 1) / SHF_PAGE;
}
/* Byte offset of the value in a record or large run. */
static inline uint64_t shf_value_offset(uint64_t word0, uint64_t vlen) {
    uint64_t klen = shf_record_klen(word0);
    if (shf_is_large(word0)) return shf_large_value_offset(klen);
    if ((word0 >> 28 & 15) == SHF_KIND_CELL) return 0;
    return vlen == 8 ? 8 : 4 + klen;
}

/* A value that lies in one word is replaced by one of its length with one store: 1 if this one does. */
static inline int shf_in_one_word(uint64_t word0, uint64_t vlen) {
    return !shf_is_large(word0) && shf_value_offset(word0, vlen) % 8 + vlen <= 8;
}
/* Replaces the vlen bytes from bit `shift` of a word, that lie in it, with one store. */
static inline void shf_store_bytes(shf_au64 *word, uint64_t shift, const void *val, uint64_t vlen) {
    uint64_t mask = (vlen == 8 ? ~UINT64_C(0) : (UINT64_C(1) << 8 * vlen) - 1) << shift;
    shm_store_release(word, (shm_load_relaxed(word) & ~mask) | shf_load_tail(val, vlen) << shift);
}
static inline void shf_store_in_word(shf_au64 *record, uint64_t word0, const void *val, uint64_t vlen) {
    uint64_t at = shf_value_offset(word0, vlen);
    if (vlen != 0) shf_store_bytes(record + at / 8, 8 * (at % 8), val, vlen);
}

/* What an operation is about: a key, or a UID (plain or with its check). */
struct shf_target {
    const void *key;
    size_t klen;
    uint64_t hash;   /* of the key; by UID: the low half is the check, if `checked` */
    uint32_t uid;    /* 0 = by key */
    int checked;
};
static inline struct shf_target shf_target_key(const struct shf_table *t, const void *key, size_t klen) {
    struct shf_target g = {key, klen, shf__hash(&t->hash, key, klen), 0, 0};
    return g;
}
struct shf_shm_shard *shf__target_shard(struct shf_table *t, const struct shf_target *g); /* NULL: no such shard */
/* As shf__table_find, by key or UID, check bits compared. */
int shf__target_find(struct shf_table *t, struct shf_shm_shard *s, const struct shf_target *g, struct shf_found *f);

/* table_ops.c: shf_table_put's straight way for variable lengths; and any put. Both check the arguments behind t. */
shf_put_fn shf__table_put_short, shf__table_put_any;
/* table_read.c: shf_table_get's straight way for variable lengths and the default hash; in the frame below, for all. Both
 * check the arguments behind t. */
shf_get_fn shf__table_get_short, shf__table_get_any;
shf_get_uid_fn shf__table_get_uid_short, shf__table_get_uid_any; /* by plain UID, likewise */
/* table_read.c: the optimistic frame. Version checks and retries around a body; see there. */
struct shf_read {
    struct shf_table *t;
    struct shf_shm_shard *s;
    uint64_t version;
    uint32_t tries;
    int locked;
};
void shf__read_begin(struct shf_read *r, struct shf_table *t, struct shf_shm_shard *s);
/* After the body, with its verdict: SHF_FOUND, _ABSENT_KEY, _NONSENSE, _CHANGED (a large value went away in the
 * middle). 1 = the verdict holds, the frame is closed; 0 = do it again; negative = error, closed. */
int shf__read_end(struct shf_read *r, int rc);
/* Goes through a large value (f: opened in this frame) piece by piece, whatever is cleaned meanwhile: copies the
 * first `n` bytes to buf (n 0: none), compares all of it with `compare` (NULL: not), *equal. The frame stays open.
 * 1; 0 = the value has changed, do the body again. */
int shf__read_large(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, void *buf, uint64_t n,
                    const void *compare, int *equal);
static inline uint64_t shf_large_sequence(const struct shf_found *f) {
    return shm_load_relaxed(&((struct shf_shm_large *)(void *)f->record)->sequence);
}
/* Copies the value of f, opened in this frame, into buf. 1; 0 = it has changed, do the body again. */
int shf__copy_value(struct shf_read *r, const struct shf_target *g, const struct shf_found *f, void *buf);
void shf__record_key(const struct shf_found *f, void *buf, size_t n); /* copies the first n key bytes out */

/* ---- changing (the shard's lock is held) -------------------------------------------------------------- */
enum shf_step {
    SHF_STEP_PUT = 1,
    SHF_STEP_SLOT,
    SHF_STEP_FIRST,
    SHF_STEP_SPLIT,
    SHF_STEP_DOUBLE,
    SHF_STEP_CHUNK,
    SHF_STEP_UNCHUNK,
    SHF_STEP_CLEAR,
    SHF_STEP_BURY_SEGMENT,
    SHF_STEP_BURY_ARRAY,
    SHF_STEP_BURY_CHUNK,
    SHF_STEP_CELL, /* fixed lengths, table_cells.h */
    SHF_STEP_VALUE
};

/* table_step.c */
/* Arms, applies and disarms a step whose fields are in the intent. `slot` for PUT and SLOT. The inputs were checked:
 * SHF_ERR_CORRUPT only if the file's content is not what it was a moment ago. */
int shf__step_run(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *slot);
/* The PUT step's stores [A2]. */
static inline void shf_apply_put(struct shf_shm_shard *s, shf_au64 *slot, uint64_t word, uint64_t head, uint32_t count) {
    shm_store_release(slot, word);
    shm_store_relaxed(&s->head, head);
    shm_store_relaxed32(&s->count, count);
}
#define SHF_ARM(op, units) ((uint64_t)(op) << 56 | (units))
/* bench/recovery.sh builds the library without intents, to measure what recovery costs. For nothing else: a death in such a
 * build leaves a table that lies. */
#ifdef SHF_NO_RECOVERY
#define SHF_INTENT(store) ((void)0)
#else
#define SHF_INTENT(store) (store)
#endif
/* A1 and A3, for the steps that are written out where they are made, for their speed. */
static inline void shf_arm(const struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, const shf_au64 *slot) {
    uint64_t units = slot ? (uint64_t)((const unsigned char *)slot - t->region.base) / 8 : 0;
    (void)units, (void)s, (void)op;
    shf_compiler_fence();
    SHF_INTENT(shm_store_relaxed(&s->arm, SHF_ARM(op, units))); /* A1 */
    shf_compiler_fence();
}
static inline void shf_disarm(struct shf_shm_shard *s) {
    (void)s;
    shf_compiler_fence();
    SHF_INTENT(shm_store_relaxed(&s->arm, 0)); /* A3 */
    shf_compiler_fence();
}
static inline void shf_move_version(struct shf_shm_shard *s) {
    shm_store_release(&s->version, shm_load_relaxed(&s->new_version)); /* V3 */
    shf_fence_release();                                               /* V4 */
}
int shf__table_recover(struct shf_table *t, struct shf_shm_shard *s);
int shf__table_lock_slow(struct shf_table *t, struct shf_shm_shard *s, int taken_over);
/* Takes the shard's lock and finishes what a death left. */
static inline int shf__table_lock(struct shf_table *t, struct shf_shm_shard *s) {
    int taken_over = 0, rc = shf__lock(&t->registry, &s->word, &taken_over);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_UNLIKELY((shm_load_relaxed(&s->arm) | shm_load_relaxed32(&s->run)) != 0 || taken_over))
        return shf__table_lock_slow(t, s, taken_over);
    return SHF_OK;
}
static inline void shf__table_unlock(struct shf_shm_shard *s) { shf__unlock(&s->word); }

static inline uint32_t shf_shard_number(const struct shf_table *t, const struct shf_shm_shard *s) {
    return (uint32_t)(s - t->shards);
}

/* table_index.c */
/* A free slot for a new key: sets flags where needed, splits, doubles, stashes. slot, tag (role or stash form),
 * index. SHF_OK; SHF__GROW with need pages; SHF_ERR_FULL, _CORRUPT. */
struct shf_place {
    shf_au64 *slot;
    uint64_t tag;
    uint32_t index;
    uint32_t need;   /* SHF__GROW: pages */
    uint32_t splits; /* done in this operation, at most two */
};
int shf__table_place(struct shf_table *t, struct shf_shm_shard *s, uint64_t h, struct shf_place *p);
/* Flags of a segment as its slots need them; for slots whose directory bit `bit` is `side` (bit 15: all). */
void shf__segment_flags(const shf_au64 *segment, uint32_t bit, uint32_t side, uint64_t flags[SHF_SEGMENT_SLOTS]);
/* Clears flags that nobody needs any more. */
void shf__table_tidy_flags(shf_au64 *segment);
int shf__table_first_segment(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need);
int shf__table_double(struct shf_table *t, struct shf_shm_shard *s, uint32_t *need, uint32_t *old_run);
/* First entry index and number of entries of the segment that entry i names. */
void shf__table_interval(const shf_au32 *entries, uint32_t depth, uint32_t i, uint32_t *first, uint32_t *count);

/* table_records.c */
/* Makes room for a record of `size` bytes at *head, which was checked: the file's may be forged a moment later. SHF_OK;
 * SHF__GROW with *need pages. `minimal`: the smallest chunk. */
int shf__records_room(struct shf_table *t, struct shf_shm_shard *s, uint64_t size, int minimal, uint64_t *head,
                      uint32_t *need);
void shf__record_write(shf_au64 *at, const void *key, size_t klen, const void *val, size_t vlen);
/* Fills intent fields for the death of the record or large run in f (chunk_a/new_dead/new_garbage or old_run).
 * *garbage = bytes. */
int shf__records_kill(struct shf_table *t, struct shf_shm_shard *s, const struct shf_found *f, uint64_t *garbage);
/* A little cleaning for `garbage` bytes just made. May do steps. Never fails the operation. *freed = page for a hint. */
void shf__records_clean(struct shf_table *t, struct shf_shm_shard *s, uint64_t garbage);
/* NO_SPACE: empties whole victims, with the reserve if need be. 1 if a chunk came free. */
int shf__records_clean_hard(struct shf_table *t, struct shf_shm_shard *s);

/* table_ops.c: shf_table_put and shf_table_del for a batch. The arguments are checked, h is the key's hash. */
int shf__table_put_hashed(struct shf_table *t, uint64_t h, const void *key, size_t klen, const void *val, size_t vlen);
int shf__table_del_hashed(struct shf_table *t, uint64_t h, const void *key, size_t klen);

/* table_clear.c */
/* 1 if this handle can see a buried segment and all large runs that its slots name. */
int shf__grave_within_reach(struct shf_table *t, uint32_t segment);
/* One step on the grave. 1 if there is more. */
int shf__grave_step(struct shf_table *t, struct shf_shm_shard *s);

#endif
