/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_cells_table.c - tables of fixed lengths: dies at every store of every operation, and again in the recovery; and
 * readers beside writers that stop, or die, at any place
 *
 * SCENARIOS   as in crash_table.c, the machinery is crash_model.h. Each runs with narrow cells (4, 4), with values of one
 *             word (12, 8), and with the redo record (16, 40); some with the largest cells.
 * STOPPED     A writer is stopped before each store of a replace: who reads gets the old or the new value at once.
 * PAUSES      (x86-64) A reader is stepped and paused after two of its instructions; at each pause the few keys of one
 *             bucket, all with one tag, are changed, or another writer dies among them. What the reader returns in the end
 *             must be what the same call gave at some moment since it began: nothing torn, nothing that was never
 *             committed. SHF_PAUSES reads of each kind (default 60). taken_back does one such case at every place where
 *             it can matter.
 * BUILD       SHF_CRASH_POINTS; with and without SHF_SMALL. Uses the engine's own headers for the hash bits.
 */
#ifdef SHF_SMALL
#define CRASH_SINGLES 80
#else
#define CRASH_SINGLES 40 /* a split has thousands of stores that are all alike */
#endif
#define CRASH_PAIRS 7
#define CRASH_SHARE 3 /* the kinds of cells */
#include "crash_model.h"
#include "table_cells.h"

#include <sys/ptrace.h>
#include <ucontext.h>

/* ---- the scenarios ---- */
#define AT(name, klen, vlen)                                                                                           \
    TEST(name##_##klen##_##vlen) {                                                                                     \
        begin_fixed(klen, vlen);                                                                                       \
        build_##name();                                                                                                \
        play();                                                                                                        \
    }
#define SCENARIO_AT(name, which)                                                                                       \
    static void build_##name(void);                                                                                    \
    which(name)                                                                                                        \
    static void build_##name(void)
#define KINDS(name) AT(name, 4, 4) AT(name, 12, 8) AT(name, 16, 40)
#define COUNTERS(name) AT(name, 4, 8) AT(name, 12, 8)
#define WIDE(name) AT(name, 12, 8) AT(name, 16, 40) AT(name, 8, 112) AT(name, 9, 9)
#define ODD(name) AT(name, 3, 5) AT(name, 8, 0) AT(name, 4, 9) AT(name, 3, 117) AT(name, 8, 8)
#define SCENARIO(name) SCENARIO_AT(name, KINDS)

static int one(int there) { /* one key, present or not, among others of its shard */
    some_keys(12);
    int key = target_key();
    if (there) prep(PUT, key, sized(0, 1));
    return key;
}
static struct val new_value(void) { return sized(0, 2); }
static struct val old_value(void) { return sized(0, 1); }

SCENARIO(put_new) { step(PUT, one(0), new_value()); }
SCENARIO(put_replace) { step(PUT, one(1), new_value()); }
SCENARIO_AT(put_new_odd_lengths, ODD) { step(PUT, one(0), new_value()); }
SCENARIO_AT(put_replace_odd_lengths, ODD) { step(PUT, one(1), new_value()); }
SCENARIO_AT(replace_twice_beside_others, WIDE) { /* the redo record is used again at once, for another bucket */
    int a = one(1), b = target_key();
    prep(PUT, b, old_value());
    step(PUT, a, new_value());
    step(PUT, b, new_value());
    step(PUT, a, sized(0, 3));
}
SCENARIO(put_alone) {
    step(PUT, one(0), new_value());
    S.alone = 1;
}
SCENARIO(replace_alone) {
    step(PUT, one(1), new_value());
    S.alone = 1;
}
SCENARIO(put_into_second_bucket) {
    for (int i = 0; i < 6; i++) prep(PUT, new_key(TARGET, 9, -1, 0), sized(0, (uint64_t)i));
    step(PUT, new_key(TARGET, 9, -1, 0), sized(0, 98));
    step(PUT, new_key(TARGET, 9, -1, 0), sized(0, 99));
}
SCENARIO(put_stashed) { /* both buckets full of one delta, in a segment that is not half full */
    for (int i = 0; i < 16; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(0, (uint64_t)i));
    S.event = STASH;
}
SCENARIO(put_stashed_again_and_remove) {
    for (int i = 0; i < 18; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(0, (uint64_t)i));
    step(PUT, 16, sized(0, 5));
    step(DEL, 17, absent);
    step(DEL, 0, absent);
    step(PUT, 17, sized(0, 6)); /* into the first bucket, now that there is room */
    step(DEL, 16, absent);
}
SCENARIO(remove_and_tidy_flags) { /* every 256th remove of a shard computes the flags of a segment anew */
    for (int i = 0; i < 20; i++) prep(PUT, new_key(TARGET, 9, i % 2 ? 5 : 40, 0), sized(0, (uint64_t)i));
    int other = target_key();
    for (int i = 0; i < 246; i++) prep(PUT, other, sized(0, (uint64_t)i)), prep(DEL, other, absent);
    for (int i = 1; i < 20; i += 2) step(DEL, i, absent);
    step(PUT, 3, new_value());
}
SCENARIO(insert_new) { step(INSERT, one(0), new_value()); }
SCENARIO(replace_present) { step(REPLACE, one(1), new_value()); }
SCENARIO(remove) { step(DEL, one(1), absent); }
SCENARIO(remove_and_put_another) { /* of the same cell, mostly */
    int key = new_key(TARGET, 9, -1, 0), other = new_key(TARGET, 9, -1, 0);
    prep(PUT, key, old_value());
    step(DEL, key, absent);
    step(PUT, other, new_value());
    step(PUT, key, sized(0, 3));
    step(DEL, other, absent);
}
SCENARIO(take) { step(TAKE, one(1), absent); }
SCENARIO(remove_if_equal) { step(DEL_IF_EQUAL, one(1), absent)->expected = old_value(); }
SCENARIO_AT(add_new, COUNTERS) { step(ADD, one(0), raw(5)); }
SCENARIO_AT(add_existing, COUNTERS) {
    int key = one(0);
    prep(PUT, key, raw(7));
    for (int i = 0; i < 5; i++) step(ADD, key, raw(5)); /* exactly once each */
}
SCENARIO(cas_create) { step(CAS, one(0), new_value()); }
SCENARIO(cas_replace) { step(CAS, one(1), new_value())->expected = old_value(); }
SCENARIO(cas_remove) { step(CAS, one(1), absent)->expected = old_value(); }
SCENARIO(update_existing) { step(UPDATE, one(1), new_value()); }
SCENARIO(update_create) { step(UPDATE, one(0), new_value()); }
SCENARIO(update_remove) { step(UPDATE, one(1), absent); }
SCENARIO(put_by_uid) { step(PUT_UID, one(1), new_value()); }
SCENARIO(remove_by_uid) { step(DEL_UID, one(1), absent); }
SCENARIO(first_key) { step(PUT, target_key(), new_value()); } /* the first segment */
SCENARIO(split) {
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(0, (uint64_t)i));
    S.event = SPLIT;
}
SCENARIO_AT(split_odd_lengths, ODD) {
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(0, (uint64_t)i));
    S.event = SPLIT;
}
SCENARIO(split_with_stash_and_more) {
    for (int i = 0; i < 18; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(0, (uint64_t)i));
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(0, (uint64_t)i));
    S.event = SPLIT;
    step(PUT, target_key(), new_value());
    S.touch = -1;
}
#ifdef SHF_SMALL
#define SAME_TOP UINT32_C(0x6000) /* two of three bits */
#else
#define SAME_TOP UINT32_C(0x7c00) /* five */
#endif
SCENARIO(doubling) {
    for (int i = 0; i < 900; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(0, (uint64_t)i));
    S.event = DOUBLE;
}
SCENARIO(doubling_again) {
    for (int i = 0; i < 1100; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(0, (uint64_t)i));
    S.event = DOUBLE, S.nth = 2;
}
SCENARIO(growth) {
    for (int i = 0; i < 1000; i++) prep(PUT, new_key(SHF_SHARD_COUNT > 2 ? -1 : (int)TARGET, -1, -1, 0), sized(0, (uint64_t)i));
    S.event = GROW;
}
static void fill_for_clear(void) {
    for (int i = 0; i < 500; i++) prep(PUT, target_key(), sized(0, (uint64_t)i));
    for (int i = 0; i < 40; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(0, (uint64_t)i));
}
SCENARIO(clear) {
    fill_for_clear();
    step(CLEAR, 0, absent);
}
SCENARIO(clear_and_puts) { /* puts carry on with the grave; a second clear empties it first */
    fill_for_clear();
    step(CLEAR, 0, absent);
    for (int i = 1; i < 4; i++) step(PUT, i, sized(0, 9));
    step(CLEAR, 0, absent);
    step(PUT, 3, sized(0, 9));
}
SCENARIO(clear_deep) {
    for (int i = 0; i < 700; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(0, (uint64_t)i));
    step(CLEAR, 0, absent);
}
SCENARIO_AT(open_alone, WIDE) {
    step(NOTHING, one(1), absent);
    S.arm_open = S.alone = 1;
}
SCENARIO_AT(close_beside_others, WIDE) {
    step(PUT, one(1), new_value());
    S.arm_close = 1;
}
SCENARIO(many_operations) {
    some_keys(6);
    for (int i = 0; i < 6; i++) {
        step(PUT, i, sized(0, 50));
        step(DEL, (i + 3) % 6, absent);
        step(PUT, target_key(), sized(0, 7));
        step(REPLACE, i, sized(0, 51));
    }
}

/* ---- processes that are stepped ---- */
/* Runs fn(arg) in a child that is traced; it stops at once, and whenever it calls rest(). */
static pid_t traced_child(void (*fn)(void *), void *arg) {
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(0);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(96);
        kill(getpid(), SIGSTOP);
        fn(arg);
        _exit(0);
    }
    REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    return pid;
}
static void rest(void) { kill(getpid(), SIGSTOP); }
enum where { RUNNING, RESTS, GONE };
static enum where went_on(pid_t pid, int how) {
    int status;
    REQUIRE(ptrace((enum __ptrace_request)how, pid, NULL, NULL) == 0);
    REQUIRE(waitpid(pid, &status, 0) == pid);
    if (!WIFSTOPPED(status)) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) FAIL("a traced child ended with status %#x", (unsigned)status);
        return GONE;
    }
    if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
        FAIL("a traced child got signal %d", WSTOPSIG(status));
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        test_stop();
    }
    return WSTOPSIG(status) == SIGSTOP ? RESTS : RUNNING;
}
static enum where one_step(pid_t pid) { return went_on(pid, PTRACE_SINGLESTEP); }
static enum where to_rest(pid_t pid) { return went_on(pid, PTRACE_CONT); }
static uint64_t stores_of(pid_t pid) {
    errno = 0;
    long v = ptrace(PTRACE_PEEKDATA, pid, &shf__crash_count, NULL);
    REQUIRE(errno == 0);
    return (uint64_t)v;
}

/* ---- a stopped writer ---- */
struct writer {
    const char *path;
    struct step step;
};
static void writer_child(void *arg) {
    struct writer *w = arg;
    struct shf_table *t = open_path(w->path);
    struct step warm = {PUT, S.probe, sized(0, 3), absent, 0};
    perform(t, &warm); /* the first call of a process does more */
    rest();
    if (perform(t, &w->step) != SHF_OK) _exit(95);
    rest();
    shf_table_close(t);
}
static uint64_t slowest_read;
/* Each handle reads each key, at once; the key of the step may be old or new, and never old again. *seen: it was new. */
static void read_at_once(struct shf_table *const h[3], const struct step *s, int *seen, uint64_t stores) {
    static unsigned char buf[1000];
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < S.keys; k++) {
            size_t n = 0;
            uint32_t uid = 0;
            uint64_t start = test_now_ns();
            int rc = shf_table_get(h[i], S.key[k].name, S.key[k].len, buf, sizeof buf, &n);
            if (i == 1 && rc == SHF_OK && shf_table_uid(h[i], S.key[k].name, S.key[k].len, &uid) == SHF_OK)
                rc = shf_table_get_by_uid(h[i], uid, buf, sizeof buf, &n);
            uint64_t took = test_now_ns() - start;
            if (took > slowest_read) slowest_read = took;
            struct val is = S.state[k], will = k == s->key ? s->val : is;
            int old = is.len < 0 ? rc == SHF_NOT_FOUND
                                 : rc == SHF_OK && n == (size_t)is.len && memcmp(buf, val_bytes(is, k), n) == 0;
            int new = will.len < 0 ? rc == SHF_NOT_FOUND
                                   : rc == SHF_OK && n == (size_t)will.len && memcmp(buf, val_bytes(will, k), n) == 0;
            if (took > HANG_MS * UINT64_C(1000000)) FAIL("a read beside the stopped writer (store %llu) took %.1f s", (unsigned long long)stores, (double)took / 1e9);
            if (k == S.probe) continue; /* the writer's own */
            if (!old && !new) FAIL("key %d, writer stopped after %llu stores: %d, neither old nor new", k, (unsigned long long)stores, rc);
            if (k != s->key || old == new) continue;
            if (new) *seen = 1;
            else if (*seen) FAIL("new for one reader, old for a later one, after %llu stores", (unsigned long long)stores);
        }
}
static void stopped_writer(enum kind kind, int really) {
    char path[192];
    uint64_t places = 0;
    for (int i = 0; i < 4; i++) prep(PUT, new_key(TARGET, 9, -1, 0), sized(0, (uint64_t)i + 10)); /* in its bucket */
    int key = new_key(TARGET, 9, -1, 0);
    if (kind != INSERT) prep(PUT, key, old_value());
    some_keys(10);
    S.touch = key;
    prepare();
    snprintf(path, sizeof path, "%s", temp_path("t"));
    write_image(path, S.image, S.image_size);
    struct writer w = {path, {kind, key, kind == DEL ? absent : new_value(), absent, 0}};
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *h[3] = {open_path(path), NULL, NULL};
    o.lock_timeout_ms = 40;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &h[1]), SHF_OK);
    REQUIRE_EQ_INT(shf_table_open(path, 0, &o, &h[2]), SHF_OK);
    pid_t pid = traced_child(writer_child, &w);
    int seen = 0, detached = 0, status;
    REQUIRE(to_rest(pid) == RESTS);
    uint64_t first = stores_of(pid), last = first, now;
    while (one_step(pid) == RUNNING) {
        if ((now = stores_of(pid)) == last) continue;
        last = now, places++;
        read_at_once(h, &w.step, &seen, now - first);
        if (!really || places != (uint64_t)really) continue;
        REQUIRE(ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)SIGSTOP) == 0); /* stopped as by a terminal */
        REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
        read_at_once(h, &w.step, &seen, now - first);
        struct step other = {PUT, 0, sized(0, 99), absent, 0};
        int rc = perform(h[2], &other); /* a writer of the shard gives up in time, if the lock is held */
        CHECK(rc == SHF_OK || rc == SHF_ERR_TIMEOUT);
        if (rc == SHF_OK) apply(S.state, &other);
        table_walk(h[1]);
        kill(pid, SIGCONT);
        REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status)); /* its rest, now for real */
        detached = 1;
        break;
    }
    read_at_once(h, &w.step, &seen, 0);
    apply(S.state, &w.step);
    if (w.step.val.len != 0) CHECK(seen);
    if (!detached) {
        CHECK_EQ_INT(to_rest(pid), GONE);
    } else {
        kill(pid, SIGCONT);
        CHECK_EQ_INT(wait_child(pid, 10000), 0);
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < S.keys; k++)
            if (k != S.probe)
                table_has(h[i], S.key[k].name, S.key[k].len, S.state[k].len < 0 ? NULL : val_bytes(S.state[k], k),
                          S.state[k].len < 0 ? 0 : (size_t)S.state[k].len);
    CHECK(places >= 3 || really);
    CHECK_EQ_INT(table_stats(h[0]).handles, 2);
    table_clean(h[0]);
    for (int i = 0; i < 3; i++) shf_table_close(h[i]);
    if (!really)
        printf("# lengths %lld, %lld, kind %d: stopped at %llu places, slowest read %.0f us\n", (long long)fixed_key_len,
               (long long)fixed_value_len, kind, (unsigned long long)places, (double)slowest_read / 1e3);
}
static const struct {
    size_t k, v;
} lengths[] = {{4, 4}, {12, 8}, {16, 40}, {8, 112}, {9, 9}};
#define LENGTHS (sizeof lengths / sizeof *lengths)
TEST(stopped_writers) {
    static const enum kind kinds[] = {PUT, REPLACE, INSERT, DEL, CAS};
    for (size_t i = 0; i < LENGTHS; i++)
        for (size_t k = 0; k < 4; k++) {
            begin_fixed(lengths[i].k, lengths[i].v);
            stopped_writer(kinds[k], 0);
            if (*test_failures) return;
        }
}
TEST(writers_stopped_by_signal) {
    for (int at = 2; at < 24; at += 3) {
        begin_fixed(16, 40);
        stopped_writer(PUT, at);
        if (*test_failures) return;
    }
}

/* ---- pauses ---- */
enum look { GET, CONTAINS, UID, BY_UID, KEY_BY_UID, BY_CHECKED, MANY, MANY_BY_UID, LOOKS };
static const char *const look_names[] = {"get",        "contains",           "uid",      "get by uid",
                                         "key by uid", "get by checked uid", "get many", "get many by uid"};
struct looked {
    int rc;
    size_t n;
    unsigned char bytes[120];
};
struct question {
    enum look look;
    uint32_t which; /* of a batch: the same thing three times, each at its own moment */
    unsigned char key[120];
    uint32_t uid;
    uint64_t checked;
};
static void ask(struct shf_table *t, const struct question *q, struct looked *l) {
    size_t klen = (size_t)fixed_key_len;
    memset(l, 0, sizeof *l);
    switch (q->look) {
    case GET: l->rc = shf_table_get(t, q->key, klen, l->bytes, sizeof l->bytes, &l->n); break;
    case CONTAINS: l->rc = shf_table_contains(t, q->key, klen); break;
    case UID: l->rc = shf_table_uid(t, q->key, klen, (uint32_t *)(void *)l->bytes); break;
    case BY_UID: l->rc = shf_table_get_by_uid(t, q->uid, l->bytes, sizeof l->bytes, &l->n); break;
    case KEY_BY_UID: l->rc = shf_table_key_by_uid(t, q->uid, l->bytes, sizeof l->bytes, &l->n); break;
    case BY_CHECKED: l->rc = shf_table_get_by_checked_uid(t, q->checked, l->bytes, sizeof l->bytes, &l->n); break;
    default: {
        unsigned char out[3][120];
        struct shf_bytes k = {q->key, klen}, keys[3] = {k, k, k};
        struct shf_value v[3] = {{out[0], 120, 0, 0}, {out[1], 120, 0, 0}, {out[2], 120, 0, 0}}, *one = &v[q->which];
        uint32_t uids[3] = {q->uid, q->uid, q->uid};
        l->rc = q->look == MANY ? shf_table_get_many(t, 3, keys, v) : shf_table_get_many_by_uid(t, 3, uids, v);
        if (l->rc == SHF_OK) l->rc = one->code, l->n = one->len, memcpy(l->bytes, one->data, one->len < 120 ? one->len : 0);
    }
    }
    if (l->rc != SHF_OK) memset(l->bytes, 0, sizeof l->bytes), l->n = 0;
}
#if defined(__x86_64__)
/* A question asked of one handle, interrupted before one of its instructions, and once more: there `act` runs, as another
 * process would in the middle of it. Which instructions there are is found by a stepped run. A step is a signal, and takes
 * its 10 us: so a breakpoint leads to the first pause, and steps only from there. */
#define TRACE_MOST 20000u
struct trace {
    uint64_t n;
    unsigned char *at[TRACE_MOST];
};
static struct {
    enum { TRACING, BREAKPOINT, STEP_OVER, STEPPING } doing;
    struct trace *trace;
    unsigned char *at, byte; /* the breakpoint, what was there */
    uint64_t occurrence, gap;
    int pauses;
    void (*act)(int pause);
} T;
#define TRAP_FLAG 0x100ll
#define INT3 0xcc
static void on_trap(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)sig, (void)info;
    switch (T.doing) {
    case TRACING:
        if (T.trace->n < TRACE_MOST) T.trace->at[T.trace->n++] = (unsigned char *)r[REG_RIP];
        return;
    case STEP_OVER:
        *T.at = INT3;
        T.doing = BREAKPOINT;
        r[REG_EFL] &= ~TRAP_FLAG;
        return;
    case BREAKPOINT:
        r[REG_RIP]--;
        *T.at = T.byte;
        r[REG_EFL] |= TRAP_FLAG;
        if (T.occurrence-- > 0) {
            T.doing = STEP_OVER;
            return;
        }
        T.at = NULL;
        T.doing = STEPPING;
        T.act(T.pauses++);
        if (T.gap == 0) r[REG_EFL] &= ~TRAP_FLAG;
        return;
    case STEPPING:
        if (T.pauses == 2 || T.gap-- > 1) return;
        T.act(T.pauses++);
        r[REG_EFL] &= ~TRAP_FLAG;
    }
}
static void flip_trap_flag(void) { /* below the red zone */
    __asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; xorq $0x100, (%%rsp); popfq; leaq 128(%%rsp), %%rsp" ::: "memory", "cc");
}
static void clear_trap_flag(void) {
    __asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; leaq 128(%%rsp), %%rsp" ::: "memory", "cc");
}
static struct sigaction trap_was;
static void watch_traps(void) {
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &sa, &trap_was);
}
static void trace(struct shf_table *t, const struct question *q, struct trace *tr) {
    struct looked l;
    ask(t, q, &l); /* once before: the dynamic linker's instructions are not meant */
    watch_traps();
    T.doing = TRACING, T.trace = tr, tr->n = 0;
    flip_trap_flag();
    ask(t, q, &l);
    clear_trap_flag();
    sigaction(SIGTRAP, &trap_was, NULL);
}
/* Pauses before instruction `first` of the trace, and `gap` instructions later (0: not again). Returns how many pauses
 * there were: none if this run came another way. */
static int ask_interrupted(struct shf_table *t, const struct question *q, struct looked *l, const struct trace *tr,
                           uint64_t first, uint64_t gap, void (*act)(int)) {
    T.doing = BREAKPOINT, T.at = tr->at[first], T.gap = gap, T.pauses = 0, T.act = act, T.occurrence = 0;
    for (uint64_t i = 0; i < first; i++) T.occurrence += tr->at[i] == T.at;
    unsigned char *page = (unsigned char *)((uintptr_t)T.at & ~(uintptr_t)4095);
    REQUIRE(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    watch_traps();
    T.byte = *T.at;
    *(volatile unsigned char *)T.at = INT3;
    ask(t, q, l);
    clear_trap_flag();
    if (T.at) *T.at = T.byte;
    sigaction(SIGTRAP, &trap_was, NULL);
    return T.pauses;
}

struct dying {
    const char *path;
    struct step step;
    uint64_t k;
};
static void dying_child(void *arg) {
    struct dying *d = arg;
    struct shf_table *t = open_path(d->path);
    shf__crash_at = shf__crash_count + d->k;
    perform(t, &d->step);
    _exit(0);
}
#define RIVALS 4
#define PAST 64
static struct {
    char path[192];
    struct shf_table *t, *reader;
    struct question q;
    struct looked past[PAST]; /* what the question had for an answer, since the reader began */
    int pasts, pending;       /* pending: a writer died; what it did will be seen after the recovery */
    uint64_t stamp, died;
    struct step gone, back;
    struct dying d;
} P;
/* A file with an empty table, keys 0 .. RIVALS - 1 of one shard, one bucket, one tag. */
static void rivals(size_t klen, size_t vlen) {
    begin_fixed(klen, vlen);
    memset(&P, 0, sizeof P);
    for (int i = 0; i < RIVALS;) {
        S.keys = i;
        int key = new_key(TARGET, 9, -1, 0);
        i += shf_cell_tag(shf__hash(&hash_key, S.key[key].name, S.key[key].len)) == shf_cell_tag(77);
    }
    prepare();
    snprintf(P.path, sizeof P.path, "%s", temp_path("t"));
    write_image(P.path, S.image, S.image_size);
    P.t = open_path(P.path);
    REQUIRE_EQ_INT(shf_table_open(P.path, test_seed % 2 ? SHF_RDONLY : 0, NULL, &P.reader), SHF_OK);
}
static void end_rivals(void) {
    table_clean(P.t);
    shf_table_close(P.reader);
    shf_table_close(P.t);
}
static void do_it(const struct step *s) {
    int rc = perform(P.t, s);
    if (rc != SHF_OK && rc != SHF_NOT_FOUND) FAIL("a change: %d, %s", rc, shf_last_error()->message);
}
static void remember(void) {
    REQUIRE(P.pasts < PAST);
    ask(P.t, &P.q, &P.past[P.pasts++]);
}
static void recover(void) {
    struct step probe = {PUT, S.probe, sized(0, ++P.stamp % 4096), absent, 0};
    if (P.pending) do_it(&probe), remember(), P.pending = 0;
}
static struct step random_change(void) {
    struct step s = {test_rng() % 3 == 0 ? DEL : PUT, (int)(test_rng() % RIVALS), sized(0, ++P.stamp % 4096), absent, 0};
    if (s.kind == DEL) s.val = absent;
    return s;
}
/* The rivals come and go. */
static void change_at_pause(int pause) {
    for (uint64_t c = 1 + test_rng() % 3; c > 0; c--) {
        struct step change = random_change();
        if (c == 1 && test_rng() % 4 == 0) { /* the last of them dies on the way */
            recover();
            P.d = (struct dying){P.path, change, 1 + test_rng() % 24};
            int rc = run_child(dying_child, &P.d, 20000);
            CHECK(rc == 0 || rc == CHILD_KILLED(SIGKILL));
            P.died += rc != 0, P.pending = rc != 0;
            if (!P.pending) remember();
            return;
        }
        recover();
        do_it(&change);
        remember();
    }
    (void)pause;
}
static void set_question(enum look look, int key) {
    P.q.look = look, P.q.which = (uint32_t)(test_rng() % 3);
    memcpy(P.q.key, S.key[key].name, (size_t)fixed_key_len);
    uint64_t c;
    if (shf_table_checked_uid(P.t, P.q.key, (size_t)fixed_key_len, &c) == SHF_OK) P.q.checked = c, P.q.uid = (uint32_t)(c >> 32);
}
static void pauses(size_t klen, size_t vlen) {
    static struct trace traces[LOOKS][2]; /* of something that is not there; that is */
    uint64_t reads = test_env("SHF_PAUSES", TEST_SANITIZED ? 15 : 60) * LOOKS, reached[3] = {0};
    rivals(klen, vlen);
    for (int i = 0; i < LOOKS; i++) traces[i][0].n = traces[i][1].n = 0;
    P.q.uid = 1;
    for (uint64_t read = 0; read < reads && *test_failures == 0; read++) {
        struct looked l;
        enum look look = (enum look)(read % LOOKS);
        for (int i = 0; i < 4; i++) { /* a new beginning */
            struct step c = random_change();
            do_it(&c);
        }
        set_question(look, (int)(test_rng() % RIVALS));
        P.pasts = 0;
        remember();
        struct trace *tr = &traces[look][P.past[0].rc == SHF_OK];
        if (tr->n == 0) trace(P.reader, &P.q, tr);
        uint64_t first = test_rng() % tr->n, gap = test_rng() % 4 ? 1 + test_rng() % 12 : 1 + test_rng() % tr->n;
        if (test_rng() % 4 == 0) gap = 0;
        reached[ask_interrupted(P.reader, &P.q, &l, tr, first, gap, change_at_pause)]++;
        recover();
        int known = 0;
        for (int i = 0; i < P.pasts; i++) known |= memcmp(&P.past[i], &l, sizeof l) == 0;
        if (!known)
            FAIL("%s in a (%zu, %zu) table: %d, %zu bytes, as at no moment since it began (read %llu, paused after %llu and %llu "
                 "instructions, %d states)", look_names[look], klen, vlen, l.rc, l.n, (unsigned long long)read,
                 (unsigned long long)first, (unsigned long long)gap, P.pasts);
    }
    end_rivals();
    printf("# lengths %zu, %zu: %llu reads, %llu paused, %llu twice; get has %llu instructions here; %llu writers died\n", klen,
           vlen, (unsigned long long)reads, (unsigned long long)reached[1], (unsigned long long)reached[2],
           (unsigned long long)traces[GET][1].n, (unsigned long long)P.died);
}
TEST(pauses_narrow) { pauses(4, 4); }
TEST(pauses_narrow_other) { pauses(5, 3); }
TEST(pauses_word) { pauses(8, 8); }
TEST(pauses_word_other) { pauses(12, 8); }
TEST(pauses_redo) { pauses(16, 40); }
TEST(pauses_redo_one_word_and_more) { pauses(9, 9); }

/* Key 0 is removed; a writer that puts key 1 into its cell, with its tag, dies before the commit; key 0 comes back, or
 * nobody does anything. A reader of key 1 that was paused in between may have read the cell when key 1 was in it: it must
 * not say so. At every instruction from shortly before the bucket is read: all of them with SHF_CRASH_FULL=1, else some. */
static void take_away(int pause) {
    if (pause == 0) {
        do_it(&P.gone);
        CHECK_EQ_INT(run_child(dying_child, &P.d, 20000), CHILD_KILLED(SIGKILL));
    } else {
        do_it(&P.back);
    }
}
static void only_remove(int pause) {
    if (pause == 0) do_it(&P.gone);
}
static void taken_back(size_t klen, size_t vlen, int company) {
    static const enum look looks[] = {GET, BY_UID, BY_CHECKED, MANY, MANY_BY_UID};
    uint64_t all = test_env("SHF_CRASH_FULL", 0), tries = 0;
    struct looked l;
    rivals(klen, vlen);
    P.back = (struct step){PUT, 0, sized(0, 1), absent, 0}, P.gone = (struct step){DEL, 0, absent, absent, 0};
    P.d = (struct dying){P.path, {PUT, 1, sized(0, 2), absent, 0}, 0};
    struct step off = {DEL, 1, absent, absent, 0}, stays = {PUT, 2, sized(0, 1), absent, 0};
    if (company) do_it(&stays);
    for (uint64_t k = 1;; k++) { /* the last place to die at without a commit */
        do_it(&P.gone);
        P.d.k = k;
        if (run_child(dying_child, &P.d, 20000) == 0) break;
        do_it(&P.back); /* recovers */
        if (shf_table_contains(P.t, S.key[1].name, klen) == SHF_OK) break;
    }
    P.d.k--;
    struct question q[2] = {{0}, {0}};
    do_it(&P.gone), do_it(&P.d.step), set_question(GET, 1), q[1] = P.q; /* key 1's UIDs, in that cell */
    do_it(&off), do_it(&P.back), set_question(GET, 0), q[0] = P.q;
    CHECK((q[0].uid & 511) == (q[1].uid & 511));
    for (size_t i = 0; i < sizeof looks / sizeof *looks && *test_failures == 0; i++) {
        q[0].look = q[1].look = looks[i], q[0].which = q[1].which = (uint32_t)(test_rng() % 3);
        /* where the read of a key that is there has looked: a removal then comes too late */
        static struct trace there;
        uint64_t lo = 0, hi;
        trace(P.reader, &q[0], &there);
        for (hi = there.n - 1; hi - lo > 1;) {
            uint64_t mid = (lo + hi) / 2;
            ask_interrupted(P.reader, &q[0], &l, &there, mid, 0, only_remove);
            do_it(&P.back);
            *(l.rc == SHF_OK ? &hi : &lo) = mid;
        }
        uint64_t from = hi > 30 ? hi - 30 : 0, to = there.n - 1;
        uint64_t chance = (to - from) * 10 / (TEST_SANITIZED ? 15 : 300) + 1; /* about so many of them */
        for (uint64_t at = from; at <= to && *test_failures == 0; at++)
            for (uint64_t j = 0; j <= 12 && *test_failures == 0; j += 1 + j / 4) {
                if (!all && test_rng() % chance) continue;
                int paused = ask_interrupted(P.reader, &q[1], &l, &there, at, j, take_away);
                if (paused < 2) do_it(&P.back);
                tries += paused > 0;
                CHECK_EQ_INT(shf_table_contains(P.t, S.key[1].name, klen), SHF_NOT_FOUND);
                if (l.rc != SHF_NOT_FOUND)
                    FAIL("%s gives %d for a key that was never put, paused after %llu and %llu instructions (%llu is where it looks)",
                         look_names[looks[i]], l.rc, (unsigned long long)at, (unsigned long long)j, (unsigned long long)hi);
            }
    }
    end_rivals();
    printf("# lengths %zu, %zu: %llu times\n", klen, vlen, (unsigned long long)tries);
}
TEST(taken_back_narrow) { taken_back(4, 4, 0); }
TEST(taken_back_narrow_other) { taken_back(5, 3, 0); }
TEST(taken_back_word) { taken_back(8, 8, 0); }
TEST(taken_back_redo) { taken_back(16, 40, 0); }
/* Another key with the tag comes first in the bucket: a read that goes on to the second candidate is other code. */
TEST(taken_back_second_narrow) { taken_back(4, 4, 1); }
TEST(taken_back_second_narrow_other) { taken_back(5, 3, 1); }
TEST(taken_back_second_word) { taken_back(8, 8, 1); }
TEST(taken_back_second_redo) { taken_back(16, 40, 1); }
#endif

TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
