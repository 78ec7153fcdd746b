/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* validate_huge.c - shf_table_collapse: nothing changes but the memory; beside writers, on a full tmpfs (table_huge.c) */
#include "table.h"
#include "test.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#define HUGE ((size_t)2 << 20)
#define KEYS 200000u /* about 7 MB */

/* Key i has a value of 4 to 35 bytes, made from i and `round`. */
static size_t value_of(uint32_t i, uint32_t round, unsigned char v[40]) {
    uint64_t state = (uint64_t)i << 32 | round;
    for (size_t at = 0; at < 40; at += 8) {
        uint64_t r = test_next(&state);
        memcpy(v + at, &r, 8);
    }
    return 4 + i % 32;
}
static void put_range(struct shf_table *t, uint32_t first, uint32_t last, uint32_t round) {
    for (uint32_t i = first; i < last; i++) {
        unsigned char v[40];
        size_t n = value_of(i, round, v);
        REQUIRE_EQ_INT(shf_table_put(t, &i, sizeof i, v, n, NULL), SHF_OK);
    }
}
static void check_range(struct shf_table *t, uint32_t first, uint32_t last, uint32_t round) {
    for (uint32_t i = first; i < last; i++) {
        unsigned char v[40], got[40];
        size_t n = value_of(i, round, v), len = 0;
        REQUIRE_EQ_INT(shf_table_get(t, &i, sizeof i, got, sizeof got, &len), SHF_OK);
        CHECK_BYTES(got, len, v, n);
    }
}
static void check_table(struct shf_table *t) {
    struct shf_table_report report = {.size = sizeof report};
    CHECK_EQ_INT(shf_table_check(t, &report), SHF_OK);
    CHECK_EQ_INT(report.problems, 0);
}
static uint64_t file_bytes(struct shf_table *t) {
    struct shf_table_stats s = {.size = sizeof s};
    REQUIRE_EQ_INT(shf_table_stats(t, &s), SHF_OK);
    return s.file_bytes;
}

/* kB of the mapping that huge page entries name; -1: it is not there. */
static long huge_kb(const struct shf_table *t) {
    char line[4096];
    long kb = -1;
    int in = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long a, b;
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
            in = (uintptr_t)t->region.base >= a && (uintptr_t)t->region.base < b;
        else if (in)
            (void)sscanf(line, "ShmemPmdMapped: %ld", &kb);
    }
    if (f) fclose(f);
    return kb;
}

/* 1 and a line if this kernel cannot at all. */
static int cannot(int rc) {
    if (rc != SHF_ERR_UNSUPPORTED) return 0;
    CHECK(strstr(shf_last_error()->message, "huge") || strstr(shf_last_error()->message, "2 MiB"));
    printf("# not run: %s\n", shf_last_error()->message);
    return 1;
}

TEST(nothing_changes) {
    struct shf_table *t, *other;
    const char *path = temp_path("t");
    uint64_t bytes = 1, again = 0;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_OK); /* less than 2 MiB: nothing to do */
    CHECK_EQ_INT(bytes, 0);
    put_range(t, 0, KEYS, 1);
    REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &other), SHF_OK);
    check_range(other, 0, KEYS, 1);
    CHECK_EQ_INT((uintptr_t)t->region.base % HUGE, 0);
    CHECK_EQ_INT((uintptr_t)other->region.base % HUGE, 0);
    uint64_t size = file_bytes(t);
    int rc = shf_table_collapse(t, &bytes);
    if (cannot(rc)) goto out;
    CHECK_EQ_INT(rc, SHF_OK);
    CHECK_EQ_INT(bytes, size / HUGE * HUGE);
    CHECK_EQ_INT(file_bytes(t), size);
    CHECK(huge_kb(t) * 1024 >= (long)bytes);
    check_range(t, 0, KEYS, 1);
    check_range(other, 0, KEYS, 1);
    if (huge_kb(other) * 1024 < (long)bytes)
        printf("# the other mapping has %ld kB in huge pages, of %llu\n", huge_kb(other), (unsigned long long)bytes / 1024);
    put_range(other, 0, KEYS / 2, 2); /* over the old ones; and growth goes on */
    put_range(t, KEYS, 2 * KEYS, 1);
    check_range(t, 0, KEYS / 2, 2);
    check_range(other, KEYS / 2, 2 * KEYS, 1);
    CHECK(file_bytes(t) > size);
    CHECK_EQ_INT(shf_table_collapse(other, &again), SHF_OK);
    CHECK_EQ_INT(again, file_bytes(t) / HUGE * HUGE);
    CHECK_EQ_INT(shf_table_collapse(other, NULL), SHF_OK);
    check_range(t, 0, KEYS / 2, 2);
    check_table(t);
out:
    shf_table_close(other);
    shf_table_close(t);
}

TEST(who_may) {
    struct shf_table *t, *reader;
    const char *path = temp_path("t");
    uint64_t bytes;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    put_range(t, 0, KEYS, 1);
    REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &reader), SHF_OK);
    int rc = shf_table_collapse(reader, &bytes);
    if (!cannot(rc)) {
        CHECK_EQ_INT(rc, SHF_OK);
        CHECK_EQ_INT(bytes, file_bytes(t) / HUGE * HUGE);
        check_range(t, 0, KEYS, 1);
    }
    check_range(reader, 0, KEYS, 1);
    shf_table_close(reader);
    shf_table_close(t);
    CHECK_EQ_INT(shf_table_collapse(NULL, &bytes), SHF_ERR_INVALID);

    REQUIRE_EQ_INT(shf_table_anonymous("huge", NULL, &t), SHF_OK);
    put_range(t, 0, KEYS, 1);
    rc = shf_table_collapse(t, &bytes);
    if (!cannot(rc)) CHECK_EQ_INT(bytes, file_bytes(t) / HUGE * HUGE);
    check_range(t, 0, KEYS, 1);
    shf_table_close(t);
}

TEST(when_opened) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t;
    const char *path = temp_path("t");
    uint64_t bytes;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    put_range(t, 0, KEYS, 1);
    int rc = shf_table_collapse(t, &bytes);
    shf_table_close(t);
    if (cannot(rc)) return;
    unlink(path);
    o.flags = SHF_OPTION_HUGE_PAGES;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, &o, &t), SHF_OK);
    put_range(t, 0, KEYS, 1);
    CHECK_EQ_INT(huge_kb(t), 0);
    shf_table_close(t);
    REQUIRE_EQ_INT(shf_table_open(path, 0, &o, &t), SHF_OK);
    CHECK(huge_kb(t) * 1024 >= (long)(file_bytes(t) / HUGE * HUGE));
    check_range(t, 0, KEYS, 1);
    shf_table_close(t);
}

/* A file system that has none gives a clear error, as an option it is no error. */
TEST(on_disk) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t;
    char path[] = "/var/tmp/shf-huge-XXXXXX";
    struct statfs fs;
    uint64_t bytes = 1;
    int fd = mkstemp(path);
    if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type == 0x01021994 /* tmpfs */) {
        printf("# not run: /var/tmp is no disk\n");
    } else {
        unlink(path);
        o.flags = SHF_OPTION_HUGE_PAGES;
        REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, &o, &t), SHF_OK);
        put_range(t, 0, KEYS, 1);
        int rc = shf_table_collapse(t, &bytes);
        CHECK(rc == SHF_OK || (rc == SHF_ERR_UNSUPPORTED && bytes == 0 && strstr(shf_last_error()->message, path)));
        check_range(t, 0, KEYS, 1);
        shf_table_close(t);
    }
    unlink(path);
    if (fd >= 0) close(fd);
}

/* Writers in two processes replace and add; a third collapses all the while. */
struct beside {
    const char *path;
    uint32_t part;
    int *stop;
    uint32_t *rounds; /* finished by each */
};
static void writer(void *arg) {
    struct beside *b = (struct beside *)arg;
    struct shf_table *t;
    uint32_t round = 1, size = KEYS / 8, first = b->part * 4 * KEYS;
    REQUIRE_EQ_INT(shf_table_open(b->path, 0, NULL, &t), SHF_OK);
    while (!__atomic_load_n(b->stop, __ATOMIC_ACQUIRE) && round < 30) {
        round++;
        put_range(t, first, first + size, round);
        check_range(t, first, first + size, round);
        put_range(t, first + size * round, first + size * (round + 1), 1);
    }
    b->rounds[b->part] = round;
    check_range(t, first + size * 2, first + size * (round + 1), 1);
    shf_table_close(t);
}
TEST(beside_writers) {
    struct shf_table *t;
    const char *path = temp_path("t");
    uint64_t bytes = 0, calls = 0, end = test_now_ns() + test_env("SHF_SECONDS", 2) * 1000000000u;
    if (test_threads_only()) return;
    int *shared = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    struct beside b[2] = {{path, 0, shared, (uint32_t *)shared + 1}, {path, 1, shared, (uint32_t *)shared + 1}};
    pid_t pid[2];
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    put_range(t, 0, KEYS, 1);
    int rc = shf_table_collapse(t, &bytes), skip = cannot(rc);
    for (int i = 0; i < 2; i++) pid[i] = fork_child(writer, &b[i]);
    while (!skip && test_now_ns() < end) {
        CHECK_EQ_INT(shf_table_collapse(t, &bytes), SHF_OK);
        calls++;
    }
    __atomic_store_n(shared, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) CHECK_EQ_INT(wait_child(pid[i], 120000), 0);
    printf("# %llu calls, %llu MiB huge of %llu\n", (unsigned long long)calls, (unsigned long long)bytes >> 20,
           (unsigned long long)file_bytes(t) >> 20);
    for (uint32_t i = 0; i < 2; i++) check_range(t, i * 4 * KEYS, i * 4 * KEYS + KEYS / 8, ((uint32_t *)shared)[1 + i]);
    check_table(t);
    shf_table_close(t);
    munmap(shared, 4096);
}

/* On a full tmpfs it takes no space, and what follows is as ever: no SIGBUS, SHF_ERR_NO_SPACE, and room after removes. */
static void full_tmpfs(void *arg) {
    char path[256];
    struct shf_table *t;
    struct statfs before, after;
    uint64_t bytes;
    uint32_t n = 0;
    int rc = SHF_OK;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", (const char *)arg, "tmpfs", 0, "size=9m,mode=700")) {
        printf("# not run: cannot mount a tmpfs (%s)\n", strerror(errno));
        return;
    }
    snprintf(path, sizeof path, "%s/full", (const char *)arg);
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    for (; rc == SHF_OK; n++) {
        unsigned char v[40];
        size_t len = value_of(n, 1, v);
        rc = shf_table_put(t, &n, sizeof n, v, len, NULL);
    }
    n--;
    CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
    REQUIRE(statfs(path, &before) == 0);
    rc = shf_table_collapse(t, &bytes);
    REQUIRE(statfs(path, &after) == 0);
    printf("# %u keys, %llu MiB huge, free before %llu after %llu pages\n", n, (unsigned long long)bytes >> 20,
           (unsigned long long)before.f_bfree, (unsigned long long)after.f_bfree);
    if (!cannot(rc)) CHECK_EQ_INT(rc, SHF_OK);
    CHECK_EQ_INT(after.f_bfree, before.f_bfree);
    check_range(t, 0, n, 1);
    unsigned char v[5000] = {1};
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t key = UINT32_MAX - i;
        rc = shf_table_put(t, &key, sizeof key, v, sizeof v, NULL);
        CHECK(rc == SHF_OK || rc == SHF_ERR_NO_SPACE);
    }
    CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
    for (uint32_t i = 0; i < n; i += 2) CHECK_EQ_INT(shf_table_del(t, &i, sizeof i), SHF_OK);
    for (uint32_t i = 1; i < n; i += 2) check_range(t, i, i + 1, 1);
    put_range(t, n, n + n / 8, 1);
    check_table(t);
    shf_table_close(t);
}
TEST(full_tmpfs_stays_full) {
    if (test_threads_only()) return;
    char dir[200];
    snprintf(dir, sizeof dir, "%s", temp_path("mnt"));
    REQUIRE(mkdir(dir, 0700) == 0);
    CHECK_EQ_INT(run_child(full_tmpfs, dir, 60000), 0);
    rmdir(dir);
}

int main(int argc, char **argv) { return run(argc, argv); }
