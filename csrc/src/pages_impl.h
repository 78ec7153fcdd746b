/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pages_impl.h - what pages.c, pages_grow.c and pages_pending.c share; nobody else includes it */
#ifndef SHF_PAGES_IMPL_H
#define SHF_PAGES_IMPL_H

#include "pages.h"

#define SHF_PAGES_MAX (1u << 29)    /* the page map reaches 2 TiB */
#define SHF_HAND_WORDS 512u         /* heads the hand looks at in one go */
#define SHF_EXTENT_MAX (512u << 10) /* bytes: one fallocate, and growth ahead */
#define SHF_EXTENT_MIN (64u << 10)
#define SHF_CHUNK_LIKE 16u /* pages; the run that growth ahead and the reserve think of */

static inline uint32_t shf__pages_limit(struct shf_region *r) { /* pages that may be touched */
    return (uint32_t)(atomic_load_explicit(&r->size, memory_order_acquire) / SHF_PAGE); /* S2 */
}
/* 1 if [page, page + n) lies inside the file as known; looks at the file's end again before it says no. */
int shf__pages_inside(struct shf_region *r, uint32_t page, uint32_t n);
/* The map page number `index` (256 pages each), whatever `end` says of the pages it describes. NULL = not there. */
struct shf_shm_map_entry *shf__pages_map_page(struct shf_region *r, uint32_t index);
/* A middle page; NULL = not there. */
shf_au32 *shf__pages_middle(struct shf_region *r, uint32_t index);

int shf__pages_lock(struct shf_pages *p);   /* the allocator lock */
void shf__pages_unlock(struct shf_pages *p);
/* All of these under the allocator lock. */
uint32_t shf__pages_find(struct shf_pages *p, uint32_t n); /* head of a FREE run of >= n pages, 0 = none hinted */
void shf__pages_push(struct shf_pages *p, uint32_t page, uint32_t length);
int shf__pages_hand(struct shf_pages *p, uint32_t n, uint32_t budget, int *found, int *wrapped);
/* Where a run is announced before it is taken: a shard's `run`, or a pending entry; both NULL: nowhere. */
struct shf_pages_note {
    shf_au32 *run;
    shf_au64 *entry;
    uint32_t shard; /* for `entry` */
};
/* find, hand, find; then takes n pages for {state, owner}. SHF_OK, SHF__GROW, SHF_ERR_*. Takes and releases the
 * allocator lock. */
int shf__pages_take_noted(struct shf_pages *p, const struct shf_pages_note *note, enum shf_page_state state,
                          uint32_t owner, uint32_t n, uint32_t *page);
/* The taking itself, of the first n pages of the FREE run at `page`; under the allocator lock. */
int shf__pages_split_off(struct shf_pages *p, const struct shf_pages_note *note, uint64_t word, uint32_t page, uint32_t n);

#endif
