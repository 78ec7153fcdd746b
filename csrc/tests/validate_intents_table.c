/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_intents_table.c - intents that no writer could have armed: refused before their first store (table_step.c)
 *
 * An intent lies in the file, so a scribbler or a damaged disk can change it. Each case here forges one field of one
 * step and then asks for the shard's lock: SHF_ERR_CORRUPT, not a byte of the file changed, the intent still armed,
 * readers and other shards as before. The sound intent beside it, made of the same fields, is carried out.
 */
#include "model.h"
#include "table_cells.h"

static struct shf_table *t;
static struct shf_shm_shard *s; /* the shard that is forged */
static char key[32], other_key[32]; /* in that shard; in another one */
static size_t klen, other_klen;
static unsigned cases;

/* What is armed. Fields that a step does not use stay 0. */
struct intent {
    unsigned op;
    uint64_t at; /* byte offset of the slot */
    uint64_t new_word, new_head;
    uint32_t new_count, chunk_a, new_dead, arg0, arg1, old_run, new_run;
};
static void arm(const struct intent *i) {
    atomic_store(&s->new_word, i->new_word);
    atomic_store(&s->new_head, i->new_head);
    atomic_store(&s->new_count, i->new_count);
    atomic_store(&s->new_garbage, atomic_load(&s->garbage));
    atomic_store(&s->chunk_a, i->chunk_a);
    atomic_store(&s->new_dead, i->new_dead);
    atomic_store(&s->arg0, i->arg0);
    atomic_store(&s->arg1, i->arg1);
    atomic_store(&s->old_run, i->old_run);
    atomic_store(&s->new_run, i->new_run);
    atomic_store(&s->new_version, atomic_load(&s->version) + 1);
    atomic_store(&s->arm, SHF_ARM(i->op, i->at / 8));
}
static unsigned char *bytes(size_t *n) {
    *n = atomic_load(&t->region.size);
    return memcpy(test_alloc(*n), t->region.base, *n);
}
static void put_back(unsigned char *image, size_t n) {
    memcpy(t->region.base, image, n);
    free(image);
}
static const unsigned char *value_of(const char *k, size_t n) {
    static unsigned char v[SHF_FIXED_MAX];
    value_fill(v, shf_is_fixed(t) ? t->fixed.value : 30, k, n, 1);
    return v;
}
static size_t value_len(void) { return shf_is_fixed(t) ? t->fixed.value : 30; }

static void refused(const char *what) {
    size_t n, now_n;
    unsigned char *before = bytes(&n);
    int broken = *test_failures;
    CHECK_EQ_INT(shf_table_put(t, key, klen, value_of(key, klen), value_len(), NULL), SHF_ERR_CORRUPT);
    CHECK(strncmp(shf_last_error()->place, "intent", 6) == 0);
    CHECK_EQ_INT(shf_table_del(t, key, klen), SHF_ERR_CORRUPT);
    unsigned char *after = bytes(&now_n);
    CHECK_BYTES(before, n, after, now_n);
    free(after);
    CHECK(table_has(t, key, klen, value_of(key, klen), value_len()));
    CHECK_EQ_INT(shf_table_put(t, other_key, other_klen, value_of(other_key, other_klen), value_len(), NULL), SHF_OK);
    struct shf_table_report report = {0};
    report.size = sizeof report;
    CHECK_EQ_INT(shf_table_check(t, &report), SHF_ERR_CORRUPT);
    put_back(before, n);
    cases++;
    if (*test_failures != broken) FAIL("... %s", what);
}
/* Arms it, sees it refused, and takes it away again. */
static void forged(const char *what, struct intent i) {
    size_t n;
    unsigned char *sound = bytes(&n);
    arm(&i);
    refused(what);
    put_back(sound, n);
}
/* The same fields make sense: the next taker of the lock carries them out. */
static void carried_out(const char *what, struct intent i) {
    size_t n;
    unsigned char *sound = bytes(&n);
    arm(&i);
    int rc = shf__table_lock(t, s);
    if (rc != SHF_OK || atomic_load(&s->arm) != 0) FAIL("%s: %d", what, rc);
    if (rc == SHF_OK) shf__table_unlock(s);
    put_back(sound, n);
}

static uint64_t map_word(uint32_t page) { return atomic_load(&shf__pages_entry(&t->region, page)->word); }
/* The first page of a run in this state (and of this owner; ~0: of any other than our shard). */
static uint32_t page_of(enum shf_page_state state, uint32_t owner) {
    uint32_t page = 0, head;
    uint64_t w;
    while (shf__pages_walk(&t->region, &page, &head, &w) == 1)
        if (shf_page_state(w) == state &&
            (owner == ~0u ? shf_page_owner(w) != shf_shard_number(t, s) : shf_page_owner(w) == owner))
            return head;
    FAIL("no page of state %d", (int)state);
    return 0;
}
static uint32_t pages(void) { return (uint32_t)(atomic_load(&t->region.size) / SHF_PAGE); }
static uint64_t offset_of(const void *p) { return (uint64_t)((const unsigned char *)p - t->region.base); }

/* Keys and values in two shards; with variable lengths one large value in each. */
static void up(size_t fixed_key_len, size_t fixed_value_len) {
    static unsigned char large[9000];
    uint32_t most = 200;
    t = fixed_key_len ? table_create_fixed("a", fixed_key_len, fixed_value_len, 0) : table_create("a");
    s = NULL;
    klen = other_klen = 0;
    for (uint32_t i = 0; i < most || other_klen == 0; i++) {
        char k[32];
        size_t n = fixed_key_len;
        if (fixed_key_len) fixed_key(k, n, i);
        else n = key_of(k, i);
        uint64_t h = shf__hash(&t->hash, k, n);
        struct shf_shm_shard *here = &t->shards[shf_hash_shard(h)];
        if (s == NULL) s = here;
        REQUIRE_EQ_INT(shf_table_put(t, k, n, value_of(k, n), value_len(), NULL), SHF_OK);
        if (here == s) memcpy(key, k, klen = n);
        if (here != s) memcpy(other_key, k, other_klen = n);
    }
    for (uint32_t i = 0, done = 0; !fixed_key_len && done != 3; i++) {
        char k[32];
        size_t n = key_of(k, 1000000 + i);
        uint32_t bit = &t->shards[shf_hash_shard(shf__hash(&t->hash, k, n))] == s ? 1 : 2;
        if (done & bit) continue;
        REQUIRE_EQ_INT(shf_table_put(t, k, n, large, sizeof large, NULL), SHF_OK);
        done |= bit;
    }
}
static void down(void) {
    table_clean(t);
    shf_table_close(t);
}

TEST(slots_and_records) {
    up(0, 0);
    struct shf_found f;
    REQUIRE_EQ_INT(shf__table_find(t, s, shf__hash(&t->hash, key, klen), key, klen, &f), SHF_FOUND);
    uint32_t me = shf_shard_number(t, s), large = page_of(SHF_PAGE_LARGE, me), chunk = atomic_load(&s->chunks);
    uint32_t free_run = page_of(SHF_PAGE_FREE, 0);
    struct intent put = {.op = SHF_STEP_PUT, .at = offset_of(f.slot), .new_word = f.word,
                         .new_head = atomic_load(&s->head), .new_count = atomic_load(&s->count)};
    struct intent slot = put, i;
    slot.op = SHF_STEP_SLOT;
    carried_out("put", put);
    carried_out("slot", slot);
    for (unsigned op = SHF_STEP_PUT; op <= SHF_STEP_SLOT; op++) {
        i = put, i.op = op;
        i.at = 128, forged("a slot in the header", i);
        i.at = (uint64_t)SHF_OBJECT_PAGE * SHF_PAGE - 8, forged("a slot in the page map", i);
        i.at = (uint64_t)pages() * SHF_PAGE, forged("a slot at the file's end", i);
        i.at = SHF_REF_MASK * 8, forged("a slot far away", i);
    }
    i = slot, i.new_run = large, i.arg0 = shf_page_length(map_word(large));
    carried_out("a large run that is linked already", i);
    i.arg0++, forged("a linked run of another length", i);
    i.arg0--, i.new_run = page_of(SHF_PAGE_LARGE, ~0u), forged("another shard's large run", i);
    i.new_run = chunk, forged("a chunk as a large run", i);
    i.new_run = free_run, forged("a free run", i);
    i.new_run = pages(), forged("a run at the file's end", i);
    i.new_run = UINT32_MAX, forged("a run far away", i);
    atomic_store(&shf__pages_entry(&t->region, large)->word, shf_page_word(SHF_PAGE_PENDING, SHF_OWNER(9, 9), 3));
    i.new_run = large, i.arg0 = 3, carried_out("a pending run", i);
    i.arg0 = 2, forged("a pending run of another length", i);
    atomic_store(&shf__pages_entry(&t->region, large)->word, shf_page_word(SHF_PAGE_LARGE, me, 3));
    i = slot, i.chunk_a = pages(), forged("a dead record's chunk at the file's end", i);
    i.chunk_a = UINT32_MAX, forged("a dead record's chunk far away", i);
    i = slot, i.chunk_a = chunk, i.new_dead = (uint32_t)atomic_load(&shf__pages_entry(&t->region, chunk)->aux);
    carried_out("a dead record's chunk", i);
    for (unsigned op = SHF_STEP_VALUE + 1; op < 256; op += 11) {
        i = put, i.op = op;
        forged("an unknown step", i);
    }
    i = put, i.op = SHF_STEP_CELL, forged("a cell among variable lengths", i);
    i.op = SHF_STEP_VALUE, forged("a value among variable lengths", i);
    i.op = 0, forged("no step, but armed", i);
    down();
}

/* `page` is a run of the shard that may pass for a new one. */
static void segments(uint32_t length) {
    uint64_t directory = atomic_load(&s->directory);
    uint32_t segment = atomic_load(&s->entries[0]), run = page_of(SHF_PAGE_FREE, 0), end = pages();
    uint32_t size = 1u << shf_directory_depth(directory);
    struct intent i = {.op = SHF_STEP_FIRST, .new_run = segment};
    carried_out("first segment", i);
    i.new_run = 0, forged("no first segment", i);
    i.new_run = end, forged("a first segment at the file's end", i);
    struct intent split = {.op = SHF_STEP_SPLIT, .new_run = run, .arg0 = segment, .arg1 = size / 2,
                           .new_count = size / 2, .new_dead = 14};
    carried_out("split", split);
    i = split, i.new_run = 0, forged("a split into nothing", i);
    i.new_run = end - (length - 1), forged("a split into a segment that ends behind the file", i);
    i.new_run = UINT32_MAX, forged("a split into nowhere", i);
    i = split, i.arg0 = 0, forged("a split of nothing", i);
    i.arg0 = end - (length - 1), forged("a split of a segment that ends behind the file", i);
    i.arg0 = UINT32_MAX, forged("a split of nowhere", i);
    i = split, i.new_dead = 15, forged("a split by the 16th bit", i);
    i.new_dead = UINT32_MAX, forged("a split by no bit", i);
    i = split, i.new_count = size + 1, i.arg1 = 0, forged("more entries than there are", i);
    i.new_count = UINT32_MAX, forged("all entries", i);
    i = split, i.arg1 = size - i.new_count + 1, forged("entries behind the last one", i);
    i.arg1 = UINT32_MAX, forged("entries far behind the last one", i);
    atomic_store(&s->directory, shf_directory_array(SHF_DIR_INLINE, end));
    arm(&split);
    CHECK_EQ_INT(shf_table_put(t, key, klen, value_of(key, klen), value_len(), NULL), SHF_ERR_CORRUPT);
    CHECK_EQ_INT(atomic_load(&s->entries[0]), segment);
    atomic_store(&s->arm, 0);
    atomic_store(&s->directory, directory);

    uint32_t depth = SHF_DIR_MAX < 10 ? SHF_DIR_MAX : 10; /* one page */
    struct intent twice = {.op = SHF_STEP_DOUBLE, .new_word = shf_directory_array(depth, run)};
    carried_out("double", twice);
    i = twice, i.new_word = directory, forged("the inline directory as an array", i);
    if (SHF_DIR_MAX < 15)
        i.new_word = shf_directory_array(SHF_DIR_MAX + 1, run), forged("too deep a directory", i);
    i.new_word = shf_directory_array(SHF_DIR_MAX, end), forged("a directory at the file's end", i);
    i.new_word = ~UINT64_C(31) & ~SHF_GRAVE_DIRECTORY, forged("a directory far away", i);
    i = (struct intent){.op = SHF_STEP_BURY_SEGMENT, .arg0 = end};
    forged("a buried segment at the file's end", i);
    i.arg0 = UINT32_MAX, forged("a buried segment far away", i);
}
TEST(segments_and_directories) {
    up(0, 0);
    segments(1);
    down();
}
TEST(segments_of_cells) {
    up(8, 8);
    segments(t->fixed.segment_pages);
    down();
}

TEST(chunks) {
    up(0, 0);
    uint32_t chunk = atomic_load(&s->chunks), other = page_of(SHF_PAGE_CHUNK, ~0u);
    uint32_t large = page_of(SHF_PAGE_LARGE, shf_shard_number(t, s));
    uint32_t wrong[] = {0, other, page_of(SHF_PAGE_FREE, 0), large, pages(), UINT32_MAX};
    struct intent open = {.op = SHF_STEP_CHUNK, .new_run = chunk, .new_head = atomic_load(&s->head),
                          .new_word = atomic_load(&s->chunk_end), .new_count = atomic_load(&s->record_units)};
    carried_out("first chunk", open);
    open.arg0 = chunk;
    carried_out("another chunk", open);
    struct intent gone = {.op = SHF_STEP_UNCHUNK, .arg0 = chunk};
    carried_out("a chunk less", gone);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        open.arg0 = gone.arg0 = wrong[k];
        if (wrong[k] != 0) forged("a former chunk that is none", open);
        forged("a predecessor that is none", gone);
    }
    down();
}

static void cells(size_t k, size_t v) {
    up(k, v);
    struct shf_found f;
    uint64_t data = (uint64_t)(SHF_OBJECT_PAGE + shf__cells_object_pages((uint32_t)k, (uint32_t)v)) * SHF_PAGE;
    uint64_t end = (uint64_t)pages() * SHF_PAGE;
    REQUIRE_EQ_INT(shf__cells_find(t, s, shf__hash(&t->hash, key, klen), key, &f), SHF_FOUND);
    uint64_t at = offset_of(f.slot), header = atomic_load(f.slot);
    struct intent i = {.op = SHF_STEP_CELL, .at = at};
    atomic_store(&s->cell_word, header);
    atomic_store(&s->cell_count, atomic_load(&s->count));
    carried_out("cell", i);
    for (unsigned op = SHF_STEP_CELL; op <= SHF_STEP_VALUE; op++) {
        atomic_store(&s->cell_count, op == SHF_STEP_CELL ? atomic_load(&s->count) : 1);
        i.op = op;
        i.at = at + 8, forged("a bucket between lines", i);
        i.at = (uint64_t)SHF_OBJECT_PAGE * SHF_PAGE, forged("a bucket among the shards", i);
        i.at = data - SHF_LINE, forged("a bucket in the object's area", i);
        i.at = end - t->fixed.bucket_bytes + SHF_LINE;
        if (i.at < end) forged("a bucket that ends behind the file", i);
        i.at = end, forged("a bucket at the file's end", i);
    }
    i = (struct intent){.op = SHF_STEP_VALUE, .at = at};
    for (uint32_t n = 0; n <= SHF_CELLS + 1; n++) {
        int redo = t->fixed.redo_words != 0;
        uint64_t version = redo ? atomic_load(f.slot + 1) : 2;
        if (redo && n == f.index % SHF_BUCKET_SLOTS) {
            shf_au64 *r = shf_cells_redo(t, s);
            for (uint32_t w = 0; w < t->fixed.key_at / 8; w++) atomic_store(&r[1 + w], atomic_load(f.record + w));
            atomic_store(&s->cell_count, n);
            atomic_store(&s->cell_word, version);
            carried_out("value", i);
            atomic_store(&s->cell_word, version + 1), forged("an odd version", i);
        } else if (!redo || n == 0 || n > SHF_CELLS) {
            atomic_store(&s->cell_count, n);
            atomic_store(&s->cell_word, version), forged("a cell that cannot be", i);
        }
    }
    atomic_store(&s->cell_count, UINT32_MAX), forged("a cell far away", i);
    down();
}
TEST(narrow_cells) { cells(4, 4); }
TEST(wide_cells) { cells(8, 8); }
TEST(cells_with_redo_records) { cells(8, 100); }

/* A run that its taker did not link is given back, if it is one that the shard can have taken. */
TEST(runs_of_the_dead) {
    up(0, 0);
    uint32_t me = shf_shard_number(t, s), none = page_of(SHF_PAGE_FREE, 0);
    uint32_t slot = SHF_OWNER_SLOT(atomic_load(&t->registry.owner));
    uint32_t pendpage = atomic_load(&shf__registry_slot(&t->registry, slot)->pending);
    uint32_t stays[] = {none, /* the first: a put may take it afterwards */
                        page_of(SHF_PAGE_SEGMENT, ~0u), page_of(SHF_PAGE_CHUNK, ~0u), page_of(SHF_PAGE_LARGE, me),
                        pendpage, SHF_OBJECT_PAGE, pages(), UINT32_MAX};
    for (size_t k = 0; k < sizeof stays / sizeof *stays; k++) {
        uint64_t before = stays[k] < pages() ? map_word(stays[k]) : 0;
        atomic_store(&s->run, stays[k]);
        CHECK_EQ_INT(shf_table_put(t, key, klen, value_of(key, klen), value_len(), NULL), SHF_OK);
        CHECK_EQ_INT(atomic_load(&s->run), 0);
        if (k != 0 && stays[k] < pages()) CHECK_EQ_INT(map_word(stays[k]), before);
        CHECK(table_has(t, key, klen, value_of(key, klen), value_len()));
    }
    enum shf_page_state ours[] = {SHF_PAGE_SEGMENT, SHF_PAGE_DIRECTORY, SHF_PAGE_CHUNK, SHF_PAGE_PENDPAGE};
    for (size_t k = 0; k < 4; k++) {
        uint32_t page;
        int pending = ours[k] == SHF_PAGE_PENDPAGE;
        uint32_t mine = pending ? SHF_OWNER(77, me) : me;
        REQUIRE_EQ_INT(shf__pages_take(&t->pages, &s->run, ours[k], mine, 1, &page), SHF_OK);
        CHECK_EQ_INT(atomic_load(&s->run), page);
        if (pending) { /* linked: its slot names it */
            atomic_store(&shf__registry_slot(&t->registry, 77)->pending, page);
            REQUIRE_EQ_INT(shf__table_lock(t, s), SHF_OK);
            CHECK_EQ_INT(shf_page_state(map_word(page)), SHF_PAGE_PENDPAGE);
            atomic_store(&shf__registry_slot(&t->registry, 77)->pending, 0);
            atomic_store(&s->run, page);
            shf__table_unlock(s);
        }
        REQUIRE_EQ_INT(shf__table_lock(t, s), SHF_OK);
        CHECK_EQ_INT(atomic_load(&s->run), 0);
        CHECK_EQ_INT(shf_page_state(map_word(page)), SHF_PAGE_FREE);
        shf__table_unlock(s);
        uint32_t other = pending ? SHF_OWNER(77, me ^ 1) : me ^ 1;
        REQUIRE_EQ_INT(shf__pages_take(&t->pages, &s->run, ours[k], other, 1, &page), SHF_OK);
        REQUIRE_EQ_INT(shf__table_lock(t, s), SHF_OK);
        CHECK_EQ_INT(atomic_load(&s->run), 0);
        CHECK_EQ_INT(shf_page_state(map_word(page)), ours[k]);
        shf__table_unlock(s);
        CHECK(shf__pages_free(&t->region, page, ours[k], other) != 0);
    }
    shf_table_close(t);
    printf("# total: %u forged intents refused before their first store\n", cases);
}

int main(int argc, char **argv) { return run(argc, argv); }
