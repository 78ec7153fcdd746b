/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_limits_table.c - resource limits that are reached in the middle: every public call under each, and after it
 *
 * RLIMIT_FSIZE, RLIMIT_AS and RLIMIT_NOFILE are set (the soft one) while the table is open. Each call then works or
 * gives the error of that limit, and no signal; what failed has changed nothing; when the limit is raised all of it
 * works.
 */
#include "os.h"
#include "table.h"

#include "test.h"

#include <malloc.h>
#include <sys/resource.h>

static int limited; /* the RLIMIT_ in work */
static uint64_t set_soft(uint64_t bytes) {
    struct rlimit limit;
    REQUIRE(getrlimit((unsigned)limited, &limit) == 0);
    uint64_t was = limit.rlim_cur;
    limit.rlim_cur = bytes;
    REQUIRE(setrlimit((unsigned)limited, &limit) == 0);
    return was;
}
static uint64_t none(void) {
    struct rlimit limit;
    REQUIRE(getrlimit((unsigned)limited, &limit) == 0);
    return limit.rlim_max;
}
static uint64_t quiet(void) { return set_soft(none()); }
static void loud(uint64_t was) { set_soft(was); }

#include "acts.h"

#ifdef SHF_SMALL
#define SMALL 1 /* an index with room for few keys */
#else
#define SMALL 0
#endif

static struct { uint64_t calls, errors; } * total;

/* The lowest number that is free: from this limit on something can be opened. */
static uint64_t first_free(void) {
    int fd = dup(0);
    REQUIRE(fd >= 0);
    close(fd);
    return (uint64_t)fd;
}

/* All acts, under a limit that is there already. `code` is the limit's error, `part` of its message. */
static void under(struct run *r, int code, const char *part, uint64_t soft, int more_than) {
    int errors = 0;
    for (size_t i = 0; i < ACTS && *test_failures == 0; i++) {
        set_soft(soft);
        int rc = acts[i].act(r);
        quiet();
        total->calls++;
        CHECK(rc >= 0 || rc == code || rc == SHF_ERR_EXISTS || rc == SHF_ERR_NOT_FOUND || rc == SHF_ERR_UNSUPPORTED ||
              (SMALL && rc == SHF_ERR_FULL));
        if (rc == code) {
            errors++, total->errors++;
            if (!strstr(shf_last_error()->message, part) && shf_last_error()->os_error != EMFILE)
                FAIL("the message says not '%s': %s", part, shf_last_error()->message);
        }
        /* what was there before, for the next one */
        CHECK(change(r, r->key, 100, 1) == SHF_OK && change(r, 0, 100, 1) == SHF_OK);
        for (uint32_t k = 0; k < KEYS && *test_failures == 0; k++) {
            KEY_OF(k);
            if (model_get(&r->m, key, klen) == NULL) CHECK_EQ_INT(change(r, k, k == COUNTER ? 8 : 100, 1), SHF_OK);
        }
        KEY_OF(r->fresh);
        if (model_del(&r->m, key, klen)) CHECK_EQ_INT(shf_table_del(r->t, key, klen), SHF_OK);
        for (size_t j = 0; j < r->m.count; j++) r->m.entries[j]->uid = 0;
        note_uids(r);
        if (*test_failures) FAIL("... %.40s: %d, %s", acts[i].functions, rc, shf_last_error()->message);
    }
    CHECK(errors >= more_than);
}

/* ---- RLIMIT_FSIZE: SIGXFSZ would end the child ---- */

static void file_size(void *arg) {
    struct run r = {.fixed = arg != NULL, .in = TIGHT};
    struct stat st;
    char text[40];
    limited = RLIMIT_FSIZE;
    make_table(&r, temp_path("fsize"));
    REQUIRE(stat(path, &st) == 0);
    uint64_t now = (uint64_t)st.st_size;
    /* Nothing may grow; then a small, odd rest; then not even a new file fits. */
    static const int64_t rests[] = {0, 100001, -1};
    for (size_t i = 0; i < 3; i++) {
        uint64_t soft = rests[i] < 0 ? 4096 : now + (uint64_t)rests[i];
        snprintf(text, sizeof text, "RLIMIT_FSIZE");
        int rc = SHF_OK;
        set_soft(soft);
        for (uint32_t k = 2000; rc == SHF_OK && k < 200000; k++) rc = change(&r, k, 1000, 1);
        int full = SMALL && rc == SHF_ERR_FULL;
        CHECK(full || (rc == SHF_ERR_NO_SPACE && strstr(shf_last_error()->message, text) != NULL));
        quiet();
        note_uids(&r);
        under(&r, SHF_ERR_NO_SPACE, text, soft, i == 2 && !full ? 3 : 0);
        if (!full) CHECK_EQ_INT(change(&r, 7000, 100000, 1), SHF_OK);
        REQUIRE(stat(path, &st) == 0);
        now = (uint64_t)st.st_size;
        CHECK_EQ_INT(shf_table_clear(r.t), SHF_OK);
        shf_table_close(r.t);
        model_free(&r.m);
        make_table(&r, temp_path(i % 2 ? "fsize" : "again"));
        REQUIRE(stat(path, &st) == 0);
        now = (uint64_t)st.st_size;
    }
    model_compare(&r.m, r.t);
    shf_table_close(r.t);
    model_free(&r.m);
}
TEST(file_size_reached) {
    CHECK_EQ_INT(run_child(file_size, NULL, 60000), 0);
    CHECK_EQ_INT(run_child(file_size, "fixed", 60000), 0);
}

/* ---- RLIMIT_NOFILE ---- */

static void descriptors(void *arg) {
    struct run r = {.fixed = arg != NULL, .in = PLAIN};
    limited = RLIMIT_NOFILE;
    make_table(&r, temp_path("nofile"));
    for (int more = 0; more < 5; more++) {
        uint64_t number = first_free();
        under(&r, SHF_ERR_IO, "too many open files", number + (uint64_t)more, more == 0 ? 6 : 0);
        CHECK_EQ_INT(first_free(), number);
    }
    shf_table_close(r.t);
    model_free(&r.m);
}
/* A child that has no descriptor left cannot register; when it has, it can. */
static void child_without_descriptors(void *arg) {
    struct run *r = arg;
    set_soft(first_free());
    for (int i = 0; i < 3; i++) {
        CHECK_EQ_INT(change(r, 500, 100, 1), SHF_ERR_FORKED);
        CHECK_EQ_INT(change(r, 500, 100000, 1), SHF_ERR_FORKED);
        CHECK_EQ_INT(shf_last_error()->os_error, EMFILE);
        CHECK(act_get(r) >= 0); /* reads need no life */
    }
    quiet();
    CHECK_EQ_INT(change(r, 500, 100, 1), SHF_OK);
    CHECK_EQ_INT(change(r, 501, 100000, 1), SHF_OK);
    model_compare(&r->m, r->t);
}
static void forked_descriptors(void *arg) {
    struct run r = {.fixed = arg != NULL, .in = PLAIN};
    limited = RLIMIT_NOFILE;
    make_table(&r, temp_path("forked"));
    CHECK_EQ_INT(run_child(child_without_descriptors, &r, 20000), 0);
    CHECK_EQ_INT(table_clean(r.t), KEYS + 2);
    shf_table_close(r.t);
    model_free(&r.m);
}
TEST(descriptors_used_up) {
    CHECK_EQ_INT(run_child(descriptors, NULL, 60000), 0);
    CHECK_EQ_INT(run_child(descriptors, "fixed", 60000), 0);
    CHECK_EQ_INT(run_child(forked_descriptors, NULL, 60000), 0);
    CHECK_EQ_INT(run_child(forked_descriptors, "fixed", 60000), 0);
}

/* ---- RLIMIT_AS ---- */

static uint64_t address_space(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    REQUIRE(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    return (uint64_t)pages * 4096;
}
static void no_address_space(void *arg) {
    struct run r = {.fixed = arg != NULL, .in = TIGHT};
    limited = RLIMIT_AS;
    REQUIRE(mallopt(M_MMAP_THRESHOLD, 64 << 20) == 1 && mallopt(M_TRIM_THRESHOLD, 256 << 20) == 1);
    free(test_alloc(32 << 20)); /* for the model */
    make_table(&r, temp_path("as"));
    model_compare(&r.m, r.t);
    for (int more = 0; more < 3; more++)
        under(&r, SHF_ERR_ADDRESS_SPACE, "address space", address_space() + (uint64_t)more * (256 << 10), more ? 0 : 3);
    /* A handle that could map only part of what the file may become: it says so when it needs more, and nothing is
     * "damaged". */
    struct shf_table *whole = r.t, *part = NULL;
    struct stat st;
    REQUIRE(stat(path, &st) == 0);
    set_soft(address_space() + (uint64_t)st.st_size + (r.fixed ? 1 << 20 : 6 << 20));
    int rc = shf_table_open(path, 0, &quick, &part);
    quiet();
    REQUIRE_EQ_INT(rc, SHF_OK);
    int errors = 0, reads = 0;
    for (uint32_t k = 3000; k < (r.fixed ? 1000000 : 60000); k++) {
        r.t = k % 2 ? part : whole;
        rc = change(&r, k, 20000, 1);
        if (SMALL && rc == SHF_ERR_FULL) break;
        if (rc != SHF_OK) {
            CHECK_EQ_INT(rc, SHF_ERR_ADDRESS_SPACE);
            CHECK(strstr(shf_last_error()->message, "RLIMIT_AS") != NULL && r.t == part);
            if (errors++ > 20) break;
        }
    }
    CHECK(errors > 0 || rc == SHF_ERR_FULL);
    for (size_t i = 0; i < r.m.count; i++) {
        size_t n = 0;
        const struct model_entry *e = r.m.entries[i];
        int got = shf_table_get(part, e->key, e->klen, out, sizeof out, &n);
        CHECK(got == SHF_ERR_ADDRESS_SPACE || (got == SHF_OK && n == e->vlen && memcmp(out, e->val, n) == 0));
        reads += got != SHF_OK;
    }
    CHECK(reads > 0 || rc == SHF_ERR_FULL);
    shf_table_close(part);
    REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &part), SHF_OK);
    for (size_t i = 0; i < r.m.count; i++) r.m.entries[i]->uid = 0;
    model_compare(&r.m, part);
    r.t = part;
    int last = change(&r, 70000, 50000, 1);
    CHECK(last == SHF_OK || (last == SHF_ERR_FULL && rc == SHF_ERR_FULL));
    shf_table_close(part);
    shf_table_close(whole);
    model_free(&r.m);
}
TEST(address_space_used_up) {
    if (TEST_SANITIZED) return; /* a sanitizer takes more than any limit */
    CHECK_EQ_INT(run_child(no_address_space, NULL, 60000), 0);
    CHECK_EQ_INT(run_child(no_address_space, "fixed", 60000), 0);
}

TEST(summary) {
    printf("# total: %llu calls under RLIMIT_FSIZE, _NOFILE and _AS, %llu of them with its error; 0 signals, 0 changes "
           "by an error\n",
           (unsigned long long)total->calls, (unsigned long long)total->errors);
}

int main(int argc, char **argv) {
    total = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return total == MAP_FAILED ? 2 : run(argc, argv);
}
