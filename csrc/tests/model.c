/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* model.c - see model.h */
#include "model.h"

#include "table_cells.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

void *test_alloc(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) perror("malloc"), abort();
    return p;
}

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return ok ? 0 : -1;
}
int own_mounts(void) {
    char user[40], group[40]; /* the same ones there: who is not mapped can make no file on what is mounted there */
    snprintf(user, sizeof user, "%u %u 1", geteuid(), geteuid());
    snprintf(group, sizeof group, "%u %u 1", getegid(), getegid());
    if (geteuid() == 0 ? unshare(CLONE_NEWNS) != 0
                       : unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0 || write_text("/proc/self/uid_map", user) != 0 ||
                             write_text("/proc/self/setgroups", "deny") != 0 ||
                             write_text("/proc/self/gid_map", group) != 0)
        return -1;
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

uint64_t bytes_hash(const void *p, size_t n, uint64_t seed) {
    const unsigned char *b = p;
    uint64_t h = seed ^ n * UINT64_C(0x9e3779b97f4a7c15);
    for (; n >= 8; n -= 8, b += 8) {
        uint64_t w;
        memcpy(&w, b, 8);
        h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd), h ^= h >> 32;
    }
    for (; n; n--) h = (h ^ *b++) * UINT64_C(0xc4ceb9fe1a85ec53), h ^= h >> 29;
    return test_next(&h);
}

void model_init(struct model *m) {
    memset(m, 0, sizeof *m);
    m->head_count = 1024;
    m->heads = calloc(m->head_count, sizeof *m->heads);
}
static struct model_entry **model_place(const struct model *m, const void *key, size_t klen) {
    struct model_entry **p = &m->heads[bytes_hash(key, klen, 1) & (m->head_count - 1)];
    while (*p && ((*p)->klen != klen || memcmp((*p)->key, key, klen) != 0)) p = &(*p)->next;
    return p;
}
struct model_entry *model_get(const struct model *m, const void *key, size_t klen) {
    return *model_place(m, klen ? key : "", klen);
}
static void *model_copy(const void *p, size_t n) {
    void *c = test_alloc(n);
    if (n) memcpy(c, p, n);
    return c;
}
static void model_grow(struct model *m) {
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 64;
        m->entries = realloc(m->entries, m->room * sizeof *m->entries);
        if (!m->entries) abort();
    }
    if (m->count < m->head_count) return;
    free(m->heads);
    m->head_count *= 4;
    m->heads = calloc(m->head_count, sizeof *m->heads);
    if (!m->heads) abort();
    for (size_t i = 0; i < m->count; i++) {
        struct model_entry *e = m->entries[i], **p;
        p = &m->heads[bytes_hash(e->key, e->klen, 1) & (m->head_count - 1)];
        e->next = *p, *p = e;
    }
}
struct model_entry *model_put(struct model *m, const void *key, size_t klen, const void *val, size_t vlen) {
    struct model_entry *e = model_get(m, key, klen);
    void *copy = model_copy(val, vlen);
    if (e) {
        free(e->val);
    } else {
        model_grow(m);
        e = calloc(1, sizeof *e);
        if (!e) abort();
        e->key = model_copy(key, klen), e->klen = klen;
        e->index = m->count;
        m->entries[m->count++] = e;
        *model_place(m, e->key, klen) = e;
    }
    e->val = copy, e->vlen = vlen;
    return e;
}
static void model_drop(struct model_entry *e) {
    free(e->key);
    free(e->val);
    free(e);
}
int model_del(struct model *m, const void *key, size_t klen) {
    struct model_entry **p = model_place(m, klen ? key : "", klen), *e = *p;
    if (!e) return 0;
    *p = e->next;
    m->entries[e->index] = m->entries[--m->count];
    m->entries[e->index]->index = e->index;
    model_drop(e);
    return 1;
}
void model_clear(struct model *m) {
    for (size_t i = 0; i < m->count; i++) model_drop(m->entries[i]);
    m->count = 0;
    memset(m->heads, 0, m->head_count * sizeof *m->heads);
}
void model_free(struct model *m) {
    model_clear(m);
    free(m->heads);
    free(m->entries);
}

void model_compare(struct model *m, struct shf_table *t) {
    uint64_t position = 0, seen = 0;
    size_t kcap = 64, vcap = 64, klen, vlen;
    unsigned char *key = test_alloc(kcap), *val = test_alloc(vcap);
    uint32_t uid;
    m->mark++;
    for (;;) {
        int rc = shf_table_next(t, &position, key, kcap, &klen, val, vcap, &vlen, &uid);
        if (rc == SHF_TRUNCATED) {
            REQUIRE(klen > kcap || vlen > vcap);
            if (klen > kcap) free(key), key = test_alloc(kcap = klen);
            if (vlen > vcap) free(val), val = test_alloc(vcap = vlen);
            continue;
        }
        if (rc == SHF_NOT_FOUND) break;
        if (rc < 0) FAIL("next: %d, %s", rc, shf_last_error()->message);
        REQUIRE_EQ_INT(rc, SHF_OK);
        struct model_entry *e = model_get(m, key, klen);
        REQUIRE(e != NULL);
        CHECK(e->mark != m->mark); /* exactly once */
        CHECK_BYTES(val, vlen, e->val, e->vlen);
        CHECK(uid != 0);
        if (e->uid) CHECK_EQ_INT(uid, e->uid);
        e->uid = uid, e->mark = m->mark;
        seen++;
    }
    CHECK_EQ_INT(seen, m->count);
    for (size_t i = 0; i < m->count; i++) {
        struct model_entry *e = m->entries[i];
        CHECK(table_has(t, e->key, e->klen, e->val, e->vlen));
    }
    free(key);
    free(val);
    uint64_t n = 0;
    CHECK_EQ_INT(shf_table_len(t, &n), SHF_OK);
    CHECK_EQ_INT(n, m->count);
    CHECK_EQ_INT(table_stats(t).keys, m->count);
    if (!shf_table_is_read_only(t)) CHECK_EQ_INT(table_clean(t), m->count);
}

static uint64_t value_seed(size_t vlen, const void *key, size_t klen, uint64_t stamp) {
    return bytes_hash(key, klen, stamp * UINT64_C(0x2545f4914f6cdd1d) + vlen);
}
/* The bits of a word that are the stamp, above the sum. */
static unsigned value_stamp_bits(size_t vlen) {
    static const unsigned bits[] = {0, 2, 5, 8, 12, 12, 12, 12};
    return vlen >= 8 ? 32 : bits[vlen];
}
void value_fill(void *val, size_t vlen, const void *key, size_t klen, uint64_t stamp) {
    unsigned char *p = val;
    if (vlen >= 16) {
        uint64_t s = value_seed(vlen, key, klen, stamp), w;
        memcpy(p, &stamp, 8);
        for (size_t i = 8; i < vlen; i += 8) w = test_next(&s), memcpy(p + i, &w, vlen - i < 8 ? vlen - i : 8);
    } else if (vlen) {
        size_t n = vlen >= 8 ? 8 : vlen >= 4 ? 4 : vlen; /* bytes of stamp and sum */
        unsigned bits = value_stamp_bits(vlen), sum = (unsigned)(8 * n) - bits;
        uint64_t st = stamp & ((UINT64_C(1) << bits) - 1), s = value_seed(vlen, key, klen, st);
        uint64_t w = st << sum | (s & ((UINT64_C(1) << sum) - 1)), more = test_next(&s);
        memcpy(p, &w, n);
        memcpy(p + n, &more, vlen - n);
    }
}
int value_check(const void *val, size_t vlen, const void *key, size_t klen, uint64_t *stamp) {
    const unsigned char *p = val;
    uint64_t s = 0;
    unsigned char small[16];
    if (vlen >= 16) {
        memcpy(&s, p, 8);
        uint64_t g = value_seed(vlen, key, klen, s), w;
        for (size_t i = 8; i < vlen; i += 8) {
            w = test_next(&g);
            if (memcmp(p + i, &w, vlen - i < 8 ? vlen - i : 8) != 0) return 0;
        }
    } else if (vlen) {
        size_t n = vlen >= 8 ? 8 : vlen >= 4 ? 4 : vlen;
        memcpy(&s, p, n);
        s >>= 8 * n - value_stamp_bits(vlen);
        value_fill(small, vlen, key, klen, s);
        if (memcmp(small, p, vlen) != 0) return 0;
    }
    if (stamp) *stamp = s;
    return 1;
}

size_t key_of(char *buf, uint64_t i) { return (size_t)snprintf(buf, 24, "k%llu", (unsigned long long)i); }
void fixed_key(void *key, size_t klen, uint64_t i) {
    unsigned char *p = key;
    if (klen > 8) memset(p, 0xaa, klen); /* even: the first byte tells odd numbers from even ones */
    memcpy(klen > 8 && i % 2 == 0 ? p + klen - 8 : p, &i, klen < 8 ? klen : 8);
}
uint64_t fixed_keys(size_t klen, uint64_t most) {
    return klen >= 8 || UINT64_C(1) << (8 * klen) > most ? most : UINT64_C(1) << (8 * klen);
}

struct shf_table *table_create(const char *name) {
    struct shf_table *t = NULL;
    const char *path = temp_path(name);
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, NULL, &t);
    if (rc != SHF_OK) FAIL("create %s: %d, %s", path, rc, shf_last_error()->message), test_stop();
    return t;
}
struct shf_table *table_open(const char *name, unsigned flags) {
    struct shf_table *t = NULL;
    const char *path = temp_path(name);
    int rc = shf_table_open(path, flags, NULL, &t);
    if (rc != SHF_OK) FAIL("open %s: %d, %s", path, rc, shf_last_error()->message), test_stop();
    return t;
}
struct shf_table *table_create_fixed(const char *name, size_t klen, size_t vlen, uint32_t hash) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    const char *path = temp_path(name);
    o.fixed_key = (uint32_t)klen, o.fixed_value = (uint32_t)vlen, o.hash = hash;
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) FAIL("create %s (%zu, %zu): %d, %s", path, klen, vlen, rc, shf_last_error()->message), test_stop();
    return t;
}
size_t colliding_keys(struct shf_table *t, size_t klen, void *keys, size_t n, unsigned how) {
    struct shf_hash_key k;
    struct shf_shm_header h;
    unsigned char *p = keys;
    size_t found = 0;
    uint64_t first = 0;
    REQUIRE(pread(shf_table_fd(t), &h, sizeof h, 0) == sizeof h);
    shf__hash_key_init(&k, h.hash, h.seed);
    for (uint64_t i = 0; found < n && i < fixed_keys(klen, UINT64_C(1) << 36); i++) {
        unsigned char key[SHF_FIXED_MAX];
        fixed_key(key, klen, i);
        uint64_t hash = shf__hash(&k, key, klen);
        if (found == 0) {
            if (shf_hash_shard(hash) == 0) continue; /* not the shard with a slot that is never used */
            first = hash;
        }
        if (shf_hash_shard(hash) != shf_hash_shard(first) || shf_hash_b1(hash) != shf_hash_b1(first)) continue;
        if ((how & COLLIDE_TAG) && shf_cell_tag(hash) != shf_cell_tag(first)) continue;
        if ((how & COLLIDE_DELTA) && shf_hash_delta(hash) != shf_hash_delta(first)) continue;
        memcpy(p + found++ * klen, key, klen);
    }
    REQUIRE(found == n || klen < 4);
    return found;
}
uint64_t table_walk(struct shf_table *t) {
    uint64_t position = 0, seen = 0;
    size_t kcap = 256, vcap = 256, klen, vlen;
    char *key = test_alloc(kcap), *val = test_alloc(vcap);
    for (;;) {
        int rc = shf_table_next(t, &position, key, kcap, &klen, val, vcap, &vlen, NULL);
        if (rc == SHF_TRUNCATED) {
            if (klen > kcap) free(key), key = test_alloc(kcap = klen);
            if (vlen > vcap) free(val), val = test_alloc(vcap = vlen);
            continue;
        }
        if (rc != SHF_OK) {
            CHECK_EQ_INT(rc, SHF_NOT_FOUND);
            break;
        }
        seen++;
    }
    free(key);
    free(val);
    return seen;
}
uint64_t table_clean(struct shf_table *t) {
    struct shf_table_report r;
    memset(&r, 0, sizeof r);
    r.size = sizeof r;
    int rc = shf_table_check(t, &r);
    if (rc != SHF_OK || r.problems || r.leaked_pages)
        FAIL("check: %d, %llu problems, %llu leaked pages: %s", rc, (unsigned long long)r.problems,
             (unsigned long long)r.leaked_pages, r.first[0] ? r.first : shf_last_error()->message);
    uint64_t n = 0;
    CHECK_EQ_INT(shf_table_len(t, &n), SHF_OK);
    CHECK_EQ_INT(r.keys, n);
    CHECK_EQ_INT(table_walk(t), n);
    return r.keys;
}
struct shf_table_stats table_stats(struct shf_table *t) {
    struct shf_table_stats s;
    memset(&s, 0, sizeof s);
    s.size = sizeof s;
    CHECK_EQ_INT(shf_table_stats(t, &s), SHF_OK);
    return s;
}
int table_has(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen) {
    size_t n = (size_t)-7;
    unsigned char *buf = test_alloc(vlen + 1);
    int rc = shf_table_get(t, key, klen, buf, vlen + 1, &n), ok;
    if (!val && !vlen) {
        ok = rc == SHF_NOT_FOUND;
        if (!ok) FAIL("a key of %zu bytes should be absent, get says %d", klen, rc);
    } else {
        ok = rc == SHF_OK && n == vlen && (vlen == 0 || memcmp(buf, val, vlen) == 0);
        if (!ok)
            FAIL("key of %zu bytes \"%.*s\": get says %d, length %zu (expected %zu)%s", klen, (int)(klen < 24 ? klen : 24),
                 (const char *)key, rc, n, vlen, rc == SHF_OK && n == vlen ? ", other bytes" : "");
    }
    free(buf);
    return ok;
}
