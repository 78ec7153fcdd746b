/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_batch_table.c - batches of gets that are held up between their stages, batches of changes that die
 *
 * PAUSES      A writer process splits, doubles, replaces and cleans; the reader's batches wait between any two stages until
 *             the writer has gone on by a random number of puts. Keys that live throughout must never be absent, and
 *             values must be whole. SHF_SECONDS (default 2, spread over the tests).
 * DEATHS      As in crash_table.c, the machinery is crash_model.h: batches of puts and removals that die at each of their stores,
 *             and the next one in the repair. The pairs before some place are done, those behind it are not. Batches of new keys, of
 *             others, in place, with large values, and such that split, double, take chunks, move records, grow the file.
 * BUILD       SHF_CRASH_POINTS (shf__batch_pause is called only there), with and without SHF_SMALL.
 */
#ifdef SHF_SMALL
#define CRASH_SINGLES 100
#else
#define CRASH_SINGLES 50
#endif
#define CRASH_PAIRS 16
#define CRASH_SHARE 1
#include "crash_model.h"

void shf__batch_pause(void);

struct shape {
    const char *name;
    uint32_t key, value; /* key 0: variable lengths */
};
static const struct shape shapes[] = {{"variable", 0, 0}, {"fixed 8+0", 8, 0}, {"fixed 4+4", 4, 4}, {"fixed 8+16", 8, 16}, {"fixed 24+90", 24, 90}};
#define SHAPES (sizeof shapes / sizeof shapes[0])
#define EACH_SHAPE(s) for (const struct shape *s = shapes; s < shapes + SHAPES && *test_failures == 0; s++)

struct board { /* shared with the writer */
    _Atomic uint64_t puts;
    _Atomic int over, stop, reading;
};
static struct board *board;
static int pausing;
static uint64_t pauses;

/* The engine's hook: half of the time waits for 0 to 100 puts of the writer. */
void shf__batch_pause(void) {
    if (!pausing || test_rng() % 2) return;
    uint64_t until = board->puts + test_rng() % 100;
    pauses++;
    while (board->puts < until && !board->over) sched_yield();
}

static struct shf_table *table_of(const struct shape *s) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.fixed_key = s->key, o.fixed_value = s->value;
    unlink(temp_path("a"));
    int rc = shf_table_open(temp_path("a"), SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) FAIL("%s: %d, %s", s->name, rc, shf_last_error()->message), test_stop();
    return t;
}
/* Key i of a shape: different ones for different i. Numbers are picked (pick_keys) so that all lie in two shards: these
 * split and double soon. */
#ifdef SHF_SMALL
#define PICKED 3300u
#else
#define PICKED 12300u
#endif
static uint32_t picked[PICKED];
static size_t key_of_number(const struct shape *s, uint32_t number, void *key) {
    uint32_t bits = number * 2654435761u;
    memset(key, 7, 40);
    memcpy(key, &bits, 4);
    return s->key ? s->key : 4 + (size_t)(bits >> 9) % 20;
}
static void pick_keys(struct shf_table *t, const struct shape *s) {
    unsigned char key[40];
    uint32_t n = 0;
    for (uint32_t i = 0; n < PICKED; i++) {
        size_t klen = key_of_number(s, i, key);
        if (shf_hash_shard(shf__hash(&t->hash, key, klen)) < 2) picked[n++] = i;
    }
}
static size_t key_for(const struct shape *s, uint64_t i, void *key) { return key_of_number(s, picked[i], key); }
static size_t length_for(const struct shape *s, uint64_t stamp) {
    return s->key ? s->value : stamp % 16 == 0 ? 600 : stamp % 3 ? 4 + stamp % 5 : 16 + stamp % 64;
}
static int put(struct shf_table *t, const struct shape *s, uint64_t i, uint64_t stamp) {
    unsigned char key[40], val[1000];
    size_t klen = key_for(s, i, key), vlen = length_for(s, stamp);
    value_fill(val, vlen, key, klen, stamp);
    return shf_table_put(t, key, klen, val, vlen, NULL);
}

/* ---- pauses ------------------------------------------------------------------------------------------- */

#define KNOWN 300u /* keys that live throughout: 0 .. KNOWN - 1 */
#define FRESH (PICKED - KNOWN)

struct writer {
    const struct shape *s;
    int replace; /* known keys, too: new records, so that the cleaner moves others */
};
static void writer_child(void *arg) {
    const struct writer *w = arg;
    struct shf_table *t = table_open("a", 0);
    while (!board->reading) sched_yield();
    for (uint64_t i = 0; i < FRESH && !board->stop; i++) {
        int rc = put(t, w->s, KNOWN + i, i);
        if (rc == SHF_ERR_FULL) break; /* the small constants' table is full */
        CHECK_EQ_INT(rc, SHF_OK);
        if (w->replace) CHECK_EQ_INT(put(t, w->s, test_rng() % KNOWN, i), SHF_OK);
        board->puts++;
        if (i % 16 == 0) sched_yield(); /* one CPU is enough */
    }
    board->over = 1;
    shf_table_close(t);
}

static unsigned char keys_of_known[KNOWN][40];
static struct shf_bytes known[KNOWN];
static uint32_t known_uid[KNOWN];
static uint64_t known_checked[KNOWN];

#define BATCH 100u
static uint64_t read_keys, lost, torn;
static void judge(const struct shape *s, size_t i, int there, const void *val, size_t len) {
    read_keys++;
    if (!there) lost++;
    else if (s->value >= 4 || s->key == 0 ? !value_check(val, len, known[i].data, known[i].len, NULL) : len != s->value) torn++;
}
static void read_batches(struct shf_table *t, const struct shape *s) {
    static unsigned char buf[BATCH * 1000];
    struct shf_bytes keys[BATCH];
    struct shf_value out[BATCH];
    uint32_t uids[BATCH];
    uint64_t checked[BATCH];
    size_t which[BATCH], lens[BATCH], done = 0, n = 1 + test_rng() % BATCH;
    for (size_t i = 0; i < n; i++) {
        which[i] = test_rng() % KNOWN;
        keys[i] = known[which[i]], uids[i] = known_uid[which[i]], checked[i] = known_checked[which[i]];
        out[i] = (struct shf_value){buf + i * 1000, 1000, 0, 0};
    }
    uint64_t way = test_rng() % 4;
    if (way < 2) {
        CHECK_EQ_INT(way == 0 ? shf_table_get_many(t, n, keys, out) : shf_table_get_many_by_uid(t, n, uids, out), SHF_OK);
        for (size_t i = 0; i < n; i++) judge(s, which[i], out[i].code == SHF_OK, out[i].data, out[i].len);
        return;
    }
    CHECK_EQ_INT(way == 2 ? shf_table_get_many_packed(t, n, keys, buf, sizeof buf, lens, &done)
                          : shf_table_get_many_by_checked_uid_packed(t, n, checked, buf, sizeof buf, lens, &done), SHF_OK);
    CHECK_EQ_INT(done, n);
    for (size_t i = 0, at = 0; i < n; i++) {
        judge(s, which[i], lens[i] != SHF_NO_VALUE, buf + at, lens[i]);
        if (lens[i] != SHF_NO_VALUE) at += lens[i];
    }
}
static void beside_a_writer(int replace) {
    uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 2) * 500000000u;
    if (!board) board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    read_keys = lost = torn = pauses = 0;
    uint64_t rounds = 0, depth = 0;
    do {
        EACH_SHAPE(s) {
            struct shf_table *t = table_of(s), *r = table_open("a", rounds % 2 ? SHF_RDONLY : 0);
            struct writer w = {s, replace};
            pick_keys(t, s);
            memset((void *)board, 0, sizeof *board);
            for (size_t i = 0; i < KNOWN; i++) {
                known[i] = (struct shf_bytes){keys_of_known[i], key_for(s, i, keys_of_known[i])};
                CHECK_EQ_INT(put(t, s, i, i), SHF_OK);
                CHECK_EQ_INT(shf_table_uid(t, known[i].data, known[i].len, &known_uid[i]), SHF_OK);
                CHECK_EQ_INT(shf_table_checked_uid(t, known[i].data, known[i].len, &known_checked[i]), SHF_OK);
            }
            pid_t pid = fork_child(writer_child, &w);
            board->reading = pausing = 1;
            do read_batches(r, s);
            while (!board->over && *test_failures == 0);
            pausing = 0, board->stop = 1;
            CHECK_EQ_INT(wait_child(pid, 20000), 0);
            if (table_stats(t).max_depth > depth) depth = table_stats(t).max_depth;
            table_clean(t);
            shf_table_close(r);
            shf_table_close(t);
            rounds++;
        }
    } while (test_now_ns() < end && *test_failures == 0);
    printf("# %llu rounds, %llu thousand keys read, %llu pauses, %llu lost, %llu torn, depth %llu\n",
           (unsigned long long)rounds, (unsigned long long)read_keys / 1000, (unsigned long long)pauses,
           (unsigned long long)lost, (unsigned long long)torn, (unsigned long long)depth);
    CHECK_EQ_INT(lost, 0);
    CHECK_EQ_INT(torn, 0);
}
TEST(known_keys_beside_splits) { beside_a_writer(0); }
TEST(known_keys_beside_replaces) { beside_a_writer(1); }

/* ---- deaths ------------------------------------------------------------------------------------------- */

#define VARIABLE(name)                                                                                                 \
    TEST(name##_variable) {                                                                                            \
        begin_variable();                                                                                              \
        build_##name();                                                                                                \
        play();                                                                                                        \
    }
#define FIXED(name, klen, vlen)                                                                                        \
    TEST(name##_##klen##_##vlen) {                                                                                     \
        begin_fixed(klen, vlen);                                                                                       \
        build_##name();                                                                                                \
        play();                                                                                                        \
    }
#define FOR_VARIABLE(name)                                                                                             \
    static void build_##name(void);                                                                                    \
    VARIABLE(name)                                                                                                     \
    static void build_##name(void)
#define FOR_ALL(name)                                                                                                  \
    static void build_##name(void);                                                                                    \
    VARIABLE(name) FIXED(name, 4, 4) FIXED(name, 8, 0) FIXED(name, 12, 8) FIXED(name, 16, 40)                          \
    static void build_##name(void)

static int any_key(int i) { return i % 3 ? target_key() : new_key(-1, -1, -1, 0); } /* most of them in one shard */
/* n keys, every `there`th of them present before (0: none). */
static int some_pairs(int n, int there) {
    int first = S.keys;
    for (int i = 0; i < n; i++) {
        int key = any_key(i);
        if (there && i % there == 0) prep(PUT, key, sized(i % 4 ? 8 + i : 200, (uint64_t)i));
    }
    return first;
}
FOR_ALL(put_many) { /* new ones and others, in place and of another length, over two groups of the engine */
    some_keys(6);
    int first = some_pairs(20, 2);
    for (int i = 0; i < 20; i++) step(PUT, first + i, sized(i % 3 ? 8 + i : 60, 100 + (uint64_t)i));
    batch(20);
}
FOR_ALL(put_many_over_one_key) { /* the same key again and again: in order */
    int first = some_pairs(3, 1);
    for (int i = 0; i < 9; i++) step(PUT, first + i % 3, sized(i < 6 ? 8 : 30, 100 + (uint64_t)i));
    batch(9);
}
FOR_ALL(del_many) { /* present ones and absent ones */
    some_keys(6);
    int first = some_pairs(20, 2);
    for (int i = 0; i < 20; i++) step(DEL, first + i, absent);
    batch(20);
}
FOR_ALL(put_many_then_del_many) { /* cells and slots go to others at once */
    int first = some_pairs(10, 3);
    for (int i = 0; i < 10; i++) step(PUT, first + i, sized(12, 100 + (uint64_t)i));
    batch(10);
    for (int i = 0; i < 8; i++) step(DEL, first + i, absent);
    batch(8);
    for (int i = 0; i < 10; i++) step(PUT, target_key(), sized(12, 200 + (uint64_t)i));
    batch(10);
}
FOR_ALL(put_many_first_keys) { /* the shards have no segment yet */
    int first = some_pairs(8, 0);
    for (int i = 0; i < 8; i++) step(PUT, first + i, sized(12, (uint64_t)i));
    batch(8);
}
FOR_VARIABLE(put_many_large) {
    int first = some_pairs(6, 2);
    for (int i = 0; i < 6; i++) step(PUT, first + i, sized(i % 2 ? LARGE : 30, 100 + (uint64_t)i));
    batch(6);
}
FOR_VARIABLE(del_many_large) {
    int first = some_pairs(6, 0);
    for (int i = 0; i < 6; i++) prep(PUT, first + i, sized(i % 2 ? LARGE : 30, (uint64_t)i)), step(DEL, first + i, absent);
    batch(6);
}
FOR_ALL(put_many_splits) {
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(4, (uint64_t)i));
    S.event = SPLIT, S.batch = 20;
}
#ifdef SHF_SMALL
#define SAME_TOP UINT32_C(0x6000)
#else
#define SAME_TOP UINT32_C(0x7c00)
#endif
FOR_ALL(put_many_doubles) {
    for (int i = 0; i < 900; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(4, (uint64_t)i));
    S.event = DOUBLE, S.batch = 20;
}
FOR_VARIABLE(put_many_takes_a_chunk) {
    for (int i = 0; i < 200; i++) prep(PUT, target_key(), sized(100, (uint64_t)i));
    S.event = CHUNK, S.batch = 12, S.from = 10;
}
static void churn(void) {
    uint64_t s = test_seed;
    for (int i = 0; i < 60; i++) prep(PUT, target_key(), sized(150, (uint64_t)i));
    for (int i = 0; i < 2500; i++)
        prep(PUT, (int)(test_next(&s) % 60), sized((int64_t)(150 - test_next(&s) % 50), 100 + (uint64_t)i));
}
FOR_VARIABLE(put_many_moves) {
    churn();
    S.event = MOVE, S.nth = 10, S.batch = 20;
}
FOR_VARIABLE(put_many_frees_a_chunk) {
    churn();
    S.event = UNCHUNK, S.nth = 3, S.batch = 20;
}
FOR_ALL(put_many_grows) {
    for (int i = 0; i < 1000; i++)
        prep(PUT, new_key(fixed_value_len < 0 || SHF_SHARD_COUNT > 2 ? -1 : (int)TARGET, -1, -1, 0), sized(3000, (uint64_t)i));
    S.event = GROW, S.batch = 12, S.from = 10;
}
TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
