/* say.c - lines on standard error, from buffers of fixed size.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void emb_app_err(const char *text, size_t length) {
    while (length) {
        ssize_t written = write(2, text, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* there is nowhere left to say so */
        text += written;
        length -= (size_t)written;
    }
}

void emb_app_say(const char *format, ...) {
    char line[1024] = "embound: ";
    const size_t prefix = 9;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > sizeof line - prefix - 2) used = sizeof line - prefix - 2;
    line[prefix + used] = '\n';
    emb_app_err(line, prefix + used + 1);
}

const char *emb_app_plural(uint64_t count) {
    return count == 1 ? "" : "s";
}

double emb_app_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
