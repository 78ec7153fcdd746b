/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_pages.c - a death at every shared store of each operation on pages; with -DSHF_CRASH_POINTS
 *
 * For each operation and k = 1, 2, ... until it completes: a child does it and dies at its k-th store. The survivor sweeps,
 * takes the shard locks (give_back), and then: P1, H1, H3, each run has one owner, no page is lost, the rest of an interrupted
 * take is usable, and after freeing everything the free space is in one piece. SHF_CRASH_PAIRS (default 600): so many times
 * (in all) a second child does the recovery and dies at a random store of it.
 */
#include "crash_sites.h"
#include "pages_fake.h"

#ifndef SHF_CRASH_POINTS
int main(void) {
    puts("0 passed, 0 failed");
    return 0;
}
#else

static uint64_t tried; /* second deaths */

static void op_take(struct fake *f) { /* of a whole run: no rest */
    uint32_t at;
    CHECK_EQ_INT(fake_take(f, 0, 5, 1, &at), SHF_OK);
}
static void op_split(struct fake *f) {
    uint32_t at;
    CHECK_EQ_INT(fake_take(f, 1, 2, 1, &at), SHF_OK);
    CHECK_EQ_INT(fake_take(f, 1, 1, 2, &at), SHF_OK);
}
static void op_free(struct fake *f) {
    CHECK_EQ_INT(fake_free(f, 0, 1), SHF_OK); /* its right neighbour is free: the hint merges */
    CHECK_EQ_INT(fake_free(f, 1, 1), SHF_OK);
}
static void op_merge(struct fake *f) { fake_merge_all(f); }
static void op_grow(struct fake *f) { CHECK_EQ_INT(shf__pages_grow(&f->pages, 230), SHF_OK); } /* new map page */
static void op_grow_found(struct fake *f) { CHECK_EQ_INT(shf__pages_grow(&f->pages, 2), SHF_OK); } /* there is such a run */
static void op_grow_small(struct fake *f) { CHECK_EQ_INT(shf__pages_grow(&f->pages, 20), SHF_OK); }
static void op_grow_border(struct fake *f) { CHECK_EQ_INT(shf__pages_grow(&f->pages, 300), SHF_OK); } /* two of them */
static void op_ahead(struct fake *f) {
    atomic_store(&f->pages.want_ahead, 1);
    shf__pages_grow_ahead(&f->pages);
}
static void op_large(struct fake *f) { CHECK_EQ_INT(fake_large(f, 1, 3, 4, 0), SHF_OK); }
static void op_give_up(struct fake *f) { CHECK_EQ_INT(fake_large(f, 0, 3, 4, 1), SHF_OK); }
static void op_fill_reserve(struct fake *f) { shf__pages_fill_reserve(&f->pages); }
static void op_take_reserve(struct fake *f) {
    int rc = fake_take_reserve(f, 1);
    CHECK(rc == SHF_OK || rc == SHF__GROW);
}
static void op_refill(struct fake *f) {
    op_take_reserve(f);
    op_fill_reserve(f);
    op_take_reserve(f);
}
static const struct op {
    const char *name;
    void (*run)(struct fake *f);
    int grows; /* 2: from a border of map pages */
} ops[] = {{"take", op_take, 0},
           {"split", op_split, 0},
           {"free", op_free, 0},
           {"merge", op_merge, 0},
           {"grow", op_grow, 1},
           {"grow, no map page", op_grow_small, 1},
           {"grow, not needed", op_grow_found, 0},
           {"grow at a border", op_grow_border, 2},
           {"grow ahead", op_ahead, 0},
           {"large", op_large, 0},
           {"large given up", op_give_up, 0},
           {"fill reserve", op_fill_reserve, 0},
           {"take reserve", op_take_reserve, 0},
           {"refill reserve", op_refill, 0}};

static struct {
    char path[192];
    const struct op *op;
    uint64_t k;
    int prepared_pending; /* the slot's page is there already */
} job;

/* Runs taken, holes of 1..6 pages among them, some next to each other; a reserve. */
static void prepare(struct fake *f) {
    uint32_t at[24], big;
    CHECK_EQ_INT(shf__pages_grow(&f->pages, 60), SHF_OK);
    for (uint32_t i = 0; i < 24; i++) CHECK_EQ_INT(fake_take(f, i & 1, i % 6 + 1, i, &at[i]), SHF_OK);
    CHECK_EQ_INT(fake_take(f, 0, 16, 99, &big), SHF_OK);
    CHECK_EQ_INT(fake_free(f, 0, big), SHF_OK);
    if (job.prepared_pending & 2) shf__pages_fill_reserve(&f->pages);
    for (uint32_t i = 4; i < 20; i++)
        if (i % 5 != 2) CHECK_EQ_INT(fake_free(f, i & 1, at[i]), SHF_OK);
}
static void victim(void *arg) {
    struct fake f;
    uint64_t k = *(uint64_t *)arg;
    REQUIRE_EQ_INT(fake_open(&f, job.path, 0), SHF_OK);
    if (job.prepared_pending & 1) CHECK_EQ_INT(fake_large(&f, 0, 1, 9, 1), SHF_OK);
    sites_role = FIRST;
    __atomic_store_n(&shf__crash_count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&shf__crash_at, k, __ATOMIC_RELAXED);
    job.op->run(&f);
    __atomic_store_n(&shf__crash_at, 0, __ATOMIC_RELAXED);
    fake_close(&f);
}
static void recover(struct fake *f) {
    CHECK_EQ_INT(shf__registry_sweep(&f->registry, 1), SHF_OK);
    for (uint32_t s = 0; s < FAKE_SHARDS; s++) {
        CHECK_EQ_INT(fake_lock(f, s), SHF_OK);
        fake_unlock(f, s);
    }
    fake_merge_all(f);
}
static void second_victim(void *arg) {
    struct fake f;
    uint64_t k = *(uint64_t *)arg;
    __atomic_store_n(&shf__crash_at, 0, __ATOMIC_RELAXED);
    REQUIRE_EQ_INT(fake_open(&f, job.path, 0), SHF_OK); /* sweeps; the deaths inside of it are crash_table's */
    sites_role = REPAIR;
    __atomic_store_n(&shf__crash_count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&shf__crash_at, k, __ATOMIC_RELAXED);
    recover(&f);
    op_split(&f);
    op_free(&f);
    op_large(&f);
    __atomic_store_n(&shf__crash_at, 0, __ATOMIC_RELAXED);
    fake_close(&f);
}
/* All pages that are free can be had, one by one, and come back. */
static void use_all(struct fake *f, uint32_t free) {
    uint32_t at, n = 0;
    struct fake_shard *s = fake_shard(f, 0);
    REQUIRE_EQ_INT(fake_lock(f, 0), SHF_OK);
    for (at = 0; at < FAKE_RUNS && n < free; at++) {
        if (shm_load_relaxed32(&s->owned[at])) continue;
        uint32_t page;
        int rc = shf__pages_take(&f->pages, &s->run, SHF_PAGE_CHUNK, 0, 1, &page);
        if (rc != SHF_OK) break;
        fake_stamp(f, page, 1, 0, 77);
        shm_store_release32(&s->owned[at], page);
        shm_store_release32(&s->run, 0);
        n++;
    }
    fake_unlock(f, 0);
    CHECK_EQ_INT(n, free);
}

static void loop(void) {
    sites_begin();
    for (size_t o = 0; o < sizeof ops / sizeof ops[0]; o++) {
        uint64_t k = 1, op_points = 0;
        int result = CHILD_KILLED(SIGKILL);
        job.op = &ops[o];
        for (; result == CHILD_KILLED(SIGKILL) && k < 20000; k++) {
            struct fake f;
            snprintf(job.path, sizeof job.path, "%s", temp_path("crash"));
            unlink(job.path);
            REQUIRE_EQ_INT(fake_open(&f, job.path, 0), SHF_OK);
            prepare(&f);
            while (ops[o].grows == 2 && shm_load_relaxed(&f.region.header->end) / SHF_PAGE % 256 != 0) {
                uint32_t left = 256 - (uint32_t)(shm_load_relaxed(&f.region.header->end) / SHF_PAGE % 256);
                CHECK_EQ_INT(shf__pages_grow(&f.pages, left > 64 ? left : left + 255), SHF_OK);
            }
            struct fake_count before = fake_verify(&f);
            result = run_child(victim, &k, 20000);
            CHECK(result == 0 || result == CHILD_KILLED(SIGKILL));
            op_points++;
            killed += result != 0;
            if (test_env("SHF_CRASH_PAIRS", 600) > tried && test_rng() % 4 == 0) {
                uint64_t second = test_rng() % (test_rng() % 4 ? 60 : 800) + 1;
                tried++;
                int r = run_child(second_victim, &second, 20000);
                CHECK(r == 0 || r == CHILD_KILLED(SIGKILL));
                if (r != 0) killed++, pairs++;
            }
            recover(&f);
            struct fake_count c = fake_verify(&f);
            CHECK(c.pages >= before.pages);
            CHECK_EQ_INT(c.absorbed, 0);
            if (c.free < FAKE_RUNS - 60) use_all(&f, c.free);
            fake_verify(&f);
            if (ops[o].grows) { /* over what a dead grower wrote beyond `end` */
                for (uint32_t i = 0; i < 3; i++) { /* nothing is free now */
                    CHECK_EQ_INT(shf__pages_grow(&f.pages, 70 + (uint32_t)(k % 4) * 100 + i), SHF_OK);
                    fake_verify(&f);
                }
            }
            c = fake_free_all(&f);
            /* nothing is left over: what is not free is header, map, pending pages, reserve */
            uint32_t reserved = 0, page = 0, head;
            uint64_t w;
            while (shf__pages_walk(&f.region, &page, &head, &w) == 1)
                if (shf_page_state(w) == SHF_PAGE_RESERVE) reserved += shf_page_length(w);
            CHECK_EQ_INT(c.free + c.fixed + c.pendpages + reserved, c.pages);
            CHECK(c.pendpages <= 4);
            fake_close(&f);
            if (*test_failures) {
                printf("# at k = %llu of \"%s\"\n", (unsigned long long)k, ops[o].name);
                return;
            }
        }
        printf("# %-20s %d: %llu points\n", ops[o].name, job.prepared_pending, (unsigned long long)(op_points - 1));
        scenarios++;
        CHECK(result == 0);
        CHECK(op_points > 1 || ops[o].run == op_fill_reserve);
    }
}
TEST(first_use) {
    job.prepared_pending = 0;
    loop();
}
TEST(with_pending_page_and_reserve) {
    job.prepared_pending = 3;
    loop();
}
TEST(totals) { sites_total(); }

int main(int argc, char **argv) { return run(argc, argv); }
#endif
