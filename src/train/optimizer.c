/* optimizer.c - one step of AdamW or SGD: each thread takes a part of every tensor.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "train/device.h"

/* Values whose squares are summed in f32, before the sum of such sums in f64. */
enum { NORM_VALUES = 4096 };

void emb_optimizer_layout(emb_optimizer *o, const emb_params *params,
                          const emb_train_options *options, emb_ledger *ledger) {
    bool sgd = options->optimizer == EMB_OPTIMIZER_SGD;
    memset(o, 0, sizeof *o);
    o->params = params;
    o->kind = options->optimizer;
    o->eight = options->optimizer_bits == 8;
    emb_ledger_item(ledger, "optimizer");
    if (o->eight) {
        o->m8 = emb_ledger_take(ledger, params->values, sizeof *o->m8);
        o->v8 = emb_ledger_take(ledger, params->values, sizeof *o->v8);
        o->scales = emb_ledger_take(ledger, params->values / EMB_PARAM_BLOCK, 2 * sizeof(float));
        return;
    }
    if (!sgd || options->momentum > 0)
        o->m = emb_ledger_take(ledger, params->values, sizeof(float));
    if (!sgd) o->v = emb_ledger_take(ledger, params->values, sizeof(float));
}

void emb_optimizer_list(emb_optimizer_part *parts, const emb_optimizer *o) {
    uint64_t values = o->params->values, blocks = values / EMB_PARAM_BLOCK;
    uint64_t bytes = values * sizeof(float);
    parts[0] = o->eight ? (emb_optimizer_part){o->m8, values}
                        : (emb_optimizer_part){o->m, o->m ? bytes : 0};
    parts[1] = o->eight ? (emb_optimizer_part){o->v8, values}
                        : (emb_optimizer_part){o->v, o->v ? bytes : 0};
    parts[2] = (emb_optimizer_part){o->scales, o->eight ? blocks * 2 * sizeof(float) : 0};
}

void emb_optimizer_init(emb_optimizer *o, const emb_train_options *options) {
    bool given = options->beta1 != 0 || options->beta2 != 0 || options->epsilon != 0;
    o->beta1 = given ? options->beta1 : 0.9f;
    o->beta2 = given ? options->beta2 : 0.999f;
    o->epsilon = given ? options->epsilon : 1e-8f;
    o->momentum = options->momentum;
    o->nesterov = options->nesterov;
    o->weight_decay = options->weight_decay;
    o->clip_norm = options->clip_norm;
    o->learning_rate = options->learning_rate;
    o->layer_decay = options->layer_decay > 0 ? options->layer_decay : 1.0f;
    o->schedule = options->schedule;
    o->steps = options->steps;
    o->warmup_steps = options->warmup_steps;
}

double emb_optimizer_rate(const emb_optimizer *o, uint64_t step) {
    uint64_t at = step - 1; /* steps done before this one */
    double rate = o->learning_rate;
    if (at < o->warmup_steps) return rate * (double)at / (double)o->warmup_steps;
    if (o->schedule == EMB_SCHEDULE_CONSTANT || o->steps <= o->warmup_steps) return rate;
    double done = (double)(at - o->warmup_steps) / (double)(o->steps - o->warmup_steps);
    if (done > 1) done = 1;
    return o->schedule == EMB_SCHEDULE_COSINE ? rate * 0.5 * (1 + cos(M_PI * done))
                                              : rate * (1 - done);
}

double emb_optimizer_norm(const emb_optimizer *o, const float *gradients) {
    double sum = 0;
    if (o->run) return o->run->ops->device->norm(o->run, gradients, o->params->values);
    for (uint64_t at = 0; at < o->params->values; at += NORM_VALUES) {
        uint64_t left = o->params->values - at;
        uint32_t count = left < NORM_VALUES ? (uint32_t)left : NORM_VALUES;
        sum += o->kernels->dot(gradients + at, gradients + at, count);
    }
    return sqrt(sum);
}

_Static_assert((int)EMB_PARAM_BLOCK <= (int)EMB_TRAIN_BLOCK,
               "a block of moments fits the kernels' own");

typedef struct job {
    const emb_optimizer *optimizer;
    float *values;
    const float *gradients; /* of values from `first` on */
    uint64_t first, end;    /* values that move: whole blocks */
    double rate;
    float factor; /* of gradients: clipping */
} job;

/* The rate of a layer is that of the one behind it, less the decay; outside the layers it is one
 * layer more. */
static double rate_of(const job *j, const emb_param_range *range) {
    uint32_t behind = j->optimizer->params->shape->layers - range->depth;
    return j->rate * pow(j->optimizer->layer_decay, behind);
}

static void adamw(const job *j, const emb_param_range *range, uint64_t first, uint64_t end) {
    const emb_optimizer *o = j->optimizer;
    double rate = rate_of(j, range), n = (double)o->step;
    const emb_adamw step = {.factor = j->factor,
                            .beta1 = o->beta1,
                            .beta2 = o->beta2,
                            .keep = range->matrix ? (float)(1 - rate * o->weight_decay) : 1.0f,
                            .rate = (float)(rate / (1 - pow(o->beta1, n))),
                            .spread = (float)(1 / sqrt(1 - pow(o->beta2, n))),
                            .epsilon = o->epsilon};
    if (o->run) {
        const emb_train_device *device = o->run->ops->device;
        if (o->eight)
            device->adamw8(o->run, j->values + first, o->m8 + first, o->v8 + first,
                           o->scales + 2 * (first / EMB_PARAM_BLOCK),
                           j->gradients + (first - j->first), end - first, &step);
        else
            device->adamw(o->run, j->values + first, o->m + first, o->v + first,
                          j->gradients + (first - j->first), end - first, &step);
        return;
    }
    if (!o->eight) {
        o->kernels->adamw(j->values + first, o->m + first, o->v + first,
                          j->gradients + (first - j->first), end - first, &step);
        return;
    }
    for (uint64_t at = first; at < end; at += EMB_PARAM_BLOCK)
        o->kernels->adamw8(j->values + at, o->m8 + at, o->v8 + at,
                           o->scales + 2 * (at / EMB_PARAM_BLOCK), j->gradients + (at - j->first),
                           EMB_PARAM_BLOCK, &step);
}

static void sgd(const job *j, const emb_param_range *range, uint64_t first, uint64_t end) {
    const emb_optimizer *o = j->optimizer;
    const emb_sgd step = {.factor = j->factor,
                          .decay = range->matrix ? o->weight_decay : 0.0f,
                          .momentum = o->momentum,
                          .rate = (float)rate_of(j, range),
                          .nesterov = o->nesterov};
    if (o->run)
        o->run->ops->device->sgd(o->run, j->values + first, o->m ? o->m + first : NULL,
                                 j->gradients + (first - j->first), end - first, &step);
    else
        o->kernels->sgd(j->values + first, o->m ? o->m + first : NULL,
                        j->gradients + (first - j->first), end - first, &step);
}

/* A thread's share of each range; biases and norms do not decay. */
static void update_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    const emb_params *params = j->optimizer->params;
    for (uint32_t i = 0; i < params->ranges_count; i++) {
        const emb_param_range *range = &params->ranges[i];
        uint64_t first = range->first, end = first + range->values;
        if (first < j->first) first = j->first;
        if (end > j->end) end = j->end;
        if (first >= end) continue;
        uint32_t blocks = (uint32_t)((end - first) / EMB_PARAM_BLOCK);
        uint64_t from = emb_team_begin(blocks, 1, index, count);
        uint64_t to = emb_team_begin(blocks, 1, index + 1, count);
        (j->optimizer->kind == EMB_OPTIMIZER_SGD ? sgd : adamw)(
            j, range, first + from * EMB_PARAM_BLOCK, first + to * EMB_PARAM_BLOCK);
    }
}

static void run(emb_optimizer *o, job *j) {
    if (o->run)
        update_part(j, 0, 1);
    else
        emb_team_run(o->team, update_part, j);
}

void emb_optimizer_begin(emb_optimizer *o) {
    o->step++;
}

void emb_optimizer_move(emb_optimizer *o, float *values, const float *gradients, uint64_t first,
                        uint64_t end) {
    job j = {.optimizer = o,
             .values = values,
             .gradients = gradients,
             .first = first,
             .end = end,
             .rate = emb_optimizer_rate(o, o->step),
             .factor = 1.0f};
    run(o, &j);
}

void emb_optimizer_update(emb_optimizer *o, float *values, const float *gradients, double norm) {
    bool clips = o->clip_norm > 0 && norm > o->clip_norm;
    job j = {
        .optimizer = o,
        .values = values,
        .gradients = gradients,
        .end = o->params->values,
        .rate = emb_optimizer_rate(o, ++o->step),
        .factor = clips ? (float)(o->clip_norm / (norm + 1e-6)) : 1.0f,
    };
    run(o, &j);
}
