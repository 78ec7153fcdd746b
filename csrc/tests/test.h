/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * test.h - the whole test harness
 *
 *     TEST(put_then_get) { CHECK_EQ_INT(shf_table_put(...), SHF_OK); }
 *     int main(int argc, char **argv) { return run(argc, argv); }
 *
 * CHECK      counts a failure and goes on; the count is shared with forked children and with threads.
 * REQUIRE    counts it and leaves the test (in a forked child or a second thread: the process, with 99).
 * ARGUMENTS  parts of names: only tests whose name contains one of them run. "-l" lists them.
 * SEED       env SHF_SEED, else the time; always printed. test_rng() starts anew from it (and the name) in each test.
 * FILES      temp_path("a") is in a private folder under /dev/shm, emptied after each test, removed at exit
 *            (SHF_KEEP=1: kept, and its name printed).
 * TIME       a test that takes over SHF_TEST_TIMEOUT seconds (600) ends the run; see wait_child for children. Nothing
 *            else fails for being slow: a limit is HANG_MS, a promise of time is asked for UNTIL it is kept once.
 */
#ifndef SHF_TEST_H
#define SHF_TEST_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

#ifdef SHF_COVERAGE
#ifdef __cplusplus
extern "C" {
#endif
void __gcov_dump(void);
void __gcov_reset(void);
#ifdef __cplusplus
}
#endif
__attribute__((noreturn, unused)) static void test_exit(int code) { /* _exit would lose a child's counters */
    __gcov_dump();
    _exit(code);
}
#define _exit(code) test_exit(code)
#define TEST_FORKED() __gcov_reset() /* what the parent has counted it will say itself */
#else
#define TEST_FORKED() ((void)0)
#endif

#define TEST_WEAK __attribute__((weak, unused)) /* one copy a program, though several .c include this */
#define TEST_FN static __attribute__((unused))

struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};
TEST_WEAK struct test_case *test_first, **test_last;
TEST_WEAK int *test_failures; /* of the running test; shared memory */
TEST_WEAK const char *test_name = "";
TEST_WEAK uint64_t test_seed, test_rng_state;
TEST_WEAK pid_t test_pid;
TEST_WEAK char test_dir[64];
TEST_WEAK jmp_buf test_leave;

#define TEST(name_)                                                                                                    \
    static void test_##name_(void);                                                                                    \
    __attribute__((constructor)) static void test_register_##name_(void) {                                             \
        static struct test_case c = {#name_, test_##name_, NULL};                                                      \
        if (!test_last) test_last = &test_first;                                                                       \
        *test_last = &c, test_last = &c.next;                                                                          \
    }                                                                                                                  \
    static void test_##name_(void)

__attribute__((format(printf, 3, 4), cold)) TEST_FN void test_fail(const char *file, int line, const char *f, ...) {
    int n = __atomic_add_fetch(test_failures, 1, __ATOMIC_RELAXED);
    if (n > 20) return; /* one fault often fails a thousand checks */
    char text[1000];
    va_list ap;
    va_start(ap, f);
    vsnprintf(text, sizeof text, f, ap);
    va_end(ap);
    printf("%s:%d: in %s (SHF_SEED=%llu): %s%s\n", file, line, test_name, (unsigned long long)test_seed, text,
           n == 20 ? " ... (no more of this test)" : "");
    fflush(stdout);
}
__attribute__((noreturn, cold)) TEST_FN void test_stop(void) {
    if (getpid() == test_pid && syscall(SYS_gettid) == test_pid) longjmp(test_leave, 1);
    _exit(99);
}
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond) ((cond) ? (void)0 : FAIL("%s", #cond))
#define REQUIRE(cond) ((cond) ? (void)0 : (FAIL("%s", #cond), test_stop()))
#define CHECK_EQ_INT(a, b) test_eq_int(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b), 0)
#define REQUIRE_EQ_INT(a, b) test_eq_int(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b), 1)
#define CHECK_BYTES(a, an, b, bn) CHECK((size_t)(an) == (size_t)(bn) && ((an) == 0 || memcmp((a), (b), (an)) == 0))
TEST_FN void test_eq_int(const char *f, int l, const char *a, const char *b, long long x, long long y, int stop) {
    if (__builtin_expect(x == y, 1)) return;
    test_fail(f, l, "%s is %lld, not %s = %lld", a, x, b, y);
    if (stop) test_stop();
}

/* splitmix64 (Steele, Lea, Flood 2014) */
TEST_FN uint64_t test_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
TEST_FN uint64_t test_rng(void) { return test_next(&test_rng_state); } /* the main thread's */
TEST_FN uint64_t test_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
TEST_FN uint64_t test_env(const char *name, uint64_t otherwise) {
    const char *s = getenv(name);
    return s && *s ? strtoull(s, NULL, 0) : otherwise;
}
TEST_FN int test_threads_only(void) { return test_env("SHF_THREADS_ONLY", 0) != 0; } /* ThreadSanitizer: no fork */

/* ---- time ---- */
#define HANG_MS 60000 /* on a loaded machine, under a sanitizer, nothing takes so long but what hangs */
/* Load makes anything late, but not every time; what is wrong is always late:
 *     UNTIL(ms < 50) ms = try_it();
 *     CHECK(ms < 50);
 * It tries for HANG_MS / 2. Where what is wrong is in time by luck now and then, more than half of five tries must be:
 *     struct tries t = {0};
 *     MOSTLY(t) t.kept += try_it() < 50;
 *     CHECK(MOST_KEPT(t)); */
#define UNTIL(kept)                                                                                                    \
    for (uint64_t until_ = test_now_ns() + HANG_MS * UINT64_C(500000); !(kept) && test_now_ns() < until_;)
struct tries {
    unsigned kept, all;
};
#define MOST_KEPT(t) ((t).all >= 5 && 2 * (t).kept > (t).all)
#define MOSTLY(t) for (; !MOST_KEPT(t) && (t).all < 25; (t).all++)

/* ---- files ---- */
TEST_FN void test_empty_dir(void) {
    DIR *d = test_dir[0] ? opendir(test_dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
}
TEST_FN void test_cleanup(void) {
    if (getpid() != test_pid || !test_dir[0]) return;
    if (test_env("SHF_KEEP", 0)) {
        printf("kept: %s\n", test_dir);
    } else {
        test_empty_dir();
        rmdir(test_dir);
    }
}
/* A path in the private folder; the text lives in a ring of 16. */
TEST_FN const char *temp_path(const char *name) {
    static char ring[16][192];
    static unsigned at;
    char *p = ring[at++ % 16];
    if (!test_dir[0]) {
        snprintf(test_dir, sizeof test_dir, "/dev/shm/shf-test-XXXXXX");
        if (!mkdtemp(test_dir)) perror("mkdtemp"), exit(2);
    }
    snprintf(p, sizeof ring[0], "%s/%s", test_dir, name);
    return p;
}

/* ---- processes ---- */
/* Runs fn(arg) in a forked child, which dies with its parent and leaves with 0, or with 98 if fn failed a check. */
TEST_FN pid_t fork_child(void (*fn)(void *), void *arg) {
    if (!test_dir[0]) temp_path("");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) perror("fork"), exit(2);
    if (pid) return pid;
    TEST_FORKED();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(0);
    int before = *test_failures;
    fn(arg);
    fflush(NULL);
    _exit(__atomic_load_n(test_failures, __ATOMIC_RELAXED) != before ? 98 : 0);
}
#define CHILD_KILLED(signal) (1000 + (signal))
#define CHILD_HUNG (-1)
/* The child's exit code, or CHILD_KILLED(signal). After timeout_ms, HANG_MS at least, it is killed, which counts as a
 * failure: CHILD_HUNG. */
TEST_FN int wait_child(pid_t pid, int timeout_ms) {
    int status, hung = 0, fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (timeout_ms < HANG_MS) timeout_ms = HANG_MS;
    struct pollfd p = {fd, POLLIN, 0};
    for (uint64_t end = test_now_ns() + (uint64_t)timeout_ms * 1000000u; fd >= 0;) {
        uint64_t now = test_now_ns();
        int r = poll(&p, 1, now >= end ? 0 : (int)((end - now) / 1000000u) + 1);
        if (r > 0 || (r < 0 && errno != EINTR)) break;
        if (r == 0 && test_now_ns() >= end) {
            hung = 1, kill(pid, SIGKILL);
            break;
        }
    }
    if (fd >= 0) close(fd);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return CHILD_HUNG;
    if (hung) FAIL("child %d hung for %d ms and was killed", (int)pid, timeout_ms);
    return hung ? CHILD_HUNG : WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_KILLED(WTERMSIG(status));
}
/* fork_child and wait_child. */
TEST_FN int run_child(void (*fn)(void *), void *arg, int timeout_ms) {
    return wait_child(fork_child(fn, arg), timeout_ms);
}

/* ---- the run ---- */
TEST_FN void test_alarm(int sig) {
    (void)sig;
    static const char text[] = "\n*** a test took longer than SHF_TEST_TIMEOUT\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(3);
    _exit(3);
}
TEST_FN int run(int argc, char **argv) {
    static int passed, failed; /* static: they live across longjmp */
    int list = argc > 1 && !strcmp(argv[1], "-l");
    test_pid = getpid();
    test_seed = test_env("SHF_SEED", (uint64_t)time(NULL) * 1000003u ^ (uint64_t)test_pid);
    test_failures = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (test_failures == (int *)MAP_FAILED) return 2;
    atexit(test_cleanup);
    signal(SIGALRM, test_alarm);
    if (!list) printf("# %s SHF_SEED=%llu\n", argv[0], (unsigned long long)test_seed);
    for (struct test_case *c = test_first; c; c = c->next) {
        int wanted = argc < 2 || list;
        for (int i = 1; i < argc; i++) wanted |= strstr(c->name, argv[i]) != NULL;
        if (!wanted) continue;
        if (list) {
            puts(c->name);
            continue;
        }
        test_name = c->name, test_rng_state = test_seed, *test_failures = 0;
        for (const char *s = c->name; *s; s++) test_rng_state = test_rng_state * 31 + (unsigned char)*s;
        uint64_t start = test_now_ns();
        alarm((unsigned)test_env("SHF_TEST_TIMEOUT", 600));
        if (!setjmp(test_leave)) c->fn();
        alarm(0);
        int n = *test_failures;
        printf("%-6s %-50s %7.2f s\n", n ? "FAILED" : "ok", c->name, (double)(test_now_ns() - start) / 1e9);
        fflush(stdout);
        n ? failed++ : passed++;
        if (!test_env("SHF_KEEP", 0)) test_empty_dir();
    }
    if (!list) printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

#endif
