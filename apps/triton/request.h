/* request.h - the texts of a request: what its tensors say, checked before anything is encoded, and
 * read in pieces from where the server has them, which are never copied.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_REQUEST_H
#define EMB_TRITON_REQUEST_H

#include <stdbool.h>

#include "embound.h"
#include "triton/config.h"
#include "triton/triton_api.h"

#define EMB_TRITON_IDS_AT_ONCE 512

/* Walks through the bytes of a tensor, which may lie in several buffers. */
typedef struct emb_triton_reader {
    TRITONBACKEND_Input *input;
    uint32_t next, buffers; /* the buffer after the one being read; how many there are */
    const unsigned char *at;
    uint64_t left; /* of the buffer being read */
} emb_triton_reader;

typedef struct emb_triton_tensor {
    const char *name; /* one of ours */
    TRITONBACKEND_Input *input;
    TRITONSERVER_DataType type;
    uint64_t rows, columns; /* strings: columns is 1 */
    uint64_t bytes;
    uint32_t buffers;
} emb_triton_tensor;

/* A checked request. */
typedef struct emb_triton_request {
    const emb_model *model;
    emb_triton_tensor values; /* TEXT or INPUT_IDS */
    emb_triton_tensor prompts;
    bool has_prompts;
    uint32_t texts;
    /* where reading is */
    emb_triton_reader reader, prompt_reader;
    const char *prompt; /* of the text being read; NULL: none */
    uint64_t left;      /* of the text being read: bytes, or ids */
    bool first;         /* nothing of it was given yet */
    bool row_ended;     /* a negative id was read: the rest of the row is padding */
    uint32_t ids[EMB_TRITON_IDS_AT_ONCE];
} emb_triton_request;

/* Checks names, types, shapes, lengths and prompts of a request. Borrows the request and the model.
 * Fails with what the client is to be told; nothing is kept then. Threads: any. */
emb_triton_error emb_triton_request_open(emb_triton_request *out, TRITONBACKEND_Request *request,
                                         const emb_triton_config *config, const emb_model *model);

/* Goes on to the next text. */
emb_triton_error emb_triton_request_next(emb_triton_request *request);

/* Gives the next piece of that text, valid until the next call; it is the last one if its flags say
 * so. Strings are pieces of the server's buffers. Needs: the piece before was not the last one. */
emb_triton_error emb_triton_request_piece(emb_piece *out, emb_triton_request *request);

/* The texts, and upper bounds of their tokens, that a request asks for, in a glance at shapes and
 * sizes alone. For who batches requests; says 0 of what is malformed. */
uint64_t emb_triton_request_tokens(TRITONBACKEND_Request *request, uint32_t specials);

#endif
