/* help.c - the texts of --help.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

const char *emb_cli_usage(void) {
    return "usage: embound COMMAND MODEL [options]\n"
           "\n"
           "Sentence embeddings inside a stated memory budget.\n"
           "\n"
           "commands\n"
           "  plan      show what a budget gives, byte by byte, before any work\n"
           "  encode    turn texts into vectors (txt, jsonl, csv, tsv -> npy, jsonl)\n"
           "  tokenize  print the token ids of texts\n"
           "  search    find the texts nearest to a query\n"
           "  eval      score a model on rated sentence pairs, or compare two models\n"
           "  bench     measure speed and memory\n"
           "  info      show this machine, the kernels in use, a model\n"
           "  monitor   show GPUs and running engines, a line a second\n"
           "  serve, pull, train  are programs of their own (embound-serve, ...)\n"
           "\n"
           "MODEL is a sentence-transformers directory, a .safetensors file beside its "
           "config.json,\n"
           "or the name of a model in the local hub cache.\n"
           "\n"
           "  embound COMMAND --help   the options of a command\n"
           "  embound --version\n"
           "\n"
           "example\n"
           "  embound plan models/all-MiniLM-L6-v2 --memory 64MiB\n"
           "  embound encode models/all-MiniLM-L6-v2 -i texts.txt -o vectors.npy --memory 64MiB\n";
}

#define HELP_PLAN                                                                                  \
    "\nmemory and machine\n"                                                                       \
    "  -m, --memory SIZE     hard cap on the whole process: 96MiB, 1.5GB, 64M; default auto,\n"    \
    "                        as much as full speed needs\n"                                        \
    "      --gpu-memory SIZE the same for each GPU\n"                                              \
    "      --device D        auto, cpu, cuda, cuda:N, cuda:N,N..., cuda:all\n"                     \
    "      --dtype T         f32, bf16, f16, int8, int4, fp8, auto; default f32 (CPU), f16\n"      \
    "  -t, --threads N       compute threads at most\n"                                            \
    "\nvectors\n"                                                                                  \
    "      --max-length N    longest chunk in tokens, special tokens included\n"                   \
    "                        (also --chunk-tokens)\n"                                              \
    "      --long RULE       longer texts: chunk (mean over chunks, default), truncate, error\n"   \
    "      --pooling P       mean, cls, max; default: the model's\n"                               \
    "      --normalize, --no-normalize\n"                                                          \
    "      --dim N           keep the first N values (Matryoshka models)\n"

#define HELP_PROMPT                                                                                \
    "      --prompt TEXT     put before every text\n"                                              \
    "      --prompt-name N   the prompt of that name in the model's files\n"

#define HELP_INPUT                                                                                 \
    "  -i, --input FILE      may be repeated; - is standard input\n"                               \
    "      --input-format F  txt, whole, jsonl, csv, tsv; default: by suffix, else txt\n"          \
    "      --whole-file      one text a file instead of one a line\n"                              \
    "      --field NAME      jsonl: the field with the text (default text; a.b is b inside a)\n"   \
    "      --column C        csv, tsv: name or number; default text, or the only column\n"         \
    "      --no-header       csv, tsv: the first line is data\n"                                   \
    "      --no-quotes       csv, tsv: a quote is a character like any other\n"

#define HELP_RUN                                                                                   \
    "      --progress WHEN   auto (on a terminal), always, never\n"                                \
    "      --stats FILE      one JSON object with counts, seconds and peak bytes\n"                \
    "      --json            results as JSON on standard output\n"                                 \
    "  -q, --quiet           errors only\n"

static const char help_plan[] =
    "usage: embound plan MODEL [options]\n"
    "\n"
    "Shows what `encode` with the same options takes, item by item, and how it works\n"
    "inside the budget. Exit 0 if it fits, 78 if not, naming the smallest that works.\n"
    "\n"
    "      --json            one JSON object\n"
    "      --machine FILE    plan for the machine that `info --save-machine` "
    "described\n" HELP_PLAN;

#define HELP_STATUS "      --status          let `embound monitor` see this run\n"

static const char help_encode[] =
    "usage: embound encode MODEL -i FILE... -o FILE [options]\n"
    "\n"
    "Writes one vector a text, in input order. The output appears under its name only\n"
    "when it is complete. Rows that fail are NaN (npy) or null (jsonl), are listed in\n"
    "OUT.errors.jsonl, and make the exit code 65.\n"
    "\n"
    "input and output\n" HELP_INPUT
    "  -o, --output FILE     .npy or .jsonl; - is standard output (jsonl)\n"
    "      --output-format F npy, jsonl\n" HELP_STATUS HELP_RUN HELP_PLAN HELP_PROMPT;

static const char help_tokenize[] =
    "usage: embound tokenize MODEL -i FILE... [-o FILE] [options]\n"
    "\n"
    "Prints the token ids of each text on a line, special tokens included. Texts are\n"
    "not cut into chunks.\n"
    "\n" HELP_INPUT "  -o, --output FILE     default: standard output\n"
    "      --json            {\"index\":0,\"ids\":[...]} a line\n"
    "      --no-specials     without the special tokens around the text\n" HELP_PROMPT;

static const char help_search[] =
    "usage: embound search MODEL --index FILE.npy [options] QUERY...\n"
    "\n"
    "Prints the nearest rows of the index for each query: score, row, text.\n"
    "\n"
    "      --index FILE      vectors written by embound encode\n"
    "      --texts FILE      the texts they were made from, to show their beginnings\n"
    "      --input-format, --field, --column, --no-header, --no-quotes: of --texts\n"
    "  -k, --top N           rows a query, default 3\n"
    "      --score S         cosine (default) or dot\n" HELP_RUN HELP_PLAN HELP_PROMPT;

static const char help_eval[] =
    "usage: embound eval MODEL -i FILE [options]\n"
    "\n"
    "Spearman and Pearson correlation (x 100) between cosine and score over rated\n"
    "sentence pairs.\n"
    "\n"
    "  -i, --input FILE      csv, or tab separated (then without quoting)\n"
    "      --columns S,A,B   score and sentences, as names or numbers; default\n"
    "                        score,sentence1,sentence2 with a header row, else 5,6,7\n"
    "      --no-header       the first line is data (default: seen from its score)\n"
    "      --no-quotes       a quote is a character like any other\n"
    "      --against MODEL   also mean and minimum cosine to another model's vectors "
    "of\n"
    "                        the same texts\n" HELP_STATUS HELP_RUN HELP_PLAN HELP_PROMPT;

static const char help_info[] =
    "usage: embound info [MODEL] [options]\n"
    "\n"
    "Shows the machine, the kernels in use, devices that are not used and why, and "
    "what\n"
    "a model's files say.\n"
    "\n"
    "      --save-machine F  write the machine as JSON, for plan --machine\n"
    "      --device D        devices to look at\n"
    "      --json            one JSON object\n";

static const char help_bench[] =
    "usage: embound bench MODEL [options]\n"
    "\n"
    "Encodes and throws the vectors away; shows speed by stage and planned and "
    "observed\n"
    "memory. Without -i it makes up texts, the same ones every time.\n"
    "\n" HELP_INPUT "      --repeat N        go through the input N times\n" HELP_STATUS HELP_RUN
        HELP_PLAN HELP_PROMPT;

static const char help_monitor[] =
    "usage: embound monitor [options]\n"
    "\n"
    "Shows, once a second until it is stopped, a line for each GPU (share of time in use,\n"
    "memory, power, temperature, clocks, what holds the clocks down) with its compute\n"
    "processes, and a line for each of your engines that were started with --status.\n"
    "Exit 69 if there is neither a GPU that NVML knows nor an engine.\n"
    "\n"
    "      --interval S      seconds from one report to the next, default 1\n"
    "      --count N         stop after N reports\n"
    "      --json            one JSON object a report\n"
    "  -q, --quiet           do not say why no GPU is shown\n";

const char *emb_cli_help(emb_cli_command command) {
    switch (command) {
    case EMB_CLI_PLAN:
        return help_plan;
    case EMB_CLI_ENCODE:
        return help_encode;
    case EMB_CLI_TOKENIZE:
        return help_tokenize;
    case EMB_CLI_SEARCH:
        return help_search;
    case EMB_CLI_EVAL:
        return help_eval;
    case EMB_CLI_INFO:
        return help_info;
    case EMB_CLI_BENCH:
        return help_bench;
    case EMB_CLI_MONITOR:
        return help_monitor;
    }
    return emb_cli_usage();
}
