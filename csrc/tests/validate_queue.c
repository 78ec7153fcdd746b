// SPDX-License-Identifier: MIT OR Apache-2.0
/* validate_queue.c - queue sets: options, opening, names, lengths at their limits; each outcome and error */
#include "queue_fixture.h"

static uint64_t refused;

/* What cannot be made, by any of the ways, leaves nothing. */
static void cannot_by(int line, const struct shf_queue_options *o, int code, const char *part) {
    struct shf_queue_set *set = (struct shf_queue_set *)&refused;
    const char *path = temp_path("none");
    refused_by(line, shf_queue_set_open(path, SHF_CREATE, o, &set), code, NULL, part);
    refused_by(line, shf_queue_set_open(path, SHF_CREATE | SHF_EXCL, o, &set), code, NULL, part);
    refused_by(line, shf_queue_set_anonymous("none", o, &set), code, NULL, part);
    CHECK(set == (void *)&refused && access(path, F_OK) != 0);
    refused += 3;
}
#define CANNOT(o, code, part) cannot_by(__LINE__, o, code, part)

TEST(options_that_cannot_be) {
    SAME;
    struct shf_queue_options o = queue_options(4, 8);
    static char longest[64 + 1], names[256][8];
    const char *list[256];
    CANNOT(NULL, SHF_ERR_INVALID, "number of its items (0)");
    o.items = 0, CANNOT(&o, SHF_ERR_INVALID, "number of its items (0), their size (8 bytes)");
    o.items = SHF_ITEMS_MAX + 1, CANNOT(&o, SHF_ERR_INVALID, "16777217 items");
    o.items = UINT32_MAX, CANNOT(&o, SHF_ERR_INVALID, "4294967295 items");
    o.items = 4, o.item_size = 0, CANNOT(&o, SHF_ERR_INVALID, "their size (0 bytes)");
    o.item_size = SHF_ITEM_SIZE_MAX + 1, CANNOT(&o, SHF_ERR_TOO_LONG, "1073741825 bytes");
    o.item_size = UINT32_MAX, CANNOT(&o, SHF_ERR_TOO_LONG, "4294967295 bytes");
    o.item_size = SHF_ITEM_SIZE_MAX, o.items = SHF_ITEMS_MAX, CANNOT(&o, SHF_ERR_INVALID, "more than a file holds");
    o = queue_options(4, 8), o.queue_count = 0, CANNOT(&o, SHF_ERR_INVALID, "and a queue (0)");
    o.queue_count = 3, o.queues = NULL, CANNOT(&o, SHF_ERR_INVALID, "queues is NULL, but queue_count is 3");
    o = queue_options(4, 8), o.mode = 01600, CANNOT(&o, SHF_ERR_INVALID, "beyond 0777");
    o.mode = 0, o.size = 0, CANNOT(&o, SHF_ERR_INVALID, "size is 0");
    o.size = sizeof o - 1, CANNOT(&o, SHF_ERR_INVALID, "not sizeof(struct shf_queue_options)");
    o = queue_options(4, 8), o.queues = list;
    for (unsigned i = 0; i < 256; i++) snprintf(names[i], sizeof names[i], "q%u", i), list[i] = names[i];
    o.queue_count = 256, CANNOT(&o, SHF_ERR_INVALID, "256 queues; a set has at most 255");
    o.queue_count = 3;
    list[2] = "", CANNOT(&o, SHF_ERR_INVALID, "queue 2 has no bytes");
    list[2] = NULL, CANNOT(&o, SHF_ERR_INVALID, "queue 2 has no bytes");
    memset(longest, 'x', 64);
    list[2] = longest, CANNOT(&o, SHF_ERR_INVALID, "queue 2 has too many bytes");
    list[2] = "q0", CANNOT(&o, SHF_ERR_INVALID, "two queues are called 'q0'");
    o.queue_count = 255, list[2] = "q2", list[254] = "q253", CANNOT(&o, SHF_ERR_INVALID, "called 'q253'");
}

TEST(arguments_that_cannot_be) {
    SAME;
    struct shf_queue_options o = queue_options(4, 8);
    struct shf_queue_set *set = NULL;
    const char *path = temp_path("none");
    EXPECT(shf_queue_set_open(NULL, SHF_CREATE, &o, &set), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_open(path, SHF_CREATE, &o, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_open(path, SHF_EXCL, &o, &set), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_open(path, SHF_CREATE | SHF_RDONLY, &o, &set), SHF_ERR_INVALID);
    REFUSED(shf_queue_set_open(path, 8, &o, &set), SHF_ERR_INVALID, path, "flags 0x8");
    EXPECT(shf_queue_set_anonymous(NULL, &o, &set), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_anonymous("x", &o, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_from_fd(-1, NULL, &set), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_from_fd(0, NULL, NULL), SHF_ERR_INVALID);
    CHECK(set == NULL && access(path, F_OK) != 0);
    shf_queue_set_close(NULL);
    shf_batch_free(NULL);
    CHECK_EQ_INT(shf_queue_set_fd(NULL), -1);
    CHECK(strcmp(shf_queue_set_path(NULL), "") == 0 && !shf_queue_set_is_read_only(NULL));
    CHECK(shf_queue_set_items(NULL) == 0 && shf_queue_set_item_size(NULL) == 0);
    CHECK(shf_queue_set_data(NULL) == NULL && shf_queue_set_stride(NULL) == 0);
    CHECK(shf_queue_count(NULL) == 0 && strcmp(shf_queue_name(NULL), "") == 0 && shf_queue_set_of(NULL) == NULL);
    CHECK(shf_batch_count(NULL) == 0 && shf_batch_capacity(NULL) == 0 && shf_batch_data(NULL, 0) == NULL);
    CHECK(shf_batch_numbers(NULL) == NULL);
    /* The other calls, each of its pointers missing. */
    struct trio t = trio_create("a", 4, 8);
    struct shf_queue *q = NULL;
    struct shf_batch *b = NULL;
    struct shf_item item;
    struct shf_queue_stats s = {.size = sizeof s - 1};
    struct shf_queue_report r = {.size = sizeof r - 1};
    uint32_t which;
    uint64_t n;
    int fd;
    NEED(shf_batch_new(t.set, 4, &b));
    EXPECT(shf_queue_find(NULL, "a", &q), SHF_ERR_INVALID);
    EXPECT(shf_queue_find(t.set, NULL, &q), SHF_ERR_INVALID);
    EXPECT(shf_queue_find(t.set, "a", NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_add(NULL, "a", &q, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_add(t.set, NULL, &q, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_add(t.set, "a", NULL, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_at(NULL, 0, &q), SHF_ERR_INVALID);
    EXPECT(shf_queue_at(t.set, 0, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull(NULL, &item), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull(t.free, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_wait(NULL, 0, &item), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_wait(t.free, 0, NULL), SHF_ERR_INVALID);
    NEED(shf_queue_pull(t.free, &item));
    EXPECT(shf_queue_push(NULL, &item), SHF_ERR_INVALID);
    EXPECT(shf_queue_push(t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange(NULL, &item, t.free), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange(t.a, NULL, t.free), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange(t.a, &item, NULL), SHF_ERR_INVALID);
    EXPECT(shf_item_return(NULL, &item), SHF_ERR_INVALID);
    EXPECT(shf_item_return(t.set, NULL), SHF_ERR_INVALID);
    EXPECT(shf_batch_new(NULL, 1, &b), SHF_ERR_INVALID);
    EXPECT(shf_batch_new(t.set, 1, NULL), SHF_ERR_INVALID);
    EXPECT(shf_batch_new(t.set, 0, &b), SHF_ERR_INVALID);
    EXPECT(shf_batch_new(t.set, 5, &b), SHF_ERR_INVALID);
    EXPECT(shf_batch_take(NULL, &item), SHF_ERR_INVALID);
    EXPECT(shf_batch_take(b, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_many(NULL, b, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_many(t.free, NULL, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_many_wait(NULL, b, 0, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_pull_many_wait(t.free, NULL, 0, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_push_many(NULL, b), SHF_ERR_INVALID);
    EXPECT(shf_queue_push_many(t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange_many(NULL, b, t.free, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange_many(t.a, NULL, t.free, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_exchange_many(t.a, b, NULL, 0), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_any(NULL, 1, 0, &which), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_any(&t.a, 0, 0, &which), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_any(&t.a, 1, 0, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_any(&q, 1, 0, &which), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_fd(NULL, &fd), SHF_ERR_INVALID);
    EXPECT(shf_queue_wait_fd(t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_len(NULL, &n), SHF_ERR_INVALID);
    EXPECT(shf_queue_len(t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_stats(t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_stats(t.a, &s), SHF_ERR_INVALID);
    s.size = sizeof s, EXPECT(shf_queue_stats(NULL, &s), SHF_ERR_INVALID);
    EXPECT(shf_queue_drain(NULL, t.a, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_drain(t.a, NULL, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_reset(NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_recover(NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_check(NULL, &r), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_check(t.set, NULL), SHF_ERR_INVALID);
    EXPECT(shf_queue_set_check(t.set, &r), SHF_ERR_INVALID);
    CLEAN(t.set, 1);
    shf_batch_free(b);
    shf_queue_set_close(t.set);
    refused += 59;
}

TEST(create_open_and_both) {
    SAME;
    struct shf_queue_options o = queue_options(10, 100), other = SHF_QUEUE_OPTIONS_INIT;
    struct shf_queue_set *set = NULL, *again = NULL;
    const char *path = temp_path("a");
    struct stat st;
    mode_t mask = umask(077);
    o.mode = 0660;
    REFUSED(shf_queue_set_open(path, 0, &o, &set), SHF_ERR_NOT_FOUND, path, path);
    NEED(shf_queue_set_open(path, SHF_CREATE | SHF_EXCL, &o, &set));
    umask(mask);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0660);
    CHECK(strcmp(shf_queue_set_path(set), path) == 0 && !shf_queue_set_is_read_only(set));
    CHECK_EQ_INT(shf_queue_set_items(set), 10);
    CHECK_EQ_INT(shf_queue_set_item_size(set), 100);
    CHECK_EQ_INT(shf_queue_set_stride(set), 128);
    CHECK((uintptr_t)shf_queue_set_data(set) % 64 == 0);
    CHECK(fstat(shf_queue_set_fd(set), &st) == 0 && st.st_blocks * 512 >= st.st_size); /* all of it was taken */
    REFUSED(shf_queue_set_open(path, SHF_CREATE | SHF_EXCL, &o, &again), SHF_ERR_EXISTS, path, path);
    for (unsigned how = 0; how < 5; how++) { /* none set; as made; one of them; not enough to make one */
        const struct shf_queue_options *options[] = {NULL, &o, &other, &other, &other};
        struct shf_queue_options empty = SHF_QUEUE_OPTIONS_INIT;
        other = empty;
        if (how == 2) other.items = 10;
        if (how == 3) other.item_size = 100, other.lock_timeout_ms = 5;
        if (how == 4) other.queue_count = 2, other.queues = &trio_names[1];
        for (unsigned flags = 0; flags <= SHF_CREATE; flags++) {
            NEED(shf_queue_set_open(path, flags, options[how], &again));
            CHECK(shf_queue_set_items(again) == 10 && shf_queue_set_item_size(again) == 100 &&
                  shf_queue_count(again) == 3);
            shf_queue_set_close(again);
        }
    }
    const char *const nowhere[] = {"a", "nowhere"};
    for (unsigned flags = 0; flags <= SHF_CREATE; flags++) {
        other = queue_options(11, 100);
        REFUSED(shf_queue_set_open(path, flags, &other, &again), SHF_ERR_INCOMPATIBLE, path,
                "10 items of 100 bytes, but 11 of 100");
        other = queue_options(10, 101);
        REFUSED(shf_queue_set_open(path, flags, &other, &again), SHF_ERR_INCOMPATIBLE, path, "10 items of 100 bytes");
        other = queue_options(10, 100), other.queue_count = 2, other.queues = nowhere;
        REFUSED(shf_queue_set_open(path, flags, &other, &again), SHF_ERR_INCOMPATIBLE, path, "no queue 'nowhere'");
        other.items = SHF_ITEMS_MAX + 1; /* cannot be in any file */
        EXPECT(shf_queue_set_open(path, flags, &other, &again), SHF_ERR_INVALID);
    }
    CLEAN(set, 0);
    shf_queue_set_close(set);
    OK(shf_unlink(path));
    NEED(shf_queue_set_open(path, SHF_CREATE, &o, &set)); /* open or create: makes it */
    shf_queue_set_close(set);
    set = NULL;
    REFUSED(shf_queue_set_open(temp_path("b"), SHF_CREATE, &other, &set), SHF_ERR_INVALID, NULL, "items");
    CHECK(set == NULL && again != NULL);
    CHECK_EQ_INT(files_in_folder(), 1);
}

TEST(a_set_is_no_table_and_a_table_no_set) {
    SAME;
    struct trio t = trio_create("set", 4, 8);
    struct shf_table *table = NULL;
    struct shf_queue_set *set = NULL;
    struct shf_queue_options o = queue_options(4, 8);
    const char *set_path = temp_path("set"), *table_path = temp_path("table");
    NEED(shf_table_open(table_path, SHF_CREATE, NULL, &table));
    for (unsigned flags = 0; flags <= SHF_RDONLY; flags++) {
        if (flags > SHF_CREATE && flags != SHF_RDONLY) continue;
        struct shf_table *other = NULL;
        REFUSED(shf_table_open(set_path, flags, NULL, &other), SHF_ERR_INCOMPATIBLE, set_path, "queue set");
        CHECK(says("table") && other == NULL);
        REFUSED(shf_queue_set_open(table_path, flags, flags == SHF_CREATE ? &o : NULL, &set), SHF_ERR_INCOMPATIBLE,
                table_path, "table");
        CHECK(says("queue set") && set == NULL);
    }
    struct shf_table *other = NULL;
    REFUSED(shf_table_from_fd(shf_queue_set_fd(t.set), NULL, &other), SHF_ERR_INCOMPATIBLE, NULL, "queue set");
    REFUSED(shf_queue_set_from_fd(shf_table_fd(table), NULL, &set), SHF_ERR_INCOMPATIBLE, NULL, "table");
    int fd = open(temp_path("text"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, "neither", 7) == 7);
    EXPECT(shf_queue_set_open(temp_path("text"), 0, NULL, &set), SHF_ERR_INCOMPATIBLE);
    EXPECT(shf_queue_set_open(test_dir, 0, NULL, &set), SHF_ERR_INVALID_PATH);
    close(fd);
    CLEAN(t.set, 0);
    shf_table_close(table);
    shf_queue_set_close(t.set);
    refused += 10;
}

TEST(anonymous_and_by_descriptor) {
    SAME;
    struct shf_queue_options o = queue_options(6, 32);
    struct shf_queue_set *set = NULL, *other = NULL, *reader = NULL;
    struct shf_item item;
    char proc[64];
    NEED(shf_queue_set_anonymous("jobs", &o, &set));
    CHECK(strcmp(shf_queue_set_path(set), "memfd:jobs") == 0);
    int fd = dup(shf_queue_set_fd(set));
    NEED(shf_queue_set_from_fd(fd, NULL, &other));
    close(fd); /* a duplicate was taken */
    struct trio t = trio_of(set), u = trio_of(other);
    NEED(shf_queue_pull(t.free, &item));
    memcpy(item.data, "from one to the other", 22);
    OK(shf_queue_push(t.a, &item));
    NEED(shf_queue_pull(u.a, &item));
    CHECK(memcmp(item.data, "from one to the other", 22) == 0);
    OK(shf_queue_push(u.b, &item));
    struct shf_queue_options wrong = queue_options(7, 32);
    EXPECT(shf_queue_set_from_fd(shf_queue_set_fd(set), &wrong, &reader), SHF_ERR_INCOMPATIBLE);
    OK(shf_queue_set_from_fd(shf_queue_set_fd(set), &o, &reader));
    shf_queue_set_close(reader);
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", shf_queue_set_fd(set));
    fd = open(proc, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    NEED(shf_queue_set_from_fd(fd, NULL, &reader));
    close(fd);
    CHECK(shf_queue_set_is_read_only(reader));
    EXPECT(shf_queue_pull(trio_of(reader).b, &item), SHF_ERR_READ_ONLY);
    shf_queue_set_close(reader);
    shf_queue_set_close(set);
    NEED(shf_queue_pull(u.b, &item)); /* it lives as long as its last user */
    CHECK(memcmp(item.data, "from one to the other", 22) == 0);
    OK(shf_item_return(other, &item));
    CLEAN(other, 0);
    shf_queue_set_close(other);
}

TEST(read_only_handles) {
    SAME;
    struct trio t = trio_create("a", 6, 8), r;
    struct shf_queue_set *set = NULL;
    struct shf_queue *q = NULL;
    struct shf_item item = {0}, held;
    struct shf_batch *b = NULL;
    struct shf_queue_report report = {.size = sizeof report};
    NEED(shf_queue_set_open(temp_path("a"), SHF_RDONLY, NULL, &set));
    r = trio_of(set);
    NEED(shf_queue_pull(t.free, &held));
    OK(shf_queue_push(t.a, &held));
    NEED(shf_queue_add(t.set, "later", &q, NULL));
    CHECK(shf_queue_set_is_read_only(set) && shf_queue_count(set) == 4);
    OK(shf_queue_find(set, "later", &q));
    OK(shf_queue_at(set, 3, &q));
    CHECK(strcmp(shf_queue_name(q), "later") == 0 && shf_queue_index(q) == 3 && shf_queue_set_of(q) == set);
    CHECK(length(r.free) == 5 && length(r.a) == 1 && length(q) == 0);
    struct shf_queue_stats s = stats_of(r.free);
    CHECK(s.len == 5 && s.capacity == 6 && s.pushed == 6 && s.pulled == 1 && s.returned == 0 && s.sleepers == 0);
    EXPECT(shf_queue_pull(r.free, &item), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_pull(r.b, &item), SHF_ERR_READ_ONLY); /* an empty one too */
    EXPECT(shf_queue_pull_wait(r.free, 0, &item), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_pull_wait(r.b, SHF_WAIT_FOREVER, &item), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_add(set, "mine", &q, NULL), SHF_ERR_READ_ONLY);
    OK(shf_queue_add(set, "later", &q, NULL)); /* it is there */
    EXPECT(shf_queue_drain(r.free, r.a, NULL), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_set_reset(set), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_set_recover(set), SHF_ERR_READ_ONLY);
    EXPECT(shf_queue_set_check(set, &report), SHF_ERR_READ_ONLY);
    NEED(shf_queue_pull(t.free, &held));
    item = held; /* another's */
    CHECK(shf_queue_push(r.a, &item) < 0 && shf_item_return(set, &item) < 0 &&
          shf_queue_exchange(r.a, &item, r.free) < 0);
    int rc = shf_batch_new(set, 4, &b);
    CHECK(rc == SHF_OK || rc == SHF_ERR_READ_ONLY);
    if (rc == SHF_OK) EXPECT(shf_queue_pull_many(r.free, b, 0), SHF_ERR_READ_ONLY);
    shf_batch_free(b);
    OK(shf_queue_push(t.a, &held));
    CHECK(length(t.free) == 4 && length(t.a) == 2);
    CLEAN(t.set, 0);
    shf_queue_set_close(set);
    shf_queue_set_close(t.set);
    refused += 12;
}

/* ---- names ---- */

TEST(names_of_queues) {
    SAME;
    static char longest[64];
    memset(longest, 'n', 63);
    const char *const odd[] = {"x", longest, "a/b", " ", "\xc3\xa4\xff\x01", "'quoted'", "."};
    const uint32_t count = sizeof odd / sizeof odd[0];
    struct shf_queue_options o = queue_options(4, 8);
    struct shf_queue_set *set = NULL;
    struct shf_queue *q = NULL, *p = NULL;
    o.queue_count = count, o.queues = odd;
    NEED(shf_queue_set_anonymous("names", &o, &set));
    CHECK_EQ_INT(shf_queue_count(set), count);
    for (uint32_t i = 0; i < count; i++) {
        OK(shf_queue_find(set, odd[i], &q));
        OK(shf_queue_at(set, i, &p));
        CHECK(p == q && shf_queue_index(q) == i && strcmp(shf_queue_name(q), odd[i]) == 0 &&
              shf_queue_set_of(q) == set);
        CHECK_EQ_INT(length(q), i == 0 ? 4 : 0); /* all begin in the first */
    }
    p = NULL;
    REFUSED(shf_queue_find(set, "y", &p), SHF_ERR_NOT_FOUND, NULL, "no queue 'y'; there are 7: 'x', 'nnn");
    REFUSED(shf_queue_at(set, count, &p), SHF_ERR_NOT_FOUND, NULL, "7 queues");
    EXPECT(shf_queue_at(set, UINT32_MAX, &p), SHF_ERR_NOT_FOUND);
    EXPECT(shf_queue_find(set, "", &p), SHF_ERR_INVALID);
    EXPECT(shf_queue_add(set, "", &p, NULL), SHF_ERR_INVALID);
    char over[100];
    memset(over, 'n', sizeof over - 1), over[99] = 0;
    EXPECT(shf_queue_find(set, over, &p), SHF_ERR_INVALID);
    over[64] = 0;
    EXPECT(shf_queue_add(set, over, &p, NULL), SHF_ERR_INVALID);
    CHECK(p == NULL && shf_queue_count(set) == count);
    shf_queue_set_close(set);
    refused += 7;
}

TEST(queues_added_by_two_handles) {
    SAME;
    struct trio t = trio_create("a", 5, 8), u = trio_open("a");
    struct shf_queue *q = NULL, *p = NULL;
    struct shf_item item;
    int created = 7;
    OK(shf_queue_add(t.set, "b", &q, &created));
    CHECK(q == t.b && created == 0);
    for (uint32_t i = 3; i < SHF_QUEUES_MAX; i++) { /* by one and the other */
        char name[64];
        snprintf(name, sizeof name, "added %u, with a name that is not short", i);
        struct trio *one = i % 2 ? &t : &u, *two = i % 2 ? &u : &t;
        NEED(shf_queue_add(one->set, name, &q, &created));
        CHECK(created == 1 && shf_queue_index(q) == i && strcmp(shf_queue_name(q), name) == 0);
        CHECK_EQ_INT(shf_queue_count(two->set), i + 1);
        NEED(shf_queue_add(two->set, name, &p, &created));
        CHECK(created == 0 && shf_queue_index(p) == i && strcmp(shf_queue_name(p), name) == 0 && p != q);
        NEED(shf_queue_pull(i == 3 ? one->free : one->a, &item));
        stamp(one->set, &item, i);
        OK(shf_queue_push(q, &item)); /* it holds, and gives to the other */
        NEED(shf_queue_pull(p, &item));
        CHECK(stamped(two->set, &item, i));
        OK(shf_queue_push(two->a, &item));
    }
    p = NULL;
    REFUSED(shf_queue_add(u.set, "one more", &p, &created), SHF_ERR_FULL, temp_path("a"), "255 queues");
    OK(shf_queue_add(u.set, "added 254, with a name that is not short", &q, NULL));
    CHECK(p == NULL && shf_queue_index(q) == 254 && shf_queue_count(t.set) == 255);
    CLEAN(t.set, 0);
    shf_queue_set_close(u.set);
    u = trio_open("a"); /* and a new one knows all */
    CHECK_EQ_INT(shf_queue_count(u.set), 255);
    OK(shf_queue_find(u.set, "added 254, with a name that is not short", &q));
    shf_queue_set_close(u.set);
    shf_queue_set_close(t.set);
    refused++;
}

static void add_some(void *arg) {
    struct shf_queue_set *set = NULL;
    char name[16];
    NEED(shf_queue_set_open(temp_path("a"), 0, NULL, &set));
    for (unsigned i = 0; i < 20; i++) {
        struct shf_queue *q = NULL;
        int created = 0;
        snprintf(name, sizeof name, "q%u", i);
        NEED(shf_queue_add(set, name, &q, &created));
        atomic_fetch_add((shf_au32 *)arg, (uint32_t)created);
    }
    shf_queue_set_close(set);
}
TEST(the_same_queues_added_by_many_at_once) {
    SAME;
    shf_au32 *made_ones = shared_memory(4096);
    struct trio t = trio_create("a", 5, 8);
    pid_t pids[6];
    for (unsigned i = 0; i < 6; i++) pids[i] = fork_child(add_some, made_ones);
    for (unsigned i = 0; i < 6; i++) CHECK_EQ_INT(wait_child(pids[i], HANG_MS), 0);
    CHECK_EQ_INT(atomic_load(made_ones), 20);
    CHECK_EQ_INT(shf_queue_count(t.set), 23);
    for (uint32_t i = 0; i < 23; i++) { /* no name twice */
        struct shf_queue *q = NULL, *p = NULL;
        NEED(shf_queue_at(t.set, i, &q));
        NEED(shf_queue_find(t.set, shf_queue_name(q), &p));
        CHECK(p == q);
    }
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
    munmap(made_ones, 4096);
}

static void create_it(void *arg) {
    struct shf_queue_options o = queue_options(100, 64);
    struct shf_queue_set *set = NULL;
    struct shf_item item;
    int rc = shf_queue_set_open(temp_path("a"), SHF_CREATE, &o, &set);
    if (rc != SHF_OK) FAIL("open or create: %s", shf_last_error()->message), test_stop();
    NEED(shf_queue_pull(trio_of(set).free, &item));
    OK(shf_queue_push(trio_of(set).a, &item));
    (void)arg;
    shf_queue_set_close(set);
}
TEST(of_many_that_create_one_wins) {
    for (unsigned round = 0; round < 10; round++) {
        pid_t pids[6];
        for (unsigned i = 0; i < 6; i++) pids[i] = fork_child(create_it, NULL);
        for (unsigned i = 0; i < 6; i++) CHECK_EQ_INT(wait_child(pids[i], HANG_MS), 0);
        struct trio t = trio_open("a");
        CHECK(length(t.free) == 94 && length(t.a) == 6);
        CLEAN(t.set, 0);
        shf_queue_set_close(t.set);
        CHECK_EQ_INT(files_in_folder(), 1);
        OK(shf_unlink(temp_path("a")));
    }
}

/* ---- lengths at their limits ---- */

/* All items through one queue and back: first and last byte of each are its own. */
static void all_items_by(uint32_t items, uint32_t item_size, uint32_t queues) {
    struct shf_queue_options o = queue_options(items, item_size);
    struct shf_queue_set *set = NULL;
    struct shf_queue *from = NULL, *to = NULL;
    struct shf_item item;
    o.queue_count = queues;
    NEED(shf_queue_set_anonymous("limits", &o, &set));
    const unsigned char *base = shf_queue_set_data(set);
    const uint64_t stride = shf_queue_set_stride(set);
    CHECK(stride >= item_size && stride < (uint64_t)item_size + 64 && stride % 64 == 0 && (uintptr_t)base % 64 == 0);
    NEED(shf_queue_at(set, 0, &from));
    NEED(shf_queue_at(set, queues - 1, &to));
    CHECK_EQ_INT(length(from), items);
    for (uint32_t i = 0; i < items; i++) {
        NEED(shf_queue_pull(from, &item));
        CHECK(item.number == i && item.data == base + i * stride); /* as created: in the order of their numbers */
        unsigned char *bytes = item.data;
        CHECK(bytes[0] == 0 && bytes[item_size - 1] == 0); /* and nothing in them */
        bytes[item_size - 1] = (unsigned char)~i, bytes[0] = (unsigned char)i;
        OK(shf_queue_push(to, &item));
    }
    for (uint32_t i = 0; i < items; i++) {
        NEED(shf_queue_pull(to, &item));
        const unsigned char *bytes = item.data;
        CHECK(item.number == i && bytes[0] == (unsigned char)i &&
              (item_size == 1 || bytes[item_size - 1] == (unsigned char)~i));
        OK(shf_queue_push(to, &item));
    }
    CLEAN(set, 0);
    shf_queue_set_close(set);
}

TEST(few_items_and_small_ones) {
    SAME;
    for (uint32_t items = 1; items <= 9; items++) {
        all_items_by(items, 1, 1);
        all_items_by(items, 64, 2);
    }
    const uint32_t sizes[] = {1, 2, 7, 8, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 100001};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) all_items_by(50, sizes[i], 3);
    all_items_by(1023, 5, 2), all_items_by(1024, 5, 2), all_items_by(1025, 5, 2); /* a ring's page */
}

/* One item and two queues: the ring's positions go round and round. */
TEST(one_item_goes_round) {
    struct trio t = trio_create("a", 1, 4);
    struct shf_item item;
    for (uint32_t i = 0; i < 1000; i++) {
        NEED(shf_queue_pull(t.free, &item));
        NONE(shf_queue_pull(t.free, &item));
        NONE(shf_queue_pull(t.a, &item));
        CHECK(item.number == 0 && stats_of(t.free).pulled == i + 1);
        memcpy(item.data, &i, 4);
        OK(shf_queue_push(t.a, &item));
        NEED(shf_queue_pull(t.a, &item));
        CHECK(memcmp(item.data, &i, 4) == 0);
        OK(shf_queue_push(t.free, &item));
    }
    CLEAN(t.set, 0);
    shf_queue_set_close(t.set);
}

#ifndef SHF_SMALL
static uint64_t available_mib(void) {
    FILE *f = fopen("/proc/meminfo", "re");
    char line[200];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %llu", &kib) != 1) {}
    if (f) fclose(f);
    return kib >> 10;
}

TEST(an_item_of_a_gibibyte) {
    SAME;
    if (TEST_SANITIZED || available_mib() < 6000) {
        printf("# not run: needs 6,000 MiB of memory\n");
        return;
    }
    all_items_by(1, SHF_ITEM_SIZE_MAX, 2);
}
TEST(as_many_items_as_can_be) {
    SAME;
    if (!test_env("SHF_LARGE", 0) || available_mib() < 6000) {
        printf("# not run: 1.2 GB and some seconds, only with SHF_LARGE=1\n");
        return;
    }
    all_items_by(SHF_ITEMS_MAX, 1, 2);
}
#endif

int main(int argc, char **argv) {
    int rc = run(argc, argv);
    printf("# total: %llu calls refused for what cannot be; 0 left anything behind unless a test failed\n",
           (unsigned long long)refused);
    return rc;
}
