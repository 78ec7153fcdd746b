/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * client.c - the C client of the example request_reply; main.rs has the service, and a client in Rust
 *
 *     cc client.c $(pkg-config --cflags --libs shf) -o client
 *     ./client SET NAME COUNT [PAUSE]
 *
 * Asks the service COUNT times to count lines, words and bytes of a text, and checks the replies. Request and reply lie
 * in one item that goes round: free -> requests -> replies to NAME -> free. PAUSE: so many milliseconds the service takes
 * for the first request (and is killed meanwhile, in run.sh). Exit code 0, or 1 with a message.
 */
#include <inttypes.h>
#include <shf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST 1u
#define REPLY 2u
#define SECOND UINT64_C(1000000000)
#define PATIENCE 30 /* seconds in all for a reply, in steps of one */

/* An item, as main.rs describes it: little-endian, as all machines are that shf runs on. */
struct message {
    uint32_t state;        /* REQUEST, REPLY */
    uint32_t number;       /* of the client: which request */
    uint32_t pause;        /* milliseconds that the service shall take */
    uint32_t length;       /* of the text */
    char reply_to[64];     /* name of the queue for the reply */
    uint64_t counts[3];    /* the reply: lines, words, bytes */
    uint32_t service;      /* and who gave it: its process ID */
    uint32_t tries;        /* how many services have begun with it */
    char pad[16];
    char text[];           /* stays as it is: another service can begin again */
};

_Static_assert(offsetof(struct message, text) == 128, "as in main.rs");

static int fail(const char *what, int rc) {
    fprintf(stderr, "client: %s: %s\n", what, rc < 0 ? shf_last_error()->message : shf_strerror(rc));
    return 1;
}

/* The text of a request, and what a right reply says of it. */
static void compose(struct message *m, uint32_t number, uint64_t counts[3]) {
    int n = snprintf(m->text, 256, "request %" PRIu32 "\nhas %" PRIu32 " in its second line\n", number, number * 7);
    m->length = (uint32_t)n;
    counts[0] = 2;
    counts[1] = 8;
    counts[2] = (uint64_t)n;
}

/* The reply to this request. The service may die meanwhile: the request then goes home to its queue by itself, and the
 * next service answers it. All that a client needs is patience. */
static int await(struct shf_queue *replies, uint32_t number, struct shf_item *item) {
    for (int seconds = 0; seconds < PATIENCE; seconds++) {
        int rc = shf_queue_pull_wait(replies, SECOND, item);
        if (rc == SHF_OK) {
            const struct message *m = item->data;
            if (m->state == REPLY && m->number == number) return 0;
            fprintf(stderr, "client: reply %" PRIu32 " to request %" PRIu32 "\n", m->number, number);
            return 1;
        }
        if (rc != SHF_NOT_FOUND) return fail("pull_wait", rc);
        fprintf(stderr, "client: no reply yet, still waiting\n");
    }
    fprintf(stderr, "client: no reply to request %" PRIu32 " in %d s\n", number, PATIENCE);
    return 1;
}

static int ask(struct shf_queue *queue[3], uint32_t number, uint32_t pause, int *repeated) {
    struct shf_item item;
    uint64_t counts[3];
    int rc = shf_queue_pull_wait(queue[0], PATIENCE * SECOND, &item);
    if (rc != SHF_OK) return fail("a free item", rc);
    struct message *m = item.data;
    memset(m, 0, sizeof *m);
    m->state = REQUEST;
    m->number = number;
    m->pause = pause;
    snprintf(m->reply_to, sizeof m->reply_to, "%s", shf_queue_name(queue[2]));
    compose(m, number, counts);
    rc = shf_queue_push(queue[1], &item);
    if (rc != SHF_OK) return fail("push of a request", rc);
    if (await(queue[2], number, &item)) return 1;
    m = item.data;
    int wrong = memcmp(m->counts, counts, sizeof counts) != 0;
    if (wrong) fprintf(stderr, "client: a wrong reply to request %" PRIu32 "\n", number);
    if (m->tries > 1) {
        (*repeated)++;
        printf("c: request %" PRIu32 " was begun %" PRIu32 " times, process %" PRIu32 " answered it\n", number, m->tries,
               m->service);
    }
    rc = shf_queue_push(queue[0], &item);
    return rc == SHF_OK ? wrong : fail("push of a free item", rc);
}

int main(int argc, char **argv) {
    if (argc < 4 || strlen(argv[2]) > 50) {
        fprintf(stderr, "usage: client SET NAME COUNT [PAUSE]\n");
        return 2;
    }
    struct shf_queue_set *set = NULL;
    struct shf_queue *queue[3] = {NULL, NULL, NULL}; /* free, requests, replies to NAME */
    uint32_t count = (uint32_t)strtoul(argv[3], NULL, 10);
    uint32_t pause = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    char name[SHF_QUEUE_NAME_MAX + 1];
    int bad = 0, repeated = 0;
    int rc = shf_queue_set_open(argv[1], 0, NULL, &set);
    if (rc != SHF_OK) return fail("open", rc);
    snprintf(name, sizeof name, "replies to %s", argv[2]);
    if ((rc = shf_queue_find(set, "free", &queue[0])) != SHF_OK) bad = fail("free", rc);
    else if ((rc = shf_queue_find(set, "requests", &queue[1])) != SHF_OK) bad = fail("requests", rc);
    else if ((rc = shf_queue_add(set, name, &queue[2], NULL)) != SHF_OK) bad = fail(name, rc);
    /* Replies that a client of this name did not live to see. */
    else if ((rc = shf_queue_drain(queue[2], queue[0], NULL)) != SHF_OK) bad = fail("drain", rc);
    struct timespec from, to;
    timespec_get(&from, TIME_UTC);
    for (uint32_t i = 0; i < count && !bad; i++) bad = ask(queue, i, i == 0 ? pause : 0, &repeated);
    timespec_get(&to, TIME_UTC);
    shf_queue_set_close(set);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    if (!bad) {
        printf("c: %" PRIu32 " replies, %.0f a second, %d of them to requests that a service died with\n", count,
               count / (seconds > 0 ? seconds : 1), repeated);
    }
    return bad;
}
