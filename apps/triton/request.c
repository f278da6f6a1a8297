/* request.c - checks a request's tensors, then reads its texts piece by piece.
 *
 * A string of a BYTES tensor is a length in 4 bytes, little-endian, and its bytes. A tensor may lie
 * in several buffers that end anywhere, inside a length too.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/request.h"

#include <string.h>

#include "triton/report.h"

enum { DIMS_MAX = 8, PROMPT_BYTES = 128, PREFIX = 4 };

/* ---- bytes in several buffers ---------------------------------------------------------------- */

static void start(emb_triton_reader *reader, const emb_triton_tensor *tensor) {
    *reader = (emb_triton_reader){.input = tensor->input, .buffers = tensor->buffers};
}

/* Makes the next buffer that is not empty the one being read. */
static emb_triton_error refill(emb_triton_reader *reader, const char *name) {
    while (reader->left == 0) {
        TRITONSERVER_MemoryType kind = TRITONSERVER_MEMORY_CPU;
        int64_t device = 0;
        const void *buffer = NULL;
        if (reader->next == reader->buffers)
            return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                                   "%s: a string ends past the end of the tensor", name);
        EMB_TRITON_TRY(TRITONBACKEND_InputBuffer(reader->input, reader->next++, &buffer,
                                                 &reader->left, &kind, &device));
        if (kind == TRITONSERVER_MEMORY_GPU)
            return emb_triton_fail(TRITONSERVER_ERROR_UNSUPPORTED,
                                   "%s lies in a GPU's memory; send it from the host's", name);
        if (!buffer) reader->left = 0;
        reader->at = buffer;
    }
    return NULL;
}

/* Gives a run of at most `wanted` bytes, at least one, and goes past it. */
static emb_triton_error take(emb_triton_reader *reader, const char *name, uint64_t wanted,
                             const unsigned char **run, uint64_t *length) {
    EMB_TRITON_TRY(refill(reader, name));
    *run = reader->at;
    *length = wanted < reader->left ? wanted : reader->left;
    reader->at += *length;
    reader->left -= *length;
    return NULL;
}

static emb_triton_error read_exactly(emb_triton_reader *reader, const char *name, void *out,
                                     uint64_t bytes) {
    for (unsigned char *to = out; bytes > 0;) {
        const unsigned char *run;
        uint64_t length;
        EMB_TRITON_TRY(take(reader, name, bytes, &run, &length));
        memcpy(to, run, length);
        to += length;
        bytes -= length;
    }
    return NULL;
}

static emb_triton_error read_length(emb_triton_reader *reader, const char *name, uint32_t *out) {
    unsigned char prefix[PREFIX];
    EMB_TRITON_TRY(read_exactly(reader, name, prefix, sizeof prefix));
    *out = prefix[0] | (uint32_t)prefix[1] << 8 | (uint32_t)prefix[2] << 16 |
           (uint32_t)prefix[3] << 24;
    return NULL;
}

static emb_triton_error skip(emb_triton_reader *reader, const char *name, uint64_t bytes) {
    while (bytes > 0) {
        const unsigned char *run;
        uint64_t length;
        EMB_TRITON_TRY(take(reader, name, bytes, &run, &length));
        bytes -= length;
    }
    return NULL;
}

/* ---- what the tensors say -------------------------------------------------------------------- */

static emb_triton_error no_shape(const char *name) {
    return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                           "%s: its shape does not fit the model's configuration", name);
}

/* Rows and columns of a shape; a batch of strings has a second dimension of 1. */
static emb_triton_error read_shape(emb_triton_tensor *out, const int64_t *shape, uint32_t dims,
                                   bool strings) {
    if (dims == 0 || dims > 2 || (!strings && dims != 2)) return no_shape(out->name);
    for (uint32_t i = 0; i < dims; i++)
        if (shape[i] < 0 || shape[i] > INT32_MAX) return no_shape(out->name);
    out->rows = (uint64_t)shape[0];
    out->columns = dims == 2 ? (uint64_t)shape[1] : 1;
    return strings && out->columns != 1 ? no_shape(out->name) : NULL;
}

static emb_triton_error describe(emb_triton_tensor *out, TRITONBACKEND_Input *input,
                                 const char *name, bool strings) {
    const int64_t *shape = NULL;
    uint32_t dims = 0;
    *out = (emb_triton_tensor){.name = name, .input = input};
    EMB_TRITON_TRY(TRITONBACKEND_InputProperties(input, NULL, &out->type, &shape, &dims,
                                                 &out->bytes, &out->buffers));
    bool ids = out->type == TRITONSERVER_TYPE_INT32 || out->type == TRITONSERVER_TYPE_INT64;
    if (strings ? out->type != TRITONSERVER_TYPE_BYTES : !ids)
        return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG, "%s: its datatype must be %s", name,
                               strings ? "BYTES" : "INT32 or INT64");
    return read_shape(out, shape, dims, strings);
}

/* Finds the inputs by their names. */
static emb_triton_error find_inputs(emb_triton_request *out, TRITONBACKEND_Request *request) {
    uint32_t count = 0;
    bool found = false;
    EMB_TRITON_TRY(TRITONBACKEND_RequestInputCount(request, &count));
    for (uint32_t i = 0; i < count; i++) {
        TRITONBACKEND_Input *input;
        const char *name = "";
        EMB_TRITON_TRY(TRITONBACKEND_RequestInputByIndex(request, i, &input));
        EMB_TRITON_TRY(TRITONBACKEND_InputProperties(input, &name, NULL, NULL, NULL, NULL, NULL));
        if (strcmp(name, EMB_TRITON_PROMPT) == 0) {
            EMB_TRITON_TRY(describe(&out->prompts, input, EMB_TRITON_PROMPT, true));
            out->has_prompts = true;
            continue;
        }
        bool strings = strcmp(name, EMB_TRITON_TEXT) == 0;
        if (!strings && strcmp(name, EMB_TRITON_IDS) != 0)
            return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                                   "input %.64s is not known; inputs are " EMB_TRITON_TEXT
                                   ", " EMB_TRITON_IDS " and " EMB_TRITON_PROMPT,
                                   name);
        if (found)
            return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                                   "both " EMB_TRITON_TEXT " and " EMB_TRITON_IDS
                                   " are stated; send one of them");
        EMB_TRITON_TRY(
            describe(&out->values, input, strings ? EMB_TRITON_TEXT : EMB_TRITON_IDS, strings));
        found = true;
    }
    if (!found)
        return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                               "no text: send " EMB_TRITON_TEXT " or " EMB_TRITON_IDS);
    return NULL;
}

/* ---- checks of contents ---------------------------------------------------------------------- */

/* Every length leads to the next one, and the last string ends where the tensor does. */
static emb_triton_error check_strings(const emb_triton_tensor *tensor) {
    emb_triton_reader reader;
    uint64_t used = 0;
    start(&reader, tensor);
    for (uint64_t i = 0; i < tensor->rows; i++) {
        uint32_t length;
        EMB_TRITON_TRY(read_length(&reader, tensor->name, &length));
        used += PREFIX + (uint64_t)length;
        if (used > tensor->bytes)
            return emb_triton_fail(
                TRITONSERVER_ERROR_INVALID_ARG,
                "%s: string %llu states %u bytes, which the tensor does not have", tensor->name,
                (unsigned long long)i, length);
        EMB_TRITON_TRY(skip(&reader, tensor->name, length));
    }
    if (used == tensor->bytes) return NULL;
    return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG, "%s: %llu bytes after its last string",
                           tensor->name, (unsigned long long)(tensor->bytes - used));
}

static uint64_t id_bytes(const emb_triton_tensor *tensor) {
    return tensor->type == TRITONSERVER_TYPE_INT64 ? 8 : 4;
}

static emb_triton_error check_ids(const emb_triton_tensor *tensor) {
    if (tensor->rows && !tensor->columns) return no_shape(tensor->name);
    /* both are below 2^31 */
    if (tensor->rows * tensor->columns <= UINT64_MAX / 8 &&
        tensor->rows * tensor->columns * id_bytes(tensor) == tensor->bytes)
        return NULL;
    return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG, "%s: its bytes do not fit its shape",
                           tensor->name);
}

/* Reads the next name of a prompt; finds its prompt. An empty name is none. */
static emb_triton_error read_prompt(emb_triton_request *r) {
    char name[PROMPT_BYTES] = "";
    uint32_t length;
    EMB_TRITON_TRY(read_length(&r->prompt_reader, EMB_TRITON_PROMPT, &length));
    if (length < sizeof name) {
        EMB_TRITON_TRY(read_exactly(&r->prompt_reader, EMB_TRITON_PROMPT, name, length));
        r->prompt = length ? emb_model_prompt(r->model, name) : NULL;
        if (!length || (r->prompt && strlen(name) == length)) return NULL;
    }
    return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                           EMB_TRITON_PROMPT ": the model has no prompt of the name %.64s", name);
}

static emb_triton_error check_prompts(emb_triton_request *r) {
    if (!r->has_prompts) return NULL;
    if (r->values.type != TRITONSERVER_TYPE_BYTES)
        return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG, EMB_TRITON_PROMPT
                               " goes with " EMB_TRITON_TEXT ": a prompt is text before text");
    if (r->prompts.rows != 1 && r->prompts.rows != r->values.rows)
        return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                               EMB_TRITON_PROMPT ": state one, or one for each text");
    EMB_TRITON_TRY(check_strings(&r->prompts));
    start(&r->prompt_reader, &r->prompts);
    for (uint64_t i = 0; i < r->prompts.rows; i++) EMB_TRITON_TRY(read_prompt(r));
    return NULL;
}

emb_triton_error emb_triton_request_open(emb_triton_request *out, TRITONBACKEND_Request *request,
                                         const emb_triton_config *config, const emb_model *model) {
    out->model = model;
    out->has_prompts = false;
    out->prompt = NULL;
    EMB_TRITON_TRY(find_inputs(out, request));
    bool strings = out->values.type == TRITONSERVER_TYPE_BYTES;
    EMB_TRITON_TRY(strings ? check_strings(&out->values) : check_ids(&out->values));
    EMB_TRITON_TRY(check_prompts(out));
    if (config->max_batch_size && out->values.rows > config->max_batch_size)
        return emb_triton_fail(TRITONSERVER_ERROR_INVALID_ARG,
                               "%s: %llu texts, and max_batch_size is %u", out->values.name,
                               (unsigned long long)out->values.rows, config->max_batch_size);
    out->texts = (uint32_t)out->values.rows;
    start(&out->reader, &out->values);
    if (out->has_prompts) start(&out->prompt_reader, &out->prompts);
    if (!out->has_prompts && strings) out->prompt = emb_model_prompt(model, NULL);
    return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

emb_triton_error emb_triton_request_next(emb_triton_request *r) {
    r->first = true;
    r->row_ended = false;
    r->left = r->values.columns;
    if (r->values.type != TRITONSERVER_TYPE_BYTES) return NULL;
    uint32_t length;
    EMB_TRITON_TRY(read_length(&r->reader, r->values.name, &length));
    r->left = length;
    /* a single prompt was read with the first text, and stays */
    bool more = r->prompts.rows > 1 || r->prompt_reader.next == 0;
    return r->has_prompts && more ? read_prompt(r) : NULL;
}

static emb_triton_error next_ids(emb_piece *out, emb_triton_request *r) {
    const uint64_t bytes = id_bytes(&r->values);
    uint32_t count = 0;
    while (count < EMB_TRITON_IDS_AT_ONCE && r->left > 0) {
        int64_t wide = 0;
        int32_t narrow = 0;
        EMB_TRITON_TRY(
            read_exactly(&r->reader, r->values.name, bytes == 8 ? (void *)&wide : &narrow, bytes));
        int64_t id = bytes == 8 ? wide : narrow;
        r->left--;
        if (id < 0) r->row_ended = true;
        /* past 32 bits there is no vocabulary: the largest id is refused as any other too large */
        if (!r->row_ended) r->ids[count++] = id > UINT32_MAX ? UINT32_MAX : (uint32_t)id;
    }
    *out = (emb_piece){r->ids, count, EMB_PIECE_IDS, 0};
    return NULL;
}

emb_triton_error emb_triton_request_piece(emb_piece *out, emb_triton_request *r) {
    bool prompted = r->first && r->prompt && *r->prompt;
    if (prompted) {
        *out = (emb_piece){r->prompt, strlen(r->prompt), EMB_PIECE_FIRST, 0};
        r->first = false;
        return NULL;
    }
    if (r->values.type != TRITONSERVER_TYPE_BYTES) {
        EMB_TRITON_TRY(next_ids(out, r));
    } else {
        const unsigned char *run = (const unsigned char *)"";
        uint64_t length = 0;
        if (r->left) EMB_TRITON_TRY(take(&r->reader, r->values.name, r->left, &run, &length));
        r->left -= length;
        *out = (emb_piece){run, length, 0, 0};
    }
    if (r->first) out->flags |= EMB_PIECE_FIRST;
    if (!r->left) out->flags |= EMB_PIECE_LAST;
    r->first = false;
    return NULL;
}

/* ---- for who batches ------------------------------------------------------------------------- */

uint64_t emb_triton_request_tokens(TRITONBACKEND_Request *request, uint32_t specials) {
    emb_triton_request r = {0};
    emb_triton_error failed = find_inputs(&r, request);
    if (failed) {
        TRITONSERVER_ErrorDelete(failed);
        return 0;
    }
    uint64_t rows = r.values.rows;
    if (r.values.type != TRITONSERVER_TYPE_BYTES) return rows * (r.values.columns + specials);
    /* a token has at least one byte */
    uint64_t prefixes = rows * PREFIX;
    return r.values.bytes > prefixes ? r.values.bytes - prefixes + rows * specials : 0;
}
