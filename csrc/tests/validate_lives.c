/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* validate_lives.c - what lives leave behind at the level of a table: locks of long ago, copies in forked children, pending
 * runs beside a stopped process */
#include "model.h"
#include "table.h"

#include <pthread.h>

static struct shf_table *open_it(unsigned timeout_ms) {
    struct shf_table_options o = SHF_TABLE_OPTIONS_INIT;
    struct shf_table *t = NULL;
    o.lock_timeout_ms = timeout_ms;
    int rc = shf_table_open(temp_path("lives"), SHF_CREATE, &o, &t);
    if (rc != SHF_OK) FAIL("open: %d, %s", rc, shf_last_error()->message), test_stop();
    return t;
}

/* ---- locks ---- */

static void die_with_lock(void *which) {
    struct shf_table *t = open_it(1000);
    struct shf_shm_header *h = t->region.header;
    shf_au32 *words[] = {&h->alloc_word, &h->grow_word, &t->shards[1].word};
    REQUIRE_EQ_INT(shf__lock(&t->registry, words[*(int *)which], NULL), SHF_OK);
    raise(SIGKILL);
}
static shf_au32 *word_of(struct shf_table *t, int which) {
    struct shf_shm_header *h = t->region.header;
    shf_au32 *words[] = {&h->alloc_word, &h->grow_word, &t->shards[1].word};
    return words[which];
}
/* So that none is there when its number comes again, 2^20 - 1 lives later: nobody could tell the two apart. */
TEST(the_next_life_of_a_slot_takes_over_the_locks_of_the_dead) {
    for (int which = 0; which < 3; which++) {
        unlink(temp_path("lives"));
        shf_table_close(open_it(1000));
        CHECK_EQ_INT(run_child(die_with_lock, &which, 10000), CHILD_KILLED(SIGKILL));
        struct shf_table *t = open_it(1000);
        CHECK_EQ_INT(SHF_OWNER_SLOT(shf__registry_owner(&t->registry)), 1); /* that of the dead */
        CHECK_EQ_INT(atomic_load(word_of(t, which)), 0);
        shf_table_close(t);
    }
}
struct came {
    struct shf_table *t;
    int which;
};
static void register_anew(void *arg) {
    struct came *c = arg;
    CHECK(atomic_load(word_of(c->t, c->which)) != 0);
    CHECK_EQ_INT(SHF_OWNER_SLOT(shf__registry_owner(&c->t->registry)), 2); /* that of the dead */
    CHECK_EQ_INT(atomic_load(word_of(c->t, c->which)), 0);
}
TEST(so_does_a_handle_that_came_through_fork) {
    for (struct came c = {NULL, 0}; c.which < 3; c.which++) {
        unlink(temp_path("lives"));
        c.t = open_it(1000);
        CHECK_EQ_INT(run_child(die_with_lock, &c.which, 10000), CHILD_KILLED(SIGKILL));
        CHECK_EQ_INT(run_child(register_anew, &c, 20000), 0);
        shf_table_close(c.t);
    }
}

/* ---- forks by another thread ---- */

static void *open_many(void *unused) {
    struct shf_table *t;
    (void)unused;
    for (int i = 0; i < 900; i++)
        if (shf_table_open(temp_path("lives"), 0, NULL, &t) != SHF_OK) break;
    for (;;) pause();
    return NULL;
}
static void open_and_fork(void *unused) {
    enum { FORKS = 60 };
    pthread_t t;
    (void)unused;
    setpgid(0, 0);
    REQUIRE(pthread_create(&t, NULL, open_many, NULL) == 0);
    usleep(2000);
    for (int i = 0; i < FORKS; i++)
        if (fork() == 0) {
            alarm(30);
            for (;;) pause(); /* never uses shf, never ends by itself */
        }
    raise(SIGKILL);
}
TEST(children_that_never_use_a_handle_keep_no_life_going) {
    struct shf_table *t = open_it(1000);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int rounds = TEST_SANITIZED ? 2 : 5;
    for (int i = 0; i < rounds; i++) {
        pid_t pid = fork_child(open_and_fork, NULL);
        CHECK_EQ_INT(wait_child(pid, 60000), CHILD_KILLED(SIGKILL));
        uint32_t lives = 0;
        for (int wait = 0; wait < HANG_MS / 50; wait++) { /* a child that was just being made has not closed its copies yet */
            lives = shf__registry_count(&t->registry);
            if (lives == 1) break;
            usleep(50000);
        }
        CHECK_EQ_INT(lives, 1);
        kill(-pid, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {}
    }
    shf_table_close(t);
}

/* ---- one stopped, one dead ---- */

static shf_au32 *steps;
static void pend(void *unused) {
    struct shf_table *t = open_it(1000);
    unsigned char *value = test_alloc(20000);
    uint32_t page, entry;
    int rc;
    (void)unused;
    memset(value, 1, 20000);
    REQUIRE_EQ_INT(shf_table_put(t, "a", 1, value, 20000, NULL), SHF_OK);
    while ((rc = shf__pages_pending_begin(&t->pages, 1, 5, &page, &entry)) == SHF__GROW)
        if (shf__pages_grow(&t->pages, 5) != SHF_OK) break;
    REQUIRE_EQ_INT(rc, SHF_OK);
    raise(SIGKILL);
}
static void hold_and_stop(void *unused) {
    struct shf_table *t = open_it(1000);
    (void)unused;
    REQUIRE_EQ_INT(shf__table_lock(t, &t->shards[1]), SHF_OK);
    raise(SIGSTOP);
    shf__table_unlock(&t->shards[1]);
    shf_table_close(t);
}
static void check_it(void *unused) {
    struct shf_table_report r = {.size = sizeof r};
    struct shf_table *t = open_it(60000);
    (void)unused;
    atomic_store(&steps[0], 1);
    CHECK_EQ_INT(shf_table_check(t, &r), SHF_OK); /* waits for the stopped one */
    atomic_store(&steps[1], 1);
    shf_table_close(t);
}
TEST(a_check_that_waits_for_a_stopped_process_keeps_nobody_from_opening) {
    int status;
    steps = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(steps != MAP_FAILED);
    shf_table_close(open_it(1000));
    pid_t dead = fork_child(pend, NULL), stopped = fork_child(hold_and_stop, NULL);
    REQUIRE(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
    CHECK_EQ_INT(wait_child(dead, 10000), CHILD_KILLED(SIGKILL)); /* before anybody sweeps */
    pid_t checker = fork_child(check_it, NULL);
    for (uint64_t i = 0; i < HANG_MS && !atomic_load(&steps[0]); i++) usleep(1000);
    for (int i = 0; i < 40; i++) { /* a second and more, while the checker waits */
        struct shf_table *t = open_it(3000);
        shf_table_close(t);
        usleep(30000);
    }
    CHECK_EQ_INT(atomic_load(&steps[1]), 0);
    kill(stopped, SIGCONT);
    CHECK_EQ_INT(wait_child(stopped, 10000), 0);
    CHECK_EQ_INT(wait_child(checker, 60000), 0);
    munmap(steps, 4096);
}

int main(int argc, char **argv) { return run(argc, argv); }
