/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_live_table.c - a process scribbles over the mapping while others use it: no crash, no hang
 *
 * MUTATOR    edits the mapped file with the edits of hostile_model.h, or lets one word, that others look at just now,
 *            go to and fro between what it was and something forged, some thousand times: what was checked must be what is
 *            used, not what stands there a moment later. Now and then it puts the whole good image back, so that
 *            the others get far again.
 * USERS      two processes with handles that can write, one read-only: all calls, opening and closing too.
 * JUDGED     wrong data, SHF_ERR_CORRUPT, _TIMEOUT, _BUSY are right answers. A signal, a report of a sanitizer, a length
 *            beyond its buffer, or 20 s (plain: 10 s) in which a user finishes no use are not.
 * SHF_SECONDS (1) for each kind of table.
 */
#include "hostile_model.h"

#define USERS 3
static const struct hostile_shape shapes[] = {{0, 0, LIVE},  {4, 4, LIVE},  {8, 8, LIVE},
                                              {8, 40, LIVE}, {0, 0, EMPTY}, {20, 100, CLEAN}};
static struct hostile_good good;
static int table_fd;

struct shared {
    _Atomic uint64_t stop, edits, restored;
    struct {
        _Atomic uint64_t uses;
        uint64_t pad[7];
    } user[USERS];
};
static struct shared *shared;

/* Where others load, check and use: fields of the busy shard, of the header, of the page map, hints, the index. */
static uint64_t hot_word(struct hostile_image *m) {
    uint64_t page;
    switch (draw(m, 10)) {
    case 0:
    case 1:
    case 2: return shard_offset(1) + draw(m, 32) * 8;
    case 3: return shard_offset(1) + SHARD_FIELD(head) + draw(m, 2) * 8;
    case 4: return FIELD(shf_shm_header, end) + draw(m, 12) * 8;
    case 5: return SHF_HINTS_PAGE * 4096 + draw(m, 8) * 256 + draw(m, 4) * 8;
    case 6: return draw(m, 2) ? SHF_ROOT_PAGE * 4096 : SHF_MIDDLE_PAGE * 4096;
    case 7: return map_word(draw(m, m->size / 4096)) + draw(m, 2) * 8;
    case 8:
        return draw(m, 4) ? shard_offset(1) + SHARD_FIELD(directory)
                          : draw(m, 15) * 8; /* the checked header, as if it were another table's */
    default:
        page = page_of_kind(m, (enum shf_page_state)(SHF_PAGE_SEGMENT + draw(m, 4)));
        return page * 4096 + draw(m, 512) * 8;
    }
}
static void mutate(void *unused) {
    (void)unused;
    struct stat st;
    REQUIRE(fstat(table_fd, &st) == 0);
    size_t size = good.size;
    unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, table_fd, 0);
    REQUIRE(p != MAP_FAILED);
    struct hostile_image m = hostile_image_of(&good.shape, p, size, test_seed + 77), kept = m;
    kept.p = good.bytes;
    poke(&kept, FIELD(shf_shm_header, dev), 8, st.st_dev); /* good, but for whoever attaches while nobody is */
    poke(&kept, FIELD(shf_shm_header, ino), 8, st.st_ino);
    for (uint64_t round = 1; !shared->stop; round++) {
        if (draw(&m, 3) == 0) {
            for (uint64_t n = 1 + draw(&m, 4); n > 0; n--) hostile_edit(&m);
            shared->edits++;
        } else {
            uint64_t at = hot_word(&m), was = peek(&m, at),
                     forged = draw(&m, 2) ? odd_number(&m) : was ^ odd_number(&m);
            for (uint64_t n = draw(&m, 4000); n > 0; n--) {
                poke(&m, at, 8, forged);
                if (n % 4 == 0) forged = draw(&m, 2) ? odd_number(&m) : was + draw(&m, 64) - 32;
                for (volatile int wait = (int)draw(&m, 60); wait > 0;) wait--;
                poke(&m, at, 8, was);
                for (volatile int wait = (int)draw(&m, 60); wait > 0;) wait--;
                shared->edits += 2;
            }
        }
        if (round % 40 == 0) {
            for (size_t at = 0; at < size; at += 8) poke(&m, at, 8, peek(&kept, at));
            shared->restored++;
        }
        if (round % 16 == 0) usleep(500); /* with few processors the users want some of the time */
    }
}
static void user(void *arg) {
    size_t who = (size_t)(uintptr_t)arg;
    struct rlimit none = {0, 0}, small = {256 << 20, 256 << 20};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &small);
    struct hostile_image m = hostile_image_of(&good.shape, NULL, 0, test_seed + who);
    while (!shared->stop) {
        hostile_use(table_fd, who == 0, &m, &good, 1 + (int)draw(&m, 60), 0);
        shared->user[who].uses++;
    }
}

static void live(const struct hostile_shape *shape, uint64_t seconds, uint64_t total[4]) {
    pid_t mutator, pid[USERS];
    hostile_make(&good, *shape, test_seed);
    table_fd = hostile_file(good.bytes, good.size, good.size);
    hostile_seal(table_fd);
    memset(shared, 0, sizeof *shared);
    mutator = fork_child(mutate, NULL);
    for (size_t i = 0; i < USERS; i++) pid[i] = fork_child(user, (void *)(uintptr_t)i);
    uint64_t end = test_now_ns() + seconds * 1000000000u;
    while (test_now_ns() < end) {
        int status;
        usleep(10000);
        for (size_t i = 0; i < USERS; i++) {
            if (pid[i] == 0 || waitpid(pid[i], &status, WNOHANG) != pid[i]) continue;
            pid[i] = 0, total[2]++;
            FAIL("table (%zu, %zu): user %zu ended with status %#x", shape->key, shape->value, i, status);
        }
    }
    shared->stop = 1;
    for (size_t i = 0; i < USERS; i++) {
        int rc = pid[i] ? hostile_watch(pid[i], &shared->user[i].uses, HANG_MS) : 0;
        if (rc == CHILD_HUNG) {
            total[3]++;
            FAIL("table (%zu, %zu): user %zu hung", shape->key, shape->value, i);
        } else if (rc != 0) {
            total[2] += rc != 98;
            FAIL("table (%zu, %zu): user %zu ended with %d", shape->key, shape->value, i, rc);
        }
        total[1] += shared->user[i].uses;
    }
    int rc = hostile_watch(mutator, &shared->edits, HANG_MS);
    if (rc != 0 && rc != 98) FAIL("the mutator ended with %d", rc); /* 98: some other failed a check */
    total[0] += shared->edits;
    close(table_fd);
    free(good.bytes);
    good.bytes = NULL;
}
TEST(live_mutator) {
    uint64_t total[4] = {0, 0, 0, 0}, seconds = test_env("SHF_SECONDS", 1);
    hostile_begin();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) live(&shapes[i], seconds, total);
    printf("# total: %" PRIu64 " words forged under %d users, %" PRIu64 " calls in %" PRIu64 " uses (opened %" PRIu64
           ", refused %" PRIu64 "); errors: ",
           total[0], USERS, (uint64_t)hostile_counts->operations, total[1], (uint64_t)hostile_counts->opened,
           (uint64_t)hostile_counts->refused);
    hostile_print_codes();
    printf(" %" PRIu64 " crashes, %" PRIu64 " hangs\n", total[2], total[3]);
}

int main(int argc, char **argv) { return run(argc, argv); }
