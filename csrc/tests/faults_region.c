/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_region.c - region.c while its system calls fail, one at a time (built with -DSHF_FAULTS)
 *
 * For every operation, for each errno, for k = 1, 2, ... until it runs without a fault: its k-th call fails. The
 * operation then succeeds or gives an error with a record; no descriptor, mapping or file is left behind (G3), and
 * the same operation without faults works afterwards. Also: creation where there is no O_TMPFILE, or no linkat.
 */
#include "os.h"
#include "region.h"

#include "test.h"

#include <fcntl.h>

static int calls, fail_at, fail_with; /* the k-th call */
static const char *fail_name, *seen;  /* or every call of one name */

int shf__os_fault(const char *call) {
    if (fail_name != NULL) return strcmp(call, fail_name) == 0 ? fail_with : 0;
    if (++calls != fail_at) return 0;
    seen = call;
    return fail_with;
}
static void no_faults(void) { fail_at = 0, fail_name = NULL, calls = 0; }

#define OBJECT_PAGES 16u
static const struct shf_region_params plain = {.kind = SHF_KIND_TABLE, .object_pages = OBJECT_PAGES};
static const int errors[] = {EIO, ENOMEM, ENOSPC, EACCES, EMFILE, EINVAL, ENOENT, EEXIST, EOPNOTSUPP, EAGAIN, EROFS};

static int count_in(const char *folder) {
    DIR *d = opendir(folder);
    int n = -2;
    REQUIRE(d != NULL);
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}
static int mappings(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[600];
    int n = 0;
    REQUIRE(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) n += strstr(line, " rw-s ") != NULL || strstr(line, " r--s ") != NULL;
    fclose(f);
    return n;
}

static const char *path;
static int source;

static int op_create(void) {
    struct shf_region r;
    int rc = shf__region_open(&r, path, SHF_CREATE, &plain, NULL);
    shf__region_close(&r);
    return rc;
}
static int op_excl(void) {
    struct shf_region r;
    int rc = shf__region_open(&r, path, SHF_CREATE | SHF_EXCL, &plain, NULL);
    shf__region_close(&r);
    return rc;
}
static int op_open(void) {
    struct shf_region r;
    int rc = shf__region_open(&r, path, 0, &plain, NULL);
    shf__region_close(&r);
    return rc;
}
static int op_read(void) {
    struct shf_region r;
    int rc = shf__region_open(&r, path, SHF_RDONLY, &plain, NULL);
    shf__region_close(&r);
    return rc;
}
static int op_anonymous(void) {
    struct shf_region r;
    int rc = shf__region_anonymous(&r, "faults", &plain);
    shf__region_close(&r);
    return rc;
}
static int op_from_fd(void) {
    struct shf_region r;
    int rc = shf__region_from_fd(&r, source, &plain);
    shf__region_close(&r);
    return rc;
}
static int op_unlink(void) { return shf__region_unlink(path); }

/* `exists`: the file must be there before; 0: it must not. */
static void every_call(const char *name, int (*op)(void), int exists) {
    int most = 0;
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        for (int k = 1;; k++) {
            struct os_stat st;
            int rc, fds, maps, there;
            no_faults();
            unlink(path);
            if (exists) REQUIRE_EQ_INT(op_create(), SHF_OK);
            fds = count_in("/proc/self/fd"), maps = mappings();
            no_faults();
            shf__fail(0, 0, "", "", "none");
            seen = NULL, fail_at = k, fail_with = errors[e];
            rc = op();
            int done = calls < k;
            no_faults();
            if (rc != SHF_OK) {
                CHECK(rc < 0 && rc == shf_last_error()->code && shf_last_error()->message[0] != 0);
                CHECK(rc >= SHF_ERR_NO_MEMORY);
            }
            there = os_stat(path, &st) == 0;
            if (count_in("/proc/self/fd") != fds || mappings() != maps || count_in(test_dir) != there)
                FAIL("%s leaks when call %d (%s) fails with %d", name, k, seen, errors[e]);
            if (rc != SHF_OK && !exists && there) /* a file under its name is complete, and only a success made it */
                FAIL("%s failed (%d) and left a file when call %d (%s) failed with %d", name, rc, k, seen, errors[e]);
            if (exists && op != op_unlink && !there) FAIL("%s removed the file", name);
            if (there) CHECK_EQ_INT(op_open(), SHF_OK);
            if (done) {
                CHECK_EQ_INT(rc, SHF_OK);
                if (k - 1 > most) most = k - 1;
                break;
            }
            REQUIRE(k < 1000);
        }
    }
    no_faults();
    printf("       %-10s %d calls\n", name, most);
}

TEST(every_call_fails) {
    struct shf_region r;
    no_faults();
    path = temp_path("faults");
    every_call("create", op_create, 0);
    every_call("excl", op_excl, 0);
    every_call("open", op_open, 1);
    every_call("read-only", op_read, 1);
    every_call("unlink", op_unlink, 1);
    every_call("anonymous", op_anonymous, 0);
    REQUIRE_EQ_INT(shf__region_anonymous(&r, "source", &plain), SHF_OK);
    source = r.fd;
    every_call("from_fd", op_from_fd, 0);
    shf__region_close(&r);
}

static void without(const char *call, int error) {
    struct shf_region r;
    struct os_stat st;
    int created = 0, fd;
    unlink(path);
    no_faults();
    fail_name = call, fail_with = error;
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, &created), SHF_OK);
    no_faults();
    CHECK_EQ_INT(created, 1);
    CHECK(os_stat(path, &st) == 0 && st.nlink == 1 && (st.mode & 07777) == 0600 && st.ino == r.ino);
    CHECK_EQ_INT(count_in(test_dir), 1);
    fd = os_open(path, O_RDWR, 0);
    CHECK_EQ_INT(os_ofd_probe(fd, SHF_REGION_PRIVATE_BYTE), 0); /* given back after the rename */
    os_close(fd);
    CHECK_EQ_INT(op_open(), SHF_OK);
    fail_name = call, fail_with = error;
    CHECK_EQ_INT(op_excl(), SHF_ERR_EXISTS);
    no_faults();
    CHECK_EQ_INT(count_in(test_dir), 1);
    shf__region_close(&r);
}
TEST(private_names) {
    path = temp_path("faults");
    without("os_tmpfile", EOPNOTSUPP);
    without("os_tmpfile", EISDIR);
    without("os_link_fd", ENOENT);
    without("os_link_fd", EPERM);
    without("os_link_fd", EXDEV);
}

/* The same race as validate_region.c's, by private names. */
static void creator(void *winners) {
    fail_name = "os_tmpfile", fail_with = EOPNOTSUPP;
    for (int round = 0; round < 50; round++) {
        struct shf_region r;
        char name[20];
        int created = 0;
        snprintf(name, sizeof name, "race-%d", round);
        CHECK_EQ_INT(shf__region_open(&r, temp_path(name), SHF_CREATE, &plain, &created), SHF_OK);
        __atomic_add_fetch((int *)winners + round, created, __ATOMIC_RELAXED);
        CHECK(r.base != NULL && r.header->magic == SHF_MAGIC && !shf__region_replaced(&r));
        shf__region_close(&r);
    }
}
TEST(racing_creators_by_private_names) {
    int *winners = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[16];
    REQUIRE(winners != MAP_FAILED);
    for (int i = 0; i < 16; i++) pids[i] = fork_child(creator, winners);
    for (int i = 0; i < 16; i++) CHECK_EQ_INT(wait_child(pids[i], 60000), 0);
    for (int round = 0; round < 50; round++) CHECK_EQ_INT(winners[round], 1);
    CHECK_EQ_INT(count_in(test_dir), 50);
    munmap(winners, 4096);
}

/* populate, time and the like are asked for, not needed */
TEST(the_fork_word_may_fail) {
    no_faults();
    fail_name = "os_wipe_on_fork_word", fail_with = ENOMEM;
    CHECK(os_wipe_on_fork_word() == NULL);
    no_faults();
    CHECK(os_wipe_on_fork_word() != NULL);
}

int main(int argc, char **argv) { return run(argc, argv); }
