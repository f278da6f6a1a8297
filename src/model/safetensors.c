/* safetensors.c - reads and checks the header of one safetensors file, as a stream.
 *
 * Fed by a descriptor, feeds tensors.c. Trusts no size that the file states: allocations follow
 * from the number of tensors counted, never from numbers read.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/ledger.h"
#include "base/sort.h"
#include "model/files.h"

#define HEADER_BYTES_MAX (25u << 20) /* the hub's own client refuses more */
#define TENSORS_MAX      100000u
#define SCAN_BUFFER      8192

/* Where a tensor lies, and which one it is. */
typedef struct span {
    uint64_t begin, end, hash;
    uint32_t ordinal;
} span;

/* One pass over a header. */
typedef struct scan {
    emb_json json;
    emb_file_stream stream;
    uint64_t data_begin, data_bytes;
    uint32_t tensors;
    unsigned char buffer[SCAN_BUFFER];
} scan;

/* Bits of one value; 0: a type this version does not know, whose size is then not checked. */
static uint64_t dtype_bits(const char *dtype) {
    static const struct {
        char name[12];
        uint8_t bits;
    } known[] = {
        {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"I64", 64},    {"BOOL", 8},
        {"U8", 8},      {"I8", 8},      {"I16", 16},    {"U16", 16},    {"I32", 32},
        {"U32", 32},    {"U64", 64},    {"F64", 64},    {"C64", 64},    {"F8_E4M3", 8},
        {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, dtype) == 0) return known[i].bits;
    return 0;
}

static emb_status blame(const char *tensor, const char *what, emb_error *error) {
    return emb_error_set(error, EMB_BAD_FILE, "tensor \"%s\": %s", tensor, what);
}

/* ---- one tensor ------------------------------------------------------------------------------ */

static emb_status read_shape(emb_json *json, emb_tensor_header *t, uint64_t *values,
                             emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN) return blame(t->name, "\"shape\" must be a list", error);
    *values = 1;
    for (;;) {
        uint64_t dim;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        EMB_TRY(emb_json_value_u64(json, event, &dim, "shape", error));
        if (__builtin_mul_overflow(*values, dim, values))
            return blame(t->name, "the product of its \"shape\" is too large", error);
        if (t->rank < 2) t->dims[t->rank] = dim;
        t->rank++; /* bounded by the header's length */
    }
}

static emb_status read_offsets(emb_json *json, const scan *s, emb_tensor_header *t,
                               emb_error *error) {
    static const char key[] = "data_offsets";
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN)
        return blame(t->name, "\"data_offsets\" must be a list of two numbers", error);
    EMB_TRY(emb_json_next_u64(json, &t->begin, key, error));
    EMB_TRY(emb_json_next_u64(json, &t->end, key, error));
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_END)
        return blame(t->name, "\"data_offsets\" must be a list of two numbers", error);
    if (t->begin > t->end || t->end > s->data_bytes)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": \"data_offsets\" [%" PRIu64 ", %" PRIu64
                             "] do not lie inside the %" PRIu64 " bytes of data%s",
                             t->name, t->begin, t->end, s->data_bytes,
                             t->begin > t->end ? "" : ": the file is cut, fetch it again");
    return EMB_OK;
}

static emb_status check_size(const emb_tensor_header *t, uint64_t values, emb_error *error) {
    uint64_t bits = dtype_bits(t->dtype), total, bytes = t->end - t->begin;
    if (bits == 0) return EMB_OK;
    if (__builtin_mul_overflow(values, bits, &total))
        return blame(t->name, "the product of its \"shape\" is too large", error);
    if (total % 8 != 0 || total / 8 != bytes)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": \"data_offsets\" hold %" PRIu64 " bytes, but its "
                             "\"shape\" holds %" PRIu64 " values of \"%s\"",
                             t->name, bytes, values, t->dtype);
    return EMB_OK;
}

/* Reads the object after a tensor's name. */
static emb_status read_tensor(scan *s, emb_tensor_header *t, emb_error *error) {
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    emb_json *json = &s->json;
    emb_json_event event;
    uint64_t values = 0;
    unsigned seen = 0;
    t->rank = 0;
    t->dims[0] = t->dims[1] = 1;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN) return blame(t->name, "an object was expected", error);
    for (;;) {
        char key[16];
        bool done;
        EMB_TRY(emb_document_key(json, key, sizeof key, &done, error));
        if (done) break;
        unsigned which = strcmp(key, "dtype") == 0          ? DTYPE
                         : strcmp(key, "shape") == 0        ? SHAPE
                         : strcmp(key, "data_offsets") == 0 ? OFFSETS
                                                            : 0;
        if (seen & which) return blame(t->name, "a key appears twice", error);
        seen |= which;
        if (which == DTYPE)
            EMB_TRY(emb_json_next_string(json, t->dtype, sizeof t->dtype, key, error));
        else if (which == SHAPE)
            EMB_TRY(read_shape(json, t, &values, error));
        else if (which == OFFSETS)
            EMB_TRY(read_offsets(json, s, t, error));
        else
            EMB_TRY(emb_json_skip(json, error));
    }
    if (seen != ALL)
        return blame(t->name, "\"dtype\", \"shape\" and \"data_offsets\" are needed", error);
    if (!emb_document_printable(t->dtype))
        return blame(t->name, "\"dtype\" holds a control character", error);
    EMB_TRY(check_size(t, values, error));
    t->begin += s->data_begin;
    t->end += s->data_begin;
    return EMB_OK;
}

/* ---- one pass -------------------------------------------------------------------------------- */

typedef emb_status (*scan_visit)(void *user, const emb_tensor_header *tensor, uint32_t ordinal,
                                 emb_error *error);

/* Runs over the whole header; `visit` may be NULL. */
static emb_status run_pass(scan *s, int descriptor, scan_visit visit, void *user,
                           emb_error *error) {
    emb_json_event event;
    bool metadata = false;
    s->stream = (emb_file_stream){descriptor, 8, s->data_begin};
    emb_json_init(&s->json, s->buffer, sizeof s->buffer, emb_file_stream_read, &s->stream);
    s->json.utf8_strict = true;
    s->tensors = 0;
    EMB_TRY(emb_json_next(&s->json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "the header must be an object ({...})");
    for (;;) {
        emb_tensor_header tensor;
        size_t length;
        EMB_TRY(emb_json_next(&s->json, &event, error));
        if (event == EMB_JSON_OBJECT_END) break;
        EMB_TRY(emb_json_string(&s->json, tensor.name, sizeof tensor.name, &length, error));
        if (strlen(tensor.name) != length || !emb_document_printable(tensor.name))
            return emb_error_set(error, EMB_BAD_FILE, "a tensor's name holds a control character");
        if (strcmp(tensor.name, "__metadata__") == 0) {
            if (metadata) return blame(tensor.name, "it appears twice", error);
            metadata = true;
            EMB_TRY(emb_json_skip(&s->json, error));
            continue;
        }
        if (s->tensors == TENSORS_MAX)
            return emb_error_set(error, EMB_UNSUPPORTED, "more than %u tensors", TENSORS_MAX);
        EMB_TRY(read_tensor(s, &tensor, error));
        if (visit) EMB_TRY(visit(user, &tensor, s->tensors, error));
        s->tensors++;
    }
    return emb_json_next(&s->json, &event, error); /* padding, and nothing else */
}

/* ---- all tensors together -------------------------------------------------------------------- */

static bool by_place(const void *a, const void *b) {
    const span *x = a, *y = b;
    return x->begin != y->begin ? x->begin < y->begin : x->end < y->end;
}

static bool by_hash(const void *a, const void *b) {
    return ((const span *)a)->hash < ((const span *)b)->hash;
}

static uint64_t hash_name(const char *name) {
    return emb_hash_bytes(EMB_HASH_START, name, strlen(name));
}

typedef struct collecting {
    span *spans;
    uint32_t count;
    emb_tensor_visit visit;
    void *user;
} collecting;

static emb_status collect(void *user, const emb_tensor_header *t, uint32_t ordinal,
                          emb_error *error) {
    collecting *c = user;
    if (ordinal == c->count)
        return emb_error_set(error, EMB_BAD_FILE, "it changed while it was read");
    c->spans[ordinal] = (span){t->begin, t->end, hash_name(t->name), ordinal};
    return c->visit(c->user, t, error);
}

/* Stops at one tensor, to name it. */
typedef struct naming {
    uint32_t ordinal;
    const char *what;
} naming;

static emb_status name_tensor(void *user, const emb_tensor_header *t, uint32_t ordinal,
                              emb_error *error) {
    const naming *n = user;
    return ordinal == n->ordinal ? blame(t->name, n->what, error) : EMB_OK;
}

/* Every byte of the data must belong to one tensor, and every name too. Names are compared by
 * 64-bit hash, so a collision is refused as well. */
static emb_status check_spans(scan *s, int descriptor, span *spans, emb_error *error) {
    naming bad = {0, NULL};
    uint64_t at = s->data_begin;
    uint32_t count = s->tensors;
    emb_sort(spans, count, sizeof *spans, by_place);
    for (uint32_t i = 0; i < count && !bad.what; at = spans[i++].end) {
        if (spans[i].begin == at) continue;
        bad = (naming){spans[i].ordinal, spans[i].begin < at
                                             ? "its data overlap another tensor's"
                                             : "there is a hole in the data before it"};
    }
    if (!bad.what && at != s->data_begin + s->data_bytes)
        return emb_error_set(error, EMB_BAD_FILE, "%" PRIu64 " bytes follow the last tensor's data",
                             s->data_begin + s->data_bytes - at);
    if (!bad.what) emb_sort(spans, count, sizeof *spans, by_hash);
    for (uint32_t i = 1; i < count && !bad.what; i++)
        if (spans[i].hash == spans[i - 1].hash)
            bad = (naming){spans[i].ordinal, "its name appears twice"};
    if (!bad.what) return EMB_OK;
    EMB_TRY(run_pass(s, descriptor, name_tensor, &bad, error));
    return emb_error_set(error, EMB_BAD_FILE, "it changed while it was read");
}

static emb_status scan_all(scan *s, int descriptor, emb_tensor_visit visit, void *user,
                           emb_error *error) {
    EMB_TRY(run_pass(s, descriptor, NULL, NULL, error));
    collecting c = {.count = s->tensors, .visit = visit, .user = user};
    uint64_t bytes = ((uint64_t)c.count + 1) * sizeof *c.spans;
    c.spans = emb_arena_open(bytes); /* goes back to the system, unlike a heap block */
    if (!c.spans)
        return emb_error_set(error, EMB_NO_MEMORY, "no memory to check %u tensors", c.count);
    emb_status status = run_pass(s, descriptor, collect, &c, error);
    if (status == EMB_OK && s->tensors != c.count)
        status = emb_error_set(error, EMB_BAD_FILE, "it changed while it was read");
    if (status == EMB_OK) status = check_spans(s, descriptor, c.spans, error);
    emb_arena_close(c.spans, bytes);
    return status;
}

/* Reads and checks the header's length, which precedes it. */
static emb_status read_length(scan *s, int descriptor, uint64_t file_bytes, const char *path,
                              emb_error *error) {
    unsigned char head[9];
    uint64_t length = 0;
    if (file_bytes < 10)
        return emb_error_set(error, EMB_BAD_FILE, "%s: %" PRIu64 " bytes: not a safetensors file",
                             path, file_bytes);
    EMB_TRY(emb_file_read_at(descriptor, head, sizeof head, 0, path, error));
    for (int i = 7; i >= 0; i--) length = length << 8 | head[i];
    if (length < 2 || length > file_bytes - 8 || length > HEADER_BYTES_MAX)
        return emb_error_set(error, EMB_BAD_FILE,
                             "%s: states a header of %" PRIu64 " bytes; 2 to %" PRIu64
                             " are possible: not a safetensors file, or cut: fetch it again",
                             path, length,
                             file_bytes - 8 < HEADER_BYTES_MAX ? file_bytes - 8
                                                               : (uint64_t)HEADER_BYTES_MAX);
    if (head[8] != '{')
        return emb_error_set(error, EMB_BAD_FILE, "%s: the header does not begin with '{'", path);
    s->data_begin = 8 + length;
    s->data_bytes = file_bytes - s->data_begin;
    return EMB_OK;
}

emb_status emb_safetensors_scan(int descriptor, uint64_t file_bytes, const char *path,
                                emb_tensor_visit visit, void *user, emb_error *error) {
    scan s;
    EMB_TRY(read_length(&s, descriptor, file_bytes, path, error));
    emb_status status = scan_all(&s, descriptor, visit, user, error);
    return status == EMB_OK ? EMB_OK : emb_document_blame(path, status, error);
}
