/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_many_table.c - several deaths at once, in several shards
 *
 * ACTORS      Each works in a shard of its own and has a list of steps, with splits, large values, cleaning and growth among
 *             them. An actor stands at its k-th store, k drawn by the seed.
 * PROCESSES   Each actor is a process and dies there; nobody repairs in between.
 * THREADS     All actors are threads of one process; when all stand (or wait for a lock that one who stands holds) it
 *             dies: several shards are in the middle of a step of one dead owner.
 * STOPPED     Actor 0 is a process that is stopped there (SIGSTOP), unless it holds the allocator's lock or the one of growth
 *             just then; the others die. All shards but its own go on at once; its own answers reads, and writers in time. When it goes
 *             on, it does the rest of its steps.
 * THEN        Half of the time another process repairs and dies at a store of that. Then the parent, attached before: each
 *             shard is as before or after the step that its actor was in, goes on at once, and check finds nothing.
 * READERS     One who has found no quiet moment takes the lock, and dies with it.
 * HOW MANY    SHF_CRASH_TRIALS of each kind and lengths (default 60).
 */
#define CRASH_SINGLES 0
#define CRASH_PAIRS 0
#define CRASH_SHARE 1
#include "crash_model.h"

#include <pthread.h>

#define ACTORS 6
#define ACTS 40
enum how { PROCESSES, THREADS, STOPPED };
static struct actor {
    struct step step[ACTS];
    uint64_t k; /* 0: never stands */
    int probe, repaired; /* keys of nobody else */
} actor[ACTORS];
static int actors;
static struct stage { /* shared */
    _Atomic int ready, go, standing, finished, acked[ACTORS];
    uint64_t behind[ACTORS][ACTS]; /* stores made when step i was done, when nobody died */
} *stage;
static uint64_t armed_most, armed_sum, stops;

/* ---- the actors --------------------------------------------------------------------------------------- */

static __thread uint64_t my_stores;
static __thread int me = -1;
static enum how how;
static struct shf_table *acting; /* the handle of this process */
static int holds(const shf_au32 *word) {
    return shm_load_relaxed32(word) >> 2 == atomic_load(&acting->registry.owner);
}
static void at_store(const void *site) {
    sites_hook(site);
    if (me < 0 || ++my_stores < actor[me].k || actor[me].k == 0) return;
    if (how == PROCESSES) {
        __atomic_store_n(&shf__crash_at, __atomic_load_n(&shf__crash_count, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
        sites->killed[site_number((uint32_t)((uintptr_t)site - (uintptr_t)__executable_start))] |= FIRST;
    } else if (how == STOPPED) {
        const struct shf_shm_header *h = acting->region.header;
        if (holds(&h->alloc_word) || holds(&h->grow_word)) return; /* at one of the next stores */
        actor[me].k = 0;
        stage->standing = 1;
        kill(getpid(), SIGSTOP);
    } else {
        sites->killed[site_number((uint32_t)((uintptr_t)site - (uintptr_t)__executable_start))] |= FIRST;
        stage->standing++;
        for (uint64_t end = test_now_ns() + 50000000u; stage->standing + stage->finished < actors && test_now_ns() < end;) sched_yield();
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}
static void act(int a) {
    me = a, my_stores = 0;
    for (int i = 0; i < ACTS; i++) {
        int rc = perform(acting, &actor[a].step[i]);
        if (rc < 0) FAIL("actor %d, step %d: %d, %s", a, i, rc, shf_last_error()->message);
        stage->acked[a] = i + 1;
        if (actor[a].k == 0 && how != STOPPED) stage->behind[a][i] = my_stores;
    }
    me = -1;
    stage->finished++;
}
static void be_ready(const char *path) {
    acting = open_path(path); /* no role: what threads reach is a matter of chance */
    shf__crash_hook = at_store;
    stage->ready++;
    while (!stage->go) usleep(50);
}
struct part {
    const char *path;
    int a;
};
static void actor_child(void *arg) {
    const struct part *p = arg;
    if (how == STOPPED && p->a != 0) how = PROCESSES;
    be_ready(p->path);
    act(p->a);
    _exit(0); /* as killed, but after its last step */
}
static void *actor_thread(void *arg) {
    act((int)(intptr_t)arg);
    return NULL;
}
static void threads_child(void *arg) {
    pthread_t thread[ACTORS];
    be_ready(((struct part *)arg)->path);
    for (int i = 0; i < actors; i++) REQUIRE(pthread_create(&thread[i], NULL, actor_thread, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < actors; i++) pthread_join(thread[i], NULL);
    _exit(0);
}
static struct val repaired_val(void) { return sized(40, 777); }
static void repairing_child(void *arg) {
    const struct part *p = arg;
    sites_role = REPAIR;
    shf__crash_at = shf__crash_count + (uint64_t)p->a;
    struct shf_table *t = open_path(p->path);
    for (int i = 0; i < actors; i++) {
        struct step put = {PUT, actor[i].repaired, repaired_val(), absent, 0};
        int rc = perform(t, &put);
        if (rc != SHF_OK) FAIL("the repairing process' put: %d, %s", rc, shf_last_error()->message);
    }
    _exit(0);
}

/* ---- the file and the steps --------------------------------------------------------------------------- */

static struct val some_value(uint64_t stamp) {
    static const int64_t lengths[] = {8, 8, 20, 60, 150, 300, 700, LARGE};
    return sized(lengths[test_rng() % 8], stamp);
}
static void make_actors(int n) {
    int each = 900 / n, first[ACTORS];
    actors = n;
    for (int a = 0; a < n; a++) {
        first[a] = S.keys;
        for (int i = 0; i < each; i++) {
            int key = new_key(a, -1, -1, 0);
            if (i < each - ACTS / 2) prep(PUT, key, sized(i % 8 ? 4 + i % 30 : 200, (uint64_t)i));
        }
    }
    for (int a = 0; a < n; a++) {
        int new = each - ACTS / 2;
        for (int i = 0; i < ACTS; i++) {
            uint64_t r = test_rng() % 8, stamp = 1000 + (uint64_t)i;
            int old = first[a] + (int)(test_rng() % (uint64_t)(each - ACTS / 2));
            struct step *s = &actor[a].step[i];
            if (r < 3 && new < each) *s = (struct step){PUT, first[a] + new++, some_value(stamp), absent, 0};
            else if (r == 5) *s = (struct step){DEL, old, absent, absent, 0};
            else if (r == 6) *s = (struct step){UPDATE, old, some_value(stamp), absent, 0};
            else if (r == 7) *s = (struct step){INSERT, old, some_value(stamp), absent, 0};
            else *s = (struct step){PUT, old, some_value(stamp), absent, 0};
        }
    }
    S.touch = first[0], S.by_shard = 1;
    prepare();
    for (int a = 0, keys = S.keys; a < n; a++, S.keys = keys) /* behind the keys that explain() asks for */
        S.keys = keys + 2 * a, actor[a].probe = new_key(a, -1, -1, 0), actor[a].repaired = new_key(a, -1, -1, 0);
}

/* ---- a trial ------------------------------------------------------------------------------------------ */

static void put_probe(struct shf_table *t, int a, int may_wait) {
    struct step probe = {PUT, actor[a].probe, sized(20, 5), absent, 0};
    uint64_t start = test_now_ns();
    int rc = perform(t, &probe);
    if (rc != SHF_OK && !(may_wait && rc == SHF_ERR_TIMEOUT)) FAIL("a put into shard %d: %d, %s", a, rc, shf_last_error()->message);
    if (!may_wait && test_now_ns() - start > slowest_ns) slowest_ns = test_now_ns() - start;
}
static void candidates(struct val (*candidate)[KEYS]) {
    memcpy(candidate[0], S.state, sizeof S.state);
    for (int a = 0; a < actors; a++)
        for (int i = 0; i < stage->acked[a]; i++) apply(candidate[0], &actor[a].step[i]);
    memcpy(candidate[1], candidate[0], sizeof S.state);
    for (int a = 0; a < actors; a++)
        if (stage->acked[a] < ACTS) apply(candidate[1], &actor[a].step[stage->acked[a]]);
}
/* Three of four times among the last stores of a step, where its commit is. */
static uint64_t store_of(int a) {
    uint64_t i = test_rng() % ACTS, end = stage->behind[a][i], n = end - (i ? stage->behind[a][i - 1] : 0);
    if (test_rng() % 4 == 0 || n == 0) return 1 + test_rng() % stage->behind[a][ACTS - 1];
    return end - test_rng() % (n < 12 ? n : 12);
}
static void trial(int count_only) {
    static struct val candidate[2][KEYS];
    uint64_t before[256], after[256];
    char path[192];
    pid_t pid[ACTORS] = {0};
    struct part part[ACTORS];
    int processes = how == THREADS ? 1 : actors, status;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t, *impatient = NULL;
    snprintf(path, sizeof path, "%s", temp_path("t"));
    write_image(path, S.image, S.image_size);
    memset((void *)stage, 0, offsetof(struct stage, behind));
    t = open_path(path);
    o.lock_timeout_ms = 30;
    if (how == STOPPED) REQUIRE_EQ_INT(shf_table_open(path, 0, &o, &impatient), SHF_OK);
    for (int a = 0; a < actors; a++) actor[a].k = count_only ? 0 : store_of(a);
    for (int i = 0; i < processes; i++) {
        part[i] = (struct part){path, i};
        pid[i] = fork_child(how == THREADS ? threads_child : actor_child, &part[i]);
    }
    while (stage->ready < processes) usleep(50);
    stage->go = 1;
    int stopped = 0;
    if (how == STOPPED) {
        REQUIRE(waitpid(pid[0], &status, WUNTRACED) == pid[0]);
        stopped = WIFSTOPPED(status);
        stops += (uint64_t)stopped;
        if (!stopped) CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* it never let go of the allocator's lock after k */
    }
    for (int i = how == STOPPED; i < processes; i++) {
        int rc = wait_child(pid[i], 20000);
        if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
        killed += rc != 0;
    }
    uint64_t armed = 0;
    for (int a = 0; a < actors; a++) armed += shm_load_relaxed(&t->shards[a].arm) != 0;
    armed_sum += armed;
    if (armed > armed_most) armed_most = armed;
    if (!count_only && !stopped && test_rng() % 2) {
        struct part p = {path, 1 + (int)(test_rng() % 60)};
        int rc = run_child(repairing_child, &p, 20000);
        if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
        if (rc != 0) killed++, pairs++;
    }
    candidates(candidate);
    explain(stopped ? impatient : t, candidate, 2, before);
    for (int a = stopped; a < actors; a++) put_probe(t, a, 0);
    if (stopped) {
        put_probe(impatient, 0, 1);
        explain(impatient, candidate, 2, after);
        for (int i = 0; i < 256; i++)
            if (went_back(before[i], after[i])) FAIL("shard %d was new beside the stopped one, and is old later", i);
        kill(pid[0], SIGCONT);
        CHECK_EQ_INT(wait_child(pid[0], 20000), 0);
        CHECK_EQ_INT(stage->acked[0], ACTS);
        candidates(candidate);
        put_probe(t, 0, 0);
    }
    explain(t, candidate, 2, after);
    for (int i = stopped; i < 256; i++)
        if (went_back(before[i], after[i])) FAIL("shard %d was new before the recovery, and is old after it", i);
    table_clean(t);
    shf_table_close(impatient);
    CHECK_EQ_INT(table_stats(t).handles, 1);
    shf_table_close(t);
    if (*test_failures)
        for (int a = 0; a < actors; a++) printf("# actor %d at store %llu, %d steps done\n", a, (unsigned long long)actor[a].k, stage->acked[a]);
}
static void many(enum how h) {
    static const size_t lengths[][2] = {{0, 0}, {4, 4}, {16, 40}};
    uint64_t trials = test_env("SHF_CRASH_TRIALS", TEST_SANITIZED ? 10 : 60), killed_before = killed, pairs_before = pairs;
    how = h, armed_most = armed_sum = stops = 0;
    if (!stage) stage = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t l = 0; l < 3; l++)
        for (int n = 2; n <= ACTORS && n <= (int)SHF_SHARD_COUNT && !*test_failures; n += 2) {
            if (lengths[l][0]) begin_fixed(lengths[l][0], lengths[l][1]);
            else begin_variable();
            make_actors(n);
            scenarios++;
            how = PROCESSES, trial(1), how = h;
            for (uint64_t i = 0; i < trials / (SHF_SHARD_COUNT > 2 ? 3 : 1) && !*test_failures; i++) trial(0);
        }
    printf("# %llu killed, %llu of them in repairs, %llu stopped; in all %llu shards in the middle of a step, at most %llu at once\n",
           (unsigned long long)(killed - killed_before), (unsigned long long)(pairs - pairs_before), (unsigned long long)stops,
           (unsigned long long)armed_sum, (unsigned long long)armed_most);
}
TEST(processes_in_several_shards) { many(PROCESSES); }
TEST(threads_in_several_shards) { many(THREADS); }
TEST(beside_a_stopped_one) { many(STOPPED); }

/* ---- a reader that could not finish beside writers and took the lock ------------------------------------ */

#define LONG 8000u /* bytes of a value: two pages */
/* Where the value goes. One page of it cannot be written: the read stands there, in its middle, and the shard's version moves
 * on, as if writers split, or free chunks, at every moment. Then the other page is the one: so it is in every try. */
static unsigned char *window;
static struct shf_shm_shard *moving;
static void move_version(int sig, siginfo_t *info, void *context) {
    size_t page = (size_t)((unsigned char *)info->si_addr - window) / SHF_PAGE;
    static unsigned moves;
    (void)context;
    if (++moves > 10000) _exit(97); /* it ought to have taken the lock by now */
    if (page > 1) signal(sig, SIG_DFL); /* something else, again */
    else if (mprotect(window + page * SHF_PAGE, SHF_PAGE, PROT_READ | PROT_WRITE) != 0 ||
             mprotect(window + (1 - page) * SHF_PAGE, SHF_PAGE, PROT_NONE) != 0)
        _exit(96);
    atomic_fetch_add(&moving->version, 2);
}
static void locking_reader(void *arg) {
    struct shf_table *t = open_path(arg);
    struct sigaction act = {.sa_sigaction = move_version, .sa_flags = SA_SIGINFO};
    size_t n = 0;
    moving = &t->shards[shf_hash_shard(shf__hash(&t->hash, "key1", 4))];
    window = mmap(NULL, 2 * SHF_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(window != MAP_FAILED && mprotect(window, SHF_PAGE, PROT_NONE) == 0 && sigaction(SIGSEGV, &act, NULL) == 0);
    sites_role = FIRST;
    shf__crash_at = shf__crash_count + actor[0].k; /* a read that needs no lock makes no store at all */
    CHECK_EQ_INT(shf_table_get(t, "key1", 4, window, LONG, &n), SHF_OK);
    _exit(0);
}
TEST(a_reader_that_took_the_lock) {
    static char path[192];
    static unsigned char val[LONG];
    struct shf_table *t = table_create("a");
    snprintf(path, sizeof path, "%s", temp_path("a"));
    sites_begin();
    CHECK_EQ_INT(shf_table_put(t, "key1", 4, val, LONG, NULL), SHF_OK);
    scenarios++;
    for (actor[0].k = 1; actor[0].k <= 2; actor[0].k++) { /* before it has the lock, and before it gives it back */
        CHECK_EQ_INT(run_child(locking_reader, path, 20000), CHILD_KILLED(SIGKILL));
        killed++;
        CHECK(table_has(t, "key1", 4, val, LONG));
        CHECK_EQ_INT(shf_table_put(t, "key1", 4, val, LONG, NULL), SHF_OK);
        CHECK_EQ_INT(table_stats(t).recoveries, actor[0].k - 1);
    }
    CHECK_EQ_INT(table_clean(t), 1);
    shf_table_close(t);
}
TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
