/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fuzz.h - what the fuzzers share: an input's bytes, and a run whose failed checks end the process
 *
 * A fuzzer is one file fuzz_NAME.c with fuzz_one(). libFuzzer calls it with inputs of its own making; replay.c, where
 * there is no libFuzzer, with the files of corpus/fuzz_NAME. All constants are small (SHF_SMALL). README.md says how to run.
 */
#ifndef SHF_FUZZ_H
#define SHF_FUZZ_H

#include "hostile_model.h"

/* Bytes of the input, one after the other; zeros behind its end. */
struct input {
    const uint8_t *p;
    size_t left;
};
TEST_FN uint64_t take_bytes(struct input *in, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n && in->left > 0; i++, in->p++, in->left--) v |= (uint64_t)*in->p << 8 * i;
    return v;
}
TEST_FN unsigned take_byte(struct input *in) { return (unsigned)take_bytes(in, 1); }

static void fuzz_start(void); /* once */
static void fuzz_one(struct input *in);

/* A failed check of fuzz_one ends the process, so that libFuzzer keeps the input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static int failures;
    struct rlimit small = {256 << 20, 256 << 20};
    const char *folder = getenv("SHF_FUZZ_FOLDER");
    (void)argc, (void)argv;
    setrlimit(RLIMIT_FSIZE, &small); /* a forged limit of 2 TiB shall not fill the machine's memory */
    test_failures = &failures;
    test_name = "fuzz", test_seed = 1, test_pid = getpid();
    if (folder != NULL) snprintf(test_dir, sizeof test_dir, "%s", folder);
    else atexit(test_cleanup);
    hostile_begin();
    if (setjmp(test_leave)) abort();
    fuzz_start();
    return 0;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct input in; /* static: it lives across longjmp */
    in = (struct input){data, size};
    if (!setjmp(test_leave)) fuzz_one(&in);
    if (*test_failures != 0) abort();
    return 0;
}

#endif
