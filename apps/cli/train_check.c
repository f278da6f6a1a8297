/* train_check.c - what the options of `embound train` say together, loss by loss.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cli/paths.h"
#include "cli/train.h"
#include "fail.h"

/* In the order of emb_cli_loss. */
static const emb_train_rule rules[] = {
    {"ranking", EMB_LOSS_RANKING, EMB_EXAMPLES_GROUPS, 2, 0, 1, 2, true, false},
    {"cosent", EMB_LOSS_COSENT, EMB_EXAMPLES_SCORED, 2, 2, 1, 2, true, false},
    {"cosine", EMB_LOSS_COSINE, EMB_EXAMPLES_COSINES, 2, 2, 1, 1, false, false},
    {"triplet", EMB_LOSS_TRIPLET, EMB_EXAMPLES_GROUPS, 3, 0, 1, 1, false, true},
    {"simcse", EMB_LOSS_RANKING, EMB_EXAMPLES_TEXTS, 1, 1, 2, 2, true, false},
    {"batch-hard", EMB_LOSS_BATCH_HARD, EMB_EXAMPLES_LABELLED, 1, 1, 1, 3, false, true},
    {"distill", EMB_LOSS_DISTILL, EMB_EXAMPLES_TEXTS, 1, 0, 1, 2, false, false}};

double emb_train_dropout(const emb_train_job *job) {
    const emb_train_settings *train = &job->options->train;
    if (train->dropout >= 0) return train->dropout;
    return train->loss == EMB_CLI_SIMCSE ? 0.1 : 0;
}

/* ---- contradictions -------------------------------------------------------------------------- */

/* What is wrong with the loss and its options, or NULL. */
static const char *find_loss_fault(const emb_train_settings *train, const emb_train_rule *rule) {
    bool distills = train->loss == EMB_CLI_DISTILL;
    if (train->symmetric && rule->kind != EMB_LOSS_RANKING)
        return "--symmetric is of --loss ranking alone";
    if (train->scale >= 0 && !rule->has_scale)
        return "--scale is of the losses ranking, simcse and cosent: leave it out";
    if (train->scale == 0) return "--scale must be above 0";
    if ((train->margin >= 0 || train->distance) && !rule->has_distance)
        return "--margin and --distance are of the losses triplet and batch-hard: leave them out";
    if (train->margin == 0) return "--margin must be above 0";
    if (distills && !train->teacher) return "--loss distill needs --teacher MODEL";
    if (!distills && train->teacher) return "--teacher needs --loss distill";
    if (train->loss == EMB_CLI_SIMCSE && train->dropout == 0)
        return "--dropout 0: with --loss simcse the two vectors of a text differ by dropout alone";
    if (rule->kind == EMB_LOSS_BATCH_HARD && train->batch_size <= EMB_CLASSES_TOGETHER)
        return "--batch-size: batch-hard compares texts of several labels in a batch; state 4 or "
               "more";
    if (rule->batch_least > 1 && train->batch_size < 2)
        return "--batch-size 1: this loss compares the examples of a batch; state 2 or more";
    return NULL;
}

static const char *find_eval_fault(const emb_train_settings *train) {
    if (!train->eval_path) {
        if (train->eval_columns) return "--eval-columns needs --eval FILE";
        if (train->eval_steps) return "--eval-steps needs --eval FILE";
        if (train->patience) return "--patience needs --eval FILE and --eval-steps N";
        if (train->keep_best) return "--keep-best needs --eval FILE";
    }
    if (train->patience && !train->eval_steps) return "--patience needs --eval-steps N";
    return NULL;
}

static const char *find_optimizer_fault(const emb_train_settings *train) {
    bool sgd = train->optimizer == EMB_CLI_SGD;
    if (!(train->learning_rate > 0)) return "--learning-rate must be above 0";
    if (!(train->learning_rate < 10)) return "--learning-rate must be below 10";
    if (!(train->layer_decay > 0)) return "--layer-decay must be above 0";
    if (train->momentum > 0 && !sgd) return "--momentum needs --optimizer sgd";
    if (train->nesterov && !(train->momentum > 0)) return "--nesterov needs --momentum";
    if (train->layerwise && train->max_grad_norm > 0) return "--layerwise needs --max-grad-norm 0";
    if (train->layerwise && train->lora_rank)
        return "--layerwise and --lora: state one of them; adapters' gradients are small";
    bool detail = train->lora_alpha >= 0 || train->lora_targets || train->adapter_only;
    if (detail && !train->lora_rank)
        return "--lora-alpha, --lora-targets and --adapter-only need --lora R";
    if (train->lora_alpha == 0) return "--lora-alpha must be above 0";
    return NULL;
}

/* What options contradict, or NULL. */
static const char *find_fault(const emb_options *options, const emb_train_rule *rule) {
    const emb_train_settings *train = &options->train;
    const char *fault;
    if (options->inputs_count == 0) return "no examples: state -i FILE";
    if (!options->output) return "no output: state -o DIR";
    if (strcmp(options->output, "-") == 0) return "-o -: state a directory";
    if (train->epochs && train->steps) return "--epochs and --steps: state one of them";
    if (train->warmup_steps && train->warmup_ratio > 0)
        return "--warmup-steps and --warmup-ratio: state one of them";
    if ((fault = find_loss_fault(train, rule)) != NULL) return fault;
    if ((fault = find_optimizer_fault(train)) != NULL) return fault;
    if ((fault = find_eval_fault(train)) != NULL) return fault;
    if (train->checkpoint_steps && !train->checkpoint_path)
        return "--checkpoint-steps needs --checkpoint FILE";
    if (train->resume && !train->checkpoint_path) return "--resume needs --checkpoint FILE";
    return NULL;
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

/* ---- files ----------------------------------------------------------------------------------- */

/* What is written must be neither an input nor another output. */
static emb_status check_files(const emb_options *options, emb_error *error) {
    const emb_train_settings *train = &options->train;
    const struct {
        const char *option, *path;
    } outputs[] = {{"--log", train->log_path},
                   {"--checkpoint", train->checkpoint_path},
                   {"--tensorboard", train->tensorboard_path}};
    for (size_t i = 0; i < 3; i++) {
        const char *path = outputs[i].path;
        if (path && strcmp(path, "-") == 0)
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s -: state a %s", outputs[i].option,
                                i == 2 ? "directory" : "file");
        EMB_APP_TRY(emb_cli_check_output(path, options->inputs, options->inputs_count, error));
        if (train->eval_path) EMB_APP_TRY(emb_cli_check_output(path, &train->eval_path, 1, error));
        EMB_APP_TRY(emb_cli_check_inside(outputs[i].option, path, options->output, error));
        for (size_t k = 0; path && k < i; k++)
            if (outputs[k].path && emb_output_is_same(path, outputs[k].path))
                return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                    "%s and %s are the same file; choose another name",
                                    outputs[i].option, outputs[k].option);
    }
    return EMB_OK;
}

/* ---- the loss -------------------------------------------------------------------------------- */

static emb_status bad_widths(const char *stated, emb_error *error) {
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "--matryoshka '%.*s': state up to %d widths, each once, such as "
                        "384,256,128 or 384:1,128:0.5",
                        EMB_APP_CUT(stated, 60), EMB_TRAIN_WIDTHS);
}

/* "N,N:W..." */
static emb_status parse_widths(emb_train_loss *loss, const char *stated, emb_error *error) {
    const char *at = stated;
    for (bool more = stated != NULL; more;) {
        uint32_t count = loss->widths_count;
        char *end = NULL;
        bool digits = isdigit((unsigned char)*at) != 0;
        unsigned long width = digits ? strtoul(at, &end, 10) : 0;
        double weight = 1;
        if (count == EMB_TRAIN_WIDTHS || width < 1 || width > 1u << 20)
            return bad_widths(stated, error);
        if (*end == ':') {
            bool number = isdigit((unsigned char)end[1]) || end[1] == '.';
            weight = number ? strtod(end + 1, &end) : -1;
            if (!(weight > 0 && weight <= 1e6)) return bad_widths(stated, error);
        }
        for (uint32_t i = 0; i < count; i++)
            if (loss->widths[i] == width) return bad_widths(stated, error);
        more = *end == ',';
        if (*end && !more) return bad_widths(stated, error);
        loss->widths[count] = (uint32_t)width;
        loss->width_weights[count] = (float)weight;
        loss->widths_count++;
        at = end + 1;
    }
    return EMB_OK;
}

emb_status emb_train_check(emb_train_job *job, emb_error *error) {
    const emb_train_settings *train = &job->options->train;
    job->rule = &rules[train->loss];
    job->accumulate = train->accumulate ? train->accumulate : 1;
    job->loss = (emb_train_loss){.kind = job->rule->kind,
                                 .scale = train->scale > 0 ? (float)train->scale : 20,
                                 .symmetric = train->symmetric,
                                 .distance = train->distance,
                                 .margin = train->margin > 0 ? (float)train->margin : 0};
    const char *fault = find_fault(job->options, job->rule);
    if (fault) return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s", fault);
    EMB_APP_TRY(read_targets(&job->lora_targets, train->lora_targets, error));
    EMB_APP_TRY(parse_widths(&job->loss, train->matryoshka, error));
    return check_files(job->options, error);
}

uint64_t emb_train_digest(const emb_train_job *job) {
    const emb_examples *e = &job->examples;
    const emb_train_settings *t = &job->options->train;
    const emb_limits *limits = &job->options->settings.limits;
    const double numbers[] = {(double)t->loss,         (double)t->schedule,
                              t->learning_rate,        t->weight_decay,
                              t->max_grad_norm,        t->warmup_ratio,
                              (double)t->warmup_steps, emb_train_dropout(job),
                              (double)limits->dtype,   (double)limits->chunk_tokens_max,
                              (double)job->accumulate, t->momentum,
                              (double)t->nesterov,     t->layer_decay};
    uint64_t sum = emb_hash_bytes(EMB_HASH_START, numbers, sizeof numbers);
    sum = emb_hash_bytes(sum, &job->loss, sizeof job->loss);
    if (t->teacher) sum = emb_hash_bytes(sum, t->teacher, strlen(t->teacher));
    for (uint32_t row = 0; row < e->count; row++) {
        for (uint32_t k = 0; k < e->texts; k++) {
            emb_text text = emb_examples_text(e, row, k);
            sum = emb_hash_bytes(sum, &text.length, sizeof text.length);
            sum = emb_hash_bytes(sum, text.data, text.length);
        }
        if (e->scores) sum = emb_hash_bytes(sum, &e->scores[row], sizeof e->scores[row]);
        if (e->classes) sum = emb_hash_bytes(sum, &e->classes[row], sizeof e->classes[row]);
    }
    return sum;
}
