/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fuzz_queue.c - queue sets: a program of calls, compared with a model; or calls on an edited image
 *
 * INPUT    kind 1. Even: a program: number of items 1; then steps: what 1, which queue, item or batch 1. Odd: an
 *          image 1, how it is opened 1, seed of its use 4; then edits: what 1, where 4, value 8; "what" 3 and up: one
 *          of the edits that know the structures, drawn by the value.
 * MODEL    Each queue is a list of numbers, each handle has what it holds; there are two handles.
 */
#include "fuzz.h"
#include "hostile_queue_model.h"

#define IMAGES 4
static const struct hostile_shape shapes[IMAGES] = {{1, 0, LIVE}, {2, 0, LIVE}, {1, 0, CLEAN}, {3, 0, LIVE}};
static struct hostile_good good[IMAGES];

static void fuzz_start(void) {
    for (size_t i = 0; i < IMAGES; i++) hostile_make_set(&good[i], shapes[i], 1);
}

/* ---- images ---- */

static void edited(struct input *in) {
    const struct hostile_good *g = &good[take_byte(in) % IMAGES];
    unsigned how = take_byte(in);
    uint64_t seed = take_bytes(in, 4);
    struct hostile_image m = hostile_image_of(&g->shape, test_alloc(g->size), g->size, seed);
    struct stat st;
    memcpy(m.p, g->bytes, g->size);
    int fd = hostile_file("", 0, 0);
    REQUIRE(fstat(fd, &st) == 0);
    poke(&m, FIELD(shf_shm_header, dev), 8, st.st_dev);
    poke(&m, FIELD(shf_shm_header, ino), 8, st.st_ino);
    poke(&m, FIELD(shf_shm_header, dirty), 4, how & 1);
    for (int n = 0; in->left > 0 && n < 64; n++) {
        unsigned what = take_byte(in);
        uint64_t at = take_bytes(in, 4), value = take_bytes(in, 8);
        switch (what % 8) {
        case 0: poke(&m, at % m.size / 8 * 8, 8, value); break;
        case 1: poke(&m, at % m.size / 4 * 4, 4, value); break;
        case 2:
            poke(&m, SET_PAGE(SHF_SET_QUEUES) + what / 8 * sizeof(struct shf_shm_queue) + at % 64 * 4, 8, value);
            break;
        default: m.rng = value, hostile_edit_set(&m);
        }
    }
    if (how & 8) hostile_repair(m.p);
    REQUIRE(write(fd, m.p, m.size) == (ssize_t)m.size);
    hostile_seal(fd);
    free(m.p);
    m.p = NULL, m.size = 0, m.rng = seed;
    int first = how >> 1 & 1;
    hostile_use_set(fd, first, &m, g, 24, 0);
    hostile_use_set(fd, !first, &m, g, 8, 0);
    close(fd);
}

/* ---- programs ---- */

#define ITEMS 48u
#define QUEUES 5u
#define HANDLES 2u
#define BATCHES 6u
static struct {
    uint32_t list[QUEUES][ITEMS], n[QUEUES], queues, items;
    struct shf_queue_set *s[HANDLES];
    struct shf_item item[HANDLES][ITEMS];
    uint32_t held[HANDLES];
    struct shf_batch *batch[HANDLES][BATCHES];
    uint32_t stamp[ITEMS];
} M;

static struct shf_queue *queue_of(unsigned h, uint32_t q) {
    struct shf_queue *queue = NULL;
    REQUIRE_EQ_INT(shf_queue_at(M.s[h], q, &queue), SHF_OK);
    return queue;
}
/* The first of a queue's list is this item; its bytes are as they were written last. */
static void out(uint32_t q, uint32_t number, unsigned char *data) {
    REQUIRE(M.n[q] > 0);
    CHECK_EQ_INT(number, M.list[q][0]);
    memmove(M.list[q], M.list[q] + 1, --M.n[q] * sizeof(uint32_t));
    CHECK_EQ_INT(data[0], (unsigned char)M.stamp[number]);
    data[0] = (unsigned char)++M.stamp[number];
}
static void in_at_the_end(uint32_t q, uint32_t number) { M.list[q][M.n[q]++] = number; }
static void push_done(unsigned h, uint32_t i, uint32_t q, int rc) {
    REQUIRE_EQ_INT(rc, SHF_OK);
    in_at_the_end(q, M.item[h][i].number);
    M.item[h][i] = M.item[h][--M.held[h]];
}
static void batch_in(struct shf_batch *b, uint32_t q) {
    for (uint32_t i = 0; i < shf_batch_count(b); i++) in_at_the_end(q, shf_batch_numbers(b)[i]);
}
static void batch_out(struct shf_batch *b, uint32_t q, uint32_t asked, int rc) {
    uint32_t most = asked == 0 || asked > shf_batch_capacity(b) ? shf_batch_capacity(b) : asked;
    if (most > M.n[q]) most = M.n[q];
    REQUIRE_EQ_INT(rc, most ? SHF_OK : SHF_NOT_FOUND);
    REQUIRE_EQ_INT(shf_batch_count(b), most);
    for (uint32_t i = 0; i < most; i++) out(q, shf_batch_numbers(b)[i], shf_batch_data(b, i));
}
static void look(void) {
    struct shf_queue_report report = {.size = sizeof report};
    uint64_t held = 0, n;
    for (unsigned h = 0; h < HANDLES; h++) {
        held += M.held[h];
        for (uint32_t b = 0; b < BATCHES; b++) held += shf_batch_count(M.batch[h][b]);
    }
    REQUIRE_EQ_INT(shf_queue_set_check(M.s[0], &report), SHF_OK);
    CHECK(report.held == held && report.in_queues == M.items - held && report.dead == 0);
    for (uint32_t q = 0; q < M.queues; q++) {
        CHECK_EQ_INT(shf_queue_len(queue_of(1, q), &n), SHF_OK);
        CHECK_EQ_INT(n, M.n[q]);
    }
}
/* Its items go home, in no order that is promised: the lists are read anew, as multisets they must be the same. */
static void close_one(unsigned h, int again) {
    uint32_t home[QUEUES] = {0};
    for (uint32_t i = 0; i < M.held[h]; i++) home[M.item[h][i].home]++;
    for (uint32_t b = 0; b < BATCHES; b++)
        home[M.batch[h][b] ? M.batch[h][b]->home : 0] += shf_batch_count(M.batch[h][b]);
    int fd = dup(shf_queue_set_fd(M.s[h]));
    REQUIRE(fd >= 0);
    shf_queue_set_close(M.s[h]);
    M.held[h] = 0;
    memset(M.batch[h], 0, sizeof M.batch[h]);
    if (again) {
        REQUIRE_EQ_INT(shf_queue_set_from_fd(fd, NULL, &M.s[h]), SHF_OK);
        for (uint32_t q = 0; q < M.queues; q++) {
            struct shf_queue *queue = queue_of(h, q);
            uint64_t head = queue->shm->head, n = queue->shm->tail - head;
            CHECK_EQ_INT(n, M.n[q] + home[q]);
            for (uint64_t i = 0; i < n; i++) {
                uint32_t number = queue->ring[(head + i) & M.s[h]->mask];
                if (i < M.n[q])
                    CHECK_EQ_INT(number, M.list[q][i]);
                else
                    M.list[q][i] = number;
            }
            M.n[q] = (uint32_t)n;
        }
    }
    close(fd);
}
static void step(struct input *in) {
    unsigned what = take_byte(in), which = take_byte(in), h = what / 32 % HANDLES;
    uint32_t q = which % M.queues, q2 = which / 8 % M.queues, i = M.held[h] ? which / 8 % M.held[h] : 0;
    struct shf_batch **b = &M.batch[h][which / 16 % BATCHES];
    struct shf_item *item = &M.item[h][M.held[h]];
    struct shf_queue *queue = NULL;
    uint64_t moved = 0;
    int rc;
    switch (what % 16) {
    default:
        rc = shf_queue_pull(queue_of(h, q), item);
        REQUIRE_EQ_INT(rc, M.n[q] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK) out(q, item->number, item->data), M.held[h]++;
        break;
    case 2:
    case 3:
        if (M.held[h]) push_done(h, i, q, shf_queue_push(queue_of(h, q), &M.item[h][i]));
        break;
    case 4:
        if (M.held[h]) {
            uint32_t home = M.item[h][i].home;
            push_done(h, i, home, shf_item_return(M.s[h], &M.item[h][i]));
        }
        break;
    case 5: /* by the other handle, and a copy of what was pushed: refused */
        if (M.held[h] == 0) break;
        struct shf_item copy = M.item[h][i];
        CHECK_EQ_INT(shf_queue_push(queue_of(!h, q), &copy), SHF_ERR_INVALID_ITEM);
        push_done(h, i, q, shf_queue_push(queue_of(h, q), &M.item[h][i]));
        CHECK_EQ_INT(shf_queue_push(queue_of(h, q), &copy), SHF_ERR_INVALID_ITEM);
        break;
    case 6:
        if (M.held[h] == 0) break;
        uint32_t number = M.item[h][i].number;
        rc = shf_queue_exchange(queue_of(h, q), &M.item[h][i], queue_of(h, q2));
        in_at_the_end(q, number);
        REQUIRE_EQ_INT(rc, M.n[q2] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK)
            out(q2, M.item[h][i].number, M.item[h][i].data);
        else
            M.item[h][i] = M.item[h][--M.held[h]];
        break;
    case 7:
        if (*b == NULL) REQUIRE_EQ_INT(shf_batch_new(M.s[h], 1 + which * 7 % M.items, b), SHF_OK);
        if (shf_batch_count(*b) == 0)
            batch_out(*b, q, which / 8, shf_queue_pull_many(queue_of(h, q), *b, which / 8));
        else
            CHECK_EQ_INT(shf_queue_pull_many(queue_of(h, q), *b, 0), SHF_ERR_INVALID);
        break;
    case 8:
        if (*b == NULL) break;
        batch_in(*b, q);
        REQUIRE_EQ_INT(shf_queue_push_many(queue_of(h, q), *b), SHF_OK);
        break;
    case 9:
        if (*b == NULL) break;
        batch_in(*b, q);
        batch_out(*b, q2, which / 8, shf_queue_exchange_many(queue_of(h, q), *b, queue_of(h, q2), which / 8));
        break;
    case 10:
        if (*b == NULL || shf_batch_count(*b) == 0) break;
        REQUIRE_EQ_INT(shf_batch_take(*b, item), SHF_OK);
        M.held[h]++;
        break;
    case 11:
        if (*b == NULL) break;
        batch_in(*b, (*b)->home);
        shf_batch_free(*b), *b = NULL;
        break;
    case 12:
        REQUIRE_EQ_INT(shf_queue_drain(queue_of(h, q), queue_of(h, q2), &moved), SHF_OK);
        CHECK_EQ_INT(moved, M.n[q]);
        for (uint32_t n = M.n[q]; n > 0; n--) {
            uint32_t first = M.list[q][0];
            memmove(M.list[q], M.list[q] + 1, --M.n[q] * sizeof first);
            in_at_the_end(q2, first);
        }
        break;
    case 13: look(); break;
    case 14:
        if (which % 4 == 0) close_one(h, 1);
        break;
    case 15:
        if (M.queues == QUEUES || which % 4) break;
        REQUIRE_EQ_INT(shf_queue_add(M.s[h], "more", &queue, NULL), SHF_OK);
        M.queues = QUEUES;
        break;
    }
}

static void fuzz_one(struct input *in) {
    if (take_byte(in) % 2) {
        edited(in);
        return;
    }
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    memset(&M, 0, sizeof M);
    o.items = M.items = 1 + take_byte(in) % ITEMS, o.item_size = 1;
    o.queues = hostile_names, o.queue_count = M.queues = QUEUES - 1;
    REQUIRE_EQ_INT(shf_queue_set_anonymous("fuzz", &o, &M.s[0]), SHF_OK);
    REQUIRE_EQ_INT(shf_queue_set_from_fd(shf_queue_set_fd(M.s[0]), NULL, &M.s[1]), SHF_OK);
    for (uint32_t i = 0; i < M.items; i++) in_at_the_end(0, i);
    for (int n = 0; in->left > 0 && n < 400; n++) step(in);
    look();
    close_one(1, 0);
    close_one(0, 0);
}
