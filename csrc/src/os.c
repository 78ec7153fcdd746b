// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * os.c - every system call of the engine
 *
 * WHAT       Thin wrappers: >= 0, or -errno; EINTR is retried inside. Nothing here prints, keeps a lock, allocates (but
 *            for a list of threads in /proc) or touches shared memory (the futex calls hand the kernel a lock word's address).
 *            No call is a cancellation point, and no descriptor that is given out is 0, 1 or 2.
 * NOT        Policy. Which errno becomes which SHF_ERR_* is the caller's affair.
 *
 * FAULTS     With SHF_FAULTS each call that can fail first asks shf__os_fault("os_name"): a test, which defines
 *            it, fails the k-th call, or every call of one name. os_close closes before it reports a fault, as the
 *            kernel does: a fault must not look like a leak.
 * CRASH      With SHF_CRASH_POINTS shf__crash_point() counts the shared stores of this process and ends it by
 *            SIGKILL just before store number shf__crash_at: nothing is flushed, no handler runs.
 *
 * FORK WORD  os_wipe_on_fork_word() is one private page for the process, MADV_WIPEONFORK, its first word random and
 *            never 0. A child, of fork or of a raw clone without CLONE_VM, finds 0 there: the registry then stores a
 *            new id. Made once: map, advise, fill, then
 *    W1 release  CAS of the pointer from NULL; a loser unmaps its own page and takes the winner's.
 *    W2 acquire  load of the pointer, pairs with W1: the word is filled.
 *            No mutex: a fork in the middle leaves the child a NULL pointer (and a page nobody uses), or the page.
 *
 * PROOF      csrc/tests/validate_os.c (files, locks, fork word), csrc/tests/faults_region.c
 */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* Newer than some of the headers we build with. */
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

#define OS_PAGE 4096u

#ifdef SHF_FAULTS
#define FAULT(call)                                                                                                    \
    do {                                                                                                               \
        int fault__ = shf__os_fault(call);                                                                             \
        if (fault__ != 0) return -fault__;                                                                             \
    } while (0)
#else
#define FAULT(call) ((void)0)
#endif

#define RETRY(result, call)                                                                                            \
    do {                                                                                                               \
        (result) = (call);                                                                                             \
    } while ((result) == -1 && errno == EINTR)

#ifdef SHF_CRASH_POINTS
uint64_t shf__crash_count;
uint64_t shf__crash_at;
void (*shf__crash_hook)(const void *site);

void shf__crash_point(void) {
    uint64_t count = __atomic_add_fetch(&shf__crash_count, 1, __ATOMIC_RELAXED);
    if (SHF_UNLIKELY(shf__crash_hook != NULL)) shf__crash_hook(__builtin_return_address(0));
    if (SHF_UNLIKELY(count == __atomic_load_n(&shf__crash_at, __ATOMIC_RELAXED))) {
        kill(getpid(), SIGKILL);
        for (;;) pause(); /* the signal may take effect a moment later */
    }
}
#endif

/* A thread that is cancelled (pthread_cancel) in a system call would leave what it holds, byte R or the grow lock, held by
 * a process that lives: so no call of the engine is a cancellation point. */
static int cancel_off(void) {
    int before = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}
static void cancel_back(const int *before) {
    int unused;
    (void)pthread_setcancelstate(*before, &unused);
}
#define NOT_CANCELLED __attribute__((cleanup(cancel_back), unused)) int cancel_state__ = cancel_off()

/* ---- files -------------------------------------------------------------------------------------------- */

/* In a process that has closed its standard streams a new descriptor is 0, 1 or 2, and whoever prints then prints over the
 * file: moved out of their way. Takes what open returned. */
static int above_streams(int fd) {
    int higher;
    if (fd < 0) return -errno;
    if (fd > STDERR_FILENO) return fd;
    higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (higher < 0) higher = -errno;
    close(fd);
    return higher;
}

int os_open(const char *path, int flags, unsigned mode) {
    int fd;
    FAULT("os_open");
    NOT_CANCELLED;
    RETRY(fd, open(path, flags | O_CLOEXEC, (mode_t)mode));
    return above_streams(fd);
}

static void proc_fd_path(int fd, char out[32]) { snprintf(out, 32, "/proc/self/fd/%d", fd); }

int os_open_fd(int fd, int flags) {
    char link[32];
    int copy;
    FAULT("os_open_fd");
    NOT_CANCELLED;
    proc_fd_path(fd, link);
    RETRY(copy, open(link, flags | O_CLOEXEC));
    return above_streams(copy);
}

int os_close(int fd) {
    NOT_CANCELLED;
    int rc = close(fd) < 0 && errno != EINTR ? -errno : 0; /* Linux: the descriptor is gone whatever it says */
    FAULT("os_close");
    return rc;
}

int os_dup(int fd) {
    int copy;
    FAULT("os_dup");
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

int os_fd_flags(int fd) {
    int flags;
    FAULT("os_fd_flags");
    flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : flags & O_ACCMODE;
}

int os_fd_path(int fd, char *buf, size_t cap) {
    char link[32];
    ssize_t n;
    FAULT("os_fd_path");
    if (cap == 0) return -EINVAL;
    proc_fd_path(fd, link);
    n = readlink(link, buf, cap - 1);
    if (n < 0) return -errno;
    buf[n] = 0;
    return (int)n;
}

static int stat_out(int rc, const struct stat *from, struct os_stat *st) {
    if (rc < 0) return -errno;
    st->dev = (uint64_t)from->st_dev;
    st->ino = (uint64_t)from->st_ino;
    st->size = from->st_size < 0 ? 0 : (uint64_t)from->st_size;
    st->blocks = from->st_blocks < 0 ? 0 : (uint64_t)from->st_blocks;
    st->mode = (uint32_t)from->st_mode;
    st->nlink = from->st_nlink > UINT32_MAX ? UINT32_MAX : (uint32_t)from->st_nlink;
    st->uid = (uint32_t)from->st_uid;
    st->gid = (uint32_t)from->st_gid;
    return 0;
}

int os_fstat(int fd, struct os_stat *st) {
    struct stat s;
    FAULT("os_fstat");
    return stat_out(fstat(fd, &s), &s, st);
}

int os_stat(const char *path, struct os_stat *st) {
    struct stat s;
    FAULT("os_stat");
    return stat_out(lstat(path, &s), &s, st);
}

int os_fs_type(int fd, uint64_t *magic) {
    struct statfs s;
    int rc;
    FAULT("os_fs_type");
    RETRY(rc, fstatfs(fd, &s));
    if (rc < 0) return -errno;
    *magic = (uint32_t)s.f_type;
    return 0;
}

int os_fallocate(int fd, uint64_t offset, uint64_t length) {
    uint64_t piece = length;
    FAULT("os_fallocate");
    if (offset > INT64_MAX || length > INT64_MAX - offset) return -EFBIG;
    NOT_CANCELLED;
    while (length != 0) { /* tmpfs (before 6.18) throws away what a signal interrupts: smaller pieces get done */
        if (piece > length) piece = length;
        if (fallocate(fd, 0, (off_t)offset, (off_t)piece) == 0) offset += piece, length -= piece;
        else if (errno != EINTR) return -errno;
        else if (piece > 16 * OS_PAGE) piece = piece / 2 / OS_PAGE * OS_PAGE;
    }
    return 0;
}

int os_ftruncate(int fd, uint64_t length) {
    int rc;
    FAULT("os_ftruncate");
    if (length > INT64_MAX) return -EFBIG;
    RETRY(rc, ftruncate(fd, (off_t)length));
    return rc < 0 ? -errno : 0;
}

uint64_t os_file_size_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
    return (uint64_t)limit.rlim_cur;
}

int os_tmpfile(const char *directory, unsigned mode) {
    int fd;
    FAULT("os_tmpfile");
    NOT_CANCELLED;
    RETRY(fd, open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)mode));
    return above_streams(fd);
}

int os_link_fd(int fd, const char *path) {
    char link[32];
    FAULT("os_link_fd");
    proc_fd_path(fd, link);
    if (linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return 0;
    if (errno != ENOENT) return -errno;
    /* No /proc, or no such folder; the second call needs no /proc but a privilege, and tells the two apart. */
    if (linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH) == 0) return 0;
    return -errno;
}

int os_rename_noreplace(const char *from, const char *to) {
    FAULT("os_rename_noreplace");
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
    return -errno;
}

int os_unlink(const char *path) {
    FAULT("os_unlink");
    return unlink(path) < 0 ? -errno : 0;
}

int os_fchmod(int fd, unsigned mode) {
    int rc;
    FAULT("os_fchmod");
    RETRY(rc, fchmod(fd, (mode_t)mode));
    return rc < 0 ? -errno : 0;
}

int os_fsync(int fd) {
    int rc;
    FAULT("os_fsync");
    NOT_CANCELLED;
    RETRY(rc, fsync(fd));
    return rc < 0 ? -errno : 0;
}

int os_pread(int fd, void *buf, size_t n, uint64_t offset) {
    unsigned char *to = buf;
    size_t done = 0;
    FAULT("os_pread");
    NOT_CANCELLED;
    if (n > INT_MAX || offset > INT64_MAX - (uint64_t)n) return -EINVAL;
    while (done < n) {
        ssize_t got;
        RETRY(got, pread(fd, to + done, n - done, (off_t)(offset + done)));
        if (got < 0) return -errno;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (int)done;
}

int os_memfd(const char *name) {
    int fd;
    FAULT("os_memfd");
    NOT_CANCELLED;
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); /* before 6.3 */
    return above_streams(fd);
}

int os_seal(int fd, int seals) {
    FAULT("os_seal");
    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int os_seals(int fd) {
    int seals;
    FAULT("os_seals");
    seals = fcntl(fd, F_GET_SEALS);
    return seals < 0 ? -errno : seals;
}

/* ---- memory ------------------------------------------------------------------------------------------- */

/* An address for the kernel to begin at, so that file offsets and addresses agree modulo OS_HUGE_PAGE: without that no
 * huge page can be mapped. Found by mapping nothing, a little longer, and giving it back. Only a hint, so if another
 * thread comes in between, it keeps what it got. NULL: wherever. */
static void *aligned_place(size_t length) {
    size_t more = length + OS_HUGE_PAGE - OS_PAGE;
    unsigned char *p;
    if (length < OS_HUGE_PAGE || more < length) return NULL;
    p = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL; /* RLIMIT_AS; the file alone may fit */
    if (munmap(p, more) < 0) return NULL;
    return p + (0 - (uintptr_t)p) % OS_HUGE_PAGE;
}

int os_map(int fd, size_t length, int writable, void **base) {
    void *p;
    FAULT("os_map");
    p = mmap(aligned_place(length), length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) return -errno;
    (void)madvise(p, length, MADV_DONTDUMP); /* advice: a core file of 2 TiB helps nobody */
    *base = p;
    return 0;
}

int os_unmap(void *base, size_t length) {
    int rc = munmap(base, length) < 0 ? -errno : 0;
    FAULT("os_unmap"); /* as in os_close */
    return rc;
}

int os_populate_write(void *base, size_t length) {
    int rc;
    FAULT("os_populate_write");
    RETRY(rc, madvise(base, length, MADV_POPULATE_WRITE));
    return rc < 0 ? -errno : 0;
}

int os_collapse(void *base, size_t length) {
    int rc;
    FAULT("os_collapse");
    if (sysconf(_SC_PAGESIZE) != OS_PAGE) return -EINVAL; /* another size of huge pages: less would be done than asked */
    RETRY(rc, madvise(base, length, MADV_COLLAPSE));
    return rc < 0 ? -errno : 0;
}

int os_msync(void *base, size_t length) {
    int rc;
    FAULT("os_msync");
    NOT_CANCELLED;
    RETRY(rc, msync(base, length, MS_SYNC));
    return rc < 0 ? -errno : 0;
}

shf_au64 *os_wipe_on_fork_word(void) {
    static shf_au64 *_Atomic only;
    shf_au64 *word = atomic_load_explicit(&only, memory_order_acquire); /* W2 */
    shf_au64 *none = NULL;
    uint64_t id = 0;
    void *page;

    if (word != NULL) return word;
#ifdef SHF_FAULTS
    if (shf__os_fault("os_wipe_on_fork_word") != 0) return NULL;
#endif
    page = mmap(NULL, OS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    if (madvise(page, OS_PAGE, MADV_WIPEONFORK) < 0 || os_random(&id, sizeof id) < 0) {
        munmap(page, OS_PAGE);
        return NULL;
    }
    word = page;
    atomic_store_explicit(word, id == 0 ? 1 : id, memory_order_relaxed);
    if (atomic_compare_exchange_strong_explicit(&only, &none, word, memory_order_acq_rel, /* W1 */
                                                memory_order_acquire))
        return word;
    munmap(page, OS_PAGE);
    return none;
}

/* ---- open file description locks ---------------------------------------------------------------------- */

/* l_pid must be 0; the description, not the process, owns the lock. */
static int ofd_call(int fd, int command, short type, uint64_t byte, struct flock *lock) {
    int rc;
    memset(lock, 0, sizeof *lock);
    lock->l_type = type;
    lock->l_whence = SEEK_SET;
    lock->l_start = (off_t)byte;
    lock->l_len = 1;
    RETRY(rc, fcntl(fd, command, lock));
    if (rc == 0) return 0;
    return errno == EACCES ? -EAGAIN : -errno; /* POSIX allows either for "somebody has it" */
}

int os_ofd_lock(int fd, uint64_t byte) {
    struct flock lock;
    FAULT("os_ofd_lock");
    return ofd_call(fd, F_OFD_SETLK, F_WRLCK, byte, &lock);
}

int os_ofd_unlock(int fd, uint64_t byte) {
    struct flock lock;
    FAULT("os_ofd_unlock");
    return ofd_call(fd, F_OFD_SETLK, F_UNLCK, byte, &lock);
}

int os_ofd_probe(int fd, uint64_t byte) {
    struct flock lock;
    int rc;
    FAULT("os_ofd_probe");
    rc = ofd_call(fd, F_OFD_GETLK, F_RDLCK, byte, &lock); /* a read lock of somebody does not conflict */
    return rc < 0 ? rc : lock.l_type != F_UNLCK;
}

/* ---- waiting and time --------------------------------------------------------------------------------- */

int os_futex_wait(shf_au32 *word, uint32_t value, uint64_t timeout_ns) {
    struct timespec limit = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    FAULT("os_futex_wait");
    /* Not FUTEX_PRIVATE: the waker is another process. */
    if (syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns == UINT64_MAX ? NULL : &limit, NULL, 0) == 0) return 0;
    return errno == EINTR ? 0 : -errno;
}

int os_futex_wake(shf_au32 *word, int count) {
    long woken;
    FAULT("os_futex_wake");
    woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return woken < 0 ? -errno : (int)woken;
}

uint64_t os_now_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0; /* vdso: no system call */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t os_now_coarse_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC_COARSE, &now) != 0) return 0; /* vdso: no system call */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void os_sleep_ns(uint64_t ns) {
    struct timespec left = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    NOT_CANCELLED;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {}
}

void os_yield(void) { sched_yield(); }

/* ---- the machine and the process ---------------------------------------------------------------------- */

int os_random(void *buf, size_t n) {
    unsigned char *to = buf;
    size_t done = 0;
    FAULT("os_random");
    NOT_CANCELLED;
    while (done < n) {
        ssize_t got;
        RETRY(got, getrandom(to + done, n - done, 0));
        if (got < 0) return -errno;
        done += (size_t)got;
    }
    return 0;
}

/* What a file of /proc says, at most cap - 1 bytes, 0-terminated; their number. */
static int proc_text(const char *path, char *text, size_t cap) {
    int fd, got;
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0) return -errno;
    got = os_pread(fd, text, cap - 1, 0);
    close(fd);
    if (got >= 0) text[got] = 0;
    return got;
}

int os_boot_id(uint64_t id[2]) {
    char text[64];
    uint64_t words[2] = {0, 0};
    unsigned digits = 0;
    int got;
    FAULT("os_boot_id");
    NOT_CANCELLED;
    got = proc_text("/proc/sys/kernel/random/boot_id", text, sizeof text);
    if (got < 0) return got;
    for (int i = 0; i < got && digits < 32; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            continue;
        words[digits / 16] = words[digits / 16] << 4 | digit;
        digits++;
    }
    if (digits < 32) return -EINVAL;
    id[0] = words[0], id[1] = words[1];
    return 0;
}

uint64_t os_ram_bytes(void) {
    struct sysinfo info;
    if (sysinfo(&info) < 0) return 0;
    return (uint64_t)info.totalram * info.mem_unit;
}

uint32_t os_pid(void) { return (uint32_t)getpid(); }

uint32_t os_euid(void) { return (uint32_t)geteuid(); }

void os_process_name(char name[16]) {
    const char *full = program_invocation_short_name;
    memset(name, 0, 16);
    for (int i = 0; full != NULL && i < 15 && full[i] != 0; i++) name[i] = full[i];
}

/* The start time and number of threads in /proc/PID/stat: fields 22 and 20, counted from behind the name, which may
 * hold any character. */
static int proc_stat(uint32_t pid, uint64_t *start, uint64_t *threads) {
    char path[40], text[1024], *at;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int got = proc_text(path, text, sizeof text);
    if (got < 0) return got;
    at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 20; field++) at = strchr(at + 1, ' ');
    if (at == NULL) return -EINVAL;
    *threads = strtoull(at, &at, 10);
    (void)strtoull(at, &at, 10);
    *start = strtoull(at, &at, 10);
    return *start != 0 && *threads != 0 ? 0 : -EINVAL;
}
int os_process_start(uint32_t pid, uint64_t *start) {
    uint64_t threads;
    FAULT("os_process_start");
    NOT_CANCELLED;
    return proc_stat(pid, start, &threads);
}

int os_pid_namespace(uint64_t *id) {
    char text[16384], *line, *end; /* NSpid stands behind the list of groups */
    struct stat st;
    FAULT("os_pid_namespace");
    NOT_CANCELLED;
    int got = proc_text("/proc/self/status", text, sizeof text);
    if (got < 0) return got;
    line = strstr(text, "\nNSpid:"); /* our pid in the namespace of /proc, and in each one inside of it down to ours */
    if (line == NULL) return -ENOENT;
    (void)strtoul(line + 7, &end, 10);
    if (*end != '\n') return -ENOENT;
    if (stat("/proc/self/ns/pid", &st) < 0) return -errno;
    *id = st.st_ino;
    return 0;
}

/* 1 if the thread is there and has no address space, as its sizes in pages are all 0 (exit_mm of the kernel's do_exit: a
 * thread never gets one again). */
static int thread_is_over(const char *task, uint64_t tid) {
    char path[80], text[128];
    snprintf(path, sizeof path, "%s/%llu/statm", task, (unsigned long long)tid);
    int got = proc_text(path, text, sizeof text);
    return got > 0 && strspn(text, "0 \n") == (size_t)got;
}
/* The threads are listed, all found over; the number of them is read; then all must still be there. As a thread that was
 * gone does not come back, the list held all of them when the number was read, and none of them can make another. */
int os_process_is_over(uint32_t pid, uint64_t start) {
    enum { MOST = 512 };
    char task[32];
    uint64_t tids[MOST], started, threads;
    size_t n = 0;
    int over = 1;
    FAULT("os_process_is_over");
    NOT_CANCELLED;
    snprintf(task, sizeof task, "/proc/%u/task", pid);
    if (!thread_is_over(task, pid)) return 0; /* nearly always: no need to look at more */
    DIR *d = opendir(task);
    if (d == NULL) return 0;
    for (struct dirent *e; over && (e = readdir(d)) != NULL;) {
        uint64_t tid = strtoull(e->d_name, NULL, 10);
        if (tid == 0) continue; /* . and .. */
        over = n < MOST && thread_is_over(task, tid);
        if (over) tids[n++] = tid;
    }
    closedir(d);
    over = over && proc_stat(pid, &started, &threads) == 0 && started == start && threads == n;
    for (size_t i = 0; over && i < n; i++) over = thread_is_over(task, tids[i]);
    return over;
}

int os_event(void) {
    FAULT("os_event");
    return above_streams(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int os_event_signal(int fd) {
    uint64_t one = 1;
    FAULT("os_event_signal");
    NOT_CANCELLED;
    return write(fd, &one, sizeof one) < 0 && errno != EAGAIN ? -errno : 0; /* EAGAIN: it has been readable for 2^64 times */
}

int os_event_clear(int fd) {
    uint64_t count;
    FAULT("os_event_clear");
    NOT_CANCELLED;
    return read(fd, &count, sizeof count) < 0 && errno != EAGAIN ? -errno : 0;
}

/* It starts with all signals blocked: they are the program's, whose threads expect them. */
int os_thread_start(struct os_thread *thread, void *(*run)(void *), void *context) {
    sigset_t all, before;
    pthread_t id;
    int rc;
    FAULT("os_thread_start");
    sigfillset(&all);
    if ((rc = pthread_sigmask(SIG_SETMASK, &all, &before)) != 0) return -rc;
    rc = pthread_create(&id, NULL, run, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread->id = (uint64_t)id;
    return -rc;
}

void os_thread_join(struct os_thread *thread) {
    NOT_CANCELLED;
    (void)pthread_join((pthread_t)thread->id, NULL);
}

int os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    FAULT("os_at_fork");
    return -pthread_atfork(before, parent, child);
}
