/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * queue_fixture.h - what the tests of queue sets share
 *
 * TRIO       a handle and its queues "free", "a", "b". All items begin in "free".
 * STAMPS     stamp() writes an item's number and a value into its first bytes, as many as there are: stamped() says whether
 *            they are still there.
 */
#ifndef SHF_QUEUE_FIXTURE_H
#define SHF_QUEUE_FIXTURE_H

#include "queue.h"
#include "region_fixture.h"
#include "registry_fixture.h"
#include "shf.h"

#define SECOND UINT64_C(1000000000)

TEST_FN void expect(int line, const char *what, int rc, int code) {
    if (rc != code)
        FAIL("line %d: %s is %d, not %d; %s", line, what, rc, code, rc < 0 ? shf_last_error()->message : "");
}
#define EXPECT(call, code) expect(__LINE__, #call, (call), (code))
#define OK(call) EXPECT(call, SHF_OK)
#define NONE(call) EXPECT(call, SHF_NOT_FOUND)
/* Leaves the test. */
TEST_FN void need(int line, const char *what, int rc) {
    if (rc == SHF_OK) return;
    expect(line, what, rc, SHF_OK);
    test_stop();
}
#define NEED(call) need(__LINE__, #call, (call))

static const char *const trio_names[3] = {"free", "a", "b"};
TEST_FN struct shf_queue_options queue_options(uint32_t items, uint32_t item_size) {
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    o.items = items, o.item_size = item_size, o.queue_count = 3, o.queues = trio_names;
    return o;
}

struct trio {
    struct shf_queue_set *set;
    struct shf_queue *free, *a, *b;
};
TEST_FN struct trio trio_of(struct shf_queue_set *set) {
    struct trio t = {set, NULL, NULL, NULL};
    NEED(shf_queue_find(set, "free", &t.free));
    NEED(shf_queue_find(set, "a", &t.a));
    NEED(shf_queue_find(set, "b", &t.b));
    return t;
}
TEST_FN struct trio trio_create(const char *name, uint32_t items, uint32_t item_size) {
    struct shf_queue_options o = queue_options(items, item_size);
    struct shf_queue_set *set = NULL;
    NEED(shf_queue_set_open(temp_path(name), SHF_CREATE | SHF_EXCL, &o, &set));
    return trio_of(set);
}
TEST_FN struct trio trio_open(const char *name) {
    struct shf_queue_set *set = NULL;
    NEED(shf_queue_set_open(temp_path(name), 0, NULL, &set));
    return trio_of(set);
}

TEST_FN uint64_t length(struct shf_queue *q) {
    uint64_t n = UINT64_MAX;
    OK(shf_queue_len(q, &n));
    return n;
}
/* Every item is in one place, and so many are held by the living. */
TEST_FN void clean_by(int line, struct shf_queue_set *set, uint64_t held) {
    struct shf_queue_report r = {.size = sizeof r};
    expect(line, "check", shf_queue_set_check(set, &r), SHF_OK);
    if (r.problems != 0 || r.first[0] != 0 || r.held != held || r.dead != 0 || r.items != shf_queue_set_items(set) ||
        r.in_queues + held != r.items || r.queues != shf_queue_count(set))
        FAIL("line %d: %llu items: %llu in queues, %llu held, not %llu, %llu of the dead; %llu problems: %s", line,
             (unsigned long long)r.items, (unsigned long long)r.in_queues, (unsigned long long)r.held,
             (unsigned long long)held, (unsigned long long)r.dead, (unsigned long long)r.problems, r.first);
}
#define CLEAN(set, held) clean_by(__LINE__, set, held)
TEST_FN struct shf_queue_stats stats_of(struct shf_queue *q) {
    struct shf_queue_stats s = {.size = sizeof s};
    OK(shf_queue_stats(q, &s));
    return s;
}

struct stamp {
    uint32_t number, value;
};
TEST_FN size_t stamp_bytes(const struct shf_queue_set *set) {
    size_t n = shf_queue_set_item_size(set);
    return n < sizeof(struct stamp) ? n : sizeof(struct stamp);
}
TEST_FN void stamp(const struct shf_queue_set *set, const struct shf_item *item, uint32_t value) {
    struct stamp s = {item->number, value};
    memcpy(item->data, &s, stamp_bytes(set));
}
TEST_FN int stamped(const struct shf_queue_set *set, const struct shf_item *item, uint32_t value) {
    struct stamp s = {item->number, value};
    return memcmp(item->data, &s, stamp_bytes(set)) == 0;
}
/* Its value, if it is the item's own stamp; else UINT32_MAX. */
TEST_FN uint32_t stamp_value(const struct shf_item *item) {
    struct stamp s;
    memcpy(&s, item->data, sizeof s);
    return s.number == item->number ? s.value : UINT32_MAX;
}
/* Waits for items that must come home by the sweeps of those who look: until the queue has n of them. Milliseconds. */
TEST_FN uint64_t until_length(struct shf_queue *q, uint64_t n) {
    uint64_t start = test_now_ns(), now = start;
    while (length(q) != n && (now = test_now_ns()) - start < HANG_MS * MS) usleep(1000);
    CHECK_EQ_INT(length(q), n);
    return (now - start) / MS;
}

#endif
