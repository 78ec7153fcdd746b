/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * lock.h - a futex lock that survives its owner
 *
 * The protocol is at the top of lock.c. Layer: registry <- lock <- pages.
 *
 * word: owner 30 | W 1 (somebody sleeps) | S 1 (one of the sleepers watches); 0 = free.
 */
#ifndef SHF_LOCK_H
#define SHF_LOCK_H

#include "registry.h"

#define SHF_LOCK_WAITERS 2u /* W: somebody sleeps on the word */

/* Takes the lock, waiting up to the handle's deadline. Whoever held it before, the caller then looks at what the
 * lock protects (arm, run) and recovers. *taken_over (may be NULL) = 1 if the last owner had died (or the
 * word named no life: forged); else it is left alone. Returns SHF_OK, SHF_ERR_TIMEOUT, SHF_ERR_FORKED or
 * SHF_ERR_READ_ONLY. */
int shf__lock_slow(struct shf_registry *g, shf_au32 *word, int *taken_over);
void shf__unlock_wake(shf_au32 *word);

static inline int shf__lock(struct shf_registry *g, shf_au32 *word, int *taken_over) {
    uint32_t me = shf__registry_owner(g);
    uint32_t free = 0;
    if (SHF_LIKELY(me != 0)) {
        shf__crash_point();
        if (SHF_LIKELY(atomic_compare_exchange_strong_explicit(word, &free, me << 2, memory_order_acquire, /* L1 */
                                                               memory_order_relaxed)))
            return SHF_OK;
    }
    return shf__lock_slow(g, word, taken_over);
}
/* One attempt, no waiting, no take-over: 1 if taken. */
static inline int shf__trylock(struct shf_registry *g, shf_au32 *word) {
    uint32_t me = shf__registry_owner(g);
    uint32_t free = 0;
    if (me == 0) return 0;
    shf__crash_point();
    return atomic_compare_exchange_strong_explicit(word, &free, me << 2, memory_order_acquire, memory_order_relaxed);
}
/* 1 if the word names an older life of the slot of `me`, the caller's. Each new life takes such locks over (registry.c,
 * G-I3): after 2^20 lives of the slot its own generation would stand there. */
static inline int shf__lock_is_left_over(const shf_au32 *word, uint32_t me) {
    uint32_t owner = shm_load_relaxed32(word) >> 2;
    return owner != 0 && owner != me && SHF_OWNER_SLOT(owner) == SHF_OWNER_SLOT(me);
}
static inline void shf__unlock(shf_au32 *word) {
    shf__crash_point();
    uint32_t old = atomic_exchange_explicit(word, 0, memory_order_release); /* L2 */
    if (SHF_UNLIKELY(old & SHF_LOCK_WAITERS)) shf__unlock_wake(word);
}

#endif
