/* option_list.c - every option: add a line here, and a field in emb_options (options.h).
 *
 * The manual's text is compiled into the generator of the manual only (apps/manual), so that it
 * takes no memory in the program.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/option_list.h"

#include <stddef.h>

#include "sink/sink.h"

#ifdef EMB_WITH_MANUAL
#define MANUAL(text) .manual = text
#else
#define MANUAL(text) .manual = NULL
#endif
#define ONLY_HELP MANUAL("")

#define RUNS  (EMB_CLI_ENCODE | EMB_CLI_SEARCH | EMB_CLI_EVAL | EMB_CLI_BENCH)
#define PLANS (RUNS | EMB_CLI_PLAN | EMB_CLI_TUNE)
#define READS (EMB_CLI_ENCODE | EMB_CLI_TOKENIZE | EMB_CLI_BENCH)
#define TABLE (READS | EMB_CLI_SEARCH | EMB_CLI_QUANTIZE)
#define LOOKS (EMB_CLI_PLAN | EMB_CLI_INFO | EMB_CLI_QUANTIZE | EMB_CLI_TUNE)
#define ALL                                                                                        \
    (PLANS | EMB_CLI_TOKENIZE | EMB_CLI_INFO | EMB_CLI_MONITOR | EMB_CLI_PULL | EMB_CLI_QUANTIZE | \
     EMB_CLI_TRAIN | EMB_CLI_TRITON_REPO)
#define SERVES (PLANS | EMB_CLI_TRITON_REPO)

#define AT(field)                  .offset = offsetof(emb_options, field)
#define FLAG(field)                .kind = EMB_OPTION_FLAG, AT(field)
#define CONSTANT(field, set)       .kind = EMB_OPTION_CONSTANT, AT(field), .min = set
#define TEXT(field)                .kind = EMB_OPTION_TEXT, AT(field)
#define PATH(field)                TEXT(field), .words = EMB_WORDS_FILES
#define NUMBER(field, low, high)   .kind = EMB_OPTION_NUMBER, AT(field), .min = low, .max = high
#define REAL(field, high)          .kind = EMB_OPTION_REAL, AT(field), .max = high
#define CHOICE(field, first, list) .kind = EMB_OPTION_CHOICE, AT(field), .min = first, .words = list
#define MANUAL_FIRST(name, NAME)   ".Cm " #name
#define MANUAL_OR(name, NAME)      "\nor\n.Cm " #name
#define SIZE(field)                .kind = EMB_OPTION_SIZE, AT(field), .words = SIZES
#define SPECIAL(name)              .kind = EMB_OPTION_##name

#define SIZES "auto 64MiB 96MiB 256MiB 1GiB"

/* name, letter, value's name, commands, group, how it is read, --help, manual */
const emb_option_entry emb_option_list[] = {
    /* of single commands */
    {"--machine", 0, "FILE", EMB_CLI_PLAN, EMB_GROUP_COMMAND, PATH(machine_path),
     .help = "plan for the machine that info --save-machine described",
     MANUAL(".Cm plan :\nplan for the machine described in\n.Ar file .")},
    {"--train", 0, "N", EMB_CLI_PLAN, EMB_GROUP_COMMAND, NUMBER(plan_train, 1, 1u << 20),
     .help = "what ways of training would take, by steps of N pairs of texts",
     MANUAL(".Cm plan :\nwhat\n.Cm train\nwould take by steps of\n.Ar N\npairs of texts, for each "
            "optimizer and with adapters: kept so that nothing is computed again,\nwithin the "
            "budget, and in the least memory, with the work of each.\nExits 0.")},
    {"--save-machine", 0, "F", EMB_CLI_INFO, EMB_GROUP_COMMAND, PATH(save_machine_path),
     .help = "write the machine as JSON, for plan --machine",
     MANUAL(".Cm info :\ndescribe this machine in\n.Ar f ,\nas JSON.")},
    {"--no-specials", 0, NULL, EMB_CLI_TOKENIZE, EMB_GROUP_COMMAND, FLAG(no_specials),
     .help = "without the special tokens around the text",
     MANUAL(".Cm tokenize :\nwithout the special tokens.")},
    {"--index", 0, "FILE", EMB_CLI_SEARCH, EMB_GROUP_COMMAND, PATH(index_path),
     .help = "vectors written by embound encode",
     MANUAL("Vectors written by\n.Cm encode ,\nor another\n.Pa .npy\nfile of version 1.0 or 2.0 "
            "with 32-bit floats in rows.")},
    {"--texts", 0, "FILE", EMB_CLI_SEARCH, EMB_GROUP_COMMAND, PATH(texts_path),
     .help = "the texts they were made from, to show their beginnings",
     MANUAL("The texts they were made from; its format options are those of an input.")},
    {"--top", 'k', "N", EMB_CLI_SEARCH, EMB_GROUP_COMMAND, NUMBER(k, 1, EMB_CLI_K_MAX),
     .help = "rows a query, default 3", MANUAL("Rows a query; the default is 3.")},
    {"--score", 0, "S", EMB_CLI_SEARCH, EMB_GROUP_COMMAND, CHOICE(score, 0, "cosine dot"),
     .help = "cosine (default) or dot", MANUAL(".Cm cosine\n(default) or\n.Cm dot .")},
    {"--columns", 0, "S,A,B", EMB_CLI_EVAL, EMB_GROUP_COMMAND, TEXT(columns),
     .help = "score and sentences, as names or numbers; default score,sentence1,sentence2 with a "
             "header row, else 5,6,7",
     MANUAL("Columns of the table of pairs, score and two sentences, as names or numbers.\nThe "
            "default is\n.Li score,sentence1,sentence2\nwith a header row, and 5,6,7 without.\n"
            "Whether there is a header row is seen from the score, unless\n.Fl -no-header\nis "
            "given.\nA table with tabs in its first line is read without quoting.")},
    {"--against", 0, "MODEL", EMB_CLI_EVAL, EMB_GROUP_COMMAND, PATH(against),
     .help = "also mean and minimum cosine to another model's vectors of the same texts, and its "
             "Spearman",
     MANUAL("Also print mean and minimum cosine between the vectors that the two models give the "
            "same texts,\nand the other model's Spearman correlation with its distance to the "
            "first's.\nThe budget must do for both models, one after the other.")},
    {"--repeat", 0, "N", EMB_CLI_BENCH, EMB_GROUP_COMMAND, NUMBER(repeat, 1, 1000000),
     .help = "go through the input N times",
     MANUAL(".Cm bench :\ngo through the input\n.Ar N\ntimes; refused with standard input, which "
            "can be read once only.")},
    {"--calibrate", 0, "FILE", EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND, PATH(calibrate),
     .help = "texts of the kind to be embedded; matrices are rounded for what they multiply, which "
             "takes time and memory",
     MANUAL(
         ".Cm quantize :\ntexts of the kind that will be embedded.\nMatrices are rounded so that "
         "their products with these texts' activations move least, which costs\ntime and "
         "memory.\nUp to 4 MiB of texts are read.")},
    {"--calibrate-tokens", 0, "N", EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND,
     NUMBER(calibrate_tokens, 64, 1u << 20), .help = "tokens of them to use, default 8192",
     MANUAL(".Cm quantize :\ntokens of the texts to use; the default is 8192.\nMemory grows with "
            "them.")},
    {"--group", 0, "N", EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND, NUMBER(group, 32, 64),
     .help = "int4: values that share a scale, 32 (default) or 64",
     MANUAL(".Cm quantize :\nvalues of an int4 matrix that share a scale, 32 (default) or 64.")},
    {"--smooth", 0, NULL, EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND, FLAG(smooth),
     .help = "with --calibrate: move range from activations into the matrices",
     MANUAL(".Cm quantize :\nwith\n.Fl -calibrate ,\nmove range from the activations, which 8 bits "
            "fit less well, into the matrices.")},
    {"--force", 0, NULL, EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND, FLAG(force),
     .help = "replace DIR and all in it, if quantize wrote it",
     MANUAL(".Cm quantize :\nreplace the output and all that is in it, if\n.Cm quantize\nwrote "
            "it.")},
    {"--loss", 0, "L", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, CHOICE(train.loss, 0, EMB_CLI_LOSS_WORDS),
     .help = "ranking (anchor, positive, negatives; default), triplet (a negative is needed), "
             "cosent or cosine (two texts and a score), batch-hard (text, label), simcse (texts "
             "alone), distill (texts and --teacher)",
     MANUAL(".Cm train :\n.Cm ranking\n(default): each anchor is to be nearest to its positive "
            "among all positives and negatives of the batch.\n.Cm triplet :\nnearer to its "
            "positive than to its negatives, by a margin.\n.Cm cosent :\nthe cosines of two "
            "sentences are to have the order of the scores.\n.Cm cosine :\nthey are to be the "
            "scores, from \\-1 to 1.\n.Cm batch-hard :\ntexts with labels; each is to be nearer "
            "to the farthest text of its label in the batch than to the\nnearest of another.\n.Cm "
            "simcse :\ntexts alone; each goes through the model twice, with other dropout, and is "
            "to find itself among the others.\n.Cm distill :\ntexts alone; their cosines are to "
            "be those of\n.Fl -teacher .")},
    {"--scale", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.scale, 1000000),
     .help = "ranking, simcse, cosent: what cosines are multiplied by, default 20",
     MANUAL(".Cm train :\nwhat the losses\n.Cm ranking , simcse\nand\n.Cm cosent\nmultiply "
            "cosines by, default 20: one over the temperature.")},
    {"--margin", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.margin, 1000000),
     .help =
         "triplet, batch-hard: how much nearer the positive is to be; default 5, of cosines 0.5",
     MANUAL(".Cm train :\nhow much nearer the losses\n.Cm triplet\nand\n.Cm batch-hard\nwant the "
            "positive; default 5, with\n.Fl -distance Cm cosine\n0.5.")},
    {"--distance", 0, "D", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     CHOICE(train.distance, 0, "euclidean cosine"),
     .help = "of these: euclidean (default) or cosine",
     MANUAL(
         ".Cm train :\nthe distance that these losses compare:\n.Cm euclidean\n(default) or\n.Cm "
         "cosine ,\none less the cosine.")},
    {"--symmetric", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.symmetric),
     .help = "ranking: positives find their anchors, too",
     MANUAL(".Cm train :\nwith the loss\n.Cm ranking ,\neach positive is also to be nearest to "
            "its anchor among all anchors.")},
    {"--matryoshka", 0, "N,N...", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, TEXT(train.matryoshka),
     .help = "the loss of the first N values of the vectors, for each N, added up; N:W has the "
             "weight W, else 1",
     MANUAL(
         ".Cm train :\nthe sum of the losses of the first\n.Ar N\nvalues of the vectors, up to "
         "eight of them, so that vectors can be cut there\n.Pq Fl -dim .\nThe whole width counts "
         "if it is among them.\n.Ar N : Ns Ar W\nhas the weight\n.Ar W ,\nelse 1.")},
    {"--teacher", 0, "MODEL", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, PATH(train.teacher),
     .help =
         "distill: the model whose cosines the texts are to have; it encodes them first, under "
         "the same --memory, into a file without a name beside DIR; or .npy, as encode wrote it",
     MANUAL(".Cm train :\nthe model that\n.Cm distill\nlearns from; its vectors may have another "
            "width.\nIt encodes all texts before the training begins, under the same\n.Fl -memory "
            ",\ninto a file without a name beside the output: four bytes a value.\nOr the\n.Pa "
            ".npy\nfile that\n.Cm encode\nwrote of the same texts, on whatever device.")},
    {"--columns", 0, "A,B...", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, TEXT(columns),
     .help = "the texts, as names (keys) or numbers; default anchor,positive and all negative...; "
             "cosent, cosine: as in eval; batch-hard: text,label; simcse, distill: text, or the "
             "only one",
     MANUAL(
         ".Cm train :\nanchor, positive and negatives, as names of columns or keys, or as "
         "numbers.\nThe default is\n.Li anchor,positive\nand all whose names begin with\n.Li "
         "negative ;\nof a table with\n.Fl -no-header\nall columns.\nWith the losses\n.Cm "
         "cosent\nand\n.Cm cosine\nit is that of\n.Cm eval ,\nwith\n.Cm batch-hard\n.Li text,label "
         ",\nwith\n.Cm "
         "simcse\nand\n.Cm distill\n.Li text\nor the only column; the lines of a\n.Pa .txt\nfile "
         "are such texts.")},
    {"--batch-size", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     NUMBER(train.batch_size, 1, 1u << 20),
     .help = "examples of a step, default 32; ranking learns from the whole batch",
     MANUAL(".Cm train :\nexamples of a step; the default is 32.\nThe loss\n.Cm ranking\nlearns "
            "from all texts of a batch, and a larger one takes little more memory.")},
    {"--accumulate", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     NUMBER(train.accumulate, 1, 1u << 20),
     .help = "a step is the mean over N batches; a text's negatives are those of its own batch, so "
             "for ranking a larger --batch-size is better",
     MANUAL(
         ".Cm train :\na step is the mean over\n.Ar N\nbatches.\nLosses that compare the texts of "
         "a batch see each batch alone: for them a larger\n.Fl -batch-size\nis better, and takes "
         "little more memory.")},
    {"--epochs", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, NUMBER(train.epochs, 1, 100000),
     .help = "times through the examples, default 1",
     MANUAL(".Cm train :\ntimes through the examples; the default is 1.")},
    {"--steps", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, NUMBER(train.steps, 1, UINT32_MAX),
     .help = "so many steps, instead of epochs",
     MANUAL(".Cm train :\nso many steps, instead of epochs.")},
    {"--learning-rate", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.learning_rate, 10),
     .help = "the highest, default 2e-5",
     MANUAL(".Cm train :\nthe highest learning rate; the default is 2e-5.")},
    {"--schedule", 0, "S", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     CHOICE(train.schedule, 0, "linear cosine constant"),
     .help = "of the learning rate after the warm-up: linear (to 0; default), cosine, constant",
     MANUAL(".Cm train :\nthe learning rate after the warm-up:\n.Cm linear\n(default) and\n.Cm "
            "cosine\ngo down to 0,\n.Cm constant\nstays.")},
    {"--warmup-ratio", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.warmup_ratio, 1),
     .help = "share of the steps in which the learning rate rises, default 0",
     MANUAL(".Cm train :\nshare of the steps in which the learning rate rises; the default is 0.")},
    {"--warmup-steps", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     NUMBER(train.warmup_steps, 1, UINT32_MAX), .help = "the same as a number of steps",
     MANUAL(".Cm train :\nthe same as a number of steps.")},
    {"--weight-decay", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.weight_decay, 1),
     .help = "of matrices and tables, default 0",
     MANUAL(".Cm train :\nof matrices and tables, not of biases and norms; the default is "
            "0.")},
    {"--max-grad-norm", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     REAL(train.max_grad_norm, 1000000), .help = "clip gradients at this norm, default 1; 0: never",
     MANUAL(".Cm train :\nclip all gradients together at this norm; the default is 1, and 0 never "
            "does.")},
    {"--optimizer", 0, "O", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     CHOICE(train.optimizer, 0, "adamw adamw8 sgd"),
     .help = "adamw (default); adamw8: its moments in 8 bits, a quarter of the memory; or sgd",
     MANUAL(".Cm train :\n.Cm adamw ,\nthe default;\n.Cm adamw8 ,\nwhich keeps AdamW's moments "
            "in 8 bits with two scales a block of 256:\na quarter of their memory; or\n.Cm sgd ,\n"
            "which keeps one moment, and without momentum none.")},
    {"--momentum", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.momentum, 1),
     .help = "of sgd, default 0",
     MANUAL(".Cm train :\nthe momentum of\n.Cm sgd ,\nbelow 1; the default is 0.")},
    {"--nesterov", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.nesterov),
     .help = "sgd looks ahead by its momentum",
     MANUAL(".Cm train :\n.Cm sgd\nlooks ahead by its momentum, after Nesterov.")},
    {"--layer-decay", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.layer_decay, 1),
     .help = "each layer's learning rate is that of the one behind it times X, default 1",
     MANUAL(
         ".Cm train :\nthe learning rate of each layer is that of the one behind it times\n.Ar X "
         ",\nand that of the embeddings the first layer's times\n.Ar X ;\nthe default is 1.")},
    {"--layerwise", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.layerwise),
     .help = "move each layer once its gradients are there, and keep none; needs --max-grad-norm 0",
     MANUAL(
         ".Cm train :\non the way back, move each layer as soon as its gradients are complete, so "
         "that those of\none layer are in memory and not of all; the bits are the same.\nThe "
         "batch is worked on at once, and\n.Fl -max-grad-norm\nmust be 0.")},
    {"--lora", 0, "R", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, NUMBER(train.lora_rank, 1, 65536),
     .help = "train adapters of rank R alone; MODEL may be quantized, and stays so in memory",
     MANUAL(".Cm train :\ntrain low-rank adapters of rank\n.Ar R\nalone, and leave the model as it "
            "is: gradients and moments are theirs, and the model takes\nthe bytes of its files, "
            "which may be quantized.\n.Ar DIR\ngets the model with them added, in f32.\nLearning "
            "rates are higher than without: 1e-4 to 1e-3.")},
    {"--lora-alpha", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.lora_alpha, 1000000),
     .help = "adapters are added times X / R, default 2 R",
     MANUAL(
         ".Cm train :\nadapters are added times\n.Ar X\nover their rank; the default is twice the "
         "rank.")},
    {"--lora-targets", 0, "T,T...", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, TEXT(train.lora_targets),
     .help = "query,key,value,attention.out,ffn.in,ffn.out or all; default query,value",
     MANUAL(
         ".Cm train :\nthe matrices of each layer that get one, of\n.Li query , key , value , "
         "attention.out , ffn.in , ffn.out ,\nor\n.Li all ;\nthe default is\n.Li query,value .")},
    {"--adapter-only", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.adapter_only),
     .help = "DIR gets the adapters as PEFT reads them, not the model",
     MANUAL(".Cm train :\n.Ar DIR\ngets the adapters alone, as PEFT and the method\n.Li "
            "load_adapter\nof sentence-transformers read them.")},
    {"--dtype", 0, "T", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     CHOICE(settings.limits.dtype, EMB_DTYPE_F32, "f32 bf16"),
     .help = "of products: f32 or, on a CPU that multiplies it fast, bf16; a GPU: bf16", ONLY_HELP},
    {"--checkpoint", 0, "FILE", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, PATH(train.checkpoint_path),
     .help = "keep the state of the training in FILE, to go on with --resume",
     MANUAL(".Cm train :\nkeep the whole state of the training in\n.Ar FILE ,\nwhich holds a "
            "complete one at every instant.")},
    {"--checkpoint-steps", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     NUMBER(train.checkpoint_steps, 1, UINT32_MAX), .help = "after every N steps, default 100",
     MANUAL(".Cm train :\nwrite it after every\n.Ar N\nsteps, 100 by default, and at the end.")},
    {"--resume", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.resume),
     .help = "go on where the checkpoint was written, with the same bits",
     MANUAL(".Cm train :\ngo on where the file of\n.Fl -checkpoint\nwas written, if it is there.\n"
            "With the same options and examples the model comes out with the same bits as if the\n"
            "training had not been stopped.")},
    {"--dropout", 0, "X", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, REAL(train.dropout, 1),
     .help = "share of activations and attention weights left out in training, default 0; simcse "
             "0.1",
     MANUAL(".Cm train :\nshare of the embedding's and the blocks' outputs and of the attention's "
            "weights that a step leaves\nout; the default is 0, with the loss\n.Cm simcse\n0.1.")},
    {"--seed", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, NUMBER(train.seed, 0, UINT32_MAX),
     .help = "of the order of examples and of dropout, default 0",
     MANUAL(
         ".Cm train :\nof the order of the examples, which follows from it and the epoch, and of "
         "dropout; the default is\n0.")},
    {"--no-shuffle", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.no_shuffle),
     .help = "take examples in the order of the files",
     MANUAL(".Cm train :\ntake the examples in the order of the files.")},
    {"--no-duplicates", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.no_duplicates),
     .help = "no text twice in a batch, which would be its own negative",
     MANUAL(".Cm train :\nno two examples of a batch share a text, which would be a negative of "
            "itself.\nExamples that do wait for another batch of the epoch.")},
    {"--eval", 0, "FILE", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, PATH(train.eval_path),
     .help = "scored pairs, as for eval, or jsonl; Spearman before and after",
     MANUAL(".Cm train :\nscored pairs, as for\n.Cm eval ,\nor JSON Lines with the keys\n.Li "
            "score , sentence1 , sentence2 .\nTheir Spearman correlation is shown before and "
            "after.")},
    {"--eval-columns", 0, "S,A,B", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, TEXT(train.eval_columns),
     .help = "of them: score and sentences, as names or numbers",
     MANUAL(".Cm train :\nits score and sentences, as names or numbers.")},
    {"--eval-steps", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND,
     NUMBER(train.eval_steps, 1, UINT32_MAX), .help = "also after every N steps",
     MANUAL(".Cm train :\nevaluate also after every\n.Ar N\nsteps.")},
    {"--keep-best", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(train.keep_best),
     .help = "write the model at each evaluation that is the best so far; DIR keeps the best",
     MANUAL(
         ".Cm train :\nwrite the model at each evaluation that is the best so far, and not at the "
         "end if that is worse.")},
    {"--patience", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, NUMBER(train.patience, 1, UINT32_MAX),
     .help = "end after N evaluations (--eval-steps) that are not the best so far",
     MANUAL(".Cm train :\nend after\n.Ar N\nevaluations in a row that are not the best so far.")},
    {"--tensorboard", 0, "DIR", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, PATH(train.tensorboard_path),
     .help = "write loss, gradient norm, learning rate, tokens/s and Spearman as event files of "
             "TensorBoard",
     MANUAL(
         ".Cm train :\nwrite loss, gradient norm, learning rate, tokens a second and Spearman as "
         "an event file of TensorBoard in\n.Ar DIR .")},
    {"--log", 0, "FILE", EMB_CLI_TRAIN, EMB_GROUP_COMMAND, PATH(train.log_path),
     .help = "write a JSON object a step: loss, gradient norm, learning rate, tokens/s, memory",
     MANUAL(".Cm train :\nwrite a JSON object a line for each step (loss, gradient norm, learning "
            "rate, tokens a second, memory)\nand each evaluation, as they come; a training that "
            "goes on from a checkpoint adds to the file, and steps after the checkpoint come "
            "again.")},
    {"--force", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_COMMAND, FLAG(force),
     .help = "replace DIR and all in it, if train wrote it", ONLY_HELP},
    {"--force", 0, NULL, EMB_CLI_TRITON_REPO, EMB_GROUP_COMMAND, FLAG(force),
     .help = "replace a config.pbtxt that triton-repo wrote", ONLY_HELP},
    {"--name", 0, "NAME", EMB_CLI_TRITON_REPO, EMB_GROUP_COMMAND, TEXT(triton.name),
     .help = "what the server calls the model; default: the model's own name",
     MANUAL(".Cm triton-repo :\nwhat the server calls the model.")},
    {"--output-dtype", 0, "T", EMB_CLI_TRITON_REPO, EMB_GROUP_COMMAND,
     CHOICE(triton.output, 0, "f32 f16 int8"), .help = "of the vectors: f32, f16, int8",
     MANUAL(".Cm triton-repo :\nthe datatype of the vectors.")},
    {"--max-batch-size", 0, "N", EMB_CLI_TRITON_REPO, EMB_GROUP_COMMAND,
     NUMBER(triton.batch_size, 1, 65536), .help = "texts of a batch; default: as a window has",
     MANUAL(".Cm triton-repo :\ntexts of a batch.")},
    {"--queue-delay", 0, "US", EMB_CLI_TRITON_REPO, EMB_GROUP_COMMAND,
     NUMBER(triton.queue_delay, 0, 60000000),
     .help = "microseconds that the server waits for more requests, default 0",
     MANUAL(".Cm triton-repo :\nmicroseconds that the server waits for more requests.")},
    {"--interval", 0, "S", EMB_CLI_MONITOR, EMB_GROUP_COMMAND, SPECIAL(SECONDS),
     .help = "seconds from one report to the next, default 1",
     MANUAL(".Cm monitor :\nseconds from one report to the next, 0.05 to 86400; the default is "
            "1.")},
    {"--count", 0, "N", EMB_CLI_MONITOR, EMB_GROUP_COMMAND, NUMBER(reports_max, 1, UINT32_MAX),
     .help = "stop after N reports", MANUAL(".Cm monitor :\nstop after\n.Ar N\nreports.")},
    {"--revision", 0, "REV", EMB_CLI_PULL, EMB_GROUP_COMMAND, TEXT(revision),
     .help = "branch, tag or commit, default main; the same as MODEL@REV",
     MANUAL(
         ".Cm pull :\nbranch, tag or commit; the default is main.\nThe same as\n.Ar model Ns @ Ns "
         "Ar rev .")},
    {"--offline", 0, NULL, EMB_CLI_PULL, EMB_GROUP_COMMAND, FLAG(offline),
     .help = "only look whether it is in the cache",
     MANUAL(".Cm pull :\nonly look whether the model is in the cache, as with\n.Ev "
            "HF_HUB_OFFLINE .")},

    /* input */
    {"--input", 'i', "FILE", READS, EMB_GROUP_INPUT, SPECIAL(INPUT), .words = EMB_WORDS_FILES,
     .help = "texts; may be repeated, - is standard input",
     MANUAL("May be repeated; the files are read one after another.\n.Sq -\nis standard input.")},
    {"--input", 'i', "FILE", EMB_CLI_EVAL, EMB_GROUP_INPUT, SPECIAL(INPUT),
     .words = EMB_WORDS_FILES, .help = "csv, or tab separated (then without quoting)", ONLY_HELP},
    {"--input", 'i', "FILE", EMB_CLI_TRAIN, EMB_GROUP_INPUT, SPECIAL(INPUT),
     .words = EMB_WORDS_FILES,
     .help = "examples: csv, tab separated (then without quoting), or jsonl, simcse and distill "
             "txt, too; may be repeated",
     ONLY_HELP},
    {"--input-format", 0, "F", EMB_CLI_TRAIN, EMB_GROUP_INPUT,
     CHOICE(source.format, EMB_SOURCE_JSONL, "jsonl csv tsv"),
     .help = "jsonl, csv, tsv (these with quoting); default: by suffix and first line", ONLY_HELP},
    {"--input-format", 0, "F", TABLE, EMB_GROUP_INPUT, CHOICE(source.format, 1, EMB_SOURCE_WORDS),
     .help = "format: " EMB_SOURCE_LIST "; default: by suffix, else txt",
     MANUAL(".Cm txt :\none text a line, ending in LF or CRLF; an empty line is an empty text.\n"
            ".Cm whole :\none text a file.\n.Cm jsonl :\none object a line; blank lines are "
            "passed over.\n.Cm csv , tsv :\ntables with quoting as in RFC 4180; a blank line is "
            "an empty text if there is a single column,\nelse it is passed over.\nThe default "
            "goes by the suffix of the first file, else txt.\nA byte order mark at the start of a "
            "file is passed over.\nBytes that are not UTF-8 become U+FFFD.")},
    {"--whole-file", 0, NULL, READS, EMB_GROUP_INPUT, CONSTANT(source.format, EMB_SOURCE_WHOLE),
     .help = "one text a file instead of one a line",
     MANUAL("The same as\n.Fl -input-format Cm whole .")},
    {"--field", 0, "NAME", TABLE, EMB_GROUP_INPUT, TEXT(source.field),
     .help = "jsonl: the field with the text; default text, and a.b is b inside a",
     MANUAL("jsonl: the field that holds the text; the default is\n.Li text .\n.Li a.b\nis b "
            "inside a.")},
    {"--column", 0, "C", TABLE, EMB_GROUP_INPUT, TEXT(source.column),
     .help = "csv, tsv: the column with the text, name or number; default text, or the only one",
     MANUAL("csv, tsv: its name in the header row, or its number, from 1.\nThe default is\n.Li "
            "text ,\nor the only column.")},
    {"--no-header", 0, NULL, TABLE, EMB_GROUP_INPUT, FLAG(source.no_header),
     .help = "csv, tsv: the first line is data", MANUAL("The first line is data.")},
    {"--no-header", 0, NULL, EMB_CLI_EVAL, EMB_GROUP_INPUT, FLAG(source.no_header),
     .help = "the first line is data (default: seen from its score)", ONLY_HELP},
    {"--no-header", 0, NULL, EMB_CLI_TRAIN, EMB_GROUP_INPUT, FLAG(source.no_header),
     .help = "the first line is an example (cosent, cosine: seen from its score)", ONLY_HELP},
    {"--no-quotes", 0, NULL, TABLE | EMB_CLI_EVAL | EMB_CLI_TRAIN, EMB_GROUP_INPUT,
     FLAG(source.no_quotes), .help = "csv, tsv: a quote is a character like any other",
     MANUAL("A quote is a character like any other.")},

    {"--delimiter", 0, "C", TABLE | EMB_CLI_EVAL | EMB_CLI_TRAIN, EMB_GROUP_INPUT,
     SPECIAL(DELIMITER), .help = "csv: the character between cells, or tab; default a comma",
     MANUAL("csv: the character between cells, or\n.Cm tab ;\nthe default is a comma.")},
    {"--invalid", 0, "HOW", TABLE | EMB_CLI_EVAL, EMB_GROUP_INPUT,
     CHOICE(source.invalid, 0, "replace error"),
     .help = "bytes that are not UTF-8: replace (by U+FFFD, and say so; default), error (failed "
             "rows)",
     MANUAL("What happens to bytes that are not UTF-8.\n.Cm replace\n(default): they become "
            "U+FFFD, and the end of the run says how many there were and where the first "
            "is.\n.Cm error :\ntheir texts are failed rows.")},
    {"--invalid", 0, "HOW", EMB_CLI_TRAIN, EMB_GROUP_INPUT,
     CHOICE(source.invalid, 0, "replace error"),
     .help = "bytes that are not UTF-8: replace (by U+FFFD, and say so; default), error",
     ONLY_HELP},

    /* output */
    {"--output", 'o', "FILE", EMB_CLI_ENCODE, EMB_GROUP_OUTPUT, SPECIAL(OUTPUT),
     .words = EMB_WORDS_FILES, .help = "vectors, .npy or .jsonl; - is standard output (jsonl)",
     MANUAL(".Pa .npy :\nNumPy array of 32-bit floats, one row a text.\n.Pa .jsonl :\n.Li "
            "{\"index\":0,\"embedding\":[...],\"tokens\":9}\na line; of a failed row\n.Li "
            "\\(dqembedding\\(dq\nis null and\n.Li \\(dqerror\\(dq\nnames the status.\n.Sq -\nis "
            "standard output, as jsonl.")},
    {"--output", 'o', "FILE", EMB_CLI_TOKENIZE, EMB_GROUP_OUTPUT, SPECIAL(OUTPUT),
     .words = EMB_WORDS_FILES, .help = "default: standard output", ONLY_HELP},
    {"--output", 'o', "DIR", EMB_CLI_QUANTIZE | EMB_CLI_TRAIN, EMB_GROUP_OUTPUT, SPECIAL(OUTPUT),
     .words = EMB_WORDS_FILES, .help = "the directory to write; what is there must be empty",
     ONLY_HELP},
    {"--output", 'o', "DIR", EMB_CLI_TRITON_REPO, EMB_GROUP_OUTPUT, SPECIAL(OUTPUT),
     .words = EMB_WORDS_FILES, .help = "the model repository", ONLY_HELP},
    {"--output-format", 0, "F", EMB_CLI_ENCODE, EMB_GROUP_OUTPUT,
     CHOICE(output_format, 1, EMB_SINK_WORDS),
     .help = "format: " EMB_SINK_LIST "; default: by suffix",
     MANUAL(EMB_SINKS(MANUAL_FIRST, MANUAL_OR) " ,\ninstead of the suffix.")},

    /* memory and machine */
    {"--memory", 'm', "SIZE", PLANS | EMB_CLI_QUANTIZE | EMB_CLI_TRAIN, EMB_GROUP_MEMORY,
     SIZE(settings.limits.host_bytes_max),
     .help = "hard cap on the whole process; 96MiB, 1.5GB, 64M; default auto, as much as full "
             "speed needs",
     MANUAL("Hard cap on the whole process: program, weights, buffers, thread stacks.\nA number "
            "with a unit:\n.Li K , M , G , T\nand\n.Li KiB , MiB ...\nare powers of 1024,\n.Li KB "
            ", MB ...\npowers of 1000.\nThe default,\n.Cm auto ,\nis as much as full speed "
            "needs.")},
    {"--memory", 'm', "SIZE", EMB_CLI_TRITON_REPO, EMB_GROUP_MEMORY,
     SIZE(settings.limits.host_bytes_max),
     .help = "host memory of the model's own in the server; default auto", ONLY_HELP},
    {"--gpu-memory", 0, "SIZE", EMB_CLI_TRITON_REPO, EMB_GROUP_MEMORY,
     SIZE(settings.limits.device_bytes_max), .help = "the same on each GPU", ONLY_HELP},
    {"--gpu-memory", 0, "SIZE", PLANS | EMB_CLI_TRAIN, EMB_GROUP_MEMORY,
     SIZE(settings.limits.device_bytes_max), .help = "the same for each GPU; needs one",
     MANUAL(
         "The same for each GPU, the context that the driver makes there included.\nNeeds a GPU.\n"
         "The default is as\nmuch as full speed needs, within what is free there.")},
    {"--device", 0, "D", SERVES, EMB_GROUP_MEMORY, SPECIAL(DEVICE),
     .words = "auto cpu cuda cuda:0 cuda:0,1 cuda:all",
     .help = "where to compute: auto, cpu, cuda, cuda:N, cuda:N,N..., cuda:all",
     MANUAL(
         ".Cm auto , cpu , cuda , cuda : Ns Ar N , cuda : Ns Ar N , Ns Ar N\nor\n.Cm cuda:all .\n"
         ".Cm auto ,\nthe default, is the first GPU that can be used; what does not fit there is "
         "an error.\nOnly where none can be used it is the CPU, and says why.\n"
         ".Cm cuda\nis the first GPU.\nSeveral share the work, each with all of the weights; "
         "they must be of one compute capability, so\nthat bits do not depend on who worked.")},
    {"--device", 0, "D", EMB_CLI_TRAIN, EMB_GROUP_MEMORY, SPECIAL(DEVICE),
     .words = "auto cpu cuda cuda:0 cuda:0,1 cuda:all",
     .help = "where to train: auto (a GPU that can, else the CPU), cpu, cuda, cuda:N,N.., cuda:all",
     ONLY_HELP},
    {"--device", 0, "D", EMB_CLI_INFO, EMB_GROUP_COMMAND, SPECIAL(DEVICE), .words = "auto cpu cuda",
     .help = "devices to look at", ONLY_HELP},
    {"--dtype", 0, "T", SERVES, EMB_GROUP_MEMORY, SPECIAL(DTYPE),
     .words = EMB_DTYPE_NAMES(" ") " auto",
     .help = "numbers: " EMB_DTYPE_NAMES(", ") ", auto; default f32 (CPU), f16 (GPU)",
     MANUAL(".Cm " EMB_DTYPE_NAMES(
         " , ") "\nor\n.Cm auto ,\nthe fastest on the device "
                "used whose quality is known to hold: f16 on a GPU, bf16 on a CPU that\nmultiplies "
                "it faster than f32, else f32.\nThe default is that of a quantized model, else f32 "
                "on "
                "a CPU, f16 on a "
                "GPU.\n.Cm f16\nis for GPUs "
                "alone,\n.Cm fp8\nfor those of compute capability 8.9 and newer.\nPython's "
                "spellings do too:\n.Cm float32 , float16 , half , bfloat16 .")},
    {"--dtype", 0, "T", EMB_CLI_QUANTIZE, EMB_GROUP_COMMAND,
     CHOICE(settings.limits.dtype, EMB_DTYPE_INT8, "int8 int4 fp8"),
     .help = "int8, int4 or fp8; fp8 is for GPUs of compute capability 8.9 and newer", ONLY_HELP},
    {"--gemm", 0, "WHOSE", PLANS, EMB_GROUP_MEMORY, CHOICE(settings.limits.gemm, 0, "own cublaslt"),
     .help = "products on a GPU: own (default), or cublaslt, which takes more host memory",
     MANUAL("Who multiplies matrices on a GPU:\n.Cm own\nkernels (the default), or NVIDIA's\n.Cm "
            "cublaslt ,\na library looked for when it is asked for, which takes about 150 MiB of "
            "host memory.\nThe two do not give the same bits.")},
    {"--autotune", 0, "HOW", PLANS, EMB_GROUP_MEMORY, CHOICE(settings.tune, 0, "cached off full"),
     .help = "a GPU's kernels: cached (as embound tune found them), off, full (find them now)",
     MANUAL("Which of several kernels with the same bits a GPU runs:\n.Cm cached ,\nthe default: "
            "those that an earlier run found fastest, if one did.\n.Cm full :\nlikewise, else time "
            "them now and keep what was found.\n.Cm off :\nthe usual ones.")},
    {"--graphs", 0, "WHEN", PLANS, EMB_GROUP_MEMORY,
     CHOICE(settings.limits.graphs, 0, "auto on off"),
     .help = "record a GPU's work once and replay it, with the same bits: auto, on, off",
     MANUAL("Whether a GPU's work is recorded once as CUDA graphs and replayed: fewer launches, "
            "the same bits.\n.Cm auto ,\nthe default, does so while the layers are resident and "
            "the device can;\n.Cm on\nfails where that is not so.")},
    {"--threads", 't', "N", SERVES | EMB_CLI_TRAIN, EMB_GROUP_MEMORY,
     NUMBER(settings.limits.threads, 1, 1024), .help = "compute threads at most",
     MANUAL("Compute threads at most; the default is one a core.")},

    /* vectors */
    {"--max-length", 0, "N", PLANS, EMB_GROUP_VECTORS,
     NUMBER(settings.limits.chunk_tokens_max, 1, 1u << 20),
     .help = "longest chunk in tokens, special tokens included",
     MANUAL("The longest chunk in tokens, special tokens included.\nIt may exceed the\n.Li "
            "max_seq_length\nthat the model's files state, up to the model's window.")},
    {"--max-length", 0, "N", EMB_CLI_TRAIN, EMB_GROUP_VECTORS,
     NUMBER(settings.limits.chunk_tokens_max, 1, 1u << 20),
     .help = "tokens of a text, special tokens included; the rest is cut off", ONLY_HELP},
    {"--chunk-tokens", 0, "N", PLANS, EMB_GROUP_VECTORS,
     NUMBER(settings.limits.chunk_tokens_max, 1, 1u << 20), .help = "the same as --max-length",
     MANUAL("The same.")},
    {"--long", 0, "RULE", SERVES, EMB_GROUP_VECTORS, SPECIAL(LONG), .words = "chunk truncate error",
     .help = "longer texts: chunk (mean over chunks, default), truncate, error",
     MANUAL("What happens to longer texts.\n.Cm chunk\n(default): they are cut into chunks, and "
            "their vector is the mean over the chunks.\n.Cm truncate :\nonly the beginning "
            "counts.\n.Cm error :\nthey are failed rows.")},
    {"--pooling", 0, "P", PLANS, EMB_GROUP_VECTORS,
     CHOICE(settings.limits.pooling, 1, "mean cls max"),
     .help = "pooling: mean, cls, max; default: the model's",
     MANUAL(".Cm mean , cls\nor\n.Cm max ,\ninstead of what the model's files say.")},
    {"--normalize", 0, NULL, PLANS, EMB_GROUP_VECTORS,
     CONSTANT(settings.limits.normalize, EMB_SWITCH_ON), .help = "give vectors the length one",
     MANUAL("Give vectors the length one, whatever the model's files say.")},
    {"--no-normalize", 0, NULL, PLANS, EMB_GROUP_VECTORS,
     CONSTANT(settings.limits.normalize, EMB_SWITCH_OFF),
     .help = "leave vectors as long as they are", MANUAL("Leave them as long as they are.")},
    {"--dim", 0, "N", SERVES, EMB_GROUP_VECTORS, NUMBER(settings.limits.dim, 1, 65536),
     .help = "keep the first N values (Matryoshka models)",
     MANUAL("Keep the first\n.Ar N\nvalues, for models trained for that.\nWithout it, as many as "
            "the model's files say\n.Pq truncate_dim ,\nor all.")},
    {"--prompt", 0, "TEXT", RUNS | EMB_CLI_TOKENIZE, EMB_GROUP_VECTORS, TEXT(source.prompt),
     .may_be_empty = true, .help = "put before every text",
     MANUAL("Put\n.Ar text\nbefore every text.")},
    {"--prompt-name", 0, "N", RUNS | EMB_CLI_TOKENIZE, EMB_GROUP_VECTORS, TEXT(prompt_name),
     .help = "the prompt of that name in the model's files",
     MANUAL("The prompt of that name in the model's files.\nWithout either, the model's default "
            "prompt, if it has one.")},

    /* the run itself */
    {"--status", 0, NULL, EMB_CLI_ENCODE | EMB_CLI_EVAL | EMB_CLI_BENCH, EMB_GROUP_RUN,
     FLAG(status), .help = "let embound monitor see this run",
     MANUAL(".Cm encode , eval , bench :\nkeep a small file about this run, renewed every second "
            "while work goes on, for\n.Cm monitor .")},
    {"--progress", 0, "WHEN", RUNS | EMB_CLI_PULL | EMB_CLI_QUANTIZE | EMB_CLI_TRAIN, EMB_GROUP_RUN,
     CHOICE(progress, 0, "auto always never"), .help = "auto (on a terminal), always, never",
     MANUAL("A moving line on standard error:\n.Cm always , never\nor\n.Cm auto ,\nif that is a "
            "terminal.")},
    {"--stats", 0, "FILE", RUNS, EMB_GROUP_RUN, PATH(stats_path),
     .help = "one JSON object with counts, seconds and peak bytes",
     MANUAL("Write one JSON object: texts, tokens, seconds by stage, planned and observed peak "
            "bytes, rung,\npasses.\nA\n.Ar file\nthat is an input, the output or its list of "
            "failed rows is refused.")},
    {"--json", 0, NULL, RUNS, EMB_GROUP_RUN, FLAG(json),
     .help = "results as JSON on standard output", MANUAL("Results as JSON on standard output.")},
    {"--json", 0, NULL, LOOKS | EMB_CLI_PULL | EMB_CLI_TRAIN, EMB_GROUP_RUN, FLAG(json),
     .help = "one JSON object", ONLY_HELP},
    {"--json", 0, NULL, EMB_CLI_TOKENIZE, EMB_GROUP_RUN, FLAG(json),
     .help = "{\"index\":0,\"ids\":[...]} a line", ONLY_HELP},
    {"--json", 0, NULL, EMB_CLI_MONITOR, EMB_GROUP_RUN, FLAG(json),
     .help = "one JSON object a report", ONLY_HELP},
    {"--quiet", 'q', NULL, ALL & ~EMB_CLI_MONITOR, EMB_GROUP_RUN, FLAG(settings.quiet),
     .help = "errors only",
     MANUAL("Errors only; no moving line either, whatever\n.Fl -progress\nsays.")},
    {"--quiet", 'q', NULL, EMB_CLI_MONITOR, EMB_GROUP_RUN, FLAG(settings.quiet),
     .help = "do not say why no GPU is shown", ONLY_HELP},
    {"--help", 'h', NULL, ALL, EMB_GROUP_RUN, SPECIAL(HELP), .help = "this list",
     MANUAL("The options of a command.")},
};

const size_t emb_option_list_count = sizeof emb_option_list / sizeof emb_option_list[0];

const char *emb_option_group_name(emb_option_group group) {
    static const char *const names[EMB_GROUPS] = {
        "of single commands", "input", "output", "memory and machine", "vectors", "run and report"};
    return names[group];
}
