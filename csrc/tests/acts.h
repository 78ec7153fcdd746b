/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * acts.h - every call of shf.h done once, on a table that a model knows: for tests in which something fails meanwhile
 *
 * The test defines quiet() before it includes this: from then on nothing fails, until loud() with what quiet() gave.
 * `path` is the table. An act returns the code of its last call and tells the model what has happened.
 */
#ifndef SHF_TEST_ACTS_H
#define SHF_TEST_ACTS_H

#include "model.h"

#include <fcntl.h>

enum situation { PLAIN, TIGHT, DEAD, HELD, GROWN, FORKED, SITUATIONS };

#define KEYS 40u   /* in every image */
#define VICTIM 2u  /* the key that the dead one was about to change */
#define COUNTER 3u /* 8 bytes long */
#define BIG 40000u /* does not fit into what is free in a tight file */

static char path[200];
static const struct shf_table_options quick = {.size = sizeof quick, .lock_timeout_ms = 2}; /* locks fail too */

struct run {
    struct shf_table *t;
    struct model m;
    uint32_t key, fresh;
    int fixed, read_only;
    enum situation in;
};

static int no_tmpfile; /* see faults_model.h */
static unsigned char big[1 << 20], out[1 << 20], out_key[64];

static size_t key_bytes(int fixed, uint32_t i, unsigned char key[24]) {
    if (!fixed) return key_of((char *)key, i);
    fixed_key(key, 8, i);
    return 8;
}
static int change(struct run *r, uint32_t i, size_t vlen, uint64_t stamp) {
    unsigned char key[24];
    size_t klen = key_bytes(r->fixed, i, key);
    if (r->fixed) vlen = 8;
    value_fill(big, vlen, key, klen, stamp);
    int rc = shf_table_put(r->t, key, klen, big, vlen, NULL);
    if (rc == SHF_OK) model_put(&r->m, key, klen, big, vlen);
    return rc;
}

/* UIDs and checked UIDs, so that no run has to ask for them. */
static void note_uids(struct run *r) {
    model_compare(&r->m, r->t);
    for (size_t i = 0; i < r->m.count; i++) {
        struct model_entry *e = r->m.entries[i];
        REQUIRE_EQ_INT(shf_table_checked_uid(r->t, e->key, e->klen, &e->check), SHF_OK);
    }
}

/* A new table at `name`, with KEYS keys, and a model of it. */
static void make_table(struct run *r, const char *name) {
    struct shf_table_options o = quick;
    snprintf(path, sizeof path, "%s", name);
    unlink(path);
    if (r->fixed) o.fixed_key = o.fixed_value = 8;
    r->key = 5, r->fresh = 800;
    model_init(&r->m);
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &r->t), SHF_OK);
    for (uint32_t i = 0; i < KEYS; i++)
        REQUIRE_EQ_INT(change(r, i, i == COUNTER ? 8 : i % 8 == 0 ? 9000 : 100, 1), SHF_OK);
    note_uids(r);
}

/* ---- acts: what is done, and what the model thinks of it ---- */

#define KEY_OF(number)                                                                                                 \
    unsigned char key[24];                                                                                             \
    size_t klen = key_bytes(r->fixed, (number), key)

static size_t new_length(const struct run *r) { return r->fixed ? 8 : r->in == TIGHT ? BIG : 100; }
static size_t fill(const struct run *r, const void *key, size_t klen, uint64_t stamp) {
    size_t vlen = new_length(r);
    value_fill(big, vlen, key, klen, stamp);
    return vlen;
}
/* What a read of a key gave is what the model has. */
static void seen(struct run *r, const void *key, size_t klen, int rc, const void *val, size_t vlen) {
    const struct model_entry *e = model_get(&r->m, key, klen);
    if (rc < 0) return;
    if (e == NULL) {
        CHECK_EQ_INT(rc, SHF_NOT_FOUND);
    } else {
        CHECK_EQ_INT(rc, SHF_OK);
        if (rc == SHF_OK) CHECK_BYTES(val, vlen, e->val, e->vlen);
    }
}
static struct model_entry *entry(struct run *r, uint32_t i) {
    KEY_OF(i);
    struct model_entry *e = model_get(&r->m, key, klen);
    REQUIRE(e != NULL);
    return e;
}

/* Opened, used, closed. */
static int opened(struct run *r, int rc, struct shf_table *t) {
    CHECK((rc == SHF_OK) == (t != NULL));
    if (rc != SHF_OK) return rc;
    uint64_t at = quiet();
    if (r != NULL) {
        size_t n = 0;
        KEY_OF(r->key);
        rc = shf_table_get(t, key, klen, out, sizeof out, &n);
        seen(r, key, klen, rc, out, n);
    }
    shf_table_close(t);
    loud(at);
    return rc;
}
static int open_as(struct run *r, const char *name, unsigned flags, const struct shf_table_options *o) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(name, flags, o, &t);
    return opened(r, rc, t);
}
static int act_open(struct run *r) { return open_as(r, path, 0, &quick); }
static int act_open_create(struct run *r) { return open_as(r, path, SHF_CREATE, &quick); }
static int act_open_read_only(struct run *r) { return open_as(r, path, SHF_RDONLY, &quick); }
static int act_open_huge(struct run *r) {
    struct shf_table_options o = quick;
    o.flags = SHF_OPTION_HUGE_PAGES;
    return open_as(r, path, 0, &o);
}
static int act_open_excl(struct run *r) {
    int rc = open_as(r, path, SHF_CREATE | SHF_EXCL, &quick);
    CHECK(rc < 0);
    return rc;
}
static int act_open_missing(struct run *r) {
    (void)r;
    int rc = open_as(NULL, temp_path("missing"), SHF_RDONLY, &quick);
    CHECK(rc < 0);
    return rc;
}
static int creates(struct run *r, unsigned flags) {
    struct shf_table_options o = quick;
    const char *name = temp_path("new");
    if (r->fixed) o.fixed_key = o.fixed_value = 8;
    int rc = open_as(NULL, name, flags, &o);
    uint64_t at = quiet();
    if (access(name, F_OK) == 0) { /* whole, also when the maker could not attach to it */
        struct shf_table *t = NULL;
        CHECK_EQ_INT(shf_table_open(name, 0, &o, &t), SHF_OK);
        if (t != NULL) CHECK_EQ_INT(table_clean(t), 0);
        shf_table_close(t);
    } else {
        CHECK(rc != SHF_OK);
    }
    loud(at);
    unlink(name);
    return rc;
}
static int act_create(struct run *r) { return creates(r, SHF_CREATE); }
static int act_create_by_private_name(struct run *r) {
    no_tmpfile = 1;
    int rc = creates(r, SHF_CREATE | SHF_EXCL);
    no_tmpfile = 0;
    return rc;
}
static int act_create_excl(struct run *r) { return creates(r, SHF_CREATE | SHF_EXCL); }
static int act_anonymous(struct run *r) {
    struct shf_table *t = NULL;
    (void)r;
    int rc = shf_table_anonymous("faults", &quick, &t);
    return opened(NULL, rc, t);
}
static int from(struct run *r, int fd) {
    struct shf_table *t = NULL;
    REQUIRE(fd >= 0);
    int rc = shf_table_from_fd(fd, &quick, &t);
    return opened(r, rc, t);
}
static int from_path(struct run *r, int flags) {
    uint64_t at = quiet();
    int fd = open(path, flags | O_CLOEXEC);
    loud(at);
    int rc = from(r, fd);
    close(fd);
    return rc;
}
static int act_from_fd(struct run *r) { return from_path(r, O_RDWR); }
static int act_from_fd_read_only(struct run *r) { return from_path(r, O_RDONLY); }
static int act_from_memory_file(struct run *r) {
    struct shf_table *t = NULL;
    (void)r;
    uint64_t at = quiet();
    REQUIRE_EQ_INT(shf_table_anonymous("faults", &quick, &t), SHF_OK);
    loud(at);
    int rc = from(NULL, shf_table_fd(t));
    at = quiet();
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    shf_table_close(t);
    loud(at);
    return rc;
}
static int act_close(struct run *r) {
    struct shf_table *t = NULL;
    (void)r;
    uint64_t at = quiet();
    REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &t), SHF_OK);
    loud(at);
    shf_table_close(t); /* the last of its users */
    return SHF_OK;
}
static int act_close_read_only(struct run *r) {
    struct shf_table *t = NULL;
    (void)r;
    uint64_t at = quiet();
    REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, &quick, &t), SHF_OK);
    loud(at);
    shf_table_close(t);
    return SHF_OK;
}
static int act_unlink(struct run *r) {
    struct shf_table *t = NULL;
    char name[200];
    (void)r;
    snprintf(name, sizeof name, "%s", temp_path("b"));
    uint64_t at = quiet();
    REQUIRE_EQ_INT(shf_table_open(name, SHF_CREATE, &quick, &t), SHF_OK);
    shf_table_close(t);
    loud(at);
    int rc = shf_unlink(name);
    CHECK((rc == SHF_OK) == (access(name, F_OK) != 0));
    unlink(name);
    return rc;
}
static int act_handle(struct run *r) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    CHECK(shf_table_fd(r->t) >= 0);
    CHECK(strcmp(shf_table_path(r->t), path) == 0);
    CHECK_EQ_INT(shf_table_is_read_only(r->t), r->read_only);
    CHECK_EQ_INT(shf_table_options(r->t, &o), SHF_OK);
    CHECK(o.lock_timeout_ms >= quick.lock_timeout_ms);
    CHECK(shf_version()[0] != 0 && shf_strerror(SHF_ERR_IO)[0] != 0 && shf_last_error() != NULL);
    return SHF_OK;
}

static int act_put(struct run *r) {
    int rc = change(r, r->key, new_length(r), 2);
    return rc == SHF_OK ? change(r, r->fresh, new_length(r), 2) : rc;
}
/* Four slices of a growth: what they had is cut off when a later one fails. */
static int act_put_huge_value(struct run *r) { return change(r, r->fresh, r->fixed ? 8 : 1 << 20, 2); }
static int act_put_many_keys(struct run *r) {
    int rc = SHF_OK;
    for (uint32_t i = 1000; i < 1120 && rc == SHF_OK; i++) rc = change(r, i, 3000, 2);
    return rc;
}
static int act_insert(struct run *r) {
    KEY_OF(r->fresh);
    size_t vlen = fill(r, key, klen, 2);
    uint32_t uid = 0;
    int rc = shf_table_insert(r->t, key, klen, big, vlen, &uid);
    if (rc != SHF_OK) return rc;
    CHECK(uid != 0);
    model_put(&r->m, key, klen, big, vlen);
    rc = shf_table_insert(r->t, key, klen, big, vlen, NULL);
    CHECK(rc == SHF_EXISTS || rc < 0);
    return rc;
}
static int act_replace(struct run *r) {
    KEY_OF(r->key);
    size_t vlen = fill(r, key, klen, 2), n = 0;
    int rc = shf_table_replace(r->t, key, klen, big, vlen, out, sizeof out, &n);
    seen(r, key, klen, rc, out, n);
    if (rc == SHF_OK) model_put(&r->m, key, klen, big, vlen);
    return rc;
}
static int act_get(struct run *r) {
    int rc = SHF_OK;
    for (uint32_t i = 0; i < 3 && rc >= 0; i++) {
        KEY_OF(i == 0 ? r->key : i == 1 ? r->fresh : 8);
        size_t n = 0;
        rc = shf_table_get(r->t, key, klen, out, sizeof out, &n);
        seen(r, key, klen, rc, out, n);
    }
    return rc;
}
static int act_contains(struct run *r) {
    KEY_OF(r->key);
    int rc = shf_table_contains(r->t, key, klen);
    CHECK(rc <= SHF_OK);
    return rc;
}
static int act_del(struct run *r) {
    KEY_OF(r->key);
    int rc = shf_table_del(r->t, key, klen);
    CHECK(rc <= SHF_OK);
    if (rc == SHF_OK) model_del(&r->m, key, klen);
    return rc;
}
static int act_take(struct run *r) {
    int rc = SHF_OK;
    for (uint32_t i = 0; i < 2 && rc == SHF_OK; i++) {
        KEY_OF(i ? 8 : r->key);
        size_t n = 0;
        rc = shf_table_take(r->t, key, klen, out, sizeof out, &n);
        seen(r, key, klen, rc, out, n);
        if (rc == SHF_OK) model_del(&r->m, key, klen);
    }
    return rc;
}
static int act_del_if_equal(struct run *r) {
    const struct model_entry *e = entry(r, r->key);
    KEY_OF(r->key);
    int rc = shf_table_del_if_equal(r->t, key, klen, "other", 5);
    CHECK(rc == SHF_UNCHANGED || rc < 0);
    if (rc == SHF_UNCHANGED) rc = shf_table_del_if_equal(r->t, key, klen, e->val, e->vlen);
    CHECK(rc <= SHF_OK);
    if (rc == SHF_OK) model_del(&r->m, key, klen);
    return rc;
}
static int act_add(struct run *r) {
    int rc = SHF_OK;
    for (uint32_t i = 0; i < 2 && rc == SHF_OK; i++) {
        KEY_OF(i ? r->fresh : COUNTER);
        const struct model_entry *e = model_get(&r->m, key, klen);
        uint64_t now = 0;
        int64_t previous = -1;
        if (e != NULL) memcpy(&now, e->val, 8);
        rc = shf_table_add(r->t, key, klen, 7, &previous);
        if (rc == SHF_OK) CHECK_EQ_INT(previous, (int64_t)now);
        now += 7;
        if (rc == SHF_OK) model_put(&r->m, key, klen, &now, 8);
    }
    return rc;
}
static int act_cas(struct run *r) {
    const struct shf_bytes none = {SHF_ABSENT, 0};
    int rc;
    {
        KEY_OF(r->fresh);
        struct shf_bytes desired = {big, fill(r, key, klen, 2)};
        rc = shf_table_cas(r->t, key, klen, &none, &desired, NULL, 0, NULL);
        CHECK(rc <= SHF_OK);
        if (rc == SHF_OK) model_put(&r->m, key, klen, big, desired.len);
        if (rc < 0) return rc;
    }
    const struct model_entry *e = entry(r, r->key);
    KEY_OF(r->key);
    struct shf_bytes expected = {e->val, e->vlen}, desired = {big, fill(r, key, klen, 2)};
    size_t n = 0;
    rc = shf_table_cas(r->t, key, klen, &none, &desired, out, sizeof out, &n);
    CHECK(rc == SHF_UNCHANGED || rc < 0);
    if (rc == SHF_UNCHANGED) CHECK_BYTES(out, n, e->val, e->vlen);
    if (rc == SHF_UNCHANGED) rc = shf_table_cas(r->t, key, klen, &expected, &desired, NULL, 0, NULL);
    if (rc == SHF_OK) model_put(&r->m, key, klen, big, desired.len);
    return rc;
}
static int to_big(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)old;
    *desired = *(struct shf_bytes *)context;
    return 0;
}
static int act_update(struct run *r) {
    int rc = SHF_OK;
    for (uint32_t i = 0; i < 3 && rc == SHF_OK; i++) {
        KEY_OF(i == 0 ? r->key : i == 1 ? r->fresh : 16);
        struct shf_bytes desired = {big, fill(r, key, klen, 2)};
        rc = shf_table_update(r->t, key, klen, to_big, &desired, NULL);
        if (rc == SHF_OK) model_put(&r->m, key, klen, big, desired.len);
    }
    return rc;
}

/* Batches: the key, an absent one, a large value, others. */
#define BATCH 20u
static uint32_t batch_number(const struct run *r, uint32_t i) {
    return i == 0 ? r->key : i == 1 ? r->fresh : i == VICTIM ? 30 : i;
}
static unsigned char batch_keys[BATCH][24];
static struct shf_bytes batch[BATCH];
static size_t lens[BATCH];
static void make_batch(const struct run *r) {
    for (uint32_t i = 0; i < BATCH; i++)
        batch[i] = (struct shf_bytes){batch_keys[i], key_bytes(r->fixed, batch_number(r, i), batch_keys[i])};
}
static int act_get_many(struct run *r) {
    static unsigned char places[BATCH][BIG];
    struct shf_value values[BATCH];
    make_batch(r);
    for (uint32_t i = 0; i < BATCH; i++) values[i] = (struct shf_value){places[i], BIG, 0, 0};
    int rc = shf_table_get_many(r->t, BATCH, batch, values);
    for (uint32_t i = 0; i < BATCH && rc == SHF_OK; i++)
        seen(r, batch[i].data, batch[i].len, values[i].code, values[i].data, values[i].len);
    return rc;
}
static int packed(struct run *r, int rc, size_t done) {
    const unsigned char *at = out;
    CHECK(done <= BATCH && (rc != SHF_OK || done == BATCH));
    for (size_t i = 0; i < done; i++) {
        int there = lens[i] != SHF_NO_VALUE;
        seen(r, batch[i].data, batch[i].len, there ? SHF_OK : SHF_NOT_FOUND, at, lens[i]);
        if (there) at += lens[i];
    }
    return rc;
}
static int act_get_many_packed(struct run *r) {
    size_t done = 0;
    make_batch(r);
    int rc = shf_table_get_many_packed(r->t, BATCH, batch, out, sizeof out, lens, &done);
    return packed(r, rc, done);
}
static uint64_t checked_of(struct run *r, uint32_t i) {
    const struct model_entry *e = model_get(&r->m, batch[i].data, batch[i].len);
    return e ? e->check : 0;
}
static int act_get_many_by_uid(struct run *r) {
    static unsigned char places[BATCH][BIG];
    struct shf_value values[BATCH];
    uint32_t uids[BATCH];
    make_batch(r);
    for (uint32_t i = 0; i < BATCH; i++) {
        values[i] = (struct shf_value){places[i], BIG, 0, 0};
        uids[i] = (uint32_t)(checked_of(r, i) >> 32);
    }
    int rc = shf_table_get_many_by_uid(r->t, BATCH, uids, values);
    for (uint32_t i = 0; i < BATCH && rc == SHF_OK; i++)
        seen(r, batch[i].data, batch[i].len, values[i].code, values[i].data, values[i].len);
    return rc;
}
static int act_get_many_by_uid_packed(struct run *r) {
    uint32_t uids[BATCH];
    size_t done = 0;
    make_batch(r);
    for (uint32_t i = 0; i < BATCH; i++) uids[i] = (uint32_t)(checked_of(r, i) >> 32);
    int rc = shf_table_get_many_by_uid_packed(r->t, BATCH, uids, out, sizeof out, lens, &done);
    return packed(r, rc, done);
}
static int act_get_many_by_checked_uid_packed(struct run *r) {
    uint64_t uids[BATCH];
    size_t done = 0;
    make_batch(r);
    for (uint32_t i = 0; i < BATCH; i++) uids[i] = checked_of(r, i);
    int rc = shf_table_get_many_by_checked_uid_packed(r->t, BATCH, uids, out, sizeof out, lens, &done);
    return packed(r, rc, done);
}
static int act_put_many(struct run *r) {
    static unsigned char values[BATCH][BIG];
    struct shf_pair pairs[BATCH];
    size_t done = 0;
    make_batch(r);
    for (uint32_t i = 0; i < BATCH; i++) {
        size_t vlen = new_length(r);
        value_fill(values[i], vlen, batch[i].data, batch[i].len, 2);
        pairs[i] = (struct shf_pair){batch[i], {values[i], vlen}};
    }
    int rc = shf_table_put_many(r->t, BATCH, pairs, &done);
    CHECK(done <= BATCH && (rc == SHF_OK) == (done == BATCH));
    for (size_t i = 0; i < done; i++) model_put(&r->m, batch[i].data, batch[i].len, values[i], pairs[i].value.len);
    return rc;
}
static int act_del_many(struct run *r) {
    size_t removed = 0, done = 0, there = 0;
    make_batch(r);
    int rc = shf_table_del_many(r->t, BATCH, batch, &removed, &done);
    CHECK(done <= BATCH && (rc != SHF_OK || done == BATCH));
    for (size_t i = 0; i < done; i++) there += (size_t)model_del(&r->m, batch[i].data, batch[i].len);
    CHECK_EQ_INT(removed, there);
    return rc;
}

static int act_uid(struct run *r) {
    KEY_OF(r->key);
    uint32_t uid = 0;
    int rc = shf_table_uid(r->t, key, klen, &uid);
    if (rc == SHF_OK) CHECK_EQ_INT(uid, entry(r, r->key)->uid);
    return rc;
}
static int act_checked_uid(struct run *r) {
    KEY_OF(r->key);
    uint64_t uid = 0;
    int rc = shf_table_checked_uid(r->t, key, klen, &uid);
    if (rc == SHF_OK) CHECK(uid == entry(r, r->key)->check);
    return rc;
}
static int value_of(struct run *r, int rc, size_t n) {
    KEY_OF(r->key);
    seen(r, key, klen, rc, out, n);
    return rc;
}
static int key_is(struct run *r, int rc, size_t n) {
    KEY_OF(r->key);
    if (rc == SHF_OK) CHECK_BYTES(out_key, n, key, klen);
    CHECK(rc <= SHF_OK);
    return rc;
}
static int act_get_by_uid(struct run *r) {
    size_t n = 0;
    int rc = shf_table_get_by_uid(r->t, entry(r, r->key)->uid, out, sizeof out, &n);
    return value_of(r, rc, n);
}
static int act_get_by_checked_uid(struct run *r) {
    size_t n = 0;
    int rc = shf_table_get_by_checked_uid(r->t, entry(r, r->key)->check, out, sizeof out, &n);
    return value_of(r, rc, n);
}
static int act_key_by_uid(struct run *r) {
    size_t n = 0;
    int rc = shf_table_key_by_uid(r->t, entry(r, r->key)->uid, out_key, sizeof out_key, &n);
    return key_is(r, rc, n);
}
static int act_key_by_checked_uid(struct run *r) {
    size_t n = 0;
    int rc = shf_table_key_by_checked_uid(r->t, entry(r, r->key)->check, out_key, sizeof out_key, &n);
    return key_is(r, rc, n);
}
static int put_done(struct run *r, int rc, size_t vlen) {
    KEY_OF(r->key);
    CHECK(rc <= SHF_OK);
    if (rc == SHF_OK) model_put(&r->m, key, klen, big, vlen);
    return rc;
}
static int act_put_by_uid(struct run *r) {
    KEY_OF(r->key);
    size_t vlen = fill(r, key, klen, 2);
    return put_done(r, shf_table_put_by_uid(r->t, entry(r, r->key)->uid, big, vlen), vlen);
}
static int act_put_by_checked_uid(struct run *r) {
    KEY_OF(r->key);
    size_t vlen = fill(r, key, klen, 2);
    return put_done(r, shf_table_put_by_checked_uid(r->t, entry(r, r->key)->check, big, vlen), vlen);
}
static int del_done(struct run *r, int rc) {
    KEY_OF(r->key);
    CHECK(rc <= SHF_OK);
    if (rc == SHF_OK) model_del(&r->m, key, klen);
    return rc;
}
static int act_del_by_uid(struct run *r) { return del_done(r, shf_table_del_by_uid(r->t, entry(r, r->key)->uid)); }
static int act_del_by_checked_uid(struct run *r) {
    return del_done(r, shf_table_del_by_checked_uid(r->t, entry(r, r->key)->check));
}

static int act_next(struct run *r) {
    uint64_t position = 0, n = 0;
    for (;;) {
        size_t klen = 0, vlen = 0;
        int rc = shf_table_next(r->t, &position, out_key, sizeof out_key, &klen, out, sizeof out, &vlen, NULL);
        if (rc == SHF_NOT_FOUND) break;
        if (rc < 0) return rc;
        n++;
        if (r->in != DEAD) seen(r, out_key, klen, rc, out, vlen);
    }
    CHECK_EQ_INT(n, r->m.count);
    return SHF_OK;
}
static int act_len(struct run *r) {
    uint64_t n = 0;
    int rc = shf_table_len(r->t, &n);
    if (rc == SHF_OK) CHECK_EQ_INT(n, r->m.count);
    return rc;
}
/* Atomic for each shard: after an error each is empty or as it was. */
static int act_clear(struct run *r) {
    int rc = shf_table_clear(r->t), gone[SHF_SHARD_COUNT] = {0};
    if (rc == SHF_ERR_READ_ONLY || r->in == HELD) return rc;
    uint64_t at = quiet();
    for (size_t i = 0; i < r->m.count; i++) {
        struct model_entry *e = r->m.entries[i];
        int there = shf_table_contains(r->t, e->key, e->klen) == SHF_OK, *of = &gone[e->check >> 56];
        CHECK(*of != (there ? 1 : 2));
        *of = there ? 2 : 1;
        if (rc == SHF_OK) CHECK(!there);
    }
    for (size_t i = r->m.count; i-- > 0;) {
        struct model_entry *e = r->m.entries[i];
        if (gone[e->check >> 56] == 1) model_del(&r->m, e->key, e->klen);
    }
    loud(at);
    return rc;
}
static int act_collapse(struct run *r) {
    uint64_t bytes = 0;
    return shf_table_collapse(r->t, &bytes);
}
static int act_stats(struct run *r) {
    struct shf_table_stats s = {.size = sizeof s};
    int rc = shf_table_stats(r->t, &s);
    if (rc == SHF_OK) CHECK_EQ_INT(s.keys, r->m.count);
    return rc;
}
static int act_check(struct run *r) {
    struct shf_table_report report = {.size = sizeof report};
    int rc = shf_table_check(r->t, &report);
    if (rc == SHF_OK) CHECK_EQ_INT(report.keys, r->m.count);
    return rc;
}

#define OPENS 1   /* no handle is there before */
#define CHANGES 2 /* SHF_ERR_READ_ONLY for a read-only handle */
static const struct act {
    int (*act)(struct run *r);
    unsigned how;
    const char *functions; /* of shf.h */
} acts[] = {
    {act_open, OPENS, "shf_table_open shf_table_close"},
    {act_open_create, OPENS, "shf_table_open"},
    {act_open_excl, OPENS, "shf_table_open"},
    {act_open_read_only, OPENS, "shf_table_open"},
    {act_open_huge, OPENS, "shf_table_open"},
    {act_open_missing, OPENS, "shf_table_open"},
    {act_create, OPENS, "shf_table_open"},
    {act_create_excl, OPENS, "shf_table_open"},
    {act_create_by_private_name, OPENS, "shf_table_open"},
    {act_anonymous, OPENS, "shf_table_anonymous"},
    {act_from_fd, OPENS, "shf_table_from_fd"},
    {act_from_fd_read_only, OPENS, "shf_table_from_fd"},
    {act_from_memory_file, OPENS, "shf_table_from_fd"},
    {act_close, OPENS, "shf_table_close"},
    {act_close_read_only, OPENS, "shf_table_close"},
    {act_unlink, OPENS, "shf_unlink"},
    {act_handle, 0,
     "shf_table_fd shf_table_path shf_table_is_read_only shf_table_options shf_version shf_strerror shf_last_error"},
    {act_put, CHANGES, "shf_table_put"},
    {act_put_huge_value, CHANGES, "shf_table_put"},
    {act_put_many_keys, CHANGES, "shf_table_put"},
    {act_insert, CHANGES, "shf_table_insert"},
    {act_replace, CHANGES, "shf_table_replace"},
    {act_get, 0, "shf_table_get"},
    {act_contains, 0, "shf_table_contains"},
    {act_del, CHANGES, "shf_table_del"},
    {act_take, CHANGES, "shf_table_take"},
    {act_del_if_equal, CHANGES, "shf_table_del_if_equal"},
    {act_add, CHANGES, "shf_table_add"},
    {act_cas, CHANGES, "shf_table_cas"},
    {act_update, CHANGES, "shf_table_update"},
    {act_get_many, 0, "shf_table_get_many"},
    {act_get_many_packed, 0, "shf_table_get_many_packed"},
    {act_get_many_by_uid, 0, "shf_table_get_many_by_uid"},
    {act_get_many_by_uid_packed, 0, "shf_table_get_many_by_uid_packed"},
    {act_get_many_by_checked_uid_packed, 0, "shf_table_get_many_by_checked_uid_packed"},
    {act_put_many, CHANGES, "shf_table_put_many"},
    {act_del_many, CHANGES, "shf_table_del_many"},
    {act_uid, 0, "shf_table_uid"},
    {act_checked_uid, 0, "shf_table_checked_uid"},
    {act_get_by_uid, 0, "shf_table_get_by_uid"},
    {act_key_by_uid, 0, "shf_table_key_by_uid"},
    {act_put_by_uid, CHANGES, "shf_table_put_by_uid"},
    {act_del_by_uid, CHANGES, "shf_table_del_by_uid"},
    {act_get_by_checked_uid, 0, "shf_table_get_by_checked_uid"},
    {act_key_by_checked_uid, 0, "shf_table_key_by_checked_uid"},
    {act_put_by_checked_uid, CHANGES, "shf_table_put_by_checked_uid"},
    {act_del_by_checked_uid, CHANGES, "shf_table_del_by_checked_uid"},
    {act_next, 0, "shf_table_next"},
    {act_len, 0, "shf_table_len"},
    {act_clear, CHANGES, "shf_table_clear"},
    {act_collapse, 0, "shf_table_collapse"},
    {act_stats, 0, "shf_table_stats"},
    {act_check, 0, "shf_table_check"},
};
#define ACTS (sizeof acts / sizeof *acts)

#endif
