/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_batch.c - many keys at once
 */
#include "table_find.h"

/* ---- values ------------------------------------------------------------------------------------------- */

/* Where the values of a batch go: `out` each into its own buffer, or (out NULL) packed into buf. */
struct sink {
    struct shf_value *out;
    unsigned char *buf;
    size_t cap;
    size_t *lens;
};
static inline void *sink_room(const struct sink *k, size_t i, size_t *cap) {
    *cap = k->out != NULL ? k->out[i].cap : k->cap;
    return k->out != NULL ? k->out[i].data : k->buf;
}
/* The answer for key i. SHF_OK: on to the next key. */
static inline int sink_take(struct sink *k, size_t i, int rc, size_t len) {
    if (rc < 0) return rc;
    if (rc == SHF_NOT_FOUND) len = k->out != NULL ? 0 : SHF_NO_VALUE;
    if (k->out != NULL) {
        k->out[i].code = rc, k->out[i].len = len;
        return SHF_OK;
    }
    k->lens[i] = len;
    if (rc == SHF_OK && len != 0) k->buf += len, k->cap -= len;
    return rc == SHF_TRUNCATED ? rc : SHF_OK;
}

static int get_keys(struct shf_table *t, size_t n, const struct shf_bytes *keys, struct sink *k, size_t *done) {
    int rc = SHF_OK;
    size_t i = 0;
    for (; i < n; i++) {
        size_t cap, len = 0;
        void *room = sink_room(k, i, &cap);
        rc = shf_table_get(t, keys[i].data, keys[i].len, room, cap, &len);
        rc = sink_take(k, i, rc, len);
        if (rc != SHF_OK) break;
    }
    *done = i;
    return rc;
}

static int get_uids(struct shf_table *t, size_t n, const uint32_t *uids, const uint64_t *checked, struct sink *k,
                    size_t *done) {
    int rc = SHF_OK;
    size_t i = 0;
    for (; i < n; i++) {
        size_t cap, len = 0;
        void *room = sink_room(k, i, &cap);
        rc = checked != NULL ? shf_table_get_by_checked_uid(t, checked[i], room, cap, &len)
                             : shf_table_get_by_uid(t, uids[i], room, cap, &len);
        rc = sink_take(k, i, rc, len);
        if (rc != SHF_OK) break;
    }
    *done = i;
    return rc;
}

int shf_table_get_many(struct shf_table *t, size_t n, const struct shf_bytes *keys, struct shf_value *out) {
    SHF_CHECK_ARGS(t != NULL && (n == 0 || (keys != NULL && out != NULL)));
    struct sink k = {out, NULL, 0, NULL};
    size_t done;
    return get_keys(t, n, keys, &k, &done);
}

int shf_table_get_many_packed(struct shf_table *t, size_t n, const struct shf_bytes *keys, void *buf, size_t cap,
                              size_t *lens, size_t *done) {
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && done != NULL && (buf != NULL || cap == 0) && (n == 0 || (keys != NULL && lens != NULL)));
    struct sink k = {NULL, buf, cap, lens};
    return get_keys(t, n, keys, &k, done);
}

int shf_table_get_many_by_uid(struct shf_table *t, size_t n, const uint32_t *uids, struct shf_value *out) {
    SHF_CHECK_ARGS(t != NULL && (n == 0 || (uids != NULL && out != NULL)));
    struct sink k = {out, NULL, 0, NULL};
    size_t done;
    return get_uids(t, n, uids, NULL, &k, &done);
}

int shf_table_get_many_by_uid_packed(struct shf_table *t, size_t n, const uint32_t *uids, void *buf, size_t cap,
                                     size_t *lens, size_t *done) {
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && done != NULL && (buf != NULL || cap == 0) && (n == 0 || (uids != NULL && lens != NULL)));
    struct sink k = {NULL, buf, cap, lens};
    return get_uids(t, n, uids, NULL, &k, done);
}

int shf_table_get_many_by_checked_uid_packed(struct shf_table *t, size_t n, const uint64_t *uids, void *buf,
                                             size_t cap, size_t *lens, size_t *done) {
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && done != NULL && (buf != NULL || cap == 0) && (n == 0 || (uids != NULL && lens != NULL)));
    struct sink k = {NULL, buf, cap, lens};
    return get_uids(t, n, NULL, uids, &k, done);
}

/* ---- changes ------------------------------------------------------------------------------------------ */

int shf_table_put_many(struct shf_table *t, size_t n, const struct shf_pair *pairs, size_t *done) {
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && done != NULL && (n == 0 || pairs != NULL));
    int rc = SHF_OK;
    size_t i = 0;
    for (; i < n; i++) {
        const struct shf_pair *p = &pairs[i];
        rc = shf_table_put(t, p->key.data, p->key.len, p->value.data, p->value.len, NULL);
        if (SHF_UNLIKELY(rc != SHF_OK)) break;
    }
    *done = i;
    return rc;
}

int shf_table_del_many(struct shf_table *t, size_t n, const struct shf_bytes *keys, size_t *removed, size_t *done) {
    if (removed != NULL) *removed = 0;
    if (done != NULL) *done = 0;
    SHF_CHECK_ARGS(t != NULL && (n == 0 || keys != NULL));
    int rc = SHF_OK;
    size_t i = 0, there = 0;
    for (; i < n; i++) {
        rc = shf_table_del(t, keys[i].data, keys[i].len);
        if (SHF_UNLIKELY(rc < 0)) break;
        there += rc == SHF_OK;
        rc = SHF_OK;
    }
    if (removed != NULL) *removed = there;
    if (done != NULL) *done = i;
    return rc;
}
