/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_cursor_table.c - walks while the table changes its shape between any two of their steps
 *
 * FORCED      One table is prepared with known keys, most of them in one shard. Its file is copied for each walk. From step n on,
 *             before each further step, keys of that shard are put until the segment that the walk stands in has split,
 *             or the shard's directory has doubled, as long as that is possible. Each known key must be seen exactly once,
 *             each other one at most once. n = 0, 1, ... all of them with SHF_SMALL, else as many as go into SHF_SECONDS
 *             (default 5, spread over the tests), drawn by the seed.
 * CLEARED     At step n the table is cleared, and some of the keys are put again: the walk gives only what is there, and ends.
 * BESIDE      (processes) A walker beside writers that split and double at full rate.
 */
#include "model.h"
#include "table.h"

static const struct shape {
    const char *name;
    uint32_t key, value; /* key 0: variable lengths */
} shapes[] = {{"variable", 0, 0}, {"fixed 4+4", 4, 4}, {"fixed 16+40", 16, 40}};
#define SHAPES (sizeof shapes / sizeof shapes[0])
static const struct shape *shape;

#define TARGET 0u
#define KNOWN 120u /* a quarter of them in other shards */
#ifdef SHF_SMALL
#define POOL 4000u
#else
#define POOL 30000u
#endif
static struct name {
    unsigned char bytes[24];
    uint32_t len, dir; /* directory bits */
    int there;
} names[KNOWN + POOL]; /* the known ones, then keys of the target shard */
static uint32_t seen[KNOWN + POOL];
static unsigned char *image;
static size_t image_size;
static uint64_t walks, steps, splits, doublings, clears;

static uint32_t value_of(uint32_t i, unsigned char *val) { /* its number, again and again */
    uint32_t n = shape->key ? shape->value : 4 + i % 40;
    for (uint32_t at = 0; at < n; at += 4) memcpy(val + at, &i, n - at < 4 ? n - at : 4);
    return n;
}
static int put(struct shf_table *t, uint32_t i) {
    unsigned char val[64];
    uint32_t n = value_of(i, val);
    return shf_table_put(t, names[i].bytes, names[i].len, val, n, NULL);
}
static void prepare(void) {
    uint32_t n = 0;
    struct shf_table *t = shape->key ? table_create_fixed("a", shape->key, shape->value, 0) : table_create("a");
    for (uint32_t number = 0; n < KNOWN + POOL; number++) {
        uint32_t bits = number * 2654435761u;
        struct name *k = &names[n];
        memset(k, 0, sizeof *k);
        memcpy(k->bytes, &bits, 4);
        k->len = shape->key ? shape->key : 4 + bits % 20;
        uint64_t h = shf__hash(&t->hash, k->bytes, k->len);
        k->dir = shf_hash_dir(h);
        n += shf_hash_shard(h) == TARGET || (n < KNOWN && n % 4 == 0);
    }
    for (uint32_t i = 0; i < KNOWN; i++) CHECK_EQ_INT(put(t, i), SHF_OK);
    shf_table_close(t);
    free(image);
    FILE *f = fopen(temp_path("a"), "r");
    REQUIRE(f != NULL && fseek(f, 0, SEEK_END) == 0);
    image_size = (size_t)ftell(f), image = test_alloc(image_size);
    rewind(f);
    REQUIRE(fread(image, 1, image_size, f) == image_size);
    fclose(f);
}
static void copy_image(void) {
    unlink(temp_path("b"));
    FILE *f = fopen(temp_path("b"), "w");
    REQUIRE(f != NULL && fwrite(image, 1, image_size, f) == image_size);
    fclose(f);
    for (uint32_t i = 0; i < KNOWN + POOL; i++) names[i].there = i < KNOWN, seen[i] = 0;
}
static uint32_t number_of(const unsigned char *key, size_t klen, const unsigned char *val, size_t vlen) {
    unsigned char expected[64];
    uint32_t i = UINT32_MAX;
    if (vlen >= 4) memcpy(&i, val, 4);
    if (i >= KNOWN + POOL || klen != names[i].len || memcmp(key, names[i].bytes, klen) != 0 || vlen != value_of(i, expected) ||
        memcmp(val, expected, vlen) != 0) {
        FAIL("the walk gives a key or a value that was never put");
        return UINT32_MAX;
    }
    return i;
}
/* One step: the key's number, or UINT32_MAX at the end. */
static uint32_t step(struct shf_table *r, uint64_t *position) {
    unsigned char key[24], val[64];
    size_t klen = 0, vlen = 0;
    int rc = shf_table_next(r, position, key, sizeof key, &klen, val, sizeof val, &vlen, NULL);
    if (rc < 0) FAIL("next: %d, %s", rc, shf_last_error()->message);
    if (rc != SHF_OK) return UINT32_MAX;
    steps++;
    return number_of(key, klen, val, vlen);
}

/* ---- forced changes ----------------------------------------------------------------------------------- */

struct where {
    uint64_t directory;
    uint32_t start, size; /* of the segment, in directory bits */
};
/* Where the segment of these directory bits lies. */
static struct where segment_of(struct shf_table *t, uint32_t bits) {
    struct shf_shm_shard *s = &t->shards[TARGET];
    struct where w = {shm_load_acquire(&s->directory), 0, 0};
    uint32_t depth = shf_directory_depth(w.directory), first, count;
    shf_au32 *entries = shf__table_entries(t, s, w.directory);
    REQUIRE(entries != NULL);
    shf__table_interval(entries, depth, bits >> (15 - depth), &first, &count);
    w.start = first << (15 - depth), w.size = count << (15 - depth);
    return w;
}
/* Puts keys of the walk's segment until it has split, or the directory has doubled. 0: neither can be. */
static int force(struct shf_table *t, uint64_t position) {
    uint32_t bits = position >> 48 == TARGET ? (uint32_t)(position >> 4) & 0x7fff : 0, at = (uint32_t)test_rng() % POOL;
    struct where is = segment_of(t, bits);
    for (uint32_t n = 0; n < POOL; n++) {
        uint32_t i = KNOWN + (at + n) % POOL;
        if (names[i].there || names[i].dir < is.start || names[i].dir >= is.start + is.size) continue;
        int rc = put(t, i);
        if (rc == SHF_ERR_FULL) return 0;
        CHECK_EQ_INT(rc, SHF_OK);
        names[i].there = 1;
        struct where now = segment_of(t, bits);
        if (now.directory != is.directory) doublings++;
        if (now.size != is.size) splits++;
        if (now.directory != is.directory || now.size != is.size) return 1;
    }
    return 0;
}
static void walk(uint32_t first) {
    copy_image();
    struct shf_table *t = table_open("b", 0), *r = table_open("b", first % 2 ? SHF_RDONLY : 0);
    uint64_t position = 0;
    int possible = 1;
    walks++;
    for (uint32_t n = 0;; n++) {
        if (n >= first && possible && position >> 48 <= TARGET) possible = force(t, position);
        uint32_t i = step(r, &position);
        if (i == UINT32_MAX) break;
        seen[i]++;
    }
    for (uint32_t i = 0; i < KNOWN + POOL; i++)
        if (seen[i] > 1 || (i < KNOWN && seen[i] == 0)) FAIL("%s, changes from step %u on: key %u was seen %u times", shape->name, first, i, seen[i]);
    if (first % 16 == 0) table_clean(t);
    shf_table_close(r);
    shf_table_close(t);
}
static void each_start(void (*fn)(uint32_t), uint64_t share) {
    for (shape = shapes; shape < shapes + SHAPES && *test_failures == 0; shape++) {
        uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u / share / SHAPES;
        prepare();
#ifdef SHF_SMALL
        for (uint32_t n = 0; n <= KNOWN && *test_failures == 0; n++) fn(n);
#endif
        for (uint32_t n = 0; (n == 0 || test_now_ns() < end) && *test_failures == 0; n++)
            fn(n == 0 ? 0 : (uint32_t)test_rng() % (KNOWN + 1));
        unlink(temp_path("a"));
    }
}
TEST(a_split_or_a_doubling_between_any_two_steps) {
    if (test_threads_only()) return; /* there is one */
    each_start(walk, 2);
    printf("# %llu walks, %llu steps, %llu splits and %llu doublings between them\n", (unsigned long long)walks,
           (unsigned long long)steps, (unsigned long long)splits, (unsigned long long)doublings);
    CHECK(splits > 0 && doublings > 0);
}

static void cleared_walk(uint32_t first) {
    copy_image();
    struct shf_table *t = table_open("b", 0), *r = table_open("b", first % 2 ? SHF_RDONLY : 0);
    uint64_t position = 0;
    uint32_t again = first % 3 ? (uint32_t)test_rng() % KNOWN : 0; /* keys put again */
    for (uint32_t n = 0;; n++) {
        if (n == first) {
            for (uint32_t k = 0; first % 5 == 0 && k < 2; k++) force(t, position); /* a deeper directory is cleared */
            CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
            for (uint32_t i = 0; i < KNOWN + POOL; i++) names[i].there = 0;
            for (uint32_t i = 0; i < again; i++) CHECK_EQ_INT(put(t, i), SHF_OK), names[i].there = 1;
            clears++;
        }
        uint32_t i = step(r, &position);
        if (i == UINT32_MAX) break;
        if (!names[i].there) FAIL("cleared at step %u: key %u, which is not there, at step %u", first, i, n);
        if (n > 3 * KNOWN) FAIL("cleared at step %u: the walk has no end", first), test_stop();
    }
    CHECK_EQ_INT(table_walk(r), again);
    shf_table_close(r);
    shf_table_close(t);
}
TEST(a_clear_between_any_two_steps) {
    if (!test_threads_only()) each_start(cleared_walk, 6);
}

/* ---- beside writers ----------------------------------------------------------------------------------- */

static _Atomic int *stop;
static void splitting_child(void *arg) {
    struct shf_table *t = table_open("b", 0);
    uint32_t which = *(uint32_t *)arg;
    for (uint32_t i = KNOWN + which; i < KNOWN + POOL && !*stop; i += 2) {
        int rc = put(t, i);
        if (rc == SHF_ERR_FULL) break;
        CHECK_EQ_INT(rc, SHF_OK);
        if (i % 3 == 0) put(t, (uint32_t)test_rng() % KNOWN); /* the same value, in place or a new record */
    }
    shf_table_close(t);
}
static void walk_beside(uint32_t round) {
    static uint32_t which[2] = {0, 1};
    copy_image();
    struct shf_table *t = table_open("b", 0), *r = table_open("b", round % 2 ? SHF_RDONLY : 0);
    *stop = 0;
    pid_t pid[2] = {fork_child(splitting_child, &which[0]), fork_child(splitting_child, &which[1])};
    uint64_t before = table_stats(t).segments, over = 0;
    for (int n = 0; n < 40 && over < 2 && *test_failures == 0; n++) {
        uint64_t position = 0;
        memset(seen, 0, sizeof seen);
        for (uint32_t i; (i = step(r, &position)) != UINT32_MAX;) seen[i]++;
        for (uint32_t i = 0; i < KNOWN + POOL; i++)
            if (seen[i] > 1 || (i < KNOWN && seen[i] == 0)) FAIL("%s: key %u was seen %u times", shape->name, i, seen[i]);
        uint64_t now = table_stats(t).segments;
        walks++, splits += now - before;
        over = now == before ? over + 1 : 0, before = now;
    }
    *stop = 1;
    for (int i = 0; i < 2; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    shf_table_close(r);
    shf_table_close(t);
}
TEST(beside_splitting_writers) {
    if (test_threads_only()) return;
    stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (shape = shapes; shape < shapes + SHAPES && *test_failures == 0; shape++) {
        uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u / 4 / SHAPES;
        prepare();
        for (uint32_t round = 0; (round == 0 || test_now_ns() < end) && *test_failures == 0; round++) walk_beside(round);
        unlink(temp_path("a"));
    }
}
TEST(total) {
    printf("# total: %llu walks with %llu steps, %llu splits, %llu doublings and %llu clears between them: each key that was there "
           "throughout seen once\n",
           (unsigned long long)walks, (unsigned long long)steps, (unsigned long long)splits, (unsigned long long)doublings,
           (unsigned long long)clears);
}

int main(int argc, char **argv) { return run(argc, argv); }
