// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_processes_table.c - a table and the processes around it: forked, replaced by exec, in other namespaces,
 * zombies, stopped, traced, paused; who is waited for, who is taken over, what others can do meanwhile; and a process
 * that may only read, but locks every byte
 *
 * See processes_fixture.h for holders, `hasty` and `patient`. Some tests need root or namespaces: without them they say
 * so and pass.
 */
#include "fork_ways.h"
#include "processes_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ptrace.h>

/* ---- fork in all its forms ---- */
enum what { IDLE, USES, CLOSES };
enum ending { PARENT_KILLED, CHILD_KILLED_, BOTH_KILLED, PARENT_EXECS, PARENT_EXITS };
struct family {
    enum how how;
    enum what what;
    enum ending ending;
    shf_au32 child_pid, ready, parent_go, child_go, child_done;
};
/* The child is in shard 1, its parent in shard 0. */
static void family_child(struct family *f, struct shf_table *t) {
    alarm(60);
    if (f->what == USES) {
        if (put_in(t, 1, 1) != SHF_OK || shf__table_lock(t, &t->shards[1]) != SHF_OK) _exit(1);
    }
    if (f->what == CLOSES) shf_table_close(t);
    atomic_store(&f->ready, 1);
    while (!atomic_load(&f->child_go)) usleep(1000);
    let_go(t, 1);
    if (put_in(t, 1, 2) != SHF_OK) _exit(1);
    hold(t, 1);
    atomic_store(&f->child_done, 1);
    for_ever();
}
static void family_parent(void *arg) {
    struct family *f = arg;
    struct shf_table *t = open_for(path, 20000);
    if (put_in(t, 0, 1) != SHF_OK) _exit(1);
    hold(t, 0);
    pid_t pid = fork_by(f->how, &f->ready);
    if (pid == 0) family_child(f, t);
    atomic_store(&f->child_pid, (uint32_t)pid);
    while (!atomic_load(&f->parent_go)) usleep(1000);
    if (f->ending == PARENT_EXECS) execl("/bin/sleep", "sleep", "60", (char *)NULL);
    _exit(0);
}
static void one_family(struct family *f) {
    atomic_store(&f->child_pid, 0), atomic_store(&f->ready, 0), atomic_store(&f->parent_go, 0);
    atomic_store(&f->child_go, 0), atomic_store(&f->child_done, 0);
    pid_t parent = fork_child(family_parent, f);
    REQUIRE(await(&f->ready) && await(&f->child_pid));
    pid_t child = (pid_t)atomic_load(&f->child_pid);
    MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
    if (f->what == USES) MUST(put_in(hasty, 1, 3), SHF_ERR_TIMEOUT);

    int parent_ends = f->ending != CHILD_KILLED_, child_ends = f->ending == CHILD_KILLED_ || f->ending == BOTH_KILLED;
    if (child_ends) end(child, SIGKILL);
    if (f->ending == PARENT_KILLED || f->ending == BOTH_KILLED) end(parent, SIGKILL);
    if (f->ending == PARENT_EXECS || f->ending == PARENT_EXITS) atomic_store(&f->parent_go, 1);
    if (f->ending == PARENT_EXITS) end(parent, 0);
    /* A child that has not used shf since _Fork or clone keeps its parent's proof of life. The parent seems to live. */
    int late = f->what == IDLE && (f->how == BY__FORK || f->how == BY_CLONE) && !child_ends;
    if (!parent_ends || late)
        MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
    else
        MUST(put_in(patient, 0, 2), SHF_OK);
    if (f->what == USES && !child_ends) {
        MUST(put_in(hasty, 1, 3), SHF_ERR_TIMEOUT);
        atomic_store(&f->child_go, 1); /* it works on, whatever became of its parent */
        REQUIRE(await(&f->child_done));
        CHECK(has_in(patient, 1, 2));
        MUST(put_in(hasty, 1, 3), SHF_ERR_TIMEOUT);
    }
    if (!child_ends) end(child, SIGKILL);
    if (f->ending == CHILD_KILLED_ || f->ending == PARENT_EXECS) end(parent, SIGKILL);
    for (uint32_t s = 0; s < 2; s++)
        for (unsigned i = 1; i < 4; i++) MUST(put_in(patient, s, i), SHF_OK);
    CHECK(has_in(patient, 0, 1) && has_in(patient, 1, 3));
}
TEST(fork_matrix) {
    struct family *f = shared_memory(sizeof *f);
    begin();
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* children whose parent ended come to us */
    for (int how = BY_FORK; how <= BY_VFORK_EXEC; how++)
        for (int what = IDLE; what <= (how == BY_VFORK_EXEC ? IDLE : CLOSES); what++)
            for (int ending = PARENT_KILLED; ending <= PARENT_EXITS; ending++) {
                f->how = (enum how)how, f->what = (enum what)what, f->ending = (enum ending)ending;
                int before = *test_failures;
                one_family(f);
                if (*test_failures != before) FAIL("... how %d, what %d, ending %d", how, what, ending);
            }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    finish(8);
}

/* daemon(): the parent leaves while its child uses the handle, opened by a relative path, in another folder by now. */
static void becomes_daemon(void *arg) {
    struct family *f = arg;
    struct shf_table *t = NULL;
    if (chdir(test_dir) != 0 || shf_table_open("a", 0, NULL, &t) != SHF_OK || put_in(t, 0, 1) != SHF_OK) _exit(1);
    if (daemon(0, 0) != 0) _exit(2);
    alarm(60); /* not PDEATHSIG: the parent may be about to leave */
    atomic_store(&f->child_pid, (uint32_t)getpid());
    int rc = put_in(t, 0, 2);
    for (unsigned i = 0; i < 200 && rc == SHF_OK; i++) { /* large values: the file grows */
        static char large[9000];
        rc = shf_table_put(t, &i, 4, large, sizeof large, NULL);
    }
    for (unsigned i = 0; i < 200 && rc == SHF_OK; i++) rc = shf_table_del(t, &i, 4);
    atomic_store(&f->child_done, 1 + (uint32_t)-rc);
    hold(t, 0);
    atomic_store(&f->ready, 1);
    for_ever();
}
TEST(daemons) {
    struct family *f = shared_memory(sizeof *f);
    begin();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int i = 0; i < 5; i++) {
        atomic_store(&f->ready, 0), atomic_store(&f->child_done, 0);
        pid_t parent = fork_child(becomes_daemon, f);
        CHECK_EQ_INT(wait_child(parent, 20000), 0);
        REQUIRE(await(&f->ready));
        CHECK_EQ_INT(atomic_load(&f->child_done), 1);
        MUST(put_in(hasty, 0, 3), SHF_ERR_TIMEOUT);
        end((pid_t)atomic_load(&f->child_pid), SIGKILL);
        MUST(put_in(patient, 0, 3), SHF_OK);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    CHECK(has_in(patient, 0, 1) && has_in(patient, 0, 2));
    finish(5);
}

/* ---- exec ---- */
/* Role: opens anew what the process had open before its exec, while a thread of it held shard 0. */
static int role_reopen(char **args) {
    struct shf_table *t = NULL;
    char link[64], target[300];
    for (int fd = 3; fd < 100; fd++) { /* nothing of the handle came along */
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n > 0 && (target[n] = 0, strcmp(target, args[0])) == 0) return 2;
    }
    if (shf_table_open(args[0], 0, NULL, &t) != SHF_OK || put_in(t, 0, 2) != SHF_OK || put_in(t, 1, 2) != SHF_OK)
        return 1;
    shf_table_close(t);
    return 0;
}
static _Atomic int holding;
static void *hold_shard_0(void *table) {
    hold(table, 0);
    atomic_store(&holding, 1);
    for_ever();
    return NULL;
}
static void execs_itself(void *unused) {
    struct shf_table *t = open_for(path, 20000), *other = open_for(path, 20000);
    pthread_t thread;
    (void)unused;
    if (put_in(t, 0, 1) != SHF_OK || put_in(other, 1, 1) != SHF_OK) _exit(3);
    if (pthread_create(&thread, NULL, hold_shard_0, t) != 0) _exit(3);
    while (!atomic_load(&holding)) usleep(100);
    hold(other, 1);
    execl("/proc/self/exe", "self", "--role", "reopen", path, (char *)NULL);
    _exit(3);
}
TEST(exec_with_open_handles) {
    begin();
    for (int i = 0; i < 10; i++) CHECK_EQ_INT(run_child(execs_itself, NULL, 30000), 0);
    CHECK(table_stats(patient).recoveries >= 20);
    CHECK(has_in(patient, 0, 1) && has_in(patient, 1, 2));
    finish(6);
}

/* ---- namespaces ---- */
struct alien {
    uint32_t shard;
    shf_au32 ready, go, done, pid;
};
static void alien_main(struct alien *a) {
    alarm(60);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct shf_table *t = open_for(path, 20000);
    atomic_store(&a->pid, (uint32_t)getpid());
    int rc = put_in(t, a->shard, 1 + a->shard);
    if (rc != SHF_OK) _exit(1);
    hold(t, a->shard);
    atomic_store(&a->ready, 1);
    while (!atomic_load(&a->go)) usleep(1000);
    /* the one in the other namespace, of the same pid, is dead: its shard is ours */
    rc = put_in(t, 1 - a->shard, 5);
    atomic_store(&a->done, 1 + (uint32_t)-rc);
    for_ever();
}
TEST(pid_and_user_namespaces) {
    struct alien *a = shared_memory(2 * sizeof *a);
    static const int flags[] = {CLONE_NEWPID, CLONE_NEWPID | CLONE_NEWUSER};
    begin();
    uint64_t recoveries = 0;
    for (int user = 0; user < 2; user++) {
        pid_t pid[2];
        memset(a, 0, 2 * sizeof *a);
        int there = 0;
        for (uint32_t i = 0; i < 2; i++, there++) {
            a[i].shard = i;
            fflush(NULL);
            pid[i] = (pid_t)syscall(SYS_clone, SIGCHLD | flags[user], 0, 0, 0, 0);
            if (pid[i] == 0) alien_main(&a[i]);
            if (pid[i] < 0) break;
        }
        if (there < 2) {
            printf("       (skipped: no %s namespaces here)\n", user ? "user" : "pid");
            if (there) end(pid[0], SIGKILL);
            continue;
        }
        if (!await(&a[0].ready) || !await(&a[1].ready)) { /* in a user namespace this file's owner may be unknown */
            FAIL("a process in another namespace could not work");
            end(pid[0], SIGKILL), end(pid[1], SIGKILL);
            continue;
        }
        CHECK(atomic_load(&a[0].pid) == 1 && atomic_load(&a[1].pid) == 1);
        MUST(put_in(hasty, 0, 4), SHF_ERR_TIMEOUT);
        MUST(put_in(hasty, 1, 4), SHF_ERR_TIMEOUT);
        end(pid[0], SIGKILL);
        MUST(put_in(hasty, 1, 4), SHF_ERR_TIMEOUT);
        atomic_store(&a[1].go, 1);
        REQUIRE(await(&a[1].done));
        CHECK_EQ_INT(atomic_load(&a[1].done), 1);
        MUST(put_in(hasty, 1, 4), SHF_ERR_TIMEOUT); /* equal numbers, but this one lives */
        end(pid[1], SIGKILL);
        MUST(put_in(patient, 1, 4), SHF_OK);
        MUST(put_in(patient, 0, 4), SHF_OK);
        CHECK(has_in(patient, 0, 1) && has_in(patient, 1, 2));
        uint64_t now = table_stats(patient).recoveries;
        CHECK_EQ_INT(now - recoveries, 2);
        recoveries = now;
    }
    for (uint32_t s = 0; s < 2; s++) /* whatever was skipped */
        for (unsigned i = 1; i < 6; i++) MUST(put_in(patient, s, i), SHF_OK);
    finish(12);
}

/* ---- zombies ---- */
static void holds_shard_0(void *arg) {
    shf_au32 *ready = arg;
    struct shf_table *t = open_for(path, 20000);
    if (put_in(t, 0, 1) != SHF_OK) _exit(1);
    hold(t, 0);
    atomic_store(ready, 1);
    for_ever();
}
static char state_of(pid_t pid) {
    char name[40], text[600] = "", *p;
    snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(name, "r");
    if (f == NULL) return 0;
    p = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
    fclose(f);
    return p ? p[2] : 0;
}
/* Its first thread has ended, which looks like a zombie; another one works on, and lets go when asked. */
static shf_au32 *leader_words;
static void *outlives_its_leader(void *table) {
    hold(table, 0);
    atomic_store(&leader_words[0], 1);
    while (!atomic_load(&leader_words[1])) usleep(1000);
    let_go(table, 0);
    int rc = put_in(table, 0, 2);
    atomic_store(&leader_words[2], 1 + (uint32_t)-rc);
    for_ever();
    return NULL;
}
static void leader_ends(void *unused) {
    struct shf_table *t = open_for(path, 20000);
    pthread_t thread;
    (void)unused;
    alarm(60);
    if (pthread_create(&thread, NULL, outlives_its_leader, t) != 0) _exit(1);
    syscall(SYS_exit, 0); /* this thread alone */
}
TEST(zombies) {
    shf_au32 *words = shared_memory(64);
    begin();
    for (int i = 0; i < 10; i++) {
        atomic_store(words, 0);
        pid_t pid = fork_child(holds_shard_0, words);
        REQUIRE(await(words));
        kill(pid, SIGKILL);
        MUST(put_in(patient, 0, 2), SHF_OK);
        siginfo_t info;
        REQUIRE(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
        CHECK_EQ_INT(state_of(pid), 'Z'); /* nobody has waited for it */
        CHECK(has_in(patient, 0, 1));
        end(pid, 0);
    }
    CHECK_EQ_INT(table_stats(patient).recoveries, 10);

    memset(words, 0, 64);
    leader_words = words;
    pid_t pid = fork_child(leader_ends, NULL);
    REQUIRE(await(&words[0]));
    for (int i = 0; i < 5000 && state_of(pid) != 'Z'; i++) usleep(1000);
    CHECK_EQ_INT(state_of(pid), 'Z');
    for (int i = 0; i < 3; i++) MUST(put_in(hasty, 0, 3), SHF_ERR_TIMEOUT); /* it lives */
    atomic_store(&words[1], 1);
    REQUIRE(await(&words[2]));
    CHECK_EQ_INT(atomic_load(&words[2]), 1);
    MUST(put_in(hasty, 0, 3), SHF_OK);
    end(pid, SIGKILL);
    CHECK_EQ_INT(table_stats(patient).recoveries, 10);
    finish(5);
}

/* ---- stopped, traced, paused: who lives is never robbed ---- */
static int keep_value(void *context, const struct shf_bytes *old, struct shf_bytes *desired) {
    (void)context;
    *desired = *old;
    if (old->data != SHF_ABSENT) desired->len--;
    return 0;
}
/* Every change in shard 0, and whatever looks at all shards: TIMEOUT, and no change. In shard 1 all goes on. */
static void all_time_out(void) {
    char key[24], other[24], buf[100], val[40];
    size_t klen = key_in(hasty, 0, 0, key), olen = key_in(hasty, 1, 0, other), n = 0, done = 9, removed = 9;
    uint32_t uid = 0;
    uint64_t checked = 0, position = 0, keys = 0;
    int64_t counter = 0;
    value_fill(val, sizeof val, key, klen, 0);
    struct shf_bytes is = {val, sizeof val}, none = {SHF_ABSENT, 0}, names[2] = {{other, olen}, {key, klen}};
    struct shf_pair pairs[2] = {{{other, olen}, {buf, 40}}, {{key, klen}, {"x", 1}}};
    /* readers do not notice */
    for (int i = 0; i < 3; i++) {
        CHECK(has_in(hasty, 0, 0) && has_in(hasty, 1, 0));
        MUST(shf_table_uid(hasty, key, klen, &uid), SHF_OK);
        MUST(shf_table_checked_uid(hasty, key, klen, &checked), SHF_OK);
        MUST(shf_table_get_by_uid(hasty, uid, buf, sizeof buf, &n), SHF_OK);
    }
    while (shf_table_next(hasty, &position, buf, sizeof buf, &n, val, sizeof val, &n, NULL) == SHF_OK) keys++;
    CHECK(keys >= 2);
    value_fill(val, sizeof val, key, klen, 0);

    MUST(shf_table_put(hasty, key, klen, "x", 1, NULL), SHF_ERR_TIMEOUT);
    MUST(put_in(hasty, 0, 20), SHF_ERR_TIMEOUT); /* an absent key */
    MUST(shf_table_replace(hasty, key, klen, "x", 1, NULL, 0, NULL), SHF_ERR_TIMEOUT);
    MUST(shf_table_del(hasty, key, klen), SHF_ERR_TIMEOUT);
    MUST(shf_table_take(hasty, key, klen, buf, sizeof buf, &n), SHF_ERR_TIMEOUT);
    MUST(shf_table_del_if_equal(hasty, key, klen, val, sizeof val), SHF_ERR_TIMEOUT);
    klen = key_in(hasty, 0, 21, key);
    MUST(shf_table_insert(hasty, key, klen, "x", 1, NULL), SHF_ERR_TIMEOUT);
    MUST(shf_table_add(hasty, key, klen, 1, &counter), SHF_ERR_TIMEOUT);
    MUST(shf_table_cas(hasty, key, klen, &none, &is, NULL, 0, NULL), SHF_ERR_TIMEOUT);
    klen = key_in(hasty, 0, 0, key);
    MUST(shf_table_cas(hasty, key, klen, &is, &none, NULL, 0, NULL), SHF_ERR_TIMEOUT);
    MUST(shf_table_update(hasty, key, klen, keep_value, NULL, NULL), SHF_ERR_TIMEOUT);
    MUST(shf_table_put_by_uid(hasty, uid, "x", 1), SHF_ERR_TIMEOUT);
    MUST(shf_table_del_by_uid(hasty, uid), SHF_ERR_TIMEOUT);
    MUST(shf_table_put_by_checked_uid(hasty, checked, "x", 1), SHF_ERR_TIMEOUT);
    MUST(shf_table_del_by_checked_uid(hasty, checked), SHF_ERR_TIMEOUT);
    MUST(shf_table_len(hasty, &keys), SHF_ERR_TIMEOUT);
    value_fill(buf, 40, other, olen, 0);
    MUST(shf_table_put_many(hasty, 2, pairs, &done), SHF_ERR_TIMEOUT);
    CHECK_EQ_INT(done, 1); /* the first is in shard 1 */
    MUST(shf_table_del_many(hasty, 1, names + 1, &removed, &done), SHF_ERR_TIMEOUT);
    CHECK(done == 0 && removed == 0);
    struct shf_table_report report = {.size = sizeof report};
    CHECK_EQ_INT(shf_table_check(hasty, &report), SHF_ERR_TIMEOUT);

    MUST(put_in(hasty, 1, 3), SHF_OK);
    MUST(shf_table_put(hasty, other, olen, buf, 40, NULL), SHF_OK);
    CHECK(has_in(hasty, 0, 0) && has_in(hasty, 1, 0) && has_in(hasty, 1, 3));
    klen = key_in(hasty, 0, 20, key);
    CHECK_EQ_INT(shf_table_contains(hasty, key, klen), SHF_NOT_FOUND);
    klen = key_in(hasty, 0, 21, key);
    CHECK_EQ_INT(shf_table_contains(hasty, key, klen), SHF_NOT_FOUND);
    struct shf_table *t = NULL; /* others may come and go */
    MUST(shf_table_open(path, 0, NULL, &t), SHF_OK);
    shf_table_close(t);
}

static void works_until_told(void *arg) { /* holds, and lets go when told */
    shf_au32 *words = arg;
    struct shf_table *t = open_for(path, 20000);
    if (put_in(t, 0, 1) != SHF_OK) _exit(1);
    hold(t, 0);
    atomic_store(&words[0], 1);
    while (!atomic_load(&words[1])) usleep(1000);
    let_go(t, 0);
    int rc = put_in(t, 0, 2);
    atomic_store(&words[2], 1 + (uint32_t)-rc);
    shf_table_close(t);
}
TEST(stopped_holders) {
    shf_au32 *words = shared_memory(64);
    int status;
    begin();
    for (int killed = 0; killed < 2; killed++)
        for (int traced = 0; traced < 2; traced++) {
            memset(words, 0, 64);
            pid_t pid = fork_child(works_until_told, words);
            REQUIRE(await(&words[0]));
            if (traced) {
                if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0 || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0) {
                    printf("       (no ptrace here: stopped only)\n");
                    kill(pid, SIGSTOP);
                }
            } else {
                kill(pid, SIGSTOP);
            }
            REQUIRE(waitpid(pid, &status, WUNTRACED | __WALL) == pid && WIFSTOPPED(status));
            all_time_out();
            if (killed) {
                end(pid, SIGKILL);
                MUST(put_in(patient, 0, 2), SHF_OK); /* dead like any other */
            } else {
                atomic_store(&words[1], 1);
                MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
                if (traced) ptrace(PTRACE_DETACH, pid, NULL, NULL);
                kill(pid, SIGCONT);
                MUST(put_in(patient, 0, 2), SHF_OK);
                REQUIRE(await(&words[2]));
                CHECK_EQ_INT(atomic_load(&words[2]), 1);
                CHECK_EQ_INT(wait_child(pid, 20000), 0);
            }
            CHECK(has_in(patient, 0, 1) && has_in(patient, 0, 2));
        }
    CHECK_EQ_INT(table_stats(patient).recoveries, 2);
    finish(5);
}

static void *pauses(void *table) {
    hold(table, 0);
    atomic_store(&holding, 1);
    while (atomic_load(&holding)) usleep(1000);
    let_go(table, 0);
    return NULL;
}
/* The holder is a thread of this process: of the same handle, and of another one on the same file. */
TEST(paused_threads) {
    begin();
    struct shf_table *third = open_for(path, 20000);
    for (int same = 0; same < 2; same++) {
        pthread_t thread;
        atomic_store(&holding, 0);
        REQUIRE(pthread_create(&thread, NULL, pauses, same ? hasty : third) == 0);
        while (!atomic_load(&holding)) usleep(100);
        all_time_out();
        CHECK_EQ_INT(put_in(hasty, 0, 1), SHF_ERR_TIMEOUT);
        CHECK((strstr(shf_last_error()->message, "another thread of this handle") != NULL) == same);
        atomic_store(&holding, 0);
        pthread_join(thread, NULL);
        MUST(put_in(hasty, 0, 1), SHF_OK);
    }
    CHECK_EQ_INT(table_stats(patient).recoveries, 0);
    /* each handle is a life of its own: one that is closed while it holds is dead, whoever else the process has */
    hold(third, 0);
    MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
    struct shf_table *fourth = open_for(path, 20000);
    shf_table_close(fourth); /* of the same process and file: no lock of the others goes with it */
    MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
    int fd = open(path, O_RDWR | O_CLOEXEC); /* nor with a descriptor that the program itself closes */
    close(fd);
    MUST(put_in(hasty, 0, 2), SHF_ERR_TIMEOUT);
    shf_table_close(third);
    MUST(put_in(patient, 0, 2), SHF_OK);
    CHECK_EQ_INT(table_stats(patient).recoveries, 1);
    finish(5);
}

/* ---- a process that may only read, and locks every byte ---- */
enum locks { OFD_LOCKS, POSIX_LOCKS, WHOLE_FLOCK, LEASE };
static const char *const lock_names[] = {"OFD", "POSIX", "flock", "lease"};
struct locker {
    enum locks kind;
    shf_au32 ready, go, locked;
};
static uint32_t lock_range(int fd, int command, uint64_t start, uint64_t len) {
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)len};
    return fcntl(fd, command, &l) == 0;
}
static void locks_all(void *arg) {
    struct locker *s = arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC), command = s->kind == OFD_LOCKS ? F_OFD_SETLK : F_SETLK;
    uint32_t n = 0;
    if (fd < 0) _exit(1);
    /* one who may not write, but in a user namespace that has no other user */
    if (geteuid() == 0 && s->kind != LEASE && setresuid(65534, 65534, 65534) != 0 && errno != EINVAL) _exit(1);
    if (s->kind == WHOLE_FLOCK) {
        n = flock(fd, LOCK_EX | LOCK_NB) == 0;
    } else if (s->kind == LEASE) {
        signal(SIGIO, SIG_IGN);
        n = fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    } else {
        n = lock_range(fd, command, 0, BYTE_R);
        for (uint64_t i = 0; i < SHF_SLOT_COUNT; i++) n += lock_range(fd, command, BYTE_R + i, 1);
        n += lock_range(fd, command, BYTE_R + SHF_SLOT_COUNT, 0); /* to the end of all files */
    }
    atomic_store(&s->locked, n);
    atomic_store(&s->ready, 1);
    for (int i = 0; i < 60000 && !atomic_load(&s->go); i++) usleep(1000);
}
static void forked_user(void *table) { /* cannot register while byte R is locked; reads */
    int rc = put_in(table, 1, 9);
    if (rc != SHF_ERR_FORKED) FAIL("a forked handle beside locks: %d", rc);
    CHECK(has_in(table, 0, 0) && has_in(table, 1, 0));
}
TEST(read_locks_on_every_byte) {
    struct locker *s = shared_memory(sizeof *s);
    shf_au32 *words = shared_memory(64);
    static char large[9000];
    temp_path("");
    REQUIRE(chmod(test_dir, 0755) == 0);
    for (int kind = OFD_LOCKS; kind <= LEASE; kind++)
        for (int before = 0; before < 2; before++) { /* 1: the locks come before every handle */
            struct shf_table *t = NULL, *r = NULL;
            struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
            begin();
            REQUIRE(chmod(path, 0644) == 0);
            s->kind = (enum locks)kind, o.lock_timeout_ms = 100;
            memset(words, 0, 64), atomic_store(&s->ready, 0), atomic_store(&s->go, 0);
            if (before) shf_table_close(hasty), shf_table_close(patient);
            pid_t victim = before ? 0 : fork_child(holds_shard_0, words);
            if (victim) REQUIRE(await(words));
            pid_t locker = fork_child(locks_all, s);
            REQUIRE(await(&s->ready));
            int bars = kind == OFD_LOCKS || kind == POSIX_LOCKS;
            /* all but the bytes of those who live */
            if (bars) CHECK_EQ_INT(atomic_load(&s->locked), 2 + SHF_SLOT_COUNT - (before ? 0 : 3));
            if (kind == WHOLE_FLOCK) CHECK_EQ_INT(atomic_load(&s->locked), 1);

            /* who comes new: not to write, but to read */
            int rc = shf_table_open(path, 0, &o, &t);
            if (bars) {
                MUST(rc, SHF_ERR_TIMEOUT);
            } else if (kind == LEASE && atomic_load(&s->locked)) {
                MUST(rc, SHF_ERR_IO);
                CHECK_EQ_INT(shf_last_error()->os_error, EAGAIN);
            } else {
                MUST(rc, SHF_OK);
            }
            if (rc == SHF_OK) shf_table_close(t);
            MUST(shf_table_open(path, SHF_RDONLY, NULL, &r), SHF_OK);
            CHECK(has_in(r, 0, 0) && has_in(r, 1, 0));
            CHECK_EQ_INT(table_stats(r).handles, before ? 0 : 3);
            if (!before) {
                /* who was there goes on, also over the dead */
                MUST(put_in(hasty, 0, 3), SHF_ERR_TIMEOUT);
                end(victim, SIGKILL);
                MUST(put_in(patient, 0, 3), SHF_OK);
                CHECK(has_in(r, 0, 1) && has_in(r, 0, 3));
                uint64_t file = table_stats(patient).file_bytes;
                for (unsigned i = 0; i < 400; i++) MUST(shf_table_put(hasty, &i, 4, large, sizeof large, NULL), SHF_OK);
                CHECK(table_stats(patient).file_bytes > file);
                for (unsigned i = 0; i < 400; i++) MUST(shf_table_del(hasty, &i, 4), SHF_OK);
                MUST(put_in(patient, 1, 3), SHF_OK);
                if (bars) CHECK_EQ_INT(run_child(forked_user, hasty, 20000), 0);
                CHECK_EQ_INT(table_clean(patient), 5);
                CHECK_EQ_INT(table_stats(patient).handles, 2);
                shf_table_close(hasty); /* does not wait for byte R for long */
                CHECK_EQ_INT(table_stats(patient).handles, 1);
            }
            shf_table_close(r);
            atomic_store(&s->go, 1);
            CHECK_EQ_INT(wait_child(locker, 20000), 0);
            hasty = open_for(path, 40);
            if (before) patient = open_for(path, 20000);
            if (*test_failures) FAIL("... %s locks, %s", lock_names[kind], before ? "before" : "after");
            finish(before ? 2 : 5);
        }
    REQUIRE(chmod(test_dir, 0700) == 0);
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"reopen", role_reopen}};
    int rc = play_role(argc, argv, roles, sizeof roles / sizeof roles[0]);
    if (rc >= 0) return rc;
    rc = run(argc, argv);
    if (argc < 2 && rc == 0)
        printf("# total: %llu processes ended by force, %llu of their locks taken over; %llu changes refused as the "
               "holder "
               "lived; 0 robbed, 0 lost\n",
               (unsigned long long)total.killed, (unsigned long long)total.taken_over,
               (unsigned long long)total.refused);
    return rc;
}
