/* stored.h - tensors that training leaves as they are, in the bytes that the model has them in:
 * f16, bf16, int8, int4 or fp8, each with its scales, and rows of them as f32.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_STORED_H
#define EMB_TRAIN_STORED_H

#include "train/params.h"

/* Bytes of such a tensor, whose dtype is set. */
uint64_t emb_stored_bytes(const emb_model_files *files, const emb_param *tensor);

/* Values of f32 that load and rows need to work in. */
uint64_t emb_stored_staging(const emb_params *params);

/* Reads all tensors that are not f32 into stored [params->stored]. scratch as for emb_params_load;
 * staging [emb_stored_staging]. Fails: as emb_model_read_rows. */
emb_status emb_stored_load(unsigned char *stored, const emb_params *params, void *scratch,
                           float *staging, emb_error *error);

/* out [cols] = one row, as emb_model_read_rows gives it. codes [cols]: the caller's.
 * Threads: any; each with codes of its own. */
void emb_stored_row(float *out, const emb_params *params, const unsigned char *stored,
                    const emb_param *tensor, uint32_t row, int8_t *codes);

#endif
