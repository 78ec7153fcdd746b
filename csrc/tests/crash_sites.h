/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * crash_sites.h - at which stores of the engine's code processes were killed, and the summary line of a crash program
 *
 * SITE        A place in the machine code that calls shf__crash_point() before a store, as an offset in the program.
 * ROLE        FIRST: a process that dies while all is well. REPAIR: one that dies after another one's death: it was
 *             attached before or opens the file afterwards, and repairs. The survivors are REPAIR too, but are not killed.
 * SUMMARY     Each site that was reached in a role should have been a place of death in that role: crash_model.h aims at those
 *             that were not yet. SHF_CRASH_SITES=folder: at the end a file is written there, with a line "offset reached killed" for each
 *             site (bit 0: FIRST, bit 1: REPAIR), which crash_sites.sh sums up for all programs.
 */
#ifndef SHF_CRASH_SITES_H
#define SHF_CRASH_SITES_H

#include "os.h"
#include "test.h"

#define FIRST 1u
#define REPAIR 2u
#define SITES 4096u /* a power of two, some times what there are */
#define TRACED (1u << 16)

extern const char __executable_start[]; /* the linker's */

struct sites { /* shared with the children */
    _Atomic uint32_t offset[SITES];
    _Atomic uint8_t reached[SITES], killed[SITES];
    uint16_t trace[TRACED]; /* the sites of a process' stores, in order */
};
static struct sites *sites;
static unsigned sites_role;                   /* of this process */
static uint64_t sites_trace_from = UINT64_MAX; /* trace the stores behind this number */
static uint64_t killed, pairs, thirds, scenarios, slowest_ns; /* second deaths, third deaths; all three are in `killed` */

static uint32_t site_number(uint32_t offset) {
    for (uint32_t i = offset * 2654435761u >> 20;; i = (i + 1) % SITES) {
        uint32_t is = sites->offset[i];
        if (is == offset || (is == 0 && atomic_compare_exchange_strong(&sites->offset[i], &is, offset)) || is == offset) return i;
    }
}
static void sites_hook(const void *site) {
    uint64_t count = __atomic_load_n(&shf__crash_count, __ATOMIC_RELAXED);
    uint32_t i = site_number((uint32_t)((uintptr_t)site - (uintptr_t)__executable_start));
    if (!(sites->reached[i] & sites_role)) sites->reached[i] |= (uint8_t)sites_role;
    if (count == __atomic_load_n(&shf__crash_at, __ATOMIC_RELAXED)) sites->killed[i] |= (uint8_t)sites_role;
    if (count > sites_trace_from && count - sites_trace_from <= TRACED) sites->trace[count - sites_trace_from - 1] = (uint16_t)i;
}
/* Before the first child is forked. The caller is a survivor. */
static void sites_begin(void) {
    if (sites) return;
    sites = mmap(NULL, sizeof *sites, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(sites != (struct sites *)MAP_FAILED);
    sites_role = 0;
    shf__crash_hook = sites_hook;
}
static unsigned sites_count(unsigned role, int dead) {
    unsigned n = 0;
    for (uint32_t i = 0; sites && i < SITES; i++) n += ((sites->killed[i] | (dead ? 0 : sites->reached[i])) & role) != 0;
    return n;
}
/* The last test of a program. */
static void sites_total(void) {
    printf("# total: %llu processes killed in %llu scenarios, %llu of them second deaths, %llu third ones; slowest survivor %.2f "
           "ms; places of death: %u of %u stores of the code at first, %u of %u in repairs\n",
           (unsigned long long)killed, (unsigned long long)scenarios, (unsigned long long)pairs, (unsigned long long)thirds,
           (double)slowest_ns / 1e6, sites_count(FIRST, 1), sites_count(FIRST, 0), sites_count(REPAIR, 1), sites_count(REPAIR, 0));
    const char *folder = getenv("SHF_CRASH_SITES");
    char path[512];
    if (!folder || !sites) return;
    snprintf(path, sizeof path, "%s/%s", folder, program_invocation_short_name);
    FILE *f = fopen(path, "w");
    for (uint32_t i = 0; f && i < SITES; i++)
        if (sites->offset[i]) fprintf(f, "%#x %u %u\n", sites->offset[i], sites->reached[i], sites->killed[i]);
    CHECK(f != NULL && fclose(f) == 0);
}

#endif
