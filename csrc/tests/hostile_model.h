/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_model.h - what the tests and fuzzers of damaged files share: good images, edits, uses, and a watched worker
 *
 * GOOD       small files, most keys in one shard so that it has split, the hash's seed fixed (so that all can be repeated).
 * EDITS      from random bytes to forged fields of each structure that look right. They work on any memory: a copy of an
 *            image, or the mapping of a file that others use just now.
 * USE        every call of shf.h with keys, UIDs and lengths that the image has, or had, or never had. Buffers are exactly
 *            as long as they may be, so that AddressSanitizer sees one byte more. Any answer will do but a crash, a hang,
 *            a length beyond its buffer, or an unknown code.
 * WORKER     one child uses many images; which one is in shared memory. If it dies or stands still the parent tells the
 *            number, and another one goes on behind it. SHF_SEED=n SHF_IMAGE=n [SHF_IMAGES=n] is that image again, in
 *            this process.
 */
#ifndef SHF_TEST_HOSTILE_MODEL_H
#define SHF_TEST_HOSTILE_MODEL_H

#include "hash.h"
#include "model.h"
#include "table_cells.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>

#define HOSTILE_KEYS 640u
#define HOSTILE_KEY_MAX 9200u
#define HOSTILE_LOCK_MS 4u /* a forged lock that nobody gives back costs this */

/* What a good image is made like. */
struct hostile_shape {
    size_t key, value; /* 0, 0: variable */
    int state;         /* EMPTY: no keys; CLEAN: closed; LIVE: as it is while a process has it open */
};
enum { EMPTY, CLEAN, LIVE };
struct hostile_good {
    struct hostile_shape shape;
    unsigned char *bytes;
    size_t size;
    uint64_t number[HOSTILE_KEYS];
    uint32_t uid[HOSTILE_KEYS]; /* 0: the key was removed */
    uint64_t checked[HOSTILE_KEYS];
};

/* An image being edited, or a live mapping. */
struct hostile_image {
    unsigned char *p;
    size_t size;
    uint64_t rng;
    struct shf_fixed x;
};

/* Outcomes, in memory that parent and child share. */
struct hostile_counts {
    _Atomic uint64_t opened, refused, operations, by_code[32], clean, corrupt, slowest_ns, slowest;
    _Atomic uint64_t current, progress; /* image under way; moves with each image */
};
TEST_WEAK struct hostile_counts *hostile_counts;

#define FIELD(struct_, field) offsetof(struct struct_, field)
#define SHARD_FIELD(field) FIELD(shf_shm_shard, field)

/* ---- good images -------------------------------------------------------------------------------------- */

/* Key i of a good image into buf (HOSTILE_KEY_MAX); its length. Lengths for each way that a look-up can go. */
TEST_FN size_t hostile_key(const struct hostile_shape *s, uint64_t number, void *buf) {
    static const uint16_t lengths[] = {4, 8, 16, 13, 4, 3, 24, 40};
    size_t n = s->key;
    if (n == 0) n = number % 211 == 5 ? HOSTILE_KEY_MAX : lengths[number % 8];
    fixed_key(buf, n, s->key == 0 && n <= 8 ? number & (n == 3 ? 0xffffff : 0xffffffff) : number);
    return n;
}
TEST_FN size_t hostile_length(const struct hostile_shape *s, uint64_t number) {
    if (s->key != 0) return s->value;
    return number % 97 == 3 ? 9000 + number % 4000 : number % 3 == 0 ? 8 : number % 3 == 1 ? number % 9 : number % 90;
}
TEST_FN void hostile_repair(void *header) {
    struct shf_shm_header *h = header;
    h->checksum = shf__checksum(h, FIELD(shf_shm_header, checksum));
}
/* Most keys of one shard, the others of few, so that the file is small. */
TEST_FN void hostile_choose_keys(struct hostile_good *g, const struct shf_shm_header *h) {
    static unsigned char key[HOSTILE_KEY_MAX];
    struct shf_hash_key hk;
    shf__hash_key_init(&hk, h->hash, h->seed);
    uint64_t i = 0;
    for (uint32_t n = 0; n < HOSTILE_KEYS; i++) {
        size_t klen = hostile_key(&g->shape, i, key);
        uint32_t shard = shf_hash_shard(shf__hash(&hk, key, klen));
        if (n < HOSTILE_KEYS * 4 / 5 ? shard == 1 : shard < 10) g->number[n++] = i;
    }
}
/* A memory file with these bytes, sealed as shf wants it; `length` may be longer (a hole) or shorter (cut off). No file is
 * left behind, whatever happens. */
TEST_FN int hostile_file(const void *bytes, size_t size, size_t length) {
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write(fd, bytes, size < length ? size : length) < 0 || ftruncate(fd, (off_t)length) != 0)
        perror("memfd"), abort();
    return fd;
}
TEST_FN void hostile_seal(int fd) {
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) perror("seal"), abort();
}
TEST_FN void *hostile_read(int fd, size_t *size) {
    struct stat st;
    REQUIRE(fstat(fd, &st) == 0);
    void *bytes = test_alloc(*size = (size_t)st.st_size);
    REQUIRE(pread(fd, bytes, *size, 0) == st.st_size);
    return bytes;
}
TEST_FN void hostile_make(struct hostile_good *g, struct hostile_shape shape, uint64_t seed) {
    static unsigned char key[HOSTILE_KEY_MAX], val[16384];
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    g->shape = shape;
    o.max_bytes = 16 << 20, o.fixed_key = (uint32_t)shape.key, o.fixed_value = (uint32_t)shape.value;
    REQUIRE_EQ_INT(shf_table_anonymous("made", &o, &t), SHF_OK);
    unsigned char *bytes = hostile_read(shf_table_fd(t), &g->size);
    shf_table_close(t);
    struct shf_shm_header *h = (struct shf_shm_header *)(void *)bytes;
    h->seed[0] = seed, h->seed[1] = 1; /* so that everything can be repeated */
    atomic_store(&h->dirty, 0);
    hostile_repair(h);
    hostile_choose_keys(g, h);
    int fd = hostile_file(bytes, g->size, g->size);
    free(bytes);
    hostile_seal(fd);
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_OK);
    for (uint32_t i = 0; shape.state != EMPTY && i < HOSTILE_KEYS; i++) {
        size_t klen = hostile_key(&shape, g->number[i], key), vlen = hostile_length(&shape, g->number[i]);
        value_fill(val, vlen, key, klen, 1);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, vlen, &g->uid[i]), SHF_OK);
        REQUIRE_EQ_INT(shf_table_checked_uid(t, key, klen, &g->checked[i]), SHF_OK);
        if (i % 3 == 0) REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, shape.key ? vlen : vlen / 2, NULL), SHF_OK);
        if (i % 11 == 0) REQUIRE_EQ_INT(shf_table_del(t, key, klen), SHF_OK);
    }
    if (shape.state != LIVE) shf_table_close(t), t = NULL;
    g->bytes = hostile_read(fd, &g->size);
    shf_table_close(t);
    close(fd);
}

/* ---- edits -------------------------------------------------------------------------------------------- */

TEST_FN uint64_t draw(struct hostile_image *m, uint64_t n) { return test_next(&m->rng) % n; }
TEST_FN uint64_t odd_number(struct hostile_image *m) {
    static const uint64_t odd[] = {0,          1,          2,          7,          8,          63,
                                   64,         255,        256,        4095,       4096,       0x3fff,
                                   0x7fff,     0xffff,     0x10000,    0x7fffffff, 0x80000000, 0xffffffff,
                                   1ull << 32, 1ull << 40, 1ull << 41, 1ull << 62, 1ull << 63, ~0ull};
    switch (draw(m, 6)) {
    case 0: return odd[draw(m, sizeof odd / sizeof *odd)];
    case 1: return odd[draw(m, sizeof odd / sizeof *odd)] - 1;
    case 2: return draw(m, m->size / 4096 + 3);  /* a page */
    case 3: return draw(m, m->size / 8 + 3);     /* a unit */
    case 4: return draw(m, m->size / 8 + 3) * 8; /* an offset */
    default: return test_next(&m->rng) >> draw(m, 64);
    }
}
/* Others may use the memory just now: whole words, where they lie so. */
TEST_FN void poke(struct hostile_image *m, uint64_t offset, unsigned width, uint64_t v) {
    unsigned char *p = m->p + offset;
    if (offset >= m->size || width > m->size - offset) return;
    if (width == 8 && offset % 8 == 0)
        __atomic_store_n((uint64_t *)(void *)p, v, __ATOMIC_RELAXED);
    else if (width == 4 && offset % 4 == 0)
        __atomic_store_n((uint32_t *)(void *)p, (uint32_t)v, __ATOMIC_RELAXED);
    else
        for (unsigned i = 0; i < width; i++) __atomic_store_n(p + i, (unsigned char)(v >> 8 * i), __ATOMIC_RELAXED);
}
TEST_FN uint64_t peek(struct hostile_image *m, uint64_t offset) {
    if (offset % 8 != 0 || offset >= m->size) return 0;
    return __atomic_load_n((uint64_t *)(void *)(m->p + offset), __ATOMIC_RELAXED);
}
TEST_FN uint64_t shard_offset(uint64_t i) {
    return SHF_OBJECT_PAGE * 4096ull + i % SHF_SHARD_COUNT * sizeof(struct shf_shm_shard);
}
TEST_FN uint64_t any_shard(struct hostile_image *m) { /* mostly the one with most keys */
    return shard_offset(draw(m, 3) ? 1 : draw(m, draw(m, 4) ? 10 : SHF_SHARD_COUNT));
}
TEST_FN uint32_t lock_word(struct hostile_image *m) {
    uint32_t slot = (uint32_t)draw(m, 4), generation = (uint32_t)draw(m, 4);
    if (draw(m, 3) == 0) slot = (uint32_t)draw(m, 1024), generation = (uint32_t)draw(m, 1 << 20);
    return (slot << 20 | generation) << 2 | (uint32_t)draw(m, 4);
}
TEST_FN uint64_t map_word(uint64_t page) { return SHF_MAP_PAGE * 4096ull + page % 256 * 16; }
/* A page in the given state, by the first map page; 0 = none found. */
TEST_FN uint64_t page_of_kind(struct hostile_image *m, enum shf_page_state state) {
    uint64_t start = draw(m, 256);
    for (uint64_t i = 0; i < 256; i++)
        if (shf_page_state(peek(m, map_word(start + i))) == state) return (start + i) % 256;
    return 0;
}
TEST_FN uint64_t page_word(struct hostile_image *m) {
    uint32_t length = (uint32_t)(draw(m, 3) ? 1 + draw(m, 20) : odd_number(m));
    uint32_t owner = (uint32_t)(draw(m, 2) ? draw(m, SHF_SHARD_COUNT) : odd_number(m));
    return shf_page_word((enum shf_page_state)draw(m, draw(m, 8) ? 12 : 16), owner & 0x3fffffff, length & 0x3fffffff);
}
TEST_FN uint64_t any_page(struct hostile_image *m) { return draw(m, m->size / 4096 + 2); }
TEST_FN void copy_words(struct hostile_image *m, uint64_t to, uint64_t from, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += 8) poke(m, to + i, 8, peek(m, from + i));
}
/* Arms a step; the lock word names somebody, so that it is looked at in any case. */
TEST_FN void arm(struct hostile_image *m, uint64_t s, uint64_t op, uint64_t units) {
    poke(m, s, 4, lock_word(m));
    poke(m, s + SHARD_FIELD(arm), 8, op << 56 | (units & ((1ull << 56) - 1)));
}
/* Header fields, with a checksum that is right. */
TEST_FN void edit_header(struct hostile_image *m) {
    struct shf_shm_header *h = (struct shf_shm_header *)(void *)m->p;
    if (m->size < SHF_PAGE) return;
    switch (draw(m, 8)) {
    case 0: h->fixed_key = (uint32_t)draw(m, 130), h->fixed_value = (uint32_t)draw(m, 130); break;
    case 1: h->fixed_key = (uint32_t)odd_number(m), h->fixed_value = (uint32_t)odd_number(m); break;
    case 2: h->fixed_key = h->fixed_value = 0; break;
    case 3:
        h->fixed_key = m->x.key + (uint32_t)draw(m, 3) - 1, h->fixed_value = m->x.value + (uint32_t)draw(m, 3) - 1;
        break;
    case 4: h->max_bytes = draw(m, 2) ? UINT64_C(4096) << draw(m, 32) : odd_number(m) * (draw(m, 2) ? 4096 : 1); break;
    case 5: h->hash = (uint32_t)draw(m, 4); break;
    case 6: h->object_pages = (uint32_t)odd_number(m); break;
    default: poke(m, draw(m, 30) * 4, 4, odd_number(m));
    }
    if (draw(m, 2)) h->object_pages = shf__cells_object_pages(h->fixed_key, h->fixed_value); /* 0: cannot be */
    hostile_repair(h);
}
/* What all tables have. */
TEST_FN void edit_common(struct hostile_image *m) {
    uint64_t s = any_shard(m), page, what = draw(m, 24);
    if (what >= 3 && what <= 5 && draw(m, 3)) what = 9; /* they are often refused */
    switch (what) {
    case 0: poke(m, draw(m, m->size), 1, draw(m, 256)); break;
    case 1: poke(m, draw(m, m->size / 8) * 8, 8, odd_number(m)); break;
    case 2: poke(m, draw(m, 43 * 4096 / 4) * 4, 4, odd_number(m)); break; /* the fixed pages */
    case 3: poke(m, 128 + draw(m, 48) * 4, 4, odd_number(m)); break;      /* the mutable header */
    case 4: edit_header(m); break;
    case 5: poke(m, FIELD(shf_shm_header, end), 8, draw(m, 2) ? odd_number(m) : odd_number(m) * 4096); break;
    case 6: poke(m, map_word(any_page(m)), 8, page_word(m)); break;
    case 7: poke(m, SHF_ROOT_PAGE * 4096 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the page map's tables */
    case 8: poke(m, SHF_MIDDLE_PAGE * 4096 + draw(m, 8) * 4, 4, odd_number(m)); break;
    case 9: poke(m, s + draw(m, 64) * 4, 4, odd_number(m)); break; /* any field of a shard */
    case 10: poke(m, s, 4, lock_word(m)); break;
    case 11: poke(m, FIELD(shf_shm_header, grow_word) + (draw(m, 2) ? 56 : 0), 4, lock_word(m)); break;
    case 12: /* an armed step with fields that look right */
        for (uint64_t at = 72; at < 128; at += 4) poke(m, s + at, 4, draw(m, 3) ? any_page(m) : odd_number(m));
        if (draw(m, 2))
            poke(m, s + SHARD_FIELD(new_word), 8, draw(m, 2) ? any_page(m) * 4096 | draw(m, 16) : odd_number(m));
        if (draw(m, 2))
            poke(m, s + SHARD_FIELD(new_head), 8, draw(m, 2) ? odd_number(m) : any_page(m) * 4096 + draw(m, 512) * 8);
        page = page_of_kind(m, (enum shf_page_state)(SHF_PAGE_SEGMENT + draw(m, 4)));
        if (page != 0) {
            poke(m, s + (draw(m, 2) ? SHARD_FIELD(arg0) : SHARD_FIELD(new_run)), 4,
                 page + (draw(m, 4) ? 0 : draw(m, 16)));
            if (draw(m, 2)) poke(m, s + SHARD_FIELD(old_run), 4, page);
        }
        if (draw(m, 3) == 0) { /* a split of some entries */
            poke(m, s + SHARD_FIELD(arg1), 4, draw(m, 9)), poke(m, s + SHARD_FIELD(new_count), 4, draw(m, 9));
            poke(m, s + SHARD_FIELD(new_dead), 4, draw(m, 17));
        }
        arm(m, s, 1 + draw(m, 15), draw(m, 2) ? page * 512 + draw(m, 512) : odd_number(m));
        break;
    case 13:
        poke(m, s + SHARD_FIELD(run), 4, draw(m, 2) ? any_page(m) : odd_number(m)), poke(m, s, 4, lock_word(m));
        break;
    case 14: /* a directory word: an array that is none, any depth */
        page = draw(m, 2) ? page_of_kind(m, SHF_PAGE_DIRECTORY) : any_page(m);
        poke(m, s + SHARD_FIELD(directory), 8,
             draw(m, 3)   ? page * 4096 | draw(m, 16)
             : draw(m, 2) ? odd_number(m)
                          : peek(m, s + SHARD_FIELD(directory)) ^ draw(m, 64));
        break;
    case 15: /* an entry: into the middle of a segment, so that the last page is outside; anything; none */
        poke(m, s + SHARD_FIELD(entries) + draw(m, 8) * 4, 4,
             draw(m, 3) == 0 ? odd_number(m)
             : draw(m, 2)    ? m->size / 4096 - draw(m, 17)
                             : page_of_kind(m, SHF_PAGE_SEGMENT) + draw(m, 16));
        break;
    case 16: /* entries of an array */
        if ((page = page_of_kind(m, SHF_PAGE_DIRECTORY)) != 0) poke(m, page * 4096 + draw(m, 64) * 4, 4, odd_number(m));
        break;
    case 17: poke(m, 4096 + draw(m, 4) * 32 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the registry's first slots */
    case 18:                                                                            /* hints: how many, which */
        poke(m, SHF_HINTS_PAGE * 4096 + draw(m, 12) * 256 + (draw(m, 2) ? 0 : draw(m, 64) * 4), 4, odd_number(m));
        break;
    case 19: /* a page in another's place */
        if (m->size >= 40 * 4096)
            copy_words(m, (15 + draw(m, m->size / 4096 - 15)) * 4096, (15 + draw(m, m->size / 4096 - 15)) * 4096, 4096);
        break;
    case 20: /* what clear leaves */
        for (uint64_t at = SHARD_FIELD(grave_directory); at < sizeof(struct shf_shm_shard); at += 4)
            if (draw(m, 2)) poke(m, s + at, 4, draw(m, 2) ? any_page(m) : odd_number(m));
        poke(m, s + SHARD_FIELD(grave_full), 4, 1);
        break;
    case 21: /* a shard in another's place */ copy_words(m, s, any_shard(m), sizeof(struct shf_shm_shard)); break;
    case 22: /* two words of one segment change places: keys that no look-up finds */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        for (int i = 0; i < 30; i++) {
            uint64_t a = page * 4096 + draw(m, 512) * 8, b = page * 4096 + draw(m, 512) * 8, w = peek(m, a);
            poke(m, a, 8, peek(m, b)), poke(m, b, 8, w);
        }
        break;
    case 23: /* slots in the header's page: where a look-up lands that takes "no segment" for page 0 */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        copy_words(m, 512, page * 4096 + 512, 4096 - 512);
        for (uint64_t i = 0; i < 8 && draw(m, 2); i++) poke(m, s + SHARD_FIELD(entries) + i * 4, 4, 0);
        break;
    }
}
/* Records, chunks, long values: tables of variable lengths. */
TEST_FN void edit_records(struct hostile_image *m) {
    uint64_t s = any_shard(m), page, a, b;
    switch (draw(m, 7)) {
    case 0: /* a slot of a segment: copied, flipped, random */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        a = page * 4096 + draw(m, 512) * 8, b = page * 4096 + draw(m, 512) * 8;
        poke(m, a, 8, draw(m, 3) == 0 ? peek(m, b) : draw(m, 2) ? peek(m, a) ^ 1ull << draw(m, 64) : odd_number(m));
        break;
    case 1: /* every slot of a segment points somewhere else */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        for (uint64_t i = 0; i < 512; i++) {
            uint64_t w = peek(m, page * 4096 + i * 8);
            if (w & SHF_REF_MASK) poke(m, page * 4096 + i * 8, 8, (w & ~SHF_REF_MASK) | (odd_number(m) & SHF_REF_MASK));
        }
        break;
    case 2: /* headers of chunks: a list with a loop */
        if ((page = page_of_kind(m, SHF_PAGE_CHUNK)) != 0)
            poke(m, page * 4096 + draw(m, 16) * 4, 4, draw(m, 2) ? page : odd_number(m));
        break;
    case 3: /* headers of records */
        if ((page = page_of_kind(m, SHF_PAGE_CHUNK)) == 0) break;
        for (int i = 0; i < 60; i++) poke(m, page * 4096 + 64 + draw(m, 500) * 8, 4, odd_number(m));
        break;
    case 4:
        if ((page = page_of_kind(m, SHF_PAGE_LARGE)) != 0)
            poke(m, page * 4096 + draw(m, 4) * 8, 8, draw(m, 3) ? odd_number(m) : ~0ull - draw(m, 64));
        break;
    case 5: /* where the next record goes */
        poke(m, s + (draw(m, 2) ? SHARD_FIELD(head) : SHARD_FIELD(chunk_end)), 8,
             draw(m, 2) ? odd_number(m) : peek(m, s + SHARD_FIELD(head)) + 8 * draw(m, 2048) - 8192);
        break;
    case 6: /* the cleaner: its victim, its hand, how much garbage there is; a chunk's dead units */
        poke(m, s + SHARD_FIELD(garbage), 4, draw(m, 2) ? 100000 : odd_number(m));
        if (draw(m, 2))
            poke(m, s + SHARD_FIELD(victim), 4, draw(m, 2) ? page_of_kind(m, SHF_PAGE_CHUNK) : odd_number(m));
        if (draw(m, 2))
            poke(m, s + SHARD_FIELD(predecessor), 4, draw(m, 2) ? page_of_kind(m, SHF_PAGE_CHUNK) : odd_number(m));
        if (draw(m, 2)) poke(m, s + SHARD_FIELD(position), 4, draw(m, 2) ? draw(m, 600) : odd_number(m));
        if (draw(m, 2))
            poke(m, map_word(page_of_kind(m, SHF_PAGE_CHUNK)) + 8, 8, draw(m, 2) ? draw(m, 512) : odd_number(m));
        break;
    }
}
/* Byte offset of a bucket of cells, mostly of a segment; 0 = there is none. */
TEST_FN uint64_t any_bucket(struct hostile_image *m) {
    uint64_t page = page_of_kind(m, SHF_PAGE_SEGMENT);
    return page ? page * 4096 + draw(m, SHF_BUCKETS) * m->x.bucket_bytes : 0;
}
TEST_FN uint64_t cell_offset(struct hostile_image *m, uint64_t bucket, uint64_t i) {
    return bucket + 8 * (m->x.narrow ? i : 2 + (i - 1) * m->x.cell_words);
}
TEST_FN uint64_t redo_record(struct hostile_image *m, uint64_t shard) {
    uint64_t i = (shard - SHF_OBJECT_PAGE * 4096) / sizeof(struct shf_shm_shard);
    return ((uint64_t)SHF_OBJECT_PAGE + SHF_TABLE_PAGES) * 4096 + i * m->x.redo_words * 8;
}
/* Header words, versions, cells, redo records: tables of fixed lengths. */
TEST_FN void edit_cells(struct hostile_image *m) {
    uint64_t s = any_shard(m), bucket = any_bucket(m), page;
    switch (draw(m, 8)) {
    case 0: /* a segment's length */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        poke(m, map_word(page), 4, draw(m, 3) ? 1 + draw(m, 20) : odd_number(m) & 0x3fffffff);
        break;
    case 1: /* a header word */
        poke(m, bucket, 8,
             draw(m, 3) == 0 ? odd_number(m)
             : draw(m, 2)    ? peek(m, bucket) ^ 1ull << draw(m, 64)
                             : test_next(&m->rng));
        break;
    case 2: { /* all tags of a segment are one; all flags set */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        uint64_t tags = draw(m, 256) * 0x0101010101010101u, keep = draw(m, 2) ? 0xff : ~0xffull;
        for (uint64_t b = 0, at = page * 4096; b < SHF_BUCKETS; b++, at += m->x.bucket_bytes)
            poke(m, at, 8, (peek(m, at) & keep) | (tags & ~keep));
        break;
    }
    case 3: /* version words: odd, running over */
        if (!m->x.narrow)
            poke(m, bucket + 8, 8,
                 draw(m, 3)   ? peek(m, bucket + 8) + 1
                 : draw(m, 2) ? ~0ull - draw(m, 3)
                              : odd_number(m));
        break;
    case 4: /* redo records, of a cell or of nothing */
        if (!m->x.redo_words) break;
        for (int i = 0; i < 20; i++, bucket = any_bucket(m), s = any_shard(m)) {
            poke(m, redo_record(m, s), 8, draw(m, 4) ? cell_offset(m, bucket, 1 + draw(m, 7)) / 8 : odd_number(m));
            for (uint64_t w = 1; w < m->x.redo_words; w++)
                if (draw(m, 2)) poke(m, redo_record(m, s) + 8 * w, 8, test_next(&m->rng));
            if (draw(m, 4)) poke(m, bucket + 8, 8, peek(m, bucket + 8) | 1);
        }
        break;
    case 5: /* key bytes, value bytes of a cell */
        poke(m, cell_offset(m, bucket, 1 + draw(m, 7)) + 8 * draw(m, m->x.cell_words), 8, test_next(&m->rng));
        break;
    case 6: /* buckets in other places; cells twice */
        for (int i = 0; i < 20; i++) copy_words(m, any_bucket(m), any_bucket(m), m->x.bucket_bytes);
        break;
    case 7: /* an armed CELL or VALUE step */
        poke(m, s + SHARD_FIELD(cell_word), 8, draw(m, 2) ? peek(m, bucket + 8 * draw(m, 2)) : odd_number(m));
        poke(m, s + SHARD_FIELD(cell_count), 4, draw(m, 2) ? draw(m, 9) : odd_number(m));
        if (m->x.redo_words && draw(m, 2)) poke(m, redo_record(m, s), 8, cell_offset(m, bucket, 1 + draw(m, 7)) / 8);
        arm(m, s, draw(m, 2) ? SHF_STEP_CELL : SHF_STEP_VALUE,
            draw(m, 3) ? (bucket + (draw(m, 4) ? 0 : draw(m, 256))) / 8 : odd_number(m));
        break;
    }
}
TEST_FN void hostile_edit(struct hostile_image *m) {
    if (draw(m, 3))
        edit_common(m);
    else if (m->x.key == 0)
        edit_records(m);
    else
        edit_cells(m);
}
TEST_FN struct hostile_image hostile_image_of(const struct hostile_shape *s, unsigned char *p, size_t size,
                                              uint64_t rng) {
    struct hostile_image m = {p, size, rng, {0}};
    shf__cells_geometry((uint32_t)s->key, (uint32_t)s->value, &m.x);
    return m;
}

/* ---- use ---------------------------------------------------------------------------------------------- */

/* A call's answer: counted, and known. */
TEST_FN int outcome(int rc) {
    CHECK(rc >= SHF_ERR_NO_MEMORY && rc <= SHF_STOPPED);
    hostile_counts->operations++;
    if (rc < 0 && rc >= SHF_ERR_NO_MEMORY) hostile_counts->by_code[-rc]++;
    return rc;
}
struct hostile_update {
    const unsigned char *val;
    size_t len;
    int calls;
};
TEST_FN int hostile_change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct hostile_update *u = context;
    volatile unsigned char sum = 0;
    if (old->data != SHF_ABSENT)
        for (size_t i = 0; i < old->len; i++) sum = (unsigned char)(sum + ((const unsigned char *)old->data)[i]);
    desired->data = u->val, desired->len = u->len;
    return u->calls++ > 100000; /* no end in sight: the watcher shall see another place */
}
#define HOSTILE_BATCH 50u
TEST_FN void use_batch(struct shf_table *t, struct hostile_image *m, const struct hostile_good *g, size_t v) {
    static unsigned char keys_of[HOSTILE_BATCH][HOSTILE_KEY_MAX];
    uint32_t n = 1 + (uint32_t)draw(m, HOSTILE_BATCH), first = (uint32_t)draw(m, HOSTILE_KEYS - HOSTILE_BATCH);
    struct shf_bytes keys[HOSTILE_BATCH];
    struct shf_value out[HOSTILE_BATCH];
    struct shf_pair pairs[HOSTILE_BATCH];
    size_t cap = draw(m, 4) ? v : draw(m, 300), all = n * (size_t)draw(m, 200), lens[HOSTILE_BATCH], done = 0,
           removed = 0;
    unsigned char *vals = test_alloc(n * cap), *packed = test_alloc(all), *val = test_alloc(v);
    memset(val, 'b', v);
    for (uint32_t j = 0; j < n; j++) {
        keys[j] = (struct shf_bytes){
            keys_of[j], hostile_key(&g->shape, draw(m, 8) ? g->number[first + j] : draw(m, 1 << 20), keys_of[j])};
        out[j] = (struct shf_value){vals + j * cap, cap, 0, 0};
        pairs[j] = (struct shf_pair){keys[j], {val, g->shape.key ? v : draw(m, v + 1)}};
    }
    switch (draw(m, shf_table_is_read_only(t) ? 5 : 8)) {
    case 0:
        if (outcome(shf_table_get_many(t, n, keys, out)) == SHF_OK)
            for (uint32_t j = 0; j < n; j++) CHECK(out[j].code != SHF_OK || out[j].len <= cap);
        break;
    case 1: outcome(shf_table_get_many_packed(t, n, keys, packed, all, lens, &done)); break;
    case 2: outcome(shf_table_get_many_by_uid(t, n, g->uid + first, out)); break;
    case 3: outcome(shf_table_get_many_by_uid_packed(t, n, g->uid + first, packed, all, lens, &done)); break;
    case 4:
        outcome(shf_table_get_many_by_checked_uid_packed(t, n, g->checked + first, packed, all, lens, &done));
        break;
    case 5:
    case 6: outcome(shf_table_put_many(t, n, pairs, &done)); break;
    case 7: outcome(shf_table_del_many(t, n / 3, keys, &removed, &done)); break;
    }
    CHECK(done <= n && removed <= n);
    free(vals), free(packed), free(val);
}
/* One call, or some, of any kind. `k` and `v`: the lengths that the table wants (variable: any; v is the longest). */
TEST_FN void use_once(struct shf_table *t, struct hostile_image *m, const struct hostile_good *g,
                      const struct shf_table_options *o, uint64_t *position) {
    static unsigned char key_of_any[HOSTILE_KEY_MAX];
    int variable = o->fixed_key == 0, ro = shf_table_is_read_only(t), known = draw(m, 4) != 0;
    uint32_t i = (uint32_t)draw(m, HOSTILE_KEYS);
    uint64_t number = known ? g->number[i] : draw(m, 1 << 20), len,
             checked = known ? g->checked[i] : test_next(&m->rng);
    uint32_t uid = known ? g->uid[i] : (uint32_t)test_next(&m->rng) & (draw(m, 2) ? ~0u : 0x01ffffffu);
    size_t klen = hostile_key(&g->shape, number, key_of_any), n = 0, kn = 0, v = o->fixed_value;
    if (!variable && klen != o->fixed_key) klen = draw(m, 8) ? o->fixed_key : klen; /* forged lengths: mostly right */
    if (variable) v = draw(m, 4) ? draw(m, 300) : draw(m, 20000);
    unsigned char *key = test_alloc(klen), *val = test_alloc(v), *out = test_alloc(v), *kout = test_alloc(klen);
    memcpy(key, key_of_any, klen);
    memset(val, (int)draw(m, 256), v);
    struct shf_bytes e = {out, v}, d = {val, v};
    struct hostile_update u = {val, v, 0};
    switch (draw(m, ro ? 14 : 36)) {
    case 0:
    case 1:
    case 3:
        if (outcome(shf_table_get(t, key, klen, out, v, &n)) == SHF_OK) CHECK(variable ? n <= v : n == v);
        break;
    case 2: outcome(shf_table_contains(t, key, klen)); break;
    case 4:
        for (int j = 0; j < 60; j++) {
            int rc = outcome(shf_table_next(t, position, kout, klen, &kn, out, v, &n, &uid));
            if (rc == SHF_TRUNCATED)
                (*position)++;
            else if (rc != SHF_OK)
                break;
            else
                CHECK(n <= v && kn <= klen && uid != 0);
        }
        break;
    case 5:
        if (outcome(shf_table_uid(t, key, klen, &uid)) == SHF_OK)
            outcome(shf_table_key_by_uid(t, uid, kout, klen, &kn));
        break;
    case 6:
        if (outcome(shf_table_checked_uid(t, key, klen, &checked)) == SHF_OK)
            outcome(shf_table_key_by_checked_uid(t, checked, kout, klen, &kn));
        break;
    case 7:
    case 8:
        if (outcome(shf_table_get_by_uid(t, uid, out, v, &n)) == SHF_OK) CHECK(n <= v);
        break;
    case 9:
        if (outcome(shf_table_get_by_checked_uid(t, checked, out, v, &n)) == SHF_OK) CHECK(n <= v);
        break;
    case 10: outcome(shf_table_key_by_uid(t, uid, kout, klen, &kn)); break;
    case 11: outcome(shf_table_len(t, &len)); break;
    case 12:
    case 13: use_batch(t, m, g, v); break;
    case 14:
    case 15:
    case 16: outcome(shf_table_put(t, key, klen, val, v, draw(m, 2) ? &uid : NULL)); break;
    case 17: outcome(shf_table_insert(t, key, klen, val, v, &uid)); break;
    case 18: outcome(shf_table_replace(t, key, klen, val, v, out, v, &n)); break;
    case 19:
    case 20: outcome(shf_table_del(t, key, klen)); break;
    case 21: outcome(shf_table_take(t, key, klen, out, v, &n)); break;
    case 22: outcome(shf_table_add(t, key, klen, 1, draw(m, 2) ? (int64_t *)&len : NULL)); break;
    case 23:
    case 24:
        memset(out, 0, v);
        if (shf_table_get(t, key, klen, out, v, &n) == SHF_OK)
            e.len = n;
        else if (draw(m, 2))
            e = (struct shf_bytes){SHF_ABSENT, 0};
        if (draw(m, 4) == 0) d = (struct shf_bytes){SHF_ABSENT, 0};
        outcome(shf_table_cas(t, key, klen, &e, &d, NULL, 0, draw(m, 2) ? &n : NULL));
        break;
    case 25:
        memset(out, 0, v);
        if (shf_table_get(t, key, klen, out, v, &n) != SHF_OK) n = v;
        outcome(shf_table_del_if_equal(t, key, klen, out, n));
        break;
    case 26:
    case 27: outcome(shf_table_update(t, key, klen, hostile_change, &u, &uid)); break;
    case 28:
    case 29: outcome(shf_table_put_by_uid(t, uid, val, v)); break;
    case 30: outcome(shf_table_put_by_checked_uid(t, checked, val, v)); break;
    case 31: outcome(shf_table_del_by_uid(t, uid)); break;
    case 32: outcome(shf_table_del_by_checked_uid(t, checked)); break;
    case 33:
        if (draw(m, 8) == 0) outcome(shf_table_clear(t));
        break;
    case 34: /* on to a split: many new keys, most of them in one shard */
        for (uint32_t j = 0; j < 40; j++) {
            memcpy(key, key_of_any, klen);
            for (size_t b = 0; b < klen && b < 8; b++) key[b] = (unsigned char)test_next(&m->rng);
            if (outcome(shf_table_insert(t, key, klen, val, variable ? v % 64 : v, &uid)) < 0) break;
        }
        break;
    case 35:
        if (draw(m, 8) == 0) outcome(shf_table_collapse(t, &len));
        break;
    }
    CHECK(u.calls <= 100000);
    free(key), free(val), free(out), free(kout);
}
TEST_FN void hostile_check(struct shf_table *t) {
    struct shf_table_report report = {0};
    struct shf_table_stats stats = {0};
    report.size = sizeof report, stats.size = sizeof stats;
    if (outcome(shf_table_check(t, &report)) == SHF_OK)
        hostile_counts->clean++;
    else
        hostile_counts->corrupt++;
    outcome(shf_table_stats(t, &stats));
}
/* A use of the table behind fd; `steps` calls, `batches`: of batches only. Returns the code of opening it. */
TEST_FN int hostile_use(int fd, int read_only, struct hostile_image *m, const struct hostile_good *g, int steps,
                        int batches) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    char path[64];
    o.lock_timeout_ms = HOSTILE_LOCK_MS;
    int mine = -1;
    if (read_only) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fd = mine = open(path, O_RDONLY | O_CLOEXEC);
    }
    int rc = shf_table_from_fd(fd, &o, &t);
    if (mine >= 0) close(mine);
    if (rc != SHF_OK) {
        CHECK(rc < 0 && rc >= SHF_ERR_NO_MEMORY && t == NULL);
        hostile_counts->refused++;
        if (rc < 0 && rc >= SHF_ERR_NO_MEMORY) hostile_counts->by_code[-rc]++;
        return rc;
    }
    hostile_counts->opened++;
    CHECK_EQ_INT(shf_table_options(t, &o), SHF_OK);
    CHECK(o.fixed_key <= SHF_FIXED_MAX && o.fixed_value <= SHF_FIXED_MAX);
    uint64_t position = draw(m, 2) ? 0 : SHF_SHARD_POSITION(draw(m, 12));
    if (draw(m, 4) == 0) hostile_check(t);
    for (int i = 0; i < steps; i++) {
        if (batches)
            use_batch(t, m, g, o.fixed_key != 0 ? o.fixed_value : 300);
        else
            use_once(t, m, g, &o, &position);
    }
    hostile_check(t);
    shf_table_close(t);
    return SHF_OK;
}

/* ---- images, one after the other ----------------------------------------------------------------------- */

struct hostile_run {
    const struct hostile_shape *shapes;
    size_t n;
    void (*edit)(struct hostile_image *m);
    uint64_t edits; /* at most */
    int batches;
    uint64_t images; /* without SHF_IMAGES */
    void (*make)(struct hostile_good *g, struct hostile_shape shape, uint64_t seed); /* NULL: tables */
    int (*use)(int fd, int read_only, struct hostile_image *m, const struct hostile_good *g, int steps, int batches);
    struct hostile_good *good;
    uint64_t first;
};
/* Edits image number n and uses it: to write and read, then read-only, or the other way round. */
TEST_FN void hostile_one(const struct hostile_run *r, uint64_t n) {
    const struct hostile_good *g = &r->good[n % r->n];
    size_t room = g->size + (64 << 10);
    struct hostile_image m = hostile_image_of(&g->shape, calloc(1, room), g->size, test_seed + n * 0x9e3779b97f4a7c15u);
    if (m.p == NULL) abort();
    memcpy(m.p, g->bytes, g->size);
    int fd = hostile_file("", 0, 0);
    struct stat st;
    REQUIRE(fstat(fd, &st) == 0);
    poke(&m, FIELD(shf_shm_header, dev), 8, st.st_dev); /* half of them: a live file after a death, so recovery runs */
    poke(&m, FIELD(shf_shm_header, ino), 8, st.st_ino);
    poke(&m, FIELD(shf_shm_header, dirty), 4, draw(&m, 2));
    uint64_t edits = draw(&m, 3) ? 1 + draw(&m, 4) : 1 + draw(&m, r->edits);
    while (edits-- > 0) r->edit(&m);
    size_t size = m.size, length;
    if (draw(&m, 16) == 0) size = draw(&m, m.size + 1); /* cut off */
    if (draw(&m, 24) == 0) size = draw(&m, m.size / 4096 + 1) * 4096;
    if (draw(&m, 24) == 0) size = room - draw(&m, 4096);    /* too long */
    length = size + (draw(&m, 16) ? 0 : draw(&m, 1 << 22)); /* a hole at the end */
    REQUIRE(write(fd, m.p, size) == (ssize_t)size && ftruncate(fd, (off_t)length) == 0);
    if (draw(&m, 16) == 0) /* a hole in the middle */
        CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(draw(&m, size / 4096 + 1) * 4096),
                        8192) == 0);
    hostile_seal(fd);
    free(m.p);
    m.p = NULL, m.size = 0;
    int order = draw(&m, 8) == 0;
    for (int round = 0; round < 2; round++)
        (r->use ? r->use : hostile_use)(fd, round ^ order, &m, g, round ^ order ? 12 : 32, r->batches);
    close(fd);
}
TEST_FN void hostile_worker(void *arg) {
    const struct hostile_run *r = arg;
    struct rlimit none = {0, 0}, small = {256 << 20, 256 << 20};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &small); /* a forged limit of 2 TiB shall not fill the machine's memory */
    for (uint64_t n = r->first; n <= r->images && __atomic_load_n(test_failures, __ATOMIC_RELAXED) < 20; n++) {
        int before = __atomic_load_n(test_failures, __ATOMIC_RELAXED);
        uint64_t start = test_now_ns(), took;
        hostile_counts->current = n;
        hostile_one(r, n);
        took = test_now_ns() - start;
        if (took > hostile_counts->slowest_ns) {
            hostile_counts->slowest_ns = took;
            hostile_counts->slowest = n;
        }
        if (__atomic_load_n(test_failures, __ATOMIC_RELAXED) != before) FAIL("in image %" PRIu64, n);
    }
}
/* Waits for a child whose `progress` word must move within limit_ms. CHILD_HUNG: it was killed. */
TEST_FN int hostile_watch(pid_t pid, const _Atomic uint64_t *progress, uint64_t limit_ms) {
    uint64_t seen = *progress, since = test_now_ns();
    int status;
    for (;;) {
        pid_t rc = waitpid(pid, &status, WNOHANG);
        if (rc == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_KILLED(WTERMSIG(status));
        if (rc < 0 && errno != EINTR) return CHILD_HUNG;
        if (*progress != seen) seen = *progress, since = test_now_ns();
        if (test_now_ns() - since > limit_ms * 1000000) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return CHILD_HUNG;
        }
        usleep(2000);
    }
}
TEST_FN void hostile_print_codes(void) {
    static const struct {
        int code;
        const char *name;
    } names[] = {{SHF_ERR_CORRUPT, "corrupt"},
                 {SHF_ERR_TIMEOUT, "timeout"},
                 {SHF_ERR_INCOMPATIBLE, "incompatible"},
                 {SHF_ERR_UNCLEAN, "unclean"},
                 {SHF_ERR_BUSY, "busy"},
                 {SHF_ERR_NO_SPACE, "no space"},
                 {SHF_ERR_FULL, "full"},
                 {SHF_ERR_WRONG_LENGTH, "wrong length"},
                 {SHF_ERR_NOT_A_COUNTER, "not a counter"},
                 {SHF_ERR_INVALID, "invalid"}};
    uint64_t rest = 0;
    for (int i = 0; i < 32; i++) rest += hostile_counts->by_code[i];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t n = hostile_counts->by_code[-names[i].code];
        rest -= n;
        if (n) printf("%s %" PRIu64 ", ", names[i].name, n);
    }
    printf("other %" PRIu64 ";", rest);
}
TEST_FN void hostile_begin(void) {
    if (!hostile_counts) hostile_counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(hostile_counts != MAP_FAILED);
}
TEST_FN void hostile_images(struct hostile_run *r) {
    uint64_t crashes = 0, hangs = 0;
    hostile_begin();
    r->good = calloc(r->n, sizeof *r->good);
    for (size_t i = 0; i < r->n; i++) (r->make ? r->make : hostile_make)(&r->good[i], r->shapes[i], test_seed);
    r->images = test_env("SHF_IMAGES", r->images);
    if (getenv("SHF_IMAGE")) {
        hostile_one(r, test_env("SHF_IMAGE", 0));
        r->images = 0;
    }
    for (r->first = 1; r->first <= r->images && crashes + hangs < 10;) {
        int rc = hostile_watch(fork_child(hostile_worker, r), &hostile_counts->current, HANG_MS);
        if (rc == 0 || rc == 98) break;
        uint64_t n = hostile_counts->current;
        if (rc == CHILD_HUNG)
            hangs++;
        else
            crashes++;
        FAIL("image %" PRIu64 ": %s (%d); again: SHF_SEED=%" PRIu64 " SHF_IMAGE=%" PRIu64, n,
             rc == CHILD_HUNG ? "a hang" : "a crash, or a report above", rc, test_seed, n);
        r->first = n + 1;
    }
    printf("# total: %" PRIu64 " edited images: opened %" PRIu64 ", refused %" PRIu64 ", %" PRIu64 " calls; errors: ",
           (uint64_t)hostile_counts->current, (uint64_t)hostile_counts->opened, (uint64_t)hostile_counts->refused,
           (uint64_t)hostile_counts->operations);
    hostile_print_codes();
    printf(" check: %" PRIu64 " clean, %" PRIu64 " not; slowest %.0f ms (%" PRIu64 "); %" PRIu64 " crashes, %" PRIu64
           " hangs\n",
           (uint64_t)hostile_counts->clean, (uint64_t)hostile_counts->corrupt, (double)hostile_counts->slowest_ns / 1e6,
           (uint64_t)hostile_counts->slowest, crashes, hangs);
    for (size_t i = 0; i < r->n; i++) free(r->good[i].bytes);
    free(r->good);
}

#endif
