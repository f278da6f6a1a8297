/* ops.h - what a backend computes: a table of block operations, so that it can fuse within a block.
 *
 * The CPU backends (ref, avx2, avx512) live under cpu/, CUDA's under cuda/. Called by encoder only.
 * Operations allocate nothing, read no file and never fail; a backend books all its scratch in
 * lane_layout. Legend: hidden = heads * head_dim; chunks of a tile lie end to end, no padding.
 * Numerics: the order of every sum over cols (K) and over keys is fixed per (dtype, instruction
 * set); kernels split rows and tokens only. So a chunk's bits do not depend on the tile around it.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_OPS_H
#define EMB_BACKEND_OPS_H

#include "backend/device.h"
#include "backend/lane.h"
#include "backend/linear.h"

/* The ledgers of one engine: device and pinned are the host's own where there is no device. */
typedef struct emb_books {
    emb_ledger *host, *pinned, *device;
} emb_books;

typedef struct emb_pool_rule {
    emb_pooling pooling; /* mean, cls or max */
    uint32_t normalize;  /* divide by max(length, 1e-12) */
} emb_pool_rule;

/* One set of kernels for weights of one dtype: a constant, shared by all engines. `in`, `out` and
 * the embedding's vectors are in device memory where there is a device. A lane's operations run one
 * after another; those of different lanes may run at the same time. */
struct emb_backend {
    const char *name;          /* "ref", "avx2", "avx512", "cuda" */
    const char *numerics;      /* part of numerics_id, such as "avx512-bf16dot" */
    const void *own;           /* private to the backend: its kernels and their parameters */
    emb_dtype dtype;           /* of the weights */
    uint32_t activation_bytes; /* of one value of in and out: 4 on a CPU */
    uint32_t tokens_knee; /* tokens per tile beyond which speed no longer grows: see bench/knee */
    uint32_t lane_state_bytes;      /* host bytes of a lane's state; 0 on a CPU */
    const emb_device_calls *device; /* NULL on a CPU */

    /* Gives NULL if the backend computes such layers, else what it does not: see
     * emb_spec_beyond_bert. */
    const char *(*supports)(const emb_backend *self, const emb_layer_spec *spec);

    /* Books the packed form of a [rows, cols] matrix of `dtype`, which may differ from the
     * backend's where a model keeps a matrix in more bits, and of its bias; fills in the linear. */
    void (*linear_layout)(const emb_backend *self, emb_linear *linear, uint32_t rows, uint32_t cols,
                          emb_dtype dtype, emb_ledger *ledger);
    /* Packs rows [row0, row0 + rows) from values [rows, cols]. row0 is a multiple of EMB_PACK_ROWS,
     * and rows too unless it reaches the last row. Biases are the caller's to fill. Disjoint row
     * ranges may be packed by different threads. The packed form holds no addresses, so a device's
     * may be packed in pinned memory and copied. NULL if the backend has no such matrices. */
    void (*linear_pack)(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                        const float *values);
    /* The same for quantized dtypes, from rows as quantized models store them (FP8: `values` are
     * E4M3 bytes); NULL for others. */
    void (*linear_pack_quantized)(const emb_backend *self, emb_linear *linear, uint32_t row0,
                                  const emb_quantized_rows *rows);
    /* Called once a layer is complete; NULL: nothing to do. Takes effect by the time
     * device->uploaded returns. Fails: EMB_DEVICE. */
    emb_status (*layer_finish)(const emb_backend *self, emb_layer *layer, uint32_t device,
                               emb_error *error);
    /* Writes f32 [rows, cols] from host memory to `out` in `dtype`, as embedding tables hold it:
     * rounded to nearest even; for quantized dtypes rows of int8, each followed by its scale. F32
     * is copied bit by bit, so it can also write rows of 32-bit words that are not floats. */
    void (*convert)(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                    uint64_t rows, uint32_t cols);

    /* Books the scratch of one lane for tiles of at most `tokens` tokens. */
    void (*lane_layout)(const emb_backend *self, emb_lane_scratch *lane,
                        const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger);
    /* Called on the lane's thread, before its first and after its last operation: for state that
     * the CPU keeps per thread, such as a tile configuration. NULL: nothing to do. */
    void (*thread_open)(const emb_backend *self, emb_lane_scratch *lane);
    void (*thread_close)(const emb_backend *self, emb_lane_scratch *lane);
    /* The byte offset of a tile's indices among those of a pass, given how many tokens (in chunks
     * of at least chunk_tokens_min) and tiles come before it; given all of them, the total bytes.
     * NULL on a CPU. */
    uint64_t (*kept_place)(const emb_backend *self, uint32_t tokens, uint32_t tiles,
                           uint32_t chunk_tokens_min);

    /* out [tokens, hidden] = norm(words[id] + positions[index in chunk]). */
    void (*embed)(const emb_backend *self, emb_lane_scratch *lane, void *out, const emb_tile *tile,
                  const emb_embedding *embedding, const emb_layer_spec *shape);
    /* out = norm(in + attention_out(attention(qkv(in)))); out may equal in. Unless the tile is
     * kept, the lane's operation before it was embed or the previous layer's ffn_block, whose `out`
     * is this `in`. */
    void (*attention_block)(const emb_backend *self, emb_lane_scratch *lane, void *out,
                            const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_layer_spec *shape);
    /* out = norm(in + ffn_out(gelu(ffn_in(in)))); out may equal in. GELU is the erf form. Comes
     * right after attention_block of the same tile, layer and lane, whose `out` is this `in`. */
    void (*ffn_block)(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                      const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape);
    /* Writes chunk c's vector to rows[targets[c] * hidden ...]. A mean is summed in token order. */
    void (*pool)(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                 const uint32_t *targets, const void *in, const emb_tile *tile,
                 const emb_pool_rule *rule, const emb_layer_spec *shape);
};

#endif
