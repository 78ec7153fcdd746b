/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* validate_pages.c - runs of pages: threads, killed processes, merging, growth, every limit (pages.c) */
#include "pages_fake.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

static uint32_t random_length(uint64_t *rng) {
    switch (test_next(rng) % 8) {
    case 0: return 16;
    case 1: return (uint32_t)(test_next(rng) % 100) + 1;
    case 2: return (uint32_t)(test_next(rng) % 8) + 1;
    case 3: return 16;
    default: return 1;
    }
}
/* Random takes, frees and large runs until `end`; at most about 300 runs of a shard are kept. */
static void churn(struct fake *f, uint64_t seed, uint64_t end, uint64_t *ops) {
    uint64_t rng = seed;
    while (test_now_ns() < end) {
        uint32_t shard = (uint32_t)(test_next(&rng) % FAKE_SHARDS), at;
        uint64_t dice = test_next(&rng) % 100, id = test_next(&rng);
        int rc = SHF_OK;
        if (dice < 35) {
            rc = fake_take(f, shard, random_length(&rng), id, &at);
            shf__pages_grow_ahead(&f->pages);
        } else if (dice < 90) {
            rc = fake_free(f, shard, (uint32_t)(test_next(&rng) % 300));
        } else if (dice < 98) {
            rc = fake_large(f, shard, random_length(&rng) + 2, id, dice == 97);
        } else if (dice < 99) {
            shf__pages_fill_reserve(&f->pages);
        } else {
            rc = fake_take_reserve(f, shard);
        }
        if (rc < 0) FAIL("rc %d %s: %s", rc, shf_last_error()->place, shf_last_error()->message);
        if (rc < 0) return;
        ++*ops;
    }
}

TEST(take_split_free_merge) {
    struct fake f;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("a"), 0), SHF_OK);
    struct fake_count c = fake_verify(&f);
    printf("# new file: %u pages, %u free\n", c.pages, c.free);
    uint32_t at[64], i;
    for (i = 0; i < 64; i++) REQUIRE_EQ_INT(fake_take(&f, i % 2, i % 5 + 1, i, &at[i]), SHF_OK);
    for (i = 0; i < 64; i += 3) CHECK_EQ_INT(fake_free(&f, i % 2, at[i]), SHF_OK);
    fake_verify(&f);
    for (i = 0; i < 64; i++) CHECK_EQ_INT(fake_free(&f, i % 2, at[i]), SHF_OK);
    c = fake_free_all(&f);
    CHECK_EQ_INT(c.free_runs, 1);
    CHECK_EQ_INT(c.free + c.fixed, c.pages);
    CHECK_EQ_INT(shf__pages_free(&f.region, 1u << 30, SHF_PAGE_CHUNK, 0), 0);
    CHECK_EQ_INT(shf__pages_free(&f.region, 0, SHF_PAGE_CHUNK, 0), 0);
    fake_close(&f);
}

static struct {
    struct fake f;
    uint64_t end, ops[8];
} shared;
static void *thread_churn(void *arg) {
    size_t i = (size_t)arg;
    churn(&shared.f, test_seed + i * 7919, shared.end, &shared.ops[i]);
    return NULL;
}
TEST(threads) {
    pthread_t t[4];
    REQUIRE_EQ_INT(fake_open(&shared.f, temp_path("t"), 0), SHF_OK);
    shared.end = test_now_ns() + test_env("SHF_SECONDS", 2) * 1000000000u;
    for (size_t i = 0; i < 4; i++) REQUIRE(pthread_create(&t[i], NULL, thread_churn, (void *)i) == 0);
    for (size_t i = 0; i < 4; i++) pthread_join(t[i], NULL);
    struct fake_count c = fake_verify(&shared.f);
    printf("# %llu operations, %u runs taken, %u pages\n",
           (unsigned long long)(shared.ops[0] + shared.ops[1] + shared.ops[2] + shared.ops[3]), c.taken, c.pages);
    fake_free_all(&shared.f);
    fake_close(&shared.f);
}

static const char *torture_path;
static void torture_child(void *arg) {
    struct fake f;
    uint64_t ops = 0;
    REQUIRE_EQ_INT(fake_open(&f, torture_path, 0), SHF_OK);
    churn(&f, *(uint64_t *)arg, UINT64_MAX, &ops);
}
TEST(processes_killed) {
    if (test_threads_only()) return;
    struct fake f;
    enum { N = 4 };
    pid_t pid[N];
    uint64_t seed, kills = 0;
    torture_path = temp_path("p");
    REQUIRE_EQ_INT(fake_open(&f, torture_path, 0), SHF_OK);
    for (int i = 0; i < N; i++) seed = test_rng(), pid[i] = fork_child(torture_child, &seed);
    uint64_t end = test_now_ns() + test_env("SHF_SECONDS", 2) * 2000000000u, ops = 0;
    while (test_now_ns() < end) {
        churn(&f, test_rng(), test_now_ns() + test_rng() % 8000000, &ops);
        int i = (int)(test_rng() % N);
        kill(pid[i], SIGKILL);
        CHECK_EQ_INT(wait_child(pid[i], 10000), CHILD_KILLED(SIGKILL));
        kills++;
        seed = test_rng(), pid[i] = fork_child(torture_child, &seed);
    }
    for (int i = 0; i < N; i++) kill(pid[i], SIGKILL), wait_child(pid[i], 10000);
    CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), SHF_OK);
    struct fake_count c = fake_verify(&f);
    printf("# %llu kills, %u runs taken, %u pages, %u ABSORBED left\n", (unsigned long long)kills, c.taken, c.pages,
           c.absorbed);
    fake_free_all(&f);
    fake_close(&f);
}

TEST(one_run_in_the_end) {
    struct fake f;
    uint64_t ops = 0;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("m"), 0), SHF_OK);
    churn(&f, test_seed, test_now_ns() + 300000000u, &ops);
    struct fake_count c = fake_free_all(&f);
    uint32_t maps = (c.pages + 255) / 256 - 1;
    CHECK(c.free_runs <= maps + c.pendpages + c.reserve + 1);
    fake_close(&f);
}

static int no_room_for_much(void) {
    struct statvfs shm; /* containers often have 64 MB */
    temp_path("");
    if (statvfs(test_dir, &shm) != 0 || shm.f_bavail * shm.f_frsize >= 300u << 20) return 0;
    printf("  skipped: /dev/shm has no 300 MB left\n");
    return 1;
}
TEST(growth_to_100_mb) {
    struct fake f;
    struct fake_shard *s;
    uint32_t page, calls = 0;
    uint64_t grown = 0, worst = 0, spent = 0, all;
    if (no_room_for_much()) return;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("g"), 0), SHF_OK);
    s = fake_shard(&f, 0);
    all = test_now_ns();
    while (shm_load_relaxed(&f.region.header->end) < 100u << 20) {
        int rc = fake_lock(&f, 0);
        REQUIRE_EQ_INT(rc, SHF_OK);
        rc = shf__pages_take(&f.pages, &s->run, SHF_PAGE_SEGMENT, 0, 1, &page);
        shm_store_release32(&s->run, 0); /* leaked on purpose: only growth is looked at */
        fake_unlock(&f, 0);
        if (rc == SHF_OK) grown++;
        else {
            uint64_t start = test_now_ns();
            REQUIRE_EQ_INT(shf__pages_grow(&f.pages, 1), SHF_OK);
            start = test_now_ns() - start;
            spent += start, calls++;
            if (start > worst) worst = start;
        }
    }
    all = test_now_ns() - all;
    printf("# 100 MB: %u growths of %.1f us (worst %.1f), %llu takes of one page, %.0f ns each without growth\n", calls,
           (double)spent / calls / 1e3, (double)worst / 1e3, (unsigned long long)grown,
           (double)(all - spent) / (double)grown);
    uint32_t walk = 0, head, total = 0;
    uint64_t w;
    int rc;
    while ((rc = shf__pages_walk(&f.region, &walk, &head, &w)) == 1) total += shf_page_length(w);
    CHECK_EQ_INT(rc, 0);
    CHECK_EQ_INT((uint64_t)total * SHF_PAGE, shm_load_relaxed(&f.region.header->end));
    fake_close(&f);
}

TEST(one_huge_run) { /* 3 map pages of map pages: the run spans many of them */
    struct fake f;
    uint32_t at;
    uint32_t n = (300u << 20) / SHF_PAGE + 3;
    if (test_env("SHF_SECONDS", 9) == 1) return;
    if (no_room_for_much()) return;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("h"), UINT64_C(1) << 32), SHF_OK);
    uint64_t start = test_now_ns();
    REQUIRE_EQ_INT(shf__pages_grow(&f.pages, n), SHF_OK);
    printf("# a run of %u pages: grown in %.1f ms", n, (double)(test_now_ns() - start) / 1e6);
    struct fake_shard *s = fake_shard(&f, 1);
    start = test_now_ns();
    REQUIRE_EQ_INT(shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 1, n, &at), SHF_OK);
    printf(", taken in %.2f ms\n", (double)(test_now_ns() - start) / 1e6);
    uint64_t w;
    CHECK_EQ_INT(shf__pages_head(&f.region, at + n - 1, &w), at);
    CHECK_EQ_INT(shf__pages_head(&f.region, at + n / 2, &w), at);
    shf__pages_give_back(&f.pages, at, 1);
    shm_store_release32(&s->run, 0);
    struct fake_count c = fake_free_all(&f);
    CHECK(c.longest >= n);
    fake_close(&f);
}

/* Takes until there is no space, checks that all can be used, frees and takes again. Returns the last error. */
static void fill(struct fake *f, uint32_t n, int expected) {
    uint32_t at;
    int rc;
    uint64_t i = 0;
    while ((rc = fake_take(f, (uint32_t)(i & 1), n, i, &at)) == SHF_OK) {
        i++;
        shf__pages_grow_ahead(&f->pages);
    }
    CHECK_EQ_INT(rc, expected);
    CHECK(i > 3);
    struct fake_count c = fake_verify(f);
    CHECK(c.longest < n);
    CHECK_EQ_INT(fake_free(f, 0, 0), SHF_OK); /* index 0 holds the first run */
    CHECK_EQ_INT(fake_take(f, 1, n, 7, &at), SHF_OK);
    CHECK_EQ_INT(fake_take(f, 1, n, 7, &at), expected);
    fake_free_all(f);
    CHECK_EQ_INT(fake_take(f, 1, n * 3, 7, &at), SHF_OK);
    fake_free_all(f);
}

TEST(max_bytes) {
    struct fake f;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("x"), 1 << 20), SHF_OK);
    for (uint32_t n = 1; n < 20; n += 3) {
        fill(&f, n, SHF_ERR_NO_SPACE);
        uint32_t at;
        CHECK_EQ_INT(fake_take(&f, 0, 1000, 1, &at), SHF_ERR_NO_SPACE);
        CHECK(strstr(shf_last_error()->message, "max_bytes") != NULL);
    }
    CHECK_EQ_INT(shm_load_relaxed(&f.region.header->end), 1 << 20);
    fake_close(&f);
}

static void file_size_limit(void *arg) {
    struct fake f;
    struct rlimit limit = {900 * 1024 + 123, 900 * 1024 + 123};
    uint32_t at;
    REQUIRE_EQ_INT(fake_open(&f, (const char *)arg, 0), SHF_OK);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    fill(&f, 4, SHF_ERR_NO_SPACE);
    CHECK_EQ_INT(fake_take(&f, 0, 1000, 1, &at), SHF_ERR_NO_SPACE);
    CHECK(strstr(shf_last_error()->message, "RLIMIT_FSIZE") != NULL);
    CHECK(shm_load_relaxed(&f.region.header->end) > 880 * 1024);
    fake_close(&f);
}
TEST(rlimit_fsize) {
    if (test_threads_only()) return;
    CHECK_EQ_INT(run_child(file_size_limit, (void *)temp_path("l"), 30000), 0);
}

static void full_tmpfs(void *arg) {
    char path[256], other[256];
    struct fake f;
    uint32_t at;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", (const char *)arg, "tmpfs", 0, "size=2m,mode=700")) {
        printf("# not run: cannot mount a tmpfs (%s)\n", strerror(errno));
        return;
    }
    snprintf(path, sizeof path, "%s/full", (const char *)arg);
    snprintf(other, sizeof other, "%s/other", (const char *)arg);
    REQUIRE_EQ_INT(fake_open(&f, path, 0), SHF_OK);
    CHECK_EQ_INT(fake_take(&f, 0, 600, 1, &at), SHF_ERR_NO_SPACE); /* in slices: the last one fails ... */
    struct stat st;
    CHECK(stat(path, &st) == 0 && st.st_size < 1 << 20); /* ... and what it had is cut off */
    fill(&f, 1, SHF_ERR_NO_SPACE);
    CHECK(shm_load_relaxed(&f.region.header->end) > (2u << 20) - 100 * 1024);
    FILE *o = fopen(other, "w");
    if (o) {
        char page[4096] = "x";
        while (fwrite(page, sizeof page, 1, o) == 1 && fflush(o) == 0) {}
        fclose(o);
    }
    for (uint32_t n = 2; n < 9; n++) fill(&f, n, SHF_ERR_NO_SPACE);
    fake_close(&f);
}
TEST(tmpfs_of_2_mb) {
    if (test_threads_only()) return;
    char dir[200];
    snprintf(dir, sizeof dir, "%s", temp_path("mnt"));
    REQUIRE(mkdir(dir, 0700) == 0);
    CHECK_EQ_INT(run_child(full_tmpfs, dir, 60000), 0);
    rmdir(dir);
}

/* N processes that ask at once must not grow N times. */
static void ask(void *arg) {
    struct fake f;
    uint32_t at;
    REQUIRE_EQ_INT(fake_open(&f, (const char *)arg, 0), SHF_OK);
    for (int i = 0; i < 20; i++) CHECK_EQ_INT(fake_take(&f, (uint32_t)i & 1, 3, 1, &at), SHF_OK);
    fake_close(&f);
}
TEST(many_askers) {
    if (test_threads_only()) return;
    struct fake f;
    pid_t pid[8];
    const char *path = temp_path("n");
    REQUIRE_EQ_INT(fake_open(&f, path, 0), SHF_OK);
    for (int i = 0; i < 8; i++) pid[i] = fork_child(ask, (void *)path);
    for (int i = 0; i < 8; i++) CHECK_EQ_INT(wait_child(pid[i], 20000), 0);
    struct fake_count c = fake_verify(&f);
    CHECK_EQ_INT(c.taken, 160);
    printf("# %u pages taken, file of %u pages\n", 160 * 3, c.pages);
    CHECK(c.pages < 480 + 31 + 3 * 65);
    fake_close(&f);
}

/* A stale, doubled or forged hint never gives a page away twice (H2). */
TEST(hints_are_advice) {
    struct fake f;
    uint64_t rng = test_seed, ops = 0;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("i"), 0), SHF_OK);
    for (int round = 0; round < 200; round++) {
        struct shf_shm_hints *h =
            (struct shf_shm_hints *)shf__region_at(&f.region, (uint64_t)SHF_HINTS_PAGE * SHF_PAGE, 2 * SHF_PAGE);
        churn(&f, test_next(&rng), test_now_ns() + 1000000, &ops);
        for (uint32_t c = 0; c < 12; c++) {
            for (uint32_t i = 0; i < SHF_HINTS_PER_CLASS; i++)
                shm_store_relaxed32(&h[c].page[i], (uint32_t)(test_next(&rng) % (shf__pages_limit(&f.region) + 9)));
            shm_store_relaxed32(&h[c].count, (uint32_t)(test_next(&rng) % 70));
        }
    }
    fake_verify(&f);
    fake_free_all(&f);
    fake_close(&f);
}

/* A damaged map gives errors, and stays inside the mapping. */
TEST(forged_map) {
    for (int round = 0; round < 300; round++) {
        struct fake f;
        const char *path = temp_path("f");
        uint32_t at;
        unlink(path);
        REQUIRE_EQ_INT(fake_open(&f, path, 4 << 20), SHF_OK);
        for (int i = 0; i < 40; i++) REQUIRE_EQ_INT(fake_take(&f, (uint32_t)i & 1, 1 + (uint32_t)i % 7, 1, &at), SHF_OK);
        CHECK_EQ_INT(fake_large(&f, 0, 3, 1, 0), SHF_OK);
        for (int i = 0; i < 8; i++) {
            uint64_t v = test_rng();
            switch (test_rng() % 6) {
            case 0: v &= UINT64_C(0xf0000000000001ff); break;
            case 1: v &= 0x1ff; break;
            case 2: v = v >> 60 << 60 | 0x3fffffff; break;
            default: break;
            }
            uint32_t where[] = {SHF_MAP_PAGE, SHF_MAP_PAGE, SHF_MAP_PAGE, SHF_MIDDLE_PAGE, SHF_ROOT_PAGE, SHF_HINTS_PAGE};
            shf_au64 *page = (shf_au64 *)(f.region.base + (uint64_t)where[test_rng() % 6] * SHF_PAGE);
            atomic_store(&page[test_rng() % (test_rng() % 2 ? 512 : 80)], v);
            if (test_rng() % 4 == 0) atomic_store(&f.region.header->hand, (uint32_t)v);
            if (test_rng() % 4 == 0) atomic_store(&f.region.header->reserve, (uint32_t)v & 0xff);
            if (test_rng() % 8 == 0) atomic_store(&f.region.header->end, v);
        }
        uint32_t page, entry, n, head, walk = 0;
        uint64_t w;
        for (int i = 0; i < 20; i++) {
            struct fake_shard *s = fake_shard(&f, 0);
            int rc = shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 0, (uint32_t)(test_rng() % 40) + 1, &page);
            if (rc == SHF__GROW) rc = shf__pages_grow(&f.pages, 5);
            shm_store_release32(&s->run, 0);
            if (shf__pages_pending_begin(&f.pages, 1, 2, &page, &entry) == SHF_OK)
                shf__pages_pending_finish(&f.pages, page, entry, 1);
            shf__pages_free(&f.region, (uint32_t)test_rng() % 300, SHF_PAGE_CHUNK, 0);
            shf__pages_give_back(&f.pages, (uint32_t)test_rng() % 300, 0);
            shf__pages_hint(&f.pages, (uint32_t)test_rng() % 300);
            shf__pages_head(&f.region, (uint32_t)test_rng() % 300, &w);
            shf__pages_fill_reserve(&f.pages);
            (void)shf__pages_take_reserve(&f.pages, &s->run, 0, &n, &page);
            shm_store_release32(&s->run, 0);
            (void)shf__pages_sweep_slot(&f.pages, (uint32_t)test_rng() % 4);
            atomic_store(&f.pages.want_ahead, 1);
            atomic_store(&f.pages.ahead_not_before, 0);
            shf__pages_grow_ahead(&f.pages);
        }
        for (uint32_t i = 0; i < 1u << 22 && shf__pages_walk(&f.region, &walk, &head, &w) == 1; i++) {}
        fake_close(&f);
    }
}

/* A child with the parent's handle has another slot and claims of its own; its death takes nothing of the parent's. */
static void forked(void *arg) {
    struct fake *f = (struct fake *)arg;
    uint32_t page, entry;
    CHECK_EQ_INT(fake_large(f, 1, 4, 5, 0), SHF_OK);
    int rc = shf__pages_pending_begin(&f->pages, 1, 4, &page, &entry);
    CHECK(rc == SHF_OK || rc == SHF__GROW);
    CHECK(rc == SHF__GROW || entry == 0);
    raise(SIGKILL);
}
TEST(fork_while_pending) {
    if (test_threads_only()) return;
    struct fake f;
    uint32_t page, entry;
    int rc;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("k"), 0), SHF_OK);
    while ((rc = shf__pages_pending_begin(&f.pages, 0, 4, &page, &entry)) == SHF__GROW)
        REQUIRE_EQ_INT(shf__pages_grow(&f.pages, 4), SHF_OK);
    REQUIRE_EQ_INT(rc, SHF_OK);
    CHECK_EQ_INT(entry, 0);
    CHECK_EQ_INT(run_child(forked, &f, 10000), CHILD_KILLED(SIGKILL));
    CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), SHF_OK);
    uint64_t w;
    CHECK_EQ_INT(shf__pages_head(&f.region, page + 3, &w), page);
    CHECK_EQ_INT(w, shf__pages_pending_word(&f.pages, 4));
    shf__pages_pending_finish(&f.pages, page, entry, 1);
    CHECK_EQ_INT(fake_verify(&f).taken, 1);
    fake_free_all(&f);
    fake_close(&f);
}

/* ---- pending entries ---- */

static int begin(struct fake *f, uint32_t shard, uint32_t n, uint32_t *page, uint32_t *entry) {
    int rc;
    while ((rc = shf__pages_pending_begin(&f->pages, shard, n, page, entry)) == SHF__GROW)
        REQUIRE_EQ_INT(shf__pages_grow(&f->pages, n), SHF_OK);
    return rc;
}
static uint32_t held[SHF_PENDING_ENTRIES];
static void *finish_one(void *arg) {
    struct fake *f = arg;
    usleep(50000);
    shf__pages_pending_finish(&f->pages, held[300], 300, 1);
    return NULL;
}
TEST(all_pending_entries_in_use) {
    struct fake f;
    pthread_t thread;
    uint32_t page, entry;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("e"), 0), SHF_OK);
    for (uint32_t i = 0; i < SHF_PENDING_ENTRIES; i++) {
        REQUIRE_EQ_INT(begin(&f, i % 2, 2, &held[i], &entry), SHF_OK);
        CHECK_EQ_INT(entry, i);
    }
    f.registry.lock_timeout_ns = 30000000;
    CHECK_EQ_INT(shf__pages_pending_begin(&f.pages, 0, 2, &page, &entry), SHF_ERR_TIMEOUT);
    CHECK(strstr(shf_last_error()->message, "512") != NULL);
    f.registry.lock_timeout_ns = UINT64_C(10000000000);
    REQUIRE(pthread_create(&thread, NULL, finish_one, &f) == 0);
    CHECK_EQ_INT(begin(&f, 1, 2, &held[300], &entry), SHF_OK);
    CHECK_EQ_INT(entry, 300);
    pthread_join(thread, NULL);
    shf__pages_pending_finish(&f.pages, held[7], SHF_PENDING_ENTRIES, 1); /* no such entry: nothing is freed */
    CHECK_EQ_INT(atomic_load(&shf__pages_entry(&f.region, held[7])->word), shf__pages_pending_word(&f.pages, 2));
    for (uint32_t i = 0; i < SHF_PENDING_ENTRIES; i++) shf__pages_pending_finish(&f.pages, held[i], i, 1);
    CHECK_EQ_INT(fake_verify(&f).taken, 0);
    fake_free_all(&f);
    fake_close(&f);
}

/* The first claim of a process clears the bitmap, once; other threads wait for it, but not for ever. */
static void *clear_later(void *arg) {
    struct fake *f = arg;
    usleep(50000);
    atomic_store(&f->pages.pending_process, 0);
    return NULL;
}
TEST(claims_are_cleared_once) {
    struct fake f;
    pthread_t thread;
    uint32_t page, entry, other;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("o"), 0), SHF_OK);
    REQUIRE_EQ_INT(begin(&f, 0, 2, &page, &entry), SHF_OK);
    uint64_t me = atomic_load(&f.pages.pending_process);
    atomic_store(&f.pages.pending_process, me | UINT64_C(1) << 63); /* another thread is clearing it */
    f.registry.lock_timeout_ns = 30000000;
    CHECK_EQ_INT(shf__pages_pending_begin(&f.pages, 0, 2, &other, &entry), SHF_ERR_TIMEOUT);
    f.registry.lock_timeout_ns = UINT64_C(10000000000);
    REQUIRE(pthread_create(&thread, NULL, clear_later, &f) == 0);
    CHECK_EQ_INT(begin(&f, 0, 2, &other, &entry), SHF_OK);
    pthread_join(thread, NULL);
    CHECK_EQ_INT(atomic_load(&f.pages.pending_process), me);
    CHECK(other != page); /* of this life: the sweep of the first claim left it alone */
    shf__pages_pending_finish(&f.pages, other, entry, 1);
    CHECK(shf__pages_free(&f.region, page, SHF_PAGE_PENDING, shf__registry_owner(&f.registry)) == 2);
    fake_free_all(&f);
    fake_close(&f);
}

/* A sweep that cannot have a shard's lock leaves the entries of that shard, for the next one. */
static unsigned locks, failing_lock;
static int some_locks_fail(void *context, uint32_t shard) {
    return ++locks == failing_lock ? SHF_ERR_TIMEOUT : fake_lock(context, shard);
}
static void leave_two_runs(void *arg) {
    struct fake f;
    uint32_t page, entry;
    REQUIRE_EQ_INT(fake_open(&f, arg, 0), SHF_OK);
    REQUIRE_EQ_INT(begin(&f, 0, 4, &page, &entry), SHF_OK);
    REQUIRE_EQ_INT(begin(&f, 1, 5, &page, &entry), SHF_OK);
    raise(SIGKILL);
}
static uint32_t pending_pages(struct fake *f) {
    uint32_t page = 0, head, n = 0;
    uint64_t w;
    while (shf__pages_walk(&f->region, &page, &head, &w) == 1)
        n += shf_page_state(w) == SHF_PAGE_PENDING ? shf_page_length(w) : 0;
    return n;
}
TEST(sweep_without_a_lock) {
    if (test_threads_only()) return;
    static const uint32_t left[] = {9, 9, 4, 5, 0}; /* pages, if the 1st, 2nd... lock fails: two rounds of two */
    char path[200];
    snprintf(path, sizeof path, "%s", temp_path("s"));
    for (unsigned k = 1; k <= 5; k++) {
        struct fake f;
        unlink(path);
        REQUIRE_EQ_INT(fake_open(&f, path, 0), SHF_OK);
        REQUIRE_EQ_INT(run_child(leave_two_runs, path, 10000), CHILD_KILLED(SIGKILL));
        CHECK_EQ_INT(pending_pages(&f), 9);
        f.pages.lock_shard = some_locks_fail;
        locks = 0, failing_lock = k;
        CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), k <= 4 ? SHF_ERR_TIMEOUT : SHF_OK);
        CHECK_EQ_INT(pending_pages(&f), left[k - 1]);
        f.pages.lock_shard = fake_lock;
        CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), SHF_OK);
        CHECK_EQ_INT(pending_pages(&f), 0);
        CHECK_EQ_INT(fake_verify(&f).taken, 0);
        fake_close(&f);
    }
}

/* A run beyond what this handle can see is left to a handle that can: its entry stays. */
static void leave_a_long_run(void *arg) {
    struct fake f;
    uint32_t page, entry;
    REQUIRE_EQ_INT(fake_open(&f, arg, 0), SHF_OK);
    REQUIRE_EQ_INT(begin(&f, 0, 4000, &page, &entry), SHF_OK);
    raise(SIGKILL);
}
TEST(sweep_beyond_reach) {
    if (test_threads_only()) return;
    char path[200];
    struct fake f, other;
    snprintf(path, sizeof path, "%s", temp_path("r"));
    REQUIRE_EQ_INT(fake_open(&f, path, 0), SHF_OK);
    REQUIRE_EQ_INT(shf__pages_grow(&f.pages, 8), SHF_OK); /* room for the pending page within reach */
    size_t all = f.region.reserved;
    f.region.reserved = atomic_load(&f.region.size); /* as if it had got no more address space */
    REQUIRE_EQ_INT(run_child(leave_a_long_run, path, 10000), CHILD_KILLED(SIGKILL));
    for (int i = 0; i < 2; i++) CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), SHF_ERR_ADDRESS_SPACE);
    for (uint32_t s = 0; s < FAKE_SHARDS; s++) CHECK_EQ_INT(atomic_load(&fake_shard(&f, s)->word), 0);
    REQUIRE_EQ_INT(fake_open(&other, path, 0), SHF_OK); /* sweeps as it attaches */
    CHECK_EQ_INT(pending_pages(&other), 0);
    CHECK_EQ_INT(fake_verify(&other).taken, 0);
    CHECK(fake_verify(&other).longest >= 4000);
    CHECK_EQ_INT(shf__registry_sweep(&f.registry, 1), SHF_OK);
    fake_close(&other);
    f.region.reserved = all;
    fake_close(&f);
}

/* ---- the map beyond its first middle page, and with holes ---- */

/* A file said to be `pages` long, sparse: one FIXED run from its old end on. Returns that run's page. */
static uint32_t stretch(struct fake *f, uint32_t pages) {
    struct fake_shard *s = fake_shard(f, 0);
    uint32_t page;
    REQUIRE_EQ_INT(shf__pages_grow(&f->pages, 1), SHF_OK);
    uint32_t end = (uint32_t)(atomic_load(&f->region.header->end) / SHF_PAGE);
    REQUIRE_EQ_INT(shf__pages_take(&f->pages, &s->run, SHF_PAGE_CHUNK, 0, 1, &page), SHF_OK); /* the last map page */
    shm_store_release32(&s->run, 0);
    shf_au32 *middle = shf__region_page(&f->region, SHF_MIDDLE_PAGE);
    shf_au64 *map = shf__region_page(&f->region, page), *first = shf__region_page(&f->region, SHF_MAP_PAGE);
    REQUIRE(end < SHF_MAP_ENTRIES && pages / SHF_MAP_ENTRIES == SHF_MIDDLE_ENTRIES - 1 && map && middle && first);
    REQUIRE(ftruncate(f->region.fd, (off_t)pages * (off_t)SHF_PAGE) == 0);
    shm_clear(map, SHF_PAGE / 8);
    shm_store_relaxed(first + 2 * end, shf_page_word(SHF_PAGE_FIXED, 0, pages - end));
    shm_store_release32(middle + SHF_MIDDLE_ENTRIES - 1, page);
    shm_store_release(&f->region.header->end, (uint64_t)pages * SHF_PAGE);
    shf__region_refresh(&f->region);
    return end;
}
TEST(second_middle_page) {
    enum { PAGES = SHF_MAP_ENTRIES * SHF_MIDDLE_ENTRIES, BEFORE = 100 };
    struct fake f;
    uint32_t page, entry, at = 0, head, last = 0;
    uint64_t w, rc;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("m"), UINT64_C(8) << 30), SHF_OK);
    stretch(&f, PAGES - BEFORE);
    CHECK(shf__pages_entry(&f.region, PAGES - 1) == NULL);
    REQUIRE_EQ_INT(begin(&f, 0, 600, &page, &entry), SHF_OK); /* over the border; map pages for three times 256 pages */
    CHECK(page > PAGES - BEFORE && page < PAGES && page + 600 > PAGES);
    fake_stamp(&f, page, 600, 0, 7);
    fake_check_stamp(&f, page, 600, 0);
    shf_au32 *root = shf__region_page(&f.region, SHF_ROOT_PAGE);
    CHECK(atomic_load(root + 1) >= PAGES - BEFORE && atomic_load(root + 1) < page);
    CHECK(shf__pages_entry(&f.region, PAGES) != NULL);
    CHECK_EQ_INT(shf__pages_head(&f.region, PAGES + 10, &w), page);
    shf__pages_pending_finish(&f.pages, page, entry, 1);
    while ((rc = (uint64_t)shf__pages_walk(&f.region, &at, &head, &w)) == 1) last = head + shf_page_length(w);
    CHECK_EQ_INT(rc, 0);
    CHECK_EQ_INT((uint64_t)last * SHF_PAGE, atomic_load(&f.region.header->end));
    fake_close(&f);
}
/* A middle page without the map page that growth must write to: an error, `end` and the map as before. */
TEST(growth_without_a_map_page) {
    enum { PAGES = SHF_MAP_ENTRIES * SHF_MIDDLE_ENTRIES - 100 };
    struct fake f;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("w"), UINT64_C(8) << 30), SHF_OK);
    stretch(&f, PAGES);
    shf_au32 *middle = shf__region_page(&f.region, SHF_MIDDLE_PAGE);
    uint32_t map = atomic_load(middle + SHF_MIDDLE_ENTRIES - 1);
    atomic_store(middle + SHF_MIDDLE_ENTRIES - 1, 0);
    CHECK_EQ_INT(shf__pages_grow(&f.pages, 4000), SHF_ERR_CORRUPT);
    CHECK_EQ_INT(atomic_load(&f.region.header->end), (uint64_t)PAGES * SHF_PAGE);
    CHECK_EQ_INT(atomic_load(&f.region.header->grow_word), 0);
    atomic_store(middle + SHF_MIDDLE_ENTRIES - 1, map);
    CHECK_EQ_INT(shf__pages_grow(&f.pages, 4000), SHF_OK);
    fake_close(&f);
}
/* A free run whose pages in the middle have no entries cannot be taken: nothing is announced, nothing is changed. */
TEST(free_run_without_entries) {
    struct fake f;
    struct fake_shard *s;
    uint32_t page, entry;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("h"), 0), SHF_OK);
    s = fake_shard(&f, 0);
    REQUIRE_EQ_INT(begin(&f, 0, 1, &page, &entry), SHF_OK); /* so that there is a pending page */
    shf__pages_pending_finish(&f.pages, page, entry, 1);
    REQUIRE_EQ_INT(shf__pages_grow(&f.pages, 700), SHF_OK);
    uint32_t run = shf__pages_find(&f.pages, 700);
    REQUIRE(run != 0);
    struct shf_shm_map_entry *e = shf__pages_entry(&f.region, run);
    uint64_t before = atomic_load(&e->word);
    uint32_t length = shf_page_length(before), hole = run / SHF_MAP_ENTRIES + 1;
    shf_au32 *middle = shf__region_page(&f.region, SHF_MIDDLE_PAGE);
    uint32_t map = atomic_load(middle + hole);
    atomic_store(middle + hole, 0);
    uint32_t asked[] = {hole * SHF_MAP_ENTRIES - run, length}; /* what is left begins in the hole; all of it */
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_INT(shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 0, asked[i], &page), SHF_ERR_CORRUPT);
        CHECK_EQ_INT(atomic_load(&s->run), 0);
        CHECK_EQ_INT(shf__pages_pending_begin(&f.pages, 0, asked[i], &page, &entry), SHF_ERR_CORRUPT);
        CHECK_EQ_INT(atomic_load(&e->word), before);
        CHECK_EQ_INT(atomic_load(&f.region.header->alloc_word), 0);
    }
    atomic_store(middle + hole, map);
    REQUIRE_EQ_INT(begin(&f, 0, length, &page, &entry), SHF_OK);
    CHECK_EQ_INT(page, run);
    CHECK_EQ_INT(entry, 0); /* no claim was left behind */
    shf__pages_pending_finish(&f.pages, page, entry, 1);
    CHECK_EQ_INT(shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 0, 0, &page), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 0, SHF_PAGES_MAX, &page), SHF_ERR_INVALID);
    CHECK_EQ_INT(shf__pages_grow(&f.pages, 0), SHF_ERR_NO_SPACE);
    fake_free_all(&f);
    fake_close(&f);
}

TEST(cost) {
    struct fake f;
    REQUIRE_EQ_INT(fake_open(&f, temp_path("c"), 0), SHF_OK);
    struct fake_shard *s = fake_shard(&f, 0);
    uint32_t page;
    REQUIRE_EQ_INT(shf__pages_grow(&f.pages, 64), SHF_OK);
    for (uint32_t n = 1; n <= 16; n *= 4) {
        enum { ROUNDS = 200000 };
        uint64_t start = test_now_ns();
        for (int i = 0; i < ROUNDS; i++) {
            if (shf__pages_take(&f.pages, &s->run, SHF_PAGE_CHUNK, 0, n, &page) != SHF_OK) FAIL("take");
            shm_store_release32(&s->run, 0);
            shf__pages_free(&f.region, page, SHF_PAGE_CHUNK, 0);
            shf__pages_hint(&f.pages, page);
        }
        printf("# take + free + hint of %u pages: %.0f ns\n", n, (double)(test_now_ns() - start) / ROUNDS);
    }
    fake_close(&f);
}

int main(int argc, char **argv) { return run(argc, argv); }
