/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * queue.c - the cycle of queues: two processes pass items round free -> a2b -> b2a
 *
 *     build/bench/queue [--batch 1000] [--items 16384] [--seconds 1]
 *
 * Process A pulls from `free` until it is empty, then from b2a, and pushes to a2b; process B pulls from a2b and pushes to
 * b2a. Prints "cycle RATE MEAN": millions of items a second that each process pulls and pushes, and how many a pull gave.
 * recovery.sh compares builds with it; benches/compare measures it beside other queues.
 */
#include "shf.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct result {
    uint64_t items, pulls;
    double seconds;
};
struct meeting {
    _Atomic int ready, stop;
    struct result results[2];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(const char *what, int rc) {
    if (rc == SHF_OK || rc == SHF_NOT_FOUND) return;
    fprintf(stderr, "queue: %s: %s\n", what, shf_last_error()->message);
    exit(1);
}

static void run(int fd, int me, uint32_t batch, double seconds, struct meeting *m) {
    struct shf_queue_set *set;
    struct shf_queue *from, *to, *free_queue;
    struct shf_batch *b = NULL;
    struct shf_item item;
    uint64_t items = 0, pulls = 0;
    cpu_set_t cpu;
    CPU_ZERO(&cpu);
    CPU_SET((size_t)me, &cpu);
    (void)sched_setaffinity(0, sizeof cpu, &cpu); /* one CPU: both share it */
    must("open", shf_queue_set_from_fd(fd, NULL, &set));
    must("find", shf_queue_find(set, "free", &free_queue));
    must("find", shf_queue_find(set, me == 0 ? "b2a" : "a2b", &from));
    must("find", shf_queue_find(set, me == 0 ? "a2b" : "b2a", &to));
    if (batch > 1) must("batch", shf_batch_new(set, batch, &b));
    for (int rc = me; rc == SHF_OK;) { /* A: all items into the cycle */
        rc = b != NULL ? shf_queue_pull_many(free_queue, b, 0) : shf_queue_pull(free_queue, &item);
        must("pull", rc);
        if (rc == SHF_OK) must("push", b != NULL ? shf_queue_push_many(to, b) : shf_queue_push(to, &item));
    }
    atomic_fetch_add(&m->ready, 1);
    while (atomic_load(&m->ready) < 2) sched_yield();
    double start = now(), end = start;
    while (!atomic_load_explicit(&m->stop, memory_order_relaxed)) {
        for (int i = 0; i < 200; i++) {
            int rc = b != NULL ? shf_queue_pull_many(from, b, 0) : shf_queue_pull(from, &item);
            must("pull", rc);
            if (rc != SHF_OK) continue;
            items += b != NULL ? shf_batch_count(b) : 1;
            pulls++;
            must("push", b != NULL ? shf_queue_push_many(to, b) : shf_queue_push(to, &item));
        }
        end = now();
        if (end - start > seconds) atomic_store(&m->stop, 1);
    }
    m->results[me] = (struct result){items, pulls, end - start};
    shf_queue_set_close(set);
    exit(0);
}

static double number(int argc, char **argv, const char *name, double otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return atof(argv[i + 1]);
    return otherwise;
}

int main(int argc, char **argv) {
    static const char *const names[3] = {"free", "a2b", "b2a"};
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    uint32_t batch = (uint32_t)number(argc, argv, "--batch", 1000);
    double seconds = number(argc, argv, "--seconds", 1);
    struct shf_queue_set *set;
    o.items = (uint32_t)number(argc, argv, "--items", 16384);
    o.item_size = 64;
    o.queues = names;
    o.queue_count = 3;
    must("create", shf_queue_set_anonymous("bench", &o, &set));
    struct meeting *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return 1;
    for (int me = 0; me < 2; me++) {
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) run(shf_queue_set_fd(set), me, batch, seconds, m);
    }
    int failed = 0, status;
    while (wait(&status) > 0) failed |= status;
    if (failed) return 1;
    double rate = 0;
    uint64_t items = 0, pulls = 0;
    for (int i = 0; i < 2; i++) {
        rate += (double)m->results[i].items / m->results[i].seconds / 2e6;
        items += m->results[i].items, pulls += m->results[i].pulls;
    }
    printf("cycle %.2f %.1f\n", rate, (double)items / (double)pulls);
    shf_queue_set_close(set);
    return 0;
}
