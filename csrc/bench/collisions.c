// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * collisions.c - how much slower a table is with keys that somebody chose to collide (who does not know the seed)
 *
 *     make bench && build/bench/collisions [--keys N] [--rounds N] [--fixed 0|1] [--hash 0|1|2]
 *
 * For each family of tests/hash_families.h and some lengths: puts of N keys (fewer where the family has fewer) into a new
 * table, gets of all in order, and the same with as many random keys of that length, in turns; the fastest round counts.
 * Prints the rates as parts of those of random keys, 1.00 being equal, and the worst of all at the end. Asserts nothing.
 */
#include "../tests/hash_families.h"

#include "shf.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LENGTHS 6
static const size_t lengths[LENGTHS] = {4, 8, 16, 24, 32, 64};

static uint32_t keys = 100000, rounds = 5, fixed = 0, hash = 0;
static char path[64];

static void die(const char *what, int rc) {
    fprintf(stderr, "collisions: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    shf_unlink(path);
    exit(1);
}
static uint64_t cpu_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts); /* one thread: what others do beside it counts less */
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

struct times {
    uint64_t put, get; /* of the fastest round */
};
static void pass(const unsigned char *all, uint32_t n, size_t length, struct times *best) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    char value[4] = "val";
    size_t got;
    o.hash = hash;
    if (fixed) o.fixed_key = (uint32_t)length, o.fixed_value = sizeof value;
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) die("create", rc);
    uint64_t start = cpu_now();
    for (uint32_t i = 0; i < n; i++)
        if ((rc = shf_table_put(t, all + i * length, length, value, sizeof value, NULL)) != SHF_OK) die("put", rc);
    uint64_t middle = cpu_now();
    for (uint32_t i = 0; i < n; i++)
        if ((rc = shf_table_get(t, all + i * length, length, value, sizeof value, &got)) != SHF_OK) die("get", rc);
    uint64_t end = cpu_now();
    if (middle - start < best->put) best->put = middle - start;
    if (end - middle < best->get) best->get = end - middle;
    shf_table_close(t);
    shf_unlink(path);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        uint32_t *to = strcmp(argv[i], "--keys") == 0     ? &keys
                       : strcmp(argv[i], "--rounds") == 0 ? &rounds
                       : strcmp(argv[i], "--fixed") == 0  ? &fixed
                       : strcmp(argv[i], "--hash") == 0   ? &hash
                                                          : NULL;
        if (to == NULL || i + 1 == argc) {
            fprintf(stderr, "usage: collisions [--keys N] [--rounds N] [--fixed 0|1] [--hash 0|1|2]\n");
            return 2;
        }
        *to = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    }
    snprintf(path, sizeof path, "/dev/shm/shf-collisions-%ld.shf", (long)getpid());
    unsigned char *chosen = malloc((size_t)keys * 64), *random = malloc((size_t)keys * 64);
    if (chosen == NULL || random == NULL) die("memory", SHF_ERR_NO_MEMORY);
    double worst[2] = {9, 9};
    printf("%-20s", "put, get / random");
    for (int l = 0; l < LENGTHS; l++) printf("%9zu bytes", lengths[l]);
    printf("\n");
    for (int f = 1; f < FAMILY_COUNT; f++) {
        printf("%-20s", family_names[f]);
        for (int l = 0; l < LENGTHS; l++) {
            struct times best[2] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
            size_t length = lengths[l];
            uint32_t n = family_count((enum family)f, length, keys);
            if (n < 1000) {
                printf("%15s", "-");
                continue;
            }
            for (uint32_t i = 0; i < n; i++) {
                family_key((enum family)f, length, i, 1, chosen + i * length);
                family_key(RANDOM_BYTES, length, i, 1, random + i * length);
            }
            for (uint32_t r = 0; r < rounds; r++) pass(random, n, length, &best[0]), pass(chosen, n, length, &best[1]);
            double put = (double)best[0].put / (double)best[1].put, get = (double)best[0].get / (double)best[1].get;
            if (put < worst[0]) worst[0] = put;
            if (get < worst[1]) worst[1] = get;
            printf("     %4.2f  %4.2f", put, get);
            fflush(stdout);
        }
        printf("\n");
    }
    printf("worst: put %.2f, get %.2f of the rate of random keys\n", worst[0], worst[1]);
    free(chosen), free(random);
    return 0;
}
