// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * queue_move.c - queues: pull, push, exchange, batches, and the repair of what a death left in them
 *
 * WHAT       PULL, PUSH, undo and redo of queue.c, whose labels stand here. A single item takes a place of the hand; a
 *            batch has a lease, a run of places, so that it is moved by copies of whole runs: about a nanosecond an
 *            item, most of it the transfer of the ring's lines. What does not fit into the hand is held in the words,
 *            one store an item.
 * NOT        Blocking: but for the lock of a queue. Waiting for items is queue_wait.c's.
 *
 * PRIVATE    `used`: which single places are given out (atomic bits: threads of the handle). A batch owns its lease
 *            from shf_batch_new to shf_batch_free; an item taken out of it stays in the lease (`taken` counts them),
 *            and until it is pushed the batch is filled in the words.
 * DOUBLE FETCH   each ring entry is loaded once (load4 is volatile for that): what is checked is what is copied into
 *            private memory, and only the copy is used.
 */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>

#ifdef SHF_NO_RECOVERY /* to measure what recovery costs (bench/): who holds what is not written down */
#define RECOVERY 0
#else
#define RECOVERY 1
#endif

/* ---- repair ------------------------------------------------------------------------------------------- */

shf_au32 *shf__queue_hand_of(struct shf_queue_set *set, uint32_t slot) {
    uint64_t page = shm_load_acquire32(&set->hands[slot & (SHF_SLOT_COUNT - 1)]);
    return page < set->behind ? NULL : shf__region_at(&set->region, page * SHF_PAGE, SHF_HAND_BYTES);
}

/* The n items of the ring from `position` on are not held by `at`. */
static int let_go(struct shf_queue *q, uint64_t position, uint64_t n, uint32_t at) {
    struct shf_queue_set *set = q->set;
    uint32_t place = at & ((1u << SHF_HAND_PLACE_BITS) - 1);
    shf_au32 *hand = NULL;
    if (n > set->items) return shf__queue_corrupt(set, "queue: a step of more than all items", n);
    if (at != SHF_IN_WORDS) {
        hand = shf__queue_hand_of(set, at >> SHF_HAND_PLACE_BITS);
        if (hand == NULL || at >> SHF_HAND_PLACE_BITS >= SHF_SLOT_COUNT || place + n > SHF_HAND_PLACES)
            return shf__queue_corrupt(set, "queue: a step names no hand", at);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint32_t x = shm_load_relaxed32(&q->ring[(position + i) & set->mask]);
        if (x >= set->items) return shf__queue_corrupt(set, "queue: a ring entry names no item", x);
        if (hand == NULL) {
            if (shm_load_relaxed32(&set->words[x]) != 0) shm_store_relaxed32(&set->words[x], 0);
        } else {
            uint32_t e = shm_load_relaxed32(&hand[place + i]);
            if (e != 0 && (e & SHF_HAND_ITEM_MASK) == x) shm_store_relaxed32(&hand[place + i], 0);
        }
    }
    return SHF_OK;
}

static SHF_COLD int repair_tail(struct shf_queue *q, int died) {
    struct shf_shm_queue *shm = q->shm;
    uint64_t tail = shm_load_relaxed(&shm->tail), target = shm_load_relaxed(&shm->new_tail);
    int rc = tail == target ? SHF_OK : let_go(q, tail, target - tail, shm_load_relaxed32(&shm->from));
    if (rc != SHF_OK) {
        shf__unlock(&shm->tail_word);
        return rc;
    }
    if (tail != target) shm_store_release(&shm->tail, target); /* T1 */
    if (died) shm_store_relaxed32(&shm->tail_deaths, shm_load_relaxed32(&shm->tail_deaths) + 1);
    return SHF_OK;
}

static SHF_COLD int repair_head(struct shf_queue *q, int died) {
    struct shf_shm_queue *shm = q->shm;
    uint64_t head = shm_load_relaxed(&shm->head), target = shm_load_relaxed(&shm->new_head);
    int rc = head == target ? SHF_OK : let_go(q, head, target - head, shm_load_relaxed32(&shm->into));
    if (rc != SHF_OK) {
        shf__unlock(&shm->head_word);
        return rc;
    }
    shf_compiler_fence();
    if (head != target) shm_store_release(&shm->new_head, head);
    if (died) shm_store_relaxed32(&shm->head_deaths, shm_load_relaxed32(&shm->head_deaths) + 1);
    return SHF_OK;
}

static inline int lock_tail(struct shf_queue *q) {
    struct shf_shm_queue *shm = q->shm;
    int died = 0, rc = shf__lock(&q->set->registry, &shm->tail_word, &died);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_UNLIKELY(died || (RECOVERY && shm_load_relaxed(&shm->tail) != shm_load_relaxed(&shm->new_tail))))
        return repair_tail(q, died);
    return SHF_OK;
}
static inline int lock_head(struct shf_queue *q) {
    struct shf_shm_queue *shm = q->shm;
    int died = 0, rc = shf__lock(&q->set->registry, &shm->head_word, &died);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_UNLIKELY(died || (RECOVERY && shm_load_relaxed(&shm->head) != shm_load_relaxed(&shm->new_head))))
        return repair_head(q, died);
    return SHF_OK;
}
int shf__queue_lock_tail(struct shf_queue *q) { return lock_tail(q); }
int shf__queue_lock_head(struct shf_queue *q) { return lock_head(q); }

/* ---- runs of numbers ---------------------------------------------------------------------------------- */

/* Eight at a time, in two vectors of what every processor has. In a build with crash points one by one: each store
 * counts. */
typedef uint32_t lanes __attribute__((vector_size(16), aligned(4), may_alias));
#define LANES 4u
#ifdef SHF_CRASH_POINTS
#define STEP(i, n) 0
#else
#define STEP(i, n) ((i) + 2 * LANES <= (n))
#endif
/* volatile: loaded once. A compiler that loads again what was checked may find another number there. */
static inline lanes load4(const void *from) { return *(const volatile lanes *)from; }
static inline void store4(void *to, lanes v) { *(volatile lanes *)to = v; }
static inline uint32_t any_of(lanes v) { return v[0] | v[1] | v[2] | v[3]; }

/* Copies a run of the ring out. The top bit of the result: one of them is not below `limit`, which is at most 2^31. */
static inline uint32_t take_run(uint32_t *numbers, const shf_au32 *ring, size_t n, uint32_t limit) {
    lanes wide = {0};
    size_t i = 0;
    uint32_t narrow = 0;
    for (; STEP(i, n); i += 2 * LANES) {
        lanes x = load4(ring + i), y = load4(ring + i + LANES);
        store4(numbers + i, x);
        store4(numbers + i + LANES, y);
        wide |= (limit - 1 - x) | x | (limit - 1 - y) | y; /* beyond it, or as large as 2^31 */
    }
    for (; i < n; i++) {
        numbers[i] = shm_load_relaxed32(ring + i);
        narrow |= (limit - 1 - numbers[i]) | numbers[i];
    }
    return narrow | any_of(wide);
}

/* entries[i] = numbers[i] | tag, in a hand: of this life, so nobody else touches them. */
static inline void hold(shf_au32 *entries, const uint32_t *numbers, size_t n, uint32_t tag) {
    size_t i = 0;
    shf_compiler_fence();
    for (; STEP(i, n); i += 2 * LANES) {
        store4(entries + i, load4(numbers + i) | tag);
        store4(entries + i + LANES, load4(numbers + i + LANES) | tag);
    }
    for (; i < n; i++) shm_store_relaxed32(entries + i, numbers[i] | tag);
    shf_compiler_fence();
}

/* 1 if entries[i] == numbers[i] | tag for each. */
static inline int holds(const shf_au32 *entries, const uint32_t *numbers, size_t n, uint32_t tag) {
    lanes wide = {0};
    size_t i = 0;
    uint32_t narrow = 0;
    for (; STEP(i, n); i += 2 * LANES)
        wide |= (load4(entries + i) ^ (load4(numbers + i) | tag)) |
                (load4(entries + i + LANES) ^ (load4(numbers + i + LANES) | tag));
    for (; i < n; i++) narrow |= shm_load_relaxed32(entries + i) ^ (numbers[i] | tag);
    return (narrow | any_of(wide)) == 0;
}

/* What precedes is not moved behind it, what follows not before it. */
static inline void put_run(shf_au32 *to, const uint32_t *numbers, size_t n) {
    size_t i = 0;
    shf_compiler_fence();
    for (; STEP(i, n); i += 2 * LANES) {
        store4(to + i, load4(numbers + i));
        store4(to + i + LANES, load4(numbers + i + LANES));
    }
    for (; i < n; i++) shm_store_relaxed32(to + i, numbers[i]);
    shf_compiler_fence();
}

static inline void clear_run(shf_au32 *entries, size_t n) {
    lanes none = {0};
    size_t i = 0;
    shf_compiler_fence();
    for (; STEP(i, n); i += 2 * LANES) {
        store4(entries + i, none);
        store4(entries + i + LANES, none);
    }
    for (; i < n; i++) shm_store_relaxed32(entries + i, 0);
    shf_compiler_fence();
}

/* 1 if all of them are numbers of items. */
static inline int ring_read(const struct shf_queue *q, uint64_t position, uint32_t *numbers, uint32_t n) {
    uint32_t at = (uint32_t)position & q->set->mask, straight = q->set->mask + 1 - at;
    if (SHF_LIKELY(n <= straight)) return take_run(numbers, q->ring + at, n, q->set->items) >> 31 == 0;
    return (take_run(numbers, q->ring + at, straight, q->set->items) |
            take_run(numbers + straight, q->ring, n - straight, q->set->items)) >>
               31 ==
           0;
}
static inline void ring_write(const struct shf_queue *q, uint64_t position, const uint32_t *numbers, uint32_t n) {
    uint32_t at = (uint32_t)position & q->set->mask, straight = q->set->mask + 1 - at;
    put_run(q->ring + at, numbers, n < straight ? n : straight);
    if (SHF_UNLIKELY(n > straight)) put_run(q->ring, numbers + straight, n - straight);
}

/* ---- pushing ------------------------------------------------------------------------------------------ */

static SHF_COLD uint32_t call_sleepers(struct shf_queue *q, uint32_t sleepers) {
    shm_store_relaxed32(&q->shm->sleepers, 0);
    shm_store_relaxed32(&q->shm->wake, shm_load_relaxed32(&q->shm->wake) + 1);
    return sleepers;
}

SHF_INLINE struct shf_wake commit_push(struct shf_queue *q, const uint32_t *numbers, uint32_t n, uint32_t from,
                                       shf_au32 *entries) {
    struct shf_shm_queue *shm = q->shm;
    struct shf_queue_set *set = q->set;
    uint64_t tail = shm_load_relaxed(&shm->tail);
    if (n == 1)
        shm_store_relaxed32(&q->ring[tail & set->mask], numbers[0]);
    else
        ring_write(q, tail, numbers, n);
    if (RECOVERY) {
        shm_store_release32(&shm->from, from);       /* V4 */
        shm_store_release(&shm->new_tail, tail + n); /* A2 */
        shf_fence_release();                         /* V3 */
        if (entries == NULL)
            for (uint32_t i = 0; i < n; i++) shm_store_relaxed32(&set->words[numbers[i]], 0);
        else if (n == 1)
            shm_store_relaxed32(entries, 0);
        else
            clear_run(entries, n);
    }
    if (n == 1)
        shm_store_relaxed(&shm->recent[tail % SHF_RECENT], (tail + 1) << 32 | numbers[0]);
    else
        for (uint64_t p = n > SHF_RECENT ? tail + n - SHF_RECENT : tail; p != tail + n; p++)
            shm_store_relaxed(&shm->recent[p % SHF_RECENT], (p + 1) << 32 | numbers[p - tail]);
    shm_store_release(&shm->tail, tail + n); /* T1 */
    uint32_t sleepers = shm_load_relaxed32(&shm->sleepers);
    struct shf_wake wake = {SHF_LIKELY(sleepers == 0) ? 0 : call_sleepers(q, sleepers), n, tail + n};
    return wake;
}
struct shf_wake shf__queue_commit_push(struct shf_queue *q, const uint32_t *numbers, uint32_t n, uint32_t from,
                                       shf_au32 *entries) {
    return commit_push(q, numbers, n, from, entries);
}

/* If n items woke n sleepers, more may sleep: for those the flag is set again, unless items have come meanwhile, when
 * it was clear: then these wake their own. */
static SHF_COLD void wake_up(struct shf_queue *q, struct shf_wake w) {
    if (w.sleepers & SHF_SLEEPS_ANY) {
        shf__crash_point();
        atomic_fetch_add_explicit(&q->set->shm->any, 1, memory_order_release);
        os_futex_wake(&q->set->shm->any, INT32_MAX);
    }
    while (w.sleepers & SHF_SLEEPS_HERE) {
        int woken = os_futex_wake(&q->shm->wake, w.n < INT32_MAX ? (int)w.n : INT32_MAX);
        if (woken < 0 || (uint32_t)woken < w.n) return; /* nobody sleeps any more */
        uint64_t before = shf__registry_be_patient(SHF_SHORT_PATIENCE_NS); /* what was pushed is pushed */
        int rc = lock_tail(q);
        shf__registry_patience_ns = before;
        if (rc != SHF_OK) return; /* they look for themselves at their tick */
        uint64_t tail = shm_load_relaxed(&q->shm->tail);
        if (tail == w.tail) {
            shm_store_relaxed32(&q->shm->sleepers, shm_load_relaxed32(&q->shm->sleepers) | SHF_SLEEPS_HERE);
            w.sleepers = 0;
        }
        shf__unlock(&q->shm->tail_word);
        w.n = (uint32_t)(tail - w.tail);
        w.tail = tail;
    }
}
void shf__queue_wake(struct shf_queue *q, const struct shf_wake *w) {
    if (w->sleepers != 0) wake_up(q, *w);
}

static SHF_COLD int invalid_item(const struct shf_queue_set *set, uint32_t number) {
    return shf__fail(SHF_ERR_INVALID_ITEM, 0, "queue: push", set->region.path,
                     "%s: item %u is not held by this handle: pushed already, of another set, or inherited by fork",
                     set->region.path, number);
}

/* ---- pulling ------------------------------------------------------------------------------------------ */

/* This handle's life, with its hand prepared; 0: an error is recorded. */
static inline uint32_t ready(struct shf_queue_set *set, int *rc) {
    uint32_t me = shf__registry_owner(&set->registry);
    if (SHF_LIKELY(me != 0 && me == atomic_load_explicit(&set->ready, memory_order_acquire))) return me;
    *rc = shf__queue_ready_slow(set, me);
    return *rc == SHF_OK ? shf__registry_owner(&set->registry) : 0;
}

static inline uint32_t place_take(struct shf_queue_set *set) {
    const uint64_t all = SHF_HAND_SINGLES >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << SHF_HAND_SINGLES % 64) - 1;
    for (uint32_t w = 0; w < sizeof set->used / sizeof set->used[0]; w++) {
        uint64_t used = atomic_load_explicit(&set->used[w], memory_order_relaxed);
        while ((used & all) != all) {
            uint32_t bit = (uint32_t)__builtin_ctzll(~used & all);
            if (SHF_LIKELY(!(atomic_fetch_or_explicit(&set->used[w], UINT64_C(1) << bit, memory_order_acquire) &
                             UINT64_C(1) << bit)))
                return w * 64 + bit;
            used = atomic_load_explicit(&set->used[w], memory_order_relaxed);
        }
    }
    return SHF_IN_WORDS;
}
/* An item's entry is 0 again: its place may be given out, or its lease be filled. */
static inline void place_give(struct shf_queue_set *set, uint32_t place) {
    if (place < SHF_HAND_SINGLES)
        atomic_fetch_and_explicit(&set->used[place / 64], ~(UINT64_C(1) << place % 64), memory_order_release);
    else if (place != SHF_IN_WORDS)
        atomic_fetch_sub_explicit(&set->taken[(place - SHF_HAND_SINGLES) / SHF_HAND_LEASE], 1, memory_order_release);
}

/* Perhaps. The line of the pushers is only looked at when the last look at it knew of no more. */
static inline int may_have(const struct shf_queue *q) {
    uint64_t head = shm_load_relaxed(&q->shm->head);
    return shm_load_relaxed(&q->shm->seen_tail) - head - 1 < q->set->items ||
           shm_load_acquire(&q->shm->tail) != head; /* T2 */
}

/* How many of n items can be pulled: 0 if none; under the head lock. -1: damaged. */
static inline int64_t available(struct shf_queue *q, uint64_t head, uint32_t n) {
    struct shf_shm_queue *shm = q->shm;
    uint64_t there = shm_load_relaxed(&shm->seen_tail) - head;
    if (there < n || there > q->set->items) {
        uint64_t tail = shm_load_acquire(&shm->tail); /* T2 */
        there = tail - head;
        if (SHF_UNLIKELY(there > q->set->items)) return -1;
        shm_store_relaxed(&shm->seen_tail, tail);
    }
    return (int64_t)(there < n ? there : n);
}

/* The number at `head`, which is in the queue; under the head lock. `looked`: at the tail, just now. */
static inline uint32_t number_at(const struct shf_queue *q, uint64_t head, int looked) {
    uint64_t name = head + 1; /* 0 in a new queue names nothing */
    uint64_t recent = looked ? shm_load_relaxed(&q->shm->recent[head % SHF_RECENT]) : ~(name << 32);
    return recent >> 32 == (uint32_t)name ? (uint32_t)recent : shm_load_relaxed32(&q->ring[head & q->set->mask]);
}

/* The queue is empty: looks after the dead, if nobody did for a while. 1 if it is worth another look. */
static SHF_COLD int look_again(struct shf_queue *q) {
    (void)shf__queue_sweep(q->set, SHF_SWEEP_DUE); /* a queue that cannot be repaired shows itself to its users */
    return !shf__queue_is_empty(q);
}

static SHF_COLD int damaged(struct shf_queue *q, const char *place, uint64_t where) {
    shf__unlock(&q->shm->head_word);
    return shf__queue_corrupt(q->set, place, where);
}

/* One try, into that place of the hand, which is given back if it fails. SHF_NOT_FOUND: the queue is empty. */
static inline int pull_one(struct shf_queue *q, struct shf_item *item, uint32_t me, uint32_t place) {
    struct shf_queue_set *set = q->set;
    struct shf_shm_queue *shm = q->shm;
    shf_au32 *hand = atomic_load_explicit(&set->hand, memory_order_relaxed);
    if (SHF_UNLIKELY(place == SHF_IN_WORDS)) shf__queue_use_words(set, me);
    int rc = lock_head(q);
    if (SHF_UNLIKELY(rc != SHF_OK)) {
        place_give(set, place);
        return rc;
    }
    uint64_t head = shm_load_relaxed(&shm->head), seen = shm_load_relaxed(&shm->seen_tail);
    int64_t n = available(q, head, 1);
    uint32_t x = SHF_LIKELY(n == 1) ? number_at(q, head, seen == head) : 0; /* an empty queue's is being written */
    if (SHF_UNLIKELY(n != 1 || x >= set->items || (place == SHF_IN_WORDS && shm_load_relaxed32(&set->words[x]) != 0))) {
        place_give(set, place);
        if (n == 0) {
            shf__unlock(&shm->head_word);
            return SHF_NOT_FOUND;
        }
        return n < 0 ? damaged(q, "queue: tail is not behind head", head)
                     : damaged(q, "queue: a ring entry names no item, or one that is held", x);
    }
    if (RECOVERY) {
        shm_store_release32(&shm->into,
                            place == SHF_IN_WORDS ? place : shf__queue_place(SHF_OWNER_SLOT(me), place)); /* V4 */
        shm_store_release(&shm->new_head, head + 1);                                                      /* A1 */
        shf_compiler_fence();
        __builtin_prefetch(set->data + x * set->stride);
        if (place == SHF_IN_WORDS)
            shm_store_relaxed32(&set->words[x], shf_word_of(me, q->index));
        else
            shm_store_relaxed32(&hand[place], shf_hand_entry(x, q->index));
    }
    shm_store_release(&shm->head, head + 1); /* H1 */
    shf__unlock(&shm->head_word);
    item->data = set->data + x * set->stride;
    item->number = x;
    item->place = place;
    item->owner = me;
    item->home = q->index;
    return SHF_OK;
}

#define NO_PLACE (SHF_IN_WORDS - 1) /* none was taken yet */

/* With a place that the caller has, or NO_PLACE. */
static inline int pull(struct shf_queue *q, struct shf_item *item, uint32_t place) {
    struct shf_queue_set *set = q->set;
    int rc = SHF_OK;
    uint32_t me = ready(set, &rc);
    for (int looks = 0; SHF_LIKELY(me != 0) && looks < 2; looks++) {
        if (SHF_LIKELY(may_have(q))) {
            if (place == NO_PLACE)
                place = SHF_LIKELY(atomic_load_explicit(&set->hand, memory_order_relaxed) != NULL) ? place_take(set)
                                                                                                   : SHF_IN_WORDS;
            rc = pull_one(q, item, me, place);
            if (SHF_LIKELY(rc != SHF_NOT_FOUND)) return rc;
            place = NO_PLACE;
        }
        if (looks == 0 && !look_again(q)) break;
    }
    if (place != NO_PLACE) place_give(set, place);
    if (SHF_UNLIKELY(me == 0)) return rc;
    return shf__queue_rearm(q);
}

int shf_queue_pull(struct shf_queue *q, struct shf_item *item) {
    SHF_CHECK_ARGS(q != NULL && item != NULL);
    return pull(q, item, NO_PLACE);
}

/* The place stays the caller's. */
static inline int push(struct shf_queue *q, struct shf_item *item) {
    struct shf_queue_set *set = q->set;
    uint32_t number = item->number, place = item->place, me = shf__registry_owner(&set->registry);
    /* The address tells sets and handles of one process apart: their owners may have the same number. */
    if (SHF_UNLIKELY(item->data != set->data + number * set->stride || me == 0 || item->owner != me ||
                     number >= set->items || (place >= SHF_HAND_PLACES && place != SHF_IN_WORDS) ||
                     item->home >= SHF_QUEUES_MAX))
        return invalid_item(set, number);
    shf_au32 *hand = atomic_load_explicit(&set->hand, memory_order_relaxed);
    shf_au32 *entry = place == SHF_IN_WORDS ? &set->words[number] : hand != NULL ? &hand[place] : NULL;
    uint32_t held = place == SHF_IN_WORDS ? shf_word_of(me, item->home) : shf_hand_entry(number, item->home);
    int rc = lock_tail(q);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_UNLIKELY(entry == NULL || (RECOVERY && shm_load_relaxed32(entry) != held))) {
        shf__unlock(&q->shm->tail_word);
        return invalid_item(set, number);
    }
    uint32_t from = place == SHF_IN_WORDS ? place : shf__queue_place(SHF_OWNER_SLOT(me), place);
    struct shf_wake w = commit_push(q, &number, 1, from, place == SHF_IN_WORDS ? NULL : entry);
    shf__unlock(&q->shm->tail_word);
    item->data = NULL;
    if (SHF_UNLIKELY(w.sleepers != 0)) wake_up(q, w);
    return SHF_OK;
}

int shf_queue_push(struct shf_queue *q, struct shf_item *item) {
    SHF_CHECK_ARGS(q != NULL && item != NULL);
    int rc = push(q, item);
    if (SHF_LIKELY(rc == SHF_OK)) place_give(q->set, item->place);
    return rc;
}

int shf_queue_exchange(struct shf_queue *to, struct shf_item *item, struct shf_queue *from) {
    SHF_CHECK_ARGS(to != NULL && item != NULL && from != NULL);
    if (SHF_UNLIKELY(to->set != from->set)) return shf__queue_other_handle(to, "queue: exchange");
    int rc = push(to, item);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (SHF_LIKELY(item->place < SHF_HAND_SINGLES)) return pull(from, item, item->place);
    place_give(to->set, item->place);
    return pull(from, item, NO_PLACE);
}

int shf_item_return(struct shf_queue_set *set, struct shf_item *item) {
    SHF_CHECK_ARGS(set != NULL && item != NULL);
    int count = shf__queue_know(set);
    if (count < 0) return count;
    if (item->data == NULL || item->home >= (uint32_t)count) return invalid_item(set, item->number);
    uint64_t before = shf__registry_be_patient(SHF_SHORT_PATIENCE_NS); /* who gives back has no use for a long wait */
    int rc = shf_queue_push(&set->queues[item->home], item);
    shf__registry_patience_ns = before;
    return rc;
}

/* ---- batches ------------------------------------------------------------------------------------------ */

int shf_batch_new(struct shf_queue_set *set, uint32_t capacity, struct shf_batch **batch) {
    SHF_CHECK_ARGS(set != NULL && batch != NULL);
    if (capacity == 0 || capacity > set->items)
        return shf__fail(SHF_ERR_INVALID, 0, "batch", set->region.path, "%s: a batch of %u items; the set has 1 to %u",
                         set->region.path, capacity, set->items);
    struct shf_batch *b = calloc(1, sizeof *b + (size_t)capacity * sizeof b->numbers[0]);
    if (b == NULL)
        return shf__fail(SHF_ERR_NO_MEMORY, ENOMEM, "batch", set->region.path, "%s: no memory for a batch",
                         set->region.path);
    b->set = set;
    b->capacity = capacity;
    b->lease = SHF_HAND_LEASES;
    shf__queue_enter(set);
    for (uint32_t k = 0; capacity <= SHF_HAND_LEASE && k < SHF_HAND_LEASES && b->lease == SHF_HAND_LEASES; k++)
        if (!(atomic_fetch_or_explicit(&set->leases, 1u << k, memory_order_relaxed) & 1u << k)) b->lease = k;
    b->next = set->batches;
    b->link = &set->batches;
    set->batches = b; /* first: a fork may copy the list at any instant */
    shf_compiler_fence();
    if (b->next != NULL) b->next->link = &b->next;
    shf__queue_leave(set);
    *batch = b;
    return SHF_OK;
}

void shf_batch_free(struct shf_batch *b) {
    if (b == NULL) return;
    struct shf_queue_set *set = b->set;
    uint64_t before = shf__registry_be_patient(SHF_SHORT_PATIENCE_NS);
    /* In a forked child they are the parent's: the push refuses. What a stopped process keeps, close gives back. */
    if (b->count != 0) (void)shf_queue_push_many(&set->queues[b->home], b);
    shf__registry_patience_ns = before;
    shf__queue_enter(set);
    if (b->next != NULL) b->next->link = b->link;
    shf_compiler_fence();
    *b->link = b->next;
    if (b->lease < SHF_HAND_LEASES && (b->count == 0 || b->owner != shf__registry_own(&set->registry)))
        atomic_fetch_and_explicit(&set->leases, ~(1u << b->lease), memory_order_relaxed);
    shf__queue_leave(set);
    free(b);
}

uint32_t shf_batch_count(const struct shf_batch *b) { return b != NULL ? b->count : 0; }
uint32_t shf_batch_capacity(const struct shf_batch *b) { return b != NULL ? b->capacity : 0; }
void *shf_batch_data(const struct shf_batch *b, uint32_t i) {
    return b != NULL && i < b->count ? b->set->data + b->numbers[b->first + i] * b->set->stride : NULL;
}
const uint32_t *shf_batch_numbers(const struct shf_batch *b) { return b != NULL ? b->numbers + b->first : NULL; }

int shf_batch_take(struct shf_batch *b, struct shf_item *item) {
    SHF_CHECK_ARGS(b != NULL && item != NULL);
    if (b->count == 0) return SHF_NOT_FOUND;
    struct shf_queue_set *set = b->set;
    if (SHF_UNLIKELY(b->owner != shf__registry_owner(&set->registry))) return invalid_item(set, b->numbers[b->first]);
    item->number = b->numbers[b->first];
    item->data = set->data + item->number * set->stride;
    item->owner = b->owner;
    item->home = b->home;
    item->place = b->place == SHF_IN_WORDS ? b->place : b->place + b->first;
    if (b->place != SHF_IN_WORDS) atomic_fetch_add_explicit(&set->taken[b->lease], 1, memory_order_relaxed);
    b->first++;
    b->count--;
    return SHF_OK;
}

/* All of words[numbers[..]] are 0, and then HELD. */
static int words_are(const struct shf_queue_set *set, const uint32_t *numbers, uint32_t n, uint32_t word) {
    uint32_t other = 0;
    for (uint32_t i = 0; i < n; i++) other |= shm_load_relaxed32(&set->words[numbers[i]]) ^ word;
    return other == 0;
}

static int pull_batch(struct shf_queue *q, struct shf_batch *b, uint32_t want, uint32_t me) {
    struct shf_queue_set *set = q->set;
    struct shf_shm_queue *shm = q->shm;
    shf_au32 *hand = atomic_load_explicit(&set->hand, memory_order_relaxed);
    uint32_t place = SHF_IN_WORDS;
    if (SHF_LIKELY(hand != NULL && b->lease < SHF_HAND_LEASES &&
                   atomic_load_explicit(&set->taken[b->lease], memory_order_acquire) == 0))
        place = SHF_HAND_SINGLES + b->lease * SHF_HAND_LEASE;
    else
        shf__queue_use_words(set, me);
    int rc = lock_head(q);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    uint64_t head = shm_load_relaxed(&shm->head);
    int64_t there = available(q, head, want);
    if (SHF_UNLIKELY(there < 0)) return damaged(q, "queue: tail is not behind head", head);
    if (there == 0) {
        shf__unlock(&shm->head_word);
        return SHF_NOT_FOUND;
    }
    uint32_t n = (uint32_t)there;
    if (SHF_UNLIKELY(!ring_read(q, head, b->numbers, n))) return damaged(q, "queue: a ring entry names no item", head);
    if (SHF_UNLIKELY(place == SHF_IN_WORDS && !words_are(set, b->numbers, n, 0)))
        return damaged(q, "queue: a ring entry names an item that is held", head);
    if (RECOVERY) {
        shm_store_release32(&shm->into,
                            place == SHF_IN_WORDS ? place : shf__queue_place(SHF_OWNER_SLOT(me), place)); /* V4 */
        shm_store_release(&shm->new_head, head + n);                                                      /* A1 */
        shf_compiler_fence();
        if (place == SHF_IN_WORDS)
            for (uint32_t i = 0; i < n; i++) shm_store_relaxed32(&set->words[b->numbers[i]], shf_word_of(me, q->index));
        else
            hold(hand + place, b->numbers, n, shf_hand_entry(0, q->index));
    }
    shm_store_release(&shm->head, head + n); /* H1 */
    shf__unlock(&shm->head_word);
    b->first = 0;
    b->count = n;
    b->owner = me;
    b->home = q->index;
    b->place = place;
    return SHF_OK;
}

int shf_queue_pull_many(struct shf_queue *q, struct shf_batch *b, uint32_t n) {
    SHF_CHECK_ARGS(q != NULL && b != NULL);
    if (SHF_UNLIKELY(q->set != b->set)) return shf__queue_other_handle(q, "queue: pull");
    int rc = SHF_OK;
    uint32_t me = ready(q->set, &rc);
    if (SHF_UNLIKELY(me == 0)) return rc;
    if (SHF_UNLIKELY(b->count != 0 && b->owner == me)) /* else they are the parent's of a forked child */
        return shf__fail(SHF_ERR_INVALID, 0, "batch", q->set->region.path, "%s: the batch to be filled holds %u items",
                         q->set->region.path, b->count);
    b->count = 0;
    if (n == 0 || n > b->capacity) n = b->capacity;
    for (int looks = 0; looks < 2; looks++) {
        if (SHF_LIKELY(may_have(q))) {
            rc = pull_batch(q, b, n, me);
            if (SHF_LIKELY(rc != SHF_NOT_FOUND)) return rc;
        }
        if (looks == 0 && !look_again(q)) break;
    }
    return shf__queue_rearm(q);
}

int shf_queue_push_many(struct shf_queue *q, struct shf_batch *b) {
    SHF_CHECK_ARGS(q != NULL && b != NULL);
    struct shf_queue_set *set = q->set;
    if (b->count == 0) return SHF_OK;
    const uint32_t *numbers = b->numbers + b->first;
    uint32_t n = b->count, me = shf__registry_owner(&set->registry);
    if (SHF_UNLIKELY(me == 0 || b->owner != me || b->set != set)) return invalid_item(set, numbers[0]);
    shf_au32 *hand = atomic_load_explicit(&set->hand, memory_order_relaxed);
    uint32_t from = SHF_IN_WORDS;
    shf_au32 *entries = NULL;
    if (SHF_LIKELY(b->place != SHF_IN_WORDS)) {
        from = shf__queue_place(SHF_OWNER_SLOT(me), b->place + b->first);
        entries = hand + b->place + b->first;
    }
    int rc = lock_tail(q);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc;
    if (RECOVERY && SHF_UNLIKELY(entries != NULL ? !holds(entries, numbers, n, shf_hand_entry(0, b->home))
                                                 : !words_are(set, numbers, n, shf_word_of(me, b->home)))) {
        shf__unlock(&q->shm->tail_word);
        return invalid_item(set, numbers[0]);
    }
    struct shf_wake w = commit_push(q, numbers, n, from, entries);
    shf__unlock(&q->shm->tail_word);
    b->count = 0;
    if (SHF_UNLIKELY(w.sleepers != 0)) wake_up(q, w);
    return SHF_OK;
}

int shf_queue_exchange_many(struct shf_queue *to, struct shf_batch *b, struct shf_queue *from, uint32_t n) {
    SHF_CHECK_ARGS(to != NULL && b != NULL && from != NULL);
    if (SHF_UNLIKELY(to->set != from->set || to->set != b->set)) return shf__queue_other_handle(to, "queue: exchange");
    int rc = shf_queue_push_many(to, b);
    return rc == SHF_OK ? shf_queue_pull_many(from, b, n) : rc;
}
