// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_security.c - who may open what: users, groups, modes, masks; what stands at a path instead of a file, or is
 * put there meanwhile; names that are hostile; descriptors that are sealed; what a file may not tell
 *
 * All through the public interface. Users are real (setresuid in children), so most of it needs root, and says so
 * without. What region.c refuses in a file's header and kind is validate_region.c's, read locks are
 * validate_processes_table.c's.
 */
#include "model.h"
#include "registry_fixture.h"
#include "table.h"

#include <ftw.h>
#include <grp.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define ALICE 4001
#define BOB 4002
#define TEAM 4100
#define NOBODY 65534

static struct { /* shared with the children */
    _Atomic uint64_t refused, allowed, swaps, slipped;
} * total;

/* ---- short cuts ---- */
static int printable(const char *text) { /* UTF-8 with no control character */
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (*p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)) return 0;
    return 1;
}
/* Opens and closes; puts and gets a key if it is writable. */
static int attempt(const char *path, unsigned flags, uint32_t mode) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.mode = mode, o.lock_timeout_ms = 20000;
    int rc = shf_table_open(path, flags, &o, &t);
    atomic_fetch_add(rc == SHF_OK ? &total->allowed : &total->refused, 1);
    if (rc < 0) CHECK(printable(shf_last_error()->message));
    if (rc != SHF_OK) return rc;
    if (!(flags & SHF_RDONLY)) {
        CHECK_EQ_INT(shf_table_put(t, "me", 2, "x", 1, NULL), SHF_OK);
        CHECK(table_has(t, "me", 2, "x", 1));
    } else {
        CHECK_EQ_INT(shf_table_put(t, "me", 2, "x", 1, NULL), SHF_ERR_READ_ONLY);
    }
    shf_table_close(t);
    return rc;
}
static void expect(int line, const char *path, unsigned flags, uint32_t mode, int expected) {
    int rc = attempt(path, flags, mode);
    if (rc != expected)
        test_fail(__FILE__, line, "open of %s (flags %u, mode %#o) by user %d: %d, not %d: %s", path, flags, mode,
                  (int)geteuid(), rc, expected, rc < 0 ? shf_last_error()->message : "");
}
#define EXPECT(path, flags, mode, expected) expect(__LINE__, (path), (flags), (mode), (expected))

struct user {
    uid_t uid;
    gid_t gid, more; /* 0: none */
    void (*fn)(void *);
    void *arg;
};
static void as_user(void *arg) {
    struct user *u = arg;
    if (setgroups(u->more != 0, &u->more) != 0 || setresgid(u->gid, u->gid, u->gid) != 0 ||
        setresuid(u->uid, u->uid, u->uid) != 0) {
        FAIL("cannot become user %d", (int)u->uid);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change has cleared it */
    u->fn(u->arg);
}
static pid_t start_as(uid_t uid, gid_t more, void (*fn)(void *), void *arg) {
    static struct user u;
    u = (struct user){uid, uid, more, fn, arg};
    return fork_child(as_user, &u);
}
static void run_as(uid_t uid, gid_t more, void (*fn)(void *), void *arg) {
    CHECK_EQ_INT(wait_child(start_as(uid, more, fn, arg), 30000), 0);
}
static int needs_root(void) {
    if (geteuid() == 0) return 0;
    printf("       (skipped: needs root)\n");
    return 1;
}
static unsigned mode_of(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0xffff;
}
static int exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}
static const char *fresh(const char *name, uint32_t mode) { /* a table of this user, closed */
    const char *path = temp_path(name);
    unlink(path);
    EXPECT(path, SHF_CREATE | SHF_EXCL, mode, SHF_OK);
    return path;
}
static void open_folder(mode_t mode) {
    temp_path("");
    REQUIRE(chmod(test_dir, mode) == 0);
}

/* ---- what stands at the path ---- */
static void refused_everywhere(const char *path, int line) {
    static const unsigned flags[] = {0, SHF_RDONLY, SHF_CREATE};
    struct stat before, after;
    REQUIRE(lstat(path, &before) == 0);
    for (size_t i = 0; i < 3; i++) expect(line, path, flags[i], 0, SHF_ERR_INVALID_PATH);
    expect(line, path, SHF_CREATE | SHF_EXCL, 0, SHF_ERR_EXISTS);
    int rc = shf_unlink(path);
    if (rc != SHF_ERR_INVALID_PATH) test_fail(__FILE__, line, "unlink of %s: %d", path, rc);
    REQUIRE(lstat(path, &after) == 0);
    CHECK(before.st_ino == after.st_ino && before.st_mode == after.st_mode && before.st_size == after.st_size);
}
static void all_that_is_no_file(void *unused) {
    char link_path[64];
    (void)unused;
    const char *good = fresh("good", 0), *path = temp_path("link");
    unsigned fds = count_fds();
    REQUIRE(symlink(good, path) == 0);
    refused_everywhere(path, __LINE__);
    REQUIRE(unlink(path) == 0 && symlink("good", path) == 0);
    refused_everywhere(path, __LINE__);
    const char *target = temp_path("not-there");
    REQUIRE(unlink(path) == 0 && symlink(target, path) == 0);
    refused_everywhere(path, __LINE__);
    CHECK(!exists(target)); /* SHF_CREATE does not go through a link */
    REQUIRE(unlink(path) == 0 && symlink(path, path) == 0);
    refused_everywhere(path, __LINE__);
    unlink(path);
    REQUIRE(mkfifo(path, 0666) == 0); /* nobody at its other end: does not block */
    refused_everywhere(path, __LINE__);
    unlink(path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    refused_everywhere(path, __LINE__);
    close(fd);
    unlink(path);
    if (geteuid() == 0) {
        if (mknod(path, S_IFCHR | 0666, makedev(1, 5)) == 0) refused_everywhere(path, __LINE__); /* zeros for ever */
        unlink(path);
        if (mknod(path, S_IFBLK | 0666, makedev(1, 0)) == 0) refused_everywhere(path, __LINE__);
        unlink(path);
    }
    REQUIRE(mkdir(path, 0700) == 0);
    refused_everywhere(path, __LINE__);
    rmdir(path);
    REQUIRE(link(good, path) == 0);
    refused_everywhere(path, __LINE__);
    EXPECT(good, 0, 0, SHF_ERR_INVALID_PATH); /* two names now */
    REQUIRE(unlink(path) == 0);
    EXPECT(good, 0, 0, SHF_OK);

    fd = open(good, O_RDWR | O_CLOEXEC); /* a descriptor's name is a link, too */
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
    EXPECT(link_path, 0, 0, SHF_ERR_INVALID_PATH);
    snprintf(link_path, sizeof link_path, "/dev/fd/%d", fd);
    EXPECT(link_path, SHF_CREATE, 0, SHF_ERR_INVALID_PATH);
    close(fd);
    struct shf_table *t = NULL;
    fd = open(good, O_PATH | O_CLOEXEC); /* a name, not an open file */
    CHECK(fd >= 0 && shf_table_from_fd(fd, NULL, &t) < 0);
    close(fd);
    fd = open(good, O_WRONLY | O_CLOEXEC);
    CHECK_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_ERR_PERMISSION);
    close(fd);

    /* links in the middle are the folder owner's affair */
    REQUIRE(symlink(".", path) == 0);
    char through[256];
    snprintf(through, sizeof through, "%s/good", path);
    EXPECT(through, 0, 0, SHF_OK);
    snprintf(through, sizeof through, "%s/made", path);
    EXPECT(through, SHF_CREATE, 0, SHF_OK);
    CHECK(exists(temp_path("made")));
    CHECK_EQ_INT(shf_unlink(through), SHF_OK);
    snprintf(through, sizeof through, "%s/good/x", path);
    EXPECT(through, SHF_CREATE, 0, SHF_ERR_INVALID_PATH);
    unlink(path);
    CHECK_EQ_INT(count_fds(), fds);
}
TEST(what_is_no_file) { CHECK_EQ_INT(run_child(all_that_is_no_file, NULL, 30000), 0); }

/* Somebody exchanges what stands at the path, as fast as he can, while others open, create and remove it. */
static _Atomic int swapping;
static char victim[128]; /* is never opened, as its name is another */
static void *swapper(void *path) {
    uint64_t rng = test_seed;
    const char *next = temp_path("next"), *outside = temp_path("made-through-a-link");
    struct shf_table *t = NULL;
    while (atomic_load(&swapping)) {
        int made = -1;
        unlink(next); /* a rename of one name of a file over another one leaves both */
        switch (test_next(&rng) % 9) {
        case 0: made = symlink(victim, next); break;
        case 1: made = symlink(outside, next); break;
        case 2: made = mkfifo(next, 0600); break;
        case 3:
        case 4: made = link(victim, next); break;
        case 5: close(made = open(next, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600)); break;
        case 6:
        case 7:
            made = shf_table_open(next, SHF_CREATE | SHF_EXCL, NULL, &t);
            if (made == SHF_OK) shf_table_close(t);
            break;
        default: unlink(path);
        }
        if (made >= 0 && rename(next, path) != 0) FAIL("rename: %s", strerror(errno));
        atomic_fetch_add(&total->swaps, 1);
    }
    return NULL;
}
static void opens_what_is_swapped(void *unused) {
    const char *path = temp_path("swapped");
    struct stat st, other;
    pthread_t thread;
    uint64_t ok = 0, no = 0;
    (void)unused;
    REQUIRE(stat(victim, &st) == 0);
    atomic_store(&swapping, 1);
    REQUIRE(pthread_create(&thread, NULL, swapper, (void *)(uintptr_t)path) == 0);
    for (uint64_t until = test_now_ns() + test_env("SHF_SECONDS", 2) * UINT64_C(1000000000); test_now_ns() < until;) {
        static const unsigned flags[] = {0, SHF_CREATE, SHF_RDONLY, SHF_CREATE | SHF_EXCL};
        struct shf_table *t = NULL;
        int rc = shf_table_open(path, flags[test_rng() % 4], NULL, &t);
        if (rc == SHF_OK) {
            ok++;
            CHECK(fstat(shf_table_fd(t), &other) == 0);
            /* The kernel counts a name down before it takes it away: for a moment a file that the path names has one name. */
            if (other.st_ino == st.st_ino) atomic_fetch_add(&total->slipped, 1);
            else if (!shf_table_is_read_only(t)) CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
            shf_table_close(t);
        } else {
            no++;
            if (rc != SHF_ERR_INVALID_PATH && rc != SHF_ERR_NOT_FOUND && rc != SHF_ERR_EXISTS && rc != SHF_ERR_BUSY &&
                rc != SHF_ERR_INCOMPATIBLE)
                FAIL("open of what is swapped: %d, %s", rc, shf_last_error()->message);
        }
        rc = test_rng() % 16 ? SHF_OK : shf_unlink(path);
        CHECK(rc == SHF_OK || rc == SHF_ERR_INVALID_PATH || rc == SHF_ERR_NOT_FOUND);
    }
    atomic_store(&swapping, 0);
    pthread_join(thread, NULL);
    CHECK(ok > 0 && no > 0 && atomic_load(&total->slipped) * 100 <= ok);
    printf("# %llu exchanges beside %llu opens that succeeded and %llu that were refused\n",
           (unsigned long long)total->swaps, (unsigned long long)ok, (unsigned long long)no);
}
TEST(what_is_swapped_meanwhile) {
    snprintf(victim, sizeof victim, "%s", fresh("victim", 0));
    CHECK_EQ_INT(run_child(opens_what_is_swapped, NULL, 60000), 0);
    CHECK(!exists(temp_path("made-through-a-link")));
    unlink(temp_path("swapped"));
    unlink(temp_path("next"));
    CHECK(exists(victim));
    struct shf_table *t = table_open("victim", SHF_RDONLY);
    CHECK_EQ_INT(table_walk(t), 1); /* nothing was written to it */
    shf_table_close(t);
}

/* A new file has no name before it is whole, and no other name than its own. */
TEST(no_private_name_is_seen) {
    char buf[4096] __attribute__((aligned(8)));
    int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), created = 0, others = 0;
    temp_path("");
    REQUIRE(in >= 0 && inotify_add_watch(in, test_dir, IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) >= 0);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        fresh(name, 0);
    }
    for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;)
        for (char *p = buf; p < buf + n; p += sizeof(struct inotify_event) + ((struct inotify_event *)(void *)p)->len) {
            struct inotify_event *e = (struct inotify_event *)(void *)p;
            int own = e->len > 1 && e->name[0] == 't' && e->name[1] >= '0' && e->name[1] <= '9';
            created += own && e->mask & IN_CREATE, others += !own || !(e->mask & IN_CREATE);
        }
    CHECK_EQ_INT(created, 20);
    CHECK_EQ_INT(others, 0);
    close(in);
}

/* ---- modes ---- */
static void every_mode(void *unused) {
    static const mode_t masks[] = {0, 022, 077, 0777};
    (void)unused;
    for (size_t m = 0; m < 4; m++)
        for (uint32_t mode = 0; mode <= 0777; mode += mode % 8 == 7 ? 1 : (mode & 0600) == 0600 ? 1 : 9) {
            char name[32];
            snprintf(name, sizeof name, "m%zu-%o", m, mode);
            mode_t before = umask(masks[m]);
            int rc = attempt(temp_path(name), SHF_CREATE, mode);
            umask(before);
            if (mode != 0 && (mode & 0600) != 0600) { /* its maker could not use it himself */
                CHECK_EQ_INT(rc, SHF_ERR_INVALID);
                CHECK(!exists(temp_path(name)));
            } else {
                CHECK_EQ_INT(rc, SHF_OK);
                CHECK_EQ_INT(mode_of(temp_path(name)), mode ? mode : 0600);
                EXPECT(temp_path(name), 0, 0, SHF_OK);
                unlink(temp_path(name));
            }
        }
    static const uint32_t bad[] = {01000, 04700, 010600, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) EXPECT(temp_path("bad"), SHF_CREATE, bad[i], SHF_ERR_INVALID);
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    struct stat st;
    o.mode = 0644;
    CHECK_EQ_INT(shf_table_anonymous("m", &o, &t), SHF_OK);
    CHECK(fstat(shf_table_fd(t), &st) == 0 && (st.st_mode & 07777) == 0644);
    shf_table_close(t);
    o.mode = 0444;
    CHECK_EQ_INT(shf_table_anonymous("m", &o, &t), SHF_ERR_INVALID);
}
TEST(modes_and_masks) {
    CHECK_EQ_INT(run_child(every_mode, NULL, 60000), 0);
    if (needs_root()) return;
    open_folder(0777);
    run_as(ALICE, 0, every_mode, NULL);
    open_folder(0700);
}

/* ---- users and groups ---- */
struct entry {
    const char *path;
    uint32_t mode;
    unsigned flags;
    int expected;
};
static void try_entries(void *arg) {
    for (struct entry *e = arg; e->path; e++) EXPECT(e->path, e->flags, e->mode, e->expected);
}
static void give(const char *path, uid_t uid, gid_t gid, mode_t mode) {
    REQUIRE(chown(path, uid, gid) == 0 && chmod(path, mode) == 0);
}
TEST(users_and_groups) {
    if (needs_root()) return;
    open_folder(0777);
    const char *own = fresh("own", 0), *team = fresh("team", 0), *look = fresh("look", 0), *all = fresh("all", 0);
    const char *roots = fresh("roots", 0), *shut = fresh("shut", 0);
    give(own, ALICE, ALICE, 0600), give(team, ALICE, TEAM, 0660), give(look, ALICE, TEAM, 0640);
    give(all, ALICE, ALICE, 0666), give(roots, 0, 0, 0666), give(shut, 0, 0, 0600);
    enum { RO = SHF_RDONLY, NO = SHF_ERR_PERMISSION };
    struct entry alice[] = {{own, 0, 0, SHF_OK}, {team, 0, 0, SHF_OK},         {look, 0, 0, SHF_OK},
                            {all, 0, 0, SHF_OK}, {roots, 0, 0, SHF_OK},        {shut, 0, 0, NO},
                            {shut, 0, RO, NO},   {shut, 0666, SHF_CREATE, NO}, {NULL, 0, 0, 0}};
    struct entry member[] = {{own, 0, 0, NO},         {own, 0666, RO, NO},      {team, 0, 0, NO},
                             {team, 0, RO, NO},       {team, 0600, 0, NO},      {team, 0602, 0, NO},
                             {team, 0660, 0, SHF_OK}, {team, 0660, RO, SHF_OK}, {look, 0, 0, NO},
                             {look, 0660, 0, NO},     {look, 0, RO, SHF_OK},    {all, 0, 0, NO},
                             {all, 0660, 0, NO},      {all, 0606, 0, NO},       {all, 0666, 0, SHF_OK},
                             {all, 0622, 0, SHF_OK},  {NULL, 0, 0, 0}};
    struct entry other[] = {{team, 0660, 0, NO},
                            {team, 0666, RO, NO},
                            {look, 0666, RO, NO},
                            {all, 0666, 0, SHF_OK},
                            {all, 0666, SHF_CREATE, SHF_OK},
                            {all, 0666, SHF_CREATE | SHF_EXCL, SHF_ERR_EXISTS},
                            {NULL, 0, 0, 0}};
    run_as(ALICE, 0, try_entries, alice);
    run_as(BOB, TEAM, try_entries, member);
    run_as(BOB, 0, try_entries, other);
    run_as(BOB, BOB, try_entries, other);
    open_folder(0700);
}

/* One user dies in the middle, another goes on; he may neither signal him nor look into his memory. */
struct pair {
    const char *path;
    struct shf_table *table;
    shf_au32 ready, go;
};
static void dies_holding(void *arg) {
    struct pair *p = arg;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.mode = 0666;
    REQUIRE_EQ_INT(shf_table_open(p->path, 0, &o, &t), SHF_OK);
    REQUIRE_EQ_INT(shf_table_put(t, "alice", 5, "was here", 8, NULL), SHF_OK);
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) REQUIRE_EQ_INT(shf__table_lock(t, &t->shards[i]), SHF_OK);
    atomic_store(&p->ready, 1);
    for (;;) pause();
}
static void goes_on(void *arg) {
    struct pair *p = arg;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.mode = 0666, o.lock_timeout_ms = 20000;
    REQUIRE_EQ_INT(shf_table_open(p->path, 0, &o, &t), SHF_OK);
    CHECK(table_has(t, "alice", 5, "was here", 8));
    CHECK_EQ_INT(shf_table_put(t, "bob", 3, "too", 3, NULL), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 3);
    CHECK_EQ_INT(table_stats(t).recoveries, SHF_SHARD_COUNT);
    shf_table_close(t);
}
TEST(another_user_recovers) {
    if (needs_root()) return;
    struct pair *p = shared_memory(sizeof *p);
    open_folder(0755);
    p->path = fresh("shared", 0666);
    give(p->path, ALICE, ALICE, 0666);
    pid_t pid = start_as(ALICE, 0, dies_holding, p);
    REQUIRE(await(&p->ready));
    kill(pid, SIGKILL);
    CHECK_EQ_INT(wait_child(pid, 20000), CHILD_KILLED(SIGKILL));
    run_as(BOB, 0, goes_on, p); /* also the header says "dirty", by another user: same boot, same file */
    open_folder(0700);
}

/* A folder as /tmp: BOB was there first, with whatever he likes; ALICE wants to create. With protected_regular and the
 * like as the machine has them. */
static void squats(void *arg) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    const char *path = arg;
    const char *last = strrchr(path, '-') + 1;
    o.mode = 0600;
    if (strcmp(last, "link") == 0)
        REQUIRE(symlink(temp_path("bobs-target"), path) == 0);
    else if (strcmp(last, "fifo") == 0)
        REQUIRE(mkfifo(path, 0666) == 0 && chmod(path, 0666) == 0);
    else if (strcmp(last, "folder") == 0)
        REQUIRE(mkdir(path, 0777) == 0);
    else {
        o.mode = (uint32_t)strtoul(last, NULL, 8);
        REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, &o, &t), SHF_OK);
        CHECK_EQ_INT(shf_table_put(t, "k", 1, "bob's", 5, NULL), SHF_OK);
        if (o.mode == 0602) raise(SIGKILL); /* dirty, too */
        shf_table_close(t);
    }
}
static void wants_to_create(void *arg) {
    struct entry *e = arg;
    EXPECT(e->path, SHF_CREATE, e->mode, e->expected);
    EXPECT(e->path, SHF_CREATE | SHF_EXCL, 0, SHF_ERR_EXISTS);
    CHECK(shf_unlink(e->path) < 0); /* sticky: it stays BOB's */
    CHECK(exists(e->path));
}
TEST(squatters_in_a_sticky_folder) {
    if (needs_root()) return;
    static struct entry e[] = {
        {"a-link", 0, 0, SHF_ERR_INVALID_PATH},   {"a-fifo", 0, 0, SHF_ERR_INVALID_PATH},
        {"a-folder", 0, 0, SHF_ERR_INVALID_PATH}, {"a-0600", 0, 0, SHF_ERR_PERMISSION},
        {"a-0644", 0, 0, SHF_ERR_PERMISSION},     {"a-0666", 0, 0, SHF_ERR_PERMISSION},
        {"b-0666", 0600, 0, SHF_ERR_PERMISSION},  {"a-0602", 0, 0, SHF_ERR_PERMISSION},
        {"a-0660", 0, 0, SHF_ERR_PERMISSION},     {"c-0666", 0666, 0, SHF_OK}, /* as asked for */
    };
    open_folder(01777);
    for (size_t i = 0; i < sizeof e / sizeof e[0]; i++) {
        struct entry one = e[i];
        char path[128];
        snprintf(path, sizeof path, "%s", temp_path(e[i].path));
        one.path = path;
        int rc = wait_child(start_as(BOB, 0, squats, path), 20000);
        CHECK(rc == 0 || rc == CHILD_KILLED(SIGKILL));
        run_as(ALICE, 0, wants_to_create, &one);
        CHECK(!exists(temp_path("bobs-target")));
        if (unlink(path) != 0) rmdir(path);
    }
    open_folder(0700);
}

/* ---- rights that change under users ---- */
static int grow(struct shf_table *t, unsigned from) { /* needs fresh pages */
    static char large[20000];
    int rc = SHF_OK;
    uint64_t before = table_stats(t).file_bytes;
    for (unsigned i = from; i < from + 60 && rc == SHF_OK; i++) rc = shf_table_put(t, &i, 4, large, sizeof large, NULL);
    CHECK(table_stats(t).file_bytes > before);
    return rc;
}
static void uses_inherited(void *arg) { /* may not open the file anew: cannot write, but reads */
    CHECK_EQ_INT(shf_table_put(arg, "child", 5, "x", 1, NULL), SHF_ERR_FORKED);
    CHECK(printable(shf_last_error()->message));
    CHECK(table_has(arg, "k", 1, "v", 1));
    shf_table_close(arg);
}
static void chmod_under_it(void *arg) {
    const char *path = arg;
    struct shf_table *t = NULL, *r = NULL;
    REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE, NULL, &t), SHF_OK);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    REQUIRE_EQ_INT(shf_table_open(path, SHF_RDONLY, NULL, &r), SHF_OK);
    REQUIRE(chmod(path, 0000) == 0);
    CHECK_EQ_INT(grow(t, 0), SHF_OK);
    CHECK(table_has(r, "k", 1, "v", 1));
    EXPECT(path, 0, 0, SHF_ERR_PERMISSION);
    EXPECT(path, SHF_RDONLY, 0, SHF_ERR_PERMISSION);
    EXPECT(path, SHF_CREATE, 0, SHF_ERR_PERMISSION);
    CHECK_EQ_INT(shf_unlink(path), SHF_ERR_PERMISSION);
    CHECK_EQ_INT(run_child(uses_inherited, t, 20000), 0);
    REQUIRE(chmod(path, 0444) == 0);
    EXPECT(path, 0, 0, SHF_ERR_PERMISSION);
    EXPECT(path, SHF_RDONLY, 0, SHF_OK);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "w", 1, NULL), SHF_OK);
    CHECK(table_has(r, "k", 1, "w", 1));
    CHECK_EQ_INT(table_stats(t).handles, 1);
    table_clean(t);
    shf_table_close(t), shf_table_close(r);
    REQUIRE(chmod(path, 0600) == 0);
    EXPECT(path, 0, 0, SHF_OK);
}
TEST(modes_that_change_later) {
    if (needs_root()) return;
    open_folder(0777);
    run_as(ALICE, 0, chmod_under_it, (void *)(uintptr_t)temp_path("changed"));
    open_folder(0700);
}

struct drop {
    const char *path;
    int memory;
    shf_au32 ready;
};
static void drops_its_rights(void *arg) {
    struct drop *d = arg;
    struct shf_table *t = NULL;
    int rc = d->memory ? shf_table_anonymous("dropped", NULL, &t) : shf_table_open(d->path, SHF_CREATE, NULL, &t);
    REQUIRE_EQ_INT(rc, SHF_OK);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    REQUIRE(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
            setresuid(NOBODY, NOBODY, NOBODY) == 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!d->memory) EXPECT(d->path, 0, 0, SHF_ERR_PERMISSION);
    CHECK_EQ_INT(grow(t, 0), SHF_OK); /* what it has it keeps */
    for (unsigned i = 0; i < 60; i++) CHECK_EQ_INT(shf_table_del(t, &i, 4), SHF_OK);
    CHECK_EQ_INT(table_clean(t), 1);
    CHECK_EQ_INT(run_child(uses_inherited, t, 20000), 0);
    CHECK_EQ_INT(table_stats(t).handles, 1);
    if (d->memory) {
        shf_table_close(t);
        return;
    }
    for (uint32_t i = 0; i < SHF_SHARD_COUNT; i++) REQUIRE_EQ_INT(shf__table_lock(t, &t->shards[i]), SHF_OK);
    atomic_store(&d->ready, 1);
    for (;;) pause();
}
TEST(rights_dropped_after_the_open) {
    if (needs_root()) return;
    struct drop *d = shared_memory(sizeof *d);
    open_folder(0755);
    d->path = temp_path("dropped");
    d->memory = 1;
    CHECK_EQ_INT(run_child(drops_its_rights, d, 30000), 0);
    d->memory = 0;
    pid_t pid = fork_child(drops_its_rights, d);
    REQUIRE(await(&d->ready));
    kill(pid, SIGKILL);
    CHECK_EQ_INT(wait_child(pid, 20000), CHILD_KILLED(SIGKILL));
    struct shf_table *t = table_open("dropped", 0);
    CHECK(table_has(t, "k", 1, "v", 1));
    CHECK_EQ_INT(table_clean(t), 1);
    shf_table_close(t);
    open_folder(0700);
}

/* ---- memory files ---- */
static int sealed_copy(const char *path, int seals) {
    char buf[4096];
    int from = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(from >= 0 && fd >= 0);
    for (ssize_t n; (n = read(from, buf, sizeof buf)) > 0;) REQUIRE(write(fd, buf, (size_t)n) == n);
    close(from);
    REQUIRE(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}
TEST(seals) {
    struct shf_table *t = NULL, *r = NULL;
    char link_path[64];
    const char *path = fresh("source", 0);
    unsigned fds = count_fds();
    /* ours: nobody can shrink it, nor seal more */
    REQUIRE_EQ_INT(shf_table_anonymous("ours", NULL, &t), SHF_OK);
    CHECK_EQ_INT(fcntl(shf_table_fd(t), F_GET_SEALS) & 0xf, F_SEAL_SHRINK | F_SEAL_SEAL);
    CHECK(ftruncate(shf_table_fd(t), 4096) < 0 && errno == EPERM);
    for (int seal = F_SEAL_GROW; seal <= 0x10 /* future write */; seal *= 2)
        CHECK(fcntl(shf_table_fd(t), F_ADD_SEALS, seal) < 0 && errno == EPERM);
    CHECK_EQ_INT(grow(t, 0), SHF_OK);
    shf_table_close(t);
    static const struct {
        int seals, writable, readable;
    } cases[] = {{0, 0, 0},
                 {F_SEAL_GROW, 0, 0},
                 {F_SEAL_SHRINK, 1, 1},
                 {F_SEAL_SHRINK | F_SEAL_GROW, 1, 1},
                 {F_SEAL_SHRINK | F_SEAL_WRITE, 0, 1},
                 {F_SEAL_SHRINK | 0x10, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = sealed_copy(path, cases[i].seals);
        snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
        int ro = open(link_path, O_RDONLY | O_CLOEXEC);
        CHECK_EQ_INT(shf_table_from_fd(fd, NULL, &t), cases[i].writable ? SHF_OK : SHF_ERR_PERMISSION);
        if (cases[i].writable) {
            int rc = SHF_OK;
            static char large[20000];
            for (unsigned k = 0; k < 100 && rc == SHF_OK; k++) rc = shf_table_put(t, &k, 4, large, sizeof large, NULL);
            CHECK_EQ_INT(rc, cases[i].seals & F_SEAL_GROW ? SHF_ERR_IO : SHF_OK);
            CHECK(table_has(t, "me", 2, "x", 1)); /* whatever could not be */
            CHECK_EQ_INT(shf_table_put(t, "me", 2, "y", 1, NULL), SHF_OK);
            table_clean(t);
        }
        CHECK_EQ_INT(shf_table_from_fd(ro, NULL, &r), cases[i].readable ? SHF_OK : SHF_ERR_PERMISSION);
        if (cases[i].readable) {
            CHECK(table_has(r, "me", 2, cases[i].writable ? "y" : "x", 1));
            shf_table_close(r);
        }
        if (cases[i].writable) shf_table_close(t);
        close(ro), close(fd);
    }
    CHECK_EQ_INT(count_fds(), fds);
}

/* ---- names ---- */
TEST(hostile_names) {
    static const char *const names[] = {"line\nfeed",        "\033[2J\033[31mred", "del\177", "\xc2\x9b[2J C1 in UTF-8",
                                        "\xff\xfe no UTF-8", "per%cent%s%n",       " ",       "tab\tand\rreturn",
                                        "\xe2\x82\xac fine"};
    struct shf_table *t = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *path = temp_path(names[i]);
        EXPECT(path, 0, 0, SHF_ERR_NOT_FOUND);
        CHECK(strcmp(shf_last_error()->path, path) == 0); /* the bytes themselves: for programs */
        EXPECT(path, SHF_CREATE, 0, SHF_OK);
        EXPECT(path, SHF_CREATE | SHF_EXCL, 0, SHF_ERR_EXISTS);
        CHECK_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
        CHECK(strcmp(shf_table_path(t), path) == 0);
        CHECK_EQ_INT(shf_table_put(t, NULL, 5, "", 0, NULL), SHF_ERR_INVALID);
        CHECK(printable(shf_last_error()->message));
        shf_table_close(t);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        CHECK(fd >= 0 && pwrite(fd, "not a table", 11, 0) == 11);
        close(fd);
        EXPECT(path, 0, 0, SHF_ERR_INCOMPATIBLE);
        CHECK_EQ_INT(shf_unlink(path), SHF_ERR_INVALID_PATH);
        CHECK(printable(shf_last_error()->message));
        unlink(path);
        /* a memory file has the name that its sender gave it */
        fd = memfd_create(names[i], MFD_CLOEXEC | MFD_ALLOW_SEALING);
        REQUIRE(fd >= 0);
        CHECK_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_ERR_PERMISSION);
        CHECK(printable(shf_last_error()->message));
        close(fd);
    }
    CHECK(strstr(shf_last_error()->message, "\xe2\x82\xac fine") != NULL); /* what is harmless stays */
}

static void long_path_child(void *arg) {
    CHECK_EQ_INT(shf_table_put(arg, "child", 5, "x", 1, NULL), SHF_OK);
    shf_table_close(arg);
}
TEST(long_names) {
    static char path[5000], name[300];
    temp_path("");
    /* "/dev/shm/shf-test-x/././././t", of exactly so many bytes; PATH_MAX is 4,096 with its 0 */
    for (size_t length = 4090; length <= 4100; length++) {
        size_t n = strlen(test_dir);
        memcpy(path, test_dir, n);
        while (n + 4 <= length - 2) memcpy(path + n, "/.", 2), n += 2;
        path[n++] = '/';
        while (n < length) path[n++] = 't';
        path[n] = 0;
        if (length < 4096) {
            struct shf_table *t = NULL;
            EXPECT(path, SHF_CREATE | SHF_EXCL, 0, SHF_OK);
            CHECK_EQ_INT(shf_table_open(path, 0, NULL, &t), SHF_OK);
            CHECK(strcmp(shf_table_path(t), path) == 0);
            CHECK_EQ_INT(run_child(long_path_child, t, 20000), 0);
            shf_table_close(t);
            CHECK_EQ_INT(shf_unlink(path), SHF_OK);
        } else {
            EXPECT(path, SHF_CREATE, 0, SHF_ERR_INVALID_PATH);
            EXPECT(path, 0, 0, SHF_ERR_INVALID_PATH);
            CHECK_EQ_INT(shf_unlink(path), SHF_ERR_INVALID_PATH);
        }
        CHECK(strlen(shf_last_error()->message) < 1024 && strlen(shf_last_error()->path) < 1024);
    }
    memset(name, 'n', 256);
    for (size_t length = 254; length <= 256; length++) { /* NAME_MAX is 255 */
        name[length] = 0;
        snprintf(path, sizeof path, "%s/%s", test_dir, name);
        EXPECT(path, SHF_CREATE, 0, length <= 255 ? SHF_OK : SHF_ERR_INVALID_PATH);
        unlink(path);
        name[length] = 'n';
    }
}

/* A relative path means what it meant at the open. */
static void proves_its_life(void *arg) { /* at the right file: its parent must see it */
    struct pair *p = arg;
    CHECK_EQ_INT(shf_table_put(p->table, "child", 5, "x", 1, NULL), SHF_OK);
    atomic_store(&p->ready, 1);
    await(&p->go);
    shf_table_close(p->table);
}
static void changes_folder(void *unused) {
    char inner[128];
    struct shf_table *t = NULL, *other = NULL;
    (void)unused;
    temp_path("");
    snprintf(inner, sizeof inner, "%s/inner", test_dir);
    REQUIRE(mkdir(inner, 0700) == 0 && chdir(test_dir) == 0);
    REQUIRE_EQ_INT(shf_table_open("t", SHF_CREATE, NULL, &t), SHF_OK);
    CHECK_EQ_INT(shf_table_put(t, "k", 1, "v", 1, NULL), SHF_OK);
    REQUIRE(chdir(inner) == 0);
    REQUIRE_EQ_INT(shf_table_open("t", SHF_CREATE | SHF_EXCL, NULL, &other), SHF_OK);
    CHECK_EQ_INT(grow(t, 0), SHF_OK);
    struct pair *p = shared_memory(sizeof *p);
    p->table = t;
    pid_t pid = fork_child(proves_its_life, p);
    REQUIRE(await(&p->ready));
    CHECK_EQ_INT(table_stats(t).handles, 2);
    CHECK_EQ_INT(table_stats(other).handles, 1);
    atomic_store(&p->go, 1);
    CHECK_EQ_INT(wait_child(pid, 20000), 0);
    CHECK(table_has(t, "child", 5, "x", 1));
    CHECK(strcmp(shf_table_path(t), "t") == 0);
    CHECK_EQ_INT(table_walk(other), 0);
    CHECK_EQ_INT(table_stats(t).handles, 1);
    shf_table_close(t);
    shf_table_close(other);
    CHECK_EQ_INT(shf_unlink("t"), SHF_OK);
    REQUIRE(chdir("..") == 0 && rmdir(inner) == 0);
    EXPECT("t", 0, 0, SHF_OK);
    CHECK_EQ_INT(shf_unlink("t"), SHF_OK);
}
TEST(relative_paths_after_chdir) { CHECK_EQ_INT(run_child(changes_folder, NULL, 20000), 0); }

/* ---- what a file may not tell ---- */
#define PAINT UINT64_C(0x5ec2e7d00ddba115)
static __attribute__((noinline)) void paint(void) { /* stack and heap, as passwords would lie there */
    uint64_t stack[4096];
    for (size_t i = 0; i < 4096; i++) stack[i] = PAINT;
    __asm__ volatile("" : : "r"(stack) : "memory"); /* it is written */
    for (size_t size = 16; size < 100000; size *= 2) {
        uint64_t *heap = malloc(size);
        for (size_t i = 0; heap && i < size / 8; i++) heap[i] = PAINT;
        __asm__ volatile("" : : "r"(heap) : "memory");
        free(heap);
    }
}
static int keeps_length(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)context;
    paint();
    *desired = *old;
    return 0;
}
static void search(const char *path) { /* four bytes of it in a row, at any place */
    static unsigned char buf[1 << 16];
    uint64_t painted = PAINT;
    int fd = open(path, O_RDONLY | O_CLOEXEC), found = 0;
    REQUIRE(fd >= 0);
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
        for (ssize_t at = 0; at + 4 <= n; at++)
            for (int shift = 0; shift <= 4; shift++) found += memcmp(buf + at, (char *)&painted + shift, 4) == 0;
    close(fd);
    if (found) FAIL("%s has %d pieces of private memory", path, found);
}
TEST(nothing_private_in_the_file) {
    static const struct { uint32_t key, value; } kinds[] = {{0, 0}, {3, 5}, {9, 9}, {16, 40}, {4, 4}, {1, 119}};
    unsigned char key[64], val[20000];
    if (TEST_SANITIZED) return; /* other stacks, other heaps */
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
        struct shf_table *t = NULL;
        char path[128];
        snprintf(path, sizeof path, "%s", temp_path("painted"));
        o.fixed_key = kinds[i].key, o.fixed_value = kinds[i].value;
        paint();
        REQUIRE_EQ_INT(shf_table_open(path, SHF_CREATE | SHF_EXCL, &o, &t), SHF_OK);
        memset(val, 0x11, sizeof val);
        for (unsigned k = 0; k < 3000; k++) {
            size_t klen = o.fixed_key ? o.fixed_key : 4 + k % 29, vlen = o.fixed_key ? o.fixed_value
                                                                         : k % 100   ? k % 61
                                                                                     : 9000 + k;
            memset(key, 0x22, sizeof key);
            memcpy(key, &k, klen < 4 ? klen : 4);
            paint();
            CHECK_EQ_INT(shf_table_put(t, key, klen, val, vlen, NULL), SHF_OK);
            paint();
            if (k % 7 == 0) CHECK_EQ_INT(shf_table_update(t, key, klen, keeps_length, NULL, NULL), SHF_OK);
            if (k % 5 == 0) CHECK(shf_table_del(t, key, klen) == SHF_OK);
        }
        paint();
        table_clean(t);
        shf_table_close(t);
        search(path);
        CHECK_EQ_INT(shf_unlink(path), SHF_OK);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}
static void remove_folders(void) { /* what a test that failed has left inside */
    if (getpid() == test_pid && test_dir[0] && !test_env("SHF_KEEP", 0))
        nftw(test_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
int main(int argc, char **argv) {
    total = mmap(NULL, sizeof *total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (total == MAP_FAILED) return 2;
    atexit(remove_folders);
    int rc = run(argc, argv);
    if (argc < 2 && rc == 0)
        printf("# total: %llu opens refused and %llu allowed, each as the rules say; %llu exchanges of what stands at "
               "a path; 0 "
               "strangers let in\n",
               (unsigned long long)total->refused, (unsigned long long)total->allowed,
               (unsigned long long)total->swaps);
    return rc;
}
