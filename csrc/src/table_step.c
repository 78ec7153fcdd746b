/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_step.c - the stores of every step, done by the living and, the same ones, by recovery
 *
 * The table of steps is in table.h. Labels:
 *    A1  arm (relaxed, between compiler fences): the commit. Everything it needs was stored before in program order.
 *    A2  the stores. First execution and recovery run the same code on the same intent.
 *    A3  disarm. A taker after a death sees a program-order prefix of the owner's stores: with A3 all of A2.
 *    V3  version (release), V4 fence(release): pairs with the readers' V2 (table_read.c). Weaker: a reader could see
 *        cleared slots or reused memory and still the old version.
 * Every page, entry and offset in an intent is checked before the first store of A2: a forged intent gives
 * SHF_ERR_CORRUPT and stays armed; its shard then answers with that error.
 */
#include "table_cells.h"

static int corrupt(struct shf_table *t, struct shf_shm_shard *s, const char *what) {
    return shf__region_corrupt(&t->region, what, shf_shard_number(t, s));
}

static struct shf_shm_chunk *chunk_at(struct shf_table *t, struct shf_shm_shard *s, uint32_t page) {
    struct shf_shm_map_entry *e = shf__pages_entry(&t->region, page);
    if (e == NULL) return NULL;
    uint64_t w = shm_load_acquire(&e->word);
    if (shf_page_state(w) != SHF_PAGE_CHUNK || shf_page_owner(w) != shf_shard_number(t, s)) return NULL;
    return shf__region_page(&t->region, page);
}

/* 1 if this handle cannot see the run that the step frees: the step stays armed, for another handle or a later time. */
static int is_beyond(struct shf_table *t, const struct shf_shm_shard *s) {
    uint32_t run = shm_load_relaxed32(&s->old_run);
    return run != 0 && shf__pages_out_of_reach(&t->region, run);
}

/* PUT and SLOT. */
static int apply_slot(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *slot) {
    struct shf_shm_map_entry *link = NULL, *dead = NULL;
    uint32_t number = shf_shard_number(t, s), run = 0, pages = 0;
    if (SHF_LIKELY(op == SHF_STEP_PUT)) {
        shf_apply_put(s, slot, shm_load_relaxed(&s->new_word), shm_load_relaxed(&s->new_head),
                      shm_load_relaxed32(&s->new_count));
        return SHF_OK;
    }
    run = shm_load_relaxed32(&s->new_run);
    pages = shm_load_relaxed32(&s->arg0);
    if (run != 0) {
        uint64_t word;
        if ((link = shf__pages_entry(&t->region, run)) == NULL) return corrupt(t, s, "intent: run");
        /* A tripwire for whoever freed a run that an armed step links: nothing else can be seen here. */
        word = shm_load_acquire(&link->word);
        if (word != shf_page_word(SHF_PAGE_LARGE, number, pages) &&
            (shf_page_state(word) != SHF_PAGE_PENDING || shf_page_length(word) != pages))
            return corrupt(t, s, "intent: run is not pending");
    }
    if (shm_load_relaxed32(&s->chunk_a) != 0) {
        dead = shf__pages_entry(&t->region, shm_load_relaxed32(&s->chunk_a));
        if (dead == NULL) return corrupt(t, s, "intent: chunk");
    }
    if (is_beyond(t, s)) return corrupt(t, s, "intent: old run");
    if (link != NULL) shm_store_release(&link->word, shf_page_word(SHF_PAGE_LARGE, number, pages)); /* A2 */
    shm_store_release(slot, shm_load_relaxed(&s->new_word));
    shm_store_relaxed(&s->head, shm_load_relaxed(&s->new_head));
    shm_store_relaxed32(&s->count, shm_load_relaxed32(&s->new_count));
    shm_store_relaxed32(&s->garbage, shm_load_relaxed32(&s->new_garbage));
    if (dead != NULL) shm_store_relaxed(&dead->aux, shm_load_relaxed32(&s->new_dead));
    if (shm_load_relaxed32(&s->old_run) != 0) {
        shf_move_version(s);
        shf__pages_free(&t->region, shm_load_relaxed32(&s->old_run), SHF_PAGE_LARGE, number);
    }
    return SHF_OK;
}

static int apply_first(struct shf_table *t, struct shf_shm_shard *s) {
    uint32_t page = shm_load_relaxed32(&s->new_run);
    if (page == 0 || shf__region_page(&t->region, page) == NULL) return corrupt(t, s, "intent: segment");
    for (uint32_t i = 0; i < 1u << SHF_DIR_INLINE; i++) shm_store_release32(&s->entries[i], page); /* A2 */
    shm_store_relaxed32(&s->run, 0);
    return SHF_OK;
}

static int apply_split(struct shf_table *t, struct shf_shm_shard *s) {
    uint64_t directory = shm_load_relaxed(&s->directory), flags[SHF_SEGMENT_SLOTS];
    uint32_t page = shm_load_relaxed32(&s->new_run), old = shm_load_relaxed32(&s->arg0);
    uint32_t first = shm_load_relaxed32(&s->arg1), n = shm_load_relaxed32(&s->new_count);
    uint32_t bit = shm_load_relaxed32(&s->new_dead);
    shf_au32 *entries = shf__table_entries(t, s, directory);
    uint64_t bytes = (uint64_t)shf_segment_pages(t) * SHF_PAGE;
    shf_au64 *slots = shf__region_at(&t->region, (uint64_t)old * SHF_PAGE, bytes);
    uint32_t size = 1u << shf_directory_depth(directory);
    if (entries == NULL || slots == NULL || page == 0 || old == 0 ||
        shf__region_at(&t->region, (uint64_t)page * SHF_PAGE, bytes) == NULL ||
        bit > 14 || n > size || first > size - n)
        return corrupt(t, s, "intent: split");
    if (shf_is_fixed(t)) {
        uint64_t sides[2][SHF_BUCKETS];
        shf__cells_sides(t, slots, bit, sides);
        shf__cells_apply_split(t, s, entries, first, n, page, slots, sides[0]);
        return SHF_OK;
    }
    for (uint32_t i = 0; i < n; i++) shm_store_release32(&entries[first + i], page); /* A2 */
    shf_move_version(s);
    shf__segment_flags(slots, bit, 0, flags);
    for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS; i++) {
        uint64_t w = shm_load_relaxed(&slots[i]);
        uint64_t is = (uint64_t)((w & SHF_REF_MASK) != 0) & ~(w >> (49 + bit)) & 1;
        uint64_t stays = w & ~SHF_FLAGS & (0 - is);
        shm_store_release(&slots[i], stays | flags[i]);
    }
    shm_store_relaxed32(&s->run, 0);
    return SHF_OK;
}

static int apply_double(struct shf_table *t, struct shf_shm_shard *s) {
    uint64_t directory = shm_load_relaxed(&s->new_word);
    if (shf_directory_page(directory) == 0 || shf_directory_depth(directory) > SHF_DIR_MAX ||
        shf__table_entries(t, s, directory) == NULL || is_beyond(t, s))
        return corrupt(t, s, "intent: directory");
    shm_store_release(&s->directory, directory); /* A2 */
    shf_move_version(s);
    if (shm_load_relaxed32(&s->old_run) != 0)
        shf__pages_free(&t->region, shm_load_relaxed32(&s->old_run), SHF_PAGE_DIRECTORY, shf_shard_number(t, s));
    shm_store_relaxed32(&s->run, 0);
    return SHF_OK;
}

static int apply_chunk(struct shf_table *t, struct shf_shm_shard *s) {
    uint32_t old = shm_load_relaxed32(&s->arg0);
    struct shf_shm_chunk *c = old ? chunk_at(t, s, old) : NULL;
    if (old != 0 && c == NULL) return corrupt(t, s, "intent: chunk");
    if (c != NULL) shm_store_relaxed32(&c->used, shm_load_relaxed32(&s->arg1)); /* A2 */
    shm_store_relaxed32(&s->chunks, shm_load_relaxed32(&s->new_run));
    shm_store_relaxed(&s->head, shm_load_relaxed(&s->new_head));
    shm_store_relaxed(&s->chunk_end, shm_load_relaxed(&s->new_word));
    shm_store_relaxed32(&s->record_units, shm_load_relaxed32(&s->new_count));
    shm_store_relaxed32(&s->run, 0);
    return SHF_OK;
}

static int apply_unchunk(struct shf_table *t, struct shf_shm_shard *s) {
    struct shf_shm_chunk *before = chunk_at(t, s, shm_load_relaxed32(&s->arg0));
    if (before == NULL || is_beyond(t, s)) return corrupt(t, s, "intent: predecessor");
    shm_store_relaxed32(&before->next, shm_load_relaxed32(&s->arg1)); /* A2 */
    shm_store_relaxed32(&s->victim, 0);
    shm_store_relaxed32(&s->record_units, shm_load_relaxed32(&s->new_count));
    shm_store_relaxed32(&s->garbage, shm_load_relaxed32(&s->new_garbage));
    shf_move_version(s);
    shf__pages_free(&t->region, shm_load_relaxed32(&s->old_run), SHF_PAGE_CHUNK, shf_shard_number(t, s));
    return SHF_OK;
}

static int apply_clear(struct shf_table *t, struct shf_shm_shard *s) {
    shm_store_relaxed(&s->grave_directory, shm_load_relaxed(&s->new_word)); /* A2 */
    shm_store_relaxed32(&s->grave_chunks, shm_load_relaxed32(&s->arg0));
    shm_store_relaxed32(&s->grave_index, 0);
    shm_store_relaxed32(&s->grave_full, 1);
    /* All keys go in one store, for readers too: a directory of one entry, in the registry's page, that is always 0
     * (the generation of slot 0, nobody's). The inline entries could only go one by one. */
    shm_store_release(&s->directory, shf_directory_array(0, SHF_REGISTRY_PAGE));
    for (uint32_t i = 0; i < 8; i++) shm_store_release32(&s->entries[i], 0);
    shm_store_release(&s->directory, shf_directory_inline(shf_shard_number(t, s)));
    shm_store_relaxed32(&s->chunks, 0);
    shm_store_relaxed(&s->head, 0);
    shm_store_relaxed(&s->chunk_end, 0);
    shm_store_relaxed32(&s->victim, 0);
    shm_store_relaxed32(&s->predecessor, 0);
    shm_store_relaxed32(&s->record_units, 0);
    shm_store_relaxed32(&s->garbage, 0);
    shm_store_relaxed32(&s->count, 0);
    shf_move_version(s);
    return SHF_OK;
}

static int apply_bury_segment(struct shf_table *t, struct shf_shm_shard *s) {
    uint32_t page = shm_load_relaxed32(&s->arg0), number = shf_shard_number(t, s);
    shf_au64 *slots = shf__region_page(&t->region, page);
    struct shf_shm_map_entry *e = shf__pages_entry(&t->region, page);
    if (slots == NULL || e == NULL) return corrupt(t, s, "intent: buried segment");
    /* Once the page is FREE its words may be another's already: only an unfinished burial reads them. */
    if (shm_load_acquire(&e->word) == shf_page_word(SHF_PAGE_SEGMENT, number, shf_segment_pages(t))) {
        if (!shf__grave_within_reach(t, page)) return corrupt(t, s, "intent: buried segment");
        for (uint32_t i = 0; i < SHF_SEGMENT_SLOTS && !shf_is_fixed(t); i++) {
            uint64_t off = shf_word_offset(shm_load_relaxed(&slots[i]));
            if (off != 0 && off % SHF_PAGE == 0)
                shf__pages_free(&t->region, (uint32_t)(off / SHF_PAGE), SHF_PAGE_LARGE, number); /* A2 */
        }
        shf__pages_free(&t->region, page, SHF_PAGE_SEGMENT, number);
    }
    shm_store_relaxed32(&s->grave_index, shm_load_relaxed32(&s->new_count));
    return SHF_OK;
}

static int apply_bury_array(struct shf_table *t, struct shf_shm_shard *s) {
    if (is_beyond(t, s)) return corrupt(t, s, "intent: buried directory");
    shm_store_relaxed(&s->grave_directory, 0); /* A2 */
    if (shm_load_relaxed32(&s->old_run) != 0)
        shf__pages_free(&t->region, shm_load_relaxed32(&s->old_run), SHF_PAGE_DIRECTORY, shf_shard_number(t, s));
    return SHF_OK;
}

static int apply_bury_chunk(struct shf_table *t, struct shf_shm_shard *s) {
    if (is_beyond(t, s)) return corrupt(t, s, "intent: buried chunk");
    shm_store_relaxed32(&s->grave_chunks, shm_load_relaxed32(&s->arg1)); /* A2 */
    shf__pages_free(&t->region, shm_load_relaxed32(&s->old_run), SHF_PAGE_CHUNK, shf_shard_number(t, s));
    return SHF_OK;
}

static int apply(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *slot) {
    switch (op) {
    case SHF_STEP_PUT:
    case SHF_STEP_SLOT: return apply_slot(t, s, op, slot);
    case SHF_STEP_FIRST: return apply_first(t, s);
    case SHF_STEP_SPLIT: return apply_split(t, s);
    case SHF_STEP_DOUBLE: return apply_double(t, s);
    case SHF_STEP_CHUNK: return apply_chunk(t, s);
    case SHF_STEP_UNCHUNK: return apply_unchunk(t, s);
    case SHF_STEP_CLEAR: return apply_clear(t, s);
    case SHF_STEP_BURY_SEGMENT: return apply_bury_segment(t, s);
    case SHF_STEP_BURY_ARRAY: return apply_bury_array(t, s);
    case SHF_STEP_BURY_CHUNK: return apply_bury_chunk(t, s);
    case SHF_STEP_CELL:
    case SHF_STEP_VALUE: return shf__cells_apply(t, s, op, slot);
    }
    return corrupt(t, s, "intent: unknown step");
}

int shf__step_run(struct shf_table *t, struct shf_shm_shard *s, enum shf_step op, shf_au64 *slot) {
    shf_arm(t, s, op, slot);
    int rc = apply(t, s, op, slot);
    if (SHF_UNLIKELY(rc != SHF_OK)) return rc; /* stays armed: the intent makes no sense, nobody may build on it */
    shf_disarm(s);
    return SHF_OK;
}

int shf__table_recover(struct shf_table *t, struct shf_shm_shard *s) {
    uint64_t arm = shm_load_relaxed(&s->arm);
    uint32_t run;
    shf_fence_seq_cst();
    if (arm != 0) {
        enum shf_step op = (enum shf_step)(arm >> 56);
        shf_au64 *slot = NULL;
        if (op == SHF_STEP_PUT || op == SHF_STEP_SLOT || op == SHF_STEP_CELL || op == SHF_STEP_VALUE) {
            slot = shf__region_at(&t->region, (arm & SHF_REF_MASK) * 8, 8);
            if (slot == NULL || (uint64_t)((unsigned char *)slot - t->region.base) < SHF_OBJECT_PAGE * SHF_PAGE)
                return corrupt(t, s, "intent: slot");
        }
        int rc = apply(t, s, op, slot);
        if (rc != SHF_OK) return rc;
        shf_disarm(s);
    }
    run = shm_load_relaxed32(&s->run);
    if (run != 0) {
        if (shf__pages_out_of_reach(&t->region, run)) return corrupt(t, s, "run of a dead owner");
        shf__pages_give_back(&t->pages, run, shf_shard_number(t, s));
        shf_compiler_fence();
        shm_store_relaxed32(&s->run, 0);
    }
    return SHF_OK;
}

SHF_COLD int shf__table_lock_slow(struct shf_table *t, struct shf_shm_shard *s, int taken_over) {
    int rc = shf__table_recover(t, s);
    if (taken_over && rc == SHF_OK) {
        /* What the dead had written without committing it may become valid by a later put's tag (table_cells.h, C3). After
         * the recovery and its disarm: a step's own move is absolute, and must not be undone by a redo. */
        shm_store_release(&s->version, shm_load_relaxed(&s->version) + 1); /* V3 */
        shf_fence_release();                                               /* V4 */
    }
    /* A recovery that fails keeps its step or run: what nobody had committed lies beside none that can fail, or the next taker,
     * who has not taken over, would have to move the version too. */
    if (taken_over) shm_store_relaxed32(&s->recoveries, shm_load_relaxed32(&s->recoveries) + 1);
    if (rc != SHF_OK) shf__table_unlock(s);
    return rc;
}
