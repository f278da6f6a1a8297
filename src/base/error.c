/* error.c - fills the caller's emb_error and names statuses.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Drops a UTF-8 character that truncating the message has split. */
static void cut_at_character(char *message, size_t length) {
    size_t tail = 0; /* continuation bytes at the end */
    while (tail < 3 && ((unsigned char)message[length - 1 - tail] & 0xC0) == 0x80) tail++;
    unsigned char lead = (unsigned char)message[length - 1 - tail];
    size_t needs = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (needs > tail) message[length - 1 - tail] = '\0';
}

emb_status emb_error_set(emb_error *error, emb_status status, const char *format, ...) {
    if (!error) return status;
    error->bytes_min = 0;
    error->region = EMB_REGION_HOST;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length < 0) error->message[0] = '\0';
    if (length >= (int)sizeof error->message)
        cut_at_character(error->message, sizeof error->message - 1);
    return status;
}

const char *emb_status_name(emb_status status) {
    switch (status) {
    case EMB_OK:
        return "EMB_OK";
    case EMB_INVALID_ARGUMENT:
        return "EMB_INVALID_ARGUMENT";
    case EMB_UNSUPPORTED:
        return "EMB_UNSUPPORTED";
    case EMB_BUDGET:
        return "EMB_BUDGET";
    case EMB_BAD_FILE:
        return "EMB_BAD_FILE";
    case EMB_BAD_TEXT:
        return "EMB_BAD_TEXT";
    case EMB_TOO_LONG:
        return "EMB_TOO_LONG";
    case EMB_NOT_FINITE:
        return "EMB_NOT_FINITE";
    case EMB_NO_MEMORY:
        return "EMB_NO_MEMORY";
    case EMB_IO:
        return "EMB_IO";
    case EMB_NOT_FOUND:
        return "EMB_NOT_FOUND";
    case EMB_DEVICE:
        return "EMB_DEVICE";
    case EMB_CANCELLED:
        return "EMB_CANCELLED";
    case EMB_TIMEOUT:
        return "EMB_TIMEOUT";
    case EMB_WITHDRAWN:
        return "EMB_WITHDRAWN";
    case EMB_INTERNAL:
        return "EMB_INTERNAL";
    }
    return "unknown status";
}

#define TEXT_OF(x)  #x
#define TEXT_OF2(x) TEXT_OF(x)

const char *emb_version(void) {
    return TEXT_OF2(EMB_VERSION_MAJOR) "." TEXT_OF2(EMB_VERSION_MINOR) "." TEXT_OF2(
        EMB_VERSION_PATCH);
}
