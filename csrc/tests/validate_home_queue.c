// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_home_queue.c - queues: what the dead held comes home, what a stopped process holds stays its own; forks
 *
 * A HOLDER is a child that pulls items in all ways (one by one, in batches, taken out of them, beyond its hand), stamps them,
 * and then waits to be killed. Nothing here looks after the dead but who uses the queues.
 */
#include "queue_fixture.h"

#include <pthread.h>

static uint64_t total_killed, total_home, longest_ms, total_forks;
static shf_au32 *ready; /* shared with the children */

static void begin(void) {
    if (ready == NULL) ready = shared_memory(4096);
    memset((void *)ready, 0, 4096);
}
static void killed(pid_t pid) {
    kill(pid, SIGKILL);
    CHECK_EQ_INT(wait_child(pid, HANG_MS), CHILD_KILLED(SIGKILL));
    total_killed++;
}
static void for_ever(void) {
    for (;;) pause();
}
static void home(uint64_t items, uint64_t ms) {
    total_home += items;
    if (ms > longest_ms) longest_ms = ms;
}

/* ---- the dead ---- */

#define SINGLE 1u /* one by one */
#define BATCH 2u  /* in batches of its hand */
#define TAKEN 4u  /* taken out of a batch, whose others were pushed to "b" */
#define WORDS 8u  /* more than its hand holds */
#define LARGE 16u /* in a batch that no hand holds */
#define KINDS 32u

static uint32_t held_by(unsigned kinds) {
    return (kinds & SINGLE ? 3u : 0u) + (kinds & BATCH ? 4u : 0u) + (kinds & TAKEN ? 2u : 0u) +
           (kinds & WORDS ? SHF_HAND_SINGLES + 10u : 0u) + (kinds & LARGE ? SHF_HAND_LEASE + 5u : 0u);
}
static uint32_t next_value;
static void keep(struct trio *t, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct shf_item item;
        NEED(shf_queue_pull(t->a, &item));
        stamp(t->set, &item, ++next_value);
    }
}
static void keep_batch(struct trio *t, uint32_t n) {
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(t->set, n, &b));
    NEED(shf_queue_pull_many(t->a, b, n));
    for (uint32_t i = 0; i < n; i++) {
        struct stamp s = {shf_batch_numbers(b)[i], ++next_value};
        memcpy(shf_batch_data(b, i), &s, sizeof s);
    }
}
static void holder(void *arg) {
    unsigned kinds = (unsigned)(uintptr_t)arg;
    struct trio t = trio_open("a");
    struct shf_batch *b = NULL;
    struct shf_item item;
    if (kinds & SINGLE) keep(&t, 3);
    if (kinds & TAKEN) {
        NEED(shf_batch_new(t.set, 5, &b));
        NEED(shf_queue_pull_many(t.a, b, 5));
        for (int i = 0; i < 2; i++) {
            NEED(shf_batch_take(b, &item));
            stamp(t.set, &item, ++next_value);
        }
        OK(shf_queue_push_many(t.b, b));
    }
    if (kinds & BATCH) keep_batch(&t, 4);
    if (kinds & LARGE) keep_batch(&t, SHF_HAND_LEASE + 5);
    if (kinds & WORDS) keep(&t, SHF_HAND_SINGLES + 10);
    atomic_fetch_add(ready, 1);
    for_ever();
}
/* The items in "a", whose bytes are the dead one's: each value of 1 .. n once; they go to "free". */
static void values_of_the_dead(struct trio *t, uint32_t n) {
    char *seen = calloc(n + 1, 1);
    uint32_t found = 0;
    for (struct shf_item item; shf_queue_pull(t->a, &item) == SHF_OK;) {
        uint32_t v = stamp_value(&item);
        if (v != 0 && v <= n && !seen[v]) seen[v] = 1, found++;
        stamp(t->set, &item, 0);
        OK(shf_queue_push(t->free, &item));
    }
    CHECK_EQ_INT(found, n);
    free(seen);
}
TEST(what_the_dead_held_comes_home) {
    begin();
    const uint32_t n = held_by(KINDS - 1) + 20;
    for (unsigned kinds = 1; kinds < KINDS && *test_failures == 0; kinds++) {
        struct trio t = trio_create("a", n, 8);
        uint32_t held = held_by(kinds), in_b = kinds & TAKEN ? 3 : 0;
        struct shf_item item;
        for (uint32_t i = 0; i < n; i++) {
            NEED(shf_queue_pull(t.free, &item));
            stamp(t.set, &item, 0);
            OK(shf_queue_push(t.a, &item));
        }
        atomic_store(ready, 0);
        pid_t pid = fork_child(holder, (void *)(uintptr_t)kinds);
        REQUIRE(await(ready));
        CHECK(length(t.a) == n - held - in_b && length(t.b) == in_b);
        CLEAN(t.set, held);
        killed(pid);
        uint64_t took = until_length(t.a, n - in_b); /* by asking for its length */
        home(held, took);
        CHECK_EQ_INT(stats_of(t.a).returned, held);
        CLEAN(t.set, 0);
        values_of_the_dead(&t, held);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
    }
}

/* By each of those who look: an empty pull, in vain first; a wait; an attach; recover; a new life in the dead one's slot. */
TEST(whoever_looks_brings_them_home) {
    begin();
    for (unsigned how = 0; how < 8 && *test_failures == 0; how++) {
        const uint32_t n = held_by(SINGLE | BATCH);
        struct trio t = trio_create("a", n, 8), u = {0};
        struct shf_queue *both[2] = {t.b, t.a};
        struct shf_batch *b = NULL;
        struct shf_item item = {0};
        struct shf_queue_report r = {.size = sizeof r};
        uint32_t which;
        int rc = SHF_NOT_FOUND;
        OK(shf_queue_drain(t.free, t.a, NULL));
        atomic_store(ready, 0);
        pid_t pid = fork_child(holder, (void *)(uintptr_t)(SINGLE | BATCH));
        REQUIRE(await(ready));
        NONE(shf_queue_pull(t.a, &item));
        NONE(shf_queue_pull_wait(t.a, 30 * MS, &item)); /* the living keep what they hold */
        NEED(shf_batch_new(t.set, n, &b));
        killed(pid);
        uint64_t start = test_now_ns();
        switch (how) {
        case 0:
            while ((rc = shf_queue_pull(t.a, &item)) == SHF_NOT_FOUND && test_now_ns() - start < HANG_MS * MS) {}
            break;
        case 1: rc = shf_queue_pull_wait(t.a, SHF_WAIT_FOREVER, &item); break;
        case 2: rc = shf_queue_pull_many_wait(t.a, b, 0, SHF_WAIT_FOREVER); break;
        case 3: rc = shf_queue_wait_any(both, 2, SHF_WAIT_FOREVER, &which); break;
        case 4:
            rc = shf_queue_set_recover(t.set);
            CHECK(t.a->shm->tail - t.a->shm->head == n); /* at once */
            break;
        case 5:
            OK(shf_queue_set_check(t.set, &r)); /* only counts them */
            CHECK(r.dead == n && r.held == 0 && r.in_queues == 0 && r.problems == 0);
            rc = shf_queue_set_reset(t.set); /* home, and then to the first queue */
            CHECK_EQ_INT(length(t.free), n);
            OK(shf_queue_drain(t.free, t.a, NULL));
            break;
        case 6: /* who attaches */
            while (rc == SHF_NOT_FOUND && test_now_ns() - start < HANG_MS * MS) {
                u = trio_open("a");
                rc = t.a->shm->tail - t.a->shm->head == n ? SHF_OK : SHF_NOT_FOUND;
                shf_queue_set_close(u.set);
                usleep(1000);
            }
            break;
        default: /* who sleeps already, in another process' place: a thread of poll */
        {
            int fd = -1;
            OK(shf_queue_wait_fd(t.a, &fd));
            struct pollfd p = {fd, POLLIN, 0};
            rc = poll(&p, 1, HANG_MS) == 1 ? SHF_OK : SHF_NOT_FOUND;
        }
        }
        home(n, (test_now_ns() - start) / MS);
        if (rc != SHF_OK) FAIL("way %u: %d, nothing came home", how, rc);
        if (item.data != NULL) OK(shf_queue_push(t.a, &item));
        OK(shf_queue_push_many(t.a, b));
        until_length(t.a, n);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
    }
}

/* Sleepers of other processes, while the only holder dies: all its items reach them. */
static void waiter(void *arg) {
    struct trio t = trio_open("a");
    struct shf_item item;
    (void)arg;
    atomic_fetch_add(&ready[1], 1);
    NEED(shf_queue_pull_wait(t.a, SHF_WAIT_FOREVER, &item));
    OK(shf_queue_push(t.b, &item));
    shf_queue_set_close(t.set);
}
TEST(those_who_sleep_get_them) {
    struct tries in_time = {0}; /* within 100 ms of the death */
    begin();
    MOSTLY(in_time) {
        struct trio t = trio_create("a", 3, 8);
        pid_t waiters[3];
        OK(shf_queue_drain(t.free, t.a, NULL));
        atomic_store(&ready[0], 0), atomic_store(&ready[1], 0);
        pid_t pid = fork_child(holder, (void *)(uintptr_t)SINGLE);
        REQUIRE(await(ready));
        for (unsigned i = 0; i < 3; i++) waiters[i] = fork_child(waiter, NULL);
        while (atomic_load(&ready[1]) != 3) usleep(100);
        usleep((useconds_t)(test_rng() % 3000));
        uint64_t start = test_now_ns();
        killed(pid);
        for (unsigned i = 0; i < 3; i++) CHECK_EQ_INT(wait_child(waiters[i], HANG_MS), 0);
        uint64_t ms = (test_now_ns() - start) / MS;
        in_time.kept += ms < 100;
        home(3, ms);
        CHECK_EQ_INT(length(t.b), 3);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
    }
    CHECK(MOST_KEPT(in_time));
}

/* All at once, again and again; some slots get a new life before anybody has looked. */
TEST(many_die_at_once) {
    begin();
    enum { HOLDERS = 8 };
    const uint32_t each = held_by(SINGLE | BATCH | TAKEN | WORDS), n = HOLDERS * (each + 3);
    struct trio t = trio_create("a", n, 8);
    for (unsigned round = 0; round < 4; round++) {
        pid_t pids[HOLDERS];
        OK(shf_queue_set_reset(t.set));
        OK(shf_queue_drain(t.free, t.a, NULL));
        CHECK_EQ_INT(length(t.a), n);
        atomic_store(ready, 0);
        for (unsigned i = 0; i < HOLDERS; i++)
            pids[i] = fork_child(holder, (void *)(uintptr_t)(SINGLE | BATCH | TAKEN | WORDS));
        for (uint64_t end = test_now_ns() + HANG_MS * MS; atomic_load(ready) != HOLDERS && test_now_ns() < end;)
            usleep(200);
        CLEAN(t.set, HOLDERS * each);
        uint64_t start = test_now_ns();
        for (unsigned i = 0; i < HOLDERS; i++) killed(pids[i]);
        for (unsigned i = 0; i < round * 2; i++) { /* new lives */
            struct trio u = trio_open("a");
            struct shf_item item;
            NEED(shf_queue_pull_wait(u.b, SHF_WAIT_FOREVER, &item));
            OK(shf_queue_push(u.b, &item));
            shf_queue_set_close(u.set);
        }
        until_length(t.a, n - 3 * HOLDERS);
        home(HOLDERS * each, (test_now_ns() - start) / MS);
        CHECK_EQ_INT(length(t.b), 3 * HOLDERS);
        CLEAN(t.set, 0);
    }
    shf_queue_set_close(t.set);
}

/* ---- the stopped ---- */

static void stopped(void *arg) {
    struct trio t = trio_open("a");
    struct shf_batch *b = NULL;
    struct shf_item item;
    (void)arg;
    NEED(shf_batch_new(t.set, 2, &b));
    NEED(shf_queue_pull(t.a, &item));
    stamp(t.set, &item, 7);
    NEED(shf_queue_pull_many(t.a, b, 0));
    struct stamp s = {shf_batch_numbers(b)[1], 8};
    memcpy(shf_batch_data(b, 1), &s, sizeof s);
    atomic_store(ready, 1);
    raise(SIGSTOP);
    CHECK(stamped(t.set, &item, 7) && memcmp(shf_batch_data(b, 1), &s, sizeof s) == 0);
    OK(shf_queue_push(t.b, &item));
    OK(shf_queue_push_many(t.b, b));
    shf_queue_set_close(t.set);
}
TEST(a_stopped_process_keeps_its_items) {
    begin();
    struct trio t = trio_create("a", 4, 8);
    struct shf_item item;
    int status;
    OK(shf_queue_drain(t.free, t.a, NULL));
    pid_t pid = fork_child(stopped, NULL);
    REQUIRE(await(ready));
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    NEED(shf_queue_pull(t.a, &item));
    OK(shf_queue_push(t.free, &item));
    for (unsigned i = 0; i < 4; i++) { /* everybody looks after the dead: it is none */
        NONE(shf_queue_pull_wait(t.a, 45 * MS, &item));
        OK(shf_queue_set_recover(t.set));
        CLEAN(t.set, 3);
    }
    kill(pid, SIGCONT);
    CHECK_EQ_INT(wait_child(pid, HANG_MS), 0);
    CHECK(length(t.b) == 3 && length(t.free) == 1 && stats_of(t.a).returned == 0);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* ---- forks ---- */

/* What the parent holds when it forks. */
static struct {
    struct trio t, other;
    struct shf_item item, taken, second;
    struct shf_batch *batch, *large;
} own;

static void refuses(struct shf_item *item) {
    struct shf_item copy = *item;
    EXPECT(shf_queue_push(own.t.a, &copy), SHF_ERR_INVALID_ITEM);
    EXPECT(shf_item_return(own.t.set, &copy), SHF_ERR_INVALID_ITEM);
    EXPECT(shf_queue_exchange(own.t.a, &copy, own.t.free), SHF_ERR_INVALID_ITEM);
}
static void all_are_refused(void) {
    refuses(&own.item), refuses(&own.taken);
    EXPECT(shf_queue_push_many(own.t.a, own.batch), SHF_ERR_INVALID_ITEM);
    EXPECT(shf_queue_push_many(own.t.a, own.large), SHF_ERR_INVALID_ITEM);
    EXPECT(shf_queue_exchange_many(own.t.a, own.batch, own.t.free, 0), SHF_ERR_INVALID_ITEM);
}
enum child {
    ONLY_EXITS,      /* without any call */
    CLOSES,          /* its copy of the handle */
    PUSHES,          /* what it has inherited */
    FREES,           /* the batches it has inherited */
    WORKS,           /* on its own */
    WORKS_AND_DIES,  /* holding items of its own */
    WORKS_FIRST,     /* then pushes what it has inherited */
    FILLS_THE_BATCH, /* that it has inherited */
    TAKES,           /* out of a batch it has inherited */
    FORKS,           /* a grandchild that pushes */
    CHILDREN
};
static void work(void) {
    struct shf_item item[3];
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(own.t.set, 2, &b));
    for (int i = 0; i < 3; i++) NEED(shf_queue_pull(own.t.free, &item[i]));
    NEED(shf_queue_pull_many(own.t.free, b, 0));
    for (int i = 0; i < 3; i++) OK(shf_queue_push(own.t.b, &item[i]));
    OK(shf_queue_push_many(own.t.b, b));
    shf_batch_free(b);
    for (int i = 0; i < 5; i++) {
        NEED(shf_queue_pull(own.t.b, &item[0]));
        OK(shf_queue_push(own.t.free, &item[0]));
    }
}
static void child(void *arg) {
    enum child what = (enum child)(uintptr_t)arg;
    struct shf_item item;
    struct shf_batch *b = NULL;
    switch (what) {
    case ONLY_EXITS: return;
    case CLOSES: break;
    case PUSHES: all_are_refused(); break;
    case FREES:
        shf_batch_free(own.batch);
        shf_batch_free(own.large);
        break;
    case WORKS:
        work();
        OK(shf_queue_set_recover(own.t.set));
        CLEAN(own.t.set, atomic_load(&ready[8]));
        break;
    case WORKS_AND_DIES:
        work();
        NEED(shf_queue_pull(own.t.free, &item));
        NEED(shf_batch_new(own.t.set, 2, &b));
        NEED(shf_queue_pull_many(own.t.free, b, 0));
        kill(getpid(), SIGKILL);
        break;
    case WORKS_FIRST:
        work();
        all_are_refused();
        NEED(shf_queue_pull(own.t.free, &item)); /* in the places that the parent's have in its hand */
        all_are_refused();
        OK(shf_queue_push(own.t.free, &item));
        break;
    case FILLS_THE_BATCH:
        NEED(shf_queue_pull_many(own.t.free, own.batch, 1));
        OK(shf_queue_push_many(own.t.free, own.batch));
        NEED(shf_queue_pull_many(own.t.free, own.large, 2));
        OK(shf_queue_push_many(own.t.free, own.large));
        break;
    case TAKES:
        EXPECT(shf_batch_take(own.batch, &item), SHF_ERR_INVALID_ITEM);
        work();
        EXPECT(shf_batch_take(own.large, &item), SHF_ERR_INVALID_ITEM);
        break;
    case FORKS:
        work();
        CHECK_EQ_INT(run_child(child, (void *)(uintptr_t)WORKS_FIRST, HANG_MS), 0);
        work();
        break;
    default: FAIL("no such child");
    }
    shf_queue_set_close(own.t.set);
}
TEST(forks) {
    begin();
    const uint32_t n = 40 + SHF_HAND_LEASE + 3;
    for (enum child what = 0; what < CHILDREN; what++)
        for (unsigned twice = 0; twice < 2; twice++) {
            own.t = trio_create("a", n, 8), own.other = trio_open("a");
            NEED(shf_queue_pull(own.t.free, &own.item));
            NEED(shf_batch_new(own.t.set, 5, &own.batch));
            NEED(shf_batch_new(own.t.set, SHF_HAND_LEASE + 3, &own.large));
            NEED(shf_queue_pull_many(own.t.free, own.batch, 0));
            NEED(shf_queue_pull_many(own.t.free, own.large, 0));
            NEED(shf_batch_take(own.batch, &own.taken));
            NEED(shf_queue_pull(own.other.free, &own.second)); /* two handles in one process */
            stamp(own.t.set, &own.item, 41), stamp(own.t.set, &own.taken, 42), stamp(own.other.set, &own.second, 43);
            const uint32_t held = 1 + 5 + SHF_HAND_LEASE + 3 + 1;
            atomic_store(&ready[8], held);
            for (unsigned i = 0; i <= twice; i++) {
                CHECK_EQ_INT(run_child(child, (void *)(uintptr_t)what, HANG_MS),
                             what == WORKS_AND_DIES ? CHILD_KILLED(SIGKILL) : 0);
                total_forks++;
            }
            if (what == WORKS_AND_DIES)
                home(3 * (twice + 1), until_length(own.t.free, n - held)), total_killed += twice + 1;
            CHECK(length(own.t.free) == n - held && length(own.t.a) == 0 && length(own.t.b) == 0);
            CLEAN(own.t.set, held); /* the parent's are the parent's */
            CHECK(stamped(own.t.set, &own.item, 41) && stamped(own.t.set, &own.taken, 42) &&
                  stamped(own.other.set, &own.second, 43));
            struct shf_item copy = own.second;
            EXPECT(shf_queue_push(own.t.a, &copy), SHF_ERR_INVALID_ITEM); /* the other handle's */
            OK(shf_queue_push(own.t.a, &own.item));
            OK(shf_queue_push(own.t.a, &own.taken));
            OK(shf_queue_push_many(own.t.a, own.batch));
            OK(shf_queue_push_many(own.t.a, own.large));
            OK(shf_queue_push(own.other.a, &own.second));
            CHECK_EQ_INT(length(own.t.a), held);
            CLEAN(own.t.set, 0);
            shf_queue_set_close(own.other.set);
            shf_queue_set_close(own.t.set);
            OK(shf_unlink(temp_path("a")));
        }
}

/* The parent dies while its child, which has its handle, lives: what the parent held comes home, what the child holds stays. */
static void parent(void *arg) {
    (void)arg;
    own.t = trio_open("a");
    NEED(shf_queue_pull(own.t.a, &own.item));
    NEED(shf_queue_pull(own.t.a, &own.taken));
    pid_t pid = fork();
    if (pid == 0) {
        NEED(shf_queue_pull(own.t.a, &own.second));
        stamp(own.t.set, &own.second, 5);
        atomic_store(&ready[1], 1);
        (void)await(&ready[2]); /* the parent is dead */
        CHECK(stamped(own.t.set, &own.second, 5));
        OK(shf_queue_push(own.t.b, &own.second));
        shf_queue_set_close(own.t.set);
        atomic_store(&ready[3], 1);
        _exit(0);
    }
    atomic_store(ready, 1);
    for_ever();
}
TEST(a_parent_dies_before_its_child) {
    begin();
    struct trio t = trio_create("a", 4, 8);
    OK(shf_queue_drain(t.free, t.a, NULL));
    pid_t pid = fork_child(parent, NULL);
    REQUIRE(await(ready) && await(&ready[1]));
    CLEAN(t.set, 3);
    killed(pid);
    home(2, until_length(t.a, 3));
    CLEAN(t.set, 1);
    atomic_store(&ready[2], 1);
    CHECK(await(&ready[3]));
    CHECK(length(t.b) == 1 && length(t.a) == 3);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

/* ---- several at a time ---- */

TEST(several_sets_and_handles_in_one_process) {
    enum { SETS = 4, HANDLES = 3 };
    SAME;
    struct trio t[SETS][HANDLES];
    struct shf_item item[SETS][HANDLES];
    const char *const names[SETS] = {"a", "b", "c", "d"};
    for (unsigned s = 0; s < SETS; s++) {
        t[s][0] = trio_create(names[s], 6, 8);
        for (unsigned h = 1; h < HANDLES; h++) t[s][h] = trio_open(names[s]);
    }
    for (unsigned s = 0; s < SETS; s++)
        for (unsigned h = 0; h < HANDLES; h++) {
            NEED(shf_queue_pull(t[s][h].free, &item[s][h]));
            stamp(t[s][h].set, &item[s][h], s * 10 + h);
        }
    for (unsigned s = 0; s < SETS; s++) /* nobody takes another's */
        for (unsigned h = 0; h < HANDLES; h++)
            for (unsigned other = 0; other < SETS * HANDLES; other++) {
                struct trio *u = &t[other / HANDLES][other % HANDLES];
                struct shf_item copy = item[s][h];
                if (u != &t[s][h]) EXPECT(shf_queue_push(u->a, &copy), SHF_ERR_INVALID_ITEM);
            }
    for (unsigned s = 0; s < SETS; s++) {
        CLEAN(t[s][0].set, HANDLES);
        shf_queue_set_close(t[s][0].set); /* lets only its own go */
        CLEAN(t[s][1].set, HANDLES - 1);
        CHECK_EQ_INT(length(t[s][1].free), 6 - HANDLES + 1);
        for (unsigned h = 1; h < HANDLES; h++) {
            CHECK(stamped(t[s][h].set, &item[s][h], s * 10 + h));
            OK(shf_queue_push(t[s][h].a, &item[s][h]));
        }
        CLEAN(t[s][1].set, 0);
        for (unsigned h = 1; h < HANDLES; h++) shf_queue_set_close(t[s][h].set);
    }
}

/* One thread pulls, another pushes: an item belongs to the handle. */
static void *push_it(void *arg) {
    struct shf_item *item = arg;
    OK(shf_queue_push(own.t.b, item));
    return NULL;
}
TEST(another_thread_pushes) {
    own.t = trio_create("a", 3, 8);
    for (int i = 0; i < 20; i++) {
        struct shf_item item;
        pthread_t thread;
        NEED(shf_queue_pull(own.t.free, &item));
        REQUIRE(pthread_create(&thread, NULL, push_it, &item) == 0);
        pthread_join(thread, NULL);
        CHECK(item.data == NULL);
        NEED(shf_queue_pull(own.t.b, &item));
        OK(shf_queue_push(own.t.free, &item));
    }
    CLEAN(own.t.set, 0);
    shf_queue_set_close(own.t.set);
}

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    printf("# total: %llu holders killed, %llu items came home, after %llu ms at most; %llu children of fork with "
           "copies of handles; "
           "0 lost, 0 twice unless a test failed\n",
           (unsigned long long)total_killed, (unsigned long long)total_home, (unsigned long long)longest_ms,
           (unsigned long long)total_forks);
    return rc;
}
