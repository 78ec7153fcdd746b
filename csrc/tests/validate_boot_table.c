/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_boot_table.c - another boot, copies of live files, read-only file systems: by public calls, tmpfs and disk
 *
 * A boot is faked by a file mounted over /proc/sys/kernel/random/boot_id, in a mount namespace of the children that
 * live in it. Disk: /var/tmp. What cannot be mounted here is not run, and said.
 */
#include "model.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/vfs.h>

static char path[200];
static uint64_t copies, boots;

static int is_tmpfs(const char *of) {
    struct statfs s;
    REQUIRE(statfs(of, &s) == 0);
    return s.f_type == 0x01021994;
}
static int no_mounts(void) {
    if (own_mounts() == 0) return 0;
    printf("# not run: no mounts here (%s)\n", strerror(errno));
    return 1;
}
static unsigned char *bytes_of(const char *name, size_t *n) {
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    *n = (size_t)st.st_size;
    unsigned char *p = test_alloc(*n);
    REQUIRE(pread(fd, p, *n, 0) == (ssize_t)*n);
    close(fd);
    return p;
}
static struct shf_table *made(const char *name) {
    struct shf_table *t = NULL;
    unlink(name);
    REQUIRE_EQ_INT(shf_table_open(name, SHF_CREATE | SHF_EXCL, NULL, &t), SHF_OK);
    for (uint32_t i = 0; i < 2000; i++) REQUIRE_EQ_INT(shf_table_put(t, &i, 4, &i, 4, NULL), SHF_OK);
    return t;
}
static void check_all(struct shf_table *t) {
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t v = 0;
        size_t n = 0;
        if (shf_table_get(t, &i, 4, &v, 4, &n) != SHF_OK || v != i) FAIL("key %u is wrong", i);
    }
}
/* A copy of a file that grew meanwhile may be shorter than it says of itself: that shows first. */
static int torn(void) {
    const char *m = shf_last_error()->message;
    return shf_last_error()->code == SHF_ERR_CORRUPT && (strstr(m, "is sparse") || strstr(m, "is truncated"));
}
/* Opens: `code`. A refusal changes no byte. */
static void opens(const char *name, unsigned flags, int code) {
    size_t before_n, after_n;
    unsigned char *before = bytes_of(name, &before_n);
    struct shf_table *t = NULL;
    int rc = shf_table_open(name, flags, NULL, &t);
    if (rc != code && !(code == SHF_ERR_UNCLEAN && torn())) CHECK_EQ_INT(rc, code);
    if (code != SHF_OK) {
        unsigned char *after = bytes_of(name, &after_n);
        CHECK(t == NULL && before_n == after_n && memcmp(before, after, before_n) == 0);
        CHECK(strcmp(shf_last_error()->path, name) == 0 && strstr(shf_last_error()->message, name) != NULL);
        free(after);
    }
    if (t != NULL) check_all(t);
    shf_table_close(t);
    free(before);
}

/* Runs fn in a process whose boot is another one. */
struct boot {
    void (*fn)(void);
    const char *id;
};
static void in_boot(void *arg) {
    const struct boot *b = arg;
    char text[40] = {0};
    if (no_mounts()) return;
    if (mount(b->id, "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL) != 0) {
        printf("# not run: cannot mount over boot_id (%s)\n", strerror(errno));
        return;
    }
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && read(fd, text, 36) == 36 && text[0] == '0');
    close(fd);
    b->fn();
}
static void another_boot(void (*fn)(void)) {
    static const char id[] = "01234567-89ab-cdef-0123-456789abcdef\n";
    char name[200];
    snprintf(name, sizeof name, "%s", temp_path("boot_id"));
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, id, sizeof id - 1) == sizeof id - 1);
    close(fd);
    struct boot b = {fn, name};
    CHECK_EQ_INT(run_child(in_boot, &b, 20000), 0);
    boots++;
}
static void open_and_die(void *unused) {
    struct shf_table *t = NULL;
    (void)unused;
    if (shf_table_open(path, 0, NULL, &t) == SHF_OK) raise(SIGKILL);
}

static int expected;
static void open_both_ways(void) {
    opens(path, SHF_RDONLY, expected);
    opens(path, 0, expected);
    opens(path, SHF_CREATE, expected);
}
static void after_a_reboot(const char *where) {
    snprintf(path, sizeof path, "%s", where);
    struct shf_table *t = made(path);
    /* Beside a live user: there has been no reboot, whatever /proc says. */
    expected = SHF_OK;
    another_boot(open_both_ways);
    check_all(t);
    shf_table_close(t);
    /* All have closed it: it is whole on the disk. */
    another_boot(open_both_ways);
    /* The last user was killed: in the same boot it opens; after another one a disk may have lost pages. */
    CHECK_EQ_INT(run_child(open_and_die, NULL, 20000), CHILD_KILLED(SIGKILL));
    expected = is_tmpfs(path) ? SHF_OK : SHF_ERR_UNCLEAN;
    another_boot(open_both_ways);
    opens(path, 0, SHF_OK);
    expected = SHF_OK;
    another_boot(open_both_ways);
    CHECK_EQ_INT(shf_unlink(path), SHF_OK);
}
TEST(another_boot_on_tmpfs) { after_a_reboot(temp_path("t")); }
TEST(another_boot_on_a_disk) {
    char folder[] = "/var/tmp/shf-test-XXXXXX", name[60];
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(name, sizeof name, "%s/t", folder);
    if (is_tmpfs(folder)) printf("# /var/tmp is a tmpfs here\n");
    after_a_reboot(name);
    rmdir(folder);
}

/* ---- copies ---- */

static int *stop;
static void write_on(void *arg) {
    struct shf_table *t = NULL;
    uint64_t rng = test_seed + (uintptr_t)arg, rounds = 0;
    static unsigned char val[9000];
    REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
    do {
        char key[24];
        size_t klen = key_of(key, (uintptr_t)arg * 1000 + test_next(&rng) % 200), vlen = test_next(&rng) % sizeof val;
        value_fill(val, vlen, key, klen, 1);
        CHECK_EQ_INT(shf_table_put(t, key, klen, val, vlen, NULL), SHF_OK);
        if (rounds++ % 8 == 0) usleep(200); /* the copier wants to run, too */
    } while (!__atomic_load_n(stop, __ATOMIC_RELAXED) && *test_failures == 0);
    shf_table_close(t);
}
static void copies_of(const char *where) {
    static const char *const commands[] = {"cp %s %s",
                                           "cp --sparse=always %s %s",
                                           "cp --reflink=auto %s %s",
                                           "cp -a %s %s",
                                           "cat %s > %s",
                                           "dd if=%s of=%s bs=1M conv=sparse 2>/dev/null"};
    char copy[220], command[600];
    pid_t writers[2];
    snprintf(path, sizeof path, "%s", where);
    snprintf(copy, sizeof copy, "%s-copy", where);
    stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stop != MAP_FAILED);
    struct shf_table *t = made(path);
    for (uintptr_t i = 0; i < 2; i++) writers[i] = fork_child(write_on, (void *)(i + 1));
    for (uint64_t round = 0; round < test_env("SHF_SECONDS", 1); round++)
        for (size_t c = 0; c < sizeof commands / sizeof *commands && *test_failures == 0; c++) {
            struct shf_table *u = NULL;
            unlink(copy);
            snprintf(command, sizeof command, commands[c], path, copy);
            REQUIRE(system(command) == 0);
            int rc = shf_table_open(copy, SHF_RDONLY, NULL, &u);
            CHECK(rc == SHF_ERR_UNCLEAN || (rc < 0 && torn()));
            opens(copy, 0, SHF_ERR_UNCLEAN);
            opens(copy, SHF_CREATE, SHF_ERR_UNCLEAN);
            opens(copy, SHF_RDONLY, SHF_ERR_UNCLEAN); /* its holes were filled */
            copies++;
        }
    __atomic_store_n(stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) CHECK_EQ_INT(wait_child(writers[i], 20000), 0);
    check_all(t);
    uint64_t keys = table_clean(t);
    shf_table_close(t);
    for (size_t c = 0; c < sizeof commands / sizeof *commands; c++) { /* when nobody has it open a copy is as good */
        unlink(copy);
        snprintf(command, sizeof command, commands[c], path, copy);
        REQUIRE(system(command) == 0);
        REQUIRE_EQ_INT(shf_table_open(copy, 0, NULL, &t), SHF_OK);
        check_all(t);
        CHECK_EQ_INT(table_clean(t), keys);
        shf_table_close(t);
        copies++;
    }
    unlink(copy);
    opens(path, 0, SHF_OK);
    CHECK_EQ_INT(shf_unlink(path), SHF_OK);
    munmap(stop, 4096);
}
TEST(copies_on_tmpfs) { copies_of(temp_path("t")); }
TEST(copies_on_a_disk) {
    char folder[] = "/var/tmp/shf-test-XXXXXX", name[60];
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(name, sizeof name, "%s/t", folder);
    copies_of(name);
    rmdir(folder);
}

/* ---- read-only file systems ---- */

static void refused(int rc) {
    CHECK_EQ_INT(rc, SHF_ERR_READ_ONLY);
    CHECK(strstr(shf_last_error()->message, "read-only") != NULL && shf_last_error()->os_error == EROFS);
}
static void read_only(void *arg) {
    char folder[150], there[200], new_one[200];
    struct shf_table *t = NULL, *live;
    if (no_mounts()) return;
    snprintf(folder, sizeof folder, "%s", (const char *)arg);
    snprintf(path, sizeof path, "%s/t", folder);
    snprintf(new_one, sizeof new_one, "%s/ro/new", folder);
    snprintf(there, sizeof there, "%s/ro/t", folder);
    live = made(path);
    char ro[170];
    snprintf(ro, sizeof ro, "%s/ro", folder);
    REQUIRE(mkdir(ro, 0700) == 0);
    if (mount(folder, ro, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, ro, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0) {
        printf("# not run: no bind mounts here (%s)\n", strerror(errno));
    } else {
        for (int state = 0; state < 3; state++) { /* in use elsewhere; closed; its last user killed */
            if (state == 1) shf_table_close(live), live = NULL;
            if (state == 2) CHECK_EQ_INT(run_child(open_and_die, NULL, 20000), CHILD_KILLED(SIGKILL));
            opens(there, SHF_RDONLY, SHF_OK);
            REQUIRE_EQ_INT(shf_table_open(there, SHF_RDONLY, NULL, &t), SHF_OK);
            CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_ERR_READ_ONLY);
            if (live != NULL) { /* changes show at once */
                CHECK_EQ_INT(shf_table_put(live, "k", 1, "v", 1, NULL), SHF_OK);
                CHECK(table_has(t, "k", 1, "v", 1));
            }
            shf_table_close(t);
            t = NULL;
            refused(shf_table_open(there, 0, NULL, &t));
            refused(shf_table_open(there, SHF_CREATE, NULL, &t));
            refused(shf_table_open(new_one, SHF_CREATE, NULL, &t));
            refused(shf_unlink(there));
            CHECK(t == NULL);
        }
        opens(path, 0, SHF_OK);
        CHECK(umount(ro) == 0);
    }
    shf_table_close(live);
    rmdir(ro);
    CHECK_EQ_INT(shf_unlink(path), SHF_OK);
}
TEST(read_only_tmpfs) { CHECK_EQ_INT(run_child(read_only, (void *)(uintptr_t)(temp_path(""), test_dir), 20000), 0); }
TEST(read_only_disk) {
    char folder[] = "/var/tmp/shf-test-XXXXXX";
    REQUIRE(mkdtemp(folder) != NULL);
    CHECK_EQ_INT(run_child(read_only, folder, 20000), 0);
    CHECK(rmdir(folder) == 0);
}

TEST(summary) {
    printf("# total: %llu processes in another boot, %llu copies of files, live and closed: refused or whole, none "
           "changed\n",
           (unsigned long long)boots, (unsigned long long)copies);
}

int main(int argc, char **argv) { return run(argc, argv); }
