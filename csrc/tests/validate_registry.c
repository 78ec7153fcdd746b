// SPDX-License-Identifier: MIT OR Apache-2.0
/* validate_registry.c - lives: attach, detach, verdicts, fork, copies; the invariants G-I1 to G-I4 of registry.c */
#include "fork_ways.h"

#include <pthread.h>
#include <sys/resource.h>

TEST(attach_detach_rounds_leak_nothing) {
    struct shf_region r;
    struct shf_registry g;
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    shf__registry_detach(&g);
    unsigned before = count_fds();
    uint64_t start = test_now_ns();
    for (int i = 0; i < 10000; i++) {
        REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
        REQUIRE_EQ_INT(SHF_OWNER_SLOT(shf__registry_owner(&g)), 1);
        REQUIRE_EQ_INT(SHF_OWNER_GENERATION(shf__registry_owner(&g)), i + 2);
        REQUIRE_EQ_INT(atomic_load(&r.header->dirty), 1);
        shf__registry_detach(&g);
        REQUIRE_EQ_INT(atomic_load(&r.header->dirty), 0);
    }
    printf("  attach + detach: %.1f us\n", (double)(test_now_ns() - start) / 1e3 / 10000);
    CHECK_EQ_INT(count_fds(), before);
    shf__registry_detach(&g); /* twice does nothing */
    region_down(&r);
}

TEST(generations_wrap_and_skip_zero) {
    struct shf_region r;
    struct shf_registry g, watcher;
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&watcher, &r, 1000), SHF_OK);
    atomic_store(&shf__registry_slot(&watcher, 2)->generation, SHF_GENERATION_MASK - 1);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    uint32_t last = shf__registry_owner(&g);
    CHECK_EQ_INT(last, SHF_OWNER(2, SHF_GENERATION_MASK));
    CHECK_EQ_INT(shf__registry_is_dead(&watcher, last), 0);
    CHECK_EQ_INT(shf__registry_is_dead(&watcher, last - 1), 1); /* G-I2: an older life of a live slot */
    shf__registry_detach(&g);
    CHECK_EQ_INT(shf__registry_is_dead(&watcher, last), 1); /* same generation, unlocked */
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    CHECK_EQ_INT(shf__registry_owner(&g), SHF_OWNER(2, 1));
    CHECK_EQ_INT(shf__registry_is_dead(&watcher, last), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, last), 1); /* own slot, older generation */
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(2, 1)), 0);
    CHECK_EQ_INT(shf__registry_is_dead(&g, shf__registry_owner(&watcher)), 0); /* same process, other handle */
    shf__registry_detach(&g);
    atomic_store(&shf__registry_slot(&watcher, 2)->generation, 0xffffffffu); /* garbage */
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    CHECK_EQ_INT(shf__registry_owner(&g), SHF_OWNER(2, 1));
    /* words that name no life */
    CHECK_EQ_INT(shf__registry_is_dead(&g, 0), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(0, 7)), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(1024, 7)), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(4095, 7)), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(1, 0)), 1);
    CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(1023, 7)), 1);
    CHECK_EQ_INT(shf__registry_count(&g), 2);
    shf__registry_detach(&g);
    CHECK_EQ_INT(shf__registry_count(&watcher), 1);
    shf__registry_detach(&watcher);
    region_down(&r);
}

TEST(full_registry_is_busy) {
    static struct shf_registry g[SHF_SLOT_COUNT];
    struct shf_region r;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 2000) {
        printf("  skipped: RLIMIT_NOFILE is %llu\n", (unsigned long long)limit.rlim_max);
        return;
    }
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    REQUIRE_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    unsigned before = count_fds();
    uint64_t start = test_now_ns();
    for (unsigned i = 1; i < SHF_SLOT_COUNT; i++) {
        REQUIRE_EQ_INT(registry_up(&g[i], &r, 1000), SHF_OK);
        REQUIRE_EQ_INT(SHF_OWNER_SLOT(shf__registry_owner(&g[i])), i);
    }
    uint64_t end = test_now_ns();
    CHECK_EQ_INT(registry_up(&g[0], &r, 1000), SHF_ERR_BUSY);
    printf("  1,023 attaches: %.1f us each; BUSY after %.1f us\n", (double)(end - start) / 1023e3,
           (double)(test_now_ns() - end) / 1e3);
    CHECK(strstr(shf_last_error()->message, path) != NULL);
    CHECK_EQ_INT(shf__registry_count(&g[1]), 1023);
    for (unsigned i = 1; i < SHF_SLOT_COUNT; i++)
        CHECK_EQ_INT(shf__registry_is_dead(&g[7], shf__registry_owner(&g[i])), 0);
    shf__registry_detach(&g[700]);
    CHECK_EQ_INT(registry_up(&g[0], &r, 1000), SHF_OK);
    CHECK_EQ_INT(SHF_OWNER_SLOT(shf__registry_owner(&g[0])), 700);
    shf__registry_detach(&g[0]);
    for (unsigned i = 1; i < SHF_SLOT_COUNT; i++)
        if (i != 700) shf__registry_detach(&g[i]);
    CHECK_EQ_INT(count_fds(), before);
    CHECK_EQ_INT(atomic_load(&r.header->dirty), 0);
    region_down(&r);
}

TEST(memory_file_and_vanished_path) {
    struct shf_region r;
    struct shf_registry g, h;
    int fd = os_memfd("registry");
    REQUIRE(fd >= 0);
    REQUIRE_EQ_INT(ftruncate(fd, FIXTURE_BYTES), 0);
    region_of_fd(&r, fd, "memfd:registry", 0, 1);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    REQUIRE_EQ_INT(registry_up(&h, &r, 1000), SHF_OK);
    CHECK_EQ_INT(shf__registry_count(&g), 2);
    uint32_t life = shf__registry_owner(&h);
    shf__registry_detach(&h);
    CHECK_EQ_INT(shf__registry_is_dead(&g, life), 1);
    shf__registry_detach(&g);
    region_down(&r);

    const char *path = temp_path("v");
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    unlink(path);
    REQUIRE_EQ_INT(registry_up(&h, &r, 1000), SHF_OK);
    CHECK_EQ_INT(shf__registry_count(&g), 2);
    shf__registry_detach(&h);
    fixture_make(path); /* another file under the same name */
    REQUIRE_EQ_INT(registry_up(&h, &r, 1000), SHF_OK);
    CHECK_EQ_INT(shf__registry_is_dead(&g, shf__registry_owner(&h)), 0);
    shf__registry_detach(&h);
    shf__registry_detach(&g);
    region_down(&r);
}

/* ---- read lockers ---- */

struct readers {
    char path[256];
    int with_r;
    shf_au32 ready, go;
};
static void lock_for_reading(void *arg) {
    struct readers *s = arg;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) _exit(1);
    for (unsigned i = s->with_r ? 0 : 1; i < SHF_SLOT_COUNT; i++) {
        struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
        l.l_start = (off_t)((UINT64_C(1) << 62) + i);
        int rc = fcntl(fd, F_OFD_SETLK, &l);
        if ((rc == 0) == (i == 1)) _exit(2); /* slot 1 lives */
    }
    atomic_store(&s->ready, 1);
    await(&s->go);
}

TEST(read_locks_cannot_fake_a_life) {
    struct shf_region r, ro;
    struct shf_registry g, h;
    struct readers *s = shared_memory(sizeof *s);
    snprintf(s->path, sizeof s->path, "%s", temp_path("a"));
    fixture_make(s->path);
    region_up(&r, s->path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 100), SHF_OK);
    for (int with_r = 0; with_r < 2; with_r++) {
        atomic_store(&s->ready, 0), atomic_store(&s->go, 0);
        s->with_r = with_r;
        REQUIRE_EQ_INT(registry_up(&h, &r, 100), SHF_OK);
        uint32_t gone = shf__registry_owner(&h);
        shf__registry_detach(&h);
        pid_t child = fork_child(lock_for_reading, s);
        REQUIRE_EQ_INT(await(&s->ready), 1);
        CHECK_EQ_INT(shf__registry_is_dead(&g, gone), 1);
        CHECK_EQ_INT(shf__registry_is_dead(&g, SHF_OWNER(9, 1)), 1);
        CHECK_EQ_INT(shf__registry_count(&g), 1);
        unsigned fds = count_fds();
        CHECK_EQ_INT(registry_up(&h, &r, 100), with_r ? SHF_ERR_TIMEOUT : SHF_ERR_BUSY);
        CHECK_EQ_INT(count_fds(), fds); /* G-I4 */
        region_up(&ro, s->path, 1);
        CHECK_EQ_INT(registry_up(&h, &ro, 100), SHF_OK); /* a reader asks through its own descriptor */
        CHECK_EQ_INT(shf__registry_is_dead(&h, shf__registry_owner(&g)), 0);
        CHECK_EQ_INT(shf__registry_is_dead(&h, gone), 1);
        CHECK_EQ_INT(shf__registry_count(&h), 1);
        CHECK_EQ_INT(shf__registry_owner(&h), 0);
        CHECK_EQ_INT(shf_last_error()->code, SHF_ERR_READ_ONLY);
        CHECK_EQ_INT(shf__registry_sweep(&h, 1), SHF_ERR_READ_ONLY);
        shf__registry_detach(&h);
        region_down(&ro);
        atomic_store(&s->go, 1);
        CHECK_EQ_INT(wait_child(child, 5000), 0);
        CHECK_EQ_INT(registry_up(&h, &r, 100), SHF_OK);
        shf__registry_detach(&h);
    }
    shf__registry_detach(&g);
    region_down(&r);
}

/* ---- dirty files ---- */

static void copy_file(const char *from, const char *to) {
    static char buf[FIXTURE_BYTES];
    int in = open(from, O_RDONLY), out = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
    REQUIRE(in >= 0 && out >= 0);
    REQUIRE(read(in, buf, sizeof buf) == (ssize_t)sizeof buf);
    REQUIRE(write(out, buf, sizeof buf) == (ssize_t)sizeof buf);
    close(in), close(out);
}
static int open_once(const char *path, int read_only) { /* attach and detach */
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, path, read_only);
    unsigned char *before = malloc(FIXTURE_BYTES);
    REQUIRE(before != NULL);
    memcpy(before, r.base, FIXTURE_BYTES);
    int rc = registry_up(&g, &r, 1000);
    if (rc != SHF_OK) {
        CHECK(memcmp(before, r.base, FIXTURE_BYTES) == 0); /* G-I4 */
        CHECK(strstr(shf_last_error()->message, path) != NULL);
    } else {
        shf__registry_detach(&g);
    }
    free(before);
    region_down(&r);
    return rc;
}
static void die_attached(void *arg) {
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, arg, 0);
    if (registry_up(&g, &r, 1000) == SHF_OK) raise(SIGKILL);
}

TEST(copies_of_live_files_are_unclean) {
    struct shf_region r;
    struct shf_registry g;
    char path[256], copy[256], clean[256];
    snprintf(path, sizeof path, "%s", temp_path("a"));
    snprintf(copy, sizeof copy, "%s", temp_path("copy"));
    snprintf(clean, sizeof clean, "%s", temp_path("clean"));
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    copy_file(path, copy);
    CHECK_EQ_INT(open_once(copy, 0), SHF_ERR_UNCLEAN);
    CHECK_EQ_INT(open_once(copy, 1), SHF_ERR_UNCLEAN);
    CHECK_EQ_INT(open_once(path, 0), SHF_OK); /* beside a live one; not the last: still dirty */
    CHECK_EQ_INT(atomic_load(&r.header->dirty), 1);
    CHECK_EQ_INT(open_once(path, 1), SHF_OK);
    shf__registry_detach(&g);
    copy_file(path, clean);
    CHECK_EQ_INT(open_once(clean, 1), SHF_OK);
    CHECK_EQ_INT(open_once(clean, 0), SHF_OK);
    CHECK_EQ_INT(open_once(copy, 0), SHF_ERR_UNCLEAN);
    /* a killed process leaves it dirty, and the same file goes on */
    CHECK_EQ_INT(run_child(die_attached, path, 5000), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(atomic_load(&r.header->dirty), 1);
    copy_file(path, copy);
    CHECK_EQ_INT(open_once(path, 1), SHF_OK);
    CHECK_EQ_INT(open_once(path, 0), SHF_OK);
    CHECK_EQ_INT(atomic_load(&r.header->dirty), 0);
    CHECK_EQ_INT(open_once(copy, 0), SHF_ERR_UNCLEAN);
    region_down(&r);
}

TEST(another_boot_is_unclean_on_a_disk_only) {
    char disk[64] = "/var/tmp/shf-test-XXXXXX";
    int fd = mkstemp(disk);
    for (int on_disk = 0; on_disk < 2; on_disk++) {
        const char *path = on_disk ? disk : temp_path("a");
        struct shf_region r;
        uint64_t fs = 0;
        fixture_make(path);
        region_up(&r, path, 0);
        REQUIRE_EQ_INT(os_fs_type(r.fd, &fs), 0);
        int is_tmpfs = fs == 0x01021994;
        CHECK_EQ_INT(run_child(die_attached, (void *)(uintptr_t)path, 5000), CHILD_KILLED(SIGKILL));
        r.header->boot_id[1] ^= 1;
        CHECK_EQ_INT(open_once(path, 1), is_tmpfs ? SHF_OK : SHF_ERR_UNCLEAN);
        CHECK_EQ_INT(open_once(path, 0), is_tmpfs ? SHF_OK : SHF_ERR_UNCLEAN);
        if (on_disk && is_tmpfs) printf("  /var/tmp is a tmpfs here\n");
        atomic_store(&r.header->dirty, 0);
        CHECK_EQ_INT(open_once(path, 0), SHF_OK);
        region_down(&r);
    }
    close(fd);
    unlink(disk);
}

/* ---- sweep ---- */

struct swept {
    struct shf_registry *g;
    unsigned calls, slots[8];
    int result;
};
static int note_sweep(void *context, uint32_t slot) {
    struct swept *s = context;
    CHECK(shf__registry_owner(s->g) != 0); /* may take locks already */
    s->slots[s->calls++ % 8] = slot;
    return s->result;
}
static void die_pending(void *arg) {
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, arg, 0);
    if (registry_up(&g, &r, 1000) != SHF_OK) _exit(1);
    atomic_store(&shf__registry_slot(&g, SHF_OWNER_SLOT(shf__registry_owner(&g)))->pending, 20);
    raise(SIGKILL);
}

TEST(sweep_visits_the_dead_with_pending_pages) {
    struct shf_region r;
    struct shf_registry g, h, rival;
    struct swept s = {&g, 0, {0}, SHF_OK}, t = {&h, 0, {0}, SHF_OK};
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    memset(&g, 0, sizeof g);
    g.region = &r, g.lock_timeout_ns = 1000 * MS, g.sweep_slot = note_sweep, g.context = &s;
    REQUIRE_EQ_INT(shf__registry_attach(&g), SHF_OK);
    CHECK_EQ_INT(s.calls, 1); /* its own slot */
    CHECK_EQ_INT(run_child(die_pending, (void *)(uintptr_t)path, 5000), CHILD_KILLED(SIGKILL));
    atomic_store(&shf__registry_slot(&g, 1)->pending, 21); /* alive: not to be visited */
    atomic_store(&shf__registry_slot(&g, 900)->pending, 22);
    int once = 0; /* a second sweep within 10 ms does nothing, if this process runs so soon */
    UNTIL(once) {
        usleep(11000);
        s.calls = 0;
        CHECK_EQ_INT(shf__registry_sweep(&g, 0), SHF_OK);
        CHECK_EQ_INT(s.calls, 2);
        CHECK_EQ_INT(s.slots[0], 2);
        CHECK_EQ_INT(s.slots[1], 900);
        CHECK_EQ_INT(shf__registry_sweep(&g, 0), SHF_OK);
        once = s.calls == 2;
    }
    CHECK(once);
    s.calls = 0;
    CHECK_EQ_INT(shf__registry_sweep(&g, 1), SHF_OK);
    CHECK_EQ_INT(s.calls, 2);
    s.result = SHF_ERR_TIMEOUT;
    CHECK_EQ_INT(shf__registry_sweep(&g, 1), SHF_ERR_TIMEOUT);
    s.result = SHF_OK;
    /* somebody else is at it */
    int fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE_EQ_INT(os_ofd_lock(fd, UINT64_C(1) << 62), 0);
    s.calls = 0;
    CHECK_EQ_INT(shf__registry_sweep(&g, 1), SHF_OK);
    CHECK_EQ_INT(s.calls, 0);
    CHECK_EQ_INT(registry_up(&rival, &r, 50), SHF_ERR_TIMEOUT);
    close(fd);
    /* attach sweeps its own slot and the dead ones; no failure of a sweep keeps anybody out: it is for the next sweep */
    memset(&h, 0, sizeof h);
    h.region = &r, h.lock_timeout_ns = 1000 * MS, h.sweep_slot = note_sweep, h.context = &t;
    static const struct {
        int result, calls; /* a stopped shard ends the sweep, a damaged one does not */
    } sweeps[] = {{SHF_ERR_TIMEOUT, 1}, {SHF_ERR_CORRUPT, 2}, {SHF_OK, 2}};
    for (int i = 0; i < 3; i++) {
        t.result = sweeps[i].result, t.calls = 0;
        REQUIRE_EQ_INT(shf__registry_attach(&h), SHF_OK);
        CHECK_EQ_INT(t.calls, sweeps[i].calls);
        CHECK_EQ_INT(t.slots[0], 2);
        if (t.calls > 1) CHECK_EQ_INT(t.slots[1], 900);
        CHECK_EQ_INT(h.lock_timeout_ns, 1000 * MS);
        if (i < 2) shf__registry_detach(&h);
    }
    shf__registry_detach(&h);
    shf__registry_detach(&g);
    region_down(&r);
}

/* ---- fork ---- */

enum what { IDLE, USES, CLOSES };
static const char *const how_names[] = {"fork", "_Fork", "clone", "vfork+exec"};
static const char *const what_names[] = {"idle", "uses", "closes"};
struct family {
    char path[256];
    enum how how;
    enum what what;
    shf_au32 parent_life, child_life, child_pid, ready;
};

static void child_part(struct family *f, struct shf_registry *g) {
    alarm(HANG_MS / 1000);
    if (f->what == USES) {
        atomic_store(&f->child_life, shf__registry_owner(g));
        if (shf__lock(g, word_at(g->region, 0), NULL) != SHF_OK) atomic_store(&f->child_life, 0);
    }
    if (f->what == CLOSES) shf__registry_detach(g);
    atomic_store(&f->ready, 1);
    for (;;) pause();
}
static void parent_part(void *arg) {
    struct family *f = arg;
    struct shf_region r;
    static struct shf_registry g;
    region_up(&r, f->path, 0);
    if (registry_up(&g, &r, 1000) != SHF_OK) _exit(1);
    atomic_store(&f->parent_life, shf__registry_owner(&g));
    pid_t pid = fork_by(f->how, &f->ready);
    if (pid == 0) child_part(f, &g);
    atomic_store(&f->child_pid, (uint32_t)pid);
    for (;;) pause();
}
static void reap(pid_t pid) {
    int status;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
}

/* Milliseconds until the first one's death was seen. */
static double one_family(struct family *f, struct shf_registry *g, struct shf_region *r, int kill_parent) {
    atomic_store(&f->parent_life, 0), atomic_store(&f->child_life, 0), atomic_store(&f->child_pid, 0);
    atomic_store(&f->ready, 0);
    pid_t parent = fork_child(parent_part, f);
    REQUIRE(await(&f->ready) && await(&f->child_pid));
    pid_t child = (pid_t)atomic_load(&f->child_pid);
    uint32_t pl = atomic_load(&f->parent_life), cl = atomic_load(&f->child_life);
    CHECK((cl != 0) == (f->what == USES));
    CHECK(pl != 0 && cl != pl);
    /* A child that has not used shf since _Fork or clone keeps the parent's description open. */
    int late = f->what == IDLE && (f->how == BY__FORK || f->how == BY_CLONE);
    CHECK_EQ_INT(shf__registry_is_dead(g, pl), 0); /* G-I1 */
    if (cl) CHECK_EQ_INT(shf__registry_is_dead(g, cl), 0);
    CHECK_EQ_INT(atomic_load(&r->header->dirty), 1);
    CHECK(atomic_load(&shf__registry_slot(g, SHF_OWNER_SLOT(pl))->pid) == (uint32_t)parent);
    double ms = 0;
    if (kill_parent) {
        reap(parent);
        if (late) {
            CHECK(until_dead(g, pl, 20) < 0);
        } else {
            ms = until_dead(g, pl, HANG_MS);
            CHECK(ms >= 0);
        }
        if (cl) CHECK_EQ_INT(shf__registry_is_dead(g, cl), 0);
        reap(child);
        CHECK(until_dead(g, pl, HANG_MS) >= 0);
    } else {
        reap(child); /* its parent has it as a zombie, or it is ours */
        if (cl) {
            ms = until_dead(g, cl, HANG_MS);
            CHECK(ms >= 0);
        }
        usleep(20000);
        CHECK_EQ_INT(shf__registry_is_dead(g, pl), 0); /* G-I1 */
        reap(parent);
        CHECK(until_dead(g, pl, HANG_MS) >= 0);
    }
    if (cl) CHECK(until_dead(g, cl, HANG_MS) >= 0);
    printf("  %-10s child %-6s %s killed: %s%.2f ms\n", how_names[f->how], what_names[f->what],
           kill_parent ? "parent" : "child ", kill_parent && late ? "seen when the child ends " : "", ms);
    if (cl) { /* it held the lock */
        int over = 0;
        CHECK_EQ_INT(shf__lock(g, word_at(r, 0), &over), SHF_OK);
        CHECK_EQ_INT(over, 1);
        shf__unlock(word_at(r, 0));
    }
    return ms;
}

TEST(fork_matrix) {
    struct shf_region r;
    struct shf_registry g;
    struct family *f = shared_memory(sizeof *f);
    snprintf(f->path, sizeof f->path, "%s", temp_path("a"));
    fixture_make(f->path);
    region_up(&r, f->path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int how = BY_FORK; how <= BY_VFORK_EXEC; how++)
        for (int what = IDLE; what <= (how == BY_VFORK_EXEC ? IDLE : CLOSES); what++)
            for (int kill_parent = 0; kill_parent < 2; kill_parent++) {
                int before = *test_failures;
                double ms = 1e9;
                f->how = (enum how)how, f->what = (enum what)what;
                UNTIL(ms < 50 || *test_failures != before) ms = one_family(f, &g, &r, kill_parent);
                CHECK(ms < 50); /* G-I2 */
                CHECK_EQ_INT(shf__registry_count(&g), 1);
            }
    shf__registry_detach(&g);
    region_down(&r);
}

struct crowd {
    struct shf_registry *g;
    uint32_t owner[8];
    _Atomic unsigned next;
};
static void *ask_owner(void *arg) {
    struct crowd *c = arg;
    unsigned i = atomic_fetch_add(&c->next, 1);
    c->owner[i] = shf__registry_owner(c->g);
    return NULL;
}
static void threads_of_a_child(void *arg) {
    struct crowd c = {arg, {0}, 0};
    pthread_t t[8];
    uint32_t parents = atomic_load(&c.g->owner);
    /* as if other threads of the parent had been registering and sweeping at the fork */
    for (int i = 0; i < 8; i++) REQUIRE(pthread_create(&t[i], NULL, ask_owner, &c) == 0);
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 8; i++) CHECK(c.owner[i] == c.owner[0] && c.owner[0] != 0 && c.owner[0] != parents);
    CHECK_EQ_INT(shf__registry_is_dead(c.g, parents), 0);
    CHECK_EQ_INT(shf__registry_count(c.g), 2);
    CHECK_EQ_INT(shf__registry_sweep(c.g, 1), SHF_OK);
    shf__registry_detach(c.g);
}

TEST(threads_of_a_child_register_once) {
    struct shf_region r;
    struct shf_registry g;
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    uint32_t me = shf__registry_owner(&g);
    uint32_t tag = (uint32_t)(g.process ^ g.process >> 32) | 1;
    for (int i = 0; i < 20; i++) {
        atomic_store(&g.entering, tag), atomic_store(&g.registry_busy, tag); /* held by another thread at the fork */
        CHECK_EQ_INT(run_child(threads_of_a_child, &g, 5000), 0);
        atomic_store(&g.entering, 0), atomic_store(&g.registry_busy, 0);
        CHECK_EQ_INT(shf__registry_owner(&g), me);
        CHECK_EQ_INT(shf__registry_count(&g), 1);
        CHECK_EQ_INT(atomic_load(&r.header->dirty), 1);
    }
    shf__registry_detach(&g);
    region_down(&r);
}

static void cannot_register(void *arg) {
    struct shf_registry *g = arg;
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit, none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    CHECK_EQ_INT(shf__registry_owner(g), 0);
    CHECK_EQ_INT(shf_last_error()->code, SHF_ERR_FORKED);
    CHECK_EQ_INT(shf_last_error()->os_error, EMFILE);
    CHECK_EQ_INT(shf__lock(g, word_at(g->region, 0), NULL), SHF_ERR_FORKED);
    CHECK_EQ_INT(shf__trylock(g, word_at(g->region, 0)), 0);
    CHECK_EQ_INT(shf__registry_sweep(g, 1), SHF_ERR_FORKED);
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(shf__registry_owner(g) != 0); /* tries again */
    CHECK_EQ_INT(shf__registry_count(g), 2);
    unsigned fds = count_fds();
    struct shf_registry second;
    CHECK_EQ_INT(registry_up(&second, g->region, 1000), SHF_OK);
    shf__registry_detach(&second);
    CHECK_EQ_INT(count_fds(), fds);
    shf__registry_detach(g);
    CHECK_EQ_INT(count_fds(), fds - 1);
}
static void closed_everything(void *arg) { /* raw clone, all descriptors closed, numbers used for other files */
    struct shf_registry *g = arg;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        for (int fd = 3; fd < 64; fd++)
            if (fd != g->region->fd) close(fd);
        int mine[40];
        for (int i = 0; i < 40; i++) mine[i] = open("/dev/null", O_RDWR);
        int bad = shf__registry_owner(g) == 0;
        for (int i = 0; i < 40; i++) bad |= mine[i] < 0 || fcntl(mine[i], F_GETFD) < 0;
        _exit(bad);
    }
    CHECK_EQ_INT(wait_child(pid, 5000), 0);
    CHECK(shf__registry_owner(g) != 0);
}

TEST(child_without_descriptors) {
    struct shf_region r;
    struct shf_registry g;
    const char *path = temp_path("a");
    fixture_make(path);
    region_up(&r, path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    uint32_t me = shf__registry_owner(&g);
    CHECK_EQ_INT(run_child(cannot_register, &g, 5000), 0);
    CHECK_EQ_INT(run_child(closed_everything, &g, 5000), 0);
    CHECK_EQ_INT(shf__registry_owner(&g), me);
    CHECK_EQ_INT(shf__registry_count(&g), 1);
    shf__registry_detach(&g);
    CHECK_EQ_INT(atomic_load(&r.header->dirty), 0);
    region_down(&r);
}

/* ---- many at once ---- */

struct storm {
    char path[256];
    shf_au32 go;
};
static void storm_child(void *arg) {
    struct storm *s = arg;
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, s->path, 0);
    await(&s->go);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ_INT(registry_up(&g, &r, HANG_MS), SHF_OK);
        CHECK_EQ_INT(atomic_load(&r.header->dirty), 1);
        shf__registry_detach(&g);
    }
    region_down(&r);
}

static uint32_t storm(struct storm *s) { /* whether the file is left dirty */
    pid_t pid[16];
    atomic_store(&s->go, 0);
    for (int i = 0; i < 16; i++) pid[i] = fork_child(storm_child, s);
    uint64_t start = test_now_ns();
    atomic_store(&s->go, 1);
    for (int i = 0; i < 16; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    printf("  16 processes x 50 attaches: %.0f ms\n", (double)(test_now_ns() - start) / 1e6);
    struct shf_region r;
    region_up(&r, s->path, 0);
    uint32_t dirty = atomic_load(&r.header->dirty);
    region_down(&r);
    return dirty;
}
/* The last one leaves it dirty if another that is leaving stands still for 200 ms while it has byte R. */
TEST(attach_storm) {
    struct storm *s = shared_memory(sizeof *s);
    uint32_t dirty = 1;
    snprintf(s->path, sizeof s->path, "%s", temp_path("a"));
    fixture_make(s->path);
    UNTIL(!dirty) dirty = storm(s);
    CHECK_EQ_INT(dirty, 0);
}

int main(int argc, char **argv) { return run(argc, argv); }
