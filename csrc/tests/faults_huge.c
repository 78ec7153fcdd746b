/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* faults_huge.c - shf_table_collapse when the kernel says no, each way (table_huge.c); built with SHF_FAULTS */
#include "os.h"
#include "shf.h"
#include "test.h"

static int fail_with, calls; /* os_collapse fails at the calls whose bit is set; from the 64th on as the 63rd */
static uint64_t fail_at;

int shf__os_fault(const char *call) {
    if (strcmp(call, "os_collapse") != 0) return 0;
    int k = calls++;
    return fail_at >> (k < 63 ? k : 63) & 1 ? fail_with : 0;
}
static void fail(int error, uint64_t at) { fail_with = error, fail_at = at, calls = 0; }
#define ALWAYS UINT64_MAX
#define NEVER 0

#define KEYS 400000u /* 14 MB: more than nothing, less than a slice */
static struct shf_table *filled(void) {
    struct shf_table *t;
    REQUIRE_EQ_INT(shf_table_open(temp_path("t"), SHF_CREATE, NULL, &t), SHF_OK);
    for (uint32_t i = 0; i < KEYS; i++) REQUIRE_EQ_INT(shf_table_put(t, &i, 4, &i, 4, NULL), SHF_OK);
    return t;
}
static void check_all(struct shf_table *t) {
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t v = 0;
        size_t n;
        REQUIRE_EQ_INT(shf_table_get(t, &i, 4, &v, 4, &n), SHF_OK);
        CHECK_EQ_INT(v, i);
    }
}

TEST(each_refusal) {
    static const int errors[] = {EINVAL, ENOSYS, ENOMEM, EBUSY, EPERM};
    struct shf_table *t = filled();
    uint64_t bytes;
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        bytes = 1;
        fail(errors[e], ALWAYS);
        CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_ERR_UNSUPPORTED);
        CHECK_EQ_INT(bytes, 0);
        CHECK_EQ_INT(shf_last_error()->os_error, errors[e]);
        CHECK_EQ_INT(calls, 2); /* the slice, its first 2 MiB; and no more */
        int memory = errors[e] == ENOMEM || errors[e] == EBUSY;
        CHECK(strstr(shf_last_error()->message, memory ? "in one piece" : "MADV_COLLAPSE") != NULL);
    }
    /* somebody holds each page, for ever: it ends, and is no error */
    fail(EAGAIN, ALWAYS);
    uint64_t start = test_now_ns();
    CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_OK);
    CHECK_EQ_INT(bytes, 0);
    CHECK(calls < 100 && test_now_ns() - start < HANG_MS * UINT64_C(1000000));
    check_all(t);
    fail(0, NEVER);
    shf_table_close(t);
}

TEST(some_of_it) {
    struct shf_table *t = filled();
    uint64_t all, bytes;
    fail(0, NEVER);
    if (shf_table_collapse(t, &all) != SHF_OK) {
        printf("# not run: %s\n", shf_last_error()->message);
    } else {
        REQUIRE(all >= 4 * OS_HUGE_PAGE && all <= 8 * OS_HUGE_PAGE);
        int each = (int)(all / OS_HUGE_PAGE);
        fail(EAGAIN, 0xf); /* the slice, and three times the first 2 MiB */
        CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_OK);
        CHECK_EQ_INT(bytes, all);
        CHECK_EQ_INT(calls, 1 + 3 + each);
        fail(EINVAL, 1 | 1 << 4); /* the slice, the fourth 2 MiB: left out */
        CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_OK);
        CHECK_EQ_INT(bytes, all - OS_HUGE_PAGE);
        CHECK_EQ_INT(calls, 1 + each);
        fail(ENOMEM, 1 | 1 << 4); /* ended there */
        CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_ERR_UNSUPPORTED);
        CHECK_EQ_INT(bytes, 3 * OS_HUGE_PAGE);
        CHECK_EQ_INT(calls, 5);
        CHECK(strstr(shf_last_error()->message, "6291456 bytes") != NULL);
        CHECK_EQ_INT(shf_table_collapse(t, NULL), SHF_OK);
    }
    check_all(t);
    shf_table_close(t);
}

int main(int argc, char **argv) { return run(argc, argv); }
