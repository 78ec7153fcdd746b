// SPDX-License-Identifier: MIT OR Apache-2.0
/* crash_lock.c - a process dies at its k-th shared store in attach, lock, take-over, unlock and detach, for every k */
#include "crash_sites.h"
#include "registry_fixture.h"

#ifndef SHF_CRASH_POINTS
#error "needs -DSHF_CRASH_POINTS"
#endif

struct life {
    char path[256];
    uint64_t at;
    int before_attach; /* 1: points from the attach on; 0: from the first lock on */
};
static void live_and_die(void *arg) {
    struct life *l = arg;
    struct shf_region r;
    struct shf_registry g;
    int over = 0;
    sites_role = FIRST;
    region_up(&r, l->path, 0);
    if (l->before_attach) shf__crash_count = 0, shf__crash_at = l->at;
    CHECK_EQ_INT(registry_up(&g, &r, 1000), SHF_OK);
    if (!l->before_attach) shf__crash_count = 0, shf__crash_at = l->at;
    CHECK_EQ_INT(shf__lock(&g, word_at(&r, 0), &over), SHF_OK); /* free */
    CHECK_EQ_INT(over, 0);
    CHECK_EQ_INT(shf__lock(&g, word_at(&r, 1), &over), SHF_OK); /* a dead one's, with W */
    CHECK_EQ_INT(over, 1);
    CHECK_EQ_INT(shf__trylock(&g, word_at(&r, 2)), 1);
    g.lock_timeout_ns = 60 * MS; /* long enough to watch */
    CHECK_EQ_INT(shf__lock(&g, word_at(&r, 3), &over), SHF_ERR_TIMEOUT); /* the survivor's, or our own */
    for (unsigned i = 0; i < 3; i++) shf__unlock(word_at(&r, i));
    shf__registry_detach(&g);
    shf__crash_at = 0;
}
static unsigned deaths(int with_survivor, int before_attach) {
    static struct life l;
    struct shf_region r;
    struct shf_registry survivor, next;
    unsigned k = 0;
    sites_begin();
    scenarios++;
    snprintf(l.path, sizeof l.path, "%s", temp_path("crash"));
    fixture_make(l.path);
    region_up(&r, l.path, 0);
    l.before_attach = before_attach;
    for (int code = CHILD_KILLED(SIGKILL); code == CHILD_KILLED(SIGKILL) && k < 1000;) {
        if (with_survivor) REQUIRE_EQ_INT(registry_up(&survivor, &r, 2000), SHF_OK);
        atomic_store(word_at(&r, 1), SHF_OWNER(900, 3) << 2 | SHF_LOCK_WAITERS);
        struct shf_registry any = {.region = &r};
        uint32_t coming = SHF_OWNER(1, atomic_load(&shf__registry_slot(&any, 1)->generation) + 1); /* the child's */
        atomic_store(word_at(&r, 3), (with_survivor ? shf__registry_owner(&survivor) : coming) << 2);
        l.at = ++k;
        code = run_child(live_and_die, &l, 5000);
        CHECK(code == 0 || code == CHILD_KILLED(SIGKILL));
        killed += code != 0;
        struct shf_registry *g = with_survivor ? &survivor : &next;
        if (!with_survivor) REQUIRE_EQ_INT(registry_up(&next, &r, 2000), SHF_OK); /* dirty, the same file: goes on */
        CHECK_EQ_INT(atomic_load(&r.header->dirty), 1);
        CHECK_EQ_INT(shf__registry_count(g), 1);
        if (with_survivor) {
            CHECK_EQ_INT(atomic_load(word_at(&r, 3)) >> 2, shf__registry_owner(&survivor)); /* L-I1 */
            shf__unlock(word_at(&r, 3));
        }
        if (!with_survivor && shf__registry_owner(g) == coming) /* it died before its life began */
            atomic_store(word_at(&r, 3), 0);
        uint64_t start = test_now_ns();
        for (unsigned i = 0; i < 4; i++) {
            int over = 0;
            uint32_t before = atomic_load(word_at(&r, i));
            CHECK_EQ_INT(shf__lock(g, word_at(&r, i), &over), SHF_OK);
            CHECK_EQ_INT(over, before != 0);
            shf__unlock(word_at(&r, i));
        }
        start = test_now_ns() - start;
        if (start > slowest_ns) slowest_ns = start;
        CHECK(start < 100 * MS || TEST_SANITIZED);
        shf__registry_detach(g);
        CHECK_EQ_INT(atomic_load(&r.header->dirty), 0);
    }
    region_down(&r);
    return k - 1;
}

TEST(deaths_beside_a_survivor) {
    unsigned n = deaths(1, 1);
    printf("  %u stores\n", n);
    CHECK(n >= 10 && n < 100);
}
TEST(deaths_of_the_only_process) {
    unsigned n = deaths(0, 1);
    printf("  %u stores\n", n);
    CHECK(n >= 10 && n < 100);
}
TEST(deaths_while_locking) {
    unsigned n = deaths(1, 0);
    printf("  %u stores\n", n);
    CHECK(n >= 7 && n < 100);
}

TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
