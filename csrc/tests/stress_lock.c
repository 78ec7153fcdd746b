// SPDX-License-Identifier: MIT OR Apache-2.0
/* stress_lock.c - mutual exclusion: threads (also under TSan), processes with random SIGKILL, 1,000 waiters */
#include "registry_fixture.h"

#include <pthread.h>
#include <sys/resource.h>

static struct shf_region region;
static struct shf_registry handles[8];
static shf_au32 *word;
static uint64_t plain; /* not atomic: TSan and the sum tell */

static void up(const char *name, unsigned n, unsigned timeout_ms) {
    const char *path = temp_path(name);
    fixture_make(path);
    region_up(&region, path, 0);
    for (unsigned i = 0; i < n; i++) REQUIRE_EQ_INT(registry_up(&handles[i], &region, timeout_ms), SHF_OK);
    word = word_at(&region, 0);
}
static void down(unsigned n) {
    for (unsigned i = 0; i < n; i++) shf__registry_detach(&handles[i]);
    region_down(&region);
}

/* ---- threads ---- */

struct job {
    struct shf_registry *g;
    unsigned rounds;
};
static void *add_up(void *arg) {
    struct job *j = arg;
    for (unsigned i = 0; i < j->rounds; i++) {
        int over = 0;
        if (i % 3 == 0 && shf__trylock(j->g, word)) {
            plain++;
        } else {
            if (shf__lock(j->g, word, &over) != SHF_OK || over) FAIL("lock, taken over %d", over);
            plain++;
        }
        if (i % 64 == 0) sched_yield(); /* sometimes the others must sleep */
        shf__unlock(word);
    }
    return NULL;
}
static void threads(unsigned n_handles) {
    enum { THREADS = 8 };
    pthread_t t[THREADS];
    struct job j[THREADS];
    unsigned rounds = TEST_SANITIZED ? 20000 : 200000;
    up("threads", n_handles, 60000);
    plain = 0;
    uint64_t start = test_now_ns();
    for (unsigned i = 0; i < THREADS; i++) {
        j[i] = (struct job){&handles[i % n_handles], rounds};
        REQUIRE(pthread_create(&t[i], NULL, add_up, &j[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    CHECK_EQ_INT(plain, (uint64_t)THREADS * rounds);
    CHECK_EQ_INT(atomic_load(word), 0);
    printf("  %u threads, %u handles: %.0f ns a round\n", THREADS, n_handles,
           (double)(test_now_ns() - start) / THREADS / rounds);
    down(n_handles);
}
TEST(threads_on_one_handle) { threads(1); }
TEST(threads_on_eight_handles) { threads(8); }

/* ---- attach, detach and questions beside each other ---- */

static void *come_and_go(void *arg) {
    struct shf_registry g;
    uint32_t other = shf__registry_owner(&handles[0]);
    for (unsigned i = 0; i < *(unsigned *)arg; i++) {
        if (registry_up(&g, &region, HANG_MS) != SHF_OK) FAIL("attach: %s", shf_last_error()->message);
        uint32_t me = shf__registry_owner(&g);
        CHECK_EQ_INT(shf__registry_is_dead(&handles[0], me), 0);
        CHECK_EQ_INT(shf__registry_is_dead(&g, other), 0);
        CHECK_EQ_INT(shf__registry_sweep(&g, 0), SHF_OK);
        shf__registry_detach(&g);
        CHECK_EQ_INT(shf__registry_is_dead(&handles[0], me), 1);
    }
    return NULL;
}
TEST(lives_come_and_go) {
    pthread_t t[6];
    unsigned rounds = TEST_SANITIZED ? 200 : 2000;
    up("lives", 1, 10000);
    for (int i = 0; i < 6; i++) REQUIRE(pthread_create(&t[i], NULL, come_and_go, &rounds) == 0);
    for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
    CHECK_EQ_INT(shf__registry_count(&handles[0]), 1);
    down(1);
}

/* ---- 1,000 waiters ---- */

static _Atomic unsigned served;
static _Atomic uint64_t last_served;
static void *wait_once(void *arg) {
    int rc = shf__lock(arg, word, NULL);
    if (rc != SHF_OK) {
        FAIL("a waiter: %d %s", rc, shf_last_error()->message);
        return NULL;
    }
    plain++;
    atomic_fetch_add(&served, 1);
    atomic_store(&last_served, test_now_ns());
    shf__unlock(word);
    return NULL;
}
static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
static double idle; /* percent of one CPU while all wait */
static double many_waiters(unsigned n_handles, unsigned n) { /* milliseconds until all were served */
    static pthread_t t[1000];
    pthread_attr_t small;
    up("many", n_handles, 2 * HANG_MS);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * 1024);
    atomic_store(&served, 0);
    plain = 0;
    REQUIRE_EQ_INT(shf__lock(&handles[0], word, NULL), SHF_OK);
    for (unsigned i = 0; i < n; i++) REQUIRE(pthread_create(&t[i], &small, wait_once, &handles[i % n_handles]) == 0);
    usleep(1000000); /* all asleep, one watches */
    double cpu = cpu_seconds();
    uint64_t start = test_now_ns();
    usleep(1000000);
    uint64_t end = test_now_ns();
    idle = (cpu_seconds() - cpu) / ((double)(end - start) / 1e9) * 100;
    shf__unlock(word);
    for (unsigned i = 0; i < n; i++) pthread_join(t[i], NULL);
    double ms = (double)(atomic_load(&last_served) - end) / 1e6;
    printf("  %u waiters, %u handles: %.2f %% of one CPU while they wait; all served in %.1f ms\n", n, n_handles, idle,
           ms);
    CHECK_EQ_INT(plain, n);
    pthread_attr_destroy(&small);
    down(n_handles);
    return ms;
}
static void all_served(unsigned n_handles) {
    double ms = 1e9;
    UNTIL(ms < 1000 && idle < 50) ms = many_waiters(n_handles, TEST_SANITIZED ? 100 : 1000);
    CHECK(ms < 1000);
    CHECK(idle < 50); /* 4; all of them asking: 90 */
}
TEST(thousand_waiters_on_one_handle) { all_served(1); }
TEST(thousand_waiters_on_eight_handles) { all_served(8); }

/* ---- long waiters, and every holder dies ---- */

static shf_au32 *takes;
static void take_and_die(void *arg) {
    struct shf_region r;
    struct shf_registry g;
    int over = 0;
    region_up(&r, arg, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, HANG_MS), SHF_OK);
    CHECK_EQ_INT(shf__lock(&g, word_at(&r, 0), &over), SHF_OK);
    atomic_fetch_add(takes, 1);
    raise(SIGKILL);
}
TEST(a_queue_of_takers_that_die) {
    enum { TAKERS = 10 };
    pid_t pid[TAKERS];
    if (test_threads_only()) return;
    up("queue", 1, HANG_MS);
    takes = shared_memory(sizeof *takes);
    char path[256];
    snprintf(path, sizeof path, "%s", region.path);
    CHECK_EQ_INT(shf__lock(&handles[0], word, NULL), SHF_OK);
    for (int i = 0; i < TAKERS; i++) pid[i] = fork_child(take_and_die, path);
    REQUIRE(await_bits(word, 1));
    usleep(900000); /* one watches, the others sleep long */
    CHECK_EQ_INT(atomic_load(word), shf__registry_owner(&handles[0]) << 2 | 3);
    uint64_t start = test_now_ns();
    shf__unlock(word);
    for (int i = 0; i < TAKERS; i++) CHECK_EQ_INT(wait_child(pid[i], HANG_MS), CHILD_KILLED(SIGKILL));
    double ms = (double)(test_now_ns() - start) / 1e6;
    printf("  %d takers died in turn, in %.0f ms\n", TAKERS, ms);
    CHECK_EQ_INT(atomic_load(takes), TAKERS);
    CHECK(ms < HANG_MS); /* each death is noticed, whoever watches */
    int over = 0;
    CHECK_EQ_INT(shf__lock(&handles[0], word, &over), SHF_OK);
    CHECK_EQ_INT(over, 1);
    shf__unlock(word);
    down(1);
}

static void *wait_some(void *arg) {
    struct shf_registry g = {0}; /* a handle of its own, with a shorter deadline */
    REQUIRE_EQ_INT(registry_up(&g, &region, *(unsigned *)arg), SHF_OK);
    int rc = shf__lock(&g, word, NULL);
    if (rc == SHF_OK) {
        atomic_store(&last_served, test_now_ns());
        shf__unlock(word);
    }
    shf__registry_detach(&g);
    return (void *)(intptr_t)rc;
}
/* The watcher's deadline comes first: another one watches on, so that a death is seen. Milliseconds until it was. */
static double the_watcher_leaves(int *another) {
    static unsigned ms[3] = {450, HANG_MS, HANG_MS};
    pthread_t t[3];
    void *rc;
    up("watcher", 1, HANG_MS);
    atomic_store(word, shf__registry_owner(&handles[0]) << 2);
    for (int i = 0; i < 3; i++) {
        REQUIRE(pthread_create(&t[i], NULL, wait_some, &ms[i]) == 0);
        if (i == 0) usleep(150000);
    }
    pthread_join(t[0], &rc);
    CHECK_EQ_INT((intptr_t)rc, SHF_ERR_TIMEOUT);
    usleep(100000);
    *another = (atomic_load(word) & 3) == 3;
    uint64_t start = test_now_ns();
    shf__registry_detach(&handles[0]); /* ends the life that holds it */
    pthread_join(t[1], &rc);
    CHECK_EQ_INT((intptr_t)rc, SHF_OK);
    pthread_join(t[2], &rc);
    CHECK_EQ_INT((intptr_t)rc, SHF_OK);
    double took = (double)(atomic_load(&last_served) - start) / 1e6;
    printf("  both others served %.1f ms after the holder's end\n", took);
    region_down(&region);
    return took;
}
TEST(the_watcher_gives_up) {
    struct tries soon = {0, 0};
    MOSTLY(soon) {
        int another = 0;
        soon.kept += the_watcher_leaves(&another) < 250 && another;
    }
    CHECK(MOST_KEPT(soon));
}

/* ---- processes ---- */

struct torture { /* in the file, beside the lock, written by its holder; stamp != 0 only while it is held */
    shf_au32 stamp, pad;
    shf_au64 before, after, recoveries, violations;
};
static struct torture *torture_of(struct shf_region *r) { return (struct torture *)(void *)word_at(r, 1); }

/* Over, then gone: the second question may come between. */
static int has_ended(struct shf_registry *g, uint32_t life) {
    return shf__registry_is_dead(g, life) || shf__registry_is_over(g, life) || shf__registry_is_dead(g, life);
}
static void torture_round(struct shf_registry *g, shf_au32 *w, struct torture *t) {
    int over = 0;
    uint32_t me = shf__registry_owner(g);
    int rc = shf__lock(g, w, &over);
    if (rc != SHF_OK) {
        FAIL("%d %s", rc, shf_last_error()->message);
        return;
    }
    uint32_t stamp = atomic_load_explicit(&t->stamp, memory_order_relaxed);
    if (stamp && (!over || !has_ended(g, stamp))) atomic_fetch_add(&t->violations, 1);
    uint64_t before = atomic_load_explicit(&t->before, memory_order_relaxed);
    if (before != atomic_load_explicit(&t->after, memory_order_relaxed)) {
        if (!over) atomic_fetch_add(&t->violations, 1);
        atomic_store_explicit(&t->after, before, memory_order_relaxed);
    }
    if (over) atomic_store_explicit(&t->recoveries, atomic_load_explicit(&t->recoveries, memory_order_relaxed) + 1,
                                    memory_order_relaxed);
    atomic_store_explicit(&t->stamp, me, memory_order_relaxed);
    atomic_store_explicit(&t->before, before + 1, memory_order_relaxed);
    for (volatile int i = 0; i < 50; i++) {}
    if (atomic_load_explicit(&t->stamp, memory_order_relaxed) != me) atomic_fetch_add(&t->violations, 1);
    atomic_store_explicit(&t->after, before + 1, memory_order_relaxed);
    atomic_store_explicit(&t->stamp, 0, memory_order_relaxed);
    shf__unlock(w);
}
static void torturer(void *arg) {
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, arg, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, HANG_MS), SHF_OK);
    for (;;) torture_round(&g, word_at(&r, 0), torture_of(&r));
}

TEST(processes_killed_at_random) {
    enum { PROCESSES = 4 };
    pid_t pid[PROCESSES];
    unsigned kills = 0;
    if (test_threads_only()) return;
    up("torture", 1, HANG_MS);
    struct torture *t = torture_of(&region);
    char path[256];
    snprintf(path, sizeof path, "%s", region.path);
    for (int i = 0; i < PROCESSES; i++) pid[i] = fork_child(torturer, path);
    uint64_t worst = 0, rounds = 0;
    for (uint64_t end = test_now_ns() + 3000 * MS; test_now_ns() < end; kills++) {
        usleep((useconds_t)(test_rng() % 6000));
        int i = (int)(test_rng() % PROCESSES);
        kill(pid[i], SIGKILL);
        CHECK_EQ_INT(wait_child(pid[i], 5000), CHILD_KILLED(SIGKILL));
        pid[i] = fork_child(torturer, path);
        uint64_t start = test_now_ns();
        torture_round(&handles[0], word, t);
        if (test_now_ns() - start > worst) worst = test_now_ns() - start;
    }
    for (int i = 0; i < PROCESSES; i++) {
        kill(pid[i], SIGKILL);
        wait_child(pid[i], 5000);
    }
    torture_round(&handles[0], word, t);
    rounds = atomic_load(&t->after);
    printf("  %u kills, %llu rounds, %llu take-overs, the survivor's slowest round %.1f ms\n", kills,
           (unsigned long long)rounds, (unsigned long long)atomic_load(&t->recoveries), (double)worst / 1e6);
    CHECK_EQ_INT(atomic_load(&t->violations), 0);
    CHECK_EQ_INT(atomic_load(&t->before), rounds);
    CHECK_EQ_INT(atomic_load(word), 0);
    CHECK_EQ_INT(shf__registry_count(&handles[0]), 1);
    down(1);
}

int main(int argc, char **argv) { return run(argc, argv); }
