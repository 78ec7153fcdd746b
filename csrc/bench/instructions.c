/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * instructions.c - one named loop for each call, to be counted by callgrind: see instructions.sh
 *
 *     build/bench/instructions variable|fixed [KEYS]
 *
 * A get overlaps with as many others as fit into the processor's window, so its instructions decide its rate
 * (design, 11), and unlike times they do not depend on what else the machine does. 4-byte keys and values. Prints a line
 * "loop operations" for each loop, in order; the loops' own instructions are those of loop_empty.
 */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOP __attribute__((noinline)) static void
#define BATCH 32u

static uint32_t keys = 150000;
static struct shf_table *t;
static uint32_t *k, *first, firsts, *absent, *fresh, *uids;
static uint32_t value;
static size_t n_;

static void die(const char *what, int rc) {
    fprintf(stderr, "instructions: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    exit(1);
}
static void must(const char *what, int rc, int wanted) {
    if (rc != wanted) die(what, rc);
}

LOOP loop_empty(void) {
    for (uint32_t i = 0; i < keys; i++) __asm__ volatile("" : : "r"(&k[i]) : "memory");
}
LOOP loop_get_first_bucket(void) {
    for (uint32_t i = 0; i < firsts; i++) must("get", shf_table_get(t, &first[i], 4, &value, 4, &n_), SHF_OK);
}
LOOP loop_get(void) {
    for (uint32_t i = 0; i < keys; i++) must("get", shf_table_get(t, &k[i], 4, &value, 4, &n_), SHF_OK);
}
LOOP loop_absent(void) {
    for (uint32_t i = 0; i < keys; i++) must("absent", shf_table_get(t, &absent[i], 4, &value, 4, &n_), SHF_NOT_FOUND);
}
LOOP loop_get_by_uid(void) {
    for (uint32_t i = 0; i < keys; i++) must("uid", shf_table_get_by_uid(t, uids[i], &value, 4, &n_), SHF_OK);
}
LOOP loop_contains(void) {
    for (uint32_t i = 0; i < keys; i++) must("contains", shf_table_contains(t, &k[i], 4), SHF_OK);
}

static struct shf_bytes batch_keys[BATCH];
static struct shf_value batch_values[BATCH];
static struct shf_pair batch_pairs[BATCH];
static uint32_t batch_data[BATCH];
static void set_keys(const uint32_t *from) {
    for (uint32_t j = 0; j < BATCH; j++) batch_keys[j] = (struct shf_bytes){&from[j], 4};
}
static void set_pairs(const uint32_t *from) {
    for (uint32_t j = 0; j < BATCH; j++) batch_pairs[j] = (struct shf_pair){{&from[j], 4}, {&value, 4}};
}
LOOP loop_batch_get(void) {
    for (uint32_t i = 0; i < keys; i += BATCH) {
        set_keys(&k[i]);
        must("get_many", shf_table_get_many(t, BATCH, batch_keys, batch_values), SHF_OK);
    }
}
LOOP loop_batch_absent(void) {
    for (uint32_t i = 0; i < keys; i += BATCH) {
        set_keys(&absent[i]);
        must("get_many", shf_table_get_many(t, BATCH, batch_keys, batch_values), SHF_OK);
    }
}
LOOP loop_batch_uid(void) {
    for (uint32_t i = 0; i < keys; i += BATCH)
        must("get_many_by_uid", shf_table_get_many_by_uid(t, BATCH, &uids[i], batch_values), SHF_OK);
}
LOOP loop_put_new(void) {
    for (uint32_t i = 0; i < keys; i++) must("put", shf_table_put(t, &fresh[i], 4, &value, 4, NULL), SHF_OK);
}
LOOP loop_put_replace(void) {
    for (uint32_t i = 0; i < keys; i++) must("put", shf_table_put(t, &k[i], 4, &value, 4, NULL), SHF_OK);
}
LOOP loop_batch_put_new(void) {
    for (uint32_t i = 0; i < keys; i += BATCH) {
        set_pairs(&fresh[i]);
        must("put_many", shf_table_put_many(t, BATCH, batch_pairs, &n_), SHF_OK);
    }
}
LOOP loop_batch_put_replace(void) {
    for (uint32_t i = 0; i < keys; i += BATCH) {
        set_pairs(&k[i]);
        must("put_many", shf_table_put_many(t, BATCH, batch_pairs, &n_), SHF_OK);
    }
}
LOOP loop_remove(void) {
    for (uint32_t i = 0; i < keys; i++) must("remove", shf_table_del(t, &fresh[i], 4), SHF_OK);
}
LOOP loop_batch_remove(void) {
    for (uint32_t i = 0; i < keys; i += BATCH) {
        set_keys(&fresh[i]);
        must("del_many", shf_table_del_many(t, BATCH, batch_keys, &n_, NULL), SHF_OK);
    }
}

static const struct {
    const char *name;
    void (*fn)(void);
} loops[] = {
    {"empty", loop_empty},
    {"get_first_bucket", loop_get_first_bucket},
    {"get", loop_get},
    {"absent", loop_absent},
    {"contains", loop_contains},
    {"get_by_uid", loop_get_by_uid},
    {"batch_get", loop_batch_get},
    {"batch_absent", loop_batch_absent},
    {"batch_uid", loop_batch_uid},
    {"put_new", loop_put_new},
    {"remove", loop_remove},
    {"batch_put_new", loop_batch_put_new},
    {"batch_remove", loop_batch_remove},
    {"put_replace", loop_put_replace},
    {"batch_put_replace", loop_batch_put_replace},
};

/* A bijection of 32 bits (the finaliser of MurmurHash3). */
static uint32_t mixed(uint32_t h) {
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}
static uint32_t *numbers(uint32_t from) {
    uint32_t *p = malloc(((size_t)keys + 1) * sizeof *p);
    if (p == NULL) die("memory", SHF_ERR_NO_MEMORY);
    for (uint32_t i = 0; i < keys; i++) p[i] = mixed(from + i);
    return p;
}

int main(int argc, char **argv) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table_stats stats = {.size = sizeof stats};
    if (argc > 2) keys = (uint32_t)strtoul(argv[2], NULL, 10);
    keys = (keys + BATCH - 1) / BATCH * BATCH;
    if (argc < 2 || keys == 0 || keys > 1u << 30) {
        fprintf(stderr, "usage: instructions variable|fixed [KEYS]\n");
        return 2;
    }
    if (strcmp(argv[1], "fixed") == 0) o.fixed_key = 4, o.fixed_value = 4;
    must("create", shf_table_anonymous("instructions", &o, &t), SHF_OK);
    k = numbers(0), absent = numbers(keys), fresh = numbers(2 * keys), first = numbers(0), uids = numbers(0);
    for (uint32_t i = 0; i < keys; i++) must("put", shf_table_put(t, &k[i], 4, &value, 4, NULL), SHF_OK);
    for (uint32_t i = 0; i < keys; i++) {
        must("uid", shf_table_uid(t, &k[i], 4, &uids[i]), SHF_OK);
        if ((uids[i] >> 3 & 63) == shf_hash_b1(shf__hash(&t->hash, &k[i], 4))) first[firsts++] = k[i];
    }
    for (uint32_t j = 0; j < BATCH; j++) batch_values[j].data = &batch_data[j], batch_values[j].cap = 4;
    must("stats", shf_table_stats(t, &stats), SHF_OK);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        printf("%s %u\n", loops[i].name, loops[i].fn == loop_get_first_bucket ? firsts : keys);
        loops[i].fn();
    }
    printf("# %s lengths, %u keys, %u %% of the slots used, %u %% in the second bucket\n", argv[1], keys,
           stats.load_percent, (uint32_t)(100 - 100 * (uint64_t)firsts / keys));
    shf_table_close(t);
    free(k), free(absent), free(fresh), free(first), free(uids);
    return 0;
}
