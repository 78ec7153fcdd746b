/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * processes_fixture.h - what the tests of a table and the processes around it share
 *
 * HOLDERS    stand in the middle of an operation: they have a shard's lock (shf__table_lock) and never come back by
 *            themselves. Deaths and stops at each store of real operations are the crash_* programs'.
 * HANDLES    `hasty` gives up after 40 ms: it must get TIMEOUT where somebody lives. `patient` waits 20 s: it must get
 *            through where somebody is dead. Nothing asserts a time but these two.
 * ROLES      Some children are the program again, after exec: "--role NAME ARGUMENTS".
 */
#ifndef SHF_PROCESSES_FIXTURE_H
#define SHF_PROCESSES_FIXTURE_H

#include "model.h"
#include "registry_fixture.h"
#include "table.h"

#define BYTE_R (UINT64_C(1) << 62) /* registry.c, LAYOUT */

static struct { uint64_t killed, refused, taken_over, opened, cancelled; } total;

TEST_FN struct shf_table *open_for(const char *path, uint32_t ms) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.lock_timeout_ms = ms;
    int rc = shf_table_open(path, 0, &o, &t);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    return t;
}
/* The nth key of a shard: "k" and a number. */
TEST_FN size_t key_in(const struct shf_table *t, uint32_t shard, unsigned nth, char *key) {
    for (uint64_t i = 0;; i++) {
        size_t n = key_of(key, i);
        if (shf_hash_shard(shf__hash(&t->hash, key, n)) == shard && nth-- == 0) return n;
    }
}
TEST_FN int put_in(struct shf_table *t, uint32_t shard, unsigned nth) {
    char key[24], val[40];
    size_t n = key_in(t, shard, nth, key);
    value_fill(val, sizeof val, key, n, nth);
    return shf_table_put(t, key, n, val, sizeof val, NULL);
}
TEST_FN int has_in(struct shf_table *t, uint32_t shard, unsigned nth) {
    char key[24], val[40];
    size_t n = key_in(t, shard, nth, key);
    value_fill(val, sizeof val, key, n, nth);
    return table_has(t, key, n, val, sizeof val);
}
TEST_FN void hold(struct shf_table *t, uint32_t shard) {
    int rc = shf__table_lock(t, &t->shards[shard]);
    if (rc != SHF_OK) FAIL("hold: %d, %s", rc, shf_last_error()->message), test_stop();
}
TEST_FN void let_go(struct shf_table *t, uint32_t shard) { shf__table_unlock(&t->shards[shard]); }
TEST_FN void end(pid_t pid, int signal) {
    int status;
    kill(pid, signal);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    total.killed++;
}
TEST_FN void for_ever(void) {
    for (;;) pause();
}
TEST_FN void must(int rc, int expected, const char *what) {
    if (rc != expected) FAIL("%s: %d, not %d; %s", what, rc, expected, rc < 0 ? shf_last_error()->message : "");
    total.refused += expected == SHF_ERR_TIMEOUT;
}
#define MUST(call, expected) must((call), (expected), #call)

static struct shf_table *hasty, *patient;
static char path[192] __attribute__((unused));
TEST_FN void begin(void) {
    struct shf_table *t = table_create("a");
    shf_table_close(t);
    snprintf(path, sizeof path, "%s", temp_path("a"));
    hasty = open_for(path, 40), patient = open_for(path, 20000);
    MUST(put_in(patient, 0, 0), SHF_OK);
    MUST(put_in(patient, 1, 0), SHF_OK);
}
TEST_FN void finish(uint64_t keys) {
    total.taken_over += table_stats(patient).recoveries;
    CHECK_EQ_INT(table_stats(patient).handles, 2);
    CHECK_EQ_INT(table_clean(patient), keys);
    CHECK(has_in(patient, 0, 0) && has_in(patient, 1, 0));
    shf_table_close(hasty);
    shf_table_close(patient);
    CHECK_EQ_INT(shf_unlink(path), SHF_OK);
}

struct role {
    const char *name;
    int (*fn)(char **arguments);
};
/* -1: no role was asked for. */
TEST_FN int play_role(int argc, char **argv, const struct role *roles, size_t n) {
    static int failures;
    if (argc < 3 || strcmp(argv[1], "--role") != 0) return -1;
    test_failures = &failures;
    for (size_t i = 0; i < n; i++)
        if (strcmp(argv[2], roles[i].name) == 0) return roles[i].fn(argv + 3);
    return 100;
}

#endif
