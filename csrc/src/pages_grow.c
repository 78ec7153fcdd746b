/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pages_grow.c - growth of the file at its end, one step at a time
 *
 * WHAT       Makes one free run of at least the asked pages at the end of the file, and moves `end`. See pages.c for
 *            the map, its states and invariants.
 * NOT        Shrinking. Holes: every page below `end` has its storage, so a store can never be SIGBUS on a full tmpfs.
 *
 * STEPS      under the grow lock, which is taken with no other lock held
 *    G0  look whether somebody else's growth (or free) has made such a run: then done. So N processes that ask
 *        at once do not grow N times. The hand makes two steps before the file grows (ahead as well as when asked): a
 *        clear frees more runs than there are hints. (allocator lock, inside the grow lock)
 *    G1  RLIMIT_FSIZE looked at (else SIGXFSZ kills); fallocate [end, end') in slices of at most 512 KiB. If the extent
 *        does not fit (full tmpfs, max_bytes near), once more with the asked pages only. A slice that fails leaves
 *        nothing (elsewhere than on tmpfs perhaps a part, beyond `end`, which the next growth uses). The slices before
 *        it are cut off again, down to the file's size before, not to `end`: a forged `end` must not cut off what
 *        others use. (A memfd refuses, no harm.)
 *    G2  beyond `end`, where nobody looks: clear new map and middle pages and the words of [end, end') in the last
 *        old map page (a dead grower may have written there: H1); FIXED(k) and INTERIOR for the k map and middle
 *        pages, FREE for the rest; then link: middle entries, root entries (release).
 *    G3  end = end'      release: the commit. Pairs with the acquire in shf__region_refresh: who sees the new end
 *        sees the map of what lies below it. A root or middle entry of a dead grower is never followed: pages at or
 *        beyond `end` have no entry, and the growth that covers them overwrites it. Then this handle's r->size, without
 *        an fstat: fallocate has just made the file so long.
 *    G4  the hint, under the allocator lock (lost by a death: the hand). Unlock. Then the pages of an extent are
 *        populated in the caller, so that stores under shard locks do not fault. A longer run is not: whoever
 *        asked for it fills it with no lock held.
 *
 * QUANTUM    clamp(file / 8, 64 KiB, 512 KiB), or the asked run. A page costs 0.86 us in fallocate and 1.05 us in populate
 *            (tmpfs, 6.18), whatever the size of the step: so 512 KiB take 0.25 ms. With keys and values of 4 bytes such a
 *            step comes once in 17,000 puts; half of it would come in more than one of 10,000, and be p99.99. Twice of
 *            it would be the longest put, by far. Left to page faults, populate's part would cost 1.25 us a page, under
 *            shard locks: 2 us more for each split.
 * AHEAD      take sets want_ahead when no hint of a run of 16 pages or more is left; the next operation that
 *            holds no lock does one step if nobody else is growing. Failing is no error, and not tried again
 *            for 100 ms (a full file system would cost each put a system call).
 * SPACE      Before SHF_ERR_NO_SPACE the hand goes all round: free runs without a hint are found and merged.
 *
 * IF SOMEBODY DIES   before G3: the next grower starts at `end` again. The file may be longer than `end`:
 *                    fallocate of what is there already is a no-op. After G3: a hint is missing.
 */
#include "pages_impl.h"

#include <errno.h>
#include <stdio.h>

/* What one growth will do. Page numbers. */
struct plan {
    uint32_t first;                 /* = end */
    uint32_t maps, middles;         /* new pages of the page map: middles at `first`, maps after them */
    uint32_t run, total;            /* the free run; everything */
    uint32_t first_map, first_middle; /* numbers of the first new map page, the first new middle page */
};

static void plan_for(struct plan *g, uint32_t first, uint32_t run) {
    g->first = first;
    g->run = run;
    g->first_map = (first + SHF_MAP_ENTRIES - 1) / SHF_MAP_ENTRIES;
    uint32_t per_middle = SHF_MAP_ENTRIES * SHF_MIDDLE_ENTRIES;
    g->first_middle = (first + per_middle - 1) / per_middle;
    g->maps = g->middles = 0;
    for (;;) { /* grows to a fixed point: each map page may need another one */
        g->total = run + g->maps + g->middles;
        uint32_t last = first + g->total - 1;
        uint32_t maps = last / SHF_MAP_ENTRIES + 1 - g->first_map;
        uint32_t middles = last / per_middle + 1 - g->first_middle;
        if (maps == g->maps && middles == g->middles) return;
        g->maps = maps, g->middles = middles;
    }
}

static int no_space(struct shf_pages *p, int quiet, int error, const char *why, uint64_t limit) {
    char text[160];
    const char *path = p->region->path ? p->region->path : "";
    if (quiet) return SHF_ERR_NO_SPACE;
    snprintf(text, sizeof text, why, (unsigned long long)limit);
    return shf__fail(SHF_ERR_NO_SPACE, error, "pages: growth", path, "%s: %s", path, text);
}

/* G1 for [end, end + bytes). */
static int allocate(struct shf_pages *p, uint64_t end, uint64_t bytes, int quiet) {
    struct shf_region *r = p->region;
    if (end + bytes > r->max_bytes)
        return no_space(p, quiet, 0, "the file would pass max_bytes (%llu), fixed when it was created", r->max_bytes);
    if (end + bytes > r->reserved) {
        if (quiet) return SHF_ERR_ADDRESS_SPACE;
        return shf__fail(SHF_ERR_ADDRESS_SPACE, 0, "pages: growth", r->path,
                         "%s: only %llu bytes of address space could be reserved: raise RLIMIT_AS and open it again",
                         r->path, (unsigned long long)r->reserved);
    }
    uint64_t limit = os_file_size_limit();
    struct os_stat before, now;
    int rc = end + bytes > limit ? -EFBIG : 0;
    if (rc == 0 && bytes > SHF_EXTENT_MAX) rc = os_fstat(r->fd, &before);
    for (uint64_t done = 0; rc >= 0 && done < bytes;) {
        uint64_t slice = bytes - done < SHF_EXTENT_MAX ? bytes - done : SHF_EXTENT_MAX;
        rc = os_fallocate(r->fd, end + done, slice);
        if (rc < 0 && done != 0 && before.size >= end && os_fstat(r->fd, &now) >= 0 && now.size > before.size)
            (void)os_ftruncate(r->fd, before.size); /* nobody has seen a size beyond it: growers exclude each other */
        done += slice;
    }
    if (rc >= 0) return SHF_OK;
    if (rc == -EFBIG)
        return no_space(p, quiet, EFBIG, "the process' file size limit (RLIMIT_FSIZE, %llu) or the file system's",
                        limit);
    if (rc == -ENOSPC || rc == -EDQUOT)
        return no_space(p, quiet, -rc, "no room on the file system for %llu more bytes", bytes);
    if (quiet) return SHF_ERR_IO;
    return shf__fail(SHF_ERR_IO, -rc, "pages: growth", r->path, "%s: the file could not grow: system error %d", r->path, -rc);
}

static void *new_page(struct shf_region *r, uint32_t page) { return r->base + (uint64_t)page * SHF_PAGE; } /* G1 checked */

/* The entry of a page beyond `end`; NULL if the old part of the map is damaged. */
static struct shf_shm_map_entry *new_entry(struct shf_region *r, const struct plan *g, uint32_t page) {
    uint32_t index = page / SHF_MAP_ENTRIES;
    struct shf_shm_map_entry *map = index < g->first_map
                                        ? shf__pages_map_page(r, index)
                                        : new_page(r, g->first + g->middles + (index - g->first_map));
    return map ? map + page % SHF_MAP_ENTRIES : NULL;
}

/* G2. */
static int describe(struct shf_region *r, const struct plan *g) {
    uint32_t fixed = g->maps + g->middles;
    struct shf_shm_map_entry *e;
    for (uint32_t i = 0; i < fixed; i++) shm_clear(new_page(r, g->first + i), SHF_PAGE / 8);
    uint32_t old_part = g->first_map * SHF_MAP_ENTRIES; /* first page that has a new map page */
    if (old_part > g->first) {
        uint32_t stop = old_part < g->first + g->total ? old_part : g->first + g->total;
        if ((e = new_entry(r, g, g->first)) == NULL) goto damaged;
        for (uint32_t i = g->first; i < stop; i++, e++) {
            if (shm_load_relaxed(&e->word) != 0) shm_store_relaxed(&e->word, 0);
            if (shm_load_relaxed(&e->aux) != 0) shm_store_relaxed(&e->aux, 0);
        }
    }
    for (uint32_t i = 0; i < fixed; i++) {
        if ((e = new_entry(r, g, g->first + i)) == NULL) goto damaged;
        shm_store_relaxed(&e->word, i == 0 ? shf_page_word(SHF_PAGE_FIXED, 0, fixed)
                                           : shf_page_word(SHF_PAGE_INTERIOR, 0, i));
    }
    if ((e = new_entry(r, g, g->first + fixed)) == NULL) goto damaged;
    shm_store_relaxed(&e->word, shf_page_word(SHF_PAGE_FREE, 0, g->run));
    for (uint32_t i = 0; i < g->maps; i++) {
        uint32_t index = g->first_map + i, middle = index / SHF_MIDDLE_ENTRIES;
        shf_au32 *m = middle < g->first_middle ? shf__pages_middle(r, middle)
                                               : new_page(r, g->first + (middle - g->first_middle));
        if (m == NULL) goto damaged;
        shm_store_release32(m + index % SHF_MIDDLE_ENTRIES, g->first + g->middles + i);
    }
    if (g->middles) {
        shf_au32 *root = shf__region_at(r, (uint64_t)SHF_ROOT_PAGE * SHF_PAGE, 2 * SHF_PAGE);
        if (root == NULL) goto damaged;
        for (uint32_t i = 0; i < g->middles; i++) shm_store_release32(root + g->first_middle + i, g->first + i);
    }
    return SHF_OK;
damaged:
    return shf__region_corrupt(r, "page map: the last map page is out of range", g->first);
}

/* Under the grow lock: a free run of `run` pages or, with room, of an extent. *g tells what was made. */
static int grow_locked(struct shf_pages *p, uint32_t run, struct plan *g, int quiet) {
    struct shf_region *r = p->region;
    uint64_t end = shm_load_acquire(&r->header->end);
    shf__region_refresh(r);
    if (end % SHF_PAGE != 0 || (end <= r->reserved && end != atomic_load_explicit(&r->size, memory_order_relaxed)))
        return shf__region_corrupt(r, "header: end of the file", end);
    uint64_t extent = end / 8 < SHF_EXTENT_MIN ? SHF_EXTENT_MIN : end / 8 > SHF_EXTENT_MAX ? SHF_EXTENT_MAX : end / 8;
    uint32_t pages = (uint32_t)(extent / SHF_PAGE), first = (uint32_t)(end / SHF_PAGE);
    int rc = SHF_ERR_NO_SPACE;
    if (pages > run) {
        plan_for(g, first, pages);
        uint32_t fixed = g->maps + g->middles; /* one system call, map pages included, when it can be */
        plan_for(g, first, pages - run > fixed ? pages - fixed : run);
        rc = allocate(p, end, (uint64_t)g->total * SHF_PAGE, 1);
    }
    if (rc != SHF_OK) {
        plan_for(g, first, run);
        rc = allocate(p, end, (uint64_t)g->total * SHF_PAGE, quiet);
    }
    if (rc == SHF_OK) rc = describe(r, g);
    if (rc != SHF_OK) return rc;
    end += (uint64_t)g->total * SHF_PAGE;
    shm_store_release(&r->header->end, end); /* G3 */
    shf__region_grown(r, end);
    return SHF_OK;
}

/* G4, the hint. */
static void tell(struct shf_pages *p, const struct plan *g) {
    if (shf__pages_lock(p) != SHF_OK) return; /* a lost hint: the hand finds it */
    shf__pages_push(p, g->first + g->maps + g->middles, g->run);
    shf__pages_unlock(p);
}
static void populate(struct shf_pages *p, const struct plan *g) {
    if ((uint64_t)g->total * SHF_PAGE <= SHF_EXTENT_MAX)
        (void)os_populate_write(new_page(p->region, g->first), (size_t)g->total * SHF_PAGE);
}

/* How far the hand goes before the file grows: so long the free runs without a hint last, it does not grow. */
#define STEPS_BEFORE_GROWTH 2
#define ALL_ROUND UINT32_MAX

/* SHF_OK if there is a run of n pages with a hint; the hand makes up to `steps` of SHF_HAND_WORDS heads, or goes all
 * round. */
static int look(struct shf_pages *p, uint32_t n, uint32_t steps) {
    int found = 0, wrapped = 0, rounds = 0, rc;
    uint32_t page, step = 0;
    do {
        if ((rc = shf__pages_lock(p)) != SHF_OK) return rc;
        if ((page = shf__pages_find(p, n)) != 0) {
            struct shf_shm_map_entry *e = shf__pages_entry(p->region, page);
            if (e != NULL) shf__pages_push(p, page, shf_page_length(shm_load_relaxed(&e->word)));
        }
        if (page == 0 && step < steps) rc = shf__pages_hand(p, n, SHF_HAND_WORDS, &found, &wrapped);
        shf__pages_unlock(p);
        rounds += wrapped;
        wrapped = 0;
    } while (rc == SHF_OK && page == 0 && step++ < steps && (found || rounds < 2)); /* the first round begins anywhere */
    return rc != SHF_OK ? rc : page != 0 ? SHF_OK : SHF__GROW;
}

int shf__pages_grow(struct shf_pages *p, uint32_t n) {
    struct shf_region *r = p->region;
    struct plan g;
    if (n == 0 || n >= SHF_PAGES_MAX / 2) return no_space(p, 0, 0, "a run of %llu pages cannot be", n);
    int rc = shf__lock(p->registry, &r->header->grow_word, NULL);
    if (rc != SHF_OK) return rc;
    rc = look(p, n, STEPS_BEFORE_GROWTH); /* G0 */
    if (rc != SHF__GROW) {
        shf__unlock(&r->header->grow_word);
        return rc;
    }
    rc = grow_locked(p, n, &g, 0);
    if (rc == SHF_OK) tell(p, &g);
    shf__unlock(&r->header->grow_word);
    if (rc == SHF_OK) populate(p, &g);
    if (rc == SHF_ERR_NO_SPACE && look(p, n, ALL_ROUND) == SHF_OK) return SHF_OK;
    return rc;
}

void shf__pages_grow_ahead(struct shf_pages *p) {
    if (SHF_LIKELY(atomic_load_explicit(&p->want_ahead, memory_order_relaxed) == 0)) return;
    if (p->region->read_only || os_now_ns() < atomic_load_explicit(&p->ahead_not_before, memory_order_relaxed)) return;
    if (!shf__trylock(p->registry, &p->region->header->grow_word)) return;
    struct plan g;
    int rc = look(p, SHF_CHUNK_LIKE, STEPS_BEFORE_GROWTH), grown = 0; /* G0 */
    if (rc == SHF__GROW) {
        rc = grow_locked(p, SHF_CHUNK_LIKE, &g, 1);
        grown = rc == SHF_OK;
        if (grown) tell(p, &g);
    }
    shf__unlock(&p->region->header->grow_word);
    atomic_store_explicit(&p->want_ahead, 0, memory_order_relaxed);
    if (grown)
        populate(p, &g);
    if (rc != SHF_OK)
        atomic_store_explicit(&p->ahead_not_before, os_now_ns() + 100 * UINT64_C(1000000), memory_order_relaxed);
    shf__pages_fill_reserve(p);
}
