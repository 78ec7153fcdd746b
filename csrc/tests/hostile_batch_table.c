/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_batch_table.c - batches on edited images: any answer will do, but no crash, and nothing outside of the buffers
 *
 * hostile_table.c does this for all calls and all parts of the file. Here the edits are where the stages of a batch look:
 * directory words and entries, slots, headers of buckets, records; up to 300 of them an image. hostile_model.h says how.
 */
#include "hostile_model.h"

static uint64_t odd_word(struct hostile_image *m, uint64_t old) {
    uint64_t r = test_next(&m->rng);
    switch (r % 6) {
    case 0: return old ^ UINT64_C(1) << (r >> 8 & 63);
    case 1: return r >> (r >> 8 & 63);
    case 2: return (old & ~SHF_REF_MASK) | draw(m, m->size / 8 + 600); /* another record, or beyond the end */
    case 3: return (old & ~UINT64_C(0xffffffff)) | draw(m, m->size / 4096 + 3);
    case 4: return old | UINT64_C(0xff) << (r >> 8 & 56);
    default: return ~UINT64_C(0) - r % 70000;
    }
}
static void edit(struct hostile_image *m) {
    uint64_t object = SHF_OBJECT_PAGE * 4096ull, index = object + SHF_TABLE_PAGES * 4096ull, at;
    switch (draw(m, 8)) {
    case 0: at = any_shard(m) + SHARD_FIELD(directory) + draw(m, 7) * 8; break; /* and entries */
    case 1: at = any_shard(m) + SHARD_FIELD(directory); break;
    default: at = index + draw(m, (m->size - index) / 8) * 8;
    }
    poke(m, at, 8, odd_word(m, peek(m, at)));
}

TEST(edited_images) {
    static const struct hostile_shape shapes[] = {
        {0, 0, CLEAN}, {4, 4, CLEAN}, {8, 16, CLEAN}, {20, 100, CLEAN}, {8, 8, CLEAN}};
    struct hostile_run r = {
        .shapes = shapes, .n = sizeof shapes / sizeof *shapes, .edit = edit, .edits = 300, .batches = 1, .images = 500};
    hostile_images(&r);
}

int main(int argc, char **argv) { return run(argc, argv); }
