/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_batch_table.c - batches of gets that are held up between their stages, batches of changes that die
 *
 * PAUSES      A writer process splits, doubles, replaces and cleans; the reader's batches wait between any two stages until
 *             the writer has gone on by a random number of puts. Keys that live throughout must never be absent, and
 *             values must be whole. SHF_SECONDS (default 2, spread over the tests).
 * DEATHS      For k = 1, 2, ... a child dies at the k-th store of a put_many or del_many: the pairs before some place are
 *             done, those behind are not, nothing is half done. SHF_CRASH_SINGLES: how many k (default 150).
 * BUILD       SHF_CRASH_POINTS (shf__batch_pause is called only there), with and without SHF_SMALL.
 */
#include "model.h"
#include "table.h"

#include "os.h"

#include <sched.h>

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

#define DYING 45u /* pairs of the batch: keys 0 .. DYING - 1 */
struct dying {
    const struct shape *s;
    uint64_t k;
    int removes;
};
#define DYING_STAMP 1000u
static void dying_child(void *arg) {
    const struct dying *d = arg;
    struct shf_table *t = table_open("a", 0);
    static unsigned char key[DYING][40], val[DYING][1000];
    struct shf_pair pairs[DYING];
    struct shf_bytes keys[DYING];
    size_t done = 0, removed = 0;
    for (size_t i = 0; i < DYING; i++) {
        size_t klen = key_for(d->s, i, key[i]), vlen = length_for(d->s, DYING_STAMP + i);
        value_fill(val[i], vlen, key[i], klen, DYING_STAMP + i);
        keys[i] = (struct shf_bytes){key[i], klen};
        pairs[i] = (struct shf_pair){keys[i], {val[i], vlen}};
    }
    shf__crash_count = 0, shf__crash_at = d->k;
    if (d->removes) CHECK_EQ_INT(shf_table_del_many(t, DYING, keys, &removed, &done), SHF_OK);
    else CHECK_EQ_INT(shf_table_put_many(t, DYING, pairs, &done), SHF_OK);
    shf__crash_at = 0;
    CHECK_EQ_INT(done, DYING);
    shf_table_close(t);
}
/* 1 if key i is as the batch leaves it, 0 if it is as it was before; anything else fails. */
static int is_done(struct shf_table *t, const struct dying *d, size_t i, int was_there) {
    unsigned char key[40], got[1000], old[1000], new[1000];
    size_t klen = key_for(d->s, i, key), n = 0, old_len = length_for(d->s, i), new_len = length_for(d->s, DYING_STAMP + i);
    int rc = shf_table_get(t, key, klen, got, sizeof got, &n);
    value_fill(old, old_len, key, klen, i), value_fill(new, new_len, key, klen, DYING_STAMP + i);
    int as_new = rc == SHF_OK && n == new_len && memcmp(got, new, n) == 0;
    int as_old = was_there ? rc == SHF_OK && n == old_len && memcmp(got, old, n) == 0 : rc == SHF_NOT_FOUND;
    if (d->removes) as_new = rc == SHF_NOT_FOUND;
    if (!as_new && !as_old) FAIL("%s: k %llu: key %zu is neither old nor new (%d)", d->s->name, (unsigned long long)d->k, i, rc);
    return as_new && !as_old ? 1 : as_new ? 2 : 0; /* 2: cannot be told */
}
static void die_everywhere(int removes) {
    uint64_t most = test_env("SHF_CRASH_SINGLES", 150), tried = 0; /* about: see the step of k */
    EACH_SHAPE(s) {
        uint64_t stores = 0;
        for (uint64_t k = 1;; k += 1 + test_rng() % (1 + k * 60 / (most + 1))) { /* the first ones, then ever fewer */
            struct dying d = {s, k, removes};
            struct shf_table *t = table_of(s);
            pick_keys(t, s);
            /* Half of the keys are there before; then what is put is a new record or value for some, new for others. */
            for (size_t i = 0; i < DYING; i++)
                if (i % 2 || removes) CHECK_EQ_INT(put(t, s, i, i), SHF_OK);
            int died = run_child(dying_child, &d, 20000), before = 1;
            for (size_t i = 0; i < DYING; i++) {
                int done = is_done(t, &d, i, i % 2 || removes);
                if (done == 1 && !before) FAIL("%s: k %llu: key %zu is done, one before it is not", s->name, (unsigned long long)k, i);
                if (done == 0) before = 0;
            }
            CHECK_EQ_INT(put(t, s, PICKED - 1, 1), SHF_OK); /* goes on at once */
            table_clean(t);
            shf_table_close(t);
            tried++;
            if (died == 0) break;
            REQUIRE_EQ_INT(died, CHILD_KILLED(SIGKILL));
            if (*test_failures != 0) break;
            stores = k;
        }
        printf("# %s: dead at stores up to %llu\n", s->name, (unsigned long long)stores);
    }
    printf("# %llu deaths\n", (unsigned long long)tried);
}
TEST(a_death_in_put_many) { die_everywhere(0); }
TEST(a_death_in_del_many) { die_everywhere(1); }

int main(int argc, char **argv) { return run(argc, argv); }
