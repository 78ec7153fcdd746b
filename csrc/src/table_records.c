/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_records.c - records in chunks, their deaths, and the cleaner
 *
 * CHUNKS     The shard's list begins with the current chunk, where records are appended at `head`; the others are
 *            closed and know `used`. size = a power of two of max(8 x record, shard's chunk bytes / 8), 4 to 64 KiB.
 * DEATHS     kill() fills the intent for the step that unlinks a record: its chunk's dead units and the shard's
 *            garbage, absolute.
 * CLEANER    runs inside operations that made garbage, when garbage is over a quarter of the chunks and at least two
 *            are closed. victim = the one with most dead of the next 32 behind the clock hand (`predecessor`; the
 *            hand keeps the chunk before the victim, so that unlinking is one store). g bytes of garbage pay for a
 *            look at 3 g of the victim, rising to 8 g as the garbage comes near a third, one record at least (a floor of
 *            1 KiB made each replace of a 16-byte record look 64 others up; a victim, the best of 32, is a third dead or
 *            more, so 3 g hold the balance): what lives (the slot found by the record's key names it) is
 *            copied to head and its slot's reference moved in one SLOT step. An empty victim is freed in UNCHUNK.
 *            position, predecessor and victim are single words: position only moves on after a move was disarmed;
 *            predecessor is stored before victim.
 *            The unlink keeps the version's promise: readers of the victim see it move (table.h).
 * A DEATH    before a step: a copied record past head, overwritten later. After it: done.
 */
#include "table.h"

/* ---- records ------------------------------------------------------------------------------------------ */

struct writer {
    shf_au64 *at;
    uint64_t word;
    unsigned fill; /* bytes in word, 0..7 */
};
static inline void write_bytes(struct writer *w, const void *src, size_t n) {
    const unsigned char *s = src;
    for (; n >= 8; n -= 8, s += 8) {
        uint64_t v = shf_load64(s);
        shm_store_relaxed(w->at++, w->fill ? w->word | v << (8 * w->fill) : v);
        w->word = w->fill ? v >> (64 - 8 * w->fill) : 0;
    }
    if (n == 0) return;
    uint64_t v = shf_load_tail(s, n);
    w->word |= v << (8 * w->fill);
    if (w->fill + n >= 8) {
        shm_store_relaxed(w->at++, w->word);
        w->word = w->fill ? v >> (64 - 8 * w->fill) : 0;
        w->fill = (unsigned)(w->fill + n - 8);
    } else {
        w->fill += (unsigned)n;
    }
}
static inline void write_end(struct writer *w) {
    if (w->fill) shm_store_relaxed(w->at, w->word);
}

void shf__record_write(shf_au64 *at, const void *key, size_t klen, const void *val, size_t vlen) {
    size_t k0 = klen < 4 ? klen : 4;
    struct writer w = {at, klen | (uint64_t)vlen << 14 | (uint64_t)SHF_KIND_RECORD << 28, 4};
    if (vlen == 8) {
        shm_store_relaxed(at, w.word | shf_load_tail(key, k0) << 32);
        shm_store_relaxed(at + 1, shf_load64(val));
        if (klen <= 4) return;
        w.at = at + 2, w.word = 0, w.fill = 0;
        write_bytes(&w, (const unsigned char *)key + 4, klen - 4);
    } else {
        write_bytes(&w, key, klen);
        write_bytes(&w, val, vlen);
    }
    write_end(&w);
}

void shf__record_key(const struct shf_found *f, void *buf, size_t n) {
    if (n == 0) return; /* buf may be NULL */
    if (shf_is_large(f->word0)) {
        shm_copy_out(buf, f->record, SHF_LARGE_HEADER, n);
        return;
    }
    uint32_t low = (uint32_t)(f->word0 >> 32);
    memcpy(buf, &low, n < 4 ? n : 4);
    if (n > 4) shm_copy_out((unsigned char *)buf + 4, f->record, f->vlen == 8 ? 16 : 8, n - 4);
}

/* ---- chunks ------------------------------------------------------------------------------------------- */

static struct shf_shm_chunk *chunk_of(struct shf_table *t, struct shf_shm_shard *s, uint32_t page,
                                      struct shf_shm_map_entry **entry, uint32_t *pages) {
    struct shf_shm_map_entry *e = shf__pages_entry(&t->region, page);
    if (page == 0 || e == NULL) return NULL;
    uint64_t w = shm_load_acquire(&e->word);
    if (shf_page_state(w) != SHF_PAGE_CHUNK || shf_page_owner(w) != shf_shard_number(t, s)) return NULL;
    struct shf_shm_chunk *c = shf__region_at(&t->region, (uint64_t)page * SHF_PAGE,
                                             (uint64_t)shf_page_length(w) * SHF_PAGE);
    if (c == NULL || shm_load_relaxed32(&c->tag) != SHF_CHUNK_TAG) return NULL;
    if (entry != NULL) *entry = e;
    if (pages != NULL) *pages = shf_page_length(w);
    return c;
}

/* Links the run `page` of n pages (state CHUNK, named by s->run) as the current chunk. */
static int open_chunk(struct shf_table *t, struct shf_shm_shard *s, uint32_t page, uint32_t n) {
    uint32_t old = shm_load_relaxed32(&s->chunks), number = shf_shard_number(t, s);
    uint64_t start = (uint64_t)page * SHF_PAGE, size = (uint64_t)n * SHF_PAGE;
    struct shf_shm_chunk *c = shf__region_at(&t->region, start, size);
    if (c == NULL) return shf__region_corrupt(&t->region, "page map: run outside of the file", page);
    shm_clear((shf_au64 *)(void *)c, SHF_CHUNK_HEADER / 8);
    shm_store_relaxed32(&c->tag, SHF_CHUNK_TAG);
    shm_store_relaxed32(&c->shard, number);
    shm_store_relaxed32(&c->pages, n);
    shm_store_relaxed32(&c->next, old);
    shm_store_relaxed32(&s->new_run, page);
    shm_store_relaxed(&s->new_head, start + SHF_CHUNK_HEADER);
    shm_store_relaxed(&s->new_word, start + size);
    shm_store_relaxed32(&s->arg0, old);
    if (old != 0)
        shm_store_relaxed32(&s->arg1, (uint32_t)((shm_load_relaxed(&s->head) - (uint64_t)old * SHF_PAGE) / 8));
    shm_store_relaxed32(&s->new_count, shm_load_relaxed32(&s->record_units) + (uint32_t)(size / 8));
    return shf__step_run(t, s, SHF_STEP_CHUNK, NULL);
}

/* head and chunk_end come from the file: 1 if they can be written to. */
static int head_is_sane(const struct shf_shm_shard *s) {
    uint64_t head = shm_load_relaxed(&s->head), end = shm_load_relaxed(&s->chunk_end);
    uint64_t start = (uint64_t)shm_load_relaxed32(&s->chunks) * SHF_PAGE;
    return head > start && head <= end && end - start <= 64 * 1024 && start >= SHF_OBJECT_PAGE * SHF_PAGE;
}

int shf__records_room(struct shf_table *t, struct shf_shm_shard *s, uint64_t size, int minimal, uint64_t *head,
                      uint32_t *need) {
    uint64_t at = shm_load_relaxed(&s->head), end = shm_load_relaxed(&s->chunk_end);
    if (SHF_LIKELY(at != 0)) {
        *head = at;
        if (SHF_LIKELY(at + size <= end && at < end && at % 8 == 0 && end - at <= 64 * 1024 &&
                       at >= SHF_OBJECT_PAGE * SHF_PAGE && shf__region_at(&t->region, at, size) != NULL))
            return SHF_OK;
        if (!head_is_sane(s)) return shf__region_corrupt(&t->region, "head of records", at);
    }
    uint64_t want = (uint64_t)shm_load_relaxed32(&s->record_units); /* units = bytes / 8 */
    uint32_t least = (uint32_t)((SHF_CHUNK_HEADER + size + SHF_PAGE - 1) / SHF_PAGE), pages = 1, page = 0;
    if (want < 8 * size) want = 8 * size;
    while (pages < 16 && (uint64_t)pages * SHF_PAGE < want) pages *= 2;
    if (pages < least) pages = least;
    if (minimal) pages = least;
    *need = pages;
    int rc = shf__pages_take(&t->pages, &s->run, SHF_PAGE_CHUNK, shf_shard_number(t, s), pages, &page);
    if (rc != SHF_OK) return rc;
    *head = (uint64_t)page * SHF_PAGE + SHF_CHUNK_HEADER;
    return open_chunk(t, s, page, pages);
}

int shf__records_kill(struct shf_table *t, struct shf_shm_shard *s, const struct shf_found *f, uint64_t *garbage) {
    uint64_t off = shf_word_offset(f->word), word;
    uint32_t page = (uint32_t)(off / SHF_PAGE), head;
    *garbage = 0;
    if (shf_is_large(f->word0)) {
        struct shf_shm_map_entry *e = shf__pages_entry(&t->region, page);
        if (e == NULL || off % SHF_PAGE != 0) return shf__region_corrupt(&t->region, "large value", off);
        word = shm_load_relaxed(&e->word);
        if (shf_page_state(word) != SHF_PAGE_LARGE || shf_page_owner(word) != shf_shard_number(t, s))
            return shf__region_corrupt(&t->region, "large value: page map", off);
        shm_store_relaxed32(&s->chunk_a, 0);
        shm_store_relaxed32(&s->new_garbage, shm_load_relaxed32(&s->garbage));
        shm_store_relaxed32(&s->old_run, page);
        shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
        return SHF_OK;
    }
    head = shf__pages_head(&t->region, page, &word);
    struct shf_shm_map_entry *e = head ? shf__pages_entry(&t->region, head) : NULL;
    if (e == NULL || shf_page_state(word) != SHF_PAGE_CHUNK || shf_page_owner(word) != shf_shard_number(t, s))
        return shf__region_corrupt(&t->region, "record outside of this shard's chunks", off);
    *garbage = shf_record_size(shf_record_klen(f->word0), f->vlen);
    shm_store_relaxed32(&s->chunk_a, head);
    shm_store_relaxed32(&s->new_dead, (uint32_t)shm_load_relaxed(&e->aux) + (uint32_t)(*garbage / 8));
    shm_store_relaxed32(&s->new_garbage, shm_load_relaxed32(&s->garbage) + (uint32_t)(*garbage / 8));
    shm_store_relaxed32(&s->old_run, 0);
    return SHF_OK;
}

/* ---- the cleaner -------------------------------------------------------------------------------------- */

/* The chunk whose `next` is the victim; follows the list from the hand. NULL if there is none. */
static struct shf_shm_chunk *hand(struct shf_table *t, struct shf_shm_shard *s, uint32_t *page) {
    struct shf_shm_chunk *c;
    *page = shm_load_relaxed32(&s->predecessor);
    if (*page != 0 && (c = chunk_of(t, s, *page, NULL, NULL)) != NULL) return c;
    *page = shm_load_relaxed32(&s->chunks);
    return *page ? chunk_of(t, s, *page, NULL, NULL) : NULL;
}

/* Chooses a victim: most dead units of the next 32, at most `most_live` living ones. 1 if there is one. */
static int choose_victim(struct shf_table *t, struct shf_shm_shard *s, uint32_t most_live) {
    uint32_t before, best = 0, best_before = 0, best_dead = 0;
    struct shf_shm_chunk *c = hand(t, s, &before);
    for (int i = 0; c != NULL && i < 32; i++) {
        struct shf_shm_map_entry *e;
        uint32_t page = shm_load_relaxed32(&c->next);
        if (page == 0) { /* the list's end: on with its beginning */
            before = shm_load_relaxed32(&s->chunks);
            c = before ? chunk_of(t, s, before, NULL, NULL) : NULL;
            if (c == NULL || (page = shm_load_relaxed32(&c->next)) == 0) break;
        }
        c = chunk_of(t, s, page, &e, NULL);
        if (c == NULL) break; /* check will say so */
        uint32_t dead = (uint32_t)shm_load_relaxed(&e->aux), used = shm_load_relaxed32(&c->used);
        if (dead > best_dead && used <= 8192 && used >= 8 && used - 8 <= dead + most_live)
            best = page, best_before = before, best_dead = dead;
        before = page;
    }
    if (best == 0) {
        if (c != NULL) shm_store_relaxed32(&s->predecessor, before);
        return 0;
    }
    shm_store_relaxed32(&s->position, SHF_CHUNK_HEADER / 8);
    shm_store_relaxed32(&s->predecessor, best_before);
    shm_store_release32(&s->victim, best); /* last: a victim never has the position of another */
    return 1;
}

/* Moves the record at byte offset `off`, if it lives. SHF_OK, or what stopped it. */
static int move_record(struct shf_table *t, struct shf_shm_shard *s, uint64_t off, struct shf_shm_map_entry *victim,
                       uint32_t victim_page, uint64_t *size, int hard) {
    struct shf_found f, here;
    unsigned char key[SHF_RECORD_MAX + 16];
    uint32_t need;
    here.word = off / 8;
    if (shf__table_open_record(t, &here) != SHF_FOUND || shf_is_large(here.word0))
        return shf__region_corrupt(&t->region, "record in a chunk", off);
    size_t klen = shf_record_klen(here.word0);
    *size = shf_record_size(klen, here.vlen);
    if (*size > SHF_RECORD_MAX) return shf__region_corrupt(&t->region, "record in a chunk", off);
    shf__record_key(&here, key, klen);
    uint64_t h = shf__hash(&t->hash, key, klen);
    if (shf_hash_shard(h) != shf_shard_number(t, s))
        return shf__region_corrupt(&t->region, "record of another shard", off);
    int found = shf__table_find(t, s, h, key, klen, &f);
    if (found == SHF_NONSENSE) return shf__region_corrupt(&t->region, "index", shf_shard_number(t, s));
    if (found == SHF_ABSENT_KEY || shf_word_offset(f.word) != off) return SHF_OK; /* dead */
    uint64_t head;
    int rc = shf__records_room(t, s, *size, hard, &head, &need);
    if (rc != SHF_OK) return rc;
    shf_au64 *to = (shf_au64 *)(void *)(t->region.base + head);
    for (uint64_t i = 0; i < *size / 8; i++) shm_store_relaxed(&to[i], shm_load_relaxed(&f.record[i]));
    uint64_t word = shm_load_relaxed(f.slot);
    shm_store_relaxed(&s->new_word, (word & ~SHF_REF_MASK) | head / 8);
    shm_store_relaxed(&s->new_head, head + *size);
    shm_store_relaxed32(&s->new_count, shm_load_relaxed32(&s->count));
    shm_store_relaxed32(&s->new_garbage, shm_load_relaxed32(&s->garbage) + (uint32_t)(*size / 8));
    shm_store_relaxed32(&s->chunk_a, victim_page);
    shm_store_relaxed32(&s->new_dead, (uint32_t)shm_load_relaxed(&victim->aux) + (uint32_t)(*size / 8));
    shm_store_relaxed32(&s->new_run, 0);
    shm_store_relaxed32(&s->old_run, 0);
    return shf__step_run(t, s, SHF_STEP_SLOT, f.slot);
}

/* The victim is empty: unlink and free it. */
static int free_victim(struct shf_table *t, struct shf_shm_shard *s, struct shf_shm_chunk *c,
                       struct shf_shm_map_entry *e, uint32_t victim, uint32_t pages) {
    uint32_t page;
    struct shf_shm_chunk *before = hand(t, s, &page);
    uint32_t dead = (uint32_t)shm_load_relaxed(&e->aux), garbage = shm_load_relaxed32(&s->garbage);
    if (before == NULL || shm_load_relaxed32(&before->next) != victim)
        return shf__region_corrupt(&t->region, "chunk list", victim);
    shm_store_relaxed32(&s->arg0, page);
    shm_store_relaxed32(&s->arg1, shm_load_relaxed32(&c->next));
    shm_store_relaxed32(&s->old_run, victim);
    shm_store_relaxed32(&s->new_count, shm_load_relaxed32(&s->record_units) - pages * (SHF_PAGE / 8));
    shm_store_relaxed32(&s->new_garbage, garbage > dead ? garbage - dead : 0);
    shm_store_relaxed(&s->new_version, shm_load_relaxed(&s->version) + 1);
    int rc = shf__step_run(t, s, SHF_STEP_UNCHUNK, NULL);
    if (rc == SHF_OK) shf__pages_hint(&t->pages, victim);
    return rc;
}

/* Asks for the bucket lines of the next records, so that their look-ups do not wait for memory one after the other. */
static void prefetch_buckets(struct shf_table *t, struct shf_shm_shard *s, uint64_t off, uint64_t end, uint64_t budget) {
    uint64_t directory = shm_load_relaxed(&s->directory), stop = budget < end - off ? off + budget : end;
    shf_au32 *entries = shf__table_entries(t, s, directory);
    for (int i = 0; entries != NULL && off < stop && i < 16; i++) {
        struct shf_found f;
        unsigned char key[64];
        f.word = off / 8;
        if (shf__table_open_record(t, &f) != SHF_FOUND || shf_is_large(f.word0)) return;
        size_t klen = shf_record_klen(f.word0);
        off += shf_record_size(klen, f.vlen);
        if (klen > sizeof key) continue;
        shf__record_key(&f, key, klen);
        uint64_t h = shf__hash(&t->hash, key, klen);
        uint32_t page = shm_load_relaxed32(&entries[shf_hash_dir(h) >> (directory & 15)]);
        __builtin_prefetch(t->region.base + (uint64_t)page * SHF_PAGE + shf_hash_b1(h) * SHF_LINE);
    }
}

/* Looks at `budget` bytes of the victim. 1: it was emptied and freed; 0: not yet; negative or SHF__GROW: stopped. */
static int clean_victim(struct shf_table *t, struct shf_shm_shard *s, uint64_t budget, int hard) {
    struct shf_shm_map_entry *e;
    uint32_t pages, victim = shm_load_relaxed32(&s->victim);
    struct shf_shm_chunk *c = chunk_of(t, s, victim, &e, &pages);
    if (c == NULL || victim == shm_load_relaxed32(&s->chunks))
        return shf__region_corrupt(&t->region, "cleaner's victim", victim);
    uint32_t used = shm_load_relaxed32(&c->used), at = shm_load_relaxed32(&s->position);
    if (used < SHF_CHUNK_HEADER / 8 || used > pages * (SHF_PAGE / 8) || at < SHF_CHUNK_HEADER / 8)
        return shf__region_corrupt(&t->region, "chunk", victim);
    prefetch_buckets(t, s, (uint64_t)victim * SHF_PAGE + (uint64_t)at * 8, (uint64_t)victim * SHF_PAGE + (uint64_t)used * 8, budget);
    while (at < used && (uint32_t)shm_load_relaxed(&e->aux) != used - SHF_CHUNK_HEADER / 8) {
        uint64_t size = 0;
        int rc = move_record(t, s, (uint64_t)victim * SHF_PAGE + (uint64_t)at * 8, e, victim, &size, hard);
        if (rc != SHF_OK) return rc;
        at += (uint32_t)(size / 8);
        shm_store_relaxed32(&s->position, at);
        if (budget <= size) return 0;
        budget -= size;
    }
    if ((uint32_t)shm_load_relaxed(&e->aux) != used - SHF_CHUNK_HEADER / 8) {
        /* Walked through, and something lives: the position was not this walk's. From the start, this once. */
        shm_store_relaxed32(&s->position, SHF_CHUNK_HEADER / 8);
        return shf__region_corrupt(&t->region, "chunk: dead units", victim);
    }
    int rc = free_victim(t, s, c, e, victim, pages);
    return rc == SHF_OK ? 1 : rc;
}

SHF_COLD static void clean_more(struct shf_table *t, struct shf_shm_shard *s, uint64_t garbage) {
    if (shm_load_relaxed32(&s->victim) == 0) {
        struct shf_shm_chunk *c = chunk_of(t, s, shm_load_relaxed32(&s->chunks), NULL, NULL);
        if (c == NULL) return;
        uint32_t next = shm_load_relaxed32(&c->next);
        c = next ? chunk_of(t, s, next, NULL, NULL) : NULL;
        if (c == NULL || shm_load_relaxed32(&c->next) == 0) return; /* fewer than two closed chunks */
        if (!choose_victim(t, s, UINT32_MAX / 2)) return;
    }
    uint64_t units = shm_load_relaxed32(&s->record_units), dead = shm_load_relaxed32(&s->garbage);
    uint64_t factor = 3 + (dead * 4 > units ? (dead * 4 - units) * 16 / (units + 1) : 0); /* 3 at 25 %, 8 at a third */
    (void)clean_victim(t, s, (factor < 8 ? factor : 8) * garbage, 0); /* no room now: a later operation goes on */
}

void shf__records_clean(struct shf_table *t, struct shf_shm_shard *s, uint64_t garbage) {
    if (SHF_LIKELY((uint64_t)shm_load_relaxed32(&s->garbage) * 4 <= shm_load_relaxed32(&s->record_units))) return;
    clean_more(t, s, garbage);
}

int shf__records_clean_hard(struct shf_table *t, struct shf_shm_shard *s) {
    int reserve_used = 0;
    for (int rounds = 0; rounds < 64; rounds++) {
        if (shm_load_relaxed32(&s->victim) == 0 && !choose_victim(t, s, UINT32_MAX / 2)) return 0;
        int rc = clean_victim(t, s, UINT64_MAX, 1);
        if (rc == 1) return 1;
        if (rc != SHF__GROW || reserve_used) return 0;
        uint32_t page = 0, n = 0;
        if (shf__pages_take_reserve(&t->pages, &s->run, shf_shard_number(t, s), &n, &page) != SHF_OK) return 0;
        if (open_chunk(t, s, page, n) != SHF_OK) return 0;
        reserve_used = 1;
    }
    return 0;
}
