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

void emb_trainer_refresh(emb_trainer *t) {
    emb_train_lane_refresh(&t->lane);
    for (uint32_t i = 0; t->device && i < t->model->shape.layers; i++) narrow_layer(t, i);
}
