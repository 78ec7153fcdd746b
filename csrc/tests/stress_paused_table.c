/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * stress_paused_table.c - a reader that stands still before any of its loads while the table changes under it
 *
 * READER      A thread makes one reading call. First alone, with its handle's mapping shut (PROT_NONE): each load from the
 *             table faults, the handler opens the mapping, lets that one instruction pass by the trap flag, and shuts it
 *             again. So the loads and their instructions are known. Then once more, with a breakpoint at one of them:
 *             there it stands. What lies between two loads is the thread's own affair, so a pause before each load is as
 *             good as one at every instruction. (A step by ptrace costs ten times as much.)
 * CHANGE      The other thread then does a list of steps: puts that split the segment in question or double its directory,
 *             new values of other lengths, removals, a key that takes another's place with its tag, garbage until the cleaner
 *             has moved and freed chunks, a clear with all put back. Or the first part of the list; the reader makes a few
 *             loads more, and the rest follows. Or the writer is stopped in the same way (its mapping PROT_READ) before one
 *             store of a step, and there the reader goes on to its end.
 * ORACLE      Each key's states are known: that of the image, and one more after each step that touches it. A reader may
 *             see those from the image to the last step begun: found with exactly that value, or absent if that is one of them.
 *             So a key that lives throughout is always found. A UID is the key's for as long as it lives. A
 *             second reader that asks while the writer still stands must not see an older state than the first.
 * IMAGE       The file just before a put that splits, or doubles: keys in their first buckets, in their second ones, and
 *             stashed, of several lengths. Its bytes are copied back before each read; no handle is opened again.
 * HOW MANY    Two cases in full (always()); then as many reads as go into SHF_SECONDS (default 5, spread over the tests), at
 *             most SHF_OPS a test, drawn by the seed. SHF_OPS=0: for every call, several keys of each place and every
 *             change, each load once with the whole change and once with one that is cut at a place of the seed. Minutes.
 * WHERE       x86-64, for its trap flag. ThreadSanitizer delays signals: nothing is done there.
 */
#include "model.h"
#include "table_cells.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#define SKIP "ThreadSanitizer delays signals"
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SKIP "ThreadSanitizer delays signals"
#endif
#endif
#if !defined(SKIP) && !defined(__x86_64__)
#define SKIP "no trap flag on this processor"
#endif
#ifdef SKIP
TEST(skipped) { printf("# skipped: %s\n", SKIP); }
#else

#define POOL 1500 /* keys of the target shard, those of the image first */
#define GROUP_MOST 64
#define LARGE 9000
#define VERY_LARGE 70000 /* over one piece of table_read.c */
#define MANY_MOST 8
#define STEPS 2000
#define ROOM 100 /* free pages behind the image */
#define PAIRS 64
#define NEVER UINT64_MAX

enum event { SPLITS, DOUBLES };
enum place { FIRST, SECOND, STASHED, NOT_THERE, PLACES };

struct key {
    unsigned char name[304];
    size_t len, vlen;
    uint64_t h, before; /* before: a position whose next entry it is */
    uint64_t checked;
    uint32_t uid;
    int there; /* in the image */
    enum place place;
};
enum op { PUT, DEL, CLEAR };
struct step {
    enum op op;
    int key;
    size_t vlen;
    uint64_t stamp;
};

/* The image in work. */
static struct {
    size_t klen, vlen; /* 0, 0: variable */
    enum event event;
    char path[192];
    struct shf_hash_key hash;
    uint32_t shard, top; /* of all keys; directory bits under `mask` */
    uint32_t mask;
    struct key key[POOL];
    int keys, in_image, pair[PAIRS][2], pairs; /* pair: of one tag and bucket; the first is there, the second not */
    int at_place[PLACES][POOL], places[PLACES];
    int exposed[POOL], exposures; /* in their first buckets, though these send a look-up of them on to the second */
    int large[3];
    unsigned char *image;
    size_t image_size, file_size; /* what is behind the image is one free run, whose bytes nobody reads */
    struct step step[STEPS];
    int steps;
} I;

/* ---- a handle whose accesses are counted ---- */
#define TRACE_MOST 20000
struct trace { /* the instructions that made the accesses */
    uint64_t n;
    unsigned char *at[TRACE_MOST];
};
struct side {
    struct shf_table *t;
    unsigned char *base;
    size_t size;
    int open, shut; /* protections */
    uint64_t n, at, again; /* accesses so far; the one to stop before; once more that many later */
    int hit;               /* it was stopped */
    struct trace *trace;   /* to be filled, or NULL */
    void (*stopped)(void);
};
static struct trace reader_trace, split_trace; /* of the question; of the put that splits */
static void reader_stopped(void);
static void writer_stopped(void);
static struct side reader = {.open = PROT_READ, .shut = PROT_NONE, .stopped = reader_stopped};
static struct side writer = {.open = PROT_READ | PROT_WRITE, .shut = PROT_READ, .stopped = writer_stopped};
static struct shf_table *later; /* a third handle, never shut */
static __thread struct side *stepping;
static volatile int reader_stored; /* readers do not, nor lock, with so few changes beside them */

static void protect(const struct side *s, int how) {
    if (mprotect(s->base, s->size, how) != 0) _exit(97);
}
static void shut(struct side *s, uint64_t at) {
    s->n = 0, s->at = at, s->hit = 0;
    protect(s, s->shut);
}
/* From a trace: a breakpoint, which costs less than a fault for each access on the way. One at a time; the other thread waits. */
#define INT3 0xcc
#define TRAP_FLAG 0x100ll
static struct {
    unsigned char *at, byte;
    uint64_t occurrence; /* so many to pass before */
    struct side *side;
    int passing;
} B;
static void set_break(struct side *s, const struct trace *trace, uint64_t access, uint64_t again) {
    unsigned char *at = trace->at[access - 1], *page = (unsigned char *)((uintptr_t)at & ~(uintptr_t)4095);
    B.side = s, B.occurrence = 0, B.passing = 0;
    s->again = again, s->hit = 0;
    for (uint64_t i = 0; i < access - 1; i++) B.occurrence += trace->at[i] == at;
    REQUIRE(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    B.byte = *at;
    *(volatile unsigned char *)at = INT3;
    B.at = at;
}
static void clear_break(void) {
    if (B.at != NULL) *(volatile unsigned char *)B.at = B.byte;
    B.at = NULL;
}
static void on_fault(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    struct side *s = NULL;
    for (int i = 0; i < 2; i++) {
        struct side *one = i ? &writer : &reader;
        if ((uintptr_t)info->si_addr - (uintptr_t)one->base < one->size) s = one;
    }
    if (s == NULL || s->base == NULL) { /* a real one */
        signal(sig, SIG_DFL);
        return;
    }
    protect(s, s->open);
    if (s == &reader && (u->uc_mcontext.gregs[REG_ERR] & 2)) reader_stored = 1;
    if (s->trace != NULL && s->n < TRACE_MOST)
        s->trace->at[s->trace->n++] = (unsigned char *)u->uc_mcontext.gregs[REG_RIP];
    if (++s->n == s->at) {
        s->hit = 1;
        s->stopped();
        return; /* the rest at full speed */
    }
    stepping = s;
    u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}
static void on_trap(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)sig, (void)info;
    if (B.at != NULL && B.passing) {
        B.passing = 0;
        *B.at = INT3;
        r[REG_EFL] &= ~TRAP_FLAG;
    } else if (B.at != NULL && r[REG_RIP] == (greg_t)(uintptr_t)(B.at + 1)) {
        struct side *s = B.side;
        r[REG_RIP]--;
        *B.at = B.byte;
        if (B.occurrence > 0) {
            B.occurrence--, B.passing = 1;
            r[REG_EFL] |= TRAP_FLAG;
            return;
        }
        B.at = NULL;
        s->hit = 1;
        s->stopped();
        if (s->again) shut(s, s->again);
    } else {
        r[REG_EFL] &= ~TRAP_FLAG;
        protect(stepping, stepping->shut);
    }
}

/* ---- questions ---- */
enum look { GET, CONTAINS, UID, CHECKED_UID, BY_UID, KEY_BY_UID, BY_CHECKED, MANY, PACKED, MANY_BY_UID, NEXT, LOOKS };
static const char *const look_names[] = {
    "get", "contains", "uid", "checked uid", "get by uid", "key by uid", "get by checked uid", "get many", "get many packed",
    "get many by uid", "next"};
#define ANSWER_MOST (VERY_LARGE + 10000)
static struct question {
    enum look look;
    int n, which; /* keys; the subject's place among them */
    int key[MANY_MOST];
} Q;
static struct answer {
    int rc;
    uint64_t uid;
    struct shf_value v[MANY_MOST];
} A;

static const struct key *subject(void) { return &I.key[Q.key[Q.which]]; }
static int ask_next(struct shf_table *t, const struct key *k) {
    static unsigned char name[400];
    uint64_t position = k->before;
    uint32_t uid = 0;
    for (;;) {
        size_t n = 0;
        int rc = shf_table_next(t, &position, name, sizeof name, &n, A.v[Q.which].data, ANSWER_MOST, &A.v[Q.which].len, &uid);
        A.uid = uid;
        if (rc != SHF_OK || (n == k->len && memcmp(name, k->name, n) == 0)) return rc;
        if (position >> 48 != I.shard) return SHF_NOT_FOUND;
    }
}
static void ask(struct shf_table *t) {
    struct shf_bytes keys[MANY_MOST];
    uint32_t uids[MANY_MOST], uid = 0;
    size_t lens[MANY_MOST], done = 0, at = 0;
    static unsigned char packed[2 * ANSWER_MOST];
    const struct key *k = subject();
    struct shf_value *v = &A.v[Q.which];
    A.rc = SHF_OK;
    for (int i = 0; i < Q.n; i++) {
        const struct key *one = &I.key[Q.key[i]];
        keys[i] = (struct shf_bytes){one->name, one->len}, uids[i] = one->uid;
        A.v[i].code = SHF_OK, A.v[i].cap = ANSWER_MOST, A.v[i].len = 0;
    }
    switch (Q.look) {
    case GET: v->code = shf_table_get(t, k->name, k->len, v->data, v->cap, &v->len); break;
    case CONTAINS: v->code = shf_table_contains(t, k->name, k->len); break;
    case UID: v->code = shf_table_uid(t, k->name, k->len, &uid), A.uid = uid; break;
    case CHECKED_UID: v->code = shf_table_checked_uid(t, k->name, k->len, &A.uid), A.uid >>= 32; break;
    case BY_UID: v->code = shf_table_get_by_uid(t, k->uid, v->data, v->cap, &v->len); break;
    case KEY_BY_UID: v->code = shf_table_key_by_uid(t, k->uid, v->data, v->cap, &v->len); break;
    case BY_CHECKED: v->code = shf_table_get_by_checked_uid(t, k->checked, v->data, v->cap, &v->len); break;
    case MANY: A.rc = shf_table_get_many(t, (size_t)Q.n, keys, A.v); break;
    case MANY_BY_UID: A.rc = shf_table_get_many_by_uid(t, (size_t)Q.n, uids, A.v); break;
    case PACKED:
        A.rc = shf_table_get_many_packed(t, (size_t)Q.n, keys, packed, sizeof packed, lens, &done);
        for (int i = 0; i < Q.n && A.rc == SHF_OK; i++) {
            A.v[i].code = lens[i] == SHF_NO_VALUE ? SHF_NOT_FOUND : SHF_OK;
            if (A.v[i].code != SHF_OK) continue;
            if (lens[i] > ANSWER_MOST) A.rc = -999;
            else memcpy(A.v[i].data, packed + at, A.v[i].len = lens[i]), at += lens[i];
        }
        break;
    case NEXT: v->code = ask_next(t, k); break;
    case LOOKS: break;
    }
}

/* ---- the two threads ---- */
static sem_t to_reader, to_writer;
static struct {
    uint64_t p, again;
    int finished, quit;
    int step, begun;         /* the writer's; and how many steps were begun when the reader came to its end */
    int looked, later_rc;    /* the second reader */
    size_t later_len;
    unsigned char later_val[ANSWER_MOST];
} R;

static void wait_for(sem_t *s) {
    while (sem_wait(s) != 0) {
    }
}
static void reader_stopped(void) {
    sem_post(&to_writer);
    wait_for(&to_reader);
}
static void *reader_main(void *arg) {
    (void)arg;
    for (;;) {
        wait_for(&to_reader);
        if (R.quit) return NULL;
        if (R.p == NEVER) reader_trace.n = 0, reader.trace = &reader_trace, shut(&reader, NEVER);
        else reader.trace = NULL, set_break(&reader, &reader_trace, R.p, R.again);
        ask(reader.t);
        clear_break();
        protect(&reader, reader.open);
        R.finished = 1;
        sem_post(&to_writer);
    }
}
/* Lets the reader go on until it stops or comes to its end. */
static void let_read(void) {
    if (R.finished) return;
    sem_post(&to_reader);
    wait_for(&to_writer);
    R.begun = R.step;
}
static void writer_stopped(void) {
    const struct key *k = subject();
    while (!R.finished) let_read();
    R.later_rc = shf_table_get(later, k->name, k->len, R.later_val, sizeof R.later_val, &R.later_len);
    R.looked = 1;
}

/* ---- states ---- */
static const unsigned char *value_of(int key, size_t vlen, uint64_t stamp) {
    static unsigned char v[ANSWER_MOST];
    value_fill(v, vlen, I.key[key].name, I.key[key].len, stamp);
    return v;
}
/* The first (last) state of the key, among those up to `begun` steps, that is this answer: its number; -1: none. val NULL:
 * any value is right. */
static int state_of(int key, int begun, int rc, const unsigned char *val, size_t n, int last) {
    int found = -1;
    for (int i = -1; i < begun; i++) {
        const struct step *s = i < 0 ? NULL : &I.step[i];
        if (s != NULL && s->op != CLEAR && s->key != key) continue;
        int there = s == NULL ? I.key[key].there : s->op == PUT;
        size_t vlen = s == NULL ? I.key[key].vlen : s->vlen;
        if (rc != (there ? SHF_OK : SHF_NOT_FOUND)) continue;
        if (there && val != NULL && (n != vlen || (n != 0 && memcmp(val, value_of(key, vlen, s == NULL ? 1 : s->stamp), n) != 0)))
            continue;
        found = i + 1;
        if (!last) break;
    }
    return found;
}
/* 1 if the key was there all the time. */
static int lived(int key, int begun) { return state_of(key, begun, SHF_NOT_FOUND, NULL, 0, 0) < 0; }
static int of_any_key(int begun, const struct shf_value *v) {
    for (int i = 0; i < I.keys; i++)
        if (state_of(i, begun, SHF_OK, v->data, v->len, 0) >= 0) return 1;
    return 0;
}
static int answer_legal(int i) {
    const struct shf_value *v = &A.v[i];
    const struct key *k = &I.key[Q.key[i]];
    int key = Q.key[i], live = lived(key, R.begun), values = 1;
    if (Q.look == KEY_BY_UID) {
        if (!live) return v->code == SHF_OK || v->code == SHF_NOT_FOUND; /* its number may be another's by now */
        return v->code == SHF_OK && v->len == k->len && memcmp(v->data, k->name, k->len) == 0;
    }
    if ((Q.look == UID || Q.look == CHECKED_UID || Q.look == NEXT) && live && A.uid != k->uid) return 0;
    if (Q.look == NEXT && !live && v->code == SHF_NOT_FOUND) return 1; /* put again, behind the position or before it */
    if (Q.look == CONTAINS || Q.look == UID || Q.look == CHECKED_UID) values = 0;
    if (state_of(key, R.begun, v->code, values ? v->data : NULL, v->len, 0) >= 0) return 1;
    if ((Q.look == BY_UID || Q.look == MANY_BY_UID) && !live) return v->code == SHF_OK && of_any_key(R.begun, v);
    return 0;
}
static int later_legal(void) {
    int key = Q.key[Q.which], first = 0;
    int last = state_of(key, R.begun, R.later_rc, R.later_val, R.later_len, 1);
    if (last < 0) return 0;
    if (Q.look == GET || Q.look == MANY || Q.look == PACKED || Q.look == BY_CHECKED)
        first = state_of(key, R.begun, A.v[Q.which].code, A.v[Q.which].data, A.v[Q.which].len, 0);
    return first <= last;
}

/* ---- changes ---- */
enum change { SPLIT, FILL, REPLACE, TWICE, LENGTH, INTO_LARGE, SELF, NEIGHBOUR, ROB, ROB_AND_BACK, CHURN, CLEAR_ALL, CHANGES };
static const char *const change_names[] = {
    "split", "fill", "replace", "replace twice", "other length", "large value", "remove and put back", "remove a neighbour",
    "another in its place", "another in its place and back", "churn", "clear"};
static size_t length_of(uint64_t n) {
    static const size_t lengths[] = {4, 8, 0, 3, 20, 24, 60, 100, 200, 8, 4};
    return I.klen ? I.vlen : lengths[n % (sizeof lengths / sizeof *lengths)];
}
static void add(enum op op, int key, size_t vlen) {
    REQUIRE(I.steps < STEPS);
    I.step[I.steps] = (struct step){op, key, vlen, (uint64_t)I.steps + 2};
    I.steps++;
}
static int draw(int n) { return (int)(test_rng() % (uint64_t)n); }
static int near(int key) { /* another of its buckets, if a few looks find one */
    int other = draw(I.in_image);
    for (int i = 0; i < 300; i++, other = (other + 1) % I.in_image)
        if (other != key && (I.key[other].uid & 511) / SHF_BUCKET_SLOTS == (I.key[key].uid & 511) / SHF_BUCKET_SLOTS) break;
    return other;
}
static void make_change(enum change c) {
    int key = Q.key[Q.which], other;
    const int *pair = I.pairs ? I.pair[draw(I.pairs)] : NULL;
    size_t vlen = I.key[key].vlen;
    for (int i = 0; pair != NULL && i < I.pairs; i++)
        if (I.pair[i][0] == key || I.pair[i][1] == key) pair = I.pair[i];
    I.steps = 0;
    switch (c) {
    case SPLIT:
    case FILL:
        for (int i = c == SPLIT ? draw(3) + 1 : 60, k = I.in_image; i > 0 && k < I.keys; i--, k++) add(PUT, k, I.key[k].vlen);
        break;
    case TWICE: add(PUT, key, vlen); /* fall through */
    case REPLACE: add(PUT, key, vlen); break;
    case LENGTH: add(PUT, key, length_of(test_rng())); break;
    case INTO_LARGE:
        add(PUT, key, I.klen ? I.vlen : LARGE);
        add(PUT, key, length_of(test_rng()));
        break;
    case SELF:
        add(DEL, key, 0);
        add(PUT, key, vlen);
        break;
    case NEIGHBOUR:
        other = near(key);
        add(DEL, other, 0);
        add(PUT, other, I.key[other].vlen);
        break;
    case ROB:
    case ROB_AND_BACK:
        if (pair == NULL) break;
        add(DEL, pair[0], 0);
        add(PUT, pair[1], I.key[pair[1]].vlen);
        if (c == ROB) break;
        add(DEL, pair[1], 0);
        add(PUT, pair[0], I.key[pair[0]].vlen);
        break;
    case CHURN:
        for (int i = 0; i < 400; i++) other = draw(I.in_image), add(PUT, other, I.key[other].vlen > 200 ? 60 : I.key[other].vlen);
        break;
    case CLEAR_ALL:
        add(CLEAR, 0, 0);
        for (int i = 0; i < I.in_image; i++) add(PUT, i, I.key[i].vlen > 200 ? 60 : I.key[i].vlen);
        break;
    case CHANGES: break;
    }
}
static void do_step(int i) {
    const struct step *s = &I.step[i];
    const struct key *k = &I.key[s->key];
    R.step = i + 1;
    int rc = s->op == PUT   ? shf_table_put(writer.t, k->name, k->len, value_of(s->key, s->vlen, s->stamp), s->vlen, NULL)
             : s->op == DEL ? shf_table_del(writer.t, k->name, k->len)
                            : shf_table_clear(writer.t);
    if (rc != SHF_OK && !(s->op == DEL && rc == SHF_NOT_FOUND))
        FAIL("step %d of a change: %d, %s", i, rc, shf_last_error()->message), test_stop();
}

/* ---- one read ---- */
static void restore(void) {
    if (writer.t->region.size != I.file_size) FAIL("the file has grown: a handle knows more than its header says"), test_stop();
    memcpy(writer.base, I.image, I.image_size);
}
struct plan {
    uint64_t p, again, q; /* q: before that store of step `slow` the reader goes on to its end; 0: never */
    int cut, slow;        /* cut: steps at the first pause */
};
static int splitting(int step) { return step == 0 && I.step[0].op == PUT && I.step[0].key == I.in_image; }
static uint64_t paused_reads, twice_paused, stopped_writes;
/* 0: the reader was never paused. */
static int read_paused(const struct plan *plan) {
    restore();
    R.p = plan->p, R.again = plan->again;
    R.finished = R.step = R.begun = R.looked = 0;
    let_read();
    if (R.finished) return 0;
    paused_reads++;
    for (int i = 0; i < I.steps; i++) {
        if (i == plan->cut) {
            let_read();
            twice_paused += !R.finished;
        }
        int slow = plan->q != 0 && i == plan->slow && !R.finished;
        if (slow && splitting(i)) set_break(&writer, &split_trace, plan->q, 0);
        else if (slow) shut(&writer, plan->q);
        do_step(i);
        if (slow) clear_break();
        if (slow) protect(&writer, writer.open), stopped_writes += (uint64_t)writer.hit;
    }
    while (!R.finished) let_read();
    return 1;
}
static void judge(enum change c, const struct plan *plan) {
    if (reader_stored) FAIL("a reader stored"), reader_stored = 0;
    static const char *const places[] = {"first", "second", "stashed", "absent"};
    int bad = A.rc != SHF_OK ? -2 : -1;
    for (int i = 0; i < Q.n && bad == -1; i++)
        if ((Q.n > 1 || i == Q.which) && !answer_legal(i)) bad = i;
    if (bad == -1 && R.looked && !later_legal()) bad = -3;
    if (bad == -1) return;
    int which = bad < 0 ? Q.which : bad;
    const struct key *k = &I.key[Q.key[which]];
    FAIL("%s in a (%zu, %zu) table, %s: key %d (%zu bytes, %s), change: %s; code %d, %zu bytes, rc %d, second reader %d; paused "
         "before load %llu, after step %d of %d for %llu loads, writer before store %llu of step %d; %d steps begun",
         look_names[Q.look], I.klen, I.vlen, I.event == SPLITS ? "split" : "doubling", Q.key[which], k->len, places[k->place],
         change_names[c], A.v[which].code, A.v[which].len, A.rc, R.looked ? R.later_rc : -1, (unsigned long long)plan->p,
         plan->cut, I.steps, (unsigned long long)plan->again, (unsigned long long)plan->q, plan->slow, R.begun);
}

/* ---- images ---- */
static size_t make_key(unsigned char *name, uint64_t n) {
    static const size_t lengths[] = {4, 4, 4, 4, 4, 16, 16, 16, 16, 9, 30, 30, 12, 300, 5, 16};
    size_t len = I.klen ? I.klen : lengths[n % 16];
    fixed_key(name, len, n);
    return len;
}
static uint32_t tag_of(uint64_t h) { return I.klen ? shf_cell_tag(h) : shf_hash_tag32(h); }
static uint32_t flag_of(uint64_t h) {
    return I.klen ? shf_cell_flag_number(shf_hash_delta(h)) : shf_hash_delta(h) & 7;
}
static int take_key(const unsigned char *name, size_t len) {
    uint64_t h = shf__hash(&I.hash, name, len);
    if (shf_hash_shard(h) != I.shard || ((shf_hash_dir(h) ^ I.top) & I.mask) != 0 || I.keys == POOL) return 0;
    struct key *k = &I.key[I.keys];
    memset(k, 0, sizeof *k);
    memcpy(k->name, name, len);
    k->len = len, k->h = h, k->vlen = length_of((uint64_t)I.keys);
    I.keys++;
    return 1;
}
struct hashed {
    uint64_t h;
    uint32_t n;
};
static int by_hash(const void *a, const void *b) {
    uint64_t x = ((const struct hashed *)a)->h, y = ((const struct hashed *)b)->h;
    return (x > y) - (x < y);
}
/* Variable lengths: two keys with all 24 bits of the tag, shard and bucket alike, by their birthdays. 1 if there are. */
static int find_twins(unsigned char twin[2][4]) {
    static int found = -1; /* the same for both images: they have one seed */
    static uint32_t number[2];
    uint32_t most = 1u << 20;
    struct hashed *all = found < 0 ? test_alloc(most * sizeof *all) : NULL;
    for (uint32_t i = 0; found < 0 && i < most; i++) {
        fixed_key(twin[0], 4, all[i].n = 0x80000000u + i);
        uint64_t h = shf__hash(&I.hash, twin[0], 4);
        all[i].h = (uint64_t)shf_hash_shard(h) << 48 | (uint64_t)shf_hash_b1(h) << 32 | shf_hash_tag32(h);
    }
    if (all != NULL) qsort(all, most, sizeof *all, by_hash), found = 0;
    for (uint32_t i = 1; all != NULL && found == 0 && i < most; i++)
        if (all[i].h == all[i - 1].h) found = 1, number[0] = all[i].n, number[1] = all[i - 1].n;
    free(all);
    for (int i = 0; i < 2; i++) fixed_key(twin[i], 4, number[i]);
    return found;
}
static void swap_keys(int a, int b) {
    struct key k = I.key[a];
    I.key[a] = I.key[b], I.key[b] = k;
}
/* The pool, in the order of the puts: first those that fill two buckets, then as many as can be that belong to these two and
 * none other: stashed. Then all others. Twin 0 comes first, twin 1 last. */
static void make_pool(void) {
    unsigned char name[304];
    uint32_t count[SHF_BUCKETS][64] = {{0}}, best = 0, b = 0, d = 1, room = I.klen ? SHF_CELLS : SHF_BUCKET_SLOTS;
    unsigned char twin[2][4];
    int twins = !I.klen && find_twins(twin);
    uint64_t whose = twins ? shf__hash(&I.hash, twin[0], 4) : 0;
    I.keys = 0, I.shard = twins ? shf_hash_shard(whose) : SHF_SHARD_COUNT / 2, I.top = shf_hash_dir(whose);
    I.mask = I.event == SPLITS ? 0 : 0x7fff & ~(0x7fffu >> SHF_DIR_INLINE);
    for (int i = 0; i < 2 * twins; i++) REQUIRE(take_key(twin[i], 4));
    for (uint64_t n = 0; I.keys < POOL; n++) {
        size_t len = make_key(name, n);
        take_key(name, len);
    }
    if (twins) swap_keys(1, POOL - 1);
    for (int i = 0; i < POOL - 1; i++) count[shf_hash_b1(I.key[i].h)][shf_hash_delta(I.key[i].h)]++;
    for (uint32_t i = 0; i < SHF_BUCKETS; i++)
        for (uint32_t j = 1; j < 64; j++)
            if (count[i][j] + count[i ^ j][j] > best) best = count[i][j] + count[i ^ j][j], b = i, d = j;
    int at = twins;
    for (uint32_t side = 0; side < 2; side++)
        for (uint32_t i = (uint32_t)at, n = 0; i < POOL - 1 && n < room - 1; i++)
            if (shf_hash_b1(I.key[i].h) == (side ? b ^ d : b) && shf_hash_delta(I.key[i].h) != d) swap_keys((int)i, at++), n++;
    for (int i = at; i < POOL - 1; i++)
        if (shf_hash_delta(I.key[i].h) == d && (shf_hash_b1(I.key[i].h) == b || shf_hash_b1(I.key[i].h) == (b ^ d)))
            swap_keys(i, at++);
    for (int i = 0; i < 3 && !I.klen; i++) I.key[I.large[i] = at + i].vlen = i < 2 ? LARGE : VERY_LARGE;
}
static void put_image(int i) {
    const struct key *k = &I.key[i];
    REQUIRE_EQ_INT(shf_table_put(writer.t, k->name, k->len, value_of(i, k->vlen, 1), k->vlen, NULL), SHF_OK);
    if (!I.klen && i % 2) put_image(i / 2 & ~1); /* garbage */
}
static void open_side(struct side *s, unsigned flags) {
    int rc = shf_table_open(I.path, flags, NULL, &s->t);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    s->base = s->t->region.base, s->size = s->t->region.reserved;
}
static void close_sides(void) {
    struct shf_table *all[] = {reader.t, later, writer.t};
    for (int i = 0; i < 3; i++) shf_table_close(all[i]);
    reader.t = later = writer.t = NULL;
    reader.base = writer.base = NULL;
    free(I.image);
    I.image = NULL, I.image_size = 0;
}
/* A new file with a seed of ours. */
static void new_file(void) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t;
    struct shf_shm_header h;
    uint64_t s = test_seed;
    o.max_bytes = 16 << 20, o.fixed_key = (uint32_t)I.klen, o.fixed_value = (uint32_t)I.vlen;
    unlink(I.path);
    REQUIRE_EQ_INT(shf_table_open(I.path, SHF_CREATE | SHF_EXCL, &o, &t), SHF_OK);
    shf_table_close(t);
    int fd = open(I.path, O_RDWR);
    REQUIRE(fd >= 0 && pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h);
    h.seed[0] = test_next(&s), h.seed[1] = test_next(&s);
    h.checksum = shf__checksum(&h, offsetof(struct shf_shm_header, checksum));
    REQUIRE(pwrite(fd, &h, sizeof h, 0) == (ssize_t)sizeof h);
    close(fd);
    shf__hash_key_init(&I.hash, h.hash, h.seed);
}
static void find_pairs(void) {
    I.pairs = 0;
    for (int i = 0; i < I.in_image; i++)
        for (int j = I.in_image; j < I.keys && I.pairs < PAIRS; j++) {
            struct key *a = &I.key[i], *b = &I.key[j];
            uint32_t uid = 0;
            if (a->place != FIRST || shf_hash_b1(a->h) != shf_hash_b1(b->h) || tag_of(a->h) != tag_of(b->h)) continue;
            restore();
            shf_table_del(writer.t, a->name, a->len);
            REQUIRE_EQ_INT(shf_table_put(writer.t, b->name, b->len, value_of(j, b->vlen, 1), b->vlen, &uid), SHF_OK);
            if ((uid & 511) == (a->uid & 511)) I.pair[I.pairs][0] = i, I.pair[I.pairs++][1] = j;
        }
}
static void prepare(void) {
    snprintf(I.path, sizeof I.path, "%s", temp_path("t"));
    new_file();
    make_pool();
    for (int pass = 0; pass < 2; pass++) {
        if (pass) new_file();
        open_side(&writer, 0);
        struct shf_table_stats a = table_stats(writer.t), b;
        for (int i = 0; i < (pass ? I.in_image : I.keys - 1); i++) {
            put_image(i);
            if (pass) continue;
            b = table_stats(writer.t);
            I.in_image = i;
            int deeper = b.max_depth > a.max_depth, more = b.segments > a.segments && !deeper;
            if (a.segments && (I.event == SPLITS ? more : deeper)) break;
            a = b;
        }
        if (!pass) shf_table_close(writer.t);
    }
    REQUIRE(I.in_image < I.keys - 100);
    memset(I.places, 0, sizeof I.places);
    for (int i = 0; i < I.keys; i++) {
        struct key *k = &I.key[i];
        k->there = i < I.in_image, k->place = NOT_THERE;
        if (k->there) {
            REQUIRE_EQ_INT(shf_table_checked_uid(writer.t, k->name, k->len, &k->checked), SHF_OK);
            k->uid = (uint32_t)(k->checked >> 32);
            uint32_t bucket = (k->uid & 511) / SHF_BUCKET_SLOTS, b1 = shf_hash_b1(k->h);
            k->place = bucket == b1 ? FIRST : bucket == (b1 ^ shf_hash_delta(k->h)) ? SECOND : STASHED;
        }
        I.at_place[k->place][I.places[k->place]++] = i;
    }
    I.exposures = 0;
    for (int i = 0; i < I.places[FIRST]; i++)
        for (int j = 0; j < I.places[SECOND]; j++) {
            const struct key *a = &I.key[I.at_place[FIRST][i]], *b = &I.key[I.at_place[SECOND][j]];
            if (shf_hash_b1(a->h) != shf_hash_b1(b->h) || flag_of(a->h) != flag_of(b->h)) continue;
            I.exposed[I.exposures++] = I.at_place[FIRST][i];
            break;
        }
    static unsigned char name[400], val[ANSWER_MOST];
    for (uint64_t position = (uint64_t)I.shard << 48, before = position;; before = position) {
        size_t kn, vn;
        uint32_t uid;
        int rc = shf_table_next(writer.t, &position, name, sizeof name, &kn, val, sizeof val, &vn, &uid);
        if (rc == SHF_NOT_FOUND) break;
        REQUIRE_EQ_INT(rc, SHF_OK);
        for (int i = 0; i < I.in_image; i++)
            if (I.key[i].uid == uid) I.key[i].before = before;
    }
    reader.open = test_seed % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
    uint64_t word = 0;
    open_side(&reader, test_seed % 2 ? SHF_RDONLY : 0);
    REQUIRE_EQ_INT(shf_table_open(I.path, SHF_RDONLY, NULL, &later), SHF_OK);
    REQUIRE_EQ_INT(shf__pages_grow(&writer.t->pages, ROOM), SHF_OK);
    for (uint32_t next = 0, head; shf__pages_walk(&writer.t->region, &next, &head, &word) > 0;)
        if (shf_page_state(word) != SHF_PAGE_FREE) I.image_size = (head + shf_page_length(word)) * (size_t)SHF_PAGE;
    I.file_size = writer.t->region.size, writer.size = I.image_size;
    REQUIRE(I.file_size <= SHF_MAP_ENTRIES * (size_t)SHF_PAGE); /* one map page says it all */
    I.image = test_alloc(I.image_size);
    memcpy(I.image, writer.base, I.image_size);
    find_pairs();
    restore();
    I.steps = 0;
    add(PUT, I.in_image, I.key[I.in_image].vlen);
    split_trace.n = 0, writer.trace = &split_trace;
    shut(&writer, NEVER);
    do_step(0);
    protect(&writer, writer.open);
    writer.trace = NULL;
}

/* ---- the tests ---- */
static int draw_key(void) {
    int what = draw(64), place = draw(3);
    if (!I.klen && what == 63) return I.large[draw(8) ? draw(2) : 2]; /* seldom: they are long to read */
    if (I.pairs && what < 16) return I.pair[draw(I.pairs)][draw(2)];
    if (I.exposures && what < 32) return I.exposed[draw(I.exposures)];
    if (I.places[place] == 0) place = FIRST;
    /* Those put first belong to the two full buckets: more of them. */
    int most = draw(2) && I.places[place] > 12 ? 12 : I.places[place], key = I.at_place[place][draw(most)];
    return I.key[key].vlen < LARGE ? key : 0;
}
static int put_question(enum look look, int key) {
    int batch = look == MANY || look == PACKED || look == MANY_BY_UID;
    Q.look = look, Q.n = batch ? 3 + draw(MANY_MOST - 2) : 1, Q.which = draw(Q.n);
    for (int i = 0; i < Q.n; i++) {
        do Q.key[i] = draw(40); /* keys of a few buckets, none with a large value */
        while (I.key[Q.key[i]].vlen >= LARGE);
        if (i == Q.which) Q.key[i] = key;
    }
    return I.key[key].there || (look != NEXT && look != BY_UID && look != KEY_BY_UID && look != BY_CHECKED && look != MANY_BY_UID);
}
static uint64_t count_loads(void) {
    struct plan none = {.p = NEVER};
    I.steps = 0;
    if (read_paused(&none)) FAIL("paused, though nobody asked for it");
    return reader_trace.n;
}
static uint64_t stores_seen[CHANGES];
/* One of the accesses of a trace; mostly none that comes late in a loop: there they are much alike, and far to go. */
static uint64_t draw_access(const struct trace *trace) {
    for (;;) {
        uint64_t access = 1 + test_rng() % trace->n, before = 0;
        for (uint64_t i = 0; i < access - 1; i++) before += trace->at[i] == trace->at[access - 1];
        if (before < 24 || draw(16) == 0) return access;
    }
}
static void draw_cut(enum change c, struct plan *plan) {
    if (draw(4) == 0) plan->again = 1 + test_rng() % 10, plan->cut = draw(I.steps + 1);
    if (draw(3) || I.steps == 0) return;
    uint64_t most = stores_seen[c] ? stores_seen[c] + stores_seen[c] / 8 + 1 : 50;
    plan->slow = c == SPLIT ? 0 : c == ROB ? 1 : draw(2) ? 0 : draw(I.steps);
    plan->q = splitting(plan->slow) ? draw_access(&split_trace) : 1 + test_rng() % most;
}
static void one_read(enum change c, const struct plan *plan) {
    if (read_paused(plan)) {
        judge(c, plan);
        if (plan->q && !splitting(plan->slow) && !writer.hit && writer.n > stores_seen[c]) stores_seen[c] = writer.n;
    }
}
static enum change draw_change(void) {
    int key = Q.key[Q.which], what = draw(8);
    if (I.key[key].vlen >= LARGE && what < 4) return what < 3 ? TWICE : INTO_LARGE;
    for (int i = 0; i < I.pairs && what < 4; i++)
        if (I.pair[i][0] == key || I.pair[i][1] == key) return what < 3 ? ROB : ROB_AND_BACK;
    if (what < 2) return SPLIT;
    if (what < 4 && !I.klen) return CHURN;
    enum change c = (enum change)draw(CHANGES);
    return c >= CHURN && draw(4) ? (enum change)draw(CHURN) : c; /* long ones are seldom */
}
/* What has been wrong once, or nearly, each time and at every load: a get of a key whose bucket sends it on to the second, while
 * the segment splits; and of a key that is put into the place of one with its tag, at every store. */
static uint64_t always(void) {
    uint64_t reads = 0;
    for (int i = 0; i < I.exposures && i < 40; i++) {
        put_question(GET, I.exposed[i]);
        uint64_t loads = count_loads();
        make_change(SPLIT);
        for (uint64_t p = 1; p <= loads && p <= 30 && *test_failures == 0; p++, reads++)
            one_read(SPLIT, &(struct plan){.p = p, .cut = I.steps + 1});
    }
    for (int i = 0; i < I.pairs && i < 4; i++) {
        put_question(GET, I.pair[i][1]);
        uint64_t loads = count_loads();
        make_change(ROB);
        for (uint64_t p = 1; p <= loads && p <= 12; p++)
            for (uint64_t q = 1; q <= 12 && *test_failures == 0; q++, reads++) {
                one_read(ROB, &(struct plan){.p = p, .cut = I.steps + 1, .q = q, .slow = 1});
                if (!writer.hit) break;
            }
    }
    return reads;
}
static uint64_t sample(uint64_t end, uint64_t most) {
    uint64_t reads = 0;
    while (reads < most && test_now_ns() < end && *test_failures == 0) {
        enum look look = draw(3) == 0 ? GET : (enum look)draw(draw(2) ? NEXT : LOOKS);
        if (!put_question(look, draw_key())) continue;
        uint64_t loads = count_loads();
        for (int i = subject()->vlen < LARGE ? 0 : 5; loads > 0 && i < 8 && *test_failures == 0; i++, reads++) {
            enum change c = draw_change();
            make_change(c);
            struct plan plan = {.p = draw_access(&reader_trace), .cut = I.steps + 1};
            draw_cut(c, &plan);
            one_read(c, &plan);
        }
    }
    return reads;
}
static uint64_t everything(void) {
    uint64_t reads = 0;
    int keys[200], n = 0;
    for (int place = 0; place < NOT_THERE; place++)
        for (int i = 0; i < 12 && i < I.places[place]; i++) keys[n++] = I.at_place[place][i];
    for (int i = 0; i < 12 && i < I.exposures; i++) keys[n++] = I.exposed[i];
    for (int i = 0; i < 3 && !I.klen; i++) keys[n++] = I.large[i];
    for (int i = 0; i < 4 && i < I.pairs; i++) keys[n++] = I.pair[i][0], keys[n++] = I.pair[i][1];
    for (int k = 0; k < n; k++)
        for (int look = 0; look < LOOKS; look++) {
            if (!put_question((enum look)look, keys[k])) continue;
            uint64_t loads = count_loads(), stride = 1 + loads / 300;
            for (int c = 0; c < CHANGES; c++)
                for (uint64_t p = 1 + test_rng() % stride; p <= loads && *test_failures == 0; p += stride) {
                    make_change((enum change)c);
                    struct plan plan = {.p = p, .cut = I.steps + 1};
                    one_read((enum change)c, &plan);
                    draw_cut((enum change)c, &plan);
                    one_read((enum change)c, &plan);
                    reads += 2;
                }
        }
    return reads;
}
static uint64_t total_paused, total_twice, total_stopped; /* of all tests that ran */
static void pauses(size_t klen, size_t vlen, uint64_t parts) {
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, was[3];
    cpu_set_t one, all;
    pthread_t thread;
    uint64_t ms = test_env("SHF_SECONDS", 5) * 1000 / parts, ops = test_env("SHF_OPS", NEVER), start = test_now_ns();
    I.klen = klen, I.vlen = vlen;
    paused_reads = twice_paused = stopped_writes = 0;
    for (int i = 0; i < MANY_MOST; i++) A.v[i].data = test_alloc(ANSWER_MOST);
    /* One processor for both: they take turns, and a wake-up on another one costs more than all else. */
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    sigaction(SIGSEGV, &fault, &was[0]), sigaction(SIGBUS, &fault, &was[1]), sigaction(SIGTRAP, &trap, &was[2]);
    sem_init(&to_reader, 0, 0), sem_init(&to_writer, 0, 0);
    R.quit = 0;
    if (pthread_create(&thread, NULL, reader_main, NULL) != 0) FAIL("pthread_create"), test_stop();
    for (int event = 0; event < 2 && *test_failures == 0; event++) {
        I.event = (enum event)event;
        memset(stores_seen, 0, sizeof stores_seen);
        prepare();
        uint64_t end = start + ms * 500000 * (uint64_t)(event + 1);
        uint64_t reads = always();
        reads += ops == 0 ? everything() : sample(end, ops / 2);
        printf("# (%zu, %zu) %s: %d keys, %d in their second bucket, %d stashed, %d pairs; %llu reads\n", klen, vlen,
               event ? "doubling" : "split", I.in_image, I.places[SECOND], I.places[STASHED], I.pairs, (unsigned long long)reads);
        restore();
        close_sides();
        if (*test_failures == 0) {
            REQUIRE_EQ_INT(shf_table_open(I.path, 0, NULL, &later), SHF_OK);
            CHECK_EQ_INT(table_clean(later), I.in_image);
            shf_table_close(later);
        }
    }
    R.quit = 1;
    sem_post(&to_reader);
    pthread_join(thread, NULL);
    sigaction(SIGSEGV, &was[0], NULL), sigaction(SIGBUS, &was[1], NULL), sigaction(SIGTRAP, &was[2], NULL);
    sched_setaffinity(0, sizeof all, &all);
    for (int i = 0; i < MANY_MOST; i++) free(A.v[i].data);
    total_paused += paused_reads, total_twice += twice_paused, total_stopped += stopped_writes;
    printf("# %llu paused, %llu twice, %llu beside a stopped writer\n", (unsigned long long)paused_reads,
           (unsigned long long)twice_paused, (unsigned long long)stopped_writes);
}
TEST(variable) { pauses(0, 0, 2); }
TEST(fixed_4_4) { pauses(4, 4, 6); }
TEST(fixed_8_8) { pauses(8, 8, 6); }
TEST(fixed_16_40) { pauses(16, 40, 6); }
TEST(total) {
    printf("# total: %llu reads paused before one of their loads, %llu twice, %llu beside a stopped writer; 0 torn, 0 lost unless a "
           "test failed\n",
           (unsigned long long)total_paused, (unsigned long long)total_twice, (unsigned long long)total_stopped);
}
#endif

int main(int argc, char **argv) { return run(argc, argv); }
