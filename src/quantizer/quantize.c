/* quantize.c - emb_model_quantize: every matrix in turn, a few rows at a time, into a new
 * directory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "embound_experimental.h"
#include "quantizer/quantizer.h"

#define TOKENS_DEFAULT  8192
#define TOKENS_MAX      (1u << 20)
#define MATRICES        6 /* of a layer */
#define SMOOTH_STRENGTH 0.5f
#define SMOOTH_MIN      1e-4f
#define MARKER_BYTES    1024
#define GROWTH_BYTES    (1u << 20) /* of the C library and the stack, during the work */

/* A matrix of a layer: which input it reads, and where its rows are in that input's linear. */
typedef struct matrix {
    emb_tensor_role role;
    uint32_t input, part;
} matrix;
static const matrix matrices[MATRICES] = {
    {EMB_TENSOR_QUERY, EMB_INPUT_QKV, 0},
    {EMB_TENSOR_KEY, EMB_INPUT_QKV, 1},
    {EMB_TENSOR_VALUE, EMB_INPUT_QKV, 2},
    {EMB_TENSOR_ATTENTION_OUT, EMB_INPUT_ATTENTION_OUT, 0},
    {EMB_TENSOR_FFN_IN, EMB_INPUT_FFN_IN, 0},
    {EMB_TENSOR_FFN_OUT, EMB_INPUT_FFN_OUT, 0},
};

/* All state of the work. Pointers are NULL while measuring. */
typedef struct quantizer {
    const emb_model *model;
    const emb_quantize_options *options;
    bool calibrates;
    emb_calibration calibration;
    emb_package package;
    uint32_t cols_max;
    float *values, *restored; /* [EMB_QUANTIZER_ROWS, cols_max] */
    float *targets;           /* [2, EMB_QUANTIZER_ROWS, cols_max]; calibrating */
    float *linear;            /* [3 * hidden or intermediate, cols] as it will be read back */
    float *importance;        /* [cols_max] */
    float *smooth, *heights;  /* [cols_max] factors; largest magnitude of a matrix's column */
    void *scratch;
    emb_quantized_rows rows;
    emb_quantize_progress progress;
    void *user;
    emb_quantize_step step;
    uint64_t memory_bytes;
} quantizer;

/* ---- checks and memory ----------------------------------------------------------------------- */

static emb_status check_options(const emb_quantize_options *o, const emb_model *model,
                                emb_error *error) {
    emb_dtype stored = model->info.stored_dtype;
    if (o->struct_bytes != sizeof *o)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "struct_bytes differs: state sizeof(emb_quantize_options), and "
                             "compile against this library's header");
    if (o->texts_count && !o->texts)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%u texts, but texts is NULL",
                             o->texts_count);
    if (!emb_dtype_quantized(o->dtype))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a model can be quantized to int8, int4 or fp8 alone");
    if (emb_dtype_quantized(stored))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s is quantized already; quantize the original", model->info.name);
    if (o->group != 0 && o->group != 32 && o->group != 64)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "groups of %u: 32 and 64 are possible",
                             o->group);
    if (o->group && o->dtype != EMB_DTYPE_INT4)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "groups are of int4 alone");
    if (o->smooth && !o->texts_count)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "smoothing needs texts to calibrate with");
    if (o->texts_count && o->dtype == EMB_DTYPE_FP8)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "calibration is for int8 and int4; fp8 is rounded to nearest");
    if (o->tokens_max > TOKENS_MAX)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%u tokens to calibrate with: at most %u",
                             o->tokens_max, TOKENS_MAX);
    return EMB_OK;
}

/* No more than the texts can have: at most one token per byte, and each text's special ones. */
static uint32_t tokens_of(const emb_quantize_options *options, const emb_model *model) {
    uint32_t tokens = options->tokens_max ? options->tokens_max : TOKENS_DEFAULT;
    uint64_t most = 0;
    for (uint32_t i = 0; i < options->texts_count && most < tokens; i++)
        most += options->texts[i].length + model->info.special_tokens;
    if (most < tokens) tokens = (uint32_t)most;
    return tokens < model->shape.default_tokens ? model->shape.default_tokens : tokens;
}

static void layout(quantizer *q, const emb_backend *backend, emb_ledger *ledger) {
    const emb_shape *s = &q->model->shape;
    const emb_books books = {ledger, ledger, ledger};
    uint64_t cols = s->spec.intermediate > s->spec.hidden ? s->spec.intermediate : s->spec.hidden;
    uint64_t block = EMB_QUANTIZER_ROWS * cols, qkv = (uint64_t)3 * s->spec.hidden;
    uint64_t groups = emb_quantized_groups((uint32_t)cols, EMB_QUANTIZE_GROUP);
    q->cols_max = (uint32_t)cols;
    emb_package_layout(&q->package, s, q->cols_max, ledger);
    q->values = emb_ledger_take(ledger, block, sizeof(float));
    q->restored = emb_ledger_take(ledger, block, sizeof(float));
    q->scratch = emb_ledger_take(ledger, emb_model_scratch_bytes(block), 1);
    q->rows.values = emb_ledger_take(ledger, block, 1);
    q->rows.scales = emb_ledger_take(ledger, EMB_QUANTIZER_ROWS * groups, sizeof(float));
    q->rows.zeros = emb_ledger_take(ledger, EMB_QUANTIZER_ROWS * groups, 1);
    q->importance = emb_ledger_take(ledger, cols, sizeof(float));
    q->smooth = emb_ledger_take(ledger, cols, sizeof(float));
    if (!q->calibrates) return;
    uint64_t rows = qkv > s->spec.intermediate ? qkv : s->spec.intermediate;
    q->targets = emb_ledger_take(ledger, 2 * block, sizeof(float));
    q->linear = emb_ledger_take(ledger, rows * cols, sizeof(float));
    q->heights = emb_ledger_take(ledger, cols, sizeof(float));
    emb_calibration_layout(&q->calibration, q->model, backend, tokens_of(q->options, q->model),
                           &books);
}

/* ---- one matrix ------------------------------------------------------------------------------ */

static emb_status tell(quantizer *q, emb_error *error) {
    if (!q->progress || q->progress(q->user, &q->step) == 0) return EMB_OK;
    return emb_error_set(error, EMB_CANCELLED, "stopped; nothing was left");
}

static void begin_step(quantizer *q, emb_tensor_role role, uint32_t layer, uint32_t rows,
                       uint32_t cols) {
    emb_quantize_step *step = &q->step;
    emb_model_tensor_name(step->tensor, sizeof step->tensor, q->model->files, role, layer);
    step->layer = layer;
    step->rows = rows;
    step->cols = cols;
    step->output_error = NAN;
}

/* Rounds q->values [count, cols] to f16 in q->rows' memory, and restores them. */
static emb_status round_f16(quantizer *q, uint32_t count, uint32_t cols, emb_error *error) {
    uint16_t *halves = (uint16_t *)(void *)q->rows.values;
    for (size_t i = 0; i < (size_t)count * cols; i++) {
        halves[i] = emb_quantize_f16(q->values[i]);
        q->restored[i] = emb_quantize_widen_f16(halves[i]);
        if (isinf(q->restored[i]))
            return emb_error_set(error, EMB_NOT_FINITE,
                                 "tensor \"%s\": %g is beyond f16, in which fp8 models have it; "
                                 "quantize to int8",
                                 q->step.tensor, (double)q->values[i]);
    }
    return EMB_OK;
}

/* Rounds q->values [count, cols] into q->rows, and restores them into q->restored. Without shares,
 * importance (or NULL) weighs the errors. */
static void round_rows(quantizer *q, uint32_t count, uint32_t cols, emb_dtype dtype,
                       const float *shares, const float *importance, double *lost, double *all) {
    emb_quantized_rows *rows = &q->rows;
    rows->bits = dtype == EMB_DTYPE_INT4 ? 4 : 8;
    rows->rows = count;
    rows->cols = cols;
    rows->group = rows->bits == 4 ? q->package.group : cols;
    if (dtype == EMB_DTYPE_FP8) {
        uint8_t *bytes = (uint8_t *)rows->values;
        emb_quantize_fp8(bytes, rows->scales, q->values, count, cols);
        for (size_t i = 0; i < (size_t)count * cols; i++)
            q->restored[i] = rows->scales[i / cols] * emb_quantize_widen_fp8(bytes[i]);
        return;
    }
    if (shares)
        emb_compensate_rows(rows, q->values, shares, q->importance, q->targets, lost, all);
    else
        emb_quantize_rows(rows, q->values, importance);
    emb_quantize_restore(q->restored, rows);
}

/* Quantizes one matrix. shares: of its inputs, or NULL. into: receives its rows as they will be
 * read, or NULL. */
static emb_status quantize_matrix(quantizer *q, emb_tensor_role role, uint32_t layer,
                                  const float *shares, const float *smooth, float *into,
                                  emb_error *error) {
    uint32_t rank, rows, cols;
    double off = 0, square = 0, lost = 0, all = 0;
    emb_model_tensor_shape(q->model->files, role, layer, &rank, &rows, &cols);
    begin_step(q, role, layer, rows, cols);
    emb_dtype dtype = emb_quantized_as(q->options->dtype, role);
    bool keeps = dtype == EMB_DTYPE_F16;
    uint32_t step = keeps ? EMB_QUANTIZER_ROWS / 2 : EMB_QUANTIZER_ROWS; /* two bytes a value */
    for (uint32_t row = 0; row < rows; row += step) {
        uint32_t count = rows - row < step ? rows - row : step;
        size_t values = (size_t)count * cols;
        EMB_TRY(emb_model_read_rows(q->model->files, role, layer, row, count, q->values, q->scratch,
                                    error));
        for (size_t i = 0; smooth && i < values; i++) q->values[i] /= smooth[i % cols];
        if (keeps)
            EMB_TRY(round_f16(q, count, cols, error));
        else
            round_rows(q, count, cols, dtype, shares, smooth ? q->importance : NULL, &lost, &all);
        for (size_t i = 0; i < values; i++) {
            double value = q->values[i], away = value - q->restored[i];
            off += away * away;
            square += value * value;
            if (into)
                into[(size_t)row * cols + i] = q->restored[i] * (smooth ? smooth[i % cols] : 1);
        }
        EMB_TRY(keeps ? emb_package_write(&q->package, role, layer, EMB_PACKAGE_VALUES,
                                          (uint64_t)row * cols * sizeof(uint16_t), q->rows.values,
                                          values * sizeof(uint16_t), error)
                      : emb_package_write_rows(&q->package, role, layer, row, &q->rows, error));
    }
    q->step.error = square > 0 ? sqrt(off / square) : 0;
    if (shares) q->step.output_error = all > 0 ? sqrt(lost / all) : 0;
    q->step.done++;
    return tell(q, error);
}

/* Biases, norms, positions: as f32. */
static emb_status copy_tensor(quantizer *q, emb_tensor_role role, uint32_t layer,
                              emb_error *error) {
    uint32_t rank, rows, cols;
    if (!emb_model_tensor_shape(q->model->files, role, layer, &rank, &rows, &cols)) return EMB_OK;
    for (uint32_t row = 0; row < rows; row++) {
        EMB_TRY(emb_model_read_rows(q->model->files, role, layer, row, 1, q->values, q->scratch,
                                    error));
        EMB_TRY(emb_package_write(&q->package, role, layer, EMB_PACKAGE_VALUES,
                                  (uint64_t)row * cols * sizeof(float), q->values,
                                  cols * sizeof(float), error));
    }
    return EMB_OK;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static emb_status measure_heights(quantizer *q, const matrix *m, uint32_t layer, emb_error *error) {
    uint32_t rank, rows, cols;
    emb_model_tensor_shape(q->model->files, m->role, layer, &rank, &rows, &cols);
    for (uint32_t row = 0; row < rows; row++) {
        EMB_TRY(emb_model_read_rows(q->model->files, m->role, layer, row, 1, q->values, q->scratch,
                                    error));
        for (uint32_t i = 0; i < cols; i++) {
            float height = fabsf(q->values[i]);
            if (height > q->heights[i]) q->heights[i] = height;
        }
    }
    return EMB_OK;
}

/* Factors for an input: where its range is wide and the matrix's is not, some of it moves into the
 * matrix (Xiao et al. 2022, SmoothQuant). Scales the moments too. */
static emb_status make_smooth(quantizer *q, uint32_t input, uint32_t layer, emb_error *error) {
    emb_calibration *c = &q->calibration;
    uint32_t cols = emb_calibration_linear(c, input)->cols;
    emb_tensor_role role = EMB_TENSOR_ROLES;
    memset(q->heights, 0, cols * sizeof *q->heights);
    for (uint32_t i = 0; i < MATRICES; i++) {
        if (matrices[i].input != input) continue;
        if (role == EMB_TENSOR_ROLES) role = matrices[i].role;
        EMB_TRY(measure_heights(q, &matrices[i], layer, error));
    }
    for (uint32_t i = 0; i < cols; i++) {
        float peak = fmaxf(c->peaks[input][i], SMOOTH_MIN);
        float height = fmaxf(q->heights[i], SMOOTH_MIN);
        q->smooth[i] = powf(height, 1 - SMOOTH_STRENGTH) / powf(peak, SMOOTH_STRENGTH);
    }
    for (size_t i = 0; i < cols; i++)
        for (size_t j = i; j < cols; j++)
            c->moments[input][i * cols + j] *= q->smooth[i] * q->smooth[j];
    return emb_package_write(&q->package, role, layer, EMB_PACKAGE_SMOOTH, 0, q->smooth,
                             cols * sizeof(float), error);
}

/* Packs q->linear in f32 into the layer, so that the texts can go on to the next one. */
static void pack_linear(quantizer *q, uint32_t input) {
    emb_calibration *c = &q->calibration;
    emb_linear *linear = emb_calibration_linear(c, input);
    for (uint32_t row = 0; row < linear->rows; row += EMB_PACK_ROWS) {
        uint32_t left = linear->rows - row, count = left < EMB_PACK_ROWS ? left : EMB_PACK_ROWS;
        c->backend->linear_pack(c->backend, linear, row, count,
                                q->linear + (size_t)row * linear->cols);
    }
}

/* Quantizes all matrices that read one input. */
static emb_status quantize_input(quantizer *q, uint32_t input, uint32_t layer, emb_error *error) {
    emb_calibration *c = &q->calibration;
    uint32_t cols = emb_calibration_linear(c, input)->cols;
    float *moments = c->moments[input];
    if (q->options->smooth) EMB_TRY(make_smooth(q, input, layer, error));
    emb_compensate_factor(moments, cols);
    emb_compensate_shares(moments, q->importance, cols);
    for (uint32_t i = 0; i < MATRICES; i++) {
        if (matrices[i].input != input) continue;
        float *into = q->linear + (size_t)matrices[i].part * q->model->shape.spec.hidden * cols;
        EMB_TRY(quantize_matrix(q, matrices[i].role, layer, moments,
                                q->options->smooth ? q->smooth : NULL, into, error));
    }
    pack_linear(q, input);
    return EMB_OK;
}

/* Factors for the input of a matrix, without texts. */
static emb_status balance(quantizer *q, emb_tensor_role role, uint32_t layer, emb_error *error) {
    EMB_TRY(emb_model_read_balance(q->model->files, layer, q->smooth, q->importance, q->scratch,
                                   error));
    return emb_package_write(&q->package, role, layer, EMB_PACKAGE_SMOOTH, 0, q->smooth,
                             q->model->shape.spec.hidden * sizeof(float), error);
}

static emb_status quantize_layer(void *user, uint32_t n, emb_error *error) {
    quantizer *q = user;
    for (uint32_t role = EMB_TENSOR_QUERY; role < EMB_TENSOR_ROLES; role++)
        if (!emb_model_quantizable((emb_tensor_role)role))
            EMB_TRY(copy_tensor(q, (emb_tensor_role)role, n, error));
    if (q->calibrates) {
        EMB_TRY(emb_calibration_observe(&q->calibration, n, error));
        for (uint32_t input = 0; input < EMB_INPUTS; input++)
            EMB_TRY(quantize_input(q, input, n, error));
        q->step.tensor[0] = 0;
        q->step.output_error = emb_calibration_advance(&q->calibration);
        if (!isfinite(q->step.output_error))
            return emb_error_set(error, EMB_NOT_FINITE,
                                 "layer %u turns the texts to calibrate with into values that are "
                                 "not finite: check the model's weights, or do not calibrate",
                                 n);
        return tell(q, error);
    }
    for (uint32_t i = 0; i < MATRICES; i++) {
        emb_tensor_role role = matrices[i].role;
        bool balanced = q->package.balanced && emb_int4_balances(role);
        if (balanced) EMB_TRY(balance(q, role, n, error));
        EMB_TRY(quantize_matrix(q, role, n, NULL, balanced ? q->smooth : NULL, NULL, error));
    }
    return EMB_OK;
}

static emb_status quantize_all(quantizer *q, emb_error *error) {
    EMB_TRY(quantize_matrix(q, EMB_TENSOR_WORDS, 0, NULL, NULL, NULL, error));
    for (uint32_t role = EMB_TENSOR_POSITIONS; role < EMB_TENSOR_QUERY; role++)
        EMB_TRY(copy_tensor(q, (emb_tensor_role)role, 0, error));
    if (q->calibrates)
        EMB_TRY(emb_calibration_begin(&q->calibration, q->options->texts, q->options->texts_count,
                                      error));
    const emb_visitor visitor = {.user = q, .visit = quantize_layer};
    return emb_walk(&visitor, q->model->shape.layers, error);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void write_marker(char *out, size_t capacity, const quantizer *q) {
    const emb_calibration *c = &q->calibration;
    snprintf(out, capacity,
             "{\n \"format\": 1,\n \"dtype\": \"%s\",\n \"group\": %u,\n \"smooth\": %s,\n"
             " \"calibration_texts\": %u,\n \"calibration_tokens\": %u,\n"
             " \"written_by\": \"embound %s\"\n}\n",
             emb_dtype_name(q->options->dtype), q->package.group,
             q->options->smooth ? "true" : "false", q->calibrates ? c->chunks : 0,
             q->calibrates ? c->tokens : 0, emb_version());
}

static emb_status run(quantizer *q, const char *directory, emb_quantize_result *out,
                      emb_error *error) {
    char marker[MARKER_BYTES];
    EMB_TRY(emb_package_open(&q->package, directory, error));
    EMB_TRY(quantize_all(q, error));
    write_marker(marker, sizeof marker, q);
    EMB_TRY(emb_package_commit(&q->package, marker, error));
    *out = (emb_quantize_result){
        .struct_bytes = sizeof *out,
        .matrices = q->step.done,
        .texts = q->calibrates ? q->calibration.chunks : 0,
        .tokens = q->calibrates ? q->calibration.tokens : 0,
        .source_bytes = q->model->info.file_bytes,
        .bytes = q->package.bytes,
        .memory_bytes = q->memory_bytes,
    };
    return EMB_OK;
}

static emb_status check_memory(const quantizer *q, emb_error *error) {
    uint64_t now, peak, most = q->options->host_bytes_max;
    emb_process_memory(&now, &peak);
    uint64_t least = peak + q->memory_bytes + GROWTH_BYTES;
    if (!most || least <= most) return EMB_OK;
    emb_error_set(
        error, EMB_BUDGET,
        "a host budget of %llu bytes is too small to quantize this model so; the smallest "
        "that works is %llu bytes%s",
        (unsigned long long)most, (unsigned long long)least,
        q->calibrates ? ", and less with fewer tokens to calibrate with" : "");
    if (error) {
        error->bytes_min = least;
        error->region = EMB_REGION_HOST;
    }
    return EMB_BUDGET;
}

static emb_status choose_backend(const emb_backend **out, const emb_layer_spec *spec,
                                 emb_error *error) {
    uint32_t features;
    EMB_TRY(emb_cpu_detect(&features, error));
    *out = emb_cpu_backend(features, EMB_DTYPE_F32, spec);
    const char *beyond = *out ? (*out)->supports(*out, spec) : "these layers";
    if (!beyond) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED, "no kernels of this CPU compute %s", beyond);
}

emb_status emb_model_quantize(emb_quantize_result *out, const emb_model *model,
                              const char *directory, const emb_quantize_options *options,
                              emb_quantize_progress progress, void *user, emb_error *error) {
    if (!out || !model || !directory || !*directory || !options)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "quantize: no parameter but progress, user and error may be NULL");
    EMB_TRY(check_options(options, model, error));
    const emb_backend *backend = NULL;
    quantizer q = {.model = model,
                   .options = options,
                   .calibrates = options->texts_count > 0,
                   .progress = progress,
                   .user = user};
    q.package = (emb_package){.model = model,
                              .dtype = options->dtype,
                              .smooth = options->smooth,
                              .balanced = options->dtype == EMB_DTYPE_INT4 && !q.calibrates,
                              .overwrite = options->overwrite,
                              .descriptor = -1};
    if (options->dtype == EMB_DTYPE_INT4)
        q.package.group = options->group ? options->group : EMB_QUANTIZE_GROUP;
    q.step.total = 1 + model->shape.layers * MATRICES;
    EMB_TRY(choose_backend(&backend, &model->shape.spec, error));
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    layout(&q, backend, &ledger);
    q.memory_bytes = ledger.bytes;
    EMB_TRY(check_memory(&q, error));
    void *arena = ledger.overflow ? NULL : emb_arena_open(q.memory_bytes);
    if (!arena)
        return emb_error_set(error, EMB_NO_MEMORY, "no memory for the %llu bytes of quantizing",
                             (unsigned long long)q.memory_bytes);
    emb_ledger_init(&ledger, arena, q.memory_bytes);
    layout(&q, backend, &ledger);
    if (q.calibrates) emb_calibration_init(&q.calibration);
    emb_status status = run(&q, directory, out, error);
    emb_package_abort(&q.package);
    if (q.calibrates) emb_calibration_end(&q.calibration);
    emb_arena_close(arena, q.memory_bytes);
    return status;
}
