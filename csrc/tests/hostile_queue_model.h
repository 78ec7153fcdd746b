/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_queue_model.h - hostile_model.h for queue sets: good images, edits, uses
 *
 * GOOD       shape.key is the image's number: 1 small, 2 of several pages of rings and words, 3 one item of one byte.
 *            LIVE: as it is while handles hold items in their hands and words.
 * EDITS      fields of each structure of queue.h, forged so that they look right, or at random.
 * USE        every call of shf_queue.h. What a pull gives lies inside the items, all of it; it is written.
 */
#ifndef SHF_TEST_HOSTILE_QUEUE_MODEL_H
#define SHF_TEST_HOSTILE_QUEUE_MODEL_H

#include "hostile_model.h"
#include "queue.h"

static const struct { uint32_t items, item_size, queues; } hostile_sets[] = {{40, 48, 4}, {3000, 200, 3}, {1, 1, 1}};
static const char *const hostile_names[] = {"free", "a", "b", "c"};
#define HOSTILE_HELD 6u

/* ---- good images ---- */

TEST_FN void hostile_make_set(struct hostile_good *g, struct hostile_shape shape, uint64_t seed) {
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    struct shf_queue_set *s = NULL, *other = NULL;
    struct shf_queue *q[4], *added;
    struct shf_item held[HOSTILE_HELD];
    struct shf_batch *b[HOSTILE_HELD] = {0};
    (void)seed;
    g->shape = shape;
    o.items = hostile_sets[shape.key - 1].items, o.item_size = hostile_sets[shape.key - 1].item_size;
    o.queues = hostile_names, o.queue_count = hostile_sets[shape.key - 1].queues;
    REQUIRE_EQ_INT(shf_queue_set_anonymous("made", &o, &s), SHF_OK);
    REQUIRE_EQ_INT(shf_queue_set_from_fd(shf_queue_set_fd(s), NULL, &other), SHF_OK);
    for (uint32_t i = 0; i < o.queue_count; i++) REQUIRE_EQ_INT(shf_queue_at(s, i, &q[i]), SHF_OK);
    for (uint32_t i = 0; i < o.items / 2; i++) { /* some of the second, and positions beyond the ring's end */
        REQUIRE_EQ_INT(shf_queue_pull(q[0], &held[0]), SHF_OK);
        REQUIRE_EQ_INT(shf_queue_push(q[i % 3 == 1 ? 1 : 0], &held[0]), SHF_OK);
    }
    if (o.items > 1) REQUIRE_EQ_INT(shf_queue_add(s, "added", &added, NULL), SHF_OK);
    if (shape.state == LIVE && o.items > 1) {
        for (uint32_t i = 0; i < HOSTILE_HELD; i++) {
            REQUIRE_EQ_INT(shf_queue_pull(q[i % 2], &held[i]), SHF_OK);
            REQUIRE_EQ_INT(shf_batch_new(s, 5, &b[i]), SHF_OK); /* the last ones hold in the words */
            REQUIRE_EQ_INT(shf_queue_pull_many(q[0], b[i], 2), SHF_OK);
        }
        REQUIRE_EQ_INT(shf_queue_at(other, 0, &q[0]), SHF_OK);
        REQUIRE_EQ_INT(shf_queue_pull(q[0], &held[0]), SHF_OK);
    } else if (shape.state == LIVE) {
        REQUIRE_EQ_INT(shf_queue_pull(q[0], &held[0]), SHF_OK);
    }
    if (shape.state == LIVE) g->bytes = hostile_read(shf_queue_set_fd(s), &g->size);
    int fd = os_dup(shf_queue_set_fd(s));
    REQUIRE(fd >= 0);
    shf_queue_set_close(other);
    shf_queue_set_close(s);
    if (shape.state != LIVE) g->bytes = hostile_read(fd, &g->size);
    close(fd);
}

/* ---- edits ---- */

#define SET_PAGE(page) ((SHF_OBJECT_PAGE + (uint64_t)(page)) * SHF_PAGE)
#define QUEUE_FIELD(field) FIELD(shf_shm_queue, field)
TEST_FN uint32_t peek4(struct hostile_image *m, uint64_t at) { return (uint32_t)(peek(m, at / 8 * 8) >> at % 8 * 8); }
TEST_FN uint32_t items_of(struct hostile_image *m) { return peek4(m, FIELD(shf_shm_header, fixed_key)); }
TEST_FN uint64_t any_queue(struct hostile_image *m) {
    return SET_PAGE(SHF_SET_QUEUES) + draw(m, draw(m, 8) ? 5 : SHF_QUEUES_MAX) * sizeof(struct shf_shm_queue);
}
TEST_FN uint32_t any_item(struct hostile_image *m) {
    return draw(m, 4) ? (uint32_t)draw(m, (uint64_t)items_of(m) + 2) : (uint32_t)odd_number(m);
}
TEST_FN uint32_t any_holder(struct hostile_image *m) { /* `into`, `from` */
    static const uint32_t places[] = {0, 1, SHF_HAND_SINGLES, SHF_HAND_SINGLES + SHF_HAND_LEASE, SHF_HAND_PLACES - 1};
    if (draw(m, 4) == 0) return draw(m, 2) ? SHF_IN_WORDS : (uint32_t)odd_number(m);
    uint32_t place = draw(m, 2) ? places[draw(m, 5)] : (uint32_t)draw(m, SHF_HAND_PLACES + 9);
    return (uint32_t)draw(m, draw(m, 8) ? 4 : SHF_SLOT_COUNT + 3) << SHF_HAND_PLACE_BITS | place;
}
TEST_FN void edit_set_header(struct hostile_image *m) {
    struct shf_shm_header *h = (struct shf_shm_header *)(void *)m->p;
    if (m->size < SHF_PAGE) return;
    switch (draw(m, 6)) {
    case 0: h->fixed_key = (uint32_t)odd_number(m); break;
    case 1: h->fixed_value = (uint32_t)odd_number(m); break;
    case 2: h->fixed_key += (uint32_t)draw(m, 5) - 2, h->fixed_value += (uint32_t)draw(m, 129) - 64; break;
    case 3: h->object_pages = (uint32_t)(draw(m, 2) ? odd_number(m) : h->object_pages + draw(m, 9) - 4); break;
    case 4: h->max_bytes = draw(m, 2) ? UINT64_C(4096) << draw(m, 32) : odd_number(m); break;
    default: poke(m, draw(m, 30) * 4, 4, odd_number(m));
    }
    hostile_repair(h);
}
TEST_FN void hostile_edit_set(struct hostile_image *m) {
    uint64_t q = any_queue(m), page, at, position;
    uint64_t what = draw(m, 24);
    if (what == 3 && draw(m, 4)) what = 5; /* they are often refused */
    switch (what) {
    case 0: poke(m, draw(m, m->size), 1, draw(m, 256)); break;
    case 1: poke(m, draw(m, m->size / 8) * 8, 8, odd_number(m)); break;
    case 2: poke(m, draw(m, SET_PAGE(SHF_SET_WORDS + 1) / 4) * 4, 4, odd_number(m)); break;
    case 3: /* the header */
        if (draw(m, 3) == 0)
            edit_set_header(m);
        else if (draw(m, 2))
            poke(m, FIELD(shf_shm_header, end), 8, draw(m, 2) ? odd_number(m) : odd_number(m) * 4096);
        else
            poke(m, 128 + draw(m, 48) * 4, 4, odd_number(m));
        break;
    case 4: poke(m, 4096 + draw(m, 4) * 32 + draw(m, 8) * 4, 4, odd_number(m)); break; /* the registry's first slots */
    case 5: poke(m, q + draw(m, 64) * 4, 4, draw(m, 2) ? odd_number(m) : draw(m, 100)); break;
    case 6: poke(m, q + (draw(m, 2) ? QUEUE_FIELD(tail_word) : QUEUE_FIELD(head_word)), 4, lock_word(m)); break;
    case 7:
        poke(m, draw(m, 2) ? FIELD(shf_shm_header, grow_word) : SET_PAGE(0) + FIELD(shf_shm_queue_set, word), 4,
             lock_word(m));
        break;
    case 8: poke(m, q + QUEUE_FIELD(tail), 8, peek(m, q + QUEUE_FIELD(tail)) + draw(m, 140) - 70); break;
    case 9: poke(m, q + QUEUE_FIELD(head), 8, peek(m, q + QUEUE_FIELD(head)) + draw(m, 140) - 70); break;
    case 10: poke(m, q + QUEUE_FIELD(seen_tail), 8, peek(m, q + QUEUE_FIELD(head)) + draw(m, 140) - 20); break;
    case 11: /* positions near the end of 64 bits */
        position = draw(m, 3) ? 0 - draw(m, 80) : odd_number(m);
        poke(m, q + QUEUE_FIELD(head), 8, position), poke(m, q + QUEUE_FIELD(new_head), 8, position);
        position += draw(m, 60);
        poke(m, q + QUEUE_FIELD(tail), 8, position), poke(m, q + QUEUE_FIELD(new_tail), 8, position);
        break;
    case 12: /* an armed push */
    case 13:
        poke(m, q + QUEUE_FIELD(from), 4, any_holder(m));
        position = draw(m, 4) ? 1 + draw(m, 12) : odd_number(m);
        poke(m, q + QUEUE_FIELD(new_tail), 8, peek(m, q + QUEUE_FIELD(tail)) + position);
        poke(m, q + QUEUE_FIELD(tail_word), 4, draw(m, 2) ? lock_word(m) : 0);
        break;
    case 14: /* an armed pull */
    case 15:
        poke(m, q + QUEUE_FIELD(into), 4, any_holder(m));
        position = draw(m, 4) ? 1 + draw(m, 12) : odd_number(m);
        poke(m, q + QUEUE_FIELD(new_head), 8, peek(m, q + QUEUE_FIELD(head)) + position);
        poke(m, q + QUEUE_FIELD(head_word), 4, draw(m, 2) ? lock_word(m) : 0);
        break;
    case 16: /* entries of a ring */
    case 17:
        page = peek4(m, q + QUEUE_FIELD(ring));
        at = page * SHF_PAGE + draw(m, (uint64_t)items_of(m) * 2 + 4) % 16384 * 4;
        poke(m, at, 4, any_item(m));
        break;
    case 18: poke(m, q + QUEUE_FIELD(ring), 4, draw(m, 2) ? any_page(m) : odd_number(m)); break;
    case 19: /* a life; a hand's page */
        at = draw(m, draw(m, 8) ? 6 : SHF_SLOT_COUNT) * 4;
        if (draw(m, 2))
            poke(m, SET_PAGE(SHF_SET_HANDS) + at, 4, draw(m, 2) ? any_page(m) : odd_number(m));
        else
            poke(m, SET_PAGE(SHF_SET_LIVES) + at, 4, draw(m, 5) | (draw(m, 2) ? SHF_LIFE_WORDS : 0));
        break;
    case 20: /* entries of a hand */
        page = peek4(m, SET_PAGE(SHF_SET_HANDS) + draw(m, 4) * 4);
        at = page * SHF_PAGE + (draw(m, 2) ? draw(m, 8) : draw(m, SHF_HAND_PLACES)) * 4;
        poke(m, at, 4,
             draw(m, 4) ? shf_hand_entry(any_item(m) & SHF_HAND_ITEM_MASK, (uint32_t)draw(m, 6)) : odd_number(m));
        break;
    case 21: /* an item's word */
        at = SET_PAGE(SHF_SET_WORDS) + draw(m, (uint64_t)items_of(m) + 1) % 4096 * 4;
        poke(m, at, 4,
             draw(m, 4) ? shf_word_of(SHF_OWNER(draw(m, 4), (uint32_t)draw(m, 4)), (uint32_t)draw(m, 6))
                        : odd_number(m));
        break;
    case 22:
        poke(m, SET_PAGE(0) + FIELD(shf_shm_queue_set, count), 4,
             draw(m, 2) ? draw(m, SHF_QUEUES_MAX + 2) : odd_number(m));
        break;
    case 23: /* a name; the last looks after the dead */
        if (draw(m, 2))
            poke(m, q + draw(m, 64), 1, draw(m, 256));
        else
            poke(m, SET_PAGE(0) + FIELD(shf_shm_queue_set, swept), 8, draw(m, 2) ? 0 : odd_number(m));
        break;
    }
}

/* ---- use ---- */

struct hostile_user {
    struct shf_queue_set *s;
    struct shf_item item[8];
    struct shf_batch *batch[6];
    uint32_t items;
};
static inline int set_outcome(int rc) {
    if (rc != SHF_ERR_INVALID_ITEM) return outcome(rc);
    hostile_counts->operations++;
    hostile_counts->by_code[-rc]++;
    return rc;
}
/* All of the item lies inside the mapping; somebody writes it. */
TEST_FN void hostile_write(struct hostile_user *u, void *data, uint32_t number) {
    const struct shf_region *r = &u->s->region;
    uint64_t offset = (uint64_t)((unsigned char *)data - r->base), size = shf_queue_set_item_size(u->s);
    CHECK(number < shf_queue_set_items(u->s) && (uintptr_t)data % 64 == 0);
    CHECK((unsigned char *)data == (unsigned char *)shf_queue_set_data(u->s) + number * shf_queue_set_stride(u->s));
    CHECK(offset < r->size && size <= r->size - offset && offset >= SET_PAGE(SHF_SET_WORDS));
    memset(data, (int)number, size < 4096 ? size : 4096);
}
TEST_FN int hostile_got(struct hostile_user *u, int rc, const struct shf_item *item) {
    if (set_outcome(rc) != SHF_OK) return rc;
    hostile_write(u, item->data, item->number);
    if (u->items < 8) u->item[u->items++] = *item;
    return rc;
}
TEST_FN void hostile_filled(struct hostile_user *u, int rc, const struct shf_batch *b) {
    if (set_outcome(rc) != SHF_OK) return;
    CHECK(shf_batch_count(b) > 0 && shf_batch_count(b) <= shf_batch_capacity(b));
    for (uint32_t i = 0; i < shf_batch_count(b); i++) hostile_write(u, shf_batch_data(b, i), shf_batch_numbers(b)[i]);
}
TEST_FN void hostile_pushed(struct hostile_user *u, uint32_t i, int rc) {
    if (rc == SHF_OK || rc == SHF_NOT_FOUND || u->item[i].data == NULL) u->item[i] = u->item[--u->items];
}
TEST_FN struct shf_queue *hostile_queue(struct hostile_user *u, struct hostile_image *m) {
    struct shf_queue *q = NULL;
    uint32_t n = shf_queue_count(u->s);
    CHECK(n <= SHF_QUEUES_MAX);
    if (n == 0 || shf_queue_at(u->s, (uint32_t)draw(m, n), &q) != SHF_OK) return NULL;
    CHECK(memchr(shf_queue_name(q), 0, SHF_QUEUE_NAME_MAX + 1) != NULL);
    CHECK(shf_queue_index(q) < n && shf_queue_set_of(q) == u->s);
    return q;
}
TEST_FN void hostile_set_step(struct hostile_user *u, struct hostile_image *m) {
    struct shf_queue *q = hostile_queue(u, m), *q2 = hostile_queue(u, m), *both[2] = {q, q2};
    struct shf_queue_stats stats = {.size = sizeof stats};
    struct shf_queue_report report = {.size = sizeof report};
    struct shf_item item;
    char name[80];
    uint64_t n = 0, wait = draw(m, 100000);
    uint32_t i = u->items ? (uint32_t)draw(m, u->items) : 0, which = 0, most = (uint32_t)draw(m, 40);
    struct shf_batch **b = &u->batch[draw(m, 6)];
    int fd = -1, rc;
    if (q == NULL || q2 == NULL) return;
    if (*b == NULL && set_outcome(shf_batch_new(u->s, 1 + (uint32_t)draw(m, shf_queue_set_items(u->s)), b)) != SHF_OK)
        return;
    switch (draw(m, 24)) {
    case 0:
    case 1:
    case 2: hostile_got(u, shf_queue_pull(q, &item), &item); break;
    case 3: hostile_got(u, shf_queue_pull_wait(q, wait, &item), &item); break;
    case 4:
    case 5:
        if (u->items) hostile_pushed(u, i, set_outcome(shf_queue_push(q, &u->item[i])));
        break;
    case 6:
        if (u->items == 0) break;
        item = u->item[i];
        rc = shf_queue_exchange(q, &item, q2);
        if (rc == SHF_OK || rc == SHF_NOT_FOUND || item.data == NULL) u->item[i] = u->item[--u->items];
        hostile_got(u, rc, &item);
        break;
    case 7:
        if (u->items) hostile_pushed(u, i, set_outcome(shf_item_return(u->s, &u->item[i])));
        break;
    case 8:
    case 9:
        if (shf_batch_count(*b) == 0) hostile_filled(u, shf_queue_pull_many(q, *b, most), *b);
        break;
    case 10:
        if (shf_batch_count(*b) == 0) hostile_filled(u, shf_queue_pull_many_wait(q, *b, most, wait), *b);
        break;
    case 11:
    case 12: set_outcome(shf_queue_push_many(q, *b)); break;
    case 13: hostile_filled(u, shf_queue_exchange_many(q, *b, q2, most), *b); break;
    case 14: hostile_got(u, shf_batch_take(*b, &item), &item); break;
    case 15: shf_batch_free(*b), *b = NULL; break;
    case 16:
        snprintf(name, sizeof name, "%s%.*s", draw(m, 2) ? "a" : "n", (int)draw(m, 60),
                 "0123456789012345678901234567890123456789012345678901234567890");
        if (draw(m, 2))
            set_outcome(shf_queue_find(u->s, name, &q));
        else
            set_outcome(shf_queue_add(u->s, name, &q, NULL));
        break;
    case 17:
        if (set_outcome(shf_queue_len(q, &n)) == SHF_OK) CHECK(n <= shf_queue_set_items(u->s));
        break;
    case 18: set_outcome(shf_queue_stats(q, &stats)); break;
    case 19: set_outcome(shf_queue_drain(q, q2, &n)); break;
    case 20: set_outcome(shf_queue_set_recover(u->s)); break;
    case 21: set_outcome(draw(m, 4) ? shf_queue_wait_any(both, 2, wait, &which) : shf_queue_set_reset(u->s)); break;
    case 22:
        if (draw(m, 12) == 0 && set_outcome(shf_queue_wait_fd(q, &fd)) == SHF_OK) CHECK(fd >= 0);
        break;
    case 23:
        rc = set_outcome(shf_queue_set_check(u->s, &report));
        CHECK(memchr(report.first, 0, sizeof report.first) != NULL);
        if (rc == SHF_OK) CHECK_EQ_INT(report.in_queues + report.held + report.dead, shf_queue_set_items(u->s));
        break;
    }
}
TEST_FN int hostile_use_set(int fd, int read_only, struct hostile_image *m, const struct hostile_good *g, int steps,
                            int batches) {
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    struct shf_queue_report report = {.size = sizeof report};
    struct hostile_user u = {0};
    char path[64];
    int mine = -1;
    (void)g, (void)batches;
    o.lock_timeout_ms = HOSTILE_LOCK_MS;
    if (read_only) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fd = mine = open(path, O_RDONLY | O_CLOEXEC);
    }
    int rc = shf_queue_set_from_fd(fd, &o, &u.s);
    if (mine >= 0) close(mine);
    if (rc != SHF_OK) {
        CHECK(rc < 0 && u.s == NULL);
        hostile_counts->refused++;
        set_outcome(rc);
        return rc;
    }
    hostile_counts->opened++;
    for (int i = 0; i < steps; i++) hostile_set_step(&u, m);
    if (set_outcome(shf_queue_set_check(u.s, &report)) == SHF_OK)
        hostile_counts->clean++;
    else
        hostile_counts->corrupt++;
    shf_queue_set_close(u.s);
    return SHF_OK;
}

#endif
