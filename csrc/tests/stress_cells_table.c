/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_cells_table.c - fixed lengths, many threads and processes at once: every read is of a moment that was
 *
 * RIVALS     A few keys of one shard, one bucket and one tag come and go as fast as two writers can. What happens to a key
 *            is numbered: change n of key k is a put with stamp n, or a removal, as a function says that all know. A
 *            board outside of the table tells which change was last begun and which last acknowledged; what a reader
 *            sees must be the state after one of the changes from the one acknowledged before its call to the one
 *            begun before its end. So a torn, lost, stale, dirty or mixed-up value is found, not only guessed.
 * Each test runs for SHF_SECONDS (default 5, spread over its parts) with threads in this process and, unless
 * SHF_THREADS_ONLY is set (ThreadSanitizer), with processes of two threads each.
 */
#include "model.h"

#include <pthread.h>
#include <sched.h>

static const struct shape {
    size_t k, v;
} shapes[] = {{4, 4}, {8, 8}, {16, 40}, {5, 3}, {12, 8}, {9, 9}, {8, 112}};
#define SHAPES (sizeof shapes / sizeof *shapes)
#define WORKERS 4
#define WRITERS 2 /* the first of the workers */
#define RIVALS 6

struct board { /* shared with the children */
    _Atomic uint64_t ops, reads, torn, wrong, lost, backwards, unknown, sum[16];
    _Atomic int stop;
    _Atomic uint64_t begun[RIVALS], acked[RIVALS];
};
static struct board *board;
static uint64_t total_ops, total_kills; /* of all tests that ran */
static size_t klen, vlen; /* of the table in work */
static int all_write;     /* the test's workers are writers, all of them */
static unsigned char rival[RIVALS][120];

struct worker {
    struct shf_table *t;
    int number; /* 0 .. WORKERS - 1 */
    uint64_t rng;
    void (*fn)(struct worker *);
    uint64_t seen[RIVALS]; /* the highest change that a reader saw */
    pthread_t thread;
};
static uint64_t draw(struct worker *w) { return test_next(&w->rng); }
static void good(int rc, const char *what) {
    if (rc < 0) FAIL("%s: %d, %s", what, rc, shf_last_error()->message);
}
static void *worker_main(void *arg) {
    struct worker *w = arg;
    while (!board->stop) w->fn(w);
    return NULL;
}
static void run_threads(struct shf_table *shared_handle, void (*fn)(struct worker *), int first, int n, uint64_t ms) {
    struct worker w[WORKERS];
    memset(w, 0, sizeof w);
    for (int i = 0; i < n; i++) { /* shared handles, own ones, read-only ones */
        unsigned flags = first + i >= WRITERS && !all_write ? SHF_RDONLY : 0;
        w[i].t = shared_handle && i % 2 == 0 ? shared_handle : table_open("a", flags);
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
    void (*fn)(struct worker *);
    int first;
};
static void group_child(void *arg) {
    struct group *g = arg;
    struct shf_table *t = table_open("a", 0);
    run_threads(t, g->fn, g->first, WORKERS / 2, 0);
    shf_table_close(t);
}
static void fresh_board(void) {
    if (!board) board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)board, 0, sizeof *board);
}
static void verdict(const char *mode, uint64_t before) {
    total_ops += board->ops - before;
    printf("# %3zu, %3zu, %s: %llu thousand operations; torn %llu, wrong %llu, lost %llu, backwards %llu; unknown %llu\n", klen,
           vlen, mode, (unsigned long long)(board->ops - before) / 1000, (unsigned long long)board->torn,
           (unsigned long long)board->wrong, (unsigned long long)board->lost, (unsigned long long)board->backwards,
           (unsigned long long)board->unknown);
    CHECK_EQ_INT(board->torn, 0);
    CHECK_EQ_INT(board->wrong, 0);
    CHECK_EQ_INT(board->lost, 0);
    CHECK_EQ_INT(board->backwards, 0);
}
/* Half of the time as threads, half as processes. `t` is the parent's handle. */
static void run_workers(struct shf_table *t, void (*fn)(struct worker *), uint64_t share) {
    uint64_t ms = test_env("SHF_SECONDS", 5) * 1000 / share;
    int modes = test_threads_only() ? 1 : 2;
    for (int mode = 0; mode < modes; mode++) {
        board->stop = 0;
        uint64_t before = board->ops;
        if (mode == 0) {
            run_threads(t, fn, 0, WORKERS, ms / (uint64_t)modes);
        } else {
            struct group g[2] = {{fn, 0}, {fn, WORKERS / 2}};
            pid_t p[2];
            for (int i = 0; i < 2; i++) p[i] = fork_child(group_child, &g[i]);
            usleep((useconds_t)(ms / (uint64_t)modes * 1000));
            board->stop = 1;
            for (int i = 0; i < 2; i++) CHECK_EQ_INT(wait_child(p[i], 30000), 0);
        }
        verdict(mode ? "processes" : "threads", before);
    }
}
static struct shf_table *start(struct shape s) {
    klen = s.k, vlen = s.v;
    fresh_board();
    unlink(temp_path("a"));
    return table_create_fixed("a", klen, vlen, 0);
}

/* ---- rivals ---- */
static int removes(int key, uint64_t n) { /* change 0: the key was never there */
    uint64_t s = n * 31 + (uint64_t)key;
    return n == 0 || test_next(&s) % 3 == 0;
}
static void fill(unsigned char *val, int key, uint64_t n) { value_fill(val, vlen, rival[key], klen, n); }
static int update_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct shf_bytes *want = context;
    (void)old;
    *desired = *want;
    return 0;
}
/* Each key has one writer: it knows what is there, and must find just that. */
static void change(struct worker *w) {
    int key = (int)(draw(w) % (RIVALS / WRITERS)) * WRITERS + w->number;
    uint64_t n = board->begun[key] + 1, was = board->acked[key], checked = 0;
    unsigned char val[120], old[120], *k = rival[key];
    int gone = removes(key, n), there = !removes(key, was), rc, sure = was + 1 == n; /* else its last writer died */
    size_t len = 0;
    uint32_t uid = 0;
    fill(val, key, n), fill(old, key, was);
    struct shf_bytes kb = {k, klen}, is = {there ? (const void *)old : SHF_ABSENT, there ? vlen : 0};
    struct shf_bytes want = {gone ? SHF_ABSENT : (const void *)val, gone ? 0 : vlen};
    struct shf_pair pair = {kb, {val, vlen}};
    board->ops++;
    if (sure && draw(w) % 4 == 0) {
        unsigned char out[120];
        rc = shf_table_get(w->t, k, klen, out, sizeof out, &len);
        if (rc != (there ? SHF_OK : SHF_NOT_FOUND) || (there && (len != vlen || memcmp(out, old, vlen) != 0))) board->lost++;
    }
    board->begun[key] = n;
    int kind = (int)(draw(w) % (sure ? 8 : 2));
    if (kind == 2) {
        rc = shf_table_update(w->t, k, klen, update_fn, &want, NULL);
        if (rc != SHF_OK) FAIL("update: %d", rc);
    } else if (kind == 3) {
        rc = shf_table_cas(w->t, k, klen, &is, &want, NULL, 0, NULL);
        if (rc != SHF_OK) FAIL("cas: %d", rc);
    } else if (kind == 4 && there) {
        rc = shf_table_uid(w->t, k, klen, &uid);
        if (rc == SHF_OK) rc = gone ? shf_table_del_by_uid(w->t, uid) : shf_table_put_by_uid(w->t, uid, val, vlen);
        if (rc != SHF_OK) FAIL("by uid: %d", rc);
    } else if (kind == 5 && there) {
        rc = shf_table_checked_uid(w->t, k, klen, &checked);
        if (rc == SHF_OK)
            rc = gone ? shf_table_del_by_checked_uid(w->t, checked) : shf_table_put_by_checked_uid(w->t, checked, val, vlen);
        if (rc != SHF_OK) FAIL("by checked uid: %d", rc);
    } else if (kind == 6 && there) {
        unsigned char out[120];
        rc = gone ? shf_table_take(w->t, k, klen, out, sizeof out, &len)
                  : shf_table_replace(w->t, k, klen, val, vlen, out, sizeof out, &len);
        if (rc != SHF_OK) FAIL("take or replace: %d", rc);
        if (len != vlen || memcmp(out, old, vlen) != 0) board->lost++;
    } else if (kind == 7) {
        rc = gone ? shf_table_del_many(w->t, 1, &kb, &len, NULL) : shf_table_put_many(w->t, 1, &pair, &len);
        if (rc != SHF_OK) FAIL("many: %d", rc);
    } else {
        rc = gone ? shf_table_del(w->t, k, klen) : shf_table_put(w->t, k, klen, val, vlen, NULL);
        good(rc, "put or del");
        if (sure && gone && rc != (there ? SHF_OK : SHF_NOT_FOUND)) board->lost++;
    }
    board->acked[key] = n;
}
/* rc and value as a read of this key gave them, between `from` acknowledged and `to` begun. */
static void judge(struct worker *w, int key, int rc, const unsigned char *val, size_t len, uint64_t from, uint64_t to) {
    uint64_t stamp = 0, n = from;
    good(rc, "read");
    board->reads++;
    if (rc == SHF_OK) {
        if (len != vlen || !value_check(val, len, rival[key], klen, &stamp)) {
            board->torn++;
            return;
        }
        uint64_t mask = vlen >= 16 ? ~UINT64_C(0) : vlen >= 8 ? 0xffffffff : vlen >= 4 ? 0xfff : 0xff;
        if (to - from > mask / 2) { /* the reader slept: its stamp may mean several changes */
            board->unknown++;
            return;
        }
        n += (stamp - from) & mask;
        if (n > to || removes(key, n)) board->wrong++;
        else if (n < w->seen[key]) board->backwards++;
        else w->seen[key] = n;
    } else {
        while (n <= to && n - from < 10000 && !removes(key, n)) n++;
        if (n - from == 10000) board->unknown++;
        else if (n > to) board->lost++;
    }
}
static void read_rivals(struct worker *w) {
    int key = (int)(draw(w) % RIVALS), rc;
    unsigned char out[RIVALS][120], kb[120];
    uint64_t from[RIVALS], to[RIVALS], checked = 0, position = 0;
    size_t n = 0, kn = 0;
    uint32_t uid = 0;
    for (int i = 0; i < RIVALS; i++) from[i] = board->acked[i];
    board->ops++;
    switch (draw(w) % 16) {
    case 0: { /* many at once */
        struct shf_bytes k[RIVALS];
        struct shf_value v[RIVALS];
        for (int i = 0; i < RIVALS; i++) k[i] = (struct shf_bytes){rival[i], klen}, v[i] = (struct shf_value){out[i], 120, 0, 0};
        good(shf_table_get_many(w->t, RIVALS, k, v), "get_many");
        for (int i = 0; i < RIVALS; i++) to[i] = board->begun[i];
        for (int i = 0; i < RIVALS; i++) judge(w, i, v[i].code, out[i], v[i].len, from[i], to[i]);
        break;
    }
    case 1:
    case 2: /* the number may have got another owner: then it is that one's value */
        if (shf_table_uid(w->t, rival[key], klen, &uid) != SHF_OK) break;
        rc = shf_table_get_by_uid(w->t, uid, out[0], sizeof out[0], &n);
        good(rc, "get by uid");
        if (rc != SHF_OK) break;
        int whose = 0;
        while (whose < RIVALS && !value_check(out[0], n, rival[whose], klen, NULL)) whose++;
        if (whose == RIVALS) board->torn++;
        break;
    case 3:
        if (shf_table_uid(w->t, rival[key], klen, &uid) != SHF_OK) break;
        rc = shf_table_key_by_uid(w->t, uid, kb, sizeof kb, &kn);
        good(rc, "key by uid");
        if (rc != SHF_OK) break;
        int of = 0;
        while (of < RIVALS && (kn != klen || memcmp(kb, rival[of], klen) != 0)) of++;
        if (of == RIVALS) board->torn++;
        break;
    case 4:
    case 5: /* this one never has another owner */
        if (shf_table_checked_uid(w->t, rival[key], klen, &checked) != SHF_OK) break;
        rc = shf_table_get_by_checked_uid(w->t, checked, out[0], sizeof out[0], &n);
        judge(w, key, rc, out[0], n, from[key], board->begun[key]);
        break;
    case 6: { /* a walk: whoever is there throughout is seen once */
        int seen[RIVALS] = {0};
        if (draw(w) % 8) break;
        for (;;) {
            rc = shf_table_next(w->t, &position, kb, sizeof kb, &kn, out[0], sizeof out[0], &n, NULL);
            if (rc != SHF_OK) break;
            int i = 0;
            while (i < RIVALS && memcmp(kb, rival[i], klen) != 0) i++;
            if (i < RIVALS) seen[i]++, judge(w, i, SHF_OK, out[0], n, from[i], board->begun[i]);
            else if (!value_check(out[0], n, kb, kn, NULL)) board->torn++;
        }
        good(rc, "next");
        for (int i = 0; i < RIVALS; i++) {
            uint64_t c = from[i], end = board->begun[i];
            while (c <= end && c - from[i] < 10000 && !removes(i, c)) c++;
            if (c > end && seen[i] != 1) board->lost++;
        }
        break;
    }
    case 7:
        rc = shf_table_contains(w->t, rival[key], klen);
        to[key] = board->begun[key];
        if (rc == SHF_NOT_FOUND) judge(w, key, rc, NULL, 0, from[key], to[key]);
        break;
    default:
        rc = shf_table_get(w->t, rival[key], klen, out[0], vlen, &n);
        judge(w, key, rc, out[0], n, from[key], board->begun[key]);
    }
}
static void rivalry(struct worker *w) {
    if (w->number < WRITERS) change(w);
    else read_rivals(w);
}
static void choose_rivals(struct shf_table *t) {
    unsigned char *flat = test_alloc(RIVALS * klen);
    colliding_keys(t, klen, flat, RIVALS, COLLIDE_TAG);
    for (int i = 0; i < RIVALS; i++) memcpy(rival[i], flat + (size_t)i * klen, klen);
    free(flat);
}
/* A few keys that stay, all over the table, so that walks meet more than rivals. */
static void settle(struct shf_table *t) {
    unsigned char key[120], val[120];
    for (uint64_t i = 0; i < 300; i++) {
        fixed_key(key, klen, (1u << 23) + i);
        value_fill(val, vlen, key, klen, 1);
        good(shf_table_put(t, key, klen, val, vlen, NULL), "put");
    }
}
TEST(rivals_of_one_tag) {
    for (size_t s = 0; s < SHAPES; s++) {
        struct shf_table *t = start(shapes[s]);
        choose_rivals(t);
        settle(t);
        run_workers(t, rivalry, SHAPES);
        table_clean(t);
        shf_table_close(t);
    }
}
TEST(rivals_beyond_two_buckets) { /* stashed ones, too: fourteen that stay fill both buckets of the rivals */
    for (size_t s = 0; s < 3; s++) {
        struct shf_table *t = start(shapes[s]);
        enum { ALL = 14 + RIVALS };
        unsigned char *flat = test_alloc(ALL * klen), val[120];
        colliding_keys(t, klen, flat, ALL, COLLIDE_DELTA);
        for (int i = 0; i < 14; i++) {
            value_fill(val, vlen, flat + (size_t)i * klen, klen, 1);
            good(shf_table_put(t, flat + (size_t)i * klen, klen, val, vlen, NULL), "put");
        }
        for (int i = 0; i < RIVALS; i++) memcpy(rival[i], flat + (size_t)(14 + i) * klen, klen);
        run_workers(t, rivalry, 6);
        for (int i = 0; i < 14; i++) {
            value_fill(val, vlen, flat + (size_t)i * klen, klen, 1);
            table_has(t, flat + (size_t)i * klen, klen, val, vlen);
        }
        free(flat);
        table_clean(t);
        shf_table_close(t);
    }
}

/* ---- writers that die ---- */
static void dying_writer(void *arg) {
    struct worker w = {0};
    w.t = table_open("a", 0), w.number = *(int *)arg, w.rng = test_rng() ^ (uint64_t)getpid();
    for (;;) change(&w);
}
static void *readers_main(void *arg) {
    run_threads(arg, read_rivals, WRITERS, WORKERS / 2, 0);
    return NULL;
}
TEST(rivals_that_die) {
    if (test_threads_only()) return;
    for (size_t s = 0; s < SHAPES; s++) {
        struct shf_table *t = start(shapes[s]);
        choose_rivals(t);
        settle(t);
        static int numbers[WRITERS] = {0, 1};
        pid_t pid[WRITERS] = {0};
        pthread_t readers;
        uint64_t kills = 0, end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u / SHAPES;
        for (int i = 0; i < WRITERS; i++) pid[i] = fork_child(dying_writer, &numbers[i]);
        pid_t other = fork_child(group_child, &(struct group){read_rivals, WRITERS}); /* and readers of another process */
        if (pthread_create(&readers, NULL, readers_main, t) != 0) FAIL("pthread_create"), test_stop();
        while (test_now_ns() < end && *test_failures == 0) {
            int i = (int)(test_rng() % WRITERS);
            usleep((useconds_t)(test_rng() % 3000));
            kill(pid[i], SIGKILL);
            CHECK_EQ_INT(wait_child(pid[i], 10000), CHILD_KILLED(SIGKILL));
            kills++;
            pid[i] = fork_child(dying_writer, &numbers[i]);
        }
        for (int i = 0; i < WRITERS; i++) kill(pid[i], SIGKILL), wait_child(pid[i], 10000);
        board->stop = 1;
        pthread_join(readers, NULL);
        CHECK_EQ_INT(wait_child(other, 20000), 0);
        verdict("deaths", 0);
        total_kills += kills;
        printf("# %llu killed, %llu recoveries, %llu reads\n", (unsigned long long)kills,
               (unsigned long long)table_stats(t).recoveries, (unsigned long long)board->reads);
        table_clean(t);
        shf_table_close(t);
    }
}

/* ---- keys that are there are never absent, and never go back in time, whatever splits ---- */
#ifdef SHF_SMALL
#define STAY 600u
#define CHURN 4000u
#else
#define STAY 3000u
#define CHURN 100000u
#endif
static void stay(struct worker *w) {
    static __thread uint64_t seen[STAY];
    static __thread struct worker *mine;
    unsigned char key[120], val[120];
    size_t n = 0;
    uint64_t stamp = 0, i = draw(w) % STAY;
    if (mine != w) memset(seen, 0, sizeof seen), mine = w;
    board->ops++;
    if (w->number == 0) { /* the one who changes them, with rising stamps */
        fixed_key(key, klen, i);
        value_fill(val, vlen, key, klen, ++board->sum[0]);
        good(shf_table_put(w->t, key, klen, val, vlen, NULL), "put");
    } else if (w->number == 1) { /* the one who makes splits and doublings */
        fixed_key(key, klen, STAY + draw(w) % CHURN);
        value_fill(val, vlen, key, klen, 1);
        good(draw(w) % 4 ? shf_table_put(w->t, key, klen, val, vlen, NULL) : shf_table_del(w->t, key, klen), "churn");
    } else if (draw(w) % 16 == 0) { /* thirty-two at once */
        unsigned char keys[32][120], out[32][120];
        struct shf_bytes k[32];
        struct shf_value v[32];
        for (int j = 0; j < 32; j++) {
            fixed_key(keys[j], klen, draw(w) % STAY);
            k[j] = (struct shf_bytes){keys[j], klen}, v[j] = (struct shf_value){out[j], 120, 0, 0};
        }
        good(shf_table_get_many(w->t, 32, k, v), "get_many");
        for (int j = 0; j < 32; j++) {
            if (v[j].code == SHF_NOT_FOUND) board->lost++;
            else if (!value_check(out[j], v[j].len, keys[j], klen, NULL)) board->torn++;
        }
    } else {
        fixed_key(key, klen, i);
        int rc = shf_table_get(w->t, key, klen, val, sizeof val, &n);
        good(rc, "get");
        if (rc == SHF_NOT_FOUND) board->lost++;
        if (rc == SHF_OK && !value_check(val, n, key, klen, &stamp)) board->torn++;
        if (vlen >= 8 && stamp < seen[i]) board->backwards++;
        seen[i] = stamp;
    }
}
TEST(present_keys_are_never_absent) {
    for (size_t s = 0; s < 6; s++) { /* from an empty table each time: this is where splits are */
        struct shf_table *t = start(shapes[s % 3]);
        for (uint64_t i = 0; i < STAY; i++) {
            unsigned char key[120], val[120];
            fixed_key(key, klen, i);
            value_fill(val, vlen, key, klen, 0);
            good(shf_table_put(t, key, klen, val, vlen, NULL), "put");
        }
        run_workers(t, stay, 12);
        table_clean(t);
        shf_table_close(t);
    }
}

/* ---- clear beside the rest ---- */
static void clearing(struct worker *w) {
    unsigned char key[120], val[120];
    size_t n = 0;
    board->ops++;
    if (w->number == 0 && draw(w) % 400 == 0) {
        good(shf_table_clear(w->t), "clear");
        return;
    }
    fixed_key(key, klen, draw(w) % 3000);
    if (w->number < WRITERS) {
        value_fill(val, vlen, key, klen, draw(w));
        good(draw(w) % 4 ? shf_table_put(w->t, key, klen, val, vlen, NULL) : shf_table_del(w->t, key, klen), "put or del");
    } else {
        int rc = shf_table_get(w->t, key, klen, val, sizeof val, &n);
        good(rc, "get");
        if (rc == SHF_OK && !value_check(val, n, key, klen, NULL)) board->torn++;
    }
}
TEST(clear_beside_the_rest) {
    for (size_t s = 0; s < 3; s++) {
        struct shf_table *t = start(shapes[s]);
        run_workers(t, clearing, 12);
        table_clean(t);
        shf_table_close(t);
    }
}

/* ---- sums ---- */
static int plus_one(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    uint64_t *v = context;
    *v = 0;
    if (old->data != SHF_ABSENT) memcpy(v, old->data, 8);
    ++*v;
    desired->data = v, desired->len = 8;
    return 0;
}
static void count(struct worker *w) {
    unsigned c = (unsigned)(draw(w) % 12);
    unsigned char key[120];
    size_t n = 0;
    uint64_t v = 0;
    int rc;
    fixed_key(key, klen, c);
    board->ops++;
    if (c < 4) {
        rc = shf_table_add(w->t, key, klen, 1, NULL);
    } else if (c < 8) {
        rc = shf_table_update(w->t, key, klen, plus_one, &v, NULL);
    } else {
        rc = shf_table_get(w->t, key, klen, &v, 8, &n);
        uint64_t next = rc == SHF_OK ? v + 1 : 1;
        struct shf_bytes expected = {rc == SHF_OK ? (const void *)&v : SHF_ABSENT, rc == SHF_OK ? 8 : 0}, desired = {&next, 8};
        rc = shf_table_cas(w->t, key, klen, &expected, &desired, NULL, 0, NULL);
    }
    good(rc, "count");
    if (rc == SHF_OK) board->sum[c]++;
}
TEST(sums_are_exact) {
    static const struct shape of8[] = {{4, 8}, {12, 8}};
    for (size_t s = 0; s < 2; s++) {
        struct shf_table *t = start(of8[s]);
        all_write = 1;
        run_workers(t, count, 8);
        all_write = 0;
        for (unsigned c = 0; c < 12; c++) {
            unsigned char key[120];
            uint64_t v = 0;
            size_t n = 0;
            fixed_key(key, klen, c);
            CHECK_EQ_INT(shf_table_get(t, key, klen, &v, sizeof v, &n), SHF_OK);
            CHECK_EQ_INT(v, board->sum[c]);
        }
        table_clean(t);
        shf_table_close(t);
    }
}

/* ---- one winner ---- */
static void win(struct worker *w) {
    unsigned char key[120], val[120];
    size_t n;
    fixed_key(key, klen, draw(w) % 64);
    value_fill(val, vlen, key, klen, draw(w));
    board->ops++;
    if (draw(w) % 2) {
        int rc = shf_table_insert(w->t, key, klen, val, vlen, NULL);
        good(rc, "insert");
        if (rc == SHF_OK) board->sum[0]++;
    } else {
        int rc = draw(w) % 2 ? shf_table_take(w->t, key, klen, val, sizeof val, &n) : shf_table_del(w->t, key, klen);
        good(rc, "take");
        if (rc == SHF_OK) board->sum[1]++;
    }
}
TEST(one_inserter_and_one_taker_wins) {
    for (size_t s = 0; s < 3; s++) {
        struct shf_table *t = start(shapes[s]);
        all_write = 1;
        run_workers(t, win, 12);
        all_write = 0;
        CHECK_EQ_INT(board->sum[0] - board->sum[1], table_clean(t));
        shf_table_close(t);
    }
}

TEST(total) {
    printf("# total: %llu thousand operations of threads and processes at once, %llu writers killed; 0 torn, 0 wrong, 0 lost, 0 "
           "backwards unless a test failed\n",
           (unsigned long long)total_ops / 1000, (unsigned long long)total_kills);
}

int main(int argc, char **argv) { return run(argc, argv); }
