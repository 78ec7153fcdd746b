/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* model.h - what the tests of the table share: a model of it, values that check themselves, short cuts */
#ifndef SHF_TEST_MODEL_H
#define SHF_TEST_MODEL_H

#include "shf.h"
#include "test.h"

/* A hash map of byte strings, in private memory, that also remembers UIDs. */
struct model_entry {
    unsigned char *key, *val;
    size_t klen, vlen;
    uint32_t uid;
    uint32_t mark;  /* for walks */
    uint64_t check; /* the checked UID, 0 = not asked for yet */
    size_t index;   /* in model.entries */
    struct model_entry *next;
};
struct model {
    struct model_entry **entries; /* dense, any order */
    size_t count, room;
    struct model_entry **heads;
    size_t head_count;
    uint32_t mark;
};
void model_init(struct model *m);
void model_clear(struct model *m);
void model_free(struct model *m);
struct model_entry *model_get(const struct model *m, const void *key, size_t klen);
struct model_entry *model_put(struct model *m, const void *key, size_t klen, const void *val, size_t vlen);
int model_del(struct model *m, const void *key, size_t klen);
/* Walks the table with shf_table_next and compares everything, both ways; then len, stats and check. */
void model_compare(struct model *m, struct shf_table *t);

/* Values bound to their key, a stamp and their length. From 16 bytes on: the stamp, then bytes made from all of it.
 * 8..15 bytes: stamp 32 | sum 32, then bytes made from them. 4..7: stamp 12 | sum 20. 3: stamp 8, 2: 5, 1: 2 bits. */
void value_fill(void *val, size_t vlen, const void *key, size_t klen, uint64_t stamp);
int value_check(const void *val, size_t vlen, const void *key, size_t klen, uint64_t *stamp); /* 1 = whole */
uint64_t bytes_hash(const void *p, size_t n, uint64_t seed);

/* "k" and a number: never longer than 24. Returns its length. */
size_t key_of(char *buf, uint64_t i);
/* A key of klen bytes from a number; different numbers below 2^(8 * klen) give different keys. Over 8 bytes the even
 * numbers stand at the end, behind equal bytes, the odd ones at the start. */
void fixed_key(void *key, size_t klen, uint64_t i);
uint64_t fixed_keys(size_t klen, uint64_t most); /* how many there are, not more than `most` */

/* A new table at temp_path(name) or an opened one; REQUIREs success. */
struct shf_table *table_create(const char *name);
struct shf_table *table_open(const char *name, unsigned flags);
/* A new table of fixed lengths; hash 0: the default. */
struct shf_table *table_create_fixed(const char *name, size_t klen, size_t vlen, uint32_t hash);
/* Keys of klen bytes that meet in one shard, one bucket and, as asked, with one tag or one second bucket too: keys of
 * table_cells.h that are hard to tell apart. Returns how many: n, fewer only if klen is under 4. */
#define COLLIDE_TAG 1u
#define COLLIDE_DELTA 2u
size_t colliding_keys(struct shf_table *t, size_t klen, void *keys, size_t n, unsigned how);
/* shf_table_check must say OK; keys must agree with len and with a walk. Returns the number of keys. */
uint64_t table_clean(struct shf_table *t);
uint64_t table_walk(struct shf_table *t); /* entries seen by shf_table_next */
struct shf_table_stats table_stats(struct shf_table *t);
/* 1 if the value of the key is exactly val (SHF_OK); 0 and a message if not. val NULL: must be absent. */
int table_has(struct shf_table *t, const void *key, size_t klen, const void *val, size_t vlen);
void *test_alloc(size_t n); /* never NULL; at least 1 byte */
/* Mounts of this process' own, in a user namespace where it needs one to mount. 0, or -1 and errno. */
int own_mounts(void);

#endif
