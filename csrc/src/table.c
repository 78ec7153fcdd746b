/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table.c - opening and closing a table, its options and its length
 *
 * OPEN       region (file, mapping, header), then registry (slot, proof of life; under byte R: dirty, sweep). The sweep of
 *            the own slot looks at the 258 lock words: those that name it with an older generation are taken over. The
 *            path must still name this file after the attach, else again.
 * A NEW FILE  An empty shard is all zero but for its directory word (init_shards, before the file has a name).
 */
#include "table_cells.h"

#include <stdlib.h>

/* Lock words that name the slot of a new life and an older one: that is over, so is its hold. Taken over before they name the
 * new life, when 2^20 - 1 others have had the slot (G-I3 of registry.c). */
static void take_over_own(struct shf_table *t, uint32_t me) {
    shf_au32 *words[2] = {&t->region.header->grow_word, &t->region.header->alloc_word};
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) {
        struct shf_shm_shard *s = &t->shards[i];
        if (shf__lock_is_left_over(&s->word, me) && shf__table_lock(t, s) == SHF_OK) shf__table_unlock(s);
    }
    for (int i = 0; i < 2; i++)
        if (shf__lock_is_left_over(words[i], me) && shf__lock(&t->registry, words[i], NULL) == SHF_OK) shf__unlock(words[i]);
}
/* The registry's: for each new life with its own slot, and with those of the dead. */
static int sweep_slot(void *context, uint32_t slot) {
    struct shf_table *t = context;
    uint32_t me = shf__registry_owner(&t->registry);
    if (slot == SHF_OWNER_SLOT(me)) take_over_own(t, me);
    return shf__pages_sweep_slot(&t->pages, slot);
}
static int lock_shard(void *context, uint32_t shard) {
    struct shf_table *t = context;
    return shf__table_lock(t, &t->shards[shard]);
}
static void unlock_shard(void *context, uint32_t shard) {
    struct shf_table *t = context;
    shf__table_unlock(&t->shards[shard]);
}
static shf_au32 *run_word(void *context, uint32_t shard) {
    struct shf_table *t = context;
    return &t->shards[shard].run;
}

/* The region is open. Takes it over on success, closes it on failure. */
static int attach(struct shf_region *r, const struct shf_table_options *o, struct shf_table **table) {
    struct shf_table *t = calloc(1, sizeof *t);
    if (t == NULL) {
        int rc = shf__fail(SHF_ERR_NO_MEMORY, 0, "open", r->path, "%s: no memory for a handle", r->path);
        shf__region_close(r);
        return rc;
    }
    t->region = *r;
    t->hash_id = t->region.hash;
    (void)shf__cells_geometry(t->region.fixed_key, t->region.fixed_value, &t->fixed); /* opened: they can be */
    t->get = shf_is_fixed(t) ? shf__cells_get(t)
             : t->hash_id == SHF_HASH_FOLDED ? shf__table_get_short : shf__table_get_any;
    t->key_least = t->fixed.key;
    t->key_span = shf_is_fixed(t) ? 0 : UINT32_MAX;
    t->get_uid = shf_is_fixed(t) ? shf__cells_get_uid(t) : shf__table_get_uid_short;
    t->put = shf_is_fixed(t) ? shf__cells_put(t) : t->region.read_only ? shf__table_put_any : shf__table_put_short;
    t->flags = o->flags;
    t->lock_timeout_ms = o->lock_timeout_ms ? o->lock_timeout_ms : 10000;
    t->shards = (struct shf_shm_shard *)(void *)(t->region.base + SHF_OBJECT_PAGE * SHF_PAGE);
    shf__hash_key_init(&t->hash, t->hash_id, t->region.seed);
    t->registry.region = &t->region;
    t->registry.lock_timeout_ns = (uint64_t)t->lock_timeout_ms * 1000000;
    t->registry.sweep_slot = sweep_slot;
    t->registry.context = t;
    t->pages.region = &t->region;
    t->pages.registry = &t->registry;
    t->pages.lock_shard = lock_shard;
    t->pages.unlock_shard = unlock_shard;
    t->pages.run_word = run_word;
    t->pages.shards = SHF_SHARD_COUNT;
    t->pages.context = t;
    int rc = shf__registry_attach(&t->registry);
    if (rc != SHF_OK) {
        shf__region_close(&t->region);
        free(t);
        return rc;
    }
    uint64_t bytes;
    if (o->flags & SHF_OPTION_HUGE_PAGES) (void)shf__table_collapse_full(t, &bytes); /* advice */
    *table = t;
    return SHF_OK;
}

static uint32_t object_pages_of(uint32_t key, uint32_t value, uint32_t pages) {
    (void)pages;
    return shf__cells_object_pages(key, value);
}

static void init_shards(void *object, const void *context) {
    (void)context;
    struct shf_shm_shard *s = object;
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) shm_store_relaxed(&s[i].directory, shf_directory_inline(i));
}

/* The struct as first published ended here. */
#define OPTIONS_FIRST_SIZE offsetof(struct shf_table_options, flags)

static int read_options(const struct shf_table_options *from, struct shf_table_options *o,
                        struct shf_region_params *p) {
    struct shf_table_options none = SHF_TABLE_OPTIONS_INIT;
    *o = none;
    if (from != NULL) {
        if (from->size < OPTIONS_FIRST_SIZE)
            return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: size is %u, not sizeof(struct shf_table_options)",
                             from->size);
        memcpy(o, from, from->size < sizeof *o ? from->size : sizeof *o); /* what the caller's header did not know is unset */
    }
    if (o->hash > SHF_HASH_FOLDED) return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: unknown hash %u", o->hash);
    if (o->mode & ~0777u) return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: mode %o has bits beyond 0777", o->mode);
    if (o->flags & ~SHF_OPTION_HUGE_PAGES) return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: unknown flags %#x", o->flags);
    p->object_pages = shf__cells_object_pages(o->fixed_key, o->fixed_value);
    if (p->object_pages == 0 && o->fixed_key == 0)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: a fixed key has at least 1 byte (0, 0: variable lengths)");
    if (p->object_pages == 0)
        return shf__fail(SHF_ERR_TOO_LONG, 0, "options", NULL, "options: a fixed key and value have at most %u bytes together, not %u + %u",
                         SHF_FIXED_MAX, o->fixed_key, o->fixed_value);
    p->kind = SHF_KIND_TABLE;
    p->mode = o->mode;
    p->max_bytes = o->max_bytes;
    p->fixed_key = o->fixed_key;
    p->fixed_value = o->fixed_value;
    p->hash = o->hash;
    p->object_pages_of = object_pages_of;
    p->init = init_shards;
    return SHF_OK;
}

int shf_table_open(const char *path, unsigned flags, const struct shf_table_options *options, struct shf_table **table) {
    struct shf_table_options o;
    struct shf_region_params p;
    SHF_CHECK_ARGS(path != NULL && table != NULL);
    int rc = read_options(options, &o, &p);
    if (rc != SHF_OK) return rc;
    for (int round = 0;; round++) {
        struct shf_region r;
        struct shf_table *t;
        int created = 0;
        rc = shf__region_open(&r, path, flags, &p, &created);
        if (rc != SHF_OK) return rc;
        rc = attach(&r, &o, &t);
        if (rc != SHF_OK) return rc;
        if (created || !shf__region_replaced(&t->region)) {
            *table = t;
            return SHF_OK;
        }
        shf_table_close(t); /* unlinked, or replaced by another, while we opened it */
        if (round == SHF_OPEN_ROUNDS) return shf__region_busy(path);
    }
}

int shf_table_anonymous(const char *name, const struct shf_table_options *options, struct shf_table **table) {
    struct shf_table_options o;
    struct shf_region_params p;
    struct shf_region r;
    SHF_CHECK_ARGS(name != NULL && table != NULL);
    int rc = read_options(options, &o, &p);
    if (rc == SHF_OK) rc = shf__region_anonymous(&r, name, &p);
    return rc == SHF_OK ? attach(&r, &o, table) : rc;
}

int shf_table_from_fd(int fd, const struct shf_table_options *options, struct shf_table **table) {
    struct shf_table_options o;
    struct shf_region_params p;
    struct shf_region r;
    SHF_CHECK_ARGS(fd >= 0 && table != NULL);
    int rc = read_options(options, &o, &p);
    if (rc == SHF_OK) rc = shf__region_from_fd(&r, fd, &p);
    return rc == SHF_OK ? attach(&r, &o, table) : rc;
}

void shf_table_close(struct shf_table *t) {
    if (t == NULL) return;
    shf__registry_detach(&t->registry);
    shf__region_close(&t->region);
    free(t);
}

int shf_unlink(const char *path) {
    SHF_CHECK_ARGS(path != NULL);
    return shf__region_unlink(path);
}

int shf_table_fd(const struct shf_table *t) { return t != NULL ? t->region.fd : -1; }
const char *shf_table_path(const struct shf_table *t) { return t != NULL ? t->region.path : ""; }
int shf_table_is_read_only(const struct shf_table *t) { return t != NULL && t->region.read_only; }

int shf_table_options(const struct shf_table *t, struct shf_table_options *o) {
    SHF_CHECK_ARGS(t != NULL && o != NULL && o->size >= OPTIONS_FIRST_SIZE);
    if (o->size >= sizeof *o) o->flags = t->flags, o->reserved = 0;
    o->mode = t->region.made_mode;
    o->max_bytes = t->region.max_bytes;
    o->fixed_key = t->region.fixed_key;
    o->fixed_value = t->region.fixed_value;
    o->lock_timeout_ms = t->lock_timeout_ms;
    o->hash = t->hash_id;
    return SHF_OK;
}

int shf_table_len(struct shf_table *t, uint64_t *len) {
    uint64_t sum = 0;
    SHF_CHECK_ARGS(t != NULL && len != NULL);
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) {
        struct shf_shm_shard *s = &t->shards[i];
        /* A word that is not 0: somebody is at work here, or died: a dead writer's step counts. */
        int locked = shm_load_acquire32(&s->word) != 0 && !t->region.read_only;
        if (locked) {
            int rc = shf__table_lock(t, s);
            if (rc != SHF_OK) return rc;
        }
        sum += shm_load_relaxed32(&s->count);
        if (locked) shf__table_unlock(s);
    }
    *len = sum;
    return SHF_OK;
}
