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

int main(int argc, char **argv) { return run(argc, argv); }
