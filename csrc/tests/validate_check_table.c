/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_check_table.c - check sees each kind of damage, and names the invariant (T: table.h, P: layout.h)
 *
 * Each case damages one thing in the mapping of a sound table, asks check, and puts everything back: then check is
 * content.
 */
#include "model.h"
#include "table_cells.h"

#define KEYS 60u
static struct shf_table *t;
static struct shf_shm_shard *s; /* that of most keys; never shard 0 */
static uint32_t me;
static unsigned cases;
static unsigned char keys[KEYS][8]; /* of the shard, one bucket and one second bucket */

static unsigned char *image;
static size_t image_size;
static void take_image(void) {
    free(image);
    image_size = atomic_load(&t->region.size);
    image = memcpy(test_alloc(image_size), t->region.base, image_size);
}
/* check says CORRUPT, and of the first problem what is expected. Then everything is as it was. */
static void seen(const char *what, const char *first) {
    struct shf_table_report r = {0};
    r.size = sizeof r;
    int rc = shf_table_check(t, &r);
    if (rc != SHF_ERR_CORRUPT || r.problems == 0 || strstr(r.first, first) == NULL ||
        strstr(shf_last_error()->message, first) == NULL)
        FAIL("%s: %d, %llu problems, not '%s': %s", what, rc, (unsigned long long)r.problems, first, r.first);
    struct shf_table *reader = NULL; /* takes no lock: it may say less, but nothing that is not so */
    REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_RDONLY, NULL, &reader), SHF_OK);
    memset(&r, 0, sizeof r);
    r.size = sizeof r;
    rc = shf_table_check(reader, &r);
    CHECK(rc == SHF_OK || rc == SHF_ERR_CORRUPT);
    CHECK_EQ_INT(r.structure_only, 1);
    shf_table_close(reader);
    memcpy(t->region.base, image, image_size);
    r.size = sizeof r;
    rc = shf_table_check(t, &r);
    if (rc != SHF_OK) FAIL("after %s: %d %s", what, rc, shf_last_error()->message);
    take_image(); /* check itself sweeps, and hands runs on */
    cases++;
}

static shf_au64 *map_of(uint32_t page) { return &shf__pages_entry(&t->region, page)->word; }
static uint32_t page_of(enum shf_page_state state, int mine) {
    uint32_t page = 0, head;
    uint64_t w;
    while (shf__pages_walk(&t->region, &page, &head, &w) == 1)
        if (shf_page_state(w) == state && (shf_page_owner(w) == me) == mine) return head;
    FAIL("no page of state %d", (int)state);
    test_stop();
}
static shf_au32 *entries_of_shard(uint32_t *size) {
    uint64_t directory = atomic_load(&s->directory);
    *size = 1u << shf_directory_depth(directory);
    return shf__table_entries(t, s, directory);
}
/* A slot of the shard whose word has all of `with` and none of `without`. */
static shf_au64 *slot_with(uint64_t with, uint64_t without, shf_au64 **segment) {
    uint32_t size;
    shf_au32 *entries = entries_of_shard(&size);
    for (uint32_t i = 0; i < size; i++) {
        shf_au64 *slots = shf__region_page(&t->region, atomic_load(&entries[i]));
        for (uint32_t k = 0; k < SHF_SEGMENT_SLOTS; k++) {
            uint64_t w = atomic_load(&slots[k]);
            if ((w & SHF_REF_MASK) == 0 || (w & with) != with || (w & without) != 0) continue;
            *segment = slots;
            return &slots[k];
        }
    }
    return NULL;
}
static shf_au64 *find(const void *key, size_t klen, struct shf_found *f) {
    REQUIRE_EQ_INT(shf__table_find(t, s, shf__hash(&t->hash, key, klen), key, klen, f), SHF_FOUND);
    return f->slot;
}

static void up(size_t fixed_value) {
    static unsigned char large[9000];
    t = fixed_value ? table_create_fixed("a", 8, fixed_value, 0) : table_create("a");
    colliding_keys(t, 8, keys, KEYS, COLLIDE_DELTA);
    me = shf_hash_shard(shf__hash(&t->hash, keys[0], 8));
    s = &t->shards[me];
    size_t vlen = fixed_value ? fixed_value : 20;
    for (uint32_t i = 0; i < KEYS; i++) REQUIRE_EQ_INT(shf_table_put(t, keys[i], 8, large, vlen, NULL), SHF_OK);
    for (uint32_t i = 0, n = 0; n < 700 || i < 2000; i++) { /* the shard splits, others have something too */
        unsigned char k[8];
        fixed_key(k, 8, 1000000007u + i);
        int here = shf_hash_shard(shf__hash(&t->hash, k, 8)) == me;
        n += (uint32_t)here;
        if (here || i < 2000) REQUIRE_EQ_INT(shf_table_put(t, k, 8, large, vlen, NULL), SHF_OK);
    }
    for (uint32_t i = 0, done = 0; !fixed_value && done != 3; i++) { /* a large value here, one elsewhere */
        unsigned char k[8];
        fixed_key(k, 8, 5000000003u + i);
        uint32_t bit = shf_hash_shard(shf__hash(&t->hash, k, 8)) == me ? 1 : 2;
        if (done & bit) continue;
        REQUIRE_EQ_INT(shf_table_put(t, k, 8, large, sizeof large, NULL), SHF_OK);
        done |= bit;
    }
    table_clean(t);
    take_image();
}
static void down(void) {
    table_clean(t);
    shf_table_close(t);
}

TEST(directories) {
    uint32_t size;
    up(0);
    shf_au32 *entries = entries_of_shard(&size);
    uint64_t directory = atomic_load(&s->directory);
    atomic_store(&s->directory, shf_directory_array(SHF_DIR_INLINE, UINT32_MAX)), seen("a directory far away", "T2:");
    atomic_store(&s->directory, shf_directory_inline(me ^ 1)), seen("another shard's entries", "T2:");
    if (shf_directory_page(directory) == 0)
        atomic_store(&s->directory, directory | 15), seen("an inline directory of one entry", "T2:");
    uint32_t first = atomic_load(&entries[0]);
    atomic_store(&entries[0], 0), seen("an entry of 0", "T2:");
    atomic_store(&entries[0], page_of(SHF_PAGE_SEGMENT, 0)), seen("another shard's segment", "T2:");
    atomic_store(&entries[0], page_of(SHF_PAGE_CHUNK, 1)), seen("a chunk as a segment", "T2:");
    atomic_store(&entries[0], UINT32_MAX), seen("a segment far away", "T2:");
    REQUIRE(atomic_load(&entries[size - 1]) != first);
    atomic_store(&entries[size - 1], first), seen("a segment twice", "T");
    uint32_t array = page_of(SHF_PAGE_FREE, 0); /* sound but for the map's word */
    memcpy(t->region.base + (uint64_t)array * SHF_PAGE, (void *)entries, 4 * size);
    atomic_store(&s->directory, shf_directory_array(shf_directory_depth(directory), array));
    seen("a directory in a free run", "T2:");
    down();
}

TEST(slots) {
    up(0);
    shf_au64 *segment, *slot, *other;
    struct shf_found f;
    slot = find(keys[0], 8, &f);
    uint64_t w = f.word;
    atomic_store(slot, w ^ UINT64_C(1) << 63), seen("other directory bits", "T3:");
    atomic_store(slot, (w & ~SHF_REF_MASK) | SHF_REF_MASK), seen("a record far away", "T3:");
    atomic_store(slot, (w & ~SHF_REF_MASK) | SHF_OBJECT_PAGE * SHF_PAGE / 8), seen("a record among the shards", "T3:");
    struct shf_shm_chunk *c = shf__region_page(&t->region, page_of(SHF_PAGE_CHUNK, 0));
    uint64_t elsewhere = (uint64_t)((unsigned char *)c - t->region.base) + SHF_CHUNK_HEADER;
    atomic_store(slot, (w & ~SHF_REF_MASK) | elsewhere / 8), seen("another shard's record", "T3:");
    atomic_store(slot, w ^ UINT64_C(1) << 41), seen("other extra bits", "T3:");
    atomic_store(slot, w ^ SHF_ROLE), seen("the other role", "T3:");
    atomic_store(slot, w ^ UINT64_C(1) << 43), seen("another delta", "T3:");
    atomic_store(f.record, f.word0 ^ UINT64_C(1) << 40), seen("another key in the record", "T3:");
    slot = NULL;
    uint32_t large = page_of(SHF_PAGE_LARGE, 1), foreign = page_of(SHF_PAGE_LARGE, 0), size, entry = 0;
    shf_au32 *entries = entries_of_shard(&size);
    for (uint32_t i = 0; slot == NULL && i < size; i++) {
        segment = shf__region_page(&t->region, entry = atomic_load(&entries[i]));
        for (uint32_t k = 0; k < SHF_SEGMENT_SLOTS; k++)
            if (shf_word_offset(atomic_load(&segment[k])) == (uint64_t)large * SHF_PAGE) slot = &segment[k];
    }
    REQUIRE(slot != NULL);
    w = atomic_load(slot);
    atomic_store(slot, (w & ~SHF_REF_MASK) | (uint64_t)foreign * SHF_PAGE / 8);
    seen("another shard's large value", "T3:");
    struct shf_shm_large *l = shf__region_page(&t->region, large);
    atomic_store(&l->hash, atomic_load(&l->hash) ^ 1), seen("another hash of a long key", "hash of a long key");
    atomic_store(&l->vlen, UINT64_C(1) << 40), seen("a large value longer than its run", "T3:");
    atomic_store(map_of(large), shf_page_word(SHF_PAGE_LARGE, me, 1)), seen("a large run that is too short", "T3:");

    other = slot_with(SHF_ROLE, 0, &segment);
    REQUIRE(other != NULL); /* of 60 keys of one bucket some are in their second one */
    uint32_t b2 = (uint32_t)(other - segment) / 8, delta = shf_word_delta(atomic_load(other)), b1 = b2 ^ delta;
    atomic_store(&segment[b1 * 8 + (delta & 7)], atomic_load(&segment[b1 * 8 + (delta & 7)]) & ~SHF_FLAG_OVERFLOW);
    seen("no overflow flag", "T4:");
    uint64_t stashed = table_stats(t).stashed_keys;
    CHECK(stashed != 0 || SHF_DIR_MAX > 3);
    if (stashed != 0) {
        slot = NULL;
        for (uint32_t i = 0; slot == NULL && i < size; i++) {
            segment = shf__region_page(&t->region, atomic_load(&entries[i]));
            for (uint32_t k = 0; k < SHF_SEGMENT_SLOTS; k++) {
                w = atomic_load(&segment[k]);
                if ((w & SHF_REF_MASK) != 0 && shf_word_delta(w) == 0) slot = &segment[k];
            }
        }
        REQUIRE(slot != NULL);
        f.word = atomic_load(slot);
        REQUIRE_EQ_INT(shf__table_open_record(t, &f), SHF_FOUND);
        unsigned char key[8];
        shf__record_key(&f, key, 8);
        uint64_t h = shf__hash(&t->hash, key, 8);
        uint32_t bucket[2] = {shf_hash_b1(h), shf_hash_b1(h) ^ shf_hash_delta(h)};
        for (int i = 0; i < 2; i++) {
            shf_au64 *flag = &segment[bucket[i] * 8];
            atomic_store(flag, atomic_load(flag) & ~SHF_FLAG_STASH), seen("no stash flag", "T4:");
        }
    }
    down();
}

TEST(keys_and_counts) {
    up(0);
    struct shf_found f;
    shf_au64 *segment = NULL;
    /* A slot of a bucket with room behind it; its key put again: the old record under the old word, in that room. */
    uint32_t i;
    for (i = 0; i < KEYS; i++) {
        shf_au64 *slot = find(keys[i], 8, &f);
        segment = f.segment;
        if (f.index % 8 < 7 && (atomic_load(slot + 1) & SHF_REF_MASK) == 0 && shf_word_delta(f.word) != 0) break;
    }
    unsigned char k[8];
    for (uint64_t n = 0; i == KEYS; n++) { /* then any other key of the shard */
        fixed_key(k, 8, 1000000007u + n);
        uint64_t h = shf__hash(&t->hash, k, 8);
        if (shf_hash_shard(h) != me || shf__table_find(t, s, h, k, 8, &f) != SHF_FOUND) continue;
        segment = f.segment;
        if (f.index % 8 < 7 && (atomic_load(&segment[f.index + 1]) & SHF_REF_MASK) == 0) break;
    }
    if (i < KEYS) memcpy(k, keys[i], 8);
    uint64_t old = f.word;
    REQUIRE_EQ_INT(shf_table_put(t, k, 8, "other", 5, NULL), SHF_OK);
    find(k, 8, &f);
    REQUIRE(f.segment == segment && shf_word_offset(f.word) != shf_word_offset(old));
    table_clean(t);
    take_image();
    shf_au64 *next = &segment[f.index + 1];
    atomic_store(next, (old & ~SHF_FLAGS) | (atomic_load(next) & SHF_FLAGS));
    seen("a key twice", "finds another entry");

    atomic_store(&s->count, atomic_load(&s->count) + 1), seen("another count", "T5:");
    uint32_t chunk = atomic_load(&s->chunks);
    struct shf_shm_chunk *c = shf__region_page(&t->region, chunk);
    atomic_store(&c->tag, 1), seen("a chunk without its tag", "T6:");
    atomic_store(&c->next, chunk), seen("a chunk that follows itself", "T6:");
    atomic_store(&c->next, page_of(SHF_PAGE_CHUNK, 0)), seen("another shard's chunk in the list", "T6:");
    atomic_store(&c->next, UINT32_MAX), seen("a chunk far away", "T6:");
    atomic_store(&s->garbage, atomic_load(&s->garbage) + 1), seen("another sum of dead units", "T6:");
    atomic_store(&s->record_units, atomic_load(&s->record_units) + 1), seen("another sum of units", "T6:");
    shf_au64 *dead = &shf__pages_entry(&t->region, chunk)->aux;
    atomic_store(dead, atomic_load(dead) + 1), seen("other dead units", "T6:");
    atomic_store(&s->head, atomic_load(&s->head) + 8), seen("another head", "T6:");
    down();
}

TEST(pages) {
    up(0);
    uint32_t page, run = page_of(SHF_PAGE_FREE, 0);
    uint64_t w = atomic_load(map_of(run));
    REQUIRE_EQ_INT(shf__pages_take(&t->pages, &s->run, SHF_PAGE_CHUNK, me, 1, &page), SHF_OK);
    atomic_store(&s->run, 0);
    seen("a chunk that nobody has", "T7:");
    REQUIRE_EQ_INT(shf__pages_take(&t->pages, &s->run, SHF_PAGE_LARGE, SHF_SHARD_COUNT, 1, &page), SHF_OK);
    atomic_store(&s->run, 0);
    seen("a large value of no shard", "T7:");
    atomic_store(map_of(run), 0), seen("a page without a state", "P1:");
    atomic_store(map_of(run), shf_page_word(SHF_PAGE_INTERIOR, 0, 1)), seen("an inner page as a head", "P1:");
    atomic_store(map_of(run), UINT64_C(15) << 60 | 1), seen("a state that is none", "P1:");
    atomic_store(map_of(run), w | SHF_PAGE_LENGTH_MASK), seen("a run longer than the file", "P1:");
    atomic_store(map_of(run), w & ~SHF_PAGE_LENGTH_MASK), seen("a run without a length", "P1:");
    down();
}

/* The cleaner stops at what makes no sense, and moves and frees nothing of it. */
static void stopped(const char *what, const char *place) {
    REQUIRE_EQ_INT(shf__table_lock(t, s), SHF_OK);
    int freed = shf__records_clean_hard(t, s);
    shf__table_unlock(s);
    if (freed || strcmp(shf_last_error()->place, place) != 0)
        FAIL("%s: %d, stopped at '%s', not '%s'", what, freed, shf_last_error()->place, place);
    memcpy(t->region.base, image, image_size);
    table_clean(t);
    take_image();
    cases++;
}
TEST(the_cleaner_meets_damage) {
    up(0);
    uint32_t current = atomic_load(&s->chunks), none[] = {current, page_of(SHF_PAGE_CHUNK, 0), UINT32_MAX};
    struct shf_shm_chunk *c = shf__region_page(&t->region, current);
    uint32_t victim = atomic_load(&c->next);
    REQUIRE(victim != 0);
    c = shf__region_page(&t->region, victim);
    shf_au64 *dead = &shf__pages_entry(&t->region, victim)->aux;
    shf_au64 *record = (shf_au64 *)(void *)((unsigned char *)c + SHF_CHUNK_HEADER);
    uint32_t used = atomic_load(&c->used), units = shf_page_length(atomic_load(map_of(victim))) * (SHF_PAGE / 8);
    atomic_store(&s->predecessor, 0);
    atomic_store(&s->victim, victim);
    atomic_store(&s->position, SHF_CHUNK_HEADER / 8);
    take_image();
    for (size_t i = 0; i < 3; i++) atomic_store(&s->victim, none[i]), stopped("no victim", "cleaner's victim");
    atomic_store(&s->position, 0), stopped("a position in the chunk's head", "chunk");
    atomic_store(&c->used, SHF_CHUNK_HEADER / 8 - 1), stopped("a chunk that uses less than its head", "chunk");
    atomic_store(&c->used, units + 1), stopped("a chunk that uses more than it has", "chunk");
    uint64_t w = atomic_load(record);
    atomic_store(record, w | UINT64_C(15) << 28), stopped("a record of no kind", "record in a chunk");
    atomic_store(record, w | 0xfffffff), stopped("a record longer than any", "record in a chunk");
    struct shf_found f = {.word = (uint64_t)((unsigned char *)record - t->region.base) / 8};
    unsigned char key[8];
    do {
        atomic_store(record, atomic_load(record) + (UINT64_C(1) << 32));
        REQUIRE_EQ_INT(shf__table_open_record(t, &f), SHF_FOUND);
        shf__record_key(&f, key, 8);
    } while (shf_hash_shard(shf__hash(&t->hash, key, 8)) == me);
    stopped("a record of another shard's key", "record of another shard");
    REQUIRE_EQ_INT(shf__table_lock(t, s), SHF_OK);
    atomic_store(&s->position, used); /* walked through, and something lives */
    CHECK_EQ_INT(shf__records_clean_hard(t, s), 0);
    CHECK_EQ_INT(atomic_load(&s->position), SHF_CHUNK_HEADER / 8);
    shf__table_unlock(s);
    atomic_store(dead, used - SHF_CHUNK_HEADER / 8), atomic_store(&s->predecessor, victim);
    stopped("a predecessor that is none", "chunk list");
    down();
}

/* A grave's list of chunks that bites its own tail, by a chunk that is never FREE: its word tells no length. Clear, check and
 * whoever needs room take it apart, and must come to an end. */
TEST(a_grave_without_an_end) {
    for (int by_clear = 0; by_clear < 2; by_clear++) {
        up(0);
        uint32_t chunk = atomic_load(&s->chunks);
        struct shf_shm_chunk *c = shf__region_page(&t->region, chunk);
        struct shf_table_report r = {.size = sizeof r};
        atomic_store(map_of(chunk), shf_page_word(SHF_PAGE_CHUNK, me, 0));
        atomic_store(&c->next, chunk);
        alarm(30);
        if (by_clear) {
            CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
        } else {
            atomic_store(&s->grave_chunks, chunk), atomic_store(&s->grave_full, 1);
            CHECK_EQ_INT(shf_table_check(t, &r), SHF_ERR_CORRUPT);
        }
        CHECK_EQ_INT(atomic_load(&s->grave_full), 0); /* given up */
        alarm(0);
        shf_table_close(t);
        unlink(temp_path("a"));
        free(image);
        image = NULL;
    }
}

static void cells(size_t vlen) {
    up(vlen);
    struct shf_found f;
    shf_au64 *header = NULL, *empty = NULL, *stash = NULL, *second = NULL;
    uint32_t empty_at = 0, b1 = 0, delta = 0, stash_b1 = 0, stash_delta = 0, size;
    shf_au32 *entries = entries_of_shard(&size);
    shf_au64 *segment = NULL, *here = NULL;
    uint64_t h = shf__hash(&t->hash, keys[0], 8);
    REQUIRE_EQ_INT(shf__cells_find(t, s, h, keys[0], &f), SHF_FOUND);
    header = f.slot;
    uint32_t i = f.index % SHF_BUCKET_SLOTS;
    uint64_t w = atomic_load(header);
    atomic_store(header, w ^ UINT64_C(1) << 8 * i), seen("another tag", "T3:");
    atomic_store(f.record + t->fixed.key_at / 8, ~atomic_load(f.record + t->fixed.key_at / 8));
    seen("another key in the cell", "T3:");
    if (!t->fixed.narrow) atomic_store(header + 1, atomic_load(header + 1) | 1), seen("an odd version", "T3:");
    for (uint32_t e = 0; e < size; e++) {
        segment = shf__region_at(&t->region, (uint64_t)atomic_load(&entries[e]) * SHF_PAGE, shf_cells_segment_bytes(t));
        for (uint32_t b = 0; b < SHF_BUCKETS; b++) {
            shf_au64 *bucket = shf_cells_bucket(t->fixed, segment, b);
            uint64_t bits = atomic_load(bucket);
            for (uint32_t k = 1; k <= SHF_CELLS; k++) {
                if (!(shf_cell_used(bits) >> k & 1)) continue;
                uint64_t hash = shf__cells_hash(t, shf_cell(t->fixed, bucket, k));
                uint32_t at = shf_hash_b1(hash), d = shf_hash_delta(hash);
                if (b == (at ^ d)) second = segment, b1 = at, delta = d;
                if (b != at && b != (at ^ d)) stash = segment, stash_b1 = at, stash_delta = d;
                if (b == at && k < SHF_CELLS && !(shf_cell_used(bits) >> (k + 1) & 1)) here = bucket, empty_at = k;
            }
        }
    }
    REQUIRE(second != NULL && here != NULL);
    shf_au64 *flags = shf_cells_bucket(t->fixed, second, b1);
    atomic_store(flags, atomic_load(flags) & ~shf_cell_overflow(delta)), seen("no overflow flag", "T4:");
    CHECK(stash != NULL || SHF_DIR_MAX > 3);
    for (int k = 0; stash != NULL && k < 2; k++) {
        flags = shf_cells_bucket(t->fixed, stash, k ? stash_b1 ^ stash_delta : stash_b1);
        atomic_store(flags, atomic_load(flags) & ~SHF_CELL_STASH), seen("no stash flag", "T4:");
    }
    empty = shf_cell(t->fixed, here, empty_at + 1);
    for (uint32_t k = 0; k < t->fixed.cell_words; k++)
        atomic_store(empty + k, atomic_load(shf_cell(t->fixed, here, empty_at) + k));
    uint64_t tag = atomic_load(here) >> 8 * empty_at & 0xff;
    atomic_store(here, atomic_load(here) | tag << 8 * (empty_at + 1)), seen("a key twice", "finds another entry");
    atomic_store(&s->count, atomic_load(&s->count) + 1), seen("another count", "T5:");
    down();
}
TEST(wide_cells) { cells(8); }
TEST(cells_with_redo_records) {
    cells(100);
    printf("# total: %u kinds of damage seen by check and named\n", cases);
    free(image);
}

int main(int argc, char **argv) { return run(argc, argv); }
