/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * queue.h - zero-copy queues: what lies in shared memory, and how the parts of the engine share it
 *
 * The protocol is at the top of queue.c. Layer: lock <- queue.c (opening) <- queue_move.c (pull, push, batches) <-
 * queue_home.c (first pull, the dead) <- queue_wait.c, queue_check.c.
 */
#ifndef SHF_QUEUE_ENGINE_H
#define SHF_QUEUE_ENGINE_H

#include "lock.h"
#include "os.h"

/* ---- shared memory ------------------------------------------------------------------------------------ */

/* The hand of a slot: what its life holds. Places [0, singles) are given out one by one; then come the leases, one for
 * each batch. */
#ifdef SHF_SMALL
#define SHF_HAND_SINGLES 8u
#define SHF_HAND_LEASE 8u
#else
#define SHF_HAND_SINGLES 1024u
#define SHF_HAND_LEASE SHF_BATCH_FAST
#endif
#define SHF_HAND_LEASES 4u
#define SHF_HAND_PLACES (SHF_HAND_SINGLES + SHF_HAND_LEASES * SHF_HAND_LEASE)
#define SHF_HAND_BYTES ((SHF_HAND_PLACES * 4u + SHF_PAGE - 1) / SHF_PAGE * SHF_PAGE)
/* An entry of a hand: item 24 | home + 1, 8 bits; 0 = none. */
#define SHF_HAND_ITEM_MASK (SHF_ITEMS_MAX - 1u)
static inline uint32_t shf_hand_entry(uint32_t item, uint32_t home) { return (home + 1) << 24 | item; }
static inline uint32_t shf_hand_home(uint32_t entry) { return (entry >> 24) - 1; } /* UINT32_MAX: no entry */
/* Which entries an armed pull or push is about: slot 10 | place 13; or the words. */
#define SHF_HAND_PLACE_BITS 13u
#define SHF_IN_WORDS UINT32_MAX
_Static_assert(SHF_HAND_PLACES <= 1u << SHF_HAND_PLACE_BITS, "a place has 13 bits");

/* An item's word: 0, or HELD 1 | slot 10 | generation's low 11 bits | home 10. */
#define SHF_WORD_HELD (1u << 31)
#define SHF_WORD_HOME_MASK 0x3ffu
static inline uint32_t shf_word_of(uint32_t owner, uint32_t home) {
    return SHF_WORD_HELD | SHF_OWNER_SLOT(owner) << 21 | (SHF_OWNER_GENERATION(owner) & 0x7ffu) << 10 | home;
}

/* A slot's entry in `lives`: the generation that may hold items; 0 = none does. */
#define SHF_LIFE_WORDS (1u << 31) /* it holds, or held, some in the words */

/* First page of the object. */
struct shf_shm_queue_set {
    shf_au32 count;    /*   0 queues there are; set lock, release */
    uint32_t pad0[15];
    shf_au32 word;     /*  64 the set lock: adding queues */
    uint32_t pad1[15];
    shf_au64 swept;    /* 128 when somebody last looked after the dead, monotonic ns; CAS */
    uint32_t pad2[14];
    shf_au32 any;      /* 192 futex of those who wait for several queues; moves with each wake */
    uint32_t pad3[975];
};
_Static_assert(sizeof(struct shf_shm_queue_set) == SHF_PAGE, "queue set");
_Static_assert(offsetof(struct shf_shm_queue_set, word) == 64, "queue set");
_Static_assert(offsetof(struct shf_shm_queue_set, swept) == 128, "queue set");
_Static_assert(offsetof(struct shf_shm_queue_set, any) == 192, "queue set");

#define SHF_RECENT 4u
/* Lines that different processes write lie 128 bytes apart: processors fetch the neighbour of a line with it. */
struct shf_shm_queue {
    shf_au64 name[8];      /*   0 zero-terminated; set lock, never changed */
    /* what pullers look at while they wait, apart from the lock of who pushes; both written under tail_word */
    shf_au64 tail;         /*  64 position of the next push */
    shf_au64 recent[SHF_RECENT]; /* 72 the last entries of the ring once more: position + 1, 32 | item 32 */
    shf_au32 ring;         /* 104 first page of the ring; set lock, never changed */
    uint32_t pad0[5];
    /* who pushes: all but tail_word written by its holder */
    shf_au32 tail_word;    /* 128 lock of who pushes */
    shf_au32 sleepers;     /* 132 SHF_SLEEPS_* */
    shf_au64 new_tail;     /* 136 != tail: a push of the ring's entries [tail, new_tail) is armed */
    shf_au32 from;         /* 144 where those items were held */
    shf_au32 wake;         /* 148 futex of the sleepers; moves with each wake */
    shf_au64 returned;     /* 152 items brought home from the dead, and from closed handles */
    shf_au32 tail_deaths;  /* 160 take-overs of tail_word */
    uint32_t pad1[23];
    /* who pulls: all but head_word written by its holder */
    shf_au32 head_word;    /* 256 lock of who pulls */
    shf_au32 into;         /* 260 where the items of an armed pull are going to be held */
    shf_au64 head;         /* 264 position of the next pull */
    shf_au64 new_head;     /* 272 != head: a pull of the ring's entries [head, new_head) is armed */
    shf_au64 seen_tail;    /* 280 a tail that a puller has seen: saves a look at its line */
    shf_au32 head_deaths;  /* 288 take-overs of head_word */
    uint32_t pad2[55];
};
_Static_assert(sizeof(struct shf_shm_queue) == 512, "queue");
_Static_assert(offsetof(struct shf_shm_queue, tail) == 64, "queue");
_Static_assert(offsetof(struct shf_shm_queue, tail_word) == 128, "queue");
_Static_assert(offsetof(struct shf_shm_queue, head_word) == 256, "queue");
#define SHF_SLEEPS_HERE 1u /* somebody sleeps on `wake` */
#define SHF_SLEEPS_ANY 2u  /* somebody sleeps on the set's `any` */

/* Pages of the object, from SHF_OBJECT_PAGE on: the set; lives; hands (page numbers); queues; words; items. */
#define SHF_SET_LIVES 1u
#define SHF_SET_HANDS 2u
#define SHF_SET_QUEUES 3u
#define SHF_SET_WORDS 35u
_Static_assert((SHF_SET_WORDS - SHF_SET_QUEUES) * SHF_PAGE >= SHF_QUEUES_MAX * sizeof(struct shf_shm_queue), "queues");

/* How long a lock is waited for where nobody depends on it: giving back, closing. */
#define SHF_SHORT_PATIENCE_NS UINT64_C(200000000)

/* ---- private ------------------------------------------------------------------------------------------ */

struct shf_queue {
    struct shf_queue_set *set;
    struct shf_shm_queue *shm;
    shf_au32 *ring;
    uint32_t index;
    _Atomic(struct shf_waker *) waker; /* queue_wait.c: feeds the descriptor; NULL: none was asked for */
    char name[SHF_QUEUE_NAME_MAX + 1];
};

struct shf_batch {
    struct shf_queue_set *set;
    struct shf_batch *next, **link; /* of the handle's list */
    uint32_t capacity, count, first; /* numbers[first .. first + count) are in it */
    uint32_t owner, home;            /* of the fill: who holds them, the queue they came from */
    uint32_t place;                  /* of numbers[0] in the hand; SHF_IN_WORDS */
    uint32_t lease;                  /* SHF_HAND_LEASES: none */
    uint32_t numbers[];
};

struct shf_queue_set {
    struct shf_region region;
    struct shf_registry registry;
    struct shf_shm_queue_set *shm;
    shf_au32 *lives, *hands, *words;
    unsigned char *data;  /* item 0 */
    uint64_t stride;
    uint32_t items, item_size, mask; /* a ring has mask + 1 entries */
    uint32_t behind;                 /* first page behind the object without its rings: rings and hands lie there */
    _Atomic uint32_t ready;          /* the life for which the hand below was prepared */
    _Atomic uint64_t entering;       /* process id of the thread that prepares it, or changes a list below; 0 = none */
    shf_au32 *_Atomic hand;          /* NULL: this life has none, and holds in the words */
    _Atomic uint64_t used[SHF_HAND_SINGLES / 64 + (SHF_HAND_SINGLES < 64)]; /* single places given out */
    _Atomic uint32_t taken[SHF_HAND_LEASES]; /* items taken out of a batch that still lie in its lease */
    _Atomic uint32_t leases;         /* bit k: lease k belongs to a batch */
    _Atomic uint32_t over;           /* whose turn it is to be asked whether it is over; advice */
    _Atomic uint32_t known;          /* queues below that are filled in */
    struct shf_batch *batches;
    struct shf_queue queues[SHF_QUEUES_MAX];
};

/* queue.c */
/* Fills in queues that others have added; their number, or an error. */
int shf__queue_know(struct shf_queue_set *set);
/* `bytes` more at the end of the file, zeroed: *page is the first of them. `quiet`: a failure to grow is
 * SHF_ERR_NO_SPACE, and not recorded as this thread's last error. */
int shf__queue_grow(struct shf_queue_set *set, uint64_t bytes, uint32_t *page, int quiet);
/* Excludes the other threads of this handle. */
void shf__queue_enter(struct shf_queue_set *set);
void shf__queue_leave(struct shf_queue_set *set);

/* queue_move.c */
/* Take a queue's lock and repair what a dead holder left. */
int shf__queue_lock_tail(struct shf_queue *q);
int shf__queue_lock_head(struct shf_queue *q);
/* Those who are to be woken after a push, when its lock is let go. */
struct shf_wake {
    uint32_t sleepers; /* SHF_SLEEPS_*; 0: nobody */
    uint32_t n;        /* items that were pushed */
    uint64_t tail;     /* behind them */
};
/* Under the tail lock: puts numbers[0..n) behind the tail and empties what held them, `entries` of a hand (NULL: the
 * words); `from` says the same to a repairer. */
struct shf_wake shf__queue_commit_push(struct shf_queue *q, const uint32_t *numbers, uint32_t n, uint32_t from,
                                       shf_au32 *entries);
void shf__queue_wake(struct shf_queue *q, const struct shf_wake *wake);
int shf__queue_corrupt(const struct shf_queue_set *set, const char *place, uint64_t where);
int shf__queue_read_only(const struct shf_queue_set *set, const char *place);
int shf__queue_other_handle(const struct shf_queue *q, const char *place);
/* The entries of a slot's hand; NULL if it has none, or its page number cannot be. */
shf_au32 *shf__queue_hand_of(struct shf_queue_set *set, uint32_t slot);
static inline uint32_t shf__queue_place(uint32_t slot, uint32_t place) { return slot << SHF_HAND_PLACE_BITS | place; }
/* Was so when the tail was looked at: head first. */
static inline int shf__queue_is_empty(const struct shf_queue *q) {
    uint64_t head = shm_load_acquire(&q->shm->head);
    return shm_load_acquire(&q->shm->tail) == head; /* T2 */
}

/* queue_home.c */
/* Prepares this handle's hand for the life `me`, if it is not yet. */
int shf__queue_ready_slow(struct shf_queue_set *set, uint32_t me);
/* Marks this life as one that holds in the words; before the first such hold. */
void shf__queue_use_words(struct shf_queue_set *set, uint32_t me);
/* Brings home what the dead hold. An error is that of a queue that could not be repaired or whose lock is kept; what
 * else could be done is done. */
enum shf_sweep {
    SHF_SWEEP_DUE,  /* if nobody did so for 20 ms */
    SHF_SWEEP_NOW,
    SHF_SWEEP_ASKED /* and with the handle's own deadline: for a caller who is told the error */
};
int shf__queue_sweep(struct shf_queue_set *set, enum shf_sweep when);
/* Brings home what this handle itself holds; at its close. */
void shf__queue_let_go(struct shf_queue_set *set);

/* queue_wait.c */
/* The queue was found empty: asks the descriptor's thread for a wake-up, if there is one. SHF_NOT_FOUND, or why that
 * thread could not wait. */
int shf__queue_rearm(struct shf_queue *q);
void shf__queue_stop_wakers(struct shf_queue_set *set);

#endif
