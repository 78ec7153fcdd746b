// SPDX-License-Identifier: MIT OR Apache-2.0
/* validate_lock.c - the state table of lock.c, exhaustively; stopped, killed and paused holders; L-I1 to L-I4 */
#include "registry_fixture.h"

#include <pthread.h>
#include <sys/resource.h>

static struct shf_region region;
static struct shf_registry mine, other; /* two lives of this process */
static shf_au32 *word;

static void up(unsigned timeout_ms) {
    const char *path = temp_path("lock");
    fixture_make(path);
    region_up(&region, path, 0);
    REQUIRE_EQ_INT(registry_up(&mine, &region, timeout_ms), SHF_OK);
    REQUIRE_EQ_INT(registry_up(&other, &region, timeout_ms), SHF_OK);
    word = word_at(&region, 3);
}
static void down(void) {
    shf__registry_detach(&other);
    shf__registry_detach(&mine);
    region_down(&region);
}

TEST(state_table) {
    enum { FREE, LIVE, MINE, DEAD };
    up(30);
    uint32_t me = shf__registry_owner(&mine), him = shf__registry_owner(&other), gone;
    struct shf_registry third;
    REQUIRE_EQ_INT(registry_up(&third, &region, 30), SHF_OK);
    gone = shf__registry_owner(&third);
    shf__registry_detach(&third);
    const struct {
        const char *what;
        uint32_t owner;
        int kind;
    } states[] = {
        {"free", 0, FREE},
        {"held by a live handle", him, LIVE},
        {"held by this handle", me, MINE},
        {"older generation of a live slot", SHF_OWNER(SHF_OWNER_SLOT(him), SHF_GENERATION_MASK), DEAD},
        {"later generation of a live slot", him + 1, DEAD},
        {"another generation of my slot", me + 1, DEAD},
        {"generation 0 of a live slot", SHF_OWNER(SHF_OWNER_SLOT(him), 0), DEAD},
        {"unlocked slot, its generation", gone, DEAD},
        {"unlocked slot, another generation", gone + 5, DEAD},
        {"slot never used", SHF_OWNER(700, 1), DEAD},
        {"slot never used, generation 0", SHF_OWNER(700, 0), DEAD},
        {"slot 0", SHF_OWNER(0, 77), DEAD},
        {"last slot, all ones", 0x3fffffff, DEAD},
    };
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        for (uint32_t flags = 0; flags < 4; flags++) { /* W, S and both; no owner with W or S is forged, so dead */
            uint32_t start = states[i].owner << 2 | flags;
            int kind = start == 0 ? FREE : states[i].owner == 0 ? DEAD : states[i].kind;
            int over = 0;
            atomic_store(word, start);
            CHECK_EQ_INT(shf__trylock(&mine, word), kind == FREE);
            CHECK_EQ_INT(atomic_load(word), kind == FREE ? me << 2 : start);
            if (kind == FREE || kind == DEAD) {
                uint64_t took = UINT64_MAX;
                UNTIL(took < 30 * MS) {
                    atomic_store(word, start), over = 0;
                    uint64_t began = test_now_ns();
                    int rc = shf__lock(&mine, word, &over);
                    took = test_now_ns() - began;
                    if (rc != SHF_OK || over != (kind == DEAD))
                        FAIL("%s, flags %u: %d, %d", states[i].what, flags, rc, over);
                    CHECK_EQ_INT(atomic_load(word), me << 2 | (kind == DEAD ? flags & SHF_LOCK_WAITERS : 0)); /* L-I2 */
                    shf__unlock(word);
                    CHECK_EQ_INT(atomic_load(word), 0);
                }
                CHECK(took < 30 * MS);
            } else {
                atomic_store(word, start);
                uint64_t began = test_now_ns();
                int rc = shf__lock(&mine, word, &over);
                uint64_t took = test_now_ns() - began;
                if (rc != SHF_ERR_TIMEOUT || over) FAIL("%s, flags %u: %d, %d", states[i].what, flags, rc, over);
                CHECK_EQ_INT(atomic_load(word), start | SHF_LOCK_WAITERS); /* L-I1, L-I3, L-I4 */
                CHECK(took >= 30 * MS);
                const char *message = shf_last_error()->message;
                CHECK(strstr(message, region.path) != NULL);
                if (kind == LIVE) {
                    char pid[48];
                    snprintf(pid, sizeof pid, "process %d (%.15s)", (int)getpid(), program_invocation_short_name);
                    CHECK(strstr(message, pid) != NULL);
                } else {
                    CHECK(strstr(message, "another thread") != NULL);
                }
                if (flags == 0) printf("  %s\n", message);
            }
        }
    atomic_store(word, 0);
    CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_OK);
    shf__unlock(word);
    /* taken_over may be NULL */
    atomic_store(word, gone << 2);
    CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_OK);
    shf__unlock(word);
    down();
}

TEST(a_hostile_name_is_printable_in_the_message) {
    up(10);
    uint32_t him = shf__registry_owner(&other);
    struct shf_shm_slot *slot = shf__registry_slot(&mine, SHF_OWNER_SLOT(him));
    atomic_store(&slot->name[0], ~UINT64_C(0));
    atomic_store(&slot->name[1], UINT64_C(0x0a1b5b324a6e2573)); /* s%nJ2[ESC\n */
    atomic_store(word, him << 2);
    CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_ERR_TIMEOUT);
    for (const char *p = shf_last_error()->message; *p; p++) CHECK(*p >= ' ' && *p <= '~');
    atomic_store(word, 0);
    down();
}

TEST(read_only_handles_cannot_lock) {
    struct shf_region r;
    struct shf_registry g;
    up(10);
    region_up(&r, region.path, 1);
    REQUIRE_EQ_INT(registry_up(&g, &r, 10), SHF_OK);
    CHECK_EQ_INT(shf__lock(&g, word_at(&r, 3), NULL), SHF_ERR_READ_ONLY);
    CHECK_EQ_INT(shf__trylock(&g, word_at(&r, 3)), 0);
    shf__registry_detach(&g);
    region_down(&r);
    down();
}

/* ---- waiting ---- */

struct waiter {
    struct shf_registry *g;
    int rc, over;
    uint32_t word_after;
    uint64_t got;
};
static void *wait_for_it(void *arg) {
    struct waiter *w = arg;
    w->rc = shf__lock(w->g, word, &w->over);
    w->got = test_now_ns();
    w->word_after = atomic_load(word);
    if (w->rc == SHF_OK) shf__unlock(word);
    return NULL;
}

TEST(unlock_wakes_a_sleeper) {
    up(HANG_MS);
    double worst = 0;
    struct tries soon = {0, 0};
    MOSTLY(soon) {
        struct waiter w = {&other, -1, 0, 0, 0};
        pthread_t t;
        CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_OK);
        REQUIRE(pthread_create(&t, NULL, wait_for_it, &w) == 0);
        REQUIRE(await_bits(word, 1));
        usleep(100000); /* it watches, and sleeps for 12 to 16 ms at a time by now */
        CHECK_EQ_INT(atomic_load(word), shf__registry_owner(&mine) << 2 | 3); /* L-I3 */
        uint64_t start = test_now_ns();
        shf__unlock(word);
        pthread_join(t, NULL);
        CHECK_EQ_INT(w.rc, SHF_OK);
        CHECK_EQ_INT(w.over, 0);
        CHECK_EQ_INT(w.word_after, shf__registry_owner(&other) << 2 | SHF_LOCK_WAITERS); /* retaken with W */
        CHECK_EQ_INT(atomic_load(word), 0);
        double ms = (double)(w.got - start) / 1e6;
        if (ms > worst) worst = ms;
        soon.kept += ms < 50;
    }
    printf("  unlock to the sleeper's take: worst of %u %.3f ms\n", soon.all, worst);
    CHECK(MOST_KEPT(soon));
    down();
}

TEST(holder_paused_no_robbery_within_a_handle) {
    up(100);
    struct waiter same = {&mine, -1, 0, 0, 0}, next = {&other, -1, 0, 0, 0};
    pthread_t t[2];
    CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_OK);
    REQUIRE(pthread_create(&t[0], NULL, wait_for_it, &same) == 0);
    REQUIRE(pthread_create(&t[1], NULL, wait_for_it, &next) == 0);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    CHECK_EQ_INT(same.rc, SHF_ERR_TIMEOUT);
    CHECK_EQ_INT(next.rc, SHF_ERR_TIMEOUT);
    CHECK_EQ_INT(atomic_load(word), shf__registry_owner(&mine) << 2 | SHF_LOCK_WAITERS);
    shf__unlock(word);
    down();
}

/* ---- other processes ---- */

struct holder {
    char path[256];
    shf_au32 has, release, done, owner;
};
static void hold(void *arg) {
    struct holder *h = arg;
    struct shf_region r;
    struct shf_registry g;
    region_up(&r, h->path, 0);
    REQUIRE_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    REQUIRE_EQ_INT(shf__lock(&g, word_at(&r, 3), NULL), SHF_OK);
    atomic_store(&h->owner, shf__registry_owner(&g));
    atomic_store(&h->has, 1);
    await(&h->release);
    shf__unlock(word_at(&r, 3));
    atomic_store(&h->done, 1);
    shf__registry_detach(&g);
}
static pid_t start_holder(struct holder *h) {
    memset(h, 0, sizeof *h);
    snprintf(h->path, sizeof h->path, "%s", region.path);
    pid_t pid = fork_child(hold, h);
    REQUIRE_EQ_INT(await(&h->has), 1);
    return pid;
}

TEST(a_stopped_holder_is_not_robbed) {
    struct holder *h = shared_memory(sizeof *h);
    int status, over = 0;
    up(300);
    pid_t pid = start_holder(h);
    kill(pid, SIGSTOP);
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    uint64_t took = UINT64_MAX;
    UNTIL(took < 600 * MS) {
        uint64_t start = test_now_ns();
        CHECK_EQ_INT(shf__lock(&mine, word, &over), SHF_ERR_TIMEOUT);
        took = test_now_ns() - start;
        CHECK(took >= 300 * MS);
    }
    CHECK(took < 600 * MS);
    char text[32];
    snprintf(text, sizeof text, "process %d (", (int)pid);
    CHECK(strstr(shf_last_error()->message, text) != NULL);
    CHECK_EQ_INT(atomic_load(word) >> 2, atomic_load(&h->owner));
    CHECK_EQ_INT(shf__trylock(&mine, word), 0);
    kill(pid, SIGCONT);
    atomic_store(&h->release, 1);
    mine.lock_timeout_ns = HANG_MS * MS;
    CHECK_EQ_INT(shf__lock(&mine, word, &over), SHF_OK);
    CHECK_EQ_INT(over, 0);
    CHECK_EQ_INT(await(&h->done), 1);
    shf__unlock(word);
    CHECK_EQ_INT(wait_child(pid, 5000), 0);
    /* stopped and then killed: dead like any other */
    pid = start_holder(h);
    kill(pid, SIGSTOP);
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    kill(pid, SIGKILL);
    CHECK_EQ_INT(shf__lock(&mine, word, &over), SHF_OK);
    CHECK_EQ_INT(over, 1);
    shf__unlock(word);
    wait_child(pid, 5000);
    down();
}

TEST(a_killed_holder_is_taken_over) {
    struct holder *h = shared_memory(sizeof *h);
    double first = 0, asleep = 0;
    struct tries soon = {0, 0};
    up(HANG_MS);
    for (int i = 0; i < 10; i++) {
        int over = 0;
        pid_t pid = start_holder(h);
        uint64_t start = test_now_ns();
        kill(pid, SIGKILL);
        CHECK_EQ_INT(shf__lock(&mine, word, &over), SHF_OK); /* the kernel may still be at the dead one's exit */
        double ms = (double)(test_now_ns() - start) / 1e6;
        CHECK_EQ_INT(over, 1);
        if (ms > first) first = ms;
        shf__unlock(word);
        CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    }
    MOSTLY(soon) {
        struct waiter w = {&mine, -1, 0, 0, 0};
        pthread_t t;
        pid_t pid = start_holder(h);
        REQUIRE(pthread_create(&t, NULL, wait_for_it, &w) == 0);
        REQUIRE(await_bits(word, 1)); /* it watches */
        usleep(100000);
        uint64_t start = test_now_ns();
        kill(pid, SIGKILL);
        pthread_join(t, NULL);
        CHECK_EQ_INT(w.rc, SHF_OK);
        CHECK_EQ_INT(w.over, 1);
        double ms = (double)(w.got - start) / 1e6;
        if (ms > asleep) asleep = ms;
        soon.kept += ms < 200;
        CHECK_EQ_INT(wait_child(pid, 5000), CHILD_KILLED(SIGKILL));
    }
    printf("  kill to take-over: worst %.2f ms by a taker that comes then, %.1f ms by one that sleeps\n", first,
           asleep);
    CHECK(MOST_KEPT(soon));
    down();
}

/* The child takes what its parent left locked and dies; then the parent's own word is still the parent's. */
static void child_of_holder(void *arg) {
    (void)arg;
    int over = 0;
    mine.lock_timeout_ns = 20 * MS;
    CHECK_EQ_INT(shf__lock(&mine, word, &over), SHF_ERR_TIMEOUT); /* the parent's: it lives */
    CHECK_EQ_INT(shf__trylock(&mine, word), 0);
    CHECK_EQ_INT(shf__lock(&mine, word_at(&region, 4), &over), SHF_OK);
    CHECK_EQ_INT(over, 0);
    raise(SIGKILL);
}
TEST(locks_across_fork) {
    int over = 0;
    up(HANG_MS);
    uint32_t me = shf__registry_owner(&mine);
    CHECK_EQ_INT(shf__lock(&mine, word, NULL), SHF_OK);
    CHECK_EQ_INT(run_child(child_of_holder, NULL, 5000), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(atomic_load(word) >> 2, me);
    shf__unlock(word);
    CHECK_EQ_INT(shf__lock(&mine, word_at(&region, 4), &over), SHF_OK);
    CHECK_EQ_INT(over, 1);
    shf__unlock(word_at(&region, 4));
    down();
}

/* ---- speed ---- */

TEST(uncontended_cost) {
    up(HANG_MS);
    enum { ROUNDS = 5000000 };
    uint64_t best = UINT64_MAX;
    for (int run_no = 0; run_no < 5; run_no++) {
        uint64_t start = test_now_ns();
        for (int i = 0; i < (TEST_SANITIZED ? ROUNDS / 20 : ROUNDS); i++) {
            if (shf__lock(&mine, word, NULL) != SHF_OK) FAIL("lock");
            shf__unlock(word);
        }
        uint64_t took = test_now_ns() - start;
        if (took < best) best = took;
    }
    printf("  lock + unlock, uncontended: %.2f ns%s\n", (double)best / (TEST_SANITIZED ? ROUNDS / 20 : ROUNDS),
           TEST_SANITIZED ? " (sanitized)" : "");
    down();
}

int main(int argc, char **argv) { return run(argc, argv); }
