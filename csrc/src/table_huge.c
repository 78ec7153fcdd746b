/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * table_huge.c - the file's memory in huge pages
 *
 * WHAT       Asks the kernel to copy each full 2 MiB below `end` into one huge page (MADV_COLLAPSE). Bytes, offsets and
 *            addresses stay; only which memory holds them changes, and how many entries of the page tables name it.
 * NOT        On the way of any operation: only when the user asks. It takes no lock and stores nothing, so there is no
 *            protocol, and a death leaves some of it done.
 *
 * ALIGNED    A huge page can be mapped only where address and file offset agree modulo 2 MiB: os_map sees to it. A handle
 *            that had no address space for that is refused here; another one's call serves it as far as can be.
 * ALL        One process' call is for all: the kernel takes the pages out of every mapping, and brings each 2 MiB back in
 *            one page fault. Read-only mappings may ask, too (measured: Linux 6.18).
 * FULL       Only below `end`, where every page has its storage. The kernel would fill holes, past the file's end too,
 *            and so take space that nobody has asked for.
 * SLICES     16 MiB a call, about 8 ms. Each call first waits for something on every CPU (lru_add_drain_all), so one for
 *            each 2 MiB takes two to four times as long beside other work; one for all would be long. A slice that fails
 *            is done again by 2 MiB, as the kernel does not say how far it came; what is done already costs next to
 *            nothing.
 * EAGAIN     Somebody held a page (a page fault, reclaim): a moment later it goes. RETRIES in a whole call, then the
 *            2 MiB are left out. Without a free huge page (ENOMEM, EBUSY) it ends at once: each further try would make
 *            the kernel move memory about in vain.
 *
 * PROOF      csrc/tests/validate_huge.c (beside writers, full tmpfs, read-only), csrc/tests/faults_huge.c
 */
#include "os.h"
#include "table.h"

#include <errno.h>

#define SLICE (8 * OS_HUGE_PAGE)
#define RETRIES 64u
#define RETRY_NS UINT64_C(1000000)

int shf__table_collapse_full(struct shf_table *t, uint64_t *bytes) {
    struct shf_region *r = &t->region;
    unsigned retries = RETRIES;
    (void)shf__region_refresh(r);
    size_t full = atomic_load_explicit(&r->size, memory_order_relaxed) / OS_HUGE_PAGE * OS_HUGE_PAGE;
    *bytes = 0;
    if (full != 0 && (uintptr_t)r->base % OS_HUGE_PAGE != 0) return -EFAULT;
    for (size_t at = 0, slice; at < full; at += slice) {
        slice = full - at < SLICE ? full - at : SLICE;
        if (os_collapse(r->base + at, slice) == 0) {
            *bytes += slice;
            continue;
        }
        for (size_t i = 0; i < slice; i += OS_HUGE_PAGE) {
            int rc;
            while ((rc = os_collapse(r->base + at + i, OS_HUGE_PAGE)) == -EAGAIN && retries != 0) {
                retries--;
                os_sleep_ns(RETRY_NS);
            }
            if (rc == 0) *bytes += OS_HUGE_PAGE;
            /* EINVAL after others went well: something about these 2 MiB */
            if (rc != 0 && rc != -EAGAIN && (rc != -EINVAL || *bytes == 0)) return rc;
        }
    }
    return 0;
}

int shf_table_collapse(struct shf_table *t, uint64_t *bytes) {
    static const char place[] = "collapse";
    uint64_t done;
    SHF_CHECK_ARGS(t != NULL);
    int rc = shf__table_collapse_full(t, &done);
    const char *path = t->region.path;
    if (bytes != NULL) *bytes = done;
    switch (rc) {
    case 0: return SHF_OK;
    case -EFAULT:
        return shf__fail(SHF_ERR_UNSUPPORTED, 0, place, path,
                         "'%s': this handle's mapping begins at no multiple of 2 MiB, for want of address space "
                         "(RLIMIT_AS): another handle may be able to",
                         path);
    case -ENOMEM:
    case -EBUSY:
        return shf__fail(SHF_ERR_UNSUPPORTED, -rc, place, path,
                         "'%s': no 2 MiB of memory free in one piece (or the control group's limit is reached); %llu "
                         "bytes are in huge pages",
                         path, (unsigned long long)done);
    default:
        return shf__fail(SHF_ERR_UNSUPPORTED, -rc, place, path,
                         "'%s': this kernel or file system has no huge pages for files in use (MADV_COLLAPSE: Linux 6.1, "
                         "tmpfs or a memory file)",
                         path);
    }
}
