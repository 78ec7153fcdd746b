// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * queue_wait.c - queues: waiting for items, by sleeping and by a descriptor
 *
 * WHAT       SLEEP of queue.c. A waiter looks at the queue for SPIN_NS, which is about what a sleep and a wake-up cost;
 *            then it registers under the tail lock and sleeps on `wake`, TICK_NS at a time. At each tick it looks after
 *            the dead and for itself.
 * NOT        Fair: who comes by when an item has come may take it before the woken one; that one sleeps again.
 *
 * SEVERAL    wait_any registers at each queue with SHF_SLEEPS_ANY and sleeps on the set's `any`, read before the first
 *            registration: a pusher that sees the flag moves `any` and wakes all.
 * DESCRIPTOR wait_fd: a thread of this process, one for each queue it was asked for, sleeps as a waiter does, and makes
 *            an eventfd readable when there are items. Nothing goes between processes but the futex.
 *    state     ARMED: the thread waits for the queue, the eventfd is not readable. The thread signals and makes it
 *              SIGNALLED: readable. A pull that finds the queue empty clears it, and makes it ARMED again (rearm).
 *              Whoever changes it and makes the system call holds it CHANGING meanwhile. So after each SHF_NOT_FOUND
 *              the queue is armed, and the thread looks at it after that: no item goes unnoticed, also with
 *              edge-triggered users.
 *    fork      the child has the structure, but no thread: known by the process' number; it makes its own.
 */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>

#define SPIN_NS UINT64_C(10000)
#define SPINS 8
#define TICK_NS UINT64_C(40000000)
#define LOCK_LEAST_NS UINT64_C(1000000)
#define ARMED_TICK_NS UINT64_C(1000000000)

struct shf_waker {
    struct shf_queue *queue;
    struct os_thread thread;
    int fd;
    uint64_t process;
    shf_au32 state;    /* private memory */
    _Atomic int error; /* why the thread signalled without an item: the next empty pull tells it */
    _Atomic int stop;
    /* The parent's, which has no thread here; freed with this one, as others may look at it. */
    struct shf_waker *inherited;
};
enum { SIGNALLED = 0, ARMED = 1, CHANGING = 2 };

static uint64_t left(uint64_t start, uint64_t timeout, uint64_t now) {
    if (timeout == SHF_WAIT_FOREVER) return SHF_WAIT_FOREVER;
    return now - start >= timeout ? 0 : timeout - (now - start);
}

/* Registers at the queue with `flag`. 1: it is not empty; 0; or an error. *word = what to sleep on `wake` with. */
static int enlist(struct shf_queue *q, uint32_t flag, uint32_t *word) {
    struct shf_shm_queue *shm = q->shm;
    int rc = shf__queue_lock_tail(q);
    if (rc != SHF_OK) return rc;
    int some = shm_load_relaxed(&shm->tail) != shm_load_acquire(&shm->head);
    uint32_t sleepers = shm_load_relaxed32(&shm->sleepers);
    *word = shm_load_relaxed32(&shm->wake);
    if (!some && !(sleepers & flag)) shm_store_relaxed32(&shm->sleepers, sleepers | flag);
    shf__unlock(&shm->tail_word);
    return some;
}

/* The first of them that is not empty; `count` if all are. */
static uint32_t first_with_items(struct shf_queue *const *queues, uint32_t count) {
    uint32_t i = 0;
    while (i < count && shf__queue_is_empty(queues[i])) i++;
    return i;
}

/* One sleep. 0 after it, 1 if an item came before; or an error. */
static int doze(struct shf_queue *const *queues, uint32_t count, uint64_t limit) {
    shf_au32 *futex = count == 1 ? &queues[0]->shm->wake : &queues[0]->set->shm->any;
    uint32_t any = shm_load_acquire32(&queues[0]->set->shm->any), word = 0;
    for (uint32_t i = 0; i < count; i++) {
        int rc = enlist(queues[i], count == 1 ? SHF_SLEEPS_HERE : SHF_SLEEPS_ANY, &word);
        if (rc != 0) return rc;
    }
    (void)os_futex_wait(futex, count == 1 ? word : any, limit < TICK_NS ? limit : TICK_NS);
    return 0;
}

/* SHF_OK: *which is not empty. `stop` may be NULL. */
static int wait_for(struct shf_queue *const *queues, uint32_t count, uint64_t timeout, uint32_t *which,
                    _Atomic int *stop) {
    uint64_t start = os_now_ns(), now = start;
    int rc = SHF_NOT_FOUND;
    for (int spinning = 1;; now = os_now_ns()) {
        uint64_t rest = left(start, timeout, now);
        if ((*which = first_with_items(queues, count)) < count) return SHF_OK;
        if (rest == 0 || (stop != NULL && atomic_load_explicit(stop, memory_order_acquire))) return SHF_NOT_FOUND;
        spinning = spinning && now - start < SPIN_NS;
        if (spinning) {
            for (int i = 0; i < SPINS && first_with_items(queues, count) == count; i++) shf_pause();
            continue;
        }
        /* Who is to be stopped looks at `stop` also beside a stopped process. */
        uint64_t before = shf__registry_be_patient(stop != NULL ? TICK_NS : rest);
        rc = doze(queues, count, rest);
        shf__registry_patience_ns = before;
        if (rc == SHF_ERR_TIMEOUT && stop != NULL) continue;
        if (rc == SHF_ERR_TIMEOUT && left(start, timeout, os_now_ns()) == 0)
            return SHF_NOT_FOUND; /* ours, not the lock's */
        if (rc < 0) return rc;
        if (rc == 0 && first_with_items(queues, count) == count) (void)shf__queue_sweep(queues[0]->set, SHF_SWEEP_DUE);
    }
}

/* A pull into an item, or into a batch. */
struct pull {
    struct shf_queue *queue;
    struct shf_item *item;
    struct shf_batch *batch;
    uint32_t n;
};
static int pull(const struct pull *p) {
    return p->batch != NULL ? shf_queue_pull_many(p->queue, p->batch, p->n) : shf_queue_pull(p->queue, p->item);
}

/* Neither the wait nor a lock that a stopped process keeps takes longer than the timeout (and LOCK_LEAST_NS). */
static int pull_wait(const struct pull *p, uint64_t timeout) {
    uint64_t start = 0;
    int rc;
    for (uint64_t rest = timeout;; rest = left(start, timeout, os_now_ns())) {
        uint64_t patience = rest > LOCK_LEAST_NS ? rest : LOCK_LEAST_NS;
        uint32_t which;
        uint64_t before = shf__registry_be_patient(patience);
        rc = pull(p);
        shf__registry_patience_ns = before;
        if (rc == SHF_ERR_TIMEOUT && patience < p->queue->set->registry.lock_timeout_ns)
            return SHF_NOT_FOUND; /* ours is over */
        if (SHF_LIKELY(rc != SHF_NOT_FOUND)) return rc;
        if (start == 0) start = os_now_ns();
        rc = wait_for(&p->queue, 1, left(start, timeout, os_now_ns()), &which, NULL);
        if (rc != SHF_OK) return rc;
    }
}

int shf_queue_pull_wait(struct shf_queue *q, uint64_t timeout_ns, struct shf_item *item) {
    struct pull p = {q, item, NULL, 0};
    SHF_CHECK_ARGS(q != NULL && item != NULL);
    return timeout_ns == 0 ? pull(&p) : pull_wait(&p, timeout_ns);
}

int shf_queue_pull_many_wait(struct shf_queue *q, struct shf_batch *batch, uint32_t n, uint64_t timeout_ns) {
    struct pull p = {q, NULL, batch, n};
    SHF_CHECK_ARGS(q != NULL && batch != NULL);
    return timeout_ns == 0 ? pull(&p) : pull_wait(&p, timeout_ns);
}

int shf_queue_wait_any(struct shf_queue *const *queues, uint32_t count, uint64_t timeout_ns, uint32_t *which) {
    SHF_CHECK_ARGS(queues != NULL && which != NULL && count != 0 && count <= SHF_QUEUES_MAX && queues[0] != NULL);
    for (uint32_t i = 1; i < count; i++) {
        SHF_CHECK_ARGS(queues[i] != NULL);
        if (queues[i]->set != queues[0]->set) return shf__queue_other_handle(queues[i], "queue: wait_any");
    }
    if (queues[0]->set->region.read_only) return shf__queue_read_only(queues[0]->set, "queue: wait_any");
    uint32_t found;
    int rc = wait_for(queues, count, timeout_ns, &found, NULL);
    if (rc == SHF_OK) *which = found;
    return rc;
}

/* ---- a descriptor --------------------------------------------------------------------------------------- */

/* 1 if it was `from`, and is CHANGING now. */
static int change(struct shf_waker *w, uint32_t from) {
    return atomic_compare_exchange_strong_explicit(&w->state, &from, CHANGING, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* 0: to be stopped. */
static int wait_until_armed(struct shf_waker *w) {
    for (;;) {
        if (atomic_load_explicit(&w->stop, memory_order_acquire)) return 0;
        uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
        if (state == ARMED) return 1;
        if (state == CHANGING)
            os_yield(); /* for a system call long */
        else
            (void)os_futex_wait(&w->state, SIGNALLED, ARMED_TICK_NS);
    }
}

static void *feed(void *context) {
    struct shf_waker *w = context;
    uint32_t which;
    while (wait_until_armed(w)) {
        int rc = wait_for(&w->queue, 1, SHF_WAIT_FOREVER, &which, &w->stop);
        if (rc == SHF_NOT_FOUND) break;
        if (rc < 0) os_sleep_ns(TICK_NS); /* who does not mind the error is not called without a pause */
        if (!change(w, ARMED)) continue;
        atomic_store_explicit(&w->error, rc, memory_order_relaxed); /* 0: there are items */
        (void)os_event_signal(w->fd);
        atomic_store_explicit(&w->state, SIGNALLED, memory_order_release);
    }
    return NULL;
}

static struct shf_waker *waker_of(struct shf_queue *q) {
    struct shf_waker *w = atomic_load_explicit(&q->waker, memory_order_acquire);
    return w != NULL && w->process == shf__registry_process(&q->set->registry) ? w : NULL;
}

int shf__queue_rearm(struct shf_queue *q) {
    if (SHF_LIKELY(atomic_load_explicit(&q->waker, memory_order_relaxed) == NULL)) return SHF_NOT_FOUND;
    struct shf_waker *w = waker_of(q);
    if (w == NULL) return SHF_NOT_FOUND;
    while (!change(w, SIGNALLED)) {
        if (atomic_load_explicit(&w->state, memory_order_acquire) == ARMED) return SHF_NOT_FOUND;
        os_yield();
    }
    int error = atomic_exchange_explicit(&w->error, 0, memory_order_relaxed);
    (void)os_event_clear(w->fd);
    atomic_store_explicit(&w->state, ARMED, memory_order_release);
    (void)os_futex_wake(&w->state, 1);
    if (error == 0) return SHF_NOT_FOUND;
    const char *path = q->set->region.path;
    return shf__fail(error, 0, "queue: wait_fd", path, "%s: waiting for the queue '%s': %s", path, q->name,
                     shf_strerror(error));
}

static int waker_new(struct shf_queue *q, struct shf_waker **waker) {
    const char *path = q->set->region.path;
    struct shf_waker *w = calloc(1, sizeof *w);
    if (w == NULL)
        return shf__fail(SHF_ERR_NO_MEMORY, ENOMEM, "queue: wait_fd", path, "%s: no memory for a descriptor's thread",
                         path);
    w->queue = q;
    w->process = shf__registry_process(&q->set->registry);
    w->inherited = atomic_load_explicit(&q->waker, memory_order_relaxed);
    atomic_init(&w->state, ARMED);
    w->fd = os_event();
    int rc = w->fd < 0 ? w->fd : os_thread_start(&w->thread, feed, w);
    if (rc >= 0) {
        *waker = w;
        return SHF_OK;
    }
    if (w->fd >= 0) (void)os_close(w->fd);
    free(w);
    return shf__fail(SHF_ERR_IO, -rc, "queue: wait_fd", path,
                     "%s: no descriptor or thread to wait with: system error %d", path, -rc);
}

int shf_queue_wait_fd(struct shf_queue *q, int *fd) {
    SHF_CHECK_ARGS(q != NULL && fd != NULL);
    if (shf__registry_owner(&q->set->registry) == 0)
        return shf_last_error()->code; /* read-only: cannot register as a sleeper */
    int rc = SHF_OK;
    shf__queue_enter(q->set);
    struct shf_waker *w = waker_of(q);
    if (w == NULL) {
        rc = waker_new(q, &w);
        if (rc == SHF_OK) atomic_store_explicit(&q->waker, w, memory_order_release);
    }
    shf__queue_leave(q->set);
    if (rc == SHF_OK) *fd = w->fd;
    return rc;
}

void shf__queue_stop_wakers(struct shf_queue_set *set) {
    uint32_t known = atomic_load_explicit(&set->known, memory_order_acquire);
    for (uint32_t i = 0; i < known; i++) {
        struct shf_waker *w = waker_of(&set->queues[i]);
        if (w == NULL) continue;
        atomic_store_explicit(&w->stop, 1, memory_order_release);
        /* So that it does not go to sleep on SIGNALLED. */
        atomic_store_explicit(&w->state, ARMED, memory_order_release);
        (void)os_futex_wake(&w->state, 1);
        /* Others look and sleep again; ours ends, at its tick at the latest. */
        (void)os_futex_wake(&w->queue->shm->wake, INT32_MAX);
    }
    for (uint32_t i = 0; i < known; i++) {
        struct shf_waker *w = atomic_load_explicit(&set->queues[i].waker, memory_order_relaxed);
        if (w != NULL && waker_of(&set->queues[i]) == w) os_thread_join(&w->thread);
        while (w != NULL) {
            struct shf_waker *inherited = w->inherited;
            (void)os_close(w->fd);
            free(w);
            w = inherited;
        }
    }
}
