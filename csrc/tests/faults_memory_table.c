/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_memory_table.c - every call that takes private memory while there is none: an error, nothing changed or lost
 *
 * This program's malloc, calloc and realloc stand before those of the C library and hand on to them; the k-th gives
 * NULL (alone, or it and all that follow). Not with a sanitizer, which has its own.
 */
#include "model.h"
#include "os.h"

int shf__os_fault(const char *call) { /* system calls do not fail here */
    (void)call;
    return 0;
}

#if !TEST_SANITIZED && defined(__GLIBC__)

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

/* Volatile: compilers know malloc and free, and that they change nothing of ours. */
static volatile uint64_t fail_at, calls, failed; /* fail_at 0: none does */
static volatile int64_t living;
static int fail_all;

#define SEEN_BY_LIBC __attribute__((visibility("default"))) /* strdup asks for memory there */

static int refused(void) {
    if (fail_at == 0) return 0;
    calls++;
    if (calls != fail_at && !(fail_all && calls > fail_at)) return 0;
    failed++;
    errno = ENOMEM;
    return 1;
}
SEEN_BY_LIBC void *malloc(size_t n) {
    void *p = refused() ? NULL : __libc_malloc(n);
    living += p != NULL;
    return p;
}
SEEN_BY_LIBC void *calloc(size_t n, size_t size) {
    void *p = refused() ? NULL : __libc_calloc(n, size);
    living += p != NULL;
    return p;
}
SEEN_BY_LIBC void *realloc(void *old, size_t n) {
    void *p = refused() ? NULL : __libc_realloc(old, n);
    living += p != NULL && old == NULL;
    return p;
}
SEEN_BY_LIBC void free(void *p) {
    living -= p != NULL;
    __libc_free(p);
}

static char path[200], other[200];
static unsigned char big[100000], out[100000], long_key[5000], long_out[5000];
static struct model model;
static struct shf_table *table;

/* The model's own memory is there always. */
static int stored(int rc, const void *key, size_t klen, size_t vlen) {
    uint64_t at = fail_at;
    fail_at = 0;
    if (rc == SHF_OK) model_put(&model, key, klen, big, vlen);
    fail_at = at;
    return rc;
}
static int opened(int rc, struct shf_table *t) {
    CHECK((rc == SHF_OK) == (t != NULL));
    shf_table_close(t);
    return rc;
}
static int act_open(void) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(path, 0, NULL, &t);
    return opened(rc, t);
}
static int act_open_read_only(void) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(path, SHF_RDONLY, NULL, &t);
    return opened(rc, t);
}
static int act_create(void) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(other, SHF_CREATE | SHF_EXCL, NULL, &t);
    rc = opened(rc, t);
    unlink(other);
    return rc;
}
static int act_anonymous(void) {
    struct shf_table *t = NULL;
    int rc = shf_table_anonymous("memory", NULL, &t);
    return opened(rc, t);
}
static int act_from_fd(void) {
    struct shf_table *t = NULL;
    int rc = shf_table_from_fd(shf_table_fd(table), NULL, &t);
    return opened(rc, t);
}
static int to_big(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)context;
    CHECK(old->len > 256); /* the copy on the stack would have done */
    *desired = (struct shf_bytes){big, 70000};
    return 0;
}
static int act_update(void) {
    value_fill(big, 70000, "large", 5, 2);
    return stored(shf_table_update(table, "large", 5, to_big, NULL, NULL), "large", 5, 70000);
}
static int put_long(uint32_t uid, uint64_t checked) {
    value_fill(big, 300, long_key, sizeof long_key, 2);
    int rc = uid ? shf_table_put_by_uid(table, uid, big, 300) : shf_table_put_by_checked_uid(table, checked, big, 300);
    return stored(rc, long_key, sizeof long_key, 300);
}
static int act_put_by_uid(void) {
    uint32_t uid = 0;
    CHECK_EQ_INT(shf_table_uid(table, long_key, sizeof long_key, &uid), SHF_OK);
    return put_long(uid, 0);
}
static int act_put_by_checked_uid(void) {
    uint64_t uid = 0;
    CHECK_EQ_INT(shf_table_checked_uid(table, long_key, sizeof long_key, &uid), SHF_OK);
    return put_long(0, uid);
}
static int act_check(void) {
    struct shf_table_report r = {.size = sizeof r};
    int rc = shf_table_check(table, &r);
    if (rc == SHF_OK) CHECK_EQ_INT(r.keys, model.count);
    return rc;
}
static int act_stats(void) {
    struct shf_table_stats s = {.size = sizeof s};
    int rc = shf_table_stats(table, &s);
    if (rc == SHF_OK) CHECK_EQ_INT(s.keys, model.count);
    return rc;
}
/* Takes no memory: changes, reads, batches, a walk, also of large values and with a growth. */
static int act_all_others(void) {
    static const struct shf_bytes absent = {SHF_ABSENT, 0};
    struct shf_bytes keys[3] = {{"large", 5}, {"k1", 2}, {long_key, sizeof long_key}}, some = {big, 60000};
    struct shf_pair pair = {{"pair", 4}, {big, 50000}};
    uint64_t position = 0, len = 0, checked = 0;
    uint32_t uid = 0;
    size_t n = 0, m = 0, lens[3], done = 0;
    int rc = shf_table_put(table, "new", 3, big, 90000, &uid);
    if (rc == SHF_OK) rc = shf_table_get(table, "new", 3, out, sizeof out, &n);
    if (rc == SHF_OK) rc = shf_table_checked_uid(table, "new", 3, &checked);
    if (rc == SHF_OK) rc = shf_table_get_by_checked_uid(table, checked, out, sizeof out, &n);
    if (rc == SHF_OK) rc = shf_table_key_by_uid(table, uid, out, sizeof out, &n);
    if (rc == SHF_OK) rc = shf_table_put_by_uid(table, uid, big, 80000); /* a short key */
    if (rc == SHF_OK) rc = shf_table_take(table, "new", 3, out, sizeof out, &n);
    if (rc == SHF_OK) rc = shf_table_cas(table, "new", 3, &absent, &some, NULL, 0, NULL);
    if (rc == SHF_OK) rc = shf_table_replace(table, "new", 3, "x", 1, out, sizeof out, &n);
    if (rc == SHF_OK) rc = shf_table_del_if_equal(table, "new", 3, "x", 1);
    if (rc == SHF_OK) rc = shf_table_add(table, "new", 3, 1, NULL);
    if (rc == SHF_OK) rc = shf_table_put_many(table, 1, &pair, &done);
    if (rc == SHF_OK) rc = shf_table_get_many_packed(table, 2, keys, out, sizeof out, lens, &done);
    if (rc == SHF_OK) rc = shf_table_next(table, &position, long_out, sizeof long_out, &n, out, sizeof out, &m, NULL);
    if (rc == SHF_OK) rc = shf_table_len(table, &len);
    if (rc == SHF_OK) rc = shf_table_del_many(table, 1, &pair.key, &done, NULL);
    if (rc == SHF_OK) rc = shf_table_del(table, "new", 3);
    CHECK_EQ_INT(rc, SHF_OK);
    return rc;
}

static const struct act {
    const char *name;
    int (*act)(void);
    int takes; /* memory: so it must fail */
} acts[] = {
    {"open", act_open, 1},
    {"open read-only", act_open_read_only, 1},
    {"create", act_create, 1},
    {"anonymous", act_anonymous, 1},
    {"from_fd", act_from_fd, 1},
    {"update", act_update, 1},
    {"put_by_uid", act_put_by_uid, 1},
    {"put_by_checked_uid", act_put_by_checked_uid, 1},
    {"check", act_check, 1},
    {"stats", act_stats, 1},
    {"all others", act_all_others, 0},
};

static void put(const void *key, size_t klen, size_t vlen) {
    value_fill(big, vlen, key, klen, 1);
    REQUIRE_EQ_INT(shf_table_put(table, key, klen, big, vlen, NULL), SHF_OK);
    model_put(&model, key, klen, big, vlen);
}
TEST(no_memory) {
    uint64_t runs = 0, errors = 0;
    snprintf(path, sizeof path, "%s", temp_path("a"));
    snprintf(other, sizeof other, "%s", temp_path("b"));
    memset(long_key, 'k', sizeof long_key);
    table = table_create("a");
    model_init(&model);
    for (uint64_t i = 0; i < 3000; i++) {
        char key[24];
        put(key, key_of(key, i), 100);
    }
    put("large", 5, 60000);
    put(long_key, sizeof long_key, 200);
    for (size_t a = 0; a < sizeof acts / sizeof *acts; a++) {
        uint64_t before = errors, most = 0;
        CHECK_EQ_INT(acts[a].act(), SHF_OK); /* what is kept from the first use on is there now */
        for (fail_all = 0; fail_all < 2; fail_all++)
            for (uint64_t k = 1; *test_failures == 0; k += 1 + k / 16) {
                int64_t alive = living;
                failed = calls = 0, fail_at = k;
                int rc = acts[a].act();
                fail_at = 0;
                runs++, errors += rc < 0;
                if (!failed || !acts[a].takes) CHECK_EQ_INT(rc, SHF_OK);
                if (failed && acts[a].takes) CHECK_EQ_INT(rc, SHF_ERR_NO_MEMORY);
                if (rc < 0) CHECK(shf_last_error()->code == rc && strstr(shf_last_error()->message, "memory") != NULL);
                if (rc < 0)
                    CHECK(strcmp(shf_last_error()->path, acts[a].act == act_create ? other : path) == 0 ||
                          acts[a].act == act_anonymous || acts[a].act == act_from_fd);
                if (rc < 0) CHECK_EQ_INT(living, alive);
                if (calls > most) most = calls;
                if (runs % 8 == 0) model_compare(&model, table);
                if (*test_failures) FAIL("... %s: allocation %llu fails: %d", acts[a].name, (unsigned long long)k, rc);
                if (calls < k) break;
            }
        CHECK((errors > before) == acts[a].takes);
        model_compare(&model, table);
        printf("# %s: %llu allocations\n", acts[a].name, (unsigned long long)most);
    }
    shf_table_close(table);
    model_free(&model);
    printf("# total: %llu runs without memory, %llu of them an error, which changed nothing\n",
           (unsigned long long)runs, (unsigned long long)errors);
}

#endif

int main(int argc, char **argv) { return run(argc, argv); }
