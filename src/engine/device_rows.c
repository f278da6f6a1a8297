/* device_rows.c - rows in a GPU's memory: allocated within the budget before the work, filled from
 * the rows that collect gives, owned by the caller even after the engine is closed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "embound_experimental.h"
#include "engine/engine.h"

/* How the driver allocates: whole pages from half a page upwards, below that parts of one. */
#define PAGE_BYTES  (2u << 20)
#define PIECE_BYTES 512u

static uint64_t round_up(uint64_t bytes, uint64_t step) {
    return (bytes + step - 1) / step * step;
}

static bool rows_bytes(uint64_t *bytes, uint64_t count, uint32_t dim) {
    uint64_t values;
    if (__builtin_mul_overflow(count, (uint64_t)dim, &values) || values > UINT64_MAX >> 8)
        return false;
    *bytes = values * sizeof(float);
    *bytes = round_up(*bytes, *bytes < PAGE_BYTES / 2 ? PIECE_BYTES : PAGE_BYTES);
    return true;
}

/* What must fit: the plan's bytes less those stated for the caller, plus these rows and the other
 * open ones. */
static emb_status check_budget(const emb_device_rows *rows, const emb_plan *plan,
                               uint64_t held_bytes, emb_error *error) {
    uint64_t caller;
    if (held_bytes > UINT64_MAX >> 8)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "rows: held_bytes are beyond 2^56");
    caller = round_up(rows->bytes + held_bytes, PAGE_BYTES);
    if (!plan->device_bytes_max ||
        plan->device_bytes - plan->device_caller_bytes + caller <= plan->device_bytes_max)
        return EMB_OK;
    uint64_t least = plan->device_bytes_min - plan->device_caller_bytes + caller;
    emb_error_set(error, EMB_BUDGET,
                  "%llu rows of %u values do not fit beside the engine in a GPU budget of %llu "
                  "bytes; the smallest that works is %llu bytes: raise it, let go of earlier rows, "
                  "or take the rows on the host",
                  (unsigned long long)rows->count, rows->dim,
                  (unsigned long long)plan->device_bytes_max, (unsigned long long)least);
    if (error) {
        error->bytes_min = least;
        error->region = EMB_REGION_DEVICE;
    }
    return EMB_BUDGET;
}

emb_status emb_device_rows_open(emb_device_rows *out, const emb_engine *engine, uint64_t count,
                                uint32_t dim, uint64_t held_bytes, emb_error *error) {
    if (!out || !engine)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "rows: out and engine are needed");
    memset(out, 0, sizeof *out);
    const emb_plan *plan = &engine->plan;
    const emb_device_calls *calls = engine->backend->device;
    if (!calls)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "rows on a GPU need an engine on a GPU, and this one is on the CPU: "
                             "take them on the host, or use the device cuda");
    *out = (emb_device_rows){.device = plan->devices[0],
                             .dim = dim ? dim : plan->dim,
                             .count = count,
                             .row_bytes_max = engine->model->shape.output_width * sizeof(float),
                             .process = getpid(),
                             .calls = calls};
    if (out->dim > plan->dim || !rows_bytes(&out->bytes, count, out->dim))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "rows: %llu of %u values; state at most %u values, and bytes below "
                             "2^56",
                             (unsigned long long)count, out->dim, plan->dim);
    EMB_TRY(check_budget(out, plan, held_bytes, error));
    if (out->bytes) out->values = calls->rows_take(out->device, out->bytes);
    if (out->values || !out->bytes) {
        out->struct_bytes = sizeof *out; /* from here on the rows are open */
        return EMB_OK;
    }
    return emb_error_set(error, EMB_NO_MEMORY,
                         "GPU %u refused %llu bytes for rows: free some, take fewer at a time, or "
                         "take them on the host",
                         out->device, (unsigned long long)out->bytes);
}

/* Checks that the range is within the rows. */
static emb_status check_range(const emb_device_rows *rows, uint64_t first, uint64_t count,
                              emb_error *error) {
    if (!rows || rows->struct_bytes != sizeof *rows || count > rows->count ||
        first > rows->count - count)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "rows: %llu from %llu on are not among them, or they are not open",
                             (unsigned long long)count, (unsigned long long)first);
    if (rows->process != getpid())
        return emb_error_set(error, EMB_DEVICE,
                             "rows on a GPU belong to the process that took them, not to its "
                             "children of fork");
    return EMB_OK;
}

/* How many rows from here on are evenly spaced, as single chunks of a window are; gives the
 * stride. */
static uint32_t even_rows(uint64_t *stride, const emb_row *rows, uint32_t count,
                          const emb_device_rows *out) {
    uint32_t even = 1;
    *stride = out->row_bytes_max;
    while (even < count && rows[even].status == EMB_OK && rows[even - 1].status == EMB_OK) {
        uint64_t distance = (uintptr_t)rows[even].values - (uintptr_t)rows[even - 1].values;
        if (even == 1 && distance == out->dim * sizeof(float)) *stride = distance;
        if (distance != *stride) break;
        even++;
    }
    return even;
}

emb_status emb_device_rows_put(const emb_device_rows *out, uint64_t first, const emb_row *rows,
                               uint32_t count, emb_error *error) {
    EMB_TRY(check_range(out, first, count, error));
    if (count && !rows) return emb_error_set(error, EMB_INVALID_ARGUMENT, "rows: none were given");
    const emb_device_calls *calls = out->calls;
    for (uint32_t i = 0, even; i < count; i += even) {
        emb_rows_copy copy = {.to = out->values + (first + i) * out->dim,
                              .from = rows[i].values,
                              .to_stride = out->dim * sizeof(float),
                              .row_bytes = out->dim * sizeof(float)};
        even = even_rows(&copy.from_stride, rows + i, count - i, out);
        copy.rows = even;
        EMB_TRY(calls->rows_copy(&copy, out->device, error));
    }
    return EMB_OK;
}

emb_status emb_device_rows_get(float *values, const emb_device_rows *rows, uint64_t first,
                               uint64_t count, emb_error *error) {
    EMB_TRY(check_range(rows, first, count, error));
    if (count == 0) return EMB_OK;
    if (!values) return emb_error_set(error, EMB_INVALID_ARGUMENT, "rows: values are needed");
    uint64_t row_bytes = rows->dim * sizeof(float);
    emb_rows_copy copy = {.to = values,
                          .from = rows->values + first * rows->dim,
                          .to_stride = row_bytes,
                          .from_stride = row_bytes,
                          .row_bytes = row_bytes,
                          .rows = count,
                          .to_host = true};
    const emb_device_calls *calls = rows->calls;
    return calls->rows_copy(&copy, rows->device, error);
}

void emb_device_rows_close(emb_device_rows *rows) {
    if (!rows) return;
    const emb_device_calls *calls = rows->calls;
    if (rows->values && rows->process == getpid()) calls->rows_give(rows->values, rows->device);
    memset(rows, 0, sizeof *rows);
}
