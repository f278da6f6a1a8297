/* loss.c - vectors to units, the loss that was asked for, and its gradient back to the vectors.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/loss/loss.h"

#include <math.h>
#include <string.h>

void emb_loss_layout(emb_loss_room *room, uint32_t examples, uint32_t columns, uint32_t width,
                     uint32_t threads, emb_ledger *ledger) {
    uint64_t rows = (uint64_t)examples * columns;
    memset(room, 0, sizeof *room);
    room->width = width;
    emb_ledger_item(ledger, "loss");
    room->units = emb_ledger_take(ledger, rows * width, sizeof(float));
    room->lengths = emb_ledger_take(ledger, rows, sizeof(float));
    room->log_sums = emb_ledger_take(ledger, rows, sizeof(float));
    room->losses = emb_ledger_take(ledger, rows, sizeof(float));
    room->scores = emb_ledger_take(ledger, (uint64_t)threads * EMB_LOSS_ROWS * EMB_LOSS_COLUMNS,
                                   sizeof(float));
    room->work = emb_ledger_take(ledger, (uint64_t)threads * EMB_TRAIN_WORK, sizeof(float));
}

static void make_units(emb_loss_room *room, const emb_loss_batch *batch) {
    uint32_t rows = batch->examples * batch->columns;
    for (uint32_t r = 0; r < rows; r++) {
        const float *vector = batch->vectors + (size_t)r * room->width;
        float *unit = room->units + (size_t)r * room->width;
        float length = sqrtf(room->kernels->dot(vector, vector, room->width));
        room->lengths[r] = fmaxf(length, 1e-12f);
        for (uint32_t i = 0; i < room->width; i++) unit[i] = vector[i] / room->lengths[r];
    }
}

/* The gradient of the vectors: what of a unit's gradient goes along it changes nothing. */
static void units_back(const emb_loss_room *room, const emb_loss_batch *batch) {
    uint32_t rows = batch->examples * batch->columns;
    for (uint32_t r = 0; r < rows; r++) {
        const float *unit = room->units + (size_t)r * room->width;
        float *d = batch->d_vectors + (size_t)r * room->width;
        float along = room->kernels->dot(unit, d, room->width);
        for (uint32_t i = 0; i < room->width; i++)
            d[i] = (d[i] - along * unit[i]) / room->lengths[r];
    }
}

double emb_loss_run(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch) {
    size_t values = (size_t)batch->examples * batch->columns * room->width;
    double result;
    make_units(room, batch);
    memset(batch->d_vectors, 0, values * sizeof(float));
    if (loss->kind == EMB_LOSS_COSENT)
        result = emb_loss_cosent(room, loss, batch, batch->d_vectors);
    else if (loss->kind == EMB_LOSS_COSINE)
        result = emb_loss_cosine(room, batch, batch->d_vectors);
    else
        result = emb_loss_ranking(room, loss, batch, batch->d_vectors);
    units_back(room, batch);
    return result;
}
