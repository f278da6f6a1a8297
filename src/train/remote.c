/* remote.c - a trainer's parameters and moments where a device may have them: reading the model's,
 * and a piece of them for whoever writes files.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "train/trainer.h"

/* A tensor to the device, as many rows at once as the staging holds. */
static emb_status load_tensor(emb_trainer *t, const emb_param *tensor, emb_error *error) {
    uint32_t most = EMB_TRAIN_STAGING / (tensor->cols * (uint32_t)sizeof(float));
    if (most > EMB_PARAM_ROWS) most = EMB_PARAM_ROWS;
    for (uint32_t row = 0; row < tensor->rows; row += most) {
        uint32_t rows = tensor->rows - row < most ? tensor->rows - row : most;
        float *to = t->lane.values + tensor->first + (uint64_t)row * tensor->cols;
        EMB_TRY(emb_model_read_rows(t->params.files, tensor->role, tensor->layer, row, rows,
                                    (float *)(void *)t->staging, t->scratch, error));
        emb_trainer_put(t, to, (uint64_t)rows * tensor->cols * sizeof(float));
    }
    return EMB_OK;
}

emb_status emb_trainer_load(emb_trainer *t, emb_error *error) {
    if (t->lane.lora)
        return emb_lora_load(&t->lora, t->lane.values, t->options.seed, t->scratch, error);
    if (!t->device) return emb_params_load(t->lane.values, &t->params, t->scratch, error);
    /* what fills the blocks is 0, and moments begin at 0 */
    t->device->clear(&t->lane.run, t->region, t->region_bytes);
    for (uint32_t i = 0; i < t->params.count; i++)
        EMB_TRY(load_tensor(t, &t->params.tensors[i], error));
    return t->device->finish(&t->lane.run, error);
}

const void *emb_trainer_see(const emb_trainer *t, const void *from, uint64_t bytes) {
    emb_device_thread before;
    if (!t->device) return from;
    t->device->calls->enter(&before, t->gpu.index);
    t->device->read(&t->lane.run, t->staging, from, bytes);
    t->device->calls->leave(&before);
    return t->staging;
}

void *emb_trainer_room(const emb_trainer *t, void *to) {
    return t->device ? t->staging : to;
}

void emb_trainer_put(const emb_trainer *t, void *to, uint64_t bytes) {
    emb_device_thread before;
    if (!t->device) return;
    t->device->calls->enter(&before, t->gpu.index);
    t->device->write(&t->lane.run, to, t->staging, bytes);
    t->device->calls->leave(&before);
}

static void narrow_layer(const emb_trainer *t, uint32_t layer) {
    const emb_layer_spec *spec = &t->model->shape.spec;
    const emb_train_run *run = &t->lane.run;
    const float *values = t->lane.values;
    emb_layer_params w = emb_params_layer(&t->params, t->lane.values, layer);
    t->device->narrow(run, values, w.qkv, emb_spec_qkv_rows(spec), spec->hidden);
    t->device->narrow(run, values, w.attention_out, spec->hidden, emb_spec_context(spec));
    t->device->narrow(run, values, w.ffn_in, emb_spec_ffn_rows(spec), spec->hidden);
    t->device->narrow(run, values, w.ffn_out, spec->hidden, spec->intermediate);
}

/* Bytes of the bias per bucket, and of the table that is spread from it. */
static uint64_t bucket_bytes(const emb_trainer *t) {
    const emb_shape *shape = &t->model->shape;
    return (uint64_t)shape->relative_buckets * shape->spec.heads * sizeof(float);
}

static uint64_t table_bytes(const emb_trainer *t) {
    uint64_t places = 2 * (uint64_t)t->length_max - 1;
    return t->model->shape.spec.heads * places * sizeof(float);
}

bool emb_trainer_relative_fits(const emb_trainer *t) {
    uint64_t half = EMB_TRAIN_STAGING / 2;
    return bucket_bytes(t) <= half && table_bytes(t) <= half;
}

/* The table of relative positions on a device: spread on the host, between two halves of the
 * staging. */
static void spread_relative(const emb_trainer *t) {
    const emb_train_run *run = &t->lane.run;
    float *buckets = (float *)(void *)t->staging;
    float *table = (float *)(void *)(t->staging + EMB_TRAIN_STAGING / 2);
    emb_embed_params weights = emb_params_embed(&t->params, t->lane.values);
    t->device->read(run, buckets, weights.relative, bucket_bytes(t));
    emb_params_spread_relative(table, buckets, &t->model->shape, t->length_max);
    t->device->write(run, t->lane.relative, table, table_bytes(t));
}

void emb_trainer_begin_relative(const emb_trainer *t) {
    if (t->device && t->lane.relative)
        t->device->clear(&t->lane.run, t->lane.d_relative, table_bytes(t));
}

void emb_trainer_gather_relative(const emb_trainer *t) {
    const emb_train_run *run = &t->lane.run;
    float *buckets = (float *)(void *)t->staging;
    float *table = (float *)(void *)(t->staging + EMB_TRAIN_STAGING / 2);
    if (!t->device || !t->lane.relative) return;
    emb_embed_params gradients = emb_params_embed(&t->params, t->lane.gradients);
    t->device->read(run, buckets, gradients.relative, bucket_bytes(t));
    t->device->read(run, table, t->lane.d_relative, table_bytes(t));
    emb_params_gather_relative(buckets, table, &t->model->shape, t->length_max);
    t->device->write(run, gradients.relative, buckets, bucket_bytes(t));
}

void emb_trainer_refresh(emb_trainer *t) {
    emb_train_lane_refresh(&t->lane);
    if (t->device && t->lane.relative) spread_relative(t);
    for (uint32_t i = 0; t->device && i < t->model->shape.layers; i++) narrow_layer(t, i);
}
