/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fuzz_image.c - an edited image: opened, read, written, iterated, checked
 *
 * INPUT    kind of table 1, how it is opened 1, seed of its use 4; then edits, each: what 1, where 4, and a value of 8 bytes
 *          or, for "bytes", a length of 1 and as many bytes.
 */
#include "fuzz.h"

static const struct hostile_shape shapes[] = {{0, 0, CLEAN}, {0, 0, LIVE},  {4, 4, LIVE},
                                              {8, 8, LIVE},  {8, 40, LIVE}, {0, 0, EMPTY}};
#define SHAPES (sizeof shapes / sizeof *shapes)
static struct hostile_good good[SHAPES];

static void fuzz_start(void) {
    for (size_t i = 0; i < SHAPES; i++) hostile_make(&good[i], shapes[i], 1);
}

static void edit(struct hostile_image *m, struct input *in) {
    unsigned what = take_byte(in);
    uint64_t at = take_bytes(in, 4);
    if (what % 8 == 7) { /* bytes */
        for (unsigned n = take_byte(in); n > 0; n--) poke(m, at++ % m->size, 1, take_byte(in));
        return;
    }
    uint64_t value = take_bytes(in, 8);
    switch (what % 8) {
    case 0: poke(m, at % m->size / 8 * 8, 8, value); break;
    case 1: poke(m, at % m->size / 4 * 4, 4, value); break;
    case 2: poke(m, shard_offset(what / 8) + at % 64 * 4, 4 + 4 * (unsigned)(at >> 8 & at & 1), value); break;
    case 3: poke(m, 128 + at % 42 * 4, 8, value); break; /* the mutable header; may cross two fields */
    case 4: poke(m, at % m->size / 8 * 8, 8, peek(m, at % m->size / 8 * 8) ^ UINT64_C(1) << value % 64); break;
    case 5: copy_words(m, at % m->size / 64 * 64, value % m->size / 64 * 64, UINT64_C(64) << what / 8 % 7); break;
    case 6: /* one of the edits that know the structures */
        m->rng = value;
        hostile_edit(m);
        break;
    }
}

static void fuzz_one(struct input *in) {
    const struct hostile_good *g = &good[take_byte(in) % SHAPES];
    unsigned how = take_byte(in);
    uint64_t seed = take_bytes(in, 4);
    struct hostile_image m = hostile_image_of(&g->shape, test_alloc(g->size), g->size, seed);
    struct stat st;
    memcpy(m.p, g->bytes, g->size);
    int fd = hostile_file("", 0, 0);
    REQUIRE(fstat(fd, &st) == 0);
    poke(&m, FIELD(shf_shm_header, dev), 8, st.st_dev);
    poke(&m, FIELD(shf_shm_header, ino), 8, st.st_ino);
    poke(&m, FIELD(shf_shm_header, dirty), 4, how & 1);
    size_t length = how & 16 ? g->size + take_bytes(in, 2) * 64 : how & 32 ? take_bytes(in, 3) % g->size : g->size;
    for (int n = 0; in->left > 0 && n < 64; n++) edit(&m, in);
    if (how & 8) hostile_repair(m.p);
    REQUIRE(write(fd, m.p, m.size) == (ssize_t)m.size && ftruncate(fd, (off_t)length) == 0);
    hostile_seal(fd);
    free(m.p);
    m.p = NULL, m.size = 0, m.rng = seed;
    int first = how >> 1 & 1;
    hostile_use(fd, first, &m, g, 24, how >> 2 & 1);
    hostile_use(fd, !first, &m, g, 8, 0);
    close(fd);
}
