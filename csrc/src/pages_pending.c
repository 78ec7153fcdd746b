/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pages_pending.c - runs that a handle fills with no lock held, and the cleaner's reserve
 *
 * WHAT       A large value is written before its shard is locked. Until the linking step the run belongs to the
 *            handle's life: PENDING(slot, generation). What a dead life left is given back by the sweep.
 * NOT        A record of linked values: their word says LARGE(shard), and the entry is gone.
 *
 * SHARED LAYOUT   slot.pending = the slot's PENDPAGE, taken when first needed, under a shard's lock, and kept by the slot
 *            through all its lives. 512 entries {shard 32 | run 32}, 0 = free. The PENDPAGE's word is
 *            {PENDPAGE, slot 10 | shard 20}: the shard whose `run` announced it (pages.c, H4).
 *
 * ORDER OF ONE RUN
 *    N1  claim an entry: a bit in private memory, one bitmap per life (threads of one handle)
 *    N2  entry = {shard, run}     before the map word                         [pages.c T1]
 *    N3  map word PENDING(life)   the commit of the take                      [pages.c T4]
 *    N4  linking step of the shard: map word LARGE(shard); or given up: FREE
 *    N5  entry = 0                N6  the claim's bit is cleared
 *
 * SWEEP      of a slot without a life, under byte R; or of the own slot, at attach or at the first claim of a life, when this
 *            life has no run yet. For each entry: the shard's lock (which finishes an armed linking step), then FREE iff the
 *            word is still PENDING of that slot and not of this very life; then entry = 0. So a PENDPAGE in use by its
 *            slot's *new* life is never swept by others: a slot with a life is not swept at all.
 *    N7  PENDING of a dead life is changed under that shard's lock only, by its linking step's recovery or by us; so
 *        load + store needs no CAS.
 *    N8  No life starts while an entry of an older one is there: the first claim looks again (the sweep at attach
 *        may have met a timeout). Else a stale entry could come to name a run of the new life, with another
 *        shard's lock to guard it.
 *
 * FORK       the child's claims start anew: it has another slot. `pending_process` names the process; its top bit says
 *            that somebody clears the bitmap just now. A child forked meanwhile sees its parent's number: not its own.
 *
 * RESERVE    header word first, then the map word: a header word whose run is not RESERVE counts as none. take: CHUNK(shard)
 *            first, then the header word = 0. A death between leaves a header word that counts as none.
 *
 * IF IT DIES N2..N3: the entry names a run that is not PENDING of this life: swept to nothing.   N3..N4: swept to FREE.
 *            N4..N5: LARGE or FREE: entry = 0.   A PENDPAGE that its slot does not name: `run` of the shard, give_back.
 */
#include "pages_impl.h"

/* ---- the pending page --------------------------------------------------------------------------------- */

/* The entries of a slot; NULL if it has none or the file is damaged. */
static shf_au64 *entries_of(struct shf_pages *p, uint32_t slot) {
    struct shf_shm_slot *s = slot ? shf__registry_slot(p->registry, slot) : NULL;
    uint32_t page = s ? shm_load_acquire32(&s->pending) : 0;
    struct shf_shm_map_entry *e = page ? shf__pages_entry(p->region, page) : NULL;
    if (e == NULL) return NULL;
    uint64_t w = shm_load_acquire(&e->word);
    if (shf_page_state(w) != SHF_PAGE_PENDPAGE || SHF_OWNER_SLOT(shf_page_owner(w)) != slot) return NULL;
    return shf__region_page(p->region, page);
}

/* Gives this slot its page. Two threads may do so under two shards' locks: one wins the CAS. */
static int make_page(struct shf_pages *p, uint32_t slot, uint32_t shard) {
    struct shf_shm_slot *s = shf__registry_slot(p->registry, slot);
    int rc = p->lock_shard(p->context, shard);
    if (rc != SHF_OK) return rc;
    uint32_t page, none = 0;
    int lost = 0;
    shf_au32 *run = p->run_word(p->context, shard);
    if (shm_load_acquire32(&s->pending) == 0 &&
        (rc = shf__pages_take(p, run, SHF_PAGE_PENDPAGE, SHF_OWNER(slot, shard), 1, &page)) == SHF_OK) {
        shm_clear(shf__region_page(p->region, page), SHF_PENDING_ENTRIES); /* a run that was taken lies within reach */
        lost = !shm_cas_acq_rel32(&s->pending, &none, page);
        if (lost) shf__pages_free(p->region, page, SHF_PAGE_PENDPAGE, SHF_OWNER(slot, shard));
        shm_store_release32(run, 0);
    }
    p->unlock_shard(p->context, shard);
    if (lost) shf__pages_hint(p, page);
    return rc;
}

/* ---- claims ------------------------------------------------------------------------------------------- */

#define CLEARING (UINT64_C(1) << 63)

/* Makes the bitmap this process' own, once a life. */
static int own_claims(struct shf_pages *p, uint32_t slot) {
    uint64_t me = atomic_load_explicit(p->registry->process_now, memory_order_relaxed) & ~CLEARING;
    uint64_t deadline = os_now_ns() + p->registry->lock_timeout_ns;
    for (;;) {
        uint64_t now = atomic_load_explicit(&p->pending_process, memory_order_acquire);
        if (SHF_LIKELY(now == me)) return SHF_OK;
        if (now != (me | CLEARING) &&
            atomic_compare_exchange_strong_explicit(&p->pending_process, &now, me | CLEARING, memory_order_acquire,
                                                    memory_order_relaxed))
            break;
        /* another thread is at it */
        if (os_now_ns() > deadline) return shf__fail(SHF_ERR_TIMEOUT, 0, "pages: claims", p->region->path, NULL);
        os_yield();
    }
    for (size_t i = 0; i < SHF_PENDING_ENTRIES / 64; i++)
        atomic_store_explicit(&p->pending_used[i], 0, memory_order_relaxed);
    int rc = shf__pages_sweep_slot(p, slot); /* N8 */
    atomic_store_explicit(&p->pending_process, rc == SHF_OK ? me : 0, memory_order_release);
    return rc;
}

/* N1. */
static int claim(struct shf_pages *p, shf_au64 *entries, uint32_t *entry) {
    uint64_t deadline = 0;
    for (;;) {
        for (uint32_t i = 0; i < SHF_PENDING_ENTRIES; i++) {
            uint64_t bit = UINT64_C(1) << (i % 64);
            uint64_t used = atomic_load_explicit(&p->pending_used[i / 64], memory_order_relaxed);
            if (used == UINT64_MAX) {
                i |= 63;
                continue;
            }
            if (used & bit) continue;
            if (atomic_fetch_or_explicit(&p->pending_used[i / 64], bit, memory_order_acquire) & bit) continue;
            if (shm_load_relaxed(entries + i) != 0) continue; /* cannot be (N8); a bit too many does no harm */
            *entry = i;
            return SHF_OK;
        }
        uint64_t now = os_now_ns(); /* 512 large puts at once */
        if (deadline == 0) deadline = now + p->registry->lock_timeout_ns;
        if (now > deadline)
            return shf__fail(SHF_ERR_TIMEOUT, 0, "pages: claims", p->region->path,
                             "all %u pending entries of this handle are in use", SHF_PENDING_ENTRIES);
        os_sleep_ns(100000);
    }
}

static void unclaim(struct shf_pages *p, uint32_t entry) {
    atomic_fetch_and_explicit(&p->pending_used[entry / 64], ~(UINT64_C(1) << (entry % 64)), memory_order_release); /* N6 */
}

/* ---- begin, finish, sweep ----------------------------------------------------------------------------- */

int shf__pages_pending_begin(struct shf_pages *p, uint32_t shard, uint32_t n, uint32_t *page, uint32_t *entry) {
    uint32_t me = shf__registry_owner(p->registry);
    uint32_t slot = SHF_OWNER_SLOT(me), i = 0;
    if (me == 0) return shf_last_error()->code;
    int rc = own_claims(p, slot);
    if (rc != SHF_OK) return rc;
    shf_au64 *entries = entries_of(p, slot);
    if (entries == NULL) {
        if ((rc = make_page(p, slot, shard)) != SHF_OK) return rc;
        entries = entries_of(p, slot);
        if (entries == NULL) return shf__region_corrupt(p->region, "registry: pending page of slot", slot);
    }
    if ((rc = claim(p, entries, &i)) != SHF_OK) return rc;
    struct shf_pages_note note = {NULL, entries + i, shard};
    rc = shf__pages_take_noted(p, &note, SHF_PAGE_PENDING, me, n, page);
    if (rc != SHF_OK) {
        unclaim(p, i);
        return rc;
    }
    *entry = i;
    return SHF_OK;
}

void shf__pages_pending_finish(struct shf_pages *p, uint32_t page, uint32_t entry, int give_up) {
    uint32_t me = shf__registry_owner(p->registry);
    shf_au64 *entries = me ? entries_of(p, SHF_OWNER_SLOT(me)) : NULL;
    if (entry >= SHF_PENDING_ENTRIES) return;
    uint32_t freed = give_up && me ? shf__pages_free(p->region, page, SHF_PAGE_PENDING, me) : 0; /* N4 */
    if (entries) shm_store_release(entries + entry, 0);                                         /* N5 */
    unclaim(p, entry);
    if (freed) shf__pages_hint(p, page);
}

uint64_t shf__pages_pending_word(struct shf_pages *p, uint32_t n) {
    return shf_page_word(SHF_PAGE_PENDING, shf__registry_owner(p->registry), n);
}

int shf__pages_sweep_slot(struct shf_pages *p, uint32_t slot) {
    shf_au64 *entries = entries_of(p, slot);
    uint32_t me = atomic_load_explicit(&p->registry->owner, memory_order_relaxed);
    int first = SHF_OK;
    if (entries == NULL) return SHF_OK; /* none, or damaged: nothing that we could trust */
    /* Two entries of one life may name the same run: an old one not yet cleared, and that of a later taker whose link is
     * armed under another shard. So first every shard named here is locked once, which finishes what is armed; a dead
     * life arms nothing new. A shard that cannot be had keeps everything as it is, for the next sweep. */
    for (uint32_t i = 0; i < SHF_PENDING_ENTRIES; i++) {
        uint64_t entry = shm_load_acquire(entries + i);
        uint32_t shard = (uint32_t)(entry >> 32);
        if (entry == 0 || shard >= p->shards) continue;
        int rc = p->lock_shard(p->context, shard);
        if (rc != SHF_OK) return rc;
        p->unlock_shard(p->context, shard);
    }
    for (uint32_t i = 0; i < SHF_PENDING_ENTRIES; i++) {
        uint64_t entry = shm_load_acquire(entries + i);
        uint32_t shard = (uint32_t)(entry >> 32), run = (uint32_t)entry, freed = 0;
        if (entry == 0) continue;
        if (shard < p->shards) { /* else forged: no lock to guard its run */
            int rc = p->lock_shard(p->context, shard);
            if (rc != SHF_OK) {
                if (first == SHF_OK) first = rc;
                continue;
            }
            if (shf__pages_out_of_reach(p->region, run)) {
                p->unlock_shard(p->context, shard);
                if (first == SHF_OK) first = shf__region_corrupt(p->region, "pending run", run);
                continue;
            }
            struct shf_shm_map_entry *e = shf__pages_entry(p->region, run);
            uint64_t w = e ? shm_load_acquire(&e->word) : 0;
            uint32_t owner = shf_page_owner(w);
            if (shf_page_state(w) == SHF_PAGE_PENDING && SHF_OWNER_SLOT(owner) == slot && owner != me)
                freed = shf__pages_free(p->region, run, SHF_PAGE_PENDING, owner); /* N7 */
            p->unlock_shard(p->context, shard);
        }
        shm_store_release(entries + i, 0);
        if (freed) shf__pages_hint(p, run);
    }
    return first;
}

/* ---- the reserve --------------------------------------------------------------------------------------- */

/* The reserve run's entry if there is one. */
static struct shf_shm_map_entry *reserve_of(struct shf_pages *p, uint32_t *page, uint32_t *n) {
    *page = shm_load_relaxed32(&p->region->header->reserve);
    struct shf_shm_map_entry *e = *page ? shf__pages_entry(p->region, *page) : NULL;
    uint64_t w = e ? shm_load_acquire(&e->word) : 0;
    *n = shf_page_length(w);
    return shf_page_state(w) == SHF_PAGE_RESERVE && *n != 0 && shf__pages_inside(p->region, *page, *n) ? e : NULL;
}

int shf__pages_take_reserve(struct shf_pages *p, shf_au32 *run_word, uint32_t shard, uint32_t *n, uint32_t *page) {
    int rc = shf__pages_lock(p);
    if (rc != SHF_OK) return rc;
    struct shf_shm_map_entry *e = reserve_of(p, page, n);
    if (e == NULL) {
        rc = SHF__GROW;
    } else {
        shf_fence_release(); /* T0 */
        shm_store_release32(run_word, *page);
        if (shm_load_relaxed(&e->aux) != 0) shm_store_relaxed(&e->aux, 0);
        shm_store_release(&e->word, shf_page_word(SHF_PAGE_CHUNK, shard, *n)); /* T4 */
        shm_store_relaxed32(&p->region->header->reserve, 0);
    }
    shf__pages_unlock(p);
    return rc;
}

void shf__pages_fill_reserve(struct shf_pages *p) {
    uint32_t page, n;
    if (p->region->read_only || reserve_of(p, &page, &n) != NULL) return;
    if (!shf__trylock(p->registry, &p->region->header->alloc_word)) return;
    if (reserve_of(p, &page, &n) == NULL && (page == 0 || !shf__pages_out_of_reach(p->region, page))) {
        for (n = SHF_CHUNK_LIKE; n >= 4; n /= 2) /* fewer pages would not take a record of 8 KiB */
            if ((page = shf__pages_find(p, n)) != 0) break;
        struct shf_pages_note note = {&p->region->header->reserve, NULL, 0};
        if (page != 0 && n >= 4)
            (void)shf__pages_split_off(p, &note, shf_page_word(SHF_PAGE_RESERVE, 0, n), page, n);
    }
    shf__pages_unlock(p);
}
