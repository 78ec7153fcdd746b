// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * stress_queue.c - queues: many threads and processes at once, some of them killed: no item with two, none lost, none twice
 *
 * Each test runs for a part of SHF_SECONDS (default 5), with threads in this process and, unless SHF_THREADS_ONLY is set
 * (ThreadSanitizer), with processes of two threads that share a handle.
 *
 * MARK       A worker writes its number into an item when it gets it, and 0 before it gives it away. Who gets an item with
 *            another's mark has found one that is held by two; but the mark of a killed one is legal (`doomed` is set first).
 * ORDER      With each push goes the producer's count of pushes to that queue: whoever pulls sees each producer's counts
 *            rise. (Not where items come home, or are drained: those join at the end with old counts.)
 */
#include "queue_fixture.h"

#include <pthread.h>

#define WORKERS 4
#define QUEUES 4
#define BATCHES 3
#define MOST_HELD 40
#define LIVES 65536 /* numbers of workers, killed ones included */
#define CHURN 1u    /* handles are closed with what they hold, queues drained: no order */
#define WAITS 2u    /* some wait */

struct thing { /* what lies in an item */
    shf_au32 mark;
    uint32_t producer, queue, pad;
    uint64_t count, body[5];
};
_Static_assert(sizeof(struct thing) == 64, "a line");

static struct board { /* shared with the children */
    _Atomic int stop;
    _Atomic uint64_t ops, moved;
    _Atomic unsigned char doomed[LIVES];
    _Atomic uint64_t acked[LIVES], intended[LIVES]; /* of a producer: pushes that have returned, that were begun */
} *board;
static uint64_t total_ops, total_moved, total_kills, total_lives;

struct worker {
    struct shf_queue_set *set;
    struct shf_queue *q[QUEUES];
    uint32_t id;
    unsigned flags;
    int own_handle;
    uint64_t rng, moved, ops;
    struct shf_item held[MOST_HELD];
    uint32_t held_count;
    struct shf_batch *batch[BATCHES];
    uint64_t pushed[QUEUES], (*seen)[QUEUES]; /* seen[producer][queue] */
    pthread_t thread;
};
static uint64_t draw(struct worker *w) { return test_next(&w->rng); }

static void fresh_board(void) {
    if (!board)
        board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (board == MAP_FAILED) perror("mmap"), exit(2);
    madvise(board, sizeof *board, MADV_REMOVE);
    memset((void *)board, 0, sizeof *board);
}
static const char *const queue_names[QUEUES] = {"free", "a", "b", "c"};
static void set_create(uint32_t items) {
    struct shf_queue_options o = queue_options(items, sizeof(struct thing));
    struct shf_queue_set *set = NULL;
    o.queue_count = QUEUES, o.queues = queue_names;
    NEED(shf_queue_set_open(temp_path("a"), SHF_CREATE | SHF_EXCL, &o, &set));
    shf_queue_set_close(set);
}
static void attach(struct worker *w, struct shf_queue_set *shared) {
    w->own_handle = shared == NULL;
    w->set = shared;
    if (shared == NULL) NEED(shf_queue_set_open(temp_path("a"), 0, NULL, &w->set));
    for (uint32_t i = 0; i < QUEUES; i++) NEED(shf_queue_find(w->set, queue_names[i], &w->q[i]));
    const uint32_t capacity[BATCHES] = {7, SHF_HAND_LEASE, SHF_HAND_LEASE + 5};
    for (uint32_t i = 0; i < BATCHES; i++) NEED(shf_batch_new(w->set, capacity[i], &w->batch[i]));
}

/* ---- what is done with an item ---- */

static void fill(struct thing *x, const struct worker *w, uint32_t queue, uint64_t count) {
    x->producer = w->id, x->queue = queue, x->count = count;
    for (unsigned i = 0; i < 5; i++) x->body[i] = (count * 5 + i) * 0x9e3779b97f4a7c15 + w->id * 7 + queue;
}
static int is_whole(const struct thing *x) {
    if (x->count == 0) return x->producer == 0; /* as created */
    for (unsigned i = 0; i < 5; i++)
        if (x->body[i] != (x->count * 5 + i) * 0x9e3779b97f4a7c15 + x->producer * 7 + x->queue) return 0;
    return 1;
}
static void got(struct worker *w, void *data, uint32_t queue) {
    struct thing *x = data;
    uint32_t mark = atomic_exchange_explicit(&x->mark, w->id, memory_order_relaxed);
    if (mark != 0) { /* what was written there may be half of it */
        if (mark >= LIVES || !atomic_load(&board->doomed[mark]))
            FAIL("worker %u got an item that worker %u holds", w->id, mark);
    } else if (!is_whole(x)) {
        FAIL("worker %u got an item of worker %u with other bytes than it pushed", w->id, x->producer);
    } else if (w->seen != NULL && x->count != 0) {
        if (x->queue != queue)
            FAIL("an item pushed to queue %u came out of queue %u", x->queue, queue);
        else if (x->count <= w->seen[x->producer][queue])
            FAIL("queue %u: push %llu of worker %u came after its push %llu", queue, (unsigned long long)x->count,
                 x->producer, (unsigned long long)w->seen[x->producer][queue]);
        else
            w->seen[x->producer][queue] = x->count;
    }
    w->moved++;
}
static void give(struct worker *w, void *data, uint32_t queue) {
    struct thing *x = data;
    fill(x, w, queue, ++w->pushed[queue]);
    uint32_t mark = atomic_exchange_explicit(&x->mark, 0, memory_order_relaxed);
    if (mark != w->id) FAIL("worker %u holds an item with the mark of %u", w->id, mark);
}
static void got_all(struct worker *w, struct shf_batch *b, uint32_t queue) {
    for (uint32_t i = 0; i < shf_batch_count(b); i++) got(w, shf_batch_data(b, i), queue);
}
static void give_all(struct worker *w, struct shf_batch *b, uint32_t queue) {
    for (uint32_t i = 0; i < shf_batch_count(b); i++) give(w, shf_batch_data(b, i), queue);
}
/* An outcome that may be: nothing there. */
static int some(int rc, const char *what) {
    if (rc < 0) FAIL("%s: %d, %s", what, rc, shf_last_error()->message);
    return rc == SHF_OK;
}
#define SOME(call) some(call, #call)

/* Gives back all it holds; or lets a close do so. */
static void give_back(struct worker *w) {
    while (w->held_count > 0) {
        struct shf_item *item = &w->held[--w->held_count];
        give(w, item->data, 0);
        OK(shf_queue_push(w->q[0], item));
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        give_all(w, w->batch[i], 0);
        OK(shf_queue_push_many(w->q[0], w->batch[i]));
    }
}
/* What goes home by a close or batch_free keeps its bytes: only the mark must go. */
static void unmark(struct worker *w, struct shf_batch *b) {
    for (uint32_t i = 0; i < shf_batch_count(b); i++) {
        struct thing *x = shf_batch_data(b, i);
        if (atomic_exchange_explicit(&x->mark, 0, memory_order_relaxed) != w->id) FAIL("another's mark in a batch");
    }
}
static void close_and_open(struct worker *w) {
    for (uint32_t i = 0; i < w->held_count; i++)
        atomic_store_explicit(&((struct thing *)w->held[i].data)->mark, 0, memory_order_relaxed);
    w->held_count = 0;
    for (uint32_t i = 0; i < BATCHES; i++) unmark(w, w->batch[i]);
    shf_queue_set_close(w->set);
    attach(w, NULL);
}

static void one_op(struct worker *w) {
    uint64_t r = draw(w);
    uint32_t q = (uint32_t)(r >> 8) % QUEUES, to = (uint32_t)(r >> 16) % QUEUES, k = (uint32_t)(r >> 24) % BATCHES;
    uint32_t pick = w->held_count ? (uint32_t)(r >> 32) % w->held_count : 0, want = (uint32_t)(r >> 40) % 64;
    struct shf_batch *b = w->batch[k];
    struct shf_item *item = &w->held[pick];
    struct shf_item *room = &w->held[w->held_count];
    uint64_t wait = w->flags & WAITS ? (r >> 48) * 4 : 0; /* up to 260 us */
    uint32_t which;
    w->ops++;
    switch (draw(w) % 32) {
    case 0 ... 6:
        if (w->held_count < MOST_HELD &&
            SOME(wait > 100000 ? shf_queue_pull_wait(w->q[q], wait, room) : shf_queue_pull(w->q[q], room)))
            got(w, room->data, q), w->held_count++;
        break;
    case 7 ... 13:
        if (w->held_count == 0) break;
        give(w, item->data, to);
        OK(shf_queue_push(w->q[to], item));
        *item = w->held[--w->held_count];
        break;
    case 14:
        if (w->held_count == 0) break;
        give(w, item->data, item->home);
        OK(shf_item_return(w->set, item));
        *item = w->held[--w->held_count];
        break;
    case 15 ... 18:
        if (w->held_count == 0) break;
        give(w, item->data, to);
        if (SOME(shf_queue_exchange(w->q[to], item, w->q[q])))
            got(w, item->data, q);
        else
            *item = w->held[--w->held_count];
        break;
    case 19 ... 21:
        if (shf_batch_count(b) != 0) break;
        if (SOME(wait > 100000 ? shf_queue_pull_many_wait(w->q[q], b, want, wait)
                               : shf_queue_pull_many(w->q[q], b, want)))
            got_all(w, b, q);
        break;
    case 22 ... 24:
        give_all(w, b, to);
        OK(shf_queue_push_many(w->q[to], b));
        break;
    case 25 ... 26:
        give_all(w, b, to);
        if (SOME(shf_queue_exchange_many(w->q[to], b, w->q[q], want))) got_all(w, b, q);
        break;
    case 27 ... 28:
        while (w->held_count < MOST_HELD && SOME(shf_batch_take(b, &w->held[w->held_count]))) w->held_count++;
        break;
    case 29: {
        uint64_t n = 0;
        OK(shf_queue_len(w->q[q], &n));
        if (n > shf_queue_set_items(w->set)) FAIL("a length of %llu", (unsigned long long)n);
        (void)SOME(shf_queue_wait_any(w->q, QUEUES, wait, &which));
        break;
    }
    case 30:
        if (draw(w) % 64 != 0) break;
        if (w->seen == NULL)
            unmark(w, b);
        else { /* as if pushed home by itself */
            give_all(w, b, to);
            OK(shf_queue_push_many(w->q[to], b));
        }
        shf_batch_free(b);
        NEED(shf_batch_new(w->set, k == 0 ? 7 : SHF_HAND_LEASE + (k - 1) * 5, &w->batch[k]));
        break;
    default:
        if (draw(w) % 256 == 0) {
            struct shf_queue_report report = {.size = sizeof report};
            OK(shf_queue_set_check(w->set, &report));
        }
        if (!(w->flags & CHURN) || draw(w) % 64 != 0) break;
        if (r >> 62 == 0)
            (void)SOME(shf_queue_drain(w->q[q], w->q[to], NULL));
        else if (r >> 62 == 1)
            OK(shf_queue_set_recover(w->set));
        else if (r >> 62 == 2 && (r >> 56 & 63) == 0)
            OK(shf_queue_set_reset(w->set));
        else if (w->own_handle)
            close_and_open(w);
    }
}
static void *worker_main(void *arg) {
    struct worker *w = arg;
    while (!board->stop && *test_failures == 0) one_op(w);
    if (!(w->flags & CHURN) || !w->own_handle)
        give_back(w);
    else { /* the close gives back */
        for (uint32_t i = 0; i < w->held_count; i++)
            atomic_store_explicit(&((struct thing *)w->held[i].data)->mark, 0, memory_order_relaxed);
        for (uint32_t i = 0; i < BATCHES; i++) unmark(w, w->batch[i]);
    }
    if (!w->own_handle)
        for (uint32_t i = 0; i < BATCHES; i++) shf_batch_free(w->batch[i]);
    atomic_fetch_add(&board->ops, w->ops);
    atomic_fetch_add(&board->moved, w->moved);
    return NULL;
}

/* n workers as threads, half of them with a handle that they share, until the board says stop (after `ms`, if not 0). */
static void run_threads(uint32_t first, uint32_t n, unsigned flags, uint64_t ms) {
    static struct worker w[WORKERS];
    struct shf_queue_set *shared = NULL;
    NEED(shf_queue_set_open(temp_path("a"), 0, NULL, &shared));
    for (uint32_t i = 0; i < n; i++) {
        memset(&w[i], 0, sizeof w[i]);
        w[i].id = first + i, w[i].flags = flags, w[i].rng = test_seed + (first + i) * 7919;
        if (!(flags & CHURN)) w[i].seen = calloc(WORKERS + 1, sizeof *w[i].seen);
        /* ThreadSanitizer does not see what is ordered through another mapping of the file. */
        attach(&w[i], i % 2 == 0 || n == 2 || test_threads_only() ? shared : NULL);
        if (pthread_create(&w[i].thread, NULL, worker_main, &w[i]) != 0) FAIL("pthread_create"), test_stop();
    }
    if (ms) usleep((useconds_t)(ms * 1000)), board->stop = 1;
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        free(w[i].seen);
        if (w[i].own_handle) shf_queue_set_close(w[i].set);
    }
    shf_queue_set_close(shared);
}
struct group {
    uint32_t first;
    unsigned flags;
};
static void group_child(void *arg) {
    const struct group *g = arg;
    run_threads(g->first, 2, g->flags, 0);
}

/* Every item is there once. */
static void all_are_there(uint32_t n) {
    struct shf_queue_set *set = NULL;
    struct shf_queue *q = NULL;
    struct shf_item item;
    char *seen = calloc(n, 1);
    uint32_t found = 0;
    NEED(shf_queue_set_open(temp_path("a"), 0, NULL, &set));
    OK(shf_queue_set_recover(set));
    CLEAN(set, 0);
    for (uint32_t i = 0; i < QUEUES; i++) {
        NEED(shf_queue_at(set, i, &q));
        while (shf_queue_pull(q, &item) == SHF_OK) {
            if (item.number >= n || seen[item.number]++) FAIL("item %u came twice", item.number);
            found++;
        }
    }
    CHECK_EQ_INT(found, n);
    free(seen);
    shf_queue_set_close(set);
    total_ops += atomic_load(&board->ops), total_moved += atomic_load(&board->moved);
}

static uint64_t part_ms(uint64_t share) {
    uint64_t ms = test_env("SHF_SECONDS", 5) * 1000 / share;
    return ms < 100 ? 100 : ms;
}
static void crowd(uint32_t items, unsigned flags) {
    for (int processes = 0; processes <= !test_threads_only(); processes++) {
        fresh_board();
        set_create(items);
        if (!processes) {
            run_threads(1, WORKERS, flags, part_ms(12));
        } else {
            struct group g[2] = {{1, flags}, {3, flags}};
            pid_t one = fork_child(group_child, &g[0]), two = fork_child(group_child, &g[1]);
            usleep((useconds_t)(part_ms(12) * 1000));
            board->stop = 1;
            CHECK_EQ_INT(wait_child(one, HANG_MS), 0);
            CHECK_EQ_INT(wait_child(two, HANG_MS), 0);
        }
        all_are_there(items);
        OK(shf_unlink(temp_path("a")));
    }
}
TEST(many_items_in_order) { crowd(6000, WAITS); }
TEST(few_items_in_order) { crowd(SHF_HAND_LEASE + 5, WAITS); }
TEST(without_order) { crowd(6000, CHURN | WAITS); }

/* ---- some are killed ---- */

TEST(some_are_killed) {
    if (test_threads_only()) return;
    enum { GROUPS = 3, ITEMS = 6000 };
    struct group g[GROUPS];
    pid_t pids[GROUPS];
    uint32_t next = 1;
    fresh_board();
    set_create(ITEMS);
    for (unsigned i = 0; i < GROUPS; i++, next += 2) {
        g[i] = (struct group){next, CHURN | WAITS};
        pids[i] = fork_child(group_child, &g[i]);
    }
    uint64_t end = test_now_ns() + part_ms(3) * MS;
    while (test_now_ns() < end && next + 2 < LIVES && *test_failures == 0) {
        unsigned i = (unsigned)(test_rng() % GROUPS);
        usleep((useconds_t)(500 + test_rng() % 9000));
        board->doomed[g[i].first] = board->doomed[g[i].first + 1] = 1;
        kill(pids[i], SIGKILL);
        int rc = wait_child(pids[i], HANG_MS);
        if (rc != CHILD_KILLED(SIGKILL)) FAIL("a worker ended by itself: %d", rc);
        g[i].first = next, next += 2, total_kills++;
        pids[i] = fork_child(group_child, &g[i]);
    }
    board->stop = 1;
    for (unsigned i = 0; i < GROUPS; i++) CHECK_EQ_INT(wait_child(pids[i], HANG_MS), 0);
    total_lives += next;
    all_are_there(ITEMS);
}

/* Producers that die, one by one and in batches; a consumer that does not. What was acknowledged comes, once and in order,
 * and of a batch all or nothing. */
static void producer(void *arg) {
    uint32_t life = *(const uint32_t *)arg;
    struct worker w = {.id = life, .rng = test_seed + life};
    uint64_t count = 0;
    attach(&w, NULL);
    while (!board->stop) {
        uint64_t r = draw(&w);
        struct shf_item item;
        struct shf_batch *b = w.batch[r % BATCHES];
        uint32_t n = 1;
        if (r >> 8 & 1) {
            if (!SOME(shf_queue_pull_wait(w.q[0], MS, &item))) continue;
            board->intended[life] = count + 1;
            fill(item.data, &w, 1, count + 1);
            OK(shf_queue_push(w.q[1], &item));
        } else {
            if (!SOME(shf_queue_pull_many_wait(w.q[0], b, 1 + (uint32_t)(r >> 16) % 40, MS))) continue;
            n = shf_batch_count(b);
            board->intended[life] = count + n;
            for (uint32_t i = 0; i < n; i++) fill(shf_batch_data(b, i), &w, 1, count + 1 + i);
            OK(shf_queue_push_many(w.q[1], b));
        }
        count += n;
        board->acked[life] = count;
    }
    shf_queue_set_close(w.set);
}
static uint64_t *consumed; /* of each life: the count of the last item that came */
static void consume(const void *data) {
    const struct thing *x = data;
    if (x->producer == 0 || x->producer >= LIVES || !is_whole(x))
        FAIL("an item that nobody has pushed");
    else if (x->count != consumed[x->producer] + 1)
        FAIL("producer %u: item %llu came after %llu", x->producer, (unsigned long long)x->count,
             (unsigned long long)consumed[x->producer]);
    else
        consumed[x->producer]++;
    atomic_fetch_add_explicit(&board->moved, 1, memory_order_relaxed);
}
TEST(what_was_pushed_comes_once_though_producers_die) {
    if (test_threads_only()) return;
    enum { PRODUCERS = 3, ITEMS = 3000 };
    uint32_t life[PRODUCERS], next = 1;
    pid_t pids[PRODUCERS];
    struct worker w = {.id = LIVES - 1, .rng = test_seed};
    fresh_board();
    set_create(ITEMS);
    consumed = calloc(LIVES, sizeof *consumed);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        life[i] = next++;
        pids[i] = fork_child(producer, &life[i]);
    }
    attach(&w, NULL);
    uint64_t end = test_now_ns() + part_ms(3) * MS, kill_at = 0;
    for (int stopping = 0; *test_failures == 0;) {
        struct shf_batch *b = w.batch[1];
        struct shf_item item;
        uint64_t now = test_now_ns();
        int rc;
        if (draw(&w) % 2) {
            rc = shf_queue_pull_wait(w.q[1], MS, &item);
            if (SOME(rc)) {
                consume(item.data);
                OK(shf_queue_push(w.q[0], &item));
            }
        } else {
            rc = shf_queue_pull_many_wait(w.q[1], b, 0, MS);
            for (uint32_t i = 0; i < shf_batch_count(b); i++) consume(shf_batch_data(b, i));
            OK(shf_queue_push_many(w.q[0], b));
        }
        if (stopping && rc == SHF_NOT_FOUND) break;
        if (!stopping && now > kill_at && next < LIVES - 1) {
            unsigned i = (unsigned)(test_rng() % PRODUCERS);
            kill(pids[i], SIGKILL);
            CHECK_EQ_INT(wait_child(pids[i], HANG_MS), CHILD_KILLED(SIGKILL));
            total_kills++;
            life[i] = next++;
            pids[i] = fork_child(producer, &life[i]);
            kill_at = now + (200 + test_rng() % 6000) * 1000;
        }
        if (!stopping && now > end) {
            stopping = 1, board->stop = 1;
            for (unsigned i = 0; i < PRODUCERS; i++) CHECK_EQ_INT(wait_child(pids[i], HANG_MS), 0);
        }
    }
    for (unsigned i = 0; !board->stop && i < PRODUCERS; i++) { /* a check has failed */
        kill(pids[i], SIGKILL);
        (void)wait_child(pids[i], HANG_MS);
    }
    for (uint32_t i = 1; i < next; i++)
        if (consumed[i] != board->acked[i] && consumed[i] != board->intended[i])
            FAIL("producer %u: %llu items came; %llu were acknowledged, %llu begun", i, (unsigned long long)consumed[i],
                 (unsigned long long)board->acked[i], (unsigned long long)board->intended[i]);
    free(consumed);
    shf_queue_set_close(w.set);
    total_lives += next;
    all_are_there(ITEMS);
}

/* ---- a descriptor among threads ---- */

static struct worker pusher;
static void *push_to_the_poller(void *arg) {
    struct shf_item item;
    (void)arg;
    while (!board->stop) {
        if (!SOME(shf_queue_pull_wait(pusher.q[0], MS, &item))) continue;
        OK(shf_queue_push(pusher.q[1], &item));
        if (draw(&pusher) % 8 == 0) usleep((useconds_t)(draw(&pusher) % 100));
    }
    return NULL;
}
TEST(a_poller_among_threads) {
    fresh_board();
    set_create(SHF_HAND_LEASE + 5);
    memset(&pusher, 0, sizeof pusher);
    pusher.rng = test_seed;
    attach(&pusher, NULL);
    int fd = -1;
    uint64_t events = 0, end = test_now_ns() + part_ms(12) * MS;
    NEED(shf_queue_wait_fd(pusher.q[1], &fd));
    REQUIRE(pthread_create(&pusher.thread, NULL, push_to_the_poller, NULL) == 0);
    while (test_now_ns() < end && *test_failures == 0) {
        struct pollfd p = {fd, POLLIN, 0};
        struct shf_item item;
        if (poll(&p, 1, HANG_MS) != 1) FAIL("no event");
        events++;
        while (SOME(shf_queue_pull(pusher.q[1], &item))) {
            OK(shf_queue_push(pusher.q[0], &item));
            board->moved++;
            if (test_now_ns() > end) break;
        }
    }
    board->stop = 1;
    pthread_join(pusher.thread, NULL);
    shf_queue_set_close(pusher.set);
    CHECK(events > 0);
    all_are_there(SHF_HAND_LEASE + 5);
}

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    printf("# total: %llu thousand operations of threads and processes at once, %llu thousand items moved, %llu "
           "processes killed; "
           "0 items with two holders, 0 lost, 0 twice, 0 out of a producer's order unless a test failed\n",
           (unsigned long long)total_ops / 1000, (unsigned long long)total_moved / 1000,
           (unsigned long long)total_kills);
    return rc;
}
