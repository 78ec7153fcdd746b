/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_table.c - edited images: opened, read, written, checked; an error or success, never a crash, never a hang
 *
 * SHF_IMAGES images (default 2,000), each from one of three good ones by the seed and its number: random bytes, forged
 * fields, page words, slots, records, intents, locks, lists with loops, cut and sparse files, header fields with the
 * checksum repaired. Half of them pretend to be a live file after a death (dirty, same inode), so that recovery runs.
 * A child uses it; a signal, a hang or a sanitizer's report fails, and the image is kept under /dev/shm with its
 * number. SHF_IMAGE=n runs only that one, in this process (for a debugger). Meant for ASan + UBSan.
 */
#include "hash.h"
#include "layout.h"
#include "model.h"

#include <fcntl.h>
#include <sys/resource.h>

#define KEYS 900u
#define GOOD 3
static unsigned char *good_image[GOOD];
static size_t good_size[GOOD];

#define FIELD(struct_, field) offsetof(struct struct_, field)
static size_t value_length(uint64_t i) { return i % 61 == 0 ? 9000 + i * 10 : i % 7 == 0 ? 8 : i % 200; }
static void make_images(void) {
    static unsigned char val[40000];
    for (int g = 0; g < GOOD; g++) {
        struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
        struct shf_table *t = NULL;
        char key[24];
        o.max_bytes = 64 << 20;
        unlink(temp_path("good"));
        REQUIRE_EQ_INT(shf_table_open(temp_path("good"), SHF_CREATE, &o, &t), SHF_OK);
        shf_table_close(t);
        union {
            struct shf_shm_header h;
            unsigned char page[4096];
        } u;
        int hfd = open(temp_path("good"), O_RDWR);
        REQUIRE(pread(hfd, &u, 4096, 0) == 4096);
        u.h.seed[0] = test_seed, u.h.seed[1] = 1; /* so that everything can be repeated */
        u.h.checksum = shf__checksum(&u, FIELD(shf_shm_header, checksum));
        REQUIRE(pwrite(hfd, &u, 4096, 0) == 4096);
        close(hfd);
        REQUIRE_EQ_INT(shf_table_open(temp_path("good"), 0, NULL, &t), SHF_OK);
        for (uint64_t i = 0; g > 0 && i < (g == 1 ? 200u : KEYS); i++) {
            size_t klen = key_of(key, i), vlen = value_length(i);
            value_fill(val, vlen, key, klen, 1);
            REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, vlen, NULL), SHF_OK);
            if (i % 3 == 0) REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, vlen / 2, NULL), SHF_OK); /* garbage */
            if (i % 11 == 0) REQUIRE_EQ_INT(shf_table_del(t, key, klen), SHF_OK);
        }
        struct stat st;
        if (g == 1) { /* as it is while in use: dirty, a slot in the registry */
            fstat(shf_table_fd(t), &st);
            good_image[g] = test_alloc(good_size[g] = (size_t)st.st_size);
            REQUIRE(pread(shf_table_fd(t), good_image[g], good_size[g], 0) == st.st_size);
            shf_table_close(t);
            continue;
        }
        shf_table_close(t);
        int fd = open(temp_path("good"), O_RDONLY);
        fstat(fd, &st);
        good_image[g] = test_alloc(good_size[g] = (size_t)st.st_size);
        REQUIRE(read(fd, good_image[g], good_size[g]) == st.st_size);
        close(fd);
    }
}

/* ---- edits ---- */
struct image {
    unsigned char *p;
    size_t size, room;
    uint64_t rng;
};
static uint64_t draw(struct image *m, uint64_t n) { return test_next(&m->rng) % n; }
static uint64_t odd_number(struct image *m) {
    static const uint64_t odd[] = {0,          1,          2,          7,          8,          63,         64,        255,
                                   256,        4095,       4096,       0x3fff,     0x7fff,     0xffff,     0x10000,   0x7fffffff,
                                   0x80000000, 0xffffffff, 1ull << 32, 1ull << 40, 1ull << 41, 1ull << 62, 1ull << 63, ~0ull};
    switch (draw(m, 6)) {
    case 0: return odd[draw(m, sizeof odd / sizeof *odd)];
    case 1: return odd[draw(m, sizeof odd / sizeof *odd)] - 1;
    case 2: return draw(m, m->size / 4096 + 3);    /* a page */
    case 3: return draw(m, m->size / 8 + 3);       /* a unit */
    case 4: return draw(m, m->size / 8 + 3) * 8;   /* an offset */
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
static uint64_t any_shard(struct image *m) {
    return (uint64_t)SHF_OBJECT_PAGE * 4096 + draw(m, SHF_SHARD_COUNT) * sizeof(struct shf_shm_shard);
}
static uint32_t lock_word(struct image *m) {
    uint32_t slot = (uint32_t)draw(m, 4), generation = (uint32_t)draw(m, 4);
    if (draw(m, 3) == 0) slot = (uint32_t)draw(m, 1024), generation = (uint32_t)draw(m, 1 << 20);
    return (slot << 20 | generation) << 2 | (uint32_t)draw(m, 4);
}
/* A page in the given state, by the map (only the first map page, pages 0..255); 0 = none found. */
static uint64_t page_of_kind(struct image *m, enum shf_page_state state) {
    uint64_t start = draw(m, 256);
    for (uint64_t i = 0; i < 256; i++) {
        uint64_t page = (start + i) % 256;
        if (shf_page_state(peek(m, (uint64_t)SHF_MAP_PAGE * 4096 + page * 16)) == state) return page;
    }
    return 0;
}
static uint64_t page_word(struct image *m) {
    uint32_t length = (uint32_t)(draw(m, 3) ? 1 + draw(m, 20) : odd_number(m));
    uint32_t owner = (uint32_t)(draw(m, 2) ? draw(m, SHF_SHARD_COUNT) : odd_number(m));
    return shf_page_word((enum shf_page_state)draw(m, draw(m, 8) ? 12 : 16), owner & 0x3fffffff, length & 0x3fffffff);
}
static void edit(struct image *m) {
    uint64_t s = any_shard(m), page;
    switch (draw(m, 24)) {
    case 0: poke(m, draw(m, m->size), 1, draw(m, 256)); break;
    case 1: poke(m, draw(m, m->size / 8) * 8, 8, odd_number(m)); break;
    case 2: poke(m, draw(m, 31 * 4096 / 4) * 4, 4, odd_number(m)); break;                     /* the fixed pages */
    case 3: poke(m, 128 + draw(m, 48) * 4, 4, odd_number(m)); break;                          /* the mutable header */
    case 4:                                                                                   /* the other one, checksum repaired */
        poke(m, draw(m, 30) * 4, 4, odd_number(m));
        poke(m, FIELD(shf_shm_header, checksum), 8, shf__checksum(m->p, FIELD(shf_shm_header, checksum)));
        break;
    case 5: poke(m, FIELD(shf_shm_header, end), 8, draw(m, 2) ? odd_number(m) : odd_number(m) * 4096); break;
    case 6: poke(m, (uint64_t)SHF_MAP_PAGE * 4096 + draw(m, 256) * 16, 8, page_word(m)); break;
    case 7: poke(m, (uint64_t)SHF_ROOT_PAGE * 4096 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the page map's tables */
    case 8: poke(m, (uint64_t)SHF_MIDDLE_PAGE * 4096 + draw(m, 8) * 4, 4, odd_number(m)); break;
    case 9: poke(m, s + draw(m, 64) * 4, 4, odd_number(m)); break; /* any field of a shard */
    case 10: poke(m, s, 4, lock_word(m)); break;
    case 11: poke(m, FIELD(shf_shm_header, grow_word) + (draw(m, 2) ? 56 : 0), 4, lock_word(m)); break;
    case 12: /* an armed intent, with fields that look right */
        poke(m, s, 4, lock_word(m));
        for (uint64_t at = 72; at < 128; at += 4) poke(m, s + at, 4, draw(m, 3) ? draw(m, m->size / 4096 + 2) : odd_number(m));
        if (draw(m, 2)) poke(m, s + FIELD(shf_shm_shard, new_word), 8, odd_number(m));
        if (draw(m, 2)) poke(m, s + FIELD(shf_shm_shard, new_head), 8, odd_number(m));
        if ((page = page_of_kind(m, draw(m, 2) ? SHF_PAGE_SEGMENT : SHF_PAGE_CHUNK)) != 0) {
            poke(m, s + (draw(m, 2) ? FIELD(shf_shm_shard, arg0) : FIELD(shf_shm_shard, new_run)), 4, page);
            if (draw(m, 2)) poke(m, s + FIELD(shf_shm_shard, old_run), 4, page);
        }
        poke(m, s + FIELD(shf_shm_shard, arm), 8,
             (1 + draw(m, 12)) << 56 | (page ? page * 512 + draw(m, 512) : odd_number(m) & ((1ull << 40) - 1)) << 16 | draw(m, 65536));
        break;
    case 13: poke(m, s + FIELD(shf_shm_shard, run), 4, odd_number(m)), poke(m, s, 4, lock_word(m)); break;
    case 14: poke(m, s + FIELD(shf_shm_shard, directory), 8, draw(m, 70) << 32 | (draw(m, 2) ? draw(m, 70) : 0)); break;
    case 15: poke(m, s + FIELD(shf_shm_shard, entries) + draw(m, 8) * 4, 4, odd_number(m)); break;
    case 16: /* a slot of a segment: flipped, copied, random */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        uint64_t a = page * 4096 + draw(m, 512) * 8, b = page * 4096 + draw(m, 512) * 8;
        poke(m, a, 8, draw(m, 3) == 0 ? peek(m, b) : draw(m, 2) ? peek(m, a) ^ 1ull << draw(m, 64) : odd_number(m));
        break;
    case 17: /* every slot of a segment points somewhere else */
        if ((page = page_of_kind(m, SHF_PAGE_SEGMENT)) == 0) break;
        for (uint64_t i = 0; i < 512; i++) {
            uint64_t w = peek(m, page * 4096 + i * 8);
            if (w & ((1ull << 38) - 1))
                poke(m, page * 4096 + i * 8, 8, (w & ~((1ull << 38) - 1)) | (odd_number(m) & ((1ull << 38) - 1)));
        }
        break;
    case 18: /* headers of records and of chunks */
        if ((page = page_of_kind(m, SHF_PAGE_CHUNK)) == 0) break;
        if (draw(m, 2))
            poke(m, page * 4096 + draw(m, 16) * 4, 4, draw(m, 2) ? page : odd_number(m)); /* a list with a loop */
        else
            for (int i = 0; i < 60; i++) poke(m, page * 4096 + 64 + draw(m, 500) * 8, 4, odd_number(m));
        break;
    case 19:
        if ((page = page_of_kind(m, SHF_PAGE_LARGE)) == 0) break;
        poke(m, page * 4096 + draw(m, 4) * 8, 8, draw(m, 3) ? odd_number(m) : ~0ull - draw(m, 64));
        break;
    case 20: poke(m, 4096 + draw(m, 4) * 32 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the registry's first slots */
    case 21: poke(m, (uint64_t)SHF_HINTS_PAGE * 4096 + draw(m, 2048) * 4, 4, odd_number(m)); break;
    case 22: /* a page in another's place */
        if (m->size >= 40 * 4096) {
            uint64_t to = 15 + draw(m, m->size / 4096 - 15), from = 15 + draw(m, m->size / 4096 - 15);
            memcpy(m->p + to * 4096, m->p + from * 4096, 4096);
        }
        break;
    case 23: /* what clear leaves */
        for (uint64_t at = FIELD(shf_shm_shard, grave_directory); at <= FIELD(shf_shm_shard, grave_full); at += 4)
            if (draw(m, 2)) poke(m, s + at, 4, draw(m, 2) ? draw(m, m->size / 4096 + 2) : odd_number(m));
        poke(m, s + FIELD(shf_shm_shard, grave_full), 4, 1);
        break;
    }
}
/* Writes image number n. */
static void forge(uint64_t n, const char *path) {
    uint64_t seed = test_seed + n * 0x9e3779b97f4a7c15u;
    struct image m = {NULL, 0, 0, seed};
    int g = (int)draw(&m, 8) == 0 ? 0 : (int)(1 + draw(&m, 2));
    m.size = good_size[g], m.room = m.size + (1 << 20);
    m.p = calloc(1, m.room);
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
    if (draw(&m, 12) == 0) size = draw(&m, m.size);                    /* cut off */
    if (draw(&m, 24) == 0) size = draw(&m, m.size / 4096 + 1) * 4096;
    if (draw(&m, 24) == 0) size = m.room - draw(&m, 4096);             /* too long */
    REQUIRE(write(fd, m.p, size) == (ssize_t)size);
    if (draw(&m, 16) == 0) CHECK(ftruncate(fd, (off_t)(size + draw(&m, 1 << 22))) == 0); /* sparse */
    if (draw(&m, 16) == 0)
        CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(draw(&m, size / 4096 + 1) * 4096), 8192) == 0);
    close(fd);
    free(m.p);
}

/* ---- use ---- */
static int change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)context;
    volatile unsigned char sum = 0;
    if (old->data != SHF_ABSENT)
        for (size_t i = 0; i < old->len; i++) sum = (unsigned char)(sum + ((const unsigned char *)old->data)[i]);
    desired->data = "changed", desired->len = 7;
    return 0;
}
static _Atomic uint64_t *counts; /* outcomes: opened, refused, corrupt seen, clean after all */
static void use(struct shf_table *t, struct image *m) {
    char key[24];
    size_t n, kn;
    uint32_t uid;
    uint64_t len, position = draw(m, 2) ? 0 : SHF_SHARD_POSITION(draw(m, 256));
    int ro = shf_table_is_read_only(t), steps = 60;
    struct shf_table_stats stats = {0};
    struct shf_table_report report = {0};
    stats.size = sizeof stats, report.size = sizeof report;
    if (draw(m, 2) == 0 && shf_table_check(t, &report) != SHF_OK) counts[2]++;
    if (draw(m, 2) == 0) shf_table_stats(t, &stats);
    for (int i = 0; i < steps; i++) {
        uint64_t k = draw(m, KEYS + 50);
        size_t klen = key_of(key, k), cap = draw(m, 4) ? 300 : 20000;
        unsigned char *buf = test_alloc(cap), *val = test_alloc(cap);
        memset(val, 'v', cap);
        struct shf_bytes e = {val, draw(m, 200)}, d = {val, draw(m, cap)};
        switch (draw(m, ro ? 6 : 18)) {
        case 0:
        case 1:
            n = 0;
            if (shf_table_get(t, key, klen, buf, cap, &n) == SHF_OK) CHECK(n <= cap);
            break;
        case 2:
            for (int j = 0; j < 200; j++) {
                int rc = shf_table_next(t, &position, key, sizeof key, &kn, buf, cap, &n, &uid);
                if (rc == SHF_TRUNCATED) position++; /* leave it */
                if (rc != SHF_OK && rc != SHF_TRUNCATED) break;
                if (rc == SHF_OK) CHECK(n <= cap && kn <= sizeof key);
            }
            break;
        case 3:
            if (shf_table_uid(t, key, klen, &uid) == SHF_OK) shf_table_key_by_uid(t, uid, buf, cap, &n);
            break;
        case 4: shf_table_get_by_uid(t, (uint32_t)test_next(&m->rng), buf, cap, &n); break;
        case 5: shf_table_len(t, &len); break;
        case 6:
        case 7:
        case 8: shf_table_put(t, key, klen, val, draw(m, cap), NULL); break;
        case 9: shf_table_del(t, key, klen); break;
        case 10: shf_table_take(t, key, klen, buf, cap, &n); break;
        case 11: shf_table_add(t, key, klen, 1, NULL); break;
        case 12: shf_table_cas(t, key, klen, &e, &d, buf, cap, &n); break;
        case 13: shf_table_update(t, key, klen, change, NULL, NULL); break;
        case 14: shf_table_replace(t, key, klen, val, draw(m, cap), buf, cap, &n); break;
        case 15: shf_table_put_by_uid(t, (uint32_t)test_next(&m->rng), val, draw(m, cap)); break;
        case 16:
            if (draw(m, 8) == 0) shf_table_clear(t);
            break;
        case 17: shf_table_insert(t, key, klen, val, draw(m, cap), &uid); break;
        }
        free(buf), free(val);
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
    struct image m = {NULL, 0, 0, test_seed ^ n};
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int round = 0; round < 2; round++) {
        struct shf_table *t = NULL;
        o.lock_timeout_ms = 5;
        int rc = shf_table_open(image_path, (round ^ (n % 8 == 0)) ? SHF_RDONLY : 0, &o, &t);
        if (rc != SHF_OK) {
            CHECK(rc < 0 && t == NULL);
            counts[1]++;
            continue;
        }
        counts[0]++;
        use(t, &m);
        shf_table_close(t);
    }
}
static void keep(uint64_t n) {
    char to[128];
    snprintf(to, sizeof to, "/dev/shm/shf-hostile-%llu-%llu", (unsigned long long)test_seed, (unsigned long long)n);
    forge(n, to);
    FAIL("image %llu; kept, unused, as %s; again: SHF_SEED=%llu SHF_IMAGE=%llu", (unsigned long long)n, to,
         (unsigned long long)test_seed, (unsigned long long)n);
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
    for (int g = 0; g < GOOD; g++) free(good_image[g]);
}

int main(int argc, char **argv) { return run(argc, argv); }
