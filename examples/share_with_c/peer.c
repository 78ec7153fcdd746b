/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * peer.c - the C half of the example share_with_c; main.rs is the Rust half
 *
 *     cc peer.c $(pkg-config --cflags --libs shf) -o peer
 *     ./peer write TABLE | read TABLE | count TABLE N
 *
 * write puts entries into the table, read checks the ones that the Rust program wrote, count adds 1 to a
 * shared counter N times (the other program does the same at the same time). Exit code 0, or 1 with a message.
 */
#include <inttypes.h>
#include <shf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS 10000
#define LONG_VALUE 100000

static int fail(const char *what, int rc) {
    fprintf(stderr, "peer: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    return 1;
}

/* The bytes that both programs expect at a place of the long value. */
static unsigned char long_byte(size_t i) { return (unsigned char)(i * 31 + i / 251); }

static int put(struct shf_table *t, const char *name, const void *val, size_t len) {
    char key[64];
    snprintf(key, sizeof key, "from c: %s", name);
    int rc = shf_table_put(t, key, strlen(key), val, len, NULL);
    return rc == SHF_OK ? 0 : fail(key, rc);
}

static int expect(struct shf_table *t, const char *name, const void *val, size_t len) {
    static unsigned char buf[LONG_VALUE + 1];
    char key[64];
    size_t got = 0;
    snprintf(key, sizeof key, "from rust: %s", name);
    int rc = shf_table_get(t, key, strlen(key), buf, sizeof buf, &got);
    if (rc != SHF_OK) return fail(key, rc);
    if (got == len && memcmp(buf, val, len) == 0) return 0;
    fprintf(stderr, "peer: %s: another value than expected (%zu bytes)\n", key, got);
    return 1;
}

static int each(struct shf_table *t, int (*f)(struct shf_table *, const char *, const void *, size_t)) {
    static unsigned char longv[LONG_VALUE];
    int bad = 0;
    for (size_t i = 0; i < sizeof longv; i++) longv[i] = long_byte(i);
    bad |= f(t, "greeting", "hello", 5);
    bad |= f(t, "empty", "", 0);
    bad |= f(t, "zeros", "a\0b\0", 4);
    bad |= f(t, "long", longv, sizeof longv);
    for (uint32_t i = 0; i < NUMBERS && !bad; i++) {
        char name[16], val[16];
        snprintf(name, sizeof name, "%" PRIu32, i);
        snprintf(val, sizeof val, "%" PRIu32, i * 7);
        bad |= f(t, name, val, strlen(val));
    }
    return bad;
}

/* Each program leaves the UID of its greeting, 4 bytes little-endian, for the other one to compare. */
static int uid_bytes(struct shf_table *t, const char *key, unsigned char out[4]) {
    uint32_t uid = 0;
    int rc = shf_table_uid(t, key, strlen(key), &uid);
    if (rc != SHF_OK) return fail(key, rc);
    for (int i = 0; i < 4; i++) out[i] = (unsigned char)(uid >> (8 * i));
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3 || (strcmp(argv[1], "count") == 0 && argc < 4)) {
        fprintf(stderr, "usage: peer write|read TABLE | count TABLE N\n");
        return 2;
    }
    struct shf_table *t = NULL;
    unsigned char uid[4];
    int bad = 0;
    int rc = shf_table_open(argv[2], SHF_CREATE, NULL, &t);
    if (rc != SHF_OK) return fail("open", rc);
    if (strcmp(argv[1], "write") == 0) {
        bad = each(t, put) || uid_bytes(t, "from c: greeting", uid) || put(t, "uid", uid, 4);
    } else if (strcmp(argv[1], "read") == 0) {
        bad = each(t, expect) || uid_bytes(t, "from rust: greeting", uid) || expect(t, "uid", uid, 4);
    } else if (strcmp(argv[1], "count") == 0) {
        for (long i = atol(argv[3]); i > 0 && !bad; i--) {
            rc = shf_table_add(t, "shared counter", 14, 1, NULL);
            if (rc != SHF_OK) bad = fail("shared counter", rc);
        }
    } else {
        fprintf(stderr, "peer: no command %s\n", argv[1]);
        bad = 2;
    }
    shf_table_close(t);
    if (!bad) printf("c: %s done\n", argv[1]);
    return bad;
}
