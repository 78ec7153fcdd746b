// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * queue_home.c - queues: what the dead hold comes home; the first pull of a life; its close
 *
 * WHAT       D1-D4 of queue.c, for a dead life (sweep), for the life before in one's own slot (ready), for oneself
 *            (close).
 * NOT        The repair of one queue after a death: queue_move.c does that at each take of a lock.
 *
 * WHEN       A sweep is due if nobody made one for 20 ms; a waiter asks at each tick of at most 40 ms. It asks the
 *            kernel once for each life that has ever pulled and has not closed: 0.3 us. Of those that are alive two at
 *            a time are asked whether their process is over, though the kernel still holds their lock (it has gigabytes
 *            to take down): 50 us each. Bringing home is O(places of a hand), with words in use O(items), once for each
 *            death.
 * WAITING    A sweep that nobody asked for waits 20 ms at most for a queue that a stopped process keeps locked, leaves
 *            what needs that lock, and nobody sweeps for 60 ms: a stopped process must not slow all pollers down. What
 *            was asked for, and ready, wait to the handle's deadline.
 */
#include "queue.h"

#define EVERY_NS UINT64_C(20000000)
#define AFTER_FAILURE_NS UINT64_C(60000000)
#define PATIENCE_NS UINT64_C(20000000)
#define ASK_AGAIN_NS UINT64_C(100000000)
#define OVER_AT_A_TIME 2u
#define RUN 256u /* items brought home under one lock */

/* The life whose things are brought home. */
struct late {
    struct shf_queue_set *set;
    uint32_t slot, life; /* life: as it stands in lives[slot] */
    uint32_t queues;     /* that are known */
    int own;             /* the slot is this handle's: nobody needs to be asked about the life */
    int closing;         /* it is this handle's own life, which is in the middle of nothing */
    uint64_t asked;      /* when it was last known to be dead */
    struct kept *kept;
};
/* Queues whose lock could not be had: a stopped process costs a sweep its patience once, not for each of its items. */
struct kept {
    uint64_t bits[(SHF_QUEUES_MAX + 63) / 64];
};

static int lock(struct late *l, uint32_t i, int (*take)(struct shf_queue *)) {
    uint64_t bit = UINT64_C(1) << i % 64;
    if (l->kept->bits[i / 64] & bit) return SHF_ERR_TIMEOUT;
    int rc = take(&l->set->queues[i]);
    if (rc != SHF_OK) l->kept->bits[i / 64] |= bit;
    return rc;
}
static int lock_tail(struct late *l, uint32_t i) { return lock(l, i, shf__queue_lock_tail); }
static int lock_head(struct late *l, uint32_t i) { return lock(l, i, shf__queue_lock_head); }

static uint32_t owner_of(const struct late *l) { return SHF_OWNER(l->slot, l->life & SHF_GENERATION_MASK); }

static int is_dead(struct shf_queue_set *set, uint32_t owner) {
    return shf__registry_is_dead(&set->registry, owner) || shf__registry_is_over(&set->registry, owner);
}

/* D3, under a tail lock, after a look at entries [V2]: they are that life's. A new life of the slot may have begun long
 * before we got this lock, and hold the same item in the same place; then lives[slot] is another. If it begins later,
 * it needs this lock to empty those entries first. */
static int is_still(struct late *l) {
    struct shf_queue_set *set = l->set;
    shf_fence_acquire(); /* V2 */
    if (shm_load_acquire32(&set->lives[l->slot]) != l->life) return 0;
    if (l->own) return 1;
    uint64_t now = os_now_coarse_ns();
    if (now - l->asked > ASK_AGAIN_NS) {
        if (!is_dead(set, owner_of(l))) return 0;
        l->asked = now;
    }
    return 1;
}

/* 1 if a step that names `at` may be about what the dead one holds. Not those of the living: one of them that is
 * stopped in the middle of a step must not keep the dead one's things from coming home. */
static int concerns(const struct late *l, uint32_t at) {
    return at == SHF_IN_WORDS ? (l->life & SHF_LIFE_WORDS) != 0 : at >> SHF_HAND_PLACE_BITS == l->slot;
}
/* 1 if no step is armed there that is about what the dead one holds. `at` after `new` and before `old`: if it is a
 * later step's, the one before was repaired before that [V4]. */
static int is_quiet(const struct late *l, const shf_au64 *old, const shf_au64 *new, const shf_au32 *at) {
    uint64_t n = shm_load_acquire(new);
    uint32_t where = shm_load_acquire32(at);
    return shm_load_acquire(old) == n || !concerns(l, where);
}
/* After the verdict: 1 if the dead one is certainly not in the middle of a step here, whoever has the lock. Owner
 * first: who takes over repairs what he finds before he does anything else. */
static int is_past(const struct late *l, const shf_au32 *word, const shf_au64 *old, const shf_au64 *new,
                   const shf_au32 *at) {
    return shm_load_acquire32(word) >> 2 != owner_of(l) && is_quiet(l, old, new, at);
}

/* D2. A lock that a stopped process keeps elsewhere is no obstacle. */
static int pass_all(struct late *l) {
    for (uint32_t i = 0; i < l->queues; i++) {
        struct shf_queue *q = &l->set->queues[i];
        struct shf_shm_queue *shm = q->shm;
        int rc = SHF_OK;
        if (!is_past(l, &shm->head_word, &shm->head, &shm->new_head, &shm->into)) {
            if ((rc = lock_head(l, i)) != SHF_OK) return rc;
            shf__unlock(&shm->head_word);
        }
        if (!is_past(l, &shm->tail_word, &shm->tail, &shm->new_tail, &shm->from)) {
            if ((rc = lock_tail(l, i)) != SHF_OK) return rc;
            shf__unlock(&shm->tail_word);
        }
    }
    return SHF_OK;
}

/* D3 for n items with one home, held at `from`: by `holders` of the hand, or by their words (NULL), with `held` there.
 * Those that are not held any more were brought home by somebody else. */
static int bring(struct late *l, uint32_t home, const uint32_t *numbers, const uint32_t *held, uint32_t n,
                 uint32_t from, shf_au32 *holders) {
    struct shf_queue *q = &l->set->queues[home];
    struct shf_wake wake = {0, 0, 0};
    unsigned char same[RUN];
    uint32_t brought = 0, sleepers = 0;
    int rc = lock_tail(l, home);
    if (rc != SHF_OK) return rc;
    for (uint32_t i = 0; i < n; i++)
        same[i] = shm_load_relaxed32(holders != NULL ? holders + i : &l->set->words[numbers[i]]) == held[i];
    for (uint32_t i = 0, k; is_still(l) && i < n; i = k) {
        for (k = i; k < n && same[k] == same[i]; k++) {}
        if (!same[i]) continue;
        wake = shf__queue_commit_push(q, numbers + i, k - i, holders != NULL ? from + i : from,
                                      holders != NULL ? holders + i : NULL);
        brought += k - i;
        sleepers |= wake.sleepers;
    }
    if (brought != 0) shm_store_relaxed(&q->shm->returned, shm_load_relaxed(&q->shm->returned) + brought);
    shf__unlock(&q->shm->tail_word);
    wake.sleepers = sleepers;
    wake.n = brought;
    shf__queue_wake(q, &wake);
    return SHF_OK;
}

/* An entry that names no item or no queue: somebody has written over it. There is nothing to bring home. */
static int forget(struct late *l, shf_au32 *holder, uint32_t held) {
    struct shf_queue *q = &l->set->queues[0];
    int rc = lock_tail(l, 0);
    if (rc != SHF_OK) return rc;
    if (shm_load_relaxed32(holder) == held && is_still(l)) shm_store_relaxed32(holder, 0);
    shf__unlock(&q->shm->tail_word);
    return SHF_OK;
}

static int is_entry(const struct late *l, uint32_t e) {
    return e != 0 && (e & SHF_HAND_ITEM_MASK) < l->set->items && shf_hand_home(e) < l->queues;
}

static void keep_first(int *first, int rc) {
    if (*first == SHF_OK) *first = rc;
}

static int empty_hand(struct late *l) {
    shf_au32 *hand = shf__queue_hand_of(l->set, l->slot);
    uint32_t numbers[RUN], held[RUN];
    int rc = SHF_OK;
    if (hand == NULL) /* out of reach is not empty */
        return shm_load_acquire32(&l->set->hands[l->slot]) == 0
                   ? SHF_OK
                   : shf__queue_corrupt(l->set, "queue: a hand that is not there", l->slot);
    for (uint32_t place = 0; place < SHF_HAND_PLACES;) {
        uint32_t n = 0, home = 0;
        for (; n < RUN && place + n < SHF_HAND_PLACES; n++) {
            uint32_t e = shm_load_relaxed32(&hand[place + n]);
            if (!is_entry(l, e) || (n != 0 && shf_hand_home(e) != home)) {
                if (n == 0 && e != 0) keep_first(&rc, forget(l, &hand[place], e));
                break;
            }
            home = shf_hand_home(e);
            held[n] = e;
            numbers[n] = e & SHF_HAND_ITEM_MASK;
        }
        if (n != 0) keep_first(&rc, bring(l, home, numbers, held, n, shf__queue_place(l->slot, place), hand + place));
        place += n != 0 ? n : 1;
    }
    return rc;
}

static int empty_words(struct late *l) {
    struct shf_queue_set *set = l->set;
    uint32_t numbers[RUN], held[RUN], n = 0, home = 0, mine = shf_word_of(owner_of(l), 0);
    int rc = SHF_OK;
    for (uint32_t i = 0; i <= set->items; i++) {
        uint32_t w = i < set->items ? shm_load_relaxed32(&set->words[i]) : 0, to = w & SHF_WORD_HOME_MASK;
        int is_mine = i < set->items && (w & ~SHF_WORD_HOME_MASK) == mine;
        if (is_mine && to >= l->queues) {
            keep_first(&rc, forget(l, &set->words[i], w));
            continue;
        }
        if (n != 0 && (n == RUN || i == set->items || (is_mine && to != home))) {
            keep_first(&rc, bring(l, home, numbers, held, n, SHF_IN_WORDS, NULL));
            n = 0;
        }
        if (!is_mine) continue;
        home = to;
        held[n] = w;
        numbers[n++] = i;
    }
    return rc;
}

static int holds_some(struct late *l) {
    shf_au32 *hand = shf__queue_hand_of(l->set, l->slot);
    uint32_t any = 0;
    for (uint32_t place = 0; hand != NULL && place < SHF_HAND_PLACES; place++) any |= shm_load_relaxed32(&hand[place]);
    return any != 0;
}

/* One who brought the same things home may have died when the last entry was empty: a push is armed, and after D4 no
 * life would tell of it. */
static int finish_armed(struct late *l) {
    shf_fence_acquire(); /* V3: the empty entries before new_tail */
    for (uint32_t i = 0; i < l->queues; i++) {
        struct shf_queue *q = &l->set->queues[i];
        if (is_quiet(l, &q->shm->tail, &q->shm->new_tail, &q->shm->from)) continue;
        int rc = lock_tail(l, i);
        if (rc != SHF_OK) return rc;
        shf__unlock(&q->shm->tail_word);
    }
    return SHF_OK;
}

/* D3 and D4, as far as the locks can be had. */
static int bring_home(struct late *l, uint64_t patience) {
    uint64_t before = shf__registry_be_patient(patience != 0 ? patience : SHF_WAIT_FOREVER);
    int rc = l->closing ? SHF_OK : pass_all(l);
    if (rc == SHF_OK) {
        rc = empty_hand(l);
        if (l->life & SHF_LIFE_WORDS) keep_first(&rc, empty_words(l));
    }
    int some = holds_some(l); /* then somebody writes there who should not */
    if (rc == SHF_OK && !some) rc = finish_armed(l);
    if (rc == SHF_OK && !some) {
        uint32_t life = l->life;
        shm_cas_acq_rel32(&l->set->lives[l->slot], &life, 0); /* D4 */
    }
    shf__registry_patience_ns = before;
    return rc;
}

/* ---- a life's first pull -------------------------------------------------------------------------------- */

static shf_au32 *prepare_hand(struct shf_queue_set *set, uint32_t slot) {
    uint64_t before = shf__registry_be_patient(SHF_SHORT_PATIENCE_NS); /* it works without */
    uint32_t page;
    if (shm_load_acquire32(&set->hands[slot]) == 0 && shf__queue_grow(set, SHF_HAND_BYTES, &page, 1) == SHF_OK)
        shm_store_release32(&set->hands[slot], page); /* of zeros: the file's end has never been in use */
    shf__registry_patience_ns = before;
    return shf__queue_hand_of(set, slot);
}

int shf__queue_ready_slow(struct shf_queue_set *set, uint32_t me) {
    if (me == 0) return shf_last_error()->code; /* why it could not register, or read-only */
    int count = shf__queue_know(set), rc = SHF_OK;
    struct kept kept = {{0}};
    if (count < 0) return count;
    uint32_t slot = SHF_OWNER_SLOT(me);
    shf__queue_enter(set);
    if (atomic_load_explicit(&set->ready, memory_order_relaxed) != me) {
        struct late l = {set, slot, shm_load_acquire32(&set->lives[slot]), (uint32_t)count, 1, 0, 0, &kept};
        if (l.life != 0) rc = bring_home(&l, 0);
        if (rc == SHF_OK) {
            for (uint32_t i = 0; i < sizeof set->used / sizeof set->used[0]; i++)
                atomic_store_explicit(&set->used[i], 0, memory_order_relaxed);
            for (uint32_t i = 0; i < SHF_HAND_LEASES; i++)
                atomic_store_explicit(&set->taken[i], 0, memory_order_relaxed);
            atomic_store_explicit(&set->hand, prepare_hand(set, slot), memory_order_relaxed);
            shm_store_release32(&set->lives[slot], SHF_OWNER_GENERATION(me)); /* V1 */
            shf_fence_release(); /* before the first entry; pairs with V2 */
            atomic_store_explicit(&set->ready, me, memory_order_release);
        }
    }
    shf__queue_leave(set);
    return rc;
}

void shf__queue_use_words(struct shf_queue_set *set, uint32_t me) {
    shf_au32 *life = &set->lives[SHF_OWNER_SLOT(me)];
    if (!(shm_load_relaxed32(life) & SHF_LIFE_WORDS))
        shm_store_release32(life, SHF_OWNER_GENERATION(me) | SHF_LIFE_WORDS); /* V1 */
}

/* What stays behind a lock that a stopped process keeps is brought home by others: this life is over then. */
void shf__queue_let_go(struct shf_queue_set *set) {
    uint32_t me = set->region.read_only ? 0 : shf__registry_own(&set->registry);
    if (me == 0 || me != atomic_load_explicit(&set->ready, memory_order_acquire)) return;
    struct kept kept = {{0}};
    struct late l = {set,  SHF_OWNER_SLOT(me), 0, atomic_load_explicit(&set->known, memory_order_acquire), 1, 1, 0,
                     &kept};
    l.life = shm_load_acquire32(&set->lives[l.slot]);
    (void)bring_home(&l, SHF_SHORT_PATIENCE_NS);
    atomic_store_explicit(&set->ready, 0, memory_order_relaxed);
}

/* ---- the dead ------------------------------------------------------------------------------------------- */

/* 1 if it is this handle's turn. */
static int is_due(struct shf_queue_set *set, enum shf_sweep when, uint64_t now) {
    shf_au64 *swept = &set->shm->swept;
    uint64_t last = shm_load_relaxed(swept);
    /* Later than now: after a failure. Much later: another clock, or damage. */
    int wait = last > now ? last - now < 2 * AFTER_FAILURE_NS : now - last < EVERY_NS;
    if (wait && when == SHF_SWEEP_DUE) return 0;
    shf__crash_point();
    return atomic_compare_exchange_strong_explicit(swept, &last, now, memory_order_relaxed, memory_order_relaxed) ||
           when != SHF_SWEEP_DUE;
}

int shf__queue_sweep(struct shf_queue_set *set, enum shf_sweep when) {
    uint64_t now = os_now_coarse_ns();
    if (set->region.read_only || !is_due(set, when, now)) return SHF_OK;
    int count = shf__queue_know(set), rc = SHF_OK;
    struct kept kept = {{0}};
    if (count < 0) return count;
    uint32_t me = shf__registry_owner(&set->registry), asked = 0,
             turn = atomic_load_explicit(&set->over, memory_order_relaxed);
    for (uint32_t i = 1; i <= SHF_SLOT_COUNT; i++) {
        uint32_t slot = (turn + i) % SHF_SLOT_COUNT;
        struct late l = {set, slot, shm_load_acquire32(&set->lives[slot]), (uint32_t)count, 0, 0, now, &kept};
        if (l.life == 0 || owner_of(&l) == me) continue;
        int dead = shf__registry_is_dead(&set->registry, owner_of(&l));
        if (!dead && asked < OVER_AT_A_TIME) {
            asked++;
            atomic_store_explicit(&set->over, slot, memory_order_relaxed);
            dead = shf__registry_is_over(&set->registry, owner_of(&l));
        }
        if (!dead) continue;
        if ((count = shf__queue_know(set)) < 0) return count; /* after the verdict: all queues that it can have used */
        l.queues = (uint32_t)count;
        int failed = bring_home(&l, when == SHF_SWEEP_ASKED ? 0 : PATIENCE_NS);
        if (rc == SHF_OK) rc = failed;
    }
    if (rc != SHF_OK) shm_store_relaxed(&set->shm->swept, os_now_coarse_ns() + AFTER_FAILURE_NS);
    return rc;
}
