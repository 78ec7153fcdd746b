/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_table.c - edited images of tables of variable lengths: an error or success, never a crash, never a hang
 *
 * SHF_IMAGES of them (2,000), from an empty table, a closed one and one as it is while in use. hostile_model.h says how.
 */
#include "hostile_model.h"

TEST(edited_images) {
    static const struct hostile_shape shapes[] = {{0, 0, CLEAN}, {0, 0, LIVE}, {0, 0, LIVE}, {0, 0, CLEAN}, {0, 0, EMPTY}};
    struct hostile_run r = {.shapes = shapes, .n = sizeof shapes / sizeof *shapes, .edit = hostile_edit, .edits = 64, .images = 2000};
    hostile_images(&r);
}

/* Only what is in use gets its storage: a file of some pages must not take all memory. */
TEST(a_hole_beyond_the_end_stays_one) {
    struct hostile_good g;
    struct shf_table *t = NULL;
    struct stat st;
    hostile_make(&g, (struct hostile_shape){0, 0, CLEAN}, test_seed);
    struct shf_shm_header *h = (struct shf_shm_header *)(void *)g.bytes;
    h->max_bytes = 1u << 30;
    hostile_repair(h);
    int fd = hostile_file(g.bytes, g.size, 64 << 20);
    hostile_seal(fd);
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_OK);
    REQUIRE(fstat(fd, &st) == 0);
    CHECK((size_t)st.st_blocks * 512 < g.size + (8 << 20));
    shf_table_close(t);
    close(fd);
    free(g.bytes);
}

/* One directory for all shards, as deep as can be, whose entries name two empty segments in turn: one step of an iteration
 * would look at 2^32 slots. */
TEST(a_deep_directory_of_few_segments_ends_the_iteration) {
    struct hostile_good g;
    struct shf_table *t = NULL;
    hostile_make(&g, (struct hostile_shape){0, 0, CLEAN}, test_seed);
    uint64_t array = g.size / 4096, segment = array + 40, position = 0;
    struct hostile_image m = hostile_image_of(&g.shape, calloc(1, g.size + 64 * 4096), g.size + 64 * 4096, test_seed);
    REQUIRE(m.p != NULL);
    memcpy(m.p, g.bytes, g.size);
    for (uint64_t i = 0; i < 1 << 15; i++) poke(&m, array * 4096 + 4 * i, 4, segment + i % 2);
    for (uint64_t i = 0; i < SHF_SHARD_COUNT; i++) poke(&m, shard_offset(i) + SHARD_FIELD(directory), 8, array * 4096);
    poke(&m, FIELD(shf_shm_header, end), 8, m.size);
    int fd = hostile_file(m.p, m.size, m.size);
    hostile_seal(fd);
    REQUIRE_EQ_INT(shf_table_from_fd(fd, NULL, &t), SHF_OK);
    unsigned char key[8], val[8];
    size_t klen, vlen;
    CHECK_EQ_INT(shf_table_next(t, &position, key, sizeof key, &klen, val, sizeof val, &vlen, NULL), SHF_ERR_CORRUPT);
    shf_table_close(t);
    close(fd);
    free(m.p);
    free(g.bytes);
}

int main(int argc, char **argv) { return run(argc, argv); }
