// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * queue_check.c - queues: drain, reset, and the count of every item
 *
 * WHAT       check takes the set lock and all locks of all queues, in the one order that two checks agree on (tail,
 *            head of queue 0, of queue 1, ...), and counts: with all of them held nothing moves (queue.c, WHO WRITES
 *            WHAT), so each item is seen once, in a ring, a hand or by its word (Q1-Q3).
 * NOT        A repair of damage: that is reported. What a death left is repaired by taking the locks.
 */
#include "queue.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PATIENCE_NS UINT64_C(20000000)

struct walk {
    struct shf_queue_set *set;
    struct shf_queue_report *report;
    unsigned char *seen; /* a bit an item */
    uint64_t found;
};

static void __attribute__((format(printf, 2, 3))) problem(struct walk *w, const char *format, ...) {
    if (w->report->problems++ != 0) return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->report->first, sizeof w->report->first, format, args);
    va_end(args);
}

/* 1 if that is an item, seen for the first time. */
static int meet(struct walk *w, uint32_t item, const char *where, uint32_t which) {
    if (item >= w->set->items) {
        problem(w, "%s %u names item %u; there are %u", where, which, item, w->set->items);
        return 0;
    }
    if (w->seen[item / 8] & 1u << item % 8) {
        problem(w, "%s %u names item %u, which is also in another place", where, which, item);
        return 0;
    }
    w->seen[item / 8] |= (unsigned char)(1u << item % 8);
    w->found++;
    return 1;
}

static void walk_ring(struct walk *w, struct shf_queue *q) {
    uint64_t head = shm_load_relaxed(&q->shm->head), tail = shm_load_relaxed(&q->shm->tail);
    if (tail - head > w->set->items) {
        problem(w, "queue %u has head %llu and tail %llu", q->index, (unsigned long long)head,
                (unsigned long long)tail);
        return;
    }
    for (uint64_t p = head; p != tail; p++)
        w->report->in_queues +=
            (uint64_t)meet(w, shm_load_relaxed32(&q->ring[p & w->set->mask]), "the ring of queue", q->index);
}

static void count_held(struct walk *w, uint32_t item, int dead, const char *where, uint32_t which) {
    if (!meet(w, item, where, which)) return;
    if (dead)
        w->report->dead++;
    else
        w->report->held++;
}

static void walk_hand(struct walk *w, uint32_t slot, int dead) {
    uint32_t life = shm_load_relaxed32(&w->set->lives[slot]);
    shf_au32 *hand = shf__queue_hand_of(w->set, slot);
    if (hand == NULL) {
        uint32_t page = shm_load_relaxed32(&w->set->hands[slot]);
        if (page != 0) problem(w, "the hand of slot %u is out of reach (page %u; address space?)", slot, page);
        return;
    }
    for (uint32_t place = 0; place < SHF_HAND_PLACES; place++) {
        uint32_t e = shm_load_relaxed32(&hand[place]);
        if (e == 0) continue;
        if (life == 0) problem(w, "the hand of slot %u holds item %u, but has no life", slot, e & SHF_HAND_ITEM_MASK);
        if (shf_hand_home(e) >= w->report->queues)
            problem(w, "the hand of slot %u names queue %u; there are %u", slot, shf_hand_home(e), w->report->queues);
        count_held(w, e & SHF_HAND_ITEM_MASK, dead, "the hand of slot", slot);
    }
}

static void walk_words(struct walk *w, const unsigned char *dead) {
    for (uint32_t i = 0; i < w->set->items; i++) {
        uint32_t word = shm_load_relaxed32(&w->set->words[i]), slot = word >> 21 & (SHF_SLOT_COUNT - 1);
        if (word == 0) continue;
        uint32_t life = shm_load_relaxed32(&w->set->lives[slot]);
        uint32_t owner = SHF_OWNER(slot, life & SHF_GENERATION_MASK);
        if (!(life & SHF_LIFE_WORDS) || (word & ~SHF_WORD_HOME_MASK) != shf_word_of(owner, 0))
            problem(w, "the word of item %u is %#x, which names no life", i, word);
        else if ((word & SHF_WORD_HOME_MASK) >= w->report->queues)
            problem(w, "the word of item %u names queue %u; there are %u", i, word & SHF_WORD_HOME_MASK,
                    w->report->queues);
        count_held(w, i, dead[slot], "the word of item", i);
    }
}

static void walk(struct walk *w) {
    unsigned char dead[SHF_SLOT_COUNT] = {0};
    for (uint32_t i = 0; i < w->report->queues; i++) walk_ring(w, &w->set->queues[i]);
    for (uint32_t slot = 0; slot < SHF_SLOT_COUNT; slot++) {
        uint32_t life = shm_load_acquire32(&w->set->lives[slot]);
        dead[slot] = life != 0 && shf__registry_is_dead(&w->set->registry, SHF_OWNER(slot, life & SHF_GENERATION_MASK));
        walk_hand(w, slot, dead[slot]);
    }
    walk_words(w, dead);
    if (w->found == w->set->items) return;
    uint32_t i = 0;
    while (w->seen[i / 8] & 1u << i % 8) i++;
    problem(w, "%llu items are nowhere; the first is %u", (unsigned long long)(w->set->items - w->found), i);
}

static void unlock_all(struct shf_queue_set *set, uint32_t tails, uint32_t heads) {
    while (heads > 0) shf__unlock(&set->queues[--heads].shm->head_word);
    while (tails > 0) shf__unlock(&set->queues[--tails].shm->tail_word);
    shf__unlock(&set->shm->word);
}

/* All locks or none. *count = the queues whose locks are held. */
static int lock_all(struct shf_queue_set *set, uint32_t *count) {
    uint32_t tails = 0, heads = 0;
    int rc = shf__lock(&set->registry, &set->shm->word, NULL);
    if (rc != SHF_OK) return rc;
    int known = shf__queue_know(set);
    if (known < 0) rc = known;
    while (rc == SHF_OK && heads < (uint32_t)known) {
        rc = shf__queue_lock_tail(&set->queues[tails]);
        if (rc == SHF_OK) tails++, rc = shf__queue_lock_head(&set->queues[heads]);
        if (rc == SHF_OK) heads++;
    }
    *count = heads;
    if (rc != SHF_OK) unlock_all(set, tails, heads);
    return rc;
}

/* One stopped process must not stop all others through a check that waits for it with all other locks in its hands. */
static int lock_all_patiently(struct shf_queue_set *set, uint32_t *count) {
    uint64_t start = os_now_ns();
    for (;;) {
        uint64_t before = shf__registry_be_patient(PATIENCE_NS);
        int rc = lock_all(set, count);
        shf__registry_patience_ns = before;
        if (rc != SHF_ERR_TIMEOUT) return rc;
        if (os_now_ns() - start >= set->registry.lock_timeout_ns)
            return shf__fail(rc, 0, "queue: check", set->region.path, "in many tries for %llu ms a lock was kept: %s",
                             (unsigned long long)(set->registry.lock_timeout_ns / 1000000), shf_last_error()->message);
        os_sleep_ns(PATIENCE_NS);
    }
}

int shf_queue_set_check(struct shf_queue_set *set, struct shf_queue_report *report) {
    SHF_CHECK_ARGS(set != NULL && report != NULL && report->size >= sizeof *report);
    struct walk w = {set, report, calloc(1, ((size_t)set->items + 8) / 8), 0};
    if (w.seen == NULL)
        return shf__fail(SHF_ERR_NO_MEMORY, ENOMEM, "queue: check", set->region.path, "%s: no memory for a bit an item",
                         set->region.path);
    memset(report, 0, sizeof *report);
    report->size = sizeof *report;
    report->items = set->items;
    int rc = lock_all_patiently(set, &report->queues);
    if (rc == SHF_OK) {
        walk(&w);
        unlock_all(set, report->queues, report->queues);
    }
    free(w.seen);
    if (rc == SHF_ERR_CORRUPT) problem(&w, "%s", shf_last_error()->message);
    if (rc == SHF_OK && report->problems != 0)
        rc = shf__fail(SHF_ERR_CORRUPT, 0, "queue: check", set->region.path, "%s: %s", set->region.path, report->first);
    return rc;
}

int shf_queue_drain(struct shf_queue *from, struct shf_queue *to, uint64_t *moved) {
    SHF_CHECK_ARGS(from != NULL && to != NULL);
    if (from->set != to->set) return shf__queue_other_handle(from, "queue: drain");
    if (from->set->region.read_only) return shf__queue_read_only(from->set, "queue: drain");
    struct shf_batch *batch;
    uint64_t there, done = 0;
    int rc = shf_queue_len(from, &there);
    if (rc == SHF_OK)
        rc = shf_batch_new(from->set, from->set->items < SHF_HAND_LEASE ? from->set->items : SHF_HAND_LEASE, &batch);
    if (rc != SHF_OK) return rc;
    while (rc == SHF_OK && done < there) {
        rc = shf_queue_pull_many(from, batch, there - done < SHF_HAND_LEASE ? (uint32_t)(there - done) : 0);
        if (rc != SHF_OK) break;
        uint32_t n = shf_batch_count(batch);
        rc = shf_queue_push_many(to, batch);
        if (rc == SHF_OK) done += n;
    }
    shf_batch_free(batch);
    if (moved != NULL) *moved = done;
    return rc == SHF_NOT_FOUND ? SHF_OK : rc;
}

int shf_queue_set_reset(struct shf_queue_set *set) {
    SHF_CHECK_ARGS(set != NULL);
    if (set->region.read_only) return shf__queue_read_only(set, "queue: reset");
    int rc = shf__queue_sweep(set, SHF_SWEEP_ASKED), count = shf__queue_know(set);
    if (count < 0) return count;
    for (int i = 1; rc == SHF_OK && i < count; i++) rc = shf_queue_drain(&set->queues[i], &set->queues[0], NULL);
    return rc;
}

int shf_queue_set_recover(struct shf_queue_set *set) {
    SHF_CHECK_ARGS(set != NULL);
    if (set->region.read_only) return shf__queue_read_only(set, "queue: recover");
    return shf__queue_sweep(set, SHF_SWEEP_ASKED);
}
