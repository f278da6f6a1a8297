/* fail.h - how the programs fill an emb_error: a status, and one line that says what to change.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_APPS_FAIL_H
#define EMB_APPS_FAIL_H

#include <stdarg.h>
#include <stdio.h>

#include "embound.h"

/* Writes the message (printf form, cut to fit) and gives `status` back. error may be NULL. */
__attribute__((format(printf, 3, 4))) static inline emb_status
emb_app_fail(emb_error *error, emb_status status, const char *format, ...) {
    if (!error) return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->bytes_min = 0;
    return status;
}

#define EMB_APP_TRY(call)                                                                          \
    do {                                                                                           \
        emb_status emb_try_status_ = (call);                                                       \
        if (emb_try_status_ != EMB_OK) return emb_try_status_;                                     \
    } while (0)

#endif
