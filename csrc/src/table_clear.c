/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_clear.c - removing everything, shard by shard, and freeing it in small steps
 *
 * CLEAR      One step cuts off the shard's directory and chunk list: they become the shard's grave, the shard is empty.
 *            Needs no space. The inline entries are copied into the grave before the arm (it is empty then).
 * GRAVE      is emptied in steps of one segment, one array or one chunk: by the clearer, by every later change in the
 *            shard, by whoever needs room. A second clear empties it first.
 *            order: segments by entry (equal neighbours are one), the array, the chunks, grave_full = 0. A rule, not a
 *            habit: a buried segment's references are read to find large runs, and a chunk freed before could have
 *            become the run of a new large value of this shard, at the very page that an old record began on.
 * VERSION    moved in the CLEAR step, before any of it can become FREE; nobody reaches it afterwards.
 * REACH      A handle that cannot see all that a step would free leaves the step to others: what is freed cannot be found
 *            again if it is missed.
 * A DEATH    between two steps: the rest of the grave waits. In one: redone.
 */
#include "table.h"

/* Entries of the grave's directory; NULL: it makes no sense. */
static shf_au32 *grave_entries(struct shf_table *t, struct shf_shm_shard *s, uint64_t directory) {
    if (shf_directory_page(directory) == 0) return s->grave_entries;
    return shf__table_entries(t, s, directory);
}

/* A grave that makes no sense is left alone: check reports its pages. */
static int give_up(struct shf_shm_shard *s) {
    shm_store_relaxed32(&s->grave_full, 0);
    return 0;
}

int shf__grave_within_reach(struct shf_table *t, uint32_t segment) {
    if (shf__pages_out_of_reach(&t->region, segment)) return 0;
    shf_au64 *slots = shf__region_page(&t->region, segment);
    for (uint32_t i = 0; slots != NULL && i < SHF_SEGMENT_SLOTS && !shf_is_fixed(t); i++) {
        uint64_t off = shf_word_offset(shm_load_relaxed(&slots[i]));
        if (off != 0 && off % SHF_PAGE == 0 && shf__pages_out_of_reach(&t->region, (uint32_t)(off / SHF_PAGE))) return 0;
    }
    return 1;
}

int shf__grave_step(struct shf_table *t, struct shf_shm_shard *s) {
    if (shm_load_relaxed32(&s->grave_full) == 0) return 0;
    uint64_t directory = shm_load_relaxed(&s->grave_directory);
    uint32_t i = shm_load_relaxed32(&s->grave_index), page = 0;
    if (directory != 0) {
        uint32_t size = 1u << shf_directory_depth(directory), next = i;
        shf_au32 *entries = grave_entries(t, s, directory);
        if (entries == NULL && shf__pages_out_of_reach(&t->region, shf_directory_page(directory))) return 0;
        if (entries == NULL || (shf_directory_page(directory) == 0 && size > 8)) return give_up(s);
        for (; next < size && page == 0; next++) page = shm_load_relaxed32(&entries[next]);
        while (page != 0 && next < size && shm_load_relaxed32(&entries[next]) == page) next++;
        if (page != 0) {
            if (!shf__grave_within_reach(t, page)) return 0;
            if (shf__region_page(&t->region, page) == NULL) return give_up(s);
            shm_store_relaxed32(&s->arg0, page);
            shm_store_relaxed32(&s->new_count, next);
            if (shf__step_run(t, s, SHF_STEP_BURY_SEGMENT, NULL) != SHF_OK) return 0;
        } else {
            page = shf_directory_page(directory);
            shm_store_relaxed32(&s->old_run, page);
            if (shf__step_run(t, s, SHF_STEP_BURY_ARRAY, NULL) != SHF_OK) return 0;
        }
    } else if ((page = shm_load_relaxed32(&s->grave_chunks)) != 0) {
        if (shf__pages_out_of_reach(&t->region, page)) return 0;
        struct shf_shm_chunk *c = shf__region_page(&t->region, page);
        uint64_t word;
        /* A run that the step will make FREE: so a list that bites its own tail has an end. */
        if (c == NULL || shf__pages_head(&t->region, page, &word) != page || shf_page_state(word) != SHF_PAGE_CHUNK ||
            shf_page_owner(word) != shf_shard_number(t, s))
            return give_up(s);
        shm_store_relaxed32(&s->old_run, page);
        shm_store_relaxed32(&s->arg1, shm_load_relaxed32(&c->next));
        if (shf__step_run(t, s, SHF_STEP_BURY_CHUNK, NULL) != SHF_OK) return 0;
    } else {
        return give_up(s); /* empty: done */
    }
    if (page != 0) shf__pages_hint(&t->pages, page);
    return 1;
}

static int clear_shard(struct shf_table *t, struct shf_shm_shard *s) {
    int rc = shf__table_lock(t, s);
    if (rc != SHF_OK) return rc;
    while (shf__grave_step(t, s)) {
    }
    if (shm_load_relaxed32(&s->grave_full) != 0 || shm_load_relaxed(&s->arm) != 0) { /* a step made no sense */
        shf__table_unlock(s);
        return shf__region_corrupt(&t->region, "grave", shf_shard_number(t, s));
    }
    for (uint32_t i = 0; i < 8; i++) shm_store_relaxed32(&s->grave_entries[i], shm_load_relaxed32(&s->entries[i]));
    shm_store_relaxed(&s->new_word, shm_load_relaxed(&s->directory) | SHF_GRAVE_DIRECTORY);
    shm_store_relaxed32(&s->arg0, shm_load_relaxed32(&s->chunks));
    shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
    rc = shf__step_run(t, s, SHF_STEP_CLEAR, NULL);
    /* In portions, so that others may come in between. */
    for (int more = rc == SHF_OK, n = 0; more; n++) {
        more = shf__grave_step(t, s);
        if (!more || n % 16 != 15) continue;
        shf__table_unlock(s);
        rc = shf__table_lock(t, s);
        if (rc != SHF_OK) return rc == SHF_ERR_TIMEOUT ? SHF_OK : rc; /* cleared; the rest is freed later */
    }
    shf__table_unlock(s);
    return rc;
}

int shf_table_clear(struct shf_table *t) {
    SHF_CHECK_ARGS(t != NULL);
    if (t->region.read_only)
        return shf__fail(SHF_ERR_READ_ONLY, 0, "clear", t->region.path, "%s: this handle is read-only", t->region.path);
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) {
        int rc = clear_shard(t, &t->shards[i]);
        if (rc != SHF_OK) return rc;
    }
    return SHF_OK;
}
