/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * atomic.h - the only way to shared memory: atomics named by their order, and copies made of them
 *
 * WHAT       Every store to shared memory goes through one of the shm_* stores below, every load that may race
 *            goes through a load below. Nothing else dereferences a pointer into the map, but for private
 *            loads of bytes that a held lock protects.
 * CRASH      With SHF_CRASH_POINTS each store first calls shf__crash_point(), which counts and can end the
 *            process just before the k-th store. A copy counts once for each 8-byte word. So "a death at every
 *            store" is a loop over k.
 * ORDERS     release store / acquire load for words that publish, relaxed for the bytes behind them. A
 *            compiler fence on both sides of arm and disarm is enough (lock.h, ORDERING).
 * COPIES     8-byte relaxed atomics on both sides: a reader that races sees old or new words, never a
 *            data race in C11's sense. The verdict about them is the version check (table.h).
 */
#ifndef SHF_ATOMIC_H
#define SHF_ATOMIC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef _Atomic uint64_t shf_au64;
typedef _Atomic uint32_t shf_au32;
_Static_assert(sizeof(shf_au64) == 8 && sizeof(shf_au32) == 4, "atomics must be plain words");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

#define SHF_LIKELY(x) __builtin_expect(!!(x), 1)
#define SHF_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SHF_COLD __attribute__((noinline, cold))
#define SHF_INLINE static inline __attribute__((always_inline))

#ifdef SHF_CRASH_POINTS
void shf__crash_point(void); /* os.c */
#else
static inline void shf__crash_point(void) {}
#endif

static inline uint64_t shm_load_acquire(const shf_au64 *p) {
    return atomic_load_explicit((shf_au64 *)p, memory_order_acquire);
}
static inline uint64_t shm_load_relaxed(const shf_au64 *p) {
    return atomic_load_explicit((shf_au64 *)p, memory_order_relaxed);
}
static inline uint32_t shm_load_acquire32(const shf_au32 *p) {
    return atomic_load_explicit((shf_au32 *)p, memory_order_acquire);
}
static inline uint32_t shm_load_relaxed32(const shf_au32 *p) {
    return atomic_load_explicit((shf_au32 *)p, memory_order_relaxed);
}
static inline void shm_store_release(shf_au64 *p, uint64_t v) {
    shf__crash_point();
    atomic_store_explicit(p, v, memory_order_release);
}
static inline void shm_store_relaxed(shf_au64 *p, uint64_t v) {
    shf__crash_point();
    atomic_store_explicit(p, v, memory_order_relaxed);
}
static inline void shm_store_release32(shf_au32 *p, uint32_t v) {
    shf__crash_point();
    atomic_store_explicit(p, v, memory_order_release);
}
static inline void shm_store_relaxed32(shf_au32 *p, uint32_t v) {
    shf__crash_point();
    atomic_store_explicit(p, v, memory_order_relaxed);
}
static inline int shm_cas_acq_rel32(shf_au32 *p, uint32_t *expected, uint32_t v) {
    shf__crash_point();
    return atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acq_rel, memory_order_acquire);
}
static inline uint32_t shm_exchange_acq_rel32(shf_au32 *p, uint32_t v) {
    shf__crash_point();
    return atomic_exchange_explicit(p, v, memory_order_acq_rel);
}

/* What a later taker sees after a death is a program-order prefix; only the compiler could spoil that. */
static inline void shf_compiler_fence(void) { atomic_signal_fence(memory_order_seq_cst); }
static inline void shf_fence_acquire(void) { atomic_thread_fence(memory_order_acquire); }
static inline void shf_fence_release(void) { atomic_thread_fence(memory_order_release); }
static inline void shf_fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

/* Between two looks at a word that another processor will change. */
static inline void shf_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static inline uint64_t shf_load64(const void *p) { /* private memory, any alignment */
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline uint32_t shf_load32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
/* The 0..8 bytes at p as a little-endian word, zero-filled. Private memory. */
static inline uint64_t shf_load_tail(const void *p, size_t n) {
    const unsigned char *b = p;
    if (n >= 8) return shf_load64(b);
    if (n >= 4) return shf_load32(b) | (uint64_t)shf_load32(b + n - 4) << (8 * (n - 4));
    if (n == 0) return 0;
    return b[0] | (uint64_t)b[n / 2] << (8 * (n / 2)) | (uint64_t)b[n - 1] << (8 * (n - 1));
}

/* Stores the low n bytes (0..8) of v. Private memory. */
static inline void shf_store_tail(void *p, uint64_t v, size_t n) {
    unsigned char *b = p;
    if (n >= 8) {
        memcpy(b, &v, 8);
        return;
    }
    if (n & 4) memcpy(b, &v, 4), b += 4, v >>= 32;
    if (n & 2) memcpy(b, &v, 2), b += 2, v >>= 16;
    if (n & 1) *b = (unsigned char)v;
}

/* Zeroes `words` 8-byte words. */
static inline void shm_clear(shf_au64 *dst, size_t words) {
    for (size_t i = 0; i < words; i++) shm_store_relaxed(dst + i, 0);
}
/* Copies n bytes of private memory to dst. What lies behind them in the last word keeps its value: only for memory that
 * nobody else writes. */
static inline void shm_copy_in(shf_au64 *dst, const void *src, size_t n) {
    const unsigned char *s = src;
    shf_au64 *w = dst;
    for (; n >= 8; n -= 8, s += 8) shm_store_relaxed(w++, shf_load64(s));
    if (n) {
        uint64_t mask = (UINT64_C(1) << (8 * n)) - 1;
        shm_store_relaxed(w, (shm_load_relaxed(w) & ~mask) | shf_load_tail(s, n));
    }
}
/* Copies n bytes from byte offset `off` (any) of the 8-aligned src into private memory. */
static inline void shm_copy_out(void *dst, const shf_au64 *src, size_t off, size_t n) {
    unsigned char *d = dst;
    const shf_au64 *w = src + off / 8;
    unsigned lead = (unsigned)(off % 8);
    if (n == 0) return;
    if (lead == 0) {
        for (; n >= 8; n -= 8, d += 8) {
            uint64_t v = shm_load_relaxed(w++);
            memcpy(d, &v, 8);
        }
        if (n) shf_store_tail(d, shm_load_relaxed(w), n);
        return;
    }
    uint64_t low = shm_load_relaxed(w++);
    for (;;) {
        unsigned have = 8 - lead;
        uint64_t v = low >> (8 * lead);
        if (n <= have) {
            shf_store_tail(d, v, n);
            return;
        }
        low = shm_load_relaxed(w++);
        v |= low << (8 * have);
        if (n <= 8) {
            shf_store_tail(d, v, n);
            return;
        }
        memcpy(d, &v, 8);
        d += 8, n -= 8;
    }
}
/* 1 if the n bytes at byte offset `off` of src equal p's. */
static inline int shm_equal(const shf_au64 *src, size_t off, const void *p, size_t n) {
    const unsigned char *s = p;
    while (n) {
        unsigned lead = (unsigned)(off % 8);
        size_t k = 8 - lead < n ? 8 - lead : n;
        uint64_t v = shm_load_relaxed(src + off / 8) >> (8 * lead);
        uint64_t mask = k == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * k)) - 1;
        if ((v ^ shf_load_tail(s, k)) & mask) return 0;
        off += k, s += k, n -= k;
    }
    return 1;
}

#endif
