/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_table.c - every system call fails in turn: error codes, nothing lost, nothing leaked, still usable
 *
 * Built with SHF_FAULTS: os.c asks shf__os_fault() before each call that can fail. For every scenario and k = 1, 2, ...
 * the k-th call fails with an errno that is typical for it (k alone, and k with all that follow), until none is
 * reached any more. Descriptors and mappings are counted around it.
 */
#include "model.h"

#include <fcntl.h>

int shf__os_fault(const char *call);

static uint64_t fault_at, fault_calls, fault_hits;
static int fault_all, fault_variant;
static char fault_name[64];

static int errno_of(const char *call) {
    static const struct {
        const char *part;
        int number[3];
    } typical[] = {
        {"fallocate", {ENOSPC, EDQUOT, EINTR}}, {"ftruncate", {ENOSPC, EFBIG, EIO}}, {"unmap", {0, 0, 0}},
        {"map", {ENOMEM, EAGAIN, ENODEV}},      {"open_fd", {ENOENT, EMFILE, EACCES}}, {"open", {EMFILE, EACCES, ENOENT}},
        {"tmpfile", {EOPNOTSUPP, ENOSPC, EMFILE}}, {"link", {EEXIST, ENOENT, EPERM}}, {"rename", {EEXIST, EINVAL, EIO}},
        {"memfd", {EMFILE, ENOMEM, EINVAL}},    {"dup", {EMFILE, EINVAL, EMFILE}},   {"ofd", {EAGAIN, EINVAL, ENOLCK}},
        {"futex", {EAGAIN, EINVAL, ETIMEDOUT}}, {"random", {EAGAIN, ENOSYS, EIO}},   {"seal", {EPERM, EINVAL, EBUSY}},
        {"stat", {ENOENT, EACCES, EIO}},
    };
    for (size_t i = 0; i < sizeof typical / sizeof *typical; i++)
        if (strstr(call, typical[i].part)) return typical[i].number[fault_variant];
    return EIO;
}
int shf__os_fault(const char *call) {
    if (!fault_at || strstr(call, "close")) return 0;
    uint64_t n = ++fault_calls;
    /* registry.c closes a descriptor only when fstat says that it still is its own: without fstat it must leak */
    if (fault_all && n > fault_at && strcmp(call, "os_fstat") == 0) return 0;
    if (n != fault_at && !(fault_all && n > fault_at)) return 0;
    int e = errno_of(call);
    if (n == fault_at) snprintf(fault_name, sizeof fault_name, "%s", call);
    if (e) fault_hits++;
    return e;
}

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
static int mappings(void) {
    static char line[4096];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) n += strstr(line, test_dir) != NULL || strstr(line, "memfd:") != NULL;
    if (f) fclose(f);
    return n;
}

/* A scenario: `act` runs with faults, gets an open handle (NULL for those that open one). Returns its code. */
struct scenario {
    int prepared; /* keys put before */
    int (*act)(struct shf_table *t);
};
static const struct shf_table_options quick = {.size = sizeof quick, .lock_timeout_ms = 4}; /* locks fail too */
static unsigned char big[200000], out[200000];
static size_t n_;
static int legal(int rc) { return rc >= SHF_ERR_NO_MEMORY && rc <= SHF_STOPPED; }

static void play(const char *what, int keys, int (*act)(struct shf_table *)) {
    uint64_t calls = 0, errors = 0;
    for (fault_variant = 0; fault_variant < 3; fault_variant++)
        for (fault_all = 0; fault_all < 2; fault_all++)
            for (uint64_t k = 1; *test_failures == 0; k++) {
                char key[24];
                struct shf_table *t = NULL;
                unlink(temp_path("a"));
                int files = open_files(), maps = mappings();
                REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &quick, &t), SHF_OK);
                for (int i = 0; i < keys; i++) {
                    size_t klen = key_of(key, (uint64_t)i), vlen = i % 40 == 0 ? 9000 : 100;
                    value_fill(big, vlen, key, klen, 1);
                    REQUIRE_EQ_INT(shf_table_put(t, key, klen, big, vlen, NULL), SHF_OK);
                }
                fault_calls = fault_hits = 0, fault_name[0] = 0, fault_at = k;
                int rc = act(t);
                fault_at = 0;
                CHECK(legal(rc));
                if (rc < 0) {
                    errors++;
                    CHECK_EQ_INT(shf_last_error()->code, rc);
                    CHECK(shf_last_error()->message[0] != 0);
                }
                if (fault_hits == 0 && fault_calls < k) CHECK(rc >= 0);
                /* all that was there is there, and the table works */
                for (int i = 0; i < keys; i++) {
                    size_t klen = key_of(key, (uint64_t)i);
                    int got = shf_table_get(t, key, klen, out, sizeof out, &n_);
                    if (got == SHF_NOT_FOUND && act != NULL && shf_table_contains(t, "cleared", 7) == SHF_OK) break;
                    CHECK_EQ_INT(got, SHF_OK);
                    CHECK(value_check(out, n_, key, klen, NULL));
                }
                CHECK_EQ_INT(shf_table_put(t, "after", 5, "works", 5, NULL), SHF_OK);
                CHECK(table_has(t, "after", 5, "works", 5));
                CHECK_EQ_INT(shf_table_put(t, "after", 5, big, 150000, NULL), SHF_OK);
                table_clean(t);
                struct shf_table *u = NULL;
                CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &quick, &u), SHF_OK);
                if (u) CHECK(table_has(u, "after", 5, big, 150000));
                shf_table_close(u);
                shf_table_close(t);
                if (strcmp(fault_name, "os_fstat") != 0) CHECK_EQ_INT(open_files(), files);
                CHECK_EQ_INT(mappings(), maps);
                calls++;
                if (*test_failures)
                    FAIL("... %s with %s, call %llu (%s) failing%s, variant %d: %d", what, "faults", (unsigned long long)k,
                         fault_name, fault_all ? " with all that follow" : "", fault_variant, rc);
                if (fault_calls < k) break;
            }
    printf("# %s: %llu runs, %llu of them with an error\n", what, (unsigned long long)calls, (unsigned long long)errors);
}

static int act_create(struct shf_table *t) {
    struct shf_table *c = NULL;
    (void)t;
    unlink(temp_path("new"));
    int rc = shf_table_open(temp_path("new"), SHF_CREATE | SHF_EXCL, &quick, &c);
    CHECK((rc == SHF_OK) == (c != NULL));
    if (rc == SHF_OK) CHECK_EQ_INT(shf_table_len(c, &(uint64_t){0}), SHF_OK);
    shf_table_close(c);
    return rc;
}
static int act_open(struct shf_table *t) {
    struct shf_table *c = NULL;
    (void)t;
    int rc = shf_table_open(temp_path("a"), SHF_CREATE, &quick, &c);
    CHECK((rc == SHF_OK) == (c != NULL));
    if (rc == SHF_OK) {
        uint64_t at = fault_at;
        fault_at = 0;
        CHECK(shf_table_contains(c, "k1", 2) >= 0);
        fault_at = at;
    }
    shf_table_close(c);
    return rc;
}
static int act_open_read_only(struct shf_table *t) {
    struct shf_table *c = NULL;
    (void)t;
    int rc = shf_table_open(temp_path("a"), SHF_RDONLY, &quick, &c);
    if (rc == SHF_OK) CHECK_EQ_INT(shf_table_get(c, "k1", 2, out, sizeof out, &n_), SHF_OK);
    shf_table_close(c);
    return rc;
}
static int act_anonymous(struct shf_table *t) {
    struct shf_table *c = NULL, *d = NULL;
    (void)t;
    int rc = shf_table_anonymous("faults", &quick, &c);
    if (rc == SHF_OK) rc = shf_table_from_fd(shf_table_fd(c), &quick, &d);
    if (rc == SHF_OK) rc = shf_table_put(d, "k", 1, "v", 1, NULL);
    shf_table_close(d);
    shf_table_close(c);
    return rc;
}
static int act_put_that_grows(struct shf_table *t) {
    char key[24];
    int rc = SHF_OK;
    for (uint64_t i = 0; i < 600 && rc == SHF_OK; i++) {
        size_t klen = key_of(key, 10000 + i);
        value_fill(big, 3000, key, klen, 1);
        rc = shf_table_put(t, key, klen, big, 3000, NULL);
        if (rc == SHF_OK) CHECK_EQ_INT(shf_table_get(t, key, klen, out, sizeof out, &n_), SHF_OK);
        else CHECK_EQ_INT(shf_table_contains(t, key, klen), SHF_NOT_FOUND);
    }
    return rc;
}
static int act_large_put(struct shf_table *t) {
    value_fill(big, 150000, "big", 3, 1);
    int rc = shf_table_put(t, "big", 3, big, 150000, NULL);
    uint64_t at = fault_at;
    fault_at = 0;
    if (rc == SHF_OK)
        CHECK(table_has(t, "big", 3, big, 150000));
    else
        CHECK_EQ_INT(shf_table_contains(t, "big", 3), SHF_NOT_FOUND);
    CHECK_EQ_INT(table_stats(t).large_values, rc == SHF_OK ? 4 : 3);
    fault_at = at;
    if (rc == SHF_OK) rc = shf_table_put(t, "big", 3, big, 190000, NULL);
    if (rc == SHF_OK) rc = shf_table_take(t, "big", 3, out, sizeof out, &n_);
    return rc;
}
static int act_reads(struct shf_table *t) {
    uint64_t position = 0, len;
    int rc = shf_table_get(t, "k1", 2, out, sizeof out, &n_);
    CHECK_EQ_INT(rc, SHF_OK); /* needs no system call */
    CHECK_EQ_INT(shf_table_next(t, &position, out, 100, &n_, big, sizeof big, &n_, NULL), SHF_OK);
    CHECK_EQ_INT(shf_table_len(t, &len), SHF_OK);
    return rc;
}
static int act_check_stats(struct shf_table *t) {
    struct shf_table_report r = {0};
    struct shf_table_stats s = {0};
    r.size = sizeof r, s.size = sizeof s;
    int rc = shf_table_check(t, &r);
    CHECK(rc != SHF_ERR_CORRUPT);
    int other = shf_table_stats(t, &s);
    return rc < 0 ? rc : other;
}
static int act_clear(struct shf_table *t) {
    uint64_t at = fault_at;
    fault_at = 0;
    CHECK_EQ_INT(shf_table_put(t, "cleared", 7, "", 0, NULL), SHF_OK);
    fault_at = at;
    int rc = shf_table_clear(t);
    fault_at = 0;
    CHECK_EQ_INT(shf_table_put(t, "cleared", 7, "", 0, NULL), SHF_OK);
    fault_at = at;
    return rc;
}
static int act_close(struct shf_table *t) {
    (void)t;
    struct shf_table *c = NULL;
    uint64_t at = fault_at;
    fault_at = 0;
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &quick, &c), SHF_OK);
    fault_at = at;
    shf_table_close(c); /* never fails */
    return SHF_OK;
}
static int act_unlink(struct shf_table *t) {
    (void)t;
    uint64_t at = fault_at;
    struct shf_table *c = NULL;
    fault_at = 0;
    unlink(temp_path("b"));
    CHECK_EQ_INT(shf_table_open(temp_path("b"), SHF_CREATE, &quick, &c), SHF_OK);
    shf_table_close(c);
    fault_at = at;
    int rc = shf_unlink(temp_path("b"));
    if (rc < 0) CHECK(access(temp_path("b"), F_OK) == 0);
    return rc;
}

TEST(fault_create) { play("create", 0, act_create); }
TEST(fault_open) { play("open", 3, act_open); }
TEST(fault_open_read_only) { play("open read-only", 3, act_open_read_only); }
TEST(fault_anonymous) { play("anonymous", 0, act_anonymous); }
TEST(fault_put_that_grows) { play("put that grows", 100, act_put_that_grows); }
TEST(fault_large_put) { play("large put", 100, act_large_put); }
TEST(fault_reads) { play("reads", 10, act_reads); }
TEST(fault_check_and_stats) { play("check, stats", 100, act_check_stats); }
TEST(fault_clear) { play("clear", 100, act_clear); }
TEST(fault_close) { play("close", 10, act_close); }
TEST(fault_unlink) { play("unlink", 0, act_unlink); }

int main(int argc, char **argv) { return run(argc, argv); }
