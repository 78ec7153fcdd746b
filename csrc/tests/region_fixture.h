/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* region_fixture.h - a region's parameters, refusals, leaks: what validate_region.c and validate_os.c share */
#ifndef SHF_REGION_FIXTURE_H
#define SHF_REGION_FIXTURE_H

#include "os.h"
#include "region.h"

#include "test.h"

#include <fcntl.h>

#define OBJECT_PAGES 16u
#define INITIAL ((SHF_OBJECT_PAGE + OBJECT_PAGES) * SHF_PAGE)
#define MIB (UINT64_C(1) << 20)

static const struct shf_region_params plain __attribute__((unused)) = {.kind = SHF_KIND_TABLE, .object_pages = OBJECT_PAGES};
TEST_FN struct shf_region_params sized(uint64_t max_bytes) {
    struct shf_region_params p = plain;
    p.max_bytes = max_bytes;
    return p;
}

TEST_FN int open_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    REQUIRE(d != NULL);
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}
TEST_FN int mappings(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[600];
    int n = 0;
    REQUIRE(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) n += strstr(line, "shf") != NULL && strstr(line, " rw-s ") != NULL;
    rewind(f);
    while (fgets(line, sizeof line, f) != NULL) n += strstr(line, "shf-test") != NULL && strstr(line, " r--s ") != NULL;
    fclose(f);
    return n;
}
struct same {
    int fds, maps;
};
TEST_FN struct same same_begin(void) {
    struct same s = {0, 0};
    temp_path("");
    s.maps = mappings(), s.fds = open_fds();
    return s;
}
TEST_FN void same_end(const struct same *s) {
    CHECK_EQ_INT(open_fds(), s->fds);
    CHECK_EQ_INT(mappings(), s->maps);
}
#define SAME __attribute__((cleanup(same_end))) struct same same__ __attribute__((unused)) = same_begin()

TEST_FN int says(const char *part) { return strstr(shf_last_error()->message, part) != NULL; }

/* Opens, expects `code`, the path in the record, and `part` of the message. */
TEST_FN void refused_by(int line, int rc, int code, const char *path, const char *part) {
    const struct shf_error_info *e = shf_last_error();
    if (rc != code || e->code != code || (path != NULL && strcmp(e->path, path) != 0) || !says(part))
        FAIL("line %d: got %d, wanted %d and '%s'; last error %d, path '%s', '%s'", line, rc, code, part, e->code,
             e->path, e->message);
}
#define REFUSED(rc, code, path, part) refused_by(__LINE__, rc, code, path, part)

TEST_FN int try_open(const char *path, unsigned flags, const struct shf_region_params *p) {
    struct shf_region r;
    int created = -1, rc = shf__region_open(&r, path, flags, p, &created);
    if (rc == SHF_OK) {
        CHECK(created == 0 || created == 1);
        shf__region_close(&r);
    } else {
        CHECK_EQ_INT(created, -1);
        CHECK(r.fd == -1 && r.base == NULL && r.path == NULL);
    }
    return rc;
}
TEST_FN const char *made(const char *name) {
    const char *path = temp_path(name);
    REQUIRE_EQ_INT(try_open(path, SHF_CREATE | SHF_EXCL, &plain), SHF_OK);
    return path;
}
TEST_FN void scribble(const char *path, uint64_t offset, const void *bytes, size_t n) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, bytes, n, (off_t)offset) == (ssize_t)n);
    close(fd);
}
TEST_FN void read_header(const char *path, struct shf_shm_header *h) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(pread(fd, h, sizeof *h, 0) == sizeof *h);
    close(fd);
}
TEST_FN void write_header(const char *path, struct shf_shm_header *h, int seal) {
    if (seal) h->checksum = shf__checksum(h, offsetof(struct shf_shm_header, checksum));
    scribble(path, 0, h, sizeof *h);
}
TEST_FN int files_in_folder(void) {
    DIR *d = opendir(test_dir);
    int n = -2;
    REQUIRE(d != NULL);
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}

#endif
