/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * os.h - every system call of the engine, and nothing else makes one
 *
 * Calls return >= 0, or -errno; EINTR is retried inside. No call prints or touches shared memory, but for
 * os_futex_* which look at a lock word. With SHF_FAULTS each call first asks shf__os_fault(), which lets a test
 * fail the k-th system call; with SHF_CRASH_POINTS shf__crash_point() lives here too.
 */
#ifndef SHF_OS_H
#define SHF_OS_H

#include "atomic.h"

#include <sys/types.h>

struct os_stat {
    uint64_t dev, ino, size, blocks; /* blocks of 512 bytes */
    uint32_t mode, nlink, uid, gid;
};

/* files */
int os_open(const char *path, int flags, unsigned mode); /* O_CLOEXEC is added */
int os_open_fd(int fd, int flags);       /* a new open file description of the same file, through /proc/self/fd */
int os_close(int fd);
int os_dup(int fd);                      /* F_DUPFD_CLOEXEC, 3 and up */
int os_fd_flags(int fd);                 /* O_ACCMODE bits */
int os_fd_path(int fd, char *buf, size_t cap); /* what /proc/self/fd says the name is, 0-terminated; its length */
int os_fstat(int fd, struct os_stat *st);
int os_stat(const char *path, struct os_stat *st);  /* lstat */
int os_fs_type(int fd, uint64_t *magic);            /* statfs f_type */
int os_fallocate(int fd, uint64_t offset, uint64_t length);
int os_ftruncate(int fd, uint64_t length);
uint64_t os_file_size_limit(void);                  /* RLIMIT_FSIZE; UINT64_MAX = none */
int os_tmpfile(const char *directory, unsigned mode); /* O_TMPFILE; -EOPNOTSUPP, -EISDIR... if it cannot */
int os_link_fd(int fd, const char *path);           /* linkat through /proc/self/fd; -EEXIST */
int os_rename_noreplace(const char *from, const char *to);
int os_unlink(const char *path);
int os_fchmod(int fd, unsigned mode);
int os_fsync(int fd);                               /* the whole file, whoever wrote it; nothing on tmpfs */
int os_pread(int fd, void *buf, size_t n, uint64_t offset);   /* bytes read */
int os_memfd(const char *name);                     /* CLOEXEC | ALLOW_SEALING (| NOEXEC_SEAL where known) */
int os_seal(int fd, int seals);
int os_seals(int fd);                               /* F_GET_SEALS; -EINVAL if not a memfd */

/* memory */
#define OS_HUGE_PAGE ((size_t)2 << 20)
/* MAP_SHARED | MAP_NORESERVE, DONTDUMP advised. From OS_HUGE_PAGE on at a multiple of it, if that can be had. */
int os_map(int fd, size_t length, int writable, void **base);
int os_unmap(void *base, size_t length);
int os_populate_write(void *base, size_t length);   /* MADV_POPULATE_WRITE */
/* MADV_COLLAPSE of whole huge pages. 0: all of it lies in huge pages now, and is mapped so here. -EAGAIN: somebody
 * held a page; -ENOMEM, -EBUSY (control group): no huge page to be had; -EINVAL: not on this kernel, file system or
 * memory. */
int os_collapse(void *base, size_t length);
int os_msync(void *base, size_t length);            /* MS_SYNC */
shf_au64 *os_wipe_on_fork_word(void);               /* a private word that the kernel zeroes in a forked child; NULL */

/* open file description locks on one byte; never block */
int os_ofd_lock(int fd, uint64_t byte);             /* write lock; -EAGAIN if somebody has it */
int os_ofd_unlock(int fd, uint64_t byte);
int os_ofd_probe(int fd, uint64_t byte);            /* would a READ lock conflict: 1 = write-locked by another description, 0 = not */

/* waiting and time */
int os_futex_wait(shf_au32 *word, uint32_t value, uint64_t timeout_ns); /* 0, -EAGAIN, -ETIMEDOUT, -EINTR -> 0 */
int os_futex_wake(shf_au32 *word, int count);
uint64_t os_now_ns(void);                           /* CLOCK_MONOTONIC */
uint64_t os_now_coarse_ns(void);                    /* the same clock, some milliseconds late, in a quarter of the time */
void os_sleep_ns(uint64_t ns);
void os_yield(void);

/* an eventfd, not blocking, close on exec; a counter that is not 0 makes it readable */
int os_event(void);
int os_event_signal(int fd);
int os_event_clear(int fd);
/* A thread that takes no signals. */
struct os_thread {
    uint64_t id; /* pthread_t */
};
int os_thread_start(struct os_thread *thread, void *(*run)(void *), void *context);
void os_thread_join(struct os_thread *thread);

/* the machine and the process */
int os_random(void *buf, size_t n);
int os_boot_id(uint64_t id[2]);
uint64_t os_ram_bytes(void);
uint32_t os_pid(void);
uint32_t os_euid(void);
void os_process_name(char name[16]);
/* When a process started (clock ticks since the boot), by /proc. It and the pid name one process of a pid namespace. */
int os_process_start(uint32_t pid, uint64_t *start);
/* Which pid namespace we and /proc are in; -ENOENT if /proc shows another one's, or there is none. */
int os_pid_namespace(uint64_t *id);
/* 1 if no thread of that process will ever run the program's code again: each has given up its address space. 0 if one
 * may, if there are more than 512, or if that cannot be seen. Its files may still be open: the kernel takes down the memory first. */
int os_process_is_over(uint32_t pid, uint64_t start);
int os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)); /* pthread_atfork */

#ifdef SHF_FAULTS
int shf__os_fault(const char *call);                /* defined by the test: 0, or the errno to fail with */
#endif
#ifdef SHF_CRASH_POINTS
extern uint64_t shf__crash_count;                   /* shared stores so far in this process */
extern uint64_t shf__crash_at;                      /* die (SIGKILL) just before this one; 0 = never */
extern void (*shf__crash_hook)(const void *site);   /* asked before each store, with its place in the code; or NULL */
#endif

#endif
