/* backend.h - what a backend computes: a table of block operations, so that it can fuse inside.
 *
 * The CPU backends (ref, avx2, avx512) live under cpu/ and are chosen by cpu/select.c. Fed by
 * encoder alone. Operations allocate nothing, read no file and never fail; a backend books all its
 * scratch in lane_layout. Legend: hidden = heads * head_dim; tokens of a tile are packed, no
 * padding.
 *
 * Numerics: the order of every sum over cols (K) and over keys is fixed per (format, instruction
 * set); kernels split rows and tokens only. So a chunk's bits do not depend on the tile around it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_BACKEND_H
#define EMB_BACKEND_BACKEND_H

#include "base/ledger.h"
#include "base/quantize.h"

typedef enum emb_format {
    EMB_FORMAT_F32 = 1,
    EMB_FORMAT_BF16 = 2,
    EMB_FORMAT_F16 = 3,
    EMB_FORMAT_I8 = 4, /* a scale per row; activations 8 bits with a scale and a zero per token */
    EMB_FORMAT_I4 = 5, /* a scale and a zero per group of a row; activations as I8, on a GPU f16 */
    EMB_FORMAT_FP8 =
        6 /* E4M3, a scale per row; activations so too, a scale per token; GPUs alone */
} emb_format;

/* The ledgers of one engine: device and pinned are the host's own where there is no device. */
typedef struct emb_books {
    emb_ledger *host, *pinned, *device;
} emb_books;

/* A matrix applied as out = in * W^T + bias, W [rows, cols]. `packed` is private to the backend. */
typedef struct emb_linear {
    uint32_t rows, cols;
    emb_format format;
    uint32_t group; /* I4: cols that share a scale, stated before layout; else unused */
    void *packed;
    float *bias;       /* [rows] */
    void *bias_narrow; /* NULL, or [rows] of `format`: a backend that wants the bias so, too */
    float *smooth;     /* NULL, or [cols]: in is multiplied by it before it is quantised */
    float *scales;     /* I8, I4, FP8: beside `packed`, as private */
    float *reach;      /* FP8: [2], what bounds the outputs; of ffn_in alone it is filled in */
    int32_t *sums;     /* I8, I4: of the quantised weights that share a scale */
    uint8_t *zeros;    /* I4 */
} emb_linear;

typedef struct emb_layer {
    emb_linear qkv;                          /* [3 * hidden, hidden]: queries, keys, values */
    emb_linear attention_out;                /* [hidden, hidden] */
    emb_linear ffn_in;                       /* [intermediate, hidden] */
    emb_linear ffn_out;                      /* [hidden, intermediate] */
    float *attention_gain, *attention_shift; /* [hidden] */
    float *ffn_gain, *ffn_shift;             /* [hidden] */
} emb_layer;

/* Sizes that blocks need; the same for every layer. */
typedef struct emb_block_shape {
    uint32_t hidden, heads, head_dim, intermediate;
    uint32_t chunk_tokens_max; /* longest chunk in any tile */
    float norm_epsilon;
    const float *relative; /* NULL, or [heads, 2 * chunk_tokens_max - 1]: added to the scaled score
                              of query i and key j at [j - i + chunk_tokens_max - 1] */
} emb_block_shape;

/* The tokens that go through a block together. */
typedef struct emb_tile {
    uint32_t tokens, chunks;
    const uint32_t *ids;    /* [tokens]; used by embed alone */
    const uint32_t *starts; /* [chunks + 1], first is 0, last is tokens */
    void *queue;            /* where a device's operations are enqueued; NULL on a CPU */
    uint32_t *indices;      /* the block that ids, starts and targets are in */
    void *kept; /* the device's memory where they stay until the pass is done; NULL: the lane's */
} emb_tile;

/* A lane's indices are one block of words, which one copy uploads: EMB_INDEX_HEAD words for the
 * backend, starts [chunks_max + 1], ids [tokens_max], and the targets [chunks_max] right behind the
 * ids in use. Each chunk has two special tokens at least. */
#define EMB_INDEX_HEAD 4
static inline uint32_t emb_chunks_max(uint32_t tokens_max) {
    return tokens_max / 2 + 1;
}
static inline uint64_t emb_index_ids(uint32_t tokens_max) {
    return EMB_INDEX_HEAD + (uint64_t)emb_chunks_max(tokens_max) + 1;
}
static inline uint64_t emb_index_words(uint32_t tokens_max) {
    return emb_index_ids(tokens_max) + tokens_max + emb_chunks_max(tokens_max);
}

/* Tiles of a device have one of a few sizes: T tokens, the most a lane holds, half of it, a
 * quarter, ... down to EMB_BUCKET_TOKENS_MIN. Gives the bucket's tokens; 0 past the last. */
#define EMB_BUCKETS_MAX       8
#define EMB_BUCKET_TOKENS_MIN 128
static inline uint32_t emb_bucket_tokens(uint32_t tokens_max, uint32_t bucket) {
    if (bucket >= EMB_BUCKETS_MAX) return 0;
    uint32_t tokens = (uint32_t)(((uint64_t)tokens_max + (1u << bucket) - 1) >> bucket);
    return bucket == 0 || tokens >= EMB_BUCKET_TOKENS_MIN ? tokens : 0;
}

typedef struct emb_embedding {
    emb_format format;
    const void *words;         /* [rows] of emb_format_row_bytes each; ids index its rows */
    const float *positions;    /* [chunk_tokens_max, hidden]; token type row 0 already added */
    const float *gain, *shift; /* [hidden] */
} emb_embedding;

typedef struct emb_pool_rule {
    emb_pooling pooling; /* mean, cls or max */
    uint32_t normalize;  /* divide by max(length, 1e-12) */
} emb_pool_rule;

/* Sees the input of every matrix before it is applied, where that is f32 on a CPU: f32 backends
 * alone call it. rows are `stride` values apart. */
typedef struct emb_observer {
    void (*see)(void *user, const emb_linear *linear, const float *in, size_t stride,
                uint32_t rows);
    void *user;
} emb_observer;

/* One lane's scratch: opaque to everyone but the backend. */
typedef struct emb_lane_scratch {
    void *buffers[8];
    void *state;                  /* [lane_state_bytes] of the host, zeroed at open */
    const emb_observer *observer; /* NULL: nobody looks */
} emb_lane_scratch;

/* What is current on a thread of the caller's, who may use devices too: NULL restore, nothing is.
 */
typedef struct emb_device_thread {
    int (*restore)(void *context);
    void *context;
    void *library; /* that `restore` is in, held until leave */
} emb_device_thread;

/* Rows between the host's memory and a device's. */
typedef struct emb_rows_copy {
    void *to;
    const void *from;
    uint64_t to_stride, from_stride, row_bytes, rows;
    bool to_host;
} emb_rows_copy;

typedef struct emb_device_copy {
    void *to;         /* the device's memory */
    const void *from; /* pinned host memory */
    uint64_t bytes;
    void *const *after; /* [after_count] events */
    uint32_t after_count;
    void *done; /* event */
} emb_device_copy;

/* What a device beside the CPU needs; a CPU backend has none. Operations of a device are enqueued
 * and run in order; lanes are independent of one another. */
typedef struct emb_device_calls {
    /* The calls below change which device is current on their thread. Around them on a caller's:
     * enter keeps what was, and makes the device current; leave restores it. */
    void (*enter)(emb_device_thread *before, uint32_t device);
    void (*leave)(const emb_device_thread *before);
    /* Makes the device's context, if it is not there yet. Fails: EMB_DEVICE. */
    emb_status (*open)(uint32_t device, emb_error *error);
    /* Waits until everything that linear_pack and convert wrote has arrived; tells their failures.
     * Lanes may read it only then. Fails: EMB_DEVICE. Threads: any. */
    emb_status (*uploaded)(uint32_t device, emb_error *error);
    /* The region of the device: one allocation, NULL if refused. */
    void *(*take)(uint32_t device, uint64_t bytes);
    void (*give)(void *base);
    /* Lets the device read and write host memory; false if refused. */
    bool (*pin)(void *base, uint64_t bytes);
    void (*unpin)(void *base);
    /* Creates, and ends, what a lane needs beside memory (a stream). */
    emb_status (*lane_open)(emb_lane_scratch *scratch, uint32_t device, emb_error *error);
    void (*lane_close)(emb_lane_scratch *scratch);
    /* States which of the kernels that give the same bits the lane uses from now on. */
    void (*tuned)(emb_lane_scratch *scratch, const emb_tuning *tuning);
    /* Times them for tiles of up to `tokens` tokens and sets the table's row. Overwrites the lane's
     * scratch; for open alone, after a tile of as many tokens. Fails: EMB_DEVICE. */
    emb_status (*tune)(emb_tuning *tuning, uint32_t tokens, const emb_layer *layer,
                       const emb_block_shape *shape, emb_lane_scratch *scratch, emb_error *error);
    /* Records what is enqueued for a tile of up to `tokens` tokens, from here to `recorded`,
     * instead of running it: embed and every layer, with resident weights. Makes *tile; for open
     * alone. */
    void (*record)(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch);
    /* Ends the recording and readies it. A failure (EMB_DEVICE) leaves the lane as it was before
     * `record`: tiles of that size are enqueued operation by operation, with the same bits. */
    emb_status (*recorded)(emb_lane_scratch *scratch, emb_error *error);
    /* Uploads ids, starts and targets (pinned); makes them the device's in *tile and *targets.
     * True: a recording that fits the tile was replayed as well, and pool alone is left. */
    bool (*begin)(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
    /* Waits until everything enqueued is done. Fails: EMB_DEVICE (sticky). */
    emb_status (*finish)(emb_lane_scratch *scratch, emb_error *error);

    /* A copier is a queue beside the lanes'; events order it and them without the host. A mark
     * stands for everything enqueued before it; who waits for an event waits for its latest mark,
     * and not at all if it has none. copier_close waits until the copier has nothing left to do.
     * Fails: EMB_DEVICE. */
    emb_status (*copier_open)(void **copier, void **events, uint32_t count, uint32_t device,
                              emb_error *error);
    void (*copier_close)(void *copier, void **events, uint32_t count);
    /* Enqueues a copy from pinned memory to the device's, behind the marks of `after`; marks `done`
     * behind it. Fails: EMB_DEVICE, if it cannot be enqueued; a later failure is finish's. */
    emb_status (*copy)(void *copier, const emb_device_copy *copy, uint32_t device,
                       emb_error *error);
    /* What the lane enqueues from now on waits for the event. */
    void (*lane_wait)(emb_lane_scratch *scratch, void *event);
    void (*lane_mark)(emb_lane_scratch *scratch, void *event);
    /* The host waits. Fails: EMB_DEVICE (sticky). */
    emb_status (*event_finish)(void *event, uint32_t device, emb_error *error);

    /* Memory of the caller's beside the region. These enter and leave themselves. */
    void *(*rows_take)(uint32_t device, uint64_t bytes);
    void (*rows_give)(void *base, uint32_t device);
    /* Waits until they are there. Fails: EMB_DEVICE. */
    emb_status (*rows_copy)(const emb_rows_copy *copy, uint32_t device, emb_error *error);
} emb_device_calls;

/* `in`, `out` and the embedding's vectors are the device's memory where there is one. */
typedef struct emb_backend {
    const char *name;               /* "ref", "avx2", "avx512", "cuda" */
    const char *numerics;           /* part of numerics_id, such as "avx512-bf16dot" */
    uint32_t activation_bytes;      /* of one value of in and out: 4 on a CPU */
    const emb_device_calls *device; /* NULL on a CPU */
    uint32_t tokens_knee; /* tokens per tile from which speed no longer grows: see bench/knee */
    uint32_t lane_state_bytes; /* host bytes of a lane's state; 0 on a CPU */

    /* Books the packed form of a [rows, cols] matrix and its bias, and fills in the linear. */
    void (*linear_layout)(emb_linear *linear, uint32_t rows, uint32_t cols, emb_format format,
                          emb_ledger *ledger);
    /* Packs rows [row0, row0 + rows) from values [rows, cols]. row0 is a multiple of
     * EMB_PACK_ROWS, and rows too unless it reaches the last row. Biases are the caller's to fill.
     * Disjoint row ranges may be packed by different threads. The packed form holds no addresses:
     * a device's may be packed in pinned memory and copied. NULL if no matrix is so. */
    void (*linear_pack)(emb_linear *linear, uint32_t row0, uint32_t rows, const float *values);
    /* The same for quantised formats, from rows as quantised models hold them (FP8: `values` are
     * E4M3 bytes); NULL for others. */
    void (*linear_pack_quantized)(emb_linear *linear, uint32_t row0,
                                  const emb_quantized_rows *rows);
    /* Called when all of a layer is there; NULL where that changes nothing. Done once
     * device->uploaded has been called. Fails: EMB_DEVICE. */
    emb_status (*layer_finish)(emb_layer *layer, uint32_t device, emb_error *error);

    /* Books the scratch of one lane for tiles of at most `tokens`. */
    void (*lane_layout)(emb_lane_scratch *scratch, const emb_block_shape *shape, emb_format format,
                        uint32_t tokens, emb_ledger *ledger);
    /* Where a tile's indices are kept among those of a pass: bytes from their start, given how many
     * tokens and tiles come before it; so, of all of them, the bytes. NULL on a CPU. */
    uint64_t (*kept_place)(uint32_t tokens, uint32_t tiles);

    /* out [tokens, hidden] = norm(words[id] + positions[index in chunk]). */
    void (*embed)(void *out, const emb_tile *tile, const emb_embedding *embedding,
                  const emb_block_shape *shape);
    /* out = norm(in + attention_out(attention(qkv(in)))); out may equal in. Unless the tile is
     * kept, it follows embed or the ffn_block of the layer before on the same lane, whose `out` is
     * this `in`. */
    void (*attention_block)(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape, emb_lane_scratch *scratch);
    /* out = norm(in + ffn_out(gelu(ffn_in(in)))); out may equal in. GELU is the erf form. Follows
     * attention_block of the same tile, layer and lane, whose `out` is this `in`. */
    void (*ffn_block)(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                      const emb_block_shape *shape, emb_lane_scratch *scratch);
    /* Chunk c's vector goes to rows[targets[c] * hidden ...]. The sum of a mean runs in token
     * order. */
    void (*pool)(float *rows, const uint32_t *targets, const void *in, const emb_tile *tile,
                 const emb_pool_rule *rule, const emb_block_shape *shape);
    /* Writes f32 [rows, cols] from host memory to `out` in `format`, as embedding tables hold it:
     * rounded to nearest even; for quantised formats each row of int8 with its scale behind. F32
     * passes bit by bit, so that rows which are whole words as they are can be written so. */
    void (*convert)(void *out, emb_format format, const float *in, uint64_t rows, uint32_t cols);
} emb_backend;

#define EMB_PACK_ROWS 64

/* Of one value of the formats without scales. */
static inline uint64_t emb_format_bytes(emb_format format) {
    return format == EMB_FORMAT_F32 ? 4 : 2;
}

static inline bool emb_format_quantized(emb_format format) {
    return format == EMB_FORMAT_I8 || format == EMB_FORMAT_I4 || format == EMB_FORMAT_FP8;
}

/* Where a row of int8 has its f32 scale: behind its values. */
static inline uint64_t emb_format_scale_at(uint32_t cols) {
    return ((uint64_t)cols + 3) / 4 * 4;
}

/* Of one row of an embedding table. */
static inline uint64_t emb_format_row_bytes(emb_format format, uint32_t cols) {
    if (emb_format_quantized(format)) return emb_format_scale_at(cols) + sizeof(float);
    return cols * emb_format_bytes(format);
}

/* What the CPU and the operating system allow, and what EMB_CPU asks for.
 * Gives "ref", "avx2" or "avx512", and an emb_bf16.
 * Fails: EMB_INVALID_ARGUMENT (EMB_CPU names something unknown, or absent here). */
emb_status emb_cpu_detect(const char **isa, uint32_t *has_bf16, emb_error *error);

/* The backend of that name for that format, or NULL if this build has none. has_bf16 as detected:
 * where it is not fast, bf16 weights are widened in the kernel; where there is any, int8 and int4
 * have attention in 8 bits. */
const emb_backend *emb_cpu_backend(const char *isa, uint32_t has_bf16, emb_format format);

/* ---- CUDA ------------------------------------------------------------------------------------ */

#define EMB_CUDA_ABI 11

/* What the module, a shared object of its own, gives under the name emb_cuda_query. */
typedef struct emb_cuda_module {
    uint32_t abi;
    uint32_t driver_version; /* the oldest driver that will do, as CUDA numbers them: 13000 */
    /* Whether there are kernels in it for such a GPU. */
    bool (*supports)(uint32_t compute_capability);
    /* Measures up to EMB_DEVICES_MAX devices: name, memory, what this process holds there, and what
     * a context adds to that; makes their contexts. Fails: EMB_DEVICE; EMB_NO_MEMORY (no room for a
     * context): then devices[*count] has index, name, memory_bytes, and free_bytes as far as known.
     */
    emb_status (*probe)(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                        emb_error *error);
    /* The operations for a device, or NULL if it lacks the format. */
    const emb_backend *(*backend)(uint32_t compute_capability, emb_format format, emb_gemm gemm);
} emb_cuda_module;
typedef const emb_cuda_module *(*emb_cuda_query_call)(void);

/* Opens the module: EMB_CUDA_MODULE if set, else libembound_cuda.so beside the program or in the
 * library path. It stays open for good. Fails: EMB_DEVICE, saying what was looked for and what to
 * do about it. */
emb_status emb_cuda_open(const emb_cuda_module **out, emb_error *error);

/* What the driver says of the GPUs that this process may use. */
typedef struct emb_cuda_found {
    uint32_t driver_version; /* of CUDA, 13000 */
    uint32_t count;
    uint32_t capabilities[EMB_DEVICES_MAX]; /* 90 for 9.0 */
} emb_cuda_found;

/* Asks the driver, without module and without contexts, and gives it some time to answer: once in
 * a process, as one that did not is not asked again.
 * Gives in *notice whether there is a driver or a GPU, so that a failure is worth telling.
 * Fails: EMB_DEVICE (no driver, no GPU, all hidden, a child of fork, no answer), EMB_NO_MEMORY; the
 * message is the reason alone. Threads: any. */
emb_status emb_cuda_look(emb_cuda_found *out, bool *notice, uint32_t timeout_ms, emb_error *error);

#define EMB_CUDA_CAPABILITY     75 /* the least that has kernels */
#define EMB_CUDA_FP8_CAPABILITY 89 /* the least that multiplies fp8 */

/* The sizes that a device's backend will book, for planning where neither device nor module is
 * present: a table with layouts alone. NULL if the device lacks the format, or the kernels this
 * shape (hidden, head_dim and intermediate are read). */
const emb_backend *emb_cuda_sizes(uint32_t compute_capability, emb_format format, emb_gemm gemm,
                                  const emb_block_shape *shape);

#endif
