/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_unclean_table.c - a file whose machine went down is never taken for a whole one, whatever call fails meanwhile
 *
 * On a disk, which keeps a file when the machine goes down. That is told by three things: `dirty` must be on the disk
 * before the first change (msync), the boot id must be known when it is looked at, and whether somebody lives must be
 * known.
 */
#include "model.h"
#include "os.h"
#include "table.h"

#include <fcntl.h>

static const char *fail_name;
static int fail_with, msyncs;
static uint64_t fail_from, fail_calls; /* the calls of that name from this one on */

int shf__os_fault(const char *call) {
    msyncs += strcmp(call, "os_msync") == 0;
    if (fail_name == NULL || strcmp(call, fail_name) != 0) return 0;
    return ++fail_calls >= fail_from ? fail_with : 0;
}
static void fail(const char *name, int error, uint64_t from) {
    fail_name = name, fail_with = error, fail_from = from, fail_calls = 0, msyncs = 0;
}

static char folder[64], path[100], copy[100];
static void on_disk(void) {
    snprintf(folder, sizeof folder, "/var/tmp/shf-test-XXXXXX");
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/t", folder);
    snprintf(copy, sizeof copy, "%s/copy", folder);
    fail(NULL, 0, 0);
}
static void off_disk(void) {
    fail(NULL, 0, 0);
    unlink(path);
    unlink(copy);
    rmdir(folder);
}
static void make(void) {
    struct shf_table *t;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    shf_table_close(t);
}
static int open_once(const char *name, unsigned flags) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(name, flags, NULL, &t);
    if (rc == SHF_OK) CHECK(table_has(t, "k", 1, "v", 1));
    fail(NULL, 0, 0);
    shf_table_close(t);
    return rc;
}
static struct shf_shm_header *header_of(const char *name) {
    int fd = open(name, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, SHF_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    close(fd);
    return p;
}

static void open_and_die(void *unused) {
    (void)unused;
    struct shf_table *t;
    if (shf_table_open(path, 0, NULL, &t) == SHF_OK) raise(SIGKILL);
}
static void die_while_opening(void *arg) {
    shf__crash_at = (uintptr_t)arg;
    shf__crash_count = 0;
    open_and_die(NULL);
}

/* Whoever is the first user writes `dirty`, also when one before has stored it and could not write it, or died
 * between. */
TEST(dirty_is_on_the_disk_before_a_change) {
    struct shf_table *t = NULL;
    on_disk();
    make();
    struct shf_shm_header *h = header_of(path);
    CHECK_EQ_INT(shm_load_relaxed32(&h->dirty), 0);
    fail("os_msync", EIO, 1);
    CHECK_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_ERR_IO);
    fail(NULL, 0, 0);
    REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
    CHECK(msyncs >= 1);
    CHECK_EQ_INT(shm_load_relaxed32(&h->dirty), 1);
    msyncs = 0;
    CHECK_EQ_INT(open_once(path, 0), SHF_OK); /* beside another: it is there already */
    shf_table_close(t);
    CHECK_EQ_INT(shm_load_relaxed32(&h->dirty), 0);
    unsigned deaths = 0, dirty = 0;
    for (uintptr_t k = 1; k < 200; k++) {
        REQUIRE_EQ_INT(run_child(die_while_opening, (void *)k, 20000), CHILD_KILLED(SIGKILL));
        deaths++, dirty += shm_load_relaxed32(&h->dirty);
        fail(NULL, 0, 0);
        REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
        if (msyncs == 0) FAIL("death at store %d: the next one trusts that dirty is on the disk", (int)k);
        shf_table_close(t);
        if (dirty > 20) break; /* it died behind it */
    }
    CHECK(dirty > 0);
    printf("# %u deaths while opening, %u of them with dirty stored\n", deaths, dirty);
    munmap(h, SHF_PAGE);
    off_disk();
}

/* No descriptor, no memory: which boot this is cannot be said now. That is an error, not "the same as before". */
TEST(another_boot_is_not_overlooked) {
    static const int errors[] = {EMFILE, ENFILE, ENOMEM, EIO};
    on_disk();
    make();
    struct shf_shm_header *h = header_of(path);
    CHECK_EQ_INT(run_child(open_and_die, NULL, 20000), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(open_once(path, 0), SHF_OK); /* the same boot */
    CHECK_EQ_INT(run_child(open_and_die, NULL, 20000), CHILD_KILLED(SIGKILL));
    h->boot_id[0] ^= 1;
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
        for (unsigned flags = 0; flags <= SHF_RDONLY; flags += SHF_RDONLY) {
            fail("os_boot_id", errors[e], 1);
            CHECK(open_once(path, flags) < 0);
            CHECK_EQ_INT(open_once(path, flags), SHF_ERR_UNCLEAN);
        }
    h->boot_id[0] ^= 1;
    CHECK_EQ_INT(open_once(path, 0), SHF_OK);
    /* Nor may it be forgotten which one it was: the next death would make a whole file look unclean. */
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        fail("os_boot_id", errors[e], 1);
        pid_t pid = fork_child(open_and_die, NULL);
        int rc = wait_child(pid, 20000);
        CHECK(rc == 0 || rc == CHILD_KILLED(SIGKILL));
        fail(NULL, 0, 0);
        CHECK_EQ_INT(open_once(path, 0), SHF_OK);
    }
    munmap(h, SHF_PAGE);
    off_disk();
}

/* "Somebody may be alive" is no answer to "is it whole?". */
TEST(a_copy_is_not_overlooked) {
    static const int errors[] = {ENOMEM, ENOLCK, EINVAL};
    char command[300];
    on_disk();
    make();
    CHECK_EQ_INT(run_child(open_and_die, NULL, 20000), CHILD_KILLED(SIGKILL));
    snprintf(command, sizeof command, "cp %s %s", path, copy);
    REQUIRE(system(command) == 0);
    for (unsigned flags = 0; flags <= SHF_RDONLY; flags += SHF_RDONLY) {
        CHECK_EQ_INT(open_once(copy, flags), SHF_ERR_UNCLEAN);
        for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
            for (uint64_t from = 1; from < 3; from++) {
                fail("os_ofd_probe", errors[e], from);
                CHECK(open_once(copy, flags) < 0);
            }
    }
    CHECK_EQ_INT(open_once(path, 0), SHF_OK);
    off_disk();
}

int main(int argc, char **argv) { return run(argc, argv); }
