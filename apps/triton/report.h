/* report.h - errors and log lines as the server takes them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_REPORT_H
#define EMB_TRITON_REPORT_H

#include "embound.h"
#include "triton/triton_api.h"

/* A new error of the printf form, cut at 511 bytes. */
emb_triton_error emb_triton_fail(TRITONSERVER_Error_Code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Which of the server's codes says what the library's status means. */
TRITONSERVER_Error_Code emb_triton_code(emb_status status);

/* A new error that says what the library said, with a place before it. */
emb_triton_error emb_triton_refuse(emb_status status, const char *place, const emb_error *error);

/* Logs an error that nobody can be told, and deletes it. NULL is none. */
void emb_triton_drop(emb_triton_error error);

/* A line in the server's log, after "embound: "; cut at 2047 bytes. */
void emb_triton_log(TRITONSERVER_LogLevel level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define EMB_TRITON_TRY(call)                                                                       \
    do {                                                                                           \
        emb_triton_error emb_try_error_ = (call);                                                  \
        if (emb_try_error_) return emb_try_error_;                                                 \
    } while (0)

#endif
