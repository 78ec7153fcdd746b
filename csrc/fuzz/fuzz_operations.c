/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fuzz_operations.c - a program of operations, compared with a model; with closing and opening again as a step
 *
 * INPUT    lengths 1, hash and limit 1; then steps: what 1, key 1, and for those that need one, length and bytes of the value 1.
 *          The limit of some tables is so low that changes fail with SHF_ERR_NO_SPACE: then nothing must have changed.
 */
#include "fuzz.h"

static const struct {
    uint32_t key, value;
} lengths[] = {{0, 0}, {0, 0}, {4, 4}, {8, 8}, {3, 5}, {8, 40}, {1, 0}, {20, 100}, {16, 8}};
static struct shf_table *table;
static struct model model;
static uint32_t fixed_k, fixed_v;

static void fuzz_start(void) {}

static size_t key_bytes(unsigned number, unsigned char *key) {
    static const uint16_t of[] = {4, 8, 16, 13, 0, 1, 40, 200};
    size_t n = fixed_k ? fixed_k : number == 255 ? 9000 : of[number % 8];
    fixed_key(key, n, number);
    return n;
}
static size_t value_bytes(unsigned what, const void *key, size_t klen, unsigned char *val) {
    static const uint16_t of[] = {0, 4, 8, 8, 11, 100, 1000, 8180, 9000, 30000};
    size_t n = fixed_k ? fixed_v : what % 8 == 0 ? what / 8 : of[what % 10];
    value_fill(val, n, key, klen, what);
    return n;
}
/* A change that found no room changed nothing. */
static int no_room(int rc) { return rc == SHF_ERR_NO_SPACE || rc == SHF_ERR_FULL; }

struct desired {
    struct shf_bytes value;
    int stop;
};
static int change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct desired *d = context;
    (void)old;
    *desired = d->value;
    return d->stop;
}

static void open_again(int read_only) {
    struct shf_table *other = NULL;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", shf_table_fd(table));
    int fd = open(path, read_only ? O_RDONLY : O_RDWR);
    REQUIRE(fd >= 0);
    if (!read_only) shf_table_close(table), table = NULL;
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &other), SHF_OK);
    close(fd);
    if (!read_only) {
        table = other;
        return;
    }
    model_compare(&model, other);
    shf_table_close(other);
}

static void step(struct input *in) {
    static unsigned char key[9000], val[32000], out[32000];
    unsigned what = take_byte(in) % 32, more;
    size_t klen = key_bytes(take_byte(in), key), vlen, n = 0;
    struct model_entry *e = model_get(&model, key, klen);
    struct shf_bytes expected = {SHF_ABSENT, 0}, desired;
    struct desired d;
    uint32_t uid = 0;
    uint64_t checked = 0;
    int64_t previous = 0;
    int rc;
    if (e) expected = (struct shf_bytes){e->val, e->vlen};
    switch (what) {
    default: /* the commonest */
        vlen = value_bytes(take_byte(in), key, klen, val);
        rc = shf_table_put(table, key, klen, val, vlen, &uid);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, SHF_OK);
        if (e && e->uid) CHECK_EQ_INT(uid, e->uid);
        model_put(&model, key, klen, val, vlen)->uid = uid;
        break;
    case 1:
        vlen = value_bytes(take_byte(in), key, klen, val);
        rc = shf_table_insert(table, key, klen, val, vlen, &uid);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, e ? SHF_EXISTS : SHF_OK);
        if (!e) model_put(&model, key, klen, val, vlen)->uid = uid;
        break;
    case 2:
        vlen = value_bytes(take_byte(in), key, klen, val);
        rc = shf_table_replace(table, key, klen, val, vlen, out, sizeof out, &n);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
        if (!e) break;
        CHECK_BYTES(out, n, e->val, e->vlen);
        model_put(&model, key, klen, val, vlen);
        break;
    case 3:
    case 4:
        REQUIRE_EQ_INT(shf_table_del(table, key, klen), e ? SHF_OK : SHF_NOT_FOUND);
        model_del(&model, key, klen);
        break;
    case 5:
        rc = shf_table_take(table, key, klen, out, sizeof out, &n);
        REQUIRE_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
        if (e) CHECK_BYTES(out, n, e->val, e->vlen);
        model_del(&model, key, klen);
        break;
    case 6:
        rc = shf_table_del_if_equal(table, key, klen, e ? e->val : key, e ? e->vlen : 0);
        REQUIRE_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
        model_del(&model, key, klen);
        break;
    case 7:
        rc = shf_table_add(table, key, klen, 3, &previous);
        if (no_room(rc)) break;
        if (e ? e->vlen != 8 : fixed_k && fixed_v != 8) {
            CHECK_EQ_INT(rc, SHF_ERR_NOT_A_COUNTER);
            break;
        }
        REQUIRE_EQ_INT(rc, SHF_OK);
        uint64_t was = e ? shf_load64(e->val) : 0, sum = was + 3;
        CHECK_EQ_INT(previous, was);
        model_put(&model, key, klen, &sum, 8);
        break;
    case 8:
    case 9: /* compare and swap: as expected, and not */
        vlen = value_bytes(take_byte(in), key, klen, val);
        desired = what == 8 ? (struct shf_bytes){val, vlen} : (struct shf_bytes){SHF_ABSENT, 0};
        if (vlen % 4 == 3) {
            struct shf_bytes wrong = {"never this one", 14};
            REQUIRE_EQ_INT(shf_table_cas(table, key, klen, &wrong, &desired, out, sizeof out, &n), SHF_UNCHANGED);
            if (e)
                CHECK_BYTES(out, n, e->val, e->vlen);
            else
                CHECK(n == SIZE_MAX);
            break;
        }
        rc = shf_table_cas(table, key, klen, &expected, &desired, NULL, 0, NULL);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, SHF_OK);
        if (what == 8)
            model_put(&model, key, klen, val, vlen);
        else
            model_del(&model, key, klen);
        break;
    case 10:
        vlen = value_bytes(take_byte(in), key, klen, val);
        d = (struct desired){{val, vlen}, vlen % 5 == 4};
        rc = shf_table_update(table, key, klen, change, &d, &uid);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, d.stop ? SHF_STOPPED : SHF_OK);
        if (!d.stop) model_put(&model, key, klen, val, vlen);
        break;
    case 11:
        vlen = value_bytes(take_byte(in), key, klen, val);
        rc = shf_table_uid(table, key, klen, &uid);
        REQUIRE_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
        if (!e) break;
        rc = shf_table_put_by_uid(table, uid, val, vlen);
        if (no_room(rc)) break;
        REQUIRE_EQ_INT(rc, SHF_OK);
        model_put(&model, key, klen, val, vlen);
        break;
    case 12:
        rc = shf_table_checked_uid(table, key, klen, &checked);
        REQUIRE_EQ_INT(rc, e ? SHF_OK : SHF_NOT_FOUND);
        if (!e) break;
        REQUIRE_EQ_INT(shf_table_key_by_checked_uid(table, checked, out, sizeof out, &n), SHF_OK);
        CHECK_BYTES(out, n, key, klen);
        REQUIRE_EQ_INT(shf_table_get_by_checked_uid(table, checked, out, sizeof out, &n), SHF_OK);
        CHECK_BYTES(out, n, e->val, e->vlen);
        REQUIRE_EQ_INT(shf_table_del_by_checked_uid(table, checked), SHF_OK);
        REQUIRE_EQ_INT(shf_table_get_by_checked_uid(table, checked, out, sizeof out, &n), SHF_NOT_FOUND);
        model_del(&model, key, klen);
        break;
    case 13:
        if (e)
            CHECK(table_has(table, key, klen, e->val, e->vlen));
        else
            CHECK_EQ_INT(shf_table_contains(table, key, klen), SHF_NOT_FOUND);
        break;
    case 14: open_again(0); break;
    case 15: open_again(1); break;
    case 16: model_compare(&model, table); break;
    case 17:
        REQUIRE_EQ_INT(shf_table_clear(table), SHF_OK);
        model_clear(&model);
        break;
    case 18: /* forty keys at once: on to a split */
        more = take_byte(in) * 40;
        for (unsigned i = 0; i < 40; i++) {
            unsigned number = 256 + (more + i) % 2000;
            klen = key_bytes(fixed_k == 1 ? number % 255 : number, key);
            vlen = value_bytes(i % 6, key, klen, val);
            rc = shf_table_put(table, key, klen, val, vlen, &uid);
            if (no_room(rc)) break;
            if (rc < 0) FAIL("put: %d, %s", rc, shf_last_error()->message);
            REQUIRE_EQ_INT(rc, SHF_OK);
            model_put(&model, key, klen, val, vlen)->uid = uid;
        }
        break;
    }
}

static void fuzz_one(struct input *in) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    unsigned which = take_byte(in) % (sizeof lengths / sizeof *lengths), more = take_byte(in);
    fixed_k = o.fixed_key = lengths[which].key, fixed_v = o.fixed_value = lengths[which].value;
    o.hash = more % 3;
    o.max_bytes = more & 8 ? 512 << 10 : more & 16 ? 1 << 20 : 64 << 20;
    model_init(&model);
    table = NULL;
    REQUIRE_EQ_INT(shf_table_anonymous("fuzz", &o, &table), SHF_OK);
    for (int n = 0; in->left > 0 && n < 400; n++) step(in);
    model_compare(&model, table);
    shf_table_close(table);
    model_free(&model);
}
