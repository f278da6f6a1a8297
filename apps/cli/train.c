/* train.c - `embound train`: examples from files, steps of the trainer, a model's directory.
 *
 * The files are looked through before anything is planned, so that every fault in them is said at
 * once and the memory is known. All that is kept here lies in one block that the plan has booked.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/train.h"

#include <math.h>
#include <string.h>

#include <sys/stat.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/line.h"
#include "cli/scores.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"

/* ---- examples -------------------------------------------------------------------------------- */

static void name_files(emb_train_job *job) {
    const emb_options *options = job->options;
    job->examples = (emb_examples){
        .kind = job->rule->examples,
        .texts_least = job->rule->texts_least,
        .texts_most = job->rule->texts_most,
        .paths = options->inputs,
        .paths_count = options->inputs_count,
        .columns = options->columns,
        .columns_option = "--columns",
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
        .columns_option = "--eval-columns",
        .options = {.delimiter = json ? 0 : options->source.delimiter,
                    .invalid = options->source.invalid},
        .stop_descriptor = emb_signals_descriptor(),
    };
}

static emb_status check_counts(const emb_train_job *job, emb_error *error) {
    const char *path = job->examples.paths[0];
    const emb_examples *examples = &job->examples;
    uint32_t warmup = job->options->train.warmup_steps;
    if (examples->count < job->batches.least)
        return emb_app_fail(
            error, EMB_BAD_FILE, "%.*s holds %s, and this loss compares examples: give %s or more",
            EMB_APP_CUT(path, 150), examples->count == 1 ? "a single example" : "two examples",
            job->batches.least == 2 ? "two" : "three");
    if (job->loss.kind == EMB_LOSS_COSENT && examples->lowest == examples->highest)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s: all scores are %g, and cosent learns from their order alone: "
                            "give pairs with different scores, or use --loss cosine",
                            EMB_APP_CUT(path, 120), examples->lowest);
    if (job->pairs.paths_count && job->pairs.count < 2)
        return emb_app_fail(error, EMB_BAD_FILE, "--eval %.*s: fewer than two pairs",
                            EMB_APP_CUT(job->pairs.paths[0], 150));
    if (job->pairs.paths_count && job->pairs.lowest == job->pairs.highest)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "--eval %.*s: all scores are %g, and Spearman compares their order: "
                            "give pairs with different scores",
                            EMB_APP_CUT(job->pairs.paths[0], 120), job->pairs.lowest);
    if (warmup > job->steps)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "--warmup-steps %u: the training has %llu step%s", warmup,
                            (unsigned long long)job->steps, job->steps == 1 ? "" : "s");
    return EMB_OK;
}

/* Whether labels can be learnt from. */
static emb_status sort_classes(emb_train_job *job, emb_error *error) {
    const char *path = job->examples.paths[0];
    if (!job->examples.classes) return EMB_OK;
    emb_classes_bind(&job->classes, job->class_memory);
    emb_classes_sort(&job->classes, job->examples.classes);
    if (job->classes.classes == 1)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s: all texts have the same label: give some with another",
                            EMB_APP_CUT(path, 150));
    if (job->classes.classes > 1u << 24) /* their numbers are floats of the trainer */
        return emb_app_fail(error, EMB_BAD_FILE, "%.*s: more than %u labels",
                            EMB_APP_CUT(path, 150), 1u << 24);
    if (job->classes.pairs == 0)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s: no two texts have the same label, and this loss compares those",
                            EMB_APP_CUT(path, 150));
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
        .least = job->rule->batch_least,
        .seed = train->seed,
        .shuffles = !train->no_shuffle,
        .no_duplicates = train->no_duplicates,
    };
    if (job->rule->examples == EMB_EXAMPLES_LABELLED) {
        job->classes.count = count;
        job->batches.classes = &job->classes;
    }
    uint64_t batches = (train->epochs ? train->epochs : 1) * emb_batches_per_epoch(&job->batches);
    job->steps = train->steps ? train->steps : (batches + job->accumulate - 1) / job->accumulate;
    return check_counts(job, error);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Texts of a batch, as the trainer takes them. */
static uint64_t texts_of_batch(const emb_train_job *job) {
    return (uint64_t)job->batches.size * job->examples.texts * job->rule->repeats;
}

/* A score or class an example, or a teacher's vector a text. */
static uint64_t targets_of_batch(const emb_train_job *job) {
    return job->teacher.width ? texts_of_batch(job) * job->teacher.width : job->batches.size;
}

/* Cuts what is kept off the block; without one gives the bytes that it must have. */
static uint64_t bind_job(emb_train_job *job, emb_session *session) {
    uint32_t pairs = job->pairs.count;
    struct {
        void **place;
        uint64_t bytes;
    } parts[] = {
        {&job->buffer, EMB_SOURCE_BYTES},
        {(void **)&job->examples.memory, emb_examples_bytes(&job->examples)},
        {(void **)&job->batches.order, emb_batches_bytes(&job->batches)},
        {&job->class_memory, job->classes.count ? emb_classes_bytes(&job->classes) : 0},
        {(void **)&job->texts, texts_of_batch(job) * sizeof *job->texts},
        {(void **)&job->targets, targets_of_batch(job) * sizeof *job->targets},
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
        .loss = job->loss,
        .batch_examples = job->batches.size,
        .example_texts = job->examples.texts * job->rule->repeats,
        .max_length = options->settings.limits.chunk_tokens_max,
        .threads = options->settings.limits.threads,
        .dtype = options->settings.limits.dtype,
        .optimizer = train->optimizer == EMB_CLI_SGD ? EMB_OPTIMIZER_SGD : EMB_OPTIMIZER_ADAMW,
        .optimizer_bits = train->optimizer == EMB_CLI_ADAMW8 ? 8 : 32,
        .lora = {.rank = train->lora_rank,
                 .targets = job->lora_targets,
                 .alpha = train->lora_alpha > 0 ? (float)train->lora_alpha : 0},
        .layerwise = train->layerwise,
        .momentum = (float)train->momentum,
        .nesterov = train->nesterov,
        .layer_decay = (float)train->layer_decay,
        .seed = train->seed,
        .dropout = (float)emb_train_dropout(job),
        .attention_dropout = (float)emb_train_dropout(job),
        .learning_rate = (float)train->learning_rate,
        .weight_decay = (float)train->weight_decay,
        .clip_norm = (float)train->max_grad_norm,
        .schedule = train->schedule,
        .steps = job->steps,
        .warmup_steps = warmup,
        .accumulate = job->accumulate,
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
                                        job->steps, job->digest},
                            .values = {job->best, (double)job->best_step, job->misses}};
}

static emb_status store(emb_train_job *job, emb_error *error) {
    const char *path = job->options->train.checkpoint_path;
    emb_train_mark mark = mark_of(job);
    if (!path || job->stored == job->last.step) return EMB_OK;
    EMB_APP_TRY(emb_trainer_store(job->trainer, path, &mark, error));
    job->stored = job->last.step;
    return EMB_OK;
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
    if (memcmp(mine.numbers, found.numbers, sizeof mine.numbers) != 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%.*s: is of other examples or options; state the same",
                            EMB_APP_CUT(path, 150));
    job->best = found.values[0];
    job->best_step = (uint64_t)found.values[1];
    job->misses = (uint32_t)found.values[2];
    for (uint64_t n = 0; n < job->last.step * job->accumulate; n++) emb_batches_next(&job->batches);
    job->stored = job->resumed = job->last.step;
    return EMB_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What is written is held from here on against another training. */
static emb_status take_places(emb_train_job *job, emb_error *error) {
    const char *checkpoint = job->options->train.checkpoint_path;
    EMB_APP_TRY(emb_train_place_take(&job->place, job->options->output, error));
    return checkpoint ? emb_train_place_take_file(&job->state, checkpoint, error) : EMB_OK;
}

/* Whether the training fits the budget, before the teacher's long work; it takes nothing. */
static emb_status check_budget(const emb_train_job *job, const emb_session *session,
                               uint64_t caller_bytes, emb_error *error) {
    emb_train_options how = trainer_options(job, caller_bytes);
    uint64_t most = how.host_bytes_max;
    emb_trainer *none = NULL;
    how.host_bytes_max = 1;
    emb_status status = emb_trainer_open(&none, session->model, &how, error);
    return status == EMB_BUDGET && (!most || error->bytes_min <= most) ? EMB_OK : status;
}

/* Opens what can fail quickly before what takes long; the output among it, which is written last.
 */
static emb_status open_job(emb_train_job *job, emb_session *session, emb_error *error) {
    uint64_t page = session->machine.page_bytes ? session->machine.page_bytes : 4096;
    EMB_APP_TRY(emb_train_teacher_measure(job, session, error));
    EMB_APP_TRY(emb_session_open_model(session, job->options->model, error));
    job->dim = session->info.truncate_dim ? session->info.truncate_dim : session->info.dim;
    uint64_t bytes = (bind_job(job, NULL) + page - 1) / page * page;
    if (job->options->train.teacher) {
        EMB_APP_TRY(check_budget(job, session, bytes, error));
        EMB_APP_TRY(emb_train_teacher_run(job, session, error));
    }
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
    EMB_APP_TRY(sort_classes(job, error));
    emb_batches_begin(&job->batches, 0);
    if (job->options->train.checkpoint_path) job->digest = emb_train_digest(job);
    return resume(job, error);
}

/* The model is written last: whether it can be is seen before the work. */
static emb_status open_outputs(emb_train_job *job, emb_error *error) {
    const emb_options *options = job->options;
    EMB_APP_TRY(emb_trainer_try_save(job->trainer, options->output, options->force, error));
    if (job->resumed == 0) EMB_APP_TRY(store(job, error)); /* shows whether it can be written */
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
    uint32_t pairs = job->pairs.count, most = (uint32_t)(texts_of_batch(job) / 2);
    *spearman = NAN;
    for (uint32_t begin = 0; begin < pairs; begin += most) {
        uint32_t count = pairs - begin < most ? pairs - begin : most;
        if (emb_signals_received()) return EMB_OK;
        EMB_APP_TRY(take_cosines(job, begin, count, session->info.dim, error));
    }
    if (!pairs) return EMB_OK;
    job->evaluated = job->last.step;
    for (uint32_t i = 0; i < pairs; i++) job->scores[i] = job->pairs.scores[i];
    *spearman = 100 * emb_scores_spearman(job->scores, job->cosines, pairs, job->ranks_a,
                                          job->ranks_b, job->order);
    emb_train_show_score(job, *spearman);
    return EMB_OK;
}

/* Writes the model to its place, which stays held. */
static emb_status save(emb_train_job *job, emb_error *error) {
    const emb_options *options = job->options;
    bool ours = options->train.keep_best && job->best_step > job->resumed;
    EMB_APP_TRY((options->train.adapter_only ? emb_trainer_save_adapter : emb_trainer_save)(
        job->trainer, options->output, options->force || ours, error));
    emb_train_place_renew(&job->place);
    return EMB_OK;
}

/* Evaluates after a step: is it the best so far? */
static emb_status judge(emb_train_job *job, const emb_session *session, emb_error *error) {
    EMB_APP_TRY(evaluate(job, session, &job->spearman_after, error));
    if (isnan(job->spearman_after)) return EMB_OK;
    if (job->best_step && job->spearman_after <= job->best) {
        job->misses++;
        return EMB_OK;
    }
    if (job->options->train.keep_best) EMB_APP_TRY(save(job, error));
    job->best = job->spearman_after;
    job->best_step = job->last.step;
    job->misses = 0;
    return EMB_OK;
}

/* Whether the place holds the best model, and no other is to be written there. */
static bool best_is_there(const emb_train_job *job) {
    char path[1024];
    struct stat about;
    if (!job->options->train.keep_best || !job->best_step) return false;
    if (job->best_step > job->resumed) return true;
    int length = snprintf(path, sizeof path, "%s/embound_training.json", job->options->output);
    return length > 0 && (size_t)length < sizeof path && stat(path, &about) == 0;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static emb_status fill_targets(emb_train_job *job, uint32_t count, emb_error *error) {
    const emb_examples *examples = &job->examples;
    bool alike = job->loss.kind == EMB_LOSS_COSENT;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = job->batches.rows[i];
        if (examples->scores) job->targets[i] = examples->scores[row];
        if (examples->classes) job->targets[i] = (float)job->classes.numbers[row];
        alike = alike && job->targets[i] == job->targets[0];
        if (!job->options->train.teacher) continue;
        float *vectors = job->targets + (size_t)i * examples->texts * job->teacher.width;
        EMB_APP_TRY(emb_train_teacher_read(job, vectors, row, error));
    }
    job->alike += alike;
    return EMB_OK;
}

static emb_status take_batch(emb_train_job *job, emb_train_step *out, emb_error *error) {
    uint32_t count = emb_batches_next(&job->batches), texts = job->examples.texts, at = 0;
    if (count == 0)
        return emb_app_fail(error, EMB_BAD_FILE,
                            "no two examples can stand in one batch: each shares a text with all "
                            "others; leave out --no-duplicates");
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < texts * job->rule->repeats; k++)
            job->texts[at++] = emb_examples_text(&job->examples, job->batches.rows[i], k % texts);
    EMB_APP_TRY(fill_targets(job, count, error));
    return emb_trainer_step(out, job->trainer, job->texts, job->targets, count, error);
}

/* A step of one batch, or of several: then its loss is their mean. */
static emb_status take_step(emb_train_job *job, emb_error *error) {
    emb_train_step sum = {.loss = 0}, part;
    do {
        EMB_APP_TRY(take_batch(job, &part, error));
        sum.loss += part.loss / job->accumulate;
        sum.tokens += part.tokens;
        sum.truncated += part.truncated;
        sum.seconds += part.seconds;
    } while (!part.updated);
    part.loss = sum.loss;
    part.tokens = sum.tokens;
    part.truncated = sum.truncated;
    part.seconds = sum.seconds;
    job->last = part;
    if (job->first.step == 0) job->first = job->last;
    emb_train_show_step(job);
    return EMB_OK;
}

static bool has_lost_patience(const emb_train_job *job) {
    uint32_t patience = job->options->train.patience;
    return patience && job->misses >= patience;
}

/* All steps, until a signal comes, or the model does not get better. */
static emb_status take_steps(emb_train_job *job, const emb_session *session, emb_error *error) {
    uint32_t every = job->options->train.eval_steps;
    uint32_t stated = job->options->train.checkpoint_steps, often = stated ? stated : 100;
    job->started = emb_app_seconds();
    while (job->last.step < job->steps && !emb_signals_received() && !has_lost_patience(job)) {
        EMB_APP_TRY(take_step(job, error));
        bool now = every && job->last.step % every == 0 && job->last.step < job->steps;
        if (now) EMB_APP_TRY(judge(job, session, error));
        if (job->last.step % often == 0) EMB_APP_TRY(store(job, error));
    }
    return EMB_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* What there is to go on from, after a failure. */
static void say_checkpoint(const emb_train_job *job) {
    const char *path = job->options->train.checkpoint_path;
    if (!path || job->stored == UINT64_MAX) return;
    emb_app_say("--checkpoint %.*s is whole, as of step %llu", EMB_APP_CUT(path, 200),
                (unsigned long long)job->stored);
}

static void say_end(const emb_train_job *job, bool kept) {
    const char *output = job->options->output;
    bool signal = emb_signals_received() != 0;
    if (job->stopped)
        emb_app_say("ended after step %llu of %llu: %u evaluations without a better one",
                    (unsigned long long)job->last.step, (unsigned long long)job->steps,
                    job->misses);
    if (kept)
        emb_app_say("%.*s holds the model after step %llu, the best: Spearman %.2f",
                    EMB_APP_CUT(output, 400), (unsigned long long)job->best_step, job->best);
    if (job->interrupted)
        emb_app_say("%s after step %llu of %llu%s%.*s%s", signal ? "interrupted" : "ended",
                    (unsigned long long)job->last.step, (unsigned long long)job->steps,
                    kept ? "" : "; ", EMB_APP_CUT(kept ? "" : output, 400),
                    kept ? "" : " holds the model as it was then");
}

/* What was trained is kept, whatever ended it: after a signal or a failed step the parameters are
 * those of the last good one. Gives an exit code. */
static int finish(emb_train_job *job, const emb_session *session, emb_status status,
                  emb_error *error) {
    int signal = emb_signals_received(), code = EMB_EXIT_OK;
    emb_error again = {0};
    emb_output_set_stop(-1); /* what is left to say is short, whatever signal has come */
    job->seconds = emb_app_seconds() - job->started;
    job->stopped = has_lost_patience(job) && job->last.step < job->steps;
    job->interrupted = job->last.step < job->steps && !job->stopped;
    bool judged = job->evaluated == job->last.step;
    if (status == EMB_OK && !signal && !judged) status = judge(job, session, error);
    if (status == EMB_OK && job->last.step > job->resumed) status = store(job, error);
    if (job->interrupted) job->spearman_after = NAN; /* of an earlier step */
    if (job->progress) emb_line_show("");
    if (status != EMB_OK) code = emb_exit_say(status, error);
    if (status != EMB_OK) say_checkpoint(job);
    signal = emb_signals_received();
    if (job->interrupted && signal) code = 128 + signal;
    if (job->last.step == job->resumed && job->interrupted) {
        if (signal) emb_app_say("interrupted before the first step: nothing was written");
        return code;
    }
    if (job->first.step == 0) emb_app_say("all steps had been taken already");
    bool kept = best_is_there(job);
    status = kept ? EMB_OK : save(job, &again);
    if (status != EMB_OK) return emb_exit_say(status, &again);
    say_end(job, kept);
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
    job.log.descriptor = job.events.descriptor = job.teacher.descriptor = -1;
    job.place.descriptor = job.state.descriptor = -1;
    job.stored = UINT64_MAX;
    job.spearman_before = job.spearman_after = job.best = NAN;
    job.progress = emb_line_is_wanted(options);
    emb_status status = emb_train_check(&job, &error), opened = EMB_OK;
    if (status == EMB_OK) status = inspect(&job, session, &error);
    if (status == EMB_OK) status = opened = take_places(&job, &error);
    if (status == EMB_OK) status = open_job(&job, session, &error);
    if (status == EMB_OK) status = opened = open_outputs(&job, &error);
    int code = status == EMB_OK ? run_job(&job, session)
                                : emb_session_fail(session, &options->settings, status, &error);
    if (opened == EMB_IO) code = EMB_EXIT_CREATE;
    emb_train_log_close(&job);
    emb_trainer_close(job.trainer);
    emb_train_place_release(&job.state);
    emb_train_place_release(&job.place);
    return code;
}
