/* npy.h - vectors that `encode` wrote: an .npy file of version 1.0 or 2.0 with 32-bit floats in
 * rows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_NPY_H
#define EMB_SOURCE_NPY_H

#include "embound.h"

typedef struct emb_npy {
    int descriptor; /* -1: not open */
    uint64_t rows, data_offset;
    uint32_t dim;
} emb_npy;

/* Opens the file and reads its header; the caller closes the descriptor, even on failure.
 * Fails: EMB_NOT_FOUND, EMB_BAD_FILE. */
emb_status emb_npy_open(emb_npy *out, const char *path, emb_error *error);

/* "FILE: WHY; write it with embound encode". Gives EMB_BAD_FILE. */
emb_status emb_npy_fail(const char *path, const char *why, emb_error *error);

#endif
