/* options.h - what the arguments of a command say.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_OPTIONS_H
#define EMB_CLI_OPTIONS_H

#include "common/session.h"
#include "embound_train.h"
#include "sink/registry.h"
#include "source/source.h"

typedef enum emb_cli_command {
    EMB_CLI_PLAN = 1 << 0,
    EMB_CLI_ENCODE = 1 << 1,
    EMB_CLI_TOKENIZE = 1 << 2,
    EMB_CLI_SEARCH = 1 << 3,
    EMB_CLI_EVAL = 1 << 4,
    EMB_CLI_INFO = 1 << 5,
    EMB_CLI_BENCH = 1 << 6,
    EMB_CLI_MONITOR = 1 << 7,
    EMB_CLI_PULL = 1 << 8,
    EMB_CLI_TUNE = 1 << 9,
    EMB_CLI_QUANTIZE = 1 << 10,
    EMB_CLI_TRAIN = 1 << 11,
    EMB_CLI_TRITON_REPO = 1 << 12
} emb_cli_command;

typedef enum emb_cli_progress { EMB_CLI_AUTO, EMB_CLI_ALWAYS, EMB_CLI_NEVER } emb_cli_progress;

#define EMB_CLI_INPUTS_MAX  1024
#define EMB_CLI_QUERIES_MAX 64
#define EMB_CLI_K_MAX       1000

typedef enum emb_cli_optimizer {
    EMB_CLI_ADAMW,
    EMB_CLI_ADAMW8, /* moments in 8 bits */
    EMB_CLI_SGD
} emb_cli_optimizer;

/* As --loss says them, in the order of its words. */
typedef enum emb_cli_loss {
    EMB_CLI_RANKING,
    EMB_CLI_COSENT,
    EMB_CLI_COSINE,
    EMB_CLI_TRIPLET,
    EMB_CLI_SIMCSE,
    EMB_CLI_BATCH_HARD,
    EMB_CLI_DISTILL
} emb_cli_loss;
#define EMB_CLI_LOSS_WORDS "ranking cosent cosine triplet simcse batch-hard distill"

/* Of train alone. */
typedef struct emb_train_settings {
    emb_cli_loss loss;
    emb_schedule schedule;
    emb_distance distance;
    bool symmetric, no_shuffle, no_duplicates, resume, keep_best, nesterov;
    bool adapter_only, layerwise;
    uint32_t optimizer;                                                 /* emb_cli_optimizer */
    uint32_t checkpoint_steps;                                          /* 0: not stated */
    uint32_t batch_size, epochs, steps, warmup_steps, eval_steps, seed; /* 0: not stated */
    uint32_t accumulate, patience;                                      /* 0: not stated */
    double learning_rate, weight_decay, max_grad_norm, warmup_ratio, momentum, layer_decay;
    double scale, margin, dropout; /* below 0: not stated */
    double lora_alpha;             /* below 0: not stated */
    uint32_t lora_rank;            /* 0: no adapters */
    const char *lora_targets;
    const char *eval_path, *eval_columns, *log_path, *checkpoint_path;
    const char *matryoshka, *teacher, *tensorboard_path;
} emb_train_settings;

/* Of triton-repo alone. */
typedef struct emb_triton_repo_settings {
    const char *name;
    uint32_t batch_size;  /* 0: not stated */
    uint32_t queue_delay; /* microseconds */
    uint32_t output;      /* 0: f32, 1: f16, 2: int8 */
} emb_triton_repo_settings;

typedef struct emb_options {
    emb_cli_command command;
    const char *model;
    const char *inputs[EMB_CLI_INPUTS_MAX];
    uint32_t inputs_count;
    const char *words[EMB_CLI_QUERIES_MAX]; /* what stands after MODEL: queries, a table */
    uint32_t words_count;
    const char *output;
    emb_sink_format output_format;
    emb_source_options source;
    emb_session_settings settings;
    const char *prompt_name;
    emb_cli_progress progress;
    const char *stats_path, *machine_path, *save_machine_path;
    char device_problem[328]; /* info: why what EMB_DEVICE says cannot be had */
    bool json, no_specials;
    const char *index_path, *texts_path, *against, *columns, *calibrate;
    uint32_t group, calibrate_tokens;
    bool smooth, force;
    uint32_t k, repeat;
    uint32_t score;       /* 0: cosine, 1: dot */
    bool status;          /* leave a file for `embound monitor` */
    double interval;      /* seconds */
    uint32_t reports_max; /* 0: until it is stopped */
    const char *revision;
    bool offline;
    emb_train_settings train;
    emb_triton_repo_settings triton;
    uint32_t plan_train; /* plan: pairs of a step; 0: not stated */
} emb_options;

#endif
