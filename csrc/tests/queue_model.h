/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * queue_model.h - what the tests of deaths and faults in queue sets share: items that know their bytes, and a census
 *
 * CONTENT    An item's bytes tell its number and how often they were written, and all else follows from the two.
 * CENSUS     Reads rings, hands, lives and words as they lie in the file, without any call of the engine: each item is
 *            in one place (Q1), nothing is armed (Q2), a hand or word belongs to the life in lives[] (Q3).
 */
#ifndef SHF_TEST_QUEUE_MODEL_H
#define SHF_TEST_QUEUE_MODEL_H

#include "queue.h"
#include "test.h"

#include <fcntl.h>

#define SET_ITEMS 40u /* a ring of 64 */
#define SET_QUEUES_MOST 8u
#define SET_ITEM_SIZE 48u

/* ---- content ---- */

struct content {
    uint32_t number, count; /* how often it was written */
    uint64_t more[SET_ITEM_SIZE / 8 - 1];
};
_Static_assert(sizeof(struct content) == SET_ITEM_SIZE, "content");
TEST_FN void content_of(struct content *c, uint32_t number, uint32_t count) {
    uint64_t state = (uint64_t)number << 32 | count;
    c->number = number, c->count = count;
    for (size_t i = 0; i < sizeof c->more / sizeof *c->more; i++) c->more[i] = test_next(&state);
}
/* 0s, as they are at first, are count 0 of any item. */
TEST_FN int content_is(const void *data, uint32_t number, uint32_t count) {
    struct content c;
    content_of(&c, number, count);
    if (count == 0) memset(&c, 0, sizeof c);
    return memcmp(data, &c, sizeof c) == 0;
}

/* ---- sets ---- */

static const char *const set_names[] __attribute__((unused)) = {"free", "a", "b", "c"};
#define SET_NAMES 4u
TEST_FN struct shf_queue_options set_options(uint32_t lock_timeout_ms) {
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    o.lock_timeout_ms = lock_timeout_ms;
    return o;
}
TEST_FN struct shf_queue_options set_new_options(void) {
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    o.items = SET_ITEMS, o.item_size = SET_ITEM_SIZE, o.queues = set_names, o.queue_count = SET_NAMES;
    return o;
}
TEST_FN struct shf_queue_set *set_open(const char *path, unsigned flags, uint32_t lock_timeout_ms) {
    struct shf_queue_options o = set_options(lock_timeout_ms);
    struct shf_queue_set *s = NULL;
    int rc = shf_queue_set_open(path, flags, &o, &s);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    return s;
}
TEST_FN struct shf_queue *set_queue(struct shf_queue_set *s, uint32_t i) {
    struct shf_queue *q = NULL;
    int rc = shf_queue_at(s, i, &q);
    if (rc != SHF_OK) FAIL("queue %u: %d, %s", i, rc, shf_last_error()->message), test_stop();
    return q;
}
/* check: the report agrees with itself and says that all is well. */
TEST_FN struct shf_queue_report set_check(struct shf_queue_set *s) {
    struct shf_queue_report report = {.size = sizeof report};
    int rc = shf_queue_set_check(s, &report);
    if (rc != SHF_OK) FAIL("check: %d, %s", rc, shf_last_error()->message);
    if (report.problems != 0 || report.first[0] != 0)
        FAIL("check: %llu problems, %s", (unsigned long long)report.problems, report.first);
    CHECK_EQ_INT(report.in_queues + report.held + report.dead, report.items);
    CHECK_EQ_INT(report.items, shf_queue_set_items(s));
    return report;
}

/* ---- census ---- */

struct census {
    uint32_t queues, held; /* held: in hands and words */
    uint32_t n[SET_QUEUES_MOST];
    uint32_t list[SET_QUEUES_MOST][SET_ITEMS];
    uint32_t owner[SET_ITEMS]; /* slot of the holder; 0: it is in a queue */
    uint32_t home[SET_ITEMS];
};
static uint64_t census_items, census_lost, census_twice; /* looked for; problems of Q1 */

TEST_FN void census_place(uint8_t *seen, uint32_t item, const char *where, uint32_t i) {
    if (item >= SET_ITEMS) {
        FAIL("%s %u names item %u of %u", where, i, item, SET_ITEMS);
    } else if (seen[item]++ != 0) {
        census_twice++;
        FAIL("item %u is in two places, one is %s %u", item, where, i);
    }
}
/* Nobody is in a call; who died in one was looked after. (A lock of a dead one who held nothing may still name it.) */
TEST_FN void census_take(struct shf_queue_set *s, struct census *c) {
    uint8_t seen[SET_ITEMS] = {0};
    memset(c, 0, sizeof *c);
    c->queues = shf_queue_count(s);
    if (s->items != SET_ITEMS || c->queues > SET_QUEUES_MOST) {
        FAIL("%u items in %u queues", s->items, c->queues);
        return;
    }
    for (uint32_t i = 0; i < c->queues; i++) {
        struct shf_shm_queue *q = s->queues[i].shm;
        uint64_t head = shm_load_relaxed(&q->head), tail = shm_load_relaxed(&q->tail);
        CHECK_EQ_INT(shm_load_relaxed(&q->new_head), head); /* Q2 */
        CHECK_EQ_INT(shm_load_relaxed(&q->new_tail), tail);
        if (tail < head || tail - head > SET_ITEMS) {
            FAIL("queue %u: head %llu, tail %llu", i, (unsigned long long)head, (unsigned long long)tail);
            continue;
        }
        for (uint64_t p = head; p < tail; p++) {
            uint32_t item = shm_load_relaxed32(&s->queues[i].ring[p & s->mask]);
            census_place(seen, item, "queue", i);
            c->list[i][c->n[i]++] = item;
        }
    }
    for (uint32_t slot = 0; slot < SHF_SLOT_COUNT; slot++) {
        uint32_t page = shm_load_relaxed32(&s->hands[slot]), life = shm_load_relaxed32(&s->lives[slot]);
        const shf_au32 *hand = (const shf_au32 *)(const void *)(s->region.base + (uint64_t)page * SHF_PAGE);
        for (uint32_t place = 0; page != 0 && place < SHF_HAND_PLACES; place++) {
            uint32_t entry = shm_load_relaxed32(hand + place), item = entry & SHF_HAND_ITEM_MASK;
            if (entry == 0) continue;
            census_place(seen, item, "the hand of slot", slot);
            if (item < SET_ITEMS) c->owner[item] = slot, c->home[item] = shf_hand_home(entry);
            if ((life & SHF_GENERATION_MASK) == 0)
                FAIL("slot %u has no life, but its hand has item %u", slot, item); /* Q3 */
            c->held++;
        }
    }
    for (uint32_t item = 0; item < SET_ITEMS; item++) {
        uint32_t word = shm_load_relaxed32(&s->words[item]), slot = word >> 21 & 0x3ff;
        if (word == 0) continue;
        uint32_t life = shm_load_relaxed32(&s->lives[slot]);
        census_place(seen, item, "the words of slot", slot);
        c->owner[item] = slot, c->home[item] = word & SHF_WORD_HOME_MASK;
        if (!(word & SHF_WORD_HELD) || !(life & SHF_LIFE_WORDS) || ((life ^ word >> 10) & 0x7ff) != 0)
            FAIL("item %u: word %#x, but the life in slot %u is %#x", item, word, slot, life); /* Q3 */
        c->held++;
    }
    for (uint32_t item = 0; item < SET_ITEMS; item++)
        if (!seen[item]) {
            census_lost++;
            FAIL("item %u is nowhere", item);
        }
    census_items += SET_ITEMS;
}

#endif
