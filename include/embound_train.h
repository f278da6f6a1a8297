/* embound_train.h - fine-tuning under the same caps: a batch of any size inside a stated budget.
 *
 * Everything here may still change from one minor version to the next.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMBOUND_TRAIN_H
#define EMBOUND_TRAIN_H

#include "embound.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum emb_loss_kind {
    EMB_LOSS_RANKING = 0, /* anchor, positive, hard negatives: in-batch negatives (InfoNCE) */
    EMB_LOSS_COSENT = 1,  /* two texts and a score: their order alone counts */
    EMB_LOSS_COSINE = 2,  /* two texts and a score: (cosine - score)^2 */
    /* anchor, positive, negatives: by how much the positive is not nearer by the margin */
    EMB_LOSS_TRIPLET = 3,
    /* a text and its class: the same for the farthest text of its class in the batch, and the
     * nearest of another; texts that lack one of the two do not count */
    EMB_LOSS_BATCH_HARD = 4,
    /* any texts and a teacher's vectors, which may be of any width: (cosine - teacher's cosine)^2,
     * the mean over pairs of texts of one example, if it has several, and that over all other pairs
     * of the batch */
    EMB_LOSS_DISTILL = 5
} emb_loss_kind;

/* SimCSE is the ranking loss of examples that hold one text twice, with dropout: each of the two
 * has its own. */

typedef enum emb_distance {
    EMB_DISTANCE_EUCLIDEAN = 0, /* of vectors as the model gives them; Matryoshka: of length one */
    EMB_DISTANCE_COSINE = 1     /* 1 - cosine */
} emb_distance;

#define EMB_TRAIN_WIDTHS 8

typedef struct emb_train_loss {
    emb_loss_kind kind;
    float scale;            /* of cosines: 1 / temperature; 0: 20. ranking, cosent */
    uint32_t symmetric;     /* ranking: positives find their anchors, too; half of each */
    emb_distance distance;  /* triplet, batch hard */
    float margin;           /* the same; 0: 5, of cosines 0.5 */
    uint32_t teacher_width; /* distillation: values of a teacher's vector */
    /* Matryoshka: the sum over the first values of each vector, so many, of weight times loss; the
     * full width is one of them only if it is stated. 0: the loss of the whole vectors. */
    uint32_t widths_count;
    uint32_t widths[EMB_TRAIN_WIDTHS];
    float width_weights[EMB_TRAIN_WIDTHS]; /* all 0: 1 each */
} emb_train_loss;

typedef enum emb_schedule {
    EMB_SCHEDULE_LINEAR = 0, /* down to 0 */
    EMB_SCHEDULE_COSINE = 1,
    EMB_SCHEDULE_CONSTANT = 2
} emb_schedule;

typedef enum emb_optimizer_kind {
    EMB_OPTIMIZER_ADAMW = 0,
    EMB_OPTIMIZER_SGD = 1 /* with momentum, as torch has it */
} emb_optimizer_kind;

/* The matrices of a layer. */
enum emb_lora_target {
    EMB_LORA_QUERY = 1 << 0,
    EMB_LORA_KEY = 1 << 1,
    EMB_LORA_VALUE = 1 << 2,
    EMB_LORA_ATTENTION_OUT = 1 << 3,
    EMB_LORA_FFN_IN = 1 << 4,
    EMB_LORA_FFN_OUT = 1 << 5,
    EMB_LORA_ALL = (1 << 6) - 1
};

/* Low-rank adapters (Hu et al. 2022): they alone are trained, and the model stays in the dtype that
 * its files have, quantized or not. */
typedef struct emb_train_lora {
    uint32_t rank;    /* 0: none, all parameters are trained */
    uint32_t targets; /* a set of emb_lora_target; 0: query and value */
    float alpha;      /* alpha / rank times the adapter is added; 0: twice the rank */
} emb_train_lora;

/* Gradients are summed tile by tile: another tokens_per_tile, stated or chosen for another budget,
 * gives other last bits. Nothing else of a budget does, and no number of threads. */
typedef struct emb_train_options {
    uint32_t struct_bytes;
    emb_train_loss loss;
    uint32_t batch_examples;  /* of one step, at most */
    uint32_t example_texts;   /* of each: 2, or more with hard negatives; batch hard: 1 */
    uint32_t max_length;      /* tokens of a text, the rest is cut; 0: the model's */
    uint32_t tokens_per_tile; /* at work at once; 0: chosen */
    uint32_t threads;         /* 0: one per core */
    emb_dtype dtype;          /* of products: f32 (the default), or bf16 with all else in f32 */
    uint64_t seed;            /* of what dropout leaves out */
    float dropout;            /* share of the embedding's and the blocks' outputs */
    float attention_dropout;  /* of the weights of the softmax */
    float learning_rate;
    uint32_t optimizer_bits;     /* of AdamW's moments: 32 (also 0) or 8, in blocks of 256 */
    float beta1, beta2, epsilon; /* AdamW's; all 0: 0.9, 0.999, 1e-8 */
    float weight_decay;          /* of matrices and tables; not of biases and norms */
    emb_optimizer_kind optimizer;
    float momentum;    /* SGD's; 0: none, and no memory for it */
    uint32_t nesterov; /* 1: SGD looks ahead by its momentum */
    float layer_decay; /* a layer's rate is that of the one behind it times this, the embeddings'
                          that of the first layer likewise; 0: 1 */
    float clip_norm;   /* of all gradients together; 0: none */
    emb_train_lora lora;
    uint32_t layerwise; /* 1: a layer moves as soon as its gradients are complete, so that no more
                           are in memory: with the same bits, but the batch is one tile, clip_norm
                           is 0, and after EMB_NOT_FINITE for a gradient some have moved */
    emb_schedule schedule;
    uint64_t steps, warmup_steps; /* of the schedule */
    uint32_t accumulate;          /* calls whose mean gradient makes one step; 0: 1 */
    uint64_t host_bytes_max;      /* of the whole process; 0: as much as the work takes */
    uint64_t caller_bytes; /* host bytes that the caller takes after open, beside the trainer */
    /* NULL, or with devices_count 0: the CPU. Else its GPUs train, in bf16 with all sums, the
     * parameters and their moments in f32. Several share each batch's examples, and do what one
     * does but for the order of sums: with the ranking loss of whole vectors alone, through NCCL
     * (libnccl.so.2, opened at run time). The plan is of each of them (plan.device.devices). */
    const emb_machine *machine;
    uint64_t device_bytes_max; /* of the whole process on each GPU; 0: as much as is free there */
} emb_train_options;

/* One step's outcome. */
typedef struct emb_train_step {
    double loss;
    double gradient_norm; /* 0 unless updated */
    double learning_rate;
    uint64_t step;    /* that this was, or was a part of, from 1 on */
    uint32_t updated; /* 1: the parameters have changed; 0: more calls come to this step */
    uint64_t tokens;  /* of its texts */
    uint64_t truncated;
    double seconds;
} emb_train_step;

typedef struct emb_trainer emb_trainer;

/* What the trainer takes, item by item, in one allocation. */
typedef struct emb_train_plan {
    uint32_t struct_bytes;
    uint32_t tokens_per_tile;
    uint32_t tiles;          /* of a batch of the longest texts */
    uint32_t tiles_kept;     /* whose activations wait for the loss; others are computed again */
    uint32_t attention_kept; /* of those, whose way back computes no attention again */
    uint32_t ffn_kept;       /* and no first half of the feed-forward */
    uint32_t layers;
    uint32_t layers_apart; /* that keep their sums; those between are computed once more */
    uint32_t threads;
    double passes; /* multiplications of a step, in passes forward over the texts of its batch */
    emb_region region;
    emb_region pinned, device;               /* with a GPU; else their bytes are 0 */
    uint64_t host_bytes;                     /* of the whole process */
    uint64_t host_bytes_min;                 /* with the smallest tiles */
    uint64_t device_bytes, device_bytes_min; /* of the whole process on the GPU */
} emb_train_plan;

/* Counters since open. */
typedef struct emb_train_stats {
    uint32_t struct_bytes;
    uint64_t steps, examples, tokens, truncated; /* of steps that changed the parameters */
    double seconds;                              /* in those steps */
    uint64_t host_bytes_planned;
    uint64_t host_bytes_now, host_bytes_peak; /* of the process, as the system counts them */
} emb_train_stats;

/* Loads the model's parameters, as f32 unless they are frozen, and takes all memory. The process
 * base is the most that the process has held so far; what the caller takes afterwards it states as
 * caller_bytes. The model may be closed after the trainer. Fails: EMB_INVALID_ARGUMENT (options),
 * EMB_UNSUPPORTED (a quantized model without lora; layers that are not BERT's), EMB_BUDGET
 * (error->bytes_min is the smallest that works), EMB_DEVICE (also several GPUs without NCCL),
 * EMB_NO_MEMORY, EMB_IO, EMB_BAD_FILE. Threads: any;
 * a trainer is one caller's at a time. */
EMB_API emb_status emb_trainer_open(emb_trainer **out, const emb_model *model,
                                    const emb_train_options *options, emb_error *error);

/* What open would plan, without taking memory. *out is filled also where the budget is too small.
 * Fails: as open, without memory and files. Threads: any. */
EMB_API emb_status emb_train_measure(emb_train_plan *out, const emb_model *model,
                                     const emb_train_options *options, emb_error *error);

/* Gives back what open took. trainer may be NULL. Threads: one, after every other use. */
EMB_API void emb_trainer_close(emb_trainer *trainer);

/* Threads: any. */
EMB_API void emb_trainer_plan(emb_train_plan *out, const emb_trainer *trainer);

/* Threads: one, the trainer's caller. */
EMB_API void emb_trainer_stats(emb_train_stats *out, const emb_trainer *trainer);

/* One step over `examples` groups of example_texts texts, one group behind the other; with
 * `accumulate` every so many calls are one. targets: of cosent and cosine a score an example
 * [examples], of batch hard its class as a whole number [examples], of distillation the teacher's
 * vectors [examples, example_texts, teacher_width]; else NULL. On failure the parameters are as
 * before (but see layerwise), and a call adds nothing to its step.
 * Fails: EMB_INVALID_ARGUMENT (counts; a target that is not finite), EMB_BAD_TEXT (naming the
 * text), EMB_NOT_FINITE (loss; or gradient, and then a step's earlier calls are dropped, too).
 * Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_step(emb_train_step *out, emb_trainer *trainer,
                                    const emb_text *texts, const float *targets, uint32_t examples,
                                    emb_error *error);

/* Encodes up to batch_examples * example_texts texts with the parameters as they are now, without
 * dropout: as an engine does with the saved model, but for rounding. *vectors [count, dim of the
 * model] stay in the trainer until its next call. Longer texts are cut as in a step. Fails:
 * EMB_INVALID_ARGUMENT (count), EMB_BAD_TEXT. Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_encode(const float **vectors, emb_trainer *trainer,
                                      const emb_text *texts, uint32_t count, emb_error *error);

/* Writes the model as it is now into a new directory, as sentence-transformers reads it; built
 * beside its place, and moved there when whole. overwrite: 1 replaces one that a trainer wrote.
 * Fails: EMB_INVALID_ARGUMENT (it exists), EMB_NOT_FINITE (a parameter, or their last loss),
 * EMB_IO. Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_save(emb_trainer *trainer, const char *directory, uint32_t overwrite,
                                    emb_error *error);

/* Writes the adapters alone into a new directory, as PEFT reads them (adapter_config.json); else as
 * save, which writes the model with them added, in f32 whatever the model's dtype was.
 * Fails: as save; EMB_INVALID_ARGUMENT also without lora. Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_save_adapter(emb_trainer *trainer, const char *directory,
                                            uint32_t overwrite, emb_error *error);

/* Says before the work whether save or save_adapter could write there, and leaves nothing.
 * Fails: as emb_trainer_save. Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_try_save(emb_trainer *trainer, const char *directory,
                                        uint32_t overwrite, emb_error *error);

/* What a caller keeps with a checkpoint: where it is in its data, its best score. */
typedef struct emb_train_mark {
    uint64_t numbers[8];
    double values[4];
} emb_train_mark;

/* Writes what is trained, moments, step and seed as one file, in place of the one before once it is
 * on the disk; calls that have not come to a step are not in it. mark may be NULL.
 * Fails: EMB_IO, EMB_NOT_FINITE (as save; the one before stays), EMB_INVALID_ARGUMENT (what is
 * there is no checkpoint). Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_store(const emb_trainer *trainer, const char *path,
                                     const emb_train_mark *mark, emb_error *error);

/* Goes on where a trainer of the same model, optimizer and lora was stored: with the same batches
 * and tokens per tile the bits are those of a training that was never stopped, for any number of
 * threads. mark may be NULL. On failure the trainer is as it was, but for a file that changes while
 * it is read. Fails: EMB_NOT_FOUND, EMB_BAD_FILE (another model's, cut, damaged),
 * EMB_INVALID_ARGUMENT (another optimizer), EMB_IO. Threads: one, the trainer's caller. */
EMB_API emb_status emb_trainer_resume(emb_train_mark *mark, emb_trainer *trainer, const char *path,
                                      emb_error *error);

#ifdef __cplusplus
}
#endif

#endif
