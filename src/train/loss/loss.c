/* loss.c - vectors to units, the loss that was asked for, and its gradient back to the vectors; of
 * a Matryoshka loss, for each width.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/loss/loss.h"

#include <math.h>
#include <string.h>

void emb_loss_layout(emb_loss_room *room, const emb_train_loss *loss, uint32_t examples,
                     uint32_t columns, uint32_t width, uint32_t threads, emb_ledger *ledger) {
    uint64_t rows = (uint64_t)examples * columns;
    uint64_t tiles = (uint64_t)threads * EMB_LOSS_ROWS * EMB_LOSS_COLUMNS;
    memset(room, 0, sizeof *room);
    room->width = width;
    emb_ledger_item(ledger, "loss");
    room->units = emb_ledger_take(ledger, rows * width, sizeof(float));
    room->lengths = emb_ledger_take(ledger, rows, sizeof(float));
    room->log_sums = emb_ledger_take(ledger, rows, sizeof(float));
    room->losses = emb_ledger_take(ledger, rows, sizeof(float));
    room->scores = emb_ledger_take(ledger, tiles, sizeof(float));
    room->work = emb_ledger_take(ledger, (uint64_t)threads * EMB_TRAIN_WORK, sizeof(float));
    if (loss->widths_count) {
        room->begins = emb_ledger_take(ledger, rows * width, sizeof(float));
        room->d_begins = emb_ledger_take(ledger, rows * width, sizeof(float));
    }
    if (loss->kind == EMB_LOSS_BATCH_HARD)
        room->hardest = emb_ledger_take(ledger, 2 * rows, sizeof *room->hardest);
    if (loss->kind != EMB_LOSS_DISTILL) return;
    room->teacher = emb_ledger_take(ledger, rows * loss->teacher_width, sizeof(float));
    room->teacher_scores = emb_ledger_take(ledger, tiles, sizeof(float));
}

/* ---- tiles of similarities ------------------------------------------------------------------- */

emb_loss_tile emb_loss_tile_of(const emb_loss_room *room, uint32_t thread) {
    return (emb_loss_tile){
        .scores = room->scores + (size_t)thread * EMB_LOSS_ROWS * EMB_LOSS_COLUMNS,
        .work = room->work + (size_t)thread * EMB_TRAIN_WORK,
    };
}

void emb_loss_multiply(const emb_loss_room *room, const emb_loss_tile *tile, float *scores,
                       const float *a, const float *b, uint32_t width) {
    emb_matmul product = {.m = tile->rows,
                          .n = tile->columns,
                          .k = width,
                          .a = a + (size_t)tile->row * width,
                          .a_row = width,
                          .a_col = 1,
                          .b = b + (size_t)tile->column * width,
                          .b_row = width,
                          .b_transposed = true,
                          .c = scores,
                          .c_row = EMB_LOSS_COLUMNS,
                          .work = tile->work};
    room->kernels->matmul(&product);
}

/* ---- units ----------------------------------------------------------------------------------- */

/* Gives the length that it divides by. */
static float make_unit(const emb_loss_room *room, float *unit, const float *vector,
                       uint32_t width) {
    float length = fmaxf(sqrtf(room->kernels->dot(vector, vector, width)), 1e-12f);
    for (uint32_t i = 0; i < width; i++) unit[i] = vector[i] / length;
    return length;
}

static void make_units(emb_loss_room *room, const emb_loss_batch *batch) {
    uint32_t rows = batch->examples * batch->columns;
    for (uint32_t r = 0; r < rows; r++) {
        size_t at = (size_t)r * room->width;
        room->lengths[r] = make_unit(room, room->units + at, batch->vectors + at, room->width);
    }
}

/* The teacher's come example by example. */
static void make_teacher(emb_loss_room *room, const emb_loss_batch *batch, uint32_t width) {
    for (uint32_t k = 0; k < batch->columns; k++) {
        for (uint32_t i = 0; i < batch->examples; i++) {
            size_t row = (size_t)k * batch->examples + i, from = (size_t)i * batch->columns + k;
            make_unit(room, room->teacher + row * width, batch->targets + from * width, width);
        }
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

/* ---- losses ---------------------------------------------------------------------------------- */

static double run_kind(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch,
                       const float *points) {
    switch (loss->kind) {
    case EMB_LOSS_COSENT:
        return emb_loss_cosent(room, loss, batch, batch->d_vectors);
    case EMB_LOSS_COSINE:
        return emb_loss_cosine(room, batch, batch->d_vectors);
    case EMB_LOSS_TRIPLET:
        return emb_loss_triplet(room, loss, batch, points, batch->d_vectors);
    case EMB_LOSS_BATCH_HARD:
        return emb_loss_batch_hard(room, loss, batch, points, batch->d_vectors);
    case EMB_LOSS_DISTILL:
        return emb_loss_distill(room, loss, batch, batch->d_vectors);
    default:
        return emb_loss_ranking(room, loss, batch, batch->d_vectors);
    }
}

static double run_whole(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch) {
    bool distances = loss->kind == EMB_LOSS_TRIPLET || loss->kind == EMB_LOSS_BATCH_HARD;
    bool as_they_are = distances && loss->distance == EMB_DISTANCE_EUCLIDEAN && !loss->widths_count;
    size_t values = (size_t)batch->examples * batch->columns * room->width;
    make_units(room, batch);
    memset(batch->d_vectors, 0, values * sizeof(float));
    double result = run_kind(room, loss, batch, as_they_are ? batch->vectors : room->units);
    if (!as_they_are) units_back(room, batch);
    return result;
}

/* The first values of all vectors as a batch of their own, for each width. */
static double run_widths(emb_loss_room *room, const emb_train_loss *loss,
                         const emb_loss_batch *batch) {
    uint32_t full = room->width, rows = batch->examples * batch->columns;
    double result = 0, given = 0;
    memset(batch->d_vectors, 0, (size_t)rows * full * sizeof(float));
    for (uint32_t w = 0; w < loss->widths_count; w++) given += loss->width_weights[w];
    for (uint32_t w = 0; w < loss->widths_count; w++) {
        uint32_t width = loss->widths[w];
        float weight = given > 0 ? loss->width_weights[w] : 1.0f;
        emb_loss_batch part = *batch;
        part.vectors = room->begins;
        part.d_vectors = room->d_begins;
        room->width = width;
        for (uint32_t r = 0; r < rows; r++)
            memcpy(room->begins + (size_t)r * width, batch->vectors + (size_t)r * full,
                   width * sizeof(float));
        result += weight * run_whole(room, loss, &part);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t i = 0; i < width; i++)
                batch->d_vectors[(size_t)r * full + i] +=
                    weight * room->d_begins[(size_t)r * width + i];
    }
    room->width = full;
    return result;
}

double emb_loss_run(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch) {
    if (loss->kind == EMB_LOSS_DISTILL) make_teacher(room, batch, loss->teacher_width);
    return loss->widths_count ? run_widths(room, loss, batch) : run_whole(room, loss, batch);
}
