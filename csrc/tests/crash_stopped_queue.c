/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_stopped_queue.c - one process is stopped in the middle of a step on a queue, another dies
 *
 * The stopped one is alive and keeps its item and its lock. It must keep nothing else: what the dead one held comes home to
 * another queue, a new handle in the dead one's slot pulls there, and when it goes on its own step is done. Stopped before
 * each store of a push, a pull, a batch in a hand and one in the words.
 */
#include "queue_fixture.h"

#include <signal.h>

#define ITEMS (SHF_HAND_LEASE + 40u) /* more than a lease: a batch of so many is held in the words */
#define HELD 5u

static uint64_t stop_at;
static void stop_there(const void *site) {
    (void)site;
    if (shf__crash_count == stop_at) raise(SIGSTOP);
}

enum step { PULL, PUSH, PULL_MANY, PUSH_MANY, PULL_WORDS, PUSH_WORDS, STEPS };

/* Does the step on queue a, to be stopped before its k-th store. The child ends with 1 if it has fewer. */
static struct {
    enum step step;
    uint64_t k;
} plan;
static void stopped_one(void *unused) {
    struct trio t = trio_open("stopped.q");
    struct shf_queue_set *set = t.set;
    struct shf_item item;
    struct shf_batch *batch = NULL;
    int pulls = plan.step == PULL || plan.step == PULL_MANY || plan.step == PULL_WORDS;
    uint32_t capacity = plan.step == PULL_WORDS || plan.step == PUSH_WORDS ? SHF_HAND_LEASE + 1 : SHF_HAND_LEASE;
    (void)unused;
    NEED(shf_queue_pull(t.free, &item)); /* this life is ready */
    if (plan.step > PUSH) NEED(shf_batch_new(set, capacity, &batch));
    if (!pulls) NEED(batch != NULL ? shf_queue_pull_many(t.free, batch, 3) : SHF_OK);
    stop_at = shf__crash_count + plan.k;
    shf__crash_hook = stop_there;
    if (plan.step == PUSH) NEED(shf_queue_push(t.a, &item));
    else if (plan.step == PULL) NEED(shf_queue_pull(t.a, &item));
    else if (pulls) NEED(shf_queue_pull_many(t.a, batch, 2));
    else NEED(shf_queue_push_many(t.a, batch));
    shf__crash_hook = NULL;
    _exit(shf__crash_count < stop_at ? 1 : 0); /* unclosed: what it holds comes home */
}

static void holder(void *arg) {
    struct trio t = trio_open("stopped.q");
    struct shf_item items[HELD];
    for (uint32_t i = 0; i < HELD; i++) NEED(shf_queue_pull(t.b, &items[i]));
    if (write(*(int *)arg, "", 1) != 1) _exit(2);
    pause();
}

/* 1: it was stopped; 0: the step has fewer stores. */
static int beside(enum step step, uint64_t k) {
    struct trio t = trio_create("stopped.q", ITEMS, 64);
    struct shf_item item;
    int ends[2], status;
    char byte;
    for (uint32_t i = 0; i < 2 * HELD; i++) {
        NEED(shf_queue_pull(t.free, &item));
        NEED(shf_queue_push(i < HELD ? t.a : t.b, &item));
    }
    REQUIRE(pipe(ends) == 0);
    pid_t dead = fork_child(holder, &ends[1]);
    REQUIRE(read(ends[0], &byte, 1) == 1);
    plan.step = step, plan.k = k;
    pid_t stopped = fork_child(stopped_one, NULL);
    REQUIRE(waitpid(stopped, &status, WUNTRACED) == stopped);
    int was_stopped = WIFSTOPPED(status);
    if (!was_stopped) CHECK_EQ_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 1);
    kill(dead, SIGKILL);
    REQUIRE(waitpid(dead, &status, 0) == dead);
    (void)until_length(t.b, HELD);
    struct trio late = trio_open("stopped.q"); /* in the dead one's slot, or beside it */
    OK(shf_queue_pull(late.b, &item));
    OK(shf_queue_push(late.b, &item));
    shf_queue_set_close(late.set);
    if (was_stopped) {
        kill(stopped, SIGCONT);
        REQUIRE(waitpid(stopped, &status, 0) == stopped);
        CHECK_EQ_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    }
    OK(shf_queue_set_recover(t.set));
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
    close(ends[0]), close(ends[1]);
    OK(shf_unlink(temp_path("stopped.q")));
    return was_stopped;
}

static uint64_t stops;
TEST(only_its_own_is_kept) {
    for (enum step step = PULL; step < STEPS; step++) {
        uint64_t k = 1;
        while (beside(step, k)) k++;
        if (k < 4) FAIL("step %d has %llu stores", (int)step, (unsigned long long)(k - 1));
        stops += k - 1;
    }
    printf("# total: a process stopped before each of %llu stores of a step, beside one that died: its items came home each "
           "time\n", (unsigned long long)stops);
}

int main(int argc, char **argv) { return run(argc, argv); }
