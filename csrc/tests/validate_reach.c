/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_reach.c - a handle that has less address space than the file is long
 *
 * It was opened with little RLIMIT_AS; others have made the file longer since. What lies beyond its mapping it must leave to
 * others: nothing of it is lost, whatever it does, and it says SHF_ERR_ADDRESS_SPACE where it cannot go on.
 */
#include "model.h"
#include "table_find.h"

#include <sys/resource.h>

#define LARGE 300000u
#define LARGES 80u
#define SMALLS 20000u

static struct shf_table *whole; /* maps all of it */
static int asks[2], answers[2];

static void limited(int (*act)(struct shf_table *)) {
    struct shf_table *t = NULL;
    unsigned long pages = 0;
    char c = 0;
    shf_table_close(whole); /* the parent's */
    FILE *f = fopen("/proc/self/statm", "r");
    REQUIRE(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    struct rlimit limit = {pages * 4096 + (14u << 20), pages * 4096 + (14u << 20)};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE_EQ_INT(shf_table_open(temp_path("reach"), 0, NULL, &t), SHF_OK);
    REQUIRE(t->region.reserved < (16u << 20));
    REQUIRE(write(answers[1], &c, 1) == 1 && read(asks[0], &c, 1) == 1);
    int rc = act(t);
    if (rc < 0) CHECK(strstr(shf_last_error()->message, temp_path("reach")) != NULL);
    shf_table_close(t);
}
/* Forks the one with little address space, lets `fill` make the file longer, then the other act. 0: cannot be here. */
static int play(int (*act)(struct shf_table *), void (*fill)(void)) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    char c;
    if (TEST_SANITIZED) {
        printf("  skipped: sanitizers need the address space\n");
        return 0;
    }
    o.max_bytes = 64 << 20;
    REQUIRE_EQ_INT(shf_table_open(temp_path("reach"), SHF_CREATE, &o, &whole), SHF_OK);
    REQUIRE(pipe(asks) == 0 && pipe(answers) == 0);
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int before = *test_failures;
        limited(act);
        fflush(NULL);
        _exit(*test_failures != before ? 98 : 0);
    }
    close(answers[1]);
    REQUIRE(read(answers[0], &c, 1) == 1);
    fill();
    REQUIRE(write(asks[1], "x", 1) == 1);
    CHECK_EQ_INT(wait_child(pid, 60000), 0);
    close(answers[0]), close(asks[0]), close(asks[1]);
    return 1;
}
static void end(void) {
    shf_table_close(whole);
    whole = NULL;
}
static void fill_all(void) {
    char key[24];
    unsigned char *value = test_alloc(LARGE);
    memset(value, 7, LARGE);
    for (uint64_t i = 0; i < LARGES; i++)
        REQUIRE_EQ_INT(shf_table_put(whole, key, key_of(key, i), value, LARGE, NULL), SHF_OK);
    for (uint64_t i = LARGES; i < SMALLS; i++)
        REQUIRE_EQ_INT(shf_table_put(whole, key, key_of(key, i), value, 100, NULL), SHF_OK);
    free(value);
}

static int act_clear(struct shf_table *t) {
    int rc = shf_table_clear(t);
    CHECK(rc == SHF_OK || rc == SHF_ERR_ADDRESS_SPACE);
    return rc;
}
TEST(a_clear_loses_nothing_that_it_cannot_see) {
    if (!play(act_clear, fill_all)) return;
    REQUIRE_EQ_INT(shf_table_clear(whole), SHF_OK); /* what was left to do */
    CHECK_EQ_INT(table_clean(whole), 0);
    struct shf_table_stats s = table_stats(whole);
    CHECK(s.free_bytes > s.file_bytes / 10 * 9);
    end();
}

/* Every shard is cleared, its grave is full: what a death right after the CLEAR step leaves. */
static void fill_and_bury(void) {
    fill_all();
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) {
        struct shf_shm_shard *s = &whole->shards[i];
        REQUIRE_EQ_INT(shf__table_lock(whole, s), SHF_OK);
        for (uint32_t k = 0; k < 8; k++) shm_store_relaxed32(&s->grave_entries[k], shm_load_relaxed32(&s->entries[k]));
        shm_store_relaxed(&s->new_word, shm_load_relaxed(&s->directory) | SHF_GRAVE_DIRECTORY);
        shm_store_relaxed32(&s->arg0, shm_load_relaxed32(&s->chunks));
        shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
        REQUIRE_EQ_INT(shf__step_run(whole, s, SHF_STEP_CLEAR, NULL), SHF_OK);
        shf__table_unlock(s);
    }
}
static int act_puts(struct shf_table *t) {
    char key[24];
    for (uint64_t i = 0; i < 5000; i++) {
        int rc = shf_table_put(t, key, key_of(key, i), "x", 1, NULL);
        CHECK(rc == SHF_OK || rc == SHF_ERR_ADDRESS_SPACE);
        if (rc < 0) return rc;
    }
    return SHF_OK;
}
TEST(puts_beside_graves_that_cannot_be_seen_lose_nothing) {
    if (!play(act_puts, fill_and_bury)) return;
    CHECK(table_clean(whole) <= 5000);
    REQUIRE_EQ_INT(shf_table_clear(whole), SHF_OK);
    CHECK_EQ_INT(table_clean(whole), 0);
    struct shf_table_stats s = table_stats(whole);
    CHECK(s.free_bytes > s.file_bytes / 10 * 9);
    end();
}

static int act_check(struct shf_table *t) {
    struct shf_table_report r = {.size = sizeof r};
    struct shf_table_stats s = {.size = sizeof s};
    CHECK_EQ_INT(shf_table_stats(t, &s), SHF_ERR_ADDRESS_SPACE);
    int rc = shf_table_check(t, &r);
    CHECK_EQ_INT(rc, SHF_ERR_ADDRESS_SPACE);
    CHECK_EQ_INT(r.problems, 0);
    return rc;
}
TEST(a_check_that_cannot_see_all_is_no_alarm) {
    if (!play(act_check, fill_all)) return;
    CHECK_EQ_INT(table_clean(whole), SMALLS);
    end();
}

static void die_pending(void *unused) {
    struct shf_table *t = NULL;
    uint32_t page, entry;
    int rc;
    (void)unused;
    REQUIRE_EQ_INT(shf_table_open(temp_path("reach"), 0, NULL, &t), SHF_OK);
    while ((rc = shf__pages_pending_begin(&t->pages, 1, 2000, &page, &entry)) == SHF__GROW)
        if (shf__pages_grow(&t->pages, 2000) != SHF_OK) break;
    REQUIRE_EQ_INT(rc, SHF_OK);
    raise(SIGKILL);
}
static void use_a_slot(void *unused) { /* its page of pending entries lies where all can see it */
    struct shf_table *t = NULL;
    unsigned char *value = test_alloc(LARGE);
    (void)unused;
    memset(value, 1, LARGE);
    REQUIRE_EQ_INT(shf_table_open(temp_path("reach"), 0, NULL, &t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "x", 1, value, LARGE, NULL), SHF_OK);
    REQUIRE_EQ_INT(shf_table_del(t, "x", 1), SHF_OK);
    shf_table_close(t);
    free(value);
}
static void fill_and_die(void) {
    CHECK_EQ_INT(run_child(use_a_slot, NULL, 20000), 0);
    fill_all();
    CHECK_EQ_INT(run_child(die_pending, NULL, 20000), CHILD_KILLED(SIGKILL));
}
static int act_sweep(struct shf_table *t) {
    int rc = shf__registry_sweep(&t->registry, 1);
    CHECK_EQ_INT(rc, SHF_ERR_ADDRESS_SPACE);
    return rc;
}
TEST(a_run_of_the_dead_that_cannot_be_seen_is_left_to_others) {
    if (!play(act_sweep, fill_and_die)) return;
    CHECK_EQ_INT(table_clean(whole), SMALLS); /* sweeps */
    uint32_t page = 0, head, pending = 0;
    uint64_t word;
    while (shf__pages_walk(&whole->region, &page, &head, &word) == 1) pending += shf_page_state(word) == SHF_PAGE_PENDING;
    CHECK_EQ_INT(pending, 0);
    end();
}

#define BLOCK 12000u
#define BLOCKS 200u
static int act_put_some(struct shf_table *t) {
    static unsigned char value[BLOCK];
    char key[24];
    int rc = SHF_OK;
    for (uint64_t i = 0; i < BLOCKS && rc == SHF_OK; i++) rc = shf_table_put(t, key, key_of(key, i), value, BLOCK, NULL);
    CHECK_EQ_INT(rc, SHF_OK);
    return rc;
}
/* What is free lies where all can see it, nobody has a hint of it, and the hand stands at a run that crosses the border and
 * ends with the file. */
static void leave_room(void) {
    static unsigned char value[BLOCK];
    unsigned char *much = test_alloc(40 << 20);
    uint32_t page = 0, head;
    uint64_t word;
    char key[24];
    memset(much, 1, 40 << 20);
    for (uint64_t i = 0; i < BLOCKS; i++) REQUIRE_EQ_INT(shf_table_put(whole, key, key_of(key, i), value, BLOCK, NULL), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(whole, "much", 4, much, 40 << 20, NULL), SHF_OK);
    for (uint64_t i = 0; i < BLOCKS; i++) REQUIRE_EQ_INT(shf_table_del(whole, key, key_of(key, i)), SHF_OK);
    struct shf_shm_hints *h = shf__region_at(&whole->region, (uint64_t)SHF_HINTS_PAGE * SHF_PAGE, 2 * SHF_PAGE);
    for (uint32_t i = 0; i < SHF_HINT_CLASSES; i++) atomic_store(&h[i].count, 0);
    while (shf__pages_walk(&whole->region, &page, &head, &word) == 1)
        if (shf_page_length(word) > 10000) atomic_store(&whole->region.header->hand, head);
    free(much);
}
TEST(there_is_room_where_it_can_see) {
    if (!play(act_put_some, leave_room)) return;
    CHECK_EQ_INT(table_clean(whole), BLOCKS + 1);
    end();
}

/* ---- a size that is old ---- */

/* A thread has loaded the size, meets a segment beyond it, and stands still; another thread of the handle looks at the file
 * meanwhile. So the first one's own look moves nothing: it must believe the size, not what the look says. */
TEST(a_look_up_beyond_a_size_that_another_thread_has_moved) {
    struct shf_table *grower = table_create("reach"), *t = table_open("reach", 0);
    size_t old = atomic_load(&t->region.size), known = 0;
    char key[24];
    for (uint64_t i = 0; i < 30000; i++)
        REQUIRE_EQ_INT(shf_table_put(grower, key, key_of(key, i), "value", 5, NULL), SHF_OK);
    CHECK_EQ_INT(atomic_load(&t->region.size), old);
    CHECK_EQ_INT(shf__region_refresh(&t->region), 1); /* the other thread */
    for (uint64_t i = 0; i < 30000; i++) {
        struct shf_found f;
        size_t klen = key_of(key, i);
        uint64_t h = shf__hash(&t->hash, key, klen);
        known += shf__table_find_again(t, &t->shards[shf_hash_shard(h)], h, key, klen, old, &f) == SHF_FOUND;
    }
    CHECK_EQ_INT(known, 30000);
    shf_table_close(t);
    shf_table_close(grower);
}

/* A record of one word, a short key and an empty value, that is the last word of the file. */
TEST(a_record_that_is_the_last_word_of_the_file) {
    static const char value[1200];
    for (uint32_t pages = 60; pages < 100; pages++) { /* until the last page is the chunk that is being filled */
        struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
        struct shf_table *t = NULL;
        uint32_t n = 0;
        o.max_bytes = pages * 4096;
        unlink(temp_path("full"));
        REQUIRE_EQ_INT(shf_table_open(temp_path("full"), SHF_CREATE, &o, &t), SHF_OK);
        struct shf_shm_shard *s = &t->shards[1];
        for (;;) { /* keys of one shard: 500 bytes each; in the last page all the rest but one word, then that word */
            uint64_t end = atomic_load(&s->chunk_end), left = end - atomic_load(&s->head);
            size_t vlen = end < o.max_bytes || left > 1100 ? 500 : left > 8 ? (size_t)left - 16 : 0;
            if (end == o.max_bytes && left == 0) break;
            while (shf_hash_shard(shf__hash(&t->hash, &(uint32_t){++n}, 4)) != 1) {}
            if (shf_table_put(t, &n, 4, value, vlen, NULL) != SHF_OK) break;
        }
        int last = atomic_load(&s->chunk_end) == o.max_bytes && atomic_load(&s->head) == o.max_bytes;
        if (last) {
            CHECK_EQ_INT(atomic_load(&t->region.size), o.max_bytes);
            CHECK_EQ_INT(shf_table_contains(t, &n, 4), SHF_OK);
            CHECK(table_clean(t) > 0);
            CHECK_EQ_INT(shf_table_del(t, &n, 4), SHF_OK);
        }
        shf_table_close(t);
        if (last) return;
    }
    FAIL("no file ends in a chunk that is full");
}

/* It walks over segments that others have made and emptied: many more than its file had pages when it last looked. */
TEST(a_walk_over_empty_segments_that_it_has_not_seen_before) {
    enum { MANY = 1500000 };
    if (TEST_SANITIZED) return; /* too slow; nothing here is about memory */
    struct shf_table *t = table_create_fixed("reach", 4, 4, 0), *grower = table_open("reach", 0);
    uint64_t position = 0;
    size_t n;
    char key[4], value[4];
    for (uint32_t i = 0; i < MANY; i++) REQUIRE_EQ_INT(shf_table_put(grower, &i, 4, &i, 4, NULL), SHF_OK);
    for (uint32_t i = 0; i < MANY; i++) REQUIRE_EQ_INT(shf_table_del(grower, &i, 4), SHF_OK);
    CHECK_EQ_INT(shf_table_next(t, &position, key, 4, &n, value, 4, &n, NULL), SHF_NOT_FOUND);
    shf_table_close(grower);
    shf_table_close(t);
}

int main(int argc, char **argv) { return run(argc, argv); }
