/* growing.h - a file's text as it is put together, or only measured.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PACKAGE_GROWING_H
#define EMB_PACKAGE_GROWING_H

#include "embound.h"

typedef struct emb_growing {
    int descriptor; /* -1: nothing is written, `at` only advances */
    const char *path;
    uint64_t at; /* where the next byte goes */
} emb_growing;

/* Writes up to 511 bytes of formatted text. Fails: EMB_IO, EMB_INTERNAL (longer than that). */
emb_status emb_growing_put(emb_growing *file, emb_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
