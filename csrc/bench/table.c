/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table.c - one process, one table, from C: the same work as benches/table.rs, for perf and callgrind
 *
 *     make bench && build/bench/table --keys 10000000 --op all
 *     valgrind --tool=callgrind --toggle-collect='pass_get' build/bench/table --keys 100000 --op get
 *     strace -fc build/bench/table --keys 1000000 --op put
 *
 * Keys and values have 4 bytes (or --value N); keys come in random order, reads in another order than writes.
 * Each pass is a function of its own, so that a tool can look at one alone. Prints a line for each operation:
 * name, M operations a second of the fastest of the loops and of the median. "lock" takes and gives back one
 * shard lock. "get" and the others start with one untimed put of all keys; "put" starts with an empty table.
 */
#include "shf.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define MAX_LOOPS 100u

static uint32_t *writes, *reads;
static uint32_t *uids;
static uint32_t keys = 1000000, loops = 5;
static size_t value_length = 4;
static unsigned char value[8192];

static void die(const char *what, int rc) {
    fprintf(stderr, "table: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    exit(1);
}

/* A bijection of 32 bits (the finaliser of MurmurHash3): keys are distinct, and key(n..) are absent. */
static uint32_t key(uint32_t h) {
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

static uint64_t state;
static uint64_t next_random(void) { /* SplitMix64 (Steele, Lea, Flood 2014) */
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t *shuffled(uint64_t seed) {
    uint32_t *k = malloc(((size_t)keys + 1) * sizeof *k);
    if (k == NULL) die("memory", SHF_ERR_NO_MEMORY);
    state = seed;
    for (uint32_t i = 0; i < keys; i++) k[i] = key(i);
    for (uint32_t i = keys; i > 1; i--) {
        uint32_t j = (uint32_t)(next_random() % i), swap = k[i - 1];
        k[i - 1] = k[j], k[j] = swap;
    }
    return k;
}

static NOINLINE void pass_put(struct shf_table *t) {
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf_table_put(t, &writes[i], 4, value, value_length, NULL);
        if (rc != SHF_OK) die("put", rc);
    }
}
static NOINLINE void pass_get(struct shf_table *t) {
    unsigned char buf[8192];
    size_t n;
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf_table_get(t, &reads[i], 4, buf, sizeof buf, &n);
        if (rc != SHF_OK) die("get", rc);
    }
}
static NOINLINE void pass_absent(struct shf_table *t) {
    unsigned char buf[8192];
    size_t n;
    for (uint32_t i = 0; i < keys; i++) {
        uint32_t k = key(keys + i);
        int rc = shf_table_get(t, &k, 4, buf, sizeof buf, &n);
        if (rc != SHF_NOT_FOUND) die("absent", rc);
    }
}
static NOINLINE void pass_uid(struct shf_table *t) {
    unsigned char buf[8192];
    size_t n;
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf_table_get_by_uid(t, uids[i], buf, sizeof buf, &n);
        if (rc != SHF_OK) die("uid", rc);
    }
}
static NOINLINE void pass_replace(struct shf_table *t) {
    value[0]++;
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf_table_put(t, &reads[i], 4, value, value_length, NULL);
        if (rc != SHF_OK) die("replace", rc);
    }
}
static NOINLINE void pass_lock(struct shf_table *t) {
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf__lock(&t->registry, &t->shards[0].word, NULL);
        if (rc != SHF_OK) die("lock", rc);
        shf__unlock(&t->shards[0].word);
    }
}

static const struct op {
    const char *name;
    void (*pass)(struct shf_table *);
} ops[] = {
    {"put", pass_put},         {"get", pass_get},   {"absent", pass_absent}, {"uid", pass_uid},
    {"replace", pass_replace}, {"lock", pass_lock},
};

static uint64_t now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static struct shf_table *create(const char *path) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, NULL, &t);
    if (rc != SHF_OK) die(path, rc);
    return t;
}

static void run(const struct op *op, const char *path) {
    uint64_t times[MAX_LOOPS];
    struct shf_table *t = NULL;
    int grows = op->pass == pass_put;
    if (!grows) {
        t = create(path);
        pass_put(t);
        for (uint32_t i = 0; i < keys && op->pass == pass_uid; i++) {
            int rc = shf_table_uid(t, &reads[i], 4, &uids[i]);
            if (rc != SHF_OK) die("uid", rc);
        }
    }
    for (uint32_t i = 0; i < loops; i++) {
        if (grows) t = create(path);
        uint64_t start = now();
        op->pass(t);
        times[i] = now() - start;
        if (grows && i + 1 < loops) {
            shf_table_close(t);
            shf_unlink(path);
        }
    }
    qsort(times, loops, sizeof times[0], ascending);
    struct shf_table_stats stats = {.size = sizeof stats};
    int rc = shf_table_stats(t, &stats);
    if (rc != SHF_OK) die("stats", rc);
    printf("%-8s %8.2f M/s best %8.2f M/s median %8.2f ns median %6.2f bytes/key\n", op->name,
           keys * 1e3 / (double)times[0], keys * 1e3 / (double)times[loops / 2],
           (double)times[loops / 2] / keys, (double)stats.file_bytes / keys);
    shf_table_close(t);
    shf_unlink(path);
}

static int usage(void) {
    fprintf(stderr, "usage: table [--keys N] [--op put|get|absent|uid|replace|lock|all] [--loops N] [--value BYTES] "
                    "[--path PATH]\n");
    return 2;
}

int main(int argc, char **argv) {
    char path[256];
    const char *wanted = "all";
    int known = 0;
    snprintf(path, sizeof path, "/dev/shm/shf-bench-%ld.shf", (long)getpid());
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) return usage();
        const char *arg = argv[i + 1];
        if (strcmp(argv[i], "--keys") == 0) keys = (uint32_t)strtoul(arg, NULL, 10);
        else if (strcmp(argv[i], "--loops") == 0) loops = (uint32_t)strtoul(arg, NULL, 10);
        else if (strcmp(argv[i], "--value") == 0) value_length = strtoul(arg, NULL, 10);
        else if (strcmp(argv[i], "--path") == 0) snprintf(path, sizeof path, "%s", arg);
        else if (strcmp(argv[i], "--op") == 0) wanted = arg;
        else return usage();
    }
    if (keys == 0 || keys > 1u << 31 || loops == 0 || loops > MAX_LOOPS || value_length > sizeof value) return usage();
    writes = shuffled(1), reads = shuffled(2), uids = malloc((size_t)keys * sizeof *uids);
    if (uids == NULL) die("memory", SHF_ERR_NO_MEMORY);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(wanted, "all") != 0 && strcmp(wanted, ops[i].name) != 0) continue;
        run(&ops[i], path);
        known = 1;
    }
    free(writes), free(reads), free(uids);
    return known ? 0 : usage();
}
