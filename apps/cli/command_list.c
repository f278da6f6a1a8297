/* command_list.c - every command: its name, what runs it, and what --help says of it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"

const emb_command_entry emb_command_list[] = {
    {"plan", EMB_CLI_PLAN, emb_command_plan, "MODEL [options]",
     "show what a budget gives, byte by byte, before any work",
     "Shows what `encode` with the same options takes, item by item, and how it works inside the "
     "budget. Exit 0 if it fits, 78 if not, naming the smallest that works."},
    {"encode", EMB_CLI_ENCODE, emb_command_encode, "MODEL -i FILE... -o FILE [options]",
     "turn texts into vectors (txt, jsonl, csv, tsv -> npy, jsonl)",
     "Writes one vector a text, in input order. The output appears under its name only when it is "
     "complete. Rows that fail are NaN (npy) or null (jsonl), are listed in OUT.errors.jsonl, and "
     "make the exit code 65."},
    {"tokenize", EMB_CLI_TOKENIZE, emb_command_tokenize, "MODEL -i FILE... [-o FILE] [options]",
     "print the token ids of texts",
     "Prints the token ids of each text on a line, special tokens included. Texts are not cut into "
     "chunks."},
    {"search", EMB_CLI_SEARCH, emb_command_search, "MODEL --index FILE.npy [options] QUERY...",
     "find the texts nearest to a query",
     "Prints the nearest rows of the index for each query: score, row, text. The input options are "
     "those of --texts."},
    {"eval", EMB_CLI_EVAL, emb_command_eval, "MODEL -i FILE [options]",
     "score a model on rated sentence pairs, or compare two models",
     "Spearman and Pearson correlation (x 100) between cosine and score over rated sentence "
     "pairs."},
    {"bench", EMB_CLI_BENCH, emb_command_bench, "MODEL [options]", "measure speed and memory",
     "Encodes and throws the vectors away; shows speed by stage and planned and observed memory. "
     "Without -i it makes up texts, the same ones every time."},
    {"tune", EMB_CLI_TUNE, emb_command_tune, "MODEL [options]",
     "find the fastest kernels of a GPU for a model, for later runs",
     "Times the kernels that give the same bits, prints which is fastest for each product and size "
     "of tile, and keeps that under $XDG_CACHE_HOME/embound for this GPU, driver, shape of model, "
     "dtype and version. Runs with --autotune cached, the default, then use it."},
    {"info", EMB_CLI_INFO, emb_command_info, "[MODEL] [options]",
     "show this machine, the kernels in use, a model",
     "Shows the machine, the kernels in use, devices that are not used and why, and what a model's "
     "files say."},
    {"quantize", EMB_CLI_QUANTIZE, emb_command_quantize, "MODEL -o DIR --dtype T [options]",
     "write a model anew in 8 or 4 bits",
     "Writes a directory that stands for the model, with its matrices and word embeddings in fewer "
     "bits, and shows how far each matrix moved. The directory appears when it is complete. The "
     "input options are those of --calibrate."},
    {"train", EMB_CLI_TRAIN, emb_command_train, "MODEL -i FILE... -o DIR [options]",
     "fine-tune a model on examples (csv, tsv, jsonl), inside the budget",
     "Trains the whole model, or adapters alone, on a CPU or GPU and writes it anew, as a "
     "directory "
     "that embound and sentence-transformers read; --loss says what an example is. The bits do not "
     "depend on the number of threads. Ctrl-C ends it after the step at hand, and writes what is "
     "there."},
    {"triton-repo", EMB_CLI_TRITON_REPO, emb_command_triton_repo, "MODEL -o DIR [options]",
     "write a model's configuration for NVIDIA Triton Inference Server",
     "Makes DIR/NAME with a config.pbtxt for the backend embound and an empty version folder, a "
     "model repository that a server loads. Its figures come from the plan on this machine, "
     "without --memory as much as full speed needs; the model's files stay where they are."},
    {"monitor", EMB_CLI_MONITOR, emb_command_monitor, "[options]",
     "show GPUs and running engines, a line a second",
     "Shows, once a second until it is stopped, a line for each GPU (share of time in use, memory, "
     "power, temperature, clocks, what holds the clocks down) with its compute processes, and a "
     "line for each of your engines that were started with --status. Exit 69 if there is neither a "
     "GPU that NVML knows nor an engine."},
    {"pull", EMB_CLI_PULL, emb_command_pull, "MODEL[@REVISION] [options]",
     "get a model from the hub into the local hub cache",
     "Gets the files of a model that embound needs (configuration, tokenizer, safetensors) from "
     "the "
     "hub into its standard cache, checks every one, and prints where they are. What was cut is "
     "resumed. All commands take the name instead of a path then."},
};

const size_t emb_command_list_count = sizeof emb_command_list / sizeof emb_command_list[0];
