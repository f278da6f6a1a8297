/* run.h - what tests over the public interface share: a model opened to an engine under limits, and
 * texts sent through it in pieces of any size, their rows copied out.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_RUN_H
#define EMB_TESTS_RUN_H

#include <stdbool.h>

#include "embound.h"

typedef struct run {
    emb_machine machine;
    emb_model *model;
    emb_plan plan;
    emb_engine *engine;
} run;

typedef struct run_row {
    emb_status status;
    uint32_t chunks;
    uint64_t tokens, tokens_dropped, user;
    const float *values; /* the caller's array */
} run_row;

typedef struct run_text {
    const char *data;
    size_t length;
} run_text;

/* Opens all of it; on failure nothing stays open. machine: NULL to probe. */
emb_status run_open(run *out, const char *path, const emb_limits *limits,
                    const emb_machine *machine, emb_error *error);
void run_close(run *open);

/* Sends texts in the order given, cut every piece_bytes (0: whole), and collects their rows: text i
 * goes to rows[i] and values[i * dim]. Its user tag is 1000 + i. Fails as the engine does; a row
 * that fails only has its status. */
emb_status run_texts(run *open, const run_text *texts, uint32_t count, size_t piece_bytes,
                     run_row *rows, float *values, emb_error *error);

#endif
