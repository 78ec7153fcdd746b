/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* validate_disk.c - tables on a disk: what is written when the last one closes, and what is refused after another boot */
#include "layout.h"
#include "model.h"

#include <fcntl.h>
#include <sys/statfs.h>

#define TMPFS 0x01021994

/* /var/tmp, if that is a disk's. */
static char folder[64], disk_path[80];
static int on_a_disk(void) {
    struct statfs fs;
    snprintf(folder, sizeof folder, "/var/tmp/shf-test-XXXXXX");
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(disk_path, sizeof disk_path, "%s/t", folder);
    REQUIRE(statfs(folder, &fs) == 0);
    if (fs.f_type != TMPFS) return 1;
    printf("  skipped: /var/tmp is a tmpfs here\n");
    rmdir(folder);
    return 0;
}
static void tidy(void) {
    unlink(disk_path);
    CHECK(rmdir(folder) == 0);
}
static struct shf_table *open_there(unsigned flags) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(disk_path, flags, NULL, &t);
    if (rc != SHF_OK) FAIL("%d, %s", rc, shf_last_error()->message), test_stop();
    return t;
}
static struct shf_shm_header *header_of(int fd) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}

/* Pages of the page cache that are not on the disk yet (cachestat, Linux 6.5); -1 if this kernel does not tell. */
static int64_t dirty_pages(const char *path) {
    struct {
        uint64_t offset, length;
    } range = {0, 0};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } pages;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0);
    long rc = syscall(451, fd, &range, &pages, 0);
    close(fd);
    return rc < 0 ? -1 : (int64_t)(pages.dirty + pages.writeback);
}
static void grow_it(void *unused) {
    struct shf_table *t = open_there(0);
    char value[1000] = {7};
    (void)unused;
    for (uint32_t i = 0; i < 5000; i++) CHECK_EQ_INT(shf_table_put(t, &i, 4, value, sizeof value, NULL), SHF_OK);
    shf_table_close(t);
}
/* Who closes last has seen little of the file: another one has made it longer, and was not the last. */
TEST(the_last_to_close_writes_all_of_the_file) {
    if (!on_a_disk()) return;
    struct shf_table *t = open_there(SHF_CREATE);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    CHECK_EQ_INT(run_child(grow_it, NULL, 60000), 0);
    int64_t before = dirty_pages(disk_path);
    shf_table_close(t);
    int64_t after = dirty_pages(disk_path);
    int fd = open(disk_path, O_RDWR);
    struct shf_shm_header *h = header_of(fd);
    CHECK_EQ_INT(atomic_load(&h->dirty), 0);
    CHECK(h->end > (4 << 20));
    munmap(h, 4096);
    close(fd);
    if (before < 0)
        printf("  not looked at: this kernel has no cachestat\n");
    else if (before <= 1)
        printf("  not shown: the kernel has written all of it by itself\n");
    else
        printf("  %lld pages to write before the last close, %lld after it\n", (long long)before, (long long)after);
    CHECK(after <= 1); /* the registry's, where its slot says afterwards that nobody has it */
    tidy();
}

/* ---- another boot ---- */

static void die_with_it(void *path) {
    struct shf_table *t = NULL;
    REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "k", 1, "w", 1, NULL), SHF_OK);
    raise(SIGKILL);
}
TEST(a_descriptor_is_refused_as_its_path_is_after_another_boot) {
    if (!on_a_disk()) return;
    shf_table_close(open_there(SHF_CREATE));
    CHECK_EQ_INT(run_child(die_with_it, disk_path, 5000), CHILD_KILLED(SIGKILL));
    int fd = open(disk_path, O_RDWR);
    struct shf_shm_header *h = header_of(fd);
    struct shf_table *t = NULL;
    CHECK_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_OK); /* this boot's */
    shf_table_close(t);
    CHECK_EQ_INT(run_child(die_with_it, disk_path, 5000), CHILD_KILLED(SIGKILL));
    h->boot_id[0] ^= 1;
    t = NULL;
    CHECK_EQ_INT(shf_table_open(disk_path, 0, NULL, &t), SHF_ERR_UNCLEAN);
    CHECK_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_ERR_UNCLEAN);
    int reader = open(disk_path, O_RDONLY);
    CHECK_EQ_INT(shf_table_from_fd(reader, NULL, &t), SHF_ERR_UNCLEAN);
    CHECK(t == NULL);
    close(reader);
    munmap(h, 4096);
    close(fd);
    tidy();
}

static void die_with_fd(void *arg) {
    struct shf_table *t = NULL;
    REQUIRE_EQ_INT(shf_table_from_fd(*(int *)arg, NULL, &t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "k", 1, "w", 1, NULL), SHF_OK);
    raise(SIGKILL);
}
TEST(a_memory_file_has_no_boot) { /* it cannot have lived through one */
    struct shf_table *t = NULL;
    REQUIRE_EQ_INT(shf_table_anonymous("boot", NULL, &t), SHF_OK);
    int fd = dup(shf_table_fd(t));
    shf_table_close(t);
    CHECK_EQ_INT(run_child(die_with_fd, &fd, 5000), CHILD_KILLED(SIGKILL));
    struct shf_shm_header *h = header_of(fd);
    CHECK_EQ_INT(atomic_load(&h->dirty), 1);
    h->boot_id[0] ^= 1;
    munmap(h, 4096);
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_OK);
    CHECK(table_has(t, "k", 1, "w", 1));
    shf_table_close(t);
    close(fd);
}

int main(int argc, char **argv) { return run(argc, argv); }
