/* files.h - what the parts of this folder share; model.h is the interface to others.
 *
 * Messages of the parsers leave out the file: emb_document_read prepends it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_MODEL_FILES_H
#define EMB_MODEL_FILES_H

#include <stdbool.h>

#include "base/json.h"
#include "model/model.h"

#define EMB_SHARDS_MAX        64
#define EMB_SHARD_NAME_MAX    128
#define EMB_TENSOR_NAME_MAX   256
#define EMB_TEXT_FIELD_MAX    128
#define EMB_RELATIVE_PATH_MAX 256
#define EMB_LAYER_ROLES       (EMB_TENSOR_ROLES - EMB_TENSOR_QUERY)

/* ---- document.c: JSON files ------------------------------------------------------------------ */

typedef emb_status (*emb_document_parse)(emb_json *json, void *user, emb_error *error);

/* Opens root/path, lets `parse` read the whole document, closes. Errors name `path`.
 * Fails: EMB_NOT_FOUND if there is no such file, and what parse gives. */
emb_status emb_document_read(const char *root, const char *path, emb_document_parse parse,
                             void *user, emb_error *error);

/* Whether a name exists, even as a dangling link (reading it is then an error). */
bool emb_document_exists(const char *root, const char *path);

/* Prepends "path: " to the message. Gives `status`. */
emb_status emb_document_blame(const char *path, emb_status status, emb_error *error);

/* Joins with a slash. Fails: EMB_INVALID_ARGUMENT if it does not fit. */
emb_status emb_document_path(char *out, size_t capacity, const char *root, const char *path,
                             emb_error *error);

/* Reads the value whose first event was just read, to its end. */
typedef emb_status (*emb_field_parse)(emb_json *json, emb_json_event event, void *user,
                                      emb_error *error);

typedef enum emb_field_kind {
    EMB_FIELD_TEXT,  /* char[EMB_TEXT_FIELD_MAX] */
    EMB_FIELD_TEXTS, /* the same: a string, or a list of them ("a+b") */
    EMB_FIELD_COUNT, /* uint64_t */
    EMB_FIELD_REAL,  /* double */
    EMB_FIELD_FLAG,  /* bool */
    EMB_FIELD_PARSED /* read by `parse`, whose user is `out` */
} emb_field_kind;

typedef struct emb_field {
    const char *key; /* with dots if it is nested: see keys.h */
    emb_field_kind kind;
    void *out;
    emb_field_parse parse;
    bool given; /* present, and not null */
    bool seen;
} emb_field;

#define EMB_FIELD(key_, kind_, out_)                                                               \
    { .key = (key_), .kind = EMB_FIELD_##kind_, .out = (out_) }

/* Reads the value that comes next into a field; null leaves it not given.
 * Fails: EMB_BAD_FILE (wrong kind, a duplicate key). */
emb_status emb_document_field(emb_json *json, emb_field *field, emb_error *error);

/* Reads a key, or sets *done at the end of the object. A key that does not fit is given as "". */
emb_status emb_document_key(emb_json *json, char *key, size_t capacity, bool *done,
                            emb_error *error);

/* Whether the text can be part of a message: no control characters. */
bool emb_document_printable(const char *text);

/* ---- config.c, modules.c, transformer.c, settings.c: what the configuration says --------------
 */

typedef struct emb_key_findings emb_key_findings; /* keys.h */
typedef struct emb_key_list emb_key_list;

/* What a tokenizer and the caller need of config.json besides the shape. */
typedef struct emb_settings {
    char tokenizer_class[EMB_TEXT_FIELD_MAX]; /* of config.json; "": not stated */
    bool lowercase;                           /* texts are lowercased first */
} emb_settings;

/* Reads root/path, a config.json, into the shape (all but pooling and default_tokens). */
emb_status emb_config_read(emb_shape *shape, emb_settings *settings, const char *root,
                           const char *path, emb_key_findings *findings, emb_error *error);

/* What a class of sentence-transformers' modules is here: a row of the table in modules.c. */
typedef struct emb_module_kind {
    const char *type;         /* the class, without the packages in front */
    const char *const *files; /* that a copy of its folder must hold; ends with NULL */
    const emb_key_list *keys; /* of its config.json; NULL: has lists in keys.h */
    /* Reads them into a shape whose layers are known; NULL: files.c has that done before. */
    emb_status (*apply)(emb_shape *shape, const char *root, const char *folder,
                        emb_key_findings *findings, emb_error *error);
} emb_module_kind;

/* All of them, in the order that a model has them in; ends with a type of NULL. */
extern const emb_module_kind emb_module_kinds[];

#define EMB_MODULES_MAX 8

typedef struct emb_modules {
    bool listed; /* there is a modules.json; else there is an encoder alone */
    uint32_t count;
    struct emb_module {
        const emb_module_kind *kind;
        char folder[EMB_TEXT_FIELD_MAX]; /* below the root; "": the root */
    } list[EMB_MODULES_MAX];             /* in their order; the encoder is the first */
} emb_modules;

/* Reads modules.json where there is one. */
emb_status emb_modules_read(emb_modules *modules, const char *root, emb_key_findings *findings,
                            emb_error *error);

/* Fills pooling, normalizes and output_width of a shape whose layers are known, as the modules
 * behind them say. */
emb_status emb_modules_apply(emb_shape *shape, const emb_modules *modules, const char *root,
                             emb_key_findings *findings, emb_error *error);

/* Fills default_tokens of a shape whose window is known, and `lowercase`; refuses what must not be
 * in the other files of the encoder's folder. */
emb_status emb_transformer_read(emb_shape *shape, emb_settings *settings,
                                const emb_modules *modules, const char *root,
                                emb_key_findings *findings, emb_error *error);

/* The files in the encoder's folder besides the weights; ends with NULL. The first ones are
 * possible names of the file of the Transformer's arguments, of which the first that exists and has
 * any argument is read. */
#define EMB_ARGUMENT_FILES 7
extern const char *const emb_transformer_files[];

/* Prompts: name, NUL, text, NUL, and so on. `texts` NULL: measures `bytes`, else fills that many.
 */
typedef struct emb_prompts {
    char *texts;
    size_t bytes;
    uint32_t count;
    int32_t fallback; /* index of the default prompt, or -1 */
} emb_prompts;

/* Reads config_sentence_transformers.json where there is one: prompts and, if `shape` is not NULL,
 * its truncate_dim. */
emb_status emb_prompts_read(emb_prompts *prompts, emb_shape *shape, const char *root,
                            emb_key_findings *findings, emb_error *error);

/* The text of the prompt of that name (NULL: the default one), or NULL. */
const char *emb_prompts_find(const emb_prompts *prompts, const char *name);

/* ---- safetensors.c: one file of tensors ------------------------------------------------------ */

typedef struct emb_tensor_header {
    char name[EMB_TENSOR_NAME_MAX];
    char dtype[16];
    uint32_t rank;
    uint64_t dims[2];    /* the first two */
    uint64_t begin, end; /* in the file */
} emb_tensor_header;

typedef emb_status (*emb_tensor_visit)(void *user, const emb_tensor_header *tensor,
                                       emb_error *error);

/* Checks the whole header (syntax, every tensor's size and place, no overlap, no gap, no duplicate
 * name) and calls `visit` for each tensor. Errors name `path`, the descriptor's file. Allocates 32
 * bytes per tensor and frees them before it returns. */
emb_status emb_safetensors_scan(int descriptor, uint64_t file_bytes, const char *path,
                                emb_tensor_visit visit, void *user, emb_error *error);

/* ---- tensors.c: the tensors an encoder needs ------------------------------------------------- */

/* Tensors that a quantized matrix has besides its values, named by a suffix. */
typedef enum emb_quantized_part {
    EMB_PART_SCALES, /* ".scales": F32 [rows], int4 [rows, groups] */
    EMB_PART_ZEROS,  /* ".zeros": U8 [rows, groups]; int4 only */
    EMB_PART_SMOOTH, /* ".smooth": F32 [cols] */
    EMB_PARTS
} emb_quantized_part;

typedef struct emb_tensor_part {
    uint64_t offset;
    uint32_t dims[2];
    uint8_t shard, rank; /* rank 0: absent */
} emb_tensor_part;

typedef struct emb_tensor {
    uint64_t offset; /* in the file */
    uint32_t rows, cols;
    uint8_t shard;
    uint8_t dtype;  /* emb_dtype; 0: not found yet */
    uint16_t group; /* int4: values that share a scale */
    emb_tensor_part parts[EMB_PARTS];
} emb_tensor;

/* emb_tensors_bind's state while one shard is scanned. */
typedef struct emb_binding {
    emb_model_files *files;
    const emb_shape *shape;
    uint8_t shard;
} emb_binding;

/* Takes a tensor of the file if the encoder needs it. An emb_tensor_visit on an emb_binding.
 * Fails: EMB_BAD_FILE, EMB_UNSUPPORTED, naming the tensor. */
emb_status emb_tensors_bind(void *binding, const emb_tensor_header *tensor, emb_error *error);

/* Fails if a needed tensor was in no shard, and names the first. */
emb_status emb_tensors_complete(const emb_model_files *files, const emb_shape *shape,
                                emb_error *error);

uint32_t emb_tensors_count(const emb_shape *shape);

/* The slot of a role, or NULL. */
const emb_tensor *emb_tensors_find(const emb_model_files *files, emb_tensor_role role,
                                   uint32_t layer);

/* Gives EMB_BAD_FILE, with shard, tensor, and what is wrong with the element. */
emb_status emb_tensors_blame(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                             const char *suffix, uint64_t element, const char *what,
                             emb_error *error);

/* ---- quantized.c: matrices in 8 or 4 bits ---------------------------------------------------- */

/* Cuts the suffix of a part off a tensor's name and gives the part; EMB_PARTS: it has none. */
emb_quantized_part emb_quantized_cut(char *name);

/* Takes a part's place and shape. Fails: EMB_BAD_FILE (duplicate, wrong dtype or rank). */
emb_status emb_quantized_bind(emb_tensor *slot, emb_quantized_part part,
                              const emb_tensor_header *tensor, uint8_t shard, emb_error *error);

/* Checks that a slot's parts are those its dtype needs, in the right shapes, and fills `group`.
 * `name` is the values'. Fails: EMB_BAD_FILE, EMB_UNSUPPORTED. */
emb_status emb_quantized_check(emb_tensor *slot, emb_tensor_role role, const char *name,
                               emb_error *error);

/* Reads rows of a quantized tensor as f32, as emb_model_read_rows does. */
emb_status emb_quantized_read_rows(const emb_model_files *files, emb_tensor_role role,
                                   uint32_t layer, uint32_t row0, uint32_t rows, float *out,
                                   void *scratch, emb_error *error);

/* ---- files.c --------------------------------------------------------------------------------- */

struct emb_model_files {
    uint64_t bytes; /* of this one allocation */
    uint64_t file_bytes;
    const emb_family *family;
    uint32_t layers;
    uint32_t shards_count;
    emb_prompts prompts;
    emb_tensor *tensors;                /* [tensors_count] */
    char (*shards)[EMB_SHARD_NAME_MAX]; /* [shards_count], file names */
    int *descriptors;                   /* [shards_count] */
    uint32_t tensors_count;
    char name[EMB_SHARD_NAME_MAX];
    char directory[EMB_MODEL_PATH_MAX];
    uint32_t root_length; /* length of the root in `directory`: the rest is the folder that
                             modules.json names */
    emb_settings settings;
    char unknown_keys[EMB_UNKNOWN_KEYS_MAX];
    char found_instead[EMB_TENSOR_NAME_MAX]; /* a word embedding found under a prefix that is not
                                                supported */
};

#endif
