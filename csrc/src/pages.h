/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pages.h - growth, the page map, runs of pages
 *
 * The protocol is at the top of pages.c. Layer: lock <- pages <- table.
 */
#ifndef SHF_PAGES_H
#define SHF_PAGES_H

#include "lock.h"

/* Internal outcome: there is no free run of that length; unlock everything, shf__pages_grow, and look again. */
#define SHF__GROW 100

/* Process-private. */
struct shf_pages {
    struct shf_region *region;
    struct shf_registry *registry;
    /* Set by the object. lock_shard takes a shard's lock and finishes what is armed there (so afterwards arm and run
     * are 0); run_word is the shard's `run`. */
    int (*lock_shard)(void *context, uint32_t shard);
    void (*unlock_shard)(void *context, uint32_t shard);
    shf_au32 *(*run_word)(void *context, uint32_t shard);
    uint32_t shards;
    void *context;
    _Atomic uint32_t want_ahead;            /* 1: the free space is running low; grow when no lock is held */
    _Atomic uint64_t ahead_not_before;      /* ns: growing ahead failed; not again before this time */
    _Atomic uint64_t pending_used[SHF_PENDING_ENTRIES / 64]; /* claims of this life's pending entries */
    _Atomic uint64_t pending_process;       /* the process id the claims belong to: forked children start anew */
};

/* The map entry of a page; NULL if the page or the map is out of range (an error is not recorded). */
struct shf_shm_map_entry *shf__pages_entry(struct shf_region *r, uint32_t page);
/* The head of the run that `page` lies in (follows one INTERIOR word), and its word. 0 = the map makes no sense. */
uint32_t shf__pages_head(struct shf_region *r, uint32_t page, uint64_t *word);

/* 1 if the run that begins at `page` lies inside the file, but not all of it where this handle can see: it has less address
 * space than the file is long, or the file's size could not be asked for. Not wrong: whoever must read or free that run
 * leaves it to another handle, or to a later time. A freed run that was missed could not be found again. */
int shf__pages_out_of_reach(struct shf_region *r, uint32_t page);

/* Takes a run of n pages for a holder of a shard lock: *run_word (the shard's `run`) = page before the map
 * changes, head word = {state, owner, n} = commit, aux = 0. The caller links the run in a step and then stores
 * run = 0. The bytes of the run are whatever was there. SHF_OK, SHF__GROW, SHF_ERR_TIMEOUT, SHF_ERR_CORRUPT. */
int shf__pages_take(struct shf_pages *p, shf_au32 *run_word, enum shf_page_state state, uint32_t owner, uint32_t n,
                    uint32_t *page);
/* Stores FREE if the page's word is {state, owner}: the caller holds what P2 asks for. Idempotent, takes no lock,
 * cannot fail. Returns the run's pages, or 0 if it is not that (any more). Between arm and disarm use this, then
 * shf__pages_hint after the disarm. */
uint32_t shf__pages_free(struct shf_region *r, uint32_t page, enum shf_page_state state, uint32_t owner);
/* Tells the allocator of a free run. Advice: does nothing if the allocator lock is taken. */
void shf__pages_hint(struct shf_pages *p, uint32_t page);
/* Gives back a run that a dead owner had taken and not linked: as shf__pages_free for SEGMENT, DIRECTORY or CHUNK
 * of this shard, and for a PENDPAGE that its slot does not name. */
void shf__pages_give_back(struct shf_pages *p, uint32_t page, uint32_t shard);

/* Makes a free run of at least n pages at the end of the file. No lock may be held. SHF_OK (somebody else may take
 * it first: loop), SHF_ERR_NO_SPACE, SHF_ERR_ADDRESS_SPACE, SHF_ERR_TIMEOUT, SHF_ERR_IO... */
int shf__pages_grow(struct shf_pages *p, uint32_t n);
/* One step ahead, if want_ahead says so; errors are no errors. No lock may be held. */
void shf__pages_grow_ahead(struct shf_pages *p);

/* The cleaner's reserve chunk. take: as shf__pages_take (state CHUNK) but gives the RESERVE run, whatever its
 * length: *n. SHF__GROW if there is none. Under the shard's lock. */
int shf__pages_take_reserve(struct shf_pages *p, shf_au32 *run_word, uint32_t shard, uint32_t *n, uint32_t *page);
/* Makes a free run of at most 16 pages the reserve, if there is none (header word first, then the map word: a header
 * word whose run is not RESERVE counts as none). Advice; never grows the file. Under no lock. */
void shf__pages_fill_reserve(struct shf_pages *p);

/* Large runs, filled before any lock is held. begin: makes sure this slot has a pending page (taken under the
 * shard's lock), claims an entry, takes a run of n pages in state PENDING; *entry is its number. No lock may be
 * held; SHF__GROW: grow and try again. finish: after the run was linked (LARGE), or given up (give_up = 1: FREE). */
int shf__pages_pending_begin(struct shf_pages *p, uint32_t shard, uint32_t n, uint32_t *page, uint32_t *entry);
void shf__pages_pending_finish(struct shf_pages *p, uint32_t page, uint32_t entry, int give_up);
/* The word a PENDING run of this life has; to be replaced by LARGE(shard) in the linking step. */
uint64_t shf__pages_pending_word(struct shf_pages *p, uint32_t n);
/* Part of registry's sweep: gives back the pending runs of a slot without a life (any older life of this slot): takes
 * each entry's shard lock through lock_shard, then FREE iff the run is still PENDING of that dead life. */
int shf__pages_sweep_slot(struct shf_pages *p, uint32_t slot);

/* A walk over the heads of all runs, from page 0. *page = 0 to begin; gives head, word; 0 at the end or -1 if P1 is
 * broken at *page. Exact under the allocator lock or with no writer about: else a merge and a take between two calls may
 * show an INTERIOR; look again from there under the lock. */
int shf__pages_walk(struct shf_region *r, uint32_t *page, uint32_t *head, uint64_t *word);

#endif
