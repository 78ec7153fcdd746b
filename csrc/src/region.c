// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * region.c - one shared file: create, open, map, check the header, know its size
 *
 * WHAT       A region is one regular file (or memfd), mapped once at the length of max_bytes. It is published whole
 *            or not at all; nothing in it is trusted before the checks below; r->size says what may be touched.
 * NOT        Who is attached, dirty and boot_id (registry.c); growth (pages.c). Protection against somebody who
 *            truncates a path file under its users (SIGBUS); memfds are sealed against it.
 *
 * SHARED LAYOUT   page 0 of the file, struct shf_shm_header; the rest of a new file: layout.h, THE FILE
 *
 *      0 magic    8 format   12 kind     16 features   24 byte order  28 page size   32 seed 16    48 max_bytes
 *     56 hash    60 mode     64 fixed key, value       72 geometry    76 object pages              80 reserved
 *    120 checksum of bytes 0..119, all of them written before the file has a name, and never again
 *    128 end      bytes in use: moved by the holder of the grow lock (pages.c) only, upwards, by whole pages
 *
 * PRIVATE NAME AND PUBLISHING
 *    O_TMPFILE in the target folder  -> build, map -> linkat(path)                  no name before, nothing to clean
 *    where that cannot be:  PATH.shf-tmp-XXXXXXXX, O_EXCL -> build, map -> renameat2(NOREPLACE)
 *    build = file system known?  RLIMIT_FSIZE (SIGXFSZ would kill)?  fallocate whole (a hole would be SIGBUS on a full
 *    tmpfs), header and page map, fchmod (the umask has no say). Of N racing creators the first link wins; the
 *    others get EEXIST, drop their file and open the winner's (or SHF_ERR_EXISTS for SHF_EXCL). A name that comes
 *    and goes meanwhile is tried again, at most OPEN_TRIES times.
 *    The maker of a private name holds the OFD lock on its byte SHF_REGION_PRIVATE_BYTE until the rename: such a
 *    name without that lock belongs to a dead process, and gc may remove it.
 *
 * CHECKS IN ORDER (open)
 *    1 lstat: a regular file. A FIFO or device is never opened, not even for a moment, unless it is swapped in just
 *      then: O_NONBLOCK, and step 3 sees it           2 open O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
 *    3 fstat: regular, nlink 1 (a hard link is another folder's rights to the same file; 0: gone, look again)
 *    4 the owner is this user or root; or another, and all group/other write bits are in the options' mode
 *    5 the file system is not a network's nor FUSE (no coherent shared mappings, or no honest locks)
 *    6 header, read into private memory: magic, byte order, format, kind, units, geometry, features
 *    7 its checksum; then the ranges of its values; then the caller's options against it
 *    8 file length; no holes (not asked of file systems that compress): a writable handle fills them
 *    9 address space: max_bytes, halved down to the file's length while the kernel refuses
 *   10 `end` from the mapping: whole pages, inside max_bytes and inside the file
 *
 * ORDERING
 *    E1 release (pages.c)  store of `end`, after fallocate, map entries and FREE word of the new pages
 *    E2 acquire            load of `end` here, and fstat AFTER it: the file was long enough before E1, so an honest
 *                          file is never seen shorter than its `end`. Both in the other order could be.
 *    S1 acq_rel            r->size moves up by CAS, never down (two threads may refresh with old and new values). The
 *                          hot path loads it relaxed: a thread that holds a number of a new page got it by an
 *                          acquire load that follows E1, and a size that is too small only takes the slow path.
 *    S2 acquire            the size of whoever goes from head to head by length (pages_impl.h, check.c): no page number
 *                          brings the edge then. Pairs with S1: the words below that size are there.
 *
 * INVARIANTS
 *    G1  [0, r->size) lies inside the mapping, inside the file as seen by fstat or made by this handle's own fallocate,
 *        and below an `end` seen before
 *    G2  base, reserved, fd, path, max_bytes do not change between open and close
 *    G3  a failed open or create leaves no descriptor, no mapping and no private name
 *
 * IF A PROCESS DIES
 *    before the link                nothing (O_TMPFILE), or an unlocked private name for gc
 *    after it                       a complete file with end = its length
 *    while filling holes            allocated pages of zeros, as they were read before
 *    in unlink                      the name is there or not
 *
 * PROOF      csrc/tests/validate_region.c   each check by a file that breaks it; racing creators; limits; leaks
 *            csrc/tests/faults_region.c     every system call of every operation fails in turn; private names
 *            csrc/tests/crash_region.c      a creator dies at its k-th store, for every k
 */
#include "region.h"

#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAX_BYTES_LIMIT (UINT64_C(1) << 41)                    /* what the page map and the record references reach */
#define GROWTH_MINIMUM (UINT64_C(64) << 10)                    /* max_bytes leaves room for one extent at least */
#define FILL_STEP (UINT64_C(2) << 20) /* one fallocate: short enough to end between two signals */
#define OPEN_TRIES 100
#define PRIVATE_TRIES 100
#define SPARSE_LOOKS 3

/* Internal outcome: the name came or went between two looks. */
#define RACE 101
/* Internal outcome: not this way of creating; no error recorded. */
#define OTHER_WAY 102

static const char open_place[] = "region.open"; /* the place of rules 1 to 4 */

/* ---- errors ------------------------------------------------------------------------------------------- */

/* Translates -errno of a system call about `path`. `what` completes "cannot ...". */
static int fail_os(int rc, const char *place, const char *path, const char *what) {
    int e = -rc;
    switch (e) {
    case ENOENT:
        return shf__fail(SHF_ERR_NOT_FOUND, e, place, path, "cannot %s '%s': there is no such file or folder", what,
                         path);
    case EACCES:
    case EPERM:
        return shf__fail(SHF_ERR_PERMISSION, e, place, path,
                         "cannot %s '%s': permission denied; check the rights of the file and its folder", what, path);
    case EROFS:
        return shf__fail(SHF_ERR_READ_ONLY, e, place, path,
                         "cannot %s '%s': its file system is mounted read-only; SHF_RDONLY opens what is there", what,
                         path);
    case ELOOP:
        return shf__fail(SHF_ERR_INVALID_PATH, e, place, path,
                         "cannot %s '%s': a symbolic link stands there, or links go in a circle; name the file itself",
                         what, path);
    case ENOTDIR:
        return shf__fail(SHF_ERR_INVALID_PATH, e, place, path, "cannot %s '%s': a part of the path is not a folder",
                         what, path);
    case EISDIR: return shf__fail(SHF_ERR_INVALID_PATH, e, place, path, "cannot %s '%s': it is a folder", what, path);
    case ENAMETOOLONG:
        return shf__fail(SHF_ERR_INVALID_PATH, e, place, path, "cannot %s '%.80s...': the path is too long", what,
                         path);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return shf__fail(SHF_ERR_NO_SPACE, e, place, path,
                         "cannot %s '%s': no space left (file system, quota or largest file size)", what, path);
    case EMFILE:
    case ENFILE:
        return shf__fail(SHF_ERR_IO, e, place, path,
                         "cannot %s '%s': too many open files; raise RLIMIT_NOFILE or close some", what, path);
    case ENOMEM: return shf__fail(SHF_ERR_NO_MEMORY, e, place, path, "cannot %s '%s': no memory left", what, path);
    case EOPNOTSUPP:
    case ENOSYS:
    case ENODEV:
        return shf__fail(SHF_ERR_UNSUPPORTED, e, place, path,
                         "cannot %s '%s': this kernel or file system does not support it", what, path);
    default: return shf__fail(SHF_ERR_IO, e, place, path, "cannot %s '%s': system error %d", what, path, e);
    }
}

static int no_memory(const char *place, const char *path) {
    return shf__fail(SHF_ERR_NO_MEMORY, ENOMEM, place, path, "no memory left for a handle of '%s'", path);
}

int shf__region_corrupt(const struct shf_region *r, const char *place, uint64_t where) {
    const char *path = r->path == NULL ? "" : r->path;
    /* Beyond a mapping that could not be made at full length everything looks missing: say what is meant. */
    if (r->base != NULL && r->reserved < r->max_bytes && shm_load_acquire(&r->header->end) > r->reserved)
        return shf__fail(SHF_ERR_ADDRESS_SPACE, ENOMEM, place, path,
                         "'%s' has grown beyond the %zu bytes of address space this process could reserve "
                         "(RLIMIT_AS, locked memory): raise the limit and open it again",
                         path, r->reserved);
    int e = atomic_load_explicit(&r->size_error, memory_order_relaxed);
    if (e != 0 && r->base != NULL && shm_load_acquire(&r->header->end) > atomic_load_explicit(&r->size, memory_order_relaxed))
        /* So it does while the file has grown and its size cannot be asked for. */
        return shf__fail(SHF_ERR_IO, e, place, path, "'%s' has grown, but its size could not be asked for: try again", path);
    return shf__fail(SHF_ERR_CORRUPT, 0, place, path, "'%s' is damaged: %s (at %#llx)", path, place,
                     (unsigned long long)where);
}

/* ---- checks on the file ------------------------------------------------------------------------------- */

static int check_kind(const char *place, const char *path, const struct os_stat *st) {
    const char *kind;
    switch (st->mode & S_IFMT) {
    case S_IFREG: return SHF_OK;
    case S_IFDIR: kind = "a folder"; break;
    case S_IFLNK: kind = "a symbolic link"; break;
    case S_IFIFO: kind = "a FIFO"; break;
    case S_IFSOCK: kind = "a socket"; break;
    case S_IFCHR: kind = "a character device"; break;
    case S_IFBLK: kind = "a block device"; break;
    default: kind = "a thing of unknown kind"; break;
    }
    return shf__fail(SHF_ERR_INVALID_PATH, 0, place, path, "'%s' is %s, not a regular file", path, kind);
}

static int check_links(const char *place, const char *path, const struct os_stat *st) {
    if (st->nlink <= 1) return SHF_OK;
    return shf__fail(SHF_ERR_INVALID_PATH, 0, place, path,
                     "'%s' has %u names (hard links); a shared file must have one", path, st->nlink);
}

/* Rule 4. The owner of a file can always write it; who may besides must be expected by the caller. */
static int check_owner(const char *path, const struct os_stat *st, uint32_t mode) {
    uint32_t euid = os_euid(), has = st->mode & 022u, granted = mode & 022u;
    if (st->uid == euid || st->uid == 0 || (has & ~granted) == 0) return SHF_OK;
    return shf__fail(SHF_ERR_PERMISSION, 0, open_place, path,
                     "'%s' belongs to user %u (this is user %u) and its mode %#o lets group or others write; "
                     "options.mode grants only %#o of that: set it if they are trusted",
                     path, st->uid, euid, st->mode & 0777u, granted);
}

struct fs_name {
    uint64_t magic;
    const char *name;
};
static const struct fs_name refused_fs[] = {
    {0x6969, "NFS"},      {0x01021997, "9p"},     {0x65735546, "FUSE"},
    {0x517b, "SMB"},      {0xff534d42, "CIFS"},   {0xfe534d42, "SMB"},
    {0x564c, "NCP"},      {0x73757245, "Coda"},   {0x5346414f, "AFS"},
    {0x6b414653, "AFS"},  {0x00c36400, "Ceph"},   {0x7461636f, "OCFS2"},
    {0x01161970, "GFS2"}, {0x0bd00bd0, "Lustre"}, {0x786f4256, "VirtualBox shared folder"},
    {0x47504653, "GPFS"}, {0x858458f6, "ramfs"},  {0x958458f6, "hugetlbfs"},
};
#define FS_BTRFS UINT64_C(0x9123683e)
#define FS_ZFS UINT64_C(0x2fc12fc1)
#define FS_F2FS UINT64_C(0xf2f52010)

/* Rule 5. Unknown local file systems are given a chance: they must do fallocate, and locks. */
static int check_fs(const char *place, const char *path, int fd, uint64_t *magic) {
    int rc = os_fs_type(fd, magic);
    if (rc < 0) return fail_os(rc, place, path, "ask for the file system of");
    for (size_t i = 0; i < sizeof refused_fs / sizeof refused_fs[0]; i++) {
        if (refused_fs[i].magic == *magic)
            return shf__fail(SHF_ERR_UNSUPPORTED, 0, place, path,
                             "'%s' is on %s, which cannot share memory between processes safely; use /dev/shm or a "
                             "local file system",
                             path, refused_fs[i].name);
    }
    return SHF_OK;
}

static int fs_compresses(uint64_t magic) { return magic == FS_BTRFS || magic == FS_ZFS || magic == FS_F2FS; }

/* ---- parameters --------------------------------------------------------------------------------------- */

/* Only a table has a page map; its first map page describes the whole object. */
static uint32_t object_pages_limit(uint32_t kind) {
    return kind == SHF_KIND_TABLE ? SHF_MAP_ENTRIES - SHF_OBJECT_PAGE : (uint32_t)(MAX_BYTES_LIMIT / SHF_PAGE - SHF_OBJECT_PAGE);
}

static uint64_t page_up(uint64_t bytes) { return (bytes + SHF_PAGE - 1) / SHF_PAGE * SHF_PAGE; }

static uint64_t initial_bytes(uint32_t object_pages) { return (uint64_t)(SHF_OBJECT_PAGE + object_pages) * SHF_PAGE; }

static int check_params(const char *path, const struct shf_region_params *p) {
    static const char place[] = "region.params";
    uint64_t least;
    if (p->object_pages == 0 || p->object_pages > object_pages_limit(p->kind) || p->kind == 0)
        return shf__fail(SHF_ERR_INVALID, 0, place, path, "the object of '%s' cannot have kind %u and %u pages", path,
                         p->kind, p->object_pages);
    if (p->hash > SHF_HASH_FOLDED)
        return shf__fail(SHF_ERR_INVALID, 0, place, path, "unknown hash %u for '%s'; see SHF_HASH_*", p->hash, path);
    if (p->mode & ~0777u)
        return shf__fail(SHF_ERR_INVALID, 0, place, path, "mode %#o for '%s' is more than permission bits (0777)",
                         p->mode, path);
    if (p->max_bytes > MAX_BYTES_LIMIT)
        return shf__fail(SHF_ERR_INVALID, 0, place, path, "max_bytes %llu for '%s' is more than 2 TiB (%llu)",
                         (unsigned long long)p->max_bytes, path, (unsigned long long)MAX_BYTES_LIMIT);
    least = initial_bytes(p->object_pages) + GROWTH_MINIMUM;
    if (p->max_bytes != 0 && page_up(p->max_bytes) < least)
        return shf__fail(SHF_ERR_INVALID, 0, place, path,
                         "max_bytes %llu for '%s' is too small; an empty file needs %llu",
                         (unsigned long long)p->max_bytes, path, (unsigned long long)least);
    return SHF_OK;
}

static uint64_t default_max_bytes(uint32_t object_pages) {
    uint64_t ram = os_ram_bytes(), least = initial_bytes(object_pages) + GROWTH_MINIMUM;
    uint64_t bytes = ram > MAX_BYTES_LIMIT / 2 ? MAX_BYTES_LIMIT : page_up(2 * ram);
    return bytes < least ? least : bytes;
}

/* ---- create ------------------------------------------------------------------------------------------- */

static void put_run(struct shf_shm_map_entry *map, uint32_t page, uint32_t length) {
    shm_store_relaxed(&map[page].word, shf_page_word(SHF_PAGE_FIXED, 0, length));
    for (uint32_t i = 1; i < length; i++)
        shm_store_relaxed(&map[page + i].word, shf_page_word(SHF_PAGE_INTERIOR, 0, i));
}

static void put_map(unsigned char *base, uint32_t object_pages) {
    struct shf_shm_map_entry *map = (struct shf_shm_map_entry *)(void *)(base + SHF_MAP_PAGE * SHF_PAGE);
    put_run(map, 0, 1);
    put_run(map, SHF_REGISTRY_PAGE, SHF_HINTS_PAGE - SHF_REGISTRY_PAGE);
    put_run(map, SHF_HINTS_PAGE, SHF_ROOT_PAGE - SHF_HINTS_PAGE);
    put_run(map, SHF_ROOT_PAGE, SHF_MIDDLE_PAGE - SHF_ROOT_PAGE);
    put_run(map, SHF_MIDDLE_PAGE, 1);
    put_run(map, SHF_MAP_PAGE, 1);
    put_run(map, SHF_OBJECT_PAGE, object_pages);
    shm_store_relaxed32((shf_au32 *)(void *)(base + SHF_ROOT_PAGE * SHF_PAGE), SHF_MIDDLE_PAGE);
    shm_store_relaxed32((shf_au32 *)(void *)(base + SHF_MIDDLE_PAGE * SHF_PAGE), SHF_MAP_PAGE);
}

/* Makes the nameless file behind fd a complete region. */
static int build(int fd, const char *path, const struct shf_region_params *p, unsigned mode) {
    static const char place[] = "region.create";
    uint64_t size = initial_bytes(p->object_pages), magic;
    struct shf_shm_header h;
    unsigned char *base;
    void *mapped;
    int rc;

    rc = check_fs(place, path, fd, &magic);
    if (rc < 0) return rc;
    if (os_file_size_limit() < size)
        return shf__fail(SHF_ERR_NO_SPACE, EFBIG, place, path, "cannot create '%s': RLIMIT_FSIZE is below %llu bytes",
                         path, (unsigned long long)size);

    memset(&h, 0, sizeof h);
    h.magic = SHF_MAGIC;
    h.format = SHF_FORMAT;
    h.kind = p->kind;
    h.byte_order = SHF_BYTE_ORDER_MARK;
    h.page_size = SHF_PAGE;
    h.max_bytes = p->max_bytes == 0 ? default_max_bytes(p->object_pages) : page_up(p->max_bytes);
    h.hash = p->hash == SHF_HASH_DEFAULT ? SHF_HASH_FOLDED : p->hash;
    h.mode = mode;
    h.fixed_key = p->fixed_key;
    h.fixed_value = p->fixed_value;
    h.geometry = SHF_GEOMETRY;
    h.object_pages = p->object_pages;
    rc = os_random(h.seed, sizeof h.seed);
    if (rc < 0) return fail_os(rc, place, path, "get random bytes for");
    h.checksum = shf__checksum(&h, offsetof(struct shf_shm_header, checksum));
    atomic_init(&h.end, size);

    rc = os_fallocate(fd, 0, size);
    if (rc < 0) return fail_os(rc, place, path, "allocate the first pages of");
    rc = os_map(fd, (size_t)size, 1, &mapped);
    if (rc == -ENOMEM || rc == -EAGAIN)
        return shf__fail(SHF_ERR_ADDRESS_SPACE, -rc, place, path,
                         "no address space to create '%s' (RLIMIT_AS, locked memory)", path);
    if (rc < 0) return fail_os(rc, place, path, "map");
    base = mapped;
    /* All else, registry, hints and most of the object, is zero as it comes from fallocate. */
    if (p->kind == SHF_KIND_TABLE) put_map(base, p->object_pages);
    if (p->init != NULL) p->init(base + SHF_OBJECT_PAGE * SHF_PAGE, p->context);
    shm_copy_in((shf_au64 *)mapped, &h, offsetof(struct shf_shm_header, grow_word));
    (void)os_unmap(mapped, (size_t)size);

    rc = os_fchmod(fd, mode);
    if (rc < 0) return fail_os(rc, place, path, "set the mode of");
    return SHF_OK;
}

/* ---- attach: from a descriptor to a mapping ------------------------------------------------------------ */

static int incompatible(const char *path, const char *what, uint64_t file, uint64_t wanted) {
    return shf__fail(SHF_ERR_INCOMPATIBLE, 0, "region.header", path, "'%s' has %s %llu (%#llx), expected %llu (%#llx)",
                     path, what, (unsigned long long)file, (unsigned long long)file, (unsigned long long)wanted,
                     (unsigned long long)wanted);
}

static const char *kind_name(uint32_t kind) {
    return kind == SHF_KIND_TABLE ? "a table" : kind == SHF_KIND_QUEUES ? "a queue set" : "an object of a later version";
}

/* The lengths of a table go together; of a set's number of items and their size each may be asked for alone. */
static int check_lengths(const char *path, const struct shf_shm_header *h, const struct shf_region_params *p) {
    int key = p->fixed_key != h->fixed_key, value = p->fixed_value != h->fixed_value;
    if (p->kind == SHF_KIND_QUEUES) {
        if ((p->fixed_key == 0 || !key) && (p->fixed_value == 0 || !value)) return SHF_OK;
        return shf__fail(SHF_ERR_INCOMPATIBLE, 0, "region.header", path,
                         "'%s' has %u items of %u bytes, but %u of %u were asked for (0: any)", path, h->fixed_key,
                         h->fixed_value, p->fixed_key, p->fixed_value);
    }
    if ((p->fixed_key == 0 && p->fixed_value == 0) || (!key && !value)) return SHF_OK;
    return shf__fail(SHF_ERR_INCOMPATIBLE, 0, "region.header", path,
                     "'%s': fixed lengths (key, value) are %u, %u in the file, but %u, %u were asked for (0, 0: variable)",
                     path, h->fixed_key, h->fixed_value, p->fixed_key, p->fixed_value);
}

/* Rules 6 and 7, on a private copy. */
static int check_header(const char *path, const struct shf_shm_header *h, int got, uint64_t size,
                        const struct shf_region_params *p) {
    static const char place[] = "region.header";
    if (got >= 8 && h->magic == __builtin_bswap64(SHF_MAGIC))
        return shf__fail(SHF_ERR_INCOMPATIBLE, 0, place, path, "'%s' was made on a machine of the other byte order",
                         path);
    if (got < 8 || h->magic != SHF_MAGIC)
        return shf__fail(SHF_ERR_INCOMPATIBLE, 0, place, path, "'%s' is not a shf file (%llu bytes, no magic number)",
                         path, (unsigned long long)size);
    if (got < (int)sizeof *h)
        return shf__fail(SHF_ERR_CORRUPT, 0, place, path, "'%s' is truncated: %llu bytes are less than its header",
                         path, (unsigned long long)size);
    if (h->byte_order != SHF_BYTE_ORDER_MARK)
        return incompatible(path, "byte order mark", h->byte_order, SHF_BYTE_ORDER_MARK);
    if (h->format != SHF_FORMAT) return incompatible(path, "format version", h->format, SHF_FORMAT);
    if (h->features != 0) return incompatible(path, "unknown feature bits", h->features, 0);
    if (h->kind != p->kind)
        return shf__fail(SHF_ERR_INCOMPATIBLE, 0, place, path, "'%s' is %s, not %s", path, kind_name(h->kind),
                         kind_name(p->kind));
    if (h->page_size != SHF_PAGE) return incompatible(path, "page unit", h->page_size, SHF_PAGE);
    if (h->geometry != SHF_GEOMETRY) return incompatible(path, "geometry", h->geometry, SHF_GEOMETRY);
    if (h->checksum != shf__checksum(h, offsetof(struct shf_shm_header, checksum)))
        return shf__fail(SHF_ERR_CORRUPT, 0, place, path, "'%s' is damaged: the checksum of its header does not fit",
                         path);
    if (h->hash != SHF_HASH_SIPHASH13 && h->hash != SHF_HASH_FOLDED)
        return incompatible(path, "an unknown hash", h->hash, SHF_HASH_FOLDED);
    if (h->object_pages > object_pages_limit(h->kind))
        return incompatible(path, "object pages", h->object_pages, p->object_pages);
    if (h->max_bytes % SHF_PAGE != 0 || h->max_bytes > MAX_BYTES_LIMIT || h->max_bytes < initial_bytes(h->object_pages))
        return shf__fail(SHF_ERR_CORRUPT, 0, place, path, "'%s' is damaged: its max_bytes %llu cannot be", path,
                         (unsigned long long)h->max_bytes);

    int rc = check_lengths(path, h, p);
    if (rc < 0) return rc;
    if (p->max_bytes != 0 && page_up(p->max_bytes) != h->max_bytes)
        return incompatible(path, "max_bytes", h->max_bytes, page_up(p->max_bytes));
    if (p->hash != SHF_HASH_DEFAULT && p->hash != h->hash) return incompatible(path, "hash", h->hash, p->hash);
    uint32_t pages = p->object_pages_of != NULL ? p->object_pages_of(h->fixed_key, h->fixed_value, h->object_pages) : p->object_pages;
    if (pages == 0) return incompatible(path, "lengths", h->fixed_key, h->fixed_value);
    if (h->object_pages != pages) return incompatible(path, "object pages", h->object_pages, pages);
    return SHF_OK;
}

static int is_sparse(const struct os_stat *st, uint64_t below) {
    return st->blocks < (st->size < below ? st->size : below) / 512;
}

/* Rule 8. Two numbers of one fstat are not one snapshot beside a grower: look again before believing in a hole. */
static int fill_holes(struct shf_region *r, struct os_stat *st, uint64_t end) {
    static const char place[] = "region.holes";
    /* A reader meets nothing beyond `end`. A writer looks at all of the file: what is allocated behind `end` may hide a hole. */
    uint64_t size, below = r->read_only ? end : st->size;
    int rc;
    for (int look = 1; is_sparse(st, below); look++) {
        if (look == SPARSE_LOOKS) break;
        os_yield();
        rc = os_fstat(r->fd, st);
        if (rc < 0) return fail_os(rc, place, r->path, "ask for the size of");
    }
    if (!is_sparse(st, below)) return SHF_OK;
    if (r->read_only)
        return shf__fail(SHF_ERR_CORRUPT, 0, place, r->path,
                         "'%s' is sparse (%llu bytes, %llu allocated): reading a hole may be fatal when memory is "
                         "short; open it writable once, or copy it with cp --sparse=never",
                         r->path, (unsigned long long)st->size, (unsigned long long)(st->blocks * 512));
    size = st->size < end ? st->size : end; /* beyond it growth allocates what it takes: a long hole costs no memory */
    if (size > r->max_bytes) size = r->max_bytes;
    for (uint64_t at = 0; at < size; at += FILL_STEP) {
        rc = os_fallocate(r->fd, at, size - at < FILL_STEP ? size - at : FILL_STEP);
        if (rc < 0) return fail_os(rc, place, r->path, "allocate the holes of");
    }
    return SHF_OK;
}

/* Rule 9. */
static int reserve(struct shf_region *r, uint64_t file_size) {
    uint64_t least = page_up(file_size < r->max_bytes ? file_size : r->max_bytes);
    uint64_t length = r->max_bytes;
    void *base;
    for (;;) {
        int rc = os_map(r->fd, (size_t)length, !r->read_only, &base);
        if (rc == 0) break;
        if (rc != -ENOMEM && rc != -EAGAIN && rc != -EOVERFLOW) return fail_os(rc, "region.map", r->path, "map");
        if (length <= least)
            return shf__fail(SHF_ERR_ADDRESS_SPACE, -rc, "region.map", r->path,
                             "no address space for the %llu bytes of '%s' (RLIMIT_AS, locked memory): raise the limit",
                             (unsigned long long)least, r->path);
        length = page_up(length / 2);
        if (length < least) length = least;
    }
    r->base = base;
    r->reserved = (size_t)length;
    r->header = base;
    return SHF_OK;
}

/* Rules 5 to 10, on r->fd; r->path, read_only are set. The caller closes r on failure. */
static int attach(struct shf_region *r, const struct shf_region_params *p, struct os_stat *st) {
    static const char place[] = "region.open";
    struct shf_shm_header h;
    uint64_t magic, end;
    int rc, got;

    r->dev = st->dev;
    r->ino = st->ino;
    r->mode = st->mode & 0777u;
    rc = check_fs(place, r->path, r->fd, &magic);
    if (rc < 0) return rc;
    memset(&h, 0, sizeof h);
    got = os_pread(r->fd, &h, sizeof h, 0);
    if (got < 0) return fail_os(got, place, r->path, "read the header of");
    rc = check_header(r->path, &h, got, st->size, p);
    if (rc < 0) return rc;
    /* From here on the header's own are not looked at again: another process could have changed them. */
    r->max_bytes = h.max_bytes;
    r->hash = h.hash;
    r->fixed_key = h.fixed_key;
    r->fixed_value = h.fixed_value;
    r->made_mode = h.mode;
    memcpy(r->seed, h.seed, sizeof r->seed);
    if (st->size < initial_bytes(h.object_pages))
        return shf__fail(SHF_ERR_CORRUPT, 0, place, r->path, "'%s' is truncated: %llu bytes of at least %llu", r->path,
                         (unsigned long long)st->size, (unsigned long long)initial_bytes(h.object_pages));
    if (!fs_compresses(magic)) {
        rc = fill_holes(r, st, atomic_load_explicit(&h.end, memory_order_relaxed));
        if (rc < 0) return rc;
    }
    rc = reserve(r, st->size);
    if (rc < 0) return rc;

    end = shm_load_acquire(&r->header->end); /* E2; the pages up to the first fstat's size are there: no SIGBUS */
    rc = os_fstat(r->fd, st);
    if (rc < 0) return fail_os(rc, place, r->path, "ask for the size of");
    if (end % SHF_PAGE != 0 || end < initial_bytes(h.object_pages) || end > r->max_bytes)
        return shf__fail(SHF_ERR_CORRUPT, 0, place, r->path, "'%s' is damaged: its end %llu cannot be", r->path,
                         (unsigned long long)end);
    if (st->size < end)
        return shf__fail(SHF_ERR_CORRUPT, 0, place, r->path, "'%s' is truncated: %llu bytes of %llu", r->path,
                         (unsigned long long)st->size, (unsigned long long)end);
    atomic_store_explicit(&r->size, end < r->reserved ? (size_t)end : r->reserved, memory_order_release); /* S1 */
    return SHF_OK;
}

/* ---- publish ------------------------------------------------------------------------------------------ */

/* Builds and maps the nameless file r->fd. All that can fail does so before the file has its name. */
static int build_and_attach(struct shf_region *r, const struct shf_region_params *p, unsigned mode) {
    struct os_stat st;
    int rc = build(r->fd, r->path, p, mode);
    if (rc < 0) return rc;
    rc = os_fstat(r->fd, &st);
    if (rc < 0) return fail_os(rc, "region.create", r->path, "ask for the size of");
    return attach(r, p, &st);
}

/* Takes the file back off a region that keeps its path. */
static void drop_file(struct shf_region *r) {
    if (r->base != NULL) (void)os_unmap(r->base, r->reserved);
    if (r->fd >= 0) (void)os_close(r->fd);
    r->base = NULL;
    r->header = NULL;
    r->reserved = 0;
    r->fd = -1;
    atomic_store_explicit(&r->size, 0, memory_order_relaxed);
}

static int is_absent_feature(int rc) { return rc == -EOPNOTSUPP || rc == -EISDIR || rc == -EINVAL || rc == -ENOSYS; }

/* The folder that `path` lies in; to be freed. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* SHF_OK: r is open; RACE: the name was there; OTHER_WAY. */
static int create_tmpfile(struct shf_region *r, const struct shf_region_params *p, unsigned mode) {
    static const char place[] = "region.create";
    char *folder = folder_of(r->path);
    int fd, rc;
    if (folder == NULL) return no_memory(place, r->path);
    fd = os_tmpfile(folder, 0600);
    free(folder);
    if (is_absent_feature(fd)) return OTHER_WAY;
    if (fd < 0) return fail_os(fd, place, r->path, "create");
    r->fd = fd;
    rc = build_and_attach(r, p, mode);
    if (rc == SHF_OK) {
        rc = os_link_fd(fd, r->path);
        if (rc == 0) return SHF_OK;
        /* ENOENT, EPERM, EXDEV: no /proc, or no links here. If it is the folder, the other way fails likewise. */
        if (rc == -EEXIST)
            rc = RACE;
        else if (is_absent_feature(rc) || rc == -ENOENT || rc == -EPERM || rc == -EXDEV)
            rc = OTHER_WAY;
        else
            rc = fail_os(rc, place, r->path, "give its name to");
    }
    drop_file(r);
    return rc;
}

/* SHF_OK: r is open; RACE: the name was there. */
static int create_private(struct shf_region *r, const struct shf_region_params *p, unsigned mode) {
    static const char place[] = "region.create";
    size_t cap = strlen(r->path) + sizeof SHF_REGION_PRIVATE_MARK + 8;
    char *name = malloc(cap);
    int fd = -EEXIST, rc;
    if (name == NULL) return no_memory(place, r->path);
    for (int i = 0; i < PRIVATE_TRIES && fd == -EEXIST; i++) {
        uint32_t random;
        fd = os_random(&random, sizeof random);
        if (fd < 0) break;
        snprintf(name, cap, "%s%s%08x", r->path, SHF_REGION_PRIVATE_MARK, random);
        fd = os_open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    }
    if (fd < 0) {
        free(name);
        return fail_os(fd, place, r->path, "create a private file beside");
    }
    r->fd = fd;
    (void)os_ofd_lock(fd, SHF_REGION_PRIVATE_BYTE); /* for gc; who has no OFD locks is told so by the registry */
    rc = build_and_attach(r, p, mode);
    if (rc == SHF_OK) {
        rc = os_rename_noreplace(name, r->path);
        if (rc == 0) {
            (void)os_ofd_unlock(fd, SHF_REGION_PRIVATE_BYTE);
            free(name);
            return SHF_OK;
        }
        rc = rc == -EEXIST ? RACE : fail_os(rc, place, r->path, "give its name to");
    }
    (void)os_unlink(name);
    free(name);
    drop_file(r);
    return rc;
}

/* Each handle opens the file anew for its proof of life, the maker's too: an owner who may not would leave a file that
 * nobody can use. */
static int check_mode(const char *path, uint32_t mode) {
    if (mode == 0 || (mode & 0600u) == 0600u) return SHF_OK;
    return shf__fail(SHF_ERR_INVALID, 0, "region.params", path,
                     "mode %#o for '%s' does not let its owner read and write (0600)", mode, path);
}

static int create(struct shf_region *r, const struct shf_region_params *p) {
    unsigned mode = p->mode == 0 ? 0600 : p->mode;
    int rc = check_mode(r->path, p->mode);
    if (rc < 0) return rc;
    rc = create_tmpfile(r, p, mode);
    return rc == OTHER_WAY ? create_private(r, p, mode) : rc;
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static int start(struct shf_region *r, const char *place, const char *path) {
    memset(r, 0, sizeof *r);
    r->fd = -1;
    r->path = strdup(path);
    return r->path == NULL ? no_memory(place, path) : SHF_OK;
}

/* Rules 1 to 4. SHF_OK and r->fd, *st; RACE: the file went away meanwhile. */
static int open_existing(struct shf_region *r, const struct shf_region_params *p, struct os_stat *st) {
    const char *path = r->path;
    int fd, rc = os_stat(path, st);
    if (rc == -ENOENT) return RACE;
    if (rc < 0) return fail_os(rc, open_place, path, "open");
    rc = check_kind(open_place, path, st);
    if (rc < 0) return rc;
    fd = os_open(path, (r->read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (fd == -ENOENT) return RACE;
    if (fd < 0) return fail_os(fd, open_place, path, "open");
    rc = os_fstat(fd, st);
    if (rc < 0)
        rc = fail_os(rc, open_place, path, "ask for the size of");
    else
        rc = check_kind(open_place, path, st);
    if (rc == SHF_OK && st->nlink == 0) rc = RACE;
    if (rc == SHF_OK) rc = check_links(open_place, path, st);
    if (rc == SHF_OK) rc = check_owner(path, st, p->mode);
    if (rc != SHF_OK) {
        os_close(fd);
        return rc;
    }
    r->fd = fd;
    return SHF_OK;
}

int shf__region_busy(const char *path) {
    return shf__fail(SHF_ERR_BUSY, 0, "open", path, "%s: the file is replaced again and again", path);
}

int shf__region_open(struct shf_region *r, const char *path, unsigned flags, const struct shf_region_params *p,
                     int *created) {
    struct os_stat st;
    int rc, made = 0;

    memset(r, 0, sizeof *r);
    r->fd = -1;
    if (path == NULL) return shf__fail(SHF_ERR_INVALID, 0, open_place, "", "the path is NULL");
    if (flags & ~(SHF_CREATE | SHF_EXCL | SHF_RDONLY))
        return shf__fail(SHF_ERR_INVALID, 0, open_place, path, "unknown flags %#x to open '%s'", flags, path);
    if ((flags & SHF_EXCL && !(flags & SHF_CREATE)) || (flags & SHF_RDONLY && flags & SHF_CREATE))
        return shf__fail(SHF_ERR_INVALID, 0, open_place, path,
                         "flags %#x to open '%s' contradict: SHF_EXCL needs SHF_CREATE, SHF_RDONLY excludes it", flags,
                         path);
    if (path[0] == 0 || path[strlen(path) - 1] == '/')
        return shf__fail(SHF_ERR_INVALID_PATH, 0, open_place, path, "'%s' does not name a file", path);
    rc = check_params(path, p);
    if (rc < 0) return rc;
    rc = start(r, open_place, path);
    if (rc < 0) return rc;
    r->read_only = (flags & SHF_RDONLY) != 0;

    rc = RACE;
    for (int i = 0; i < OPEN_TRIES && rc == RACE; i++) {
        if (flags & SHF_EXCL) {
            /* Cheaper than to find it out by linking; the link is what decides. */
            rc = os_stat(path, &st) == 0 ? SHF_ERR_EXISTS : RACE;
        } else {
            rc = open_existing(r, p, &st);
            if (rc == SHF_OK) rc = attach(r, p, &st);
        }
        if (rc != RACE) break;
        if (!(flags & SHF_CREATE)) {
            rc = fail_os(-ENOENT, open_place, path, "open");
            break;
        }
        rc = create(r, p);
        if (rc == SHF_OK) made = 1;
        if (rc == RACE && flags & SHF_EXCL) rc = SHF_ERR_EXISTS;
    }
    if (rc == RACE)
        rc = shf__fail(SHF_ERR_BUSY, 0, open_place, path, "'%s' came and went %d times while being opened", path,
                       OPEN_TRIES);
    if (rc == SHF_ERR_EXISTS) rc = shf__fail(SHF_ERR_EXISTS, EEXIST, open_place, path, "'%s' exists already", path);
    if (rc != SHF_OK) {
        shf__region_close(r);
        return rc;
    }
    if (created != NULL) *created = made;
    return SHF_OK;
}

int shf__region_anonymous(struct shf_region *r, const char *name, const struct shf_region_params *p) {
    static const char place[] = "region.anonymous";
    char path[sizeof "memfd:" + 249];
    int rc;

    memset(r, 0, sizeof *r);
    r->fd = -1;
    if (name == NULL) name = "shf";
    if (strnlen(name, 250) > 249)
        return shf__fail(SHF_ERR_INVALID, 0, place, "", "the name of a memory file may have 249 bytes at most");
    snprintf(path, sizeof path, "memfd:%s", name);
    rc = check_params(path, p);
    if (rc == SHF_OK) rc = check_mode(path, p->mode);
    if (rc < 0) return rc;
    rc = start(r, place, path);
    if (rc < 0) return rc;
    r->is_memfd = 1;
    rc = os_memfd(name);
    if (rc < 0) {
        rc = fail_os(rc, place, path, "create");
    } else {
        r->fd = rc;
        /* Execute rights mean nothing here, and a memfd of MFD_NOEXEC_SEAL refuses them. */
        rc = build_and_attach(r, p, p->mode == 0 ? 0600 : p->mode & 0666);
        if (rc == SHF_OK) {
            rc = os_seal(r->fd, F_SEAL_SHRINK | F_SEAL_SEAL);
            if (rc < 0) rc = fail_os(rc, place, path, "seal");
        }
    }
    if (rc != SHF_OK) shf__region_close(r);
    return rc;
}

/* What to call the file behind fd: the path it has (had), "memfd:NAME", or "fd:N". *memory = 1 if it says memfd. */
static void name_of_fd(int fd, char *text, size_t cap, int *memory) {
    static const char gone[] = " (deleted)";
    int n = os_fd_path(fd, text, cap);
    *memory = 0;
    if (n <= 0) {
        snprintf(text, cap, "fd:%d", fd);
        return;
    }
    if (strncmp(text, "/memfd:", 7) == 0) {
        size_t length = (size_t)n;
        *memory = 1;
        if (length > sizeof gone - 1 && strcmp(text + length - (sizeof gone - 1), gone) == 0) length -= sizeof gone - 1;
        memmove(text, text + 1, length - 1);
        text[length - 1] = 0;
    }
}

int shf__region_from_fd(struct shf_region *r, int fd, const struct shf_region_params *p) {
    static const char place[] = "region.from_fd";
    struct os_stat st;
    char path[1024];
    int rc, seals, access, memory;

    memset(r, 0, sizeof *r);
    r->fd = -1;
    if (fd < 0) return shf__fail(SHF_ERR_INVALID, EBADF, place, "", "%d is not a file descriptor", fd);
    access = os_fd_flags(fd);
    if (access == -EBADF) return shf__fail(SHF_ERR_INVALID, EBADF, place, "", "%d is not an open file descriptor", fd);
    name_of_fd(fd, path, sizeof path, &memory);
    if (access < 0) return fail_os(access, place, path, "ask for the flags of");
    rc = check_params(path, p);
    if (rc < 0) return rc;
    rc = os_fstat(fd, &st);
    if (rc < 0) return fail_os(rc, place, path, "ask for the size of");
    rc = check_kind(place, path, &st);
    if (rc < 0) return rc;
    if (access == O_WRONLY)
        return shf__fail(SHF_ERR_PERMISSION, 0, place, path,
                         "descriptor %d ('%s') is open for writing only; use O_RDWR", fd, path);
    /* Any file on tmpfs has seals; without /proc, one without a name counts as a memory file. */
    seals = st.nlink == 0 ? os_seals(fd) : -EINVAL;
    if (seals >= 0 && (memory || path[0] != '/') && !(seals & F_SEAL_SHRINK))
        return shf__fail(
            SHF_ERR_PERMISSION, 0, place, path,
            "'%s' (descriptor %d) is a memory file that may shrink under its users; its maker must seal it "
            "with F_SEAL_SHRINK",
            path, fd);
    rc = start(r, place, path);
    if (rc < 0) return rc;
    r->is_memfd = 1;
    r->read_only = access == O_RDONLY;
    rc = os_dup(fd);
    if (rc < 0) {
        rc = fail_os(rc, place, path, "duplicate the descriptor of");
    } else {
        r->fd = rc;
        rc = attach(r, p, &st);
    }
    if (rc != SHF_OK) shf__region_close(r);
    return rc;
}

void shf__region_close(struct shf_region *r) {
    drop_file(r);
    free(r->path);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

/* ---- names -------------------------------------------------------------------------------------------- */

int shf__region_replaced(const struct shf_region *r) {
    struct os_stat st;
    if (r->is_memfd) return 0;
    if (os_stat(r->path, &st) < 0 || st.dev != r->dev || st.ino != r->ino) return 1;
    return st.nlink > 1; /* rule 3 again. (Not exact: the kernel counts a name down before it takes it away.) */
}

/* Between the last look and unlink somebody may put another file there: the kernel has no "unlink this inode". Who can
 * do so may write the folder, and could have removed that file himself. */
int shf__region_unlink(const char *path) {
    static const char place[] = "region.unlink";
    struct os_stat st, now;
    uint64_t magic = 0;
    int fd, rc;

    if (path == NULL) return shf__fail(SHF_ERR_INVALID, 0, place, "", "the path is NULL");
    rc = os_stat(path, &st);
    if (rc < 0) return fail_os(rc, place, path, "remove");
    rc = check_kind(place, path, &st);
    if (rc < 0) return rc;
    fd = os_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0) return fail_os(fd, place, path, "look into");
    rc = os_fstat(fd, &st);
    if (rc < 0)
        rc = fail_os(rc, place, path, "look at");
    else
        rc = check_kind(place, path, &st);
    if (rc == SHF_OK) rc = check_links(place, path, &st);
    if (rc == SHF_OK) {
        int got = os_pread(fd, &magic, sizeof magic, 0);
        if (got < 0)
            rc = fail_os(got, place, path, "look into");
        else if (got < (int)sizeof magic || magic != SHF_MAGIC)
            rc = shf__fail(SHF_ERR_INVALID_PATH, 0, place, path, "'%s' is not a shf file, so it is not removed", path);
    }
    if (rc == SHF_OK) {
        rc = os_stat(path, &now);
        if (rc == 0 && (now.dev != st.dev || now.ino != st.ino)) rc = -ENOENT; /* ours has gone already */
        if (rc == 0) rc = os_unlink(path);
        if (rc < 0) rc = fail_os(rc, place, path, "remove");
    }
    os_close(fd);
    return rc;
}

/* ---- size --------------------------------------------------------------------------------------------- */

/* 1 if it moved. */
static int size_up(struct shf_region *r, uint64_t end) {
    size_t now = atomic_load_explicit(&r->size, memory_order_relaxed);
    while (end > now) {
        if (atomic_compare_exchange_weak_explicit(&r->size, &now, (size_t)end, memory_order_acq_rel, /* S1 */
                                                  memory_order_relaxed))
            return 1;
    }
    return 0;
}

void shf__region_grown(struct shf_region *r, uint64_t end) { (void)size_up(r, end); }

int shf__region_refresh(struct shf_region *r) {
    struct os_stat st;
    uint64_t end = shm_load_acquire(&r->header->end); /* E2 */
    size_t now = atomic_load_explicit(&r->size, memory_order_relaxed);
    if (end <= now || now == r->reserved) return 0;
    int rc = os_fstat(r->fd, &st);
    atomic_store_explicit(&r->size_error, rc < 0 ? -rc : 0, memory_order_relaxed);
    if (rc < 0) return 0;
    if (end > st.size) end = st.size;
    if (end > r->reserved) end = r->reserved;
    return size_up(r, end - end % SHF_PAGE);
}

void *shf__region_at_slow(struct shf_region *r, uint64_t offset, uint64_t n) {
    if (n == 0 || n > UINT64_C(1) << 32 || (offset & 7) != 0) return NULL;
    for (int looks = 0; looks < 2; looks++) {
        size_t size = atomic_load_explicit(&r->size, memory_order_relaxed);
        if (n <= size && offset <= size - n) return r->base + offset;
        if (looks == 0) (void)shf__region_refresh(r);
    }
    return NULL;
}
