/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_table.c - many threads and processes at once: nothing torn, nothing lost, sums exact, file bounded
 *
 * Each test runs for SHF_SECONDS (default 5, spread over its parts) with threads in this process and, unless
 * SHF_THREADS_ONLY is set (ThreadSanitizer), with processes of two threads each. Values check themselves (model.h).
 */
#include "model.h"

#include <pthread.h>
#include <sched.h>

#define WORKERS 4
#define MOST (1u << 20) /* bytes of a value */
#define SIZES 6
static const size_t sizes[SIZES] = {4, 8, 100, 3300, 9000, 100000};
#define OWNED 64

struct board { /* shared with the children */
    _Atomic uint64_t ops, reads, torn, lost, backwards, sum[16];
    _Atomic int stop, ready;
    _Atomic uint64_t intended[WORKERS][OWNED], acked[WORKERS][OWNED]; /* torture: stamps */
};
static struct board *board;
static uint64_t total_ops, total_stops, total_kills; /* of all tests that ran */

struct worker {
    struct shf_table *t;
    int number; /* 0 .. WORKERS - 1 */
    uint64_t rng;
    void (*fn)(struct worker *);
    unsigned char *buf, *out; /* MOST bytes each */
    pthread_t thread;
};
static uint64_t draw(struct worker *w) { return test_next(&w->rng); }
static void good(int rc, const char *what) {
    if (rc < 0) FAIL("%s: %d, %s", what, rc, shf_last_error()->message);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    w->buf = test_alloc(MOST), w->out = test_alloc(MOST);
    while (!board->stop) w->fn(w);
    free(w->buf), free(w->out);
    return NULL;
}
static void run_threads(const char *name, struct shf_table *shared_handle, void (*fn)(struct worker *), int first, int n,
                        uint64_t ms) {
    struct worker w[WORKERS];
    for (int i = 0; i < n; i++) {
        w[i] = (struct worker){0};
        w[i].t = shared_handle && i % 2 == 0 ? shared_handle : table_open(name, 0); /* shared handles and own ones */
        w[i].number = first + i, w[i].fn = fn;
        w[i].rng = test_seed + (uint64_t)(first + i) * 7919 + (uint64_t)getpid();
        if (pthread_create(&w[i].thread, NULL, worker_main, &w[i]) != 0) FAIL("pthread_create"), test_stop();
    }
    if (ms) usleep((useconds_t)(ms * 1000)), board->stop = 1;
    for (int i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        if (w[i].t != shared_handle) shf_table_close(w[i].t);
    }
}
struct group {
    const char *name;
    void (*fn)(struct worker *);
    int first;
};
static void group_child(void *arg) {
    struct group *g = arg;
    struct shf_table *t = table_open(g->name, 0);
    run_threads(g->name, t, g->fn, g->first, WORKERS / 2, 0);
    shf_table_close(t);
}
static void fresh_board(void) {
    if (!board) board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)board, 0, sizeof *board);
}
/* Half of the time as threads, half as processes. `t` is the parent's handle. */
static void run_workers(const char *name, struct shf_table *t, void (*fn)(struct worker *), uint64_t share) {
    uint64_t ms = test_env("SHF_SECONDS", 5) * 1000 / share;
    int modes = test_threads_only() ? 1 : 2;
    for (int mode = 0; mode < modes; mode++) {
        board->stop = 0;
        uint64_t before = board->ops;
        if (mode == 0) {
            run_threads(name, t, fn, 0, WORKERS, ms / (uint64_t)modes);
        } else {
            struct group g[2] = {{name, fn, 0}, {name, fn, WORKERS / 2}};
            pid_t p[2];
            for (int i = 0; i < 2; i++) p[i] = fork_child(group_child, &g[i]);
            usleep((useconds_t)(ms / (uint64_t)modes * 1000));
            board->stop = 1;
            for (int i = 0; i < 2; i++) CHECK_EQ_INT(wait_child(p[i], 30000), 0);
        }
        total_ops += board->ops - before;
        printf("# %s: %llu thousand operations, %llu torn, %llu lost\n", mode ? "processes" : "threads  ",
               (unsigned long long)(board->ops - before) / 1000, (unsigned long long)board->torn,
               (unsigned long long)board->lost);
    }
    CHECK_EQ_INT(board->torn, 0);
    CHECK_EQ_INT(board->lost, 0);
    CHECK_EQ_INT(board->backwards, 0);
}

/* ---- everything at once ---- */
static uint64_t mix_keys;
static size_t draw_size(struct worker *w) {
    uint64_t r = draw(w) % 64;
    return r == 0 ? sizes[5] : r < 4 ? sizes[4] : r < 10 ? sizes[3] : sizes[r % 3];
}
static void look(struct worker *w, const char *key, size_t klen, int rc, size_t n) {
    if (rc == SHF_OK && !value_check(w->out, n, key, klen, NULL)) board->torn++;
    good(rc, "read");
}
struct growing {
    struct worker *w;
    const char *key;
    size_t klen, vlen;
};
static int grow_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct growing *g = context;
    if (old->data != SHF_ABSENT && !value_check(old->data, old->len, g->key, g->klen, NULL)) board->torn++;
    value_fill(g->w->buf, g->vlen, g->key, g->klen, draw(g->w));
    desired->data = g->w->buf, desired->len = g->vlen;
    return draw(g->w) % 8 == 0;
}
static void mix(struct worker *w) {
    char key[24], other[24];
    size_t klen = key_of(key, draw(w) % mix_keys), vlen = draw_size(w), n = 0, on = 0;
    uint32_t uid = 0;
    uint64_t checked = 0;
    int rc;
    board->ops++;
    switch (draw(w) % 16) {
    case 0:
    case 1:
    case 2:
        value_fill(w->buf, vlen, key, klen, draw(w));
        good(shf_table_put(w->t, key, klen, w->buf, vlen, NULL), "put");
        break;
    case 3: good(shf_table_del(w->t, key, klen), "del"); break;
    case 4:
        rc = shf_table_take(w->t, key, klen, w->out, 100000, &n);
        look(w, key, klen, rc, n);
        break;
    case 5: {
        struct growing g = {w, key, klen, vlen};
        good(shf_table_update(w->t, key, klen, grow_fn, &g, NULL), "update");
        break;
    }
    case 6: {
        rc = shf_table_get(w->t, key, klen, w->out, 100000, &n);
        if (rc != SHF_OK) break;
        struct shf_bytes expected = {w->out, n}, desired = {w->buf, vlen};
        value_fill(w->buf, vlen, key, klen, draw(w));
        good(shf_table_cas(w->t, key, klen, &expected, &desired, NULL, 0, NULL), "cas");
        break;
    }
    case 7:
        value_fill(w->buf, vlen, key, klen, draw(w));
        rc = shf_table_replace(w->t, key, klen, w->buf, vlen, w->out, 100000, &n);
        look(w, key, klen, rc, n);
        break;
    case 8:
        if (shf_table_checked_uid(w->t, key, klen, &checked) != SHF_OK) break;
        rc = shf_table_get_by_checked_uid(w->t, checked, w->out, 100000, &n);
        look(w, key, klen, rc, n);
        break;
    case 9:
        if (shf_table_uid(w->t, key, klen, &uid) != SHF_OK) break;
        rc = shf_table_key_by_uid(w->t, uid, other, sizeof other, &on);
        good(rc, "key by uid");
        if (rc == SHF_OK && (on < 2 || other[0] != 'k')) board->torn++;
        break;
    case 10: {
        uint64_t position = SHF_SHARD_POSITION(draw(w) % SHF_SHARDS);
        for (int i = 0; i < 20; i++) {
            rc = shf_table_next(w->t, &position, other, sizeof other, &on, w->out, 100000, &n, NULL);
            if (rc != SHF_OK) break;
            look(w, other, on, rc, n);
        }
        good(rc, "next");
        break;
    }
    default:
        board->reads++;
        rc = shf_table_get(w->t, key, klen, w->out, 100000, &n);
        look(w, key, klen, rc, n);
    }
}
static void mixed(uint64_t keys) {
    struct shf_table *t = table_create("a");
    fresh_board();
    mix_keys = keys;
    run_workers("a", t, mix, 1);
    struct shf_table_stats s = table_stats(t);
    printf("# %llu keys, file %llu KiB, garbage %llu of %llu KiB\n", (unsigned long long)s.keys,
           (unsigned long long)s.file_bytes >> 10, (unsigned long long)s.garbage_bytes >> 10,
           (unsigned long long)s.record_bytes >> 10);
    table_clean(t);
    shf_table_close(t);
}
TEST(mixed_on_few_keys) { mixed(12); }
TEST(mixed_on_many_keys) { mixed(4000); }

/* ---- keys that are there are never absent, and never go back in time ---- */
#ifdef SHF_SMALL
#define STAY 600u
#define CHURN 4000u
#else
#define STAY 3000u
#define CHURN 60000u
#endif
static void stay(struct worker *w) {
    static __thread uint64_t seen[STAY];
    static __thread struct worker *mine;
    char key[24];
    size_t n = 0;
    uint64_t stamp = 0;
    if (mine != w) memset(seen, 0, sizeof seen), mine = w;
    board->ops++;
    if (w->number == 0) { /* the one who changes them, with rising stamps */
        uint64_t i = draw(w) % STAY;
        size_t klen = key_of(key, i), vlen = 16 + draw(w) % 200;
        value_fill(w->buf, vlen, key, klen, board->ops);
        good(shf_table_put(w->t, key, klen, w->buf, vlen, NULL), "put");
    } else if (w->number == 1) { /* the one who makes splits, garbage and chunks come and go */
        size_t klen = key_of(key, STAY + draw(w) % CHURN);
        if (draw(w) % 3)
            good(shf_table_put(w->t, key, klen, w->buf, draw(w) % 300, NULL), "put");
        else
            good(shf_table_del(w->t, key, klen), "del");
    } else {
        uint64_t i = draw(w) % STAY;
        size_t klen = key_of(key, i);
        int rc = shf_table_get(w->t, key, klen, w->out, 100000, &n);
        good(rc, "get");
        if (rc == SHF_NOT_FOUND) board->lost++;
        if (rc == SHF_OK && !value_check(w->out, n, key, klen, &stamp)) board->torn++;
        if (stamp < seen[i]) board->backwards++;
        seen[i] = stamp;
    }
}
TEST(present_keys_are_never_absent) {
    for (int round = 0; round < 3; round++) { /* from an empty table each time: this is where splits are */
        struct shf_table *t = table_create("a");
        fresh_board();
        for (uint64_t i = 0; i < STAY; i++) {
            char key[24], val[40];
            size_t klen = key_of(key, i);
            value_fill(val, sizeof val, key, klen, 0);
            good(shf_table_put(t, key, klen, val, sizeof val, NULL), "put");
        }
        run_workers("a", t, stay, 3);
        table_clean(t);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

/* ---- clear beside everything ---- */
static void clearing(struct worker *w) {
    if (w->number == 0 && draw(w) % 500 == 0)
        good(shf_table_clear(w->t), "clear");
    else
        mix(w);
}
TEST(clear_beside_the_rest) {
    struct shf_table *t = table_create("a");
    fresh_board();
    mix_keys = 3000;
    run_workers("a", t, clearing, 1);
    table_clean(t);
    shf_table_close(t);
}

/* ---- sums ---- */
static int plus_one(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    uint64_t *v = context;
    v[0] = 0;
    if (old->data != SHF_ABSENT) memcpy(v, old->data, 8);
    v[0]++;
    desired->data = v, desired->len = old->data != SHF_ABSENT && old->len == 2000 ? 2000 : 8;
    if (v[0] % 16 == 0) desired->len = desired->len == 8 ? 2000 : 8; /* both kinds of record */
    return 0;
}
static void count(struct worker *w) {
    unsigned c = (unsigned)(draw(w) % 12);
    char key[24];
    size_t klen = key_of(key, c), n = 0;
    static __thread uint64_t v[250];
    board->ops++;
    if (c < 4) {
        good(shf_table_add(w->t, key, klen, 1, NULL), "add");
        board->sum[c]++;
    } else if (c < 8) {
        int rc = shf_table_update(w->t, key, klen, plus_one, v, NULL);
        good(rc, "update");
        if (rc == SHF_OK) board->sum[c]++;
    } else {
        int rc = shf_table_get(w->t, key, klen, v, 8, &n);
        uint64_t next = rc == SHF_OK ? v[0] + 1 : 1;
        struct shf_bytes expected = {rc == SHF_OK ? (const void *)v : SHF_ABSENT, rc == SHF_OK ? 8 : 0}, desired = {&next, 8};
        rc = shf_table_cas(w->t, key, klen, &expected, &desired, NULL, 0, NULL);
        good(rc, "cas");
        if (rc == SHF_OK) board->sum[c]++;
    }
}
TEST(sums_are_exact) {
    struct shf_table *t = table_create("a");
    fresh_board();
    run_workers("a", t, count, 1);
    for (unsigned c = 0; c < 12; c++) {
        uint64_t v[250] = {0};
        char key[24];
        size_t klen = key_of(key, c), n = 0;
        CHECK_EQ_INT(shf_table_get(t, key, klen, v, sizeof v, &n), SHF_OK);
        CHECK_EQ_INT(v[0], board->sum[c]);
    }
    table_clean(t);
    shf_table_close(t);
}

/* ---- one winner ---- */
static void win(struct worker *w) {
    char key[24];
    size_t klen = key_of(key, draw(w) % 64), n;
    board->ops++;
    if (draw(w) % 2) {
        int rc = shf_table_insert(w->t, key, klen, w->buf, draw(w) % 100, NULL);
        good(rc, "insert");
        if (rc == SHF_OK) board->sum[0]++;
    } else {
        int rc = draw(w) % 2 ? shf_table_take(w->t, key, klen, w->out, 1000, &n) : shf_table_del(w->t, key, klen);
        good(rc, "take");
        if (rc == SHF_OK) board->sum[1]++;
    }
}
TEST(one_inserter_and_one_taker_wins) {
    struct shf_table *t = table_create("a");
    fresh_board();
    run_workers("a", t, win, 2);
    CHECK_EQ_INT(board->sum[0] - board->sum[1], table_clean(t));
    shf_table_close(t);
}

/* ---- processes that stop, and processes that die ---- */
static void reader_child(void *arg) {
    struct worker w = {0};
    w.t = table_open(arg, 0), w.rng = test_seed;
    w.out = test_alloc(100000);
    for (board->ready = 1; !board->stop;) {
        char key[24];
        size_t klen = key_of(key, draw(&w) % mix_keys), n = 0;
        int rc = shf_table_get(w.t, key, klen, w.out, 100000, &n);
        look(&w, key, klen, rc, n);
        board->reads++;
    }
}
TEST(stopped_readers) {
    if (test_threads_only()) return;
    struct shf_table *t = table_create("a");
    static char name[] = "a";
    fresh_board();
    mix_keys = 40;
    struct group g = {"a", mix, 0};
    pid_t reader = fork_child(reader_child, name), writers = fork_child(group_child, &g);
    uint64_t stops = 0, end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u;
    while (!board->ready) usleep(100);
    while (test_now_ns() < end) {
        kill(reader, SIGSTOP), stops++;
        usleep((useconds_t)(test_rng() % 3000));
        kill(reader, SIGCONT);
        usleep((useconds_t)(test_rng() % 300));
    }
    board->stop = 1;
    CHECK_EQ_INT(wait_child(reader, 20000), 0);
    CHECK_EQ_INT(wait_child(writers, 20000), 0);
    CHECK_EQ_INT(board->torn, 0);
    total_ops += board->ops + board->reads, total_stops += stops;
    printf("# stopped %llu times, %llu reads\n", (unsigned long long)stops, (unsigned long long)board->reads);
    table_clean(t);
    shf_table_close(t);
}

struct victim {
    const char *name;
    int number;
    uint64_t turn;
};
/* Owns OWNED keys. The board outside of the file knows what was intended and what was acknowledged. */
static void victim_child(void *arg) {
    struct victim *v = arg;
    struct worker w = {0};
    w.rng = test_seed ^ (v->turn << 8 | (uint64_t)v->number), w.buf = test_alloc(100000), w.out = test_alloc(100000);
    w.t = table_open(v->name, 0);
    for (uint64_t stamp = v->turn << 24;; stamp++) {
        unsigned i = (unsigned)(draw(&w) % OWNED);
        char key[24];
        size_t klen = key_of(key, (uint64_t)v->number * 1000 + i), n = 0;
        size_t vlen = draw(&w) % 8 ? 16 + draw(&w) % 300 : 9000 + draw(&w) % 5000;
        uint64_t s = 0;
        int rc = shf_table_get(w.t, key, klen, w.out, 100000, &n);
        good(rc, "get");
        if (rc == SHF_OK && !value_check(w.out, n, key, klen, &s)) board->torn++;
        if (rc == SHF_NOT_FOUND) s = 0;
        if (s != board->acked[v->number][i]) board->lost++;
        uint64_t wanted = draw(&w) % 5 == 0 ? 0 : stamp + 1; /* 0: absent */
        board->intended[v->number][i] = wanted;
        if (wanted) {
            value_fill(w.buf, vlen, key, klen, wanted);
            good(shf_table_put(w.t, key, klen, w.buf, vlen, NULL), "put");
        } else {
            good(shf_table_del(w.t, key, klen), "del");
        }
        board->acked[v->number][i] = wanted;
        board->ops++;
        if (draw(&w) % 64 == 0) { /* and something in everybody's way */
            klen = key_of(key, 100000 + draw(&w) % (CHURN / 3));
            good(shf_table_put(w.t, key, klen, w.buf, draw(&w) % 200, NULL), "put");
        }
    }
}
TEST(killed_writers) {
    if (test_threads_only()) return;
    struct shf_table *t = table_create("a");
    unsigned char *out = test_alloc(100000);
    fresh_board();
    pid_t pid[WORKERS] = {0};
    static struct victim v[WORKERS];
    uint64_t kills = 0, slowest = 0, end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u;
    for (uint64_t turn = 1; test_now_ns() < end && *test_failures == 0; turn++) {
        int i = (int)(turn % WORKERS);
        if (pid[i]) {
            usleep((useconds_t)(test_rng() % 4000));
            kill(pid[i], SIGKILL);
            CHECK_EQ_INT(wait_child(pid[i], 10000), CHILD_KILLED(SIGKILL));
            kills++;
            for (unsigned k = 0; k < OWNED; k++) { /* old or new, and no third thing */
                char key[24];
                size_t klen = key_of(key, (uint64_t)i * 1000 + k), n = 0;
                uint64_t s = 0, start = test_now_ns();
                int rc = shf_table_get(t, key, klen, out, 100000, &n);
                good(rc, "get");
                if (rc == SHF_OK && !value_check(out, n, key, klen, &s)) board->torn++;
                if (rc != SHF_OK) s = 0;
                if (s != board->acked[i][k] && s != board->intended[i][k])
                    FAIL("key %s has stamp %llx, acknowledged was %llx, intended %llx", key, (unsigned long long)s,
                         (unsigned long long)board->acked[i][k], (unsigned long long)board->intended[i][k]);
                if (rc == SHF_OK) { /* a lock left behind is taken over at once */
                    uint32_t uid = 0;
                    good(shf_table_update(t, key, klen, grow_fn, &(struct growing){&(struct worker){.buf = out, .rng = s}, key, klen, 20}, &uid), "update");
                    value_fill(out, 20, key, klen, s | 1);
                    good(shf_table_put(t, key, klen, out, 20, NULL), "put"), s |= 1;
                }
                board->acked[i][k] = board->intended[i][k] = s;
                if (test_now_ns() - start > slowest) slowest = test_now_ns() - start;
            }
        }
        v[i] = (struct victim){"a", i, turn};
        pid[i] = fork_child(victim_child, &v[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        if (pid[i]) kill(pid[i], SIGKILL), wait_child(pid[i], 10000);
    CHECK_EQ_INT(board->torn, 0);
    CHECK_EQ_INT(board->lost, 0);
    struct shf_table_stats s = table_stats(t);
    total_ops += board->ops, total_kills += kills;
    printf("# %llu killed, %llu thousand operations, %llu recoveries, slowest of the survivor %.1f ms\n",
           (unsigned long long)kills, (unsigned long long)board->ops / 1000, (unsigned long long)s.recoveries,
           (double)slowest / 1e6);
    table_clean(t);
    free(out);
    shf_table_close(t);
}

/* ---- many at one door ---- */
static void racer_child(void *arg) {
    struct shf_table *t = NULL;
    char key[24];
    while (!board->stop) sched_yield();
    int rc = shf_table_open(temp_path("race"), SHF_CREATE, NULL, &t);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    size_t klen = key_of(key, (uint64_t) * (int *)arg);
    good(shf_table_put(t, key, klen, key, klen, NULL), "put");
    shf_table_close(t);
}
TEST(racing_creators) {
    if (test_threads_only()) return;
    enum { RACERS = 32 };
    for (int round = 0; round < 5; round++) {
        int number[RACERS];
        pid_t pid[RACERS];
        fresh_board();
        unlink(temp_path("race"));
        for (int i = 0; i < RACERS; i++) number[i] = i, pid[i] = fork_child(racer_child, &number[i]);
        board->stop = 1;
        for (int i = 0; i < RACERS; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
        struct shf_table *t = table_open("race", 0);
        CHECK_EQ_INT(table_clean(t), RACERS);
        shf_table_close(t);
    }
}

static void forked_child(void *arg) {
    struct shf_table *t = arg; /* the parent's handle: registers anew */
    for (unsigned i = 0; i < 300; i++) {
        char key[24];
        size_t klen = key_of(key, i);
        good(shf_table_add(t, key, klen, 1, NULL), "add");
    }
    shf_table_close(t);
}
TEST(handles_in_forked_children) {
    if (test_threads_only()) return;
    struct shf_table *t = table_create("a");
    pid_t pid[8];
    good(shf_table_put(t, "k", 1, "v", 1, NULL), "put");
    for (int i = 0; i < 8; i++) pid[i] = fork_child(forked_child, t);
    for (int i = 0; i < 8; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    for (unsigned i = 0; i < 300; i++) {
        char key[24];
        size_t klen = key_of(key, i), n;
        int64_t v = 0;
        CHECK_EQ_INT(shf_table_get(t, key, klen, &v, 8, &n), SHF_OK);
        CHECK_EQ_INT(v, 8);
    }
    CHECK_EQ_INT(table_stats(t).handles, 1);
    CHECK(table_has(t, "k", 1, "v", 1));
    CHECK_EQ_INT(table_clean(t), 301);
    shf_table_close(t);
}

/* ---- updates alone: the file's size stays ---- */
static size_t soak_size;
static uint64_t soak_keys;
static void soak(struct worker *w) {
    char key[24];
    size_t klen = key_of(key, draw(w) % soak_keys);
    board->ops++;
    good(shf_table_put(w->t, key, klen, w->buf, soak_size - draw(w) % (soak_size / 4 + 1), NULL), "put");
}
TEST(soak_of_updates) {
    static const size_t lengths[] = {4, 8, 100, 3300, 4100, 9000, MOST};
    for (int i = 0; i < 7; i++) {
        struct shf_table *t = table_create("a");
        fresh_board();
        soak_size = lengths[i], soak_keys = lengths[i] > 20000 ? 40 : 1000;
        void *zero = calloc(1, soak_size);
        for (uint64_t k = 0; k < soak_keys; k++) {
            char key[24];
            size_t klen = key_of(key, k);
            good(shf_table_put(t, key, klen, zero, soak_size, NULL), "put");
        }
        free(zero);
        run_workers("a", t, soak, 14);
        uint64_t early = table_stats(t).file_bytes;
        run_workers("a", t, soak, 7);
        struct shf_table_stats s = table_stats(t);
        printf("# %7zu bytes: file %llu KiB, later %llu KiB; keys %llu KiB, garbage %llu KiB, free %llu KiB\n", lengths[i],
               (unsigned long long)early >> 10, (unsigned long long)s.file_bytes >> 10,
               (unsigned long long)(s.keys * lengths[i]) >> 10, (unsigned long long)s.garbage_bytes >> 10,
               (unsigned long long)s.free_bytes >> 10);
        /* three times the live bytes, and for each of 256 shards two chunks of about eight records */
        uint64_t chunk = 4096;
        while (chunk < 65536 && chunk < 8 * lengths[i]) chunk *= 2;
        CHECK(s.file_bytes <= (4 << 20) + 3 * soak_keys * lengths[i] + (lengths[i] > 20000 ? 0 : 2 * 256 * chunk));
        table_clean(t);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(total) {
    printf("# total: %llu thousand operations of threads and processes at once, %llu processes killed, readers stopped %llu times; "
           "0 torn, 0 lost unless a test failed\n",
           (unsigned long long)total_ops / 1000, (unsigned long long)total_kills, (unsigned long long)total_stops);
}

int main(int argc, char **argv) { return run(argc, argv); }
