/* embed.c - the library in one screen: embeds the arguments and prints how alike they are.
 *
 * cc -I include examples/embed.c -L build -lembound -Wl,-rpath,$PWD/build -o build/embed
 * build/embed build/models/all-MiniLM-L6-v2 "a cat sleeps" "a kitten naps" "the bank closed"
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embound.h"

static void print_cosines(const float *rows, uint32_t count, uint32_t dim) {
    for (uint32_t a = 0; a < count; a++) {
        for (uint32_t b = 0; b < count; b++) {
            float cosine = 0; /* the vectors have length 1 */
            for (uint32_t i = 0; i < dim; i++) cosine += rows[a * dim + i] * rows[b * dim + i];
            printf("%6.3f%c", cosine, b + 1 < count ? ' ' : '\n');
        }
    }
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: embed MODEL TEXT...\n");
        return 64;
    }
    emb_machine machine = {.struct_bytes = sizeof machine};
    emb_plan plan = {.struct_bytes = sizeof plan};
    emb_limits limits = emb_limits_default();
    emb_model *model = NULL;
    emb_engine *engine = NULL;
    emb_error error = {0};
    uint32_t texts_count = (uint32_t)count - 2;
    limits.host_bytes_max = 64 << 20; /* the whole process stays inside this */
    limits.caller_bytes = 1 << 20;    /* what we keep ourselves: the texts and rows below */
    emb_status status = emb_machine_probe(&machine, NULL, &error);
    if (status == EMB_OK) status = emb_model_open(&model, arguments[1], &error);
    if (status == EMB_OK) status = emb_plan_make(&plan, model, &limits, &machine, &error);
    if (status == EMB_OK) status = emb_engine_open(&engine, model, &plan, &error);
    emb_text *texts = calloc(texts_count + 1, sizeof *texts);
    float *rows = calloc(texts_count + 1, plan.dim * sizeof *rows + 1);
    for (uint32_t i = 0; i < texts_count && texts; i++) {
        texts[i].data = arguments[i + 2];
        texts[i].length = strlen(arguments[i + 2]);
    }
    if (status == EMB_OK && texts && rows) {
        status = emb_engine_embed(rows, engine, texts, texts_count, &error);
    }
    if (status == EMB_OK && texts && rows) print_cosines(rows, texts_count, plan.dim);
    if (status != EMB_OK) fprintf(stderr, "%s\n", error.message);
    free(rows);
    free(texts);
    if (engine) emb_engine_close(engine);
    if (model) emb_model_close(model);
    return status == EMB_OK ? 0 : 1;
}
