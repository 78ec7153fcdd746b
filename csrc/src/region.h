/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * region.h - one shared file: create, open, map, check the header, know its size
 *
 * The protocol is at the top of region.c. Layer: os, hash, error <- region.
 */
#ifndef SHF_REGION_H
#define SHF_REGION_H

#include "error.h"
#include "hash.h"
#include "layout.h"

/* A file being created where O_TMPFILE is not known: PATH.shf-tmp-XXXXXXXX, 8 hex digits. Its maker holds the OFD write
 * lock on this byte; a name of this form without it belongs to the dead. */
#define SHF_REGION_PRIVATE_MARK ".shf-tmp-"
#define SHF_REGION_PRIVATE_BYTE (UINT64_C(1) << 61)

/* Process-private. */
struct shf_region {
    unsigned char *base;      /* the mapping; the reservation is `reserved` bytes long */
    size_t reserved;          /* address space mapped; may be less than max_bytes */
    _Atomic size_t size;      /* bytes that may be touched: min(end, file size) as last seen; only grows */
    _Atomic int size_error;   /* the last look at the file's size failed so: what lies beyond `size` cannot be told */
    struct shf_shm_header *header;
    uint64_t max_bytes;
    uint32_t hash, fixed_key, fixed_value, made_mode; /* of the header, as it was when it was checked */
    uint64_t seed[2];
    uint64_t dev, ino;
    int fd;                   /* D: mapping, fallocate */
    int read_only;
    int is_memfd;             /* or a path that has vanished: reopened through /proc */
    uint32_t mode;            /* the file's permission bits */
    char *path;               /* as given; "memfd:NAME" */
};

/* What a new file is made with; on open, unset (0) fields are taken from the file and set ones compared. */
struct shf_region_params {
    uint32_t kind;
    uint32_t mode;         /* 0 = 0600 */
    uint64_t max_bytes;    /* 0 = default */
    uint32_t fixed_key, fixed_value; /* queue sets: items, item_size; each may be unset on its own */
    uint32_t hash;         /* 0 = default on create, any on open */
    uint32_t object_pages; /* on create: pages of the object area; zeroed */
    uint32_t (*object_pages_of)(uint32_t fixed_key, uint32_t fixed_value, uint32_t pages); /* on open: how many it must
                            * have with the file's lengths, which has `pages`; 0 = lengths that cannot be; NULL: object_pages */
    void (*init)(void *object, const void *context); /* on create, before anybody can see the file: what is not zero; NULL =
                            * nothing */
    const void *context;
};

/* Who opens a path that is replaced again and again gives up after so many tries: SHF_ERR_BUSY. */
#define SHF_OPEN_ROUNDS 100
int shf__region_busy(const char *path);
/* flags: SHF_CREATE, SHF_EXCL, SHF_RDONLY as in shf.h. *created = 1 if this call made the file. The region is
 * mapped and its header checked; dirty/boot_id are the registry's affair (attach). */
int shf__region_open(struct shf_region *r, const char *path, unsigned flags, const struct shf_region_params *p,
                     int *created);
int shf__region_anonymous(struct shf_region *r, const char *name, const struct shf_region_params *p);
int shf__region_from_fd(struct shf_region *r, int fd, const struct shf_region_params *p);
void shf__region_close(struct shf_region *r);
/* 0 if the path still names this file (always 0 for memfd); 1 if it does not, or the file has a second name (attach again). */
int shf__region_replaced(const struct shf_region *r);
/* shf_unlink: refuses what is not a shf file. */
int shf__region_unlink(const char *path);

/* Looks at the header's `end` and the file's size again, moves r->size up. Returns 1 if it grew. */
int shf__region_refresh(struct shf_region *r);
/* Moves r->size up to `end`, which this process has just made (fallocate, then the header's `end`) and which is inside
 * the reservation. */
void shf__region_grown(struct shf_region *r, uint64_t end);

/* Records SHF_ERR_CORRUPT with the region's path; `place` says what was wrong. Returns the code. */
int shf__region_corrupt(const struct shf_region *r, const char *place, uint64_t where);

/* The one accessor: NULL unless [offset, offset + n) lies inside the file as known, and offset is 8-aligned. One
 * compare on the hot path; on a miss the size is refreshed once. n must be at most 2^32 and not 0. */
void *shf__region_at_slow(struct shf_region *r, uint64_t offset, uint64_t n);
static inline void *shf__region_at(struct shf_region *r, uint64_t offset, uint64_t n) {
    size_t size = atomic_load_explicit(&r->size, memory_order_relaxed);
    if (SHF_LIKELY(offset + n <= size && (offset & 7) == 0 && offset < (UINT64_C(1) << 62)))
        return r->base + offset;
    return shf__region_at_slow(r, offset, n);
}
static inline void *shf__region_page(struct shf_region *r, uint32_t page) {
    return shf__region_at(r, (uint64_t)page * SHF_PAGE, SHF_PAGE);
}

#endif
