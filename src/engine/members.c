/* members.c - the members of plans, counters and models by name: one table of each, from which the
 * command line's JSON and Python's dicts are made.
 *
 * A member that is added to such a struct gets a row here, in the place where readers expect it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stddef.h>

#include "embound.h"

/* The word for an enumerator. */
typedef const char *(*word_of)(uint32_t value);

typedef struct row {
    const char *name;
    emb_member_kind kind;
    uint32_t offset, size;
    word_of word; /* of EMB_MEMBER_WORD */
} row;

static const char *dtype_word(uint32_t value) {
    return emb_dtype_name((emb_dtype)value);
}

static const char *pooling_word(uint32_t value) {
    return emb_pooling_name((emb_pooling)value);
}

static const char *rung_word(uint32_t value) {
    return emb_rung_name((emb_rung)value);
}

static const char *device_word(uint32_t value) {
    return value == EMB_DEVICE_CUDA ? "cuda" : "cpu";
}

static const char *long_word(uint32_t value) {
    return value == EMB_LONG_CHUNK ? "chunk" : value == EMB_LONG_TRUNCATE ? "truncate" : "error";
}

static const char *gemm_word(uint32_t value) {
    return value == EMB_GEMM_CUBLASLT ? "cublaslt" : "own";
}

static const char *switch_word(uint32_t value) {
    return value == EMB_SWITCH_ON ? "on" : value == EMB_SWITCH_OFF ? "off" : "auto";
}

#define MEMBER(of, field, name, kind, word)                                                        \
    { name, EMB_MEMBER_##kind, offsetof(of, field), sizeof(((of *)0)->field), word }
#define PLAN(kind, field)       MEMBER(emb_plan, field, #field, kind, NULL)
#define PLAN_WORD(field, word)  MEMBER(emb_plan, field, #field, WORD, word)
#define STATS(kind, field)      MEMBER(emb_engine_stats_t, field, #field, kind, NULL)
#define MODEL(kind, field)      MEMBER(emb_model_info, field, #field, kind, NULL)
#define MODEL_WORD(field, word) MEMBER(emb_model_info, field, #field, WORD, word)

static const row plan_rows[] = {
    PLAN(NUMBER, rung),
    MEMBER(emb_plan, rung, "rung_name", WORD, rung_word),
    PLAN_WORD(device, device_word),
    PLAN(TEXT, device_reason),
    PLAN(FLAG, device_notice),
    PLAN_WORD(dtype, dtype_word),
    PLAN_WORD(long_rule, long_word),
    PLAN_WORD(pooling, pooling_word),
    PLAN(FLAG, normalize),
    PLAN(NUMBER, dim),
    PLAN(NUMBER, lanes),
    PLAN(NUMBER, readers),
    PLAN(NUMBER, windows),
    PLAN(NUMBER, window_tokens),
    PLAN(NUMBER, window_chunks),
    PLAN(NUMBER, tokens_per_tile),
    PLAN(NUMBER, tokens_per_pass),
    PLAN(NUMBER, chunk_tokens_max),
    PLAN(NUMBER, weight_slots),
    PLAN(FLAG, embeddings_resident),
    PLAN(FLAG, embeddings_pinned),
    PLAN(FLAG, layers_pinned),
    PLAN_WORD(gemm, gemm_word),
    PLAN_WORD(graphs, switch_word),
    PLAN(NUMBER, host_bytes_max),
    PLAN(NUMBER, host_bytes),
    PLAN(NUMBER, host_bytes_min),
    PLAN(NUMBER, host_bytes_knee),
    PLAN(NUMBER, device_bytes_max),
    PLAN(NUMBER, device_bytes),
    PLAN(NUMBER, device_bytes_min),
    PLAN(NUMBER, device_bytes_knee),
    PLAN(NUMBER, device_held_bytes),
    PLAN(NUMBER, device_free_bytes),
    PLAN(NUMBER, device_margin_bytes),
    PLAN(NUMBER, process_base_bytes),
    PLAN(NUMBER, caller_bytes),
    PLAN(NUMBER, device_caller_bytes),
    PLAN(TEXT, isa),
    PLAN(TEXT, numerics_id),
};

static const row stats_rows[] = {
    STATS(NUMBER, texts),
    STATS(NUMBER, texts_failed),
    STATS(NUMBER, texts_long),
    STATS(NUMBER, chunks),
    STATS(NUMBER, tokens),
    STATS(NUMBER, tokens_dropped),
    STATS(NUMBER, rows_computed),
    STATS(NUMBER, bytes_read),
    STATS(NUMBER, passes),
    STATS(NUMBER, windows),
    STATS(NUMBER, tiles),
    STATS(NUMBER, graphs),
    STATS(REAL, seconds),
    STATS(REAL, seconds_tokenize),
    STATS(REAL, seconds_encode),
    STATS(REAL, seconds_wait),
    STATS(NUMBER, host_bytes_planned),
    STATS(NUMBER, host_bytes_peak),
    STATS(NUMBER, host_bytes_now),
};

static const row model_rows[] = {
    MODEL(TEXT, name),
    MODEL(TEXT, architecture),
    MODEL(NUMBER, layers),
    MODEL(NUMBER, hidden),
    MODEL(NUMBER, heads),
    MODEL(NUMBER, intermediate),
    MODEL(NUMBER, vocabulary),
    MODEL(NUMBER, positions),
    MODEL(NUMBER, window_tokens),
    MODEL(NUMBER, default_tokens),
    MODEL(NUMBER, special_tokens),
    MODEL(NUMBER, dim),
    MODEL_WORD(pooling, pooling_word),
    MODEL(FLAG, normalizes),
    MODEL_WORD(stored_dtype, dtype_word),
    MODEL(NUMBER, stored_group),
    MODEL(FLAG, smooths),
    MODEL(NUMBER, parameters),
    MODEL(NUMBER, file_bytes),
    MODEL(NUMBER, truncate_dim),
    MODEL(NUMBER, description_bytes),
    MODEL(TEXT, unknown_keys),
};

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

static const struct {
    const row *rows;
    size_t count;
} tables[] = {
    [EMB_STRUCT_PLAN] = {plan_rows, COUNT(plan_rows)},
    [EMB_STRUCT_STATS] = {stats_rows, COUNT(stats_rows)},
    [EMB_STRUCT_MODEL] = {model_rows, COUNT(model_rows)},
};

/* Members beyond the end of an older caller's struct read as 0, or as an empty text. */
int emb_member_get(emb_member *out, emb_struct kind, const void *object, uint32_t index) {
    if ((size_t)kind >= COUNT(tables) || index >= tables[kind].count) return 0;
    const row *r = &tables[kind].rows[index];
    const char *at = (const char *)object + r->offset;
    uint32_t object_bytes = *(const uint32_t *)object; /* struct_bytes stands first in each */
    bool there = r->offset + r->size <= object_bytes;
    *out = (emb_member){.name = r->name, .kind = r->kind, .text = ""};
    if (r->kind == EMB_MEMBER_TEXT) {
        if (there) out->text = at;
    } else if (r->kind == EMB_MEMBER_REAL) {
        if (there) out->real = *(const double *)at;
    } else if (there) {
        out->number = r->size == sizeof(uint32_t) ? *(const uint32_t *)at : *(const uint64_t *)at;
    }
    if (r->word) out->text = r->word((uint32_t)out->number);
    return 1;
}
