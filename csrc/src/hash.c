// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * hash.c - keyed 64-bit hashes of byte strings, and the header's checksum
 *
 * WHAT       Two keyed hashes; which one is in the header, so a file keeps its hash for ever. Both are part of
 *            the format: their values are pinned by test vectors, and do not depend on machine or compiler.
 * NOT        Message authentication. FOLDED keeps somebody who does not know the seed from choosing keys that
 *            collide; whoever can read the file knows the seed (SIPHASH13 or not).
 *
 * SIPHASH13 (1)  SipHash by Jean-Philippe Aumasson and Daniel J. Bernstein (2012), the variant with one compression and
 *            three finalisation rounds, as in Rust's DefaultHasher and in CPython. Key = the seed.
 *
 * FOLDED (2) fold(a, b) = high half ^ low half of the 128-bit product a * b: the primitive of Wang Yi's wyhash. What
 *            is ours: EVERY operand of every multiplication is xored with a secret word or with a state that began as
 *            one (public constants there allow collisions that hold for every seed), and the loop below.
 *
 *    secret[0..7]  SipHash-1-3(seed, {i, attempt}), the first attempt with 20 to 44 bits set: not 0, not sparse
 *
 *    n <= 16       hash.h, shf__hash_short: lo, hi = the first and last 8 (or 4) bytes, they may overlap;
 *                  or up to 3 bytes in lo
 *                  fold(fold(lo ^ s0, hi ^ s1) ^ s2, n ^ s3)
 *    n > 16        x = s4, y = s5
 *                  while more than 32 bytes are left, for the next 32 (four words w0..w3):
 *                      x = fold(w0 ^ x, w1 ^ s6),  y = fold(w2 ^ y, w3 ^ s7)
 *                  more than 16 left: x as above with the next 16
 *                  y = fold(w0 ^ y, w1 ^ s7) with the last 16 bytes of the key (they may overlap what was taken)
 *                  fold(fold(x ^ s0, y ^ s1) ^ s2, n ^ s3)
 *
 *            For one n the words cover every byte. The states chain, so exchanged blocks give another hash, and the
 *            two lanes have different secrets, so exchanged lanes do, too. An operand is 0 only if a word of the
 *            key equals a secret (or a state), 2^-64 for who does not know the seed.
 *            fold is symmetric: lo, hi and hi ^ s0 ^ s1, lo ^ s0 ^ s1 collide; to name such a pair is to know s0 ^ s1.
 *            fold(a, b) is close to a * b mod 2^64 - 1, where ~a is -a: two keys of which one has a word of the other
 *            complemented have the same hash with 2^-27 (measured), not 2^-64. That makes pairs, at most four keys a
 *            block, never a pile: a table does not suffer. (validate_hash.c: complements)
 *
 * READS      never outside of [p, p + n); p needs no alignment and may be NULL if n is 0.
 * PROOF      csrc/tests/validate_hash.c   vectors of Rust and CPython, own vectors, avalanche, buckets, reads
 */
#include "hash.h"

#include "shf.h"

_Static_assert(SHF_HASH_SIPHASH13 == 1 && SHF_HASH_FOLDED == 2, "hash.h compares with the number");

static inline uint64_t rotl(uint64_t x, unsigned bits) { return x << bits | x >> (64 - bits); }

#define SIP_ROUND()                                                                                                    \
    do {                                                                                                               \
        v0 += v1, v1 = rotl(v1, 13), v1 ^= v0, v0 = rotl(v0, 32);                                                      \
        v2 += v3, v3 = rotl(v3, 16), v3 ^= v2;                                                                         \
        v0 += v3, v3 = rotl(v3, 21), v3 ^= v0;                                                                         \
        v2 += v1, v1 = rotl(v1, 17), v1 ^= v2, v2 = rotl(v2, 32);                                                      \
    } while (0)

uint64_t shf__siphash13(const uint64_t seed[2], const void *p, size_t n) {
    const unsigned char *b = p;
    uint64_t v0 = seed[0] ^ UINT64_C(0x736f6d6570736575); /* "somepseudorandomlygeneratedbytes" */
    uint64_t v1 = seed[1] ^ UINT64_C(0x646f72616e646f6d);
    uint64_t v2 = seed[0] ^ UINT64_C(0x6c7967656e657261);
    uint64_t v3 = seed[1] ^ UINT64_C(0x7465646279746573);
    uint64_t last = (uint64_t)n << 56;
    size_t left = n;

    for (; left >= 8; left -= 8, b += 8) {
        uint64_t w = shf_load64(b);
        v3 ^= w;
        SIP_ROUND();
        v0 ^= w;
    }
    last |= shf_load_tail(b, left);
    v3 ^= last;
    SIP_ROUND();
    v0 ^= last;
    v2 ^= 0xff;
    SIP_ROUND();
    SIP_ROUND();
    SIP_ROUND();
    return v0 ^ v1 ^ v2 ^ v3;
}

void shf__hash_key_init(struct shf_hash_key *k, uint32_t id, const uint64_t seed[2]) {
    k->id = id;
    k->seed[0] = seed[0], k->seed[1] = seed[1];
    for (uint64_t i = 0; i < 8; i++) {
        for (uint64_t attempt = 0;; attempt++) {
            uint64_t message[2] = {i, attempt};
            uint64_t word = shf__siphash13(seed, message, sizeof message);
            int bits = __builtin_popcountll(word);
            k->secret[i] = word;
            if (bits >= 20 && bits <= 44) break; /* 998 of 1,000 */
            if (attempt == 63) {                 /* never seen, but every loop is bounded */
                k->secret[i] = UINT64_C(0x9e3779b97f4a7c15) * (2 * i + 1);
                break;
            }
        }
    }
}

static uint64_t folded_long(const struct shf_hash_key *k, const unsigned char *b, size_t n) {
    const uint64_t *s = k->secret;
    const unsigned char *end = b + n;
    uint64_t x = s[4], y = s[5];
    size_t left = n;

    for (; left > 32; left -= 32, b += 32) {
        x = shf__fold(shf_load64(b) ^ x, shf_load64(b + 8) ^ s[6]);
        y = shf__fold(shf_load64(b + 16) ^ y, shf_load64(b + 24) ^ s[7]);
    }
    if (left > 16) x = shf__fold(shf_load64(b) ^ x, shf_load64(b + 8) ^ s[6]);
    y = shf__fold(shf_load64(end - 16) ^ y, shf_load64(end - 8) ^ s[7]);
    return shf__fold(shf__fold(x ^ s[0], y ^ s[1]) ^ s[2], n ^ s[3]);
}

uint64_t shf__hash_slow(const struct shf_hash_key *k, const void *p, size_t n) {
    if (k->id == SHF_HASH_SIPHASH13) return shf__siphash13(k->seed, p, n);
    if (n <= 16) return shf__hash_short(k, p, n);
    return folded_long(k, p, n);
}

uint64_t shf__checksum(const void *p, size_t n) {
    static const uint64_t key[2] = {UINT64_C(0x6863206668732020),
                                    UINT64_C(0x31206d75736b6365)}; /* "  shf checksum 1" */
    return shf__siphash13(key, p, n);
}
