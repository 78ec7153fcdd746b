/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hash.h - keyed 64-bit hashes of byte strings, and the header's checksum
 *
 * The algorithms and their sources are at the top of hash.c.
 */
#ifndef SHF_HASH_H
#define SHF_HASH_H

#include "atomic.h"

struct shf_hash_key {
    uint64_t secret[8]; /* FOLDED: expanded from the seed */
    uint64_t seed[2];   /* SIPHASH13: k0, k1 */
    uint32_t id;        /* SHF_HASH_SIPHASH13 or SHF_HASH_FOLDED */
};
void shf__hash_key_init(struct shf_hash_key *k, uint32_t id, const uint64_t seed[2]);
uint64_t shf__hash_slow(const struct shf_hash_key *k, const void *p, size_t n); /* any id, any length */
uint64_t shf__siphash13(const uint64_t seed[2], const void *p, size_t n);
uint64_t shf__checksum(const void *p, size_t n); /* unkeyed, for immutable header fields */

static inline uint64_t shf__fold(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    uint64_t folded = (uint64_t)m ^ (uint64_t)(m >> 64);
    __asm__("" : "+r"(folded)); /* else gcc joins this xor with the caller's, at three instructions more */
    return folded;
}
/* FOLDED, n <= 16. Every operand is xored with a secret word: which keys collide depends on the seed. */
static inline uint64_t shf__hash_short(const struct shf_hash_key *k, const void *p, size_t n) {
    const unsigned char *b = p;
    uint64_t lo, hi;
    if (n >= 8) {
        lo = shf_load64(b), hi = shf_load64(b + n - 8);
    } else if (n >= 4) {
        lo = shf_load32(b), hi = shf_load32(b + n - 4);
    } else if (n > 0) {
        lo = (uint64_t)b[0] << 16 | (uint64_t)b[n / 2] << 8 | b[n - 1], hi = 0;
    } else {
        lo = hi = 0;
    }
    return shf__fold(shf__fold(lo ^ k->secret[0], hi ^ k->secret[1]) ^ k->secret[2], n ^ k->secret[3]);
}
static inline uint64_t shf__hash(const struct shf_hash_key *k, const void *p, size_t n) {
    if (SHF_LIKELY(n <= 16 && k->id == 2)) return shf__hash_short(k, p, n);
    return shf__hash_slow(k, p, n);
}

#endif
