// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * hostile_queue.c - damaged queue sets: an error or success, never a crash, a hang, a store outside of the items
 *
 * SHF_IMAGES (3,000) edited ones, each opened to write and read-only, all calls made; hostile_model.h says how. Then
 * damage of each kind by name: the call that meets it, or check, says SHF_ERR_CORRUPT. Then somebody who writes the
 * mapping while three processes use it, for SHF_SECONDS (1) each of two sets.
 */
#include "hostile_queue_model.h"

TEST(edited_images) {
    static const struct hostile_shape shapes[] = {
        {1, 0, LIVE}, {1, 0, CLEAN}, {2, 0, LIVE}, {1, 0, LIVE}, {3, 0, LIVE}};
    struct hostile_run r = {.shapes = shapes,
                            .n = sizeof shapes / sizeof *shapes,
                            .edit = hostile_edit_set,
                            .edits = 48,
                            .images = 3000,
                            .make = hostile_make_set,
                            .use = hostile_use_set};
    hostile_images(&r);
}

/* ---- each kind of damage ---- */

/* The image under work: slot 1 holds singles, leases and words; so does slot 2 one item. */
#define QUEUE(i) (SET_PAGE(SHF_SET_QUEUES) + (i) * sizeof(struct shf_shm_queue))
static uint64_t ring_at(struct hostile_image *m, uint32_t q, uint64_t position) {
    return (uint64_t)peek4(m, QUEUE(q) + QUEUE_FIELD(ring)) * SHF_PAGE + position % 64 * 4;
}
static uint64_t head_of(struct hostile_image *m, uint32_t q) { return peek(m, QUEUE(q) + QUEUE_FIELD(head)); }
static uint64_t tail_of(struct hostile_image *m, uint32_t q) { return peek(m, QUEUE(q) + QUEUE_FIELD(tail)); }
static uint64_t hand_at(struct hostile_image *m, uint32_t slot, uint32_t place) {
    return (uint64_t)peek4(m, SET_PAGE(SHF_SET_HANDS) + slot * 4) * SHF_PAGE + place * 4;
}
static uint64_t held_word(struct hostile_image *m) { /* the first item that is held in the words */
    for (uint32_t i = 0; i < items_of(m); i++)
        if (peek4(m, SET_PAGE(SHF_SET_WORDS) + i * 4) != 0) return SET_PAGE(SHF_SET_WORDS) + i * 4;
    FAIL("no item is held in the words");
    return 0;
}
#define DAMAGE(name, edit_)                                                                                            \
    static void damage_##name(struct hostile_image *m) { edit_; }
DAMAGE(entry_beyond, poke(m, ring_at(m, 0, head_of(m, 0)), 4, 40))
DAMAGE(entry_far_beyond, poke(m, ring_at(m, 0, head_of(m, 0)), 4, 0xffffffff))
DAMAGE(entry_twice, poke(m, ring_at(m, 0, head_of(m, 0)), 4, peek4(m, ring_at(m, 1, head_of(m, 1)))))
DAMAGE(entry_held, poke(m, ring_at(m, 0, head_of(m, 0)), 4, (held_word(m) - SET_PAGE(SHF_SET_WORDS)) / 4))
DAMAGE(tail_before_head, poke(m, QUEUE(0) + QUEUE_FIELD(tail), 8, head_of(m, 0) - 1);
       poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, head_of(m, 0) - 1))
DAMAGE(more_than_all, poke(m, QUEUE(0) + QUEUE_FIELD(tail), 8, head_of(m, 0) + 41);
       poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, head_of(m, 0) + 41))
DAMAGE(one_more, poke(m, QUEUE(0) + QUEUE_FIELD(tail), 8, tail_of(m, 0) + 1);
       poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, tail_of(m, 0) + 1))
DAMAGE(one_less, poke(m, QUEUE(0) + QUEUE_FIELD(tail), 8, tail_of(m, 0) - 1);
       poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, tail_of(m, 0) - 1))
DAMAGE(push_of_too_many, poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, tail_of(m, 0) + 1000))
DAMAGE(push_from_nowhere, poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, tail_of(m, 0) + 1);
       poke(m, QUEUE(0) + QUEUE_FIELD(from), 4, 900 << SHF_HAND_PLACE_BITS))
DAMAGE(push_beyond_the_hand, poke(m, QUEUE(0) + QUEUE_FIELD(new_tail), 8, tail_of(m, 0) + 4);
       poke(m, QUEUE(0) + QUEUE_FIELD(from), 4, 1 << SHF_HAND_PLACE_BITS | (SHF_HAND_PLACES - 1)))
DAMAGE(pull_of_too_many, poke(m, QUEUE(0) + QUEUE_FIELD(new_head), 8, head_of(m, 0) + 1000))
DAMAGE(pull_backwards, poke(m, QUEUE(0) + QUEUE_FIELD(new_head), 8, head_of(m, 0) - 1))
DAMAGE(pull_into_nowhere, poke(m, QUEUE(0) + QUEUE_FIELD(new_head), 8, head_of(m, 0) + 1);
       poke(m, QUEUE(0) + QUEUE_FIELD(into), 4, 900 << SHF_HAND_PLACE_BITS))
DAMAGE(word_of_nobody, poke(m, held_word(m), 4, shf_word_of(SHF_OWNER(77, 5), 0)))
DAMAGE(word_without_a_holder, poke(m, held_word(m), 4, 0))
DAMAGE(word_of_no_queue, poke(m, held_word(m), 4, peek4(m, held_word(m)) | SHF_WORD_HOME_MASK))
DAMAGE(word_random, poke(m, held_word(m), 4, 12345))
DAMAGE(hand_names_no_item, poke(m, hand_at(m, 2, 0), 4, shf_hand_entry(40, 0)))
DAMAGE(hand_names_no_queue, poke(m, hand_at(m, 2, 0), 4, peek4(m, hand_at(m, 2, 0)) | 0xff000000))
DAMAGE(hand_has_it_twice, poke(m, hand_at(m, 2, 3), 4, peek4(m, hand_at(m, 2, 0))))
DAMAGE(hand_has_it_no_more, poke(m, hand_at(m, 2, 0), 4, 0))
DAMAGE(hand_without_a_life, poke(m, SET_PAGE(SHF_SET_LIVES) + 2 * 4, 4, 0))
DAMAGE(hand_page_beyond, poke(m, SET_PAGE(SHF_SET_HANDS) + 2 * 4, 4, 0x7fffffff))
DAMAGE(hand_page_of_others, poke(m, SET_PAGE(SHF_SET_HANDS) + 2 * 4, 4, 1))
DAMAGE(too_many_queues, poke(m, SET_PAGE(0), 4, 256))
DAMAGE(queue_without_a_ring, poke(m, SET_PAGE(0), 4, 6))
DAMAGE(ring_beyond, poke(m, QUEUE(1) + QUEUE_FIELD(ring), 4, 0x7fffffff))
DAMAGE(ring_over_the_items, poke(m, QUEUE(1) + QUEUE_FIELD(ring), 4, SHF_OBJECT_PAGE + SHF_SET_WORDS + 1))
DAMAGE(ring_is_the_header, poke(m, QUEUE(1) + QUEUE_FIELD(ring), 4, 0))
#define NAMED(name)                                                                                                    \
    { #name, damage_##name }
static const struct {
    const char *name;
    void (*edit)(struct hostile_image *m);
} damages[] = {NAMED(entry_beyond),
               NAMED(entry_far_beyond),
               NAMED(entry_twice),
               NAMED(entry_held),
               NAMED(tail_before_head),
               NAMED(more_than_all),
               NAMED(one_more),
               NAMED(one_less),
               NAMED(push_of_too_many),
               NAMED(push_from_nowhere),
               NAMED(push_beyond_the_hand),
               NAMED(pull_of_too_many),
               NAMED(pull_backwards),
               NAMED(pull_into_nowhere),
               NAMED(word_of_nobody),
               NAMED(word_without_a_holder),
               NAMED(word_of_no_queue),
               NAMED(word_random),
               NAMED(hand_names_no_item),
               NAMED(hand_names_no_queue),
               NAMED(hand_has_it_twice),
               NAMED(hand_has_it_no_more),
               NAMED(hand_without_a_life),
               NAMED(hand_page_beyond),
               NAMED(hand_page_of_others),
               NAMED(too_many_queues),
               NAMED(queue_without_a_ring),
               NAMED(ring_beyond),
               NAMED(ring_over_the_items),
               NAMED(ring_is_the_header)};
#define DAMAGES (sizeof damages / sizeof *damages)

/* Opening it, or check, says CORRUPT. The holders live: nobody brings home what was
 * damaged before check has seen it. */
static int finds(struct shf_queue_set *s) {
    struct shf_queue_report report = {.size = sizeof report};
    int rc = shf_queue_set_check(s, &report);
    CHECK((rc == SHF_OK) == (report.problems == 0) && (rc == SHF_OK) == (report.first[0] == 0));
    return rc;
}
TEST(each_damage_is_found) {
    for (size_t i = 0; i < DAMAGES; i++) {
        struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
        struct shf_queue_set *holder = NULL, *other = NULL, *s = NULL;
        struct shf_queue *q[3];
        struct shf_item held[8], item;
        struct shf_batch *b[5];
        struct stat st;
        o.items = 40, o.item_size = 48, o.queues = hostile_names, o.queue_count = 3;
        REQUIRE_EQ_INT(shf_queue_set_anonymous("damaged", &o, &holder), SHF_OK);
        int fd = shf_queue_set_fd(holder), pulled = SHF_OK;
        for (uint32_t k = 0; k < 3; k++) REQUIRE_EQ_INT(shf_queue_at(holder, k, &q[k]), SHF_OK);
        REQUIRE_EQ_INT(shf_queue_drain(q[0], q[1], NULL), SHF_OK);
        for (uint32_t k = 0; k < 20; k++)
            REQUIRE(shf_queue_pull(q[1], &item) == SHF_OK && shf_queue_push(q[0], &item) == SHF_OK);
        for (uint32_t k = 0; k < 5; k++) {
            REQUIRE(shf_batch_new(holder, 3, &b[k]) == SHF_OK && shf_queue_pull_many(q[0], b[k], 2) == SHF_OK);
            REQUIRE_EQ_INT(shf_queue_pull(q[1], &held[k]), SHF_OK);
        }
        REQUIRE_EQ_INT(shf_queue_set_from_fd(fd, NULL, &other), SHF_OK);
        REQUIRE(shf_queue_at(other, 0, &q[0]) == SHF_OK && shf_queue_pull(q[0], &held[7]) == SHF_OK);
        CHECK_EQ_INT(finds(other), SHF_OK);
        REQUIRE(fstat(fd, &st) == 0);
        unsigned char *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        REQUIRE(p != MAP_FAILED);
        struct hostile_image m = {p, (size_t)st.st_size, 1, {0}};
        damages[i].edit(&m);
        munmap(p, (size_t)st.st_size);
        int opened = shf_queue_set_from_fd(fd, NULL, &s), found = opened == SHF_OK ? finds(s) : opened;
        if (found != SHF_ERR_CORRUPT) FAIL("%s: open %d, check %d", damages[i].name, opened, found);
        if (opened == SHF_OK && strncmp(damages[i].name, "entry_", 6) == 0 && i < 2) { /* the puller sees it, too */
            REQUIRE_EQ_INT(shf_queue_at(s, 0, &q[0]), SHF_OK);
            pulled = shf_queue_pull(q[0], &item);
            CHECK_EQ_INT(pulled, SHF_ERR_CORRUPT);
        }
        shf_queue_set_close(s);
        shf_queue_set_close(other);
        shf_queue_set_close(holder);
    }
    printf("# %zu kinds of damage in queue sets, each found\n", DAMAGES);
}

/* ---- under users ---- */

#define USERS 3
static struct hostile_good good;
static int set_fd;
static struct shared {
    _Atomic uint64_t stop, edits;
    _Atomic uint64_t uses[USERS];
} * shared;

static void mutate(void *unused) {
    (void)unused;
    unsigned char *p = mmap(NULL, good.size, PROT_READ | PROT_WRITE, MAP_SHARED, set_fd, 0);
    REQUIRE(p != MAP_FAILED);
    struct hostile_image m = hostile_image_of(&good.shape, p, good.size, test_seed + 77), kept = m;
    struct stat st;
    REQUIRE(fstat(set_fd, &st) == 0);
    kept.p = good.bytes;
    poke(&kept, FIELD(shf_shm_header, dev), 8, st.st_dev); /* good, but for whoever attaches while nobody is */
    poke(&kept, FIELD(shf_shm_header, ino), 8, st.st_ino);
    for (uint64_t round = 1; !shared->stop; round++) {
        uint64_t q = any_queue(&m), at = q + 64 + draw(&m, 16) * 8;
        if (draw(&m, 4) == 0) at = (uint64_t)peek4(&m, q + QUEUE_FIELD(ring)) * SHF_PAGE + draw(&m, 32) * 8;
        if (draw(&m, 6) == 0) at = SET_PAGE(draw(&m, SHF_SET_WORDS + 1)) + draw(&m, 16) * 8;
        if (draw(&m, 3) == 0) {
            for (uint64_t n = 1 + draw(&m, 4); n > 0; n--) hostile_edit_set(&m), shared->edits++;
        } else { /* to and fro, while others check and use it */
            uint64_t was = peek(&m, at), forged = draw(&m, 2) ? odd_number(&m) : was + draw(&m, 64) - 32;
            for (uint64_t n = draw(&m, 2000); n > 0; n--, shared->edits += 2) {
                poke(&m, at, 8, forged);
                for (volatile int wait = (int)draw(&m, 60); wait > 0;) wait--;
                poke(&m, at, 8, was);
                for (volatile int wait = (int)draw(&m, 60); wait > 0;) wait--;
            }
        }
        if (round % 40 == 0)
            for (size_t i = 0; i < good.size; i += 8) poke(&m, i, 8, peek(&kept, i));
        if (round % 16 == 0) usleep(500); /* with few processors the users want some of the time */
    }
}
static void use(void *arg) {
    size_t who = (size_t)(uintptr_t)arg;
    struct rlimit none = {0, 0}, small = {256 << 20, 256 << 20};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &small);
    struct hostile_image m = hostile_image_of(&good.shape, NULL, 0, test_seed + who);
    while (!shared->stop) {
        hostile_use_set(set_fd, who == 0, &m, &good, 1 + (int)draw(&m, 60), 0);
        shared->uses[who]++;
    }
}
TEST(live_mutator) {
    uint64_t limit = TEST_SANITIZED ? 30000 : 15000, crashes = 0, hangs = 0, edits = 0, uses = 0;
    hostile_begin();
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != (struct shared *)MAP_FAILED);
    uint64_t before = hostile_counts->operations;
    for (size_t shape = 1; shape <= 2; shape++) {
        hostile_make_set(&good, (struct hostile_shape){shape, 0, LIVE}, test_seed);
        set_fd = hostile_file(good.bytes, good.size, good.size);
        hostile_seal(set_fd);
        memset(shared, 0, sizeof *shared);
        pid_t mutator = fork_child(mutate, NULL), pid[USERS];
        for (size_t i = 0; i < USERS; i++) pid[i] = fork_child(use, (void *)(uintptr_t)i);
        usleep((useconds_t)(test_env("SHF_SECONDS", 1) * 1000000));
        shared->stop = 1;
        for (size_t i = 0; i < USERS; i++) {
            int rc = hostile_watch(pid[i], &shared->uses[i], limit);
            crashes += rc != 0 && rc != 98 && rc != CHILD_HUNG, hangs += rc == CHILD_HUNG;
            if (rc != 0) FAIL("set %zu: user %zu ended with %d", shape, i, rc);
            uses += shared->uses[i];
        }
        int rc = hostile_watch(mutator, &shared->edits, limit);
        if (rc != 0 && rc != 98) FAIL("the mutator ended with %d", rc); /* 98: some other failed a check */
        edits += shared->edits;
        close(set_fd);
        free(good.bytes);
    }
    printf("# total: %" PRIu64 " words of queue sets forged under %d users, %" PRIu64 " calls in %" PRIu64
           " uses; errors: ",
           edits, USERS, (uint64_t)hostile_counts->operations - before, uses);
    hostile_print_codes();
    printf(" %" PRIu64 " crashes, %" PRIu64 " hangs\n", crashes, hangs);
}

int main(int argc, char **argv) { return run(argc, argv); }
