/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_region.c - region.c: files that are made, found, refused; sizes, limits, races, leaks
 *
 * Every test ends with as many descriptors and as many mappings of its files as it began with (G3): see SAME.
 * Some need root (mounts, other owners): without it they say so and pass. What each system call's failure does is
 * faults_region.c's, what a death does crash_region.c's.
 */
#include "region_fixture.h"

#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
/* ---- create ---- */

TEST(a_new_file) {
    SAME;
    struct shf_region r;
    struct os_stat st;
    const char *path = temp_path("new");
    int created = 7;
    mode_t before = umask(0777);
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, &created), SHF_OK);
    umask(before);
    CHECK_EQ_INT(created, 1);
    REQUIRE(os_stat(path, &st) == 0);
    CHECK_EQ_INT(st.mode & 07777, 0600);
    CHECK_EQ_INT(st.size, INITIAL);
    CHECK_EQ_INT(st.nlink, 1);
    CHECK(st.blocks * 512 >= st.size);
    CHECK(st.dev == r.dev && st.ino == r.ino && r.mode == 0600);
    CHECK(strcmp(r.path, path) == 0 && r.path != path);
    CHECK(!r.read_only && !r.is_memfd);
    CHECK_EQ_INT(atomic_load(&r.size), INITIAL);
    CHECK_EQ_INT(r.reserved, r.max_bytes);
    CHECK_EQ_INT((uintptr_t)r.base % OS_HUGE_PAGE, 0);
    CHECK_EQ_INT(files_in_folder(), 1);

    struct shf_shm_header *h = r.header;
    CHECK(h->magic == SHF_MAGIC && h->format == SHF_FORMAT && h->kind == SHF_KIND_TABLE && h->features == 0);
    CHECK(memcmp(&h->magic, "SHGION01", 8) == 0);
    CHECK(h->byte_order == SHF_BYTE_ORDER_MARK && h->page_size == 4096 && h->geometry == SHF_GEOMETRY);
    CHECK(h->seed[0] != 0 && h->seed[1] != 0 && h->seed[0] != h->seed[1]);
    CHECK(h->hash == SHF_HASH_FOLDED && h->mode == 0600 && h->fixed_key == 0 && h->fixed_value == 0);
    uint64_t twice = 2 * os_ram_bytes() / 4096 * 4096;
    CHECK(h->max_bytes == r.max_bytes && h->max_bytes % 4096 == 0);
    CHECK(h->max_bytes == UINT64_C(1) << 41 || (h->max_bytes >= twice && h->max_bytes <= twice + 4096));
    CHECK(h->object_pages == OBJECT_PAGES && h->checksum == shf__checksum(h, 120));
    CHECK_EQ_INT(shm_load_acquire(&h->end), INITIAL);
    CHECK(h->grow_word == 0 && h->alloc_word == 0 && h->hand == 0 && h->reserve == 0 && h->sequence == 0);
    CHECK(h->dirty == 0 && h->boot_id[0] == 0 && h->dev == 0 && h->ino == 0);

    const uint32_t *root = (const uint32_t *)(void *)(r.base + SHF_ROOT_PAGE * SHF_PAGE);
    const uint32_t *middle = (const uint32_t *)(void *)(r.base + SHF_MIDDLE_PAGE * SHF_PAGE);
    struct shf_shm_map_entry *map = (struct shf_shm_map_entry *)(void *)(r.base + SHF_MAP_PAGE * SHF_PAGE);
    CHECK(root[0] == SHF_MIDDLE_PAGE && middle[0] == SHF_MAP_PAGE);
    for (uint32_t i = 1; i < SHF_ROOT_ENTRIES; i++) CHECK_EQ_INT(root[i], 0);
    for (uint32_t i = 1; i < SHF_MIDDLE_ENTRIES; i++) CHECK_EQ_INT(middle[i], 0);
    static const uint32_t runs[][2] = {{0, 1}, {1, 8}, {9, 2}, {11, 2}, {13, 1}, {14, 1}, {15, OBJECT_PAGES}};
    uint32_t at = 0;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        CHECK_EQ_INT(at, runs[i][0]); /* P1 */
        CHECK(map[at].word == shf_page_word(SHF_PAGE_FIXED, 0, runs[i][1]));
        for (uint32_t j = 1; j < runs[i][1]; j++) CHECK(map[at + j].word == shf_page_word(SHF_PAGE_INTERIOR, 0, j));
        at += runs[i][1];
    }
    CHECK_EQ_INT((uint64_t)at * SHF_PAGE, INITIAL);
    for (; at < SHF_MAP_ENTRIES; at++) CHECK(map[at].word == 0);
    for (uint32_t i = 0; i < SHF_MAP_ENTRIES; i++) CHECK(map[i].aux == 0);
    for (uint32_t i = SHF_PAGE; i < SHF_ROOT_PAGE * SHF_PAGE; i++) CHECK(r.base[i] == 0);
    for (uint32_t i = SHF_OBJECT_PAGE * SHF_PAGE; i < INITIAL; i++) CHECK(r.base[i] == 0);
    shf__region_close(&r);
    CHECK(r.base == NULL && r.fd == -1);
}

TEST(modes_and_options) {
    SAME;
    struct shf_region_params p = {SHF_KIND_TABLE, 0664, 5 * MIB + 1, 4, 8, SHF_HASH_SIPHASH13, 1, NULL, NULL, NULL};
    struct shf_region r;
    struct os_stat st;
    const char *path = temp_path("options");
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE | SHF_EXCL, &p, NULL), SHF_OK);
    CHECK(os_stat(path, &st) == 0 && (st.mode & 07777) == 0664 && r.mode == 0664);
    CHECK(r.max_bytes == 5 * MIB + 4096 && r.reserved == r.max_bytes && r.header->mode == 0664);
    CHECK(r.header->fixed_key == 4 && r.header->fixed_value == 8 && r.header->hash == 1 && r.header->object_pages == 1);
    shf__region_close(&r);

    struct shf_region_params q = {.kind = SHF_KIND_TABLE, .object_pages = 1};
    CHECK_EQ_INT(try_open(path, 0, &q), SHF_OK); /* unset: the file's own */
    CHECK_EQ_INT(try_open(path, SHF_CREATE, &q), SHF_OK);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &p), SHF_OK); /* all set, all equal (5 MiB + 1 rounds up) */
    q.max_bytes = 6 * MIB;
    REFUSED(try_open(path, 0, &q), SHF_ERR_INCOMPATIBLE, path, "max_bytes 5246976");
    CHECK(says("6291456"));
    q.max_bytes = 0, q.fixed_key = 5;
    REFUSED(try_open(path, 0, &q), SHF_ERR_INCOMPATIBLE, path, "4, 8 in the file, but 5, 0 were");
    q.fixed_key = 4, q.fixed_value = 9;
    REFUSED(try_open(path, 0, &q), SHF_ERR_INCOMPATIBLE, path, "4, 8 in the file, but 4, 9 were");
    q.fixed_key = q.fixed_value = 0, q.hash = SHF_HASH_FOLDED;
    REFUSED(try_open(path, SHF_CREATE, &q), SHF_ERR_INCOMPATIBLE, path, "hash 1");

    path = temp_path("invalid");
    p = plain, p.hash = 3;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "hash 3");
    p = plain, p.mode = 01777;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "mode");
    p = plain, p.max_bytes = (UINT64_C(1) << 41) + 1;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "2 TiB");
    p.max_bytes = UINT64_MAX;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "2 TiB");
    p.max_bytes = INITIAL + 65536 - 4096;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "too small");
    p = plain, p.object_pages = 0;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "pages");
    p.object_pages = SHF_MAP_ENTRIES - SHF_OBJECT_PAGE + 1;
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_INVALID, path, "pages");
    REFUSED(try_open(NULL, 0, &plain), SHF_ERR_INVALID, "", "NULL");
    REFUSED(try_open(path, 8, &plain), SHF_ERR_INVALID, path, "flags 0x8");
    REFUSED(try_open(path, SHF_EXCL, &plain), SHF_ERR_INVALID, path, "contradict");
    REFUSED(try_open(path, SHF_CREATE | SHF_RDONLY, &plain), SHF_ERR_INVALID, path, "contradict");
    CHECK_EQ_INT(files_in_folder(), 1);
    p = plain, p.max_bytes = INITIAL + 65536;
    CHECK_EQ_INT(try_open(path, SHF_CREATE, &p), SHF_OK);
    p.max_bytes = UINT64_C(1) << 41;
    CHECK_EQ_INT(try_open(temp_path("largest"), SHF_CREATE, &p), SHF_OK);
}

TEST(exists_and_does_not) {
    SAME;
    const char *path = temp_path("a");
    REFUSED(try_open(path, 0, &plain), SHF_ERR_NOT_FOUND, path, path);
    REFUSED(try_open(path, SHF_RDONLY, &plain), SHF_ERR_NOT_FOUND, path, path);
    CHECK_EQ_INT(shf_last_error()->os_error, ENOENT);
    CHECK_EQ_INT(try_open(path, SHF_CREATE | SHF_EXCL, &plain), SHF_OK);
    REFUSED(try_open(path, SHF_CREATE | SHF_EXCL, &plain), SHF_ERR_EXISTS, path, "exists");
    CHECK_EQ_INT(try_open(path, SHF_CREATE, &plain), SHF_OK);
    CHECK_EQ_INT(try_open(path, 0, &plain), SHF_OK);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK);
    REFUSED(try_open("/nowhere/at/all", SHF_CREATE, &plain), SHF_ERR_NOT_FOUND, "/nowhere/at/all", "folder");
    REFUSED(try_open(temp_path("a/b"), SHF_CREATE, &plain), SHF_ERR_INVALID_PATH, NULL, "not a folder");
    REFUSED(try_open("", SHF_CREATE, &plain), SHF_ERR_INVALID_PATH, "", "does not name");
    REFUSED(try_open(temp_path("b/"), SHF_CREATE, &plain), SHF_ERR_INVALID_PATH, NULL, "does not name");
    char longest[300], far[5000];
    memset(longest, 'n', sizeof longest - 1), longest[sizeof longest - 1] = 0;
    snprintf(far, sizeof far, "%s/%s", test_dir, longest);
    REFUSED(try_open(far, SHF_CREATE, &plain), SHF_ERR_INVALID_PATH, far, "too long");
    REFUSED(try_open(far, 0, &plain), SHF_ERR_INVALID_PATH, far, "too long");
    memset(far, '/', sizeof far - 1), far[0] = 'x', far[sizeof far - 2] = 'x', far[sizeof far - 1] = 0;
    REFUSED(try_open(far, SHF_CREATE, &plain), SHF_ERR_INVALID_PATH, NULL, "too long");
}

TEST(relative_paths) {
    SAME;
    char here[1000];
    temp_path("");
    REQUIRE(getcwd(here, sizeof here) != NULL && chdir(test_dir) == 0);
    CHECK_EQ_INT(try_open("relative", SHF_CREATE | SHF_EXCL, &plain), SHF_OK);
    CHECK_EQ_INT(try_open("./relative", 0, &plain), SHF_OK);
    CHECK_EQ_INT(shf__region_unlink("relative"), SHF_OK);
    REQUIRE(chdir(here) == 0);
}

/* ---- what is refused ---- */

TEST(only_regular_files) {
    SAME;
    const char *path, *target = made("target");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const unsigned flags[] = {0, SHF_RDONLY, SHF_CREATE};
    for (size_t i = 0; i < 3; i++) {
        REFUSED(try_open(test_dir, flags[i], &plain), SHF_ERR_INVALID_PATH, test_dir, "is a folder");
        REFUSED(try_open("/dev/null", flags[i], &plain), SHF_ERR_INVALID_PATH, "/dev/null", "is a character device");
    }
    path = temp_path("link");
    REQUIRE(symlink(target, path) == 0);
    for (size_t i = 0; i < 3; i++)
        REFUSED(try_open(path, flags[i], &plain), SHF_ERR_INVALID_PATH, path, "is a symbolic link");
    REQUIRE(unlink(path) == 0 && symlink("/nowhere/at/all", path) == 0);
    for (size_t i = 0; i < 3; i++)
        REFUSED(try_open(path, flags[i], &plain), SHF_ERR_INVALID_PATH, path, "is a symbolic link");
    path = temp_path("fifo");
    REQUIRE(mkfifo(path, 0600) == 0);
    for (size_t i = 0; i < 3; i++) REFUSED(try_open(path, flags[i], &plain), SHF_ERR_INVALID_PATH, path, "is a FIFO");
    path = temp_path("socket");
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(s >= 0 && bind(s, (struct sockaddr *)&address, sizeof address) == 0);
    for (size_t i = 0; i < 3; i++) REFUSED(try_open(path, flags[i], &plain), SHF_ERR_INVALID_PATH, path, "is a socket");
    close(s);
    path = temp_path("hard");
    REQUIRE(link(target, path) == 0);
    for (size_t i = 0; i < 3; i++) REFUSED(try_open(path, flags[i], &plain), SHF_ERR_INVALID_PATH, path, "2 names");
    REFUSED(try_open(target, 0, &plain), SHF_ERR_INVALID_PATH, target, "2 names");
    REQUIRE(unlink(path) == 0);
    CHECK_EQ_INT(try_open(target, 0, &plain), SHF_OK);
}

static const char *sample(const char *name, const void *bytes, size_t n) {
    const char *path = temp_path(name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
    return path;
}

TEST(headers_that_do_not_fit) {
    SAME;
    static const unsigned flags[] = {0, SHF_RDONLY, SHF_CREATE};
    const char *path = made("header");
    struct shf_shm_header good, h;
    static const uint64_t magic = SHF_MAGIC, other_end = __builtin_bswap64(SHF_MAGIC);
    read_header(path, &good);
    for (size_t f = 0; f < 3; f++) {
#define WRONG(field, value, seal, code, part)                                                                          \
    do {                                                                                                               \
        h = good;                                                                                                      \
        h.field = (value);                                                                                             \
        write_header(path, &h, seal);                                                                                  \
        REFUSED(try_open(path, flags[f], &plain), code, path, part);                                                   \
    } while (0)
        for (int seal = 0; seal < 2; seal++) {
            WRONG(magic, 5, seal, SHF_ERR_INCOMPATIBLE, "is not a shf file");
            WRONG(magic, other_end, seal, SHF_ERR_INCOMPATIBLE, "other byte order");
            WRONG(format, 1, seal, SHF_ERR_INCOMPATIBLE, "format version 1 (0x1), expected 2");
            WRONG(kind, SHF_KIND_QUEUES, seal, SHF_ERR_INCOMPATIBLE, "is a queue set, not a table");
            WRONG(kind, 9, seal, SHF_ERR_INCOMPATIBLE, "of a later version, not a table");
            WRONG(features, 1, seal, SHF_ERR_INCOMPATIBLE, "feature bits 1");
            WRONG(byte_order, 0x04030201, seal, SHF_ERR_INCOMPATIBLE, "byte order mark");
            WRONG(page_size, 16384, seal, SHF_ERR_INCOMPATIBLE, "page unit 16384");
            WRONG(geometry, SHF_GEOMETRY + 1, seal, SHF_ERR_INCOMPATIBLE, "geometry");
        }
        WRONG(object_pages, 17, 0, SHF_ERR_CORRUPT, "checksum");
        WRONG(object_pages, 17, 1, SHF_ERR_INCOMPATIBLE, "object pages 17");
        WRONG(object_pages, SHF_MAP_ENTRIES - SHF_OBJECT_PAGE + 1, 1, SHF_ERR_INCOMPATIBLE, "object pages 242");
        WRONG(seed[0], good.seed[0] ^ 1, 0, SHF_ERR_CORRUPT, "checksum");
        WRONG(reserved[4], 1, 0, SHF_ERR_CORRUPT, "checksum");
        WRONG(checksum, good.checksum ^ 1, 0, SHF_ERR_CORRUPT, "checksum");
        WRONG(hash, 3, 1, SHF_ERR_INCOMPATIBLE, "unknown hash 3");
        WRONG(hash, 0, 1, SHF_ERR_INCOMPATIBLE, "unknown hash 0");
        WRONG(max_bytes, 0, 1, SHF_ERR_CORRUPT, "max_bytes");
        WRONG(max_bytes, good.max_bytes + 8, 1, SHF_ERR_CORRUPT, "max_bytes");
        WRONG(max_bytes, (UINT64_C(1) << 41) + 4096, 1, SHF_ERR_CORRUPT, "max_bytes");
        WRONG(max_bytes, INITIAL - 4096, 1, SHF_ERR_CORRUPT, "max_bytes");
        WRONG(end, 0, 1, SHF_ERR_CORRUPT, "end");
        WRONG(end, INITIAL - 4096, 1, SHF_ERR_CORRUPT, "end");
        WRONG(end, INITIAL + 8, 1, SHF_ERR_CORRUPT, "end");
        WRONG(end, good.max_bytes + 4096, 1, SHF_ERR_CORRUPT, "end");
        WRONG(end, UINT64_MAX, 1, SHF_ERR_CORRUPT, "end");
        WRONG(end, INITIAL + 4096, 1, SHF_ERR_CORRUPT, "truncated");
        write_header(path, &good, 0);
        CHECK_EQ_INT(try_open(path, flags[f], &plain), SHF_OK);
    }
    for (size_t f = 0; f < 3; f++) {
        const char *p = sample("empty", "", 0);
        REFUSED(try_open(p, flags[f], &plain), SHF_ERR_INCOMPATIBLE, p, "is not a shf file (0 bytes");
        p = sample("short", "abc", 3);
        REFUSED(try_open(p, flags[f], &plain), SHF_ERR_INCOMPATIBLE, p, "is not a shf file (3 bytes");
        p = sample("text", "This is a text of more than eight bytes", 39);
        REFUSED(try_open(p, flags[f], &plain), SHF_ERR_INCOMPATIBLE, p, "is not a shf file (39 bytes");
        p = sample("magic", &magic, 8);
        REFUSED(try_open(p, flags[f], &plain), SHF_ERR_CORRUPT, p, "truncated");
    }
    for (off_t size = 0; size < INITIAL; size += 3000) {
        REQUIRE(truncate(path, size) == 0);
        REFUSED(try_open(path, 0, &plain), size < 8 ? SHF_ERR_INCOMPATIBLE : SHF_ERR_CORRUPT, path, "");
        REQUIRE(truncate(path, INITIAL) == 0);
        write_header(path, &good, 0);
    }
}

TEST(sparse_files) {
    SAME;
    const char *path = made("sparse");
    struct os_stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SHF_OBJECT_PAGE * SHF_PAGE, 3 * SHF_PAGE) == 0);
    REQUIRE(os_fstat(fd, &st) == 0 && st.blocks * 512 < st.size);
    REFUSED(try_open(path, SHF_RDONLY, &plain), SHF_ERR_CORRUPT, path, "sparse");
    CHECK_EQ_INT(try_open(path, 0, &plain), SHF_OK);
    REQUIRE(os_fstat(fd, &st) == 0);
    CHECK(st.blocks * 512 >= st.size && st.size == INITIAL);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK);
    /* longer than `end`: a grower died */
    REQUIRE(os_fallocate(fd, INITIAL, 65536) == 0);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK);
    /* a sparse tail beyond `end` is not filled: it costs no memory, and no endless loop */
    REQUIRE(ftruncate(fd, (off_t)1 << 50) == 0);
    struct shf_shm_header h;
    read_header(path, &h);
    h.max_bytes = MIB;
    write_header(path, &h, 1);
    CHECK_EQ_INT(try_open(path, 0, &plain), SHF_OK);
    REQUIRE(os_fstat(fd, &st) == 0);
    CHECK(st.blocks * 512 >= INITIAL + 65536 && st.blocks * 512 < MIB);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK); /* a reader meets nothing beyond `end` */
    close(fd);
}

static const char *owned_path;
static void as_user_1000(void *unused) {
    struct shf_region_params p = plain;
    (void)unused;
    REQUIRE(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
    CHECK_EQ_INT(try_open(owned_path, 0, &p), SHF_OK); /* root's, 0666: root is trusted */
    const char *theirs = temp_path("theirs"), *readable = temp_path("readable"), *closed = temp_path("closed");
    const char *mine = temp_path("mine");
    REFUSED(try_open(theirs, 0, &p), SHF_ERR_PERMISSION, theirs, "belongs to user 1234 (this is user 1000)");
    CHECK(says("0666"));
    REFUSED(try_open(theirs, SHF_RDONLY, &p), SHF_ERR_PERMISSION, theirs, "belongs to user 1234");
    CHECK_EQ_INT(try_open(mine, 0, &p), SHF_OK);
    p.mode = 0620;
    REFUSED(try_open(theirs, 0, &p), SHF_ERR_PERMISSION, theirs, "grants only 020");
    p.mode = 0666;
    CHECK_EQ_INT(try_open(theirs, 0, &p), SHF_OK);
    REFUSED(try_open(readable, 0, &p), SHF_ERR_PERMISSION, readable, "permission denied");
    CHECK_EQ_INT(try_open(readable, SHF_RDONLY, &p), SHF_OK);
    REFUSED(try_open(closed, SHF_RDONLY, &p), SHF_ERR_PERMISSION, closed, "permission denied");
    REFUSED(try_open("/etc/shf-test", SHF_CREATE, &p), SHF_ERR_PERMISSION, "/etc/shf-test", "permission denied");
    REFUSED(shf__region_unlink(closed), SHF_ERR_PERMISSION, closed, "permission denied");
    REFUSED(shf__region_unlink(readable), SHF_ERR_PERMISSION, readable, ""); /* the folder is root's */
}
TEST(owners_and_rights) {
    SAME;
    if (geteuid() != 0) {
        printf("       (skipped: needs root)\n");
        return;
    }
    struct shf_region_params p = plain;
    static const struct {
        const char *name;
        uid_t uid;
        mode_t mode;
    } files[] = {{"roots", 0, 0666},
                 {"theirs", 1234, 0666},
                 {"readable", 1234, 0644},
                 {"closed", 0, 0600},
                 {"mine", 1000, 0666}};
    temp_path("");
    REQUIRE(chmod(test_dir, 0755) == 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = made(files[i].name);
        if (chown(path, files[i].uid, 1234) != 0 && errno == EINVAL) {
            printf("  skipped: this user namespace has no other users\n");
            return;
        }
        REQUIRE(chown(path, files[i].uid, 1234) == 0 && chmod(path, files[i].mode) == 0);
    }
    owned_path = temp_path("roots");
    CHECK_EQ_INT(run_child(as_user_1000, NULL, 20000), 0);
    /* this process is user 0 */
    REFUSED(try_open(temp_path("theirs"), 0, &p), SHF_ERR_PERMISSION, NULL, "belongs to user 1234 (this is user 0)");
    REFUSED(try_open(temp_path("theirs"), SHF_CREATE, &p), SHF_ERR_PERMISSION, NULL, "belongs to user 1234");
    CHECK_EQ_INT(try_open(temp_path("readable"), 0, &p), SHF_OK); /* nobody but its owner can write it */
    p.mode = 0666;
    CHECK_EQ_INT(try_open(temp_path("theirs"), 0, &p), SHF_OK);
    REQUIRE(chmod(test_dir, 0700) == 0);
}

static void on_mounts(void *unused) {
    char path[200];
    struct os_stat st;
    (void)unused;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        printf("       (skipped: no mounts here)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/m", test_dir);
    REQUIRE(mkdir(path, 0700) == 0 || errno == EEXIST);
    REQUIRE(mount("shf", path, "ramfs", 0, NULL) == 0);
    snprintf(path, sizeof path, "%s/m/t", test_dir);
    REFUSED(try_open(path, SHF_CREATE, &plain), SHF_ERR_UNSUPPORTED, path, "is on ramfs");
    CHECK(os_stat(path, &st) == -ENOENT);
    close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REFUSED(try_open(path, 0, &plain), SHF_ERR_UNSUPPORTED, path, "is on ramfs");
    snprintf(path, sizeof path, "%s/m", test_dir);
    REQUIRE(umount(path) == 0 && mount("shf", path, "tmpfs", 0, "size=64k") == 0);
    snprintf(path, sizeof path, "%s/m/t", test_dir);
    REFUSED(try_open(path, SHF_CREATE, &plain), SHF_ERR_NO_SPACE, path, "no space");
    CHECK(os_stat(path, &st) == -ENOENT);
    snprintf(path, sizeof path, "%s/m", test_dir);
    REQUIRE(mount(NULL, path, NULL, MS_REMOUNT, "size=1m") == 0);
    snprintf(path, sizeof path, "%s/m/t", test_dir);
    CHECK_EQ_INT(try_open(path, SHF_CREATE, &plain), SHF_OK);
    snprintf(path, sizeof path, "%s/m", test_dir);
    REQUIRE(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    snprintf(path, sizeof path, "%s/m/t", test_dir);
    REFUSED(try_open(path, 0, &plain), SHF_ERR_READ_ONLY, path, "read-only");
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK);
    snprintf(path, sizeof path, "%s/m/u", test_dir);
    REFUSED(try_open(path, SHF_CREATE, &plain), SHF_ERR_READ_ONLY, path, "read-only");
    snprintf(path, sizeof path, "%s/m/t", test_dir);
    REFUSED(shf__region_unlink(path), SHF_ERR_READ_ONLY, path, "read-only");
    snprintf(path, sizeof path, "%s/m", test_dir);
    REQUIRE(umount(path) == 0);
}
TEST(file_systems) {
    SAME;
    char path[200];
    if (geteuid() != 0) {
        printf("       (skipped: needs root)\n");
        return;
    }
    CHECK_EQ_INT(run_child(on_mounts, NULL, 20000), 0);
    snprintf(path, sizeof path, "%s/m", test_dir);
    rmdir(path);
}

TEST(on_disk) {
    SAME;
    char folder[] = "/var/tmp/shf-test-XXXXXX", path[100];
    struct shf_region r;
    struct os_stat st;
    int created;
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/t", folder);
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, &created), SHF_OK);
    CHECK_EQ_INT(created, 1);
    CHECK(os_stat(path, &st) == 0 && st.blocks * 512 >= st.size);
    CHECK_EQ_INT(try_open(path, SHF_RDONLY, &plain), SHF_OK);
    shf__region_close(&r);
    CHECK_EQ_INT(shf__region_unlink(path), SHF_OK);
    CHECK(rmdir(folder) == 0);
}

/* ---- limits ---- */

static void little_address_space(void *unused) {
    struct shf_region_params p = sized(UINT64_C(1) << 41);
    struct shf_region r, full;
    struct rlimit limit;
    const char *path = temp_path("wide");
    (void)unused;
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    REQUIRE(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    REQUIRE_EQ_INT(shf__region_open(&full, path, SHF_CREATE, &p, NULL), SHF_OK);
    CHECK_EQ_INT(full.reserved, UINT64_C(1) << 41);
    shf__region_close(&full);
    limit.rlim_cur = limit.rlim_max = pages * 4096 + 64 * MIB;
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE_EQ_INT(shf__region_open(&r, path, 0, &p, NULL), SHF_OK);
    CHECK(r.reserved >= 8 * MIB && r.reserved <= 64 * MIB && r.reserved % 4096 == 0 &&
          r.max_bytes == UINT64_C(1) << 41);
    /* the file grows beyond what could be reserved */
    REQUIRE(os_fallocate(r.fd, 0, 96 * MIB) == 0);
    CHECK_EQ_INT(shf__region_corrupt(&r, "test", 0), SHF_ERR_CORRUPT);
    shm_store_release(&r.header->end, 96 * MIB);
    CHECK_EQ_INT(shf__region_refresh(&r), 1);
    CHECK_EQ_INT(atomic_load(&r.size), r.reserved);
    CHECK_EQ_INT(shf__region_refresh(&r), 0);
    CHECK(shf__region_at(&r, r.reserved - 8, 8) != NULL && shf__region_at(&r, r.reserved, 8) == NULL);
    REFUSED(shf__region_corrupt(&r, "test", r.reserved), SHF_ERR_ADDRESS_SPACE, path, "beyond");
    shf__region_close(&r);
    REFUSED(try_open(path, 0, &p), SHF_ERR_ADDRESS_SPACE, path, "address space");
    CHECK_EQ_INT(shf__region_open(&r, temp_path("other"), SHF_CREATE, &p, NULL), SHF_OK);
    shf__region_close(&r);
    REQUIRE(mmap(NULL, 63 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    while (mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {}
    path = temp_path("third");
    REFUSED(try_open(path, SHF_CREATE, &p), SHF_ERR_ADDRESS_SPACE, path, "address space");
    struct os_stat st;
    CHECK(os_stat(path, &st) == -ENOENT);
}
TEST(address_space) {
    SAME;
    if (TEST_SANITIZED) return; /* the sanitizer's own terabytes */
    CHECK_EQ_INT(run_child(little_address_space, NULL, 20000), 0);
}

static void little_file_size(void *unused) {
    struct rlimit limit = {INITIAL - 1, RLIM_INFINITY};
    const char *path = temp_path("limited");
    (void)unused;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ_INT(os_file_size_limit(), INITIAL - 1);
    REFUSED(try_open(path, SHF_CREATE, &plain), SHF_ERR_NO_SPACE, path, "RLIMIT_FSIZE");
    struct shf_region r;
    REFUSED(shf__region_anonymous(&r, "x", &plain), SHF_ERR_NO_SPACE, "memfd:x", "RLIMIT_FSIZE");
    limit.rlim_cur = INITIAL;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ_INT(try_open(path, SHF_CREATE, &plain), SHF_OK);
}
TEST(file_size_limit) {
    SAME;
    CHECK(os_file_size_limit() == UINT64_MAX);
    CHECK_EQ_INT(run_child(little_file_size, NULL, 20000), 0); /* SIGXFSZ would end it */
}

static void no_descriptors(void *unused) {
    const char *path = temp_path("there"), *other = temp_path("other");
    struct shf_region r;
    struct rlimit limit;
    (void)unused;
    REQUIRE_EQ_INT(try_open(path, SHF_CREATE, &plain), SHF_OK);
    REQUIRE_EQ_INT(shf__region_anonymous(&r, "shf-test", &plain), SHF_OK);
    int fd = dup(0);
    close(fd);
    limit.rlim_cur = limit.rlim_max = (rlim_t)fd;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct shf_region q;
    REFUSED(try_open(path, 0, &plain), SHF_ERR_IO, path, "too many open files");
    CHECK_EQ_INT(shf_last_error()->os_error, EMFILE);
    REFUSED(try_open(other, SHF_CREATE, &plain), SHF_ERR_IO, other, "too many open files");
    REFUSED(shf__region_anonymous(&q, "m", &plain), SHF_ERR_IO, "memfd:m", "too many open files");
    REFUSED(shf__region_from_fd(&q, r.fd, &plain), SHF_ERR_IO, "memfd:shf-test", "too many open files");
    REFUSED(shf__region_unlink(path), SHF_ERR_IO, path, "too many open files");
    shf__region_close(&r);
    CHECK_EQ_INT(try_open(path, 0, &plain), SHF_OK); /* one is enough */
}
TEST(descriptor_limit) {
    SAME;
    CHECK_EQ_INT(run_child(no_descriptors, NULL, 20000), 0);
}

/* ---- memory files and descriptors ---- */

TEST(anonymous) {
    SAME;
    struct shf_region r, q;
    REQUIRE_EQ_INT(shf__region_anonymous(&r, "shf-test-anon", &plain), SHF_OK);
    CHECK(strcmp(r.path, "memfd:shf-test-anon") == 0 && r.is_memfd && !r.read_only && r.mode == 0600);
    CHECK((fcntl(r.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(ftruncate(r.fd, INITIAL - 4096) < 0 && errno == EPERM);
    CHECK_EQ_INT(os_seal(r.fd, F_SEAL_GROW), -EPERM);
    CHECK_EQ_INT(shf__region_replaced(&r), 0);
    CHECK_EQ_INT(os_fallocate(r.fd, INITIAL, 65536), 0);

    REQUIRE_EQ_INT(shf__region_from_fd(&q, r.fd, &plain), SHF_OK);
    CHECK(strcmp(q.path, "memfd:shf-test-anon") == 0 && q.is_memfd && !q.read_only && q.fd != r.fd);
    CHECK(q.dev == r.dev && q.ino == r.ino && q.max_bytes == r.max_bytes);
    shm_store_release(&q.header->end, INITIAL + 65536);
    CHECK(shf__region_at(&r, INITIAL, 65536) != NULL && shf__region_at(&q, INITIAL, 65536) != NULL);
    q.base[INITIAL] = 42;
    CHECK_EQ_INT(r.base[INITIAL], 42);
    shf__region_close(&q);

    int ro = os_open_fd(r.fd, O_RDONLY);
    REQUIRE(ro >= 0);
    REQUIRE_EQ_INT(shf__region_from_fd(&q, ro, &plain), SHF_OK);
    CHECK(q.read_only && q.base[INITIAL] == 42 && atomic_load(&q.size) == INITIAL + 65536);
    CHECK(mprotect(q.base, 4096, PROT_READ | PROT_WRITE) < 0);
    shf__region_close(&q);
    close(ro);
    int wo = os_open_fd(r.fd, O_WRONLY);
    REQUIRE(wo >= 0);
    REFUSED(shf__region_from_fd(&q, wo, &plain), SHF_ERR_PERMISSION, "memfd:shf-test-anon", "writing only");
    close(wo);
    struct shf_region_params p = sized(MIB);
    REFUSED(shf__region_from_fd(&q, r.fd, &p), SHF_ERR_INCOMPATIBLE, "memfd:shf-test-anon", "max_bytes");
    shf__region_close(&r);

    REQUIRE_EQ_INT(shf__region_anonymous(&r, NULL, &plain), SHF_OK);
    CHECK(strcmp(r.path, "memfd:shf") == 0);
    shf__region_close(&r);
    p = plain, p.mode = 0777;
    REQUIRE_EQ_INT(shf__region_anonymous(&r, "", &p), SHF_OK);
    CHECK(strcmp(r.path, "memfd:") == 0 && r.mode == 0666);
    shf__region_close(&r);
    char name[300];
    memset(name, 'n', sizeof name), name[249] = 0;
    REQUIRE_EQ_INT(shf__region_anonymous(&r, name, &plain), SHF_OK);
    CHECK(strlen(r.path) == 6 + 249);
    shf__region_close(&r);
    name[249] = 'n', name[250] = 0;
    REFUSED(shf__region_anonymous(&r, name, &plain), SHF_ERR_INVALID, "", "249");
    p.max_bytes = 1;
    REFUSED(shf__region_anonymous(&r, "m", &p), SHF_ERR_INVALID, "memfd:m", "too small");
}

TEST(from_descriptor) {
    SAME;
    struct shf_region r, q;
    int pipes[2];
    REFUSED(shf__region_from_fd(&r, -1, &plain), SHF_ERR_INVALID, "", "-1");
    REFUSED(shf__region_from_fd(&r, 1000000, &plain), SHF_ERR_INVALID, "", "1000000");
    REQUIRE(pipe2(pipes, O_CLOEXEC) == 0);
    REFUSED(shf__region_from_fd(&r, pipes[0], &plain), SHF_ERR_INVALID_PATH, NULL, "FIFO");
    close(pipes[0]), close(pipes[1]);
    int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REFUSED(shf__region_from_fd(&r, dir, &plain), SHF_ERR_INVALID_PATH, test_dir, "folder");
    close(dir);

    /* a memory file that is whole but not sealed, in three forms */
    REQUIRE_EQ_INT(shf__region_anonymous(&q, "shf-test-source", &plain), SHF_OK);
    static const unsigned kinds[] = {MFD_CLOEXEC, MFD_CLOEXEC | MFD_ALLOW_SEALING};
    for (int i = 0; i < 3; i++) {
        int fd = memfd_create("shf-test-open", kinds[i > 0]);
        REQUIRE(fd >= 0 && write(fd, q.base, INITIAL) == INITIAL);
        if (i == 2) REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
        REFUSED(shf__region_from_fd(&r, fd, &plain), SHF_ERR_PERMISSION, "memfd:shf-test-open", "F_SEAL_SHRINK");
        close(fd);
    }
    int fd = memfd_create("shf-test-junk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(fd >= 0 && os_seal(fd, F_SEAL_SHRINK) == 0);
    REFUSED(shf__region_from_fd(&r, fd, &plain), SHF_ERR_INCOMPATIBLE, "memfd:shf-test-junk", "not a shf file");
    close(fd);
    shf__region_close(&q);

    /* regular files, with a name and without */
    const char *path = made("named");
    fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE_EQ_INT(shf__region_from_fd(&r, fd, &plain), SHF_OK);
    CHECK(strcmp(r.path, path) == 0 && r.is_memfd);
    shf__region_close(&r);
    REQUIRE(unlink(path) == 0);
    REQUIRE_EQ_INT(shf__region_from_fd(&r, fd, &plain), SHF_OK);
    CHECK(strncmp(r.path, path, strlen(path)) == 0 && shf__region_replaced(&r) == 0);
    close(fd); /* a duplicate was taken */
    CHECK(shf__region_at(&r, 0, 4096) != NULL);
    shf__region_close(&r);
}

/* ---- sizes ---- */

TEST(the_accessor) {
    SAME;
    struct shf_region_params p = sized(4 * MIB);
    struct shf_region r, ro;
    const char *path = temp_path("grows");
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &p, NULL), SHF_OK);
    REQUIRE_EQ_INT(shf__region_open(&ro, path, SHF_RDONLY, &p, NULL), SHF_OK);
    CHECK(ro.read_only && mprotect(ro.base, 4096, PROT_READ | PROT_WRITE) < 0);
    struct shf_region *both[2] = {&r, &ro};
    for (int i = 0; i < 2; i++) {
        struct shf_region *g = both[i];
        CHECK(shf__region_at(g, 0, 1) == g->base);
        CHECK(shf__region_at(g, 8, INITIAL - 8) == g->base + 8);
        CHECK(shf__region_at(g, INITIAL - 8, 8) == g->base + INITIAL - 8);
        CHECK(shf__region_at(g, INITIAL - 8, 9) == NULL && shf__region_at(g, INITIAL, 1) == NULL);
        CHECK(shf__region_at(g, 4, 4) == NULL && shf__region_at(g, 1, 1) == NULL);
        CHECK(shf__region_at(g, UINT64_MAX - 7, 8) == NULL &&
              shf__region_at(g, UINT64_MAX - 7, UINT64_C(1) << 32) == NULL);
        CHECK(shf__region_at(g, UINT64_C(1) << 63, UINT64_C(1) << 32) == NULL);
        CHECK(shf__region_at(g, 0, (UINT64_C(1) << 32) + 1) == NULL && shf__region_at_slow(g, 0, 0) == NULL);
        CHECK(shf__region_at_slow(g, 0, UINT64_MAX) == NULL && shf__region_at_slow(g, 8, UINT64_MAX - 7) == NULL);
        CHECK(shf__region_page(g, 30) == g->base + 30 * 4096 && shf__region_page(g, 31) == NULL);
        CHECK(shf__region_page(g, UINT32_MAX) == NULL);
        CHECK_EQ_INT(shf__region_refresh(g), 0);
    }
    REQUIRE(os_fallocate(r.fd, INITIAL, 65536) == 0);
    CHECK(shf__region_refresh(&r) == 0 && shf__region_at(&r, INITIAL, 8) == NULL); /* `end` is the word, not the file */
    shm_store_release(&r.header->end, INITIAL + 65536);
    CHECK(shf__region_page(&ro, 31) == ro.base + 31 * 4096); /* refreshed by itself */
    CHECK_EQ_INT(shf__region_refresh(&r), 1);
    CHECK_EQ_INT(shf__region_refresh(&r), 0);
    CHECK_EQ_INT(atomic_load(&r.size), INITIAL + 65536);
    /* a forged end: the file is the truth, and whole pages */
    static const uint64_t forged[] = {UINT64_MAX, UINT64_C(1) << 63, 4 * MIB, INITIAL + 65537, 0, 5};
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        shm_store_release(&r.header->end, forged[i]);
        CHECK_EQ_INT(shf__region_refresh(&r), 0);
        CHECK(shf__region_page(&r, INITIAL / 4096 + 16) == NULL);
        CHECK_EQ_INT(atomic_load(&r.size), INITIAL + 65536);
    }
    REQUIRE(os_fallocate(r.fd, INITIAL + 65536, 4097) == 0);
    shm_store_release(&r.header->end, UINT64_MAX);
    CHECK_EQ_INT(shf__region_refresh(&r), 1);
    CHECK_EQ_INT(atomic_load(&r.size), INITIAL + 65536 + 4096);
    REQUIRE(os_fallocate(r.fd, 0, 8 * MIB) == 0);
    CHECK_EQ_INT(shf__region_refresh(&r), 1);
    CHECK_EQ_INT(atomic_load(&r.size), 4 * MIB); /* G1: the mapping ends there */
    CHECK_EQ_INT(shf__region_refresh(&r), 0);
    REFUSED(shf__region_corrupt(&r, "slot word", 0x1234), SHF_ERR_CORRUPT, path, "slot word");
    CHECK(says("0x1234"));
    shf__region_close(&ro);
    shf__region_close(&r);
}

static void *refresher(void *region) {
    struct shf_region *r = region;
    size_t last = 0;
    while (last < 8 * MIB) {
        shf__region_refresh(r);
        size_t now = atomic_load_explicit(&r->size, memory_order_relaxed);
        CHECK(now >= last && now % SHF_PAGE == 0);
        last = now;
    }
    return NULL;
}
TEST(size_only_grows) {
    SAME;
    struct shf_region_params p = sized(8 * MIB);
    struct shf_region r;
    pthread_t t[3];
    REQUIRE_EQ_INT(shf__region_open(&r, temp_path("threads"), SHF_CREATE, &p, NULL), SHF_OK);
    for (int i = 0; i < 3; i++) REQUIRE(pthread_create(&t[i], NULL, refresher, &r) == 0);
    for (uint64_t end = INITIAL; end < 8 * MIB; end += 4096) {
        REQUIRE(os_fallocate(r.fd, end, 4096) == 0);
        shm_store_release(&r.header->end, end + 4096);
    }
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    shf__region_close(&r);
}

/* ---- names ---- */

TEST(replaced) {
    SAME;
    struct shf_region r, q;
    const char *path = temp_path("name");
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, NULL), SHF_OK);
    CHECK_EQ_INT(shf__region_replaced(&r), 0);
    REQUIRE(unlink(path) == 0);
    CHECK_EQ_INT(shf__region_replaced(&r), 1);
    REQUIRE_EQ_INT(shf__region_open(&q, path, SHF_CREATE, &plain, NULL), SHF_OK);
    CHECK(shf__region_replaced(&r) == 1 && shf__region_replaced(&q) == 0);
    CHECK(r.header->seed[0] != q.header->seed[0]);
    shf__region_close(&r), shf__region_close(&q);
}

TEST(unlinking) {
    SAME;
    struct shf_region r;
    struct os_stat st;
    const char *path = temp_path("victim"), *other;
    REFUSED(shf__region_unlink(path), SHF_ERR_NOT_FOUND, path, path);
    REFUSED(shf__region_unlink(NULL), SHF_ERR_INVALID, "", "NULL");
    REFUSED(shf__region_unlink(""), SHF_ERR_NOT_FOUND, "", "");
    REQUIRE_EQ_INT(shf__region_open(&r, path, SHF_CREATE, &plain, NULL), SHF_OK);
    other = temp_path("alias");
    REQUIRE(link(path, other) == 0);
    REFUSED(shf__region_unlink(other), SHF_ERR_INVALID_PATH, other, "2 names");
    REQUIRE(unlink(other) == 0 && symlink(path, other) == 0);
    REFUSED(shf__region_unlink(other), SHF_ERR_INVALID_PATH, other, "symbolic link");
    CHECK_EQ_INT(shf__region_unlink(path), SHF_OK);
    CHECK(os_stat(path, &st) == -ENOENT);
    CHECK(shf__region_at(&r, 0, INITIAL) != NULL && r.header->magic == SHF_MAGIC); /* users keep it */
    shf__region_close(&r);
    other = sample("text", "This is a text of more than eight bytes", 39);
    REFUSED(shf__region_unlink(other), SHF_ERR_INVALID_PATH, other, "not a shf file");
    other = sample("short", "SHG", 3);
    REFUSED(shf__region_unlink(other), SHF_ERR_INVALID_PATH, other, "not a shf file");
    other = temp_path("fifo");
    REQUIRE(mkfifo(other, 0600) == 0);
    REFUSED(shf__region_unlink(other), SHF_ERR_INVALID_PATH, other, "FIFO");
    REFUSED(shf__region_unlink(test_dir), SHF_ERR_INVALID_PATH, test_dir, "folder");
    CHECK_EQ_INT(files_in_folder(), 4);
}

/* ---- races ---- */

#define CREATORS 64
struct race {
    pthread_barrier_t barrier;
    _Atomic uint32_t winners[200], exists[200], failures;
    _Atomic uint64_t ino[200];
    int rounds;
};
static void creator(void *arg) {
    struct race *race = arg;
    for (int round = 0; round < race->rounds; round++) {
        struct shf_region r;
        char name[20];
        int created = 0, rc;
        unsigned excl = round % 4 == 3 ? SHF_EXCL : 0;
        snprintf(name, sizeof name, "race-%d", round);
        const char *path = temp_path(name);
        pthread_barrier_wait(&race->barrier);
        rc = shf__region_open(&r, path, SHF_CREATE | excl, &plain, &created);
        if (excl && rc == SHF_ERR_EXISTS) {
            atomic_fetch_add(&race->exists[round], 1);
            continue;
        }
        CHECK_EQ_INT(rc, SHF_OK);
        if (rc != SHF_OK) continue;
        atomic_fetch_add(&race->winners[round], (uint32_t)created);
        uint64_t none = 0;
        if (!atomic_compare_exchange_strong(&race->ino[round], &none, r.ino)) CHECK(none == r.ino);
        CHECK(atomic_load(&r.size) == INITIAL && r.header->magic == SHF_MAGIC && !shf__region_replaced(&r));
        shf__region_close(&r);
    }
}
TEST(racing_creators) {
    SAME;
    pthread_barrierattr_t attr;
    pid_t pids[CREATORS];
    struct race *race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(race != MAP_FAILED);
    race->rounds = TEST_SANITIZED ? 50 : 200;
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    REQUIRE(pthread_barrier_init(&race->barrier, &attr, CREATORS) == 0);
    for (int i = 0; i < CREATORS; i++) pids[i] = fork_child(creator, race);
    for (int i = 0; i < CREATORS; i++) CHECK_EQ_INT(wait_child(pids[i], 120000), 0);
    for (int round = 0; round < race->rounds; round++) {
        CHECK_EQ_INT(race->winners[round], 1);
        CHECK_EQ_INT(race->exists[round], round % 4 == 3 ? CREATORS - 1 : 0);
    }
    CHECK_EQ_INT(files_in_folder(), race->rounds); /* nothing private is left */
    munmap(race, sizeof *race);
}

struct churn {
    _Atomic uint64_t opened, busy, removed;
    uint64_t until;
};
static void churner(void *arg) {
    struct churn *c = arg;
    const char *path = temp_path("churn");
    while (test_now_ns() < c->until) {
        struct shf_region r;
        int rc = shf__region_open(&r, path, SHF_CREATE, &plain, NULL);
        if (rc == SHF_OK) {
            CHECK(r.header->magic == SHF_MAGIC && atomic_load(&r.size) == INITIAL);
            shf__region_close(&r);
            atomic_fetch_add(&c->opened, 1);
        } else {
            CHECK_EQ_INT(rc, SHF_ERR_BUSY);
            atomic_fetch_add(&c->busy, 1);
        }
        rc = shf__region_unlink(path);
        CHECK(rc == SHF_OK || rc == SHF_ERR_NOT_FOUND);
        if (rc == SHF_OK) atomic_fetch_add(&c->removed, 1);
    }
}
/* Creators and removers of one name: everybody gets a whole file or BUSY. */
TEST(coming_and_going) {
    SAME;
    pid_t pids[6];
    struct churn *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(c != MAP_FAILED);
    int seldom_busy = 0; /* where all that are on the way are interrupted it may be often */
    UNTIL(seldom_busy) {
        memset((void *)c, 0, sizeof *c);
        c->until = test_now_ns() + 1000000000;
        for (int i = 0; i < 6; i++) pids[i] = fork_child(churner, c);
        for (int i = 0; i < 6; i++) CHECK_EQ_INT(wait_child(pids[i], 30000), 0);
        seldom_busy = c->opened > 100 && c->removed > 10 && c->busy <= c->opened / 100;
    }
    CHECK(seldom_busy);
    CHECK(files_in_folder() <= 1);
    munmap(c, sizeof *c);
}

int main(int argc, char **argv) { return run(argc, argv); }
