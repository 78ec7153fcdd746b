/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* error.h - pinned codes, and the calling thread's last error */
#ifndef SHF_ERROR_H
#define SHF_ERROR_H

#include "atomic.h"
#include "shf.h"

/* Records the thread's last error and returns `code`. `place` is a string literal. `os_error` is a positive
 * errno or 0. `path` may be NULL (copied, cut at the buffer's end). The message is made from `format`
 * (printf-like, one sentence that names the thing and what to do); NULL: shf_strerror(code). */
int shf__fail(int code, int os_error, const char *place, const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6), cold, noinline));

/* Checks arguments that every call has. */
#define SHF_CHECK_ARGS(ok)                                                                                   \
    do {                                                                                                     \
        if (SHF_UNLIKELY(!(ok))) return shf__fail(SHF_ERR_INVALID, 0, __func__, NULL, NULL);                 \
    } while (0)

#endif
