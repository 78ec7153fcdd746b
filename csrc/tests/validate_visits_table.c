// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_visits_table.c - processes that come to a table and go: by thousands and killed on the way, all to one name,
 * with a descriptor that was sent, without standard streams, with threads that are cancelled, with a library that is
 * loaded anew
 */
#include "processes_fixture.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- coming and going ---- */
struct visits {
    _Atomic uint64_t done;
    _Atomic int stop;
    uint64_t most, seed;
};
static void visitor(void *arg) {
    struct visits *v = arg;
    uint64_t rng = v->seed ^ (uint64_t)getpid() * 7919;
    while (atomic_load(&v->done) < v->most) {
        struct shf_table *t = open_for(path, 20000);
        uint32_t shard = (uint32_t)(test_next(&rng) % 2);
        char key[24];
        size_t n = key_in(t, shard, 1 + (unsigned)(test_next(&rng) % 20), key);
        int rc = test_next(&rng) % 3 ? shf_table_put(t, key, n, key, n, NULL) : shf_table_del(t, key, n);
        if (rc < 0) FAIL("visitor: %d, %s", rc, shf_last_error()->message);
        shf_table_close(t);
        atomic_fetch_add(&v->done, 1);
    }
}
/* Slots come back, however their holders went. */
TEST(visits_and_kills) {
    enum { VISITORS = 4 };
    struct visits *v = shared_memory(sizeof *v);
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    static struct shf_table *all[SHF_SLOT_COUNT];
    struct rlimit limit;
    pid_t pid[VISITORS];
    uint64_t kills = 0;
    begin();
    v->most = test_env("SHF_VISITS", TEST_SANITIZED ? 1500 : 4000), v->seed = test_seed;
    for (int i = 0; i < VISITORS; i++) pid[i] = fork_child(visitor, v);
    uint64_t hang = test_now_ns() + UINT64_C(120000000000);
    while (atomic_load(&v->done) < v->most && test_now_ns() < hang && !*test_failures) {
        int i = (int)(test_rng() % VISITORS);
        usleep((useconds_t)(test_rng() % 8000));
        kill(pid[i], SIGKILL);
        int rc = wait_child(pid[i], 20000);
        CHECK(rc == CHILD_KILLED(SIGKILL) || rc == 0);
        kills += rc != 0;
        pid[i] = fork_child(visitor, v);
    }
    CHECK(atomic_load(&v->done) >= v->most);
    for (int i = 0; i < VISITORS; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    total.killed += kills;
    printf("# %llu visits by %d processes, %llu of them killed\n", (unsigned long long)atomic_load(&v->done), VISITORS,
           (unsigned long long)kills);
    CHECK_EQ_INT(table_stats(patient).handles, 2);
    table_clean(patient);
    MUST(shf_table_clear(patient), SHF_OK);
    MUST(put_in(patient, 0, 0), SHF_OK);
    MUST(put_in(patient, 1, 0), SHF_OK);

    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t before = limit.rlim_cur;
    if (limit.rlim_max >= 4096) {
        limit.rlim_cur = 4096;
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        int most = SHF_SLOT_COUNT - 1 - 2, rc = SHF_OK, n = 0;
        if (TEST_SANITIZED) { /* a smaller address space: look at the slots alone */
            for (uint32_t s = 1; s < SHF_SLOT_COUNT; s++) n += os_ofd_probe(shf_table_fd(patient), BYTE_R + s);
            CHECK_EQ_INT(n, 2);
        } else {
            for (; n < most && rc == SHF_OK; n += rc == SHF_OK) rc = shf_table_open(path, 0, &o, &all[n]);
            MUST(rc, SHF_OK);
            CHECK_EQ_INT(n, most);
            struct shf_table *one = NULL;
            CHECK_EQ_INT(shf_table_open(path, 0, &o, &one), SHF_ERR_BUSY);
            MUST(shf_table_open(path, SHF_RDONLY, &o, &one), SHF_OK);
            shf_table_close(one);
            for (int i = 0; i < n; i++) shf_table_close(all[i]);
        }
        limit.rlim_cur = before;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    finish(2);
}

/* Creators, openers and removers of one name, killed at random: whoever gets a table gets a whole one. */
struct door {
    _Atomic uint64_t opened, made, absent, exists, busy, removed;
    _Atomic int stop;
    int removers;
    uint64_t seed;
    _Atomic uint64_t ino; /* without removers: of the one file */
    _Atomic uint64_t acked;
};
static struct door *door;
static void at_the_door(void *arg) {
    uint64_t rng = door->seed ^ (uint64_t)getpid() * 7919 ^ (uint64_t)(uintptr_t)arg;
    const char *name = temp_path("door");
    while (!atomic_load(&door->stop)) {
        struct shf_table *t = NULL;
        unsigned what = (unsigned)(test_next(&rng) % (door->removers ? 5 : 3));
        static const unsigned flags[] = {0, SHF_CREATE, SHF_CREATE | SHF_EXCL, SHF_CREATE};
        if (what == 4) {
            int rc = shf_unlink(name);
            if (rc == SHF_OK)
                atomic_fetch_add(&door->removed, 1);
            else if (rc != SHF_ERR_NOT_FOUND)
                FAIL("unlink: %d, %s", rc, shf_last_error()->message);
            continue;
        }
        int rc = shf_table_open(name, flags[what], NULL, &t);
        if (rc == SHF_ERR_NOT_FOUND && what == 0) {
            atomic_fetch_add(&door->absent, 1);
        } else if (rc == SHF_ERR_EXISTS && what == 2) {
            atomic_fetch_add(&door->exists, 1);
        } else if (rc == SHF_ERR_BUSY && door->removers) {
            atomic_fetch_add(&door->busy, 1);
        } else if (rc != SHF_OK) {
            FAIL("open %d: %d, %s", what, rc, shf_last_error()->message);
        } else {
            struct stat st;
            atomic_fetch_add(&door->opened, 1);
            if (what == 2) atomic_fetch_add(&door->made, 1);
            REQUIRE(fstat(shf_table_fd(t), &st) == 0);
            uint64_t none = 0;
            if (!door->removers && !atomic_compare_exchange_strong(&door->ino, &none, st.st_ino))
                CHECK(none == st.st_ino); /* all are at one file */
            int64_t was = 0;
            rc = shf_table_add(t, "sum", 3, 1, &was);
            if (rc == SHF_OK) atomic_fetch_add(&door->acked, 1);
            if (rc == SHF_OK) rc = put_in(t, (uint32_t)(test_next(&rng) % 2), (unsigned)(test_next(&rng) % 50));
            if (rc != SHF_OK) FAIL("work: %d, %s", rc, shf_last_error()->message);
            shf_table_close(t);
        }
    }
}
static int much_done(void) { return atomic_load(&door->opened) > 20 && atomic_load(&door->removed) > 5; }
static void crowd_at_the_door(int removers, uint64_t ms) {
    enum { CROWD = 8 };
    pid_t pid[CROWD];
    uint64_t kills = 0;
    memset((void *)door, 0, sizeof *door);
    door->removers = removers, door->seed = test_rng();
    temp_path("");
    for (int i = 0; i < CROWD; i++) pid[i] = fork_child(at_the_door, (void *)(uintptr_t)i);
    uint64_t start = test_now_ns(), end = start + ms * 1000000, hang = start + HANG_MS * UINT64_C(1000000);
    for (; !*test_failures; kills++) {
        uint64_t now = test_now_ns();
        if (now >= end && (!removers || much_done() || now >= hang)) break;
        int i = (int)(test_rng() % CROWD);
        usleep((useconds_t)(test_rng() % 10000));
        kill(pid[i], SIGKILL);
        CHECK_EQ_INT(wait_child(pid[i], 20000), CHILD_KILLED(SIGKILL));
        pid[i] = fork_child(at_the_door, (void *)(uintptr_t)(kills + CROWD));
    }
    atomic_store(&door->stop, 1);
    for (int i = 0; i < CROWD; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    total.killed += kills, total.opened += atomic_load(&door->opened);
    int files = 0;
    DIR *d = opendir(test_dir); /* neither a private name nor anything else is left */
    for (struct dirent *e; d && (e = readdir(d));) files += e->d_name[0] != '.' && strcmp(e->d_name, "door") != 0;
    if (d) closedir(d);
    CHECK_EQ_INT(files, 0);
    if (removers && shf_unlink(temp_path("door")) != SHF_OK) CHECK_EQ_INT(shf_last_error()->code, SHF_ERR_NOT_FOUND);
}
TEST(creators_killed_at_random) {
    door = shared_memory(sizeof *door);
    for (int round = 0; round < 5; round++) {
        crowd_at_the_door(0, 250);
        struct shf_table *t = table_open("door", 0);
        int64_t sum = 0;
        MUST(shf_table_add(t, "sum", 3, 0, &sum), SHF_OK);
        /* a kill may come between the addition and its note here */
        CHECK((uint64_t)sum >= atomic_load(&door->acked) && (uint64_t)sum <= atomic_load(&door->acked) + total.killed);
        CHECK(atomic_load(&door->made) <= 1);
        table_clean(t);
        CHECK_EQ_INT(table_stats(t).handles, 1);
        shf_table_close(t);
        CHECK_EQ_INT(shf_unlink(temp_path("door")), SHF_OK);
    }
}
TEST(creators_and_removers_killed_at_random) {
    door = shared_memory(sizeof *door);
    crowd_at_the_door(1, 1500);
    CHECK(much_done());
    printf("# %llu opened, %llu removed, %llu not found, %llu there already, %llu gave up\n",
           (unsigned long long)atomic_load(&door->opened), (unsigned long long)atomic_load(&door->removed),
           (unsigned long long)atomic_load(&door->absent), (unsigned long long)atomic_load(&door->exists),
           (unsigned long long)atomic_load(&door->busy));
}

/* ---- descriptors that are sent ---- */
struct fd_message {
    char byte;
    struct iovec v;
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))];
    struct msghdr m;
};
static void fd_message(struct fd_message *f) {
    memset(f, 0, sizeof *f);
    f->v.iov_base = &f->byte, f->v.iov_len = 1;
    f->m.msg_iov = &f->v, f->m.msg_iovlen = 1;
    f->m.msg_control = f->room, f->m.msg_controllen = sizeof f->room;
}
static void send_fd(int to, int fd) {
    struct fd_message f;
    fd_message(&f);
    struct cmsghdr *h = CMSG_FIRSTHDR(&f.m);
    h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    if (sendmsg(to, &f.m, 0) != 1) FAIL("sendmsg: %s", strerror(errno));
}
static int receive_fd(int from) {
    struct fd_message f;
    int fd = -1;
    fd_message(&f);
    if (recvmsg(from, &f.m, MSG_CMSG_CLOEXEC) != 1) return -1;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&f.m); h; h = CMSG_NXTHDR(&f.m, h))
        if (h->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(h), sizeof fd);
    return fd;
}
/* Role: a program that has nothing but a socket, in descriptor 0. Waits for the table, and for its turn. */
static int role_receive(char **args) {
    struct shf_table *t = NULL;
    char byte = 1;
    if (args[0] && setresuid((uid_t)atoi(args[0]), (uid_t)atoi(args[0]), (uid_t)atoi(args[0])) != 0) return 9;
    int fd = receive_fd(0), rc;
    if (fd < 0) return 8;
    rc = shf_table_from_fd(fd, NULL, &t);
    close(fd);
    if (rc != SHF_OK) return rc == SHF_ERR_PERMISSION ? 7 : 6;
    rc = put_in(t, 1, 1);
    if (write(0, &byte, 1) != 1 || read(0, &byte, 1) != 1) return 5; /* the sender is dead now */
    if (rc == SHF_OK) rc = put_in(t, 0, 1);
    if (rc == SHF_OK) rc = has_in(t, 0, 0) && has_in(t, 1, 1) ? SHF_OK : SHF_ERR_CORRUPT;
    if (rc == SHF_OK) rc = table_stats(t).recoveries == 1 ? SHF_OK : SHF_ERR_CORRUPT;
    shf_table_close(t);
    return rc == SHF_OK ? 0 : 4;
}
struct parcel {
    int to, memory, mode;
};
static void sender(void *arg) {
    struct parcel *p = arg;
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.mode = (uint32_t)p->mode;
    int rc = p->memory ? shf_table_anonymous("sent", &o, &t) : shf_table_open(temp_path("sent"), SHF_CREATE, &o, &t);
    if (rc != SHF_OK || put_in(t, 0, 0) != SHF_OK) _exit(1);
    hold(t, 0);
    send_fd(p->to, shf_table_fd(t));
    for_ever();
}
static void becomes_another(void *unused) {
    (void)unused;
    _exit(setresuid(65534, 65534, 65534) != 0);
}
TEST(handles_sent_to_another_program) {
    int strangers = geteuid() == 0 && run_child(becomes_another, NULL, 20000) == 0; /* a user namespace may have none */
    for (int memory = 0; memory < 2; memory++)
        for (int stranger = 0; stranger <= strangers; stranger++)
            for (int mode = 0600; mode <= 0666; mode += 066) {
                int pair[2];
                char byte = 1;
                REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
                fflush(NULL);
                pid_t receiver = fork();
                if (receiver == 0) {
                    prctl(PR_SET_PDEATHSIG, SIGKILL);
                    if (dup2(pair[0], 0) != 0) _exit(1);
                    execl("/proc/self/exe", "self", "--role", "receive", stranger ? "65534" : (char *)NULL,
                          (char *)NULL);
                    _exit(1);
                }
                struct parcel p = {pair[1], memory, mode};
                close(pair[0]); /* before the sender is forked: if the receiver ends, a read here must see it */
                pid_t from = fork_child(sender, &p);
                /* The proof of life is a descriptor of one's own: who may not open the file cannot have it. */
                int expected = stranger && mode == 0600 ? 7 : 0;
                if (expected == 0) {
                    REQUIRE(read(pair[1], &byte, 1) == 1);
                    end(from, SIGKILL);
                    REQUIRE(write(pair[1], &byte, 1) == 1);
                }
                int rc = wait_child(receiver, 20000);
                if (rc != expected) FAIL("memory %d, stranger %d, mode %o: %d", memory, stranger, (unsigned)mode, rc);
                if (expected != 0) end(from, SIGKILL);
                close(pair[1]);
                unlink(temp_path("sent"));
            }
}

/* ---- closed standard streams ---- */
static void without_streams(void *arg) {
    const char text[] = "a library says something that is longer than a magic number\n";
    struct shf_table *t[4] = {NULL};
    int out = fcntl(1, F_DUPFD_CLOEXEC, 10);
    (void)arg;
    for (int closed = 1; closed < 8; closed++) { /* each choice of the three */
        char name[16];
        snprintf(name, sizeof name, "s%d", closed);
        for (int fd = 0; fd < 3; fd++) closed >> fd & 1 ? close(fd) : dup2(out, fd);
        int rc[4] = {shf_table_open(temp_path(name), SHF_CREATE, NULL, &t[0]),
                     shf_table_open(temp_path(name), 0, NULL, &t[1]), shf_table_anonymous("s", NULL, &t[2]), SHF_OK};
        rc[3] = t[0] ? shf_table_from_fd(shf_table_fd(t[0]), NULL, &t[3]) : SHF_ERR_IO;
        int low = 0;
        for (int fd = 0; fd < 3; fd++)
            low += closed >> fd & 1 && (fcntl(fd, F_GETFD) >= 0 || write(fd, text, sizeof text) > 0);
        for (int i = 0; i < 4; i++)
            if (t[i]) rc[i] = put_in(t[i], 0, (unsigned)i);
        for (int fd = 0; fd < 3; fd++) dup2(out, fd);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ_INT(rc[i], SHF_OK);
            CHECK(shf_table_fd(t[i]) > 2);
            if (t[i]) shf_table_close(t[i]);
            t[i] = NULL;
        }
        CHECK_EQ_INT(low, 0);
        struct shf_table *again = table_open(name, 0);
        CHECK_EQ_INT(table_clean(again), 3);
        shf_table_close(again);
    }
    close(out);
}
TEST(closed_standard_streams) { CHECK_EQ_INT(run_child(without_streams, NULL, 20000), 0); }

/* ---- threads that are cancelled ---- */
static struct shf_table *used_by_threads;
static void *grows(void *unused) {
    static char large[30000];
    (void)unused;
    for (unsigned i = 0;; i++) {
        int rc = shf_table_put(used_by_threads, &i, 4, large, sizeof large, NULL);
        if (rc == SHF_ERR_NO_SPACE || i == 3000) rc = shf_table_clear(used_by_threads), i = 0;
        if (rc != SHF_OK) FAIL("a thread: %d, %s", rc, shf_last_error()->message);
        pthread_testcancel();
    }
    return NULL;
}
static void *comes_and_goes(void *unused) {
    (void)unused;
    for (;;) {
        struct shf_table *t = NULL;
        if (shf_table_open(path, 0, NULL, &t) != SHF_OK) FAIL("open: %s", shf_last_error()->message);
        shf_table_close(t);
        pthread_testcancel();
    }
    return NULL;
}
TEST(cancelled_threads) {
    begin();
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    o.max_bytes = 256 << 20, o.lock_timeout_ms = 20000;
    REQUIRE_EQ_INT(shf_table_open(temp_path("grown"), SHF_CREATE, &o, &used_by_threads), SHF_OK);
    unsigned fds = count_fds();
    for (int i = 0; i < 40 && !*test_failures; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, i % 2 ? comes_and_goes : grows, NULL) == 0);
        usleep((useconds_t)(500 + test_rng() % 8000));
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        total.cancelled++;
        struct shf_table *t = NULL;
        o.lock_timeout_ms = 20000, o.max_bytes = 0;
        MUST(shf_table_open(i % 2 ? path : temp_path("grown"), 0, &o, &t), SHF_OK); /* byte R is free */
        if (!t) break;
        for (unsigned k = 0; k < 20 && i % 2 == 0; k++) { /* and the grow lock */
            static char large[100000];
            int rc = shf_table_put(t, &k, 4, large, sizeof large, NULL);
            if (rc == SHF_ERR_NO_SPACE) rc = shf_table_clear(t);
            MUST(rc, SHF_OK);
        }
        shf_table_close(t);
        CHECK_EQ_INT(count_fds(), fds);
    }
    CHECK_EQ_INT(table_stats(used_by_threads).handles, 1);
    table_clean(used_by_threads);
    shf_table_close(used_by_threads);
    finish(2);
}

/* ---- the shared library is unloaded and loaded again ---- */
struct library {
    void *handle;
    __typeof__(&shf_table_open) open;
    __typeof__(&shf_table_put) put;
    __typeof__(&shf_table_close) close;
};
static int library_load(struct library *l, const char *file) {
    l->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) return 0;
    *(void **)&l->open = dlsym(l->handle, "shf_table_open");
    *(void **)&l->put = dlsym(l->handle, "shf_table_put");
    *(void **)&l->close = dlsym(l->handle, "shf_table_close");
    return l->open && l->put && l->close;
}
static void reloads(void *file) {
    struct library l;
    struct shf_table *t = NULL;
    for (int i = 0; i < 20; i++) {
        REQUIRE(library_load(&l, file));
        REQUIRE_EQ_INT(l.open(path, 0, NULL, &t), SHF_OK);
        pid_t pid = fork(); /* its fork handler is there, and the child uses the handle */
        if (pid == 0) _exit(l.put(t, "child", 5, "x", 1, NULL) != SHF_OK);
        CHECK_EQ_INT(wait_child(pid, 20000), 0);
        CHECK_EQ_INT(l.put(t, "parent", 6, "x", 1, NULL), SHF_OK);
        if (i % 4 != 3) l.close(t); /* else the handle is lost, and lives until the process ends */
        dlclose(l.handle);
        pid = fork(); /* the fork handler has gone with the library */
        if (pid == 0) _exit(0);
        CHECK_EQ_INT(wait_child(pid, 20000), 0);
    }
    CHECK_EQ_INT(table_stats(patient).handles, 3 + 5); /* the parent's two, `patient` of this process, the lost ones */
}
TEST(a_library_that_is_reloaded) {
    char file[600];
    ssize_t n = readlink("/proc/self/exe", file, 500);
    REQUIRE(n > 0);
    file[n] = 0;
    for (int up = 0; up < 2; up++) *strrchr(file, '/') = 0; /* BUILD/flavour/test */
    strcat(file, "/libshf.so");
    if (SHF_SHARD_BITS != 8 || TEST_SANITIZED || access(file, R_OK) != 0) {
        printf("       (skipped: no libshf.so of this kind)\n");
        return;
    }
    begin();
    CHECK_EQ_INT(run_child(reloads, file, 60000), 0);
    CHECK_EQ_INT(table_stats(patient).handles, 2);
    finish(4);
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"receive", role_receive}};
    int rc = play_role(argc, argv, roles, sizeof roles / sizeof roles[0]);
    if (rc >= 0) return rc;
    rc = run(argc, argv);
    if (argc < 2 && rc == 0)
        printf("# total: %llu processes killed that came and went; %llu tables opened beside creators and removers, "
               "none of "
               "them half; %llu threads cancelled; 0 slots leaked\n",
               (unsigned long long)total.killed, (unsigned long long)total.opened, (unsigned long long)total.cancelled);
    return rc;
}
