/* report.c - errors and log lines as the server takes them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/report.h"

#include <stdarg.h>
#include <stdio.h>

enum { ERROR_BYTES = 512, LINE_BYTES = 2048 };

emb_triton_error emb_triton_fail(TRITONSERVER_Error_Code code, const char *format, ...) {
    char message[ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return TRITONSERVER_ErrorNew(code, message);
}

TRITONSERVER_Error_Code emb_triton_code(emb_status status) {
    switch (status) {
    case EMB_INVALID_ARGUMENT:
    case EMB_BAD_TEXT:
    case EMB_TOO_LONG:
    case EMB_BAD_FILE:
    case EMB_BUDGET:
        return TRITONSERVER_ERROR_INVALID_ARG;
    case EMB_UNSUPPORTED:
        return TRITONSERVER_ERROR_UNSUPPORTED;
    case EMB_NOT_FOUND:
        return TRITONSERVER_ERROR_NOT_FOUND;
    case EMB_NO_MEMORY:
    case EMB_IO:
    case EMB_DEVICE:
        return TRITONSERVER_ERROR_UNAVAILABLE;
    case EMB_CANCELLED:
    case EMB_WITHDRAWN:
        return TRITONSERVER_ERROR_CANCELLED;
    default:
        return TRITONSERVER_ERROR_INTERNAL;
    }
}

emb_triton_error emb_triton_refuse(emb_status status, const char *place, const emb_error *error) {
    return emb_triton_fail(emb_triton_code(status), "%s: %s", place, error->message);
}

void emb_triton_drop(emb_triton_error error) {
    if (!error) return;
    emb_triton_log(TRITONSERVER_LOG_ERROR, "the server refused a call: %s",
                   TRITONSERVER_ErrorMessage(error));
    TRITONSERVER_ErrorDelete(error);
}

void emb_triton_log(TRITONSERVER_LogLevel level, const char *format, ...) {
    char line[LINE_BYTES];
    int length = snprintf(line, sizeof line, "embound: ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    va_end(arguments);
    emb_triton_error failed = TRITONSERVER_LogMessage(level, "embound", 0, line);
    if (failed) TRITONSERVER_ErrorDelete(failed);
}
