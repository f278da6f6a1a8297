/* module.h - private to the CUDA module: its host functions, which module.c's tables name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_MODULE_H
#define EMB_BACKEND_CUDA_HOST_MODULE_H

#include <cuda_runtime_api.h>

#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/kernels_quantized.h"
#include "backend/cuda/sizes/layout.h"

/* The products of a layer. */
typedef enum emb_cuda_product {
    EMB_CUDA_QKV,
    EMB_CUDA_ATTENTION_OUT,
    EMB_CUDA_FFN_IN, /* GELU behind it */
    EMB_CUDA_FFN_OUT,
    EMB_CUDA_PRODUCTS
} emb_cuda_product;

/* A lane's, in emb_lane_scratch.state. */
typedef struct emb_cuda_state {
    cudaStream_t stream;
    cudaError_t failure; /* first since open */
    int blas_status;     /* behind it, if cuBLASLt failed */
    uint32_t index;      /* of the device */
    emb_cuda_device device;
    uint32_t recording; /* tokens of the tile being recorded; 0: none is */
    bool replayed;      /* the tile at hand runs from a recording */
    uint32_t graphs_count;
    struct emb_cuda_recorded {
        uint32_t tokens; /* that the graph's grids are sized for */
        cudaGraphExec_t graph;
    } graphs[EMB_BUCKETS_MAX];
    emb_cuda_blas blas; /* a handle: cuBLASLt multiplies */
    emb_cuda_blas_choice choices[EMB_CUDA_PRODUCTS];
    emb_tuning tuning;
} emb_cuda_state;

_Static_assert(EMB_CUDA_PRODUCTS == EMB_TUNING_PRODUCTS, "the table has a column for each");
_Static_assert(sizeof(emb_cuda_state) <= EMB_CUDA_STATE_BYTES, "layout books too little for state");

/* The lane's device memory, its state, and the pack of the tile at hand. */
typedef struct emb_cuda_view {
    emb_cuda_lane lane;
    emb_cuda_pack pack;
    emb_cuda_state *state;
    emb_dtype type;
} emb_cuda_view;

emb_cuda_view emb_cuda_view_of(const emb_backend *self, const emb_lane_scratch *lane,
                               const emb_tile *tile, const emb_block_shape *shape);

/* The same where shape and dtype are not known: of the lane, indices alone are in their place. */
emb_cuda_view emb_cuda_view_indices(const emb_lane_scratch *lane, const emb_tile *tile);

/* Makes the context of a device. */
cudaError_t emb_cuda_warm_up(uint32_t device);

emb_status emb_cuda_probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                          emb_error *error);

/* Whether this build has kernels for such a GPU. */
bool emb_cuda_supports(uint32_t compute_capability);
emb_status emb_cuda_open_device(uint32_t device, emb_error *error);
emb_status emb_cuda_uploaded(uint32_t device, emb_error *error);
void *emb_cuda_take(uint32_t device, uint64_t bytes);
void emb_cuda_give(void *base);
bool emb_cuda_pin(void *base, uint64_t bytes);
void emb_cuda_unpin(void *base);
emb_status emb_cuda_lane_open(const emb_backend *self, emb_lane_scratch *scratch, uint32_t device,
                              emb_error *error);
void emb_cuda_lane_close(emb_lane_scratch *scratch);
bool emb_cuda_begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
emb_status emb_cuda_finish(emb_lane_scratch *scratch, emb_error *error);
void emb_cuda_record(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch);
emb_status emb_cuda_recorded(emb_lane_scratch *scratch, emb_error *error);

/* Launches the recording for so many tokens; false if there is none. */
bool emb_cuda_replay(emb_cuda_state *state, uint32_t tokens);
void emb_cuda_forget(emb_cuda_state *state);

emb_status emb_cuda_copier_open(void **copier, void **events, uint32_t count, uint32_t device,
                                emb_error *error);
void emb_cuda_copier_close(void *copier, void **events, uint32_t count);
emb_status emb_cuda_copy(void *copier, const emb_device_copy *copy, uint32_t device,
                         emb_error *error);
void emb_cuda_lane_wait(emb_lane_scratch *scratch, void *event);
void emb_cuda_lane_mark(emb_lane_scratch *scratch, void *event);
emb_status emb_cuda_event_finish(void *event, uint32_t device, emb_error *error);

/* NO_DEVICE: none is made current. */
#define EMB_CUDA_NO_DEVICE UINT32_MAX
void emb_cuda_enter(emb_device_thread *before, uint32_t device);
void emb_cuda_leave(const emb_device_thread *before);
void *emb_cuda_rows_take(uint32_t device, uint64_t bytes);
void emb_cuda_rows_give(void *base, uint32_t device);
emb_status emb_cuda_rows_copy(const emb_rows_copy *copy, uint32_t device, emb_error *error);

/* Keeps the lane's first failure (a cudaError_t); 0 is none. */
void emb_cuda_note(emb_cuda_state *state, int code);

/* Tells the lane's first failure, or `reason`. */
emb_status emb_cuda_lane_failed(emb_error *error, const emb_cuda_state *state, const char *what,
                                cudaError_t reason);

/* Opens cuBLASLt for a lane. Fails: EMB_DEVICE, naming what was looked for. */
emb_status emb_cuda_products_open(emb_lane_scratch *scratch, emb_error *error);
void emb_cuda_products_close(emb_cuda_state *state);

/* out [tokens, rows] = in [tokens, cols] * W^T + bias, then GELU if it belongs to the product. */
void emb_cuda_product_run(emb_cuda_view *v, emb_cuda_product which, void *out, const void *in,
                          const emb_linear *linear);

/* Blocks of quantised matrices, and a matrix and a lane's codes as their launchers take them. */
void emb_cuda_quantised_embed(const emb_cuda_view *v, void *out, const emb_embedding *embedding,
                              const emb_block_shape *shape);
void emb_cuda_quantised_attention(const emb_cuda_view *v, void *out, const void *in,
                                  const emb_tile *tile, const emb_layer *layer,
                                  const emb_block_shape *shape);
void emb_cuda_quantised_ffn(const emb_cuda_view *v, void *out, const void *in,
                            const emb_layer *layer, const emb_block_shape *shape);
/* As emb_backend.layer_finish. */
emb_status emb_cuda_quantised_finish(const emb_backend *self, emb_layer *layer, uint32_t device,
                                     emb_error *error);
emb_cuda_narrow emb_cuda_narrow_of(const emb_linear *linear);
emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v, void *values);

void emb_cuda_tuned(emb_lane_scratch *scratch, const emb_tuning *tuning);
emb_status emb_cuda_tune(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                         uint32_t tokens, const emb_layer *layer, const emb_block_shape *shape,
                         emb_error *error);
/* The table's row for a tile of so many tokens. */
uint32_t emb_cuda_tuning_row(uint32_t tokens);

/* What sizes of batches kernels are chosen by: those that open has run are all there are. */
static inline uint32_t emb_cuda_tuning_tokens(const emb_cuda_view *v) {
    return EMB_TUNING_TOKENS << emb_cuda_tuning_row(v->pack.tokens_max);
}

/* The tile that was found fastest for the product, or AUTO. */
static inline emb_cuda_tile emb_cuda_tuned_tile(const emb_cuda_view *v, emb_cuda_product which) {
    uint32_t row = emb_cuda_tuning_row(v->pack.tokens_max);
    return (emb_cuda_tile)v->state->tuning.kernels[row][which];
}

/* Opens cuBLASLt, multiplies once, and gives the host bytes that it took. Fails: EMB_DEVICE. */
emb_status emb_cuda_products_probe(uint64_t *host_bytes, uint32_t device, emb_error *error);

emb_status emb_cuda_failed(emb_error *error, uint32_t device, const char *what, cudaError_t reason);

#endif
