/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_batch_table.c - batches beside each other, at full speed: nothing lost, nothing torn, nothing backwards
 *
 * Threads in this process and, unless SHF_THREADS_ONLY is set (ThreadSanitizer), processes. Each test takes SHF_SECONDS
 * (default 5, spread over its parts). known_keys_beside_growth goes on until SHF_OPS keys were read, too (default 0: the
 * time decides): 100,000,000 for a long run.
 */
#include "model.h"

#include <pthread.h>

struct shape {
    const char *name;
    uint32_t key, value; /* key 0: variable lengths */
};
static const struct shape shapes[] = {{"variable", 0, 0}, {"fixed 8+8", 8, 8}, {"fixed 4+4", 4, 4}, {"fixed 8+40", 8, 40}};
#define SHAPES (sizeof shapes / sizeof shapes[0])
#define EACH_SHAPE(s) for (const struct shape *s = shapes; s < shapes + SHAPES && *test_failures == 0; s++)

#define BATCH 200u
#define KNOWN 1000u
#define OWNERS 3u
#define OWNED 400u /* keys of an owner */

struct board { /* shared with the children */
    _Atomic uint64_t read, written, lost, torn, backwards;
    _Atomic int stop;
    _Atomic uint32_t uid[KNOWN];
    _Atomic uint64_t checked[KNOWN];
};
static struct board *board;
static uint64_t total_read, total_written; /* of all tests that ran */

struct worker {
    struct shf_table *t;
    const struct shape *s;
    uint32_t number;
    uint64_t rng;
    void (*fn)(struct worker *);
    pthread_t thread;
    /* private */
    unsigned char key[BATCH][32], val[BATCH][700];
    struct shf_bytes keys[BATCH];
    struct shf_pair pairs[BATCH];
    struct shf_value out[BATCH];
    size_t lens[BATCH];
    uint32_t uids[BATCH];
    uint64_t checked[BATCH], next, seen[OWNERS * OWNED];
    unsigned char packed[BATCH * 700];
};
static uint64_t draw(struct worker *w) { return test_next(&w->rng); }

static size_t key_for(const struct shape *s, uint64_t i, void *key) {
    uint32_t bits = (uint32_t)i * 2654435761u;
    memset(key, 3, 32);
    memcpy(key, &bits, 4);
    return s->key ? s->key : 4 + (size_t)(bits >> 9) % 20;
}
static size_t length_for(const struct shape *s, uint64_t stamp) {
    return s->key ? s->value : stamp % 64 == 0 ? 600 : 8 + (stamp % 3 == 0 ? stamp % 90 : 0);
}
/* Pair j of the worker's batch: key i with this stamp. */
static void set_pair(struct worker *w, size_t j, uint64_t i, uint64_t stamp) {
    size_t klen = key_for(w->s, i, w->key[j]), vlen = length_for(w->s, stamp);
    value_fill(w->val[j], vlen, w->key[j], klen, stamp);
    w->keys[j] = (struct shf_bytes){w->key[j], klen};
    w->pairs[j] = (struct shf_pair){w->keys[j], {w->val[j], vlen}};
}
static void good(int rc, const char *what) {
    if (rc < 0) FAIL("%s: %d, %s", what, rc, shf_last_error()->message);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    while (!board->stop && *test_failures == 0) w->fn(w);
    return NULL;
}
static struct worker *start(struct shf_table *t, const struct shape *s, uint32_t number, void (*fn)(struct worker *)) {
    struct worker *w = test_alloc(sizeof *w);
    memset(w, 0, sizeof *w);
    w->t = t, w->s = s, w->number = number, w->fn = fn, w->rng = test_seed + number * 7919 + (uint64_t)getpid();
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) FAIL("pthread_create"), test_stop();
    return w;
}
static void join(struct worker *w) {
    pthread_join(w->thread, NULL);
    free(w);
}
static struct shf_table *table_of(const struct shape *s) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.fixed_key = s->key, o.fixed_value = s->value;
    unlink(temp_path("a"));
    int rc = shf_table_open(temp_path("a"), SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) FAIL("%s: %d, %s", s->name, rc, shf_last_error()->message), test_stop();
    return t;
}
static void fresh_board(void) {
    if (!board) board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)board, 0, sizeof *board);
}

/* ---- keys that live throughout, while the table grows ------------------------------------------------- */

/* Reads a batch of known keys in one of five ways. */
static void read_known(struct worker *w) {
    size_t n = 1 + draw(w) % BATCH, done = 0;
    uint64_t way = draw(w) % 5, lost = 0, torn = 0;
    for (size_t j = 0; j < n; j++) {
        size_t i = draw(w) % KNOWN;
        w->keys[j] = (struct shf_bytes){w->key[j], key_for(w->s, i, w->key[j])};
        w->uids[j] = board->uid[i], w->checked[j] = board->checked[i];
        w->out[j] = (struct shf_value){w->val[j], sizeof w->val[j], 0, 0};
    }
    if (way < 2) {
        good(way ? shf_table_get_many(w->t, n, w->keys, w->out) : shf_table_get_many_by_uid(w->t, n, w->uids, w->out), "get");
        for (size_t j = 0; j < n; j++) {
            lost += w->out[j].code != SHF_OK;
            torn += w->out[j].code == SHF_OK && !value_check(w->val[j], w->out[j].len, w->key[j], w->keys[j].len, NULL);
        }
    } else {
        good(way == 2   ? shf_table_get_many_packed(w->t, n, w->keys, w->packed, sizeof w->packed, w->lens, &done)
             : way == 3 ? shf_table_get_many_by_uid_packed(w->t, n, w->uids, w->packed, sizeof w->packed, w->lens, &done)
                        : shf_table_get_many_by_checked_uid_packed(w->t, n, w->checked, w->packed, sizeof w->packed, w->lens, &done), "get");
        for (size_t j = 0, at = 0; j < done; j++) {
            lost += w->lens[j] == SHF_NO_VALUE;
            if (w->lens[j] == SHF_NO_VALUE) continue;
            torn += !value_check(w->packed + at, w->lens[j], w->key[j], w->keys[j].len, NULL);
            at += w->lens[j];
        }
        lost += n - done;
    }
    board->read += n;
    board->lost += lost;
    board->torn += torn;
}
#ifdef SHF_SMALL
#define GROWTH 3000u
#else
#define GROWTH 3000000u /* then anew */
#endif
/* Puts fresh keys, and new values of known ones among them. The last worker of a round. */
static void grow(struct worker *w) {
    size_t n = 1 + draw(w) % BATCH, done = 0;
    for (size_t j = 0; j < n; j++)
        set_pair(w, j, draw(w) % 4 ? KNOWN + w->next++ : draw(w) % KNOWN, draw(w));
    int rc = shf_table_put_many(w->t, n, w->pairs, &done);
    if (rc != SHF_ERR_FULL) good(rc, "put"); /* the small constants' table fills up */
    board->written += done;
    if (rc == SHF_ERR_FULL || w->next > GROWTH) board->stop = 1;
}
static void growing_child(void *arg) {
    struct shf_table *t = table_open("a", 0);
    join(start(t, arg, 100, grow));
    shf_table_close(t);
}
static void *stop_later(void *arg) {
    uint64_t end = *(uint64_t *)arg;
    while (!board->stop && test_now_ns() < end) usleep(1000);
    board->stop = 1;
    return NULL;
}
TEST(known_keys_beside_growth) {
    uint64_t wanted = test_env("SHF_OPS", 0), read = 0, written = 0, lost = 0, rounds = 0;
    uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u;
    for (; *test_failures == 0 && (rounds < 2 * SHAPES || read < wanted || test_now_ns() < end); rounds++) {
        const struct shape *s = &shapes[rounds % SHAPES];
        int processes = !test_threads_only() && rounds / SHAPES % 2;
        struct shf_table *t = table_of(s), *r = table_open("a", rounds % 3 ? SHF_RDONLY : 0);
        struct worker *w = test_alloc(sizeof *w);
        fresh_board();
        memset(w, 0, sizeof *w);
        w->s = s;
        for (size_t i = 0; i < KNOWN; i++) {
            uint32_t uid = 0;
            uint64_t checked = 0;
            set_pair(w, 0, i, i);
            good(shf_table_put(t, w->keys[0].data, w->keys[0].len, w->val[0], w->pairs[0].value.len, &uid), "put");
            good(shf_table_checked_uid(t, w->keys[0].data, w->keys[0].len, &checked), "uid");
            board->uid[i] = uid;
            board->checked[i] = checked;
        }
        uint64_t slice = test_now_ns() + 250000000u;
        pid_t pid = processes ? fork_child(growing_child, (void *)(uintptr_t)s) : 0;
        pthread_t clock;
        if (pthread_create(&clock, NULL, stop_later, &slice) != 0) FAIL("pthread_create"), test_stop();
        struct worker *readers[2] = {start(r, s, 1, read_known), start(t, s, 2, read_known)};
        struct worker *writer = processes ? NULL : start(t, s, 3, grow);
        for (int i = 0; i < 2; i++) join(readers[i]);
        if (writer) join(writer);
        else CHECK_EQ_INT(wait_child(pid, 20000), 0);
        pthread_join(clock, NULL);
        read += board->read, written += board->written, lost += board->lost;
        total_read += board->read, total_written += board->written;
        CHECK_EQ_INT(board->lost, 0);
        CHECK_EQ_INT(board->torn, 0);
        if (rounds < SHAPES || board->lost) table_clean(t);
        free(w);
        shf_table_close(r);
        shf_table_close(t);
    }
    printf("# %llu rounds: %llu thousand known keys read, %llu lost, beside %llu thousand puts\n", (unsigned long long)rounds,
           (unsigned long long)read / 1000, (unsigned long long)lost, (unsigned long long)written / 1000);
}

/* ---- owners put and remove their keys in batches, all read all ---------------------------------------- */

/* Stamps of a key only grow; the owner knows what is there. */
static void own(struct worker *w) {
    size_t n = 1 + draw(w) % BATCH, done = 0, removed = 0, expected = 0, first = draw(w) % OWNED;
    int removes = draw(w) % 3 == 0;
    if (n > OWNED) n = OWNED;
    for (size_t j = 0; j < n; j++) { /* no key twice */
        size_t i = (first + j) % OWNED;
        set_pair(w, j, w->number * OWNED + i, ++w->next & 0xfff); /* as many bits as the shortest value holds */
        expected += w->seen[i] != 0;
        if (removes) w->seen[i] = 0;
        else w->seen[i] = 1 + (w->next & 0xfff);
    }
    if (removes) {
        good(shf_table_del_many(w->t, n, w->keys, &removed, &done), "del");
        if (removed != expected) board->lost++;
    } else {
        good(shf_table_put_many(w->t, n, w->pairs, &done), "put");
    }
    if (done != n) board->lost++;
    board->written += n;
    /* What is mine is as I left it. */
    for (size_t j = 0; j < n; j++) w->out[j] = (struct shf_value){w->packed + j * 700, 700, 0, 0};
    good(shf_table_get_many(w->t, n, w->keys, w->out), "get");
    for (size_t j = 0; j < n; j++) {
        size_t i = (first + j) % OWNED;
        uint64_t stamp = 0;
        if ((w->out[j].code == SHF_OK) != (w->seen[i] != 0)) board->lost++;
        else if (w->seen[i] && !value_check(w->out[j].data, w->out[j].len, w->key[j], w->keys[j].len, &stamp)) board->torn++;
        else if (w->seen[i] && (w->out[j].len != length_for(w->s, w->seen[i] - 1) || (stamp & 0xfff) != w->seen[i] - 1)) board->backwards++;
    }
    board->read += n;
}
/* Anybody's keys: whole, or absent; by UID too: the key that has it now, or none. */
static void watch(struct worker *w) {
    size_t n = 1 + draw(w) % BATCH;
    for (size_t j = 0; j < n; j++) {
        size_t klen = key_for(w->s, draw(w) % (OWNERS * OWNED), w->key[j]);
        w->keys[j] = (struct shf_bytes){w->key[j], klen};
        w->out[j] = (struct shf_value){w->val[j], sizeof w->val[j], 0, 0};
        if (draw(w) % 16 == 0 && shf_table_checked_uid(w->t, w->key[j], klen, &w->checked[j]) == SHF_OK)
            memcpy(w->packed + j * 32, w->key[j], klen), w->seen[j] = klen;
        w->uids[j] = (uint32_t)(w->checked[j] >> 32);
    }
    good(shf_table_get_many(w->t, n, w->keys, w->out), "get");
    for (size_t j = 0; j < n; j++)
        if (w->out[j].code == SHF_OK && !value_check(w->val[j], w->out[j].len, w->key[j], w->keys[j].len, NULL)) board->torn++;
    /* A checked UID gives its own key's value or nothing, whoever has the place now. */
    unsigned char *values = test_alloc(BATCH * 700);
    size_t done = 0;
    good(shf_table_get_many_by_checked_uid_packed(w->t, n, w->checked, values, BATCH * 700, w->lens, &done), "get by uid");
    for (size_t j = 0, at = 0; j < done; j++) {
        if (w->lens[j] == SHF_NO_VALUE) continue;
        if (!value_check(values + at, w->lens[j], w->packed + j * 32, w->seen[j], NULL)) board->torn++;
        at += w->lens[j];
    }
    free(values);
    good(shf_table_get_many_by_uid(w->t, n, w->uids, w->out), "get by uid");
    board->read += 3 * n;
}
struct group {
    const struct shape *s;
    uint32_t first, n;
};
static void run_group(struct shf_table *t, const struct group *g) {
    struct worker *w[OWNERS + 2];
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n; i++) w[n++] = start(t, g->s, g->first + i, own);
    w[n++] = start(t, g->s, 50 + g->first, watch);
    for (uint32_t i = 0; i < n; i++) join(w[i]);
}
static void group_child(void *arg) {
    struct shf_table *t = table_open("a", 0);
    run_group(t, arg);
    shf_table_close(t);
}
TEST(owners_and_watchers) {
    uint64_t slice = test_env("SHF_SECONDS", 5) * 1000000000u / SHAPES / (test_threads_only() ? 1 : 2);
    EACH_SHAPE(s) {
        for (int processes = 0; processes < (test_threads_only() ? 1 : 2); processes++) {
            struct shf_table *t = table_of(s);
            struct group g[2] = {{s, 0, processes ? 1 : OWNERS}, {s, 1, OWNERS - 1}};
            uint64_t end = test_now_ns() + slice;
            pthread_t clock;
            fresh_board();
            pid_t pid[2] = {0};
            for (int i = 0; processes && i < 2; i++) pid[i] = fork_child(group_child, &g[i]);
            if (pthread_create(&clock, NULL, stop_later, &end) != 0) FAIL("pthread_create"), test_stop();
            if (!processes) run_group(t, &g[0]);
            for (int i = 0; processes && i < 2; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
            pthread_join(clock, NULL);
            total_read += board->read, total_written += board->written;
            printf("# %s, %s: %llu thousand read, %llu thousand changed\n", s->name, processes ? "processes" : "threads",
                   (unsigned long long)board->read / 1000, (unsigned long long)board->written / 1000);
            CHECK_EQ_INT(board->lost, 0);
            CHECK_EQ_INT(board->torn, 0);
            CHECK_EQ_INT(board->backwards, 0);
            table_clean(t);
            shf_table_close(t);
        }
    }
}

TEST(total) {
    printf("# total: %llu thousand keys read in batches beside %llu thousand put; 0 torn, 0 lost, 0 backwards unless a test failed\n",
           (unsigned long long)total_read / 1000, (unsigned long long)total_written / 1000);
}

int main(int argc, char **argv) { return run(argc, argv); }
