/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * layout.h - every structure in shared memory: format version 2
 *
 * UNITS      page = 4,096 bytes of the file, whatever the machine's page size; page numbers are 32 bits.
 *            unit = 8 bytes. Offsets and page numbers, never pointers. 64-bit, little-endian.
 *
 * THE FILE   page  0        header (struct shf_shm_header)
 *            page  1.. 8    registry: 1,024 slots of 32 bytes, slot 0 is nobody's
 *            page  9..10    hints: per size class, page numbers of runs that may be free
 *            page 11..12    page map, root: 2,048 page numbers of middle pages
 *            page 13        page map, first middle page: 1,024 page numbers of map pages
 *            page 14        page map, first map page: 256 entries of 16 bytes, for pages 0..255
 *            page 15..30    the object: for a table 256 shards of 256 bytes (then, for fixed lengths with values over
 *                           8 bytes, 4 or 8 pages more: 256 redo records, table_cells.h)
 *            then           runs of pages: free, segments, directories, chunks, large values, map pages
 *
 * PAGE MAP   One entry a page: {word, aux}. word = state 4 | owner 30 | length 30.
 *
 *    state      owner                 length           written by
 *    NONE       0                     0                beyond `end`
 *    FREE       0                     pages of run     the owner that gives it back (one release store); grow
 *    ABSORBED   0                     pages            merge (allocator lock): was a free run, now the tail of one
 *    INTERIOR   0                     pages back to    the taker (allocator lock), before the head word
 *                                     the head
 *    FIXED      0                     pages            create, grow: header, registry, map pages
 *    SEGMENT    shard                 1 (fixed: 1..15) \
 *    DIRECTORY  shard                 pages             | the taker (allocator lock held, shard lock held):
 *    CHUNK      shard                 pages             | head word = commit of the take
 *    LARGE      shard                 pages            the linking step, from PENDING (shard lock)
 *    PENDING    slot 10|generation 20 pages            a handle fills it; no shard lock held
 *    PENDPAGE   slot 10|shard 20      1                the handle slot's page of pending entries; the shard whose lock it
 *                                                      was taken under (with the slot alone a second death in giving it
 *                                                      back could free a page of the slot's next life)
 *    RESERVE    0                     pages            the cleaner's spare chunk (header word `reserve`)
 *
 *    aux of a chunk's head page: dead units in that chunk (shard lock). Others: 0.
 *    In a walk from page 0, head + length is the next head, up to `end`.
 *
 * INVARIANTS (numbers are used by tests and by check's messages)
 *    P1  heads found by that walk cover [0, end) exactly; a head is never INTERIOR; ABSORBED only as a leftover
 *    P2  a head word that names a shard is changed only under that shard's lock; one that names a slot only by
 *        that slot's life, or for a dead one under byte R and the shard lock of its pending entry
 *    P3  FREE may be stored without a lock by the owner; only a holder of the allocator lock may leave FREE
 */
#ifndef SHF_LAYOUT_H
#define SHF_LAYOUT_H

#include "atomic.h"

#define SHF_PAGE 4096u
#define SHF_LINE 64u
#define SHF_MAGIC UINT64_C(0x31304e4f49474853) /* "SHGION01", little-endian */
#define SHF_FORMAT 2u
#define SHF_BYTE_ORDER_MARK 0x01020304u
#define SHF_KIND_TABLE 1u
#define SHF_KIND_QUEUES 2u

/* Constants that shrink under test; stored in the header, so that builds cannot mix them up. */
#ifdef SHF_SMALL
#define SHF_SHARD_BITS 1u
#define SHF_DIR_INLINE 1u /* depth of the inline directory, from the start */
#define SHF_DIR_MAX 3u    /* deepest directory */
#else
#define SHF_SHARD_BITS 8u
#define SHF_DIR_INLINE 3u
#define SHF_DIR_MAX 15u
#endif
#define SHF_SHARD_COUNT (1u << SHF_SHARD_BITS)
#define SHF_GEOMETRY (SHF_SHARD_BITS | SHF_DIR_INLINE << 8 | SHF_DIR_MAX << 16)

#define SHF_SLOT_COUNT 1024u /* slot 0 is nobody */
#define SHF_GENERATION_BITS 20u
#define SHF_GENERATION_MASK ((1u << SHF_GENERATION_BITS) - 1)

#define SHF_REGISTRY_PAGE 1u
#define SHF_HINTS_PAGE 9u
#define SHF_ROOT_PAGE 11u
#define SHF_MIDDLE_PAGE 13u
#define SHF_MAP_PAGE 14u
#define SHF_OBJECT_PAGE 15u

/* Page 0. "immutable": written before the file is published, covered by `checksum`. */
struct shf_shm_header {
    uint64_t magic;           /*   0 */
    uint32_t format;          /*   8 */
    uint32_t kind;            /*  12 SHF_KIND_* */
    uint64_t features;        /*  16 unknown bits: refuse */
    uint32_t byte_order;      /*  24 */
    uint32_t page_size;       /*  28 the format's unit, 4,096 */
    uint64_t seed[2];         /*  32 random; the hash key */
    uint64_t max_bytes;       /*  48 */
    uint32_t hash;            /*  56 SHF_HASH_* */
    uint32_t mode;            /*  60 permission bits asked for */
    uint32_t fixed_key;       /*  64 0, 0: variable length */
    uint32_t fixed_value;     /*  68 */
    uint32_t geometry;        /*  72 SHF_GEOMETRY */
    uint32_t object_pages;    /*  76 */
    uint64_t reserved[5];     /*  80 */
    uint64_t checksum;        /* 120 of bytes 0..119 */
    /* mutable */
    shf_au64 end;             /* 128 bytes of the file in use; page multiple; grow lock, release */
    shf_au32 grow_word;       /* 136 the grow lock */
    uint32_t pad0[13];        /* 140 */
    shf_au32 alloc_word;      /* 192 the allocator lock */
    shf_au32 hand;            /* 196 page where the merging hand goes on; allocator lock */
    shf_au32 reserve;         /* 200 head page of the RESERVE run, 0 = none; allocator lock */
    uint32_t pad1;            /* 204 */
    shf_au64 sequence;        /* 208 last sequence number given to a large value */
    uint64_t pad2[5];         /* 216 */
    uint64_t boot_id[2];      /* 256 of the last attach; byte R */
    uint64_t dev;             /* 272 */
    uint64_t ino;             /* 280 */
    shf_au32 dirty;           /* 288 1: a handle is or was attached and did not detach last */
    uint32_t pad3[951];       /* 292 */
};
_Static_assert(sizeof(struct shf_shm_header) == SHF_PAGE, "header");
_Static_assert(offsetof(struct shf_shm_header, checksum) == 120, "header");
_Static_assert(offsetof(struct shf_shm_header, end) == 128, "header");
_Static_assert(offsetof(struct shf_shm_header, alloc_word) == 192, "header");
_Static_assert(offsetof(struct shf_shm_header, boot_id) == 256, "header");
_Static_assert(offsetof(struct shf_shm_header, dirty) == 288, "header");

/* One registry slot. Alive = the OFD write lock on byte 2^62 + slot is held. */
struct shf_shm_slot {
    shf_au32 generation; /*  0 bumped (mod 2^20, never 0) by each new life, first thing */
    shf_au32 pid;        /*  4 for humans, and with origin */
    shf_au32 pending;    /*  8 page of pending entries, 0 = none; stays with the slot for ever */
    shf_au32 origin;     /* 12 of the process `pid`: a hash of its pid namespace and start time; 0 = not known */
    shf_au64 name[2];    /* 16 the process' name, for humans */
};
_Static_assert(sizeof(struct shf_shm_slot) == 32, "slot");

/* Page map. */
struct shf_shm_map_entry {
    shf_au64 word;
    shf_au64 aux;
};
#define SHF_MAP_ENTRIES (SHF_PAGE / 16u)   /* 256 pages a map page */
#define SHF_MIDDLE_ENTRIES (SHF_PAGE / 4u) /* 1,024 map pages a middle page */
#define SHF_ROOT_ENTRIES 2048u
_Static_assert((uint64_t)SHF_MAP_ENTRIES * SHF_MIDDLE_ENTRIES * SHF_ROOT_ENTRIES * SHF_PAGE == UINT64_C(1) << 41,
               "the page map reaches 2 TiB");

enum shf_page_state {
    SHF_PAGE_NONE = 0,
    SHF_PAGE_FREE = 1,
    SHF_PAGE_ABSORBED = 2,
    SHF_PAGE_INTERIOR = 3,
    SHF_PAGE_FIXED = 4,
    SHF_PAGE_SEGMENT = 5,
    SHF_PAGE_DIRECTORY = 6,
    SHF_PAGE_CHUNK = 7,
    SHF_PAGE_LARGE = 8,
    SHF_PAGE_PENDING = 9,
    SHF_PAGE_PENDPAGE = 10,
    SHF_PAGE_RESERVE = 11
};
#define SHF_PAGE_LENGTH_MASK ((UINT64_C(1) << 30) - 1)
static inline uint64_t shf_page_word(enum shf_page_state state, uint32_t owner, uint32_t length) {
    return (uint64_t)state << 60 | (uint64_t)owner << 30 | length;
}
static inline enum shf_page_state shf_page_state(uint64_t w) { return (enum shf_page_state)(w >> 60); }
static inline uint32_t shf_page_owner(uint64_t w) { return (uint32_t)(w >> 30 & SHF_PAGE_LENGTH_MASK); }
static inline uint32_t shf_page_length(uint64_t w) { return (uint32_t)(w & SHF_PAGE_LENGTH_MASK); }

/* Hints: class c holds runs of 2^c .. 2^(c+1)-1 pages. Advice only: every hint is checked against the map. */
#define SHF_HINT_CLASSES 32u
#define SHF_HINTS_PER_CLASS 63u
struct shf_shm_hints {
    shf_au32 count; /* allocator lock */
    shf_au32 page[SHF_HINTS_PER_CLASS];
};
_Static_assert(sizeof(struct shf_shm_hints) * SHF_HINT_CLASSES == 2 * SHF_PAGE, "hints");

/* Pending entries of a slot's PENDPAGE: runs being filled. Written by that life only. 0 = free entry. */
#define SHF_PENDING_ENTRIES (SHF_PAGE / 8u)
static inline uint64_t shf_pending_entry(uint32_t run, uint32_t shard) { return (uint64_t)shard << 32 | run; }

/*
 * One shard of a table: four lines. The protocol is table.h's, for fixed lengths table_cells.h's.
 */
struct shf_shm_shard {
    /* lock line: all but `word` written by the lock's holder */
    shf_au32 word;          /*  0 the shard lock */
    shf_au32 run;           /*  4 a run taken and not yet linked, 0 = none */
    shf_au32 count;         /*  8 keys */
    shf_au32 garbage;       /* 12 dead units in chunks */
    shf_au64 arm;           /* 16 op 8 | slot's offset in units; 0 = disarmed. Here, so that a taker's look costs no line */
    shf_au64 head;          /* 24 byte offset where the next record goes; 0 = no chunk yet */
    union {
        shf_au64 chunk_end; /* 32 byte offset of the current chunk's end */
        shf_au64 cell_word; /*    fixed lengths: after-image of a CELL or VALUE step */
    };
    shf_au32 chunks;        /* 40 page of the current chunk, head of the chunk list */
    shf_au32 predecessor;   /* 44 cleaner: the chunk before the victim, where the clock hand is; 0 = list head */
    shf_au32 victim;        /* 48 cleaner: the chunk being emptied, 0 = none */
    union {
        shf_au32 position;   /* 52 cleaner: next unit in the victim to look at */
        shf_au32 cell_count; /*    fixed lengths: new count of a CELL step; cell number of a VALUE step */
    };
    shf_au32 record_units;  /* 56 units of all chunks, headers included */
    shf_au32 grave_full;    /* 60 1: there is something to empty in the grave line */
    /* intent line: the other steps' after-images. Valid while arm != 0, but for removes */
    shf_au32 removes;       /* 64 removes, for the flag recomputation */
    uint32_t pad2;          /* 68 */
    shf_au64 new_word;      /* 72 */
    shf_au64 new_head;      /* 80 */
    shf_au32 new_count;     /* 88 */
    shf_au32 new_garbage;   /* 92 */
    shf_au32 chunk_a;       /* 96 page of the chunk whose record dies, 0 = none */
    shf_au32 new_dead;      /* 100 its dead units */
    shf_au32 arg0;          /* 104 per op, see table.h */
    shf_au32 arg1;          /* 108 */
    shf_au32 old_run;       /* 112 run to be freed, 0 = none */
    shf_au32 new_run;       /* 116 run to be linked, 0 = none */
    shf_au64 new_version;   /* 120 */
    /* read line: all that a reader needs of the shard */
    shf_au64 version;      /* 128 moves before memory that readers may hold is reused */
    shf_au64 directory;    /* 136 byte offset of the entries | 15 - depth; at first the inline ones */
    shf_au32 recoveries;   /* 144 locks taken over from the dead */
    uint32_t pad0[3];      /* 148 */
    shf_au32 entries[8];   /* 160 inline directory: page numbers of segments, 0 = none yet */
    /* grave line: what clear cut off and nobody has freed yet */
    shf_au64 grave_directory;  /* 192 bit 63 | a directory word; 0 = none */
    shf_au32 grave_index;      /* 200 next entry to empty */
    shf_au32 grave_chunks;     /* 204 list of chunks to free, 0 = none */
    shf_au32 grave_entries[8]; /* 208 */
    uint32_t pad1[4];          /* 240 */
};
_Static_assert(sizeof(struct shf_shm_shard) == 256, "shard");
_Static_assert(offsetof(struct shf_shm_shard, arm) == 16, "shard");
_Static_assert(offsetof(struct shf_shm_shard, removes) == 64, "shard");
_Static_assert(offsetof(struct shf_shm_shard, new_version) == 120, "shard");
_Static_assert(offsetof(struct shf_shm_shard, version) == 128, "shard");
_Static_assert(offsetof(struct shf_shm_shard, grave_directory) == 192, "shard");

/* A segment: one page, 64 buckets of one line, 8 slots of 8 bytes each. */
#define SHF_BUCKETS 64u
#define SHF_BUCKET_SLOTS 8u
#define SHF_SEGMENT_SLOTS (SHF_BUCKETS * SHF_BUCKET_SLOTS)

/* Fixed lengths: a bucket is a header word, with cells over 8 bytes a version word, and 7 cells; table_cells.h. */
#define SHF_CELLS 7u
#define SHF_FIXED_MAX 120u /* bytes of a key and its value */

/* The first line of a chunk. */
#define SHF_CHUNK_TAG 0x4b4e4843u
#define SHF_CHUNK_HEADER 64u
struct shf_shm_chunk {
    shf_au32 tag;   /*  0 */
    shf_au32 shard; /*  4 */
    shf_au32 pages; /*  8 */
    shf_au32 used;  /* 12 units in use, header included; stored when closed, 0 = open */
    shf_au32 next;  /* 16 page of the next chunk of the shard's list */
    uint32_t pad[11];
};
_Static_assert(sizeof(struct shf_shm_chunk) == SHF_CHUNK_HEADER, "chunk");

/*
 * A record: first word = header (low 32 bits: klen 14 | vlen 14 | kind 4) and key bytes 0..3 (high 32 bits).
 * Value of exactly 8 bytes: word 1 is the value (one atomic), key bytes 4.. follow from byte 16.
 * Else: key bytes 4.. from byte 8, the value follows the key at once. Unused bytes at the end are 0.
 */
#define SHF_RECORD_LENGTH_MASK 0x3fffu
#define SHF_KIND_RECORD 1u
#define SHF_KIND_LARGE 2u
#define SHF_RECORD_MAX 8192u /* bytes; longer ones get a run of their own */

/* The head of a large value's run. Word 0: kind << 28 in the low half, klen in the high half. The key follows
 * at byte 32, the value at the next multiple of 8. */
struct shf_shm_large {
    shf_au64 word0;    /*  0 */
    shf_au64 vlen;     /*  8 */
    shf_au64 sequence; /* 16 never used twice in a file */
    shf_au64 hash;     /* 24 of the key, so that a checked UID needs not read a long key */
};
#define SHF_LARGE_HEADER 32u
_Static_assert(sizeof(struct shf_shm_large) == SHF_LARGE_HEADER, "large");

#endif
