/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* validate_over.c - processes that run no more while the kernel still holds their byte: shf__registry_is_over, and the
 * take-over of a lock after it. None that may still run is ever called over. */
#include "registry_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sys/statvfs.h>

struct owner { /* what the process that holds the lock tells */
    char path[200];
    shf_au32 life, ready, child;
};
static struct shf_region region;
static struct shf_registry mine;
static struct owner *owner;

static void up(void) {
    owner = shared_memory(sizeof *owner);
    snprintf(owner->path, sizeof owner->path, "%s", temp_path("over"));
    fixture_make(owner->path);
    region_up(&region, owner->path, 0);
    REQUIRE_EQ_INT(registry_up(&mine, &region, HANG_MS), SHF_OK);
}
static void down(void) {
    shf__registry_detach(&mine);
    region_down(&region);
    munmap(owner, sizeof *owner);
}
static void hold(struct shf_region *r, struct shf_registry *g) {
    region_up(r, owner->path, 0);
    REQUIRE_EQ_INT(registry_up(g, r, 1000), SHF_OK);
    REQUIRE_EQ_INT(shf__lock(g, word_at(r, 0), NULL), SHF_OK);
    atomic_store(&owner->life, shf__registry_owner(g));
}
static void end(pid_t pid) { /* dead, not reaped */
    siginfo_t info;
    kill(pid, SIGKILL);
    REQUIRE(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

/* ---- over, and the byte held ---- */

static void hold_with_a_clone(void *arg) {
    static struct shf_region r;
    static struct shf_registry g;
    (void)arg;
    hold(&r, &g);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* has the description of the byte, like a slow death */
    if (child < 0) _exit(1); /* its number will be killed: never -1 */
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        alarm(HANG_MS / 1000);
        for (;;) pause();
    }
    atomic_store(&owner->child, (uint32_t)child);
    for (;;) pause();
}
TEST(a_lock_of_a_process_that_is_over_is_taken_while_its_byte_is_held) {
    int over = 0;
    up();
    pid_t pid = fork_child(hold_with_a_clone, NULL);
    REQUIRE(await(&owner->child));
    uint32_t life = atomic_load(&owner->life);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    end(pid);
    CHECK_EQ_INT(shf__registry_is_dead(&mine, life), 0); /* the byte is held */
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 1);
    CHECK_EQ_INT(shf__lock(&mine, word_at(&region, 0), &over), SHF_OK);
    CHECK_EQ_INT(over, 1);
    shf__unlock(word_at(&region, 0));
    CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0); /* nobody has that number: not seen */
    kill((pid_t)atomic_load(&owner->child), SIGKILL);
    CHECK(until_dead(&mine, life, HANG_MS) >= 0);
    down();
}

static void hold_much(void *arg) {
    static struct shf_region r;
    static struct shf_registry g;
    size_t bytes = *(size_t *)arg;
    hold(&r, &g);
    int fd = open(temp_path("much"), O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0 && posix_fallocate(fd, 0, (off_t)bytes) == 0);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    REQUIRE(p != MAP_FAILED);
    atomic_store(&owner->ready, 1);
    for (;;) pause();
}
TEST(a_process_with_much_memory_is_not_waited_for) {
    size_t bytes = (size_t)test_env("SHF_MUCH_MB", 256) << 20;
    int over = 0;
    struct statvfs shm; /* containers often have 64 MB */
    up();
    if (statvfs(test_dir, &shm) == 0 && shm.f_bavail * shm.f_frsize < 4 * bytes) bytes = shm.f_bavail * shm.f_frsize / 4;
    pid_t pid = fork_child(hold_much, &bytes);
    REQUIRE(await(&owner->ready));
    uint64_t start = test_now_ns();
    kill(pid, SIGKILL);
    CHECK_EQ_INT(shf__lock(&mine, word_at(&region, 0), &over), SHF_OK);
    double took = (double)(test_now_ns() - start) / 1e6;
    CHECK_EQ_INT(over, 1);
    shf__unlock(word_at(&region, 0));
    CHECK(until_dead(&mine, atomic_load(&owner->life), HANG_MS) >= 0);
    printf("  a holder with %zu MB: its lock was taken %.1f ms after the kill, its byte came free after %.1f ms\n", bytes >> 20,
           took, (double)(test_now_ns() - start) / 1e6);
    CHECK_EQ_INT(wait_child(pid, 60000), CHILD_KILLED(SIGKILL));
    down();
}

/* ---- not over ---- */

static void *go_on(void *arg) {
    hold(arg, (struct shf_registry *)((struct shf_region *)arg + 1));
    atomic_store(&owner->ready, 1);
    for (;;) pause();
    return NULL;
}
static void hold_in_a_second_thread(void *arg) {
    static struct {
        struct shf_region r;
        struct shf_registry g;
    } both;
    pthread_t t;
    (void)arg;
    REQUIRE(pthread_create(&t, NULL, go_on, &both) == 0);
    pthread_exit(NULL); /* the process goes on, its first thread is a zombie without an address space */
}
TEST(a_process_whose_first_thread_has_ended_is_not_over) {
    char name[64], line[128] = "";
    up();
    pid_t pid = fork_child(hold_in_a_second_thread, NULL);
    REQUIRE(await(&owner->ready));
    snprintf(name, sizeof name, "/proc/%d/statm", (int)pid);
    for (uint64_t end = test_now_ns() + HANG_MS * MS; strncmp(line, "0 0 0", 5) != 0 && test_now_ns() < end;) {
        /* until the first thread is gone */
        FILE *f = fopen(name, "r");
        REQUIRE(f != NULL && fgets(line, sizeof line, f) != NULL);
        fclose(f);
        usleep(1000);
    }
    CHECK(strncmp(line, "0 0 0", 5) == 0);
    uint32_t life = atomic_load(&owner->life);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    mine.lock_timeout_ns = 100 * MS;
    CHECK_EQ_INT(shf__lock(&mine, word_at(&region, 0), NULL), SHF_ERR_TIMEOUT);
    end(pid);
    CHECK(until_dead(&mine, life, HANG_MS) >= 0);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 1); /* a zombie, all of it */
    CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    down();
}

static void hold_only(void *arg) {
    static struct shf_region r;
    static struct shf_registry g;
    (void)arg;
    hold(&r, &g);
    atomic_store(&owner->ready, 1);
    for (;;) pause();
}
static void idle(void *arg) {
    (void)arg;
    for (;;) pause();
}
TEST(another_process_of_that_number_does_not_count) {
    up();
    pid_t pid = fork_child(hold_only, NULL), other = fork_child(idle, NULL);
    REQUIRE(await(&owner->ready));
    uint32_t life = atomic_load(&owner->life);
    struct shf_shm_slot *s = shf__registry_slot(&mine, SHF_OWNER_SLOT(life));
    end(other);
    usleep(20000); /* start times are in ticks of 10 ms */
    uint32_t origin = atomic_load(&s->origin);
    CHECK(origin != 0);
    atomic_store(&s->pid, (uint32_t)other);
    atomic_store(&s->origin, origin + 2);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    atomic_store(&s->origin, 0); /* not known */
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    atomic_store(&s->pid, (uint32_t)getpid());
    atomic_store(&s->origin, origin);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    atomic_store(&s->pid, 0);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    CHECK_EQ_INT(wait_child(other, 5000), CHILD_KILLED(SIGKILL));
    end(pid);
    CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    CHECK(until_dead(&mine, life, HANG_MS) >= 0);
    down();
}

/* The first process of a new pid namespace, and /proc is that of the old one. */
static void hold_in_a_namespace(void *arg) {
    (void)arg;
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(77);
    pid_t pid = fork();
    if (pid < 0) _exit(1);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        hold_only(NULL);
    }
    atomic_store(&owner->child, (uint32_t)pid);
    for (;;) pause();
}
TEST(a_process_of_another_pid_namespace_is_never_over) {
    int status;
    up();
    pid_t pid = fork_child(hold_in_a_namespace, NULL);
    while (!atomic_load(&owner->ready) && waitpid(pid, &status, WNOHANG) == 0) usleep(1000);
    if (!atomic_load(&owner->ready)) {
        printf("  skipped: no pid namespace to be had here\n");
        down();
        return;
    }
    REQUIRE(await(&owner->child)); /* kill(0) would be our own group */
    uint32_t life = atomic_load(&owner->life);
    struct shf_shm_slot *s = shf__registry_slot(&mine, SHF_OWNER_SLOT(life));
    CHECK_EQ_INT(atomic_load(&s->pid), 1);
    CHECK_EQ_INT(atomic_load(&s->origin), 0);
    CHECK_EQ_INT(shf__registry_is_over(&mine, life), 0);
    CHECK_EQ_INT(shf__registry_is_dead(&mine, life), 0);
    kill((pid_t)atomic_load(&owner->child), SIGKILL);
    CHECK(until_dead(&mine, life, HANG_MS) >= 0);
    end(pid);
    CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    down();
}

int main(int argc, char **argv) { return run(argc, argv); }
