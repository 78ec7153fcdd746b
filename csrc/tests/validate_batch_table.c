/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_batch_table.c - batches give what single calls give: values, outcomes, errors, places, order
 *
 * Each test runs for variable lengths (both hashes) and for several fixed ones; with SHF_SMALL stashes and doublings are
 * about. SHF_OPS: keys of the long batch (1,000,000; at full constants only).
 */
#include "model.h"

struct shape {
    const char *name;
    uint32_t key, value, hash; /* key 0: variable lengths */
};
static const struct shape shapes[] = {
    {"variable", 0, 0, SHF_HASH_DEFAULT}, {"siphash", 0, 0, SHF_HASH_SIPHASH13},
    {"fixed 4+4", 4, 4, 0},               {"fixed 7+1", 7, 1, 0},
    {"fixed 3+0", 3, 0, 0},               {"fixed 8+8", 8, 8, 0},
    {"fixed 20+100", 20, 100, 0},         {"fixed 16+24, siphash", 16, 24, SHF_HASH_SIPHASH13},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])
#define EACH_SHAPE(s) for (const struct shape *s = shapes; s < shapes + SHAPES && *test_failures == 0; s++)

static struct shf_table *table_of(const struct shape *s, uint64_t max_bytes) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.fixed_key = s->key, o.fixed_value = s->value, o.hash = s->hash, o.max_bytes = max_bytes;
    unlink(temp_path("a"));
    int rc = shf_table_open(temp_path("a"), SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) FAIL("%s: %d, %s", s->name, rc, shf_last_error()->message), test_stop();
    return t;
}

/* ---- keys and values ---------------------------------------------------------------------------------- */

#define KEY_MAX 40u
#define VALUE_MAX 9216u
struct item {
    unsigned char key[KEY_MAX + 8];
    size_t klen;
    unsigned char *val;
    size_t vlen; /* SHF_NO_VALUE: absent */
};
#ifdef SHF_SMALL
#define ITEMS 1500u
#else
#define ITEMS 6000u
#endif
static struct item items[ITEMS];

/* Item i of a shape: all lengths 0..40 of keys, values from 0 to 9 KiB; a third absent. */
static void make_items(const struct shape *s) {
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *m = &items[i];
        uint64_t r = test_rng();
        m->klen = s->key ? s->key : i % (KEY_MAX + 1);
        for (size_t k = 0; k < sizeof m->key; k++) m->key[k] = (unsigned char)test_rng();
        if (m->klen > 8) memcpy(m->key + test_rng() % 2 * (m->klen - 8), &(uint64_t){i}, 8); /* else the same key may come twice */
        else if (m->klen >= 3) memcpy(m->key, &i, 3);
        m->vlen = r % 3 == 0 ? SHF_NO_VALUE : r % 16 < 8 ? r / 16 % 17 : r % 16 < 14 ? r / 16 % 300 : r / 16 % (VALUE_MAX + 1);
        if (s->key && m->vlen != SHF_NO_VALUE) m->vlen = s->value;
        free(m->val);
        m->val = test_alloc(m->vlen == SHF_NO_VALUE ? 1 : m->vlen);
        for (size_t k = 0; m->vlen != SHF_NO_VALUE && k < m->vlen; k++) m->val[k] = (unsigned char)(test_rng() >> 7);
    }
}
static void put_items(struct shf_table *t) {
    for (uint32_t i = 0; i < ITEMS; i++) {
        const struct item *m = &items[i];
        if (m->vlen != SHF_NO_VALUE) REQUIRE_EQ_INT(shf_table_put(t, m->key, m->klen, m->val, m->vlen, NULL), SHF_OK);
    }
}

/* ---- gets --------------------------------------------------------------------------------------------- */

/* What the single call says. */
struct answer {
    int rc;
    size_t len;
    uint32_t uid;
    uint64_t checked;
    unsigned char *bytes;
};
#define BATCH_MAX 1000u
static struct answer answers[BATCH_MAX];

static void ask_singles(struct shf_table *t, const uint32_t *which, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct item *m = &items[which[i]];
        struct answer *a = &answers[i];
        if (a->bytes == NULL) a->bytes = test_alloc(VALUE_MAX);
        a->len = 0, a->uid = 0, a->checked = 0;
        a->rc = shf_table_get(t, m->key, m->klen, a->bytes, VALUE_MAX, &a->len);
        if (a->rc == SHF_OK) {
            CHECK_EQ_INT(shf_table_uid(t, m->key, m->klen, &a->uid), SHF_OK);
            CHECK_EQ_INT(shf_table_checked_uid(t, m->key, m->klen, &a->checked), SHF_OK);
        } else {
            CHECK_EQ_INT(a->rc, SHF_NOT_FOUND);
        }
    }
}

static unsigned char *buf; /* BATCH_MAX x VALUE_MAX */
static struct shf_bytes keys[BATCH_MAX];
static struct shf_value out[BATCH_MAX];
static uint32_t uids[BATCH_MAX];
static uint64_t checked[BATCH_MAX];
static size_t lens[BATCH_MAX];

/* Each value into a buffer of its own, a few of them too short. */
static void compare_out(struct shf_table *t, size_t n, int by_uid) {
    for (size_t i = 0; i < n; i++) {
        size_t cap = answers[i].rc == SHF_OK ? answers[i].len : 0;
        if (i % 5 == 1) cap += 3;
        if (i % 7 == 2 && cap > 0) cap--;
        out[i] = (struct shf_value){i % 11 == 3 && cap == 0 ? NULL : buf + i * VALUE_MAX, cap, 12345, -77};
    }
    int rc = by_uid ? shf_table_get_many_by_uid(t, n, uids, out) : shf_table_get_many(t, n, keys, out);
    CHECK_EQ_INT(rc, SHF_OK);
    for (size_t i = 0; i < n; i++) {
        const struct answer *a = &answers[i];
        int code = a->rc == SHF_OK && out[i].cap < a->len ? SHF_TRUNCATED : a->rc;
        CHECK_EQ_INT(out[i].code, code);
        CHECK_EQ_INT(out[i].len, a->rc == SHF_OK ? a->len : 0);
        if (code == SHF_OK) CHECK_BYTES(out[i].data, out[i].len, a->bytes, a->len);
    }
}

enum form { BY_KEY, BY_UID, BY_CHECKED };
static int packed(struct shf_table *t, enum form form, size_t from, size_t n, void *b, size_t cap, size_t *done) {
    if (form == BY_KEY) return shf_table_get_many_packed(t, n, keys + from, b, cap, lens + from, done);
    if (form == BY_UID) return shf_table_get_many_by_uid_packed(t, n, uids + from, b, cap, lens + from, done);
    return shf_table_get_many_by_checked_uid_packed(t, n, checked + from, b, cap, lens + from, done);
}
/* Into one buffer: exactly as long as the values, and again through short ones, resumed where they were full. */
static void compare_packed(struct shf_table *t, size_t n, enum form form) {
    size_t total = 0, done = 777, largest = 0;
    for (size_t i = 0; i < n; i++) total += answers[i].rc == SHF_OK ? answers[i].len : 0;
    for (size_t i = 0; i < n; i++)
        if (answers[i].rc == SHF_OK && answers[i].len > largest) largest = answers[i].len;
    size_t caps[3] = {total, largest + test_rng() % (total + 1), largest};
    for (int c = 0; c < 3; c++) {
        unsigned char *room = test_alloc(caps[c]); /* its end is where ASan looks */
        size_t from = 0, turns = 0;
        memset(lens, 0x55, sizeof lens);
        for (;; turns++) {
            int rc = packed(t, form, from, n - from, room, caps[c], &done);
            const unsigned char *p = room;
            REQUIRE(rc == SHF_OK || rc == SHF_TRUNCATED);
            REQUIRE(done <= n - from && (rc == SHF_OK) == (done == n - from));
            for (size_t i = from; i < from + done; i++) {
                const struct answer *a = &answers[i];
                if (a->rc == SHF_NOT_FOUND) {
                    CHECK(lens[i] == SHF_NO_VALUE);
                    continue;
                }
                CHECK_BYTES(p, lens[i], a->bytes, a->len);
                p += a->len;
            }
            from += done;
            if (rc == SHF_OK) break;
            CHECK_EQ_INT(lens[from], answers[from].len);
            CHECK((size_t)(p - room) + answers[from].len > caps[c]);
            CHECK(from + 1 >= n || lens[from + 1] == 0x5555555555555555u); /* nothing behind is answered */
        }
        CHECK_EQ_INT(from, n);
        CHECK(c != 0 || turns == 0);
        free(room);
    }
}

TEST(gets_equal_single_gets) {
    static const size_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 1000};
    uint32_t which[BATCH_MAX];
    if (buf == NULL) buf = test_alloc((size_t)BATCH_MAX * VALUE_MAX);
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0);
        make_items(s);
        put_items(t);
        struct shf_table *r = table_open("a", SHF_RDONLY);
        for (size_t z = 0; z < sizeof sizes / sizeof sizes[0]; z++)
            for (int round = 0; round < 4; round++) {
                size_t n = sizes[z];
                for (size_t i = 0; i < n; i++)
                    which[i] = i > 2 && test_rng() % 8 == 0 ? which[test_rng() % i] : (uint32_t)(test_rng() % ITEMS);
                struct shf_table *h = round == 3 ? r : t;
                ask_singles(t, which, n);
                for (size_t i = 0; i < n; i++) {
                    keys[i] = (struct shf_bytes){items[which[i]].key, items[which[i]].klen};
                    if (keys[i].len == 0 && i % 2) keys[i].data = NULL;
                    uids[i] = answers[i].uid, checked[i] = answers[i].checked;
                }
                compare_out(h, n, 0);
                compare_packed(h, n, BY_KEY);
                compare_out(h, n, 1);
                compare_packed(h, n, BY_UID);
                compare_packed(h, n, BY_CHECKED);
            }
        shf_table_close(r);
        shf_table_close(t);
    }
}

/* UIDs that are nobody's: each number is what the single call says it is. */
TEST(uids_of_all_kinds) {
    unsigned char one[VALUE_MAX];
    if (buf == NULL) buf = test_alloc((size_t)BATCH_MAX * VALUE_MAX);
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0);
        make_items(s);
        for (int filled = 0; filled < 2; filled++) {
            if (filled) put_items(t);
            for (uint32_t i = 0; i < BATCH_MAX; i++) {
                const struct item *m = &items[i];
                uint64_t u = test_rng();
                if (shf_table_checked_uid(t, m->key, m->klen, &checked[i]) != SHF_OK) checked[i] = u;
                if (i % 4 == 1) checked[i] ^= 1 + test_rng() % 0xffff;   /* another check */
                if (i % 4 == 2) checked[i] ^= UINT64_C(1) << (32 + test_rng() % 32); /* another place */
                if (i % 50 == 3) checked[i] &= 0xffffffff;
                uids[i] = (uint32_t)(checked[i] >> 32);
                out[i] = (struct shf_value){buf + i * VALUE_MAX, VALUE_MAX, 0, 0};
            }
            size_t n = 0, done = 0, at = 0;
            CHECK_EQ_INT(shf_table_get_many_by_uid(t, BATCH_MAX, uids, out), SHF_OK);
            for (uint32_t i = 0; i < BATCH_MAX; i++) {
                int rc = shf_table_get_by_uid(t, uids[i], one, sizeof one, &n);
                CHECK_EQ_INT(out[i].code, rc);
                if (rc == SHF_OK) CHECK_BYTES(out[i].data, out[i].len, one, n);
            }
            CHECK_EQ_INT(shf_table_get_many_by_checked_uid_packed(t, BATCH_MAX, checked, buf, (size_t)BATCH_MAX * VALUE_MAX, lens, &done), SHF_OK);
            CHECK_EQ_INT(done, BATCH_MAX);
            for (uint32_t i = 0; i < BATCH_MAX; i++) {
                int rc = shf_table_get_by_checked_uid(t, checked[i], one, sizeof one, &n);
                CHECK_EQ_INT(lens[i] == SHF_NO_VALUE, rc == SHF_NOT_FOUND);
                if (rc == SHF_OK) CHECK_BYTES(buf + at, lens[i], one, n), at += n;
            }
        }
        shf_table_close(t);
    }
}

/* ---- changes ------------------------------------------------------------------------------------------ */

/* Random batches of puts and removes, duplicates among them, against a model. */
TEST(changes_equal_single_changes) {
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0);
        struct model m;
        static struct shf_pair pairs[BATCH_MAX];
        static unsigned char pool[1200];
        model_init(&m);
        make_items(s);
        for (size_t i = 0; i < sizeof pool; i++) pool[i] = (unsigned char)test_rng();
        for (int round = 0; round < 60; round++) {
            static const size_t sizes[] = {0, 1, 5, 15, 16, 17, 31, 32, 33, 100, 1000};
            size_t n = sizes[test_rng() % 11], done = 777, removed = 777, expected = 0;
            uint64_t few = test_rng() % 3 == 0 ? 1 + test_rng() % 40 : ITEMS;
            if (test_rng() % 3 != 0) {
                for (size_t i = 0; i < n; i++) {
                    const struct item *k = &items[test_rng() % few], *v = &items[test_rng() % ITEMS];
                    size_t vlen = s->key ? s->value : v->vlen == SHF_NO_VALUE ? 0 : v->vlen;
                    const unsigned char *val = s->key ? pool + test_rng() % 1000 : v->val;
                    pairs[i] = (struct shf_pair){{k->key, k->klen}, {vlen == 0 && i % 2 ? NULL : val, vlen}};
                }
                CHECK_EQ_INT(shf_table_put_many(t, n, n ? pairs : NULL, &done), SHF_OK);
                for (size_t i = 0; i < n; i++)
                    model_put(&m, pairs[i].key.data, pairs[i].key.len, pairs[i].value.data, pairs[i].value.len);
            } else {
                for (size_t i = 0; i < n; i++) {
                    const struct item *k = &items[test_rng() % few];
                    keys[i] = (struct shf_bytes){k->key, k->klen};
                    expected += (size_t)model_del(&m, k->key, k->klen);
                }
                CHECK_EQ_INT(shf_table_del_many(t, n, n ? keys : NULL, round % 5 ? &removed : NULL, round % 3 ? &done : NULL), SHF_OK);
                if (round % 5) CHECK_EQ_INT(removed, expected);
                if (round % 3 == 0) done = n;
            }
            CHECK_EQ_INT(done, n);
        }
        model_compare(&m, t);
        model_free(&m);
        shf_table_close(t);
    }
}

/* The last of equal keys wins; a key removed twice was there once. */
TEST(duplicates_in_order) {
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0);
        static unsigned char vals[100][128];
        struct shf_pair pairs[100];
        struct shf_bytes again[100];
        size_t done, removed, klen = s->key ? s->key : 9, vlen = s->key ? s->value : 5;
        unsigned char key[3][32], got[128];
        for (int k = 0; k < 3; k++) memset(key[k], k, sizeof key[k]);
        for (int i = 0; i < 100; i++) {
            memset(vals[i], i, sizeof vals[i]);
            pairs[i] = (struct shf_pair){{key[i % 3], klen}, {vals[i], s->key ? vlen : (size_t)i % 12}};
            again[i] = pairs[i].key;
        }
        CHECK_EQ_INT(shf_table_put_many(t, 100, pairs, &done), SHF_OK);
        for (int i = 97; i < 100; i++) {
            size_t n = 0;
            CHECK_EQ_INT(shf_table_get(t, key[i % 3], klen, got, sizeof got, &n), SHF_OK);
            CHECK_BYTES(got, n, vals[i], pairs[i].value.len);
        }
        CHECK_EQ_INT(shf_table_del_many(t, 100, again, &removed, &done), SHF_OK);
        CHECK_EQ_INT(removed, 3);
        CHECK_EQ_INT(done, 100);
        CHECK_EQ_INT(table_clean(t), 0);
        shf_table_close(t);
    }
}

/* ---- arguments and errors ----------------------------------------------------------------------------- */

TEST(arguments) {
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0);
        size_t klen = s->key ? s->key : 5, vlen = s->key ? s->value : 3, done = 9, removed = 9;
        unsigned char key[40] = {1}, val[128] = {2}, small[128];
        struct shf_bytes k = {key, klen};
        struct shf_pair p = {{key, klen}, {val, vlen}};
        struct shf_value v = {small, sizeof small, 9, 9};
        uint32_t u = 1;
        uint64_t c = UINT64_C(1) << 32;
        CHECK_EQ_INT(shf_table_get_many(t, 0, NULL, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get_many_packed(t, 0, NULL, NULL, 0, NULL, &done), SHF_OK);
        CHECK_EQ_INT(done, 0);
        CHECK_EQ_INT(shf_table_get_many_by_uid(t, 0, NULL, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get_many_by_uid_packed(t, 0, NULL, NULL, 0, NULL, &done), SHF_OK);
        CHECK_EQ_INT(shf_table_get_many_by_checked_uid_packed(t, 0, NULL, NULL, 0, NULL, &done), SHF_OK);
        CHECK_EQ_INT(shf_table_put_many(t, 0, NULL, &done), SHF_OK);
        CHECK_EQ_INT(shf_table_del_many(t, 0, NULL, NULL, NULL), SHF_OK);
        CHECK_EQ_INT(shf_table_get_many(NULL, 1, &k, &v), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many(t, 1, NULL, &v), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many(t, 1, &k, NULL), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_packed(t, 1, &k, NULL, 1, lens, &done), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_packed(t, 1, &k, small, 1, NULL, &done), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_packed(t, 1, &k, small, 1, lens, NULL), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_by_uid(t, 1, NULL, &v), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_by_uid_packed(t, 1, &u, small, 1, lens, NULL), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_get_many_by_checked_uid_packed(t, 1, &c, NULL, 1, lens, &done), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_put_many(t, 1, NULL, &done), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_put_many(t, 1, &p, NULL), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_put_many(NULL, 1, &p, &done), SHF_ERR_INVALID);
        CHECK_EQ_INT(shf_table_del_many(t, 1, NULL, &removed, &done), SHF_ERR_INVALID);
        shf_table_close(t);
    }
}

/* One bad pair or key among good ones, at every place: those before it are done, those behind not. */
TEST(an_error_stops_at_its_place) {
    enum { N = 40 };
    EACH_SHAPE(s) {
        unsigned char key[N][40], val[128] = {0}, got[128];
        size_t klen = s->key ? s->key : 6, vlen = s->key ? s->value : 6;
        for (size_t bad = 0; bad < N; bad += 1 + bad / 3) {
            struct shf_table *t = table_of(s, 0);
            struct shf_pair pairs[N];
            size_t done = 777, removed = 777, n = 0;
            for (int kind = 0; kind < 3; kind++) {
                for (size_t i = 0; i < N; i++) {
                    memset(key[i], 0, sizeof key[i]);
                    key[i][0] = (unsigned char)i, key[i][1] = (unsigned char)kind;
                    pairs[i] = (struct shf_pair){{key[i], klen}, {val, vlen}};
                }
                int code = SHF_ERR_INVALID;
                if (kind == 0) pairs[bad].key.data = NULL;
                if (kind == 1) pairs[bad].value = (struct shf_bytes){NULL, 1};
                if (kind == 2) pairs[bad].key.len = (size_t)UINT32_MAX + 1, code = SHF_ERR_TOO_LONG;
                if (kind == 2 && s->key) pairs[bad].key.len = klen + 1, code = SHF_ERR_WRONG_LENGTH;
                CHECK_EQ_INT(shf_table_put_many(t, N, pairs, &done), code);
                CHECK_EQ_INT(done, bad);
                for (size_t i = 0; i < N; i++)
                    CHECK_EQ_INT(shf_table_get(t, key[i], klen, got, sizeof got, &n), i < bad ? SHF_OK : SHF_NOT_FOUND);
                if (kind == 1) continue;
                for (size_t i = 0; i < N; i++) {
                    keys[i] = pairs[i].key;
                    out[i] = (struct shf_value){got, sizeof got, 777, 777};
                }
                if (kind == 2 && !s->key) { /* too long a key is in no table: no error */
                    CHECK_EQ_INT(shf_table_get_many(t, N, keys, out), SHF_OK);
                    CHECK_EQ_INT(out[bad].code, SHF_NOT_FOUND);
                } else {
                    CHECK_EQ_INT(shf_table_get_many(t, N, keys, out), code);
                    CHECK_EQ_INT(out[bad].code, 777);
                    CHECK(bad == 0 || out[bad - 1].code == SHF_OK);
                }
                CHECK_EQ_INT(shf_table_del_many(t, N, keys, &removed, &done), code);
                CHECK_EQ_INT(done, bad);
                CHECK_EQ_INT(removed, bad);
            }
            shf_table_close(t);
        }
    }
}

TEST(read_only_handles) {
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 0), *r = table_open("a", SHF_RDONLY);
        unsigned char key[40] = {1}, val[128] = {2}, got[128];
        struct shf_pair p = {{key, s->key ? s->key : 5}, {val, s->key ? s->value : 3}};
        struct shf_value v = {got, sizeof got, 9, 9};
        size_t done = 9, removed = 9;
        CHECK_EQ_INT(shf_table_put_many(r, 1, &p, &done), SHF_ERR_READ_ONLY);
        CHECK_EQ_INT(done, 0);
        CHECK_EQ_INT(shf_table_get_many(r, 1, &p.key, &v), SHF_OK);
        CHECK_EQ_INT(v.code, SHF_NOT_FOUND);
        CHECK_EQ_INT(shf_table_put_many(t, 1, &p, &done), SHF_OK);
        CHECK_EQ_INT(shf_table_get_many(r, 1, &p.key, &v), SHF_OK);
        CHECK_EQ_INT(v.code, SHF_OK);
        CHECK_BYTES(got, v.len, val, p.value.len);
        CHECK_EQ_INT(shf_table_del_many(r, 1, &p.key, &removed, &done), SHF_ERR_READ_ONLY);
        CHECK_EQ_INT(removed, 0);
        shf_table_close(r);
        shf_table_close(t);
    }
}

/* A full file stops put_many in the middle: *done pairs are there, the others are not. */
TEST(a_full_file_stops_put_many) {
    EACH_SHAPE(s) {
        struct shf_table *t = table_of(s, 1 << 20);
        enum { N = 200 };
        static unsigned char key[400 * N][40], val[1200];
        struct shf_pair pairs[N];
        size_t put = 0, done = N, klen = s->key ? s->key : 12, vlen = s->key ? s->value : 1000;
        int rc = SHF_OK;
        while (rc == SHF_OK && put < 399 * N) {
            for (size_t i = 0; i < N; i++) {
                memset(key[put + i], 0, sizeof key[0]);
                memcpy(key[put + i], &(uint32_t){(uint32_t)(put + i) * 2654435761u}, klen < 4 ? klen : 4);
                if (klen == 3) memcpy(key[put + i], &(uint32_t){(uint32_t)(put + i)}, 3);
                memset(val, (int)(put + i), sizeof val); /* of the last: only the length is compared below */
                pairs[i] = (struct shf_pair){{key[put + i], klen}, {val, vlen}};
            }
            rc = shf_table_put_many(t, N, pairs, &done);
            CHECK_EQ_INT(done == N, rc == SHF_OK);
            put += done;
        }
#ifdef SHF_SMALL
        CHECK(rc == SHF_ERR_NO_SPACE || rc == SHF_ERR_FULL);
#else
        CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
#endif
        CHECK(done < N);
        uint64_t len = 0;
        CHECK_EQ_INT(shf_table_len(t, &len), SHF_OK);
        CHECK_EQ_INT(len, put);
        for (size_t i = 0; i < put + N - done; i++)
            CHECK_EQ_INT(shf_table_contains(t, key[i], klen), i < put ? SHF_OK : SHF_NOT_FOUND);
        CHECK_EQ_INT(table_clean(t), put);
        /* what is there can be changed and removed still */
        size_t removed = 0;
        for (size_t i = 0; i < N; i++) keys[i] = (struct shf_bytes){key[i], klen};
        CHECK_EQ_INT(shf_table_del_many(t, N, keys, &removed, &done), SHF_OK);
        CHECK_EQ_INT(removed, N < put ? N : put);
        CHECK_EQ_INT(table_clean(t), put - removed);
        shf_table_close(t);
    }
}

/* ---- many --------------------------------------------------------------------------------------------- */

/* One call for a million keys (SHF_OPS), and for as many absent ones. */
TEST(one_long_batch) {
#ifdef SHF_SMALL
    size_t n = 3000;
#else
    size_t n = (size_t)test_env("SHF_OPS", 1000000);
#endif
    static const struct shape two[] = {{"variable", 0, 0, 0}, {"fixed 8+8", 8, 8, 0}};
    for (int shape = 0; shape < 2; shape++) {
        struct shf_table *t = table_of(&two[shape], 0);
        uint64_t *number = test_alloc(2 * n * 8), *val = test_alloc(2 * n * 8);
        struct shf_bytes *k = test_alloc(2 * n * sizeof *k);
        struct shf_pair *p = test_alloc(n * sizeof *p);
        struct shf_value *v = test_alloc(2 * n * sizeof *v);
        size_t *l = test_alloc(2 * n * sizeof *l), done = 0, removed = 0, wrong = 0;
        for (size_t i = 0; i < 2 * n; i++) {
            number[i] = i * UINT64_C(0x9e3779b97f4a7c15);
            k[i] = (struct shf_bytes){&number[i], 8};
            if (i < n) p[i] = (struct shf_pair){k[i], k[i]};
            v[i] = (struct shf_value){&val[i], 8, 0, -1};
        }
        CHECK_EQ_INT(shf_table_put_many(t, n, p, &done), SHF_OK);
        CHECK_EQ_INT(done, n);
        CHECK_EQ_INT(shf_table_get_many(t, 2 * n, k, v), SHF_OK);
        for (size_t i = 0; i < 2 * n; i++)
            wrong += i < n ? v[i].code != SHF_OK || v[i].len != 8 || val[i] != number[i] : v[i].code != SHF_NOT_FOUND;
        CHECK_EQ_INT(wrong, 0);
        CHECK_EQ_INT(shf_table_get_many_packed(t, 2 * n, k, val, n * 8, l, &done), SHF_OK);
        CHECK_EQ_INT(done, 2 * n);
        for (size_t i = 0; i < 2 * n; i++)
            wrong += i < n ? l[i] != 8 || val[i] != number[i] : l[i] != SHF_NO_VALUE;
        CHECK_EQ_INT(wrong, 0);
        CHECK_EQ_INT(shf_table_del_many(t, 2 * n, k, &removed, &done), SHF_OK);
        CHECK_EQ_INT(removed, n);
        CHECK_EQ_INT(done, 2 * n);
        CHECK_EQ_INT(table_clean(t), 0);
        shf_table_close(t);
        free(number), free(val), free(k), free(p), free(v), free(l);
    }
}

int main(int argc, char **argv) { return run(argc, argv); }
