/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * instructions_queue.c - one named loop for each way of moving items, to be counted by callgrind: see instructions.sh
 *
 *     build/bench/instructions_queue [ITEMS]
 *
 * Each loop pulls and pushes ITEMS items in one process, with nobody beside it. Prints a line "loop operations" for each
 * loop, in order; an operation is one item pulled and pushed. A copy of more than 2 KiB is one instruction of the
 * processor that callgrind counts once for each byte: batch_1000 is counted too high by that (a byte cleared for each 4).
 */
#include "shf.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOP __attribute__((noinline)) static void
#define SET_ITEMS 8192u

static uint32_t items = 160000;
static struct shf_queue_set *set;
static struct shf_queue *a, *b;
static struct shf_item held;

static void must(const char *what, int rc, int wanted) {
    if (rc == wanted) return;
    fprintf(stderr, "instructions: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    exit(1);
}

LOOP loop_empty(void) {
    for (uint32_t i = 0; i < items; i++) __asm__ volatile("" : : "r"(i) : "memory");
}
LOOP loop_one(void) {
    for (uint32_t i = 0; i < items; i++) {
        must("pull", shf_queue_pull(a, &held), SHF_OK);
        must("push", shf_queue_push(a, &held), SHF_OK);
    }
}
LOOP loop_exchange(void) {
    must("pull", shf_queue_pull(a, &held), SHF_OK);
    for (uint32_t i = 0; i < items; i++) must("exchange", shf_queue_exchange(a, &held, a), SHF_OK);
    must("push", shf_queue_push(a, &held), SHF_OK);
}
LOOP loop_pull_of_nothing(void) {
    for (uint32_t i = 0; i < items; i++) must("pull", shf_queue_pull(b, &held), SHF_NOT_FOUND);
}
static void batches(uint32_t n) {
    struct shf_batch *batch;
    must("batch", shf_batch_new(set, n, &batch), SHF_OK);
    for (uint32_t i = 0; i < items; i += n) {
        must("pull_many", shf_queue_pull_many(a, batch, 0), SHF_OK);
        must("push_many", shf_queue_push_many(a, batch), SHF_OK);
    }
    shf_batch_free(batch);
}
LOOP loop_batch_16(void) { batches(16); }
LOOP loop_batch_64(void) { batches(64); }
LOOP loop_batch_1000(void) { batches(1000); }
LOOP loop_batch_4000(void) { batches(4000); }

static const struct {
    const char *name;
    void (*fn)(void);
} loops[] = {
    {"empty", loop_empty},
    {"one", loop_one},
    {"exchange", loop_exchange},
    {"pull_of_nothing", loop_pull_of_nothing},
    {"batch_16", loop_batch_16},
    {"batch_64", loop_batch_64},
    {"batch_1000", loop_batch_1000},
    {"batch_4000", loop_batch_4000},
};

int main(int argc, char **argv) {
    static const char *const names[2] = {"a", "b"};
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    if (argc > 1) items = (uint32_t)strtoul(argv[1], NULL, 10);
    items = (items + 7999) / 8000 * 8000;
    o.items = SET_ITEMS;
    o.item_size = 64;
    o.queues = names;
    o.queue_count = 2;
    must("create", shf_queue_set_anonymous("instructions", &o, &set), SHF_OK);
    must("find", shf_queue_find(set, "a", &a), SHF_OK);
    must("find", shf_queue_find(set, "b", &b), SHF_OK);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        printf("%s %u\n", loops[i].name, items);
        loops[i].fn();
    }
    printf("# queues, %u items, a pull and a push of each\n", items);
    shf_queue_set_close(set);
    return 0;
}
