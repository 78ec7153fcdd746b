// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * error.c - pinned codes, and the calling thread's last error
 *
 * WHAT       One record a thread, in thread-local storage: code, errno, place, path, message. A call that fails
 *            overwrites it; a call that succeeds leaves it alone. Texts are copied, so the caller's buffers may go.
 * NOT        A log. Nothing is printed or allocated here, so it also works when memory is short.
 * FORK       The record is copied with the thread; no lock, nothing to repair.
 * PROOF      csrc/tests/validate_os.c: every code has its own text; texts that alias the record; cutting
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHF_ERROR_PATH 1024
#define SHF_ERROR_MESSAGE 1024

struct last_error {
    struct shf_error_info info;
    char path[SHF_ERROR_PATH];
    char message[SHF_ERROR_MESSAGE];
};
static _Thread_local struct last_error last = {{0, 0, "", "", "no error"}, {0}, {0}};

const char shf_absent[1] = {0};

/* A path, or the name of a memory file that somebody sent, may hold escape sequences and line feeds: a message goes to
 * terminals and logs. C0, DEL, and C1 in UTF-8. */
static void make_printable(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < ' ' || *p == 0x7f) *p = '?';
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) p[0] = p[1] = '?';
    }
}

int shf__fail(int code, int os_error, const char *place, const char *path, const char *format, ...) {
    char message[SHF_ERROR_MESSAGE];
    size_t n = path == NULL ? 0 : strnlen(path, SHF_ERROR_PATH - 1);

    /* Into a local buffer first: the arguments may point into the record itself. */
    if (format == NULL) {
        snprintf(message, sizeof message, "%s", shf_strerror(code));
    } else {
        va_list args;
        va_start(args, format);
        if (vsnprintf(message, sizeof message, format, args) < 0) message[0] = 0;
        va_end(args);
    }
    make_printable(message);
    if (n > 0) memmove(last.path, path, n);
    last.path[n] = 0;
    memcpy(last.message, message, sizeof message);
    last.info.code = code;
    last.info.os_error = os_error;
    last.info.place = place == NULL ? "" : place;
    last.info.path = last.path;
    last.info.message = last.message;
    return code;
}

const struct shf_error_info *shf_last_error(void) { return &last.info; }

const char *shf_strerror(int code) {
    switch (code) {
    case SHF_OK: return "success";
    case SHF_NOT_FOUND: return "no such key or UID, no item in the queue, or the end of an iteration";
    case SHF_EXISTS: return "the key is there already";
    case SHF_TRUNCATED: return "the buffer is too small, nothing was changed";
    case SHF_UNCHANGED: return "the value is not the expected one";
    case SHF_STOPPED: return "the callback asked to stop";
    case SHF_ERR_INVALID: return "an argument is not legal";
    case SHF_ERR_EXISTS: return "the file exists already";
    case SHF_ERR_NOT_FOUND: return "there is no such file, or no such queue";
    case SHF_ERR_READ_ONLY: return "a change was asked of something read-only";
    case SHF_ERR_NO_SPACE: return "no space: the file system is full, or a size limit is reached";
    case SHF_ERR_FULL: return "the index has no room for this key, or the set none for a queue";
    case SHF_ERR_TOO_LONG: return "key and value are longer than 2^32 - 1 bytes, or an item than 2^30";
    case SHF_ERR_WRONG_LENGTH: return "key or value does not have the table's fixed length";
    case SHF_ERR_NOT_A_COUNTER: return "the value is not 8 bytes long";
    case SHF_ERR_TIMEOUT: return "a live process kept a lock beyond the deadline";
    case SHF_ERR_CORRUPT: return "the file's content breaks the format's rules";
    case SHF_ERR_INCOMPATIBLE: return "the file has another format, kind or other creation options";
    case SHF_ERR_UNCLEAN:
        return "the machine or storage went down while the file was in use, or it is a copy of a live file";
    case SHF_ERR_BUSY: return "busy: all slots are taken, or writers left no quiet moment; try again";
    case SHF_ERR_ADDRESS_SPACE: return "no address space left for the mapping";
    case SHF_ERR_FORKED: return "the handle came through fork and could not register again";
    case SHF_ERR_PERMISSION: return "no right to the file, or its owner is not trusted";
    case SHF_ERR_INVALID_PATH: return "the path does not name a plain regular file";
    case SHF_ERR_IO: return "a system call failed";
    case SHF_ERR_UNSUPPORTED: return "this kernel or file system cannot do it";
    case SHF_ERR_NO_MEMORY: return "no private memory left";
    case SHF_ERR_INVALID_ITEM: return "the item is not held by this handle";
    default: return "unknown code";
    }
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
const char *shf_version(void) {
    return TEXT(SHF_VERSION_MAJOR) "." TEXT(SHF_VERSION_MINOR) "." TEXT(SHF_VERSION_PATCH);
}
