/* train.h - what the files behind `embound train` share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_TRAIN_H
#define EMB_CLI_TRAIN_H

#include "cli/batches.h"
#include "cli/options.h"
#include "cli/train_place.h"
#include "sink/tensorboard.h"
#include "sink/writer.h"

/* What a loss of --loss asks of examples, and which options it has. */
typedef struct emb_train_rule {
    const char *name;
    emb_loss_kind kind;
    emb_examples_kind examples;
    uint32_t texts_least, texts_most; /* of an example in a file; 0: any number */
    uint32_t repeats;                 /* how often a step takes each text */
    uint32_t batch_least;             /* examples of a batch */
    bool has_scale, has_distance;
} emb_train_rule;

/* A teacher's vectors of all texts: in a file without a name, or in that of --teacher. */
typedef struct emb_train_teacher {
    int descriptor; /* -1: none */
    uint32_t width;
    uint64_t offset; /* of the first vector in the file */
} emb_train_teacher;

typedef struct emb_train_job {
    const emb_options *options;
    const emb_train_rule *rule;
    emb_train_loss loss;
    emb_examples examples, pairs; /* pairs: of --eval; without it paths_count is 0 */
    emb_batches batches;
    uint32_t lora_targets; /* 0: not stated */
    emb_classes classes;   /* batch-hard */
    emb_train_teacher teacher;
    emb_train_place place, state; /* the output's, the checkpoint's */
    emb_trainer *trainer;
    emb_train_plan plan;
    uint64_t steps;      /* that are to be done */
    uint32_t accumulate; /* batches of a step */
    uint32_t dim;        /* values of a vector that count */
    /* in the session's block */
    void *buffer;                                 /* [EMB_SOURCE_BYTES] */
    void *class_memory;                           /* of emb_classes_bytes */
    emb_text *texts;                              /* [batch * texts * repeats] */
    float *targets;                               /* of a batch */
    double *scores, *cosines, *ranks_a, *ranks_b; /* [pairs] */
    uint32_t *order;                              /* [pairs] */
    /* what has come of it */
    emb_train_step first, last;             /* step 0: none was done */
    double spearman_before, spearman_after; /* times 100; NaN: not evaluated */
    double best;                            /* of those after a step */
    uint64_t best_step, evaluated;          /* step of the best, of the last; 0: none */
    uint32_t misses;                        /* evaluations since the best */
    uint64_t alike;                         /* batches whose scores are all equal */
    double started, seconds;
    uint64_t digest;           /* of examples and options; 0: no checkpoint */
    uint64_t resumed, stored;  /* step of the checkpoint: gone on from, last written */
    bool interrupted, stopped; /* by a signal or a failure; by --patience */
    /* how it is shown */
    bool progress;
    double drawn;
    emb_output log; /* descriptor -1: none */
    emb_writer log_writer;
    emb_tensorboard events; /* descriptor -1: none */
    bool log_failed;
} emb_train_job;

/* ---- train_check.c --------------------------------------------------------------------------- */

/* Looks the options through, and fills rule, loss and accumulate.
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_train_check(emb_train_job *job, emb_error *error);

/* What the options leave open. */
double emb_train_dropout(const emb_train_job *job);

/* Of the examples, and of the options that change what is learnt from them. */
uint64_t emb_train_digest(const emb_train_job *job);

/* ---- train_teacher.c ------------------------------------------------------------------------- */

/* Finds the width of the vectors of --teacher, which is a model or an .npy file; leaves the session
 * without a model. Fails: as opening it; EMB_BAD_FILE (vectors of another number of texts). */
emb_status emb_train_teacher_measure(emb_train_job *job, emb_session *session, emb_error *error);

/* Encodes all texts with the model of --teacher, in a process of its own, whose memory is gone when
 * the training begins; vectors from a file are there already. The examples were looked through.
 * Fails: what opening the model and encoding give, EMB_IO, EMB_CANCELLED. */
emb_status emb_train_teacher_run(emb_train_job *job, emb_session *session, emb_error *error);

/* Reads the vectors of an example's texts. Fails: EMB_IO. */
emb_status emb_train_teacher_read(const emb_train_job *job, float *vectors, uint32_t row,
                                  emb_error *error);

/* ---- train_report.c -------------------------------------------------------------------------- */

/* Opens the files of --log and --tensorboard. Fails: EMB_IO. */
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
