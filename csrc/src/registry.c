// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * registry.c - which handles are attached, and the proof that one lives
 *
 * WHAT       A handle that can write takes one of 1,023 slots. It lives as long as the kernel holds an open file
 *            description (OFD) write lock on the slot's byte for it: no pid, no heartbeat, nothing to clean up. A
 *            LIFE is (slot, generation); every word in the file that somebody may leave behind names a life.
 * NOT        A guard against threads that die alone, against a process that closes descriptors it did not open
 *            (closefrom over L ends the life while it runs), against a process that shares its maker's memory without being
 *            a thread of it (clone with CLONE_VM alone) and outlives it, or against writers that forge the registry.
 *
 * LAYOUT     registry pages 1..8: 1,024 slots of 32 bytes, slot 0 is nobody's
 *               0 generation 4    4 pid 4    8 pending 4    12 origin 4    16 name 16
 *            header line: 256 boot_id 16   272 dev 8   280 ino 8   288 dirty 4
 *            lock bytes (never data, beyond any file size):
 *               2^62          byte R, the registry's own lock
 *               2^62 + slot   the life in that slot
 *            generation, pid, origin, name: written by the slot's life; pid also as 0 when it leaves. pending: pages.c.
 *            header fields: written by a holder of byte R.
 *
 * DESCRIPTORS   D (region->fd): mapping, fallocate, and every probe. No lock is ever set through D, so a probe
 *               through it conflicts with all lives, our own included.
 *               L (shf_life.fd): the locks of one handle. Opened anew from the path (or /proc/self/fd), never
 *               mapped (a mapping pins the description, and a fork shares it), dup'ed or sent; O_CLOEXEC.
 *
 * STATES AND LEGAL MOVES of a slot; R = only a holder of byte R
 *    free (byte unlocked)       -> taken (byte locked, old generation)   R     lock the byte
 *    taken                      -> live (slot, generation + 1)           R     [G1]
 *    live, taken                -> free                                  kernel, at death or close of L; or unlock
 *    Byte R comes before the slot's byte: a locked byte seen under R is a life that has passed the unclean check.
 *
 * ORDERING        each label stands beside exactly one operation below
 *    G1 release   the new generation; fence G2 (seq_cst) follows it before any lock word can name the new life.
 *    G2 seq_cst   pairs with G3: who has read a word of life (s, g) then reads generation g or a later one, and the pid
 *                 and origin of g or of a later one: they are stored before this fence.
 *    G3 acquire   fence before the generation is read in is_dead.
 *    K1 seq_cst   fence after every verdict "dead" or "over". C11 gives no edge from the dead one's last stores; the kernel's
 *                 does: it drops the byte once no thread of the owner can run any more, and shows a thread without an address
 *                 space only when that thread cannot.
 *    R1 seq_cst   fence after byte R was taken. Same reason; it pairs with the unlock's system call.
 *    H1 release   dirty = 1, after boot_id, dev, ino: pairs with H2.
 *    H2 acquire   load of dirty by an attacher that does not hold R (a read-only one).
 *    F1 release   g->process, after owner and life: pairs with the acquire in shf__registry_owner.
 *    F2 release   the new process id, after the inherited Ls were closed; pairs with F3.
 *    F3 acquire   load of the process id.
 *
 * IS_DEAD(s, g)   1. generation of s != g: dead. The new life has the byte, so the old one has lost it.
 *                 2. probe: unlocked: dead. Generation g was in the slot *before* the probe, so life (s, g) had begun;
 *                    nobody had the byte at the probe, so it was over. (Read only after the probe, an equal
 *                    generation would do as well; read before, it also spares the system call.)
 *                 3. locked: generation again; != g: dead. The lock seen may be that of the next life, which has bumped
 *                    it meanwhile. Still g: alive. That may be a late answer (the next life has the byte and not
 *                    yet bumped), never a false death; the next question gets it right.
 *                 Own slot: the byte is ours, so only our own generation lives. Asked of private memory: no kernel, and
 *                 a scribbled slot cannot make us rob ourselves. Slot 0 and generation 0 are no lives: dead.
 *                 A probe that fails (-errno) counts as alive.
 *                 A probe asks for a READ lock: a process that may only read the file can hold read locks on all the
 *                 bytes; it keeps new lives out (BUSY, TIMEOUT at R) but looks dead to every probe.
 *
 * IS_OVER(s, g)   The kernel takes down the memory of a dying process before it closes its files: some 0.1 s for each GB that
 *                 it had touched (measured), while the byte is still locked and nobody runs. Who waits for a lock may ask
 *                 /proc instead: once no thread of the owner has an address space, none of them can store. The
 *                 process must be the owner's: same pid namespace, pid and start time (origin is a hash of the first and
 *                 the last; 0, also a /proc of another namespace, is no answer). pid and origin read may be those of a
 *                 later life of the slot: then g is over all the same. A process that dumps its core is not over until
 *                 the dump is written. A child of a raw clone that has not used shf is no matter: it will register
 *                 anew. The slot stays taken until the byte is free, so nobody else becomes (s, g + 1) before.
 *
 * UNCLEAN    dirty = 1 is on disk before the first change; 0 after the last detacher's fsync. Found dirty, no slot
 *            alive, and dev/ino are not this file's (a copy made of a live file) or, on a disk, boot_id is not this
 *            boot's (the machine went down): SHF_ERR_UNCLEAN. The test comes before the first store of an attach.
 *
 * FORK       A forked child shares the parent's descriptions: its copy of L would keep the parent's life going.
 *            fork()            the child handler closes every L of the process-wide list at once.
 *            _Fork, raw clone  no handler runs. The process id lives in a page that the kernel wipes: the first use of
 *                              any handle finds 0, closes every inherited L, then makes a new id. Until then (or exec,
 *                              or exit) the parent seems alive after its death: late, never false.
 *            vfork, spawn      exec closes L (O_CLOEXEC); the child must not use shf.
 *            A handle whose `process` is not the running id registers anew: a new slot, a new L. The old owner value is
 *            the parent's. Inherited descriptors are only ever *closed*: F_UNLCK would unlock for the parent.
 *            `entering` and `registry_busy` hold a tag of the process id: one that a thread of the parent held at the
 *            fork is recognised as nobody's.
 *            Between open and list entry a fork() by another thread would leave a copy in the child that the handler does
 *            not know. So forks are counted: if one began meanwhile, L is closed and opened anew. (500 ms at most: who
 *            forks without a pause, or in a handler waits for the opener, has a window of 1 us: as raw clone.)
 *
 * INVARIANTS (numbers are used by tests)
 *    G-I1  a live (slot, generation) is never reported dead
 *    G-I2  a life that has ended is reported dead by the next question after the kernel has dropped its byte, and over
 *          after its last thread has lost its address space, if /proc tells
 *    G-I3  no generation is given twice in 2^20 - 1 lives of a slot; the object's open takes over what older ones left
 *    G-I4  a failed attach leaves no lock and no descriptor, and if it failed by UNCLEAN or BUSY no store
 *
 * IF THE OWNER DIES
 *    before G1                 its byte is free, the old generation is dead as before
 *    between G1 and H1         a dead life like any other; the next attacher does the header again
 *    in the sweep              byte R is free, the next sweep starts again (sweep_slot is idempotent)
 *    in detach                 dirty stays 1: harmless but for a crash of the machine; or it is 0 and all is on disk
 *
 * LOCK ORDER      registry_busy (own threads) < byte R < every lock word. No lock word is held when asking for R.
 *
 * PROOF           csrc/tests/validate_registry.c   rounds, full registry, fork matrix, read-lockers, copies
 *                 csrc/tests/crash_lock.c          dies at its k-th shared store, for every k
 *                 csrc/tests/stress_lock.c         lives killed at random
 */
#include "registry.h"

#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define BYTE_R (UINT64_C(1) << 62)
#define LIFE_BYTE(slot) (BYTE_R + (slot))
#define TMPFS_MAGIC UINT64_C(0x01021994)
#define HUGETLBFS_MAGIC UINT64_C(0x958458f6)
#define DENSE_SLOTS 64u                         /* always tried first, so that the low ones are reused */
#define SWEEP_WAIT_NS UINT64_C(100000000)       /* for a shard's lock, while R is held */
#define SWEEP_EVERY_NS UINT64_C(10000000)
#define FORK_WAIT_NS UINT64_C(500000000)
#define DETACH_WAIT_NS UINT64_C(200000000)      /* for byte R, when leaving */
#define DEFAULT_TIMEOUT_NS UINT64_C(10000000000)
#define NAP_MIN_NS UINT64_C(20000)
#define NAP_MAX_NS UINT64_C(2000000)

/* ---- the process: its id, and the list of its Ls -------------------------------------------------------- */

/* Nodes are made by malloc, reused, never freed: a fork handler may walk the list at any time. */
struct shf_life {
    _Atomic int fd;            /* L, or -1 */
    _Atomic uint32_t used;     /* 1: a handle has this node */
    _Atomic uint64_t dev, ino; /* of the file L was opened on, set before fd */
    struct shf_life *next;
};
static struct shf_life *_Atomic lives;

#define ID_CLOSING UINT64_C(1)  /* a thread is closing the inherited Ls */
static shf_au64 *_Atomic process_word; /* 0 = forked since; ID_CLOSING; or the process id */
static const shf_au64 no_process = 0;
static _Atomic uint32_t fork_handler_set;

/* The handle this thread is registering: its locks already use the new owner, other threads wait. */
static _Thread_local const struct shf_registry *entering_here;

/* Closes L if the number still means that file: a child may have closed all descriptors and opened others. */
static void life_close(struct shf_life *life) {
    int fd = atomic_exchange_explicit(&life->fd, -1, memory_order_acq_rel);
    struct os_stat st;
    if (fd < 0) return;
    if (os_fstat(fd, &st) == 0 && st.dev == atomic_load_explicit(&life->dev, memory_order_relaxed) &&
        st.ino == atomic_load_explicit(&life->ino, memory_order_relaxed))
        os_close(fd);
}

/* In a forked child: everything in the list is the parent's. Async-signal-safe. */
static void close_inherited(void) {
    for (struct shf_life *l = atomic_load_explicit(&lives, memory_order_acquire); l; l = l->next) life_close(l);
}

/* fork() calls of this process, by its handlers. */
static _Atomic uint32_t forks_begun, forks_done;
static void fork_begins(void) { atomic_fetch_add(&forks_begun, 1); }
static void fork_done(void) { atomic_fetch_add(&forks_done, 1); }
static void fork_child(void) {
    atomic_store(&forks_done, atomic_load(&forks_begun));
    close_inherited();
}

static struct shf_life *life_get(void) {
    struct shf_life *head = atomic_load_explicit(&lives, memory_order_acquire);
    for (struct shf_life *l = head; l; l = l->next) {
        uint32_t unused = 0;
        if (atomic_compare_exchange_strong_explicit(&l->used, &unused, 1, memory_order_acquire, memory_order_relaxed))
            return l;
    }
    struct shf_life *l = malloc(sizeof *l);
    if (!l) return NULL;
    atomic_init(&l->fd, -1);
    atomic_init(&l->used, 1);
    atomic_init(&l->dev, 0);
    atomic_init(&l->ino, 0);
    do l->next = head;
    while (!atomic_compare_exchange_weak_explicit(&lives, &head, l, memory_order_acq_rel, memory_order_acquire));
    return l;
}

static void life_put(struct shf_life *life) { atomic_store_explicit(&life->used, 0, memory_order_release); }

static uint64_t fresh_id(void) {
    uint64_t id = 0;
    if (os_random(&id, sizeof id) < 0) id = os_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
    id ^= (uint64_t)os_pid() << 32;
    return id > ID_CLOSING ? id : id + 2;
}

/* Names a process beside its pid: the namespace of that number, and when it started. 0: /proc does not tell. */
static uint32_t origin_of(uint32_t pid, uint64_t *start) {
    uint64_t words[2];
    if (os_pid_namespace(&words[0]) < 0 || os_process_start(pid, &words[1]) < 0) return 0;
    *start = words[1];
    return (uint32_t)shf__checksum(words, sizeof words) | 1;
}

/* What `entering` and `registry_busy` hold for a thread of process `id`: never 0. */
static uint32_t tag_of(uint64_t id) { return (uint32_t)(id ^ id >> 32) | 1; }

/* The id of the running process, making one after a fork. 0 if this kernel cannot tell that. Inherited Ls are closed
 * before the id appears, so whoever has an id may open a new L without a late closer taking it for an inherited one. */
static uint64_t process_id(void) {
    shf_au64 *w = atomic_load_explicit(&process_word, memory_order_acquire);
    if (!w) {
        shf_au64 *mine = os_wipe_on_fork_word();
        if (!mine) return 0;
        if (atomic_compare_exchange_strong_explicit(&process_word, &w, mine, memory_order_acq_rel,
                                                    memory_order_acquire))
            w = mine;
    }
    for (;;) {
        uint64_t v = atomic_load_explicit(w, memory_order_acquire); /* F3 */
        if (v > ID_CLOSING) return v;
        if (v == 0 && atomic_compare_exchange_strong_explicit(w, &v, ID_CLOSING, memory_order_acq_rel,
                                                              memory_order_relaxed)) {
            close_inherited();
            v = fresh_id();
            atomic_store_explicit(w, v, memory_order_release); /* F2 */
            return v;
        }
        os_yield();
    }
}

uint64_t shf__registry_process(const struct shf_registry *g) { return g->process_now == &no_process ? os_pid() : process_id(); }

/* Two threads may both register it: it does its work once, however often it is called. */
static int set_fork_handler(void) {
    if (atomic_load_explicit(&fork_handler_set, memory_order_acquire)) return 0;
    int rc = os_at_fork(fork_begins, fork_done, fork_child);
    if (rc >= 0) atomic_store_explicit(&fork_handler_set, 1, memory_order_release);
    return rc;
}

uint32_t shf__registry_own(const struct shf_registry *g) {
    if (entering_here != g) {
        uint64_t now = atomic_load_explicit(g->process_now, memory_order_acquire);
        if (now <= ID_CLOSING || now != atomic_load_explicit(&g->process, memory_order_acquire)) return 0;
    }
    return atomic_load_explicit(&g->owner, memory_order_relaxed);
}

static int id_intact(const struct shf_registry *g, uint64_t id) {
    return atomic_load_explicit(g->process_now, memory_order_acquire) == id;
}

/* ---- asking --------------------------------------------------------------------------------------------- */

/* The registry pages are there in every file that could be opened (region.c checks its least size). */
struct shf_shm_slot *shf__registry_slot(struct shf_registry *g, uint32_t slot) {
    struct shf_shm_slot *slots = (struct shf_shm_slot *)(void *)(g->region->base + SHF_REGISTRY_PAGE * SHF_PAGE);
    return &slots[slot & (SHF_SLOT_COUNT - 1)];
}

static int is_locked(struct shf_registry *g, uint32_t slot) { /* errors count as locked */
    return os_ofd_probe(g->region->fd, LIFE_BYTE(slot)) != 0;
}

int shf__registry_is_dead(struct shf_registry *g, uint32_t owner) {
    uint32_t slot = SHF_OWNER_SLOT(owner), generation = SHF_OWNER_GENERATION(owner);
    uint32_t me = shf__registry_own(g);
    int dead;
    if (slot == 0 || slot >= SHF_SLOT_COUNT || generation == 0) {
        dead = 1;
    } else if (me && slot == SHF_OWNER_SLOT(me)) {
        dead = owner != me;
    } else {
        const shf_au32 *present = &shf__registry_slot(g, slot)->generation;
        shf_fence_acquire(); /* G3 */
        dead = shm_load_acquire32(present) != generation || !is_locked(g, slot) ||
               shm_load_acquire32(present) != generation;
    }
    if (dead) shf_fence_seq_cst(); /* K1 */
    return dead;
}

int shf__registry_is_over(struct shf_registry *g, uint32_t owner) {
    struct shf_shm_slot *s = shf__registry_slot(g, SHF_OWNER_SLOT(owner));
    uint32_t pid = shm_load_relaxed32(&s->pid), origin = shm_load_relaxed32(&s->origin);
    uint64_t start;
    if (pid == 0 || origin == 0 || pid == os_pid() || origin_of(pid, &start) != origin) return 0;
    if (os_process_is_over(pid, start) != 1) return 0;
    shf_fence_seq_cst(); /* K1 */
    return 1;
}

/* The number of lives beside slot `mine`; stops counting at `most`. */
static uint32_t others_alive(struct shf_registry *g, uint32_t mine, uint32_t most) {
    uint32_t n = 0;
    for (uint32_t s = 1; s < SHF_SLOT_COUNT && n < most; s++)
        if (s != mine && shm_load_acquire32(&shf__registry_slot(g, s)->generation) != 0) n += (uint32_t)is_locked(g, s);
    return n;
}

uint32_t shf__registry_count(struct shf_registry *g) {
    uint32_t me = shf__registry_own(g);
    return (me != 0) + others_alive(g, SHF_OWNER_SLOT(me), SHF_SLOT_COUNT);
}

/* ---- byte R --------------------------------------------------------------------------------------------- */

static int busy_try(struct shf_registry *g, uint64_t id) {
    uint32_t seen = atomic_load_explicit(&g->registry_busy, memory_order_relaxed);
    return seen != tag_of(id) && /* 0, or of a thread that did not come through the fork */
           atomic_compare_exchange_strong_explicit(&g->registry_busy, &seen, tag_of(id), memory_order_acquire,
                                                   memory_order_relaxed);
}

static void busy_end(struct shf_registry *g) {
    atomic_store_explicit(&g->registry_busy, 0, memory_order_release);
}

/* 0; -EAGAIN: somebody else has it; -errno. */
static int r_try(struct shf_registry *g, int fd, uint64_t id) {
    if (!busy_try(g, id)) return -EAGAIN;
    int rc = os_ofd_lock(fd, BYTE_R);
    if (rc < 0) {
        busy_end(g);
        return rc == -EACCES ? -EAGAIN : rc;
    }
    shf_fence_seq_cst(); /* R1 */
    return 0;
}

static int r_lock(struct shf_registry *g, int fd, uint64_t id, uint64_t wait_ns) {
    uint64_t start = 0, nap = NAP_MIN_NS;
    for (;;) {
        int rc = r_try(g, fd, id);
        if (rc != -EAGAIN) return rc;
        uint64_t now = os_now_ns();
        if (!start) start = now;
        if (now - start >= wait_ns) return -EAGAIN;
        os_sleep_ns(nap / 2 + (now ^ id) % nap); /* jitter: the clock's low digits */
        if (nap < NAP_MAX_NS) nap *= 2;
    }
}

static void r_unlock(struct shf_registry *g, int fd, uint64_t id) {
    if (id_intact(g, id)) os_ofd_unlock(fd, BYTE_R);
    busy_end(g);
}

/* ---- entering ------------------------------------------------------------------------------------------- */

static uint64_t timeout_of(const struct shf_registry *g) {
    return g->lock_timeout_ns ? g->lock_timeout_ns : DEFAULT_TIMEOUT_NS;
}

static int system_error(int rc, const struct shf_region *r, const char *place, const char *what) {
    int code = SHF_ERR_IO;
    if (rc == -EACCES || rc == -EPERM) code = SHF_ERR_PERMISSION;
    if (rc == -ENOMEM) code = SHF_ERR_NO_MEMORY;
    if (rc == -EINVAL || rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENOLCK) code = SHF_ERR_UNSUPPORTED;
    return shf__fail(code, -rc, place, r->path, "%s: %s", r->path ? r->path : "", what);
}

static int life_try(struct shf_registry *g, struct shf_life *life, int *fd) {
    struct shf_region *r = g->region;
    struct os_stat st;
    int l = -ENOENT;
    if (!r->is_memfd && r->path) {
        l = os_open(r->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
        if (l >= 0 && (os_fstat(l, &st) < 0 || st.dev != r->dev || st.ino != r->ino)) {
            os_close(l); /* the path names another file by now */
            l = -ENOENT;
        }
    }
    if (l < 0 && l != -EMFILE && l != -ENFILE) {
        int again = os_open_fd(r->fd, O_RDWR);
        if (again >= 0 || l == -ENOENT) l = again;
    }
    if (l < 0)
        return system_error(l, r, "registry: open L",
                            "the lock descriptor could not be opened (a memory file, or a path that has vanished, "
                            "needs /proc)");
    atomic_store_explicit(&life->dev, r->dev, memory_order_relaxed);
    atomic_store_explicit(&life->ino, r->ino, memory_order_relaxed);
    atomic_store_explicit(&life->fd, l, memory_order_release);
    *fd = l;
    return SHF_OK;
}

/* Opens L, an open file description of the handle's own, and enters it in the list. If another thread's fork began meanwhile,
 * its child may have a copy that its handler did not find in the list: then anew, as a description without any lock. (A fork
 * that waits in somebody's handler for this very thread must not be waited for: FORK_WAIT_NS.) */
static int life_open(struct shf_registry *g, struct shf_life *life, int *fd) {
    uint64_t start = os_now_ns();
    for (;;) {
        uint32_t begun = atomic_load(&forks_begun);
        int late = os_now_ns() - start > FORK_WAIT_NS;
        if (begun != atomic_load(&forks_done) && !late) {
            os_yield();
            continue;
        }
        int rc = life_try(g, life, fd);
        shf_fence_seq_cst(); /* the list entry before the look at the forks; fork_begins has the other one */
        if (rc != SHF_OK || late || atomic_load(&forks_begun) == begun) return rc;
        life_close(life);
    }
}

struct here {
    uint64_t boot_id[2];
    int boot_known;
};

/* Without /proc the boot is not known. Any other failure is an error: what is unknown for a moment (no descriptor, no memory)
 * must neither hide that the machine went down nor be written over what is known. */
static int look_around(struct shf_registry *g, struct here *here) {
    int rc = os_boot_id(here->boot_id);
    here->boot_known = rc >= 0;
    if (rc >= 0) return SHF_OK;
    here->boot_id[0] = here->boot_id[1] = 0;
    if (rc == -ENOENT || rc == -EACCES) return SHF_OK;
    return system_error(rc, g->region, "registry: boot id", "which boot this is (/proc/sys/kernel/random/boot_id) cannot be read");
}

static shf_au64 *word_of(uint64_t *field) { return (shf_au64 *)(void *)field; }

/* 1 if a life beside slot `mine` is sure, 0 if there is none; -errno if that cannot be asked for. */
static int somebody_lives(struct shf_registry *g, uint32_t mine) {
    for (uint32_t s = 1; s < SHF_SLOT_COUNT; s++) {
        if (s == mine || shm_load_acquire32(&shf__registry_slot(g, s)->generation) == 0) continue;
        int rc = os_ofd_probe(g->region->fd, LIFE_BYTE(s));
        if (rc != 0) return rc;
    }
    return 0;
}

/* SHF_OK or SHF_ERR_UNCLEAN; stores nothing. */
static int check_unclean(struct shf_registry *g, const struct here *here) {
    struct shf_region *r = g->region;
    struct shf_shm_header *h = r->header;
    uint64_t fs = 0;
    int rc;
    if (!shm_load_acquire32(&h->dirty)) return SHF_OK; /* H2 */
    int same_file = shm_load_relaxed(word_of(&h->dev)) == r->dev && shm_load_relaxed(word_of(&h->ino)) == r->ino;
    int same_boot = !here->boot_known || (shm_load_relaxed(word_of(&h->boot_id[0])) == here->boot_id[0] &&
                                          shm_load_relaxed(word_of(&h->boot_id[1])) == here->boot_id[1]);
    if (same_file && !same_boot)
        same_boot = os_fs_type(r->fd, &fs) >= 0 && (fs == TMPFS_MAGIC || fs == HUGETLBFS_MAGIC);
    if (same_file && same_boot) return SHF_OK;
    rc = somebody_lives(g, 0);
    if (rc > 0) return SHF_OK;
    if (rc < 0) return system_error(rc, r, "registry: probe", "whether somebody has it open cannot be asked for");
    return shf__fail(SHF_ERR_UNCLEAN, 0, "header: dirty", r->path,
                     same_file ? "%s was in use when the machine went down; restore it or make it anew"
                               : "%s is a copy of a file that was in use; copy it when nobody has it open",
                     r->path ? r->path : "");
}

static void store_if_other(uint64_t *field, uint64_t v) {
    if (shm_load_relaxed(word_of(field)) != v) shm_store_relaxed(word_of(field), v);
}

/* On the disk before the first change can be. Found dirty beside a life it is there: that one waited for it, under R. Found so
 * with nobody alive it may be the store of one who died, or failed, before it was written. */
static int set_dirty(struct shf_registry *g, uint32_t mine, const struct here *here) {
    struct shf_region *r = g->region;
    struct shf_shm_header *h = r->header;
    int was = shm_load_acquire32(&h->dirty) != 0;
    store_if_other(&h->boot_id[0], here->boot_id[0]);
    store_if_other(&h->boot_id[1], here->boot_id[1]);
    store_if_other(&h->dev, r->dev);
    store_if_other(&h->ino, r->ino);
    if (was && somebody_lives(g, mine) > 0) return SHF_OK;
    if (!was) shm_store_release32(&h->dirty, 1); /* H1 */
    int rc = os_msync(r->base, SHF_PAGE);
    return rc < 0 ? system_error(rc, r, "registry: msync", "the header could not be written") : SHF_OK;
}

static int slot_try(int fd, uint32_t slot, int *error) {
    int rc = os_ofd_lock(fd, LIFE_BYTE(slot));
    if (rc < 0 && rc != -EAGAIN && rc != -EACCES) *error = rc;
    return rc >= 0;
}

/* Locks a slot's byte. The pid is advice about which slots are worth a system call; the low ones always are. */
static int slot_take(struct shf_registry *g, int fd, uint32_t *slot) {
    int error = 0;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t s = 1; s < SHF_SLOT_COUNT && !error; s++) {
            int first = s <= DENSE_SLOTS || shm_load_relaxed32(&shf__registry_slot(g, s)->pid) == 0;
            if ((pass == 0 && !first) || (pass == 1 && s <= DENSE_SLOTS)) continue;
            if (slot_try(fd, s, &error)) {
                *slot = s;
                return SHF_OK;
            }
        }
    if (error) return system_error(error, g->region, "registry: lock", "no open file description locks here");
    return shf__fail(SHF_ERR_BUSY, 0, "registry: slots", g->region->path,
                     "%s: all %u slots are taken; close handles, or open read-only",
                     g->region->path ? g->region->path : "", SHF_SLOT_COUNT - 1);
}

static void slot_name(struct shf_registry *g, uint32_t slot, uint32_t origin) {
    struct shf_shm_slot *s = shf__registry_slot(g, slot);
    char name[16] = {0};
    os_process_name(name);
    shm_store_relaxed32(&s->pid, os_pid());
    shm_store_relaxed32(&s->origin, origin);
    shm_store_relaxed(&s->name[0], shf_load64(name));
    shm_store_relaxed(&s->name[1], shf_load64(name + 8));
}

_Thread_local uint64_t shf__registry_patience_ns;

static int sweep_one(struct shf_registry *g, uint32_t slot) {
    uint64_t before = shf__registry_be_patient(SWEEP_WAIT_NS);
    int rc = g->sweep_slot(g->context, slot);
    shf__registry_patience_ns = before;
    return rc;
}

/* Under byte R: no life can begin meanwhile, so a slot found unlocked stays so. A slot that cannot be swept (a shard of
 * its entries is damaged) does not keep the others from it; a shard whose holder is stopped ends the sweep, as R is held. */
static int sweep_dead(struct shf_registry *g, uint32_t mine) {
    int first = SHF_OK;
    if (!g->sweep_slot) return SHF_OK;
    for (uint32_t s = 1; s < SHF_SLOT_COUNT; s++) {
        if (s == mine || shm_load_acquire32(&shf__registry_slot(g, s)->pending) == 0 || is_locked(g, s)) continue;
        shf_fence_seq_cst();
        int rc = sweep_one(g, s);
        if (rc == SHF_ERR_TIMEOUT) return rc;
        if (rc != SHF_OK && first == SHF_OK) first = rc;
    }
    return first;
}

/* Under byte R, L open: the unclean test, a slot, a new generation, the header, the sweep. */
static int enter_under_r(struct shf_registry *g, int fd, uint32_t origin) {
    struct here here;
    uint32_t slot = 0;
    int rc = look_around(g, &here);
    if (rc == SHF_OK) rc = check_unclean(g, &here);
    if (rc == SHF_OK) rc = slot_take(g, fd, &slot);
    if (rc != SHF_OK) return rc;
    struct shf_shm_slot *s = shf__registry_slot(g, slot);
    uint32_t generation = (shm_load_relaxed32(&s->generation) + 1) & SHF_GENERATION_MASK;
    if (generation == 0) generation = 1;
    shm_store_release32(&s->generation, generation); /* G1 */
    slot_name(g, slot, origin);
    shf_fence_seq_cst(); /* G2 */
    atomic_store_explicit(&g->owner, SHF_OWNER(slot, generation), memory_order_relaxed);
    rc = set_dirty(g, slot, &here);
    if (rc != SHF_OK) {
        shm_store_relaxed32(&s->pid, 0);
        return rc;
    }
    /* What dead lives left. One stopped or damaged shard must not keep everybody from attaching: a failure is for the next
     * sweep. Our own slot's leftovers are looked at again before this life leaves something there itself (pages_pending.c,
     * N8). */
    if (g->sweep_slot == NULL || sweep_one(g, slot) != SHF_ERR_TIMEOUT) sweep_dead(g, slot);
    return SHF_OK;
}

/* Registers the handle under process id `id`. Its life node has no descriptor of this process. */
static int enter(struct shf_registry *g, uint64_t id) {
    struct shf_life *life = atomic_load_explicit(&g->life, memory_order_acquire);
    uint64_t start;
    uint32_t origin = origin_of(os_pid(), &start);
    int fd = -1;
    int rc = life_open(g, life, &fd);
    if (rc != SHF_OK) return rc;
    rc = r_lock(g, fd, id, timeout_of(g));
    if (rc < 0) {
        life_close(life);
        if (rc != -EAGAIN)
            return system_error(rc, g->region, "registry: byte R", "no open file description locks here");
        return shf__fail(SHF_ERR_TIMEOUT, 0, "registry: byte R", g->region->path,
                         "%s: another process kept the registry's lock (stopped while opening? a read lock by "
                         "somebody who may only read?)",
                         g->region->path ? g->region->path : "");
    }
    atomic_store_explicit(&g->owner, 0, memory_order_relaxed); /* in a child: the parent's */
    entering_here = g;
    rc = enter_under_r(g, fd, origin);
    entering_here = NULL;
    if (rc != SHF_OK) { /* unlocked by name first: a fork by another thread may have copied the descriptor */
        uint32_t owner = atomic_exchange_explicit(&g->owner, 0, memory_order_relaxed);
        if (owner && id_intact(g, id)) os_ofd_unlock(fd, LIFE_BYTE(SHF_OWNER_SLOT(owner)));
        r_unlock(g, fd, id);
        life_close(life);
        return rc;
    }
    atomic_store_explicit(&g->process, id, memory_order_release); /* F1 */
    r_unlock(g, fd, id);
    return SHF_OK;
}

int shf__registry_attach(struct shf_registry *g) {
    struct here here;
    atomic_init(&g->owner, 0);
    atomic_init(&g->process, 0);
    atomic_init(&g->life, NULL);
    atomic_init(&g->entering, 0);
    atomic_init(&g->registry_busy, 0);
    atomic_init(&g->swept, 0);
    g->process_now = &no_process;
    if (g->region->read_only) {
        int rc = look_around(g, &here);
        return rc == SHF_OK ? check_unclean(g, &here) : rc;
    }
    uint64_t id = process_id();
    if (!id)
        return shf__fail(SHF_ERR_UNSUPPORTED, 0, "registry: process id", g->region->path,
                         "this kernel has no MADV_WIPEONFORK (Linux 4.14), which handles need to survive fork");
    g->process_now = atomic_load_explicit(&process_word, memory_order_acquire);
    int rc = set_fork_handler();
    if (rc < 0) return system_error(rc, g->region, "registry: atfork", "the fork handler could not be set");
    struct shf_life *life = life_get();
    if (!life) return system_error(-ENOMEM, g->region, "registry: life", "no memory");
    atomic_store_explicit(&g->life, life, memory_order_release);
    rc = enter(g, id);
    if (rc != SHF_OK) {
        atomic_store_explicit(&g->life, NULL, memory_order_relaxed);
        life_put(life);
    }
    return rc;
}

uint32_t shf__registry_owner_slow(struct shf_registry *g) {
    const struct shf_region *r = g->region;
    if (entering_here == g) return atomic_load_explicit(&g->owner, memory_order_relaxed);
    if (!atomic_load_explicit(&g->life, memory_order_acquire)) {
        shf__fail(r->read_only ? SHF_ERR_READ_ONLY : SHF_ERR_INVALID, 0, "registry", r->path, NULL);
        return 0;
    }
    uint64_t id = process_id();
    for (;;) {
        if (atomic_load_explicit(&g->process, memory_order_acquire) == id)
            return atomic_load_explicit(&g->owner, memory_order_relaxed);
        uint32_t seen = atomic_load_explicit(&g->entering, memory_order_relaxed);
        if (seen != tag_of(id) && /* 0, or of a thread that did not come through the fork */
            atomic_compare_exchange_strong_explicit(&g->entering, &seen, tag_of(id), memory_order_acquire,
                                                    memory_order_relaxed))
            break;
        os_yield();
    }
    int rc = SHF_OK;
    if (atomic_load_explicit(&g->process, memory_order_acquire) != id) rc = enter(g, id);
    atomic_store_explicit(&g->entering, 0, memory_order_release);
    if (rc != SHF_OK) {
        shf__fail(SHF_ERR_FORKED, shf_last_error()->os_error, "registry: fork", r->path,
                  "%s: this handle came through fork and could not register again (%s)", r->path ? r->path : "",
                  shf_strerror(rc));
        return 0;
    }
    return atomic_load_explicit(&g->owner, memory_order_relaxed);
}

/* ---- leaving and sweeping ------------------------------------------------------------------------------- */

/* fsync; dirty = 0. A failed one leaves it dirty: right, as the disk does not have it all. */
static void make_clean(struct shf_region *r) {
    if (os_fsync(r->fd) < 0) return; /* all of the file: others may have made it longer than this handle has seen */
    shm_store_release32(&r->header->dirty, 0);
    os_msync(r->base, SHF_PAGE);
}

void shf__registry_detach(struct shf_registry *g) {
    struct shf_region *r = g->region;
    struct shf_life *life = atomic_load_explicit(&g->life, memory_order_acquire);
    if (!life) return;
    uint32_t me = shf__registry_own(g);
    if (me) { /* else it is the parent's life: only close what was inherited */
        uint64_t id = atomic_load_explicit(&g->process, memory_order_relaxed);
        uint32_t slot = SHF_OWNER_SLOT(me);
        int fd = atomic_load_explicit(&life->fd, memory_order_acquire);
        if (!others_alive(g, slot, 1)) os_fsync(r->fd);
        int have_r = r_lock(g, fd, id, DETACH_WAIT_NS) == 0; /* the long part is done: R is held briefly */
        if (have_r && !others_alive(g, slot, 1)) make_clean(r);
        shm_store_relaxed32(&shf__registry_slot(g, slot)->pid, 0);
        /* Unlocked by name, before the close: another thread's fork may copy the descriptor just now. The slot before
         * R: the next one at R must not count us. */
        if (id_intact(g, id)) os_ofd_unlock(fd, LIFE_BYTE(slot));
        if (have_r) r_unlock(g, fd, id);
    }
    atomic_store_explicit(&g->process, 0, memory_order_relaxed);
    atomic_store_explicit(&g->owner, 0, memory_order_relaxed);
    atomic_store_explicit(&g->life, NULL, memory_order_relaxed);
    life_close(life);
    life_put(life);
}

int shf__registry_sweep(struct shf_registry *g, int force) {
    uint32_t me = shf__registry_owner(g);
    if (!me) me = shf__registry_owner_slow(g);
    if (!me) return shf_last_error()->code;
    uint64_t id = atomic_load_explicit(&g->process, memory_order_acquire);
    uint64_t now = os_now_ns(), last = atomic_load_explicit(&g->swept, memory_order_relaxed);
    if (!force && last && now - last < SWEEP_EVERY_NS) return SHF_OK;
    atomic_store_explicit(&g->swept, now, memory_order_relaxed);
    struct shf_life *life = atomic_load_explicit(&g->life, memory_order_acquire);
    int fd = atomic_load_explicit(&life->fd, memory_order_acquire);
    int rc = r_try(g, fd, id);
    if (rc == -EAGAIN) return SHF_OK;
    if (rc < 0) return system_error(rc, g->region, "registry: byte R", "the registry's lock failed");
    rc = sweep_dead(g, SHF_OWNER_SLOT(me));
    r_unlock(g, fd, id);
    return rc;
}
