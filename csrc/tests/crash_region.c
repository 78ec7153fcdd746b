/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_region.c - a creator dies at its k-th shared store, for every k (built with -DSHF_CRASH_POINTS)
 *
 * All stores of a creation come before the link, so a death leaves no name at all; the next creator makes the file.
 */
#include "crash_sites.h"
#include "region.h"

static const struct shf_region_params plain = {.kind = SHF_KIND_TABLE, .object_pages = 16};
static const char *path;

static void create_and_die(void *at) {
    struct shf_region r;
    sites_role = FIRST;
    shf__crash_count = 0, shf__crash_at = *(uint64_t *)at;
    CHECK_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, NULL), SHF_OK);
    shf__crash_at = 0;
    shf__region_close(&r);
}

TEST(a_creator_dies) {
    path = temp_path("crash");
    sites_begin();
    scenarios++;
    for (uint64_t k = 1;; k++) {
        struct os_stat st;
        struct shf_region r;
        int rc = run_child(create_and_die, &k, 10000), created = 7;
        REQUIRE(k < 10000);
        CHECK(rc == 0 || rc == CHILD_KILLED(SIGKILL));
        killed += rc != 0;
        CHECK_EQ_INT(os_stat(path, &st), rc == 0 ? 0 : -ENOENT);
        CHECK_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, &created), SHF_OK);
        CHECK_EQ_INT(created, rc != 0);
        shf__region_close(&r);
        unlink(path);
        if (rc == 0) {
            CHECK(k > 40);
            break;
        }
    }
}

TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
