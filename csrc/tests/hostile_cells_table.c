/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_cells_table.c - edited images of fixed-length tables: opened, read, walked, written, checked; an error or success,
 * never a crash, never a hang
 *
 * As hostile_table.c, with the edits that only these tables have: header words, tags and flags, version words, redo
 * records, CELL and VALUE intents, segments of several pages, lengths in the header that are not the content's (checksum
 * repaired, with and without the object pages that go with them). SHF_IMAGES images (default 2,000); half of them pretend
 * to be a live file after a death, so that recovery runs. SHF_IMAGE=n runs only that one, in this process.
 */
#include "hash.h"
#include "model.h"
#include "table_cells.h"

#include <fcntl.h>
#include <sys/resource.h>

#define KEYS 640u
static const struct shape {
    size_t k, v;
} shapes[] = {{4, 4}, {3, 5}, {12, 8}, {16, 40}, {8, 112}, {9, 9}, {8, 0}};
#define GOOD (sizeof shapes / sizeof *shapes)
static unsigned char *good_image[GOOD];
static size_t good_size[GOOD];
static uint64_t numbers[GOOD][KEYS]; /* fixed_key(numbers) are the keys */

#define FIELD(struct_, field) offsetof(struct struct_, field)
static void repair(void *header) {
    struct shf_shm_header *h = header;
    h->checksum = shf__checksum(h, FIELD(shf_shm_header, checksum));
}
/* Keys of a few shards only, so that the file is small; most of one, so that it has split. */
static void choose_keys(size_t g) {
    struct shf_hash_key hk;
    struct shf_shm_header h;
    int fd = open(temp_path("good"), O_RDONLY);
    REQUIRE(fd >= 0 && read(fd, &h, sizeof h) == sizeof h);
    close(fd);
    shf__hash_key_init(&hk, h.hash, h.seed);
    uint64_t i = 0;
    for (uint32_t n = 0; n < KEYS; i++) {
        unsigned char key[SHF_FIXED_MAX];
        fixed_key(key, shapes[g].k, i);
        uint32_t shard = shf_hash_shard(shf__hash(&hk, key, shapes[g].k));
        if (n < KEYS * 4 / 5 ? shard == 1 : shard < 12) numbers[g][n++] = i;
    }
}
static void make_images(void) {
    for (size_t g = 0; g < GOOD; g++) {
        size_t k = shapes[g].k, v = shapes[g].v;
        unsigned char key[120], val[120];
        struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
        struct shf_table *t = NULL;
        union {
            struct shf_shm_header h;
            unsigned char page[4096];
        } u;
        o.max_bytes = 64 << 20, o.fixed_key = (uint32_t)k, o.fixed_value = (uint32_t)v;
        unlink(temp_path("good"));
        REQUIRE_EQ_INT(shf_table_open(temp_path("good"), SHF_CREATE, &o, &t), SHF_OK);
        shf_table_close(t);
        int fd = open(temp_path("good"), O_RDWR);
        REQUIRE(pread(fd, &u, 4096, 0) == 4096);
        u.h.seed[0] = test_seed, u.h.seed[1] = 1; /* so that everything can be repeated */
        repair(&u);
        REQUIRE(pwrite(fd, &u, 4096, 0) == 4096);
        choose_keys(g);
        t = table_open("good", 0);
        for (uint32_t i = 0; i < KEYS; i++) {
            fixed_key(key, k, numbers[g][i]);
            value_fill(val, v, key, k, 1);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            if (i % 3 == 0) REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            if (i % 11 == 0) REQUIRE_EQ_INT(shf_table_del(t, key, k), SHF_OK);
        }
        if (g % 2) shf_table_close(t), t = NULL; /* else as it is while in use: dirty, a slot in the registry */
        struct stat st;
        fstat(fd, &st);
        good_image[g] = test_alloc(good_size[g] = (size_t)st.st_size);
        REQUIRE(pread(fd, good_image[g], good_size[g], 0) == st.st_size);
        close(fd);
        shf_table_close(t);
    }
}

/* ---- edits ---- */
struct image {
    unsigned char *p;
    size_t size;
    uint64_t rng;
    struct shf_fixed x;
};
static uint64_t draw(struct image *m, uint64_t n) { return test_next(&m->rng) % n; }
static uint64_t odd_number(struct image *m) {
    static const uint64_t odd[] = {0,      1,       2,          7,          8,          63,         64,         255,
                                   256,    4095,    4096,       0x3fff,     0x7fff,     0xffff,     0x10000,    0x7fffffff,
                                   0x80000000, 0xffffffff, 1ull << 32, 1ull << 40, 1ull << 41, 1ull << 62, 1ull << 63, ~0ull};
    switch (draw(m, 6)) {
    case 0: return odd[draw(m, sizeof odd / sizeof *odd)];
    case 1: return odd[draw(m, sizeof odd / sizeof *odd)] - 1;
    case 2: return draw(m, m->size / 4096 + 3);  /* a page */
    case 3: return draw(m, m->size / 8 + 3);     /* a unit */
    case 4: return draw(m, m->size / 8 + 3) * 8; /* an offset */
    default: return test_next(&m->rng) >> draw(m, 64);
    }
}
static void poke(struct image *m, uint64_t offset, unsigned width, uint64_t v) {
    if (offset + width <= m->size) memcpy(m->p + offset, &v, width);
}
static uint64_t peek(struct image *m, uint64_t offset) {
    uint64_t v = 0;
    if (offset + 8 <= m->size) memcpy(&v, m->p + offset, 8);
    return v;
}
static uint64_t page_of_kind(struct image *m, enum shf_page_state state) {
    uint64_t start = draw(m, 256);
    for (uint64_t i = 0; i < 256; i++) {
        uint64_t page = (start + i) % 256;
        if (shf_page_state(peek(m, (uint64_t)SHF_MAP_PAGE * 4096 + page * 16)) == state) return page;
    }
    return 0;
}
static uint64_t any_shard(struct image *m) { /* mostly the one with most keys */
    uint64_t i = draw(m, 3) ? 1 : draw(m, draw(m, 4) ? 12 : SHF_SHARD_COUNT);
    return (uint64_t)SHF_OBJECT_PAGE * 4096 + i % SHF_SHARD_COUNT * sizeof(struct shf_shm_shard);
}
static uint32_t lock_word(struct image *m) {
    uint32_t slot = (uint32_t)draw(m, 4), generation = (uint32_t)draw(m, 4);
    if (draw(m, 3) == 0) slot = (uint32_t)draw(m, 1024), generation = (uint32_t)draw(m, 1 << 20);
    return (slot << 20 | generation) << 2 | (uint32_t)draw(m, 4);
}
/* Byte offset of a bucket, mostly of a segment; 0 = there is none. */
static uint64_t any_bucket(struct image *m) {
    uint64_t page = page_of_kind(m, SHF_PAGE_SEGMENT);
    return page ? page * 4096 + draw(m, SHF_BUCKETS) * m->x.bucket_bytes : 0;
}
static uint64_t cell_offset(struct image *m, uint64_t bucket, uint64_t i) {
    return bucket + 8 * (m->x.narrow ? i : 2 + (i - 1) * m->x.cell_words);
}
static uint64_t redo_record(struct image *m, uint64_t shard) {
    uint64_t i = (shard - (uint64_t)SHF_OBJECT_PAGE * 4096) / sizeof(struct shf_shm_shard);
    return ((uint64_t)SHF_OBJECT_PAGE + SHF_TABLE_PAGES) * 4096 + i * m->x.redo_words * 8;
}
static uint64_t page_word(struct image *m) {
    uint32_t length = (uint32_t)(draw(m, 3) ? 1 + draw(m, 20) : odd_number(m));
    uint32_t owner = (uint32_t)(draw(m, 2) ? draw(m, SHF_SHARD_COUNT) : odd_number(m));
    return shf_page_word((enum shf_page_state)draw(m, draw(m, 8) ? 12 : 16), owner & 0x3fffffff, length & 0x3fffffff);
}
/* The lengths in the header, with a checksum that is right. */
static void other_lengths(struct image *m) {
    struct shf_shm_header *h = (struct shf_shm_header *)(void *)m->p;
    switch (draw(m, 4)) {
    case 0: h->fixed_key = (uint32_t)draw(m, 130), h->fixed_value = (uint32_t)draw(m, 130); break;
    case 1: h->fixed_key = (uint32_t)odd_number(m), h->fixed_value = (uint32_t)odd_number(m); break;
    case 2: h->fixed_key = h->fixed_value = 0; break; /* a variable one all at once */
    default: h->fixed_key = m->x.key + (uint32_t)draw(m, 3) - 1, h->fixed_value = m->x.value + (uint32_t)draw(m, 3) - 1;
    }
    if (draw(m, 2)) h->object_pages = shf__cells_object_pages(h->fixed_key, h->fixed_value); /* 0: cannot be */
    else if (draw(m, 2)) h->object_pages = (uint32_t)odd_number(m);
    repair(h);
}
static void arm(struct image *m, uint64_t s, uint64_t op, uint64_t units) {
    poke(m, s, 4, lock_word(m));
    poke(m, s + FIELD(shf_shm_shard, arm), 8, op << 56 | (units & ((1ull << 56) - 1)));
}
static void edit(struct image *m) {
    uint64_t s = any_shard(m), bucket = any_bucket(m), page;
    switch (draw(m, 26)) {
    case 0: poke(m, draw(m, m->size), 1, draw(m, 256)); break;
    case 1: poke(m, draw(m, m->size / 8) * 8, 8, odd_number(m)); break;
    case 2: poke(m, draw(m, 43 * 4096 / 4) * 4, 4, odd_number(m)); break; /* the fixed pages */
    case 3: poke(m, 128 + draw(m, 48) * 4, 4, odd_number(m)); break;      /* the mutable header */
    case 4: other_lengths(m); break;
    case 5: poke(m, FIELD(shf_shm_header, end), 8, draw(m, 2) ? odd_number(m) : odd_number(m) * 4096); break;
    case 6: poke(m, (uint64_t)SHF_MAP_PAGE * 4096 + draw(m, 256) * 16, 8, page_word(m)); break;
    case 7: /* a segment's length */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        poke(m, (uint64_t)SHF_MAP_PAGE * 4096 + page * 16, 4, draw(m, 3) ? 1 + draw(m, 20) : odd_number(m) & 0x3fffffff);
        break;
    case 8: poke(m, s + draw(m, 64) * 4, 4, odd_number(m)); break; /* any field of a shard */
    case 9: poke(m, s, 4, lock_word(m)); break;
    case 10: poke(m, FIELD(shf_shm_header, grow_word) + (draw(m, 2) ? 56 : 0), 4, lock_word(m)); break;
    case 11: /* a header word */
        poke(m, bucket, 8, draw(m, 3) == 0 ? odd_number(m) : draw(m, 2) ? peek(m, bucket) ^ 1ull << draw(m, 64) : test_next(&m->rng));
        break;
    case 12: /* all tags of a segment are one; all flags set */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        uint64_t tags = draw(m, 256) * 0x0101010101010101u, keep = draw(m, 2) ? 0xff : ~0xffull;
        for (uint64_t b = 0; b < SHF_BUCKETS; b++) {
            uint64_t at = page * 4096 + b * m->x.bucket_bytes;
            poke(m, at, 8, (peek(m, at) & keep) | (tags & ~keep));
        }
        break;
    case 13: /* version words: odd, running over */
        if (m->x.narrow) break;
        poke(m, bucket + 8, 8, draw(m, 3) ? peek(m, bucket + 8) + 1 : draw(m, 2) ? ~0ull - draw(m, 3) : odd_number(m));
        break;
    case 14: /* a redo record, of a cell or of nothing */
        if (!m->x.redo_words) break;
        poke(m, redo_record(m, s), 8, draw(m, 2) ? cell_offset(m, bucket, 1 + draw(m, 7)) / 8 : odd_number(m));
        for (uint64_t w = 1; w < m->x.redo_words; w++)
            if (draw(m, 2)) poke(m, redo_record(m, s) + 8 * w, 8, test_next(&m->rng));
        if (draw(m, 2)) poke(m, bucket + 8, 8, peek(m, bucket + 8) | 1);
        break;
    case 15: /* key bytes, value bytes of a cell */
        poke(m, cell_offset(m, bucket, 1 + draw(m, 7)) + 8 * draw(m, m->x.cell_words), 8, test_next(&m->rng));
        break;
    case 16: { /* a bucket in another's place; a cell twice */
        uint64_t from = any_bucket(m);
        if (bucket == 0 || from == 0 || bucket + m->x.bucket_bytes > m->size || from + m->x.bucket_bytes > m->size) break;
        memcpy(m->p + bucket, m->p + from, m->x.bucket_bytes);
        break;
    }
    case 17: /* an armed CELL or VALUE step */
        arm(m, s, draw(m, 2) ? SHF_STEP_CELL : SHF_STEP_VALUE, draw(m, 3) ? (bucket + (draw(m, 4) ? 0 : draw(m, 256))) / 8 : odd_number(m));
        poke(m, s + FIELD(shf_shm_shard, cell_word), 8, draw(m, 2) ? peek(m, bucket + 8 * draw(m, 2)) : odd_number(m));
        poke(m, s + FIELD(shf_shm_shard, cell_count), 4, draw(m, 2) ? draw(m, 9) : odd_number(m));
        if (m->x.redo_words && draw(m, 2)) poke(m, redo_record(m, s), 8, cell_offset(m, bucket, 1 + draw(m, 7)) / 8);
        break;
    case 18: /* any other armed step, fields that look right */
        for (uint64_t at = 64; at < 128; at += 4) poke(m, s + at, 4, draw(m, 3) ? draw(m, m->size / 4096 + 2) : odd_number(m));
        if ((page = page_of_kind(m, draw(m, 2) ? SHF_PAGE_SEGMENT : SHF_PAGE_DIRECTORY)) != 0) {
            poke(m, s + (draw(m, 2) ? FIELD(shf_shm_shard, arg0) : FIELD(shf_shm_shard, new_run)), 4, page + (draw(m, 4) ? 0 : draw(m, 16)));
            if (draw(m, 2)) poke(m, s + FIELD(shf_shm_shard, old_run), 4, page);
        }
        if (draw(m, 2)) { /* a split of two entries */
            poke(m, s + FIELD(shf_shm_shard, arg1), 4, draw(m, 9)), poke(m, s + FIELD(shf_shm_shard, new_count), 4, draw(m, 9));
            poke(m, s + FIELD(shf_shm_shard, new_dead), 4, draw(m, 17));
        }
        arm(m, s, draw(m, 2) ? SHF_STEP_SPLIT : 1 + draw(m, 15), draw(m, 2) ? page * 512 : odd_number(m));
        break;
    case 19: poke(m, s + FIELD(shf_shm_shard, run), 4, draw(m, 2) ? page_of_kind(m, SHF_PAGE_SEGMENT) : odd_number(m)), poke(m, s, 4, lock_word(m)); break;
    case 20: poke(m, s + FIELD(shf_shm_shard, directory), 8, draw(m, 2) ? odd_number(m) : draw(m, m->size / 4096 + 2) * 4096 | draw(m, 16)); break;
    case 21: /* an entry: into the middle of a segment, so that the last page is outside, anything */
        poke(m, s + FIELD(shf_shm_shard, entries) + draw(m, 8) * 4, 4,
             draw(m, 3) == 0 ? odd_number(m) : draw(m, 2) ? m->size / 4096 - draw(m, 17) : page_of_kind(m, SHF_PAGE_SEGMENT) + draw(m, 16));
        break;
    case 22: /* entries of a directory array */
        if ((page = page_of_kind(m, SHF_PAGE_DIRECTORY)) != 0) poke(m, page * 4096 + draw(m, 64) * 4, 4, odd_number(m));
        break;
    case 23: poke(m, 4096 + draw(m, 4) * 32 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the registry's first slots */
    case 24: /* a page in another's place */
        if (m->size >= 40 * 4096) {
            uint64_t to = 15 + draw(m, m->size / 4096 - 15), from = 15 + draw(m, m->size / 4096 - 15);
            memcpy(m->p + to * 4096, m->p + from * 4096, 4096);
        }
        break;
    case 25: /* what clear leaves */
        for (uint64_t at = FIELD(shf_shm_shard, grave_directory); at < sizeof(struct shf_shm_shard); at += 4)
            if (draw(m, 2)) poke(m, s + at, 4, draw(m, 2) ? draw(m, m->size / 4096 + 2) : odd_number(m));
        poke(m, s + FIELD(shf_shm_shard, grave_full), 4, 1);
        break;
    }
}
static size_t good_of(uint64_t n) { return (size_t)(n % GOOD); }
/* Writes image number n. */
static void forge(uint64_t n, const char *path) {
    size_t g = good_of(n);
    struct image m = {NULL, good_size[g], test_seed + n * 0x9e3779b97f4a7c15u, {0}};
    size_t room = m.size + (1 << 20);
    shf__cells_geometry((uint32_t)shapes[g].k, (uint32_t)shapes[g].v, &m.x);
    m.p = calloc(1, room);
    memcpy(m.p, good_image[g], m.size);
    int live = (int)draw(&m, 2);
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct stat st;
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    poke(&m, FIELD(shf_shm_header, dev), 8, st.st_dev);
    poke(&m, FIELD(shf_shm_header, ino), 8, st.st_ino);
    poke(&m, FIELD(shf_shm_header, dirty), 4, (uint64_t)live);
    uint64_t edits = draw(&m, 3) ? 1 + draw(&m, 4) : 1 + draw(&m, 64);
    for (uint64_t i = 0; i < edits; i++) edit(&m);
    size_t size = m.size;
    if (draw(&m, 16) == 0) size = draw(&m, m.size / 4096 + 1) * 4096; /* cut off */
    if (draw(&m, 32) == 0) size = room - draw(&m, 4096);              /* too long */
    REQUIRE(write(fd, m.p, size) == (ssize_t)size);
    if (draw(&m, 16) == 0)
        CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(draw(&m, size / 4096 + 1) * 4096), 8192) == 0);
    close(fd);
    free(m.p);
}

/* ---- use ---- */
struct update {
    const unsigned char *val;
    size_t len;
};
static int change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct update *u = context;
    volatile unsigned char sum = 0;
    if (old->data != SHF_ABSENT)
        for (size_t i = 0; i < old->len; i++) sum = (unsigned char)(sum + ((const unsigned char *)old->data)[i]);
    desired->data = u->val, desired->len = u->len;
    return 0;
}
static _Atomic uint64_t *counts; /* opened, refused, corrupt seen, clean after all */
static void use(struct shf_table *t, struct image *m, size_t g) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    CHECK_EQ_INT(shf_table_options(t, &o), SHF_OK);
    int variable = o.fixed_key == 0, ro = shf_table_is_read_only(t);
    size_t k = variable ? shapes[g].k : o.fixed_key, v = variable ? shapes[g].v : o.fixed_value, n, kn;
    uint32_t uid = 0;
    uint64_t len, checked, position = draw(m, 2) ? 0 : SHF_SHARD_POSITION(draw(m, 256));
    struct shf_table_stats stats = {0};
    struct shf_table_report report = {0};
    CHECK(k >= 1 && k <= SHF_FIXED_MAX && v <= SHF_FIXED_MAX);
    stats.size = sizeof stats, report.size = sizeof report;
    if (draw(m, 2) == 0 && shf_table_check(t, &report) != SHF_OK) counts[2]++;
    if (draw(m, 2) == 0) shf_table_stats(t, &stats);
    for (int i = 0; i < 60; i++) {
        /* exactly as long as they may be: the sanitizer sees one byte more */
        unsigned char *key = test_alloc(k), *val = test_alloc(v), *out = test_alloc(v), *kout = test_alloc(k);
        fixed_key(key, k, draw(m, 4) ? numbers[g][draw(m, KEYS)] : test_next(&m->rng));
        memset(val, (int)draw(m, 256), v);
        struct shf_bytes e = {out, v}, d = {val, v}, kb = {key, k}, three[3] = {kb, kb, kb};
        struct shf_value values[3] = {{out, v, 0, 0}, {out, v, 0, 0}, {NULL, 0, 0, 0}};
        struct shf_pair pairs[2] = {{kb, d}, {kb, d}};
        struct update u = {val, v};
        n = 0;
        switch (draw(m, ro ? 8 : 22)) {
        case 0:
        case 1:
            if (shf_table_get(t, key, k, out, v, &n) == SHF_OK && !variable) CHECK_EQ_INT(n, v);
            break;
        case 2:
            for (int j = 0; j < 200; j++) {
                int rc = shf_table_next(t, &position, kout, k, &kn, out, v, &n, &uid);
                if (rc == SHF_TRUNCATED) position++;
                if (rc != SHF_OK && rc != SHF_TRUNCATED) break;
                if (rc == SHF_OK && !variable) CHECK(n == v && kn == k && uid != 0);
            }
            break;
        case 3:
            if (shf_table_uid(t, key, k, &uid) == SHF_OK) shf_table_key_by_uid(t, uid, kout, k, &n);
            break;
        case 4: shf_table_get_by_uid(t, (uint32_t)test_next(&m->rng) & (draw(m, 2) ? ~0u : 0x01ffffffu), out, v, &n); break;
        case 5: shf_table_len(t, &len); break;
        case 6: shf_table_get_many(t, 3, three, values); break;
        case 7:
            if (shf_table_checked_uid(t, key, k, &checked) == SHF_OK) shf_table_get_by_checked_uid(t, checked, out, v, &n);
            break;
        case 8:
        case 9:
        case 10: shf_table_put(t, key, k, val, v, NULL); break;
        case 11: shf_table_del(t, key, k); break;
        case 12: shf_table_take(t, key, k, out, v, &n); break;
        case 13: shf_table_add(t, key, k, 1, NULL); break;
        case 14:
            memset(out, 0, v), shf_table_get(t, key, k, out, v, &n);
            shf_table_cas(t, key, k, &e, &d, NULL, 0, NULL);
            break;
        case 15: shf_table_update(t, key, k, change, &u, NULL); break;
        case 16: shf_table_replace(t, key, k, val, v, out, v, &n); break;
        case 17: shf_table_put_by_uid(t, (uint32_t)test_next(&m->rng) & (draw(m, 2) ? ~0u : 0x01ffffffu), val, v); break;
        case 18: shf_table_put_many(t, 2, pairs, &n); break;
        case 19: shf_table_del_many(t, 2, three, &n, NULL); break;
        case 20:
            if (draw(m, 8) == 0) shf_table_clear(t);
            break;
        case 21:
            for (uint32_t j = 0; j < 300 && draw(m, 4) == 0; j++) { /* on to a split */
                fixed_key(key, k, test_next(&m->rng));
                if (shf_table_insert(t, key, k, val, v, &uid) < 0) break;
            }
            break;
        }
        free(key), free(val), free(out), free(kout);
    }
    if (shf_table_check(t, &report) == SHF_OK)
        counts[3]++;
    else
        counts[2]++;
    shf_table_stats(t, &stats);
    shf_table_len(t, &len);
}
static char image_path[192];
static void victim(void *arg) {
    uint64_t n = *(uint64_t *)arg;
    struct image m = {NULL, 0, test_seed ^ n, {0}};
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int round = 0; round < 2; round++) {
        struct shf_table *t = NULL;
        o.lock_timeout_ms = 5;
        int rc = shf_table_open(image_path, (round ^ (n / GOOD % 8 == 0)) ? SHF_RDONLY : 0, &o, &t);
        if (rc != SHF_OK) {
            CHECK(rc < 0 && t == NULL);
            counts[1]++;
            continue;
        }
        counts[0]++;
        use(t, &m, good_of(n));
        shf_table_close(t);
    }
}
static void keep(uint64_t n) {
    char to[128];
    snprintf(to, sizeof to, "/dev/shm/shf-hostile-cells-%llu-%llu", (unsigned long long)test_seed, (unsigned long long)n);
    forge(n, to);
    FAIL("image %llu (%zu, %zu); kept, unused, as %s; again: SHF_SEED=%llu SHF_IMAGE=%llu", (unsigned long long)n,
         shapes[good_of(n)].k, shapes[good_of(n)].v, to, (unsigned long long)test_seed, (unsigned long long)n);
}
TEST(edited_images) {
    int limit = TEST_SANITIZED ? 10000 : 2000, bad = 0;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make_images();
    snprintf(image_path, sizeof image_path, "%s", temp_path("image"));
    uint64_t n = test_env("SHF_IMAGE", 0), slowest = 0, slow = 0;
    if (getenv("SHF_IMAGE")) {
        forge(n, image_path);
        victim(&n);
        return;
    }
    for (n = 1; n <= test_env("SHF_IMAGES", 2000) && bad < 10; n++) {
        forge(n, image_path);
        uint64_t start = test_now_ns();
        int rc = run_child(victim, &n, limit);
        uint64_t took = test_now_ns() - start;
        if (took > slowest) slowest = took, slow = n;
        if (rc == 0) continue;
        bad++;
        if (rc > 1000) FAIL("a signal: %d", rc - 1000);
        if (rc > 0 && rc < 1000) FAIL("exit %d (1: a sanitizer's report above)", rc);
        keep(n);
    }
    printf("# %llu images: opened %llu, refused %llu; check said corrupt %llu, clean %llu; slowest %.0f ms (%llu)\n",
           (unsigned long long)n - 1, (unsigned long long)counts[0], (unsigned long long)counts[1],
           (unsigned long long)counts[2], (unsigned long long)counts[3], (double)slowest / 1e6, (unsigned long long)slow);
    for (size_t g = 0; g < GOOD; g++) free(good_image[g]);
}

int main(int argc, char **argv) { return run(argc, argv); }
