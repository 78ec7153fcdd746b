/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_os.c - error.c and os.c: texts and records of errors, the fork word, locks of descriptions, system calls
 *
 * What each system call's failure does to a region is faults_region.c's.
 */
#include "region_fixture.h"

#include <pthread.h>
/* ---- error.c ---- */

TEST(every_code_has_a_text) {
    for (int a = SHF_ERR_INVALID_ITEM; a <= SHF_STOPPED; a++) {
        const char *text = shf_strerror(a);
        CHECK(text != NULL && strlen(text) > 3 && strcmp(text, shf_strerror(1000)) != 0);
        CHECK(text[strlen(text) - 1] != '.');
        for (int b = SHF_ERR_INVALID_ITEM; b < a; b++) CHECK(strcmp(text, shf_strerror(b)) != 0);
    }
    CHECK(shf_strerror(SHF_ERR_INVALID_ITEM - 1) == shf_strerror(1000) && shf_strerror(INT32_MIN) != NULL);
    CHECK(strcmp(shf_version(), "0.1.0") == 0);
    CHECK(SHF_ABSENT == (const void *)shf_absent);
}

static void *other_thread(void *out) {
    *(int *)out = shf_last_error()->code;
    shf__fail(SHF_ERR_FULL, 0, "other", "other", "other");
    return NULL;
}
TEST(last_error_is_the_threads) {
    pthread_t t;
    int code = 99;
    char longest[5000];
    CHECK_EQ_INT(shf__fail(SHF_ERR_IO, EIO, "place", "/a/path", "number %d of '%s'", 7, "x"), SHF_ERR_IO);
    REQUIRE(pthread_create(&t, NULL, other_thread, &code) == 0);
    pthread_join(t, NULL);
    CHECK_EQ_INT(code, 0);
    const struct shf_error_info *e = shf_last_error();
    CHECK(e->code == SHF_ERR_IO && e->os_error == EIO);
    CHECK(strcmp(e->place, "place") == 0 && strcmp(e->path, "/a/path") == 0 &&
          strcmp(e->message, "number 7 of 'x'") == 0);
    shf__fail(SHF_ERR_FULL, 0, "again", e->path, "was: %s", e->message); /* arguments inside of the record */
    CHECK(strcmp(e->path, "/a/path") == 0 && strcmp(e->message, "was: number 7 of 'x'") == 0);
    memset(longest, 'p', sizeof longest - 1), longest[sizeof longest - 1] = 0;
    shf__fail(SHF_ERR_FULL, 0, "long", longest, "%s", longest);
    CHECK(strlen(e->path) > 500 && strlen(e->path) < 5000 && strlen(e->message) > 100 && strlen(e->message) < 5000);
    shf__fail(SHF_ERR_FULL, 0, NULL, NULL, NULL);
    CHECK(strcmp(e->path, "") == 0 && strcmp(e->place, "") == 0 && strcmp(e->message, shf_strerror(SHF_ERR_FULL)) == 0);
}

/* ---- os.c ---- */

static void child_sees_zero(void *word) { CHECK(shm_load_relaxed(word) == 0); }
static void *ask_fork_word(void *out) {
    *(shf_au64 **)out = os_wipe_on_fork_word();
    return NULL;
}
TEST(fork_word) {
    shf_au64 *seen[8], *word;
    pthread_t t[8];
    for (int i = 0; i < 8; i++) REQUIRE(pthread_create(&t[i], NULL, ask_fork_word, &seen[i]) == 0);
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    word = os_wipe_on_fork_word();
    for (int i = 0; i < 8; i++) CHECK(seen[i] == word);
    REQUIRE(word != NULL);
    CHECK(shm_load_relaxed(word) != 0);
    CHECK_EQ_INT(run_child(child_sees_zero, word, 5000), 0);
    CHECK(shm_load_relaxed(word) != 0);
}

TEST(ofd_locks) {
    SAME;
    const char *path = temp_path("locks");
    uint64_t byte = (UINT64_C(1) << 62) + 5;
    int a = os_open(path, O_RDWR | O_CREAT, 0600), b = os_open(path, O_RDWR, 0), c = os_open_fd(a, O_RDWR);
    REQUIRE(a >= 0 && b >= 0 && c >= 0);
    CHECK_EQ_INT(os_ofd_probe(b, byte), 0);
    CHECK_EQ_INT(os_ofd_lock(a, byte), 0);
    CHECK_EQ_INT(os_ofd_lock(a, byte), 0); /* one's own is no conflict */
    CHECK_EQ_INT(os_ofd_probe(a, byte), 0);
    CHECK_EQ_INT(os_ofd_probe(b, byte), 1);
    CHECK_EQ_INT(os_ofd_probe(c, byte), 1); /* another description */
    CHECK_EQ_INT(os_ofd_probe(b, byte + 1), 0);
    CHECK_EQ_INT(os_ofd_lock(b, byte), -EAGAIN);
    CHECK_EQ_INT(os_ofd_unlock(a, byte), 0);
    CHECK_EQ_INT(os_ofd_lock(b, byte), 0);
    CHECK_EQ_INT(os_close(b), 0); /* closing gives it back */
    CHECK_EQ_INT(os_ofd_probe(a, byte), 0);
    struct flock read_lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    CHECK(fcntl(c, F_OFD_SETLK, &read_lock) == 0);
    CHECK_EQ_INT(os_ofd_probe(a, byte), 0); /* a read lock never fakes a life */
    CHECK_EQ_INT(os_ofd_lock(a, byte), -EAGAIN);
    os_close(a), os_close(c);
    CHECK_EQ_INT(os_ofd_probe(a, byte), -EBADF);
}

TEST(system_calls) {
    SAME;
    uint64_t x[4] = {0}, y[4] = {0}, id[2] = {0}, id2[2], start, magic = 0;
    char name[16], text[256];
    struct os_stat st;
    shf_au32 word = 7;
    void *base;
    CHECK(os_random(x, sizeof x) == 0 && os_random(y, sizeof y) == 0 && memcmp(x, y, sizeof x) != 0);
    CHECK(os_boot_id(id) == 0 && os_boot_id(id2) == 0 && id[0] == id2[0] && id[1] == id2[1] && (id[0] | id[1]) != 0);
    CHECK(os_ram_bytes() > 16 * MIB);
    CHECK_EQ_INT(os_pid(), getpid());
    CHECK_EQ_INT(os_euid(), geteuid());
    os_process_name(name);
    CHECK(memchr(name, 0, 16) != NULL && name[0] != 0);
    start = os_now_ns();
    os_sleep_ns(2000000);
    CHECK(os_now_ns() - start >= 2000000);
    os_yield();
    start = os_now_ns();
    CHECK_EQ_INT(os_futex_wait(&word, 8, 2 * HANG_MS * UINT64_C(1000000)), -EAGAIN);
    CHECK_EQ_INT(os_futex_wait(&word, 7, 3000000), -ETIMEDOUT);
    CHECK(os_now_ns() - start >= 3000000 && os_now_ns() - start < HANG_MS * UINT64_C(1000000));
    CHECK_EQ_INT(os_futex_wake(&word, 1), 0);
    CHECK_EQ_INT(os_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
    CHECK_EQ_INT(os_stat("/nowhere/at/all", &st), -ENOENT);
    CHECK_EQ_INT(os_close(-1), -EBADF);

    int fd = os_tmpfile(test_dir, 0600), again;
    REQUIRE(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(os_fstat(fd, &st) == 0 && st.nlink == 0 && st.size == 0);
    CHECK_EQ_INT(os_fallocate(fd, 0, 10000), 0);
    CHECK(os_fstat(fd, &st) == 0 && st.size == 10000 && st.blocks * 512 >= 10000);
    CHECK_EQ_INT(os_fallocate(fd, INT64_MAX, 1), -EFBIG);
    CHECK_EQ_INT(os_fallocate(fd, 0, UINT64_MAX), -EFBIG);
    CHECK_EQ_INT(os_ftruncate(fd, 8192), 0);
    CHECK_EQ_INT(os_pread(fd, text, sizeof text, 8192 - 10), 10); /* up to the end */
    CHECK_EQ_INT(os_pread(fd, text, sizeof text, 9000), 0);
    CHECK_EQ_INT(os_link_fd(fd, temp_path("linked")), 0);
    CHECK_EQ_INT(os_link_fd(fd, temp_path("linked")), -EEXIST);
    CHECK_EQ_INT(os_link_fd(fd, "/nowhere/at/all"), -ENOENT);
    CHECK_EQ_INT(os_rename_noreplace(temp_path("linked"), temp_path("renamed")), 0);
    CHECK_EQ_INT(os_fchmod(fd, 0640), 0);
    CHECK(os_stat(temp_path("renamed"), &st) == 0 && (st.mode & 07777) == 0640 && st.size == 8192);
    again = os_open(temp_path("renamed"), O_RDONLY, 0); /* fd's own says "#INODE (deleted)", as it had no name */
    CHECK(again >= 0 && os_fd_path(again, text, sizeof text) > 0 && strcmp(text, temp_path("renamed")) == 0);
    CHECK_EQ_INT(os_fd_path(again, text, 5), 4);
    CHECK_EQ_INT(os_fd_path(-1, text, sizeof text), -ENOENT);
    os_close(again);
    CHECK_EQ_INT(os_rename_noreplace(temp_path("renamed"), temp_path("renamed")), -EEXIST);
    CHECK_EQ_INT(os_fd_flags(fd), O_RDWR);
    again = os_open_fd(fd, O_RDONLY);
    CHECK(again >= 0 && os_fd_flags(again) == O_RDONLY && fcntl(again, F_GETFD) == FD_CLOEXEC);
    os_close(again);
    again = os_dup(fd);
    CHECK(again >= 3 && fcntl(again, F_GETFD) == FD_CLOEXEC);
    os_close(again);
    CHECK(os_fs_type(fd, &magic) == 0 && magic == 0x01021994);
    REQUIRE(os_map(fd, 8192, 1, &base) == 0);
    CHECK(os_populate_write(base, 8192) == 0 || os_populate_write(base, 8192) == -EINVAL);
    CHECK_EQ_INT(os_msync(base, 8192), 0);
    CHECK_EQ_INT(os_unmap(base, 8192), 0);
    REQUIRE(os_map(fd, 2 * OS_HUGE_PAGE + 4096, 0, &base) == 0); /* far beyond the file's end: only addresses */
    CHECK_EQ_INT((uintptr_t)base % OS_HUGE_PAGE, 0);
    CHECK(os_collapse(base, OS_HUGE_PAGE) <= 0);
    CHECK_EQ_INT(os_unmap(base, 2 * OS_HUGE_PAGE + 4096), 0);
    CHECK_EQ_INT(os_unlink(temp_path("renamed")), 0);
    CHECK_EQ_INT(os_unlink(temp_path("renamed")), -ENOENT);
    os_close(fd);

    fd = os_memfd("shf-test-memory");
    REQUIRE(fd >= 0);
    CHECK_EQ_INT(os_seal(fd, F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    CHECK((os_seals(fd) & F_SEAL_SHRINK) != 0);
    CHECK_EQ_INT(os_seal(fd, F_SEAL_GROW), -EPERM);
    os_close(fd);
}

int main(int argc, char **argv) { return run(argc, argv); }
