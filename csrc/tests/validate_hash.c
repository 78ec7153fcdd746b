/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * validate_hash.c - the hashes of hash.c
 *
 * VECTORS    SipHash-1-3 from two independent implementations: Rust's DefaultHasher (key 0,0; std 1.x), and CPython
 *            3.11's hash(bytes) under PYTHONHASHSEED=42. FOLDED has no other implementation: its values are pinned,
 *            and were computed a second time by a transcription into Python. If one of them moves, every file in the
 *            world becomes unreadable: raise the format version instead.
 * QUALITY    avalanche of every input bit on every output bit, and chi-square over the bits the table uses, for keys as
 *            people have them. Thresholds leave 7 standard deviations, as the seeds are random.
 */
#include "hash.h"

#include "hash_families.h"
#include "test.h"

struct vector {
    size_t n;
    uint64_t hash;
};
static const uint64_t pinned_seed[2] = {UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)};
static const uint64_t zero_seed[2] = {0, 0};

static void fill(unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(i * 7 + n);
}
static struct shf_hash_key random_key(uint32_t id) {
    struct shf_hash_key k;
    uint64_t seed[2] = {test_rng(), test_rng()};
    shf__hash_key_init(&k, id, seed);
    return k;
}

TEST(siphash13_is_rusts) {
    static const uint64_t want[64] = {
        UINT64_C(0xd1fba762150c532c), UINT64_C(0x68a914128e01e473), UINT64_C(0x010bac45c41e3669),
        UINT64_C(0x4d4c9a4a8ef6e0ad), UINT64_C(0x7cc43f98813e4dbd), UINT64_C(0x5abe2169dff36275),
        UINT64_C(0xe3c25f87624f1cdb), UINT64_C(0x2f098ab0c751325a), UINT64_C(0xead411e67ebe2eea),
        UINT64_C(0x75927f9d95124362), UINT64_C(0xaf9f77a65ab51a1d), UINT64_C(0xfe64ce8b6617fcff),
        UINT64_C(0xa6baf4fb0f9fe1c2), UINT64_C(0xa0cf3211850f8e0d), UINT64_C(0x7f86049379fbfe67),
        UINT64_C(0xf30eb725bb91c9ea), UINT64_C(0x8972188433a5c5b7), UINT64_C(0x4883c49a2c009c1d),
        UINT64_C(0xadc2c0b63044067d), UINT64_C(0x091f4a3329f87d19), UINT64_C(0x639e355ae68c0100),
        UINT64_C(0xb17bef2cb5213239), UINT64_C(0xf8aeb1066236ccfe), UINT64_C(0x37332b1389daa4ff),
        UINT64_C(0x31185a47af932f3a), UINT64_C(0xebf352e82ae23e2f), UINT64_C(0xed36ff242fe478b2),
        UINT64_C(0x2454d97d299299df), UINT64_C(0x8cd57fe8130d0ac7), UINT64_C(0xbe98eb2faf0a0e85),
        UINT64_C(0xd427c34ee09470c6), UINT64_C(0x169739443111d49b), UINT64_C(0x31ef8061c910629b),
        UINT64_C(0x7fb71d24dfa4c9f6), UINT64_C(0x92771f49e836d389), UINT64_C(0x3c393cf6f0853bc3),
        UINT64_C(0xac77921fcc642bd3), UINT64_C(0x422a9751192ff266), UINT64_C(0xc680ae8a8c584ddf),
        UINT64_C(0x6c76b6d34bb6d26b), UINT64_C(0x95bc321ab41d8206), UINT64_C(0x908a3a97a6d37669),
        UINT64_C(0xfcaf3c64874dd0b4), UINT64_C(0xf689479b32b84a44), UINT64_C(0xd857641079efd1fd),
        UINT64_C(0x8b581578722633f7), UINT64_C(0x83cb09d35ea7bcd4), UINT64_C(0x8485f7f5ae725a0d),
        UINT64_C(0xfe1f2445ba50237f), UINT64_C(0x23cece041d7866b0), UINT64_C(0x416687480b336c09),
        UINT64_C(0xf15960da7e7f3892), UINT64_C(0xded6177b9826835a), UINT64_C(0xf80dae51668be6be),
        UINT64_C(0x17ecc6ee6647df18), UINT64_C(0x5220d642b4a52110), UINT64_C(0xa4f0cf4ba4adc016),
        UINT64_C(0xe5125bb26d1f2976), UINT64_C(0x851b0e75f580d256), UINT64_C(0x12605250a37e39ac),
        UINT64_C(0xd95a713568daebf1), UINT64_C(0xcdcf4a42ec0dd605), UINT64_C(0xa5c708712b617164),
        UINT64_C(0x385d3e39e5f37359),
    };
    unsigned char key[64];
    for (unsigned i = 0; i < 64; i++) key[i] = (unsigned char)i;
    for (size_t n = 0; n < 64; n++) CHECK(shf__siphash13(zero_seed, key, n) == want[n]);
}

TEST(siphash13_is_cpythons) {
    static const uint64_t seed[2] = {UINT64_C(0xdc504fd368cd90af), UINT64_C(0xb920bb9ffe99e9c1)};
    static const struct vector want[] = {
        {1, UINT64_C(0x89404b342d44cd29)},   {2, UINT64_C(0x71515a4c4e079b03)},   {3, UINT64_C(0x7a7bdb39d1ddb8c7)},
        {7, UINT64_C(0x0336f804e351866a)},   {8, UINT64_C(0x3de44bc65842791b)},   {9, UINT64_C(0x10c6138161324054)},
        {15, UINT64_C(0x5d81d63c3c6a2e8f)},  {16, UINT64_C(0xf0bd3a3a6514ce02)},  {17, UINT64_C(0x57b8da908cc17fc1)},
        {31, UINT64_C(0x9b958b586fe4b5e5)},  {63, UINT64_C(0x8c7a632aebb0b715)},  {64, UINT64_C(0xf2dffc64974c904e)},
        {255, UINT64_C(0xf2aced75c8efcacd)}, {256, UINT64_C(0x6bee7303619c7767)}, {1000, UINT64_C(0x70fa464352991206)},
    };
    unsigned char key[1000];
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct shf_hash_key k;
        shf__hash_key_init(&k, 1, seed);
        fill(key, want[i].n);
        CHECK(shf__siphash13(seed, key, want[i].n) == want[i].hash);
        CHECK(shf__hash(&k, key, want[i].n) == want[i].hash);
    }
}

TEST(folded_is_pinned) {
    static const struct vector want[] = {
        {0, UINT64_C(0x82b4b420b4eacfb9)},   {1, UINT64_C(0x942627fb8a4ce088)},   {2, UINT64_C(0x5823a443a5cb7b73)},
        {3, UINT64_C(0x07bb8586d27b56c2)},   {4, UINT64_C(0x072b663ab60e56b6)},   {5, UINT64_C(0xf8a88d0b5e032d74)},
        {7, UINT64_C(0x5594b4bf1610e79a)},   {8, UINT64_C(0xe874a36fa6d8143b)},   {9, UINT64_C(0xfa732908904a00b6)},
        {12, UINT64_C(0x7ca978cb0a7ad0b5)},  {15, UINT64_C(0x03dd7a4134ca8651)},  {16, UINT64_C(0x71947dd4b2f94d52)},
        {17, UINT64_C(0x7e5fa00b568a6d07)},  {24, UINT64_C(0x4b9512e23f83a9dc)},  {31, UINT64_C(0x974ec49b1fc682e4)},
        {32, UINT64_C(0x4f29fb4a9a3a5c0f)},  {33, UINT64_C(0x75d7c25417725624)},  {48, UINT64_C(0x11bf43bb9e3d1060)},
        {49, UINT64_C(0x7e3b1fc71da99934)},  {64, UINT64_C(0x5b7d978b9f054520)},  {65, UINT64_C(0x0542d4845b339aad)},
        {100, UINT64_C(0xc190973035cce7dd)}, {255, UINT64_C(0x82f9c9b4190ac327)}, {1000, UINT64_C(0xb1a3b262fdd3bddb)},
    };
    static const struct vector want_zero[] = {
        {0, UINT64_C(0x6f70e0bfdad384e4)},  {1, UINT64_C(0x8661fc164836bf5f)},  {8, UINT64_C(0xf5bdb23864e36d0c)},
        {16, UINT64_C(0x7ad94dd590c14d00)}, {17, UINT64_C(0xdc302498729bc133)}, {40, UINT64_C(0x0a53d56e02ae786e)},
    };
    static const uint64_t secrets[8] = {
        UINT64_C(0x401fa95095db6124), UINT64_C(0xe382a7bcfcfe8f02), UINT64_C(0xbccf2716110e705b),
        UINT64_C(0xf0c9e731596e0464), UINT64_C(0xd880bb4adc3df460), UINT64_C(0x1c6dd72d5da020a6),
        UINT64_C(0x8f1ca4bf951b1435), UINT64_C(0x9293458a812d2b38),
    };
    unsigned char key[1000];
    struct shf_hash_key k;
    shf__hash_key_init(&k, 2, pinned_seed);
    for (unsigned i = 0; i < 8; i++) CHECK(k.secret[i] == secrets[i]);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        fill(key, want[i].n);
        CHECK(shf__hash(&k, key, want[i].n) == want[i].hash);
    }
    shf__hash_key_init(&k, 2, zero_seed);
    for (size_t i = 0; i < sizeof want_zero / sizeof want_zero[0]; i++) {
        fill(key, want_zero[i].n);
        CHECK(shf__hash(&k, key, want_zero[i].n) == want_zero[i].hash);
    }
}

TEST(checksum_is_pinned) {
    unsigned char bytes[120];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    CHECK(shf__checksum(bytes, sizeof bytes) == UINT64_C(0xd2904a1591edd11b));
    for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        CHECK(shf__checksum(bytes, sizeof bytes) != UINT64_C(0xd2904a1591edd11b));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

TEST(secrets_are_usable) {
    for (int round = 0; round < 10000; round++) {
        struct shf_hash_key k = random_key(2);
        for (int i = 0; i < 8; i++) {
            int bits = __builtin_popcountll(k.secret[i]);
            CHECK(bits >= 20 && bits <= 44);
            for (int j = 0; j < i; j++) CHECK(k.secret[i] != k.secret[j]);
        }
    }
}

TEST(short_is_slow) {
    unsigned char key[16];
    struct shf_hash_key k = random_key(2);
    for (int round = 0; round < 1000; round++) {
        for (size_t n = 0; n <= 16; n++) {
            for (size_t i = 0; i < n; i++) key[i] = (unsigned char)test_rng();
            CHECK(shf__hash_short(&k, key, n) == shf__hash_slow(&k, key, n));
            CHECK(shf__hash(&k, key, n) == shf__hash_slow(&k, key, n));
        }
    }
    CHECK(shf__hash(&k, NULL, 0) == shf__hash_slow(&k, NULL, 0));
    k.id = 1;
    CHECK(shf__hash(&k, NULL, 0) == shf__siphash13(k.seed, NULL, 0));
}

/* Exact allocations: AddressSanitizer sees a read outside. And the place of a key does not matter. */
TEST(reads_only_the_key) {
    unsigned char source[300], place[320];
    struct shf_hash_key k = random_key(2);
    for (size_t i = 0; i < sizeof source; i++) source[i] = (unsigned char)test_rng();
    for (uint32_t id = 1; id <= 2; id++) {
        k.id = id;
        for (size_t n = 0; n <= sizeof source; n++) {
            unsigned char *exact = malloc(n == 0 ? 1 : n);
            uint64_t h;
            REQUIRE(exact != NULL);
            memcpy(exact, source, n);
            h = shf__hash(&k, n == 0 ? NULL : exact, n);
            free(exact);
            for (size_t shift = 0; shift < 9; shift++) {
                memset(place, (int)shift, sizeof place);
                memcpy(place + shift, source, n);
                CHECK(shf__hash(&k, place + shift, n) == h);
            }
        }
    }
}

static double worst_avalanche(const struct shf_hash_key *k, size_t n, unsigned samples) {
    static unsigned flips[128 * 8][64];
    unsigned char key[128];
    double worst = 0;
    memset(flips, 0, sizeof flips);
    for (unsigned s = 0; s < samples; s++) {
        for (size_t i = 0; i < n; i++) key[i] = (unsigned char)test_rng();
        uint64_t h = shf__hash(k, key, n);
        for (size_t bit = 0; bit < 8 * n; bit++) {
            key[bit / 8] ^= (unsigned char)(1u << bit % 8);
            uint64_t d = h ^ shf__hash(k, key, n);
            key[bit / 8] ^= (unsigned char)(1u << bit % 8);
            for (unsigned o = 0; o < 64; o++) flips[bit][o] += (unsigned)(d >> o & 1);
        }
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        for (unsigned o = 0; o < 64; o++) {
            double off = (double)flips[bit][o] / samples - 0.5;
            if (off < 0) off = -off;
            if (off > worst) worst = off;
        }
    }
    return worst;
}

TEST(avalanche) {
    static const size_t lengths[] = {2, 3, 4, 5, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100};
    unsigned samples = TEST_SANITIZED ? 1000 : 4000;
    double limit = TEST_SANITIZED ? 0.5 * 7 / 31.6 : 0.5 * 7 / 63.2; /* 7 sigma */
    for (uint32_t id = 1; id <= 2; id++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            struct shf_hash_key k = random_key(id);
            double worst = worst_avalanche(&k, lengths[i], samples);
            if (worst > limit)
                FAIL("hash %u, %zu bytes: worst bit is off by %.3f (limit %.3f)", id, lengths[i], worst, limit);
        }
    }
}

/* Keys as people have them. */
static size_t make_key(int family, uint32_t i, unsigned char *key) {
    uint64_t wide;
    switch (family) {
    case 0: memcpy(key, &i, 4); return 4; /* counters */
    case 1:
        wide = i;
        memcpy(key, &wide, 8);
        return 8;
    case 2:
        wide = (uint64_t)i << 32;
        memcpy(key, &wide, 8);
        return 8; /* only the upper half differs */
    case 3:
        wide = (uint64_t)i * 4096;
        memcpy(key, &wide, 8);
        return 8; /* addresses */
    case 4:
        wide = __builtin_bswap64(i);
        memcpy(key, &wide, 8);
        return 8;
    case 5: return (size_t)sprintf((char *)key, "user:%u", i);
    case 6: return (size_t)sprintf((char *)key, "%08u", i);
    case 7: memset(key, 0, 16), memcpy(key, &i, 4); return 16;
    case 8: memset(key, 0, 16), memcpy(key + 12, &i, 4); return 16;
    case 9: return (size_t)sprintf((char *)key, "https://example.org/a/rather/long/path/item-%u.html", i);
    case 10: memset(key, 0, 64), memcpy(key + 20, &i, 4); return 64; /* a few bits in zeros */
    case 11: memset(key, 0, 40), memcpy(key + 16, &i, 4); return 40;
    case 12: memset(key, 0xff, 32), memcpy(key + 28, &i, 4); return 32;
    case 13: memset(key, 'x', 8), memcpy(key, &i, 4), memcpy(key + 4, &i, 4); return 8; /* equal halves */
    case 14:
        for (int j = 0; j < 4; j++) memcpy(key + 8 * j, &i, 4), memset(key + 8 * j + 4, 0, 4);
        return 32; /* equal blocks */
    case 15:
        memset(key, 'a', 80); /* 20 positions of two letters */
        for (unsigned b = 0; b < 20; b++) key[4 * b] = i >> b & 1 ? 'a' : 'b';
        return 80;
    default: return 0;
    }
}
#define FAMILIES 16

static double root(double x) { /* Newton; tests link without libm */
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 60; i++) r = (r + x / r) / 2;
    return r;
}
static double chi_square(const unsigned *count, unsigned buckets, double keys) {
    double expected = keys / buckets, sum = 0;
    for (unsigned b = 0; b < buckets; b++) sum += (count[b] - expected) * (count[b] - expected) / expected;
    return (sum - buckets) / root(2.0 * buckets); /* in standard deviations */
}

TEST(buckets_are_even) {
    enum { KEYS = 1 << 18, BUCKETS = 1 << 14 };
    static const struct {
        const char *name;
        unsigned shift;
        uint64_t mask;
    } fields[] = {
        {"shard and directory (63..50)", 50, BUCKETS - 1},
        {"directory end and b1 (47..34)", 34, BUCKETS - 1},
        {"b1 and extra (40..33), check", 27, BUCKETS - 1},
        {"check, high (31..18)", 18, BUCKETS - 1},
        {"check, low (13..0)", 0, BUCKETS - 1},
    };
    unsigned *count = malloc(BUCKETS * sizeof *count);
    uint64_t *all = malloc(KEYS * sizeof *all);
    REQUIRE(count != NULL && all != NULL);
    for (uint32_t id = 1; id <= 2; id++) {
        for (int family = 0; family < FAMILIES; family++) {
            struct shf_hash_key k = random_key(id);
            unsigned char key[128];
            for (uint32_t i = 0; i < KEYS; i++) all[i] = shf__hash(&k, key, make_key(family, i, key));
            for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
                memset(count, 0, BUCKETS * sizeof *count);
                for (uint32_t i = 0; i < KEYS; i++) count[all[i] >> fields[f].shift & fields[f].mask]++;
                double sigmas = chi_square(count, BUCKETS, KEYS);
                if (sigmas > 7 || sigmas < -7)
                    FAIL("hash %u, family %d, %s: chi-square is off by %.1f sigma", id, family, fields[f].name, sigmas);
            }
            /* delta = 1 + low 32 mod 63 */
            memset(count, 0, 63 * sizeof *count);
            for (uint32_t i = 0; i < KEYS; i++) count[(uint32_t)all[i] % 63]++;
            double sigmas = chi_square(count, 63, KEYS);
            if (sigmas > 8) FAIL("hash %u, family %d, delta: chi-square is off by %.1f sigma", id, family, sigmas);
        }
    }
    free(count);
    free(all);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}
static size_t duplicates(uint64_t *h, size_t n) {
    size_t same = 0;
    qsort(h, n, sizeof *h, compare);
    for (size_t i = 1; i < n; i++) same += h[i] == h[i - 1];
    return same;
}

/* 64 bits of 2^18 keys: one collision in 2^29 runs. Structured sets are where a bad loop shows. */
TEST(no_collisions) {
    enum { KEYS = 1 << 18 };
    uint64_t *h = malloc(KEYS * sizeof *h);
    unsigned char key[1024];
    REQUIRE(h != NULL);
    for (int family = 0; family < FAMILIES; family++) {
        struct shf_hash_key k = random_key(2);
        for (uint32_t i = 0; i < KEYS; i++) h[i] = shf__hash(&k, key, make_key(family, i, key));
        CHECK_EQ_INT(duplicates(h, KEYS), 0);
    }
    { /* zeros, and ones, of every length */
        struct shf_hash_key k = random_key(2);
        size_t n = 0;
        for (size_t i = 0; i <= sizeof key; i++) memset(key, 0, sizeof key), h[n++] = shf__hash(&k, key, i);
        for (size_t i = 1; i <= sizeof key; i++) memset(key, 0xff, sizeof key), h[n++] = shf__hash(&k, key, i);
        CHECK_EQ_INT(duplicates(h, n), 0);
    }
    { /* one and two bits set, 128 bytes */
        struct shf_hash_key k = random_key(2);
        size_t n = 0;
        for (unsigned a = 0; a < 700; a++) {
            for (unsigned b = a; b < 700 && n < KEYS; b++) {
                memset(key, 0, 128);
                key[a / 8] |= (unsigned char)(1u << a % 8);
                key[b / 8] |= (unsigned char)(1u << b % 8);
                h[n++] = shf__hash(&k, key, 128);
            }
        }
        CHECK_EQ_INT(duplicates(h, n), 0);
    }
    { /* all exchanges of two 8-byte blocks, for lengths that end in the loop, the half step and the tail */
        struct shf_hash_key k = random_key(2);
        for (size_t n = 16; n <= 200; n += 8) {
            size_t at = 0;
            for (size_t i = 0; i < n; i++) key[i] = (unsigned char)test_rng();
            h[at++] = shf__hash(&k, key, n);
            for (size_t i = 0; i < n / 8; i++) {
                for (size_t j = i + 1; j < n / 8; j++) {
                    uint64_t a, b;
                    memcpy(&a, key + 8 * i, 8), memcpy(&b, key + 8 * j, 8);
                    memcpy(key + 8 * i, &b, 8), memcpy(key + 8 * j, &a, 8);
                    h[at++] = shf__hash(&k, key, n);
                    memcpy(key + 8 * i, &a, 8), memcpy(key + 8 * j, &b, 8);
                }
            }
            CHECK_EQ_INT(duplicates(h, at), 0);
        }
    }
    free(h);
}

/* Keys that collide under one seed (made with knowledge of its secrets) must not under another. */
TEST(collisions_depend_on_the_seed) {
    for (int round = 0; round < 1000; round++) {
        struct shf_hash_key k = random_key(2), other = random_key(2);
        unsigned char a[48], b[48];
        uint64_t d = k.secret[0] ^ k.secret[1], lo = test_rng(), hi = test_rng(), x = hi ^ d, y = lo ^ d;
        memcpy(a, &lo, 8), memcpy(a + 8, &hi, 8);
        memcpy(b, &x, 8), memcpy(b + 8, &y, 8);
        CHECK(shf__hash(&k, a, 16) == shf__hash(&k, b, 16)); /* hash.c says that this is so */
        CHECK(shf__hash(&other, a, 16) != shf__hash(&other, b, 16));
        /* an operand that is 0: what was multiplied with it is lost */
        for (int i = 0; i < 48; i++) a[i] = b[i] = (unsigned char)test_rng();
        memcpy(a + 8, &k.secret[6], 8), memcpy(b + 8, &k.secret[6], 8);
        a[0] ^= 1;
        CHECK(shf__hash(&k, a, 48) == shf__hash(&k, b, 48));
        CHECK(shf__hash(&other, a, 48) != shf__hash(&other, b, 48));
    }
}

/* ---- keys that somebody chose ---- */

/* Pairs of keys with equal bits above `shift`. */
static uint64_t equal_pairs(uint64_t *h, size_t n, unsigned shift) { /* sorted */
    uint64_t pairs = 0;
    for (size_t i = 1, run_of = 0; i < n; i++) {
        run_of = h[i] >> shift == h[i - 1] >> shift ? run_of + 1 : 0;
        pairs += run_of;
    }
    return pairs;
}

/* Who does not know the seed and chooses keys gets no more of them into a bucket than chance gives. */
TEST(crafted_keys_are_as_random_ones) {
    enum { KEYS = 1 << 13, MOST_LENGTH = 64 };
    static const struct {
        unsigned shift, buckets;
        const char *name;
    } fields[] = {{56, 256, "shard"}, {48, 256, "directory"}, {35, 64, "bucket"}, {0, 256, "check"}};
    static uint64_t h[KEYS];
    static unsigned count[256];
    unsigned char key[MOST_LENGTH];
    uint64_t hashed = 0, full = 0, near_pairs = 0, rounds = test_env("SHF_ROUNDS", 1);
    double worst = 0, expected_near = 0;
    for (uint64_t round = 0; round < rounds; round++)
        for (uint32_t id = 1; id <= 2; id++)
            for (int f = 0; f < FAMILY_COUNT; f++) {
                uint64_t pairs = 0;
                double expected = 0;
                for (size_t n = 1; n <= MOST_LENGTH; n++) {
                    uint32_t keys = family_count((enum family)f, n, KEYS);
                    if (keys < 256) continue;
                    struct shf_hash_key k = random_key(id);
                    uint64_t salt = test_rng();
                    for (uint32_t i = 0; i < keys; i++) {
                        family_key((enum family)f, n, i, salt, key);
                        h[i] = shf__hash(&k, key, n);
                    }
                    for (size_t b = 0; b < sizeof fields / sizeof fields[0]; b++) {
                        memset(count, 0, sizeof count);
                        for (uint32_t i = 0; i < keys; i++) count[h[i] >> fields[b].shift & (fields[b].buckets - 1)]++;
                        double sigmas = chi_square(count, fields[b].buckets, keys);
                        if (sigmas > worst) worst = sigmas;
                        if (sigmas > 9)
                            FAIL("hash %u, %s of %zu bytes, %s: chi-square is off by %.1f sigma", id, family_names[f],
                                 n, fields[b].name, sigmas);
                    }
                    qsort(h, keys, sizeof *h, compare);
                    full += equal_pairs(h, keys, 0);
                    pairs += equal_pairs(h, keys, 35); /* shard, directory bits and bucket: 29 bits */
                    expected += (double)keys * (keys - 1) / 2 / (1 << 29);
                    hashed += keys;
                }
                near_pairs += pairs, expected_near += expected;
                if ((double)pairs > expected + 8 * root(expected) + 12)
                    FAIL("hash %u, %s: %llu pairs meet in one bucket of the largest index, %.1f would by chance", id,
                         family_names[f], (unsigned long long)pairs, expected);
            }
    CHECK(full <= 1); /* see complements_meet_seldom */
    printf("# total: %llu crafted keys: %llu pairs in one bucket of the largest index, by chance %.0f; %llu equal "
           "hashes; worst "
           "chi-square %.1f sigma\n",
           (unsigned long long)hashed, (unsigned long long)near_pairs, expected_near, (unsigned long long)full, worst);
}

/* A key and itself with zeros behind it, for every length and prefix: the length is in the hash. */
TEST(zeros_behind_a_key) {
    enum { KEYS = 1000 };
    uint64_t *h = malloc(KEYS * 65 * sizeof *h);
    unsigned char key[128];
    REQUIRE(h != NULL);
    for (uint32_t id = 1; id <= 2; id++) {
        struct shf_hash_key k = random_key(id);
        size_t n = 0;
        for (uint32_t i = 0; i < KEYS; i++) {
            memset(key, 0, sizeof key);
            memcpy(key, &i, 4);
            for (size_t length = 4; length <= 64; length++) h[n++] = shf__hash(&k, key, length);
        }
        CHECK_EQ_INT(duplicates(h, n), 0);
    }
    free(h);
}

/* fold(a, b) is close to a * b modulo 2^64 - 1, and there ~a is -a: to complement a word leaves the hash as it is with
 * 2^-26.7 (measured over 4 * 10^9), where chance gives 2^-64. It makes pairs, and no more: a table does not notice. This
 * keeps watch that it stays so seldom. */
TEST(complements_meet_seldom) {
    enum { KEYS = 1 << 22 };
    uint64_t met = 0, tried = 0;
    for (int round = 0; round < (TEST_SANITIZED ? 1 : 4); round++) {
        struct shf_hash_key k = random_key(2);
        for (uint32_t i = 0; i < KEYS; i++) {
            uint64_t key[2] = {test_rng(), test_rng()}, first[2] = {~key[0], key[1]}, both[2] = {~key[0], ~key[1]};
            uint64_t h = shf__hash(&k, key, 16);
            met += h == shf__hash(&k, first, 16), met += h == shf__hash(&k, both, 16), tried += 2;
            met += shf__hash(&k, key, 8) == shf__hash(&k, first, 8), tried++;
        }
    }
    CHECK(met <= 16); /* 0.5 are expected */
    printf("# %llu of %llu complements have the hash of their key\n", (unsigned long long)met,
           (unsigned long long)tried);
}

int main(int argc, char **argv) { return run(argc, argv); }
