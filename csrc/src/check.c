/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * check.c - walks a table and compares it with its invariants; counts it for statistics
 *
 * WHAT       One walk serves both. Shard by shard, under the shard's lock (which finishes what a death left): directory,
 *            segments, slots, records, chunks, grave; then the page map. Each problem names the invariant (T, table.h;
 *            P, layout.h). Every page that was reached is marked in a private bitmap.
 * MOVING     Other processes go on meanwhile. A page that names a shard and was not reached may have been linked since:
 *            its shard is walked again, under its lock, before that page is called leaked.
 * READ-ONLY  No lock can be taken: the walk sees a table in motion. It then says so (structure_only) and reports only
 *            what cannot be motion: nothing about counts, flags or leaks.
 */
#include "table_cells.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Numbers by page: open addressing, grown as needed. */
struct tally {
    uint32_t *page, *live;
    uint32_t size, used;
};

struct walk {
    struct shf_table *t;
    struct shf_table_report *report; /* NULL: statistics only */
    struct shf_table_stats *stats;
    uint64_t *reached; /* bit a page */
    uint32_t pages;    /* bits in it */
    int locked;        /* exact: counts and flags can be compared */
    int no_memory;     /* something could not be looked at */
    struct tally seen; /* pages reached from the shard that is being walked */
    uint32_t suspect;  /* a page that names the shard and was not reached before; 0 = none */
    uint64_t suspect_word;
    int leaked;        /* nor now, and under the lock its word is the same still */
};

static void __attribute__((format(printf, 2, 3))) problem(struct walk *w, const char *format, ...) {
    va_list args;
    if (w->report == NULL) return;
    if (w->report->problems++ == 0) {
        va_start(args, format);
        vsnprintf(w->report->first, sizeof w->report->first, format, args);
        va_end(args);
    }
}

/* Adds to a page's number. 0: no memory. */
static int tally_add(struct tally *y, uint32_t page, uint32_t units) {
    if (y->used * 2 >= y->size) {
        struct tally bigger = {NULL, NULL, y->size ? y->size * 2 : 64, 0};
        bigger.page = calloc(bigger.size, sizeof *bigger.page);
        bigger.live = calloc(bigger.size, sizeof *bigger.live);
        if (bigger.page == NULL || bigger.live == NULL) {
            free(bigger.page);
            free(bigger.live);
            return 0;
        }
        for (uint32_t i = 0; i < y->size; i++)
            if (y->page[i] != 0) tally_add(&bigger, y->page[i], y->live[i]);
        free(y->page);
        free(y->live);
        *y = bigger;
    }
    uint32_t i = page * 2654435761u % y->size;
    while (y->page[i] != 0 && y->page[i] != page) i = (i + 1) % y->size;
    if (y->page[i] == 0) y->page[i] = page, y->used++;
    y->live[i] += units;
    return 1;
}
static int tally_has(const struct tally *y, uint32_t page) {
    if (y->size == 0) return 0;
    uint32_t i = page * 2654435761u % y->size;
    while (y->page[i] != 0 && y->page[i] != page) i = (i + 1) % y->size;
    return y->page[i] == page;
}
static uint32_t tally_get(const struct tally *y, uint32_t page) {
    if (!tally_has(y, page)) return 0;
    uint32_t i = page * 2654435761u % y->size;
    while (y->page[i] != page) i = (i + 1) % y->size;
    return y->live[i];
}
static void tally_free(struct tally *y) {
    free(y->page);
    free(y->live);
    *y = (struct tally){NULL, NULL, 0, 0};
}

/* Marks a page; 0 if this walk of this shard was there already. (Another shard may have had the page a moment ago.) */
static int reach(struct walk *w, uint32_t page) {
    int fresh = !tally_has(&w->seen, page);
    if (!tally_add(&w->seen, page, 0)) w->no_memory = 1;
    if (page < w->pages) w->reached[page / 64] |= UINT64_C(1) << (page % 64);
    return fresh;
}
static int is_reached(const struct walk *w, uint32_t page) {
    return page >= w->pages || (w->reached[page / 64] >> (page % 64) & 1);
}

/* The map word of a head page, if it is of that state and this shard; 0 if not. */
static uint64_t owned(struct walk *w, uint32_t shard, uint32_t page, enum shf_page_state state) {
    struct shf_shm_map_entry *e = shf__pages_entry(&w->t->region, page);
    uint64_t word = e ? shm_load_acquire(&e->word) : 0;
    if (shf_page_state(word) != state || shf_page_owner(word) != shard) return 0;
    return shf__region_at(&w->t->region, (uint64_t)page * SHF_PAGE, (uint64_t)shf_page_length(word) * SHF_PAGE) ? word : 0;
}

/* T3, T4 for one slot. */
static void walk_slot(struct walk *w, uint32_t shard, const shf_au64 *segment, uint32_t i, uint32_t from, uint32_t to,
                      struct tally *y) {
    struct shf_table *t = w->t;
    struct shf_found f;
    uint64_t word = shm_load_acquire(&segment[i]), off = shf_word_offset(word), map;
    uint32_t dir = shf_word_dir(word), delta = shf_word_delta(word), bucket = i / SHF_BUCKET_SLOTS, head, b1, b2;
    if (dir < from || dir >= to) {
        problem(w, "T3: shard %u slot %u: directory bits %#x outside of [%#x, %#x)", shard, i, dir, from, to);
        return;
    }
    f.word = word;
    if (shf__table_open_record(t, &f) != SHF_FOUND) {
        problem(w, "T3: shard %u slot %u: no record at offset %llu", shard, i, (unsigned long long)off);
        return;
    }
    size_t klen = shf_record_klen(f.word0);
    if (shf_is_large(f.word0)) {
        uint32_t page = (uint32_t)(off / SHF_PAGE);
        map = owned(w, shard, page, SHF_PAGE_LARGE);
        if (map == 0 || shf_page_length(map) < shf_large_pages(klen, f.vlen)) {
            problem(w, "T3: shard %u slot %u: large value at page %u is not this shard's", shard, i, page);
            return;
        }
        if (!reach(w, page) && w->locked) problem(w, "T7: page %u is reached twice", page);
        w->stats->large_values++;
        w->stats->large_bytes += (uint64_t)shf_page_length(map) * SHF_PAGE;
    } else {
        head = shf__pages_head(&t->region, (uint32_t)(off / SHF_PAGE), &map);
        if (head == 0 || shf_page_state(map) != SHF_PAGE_CHUNK || shf_page_owner(map) != shard) {
            problem(w, "T3: shard %u slot %u: record at offset %llu is outside of its chunks", shard, i,
                    (unsigned long long)off);
            return;
        }
        if (!tally_add(y, head, (uint32_t)(shf_record_size(klen, f.vlen) / 8))) w->no_memory = 1;
    }
    unsigned char small[SHF_RECORD_LENGTH_MASK], *key = small;
    if (klen > sizeof small && (key = malloc(klen)) == NULL) {
        w->no_memory = 1;
        return;
    }
    shf__record_key(&f, key, klen);
    uint64_t h = shf__hash(&t->hash, key, klen);
    if (key != small) free(key);
    b1 = shf_hash_b1(h), b2 = b1 ^ shf_hash_delta(h);
    if (!w->locked) return;
    if (shf_hash_shard(h) != shard || shf_hash_dir(h) != dir ||
        ((word ^ shf_hash_tag(h)) >> 41 & 3) != 0 || (delta != 0 && delta != shf_hash_delta(h)) ||
        (delta != 0 && bucket != (word & SHF_ROLE ? b2 : b1)) || shf_slot_reserved(shard, i)) {
        problem(w, "T3: shard %u slot %u: its key does not belong there", shard, i);
        return;
    }
    if (delta == 0 && !(shm_load_relaxed(&segment[b1 * 8]) & shm_load_relaxed(&segment[b2 * 8]) & SHF_FLAG_STASH))
        problem(w, "T4: shard %u slot %u: stashed, but its buckets do not say so", shard, i);
    if (delta != 0 && (word & SHF_ROLE) && !(shm_load_relaxed(&segment[b1 * 8 + (delta & 7)]) & SHF_FLAG_OVERFLOW))
        problem(w, "T4: shard %u slot %u: in its second bucket, but the first does not say so", shard, i);
    if (shf_is_large(f.word0) && (uint32_t)h != (uint32_t)shm_load_relaxed(&((struct shf_shm_large *)(void *)f.record)->hash))
        problem(w, "T3: shard %u slot %u: hash of a long key", shard, i);
    /* T5: the look-up of this key must end here. */
    struct shf_found g;
    if (klen <= sizeof small) {
        int rc = shf__table_find(t, &t->shards[shard], h, small, klen, &g);
        if (rc != SHF_FOUND || shf_word_offset(g.word) != off)
            problem(w, "T5: shard %u slot %u: a look-up of its key finds %s", shard, i, rc == SHF_FOUND ? "another entry" : "nothing");
    }
}

/* T3, T4, T5 for the cells of a segment of fixed lengths. Returns how many there are. */
static uint64_t walk_cells(struct walk *w, uint32_t shard, const shf_au64 *segment, uint32_t from, uint32_t to) {
    struct shf_table *t = w->t;
    uint64_t keys = 0;
    for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
        const shf_au64 *bucket = shf_cells_bucket(t->fixed, segment, b);
        uint64_t header = shm_load_acquire(bucket);
        if (w->locked && !t->fixed.narrow && shm_load_relaxed(bucket + 1) % 2 != 0)
            problem(w, "T3: shard %u bucket %u: an odd version", shard, b);
        for (uint32_t bits = shf_cell_used(header); bits != 0; bits &= bits - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(bits), slot = b * SHF_BUCKET_SLOTS + i;
            const shf_au64 *cell = shf_cell(t->fixed, bucket, i);
            uint64_t h = shf__cells_hash(t, cell);
            uint32_t dir = shf_hash_dir(h), b1 = shf_hash_b1(h), delta = shf_hash_delta(h);
            keys++;
            if (b != b1 && b != (b1 ^ delta)) w->stats->stashed_keys++;
            if (!w->locked) continue;
            if (shf_hash_shard(h) != shard || dir < from || dir >= to || shf_cell_tag(h) != (header >> 8 * i & 0xff)) {
                problem(w, "T3: shard %u cell %u: its key does not belong there", shard, slot);
                continue;
            }
            uint64_t flags = shm_load_relaxed(shf_cells_bucket(t->fixed, segment, b1));
            if (b == (b1 ^ delta) && (flags & shf_cell_overflow(delta)) == 0)
                problem(w, "T4: shard %u cell %u: in its second bucket, but the first does not say so", shard, slot);
            if (b != b1 && b != (b1 ^ delta) &&
                (flags & shm_load_relaxed(shf_cells_bucket(t->fixed, segment, b1 ^ delta)) & SHF_CELL_STASH) == 0)
                problem(w, "T4: shard %u cell %u: stashed, but its buckets do not say so", shard, slot);
            /* T5: the look-up of this key must end here. */
            uint64_t copy[SHF_CELL_WORDS_MAX];
            struct shf_found f;
            for (uint32_t n = 0; n < t->fixed.cell_words; n++) copy[n] = shm_load_relaxed(cell + n);
            int rc = shf__cells_find(t, &t->shards[shard], h, (unsigned char *)copy + t->fixed.key_at, &f);
            if (rc != SHF_FOUND || f.record != cell)
                problem(w, "T5: shard %u cell %u: a look-up of its key finds %s", shard, slot,
                        rc == SHF_FOUND ? "another entry" : "nothing");
        }
    }
    return keys;
}

static uint64_t walk_segments(struct walk *w, uint32_t shard, struct tally *y) {
    struct shf_shm_shard *s = &w->t->shards[shard];
    uint64_t directory = shm_load_acquire(&s->directory), keys = 0, map;
    uint32_t depth = shf_directory_depth(directory), page = shf_directory_page(directory), size = 1u << depth;
    shf_au32 *entries = shf__table_entries(w->t, s, directory);
    if (entries == NULL || depth > SHF_DIR_MAX || (page == 0 && depth != SHF_DIR_INLINE)) {
        problem(w, "T2: shard %u: directory word %#llx", shard, (unsigned long long)directory);
        return 0;
    }
    if (page != 0) {
        map = owned(w, shard, page, SHF_PAGE_DIRECTORY);
        if (map == 0 || (uint64_t)shf_page_length(map) * SHF_PAGE < UINT64_C(4) << depth)
            problem(w, "T2: shard %u: directory page %u is not this shard's", shard, page);
        if (!reach(w, page)) problem(w, "T7: page %u is reached twice", page);
        w->stats->index_bytes += (uint64_t)shf_page_length(map) * SHF_PAGE;
    }
    if (depth > w->stats->max_depth) w->stats->max_depth = depth;
    for (uint32_t i = 0, first, count; i < size; i = first + count) {
        uint32_t segment_page = shm_load_acquire32(&entries[i]);
        shf__table_interval(entries, depth, i, &first, &count);
        if (segment_page == 0) {
            if (w->locked && count != size) problem(w, "T2: shard %u: entry %u is empty", shard, i);
            continue;
        }
        map = owned(w, shard, segment_page, SHF_PAGE_SEGMENT);
        if (first != i || map == 0 || shf_page_length(map) != shf_segment_pages(w->t) || !reach(w, segment_page)) {
            if (w->locked) problem(w, "T2: shard %u: entry %u names page %u, not a segment of its own", shard, i, segment_page);
            if (first != i) return keys;
            continue;
        }
        const shf_au64 *segment = shf__region_page(&w->t->region, segment_page);
        if (segment == NULL) continue;
        w->stats->segments++;
        w->stats->index_bytes += (uint64_t)shf_segment_pages(w->t) * SHF_PAGE;
        if (shf_is_fixed(w->t)) {
            keys += walk_cells(w, shard, segment, first << (15 - depth), (first + count) << (15 - depth));
            continue;
        }
        for (uint32_t k = 0; k < SHF_SEGMENT_SLOTS; k++) {
            uint64_t word = shm_load_acquire(&segment[k]);
            if ((word & SHF_REF_MASK) == 0) continue;
            keys++;
            w->stats->stashed_keys += shf_word_delta(word) == 0;
            walk_slot(w, shard, segment, k, first << (15 - depth), (first + count) << (15 - depth), y);
        }
    }
    return keys;
}

static void walk_chunks(struct walk *w, uint32_t shard, const struct tally *y) {
    struct shf_shm_shard *s = &w->t->shards[shard];
    uint64_t units = 0, garbage = 0, head = shm_load_relaxed(&s->head);
    uint32_t page = shm_load_relaxed32(&s->chunks), first = page;
    for (uint32_t n = 0; page != 0 && n <= w->pages; n++) {
        uint64_t map = owned(w, shard, page, SHF_PAGE_CHUNK);
        struct shf_shm_chunk *c = map ? shf__region_page(&w->t->region, page) : NULL;
        const struct shf_shm_map_entry *e = shf__pages_entry(&w->t->region, page);
        if (c == NULL || e == NULL || shm_load_relaxed32(&c->tag) != SHF_CHUNK_TAG || !reach(w, page)) {
            problem(w, "T6: shard %u: page %u in its list of chunks is none, or there twice", shard, page);
            return;
        }
        uint32_t dead = (uint32_t)shm_load_relaxed(&e->aux);
        uint64_t used = page == first ? (head - (uint64_t)page * SHF_PAGE) / 8 : shm_load_relaxed32(&c->used);
        units += (uint64_t)shf_page_length(map) * (SHF_PAGE / 8);
        garbage += dead;
        if (w->locked && used != SHF_CHUNK_HEADER / 8 + tally_get(y, page) + (uint64_t)dead)
            problem(w, "T6: shard %u: chunk at page %u: %llu units used, %u live, %u dead", shard, page,
                    (unsigned long long)used, tally_get(y, page), dead);
        page = shm_load_relaxed32(&c->next);
    }
    w->stats->record_bytes += units * 8;
    w->stats->garbage_bytes += (uint64_t)shm_load_relaxed32(&s->garbage) * 8;
    if (w->locked && (units != shm_load_relaxed32(&s->record_units) || garbage != shm_load_relaxed32(&s->garbage)))
        problem(w, "T6: shard %u: chunks have %llu units, %llu dead; it counts %u and %u", shard, (unsigned long long)units,
                (unsigned long long)garbage, shm_load_relaxed32(&s->record_units), shm_load_relaxed32(&s->garbage));
}

/* The grave is emptied rather than walked: its shard is locked. */
static void walk_grave(struct walk *w, uint32_t shard) {
    while (w->locked && shf__grave_step(w->t, &w->t->shards[shard])) {
    }
}

static int walk_shard(struct walk *w, uint32_t shard) {
    struct shf_shm_shard *s = &w->t->shards[shard];
    struct tally y = {NULL, NULL, 0, 0}; /* living units of each chunk, gathered from the slots */
    uint64_t keys;
    int locked = w->locked;
    if (locked) {
        int rc = shf__table_lock(w->t, s);
        if (rc != SHF_OK) return rc;
        walk_grave(w, shard);
    }
    struct shf_table_report before = {0};
    uint64_t version = shm_load_acquire(&s->version);
    if (w->report) before = *w->report;
    keys = walk_segments(w, shard, &y);
    if (!shf_is_fixed(w->t)) walk_chunks(w, shard, &y); /* its words there are an intent's, and there are no chunks */
    if (w->locked && keys != shm_load_relaxed32(&s->count))
        problem(w, "T5: shard %u: %llu keys, it counts %u", shard, (unsigned long long)keys, shm_load_relaxed32(&s->count));
    if (!locked && w->report != NULL) {
        /* Somebody was at work here, or died at it: what looked wrong may have been motion. */
        shf_fence_acquire();
        if (shm_load_relaxed(&s->version) != version || shm_load_relaxed32(&s->word) != 0) *w->report = before;
    }
    w->stats->keys += keys;
    w->stats->recoveries += shm_load_relaxed32(&s->recoveries);
    if (w->suspect != 0) {
        struct shf_shm_map_entry *e = shf__pages_entry(&w->t->region, w->suspect);
        w->leaked = !is_reached(w, w->suspect) && e != NULL && shm_load_acquire(&e->word) == w->suspect_word;
    }
    if (locked) shf__table_unlock(s);
    w->locked = locked;
    tally_free(&y);
    tally_free(&w->seen);
    return SHF_OK;
}

/* Walks the shard again: is this page leaked? 1, 0 or an error. */
static int is_leaked(struct walk *w, uint32_t shard, uint32_t page, uint64_t word) {
    struct shf_table_stats ignored = {0};
    struct walk again = *w;
    again.stats = &ignored;
    again.report = NULL;
    again.seen = (struct tally){NULL, NULL, 0, 0};
    again.suspect = page;
    again.suspect_word = word;
    int rc = walk_shard(&again, shard);
    w->no_memory |= again.no_memory;
    return rc == SHF_OK ? again.leaked && !again.no_memory : rc;
}

/* The first head at or behind *page, by a walk from page 0. The allocator lock is held. */
static int walk_from_start(struct shf_region *r, uint32_t *page, uint32_t *head, uint64_t *word) {
    uint32_t from = *page, at = 0;
    int rc;
    while ((rc = shf__pages_walk(r, &at, head, word)) == 1)
        if (*head >= from) break;
    *page = at;
    return rc;
}

static int walk_pages(struct walk *w) {
    struct shf_region *r = &w->t->region;
    uint32_t page = 0, head;
    uint64_t word;
    int rc;
    for (;;) {
        rc = shf__pages_walk(r, &page, &head, &word);
        if (rc < 0 && w->locked) {
            int lock = shf__lock(&w->t->registry, &r->header->alloc_word, NULL);
            if (lock != SHF_OK) return lock;
            rc = shf__pages_walk(r, &page, &head, &word); /* merged and taken again under our feet? */
            if (rc < 0) rc = walk_from_start(r, &page, &head, &word);
            shf__unlock(&r->header->alloc_word);
        }
        if (rc != 1) break;
        uint32_t length = shf_page_length(word), owner = shf_page_owner(word);
        if (w->report) w->report->pages += length;
        switch (shf_page_state(word)) {
        case SHF_PAGE_FREE:
        case SHF_PAGE_ABSORBED: w->stats->free_bytes += (uint64_t)length * SHF_PAGE; break;
        case SHF_PAGE_FIXED:
        case SHF_PAGE_RESERVE:
        case SHF_PAGE_PENDING: /* filled by a living handle: the dead's were swept before */
        case SHF_PAGE_PENDPAGE: break;
        case SHF_PAGE_SEGMENT:
        case SHF_PAGE_DIRECTORY:
        case SHF_PAGE_CHUNK:
        case SHF_PAGE_LARGE:
            if (!w->locked || w->report == NULL || is_reached(w, head)) break;
            if (owner < SHF_SHARD_COUNT) {
                int leaked = is_leaked(w, owner, head, word);
                if (leaked < 0) return leaked;
                if (!leaked) break;
            }
            w->report->leaked_pages += length;
            problem(w, "T7: page %u (state %d, %u pages) names shard %u, which does not reach it", head,
                    (int)shf_page_state(word), length, owner);
            break;
        default: break; /* the walk stands on heads only */
        }
    }
    if (rc < 0) problem(w, "P1: the page map breaks off at page %u", page);
    return SHF_OK;
}

static int walk_all(struct shf_table *t, struct shf_table_report *report, struct shf_table_stats *stats) {
    struct walk w = {.t = t, .report = report, .stats = stats, .locked = !t->region.read_only};
    int rc = SHF_OK;
    (void)shf__region_refresh(&t->region);
    if (shf__pages_out_of_reach(&t->region, (uint32_t)(shm_load_acquire(&t->region.header->end) / SHF_PAGE) - 1))
        return shf__region_corrupt(&t->region, "check: the end of the file is out of reach", t->region.reserved);
    w.pages = (uint32_t)(atomic_load_explicit(&t->region.size, memory_order_acquire) / SHF_PAGE); /* S2 */
    w.reached = calloc(w.pages / 64 + 1, sizeof *w.reached);
    if (w.reached == NULL)
        return shf__fail(SHF_ERR_NO_MEMORY, 0, "check", t->region.path, "%s: no memory for a bitmap of its pages", t->region.path);
    if (w.locked) rc = shf__registry_sweep(&t->registry, 1);
    if (rc == SHF_ERR_TIMEOUT) rc = SHF_OK; /* a stopped holder: the walk waits for its shard, without byte R */
    for (uint32_t i = 0; rc == SHF_OK && !w.no_memory && i < SHF_SHARD_COUNT; i++) rc = walk_shard(&w, i);
    if (rc == SHF_OK && !w.no_memory) rc = walk_pages(&w);
    if (rc == SHF_OK && w.no_memory)
        rc = shf__fail(SHF_ERR_NO_MEMORY, 0, "check", t->region.path, "%s: no memory for a list of a shard's pages", t->region.path);
    free(w.reached);
    return rc;
}

int shf_table_stats(struct shf_table *t, struct shf_table_stats *stats) {
    struct shf_table_stats x = {0};
    SHF_CHECK_ARGS(t != NULL && stats != NULL && stats->size >= sizeof x);
    int rc = walk_all(t, NULL, &x);
    if (rc != SHF_OK) return rc;
    x.size = stats->size;
    x.handles = shf__registry_count(&t->registry);
    x.file_bytes = shm_load_acquire(&t->region.header->end);
    x.max_bytes = t->region.max_bytes;
    uint32_t slots = shf_is_fixed(t) ? SHF_BUCKETS * SHF_CELLS : SHF_SEGMENT_SLOTS;
    if (x.segments != 0) x.load_percent = (uint32_t)(x.keys * 100 / (x.segments * slots));
    *stats = x;
    return SHF_OK;
}

int shf_table_check(struct shf_table *t, struct shf_table_report *report) {
    struct shf_table_report x = {0};
    struct shf_table_stats stats = {0};
    SHF_CHECK_ARGS(t != NULL && report != NULL && report->size >= sizeof x);
    x.size = report->size;
    x.structure_only = (uint32_t)t->region.read_only;
    int rc = walk_all(t, &x, &stats);
    if (rc != SHF_OK) return rc;
    x.keys = stats.keys;
    *report = x;
    if (x.problems == 0) return SHF_OK;
    return shf__fail(SHF_ERR_CORRUPT, 0, "check", t->region.path, "%s: %llu problems; the first: %s", t->region.path,
                     (unsigned long long)x.problems, x.first);
}
