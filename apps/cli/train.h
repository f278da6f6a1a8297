/* train.h - what the files behind `embound train` share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_TRAIN_H
#define EMB_CLI_TRAIN_H

#include "cli/batches.h"
#include "cli/options.h"
#include "sink/writer.h"

typedef struct emb_train_job {
    const emb_options *options;
    emb_examples examples, pairs; /* pairs: of --eval; without it paths_count is 0 */
    emb_batches batches;
    uint32_t lora_targets; /* 0: not stated */
    emb_trainer *trainer;
    emb_train_plan plan;
    uint64_t steps; /* that are to be done */
    uint32_t dim;   /* values of a vector that count */
    /* in the session's block */
    void *buffer;                                 /* [EMB_SOURCE_BYTES] */
    emb_text *texts;                              /* [batch * texts] */
    float *labels;                                /* [batch] */
    double *scores, *cosines, *ranks_a, *ranks_b; /* [pairs] */
    uint32_t *order;                              /* [pairs] */
    /* what has come of it */
    emb_train_step first, last;             /* step 0: none was done */
    double spearman_before, spearman_after; /* times 100; NaN: not evaluated */
    double started, seconds;
    uint64_t digest;          /* of examples and options; 0: no checkpoint */
    uint64_t resumed, stored; /* step of the checkpoint: gone on from, last written */
    bool interrupted;
    /* how it is shown */
    bool progress;
    double drawn;
    emb_output log; /* descriptor -1: none */
    emb_writer log_writer;
    bool log_failed;
} emb_train_job;

/* ---- train_report.c -------------------------------------------------------------------------- */

/* Opens the file of --log. Fails: EMB_IO. */
emb_status emb_train_log_open(emb_train_job *job, emb_error *error);
void emb_train_log_close(emb_train_job *job);

/* What is planned, before the work. */
void emb_train_say_plan(const emb_train_job *job);

/* A step was done: job->last. A line of the log, and the moving line. */
void emb_train_show_step(emb_train_job *job);

/* The pairs were evaluated after so many steps. */
void emb_train_show_score(emb_train_job *job, double spearman);

/* The report: as words on standard error, or one JSON object. */
void emb_train_report(const emb_train_job *job);

#endif
