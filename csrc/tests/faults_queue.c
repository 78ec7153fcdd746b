// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * faults_queue.c - every call of shf_queue.h while its system calls fail, one after the other
 *
 * As faults_table.c: for k = 1, 2, ... the k-th system call of an act fails, alone or with all that follow, until none
 * is reached any more. The seed chooses the errno; SHF_FAULTS_FULL=1: each.
 *
 * SITUATIONS  plain    a handle that holds an item and a full batch     cold     a handle's first use: it needs a hand
 *             dead     somebody died within a push, holding items       held     all locks are held by a live process
 *             forked   the first use of an inherited handle in a child
 * AFTERWARDS  The outcome is legal and told. An error has changed nothing: each queue has the items that it had. What
 *             the handle holds goes back; a new handle works, `check` and the census find each item once, none is held
 *             any more; no descriptor and no mapping is left (memory: the address sanitizer's flavour).
 */
#define FAULTS_HEADER "shf_queue.h"
#include "faults_model.h"
#include "model.h"
#include "queue_model.h"

enum situation { PLAIN, COLD, DEAD, HELD, FORKED, SITUATIONS };
static const char *const situation_names[] = {"plain", "cold", "dead", "held", "forked"};

struct run {
    struct shf_queue_set *s;
    struct shf_queue *q[SET_NAMES];
    struct shf_item item, more;
    struct shf_batch *b;
    enum situation in;
    int read_only;
};
static char path[192];
static unsigned char *image;
static size_t image_size;

/* ---- acts ---- */

static struct shf_queue_options hasty_new(void) {
    struct shf_queue_options o = set_new_options();
    o.lock_timeout_ms = 2; /* locks fail, too */
    return o;
}

/* An item and a batch are held: from before, or pulled now. */
static int holding(struct run *r) {
    int rc = SHF_OK;
    if (r->b == NULL) rc = shf_batch_new(r->s, 6, &r->b);
    if (rc == SHF_OK && r->in >= FORKED) r->item.data = NULL; /* the parent's */
    if (rc == SHF_OK && r->item.data == NULL) rc = shf_queue_pull(r->q[1], &r->item);
    if (rc == SHF_OK && (shf_batch_count(r->b) == 0 || r->in == FORKED)) rc = shf_queue_pull_many(r->q[2], r->b, 5);
    return rc;
}
static int opened(int rc, struct shf_queue_set *s) {
    CHECK((rc == SHF_OK) == (s != NULL));
    uint64_t at = quiet();
    if (s != NULL) CHECK_EQ_INT(shf_queue_set_items(s), SET_ITEMS);
    shf_queue_set_close(s);
    loud(at);
    return rc;
}
static int open_as(const char *name, unsigned flags) {
    struct shf_queue_options o = flags & SHF_CREATE ? hasty_new() : set_options(2);
    struct shf_queue_set *s = NULL;
    int rc = shf_queue_set_open(name, flags, &o, &s);
    return opened(rc, s);
}
static int act_open(struct run *r) { return (void)r, open_as(path, 0); }
static int act_open_create(struct run *r) { return (void)r, open_as(path, SHF_CREATE); }
static int act_open_read_only(struct run *r) { return (void)r, open_as(path, SHF_RDONLY); }
static int act_open_excl(struct run *r) {
    int rc = open_as(path, SHF_CREATE | SHF_EXCL);
    (void)r;
    CHECK(rc < 0);
    return rc;
}
static int creates(unsigned flags) {
    const char *name = temp_path("new");
    int rc = open_as(name, flags);
    uint64_t at = quiet();
    if (access(name, F_OK) == 0) /* whole, also when the maker could not attach to it */
        CHECK_EQ_INT(open_as(name, 0), SHF_OK);
    else
        CHECK(rc != SHF_OK);
    loud(at);
    unlink(name);
    return rc;
}
static int act_create(struct run *r) { return (void)r, creates(SHF_CREATE); }
static int act_create_by_private_name(struct run *r) {
    (void)r;
    no_tmpfile = 1;
    int rc = creates(SHF_CREATE | SHF_EXCL);
    no_tmpfile = 0;
    return rc;
}
static int act_anonymous(struct run *r) {
    struct shf_queue_options o = hasty_new();
    struct shf_queue_set *s = NULL;
    (void)r;
    int rc = shf_queue_set_anonymous("faults", &o, &s);
    return opened(rc, s);
}
static int from(int flags) {
    struct shf_queue_options o = set_options(2);
    struct shf_queue_set *s = NULL;
    uint64_t at = quiet();
    int fd = open(path, flags | O_CLOEXEC);
    loud(at);
    int rc = shf_queue_set_from_fd(fd, &o, &s);
    close(fd);
    return opened(rc, s);
}
static int act_from_fd(struct run *r) { return (void)r, from(O_RDWR); }
static int act_from_fd_read_only(struct run *r) { return (void)r, from(O_RDONLY); }
static int act_close(struct run *r) {
    shf_queue_set_close(r->s), r->s = NULL, r->b = NULL;
    return SHF_OK;
}
static int act_handle(struct run *r) {
    CHECK(shf_queue_set_fd(r->s) >= 0 && strcmp(shf_queue_set_path(r->s), path) == 0);
    CHECK_EQ_INT(shf_queue_set_is_read_only(r->s), r->read_only);
    CHECK(shf_queue_set_items(r->s) == SET_ITEMS && shf_queue_set_item_size(r->s) == SET_ITEM_SIZE);
    CHECK(shf_queue_set_data(r->s) != NULL && shf_queue_set_stride(r->s) == 64);
    return SHF_OK;
}
static int act_names(struct run *r) {
    struct shf_queue *q = NULL;
    uint32_t n = shf_queue_count(r->s);
    int rc = shf_queue_at(r->s, 1, &q);
    CHECK(n == SET_NAMES && (rc != SHF_OK || (strcmp(shf_queue_name(q), "a") == 0 && shf_queue_index(q) == 1)));
    CHECK(rc != SHF_OK || shf_queue_set_of(q) == r->s);
    return rc == SHF_OK ? shf_queue_find(r->s, "b", &q) : rc;
}
static int act_add(struct run *r) {
    struct shf_queue *q = NULL;
    int created = 0, rc = shf_queue_add(r->s, "added", &q, &created);
    if (rc == SHF_OK) CHECK(created == 1 && shf_queue_count(r->s) == SET_NAMES + 1);
    return rc;
}
static int act_add_known(struct run *r) {
    struct shf_queue *q = NULL;
    int created = 7, rc = shf_queue_add(r->s, "a", &q, &created);
    if (rc == SHF_OK) CHECK(created == 0 && q == r->q[1]);
    return rc;
}
static int pulled(int rc, const struct shf_item *item) {
    if (rc == SHF_OK) CHECK(item->data != NULL && item->number < SET_ITEMS);
    return rc;
}
static int act_pull(struct run *r) { return pulled(shf_queue_pull(r->q[1], &r->more), &r->more); }
static int act_pull_empty(struct run *r) {
    int rc = shf_queue_pull(r->q[3], &r->more);
    CHECK(rc != SHF_OK || r->in == DEAD); /* the dead one's push is made good */
    return rc;
}
static int act_pull_wait(struct run *r) {
    int rc = shf_queue_pull_wait(r->q[3], 200000, &r->more);
    CHECK(rc != SHF_OK || r->in == DEAD);
    return rc <= SHF_OK ? rc : pulled(shf_queue_pull_wait(r->q[1], SHF_WAIT_FOREVER, &r->more), &r->more);
}
static int act_push(struct run *r) {
    int rc = holding(r);
    if (rc == SHF_OK) rc = shf_queue_push(r->q[3], &r->item);
    CHECK(rc != SHF_OK || r->item.data == NULL);
    return rc;
}
static int act_exchange(struct run *r) {
    int rc = holding(r);
    return rc == SHF_OK ? shf_queue_exchange(r->q[3], &r->item, r->q[2]) : rc;
}
static int act_return(struct run *r) {
    int rc = holding(r);
    return rc == SHF_OK ? shf_item_return(r->s, &r->item) : rc;
}
static int act_batch(struct run *r) {
    struct shf_batch *b = NULL;
    int rc = shf_batch_new(r->s, 7, &b);
    if (rc != SHF_OK) return rc;
    rc = shf_queue_pull_many(r->q[0], b, 0);
    CHECK(shf_batch_capacity(b) == 7 && shf_batch_count(b) == (rc == SHF_OK ? 7u : 0u));
    for (uint32_t i = 0; i < shf_batch_count(b); i++)
        CHECK(shf_batch_data(b, i) ==
              (char *)shf_queue_set_data(r->s) + shf_batch_numbers(b)[i] * shf_queue_set_stride(r->s));
    shf_batch_free(b);
    return rc;
}
static int act_take(struct run *r) {
    int rc = holding(r);
    return rc == SHF_OK ? pulled(shf_batch_take(r->b, &r->more), &r->more) : rc;
}
static int act_pull_many(struct run *r) {
    int rc = holding(r);
    if (rc == SHF_OK) rc = shf_queue_push_many(r->q[2], r->b);
    return rc == SHF_OK ? shf_queue_pull_many(r->q[2], r->b, 4) : rc;
}
static int act_pull_many_wait(struct run *r) {
    int rc = holding(r);
    if (rc == SHF_OK) rc = shf_queue_push_many(r->q[2], r->b);
    if (rc == SHF_OK) rc = shf_queue_pull_many_wait(r->q[3], r->b, 4, 200000);
    return rc == SHF_NOT_FOUND ? shf_queue_pull_many_wait(r->q[2], r->b, 4, SHF_WAIT_FOREVER) : rc;
}
static int act_push_many(struct run *r) {
    int rc = holding(r);
    return rc == SHF_OK ? shf_queue_push_many(r->q[3], r->b) : rc;
}
static int act_exchange_many(struct run *r) {
    int rc = holding(r);
    return rc == SHF_OK ? shf_queue_exchange_many(r->q[3], r->b, r->q[1], 3) : rc;
}
static int act_wait_any(struct run *r) {
    uint32_t which = 9;
    int rc = shf_queue_wait_any(&r->q[3], 1, 200000, &which);
    if (rc == SHF_NOT_FOUND) rc = shf_queue_wait_any(r->q, SET_NAMES, SHF_WAIT_FOREVER, &which);
    if (rc == SHF_OK) CHECK_EQ_INT(which, 0);
    return rc;
}
/* An item makes it readable, an empty pull unreadable. */
static int act_wait_fd(struct run *r) {
    int fd = -1, rc = shf_queue_wait_fd(r->q[3], &fd);
    if (rc != SHF_OK || r->in != PLAIN) return rc;
    struct pollfd readable = {fd, POLLIN, 0};
    uint64_t at = quiet();
    CHECK_EQ_INT(shf_queue_push(r->q[3], &r->item), SHF_OK);
    CHECK_EQ_INT(poll(&readable, 1, HANG_MS), 1);
    loud(at);
    rc = shf_queue_pull(r->q[3], &r->more);
    if (rc != SHF_OK) return rc;
    at = quiet();
    CHECK_EQ_INT(shf_queue_push(r->q[0], &r->more), SHF_OK);
    loud(at);
    return shf_queue_pull(r->q[3], &r->more);
}
static int act_len(struct run *r) {
    uint64_t n = 0;
    int rc = shf_queue_len(r->q[0], &n);
    if (rc == SHF_OK) CHECK(n > 0 && n <= SET_ITEMS);
    return rc;
}
static int act_stats(struct run *r) {
    struct shf_queue_stats stats = {.size = sizeof stats};
    int rc = shf_queue_stats(r->q[0], &stats);
    if (rc == SHF_OK) CHECK(stats.capacity == SET_ITEMS && stats.pushed - stats.pulled == stats.len);
    return rc;
}
static int act_drain(struct run *r) {
    uint64_t moved = 0;
    return shf_queue_drain(r->q[1], r->q[3], &moved);
}
static int act_reset(struct run *r) { return shf_queue_set_reset(r->s); }
static int act_recover(struct run *r) { return shf_queue_set_recover(r->s); }
static int act_check(struct run *r) {
    struct shf_queue_report report = {.size = sizeof report};
    int rc = shf_queue_set_check(r->s, &report);
    if (rc == SHF_OK) CHECK_EQ_INT(report.in_queues + report.held + report.dead, SET_ITEMS);
    return rc;
}

#define OPENS 1 /* needs no handle */
#define STEPS 2 /* of several steps: an error may leave the first ones done */
#define CHANGES 4
static const struct act {
    int (*act)(struct run *r);
    unsigned how;
    const char *functions;
} acts[] = {
    {act_open, OPENS, "shf_queue_set_open shf_queue_set_close"},
    {act_open_create, OPENS, "shf_queue_set_open"},
    {act_open_read_only, OPENS, "shf_queue_set_open"},
    {act_open_excl, OPENS, "shf_queue_set_open"},
    {act_create, OPENS, "shf_queue_set_open"},
    {act_create_by_private_name, OPENS, "shf_queue_set_open"},
    {act_anonymous, OPENS, "shf_queue_set_anonymous"},
    {act_from_fd, OPENS, "shf_queue_set_from_fd"},
    {act_from_fd_read_only, OPENS, "shf_queue_set_from_fd"},
    {act_close, STEPS, "shf_queue_set_close"},
    {act_handle, 0,
     "shf_queue_set_fd shf_queue_set_path shf_queue_set_is_read_only shf_queue_set_items shf_queue_set_item_size "
     "shf_queue_set_data shf_queue_set_stride"},
    {act_names, 0, "shf_queue_find shf_queue_count shf_queue_at shf_queue_name shf_queue_index shf_queue_set_of"},
    {act_add, CHANGES, "shf_queue_add"},
    {act_add_known, 0, "shf_queue_add"},
    {act_pull, CHANGES, "shf_queue_pull"},
    {act_pull_empty, CHANGES, "shf_queue_pull"},
    {act_pull_wait, CHANGES, "shf_queue_pull_wait"},
    {act_push, CHANGES, "shf_queue_push"},
    {act_exchange, CHANGES | STEPS, "shf_queue_exchange"},
    {act_return, CHANGES, "shf_item_return"},
    {act_batch, CHANGES,
     "shf_batch_new shf_batch_free shf_batch_count shf_batch_capacity shf_batch_data shf_batch_numbers"},
    {act_take, CHANGES, "shf_batch_take"},
    {act_pull_many, CHANGES | STEPS, "shf_queue_pull_many"},
    {act_pull_many_wait, CHANGES | STEPS, "shf_queue_pull_many_wait"},
    {act_push_many, CHANGES, "shf_queue_push_many"},
    {act_exchange_many, CHANGES | STEPS, "shf_queue_exchange_many"},
    {act_wait_any, 0, "shf_queue_wait_any"},
    {act_wait_fd, CHANGES | STEPS, "shf_queue_wait_fd"},
    {act_len, 0, "shf_queue_len"},
    {act_stats, 0, "shf_queue_stats"},
    {act_drain, CHANGES | STEPS, "shf_queue_drain"},
    {act_reset, CHANGES | STEPS, "shf_queue_set_reset"},
    {act_recover, CHANGES, "shf_queue_set_recover"},
    {act_check, CHANGES, "shf_queue_set_check"},
};
#define ACTS (sizeof acts / sizeof *acts)

/* ---- one run ---- */

static struct { uint64_t runs, errors; } * total; /* shared with children */

static void put_image(void) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, image, image_size) == (ssize_t)image_size);
    close(fd);
}
/* 16 items in `free`, 12 in `a`, 12 in `b`; no hands. */
static void make_image(void) {
    struct shf_queue_options o = set_new_options();
    struct shf_queue_set *s = NULL;
    struct stat st;
    snprintf(path, sizeof path, "%s", temp_path("q"));
    unlink(path);
    REQUIRE_EQ_INT(shf_queue_set_open(path, SHF_CREATE | SHF_EXCL, &o, &s), SHF_OK);
    for (uint32_t to = 1; to < 3; to++)
        for (int i = 0; i < 12; i++) {
            struct shf_item item;
            REQUIRE_EQ_INT(shf_queue_pull(set_queue(s, 0), &item), SHF_OK);
            REQUIRE_EQ_INT(shf_queue_push(set_queue(s, to), &item), SHF_OK);
        }
    shf_queue_set_close(s);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    free(image);
    image = test_alloc(image_size = (size_t)st.st_size);
    REQUIRE(read(fd, image, image_size) == st.st_size);
    close(fd);
}
/* Holds two items in its hand, two in a lease and two in its words, and dies in a push. */
static void die_in_a_push(void *arg) {
    struct shf_queue_set *s = set_open(path, 0, 0);
    struct shf_queue *q = set_queue(s, 1);
    struct shf_item item, more;
    struct shf_batch *b;
    (void)arg;
    REQUIRE(shf_queue_pull(q, &item) == SHF_OK && shf_queue_pull(q, &more) == SHF_OK);
    for (uint32_t i = 0; i <= SHF_HAND_LEASES; i++) REQUIRE_EQ_INT(shf_batch_new(s, 2, &b), SHF_OK);
    REQUIRE_EQ_INT(shf_queue_pull_many(q, b, 2), SHF_OK);
    shf__crash_at = shf__crash_count + 5; /* lock, entry, from, new_tail */
    shf_queue_push(set_queue(s, 3), &item);
}
struct holder {
    pid_t pid;
    int ready[2], go[2];
};
static void hold(void *arg) {
    struct holder *h = arg;
    struct shf_queue_set *s = set_open(path, 0, 0);
    char c = 0;
    REQUIRE_EQ_INT(shf__lock(&s->registry, &s->shm->word, NULL), SHF_OK);
    for (uint32_t i = 0; i < SET_NAMES; i++) {
        struct shf_queue *q = set_queue(s, i);
        REQUIRE(shf__queue_lock_tail(q) == SHF_OK && shf__queue_lock_head(q) == SHF_OK);
    }
    REQUIRE_EQ_INT(shf__lock(&s->registry, &s->region.header->grow_word, NULL), SHF_OK);
    REQUIRE(write(h->ready[1], &c, 1) == 1 && read(h->go[0], &c, 1) == 1);
    shf__unlock(&s->region.header->grow_word);
    for (uint32_t i = 0; i < SET_NAMES; i++) {
        shf__unlock(&s->queues[i].shm->head_word);
        shf__unlock(&s->queues[i].shm->tail_word);
    }
    shf__unlock(&s->shm->word);
    shf_queue_set_close(s);
}
static void hold_begin(struct holder *h) {
    char c;
    REQUIRE(pipe2(h->ready, O_CLOEXEC) == 0 && pipe2(h->go, O_CLOEXEC) == 0);
    h->pid = fork_child(hold, h);
    REQUIRE(read(h->ready[0], &c, 1) == 1);
}
static void hold_end(struct holder *h) {
    REQUIRE(write(h->go[1], "", 1) == 1);
    CHECK_EQ_INT(wait_child(h->pid, 20000), 0);
    for (int i = 0; i < 2; i++) close(h->ready[i]), close(h->go[i]);
}

static void told(const struct act *a, const struct run *r, int rc) {
    const struct shf_error_info *e = shf_last_error();
    CHECK(rc >= SHF_ERR_INVALID_ITEM && rc <= SHF_NOT_FOUND);
    if (rc >= 0) return;
    __atomic_add_fetch(&total->errors, 1, __ATOMIC_RELAXED);
    CHECK_EQ_INT(e->code, rc);
    CHECK(e->message[0] != 0 && e->place[0] != 0);
    if (fault.hits && rc != SHF_ERR_READ_ONLY && (e->path[0] == 0 || !strstr(e->message, e->path)))
        FAIL("the message names no file: %s (%s)", e->message, e->place);
    if (!(a->how & OPENS) && strcmp(e->path, path) != 0) FAIL("another file is named: %s", e->path);
    if (rc == SHF_ERR_CORRUPT || rc == SHF_ERR_INCOMPATIBLE || rc == SHF_ERR_UNCLEAN || rc == SHF_ERR_INVALID ||
        rc == SHF_ERR_FULL || rc == SHF_ERR_TOO_LONG || rc == SHF_ERR_INVALID_ITEM)
        FAIL("the wrong error: %s", e->message);
    if ((a->how & CHANGES) && r->read_only && rc != SHF_ERR_IO) CHECK_EQ_INT(rc, SHF_ERR_READ_ONLY);
}
/* Who has which items: a mask for each queue, then for those that are held. */
static void masks_of(struct shf_queue_set *s, uint64_t masks[SET_NAMES + 1]) {
    struct census c;
    census_take(s, &c);
    memset(masks, 0, (SET_NAMES + 1) * sizeof *masks);
    for (uint32_t i = 0; i < SET_NAMES; i++)
        for (uint32_t k = 0; k < c.n[i]; k++) masks[i] |= UINT64_C(1) << c.list[i][k];
    for (uint32_t k = 0; k < SET_ITEMS; k++)
        if (c.owner[k]) masks[SET_NAMES] |= UINT64_C(1) << k;
}
/* All goes back; the set is whole, and works by a new handle. */
static void verify(struct run *r) {
    struct census c;
    uint32_t me = r->s != NULL ? shf__registry_own(&r->s->registry) : 0;
    if (r->item.owner != me) r->item.data = NULL; /* the parent's */
    if (r->b != NULL && r->b->owner != me) r->b = NULL;
    if (r->s != NULL && !r->read_only) {
        if (r->item.data != NULL) CHECK_EQ_INT(shf_item_return(r->s, &r->item), SHF_OK);
        if (r->more.data != NULL) CHECK_EQ_INT(shf_item_return(r->s, &r->more), SHF_OK);
        if (r->b != NULL) CHECK_EQ_INT(shf_queue_push_many(r->q[2], r->b), SHF_OK);
        CHECK_EQ_INT(shf_queue_set_recover(r->s), SHF_OK);
        if (r->in != FORKED) CHECK_EQ_INT(set_check(r->s).held, 0);
    }
    shf_queue_set_close(r->s), r->s = NULL;
    struct shf_queue_set *u = set_open(path, 0, 0);
    CHECK_EQ_INT(shf_queue_set_recover(u), SHF_OK);
    for (uint32_t i = 0; i < SET_NAMES; i++) {
        struct shf_item item;
        int rc = shf_queue_pull(set_queue(u, i), &item);
        CHECK(rc == SHF_OK || rc == SHF_NOT_FOUND);
        if (rc == SHF_OK) CHECK_EQ_INT(shf_queue_push(set_queue(u, i), &item), SHF_OK);
    }
    struct shf_queue_report report = set_check(u);
    CHECK(report.dead == 0 && (r->in == FORKED || report.held == 0));
    census_take(u, &c);
    if (r->in != FORKED) CHECK_EQ_INT(c.held, 0);
    shf_queue_set_close(u);
}

struct play {
    const struct act *a;
    struct run *r;
    int rc;
    uint64_t calls, hits; /* the child's */
    char name[32];
};
static void perform(void *arg) {
    struct play *p = arg;
    p->rc = p->a->act(p->r);
    fault.at = 0;
    p->calls = fault.calls, p->hits = fault.hits;
    memcpy(p->name, fault.name, sizeof p->name);
    told(p->a, p->r, p->rc);
}
static void perform_in_child(void *arg) {
    struct play *p = arg;
    perform(p);
    if (!(p->a->how & OPENS)) verify(p->r);
}
/* The k-th call fails. 0 if there was no such call. */
static int one_run(const struct act *a, enum situation in, int read_only, uint64_t k, struct play *p) {
    struct run r = {.in = in, .read_only = read_only};
    struct holder holder;
    uint64_t before[SET_NAMES + 1], after[SET_NAMES + 1];
    int files = open_files(), maps = mappings(), compared = in == PLAIN || in == COLD || in == HELD;
    memset(p, 0, sizeof *p);
    p->a = a, p->r = &r;
    put_image();
    if (!(a->how & OPENS)) {
        r.s = set_open(path, read_only ? SHF_RDONLY : 0, 2);
        for (uint32_t i = 0; i < SET_NAMES; i++) r.q[i] = set_queue(r.s, i);
        if (in != COLD && !read_only) CHECK_EQ_INT(holding(&r), SHF_OK);
    }
    if (in == DEAD) CHECK_EQ_INT(run_child(die_in_a_push, NULL, 20000), CHILD_KILLED(SIGKILL));
    compared &= r.s != NULL && !(a->how & STEPS);
    if (compared) masks_of(r.s, before);
    if (in == HELD) hold_begin(&holder);
    if (r.s != NULL && !read_only) atomic_store(&r.s->shm->swept, 0); /* a look after the dead is due */
    fault.calls = fault.hits = 0, fault.name[0] = 0, fault.at = k;
    if (in == FORKED) {
        pid_t pid = fork_child(perform_in_child, p);
        fault.at = 0;
        CHECK_EQ_INT(wait_child(pid, 20000), 0);
        r.in = PLAIN;
    } else {
        perform(p);
    }
    if (in == HELD) hold_end(&holder);
    if (compared && r.s != NULL && p->rc < 0 && a->act != act_push && a->act != act_return && a->act != act_push_many) {
        masks_of(r.s, after);
        if (in == COLD)
            before[SET_NAMES] = after[SET_NAMES]; /* what it needed for the act may be held */
        else
            CHECK(memcmp(before, after, sizeof before) == 0);
    }
    verify(&r);
    if (strcmp(p->name, "os_fstat") != 0) CHECK_EQ_INT(open_files(), files);
    CHECK_EQ_INT(mappings(), maps);
    __atomic_add_fetch(&total->runs, 1, __ATOMIC_RELAXED);
    return p->calls >= k;
}
static void play(const struct act *a, enum situation in, int read_only) {
    static const unsigned strides[] = {[PLAIN] = 1, [COLD] = 1, [DEAD] = 3, [HELD] = 8, [FORKED] = 6};
    int full = test_env("SHF_FAULTS_FULL", 0) != 0, choice = (int)(test_rng() % 3);
    unsigned stride = strides[in] * (TEST_SANITIZED ? 3 : 1);
    uint64_t most = 0;
    struct play *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    for (fault.all = 0; fault.all < 2 && (fault.all == 0 || most != 0); fault.all++)
        for (int v = 0; v < (full ? 3 : 1); v++)
            for (uint64_t k = 1; *test_failures == 0; k += full ? 1 : 1 + test_rng() % (stride + k / 16)) {
                fault.variant = full ? v : (choice + (int)k) % 3;
                int reached = one_run(a, in, read_only, k, p);
                if (!p->hits && in != HELD && !read_only && a->act != act_open_excl) CHECK(p->rc >= 0);
                if (*test_failures)
                    FAIL("... %.30s, %s%s: call %llu (%s) fails%s with %d: %d, %s", a->functions, situation_names[in],
                         read_only ? ", read-only" : "", (unsigned long long)k, p->name,
                         fault.all ? " with all that follow" : "", fault.error, p->rc,
                         in == FORKED ? "" : shf_last_error()->message);
                if (p->calls > most) most = p->calls;
                if (!reached) break;
                REQUIRE(k < 5000);
            }
    munmap(p, sizeof *p);
}
static void play_all(enum situation in) {
    uint64_t runs = total->runs, errors = total->errors;
    make_image();
    for (size_t i = 0; i < ACTS && *test_failures == 0; i++) {
        if (acts[i].how & OPENS && in != PLAIN && in != DEAD) continue;
        play(&acts[i], in, 0);
        if (!(acts[i].how & OPENS) && in == COLD) play(&acts[i], in, 1);
    }
    printf("# %s: %llu runs, %llu of them with an error\n", situation_names[in],
           (unsigned long long)(total->runs - runs), (unsigned long long)(total->errors - errors));
}

TEST(every_public_function_has_an_act) {
    const char *lists[ACTS];
    for (size_t i = 0; i < ACTS; i++) lists[i] = acts[i].functions;
    unsigned declared = acts_cover_the_header(lists, ACTS);
    CHECK(declared > 35);
    printf("# %u functions in shf_queue.h, %zu acts\n", declared, ACTS);
}
TEST(plain) { play_all(PLAIN); }
TEST(cold) { play_all(COLD); }
TEST(dead) { play_all(DEAD); }
TEST(held) { play_all(HELD); }
TEST(forked) { play_all(FORKED); }

/* The last: of a whole run, no call that only queues make has been left out. */
TEST(system_calls_that_failed) {
    unsigned kinds = 0;
    for (size_t i = 0; i < SYSTEM_CALLS; i++) {
        int comes = strcmp(system_calls[i].name, "os_event_signal") != 0; /* by the engine's own thread */
        kinds += failed[i] != 0;
        /* Under a sanitizer only a part of the runs is made. */
        if (failed[i] == 0 && system_calls[i].of_queues && comes && whole_run && !TEST_SANITIZED)
            FAIL("%s has never failed", system_calls[i].name);
    }
    printf(
        "# total: %llu runs of %zu acts of all functions of queues with failing system calls, %u kinds of them; %llu "
        "errors, which changed nothing; 0 leaks, 0 items lost\n",
        (unsigned long long)total->runs, ACTS, kinds, (unsigned long long)total->errors);
}

int main(int argc, char **argv) {
    void *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    failed = shared;
    total = (void *)((char *)shared + 4096);
    whole_run = argc < 2;
    return run(argc, argv);
}
