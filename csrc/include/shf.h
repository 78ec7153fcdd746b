/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * shf.h - hash tables shared between processes, at memory speed, without a server
 *
 * A table is one file, on tmpfs (/dev/shm) or on a local file system, or an anonymous memory file. Any
 * number of processes (C, C++, Rust) open it and work on it at the same time. Any of them may be killed at
 * any instant: the others go on at once, and no acknowledged operation is lost.
 *
 * RETURN CODES   SHF_OK (0), a positive outcome (SHF_NOT_FOUND, SHF_EXISTS, SHF_TRUNCATED, SHF_UNCHANGED,
 *                SHF_STOPPED), or a negative error SHF_ERR_*. The numbers are pinned and never reused.
 *                shf_last_error() tells more about this thread's last error. Nothing here prints, exits
 *                or aborts.
 * OUTPUTS        go through pointers, and are left alone on an error. A *buffer's* content is unspecified
 *                unless the call returned SHF_OK. SHF_TRUNCATED: the buffer was too small, the full length
 *                is reported, and nothing was changed.
 * THREADS        Every function taking a `struct shf_table *` may be called from any thread, concurrently;
 *                only shf_table_close must be the last call. The handle has no thread-local state.
 * FORK           The child may use its copies of the handles; each registers anew at its first change, or
 *                gives SHF_ERR_FORKED if it cannot. A vfork child must not touch them.
 * DEATH          A process may die inside any call, by any signal. The operation has then happened as a
 *                whole or not at all. A stopped (SIGSTOP) process that holds a lock keeps it: others get
 *                SHF_ERR_TIMEOUT at their deadline.
 * SIGNALS        Do not call shf from a signal handler.
 * LIMITS         Key + value at most 2^32 - 1 bytes together; 1,023 handles that can write per file; any
 *                number of read-only ones; 2 TiB a file.
 * COST           get: no store to shared memory, no lock, no system call. Changes: one lock of 256, one
 *                or two cache lines written beside the data.
 */
#ifndef SHF_H
#define SHF_H

#include <stddef.h>
#include <stdint.h>

#define SHF_VERSION_MAJOR 0
#define SHF_VERSION_MINOR 1
#define SHF_VERSION_PATCH 0

#if defined(__GNUC__)
#define SHF_API __attribute__((visibility("default")))
#else
#define SHF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- outcomes and errors ------------------------------------------------------------------------------ */

#define SHF_OK 0
#define SHF_NOT_FOUND 1 /* no such key or UID; an empty queue; the end of an iteration */
#define SHF_EXISTS 2    /* insert: the key was there, its value is unchanged */
#define SHF_TRUNCATED 3 /* the buffer was too small: nothing changed, the full length is reported */
#define SHF_UNCHANGED 4 /* compare and swap: the value was not the expected one */
#define SHF_STOPPED 5   /* update: the callback asked to leave the value as it is */

#define SHF_ERR_INVALID (-1)        /* an argument is not legal: NULL, unknown flag, size of a struct */
#define SHF_ERR_EXISTS (-2)         /* create: the path exists already */
#define SHF_ERR_NOT_FOUND (-3)      /* open: there is no such file; there is no such queue */
#define SHF_ERR_READ_ONLY (-4)      /* a change through a read-only handle */
#define SHF_ERR_NO_SPACE (-5)       /* file system full, max_bytes or RLIMIT_FSIZE reached; nothing changed */
#define SHF_ERR_FULL (-6)           /* the index has no room for this key (its part of the hash space is full) */
#define SHF_ERR_TOO_LONG (-7)       /* key + value beyond 2^32 - 1 bytes; fixed lengths beyond 120 together */
#define SHF_ERR_WRONG_LENGTH (-8)   /* a fixed-length table takes only its own lengths */
#define SHF_ERR_NOT_A_COUNTER (-9)  /* add: the value is not 8 bytes long */
#define SHF_ERR_TIMEOUT (-10)       /* a live process kept a lock beyond the deadline (stopped? debugger?) */
#define SHF_ERR_CORRUPT (-11)       /* the file's content breaks the format's rules */
#define SHF_ERR_INCOMPATIBLE (-12)  /* another format, version, kind or machine, or other creation options */
#define SHF_ERR_UNCLEAN (-13)       /* the machine or the file's storage went down, or it is a copy of a live file */
#define SHF_ERR_BUSY (-14)          /* all 1,023 slots taken; or a read-only get could not finish beside writers */
#define SHF_ERR_ADDRESS_SPACE (-15) /* no address space for the mapping (RLIMIT_AS) */
#define SHF_ERR_FORKED (-16)        /* this handle came through fork and could not register again */
#define SHF_ERR_PERMISSION (-17)    /* no right to the file, or it belongs to somebody not trusted */
#define SHF_ERR_INVALID_PATH (-18)  /* not a regular file: folder, symlink, FIFO, device, hard link; or too long */
#define SHF_ERR_IO (-19)            /* a system call failed; see os_error */
#define SHF_ERR_UNSUPPORTED (-20)   /* this kernel or file system cannot do it (NFS, FUSE, no OFD locks) */
#define SHF_ERR_NO_MEMORY (-21)     /* no private memory left for a handle or buffer */
#define SHF_ERR_INVALID_ITEM (-22)  /* a queue's item that this handle does not hold (any more) */

/* What is known about the last error of the calling thread. Valid until this thread's next shf call. */
struct shf_error_info {
    int code;            /* SHF_ERR_*, or 0 if this thread has had no error */
    int os_error;        /* errno of the system call that failed, or 0 */
    const char *place;   /* where in the engine or in the file; never NULL */
    const char *path;    /* the file concerned, or "" */
    const char *message; /* one sentence that names the thing and what to do; never NULL */
};

/* This thread's last error. Never NULL; never fails. */
SHF_API const struct shf_error_info *shf_last_error(void);
/* A short English text for any code, known or not. Never NULL. */
SHF_API const char *shf_strerror(int code);
/* "0.1.0" */
SHF_API const char *shf_version(void);

/* ---- opening and closing ------------------------------------------------------------------------------ */

struct shf_table; /* opaque: one open handle */

#define SHF_CREATE 1u /* create the file if it is not there */
#define SHF_EXCL 2u   /* with SHF_CREATE: SHF_ERR_EXISTS if it is there */
#define SHF_RDONLY 4u /* map read-only and take no slot: this handle cannot change data */

#define SHF_HASH_DEFAULT 0u
#define SHF_HASH_SIPHASH13 1u /* SipHash-1-3 (Aumasson, Bernstein 2012), keyed with the table's seed */
#define SHF_HASH_FOLDED 2u    /* keyed 64x64->128 folded multiplies; the default: twice as fast on short keys */

/* 0 in a field means "not set": the default when creating, the file's own when opening. A set field must
 * agree with the file (SHF_ERR_INCOMPATIBLE names both), but for `mode` and `lock_timeout_ms`. */
struct shf_table_options {
    uint32_t size;            /* sizeof(struct shf_table_options): the struct may grow */
    uint32_t mode;            /* permission bits at creation, whatever the umask; default 0600. When opening a
                               * file of another owner: the group/other write bits that are acceptable */
    uint64_t max_bytes;       /* hard limit of the file; default min(2 TiB, 2 x RAM); rounded up to 4,096 */
    uint32_t fixed_key;       /* every key has exactly this many bytes, at least 1, and every value */
    uint32_t fixed_value;     /* this many; together at most 120. Both 0: variable. Fixed ones lie in the index itself:
                               * one cache line less a get, and for short ones half the memory. The index begins with
                               * 256 segments of 448 keys, as soon as there are some hundred keys: 1 MiB up to 8
                               * bytes together, 2 MiB with 8 + 8, 15 MiB with 120; so it pays for larger tables */
    uint32_t lock_timeout_ms; /* deadline of a lock kept by a live process; default 10,000 */
    uint32_t hash;            /* SHF_HASH_*, fixed at creation */
    uint32_t flags;           /* SHF_OPTION_*, of this handle */
    uint32_t reserved;        /* 0 */
};
#define SHF_TABLE_OPTIONS_INIT {sizeof(struct shf_table_options), 0, 0, 0, 0, 0, 0, 0, 0}
#define SHF_OPTION_HUGE_PAGES 1u /* call shf_table_collapse once when opened; what cannot be is no error */

/* Opens the table at `path` (flags: SHF_CREATE, SHF_EXCL, SHF_RDONLY). `options` may be NULL. Of several
 * processes that create at once one wins and all get the same table; nobody sees half of it. A few system
 * calls, under a millisecond whatever the size. Errors: most of the list above; the message names the path. An
 * error after the file was made (no descriptor left, say) leaves a whole, empty table at the path. */
SHF_API int shf_table_open(const char *path, unsigned flags, const struct shf_table_options *options,
                           struct shf_table **table);
/* A table in an anonymous memory file (memfd) that vanishes with its last user. `name` shows in /proc only.
 * Pass shf_table_fd() on (fork, SCM_RIGHTS, /proc/PID/fd) and use shf_table_from_fd() there. */
SHF_API int shf_table_anonymous(const char *name, const struct shf_table_options *options,
                                struct shf_table **table);
/* Opens the table behind a descriptor (a duplicate is taken: the caller keeps `fd`). A memory file must be
 * sealed against shrinking; an O_RDONLY descriptor gives a read-only table. */
SHF_API int shf_table_from_fd(int fd, const struct shf_table_options *options, struct shf_table **table);
/* The handle's file descriptor, borrowed: valid while the handle is open. */
SHF_API int shf_table_fd(const struct shf_table *table);
/* Closes the handle. NULL is legal. The last call on it. Never fails; waits for the disk, if it is the last one, and 0.2 s at
 * most for processes that are just opening. */
SHF_API void shf_table_close(struct shf_table *table);
/* Removes the name `path`; processes that have the table open keep it. SHF_ERR_NOT_FOUND, _INVALID_PATH (not
 * a shf file), _PERMISSION, _IO. */
SHF_API int shf_unlink(const char *path);
/* The path given to open ("memfd:NAME" for anonymous tables). Valid while the handle is open. */
SHF_API const char *shf_table_path(const struct shf_table *table);
/* 1 if the handle is read-only. */
SHF_API int shf_table_is_read_only(const struct shf_table *table);
/* The options in force, all fields set (fixed_* stay 0 for variable length). options->size must be set. */
SHF_API int shf_table_options(const struct shf_table *table, struct shf_table_options *options);

/* ---- by key ------------------------------------------------------------------------------------------- */
/* Keys and values are any bytes, empty ones included (a pointer may be NULL if its length is 0). `uid` may
 * be NULL everywhere. Every operation is atomic: readers and survivors of a death see it whole or not at
 * all. Changes may return SHF_ERR_READ_ONLY, _TIMEOUT, _CORRUPT, _FORKED, _IO, and those that need room
 * SHF_ERR_NO_SPACE, _FULL, _TOO_LONG, _ADDRESS_SPACE; nothing was changed then. Reads may return SHF_ERR_CORRUPT,
 * _NO_MEMORY, _IO and _ADDRESS_SPACE (what others have added cannot be seen), SHF_ERR_BUSY (a read-only handle) or
 * _TIMEOUT (another) if writers disturb them for long. */

/* Sets the value, whether or not the key is there. The UID of a key does not change while the key lives. */
SHF_API int shf_table_put(struct shf_table *table, const void *key, size_t klen, const void *val, size_t vlen,
                          uint32_t *uid);
/* Only if the key is absent; else SHF_EXISTS (and the UID of the key that is there). */
SHF_API int shf_table_insert(struct shf_table *table, const void *key, size_t klen, const void *val,
                             size_t vlen, uint32_t *uid);
/* Only if the key is present, else SHF_NOT_FOUND. The old value goes to old/cap/old_len (old_len may be NULL
 * with cap 0: the old value is not wanted). SHF_TRUNCATED: it did not fit, nothing changed. */
SHF_API int shf_table_replace(struct shf_table *table, const void *key, size_t klen, const void *val,
                              size_t vlen, void *old, size_t cap, size_t *old_len);
/* Copies the value out; *vlen = its full length. SHF_NOT_FOUND, SHF_TRUNCATED if cap is less. */
SHF_API int shf_table_get(struct shf_table *table, const void *key, size_t klen, void *buf, size_t cap,
                          size_t *vlen);
/* SHF_OK if the key is there, else SHF_NOT_FOUND. */
SHF_API int shf_table_contains(struct shf_table *table, const void *key, size_t klen);
/* Removes the key: SHF_OK or SHF_NOT_FOUND. Needs no space. */
SHF_API int shf_table_del(struct shf_table *table, const void *key, size_t klen);
/* Removes the key and copies its value out, atomically. SHF_TRUNCATED: did not fit, nothing changed. */
SHF_API int shf_table_take(struct shf_table *table, const void *key, size_t klen, void *buf, size_t cap,
                           size_t *vlen);
/* Removes the key if its value is exactly val: SHF_OK, SHF_UNCHANGED (another value) or SHF_NOT_FOUND. */
SHF_API int shf_table_del_if_equal(struct shf_table *table, const void *key, size_t klen, const void *val,
                                   size_t vlen);
/* Adds to an 8-byte little-endian integer, wrapping; an absent key is created at 0 first. *previous (may be
 * NULL) is the value before. SHF_ERR_NOT_A_COUNTER if the value is not 8 bytes long. */
SHF_API int shf_table_add(struct shf_table *table, const void *key, size_t klen, int64_t delta,
                          int64_t *previous);

/* A value for shf_table_cas: data == SHF_ABSENT stands for "the key is not there". */
struct shf_bytes {
    const void *data;
    size_t len;
};
/* The address that means absent, in struct shf_bytes. (NULL with len 0 is an empty value.) */
SHF_API extern const char shf_absent[1];
#define SHF_ABSENT ((const void *)shf_absent)

/* Compare and swap: if the present value (or absence) equals *expected, makes it *desired (or absent) and
 * returns SHF_OK; else SHF_UNCHANGED, and the present value goes to buf/cap: *vlen is its full length, or
 * SIZE_MAX if the key is absent. vlen may be NULL with cap 0. A value longer than cap is cut off (*vlen says). */
SHF_API int shf_table_cas(struct shf_table *table, const void *key, size_t klen,
                          const struct shf_bytes *expected, const struct shf_bytes *desired, void *buf,
                          size_t cap, size_t *vlen);

/* The callback of shf_table_update. `old` is a private copy of the value (old->data == SHF_ABSENT: the key is
 * not there). It sets *desired (SHF_ABSENT: remove) and returns 0; the bytes must stay valid until it is called
 * again or the update returns. Any other return stops the update, nothing changed. */
typedef int shf_update_fn(void *context, const struct shf_bytes *old, struct shf_bytes *desired);
/* Atomic read-modify-write of any size. The callback runs without a lock: it may take long, call this table,
 * or leave by longjmp or an exception of the caller's language only after this call has returned. If somebody
 * changed the value meanwhile it is called again. SHF_OK (uid set if a value is there now, else 0);
 * SHF_STOPPED if the callback returned non-zero. */
SHF_API int shf_table_update(struct shf_table *table, const void *key, size_t klen, shf_update_fn *fn,
                             void *context, uint32_t *uid);

/* ---- many keys at once -------------------------------------------------------------------------------- */
/* One call for many keys asks the memory for all of them at once, 16 at a time: two to four times the rate of
 * single calls on a table that is larger than the caches. Any n is legal, 0 too. Each key is an operation of its
 * own, atomic as the single call; the batch is not. Changes happen in order: a key that comes twice is treated as
 * if by two calls. Gets look at each key at a moment of its own, in no particular order. A bad key (NULL with a
 * length; fixed lengths: another one) is an error at its place: what comes before it is done. */

/* Where a value goes. code: SHF_OK; SHF_NOT_FOUND (len 0); SHF_TRUNCATED (len: the full length). */
struct shf_value {
    void *data; /* set by the caller: a buffer of cap bytes */
    size_t cap;
    size_t len; /* set by the call */
    int code;
};
/* A key and its value, to be put. */
struct shf_pair {
    struct shf_bytes key, value;
};
#define SHF_NO_VALUE SIZE_MAX /* in lens: the key is absent */

/* Values of keys[0..n) into out[0..n), each into its own buffer. SHF_OK; or the first error: the outs from that
 * key on are not set. */
SHF_API int shf_table_get_many(struct shf_table *table, size_t n, const struct shf_bytes *keys,
                               struct shf_value *out);
/* The same into one buffer, one value behind the other without gaps; lens[i] = its length or SHF_NO_VALUE.
 * SHF_OK: all n. SHF_TRUNCATED: the value of key *done (lens[*done] bytes) did not fit any more; the *done
 * values before it are there: go on from that key with another buffer. An error: *done keys were answered.
 * `done` must not be NULL, and is set whatever the outcome. */
SHF_API int shf_table_get_many_packed(struct shf_table *table, size_t n, const struct shf_bytes *keys, void *buf,
                                      size_t cap, size_t *lens, size_t *done);
/* The same by UID; plain UIDs, 0 is never found. */
SHF_API int shf_table_get_many_by_uid(struct shf_table *table, size_t n, const uint32_t *uids,
                                      struct shf_value *out);
SHF_API int shf_table_get_many_by_uid_packed(struct shf_table *table, size_t n, const uint32_t *uids, void *buf,
                                             size_t cap, size_t *lens, size_t *done);
/* By checked UID. */
SHF_API int shf_table_get_many_by_checked_uid_packed(struct shf_table *table, size_t n, const uint64_t *uids,
                                                     void *buf, size_t cap, size_t *lens, size_t *done);
/* Puts pairs[0..n). *done (not NULL) = how many were put: n, or fewer and the error that stopped it; a death in the
 * call leaves the pairs before some place put, and those behind it not. */
SHF_API int shf_table_put_many(struct shf_table *table, size_t n, const struct shf_pair *pairs, size_t *done);
/* Removes keys[0..n). *removed = how many of them were there. An error: *done keys were treated. Both may be NULL. */
SHF_API int shf_table_del_many(struct shf_table *table, size_t n, const struct shf_bytes *keys, size_t *removed,
                               size_t *done);

/* ---- by UID ------------------------------------------------------------------------------------------- */
/* A UID is 32 bits, never 0, and names a key for as long as the key lives. After a removal its number may be
 * given to another key: who keeps UIDs beyond that uses the checked form, 64 bits (UID << 32 | key check),
 * which gives SHF_NOT_FOUND for another key (but for one in 2^32). Changing by plain UID is a hazard then. */

SHF_API int shf_table_uid(struct shf_table *table, const void *key, size_t klen, uint32_t *uid);
SHF_API int shf_table_checked_uid(struct shf_table *table, const void *key, size_t klen, uint64_t *uid);
/* Value, or key, of a UID: as shf_table_get. */
SHF_API int shf_table_get_by_uid(struct shf_table *table, uint32_t uid, void *buf, size_t cap, size_t *vlen);
SHF_API int shf_table_key_by_uid(struct shf_table *table, uint32_t uid, void *buf, size_t cap, size_t *klen);
/* Sets the value of the key that has this UID; SHF_NOT_FOUND if there is none. */
SHF_API int shf_table_put_by_uid(struct shf_table *table, uint32_t uid, const void *val, size_t vlen);
SHF_API int shf_table_del_by_uid(struct shf_table *table, uint32_t uid);
SHF_API int shf_table_get_by_checked_uid(struct shf_table *table, uint64_t uid, void *buf, size_t cap,
                                         size_t *vlen);
SHF_API int shf_table_key_by_checked_uid(struct shf_table *table, uint64_t uid, void *buf, size_t cap,
                                         size_t *klen);
SHF_API int shf_table_put_by_checked_uid(struct shf_table *table, uint64_t uid, const void *val, size_t vlen);
SHF_API int shf_table_del_by_checked_uid(struct shf_table *table, uint64_t uid);

/* ---- the whole table ---------------------------------------------------------------------------------- */

/* Iteration without state in the table and without a lock between steps: *position starts at 0 (or
 * SHF_SHARD_POSITION(i)) and is all there is to keep; it may be stored, sent, and used by another handle. Each
 * call copies one entry out and moves on. A key that lives throughout is seen exactly once, whatever splits
 * happen; one that comes or goes meanwhile may or may not be seen. SHF_NOT_FOUND: the end. SHF_TRUNCATED: a
 * buffer is too small; both full lengths are set, *position has not moved. uid may be NULL. */
SHF_API int shf_table_next(struct shf_table *table, uint64_t *position, void *key, size_t kcap, size_t *klen,
                           void *val, size_t vcap, size_t *vlen, uint32_t *uid);
#define SHF_SHARDS 256u
/* The position where part i of SHF_SHARDS begins; it ends where part i + 1 begins. */
#define SHF_SHARD_POSITION(i) ((uint64_t)(i) << 48)

/* The number of keys. Exact when nobody writes. At most one pass over 256 shards. */
SHF_API int shf_table_len(struct shf_table *table, uint64_t *len);
/* Removes all keys, atomically for each of the 256 shards, not for the whole. Needs no space. The memory comes
 * back in small steps, by this call and by later puts. */
SHF_API int shf_table_clear(struct shf_table *table);

/* Asks the kernel to keep the file in huge pages, each full 2 MiB of it: fewer misses of the processor's address
 * cache, so single gets of a table that is larger than the caches are a tenth to a half faster. Works on tmpfs and
 * memory files, Linux 6.1, whatever the system's setting for huge pages is. One call of any process is enough for
 * all, also for those that open the file later; a read-only handle may make it. Takes about 0.5 ms a MiB, without a
 * lock: others go on, but who touches the very 2 MiB being copied waits for that, and all find their mapping again
 * by a page fault for each 2 MiB. The file takes no more space. Later growth is in small pages until the next call.
 * *bytes (may be NULL) = how much of the file is in huge pages now, set with an error too. SHF_OK: all that is full,
 * but for what somebody held at this moment (then *bytes is less: call again). SHF_ERR_UNSUPPORTED: this kernel or
 * file system cannot, or there is no free memory in pieces of 2 MiB; what could be done is done. Nothing is lost
 * either way, and a death in it leaves nothing. */
SHF_API int shf_table_collapse(struct shf_table *table, uint64_t *bytes);

/* Counters and sizes, from a walk over the shards: O(file pages), no lock held for long. */
struct shf_table_stats {
    uint32_t size;          /* sizeof, set by the caller */
    uint32_t handles;       /* attached handles that can write */
    uint64_t keys;          /* as shf_table_len */
    uint64_t file_bytes;    /* what the file takes */
    uint64_t max_bytes;     /* its hard limit */
    uint64_t free_bytes;    /* free pages inside the file */
    uint64_t segments;      /* index segments: 512 slots, 448 with fixed lengths */
    uint64_t index_bytes;   /* segments and directories */
    uint64_t record_bytes;  /* chunks that hold records */
    uint64_t garbage_bytes; /* dead record bytes in them, not yet cleaned */
    uint64_t large_values;  /* values (with keys) over 8 KiB: a run of pages of their own */
    uint64_t large_bytes;   /* those pages */
    uint64_t stashed_keys;  /* keys outside of their two buckets */
    uint64_t recoveries;    /* locks taken over from the dead, since creation */
    uint32_t max_depth;     /* deepest directory, in bits */
    uint32_t load_percent;  /* used slots of all segments */
};
SHF_API int shf_table_stats(struct shf_table *table, struct shf_table_stats *stats);

/* What a check saw. problems == 0: consistent. */
struct shf_table_report {
    uint32_t size;         /* sizeof, set by the caller */
    uint32_t structure_only; /* 1: read-only handle, live writers may hide or fake a problem */
    uint64_t keys;         /* entries walked */
    uint64_t pages;        /* pages walked */
    uint64_t leaked_pages; /* owned by nobody reachable: a problem */
    uint64_t problems;
    char first[256];       /* the first problem, a sentence with shard and place; "" if none */
};
/* Walks everything: page map, directories, segments, records, counters. One shard is locked at a time. Repairs
 * what a death left (as any taker of the lock does). SHF_OK if consistent, SHF_ERR_CORRUPT if not (the
 * report is filled in both cases). */
SHF_API int shf_table_check(struct shf_table *table, struct shf_table_report *report);

#ifdef __cplusplus
}
#endif

#include "shf_queue.h"
#endif
