// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_wait_queue.c - queues: sleeping until an item comes, and being woken
 *
 * A sleeper looks for itself every 40 ms, so an item always comes; whether it was woken shows only in the time it took. A
 * promise of that is kept if it is kept IN_A_ROW times at once: by chance that happens once in 8^10 rows.
 */
#include "queue_fixture.h"

#include <pthread.h>
#include <sys/epoll.h>

#define SOON (5 * MS)
#define IN_A_ROW 10
#define SLEEPERS 4

static uint64_t total_woken, total_slept, total_late;
static struct board {
    _Atomic uint64_t got_at[SLEEPERS]; /* when each got its item; 0: not yet */
    _Atomic uint32_t waiting, stop, trips, late, value;
} *board;

static void sleep_ms(unsigned ms) { usleep(ms * 1000); }
/* Somebody has registered; a moment for the system call. */
static void until_asleep(struct shf_queue *q, uint32_t waiting) {
    uint64_t end = test_now_ns() + HANG_MS * MS;
    while ((!stats_of(q).sleepers || atomic_load(&board->waiting) < waiting) && test_now_ns() < end) usleep(100);
    usleep(300);
}

/* ---- timeouts ---- */

TEST(timeouts) {
    struct trio t = trio_create("a", 4, 8);
    struct shf_queue *two[2] = {t.a, t.b};
    struct shf_batch *b = NULL;
    struct shf_item item;
    uint32_t which = 77;
    NEED(shf_batch_new(t.set, 4, &b));
    const uint64_t waits[] = {0, 1, 1000, 15000, 3 * MS, 55 * MS}; /* none, spinning, one sleep, two */
    for (unsigned i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        uint64_t start = test_now_ns();
        NONE(shf_queue_pull_wait(t.a, waits[i], &item));
        CHECK(test_now_ns() - start >= waits[i]);
        start = test_now_ns();
        NONE(shf_queue_pull_many_wait(t.a, b, 0, waits[i]));
        CHECK(test_now_ns() - start >= waits[i] && shf_batch_count(b) == 0);
        start = test_now_ns();
        NONE(shf_queue_wait_any(two, 2, waits[i], &which));
        CHECK(test_now_ns() - start >= waits[i] && which == 77);
    }
    /* With items there is no wait. */
    NEED(shf_queue_pull_wait(t.free, SHF_WAIT_FOREVER, &item));
    OK(shf_queue_push(t.b, &item));
    OK(shf_queue_wait_any(two, 2, SHF_WAIT_FOREVER, &which));
    CHECK_EQ_INT(which, 1);
    CHECK_EQ_INT(length(t.b), 1); /* nothing was pulled */
    NEED(shf_queue_pull_many_wait(t.free, b, 2, SHF_WAIT_FOREVER));
    CHECK_EQ_INT(shf_batch_count(b), 2);
    EXPECT(shf_queue_pull_many_wait(t.free, b, 2, SHF_WAIT_FOREVER), SHF_ERR_INVALID);
    OK(shf_queue_push_many(t.a, b));
    OK(shf_queue_wait_any(two, 2, 0, &which));
    CHECK_EQ_INT(which, 0); /* the first of both */
    two[0] = t.b, two[1] = t.b;
    OK(shf_queue_wait_any(two, 2, 0, &which));
    struct trio u = trio_open("a");
    two[0] = u.a;
    EXPECT(shf_queue_wait_any(two, 2, 0, &which), SHF_ERR_INVALID); /* of two handles */
    shf_queue_set_close(u.set);
    shf_queue_set_close(t.set);
}

/* ---- woken by everything that brings items ---- */

enum how {
    BY_PUSH,
    BY_PUSH_MANY,
    BY_RETURN,
    BY_EXCHANGE,
    BY_EXCHANGE_MANY,
    BY_DRAIN,
    BY_FREE,
    BY_CLOSE,
    BY_RESET,
    WAYS
};
static const char *const ways[WAYS] = {"push",  "push_many",  "return", "exchange", "exchange_many",
                                       "drain", "batch_free", "close",  "reset"};
static enum how way;

/* Waits for items of a queue, reports when one has come, sends it back. */
static void sleeper(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    struct trio t = trio_open("a");
    while (!atomic_load(&board->stop)) {
        struct shf_item item;
        int rc;
        atomic_fetch_add(&board->waiting, 1);
        if (me % 2) { /* in the one way, and in the other */
            struct shf_queue *one[1] = {way == BY_RESET ? t.free : t.a};
            uint32_t which;
            while ((rc = shf_queue_wait_any(one, 1, SHF_WAIT_FOREVER, &which)) == SHF_OK &&
                   (rc = shf_queue_pull(one[0], &item)) == SHF_NOT_FOUND) {}
        } else {
            rc = shf_queue_pull_wait(way == BY_RESET ? t.free : t.a, SHF_WAIT_FOREVER, &item);
        }
        uint64_t now = test_now_ns();
        EXPECT(rc, SHF_OK);
        if (rc != SHF_OK) return;
        OK(shf_queue_push(t.b, &item));
        atomic_store(&board->got_at[me], now);
        while (atomic_load(&board->got_at[me]) != 0) usleep(50);
    }
    shf_queue_set_close(t.set);
}

/* Brings n items to the sleepers; they lie in "b" before, and come back there. */
static void bring(struct trio *t, uint32_t n) {
    struct shf_item item;
    struct shf_batch *b = NULL;
    struct shf_queue *from = t->b, *to = way == BY_RESET ? t->free : t->a;
    switch (way) {
    case BY_PUSH:
        for (uint32_t i = 0; i < n; i++) {
            NEED(shf_queue_pull(from, &item));
            OK(shf_queue_push(to, &item));
        }
        break;
    case BY_EXCHANGE:
        NEED(shf_queue_pull(from, &item));
        for (uint32_t i = 0; i + 1 < n; i++) OK(shf_queue_exchange(to, &item, from));
        if (shf_queue_exchange(to, &item, from) == SHF_OK) OK(shf_queue_push(from, &item)); /* one is back already */
        break;
    case BY_PUSH_MANY:
    case BY_EXCHANGE_MANY:
        NEED(shf_batch_new(t->set, n, &b));
        NEED(shf_queue_pull_many(from, b, n));
        if (way == BY_PUSH_MANY)
            OK(shf_queue_push_many(to, b));
        else if (shf_queue_exchange_many(to, b, from, 0) == SHF_OK)
            OK(shf_queue_push_many(from, b));
        shf_batch_free(b);
        break;
    case BY_DRAIN: OK(shf_queue_drain(from, to, NULL)); break;
    case BY_RESET: OK(shf_queue_set_reset(t->set)); break;
    default: break;
    }
}
/* Those that go home: the helper has pulled them from "a" before anybody slept. */
static void hold_some(struct trio *t, struct trio *helper, struct shf_item *items, struct shf_batch **b, uint32_t n) {
    OK(shf_queue_drain(t->b, t->a, NULL));
    *helper = trio_open("a");
    if (way == BY_FREE) {
        NEED(shf_batch_new(helper->set, n, b));
        NEED(shf_queue_pull_many(helper->a, *b, n));
    } else {
        for (uint32_t i = 0; i < n; i++) NEED(shf_queue_pull(helper->a, &items[i]));
    }
}

static void woken_by(enum how how, unsigned sleepers) {
    struct trio t = trio_create("a", sleepers, 8), helper = {0};
    pid_t pids[SLEEPERS];
    unsigned in_row = 0, tries = 0;
    memset((void *)board, 0, sizeof *board);
    way = how;
    OK(shf_queue_drain(t.free, t.b, NULL));
    int home = how == BY_RETURN || how == BY_FREE || how == BY_CLOSE;
    struct shf_item items[SLEEPERS];
    struct shf_batch *b = NULL;
    if (home) hold_some(&t, &helper, items, &b, sleepers);
    for (unsigned i = 0; i < sleepers; i++) pids[i] = fork_child(sleeper, (void *)(uintptr_t)i);
    UNTIL(in_row >= IN_A_ROW) {
        uint64_t last = 0;
        tries++;
        until_asleep(how == BY_RESET ? t.free : t.a, sleepers * tries);
        uint64_t start = test_now_ns();
        if (how == BY_RETURN)
            for (unsigned i = 0; i < sleepers; i++) OK(shf_item_return(helper.set, &items[i]));
        else if (how == BY_FREE)
            shf_batch_free(b);
        else if (how == BY_CLOSE)
            shf_queue_set_close(helper.set);
        else
            bring(&t, sleepers);
        for (unsigned i = 0; i < sleepers; i++) {
            uint64_t at = 0;
            while ((at = atomic_load(&board->got_at[i])) == 0 && test_now_ns() - start < HANG_MS * MS) usleep(20);
            if (at == 0) FAIL("sleeper %u of %u got nothing, by %s", i, sleepers, ways[how]);
            if (at > last) last = at;
        }
        total_woken += sleepers;
        in_row = last - start < SOON ? in_row + 1 : 0;
        if (*test_failures != 0) break;
        if (home) {
            if (how != BY_CLOSE) shf_queue_set_close(helper.set);
            hold_some(&t, &helper, items, &b, sleepers);
        }
        if (in_row >= IN_A_ROW) atomic_store(&board->stop, 1);
        for (unsigned i = 0; i < sleepers; i++) atomic_store(&board->got_at[i], 0);
    }
    if (in_row < IN_A_ROW)
        FAIL("%u sleepers are not woken by %s", sleepers, ways[how]);
    else
        total_late += tries - IN_A_ROW;
    for (unsigned i = 0; i < sleepers; i++) {
        if (in_row < IN_A_ROW) kill(pids[i], SIGKILL);
        CHECK_EQ_INT(wait_child(pids[i], HANG_MS), in_row < IN_A_ROW ? CHILD_KILLED(SIGKILL) : 0);
    }
    if (home) shf_queue_set_close(helper.set);
    OK(shf_queue_drain(t.a, t.b, NULL));
    CHECK_EQ_INT(length(t.b), sleepers);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
    OK(shf_unlink(temp_path("a")));
}
TEST(one_is_woken_by_everything_that_brings_items) {
    board = shared_memory(4096);
    for (enum how how = 0; how < WAYS && *test_failures == 0; how++) woken_by(how, 1);
}
TEST(as_many_are_woken_as_items_come) {
    board = shared_memory(4096);
    for (enum how how = 0; how < WAYS && *test_failures == 0; how++) woken_by(how, SLEEPERS);
}

/* ---- what goes wrong around a wake-up ---- */

static void wait_once(void *arg) {
    struct trio t = trio_open("a");
    struct shf_item item;
    atomic_fetch_add(&board->waiting, 1);
    NEED(shf_queue_pull_wait(t.a, SHF_WAIT_FOREVER, &item));
    atomic_fetch_add(&board->trips, 1);
    OK(shf_queue_push(t.b, &item));
    (void)arg;
    shf_queue_set_close(t.set);
}
/* As if a pusher had died between its commit and the wake-up: the flag is gone, nobody wakes. */
TEST(a_wake_up_that_never_comes) {
    board = shared_memory(4096);
    struct trio t = trio_create("a", 3, 8);
    struct shf_item item;
    pid_t pid = fork_child(wait_once, NULL);
    NEED(shf_queue_pull(t.free, &item));
    until_asleep(t.a, 1);
    REQUIRE_EQ_INT(shf__queue_lock_tail(t.a), SHF_OK);
    atomic_store(&t.a->shm->sleepers, 0);
    shf__unlock(&t.a->shm->tail_word);
    OK(shf_queue_push(t.a, &item));
    CHECK_EQ_INT(wait_child(pid, HANG_MS), 0);
    /* A sleeper that was killed leaves a flag that nobody needs. */
    pid = fork_child(wait_once, NULL);
    until_asleep(t.a, 2);
    kill(pid, SIGKILL);
    CHECK_EQ_INT(wait_child(pid, HANG_MS), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(stats_of(t.a).sleepers, 1);
    NEED(shf_queue_pull(t.free, &item));
    OK(shf_queue_push(t.a, &item));
    CHECK_EQ_INT(stats_of(t.a).sleepers, 0);
    NEED(shf_queue_pull(t.a, &item));
    OK(shf_queue_push(t.free, &item));
    /* A stopped sleeper may be the one that is woken: the other finds the item for itself. */
    pid_t stopped = fork_child(wait_once, NULL);
    until_asleep(t.a, 3);
    kill(stopped, SIGSTOP);
    pid = fork_child(wait_once, NULL);
    until_asleep(t.a, 4);
    NEED(shf_queue_pull(t.free, &item));
    OK(shf_queue_push(t.a, &item));
    CHECK_EQ_INT(wait_child(pid, HANG_MS), 0);
    CHECK_EQ_INT(atomic_load(&board->trips), 2);
    kill(stopped, SIGCONT);
    NEED(shf_queue_pull(t.free, &item));
    OK(shf_queue_push(t.a, &item));
    CHECK_EQ_INT(wait_child(stopped, HANG_MS), 0);
    CHECK_EQ_INT(length(t.b), 3);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* ---- wait_any ---- */

static void any_waiter(void *arg) {
    struct trio t = trio_open("a");
    struct shf_queue *three[3] = {t.a, t.b, t.free};
    (void)arg;
    for (uint64_t sent = 1; sent != 0;) {
        struct shf_item item;
        uint32_t which = 9;
        OK(shf_queue_wait_any(three, 2, SHF_WAIT_FOREVER, &which));
        uint64_t now = test_now_ns();
        if (which > 1) FAIL("queue %u of 2", which), test_stop();
        NEED(shf_queue_pull(three[which], &item)); /* nobody else pulls there */
        memcpy(&sent, item.data, 8);
        atomic_store(&board->got_at[0], now - sent);
        atomic_store(&board->value, which);
        OK(shf_queue_push(t.free, &item));
        atomic_fetch_add(&board->trips, 1);
    }
    shf_queue_set_close(t.set);
}
TEST(any_of_several_queues) {
    board = shared_memory(4096);
    struct trio t = trio_create("a", 1, 8);
    struct shf_item item;
    pid_t pid = fork_child(any_waiter, NULL);
    uint32_t rounds = 0, soon = 0, last = 0;
    UNTIL(last) { /* by ticks alone one in eight would be soon */
        last = (rounds >= 200 && soon > rounds / 3) || *test_failures != 0;
        NEED(shf_queue_pull_wait(t.free, HANG_MS * MS, &item));
        if (rounds % 4) usleep((useconds_t)(test_rng() % 3000)); /* it sleeps, or spins, or is not there yet */
        uint64_t start = test_now_ns(), value = last ? 0 : start;
        memcpy(item.data, &value, 8);
        OK(shf_queue_push(rounds % 3 ? t.b : t.a, &item));
        while (atomic_load(&board->trips) != rounds + 1 && test_now_ns() - start < HANG_MS * MS) usleep(20);
        CHECK_EQ_INT(atomic_load(&board->trips), rounds + 1);
        CHECK_EQ_INT(atomic_load(&board->value), rounds % 3 ? 1 : 0);
        soon += atomic_load(&board->got_at[0]) < SOON;
        total_woken++, rounds++;
    }
    if (!last) FAIL("%u of %u were woken", soon, rounds), kill(pid, SIGKILL);
    CHECK_EQ_INT(wait_child(pid, HANG_MS), last ? 0 : CHILD_KILLED(SIGKILL));
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* ---- descriptors ---- */

static int threads_now(void) {
    DIR *d = opendir("/proc/self/task");
    int n = -2;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
static int readable(int fd, int ms) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, ms);
}
static void push_later(void *arg) {
    struct trio t = trio_open("a");
    struct shf_item item;
    sleep_ms(2);
    NEED(shf_queue_pull(t.free, &item));
    OK(shf_queue_push(arg ? t.b : t.a, &item));
    shf_queue_set_close(t.set);
}
static void child_waits(void *arg) {
    const struct trio *t = arg; /* inherited */
    struct shf_item item;
    int fd = -1;
    NEED(shf_queue_wait_fd(t->a, &fd));
    CHECK_EQ_INT(readable(fd, HANG_MS), 1);
    NEED(shf_queue_pull(t->a, &item));
    OK(shf_queue_push(t->b, &item));
    shf_queue_set_close(t->set);
    CHECK_EQ_INT(threads_now(), 1);
}
TEST(a_descriptor_to_wait_with) {
    struct same fds = same_begin();
    struct trio t = trio_create("a", 3, 8);
    struct shf_item item;
    int fd = -1, again = -1, other = -1, threads = threads_now();
    uint32_t which;
    OK(shf_queue_wait_fd(t.a, &fd));
    OK(shf_queue_wait_fd(t.a, &again));
    OK(shf_queue_wait_fd(t.b, &other));
    CHECK(fd >= 0 && fd == again && other != fd && threads_now() == threads + 2);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ_INT(readable(fd, 60), 0);
    for (unsigned round = 0; round < 20; round++) {
        int to_b = round % 4 == 3;
        pid_t pid = fork_child(push_later, to_b ? &t : NULL);
        CHECK_EQ_INT(readable(to_b ? other : fd, HANG_MS), 1);
        CHECK_EQ_INT(readable(to_b ? fd : other, 0), 0);
        CHECK_EQ_INT(readable(to_b ? other : fd, 0), 1); /* until it is found empty */
        NEED(shf_queue_pull(to_b ? t.b : t.a, &item));
        OK(shf_queue_push(t.free, &item));
        NONE(shf_queue_pull(to_b ? t.b : t.a, &item));
        CHECK_EQ_INT(wait_child(pid, HANG_MS), 0);
        /* A wake-up may be one too many; the next look ends it. */
        for (int i = 0; i < 100 && readable(to_b ? other : fd, 0) != 0; i++)
            NONE(shf_queue_pull(to_b ? t.b : t.a, &item));
        CHECK_EQ_INT(readable(to_b ? other : fd, 0), 0);
    }
    /* There already when it is asked for; found empty by a batch, by a wait with no time. */
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(t.set, 3, &b));
    OK(shf_queue_drain(t.free, t.a, NULL));
    CHECK_EQ_INT(readable(fd, HANG_MS), 1);
    NEED(shf_queue_pull_many(t.a, b, 0));
    NONE(shf_queue_pull_wait(t.a, 0, &item));
    OK(shf_queue_push_many(t.b, b));
    CHECK_EQ_INT(readable(other, HANG_MS), 1);
    /* In an epoll of both. */
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data = {.fd = fd}};
    REQUIRE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0);
    e.data.fd = other;
    REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, other, &e) == 0);
    CHECK(epoll_wait(epoll, &e, 1, HANG_MS) == 1 && e.data.fd == other);
    while (shf_queue_pull(t.b, &item) == SHF_OK) OK(shf_queue_push(t.a, &item));
    CHECK(epoll_wait(epoll, &e, 1, HANG_MS) == 1);
    close(epoll);
    /* A fork's child has its own. */
    OK(shf_queue_wait_any(&t.a, 1, 0, &which));
    CHECK_EQ_INT(wait_child(fork_child(child_waits, &t), HANG_MS), 0);
    CHECK_EQ_INT(length(t.b), 1);
    CLEAN(t.set, 0);
    /* Nobody may wait through a read-only handle, who could not register. */
    struct shf_queue_set *reader = NULL;
    NEED(shf_queue_set_open(temp_path("a"), SHF_RDONLY, NULL, &reader));
    again = -7;
    CHECK(shf_queue_wait_fd(trio_of(reader).a, &again) < 0 && again == -7);
    shf_queue_set_close(reader);
    shf_queue_set_close(t.set); /* ends the threads, while they wait */
    CHECK_EQ_INT(threads_now(), threads);
    same_end(&fds);
}

/* An event loop as in shf_queue.h: pull until there is nothing, then poll. No event may be missed. */
static void event_loop(void *arg) {
    struct trio t = trio_open("a");
    struct shf_item item;
    uint32_t rounds = (uint32_t)(uintptr_t)arg, got = 0;
    int fd = -1;
    NEED(shf_queue_wait_fd(t.a, &fd));
    while (got < rounds && *test_failures == 0) {
        int rc = shf_queue_pull(t.a, &item);
        if (rc == SHF_OK) {
            uint32_t value = stamp_value(&item);
            if (value != got) FAIL("item %u came as number %u", value, got);
            got++;
            OK(shf_queue_push(t.free, &item));
            continue;
        }
        NONE(rc);
        if (readable(fd, HANG_MS) != 1) FAIL("no event after %u of %u items", got, rounds);
        atomic_fetch_add(&board->trips, 1);
    }
    shf_queue_set_close(t.set);
}
TEST(no_event_is_missed) {
    board = shared_memory(4096);
    const uint32_t ops = (uint32_t)test_env("SHF_OPS", 8000), rounds = ops < 8000 ? ops : 8000;
    struct trio t = trio_create("a", 4, 8);
    struct shf_item item;
    pid_t pid = fork_child(event_loop, (void *)(uintptr_t)rounds);
    for (uint32_t i = 0; i < rounds && *test_failures == 0; i++) {
        NEED(shf_queue_pull_wait(t.free, HANG_MS * MS, &item));
        stamp(t.set, &item, i);
        OK(shf_queue_push(t.a, &item));
        if (test_rng() % 8 == 0) usleep((useconds_t)(test_rng() % 40));
    }
    CHECK_EQ_INT(wait_child(pid, HANG_MS), 0);
    total_slept += atomic_load(&board->trips);
    CHECK_EQ_INT(length(t.free), 4);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* ---- no wake-up is lost ---- */

/* Two of them hand one item to and fro. Pauses of all lengths, so that a push comes before, while and after the other goes
 * to sleep. A wake-up that is lost costs a tick. */
static void bat(void *arg) {
    int second = arg != NULL;
    struct trio t = trio_open("a");
    uint64_t rng = test_seed + (uint64_t)second;
    struct shf_item item;
    while (!atomic_load(&board->stop)) {
        uint64_t start = test_now_ns();
        int rc = shf_queue_pull_wait(second ? t.a : t.b, 20 * SECOND, &item);
        uint64_t took = test_now_ns() - start;
        if (rc == SHF_NOT_FOUND && atomic_load(&board->stop)) break;
        EXPECT(rc, SHF_OK);
        if (rc != SHF_OK) break;
        if (took > 20000) atomic_fetch_add(&board->value, 1); /* so long it did not spin */
        if (took > 30 * MS) atomic_fetch_add(&board->late, 1);
        atomic_fetch_add(&board->trips, 1);
        uint64_t pause = test_next(&rng) % 60000; /* ns: around what the other needs to fall asleep */
        for (uint64_t begin = test_now_ns(); test_now_ns() - begin < pause;) {}
        OK(shf_queue_push(second ? t.b : t.a, &item));
    }
    shf_queue_set_close(t.set);
}
TEST(no_wake_up_is_lost) {
    board = shared_memory(4096);
    const uint32_t rounds = (uint32_t)test_env("SHF_OPS", 10000);
    struct trio t = trio_create("a", 1, 8);
    struct shf_item item;
    NEED(shf_queue_pull(t.free, &item));
    OK(shf_queue_push(t.a, &item));
    pid_t one = fork_child(bat, NULL), two = fork_child(bat, &t);
    /* Some may be late for want of a processor: one stretch without is enough. A crowded machine plays fewer rounds. */
    uint32_t last = 0, late = 0, calm = 0;
    uint64_t end = test_now_ns() + 3 * SECOND;
    UNTIL(calm && (atomic_load(&board->trips) >= rounds || test_now_ns() > end)) {
        sleep_ms(20);
        uint32_t trips = atomic_load(&board->trips), l = atomic_load(&board->late);
        if (trips - last < 200) continue;
        calm |= l == late;
        last = trips, late = l;
    }
    CHECK(calm);
    atomic_store(&board->stop, 1);
    int rc = wait_child(one, HANG_MS);
    /* The other may sleep while the item lies with the one that has gone. */
    OK(shf_queue_drain(t.b, t.a, NULL));
    CHECK_EQ_INT(rc, 0);
    CHECK_EQ_INT(wait_child(two, HANG_MS), 0);
    total_slept += atomic_load(&board->value), total_late += atomic_load(&board->late);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* Several wait for few items, on one queue and on two, each in its way; each item goes on to somebody else. */
static void passer(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    struct trio t = trio_open("a");
    struct shf_queue *both[2] = {t.a, t.b};
    struct shf_batch *b = NULL;
    uint64_t rng = test_seed * 31 + me, mine = 0;
    struct shf_item item;
    NEED(shf_batch_new(t.set, 2, &b));
    while (!atomic_load(&board->stop)) {
        uint64_t r = test_next(&rng), timeout = r % 4 == 0 ? r >> 8 & 0xfffff : 20 * SECOND;
        struct shf_queue *from = both[r >> 2 & 1], *to = both[r >> 3 & 1];
        uint32_t which = 0;
        int rc;
        switch (me % 3) {
        case 0:
            rc = shf_queue_pull_wait(from, timeout, &item);
            if (rc == SHF_OK) OK(shf_queue_push(to, &item)), mine++;
            break;
        case 1:
            rc = shf_queue_pull_many_wait(from, b, 0, timeout);
            if (rc == SHF_OK) mine += shf_batch_count(b);
            OK(shf_queue_push_many(to, b));
            break;
        default:
            rc = shf_queue_wait_any(both, 2, timeout, &which);
            if (rc == SHF_OK && shf_queue_pull(both[which], &item) == SHF_OK) OK(shf_queue_push(to, &item)), mine++;
        }
        if (rc == SHF_NOT_FOUND && timeout == 20 * SECOND && !atomic_load(&board->stop)) {
            /* Legal only if others always took what came there: then they went on. */
            atomic_fetch_add(&board->late, 1);
        }
        CHECK(rc == SHF_OK || rc == SHF_NOT_FOUND);
        if (test_next(&rng) % 4 == 0) usleep((useconds_t)(test_next(&rng) % 200));
    }
    atomic_fetch_add(&board->trips, (uint32_t)mine);
    shf_queue_set_close(t.set);
}
TEST(many_wait_for_few_items) {
    board = shared_memory(4096);
    enum { N = 5 };
    struct trio t = trio_create("a", 2, 8);
    pid_t pids[N];
    OK(shf_queue_drain(t.free, t.a, NULL));
    for (unsigned i = 0; i < N; i++) pids[i] = fork_child(passer, (void *)(uintptr_t)i);
    for (uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 2) * SECOND / 2; test_now_ns() < end;) sleep_ms(10);
    atomic_store(&board->stop, 1);
    for (unsigned i = 0; i < N;) { /* who sleeps at an empty queue needs an item to see that it is over */
        OK(shf_queue_drain(t.a, t.b, NULL));
        sleep_ms(1);
        OK(shf_queue_drain(t.b, t.a, NULL));
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pids[i], &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
            CHECK_EQ_INT(wait_child(pids[i++], HANG_MS), 0);
    }
    CHECK(atomic_load(&board->trips) > 0);
    CHECK_EQ_INT(atomic_load(&board->late), 0);
    total_slept += atomic_load(&board->trips);
    CHECK_EQ_INT(length(t.a) + length(t.b), 2);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    printf("# total: %llu sleepers woken in all ways, %llu more sleeps of processes that pass items on, %llu wake-ups "
           "late by load; "
           "0 lost unless a test failed\n",
           (unsigned long long)total_woken, (unsigned long long)total_slept, (unsigned long long)total_late);
    return rc;
}
