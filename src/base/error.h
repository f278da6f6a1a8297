/* error.h - how every module reports: a status, and one line that says what to change.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_ERROR_H
#define EMB_BASE_ERROR_H

#include "embound.h"

/* Writes the message (printf form, cut at 255 bytes on a character boundary) and returns `status`,
 * so that `return emb_error_set(...)` reads well. error may be NULL. Allocates nothing. */
emb_status emb_error_set(emb_error *error, emb_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define EMB_TRY(call)                                                                              \
    do {                                                                                           \
        emb_status emb_try_status_ = (call);                                                       \
        if (emb_try_status_ != EMB_OK) return emb_try_status_;                                     \
    } while (0)

#endif
