/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * replay.c - main for a fuzzer without libFuzzer: runs the inputs in files and folders, or in fuzz/corpus/ITS_NAME
 *
 * Any compiler will do, so the corpus is replayed wherever the tests run. It names each input before it runs it.
 */
#include "test.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned files;
static char now[600] = "the start\n";

static void died(int sig) { /* says which input it was */
    static const char text[] = "*** ended by a signal in ";
    if (write(1, text, sizeof text - 1) < 0 || write(1, now, strlen(now)) < 0) _exit(3);
    signal(sig, SIG_DFL);
    raise(sig);
}
static void replay(const char *path) {
    struct stat st;
    FILE *f = NULL;
    if (stat(path, &st) != 0) perror(path), exit(2);
    if (S_ISDIR(st.st_mode)) {
        struct dirent **names = NULL;
        int n = scandir(path, &names, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            char inside[512];
            snprintf(inside, sizeof inside, "%s/%s", path, names[i]->d_name);
            if (names[i]->d_name[0] != '.') replay(inside);
            free(names[i]);
        }
        free(names);
        return;
    }
    snprintf(now, sizeof now, "%s\n", path);
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly as long, for AddressSanitizer */
    if (data == NULL || (f = fopen(path, "rb")) == NULL || fread(data, 1, size, f) != size) perror(path), exit(2);
    fclose(f);
    files++;
    alarm(60);
    LLVMFuzzerTestOneInput(data, size);
    alarm(0);
    free(data);
}
int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/');
    char folder[256];
    snprintf(folder, sizeof folder, "fuzz/corpus/%s", name ? name + 1 : argv[0]);
    signal(SIGABRT, died);
    signal(SIGALRM, died);
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) replay(argv[i]);
    if (argc < 2 && access("fuzz/replay.c", F_OK) == 0 && access("fuzz/corpus", F_OK) != 0) {
        printf("  skipped: a package has no corpus\n0 passed, 0 failed\n");
        return 0;
    }
    if (argc < 2) replay(folder);
    if (files == 0) {
        printf("*** no input\n");
        return 1;
    }
    printf("# total: %u inputs of the fuzzers' corpus, 0 crashes, 0 hangs\n%u passed, 0 failed\n", files, files);
    return 0;
}
