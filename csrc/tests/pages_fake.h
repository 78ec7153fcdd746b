/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pages_fake.h - the smallest object on top of pages: two shards that own runs; for validate_pages and crash_pages
 *
 * A shard = one page of the object area: lock, run, two tiny intents, and the pages of the runs it owns. Each page of a
 * run is stamped with {head, shard} and a number of the taking; a free checks all stamps, so a run with two owners is seen.
 */
#ifndef PAGES_FAKE_H
#define PAGES_FAKE_H

#include "pages_impl.h"
#include "test.h"

#define FAKE_SHARDS 2u
#define FAKE_RUNS 800u
struct fake_shard {
    shf_au32 word, run;
    shf_au32 freeing, free_state, free_at; /* armed while freeing != 0 */
    shf_au32 link_page, link_length, link_at; /* armed while link_page != 0 */
    shf_au32 owned[FAKE_RUNS];
};
struct fake {
    struct shf_region region;
    struct shf_registry registry;
    struct shf_pages pages;
};

TEST_FN struct fake_shard *fake_shard(struct fake *f, uint32_t shard) {
    return (struct fake_shard *)shf__region_page(&f->region, SHF_OBJECT_PAGE + shard);
}
/* What a taker of the lock does after a death. */
TEST_FN void fake_recover(struct fake *f, uint32_t shard) {
    struct fake_shard *s = fake_shard(f, shard);
    uint32_t page = shm_load_relaxed32(&s->link_page);
    if (page) {
        struct shf_shm_map_entry *e = shf__pages_entry(&f->region, page);
        REQUIRE(e != NULL);
        shm_store_release(&e->word, shf_page_word(SHF_PAGE_LARGE, shard, shm_load_relaxed32(&s->link_length)));
        shm_store_release32(&s->owned[shm_load_relaxed32(&s->link_at)], page);
        shm_store_release32(&s->link_page, 0);
    }
    page = shm_load_relaxed32(&s->freeing);
    if (page) {
        shm_store_release32(&s->owned[shm_load_relaxed32(&s->free_at)], 0);
        shf__pages_free(&f->region, page, (enum shf_page_state)shm_load_relaxed32(&s->free_state), shard);
        shm_store_release32(&s->freeing, 0);
    }
    page = shm_load_relaxed32(&s->run);
    if (page) {
        uint32_t i = 0;
        while (i < FAKE_RUNS && shm_load_relaxed32(&s->owned[i]) != page) i++;
        if (i == FAKE_RUNS) shf__pages_give_back(&f->pages, page, shard);
        shm_store_release32(&s->run, 0);
    }
}
TEST_FN int fake_lock(void *context, uint32_t shard) {
    struct fake *f = (struct fake *)context;
    int rc = shf__lock(&f->registry, &fake_shard(f, shard)->word, NULL);
    if (rc == SHF_OK) fake_recover(f, shard);
    return rc;
}
TEST_FN void fake_unlock(void *context, uint32_t shard) { shf__unlock(&fake_shard((struct fake *)context, shard)->word); }
TEST_FN shf_au32 *fake_run(void *context, uint32_t shard) { return &fake_shard((struct fake *)context, shard)->run; }
TEST_FN int fake_sweep(void *context, uint32_t slot) {
    return shf__pages_sweep_slot(&((struct fake *)context)->pages, slot);
}

TEST_FN int fake_open(struct fake *f, const char *path, uint64_t max_bytes) {
    struct shf_region_params params = {.kind = SHF_KIND_TABLE, .max_bytes = max_bytes, .object_pages = 16};
    int created, rc;
    memset(f, 0, sizeof *f);
    if ((rc = shf__region_open(&f->region, path, SHF_CREATE, &params, &created)) != SHF_OK) return rc;
    f->registry.region = &f->region;
    f->registry.lock_timeout_ns = UINT64_C(10000000000);
    f->registry.sweep_slot = fake_sweep;
    f->registry.context = f;
    f->pages.region = &f->region;
    f->pages.registry = &f->registry;
    f->pages.lock_shard = fake_lock;
    f->pages.unlock_shard = fake_unlock;
    f->pages.run_word = fake_run;
    f->pages.shards = FAKE_SHARDS;
    f->pages.context = f;
    return shf__registry_attach(&f->registry);
}
TEST_FN void fake_close(struct fake *f) {
    shf__registry_detach(&f->registry);
    shf__region_close(&f->region);
}

TEST_FN void fake_stamp(struct fake *f, uint32_t page, uint32_t n, uint32_t shard, uint64_t id) {
    for (uint32_t i = 0; i < n; i++) {
        shf_au64 *w = (shf_au64 *)shf__region_page(&f->region, page + i);
        REQUIRE(w != NULL);
        shm_store_relaxed(w, (uint64_t)page << 32 | shard << 16 | 0xabcdu);
        shm_store_relaxed(w + 1, id);
        shm_store_relaxed(w + 511, id ^ i);
    }
}
TEST_FN void fake_check_stamp(struct fake *f, uint32_t page, uint32_t n, uint32_t shard) {
    uint64_t id = 0, head_word;
    for (uint32_t i = 0; i < n; i++) {
        shf_au64 *w = (shf_au64 *)shf__region_page(&f->region, page + i);
        REQUIRE(w != NULL);
        if (i == 0) id = shm_load_relaxed(w + 1);
        CHECK_EQ_INT(shm_load_relaxed(w), (uint64_t)page << 32 | shard << 16 | 0xabcdu);
        CHECK_EQ_INT(shm_load_relaxed(w + 1), id);
        CHECK_EQ_INT(shm_load_relaxed(w + 511), id ^ i);
        CHECK_EQ_INT(shf__pages_head(&f->region, page + i, &head_word), page);
    }
}

/* Takes n pages and links them. The index in *at; SHF_NOT_FOUND: the shard's list is full. */
TEST_FN int fake_take(struct fake *f, uint32_t shard, uint32_t n, uint64_t id, uint32_t *at) {
    struct fake_shard *s = fake_shard(f, shard);
    for (;;) {
        uint32_t i = 0, page;
        int rc = fake_lock(f, shard);
        if (rc != SHF_OK) return rc;
        while (i < FAKE_RUNS && shm_load_relaxed32(&s->owned[i])) i++;
        if (i == FAKE_RUNS) {
            fake_unlock(f, shard);
            return SHF_NOT_FOUND;
        }
        rc = shf__pages_take(&f->pages, &s->run, SHF_PAGE_CHUNK, shard, n, &page);
        if (rc == SHF_OK) {
            fake_stamp(f, page, n, shard, id);
            shm_store_release32(&s->owned[i], page);
            shm_store_release32(&s->run, 0);
        }
        fake_unlock(f, shard);
        if (rc == SHF__GROW) rc = shf__pages_grow(&f->pages, n);
        else if (rc == SHF_OK) {
            *at = i;
            return SHF_OK;
        }
        if (rc != SHF_OK) return rc;
    }
}
TEST_FN int fake_free(struct fake *f, uint32_t shard, uint32_t at) {
    struct fake_shard *s = fake_shard(f, shard);
    int rc = fake_lock(f, shard);
    if (rc != SHF_OK) return rc;
    uint32_t page = shm_load_relaxed32(&s->owned[at]);
    if (page) {
        uint64_t w = shm_load_acquire(&shf__pages_entry(&f->region, page)->word);
        CHECK_EQ_INT(shf_page_owner(w), shard);
        fake_check_stamp(f, page, shf_page_length(w), shard);
        shm_store_relaxed32(&s->free_state, shf_page_state(w));
        shm_store_relaxed32(&s->free_at, at);
        shm_store_release32(&s->freeing, page);
        shm_store_release32(&s->owned[at], 0);
        CHECK_EQ_INT(shf__pages_free(&f->region, page, shf_page_state(w), shard), shf_page_length(w));
        shm_store_release32(&s->freeing, 0);
    }
    fake_unlock(f, shard);
    if (page) shf__pages_hint(&f->pages, page);
    return SHF_OK;
}
TEST_FN int fake_large(struct fake *f, uint32_t shard, uint32_t n, uint64_t id, int give_up) {
    struct fake_shard *s = fake_shard(f, shard);
    uint32_t page, entry, i = 0;
    int rc;
    while ((rc = shf__pages_pending_begin(&f->pages, shard, n, &page, &entry)) == SHF__GROW)
        if ((rc = shf__pages_grow(&f->pages, n)) != SHF_OK) return rc;
    if (rc != SHF_OK) return rc;
    fake_stamp(f, page, n, shard, id);
    if (!give_up && (rc = fake_lock(f, shard)) == SHF_OK) {
        while (i < FAKE_RUNS && shm_load_relaxed32(&s->owned[i])) i++;
        if (i < FAKE_RUNS) {
            struct shf_shm_map_entry *e = shf__pages_entry(&f->region, page);
            CHECK_EQ_INT(shm_load_acquire(&e->word), shf__pages_pending_word(&f->pages, n));
            shm_store_relaxed32(&s->link_length, n);
            shm_store_relaxed32(&s->link_at, i);
            shm_store_release32(&s->link_page, page);
            shm_store_release(&e->word, shf_page_word(SHF_PAGE_LARGE, shard, n));
            shm_store_release32(&s->owned[i], page);
            shm_store_release32(&s->link_page, 0);
        } else {
            give_up = 1;
        }
        fake_unlock(f, shard);
    }
    shf__pages_pending_finish(&f->pages, page, entry, give_up || rc != SHF_OK);
    return rc;
}
/* Takes the reserve as a chunk and links it. */
TEST_FN int fake_take_reserve(struct fake *f, uint32_t shard) {
    struct fake_shard *s = fake_shard(f, shard);
    uint32_t page, n, i = 0;
    int rc = fake_lock(f, shard);
    if (rc != SHF_OK) return rc;
    while (i < FAKE_RUNS && shm_load_relaxed32(&s->owned[i])) i++;
    rc = i == FAKE_RUNS ? SHF_NOT_FOUND : shf__pages_take_reserve(&f->pages, &s->run, shard, &n, &page);
    if (rc == SHF_OK) {
        fake_stamp(f, page, n, shard, page);
        shm_store_release32(&s->owned[i], page);
        shm_store_release32(&s->run, 0);
    }
    fake_unlock(f, shard);
    return rc;
}

/* One round and a bit of the hand. */
TEST_FN void fake_merge_all(struct fake *f) {
    int found, wrapped = 0, passes = 0;
    for (int i = 0; i < 1000000 && passes < 2; i++, passes += wrapped) {
        REQUIRE_EQ_INT(shf__pages_lock(&f->pages), SHF_OK);
        CHECK_EQ_INT(shf__pages_hand(&f->pages, SHF_PAGES_MAX, SHF_HAND_WORDS, &found, &wrapped), SHF_OK);
        shf__pages_unlock(&f->pages);
    }
}
struct fake_count {
    uint32_t pages, free, free_runs, longest, adjacent, absorbed, fixed, taken, pendpages, reserve;
};
/* With nobody else at work and every shard recovered: P1, every taken run has exactly one owner, every owner its run. */
TEST_FN struct fake_count fake_verify(struct fake *f) {
    struct fake_count c = {0};
    uint32_t page = 0, head, last_free = 0;
    uint64_t w;
    int rc;
    for (uint32_t s = 0; s < FAKE_SHARDS; s++) {
        REQUIRE_EQ_INT(fake_lock(f, s), SHF_OK);
        fake_unlock(f, s);
    }
    while ((rc = shf__pages_walk(&f->region, &page, &head, &w)) == 1) {
        uint32_t n = shf_page_length(w), owner = shf_page_owner(w), owners = 0;
        c.pages += n;
        switch (shf_page_state(w)) {
        case SHF_PAGE_ABSORBED: c.absorbed++; /* fall through */
        case SHF_PAGE_FREE:
            c.free += n, c.free_runs++;
            if (last_free) c.adjacent++;
            if (n > c.longest) c.longest = n;
            break;
        case SHF_PAGE_FIXED: c.fixed += n; break;
        case SHF_PAGE_CHUNK:
        case SHF_PAGE_LARGE:
            REQUIRE(owner < FAKE_SHARDS);
            for (uint32_t i = 0; i < FAKE_RUNS; i++) owners += shm_load_relaxed32(&fake_shard(f, owner)->owned[i]) == head;
            if (owners != 1) FAIL("P1: run at page %u of state %d has %u owners", head, (int)shf_page_state(w), owners);
            fake_check_stamp(f, head, n, owner);
            c.taken++;
            break;
        case SHF_PAGE_PENDPAGE:
            if (shm_load_relaxed32(&shf__registry_slot(&f->registry, SHF_OWNER_SLOT(owner))->pending) != head)
                FAIL("PENDPAGE %u has no slot", head);
            c.pendpages += n;
            break;
        case SHF_PAGE_RESERVE:
            CHECK_EQ_INT(shm_load_relaxed32(&f->region.header->reserve), head);
            c.reserve++;
            break;
        default: FAIL("page %u is of state %d, owner %x", head, (int)shf_page_state(w), owner);
        }
        last_free = shf_page_state(w) == SHF_PAGE_FREE || shf_page_state(w) == SHF_PAGE_ABSORBED;
    }
    if (rc != 0) FAIL("P1: broken at page %u", page);
    CHECK_EQ_INT((uint64_t)c.pages * SHF_PAGE, shm_load_relaxed(&f->region.header->end));
    for (uint32_t slot = 1; slot < SHF_SLOT_COUNT; slot++) {
        uint32_t pending = shm_load_relaxed32(&shf__registry_slot(&f->registry, slot)->pending);
        if (pending == 0) continue;
        CHECK(shf__pages_head(&f->region, pending, &w) == pending && shf_page_state(w) == SHF_PAGE_PENDPAGE &&
              SHF_OWNER_SLOT(shf_page_owner(w)) == slot);
    }
    uint32_t owned = 0;
    for (uint32_t s = 0; s < FAKE_SHARDS; s++) {
        CHECK_EQ_INT(shm_load_relaxed32(&fake_shard(f, s)->run), 0);
        for (uint32_t i = 0; i < FAKE_RUNS; i++) owned += shm_load_relaxed32(&fake_shard(f, s)->owned[i]) != 0;
    }
    CHECK_EQ_INT(owned, c.taken);
    /* H1: FREE stands at heads only; H3. */
    uint64_t *bits = (uint64_t *)calloc(c.pages / 64 + 1, 8);
    REQUIRE(bits != NULL);
    for (page = 0; shf__pages_walk(&f->region, &page, &head, &w) == 1;) bits[head / 64] |= UINT64_C(1) << (head % 64);
    for (page = 0; page < c.pages; page++) {
        struct shf_shm_map_entry *e = shf__pages_entry(&f->region, page);
        REQUIRE(e != NULL);
        enum shf_page_state state = shf_page_state(shm_load_relaxed(&e->word));
        if (!(bits[page / 64] >> (page % 64) & 1) && state != SHF_PAGE_NONE && state != SHF_PAGE_INTERIOR &&
            state != SHF_PAGE_ABSORBED)
            FAIL("H1: page %u is no head and says state %d", page, (int)state);
    }
    page = shm_load_relaxed32(&f->region.header->hand);
    CHECK(page < c.pages && (bits[page / 64] >> (page % 64) & 1)); /* H3 */
    free(bits);
    return c;
}
/* Frees all, merges, and checks that nothing but one FREE run lies between two other ones. */
TEST_FN struct fake_count fake_free_all(struct fake *f) {
    for (uint32_t s = 0; s < FAKE_SHARDS; s++)
        for (uint32_t i = 0; i < FAKE_RUNS; i++) CHECK_EQ_INT(fake_free(f, s, i), SHF_OK);
    fake_merge_all(f);
    struct fake_count c = fake_verify(f);
    CHECK_EQ_INT(c.taken, 0);
    CHECK_EQ_INT(c.absorbed, 0);
    CHECK_EQ_INT(c.adjacent, 0);
    return c;
}

#endif
