/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * registry.h - which handles are attached, and the proof that one lives
 *
 * The protocol is at the top of registry.c. Layer: region <- registry <- lock.
 *
 * An OWNER is 30 bits: slot 10 | generation 20. 0 = nobody.
 */
#ifndef SHF_REGISTRY_H
#define SHF_REGISTRY_H

#include "os.h"
#include "region.h"

#define SHF_OWNER(slot, generation) ((uint32_t)(slot) << SHF_GENERATION_BITS | (generation))
#define SHF_OWNER_SLOT(owner) ((owner) >> SHF_GENERATION_BITS)
#define SHF_OWNER_GENERATION(owner) ((owner) & SHF_GENERATION_MASK)

struct shf_life; /* one L descriptor and its place in the process-wide list (registry.c) */

/* Process-private part of a handle. */
struct shf_registry {
    struct shf_region *region;
    _Atomic uint32_t owner;         /* this life; 0 = not attached (read-only) */
    _Atomic uint64_t process;       /* the wipe-on-fork id under which `owner` was taken */
    const shf_au64 *process_now;    /* the id of the running process; 0 = it has been forked */
    struct shf_life *_Atomic life;
    _Atomic uint32_t entering;      /* 1: a thread of a forked child is registering anew */
    _Atomic uint32_t registry_busy; /* byte R excludes processes; this excludes our own threads */
    _Atomic uint64_t swept;         /* when this handle last swept, monotonic ns */
    uint64_t lock_timeout_ns;       /* 0 = 10 s */
    /* Called under byte R at attach after the slot was taken, and by shf__registry_sweep: the object gives back
     * what the dead life `owner` of a slot held outside of locks. May take shard locks. */
    int (*sweep_slot)(void *context, uint32_t slot);
    void *context;
};

/* Takes a slot (SHF_ERR_BUSY if all are taken, SHF_ERR_UNSUPPORTED without OFD locks), checks and sets the
 * header's dirty/boot_id/dev/ino (SHF_ERR_UNCLEAN), names itself, sweeps. A read-only region only checks. */
int shf__registry_attach(struct shf_registry *g);
/* fsync and dirty = 0 if it is the last one; gives the slot back. Does nothing in a forked child. */
void shf__registry_detach(struct shf_registry *g);

/* This handle's owner id, registering anew in a forked child. 0 on failure (error recorded: SHF_ERR_FORKED, or
 * SHF_ERR_READ_ONLY). */
uint32_t shf__registry_owner_slow(struct shf_registry *g);
static inline uint32_t shf__registry_owner(struct shf_registry *g) {
    uint64_t now = atomic_load_explicit(g->process_now, memory_order_relaxed);
    if (SHF_LIKELY(now != 0 && now == atomic_load_explicit(&g->process, memory_order_acquire)))
        return atomic_load_explicit(&g->owner, memory_order_relaxed);
    return shf__registry_owner_slow(g);
}
/* This handle's life, if it is the running process' own; else 0: it never registers anew. */
uint32_t shf__registry_own(const struct shf_registry *g);
/* Names the running process, in private memory: another number in a forked child. */
uint64_t shf__registry_process(const struct shf_registry *g);
/* 1 if that life has ended. Never asks the kernel about this handle's own slot. After 1, seq_cst fenced. -errno
 * style errors count as alive. Other handles of the same process are asked like anybody else. */
int shf__registry_is_dead(struct shf_registry *g, uint32_t owner);
/* 1 if no thread of that life's process can run any more, though the kernel still holds its byte. After 1, seq_cst fenced.
 * 0 if it is not so, or cannot be seen. Some 50 us, in /proc: for those who wait. */
int shf__registry_is_over(struct shf_registry *g, uint32_t owner);
/* Runs sweep_slot for every slot that has no life (and has a pending page), under byte R, at most every 10 ms
 * unless `force`. SHF_OK, or the error of the sweep; SHF_OK if another process is at it. */
int shf__registry_sweep(struct shf_registry *g, int force);
/* Not 0 while this thread looks after the dead (some of it under byte R, when nobody can attach): it waits no longer than
 * this for any lock. */
extern _Thread_local uint64_t shf__registry_patience_ns;
/* Makes it `ns` at most; what it was before, to be put back. */
static inline uint64_t shf__registry_be_patient(uint64_t ns) {
    uint64_t before = shf__registry_patience_ns;
    if (before == 0 || before > ns) shf__registry_patience_ns = ns;
    return before;
}
/* Attached lives (probes every used slot). */
uint32_t shf__registry_count(struct shf_registry *g);
struct shf_shm_slot *shf__registry_slot(struct shf_registry *g, uint32_t slot);

#endif
