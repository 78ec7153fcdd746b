/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pages.c - runs of pages: take, free, merge, walk (pages_grow.c: growth; pages_pending.c: pending runs, reserve)
 *
 * WHAT       Hands out runs of 4 KiB pages of one file to shards and handles, and takes them back. Any user may
 *            die at any store: no page is ever owned twice, none is lost for good.
 * NOT        A general allocator for bytes (chunks do that), and nothing here moves or returns space to the
 *            file system: `end` only grows. No hole punching (DESIGN 3).
 *
 * SHARED LAYOUT   layout.h: PAGE MAP (16 bytes a page: word, aux), struct shf_shm_hints, and of the header:
 *
 *    end 128        bytes in use; grow lock; release                                     [G3]
 *    grow_word 136  the grow lock
 *    alloc_word 192 the allocator lock: hints, hand, reserve, every move out of FREE
 *    hand 196       the head where the merging hand goes on
 *    reserve 200    head of the RESERVE run; believed only if that word says RESERVE
 *
 *    The map is found through root (2,048 u32) -> middle (1,024 u32) -> map page (256 entries). Every page number
 *    read from the file is range-checked, and a page at or beyond `end` has no entry, whatever the map says.
 *    Why 16 bytes and not DESIGN's 8: aux of a chunk's head holds its dead units, so there is no side array that
 *    must grow and be found as well, and a put of a new key touches no map line.
 *
 * STATES AND LEGAL MOVES (the word of one page)
 *    at a head      FREE(n) -> taken(m)           allocator lock: the commit of a take      [T4]
 *                   taken(m) -> FREE(m)           its owner, one release store, no lock     [F1]
 *                   PENDING(m) -> LARGE(m)        the linking step of a shard
 *                   RESERVE(m) -> CHUNK(m)        allocator lock
 *                   FREE(a) -> FREE(a + b)        allocator lock: merge                     [M3]
 *                   FREE(b), ABSORBED(b) -> ABSORBED(b)   allocator lock: merge, second     [M2]
 *                   ABSORBED(b) -> FREE(b)        allocator lock: remainder, or the hand    [T5]
 *    not at a head  any of NONE, INTERIOR, ABSORBED -> INTERIOR, ABSORBED   by the taker    [T2] [T3]
 *    beyond `end`   anything, by the holder of the grow lock.
 *    "taken" = SEGMENT, DIRECTORY, CHUNK, PENDING, PENDPAGE, RESERVE. FIXED never changes.
 *
 * INVARIANTS (P1-P3: layout.h; H1-H4 hold at every instant below `end`, so also after any death)
 *    H1  A word that is not NONE, INTERIOR or ABSORBED stands at a head. So FREE *always* is a head.
 *        By induction over the moves. Only four make a page a head, or write a word at a page that is none:
 *        - T3 writes the remainder's word while the page is still inside FREE(whole): as ABSORBED, not as FREE.
 *          T4 then makes the page a head; only after that T5 turns it to FREE. A death between leaves ABSORBED
 *          inside a FREE run (dead text) or ABSORBED at a head (the hand makes it FREE).
 *        - T2 writes INTERIOR inside of the run.
 *        - M2 stores ABSORBED *before* M3 makes the page a non-head.
 *        - growth writes beyond `end`: it clears every word of [end, end') that a dead grower may have left, then
 *          stores heads only, then `end`.
 *        Every other move changes the word at a page that is a head before and after.
 *    H2  So a hint needs no history. "FREE, and inside `end`" is a property of the page *now*: whatever hint names it
 *        (stale, twice in a class, of another class, of a former life of the page, forged by a death half-way
 *        through a removal), the page is the head of a FREE run of the length that its word tells. Hints may be
 *        lost, doubled and stale; hygiene (removing the second's hint, no duplicates in a class) only saves time.
 *        The price is one more store per split. (The other rule, FREE remainder first and "remove every hint of
 *        a page before it stops being a head", needs all classes to be searched at each merge: lengths change,
 *        and 32 classes x 63 hints is 8 KiB.)
 *    H3  The hand is a head. It starts at 0. A head stops being one only in a merge, as the second; the merger
 *        stores hand = first before M2 if the hand names the second. The hand moves by head + length only, and goes
 *        back to 0 at `end`. (`end` itself is not a head.)
 *    H4  A run that says {SEGMENT|DIRECTORY|CHUNK, shard} and was never linked is named by that shard's `run` (stored
 *        before T4); one that says PENDING(life) by an entry of that slot's pending page. So recovery looks at one
 *        word, and "{state, owner} is mine" cannot be somebody else's newer run: to take one with the same
 *        {state, owner} the taker needs the very shard lock that recovery holds (or must be that life).
 *        PENDPAGE therefore names the slot *and the shard* whose `run` announces it: with the slot alone, a
 *        second death in give_back could free a page that the slot's next life has taken under another shard.
 *
 * TAKE       under the allocator lock; for a shard also under its lock
 *    T0  lock (acquire); load the word (acquire); fence(release): pairs with the readers' version check (DESIGN 7):
 *        whoever sees a byte of the new life of the page also sees the version that unlinked the old life.
 *    T1  hint removed; run = page (or the pending entry = {page, shard})
 *    T2  words 1..n-1 = INTERIOR(distance)
 *    T3  word n = ABSORBED(rest), if there is a rest; aux of the head = 0
 *    T4  head word = {state, owner, n}   release: the commit
 *    T5  word n = FREE(rest)             release; its hint is pushed
 * FREE
 *    F1  one release store by the owner, between arm and disarm: no lock, no failure, idempotent. The hint comes after
 *        the disarm, if the allocator lock is free; it merges the run with a free right neighbour at once.
 * MERGE      first FREE(a), second = first + a says FREE(b) or a stray ABSORBED(b)
 *    M1  hand = first if it names second; second's hint removed from the class of b (if there)
 *    M2  second = ABSORBED(b)            M3  first = FREE(a + b)   release: the commit
 *    Nobody else can move the two: only the allocator lock's holder leaves FREE (P3).
 * THE HAND   looks at 1,024 heads before each growth: hints what has none, merges, turns stray ABSORBED into FREE. A
 *            growth brings at most 128 pages (or a run that was asked for), so lost space is found before the file
 *            has grown by an eighth of itself. Before SHF_ERR_NO_SPACE it goes all the way round.
 *
 * IF SOMEBODY DIES    (the next taker of the allocator lock repairs nothing)
 *    before T4      the run is FREE as before; `run` or the entry names a page that is not "mine": ignored
 *    T4 .. T5       the run is mine (given back by the shard's recovery, or the sweep); rest = stray ABSORBED
 *    M1 .. M2       a hint is lost            M2 .. M3   second = stray ABSORBED
 *    in a hint array an entry is doubled or lost
 *    growth         words beyond `end`; the next grower starts at `end` again
 *
 * WALK       from head to head. Exact while no merge runs: under the allocator lock, or with no writer. Without it
 *            a merge and take between two steps can show an INTERIOR: the caller looks again under the lock.
 *
 * LOCK ORDER byte R < shard < allocator; grow < allocator, and grow is never waited for with a lock held.
 *
 * PROOF      csrc/tests/validate_pages.c   threads, processes killed, merges, limits, full tmpfs
 *            csrc/tests/crash_pages.c      a death at every store of each operation, then P1, no double owner, no leak
 */
#include "pages_impl.h"

/* ---- the map ------------------------------------------------------------------------------------------ */

shf_au32 *shf__pages_middle(struct shf_region *r, uint32_t index) {
    shf_au32 *root = shf__region_at(r, (uint64_t)SHF_ROOT_PAGE * SHF_PAGE, 2 * SHF_PAGE);
    if (root == NULL || index >= SHF_ROOT_ENTRIES) return NULL;
    uint32_t middle = shm_load_acquire32(root + index);
    return middle ? shf__region_page(r, middle) : NULL;
}

struct shf_shm_map_entry *shf__pages_map_page(struct shf_region *r, uint32_t index) {
    shf_au32 *middle = shf__pages_middle(r, index / SHF_MIDDLE_ENTRIES);
    if (middle == NULL) return NULL;
    uint32_t map = shm_load_acquire32(middle + index % SHF_MIDDLE_ENTRIES);
    return map ? shf__region_page(r, map) : NULL;
}

int shf__pages_inside(struct shf_region *r, uint32_t page, uint32_t n) {
    if (SHF_LIKELY((uint64_t)page + n <= shf__pages_limit(r))) return 1;
    shf__region_refresh(r);
    return (uint64_t)page + n <= shf__pages_limit(r);
}

/* A page whose entry the straight way could not find: the file has grown, or the map makes no sense. */
SHF_COLD static struct shf_shm_map_entry *entry_slow(struct shf_region *r, uint32_t page) {
    if (SHF_UNLIKELY(!shf__pages_inside(r, page, 1))) return NULL;
    struct shf_shm_map_entry *map = shf__pages_map_page(r, page / SHF_MAP_ENTRIES);
    if (SHF_UNLIKELY(map == NULL)) {
        /* Another thread may have seen the new end; this load of `end` gives us its edge (G3). */
        shf__region_refresh(r);
        map = shf__pages_map_page(r, page / SHF_MAP_ENTRIES);
        if (map == NULL) return NULL;
    }
    return map + page % SHF_MAP_ENTRIES;
}

/* Root, middle, map page: three loads, one compare for each bound (replace and remove come here several times). */
struct shf_shm_map_entry *shf__pages_entry(struct shf_region *r, uint32_t page) {
    size_t size = atomic_load_explicit(&r->size, memory_order_relaxed);
    uint64_t at = (uint64_t)page * SHF_PAGE;
    if (SHF_UNLIKELY(at >= size)) return entry_slow(r, page);
    const shf_au32 *root = (const shf_au32 *)(const void *)(r->base + SHF_ROOT_PAGE * SHF_PAGE);
    _Static_assert((uint64_t)SHF_MAP_ENTRIES * SHF_MIDDLE_ENTRIES == 1u << 18, "root index");
    at = (uint64_t)shm_load_acquire32(root + (page >> 18 & (SHF_ROOT_ENTRIES - 1))) * SHF_PAGE;
    if (SHF_UNLIKELY(at - 1 >= size - 1)) return entry_slow(r, page); /* 0 or beyond */
    at = (uint64_t)shm_load_acquire32((const shf_au32 *)(const void *)(r->base + at) + (page >> 8 & 1023)) * SHF_PAGE;
    if (SHF_UNLIKELY(at - 1 >= size - 1)) return entry_slow(r, page);
    return (struct shf_shm_map_entry *)(void *)(r->base + at) + page % SHF_MAP_ENTRIES;
}

int shf__pages_out_of_reach(struct shf_region *r, uint32_t page) {
    struct shf_shm_map_entry *e = shf__pages_entry(r, page); /* looks at the file again, if need be */
    uint64_t n = e != NULL ? shf_page_length(shm_load_acquire(&e->word)) : 1;
    if (e != NULL && shf__pages_inside(r, page, (uint32_t)n)) return 0;
    uint64_t end = shm_load_acquire(&r->header->end);
    return end / SHF_PAGE > shf__pages_limit(r) && page + n <= end / SHF_PAGE;
}

/* A word that a walk may stand on, for a run inside the file. */
static int is_head(struct shf_region *r, uint32_t page, uint64_t word) {
    enum shf_page_state state = shf_page_state(word);
    uint32_t n = shf_page_length(word);
    return state != SHF_PAGE_NONE && state != SHF_PAGE_INTERIOR && state <= SHF_PAGE_RESERVE && n != 0 &&
           shf__pages_inside(r, page, n);
}

uint32_t shf__pages_head(struct shf_region *r, uint32_t page, uint64_t *word) {
    struct shf_shm_map_entry *e = shf__pages_entry(r, page);
    if (e == NULL) return 0;
    uint64_t w = shm_load_acquire(&e->word);
    uint32_t head = page;
    if (shf_page_state(w) == SHF_PAGE_INTERIOR) {
        uint32_t back = shf_page_length(w);
        if (back == 0 || back > page) return 0;
        head = page - back;
        e = shf__pages_entry(r, head);
        if (e == NULL) return 0;
        w = shm_load_acquire(&e->word);
    }
    if (!is_head(r, head, w) || page - head >= shf_page_length(w)) return 0;
    *word = w;
    return head;
}

int shf__pages_walk(struct shf_region *r, uint32_t *page, uint32_t *head, uint64_t *word) {
    if (*page == 0) shf__region_refresh(r);
    if (*page == shf__pages_limit(r)) return 0;
    struct shf_shm_map_entry *e = shf__pages_entry(r, *page);
    if (e == NULL) return -1;
    uint64_t w = shm_load_acquire(&e->word);
    if (!is_head(r, *page, w)) return -1;
    *head = *page;
    *word = w;
    *page += shf_page_length(w);
    return 1;
}

/* ---- hints; all under the allocator lock --------------------------------------------------------------- */

int shf__pages_lock(struct shf_pages *p) { return shf__lock(p->registry, &p->region->header->alloc_word, NULL); }
void shf__pages_unlock(struct shf_pages *p) { shf__unlock(&p->region->header->alloc_word); }

static uint32_t hint_class(uint32_t n) { return 31u - (uint32_t)__builtin_clz(n | 1); }

static struct shf_shm_hints *hints_of(struct shf_region *r, uint32_t class) {
    struct shf_shm_hints *h = shf__region_at(r, (uint64_t)SHF_HINTS_PAGE * SHF_PAGE, 2 * SHF_PAGE);
    return h ? h + class : NULL;
}
static uint32_t hint_count(const struct shf_shm_hints *h) {
    uint32_t n = shm_load_relaxed32(&h->count);
    return n <= SHF_HINTS_PER_CLASS ? n : SHF_HINTS_PER_CLASS;
}
static void hint_remove_at(struct shf_shm_hints *h, uint32_t i) {
    uint32_t count = hint_count(h), last = count ? count - 1 : 0;
    if (i != last) shm_store_relaxed32(&h->page[i], shm_load_relaxed32(&h->page[last]));
    shm_store_relaxed32(&h->count, last);
}
static void hint_remove(struct shf_region *r, uint32_t page, uint32_t length) {
    struct shf_shm_hints *h = hints_of(r, hint_class(length));
    if (h == NULL) return;
    for (uint32_t i = hint_count(h); i-- > 0;)
        if (shm_load_relaxed32(&h->page[i]) == page) {
            hint_remove_at(h, i);
            return;
        }
}

/* The newest hint is on top, where find looks first: so a run just grown is seen even in a class full of runs that
 * are too short. A full class loses an older hint (the hand finds it again). */
void shf__pages_push(struct shf_pages *p, uint32_t page, uint32_t length) {
    struct shf_shm_hints *h = hints_of(p->region, hint_class(length));
    if (h == NULL) return;
    uint32_t count = hint_count(h);
    for (uint32_t i = count; i-- > 0;)
        if (shm_load_relaxed32(&h->page[i]) == page) return;
    if (count < SHF_HINTS_PER_CLASS) {
        shm_store_relaxed32(&h->page[count], page);
        shm_store_relaxed32(&h->count, count + 1);
    } else {
        uint32_t top = SHF_HINTS_PER_CLASS - 1;
        shm_store_relaxed32(&h->page[page % top], shm_load_relaxed32(&h->page[top]));
        shm_store_relaxed32(&h->page[top], page);
    }
}

/* The length of the FREE run at page; 0 if there is none (H2). */
static uint32_t free_length(struct shf_region *r, uint32_t page) {
    struct shf_shm_map_entry *e = page ? shf__pages_entry(r, page) : NULL;
    if (e == NULL) return 0;
    uint64_t w = shm_load_acquire(&e->word); /* T0 */
    uint32_t n = shf_page_length(w);
    return shf_page_state(w) == SHF_PAGE_FREE && n != 0 && shf__pages_inside(r, page, n) ? n : 0;
}

/* Looks at no more than `tries` runs of one class that are too short; drops what is stale on the way. */
static uint32_t find_in_class(struct shf_pages *p, uint32_t class, uint32_t n, uint32_t tries) {
    struct shf_shm_hints *h = hints_of(p->region, class);
    if (h == NULL) return 0;
    for (uint32_t i = hint_count(h); i-- > 0 && tries > 0;) {
        uint32_t page = shm_load_relaxed32(&h->page[i]);
        uint32_t length = free_length(p->region, page);
        if (length >= n) {
            hint_remove_at(h, i);
            return page;
        }
        if (length == 0 && !shf__pages_out_of_reach(p->region, page)) {
            hint_remove_at(h, i); /* what was last comes to i, and has been looked at */
        } else if (length != 0 && hint_class(length) != class) {
            hint_remove_at(h, i); /* the run has got shorter since */
            shf__pages_push(p, page, length);
        } else {
            tries--;
        }
    }
    return 0;
}

/* The hint of what it returns is gone. */
uint32_t shf__pages_find(struct shf_pages *p, uint32_t n) {
    uint32_t class = hint_class(n);
    int all_fit = (n & (n - 1)) == 0;
    uint32_t page = find_in_class(p, class, n, all_fit ? SHF_HINTS_PER_CLASS : 8);
    for (uint32_t c = class + 1; page == 0 && c < SHF_HINT_CLASSES; c++)
        page = find_in_class(p, c, n, SHF_HINTS_PER_CLASS);
    if (page == 0 && !all_fit) page = find_in_class(p, class, n, SHF_HINTS_PER_CLASS);
    return page;
}

/* ---- merging ------------------------------------------------------------------------------------------ */

/* Merges the FREE run at `page` (length n) with its right neighbour if that is free. Returns the new length. */
static uint32_t absorb_next(struct shf_pages *p, struct shf_shm_map_entry *first, uint32_t page, uint32_t n) {
    struct shf_region *r = p->region;
    uint32_t next = page + n;
    if (next >= shf__pages_limit(r)) return n;
    struct shf_shm_map_entry *second = shf__pages_entry(r, next);
    if (second == NULL) return n;
    uint64_t w = shm_load_acquire(&second->word);
    enum shf_page_state state = shf_page_state(w);
    if ((state != SHF_PAGE_FREE && state != SHF_PAGE_ABSORBED) || !is_head(r, next, w)) return n;
    uint32_t more = shf_page_length(w);
    shf_au32 *hand = &r->header->hand;
    if (shm_load_relaxed32(hand) == next) shm_store_relaxed32(hand, page); /* M1, H3 */
    hint_remove(r, next, more);
    shf_compiler_fence();
    if (state == SHF_PAGE_FREE) shm_store_release(&second->word, shf_page_word(SHF_PAGE_ABSORBED, 0, more)); /* M2 */
    shm_store_release(&first->word, shf_page_word(SHF_PAGE_FREE, 0, n + more)); /* M3 */
    return n + more;
}

/* Looks at up to `budget` heads. *found = 1 and an early end if a run of n pages turns up; *wrapped = 1 at `end`. */
int shf__pages_hand(struct shf_pages *p, uint32_t n, uint32_t budget, int *found, int *wrapped) {
    struct shf_region *r = p->region;
    uint32_t limit = shf__pages_limit(r);
    uint32_t page = shm_load_relaxed32(&r->header->hand);
    *found = *wrapped = 0;
    if (page >= limit) { /* another process has seen more of the file */
        shf__region_refresh(r);
        limit = shf__pages_limit(r);
        if (page >= limit) page = 0; /* forged, or out of reach */
    }
    while (budget-- > 0 && !*found) {
        uint32_t seen = shf__pages_limit(r);
        struct shf_shm_map_entry *e = shf__pages_entry(r, page);
        uint64_t w = e ? shm_load_acquire(&e->word) : 0;
        if (!is_head(r, page, w)) {
            int out = shf__pages_out_of_reach(r, page);
            if (!out && shf__pages_limit(r) != seen) continue; /* the look at the file's size came late */
            shm_store_relaxed32(&r->header->hand, 0);
            *wrapped = out;
            if (out) return SHF_OK;
            return shf__region_corrupt(r, "page map: the hand is not at a head", page);
        }
        uint32_t length = shf_page_length(w);
        enum shf_page_state state = shf_page_state(w);
        if (state == SHF_PAGE_ABSORBED) { /* a death left it */
            shm_store_release(&e->word, shf_page_word(SHF_PAGE_FREE, 0, length)); /* T5 */
            state = SHF_PAGE_FREE;
        }
        if (state == SHF_PAGE_FREE) {
            uint32_t before = 0;
            for (; before != length && budget > 0; budget--) {
                before = length;
                length = absorb_next(p, e, page, length);
            }
            shf__pages_push(p, page, length);
            *found = length >= n;
            if (before != length) break; /* there may be more to merge: stay here */
        }
        page += length;
        if (page >= limit) {
            shf__region_refresh(r); /* others may have grown it */
            limit = shf__pages_limit(r);
        }
        if (page >= limit) {
            page = 0;
            *wrapped = 1;
            break;
        }
    }
    shm_store_relaxed32(&r->header->hand, page); /* H3: a head, or 0 */
    return SHF_OK;
}

/* ---- take and free ------------------------------------------------------------------------------------ */

/* Words page+1 .. page+n-1 = INTERIOR (T2). -1 if the map makes no sense. */
static int write_interior(struct shf_region *r, uint32_t page, uint32_t n) {
    for (uint32_t i = 1; i < n;) {
        struct shf_shm_map_entry *e = shf__pages_entry(r, page + i);
        if (e == NULL) return -1;
        uint32_t border = SHF_MAP_ENTRIES - (page + i) % SHF_MAP_ENTRIES;
        uint32_t stop = n - i < border ? n : i + border;
        for (; i < stop; i++, e++) {
            uint64_t w = shf_page_word(SHF_PAGE_INTERIOR, 0, i);
            if (shm_load_relaxed(&e->word) != w) shm_store_relaxed(&e->word, w); /* a run used again: clean lines */
        }
    }
    return 0;
}

int shf__pages_split_off(struct shf_pages *p, const struct shf_pages_note *note, uint64_t word, uint32_t page, uint32_t n) {
    struct shf_region *r = p->region;
    struct shf_shm_map_entry *e = shf__pages_entry(r, page);
    uint32_t length = e ? shf_page_length(shm_load_acquire(&e->word)) : 0;
    struct shf_shm_map_entry *rest = length > n ? shf__pages_entry(r, page + n) : NULL;
    if (length < n || (length > n && rest == NULL))
        return shf__region_corrupt(r, "page map: a free run without entries", page);
    shf_fence_release(); /* T0 */
    if (note->run) shm_store_release32(note->run, page);                                   /* T1 */
    if (note->entry) shm_store_release(note->entry, shf_pending_entry(page, note->shard)); /* T1 */
    shf_compiler_fence();
    if (write_interior(r, page, n)) { /* only a damaged map: the run stays FREE */
        if (note->run) shm_store_release32(note->run, 0);
        if (note->entry) shm_store_release(note->entry, 0);
        return shf__region_corrupt(r, "page map: a free run without entries", page);
    }
    if (rest) shm_store_release(&rest->word, shf_page_word(SHF_PAGE_ABSORBED, 0, length - n)); /* T3 */
    if (shm_load_relaxed(&e->aux) != 0) shm_store_relaxed(&e->aux, 0);
    shm_store_release(&e->word, word); /* T4 */
    if (rest) {
        shm_store_release(&rest->word, shf_page_word(SHF_PAGE_FREE, 0, length - n)); /* T5 */
        shf__pages_push(p, page + n, length - n);
    }
    return SHF_OK;
}

int shf__pages_take_noted(struct shf_pages *p, const struct shf_pages_note *note, enum shf_page_state state,
                          uint32_t owner, uint32_t n, uint32_t *page) {
    if (n == 0 || n >= SHF_PAGES_MAX)
        return shf__fail(SHF_ERR_INVALID, 0, "pages", p->region->path, "a run of %u pages cannot be", n);
    int rc = shf__pages_lock(p);
    if (rc != SHF_OK) return rc;
    uint32_t run = shf__pages_find(p, n);
    if (run == 0) {
        int found, wrapped;
        rc = shf__pages_hand(p, n, SHF_HAND_WORDS, &found, &wrapped);
        if (rc == SHF_OK && found) run = shf__pages_find(p, n);
        if (rc == SHF_OK && run == 0) rc = SHF__GROW;
    }
    if (rc == SHF_OK) rc = shf__pages_split_off(p, note, shf_page_word(state, owner, n), run, n);
    shf__pages_unlock(p);
    if (rc == SHF_OK) *page = run;
    if (rc == SHF_OK && atomic_load_explicit(&p->want_ahead, memory_order_relaxed) == 0) {
        const struct shf_shm_hints *h = hints_of(p->region, 0);
        uint32_t c = hint_class(SHF_CHUNK_LIKE);
        while (h && c < SHF_HINT_CLASSES && shm_load_relaxed32(&h[c].count) == 0) c++;
        if (c == SHF_HINT_CLASSES) atomic_store_explicit(&p->want_ahead, 1, memory_order_relaxed);
    }
    return rc;
}

int shf__pages_take(struct shf_pages *p, shf_au32 *run_word, enum shf_page_state state, uint32_t owner, uint32_t n,
                    uint32_t *page) {
    struct shf_pages_note note = {run_word, NULL, 0};
    return shf__pages_take_noted(p, &note, state, owner, n, page);
}

uint32_t shf__pages_free(struct shf_region *r, uint32_t page, enum shf_page_state state, uint32_t owner) {
    struct shf_shm_map_entry *e = shf__pages_entry(r, page);
    if (e == NULL) return 0;
    uint64_t w = shm_load_acquire(&e->word);
    uint32_t n = shf_page_length(w);
    if (shf_page_state(w) != state || shf_page_owner(w) != owner || !is_head(r, page, w)) return 0;
    shm_store_release(&e->word, shf_page_word(SHF_PAGE_FREE, 0, n)); /* F1 */
    return n;
}

void shf__pages_hint(struct shf_pages *p, uint32_t page) {
    if (!shf__trylock(p->registry, &p->region->header->alloc_word)) return;
    uint32_t n = free_length(p->region, page);
    struct shf_shm_map_entry *e = n ? shf__pages_entry(p->region, page) : NULL;
    if (e != NULL) shf__pages_push(p, page, absorb_next(p, e, page, n));
    shf__pages_unlock(p);
}

void shf__pages_give_back(struct shf_pages *p, uint32_t page, uint32_t shard) {
    struct shf_shm_map_entry *e = shf__pages_entry(p->region, page);
    if (e == NULL) return;
    uint64_t w = shm_load_acquire(&e->word);
    enum shf_page_state state = shf_page_state(w);
    uint32_t owner = shf_page_owner(w);
    if (state == SHF_PAGE_SEGMENT || state == SHF_PAGE_DIRECTORY || state == SHF_PAGE_CHUNK) {
        if (owner != shard) return;
    } else if (state == SHF_PAGE_PENDPAGE) {
        struct shf_shm_slot *s = shf__registry_slot(p->registry, SHF_OWNER_SLOT(owner));
        if (SHF_OWNER_GENERATION(owner) != shard || shm_load_acquire32(&s->pending) == page) return;
    } else {
        return;
    }
    if (shf__pages_free(p->region, page, state, owner)) shf__pages_hint(p, page);
}
