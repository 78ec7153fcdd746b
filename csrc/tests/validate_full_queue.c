// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * validate_full_queue.c - queue sets on a full file system: no room at creation, and never later
 *
 * A tmpfs of 2 MB in a mount namespace of its own; not run where there is none to be had. What a set needs to pull and push
 * was taken when it was made; hands and more queues are growth, which a full file system refuses.
 */
#include "queue_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define ITEMS 600u
#define ITEM_SIZE 1000u

static char folder[150], path[200], foreign[200];
static uint64_t *refused, *moved; /* shared with the children */

static void count_in_shared_memory(void) {
    static uint64_t *counts;
    if (counts == NULL) counts = shared_memory(4096);
    refused = counts, moved = counts + 1;
}
static int has_disk(void) {
    snprintf(folder, sizeof folder, "%s", temp_path("disk"));
    snprintf(path, sizeof path, "%s/set", folder);
    snprintf(foreign, sizeof foreign, "%s/foreign", folder);
    REQUIRE(mkdir(folder, 0700) == 0);
    int own = geteuid() == 0 ? 0 : CLONE_NEWUSER;
    if (unshare(CLONE_NEWNS | own) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", folder, "tmpfs", 0, "size=2m,mode=700") == 0)
        return 1;
    printf("# not run: no tmpfs of its own (%s)\n", strerror(errno));
    return 0;
}
static void on_a_small_disk(void (*fn)(void *)) {
    count_in_shared_memory();
    CHECK_EQ_INT(run_child(fn, NULL, HANG_MS), 0);
    rmdir(temp_path("disk"));
}
/* Takes what is left but `pages`. */
static void fill_disk(unsigned pages) {
    static const char page[SHF_PAGE] = {1};
    int fd = open(foreign, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t n = 0;
    REQUIRE(fd >= 0);
    while (write(fd, page, sizeof page) > 0) n += SHF_PAGE;
    REQUIRE(ftruncate(fd, n - (off_t)pages * SHF_PAGE) == 0);
    close(fd);
}
static int entries(void) {
    int n = -2;
    DIR *d = opendir(folder);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
static struct shf_queue_set *open_it(unsigned flags) {
    struct shf_queue_options o = queue_options(ITEMS, ITEM_SIZE);
    struct shf_queue_set *set = NULL;
    NEED(shf_queue_set_open(path, flags, flags ? &o : NULL, &set));
    return set;
}

/* ---- at creation ---- */

static void creation(void *unused) {
    (void)unused;
    if (!has_disk()) return;
    for (unsigned round = 0; round < 3; round++) { /* an empty disk, a full one, one with a few pages */
        if (round == 1) fill_disk(0);
        if (round == 2) unlink(foreign), fill_disk(5);
        const uint32_t sizes[][2] = {{3000, 1000}, {1, 3 << 20}, {1u << 20, 1}, {1, SHF_ITEM_SIZE_MAX}, {1, 1}};
        for (unsigned i = 0; i < (round == 0 ? 4 : 5); i++)
            for (unsigned flags = SHF_CREATE; flags <= (SHF_CREATE | SHF_EXCL); flags += SHF_EXCL) {
                struct shf_queue_options o = queue_options(sizes[i][0], sizes[i][1]);
                struct shf_queue_set *set = NULL;
                int there = entries();
                REFUSED(shf_queue_set_open(path, flags, &o, &set), SHF_ERR_NO_SPACE, path, path);
                CHECK(set == NULL && entries() == there); /* nothing stays behind */
                ++*refused;
            }
    }
    unlink(foreign);
    struct shf_queue_set *set = open_it(SHF_CREATE); /* with room it works */
    CLEAN(set, 0);
    shf_queue_set_close(set);
}
TEST(no_room_at_creation) { on_a_small_disk(creation); }

/* ---- and never later ---- */

static void use_all(struct trio *t) {
    struct shf_item item[ITEMS];
    struct shf_batch *b = NULL, *small = NULL;
    NEED(shf_batch_new(t->set, ITEMS, &b));
    NEED(shf_batch_new(t->set, 5, &small));
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ITEMS; i++) {
            NEED(shf_queue_pull(t->free, &item[i]));
            memset(item[i].data, (int)round + 1, ITEM_SIZE); /* no SIGBUS: every page is there */
        }
        NONE(shf_queue_pull(t->free, &item[0]));
        CLEAN(t->set, ITEMS);
        for (uint32_t i = 0; i < ITEMS; i++)
            OK(i % 2 ? shf_queue_push(t->a, &item[i]) : shf_queue_push(t->b, &item[i]));
        OK(shf_queue_drain(t->b, t->a, NULL));
        NEED(shf_queue_pull_many(t->a, b, 0));
        CHECK_EQ_INT(shf_batch_count(b), ITEMS);
        for (uint32_t i = 0; i < ITEMS; i++) {
            const unsigned char *bytes = shf_batch_data(b, i);
            CHECK(bytes[0] == round + 1 && bytes[ITEM_SIZE - 1] == round + 1);
        }
        OK(shf_queue_push_many(t->b, b));
        while (shf_queue_pull_many(t->b, small, 0) == SHF_OK) {
            NEED(shf_batch_take(small, &item[0]));
            OK(shf_queue_push(t->free, &item[0]));
            OK(shf_queue_push_many(t->free, small));
        }
        *moved += 4 * ITEMS;
    }
    shf_batch_free(b);
    shf_batch_free(small);
    CHECK_EQ_INT(length(t->free), ITEMS);
}
static void holds_and_dies(void *arg) {
    struct trio t = trio_of(open_it(0));
    struct shf_item item;
    struct shf_batch *b = NULL;
    NEED(shf_batch_new(t.set, 8, &b));
    NEED(shf_queue_pull_many(t.free, b, 0));
    for (uint32_t i = 0; i < 50; i++) NEED(shf_queue_pull(t.free, &item));
    CHECK_EQ_INT(atomic_load(&t.set->hand) == NULL, arg == NULL);
    kill(getpid(), SIGKILL);
}
static void use(void *unused) {
    (void)unused;
    if (!has_disk()) return;
    struct trio t = trio_of(open_it(SHF_CREATE)), u;
    struct shf_queue *q = NULL;
    struct stat st, now;
    fill_disk(0);
    REQUIRE(fstat(shf_queue_set_fd(t.set), &st) == 0);
    use_all(&t); /* its hand could not be had: all in the words */
    CHECK(atomic_load(&t.set->hand) == NULL);
    u = trio_of(open_it(0));
    use_all(&u);
    REFUSED(shf_queue_add(t.set, "more", &q, NULL), SHF_ERR_NO_SPACE, path, path);
    CHECK(q == NULL && shf_queue_count(t.set) == 3 && shf_queue_count(u.set) == 3);
    REQUIRE(fstat(shf_queue_set_fd(t.set), &now) == 0);
    CHECK(now.st_size == st.st_size && now.st_blocks == st.st_blocks); /* not a page more */
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ_INT(run_child(holds_and_dies, NULL, HANG_MS), CHILD_KILLED(SIGKILL));
        until_length(t.free, ITEMS);
        CHECK_EQ_INT(stats_of(t.free).returned, 58 * (i + 1));
        CLEAN(t.set, 0);
    }
    ++*refused;
    /* Room again: those who come now have hands, those who were there go on. */
    REQUIRE(unlink(foreign) == 0);
    OK(shf_queue_add(t.set, "more", &q, NULL));
    CHECK_EQ_INT(shf_queue_count(u.set), 4);
    shf_queue_set_close(u.set);
    CHECK_EQ_INT(run_child(holds_and_dies, &u, HANG_MS), CHILD_KILLED(SIGKILL));
    until_length(t.free, ITEMS);
    u = trio_of(open_it(0));
    use_all(&u);
    CHECK(atomic_load(&u.set->hand) != NULL);
    use_all(&t);
    CLEAN(t.set, 0);
    shf_queue_set_close(u.set);
    shf_queue_set_close(t.set);
}
TEST(a_full_disk_stops_neither_pull_nor_push) { on_a_small_disk(use); }

/* ---- limits of the process ---- */

static void file_size_limit(void *unused) {
    struct shf_queue_options o = queue_options(ITEMS, ITEM_SIZE);
    struct shf_queue_set *set = NULL;
    struct shf_queue *q = NULL;
    struct rlimit limit = {300000, RLIM_INFINITY};
    (void)unused;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(shf_queue_set_open(temp_path("l"), SHF_CREATE, &o, &set), SHF_ERR_NO_SPACE);
    EXPECT(shf_queue_set_anonymous("l", &o, &set), SHF_ERR_NO_SPACE);
    CHECK(access(temp_path("l"), F_OK) != 0);
    limit.rlim_cur = RLIM_INFINITY;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    NEED(shf_queue_set_open(temp_path("l"), SHF_CREATE, &o, &set));
    struct trio t = trio_of(set);
    struct stat st;
    REQUIRE(fstat(shf_queue_set_fd(set), &st) == 0);
    limit.rlim_cur = (rlim_t)st.st_size;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    use_all(&t); /* not even SIGXFSZ */
    EXPECT(shf_queue_add(set, "more", &q, NULL), SHF_ERR_NO_SPACE);
    CHECK(q == NULL && shf_queue_count(set) == 3);
    shf_queue_set_close(set);
    *refused += 3;
}
TEST(a_limit_of_file_sizes) {
    count_in_shared_memory();
    CHECK_EQ_INT(run_child(file_size_limit, NULL, HANG_MS), 0);
}

int main(int argc, char **argv) {
    static uint64_t none[2];
    refused = none, moved = none + 1;
    int rc = run(argc, argv);
    printf("# total: %llu creations and queues refused for want of room, %llu items moved on full disks; 0 SIGBUS, 0 "
           "lost unless a "
           "test failed\n",
           (unsigned long long)*refused, (unsigned long long)*moved);
    return rc;
}
