// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * crash_processes_table.c - a process is stopped (SIGSTOP) just before a store in the middle of an operation
 *
 * For some k of each scenario (crash_model.h says what one is) a child stops itself before its k-th store. Then the
 * parent, which was there before with a deadline of 20 ms: reads every key, old or new, at once; writes into the same shard and
 * gets through, or TIMEOUT and nothing is changed; writes into another shard, opens and checks: gets through unless the
 * very word or byte it needs is held. What follows is one of
 *    GOES ON    SIGCONT: it ends its operations as if nothing had been; no lock was ever taken from it
 *    KILLED     while stopped: all that must hold after a death (survive() of crash_model.h)
 * SHF_STOPS=n: so many k of each scenario for both (default 6; 0: every k).
 */
#define CRASH_SINGLES 0
#define CRASH_PAIRS 0
#define CRASH_SHARE 1
#include "crash_model.h"

static void (*const not_used_here)(void) __attribute__((unused)) = sites_total;

static struct { uint64_t stops, scenarios, refused, passed, gone_on, killed; } total;

static uint64_t stop_at;
static void stop_here(const void *site) {
    (void)site;
    if (shf__crash_count == stop_at) raise(SIGSTOP);
}
static void stopped_child(void *arg) {
    struct first *f = arg;
    uint64_t before = shf__crash_count;
    shf__crash_hook = stop_here;
    if (S.arm_open) stop_at = before + f->k;
    struct shf_table *t = open_path(f->path);
    if (!S.arm_open) stop_at = (before = shf__crash_count) + f->k;
    for (int i = 0; i < S.steps; i++) {
        int rc = perform(t, &S.step[i]);
        if (rc != SHF_OK) FAIL("step %d: %d, %s", i, rc, shf_last_error()->message);
        shared->acked = i + 1;
    }
    if (S.arm_close) shf_table_close(t);
    shared->stores = shf__crash_count - before;
    if (!S.arm_close) shf_table_close(t);
}

static struct shf_table *open_hasty(const char *path, int *rc) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.lock_timeout_ms = 20;
    *rc = shf_table_open(path, 0, &o, &t);
    return t;
}
static int count(int rc, int may_be_refused, const char *what) {
    total.passed += rc == SHF_OK, total.refused += rc == SHF_ERR_TIMEOUT;
    if (rc != SHF_OK && !(rc == SHF_ERR_TIMEOUT && may_be_refused))
        FAIL("%s beside a stopped process: %d, %s", what, rc, shf_last_error()->message);
    return rc == SHF_OK;
}
/* What the others do while it is stopped. */
static void beside_it(const char *path, struct shf_table *t, struct shf_table *r, struct val (*candidate)[KEYS],
                      int candidates, int other) {
    struct shf_shm_header *h = t->region.header;
    uint64_t mask[256];
    int rc;
    explain(r, candidate, candidates, mask);
    explain(t, candidate, candidates, mask);
    int held = shm_load_relaxed32(&t->shards[S.key[S.touch].shard].word) != 0;
    int other_held = shm_load_relaxed32(&t->shards[S.key[other].shard].word) != 0;
    int space = shm_load_relaxed32(&h->alloc_word) != 0 || shm_load_relaxed32(&h->grow_word) != 0;
    struct step put = {PUT, S.probe, sized(20, 5), absent, 0}, del = {DEL, S.probe, absent, absent, 0};
    if (count(perform(t, &put), held || space, "a put into the same shard"))
        count(perform(t, &del), 0, "a remove from it");
    else
        CHECK_EQ_INT(shf_table_contains(t, S.key[S.probe].name, S.key[S.probe].len), SHF_NOT_FOUND);
    put.key = other, del.key = other;
    if (count(perform(t, &put), other_held || space, "a put into another shard"))
        count(perform(t, &del), 0, "a remove from it");
    struct shf_table_report report = {.size = sizeof report};
    count(shf_table_check(t, &report), 1, "check");
    if (report.problems) FAIL("check beside a stopped process: %s", report.first);
    struct shf_table *more = open_hasty(path, &rc);
    count(rc, S.arm_open || S.arm_close, "open"); /* byte R may be held there */
    shf_table_close(more);
    explain(r, candidate, candidates, mask);
}

/* 1: it completed before its k-th store. */
static int stop(uint64_t k, int kill_it) {
    static struct val candidate[2][KEYS];
    char path[192];
    uint64_t mask[256];
    int status, rc, n = 1, broken = *test_failures;
    snprintf(path, sizeof path, "%s", temp_path("t"));
    write_image(path, S.image, S.image_size);
    shared->acked = shared->second_acked = 0;
    struct shf_table *t = open_hasty(path, &rc), *r = NULL;
    REQUIRE_EQ_INT(rc, SHF_OK);
    REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &r), SHF_OK);
    uint64_t recoveries = table_stats(t).recoveries;
    struct first f = {path, k};
    int other = new_key((int)(S.key[S.touch].shard ^ 1), -1, -1, 0);
    pid_t pid = fork_child(stopped_child, &f);
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid);
    int completed = WIFEXITED(status);
    if (completed) {
        CHECK_EQ_INT(WEXITSTATUS(status), 0);
    } else {
        CHECK(WIFSTOPPED(status));
        int acked = shared->acked;
        memcpy(candidate[0], S.state, sizeof S.state);
        for (int i = 0; i < acked; i++) apply(candidate[0], &S.step[i]);
        if (acked < S.steps) memcpy(candidate[n++], candidate[0], sizeof S.state), apply(candidate[1], &S.step[acked]);
        beside_it(path, t, r, candidate, n, other);
        total.stops++;
        kill(pid, kill_it ? SIGKILL : SIGCONT);
        CHECK_EQ_INT(wait_child(pid, 20000), kill_it ? CHILD_KILLED(SIGKILL) : 0);
    }
    if (!completed && kill_it) {
        total.killed++;
        survive(t, r, 0, 0, k);
    } else {
        total.gone_on += !completed;
        memcpy(candidate[0], S.state, sizeof S.state);
        for (int i = 0; i < S.steps; i++) apply(candidate[0], &S.step[i]);
        explain(r, candidate, 1, mask);
        explain(t, candidate, 1, mask);
        struct step put = {PUT, S.probe, sized(20, 5), absent, 0};
        count(perform(t, &put), 0, "a put after it went on");
        table_clean(t);
        CHECK_EQ_INT(table_stats(t).recoveries, recoveries); /* nobody took a lock from it */
        CHECK_EQ_INT(table_stats(t).handles, 1);
    }
    S.keys--; /* `other` */
    shf_table_close(r);
    shf_table_close(t);
    if (*test_failures != broken)
        FAIL("... stopped at store %llu, %s", (unsigned long long)k, kill_it ? "killed" : "goes on");
    return completed;
}
static void play_stops(void) {
    uint64_t most = test_env("SHF_STOPS", 6);
    prepare();
    CHECK(stop(UINT64_C(1) << 40, 0)); /* it completes, and counts its stores */
    uint64_t points = shared->stores;
    total.scenarios++;
    if (most == 0 || points < most) most = points;
    for (uint64_t i = 0; i < most && !*test_failures; i++) {
        uint64_t from = i * points / most, to = (i + 1) * points / most;
        for (int kill_it = 0; kill_it < 2; kill_it++) stop(from + 1 + test_rng() % (to - from), kill_it);
    }
}

/* ---- the scenarios ---- */
#define PLAYED(test, name, start)                                                                                      \
    TEST(test) {                                                                                                       \
        start;                                                                                                         \
        build_##name();                                                                                                \
        play_stops();                                                                                                  \
    }
#define VARIABLE(name)                                                                                                 \
    static void build_##name(void);                                                                                    \
    PLAYED(name, name, begin_variable())                                                                               \
    static void build_##name(void)
#define SCENARIO(name)                                                                                                 \
    static void build_##name(void);                                                                                    \
    PLAYED(name, name, begin_variable())                                                                               \
    PLAYED(name##_fixed, name, begin_fixed(12, 8))                                                                     \
    static void build_##name(void)

static int one_key(struct val old) { /* among others of its shard */
    some_keys(12);
    int key = target_key();
    if (old.len >= 0) prep(PUT, key, old);
    return key;
}
SCENARIO(put_new) { step(PUT, one_key(absent), sized(20, 1)); }
SCENARIO(put_over) { step(PUT, one_key(sized(24, 1)), sized(150, 2)); }
SCENARIO(remove_one) { step(DEL, one_key(sized(20, 1)), absent); }
SCENARIO(compare_and_swap) { step(CAS, one_key(sized(20, 1)), sized(30, 2))->expected = sized(20, 1); }
SCENARIO(update) { step(UPDATE, one_key(sized(20, 1)), sized(30, 2)); }
SCENARIO(first_key) { step(PUT, target_key(), sized(20, 1)); }
SCENARIO(split) {
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(4, (uint64_t)i));
    S.event = SPLIT;
}
SCENARIO(clear) {
    for (int i = 0; i < 300; i++) prep(PUT, target_key(), sized(20, (uint64_t)i));
    for (int i = 0; i < 40; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(20, (uint64_t)i));
    step(CLEAR, 0, absent);
}
SCENARIO(opening) {
    step(NOTHING, one_key(sized(20, 1)), absent);
    S.arm_open = 1;
}
SCENARIO(closing) {
    step(PUT, one_key(sized(20, 1)), sized(30, 2));
    S.arm_close = 1;
}
VARIABLE(add) {
    int key = one_key(raw(7));
    for (int i = 0; i < 3; i++) step(ADD, key, raw(5));
}
VARIABLE(large_over_small) { step(PUT, one_key(sized(24, 1)), sized(LARGE, 2)); }
VARIABLE(remove_large) { step(DEL, one_key(sized(LARGE, 1)), absent); }
VARIABLE(new_chunk) {
    for (int i = 0; i < 200; i++) prep(PUT, target_key(), sized(100, (uint64_t)i));
    S.event = CHUNK, S.from = 2;
}
VARIABLE(cleaner) {
    uint64_t s = test_seed;
    for (int i = 0; i < 60; i++) prep(PUT, target_key(), sized(150, (uint64_t)i));
    for (int i = 0; i < 2500; i++)
        prep(PUT, (int)(test_next(&s) % 60), sized((int64_t)(150 - test_next(&s) % 50), 100 + (uint64_t)i));
    S.event = UNCHUNK;
}
VARIABLE(growth) {
    for (int i = 0; i < 1000; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(3000, (uint64_t)i));
    S.event = GROW;
}

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    if (argc < 2 && rc == 0)
        printf("# total: processes stopped before %llu stores of %llu kinds of operations: %llu went on, %llu were "
               "killed; "
               "beside them %llu calls got through, %llu timed out; 0 robbed, 0 lost, 0 wrong\n",
               (unsigned long long)total.stops, (unsigned long long)total.scenarios, (unsigned long long)total.gone_on,
               (unsigned long long)total.killed, (unsigned long long)total.passed, (unsigned long long)total.refused);
    return rc;
}
