/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_table.c - dies at every store of every operation, and again at the stores of the recovery
 *
 * The machinery, and what a scenario is: crash_model.h.
 *
 * BUILD       SHF_CRASH_POINTS; with and without SHF_SMALL. Uses the engine's own headers for the hash bits.
 */
#ifdef SHF_SMALL
#define CRASH_SINGLES 1200 /* a large value has thousands of stores that are all alike */
#else
#define CRASH_SINGLES 400 /* a clear of 256 shards has 12,000 stores */
#endif
#define CRASH_PAIRS 80
#define CRASH_SHARE 1
#include "crash_model.h"

/* ---- the scenarios ---- */
#define SCENARIO(name)                                                                                                 \
    static void build_##name(void);                                                                                    \
    TEST(name) {                                                                                                       \
        begin();                                                                                                       \
        build_##name();                                                                                                \
        play();                                                                                                        \
    }                                                                                                                  \
    static void build_##name(void)
/* One key is there with value `old`, and one step is done to it. */
static int one(struct val old) {
    some_keys(12);
    int key = target_key();
    if (old.len >= 0) prep(PUT, key, old);
    return key;
}

SCENARIO(put_new) { step(PUT, one(absent), sized(20, 1)); }
SCENARIO(put_new_8_bytes) { step(PUT, one(absent), sized(8, 1)); }
SCENARIO(put_replace_same_size) { step(PUT, one(sized(24, 1)), sized(24, 2)); }
SCENARIO(put_replace_longer) { step(PUT, one(sized(24, 1)), sized(150, 2)); }
SCENARIO(put_replace_shorter) { step(PUT, one(sized(150, 1)), sized(3, 2)); }
SCENARIO(put_8_over_8) { step(PUT, one(sized(8, 1)), sized(8, 2)); }
SCENARIO(put_9_over_8) { step(PUT, one(sized(8, 1)), sized(9, 2)); }
SCENARIO(put_alone) {
    step(PUT, one(absent), sized(20, 1));
    S.alone = 1;
}
SCENARIO(put_into_second_bucket) {
    for (int i = 0; i < 7; i++) prep(PUT, new_key(TARGET, 9, -1, 0), sized(10, (uint64_t)i));
    step(PUT, new_key(TARGET, 9, -1, 0), sized(10, 99));
}
SCENARIO(put_stashed) { /* both buckets full of one delta, in a segment that is not half full */
    for (int i = 0; i < 20; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(10, (uint64_t)i));
    S.event = STASH;
}
SCENARIO(put_stashed_again_and_remove) {
    for (int i = 0; i < 20; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(10, (uint64_t)i));
    step(PUT, 18, sized(30, 5));
    step(DEL, 19, absent);
    step(DEL, 0, absent);
    step(DEL, 18, absent);
}
SCENARIO(put_large_new) { step(PUT, one(absent), sized(LARGE, 1)); }
SCENARIO(put_large_over_small) { step(PUT, one(sized(24, 1)), sized(LARGE, 2)); }
SCENARIO(put_small_over_large) { step(PUT, one(sized(LARGE, 1)), sized(24, 2)); }
SCENARIO(put_large_over_large) { step(PUT, one(sized(LARGE, 1)), sized(LARGE + 4096, 2)); }
SCENARIO(put_large_alone) {
    step(PUT, one(sized(LARGE, 1)), sized(LARGE, 2));
    S.alone = 1;
}
SCENARIO(second_large_put) { /* the slot's pending page is there already */
    int key = one(absent);
    step(PUT, key, sized(LARGE, 1));
    step(PUT, target_key(), sized(LARGE, 2));
}
SCENARIO(insert_new) { step(INSERT, one(absent), sized(20, 1)); }
SCENARIO(replace_small) { step(REPLACE, one(sized(20, 1)), sized(21, 2)); }
SCENARIO(replace_large) { step(REPLACE, one(sized(LARGE, 1)), sized(LARGE, 2)); }
SCENARIO(remove_small) { step(DEL, one(sized(20, 1)), absent); }
SCENARIO(remove_large) { step(DEL, one(sized(LARGE, 1)), absent); }
SCENARIO(take_small) { step(TAKE, one(sized(20, 1)), absent); }
SCENARIO(take_large) { step(TAKE, one(sized(LARGE, 1)), absent); }
SCENARIO(remove_if_equal) { step(DEL_IF_EQUAL, one(sized(20, 1)), absent)->expected = sized(20, 1); }
SCENARIO(remove_large_if_equal) { step(DEL_IF_EQUAL, one(sized(LARGE, 1)), absent)->expected = sized(LARGE, 1); }
SCENARIO(add_new) { step(ADD, one(absent), raw(5)); }
SCENARIO(add_existing) {
    int key = one(raw(7));
    for (int i = 0; i < 5; i++) step(ADD, key, raw(5)); /* exactly once each */
}
SCENARIO(cas_create) { step(CAS, one(absent), sized(20, 1)); }
SCENARIO(cas_replace) { step(CAS, one(sized(20, 1)), sized(30, 2))->expected = sized(20, 1); }
SCENARIO(cas_replace_8) { step(CAS, one(sized(8, 1)), sized(8, 2))->expected = sized(8, 1); }
SCENARIO(cas_replace_large) { step(CAS, one(sized(LARGE, 1)), sized(LARGE, 2))->expected = sized(LARGE, 1); }
SCENARIO(cas_remove) { step(CAS, one(sized(20, 1)), absent)->expected = sized(20, 1); }
SCENARIO(update_existing) { step(UPDATE, one(sized(20, 1)), sized(30, 2)); }
SCENARIO(update_create) { step(UPDATE, one(absent), sized(30, 2)); }
SCENARIO(update_remove) { step(UPDATE, one(sized(20, 1)), absent); }
SCENARIO(put_by_uid) { step(PUT_UID, one(sized(20, 1)), sized(30, 2)); }
SCENARIO(put_by_uid_large) { step(PUT_UID, one(sized(20, 1)), sized(LARGE, 2)); }
SCENARIO(remove_by_uid) { step(DEL_UID, one(sized(20, 1)), absent); }
SCENARIO(remove_by_uid_large) { step(DEL_UID, one(sized(LARGE, 1)), absent); }
SCENARIO(first_key) { step(PUT, target_key(), sized(20, 1)); } /* first segment, first chunk */
SCENARIO(first_key_large) { step(PUT, target_key(), sized(LARGE, 1)); }
SCENARIO(split) {
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(4, (uint64_t)i));
    S.event = SPLIT;
}
SCENARIO(split_with_stash_and_more) {
    for (int i = 0; i < 20; i++) prep(PUT, new_key(TARGET, 9, 5, 0), sized(10, (uint64_t)i));
    for (int i = 0; i < 600; i++) prep(PUT, target_key(), sized(8, (uint64_t)i));
    S.event = SPLIT;
    step(PUT, target_key(), sized(4, 1));
    S.touch = -1;
}
#ifdef SHF_SMALL
#define SAME_TOP UINT32_C(0x6000) /* two of three bits */
#else
#define SAME_TOP UINT32_C(0x7c00) /* five */
#endif
SCENARIO(doubling) {
    for (int i = 0; i < 900; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(4, (uint64_t)i));
    S.event = DOUBLE;
}
SCENARIO(doubling_again) {
    for (int i = 0; i < 1100; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(4, (uint64_t)i));
    S.event = DOUBLE, S.nth = 2;
}
SCENARIO(new_chunk) {
    for (int i = 0; i < 200; i++) prep(PUT, target_key(), sized(100, (uint64_t)i));
    S.event = CHUNK, S.from = 2;
}
static void churn(size_t vlen) { /* garbage of all ages in one shard */
    uint64_t s = test_seed;
    for (int i = 0; i < 60; i++) prep(PUT, target_key(), sized((int64_t)vlen, (uint64_t)i));
    for (int i = 0; i < 2500; i++)
        prep(PUT, (int)(test_next(&s) % 60), sized((int64_t)(vlen - test_next(&s) % 50), 100 + (uint64_t)i));
}
SCENARIO(cleaner_moves) {
    churn(150);
    S.event = MOVE, S.nth = 3;
}
SCENARIO(cleaner_moves_a_lot) {
    churn(150);
    S.event = MOVE, S.nth = 20;
}
SCENARIO(cleaner_frees_a_chunk) {
    churn(150);
    S.event = UNCHUNK;
}
SCENARIO(cleaner_frees_another_chunk) {
    churn(120);
    S.event = UNCHUNK, S.nth = 5;
}
SCENARIO(cleaner_frees_in_removes) {
    churn(150);
    S.preps = 700;
    for (int i = 0; i < 60; i += 2) prep(DEL, i, absent);
    for (int i = 0; i < 60; i++) prep(PUT, i, sized(140, (uint64_t)i));
    S.event = UNCHUNK, S.from = 700;
}
SCENARIO(growth) {
    for (int i = 0; i < 1000; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(3000, (uint64_t)i));
    S.event = GROW;
}
SCENARIO(growth_for_a_large_value) {
    for (int i = 0; i < 40; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(60000, (uint64_t)i));
    S.event = GROW, S.nth = 3;
}
static void fill_for_clear(void) {
    for (int i = 0; i < 500; i++) prep(PUT, target_key(), sized(i % 3 ? 20 : 200, (uint64_t)i));
    for (int i = 0; i < 5; i++) prep(PUT, target_key(), sized(LARGE, (uint64_t)i));
    for (int i = 0; i < 40; i++) prep(PUT, new_key(-1, -1, -1, 0), sized(20, (uint64_t)i));
}
SCENARIO(clear) {
    fill_for_clear();
    step(CLEAR, 0, absent);
}
SCENARIO(clear_and_puts) { /* puts carry on with the grave; a second clear empties it first */
    fill_for_clear();
    step(CLEAR, 0, absent);
    for (int i = 1; i < 4; i++) step(PUT, i, sized(20, 9));
    step(CLEAR, 0, absent);
    step(PUT, 3, sized(20, 9));
}
SCENARIO(clear_many_chunks) { /* more than one portion of a grave */
    for (int i = 0; i < 1000; i++) prep(PUT, target_key(), sized(900, (uint64_t)i));
    step(CLEAR, 0, absent);
}
SCENARIO(remove_and_tidy_flags) { /* every 256th remove of a shard computes the flags of a segment anew */
    for (int i = 0; i < 20; i++) prep(PUT, new_key(TARGET, 9, i % 2 ? 5 : 40, 0), sized(4, (uint64_t)i));
    int other = target_key();
    for (int i = 0; i < 246; i++) prep(PUT, other, sized(4, (uint64_t)i)), prep(DEL, other, absent);
    for (int i = 1; i < 20; i += 2) step(DEL, i, absent);
    step(PUT, 3, sized(4, 2));
}
SCENARIO(remove_with_full_hints) { /* more free runs of one length than the allocator keeps in mind */
    for (int i = 0; i < 75; i++) prep(PUT, target_key(), sized(LARGE, (uint64_t)i));
    for (int i = 0; i < 70; i++) prep(DEL, i, absent);
    for (int i = 70; i < 73; i++) step(DEL, i, absent);
}
SCENARIO(clear_deep) {
    for (int i = 0; i < 900; i++) prep(PUT, new_key(TARGET, -1, -1, SAME_TOP), sized(4, (uint64_t)i));
    step(CLEAR, 0, absent);
}
SCENARIO(open_beside_others) {
    step(NOTHING, one(sized(20, 1)), absent);
    S.arm_open = 1;
}
SCENARIO(open_alone) {
    step(NOTHING, one(sized(20, 1)), absent);
    S.arm_open = S.alone = 1;
}
SCENARIO(close_beside_others) {
    step(PUT, one(sized(20, 1)), sized(30, 2));
    S.arm_close = 1;
}
SCENARIO(close_alone) {
    step(PUT, one(sized(20, 1)), sized(30, 2));
    S.arm_open = S.arm_close = S.alone = 1;
}
SCENARIO(many_operations) {
    some_keys(6);
    for (int i = 0; i < 6; i++) {
        step(PUT, i, sized(8 + i, 50));
        step(DEL, (i + 3) % 6, absent);
        step(PUT, target_key(), sized(60, 7));
        step(ADD, target_key(), raw(9));
    }
}

/* ---- the creator dies ---- */
struct creator {
    const char *path;
    uint64_t k;
};
static void create_child(void *arg) {
    struct creator *c = arg;
    struct shf_table *t = NULL;
    sites_role = FIRST;
    shf__crash_at = shf__crash_count + c->k;
    int rc = shf_table_open(c->path, SHF_CREATE, NULL, &t);
    if (rc != SHF_OK) FAIL("create: %d, %s", rc, shf_last_error()->message);
    shared->acked = 1;
    rc = shf_table_put(t, "k", 1, "v", 1, NULL);
    if (rc != SHF_OK) FAIL("put: %d", rc);
    shared->acked = 2;
    shf_table_close(t);
    _exit(0);
}
TEST(create) {
    char path[192];
    make_base();
    uint64_t k = 1, there = 0;
    for (int rc = 1; rc != 0 && *test_failures == 0; k++) {
        snprintf(path, sizeof path, "%s", temp_path("c"));
        unlink(path);
        struct creator c = {path, k};
        struct shf_table *t = NULL;
        shared->acked = 0;
        rc = run_child(create_child, &c, 20000);
        if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
        killed += rc != 0;
        int got = shf_table_open(path, 0, NULL, &t); /* nobody sees half of it */
        CHECK(got == SHF_OK || (got == SHF_ERR_NOT_FOUND && shared->acked == 0));
        there += got == SHF_OK;
        if (got == SHF_OK) {
            if (shared->acked == 2) CHECK(table_has(t, "k", 1, "v", 1));
            table_clean(t);
            shf_table_close(t);
        }
        got = shf_table_open(path, SHF_CREATE, NULL, &t);
        CHECK_EQ_INT(got, SHF_OK);
        if (got != SHF_OK) break;
        CHECK_EQ_INT(shf_table_put(t, "k", 1, "w", 1, NULL), SHF_OK);
        CHECK_EQ_INT(table_clean(t), 1);
        shf_table_close(t);
        if (*test_failures) FAIL("... at store %llu", (unsigned long long)k);
    }
    int left = -2;
    DIR *d = opendir(test_dir);
    while (d && readdir(d)) left++;
    if (d) closedir(d);
    CHECK(left <= 2); /* base, c: no private names, for O_TMPFILE has none */
    printf("# create: %llu stores, the file was there after %llu deaths\n", (unsigned long long)k - 2,
           (unsigned long long)there);
}

TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
