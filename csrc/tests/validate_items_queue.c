// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_items_queue.c - items one by one and in batches: order, bytes, homes, places; all operations against a model
 *
 * A handle holds SHF_HAND_SINGLES items one by one and SHF_HAND_LEASES batches of SHF_HAND_LEASE in its hand; what is
 * beyond lies in the words. Both must behave alike.
 */
#include "queue_fixture.h"

#define SINGLES SHF_HAND_SINGLES
#define LEASE SHF_HAND_LEASE
#define HAND SHF_HAND_PLACES

static uint64_t total_ops, total_items, total_wrong;

/* ---- one at a time ---- */

TEST(order_bytes_and_places) {
    const uint32_t sizes[] = {8, 9, 64, 65, 200, 5000};
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        enum { N = 300 };
        struct trio t = trio_create("a", N, sizes[s]);
        struct shf_item item[N], other;
        char seen[N] = {0};
        for (uint32_t i = 0; i < N; i++) {
            NEED(shf_queue_pull(t.free, &item[i]));
            CHECK((uintptr_t)item[i].data % 64 == 0 && item[i].home == 0 && item[i].number < N &&
                  !seen[item[i].number]++);
            CHECK((unsigned char *)item[i].data ==
                  (unsigned char *)shf_queue_set_data(t.set) + item[i].number * shf_queue_set_stride(t.set));
            memset(item[i].data, (int)(i * 7), sizes[s]);
            stamp(t.set, &item[i], i);
        }
        other = item[0];
        NONE(shf_queue_pull(t.free, &other));
        CHECK(length(t.free) == 0 && memcmp(&other, &item[0], sizeof other) == 0); /* left alone */
        CLEAN(t.set, N);
        for (uint32_t i = 0; i < N; i++) { /* in another order than they came: 7 and 300 have no common factor */
            OK(shf_queue_push(t.a, &item[i * 7 % N]));
            CHECK(item[i * 7 % N].data == NULL);
        }
        CHECK_EQ_INT(length(t.a), N);
        for (uint32_t i = 0; i < N; i++) {
            uint32_t was = i * 7 % N, same = sizeof(struct stamp);
            NEED(shf_queue_pull(t.a, &other));
            CHECK(stamped(t.set, &other, was) && other.home == 1);
            while (same < sizes[s] && ((unsigned char *)other.data)[same] == (unsigned char)(was * 7)) same++;
            CHECK_EQ_INT(same, sizes[s]);
            OK(shf_item_return(t.set, &other)); /* home: the queue it was pulled from */
            CHECK(other.data == NULL);
        }
        CHECK_EQ_INT(length(t.a), N);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
        total_items += N;
    }
}

/* More than the hand has single places, all of one handle, one by one. */
TEST(all_items_with_one_holder) {
    const uint32_t n = SINGLES + LEASE * SHF_HAND_LEASES + 300;
    struct trio t = trio_create("a", n, 8);
    struct shf_item *item = malloc(n * sizeof *item);
    REQUIRE(item != NULL);
    for (unsigned round = 0; round < 4; round++) {
        struct shf_queue *from = round % 2 ? t.a : t.free, *to = round % 2 ? t.free : t.a;
        for (uint32_t i = 0; i < n; i++) {
            NEED(shf_queue_pull(from, &item[i]));
            stamp(t.set, &item[i], round * n + i);
        }
        NONE(shf_queue_pull(from, &item[0]));
        CLEAN(t.set, n);
        for (uint32_t i = n; i > 1; i--) { /* pushed in any order */
            uint32_t k = (uint32_t)(test_rng() % i);
            struct shf_item swap = item[i - 1];
            item[i - 1] = item[k], item[k] = swap;
        }
        for (uint32_t i = 0; i < n; i++) {
            struct shf_item copy = item[i];
            OK(shf_queue_push(to, &item[i]));
            EXPECT(shf_queue_push(to, &copy), SHF_ERR_INVALID_ITEM); /* of the hand, and of the words */
        }
        CHECK_EQ_INT(length(to), n);
        CLEAN(t.set, 0);
    }
    total_items += 4 * n, total_wrong += 4 * n;
    free(item);
    shf_queue_set_close(t.set);
}

TEST(exchange_is_a_push_and_a_pull) {
    struct trio t = trio_create("a", 3, 8);
    struct shf_item item, copy;
    NEED(shf_queue_pull(t.free, &item));
    stamp(t.set, &item, 1);
    OK(shf_queue_exchange(t.a, &item, t.free));
    CHECK(item.data != NULL && item.number == 1 && item.home == 0);
    OK(shf_queue_exchange(t.a, &item, t.free));
    CHECK(item.number == 2);
    NONE(shf_queue_exchange(t.a, &item, t.free)); /* it was pushed */
    CHECK(item.data == NULL && length(t.a) == 3);
    CLEAN(t.set, 0);
    NEED(shf_queue_pull(t.a, &item));
    CHECK(stamped(t.set, &item, 1));
    OK(shf_queue_exchange(t.a, &item, t.a)); /* through one queue: its first, not itself */
    CHECK(item.number == 1 && item.home == 1);
    copy = item;
    OK(shf_queue_exchange(t.b, &item, t.b)); /* itself */
    CHECK(item.number == 1 && item.home == 2);
    OK(shf_queue_push(t.b, &item));
    NONE(shf_queue_pull(t.free, &item));
    EXPECT(shf_queue_exchange(t.free, &copy, t.a), SHF_ERR_INVALID_ITEM); /* nothing was done */
    CHECK(length(t.free) == 0 && length(t.a) == 2 && length(t.b) == 1);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
    total_wrong++;
}

/* ---- what is not to be pushed ---- */

static void wrong_by(int line, const struct trio *t, struct shf_queue *q, const struct shf_item *item) {
    struct shf_item copy = *item;
    expect(line, "push", shf_queue_push(q, &copy), SHF_ERR_INVALID_ITEM);
    expect(line, "return", shf_item_return(shf_queue_set_of(q), &copy), SHF_ERR_INVALID_ITEM);
    expect(line, "exchange", shf_queue_exchange(q, &copy, t->free), SHF_ERR_INVALID_ITEM);
    if (memcmp(&copy, item, sizeof copy) != 0) FAIL("line %d: a refused item was changed", line);
    total_wrong += 3;
}
#define WRONG(t, q, item) wrong_by(__LINE__, t, q, item)

TEST(items_that_are_not_held) {
    /* Sets and handles made alike: same slots, same generations, same places. */
    struct trio t = trio_create("a", 50, 8), u = trio_create("b", 50, 8), second = trio_open("a");
    struct shf_item mine, others, stale, forged;
    NEED(shf_queue_pull(t.free, &mine));
    NEED(shf_queue_pull(u.free, &others));
    CHECK(mine.number == others.number && mine.place == others.place && mine.owner == others.owner);
    WRONG(&t, t.a, &others); /* another set's */
    WRONG(&u, u.a, &mine);
    WRONG(&second, second.a, &mine); /* another handle's of the same set */
    stale = mine;
    OK(shf_queue_push(t.a, &mine));
    WRONG(&t, t.a, &stale);
    WRONG(&t, t.a, &mine); /* data is NULL */
    NEED(shf_queue_pull(t.free, &mine));
    WRONG(&t, t.a, &stale); /* its place has another item now */
    for (unsigned how = 0; how < 14; how++) {
        forged = mine;
        switch (how) {
        case 0: forged.number = 0; break;
        case 1: forged.number = 50; break;
        case 2: forged.number = UINT32_MAX; break;
        case 3: forged.number += 1u << 24; break;
        case 4: forged.place++; break;
        case 5: forged.place = UINT32_MAX; break;
        case 6: forged.place = UINT32_MAX - 1; break;
        case 7: forged.place = HAND; break;
        case 8: forged.owner++; break;
        case 9: forged.owner = 0; break;
        case 10: forged.owner = UINT32_MAX; break;
        case 11: forged.data = (char *)forged.data + 64; break;
        case 12: forged.home = 1; break;
        case 13: forged.home = UINT32_MAX; break;
        }
        WRONG(&t, t.a, &forged);
    }
    OK(shf_item_return(t.set, &mine));
    CHECK_EQ_INT(length(t.free), 49);
    OK(shf_queue_push(u.a, &others));
    /* In the words too: everything is held, the last ones lie there. */
    struct trio w = trio_create("c", HAND + 10, 8), x = trio_open("c");
    for (uint32_t i = 0; i < HAND + 10; i++) NEED(shf_queue_pull(w.free, &mine));
    WRONG(&x, x.a, &mine);
    forged = mine, forged.number--, WRONG(&w, w.a, &forged); /* held, but elsewhere */
    forged = mine, forged.number = 0, WRONG(&w, w.a, &forged);
    stale = mine;
    OK(shf_queue_push(w.a, &mine));
    WRONG(&w, w.a, &stale);
    CLEAN(w.set, HAND + 9);
    CLEAN(t.set, 0);
    CLEAN(u.set, 0);
    shf_queue_set_close(t.set);
    NONE(shf_queue_pull(u.b, &mine));
    shf_queue_set_close(u.set);
    shf_queue_set_close(second.set);
    shf_queue_set_close(w.set);
    CHECK_EQ_INT(length(x.free), HAND + 9);
    CLEAN(x.set, 0);
    shf_queue_set_close(x.set);
}

/* ---- batches ---- */

static void batch_is_by(int line, struct trio *t, struct shf_batch *b, uint32_t n, uint32_t first, uint32_t of) {
    const uint32_t *numbers = shf_batch_numbers(b);
    unsigned char *base = shf_queue_set_data(t->set);
    if (shf_batch_count(b) != n) FAIL("line %d: %u items, not %u", line, shf_batch_count(b), n);
    for (uint32_t i = 0; i < n; i++)
        if (numbers[i] != (first + i) % of ||
            (unsigned char *)shf_batch_data(b, i) != base + numbers[i] * shf_queue_set_stride(t->set))
            FAIL("line %d: item %u of the batch is number %u", line, i, numbers[i]);
    if (shf_batch_data(b, n) != NULL || shf_batch_data(b, UINT32_MAX) != NULL)
        FAIL("line %d: items beyond the count", line);
}
#define BATCH_IS(t, b, n, first, of) batch_is_by(__LINE__, t, b, n, first, of)

TEST(batches_of_all_sizes) {
    const uint32_t most = 5 * LEASE + 7;
    const uint32_t sizes[] = {1, 2, 3, 15, 16, 17, LEASE - 1, LEASE, LEASE + 1, 2 * LEASE, SINGLES + 1, most - 1, most};
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct trio t = trio_create("a", most, 12);
        struct shf_batch *b = NULL;
        uint32_t n = sizes[s];
        NEED(shf_batch_new(t.set, n, &b));
        CHECK(shf_batch_capacity(b) == n && shf_batch_count(b) == 0 && shf_batch_data(b, 0) == NULL);
        OK(shf_queue_push_many(t.a, b)); /* an empty one is legal */
        NONE(shf_queue_pull_many(t.a, b, 0));
        for (unsigned round = 0; round < 7; round++) { /* round the ring */
            uint32_t got = 0;
            do {
                NEED(shf_queue_pull_many(t.free, b, 0));
                uint32_t here = got + n <= most ? n : most - got;
                BATCH_IS(&t, b, here, got, most);
                EXPECT(shf_queue_pull_many(t.free, b, 0), SHF_ERR_INVALID); /* it is not empty */
                for (uint32_t i = 0; i < here; i++) memcpy(shf_batch_data(b, i), &round, 4);
                OK(shf_queue_push_many(t.a, b));
                CHECK(shf_batch_count(b) == 0 && shf_batch_data(b, 0) == NULL);
                got += here;
            } while (got < most);
            NONE(shf_queue_pull_many(t.free, b, 0));
            CHECK(shf_batch_count(b) == 0 && length(t.a) == most);
            for (got = 0; got < most;) { /* and back: some at a time */
                uint32_t want = 1 + (uint32_t)(test_rng() % n), here = got + want <= most ? want : most - got;
                NEED(shf_queue_pull_many(t.a, b, want));
                BATCH_IS(&t, b, here, got, most);
                for (uint32_t i = 0; i < here; i++) CHECK(memcmp(shf_batch_data(b, i), &round, 4) == 0);
                if (test_rng() % 16 == 0) CLEAN(t.set, here);
                OK(shf_queue_push_many(t.free, b));
                got += here;
            }
            total_items += 2 * most;
        }
        /* n beyond what it holds: as many as it holds */
        NEED(shf_queue_pull_many(t.free, b, UINT32_MAX));
        BATCH_IS(&t, b, n, 0, most);
        CLEAN(t.set, n);
        shf_batch_free(b); /* home, in order */
        CLEAN(t.set, 0);
        NEED(shf_batch_new(t.set, n, &b));
        NEED(shf_queue_pull_many(t.free, b, 0));
        BATCH_IS(&t, b, n, n, most);
        shf_queue_set_close(t.set); /* frees it, brings its items home */
        t = trio_open("a");
        CHECK_EQ_INT(length(t.free), most);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
    }
}

/* Batches of each length at each place of the ring, over its end too; then a number that names no item at each place, which
 * the pull must see, and an entry of the hand that is another, which the push must see: nothing has changed after either. */
TEST(runs_of_each_length) {
    enum { N = 37, ROOM = 64 };
    struct trio t = trio_create("runs.q", N, 8);
    struct shf_queue_set *set = t.set;
    struct shf_batch *batch = NULL;
    uint32_t first = 0; /* the item at the head of `free`: they go round in their order */
    uint64_t moved = 0, seen = 0;
    REQUIRE_EQ_INT(set->mask + 1, ROOM);
    NEED(shf_batch_new(set, N, &batch));
    for (uint32_t at = 0; at < ROOM; at++) {
        for (uint32_t n = 1; n <= N; n++) {
            NEED(shf_queue_pull_many(t.free, batch, n));
            CHECK_EQ_INT(shf_batch_count(batch), n);
            for (uint32_t i = 0; i < n; i++)
                if (shf_batch_numbers(batch)[i] != (first + i) % N) FAIL("run of %u: its number %u is wrong", n, i);
            NEED(shf_queue_push_many(t.free, batch));
            first = (first + n) % N, moved += n;
        }
        uint32_t n = 1 + at % N, place = (at * 7) % n, kept;
        uint64_t head = atomic_load(&t.free->shm->head);
        shf_au32 *entry = &t.free->ring[(head + place) & set->mask];
        kept = atomic_load(entry);
        for (uint32_t k = 0; k < 3; k++) {
            atomic_store(entry, k == 0 ? N : k == 1 ? UINT32_MAX : 1u << 31);
            EXPECT(shf_queue_pull_many(t.free, batch, n), SHF_ERR_CORRUPT);
            CHECK_EQ_INT(shf_batch_count(batch), 0);
            seen++;
        }
        atomic_store(entry, kept);
        NEED(shf_queue_pull_many(t.free, batch, n));
        entry = batch->place == SHF_IN_WORDS ? &set->words[batch->numbers[place]]
                                             : &atomic_load(&set->hand)[batch->place + place];
        kept = atomic_load(entry);
        atomic_store(entry, kept ^ 1);
        EXPECT(shf_queue_push_many(t.free, batch), SHF_ERR_INVALID_ITEM);
        CHECK_EQ_INT(shf_batch_count(batch), n);
        atomic_store(entry, kept), seen++;
        NEED(shf_queue_push_many(t.free, batch));
        first = (first + n) % N;
    }
    shf_batch_free(batch);
    CLEAN(set, 0);
    shf_queue_set_close(set);
    printf("# %llu items in runs of each length, %llu forged numbers and entries seen\n", (unsigned long long)moved,
           (unsigned long long)seen);
}

TEST(many_batches_at_a_time) {
    enum { BATCHES = 12 };
    const uint32_t each = LEASE - 1, n = BATCHES * each;
    struct trio t = trio_create("a", n, 8);
    struct shf_batch *b[BATCHES] = {NULL};
    for (unsigned round = 0; round < 6; round++) {
        for (uint32_t i = 0; i < BATCHES; i++) {
            if (b[i] == NULL) NEED(shf_batch_new(t.set, each, &b[i]));
            NEED(shf_queue_pull_many(t.free, b[i], 0));
            BATCH_IS(&t, b[i], each, i * each, n);
        }
        CLEAN(t.set, n);
        for (uint32_t i = 0; i < BATCHES; i++) OK(shf_queue_push_many(t.a, b[i]));
        for (uint32_t i = 0; i < BATCHES; i++) { /* others have the leases now */
            NEED(shf_queue_pull_many(t.a, b[(i + round) % BATCHES], 0));
            BATCH_IS(&t, b[(i + round) % BATCHES], each, i * each, n);
            OK(shf_queue_push_many(t.free, b[(i + round) % BATCHES]));
            if (test_rng() % 3 == 0) shf_batch_free(b[(i + round) % BATCHES]), b[(i + round) % BATCHES] = NULL;
        }
        CLEAN(t.set, 0);
        total_items += 2 * n;
    }
    for (uint32_t i = 0; i < BATCHES; i++) shf_batch_free(b[i]);
    shf_queue_set_close(t.set);
}

/* Items taken out stay valid while the batch is pushed, filled again and freed. */
TEST(items_taken_out_of_batches) {
    const uint32_t n = 4 * LEASE;
    for (unsigned large = 0; large < 2; large++) { /* in the hand; in the words */
        const uint32_t capacity = large ? LEASE + 3 : LEASE;
        struct trio t = trio_create("a", n, 8);
        struct shf_batch *b = NULL;
        struct shf_item taken[64], item;
        NEED(shf_batch_new(t.set, capacity, &b));
        NONE(shf_batch_take(b, &item));
        unsigned have = 0;
        for (unsigned round = 0; round < 6; round++) {
            NEED(shf_queue_pull_many(t.free, b, 0));
            uint32_t count = shf_batch_count(b);
            REQUIRE(count > 5);
            const uint32_t sixth = shf_batch_numbers(b)[5];
            for (unsigned i = 0; i < 5; i++) {
                uint32_t number = shf_batch_numbers(b)[0];
                void *data = shf_batch_data(b, 0);
                NEED(shf_batch_take(b, &taken[have]));
                CHECK(taken[have].number == number && taken[have].data == data && taken[have].home == 0);
                CHECK(shf_batch_count(b) == count - i - 1);
                stamp(t.set, &taken[have], round * 100 + i), have++;
            }
            CHECK_EQ_INT(shf_batch_numbers(b)[0], sixth);
            CLEAN(t.set, count + have - 5);
            if (round == 3) {
                shf_batch_free(b); /* those taken out stay held */
                NEED(shf_batch_new(t.set, capacity, &b));
            } else {
                OK(shf_queue_push_many(t.free, b));
            }
            CLEAN(t.set, have);
        }
        for (unsigned i = 0; i < have; i++) {
            struct shf_item copy = taken[i];
            CHECK(stamped(t.set, &taken[i], i / 5 * 100 + i % 5));
            OK(i % 3 == 2 ? shf_item_return(t.set, &taken[i]) : shf_queue_push(t.a, &taken[i]));
            EXPECT(shf_queue_push(t.a, &copy), SHF_ERR_INVALID_ITEM);
            total_wrong++;
        }
        CHECK_EQ_INT(length(t.a), have - have / 3);
        CLEAN(t.set, 0);
        /* All taken out, one by one, each pushed on. */
        OK(shf_queue_drain(t.a, t.free, NULL));
        for (unsigned round = 0; round < 5; round++) {
            NEED(shf_queue_pull_many(t.free, b, 0));
            while (shf_batch_take(b, &item) == SHF_OK) OK(shf_queue_push(t.a, &item));
            CHECK(shf_batch_count(b) == 0);
            if (length(t.free) == 0) OK(shf_queue_drain(t.a, t.free, NULL));
        }
        CLEAN(t.set, 0);
        /* Pushed by another handle: not its own. */
        struct trio u = trio_open("a");
        OK(shf_queue_drain(t.a, t.free, NULL));
        NEED(shf_queue_pull_many(t.free, b, 0));
        EXPECT(shf_queue_push_many(u.a, b), SHF_ERR_INVALID_ITEM);
        CHECK(shf_batch_count(b) == capacity && length(t.a) == 0);
        OK(shf_queue_push_many(t.a, b));
        CHECK(shf_queue_pull_many(u.a, b, 0) < 0); /* a batch is of one handle */
        CHECK(length(t.a) == capacity && shf_batch_count(b) == 0);
        total_wrong += 2;
        shf_queue_set_close(u.set);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        OK(shf_unlink(temp_path("a")));
    }
}

TEST(exchange_of_batches) {
    const uint32_t n = 2 * LEASE;
    struct trio t = trio_create("a", n, 8);
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(t.set, LEASE, &b));
    OK(shf_queue_exchange_many(t.a, b, t.free, 3)); /* an empty one: a pull */
    BATCH_IS(&t, b, 3, 0, n);
    OK(shf_queue_exchange_many(t.a, b, t.free, 0));
    BATCH_IS(&t, b, LEASE, 3, n);
    CHECK_EQ_INT(length(t.a), 3);
    NONE(shf_queue_exchange_many(t.a, b, t.b, 0)); /* pushed, and nothing there */
    CHECK(shf_batch_count(b) == 0 && length(t.a) == 3 + LEASE);
    OK(shf_queue_exchange_many(t.b, b, t.a, 1));
    BATCH_IS(&t, b, 1, 0, n);
    OK(shf_queue_exchange_many(t.b, b, t.a, 1));
    BATCH_IS(&t, b, 1, 1, n);
    struct trio u = trio_open("a");
    CHECK(shf_queue_exchange_many(u.b, b, u.a, 1) < 0 && shf_batch_count(b) == 1); /* another handle's */
    CHECK_EQ_INT(length(t.b), 1);
    total_wrong++;
    shf_queue_set_close(u.set);
    CLEAN(t.set, 1);
    shf_queue_set_close(t.set);
}

/* ---- close, drain, reset, stats ---- */

TEST(a_closed_handle_lets_its_items_go) {
    const uint32_t n = HAND + 400;
    struct trio t = trio_create("a", n, 8), u;
    struct shf_batch *b[6];
    struct shf_item item;
    for (unsigned round = 0; round < 2; round++) {
        u = trio_open("a");
        OK(shf_queue_drain(t.free, round ? t.b : t.a, NULL));
        for (uint32_t i = 0; i < SINGLES + 20; i++) { /* the last lie in the words */
            NEED(shf_queue_pull(round ? u.b : u.a, &item));
            stamp(u.set, &item, 1000 + i);
            if (i % 3 == 0) OK(shf_queue_push(u.free, &item));
        }
        uint32_t home = SINGLES + 20 - (SINGLES + 20 + 2) / 3;
        for (unsigned i = 0; i < 6; i++) { /* batches of the hand and of the words, and taken out */
            NEED(shf_batch_new(u.set, i == 0 ? LEASE + 20 : 20 < LEASE ? 20 : LEASE, &b[i]));
            OK(shf_queue_pull_many(round ? u.b : u.a, b[i], 0));
            home += shf_batch_count(b[i]);
            if (i % 2) NEED(shf_batch_take(b[i], &item));
        }
        CLEAN(t.set, home);
        uint64_t there = length(round ? t.b : t.a);
        shf_queue_set_close(u.set);
        CHECK_EQ_INT(length(round ? t.b : t.a), there + home);
        CLEAN(t.set, 0);
        OK(shf_queue_drain(round ? t.b : t.a, t.free, NULL));
        CHECK_EQ_INT(length(t.free), n);
    }
    shf_queue_set_close(t.set);
}

TEST(drain_and_reset) {
    enum { N = 3000 };
    struct trio t = trio_create("a", N, 8), u = trio_create("b", 5, 8);
    struct shf_item item, held[3];
    struct shf_batch *b = NULL;
    uint64_t moved = 77;
    OK(shf_queue_drain(t.a, t.b, &moved));
    CHECK_EQ_INT(moved, 0);
    OK(shf_queue_drain(t.free, t.a, &moved));
    CHECK_EQ_INT(moved, N);
    for (uint32_t i = 0; i < N; i++) { /* in order */
        NEED(shf_queue_pull(t.a, &item));
        CHECK_EQ_INT(item.number, i);
        OK(shf_queue_push(i % 3 ? t.b : t.a, &item));
    }
    OK(shf_queue_drain(t.b, t.b, &moved)); /* to itself: what lies there now, once */
    CHECK(moved == N / 3 * 2 && length(t.b) == N / 3 * 2);
    OK(shf_queue_drain(t.a, t.b, NULL)); /* behind what lies there */
    for (uint32_t i = 0; i < N; i++) {
        NEED(shf_queue_pull(t.b, &item));
        CHECK_EQ_INT(item.number, i < N / 3 * 2 ? i / 2 * 3 + i % 2 + 1 : (i - N / 3 * 2) * 3);
        OK(shf_queue_push(i % 2 ? t.b : t.a, &item));
        if (i % 1000 == 0) NEED(shf_queue_pull(t.a, &held[i / 1000]));
    }
    CHECK(shf_queue_drain(t.a, u.a, &moved) < 0); /* of one set */
    NEED(shf_batch_new(t.set, 10, &b));
    NEED(shf_queue_pull_many(t.a, b, 0));
    uint64_t in_a = length(t.a), in_b = length(t.b);
    OK(shf_queue_set_reset(t.set));
    CHECK(length(t.free) == in_a + in_b && length(t.a) == 0 && length(t.b) == 0);
    CLEAN(t.set, 13); /* what the living hold stays held, and valid */
    for (unsigned i = 0; i < 3; i++) OK(shf_queue_push(t.b, &held[i]));
    OK(shf_queue_push_many(t.b, b));
    OK(shf_queue_set_reset(t.set));
    CHECK_EQ_INT(length(t.free), N);
    OK(shf_queue_set_reset(t.set)); /* nothing to do */
    OK(shf_queue_set_recover(t.set));
    CHECK_EQ_INT(length(t.free), N);
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
    shf_queue_set_close(u.set);
    total_wrong++;
}

TEST(figures) {
    struct trio t = trio_create("a", 10, 8);
    struct shf_item item;
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(t.set, 5, &b));
    NEED(shf_queue_pull(t.free, &item));
    NEED(shf_queue_pull_many(t.free, b, 4));
    struct shf_queue_stats s = stats_of(t.free);
    CHECK(s.len == 5 && s.capacity == 10 && s.pushed == 10 && s.pulled == 5 && s.returned == 0 && s.recoveries == 0);
    OK(shf_queue_push(t.a, &item));
    OK(shf_queue_push_many(t.a, b));
    s = stats_of(t.a);
    CHECK(s.len == 5 && s.capacity == 10 && s.pushed == 5 && s.pulled == 0 && s.returned == 0 && s.sleepers == 0);
    struct shf_queue_report r = {.size = sizeof r};
    NEED(shf_queue_pull(t.a, &item));
    OK(shf_queue_set_check(t.set, &r));
    CHECK(r.queues == 3 && r.items == 10 && r.in_queues == 9 && r.held == 1 && r.dead == 0 && r.problems == 0 &&
          r.first[0] == 0);
    shf_queue_set_close(t.set);
}

/* ---- everything against a model ---- */

#define HANDLES 2
#define BATCHES 6
struct model {
    uint32_t n, *order[3], first[3], count[3]; /* item numbers of each queue; a ring of n */
    uint32_t *value;                           /* of each item: its stamp */
    struct trio t[HANDLES];
    struct held {
        struct shf_item item;
        int handle;
    } *held;
    uint32_t held_count;
    struct shf_batch *batch[HANDLES][BATCHES];
    uint32_t *in_batch[HANDLES][BATCHES], batch_count[HANDLES][BATCHES], batch_home[HANDLES][BATCHES];
};
static struct shf_queue *queue_of(struct model *m, int h, uint32_t q) {
    return q == 0 ? m->t[h].free : q == 1 ? m->t[h].a : m->t[h].b;
}
static void append(struct model *m, uint32_t q, uint32_t number) {
    m->order[q][(m->first[q] + m->count[q]++) % m->n] = number;
}
static uint32_t take_first(struct model *m, uint32_t q) {
    uint32_t number = m->order[q][m->first[q]];
    m->first[q] = (m->first[q] + 1) % m->n, m->count[q]--;
    return number;
}
static void got(struct model *m, int h, const struct shf_item *item, uint32_t q) {
    uint32_t number = take_first(m, q);
    if (item->number != number || item->home != q || !stamped(m->t[h].set, item, m->value[number]))
        FAIL("pulled item %u of queue %u, not %u, or its bytes were touched", item->number, q, number);
    m->value[number] = (uint32_t)test_rng();
    stamp(m->t[h].set, item, m->value[number]);
    m->held[m->held_count++] = (struct held){*item, h};
}
static void got_many(struct model *m, int h, int k, uint32_t want, uint32_t q) {
    struct shf_batch *b = m->batch[h][k];
    uint32_t n = want < m->count[q] ? want : m->count[q];
    if (shf_batch_count(b) != n) FAIL("a batch of %u, not %u", shf_batch_count(b), n), test_stop();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = take_first(m, q);
        struct stamp s = {number, m->value[number]};
        if (shf_batch_numbers(b)[i] != number || memcmp(shf_batch_data(b, i), &s, sizeof s) != 0)
            FAIL("item %u of a batch is %u, not %u", i, shf_batch_numbers(b)[i], number);
        s.value = m->value[number] = (uint32_t)test_rng();
        memcpy(shf_batch_data(b, i), &s, sizeof s);
        m->in_batch[h][k][i] = number;
    }
    m->batch_count[h][k] = n, m->batch_home[h][k] = q;
}
static void batch_gone(struct model *m, int h, int k, uint32_t q) {
    for (uint32_t i = 0; i < m->batch_count[h][k]; i++) append(m, q, m->in_batch[h][k][i]);
    m->batch_count[h][k] = 0;
}
/* Some items came to the end of a queue in any order: `more` of them, marked in `which`. Learns their order. */
static void learn(struct model *m, uint32_t q, uint32_t more, char *which) {
    uint32_t n = m->count[q] + more;
    CHECK_EQ_INT(length(queue_of(m, 0, q)), n);
    for (uint32_t i = 0; i < n; i++) {
        struct shf_item item;
        NEED(shf_queue_pull(queue_of(m, 0, q), &item));
        if (m->count[q] > i ? m->order[q][(m->first[q] + i) % m->n] != item.number : !which[item.number])
            FAIL("item %u is at place %u of queue %u", item.number, i, q);
        if (i >= m->count[q]) which[item.number] = 0;
        if (!stamped(m->t[0].set, &item, m->value[item.number])) FAIL("item %u: its bytes were touched", item.number);
        m->order[q][(m->first[q] + i) % m->n] = item.number;
        OK(shf_queue_push(queue_of(m, 0, q), &item));
    }
    m->count[q] = n;
}
static void new_batch(struct model *m, int h, int k) {
    const uint32_t capacities[] = {1, 5, LEASE - 1, LEASE, LEASE + 1, m->n};
    uint32_t c = capacities[test_rng() % 6];
    if (c > m->n) c = m->n;
    NEED(shf_batch_new(m->t[h].set, c, &m->batch[h][k]));
}
static void open_handle(struct model *m, int h) {
    m->t[h] = trio_open("a");
    for (int k = 0; k < BATCHES; k++) new_batch(m, h, k);
}
/* What it holds comes home in any order. */
static void close_handle(struct model *m, int h) {
    char *which[3];
    uint32_t more[3] = {0, 0, 0};
    for (int q = 0; q < 3; q++) which[q] = calloc(m->n, 1);
    for (uint32_t i = 0; i < m->held_count;) {
        struct held *is = &m->held[i];
        if (is->handle != h) {
            i++;
            continue;
        }
        which[is->item.home][is->item.number] = 1, more[is->item.home]++;
        *is = m->held[--m->held_count];
    }
    for (int k = 0; k < BATCHES; k++) {
        uint32_t q = m->batch_home[h][k];
        for (uint32_t i = 0; i < m->batch_count[h][k]; i++) which[q][m->in_batch[h][k][i]] = 1, more[q]++;
        m->batch_count[h][k] = 0;
    }
    shf_queue_set_close(m->t[h].set);
    for (uint32_t q = 0; q < 3; q++) {
        /* the other handle, which goes on, has index 0 in learn */
        struct trio keep = m->t[0];
        m->t[0] = m->t[1 - h];
        learn(m, q, more[q], which[q]);
        m->t[0] = keep;
        free(which[q]);
    }
    open_handle(m, h);
}
static void step(struct model *m) {
    uint64_t r = test_rng();
    int h = (int)(r & 1), k = (int)(r >> 1 & 0xff) % BATCHES;
    uint32_t q = (uint32_t)(r >> 9 & 0xff) % 3, to = (uint32_t)(r >> 17 & 0xff) % 3;
    uint32_t times = (r >> 25 & 15) == 0 ? (uint32_t)(r >> 29 & 0xffff) % (m->n / 3 + 1) : 1;
    uint32_t pick = m->held_count ? (uint32_t)(r >> 45) % m->held_count : 0;
    struct shf_batch *b = m->batch[h][k];
    struct shf_item item, copy;
    switch (test_rng() % 20) {
    case 0:
    case 1:
    case 2:
    case 3:
        for (uint32_t i = 0; i < times; i++) {
            int rc = shf_queue_pull(queue_of(m, h, q), &item);
            EXPECT(rc, m->count[q] ? SHF_OK : SHF_NOT_FOUND);
            if (rc == SHF_OK) got(m, h, &item, q);
        }
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        for (uint32_t i = 0; i < times && m->held_count > 0; i++) {
            struct held *is = &m->held[pick %= m->held_count];
            copy = is->item;
            if (r >> 63) to = is->item.home;
            OK(r >> 63 ? shf_item_return(m->t[is->handle].set, &is->item)
                       : shf_queue_push(queue_of(m, is->handle, to), &is->item));
            append(m, to, copy.number);
            if (i == 0) EXPECT(shf_queue_push(queue_of(m, is->handle, to), &copy), SHF_ERR_INVALID_ITEM), total_wrong++;
            *is = m->held[--m->held_count];
        }
        break;
    case 8:
    case 9:
        if (m->held_count > 0) {
            struct held is = m->held[pick];
            append(m, to, is.item.number);
            m->held[pick] = m->held[--m->held_count];
            int rc = shf_queue_exchange(queue_of(m, is.handle, to), &is.item, queue_of(m, is.handle, q));
            EXPECT(rc, m->count[q] ? SHF_OK : SHF_NOT_FOUND);
            if (rc == SHF_OK) got(m, is.handle, &is.item, q);
        }
        break;
    case 10:
    case 11:
    case 12: {
        uint32_t want = r >> 60 ? (uint32_t)(r >> 29) % (shf_batch_capacity(b) + 1) : 0;
        int rc = shf_queue_pull_many(queue_of(m, h, q), b, want);
        EXPECT(rc, m->batch_count[h][k] ? SHF_ERR_INVALID : m->count[q] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK) got_many(m, h, k, want ? want : shf_batch_capacity(b), q);
        break;
    }
    case 13:
    case 14:
        OK(shf_queue_push_many(queue_of(m, h, to), b));
        batch_gone(m, h, k, to);
        break;
    case 15: {
        batch_gone(m, h, k, to);
        int rc = shf_queue_exchange_many(queue_of(m, h, to), b, queue_of(m, h, q), 0);
        EXPECT(rc, m->count[q] ? SHF_OK : SHF_NOT_FOUND);
        if (rc == SHF_OK) got_many(m, h, k, shf_batch_capacity(b), q);
        break;
    }
    case 16:
    case 17: {
        for (uint32_t i = 0; i < times; i++) {
            int rc = shf_batch_take(b, &item);
            EXPECT(rc, m->batch_count[h][k] ? SHF_OK : SHF_NOT_FOUND);
            if (rc != SHF_OK) break;
            if (item.number != m->in_batch[h][k][0] || item.home != m->batch_home[h][k])
                FAIL("taken: item %u, not %u", item.number, m->in_batch[h][k][0]);
            m->held[m->held_count++] = (struct held){item, h};
            m->batch_count[h][k]--;
            memmove(m->in_batch[h][k], m->in_batch[h][k] + 1, m->batch_count[h][k] * 4);
        }
        break;
    }
    case 18:
        shf_batch_free(b);
        batch_gone(m, h, k, m->batch_home[h][k]);
        new_batch(m, h, k);
        break;
    default:
        if (r >> 58 == 0) {
            close_handle(m, h);
        } else if (r >> 58 == 1) {
            uint64_t n = m->count[q], moved = 0;
            OK(shf_queue_drain(queue_of(m, h, q), queue_of(m, h, to), &moved));
            CHECK_EQ_INT(moved, n);
            for (uint64_t i = 0; i < n; i++) append(m, to, take_first(m, q));
        } else if (r >> 58 == 2) {
            char *which = calloc(m->n, 1);
            uint32_t more = 0;
            for (q = 1; q < 3; q++)
                while (m->count[q] > 0) which[take_first(m, q)] = 1, more++;
            OK(shf_queue_set_reset(m->t[h].set));
            uint32_t before = m->count[0]; /* also those may have moved, to the end */
            while (m->count[0] > 0) which[take_first(m, 0)] = 1;
            learn(m, 0, before + more, which);
            free(which);
        } else {
            for (q = 0; q < 3; q++) CHECK_EQ_INT(length(queue_of(m, h, q)), m->count[q]);
            CLEAN(m->t[h].set, m->n - m->count[0] - m->count[1] - m->count[2]);
        }
    }
    total_ops++;
}
static void run_model(uint32_t n, uint64_t steps) {
    struct model m = {.n = n};
    struct trio t = trio_create("a", n, 8);
    for (int q = 0; q < 3; q++) m.order[q] = calloc(n, 4);
    m.value = calloc(n, 4), m.held = calloc(n, sizeof *m.held);
    for (int h = 0; h < HANDLES; h++)
        for (int k = 0; k < BATCHES; k++) m.in_batch[h][k] = calloc(n, 4);
    for (uint32_t i = 0; i < n; i++) {
        struct shf_item item;
        NEED(shf_queue_pull(t.free, &item));
        stamp(t.set, &item, 0);
        OK(shf_queue_push(t.free, &item));
        append(&m, 0, i);
    }
    shf_queue_set_close(t.set);
    open_handle(&m, 0), open_handle(&m, 1);
    for (uint64_t i = 0; i < steps && *test_failures == 0; i++) step(&m);
    for (int q = 0; q < 3; q++) CHECK_EQ_INT(length(queue_of(&m, 0, (uint32_t)q)), m.count[q]);
    close_handle(&m, 0);
    close_handle(&m, 1);
    CHECK_EQ_INT(m.count[0] + m.count[1] + m.count[2], n);
    CLEAN(m.t[0].set, 0);
    for (int h = 0; h < HANDLES; h++) {
        shf_queue_set_close(m.t[h].set);
        for (int k = 0; k < BATCHES; k++) free(m.in_batch[h][k]);
    }
    for (int q = 0; q < 3; q++) free(m.order[q]);
    free(m.value), free(m.held);
}
TEST(as_the_model_few) { run_model(3, test_env("SHF_OPS", 300000) / 4); }
TEST(as_the_model_some) { run_model(100, test_env("SHF_OPS", 300000) / 2); }
TEST(as_the_model_many) { run_model(7000, test_env("SHF_OPS", 300000) / 15); }

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    printf("# total: %llu operations as a model says, %llu items moved one by one and in batches; %llu pushes of what "
           "is not held "
           "refused; 0 out of order, 0 bytes touched unless a test failed\n",
           (unsigned long long)total_ops, (unsigned long long)total_items, (unsigned long long)total_wrong);
    return rc;
}
