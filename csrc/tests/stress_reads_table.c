/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_reads_table.c - reads beside writers at full rate, each one checked: none torn, none lost, none out of date
 *
 * PART        A table of one shape. The known keys are there throughout, each with one writer, which gives it values with
 *             rising stamps: in place, of other lengths, by key, by UID, in batches, by update. Between that the writers put
 *             and remove churn keys, so that slots and cells go from key to key, segments split, directories double, and
 *             the cleaner moves what lives. A new table every second: splits are at the beginning.
 * READ        By key, by UID, by checked UID, in batches, contains. Each byte of a value follows from its key, its length and
 *             its stamp. A known key must be found; its stamp must be at least the one acknowledged when the read began.
 * HOW MANY    SHF_SECONDS (default 5, spread over the tests), and on until SHF_READS reads were checked (default 0). With
 *             SHF_READS the very large value has 256 MiB, else 16; less on a small /dev/shm.
 * Processes or, if SHF_THREADS_ONLY is set (ThreadSanitizer), threads.
 */
#include "model.h"
#include "table.h"

#include <pthread.h>
#include <sched.h>
#include <sys/statvfs.h>

static const struct shape {
    const char *name;
    uint32_t key, value; /* key 0: variable lengths */
} shapes[] = {{"variable", 0, 0}, {"fixed 4+4", 4, 4}, {"fixed 8+8", 8, 8}, {"fixed 16+40", 16, 40}};
#define SHAPES (sizeof shapes / sizeof shapes[0])
static const struct shape *shape; /* of the part in work */

#ifdef SHF_SMALL
#define KNOWN 600u
#define CHURN 4000u
#else
#define KNOWN 4000u
#define CHURN 120000u
#endif
#define COLLIDING 20u /* the first of the known keys: of one shard and bucket, so that most lie in their second one */
#define BATCH 32u
#define READERS 2
#define WRITERS 2
#define VALUE_MOST 9000u

struct board { /* shared with the children */
    _Atomic uint64_t reads, written, torn, lost, stale;
    _Atomic int stop, ready;
    _Atomic uint32_t acked[KNOWN]; /* the stamp that each known key has, or a later one */
};
static struct board *board;
static struct name {
    unsigned char bytes[24];
    size_t len;
} names[KNOWN + CHURN];
static uint32_t uids[KNOWN];
static uint64_t checked[KNOWN];
static uint64_t total_reads, total_written, total_torn, total_lost, total_stale, rounds;

/* ---- keys and values ---------------------------------------------------------------------------------- */

static void name_of(uint32_t number, struct name *name) {
    uint32_t bits = number * 2654435761u; /* odd: other numbers, other keys */
    memset(name, 0, sizeof *name);
    for (size_t i = 4; i < 24; i++) name->bytes[i] = (unsigned char)(bits >> i % 4 * 8);
    memcpy(name->bytes, &bits, 4);
    name->len = shape->key ? shape->key : 4 + bits % 20;
}
static void choose_names(struct shf_table *t) {
    uint32_t n = 0, number = 0;
    uint64_t like = 0;
    for (; n < COLLIDING; number++) {
        name_of(number, &names[n]);
        uint64_t h = shf__hash(&t->hash, names[n].bytes, names[n].len);
        if (n == 0) like = h;
        n += shf_hash_shard(h) == shf_hash_shard(like) && shf_hash_b1(h) == shf_hash_b1(like);
    }
    for (; n < KNOWN + CHURN; n++) name_of(number++, &names[n]);
}
static size_t length_for(uint32_t i, uint32_t stamp) {
    if (shape->key) return shape->value;
    if (stamp % 8 < 5) return i % 2 ? 4 : 8; /* mostly in place */
    return stamp % 8 == 5 ? 9 + (stamp >> 3) % 60 : stamp % 8 == 6 ? 100 + (stamp >> 3) % 30 : stamp % 512 == 7 ? VALUE_MOST : 300;
}
static uint64_t seed_of(uint32_t i, uint32_t stamp) {
    uint64_t z = ((uint64_t)i << 32 | stamp) * UINT64_C(0x9e3779b97f4a7c15);
    return (z ^ z >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}
static uint64_t word_of(uint64_t seed, size_t j) { return (seed + j) * UINT64_C(0x94d049bb133111eb); }
/* 4 bytes: stamp 12 | sum 20. Else stamp 32 | sum 32, then words, the last of them cut off. */
static size_t fill(unsigned char *val, uint32_t i, uint32_t stamp) {
    size_t n = length_for(i, stamp);
    if (n == 4) stamp &= 0xfff;
    uint64_t seed = seed_of(i, stamp), first = n == 4 ? stamp | seed >> 44 << 12 : stamp | seed >> 32 << 32;
    memcpy(val, &first, n < 8 ? n : 8);
    for (size_t at = 8; at < n; at += 8) {
        uint64_t w = word_of(seed, at);
        memcpy(val + at, &w, n - at < 8 ? n - at : 8);
    }
    return n;
}
/* 1 if these are all bytes of one of the key's values; *stamp (of 4 bytes: its low 12 bits). */
static int whole(const unsigned char *val, size_t n, uint32_t i, uint32_t *stamp) {
    uint64_t first = 0;
    if (n < 4) return 0;
    memcpy(&first, val, n < 8 ? n : 8);
    *stamp = n == 4 ? (uint32_t)first & 0xfff : (uint32_t)first;
    if (n != length_for(i, *stamp)) return 0;
    uint64_t seed = seed_of(i, *stamp);
    if (n == 4) return (uint32_t)first >> 12 == seed >> 44;
    if (first >> 32 != seed >> 32) return 0;
    size_t at = 8;
    for (; at + 8 <= n; at += 8)
        if (shf_load64(val + at) != word_of(seed, at)) return 0;
    return at >= n || ((word_of(seed, at) ^ shf_load_tail(val + at, n - at)) & ((UINT64_C(1) << 8 * (n - at)) - 1)) == 0;
}

/* ---- workers ------------------------------------------------------------------------------------------ */

struct worker {
    struct shf_table *t;
    int number; /* the writers first */
    uint64_t rng, reads, written, torn, lost, stale;
    unsigned char val[BATCH][VALUE_MOST];
    pthread_t thread;
};
static uint64_t draw(struct worker *w) { return test_next(&w->rng); }
static void good(int rc, const char *what) {
    if (rc < 0) FAIL("%s: %d, %s", what, rc, shf_last_error()->message);
}

static int set_value(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)old;
    *desired = *(struct shf_bytes *)context;
    return 0;
}
static void replace_known(struct worker *w) {
    uint32_t i = (uint32_t)(draw(w) % (KNOWN / WRITERS)) * WRITERS + (uint32_t)w->number;
    uint32_t stamp = atomic_load_explicit(&board->acked[i], memory_order_relaxed) + 1;
    const struct name *k = &names[i];
    struct shf_bytes v = {w->val[0], fill(w->val[0], i, stamp)};
    uint64_t way = draw(w) % 8;
    if (way == 0) good(shf_table_put_by_uid(w->t, uids[i], v.data, v.len), "put by uid");
    else if (way == 1) good(shf_table_update(w->t, k->bytes, k->len, set_value, &v, NULL), "update");
    else good(shf_table_put(w->t, k->bytes, k->len, v.data, v.len, NULL), "put");
    atomic_store_explicit(&board->acked[i], stamp, memory_order_release);
    w->written++;
}
static void replace_many(struct worker *w) {
    struct shf_pair pairs[BATCH];
    uint32_t which[BATCH], stamp[BATCH];
    size_t done = 0, step = 1 + draw(w) % (KNOWN / WRITERS / BATCH - 1), at = draw(w);
    for (size_t j = 0; j < BATCH; j++) {
        uint32_t i = which[j] = (uint32_t)((at + j * step) % (KNOWN / WRITERS)) * WRITERS + (uint32_t)w->number;
        stamp[j] = atomic_load_explicit(&board->acked[i], memory_order_relaxed) + 1;
        pairs[j] = (struct shf_pair){{names[i].bytes, names[i].len}, {w->val[j], fill(w->val[j], i, stamp[j])}};
    }
    good(shf_table_put_many(w->t, BATCH, pairs, &done), "put_many");
    for (size_t j = 0; j < done; j++) atomic_store_explicit(&board->acked[which[j]], stamp[j], memory_order_release);
    w->written += done;
}
static void churn(struct worker *w) {
    uint32_t i = KNOWN + (uint32_t)(draw(w) % CHURN);
    const struct name *k = &names[i];
    int rc;
    if (draw(w) % 4 == 0) rc = shf_table_del(w->t, k->bytes, k->len);
    else rc = shf_table_put(w->t, k->bytes, k->len, w->val[0], fill(w->val[0], i, (uint32_t)draw(w) | 1), NULL);
    if (rc != SHF_ERR_FULL) good(rc, "churn"); /* the small constants' index has little room */
    w->written++;
}
static void write_some(struct worker *w) {
    for (int n = 0; n < 64; n++) {
        uint64_t r = draw(w) % 64;
        if (r == 0) replace_many(w);
        else if (r < 32) replace_known(w);
        else churn(w);
    }
}

/* What a read of known key i gave, which began when `acked` was its stamp. */
static void judge(struct worker *w, uint32_t i, int rc, const unsigned char *val, size_t n, uint32_t acked) {
    uint32_t stamp = 0;
    w->reads++;
    if (SHF_UNLIKELY(rc != SHF_OK)) good(rc, "read"), w->lost++;
    else if (SHF_UNLIKELY(!whole(val, n, i, &stamp))) w->torn++;
    else if (SHF_UNLIKELY(n != 4 && stamp < acked)) w->stale++;
}
static uint32_t acked_now(uint32_t i) { return atomic_load_explicit(&board->acked[i], memory_order_acquire); }
static void read_batch(struct worker *w, int by) {
    struct shf_bytes keys[BATCH];
    struct shf_value out[BATCH];
    uint32_t which[BATCH], acked[BATCH], u[BATCH];
    uint64_t c[BATCH];
    size_t lens[BATCH], done = 0;
    for (size_t j = 0; j < BATCH; j++) {
        uint32_t i = which[j] = (uint32_t)(draw(w) % KNOWN);
        keys[j] = (struct shf_bytes){names[i].bytes, names[i].len};
        u[j] = uids[i], c[j] = checked[i], acked[j] = acked_now(i);
        out[j] = (struct shf_value){w->val[j], VALUE_MOST, 0, 0};
    }
    if (by < 2) {
        good(by == 0 ? shf_table_get_many(w->t, BATCH, keys, out) : shf_table_get_many_by_uid(w->t, BATCH, u, out), "get_many");
        for (size_t j = 0; j < BATCH; j++) judge(w, which[j], out[j].code, w->val[j], out[j].len, acked[j]);
        return;
    }
    good(by == 2 ? shf_table_get_many_packed(w->t, BATCH, keys, w->val, sizeof w->val, lens, &done)
                 : shf_table_get_many_by_checked_uid_packed(w->t, BATCH, c, w->val, sizeof w->val, lens, &done), "packed");
    const unsigned char *at = w->val[0];
    for (size_t j = 0; j < done; j++) {
        judge(w, which[j], lens[j] == SHF_NO_VALUE ? SHF_NOT_FOUND : SHF_OK, at, lens[j], acked[j]);
        if (lens[j] != SHF_NO_VALUE) at += lens[j];
    }
}
static void read_one(struct worker *w, uint64_t r) {
    uint32_t i = (uint32_t)(r >> 8) % (r % 8 == 4 ? COLLIDING : KNOWN), acked = acked_now(i), stamp;
    const struct name *k = &names[i];
    unsigned char *val = w->val[0];
    size_t n = 0;
    int rc;
    switch (r % 8) {
    case 0: rc = shf_table_get_by_uid(w->t, uids[i], val, VALUE_MOST, &n); break;
    case 1: rc = shf_table_get_by_checked_uid(w->t, checked[i], val, VALUE_MOST, &n); break;
    case 2:
        w->reads++, w->lost += shf_table_contains(w->t, k->bytes, k->len) != SHF_OK;
        return;
    case 3: /* a churn key: nothing, or a value of its own */
        i = KNOWN + (uint32_t)(r >> 8) % CHURN, k = &names[i];
        rc = shf_table_get(w->t, k->bytes, k->len, val, VALUE_MOST, &n);
        good(rc, "get"), w->reads++;
        w->torn += rc == SHF_OK && !whole(val, n, i, &stamp);
        return;
    default: rc = shf_table_get(w->t, k->bytes, k->len, val, VALUE_MOST, &n);
    }
    judge(w, i, rc, val, n, acked);
}
static void read_some(struct worker *w) {
    for (int n = 0; n < 512; n++) {
        uint64_t r = draw(w);
        if (r >> 60 == 0) read_batch(w, (int)(r % 4));
        else read_one(w, r);
    }
}
static void work(struct worker *w) {
    int writes = w->number < WRITERS;
    atomic_fetch_add(&board->ready, 1);
    while (!board->stop) {
        writes ? write_some(w) : read_some(w);
        board->reads += w->reads;
        board->written += w->written;
        board->torn += w->torn;
        board->lost += w->lost;
        board->stale += w->stale;
        w->reads = w->written = w->torn = w->lost = w->stale = 0;
    }
}
static struct worker *make_worker(int number) {
    struct worker *w = test_alloc(sizeof *w);
    w->number = number, w->reads = w->written = w->torn = w->lost = w->stale = 0;
    w->rng = test_seed + (uint64_t)number * 7919 + rounds * 104729;
    w->t = table_open("a", number % 2 && number >= WRITERS ? SHF_RDONLY : 0);
    return w;
}
static void *worker_main(void *arg) {
    work(arg);
    return NULL;
}
static void worker_child(void *arg) {
    struct worker *w = make_worker(*(int *)arg);
    work(w);
    shf_table_close(w->t);
    free(w);
}

/* ---- a round: one table ------------------------------------------------------------------------------- */

static struct shf_table *fill_table(void) {
    static unsigned char val[VALUE_MOST];
    unlink(temp_path("a"));
    struct shf_table *t = shape->key ? table_create_fixed("a", shape->key, shape->value, 0) : table_create("a");
    choose_names(t);
    if (!board) board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)board, 0, sizeof *board);
    for (uint32_t i = 0; i < KNOWN; i++) {
        const struct name *k = &names[i];
        REQUIRE_EQ_INT(shf_table_put(t, k->bytes, k->len, val, fill(val, i, 1), &uids[i]), SHF_OK);
        REQUIRE_EQ_INT(shf_table_checked_uid(t, k->bytes, k->len, &checked[i]), SHF_OK);
        board->acked[i] = 1;
    }
    return t;
}
/* For `ms`, and on until so many reads were checked. `stops`: readers are stopped and go on, as by a terminal. */
static uint64_t one_round(uint64_t ms, uint64_t reads, uint64_t *stops) {
    static unsigned char val[VALUE_MOST], is[VALUE_MOST];
    struct shf_table *t = fill_table();
    int number[WRITERS + READERS], threads = test_threads_only();
    pid_t pid[WRITERS + READERS] = {0};
    struct worker *w[WRITERS + READERS] = {NULL};
    for (int i = 0; i < WRITERS + READERS; i++) {
        number[i] = i;
        if (!threads) {
            pid[i] = fork_child(worker_child, &number[i]);
            continue;
        }
        w[i] = make_worker(i);
        if (pthread_create(&w[i]->thread, NULL, worker_main, w[i]) != 0) FAIL("pthread_create"), test_stop();
    }
    while (board->ready < WRITERS + READERS) usleep(100);
    uint64_t now = test_now_ns(), end = now + ms * 1000000u, most = now + 1000000000u;
    while ((now = test_now_ns()) < end || (board->reads < reads && now < most)) {
        if (stops == NULL || threads) {
            usleep(2000);
            continue;
        }
        pid_t reader = pid[WRITERS + test_rng() % READERS];
        kill(reader, SIGSTOP), ++*stops;
        usleep((useconds_t)(test_rng() % 3000));
        kill(reader, SIGCONT);
        usleep((useconds_t)(test_rng() % 500));
    }
    board->stop = 1;
    for (int i = 0; i < WRITERS + READERS; i++) {
        if (!threads) {
            CHECK_EQ_INT(wait_child(pid[i], 30000), 0);
        } else {
            pthread_join(w[i]->thread, NULL);
            shf_table_close(w[i]->t);
            free(w[i]);
        }
    }
    for (uint32_t i = 0; i < KNOWN; i++) { /* what was acknowledged last is there */
        size_t n = 0;
        int rc = shf_table_get(t, names[i].bytes, names[i].len, is, sizeof is, &n);
        size_t expected = fill(val, i, board->acked[i]);
        if (rc != SHF_OK || n != expected || memcmp(val, is, n) != 0) FAIL("%s: key %u: %d, not its last value", shape->name, i, rc);
    }
    CHECK_EQ_INT(board->torn, 0);
    CHECK_EQ_INT(board->lost, 0);
    CHECK_EQ_INT(board->stale, 0);
    total_torn += board->torn, total_lost += board->lost, total_stale += board->stale;
    total_reads += board->reads, total_written += board->written, rounds++;
    if (test_seed % 4 == rounds % 4) table_clean(t);
    shf_table_close(t);
    return board->reads;
}
static void all_shapes(uint64_t share, uint64_t reads, uint64_t *stops) {
    uint64_t ms = test_env("SHF_SECONDS", 5) * 1000 / share / SHAPES;
    for (shape = shapes; shape < shapes + SHAPES && *test_failures == 0; shape++) {
        uint64_t done = 0, spent = 0, slice = ms < 1000 ? ms : 1000, n = 0;
        do {
            done += one_round(slice, reads / SHAPES > done ? reads / SHAPES - done : 0, stops);
            spent += slice, n++;
        } while ((done < reads / SHAPES || spent + slice <= ms) && *test_failures == 0);
        printf("# %-12s %llu rounds, %llu thousand reads\n", shape->name, (unsigned long long)n, (unsigned long long)done / 1000);
    }
}
TEST(known_keys) { all_shapes(2, test_env("SHF_READS", 0), NULL); }
TEST(known_keys_and_stopped_readers) {
    uint64_t stops = 0;
    if (test_threads_only()) return;
    all_shapes(4, 0, &stops);
    printf("# readers stopped %llu times\n", (unsigned long long)stops);
}


/* ---- every UID ever issued ---------------------------------------------------------------------------- */

struct issued {
    uint64_t checked;
    uint32_t i, life; /* which key's, in which of its lives */
};
static uint32_t number_of(const unsigned char *key) { /* names[] index of a key */
    for (uint32_t i = 0; i < KNOWN + CHURN; i++)
        if (memcmp(names[i].bytes, key, names[i].len) == 0) return i;
    return UINT32_MAX;
}
/* A UID gives its own key, or nothing once that was removed; a plain one perhaps another key of the same 15 directory bits. */
static void look_up(struct shf_table *t, const struct issued *u, const uint32_t *life, uint64_t *others) {
    unsigned char key[24], val[VALUE_MOST];
    size_t klen = 0, n = 0;
    uint32_t uid = (uint32_t)(u->checked >> 32), stamp, now = 0;
    const struct name *k = &names[u->i];
    int lives = life[u->i] == u->life, rc = shf_table_key_by_uid(t, uid, key, sizeof key, &klen);
    total_reads += 4;
    if (lives && (shf_table_uid(t, k->bytes, k->len, &now) != SHF_OK || now != uid)) FAIL("the UID of key %u has changed", u->i);
    if (rc == SHF_OK && (klen != k->len || memcmp(key, k->bytes, klen) != 0)) {
        uint64_t h = shf__hash(&t->hash, key, klen);
        if (lives) FAIL("UID %#x of a living key gives another one", uid);
        if (shf_hash_shard(h) != uid >> 24 || shf_hash_dir(h) != (uid >> 9 & 0x7fff)) FAIL("UID %#x gives a key of other bits", uid);
        ++*others;
        if (*others % 64 == 0) { /* and its value */
            uint32_t i = number_of(key);
            rc = shf_table_get_by_uid(t, uid, val, sizeof val, &n);
            if (rc != SHF_OK || i == UINT32_MAX || !whole(val, n, i, &stamp)) FAIL("UID %#x: %d, not a value of its key", uid, rc);
        }
    } else if (rc != SHF_OK && (lives || rc != SHF_NOT_FOUND)) {
        FAIL("UID %#x of key %u: %d", uid, u->i, rc);
    }
    rc = shf_table_get_by_checked_uid(t, u->checked, val, sizeof val, &n);
    if (rc == SHF_OK ? !whole(val, n, u->i, &stamp) : lives || rc != SHF_NOT_FOUND) FAIL("checked UID of key %u: %d", u->i, rc);
}
TEST(every_uid_ever_issued) {
    static uint32_t life[KNOWN + CHURN], stamps[KNOWN + CHURN];
    static unsigned char val[VALUE_MOST];
    enum { MOST = 200000 };
    struct issued *all = test_alloc(MOST * sizeof *all);
    uint64_t ops = test_env("SHF_OPS", 200000) / SHAPES, others = 0, given = 0;
#ifdef SHF_SMALL
    uint32_t keys = 3000;
#else
    uint32_t keys = 20000; /* few enough that slots are used again */
#endif
    for (shape = shapes; shape < shapes + SHAPES && *test_failures == 0; shape++) {
        struct shf_table *t = shape->key ? table_create_fixed(shape->name, shape->key, shape->value, 0) : table_create("v");
        uint32_t n = 0;
        choose_names(t);
        memset(life, 0, sizeof life); /* even: absent */
        for (uint64_t op = 0; op < ops && *test_failures == 0; op++) {
            uint32_t i = (uint32_t)(test_rng() % keys), uid = 0;
            const struct name *k = &names[i];
            if (test_rng() % 5 < 2) {
                int rc = shf_table_del(t, k->bytes, k->len);
                CHECK_EQ_INT(rc, life[i] % 2 ? SHF_OK : SHF_NOT_FOUND);
                life[i] += life[i] % 2;
            } else {
                int rc = shf_table_put(t, k->bytes, k->len, val, fill(val, i, ++stamps[i]), &uid);
                if (rc == SHF_ERR_FULL) continue;
                CHECK_EQ_INT(rc, SHF_OK);
                if (life[i] % 2 == 0 && n < MOST) {
                    life[i]++;
                    all[n] = (struct issued){0, i, life[i]};
                    CHECK_EQ_INT(shf_table_checked_uid(t, k->bytes, k->len, &all[n].checked), SHF_OK);
                    CHECK_EQ_INT(all[n++].checked >> 32, uid);
                } else {
                    life[i] |= 1;
                }
            }
            if (n) look_up(t, &all[test_rng() % n], life, &others);
        }
        for (uint32_t u = 0; u < n; u++) look_up(t, &all[u], life, &others);
        given += n;
        table_clean(t);
        shf_table_close(t);
        unlink(temp_path(shape->key ? shape->name : "v"));
    }
    free(all);
    printf("# %llu UIDs issued; a plain one whose key was gone gave another key %llu times\n", (unsigned long long)given,
           (unsigned long long)others);
}

/* ---- a very large value, read beside a writer that does nothing else ----------------------------------- */

static size_t very_large;
static void fill_words(uint64_t *val, uint64_t stamp) {
    for (size_t i = 0; i < very_large / 8; i++) val[i] = word_of(stamp << 40, i);
}
static void *replace_for_ever(void *arg) {
    uint64_t *val[2] = {test_alloc(very_large), test_alloc(very_large)};
    struct shf_table *t = table_open("large", 0);
    fill_words(val[0], 0), fill_words(val[1], 1);
    for (uint64_t i = 1; !board->stop; i++) {
        size_t n = very_large - i % 3 * 4096; /* another length, another run */
        good(shf_table_put(t, "k", 1, val[i % 2], n, NULL), "put");
        board->written++;
    }
    shf_table_close(t);
    free(val[0]), free(val[1]);
    (void)arg;
    return NULL;
}
static void replace_child(void *arg) { replace_for_ever(arg); }
TEST(a_very_large_value) {
    shape = shapes;
    very_large = (size_t)(test_env("SHF_READS", 0) ? 256 : 16) << 20;
    if (test_threads_only()) very_large = 1 << 20;
    struct statvfs shm; /* containers often have 64 MB; the file gets five times as long */
    while (very_large > 1 << 20 && statvfs("/dev/shm", &shm) == 0 && shm.f_bavail * shm.f_frsize < 8 * very_large)
        very_large /= 2;
    struct shf_table *t = table_create("large"), *r = table_open("large", SHF_RDONLY);
    uint64_t *buf = test_alloc(very_large), busy = 0, read[2] = {0}, slowest = 0;
    if (!board) board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)board, 0, sizeof *board);
    fill_words(buf, 1);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, buf, very_large, NULL), SHF_OK);
    pthread_t thread;
    pid_t pid = test_threads_only() ? 0 : fork_child(replace_child, NULL);
    if (!pid && pthread_create(&thread, NULL, replace_for_ever, NULL) != 0) FAIL("pthread_create"), test_stop();
    uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 5) * 1000000000u / 8;
    while (board->written < 2) usleep(1000);
    for (uint64_t i = 0; (test_now_ns() < end || read[0] < 3 || read[1] + busy < 2) && *test_failures == 0; i++) {
        size_t n = 0;
        uint64_t start = test_now_ns();
        int ro = i % 2 == 1, rc = shf_table_get(ro ? r : t, "k", 1, buf, very_large, &n);
        if (test_now_ns() - start > slowest) slowest = test_now_ns() - start;
        if (ro && rc == SHF_ERR_BUSY) { /* as documented: it cannot take the lock */
            busy++;
            continue;
        }
        CHECK_EQ_INT(rc, SHF_OK);
        CHECK(n == very_large || n == very_large - 4096 || n == very_large - 8192);
        uint64_t stamp = buf[0] == word_of(0, 0) ? 0 : 1;
        for (size_t j = 0; j < n / 8; j++)
            if (buf[j] != word_of(stamp << 40, j)) {
                FAIL("torn at word %zu of %zu", j, n / 8);
                break;
            }
        read[ro]++, total_reads++;
    }
    board->stop = 1;
    if (pid) CHECK_EQ_INT(wait_child(pid, 60000), 0);
    else pthread_join(thread, NULL);
    total_written += board->written;
    printf("# %zu MiB: read %llu times, and %llu times read-only (%llu times busy), slowest %.0f ms; replaced %llu times\n",
           very_large >> 20, (unsigned long long)read[0], (unsigned long long)read[1], (unsigned long long)busy,
           (double)slowest / 1e6, (unsigned long long)board->written);
    uint64_t file = table_stats(t).file_bytes;
    CHECK(file < 5 * very_large + (4 << 20));
    table_clean(t);
    free(buf);
    shf_table_close(r);
    shf_table_close(t);
}

static const char *grouped(uint64_t n) { /* 12,345,678 */
    static char ring[8][32];
    static unsigned at;
    char *end = ring[at++ % 8] + 31, *p = end;
    *p = 0;
    for (int digit = 0; n || p == end; digit++, n /= 10) {
        if (digit && digit % 3 == 0) *--p = ',';
        *--p = (char)('0' + n % 10);
    }
    return p;
}
TEST(total) { /* of what ran */
    printf("# total: %s checked reads beside %s writes in %s tables: %s torn, %s lost, %s out of date\n", grouped(total_reads),
           grouped(total_written), grouped(rounds), grouped(total_torn), grouped(total_lost), grouped(total_stale));
}

int main(int argc, char **argv) { return run(argc, argv); }
