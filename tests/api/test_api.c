/* test_api.c - the public interface called wrongly and at its edges: a status, never a crash.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "embound_experimental.h"
#include "support/run.h"

#define BERT    "tests/data/tiny-bert"
#define DIM_MAX 256

static run shared;
static emb_error error;

static int open_shared(void **unused) {
    (void)unused;
    emb_limits limits = emb_limits_default();
    limits.threads = 2;
    emb_status status = run_open(&shared, BERT, &limits, NULL, &error);
    if (status != EMB_OK) fprintf(stderr, "%s\n", error.message);
    return status == EMB_OK ? 0 : -1;
}

static int close_shared(void **unused) {
    (void)unused;
    run_close(&shared);
    return 0;
}

#define REFUSED(call) assert_int_equal(call, EMB_INVALID_ARGUMENT)

static void names(void **unused) {
    (void)unused;
    assert_string_equal(emb_version(), "0.1.0");
    assert_string_equal(emb_status_name(EMB_OK), "EMB_OK");
    assert_string_equal(emb_status_name(EMB_BUDGET), "EMB_BUDGET");
    assert_non_null(emb_status_name((emb_status)12345));
    assert_string_equal(emb_rung_name(EMB_RUNG_STREAM), "layers streamed");
    assert_non_null(emb_rung_name((emb_rung)99));
}

static void machine_arguments(void **unused) {
    (void)unused;
    char text[8192];
    size_t length = 0;
    emb_machine again;
    REFUSED(emb_machine_probe(NULL, NULL, &error));
    REFUSED(emb_machine_to_json(NULL, sizeof text, &length, &shared.machine, &error));
    REFUSED(emb_machine_to_json(text, 10, &length, &shared.machine, &error));
    REFUSED(emb_machine_to_json(text, sizeof text, &length, NULL, &error));
    REFUSED(emb_machine_from_json(NULL, "{}", 2, &error));
    REFUSED(emb_machine_from_json(&again, NULL, 2, &error));
    assert_int_equal(emb_machine_from_json(&again, "{\"x\":1}", 7, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "x"));
    assert_int_equal(emb_machine_from_json(&again, "{", 1, NULL), EMB_BAD_FILE);
}

static void machine_round_trip(void **unused) {
    (void)unused;
    char text[8192], second[8192];
    size_t length = 0, length_again = 0;
    emb_machine again;
    assert_int_equal(emb_machine_to_json(text, sizeof text, &length, &shared.machine, &error), 0);
    assert_int_equal(strlen(text), length);
    assert_int_equal(emb_machine_from_json(&again, text, length, &error), EMB_OK);
    assert_int_equal(emb_machine_to_json(second, sizeof second, &length_again, &again, &error), 0);
    assert_string_equal(text, second);
    assert_int_equal(again.cpu_features, shared.machine.cpu_features);
    assert_int_equal(again.process_base_bytes, shared.machine.process_base_bytes);
}

static void model_arguments(void **unused) {
    (void)unused;
    emb_model *model = NULL;
    emb_model_info info = {.struct_bytes = sizeof info};
    REFUSED(emb_model_open(NULL, BERT, &error));
    REFUSED(emb_model_open(&model, NULL, &error));
    assert_int_equal(emb_model_open(&model, "tests/data/absent", &error), EMB_NOT_FOUND);
    assert_non_null(strstr(error.message, "absent"));
    assert_int_equal(emb_model_open(&model, "", NULL), EMB_INVALID_ARGUMENT);
    assert_null(model);
    emb_model_close(NULL);
    emb_model_describe(NULL, shared.model);
    emb_model_describe(&info, NULL);
    assert_null(emb_model_prompt(NULL, "query"));
    assert_null(emb_model_prompt(shared.model, "no such prompt"));
    emb_model_describe(&info, shared.model);
    assert_string_equal(info.architecture, "bert");
    assert_int_equal(info.dim, 32);
    assert_int_equal(info.special_tokens, 2);
}

static emb_status plan_with(emb_limits limits) {
    emb_plan plan;
    return emb_plan_make(&plan, shared.model, &limits, &shared.machine, &error);
}

static void plan_arguments(void **unused) {
    (void)unused;
    emb_plan plan;
    emb_limits good = emb_limits_default(), bad;
    REFUSED(emb_plan_make(NULL, shared.model, &good, &shared.machine, &error));
    REFUSED(emb_plan_make(&plan, NULL, &good, &shared.machine, &error));
    REFUSED(emb_plan_make(&plan, shared.model, NULL, &shared.machine, &error));
    REFUSED(emb_plan_make(&plan, shared.model, &good, NULL, &error));
    assert_int_equal(plan_with(good), EMB_OK);
    bad = good, bad.struct_bytes = 3;
    REFUSED(plan_with(bad));
    bad = good, bad.dtype = (emb_dtype)77;
    REFUSED(plan_with(bad));
    bad = good, bad.long_rule = (emb_long_rule)77;
    REFUSED(plan_with(bad));
    bad = good, bad.pooling = (emb_pooling)77;
    REFUSED(plan_with(bad));
    bad = good, bad.normalize = (emb_switch)77;
    REFUSED(plan_with(bad));
    bad = good, bad.device = (emb_device_kind)77;
    REFUSED(plan_with(bad));
    bad = good, bad.dim = 33;
    REFUSED(plan_with(bad));
    bad = good, bad.chunk_tokens_max = 129;
    REFUSED(plan_with(bad));
    bad = good, bad.chunk_tokens_max = 2; /* no room beside the special tokens */
    REFUSED(plan_with(bad));
    bad = good, bad.dtype = EMB_DTYPE_FP8;
    assert_int_equal(plan_with(bad), EMB_UNSUPPORTED);
    bad = good, bad.device = EMB_DEVICE_CUDA;
    assert_in_range(plan_with(bad), EMB_UNSUPPORTED, EMB_DEVICE);
    bad = good, bad.host_bytes_max = 1;
    assert_int_equal(plan_with(bad), EMB_BUDGET);
    assert_true(error.bytes_min > 1);
    bad.host_bytes_max = error.bytes_min;
    assert_int_equal(plan_with(bad), EMB_OK);
    bad.host_bytes_max = error.bytes_min - 1;
    assert_int_equal(plan_with(bad), EMB_BUDGET);
    bad = good, bad.caller_bytes = UINT64_MAX - 5;
    assert_int_not_equal(plan_with(bad), EMB_OK);
    bad = good, bad.threads = UINT32_MAX;
    assert_in_range(plan_with(bad), EMB_OK, EMB_BUDGET);
}

static emb_status quantize_with(emb_quantize_options options) {
    emb_quantize_result result;
    return emb_model_quantize(&result, shared.model, "/dev/null/none", &options, NULL, NULL,
                              &error);
}

static void quantize_arguments(void **unused) {
    (void)unused;
    emb_quantize_result result;
    emb_quantize_options good = {.struct_bytes = sizeof good, .dtype = EMB_DTYPE_INT8}, bad;
    const emb_text ids = {.data = "", .is_ids = 1};
    REFUSED(emb_model_quantize(NULL, shared.model, "d", &good, NULL, NULL, &error));
    REFUSED(emb_model_quantize(&result, NULL, "d", &good, NULL, NULL, &error));
    REFUSED(emb_model_quantize(&result, shared.model, NULL, &good, NULL, NULL, &error));
    REFUSED(emb_model_quantize(&result, shared.model, "", &good, NULL, NULL, &error));
    REFUSED(emb_model_quantize(&result, shared.model, "d", NULL, NULL, NULL, &error));
    assert_int_equal(quantize_with(good), EMB_IO);
    bad = good, bad.struct_bytes = 3;
    REFUSED(quantize_with(bad));
    bad = good, bad.dtype = EMB_DTYPE_F32;
    REFUSED(quantize_with(bad));
    bad = good, bad.group = 32;
    REFUSED(quantize_with(bad));
    bad = good, bad.smooth = 1;
    REFUSED(quantize_with(bad));
    bad = good, bad.texts_count = 1;
    REFUSED(quantize_with(bad));
    bad.texts = &ids, bad.tokens_max = UINT32_MAX;
    REFUSED(quantize_with(bad));
}

static void engine_arguments(void **unused) {
    (void)unused;
    emb_engine *engine = NULL;
    emb_row row;
    uint32_t count = 0;
    float values[DIM_MAX];
    emb_text text = {.data = "a", .length = 1};
    emb_piece piece = {"a", 1, EMB_PIECE_FIRST | EMB_PIECE_LAST, 0};
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    REFUSED(emb_engine_open(NULL, shared.model, &shared.plan, &error));
    REFUSED(emb_engine_open(&engine, NULL, &shared.plan, &error));
    REFUSED(emb_engine_open(&engine, shared.model, NULL, &error));
    emb_plan wrong = shared.plan;
    wrong.struct_bytes = 1;
    REFUSED(emb_engine_open(&engine, shared.model, &wrong, &error));
    assert_null(engine);
    REFUSED(emb_engine_submit(NULL, &piece, 1, &count, &error));
    REFUSED(emb_engine_submit(shared.engine, NULL, 1, &count, &error));
    REFUSED(emb_engine_submit(shared.engine, &piece, 1, NULL, &error));
    REFUSED(emb_engine_flush(NULL));
    REFUSED(emb_engine_collect(NULL, &row, 1, &count, 0, &error));
    REFUSED(emb_engine_collect(shared.engine, NULL, 1, &count, 0, &error));
    REFUSED(emb_engine_collect(shared.engine, &row, 1, NULL, 0, &error));
    REFUSED(emb_engine_cancel(NULL));
    REFUSED(emb_engine_embed(NULL, shared.engine, &text, 1, &error));
    REFUSED(emb_engine_embed(values, NULL, &text, 1, &error));
    REFUSED(emb_engine_embed(values, shared.engine, NULL, 1, &error));
    emb_engine_stats(NULL, shared.engine);
    emb_engine_stats(&stats, NULL);
    emb_engine_close(NULL);
}

static void pieces_out_of_order(void **unused) {
    (void)unused;
    run own;
    uint32_t taken = 7;
    emb_limits limits = emb_limits_default();
    assert_int_equal(run_open(&own, BERT, &limits, NULL, &error), EMB_OK);
    emb_piece middle = {"a", 1, 0, 0};
    REFUSED(emb_engine_submit(own.engine, &middle, 1, &taken, &error));
    emb_piece null_data = {NULL, 4, EMB_PIECE_FIRST | EMB_PIECE_LAST, 0};
    REFUSED(emb_engine_submit(own.engine, &null_data, 1, &taken, &error));
    emb_piece flags = {"a", 1, 0x80 | EMB_PIECE_FIRST, 0};
    REFUSED(emb_engine_submit(own.engine, &flags, 1, &taken, &error));
    emb_piece twice[2] = {{"a", 1, EMB_PIECE_FIRST, 0}, {"b", 1, EMB_PIECE_FIRST, 0}};
    REFUSED(emb_engine_submit(own.engine, twice, 2, &taken, &error));
    run_close(&own);
}

/* A piece taken in part must come again; bytes and ids do not mix; ids take no prompt. */
static void pieces_that_change(void **unused) {
    (void)unused;
    run own;
    uint32_t taken = 0;
    static char words[200000];
    for (size_t i = 0; i < sizeof words; i++) words[i] = i % 2 ? ' ' : 'a';
    emb_limits limits = emb_limits_default();
    assert_int_equal(run_open(&own, BERT, &limits, NULL, &error), EMB_OK);
    emb_piece long_text = {words, sizeof words, EMB_PIECE_FIRST | EMB_PIECE_LAST, 0};
    assert_int_equal(emb_engine_submit(own.engine, &long_text, 1, &taken, &error), EMB_OK);
    assert_int_equal(taken, 0); /* longer than all windows */
    emb_piece other = {"ab", 2, EMB_PIECE_FIRST | EMB_PIECE_LAST, 0};
    REFUSED(emb_engine_submit(own.engine, &other, 1, &taken, &error));
    run_close(&own);
    assert_int_equal(run_open(&own, BERT, &limits, NULL, &error), EMB_OK);
    uint32_t ids[2] = {7, 8};
    emb_piece mixed[2] = {{"hello", 5, EMB_PIECE_FIRST, 0},
                          {ids, 2, EMB_PIECE_LAST | EMB_PIECE_IDS, 0}};
    REFUSED(emb_engine_submit(own.engine, mixed, 2, &taken, &error));
    run_close(&own);
    float row[32];
    emb_text prompted = {.data = ids, .length = 2, .is_ids = 1, .prompt = "query: "};
    REFUSED(emb_engine_embed(row, shared.engine, &prompted, 1, &error));
}

/* A plan is for one model; with another, vectors would be read past their buffers. */
static void plan_of_another_model(void **unused) {
    (void)unused;
    emb_model *other = NULL;
    emb_engine *engine = NULL;
    emb_plan plan;
    emb_limits limits = emb_limits_default();
    assert_int_equal(emb_plan_make(&plan, shared.model, &limits, &shared.machine, &error), EMB_OK);
    assert_int_equal(emb_model_open(&other, "tests/data/tiny-mpnet", &error), EMB_OK);
    REFUSED(emb_engine_open(&engine, other, &plan, &error));
    plan.dim = 4000;
    REFUSED(emb_engine_open(&engine, shared.model, &plan, &error));
    plan.dim = 32;
    plan.window_tokens *= 2;
    REFUSED(emb_engine_open(&engine, shared.model, &plan, &error));
    assert_null(engine);
    emb_model_close(other);
}

static void nothing_under_way(void **unused) {
    (void)unused;
    emb_row row;
    uint32_t count = 9;
    assert_int_equal(emb_engine_collect(shared.engine, &row, 1, &count, -1, &error), EMB_OK);
    assert_int_equal(count, 0);
    assert_int_equal(emb_engine_flush(shared.engine), EMB_OK);
    assert_int_equal(emb_engine_submit(shared.engine, NULL, 0, &count, &error), EMB_OK);
    assert_int_equal(emb_engine_embed(NULL, shared.engine, NULL, 0, &error), EMB_OK);
}

static void embed_texts_and_ids(void **unused) {
    (void)unused;
    uint32_t ids[16], done;
    emb_specials specials;
    size_t used, count;
    emb_tokenizer_handle *tokenizer = NULL;
    assert_int_equal(emb_tokenizer_open(&tokenizer, shared.model, &error), EMB_OK);
    static const char text[] = "the cat sat on a mat";
    assert_int_equal(emb_tokenize(tokenizer, text, sizeof text - 1,
                                  EMB_PIECE_FIRST | EMB_PIECE_LAST, ids, 16, &used, &count, &done,
                                  &error),
                     EMB_OK);
    assert_int_equal(done, 1);
    assert_int_equal(used, sizeof text - 1);
    assert_true(count > 0);
    emb_model_specials(&specials, shared.model);
    assert_int_equal(specials.before, 1);
    assert_int_equal(specials.after, 1);
    assert_int_not_equal(specials.ids[0], specials.ids[1]);
    emb_text both[3] = {{.data = text, .length = sizeof text - 1},
                        {.data = ids, .length = count, .is_ids = 1},
                        {.data = text + 4, .length = sizeof text - 5, .prompt = "the "}};
    float rows[3][32];
    assert_int_equal(emb_engine_embed(rows[0], shared.engine, both, 3, &error), EMB_OK);
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
    assert_memory_equal(rows[0], rows[2], sizeof rows[0]);
    double square = 0;
    for (int i = 0; i < 32; i++) square += (double)rows[0][i] * rows[0][i];
    assert_true(fabs(square - 1) < 1e-5);
    emb_tokenizer_close(tokenizer);
}

static void failed_row_is_nan(void **unused) {
    (void)unused;
    uint32_t bad_id = 1000000;
    emb_text three[3] = {{.data = "a", .length = 1},
                         {.data = &bad_id, .length = 1, .is_ids = 1},
                         {.data = "a", .length = 1}};
    float rows[3][32];
    assert_int_equal(emb_engine_embed(rows[0], shared.engine, three, 3, &error), EMB_BAD_TEXT);
    assert_true(isnan(rows[1][0]) && isnan(rows[1][31]));
    assert_memory_equal(rows[0], rows[2], sizeof rows[0]);
    assert_false(isnan(rows[0][0]));
    assert_non_null(strstr(error.message, "text 1"));
}

static void long_rules(void **unused) {
    (void)unused;
    static char text[5000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 2 ? ' ' : 'a';
    run_text one = {text, sizeof text};
    run_row row;
    float values[DIM_MAX];
    for (int rule = EMB_LONG_CHUNK; rule <= EMB_LONG_ERROR; rule++) {
        run own;
        emb_limits limits = emb_limits_default();
        limits.long_rule = (emb_long_rule)rule;
        limits.chunk_tokens_max = 100;
        assert_int_equal(run_open(&own, BERT, &limits, NULL, &error), EMB_OK);
        assert_int_equal(run_texts(&own, &one, 1, 333, &row, values, &error), EMB_OK);
        emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
        emb_engine_stats(&stats, own.engine);
        assert_int_equal(stats.texts_long, 1);
        if (rule == EMB_LONG_CHUNK) {
            assert_int_equal(row.chunks, 26); /* 2500 tokens, 98 a chunk */
            assert_int_equal(row.tokens, 2500 + 2 * 26);
        } else if (rule == EMB_LONG_TRUNCATE) {
            assert_int_equal(row.chunks, 1);
            assert_int_equal(row.tokens, 100);
            assert_int_equal(row.tokens_dropped, 2500 - 98);
        } else {
            assert_int_equal(row.status, EMB_TOO_LONG);
            assert_true(isnan(row.values[0]));
            assert_int_equal(stats.texts_failed, 1);
        }
        assert_int_equal(row.user, 1000);
        run_close(&own);
    }
}

static void tokenizer_arguments(void **unused) {
    (void)unused;
    emb_tokenizer_handle *tokenizer = NULL;
    uint32_t ids[4], done;
    size_t used, count;
    REFUSED(emb_tokenizer_open(NULL, shared.model, &error));
    REFUSED(emb_tokenizer_open(&tokenizer, NULL, &error));
    assert_int_equal(emb_tokenizer_open(&tokenizer, shared.model, &error), EMB_OK);
    REFUSED(emb_tokenize(NULL, "a", 1, 3, ids, 4, &used, &count, &done, &error));
    REFUSED(emb_tokenize(tokenizer, NULL, 1, 3, ids, 4, &used, &count, &done, &error));
    REFUSED(emb_tokenize(tokenizer, "a", 1, 3, NULL, 4, &used, &count, &done, &error));
    REFUSED(emb_tokenize(tokenizer, "a", 1, 3, ids, 4, NULL, &count, &done, &error));
    REFUSED(emb_tokenize(tokenizer, "a", 1, 3, ids, 4, &used, NULL, &done, &error));
    REFUSED(emb_tokenize(tokenizer, "a", 1, 3, ids, 4, &used, &count, NULL, &error));
    emb_specials specials = {.before = 7};
    emb_model_specials(&specials, NULL);
    assert_int_equal(specials.before, 0);
    emb_model_specials(NULL, shared.model);
    emb_tokenizer_close(tokenizer);
    emb_tokenizer_close(NULL);
}

static void *cancel_soon(void *engine) {
    usleep(20000);
    emb_engine_cancel(engine);
    return NULL;
}

static void cancel_from_another_thread(void **unused) {
    (void)unused;
    run own;
    emb_limits limits = emb_limits_default();
    assert_int_equal(run_open(&own, BERT, &limits, NULL, &error), EMB_OK);
    size_t length = 64u << 20;
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, 'a', length);
    for (size_t i = 0; i < length; i += 4) text[i] = ' ';
    run_text one = {text, length};
    run_row row;
    float values[DIM_MAX];
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, own.engine), 0);
    assert_int_equal(run_texts(&own, &one, 1, 100000, &row, values, &error), EMB_CANCELLED);
    pthread_join(thread, NULL);
    uint32_t count;
    emb_piece piece = {"a", 1, EMB_PIECE_FIRST | EMB_PIECE_LAST, 0};
    assert_int_equal(emb_engine_submit(own.engine, &piece, 1, &count, &error), EMB_CANCELLED);
    emb_row none;
    assert_int_equal(emb_engine_collect(own.engine, &none, 1, &count, -1, &error), EMB_CANCELLED);
    run_close(&own);
    free(text);
}

/* The mean of a text's token vectors, made as long as one, is the text's vector. */
static void vectors_of_tokens(void **unused) {
    (void)unused;
    emb_limits limits = emb_limits_default();
    limits.output = EMB_OUTPUT_TOKENS;
    run tokens;
    assert_int_equal(run_open(&tokens, BERT, &limits, NULL, &error), EMB_INVALID_ARGUMENT);
    limits.long_rule = EMB_LONG_TRUNCATE;
    limits.dim = 3;
    assert_int_equal(run_open(&tokens, BERT, &limits, NULL, &error), EMB_INVALID_ARGUMENT);
    limits.dim = 0;
    assert_int_equal(run_open(&tokens, BERT, &limits, NULL, &error), EMB_OK);
    const char *texts[] = {"a text", "", "another text of more words"};
    float expected[3][DIM_MAX];
    uint32_t dim = tokens.plan.dim, taken, count = 0;
    for (uint64_t i = 0; i < 3; i++) {
        emb_text text = {.data = texts[i], .length = strlen(texts[i])};
        assert_int_equal(emb_engine_embed(expected[i], shared.engine, &text, 1, &error), EMB_OK);
        REFUSED(emb_engine_embed(expected[i], tokens.engine, &text, 1, &error));
        emb_piece piece = {texts[i], text.length, EMB_PIECE_FIRST | EMB_PIECE_LAST, i};
        assert_int_equal(emb_engine_submit(tokens.engine, &piece, 1, &taken, &error), EMB_OK);
    }
    emb_engine_flush(tokens.engine);
    emb_row rows[3];
    assert_int_equal(emb_engine_collect(tokens.engine, rows, 3, &count, -1, &error), EMB_OK);
    assert_int_equal(count, 3);
    for (uint32_t r = 0; r < 3; r++) {
        double mean[DIM_MAX] = {0}, length = 0;
        assert_true(rows[r].tokens >= 2);
        for (uint64_t t = 0; t < rows[r].tokens; t++)
            for (uint32_t i = 0; i < dim; i++) mean[i] += rows[r].values[t * dim + i];
        for (uint32_t i = 0; i < dim; i++) length += mean[i] * mean[i];
        for (uint32_t i = 0; i < dim; i++)
            assert_true(fabs(mean[i] / sqrt(length) - expected[r][i]) < 1e-5);
    }
    run_close(&tokens);
}

/* A child cannot use the parent's engine: it gives that memory back and opens its own. */
static void forgotten_after_fork(void **unused) {
    (void)unused;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not know threads of a child of fork */
#endif
    float parents[DIM_MAX], childs[DIM_MAX];
    emb_text text = {.data = "a text", .length = 6};
    assert_int_equal(emb_engine_embed(parents, shared.engine, &text, 1, &error), EMB_OK);
    emb_engine_forget(NULL);
    pid_t child = fork();
    if (child == 0) {
        emb_engine_forget(shared.engine);
        emb_engine *own = NULL;
        if (emb_engine_open(&own, shared.model, &shared.plan, &error) != EMB_OK ||
            emb_engine_embed(childs, own, &text, 1, &error) != EMB_OK)
            _exit(1);
        emb_engine_close(own);
        _exit(memcmp(childs, parents, shared.plan.dim * sizeof *childs) ? 2 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(emb_engine_embed(childs, shared.engine, &text, 1, &error), EMB_OK);
}

static void guest_is_measured_as_it_is(void **unused) {
    (void)unused;
    emb_machine guest, own;
    size_t bytes = 64u << 20;
    char *held = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(held != MAP_FAILED);
    for (size_t i = 0; i < bytes; i += 4096) ((volatile char *)held)[i] = 1;
    munmap(held, bytes);
    assert_int_equal(emb_machine_probe_guest(&guest, NULL, &error), EMB_OK);
    assert_int_equal(emb_machine_probe(&own, NULL, &error), EMB_OK);
    assert_true(guest.process_base_bytes + (32u << 20) < own.process_base_bytes);
    assert_int_equal(guest.cpu_features, own.cpu_features);
    REFUSED(emb_machine_probe_guest(NULL, NULL, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(machine_arguments),
        cmocka_unit_test(machine_round_trip),
        cmocka_unit_test(model_arguments),
        cmocka_unit_test(plan_arguments),
        cmocka_unit_test(quantize_arguments),
        cmocka_unit_test(engine_arguments),
        cmocka_unit_test(pieces_out_of_order),
        cmocka_unit_test(pieces_that_change),
        cmocka_unit_test(plan_of_another_model),
        cmocka_unit_test(nothing_under_way),
        cmocka_unit_test(embed_texts_and_ids),
        cmocka_unit_test(failed_row_is_nan),
        cmocka_unit_test(long_rules),
        cmocka_unit_test(tokenizer_arguments),
        cmocka_unit_test(cancel_from_another_thread),
        cmocka_unit_test(vectors_of_tokens),
        cmocka_unit_test(forgotten_after_fork),
        cmocka_unit_test(guest_is_measured_as_it_is),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
