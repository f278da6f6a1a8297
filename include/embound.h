/* embound.h - sentence embeddings inside a stated memory budget: the public interface. What may
 * still change more freely is in embound_experimental.h.
 *
 * In order: probe the machine, open a model, state limits, make a plan (bytes, before any work),
 * open an engine (every byte is allocated here, once), submit texts, collect rows. Nothing here
 * prints, exits or keeps global state. Sizes are bytes unless a name says otherwise. "Threads:"
 * says which threads may make a call on one handle; different handles may be used at the same time.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMBOUND_H
#define EMBOUND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(EMB_BUILD_SHARED) && defined(__GNUC__)
#define EMB_API __attribute__((visibility("default")))
#else
#define EMB_API
#endif

#define EMB_VERSION_MAJOR 0
#define EMB_VERSION_MINOR 1
#define EMB_VERSION_PATCH 0

/* ---- status ---------------------------------------------------------------------------------- */

/* Values are pinned: 10s the caller's, 20s the data's, 30s resources, 90s ours. */
typedef enum emb_status {
    EMB_OK = 0,
    EMB_INVALID_ARGUMENT = 10, /* a parameter is outside what its declaration allows */
    EMB_UNSUPPORTED = 11,      /* well-formed, but this build or version does not do it */
    EMB_BUDGET = 12,           /* the stated bytes are too few; the error names the minimum */
    EMB_BAD_FILE = 20,         /* a model, configuration or tokenizer file is malformed */
    EMB_BAD_TEXT = 21,         /* a text cannot be encoded (for example an id out of range) */
    EMB_TOO_LONG = 22,         /* a text is longer than allowed under EMB_LONG_ERROR */
    EMB_NOT_FINITE = 23,       /* the vector of a text came out NaN or infinite */
    EMB_NO_MEMORY = 30,        /* the system refused memory that the plan had foreseen */
    EMB_IO = 31,               /* reading or writing failed */
    EMB_NOT_FOUND = 32,        /* no such file or name */
    EMB_DEVICE = 33,           /* a device is missing or failed */
    EMB_CANCELLED = 34,        /* emb_engine_cancel was called */
    EMB_TIMEOUT = 35,          /* nothing was ready in the time given */
    EMB_WITHDRAWN = 36,        /* emb_engine_withdraw took this text back */
    EMB_INTERNAL = 90          /* a broken invariant: please report it */
} emb_status;

typedef enum emb_region_kind {
    EMB_REGION_HOST = 0,
    EMB_REGION_PINNED = 1,
    EMB_REGION_DEVICE = 2
} emb_region_kind;

/* The caller's; filled on every status but EMB_OK. The message is one line of UTF-8 that names the
 * place and says what to change. With EMB_BUDGET, `bytes_min` is the smallest budget that works for
 * `region` (host or device); 0 if it is not known, or if either budget alone would do but not both
 * together. */
typedef struct emb_error {
    char message[256];
    uint64_t bytes_min;
    emb_region_kind region;
} emb_error;

/* How a message suggests EMB_DEVICE_CPU. A program may replace these words by its own way of asking
 * for it. */
#define EMB_ADVICE_CPU "the device cpu"

/* Gives the name of a status, such as "EMB_BUDGET"; never NULL. Threads: any. */
EMB_API const char *emb_status_name(emb_status status);

/* Gives "0.1.0". Threads: any. */
EMB_API const char *emb_version(void);

/* ---- machine --------------------------------------------------------------------------------- */

#define EMB_DEVICES_MAX 16

typedef enum emb_device_kind {
    EMB_DEVICE_AUTO = 0,
    EMB_DEVICE_CPU = 1,
    EMB_DEVICE_CUDA = 2
} emb_device_kind;

/* What the planner knows of one accelerator. */
typedef struct emb_device_info {
    char name[64];
    char driver[32]; /* its version; "" if unknown */
    uint32_t index;
    uint32_t compute_capability; /* 90 for 9.0 */
    uint64_t memory_bytes;       /* total on the card */
    uint64_t context_bytes;  /* device bytes that the probe added: a context, unless there is one */
    uint64_t host_bytes;     /* host bytes likewise */
    uint64_t cublaslt_bytes; /* host bytes that cuBLASLt adds; 0: not measured */
    uint64_t held_bytes; /* device bytes that this process held before: other libraries' contexts
                            and memory, other engines; part of every budget. Where NVML does not
                            tell processes apart, as in some containers, and there was a context
                            before: all that is used on the card, whoever uses it */
    uint64_t free_bytes; /* on the card, after the probe; 0: not measured */
    uint32_t grown; /* 1: an engine of this process has worked here, so what the context grows by in
                       use is in held_bytes already */
    uint32_t grown_lanes; /* likewise for lanes: how many were open at once and no longer are */
} emb_device_info;

/* The CPU features that kernels use, where the operating system enables them. */
typedef enum emb_cpu_feature {
    EMB_CPU_AVX2 = 1,   /* with FMA and F16C */
    EMB_CPU_AVX512 = 2, /* F, BW, VL and DQ */
    EMB_CPU_VNNI = 4,   /* AVX-512's dot products of bytes */
    EMB_CPU_BF16 = 8,   /* AVX-512's dot products of bf16 */
    EMB_CPU_BF16_FAST =
        16 /* and they are faster than those of f32; else bf16 weights are widened */
} emb_cpu_feature;

/* What the planner knows of the hardware and of this process. Saved and loaded as JSON, so that a
 * plan can be made for a machine that is not present. */
typedef struct emb_machine {
    uint32_t struct_bytes;
    uint32_t cores; /* that this process may run on */
    char cpu_name[64];
    uint32_t cpu_features; /* set of emb_cpu_feature, without what EMB_CPU leaves out */
    uint32_t page_bytes;
    uint64_t cache_l2_bytes;     /* per core; 0 if unknown */
    uint64_t cache_l3_bytes;     /* shared; 0 if unknown */
    uint64_t memory_bytes;       /* of the host, or of its cgroup if that is smaller */
    uint64_t process_base_bytes; /* resident in this process before any engine exists */
    uint32_t devices_count;
    emb_device_info devices[EMB_DEVICES_MAX];
    char device_reason[192]; /* why EMB_DEVICE_AUTO found no usable GPU; else "" */
    uint32_t device_notice;  /* 1: yet there is a GPU or a driver, so the user should be told; 0:
                                neither, or CUDA_VISIBLE_DEVICES is empty on purpose */
} emb_machine;

/* Whose kernels multiply matrices on a GPU. Their results differ in bits. */
typedef enum emb_gemm {
    EMB_GEMM_OWN = 0,     /* the CUDA module's kernels */
    EMB_GEMM_CUBLASLT = 1 /* NVIDIA's library, opened at run time; costs host memory */
} emb_gemm;

/* Which devices to look at; NULL means the CPU only. EMB_DEVICE_AUTO: the first usable GPU; if
 * there is none, device_reason says why, which is not an error. */
typedef struct emb_device_list {
    uint32_t struct_bytes;
    emb_device_kind kind;
    uint32_t count; /* with EMB_DEVICE_CUDA; 0: all */
    uint32_t indices[EMB_DEVICES_MAX];
    emb_gemm gemm; /* with EMB_GEMM_CUBLASLT the library is opened and measured as well */
} emb_device_list;

/* Measures the machine: instruction sets, cores, caches, and the process base, for which it makes
 * every page of the program resident (so that the base cannot grow later). GPUs are first looked up
 * through the driver, which creates no context; then the contexts of those to look at are created
 * in this process, and what they add is measured apart from what it held before.
 * Needs: call it once at start, before other memory is taken, for an exact base. The environment
 * variable EMB_CPU=ref|avx2|avx512 restricts the kernels.
 * Fails: EMB_INVALID_ARGUMENT (unknown EMB_CPU, or one this CPU lacks), EMB_DEVICE (a stated GPU,
 * or one found usable; the driver has 30 seconds to answer, once per process), EMB_BUDGET (no room
 * on the GPU for a context; bytes_min is 0), EMB_NO_MEMORY (the system refused a page, or the
 * thread that asks the driver), EMB_IO.
 * Threads: one at a time. */
EMB_API emb_status emb_machine_probe(emb_machine *out, const emb_device_list *devices,
                                     emb_error *error);

/* As emb_machine_probe, for a library inside a program that is not its own, such as an interpreter:
 * the process base is what is resident now (not the peak so far, which may be long past), and of
 * the mapped files only this library's pages are made resident. So the base may grow with what the
 * program itself does afterwards: state that as caller_bytes.
 * Threads: one at a time. */
EMB_API emb_status emb_machine_probe_guest(emb_machine *out, const emb_device_list *devices,
                                           emb_error *error);

/* Gives the instruction set of the CPU kernels that will run: "ref", "avx2" or "avx512". Threads:
 * any. */
EMB_API const char *emb_machine_isa(const emb_machine *machine);

/* Writes the machine as JSON into `text` (`capacity` bytes, NUL-terminated); gives the length
 * without the NUL in `length`. Fails: EMB_INVALID_ARGUMENT if it does not fit (20 KiB always do).
 * Threads: any. */
EMB_API emb_status emb_machine_to_json(char *text, size_t capacity, size_t *length,
                                       const emb_machine *machine, emb_error *error);

/* Reads what emb_machine_to_json wrote. Unknown keys are refused by name.
 * Fails: EMB_BAD_FILE. Threads: any. */
EMB_API emb_status emb_machine_from_json(emb_machine *out, const char *text, size_t length,
                                         emb_error *error);

/* ---- model ----------------------------------------------------------------------------------- */

typedef struct emb_model emb_model;

typedef enum emb_dtype {
    EMB_DTYPE_DEFAULT = 0, /* that of a quantized model; else f32 on a CPU, f16 on a GPU */
    EMB_DTYPE_F32 = 1,
    EMB_DTYPE_BF16 = 2,
    EMB_DTYPE_F16 = 3,
    EMB_DTYPE_INT8 = 4,
    EMB_DTYPE_INT4 = 5,
    EMB_DTYPE_FP8 = 6
} emb_dtype;

/* The names of the dtypes that can be requested, in the enum's order, joined by `between`. */
#define EMB_DTYPE_NAMES(between)                                                                   \
    "f32" between "bf16" between "f16" between "int8" between "int4" between "fp8"

/* Gives "int8" and the like, "default" for EMB_DTYPE_DEFAULT; never NULL. Threads: any. */
EMB_API const char *emb_dtype_name(emb_dtype dtype);

/* The inverse. Fails: EMB_INVALID_ARGUMENT; *out then stays as it is. Threads: any. */
EMB_API emb_status emb_dtype_from_name(emb_dtype *out, const char *name);

typedef enum emb_pooling {
    EMB_POOLING_MODEL = 0, /* what the model's files say */
    EMB_POOLING_MEAN = 1,
    EMB_POOLING_CLS = 2,
    EMB_POOLING_MAX = 3
} emb_pooling;

#define EMB_UNKNOWN_KEYS_MAX 256

/* A model as its files describe it; filled by emb_model_describe. */
typedef struct emb_model_info {
    uint32_t struct_bytes;
    char architecture[16]; /* "bert", "mpnet" */
    char name[128];        /* last part of the path */
    uint32_t layers, hidden, heads, intermediate, vocabulary, positions;
    uint32_t window_tokens;  /* longest sequence the encoder takes, special tokens included */
    uint32_t default_tokens; /* max_seq_length of the model's files, at most window_tokens */
    uint32_t special_tokens; /* added to every chunk, see emb_model_specials */
    uint32_t dim;
    emb_pooling pooling;
    uint32_t normalizes;    /* 1: the model normalises its vectors */
    emb_dtype stored_dtype; /* of the matrices */
    uint64_t parameters;
    uint64_t file_bytes;
    uint64_t description_bytes; /* host bytes that the open model holds */
    uint32_t stored_group;      /* values that share a scale in an int4 model; else 0 */
    uint32_t smooths;           /* 1: a quantized model that scales the inputs of its matrices */
    uint32_t truncate_dim; /* leading values of a vector that the model's files ask to keep; 0: all
                              of dim */
    /* unknown keys of the model's files, which are ignored; docs/model_files.md lists the known
     * ones. "config.json: a, b; tokenizer.json: c" */
    char unknown_keys[EMB_UNKNOWN_KEYS_MAX];
} emb_model_info;

#define EMB_SPECIALS_MAX 8

/* The special tokens that a model puts around every chunk, as its tokenizer's files say. */
typedef struct emb_specials {
    uint32_t before, after;         /* how many */
    uint32_t ids[EMB_SPECIALS_MAX]; /* those before the text, then those after it */
} emb_specials;

/* Opens a sentence-transformers directory, a plain Hugging Face directory, or a .safetensors file
 * next to its config.json. Reads headers and configuration only; keeps file descriptors, no
 * weights.
 * Fails: EMB_NOT_FOUND, EMB_BAD_FILE, EMB_UNSUPPORTED (each naming file, key or tensor), EMB_IO,
 * EMB_NO_MEMORY. Threads: any. An open model does not change and may be shared. */
EMB_API emb_status emb_model_open(emb_model **out, const char *path, emb_error *error);

/* Frees what open took. Needs: no engine of the model is open. model may be NULL.
 * Threads: one, after every other use of the model. */
EMB_API void emb_model_close(emb_model *model);

/* Says what the model is. Threads: any. */
EMB_API void emb_model_describe(emb_model_info *out, const emb_model *model);

/* Gives the prompt of that name from the model's files (NULL name: the default prompt), or NULL.
 * Owned by the model. Threads: any. */
EMB_API const char *emb_model_prompt(const emb_model *model, const char *name);

/* ---- limits and plan ------------------------------------------------------------------------- */

typedef enum emb_long_rule {
    EMB_LONG_CHUNK = 0,    /* every token counts: the mean over the text's chunks */
    EMB_LONG_TRUNCATE = 1, /* only the first chunk counts, as in sentence-transformers */
    EMB_LONG_ERROR = 2     /* a longer text is a failed row */
} emb_long_rule;

typedef enum emb_switch { EMB_SWITCH_MODEL = 0, EMB_SWITCH_ON = 1, EMB_SWITCH_OFF = 2 } emb_switch;

/* Which of several kernels, all with the same bits, a GPU uses for each product in tiles of up to
 * EMB_TUNING_TOKENS << i tokens; 0: the library chooses. Experimental: embound_experimental.h. */
#define EMB_TUNING_TOKENS   128u
#define EMB_TUNING_SIZES    8
#define EMB_TUNING_PRODUCTS 4 /* queries, keys and values; attention out; feed-forward in, out */
typedef struct emb_tuning {
    uint8_t kernels[EMB_TUNING_SIZES][EMB_TUNING_PRODUCTS];
} emb_tuning;

/* What a row holds. */
typedef enum emb_output_kind {
    EMB_OUTPUT_TEXT = 0,  /* one vector */
    EMB_OUTPUT_TOKENS = 1 /* the last layer's output, one vector per token; CPU only */
} emb_output_kind;

/* What the user states. Zero means "as the model says" or "choose for me". */
typedef struct emb_limits {
    uint32_t struct_bytes;
    emb_device_kind device; /* AUTO: the machine's first GPU; the CPU only if that is not usable */
    emb_dtype dtype;
    emb_long_rule long_rule;
    emb_pooling pooling;
    emb_output_kind output; /* TOKENS: neither pooled nor normalised; all of dim, no chunks */
    emb_switch normalize;
    uint32_t threads;          /* compute lanes at most; 0: one per core, or two per GPU */
    uint32_t devices_max;      /* GPUs used together, the machine's first ones; 0: one */
    uint32_t chunk_tokens_max; /* special tokens included; 0: the model's default_tokens */
    uint32_t dim;              /* keep the first dim values (Matryoshka); 0: all */
    emb_gemm gemm;             /* on a GPU */
    /* experimental, as are EMB_DTYPE_FP8 and device_caller_bytes: see embound_experimental.h */
    uint32_t tune;     /* 1: time a GPU's kernels at open, instead of `tuning` */
    emb_tuning tuning; /* of an engine with the same GPU, model shape and dtype */
    emb_switch graphs; /* record a GPU's forward as CUDA graphs and replay them: if weights are
                          resident (MODEL), required (ON), never (OFF). Same bits in any case */
    uint64_t host_bytes_max;      /* the whole process; 0: as much as full speed needs (the knee) */
    uint64_t device_bytes_max;    /* per device, for the whole process, its context and all else it
                                     holds there included; 0: the knee, within what is free there */
    uint64_t caller_bytes;        /* host bytes the caller keeps for itself besides the engine */
    uint64_t device_caller_bytes; /* the same per GPU: emb_device_rows among them */
} emb_limits;

/* Gives limits in which nothing is stated. Threads: any. */
EMB_API emb_limits emb_limits_default(void);

#define EMB_ITEMS_MAX   32
#define EMB_REGIONS_MAX 8

typedef struct emb_item {
    char name[40];
    uint64_t bytes;
} emb_item;

/* One memory kind on one device, and what its bytes are for. */
typedef struct emb_region {
    emb_region_kind kind;
    uint32_t devices;     /* how many GPUs have such a region each; 1 for host and pinned */
    uint64_t bytes;       /* sum of the items */
    uint64_t arena_bytes; /* of these, the part that the engine allocates, in one piece */
    uint32_t items_count;
    emb_item items[EMB_ITEMS_MAX];
} emb_region;

/* Steps of the ladder; the planner takes the fastest that fits. */
typedef enum emb_rung {
    EMB_RUNG_FULL = 1,   /* weights resident, batches at the knee */
    EMB_RUNG_FEWER = 2,  /* weights resident, fewer tokens per batch */
    EMB_RUNG_GATHER = 3, /* layers resident, embedding rows read from the file as needed */
    EMB_RUNG_STREAM = 4, /* layers streamed from the file, embedding rows read as needed */
    /* on a GPU, tried before GATHER: host memory in place of the file */
    EMB_RUNG_PINNED_EMBEDDINGS = 5, /* layers resident, embedding table in pinned host memory */
    EMB_RUNG_PINNED_LAYERS = 6      /* layers streamed from pinned host memory */
} emb_rung;

/* The bytes and shapes that follow from limits. A value: no pointers, nothing to free. */
typedef struct emb_plan {
    uint32_t struct_bytes;
    emb_rung rung;
    emb_device_kind device;
    emb_dtype dtype;
    emb_long_rule long_rule;
    emb_pooling pooling;
    emb_output_kind output;
    uint32_t normalize;      /* 1: vectors have length one */
    uint32_t normalize_kept; /* 1: so have the first dim values when cut off */
    uint32_t dim;
    uint32_t lanes;   /* of all GPUs together: a multiple of their number */
    uint32_t readers; /* threads that tokenise, the caller's included */
    uint32_t windows;
    uint32_t window_tokens; /* tokens read ahead in one window */
    uint32_t window_chunks;
    uint32_t tokens_per_tile;  /* that one lane holds at once */
    uint32_t tokens_per_pass;  /* that go through all layers together */
    uint32_t chunk_tokens_max; /* longest sequence, special tokens included */
    uint32_t weight_slots;     /* 0: all layers resident; 1 or 2: buffers of one layer each */
    uint32_t embeddings_resident;
    uint32_t embeddings_pinned; /* in pinned host memory; the GPU reads the rows it needs */
    uint32_t layers_pinned;     /* streamed layers come from pinned host memory, not the file */
    emb_gemm gemm;              /* as in the limits; OWN on a CPU */
    uint32_t tune;              /* as in the limits; in a plan only these two may be changed */
    emb_tuning tuning;
    emb_switch graphs;        /* as in the limits; OFF on a CPU */
    uint64_t host_bytes_max;  /* the budget; 0 if none was stated */
    uint64_t host_bytes;      /* the whole process under this plan */
    uint64_t host_bytes_min;  /* the smallest budget that works with these limits */
    uint64_t host_bytes_knee; /* the smallest budget that reaches full speed */
    uint32_t devices_count;   /* GPUs that share the work, each with its own weights; 1 on a CPU */
    uint32_t devices[EMB_DEVICES_MAX]; /* their indices */
    uint32_t compute_capability;
    uint64_t device_bytes_max; /* as for the host, per GPU and with its context */
    uint64_t device_bytes;
    uint64_t device_bytes_min;
    uint64_t device_bytes_knee;
    uint64_t device_held_bytes;   /* of device_bytes, what the process held before the probe */
    uint64_t device_free_bytes;   /* on the GPU that has least, at the probe; 0: not known */
    uint64_t device_margin_bytes; /* of those, what the plan leaves to other processes */
    uint64_t process_base_bytes;
    uint64_t caller_bytes;
    uint64_t device_caller_bytes;
    char device_reason[192]; /* why EMB_DEVICE_AUTO took the CPU; else "" */
    uint32_t device_notice;  /* as in emb_machine */
    char isa[16];            /* of the CPU's kernels; "cuda" for a GPU's */
    char numerics_id[64];    /* equal ids promise equal bits */
    uint32_t regions_count;
    emb_region regions[EMB_REGIONS_MAX];
} emb_plan;

/* Computes the plan; a pure function: touches no device, reads no file, allocates nothing.
 * EMB_DEVICE_AUTO takes the machine's GPU, and what does not fit there is an error; it takes the
 * CPU only if there is no usable GPU, or none that can do this (EMB_OUTPUT_TOKENS, a shape without
 * kernels).
 * Fails: EMB_BUDGET (error->bytes_min is the smallest budget that works), EMB_INVALID_ARGUMENT
 * (among others: GPU options for the device cpu, a GPU budget larger than the card),
 * EMB_UNSUPPORTED, EMB_DEVICE (GPU options where no GPU is usable). Threads: any. */
EMB_API emb_status emb_plan_make(emb_plan *out, const emb_model *model, const emb_limits *limits,
                                 const emb_machine *machine, emb_error *error);

/* Gives the rung's name: "full", "fewer tokens", "embeddings from file", "layers streamed",
 * "embeddings in pinned memory", "layers from pinned memory". Threads: any. */
EMB_API const char *emb_rung_name(emb_rung rung);

/* ---- engine ---------------------------------------------------------------------------------- */

typedef struct emb_engine emb_engine;

typedef enum emb_piece_flag {
    EMB_PIECE_FIRST = 1,
    EMB_PIECE_LAST = 2,
    EMB_PIECE_IDS = 4
} emb_piece_flag;

/* A contiguous part of a text, as a source reads it. A text is one piece (FIRST | LAST) or many;
 * pieces may end anywhere, even inside a character. Borrowed until submit has taken it. */
typedef struct emb_piece {
    const void *data; /* UTF-8 bytes, or with EMB_PIECE_IDS uint32_t token ids without specials */
    size_t length;    /* bytes, or ids */
    uint32_t flags;
    uint64_t user; /* of the FIRST piece; returned in the row */
} emb_piece;

/* A complete text in memory. */
typedef struct emb_text {
    const void *data;
    size_t length;
    uint32_t is_ids;
    const char *prompt; /* put before the text; NULL: none */
    uint64_t user;
} emb_text;

/* The result of one text. `values` points into the engine and is valid until the next collect. */
typedef struct emb_row {
    uint64_t text; /* 0, 1, 2, ... in the order submitted */
    uint64_t user;
    emb_status status; /* EMB_OK, or why the values are NaN */
    uint32_t chunks;
    uint64_t tokens;         /* encoded, special tokens included */
    uint64_t tokens_dropped; /* not encoded under EMB_LONG_TRUNCATE */
    const float *values; /* [dim], or [tokens, dim] with EMB_OUTPUT_TOKENS; f32; a text without any
                            token, not even a special one, has a row of zeros, or with
                            EMB_OUTPUT_TOKENS no values */
} emb_row;

/* Opens an engine within a plan: allocates every byte, makes it resident, loads the weights, starts
 * the threads. After it returns nothing is allocated until close. A child of fork has none of its
 * threads: it may call nothing but emb_engine_forget on it.
 * Needs: a model that outlives the engine; a plan made for that model.
 * Fails: EMB_NO_MEMORY, EMB_IO, EMB_BAD_FILE, EMB_INVALID_ARGUMENT, EMB_DEVICE.
 * Threads: any; an engine may be used by other threads than the one that opened it. */
EMB_API emb_status emb_engine_open(emb_engine **out, const emb_model *model, const emb_plan *plan,
                                   emb_error *error);

/* Takes pieces in order and gives in `taken` how many it took completely. Never blocks: it takes
 * what fits. If that was fewer, collect first, then submit the rest, starting with the first piece
 * not taken; the engine remembers how much of it has been read.
 * Fails: EMB_INVALID_ARGUMENT (pieces out of order), or the error that stopped the engine.
 * Threads: one at a time submits and flushes; another may collect meanwhile. */
EMB_API emb_status emb_engine_submit(emb_engine *engine, const emb_piece *pieces, uint32_t count,
                                     uint32_t *taken, emb_error *error);

/* Hands the window being filled to the encoder now, full or not.
 * Fails: EMB_INVALID_ARGUMENT (no engine). Threads: as for submit. */
EMB_API emb_status emb_engine_flush(emb_engine *engine);

/* Gives up to `capacity` finished rows in the order submitted. `count` 0 with EMB_OK means that
 * nothing is being encoded (a window that is not full is not: flush it first) or, if submit stopped
 * inside a long text, that it can continue. timeout_ms: 0 polls, negative waits without limit.
 * Invalidates the rows of the previous collect.
 * Fails: EMB_TIMEOUT, EMB_CANCELLED, or the error that stopped the engine (EMB_IO, ...).
 * Threads: one at a time collects; it may be another than the one that submits. */
EMB_API emb_status emb_engine_collect(emb_engine *engine, emb_row *rows, uint32_t capacity,
                                      uint32_t *count, int timeout_ms, emb_error *error);

/* Withdraws one text, by its number (0, 1, 2, ... in the order submitted, as in emb_row): what is
 * left of its work is skipped where that saves time, and its row comes in its turn, NaN with the
 * status EMB_WITHDRAWN. All other rows keep their bits and places. If the call comes too late, the
 * row is as if it had not been made. If the text's LAST piece was not submitted yet, the pieces
 * still to come are taken and ignored: an empty LAST one ends it.
 * Fails: EMB_INVALID_ARGUMENT (no such text so far), or the error that stopped the engine.
 * Threads: as for submit. */
EMB_API emb_status emb_engine_withdraw(emb_engine *engine, uint64_t text, emb_error *error);

/* Gives a descriptor for poll, select or epoll that is readable while collect has something to do
 * at once: rows to return, room to free for a submit that has stopped, or the reason why the engine
 * has stopped. Collect with a timeout of 0 until it is no longer readable; flush a window that is
 * not full first. Owned by the engine and closed with it: never read, write or close it. It is
 * closed on exec; a child of fork shares it with its parent, and must not wait on it but forget the
 * engine. -1 without an engine. Threads: any. */
EMB_API int emb_engine_ready_fd(const emb_engine *engine);

/* Stops the work as soon as each lane has finished its tile, and wakes a waiting collect; later
 * calls give EMB_CANCELLED, and the engine can only be closed.
 * Fails: EMB_INVALID_ARGUMENT (no engine). Threads: any; async-signal-safe. */
EMB_API emb_status emb_engine_cancel(emb_engine *engine);

/* Encodes whole texts: rows is [count, dim]. A failed text is a row of NaN, and the first such
 * failure is the status, after all texts were tried. The engine must be idle: every row of earlier
 * texts collected. After any other error the engine can only be closed. For EMB_OUTPUT_TEXT.
 * Threads: one; nobody submits, flushes or collects meanwhile. */
EMB_API emb_status emb_engine_embed(float *rows, emb_engine *engine, const emb_text *texts,
                                    uint32_t count, emb_error *error);

/* Counters since open. Bytes are of the whole process. */
typedef struct emb_engine_stats_t {
    uint32_t struct_bytes;
    uint64_t texts, texts_failed; /* failed: status not EMB_OK, withdrawn included */
    uint64_t texts_long;          /* more tokens than one chunk holds */
    uint64_t chunks;
    uint64_t tokens; /* encoded, special tokens included */
    uint64_t tokens_dropped;
    uint64_t rows_computed; /* tokens that went through the layers: equal to tokens, as there is no
                               padding, or less if texts were withdrawn */
    uint64_t bytes_read;    /* of text */
    uint64_t passes, windows, tiles;
    uint64_t graphs;         /* CUDA graphs that a GPU's lanes replay */
    double seconds;          /* since open */
    double seconds_tokenize; /* on the caller's thread */
    double seconds_encode;   /* summed over lanes */
    double seconds_wait;     /* lanes waiting for streamed weights */
    uint64_t host_bytes_planned;
    uint64_t host_bytes_peak; /* VmHWM; 0 if not available */
    uint64_t host_bytes_now;
} emb_engine_stats_t;

/* Gives the counters as they are. Each is read by itself: while other threads work, one may be a
 * moment newer than the next. Threads: any, at any time until close. */
EMB_API void emb_engine_stats(emb_engine_stats_t *out, const emb_engine *engine);

/* Stops the work and frees everything, the rows that collect gave included. engine may be NULL.
 * Threads: one, after every other call on the engine has returned. */
EMB_API void emb_engine_close(emb_engine *engine);

/* For a child of fork: frees what it inherited of its parent's engine, on which it must call
 * nothing else. The parent's is not affected. engine may be NULL.
 * Threads: one, the child's only one that knows the engine. */
EMB_API void emb_engine_forget(emb_engine *engine);

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef struct emb_tokenizer_handle emb_tokenizer_handle;

/* Opens only the model's tokenizer (about 4 MiB, in one allocation). Needs: a model that outlives
 * it. Fails: EMB_NO_MEMORY, EMB_IO, EMB_BAD_FILE, EMB_INVALID_ARGUMENT. Threads: any. */
EMB_API emb_status emb_tokenizer_open(emb_tokenizer_handle **out, const emb_model *model,
                                      emb_error *error);

/* Frees it. tokenizer may be NULL. Threads: one, after every other use of the handle. */
EMB_API void emb_tokenizer_close(emb_tokenizer_handle *tokenizer);

/* Turns the next piece of a text into ids, without special tokens around the text. Reads until the
 * piece is used up or `ids` is full; gives in `used` the bytes read and in `count` the ids written.
 * Call again with the rest. flags as in emb_piece; a FIRST piece resets the state. `done` is 1 once
 * a LAST piece is used up and all its ids are written.
 * Fails: EMB_INVALID_ARGUMENT. Threads: one caller per handle. */
EMB_API emb_status emb_tokenize(emb_tokenizer_handle *tokenizer, const char *bytes, size_t length,
                                uint32_t flags, uint32_t *ids, size_t capacity, size_t *used,
                                size_t *count, uint32_t *done, emb_error *error);

/* Gives the special tokens put around each chunk; none without a model. Threads: any. */
EMB_API void emb_model_specials(emb_specials *out, const emb_model *model);

/* ---- members of structs by name -------------------------------------------------------------- */

/* The structs whose members can be listed with their names. */
typedef enum emb_struct {
    EMB_STRUCT_PLAN = 0,  /* emb_plan */
    EMB_STRUCT_STATS = 1, /* emb_engine_stats_t */
    EMB_STRUCT_MODEL = 2  /* emb_model_info */
} emb_struct;

typedef enum emb_member_kind {
    EMB_MEMBER_NUMBER = 0,
    EMB_MEMBER_FLAG = 1, /* a number: 0 or 1 */
    EMB_MEMBER_REAL = 2,
    EMB_MEMBER_TEXT = 3, /* may not be UTF-8 where it comes from file names */
    EMB_MEMBER_WORD = 4  /* an enumerator: its word and its number */
} emb_member_kind;

typedef struct emb_member {
    const char *name;
    emb_member_kind kind;
    uint64_t number;
    double real;
    const char *text; /* of a TEXT: points into the struct itself */
} emb_member;

/* Gives the member of that index, from 0, of *object, and 1; 0 after the last one. For programs
 * that show all members, later versions' included. Lists (GPUs, regions) are left out. Needs: an
 * object of that kind with its struct_bytes. Threads: any. */
EMB_API int emb_member_get(emb_member *out, emb_struct kind, const void *object, uint32_t index);

/* Gives "mean", "cls", "max"; "model" for 0. Threads: any. */
EMB_API const char *emb_pooling_name(emb_pooling pooling);

#ifdef __cplusplus
}
#endif

#endif
