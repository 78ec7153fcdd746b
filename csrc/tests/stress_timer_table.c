/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_timer_table.c - everything at once while each thread is interrupted 2,000 times a second
 *
 * A timer of its own sends each thread a signal; the handler is set without SA_RESTART, so whatever call the kernel
 * can break off returns EINTR. Nobody may fail, nothing may be lost: sums are exact, each worker finds its own keys
 * as it left them.
 */
#include "model.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define PERIOD_NS 500000
#define WORKERS 4
#define OWN 64 /* keys of a worker's own */
#define HOT 8  /* counters that all add to */
#define LARGE 60000

static _Thread_local uint64_t ticks;
static void on_tick(int sig) {
    (void)sig;
    ticks++;
}
static timer_t timer_begin(void) {
    struct sigaction act = {.sa_handler = on_tick};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    struct itimerspec period = {{0, PERIOD_NS}, {0, PERIOD_NS}};
    timer_t timer;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    REQUIRE(sigaction(SIGUSR1, &act, NULL) == 0);
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    REQUIRE(timer_settime(timer, 0, &period, NULL) == 0);
    return timer;
}

struct totals {
    _Atomic uint64_t sum[HOT], ticks, operations, lives;
};
struct worker {
    unsigned id;
    uint64_t end;
    const char *name;
    int fixed;
    struct totals *totals;
    struct shf_table *shared; /* a handle of several threads, or NULL: its own */
};

static size_t key_in(int fixed, unsigned char key[24], uint64_t i) {
    if (!fixed) return key_of((char *)key, i);
    fixed_key(key, 8, i);
    return 8;
}
static int plus_one(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    uint64_t *value = context;
    *value = 0;
    if (old->data != SHF_ABSENT) memcpy(value, old->data, 8);
    ++*value;
    *desired = (struct shf_bytes){value, 8};
    return 0;
}

static void work(void *arg) {
    const struct worker *w = arg;
    uint64_t rng = test_seed + w->id, operations = 0, lives = 0, added[HOT] = {0}, stamp[OWN] = {0};
    size_t length[OWN] = {0};
    static _Thread_local unsigned char val[LARGE], out[LARGE];
    struct shf_table *t = w->shared;
    timer_t timer = timer_begin();
    if (t == NULL) REQUIRE_EQ_INT(shf_table_open(w->name, 0, NULL, &t), SHF_OK);
    while (test_now_ns() < w->end && *test_failures == 0) {
        unsigned own = (unsigned)(test_next(&rng) % OWN), hot = (unsigned)(test_next(&rng) % HOT);
        unsigned char key[24], counter[24];
        size_t klen = key_in(w->fixed, key, 1000 + w->id * OWN + own), clen = key_in(w->fixed, counter, hot), n = 0;
        uint64_t s = 0, value, fresh = test_next(&rng);
        int rc = SHF_OK;
        operations++;
        switch (test_next(&rng) % 12) {
        case 0:
        case 1:
        case 2:
            rc = shf_table_add(t, counter, clen, 1, NULL);
            added[hot] += rc == SHF_OK;
            break;
        case 3:
            rc = shf_table_update(t, counter, clen, plus_one, &value, NULL);
            added[hot] += rc == SHF_OK;
            break;
        case 4:
        case 5:
        case 6: /* large ones are written before the lock; those that grow the file wait for others that grow it */
            stamp[own]++;
            length[own] = w->fixed ? 8 : fresh % 4 == 0 ? LARGE - fresh % 20000 : 16 + fresh % 300;
            value_fill(val, length[own], key, klen, stamp[own]);
            rc = shf_table_put(t, key, klen, val, length[own], NULL);
            break;
        case 7:
        case 8:
            rc = shf_table_get(t, key, klen, out, sizeof out, &n);
            CHECK_EQ_INT(rc, stamp[own] ? SHF_OK : SHF_NOT_FOUND);
            if (rc == SHF_OK) CHECK(n == length[own] && value_check(out, n, key, klen, &s) && s == stamp[own]);
            break;
        case 9:
            rc = shf_table_take(t, key, klen, out, sizeof out, &n);
            CHECK_EQ_INT(rc, stamp[own] ? SHF_OK : SHF_NOT_FOUND);
            if (rc == SHF_OK) CHECK(n == length[own] && value_check(out, n, key, klen, &s) && s == stamp[own]);
            stamp[own] = 0;
            break;
        case 10: /* new keys: segments, chunks */
            for (unsigned i = 0; i < 20 && rc == SHF_OK; i++) {
                klen = key_in(w->fixed, key, 1000000 + (w->id * 64 + fresh % 64) * 20 + i);
                value_fill(val, 8, key, klen, 1);
                rc = shf_table_put(t, key, klen, val, 8, NULL);
            }
            if (fresh % 3 == 0)
                for (unsigned i = 0; i < 20 && rc >= 0; i++)
                    rc = shf_table_del(t, key, key_in(w->fixed, key, 1000000 + (w->id * 64 + fresh % 64) * 20 + i));
            break;
        default:
            if (fresh % 8 == 0) {
                struct shf_table_stats stats = {.size = sizeof stats};
                rc = shf_table_stats(t, &stats);
            } else if (fresh % 8 == 1) {
                rc = shf_table_len(t, &value);
            } else if (fresh % 8 == 2 && w->shared == NULL) { /* attach and detach: byte R, sweeps */
                shf_table_close(t);
                rc = shf_table_open(w->name, 0, NULL, &t);
                if (rc != SHF_OK) t = NULL;
                lives++;
            } else if (fresh % 8 == 3) {
                char name[200];
                struct shf_table *other = NULL;
                snprintf(name, sizeof name, "%s-%u", w->name, w->id);
                rc = shf_table_open(name, SHF_CREATE | SHF_EXCL, NULL, &other);
                if (rc == SHF_OK) rc = shf_table_put(other, "k", 1, val, LARGE, NULL);
                shf_table_close(other);
                if (rc == SHF_OK) rc = shf_unlink(name);
                lives++;
            } else if (fresh % 8 == 4) {
                uint64_t position = SHF_SHARD_POSITION(fresh >> 56);
                size_t m = 0;
                for (int i = 0; i < 20 && rc == SHF_OK; i++)
                    rc = shf_table_next(t, &position, key, sizeof key, &m, out, sizeof out, &n, NULL);
            }
        }
        if (rc < 0) FAIL("worker %u: %d, %s", w->id, rc, shf_last_error()->message);
        if (t == NULL) break;
    }
    for (unsigned i = 0; i < OWN && t != NULL; i++) {
        unsigned char key[24];
        size_t klen = key_in(w->fixed, key, 1000 + w->id * OWN + i), n = 0;
        uint64_t s = 0;
        int rc = shf_table_get(t, key, klen, out, sizeof out, &n);
        CHECK_EQ_INT(rc, stamp[i] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK) CHECK(n == length[i] && value_check(out, n, key, klen, &s) && s == stamp[i]);
    }
    if (w->shared == NULL) shf_table_close(t);
    timer_delete(timer);
    for (int i = 0; i < HOT; i++) atomic_fetch_add(&w->totals->sum[i], added[i]);
    atomic_fetch_add(&w->totals->ticks, ticks);
    atomic_fetch_add(&w->totals->operations, operations);
    atomic_fetch_add(&w->totals->lives, lives);
}
static void *work_in_thread(void *arg) {
    work(arg);
    return NULL;
}
/* Two threads on one handle, in a process. */
static void work_in_two_threads(void *arg) {
    struct worker w[2] = {*(struct worker *)arg, *(struct worker *)arg};
    struct shf_table *t = NULL;
    pthread_t other;
    REQUIRE_EQ_INT(shf_table_open(w[0].name, 0, NULL, &t), SHF_OK);
    w[0].shared = w[1].shared = t;
    w[1].id += WORKERS;
    REQUIRE(pthread_create(&other, NULL, work_in_thread, &w[1]) == 0);
    work(&w[0]);
    REQUIRE(pthread_join(other, NULL) == 0);
    shf_table_close(t);
}

static void all_at_once(int fixed) {
    struct totals *totals = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct worker w[WORKERS];
    struct shf_table *t = fixed ? table_create_fixed("t", 8, 8, 0) : table_create("t");
    uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 2) * 1000000000u;
    char name[200];
    REQUIRE(totals != MAP_FAILED);
    snprintf(name, sizeof name, "%s", temp_path("t"));
    for (unsigned i = 0; i < WORKERS; i++) w[i] = (struct worker){i, end, name, fixed, totals, NULL};
    if (test_threads_only()) {
        pthread_t threads[WORKERS];
        for (int i = 0; i < WORKERS; i++) REQUIRE(pthread_create(&threads[i], NULL, work_in_thread, &w[i]) == 0);
        for (int i = 0; i < WORKERS; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    } else {
        pid_t pids[WORKERS];
        for (int i = 0; i < WORKERS; i++) pids[i] = fork_child(i % 2 ? work_in_two_threads : work, &w[i]);
        for (int i = 0; i < WORKERS; i++) CHECK_EQ_INT(wait_child(pids[i], 120000), 0);
    }
    for (unsigned i = 0; i < HOT; i++) {
        unsigned char key[24];
        uint64_t value = 0;
        size_t n = 0, klen = key_in(fixed, key, i);
        CHECK(shf_table_get(t, key, klen, &value, 8, &n) == SHF_OK && n == 8);
        CHECK_EQ_INT(value, atomic_load(&totals->sum[i]));
    }
    table_clean(t);
    shf_table_close(t);
    CHECK(atomic_load(&totals->ticks) > 0);
    printf("# total: %llu operations and %llu openings%s, interrupted %llu times; 0 failed, 0 lost, sums exact\n",
           (unsigned long long)atomic_load(&totals->operations), (unsigned long long)atomic_load(&totals->lives),
           fixed ? " of fixed lengths" : "", (unsigned long long)atomic_load(&totals->ticks));
    munmap(totals, 4096);
}
TEST(variable) { all_at_once(0); }
TEST(fixed) { all_at_once(1); }

/* Holes are filled in pieces; the kernel may throw a piece away when a signal comes. */
static void open_sparse(void *arg) {
    struct shf_table *t = NULL;
    timer_t timer = timer_begin();
    REQUIRE_EQ_INT(shf_table_open(arg, 0, NULL, &t), SHF_OK);
    timer_delete(timer);
    CHECK(ticks > 0);
    CHECK_EQ_INT(table_clean(t), 1);
    shf_table_close(t);
}
TEST(holes_are_filled) {
    if (test_threads_only()) return;
    for (int disk = 0; disk < 2; disk++) {
        char name[200], folder[] = "/var/tmp/shf-test-XXXXXX";
        struct shf_table *t = NULL;
        struct stat st;
        static unsigned char val[32 << 20];
        if (disk) REQUIRE(mkdtemp(folder) != NULL);
        snprintf(name, sizeof name, "%s/sparse", disk ? folder : test_dir[0] ? test_dir : (temp_path(""), test_dir));
        REQUIRE_EQ_INT(shf_table_open(name, SHF_CREATE, NULL, &t), SHF_OK);
        REQUIRE_EQ_INT(shf_table_put(t, "zeros", 5, val, sizeof val, NULL), SHF_OK);
        shf_table_close(t);
        int fd = open(name, O_RDWR | O_CLOEXEC); /* as cp --sparse makes one */
        REQUIRE(fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 << 20, 24 << 20) == 0);
        REQUIRE(fstat(fd, &st) == 0 && st.st_blocks < st.st_size / 512);
        close(fd);
        CHECK_EQ_INT(run_child(open_sparse, name, 60000), 0);
        REQUIRE(stat(name, &st) == 0);
        CHECK(st.st_blocks >= st.st_size / 512);
        unlink(name);
        if (disk) rmdir(folder);
    }
}

int main(int argc, char **argv) { return run(argc, argv); }
