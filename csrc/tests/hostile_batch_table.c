/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_batch_table.c - batches on edited images: any answer will do, but no crash, and nothing outside of the buffers
 *
 * hostile_table.c does this for the single calls and for all parts of the file. Here the edits are where the stages of a
 * batch look: directory words and entries, slots, headers of buckets, records; SHF_IMAGES of them (default 500). A
 * child uses the image; meant for ASan + UBSan.
 */
#include "model.h"
#include "table.h"

#include <fcntl.h>

struct shape {
    const char *name;
    uint32_t key, value; /* key 0: variable lengths */
};
static const struct shape shapes[] = {{"variable", 0, 0}, {"fixed 4+4", 4, 4}, {"fixed 8+16", 8, 16}, {"fixed 20+100", 20, 100}};
#define SHAPES (sizeof shapes / sizeof shapes[0])

#ifdef SHF_SMALL
#define KEYS 1200u
#else
#define KEYS 4000u
#endif
static uint32_t uids[KEYS];
static uint64_t checked[KEYS];
static unsigned char *good_image;
static size_t good_size;

static size_t key_for(const struct shape *s, uint32_t i, void *key) {
    uint32_t bits = i * 2654435761u;
    memset(key, 5, 40);
    memcpy(key, &bits, 4);
    return s->key ? s->key : 1 + bits % 24;
}
static size_t length_for(const struct shape *s, uint32_t i) {
    return s->key ? s->value : i % 97 == 0 ? 9000 : i % 5 == 0 ? 8 : i % 120;
}
static void make_image(const struct shape *s) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    static unsigned char val[9000];
    unsigned char key[40];
    struct stat st;
    o.fixed_key = s->key, o.fixed_value = s->value, o.max_bytes = 64 << 20;
    unlink(temp_path("good"));
    REQUIRE_EQ_INT(shf_table_open(temp_path("good"), SHF_CREATE, &o, &t), SHF_OK);
    for (uint32_t i = 0; i < KEYS; i++) {
        size_t klen = key_for(s, i, key);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, length_for(s, i), &uids[i]), SHF_OK);
        REQUIRE_EQ_INT(shf_table_checked_uid(t, key, klen, &checked[i]), SHF_OK);
    }
    shf_table_close(t);
    int fd = open(temp_path("good"), O_RDONLY);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    good_size = (size_t)st.st_size;
    free(good_image);
    good_image = test_alloc(good_size);
    REQUIRE(pread(fd, good_image, good_size, 0) == st.st_size);
    close(fd);
}

struct image {
    const struct shape *s;
    uint64_t number;
};
static uint64_t odd_word(uint64_t *rng, uint64_t old) {
    uint64_t r = test_next(rng);
    switch (r % 6) {
    case 0: return old ^ UINT64_C(1) << (r >> 8 & 63);
    case 1: return r >> (r >> 8 & 63);
    case 2: return (old & ~SHF_REF_MASK) | test_next(rng) % (good_size / 8 + 600); /* another record, or beyond the end */
    case 3: return (old & ~UINT64_C(0xffffffff)) | test_next(rng) % (good_size / 4096 + 3);
    case 4: return old | UINT64_C(0xff) << (r >> 8 & 56);
    default: return ~UINT64_C(0) - r % 70000;
    }
}
static void edit(unsigned char *p, uint64_t *rng) {
    uint64_t where = test_next(rng) % 4, at, word;
    size_t object = SHF_OBJECT_PAGE * 4096, shard = test_next(rng) % SHF_SHARD_COUNT * sizeof(struct shf_shm_shard);
    if (where == 0) at = object + shard + offsetof(struct shf_shm_shard, directory) + test_next(rng) % 7 * 8; /* and entries */
    else if (where == 1) at = object + shard + offsetof(struct shf_shm_shard, directory);
    else at = object + SHF_TABLE_PAGES * 4096 + test_next(rng) % ((good_size - object) / 8 - SHF_TABLE_PAGES * 512) * 8;
    memcpy(&word, p + at, 8);
    word = odd_word(rng, word);
    memcpy(p + at, &word, 8);
}

#define BATCH 150u
static void use_child(void *arg) {
    const struct image *m = arg;
    uint64_t rng = test_seed + m->number;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    int fd = open(temp_path("edited"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (uint64_t n = 1 + test_next(&rng) % 300; n > 0; n--) edit(good_image, &rng);
    REQUIRE(fd >= 0 && pwrite(fd, good_image, good_size, 0) == (ssize_t)good_size);
    close(fd);
    o.lock_timeout_ms = 20;
    if (shf_table_open(temp_path("edited"), m->number % 3 ? 0 : SHF_RDONLY, &o, &t) != SHF_OK) return;
    unsigned char key[BATCH][40], *val = test_alloc(BATCH * 300), *packed = test_alloc(20000);
    struct shf_bytes keys[BATCH];
    struct shf_pair pairs[BATCH];
    struct shf_value out[BATCH];
    size_t lens[BATCH], done = 0, removed = 0;
    for (uint32_t turn = 0; turn < 20; turn++) {
        uint32_t first = (uint32_t)(test_next(&rng) % (KEYS - BATCH)), n = 1 + (uint32_t)(test_next(&rng) % BATCH);
        for (uint32_t j = 0; j < n; j++) {
            size_t klen = key_for(m->s, first + j + (turn % 4 == 3 ? KEYS : 0), key[j]);
            keys[j] = (struct shf_bytes){key[j], klen};
            out[j] = (struct shf_value){val + j * 300, 300, 0, 0};
            pairs[j] = (struct shf_pair){keys[j], {val, m->s->key ? m->s->value : test_next(&rng) % 300}};
        }
        (void)shf_table_get_many(t, n, keys, out);
        (void)shf_table_get_many_packed(t, n, keys, packed, 20000, lens, &done);
        CHECK(done <= n);
        (void)shf_table_get_many_by_uid(t, n, uids + first, out);
        (void)shf_table_get_many_by_uid_packed(t, n, uids + first, packed, 20000, lens, &done);
        (void)shf_table_get_many_by_checked_uid_packed(t, n, checked + first, packed, 20000, lens, &done);
        CHECK(done <= n);
        if (turn % 3 == 2) (void)shf_table_put_many(t, n, pairs, &done);
        if (turn % 3 == 1) (void)shf_table_del_many(t, n / 2, keys, &removed, &done);
        CHECK(done <= n);
        CHECK(removed <= BATCH);
    }
    free(val), free(packed);
    shf_table_close(t);
}
TEST(edited_images) {
    uint64_t images = test_env("SHF_IMAGES", 500);
    for (size_t i = 0; i < SHAPES; i++) {
        make_image(&shapes[i]);
        for (uint64_t n = 0; n < images / SHAPES && *test_failures == 0; n++) {
            struct image m = {&shapes[i], n * SHAPES + i};
            int rc = run_child(use_child, &m, 60000);
            if (rc != 0) FAIL("%s: image %llu: the child ended with %d", shapes[i].name, (unsigned long long)m.number, rc);
        }
    }
    free(good_image);
    good_image = NULL;
}

int main(int argc, char **argv) { return run(argc, argv); }
