/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fork_ways.h - the ways in which a process gets a child: with fork handlers, without, and with an exec at once */
#ifndef SHF_FORK_WAYS_H
#define SHF_FORK_WAYS_H

#include "registry_fixture.h"

enum how { BY_FORK, BY__FORK, BY_CLONE, BY_VFORK_EXEC };

/* 0 in the child. BY_VFORK_EXEC: the child sleeps for a minute as another program, *ready is set when it does. */
static pid_t fork_by(enum how how, shf_au32 *ready) {
    pid_t pid = -1;
    switch (how) {
    case BY_FORK: pid = fork(); break;
    case BY__FORK: pid = _Fork(); break;
    case BY_CLONE: pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); break;
    case BY_VFORK_EXEC:
        pid = vfork();
        if (pid == 0) {
            execl("/bin/sleep", "sleep", "60", (char *)NULL);
            _exit(1);
        }
        atomic_store(ready, 1); /* vfork returns after the exec */
        break;
    }
    if (pid < 0) _exit(1); /* what it gives will be killed: never -1 */
    return pid;
}

#endif
