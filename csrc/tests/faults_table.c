/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_table.c - every call of shf.h while its system calls fail, one after the other
 *
 * HOOK        os.c asks shf__os_fault() before each call that can fail. For k = 1, 2, ... the k-th call of an act fails
 *             with an errno that is typical for it (k alone, or k with all that follow), until none is reached any
 *             more. Where the same calls come in many acts the seed chooses the k, and it chooses the errno;
 *             SHF_FAULTS_FULL=1: each k with each errno.
 * ACTS        one or more for each public function; a test compares their list with shf.h itself.
 * SITUATIONS  those in which calls that need no system call otherwise make some:
 *               plain    a handle, nothing special           tight   no free page: what needs room must grow
 *               dead     all locks are held by a dead process, with a step armed and a large value half written
 *               held     all locks are held by a live process: others sleep and give up at their deadline
 *               grown    the file has grown since the handle looked last
 *               forked   the first use of an inherited handle in a child
 *             Each is an image of one file, made once: so every run begins with the same bytes.
 * AFTERWARDS  The outcome is legal and told (code, path, message). The keys are as the model has them: an error has
 *             changed nothing. The same handle works, a new one does, `check` is clean, no descriptor and no mapping is
 *             left (memory: the address sanitizer's flavour).
 */
#include "os.h"
#include "table.h"

#include <fcntl.h>
#include <sys/resource.h>

#define FAULTS_HEADER "shf.h"
#include "faults_model.h"

#include "acts.h"

/* ---- the file and its images ---- */

static const char *const situation_names[] = {"plain", "tight", "dead", "held", "grown", "forked"};

struct image {
    unsigned char *bytes;
    size_t size;
    struct model model;
    uint32_t key, fresh; /* a key that is there, and one that is not */
};
static struct image clean[2], images[2][SITUATIONS]; /* by: of fixed lengths? */
static void model_copy(struct model *to, const struct model *from) {
    model_init(to);
    for (size_t i = 0; i < from->count; i++) {
        const struct model_entry *e = from->entries[i];
        struct model_entry *n = model_put(to, e->key, e->klen, e->val, e->vlen);
        n->uid = e->uid, n->check = e->check;
    }
}
static void image_take(struct image *image, struct run *r) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    image->size = (size_t)st.st_size;
    image->bytes = test_alloc(image->size);
    REQUIRE(pread(fd, image->bytes, image->size, 0) == (ssize_t)image->size);
    close(fd);
    image->model = r->m, image->key = r->key, image->fresh = r->fresh;
}
static void image_put(const struct image *image, int cut) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    if (cut) REQUIRE(ftruncate(fd, 0) == 0);
    REQUIRE(pwrite(fd, image->bytes, image->size, 0) == (ssize_t)image->size);
    close(fd);
}
static void set_file_limit(uint64_t bytes) {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}
static uint64_t file_bytes(void) {
    struct stat st;
    REQUIRE(stat(path, &st) == 0);
    return (uint64_t)st.st_size;
}
static void lock_all(struct shf_table *t, int but) {
    struct shf_shm_header *h = t->region.header;
    for (int i = 0; i < (int)SHF_SHARD_COUNT; i++)
        if (i != but) REQUIRE_EQ_INT(shf__table_lock(t, &t->shards[i]), SHF_OK);
    if (but < 0) {
        REQUIRE_EQ_INT(shf__lock(&t->registry, &h->alloc_word, NULL), SHF_OK);
        REQUIRE_EQ_INT(shf__lock(&t->registry, &h->grow_word, NULL), SHF_OK);
    }
}
static void unlock_all(struct shf_table *t) {
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) shf__table_unlock(&t->shards[i]);
    shf__unlock(&t->region.header->alloc_word);
    shf__unlock(&t->region.header->grow_word);
}

/* A large value, half of it written. */
static void die_in_a_large_put(void *arg) {
    struct run *r = arg;
    uint64_t before = shf__crash_count;
    REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &r->t), SHF_OK);
    REQUIRE_EQ_INT(change(r, 900, 100000, 1), SHF_OK);
    shf__crash_at = shf__crash_count + (shf__crash_count - before) / 2;
    change(r, 901, 100000, 1);
}
/* Dies before its k-th store after the victim's lock, when it holds the locks of all the others. */
struct armed {
    struct run *r;
    uint64_t k;
};
static void die_with_a_step_armed(void *arg) {
    const struct armed *a = arg;
    struct run *r = a->r;
    unsigned char key[24];
    uint32_t uid;
    REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &r->t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_uid(r->t, key, key_bytes(r->fixed, VICTIM, key), &uid), SHF_OK);
    lock_all(r->t, (int)(uid >> 24));
    shf__crash_at = shf__crash_count + a->k;
    change(r, VICTIM, 100, 2);
}

static void forget(int fixed) {
    for (int in = TIGHT; in <= GROWN; in++) {
        if (in == HELD) continue;
        free(images[fixed][in].bytes);
        model_free(&images[fixed][in].model);
    }
    free(clean[fixed].bytes);
    model_free(&clean[fixed].model);
}
static void build(int fixed) {
    struct run r = {.fixed = fixed};
    struct shf_table *other;
    make_table(&r, temp_path(fixed ? "f" : "v"));
    shf_table_close(r.t);
    image_take(&clean[fixed], &r);
    images[fixed][PLAIN] = images[fixed][HELD] = images[fixed][FORKED] = clean[fixed];

    for (int in = TIGHT; in <= GROWN; in++) {
        if (in == HELD) continue;
        image_put(&clean[fixed], 1);
        model_copy(&r.m, &clean[fixed].model);
        r.key = 5, r.fresh = 800;
        REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &r.t), SHF_OK); /* takes the slot that a run's handle has */
        other = r.t;
        uint64_t size = file_bytes();
        if (in == TIGHT) {
            int rc = SHF_OK;
            set_file_limit(size);
            for (uint32_t i = 200; rc == SHF_OK; i++) rc = change(&r, i, BIG, 1), r.fresh = i;
            CHECK_EQ_INT(rc, SHF_ERR_NO_SPACE);
            set_file_limit(RLIM_INFINITY);
        } else if (in == GROWN) {
            REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &r.t), SHF_OK);
            for (uint32_t i = 200; file_bytes() < size + (fixed ? 256u << 10 : 2u << 20); i++)
                REQUIRE_EQ_INT(change(&r, i, BIG, 1), SHF_OK), r.key = i;
            note_uids(&r);
            shf_table_close(r.t);
        } else {
            if (!fixed) {
                CHECK_EQ_INT(run_child(die_in_a_large_put, &r, 20000), CHILD_KILLED(SIGKILL));
                value_fill(big, 100000, "k900", 4, 1);
                struct model_entry *e = model_put(&r.m, "k900", 4, big, 100000);
                REQUIRE_EQ_INT(shf_table_checked_uid(other, "k900", 4, &e->check), SHF_OK);
            }
            uint32_t armed = 0;
            for (struct armed a = {&r, 1}; !armed && run_child(die_with_a_step_armed, &a, 20000) != 0; a.k++)
                for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) armed += shm_load_relaxed(&other->shards[i].arm) != 0;
            CHECK(armed == 1 || fixed);                      /* a value in one cell needs no step */
            for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) { /* somebody slept: who unlocks must wake */
                shf_au32 *word = &other->shards[i].word;
                if (shm_load_relaxed32(word) != 0)
                    shm_store_relaxed32(word, shm_load_relaxed32(word) | SHF_LOCK_WAITERS);
            }
        }
        image_take(&images[fixed][in], &r);
        shf_table_close(other);
    }
}

/* ---- one run ---- */

static struct { uint64_t runs, errors; } * total; /* shared with children */

static void told(const struct act *a, const struct run *r, int rc) {
    const struct shf_error_info *e = shf_last_error();
    CHECK(rc >= SHF_ERR_NO_MEMORY && rc <= SHF_STOPPED);
    if (rc >= 0) return;
    __atomic_add_fetch(&total->errors, 1, __ATOMIC_RELAXED);
    CHECK_EQ_INT(e->code, rc);
    CHECK(e->message[0] != 0 && e->place[0] != 0);
    if (fault.hits && rc != SHF_ERR_READ_ONLY && (e->path[0] == 0 || !strstr(e->message, e->path)))
        FAIL("the message names no file: %s (%s)", e->message, e->place);
    if (!(a->how & OPENS) && strcmp(e->path, path) != 0) FAIL("another file is named: %s", e->path);
    /* What failed is a call, not the file. */
    if (rc == SHF_ERR_CORRUPT || rc == SHF_ERR_INCOMPATIBLE || rc == SHF_ERR_UNCLEAN || rc == SHF_ERR_INVALID ||
        rc == SHF_ERR_FULL || rc == SHF_ERR_TOO_LONG)
        FAIL("the wrong error: %s", e->message);
    if ((a->how & CHANGES) && r->read_only && rc != SHF_ERR_IO) CHECK_EQ_INT(rc, SHF_ERR_READ_ONLY); /* or its read */
}

/* The death was before or after the commit of its step: who has taken its lock over knows. */
static void resolve_victim(struct run *r, struct shf_table *t) {
    unsigned char key[24];
    size_t klen = key_bytes(r->fixed, VICTIM, key), n = 0, vlen = r->fixed ? 8 : 100;
    if (model_get(&r->m, key, klen) == NULL) return; /* cleared */
    CHECK_EQ_INT(shf_table_len(t, &(uint64_t){0}), SHF_OK);
    REQUIRE_EQ_INT(shf_table_get(t, key, klen, out, sizeof out, &n), SHF_OK);
    value_fill(big, vlen, key, klen, 2);
    if (n == vlen && memcmp(out, big, n) == 0) model_put(&r->m, key, klen, big, vlen);
}
static void works(struct run *r, struct shf_table *t, uint32_t number) {
    unsigned char key[24];
    size_t klen = key_bytes(r->fixed, number, key), vlen = r->fixed ? 8 : 50000;
    value_fill(big, vlen, key, klen, 3);
    CHECK_EQ_INT(shf_table_put(t, key, klen, big, vlen, NULL), SHF_OK);
    model_put(&r->m, key, klen, big, vlen);
}
static void verify(struct run *r) {
    if (r->in == DEAD) resolve_victim(r, r->t);
    if (!r->read_only) works(r, r->t, 700);
    model_compare(&r->m, r->t);
    struct shf_table *u = NULL;
    CHECK_EQ_INT(shf_table_open(path, 0, &quick, &u), SHF_OK);
    if (u == NULL) return;
    works(r, u, 701);
    model_compare(&r->m, r->read_only ? u : r->t);
    shf_table_close(u);
}

/* Another process holds all locks, from the first byte it writes until it is killed or told to let go. */
struct holder {
    pid_t pid;
    int ready[2], go[2];
};
static void hold(void *arg) {
    struct holder *h = arg;
    struct shf_table *t = NULL;
    char c = 0;
    fault.at = 0;
    REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &t), SHF_OK);
    lock_all(t, -1);
    REQUIRE(write(h->ready[1], &c, 1) == 1 && read(h->go[0], &c, 1) == 1);
    unlock_all(t);
    shf_table_close(t);
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
    if (p->a->how & OPENS) return;
    verify(p->r);
}

/* The k-th call fails. 0 if there was no such call. */
static int one_run(const struct act *a, enum situation in, int fixed, int read_only, uint64_t k, struct play *p) {
    struct run r = {.fixed = fixed,
                    .read_only = read_only,
                    .in = in,
                    .key = images[fixed][in].key,
                    .fresh = images[fixed][in].fresh};
    struct holder holder;
    int files = open_files(), maps = mappings();
    memset(p, 0, sizeof *p);
    p->a = a, p->r = &r;
    model_copy(&r.m, &images[fixed][in].model);
    image_put(a->how & OPENS ? &images[fixed][in] : &clean[fixed], 1);
    if (!(a->how & OPENS)) {
        struct shf_table_options o = quick;
        if (in == HELD) o.lock_timeout_ms = 13; /* long enough to ask /proc about the holder */
        REQUIRE_EQ_INT(shf_table_open(path, read_only ? SHF_RDONLY : 0, &o, &r.t), SHF_OK);
        if (in == TIGHT || in == DEAD || in == GROWN) image_put(&images[fixed][in], 0);
    }
    if (in == HELD) hold_begin(&holder);
    fault.calls = fault.hits = 0, fault.name[0] = 0, fault.at = k;
    if (in == FORKED) {
        pid_t pid = fork_child(perform_in_child, p);
        fault.at = 0;
        CHECK_EQ_INT(wait_child(pid, 20000), 0);
    } else {
        perform(p);
    }
    if (in == HELD) hold_end(&holder);
    struct stat st;
    CHECK(stat(path, &st) == 0 && st.st_blocks >= st.st_size / 512); /* no page without its storage */
    if (in != FORKED) {
        if (a->how & OPENS) REQUIRE_EQ_INT(shf_table_open(path, 0, &quick, &r.t), SHF_OK);
        verify(&r);
    } else if (r.t != NULL) {
        table_clean(r.t);
    }
    shf_table_close(r.t);
    if (strcmp(p->name, "os_fstat") != 0) CHECK_EQ_INT(open_files(), files);
    CHECK_EQ_INT(mappings(), maps);
    __atomic_add_fetch(&total->runs, 1, __ATOMIC_RELAXED);
    model_free(&r.m);
    return p->calls >= k;
}

static void play(const struct act *a, enum situation in, int fixed, int read_only) {
    static const unsigned strides[] = {[PLAIN] = 1, [TIGHT] = 1, [DEAD] = 40, [HELD] = 32, [GROWN] = 1, [FORKED] = 40};
    int full = test_env("SHF_FAULTS_FULL", 0) != 0, choice = (int)(test_rng() % 3);
    unsigned stride = a->act == act_put ? 1 : strides[in] * (TEST_SANITIZED ? 4 : 1);
    uint64_t most = 0;
    struct play *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    for (fault.all = 0; fault.all < 2 && (fault.all == 0 || most != 0); fault.all++)
        for (int v = 0; v < (full ? 3 : 1); v++)
            for (uint64_t k = 1; *test_failures == 0; k += full ? 1 : 1 + test_rng() % (stride + k / 16)) {
                fault.variant = full ? v : (choice + (int)k) % 3;
                int reached = one_run(a, in, fixed, read_only, k, p);
                if (!p->hits && in != HELD && !(read_only && (a->how & CHANGES)) && a->act != act_open_excl &&
                    a->act != act_open_missing)
                    CHECK(p->rc >= 0);
                if (*test_failures)
                    FAIL("... %.30s%s, %s%s: call %llu (%s) fails%s with %d: %d, %s", a->functions,
                         fixed ? " (fixed)" : "", situation_names[in], read_only ? ", read-only" : "",
                         (unsigned long long)k, p->name, fault.all ? " with all that follow" : "", fault.error, p->rc,
                         in == FORKED ? "" : shf_last_error()->message);
                if (p->calls > most) most = p->calls;
                if (!reached) break;
                REQUIRE(k < 5000);
            }
    munmap(p, sizeof *p);
}

static void play_all(enum situation in) {
    for (int fixed = 0; fixed < 2; fixed++) {
        build(fixed);
        snprintf(path, sizeof path, "%s", temp_path(fixed ? "f" : "v"));
        uint64_t runs = total->runs, errors = total->errors;
        for (size_t i = 0; i < ACTS && *test_failures == 0; i++) {
            if (acts[i].how & OPENS && (in == HELD || in == GROWN || in == TIGHT)) continue;
            if (TEST_SANITIZED && acts[i].act != act_put && (in == HELD || in == FORKED) && test_rng() % 6 != 0)
                continue; /* a fork takes long */
            play(&acts[i], in, fixed, 0);
            if (!(acts[i].how & OPENS) && in != TIGHT && in != FORKED) play(&acts[i], in, fixed, 1);
        }
        forget(fixed);
        printf("# %s%s: %llu runs, %llu of them with an error\n", situation_names[in], fixed ? ", fixed lengths" : "",
               (unsigned long long)(total->runs - runs), (unsigned long long)(total->errors - errors));
    }
}

/* ---- tests ---- */

TEST(every_public_function_has_an_act) {
    const char *lists[ACTS];
    for (size_t i = 0; i < ACTS; i++) lists[i] = acts[i].functions;
    unsigned declared = acts_cover_the_header(lists, ACTS);
    CHECK(declared > 40);
    printf("# %u functions in shf.h, %zu acts\n", declared, ACTS);
}

/* What a process asks for once comes before all else; each fails in a process of its own. */
static void first_open_without(void *arg) {
    struct shf_table *t = NULL;
    fault.at = (uintptr_t)arg;
    int rc = shf_table_anonymous("first", &quick, &t);
    fault.at = 0;
    CHECK((rc == SHF_OK) == (t != NULL));
    if (rc < 0) CHECK(shf_last_error()->message[0] != 0 && shf_last_error()->code == rc);
    shf_table_close(t);
    CHECK_EQ_INT(shf_table_anonymous("second", &quick, &t), SHF_OK);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    shf_table_close(t);
}
TEST(first_use_in_a_process) {
    for (fault.variant = 0; fault.variant < 3; fault.variant++)
        for (fault.all = 0; fault.all < 2; fault.all++)
            for (uintptr_t k = 1; k < 30 && *test_failures == 0; k++)
                CHECK_EQ_INT(run_child(first_open_without, (void *)k, 20000), 0);
}
TEST(plain) { play_all(PLAIN); }
TEST(tight) { play_all(TIGHT); }
TEST(dead) { play_all(DEAD); }
TEST(held) { play_all(HELD); }
TEST(grown) { play_all(GROWN); }
TEST(forked) { play_all(FORKED); }

/* The last: of a whole run, none of the calls that can fail has been left out. */
TEST(system_calls_that_failed) {
    unsigned kinds = 0;
    for (size_t i = 0; i < SYSTEM_CALLS; i++) {
        kinds += failed[i] != 0;
        if (failed[i] == 0 && !system_calls[i].of_queues && whole_run && !TEST_SANITIZED) FAIL("%s has never failed", system_calls[i].name);
    }
    printf("# total: %llu runs of %zu acts of all public functions with failing system calls, %u kinds of them; %llu "
           "errors, "
           "which changed nothing; 0 leaks\n",
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
