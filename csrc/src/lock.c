// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * lock.c - locks that survive the death of their owner: the slow half (lock.h has the fast one)
 *
 * WHAT       A lock is one 32-bit word in the file. Any handle attached to the file may take it. If the owner dies,
 *            the next taker gets the lock and looks at what it protects (arm, run), whoever held it before.
 * NOT        Recursive: a thread that asks for what its handle holds waits until the deadline. Safe against the death
 *            of one thread of a process that goes on, or against a process that writes the word without the lock. Fair:
 *            who comes by when the word is free takes it.
 *
 * LAYOUT     word:   slot 10 | generation 20 | W | S        0 = free
 *            slot + generation: the owner, a life of registry.c. W = somebody sleeps. S = somebody watches.
 *            The word alone is written by others than the owner; what it protects is written by the owner only.
 *
 * STATES AND LEGAL MOVES
 *    free          -> held(p)          p, by CAS                                          [L1], trylock
 *    free            -> held(p) [W]    p, by CAS, after it waited; with W if it slept     [L3]
 *    held(p) [W] [S] -> free           p only, by exchange                                [L2]
 *    held(p) [W]     -> held(p) W [S]  whoever is going to sleep, by CAS                  [W1]
 *    held(p) [W] S   -> held(p) [W]    the watcher whose deadline has come, by CAS        [W2]
 *    held(dead) ...  -> held(q) [W]    q, by CAS on the exact old word, after the verdict
 *                                      "dead" of shf__registry_is_dead, or "over"         [L4]
 *    Nothing else. held(dead) includes words that name no life at all (slot 0, generation 0): a forged or damaged
 *    word must not stop the shard for ever, there is no owner to be robbed, and the taker looks at arm and run as
 *    after any death, with every value range-checked; `check` reports what does not fit.
 *    held(live) by a forged word is not robbed: SHF_ERR_TIMEOUT. Nor is held(me): another thread of this handle.
 *
 * ORDERING        each label stands beside exactly one operation, here or in lock.h
 *    L1 acquire   the fast path (lock.h). Pairs with L2: a taker sees every store of the last owner.
 *    L2 release   the unlock (lock.h). Pairs with L1 and L3. Weaker: a taker may read an old chain head.
 *    L3 acquire   the take of one who has waited; as L1.
 *    L4 acq_rel   the take-over. C11 gives NO edge from the dead owner's last stores: it never released. The edge is
 *                 the kernel's, through shf__registry_is_dead() or _is_over(), which end with fence(seq_cst) (K1
 *                 there), and
 *    L5 seq_cst   the fence after it: nothing that the taker reads or repairs comes before the verdict. The verdict is
 *                 never cached, and never asked of the kernel about one's own life.
 *    L6 acquire   the load of the word whose owner is asked about: the owner's generation is visible (G2, G3).
 *    W1 relaxed   W and S: the sleep is bound to the exact word by the futex itself.
 *    W2 relaxed   as W1.
 *
 * WAITING    Spin a little (the holder of a shard needs about a microsecond). Then, each round: look at the word; ask
 *            for the owner's life; set W; sleep 2 ms, doubling to 16 ms, with jitter; 2 ms again after a wake. So a
 *            death is seen before the first sleep, and else at the end of one sleep. Whoever has waited for 10 ms also
 *            asks whether the owner is over (registry.c): a process that had gigabytes in use stays locked for long
 *            after its last store.
 *            The unlocking exchange clears W and wakes one. Whoever slept retakes with W, as others may still sleep;
 *            at worst that is one wake for nobody. A wake is lost when its receiver dies before it retakes, or if the
 *            unlocker dies between exchange and wake: costs one sleep (500 ms of those behind S).
 *            S, one watches: 1,000 sleepers that each wake ten times a second take 15 % of a CPU (measured). So
 *            whoever has waited for 50 ms, which only a stopped holder or a slow disk explains, sets S and goes on so;
 *            or finds S set, and sleeps 500 ms (or to its deadline) at a time. Who leaves the queue and has seen S, by
 *            a take or a deadline, wakes one more (wake_watcher): S is clear now, so that one sets it and watches. The
 *            death of a holder is seen in 16 ms as before; if the watcher died too, it may take 500 ms. A passer who
 *            never waited does not know of S, but the one that the unlock before it woke finds the word held, and
 *            watches.
 *            FUTEX_WAIT and FUTEX_WAKE are the shared kind: the waker is another process.
 *
 * INVARIANTS (numbers are used by tests)
 *    L-I1  a word that names a live life is changed by that life only, but for W
 *    L-I2  a word that names a dead life, or none, is taken over by the first who waits for it
 *    L-I3  W is set in the word that a sleeper sleeps on
 *    L-I4  a slow take returns SHF_OK and holds the lock, or an error and has changed no more than W and S
 *
 * IF THE OWNER DIES
 *    after L1, L3, L4          the next taker: L4; the layer above looks at arm and run
 *    between L2 and the wake   the word is free; sleepers come at the end of their sleep
 *    after W1                  one wake for nobody
 *
 * LOCK ORDER      byte R < shard(i) < shard(j), i < j < allocator; grow alone. No system call but futex, clock, the
 *                 probe of a life (F_OFD_GETLK) while waiting.
 *
 * PROOF           csrc/tests/validate_lock.c   state table, exhaustively; stopped, killed and paused holders
 *                 csrc/tests/crash_lock.c      dies at its k-th shared store, for every k
 *                 csrc/tests/stress_lock.c     threads (TSan), processes with random SIGKILL, 1,000 waiters
 */
#include "lock.h"

#define SPINS 100
#define NAP_FIRST_NS UINT64_C(2000000)
#define NAP_LAST_NS UINT64_C(16000000)
#define ONE_WATCHES_NS UINT64_C(50000000)
#define NAP_LONG_NS UINT64_C(500000000)
#define ASK_PROC_NS UINT64_C(10000000)
#define WATCHED 1u /* S */
#define DEFAULT_TIMEOUT_NS UINT64_C(10000000000)

/* Three quarters of the nap up to all of it: sleepers that came together part. */
static uint64_t jitter(uint64_t nap, uint64_t *state) {
    *state ^= *state << 13; /* xorshift64 (Marsaglia 2003) */
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return nap - *state % (nap / 4);
}

static SHF_COLD int timed_out(struct shf_registry *g, uint32_t owner, uint64_t waited_ns) {
    const char *path = g->region->path ? g->region->path : "";
    unsigned long long ms = (unsigned long long)(waited_ns / 1000000);
    struct shf_shm_slot *slot = shf__registry_slot(g, SHF_OWNER_SLOT(owner));
    uint64_t words[2] = {shm_load_relaxed(&slot->name[0]), shm_load_relaxed(&slot->name[1])};
    char name[17] = {0};
    memcpy(name, words, 16);
    for (int i = 0; name[i]; i++)
        if (name[i] < ' ' || name[i] > '~') name[i] = '?'; /* another process wrote it */
    if (owner == shf__registry_owner(g))
        return shf__fail(SHF_ERR_TIMEOUT, 0, "lock", g->region->path,
                         "%s: another thread of this handle (process %u) kept a lock for %llu ms; is it stopped?", path,
                         os_pid(), ms);
    return shf__fail(SHF_ERR_TIMEOUT, 0, "lock", g->region->path,
                     "%s: process %u (%s) kept a lock for %llu ms; it lives, but is it stopped or in a debugger?", path,
                     shm_load_relaxed32(&slot->pid), name, ms);
}

static inline int take(shf_au32 *word, uint32_t desired) {
    uint32_t free = 0;
    shf__crash_point();
    return atomic_compare_exchange_strong_explicit(word, &free, desired, memory_order_acquire, /* L3 */
                                                   memory_order_relaxed);
}

/* One of those that sleep long shall look at the word, find S clear and watch. */
static void wake_watcher(shf_au32 *word) { os_futex_wake(word, 1); }

int shf__lock_slow(struct shf_registry *g, shf_au32 *word, int *taken_over) {
    uint32_t me = shf__registry_owner(g);
    if (!me) me = shf__registry_owner_slow(g); /* records why */
    if (!me) return shf_last_error()->code;
    uint32_t mine = me << 2;

    for (int i = 0; i < SPINS; i++) {
        if (shm_load_relaxed32(word) == 0 && take(word, mine)) return SHF_OK;
        shf_pause();
    }
    uint64_t timeout = g->lock_timeout_ns ? g->lock_timeout_ns : DEFAULT_TIMEOUT_NS;
    if (shf__registry_patience_ns != 0 && shf__registry_patience_ns < timeout) timeout = shf__registry_patience_ns;
    uint64_t start = 0, nap = NAP_FIRST_NS, seed = 0;
    uint32_t watching = 0; /* the owner beside whose name I have set S */
    uint32_t seen_s = 0;   /* some may sleep long */
    for (;;) {
        uint32_t w = shm_load_acquire32(word); /* L6 */
        uint32_t owner = w >> 2;
        seen_s |= w & WATCHED;
        if (w == 0) {
            if (!take(word, mine)) continue;
            if (seen_s) wake_watcher(word);
            return SHF_OK;
        }
        uint64_t now = os_now_ns();
        if (!start) {
            start = now;
            seed = (now ^ (uint64_t)(uintptr_t)&now) | 1;
        }
        uint64_t waited = now - start;
        if (shf__registry_is_dead(g, owner) || /* not of me: own slot and generation live */
            (waited >= ASK_PROC_NS && shf__registry_is_over(g, owner))) {
            if (!shm_cas_acq_rel32(word, &w, mine | (w & SHF_LOCK_WAITERS))) continue; /* L4 */
            shf_fence_seq_cst();                                                       /* L5 */
            if (seen_s) wake_watcher(word);
            if (taken_over) *taken_over = 1;
            return SHF_OK;
        }
        if (waited >= timeout) {
            if (watching == owner) {
                shf__crash_point();
                atomic_compare_exchange_strong_explicit(word, &w, w & ~WATCHED, memory_order_relaxed, /* W2 */
                                                        memory_order_relaxed);
            }
            if (seen_s) wake_watcher(word);
            return timed_out(g, owner, waited);
        }
        uint32_t marks = waited < ONE_WATCHES_NS ? SHF_LOCK_WAITERS : SHF_LOCK_WAITERS | WATCHED;
        if ((w & marks) != marks) {
            uint32_t seen = w;
            shf__crash_point();
            if (!atomic_compare_exchange_strong_explicit(word, &seen, w | marks, memory_order_relaxed, /* W1 */
                                                         memory_order_relaxed))
                continue;
            if (marks & ~w & WATCHED) watching = owner;
            w |= marks;
            seen_s |= w & WATCHED;
        }
        uint64_t sleep = jitter(waited >= ONE_WATCHES_NS && watching != owner ? NAP_LONG_NS : nap, &seed);
        int rc = os_futex_wait(word, w, sleep < timeout - waited ? sleep : timeout - waited);
        if (rc == 0) nap = NAP_FIRST_NS;
        else if (nap < NAP_LAST_NS) nap = nap * 2 < NAP_LAST_NS ? nap * 2 : NAP_LAST_NS;
        mine = me << 2 | SHF_LOCK_WAITERS; /* have slept: others may still */
    }
}

void shf__unlock_wake(shf_au32 *word) { os_futex_wake(word, 1); }
