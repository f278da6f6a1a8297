/* fail.h - how the programs fill an emb_error: a status, and one line that says what to change.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_APPS_FAIL_H
#define EMB_APPS_FAIL_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "embound.h"

/* Length of the longest prefix of at most `most` bytes that ends between two UTF-8 characters. */
static inline int emb_app_whole(const char *text, size_t length, size_t most) {
    size_t shown = length < most ? length : most;
    while (shown < length && shown && ((unsigned char)text[shown] & 0xC0) == 0x80) shown--;
    return (int)shown;
}

/* Arguments for "%.*s" that show at most so many bytes of a text, without splitting a character. */
#define EMB_APP_CUT(text, most) emb_app_whole(text, strlen(text), most), text

/* Writes the message (printf form, truncated between two characters to fit) and returns `status`.
 * error may be NULL. */
__attribute__((format(printf, 3, 4))) static inline emb_status
emb_app_fail(emb_error *error, emb_status status, const char *format, ...) {
    if (!error) return status;
    char message[sizeof error->message +
                 1]; /* one more, to see whether truncation splits a character */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(error->message, sizeof error->message, "%.*s",
             EMB_APP_CUT(message, sizeof error->message - 1));
    error->bytes_min = 0;
    error->region = EMB_REGION_HOST;
    return status;
}

#define EMB_APP_TRY(call)                                                                          \
    do {                                                                                           \
        emb_status emb_try_status_ = (call);                                                       \
        if (emb_try_status_ != EMB_OK) return emb_try_status_;                                     \
    } while (0)

#endif
