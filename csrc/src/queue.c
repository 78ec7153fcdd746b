// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * queue.c - zero-copy queues between processes: the protocol; opening, names, numbers
 *
 * WHAT       A queue set is one file with N items of one size and up to 255 queues. Each item lies in exactly one
 *            place: in a queue's ring, or in the hand of a life (registry.c), or, if that hand is full, its own word
 *            says who has it. A pull moves items from a ring to a hand, a push from a hand to a ring; the bytes of an
 *            item never move.
 * NOT        Lock-free: one holder of a queue's head lock pulls, one holder of its tail lock pushes, at the same time.
 *            Safe against a process that pushes what it does not hold by writing the file itself. Shrinking; removing
 *            queues.
 *
 * LAYOUT     queue.h. Header's fixed_key = N, fixed_value = item_size; so every offset follows from the checked header.
 *            object: set 1 page | lives 1 | hands 1 | queues 32 | words: 4 N bytes | items: N * stride, stride =
 *            item_size up to a multiple of 64 | ring of queue 0, 1, ... as given at creation. Behind: rings of queues
 *            added later, hands: by growth, as asked for. No page map (layout.h); nothing is ever given back.
 *            ring: a power of two >= N item numbers, so it never overflows; entry of position p: ring[p & mask].
 *            positions are 64 bits and only grow: tail = pushed since creation, head = pulled.
 *
 * WHO WRITES WHAT
 *    into, new_head, head, seen_tail              the holder of head_word
 *    new_tail, from, sleepers, wake, returned     the holder of tail_word; and tail and recent, which have a line of
 *                                                 their own: pullers look at it while they wait
 *    ring entries [tail, ..)       the holder of tail_word
 *    a slot's hand, words          pull: 0 -> entry, under the head lock of the queue it comes from
 *                                  push: entry -> 0, under the tail lock of the queue it goes to
 *                                  by the life itself; for a dead life by whoever repairs (below)
 *    lives[slot]                   the slot's life, at its first pull and its close; for a dead one who has emptied its
 *                                  hand, by CAS from the dead generation to 0
 *    hands[slot]                   the slot's life, once for all lives of the slot
 *    count, a queue's name, ring   the holder of the set lock, before `count` makes it visible [C1]
 *
 * PULL of n  under head_word: numbers = ring[head .. head+n), all of them < N, into private memory
 *            into = where they will be held; new_head = head + n  [A1: armed]
 *            hand[into ..] = numbers with home = this queue (or each item's word = HELD by me, home)
 *            head = new_head  [H1: commit]; unlock
 *    undo    (taker after a death, new_head != head): each entry at `into` that names its item -> 0; new_head = head.
 *            The items are still in the ring.
 * PUSH of n  under tail_word: each is held by me? ring[tail .. tail+n) = numbers; from = where they are held;
 *            new_tail = tail + n  [A2: armed: from here on it will happen]
 *            hand[from ..] = 0 (or the words)
 *            recent[position % 4] = position + 1, number of the last four
 *            tail = new_tail  [T1: commit]; sleepers looked at; unlock; wake
 *    redo    (taker after a death, new_tail != tail): each entry at `from` that names its item -> 0; tail = new_tail.
 *    An entry is only cleared if it names the ring's item. While armed that item is in no other place, so the entry is
 *    the dead one's: a new life in the same slot cannot hold it.
 *    recent  who pulls one item and has just looked at tail finds it in the same line, if the position stands beside
 *            it: one transfer of a line less from pusher to puller. Each push overwrites the places of all its
 *            positions, or all four: so a place that names a position is right about it, whatever died between; else
 *            the ring tells.
 *    Both are idempotent: a second death in them leaves the same work, or less. new_head and new_tail are compared at
 *    every take of the lock, not only after a take-over: a repairer may have failed.
 *
 * HOME       of an item: the queue it was pulled from; in its hand entry, or word.
 * THE DEAD   (queue_home.c) A life that may hold items is named in lives[slot]: generation, and whether words are used.
 *    D1 verdict: shf__registry_is_dead (or _is_over) of slot and generation; then count: all queues it can have used
 *    D2 each queue's head lock and tail lock is looked at: if it is the dead one's, or a step is armed that names it,
 *       it is taken, which repairs, and let go. Then the dead one is nowhere in the middle, and hand and words say what
 *       it holds
 *    D3 each entry of its hand, then, if lives[] says so, each word that names it: pushed home as in PUSH, `from` = the
 *       dead one's entry. Under the tail lock it is looked at again: first the entry, then [V2] lives[slot] are as they
 *       were. So of several that look after the same dead each item is brought home by one.
 *    D4 the queues are looked at once more: one who did D3 too may have died in its last push, armed. Then lives[slot]:
 *       CAS from its generation to 0
 *    A life begins to hold only after it has done D2-D4 for the one before it in its slot, if lives[slot] is not 0: a
 *    generation in lives[] is one life's, and hand and words of a slot are one life's. One who is late with D3 for the
 *    one before finds another lives[slot], or nothing at the entry.
 *    Who: whoever finds a queue empty, waits, asks for a length, or attaches; at most one every 20 ms (CAS on `swept`).
 *    Needs no lock of the registry: a stopped process cannot keep others from it, but within a queue's lock.
 *
 * SLEEP      (queue_wait.c) A sleeper sets SHF_SLEEPS_HERE under the *tail* lock, having found tail == head there, and
 *            sleeps on `wake` as it read it there. A pusher that commits under the tail lock sees the flag in the line
 *            it is writing anyway: it clears it, moves `wake`, and makes the system call after the unlock. So a push
 *            without a sleeper costs one load of an own line, no fence, no system call; and no wake is lost, as the
 *            lock orders flag and tail. If as many woke as items came there may be more sleepers: the flag is set
 *            again. A death between flag and wake, or a stolen item, costs a sleeper one tick (40 ms), at which it
 *            looks for itself.
 *
 * ORDERING   each label stands beside its operation
 *    L1-L6     the lock's (lock.c)
 *    T1 release  tail. Pairs with T2: a puller sees the ring's entries and the bytes of the items.
 *    T2 acquire  load of tail: by a puller, then kept in seen_tail (the head lock hands the edge on); by is_empty.
 *    H1 release  head. Pairs with the acquire in is_empty and in len: head is not looked at newer than tail.
 *    A1, A2 release  new_head, new_tail, and a compiler fence after them: what follows is not moved before. The reader
 *                is a taker after a death; the edge to it is the kernel's (K1, L5), which makes the dead one's stores a
 *                prefix of its program.
 *    C1 release  count. Pairs with C2 acquire in shf__queue_know: name and ring of a new queue.
 *    V1 release  lives[slot] = generation, and a release fence behind it: the hand page is published before (hands[],
 *                release), the hand is empty, and none of this life's entries is seen before it.
 *    V2 acquire  the fence between a look at an entry and one at lives[slot], pairs with V1: if lives[slot] is still
 *                the dead one's, the entry was.
 *    V3 release, acquire  fences: behind A2, and between the look at an empty hand and one at new_tail: who sees the
 *                entries emptied sees the push that emptied them armed.
 *    V4 release  from, into. Pairs with the acquire in is_quiet: whoever sees a later step's sees what was repaired
 *                before it.
 *    A ring entry is written again one round later. That its last reader is done is ordered without a look at head:
 *    among the cap >= N pushes from position p to p + cap some item comes twice, so it was pulled in between, at a
 *    position >= p; pulls are ordered by the head lock, so that pull came after the read of p, and its item came to the
 *    pusher by a chain of locks and T1/T2.
 *
 * INVARIANTS (numbers are used by tests and by check)
 *    Q1  each item is in one place: ring entries [head, tail) of all queues, hand entries, HELD words, N together
 *    Q2  unless its head lock is held, new_head == head; unless its tail lock is held, new_tail == tail;
 *        tail - head <= N
 *    Q3  a hand entry or word that is not 0 belongs to the life in lives[slot]
 *    Q4  a live life's holds are changed by that life only
 *
 * IF A PROCESS DIES   before A1, in a pull      nothing has happened
 *                     A1 .. before H1           undo: in the ring, at its old place
 *                     after H1, holding         home, by D1-D4
 *                     before A2, in a push      still held: home
 *                     A2 .. before T1           redo: pushed
 *                     between T1 and the wake   sleepers come at their tick
 *                     while adding a queue      some pages at the end of the file belong to nobody
 *                     in D1-D4                  the next one begins at D1; what is home is home
 *
 * LOCK ORDER  one queue lock at a time, but for check: the set lock, tail(0), head(0), tail(1), ... Adding: the set
 *             lock, then grow. Grow alone.
 *
 * PROOF       csrc/tests: validate_{,items_,home_,wait_,full_}queue.c, stress_queue.c, crash_queue.c,
 *             crash_stopped_queue.c, faults_queue.c, hostile_queue.c, fuzz/fuzz_queue.c; tests/model_queue.rs;
 *             tests/twins/src/queue.rs (labels)
 */
#include "queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LINE_UP(n) (((uint64_t)(n) + SHF_LINE - 1) / SHF_LINE * SHF_LINE)
#define PAGE_UP(n) (((uint64_t)(n) + SHF_PAGE - 1) / SHF_PAGE * SHF_PAGE)
#define MAX_BYTES (UINT64_C(1) << 41)
#define OPTIONS_FIRST_SIZE sizeof(struct shf_queue_options)

static uint32_t ring_entries(uint32_t items) {
    uint32_t n = 4;
    while (n < items) n *= 2;
    return n;
}
static uint64_t ring_bytes(uint32_t items) { return PAGE_UP((uint64_t)ring_entries(items) * 4); }
static uint64_t words_pages(uint32_t items) { return PAGE_UP((uint64_t)items * 4) / SHF_PAGE; }

/* Pages without the rings; 0: lengths that cannot be. */
static uint32_t bare_pages(uint32_t items, uint32_t item_size) {
    if (items == 0 || items > SHF_ITEMS_MAX || item_size == 0 || item_size > SHF_ITEM_SIZE_MAX) return 0;
    uint64_t pages = SHF_SET_WORDS + words_pages(items) + PAGE_UP(items * LINE_UP(item_size)) / SHF_PAGE;
    return pages > MAX_BYTES / SHF_PAGE / 2 ? 0 : (uint32_t)pages;
}
/* The same with the rings of the first queues: the file says how many. */
static uint32_t object_pages_of(uint32_t items, uint32_t item_size, uint32_t pages) {
    uint64_t bare = bare_pages(items, item_size);
    if (bare == 0) return 0; /* before the ring, which is not made for more items than can be */
    uint64_t ring = ring_bytes(items) / SHF_PAGE;
    return pages > bare && (pages - bare) % ring == 0 && (pages - bare) / ring <= SHF_QUEUES_MAX
               ? pages
               : (uint32_t)(bare + ring);
}

/* ---- options ------------------------------------------------------------------------------------------ */

static int check_names(const struct shf_queue_options *o) {
    if (o->queue_count > SHF_QUEUES_MAX)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: %u queues; a set has at most %u",
                         o->queue_count, SHF_QUEUES_MAX);
    if (o->queue_count != 0 && o->queues == NULL)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: queues is NULL, but queue_count is %u",
                         o->queue_count);
    for (uint32_t i = 0; i < o->queue_count; i++) {
        const char *name = o->queues[i];
        size_t n = name == NULL ? 0 : strnlen(name, SHF_QUEUE_NAME_MAX + 1);
        if (n == 0 || n > SHF_QUEUE_NAME_MAX)
            return shf__fail(SHF_ERR_INVALID, 0, "options", NULL,
                             "options: the name of queue %u has %s bytes; it needs 1 to %u", i,
                             n == 0 ? "no" : "too many", SHF_QUEUE_NAME_MAX);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(name, o->queues[k]) == 0)
                return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: two queues are called '%s'", name);
    }
    return SHF_OK;
}

/* Room for every queue, and for two hands a slot: a death may leave one that nobody has. The same for all sets of these
 * lengths. */
static uint64_t max_bytes_of(uint32_t items, uint32_t item_size) {
    uint64_t bytes = ((uint64_t)SHF_OBJECT_PAGE + bare_pages(items, item_size)) * SHF_PAGE +
                     SHF_QUEUES_MAX * ring_bytes(items) + UINT64_C(2) * SHF_SLOT_COUNT * SHF_HAND_BYTES;
    return bytes > MAX_BYTES ? MAX_BYTES : bytes;
}

static void init_set(void *object, const void *context) {
    const struct shf_queue_options *o = context;
    unsigned char *base = object;
    struct shf_shm_queue_set *set = object;
    struct shf_shm_queue *queues = (struct shf_shm_queue *)(void *)(base + SHF_SET_QUEUES * SHF_PAGE);
    uint32_t ring_pages = (uint32_t)(ring_bytes(o->items) / SHF_PAGE);
    uint32_t first = SHF_OBJECT_PAGE + bare_pages(o->items, o->item_size);
    shf_au32 *ring = (shf_au32 *)(void *)(base + (uint64_t)(first - SHF_OBJECT_PAGE) * SHF_PAGE);
    for (uint32_t i = 0; i < o->queue_count; i++) {
        shm_copy_in(queues[i].name, o->queues[i], strlen(o->queues[i]));
        shm_store_relaxed32(&queues[i].ring, first + i * ring_pages);
    }
    for (uint32_t i = 0; i < o->items; i++) shm_store_relaxed32(ring + i, i);
    shm_store_relaxed(&queues[0].tail, o->items);
    shm_store_relaxed(&queues[0].new_tail, o->items);
    shm_store_relaxed32(&set->count, o->queue_count);
}

static int read_options(const struct shf_queue_options *from, int create, struct shf_queue_options *o,
                        struct shf_region_params *p) {
    struct shf_queue_options none = SHF_QUEUE_OPTIONS_INIT;
    *o = none;
    memset(p, 0, sizeof *p);
    if (from != NULL) {
        if (from->size < OPTIONS_FIRST_SIZE)
            return shf__fail(SHF_ERR_INVALID, 0, "options", NULL,
                             "options: size is %u, not sizeof(struct shf_queue_options)", from->size);
        memcpy(o, from, sizeof *o);
    }
    if (o->mode & ~0777u)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: mode %o has bits beyond 0777", o->mode);
    if (o->items > SHF_ITEMS_MAX)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL, "options: %u items; a set has at most %u", o->items,
                         SHF_ITEMS_MAX);
    if (o->item_size > SHF_ITEM_SIZE_MAX)
        return shf__fail(SHF_ERR_TOO_LONG, 0, "options", NULL, "options: items of %u bytes; at most %u", o->item_size,
                         SHF_ITEM_SIZE_MAX);
    int rc = check_names(o);
    if (rc != SHF_OK) return rc;
    p->kind = SHF_KIND_QUEUES;
    p->mode = o->mode;
    p->fixed_key = o->items;
    p->fixed_value = o->item_size;
    p->object_pages_of = object_pages_of;
    p->object_pages = 1; /* to open: the file says */
    if (!create) return SHF_OK;
    if (o->items == 0 || o->item_size == 0 || o->queue_count == 0)
        return shf__fail(
            SHF_ERR_INVALID, 0, "options", NULL,
            "options: a new queue set needs the number of its items (%u), their size (%u bytes) and a queue (%u)",
            o->items, o->item_size, o->queue_count);
    uint64_t pages = bare_pages(o->items, o->item_size);
    if (pages != 0) pages += o->queue_count * (ring_bytes(o->items) / SHF_PAGE);
    if (pages == 0 || pages > MAX_BYTES / SHF_PAGE / 2)
        return shf__fail(SHF_ERR_INVALID, 0, "options", NULL,
                         "options: %u items of %u bytes are more than a file holds (1 TiB)", o->items, o->item_size);
    p->object_pages = (uint32_t)pages;
    p->max_bytes = max_bytes_of(o->items, o->item_size);
    p->init = init_set;
    p->context = o;
    return SHF_OK;
}

/* ---- opening and closing ------------------------------------------------------------------------------ */

static unsigned char *object_page(struct shf_queue_set *set, uint64_t page) {
    return set->region.base + (SHF_OBJECT_PAGE + page) * SHF_PAGE;
}

/* The registry's, for each new life with its own slot. */
static int sweep_slot(void *context, uint32_t slot) {
    struct shf_queue_set *set = context;
    uint32_t me = shf__registry_owner(&set->registry);
    shf_au32 *words[2] = {&set->region.header->grow_word, &set->shm->word};
    int count = shf__queue_know(set);
    if (slot != SHF_OWNER_SLOT(me) || count < 0) return SHF_OK;
    for (int i = 0; i < count; i++) {
        struct shf_queue *q = &set->queues[i];
        if (shf__lock_is_left_over(&q->shm->tail_word, me) && shf__queue_lock_tail(q) == SHF_OK)
            shf__unlock(&q->shm->tail_word);
        if (shf__lock_is_left_over(&q->shm->head_word, me) && shf__queue_lock_head(q) == SHF_OK)
            shf__unlock(&q->shm->head_word);
    }
    for (int i = 0; i < 2; i++)
        if (shf__lock_is_left_over(words[i], me) && shf__lock(&set->registry, words[i], NULL) == SHF_OK)
            shf__unlock(words[i]);
    return SHF_OK;
}

/* The region is the caller's no more. */
static int attach(struct shf_region *r, const struct shf_queue_options *o, struct shf_queue_set **result) {
    struct shf_queue_set *set = calloc(1, sizeof *set);
    int rc;
    if (set == NULL) {
        rc = shf__fail(SHF_ERR_NO_MEMORY, ENOMEM, "open", r->path, "%s: no memory for a handle", r->path);
        shf__region_close(r);
        return rc;
    }
    set->region = *r;
    set->items = set->region.fixed_key;
    set->item_size = set->region.fixed_value;
    set->stride = LINE_UP(set->item_size);
    set->mask = ring_entries(set->items) - 1;
    set->behind = SHF_OBJECT_PAGE + bare_pages(set->items, set->item_size);
    set->shm = (struct shf_shm_queue_set *)(void *)object_page(set, 0);
    set->lives = (shf_au32 *)(void *)object_page(set, SHF_SET_LIVES);
    set->hands = (shf_au32 *)(void *)object_page(set, SHF_SET_HANDS);
    set->words = (shf_au32 *)(void *)object_page(set, SHF_SET_WORDS);
    set->data = object_page(set, SHF_SET_WORDS + words_pages(set->items));
    set->registry.region = &set->region;
    set->registry.lock_timeout_ns = (uint64_t)(o->lock_timeout_ms ? o->lock_timeout_ms : 10000) * 1000000;
    set->registry.sweep_slot = sweep_slot;
    set->registry.context = set;
    rc = shf__registry_attach(&set->registry);
    if (rc != SHF_OK) {
        shf__region_close(&set->region);
        free(set);
        return rc;
    }
    rc = shf__queue_know(set);
    for (uint32_t i = 0; rc >= 0 && i < o->queue_count; i++) {
        struct shf_queue *q;
        rc = shf_queue_find(set, o->queues[i], &q);
        if (rc == SHF_ERR_NOT_FOUND)
            rc = shf__fail(SHF_ERR_INCOMPATIBLE, 0, "open", set->region.path,
                           "'%s' has no queue '%s': add it, or open without naming it", set->region.path, o->queues[i]);
    }
    if (rc < 0) {
        shf_queue_set_close(set);
        return rc;
    }
    (void)shf__queue_sweep(set, SHF_SWEEP_NOW); /* what cannot be repaired shows itself to who uses it */
    *result = set;
    return SHF_OK;
}

static int open_once(const char *path, unsigned flags, const struct shf_queue_options *o,
                     const struct shf_region_params *p, struct shf_queue_set **set) {
    for (int round = 0;; round++) {
        struct shf_region r;
        struct shf_queue_set *s;
        int created = 0;
        int rc = shf__region_open(&r, path, flags, p, &created);
        if (rc == SHF_OK) rc = attach(&r, o, &s);
        if (rc != SHF_OK) return rc;
        if (created || !shf__region_replaced(&s->region)) {
            *set = s;
            return SHF_OK;
        }
        shf_queue_set_close(s); /* unlinked, or replaced by another, while we opened it */
        if (round == SHF_OPEN_ROUNDS) return shf__region_busy(path);
    }
}

int shf_queue_set_open(const char *path, unsigned flags, const struct shf_queue_options *options,
                       struct shf_queue_set **set) {
    struct shf_queue_options o;
    struct shf_region_params p;
    SHF_CHECK_ARGS(path != NULL && set != NULL);
    int rc = read_options(options, 0, &o, &p);
    if (rc != SHF_OK) return rc;
    if (!(flags & SHF_CREATE)) return open_once(path, flags, &o, &p, set);
    struct shf_region_params open = p;
    rc = read_options(options, 1, &o, &p);
    if (rc == SHF_OK) return open_once(path, flags, &o, &p, set);
    if (flags & SHF_EXCL) return rc;
    /* Not enough to make one, but perhaps it is there. */
    rc = open_once(path, flags & ~SHF_CREATE, &o, &open, set);
    return rc == SHF_ERR_NOT_FOUND ? read_options(options, 1, &o, &p) : rc;
}

int shf_queue_set_anonymous(const char *name, const struct shf_queue_options *options, struct shf_queue_set **set) {
    struct shf_queue_options o;
    struct shf_region_params p;
    struct shf_region r;
    SHF_CHECK_ARGS(name != NULL && set != NULL);
    int rc = read_options(options, 1, &o, &p);
    if (rc == SHF_OK) rc = shf__region_anonymous(&r, name, &p);
    return rc == SHF_OK ? attach(&r, &o, set) : rc;
}

int shf_queue_set_from_fd(int fd, const struct shf_queue_options *options, struct shf_queue_set **set) {
    struct shf_queue_options o;
    struct shf_region_params p;
    struct shf_region r;
    SHF_CHECK_ARGS(fd >= 0 && set != NULL);
    int rc = read_options(options, 0, &o, &p);
    if (rc == SHF_OK) rc = shf__region_from_fd(&r, fd, &p);
    return rc == SHF_OK ? attach(&r, &o, set) : rc;
}

void shf_queue_set_close(struct shf_queue_set *set) {
    if (set == NULL) return;
    shf__queue_stop_wakers(set);
    shf__queue_let_go(set);
    while (set->batches != NULL) {
        struct shf_batch *b = set->batches;
        set->batches = b->next;
        free(b);
    }
    shf__registry_detach(&set->registry);
    shf__region_close(&set->region);
    free(set);
}

int shf_queue_set_fd(const struct shf_queue_set *set) { return set != NULL ? set->region.fd : -1; }
const char *shf_queue_set_path(const struct shf_queue_set *set) { return set != NULL ? set->region.path : ""; }
int shf_queue_set_is_read_only(const struct shf_queue_set *set) { return set != NULL && set->region.read_only; }
uint32_t shf_queue_set_items(const struct shf_queue_set *set) { return set != NULL ? set->items : 0; }
uint32_t shf_queue_set_item_size(const struct shf_queue_set *set) { return set != NULL ? set->item_size : 0; }
void *shf_queue_set_data(const struct shf_queue_set *set) { return set != NULL ? set->data : NULL; }
uint64_t shf_queue_set_stride(const struct shf_queue_set *set) { return set != NULL ? set->stride : 0; }

/* ---- queues ------------------------------------------------------------------------------------------- */

int shf__queue_corrupt(const struct shf_queue_set *set, const char *place, uint64_t where) {
    return shf__region_corrupt(&set->region, place, where);
}

int shf__queue_other_handle(const struct shf_queue *q, const char *place) {
    return shf__fail(SHF_ERR_INVALID, 0, place, q->set->region.path,
                     "%s: the queue '%s' and the other queue, or the batch, are of different handles",
                     q->set->region.path, q->name);
}

int shf__queue_read_only(const struct shf_queue_set *set, const char *place) {
    return shf__fail(SHF_ERR_READ_ONLY, 0, place, set->region.path, "%s: this handle is read-only", set->region.path);
}

/* The threads of a child did not come through the fork: what one of them began there is nobody's. */
void shf__queue_enter(struct shf_queue_set *set) {
    uint64_t id = shf__registry_process(&set->registry);
    for (;;) {
        uint64_t seen = atomic_load_explicit(&set->entering, memory_order_relaxed);
        if (seen != id && atomic_compare_exchange_weak_explicit(&set->entering, &seen, id, memory_order_acquire,
                                                                memory_order_relaxed))
            return;
        os_yield();
    }
}
void shf__queue_leave(struct shf_queue_set *set) { atomic_store_explicit(&set->entering, 0, memory_order_release); }

int shf__queue_know(struct shf_queue_set *set) {
    uint32_t known = atomic_load_explicit(&set->known, memory_order_acquire);
    uint32_t count = shm_load_acquire32(&set->shm->count); /* C2 */
    if (SHF_LIKELY(count == known && count != 0)) return (int)count;
    if (count == 0 || count > SHF_QUEUES_MAX || count < known)
        return shf__queue_corrupt(set, "queues: their number", count);
    struct shf_shm_queue *shm = (struct shf_shm_queue *)(void *)object_page(set, SHF_SET_QUEUES);
    int rc = (int)count;
    shf__queue_enter(set);
    for (known = atomic_load_explicit(&set->known, memory_order_relaxed); rc > 0 && known < count; known++) {
        struct shf_queue *q = &set->queues[known];
        uint64_t page = shm_load_relaxed32(&shm[known].ring);
        q->ring = shf__region_at(&set->region, page * SHF_PAGE, ring_bytes(set->items));
        if (q->ring == NULL || page < set->behind) {
            rc = shf__queue_corrupt(set, "queue: its ring", page);
            break;
        }
        q->set = set;
        q->shm = &shm[known];
        q->index = known;
        shm_copy_out(q->name, q->shm->name, 0, SHF_QUEUE_NAME_MAX);
        atomic_store_explicit(&set->known, known + 1, memory_order_release);
    }
    shf__queue_leave(set);
    return rc;
}

static struct shf_queue *find(struct shf_queue_set *set, const char *name, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(set->queues[i].name, name) == 0) return &set->queues[i];
    return NULL;
}

static int check_name(const struct shf_queue_set *set, const char *name) {
    size_t n = strnlen(name, SHF_QUEUE_NAME_MAX + 1);
    if (n != 0 && n <= SHF_QUEUE_NAME_MAX) return SHF_OK;
    return shf__fail(SHF_ERR_INVALID, 0, "queue", set->region.path,
                     "%s: the name '%.20s%s' of a queue has %s; it needs 1 to %u bytes", set->region.path, name,
                     n == 0 ? "" : "...", n == 0 ? "no byte" : "too many", SHF_QUEUE_NAME_MAX);
}

int shf_queue_find(struct shf_queue_set *set, const char *name, struct shf_queue **queue) {
    SHF_CHECK_ARGS(set != NULL && name != NULL && queue != NULL);
    int rc = check_name(set, name), count;
    if (rc != SHF_OK) return rc;
    if ((count = shf__queue_know(set)) < 0) return count;
    struct shf_queue *q = find(set, name, count);
    if (q != NULL) {
        *queue = q;
        return SHF_OK;
    }
    char names[400] = "";
    size_t length = 0;
    int listed = 0;
    for (; listed < count && length < sizeof names - SHF_QUEUE_NAME_MAX - 8; listed++)
        length += (size_t)snprintf(names + length, sizeof names - length, "%s'%s'", listed == 0 ? "" : ", ",
                                   set->queues[listed].name);
    return shf__fail(SHF_ERR_NOT_FOUND, 0, "queue", set->region.path, "'%s' has no queue '%s'; there are %d: %s%s",
                     set->region.path, name, count, names, listed < count ? ", ..." : "");
}

static SHF_COLD int grow_failed(struct shf_queue_set *set, int error, uint64_t bytes) {
    const char *path = set->region.path;
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return shf__fail(SHF_ERR_NO_SPACE, error, "queue: growth", path,
                         "%s: no room for %llu more bytes (file system, quota, "
                         "RLIMIT_FSIZE)",
                         path, (unsigned long long)bytes);
    if (error == ENOMEM)
        return shf__fail(SHF_ERR_NO_MEMORY, error, "queue: growth", path,
                         "%s: no memory for %llu more bytes (control group?)", path, (unsigned long long)bytes);
    if (error == EOVERFLOW)
        return shf__fail(SHF_ERR_ADDRESS_SPACE, 0, "queue: growth", path,
                         "%s: only %zu bytes of address space could be reserved: raise RLIMIT_AS and open it again",
                         path, set->region.reserved);
    return shf__fail(SHF_ERR_IO, error, "queue: growth", path, "%s: the file could not grow: system error %d", path,
                     error);
}

/* Under the grow lock: 0 or -errno (-EOVERFLOW: address space). A dead grower may have made the file longer than `end`:
 * zeros, which fallocate finds. */
static int grow_locked(struct shf_region *r, uint64_t bytes, uint32_t *page) {
    shf__region_refresh(r);
    uint64_t end = shm_load_acquire(&r->header->end);
    if (end % SHF_PAGE != 0 || end > r->max_bytes ||
        (end <= r->reserved && end != atomic_load_explicit(&r->size, memory_order_relaxed)))
        return -EBADMSG;
    if (bytes > r->max_bytes - end || end + bytes > os_file_size_limit()) return -EFBIG; /* SIGXFSZ would kill */
    if (end + bytes > r->reserved) return -EOVERFLOW;
    int rc = os_fallocate(r->fd, end, bytes);
    if (rc < 0) return rc;
    shm_store_release(&r->header->end, end + bytes); /* E1 of region.c */
    shf__region_grown(r, end + bytes);
    *page = (uint32_t)(end / SHF_PAGE);
    return 0;
}

int shf__queue_grow(struct shf_queue_set *set, uint64_t bytes, uint32_t *page, int quiet) {
    struct shf_region *r = &set->region;
    int rc = shf__lock(&set->registry, &r->header->grow_word, NULL);
    if (rc != SHF_OK) return rc;
    int error = grow_locked(r, bytes, page);
    shf__unlock(&r->header->grow_word);
    if (error == 0) return SHF_OK;
    if (quiet) return SHF_ERR_NO_SPACE;
    return error == -EBADMSG ? shf__queue_corrupt(set, "header: end of the file", r->size)
                             : grow_failed(set, -error, bytes);
}

/* Under the set lock. */
static int add(struct shf_queue_set *set, const char *name, struct shf_queue **queue, int *created) {
    int count = shf__queue_know(set);
    uint32_t page;
    if (count < 0) return count;
    if ((*queue = find(set, name, count)) != NULL) return SHF_OK;
    if ((uint32_t)count == SHF_QUEUES_MAX)
        return shf__fail(SHF_ERR_FULL, 0, "queue", set->region.path, "'%s' has %u queues, and can have no more",
                         set->region.path, SHF_QUEUES_MAX);
    int rc = shf__queue_grow(set, ring_bytes(set->items), &page, 0);
    if (rc != SHF_OK) return rc;
    struct shf_shm_queue *q = (struct shf_shm_queue *)(void *)object_page(set, SHF_SET_QUEUES) + count;
    char text[SHF_QUEUE_NAME_MAX + 1] = {0}; /* whole: somebody may have died after a part of another name */
    memcpy(text, name, strlen(name));
    shm_copy_in(q->name, text, sizeof text);
    shm_store_relaxed32(&q->ring, page);
    shm_store_release32(&set->shm->count, (uint32_t)count + 1); /* C1 */
    rc = shf__queue_know(set);
    if (rc < 0) return rc;
    *queue = &set->queues[count];
    *created = 1;
    return SHF_OK;
}

int shf_queue_add(struct shf_queue_set *set, const char *name, struct shf_queue **queue, int *created) {
    SHF_CHECK_ARGS(set != NULL && name != NULL && queue != NULL);
    struct shf_queue *q = NULL;
    int made = 0, rc = check_name(set, name);
    if (rc != SHF_OK) return rc;
    int count = shf__queue_know(set);
    if (count < 0) return count;
    q = find(set, name, count);
    if (q == NULL) {
        rc = shf__lock(&set->registry, &set->shm->word, NULL);
        if (rc != SHF_OK) return rc;
        rc = add(set, name, &q, &made);
        shf__unlock(&set->shm->word);
        if (rc != SHF_OK) return rc;
    }
    *queue = q;
    if (created != NULL) *created = made;
    return SHF_OK;
}

uint32_t shf_queue_count(struct shf_queue_set *set) {
    int count = set != NULL ? shf__queue_know(set) : 0;
    return count < 0 ? atomic_load_explicit(&set->known, memory_order_acquire) : (uint32_t)count;
}

int shf_queue_at(struct shf_queue_set *set, uint32_t i, struct shf_queue **queue) {
    SHF_CHECK_ARGS(set != NULL && queue != NULL);
    int count = shf__queue_know(set);
    if (count < 0) return count;
    if (i >= (uint32_t)count)
        return shf__fail(SHF_ERR_NOT_FOUND, 0, "queue", set->region.path, "'%s' has %d queues, no number %u",
                         set->region.path, count, i);
    *queue = &set->queues[i];
    return SHF_OK;
}

const char *shf_queue_name(const struct shf_queue *q) { return q != NULL ? q->name : ""; }
uint32_t shf_queue_index(const struct shf_queue *q) { return q != NULL ? q->index : UINT32_MAX; }
struct shf_queue_set *shf_queue_set_of(const struct shf_queue *q) {
    return q != NULL ? q->set : NULL;
}

int shf_queue_len(struct shf_queue *q, uint64_t *len) {
    SHF_CHECK_ARGS(q != NULL && len != NULL);
    (void)shf__queue_sweep(q->set, SHF_SWEEP_DUE); /* a queue that cannot be repaired shows itself to its users */
    uint64_t head = shm_load_acquire(&q->shm->head), tail = shm_load_acquire(&q->shm->tail);
    *len = tail - head > q->set->items ? q->set->items : tail - head; /* others went on between the two looks */
    return SHF_OK;
}

int shf_queue_stats(struct shf_queue *q, struct shf_queue_stats *stats) {
    SHF_CHECK_ARGS(q != NULL && stats != NULL && stats->size >= sizeof *stats);
    int rc = shf_queue_len(q, &stats->len);
    if (rc != SHF_OK) return rc;
    stats->sleepers = shm_load_relaxed32(&q->shm->sleepers) & SHF_SLEEPS_HERE;
    stats->capacity = q->set->items;
    stats->pulled = shm_load_acquire(&q->shm->head);
    stats->pushed = shm_load_acquire(&q->shm->tail);
    stats->returned = shm_load_relaxed(&q->shm->returned);
    stats->recoveries = (uint64_t)shm_load_relaxed32(&q->shm->tail_deaths) + shm_load_relaxed32(&q->shm->head_deaths);
    return SHF_OK;
}
