/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hostile_cells_table.c - edited images of tables of fixed lengths: an error or success, never a crash, never a hang
 *
 * As hostile_table.c, with what only these tables have: header words, tags and flags, version words, redo records, CELL and
 * VALUE steps, segments of several pages, lengths in the header that are not the content's.
 */
#include "hostile_model.h"

TEST(edited_images) {
    static const struct hostile_shape shapes[] = {{4, 4, CLEAN}, {4, 4, LIVE},    {3, 5, LIVE},    {12, 8, CLEAN},
                                                  {8, 8, LIVE},  {16, 40, LIVE},  {8, 112, CLEAN}, {9, 9, LIVE},
                                                  {8, 0, CLEAN}, {20, 100, LIVE}, {4, 37, LIVE}};
    struct hostile_run r = {
        .shapes = shapes, .n = sizeof shapes / sizeof *shapes, .edit = hostile_edit, .edits = 64, .images = 2000};
    hostile_images(&r);
}

int main(int argc, char **argv) { return run(argc, argv); }
