/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * shf_queue.h - zero-copy queues between processes; included by shf.h
 *
 * A QUEUE SET is one file (or anonymous memory file) with a fixed number of ITEMS of one size, and up to 255 named
 * QUEUES. An item is made once, in shared memory, and never copied: it lies in one queue, or it is held by one handle,
 * which then reads and writes its bytes. At creation all items lie in the first queue. Any number of processes pull and
 * push at the same time; an empty queue can be waited for.
 *
 * FULL       There is no full queue: each has room for all items, so a push never fails for want of room and never
 *            waits for a consumer. The flow is bounded by the number of items: a producer that finds no free item waits
 *            for one, in pull.
 * ORDER      First in, first out: a queue gives items out in the order of their pushes, so those of one producer in
 *            its order. Items that come home (below) join at the end.
 * HOME       An item's home is the queue it was last pulled from. It goes home when its holder gives it back unpushed
 *            (shf_item_return), closes its handle, or dies.
 * DEATH      A process may die inside any call: its operation has then happened as a whole or not at all, and the items
 *            it held come home, their bytes as they were. Whoever pulls from an empty queue, waits, asks for a length
 *            or attaches looks after the dead, at most every 20 ms; a waiting process does so within 40 ms. So no item
 *            is ever lost. A stopped process (SIGSTOP) keeps its items; one stopped within a call, a lock: others get
 *            SHF_ERR_TIMEOUT at their deadline.
 * THREADS    Every function may be called from any thread, concurrently; an item or a batch is used by one thread at a
 *            time. Threads that share a handle share one process' slot: faster with a handle each.
 * FORK       The child may use its copies of the handles, but not the items its parent holds: SHF_ERR_INVALID_ITEM.
 * WAKE-UP    A push makes a system call only if somebody sleeps on its queue.
 * C++        These functions as they are: shf.hpp has classes for tables only.
 * COST       One item: about 25 ns for a pull and a push together, and the transfer of the cache lines. A batch: about
 *            a nanosecond an item.
 */
#ifndef SHF_QUEUE_H
#define SHF_QUEUE_H

#ifndef SHF_H
#include "shf.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SHF_QUEUES_MAX 255u             /* queues of a set */
#define SHF_QUEUE_NAME_MAX 63u          /* bytes of a queue's name */
#define SHF_ITEMS_MAX (1u << 24)        /* items of a set */
#define SHF_ITEM_SIZE_MAX (1u << 30)    /* bytes of an item */
#define SHF_WAIT_FOREVER UINT64_MAX     /* as a timeout */

struct shf_queue_set; /* opaque: one open handle */
struct shf_queue;     /* opaque: one queue of a handle; valid while the handle is open */
struct shf_batch;     /* opaque: items pulled together */

/* ---- opening ------------------------------------------------------------------------------------------ */

/* 0 in a field means "not set": taken from the file when opening. A set field must agree with the file, but for `mode`
 * and `lock_timeout_ms`; queues that are named but not there are SHF_ERR_INCOMPATIBLE. Creating needs items, item_size
 * and at least one queue. */
struct shf_queue_options {
    uint32_t size;             /* sizeof(struct shf_queue_options): the struct may grow */
    uint32_t items;            /* 1 .. 2^24 */
    uint32_t item_size;        /* bytes, 1 .. 2^30; an item begins at a multiple of 64 */
    uint32_t mode;             /* as in struct shf_table_options */
    uint32_t lock_timeout_ms;  /* deadline of a lock kept by a live process; default 10,000 */
    uint32_t queue_count;
    const char *const *queues; /* names, each 1 .. 63 bytes, no two alike; all items start in queues[0] */
};
#define SHF_QUEUE_OPTIONS_INIT {sizeof(struct shf_queue_options), 0, 0, 0, 0, 0, NULL}

/* As shf_table_open, _anonymous, _from_fd. All memory that the items and queues will ever need is taken at creation
 * (SHF_ERR_NO_SPACE there): a full file system stops neither pull nor push. A handle takes 20 KiB more at its first
 * pull, once for each slot; where that cannot be had it works without, slower. SHF_RDONLY: for len, stats and names
 * only. */
SHF_API int shf_queue_set_open(const char *path, unsigned flags, const struct shf_queue_options *options,
                               struct shf_queue_set **set);
SHF_API int shf_queue_set_anonymous(const char *name, const struct shf_queue_options *options,
                                    struct shf_queue_set **set);
SHF_API int shf_queue_set_from_fd(int fd, const struct shf_queue_options *options, struct shf_queue_set **set);
/* Closes the handle; items that it still holds go home, batches are freed. NULL is legal. The last call on it, on its
 * queues, items and batches. */
SHF_API void shf_queue_set_close(struct shf_queue_set *set);
/* Borrowed: valid while the handle is open. */
SHF_API int shf_queue_set_fd(const struct shf_queue_set *set);
SHF_API const char *shf_queue_set_path(const struct shf_queue_set *set);
SHF_API int shf_queue_set_is_read_only(const struct shf_queue_set *set);
SHF_API uint32_t shf_queue_set_items(const struct shf_queue_set *set);     /* how many items there are */
SHF_API uint32_t shf_queue_set_item_size(const struct shf_queue_set *set); /* bytes of each */

/* Where item 0 begins, and the bytes from one item to the next: for loops over the numbers of a batch. Only the bytes
 * of items that are held may be touched. */
SHF_API void *shf_queue_set_data(const struct shf_queue_set *set);
SHF_API uint64_t shf_queue_set_stride(const struct shf_queue_set *set);

/* ---- queues ------------------------------------------------------------------------------------------- */

/* The queue of that name. SHF_ERR_NOT_FOUND names those that there are. */
SHF_API int shf_queue_find(struct shf_queue_set *set, const char *name, struct shf_queue **queue);
/* The same; makes it if it is not there. *created (may be NULL) = 1 if it was made. The file grows by 4 to 8 bytes an
 * item, in pages of 4,096: SHF_ERR_NO_SPACE. SHF_ERR_FULL: there are 255 already. */
SHF_API int shf_queue_add(struct shf_queue_set *set, const char *name, struct shf_queue **queue, int *created);
/* How many queues there are; the i-th, in the order they were made; SHF_ERR_NOT_FOUND beyond. */
SHF_API uint32_t shf_queue_count(struct shf_queue_set *set);
SHF_API int shf_queue_at(struct shf_queue_set *set, uint32_t i, struct shf_queue **queue);
SHF_API const char *shf_queue_name(const struct shf_queue *queue);
SHF_API uint32_t shf_queue_index(const struct shf_queue *queue);
SHF_API struct shf_queue_set *shf_queue_set_of(const struct shf_queue *queue);

/* ---- one item at a time ------------------------------------------------------------------------------- */

/* An item that this handle holds, to be used up by push, exchange or return. Copies of it name the same item. */
struct shf_item {
    void *data;      /* item_size bytes, 64-byte aligned, nobody else's meanwhile */
    uint32_t number; /* which item of the set: 0 .. items - 1 */
    uint32_t place;  /* of the engine */
    uint32_t owner;  /* of the engine */
    uint32_t home;   /* index of the queue it was pulled from */
};

/* Takes the first item of the queue: SHF_OK, or SHF_NOT_FOUND if it is empty. Its bytes are as its last holder left
 * them. May return SHF_ERR_READ_ONLY, _TIMEOUT, _CORRUPT, _FORKED, _IO, _ADDRESS_SPACE; nothing was changed then. */
SHF_API int shf_queue_pull(struct shf_queue *queue, struct shf_item *item);
/* The same, waiting up to timeout_ns for an item (0: as shf_queue_pull); spins for some microseconds before it sleeps.
 * SHF_NOT_FOUND: none came, or a stopped process kept the queue locked all that time. SHF_ERR_TIMEOUT: it did so for
 * the handle's lock_timeout_ms. */
SHF_API int shf_queue_pull_wait(struct shf_queue *queue, uint64_t timeout_ns, struct shf_item *item);
/* Puts the item at the end of the queue, any of the same set, and wakes a sleeper. item->data = NULL then.
 * SHF_ERR_INVALID_ITEM: not held by this handle (pushed already, another set's, inherited by fork). After
 * SHF_ERR_TIMEOUT and other errors the item is still held. */
SHF_API int shf_queue_push(struct shf_queue *queue, struct shf_item *item);
/* Pushes *item to `to`, then takes the first item of `from` into *item: one call for a worker's step. SHF_NOT_FOUND: it
 * was pushed, but `from` is empty (item->data is NULL). An error of the push: nothing was done. An error of the pull:
 * item->data is NULL. */
SHF_API int shf_queue_exchange(struct shf_queue *to, struct shf_item *item, struct shf_queue *from);
/* The item goes home: pushed to the queue it was pulled from. Waits for that queue's lock no longer than 0.2 s: then
 * SHF_ERR_TIMEOUT, and the item is still held. */
SHF_API int shf_item_return(struct shf_queue_set *set, struct shf_item *item);

/* ---- many items at a time ----------------------------------------------------------------------------- */

#define SHF_BATCH_FAST 1024u /* a batch of at most that capacity is fast, and 4 of them of a handle at a time */

/* A batch holds up to `capacity` items (1 .. items of the set), in the order they were pulled. It starts empty, is
 * filled by pull_many and emptied by push_many, over and over. Of one thread at a time. SHF_ERR_NO_MEMORY. */
SHF_API int shf_batch_new(struct shf_queue_set *set, uint32_t capacity, struct shf_batch **batch);
/* Its items go home (where a stopped process keeps that queue locked, when the handle is closed). NULL is legal. */
SHF_API void shf_batch_free(struct shf_batch *batch);
SHF_API uint32_t shf_batch_count(const struct shf_batch *batch);    /* items in it */
SHF_API uint32_t shf_batch_capacity(const struct shf_batch *batch);
/* The bytes of its i-th item; NULL beyond the count. */
SHF_API void *shf_batch_data(const struct shf_batch *batch, uint32_t i);
/* The numbers of its items, `count` of them: item number k begins at shf_queue_set_data(set) + k * stride. Valid until
 * the batch is filled, pushed or taken from. */
SHF_API const uint32_t *shf_batch_numbers(const struct shf_batch *batch);
/* Takes its first item out, to be pushed on its own; SHF_NOT_FOUND if it is empty. Costs no lock. SHF_ERR_INVALID_ITEM
 * in a forked child. */
SHF_API int shf_batch_take(struct shf_batch *batch, struct shf_item *item);
/* Fills an empty batch with the first items of the queue, at most n (0: as many as it holds), in one step:
 * SHF_OK, or SHF_NOT_FOUND if the queue is empty. SHF_ERR_INVALID: the batch is not empty. Errors as shf_queue_pull. */
SHF_API int shf_queue_pull_many(struct shf_queue *queue, struct shf_batch *batch, uint32_t n);
/* The same, waiting for at least one item. */
SHF_API int shf_queue_pull_many_wait(struct shf_queue *queue, struct shf_batch *batch, uint32_t n, uint64_t timeout_ns);
/* Puts all items of the batch at the end of the queue, in their order, in one step; wakes as many sleepers. An empty
 * batch is legal. Errors as shf_queue_push; the batch is as before then. */
SHF_API int shf_queue_push_many(struct shf_queue *queue, struct shf_batch *batch);
/* Both: pushes the batch to `to`, then fills it from `from`. SHF_NOT_FOUND: pushed, but `from` is empty. */
SHF_API int shf_queue_exchange_many(struct shf_queue *to, struct shf_batch *batch, struct shf_queue *from, uint32_t n);

/* ---- waiting ------------------------------------------------------------------------------------------ */

/* Waits until one of the queues (of one set) is not empty: *which = its index in `queues`, the first such. Nothing is
 * pulled: another process may be faster. SHF_NOT_FOUND: all stayed empty for timeout_ns. */
SHF_API int shf_queue_wait_any(struct shf_queue *const *queues, uint32_t count, uint64_t timeout_ns, uint32_t *which);
/* A descriptor for epoll, poll and event loops: readable when the queue may have items. Pull until SHF_NOT_FOUND each
 * time it is readable; that makes it unreadable and asks for the next wake-up. Borrowed, of this process only (a child
 * asks for its own). The first call starts a thread that sleeps in the kernel; the handle's close ends it.
 * SHF_ERR_IO, SHF_ERR_NO_MEMORY, SHF_ERR_READ_ONLY, SHF_ERR_FORKED. */
SHF_API int shf_queue_wait_fd(struct shf_queue *queue, int *fd);

/* ---- the whole ---------------------------------------------------------------------------------------- */

/* Items in the queue, exact when nobody pulls or pushes. */
SHF_API int shf_queue_len(struct shf_queue *queue, uint64_t *len);
struct shf_queue_stats {
    uint32_t size;       /* sizeof, set by the caller */
    uint32_t sleepers;   /* 1: somebody sleeps until an item comes */
    uint64_t len;
    uint64_t capacity;   /* = items of the set: a queue is never full */
    uint64_t pushed;     /* items that have come, since creation, those at creation included */
    uint64_t pulled;     /* items that have gone */
    uint64_t returned;   /* of `pushed`: brought home from the dead, and from handles that were closed */
    uint64_t recoveries; /* locks taken over from the dead */
};
SHF_API int shf_queue_stats(struct shf_queue *queue, struct shf_queue_stats *stats);
/* Moves all items that lie in `from` now to the end of `to`: *moved (may be NULL) of them, set also with an error. In
 * steps: a death leaves the rest in `from`, those just in hand (1,024 at most) at its end. */
SHF_API int shf_queue_drain(struct shf_queue *from, struct shf_queue *to, uint64_t *moved);
/* Brings the items of all queues, and those the dead held, to the first queue. Those that the living hold stay held. In
 * steps, beside others' pulls and pushes. */
SHF_API int shf_queue_set_reset(struct shf_queue_set *set);
/* Looks for the dead and brings their items home, now. Waits and empty pulls do it anyway. */
SHF_API int shf_queue_set_recover(struct shf_queue_set *set);

struct shf_queue_report {
    uint32_t size;      /* sizeof, set by the caller */
    uint32_t queues;
    uint64_t items;     /* of the set */
    uint64_t in_queues; /* items in rings */
    uint64_t held;      /* items held by handles that live */
    uint64_t dead;      /* items held by the dead, not yet brought home */
    uint64_t problems;  /* 0: each item is in one place exactly, and all words are in their ranges */
    char first[256];    /* the first problem, a sentence; "" if none */
};
/* Counts every item, under all locks of the set: others wait meanwhile, about 10 ns an item. Repairs what a death left,
 * as any taker of a lock does. SHF_OK, SHF_ERR_CORRUPT (the report is filled in both cases), or SHF_ERR_NO_MEMORY,
 * _READ_ONLY, _TIMEOUT. */
SHF_API int shf_queue_set_check(struct shf_queue_set *set, struct shf_queue_report *report);

#ifdef __cplusplus
}
#endif
#endif
