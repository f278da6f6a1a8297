/* interchange.h - the structs of two public memory interfaces: DLPack 1.0, Arrow C data interface.
 *
 * Layouts as their specifications give them; names are ours.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PYTHON_INTERCHANGE_H
#define EMB_PYTHON_INTERCHANGE_H

#include <stdint.h>

/* ---- DLPack ---------------------------------------------------------------------------------- */

enum { EMB_DL_CPU = 1, EMB_DL_CUDA = 2, EMB_DL_FLOAT = 2, EMB_DL_IS_COPIED = 2 };

typedef struct emb_dl_tensor {
    void *data;
    struct {
        int32_t type, index;
    } device;
    int32_t dimensions;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } type;
    int64_t *shape, *strides; /* strides in elements */
    uint64_t byte_offset;
} emb_dl_tensor;

typedef struct emb_dl_managed {
    emb_dl_tensor tensor;
    void *context;
    void (*deleter)(struct emb_dl_managed *self);
} emb_dl_managed;

typedef struct emb_dl_managed_versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *context;
    void (*deleter)(struct emb_dl_managed_versioned *self);
    uint64_t flags;
    emb_dl_tensor tensor;
} emb_dl_managed_versioned;

/* ---- Arrow ----------------------------------------------------------------------------------- */

#define EMB_ARROW_NULLABLE 2

typedef struct emb_arrow_schema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct emb_arrow_schema **children;
    struct emb_arrow_schema *dictionary;
    void (*release)(struct emb_arrow_schema *self);
    void *private_data;
} emb_arrow_schema;

typedef struct emb_arrow_array {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct emb_arrow_array **children;
    struct emb_arrow_array *dictionary;
    void (*release)(struct emb_arrow_array *self);
    void *private_data;
} emb_arrow_array;

typedef struct emb_arrow_stream {
    int (*get_schema)(struct emb_arrow_stream *self, emb_arrow_schema *out);
    int (*get_next)(struct emb_arrow_stream *self, emb_arrow_array *out);
    const char *(*get_last_error)(struct emb_arrow_stream *self);
    void (*release)(struct emb_arrow_stream *self);
    void *private_data;
} emb_arrow_stream;

#endif
