/* scored.c - the losses of two texts and a score: CoSENT and the squared error of the cosine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/loss/loss.h"

/* The two units of pair i, and d of both for a gradient of its cosine. */
static float cosine(const emb_loss_room *room, const emb_loss_batch *batch, uint32_t i) {
    const float *a = room->units + (size_t)i * room->width;
    return room->kernels->dot(a, a + (size_t)batch->examples * room->width, room->width);
}

static void cosine_back(const emb_loss_room *room, const emb_loss_batch *batch, float *d,
                        uint32_t i, float d_cosine) {
    size_t a = (size_t)i * room->width, b = a + (size_t)batch->examples * room->width;
    for (uint32_t c = 0; c < room->width; c++) {
        d[a + c] += d_cosine * room->units[b + c];
        d[b + c] += d_cosine * room->units[a + c];
    }
}

double emb_loss_cosine(emb_loss_room *room, const emb_loss_batch *batch, float *d) {
    double sum = 0;
    for (uint32_t i = 0; i < batch->examples; i++) {
        float away = cosine(room, batch, i) - batch->targets[i];
        sum += (double)away * away;
        cosine_back(room, batch, d, i, 2 * away / (float)batch->examples);
    }
    return sum / batch->examples;
}

/* Pairs of pairs, one after the other: their number grows with the square of the batch, memory does
 * not. With z the sum of 1 and all e^x, pair i gets -scale / z for each e^x in which it has the
 * higher label, and pair j the opposite. */
double emb_loss_cosent(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch,
                       float *d) {
    uint32_t n = batch->examples;
    float *cosines = room->losses, *d_cosines = room->log_sums;
    double highest = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) cosines[i] = loss->scale * cosine(room, batch, i);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            if (batch->targets[i] > batch->targets[j])
                highest = fmax(highest, (double)cosines[j] - cosines[i]);
    sum = exp(-highest);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            if (batch->targets[i] > batch->targets[j])
                sum += exp((double)cosines[j] - cosines[i] - highest);
    for (uint32_t i = 0; i < n; i++) {
        double d_cosine = 0;
        for (uint32_t j = 0; j < n; j++) {
            double away = (double)cosines[j] - cosines[i];
            if (batch->targets[i] > batch->targets[j]) d_cosine -= exp(away - highest) / sum;
            if (batch->targets[i] < batch->targets[j]) d_cosine += exp(-away - highest) / sum;
        }
        d_cosines[i] = (float)d_cosine;
    }
    for (uint32_t i = 0; i < n; i++) cosine_back(room, batch, d, i, loss->scale * d_cosines[i]);
    return highest + log(sum);
}
