/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_cells_table.c - tables of fixed lengths in one process: every function, wrong lengths, and against a model
 *
 * Over a matrix of lengths, because each rounds to words in its own way: narrow cells, wide ones with values of one word,
 * with a redo record, odd lengths, the largest. Built twice, as validate_table.c; with SHF_SMALL stash, doubling and
 * SHF_ERR_FULL are within reach. SHF_OPS: operations of the random sequences (200,000 over all).
 */
#include "model.h"

#include <fcntl.h>

#ifdef SHF_SMALL
#define SEGMENTS (2u * 8u) /* shards, deepest directory */
#define MANY 4000u
#else
#define MANY 120000u
#endif
#define CELLS 448u /* of a segment */

struct shape {
    size_t k, v;
};
static const struct shape shapes[] = {
    {4, 4},  {1, 1},  {1, 7},   {7, 1},   {8, 0},   {3, 5},   {5, 3},   {2, 6},  {6, 2},    {1, 0},   {2, 1},   {8, 8},
    {4, 8},  {16, 8}, {1, 8},   {8, 1},   {9, 8},   {4, 9},   {9, 0},   {7, 2},  {16, 100}, {1, 119}, {119, 1}, {60, 60},
    {20, 12}, {120, 0}, {12, 8}, {8, 112}, {112, 8}, {4, 16}, {16, 4}, {8, 64}, {17, 15},  {32, 24}, {5, 115}, {3, 33}};
#define SHAPES (sizeof shapes / sizeof *shapes)
static const struct shape few[] = {{4, 4}, {3, 5}, {16, 8}, {9, 7}, {20, 12}, {8, 112}}; /* one of each kind */
#define FEW (sizeof few / sizeof *few)

static struct shf_table_options lengths_of(size_t k, size_t v) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    o.fixed_key = (uint32_t)k, o.fixed_value = (uint32_t)v;
    return o;
}

/* ---- creating and opening ---- */
TEST(lengths_that_are_refused) {
    static const struct {
        uint32_t k, v;
        int rc;
    } bad[] = {{0, 1, SHF_ERR_INVALID},           {0, 8, SHF_ERR_INVALID},          {0, 120, SHF_ERR_INVALID},
               {0, 121, SHF_ERR_INVALID},         {0, UINT32_MAX, SHF_ERR_INVALID}, {60, 61, SHF_ERR_TOO_LONG},
               {121, 0, SHF_ERR_TOO_LONG},        {1, 120, SHF_ERR_TOO_LONG},       {1, UINT32_MAX, SHF_ERR_TOO_LONG},
               {UINT32_MAX, 0, SHF_ERR_TOO_LONG}, {UINT32_MAX, 1, SHF_ERR_TOO_LONG}, {UINT32_MAX, UINT32_MAX, SHF_ERR_TOO_LONG},
               {1u << 31, 1u << 31, SHF_ERR_TOO_LONG}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct shf_table_options o = lengths_of(bad[i].k, bad[i].v);
        struct shf_table *t = NULL;
        CHECK_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &o, &t), bad[i].rc);
        CHECK(strlen(shf_last_error()->message) > 5);
        CHECK_EQ_INT(shf_table_anonymous("a", &o, &t), bad[i].rc);
        CHECK(t == NULL && access(temp_path("a"), F_OK) != 0);
    }
}

TEST(opening_with_other_lengths) {
    for (size_t i = 0; i < FEW; i++) {
        size_t k = few[i].k, v = few[i].v;
        unsigned char key[120], val[120];
        struct shf_table *t = table_create_fixed("a", k, v, 0), *u = NULL;
        fixed_key(key, k, 7), value_fill(val, v, key, k, 1);
        CHECK_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
        const struct shape other[] = {{k + 1, v}, {k, v + 1}, {k - 1, v}, {v, k + 1}, {k, v ? 0 : 3}, {1, 119}};
        for (size_t j = 0; j < sizeof other / sizeof *other; j++) {
            struct shf_table_options o = lengths_of(other[j].k, other[j].v);
            char want[4][16];
            if (other[j].k + other[j].v > 120) continue;
            CHECK_EQ_INT(shf_table_open(temp_path("a"), 0, &o, &u), SHF_ERR_INCOMPATIBLE);
            CHECK_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &o, &u), SHF_ERR_INCOMPATIBLE);
            CHECK_EQ_INT(shf_table_open(temp_path("a"), SHF_RDONLY, &o, &u), SHF_ERR_INCOMPATIBLE);
            CHECK_EQ_INT(shf_table_from_fd(shf_table_fd(t), &o, &u), SHF_ERR_INCOMPATIBLE);
            snprintf(want[0], 16, "%zu", k), snprintf(want[1], 16, "%zu", v);
            snprintf(want[2], 16, "%zu", other[j].k), snprintf(want[3], 16, "%zu", other[j].v);
            for (int w = 0; w < 4; w++)
                if (!strstr(shf_last_error()->message, want[w])) FAIL("\"%s\" does not name %s", shf_last_error()->message, want[w]);
        }
        CHECK(u == NULL);
        for (int how = 0; how < 4; how++) { /* with its own, and without */
            struct shf_table_options o = lengths_of(how % 2 ? k : 0, how % 2 ? v : 0), got = SHF_TABLE_OPTIONS_INIT;
            CHECK_EQ_INT(shf_table_open(temp_path("a"), how < 2 ? SHF_CREATE : SHF_RDONLY, how == 2 ? NULL : &o, &u), SHF_OK);
            CHECK_EQ_INT(shf_table_options(u, &got), SHF_OK);
            CHECK_EQ_INT(got.fixed_key, k);
            CHECK_EQ_INT(got.fixed_value, v);
            size_t n = 0;
            unsigned char out[121];
            CHECK_EQ_INT(shf_table_get(u, key, k, out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, val, v);
            shf_table_close(u), u = NULL;
        }
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
    struct shf_table *t = table_create("var"), *u = NULL; /* a variable one */
    struct shf_table_options o = lengths_of(4, 44);
    CHECK_EQ_INT(shf_table_open(temp_path("var"), 0, &o, &u), SHF_ERR_INCOMPATIBLE);
    CHECK(strstr(shf_last_error()->message, "44") != NULL);
    CHECK_EQ_INT(shf_table_open(temp_path("var"), SHF_CREATE, &o, &u), SHF_ERR_INCOMPATIBLE);
    CHECK(u == NULL);
    shf_table_close(t);
}

/* ---- wrong lengths ---- */
struct upd {
    struct shf_table *t;
    const void *key;
    size_t klen, vlen, seen; /* seen: SIZE_MAX = absent */
    int calls, meddle, stop, remove;
    unsigned char val[130], old[130], meddled[130];
};
static int upd_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct upd *u = context;
    u->calls++;
    u->seen = old->data == SHF_ABSENT ? SIZE_MAX : old->len;
    if (u->seen != SIZE_MAX && u->seen) memcpy(u->old, old->data, u->seen < 130 ? u->seen : 130);
    if (u->calls <= u->meddle) {
        value_fill(u->meddled, u->vlen, u->key, u->klen, 100 + (uint64_t)u->calls);
        if (u->meddle == 3 && u->calls == 2)
            CHECK_EQ_INT(shf_table_del(u->t, u->key, u->klen), SHF_OK);
        else
            CHECK_EQ_INT(shf_table_put(u->t, u->key, u->klen, u->meddled, u->vlen, NULL), SHF_OK);
    }
    if (u->stop) return 17;
    desired->data = u->remove ? SHF_ABSENT : u->val;
    desired->len = u->remove ? 0 : u->vlen;
    return 0;
}
#define WRONG(call) CHECK_EQ_INT(call, SHF_ERR_WRONG_LENGTH)
TEST(keys_of_another_length) {
    static unsigned char key[20000], val[20000], out[200];
    for (size_t i = 0; i < SHAPES; i++) {
        size_t k = shapes[i].k, v = shapes[i].v, n = 77, done = 66, removed = 55, lens[1] = {44};
        const size_t others[] = {0, k - 1, k + 1, 2 * k, k + 8, 121, 20000, (size_t)UINT32_MAX + 1, SIZE_MAX};
        struct shf_table *t = table_create_fixed("a", k, v, i % 2 ? SHF_HASH_SIPHASH13 : SHF_HASH_FOLDED);
        uint32_t uid = 55;
        uint64_t wide = 66;
        int64_t previous = 11;
        struct shf_bytes value = {val, v}, absent = {SHF_ABSENT, 0};
        struct upd u = {0};
        memset(key, 'k', sizeof key), memset(val, 'v', sizeof val);
        CHECK_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
        for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
            size_t w = others[j];
            if (w == k) continue;
            struct shf_bytes k1 = {key, w};
            struct shf_pair pair = {k1, value};
            struct shf_value room = {out, sizeof out, 33, 22};
            WRONG(shf_table_put(t, key, w, val, v, &uid));
            WRONG(shf_table_insert(t, key, w, val, v, &uid));
            WRONG(shf_table_replace(t, key, w, val, v, out, sizeof out, &n));
            WRONG(shf_table_get(t, key, w, out, sizeof out, &n));
            WRONG(shf_table_get(t, key, w, NULL, 0, &n));
            WRONG(shf_table_contains(t, key, w));
            WRONG(shf_table_del(t, key, w));
            WRONG(shf_table_take(t, key, w, out, sizeof out, &n));
            WRONG(shf_table_del_if_equal(t, key, w, val, v));
            if (v == 8) WRONG(shf_table_add(t, key, w, 1, &previous));
            WRONG(shf_table_cas(t, key, w, &value, &absent, out, sizeof out, &n));
            WRONG(shf_table_cas(t, key, w, &absent, &value, out, sizeof out, &n));
            WRONG(shf_table_update(t, key, w, upd_fn, &u, &uid));
            WRONG(shf_table_uid(t, key, w, &uid));
            WRONG(shf_table_checked_uid(t, key, w, &wide));
            WRONG(shf_table_get_many(t, 1, &k1, &room));
            WRONG(shf_table_get_many_packed(t, 1, &k1, out, sizeof out, lens, &done));
            CHECK_EQ_INT(done, 0);
            WRONG(shf_table_put_many(t, 1, &pair, &done));
            CHECK_EQ_INT(done, 0);
            WRONG(shf_table_del_many(t, 1, &k1, &removed, &done));
            CHECK_EQ_INT(done, 0);
            CHECK(shf_last_error()->code == SHF_ERR_WRONG_LENGTH && strlen(shf_last_error()->message) > 5);
        }
        WRONG(shf_table_get(t, NULL, 0, out, sizeof out, &n));
        WRONG(shf_table_put(t, NULL, 0, val, v, &uid));
        CHECK_EQ_INT(n, 77);
        CHECK_EQ_INT(uid, 55);
        CHECK_EQ_INT(wide, 66);
        CHECK_EQ_INT(previous, 11);
        CHECK_EQ_INT(u.calls, 0);
        CHECK(table_has(t, key, k, val, v));
        CHECK_EQ_INT(table_clean(t), 1);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
TEST(values_of_another_length) {
    static unsigned char key[130], absent_key[130], val[20000], out[200];
    for (size_t i = 0; i < SHAPES; i++) {
        size_t k = shapes[i].k, v = shapes[i].v, n = 77, done = 66;
        const size_t others[] = {0, v - 1, v + 1, 8, 16, v + 8, 121, 20000, (size_t)UINT32_MAX + 1, SIZE_MAX};
        struct shf_table *t = table_create_fixed("a", k, v, i % 2 ? SHF_HASH_SIPHASH13 : SHF_HASH_FOLDED);
        uint32_t uid = 0, no_uid = 55;
        uint64_t checked = 0;
        int64_t previous = 11;
        memset(key, 'k', sizeof key), memset(absent_key, 'a', sizeof absent_key), memset(val, 'v', sizeof val);
        CHECK_EQ_INT(shf_table_put(t, key, k, val, v, &uid), SHF_OK);
        CHECK_EQ_INT(shf_table_checked_uid(t, key, k, &checked), SHF_OK);
        struct shf_bytes mine = {val, v}, absent = {SHF_ABSENT, 0};
        for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
            size_t w = others[j];
            if (w == v) continue;
            struct shf_bytes other = {val, w};
            struct shf_pair pairs[2] = {{{key, k}, {val, v}}, {{absent_key, k}, other}};
            struct upd u = {.key = key, .klen = k, .vlen = w};
            WRONG(shf_table_put(t, key, k, val, w, &no_uid));
            WRONG(shf_table_put(t, absent_key, k, val, w, &no_uid));
            WRONG(shf_table_insert(t, absent_key, k, val, w, &no_uid));
            WRONG(shf_table_replace(t, key, k, val, w, out, sizeof out, &n));
            WRONG(shf_table_put_by_uid(t, uid, val, w));
            WRONG(shf_table_put_by_checked_uid(t, checked, val, w));
            WRONG(shf_table_cas(t, key, k, &mine, &other, out, sizeof out, &n));
            WRONG(shf_table_cas(t, absent_key, k, &absent, &other, out, sizeof out, &n));
            WRONG(shf_table_update(t, key, k, upd_fn, &u, &no_uid));
            WRONG(shf_table_update(t, absent_key, k, upd_fn, &u, &no_uid));
            CHECK_EQ_INT(u.calls, 2);
            WRONG(shf_table_put_many(t, 2, pairs, &done));
            CHECK_EQ_INT(done, 1);
            CHECK_EQ_INT(n, 77);
            /* what is compared may have any length; it is not equal then */
            CHECK_EQ_INT(shf_table_del_if_equal(t, key, k, val, w), SHF_UNCHANGED);
            CHECK_EQ_INT(shf_table_del_if_equal(t, absent_key, k, val, w), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_cas(t, key, k, &other, &mine, out, sizeof out, &n), SHF_UNCHANGED);
            CHECK_BYTES(out, n, val, v);
            CHECK_EQ_INT(shf_table_cas(t, key, k, &other, &absent, out, sizeof out, &n), SHF_UNCHANGED);
            CHECK_EQ_INT(shf_table_cas(t, absent_key, k, &other, &mine, out, sizeof out, &n), SHF_UNCHANGED);
            CHECK(n == SIZE_MAX);
            n = 77;
            CHECK(table_has(t, key, k, val, v));
            CHECK(table_has(t, absent_key, k, NULL, 0));
        }
        if (v != 8) {
            CHECK_EQ_INT(shf_table_add(t, key, k, 1, &previous), SHF_ERR_NOT_A_COUNTER);
            CHECK_EQ_INT(shf_table_add(t, absent_key, k, 1, &previous), SHF_ERR_NOT_A_COUNTER);
        }
        CHECK_EQ_INT(previous, 11);
        CHECK_EQ_INT(no_uid, 55);
        CHECK(table_has(t, key, k, val, v));
        CHECK_EQ_INT(table_clean(t), 1);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
TEST(truncated_changes_nothing) {
    for (size_t i = 0; i < SHAPES; i++) {
        size_t k = shapes[i].k, v = shapes[i].v, n, kn;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        uint32_t uid = 0;
        uint64_t checked = 0, position = 0;
        unsigned char key[120], val[120], other[120];
        fixed_key(key, k, 3), value_fill(val, v, key, k, 5), value_fill(other, v, key, k, 6);
        CHECK_EQ_INT(shf_table_put(t, key, k, val, v, &uid), SHF_OK);
        CHECK_EQ_INT(shf_table_checked_uid(t, key, k, &checked), SHF_OK);
        for (int c = 0; c < 3 && v > 0; c++) {
            size_t cap = c == 0 ? 0 : c == 1 ? v / 2 : v - 1;
            unsigned char *out = cap ? malloc(cap) : NULL; /* the sanitizer sees a byte too many */
            struct shf_value room = {out, cap, 1, 1};
            struct shf_bytes kb = {key, k};
#define SHORT(call) n = 0, CHECK_EQ_INT(call, SHF_TRUNCATED), CHECK_EQ_INT(n, v)
            SHORT(shf_table_get(t, key, k, out, cap, &n));
            SHORT(shf_table_take(t, key, k, out, cap, &n));
            SHORT(shf_table_get_by_uid(t, uid, out, cap, &n));
            SHORT(shf_table_get_by_checked_uid(t, checked, out, cap, &n));
            SHORT(shf_table_replace(t, key, k, other, v, out ? out : other, cap, &n));
            CHECK_EQ_INT(shf_table_get_many(t, 1, &kb, &room), SHF_OK);
            CHECK_EQ_INT(room.code, SHF_TRUNCATED);
            CHECK_EQ_INT(room.len, v);
            unsigned char kbuf[120];
            SHORT(shf_table_next(t, &position, kbuf, k, &kn, out, cap, &n, NULL));
            CHECK_EQ_INT(kn, k);
            CHECK_EQ_INT(position, 0);
            n = 0;
            struct shf_bytes e = {other, v}, d = {val, v};
            if (v > 0) CHECK_EQ_INT(shf_table_cas(t, key, k, &e, &d, out, cap, &n), SHF_UNCHANGED);
            CHECK_EQ_INT(n, v);
            CHECK(cap == 0 || memcmp(out, val, cap) == 0);
            free(out);
            CHECK(table_has(t, key, k, val, v));
        }
        unsigned char *kbuf = malloc(k), *vbuf = malloc(v + 1);
        if (k > 1) CHECK_EQ_INT(shf_table_key_by_uid(t, uid, kbuf, k - 1, &n), SHF_TRUNCATED);
        if (k > 1) CHECK_EQ_INT(n, k);
        CHECK_EQ_INT(shf_table_key_by_checked_uid(t, checked, NULL, 0, &n), SHF_TRUNCATED);
        CHECK_EQ_INT(n, k);
        CHECK_EQ_INT(shf_table_key_by_uid(t, uid, kbuf, k, &n), SHF_OK);
        CHECK_BYTES(kbuf, n, key, k);
        CHECK_EQ_INT(shf_table_next(t, &position, kbuf, k - 1, &kn, vbuf, v, &n, NULL), SHF_TRUNCATED);
        CHECK_EQ_INT(shf_table_next(t, &position, kbuf, k, &kn, vbuf, v, &n, NULL), SHF_OK);
        CHECK_BYTES(kbuf, kn, key, k);
        CHECK_BYTES(vbuf, n, val, v);
        CHECK_EQ_INT(shf_table_replace(t, key, k, other, v, NULL, 0, NULL), SHF_OK); /* the old one is not wanted */
        CHECK(table_has(t, key, k, other, v));
        CHECK_EQ_INT(shf_table_take(t, key, k, vbuf, v, &n), SHF_OK);
        CHECK_BYTES(vbuf, n, other, v);
        CHECK(table_has(t, key, k, NULL, 0));
        CHECK_EQ_INT(table_clean(t), 0);
        free(kbuf), free(vbuf);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
TEST(illegal_arguments) {
    struct shf_table *t = table_create_fixed("a", 4, 9, 0);
    unsigned char v[9] = {0}, out[9];
    size_t n = 77;
    struct shf_bytes none = {NULL, 9}, good = {v, 9};
    CHECK_EQ_INT(shf_table_put(t, NULL, 4, v, 9, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_put(t, "abcd", 4, NULL, 9, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_get(t, NULL, 4, out, 9, &n), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_get(t, "abcd", 4, NULL, 9, &n), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_get(t, "abcd", 4, out, 9, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_del(t, NULL, 4), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_cas(t, "abcd", 4, &none, &good, NULL, 0, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_cas(t, "abcd", 4, &good, &none, NULL, 0, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf_table_update(t, "abcd", 4, NULL, NULL, NULL), SHF_ERR_INVALID);
    CHECK_EQ_INT(n, 77);
    static const uint32_t uids[] = {0, 1, 7, 8, 9, 511, 512, 0x00ffffff, 0x01000000, 0x01000001, 0x80000000, 0xffffffff};
    for (int round = 0; round < 2; round++) { /* in an empty table, and where there are segments but no such key */
        for (size_t i = 0; i < sizeof uids / sizeof *uids; i++) {
            uint64_t c = (uint64_t)uids[i] << 32 | 7;
            CHECK_EQ_INT(shf_table_get_by_uid(t, uids[i], out, 9, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_key_by_uid(t, uids[i], out, 9, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_uid(t, uids[i], v, 9), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_uid(t, uids[i]), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, c, out, 9, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_key_by_checked_uid(t, c, out, 9, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_checked_uid(t, c, v, 9), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_checked_uid(t, c), SHF_NOT_FOUND);
        }
        for (uint32_t i = 0; i < 3000; i++) CHECK_EQ_INT(shf_table_put(t, &i, 4, v, 9, NULL), SHF_OK);
        for (uint32_t i = 0; i < 3000; i++) CHECK_EQ_INT(shf_table_del(t, &i, 4), SHF_OK);
    }
    CHECK_EQ_INT(n, 77);
    CHECK_EQ_INT(table_clean(t), 0);
    shf_table_close(t);
}

/* ---- counters, cas, update ---- */
TEST(counters) {
    static const size_t klens[] = {1, 4, 8, 9, 16, 100, 112};
    for (size_t i = 0; i < sizeof klens / sizeof *klens; i++) {
        size_t k = klens[i], n;
        struct shf_table *t = table_create_fixed("a", k, 8, 0);
        unsigned char key[112];
        int64_t previous = 99, v;
        fixed_key(key, k, 5);
        CHECK_EQ_INT(shf_table_add(t, key, k, 5, &previous), SHF_OK);
        CHECK_EQ_INT(previous, 0);
        CHECK_EQ_INT(shf_table_add(t, key, k, -7, &previous), SHF_OK);
        CHECK_EQ_INT(previous, 5);
        CHECK_EQ_INT(shf_table_add(t, key, k, 0, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get(t, key, k, &v, 8, &n), SHF_OK);
        CHECK_EQ_INT(v, -2);
        v = INT64_MAX;
        CHECK_EQ_INT(shf_table_put(t, key, k, &v, 8, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_add(t, key, k, 1, &previous), SHF_OK);
        CHECK(previous == INT64_MAX);
        CHECK_EQ_INT(shf_table_get(t, key, k, &v, 8, &n), SHF_OK);
        CHECK(v == INT64_MIN);
        CHECK_EQ_INT(table_clean(t), 1);
        for (uint64_t j = 0; j < fixed_keys(k, 500); j++) { /* many in one table, twice each */
            fixed_key(key, k, j);
            CHECK_EQ_INT(shf_table_put(t, key, k, &j, 8, NULL), SHF_OK);
            CHECK_EQ_INT(shf_table_add(t, key, k, 1000, &previous), SHF_OK);
            CHECK_EQ_INT(previous, j);
        }
        CHECK_EQ_INT(table_clean(t), fixed_keys(k, 500));
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
TEST(compare_and_swap) {
    static const struct shf_bytes absent = {SHF_ABSENT, 0};
    for (size_t i = 0; i < SHAPES; i++) {
        size_t k = shapes[i].k, v = shapes[i].v, n = 1;
        if (v == 0) continue;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        unsigned char key[120], av[120], bv[120], buf[130];
        fixed_key(key, k, 9), value_fill(av, v, key, k, 1), value_fill(bv, v, key, k, 2);
        struct shf_bytes a = {av, v}, b = {bv, v};
        CHECK_EQ_INT(shf_table_cas(t, key, k, &absent, &absent, buf, sizeof buf, &n), SHF_OK);
        CHECK_EQ_INT(shf_table_cas(t, key, k, &a, &absent, buf, sizeof buf, &n), SHF_UNCHANGED);
        CHECK(n == SIZE_MAX);
        CHECK_EQ_INT(shf_table_cas(t, key, k, &absent, &a, buf, sizeof buf, &n), SHF_OK);
        CHECK(table_has(t, key, k, av, v));
        CHECK_EQ_INT(shf_table_cas(t, key, k, &absent, &b, buf, sizeof buf, &n), SHF_UNCHANGED);
        CHECK_BYTES(buf, n, av, v);
        for (size_t at = 0; at < v; at++) { /* every byte counts */
            av[at] ^= 0x80;
            CHECK_EQ_INT(shf_table_cas(t, key, k, &a, &b, NULL, 0, NULL), SHF_UNCHANGED);
            CHECK_EQ_INT(shf_table_del_if_equal(t, key, k, av, v), SHF_UNCHANGED);
            av[at] ^= 0x80;
        }
        for (size_t at = 0; at < k; at++) { /* of keys, too */
            key[at] ^= 0x80;
            CHECK_EQ_INT(shf_table_contains(t, key, k), SHF_NOT_FOUND);
            key[at] ^= 0x80;
        }
        CHECK_EQ_INT(shf_table_cas(t, key, k, &a, &b, buf, sizeof buf, &n), SHF_OK);
        CHECK(table_has(t, key, k, bv, v));
        CHECK_EQ_INT(shf_table_cas(t, key, k, &b, &b, NULL, 0, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_cas(t, key, k, &b, &absent, NULL, 0, NULL), SHF_OK);
        CHECK(table_has(t, key, k, NULL, 0));
        CHECK_EQ_INT(table_clean(t), 0);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
TEST(update) {
    for (size_t i = 0; i < SHAPES; i++) {
        size_t k = shapes[i].k, v = shapes[i].v;
        static struct upd u;
        unsigned char key[120], before[120];
        uint32_t uid = 7, same = 0;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        memset(&u, 0, sizeof u);
        fixed_key(key, k, 11), value_fill(u.val, v, key, k, 1);
        u.t = t, u.key = key, u.klen = k, u.vlen = v;
        u.stop = 1;
        CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, &uid), SHF_STOPPED);
        CHECK(u.calls == 1 && u.seen == SIZE_MAX);
        u.stop = 0, u.remove = 1;
        CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, &uid), SHF_OK); /* absent stays absent */
        CHECK_EQ_INT(uid, 0);
        u.remove = 0;
        CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, &uid), SHF_OK);
        CHECK(table_has(t, key, k, u.val, v));
        CHECK_EQ_INT(shf_table_uid(t, key, k, &same), SHF_OK);
        CHECK(uid == same && uid != 0);
        for (u.meddle = 0; u.meddle < 4; u.meddle++) { /* the key changes under the callback */
            if (v == 0 && u.meddle != 3 && u.meddle != 0) continue; /* nothing to be seen */
            value_fill(before, v, key, k, 50), value_fill(u.val, v, key, k, 60);
            CHECK_EQ_INT(shf_table_put(t, key, k, before, v, NULL), SHF_OK);
            u.calls = 0;
            CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, NULL), SHF_OK);
            if (v >= 4) CHECK_EQ_INT(u.calls, u.meddle + 1);
            if (u.meddle == 0) CHECK_BYTES(u.old, u.seen, before, v);
            CHECK(table_has(t, key, k, u.val, v));
        }
        CHECK_EQ_INT(shf_table_del(t, key, k), SHF_OK);
        u.meddle = 1, u.calls = 0; /* it comes to life under the callback */
        CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, NULL), SHF_OK);
        CHECK_EQ_INT(u.calls, 2);
        CHECK_BYTES(u.old, u.seen, u.meddled, v);
        u.meddle = 0, u.remove = 1, uid = 7;
        CHECK_EQ_INT(shf_table_update(t, key, k, upd_fn, &u, &uid), SHF_OK);
        CHECK_EQ_INT(uid, 0);
        CHECK_EQ_INT(table_clean(t), 0);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

/* ---- keys that are hard to tell apart ---- */
TEST(equal_tags_and_buckets) {
    enum { TAGS = 8, DELTAS = 22 }; /* the latter more than two buckets hold */
    static unsigned char keys[TAGS + DELTAS][120], flat[DELTAS * 120];
    for (size_t i = 0; i < FEW; i++) {
        size_t k = few[i].k, v = few[i].v, n = 0, len;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        unsigned char val[120], out[120];
        uint32_t uid[TAGS + DELTAS];
        for (int set = 0; set < 2; set++) { /* both sets are of the same bucket */
            size_t want = colliding_keys(t, k, flat, set ? DELTAS : TAGS, set ? COLLIDE_DELTA : COLLIDE_TAG);
            for (size_t j = 0; j < want; j++) {
                size_t o = 0;
                while (o < n && memcmp(keys[o], flat + j * k, k) != 0) o++;
                if (o == n) memcpy(keys[n++], flat + j * k, k);
            }
        }
        for (int round = 0; round < 15; round++) {
            for (size_t j = 0; j < n; j++) {
                value_fill(val, v, keys[j], k, (uint64_t)round);
                CHECK_EQ_INT(shf_table_put(t, keys[j], k, val, v, &uid[j]), SHF_OK);
            }
            for (size_t j = 0; j < n; j++) {
                value_fill(val, v, keys[j], k, (uint64_t)round);
                CHECK(table_has(t, keys[j], k, val, v));
                CHECK_EQ_INT(shf_table_get_by_uid(t, uid[j], out, sizeof out, &len), SHF_OK);
                CHECK_BYTES(out, len, val, v);
                for (size_t o = 0; o < j; o++) CHECK(uid[o] != uid[j]);
            }
            CHECK_EQ_INT(table_clean(t), n);
            if (round == 0) printf("# %zu, %zu: %llu of %zu keys stashed\n", k, v, (unsigned long long)table_stats(t).stashed_keys, n);
            uint64_t gone = test_rng();
            for (size_t j = 0; j < n; j++)
                if (gone >> j & 1) CHECK_EQ_INT(shf_table_del(t, keys[j], k), SHF_OK);
            for (size_t j = 0; j < n; j++) CHECK_EQ_INT(shf_table_contains(t, keys[j], k), gone >> j & 1 ? SHF_NOT_FOUND : SHF_OK);
            CHECK_EQ_INT(table_clean(t), n - (size_t)__builtin_popcountll(gone & ((UINT64_C(1) << n) - 1)));
        }
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

/* ---- many keys ---- */
static size_t fill_pair(unsigned char *key, unsigned char *val, size_t k, size_t v, uint64_t i, uint64_t stamp) {
    fixed_key(key, k, i);
    value_fill(val, v, key, k, stamp);
    return v;
}
TEST(uids_are_stable) {
    static uint32_t uids[MANY];
    enum { WATCHED = 1000 };
    static uint64_t checked[WATCHED];
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v, n;
        struct shf_table *t = table_create_fixed("a", k, v, s % 2 ? SHF_HASH_SIPHASH13 : SHF_HASH_FOLDED);
        unsigned char key[120], val[120], out[120];
        for (uint32_t i = 0; i < MANY; i++) {
            fill_pair(key, val, k, v, i, i);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, &uids[i]), SHF_OK);
            CHECK(uids[i] != 0);
            if (i < WATCHED) {
                CHECK_EQ_INT(shf_table_checked_uid(t, key, k, &checked[i]), SHF_OK);
                CHECK_EQ_INT(checked[i] >> 32, uids[i]);
            }
        }
        for (uint32_t i = 0; i < MANY; i++) {
            uint32_t uid = 0;
            fill_pair(key, val, k, v, i, i);
            CHECK_EQ_INT(shf_table_uid(t, key, k, &uid), SHF_OK);
            CHECK_EQ_INT(uid, uids[i]);
            CHECK_EQ_INT(shf_table_get_by_uid(t, uid, out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, val, v);
            if (i % 16) continue;
            CHECK_EQ_INT(shf_table_key_by_uid(t, uid, out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, key, k);
        }
        struct shf_table_stats st = table_stats(t);
        printf("# %3zu, %3zu: %u keys: segments %llu, depth %u, load %u %%, stashed %llu, %.1f bytes a key\n", k, v, MANY,
               (unsigned long long)st.segments, st.max_depth, st.load_percent, (unsigned long long)st.stashed_keys,
               (double)st.file_bytes / MANY);
        for (uint32_t i = 0; i < WATCHED; i++) {
            fill_pair(key, val, k, v, i, i);
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, val, v);
            CHECK_EQ_INT(shf_table_key_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, key, k);
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i] ^ 1, out, sizeof out, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i] ^ 0x80000000u, val, v), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked[i] ^ 2), SHF_NOT_FOUND);
            value_fill(val, v, key, k, 7);
            if (i % 2)
                CHECK_EQ_INT(shf_table_put_by_uid(t, uids[i], val, v), SHF_OK);
            else
                CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i], val, v), SHF_OK);
            CHECK(table_has(t, key, k, val, v));
            CHECK_EQ_INT(i % 3 ? shf_table_del_by_uid(t, uids[i]) : shf_table_del_by_checked_uid(t, checked[i]), SHF_OK);
            CHECK(table_has(t, key, k, NULL, 0));
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_NOT_FOUND);
        }
        for (uint32_t i = 0; i < MANY / 4; i++) { /* cells are used again; the rest of their shards splits on */
            fill_pair(key, val, k, v, MANY + i, 1);
            int rc = shf_table_put(t, key, k, val, v, NULL);
            if (rc != SHF_OK) CHECK_EQ_INT(rc, SHF_ERR_FULL);
        }
        for (uint32_t i = 0; i < WATCHED; i++) {
            int rc = shf_table_get_by_uid(t, uids[i], out, sizeof out, &n);
            CHECK(rc == SHF_OK || rc == SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_get_by_checked_uid(t, checked[i], out, sizeof out, &n), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_put_by_checked_uid(t, checked[i], val, v), SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked[i]), SHF_NOT_FOUND);
        }
        for (uint32_t i = WATCHED; i < MANY; i++) { /* of those that lived on */
            uint32_t uid = 0;
            fixed_key(key, k, i);
            CHECK_EQ_INT(shf_table_uid(t, key, k, &uid), SHF_OK);
            CHECK_EQ_INT(uid, uids[i]);
        }
        for (int i = 0; i < 20000; i++) { /* any number: a key of that UID, or nothing */
            uint32_t uid = (uint32_t)test_rng(), again = 0;
            int rc = shf_table_key_by_uid(t, uid, key, sizeof key, &n);
            if (rc == SHF_NOT_FOUND) continue;
            REQUIRE_EQ_INT(rc, SHF_OK);
            CHECK_EQ_INT(n, k);
            CHECK_EQ_INT(shf_table_uid(t, key, n, &again), SHF_OK);
            CHECK_EQ_INT(uid, again);
        }
        table_clean(t);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(positions) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v, kn, vn;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        struct model m;
        unsigned char key[120], val[120], kb[120], vb[120];
        model_init(&m);
        for (uint32_t i = 0; i < MANY / 10; i++) {
            fill_pair(key, val, k, v, i, i);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            model_put(&m, key, k, val, v);
        }
        model_compare(&m, t);
        uint64_t seen = 0, position = 0, before = 0;
        m.mark++;
        for (uint32_t part = 0; part < SHF_SHARDS; part++) { /* the parts together give each key once */
            position = SHF_SHARD_POSITION(part);
            while (position < SHF_SHARD_POSITION(part + 1)) {
                int rc = shf_table_next(t, &position, kb, sizeof kb, &kn, vb, sizeof vb, &vn, NULL);
                if (rc == SHF_NOT_FOUND) break;
                REQUIRE_EQ_INT(rc, SHF_OK);
                if (position > SHF_SHARD_POSITION(part + 1)) break; /* the first of a later part */
                struct model_entry *e = model_get(&m, kb, kn);
                REQUIRE(e != NULL);
                CHECK(e->mark != m.mark);
                e->mark = m.mark, seen++;
            }
        }
        CHECK_EQ_INT(seen, m.count);
        /* a position is good in another handle, and while the table changes under it */
        struct shf_table *u = table_open("a", 0);
        uint32_t extra = 1000000;
        m.mark++, seen = 0, position = 0;
        for (;;) {
            int rc = shf_table_next(seen % 2 ? t : u, &position, kb, sizeof kb, &kn, vb, sizeof vb, &vn, NULL);
            if (rc == SHF_NOT_FOUND) break;
            REQUIRE_EQ_INT(rc, SHF_OK);
            CHECK(position > before);
            before = position;
            CHECK(value_check(vb, vn, kb, kn, NULL));
            struct model_entry *e = model_get(&m, kb, kn);
            if (e) {
                CHECK(e->mark != m.mark);
                e->mark = m.mark, seen++;
            }
#ifdef SHF_SMALL
            if (extra > 1002000) continue;
#endif
            for (int i = 0; i < 3; i++) { /* splits and doublings all the time */
                fill_pair(key, val, k, v, extra++, 1);
                CHECK_EQ_INT(shf_table_put(u, key, k, val, v, NULL), SHF_OK);
            }
            e = m.entries[test_rng() % m.count]; /* replace moves nothing */
            value_fill(val, v, e->key, k, 99);
            CHECK_EQ_INT(shf_table_put(t, e->key, k, val, v, NULL), SHF_OK);
        }
        CHECK_EQ_INT(seen, m.count);
        table_clean(t);
        model_free(&m);
        shf_table_close(u);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(clear_and_use) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v;
        struct shf_table *t = table_create_fixed("a", k, v, 0), *r = table_open("a", SHF_RDONLY);
        unsigned char key[120], val[120];
        uint64_t file = 0;
        for (int round = 0; round < 5; round++) {
            for (uint32_t i = 0; i < MANY / 2; i++) {
                fill_pair(key, val, k, v, i, (uint64_t)round);
                REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            }
            CHECK_EQ_INT(table_clean(t), MANY / 2);
            if (round == 1) file = table_stats(t).file_bytes;
            if (round > 1) CHECK(table_stats(t).file_bytes <= file + file / 4 + (4 << 20)); /* the memory comes back */
            CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
            if (round % 2) CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
            CHECK_EQ_INT(table_clean(t), 0);
            fill_pair(key, val, k, v, 1, 50);
            CHECK(table_has(r, key, k, NULL, 0));
            CHECK_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            CHECK(table_has(r, key, k, val, v));
            CHECK_EQ_INT(table_clean(t), 1);
        }
        shf_table_close(r);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

/* The same keys come and go for ever: the file keeps its size, and flags that nobody needs do not pile up. */
TEST(churn_keeps_the_size) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v;
        struct shf_table *t = table_create_fixed("a", k, v, 0);
        unsigned char key[120], val[120];
        uint64_t file = 0, range = MANY;
        for (uint64_t i = 0; i < 4 * range; i++) { /* a window of a quarter of them moves over the keys */
            fill_pair(key, val, k, v, i % range, i);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            if (i < range / 4) continue;
            fixed_key(key, k, (i - range / 4) % range);
            REQUIRE_EQ_INT(shf_table_del(t, key, k), SHF_OK);
            if (i == range) file = table_stats(t).file_bytes;
        }
        CHECK_EQ_INT(table_clean(t), range / 4);
        CHECK(table_stats(t).file_bytes <= file + file / 2);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(stats_agree_with_what_was_put) {
    for (size_t s = 0; s < SHAPES; s++) {
        size_t k = shapes[s].k, v = shapes[s].v;
        struct shf_table *t = table_create_fixed("a", k, v, 0), *r = table_open("a", SHF_RDONLY);
        unsigned char key[120], val[120];
        uint64_t keys = fixed_keys(k, 2500), words = k + v <= 8 ? 8 : 2 + 7 * ((k + 7) / 8 + (v + 7) / 8);
        uint64_t segment = (words + 7) / 8 * 64 * 64; /* buckets of whole lines */
        struct stat st;
        for (uint64_t i = 0; i < keys; i++) {
            fill_pair(key, val, k, v, i, i);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
        }
        for (int i = 0; i < 2; i++) {
            struct shf_table_stats a = table_stats(i ? r : t);
            CHECK_EQ_INT(a.keys, keys);
            CHECK_EQ_INT(a.large_values + a.large_bytes + a.record_bytes + a.garbage_bytes, 0);
            CHECK_EQ_INT(a.handles, 1);
            CHECK_EQ_INT(a.recoveries, 0);
            CHECK(a.segments > 0);
            CHECK_EQ_INT(a.load_percent, a.keys * 100 / (a.segments * CELLS));
            CHECK(a.index_bytes >= a.segments * segment && a.index_bytes <= a.segments * segment + 256 * 8192);
            CHECK(stat(temp_path("a"), &st) == 0);
            CHECK_EQ_INT(a.file_bytes, st.st_size);
            CHECK(a.free_bytes + a.index_bytes <= a.file_bytes);
        }
        struct shf_table_report report = {0};
        report.size = sizeof report;
        CHECK_EQ_INT(shf_table_check(t, &report), SHF_OK);
        CHECK_EQ_INT(report.structure_only, 0);
        CHECK_EQ_INT(report.keys, keys);
        CHECK_EQ_INT(shf_table_check(r, &report), SHF_OK);
        CHECK_EQ_INT(report.structure_only, 1);
        shf_table_close(t);
        CHECK_EQ_INT(table_walk(r), keys); /* alone */
        shf_table_close(r);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(read_only_handles) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v, n = 77;
        struct shf_table *t = table_create_fixed("a", k, v, 0), *r;
        unsigned char key[120], val[120], w[120], out[120];
        uint32_t uid = 0;
        uint64_t checked = 0, len = 0;
        static struct upd u;
        memset(&u, 0, sizeof u);
        fill_pair(key, val, k, v, 1, 1), value_fill(w, v, key, k, 2);
        CHECK_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
        r = table_open("a", SHF_RDONLY);
        CHECK_EQ_INT(shf_table_is_read_only(r), 1);
        CHECK(table_has(r, key, k, val, v));
        CHECK_EQ_INT(shf_table_uid(r, key, k, &uid), SHF_OK);
        CHECK_EQ_INT(shf_table_checked_uid(r, key, k, &checked), SHF_OK);
        struct shf_bytes a = {val, v}, b = {w, v}, kb = {key, k};
        struct shf_pair pair = {kb, b};
#define RO(call) CHECK_EQ_INT(call, SHF_ERR_READ_ONLY)
        RO(shf_table_put(r, key, k, w, v, &uid));
        RO(shf_table_insert(r, key, k, w, v, &uid));
        RO(shf_table_replace(r, key, k, w, v, NULL, 0, NULL));
        RO(shf_table_del(r, key, k));
        RO(shf_table_take(r, key, k, out, sizeof out, &n));
        RO(shf_table_del_if_equal(r, key, k, val, v));
        if (v == 8) RO(shf_table_add(r, key, k, 1, NULL));
        RO(shf_table_cas(r, key, k, &a, &b, NULL, 0, NULL));
        RO(shf_table_update(r, key, k, upd_fn, &u, &uid));
        RO(shf_table_put_by_uid(r, uid, w, v));
        RO(shf_table_del_by_uid(r, uid));
        RO(shf_table_put_by_checked_uid(r, checked, w, v));
        RO(shf_table_del_by_checked_uid(r, checked));
        RO(shf_table_clear(r));
        RO(shf_table_put_many(r, 1, &pair, &n));
        RO(shf_table_del_many(r, 1, &kb, &n, NULL));
#undef RO
        CHECK(table_has(t, key, k, val, v));
        for (uint32_t i = 0; i < MANY / 10; i++) { /* what a writer adds is seen, growth included */
            fill_pair(key, val, k, v, i, i);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            if (i % 50 == 0) CHECK(table_has(r, key, k, val, v));
        }
        CHECK_EQ_INT(shf_table_len(r, &len), SHF_OK);
        CHECK_EQ_INT(len, MANY / 10);
        CHECK_EQ_INT(table_walk(r), len);
        shf_table_close(r);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

TEST(anonymous_and_from_fd) {
    for (size_t s = 0; s < SHAPES; s++) {
        size_t k = shapes[s].k, v = shapes[s].v;
        struct shf_table_options o = lengths_of(k, v);
        struct shf_table *t = NULL, *u = NULL, *r = NULL;
        unsigned char key[120], val[120];
        uint64_t keys = fixed_keys(k, 1000);
        char path[64];
        REQUIRE_EQ_INT(shf_table_anonymous("cells", &o, &t), SHF_OK);
        REQUIRE_EQ_INT(shf_table_from_fd(shf_table_fd(t), s % 2 ? &o : NULL, &u), SHF_OK);
        snprintf(path, sizeof path, "/proc/self/fd/%d", shf_table_fd(t));
        int ro = open(path, O_RDONLY | O_CLOEXEC);
        REQUIRE_EQ_INT(shf_table_from_fd(ro, NULL, &r), SHF_OK);
        close(ro);
        CHECK_EQ_INT(shf_table_is_read_only(r), 1);
        for (uint64_t i = 0; i < keys; i++) {
            fill_pair(key, val, k, v, i, i);
            REQUIRE_EQ_INT(shf_table_put(i % 2 ? t : u, key, k, val, v, NULL), SHF_OK);
        }
        for (uint64_t i = 0; i < keys; i++) {
            fill_pair(key, val, k, v, i, i);
            CHECK(table_has(i % 2 ? u : t, key, k, val, v));
            CHECK(table_has(r, key, k, val, v));
        }
        shf_table_close(t);
        CHECK_EQ_INT(table_clean(u), keys);
        shf_table_close(u);
        CHECK_EQ_INT(table_walk(r), keys);
        shf_table_close(r);
    }
}

TEST(full_file) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v, n;
        struct shf_table_options o = lengths_of(k, v);
        struct shf_table *t = NULL;
        unsigned char key[120], val[120], out[120];
        uint32_t count = 0, uid = 7, again = 0, most = 4000000;
        int rc = SHF_OK;
#ifdef SHF_SMALL
        o.max_bytes = (uint64_t)(s < 4 ? 256 << 10 : 384 << 10);
#else
        o.max_bytes = (uint64_t)(k + v > 100 ? 24 << 20 : k + v > 24 ? 12 << 20 : 4 << 20);
#endif
        REQUIRE_EQ_INT(shf_table_open(temp_path("a"), SHF_CREATE, &o, &t), SHF_OK);
        for (; rc == SHF_OK && count < most; count++) {
            fill_pair(key, val, k, v, count, 1);
            uid = 7;
            rc = shf_table_put(t, key, k, val, v, &uid);
        }
        count--;
        CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
        CHECK_EQ_INT(uid, 7);
        CHECK(table_has(t, key, k, NULL, 0));
        CHECK_EQ_INT(table_clean(t), count);
        printf("# %zu, %zu: %u keys in %llu KiB\n", k, v, count, (unsigned long long)o.max_bytes >> 10);
        for (uint32_t i = 0; i < count; i++) { /* a replace needs no space */
            fill_pair(key, val, k, v, i, 2);
            CHECK_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
            CHECK_EQ_INT(shf_table_get(t, key, k, out, sizeof out, &n), SHF_OK);
            CHECK_BYTES(out, n, val, v);
        }
        for (uint32_t i = 0; i < count; i += 2) fixed_key(key, k, i), CHECK_EQ_INT(shf_table_del(t, key, k), SHF_OK);
        for (uint32_t i = 0; i < count; i += 2) { /* and there is room where a key was */
            fill_pair(key, val, k, v, i, 3);
            rc = shf_table_put(t, key, k, val, v, NULL);
            CHECK(rc == SHF_OK || rc == SHF_ERR_NO_SPACE);
            again += rc == SHF_OK;
        }
        CHECK(again >= count / 2 - count / 20);
        table_clean(t);
        CHECK_EQ_INT(shf_table_clear(t), SHF_OK);
        CHECK_EQ_INT(table_clean(t), 0);
        for (uint32_t i = 0; i < count - count / 20; i++) {
            fill_pair(key, val, k, v, i, 4);
            REQUIRE_EQ_INT(shf_table_put(t, key, k, val, v, NULL), SHF_OK);
        }
        table_clean(t);
        CHECK(table_stats(t).file_bytes <= o.max_bytes);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}

#ifdef SHF_SMALL
TEST(full_index) {
    for (size_t s = 0; s < FEW; s++) {
        size_t k = few[s].k, v = few[s].v;
        struct shf_table *t = table_create_fixed("a", k, v, s % 2 ? SHF_HASH_SIPHASH13 : 0);
        struct model m;
        unsigned char key[120], val[120];
        uint32_t uid = 0, refused = 0, first = 0;
        model_init(&m);
        for (uint32_t i = 0; refused < 200; i++) {
            fill_pair(key, val, k, v, i, i);
            int rc = shf_table_put(t, key, k, val, v, &uid);
            if (rc == SHF_OK) {
                model_put(&m, key, k, val, v)->uid = uid;
                continue;
            }
            CHECK_EQ_INT(rc, SHF_ERR_FULL);
            CHECK(table_has(t, key, k, NULL, 0));
            if (!refused++) first = i;
        }
        struct shf_table_stats st = table_stats(t);
        printf("# %zu, %zu: first refusal at %u of %u, at the end %zu keys, %llu stashed, depth %u, load %u %%\n", k, v, first,
               SEGMENTS * CELLS, m.count, (unsigned long long)st.stashed_keys, st.max_depth, st.load_percent);
        CHECK(st.stashed_keys > 0);
        CHECK(first > SEGMENTS * CELLS / 2);
        model_compare(&m, t);
        while (m.count > 100) {
            struct model_entry *e = m.entries[test_rng() % m.count];
            CHECK_EQ_INT(shf_table_del(t, e->key, e->klen), SHF_OK);
            model_del(&m, e->key, e->klen);
            if (m.count % 1000 == 500) model_compare(&m, t);
        }
        model_compare(&m, t);
        for (uint32_t i = 0; m.count < 4500; i++) {
            fill_pair(key, val, k, v, 1000000 + i, i);
            if (shf_table_put(t, key, k, val, v, &uid) == SHF_OK) model_put(&m, key, k, val, v)->uid = uid;
        }
        model_compare(&m, t);
        model_free(&m);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
    }
}
#endif

/* ---- batches ---- */
#define BATCH 300
static void batches(struct shf_table *t, struct shf_table *r, struct model *m, size_t k, size_t v, uint64_t keys, uint64_t op) {
    static unsigned char key[BATCH][120], val[BATCH][120], out[BATCH][120], packed[BATCH * 120];
    static struct shf_bytes kb[BATCH];
    static struct shf_pair pair[BATCH];
    static struct shf_value room[BATCH];
    static size_t lens[BATCH];
    static uint32_t uid[BATCH];
    static uint64_t checked[BATCH];
    size_t n = test_rng() % (BATCH + 1), done = 9, there = 0, removed = 9;
    for (size_t i = 0; i < n; i++) { /* some of them twice */
        fixed_key(key[i], k, test_rng() % keys);
        value_fill(val[i], v, key[i], k, op + i);
        kb[i] = (struct shf_bytes){key[i], k}, pair[i] = (struct shf_pair){kb[i], {val[i], v}};
        room[i] = (struct shf_value){out[i], v, 99, 99};
        struct model_entry *e = model_get(m, key[i], k);
        there += e != NULL;
        uid[i] = e && e->uid ? e->uid : 0, checked[i] = e && e->check ? e->check : 0;
    }
    switch (test_rng() % 4) {
    case 0:
        CHECK_EQ_INT(shf_table_get_many(r, n, kb, room), SHF_OK);
        for (size_t i = 0; i < n; i++) {
            struct model_entry *e = model_get(m, key[i], k);
            CHECK_EQ_INT(room[i].code, e ? SHF_OK : SHF_NOT_FOUND);
            CHECK_EQ_INT(room[i].len, e ? v : 0);
            if (e) CHECK_BYTES(out[i], v, e->val, e->vlen);
        }
        CHECK_EQ_INT(shf_table_get_many_packed(r, n, kb, packed, there * v, lens, &done), SHF_OK);
        CHECK_EQ_INT(done, n);
        for (size_t i = 0, at = 0; i < n; i++) {
            struct model_entry *e = model_get(m, key[i], k);
            CHECK_EQ_INT(lens[i], e ? v : SHF_NO_VALUE);
            if (e) CHECK_BYTES(packed + at, v, e->val, e->vlen), at += v;
        }
        break;
    case 1:
        CHECK_EQ_INT(shf_table_get_many_by_uid(r, n, uid, room), SHF_OK);
        for (size_t i = 0; i < n; i++) {
            struct model_entry *e = model_get(m, key[i], k);
            CHECK_EQ_INT(room[i].code, uid[i] ? SHF_OK : SHF_NOT_FOUND);
            if (uid[i]) CHECK_BYTES(out[i], room[i].len, e->val, e->vlen);
        }
        CHECK_EQ_INT(shf_table_get_many_by_checked_uid_packed(r, n, checked, packed, sizeof packed, lens, &done), SHF_OK);
        for (size_t i = 0, at = 0; i < n; i++) {
            struct model_entry *e = model_get(m, key[i], k);
            CHECK_EQ_INT(lens[i], checked[i] ? v : SHF_NO_VALUE);
            if (checked[i]) CHECK_BYTES(packed + at, v, e->val, e->vlen), at += v;
        }
        break;
    case 2: {
        int rc = shf_table_put_many(t, n, pair, &done);
        if (rc == SHF_ERR_FULL) {
            CHECK(done < n);
        } else {
            CHECK_EQ_INT(rc, SHF_OK);
            CHECK_EQ_INT(done, n);
        }
        for (size_t i = 0; i < done; i++) model_put(m, key[i], k, val[i], v);
        break;
    }
    default:
        n = n % 20; /* as many as the puts of a sequence make up for */
        CHECK_EQ_INT(shf_table_del_many(t, n, kb, &removed, &done), SHF_OK);
        CHECK_EQ_INT(done, n);
        there = 0;
        for (size_t i = 0; i < n; i++) there += (size_t)model_del(m, key[i], k);
        CHECK_EQ_INT(removed, there);
    }
}

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
static uint64_t full;
static void random_sequence(size_t k, size_t v, uint32_t hash, uint64_t keys, uint64_t ops) {
    enum { HANDLES = 3 };
    struct shf_table *h[HANDLES];
    struct model m;
    unsigned char key[128], val[128], out[128];
    model_init(&m);
    keys = fixed_keys(k, keys);
    h[0] = table_create_fixed("a", k, v, hash);
    for (int i = 1; i < HANDLES; i++) h[i] = table_open("a", i == HANDLES - 1 ? SHF_RDONLY : 0);
    for (uint64_t op = 0; op < ops && *test_failures == 0; op++) {
        struct shf_table *t = h[test_rng() % 2], *r = h[test_rng() % 3];
        uint64_t number = test_rng() % keys, checked = 0;
        size_t n = 12345;
        fixed_key(key, k, number), value_fill(val, v, key, k, op);
        struct model_entry *e = model_get(&m, key, k);
        uint32_t uid = 0;
        int rc = 0, kind = (int)(test_rng() % 100), put = 0, del = 0;
#define ROOM(rc_) ((rc_) == SHF_ERR_FULL && e == NULL) /* SHF_SMALL only */
        if (kind < 25) {
            rc = shf_table_put(t, key, k, val, v, &uid);
            if (!ROOM(rc)) CHECK_EQ_INT(rc, SHF_OK), put = 1;
        } else if (kind < 30) {
            rc = shf_table_insert(t, key, k, val, v, &uid);
            if (e) {
                CHECK_EQ_INT(rc, SHF_EXISTS);
                if (e->uid) CHECK_EQ_INT(uid, e->uid);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK), put = 1;
            }
        } else if (kind < 35) {
            rc = shf_table_replace(t, key, k, val, v, out, sizeof out, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen), put = 1;
        } else if (kind < 50) {
            rc = shf_table_get(r, key, k, out, v, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen);
        } else if (kind < 58) {
            CHECK_EQ_INT(shf_table_del(t, key, k), e ? SHF_OK : SHF_NOT_FOUND);
            del = 1;
        } else if (kind < 61) {
            rc = shf_table_take(t, key, k, out, v, &n);
            CHECK_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
            if (e) CHECK_BYTES(out, n, e->val, e->vlen), del = 1;
        } else if (kind < 64) {
            int same = e && test_rng() % 2;
            rc = shf_table_del_if_equal(t, key, k, same ? e->val : val, v);
            if (e && !same) same = v == 0 || memcmp(e->val, val, v) == 0;
            CHECK_EQ_INT(rc, !e ? SHF_NOT_FOUND : same ? SHF_OK : SHF_UNCHANGED);
            del = same;
        } else if (kind < 70) {
            int64_t delta = (int64_t)test_rng(), previous = 1, was = 0;
            rc = shf_table_add(t, key, k, delta, &previous);
            if (e && v == 8) memcpy(&was, e->val, 8);
            if (v != 8) {
                CHECK_EQ_INT(rc, SHF_ERR_NOT_A_COUNTER);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                CHECK_EQ_INT(previous, was);
                was = (int64_t)((uint64_t)was + (uint64_t)delta);
                memcpy(val, &was, 8), put = 1;
            }
        } else if (kind < 78) {
            int right = (int)(test_rng() % 2), remove = test_rng() % 4 == 0;
            struct shf_bytes expected = {SHF_ABSENT, 0}, desired = {val, v};
            if (right ? e != NULL : test_rng() % 2) expected.data = e ? e->val : val, expected.len = v;
            if (e && !right && expected.data == e->val) expected.len = v / 2; /* another length: not equal */
            if (remove) desired.data = SHF_ABSENT, desired.len = 0;
            int equal = e ? expected.data != SHF_ABSENT && expected.len == v : expected.data == SHF_ABSENT;
            rc = shf_table_cas(t, key, k, &expected, &desired, out, sizeof out, &n);
            if (!equal) {
                CHECK_EQ_INT(rc, SHF_UNCHANGED);
                if (e) CHECK_BYTES(out, n, e->val, e->vlen);
                if (!e) CHECK(n == SIZE_MAX);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                put = !remove, del = remove;
            }
        } else if (kind < 84) {
            struct random_update u = {e, val, v, test_rng() % 4 == 0, test_rng() % 4 == 0};
            rc = shf_table_update(t, key, k, random_update_fn, &u, &uid);
            if (u.stop) {
                CHECK_EQ_INT(rc, SHF_STOPPED);
            } else if (!ROOM(rc)) {
                CHECK_EQ_INT(rc, SHF_OK);
                CHECK_EQ_INT(uid != 0, !u.remove);
                put = !u.remove, del = u.remove;
            }
        } else if (kind < 88) {
            CHECK_EQ_INT(shf_table_uid(r, key, k, &uid), e ? SHF_OK : SHF_NOT_FOUND);
            CHECK_EQ_INT(shf_table_checked_uid(r, key, k, &checked), e ? SHF_OK : SHF_NOT_FOUND);
            if (e) {
                CHECK(uid != 0);
                CHECK_EQ_INT(checked >> 32, uid);
                if (e->uid) CHECK_EQ_INT(e->uid, uid);
                if (e->check) CHECK_EQ_INT(e->check, checked);
                e->uid = uid, e->check = checked;
            }
        } else if (kind < 94 && e && e->check) {
            switch (kind) {
            case 88: CHECK_EQ_INT(shf_table_put_by_uid(t, e->uid, val, v), SHF_OK), put = 1; break;
            case 89: CHECK_EQ_INT(shf_table_put_by_checked_uid(t, e->check, val, v), SHF_OK), put = 1; break;
            case 90: CHECK_EQ_INT(shf_table_del_by_uid(t, e->uid), SHF_OK), del = 1; break;
            case 91:
                checked = e->check;
                CHECK_EQ_INT(shf_table_del_by_checked_uid(t, checked), SHF_OK), del = 1;
                CHECK_EQ_INT(shf_table_get_by_checked_uid(r, checked, out, sizeof out, &n), SHF_NOT_FOUND);
                break;
            case 92:
                CHECK_EQ_INT(shf_table_get_by_checked_uid(r, e->check, out, v, &n), SHF_OK);
                CHECK_BYTES(out, n, e->val, e->vlen);
                CHECK_EQ_INT(shf_table_get_by_uid(r, e->uid, out, v, &n), SHF_OK);
                CHECK_BYTES(out, n, e->val, e->vlen);
                break;
            default:
                CHECK_EQ_INT(shf_table_key_by_uid(r, e->uid, out, sizeof out, &n), SHF_OK);
                CHECK_BYTES(out, n, key, k);
            }
        } else if (kind < 96) {
            CHECK_EQ_INT(shf_table_contains(r, key, k), e ? SHF_OK : SHF_NOT_FOUND);
        } else if (kind < 97) {
            size_t wrong = test_rng() % 2 ? k + 1 + test_rng() % 8 : k - 1 - test_rng() % k;
            CHECK_EQ_INT(shf_table_get(r, key, wrong, out, v, &n), SHF_ERR_WRONG_LENGTH);
            CHECK_EQ_INT(shf_table_put(t, key, k, val, v + 1 + test_rng() % 8, NULL), SHF_ERR_WRONG_LENGTH);
        } else if (kind < 99) {
            if (test_rng() % 8 == 0) batches(t, r, &m, k, v, keys, op), e = NULL;
        } else if (op % 5003 == 7 || (op + 1) % 9000 == 0) {
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
            e = model_put(&m, key, k, val, v);
            if (uid && old) CHECK_EQ_INT(uid, old);
            if (uid) e->uid = uid;
        }
        if (del) model_del(&m, key, k);
        if (*test_failures)
            FAIL("... at operation %llu of kind %d, key %llu, lengths %zu, %zu", (unsigned long long)op, kind,
                 (unsigned long long)number, k, v);
        if (op % 5000 == 4999) {
            model_compare(&m, h[op / 5000 % 3]);
            int i = (int)(test_rng() % HANDLES);
            shf_table_close(h[i]);
            h[i] = table_open("a", i == HANDLES - 1 ? SHF_RDONLY : 0);
        }
    }
    model_compare(&m, h[0]);
    for (int i = 0; i < HANDLES; i++) shf_table_close(h[i]);
    struct shf_table *t = table_open("a", 0); /* closed and opened again */
    model_compare(&m, t);
    shf_table_close(t);
    model_free(&m);
    CHECK_EQ_INT(shf_unlink(temp_path("a")), SHF_OK);
}
static void every_shape(uint64_t keys) {
    uint64_t ops = test_env("SHF_OPS", 200000) / 20;
    full = 0;
    for (size_t s = 0; s < SHAPES && *test_failures == 0; s++)
        random_sequence(shapes[s].k, shapes[s].v, s % 3 == 1 ? SHF_HASH_SIPHASH13 : SHF_HASH_FOLDED, keys, ops);
    printf("# %zu shapes, %llu operations each, %llu full\n", SHAPES, (unsigned long long)ops, (unsigned long long)full);
}
TEST(random_few_keys) { every_shape(40); }
TEST(random_some_keys) { every_shape(2000); }
#ifdef SHF_SMALL
TEST(random_to_the_brim) { /* splits, doublings, the stash, and SHF_ERR_FULL */
    full = 0;
    for (size_t s = 0; s < FEW && *test_failures == 0; s++) {
        size_t k = few[s].k, v = few[s].v;
        random_sequence(k, v, 0, 40000, test_env("SHF_OPS", 200000) / 4);
    }
    CHECK(full > 0 || test_env("SHF_OPS", 200000) < 100000);
    printf("# %llu full\n", (unsigned long long)full);
}
#else
TEST(random_many_keys) {
    for (size_t s = 0; s < FEW && *test_failures == 0; s++)
        random_sequence(few[s].k, few[s].v, 0, 200000, test_env("SHF_OPS", 200000) / 4);
}
#endif

int main(int argc, char **argv) { return run(argc, argv); }
