/* growing.c - formatted text at the end of a file.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "package/growing.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/file.h"

emb_status emb_growing_put(emb_growing *file, emb_error *error, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text)
        return emb_error_set(error, EMB_INTERNAL, "an entry of the header is too long");
    uint64_t at = file->at;
    file->at += (uint64_t)length;
    if (file->descriptor < 0) return EMB_OK;
    return emb_file_write_at(file->descriptor, text, (size_t)length, at, file->path, error);
}
