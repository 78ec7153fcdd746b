/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_table.c - every function of shf.h in one process: results, outputs, limits, and against a model
 *
 * Built twice: with the real constants and with SHF_SMALL (2 shards, 8 segments each), where stash, doubling and
 * SHF_ERR_FULL are within reach. SHF_OPS: operations of each random sequence (200,000 over all).
 */
#include "model.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>

#ifdef SHF_SMALL
#define MANY 5000u
#else
#define MANY 300000u
#endif

static size_t n_;      /* outputs nobody looks at */
static char small_[64];

#define PUT(t, k, v) shf_table_put((t), (k), strlen(k), (v), strlen(v), NULL)
#define HAS(t, k, v) CHECK(table_has((t), (k), strlen(k), (v), strlen(v)))
#define HASNT(t, k) CHECK(table_has((t), (k), strlen(k), NULL, 0))

/* get has a straight way that is made for the default hash: it must keep off the other one, at every key length. */
TEST(siphash_keys_of_every_length) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t;
    unsigned char key[40] = {0}, v[8];
    size_t n;
    o.hash = SHF_HASH_SIPHASH13;
    CHECK_EQ_INT(shf_table_anonymous("siphash", &o, &t), SHF_OK);
    for (size_t klen = 0; klen <= sizeof key; klen++) {
        memset(key, (int)klen, sizeof key);
        CHECK_EQ_INT(shf_table_put(t, key, klen, &klen, 8, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get(t, key, klen, v, sizeof v, &n), SHF_OK);
        CHECK_EQ_INT(v[0], (int)klen);
    }
    shf_table_close(t);
}

TEST(version_and_texts) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", SHF_VERSION_MAJOR, SHF_VERSION_MINOR, SHF_VERSION_PATCH);
    CHECK(strcmp(shf_version(), text) == 0);
    for (int code = -30; code < 10; code++) {
        const char *s = shf_strerror(code);
        REQUIRE(s != NULL);
        CHECK(s[0] != 0);
        for (int other = -21; code < 0 && code >= -21 && other < code; other++) CHECK(strcmp(s, shf_strerror(other)) != 0);
    }
    CHECK(shf_strerror(INT_MIN) && shf_strerror(INT_MAX));
    REQUIRE(shf_last_error() != NULL);
    CHECK(shf_last_error()->place && shf_last_error()->path && shf_last_error()->message);
}

TEST(last_error_names_the_path) {
    struct shf_table *t = NULL;
    const char *path = temp_path("nobody");
    CHECK_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_ERR_NOT_FOUND);
    CHECK(t == NULL);
    const struct shf_error_info *e = shf_last_error();
    CHECK_EQ_INT(e->code, SHF_ERR_NOT_FOUND);
    CHECK(strcmp(e->path, path) == 0);
    CHECK(strlen(e->message) > 5);
}

TEST(put_get_del) {
    struct shf_table *t = table_create("a");
    uint32_t uid = 0, again = 0;
    uint64_t len = 9;
    CHECK_EQ_INT(shf_table_len(t, &len), SHF_OK);
    CHECK_EQ_INT(len, 0);
    HASNT(t, "one");
    CHECK_EQ_INT(shf_table_put(t, "one", 3, "first", 5, &uid), SHF_OK);
    CHECK(uid != 0);
    HAS(t, "one", "first");
    CHECK_EQ_INT(shf_table_put(t, "one", 3, "second value", 12, &again), SHF_OK);
    CHECK_EQ_INT(again, uid);
    HAS(t, "one", "second value");
    CHECK_EQ_INT(shf_table_contains(t, "one", 3), SHF_OK);
    CHECK_EQ_INT(shf_table_contains(t, "on", 2), SHF_NOT_FOUND);
    CHECK_EQ_INT(shf_table_len(t, &len), SHF_OK);
    CHECK_EQ_INT(len, 1);
    CHECK_EQ_INT(shf_table_del(t, "one", 3), SHF_OK);
    CHECK_EQ_INT(shf_table_del(t, "one", 3), SHF_NOT_FOUND);
    CHECK_EQ_INT(shf_table_contains(t, "one", 3), SHF_NOT_FOUND);
    HASNT(t, "one");
    CHECK_EQ_INT(table_clean(t), 0);
    shf_table_close(t);
    shf_table_close(NULL);
}

TEST(empty_keys_and_values) {
    struct shf_table *t = table_create("a");
    uint32_t uid = 0;
    CHECK_EQ_INT(shf_table_put(t, NULL, 0, NULL, 0, &uid), SHF_OK);
    CHECK(table_has(t, NULL, 0, "", 0));
    CHECK_EQ_INT(shf_table_get(t, NULL, 0, NULL, 0, &n_), SHF_OK);
    CHECK_EQ_INT(n_, 0);
    CHECK_EQ_INT(shf_table_key_by_uid(t, uid, NULL, 0, &n_), SHF_OK);
    CHECK_EQ_INT(n_, 0);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, NULL, 0, NULL), SHF_OK);
    CHECK(table_has(t, "k", 1, "", 0));
    CHECK_EQ_INT(shf_table_put(t, NULL, 0, "v", 1, NULL), SHF_OK);
    CHECK(table_has(t, "", 0, "v", 1));
    CHECK_EQ_INT(shf_table_del_if_equal(t, "k", 1, NULL, 0), SHF_OK);
    CHECK_EQ_INT(shf_table_take(t, NULL, 0, small_, sizeof small_, &n_), SHF_OK);
    CHECK_BYTES(small_, n_, "v", 1);
    CHECK_EQ_INT(table_clean(t), 0);
    /* bytes of any kind, prefixes of each other */
    for (size_t n = 0; n < 40; n++) CHECK_EQ_INT(shf_table_put(t, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", n, &n, sizeof n, NULL), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 40);
    shf_table_close(t);
}

TEST(illegal_arguments) {
    struct shf_table *t = table_create("a"), *u = (struct shf_table *)&n_;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    const char *path = temp_path("b");
    size_t n = 77;
    uint32_t uid = 55;
    uint64_t position = 0, wide = 66;
    struct shf_bytes bytes = {"x", 1}, bad = {NULL, 1};
    PUT(t, "k", "v");
    CHECK_EQ_INT(shf_table_uid(t, "k", 1, &uid), SHF_OK);
    uint32_t kuid = uid;
    uid = 55;
#define BAD(call) CHECK_EQ_INT(call, SHF_ERR_INVALID)
    BAD(shf_table_open(NULL, SHF_CREATE, NULL, &u));
    BAD(shf_table_open(path, SHF_CREATE, NULL, NULL));
    BAD(shf_table_open(path, 1u << 20, NULL, &u));
    o.size = 0;
    BAD(shf_table_open(path, SHF_CREATE, &o, &u));
    o.size = sizeof o, o.hash = 99;
    BAD(shf_table_open(path, SHF_CREATE, &o, &u));
    BAD(shf_table_anonymous(NULL, NULL, &u));
    BAD(shf_table_anonymous("x", NULL, NULL));
    BAD(shf_table_from_fd(-1, NULL, &u));
    BAD(shf_table_from_fd(shf_table_fd(t), NULL, NULL));
    BAD(shf_unlink(NULL));
    CHECK(u == (struct shf_table *)&n_); /* left alone */
    CHECK(access(path, F_OK) != 0);
    BAD(shf_table_put(NULL, "k", 1, "v", 1, &uid));
    BAD(shf_table_put(t, NULL, 1, "v", 1, &uid));
    BAD(shf_table_put(t, "k", 1, NULL, 1, &uid));
    BAD(shf_table_insert(t, NULL, 1, "v", 1, &uid));
    BAD(shf_table_insert(t, "k", 1, NULL, 1, &uid));
    BAD(shf_table_replace(t, NULL, 1, "v", 1, NULL, 0, &n));
    BAD(shf_table_replace(t, "k", 1, NULL, 1, NULL, 0, &n));
    BAD(shf_table_replace(t, "k", 1, "v", 1, NULL, 5, &n));
    BAD(shf_table_get(NULL, "k", 1, small_, 8, &n));
    BAD(shf_table_get(t, NULL, 1, small_, 8, &n));
    BAD(shf_table_get(t, "k", 1, NULL, 8, &n));
    BAD(shf_table_get(t, "k", 1, small_, 8, NULL));
    BAD(shf_table_contains(t, NULL, 1));
    BAD(shf_table_contains(NULL, "k", 1));
    BAD(shf_table_del(t, NULL, 1));
    BAD(shf_table_take(t, NULL, 1, small_, 8, &n));
    BAD(shf_table_take(t, "k", 1, NULL, 8, &n));
    BAD(shf_table_del_if_equal(t, "k", 1, NULL, 1));
    BAD(shf_table_add(t, NULL, 1, 1, NULL));
    BAD(shf_table_cas(t, "k", 1, NULL, &bytes, small_, 8, &n));
    BAD(shf_table_cas(t, "k", 1, &bytes, NULL, small_, 8, &n));
    BAD(shf_table_cas(t, "k", 1, &bad, &bytes, small_, 8, &n));
    BAD(shf_table_cas(t, "k", 1, &bytes, &bad, small_, 8, &n));
    BAD(shf_table_cas(t, NULL, 1, &bytes, &bytes, small_, 8, &n));
    BAD(shf_table_update(t, "k", 1, NULL, NULL, &uid));
    BAD(shf_table_uid(t, NULL, 1, &uid));
    BAD(shf_table_checked_uid(t, NULL, 1, &wide));
    BAD(shf_table_get_by_uid(t, kuid, NULL, 8, &n));
    BAD(shf_table_get_by_uid(t, kuid, small_, 8, NULL));
    BAD(shf_table_key_by_uid(t, kuid, NULL, 8, &n));
    BAD(shf_table_put_by_uid(t, kuid, NULL, 8));
    BAD(shf_table_put_by_uid(NULL, kuid, "v", 1));
    BAD(shf_table_del_by_uid(NULL, kuid));
    BAD(shf_table_next(t, NULL, small_, 8, &n, small_, 8, &n, &uid));
    BAD(shf_table_next(t, &position, NULL, 8, &n, small_, 8, &n, &uid));
    BAD(shf_table_next(t, &position, small_, 8, NULL, small_, 8, &n, &uid));
    BAD(shf_table_next(NULL, &position, small_, 8, &n, small_, 8, &n, &uid));
    BAD(shf_table_len(t, NULL));
    BAD(shf_table_len(NULL, &wide));
    BAD(shf_table_clear(NULL));
    BAD(shf_table_stats(t, NULL));
    BAD(shf_table_check(t, NULL));
    struct shf_table_stats stats = {0};
    struct shf_table_report report = {0};
    BAD(shf_table_stats(t, &stats));
    BAD(shf_table_check(t, &report));
    o.size = 0;
    BAD(shf_table_options(t, &o));
#undef BAD
    CHECK_EQ_INT(n, 77);
    CHECK_EQ_INT(uid, 55);
    CHECK_EQ_INT(wide, 66);
    CHECK_EQ_INT(position, 0);
    HAS(t, "k", "v");
    /* lengths beyond the limit, without the memory behind them */
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", (size_t)1 << 32, &uid), SHF_ERR_TOO_LONG);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", SIZE_MAX, &uid), SHF_ERR_TOO_LONG);
    CHECK_EQ_INT(shf_table_put_by_uid(t, kuid, "v", (size_t)1 << 32), SHF_ERR_TOO_LONG);
    static const size_t too_long[] = {(size_t)UINT32_MAX + 1, SIZE_MAX};
    for (int i = 0; i < 2; i++) { /* not even hashed */
        size_t len = too_long[i];
        struct shf_bytes v = {"v", 1};
        CHECK_EQ_INT(shf_table_put(t, "k", len, "v", 1, &uid), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_insert(t, "k", len, "v", 1, &uid), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_replace(t, "k", len, "v", 1, NULL, 0, NULL), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_del(t, "k", len), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_take(t, "k", len, small_, 8, &n), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_del_if_equal(t, "k", len, "v", 1), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_add(t, "k", len, 1, NULL), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_cas(t, "k", len, &v, &v, NULL, 0, NULL), SHF_ERR_TOO_LONG);
        CHECK_EQ_INT(shf_table_get(t, "k", len, small_, 8, &n), SHF_NOT_FOUND);
        uint32_t uid_ = 7;
        uint64_t wide_ = 7;
        CHECK_EQ_INT(shf_table_contains(t, "k", len), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_uid(t, "k", len, &uid_), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_checked_uid(t, "k", len, &wide_), SHF_NOT_FOUND);
    }
    CHECK_EQ_INT(n, 77);
    CHECK_EQ_INT(uid, 55);
    CHECK_EQ_INT(wide, 66);
    CHECK_EQ_INT(table_clean(t), 1);
    HAS(t, "k", "v");
    shf_table_close(t);
}

TEST(truncated_changes_nothing) {
    struct shf_table *t = table_create("a");
    static const size_t lengths[] = {1, 7, 8, 9, 100, 5000, 9000, 70000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t len = lengths[i], n = 0, cap;
        unsigned char *v = test_alloc(len), *buf = test_alloc(len);
        uint32_t uid = 0;
        uint64_t checked = 0, position = 0;
        value_fill(v, len, "key", 3, 5);
        CHECK_EQ_INT(shf_table_put(t, "key", 3, v, len, &uid), SHF_OK);
        CHECK_EQ_INT(shf_table_checked_uid(t, "key", 3, &checked), SHF_OK);
        for (int c = 0; c < 3; c++) {
            cap = c == 0 ? 0 : c == 1 ? len / 2 : len - 1;
#define SHORT(call) n = 0, CHECK_EQ_INT(call, SHF_TRUNCATED), CHECK_EQ_INT(n, len)
            SHORT(shf_table_get(t, "key", 3, cap ? buf : NULL, cap, &n));
            SHORT(shf_table_take(t, "key", 3, buf, cap, &n));
            SHORT(shf_table_get_by_uid(t, uid, buf, cap, &n));
            SHORT(shf_table_get_by_checked_uid(t, checked, buf, cap, &n));
            SHORT(shf_table_replace(t, "key", 3, "new", 3, buf, cap, &n));
            size_t klen = 0;
            SHORT(shf_table_next(t, &position, small_, sizeof small_, &klen, buf, cap, &n, NULL));
            CHECK_EQ_INT(klen, 3);
            CHECK_EQ_INT(position, 0);
            CHECK(table_has(t, "key", 3, v, len));
        }
        size_t klen = 0;
        n = 0;
        CHECK_EQ_INT(shf_table_next(t, &position, small_, 2, &klen, buf, len, &n, NULL), SHF_TRUNCATED);
        CHECK_EQ_INT(klen, 3);
        CHECK_EQ_INT(n, len);
        CHECK_EQ_INT(position, 0);
        CHECK_EQ_INT(shf_table_key_by_uid(t, uid, small_, 2, &klen), SHF_TRUNCATED);
        CHECK_EQ_INT(klen, 3);
        CHECK_EQ_INT(shf_table_key_by_checked_uid(t, checked, NULL, 0, &klen), SHF_TRUNCATED);
        CHECK_EQ_INT(klen, 3);
        CHECK_EQ_INT(shf_table_replace(t, "key", 3, "new", 3, buf, len, &n), SHF_OK);
        CHECK_BYTES(buf, n, v, len);
        HAS(t, "key", "new");
        CHECK_EQ_INT(shf_table_put(t, "key", 3, v, len, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_replace(t, "key", 3, "newer", 5, NULL, 0, NULL), SHF_OK); /* not wanted */
        HAS(t, "key", "newer");
        CHECK_EQ_INT(shf_table_put(t, "key", 3, v, len, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_take(t, "key", 3, buf, len, &n), SHF_OK);
        CHECK_BYTES(buf, n, v, len);
        HASNT(t, "key");
        free(v), free(buf);
    }
    CHECK_EQ_INT(table_clean(t), 0);
    shf_table_close(t);
}

TEST(nothing_there) {
    struct shf_table *t = table_create("a");
    size_t n = 77;
    uint32_t uid = 55;
    uint64_t wide = 66, position = 0;
    for (int round = 0; round < 2; round++) {
        CHECK_EQ_INT(shf_table_get(t, "k", 1, small_, 8, &n), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_take(t, "k", 1, small_, 8, &n), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_replace(t, "k", 1, "v", 1, small_, 8, &n), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_del(t, "k", 1), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_del_if_equal(t, "k", 1, "v", 1), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_uid(t, "k", 1, &uid), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_checked_uid(t, "k", 1, &wide), SHF_NOT_FOUND);
        uint32_t uids[] = {0, 1, 0x00000001, 0x00ffffff, 0xffffffff, 0x80000000, 0x01000000};
        for (size_t i = 0; i < sizeof uids / sizeof *uids; i++) {
            CHECK_EQ_INT(shf_table_get_by_uid(t, uids[i], small_, 8, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_key_by_uid(t, uids[i], small_, 8, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_uid(t, uids[i], "v", 1), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_uid(t, uids[i]), SHF_NOT_FOUND);
            uint64_t c = (uint64_t)uids[i] << 32 | 7;
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, c, small_, 8, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_key_by_checked_uid(t, c, small_, 8, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_checked_uid(t, c, "v", 1), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_checked_uid(t, c), SHF_NOT_FOUND);
        }
        CHECK_EQ_INT(shf_table_next(t, &position, small_, 8, &n, small_, 8, &n, &uid), SHF_NOT_FOUND);
        position = 0;
        CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
        /* again in a shard that has a segment */
        for (int i = 0; i < 3000; i++) {
            char key[24];
            size_t klen = key_of(key, (uint64_t)i);
            CHECK_EQ_INT(shf_table_put(t, key, klen, "", 0, NULL), SHF_OK);
            CHECK_EQ_INT(shf_table_del(t, key, klen), SHF_OK);
        }
    }
    CHECK_EQ_INT(n, 77); /* outputs were left alone */
    CHECK_EQ_INT(uid, 55);
    CHECK_EQ_INT(wide, 66);
    CHECK_EQ_INT(table_clean(t), 0);
    shf_table_close(t);
}

/* Every pair of lengths at the borders of the record formats, put, replaced by every other, taken. */
static const size_t borders[] = {0,  1,  2,  3,  4,   5,    6,    7,    8,    9,    10,   11,   12,   13,   14,    15,    16,
                                 17, 18, 19, 20, 255, 4095, 8180, 8184, 8187, 8188, 8189, 8192, 8193, 8200, 16383, 16384, 100000};
#define BORDERS (sizeof borders / sizeof *borders)
TEST(lengths_at_the_borders) {
    struct shf_table *t = table_create("a");
    unsigned char *key = test_alloc(100000), *val = test_alloc(100000), *out = test_alloc(100001);
    for (size_t i = 0; i < BORDERS; i++) {
        size_t klen = borders[i];
        for (size_t b = 0; b < klen; b++) key[b] = (unsigned char)(b * 7 + klen);
        uint32_t first = 0;
        for (size_t j = 0; j < BORDERS; j++) {
            size_t vlen = borders[j], n = 0;
            uint32_t uid = 0;
            value_fill(val, vlen, key, klen, j);
            REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, vlen, &uid), SHF_OK);
            if (!first) first = uid;
            CHECK_EQ_INT(uid, first);
            REQUIRE(table_has(t, key, klen, val, vlen));
            CHECK_EQ_INT(shf_table_get(t, key, klen, out, vlen, &n), SHF_OK); /* to the byte */
            CHECK_EQ_INT(shf_table_key_by_uid(t, uid, out, klen, &n), SHF_OK);
            CHECK_BYTES(out, n, key, klen);
            CHECK_EQ_INT(shf_table_get_by_uid(t, uid, out, vlen, &n), SHF_OK);
            CHECK_BYTES(out, n, val, vlen);
            if (vlen) {
                val[vlen - 1] ^= 1;
                CHECK_EQ_INT(shf_table_del_if_equal(t, key, klen, val, vlen), SHF_UNCHANGED);
                CHECK_EQ_INT(shf_table_del_if_equal(t, key, klen, val, vlen - 1), SHF_UNCHANGED);
                val[vlen - 1] ^= 1;
            }
            if (j % 3 == 1) {
                CHECK_EQ_INT(shf_table_del_if_equal(t, key, klen, val, vlen), SHF_OK);
                CHECK_EQ_INT(shf_table_contains(t, key, klen), SHF_NOT_FOUND);
                CHECK_EQ_INT(shf_table_insert(t, key, klen, val, vlen, &first), SHF_OK);
                CHECK_EQ_INT(shf_table_insert(t, key, klen, "x", 1, &uid), SHF_EXISTS);
                CHECK_EQ_INT(uid, first);
            }
            CHECK(table_has(t, key, klen, val, vlen));
        }
        table_clean(t);
        if (i % 2) CHECK_EQ_INT(shf_table_del(t, key, klen), SHF_OK); /* half stays */
    }
    CHECK_EQ_INT(table_clean(t), BORDERS / 2);
    for (size_t i = 0; i < BORDERS; i += 2) {
        size_t klen = borders[i], n;
        for (size_t b = 0; b < klen; b++) key[b] = (unsigned char)(b * 7 + klen);
        CHECK_EQ_INT(shf_table_take(t, key, klen, out, 100000, &n), SHF_OK);
        CHECK(n == 100000 && value_check(out, n, key, klen, NULL));
    }
    CHECK_EQ_INT(table_clean(t), 0);
    CHECK_EQ_INT(table_stats(t).large_values, 0);
    free(key), free(val), free(out);
    shf_table_close(t);
}

TEST(large_values) {
    struct shf_table *t = table_create("a");
    static const size_t lengths[] = {20000000, 3, 1 << 20, 8, 9000, 20000000, 8100, 20000000, 0, 5000000, 12345678, 1};
    unsigned char *val = test_alloc(20000000), *out = test_alloc(20000000);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t n = 0;
        value_fill(val, lengths[i], "big", 3, i);
        CHECK_EQ_INT(shf_table_put(t, "big", 3, val, lengths[i], NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get(t, "big", 3, out, 20000000, &n), SHF_OK);
        CHECK_BYTES(out, n, val, lengths[i]);
        struct shf_table_stats s = table_stats(t);
        CHECK_EQ_INT(s.large_values, lengths[i] > 8190);
        CHECK(s.large_bytes >= (lengths[i] > 8190 ? lengths[i] : 0));
        CHECK(s.large_bytes <= (lengths[i] > 8190 ? lengths[i] + 8192 : 0));
    }
    struct shf_table_stats s = table_stats(t);
    CHECK(s.file_bytes < 70000000); /* runs were used again */
    CHECK_EQ_INT(table_clean(t), 1);
    free(val), free(out);
    shf_table_close(t);
}

TEST(counters) {
    struct shf_table *t = table_create("a");
    int64_t previous = 99, v;
    size_t n;
    CHECK_EQ_INT(shf_table_add(t, "c", 1, 5, &previous), SHF_OK);
    CHECK_EQ_INT(previous, 0);
    CHECK_EQ_INT(shf_table_add(t, "c", 1, -7, &previous), SHF_OK);
    CHECK_EQ_INT(previous, 5);
    CHECK_EQ_INT(shf_table_add(t, "c", 1, 0, NULL), SHF_OK);
    CHECK_EQ_INT(shf_table_get(t, "c", 1, &v, 8, &n), SHF_OK);
    CHECK_EQ_INT(v, -2);
    v = INT64_MAX;
    CHECK_EQ_INT(shf_table_put(t, "c", 1, &v, 8, NULL), SHF_OK);
    CHECK_EQ_INT(shf_table_add(t, "c", 1, 1, &previous), SHF_OK);
    CHECK(previous == INT64_MAX);
    CHECK_EQ_INT(shf_table_get(t, "c", 1, &v, 8, &n), SHF_OK);
    CHECK(v == INT64_MIN);
    CHECK_EQ_INT(shf_table_add(t, "c", 1, INT64_MIN, &previous), SHF_OK);
    CHECK_EQ_INT(shf_table_get(t, "c", 1, &v, 8, &n), SHF_OK);
    CHECK_EQ_INT(v, 0);
    previous = 99;
    static const size_t lengths[] = {0, 1, 7, 9, 16, 9000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char val[9000] = {1};
        CHECK_EQ_INT(shf_table_put(t, "s", 1, val, lengths[i], NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_add(t, "s", 1, 1, &previous), SHF_ERR_NOT_A_COUNTER);
        CHECK(table_has(t, "s", 1, val, lengths[i]));
    }
    CHECK_EQ_INT(previous, 99);
    char longkey[9000];
    memset(longkey, 'x', sizeof longkey);
    for (size_t klen = 8170; klen < 9000; klen += 2) { /* a counter with a key so long that it is a large value */
        for (int i = 0; i < 3; i++) {
            CHECK_EQ_INT(shf_table_add(t, longkey, klen, 3, &previous), SHF_OK);
            CHECK_EQ_INT(previous, 3 * i);
        }
        if (klen > 8200) klen += 100;
    }
    table_clean(t);
    shf_table_close(t);
}

TEST(compare_and_swap) {
    struct shf_table *t = table_create("a");
    static const struct shf_bytes absent = {SHF_ABSENT, 0}, none = {NULL, 0};
    static const size_t lengths[] = {0, 1, 8, 9, 200, 9000};
    unsigned char buf[9100];
    for (size_t i = 0; i < 36; i++) {
        size_t alen = lengths[i / 6], blen = lengths[i % 6], n = 1;
        unsigned char av[9000], bv[9000];
        value_fill(av, alen, "a", 1, 1), value_fill(bv, blen, "b", 1, 2);
        struct shf_bytes a = {av, alen}, b = {bv, blen}, other = {"something else", 14};
        shf_table_del(t, "k", 1);
        /* the key is not there */
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &absent, &absent, buf, sizeof buf, &n), SHF_OK);
        HASNT(t, "k");
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &a, &absent, buf, sizeof buf, &n), SHF_UNCHANGED);
        CHECK(n == SIZE_MAX);
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &a, &b, NULL, 0, NULL), SHF_UNCHANGED);
        HASNT(t, "k");
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &absent, &a, buf, sizeof buf, &n), SHF_OK);
        CHECK(table_has(t, "k", 1, av, alen));
        /* it is there */
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &absent, &b, buf, sizeof buf, &n), SHF_UNCHANGED);
        CHECK_BYTES(buf, n, av, alen);
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &absent, &absent, NULL, 0, &n), SHF_UNCHANGED);
        CHECK_EQ_INT(n, alen);
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &other, &b, buf, 1, &n), SHF_UNCHANGED); /* cut off */
        CHECK_EQ_INT(n, alen);
        CHECK(alen == 0 || buf[0] == av[0]);
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &other, &absent, buf, sizeof buf, &n), SHF_UNCHANGED);
        CHECK(table_has(t, "k", 1, av, alen));
        if (alen) {
            av[alen - 1] ^= 0x80;
            CHECK_EQ_INT(shf_table_cas(t, "k", 1, &a, &b, NULL, 0, NULL), SHF_UNCHANGED);
            av[alen - 1] ^= 0x80;
        }
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &a, &b, buf, sizeof buf, &n), SHF_OK);
        CHECK(table_has(t, "k", 1, bv, blen));
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &b, &b, NULL, 0, NULL), SHF_OK);
        CHECK(table_has(t, "k", 1, bv, blen));
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &b, &absent, NULL, 0, NULL), SHF_OK);
        HASNT(t, "k");
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &absent, &none, NULL, 0, NULL), SHF_OK);
        CHECK(table_has(t, "k", 1, "", 0));
        CHECK_EQ_INT(shf_table_cas(t, "k", 1, &none, &absent, NULL, 0, NULL), SHF_OK);
    }
    CHECK_EQ_INT(table_clean(t), 0);
    shf_table_close(t);
}

struct upd {
    struct shf_table *t;
    int calls, meddle, stop, remove;
    size_t vlen, seen; /* SIZE_MAX: absent */
    unsigned char val[100000], old[100000];
};
static int upd_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct upd *u = context;
    u->calls++;
    u->seen = old->data == SHF_ABSENT ? SIZE_MAX : old->len;
    if (u->seen != SIZE_MAX && u->seen) memcpy(u->old, old->data, u->seen);
    if (u->calls <= u->meddle) {
        char text[32];
        int n = snprintf(text, sizeof text, "meddled %d", u->calls);
        if (u->meddle == 3 && u->calls == 2)
            CHECK_EQ_INT(shf_table_del(u->t, "k", 1), SHF_OK);
        else
            CHECK_EQ_INT(shf_table_put(u->t, "k", 1, text, (size_t)n, NULL), SHF_OK);
    }
    if (u->stop) return 17;
    desired->data = u->remove ? SHF_ABSENT : u->val;
    desired->len = u->remove ? 0 : u->vlen;
    return 0;
}
TEST(update) {
    static struct upd u;
    static const size_t lengths[] = {0, 8, 12, 9000, 100000, 8, 50};
    u.t = table_create("a");
    uint32_t uid = 7, same = 0;
    u.vlen = 5, memcpy(u.val, "hello", 5);
    u.stop = 1;
    CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, &uid), SHF_STOPPED);
    CHECK(u.calls == 1 && u.seen == SIZE_MAX);
    HASNT(u.t, "k");
    u.stop = 0, u.remove = 1, u.calls = 0;
    CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, &uid), SHF_OK); /* absent stays absent */
    CHECK_EQ_INT(uid, 0);
    HASNT(u.t, "k");
    u.remove = 0, u.calls = 0;
    CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, &uid), SHF_OK);
    CHECK(u.calls == 1 && uid != 0);
    HAS(u.t, "k", "hello");
    CHECK_EQ_INT(shf_table_uid(u.t, "k", 1, &same), SHF_OK);
    CHECK_EQ_INT(uid, same);
    for (size_t i = 0; i < 49; i++) { /* every size over every size */
        size_t old = lengths[i / 7], vlen = lengths[i % 7];
        static unsigned char before[100000];
        value_fill(before, old, "k", 1, i), value_fill(u.val, vlen, "k", 1, 100 + i);
        CHECK_EQ_INT(shf_table_put(u.t, "k", 1, before, old, NULL), SHF_OK);
        u.vlen = vlen, u.calls = 0;
        CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, NULL), SHF_OK);
        CHECK_BYTES(u.old, u.seen, before, old);
        CHECK(table_has(u.t, "k", 1, u.val, vlen));
        u.stop = 1;
        CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, NULL), SHF_STOPPED);
        u.stop = 0;
        CHECK(table_has(u.t, "k", 1, u.val, vlen));
    }
    for (u.meddle = 1; u.meddle < 4; u.meddle++) { /* the key changes under the callback */
        CHECK_EQ_INT(PUT(u.t, "k", "before"), SHF_OK);
        u.calls = 0, u.vlen = 5, memcpy(u.val, "after", 5);
        CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, NULL), SHF_OK);
        CHECK_EQ_INT(u.calls, u.meddle + 1);
        HAS(u.t, "k", "after");
    }
    CHECK_EQ_INT(shf_table_del(u.t, "k", 1), SHF_OK);
    u.meddle = 1, u.calls = 0; /* it comes to life under the callback */
    CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, NULL), SHF_OK);
    CHECK_EQ_INT(u.calls, 2);
    CHECK_BYTES(u.old, u.seen, "meddled 1", 9);
    u.meddle = 0, u.remove = 1, uid = 7;
    CHECK_EQ_INT(shf_table_update(u.t, "k", 1, upd_fn, &u, &uid), SHF_OK);
    CHECK_EQ_INT(uid, 0);
    HASNT(u.t, "k");
    CHECK_EQ_INT(table_clean(u.t), 0);
    shf_table_close(u.t);
}

TEST(uids_are_stable) {
    struct shf_table *t = table_create("a");
    enum { WATCHED = 1000 };
    static uint32_t uids[WATCHED];
    static uint64_t checked[WATCHED];
    char key[24], out[64];
    size_t klen, n;
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t uid = 0;
        klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, &i, 4, &uid), SHF_OK);
        CHECK(uid != 0);
        if (i < WATCHED) uids[i] = uid, CHECK_EQ_INT(shf_table_checked_uid(t, key, klen, &checked[i]), SHF_OK);
        if (i < WATCHED) CHECK_EQ_INT(checked[i] >> 32, uid);
    }
    uint32_t *all = test_alloc(MANY * sizeof *all), v;
    for (uint32_t i = 0; i < MANY; i++) {
        klen = key_of(key, i);
        CHECK_EQ_INT(shf_table_uid(t, key, klen, &all[i]), SHF_OK);
        if (i < WATCHED) CHECK_EQ_INT(all[i], uids[i]);
        CHECK_EQ_INT(shf_table_get_by_uid(t, all[i], &v, 4, &n), SHF_OK);
        CHECK_EQ_INT(v, i);
        if (i % 64) continue;
        CHECK_EQ_INT(shf_table_key_by_uid(t, all[i], out, sizeof out, &n), SHF_OK);
        CHECK_BYTES(out, n, key, klen);
    }
    struct shf_table_stats s = table_stats(t);
    printf("# %u keys: segments %llu, depth %u, load %u %%, stashed %llu, %.1f bytes a key\n", MANY,
           (unsigned long long)s.segments, s.max_depth, s.load_percent, (unsigned long long)s.stashed_keys,
           (double)s.file_bytes / MANY);
    /* by UID, plain and checked */
    for (uint32_t i = 0; i < WATCHED; i++) {
        klen = key_of(key, i);
        CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], &v, 4, &n), SHF_OK);
        CHECK_EQ_INT(v, i);
        CHECK_EQ_INT(shf_table_key_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_OK);
        CHECK_BYTES(out, n, key, klen);
        CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i] ^ 1, &v, 4, &n), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i] ^ 0x80000000u, "x", 1), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked[i] ^ 2), SHF_NOT_FOUND);
        if (i % 2)
            CHECK_EQ_INT(shf_table_put_by_uid(t, uids[i], "by uid", 6), SHF_OK);
        else
            CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i], "by uid", 6), SHF_OK);
        CHECK(table_has(t, key, klen, "by uid", 6));
        CHECK_EQ_INT(i % 3 ? shf_table_del_by_uid(t, uids[i]) : shf_table_del_by_checked_uid(t, checked[i]), SHF_OK);
        CHECK(table_has(t, key, klen, NULL, 0));
        CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], &v, 4, &n), SHF_NOT_FOUND);
    }
    /* slots are used again: a plain UID is another key or nothing, a checked one is nothing */
    int recycled = 0;
    for (uint32_t i = 0; i < MANY / 4; i++) {
        klen = key_of(key, MANY + i);
        int rc = shf_table_put(t, key, klen, &i, 4, NULL);
        if (rc != SHF_OK) CHECK_EQ_INT(rc, SHF_ERR_FULL);
    }
    for (uint32_t i = 0; i < WATCHED; i++) {
        int rc = shf_table_get_by_uid(t, uids[i], out, sizeof out, &n);
        CHECK(rc == SHF_OK || rc == SHF_NOT_FOUND);
        recycled += rc == SHF_OK;
        CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i], "x", 1), SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked[i]), SHF_NOT_FOUND);
    }
    printf("# %d of %d plain UIDs name another key now\n", recycled, WATCHED);
    /* a key that comes back has the same check bits; wherever it lies, its old checked UID gives it or nothing */
    klen = key_of(key, 5);
    CHECK_EQ_INT(shf_table_put(t, key, klen, "back", 4, NULL), SHF_OK);
    uint64_t c = 0;
    CHECK_EQ_INT(shf_table_checked_uid(t, key, klen, &c), SHF_OK);
    CHECK_EQ_INT(c & 0xffffffffu, checked[5] & 0xffffffffu);
    table_clean(t);
    free(all);
    shf_table_close(t);
}

TEST(positions) {
    struct shf_table *t = table_create("a");
    struct model m;
    model_init(&m);
    char key[24], k[24], v[32];
    size_t klen, vlen;
    for (uint32_t i = 0; i < MANY / 10; i++) {
        klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, &i, 4, NULL), SHF_OK);
        model_put(&m, key, klen, &i, 4);
    }
    model_compare(&m, t);
    /* the parts together give each key once */
    m.mark++;
    uint64_t seen = 0;
    for (uint32_t part = 0; part < SHF_SHARDS; part++) {
        uint64_t position = SHF_SHARD_POSITION(part);
        while (position < SHF_SHARD_POSITION(part + 1)) {
            int rc = shf_table_next(t, &position, k, sizeof k, &klen, v, sizeof v, &vlen, NULL);
            if (rc == SHF_NOT_FOUND) break;
            REQUIRE_EQ_INT(rc, SHF_OK);
            if (position > SHF_SHARD_POSITION(part + 1)) break; /* the first of a later part */
            struct model_entry *e = model_get(&m, k, klen);
            REQUIRE(e != NULL);
            CHECK(e->mark != m.mark);
            e->mark = m.mark, seen++;
        }
    }
    CHECK_EQ_INT(seen, m.count);
    uint64_t end = SHF_SHARD_POSITION(SHF_SHARDS - 1) | 0xffffffffffffu;
    int past = shf_table_next(t, &end, k, sizeof k, &klen, v, sizeof v, &vlen, NULL); /* no position of ours */
    CHECK(past == SHF_NOT_FOUND || past == SHF_ERR_INVALID);
    /* a position is good in another handle, and while the table changes under it */
    struct shf_table *u = table_open("a", 0);
    m.mark++, seen = 0;
    uint64_t position = 0, before = 0;
    uint32_t extra = 1000000;
    for (;;) {
        struct shf_table *h = seen % 2 ? t : u;
        int rc = shf_table_next(h, &position, k, sizeof k, &klen, v, sizeof v, &vlen, NULL);
        if (rc == SHF_NOT_FOUND) break;
        REQUIRE_EQ_INT(rc, SHF_OK);
        CHECK(position > before);
        before = position;
        struct model_entry *e = model_get(&m, k, klen);
        if (e) {
            CHECK(e->mark != m.mark);
            e->mark = m.mark, seen++;
        }
#ifdef SHF_SMALL
        if (extra > 1002000) continue;
#endif
        for (int i = 0; i < 3; i++) { /* splits and doublings all the time */
            klen = key_of(key, extra++);
            CHECK_EQ_INT(shf_table_put(u, key, klen, "new", 3, NULL), SHF_OK);
        }
        e = m.entries[test_rng() % m.count]; /* replace moves nothing */
        CHECK_EQ_INT(shf_table_put(t, e->key, e->klen, "another value", 13, NULL), SHF_OK);
    }
    CHECK_EQ_INT(seen, m.count);
    table_clean(t);
    model_free(&m);
    shf_table_close(u);
    shf_table_close(t);
}

TEST(clear_and_use) {
    struct shf_table *t = table_create("a");
    char key[24];
    unsigned char val[9000];
    uint64_t file = 0;
    for (int round = 0; round < 12; round++) {
        for (uint32_t i = 0; i < MANY / 10; i++) {
            size_t klen = key_of(key, i), vlen = i % 97 == 0 ? 9000 : i % 40;
            value_fill(val, vlen, key, klen, (uint64_t)round);
            REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, vlen, NULL), SHF_OK);
        }
        CHECK_EQ_INT(table_clean(t), MANY / 10);
        printf("# round %d: file %llu KiB\n", round, (unsigned long long)table_stats(t).file_bytes >> 10);
        if (round == 1) file = table_stats(t).file_bytes;
        if (round > 1) CHECK(table_stats(t).file_bytes <= file + file / 4 + (4 << 20)); /* the memory comes back */
        CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
        if (round % 2) CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
        CHECK_EQ_INT(table_clean(t), 0);
        HASNT(t, "k1");
        CHECK_EQ_INT(PUT(t, "k1", "again"), SHF_OK);
        HAS(t, "k1", "again");
        CHECK_EQ_INT(table_clean(t), 1);
        if (round == 3) CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
    }
    struct shf_table_stats s = table_stats(t);
    CHECK_EQ_INT(s.large_values, 0);
    shf_table_close(t);
}

TEST(stats_agree_with_what_was_put) {
    struct shf_table *t = table_create("a"), *u = table_open("a", 0), *r = table_open("a", SHF_RDONLY);
    char key[24];
    static unsigned char val[9000];
    struct stat st;
    for (uint32_t i = 0; i < 3000; i++) {
        size_t klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, val, i % 100 == 0 ? 9000 : 100, NULL), SHF_OK);
    }
    struct shf_table_stats s = table_stats(t);
    CHECK_EQ_INT(s.keys, 3000);
    CHECK_EQ_INT(s.large_values, 30);
    CHECK_EQ_INT(s.large_bytes, 30 * 3 * 4096);
    CHECK_EQ_INT(s.handles, 2);
    CHECK_EQ_INT(s.recoveries, 0);
    CHECK(s.record_bytes >= 2970 * 104 && s.record_bytes < 3000 * 120 * 3 + 256 * 65536);
    CHECK_EQ_INT(s.garbage_bytes, 0);
    CHECK(s.segments > 0 && s.index_bytes >= s.segments * 4096);
    CHECK(s.load_percent <= 100 && s.load_percent == s.keys * 100 / (s.segments * 512));
    CHECK(stat(shf_table_path(t), &st) == 0);
    CHECK_EQ_INT(s.file_bytes, st.st_size);
    CHECK(s.free_bytes + s.index_bytes + s.record_bytes + s.large_bytes <= s.file_bytes);
    CHECK(s.max_bytes >= s.file_bytes);
    for (uint32_t i = 0; i < 3000; i++) {
        size_t klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(u, key, klen, val, 50, NULL), SHF_OK);
    }
    struct shf_table_stats now = table_stats(r);
    CHECK_EQ_INT(now.keys, 3000);
    CHECK_EQ_INT(now.large_values, 0);
    CHECK_EQ_INT(now.large_bytes, 0);
    CHECK(now.garbage_bytes < now.record_bytes);
    CHECK_EQ_INT(table_clean(t), 3000);
    shf_table_close(u);
    CHECK_EQ_INT(table_stats(t).handles, 1);
    shf_table_close(r);
    shf_table_close(t);
}

TEST(read_only_handles) {
    struct shf_table *t = table_create("a"), *r;
    CHECK_EQ_INT(PUT(t, "k", "v"), SHF_OK);
    r = table_open("a", SHF_RDONLY);
    CHECK_EQ_INT(shf_table_is_read_only(r), 1);
    CHECK_EQ_INT(shf_table_is_read_only(t), 0);
    HAS(r, "k", "v");
    CHECK_EQ_INT(shf_table_contains(r, "k", 1), SHF_OK);
    uint32_t uid = 0;
    uint64_t checked = 0, len = 0;
    struct shf_bytes a = {"v", 1}, b = {"w", 1};
    size_t n = 77;
    CHECK_EQ_INT(shf_table_uid(r, "k", 1, &uid), SHF_OK);
    CHECK_EQ_INT(shf_table_checked_uid(r, "k", 1, &checked), SHF_OK);
    static struct upd u;
    u.t = r, u.vlen = 1;
#define RO(call) CHECK_EQ_INT(call, SHF_ERR_READ_ONLY)
    RO(shf_table_put(r, "k", 1, "w", 1, &uid));
    RO(shf_table_put(r, "new", 3, "w", 1, &uid));
    RO(shf_table_insert(r, "new", 3, "w", 1, &uid));
    RO(shf_table_replace(r, "k", 1, "w", 1, NULL, 0, &n));
    RO(shf_table_del(r, "k", 1));
    RO(shf_table_take(r, "k", 1, small_, 8, &n));
    RO(shf_table_del_if_equal(r, "k", 1, "v", 1));
    RO(shf_table_add(r, "c", 1, 1, NULL));
    RO(shf_table_cas(r, "k", 1, &a, &b, NULL, 0, &n));
    RO(shf_table_update(r, "k", 1, upd_fn, &u, &uid));
    RO(shf_table_put_by_uid(r, uid, "w", 1));
    RO(shf_table_del_by_uid(r, uid));
    RO(shf_table_put_by_checked_uid(r, checked, "w", 1));
    RO(shf_table_del_by_checked_uid(r, checked));
    RO(shf_table_clear(r));
#undef RO
    CHECK_EQ_INT(n, 77);
    CHECK_EQ_INT(u.calls, 0);
    HAS(t, "k", "v");
    for (uint32_t i = 0; i < MANY / 10; i++) { /* what a writer adds is seen, growth included */
        char key[24];
        size_t klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, &i, 4, NULL), SHF_OK);
        if (i % 50 == 0) CHECK(table_has(r, key, klen, &i, 4));
    }
    CHECK_EQ_INT(shf_table_len(r, &len), SHF_OK);
    CHECK_EQ_INT(len, MANY / 10 + 1);
    CHECK_EQ_INT(table_walk(r), len);
    struct shf_table_report report = {0};
    report.size = sizeof report;
    CHECK_EQ_INT(shf_table_check(r, &report), SHF_OK);
    CHECK_EQ_INT(report.structure_only, 1);
    CHECK_EQ_INT(shf_table_check(t, &report), SHF_OK);
    CHECK_EQ_INT(report.structure_only, 0);
    CHECK_EQ_INT(report.keys, len);
    CHECK(report.pages > 31);
    shf_table_close(t);
    HAS(r, "k", "v"); /* alone */
    shf_table_close(r);
    struct shf_table *none = NULL;
    CHECK_EQ_INT(shf_table_open(temp_path("zz"), SHF_RDONLY, NULL, &none), SHF_ERR_NOT_FOUND);
}

TEST(anonymous_and_from_fd) {
    struct shf_table *t = NULL, *u = NULL, *r = NULL, *none = NULL;
    REQUIRE_EQ_INT(shf_table_anonymous("things", NULL, &t), SHF_OK);
    CHECK(strcmp(shf_table_path(t), "memfd:things") == 0);
    CHECK_EQ_INT(PUT(t, "k", "v"), SHF_OK);
    int fd = shf_table_fd(t);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
    CHECK(ftruncate(fd, 0) != 0);
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &u), SHF_OK);
    CHECK(shf_table_fd(u) != fd);
    HAS(u, "k", "v");
    CHECK_EQ_INT(PUT(u, "k2", "v2"), SHF_OK);
    HAS(t, "k2", "v2");
    CHECK_EQ_INT(table_stats(t).handles, 2);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int ro = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(ro >= 0);
    REQUIRE_EQ_INT(shf_table_from_fd(ro, NULL, &r), SHF_OK);
    close(ro);
    CHECK_EQ_INT(shf_table_is_read_only(r), 1);
    CHECK_EQ_INT(PUT(r, "k", "w"), SHF_ERR_READ_ONLY);
    for (uint32_t i = 0; i < 3000; i++) {
        char key[24];
        size_t klen = key_of(key, i);
        REQUIRE_EQ_INT(shf_table_put(i % 2 ? t : u, key, klen, key, klen, NULL), SHF_OK);
    }
    shf_table_close(t); /* the others keep it */
    HAS(r, "k2999", "k2999");
    CHECK_EQ_INT(table_clean(u), 3001);
    shf_table_close(r);
    shf_table_close(u);
    /* what is refused */
    int bare = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(shf_table_from_fd(bare, NULL, &none) < 0);
    CHECK(ftruncate(bare, 1 << 20) == 0);
    CHECK(shf_table_from_fd(bare, NULL, &none) < 0);
    close(bare);
    CHECK(shf_table_from_fd(9999, NULL, &none) < 0);
    int p[2];
    CHECK(pipe(p) == 0);
    CHECK(shf_table_from_fd(p[0], NULL, &none) < 0);
    close(p[0]), close(p[1]);
    CHECK(none == NULL);
    /* a path's descriptor */
    t = table_create("a");
    CHECK_EQ_INT(PUT(t, "k", "v"), SHF_OK);
    REQUIRE_EQ_INT(shf_table_from_fd(shf_table_fd(t), NULL, &u), SHF_OK);
    HAS(u, "k", "v");
    CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    CHECK_EQ_INT(PUT(u, "k2", "v2"), SHF_OK);
    HAS(t, "k2", "v2");
    shf_table_close(u);
    shf_table_close(t);
}

static unsigned mode_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}
TEST(options) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT, got = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL, *u = NULL;
    mode_t mask = umask(0077);
    o.mode = 0664, o.max_bytes = (4 << 20) + 1, o.lock_timeout_ms = 123, o.hash = SHF_HASH_SIPHASH13;
    REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &o, &t), SHF_OK);
    CHECK_EQ_INT(mode_of(temp_path("a")), 0664);
    CHECK_EQ_INT(shf_table_options(t, &got), SHF_OK);
    CHECK_EQ_INT(got.mode, 0664);
    CHECK_EQ_INT(got.max_bytes, (4 << 20) + 4096);
    CHECK_EQ_INT(got.lock_timeout_ms, 123);
    CHECK_EQ_INT(got.hash, SHF_HASH_SIPHASH13);
    CHECK_EQ_INT(got.fixed_key + got.fixed_value, 0);
    for (uint32_t i = 0; i < 2000; i++) {
        char key[64];
        size_t klen = (size_t)snprintf(key, sizeof key, "%*u", (int)(i % 50), i);
        REQUIRE_EQ_INT(shf_table_put(t, key, klen, key, klen, NULL), SHF_OK);
    }
    CHECK_EQ_INT(table_clean(t), 2000);
    struct shf_table_options again = SHF_TABLE_OPTIONS_INIT;
    REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &again, &u), SHF_OK); /* unset: the file's */
    CHECK_EQ_INT(shf_table_options(u, &got), SHF_OK);
    CHECK_EQ_INT(got.max_bytes, (4 << 20) + 4096);
    CHECK_EQ_INT(got.hash, SHF_HASH_SIPHASH13);
    CHECK(got.lock_timeout_ms > 0);
    HAS(u, "100", "100");
    shf_table_close(u), u = NULL;
    again.hash = SHF_HASH_FOLDED;
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &again, &u), SHF_ERR_INCOMPATIBLE);
    again.hash = 0, again.max_bytes = 8 << 20;
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &again, &u), SHF_ERR_INCOMPATIBLE);
    again.max_bytes = 0, again.fixed_key = 4, again.fixed_value = 4;
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &again, &u), SHF_ERR_INCOMPATIBLE);
    CHECK(u == NULL);
    again.fixed_key = again.fixed_value = 0, again.flags = 1u << 31;
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &again, &u), SHF_ERR_INVALID);
    again.flags = 0, again.size = offsetof(struct shf_table_options, flags); /* a caller with the first header */
    REQUIRE_EQ_INT(shf_table_open(temp_path("a"), 0, &again, &u), SHF_OK);
    CHECK_EQ_INT(shf_table_options(u, &again), SHF_OK);
    CHECK_EQ_INT(again.hash, SHF_HASH_SIPHASH13);
    shf_table_close(u), u = NULL;
    shf_table_close(t);
    t = table_create("b");
    CHECK_EQ_INT(mode_of(temp_path("b")), 0600);
    CHECK_EQ_INT(shf_table_options(t, &got), SHF_OK);
    CHECK_EQ_INT(got.mode, 0600);
    CHECK_EQ_INT(got.hash, SHF_HASH_FOLDED);
    CHECK_EQ_INT(got.lock_timeout_ms, 10000);
    CHECK(got.max_bytes >= UINT64_C(1) << 30);
    CHECK(table_stats(t).file_bytes <= 128 << 10); /* an empty table is small */
    shf_table_close(t);
    umask(mask);
}

TEST(what_open_refuses) {
    struct shf_table *t = NULL, *u = table_create("a");
    char other[256];
    CHECK_EQ_INT(PUT(u, "k", "v"), SHF_OK);
    CHECK_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE | SHF_EXCL, NULL, &t), SHF_ERR_EXISTS);
    CHECK_EQ_INT(shf_table_open(temp_path("no/where"), SHF_CREATE, NULL, &t), SHF_ERR_NOT_FOUND);
    CHECK_EQ_INT(shf_table_open(test_dir, SHF_CREATE, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(symlink(temp_path("a"), temp_path("link")), 0);
    CHECK_EQ_INT(shf_table_open(temp_path("link"), 0, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(shf_table_open(temp_path("link"), SHF_CREATE, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(symlink(temp_path("target"), temp_path("dangling")), 0);
    CHECK_EQ_INT(shf_table_open(temp_path("dangling"), SHF_CREATE, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK(access(temp_path("target"), F_OK) != 0);
    CHECK_EQ_INT(mkfifo(temp_path("fifo"), 0600), 0);
    CHECK_EQ_INT(shf_table_open(temp_path("fifo"), 0, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(shf_table_open("/dev/null", 0, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(shf_table_open("", SHF_CREATE, NULL, &t), SHF_ERR_INVALID_PATH);
    static char longpath[70000];
    memset(longpath, 'x', sizeof longpath - 1);
    CHECK_EQ_INT(shf_table_open(longpath, SHF_CREATE, NULL, &t), SHF_ERR_INVALID_PATH);
    CHECK_EQ_INT(link(temp_path("a"), temp_path("hard")), 0);
    CHECK_EQ_INT(shf_table_open(temp_path("hard"), 0, NULL, &t), SHF_ERR_INVALID_PATH);
    unlink(temp_path("hard"));
    for (int i = 0; i < 4; i++) { /* not a table, or cut off */
        snprintf(other, sizeof other, "%s", temp_path("text"));
        int fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (i == 1) CHECK(write(fd, "#!/bin/sh\n", 10) == 10);
        if (i == 2) CHECK(ftruncate(fd, 1 << 20) == 0);
        if (i == 3) {
            char page[8192];
            CHECK(pread(shf_table_fd(u), page, sizeof page, 0) == sizeof page);
            CHECK(write(fd, page, sizeof page) == sizeof page);
        }
        close(fd);
        int rc = shf_table_open(other, SHF_CREATE, NULL, &t);
        CHECK(rc == SHF_ERR_INCOMPATIBLE || rc == SHF_ERR_CORRUPT || (i == 3 && rc == SHF_ERR_UNCLEAN));
        rc = shf_unlink(other);
        if (i < 3) CHECK_EQ_INT(rc, SHF_ERR_INVALID_PATH);
    }
    CHECK(t == NULL);
    CHECK_EQ_INT(shf_unlink(temp_path("zz")), SHF_ERR_NOT_FOUND);
    CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, NULL, &t), SHF_ERR_NOT_FOUND);
    HAS(u, "k", "v"); /* its users keep it */
    CHECK_EQ_INT(PUT(u, "k", "w"), SHF_OK);
    struct shf_table *w = table_create("a"); /* another file of the same name */
    HASNT(w, "k");
    shf_table_close(w);
    shf_table_close(u);
}

static void copy_file(const char *from, const char *to) {
    static char buf[1 << 16];
    int a = open(from, O_RDONLY), b = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (ssize_t n; (n = read(a, buf, sizeof buf)) > 0;) CHECK(write(b, buf, (size_t)n) == n);
    close(a), close(b);
}
TEST(copies) {
    struct shf_table *t = table_create("a"), *c = NULL;
    CHECK_EQ_INT(PUT(t, "k", "v"), SHF_OK);
    copy_file(temp_path("a"), temp_path("live"));
    CHECK_EQ_INT(shf_table_open(temp_path("live"), 0, NULL, &c), SHF_ERR_UNCLEAN);
    shf_table_close(t);
    copy_file(temp_path("a"), temp_path("clean"));
    c = table_open("clean", 0);
    HAS(c, "k", "v");
    CHECK_EQ_INT(table_clean(c), 1);
    shf_table_close(c);
}

TEST(full_file) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    static unsigned char val[20000], out[20000];
    char key[24];
    size_t klen, n;
    uint32_t count = 0, uid = 7;
    o.max_bytes = 8 << 20; /* 256 segments and 256 chunks are 2 MiB */
    REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &o, &t), SHF_OK);
    int rc = SHF_OK;
    for (; rc == SHF_OK; count++) {
        klen = key_of(key, count);
        size_t vlen = count % 50 == 49 ? 20000 : MANY < 10000 ? 1800 : 300;
        value_fill(val, vlen, key, klen, 1);
        rc = shf_table_put(t, key, klen, val, vlen, &uid);
        if (rc == SHF_OK) uid = 7;
    }
    count--;
    CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
    CHECK_EQ_INT(uid, 7);
    CHECK(count > 1000);
    CHECK_EQ_INT(table_clean(t), count);
    for (uint32_t i = 0; i < count; i++) {
        klen = key_of(key, i);
        CHECK_EQ_INT(shf_table_get(t, key, klen, out, sizeof out, &n), SHF_OK);
        CHECK(value_check(out, n, key, klen, NULL));
    }
    /* a replace may fail too, then the old value stands; room made by del can be used again */
    int failed = 0;
    for (uint32_t i = 0; i < count; i++) {
        klen = key_of(key, i);
        value_fill(val, 1000, key, klen, 2);
        rc = shf_table_put(t, key, klen, val, 1000, NULL);
        CHECK(rc == SHF_OK || rc == SHF_ERR_NO_SPACE);
        failed += rc != SHF_OK;
        CHECK_EQ_INT(shf_table_get(t, key, klen, out, sizeof out, &n), SHF_OK);
        CHECK(value_check(out, n, key, klen, NULL) && (rc == SHF_OK) == (n == 1000));
    }
    CHECK(failed > 0);
    CHECK_EQ_INT(table_clean(t), count);
    CHECK_EQ_INT(shf_table_del(t, "k5", 2), SHF_OK); /* needs no space */
    CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 0);
    uint32_t second = 0;
    for (rc = SHF_OK; second < count; second++) {
        klen = key_of(key, second);
        if ((rc = shf_table_put(t, key, klen, val, 200, NULL)) != SHF_OK) break;
    }
    CHECK_EQ_INT(second, count);
    table_clean(t);
    CHECK(table_stats(t).file_bytes <= 8 << 20);
    shf_table_close(t);
}

/* A thousand keys are replaced for ever in a file of bounded size: nothing may be refused. */
TEST(updates_alone_do_not_fill_the_file) {
    static const size_t lengths[] = {4, 8, 100, 3300, 4100, 9000};
    static unsigned char val[9000];
    for (size_t l = 0; l < 6; l++) {
        struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
        struct shf_table *t = NULL;
        char key[24];
        uint32_t keys = 300;
        size_t chunk = 4096; /* each of 256 shards needs chunks of its own, of about eight records */
        while (chunk < 65536 && chunk < 8 * lengths[l]) chunk *= 2;
        o.max_bytes = (4 << 20) + keys * lengths[l] * 3 + (lengths[l] < 8192 ? 256 * 2 * chunk : 0);
        REQUIRE_EQ_INT(shf_table_anonymous("a", &o, &t), SHF_OK);
        int bad = 0;
        for (uint32_t i = 0; i < 40 * keys && bad < 3; i++) {
            size_t klen = key_of(key, test_rng() % keys), vlen = lengths[l] - (i % 2 && l != 1);
            int rc = shf_table_put(t, key, klen, val, vlen, NULL);
            if (rc != SHF_OK) FAIL("value %zu, put %u: %d, %s", vlen, i, rc, shf_last_error()->message), bad++;
        }
        struct shf_table_stats s = table_stats(t);
        printf("# %5zu bytes: file %llu KiB, records %llu KiB of which garbage %llu KiB\n", lengths[l],
               (unsigned long long)s.file_bytes >> 10, (unsigned long long)s.record_bytes >> 10,
               (unsigned long long)s.garbage_bytes >> 10);
        table_clean(t);
        shf_table_close(t);
    }
}

#ifdef SHF_SMALL
TEST(full_index) {
    struct shf_table *t = table_create("a");
    struct model m;
    model_init(&m);
    char key[24];
    uint32_t uid = 0, refused = 0, first = 0;
    for (uint32_t i = 0; refused < 200; i++) {
        size_t klen = key_of(key, i);
        int rc = shf_table_put(t, key, klen, &i, 4, &uid);
        if (rc == SHF_OK) {
            model_put(&m, key, klen, &i, 4)->uid = uid;
            continue;
        }
        CHECK_EQ_INT(rc, SHF_ERR_FULL);
        CHECK(table_has(t, key, klen, NULL, 0));
        if (!refused++) first = i;
    }
    struct shf_table_stats s = table_stats(t);
    printf("# first refusal at %u of %u, at the end %zu keys, %llu stashed, depth %u, load %u %%\n", first, 2 * 8 * 512,
           m.count, (unsigned long long)s.stashed_keys, s.max_depth, s.load_percent);
    CHECK(s.stashed_keys > 0);
    CHECK(first > 2 * 8 * 512 / 2);
    model_compare(&m, t);
    while (m.count > 100) {
        struct model_entry *e = m.entries[test_rng() % m.count];
        CHECK_EQ_INT(shf_table_del(t, e->key, e->klen), SHF_OK);
        model_del(&m, e->key, e->klen);
    }
    model_compare(&m, t);
    for (uint32_t i = 0; m.count < 5000; i++) {
        size_t klen = key_of(key, 1000000 + i);
        if (shf_table_put(t, key, klen, &i, 4, &uid) == SHF_OK) model_put(&m, key, klen, &i, 4)->uid = uid;
    }
    model_compare(&m, t);
    model_free(&m);
    shf_table_close(t);
}
#endif

/* ---- random sequences against the model ---- */
struct random_update {
    const struct model_entry *e;
    const unsigned char *val;
    size_t vlen;
    int remove, stop;
};
static int random_update_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct random_update *u = context;
    if (u->e)
        CHECK_BYTES(old->data, old->len, u->e->val, u->e->vlen);
    else
        CHECK(old->data == SHF_ABSENT);
    desired->data = u->remove ? SHF_ABSENT : u->val;
    desired->len = u->remove ? 0 : u->vlen;
    return u->stop;
}
static size_t random_length(int large) {
    switch (test_rng() % (large ? 12 : 11)) {
    case 0: return 0;
    case 1:
    case 2: return 8;
    case 3: return test_rng() % 9000;
    case 4: return 8150 + test_rng() % 60;
    case 11: return test_rng() % 60000;
    default: return test_rng() % 100;
    }
}
static void random_sequence(const char *name, uint64_t keys, uint64_t ops, int kinds_of_key, int large) {
    enum { HANDLES = 3 };
    struct shf_table *h[HANDLES];
    struct model m;
    static unsigned char val[70000], out[70000];
    static char keybuf[20000];
    model_init(&m);
    h[0] = table_create(name);
    for (int i = 1; i < HANDLES; i++) h[i] = table_open(name, i == HANDLES - 1 ? SHF_RDONLY : 0);
    uint64_t full = 0;
    for (uint64_t op = 0; op < ops && *test_failures == 0; op++) {
        struct shf_table *t = h[test_rng() % 2], *r = h[test_rng() % 3];
        uint64_t k = test_rng() % keys;
        size_t klen = key_of(keybuf, k), n = 12345, vlen = random_length(large);
        if (kinds_of_key) { /* the same number always gives the same key */
            uint64_t s = k, z = test_next(&s);
            size_t longer = z % 16 == 0 ? 9000 : z % 16 < 3 ? z >> 8 & 255 : z >> 8 & 15;
            if (klen < longer) memset(keybuf + klen, 'x', longer - klen), klen = longer;
        }
        value_fill(val, vlen, keybuf, klen, op);
        struct model_entry *e = model_get(&m, keybuf, klen);
        uint32_t uid = 0;
        uint64_t checked = 0;
        int rc = 0, kind = (int)(test_rng() % 100), put = 0, del = 0;
#define ROOM(rc_) ((rc_) == SHF_ERR_FULL && e == NULL) /* SHF_SMALL only */
        if (kind < 25) {
            rc = shf_table_put(t, keybuf, klen, val, vlen, &uid);
            if (!ROOM(rc)) CHECK_EQ_INT(rc, SHF_OK), put = 1;
        } else if (kind < 30) {
            rc = shf_table_insert(t, keybuf, klen, val, vlen, &uid);
            if (e) {
                CHECK_EQ_INT(rc, SHF_EXISTS);
                if (e->uid) CHECK_EQ_INT(uid, e->uid);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK), put = 1;
            }
        } else if (kind < 35) {
            rc = shf_table_replace(t, keybuf, klen, val, vlen, out, sizeof out, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen), put = 1;
        } else if (kind < 50) {
            rc = shf_table_get(r, keybuf, klen, out, sizeof out, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen);
        } else if (kind < 60) {
            CHECK_EQ_INT(shf_table_del(t, keybuf, klen), e ? SHF_OK : SHF_NOT_FOUND);
            del = 1;
        } else if (kind < 63) {
            rc = shf_table_take(t, keybuf, klen, out, sizeof out, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen), del = 1;
        } else if (kind < 66) {
            int same = e && test_rng() % 2;
            rc = shf_table_del_if_equal(t, keybuf, klen, same ? e->val : val, same ? e->vlen : vlen);
            if (e && !same) same = e->vlen == vlen && memcmp(e->val, val, vlen) == 0;
            CHECK_EQ_INT(rc, !e ? SHF_NOT_FOUND : same ? SHF_OK : SHF_UNCHANGED);
            del = same;
        } else if (kind < 72) {
            int64_t delta = (int64_t)test_rng(), previous = 1, v = 0;
            rc = shf_table_add(t, keybuf, klen, delta, &previous);
            if (e && e->vlen == 8) memcpy(&v, e->val, 8);
            if (e && e->vlen != 8) {
                CHECK_EQ_INT(rc, SHF_ERR_NOT_A_COUNTER);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                CHECK_EQ_INT(previous, v);
                v = (int64_t)((uint64_t)v + (uint64_t)delta);
                vlen = 8, memcpy(val, &v, 8), put = 1;
            }
        } else if (kind < 80) {
            int right = (int)(test_rng() % 2), remove = test_rng() % 4 == 0;
            struct shf_bytes expected = {SHF_ABSENT, 0}, desired = {val, vlen};
            if (right ? e != NULL : test_rng() % 2) expected.data = e ? e->val : val, expected.len = e ? e->vlen : 3;
            if (e && !right && expected.data == e->val) expected.len = e->vlen / 2;
            if (remove) desired.data = SHF_ABSENT, desired.len = 0;
            int equal = e ? expected.data != SHF_ABSENT && expected.len == e->vlen : expected.data == SHF_ABSENT;
            rc = shf_table_cas(t, keybuf, klen, &expected, &desired, out, sizeof out, &n);
            if (!equal) {
                CHECK_EQ_INT(rc, SHF_UNCHANGED);
                if (e) CHECK_BYTES(out, n, e->val, e->vlen);
                if (!e) CHECK(n == SIZE_MAX);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                put = !remove, del = remove;
            }
        } else if (kind < 86) {
            struct random_update u = {e, val, vlen, test_rng() % 4 == 0, test_rng() % 4 == 0};
            rc = shf_table_update(t, keybuf, klen, random_update_fn, &u, &uid);
            if (u.stop) {
                CHECK_EQ_INT(rc, SHF_STOPPED);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                CHECK_EQ_INT(uid != 0, !u.remove);
                put = !u.remove, del = u.remove;
            }
        } else if (kind < 90) {
            CHECK_EQ_INT(shf_table_uid(r, keybuf, klen, &uid), e ? SHF_OK : SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_checked_uid(r, keybuf, klen, &checked), e ? SHF_OK : SHF_NOT_FOUND);
            if (e) {
                CHECK_EQ_INT(checked >> 32, uid);
                if (e->uid) CHECK_EQ_INT(e->uid, uid);
                if (e->check) CHECK_EQ_INT(e->check, checked);
                e->uid = uid, e->check = checked;
            }
        } else if (kind < 96 && e && e->check) {
            switch (kind) {
            case 90: CHECK_EQ_INT(shf_table_put_by_uid(t, e->uid, val, vlen), SHF_OK), put = 1; break;
            case 91: CHECK_EQ_INT(shf_table_put_by_checked_uid(t, e->check, val, vlen), SHF_OK), put = 1; break;
            case 92: CHECK_EQ_INT(shf_table_del_by_uid(t, e->uid), SHF_OK), del = 1; break;
            case 93:
                checked = e->check;
                CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked), SHF_OK), del = 1;
                CHECK_EQ_INT(shf_table_get_by_checked_uid(r, checked, out, sizeof out, &n), SHF_NOT_FOUND);
                break;
            case 94: CHECK_EQ_INT(shf_table_get_by_checked_uid(r, e->check, out, sizeof out, &n), SHF_OK);
                CHECK_BYTES(out, n, e->val, e->vlen);
                break;
            default: CHECK_EQ_INT(shf_table_key_by_uid(r, e->uid, out, sizeof out, &n), SHF_OK);
                CHECK_BYTES(out, n, keybuf, klen);
            }
        } else if (kind < 98) {
            CHECK_EQ_INT(shf_table_contains(r, keybuf, klen), e ? SHF_OK : SHF_NOT_FOUND);
        } else if (op % 20011 == 7 || (op + 1) % 40000 == 0) {
            CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
            model_clear(&m);
            e = NULL;
        }
        if (rc == SHF_ERR_FULL) {
            full++;
#ifndef SHF_SMALL
            FAIL("full after %llu operations", (unsigned long long)op);
#endif
        }
        if (put) {
            uint32_t old = e ? e->uid : 0;
            e = model_put(&m, keybuf, klen, val, vlen);
            if (uid && old) CHECK_EQ_INT(uid, old);
            if (uid) e->uid = uid;
        }
        if (del) model_del(&m, keybuf, klen);
        if (*test_failures) FAIL("... at operation %llu of kind %d, key %llu", (unsigned long long)op, kind, (unsigned long long)k);
        if (op % 10000 == 9999) {
            model_compare(&m, h[op / 10000 % 3]);
            int i = (int)(test_rng() % HANDLES);
            shf_table_close(h[i]);
            h[i] = table_open(name, i == HANDLES - 1 ? SHF_RDONLY : 0);
        }
    }
    model_compare(&m, h[0]);
    struct shf_table_stats s = table_stats(h[0]);
    printf("# %zu keys, file %llu KiB, records %llu, garbage %llu, large %llu KiB, depth %u, stashed %llu, full %llu\n",
           m.count, (unsigned long long)s.file_bytes >> 10, (unsigned long long)s.record_bytes >> 10,
           (unsigned long long)s.garbage_bytes >> 10, (unsigned long long)s.large_bytes >> 10, s.max_depth,
           (unsigned long long)s.stashed_keys, (unsigned long long)full);
    for (int i = 0; i < HANDLES; i++) shf_table_close(h[i]);
    struct shf_table *t = table_open(name, 0); /* closed and opened again */
    model_compare(&m, t);
    shf_table_close(t);
    model_free(&m);
}
TEST(random_few_keys) { random_sequence("a", 40, test_env("SHF_OPS", 200000) / 4, 1, 1); }
TEST(random_some_keys) { random_sequence("a", 1500, test_env("SHF_OPS", 200000) / 4, 0, 1); }
TEST(random_all_kinds_of_keys) { random_sequence("a", 6000, test_env("SHF_OPS", 200000) / 4, 1, 0); }
TEST(random_many_keys) { random_sequence("a", 60000, test_env("SHF_OPS", 200000) / 4, 0, 0); }

int main(int argc, char **argv) { return run(argc, argv); }
