/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * driver.c - the C API behind a pipe: a model in another language drives processes that use it, and that die
 *
 * WHAT       Requests come on stdin, answers go to stdout, one after the other, until the end of stdin. Each request is
 *            one public call on one of the process' handles, with a number k: the process dies just before the k-th shared
 *            store of that call (0: never). So who drives it decides at which store; nothing is left to chance.
 * REQUEST    length 4 (of what follows) | call 1 | handle 1 | zeros 2 | k 8 | arguments
 * ANSWER     length 4 | return code 4 | stores of the call 8 | results
 *            Arguments and results: numbers of 8 bytes; bytes with their length (4) before them. Little-endian. Which
 *            ones a call has stands beside its function below. An output that the call did not set is UNSET.
 * HANG       A call that takes longer than a minute ends the process by SIGALRM.
 *
 * Used by tests/model_c_api.rs. Built in a flavour with crash points: make build/crash/driver build/crash_small/driver
 */
#include "os.h"
#include "shf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANDLES 8
#define UNSET UINT64_C(0xfefefefefefefefe)

static struct shf_table *tables[HANDLES];
static struct {
    unsigned char *data;
    size_t len, at, room;
} in, out;

static void give_up(const char *why) {
    fprintf(stderr, "driver: %s\n", why);
    exit(2);
}
static void *room(size_t n) { /* for n bytes behind what `out` has */
    if (out.len + n > out.room) {
        out.room = (out.len + n) * 2;
        out.data = realloc(out.data, out.room);
        if (out.data == NULL) give_up("no memory");
    }
    return out.data + out.len;
}
static void *memory(size_t n) {
    void *p = malloc(n ? n : 1);
    if (p == NULL) give_up("no memory");
    return p;
}

/* ---- arguments and results ---- */
static void get(void *p, size_t n) {
    if (n > in.len - in.at) give_up("a request that is too short");
    memcpy(p, in.data + in.at, n);
    in.at += n;
}
static uint64_t number(void) {
    uint64_t v;
    get(&v, sizeof v);
    return v;
}
static struct shf_bytes bytes(void) { /* valid until the next request */
    uint32_t n;
    get(&n, sizeof n);
    if (n > in.len - in.at) give_up("a request that is too short");
    struct shf_bytes b = {in.data + in.at, n};
    in.at += n;
    return b;
}
static void tell(uint64_t v) { memcpy(room(8), &v, 8), out.len += 8; }
static void tell_bytes(const void *p, size_t n) {
    uint32_t len = (uint32_t)n;
    memcpy(room(4), &len, 4), out.len += 4;
    if (n) memcpy(room(n), p, n), out.len += n;
}
/* A value in a buffer: its length as reported; the bytes if they are there. */
static void tell_value(int rc, const void *buf, size_t len, size_t cap) {
    tell(len);
    tell_bytes(buf, rc == SHF_OK && len <= cap ? len : 0);
}

/* ---- calls ---- */
static int call_open(struct shf_table **t) { /* path, flags, fixed key, fixed value, hash */
    static char path[4096];
    struct shf_bytes name = bytes();
    unsigned flags = (unsigned)number();
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    if (name.len >= sizeof path) give_up("a long path");
    memcpy(path, name.data, name.len);
    path[name.len] = 0;
    o.fixed_key = (uint32_t)number();
    o.fixed_value = (uint32_t)number();
    o.hash = (uint32_t)number();
    return shf_table_open(path, flags, &o, t);
}
static int call_from_fd(struct shf_table **t) { /* the handle whose descriptor it is */
    return shf_table_from_fd(shf_table_fd(tables[number() % HANDLES]), NULL, t);
}
static int call_close(struct shf_table **t) {
    shf_table_close(*t);
    *t = NULL;
    return SHF_OK;
}
static int put_or_insert(struct shf_table *t, int insert) { /* key, value -> UID */
    struct shf_bytes key = bytes(), val = bytes();
    uint32_t uid = 0;
    int rc = (insert ? shf_table_insert : shf_table_put)(t, key.data, key.len, val.data, val.len, &uid);
    tell(uid);
    return rc;
}
static int call_put(struct shf_table **t) { return put_or_insert(*t, 0); }
static int call_insert(struct shf_table **t) { return put_or_insert(*t, 1); }
static int call_replace(struct shf_table **t) { /* key, value, cap -> old value */
    struct shf_bytes key = bytes(), val = bytes();
    size_t cap = number(), len = UNSET;
    void *buf = memory(cap);
    int rc = shf_table_replace(*t, key.data, key.len, val.data, val.len, buf, cap, &len);
    tell_value(rc, buf, len, cap);
    free(buf);
    return rc;
}
static int get_or_take(struct shf_table *t, int take) { /* key, cap -> value */
    struct shf_bytes key = bytes();
    size_t cap = number(), len = UNSET;
    void *buf = memory(cap);
    int rc = (take ? shf_table_take : shf_table_get)(t, key.data, key.len, buf, cap, &len);
    tell_value(rc, buf, len, cap);
    free(buf);
    return rc;
}
static int call_get(struct shf_table **t) { return get_or_take(*t, 0); }
static int call_take(struct shf_table **t) { return get_or_take(*t, 1); }
static int call_contains(struct shf_table **t) { /* key */
    struct shf_bytes key = bytes();
    return shf_table_contains(*t, key.data, key.len);
}
static int call_del(struct shf_table **t) { /* key */
    struct shf_bytes key = bytes();
    return shf_table_del(*t, key.data, key.len);
}
static int call_del_if_equal(struct shf_table **t) { /* key, value */
    struct shf_bytes key = bytes(), val = bytes();
    return shf_table_del_if_equal(*t, key.data, key.len, val.data, val.len);
}
static int call_add(struct shf_table **t) { /* key, number -> the number before */
    struct shf_bytes key = bytes();
    int64_t previous = (int64_t)UNSET;
    int rc = shf_table_add(*t, key.data, key.len, (int64_t)number(), &previous);
    tell((uint64_t)previous);
    return rc;
}
static struct shf_bytes value_or_absent(void) { /* 0 or 1, value */
    uint64_t there = number();
    struct shf_bytes val = bytes(), none = {SHF_ABSENT, 0};
    return there ? val : none;
}
static int call_cas(struct shf_table **t) { /* key, expected, desired, cap -> present value, cut off at cap */
    struct shf_bytes key = bytes(), expected = value_or_absent(), desired = value_or_absent();
    size_t cap = number(), len = UNSET;
    void *buf = memory(cap);
    int rc = shf_table_cas(*t, key.data, key.len, &expected, &desired, buf, cap, &len);
    tell(rc == SHF_UNCHANGED ? len : UNSET);
    tell_bytes(buf, rc == SHF_UNCHANGED && len != SIZE_MAX ? len < cap ? len : cap : 0);
    free(buf);
    return rc;
}
struct change {
    enum { SET, REMOVE, APPEND, STOP } how;
    struct shf_bytes val;
    unsigned char *buf;
};
static int change(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    struct change *c = context;
    size_t before = old->data == SHF_ABSENT ? 0 : old->len;
    switch (c->how) {
    case STOP: return 1;
    case REMOVE: desired->data = SHF_ABSENT, desired->len = 0; return 0;
    case SET: *desired = c->val; return 0;
    case APPEND: break;
    }
    free(c->buf);
    c->buf = memory(before + c->val.len);
    if (before) memcpy(c->buf, old->data, before);
    if (c->val.len) memcpy(c->buf + before, c->val.data, c->val.len);
    desired->data = c->buf, desired->len = before + c->val.len;
    return 0;
}
static int call_update(struct shf_table **t) { /* key, how, value -> UID */
    struct shf_bytes key = bytes();
    struct change c = {0};
    uint32_t uid = 0;
    c.how = (int)number() & 3;
    c.val = bytes();
    int rc = shf_table_update(*t, key.data, key.len, change, &c, &uid);
    tell(uid);
    free(c.buf);
    return rc;
}
static int call_uid(struct shf_table **t) { /* key -> UID */
    struct shf_bytes key = bytes();
    uint32_t uid = 0;
    int rc = shf_table_uid(*t, key.data, key.len, &uid);
    tell(uid);
    return rc;
}
static int call_checked_uid(struct shf_table **t) { /* key -> checked UID */
    struct shf_bytes key = bytes();
    uint64_t uid = 0;
    int rc = shf_table_checked_uid(*t, key.data, key.len, &uid);
    tell(uid);
    return rc;
}
static int call_get_by_uid(struct shf_table **t) { /* checked or not, key or not, UID, cap -> value (or key) */
    uint64_t checked = number(), key = number(), uid = number();
    size_t cap = number(), len = UNSET;
    void *buf = memory(cap);
    uint32_t plain = (uint32_t)uid;
    int rc = checked ? (key ? shf_table_key_by_checked_uid : shf_table_get_by_checked_uid)(*t, uid, buf, cap, &len)
                     : (key ? shf_table_key_by_uid : shf_table_get_by_uid)(*t, plain, buf, cap, &len);
    tell_value(rc, buf, len, cap);
    free(buf);
    return rc;
}
static int call_put_by_uid(struct shf_table **t) { /* checked or not, UID, value */
    uint64_t checked = number(), uid = number();
    struct shf_bytes val = bytes();
    return checked ? shf_table_put_by_checked_uid(*t, uid, val.data, val.len)
                   : shf_table_put_by_uid(*t, (uint32_t)uid, val.data, val.len);
}
static int call_del_by_uid(struct shf_table **t) { /* checked or not, UID */
    uint64_t checked = number(), uid = number();
    return checked ? shf_table_del_by_checked_uid(*t, uid) : shf_table_del_by_uid(*t, (uint32_t)uid);
}
static int call_put_many(struct shf_table **t) { /* n, n times key, value -> how many were put */
    size_t n = number(), done = UNSET;
    struct shf_pair *pairs = memory(n * sizeof *pairs);
    for (size_t i = 0; i < n; i++) pairs[i].key = bytes(), pairs[i].value = bytes();
    int rc = shf_table_put_many(*t, n, pairs, &done);
    tell(done);
    free(pairs);
    return rc;
}
static struct shf_bytes *keys_of(size_t n) {
    struct shf_bytes *keys = memory(n * sizeof *keys);
    for (size_t i = 0; i < n; i++) keys[i] = bytes();
    return keys;
}
static int call_del_many(struct shf_table **t) { /* n, keys -> how many were there, how many were treated */
    size_t n = number(), removed = UNSET, done = UNSET;
    struct shf_bytes *keys = keys_of(n);
    int rc = shf_table_del_many(*t, n, keys, &removed, &done);
    tell(removed), tell(done);
    free(keys);
    return rc;
}
static struct shf_value *buffers_of(size_t n, size_t cap) {
    struct shf_value *v = memory(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (struct shf_value){memory(cap), cap, UNSET, 999};
    return v;
}
static void tell_values(struct shf_value *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        tell((uint64_t)v[i].code);
        tell_value(v[i].code, v[i].data, v[i].len, v[i].cap);
        free(v[i].data);
    }
    free(v);
}
static int call_get_many(struct shf_table **t) { /* n, keys, cap of each -> for each: code, value */
    size_t n = number();
    struct shf_bytes *keys = keys_of(n);
    struct shf_value *v = buffers_of(n, number());
    int rc = shf_table_get_many(*t, n, keys, v);
    tell_values(v, n);
    free(keys);
    return rc;
}
static int call_get_many_by_uid(struct shf_table **t) { /* n, UIDs, cap of each -> for each: code, value */
    size_t n = number();
    uint32_t *uids = memory(n * sizeof *uids);
    for (size_t i = 0; i < n; i++) uids[i] = (uint32_t)number();
    struct shf_value *v = buffers_of(n, number());
    int rc = shf_table_get_many_by_uid(*t, n, uids, v);
    tell_values(v, n);
    free(uids);
    return rc;
}
/* Gathers the pieces that fit into cap each time; grows cap for a value that alone is longer. */
static int packed(struct shf_table *t, size_t n, const struct shf_bytes *keys, const uint32_t *uids,
                  const uint64_t *checked, size_t cap) {
    size_t at = 0, *lens = memory(n * sizeof *lens);
    int rc = SHF_OK;
    for (int again = 1; again;) {
        size_t done = UNSET, used = 0;
        unsigned char *buf = memory(cap);
        rc = keys ? shf_table_get_many_packed(t, n - at, keys + at, buf, cap, lens, &done)
             : uids ? shf_table_get_many_by_uid_packed(t, n - at, uids + at, buf, cap, lens, &done)
                    : shf_table_get_many_by_checked_uid_packed(t, n - at, checked + at, buf, cap, lens, &done);
        if (done > n - at) give_up("a batch that has done more than it was asked to");
        for (size_t i = 0; i < done; i++) {
            tell(lens[i]);
            tell_bytes(buf + used, lens[i] == SHF_NO_VALUE ? 0 : lens[i]);
            used += lens[i] == SHF_NO_VALUE ? 0 : lens[i];
        }
        again = rc == SHF_TRUNCATED;
        if (again && done == 0) cap = lens[0];
        at += done;
        free(buf);
    }
    free(lens);
    return rc == SHF_OK && at != n ? 999 : rc;
}
static int call_get_many_packed(struct shf_table **t) { /* n, keys, cap -> for each: length, value */
    size_t n = number();
    struct shf_bytes *keys = keys_of(n);
    int rc = packed(*t, n, keys, NULL, NULL, number());
    free(keys);
    return rc;
}
static int call_get_many_by_uid_packed(struct shf_table **t) { /* checked or not, n, UIDs, cap -> as above */
    uint64_t with_check = number();
    size_t n = number();
    uint64_t *checked = memory(n * sizeof *checked);
    uint32_t *uids = memory(n * sizeof *uids);
    for (size_t i = 0; i < n; i++) checked[i] = number(), uids[i] = (uint32_t)checked[i];
    int rc = packed(*t, n, NULL, with_check ? NULL : uids, checked, number());
    free(checked), free(uids);
    return rc;
}
static int call_next(struct shf_table **t) { /* position, cap of key and value -> position, UID, key, value */
    uint64_t position = number();
    size_t kcap = number(), vcap = number(), klen = 0, vlen = 0;
    void *key = memory(kcap), *val = memory(vcap);
    uint32_t uid = 0;
    int rc = shf_table_next(*t, &position, key, kcap, &klen, val, vcap, &vlen, &uid);
    tell(position), tell(uid);
    tell_value(rc, key, klen, kcap);
    tell_value(rc, val, vlen, vcap);
    free(key), free(val);
    return rc;
}
static int call_len(struct shf_table **t) { /* -> keys */
    uint64_t len = UNSET;
    int rc = shf_table_len(*t, &len);
    tell(len);
    return rc;
}
static int call_clear(struct shf_table **t) { return shf_table_clear(*t); }
static int call_check(struct shf_table **t) { /* -> problems, leaked pages, keys, the first problem */
    struct shf_table_report r = {.size = sizeof r};
    int rc = shf_table_check(*t, &r);
    tell(r.problems), tell(r.leaked_pages), tell(r.keys);
    tell_bytes(r.first, strlen(r.first));
    return rc;
}
static int call_stats(struct shf_table **t) { /* -> keys, segments, locks taken over, large values */
    struct shf_table_stats s = {.size = sizeof s};
    int rc = shf_table_stats(*t, &s);
    tell(s.keys), tell(s.segments), tell(s.recoveries), tell(s.large_values);
    return rc;
}
static int call_options(struct shf_table **t) { /* -> fixed key, fixed value, hash, read-only or not */
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    int rc = shf_table_options(*t, &o);
    tell(o.fixed_key), tell(o.fixed_value), tell(o.hash);
    tell((uint64_t)shf_table_is_read_only(*t));
    return rc;
}
static int call_collapse(struct shf_table **t) { return shf_table_collapse(*t, NULL); }

static const struct {
    char name;
    int (*call)(struct shf_table **t);
} calls[] = {{'O', call_open}, {'o', call_from_fd}, {'C', call_close}, {'p', call_put}, {'i', call_insert},
             {'r', call_replace}, {'g', call_get}, {'t', call_take}, {'c', call_contains}, {'d', call_del},
             {'q', call_del_if_equal}, {'a', call_add}, {'x', call_cas}, {'u', call_update}, {'U', call_uid},
             {'K', call_checked_uid}, {'G', call_get_by_uid}, {'P', call_put_by_uid}, {'D', call_del_by_uid},
             {'1', call_put_many}, {'2', call_del_many}, {'3', call_get_many}, {'4', call_get_many_by_uid},
             {'5', call_get_many_packed}, {'6', call_get_many_by_uid_packed}, {'n', call_next},
             {'l', call_len}, {'e', call_clear}, {'k', call_check}, {'s', call_stats}, {'z', call_options},
             {'h', call_collapse}};

static int read_all(void *p, size_t n) { /* 1; 0 = the end */
    for (char *at = p; n != 0;) {
        ssize_t got = read(0, at, n);
        if (got <= 0) return 0;
        at += got, n -= (size_t)got;
    }
    return 1;
}
static void write_all(const void *p, size_t n) {
    for (const char *at = p; n != 0;) {
        ssize_t put = write(1, at, n);
        if (put <= 0) give_up("nobody reads the answers");
        at += put, n -= (size_t)put;
    }
}

int main(void) {
    uint32_t len;
    while (read_all(&len, sizeof len)) {
        unsigned char head[4];
        size_t i = 0;
        if (len > in.room) {
            free(in.data);
            in.data = memory(in.room = len);
        }
        if (!read_all(in.data, len)) give_up("half a request");
        in.len = len, in.at = 0, out.len = 0;
        get(head, sizeof head);
        uint64_t die_at = number();
        while (i < sizeof calls / sizeof *calls && calls[i].name != (char)head[0]) i++;
        if (i == sizeof calls / sizeof *calls || head[1] >= HANDLES) give_up("an unknown call or handle");
        memset(room(16), 0, 16), out.len = 16;
        alarm(60);
        uint64_t before = shf__crash_count;
        shf__crash_at = die_at ? before + die_at : 0;
        int32_t rc = calls[i].call(&tables[head[1]]);
        shf__crash_at = 0;
        uint64_t stores = shf__crash_count - before;
        alarm(0);
        uint32_t size = (uint32_t)out.len - 4;
        memcpy(out.data, &size, 4), memcpy(out.data + 4, &rc, 4), memcpy(out.data + 8, &stores, 8);
        write_all(out.data, out.len);
    }
    for (int i = 0; i < HANDLES; i++) shf_table_close(tables[i]);
    free(in.data), free(out.data);
    return 0;
}
