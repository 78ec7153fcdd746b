/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hash_families.h - keys as somebody would choose them who wants collisions and does not know the seed
 *
 * Each family gives different keys of n bytes (1..64) for i = 0, 1, ... family_count() - 1. Used by validate_hash.c, which
 * counts collisions, and by bench/collisions.c, which measures what they cost.
 */
#ifndef SHF_HASH_FAMILIES_H
#define SHF_HASH_FAMILIES_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum family {
    RANDOM_BYTES,
    COUNT_FIRST, /* a long equal suffix of zeros */
    COUNT_LAST,  /* a long equal prefix */
    COUNT_MIDDLE,
    HIGH_BITS,        /* each word a multiple of 2^40: equal low bits */
    EQUAL_WORDS,      /* each word the same */
    EQUAL_DIFFERENCE, /* pairs of words a ^ x, b ^ x */
    OPPOSITE,         /* pairs of words c + x, c - x */
    CONSTANT_XOR,     /* first word ^ last word is the same for all: what the swap of a symmetric multiply needs */
    SWAPPED_WORDS,    /* two words exchange their places */
    PERMUTED,         /* of one set of words */
    COMPLEMENTS,      /* a key, its complement */
    SOME_COMPLEMENTS, /* of any choice of the words of a key */
    TWO_LETTERS,
    FEW_BITS, /* two bits of many */
    DECIMALS,
    STRIDES,        /* multiples of 2^32 + 1 */
    PUBLIC_SECRETS, /* words that are constants of hashes of this kind: they make a factor 0 where those are used bare */
    SMALL_FACTORS,  /* words near 0 and near 2^64 */
    FAMILY_COUNT
};
static const char *const family_names[FAMILY_COUNT] = {
    "random bytes",   "count first",      "count last",       "count in the middle", "high bits",
    "equal words",    "equal difference", "opposite",         "constant xor",        "swapped words",
    "permuted words", "complements",      "some complements", "two letters",         "few bits",
    "decimals",       "strides",          "public constants", "small factors"};

static inline uint64_t family_mix(uint64_t x) { /* a bijection: the finaliser of SplitMix64 */
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
/* How many keys there are, at most `most`. */
static inline uint32_t family_count(enum family f, size_t n, uint32_t most) {
    static const uint32_t factorial[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320};
    size_t words = n / 8, letters = n < 24 ? n : 24, bits = 8 * n;
    uint64_t all = n < 4 ? UINT64_C(1) << 8 * n : UINT64_C(1) << 32;
    switch (f) {
    case HIGH_BITS:
    case EQUAL_WORDS: all = n < 8 ? 0 : UINT64_C(1) << 24; break;
    case STRIDES: all = n < 8 ? 0 : UINT64_C(1) << 31; break;
    case EQUAL_DIFFERENCE:
    case OPPOSITE:
    case CONSTANT_XOR:
    case SWAPPED_WORDS:
    case PUBLIC_SECRETS:
    case SMALL_FACTORS: all = n < 16 ? 0 : UINT64_C(1) << 24; break;
    case PERMUTED: all = words < 4 ? 0 : factorial[words]; break;
    case COMPLEMENTS: all = n < 4 ? 0 : UINT64_C(1) << 31; break;
    case SOME_COMPLEMENTS: all = words < 1 ? 0 : UINT64_C(1) << 24; break;
    case TWO_LETTERS: all = n < 12 ? 0 : UINT64_C(1) << letters; break;
    case FEW_BITS: all = bits * (bits - 1) / 2; break;
    case DECIMALS: all = n < 5 ? 0 : 100000; break;
    default: break;
    }
    return all < most ? (uint32_t)all : most;
}
/* Key i of n bytes; `salt` is another set of keys of the same kind. */
static inline void family_key(enum family f, size_t n, uint32_t i, uint64_t salt, unsigned char *key) {
    static const uint64_t constants[8] = {/* of wyhash, its successors, and murmur */
                                          UINT64_C(0xa0761d6478bd642f), UINT64_C(0xe7037ed1a0b428db),
                                          UINT64_C(0x8ebc6af09c88c6e3), UINT64_C(0x589965cc75374cc3),
                                          UINT64_C(0x2d358dccaa6c78a5), UINT64_C(0x8bb84b93962eacc9),
                                          UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xc6a4a7935bd1e995)};
    uint64_t word[8] = {0}, x = i, c = family_mix(salt + 1);
    size_t words = n / 8, bytes = n < 4 ? n : 4;
    memset(key, 0, n);
    for (size_t w = 0; w < words; w++) word[w] = family_mix(salt + 100 + w);
    switch (f) {
    case COUNT_FIRST: memcpy(key, &i, bytes); return;
    case COUNT_LAST: memset(key, 0x5a, n), memcpy(key + n - bytes, &i, bytes); return;
    case COUNT_MIDDLE: memcpy(key + (n - bytes) / 2, &i, bytes); return;
    case HIGH_BITS:
        for (size_t w = 0; w < words; w++) word[w] = x << 40;
        break;
    case EQUAL_WORDS:
        for (size_t w = 0; w < words; w++) word[w] = x;
        break;
    case STRIDES:
        for (size_t w = 0; w < words; w++) word[w] = x * ((UINT64_C(1) << 32) + 1);
        break;
    case EQUAL_DIFFERENCE:
        for (size_t w = 0; w + 1 < words; w += 2) word[w] ^= x << 20, word[w + 1] ^= x << 20;
        break;
    case OPPOSITE:
        for (size_t w = 0; w + 1 < words; w += 2) word[w] = c + x, word[w + 1] = c - x;
        break;
    case CONSTANT_XOR:
        memset(word, 0, sizeof word);
        word[0] = x, word[words - 1] = x ^ c;
        break;
    case SWAPPED_WORDS: {
        size_t a = x / 2 % words, b = words - 1 - a == a ? (a + 1) % words : words - 1 - a;
        word[a] = family_mix(x / 2 + salt), word[b] = family_mix(x / 2 + salt + (UINT64_C(1) << 32));
        if (x % 2) c = word[a], word[a] = word[b], word[b] = c;
        break;
    }
    case PERMUTED:
        for (size_t w = words; w > 1; w--) {
            size_t other = x % w;
            x /= w, c = word[w - 1], word[w - 1] = word[other], word[other] = c;
        }
        break;
    case COMPLEMENTS: /* the last bit is the choice: half of the numbers for the keys, which end in 0 */
        for (size_t b = 0; b < n; b++) key[b] = (unsigned char)(b < 4 ? x / 2 >> (8 * b) : family_mix(salt + b));
        key[3] &= 0x7f;
        for (size_t b = 0; b < n && x % 2; b++) key[b] = (unsigned char)~key[b];
        return;
    case SOME_COMPLEMENTS: /* groups of 2^words */
        word[0] = family_mix(salt + (x >> words)) & ~UINT64_C(1);
        for (size_t w = 1; w < words; w++) word[w] &= ~UINT64_C(1);
        for (size_t w = 0; w < words; w++)
            if (x >> w & 1) word[w] = ~word[w];
        break;
    case TWO_LETTERS:
        for (size_t b = 0; b < n; b++) key[b] = b < 24 && x >> b & 1 ? 'b' : 'a';
        return;
    case FEW_BITS: {
        size_t a = 1, sum = 0;
        while (sum + a <= x) sum += a++;
        key[a / 8] |= (unsigned char)(1u << a % 8);
        key[(x - sum) / 8] |= (unsigned char)(1u << (x - sum) % 8);
        return;
    }
    case DECIMALS:
        memset(key, '0', n);
        for (size_t b = n; b > 0 && x; b--, x /= 10) key[b - 1] = (unsigned char)('0' + x % 10);
        return;
    case PUBLIC_SECRETS:
        for (size_t w = 0; w < words; w++) word[w] = constants[(w + i) % 8];
        word[(i >> 3) % words] = x; /* the other factor */
        break;
    case SMALL_FACTORS:
        for (size_t w = 0; w < words; w++) word[w] = w % 2 ? ~UINT64_C(0) - (x & 1023) : x >> 10;
        break;
    case RANDOM_BYTES:
    case FAMILY_COUNT:
        for (size_t b = 0; b < n; b += 8) {
            uint64_t random = family_mix(salt + b + x * UINT64_C(0x9e3779b97f4a7c15));
            memcpy(key + b, &random, n - b < 8 ? n - b : 8);
        }
        if (n < 8) memcpy(key, &i, bytes); /* distinct */
        return;
    }
    memcpy(key, word, words * 8);
}

#endif
