// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * crash_queue.c - a process dies at every store of every call on a queue set, another one in the repair, then a third
 *
 * SCENARIO   A prepared file, steps that are taken first (`warm`), steps in which somebody dies (`step`). For k = 1, 2,
 *            ... a child opens the file, takes the steps and is killed just before its k-th shared store, until it
 *            completes.
 * BEFORE     In some a predecessor has died before, its hands full: then the first child is one that repairs. It is
 *            attached while the predecessor lives, or enters the predecessor's slot.
 * JOURNAL    Each process writes into shared memory what it is about to do, with which items, and what came of it. The
 *            parent replays the journals on all states that may be (struct state): a step that came back has happened;
 *            one that did not has happened as a whole or not at all. What the dead held is LOOSE: it comes home, nobody
 *            knows when. What they were about to push may be LATE: it comes in as one, when the next one takes the
 *            queue's tail lock.
 * SURVIVOR   The parent, attached before and holding an item, goes on at once with one of several things. Then all must
 *            be explained by one of the states: each queue has its items in their order, and the loose ones of that
 *            home (behind all others, if nobody pushed meanwhile); census and check find each item once; bytes are as
 *            last written.
 * SECOND     As in crash_model.h: a second child, attached before the first death or not, repairs and dies at its j-th
 *            store; a third one after some of those.
 * STOPPED    A repairer is stopped (SIGSTOP) before each of its stores, while a new life enters the dead one's slot and
 *            holds.
 * HOW MANY   SHF_CRASH_SINGLES k of a scenario, SHF_CRASH_PAIRS pairs, first those at places of the code where nobody
 *            has died yet; SHF_CRASH_FULL=1: all.
 */
#include "crash_sites.h"
#include "queue_model.h"

#include "model.h"

#define STEPS 16
#define ENTRIES 96
#define BATCHES 8
#define CANDIDATES 1024
#define EMPTY_QUEUE 3

enum op {
    PULL,
    WAIT,
    PUSH,
    EXCHANGE,
    RETURN,
    BATCH,
    FILL,
    EMPTY,
    SWAP,
    TAKE,
    FREE,
    ADD,
    DRAIN,
    RESET,
    RECOVER,
    CHECK_ALL,
    LEN,
    WAIT_BOTH,
    LEAVE
};
struct step {
    enum op op;
    uint32_t q, q2; /* exchange, swap, drain: q2 = from */
    uint32_t n;     /* how many at most; BATCH: the capacity */
    uint32_t b;     /* which batch */
};
enum { FIRST_CHILD, SECOND_CHILD, THIRD_CHILD, PREDECESSOR, SURVIVOR, ENTRANT, ACTORS };

struct entry { /* of a journal */
    struct step s;
    _Atomic int begun, ended;
    int rc;
    uint32_t given[SET_ITEMS], gives, got[SET_ITEMS], gots;
};
struct journal {
    _Atomic uint32_t entries;
    struct entry entry[ENTRIES];
};
static struct shared {
    _Atomic uint64_t stores;
    _Atomic uint32_t written[SET_ITEMS]; /* `count` of each item's content */
    struct journal journal[ACTORS];
} * shared;

/* The scenario in work. */
static struct {
    struct step warm[STEPS], step[STEPS], before[STEPS];
    int warms, steps, befores;
    uint32_t touch;             /* the queue that things happen in */
    int arm_open, alone, hands; /* hands: slots that have one already */
    int attached;               /* the first child is there before the predecessor dies */
    unsigned char *image;
    size_t image_size;
} S;

/* ---- actors: what a process does, and its journal ---- */

struct actor {
    struct shf_queue_set *s;
    struct journal *log;
    struct shf_item item[SET_ITEMS];
    uint32_t items;
    struct shf_batch *batch[BATCHES];
};
static void wrote(void *data, uint32_t number) {
    uint32_t count = shared->written[number];
    if (!content_is(data, number, count)) FAIL("the bytes of item %u are not those of write %u", number, count);
    content_of(data, number, count + 1);
    shared->written[number] = count + 1;
}
static void has_got(struct actor *a, struct entry *e, int rc, const struct shf_item *item) {
    if (rc != SHF_OK) return;
    REQUIRE(item->number < SET_ITEMS && a->items < SET_ITEMS);
    wrote(item->data, item->number);
    if (e) e->got[e->gots++] = item->number;
    a->item[a->items++] = *item;
}
static void has_filled(struct entry *e, const struct shf_batch *b) {
    for (uint32_t i = 0; i < shf_batch_count(b); i++) {
        e->got[e->gots] = shf_batch_numbers(b)[i];
        REQUIRE(e->got[e->gots] < SET_ITEMS);
        wrote(shf_batch_data(b, i), e->got[e->gots++]);
    }
}
static void gives_batch(struct entry *e, const struct shf_batch *b) {
    e->gives = shf_batch_count(b);
    for (uint32_t i = 0; i < e->gives; i++) e->given[i] = shf_batch_numbers(b)[i];
}
static void gone(struct actor *a) { memmove(a->item, a->item + 1, --a->items * sizeof *a->item); }

static int act(struct actor *a, struct step s) {
    struct entry *e = &a->log->entry[a->log->entries];
    struct shf_queue *q = set_queue(a->s, s.q), *q2 = set_queue(a->s, s.q2), *made = NULL, *both[2] = {q, q2};
    struct shf_item got = {0};
    struct shf_batch *b = a->batch[s.b];
    uint64_t n64 = 0;
    uint32_t n = s.n;
    int rc = SHF_OK;
    REQUIRE(a->log->entries < ENTRIES);
    memset(e, 0, sizeof *e);
    e->s = s;
    if (s.op == PUSH || s.op == EXCHANGE || s.op == RETURN) {
        REQUIRE(a->items > 0);
        e->given[e->gives++] = a->item[0].number;
        if (s.op == RETURN) e->s.q = a->item[0].home;
    }
    if (s.op == EMPTY || s.op == SWAP || s.op == FREE) gives_batch(e, b);
    a->log->entries++;
    e->begun = 1;
    switch (s.op) {
    case PULL: rc = shf_queue_pull(q, &got), has_got(a, e, rc, &got); break;
    case WAIT: rc = shf_queue_pull_wait(q, n ? n * UINT64_C(1000000) : 1000000, &got), has_got(a, e, rc, &got); break;
    case PUSH:
        rc = shf_queue_push(q, &a->item[0]);
        if (rc == SHF_OK) CHECK(a->item[0].data == NULL), gone(a);
        break;
    case RETURN:
        rc = shf_item_return(a->s, &a->item[0]);
        if (rc == SHF_OK) gone(a);
        break;
    case EXCHANGE:
        got = a->item[0];
        rc = shf_queue_exchange(q, &got, q2);
        if (rc == SHF_OK || rc == SHF_NOT_FOUND) gone(a), has_got(a, e, rc, &got);
        break;
    case BATCH: rc = shf_batch_new(a->s, n, &a->batch[s.b]); break;
    case FILL:
        rc = shf_queue_pull_many(q, b, n);
        if (rc == SHF_OK) has_filled(e, b);
        break;
    case EMPTY: rc = shf_queue_push_many(q, b); break;
    case SWAP:
        rc = shf_queue_exchange_many(q, b, q2, n);
        if (rc == SHF_OK) has_filled(e, b);
        break;
    case TAKE:
        rc = shf_batch_take(b, &got);
        if (rc == SHF_OK) a->item[a->items++] = got;
        break;
    case FREE: shf_batch_free(b), a->batch[s.b] = NULL; break;
    case ADD: rc = shf_queue_add(a->s, "added", &made, NULL); break;
    case DRAIN: rc = shf_queue_drain(q2, q, &n64); break;
    case RESET: rc = shf_queue_set_reset(a->s); break;
    case RECOVER: rc = shf_queue_set_recover(a->s); break;
    case CHECK_ALL: set_check(a->s); break;
    case LEN: rc = shf_queue_len(q, &n64); break;
    case WAIT_BOTH: rc = shf_queue_wait_any(both, 2, 1000000, &n); break;
    case LEAVE:
        shf_queue_set_close(a->s), a->s = NULL;
        a->items = 0;
        break;
    }
    e->rc = rc;
    e->ended = 1;
    if (rc < 0 && rc != SHF_ERR_TIMEOUT) FAIL("step %d: %d, %s", (int)s.op, rc, shf_last_error()->message);
    return rc;
}
static void act_all(struct actor *a, const struct step *s, int n) {
    for (int i = 0; i < n; i++) act(a, s[i]);
}

/* ---- states: what may be ---- */

#define IN_QUEUE (-1)
#define LOOSE (-2)
#define LATE (-3)
struct state {
    uint8_t n[SET_QUEUES_MOST], list[SET_QUEUES_MOST][SET_ITEMS];
    int8_t who[SET_ITEMS]; /* IN_QUEUE, LOOSE, LATE, or the actor that holds it */
    uint8_t home[SET_ITEMS];
    uint8_t any; /* any order, any queue */
    struct {
        uint8_t q, n, item[SET_ITEMS];
    } late[PREDECESSOR + 1]; /* by actor */
};
static struct state candidate[CANDIDATES], start;
static int candidates;
static struct state next[CANDIDATES];
static int nexts;

static void may_be(const struct state *s) {
    for (int i = 0; i < nexts; i++)
        if (memcmp(&next[i], s, sizeof *s) == 0) return;
    if (nexts == CANDIDATES) FAIL("over %d states", CANDIDATES), test_stop();
    next[nexts++] = *s;
}
static void take_next(const char *what, int actor) {
    if (nexts == 0) {
        FAIL("%s of actor %d cannot be", what, actor);
        return;
    }
    memcpy(candidate, next, (size_t)nexts * sizeof *next);
    candidates = nexts, nexts = 0;
}
/* 0: that item cannot come out of the queue now. */
static int goes_out(struct state *s, uint32_t q, uint32_t item, int actor) {
    if (s->any) {
        s->who[item] = (int8_t)actor, s->home[item] = (uint8_t)q;
        return 1;
    }
    if (s->who[item] == LOOSE) {
        if (s->home[item] != q) return 0;
    } else {
        if (s->n[q] == 0 || s->list[q][0] != item) return 0;
        memmove(s->list[q], s->list[q] + 1, --s->n[q]);
        s->list[q][s->n[q]] = 0;
    }
    s->who[item] = (int8_t)actor, s->home[item] = (uint8_t)q;
    return 1;
}
static int comes_in(struct state *s, uint32_t q, uint32_t item, int actor) {
    if (s->who[item] != actor) return 0;
    s->list[q][s->n[q]++] = (uint8_t)item, s->who[item] = IN_QUEUE, s->home[item] = 0;
    return 1;
}
static int all_in(struct state *s, const struct entry *e, int actor) {
    for (uint32_t i = 0; i < e->gives; i++)
        if (!comes_in(s, e->s.q, e->given[i], actor)) return 0;
    return 1;
}
static void is_late(struct state *s, uint32_t q, uint32_t item, int actor) {
    REQUIRE(actor <= PREDECESSOR);
    s->late[actor].q = (uint8_t)q;
    s->late[actor].item[s->late[actor].n++] = (uint8_t)item;
    s->who[item] = LATE, s->home[item] = 0;
}
static void may_be_late(const struct state *now, const struct entry *e, int actor) {
    struct state s = *now;
    for (uint32_t i = 0; i < e->gives; i++) {
        if (s.who[e->given[i]] != actor) return;
        is_late(&s, e->s.q, e->given[i], actor);
    }
    may_be(&s);
}
/* What is late may have come in by now. */
static void late_ones_come(void) {
    for (int i = 0; i < candidates; i++) may_be(&candidate[i]);
    for (int i = 0; i < nexts; i++)
        for (int a = 0; a <= PREDECESSOR; a++) {
            struct state s = next[i];
            if (s.late[a].n == 0) continue;
            for (uint32_t k = 0; k < s.late[a].n; k++) comes_in(&s, s.late[a].q, s.late[a].item[k], LATE);
            memset(&s.late[a], 0, sizeof s.late[a]);
            may_be(&s);
        }
    take_next("what is late", -1);
}
static int all_out(struct state *s, uint32_t q, const struct entry *e, int actor) {
    for (uint32_t i = 0; i < e->gots; i++)
        if (!goes_out(s, q, e->got[i], actor)) return 0;
    uint32_t asked = e->s.op == FILL || e->s.op == SWAP ? e->s.n : 1;
    return s->any || e->gots == asked || s->n[q] == 0; /* not fewer than there were */
}
static int loose_in(const struct state *s, uint32_t q) {
    int n = 0;
    for (uint32_t i = 0; i < SET_ITEMS; i++) n += s->who[i] == LOOSE && s->home[i] == q;
    return n;
}
/* A pull of up to `most` that did not come back: none of them, or all there were. With loose ones nobody knows how many
 * of the others there were among them. */
static void may_go_out(const struct state *s, uint32_t q, uint32_t most, int actor) {
    uint32_t all = most < s->n[q] ? most : s->n[q];
    may_be(s);
    for (uint32_t n = loose_in(s, q) ? 1 : all; n <= all && n > 0; n++) {
        struct state out = *s;
        for (uint32_t i = 0; i < n; i++) goes_out(&out, q, s->list[q][i], actor);
        may_be(&out);
    }
}
/* n have been moved, then some are in the hand, or late. */
static void moves(struct state *s, uint32_t from, uint32_t to, uint32_t n, uint32_t in_hand, int late, int actor) {
    for (uint32_t i = 0; i < n + in_hand; i++) {
        uint32_t item = s->list[from][0];
        goes_out(s, from, item, actor);
        if (i < n)
            comes_in(s, to, item, actor);
        else if (late)
            is_late(s, to, item, actor);
    }
}
static void replay(const struct entry *e, int actor) {
    uint32_t from = e->s.op == EXCHANGE || e->s.op == SWAP || e->s.op == DRAIN ? e->s.q2 : e->s.q;
    uint32_t most = e->s.op == FILL || e->s.op == SWAP ? e->s.n : 1;
    int done = e->ended && e->rc >= 0;
    if (e->ended && e->rc < 0) return; /* nothing was changed */
    late_ones_come();
    for (int i = 0; i < candidates; i++) {
        struct state s = candidate[i];
        switch (e->s.op) {
        case PULL:
        case WAIT:
        case FILL:
            if (!done)
                may_go_out(&s, from, most, actor);
            else if (all_out(&s, from, e, actor))
                may_be(&s);
            break;
        case PUSH:
        case RETURN:
        case EMPTY:
            if (!done)
                may_be(&s), may_be_late(&s, e, actor);
            else if (all_in(&s, e, actor))
                may_be(&s);
            break;
        case EXCHANGE:
        case SWAP:
            if (!done) may_be(&s), may_be_late(&s, e, actor);
            if (!all_in(&s, e, actor)) break;
            if (!done)
                may_go_out(&s, from, most, actor);
            else if (all_out(&s, from, e, actor))
                may_be(&s);
            break;
        case FREE:
        case LEAVE:
            for (uint32_t k = 0; k < SET_ITEMS && done; k++) {
                int given = e->s.op == LEAVE;
                for (uint32_t g = 0; g < e->gives; g++) given |= e->given[g] == k;
                if (given && s.who[k] == actor) s.who[k] = LOOSE;
            }
            may_be(&s);
            break;
        case DRAIN:
            for (uint32_t n = done ? s.n[from] : 0; n <= candidate[i].n[from]; n++)
                for (uint32_t h = 0; n + h <= candidate[i].n[from]; h++) {
                    s = candidate[i];
                    moves(&s, from, e->s.q, n, h, 0, actor);
                    may_be(&s);
                    s = candidate[i];
                    if (h != 0) moves(&s, from, e->s.q, n, h, 1, actor), may_be(&s);
                }
            break;
        case RESET:
            if (!done) s.any = 1;
            for (uint32_t q = 1; q < SET_QUEUES_MOST && done; q++) {
                for (uint32_t k = 0; k < s.n[q]; k++) s.who[s.list[q][k]] = LOOSE;
                s.n[q] = 0;
                memset(s.list[q], 0, sizeof s.list[q]);
            }
            for (uint32_t k = 0; k < SET_ITEMS && done; k++)
                if (s.who[k] == LOOSE) s.home[k] = 0; /* those of the dead, too */
            may_be(&s);
            break;
        default: may_be(&s);
        }
    }
    take_next("a step", actor);
}
static void replay_all(int actor, int died) {
    struct journal *log = &shared->journal[actor];
    for (uint32_t i = 0; i < log->entries; i++)
        if (log->entry[i].begun) replay(&log->entry[i], actor);
    for (int i = 0; died && i < candidates; i++) {
        struct state s = candidate[i];
        for (uint32_t k = 0; k < SET_ITEMS; k++)
            if (s.who[k] == actor) s.who[k] = LOOSE;
        may_be(&s);
    }
    if (died) take_next("the death", actor);
}
/* All the loose ones are at home. */
static int matches(const struct state *s, const struct census *c, int strict) {
    if (s->any) return 1;
    for (uint32_t q = 0; q < c->queues; q++) {
        uint32_t at = 0, loose = 0;
        for (uint32_t i = 0; i < c->n[q]; i++) {
            uint32_t item = c->list[q][i];
            if (s->who[item] == LOOSE && s->home[item] == q) {
                loose++;
                continue;
            }
            if (at == s->n[q] || s->list[q][at++] != item || (strict && loose)) return 0;
        }
        if (at != s->n[q]) return 0;
    }
    for (uint32_t item = 0; item < SET_ITEMS; item++)
        if (s->who[item] == LATE || (s->who[item] >= 0) != (c->owner[item] != 0) ||
            (s->who[item] >= 0 && s->home[item] != c->home[item]))
            return 0;
    return 1;
}
static void tell(const struct state *s, const struct census *c) {
    for (uint32_t q = 0; q < SET_QUEUES_MOST; q++) {
        if (c ? c->n[q] == 0 : s->n[q] == 0) continue;
        printf("#   %s %u:", c ? "found in" : "expected in", q);
        for (uint32_t i = 0; i < (c ? c->n[q] : s->n[q]); i++) printf(" %u", c ? c->list[q][i] : s->list[q][i]);
        printf("\n");
    }
    for (uint32_t i = 0; i < SET_ITEMS; i++) {
        if (c && c->owner[i]) printf("#   item %u: slot %u, home %u\n", i, c->owner[i], c->home[i]);
        if (!c && s->who[i] != IN_QUEUE) printf("#   item %u: actor %d, home %u\n", i, s->who[i], s->home[i]);
    }
}
static void explain(struct shf_queue_set *s, int strict) {
    struct census c;
    census_take(s, &c);
    late_ones_come();
    for (int i = 0; i < candidates; i++)
        if (matches(&candidate[i], &c, strict)) return;
    FAIL("none of %d states is what is found", candidates);
    tell(NULL, &c);
    for (int i = 0; i < candidates && i < 4; i++) tell(&candidate[i], NULL);
}

/* ---- the file ---- */

static void read_image(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    free(S.image);
    S.image = test_alloc(S.image_size = (size_t)st.st_size);
    REQUIRE(read(fd, S.image, S.image_size) == st.st_size);
    close(fd);
}
static void write_image(const char *path) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, S.image, S.image_size) == (ssize_t)S.image_size);
    close(fd);
}
static void move_one(struct shf_queue *from, struct shf_queue *to) {
    struct shf_item item;
    REQUIRE_EQ_INT(shf_queue_pull(from, &item), SHF_OK);
    REQUIRE_EQ_INT(shf_queue_push(to, &item), SHF_OK);
}
static void begin(void) {
    sites_begin();
    if (!shared) shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != (struct shared *)MAP_FAILED);
    free(S.image);
    memset(&S, 0, sizeof S);
    S.touch = 1, S.hands = 5;
}
/* 16 items in `free`, 12 in `a`, 12 in `b`, none in `c`. The tails of `a` and `b` and the head of `a` cross the end
 * with the next few items. */
static void prepare(void) {
    const char *path = temp_path("prep");
    struct shf_queue_options o = set_new_options();
    struct shf_queue_set *s = NULL, *more[8] = {0};
    struct shf_queue *q[SET_NAMES];
    unlink(path);
    int rc = shf_queue_set_open(path, SHF_CREATE | SHF_EXCL, &o, &s);
    if (rc != SHF_OK) FAIL("create: %d, %s", rc, shf_last_error()->message), test_stop();
    for (uint32_t i = 0; i < SET_NAMES; i++) q[i] = set_queue(s, i);
    for (int i = 0; i < 61 - 12; i++) move_one(q[0], q[1]), move_one(q[1], q[0]);
    for (int i = 0; i < 12; i++) move_one(q[0], q[1]);
    for (int i = 0; i < 62 - 12; i++) move_one(q[0], q[2]), move_one(q[2], q[0]);
    for (int i = 0; i < 12; i++) move_one(q[0], q[2]);
    for (int i = 1; i < S.hands; i++) { /* a hand for each of the first slots; each queue stays as it is */
        more[i] = set_open(path, 0, 0);
        struct shf_queue *own = set_queue(more[i], 0);
        for (int k = 0; k < 16; k++) move_one(own, own);
    }
    for (int i = 1; i < S.hands; i++) shf_queue_set_close(more[i]);
    set_check(s);
    struct census c;
    census_take(s, &c);
    memset(&start, 0, sizeof start);
    for (uint32_t i = 0; i < SET_NAMES; i++)
        for (uint32_t k = 0; k < c.n[i]; k++) start.list[i][start.n[i]++] = (uint8_t)c.list[i][k];
    memset(start.who, IN_QUEUE, sizeof start.who);
    shf_queue_set_close(s);
    read_image(path);
    unlink(path);
}

/* ---- processes ---- */

/* What repairs, besides the last: it closes its handle. */
enum way { BY_RECOVER, BY_CHECK, BY_MOVE, BY_BATCH, BY_EMPTY_PULL, BY_LEN, BY_PUSH, BY_LEAVE, WAYS };
struct process {
    const char *path;
    uint32_t lock_ms;  /* 0: the default */
    int who, attached; /* attached: it opens, says so, and waits */
    uint64_t at;       /* the store at which it dies; 0: it lives */
    enum way way;
    int ready[2], go[2];
    pid_t pid;
};
static struct actor actor_of(struct shf_queue_set *s, int who) {
    return (struct actor){.s = s, .log = &shared->journal[who]};
}
static void repair_by(struct actor *a, enum way way) {
    uint32_t q = S.touch;
    switch (way) {
    case BY_RECOVER: act(a, (struct step){.op = RECOVER}); break;
    case BY_CHECK: act(a, (struct step){.op = CHECK_ALL}); break;
    case BY_MOVE:
        if (act(a, (struct step){.op = PULL, .q = q}) == SHF_OK) act(a, (struct step){.op = PUSH, .q = q});
        act(a, (struct step){.op = RECOVER});
        break;
    case BY_BATCH:
        act(a, (struct step){.op = BATCH, .n = SET_ITEMS});
        act(a, (struct step){.op = FILL, .q = q, .n = SET_ITEMS});
        act(a, (struct step){.op = EMPTY, .q = q});
        break;
    case BY_EMPTY_PULL:
        for (int n = 0; act(a, (struct step){.op = PULL, .q = EMPTY_QUEUE}) == SHF_OK && n < 20; n++) {}
        break;
    case BY_LEN: act(a, (struct step){.op = LEN, .q = q}); break;
    case BY_PUSH:
        if (act(a, (struct step){.op = PULL, .q = 0}) == SHF_OK) act(a, (struct step){.op = PUSH, .q = q});
        break;
    case BY_LEAVE:
    case WAYS:
        act(a, (struct step){.op = PULL, .q = q});
        act(a, (struct step){.op = LEAVE});
        break;
    }
}
static void live(void *arg) {
    struct process *p = arg;
    uint64_t before = shf__crash_count;
    char c = 0;
    unsigned role = p->who == FIRST_CHILD && S.befores == 0 ? FIRST : p->who == PREDECESSOR ? 0 : REPAIR;
    struct actor a = actor_of(NULL, p->who);
    if (p->attached) {
        a.s = set_open(p->path, 0, p->lock_ms);
        if (write(p->ready[1], &c, 1) != 1 || read(p->go[0], &c, 1) != 1) _exit(97);
        before = shf__crash_count;
    } else if (p->who == FIRST_CHILD && !S.arm_open) {
        a.s = set_open(p->path, 0, p->lock_ms);
    }
    if (p->who == FIRST_CHILD && !S.arm_open) act_all(&a, S.warm, S.warms), before = shf__crash_count;
    if (a.s) atomic_store(&a.s->shm->swept, 0); /* a look after the dead is due */
    if (p->at) shf__crash_at = before + p->at;
    sites_role = role, sites_trace_from = before;
    if (!a.s) a.s = set_open(p->path, 0, p->lock_ms);
    if (p->who == PREDECESSOR)
        act_all(&a, S.before, S.befores);
    else if (p->who == FIRST_CHILD)
        act_all(&a, S.step, S.steps);
    else
        repair_by(&a, p->way);
    shf__crash_at = 0;
    shared->stores = shf__crash_count - before;
    _exit(0); /* without a word: what it holds then is a dead one's */
}
static void start_process(struct process *p) {
    char c;
    if (p->attached) REQUIRE(pipe2(p->ready, O_CLOEXEC) == 0 && pipe2(p->go, O_CLOEXEC) == 0);
    p->pid = fork_child(live, p);
    if (p->attached) REQUIRE(read(p->ready[0], &c, 1) == 1);
}
/* 1: it completed. */
static int end_process(struct process *p) {
    if (p->attached) REQUIRE(write(p->go[1], "", 1) == 1);
    int rc = wait_child(p->pid, 20000);
    if (rc != 0) CHECK_EQ_INT(rc, CHILD_KILLED(SIGKILL));
    if (p->attached) close(p->ready[0]), close(p->ready[1]), close(p->go[0]), close(p->go[1]);
    killed += rc != 0;
    return rc == 0;
}

/* ---- the survivor ---- */

static int survivor_does(struct actor *a, struct step s) {
    int rc = act(a, s);
    struct journal *log = a->log;
    replay(&log->entry[log->entries - 1], SURVIVOR);
    log->entries = 0;
    return rc;
}
static int loose_at_least(uint32_t q) {
    int least = SET_ITEMS;
    for (int i = 0; i < candidates; i++) {
        int n = candidate[i].any ? 0 : loose_in(&candidate[i], q);
        if (n < least) least = n;
    }
    return least;
}
/* Everything is pulled by one who comes later, and lies in one queue then. */
static void all_is_usable(const char *path, struct shf_queue_set *s) {
    struct shf_queue_set *u = set_open(path, 0, 0);
    struct shf_batch *b[SET_QUEUES_MOST] = {0};
    struct census c;
    uint32_t n = 0, queues = shf_queue_count(u);
    for (uint32_t i = 0; i < queues; i++) {
        REQUIRE_EQ_INT(shf_batch_new(u, SET_ITEMS, &b[i]), SHF_OK);
        int rc = shf_queue_pull_many(set_queue(u, i), b[i], 0);
        if (rc < 0) FAIL("pull_many: %d, %s", rc, shf_last_error()->message);
        for (uint32_t k = 0; k < shf_batch_count(b[i]); k++) {
            uint32_t number = shf_batch_numbers(b[i])[k];
            CHECK(content_is(shf_batch_data(b[i], k), number, shared->written[number]));
        }
        n += shf_batch_count(b[i]);
    }
    CHECK_EQ_INT(n, SET_ITEMS);
    census_take(u, &c);
    CHECK_EQ_INT(c.held, SET_ITEMS);
    for (uint32_t i = 0; i < queues; i++) CHECK_EQ_INT(shf_queue_push_many(set_queue(u, 0), b[i]), SHF_OK);
    shf_queue_set_close(u);
    census_take(s, &c);
    CHECK_EQ_INT(c.n[0], SET_ITEMS);
}
static void survive(const char *path, struct actor *a, uint64_t turn, int strict) {
    struct shf_queue_set *s = a->s;
    uint64_t from = test_now_ns();
    switch (turn % 7) {
    case 0: set_check(s); break;
    case 1: break;
    case 2: /* a push, at once */
        if (a->items > 0) CHECK_EQ_INT(survivor_does(a, (struct step){.op = PUSH, .q = S.touch}), SHF_OK), strict = 0;
        break;
    case 3: /* one of each queue */
        for (uint32_t q = 0; q < SET_NAMES; q++)
            if (survivor_does(a, (struct step){.op = PULL, .q = q}) == SHF_OK) {
                struct shf_item own = a->item[0];
                if (a->items > 1) gone(a), a->item[a->items++] = own; /* the one just pulled is pushed */
                survivor_does(a, (struct step){.op = PUSH, .q = q}), strict = 0;
            }
        break;
    case 4: /* all of it */
        survivor_does(a, (struct step){.op = BATCH, .n = SET_ITEMS});
        survivor_does(a, (struct step){.op = FILL, .q = S.touch, .n = SET_ITEMS});
        survivor_does(a, (struct step){.op = EMPTY, .q = S.touch}), strict = 0;
        break;
    case 5: /* waits for what must come home */
        survivor_does(a, (struct step){.op = BATCH, .n = SET_ITEMS});
        survivor_does(a, (struct step){.op = FILL, .q = S.touch, .n = SET_ITEMS});
        while (loose_at_least(S.touch) > 0 && *test_failures == 0)
            CHECK_EQ_INT(survivor_does(a, (struct step){.op = WAIT, .q = S.touch, .n = HANG_MS}), SHF_OK);
        survivor_does(a, (struct step){.op = EMPTY, .q = S.touch}), strict = 0;
        break;
    case 6: survivor_does(a, (struct step){.op = LEN, .q = S.touch}); break;
    }
    from = test_now_ns() - from;
    if (turn % 7 != 5 && from > slowest_ns) slowest_ns = from;
    from = test_now_ns();
    int rc = shf_queue_set_recover(s);
    if (rc != SHF_OK) FAIL("recover: %d, %s", rc, shf_last_error()->message);
    from = test_now_ns() - from;
    if (from > slowest_ns) slowest_ns = from;
    explain(s, strict);
    struct shf_queue_report report = set_check(s);
    CHECK_EQ_INT(report.dead, 0);
    struct census c;
    census_take(s, &c);
    CHECK_EQ_INT(report.held, c.held);
    while (a->items > 0 && *test_failures == 0) survivor_does(a, (struct step){.op = RETURN});
    explain(s, 0);
    struct shf_queue *q = NULL;
    int created = 0;
    uint32_t queues = shf_queue_count(s), added = shf_queue_find(s, "added", &q) == SHF_OK;
    CHECK_EQ_INT(queues, SET_NAMES + added);
    if (turn % 3 == 0) {
        CHECK_EQ_INT(shf_queue_add(s, "added", &q, &created), SHF_OK);
        CHECK(created == !added && shf_queue_count(s) == SET_NAMES + 1);
    }
    if (turn % 4 == 1 || turn % 7 == 6) all_is_usable(path, s);
}

/* ---- deaths ---- */

struct deaths {
    uint64_t k;
    int two, attached;
    uint64_t j, l; /* the second one's store, 0: it lives; the third one's, 0: there is none */
    enum way way;
    uint64_t second_stores;
};
/* The survivor is there and holds an item. */
static struct actor survivor_begins(const char *path, uint32_t lock_timeout_ms) {
    struct actor a = actor_of(NULL, SURVIVOR);
    write_image(path);
    memset(shared, 0, sizeof *shared);
    candidate[0] = start, candidates = 1;
    if (S.alone) return a;
    a.s = set_open(path, 0, lock_timeout_ms);
    survivor_does(&a, (struct step){.op = PULL, .q = 0});
    return a;
}
static int deaths(struct deaths *d) {
    char path[192];
    snprintf(path, sizeof path, "%s", temp_path("q"));
    int broken = *test_failures;
    struct actor a = survivor_begins(path, 0);
    struct process before = {.path = path, .who = PREDECESSOR}, third = {.path = path, .who = THIRD_CHILD, .at = d->l};
    struct process first = {.path = path, .who = FIRST_CHILD, .attached = S.attached, .at = d->k};
    struct process second = {.path = path, .who = SECOND_CHILD, .attached = d->attached, .at = d->j, .way = d->way};
    if (first.attached) start_process(&first);
    if (d->two && second.attached) start_process(&second);
    if (S.befores) {
        start_process(&before);
        CHECK(end_process(&before));
        replay_all(PREDECESSOR, 1);
    }
    if (!first.attached) start_process(&first);
    int completed = end_process(&first);
    uint64_t stores = shared->stores;
    replay_all(FIRST_CHILD, 1);
    d->second_stores = 0;
    if (d->two) {
        if (!second.attached) start_process(&second);
        int lived = end_process(&second);
        d->second_stores = lived ? shared->stores : 0;
        pairs += !lived;
        replay_all(SECOND_CHILD, 1);
        if (!lived && d->l) {
            third.way = (enum way)(d->l % WAYS);
            start_process(&third);
            if (!end_process(&third)) thirds++;
            replay_all(THIRD_CHILD, 1);
        }
    }
    if (S.alone) a.s = set_open(path, 0, 0);
    survive(path, &a, d->k + d->j, !d->two && S.befores == 0);
    shf_queue_set_close(a.s);
    if (*test_failures != broken)
        FAIL("... at store %llu%s, second death %s %llu by way %d, third %llu", (unsigned long long)d->k,
             completed ? " (completed)" : "",
             !d->two       ? "none"
             : d->attached ? "attached"
                           : "opening",
             (unsigned long long)d->j, (int)d->way, (unsigned long long)d->l);
    if (completed) shared->stores = stores;
    return completed;
}
static void one_death(uint64_t k) {
    struct deaths d = {.k = k};
    deaths(&d);
}
/* A store of the trace at which nobody has died in that role, from `from` on; `stores`: there is none. */
static uint64_t fresh_store(const uint16_t *trace, uint64_t stores, uint64_t from, unsigned role) {
    while (from < stores && sites->killed[trace[from]] & role) from++;
    return from;
}
static void play(void) {
    static uint16_t trace[TRACED], later[TRACED];
    uint64_t full = test_env("SHF_CRASH_FULL", 0), singles = full ? 0 : test_env("SHF_CRASH_SINGLES", 60);
    uint64_t budget = test_env("SHF_CRASH_PAIRS", 16), before = killed, pairs_before = pairs, thirds_before = thirds;
    unsigned role = S.befores ? REPAIR : FIRST;
    prepare();
    scenarios++;
    struct deaths lives = {.k = 0};
    CHECK(deaths(&lives));
    uint64_t points = shared->stores;
    REQUIRE(points > 0 && points < TRACED);
    memcpy(trace, sites->trace, points * sizeof *trace);
    if (*test_failures) return;
    if (singles == 0 || points <= singles) {
        for (uint64_t k = 1; k <= points && !*test_failures; k++) one_death(k);
    } else {
        for (uint64_t i = 0; (i = fresh_store(trace, points, i, role)) < points && !*test_failures; i++)
            one_death(i + 1);
        for (uint64_t i = 0; i < singles && !*test_failures; i++) {
            uint64_t from = i * points / singles, to = (i + 1) * points / singles;
            one_death(from + 1 + test_rng() % (to - from));
        }
    }
    uint64_t single = killed - before;
    for (uint64_t k = 1; full && k <= points && !*test_failures; k++)
        for (int attached = 0; attached < 2 - S.alone; attached++)
            for (uint64_t j = 1; !*test_failures; j++) {
                struct deaths d = {
                    k, 1, attached, j, test_rng() % 8 ? 0 : 1 + test_rng() % (j + 20), (enum way)((k + j / 3) % WAYS),
                    0};
                deaths(&d);
                if (d.second_stores && d.second_stores < j) break;
            }
    while (!full && pairs - pairs_before < budget && !*test_failures) {
        struct deaths d = {.k = 1 + test_rng() % points,
                           .two = 1,
                           .attached = S.alone ? 0 : (int)(test_rng() % 2),
                           .way = (enum way)(test_rng() % WAYS)};
        deaths(&d); /* how many stores are there to die at? */
        uint64_t stores = d.second_stores, at = 0;
        REQUIRE(stores < TRACED);
        if (stores == 0) continue;
        memcpy(later, sites->trace, stores * sizeof *later);
        for (int i = 0; i < 7 && pairs - pairs_before < budget && !*test_failures; i++) {
            at = fresh_store(later, stores, at, REPAIR);
            d.j = at < stores && i < 6 ? at + 1 : 1 + test_rng() % stores;
            d.l = test_rng() % 8 ? 0 : 1 + test_rng() % (stores + 20);
            deaths(&d);
        }
    }
    printf("# %s: %llu stores, %llu of them deaths, %llu %s, %llu third deaths\n", test_name,
           (unsigned long long)points, (unsigned long long)single, (unsigned long long)(pairs - pairs_before),
           full ? "all pairs" : "pairs", (unsigned long long)(thirds - thirds_before));
}

/* ---- the scenarios ---- */

static void warm(struct step s) { S.warm[S.warms++] = s; }
static void step(struct step s) { S.step[S.steps++] = s; }
static void before(struct step s) { S.before[S.befores++] = s; }
#define DO(...) ((struct step){__VA_ARGS__})
#define SCENARIO(name)                                                                                                 \
    static void build_##name(void);                                                                                    \
    TEST(name) {                                                                                                       \
        begin();                                                                                                       \
        build_##name();                                                                                                \
        play();                                                                                                        \
    }                                                                                                                  \
    static void build_##name(void)
/* The life has its hand. */
static void warmed(void) { warm(DO(.op = PULL, .q = 0)), warm(DO(.op = RETURN)); }
/* Batches until one has no lease: it holds in the words. */
static void batch_in_words(void (*when)(struct step)) {
    for (uint32_t b = 0; b < SHF_HAND_LEASES; b++)
        when(DO(.op = BATCH, .n = 2, .b = b)), when(DO(.op = FILL, .q = 0, .n = 1, .b = b));
    when(DO(.op = BATCH, .n = SET_ITEMS, .b = SHF_HAND_LEASES));
}
#define WORDS SHF_HAND_LEASES

SCENARIO(pull) {
    warmed();
    step(DO(.op = PULL, .q = 1)), step(DO(.op = PULL, .q = 1)), step(DO(.op = PULL, .q = 3)),
        step(DO(.op = PULL, .q = 2));
}
SCENARIO(push) {
    warm(DO(.op = PULL, .q = 2)), warm(DO(.op = PULL, .q = 1)), warm(DO(.op = PULL, .q = 1)),
        warm(DO(.op = PULL, .q = 0));
    step(DO(.op = PUSH, .q = 1)), step(DO(.op = PUSH, .q = 1)), step(DO(.op = PUSH, .q = 2)),
        step(DO(.op = PUSH, .q = 1));
}
SCENARIO(push_into_an_empty_queue) {
    warm(DO(.op = PULL, .q = 1)), warm(DO(.op = PULL, .q = 1));
    step(DO(.op = PUSH, .q = 3)), step(DO(.op = PULL, .q = 3)), step(DO(.op = PUSH, .q = 3)),
        step(DO(.op = PUSH, .q = 3));
    S.touch = 3;
}
SCENARIO(exchange) {
    warm(DO(.op = PULL, .q = 0));
    step(DO(.op = EXCHANGE, .q = 2, .q2 = 1)), step(DO(.op = EXCHANGE, .q = 1, .q2 = 1)),
        step(DO(.op = EXCHANGE, .q = 1, .q2 = 3));
}
SCENARIO(return_of_one) {
    warm(DO(.op = PULL, .q = 1)), warm(DO(.op = PULL, .q = 2)), warm(DO(.op = PULL, .q = 1));
    step(DO(.op = RETURN)), step(DO(.op = RETURN)), step(DO(.op = RETURN));
}
SCENARIO(pull_many) {
    warmed(), warm(DO(.op = BATCH, .n = 8));
    step(DO(.op = FILL, .q = 1, .n = 8));
}
SCENARIO(push_many) {
    warm(DO(.op = BATCH, .n = 8)), warm(DO(.op = FILL, .q = 2, .n = 8));
    step(DO(.op = EMPTY, .q = 1)), step(DO(.op = FILL, .q = 1, .n = 8)), step(DO(.op = EMPTY, .q = 1));
}
SCENARIO(exchange_many) {
    warm(DO(.op = BATCH, .n = 7)), warm(DO(.op = FILL, .q = 2, .n = 7));
    step(DO(.op = SWAP, .q = 1, .q2 = 1, .n = 7)), step(DO(.op = SWAP, .q = 2, .q2 = 3, .n = 7));
}
SCENARIO(pull_many_in_words) {
    batch_in_words(warm);
    step(DO(.op = FILL, .q = 1, .n = 10, .b = WORDS));
}
SCENARIO(push_many_in_words) {
    batch_in_words(warm), warm(DO(.op = FILL, .q = 1, .n = 10, .b = WORDS));
    step(DO(.op = EMPTY, .q = 2, .b = WORDS)), step(DO(.op = SWAP, .q = 2, .q2 = 1, .n = 3, .b = WORDS));
    S.touch = 2;
}
SCENARIO(take_from_a_batch) {
    warm(DO(.op = BATCH, .n = 5)), warm(DO(.op = FILL, .q = 1, .n = 5));
    step(DO(.op = TAKE)), step(DO(.op = PUSH, .q = 2)), step(DO(.op = TAKE)), step(DO(.op = RETURN)),
        step(DO(.op = EMPTY, .q = 1));
}
SCENARIO(take_from_words) {
    batch_in_words(warm), warm(DO(.op = FILL, .q = 1, .n = 5, .b = WORDS));
    step(DO(.op = TAKE, .b = WORDS)), step(DO(.op = PUSH, .q = 2)), step(DO(.op = TAKE, .b = WORDS)),
        step(DO(.op = RETURN));
    step(DO(.op = EMPTY, .q = 1, .b = WORDS));
}
SCENARIO(free_of_batches) {
    batch_in_words(warm), warm(DO(.op = FILL, .q = 1, .n = 5, .b = WORDS));
    step(DO(.op = FREE, .b = WORDS)), step(DO(.op = FREE, .b = 1)), step(DO(.op = FREE, .b = 0));
}
#ifdef SHF_SMALL
SCENARIO(single_in_words) {
    for (uint32_t i = 0; i < SHF_HAND_SINGLES; i++) warm(DO(.op = PULL, .q = 0));
    step(DO(.op = PULL, .q = 1)), step(DO(.op = PUSH, .q = 2)), step(DO(.op = PULL, .q = 1));
}
#endif
SCENARIO(first_pull) { step(DO(.op = PULL, .q = 1)), step(DO(.op = PUSH, .q = 1)); }
SCENARIO(first_pull_makes_a_hand) {
    S.hands = 2;
    step(DO(.op = PULL, .q = 1)), step(DO(.op = PUSH, .q = 1));
}
SCENARIO(first_words) { batch_in_words(step), step(DO(.op = FILL, .q = 1, .n = 3, .b = WORDS)); }
SCENARIO(add) { step(DO(.op = ADD)); }
SCENARIO(drain) { step(DO(.op = DRAIN, .q = 2, .q2 = 1)); }
SCENARIO(drain_into_an_empty_queue) {
    warmed();
    step(DO(.op = DRAIN, .q = 3, .q2 = 1));
}
SCENARIO(reset) {
    warm(DO(.op = PULL, .q = 1)), warm(DO(.op = PULL, .q = 2));
    step(DO(.op = RESET));
}
SCENARIO(wait) {
    warmed();
    step(DO(.op = WAIT, .q = 3)), step(DO(.op = WAIT, .q = 1));
    S.touch = 3;
}
SCENARIO(wait_for_any) {
    warmed();
    step(DO(.op = WAIT_BOTH, .q = 3, .q2 = 3));
    S.touch = 3;
}
SCENARIO(attach_and_close) {
    S.arm_open = 1;
    step(DO(.op = PULL, .q = 1)), step(DO(.op = LEAVE));
}
SCENARIO(attach_alone) {
    S.arm_open = S.alone = 1;
    step(DO(.op = PULL, .q = 1)), step(DO(.op = RETURN));
}
SCENARIO(close_with_full_hands) {
    warm(DO(.op = PULL, .q = 1)), warm(DO(.op = PULL, .q = 2)), batch_in_words(warm);
    warm(DO(.op = FILL, .q = 1, .n = 4, .b = WORDS));
    step(DO(.op = LEAVE));
}

/* A predecessor has died with these in its hand and words, in the middle of nothing. */
static void died_holding(void) {
    before(DO(.op = PULL, .q = 1)), before(DO(.op = PULL, .q = 2)), batch_in_words(before);
    before(DO(.op = FILL, .q = 1, .n = 4, .b = WORDS));
}
#define REPAIRED(name, is_attached, ...)                                                                               \
    SCENARIO(name) {                                                                                                   \
        died_holding();                                                                                                \
        S.attached = is_attached, S.arm_open = !is_attached;                                                           \
        struct step s[] = {__VA_ARGS__};                                                                               \
        for (size_t i = 0; i < sizeof s / sizeof *s; i++) step(s[i]);                                                  \
    }
REPAIRED(recover, 1, DO(.op = RECOVER))
REPAIRED(check_beside_the_dead, 1, DO(.op = CHECK_ALL))
REPAIRED(recover_in_the_slot_of_the_dead, 0, DO(.op = RECOVER))
REPAIRED(pull_in_the_slot_of_the_dead, 0, DO(.op = PULL, .q = 0), DO(.op = PULL, .q = 1), DO(.op = PUSH, .q = 2))
REPAIRED(empty_pull, 1, DO(.op = PULL, .q = 3))
REPAIRED(len, 1, DO(.op = LEN, .q = 1))
REPAIRED(wait_beside_the_dead, 1, DO(.op = WAIT, .q = 3))
REPAIRED(close_beside_the_dead, 1, DO(.op = PULL, .q = 1), DO(.op = LEAVE))
REPAIRED(reset_beside_the_dead, 1, DO(.op = RESET))

/* ---- creation ---- */

static void create_and_die(void *arg) {
    struct process *p = arg;
    struct shf_queue_options o = set_new_options();
    struct shf_queue_set *s = NULL;
    sites_role = FIRST;
    shf__crash_at = shf__crash_count + p->at;
    CHECK_EQ_INT(shf_queue_set_open(p->path, SHF_CREATE | SHF_EXCL, &o, &s), SHF_OK);
    shf__crash_at = 0;
    shf_queue_set_close(s);
}
TEST(create) {
    char path[192];
    snprintf(path, sizeof path, "%s", temp_path("new"));
    begin();
    scenarios++;
    struct process p = {.path = path, .at = 1};
    for (int rc = -1; rc != 0 && *test_failures == 0; p.at++) {
        struct shf_queue_options o = set_new_options();
        struct shf_queue_set *s = NULL;
        struct census c;
        rc = run_child(create_and_die, &p, 20000);
        CHECK(rc == 0 || rc == CHILD_KILLED(SIGKILL));
        killed += rc != 0;
        int there = access(path, F_OK) == 0;
        int code = shf_queue_set_open(path, SHF_CREATE | (there ? 0 : SHF_EXCL), &o, &s);
        if (code != SHF_OK)
            FAIL("create after a death at store %llu: %d, %s", (unsigned long long)p.at, code,
                 shf_last_error()->message),
                test_stop();
        set_check(s);
        census_take(s, &c);
        CHECK_EQ_INT(c.n[0], SET_ITEMS);
        for (uint32_t i = 0; i < SET_ITEMS; i++) CHECK_EQ_INT(c.list[0][i], i);
        shf_queue_set_close(s);
        unlink(path);
    }
    CHECK(p.at > 40);
}

/* ---- a stopped repairer, and a new life in the slot of the dead ---- */

static uint64_t stop_at, stops, refused;
static void stop_here(const void *site) {
    (void)site;
    if (shf__crash_count == stop_at) raise(SIGSTOP);
}
/* attached: it repairs by recover. Else it enters the slot of the dead, and pulls. */
static void be_stopped(void *arg) {
    struct process *p = arg;
    char c = 0;
    struct actor a = actor_of(NULL, FIRST_CHILD);
    if (p->attached) {
        a.s = set_open(p->path, 0, 0);
        if (write(p->ready[1], &c, 1) != 1 || read(p->go[0], &c, 1) != 1) _exit(97);
    }
    shf__crash_hook = stop_here;
    stop_at = shf__crash_count + p->at;
    if (p->attached) {
        act(&a, DO(.op = RECOVER));
    } else {
        a.s = set_open(p->path, 0, 0);
        act(&a, DO(.op = PULL, .q = 0));
        act(&a, DO(.op = PULL, .q = 1));
    }
    _exit(0);
}
/* killed_at: meanwhile a second repairer dies at that store; 0: a new life enters instead. */
static int stopped(uint64_t at, int is_attached, int kill_it, uint64_t killed_at) {
    char path[192];
    int status, broken = *test_failures;
    snprintf(path, sizeof path, "%s", temp_path("q"));
    struct actor a = survivor_begins(path, 20), n = actor_of(NULL, ENTRANT);
    struct process p = {.path = path, .who = FIRST_CHILD, .attached = is_attached, .at = at};
    struct process dead = {.path = path, .who = PREDECESSOR};
    if (is_attached) REQUIRE(pipe2(p.ready, O_CLOEXEC) == 0 && pipe2(p.go, O_CLOEXEC) == 0);
    if (is_attached) {
        char c;
        p.pid = fork_child(be_stopped, &p);
        REQUIRE(read(p.ready[0], &c, 1) == 1);
    }
    start_process(&dead);
    CHECK(end_process(&dead));
    replay_all(PREDECESSOR, 1);
    if (is_attached)
        REQUIRE(write(p.go[1], "", 1) == 1);
    else
        p.pid = fork_child(be_stopped, &p);
    REQUIRE(waitpid(p.pid, &status, WUNTRACED) == p.pid);
    int completed = WIFEXITED(status), entered = 0;
    if (completed) {
        CHECK_EQ_INT(WEXITSTATUS(status), 0);
    } else {
        CHECK(WIFSTOPPED(status));
        stops++;
        int rc = SHF_OK;
        if (killed_at != 0) {
            struct process other = {
                .path = path, .who = THIRD_CHILD, .lock_ms = 20, .at = killed_at, .way = BY_RECOVER};
            start_process(&other);
            pairs += !end_process(&other);
            replay_all(THIRD_CHILD, 1);
        } else if (is_attached) { /* into the slot of the dead; holds, while the late one is in the middle of D3 */
            struct shf_queue_options o = set_options(20);
            rc = shf_queue_set_open(path, 0, &o, &n.s);
            if (rc != SHF_OK) FAIL("open beside a stopped repairer: %d, %s", rc, shf_last_error()->message);
            for (uint32_t q = 0; rc == SHF_OK && q < 3; q++)
                refused += act(&n, DO(.op = PULL, .q = q)) == SHF_ERR_TIMEOUT;
            entered = n.s != NULL;
        } else {
            rc = shf_queue_set_recover(a.s);
            refused += rc == SHF_ERR_TIMEOUT;
            CHECK(rc == SHF_OK || rc == SHF_ERR_TIMEOUT);
        }
        kill(p.pid, kill_it ? SIGKILL : SIGCONT);
        CHECK_EQ_INT(wait_child(p.pid, 20000), kill_it ? CHILD_KILLED(SIGKILL) : 0);
        killed += (uint64_t)kill_it;
    }
    if (is_attached) close(p.ready[0]), close(p.ready[1]), close(p.go[0]), close(p.go[1]);
    if (entered) { /* nobody has taken from it what it holds */
        for (uint32_t i = 0; i < n.items; i++)
            CHECK(content_is(n.item[i].data, n.item[i].number, shared->written[n.item[i].number]));
        while (n.items > 0 && *test_failures == 0) CHECK_EQ_INT(act(&n, DO(.op = PUSH, .q = 3)), SHF_OK);
        act(&n, DO(.op = PULL, .q = 3));
        CHECK_EQ_INT(shf_queue_set_recover(n.s), SHF_OK);
    }
    replay_all(FIRST_CHILD, 1);
    replay_all(ENTRANT, 0);
    for (int i = 0; i < candidates; i++)
        for (uint32_t k = 0; k < SET_ITEMS; k++)
            if (candidate[i].who[k] == ENTRANT) candidate[i].who[k] = LOOSE;
    shf_queue_set_close(n.s);
    survive(path, &a, at % 2, 0);
    shf_queue_set_close(a.s);
    if (*test_failures != broken)
        FAIL("... %s, stopped at store %llu, %s; another one killed at store %llu",
             is_attached ? "a repairer" : "a new life", (unsigned long long)at, kill_it ? "killed" : "goes on",
             (unsigned long long)killed_at);
    return completed;
}
static void play_stops(int is_attached, int two) {
    uint64_t most = test_env("SHF_STOPS", TEST_SANITIZED ? 8 : 24), points = 1, before_stops = stops;
    begin();
    died_holding();
    prepare();
    scenarios++;
    for (uint64_t step_ = 64; step_ > 0; step_ /= 4) /* how many stores there are, roughly from below */
        while (!stopped(points + step_, is_attached, 1, 0) && *test_failures == 0) points += step_;
    if (most == 0 || points < most) most = points;
    for (uint64_t i = 0; i < most && !*test_failures; i++) {
        uint64_t from = i * points / most, to = (i + 1) * points / most;
        stopped(from + 1 + test_rng() % (to - from), is_attached, !two && i % 3 == 2,
                two ? 1 + test_rng() % (points + 10) : 0);
    }
    printf("# %s: %llu stores, stopped %llu times\n", test_name, (unsigned long long)points,
           (unsigned long long)(stops - before_stops));
}
TEST(a_repairer_is_stopped_while_a_new_life_enters) { play_stops(1, 0); }
TEST(a_new_life_is_stopped_while_others_repair) { play_stops(0, 0); }
TEST(a_repairer_is_stopped_while_another_dies) { play_stops(1, 1); }

TEST(totals) {
    sites_total();
    printf("# total: %llu items of queue sets looked for after deaths, %llu lost, %llu twice; %llu repairers and new "
           "lives stopped, %llu "
           "calls refused meanwhile\n",
           (unsigned long long)census_items, (unsigned long long)census_lost, (unsigned long long)census_twice,
           (unsigned long long)stops, (unsigned long long)refused);
}

int main(int argc, char **argv) { return run(argc, argv); }
