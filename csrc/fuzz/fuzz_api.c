/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fuzz_api.c - the C API with arguments that make no sense, as far as C allows them
 *
 * INPUT    calls, one byte each, with a handle (four of them, open or not; NULL too), and arguments of its own: NULL with and
 *          without a length, lengths beyond all limits where shf.h says that they are refused (then nothing is read), unknown
 *          flags, option fields of any value, positions and UIDs that nobody gave, paths that name no table, closing in any
 *          order, also while another handle has the same table.
 * JUDGED   no crash; a known code; outputs left alone by an error, pointers set by success; one handle sees what another one
 *          did; shf_last_error says the code that was returned.
 */
#include "fuzz.h"

#define HANDLES 4
#define BIG (SIZE_MAX / 2)
static struct shf_table *handle[HANDLES];
static unsigned char key[64], val[4096], out[4096];

static void fuzz_start(void) { temp_path(""); }

static int known(int rc) {
    CHECK(rc >= SHF_ERR_NO_MEMORY && rc <= SHF_STOPPED);
    if (rc < 0) {
        const struct shf_error_info *e = shf_last_error();
        CHECK(e != NULL && e->code == rc && e->place != NULL && e->path != NULL && e->message != NULL &&
              e->message[0] != 0);
        CHECK(shf_strerror(rc)[0] != 0);
    }
    return rc;
}
static uint32_t number32(struct input *in) {
    static const uint32_t odd[] = {0, 1, 4, 8, 120, 121, 255, 511, 4096, 65536, 0x7fffffff, 0x80000000, 0xffffffff};
    unsigned b = take_byte(in);
    return b < 128 ? odd[b % 13] : (uint32_t)take_bytes(in, 1 + b % 4);
}
static uint64_t number64(struct input *in) {
    unsigned b = take_byte(in);
    return b < 64 ? (uint64_t)number32(in) << b : take_bytes(in, 8);
}
static struct shf_table_options options(struct input *in) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    unsigned set = take_byte(in);
    o.lock_timeout_ms = 2;
    if (set & 1) o.mode = number32(in);
    if (set & 2) o.max_bytes = number64(in);
    if (set & 4) o.fixed_key = take_byte(in) % 130;
    if (set & 8) o.fixed_value = take_byte(in) % 130;
    if (set & 16) o.hash = take_byte(in) % 5;
    if (set & 32) o.flags = number32(in);
    if (set & 64) o.size = number32(in) % (sizeof o + 1); /* more than there is would be read */
    if (set & 128) o.fixed_key = number32(in), o.reserved = number32(in);
    return o;
}
static const char *any_path(struct input *in) {
    static char text[5000];
    switch (take_byte(in) % 16) {
    case 0: return "";
    case 1: return "/";
    case 2: return "/dev/null";
    case 3: return "/dev/shm";
    case 4: return "/nonexistent/t";
    case 5: return "/proc/self/mem";
    case 6: return NULL;
    case 7: return "t/";
    case 8: memset(text, 'x', sizeof text - 1); return text;
    case 9: return temp_path("other");
    default: return temp_path("t");
    }
}
static void open_one(struct input *in, unsigned i) {
    struct shf_table_options o = options(in);
    const struct shf_table_options *given = take_byte(in) % 8 ? &o : NULL;
    struct shf_table *t = NULL;
    unsigned how = take_byte(in), other = take_byte(in) % HANDLES;
    if (handle[i]) return;
    const char *path = how < 80 ? any_path(in) : NULL;
    int rc;
    if (how < 80)
        rc = shf_table_open(path, how < 8 ? number32(in) : how % 8, given, &t);
    else if (how < 120)
        rc = shf_table_anonymous(how % 16 ? "fuzz" : how == 112 ? any_path(in) : NULL, given, &t);
    else if (how < 240)
        rc = shf_table_from_fd(handle[other] ? shf_table_fd(handle[other]) : (int)(take_byte(in) % 2) - 1, given, &t);
    else
        rc = shf_table_open("x", 0, given, NULL);
    CHECK(known(rc) == SHF_OK ? t != NULL : t == NULL && rc < 0);
    handle[i] = t;
}

struct context {
    struct input *in;
    struct shf_table *t;
    int depth;
};
static int change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct context *c = context;
    volatile unsigned char sum = 0;
    if (old->data != SHF_ABSENT)
        for (size_t i = 0; i < old->len; i++) sum = (unsigned char)(sum + ((const unsigned char *)old->data)[i]);
    unsigned what = take_byte(c->in);
    if (what % 8 == 0) return 1;
    if (what % 8 == 1)
        *desired = (struct shf_bytes){SHF_ABSENT, 0};
    else if (what % 8 == 2)
        *desired = (struct shf_bytes){NULL, what / 8}; /* not legal but with 0 */
    else if (what % 8 == 3 && c->depth++ < 3)
        known(shf_table_del(c->t, key, 4)); /* it may call the table */
    else if (what % 8 != 4)
        *desired = (struct shf_bytes){val, what * 16};
    return 0;
}

/* A pointer and a length for input: as it should be; NULL with 0; NULL with more; beyond all limits. */
static struct shf_bytes bytes_in(struct input *in, const unsigned char *p, size_t most) {
    unsigned b = take_byte(in);
    if (b == 255) return (struct shf_bytes){NULL, 0};
    if (b == 254) return (struct shf_bytes){NULL, 1};
    if (b >= 252) return (struct shf_bytes){p, b == 252 ? SIZE_MAX : BIG}; /* refused unread */
    return (struct shf_bytes){p, b % 4 == 0 ? 4 : b % 4 == 1 ? 8 : b * most / 252};
}
static int is_long(struct shf_bytes b) { return b.len > UINT32_MAX; }

static void call(struct input *in) {
    unsigned what = take_byte(in) % 48, i = take_byte(in);
    struct shf_table *t = i >= 250 ? NULL : handle[i %= HANDLES];
    if (i >= 250)
        i = 0;
    else if (t == NULL || what == 0) {
        if (t == NULL)
            open_one(in, i);
        else
            shf_table_close(t), handle[i] = NULL;
        return;
    }
    memset(key, 0, sizeof key), key[0] = (unsigned char)(take_byte(in) % 32);
    struct shf_bytes k = bytes_in(in, key, sizeof key), v = bytes_in(in, val, sizeof val);
    size_t cap = v.data ? v.len : 0, n = 7, n2 = 7;
    unsigned char *buf = v.data == NULL ? NULL : out;
    if (cap > sizeof out) cap = sizeof out;
    uint32_t uid = number32(in);
    uint64_t wide = 0;
    size_t *len = uid % 16 == 15 ? NULL : &n;
    struct shf_table_stats stats = {0};
    struct shf_table_report report = {0};
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_bytes many[20], e;
    struct shf_pair pairs[20];
    struct shf_value outs[20];
    size_t lens[20], m = take_byte(in) % 21;
    uint32_t uids[20];
    uint64_t checked[20];
    struct context c = {in, t, 0};
    int rc = SHF_OK;
    for (size_t j = 0; j < m; j++) {
        many[j] = j % 4 == 3 ? bytes_in(in, key, sizeof key) : k;
        pairs[j] = (struct shf_pair){many[j], v};
        outs[j] = (struct shf_value){out + j * 200, j % 3 * 100, 0, 0};
        if (uid % 5 == 0) outs[j].data = NULL, outs[j].cap = j % 2;
        uids[j] = uid + (uint32_t)j, checked[j] = (uint64_t)uids[j] << 32 | uid;
    }
    switch (what) {
    default: rc = known(shf_table_put(t, k.data, k.len, v.data, v.len, uid % 2 ? &uid : NULL)); break;
    case 1: rc = known(shf_table_get(t, k.data, k.len, buf, cap, len)); break;
    case 2: rc = known(shf_table_insert(t, k.data, k.len, v.data, v.len, &uid)); break;
    case 3: rc = known(shf_table_replace(t, k.data, k.len, v.data, v.len, buf, cap, len)); break;
    case 4: rc = known(shf_table_contains(t, k.data, k.len)); break;
    case 5: rc = known(shf_table_del(t, k.data, k.len)); break;
    case 6: rc = known(shf_table_take(t, k.data, k.len, buf, cap, len)); break;
    case 7: rc = known(shf_table_del_if_equal(t, k.data, k.len, v.data, v.len)); break;
    case 8:
        rc = known(shf_table_add(t, k.data, k.len, (int64_t)number64(in), uid % 2 ? (int64_t *)&wide : NULL));
        break;
    case 9:
        e = uid % 3 ? v : (struct shf_bytes){SHF_ABSENT, 0};
        if (uid % 7 == 0) v = (struct shf_bytes){SHF_ABSENT, 0};
        rc = known(shf_table_cas(t, k.data, k.len, uid % 31 ? &e : NULL, uid % 37 ? &v : NULL, buf, cap, len));
        break;
    case 10: rc = known(shf_table_update(t, k.data, k.len, uid % 16 ? change : NULL, &c, &uid)); break;
    case 11: rc = known(shf_table_uid(t, k.data, k.len, uid % 8 ? &uid : NULL)); break;
    case 12: rc = known(shf_table_checked_uid(t, k.data, k.len, uid % 8 ? &wide : NULL)); break;
    case 13: rc = known(shf_table_get_by_uid(t, uid, buf, cap, len)); break;
    case 14: rc = known(shf_table_key_by_uid(t, uid, buf, cap, len)); break;
    case 15: rc = known(shf_table_put_by_uid(t, uid, v.data, v.len)); break;
    case 16: rc = known(shf_table_del_by_uid(t, uid)); break;
    case 17: rc = known(shf_table_get_by_checked_uid(t, number64(in), buf, cap, len)); break;
    case 18: rc = known(shf_table_put_by_checked_uid(t, number64(in), v.data, v.len)); break;
    case 19: rc = known(shf_table_key_by_checked_uid(t, number64(in), buf, cap, len)); break;
    case 20: rc = known(shf_table_del_by_checked_uid(t, number64(in))); break;
    case 21:
        wide = number64(in);
        for (int j = 0;
             j < 50 && known(shf_table_next(t, uid % 16 ? &wide : NULL, buf, cap, len, out, 50, &n2, &uid)) == SHF_OK;
             j++) {}
        break;
    case 22: rc = known(shf_table_len(t, uid % 8 ? &wide : NULL)); break;
    case 23: rc = known(shf_table_clear(t)); break;
    case 24: stats.size = uid % 3 ? sizeof stats : uid, rc = known(shf_table_stats(t, uid % 8 ? &stats : NULL)); break;
    case 25:
        report.size = uid % 3 ? sizeof report : uid, rc = known(shf_table_check(t, uid % 8 ? &report : NULL));
        break;
    case 26:
        o.size = uid % 3 ? sizeof o : uid % (sizeof o + 1), rc = known(shf_table_options(t, uid % 8 ? &o : NULL));
        break;
    case 27: rc = known(shf_table_get_many(t, m, uid % 16 ? many : NULL, uid % 17 ? outs : NULL)); break;
    case 28:
        rc = known(shf_table_get_many_packed(t, m, many, buf, cap, uid % 16 ? lens : NULL, uid % 17 ? &n : NULL));
        break;
    case 29: rc = known(shf_table_get_many_by_uid(t, m, uid % 16 ? uids : NULL, outs)); break;
    case 30: rc = known(shf_table_get_many_by_uid_packed(t, m, uids, buf, cap, lens, uid % 17 ? &n : NULL)); break;
    case 31:
        rc = known(shf_table_get_many_by_checked_uid_packed(t, m, checked, buf, cap, lens, uid % 17 ? &n : NULL));
        break;
    case 32: rc = known(shf_table_put_many(t, m, uid % 16 ? pairs : NULL, uid % 17 ? &n : NULL)); break;
    case 33:
        rc = known(shf_table_del_many(t, m, uid % 16 ? many : NULL, uid % 3 ? &n : NULL, uid % 5 ? &n2 : NULL));
        break;
    case 34: rc = known(shf_table_collapse(t, uid % 2 ? &wide : NULL)); break;
    case 35: known(shf_unlink(any_path(in))); break;
    case 36:
        CHECK(shf_table_path(t) != NULL && (t == NULL) == (shf_table_fd(t) < 0) &&
              (unsigned)shf_table_is_read_only(t) <= 1);
        CHECK(shf_strerror((int)uid)[0] != 0 && shf_version()[0] != 0);
        break;
    case 37: /* what one handle does is seen by another one of the same table */
        if (t == NULL || (rc = shf_table_put(t, key, 8, val, 8, NULL)) != SHF_OK) break;
        for (unsigned j = 0; j < HANDLES; j++)
            if (handle[j] && strcmp(shf_table_path(handle[j]), shf_table_path(t)) == 0 && handle[j] == t)
                CHECK_EQ_INT(shf_table_get(handle[j], key, 8, out, 8, &n), SHF_OK);
        break;
    }
    if (t == NULL && what != 35 && what != 36 && what != 37 && what != 21) CHECK_EQ_INT(rc, SHF_ERR_INVALID);
    if (len == NULL && (what == 1 || what == 13 || what == 14 || what == 17 || what == 19))
        CHECK_EQ_INT(rc, SHF_ERR_INVALID);
    if (rc == SHF_OK && (what == 0 || what > 37 || what == 2))
        CHECK(!is_long(k) && !is_long(v)); /* cannot have been put */
}

static void fuzz_one(struct input *in) {
    for (int n = 0; in->left > 0 && n < 300; n++) call(in);
    for (unsigned i = 0; i < HANDLES; i++) shf_table_close(handle[i]), handle[i] = NULL;
    unlink(temp_path("t")), unlink(temp_path("other"));
}
