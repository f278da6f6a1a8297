/* check_train.c - a training on a GPU beside the same on the CPU: vectors, gradients, the losses of
 * some steps; and speed of steps over random ids.
 *
 *   check_train MODEL             vectors, gradients and losses, against the CPU's f32
 *   check_train MODEL gpus N      gradients and losses of N GPUs, against those of one
 *   check_train MODEL bench PAIRS LENGTH BITS STEPS GPU_MIB [N]
 *                                 times steps (GPU_MIB 0: what is free), on one GPU and, with N,
 *                                 on N GPUs beside it
 *
 * Lines of JSON. Reads the trainer's own state, so it is linked with the core.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/process.h"
#include "train/trainer.h"

static int failures;

static void need(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "check_train: %s\n", what);
    exit(1);
}

/* Random ids of random lengths up to `length`. */
static emb_text *make_texts(const emb_model *model, uint32_t count, uint32_t length, bool equal) {
    emb_text *texts = calloc(count, sizeof *texts);
    uint32_t specials = model->text.specials.before + model->text.specials.after;
    uint32_t first = model->shape.vocabulary > 2000 ? 1000 : 10; /* behind special tokens */
    need(texts != NULL, "no memory");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t most = length - specials;
        uint32_t tokens = equal ? most : 1 + (uint32_t)(emb_hash_mix(11, i) % most);
        uint32_t *ids = calloc(tokens, sizeof *ids);
        need(ids != NULL, "no memory");
        for (uint32_t k = 0; k < tokens; k++)
            ids[k] = first + (uint32_t)(emb_hash_mix(i + 1, k) % (model->shape.vocabulary - first));
        /* a positive shares most of its anchor's ids */
        for (uint32_t k = 0; i % 2 && k < tokens && k < texts[i - 1].length; k++)
            if (k % 4) ids[k] = ((const uint32_t *)texts[i - 1].data)[k];
        texts[i] = (emb_text){.data = ids, .length = tokens, .is_ids = 1};
    }
    return texts;
}

static emb_train_options options_of(const emb_machine *machine, uint32_t pairs, uint32_t length) {
    return (emb_train_options){.struct_bytes = sizeof(emb_train_options),
                               .batch_examples = pairs,
                               .example_texts = 2,
                               .max_length = length,
                               .learning_rate = 2e-5f,
                               .schedule = EMB_SCHEDULE_CONSTANT,
                               .clip_norm = 1,
                               .machine = machine};
}

static emb_trainer *open_trainer(const emb_model *model, const emb_train_options *options) {
    emb_error error = {0};
    emb_trainer *trainer;
    emb_status status = emb_trainer_open(&trainer, model, options, &error);
    if (status != EMB_OK) fprintf(stderr, "%s\n", error.message);
    need(status == EMB_OK, "cannot open a trainer");
    return trainer;
}

static emb_train_step step(emb_trainer *trainer, const emb_text *texts, uint32_t examples) {
    emb_error error = {0};
    emb_train_step out;
    emb_status status = emb_trainer_step(&out, trainer, texts, NULL, examples, &error);
    if (status != EMB_OK) fprintf(stderr, "%s\n", error.message);
    need(status == EMB_OK, "a step failed");
    return out;
}

static void judge(const char *what, const char *form, double error, double most) {
    bool good = error <= most;
    failures += !good;
    printf("{\"check\": \"%s\", \"form\": \"%s\", \"error\": %.3g, \"most\": %.3g, \"ok\": %s}\n",
           what, form, error, most, good ? "true" : "false");
    fflush(stdout);
}

/* The length of the difference of two arrays, as a share of the first one's. */
static double difference(const float *a, const float *b, uint64_t count) {
    double sum = 0, off = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += (double)a[i] * a[i];
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    }
    return sum > 0 ? sqrt(off / sum) : sqrt(off);
}

static float *gradients_of(const emb_trainer *t) {
    uint64_t bytes = t->params.values * sizeof(float);
    unsigned char *copy = malloc(bytes);
    need(copy != NULL, "no memory");
    for (uint64_t at = 0, some; at < bytes; at += some) {
        some = bytes - at < EMB_TRAIN_STAGING ? bytes - at : EMB_TRAIN_STAGING;
        const unsigned char *from = (const unsigned char *)t->lane.gradients + at;
        memcpy(copy + at, emb_trainer_see(t, from, some), some);
    }
    return (float *)(void *)copy;
}

/* Tensors whose gradient is small beside the largest of its kind are judged together with all. */
static void compare_gradients(const char *form, const emb_trainer *cpu, const emb_trainer *gpu,
                              double most) {
    float *want = gradients_of(cpu), *have = gradients_of(gpu);
    double worst = 0, whole = difference(want, have, cpu->params.values);
    char name[256] = "";
    for (uint32_t i = 0; i < cpu->params.count; i++) {
        const emb_param *p = &cpu->params.tensors[i];
        if (p->role == EMB_TENSOR_KEY_BIAS) continue; /* its gradient is 0 */
        double error = difference(want + p->first, have + p->first, (uint64_t)p->rows * p->cols);
        if (error <= worst) continue;
        worst = error;
        emb_model_tensor_name(name, sizeof name, cpu->params.files, p->role, p->layer);
    }
    judge("gradients, all", form, whole, most);
    char what[300];
    snprintf(what, sizeof what, "gradients, worst: %s", name);
    judge(what, form, worst, 2.5 * most);
    free(want), free(have);
}

/* Moves all parameters a little: weights stored in f16 stand on the midpoints between those of
 * bf16, where the least update decides how they are rounded. */
static void stir(const emb_trainer *t) {
    uint64_t bytes = t->params.values * sizeof(float);
    for (uint64_t at = 0, some; at < bytes; at += some) {
        some = bytes - at < EMB_TRAIN_STAGING ? bytes - at : EMB_TRAIN_STAGING;
        unsigned char *place = (unsigned char *)t->lane.values + at;
        const float *from = emb_trainer_see(t, place, some);
        float *to = emb_trainer_room(t, place);
        for (uint64_t i = 0; i < some / sizeof(float); i++) {
            double share = (double)(emb_hash_mix(5, at / sizeof(float) + i) >> 40) / (1 << 24);
            to[i] = from[i] * (float)(1 + (share - 0.5) / 512);
        }
        emb_trainer_put(t, place, some);
    }
}

/* What the GPU trainer is made to do: the same in different ways. */
static const struct form {
    const char *name;
    uint32_t tokens_per_tile, slabs, attention_slabs, ffn_slabs;
} forms[] = {{"one tile", 0, 0, 0, 0}, {"small tiles", 600, 0, 0, 0}};

static void compare(const emb_model *model, const emb_machine *machine) {
    enum { PAIRS = 48, LENGTH = 128, STEPS = 8 };
    uint32_t length = model->shape.window_tokens < LENGTH ? model->shape.window_tokens : LENGTH;
    emb_text *texts = make_texts(model, 2 * PAIRS, length, false);
    for (uint32_t f = 0; f < 2 * sizeof forms / sizeof forms[0]; f++) {
        const struct form *form = &forms[f / 2];
        emb_train_options options = options_of(NULL, PAIRS, length), on_gpu;
        char name[64];
        bool drops = f % 2;
        snprintf(name, sizeof name, "%s%s", form->name, drops ? ", dropout" : "");
        options.dropout = options.attention_dropout = drops ? 0.1f : 0;
        on_gpu = options;
        on_gpu.machine = machine;
        on_gpu.tokens_per_tile = form->tokens_per_tile;
        emb_trainer *cpu = open_trainer(model, &options), *gpu = open_trainer(model, &on_gpu);
        const float *vectors;
        emb_error error;
        stir(cpu);
        stir(gpu);
        need(emb_trainer_encode(&vectors, gpu, texts, 2 * PAIRS, &error) == EMB_OK, "encode");
        uint64_t values = 2ull * PAIRS * model->shape.spec.hidden;
        float *copy = malloc(values * sizeof *copy);
        need(copy != NULL, "no memory");
        memcpy(copy, vectors, values * sizeof *copy);
        need(emb_trainer_encode(&vectors, cpu, texts, 2 * PAIRS, &error) == EMB_OK, "encode");
        judge("vectors", name, difference(vectors, copy, values), 2e-2);
        free(copy);
        double worst = 0;
        for (uint32_t n = 0; n < STEPS; n++) {
            emb_train_step a = step(cpu, texts, PAIRS), b = step(gpu, texts, PAIRS);
            if (n == 0) compare_gradients(name, cpu, gpu, 2e-2);
            double off = fabs(a.loss - b.loss) / fmax(a.loss, 0.05);
            worst = off > worst ? off : worst;
            if (n == 0 || n + 1 == STEPS)
                printf("{\"step\": %u, \"cpu\": %.6f, \"gpu\": %.6f, \"norms\": [%.6f, %.6f]}\n",
                       n + 1, a.loss, b.loss, a.gradient_norm, b.gradient_norm);
        }
        judge("losses of 8 steps", name, worst, 2e-2);
        emb_trainer_close(cpu);
        emb_trainer_close(gpu);
    }
}

/* What several GPUs are made to do: examples that do not go evenly, fewer than there are GPUs. */
static const struct team_form {
    const char *name;
    uint32_t texts, pairs, parts, symmetric;
    float dropout;
} team_forms[] = {{"even shares", 2, 96, 1, 0, 0},
                  {"uneven shares, dropout", 2, 51, 1, 0, 0.1f},
                  {"negatives, symmetric", 3, 37, 1, 1, 0},
                  {"one example", 2, 1, 1, 0, 0},
                  {"two calls a step", 2, 33, 2, 0, 0}};

/* The same bits on every GPU, after some steps. */
static void compare_members(const char *form, const emb_trainer *t) {
    uint64_t bytes = t->params.values * sizeof(float);
    unsigned char *here = malloc(EMB_TRAIN_STAGING);
    bool same = true;
    need(here != NULL, "no memory");
    for (uint32_t i = 1; i < t->group.count; i++) {
        const emb_trainer *member = t->group.members[i];
        emb_device_thread before;
        for (uint64_t at = 0, some; at < bytes; at += some) {
            some = bytes - at < EMB_TRAIN_STAGING ? bytes - at : EMB_TRAIN_STAGING;
            member->device->calls->enter(&before, member->gpu.index);
            member->device->read(&member->lane.run, here, (char *)member->lane.values + at, some);
            member->device->calls->leave(&before);
            const void *first = emb_trainer_see(t, (const char *)t->lane.values + at, some);
            same = same && memcmp(first, here, some) == 0;
        }
    }
    judge("parameters differ between GPUs", form, same ? 0 : 1, 0);
    free(here);
}

static void compare_form(const emb_model *model, const emb_machine *one, const emb_machine *all,
                         const struct team_form *form) {
    enum { LENGTH = 128, STEPS = 8 };
    uint32_t length = model->shape.window_tokens < LENGTH ? model->shape.window_tokens : LENGTH;
    emb_text *texts = make_texts(model, form->texts * form->pairs, length, false);
    emb_train_options options = options_of(one, form->pairs + 2, length);
    emb_error error = {0};
    double worst = 0;
    options.example_texts = form->texts;
    options.accumulate = form->parts;
    options.loss.symmetric = form->symmetric;
    options.dropout = options.attention_dropout = form->dropout;
    emb_trainer *alone = open_trainer(model, &options);
    options.machine = all;
    emb_trainer *team = open_trainer(model, &options);
    stir(alone);
    stir(team);
    if (team->group.count) need(emb_group_copy_first(team, &error) == EMB_OK, error.message);
    for (uint32_t n = 0; n < STEPS * form->parts; n++) {
        emb_train_step a = step(alone, texts, form->pairs), b = step(team, texts, form->pairs);
        if (n + 1 == form->parts) compare_gradients(form->name, alone, team, 1e-3);
        need(a.tokens == b.tokens && a.updated == b.updated, "a team's step counts otherwise");
        double off = fabs(a.loss - b.loss) / fmax(a.loss, 0.05);
        if (n == 0) judge("loss of the first step", form->name, off, 1e-6);
        worst = off > worst ? off : worst;
        if (n == 0 || n + 1 == STEPS * form->parts)
            printf("{\"step\": %u, \"one\": %.6f, \"all\": %.6f, \"norms\": [%.6f, %.6f]}\n", n + 1,
                   a.loss, b.loss, a.gradient_norm, b.gradient_norm);
    }
    /* AdamW's first steps make last bits of small gradients whole steps */
    judge("losses of 8 steps", form->name, worst, 2e-2);
    compare_members(form->name, team);
    emb_trainer_close(alone);
    emb_trainer_close(team);
}

static emb_machine first_of(const emb_machine *machine, uint32_t count) {
    emb_machine some = *machine;
    need(count >= 1 && count <= machine->devices_count, "there are not so many GPUs");
    some.devices_count = count;
    return some;
}

static void compare_gpus(const emb_model *model, const emb_machine *machine, uint32_t count) {
    emb_machine one = first_of(machine, 1), all = first_of(machine, count);
    for (uint32_t f = 0; f < sizeof team_forms / sizeof team_forms[0]; f++)
        compare_form(model, &one, &all, &team_forms[f]);
}

static double bench(const emb_model *model, const emb_machine *machine, char **argv) {
    uint32_t pairs = (uint32_t)atoi(argv[0]), length = (uint32_t)atoi(argv[1]);
    uint32_t steps = (uint32_t)atoi(argv[3]);
    emb_text *texts = make_texts(model, 2 * pairs, length, true);
    emb_train_options options = options_of(machine, pairs, length);
    options.optimizer_bits = (uint32_t)atoi(argv[2]);
    options.device_bytes_max = strtoull(argv[4], NULL, 10) << 20;
    emb_trainer *trainer = open_trainer(model, &options);
    emb_train_plan plan;
    emb_trainer_plan(&plan, trainer);
    double best = 1e30, first = 0, last = 0;
    for (uint32_t n = 0; n < steps + 1; n++) {
        emb_train_step s = step(trainer, texts, pairs);
        if (n == 0) first = s.loss;
        if (n && s.seconds < best) best = s.seconds;
        last = s.loss;
    }
    double tokens = 2.0 * pairs * length;
    printf("{\"bench\": \"train\", \"gpus\": %u, \"layers\": %u, \"hidden\": %u, \"pairs\": %u, "
           "\"length\": %u, "
           "\"optimizer_bits\": %u, \"tokens_per_s\": %.0f, \"seconds\": %.5f, \"tile\": %u, "
           "\"tiles\": %u, \"kept\": [%u, %u, %u], \"device_mib\": %.1f, "
           "\"beyond_context_mib\": %.1f, \"loss\": [%.5f, %.5f]}\n",
           machine->devices_count, model->shape.layers, model->shape.spec.hidden, pairs, length,
           options.optimizer_bits, tokens / best, best, plan.tokens_per_tile, plan.tiles,
           plan.tiles_kept, plan.attention_kept, plan.ffn_kept,
           (double)plan.device_bytes / (1 << 20), (double)plan.device.arena_bytes / (1 << 20),
           first, last);
    for (uint32_t i = 0; i < plan.device.items_count; i++)
        if (strcmp(plan.device.items[i].name, "NCCL") == 0)
            printf("{\"nccl_mib\": %.1f}\n", (double)plan.device.items[i].bytes / (1 << 20));
    fflush(stdout);
    emb_trainer_close(trainer);
    return tokens / best;
}

static void bench_gpus(const emb_model *model, const emb_machine *machine, char **argv) {
    uint32_t count = argv[5] ? (uint32_t)atoi(argv[5]) : 1;
    emb_machine one = first_of(machine, 1), all = first_of(machine, count);
    double alone = bench(model, &one, argv);
    if (count > 1)
        printf("{\"bench\": \"several GPUs\", \"gpus\": %u, \"ratio\": %.3f}\n", count,
               bench(model, &all, argv) / alone);
}

int main(int argc, char **argv) {
    emb_error error = {0};
    emb_model *model;
    static emb_machine machine;
    emb_device_list devices = {.kind = EMB_DEVICE_CUDA, .count = 1};
    bool gpus = argc == 4, benches = argc == 8 || argc == 9;
    need(argc == 2 || gpus || benches,
         "usage: check_train MODEL [gpus N | bench PAIRS LENGTH BITS STEPS MIB [N]]");
    if (gpus || argc == 9) devices.count = 0; /* all */
    if (emb_machine_probe(&machine, &devices, &error) != EMB_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 77;
    }
    need(emb_model_open(&model, argv[1], &error) == EMB_OK, error.message);
    if (gpus)
        compare_gpus(model, &machine, (uint32_t)atoi(argv[3]));
    else if (benches)
        bench_gpus(model, &machine, argv + 3);
    else
        compare(model, &machine);
    emb_model_close(model);
    if (!benches) printf("{\"check\": \"all\", \"failed\": %d}\n", failures);
    return failures != 0;
}
