/* save.c - the trained model's directory: f32 weights in safetensors, a model card, and the files
 * of the model that was trained; or that of its adapters alone, as PEFT has it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "package/growing.h"
#include "train/trainer.h"

#define ENTRY_BYTES 512
#define NAME_BYTES  256

static uint64_t bytes_of(const emb_param *tensor) {
    return (uint64_t)tensor->rows * tensor->cols * sizeof(float);
}

/* A file's tensors: of all parameters, or of the adapters. */
typedef struct tensors {
    const emb_trainer *trainer;
    const emb_params *params;
    bool adapters;
} tensors;

/* The module that a matrix is the weight of, as PEFT names it. */
static void module_name(char *out, size_t capacity, const emb_params *params, const emb_param *t) {
    static const char tail[] = ".weight";
    emb_model_tensor_name(out, capacity, params->files, t->role, t->layer);
    size_t length = strlen(out), cut = sizeof tail - 1;
    if (length > cut && strcmp(out + length - cut, tail) == 0) out[length - cut] = 0;
}

static void tensor_name(char *out, size_t capacity, const tensors *all, uint32_t i) {
    const emb_param *t = &all->params->tensors[i];
    char module[NAME_BYTES];
    if (!all->adapters) {
        emb_model_tensor_name(out, capacity, all->params->files, t->role, t->layer);
        return;
    }
    module_name(module, sizeof module, all->params, t);
    snprintf(out, capacity, "base_model.model.%s.lora_%c.weight", module,
             emb_lora_is_b(i) ? 'B' : 'A');
}

/* The header's JSON: tensors lie in the file as in the table, without what aligns them there. */
static emb_status put_header(emb_growing *file, const tensors *all, emb_error *error) {
    uint64_t data = 0;
    EMB_TRY(emb_growing_put(file, error, "{\"__metadata__\":{\"format\":\"pt\"}"));
    for (uint32_t i = 0; i < all->params->count; i++) {
        const emb_param *t = &all->params->tensors[i];
        char name[NAME_BYTES + 40], dims[32];
        tensor_name(name, sizeof name, all, i);
        if (t->rank == 2)
            snprintf(dims, sizeof dims, "%u,%u", t->rows, t->cols);
        else
            snprintf(dims, sizeof dims, "%u", t->cols);
        EMB_TRY(emb_growing_put(
            file, error,
            ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
            name, dims, data, data + bytes_of(t)));
        data += bytes_of(t);
    }
    return emb_growing_put(file, error, "}");
}

/* Gives *count rows from `row` on, as they are to be written. */
static const float *rows_of(const tensors *all, const emb_param *t, uint32_t row, uint32_t *count) {
    const emb_train_lane *lane = &all->trainer->lane;
    if (lane->lora && !all->adapters) return emb_lora_rows(lane->lora, lane->values, t, row, count);
    uint32_t most = EMB_TRAIN_STAGING / (t->cols * (uint32_t)sizeof(float));
    *count = t->rows - row < most ? t->rows - row : most;
    const float *values = lane->values + t->first + (size_t)row * t->cols;
    return emb_trainer_see(all->trainer, values, (uint64_t)*count * t->cols * sizeof(float));
}

static emb_status write_tensors(emb_growing *file, const tensors *all, emb_error *error) {
    emb_growing measured = {-1, file->path, 8};
    unsigned char head[8];
    EMB_TRY(put_header(&measured, all, error));
    uint64_t data = (measured.at + 7) / 8 * 8;
    for (uint32_t i = 0; i < 8; i++) head[i] = (unsigned char)((data - 8) >> 8 * i);
    EMB_TRY(emb_file_write_at(file->descriptor, head, sizeof head, 0, file->path, error));
    file->at = 8;
    EMB_TRY(put_header(file, all, error));
    EMB_TRY(emb_growing_put(file, error, "%*s", (int)(data - file->at), ""));
    for (uint32_t i = 0; i < all->params->count; i++) {
        const emb_param *t = &all->params->tensors[i];
        for (uint32_t row = 0, count; row < t->rows; row += count) {
            const float *values = rows_of(all, t, row, &count);
            uint64_t bytes = (uint64_t)count * t->cols * sizeof(float);
            EMB_TRY(
                emb_file_write_at(file->descriptor, values, bytes, file->at, file->path, error));
            file->at += bytes;
        }
    }
    return EMB_OK;
}

static emb_status write_weights(emb_growing *file, const emb_trainer *t, emb_error *error) {
    return write_tensors(file, &(tensors){t, &t->params, false}, error);
}

static emb_status write_adapters(emb_growing *file, const emb_trainer *t, emb_error *error) {
    return write_tensors(file, &(tensors){t, &t->lora.trained, true}, error);
}

/* A string of JSON: a path may hold anything. */
static emb_status put_string(emb_growing *file, const char *text, emb_error *error) {
    EMB_TRY(emb_growing_put(file, error, "\""));
    for (; *text; text++) {
        bool escaped = *text == '"' || *text == '\\', control = (unsigned char)*text < ' ';
        if (control)
            EMB_TRY(emb_growing_put(file, error, "\\u%04x", *text));
        else
            EMB_TRY(emb_growing_put(file, error, "%s%c", escaped ? "\\" : "", *text));
    }
    return emb_growing_put(file, error, "\"");
}

/* Modules are named in full: the end of some names is that of others. */
static emb_status write_config(emb_growing *file, const emb_trainer *t, emb_error *error) {
    const emb_params *trained = &t->lora.trained;
    char root[EMB_MODEL_PATH_MAX], module[NAME_BYTES];
    emb_model_files_root(t->model->files, root);
    EMB_TRY(emb_growing_put(file, error,
                            "{\n  \"peft_type\": \"LORA\",\n"
                            "  \"task_type\": \"FEATURE_EXTRACTION\",\n"
                            "  \"base_model_name_or_path\": "));
    EMB_TRY(put_string(file, root, error));
    EMB_TRY(emb_growing_put(file, error,
                            ",\n  \"r\": %u,\n  \"lora_alpha\": %.9g,\n  \"lora_dropout\": 0.0,\n"
                            "  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
                            "  \"inference_mode\": true,\n  \"target_modules\": [",
                            t->lora.rank, t->options.lora.alpha));
    for (uint32_t i = 0; i < trained->count; i += 2) {
        module_name(module, sizeof module, trained, &trained->tensors[i]);
        EMB_TRY(emb_growing_put(file, error, "%s\n    \"%s\"", i ? "," : "", module));
    }
    return emb_growing_put(file, error, "\n  ]\n}\n");
}

/* What of the loss its kind has. */
static void describe_loss(char *out, size_t capacity, const emb_train_loss *loss) {
    static const char *const kinds[] = {"multiple negatives ranking",
                                        "CoSENT",
                                        "squared error of the cosine",
                                        "triplets",
                                        "hardest triplets",
                                        "distillation of a teacher's cosines"};
    bool scaled = loss->kind == EMB_LOSS_RANKING || loss->kind == EMB_LOSS_COSENT;
    bool distances = loss->kind == EMB_LOSS_TRIPLET || loss->kind == EMB_LOSS_BATCH_HARD;
    const char *measure = loss->distance == EMB_DISTANCE_COSINE ? "cosine" : "Euclidean";
    int used = snprintf(out, capacity, "%s", kinds[loss->kind]);
    if (scaled) used += snprintf(out + used, capacity - (size_t)used, ", scale %g", loss->scale);
    if (distances)
        used += snprintf(out + used, capacity - (size_t)used, " by %s distance, margin %g", measure,
                         loss->margin);
    for (uint32_t i = 0; i < loss->widths_count; i++)
        used += snprintf(out + used, capacity - (size_t)used, "%s%u",
                         i ? ", " : "; Matryoshka: ", loss->widths[i]);
}

static emb_status write_card(emb_growing *file, const emb_trainer *t, emb_error *error) {
    const emb_train_options *o = &t->options;
    char loss[256];
    describe_loss(loss, sizeof loss, &o->loss);
    EMB_TRY(emb_growing_put(
        file, error,
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
        "tags:\n- sentence-transformers\n- sentence-similarity\n- feature-extraction\n"
        "---\n\n# %.200s, fine-tuned\n\n",
        t->model->info.name));
    EMB_TRY(emb_growing_put(
        file, error,
        "Trained by embound %s from %.200s: %llu steps of up to %u examples of %u text%s.\n"
        "Loss: %s.\n",
        emb_version(), t->model->info.name, (unsigned long long)t->optimizer.step,
        o->batch_examples * o->accumulate, o->example_texts, o->example_texts == 1 ? "" : "s",
        loss));
    const char *optimizer = o->optimizer == EMB_OPTIMIZER_SGD ? "SGD" : "AdamW";
    EMB_TRY(emb_growing_put(
        file, error,
        "%s with a learning rate of %g, weight decay %g, gradients clipped at %g; texts "
        "cut at %u tokens.\n",
        optimizer, o->learning_rate, o->weight_decay, o->clip_norm, t->length_max));
    if (!t->lane.lora) return EMB_OK;
    return emb_growing_put(file, error,
                           "Adapters of rank %u with an alpha of %g (LoRA), added to the weights; "
                           "those are of %s.\n",
                           t->lora.rank, o->lora.alpha,
                           emb_dtype_name(t->model->info.stored_dtype));
}

typedef emb_status (*writer)(emb_growing *file, const emb_trainer *trainer, emb_error *error);

static emb_status write_file(emb_trainer *t, const char *name, writer write, emb_error *error) {
    char path[EMB_DIRECTORY_PATH];
    emb_growing file = {-1, path, 0};
    EMB_TRY(emb_directory_create(&t->directory, &file.descriptor, path, name, error));
    emb_status status = write(&file, t, error);
    emb_status finished = emb_file_finish(file.descriptor, path, status == EMB_OK ? error : NULL);
    return status == EMB_OK ? finished : status;
}

static emb_status write_all(emb_trainer *t, const char *directory, bool adapters,
                            emb_error *error) {
    char name[EMB_DIRECTORY_PATH], marker[ENTRY_BYTES];
    const char *folder = emb_model_files_transformer(t->model->files);
    t->directory.alone = adapters;
    EMB_TRY(emb_directory_open(&t->directory, directory, error));
    snprintf(name, sizeof name, "%s%s%s", folder, *folder ? "/" : "", "model.safetensors");
    if (adapters) {
        EMB_TRY(write_file(t, "adapter_model.safetensors", write_adapters, error));
        EMB_TRY(write_file(t, "adapter_config.json", write_config, error));
    } else {
        EMB_TRY(write_file(t, name, write_weights, error));
        EMB_TRY(write_file(t, "README.md", write_card, error));
    }
    snprintf(marker, sizeof marker,
             "{\n \"format\": 1,\n \"steps\": %llu,\n"
             " \"written_by\": \"embound %s\"\n}\n",
             (unsigned long long)t->optimizer.step, emb_version());
    return emb_directory_commit(&t->directory, marker, error);
}

/* Whose directory it is to be. */
static emb_status begin(emb_trainer *t, const char *directory, uint32_t overwrite,
                        emb_error *error) {
    static const emb_directory_maker maker = {"train", "embound_training.json"};
    if (!t || !directory || !*directory)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "trainer and directory must not be NULL, the directory not empty");
    t->directory.maker = &maker;
    t->directory.files = t->model->files;
    t->directory.overwrite = overwrite;
    return EMB_OK;
}

emb_status emb_trainer_try_save(emb_trainer *t, const char *directory, uint32_t overwrite,
                                emb_error *error) {
    EMB_TRY(begin(t, directory, overwrite, error));
    emb_status status = emb_directory_open(&t->directory, directory, error);
    emb_directory_abort(&t->directory);
    return status;
}

emb_status emb_trainer_save(emb_trainer *t, const char *directory, uint32_t overwrite,
                            emb_error *error) {
    EMB_TRY(begin(t, directory, overwrite, error));
    EMB_TRY(emb_trainer_check_finite(t, error));
    emb_status status = write_all(t, directory, false, error);
    emb_directory_abort(&t->directory);
    return status;
}

emb_status emb_trainer_save_adapter(emb_trainer *t, const char *directory, uint32_t overwrite,
                                    emb_error *error) {
    EMB_TRY(begin(t, directory, overwrite, error));
    if (!t->lane.lora)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "this training has no adapters to write (options.lora)");
    EMB_TRY(emb_trainer_check_finite(t, error));
    emb_status status = write_all(t, directory, true, error);
    emb_directory_abort(&t->directory);
    return status;
}
