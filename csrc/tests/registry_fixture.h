/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* registry_fixture.h - a bare file of 32 pages with a registry, for the tests of registry.c and lock.c: no region.c */
#ifndef SHF_REGISTRY_FIXTURE_H
#define SHF_REGISTRY_FIXTURE_H

#include "lock.h"
#include "test.h"

#include <fcntl.h>

#define FIXTURE_BYTES (32u * SHF_PAGE)
#define MS UINT64_C(1000000)

TEST_FN void fixture_make(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(ftruncate(fd, FIXTURE_BYTES) == 0);
    close(fd);
}
TEST_FN void region_of_fd(struct shf_region *r, int fd, const char *path, int read_only, int is_memfd) {
    struct os_stat st;
    void *base = NULL;
    memset(r, 0, sizeof *r);
    r->fd = fd;
    REQUIRE(r->fd >= 0);
    REQUIRE_EQ_INT(os_fstat(r->fd, &st), 0);
    REQUIRE(os_map(r->fd, FIXTURE_BYTES, !read_only, &base) >= 0);
    r->base = base, r->reserved = FIXTURE_BYTES, r->header = base, r->max_bytes = FIXTURE_BYTES;
    atomic_init(&r->size, FIXTURE_BYTES);
    r->dev = st.dev, r->ino = st.ino, r->read_only = read_only, r->is_memfd = is_memfd, r->mode = 0600;
    r->path = strdup(path);
}
TEST_FN void region_up(struct shf_region *r, const char *path, int read_only) {
    region_of_fd(r, os_open(path, read_only ? O_RDONLY : O_RDWR, 0), path, read_only, 0);
}
TEST_FN void region_down(struct shf_region *r) {
    munmap(r->base, r->reserved);
    close(r->fd);
    free(r->path);
}
TEST_FN int registry_up(struct shf_registry *g, struct shf_region *r, unsigned timeout_ms) {
    memset(g, 0, sizeof *g);
    g->region = r;
    g->lock_timeout_ns = timeout_ms * MS;
    return shf__registry_attach(g);
}
TEST_FN shf_au32 *word_at(struct shf_region *r, unsigned i) { /* object area, a line each */
    return (shf_au32 *)(void *)(r->base + SHF_OBJECT_PAGE * SHF_PAGE + i * 64u);
}
TEST_FN unsigned count_fds(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
/* Memory that children share with the test. */
TEST_FN void *shared_memory(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}
/* Waits for any of these bits of *p; returns them. */
TEST_FN uint32_t await_bits(shf_au32 *p, uint32_t bits) {
    for (uint64_t end = test_now_ns() + HANG_MS * MS; !(atomic_load(p) & bits) && test_now_ns() < end;) usleep(1000);
    return atomic_load(p) & bits;
}
/* Waits for *p to become non-zero; returns it. */
TEST_FN uint32_t await(shf_au32 *p) { return await_bits(p, UINT32_MAX); }
/* Milliseconds until `owner` is reported dead, or -1 after `most_ms`. */
TEST_FN double until_dead(struct shf_registry *g, uint32_t owner, int most_ms) {
    uint64_t start = test_now_ns();
    for (;;) {
        if (shf__registry_is_dead(g, owner)) return (double)(test_now_ns() - start) / 1e6;
        if (test_now_ns() - start > (uint64_t)most_ms * MS) return -1;
        usleep(200);
    }
}

#endif
