/* model_builder.h - writes small model directories, good ones and ones with one thing wrong.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_MODEL_BUILDER_H
#define EMB_TESTS_MODEL_BUILDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embound.h"

#define BUILDER_FILES 8
#define BUILDER_DATA  8192

/* One layer, hidden 4, 2 heads, 8 in the middle, 5 words, 8 positions. */
typedef struct model_builder {
    char folder[128];
    struct {
        const char *name;
        char *text; /* NULL: not written */
    } files[BUILDER_FILES];
    char *header; /* of model.safetensors */
    unsigned char data[BUILDER_DATA];
    size_t data_bytes;
    char *weights; /* name of the weight file */
} model_builder;

/* How the good model is spelled. */
typedef struct model_style {
    bool mpnet, reversed, old_norms, plain;
    const char *prefix; /* of tensor names */
    const char *dtype;  /* "F32", "F16", "BF16" */
    uint32_t bits;      /* 8, 4: matrices are quantized; 1: to fp8; 0: they are not */
    bool smooth;        /* inputs of matrices are scaled */
} model_style;

/* Makes a good model in memory, and an empty folder for it. */
void builder_init(model_builder *b, const model_style *style);

/* Replaces the first `from` (NULL: all) of a file, or of "header", by `to` (NULL: removes the
 * file). Gives whether `from` was there. */
bool builder_edit(model_builder *b, const char *file, const char *from, const char *to);

/* Writes everything. builder_put writes one more file. */
void builder_write(const model_builder *b);
void builder_put(const model_builder *b, const char *name, const void *bytes, size_t length);
void builder_put_weights(const model_builder *b, const char *name, const char *header,
                         const void *data, size_t data_bytes);

/* Removes the folder and frees. */
void builder_reset(model_builder *b);

/* Opens a model, expects that a failure leaves nothing open, and closes it again. */
emb_status builder_try(const char *path, emb_error *error);

/* One thing wrong in a good model, the status it gives, and what the message must hold. */
typedef struct builder_case {
    const char *file, *from, *to;
    emb_status status;
    const char *names[3];
} builder_case;

/* Applies the edit to a good model, opens it and compares; prints what differs. */
bool builder_check(const model_style *style, const builder_case *c);

/* Element `i` of every tensor of a good model: exact in every dtype. */
float builder_value(size_t i);

/* Of a quantized one: element `i` of any matrix (int8 or fp8 byte; int4: 0 to 15), and what belongs
 * to its row or column. */
int8_t builder_code(size_t i, uint32_t bits);
float builder_scale(size_t row);
uint8_t builder_zero(size_t row);
float builder_smooth(size_t col);

/* Where in `data` the tensor of that name begins. */
size_t builder_find(const model_builder *b, const char *name);

#endif
