/* train.c - `embound train`: examples from files, steps of the trainer, a model's directory.
 *
 * The files are looked through before anything is planned, so that every fault in them is said at
 * once and the memory is known. All that is kept here lies in one block that the plan has booked.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/train.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "cli/command.h"
#include "cli/line.h"
#include "cli/paths.h"
#include "cli/scores.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"

/* ---- what is asked for ----------------------------------------------------------------------- */

static bool is_ranking(const emb_options *options) {
    return options->train.loss == EMB_LOSS_RANKING;
}

/* What options contradict, or NULL. */
static const char *find_fault(const emb_options *options) {
    const emb_train_settings *train = &options->train;
    bool compares = train->loss != EMB_LOSS_COSINE;
    if (options->inputs_count == 0) return "no examples: state -i FILE";
    if (!options->output) return "no output: state -o DIR";
    if (strcmp(options->output, "-") == 0) return "-o -: state a directory";
    if (train->epochs && train->steps) return "--epochs and --steps: state one of them";
    if (train->warmup_steps && train->warmup_ratio > 0)
        return "--warmup-steps and --warmup-ratio: state one of them";
    if (train->symmetric && !is_ranking(options)) return "--symmetric is of --loss ranking alone";
    if (!(train->scale > 0)) return "--scale must be above 0";
    if (!(train->learning_rate > 0)) return "--learning-rate must be above 0";
    if (!(train->layer_decay > 0)) return "--layer-decay must be above 0";
    if (compares && train->batch_size < 2)
        return "--batch-size 1: this loss compares the examples of a batch; state 2 or more";
    bool sgd = train->optimizer == EMB_CLI_SGD;
    if (train->momentum > 0 && !sgd) return "--momentum needs --optimizer sgd";
    if (train->nesterov && !(train->momentum > 0)) return "--nesterov needs --momentum";
    if (train->layerwise && train->max_grad_norm > 0) return "--layerwise needs --max-grad-norm 0";
    if (train->layerwise && train->lora_rank)
        return "--layerwise and --lora: state one of them; adapters' gradients are small";
    bool detail = train->lora_alpha > 0 || train->lora_targets || train->adapter_only;
    if (detail && !train->lora_rank)
        return "--lora-alpha, --lora-targets and --adapter-only need --lora R";
    if (train->eval_columns && !train->eval_path) return "--eval-columns needs --eval FILE";
    if (train->eval_steps && !train->eval_path) return "--eval-steps needs --eval FILE";
    if (train->checkpoint_steps && !train->checkpoint_path)
        return "--checkpoint-steps needs --checkpoint FILE";
    if (train->resume && !train->checkpoint_path) return "--resume needs --checkpoint FILE";
    return NULL;
}

static emb_status check_options(const emb_options *options, emb_error *error) {
    const emb_train_settings *train = &options->train;
    const char *fault = find_fault(options), *paths[] = {train->eval_path};
    if (fault) return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s", fault);
    const char *checkpoint = train->checkpoint_path;
    EMB_APP_TRY(
        emb_cli_check_output(train->log_path, options->inputs, options->inputs_count, error));
    EMB_APP_TRY(emb_cli_check_output(checkpoint, options->inputs, options->inputs_count, error));
    if (checkpoint && train->log_path && emb_output_is_same(checkpoint, train->log_path))
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "--checkpoint and --log are the same file; choose another name");
    if (!train->eval_path) return EMB_OK;
    EMB_APP_TRY(emb_cli_check_output(checkpoint, paths, 1, error));
    return emb_cli_check_output(train->log_path, paths, 1, error);
}

/* The set that --lora-targets names. */
static emb_status read_targets(uint32_t *set, const char *names, emb_error *error) {
    static const char *const known[] = {"query",  "key",     "value", "attention.out",
                                        "ffn.in", "ffn.out", "all"};
    static const uint32_t sets[] = {
        EMB_LORA_QUERY,  EMB_LORA_KEY,     EMB_LORA_VALUE, EMB_LORA_ATTENTION_OUT,
        EMB_LORA_FFN_IN, EMB_LORA_FFN_OUT, EMB_LORA_ALL};
    *set = 0;
    for (const char *at = names; at;) {
        size_t length = strcspn(at, ","), i = 0, count = sizeof sets / sizeof *sets;
        while (i < count && (strlen(known[i]) != length || memcmp(known[i], at, length) != 0)) i++;
        if (i == count)
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "--lora-targets: '%.*s' is none; there are query, key, value, "
                                "attention.out, ffn.in, ffn.out and all",
                                (int)(length < 40 ? length : 40), at);
        *set |= sets[i];
        at = at[length] ? at + length + 1 : NULL;
    }
    return EMB_OK;
}

/* ---- examples -------------------------------------------------------------------------------- */

static void name_files(emb_train_job *job) {
    const emb_options *options = job->options;
    static const emb_examples_kind kinds[] = {EMB_EXAMPLES_GROUPS, EMB_EXAMPLES_SCORED,
                                              EMB_EXAMPLES_COSINES};
    job->examples = (emb_examples){
        .kind = kinds[options->train.loss],
        .paths = options->inputs,
        .paths_count = options->inputs_count,
        .columns = options->columns,
        .options = options->source,
        .stop_descriptor = emb_signals_descriptor(),
    };
    if (!options->train.eval_path) return;
    bool json = emb_examples_is_json(EMB_SOURCE_AUTO, options->train.eval_path);
    job->pairs = (emb_examples){
        .kind = EMB_EXAMPLES_SCORED,
        .paths = &options->train.eval_path,
        .paths_count = 1,
        .columns = options->train.eval_columns,
        .options = {.delimiter = json ? 0 : options->source.delimiter,
                    .invalid = options->source.invalid},
        .stop_descriptor = emb_signals_descriptor(),
    };
}

static emb_status check_counts(const emb_train_job *job, emb_error *error) {
    const char *path = job->examples.paths[0];
    if (job->examples.count < job->batches.least)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s holds a single example, and this loss compares examples: give "
                            "two or more",
                            EMB_APP_CUT(path, 150));
    if (job->pairs.paths_count && job->pairs.count < 2)
        return emb_app_fail(error, EMB_BAD_FILE, "--eval %.*s: fewer than two pairs",
                            EMB_APP_CUT(job->pairs.paths[0], 150));
    return EMB_OK;
}

/* Looks the files through in memory that is given back before the plan is made. */
static emb_status inspect(emb_train_job *job, emb_session *session, emb_error *error) {
    const emb_train_settings *train = &job->options->train;
    name_files(job);
    session->limits.caller_bytes = EMB_SOURCE_BYTES;
    EMB_APP_TRY(emb_session_open_block(session, error));
    emb_status status = emb_examples_inspect(&job->examples, session->block, error);
    if (status == EMB_OK && job->pairs.paths_count)
        status = emb_examples_inspect(&job->pairs, session->block, error);
    emb_session_close(session);
    if (status != EMB_OK) return status;
    uint32_t count = job->examples.count;
    job->batches = (emb_batches){
        .examples = &job->examples,
        .size = train->batch_size < count ? train->batch_size : count,
        .least = train->loss == EMB_LOSS_COSINE ? 1 : 2,
        .seed = train->seed,
        .shuffles = !train->no_shuffle,
        .no_duplicates = train->no_duplicates,
    };
    uint64_t epochs = train->epochs ? train->epochs : 1;
    job->steps = train->steps ? train->steps : epochs * emb_batches_per_epoch(&job->batches);
    return check_counts(job, error);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Cuts what is kept off the block; without one gives the bytes that it must have. */
static uint64_t bind_job(emb_train_job *job, emb_session *session) {
    uint32_t size = job->batches.size, pairs = job->pairs.count;
    struct {
        void **place;
        uint64_t bytes;
    } parts[] = {
        {&job->buffer, EMB_SOURCE_BYTES},
        {(void **)&job->examples.memory, emb_examples_bytes(&job->examples)},
        {(void **)&job->batches.order, emb_batches_bytes(&job->batches)},
        {(void **)&job->texts, (uint64_t)size * job->examples.texts * sizeof *job->texts},
        {(void **)&job->labels, size * sizeof *job->labels},
        {(void **)&job->pairs.memory, emb_examples_bytes(&job->pairs)},
        {(void **)&job->scores, pairs * sizeof *job->scores},
        {(void **)&job->cosines, pairs * sizeof *job->cosines},
        {(void **)&job->ranks_a, pairs * sizeof *job->ranks_a},
        {(void **)&job->ranks_b, pairs * sizeof *job->ranks_b},
        {(void **)&job->order, pairs * sizeof *job->order},
    };
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (session) *parts[i].place = emb_session_take(session, parts[i].bytes);
        bytes += emb_session_round(parts[i].bytes);
    }
    return bytes;
}

static emb_train_options trainer_options(const emb_train_job *job, uint64_t caller_bytes) {
    const emb_options *options = job->options;
    const emb_train_settings *train = &options->train;
    uint64_t warmup = train->warmup_steps;
    if (train->warmup_ratio > 0) warmup = (uint64_t)ceil((double)job->steps * train->warmup_ratio);
    return (emb_train_options){
        .struct_bytes = sizeof(emb_train_options),
        .loss = {train->loss, (float)train->scale, train->symmetric},
        .batch_examples = job->batches.size,
        .example_texts = job->examples.texts,
        .max_length = options->settings.limits.chunk_tokens_max,
        .threads = options->settings.limits.threads,
        .dtype = options->settings.limits.dtype,
        .optimizer = train->optimizer == EMB_CLI_SGD ? EMB_OPTIMIZER_SGD : EMB_OPTIMIZER_ADAMW,
        .optimizer_bits = train->optimizer == EMB_CLI_ADAMW8 ? 8 : 32,
        .lora = {.rank = train->lora_rank,
                 .targets = job->lora_targets,
                 .alpha = (float)train->lora_alpha},
        .layerwise = train->layerwise,
        .momentum = (float)train->momentum,
        .nesterov = train->nesterov,
        .layer_decay = (float)train->layer_decay,
        .seed = train->seed,
        .dropout = (float)train->dropout,
        .attention_dropout = (float)train->dropout,
        .learning_rate = (float)train->learning_rate,
        .weight_decay = (float)train->weight_decay,
        .clip_norm = (float)train->max_grad_norm,
        .schedule = train->schedule,
        .steps = job->steps,
        .warmup_steps = warmup,
        .host_bytes_max = options->settings.limits.host_bytes_max,
        .caller_bytes = caller_bytes,
        .device_bytes_max = options->settings.limits.device_bytes_max,
    };
}

/* On a GPU if one is there; with --device auto the CPU takes over what a GPU cannot do. */
static emb_status open_trainer(emb_train_job *job, const emb_session *session,
                               const emb_train_options *how, emb_error *error) {
    const emb_device_list *devices = &job->options->settings.devices;
    emb_train_options on_gpu = *how;
    on_gpu.machine = &session->machine;
    if (devices->count > 1)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "--device: one GPU trains; state cuda:%u",
                            devices->indices[0]);
    if (session->machine.devices_count == 0) {
        if (session->machine.device_notice)
            emb_app_say("training on the CPU: %s", session->machine.device_reason);
        return emb_trainer_open(&job->trainer, session->model, how, error);
    }
    emb_status status = emb_trainer_open(&job->trainer, session->model, &on_gpu, error);
    bool can = status == EMB_UNSUPPORTED && devices->kind == EMB_DEVICE_AUTO;
    if (!can || how->device_bytes_max) return status;
    emb_app_say("training on the CPU: %.*s", EMB_APP_CUT(error->message, 300));
    return emb_trainer_open(&job->trainer, session->model, how, error);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* What must be the same for batches to come as they did. */
static emb_train_mark mark_of(const emb_train_job *job) {
    const emb_batches *b = &job->batches;
    uint64_t how = (uint64_t)b->shuffles << 1 | (uint64_t)b->no_duplicates;
    return (emb_train_mark){.numbers = {job->last.step, job->examples.count, b->size, how, b->seed,
                                        job->steps, job->digest}};
}

/* Of the examples, and of the options that change what is learnt from them. */
static uint64_t digest_job(const emb_train_job *job) {
    const emb_examples *e = &job->examples;
    const emb_train_settings *t = &job->options->train;
    const emb_limits *limits = &job->options->settings.limits;
    const double numbers[] = {
        (double)t->loss,  (double)t->schedule,   (double)t->symmetric,
        t->scale,         t->learning_rate,      t->weight_decay,
        t->max_grad_norm, t->warmup_ratio,       (double)t->warmup_steps,
        t->dropout,       (double)limits->dtype, (double)limits->chunk_tokens_max,
        t->momentum,      (double)t->nesterov,   t->layer_decay};
    uint64_t sum = emb_hash_bytes(EMB_HASH_START, numbers, sizeof numbers);
    for (uint32_t row = 0; row < e->count; row++) {
        for (uint32_t k = 0; k < e->texts; k++) {
            emb_text text = emb_examples_text(e, row, k);
            sum = emb_hash_bytes(sum, &text.length, sizeof text.length);
            sum = emb_hash_bytes(sum, text.data, text.length);
        }
        if (e->scores) sum = emb_hash_bytes(sum, &e->scores[row], sizeof e->scores[row]);
    }
    return sum;
}

static emb_status store(emb_train_job *job, emb_error *error) {
    const char *path = job->options->train.checkpoint_path;
    emb_train_mark mark = mark_of(job);
    if (!path || job->stored == job->last.step) return EMB_OK;
    job->stored = job->last.step;
    return emb_trainer_store(job->trainer, path, &mark, error);
}

/* Goes on where the checkpoint was written: batches that were taken are passed by. */
static emb_status resume(emb_train_job *job, emb_error *error) {
    const char *path = job->options->train.checkpoint_path;
    emb_train_mark found, mine;
    if (!job->options->train.resume) return EMB_OK;
    emb_status status = emb_trainer_resume(&found, job->trainer, path, error);
    if (status == EMB_NOT_FOUND) return EMB_OK; /* the first run of a job that resumes */
    if (status != EMB_OK) return status;
    job->last.step = found.numbers[0];
    mine = mark_of(job);
    if (memcmp(&mine, &found, sizeof mine) != 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%.*s: is of other examples or options; state the same",
                            EMB_APP_CUT(path, 150));
    for (uint64_t n = 0; n < job->last.step; n++) emb_batches_next(&job->batches);
    job->stored = job->resumed = job->last.step;
    return EMB_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Opens what can fail quickly before what takes long; the output among it, which is written last.
 */
static emb_status open_job(emb_train_job *job, emb_session *session, emb_error *error) {
    uint64_t page = session->machine.page_bytes ? session->machine.page_bytes : 4096;
    EMB_APP_TRY(emb_session_open_model(session, job->options->model, error));
    job->dim = session->info.truncate_dim ? session->info.truncate_dim : session->info.dim;
    uint64_t bytes = (bind_job(job, NULL) + page - 1) / page * page;
    session->limits.caller_bytes = bytes;
    emb_train_options how = trainer_options(job, bytes);
    EMB_APP_TRY(open_trainer(job, session, &how, error));
    emb_trainer_plan(&job->plan, job->trainer);
    EMB_APP_TRY(emb_session_open_block(session, error));
    bind_job(job, session);
    emb_batches_bind(&job->batches, job->batches.order);
    EMB_APP_TRY(emb_examples_read(&job->examples, job->examples.memory, job->buffer, error));
    if (job->pairs.paths_count)
        EMB_APP_TRY(emb_examples_read(&job->pairs, job->pairs.memory, job->buffer, error));
    emb_batches_begin(&job->batches, 0);
    if (job->options->train.checkpoint_path) job->digest = digest_job(job);
    return resume(job, error);
}

/* The model is written last: whether it can be is seen before the work. */
static emb_status open_outputs(emb_train_job *job, emb_error *error) {
    const emb_options *options = job->options;
    EMB_APP_TRY(emb_trainer_try_save(job->trainer, options->output, options->force, error));
    if (job->resumed == 0) { /* shows whether it can be written */
        job->stored = UINT64_MAX;
        EMB_APP_TRY(store(job, error));
    }
    return emb_train_log_open(job, error);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* As many pairs at once as a batch has texts for. */
static emb_status take_cosines(emb_train_job *job, uint32_t begin, uint32_t count, uint32_t width,
                               emb_error *error) {
    const float *vectors;
    for (uint32_t i = 0; i < 2 * count; i++)
        job->texts[i] = emb_examples_text(&job->pairs, begin + i / 2, i % 2);
    EMB_APP_TRY(emb_trainer_encode(&vectors, job->trainer, job->texts, 2 * count, error));
    for (uint32_t i = 0; i < count; i++) {
        const float *first = vectors + (size_t)2 * i * width;
        double value = emb_scores_cosine(first, first + width, job->dim);
        job->cosines[begin + i] = isnan(value) ? 0 : value; /* of a text without any token */
    }
    return EMB_OK;
}

/* Gives the Spearman correlation, times 100, of the model as it is; NaN if there is nothing to
 * evaluate or a signal has come. */
static emb_status evaluate(emb_train_job *job, const emb_session *session, double *spearman,
                           emb_error *error) {
    uint32_t pairs = job->pairs.count, most = job->batches.size * job->examples.texts / 2;
    *spearman = NAN;
    for (uint32_t begin = 0; begin < pairs; begin += most) {
        uint32_t count = pairs - begin < most ? pairs - begin : most;
        if (emb_signals_received()) return EMB_OK;
        EMB_APP_TRY(take_cosines(job, begin, count, session->info.dim, error));
    }
    if (!pairs) return EMB_OK;
    for (uint32_t i = 0; i < pairs; i++) job->scores[i] = job->pairs.scores[i];
    *spearman = 100 * emb_scores_spearman(job->scores, job->cosines, pairs, job->ranks_a,
                                          job->ranks_b, job->order);
    emb_train_show_score(job, *spearman);
    return EMB_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static emb_status take_step(emb_train_job *job, emb_error *error) {
    const emb_examples *examples = &job->examples;
    uint32_t count = emb_batches_next(&job->batches), texts = examples->texts;
    if (count == 0)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "no two examples can stand in one batch: each shares a text with all "
                            "others; leave out --no-duplicates");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = job->batches.rows[i];
        for (uint32_t k = 0; k < texts; k++)
            job->texts[(size_t)i * texts + k] = emb_examples_text(examples, row, k);
        if (examples->scores) job->labels[i] = examples->scores[row];
    }
    EMB_APP_TRY(emb_trainer_step(&job->last, job->trainer, job->texts,
                                 examples->scores ? job->labels : NULL, count, error));
    if (job->first.step == 0) job->first = job->last;
    emb_train_show_step(job);
    return EMB_OK;
}

/* All steps, until a signal comes. */
static emb_status take_steps(emb_train_job *job, const emb_session *session, emb_error *error) {
    uint32_t every = job->options->train.eval_steps;
    uint32_t stated = job->options->train.checkpoint_steps, often = stated ? stated : 100;
    job->started = emb_app_seconds();
    while (job->last.step < job->steps && !emb_signals_received()) {
        EMB_APP_TRY(take_step(job, error));
        bool now = every && job->last.step % every == 0 && job->last.step < job->steps;
        if (now) EMB_APP_TRY(evaluate(job, session, &job->spearman_after, error));
        if (job->last.step % often == 0) EMB_APP_TRY(store(job, error));
    }
    return EMB_OK;
}

/* What was trained is kept, whatever ended it: after a signal or a failed step the parameters are
 * those of the last good one. Gives an exit code. */
static int finish(emb_train_job *job, const emb_session *session, emb_status status,
                  emb_error *error) {
    const emb_options *options = job->options;
    int signal = emb_signals_received(), code = EMB_EXIT_OK;
    emb_error again = {0};
    emb_output_set_stop(-1); /* what is left to say is short, whatever signal has come */
    job->seconds = emb_app_seconds() - job->started;
    job->interrupted = job->last.step < job->steps;
    if (status == EMB_OK && job->last.step > job->resumed) status = store(job, error);
    if (status == EMB_OK && !signal) status = evaluate(job, session, &job->spearman_after, error);
    if (job->interrupted) job->spearman_after = NAN; /* of an earlier step */
    if (job->progress) emb_line_show("");
    if (status != EMB_OK) code = emb_exit_say(status, error);
    signal = emb_signals_received();
    if (job->interrupted && signal) code = 128 + signal;
    if (job->last.step == job->resumed && job->interrupted) {
        if (signal) emb_app_say("interrupted before the first step: nothing was written");
        return code;
    }
    if (job->first.step == 0) emb_app_say("all steps had been taken already");
    status = (options->train.adapter_only ? emb_trainer_save_adapter : emb_trainer_save)(
        job->trainer, options->output, options->force, &again);
    if (status != EMB_OK) return emb_exit_say(status, &again);
    if (job->interrupted)
        emb_app_say("%s after step %llu of %llu; %.*s holds the model as it was then",
                    signal ? "interrupted" : "ended", (unsigned long long)job->last.step,
                    (unsigned long long)job->steps, EMB_APP_CUT(options->output, 400));
    emb_train_report(job);
    return code == EMB_EXIT_OK && job->log_failed ? EMB_EXIT_OUTPUT : code;
}

static int run_job(emb_train_job *job, const emb_session *session) {
    emb_error error = {0};
    emb_signals_set_busy(true);
    if (!job->options->settings.quiet) emb_train_say_plan(job);
    emb_status status = evaluate(job, session, &job->spearman_before, &error);
    job->started = emb_app_seconds();
    if (status == EMB_OK) status = take_steps(job, session, &error);
    int code = finish(job, session, status, &error);
    emb_signals_set_busy(false);
    return code;
}

int emb_command_train(emb_session *session, emb_options *options) {
    static emb_train_job job;
    emb_error error = {0};
    job.options = options;
    job.log.descriptor = -1;
    job.spearman_before = job.spearman_after = NAN;
    job.progress = emb_line_is_wanted(options);
    emb_status status = check_options(options, &error), opened = EMB_OK;
    if (status == EMB_OK)
        status = read_targets(&job.lora_targets, options->train.lora_targets, &error);
    if (status == EMB_OK) status = inspect(&job, session, &error);
    if (status == EMB_OK) status = open_job(&job, session, &error);
    if (status == EMB_OK) status = opened = open_outputs(&job, &error);
    int code = status == EMB_OK ? run_job(&job, session)
                                : emb_session_fail(session, &options->settings, status, &error);
    if (opened == EMB_IO) code = EMB_EXIT_CREATE;
    emb_train_log_close(&job);
    emb_trainer_close(job.trainer);
    return code;
}
