/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table.c - one process, one table, from C: the same work as benches/table.rs, for perf and callgrind
 *
 *     make bench && build/bench/table --keys 10000000 --op all
 *     valgrind --tool=callgrind --toggle-collect='pass_get' build/bench/table --keys 100000 --op get
 *     strace -fc build/bench/table --keys 1000000 --op put
 *
 * Keys and values have 4 bytes (or --value N; --fixed 1: of fixed length); keys come in random order, reads in another
 * order than writes. many_*: the same in batches of --batch N (32).
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
#define MAX_BATCH 4096u

static uint32_t *writes, *reads;
static uint32_t *uids;
static uint32_t keys = 1000000, loops = 5, batch = 32, fixed = 0;
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
static NOINLINE void pass_remove(struct shf_table *t) {
    for (uint32_t i = 0; i < keys; i++) {
        int rc = shf_table_del(t, &reads[i], 4);
        if (rc != SHF_OK) die("remove", rc);
    }
}

/* Batches: of the keys k[i..i+n). */
static struct shf_bytes batch_keys[MAX_BATCH];
static struct shf_pair batch_pairs[MAX_BATCH];
static struct shf_value batch_values[MAX_BATCH];
static uint32_t batch_absent[MAX_BATCH];
static size_t batch_lens[MAX_BATCH];
static unsigned char *batch_buf;

static inline uint32_t batch_of(const uint32_t *k, uint32_t i) {
    uint32_t n = keys - i < batch ? keys - i : batch;
    for (uint32_t j = 0; j < n; j++) batch_keys[j].data = &k[i + j], batch_keys[j].len = 4;
    return n;
}
static NOINLINE void pass_many_get(struct shf_table *t) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        n = batch_of(reads, i);
        int rc = shf_table_get_many(t, n, batch_keys, batch_values);
        for (uint32_t j = 0; j < n && rc == SHF_OK; j++) rc = batch_values[j].code;
        if (rc != SHF_OK) die("many_get", rc);
    }
}
static NOINLINE void pass_many_packed(struct shf_table *t) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        size_t done;
        n = batch_of(reads, i);
        int rc = shf_table_get_many_packed(t, n, batch_keys, batch_buf, batch * sizeof value, batch_lens, &done);
        for (uint32_t j = 0; j < n && rc == SHF_OK; j++)
            if (batch_lens[j] == SHF_NO_VALUE) rc = SHF_NOT_FOUND;
        if (rc != SHF_OK) die("many_packed", rc);
    }
}
static NOINLINE void pass_many_absent(struct shf_table *t) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        n = keys - i < batch ? keys - i : batch;
        for (uint32_t j = 0; j < n; j++) batch_absent[j] = key(keys + i + j);
        for (uint32_t j = 0; j < n; j++) batch_keys[j].data = &batch_absent[j], batch_keys[j].len = 4;
        int rc = shf_table_get_many(t, n, batch_keys, batch_values);
        for (uint32_t j = 0; j < n && rc == SHF_OK; j++)
            if (batch_values[j].code != SHF_NOT_FOUND) rc = SHF_EXISTS;
        if (rc != SHF_OK) die("many_absent", rc);
    }
}
static NOINLINE void pass_many_uid(struct shf_table *t) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        n = keys - i < batch ? keys - i : batch;
        int rc = shf_table_get_many_by_uid(t, n, uids + i, batch_values);
        for (uint32_t j = 0; j < n && rc == SHF_OK; j++) rc = batch_values[j].code;
        if (rc != SHF_OK) die("many_uid", rc);
    }
}
static inline void put_batches(struct shf_table *t, const uint32_t *k, const char *name) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        size_t done;
        n = keys - i < batch ? keys - i : batch;
        for (uint32_t j = 0; j < n; j++) {
            batch_pairs[j].key.data = &k[i + j], batch_pairs[j].key.len = 4;
            batch_pairs[j].value.data = value, batch_pairs[j].value.len = value_length;
        }
        int rc = shf_table_put_many(t, n, batch_pairs, &done);
        if (rc != SHF_OK) die(name, rc);
    }
}
static NOINLINE void pass_many_put(struct shf_table *t) { put_batches(t, writes, "many_put"); }
static NOINLINE void pass_many_replace(struct shf_table *t) {
    value[0]++;
    put_batches(t, reads, "many_replace");
}
static NOINLINE void pass_many_remove(struct shf_table *t) {
    for (uint32_t i = 0, n; i < keys; i += n) {
        size_t removed;
        n = batch_of(reads, i);
        int rc = shf_table_del_many(t, n, batch_keys, &removed, NULL);
        if (rc == SHF_OK && removed != n) rc = SHF_NOT_FOUND;
        if (rc != SHF_OK) die("many_remove", rc);
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
    enum { READS, GROWS, EMPTIES, UIDS } what; /* what each loop begins with: the full table, an empty one, a new full one */
} ops[] = {
    {"put", pass_put, GROWS},
    {"many_put", pass_many_put, GROWS},
    {"get", pass_get, READS},
    {"many_get", pass_many_get, READS},
    {"many_packed", pass_many_packed, READS},
    {"absent", pass_absent, READS},
    {"many_absent", pass_many_absent, READS},
    {"uid", pass_uid, UIDS},
    {"many_uid", pass_many_uid, UIDS},
    {"replace", pass_replace, READS},
    {"many_replace", pass_many_replace, READS},
    {"remove", pass_remove, EMPTIES},
    {"many_remove", pass_many_remove, EMPTIES},
    {"lock", pass_lock, READS},
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
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    if (fixed) o.fixed_key = 4, o.fixed_value = (uint32_t)value_length;
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) die(path, rc);
    return t;
}

static void run(const struct op *op, const char *path) {
    uint64_t times[MAX_LOOPS];
    struct shf_table_stats stats = {.size = sizeof stats};
    struct shf_table *t = NULL;
    for (uint32_t i = 0; i < loops; i++) {
        if (t == NULL) {
            t = create(path);
            if (op->what != GROWS) pass_put(t);
            for (uint32_t k = 0; k < keys && op->what == UIDS; k++) {
                int rc = shf_table_uid(t, &reads[k], 4, &uids[k]);
                if (rc != SHF_OK) die("uid", rc);
            }
        }
        uint64_t start = now();
        op->pass(t);
        times[i] = now() - start;
        int last = i + 1 == loops, rc = last ? shf_table_stats(t, &stats) : SHF_OK;
        if (rc != SHF_OK) die("stats", rc);
        if (last || op->what == GROWS || op->what == EMPTIES) {
            shf_table_close(t);
            shf_unlink(path);
            t = NULL;
        }
    }
    qsort(times, loops, sizeof times[0], ascending);
    printf("%-12s %8.2f M/s best %8.2f M/s median %8.2f ns median %6.2f bytes/key\n", op->name,
           keys * 1e3 / (double)times[0], keys * 1e3 / (double)times[loops / 2],
           (double)times[loops / 2] / keys, (double)stats.file_bytes / keys);
    fflush(stdout);
}

/* 1 if `name` is one of the comma-separated names of `list`. */
static int is_listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (; *list; list += strcspn(list, ","), list += *list == ',')
        if (strncmp(list, name, n) == 0 && (list[n] == 0 || list[n] == ',')) return 1;
    return 0;
}

static int usage(void) {
    fprintf(stderr, "usage: table [--keys N] [--op NAME[,NAME...]|all] [--loops N] [--value BYTES] [--fixed 0|1] "
                    "[--batch N] [--path PATH]\nNAME:");
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) fprintf(stderr, " %s", ops[i].name);
    fprintf(stderr, "\n");
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
        else if (strcmp(argv[i], "--fixed") == 0) fixed = (uint32_t)strtoul(arg, NULL, 10);
        else if (strcmp(argv[i], "--batch") == 0) batch = (uint32_t)strtoul(arg, NULL, 10);
        else if (strcmp(argv[i], "--path") == 0) snprintf(path, sizeof path, "%s", arg);
        else if (strcmp(argv[i], "--op") == 0) wanted = arg;
        else return usage();
    }
    if (keys == 0 || keys > 1u << 31 || loops == 0 || loops > MAX_LOOPS || value_length > sizeof value) return usage();
    if (batch == 0 || batch > MAX_BATCH) return usage();
    writes = shuffled(1), reads = shuffled(2), uids = malloc((size_t)keys * sizeof *uids);
    batch_buf = malloc((size_t)batch * sizeof value);
    if (uids == NULL || batch_buf == NULL) die("memory", SHF_ERR_NO_MEMORY);
    for (uint32_t i = 0; i < batch; i++)
        batch_values[i].data = batch_buf + i * sizeof value, batch_values[i].cap = value_length;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(wanted, "all") != 0 && !is_listed(wanted, ops[i].name)) continue;
        run(&ops[i], path);
        known = 1;
    }
    free(writes), free(reads), free(uids), free(batch_buf);
    return known ? 0 : usage();
}
