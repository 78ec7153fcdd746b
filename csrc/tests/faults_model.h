/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * faults_model.h - what the tests of failing system calls share: the hook, the calls, their errnos, leaks, the header
 *
 * Before it is included FAULTS_HEADER is the header whose functions all need an act.
 */
#ifndef SHF_TEST_FAULTS_MODEL_H
#define SHF_TEST_FAULTS_MODEL_H

#include "os.h"
#include "test.h"

static int no_tmpfile; /* calls to os_tmpfile shall fail: private names are used */

/* ---- the faults ---- */

static struct {
    uint64_t at, calls, hits; /* at: the call that fails; 0: none does */
    int all, variant, error;
    char name[32];
} fault;
static uint64_t quiet(void) {
    uint64_t at = fault.at;
    fault.at = 0;
    return at;
}
static void loud(uint64_t at) { fault.at = at; }

static const struct call {
    const char *name;
    int number[3];
    int of_queues; /* no table makes it */
} system_calls[] = {
    {"os_open", {EMFILE, EACCES, ENOENT}, 0},
    {"os_open_fd", {ENOENT, EMFILE, EACCES}, 0},
    {"os_close", {EIO, EINTR, EDQUOT}, 0},
    {"os_dup", {EMFILE, EINVAL, EMFILE}, 0},
    {"os_fd_flags", {EINVAL, ENOMEM, EINVAL}, 0},
    {"os_fd_path", {ENOENT, EACCES, ENOMEM}, 0},
    {"os_fstat", {EIO, ENOMEM, EACCES}, 0},
    {"os_stat", {ENOENT, EACCES, EIO}, 0},
    {"os_fs_type", {EIO, ENOSYS, ENOMEM}, 0},
    {"os_fallocate", {ENOSPC, EDQUOT, EIO}, 0},
    {"os_ftruncate", {EPERM, EFBIG, EIO}, 0},
    {"os_tmpfile", {EOPNOTSUPP, ENOSPC, EMFILE}, 0},
    {"os_link_fd", {EEXIST, ENOENT, EPERM}, 0},
    {"os_rename_noreplace", {EEXIST, EINVAL, EIO}, 0},
    {"os_unlink", {EACCES, EBUSY, EROFS}, 0},
    {"os_fchmod", {EPERM, EROFS, EIO}, 0},
    {"os_pread", {EIO, ENOMEM, EIO}, 0},
    {"os_memfd", {EMFILE, ENOMEM, ENOSYS}, 0},
    {"os_seal", {EPERM, EBUSY, EINVAL}, 0},
    {"os_seals", {EINVAL, EINVAL, EINVAL}, 0},
    {"os_map", {ENOMEM, EAGAIN, ENODEV}, 0},
    {"os_unmap", {EINVAL, ENOMEM, EINVAL}, 0},
    {"os_populate_write", {EFAULT, EINVAL, ENOMEM}, 0},
    {"os_collapse", {EINVAL, ENOMEM, EAGAIN}, 0},
    {"os_msync", {EIO, ENOMEM, EBUSY}, 0},
    {"os_fsync", {EIO, ENOSPC, EINTR}, 0},
    {"os_wipe_on_fork_word", {ENOMEM, EINVAL, ENOSYS}, 0},
    {"os_ofd_lock", {EAGAIN, EINVAL, ENOLCK}, 0},
    {"os_ofd_unlock", {EINVAL, ENOLCK, EINVAL}, 0},
    {"os_ofd_probe", {EINVAL, ENOMEM, ENOLCK}, 0},
    {"os_futex_wait", {EAGAIN, EINVAL, ETIMEDOUT}, 0},
    {"os_futex_wake", {EFAULT, EINVAL, ENOSYS}, 0},
    {"os_random", {EAGAIN, ENOSYS, EIO}, 0},
    {"os_boot_id", {EMFILE, ENOENT, EACCES}, 0},
    {"os_pid_namespace", {ENOENT, EACCES, EMFILE}, 0},
    {"os_process_start", {ENOENT, EACCES, EMFILE}, 0},
    {"os_process_is_over", {ENOENT, EACCES, EMFILE}, 0},
    {"os_at_fork", {ENOMEM, ENOMEM, ENOMEM}, 0},
    {"os_event", {EMFILE, ENFILE, ENOMEM}, 1},
    {"os_event_clear", {EAGAIN, EIO, EINVAL}, 1},
    {"os_event_signal", {EAGAIN, EIO, EINVAL}, 1},
    {"os_thread_start", {EAGAIN, ENOMEM, EPERM}, 1},
};
#define SYSTEM_CALLS (sizeof system_calls / sizeof *system_calls)

static uint64_t *failed; /* by number of the call; shared with children */
static int whole_run;

int shf__os_fault(const char *call) {
    if (!fault.at || syscall(SYS_gettid) != getpid()) return 0; /* a thread of the engine's own comes when it comes */
    if (no_tmpfile && strcmp(call, "os_tmpfile") == 0) return EOPNOTSUPP;
    uint64_t n = ++fault.calls;
    /* registry.c closes a descriptor only when fstat says that it still is its own: without fstat it must leak */
    if (fault.all && n > fault.at && strcmp(call, "os_fstat") == 0) return 0;
    if (n != fault.at && !(fault.all && n > fault.at)) return 0;
    for (size_t i = 0; i < SYSTEM_CALLS; i++)
        if (strcmp(call, system_calls[i].name) == 0) {
            int error = system_calls[i].number[fault.variant];
            if (n == fault.at) snprintf(fault.name, sizeof fault.name, "%s", call), fault.error = error;
            fault.hits++;
            __atomic_add_fetch(&failed[i], 1, __ATOMIC_RELAXED);
            return error;
        }
    FAIL("no errno is known for %s", call);
    return 0;
}

/* ---- leaks ---- */

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
static int mappings(void) {
    static char line[4096];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) n += strstr(line, test_dir) != NULL || strstr(line, "memfd:") != NULL;
    if (f) fclose(f);
    return n;
}

/* ---- the header ---- */

/* The header itself, whatever the folder of the test: what it declares is acted upon, and nothing else. */
__asm__(".pushsection .rodata\n"
        "header_text: .incbin \"" FAULTS_HEADER "\"\n"
        ".byte 0\n"
        ".popsection");
extern const char header_text[];

static int names(const char *list, const char *name, size_t n) {
    for (const char *at = list; (at = strstr(at, name)) != NULL; at++)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) return 1;
    return 0;
}
/* Each function that the header declares is named by one of n lists, and nothing else is. How many there are. */
TEST_FN unsigned acts_cover_the_header(const char *const *lists, size_t n_lists) {
    unsigned declared = 0, listed = 0;
    for (const char *at = header_text; (at = strstr(at, "\nSHF_API ")) != NULL;) {
        char name[64];
        const char *end = strpbrk(++at, "([");
        REQUIRE(end != NULL);
        const char *start = end;
        while (start[-1] != ' ' && start[-1] != '*') start--;
        size_t n = (size_t)(end - start);
        REQUIRE(n < sizeof name);
        snprintf(name, sizeof name, "%.*s", (int)n, start);
        if (*end == '[') continue; /* shf_absent */
        int found = 0;
        for (size_t i = 0; i < n_lists; i++) found |= names(lists[i], name, n);
        if (!found) FAIL("no act calls %s", name);
        declared++;
    }
    for (size_t i = 0; i < n_lists; i++)
        for (const char *at = lists[i]; at != NULL; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL) {
            int again = 0;
            for (size_t j = 0; j < i; j++) again |= names(lists[j], at, strcspn(at, " "));
            listed += !again;
        }
    CHECK_EQ_INT(listed, declared);
    return declared;
}

#endif
