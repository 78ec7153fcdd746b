/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_model.h - dies at every store of every operation, and again at the stores of the recovery
 *
 * A SCENARIO  is a prepared file (an image: the same bytes, seed included, each time), and steps. For k = 1, 2, ...
 *             a child opens the file, does the steps and dies just before its k-th shared store, until it completes.
 *             The parent was attached before and goes on at once: each key has the value from before or after the
 *             step that died, never anything else, and acknowledged steps are there; a put into the same shard
 *             works; check, len and a walk agree. What a reader has seen as new never becomes old again.
 * SECOND      For a k a second child dies at its j-th store: A it was attached before the first death and its first
 *             operation recovers; B it opens the file afterwards. Then the parent must find everything right.
 * THIRD       After some second deaths one more child opens the file and dies at a random store.
 * BATCH       Steps that one put_many or del_many does: the pairs before some place are done, those behind it are not.
 * HOW MANY    Every k up to SHF_CRASH_SINGLES of them (default CRASH_SINGLES; 0: all): a third of them the last ones, the
 *             others spread by the seed. All (k, j) if they are few, else SHF_CRASH_PAIRS of them by the seed (default
 *             CRASH_PAIRS); SHF_CRASH_FULL=1: all of both. CRASH_SHARE scenarios that are nearly the same share a number.
 *             Before all that each store of the code (crash_sites.h) at which nobody has died yet; pairs are drawn half by
 *             number, half by the store of the code. One in eight pairs becomes three.
 * LENGTHS     begin() for variable ones, begin_fixed() for fixed ones: then every key and value has that length, whatever
 *             a scenario says.
 */
#ifndef SHF_CRASH_MODEL_H
#define SHF_CRASH_MODEL_H

#include "crash_sites.h"
#include "model.h"
#include "table.h"

#include <fcntl.h>
#include <sched.h>

#define KEYS 1200
#define STEPS 4000
#define LARGE 8400
#define NAME 128
#define TARGET 1u /* the shard that things happen in */

struct val {
    int64_t len; /* -1: absent */
    uint64_t stamp;
    int raw; /* 8 bytes that are the stamp: a counter */
};
static const struct val absent = {-1, 0, 0};
static int64_t fixed_key_len, fixed_value_len = -1; /* of the scenario in work; -1: variable */
static struct val sized(int64_t len, uint64_t stamp) {
    return (struct val){fixed_value_len >= 0 ? fixed_value_len : len, stamp, 0};
}
static struct val raw(uint64_t v) { return (struct val){8, v, 1}; }

enum kind { NOTHING, PUT, INSERT, REPLACE, DEL, TAKE, DEL_IF_EQUAL, ADD, CAS, UPDATE, PUT_UID, DEL_UID, CLEAR };
struct step {
    enum kind kind;
    int key;
    struct val val, expected;
    int many; /* over 0: so many steps from here on, all PUT or all DEL, are one batch */
};
#define BATCH_MOST 24
#define CANDIDATES (2 * (BATCH_MOST + 1))
enum event { NONE, SPLIT, DOUBLE, CHUNK, UNCHUNK, MOVE, GROW, STASH };

/* The scenario in work. */
static struct {
    struct {
        char name[NAME];
        size_t len;
        uint32_t shard;
    } key[KEYS];
    int keys;
    struct step prep[STEPS], step[64];
    int preps, steps;
    enum event event; /* the first prep step (the nth that does) after `from` that makes it happen becomes step[0] */
    int nth, from;
    int batch;        /* over 0: so many prep steps around that one are a batch */
    int touch, probe; /* keys in the target shard; probe is never used by the scenario */
    int arm_open, arm_close, alone;
    int by_shard; /* what happens, happens to each shard for itself */
    uint64_t next_name;
    struct val state[KEYS]; /* after the preparation */
    unsigned char *image;
    size_t image_size;
} S;

struct shared {
    _Atomic int acked, second_acked;
    _Atomic uint64_t stores;
};
static struct shared *shared;
static struct shf_hash_key hash_key;
static unsigned char *base_image; /* an empty table with a seed of ours */
static size_t base_size;

/* ---- values, states, steps ---- */
static unsigned char *val_bytes(struct val v, int key) {
    static __thread unsigned char buf[100000];
    if (v.raw)
        memcpy(buf, &v.stamp, 8);
    else if (v.len > 0)
        value_fill(buf, (size_t)v.len, S.key[key].name, S.key[key].len, v.stamp);
    return buf;
}
static int val_same(struct val a, struct val b) {
    return a.len == b.len && (a.len <= 0 || (a.stamp == b.stamp && a.raw == b.raw));
}
static void apply(struct val *state, const struct step *s) {
    struct val *v = &state[s->key];
    switch (s->kind) {
    case NOTHING: return;
    case PUT:
    case UPDATE: *v = s->val; return;
    case INSERT:
        if (v->len < 0) *v = s->val;
        return;
    case REPLACE:
    case PUT_UID:
        if (v->len >= 0) *v = s->val;
        return;
    case DEL:
    case TAKE:
    case DEL_UID: *v = absent; return;
    case DEL_IF_EQUAL:
        if (val_same(*v, s->expected)) *v = absent;
        return;
    case ADD: *v = raw((v->len < 0 ? 0 : v->stamp) + s->val.stamp); return;
    case CAS:
        if (val_same(*v, s->expected)) *v = s->val;
        return;
    case CLEAR:
        for (int i = 0; i < S.keys; i++) state[i] = absent;
    }
}
static int update_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    const struct step *s = context;
    (void)old;
    desired->data = s->val.len < 0 ? SHF_ABSENT : val_bytes(s->val, s->key);
    desired->len = s->val.len < 0 ? 0 : (size_t)s->val.len;
    return 0;
}
static int perform_many(struct shf_table *t, const struct step *s) {
    struct shf_pair puts[BATCH_MOST];
    struct shf_bytes keys[BATCH_MOST];
    size_t n = (size_t)s->many, done = 0;
    unsigned char *values = test_alloc(n * 100000);
    for (size_t i = 0; i < n; i++) {
        size_t len = s[i].val.len < 0 ? 0 : (size_t)s[i].val.len;
        memcpy(values + i * 100000, val_bytes(s[i].val, s[i].key), len);
        keys[i] = (struct shf_bytes){S.key[s[i].key].name, S.key[s[i].key].len};
        puts[i] = (struct shf_pair){keys[i], {values + i * 100000, len}};
    }
    int rc = s->kind == PUT ? shf_table_put_many(t, n, puts, &done) : shf_table_del_many(t, n, keys, NULL, &done);
    free(values);
    return rc != SHF_OK ? rc : done == n ? SHF_OK : SHF_ERR_INVALID;
}
static int perform(struct shf_table *t, const struct step *s) {
    static __thread unsigned char out[100000], other[100000];
    if (s->many) return perform_many(t, s);
    const char *k = S.key[s->key].name;
    size_t klen = S.key[s->key].len, vlen = s->val.len < 0 ? 0 : (size_t)s->val.len, n;
    unsigned char *v = val_bytes(s->val, s->key);
    uint32_t uid = 0;
    switch (s->kind) {
    case NOTHING: return SHF_OK;
    case PUT: return shf_table_put(t, k, klen, v, vlen, NULL);
    case INSERT: return shf_table_insert(t, k, klen, v, vlen, NULL);
    case REPLACE: return shf_table_replace(t, k, klen, v, vlen, out, sizeof out, &n);
    case DEL: return shf_table_del(t, k, klen);
    case TAKE: return shf_table_take(t, k, klen, out, sizeof out, &n);
    case DEL_IF_EQUAL:
        v = val_bytes(s->expected, s->key);
        return shf_table_del_if_equal(t, k, klen, v, (size_t)s->expected.len);
    case ADD: return shf_table_add(t, k, klen, (int64_t)s->val.stamp, NULL);
    case CAS: {
        struct shf_bytes e = {SHF_ABSENT, 0}, d = {SHF_ABSENT, 0};
        if (s->val.len >= 0) d.len = vlen, d.data = memcpy(other, v, vlen);
        if (s->expected.len >= 0) e.len = (size_t)s->expected.len, e.data = val_bytes(s->expected, s->key);
        return shf_table_cas(t, k, klen, &e, &d, NULL, 0, NULL);
    }
    case UPDATE: return shf_table_update(t, k, klen, update_fn, (void *)(uintptr_t)s, NULL);
    case PUT_UID: return (n = (size_t)shf_table_uid(t, k, klen, &uid)) ? (int)n : shf_table_put_by_uid(t, uid, v, vlen);
    case DEL_UID: return (n = (size_t)shf_table_uid(t, k, klen, &uid)) ? (int)n : shf_table_del_by_uid(t, uid);
    case CLEAR: return shf_table_clear(t);
    }
    return SHF_ERR_INVALID;
}

/* ---- files ---- */
static unsigned char *read_image(const char *path, size_t *size) {
    struct stat st;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    unsigned char *p = test_alloc(*size = (size_t)st.st_size);
    REQUIRE(read(fd, p, *size) == (ssize_t)*size);
    close(fd);
    return p;
}
static void write_image(const char *path, const unsigned char *p, size_t size) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(fd >= 0 && write(fd, p, size) == (ssize_t)size);
    close(fd);
}
static struct shf_table *open_path(const char *path) {
    struct shf_table *t = NULL;
    int rc = shf_table_open(path, 0, NULL, &t);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    return t;
}
/* An empty table whose seed comes from SHF_SEED, so that everything can be repeated. */
static void make_base(void) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    const char *path = temp_path("base");
    sites_begin();
    if (!shared) shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    o.max_bytes = 64 << 20;
    if (fixed_value_len >= 0) o.fixed_key = (uint32_t)fixed_key_len, o.fixed_value = (uint32_t)fixed_value_len;
    unlink(path);
    int rc = shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &t);
    if (rc != SHF_OK) FAIL("create: %d, %s", rc, shf_last_error()->message), test_stop();
    shf_table_close(t);
    free(base_image);
    base_image = read_image(path, &base_size);
    struct shf_shm_header *h = (struct shf_shm_header *)base_image;
    uint64_t s = test_seed;
    h->seed[0] = test_next(&s), h->seed[1] = test_next(&s);
    h->checksum = shf__checksum(h, offsetof(struct shf_shm_header, checksum));
    shf__hash_key_init(&hash_key, h->hash, h->seed);
}

/* ---- building scenarios ---- */
static size_t number_key(char *buf, uint64_t n) { /* as key_of, without printf: thousands are tried for a shard */
    if (fixed_value_len < 0) {
        char digits[24];
        size_t len = 0, at = 0;
        do digits[len++] = (char)('0' + n % 10);
        while ((n /= 10) != 0);
        buf[at++] = 'k';
        while (len) buf[at++] = digits[--len];
        return at;
    }
    fixed_key(buf, (size_t)fixed_key_len, n);
    return (size_t)fixed_key_len;
}
static void begin(void) {
    make_base();
    free(S.image);
    memset(&S, 0, sizeof S);
    S.touch = S.probe = -1;
    S.nth = 1;
}
TEST_FN void begin_variable(void) {
    fixed_key_len = 0, fixed_value_len = -1;
    begin();
}
TEST_FN void begin_fixed(size_t klen, size_t vlen) {
    fixed_key_len = (int64_t)klen, fixed_value_len = (int64_t)vlen;
    begin();
}
/* The next key with these hash bits (-1: any). */
static int new_key(int shard, int b1, int delta, uint32_t dir_mask) {
    int i = S.keys++;
    REQUIRE(i < KEYS);
    for (;;) {
        S.key[i].len = number_key(S.key[i].name, S.next_name++);
        uint64_t h = shf__hash(&hash_key, S.key[i].name, S.key[i].len);
        S.key[i].shard = shf_hash_shard(h);
        if (shard >= 0 && S.key[i].shard != (uint32_t)shard) continue;
        if (b1 >= 0 && shf_hash_b1(h) != (uint32_t)b1) continue;
        if (delta >= 0 && shf_hash_delta(h) != (uint32_t)delta) continue;
        if (shf_hash_dir(h) & dir_mask) continue;
        S.state[i] = absent;
        return i;
    }
}
static int target_key(void) { return new_key(TARGET, -1, -1, 0); }
static void prep(enum kind kind, int key, struct val v) {
    REQUIRE(S.preps < STEPS);
    S.prep[S.preps++] = (struct step){kind, key, v, absent, 0};
}
TEST_FN struct step *step(enum kind kind, int key, struct val v) {
    struct step *s = &S.step[S.steps++];
    *s = (struct step){kind, key, v, absent, 0};
    if (S.touch < 0) S.touch = key;
    S.by_shard |= kind == CLEAR;
    return s;
}
/* What the last n steps do is one batch. */
TEST_FN void batch(int n) {
    REQUIRE(n <= BATCH_MOST && n <= S.steps);
    S.step[S.steps - n].many = n;
}
TEST_FN void some_keys(int n) { /* a few other keys there, in the target shard */
    for (int i = 0; i < n; i++) prep(PUT, target_key(), sized(i % 30, (uint64_t)i));
}
static int happened(const struct shf_table_stats *a, const struct shf_table_stats *b, uint64_t stores) {
    switch (S.event) {
    case SPLIT: return b->segments > a->segments && b->max_depth == a->max_depth && a->segments > 0;
    case DOUBLE: return b->max_depth > a->max_depth && a->segments > 0;
    case CHUNK: return b->record_bytes > a->record_bytes && b->segments == a->segments;
    case UNCHUNK: return b->record_bytes < a->record_bytes;
    case MOVE: return b->record_bytes == a->record_bytes && stores > 70;
    case GROW: return b->file_bytes > a->file_bytes;
    case STASH: return b->stashed_keys > a->stashed_keys;
    case NONE: break;
    }
    return 0;
}
/* Runs the preparation and takes the image; with an event, once more before it, to know where to stop. */
static void prepare(void) {
    const char *path = temp_path("prep");
    for (int pass = S.event == NONE; pass < 2; pass++) {
        write_image(path, base_image, base_size);
        struct shf_table *t = open_path(path);
        for (int i = 0; i < S.keys; i++) S.state[i] = absent;
        struct shf_table_stats a = table_stats(t), b;
        int hit = -1, count = 0;
        for (int i = 0; i < S.preps; i++) {
            uint64_t before = shf__crash_count;
            int rc = perform(t, &S.prep[i]);
            if (rc != SHF_OK) FAIL("preparation step %d: %d, %s", i, rc, shf_last_error()->message), test_stop();
            uint64_t stores = shf__crash_count - before;
            apply(S.state, &S.prep[i]);
            if (pass == 1 || S.event == NONE) continue;
            b = table_stats(t);
            if (i >= S.from && happened(&a, &b, stores)) count += S.event == DOUBLE ? (int)(b.max_depth - a.max_depth) : 1;
            if (count >= S.nth) {
                hit = i;
                break;
            }
            a = b;
        }
        if (pass == 0) {
            if (hit < 0) FAIL("the event %d never happens in %d steps", S.event, S.preps), test_stop();
            int first = hit - S.batch / 3, n = S.batch ? S.batch : 1; /* the event is not the batch's first thing */
            REQUIRE(n <= BATCH_MOST && first >= 0 && first + n <= S.preps);
            memmove(S.step + n, S.step, sizeof S.step - (size_t)n * sizeof *S.step); /* what was to follow follows */
            memcpy(S.step, S.prep + first, (size_t)n * sizeof *S.step);
            S.step[0].many = S.batch, S.steps += n;
            S.preps = first;
            if (S.touch < 0) S.touch = S.step[0].key;
        } else {
            table_clean(t);
        }
        shf_table_close(t);
    }
    S.image = read_image(path, &S.image_size);
    if (S.touch < 0) S.touch = target_key();
    S.probe = new_key((int)S.key[S.touch].shard, -1, -1, 0);
}

/* ---- one death, or two ---- */
struct first {
    const char *path;
    uint64_t k;
};
static void first_child(void *arg) {
    struct first *f = arg;
    uint64_t before = shf__crash_count;
    if (S.arm_open) shf__crash_at = before + f->k, sites_trace_from = before, sites_role = FIRST;
    struct shf_table *t = open_path(f->path);
    sites_role = FIRST;
    if (!S.arm_open) before = sites_trace_from = shf__crash_count, shf__crash_at = before + f->k;
    for (int i = 0; i < S.steps;) {
        int rc = perform(t, &S.step[i]);
        if (rc != SHF_OK) FAIL("step %d: %d, %s", i, rc, shf_last_error()->message);
        i += S.step[i].many ? S.step[i].many : 1;
        shared->acked = i;
    }
    if (S.arm_close) shf_table_close(t);
    shared->stores = shf__crash_count - before;
    _exit(0);
}
struct second {
    const char *path;
    uint64_t j; /* 0: never, count only */
    int attached, ready[2], go[2];
};
/* What repairs: the second process' put, or first something else. LEAVE: it closes its handle after the put. */
enum way { JUST_PUT, CHECK_ALL, COUNT, PUT_LARGE, LEAVE, WAYS };
static enum way second_way;
static struct val second_val(void) { return sized(second_way == PUT_LARGE ? LARGE : 40, 777); }
static struct val third_val(void) { return sized(48, 888); }
static void second_child(void *arg) {
    struct second *s = arg;
    char c = 0;
    struct step put = {PUT, S.touch, second_val(), absent, 0};
    struct shf_table *t = NULL;
    uint64_t before = shf__crash_count;
    if (s->attached) {
        t = open_path(s->path);
        if (write(s->ready[1], &c, 1) != 1 || read(s->go[0], &c, 1) != 1) _exit(97);
    }
    before = shf__crash_count;
    sites_role = REPAIR, sites_trace_from = before;
    if (s->j) shf__crash_at = before + s->j;
    if (!t) t = open_path(s->path);
    uint64_t keys;
    if (second_way == CHECK_ALL) table_clean(t);
    if (second_way == COUNT) CHECK_EQ_INT(shf_table_len(t, &keys), SHF_OK);
    int rc = perform(t, &put);
    if (rc != SHF_OK) FAIL("the second process' put: %d, %s", rc, shf_last_error()->message);
    shared->second_acked = 1;
    if (second_way == LEAVE) shf_table_close(t);
    shared->stores = shf__crash_count - before;
    _exit(0);
}

/* Bit c of the result: candidate c explains every key of the shard. */
static void explain(struct shf_table *t, struct val (*candidate)[KEYS], int candidates, uint64_t mask[256]) {
    static unsigned char buf[100000];
    uint64_t all = (UINT64_C(1) << candidates) - 1, whole = all;
    for (int i = 0; i < 256; i++) mask[i] = all;
    for (int i = 0; i < S.keys; i++) {
        size_t n = 0;
        int rc = shf_table_get(t, S.key[i].name, S.key[i].len, buf, sizeof buf, &n), same = 0;
        if (rc != SHF_OK && rc != SHF_NOT_FOUND) FAIL("get of key %d: %d, %s", i, rc, shf_last_error()->message);
        uint64_t ok = 0;
        for (int c = 0; c < candidates; c++) {
            struct val v = candidate[c][i];
            if (c == 0 || !val_same(v, candidate[c - 1][i]))
                same = v.len < 0 ? rc == SHF_NOT_FOUND
                                 : rc == SHF_OK && n == (size_t)v.len && memcmp(buf, val_bytes(v, i), n) == 0;
            ok |= (uint64_t)same << c;
        }
        if (!ok)
            FAIL("key %d (shard %u) is %s, length %zu: neither old (%lld) nor new (%lld)", i, S.key[i].shard,
                 rc == SHF_OK ? "there" : "absent", n, (long long)candidate[0][i].len,
                 (long long)candidate[candidates - 1][i].len);
        mask[S.key[i].shard] &= ok;
    }
    for (int i = 0; i < 256; i++) {
        if (!mask[i] && !*test_failures) FAIL("shard %d is a mixture of states", i);
        whole &= mask[i];
    }
    if (!whole && !S.by_shard && !*test_failures) FAIL("the shards are of different states");
}
/* What a shard was like for one reader, it or a later state is what the next one sees. */
static int went_back(uint64_t before, uint64_t after) {
    uint64_t oldest = before & (0 - before);
    return after < oldest; /* the newest that it can be */
}

/* What other shards do between the death and the recovery: they take every run that is free by now. A redo must not
 * free a run that has got a new owner. */
#define BESIDE 3000
static struct {
    char name[NAME];
    size_t len;
} beside[BESIDE];
static int besides, near_end; /* near_end: the runs that a step frees are free by now */
static size_t beside_size(int i) {
    return fixed_value_len >= 0 ? (size_t)fixed_value_len : (size_t)(i % 2 ? 8300 : 14000);
}
/* Variable lengths: large values in one other shard. Fixed ones: the first segments of many other shards; with SHF_SMALL
 * there is but one, which takes pages when it splits. */
static void take_what_is_free(struct shf_table *t) {
    static unsigned char buf[14000];
    uint64_t size = shm_load_acquire(&t->region.header->end); /* stats would take the lock */
    uint64_t name = 1u << 30; /* and up: no scenario has these */
    uint32_t mine = S.key[S.touch].shard;
    if (fixed_value_len >= 0 && fixed_key_len < 4) name = UINT64_C(1) << (8 * fixed_key_len - 1);
    int growths = 0, most = fixed_value_len < 0 ? 80 : SHF_SHARD_COUNT > 2 ? 200 : BESIDE;
    for (besides = 0; besides < most && growths < 3; besides++) {
        int i = besides;
        uint32_t shard;
        do {
            beside[i].len = number_key(beside[i].name, name++);
            shard = shf_hash_shard(shf__hash(&hash_key, beside[i].name, beside[i].len));
        } while (fixed_value_len < 0 ? shard != (mine ^ 1) : shard == mine);
        value_fill(buf, beside_size(i), beside[i].name, beside[i].len, 99);
        int rc = shf_table_put(t, beside[i].name, beside[i].len, buf, beside_size(i), NULL);
        if (rc == SHF_ERR_FULL) break;
        if (rc != SHF_OK) FAIL("a put into another shard: %d, %s", rc, shf_last_error()->message);
        uint64_t now = shm_load_acquire(&t->region.header->end);
        growths += now != size, size = now;
    }
}
static void give_it_back(struct shf_table *t) {
    static unsigned char buf[14000];
    for (int i = 0; i < besides; i++) {
        value_fill(buf, beside_size(i), beside[i].name, beside[i].len, 99);
        table_has(t, beside[i].name, beside[i].len, buf, beside_size(i));
        CHECK_EQ_INT(shf_table_del(t, beside[i].name, beside[i].len), SHF_OK);
    }
}
/* By UID and by cursor, as a reader that takes no lock: whatever state it meets, an old value or a new one. */
static void look_around(struct shf_table *r, struct val (*candidate)[KEYS], int candidates) {
    static unsigned char buf[100000], key[NAME];
    size_t n = 0, kn = 0;
    uint64_t position = 0, seen = 0;
    for (int i = 0; i < S.keys; i++) {
        uint32_t uid = 0;
        int rc = shf_table_uid(r, S.key[i].name, S.key[i].len, &uid), ok = 0;
        if (rc != SHF_OK && rc != SHF_NOT_FOUND) FAIL("uid of key %d: %d, %s", i, rc, shf_last_error()->message);
        if (rc == SHF_OK) rc = shf_table_get_by_uid(r, uid, buf, sizeof buf, &n);
        for (int c = 0; c < candidates; c++) {
            struct val v = candidate[c][i];
            ok |= v.len < 0 ? rc == SHF_NOT_FOUND
                            : rc == SHF_OK && n == (size_t)v.len && memcmp(buf, val_bytes(v, i), n) == 0;
        }
        if (!ok) FAIL("key %d by UID: %d, neither old nor new", i, rc);
    }
    for (;; seen++) {
        int rc = shf_table_next(r, &position, key, sizeof key, &kn, buf, sizeof buf, &n, NULL), i = 0, ok = 0;
        if (rc == SHF_NOT_FOUND) break;
        if (rc != SHF_OK) {
            FAIL("next: %d, %s", rc, shf_last_error()->message);
            return;
        }
        while (i < S.keys && (S.key[i].len != kn || memcmp(S.key[i].name, key, kn) != 0)) i++;
        for (int c = 0; i < S.keys && c < candidates; c++) {
            struct val v = candidate[c][i];
            ok |= v.len >= 0 && n == (size_t)v.len && memcmp(buf, val_bytes(v, i), n) == 0;
        }
        if (!ok) FAIL("the walk gives key %d a value neither old nor new", i < S.keys ? i : -1);
    }
    uint64_t most = 0;
    for (int i = 0; i < S.keys; i++) {
        int there = 0;
        for (int c = 0; c < candidates; c++) there |= candidate[c][i].len >= 0;
        most += (uint64_t)there;
    }
    CHECK(seen <= most);
}

/* The parent goes on. Everything must be explained by the steps that were, or may have been, done. */
static void survive(struct shf_table *t, struct shf_table *r, int completed, int two, uint64_t turn) {
    static struct val candidate[CANDIDATES][KEYS];
    uint64_t before[256], after[256];
    int n = 1, acked = shared->acked;
    struct step put = {PUT, S.touch, second_val(), absent, 0}, last = {PUT, S.touch, third_val(), absent, 0};
    struct step probe = {PUT, S.probe, sized(20, 5), absent, 0};
    memcpy(candidate[0], S.state, sizeof S.state);
    for (int i = 0; i < acked; i++) apply(candidate[0], &S.step[i]);
    if (!completed && acked < S.steps) {
        int most = S.step[acked].many ? S.step[acked].many : 1;
        for (; n <= most; n++) memcpy(candidate[n], candidate[n - 1], sizeof S.state), apply(candidate[n], &S.step[acked + n - 1]);
    }
    if (two && shared->second_acked) {
        for (int i = 0; i < n; i++) apply(candidate[i], &put);
    } else if (two) {
        for (int i = 0, m = n; i < m; i++) memcpy(candidate[n], candidate[i], sizeof S.state), apply(candidate[n++], &put);
    }
    if (r) { /* nobody has recovered yet */
        explain(r, candidate, n, after);
        if (turn % 4 == 1 || near_end) look_around(r, candidate, n);
    }
    besides = 0;
    if (turn % 4 == 2 || near_end) take_what_is_free(t);
    uint64_t start = test_now_ns();
    explain(t, candidate, n, before);
    for (int i = 0; r && !two && i < 256; i++)
        if (went_back(after[i], before[i])) FAIL("shard %d was new for one reader, and is old for a later one", i);
    if (turn % 2) table_clean(t); /* sometimes check is the first to take the lock */
    uint64_t now = test_now_ns();
    if (!(turn % 2) && now - start > slowest_ns) slowest_ns = now - start;
    start = test_now_ns();
    int rc = perform(t, &probe);
    if (rc != SHF_OK) FAIL("a put into the same shard: %d, %s", rc, shf_last_error()->message);
    now = test_now_ns();
    if (now - start > slowest_ns) slowest_ns = now - start;
    for (int i = 0; i < n; i++) apply(candidate[i], &probe);
    explain(t, candidate, n, after);
    if (!two)
        for (int i = 0; i < 256; i++)
            if (went_back(before[i], after[i])) FAIL("shard %d was new before the recovery, and is old after it", i);
    rc = perform(t, &last);
    if (rc != SHF_OK) FAIL("a put over the key concerned: %d, %s", rc, shf_last_error()->message);
    for (int i = 0; i < n; i++) apply(candidate[i], &last);
    explain(t, candidate, n, after);
    if (besides) table_clean(t), give_it_back(t);
    uint64_t keys = table_clean(t), expected = 0;
    for (int i = 0; i < S.keys; i++) expected += shf_table_contains(t, S.key[i].name, S.key[i].len) == SHF_OK;
    CHECK_EQ_INT(keys, expected);
    CHECK_EQ_INT(table_stats(t).handles, 1);
    if (turn % 8 == 3) { /* nothing is left behind that another day's work trips over */
        for (int i = 0; i < S.keys; i++) {
            struct step any = {PUT, i, sized(3, 3), absent, 0};
            rc = perform(t, &any);
            if (rc != SHF_OK && rc != SHF_ERR_FULL) FAIL("put: %d, %s", rc, shf_last_error()->message);
        }
        for (int i = 0; i < S.keys; i++) {
            rc = shf_table_del(t, S.key[i].name, S.key[i].len);
            CHECK(rc == SHF_OK || rc == SHF_NOT_FOUND);
        }
        CHECK_EQ_INT(table_clean(t), 0);
        CHECK_EQ_INT(table_stats(t).large_values, 0);
    }
}

struct deaths {
    uint64_t k;
    int two, attached;
    uint64_t j, l; /* the second one's store, 0: it lives; the third one's, 0: there is none */
    enum way way;
    uint64_t second_stores; /* out: if it completed, how many it made */
};
/* Returns 1 if the first child completed. */
static int deaths(struct deaths *d) {
    char path[192];
    second_way = d->way;
    snprintf(path, sizeof path, "%s", temp_path("t"));
    write_image(path, S.image, S.image_size);
    shared->acked = shared->second_acked = 0;
    int broken = *test_failures;
    struct shf_table *t = S.alone ? NULL : open_path(path), *r = NULL;
    if (fixed_value_len >= 0 && !S.alone) REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &r), SHF_OK);
    struct first f = {path, d->k};
    struct second s = {path, d->j, d->attached, {-1, -1}, {-1, -1}};
    pid_t second = 0;
    char c = 0;
    if (d->two && d->attached) {
        REQUIRE(pipe2(s.ready, O_CLOEXEC) == 0 && pipe2(s.go, O_CLOEXEC) == 0);
        second = fork_child(second_child, &s);
        REQUIRE(read(s.ready[0], &c, 1) == 1);
    }
    int rc = run_child(first_child, &f, 20000), completed = rc == 0;
    if (!completed) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
    killed += !completed;
    d->second_stores = 0;
    if (d->two) {
        if (d->attached) {
            REQUIRE(write(s.go[1], &c, 1) == 1);
        } else {
            second = fork_child(second_child, &s);
        }
        rc = wait_child(second, 20000);
        if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
        d->second_stores = rc == 0 ? shared->stores : 0;
        if (rc != 0) killed++, pairs++;
        if (d->attached) close(s.ready[0]), close(s.ready[1]), close(s.go[0]), close(s.go[1]);
        if (rc != 0 && d->l) {
            s.j = d->l, s.attached = 0;
            rc = run_child(second_child, &s, 20000);
            if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
            if (rc != 0) killed++, thirds++;
        }
    }
    if (S.alone) t = open_path(path);
    survive(t, r, completed, d->two, d->k + d->j);
    shf_table_close(r);
    shf_table_close(t);
    if (*test_failures != broken)
        FAIL("... at store %llu%s, second death %s %llu, third %llu", (unsigned long long)d->k, completed ? " (completed)" : "",
             !d->two ? "none" : d->attached ? "attached" : "opening", (unsigned long long)d->j, (unsigned long long)d->l);
    second_way = JUST_PUT;
    return completed;
}
static int one_death(uint64_t k) {
    struct deaths d = {.k = k};
    return deaths(&d);
}

static uint64_t version_in(const unsigned char *file) {
    struct shf_shm_shard s;
    memcpy((void *)&s, file + SHF_OBJECT_PAGE * SHF_PAGE + S.key[S.touch].shard * sizeof s, sizeof s);
    return shm_load_relaxed(&s.version);
}
/* A store of the first process: half of the time any, half of the time one at a place of the code drawn before. */
static uint64_t draw_store(const uint16_t *trace, uint64_t points) {
    uint64_t last = points < 120 ? points : 120, traced = points < TRACED ? points : TRACED;
    uint64_t way = test_rng() % 4, from = test_rng() % traced;
    if (way < 2) return way == 0 ? 1 + test_rng() % points : points - test_rng() % last;
    uint16_t distinct[TRACED / 64];
    size_t n = 0;
    static unsigned char seen[SITES];
    memset(seen, 0, sizeof seen);
    for (uint64_t i = 0; i < traced && n < TRACED / 64; i++)
        if (!seen[trace[i]]) seen[trace[i]] = 1, distinct[n++] = trace[i];
    uint16_t wanted = distinct[test_rng() % n];
    while (trace[from] != wanted) from = (from + 1) % traced;
    return from + 1;
}
TEST_FN void play(void) {
    static uint16_t trace[TRACED], later[TRACED];
    uint64_t budget = test_env("SHF_CRASH_PAIRS", CRASH_PAIRS * CRASH_SHARE) / CRASH_SHARE;
    uint64_t singles = test_env("SHF_CRASH_SINGLES", CRASH_SINGLES * CRASH_SHARE) / CRASH_SHARE;
    uint64_t all = test_env("SHF_CRASH_FULL", 0), k = 1, killed_before = killed, pairs_before = pairs, thirds_before = thirds;
    if (all) singles = 0;
    prepare();
    scenarios++;
    CHECK(one_death(UINT64_C(1) << 40)); /* it lives, and counts its stores */
    uint64_t points = shared->stores, tail = singles / 3, traced = points < TRACED ? points : TRACED;
    CHECK(points > 0);
    memcpy(trace, sites->trace, sizeof trace);
    if (S.event == SPLIT || S.event == DOUBLE || S.event == UNCHUNK || S.step[0].kind == CLEAR ||
        S.state[S.step[0].key].len >= LARGE) { /* memory that a reader may be at was given another use: it must learn of it */
        size_t size;
        unsigned char *after = read_image(temp_path("t"), &size);
        CHECK(version_in(after) != version_in(S.image));
        free(after);
    }
    if (*test_failures) return;
    if (singles == 0 || points <= singles) {
        while (near_end = k + 16 > points, !one_death(k) && *test_failures == 0) k++;
        points = k - 1;
    } else {
        for (k = 1; k <= traced && !*test_failures; k++)
            if (!(sites->killed[trace[k - 1]] & FIRST)) one_death(k);
        for (k = points - tail + 1; k <= points && !*test_failures; k++) near_end = k + 16 > points, one_death(k);
        near_end = 0;
        for (uint64_t i = 0, n = singles - tail, m = points - tail; i < n && !*test_failures; i++) {
            uint64_t from = i * m / n, to = (i + 1) * m / n;
            one_death(from + 1 + test_rng() % (to - from));
        }
    }
    near_end = 0;
    uint64_t single = killed - killed_before;
    if (*test_failures) return;
    const char *how = "all pairs";
    if (all || points * 2 * 50 <= budget) {
        for (k = 1; k <= points && !*test_failures; k++)
            for (int attached = 0; attached < 2 - S.alone; attached++)
                for (uint64_t j = 1; !*test_failures; j++) {
                    uint64_t l = test_rng() % 8 ? 0 : 1 + test_rng() % (j + 20);
                    struct deaths d = {k, 1, attached, j, l, (enum way)(k % 16 ? 0 : k / 16 % WAYS), 0};
                    deaths(&d);
                    if (d.second_stores) break;
                }
    } else {
        how = "some pairs";
        while (pairs - pairs_before < budget && !*test_failures) {
            k = draw_store(trace, points);
            struct deaths d = {k, 1, S.alone ? 0 : (int)(test_rng() % 2), 0, 0, (enum way)(test_rng() % 3 ? 0 : test_rng() % WAYS), 0};
            deaths(&d); /* how many stores are there to die at? */
            uint64_t stores = d.second_stores < TRACED ? d.second_stores : TRACED, next = 0;
            memcpy(later, sites->trace, stores * sizeof *later);
            for (int i = 0; i < 7 && stores && pairs - pairs_before < budget && !*test_failures; i++) {
                while (next < stores && sites->killed[later[next]] & REPAIR) next++;
                d.j = next < stores ? next + 1 : 1 + test_rng() % stores;
                d.l = test_rng() % 8 ? 0 : 1 + test_rng() % (stores + 20);
                deaths(&d);
            }
        }
    }
    printf("# %s: %llu stores, %llu of them deaths, %llu %s, %llu third deaths\n", test_name, (unsigned long long)points,
           (unsigned long long)single, (unsigned long long)(pairs - pairs_before), how, (unsigned long long)(thirds - thirds_before));
}

#endif
