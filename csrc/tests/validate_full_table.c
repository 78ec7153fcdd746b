/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_full_table.c - a full tmpfs of 2 MB, or ext4 of 4 MB, under readers and writers of several processes
 *
 * Writers put, replace and remove values of all sizes, and are killed at random; a foreign file takes the space that
 * is left and gives it back, again and again. Readers never fail, nobody gets a SIGBUS, what needs no room goes on;
 * who has no room has changed nothing; with room, puts work again. In a mount namespace of its own; not run where
 * there is none to be had.
 */
#include "model.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mount.h>

#define WRITERS 3
#define READERS 2
#define KEYS 3000 /* of a writer, with fixed lengths; else */
#define FEW_KEYS 120
#define MOST 30000

#ifdef SHF_SMALL
#define SMALL 1 /* an index with room for few keys */
#else
#define SMALL 0
#endif
static int no_room(int rc) { return rc == SHF_ERR_NO_SPACE || (SMALL && rc == SHF_ERR_FULL); }

static char folder[150], path[200], foreign[200];
static struct counts {
    _Atomic uint64_t puts, refused, removes, reads, found, kills, foreign_files, counted[WRITERS];
    _Atomic int stop;
} *counts;
static int fixed, on_ext4;
static unsigned keys(void) { return fixed ? KEYS : FEW_KEYS; }

static size_t key_in(unsigned char key[24], unsigned writer, unsigned i) {
    if (!fixed) return key_of((char *)key, writer * 10000u + i);
    fixed_key(key, 8, writer * 10000u + i);
    return 8;
}
static struct shf_table *open_it(unsigned flags) {
    struct shf_table *t = NULL;
    if (shf_table_open(path, flags, NULL, &t) != SHF_OK) FAIL("open: %s", shf_last_error()->message), test_stop();
    return t;
}

static void read_all(void *arg) {
    static unsigned char out[MOST];
    uint64_t rng = test_seed + 100 + (uintptr_t)arg;
    struct shf_table *t = open_it((uintptr_t)arg % 2 ? SHF_RDONLY : 0);
    while (!atomic_load(&counts->stop) && *test_failures == 0) {
        unsigned char key[24];
        size_t n = 0, klen = key_in(key, (unsigned)(test_next(&rng) % WRITERS), (unsigned)(test_next(&rng) % keys()));
        int rc = shf_table_get(t, key, klen, out, sizeof out, &n);
        atomic_fetch_add_explicit(&counts->reads, 1, memory_order_relaxed);
        if (rc == SHF_OK) {
            atomic_fetch_add_explicit(&counts->found, 1, memory_order_relaxed);
            CHECK(value_check(out, n, key, klen, NULL));
        } else if (rc != SHF_NOT_FOUND) {
            FAIL("a reader failed: %d, %s", rc, shf_last_error()->message);
        }
    }
    shf_table_close(t);
}

static void write_all(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    static unsigned char val[MOST], out[MOST];
    uint64_t rng = test_seed ^ test_now_ns(), stamp[KEYS] = {0};
    size_t length[KEYS] = {0};
    unsigned char key[24], counter[24];
    struct shf_table *t = open_it(0);
    size_t clen = key_in(counter, me, 9000);
    for (unsigned i = 0; i < keys(); i++) { /* what the one before, who was killed, has left */
        size_t klen = key_in(key, me, i);
        int rc = shf_table_get(t, key, klen, out, sizeof out, &length[i]);
        CHECK(rc == SHF_NOT_FOUND || (rc == SHF_OK && value_check(out, length[i], key, klen, &stamp[i])));
    }
    while (!atomic_load(&counts->stop) && *test_failures == 0) {
        unsigned i = (unsigned)(test_next(&rng) % keys());
        size_t klen = key_in(key, me, i), n = 0;
        uint64_t r = test_next(&rng), s = 0;
        int rc, was = stamp[i] != 0;
        if (r % 8 < 5) {
            size_t vlen = fixed ? 8 : r >> 8 & 7 ? 16 + (r >> 16) % 1500 : 9000 + (r >> 16) % 20000;
            uint64_t next = (stamp[i] + 1) & 0x7fffffff;
            value_fill(val, vlen, key, klen, next == 0 ? 1 : next);
            rc = shf_table_put(t, key, klen, val, vlen, NULL);
            if (rc == SHF_OK) {
                stamp[i] = next == 0 ? 1 : next, length[i] = vlen;
                atomic_fetch_add_explicit(&counts->puts, 1, memory_order_relaxed);
            } else {
                CHECK(no_room(rc));
                CHECK(!fixed || !was); /* a value in its place needs no room */
                CHECK(strstr(shf_last_error()->message, path) != NULL);
                atomic_fetch_add_explicit(&counts->refused, 1, memory_order_relaxed);
            }
        } else if (r % 8 == 5) {
            rc = shf_table_del(t, key, klen);
            CHECK_EQ_INT(rc, was ? SHF_OK : SHF_NOT_FOUND);
            stamp[i] = 0;
            atomic_fetch_add_explicit(&counts->removes, 1, memory_order_relaxed);
        } else if (r % 8 == 6) {
            CHECK_EQ_INT(shf_table_add(t, counter, clen, 1, NULL), SHF_OK); /* it is there */
            atomic_fetch_add(&counts->counted[me], 1);
        } else if (!fixed) {
            size_t done = 0; /* more than the whole file system */
            static const unsigned char huge[6 << 20];
            struct shf_pair pair = {{"huge", 4}, {huge, sizeof huge}};
            CHECK_EQ_INT(shf_table_put_many(t, 1, &pair, &done), SHF_ERR_NO_SPACE);
            CHECK_EQ_INT(shf_table_contains(t, "huge", 4), SHF_NOT_FOUND);
        }
        rc = shf_table_get(t, key, klen, out, sizeof out, &n);
        CHECK_EQ_INT(rc, stamp[i] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK) CHECK(n == length[i] && value_check(out, n, key, klen, &s) && s == stamp[i]);
    }
    shf_table_close(t);
}

/* Takes what is left. */
static void take_space(void) {
    static const char page[4096] = {1};
    int fd = open(foreign, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (fd >= 0 && write(fd, page, sizeof page) > 0) {}
    if (fd >= 0) close(fd);
    atomic_fetch_add(&counts->foreign_files, 1);
}
static int entries_in_folder(void) {
    int n = -2;
    DIR *d = opendir(folder);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

/* A file system of 4 MB in a file, mounted over `folder`; goes with the namespace. */
static int mount_image(void) {
    char command[1000], image[180];
    snprintf(image, sizeof image, "%s-image", folder);
    snprintf(
        command, sizeof command,
        "truncate -s 4M %s && mkfs.ext4 -q -O ^has_journal -m 0 %s 2>/dev/null && mount -o loop %s %s 2>/dev/null && "
        "rmdir %s/lost+found",
        image, image, image, folder, folder);
    int rc = system(command);
    unlink(image);
    if (rc != 0) errno = EPERM;
    return rc;
}

/* 1 if the files are on a small disk now. */
static int small_disk(void) {
    snprintf(folder, sizeof folder, "%s", temp_path("full"));
    snprintf(path, sizeof path, "%s/t", folder);
    snprintf(foreign, sizeof foreign, "%s/foreign", folder);
    REQUIRE(mkdir(folder, 0700) == 0 || errno == EEXIST);
    if (own_mounts() != 0 ||
        (on_ext4 ? mount_image() : mount("tmpfs", folder, "tmpfs", 0, "size=2m,mode=700"))) {
        printf("# not run: cannot mount %s (%s)\n", on_ext4 ? "an ext4 image" : "a tmpfs", strerror(errno));
        return 0;
    }
    return 1;
}

static int enough_seen(void) {
    return atomic_load(&counts->found) > 0 && (SMALL || atomic_load(&counts->refused) > 0);
}
static void crowd(void *unused) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL, *other = NULL;
    pid_t writers[WRITERS], readers[READERS];
    uint64_t start = test_now_ns(), end = start + test_env("SHF_SECONDS", 2) * 1000000000u;
    (void)unused;
    if (!small_disk()) return;
    if (fixed) o.fixed_key = o.fixed_value = 8;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, &o, &t), SHF_OK);
    for (unsigned i = 0; i < WRITERS; i++) {
        unsigned char key[24];
        CHECK_EQ_INT(shf_table_add(t, key, key_in(key, i, 9000), 0, NULL), SHF_OK);
    }
    for (unsigned i = 0; i < WRITERS; i++) writers[i] = fork_child(write_all, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < READERS; i++) readers[i] = fork_child(read_all, (void *)(uintptr_t)i);
    for (unsigned round = 0; *test_failures == 0; round++) {
        uint64_t now = test_now_ns();
        if (now >= end && (enough_seen() || now >= start + HANG_MS * UINT64_C(1000000))) break;
        unsigned victim = (unsigned)(test_rng() % WRITERS);
        usleep((useconds_t)(2000 + test_rng() % 20000));
        if (round % 8 == 0) take_space();
        if (round % 8 == 5) unlink(foreign);
        if (round % 8 == 3) { /* no new file: nothing stays behind */
            char name[220];
            int there = entries_in_folder(), rc;
            snprintf(name, sizeof name, "%s/new", folder);
            rc = shf_table_open(name, SHF_CREATE, NULL, &other);
            CHECK(rc == SHF_OK || rc == SHF_ERR_NO_SPACE);
            if (rc == SHF_OK) CHECK_EQ_INT(shf_unlink(name), SHF_OK);
            shf_table_close(other);
            other = NULL;
            CHECK_EQ_INT(entries_in_folder(), there);
        }
        kill(writers[victim], SIGKILL);
        CHECK_EQ_INT(wait_child(writers[victim], 20000), CHILD_KILLED(SIGKILL));
        atomic_fetch_add(&counts->kills, 1);
        writers[victim] = fork_child(write_all, (void *)(uintptr_t)victim);
    }
    atomic_store(&counts->stop, 1);
    for (unsigned i = 0; i < WRITERS; i++) CHECK_EQ_INT(wait_child(writers[i], 20000), 0);
    for (unsigned i = 0; i < READERS; i++) CHECK_EQ_INT(wait_child(readers[i], 20000), 0);
    for (unsigned i = 0; i < WRITERS; i++) { /* a killed one may have added and not yet counted */
        unsigned char key[24];
        uint64_t value = 0, counted = atomic_load(&counts->counted[i]);
        size_t n = 0;
        CHECK_EQ_INT(shf_table_get(t, key, key_in(key, i, 9000), &value, 8, &n), SHF_OK);
        CHECK(value >= counted && value <= counted + atomic_load(&counts->kills));
    }
    table_clean(t);
    /* Full to the last page; then without the foreign file, then with removals, puts work again. */
    unsigned char key[24], val[1000];
    unsigned stored = 0;
    int rc = SHF_OK;
    take_space();
    for (unsigned i = 30000; rc == SHF_OK; i++) {
        size_t klen = key_in(key, 0, i);
        value_fill(val, fixed ? 8 : 1000, key, klen, 1);
        rc = shf_table_put(t, key, klen, val, fixed ? 8 : 1000, NULL);
    }
    CHECK(no_room(rc));
    struct stat taken;
    REQUIRE(stat(foreign, &taken) == 0 && unlink(foreign) == 0);
    for (unsigned i = 1000000; i < 1000020; i++) {
        size_t klen = key_in(key, 0, i);
        value_fill(val, fixed ? 8 : 1000, key, klen, 1);
        stored += shf_table_put(t, key, klen, val, fixed ? 8 : 1000, NULL) == SHF_OK;
    }
    if (taken.st_blocks >= 128 && !fixed) CHECK(stored > 0); /* the table may have had all the space already */
    CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
    for (unsigned i = 0; i < 50; i++) {
        size_t klen = key_in(key, 0, i);
        value_fill(val, 8, key, klen, 1);
        CHECK_EQ_INT(shf_table_put(t, key, klen, val, 8, NULL), SHF_OK);
    }
    CHECK_EQ_INT(table_clean(t), 50);
    shf_table_close(t);
    printf(
        "# total: %llu puts and %llu removes beside %llu reads on a full %s%s; %llu puts refused, %llu writers killed, "
        "%llu times filled up by another file; 0 readers failed, 0 SIGBUS, 0 lost\n",
        (unsigned long long)atomic_load(&counts->puts), (unsigned long long)atomic_load(&counts->removes),
        (unsigned long long)atomic_load(&counts->reads), on_ext4 ? "ext4 of 4 MB" : "tmpfs of 2 MB",
        fixed ? ", fixed lengths" : "", (unsigned long long)atomic_load(&counts->refused),
        (unsigned long long)atomic_load(&counts->kills), (unsigned long long)atomic_load(&counts->foreign_files));
    CHECK(enough_seen());
}

static void on_a_full_disk(int of_fixed, int ext4) {
    fixed = of_fixed, on_ext4 = ext4;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(counts != MAP_FAILED);
    CHECK_EQ_INT(run_child(crowd, NULL, 120000), 0);
    rmdir(temp_path("full"));
    munmap(counts, 4096);
    on_ext4 = 0;
}
TEST(variable) { on_a_full_disk(0, 0); }
TEST(fixed_lengths) { on_a_full_disk(1, 0); }
TEST(on_ext4_image) { on_a_full_disk(0, 1); }

/* A hole made by somebody else's hand is storage that is gone: outside of what can be promised (a later touch may be
 * fatal). But who opens such a file fills it, and who cannot says so. */
static void holes(void *unused) {
    struct shf_table *t = NULL;
    static unsigned char val[500000] = {7};
    (void)unused;
    if (!small_disk()) return;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    for (uint32_t i = 0; i < 50; i++) REQUIRE_EQ_INT(shf_table_put(t, &i, 4, val, 1000, NULL), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "large", 5, val, sizeof val, NULL), SHF_OK);
    CHECK_EQ_INT(shf_table_clear(t), SHF_OK); /* so what lies at the end is nobody's */
    shf_table_close(t);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    REQUIRE(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, st.st_size - (256 << 10), 256 << 10) == 0);
    close(fd);
    take_space();
    CHECK_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_ERR_NO_SPACE);
    CHECK(strstr(shf_last_error()->message, "holes") != NULL);
    CHECK_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &t), SHF_ERR_CORRUPT);
    CHECK(strstr(shf_last_error()->message, "sparse") != NULL);
    REQUIRE(unlink(foreign) == 0);
    REQUIRE_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 0);
    for (uint32_t i = 0; i < 50; i++) CHECK_EQ_INT(shf_table_put(t, &i, 4, val, 1000, NULL), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 50);
    shf_table_close(t);
}
TEST(holes_on_a_full_disk) {
    CHECK_EQ_INT(run_child(holes, NULL, 60000), 0);
    rmdir(temp_path("full"));
}

int main(int argc, char **argv) { return run(argc, argv); }
