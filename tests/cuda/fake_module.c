/* fake_module.c - a CUDA module without CUDA: the device's memory is the host's, kernels are loops.
 *
 * Opened through EMB_CUDA_MODULE, it lets the host side of a device run where there is no GPU: what
 * a layer is comes from the module's own blocks.c. Lanes and copies are threads, so that an order
 * that nothing holds shows as wrong bits (EMB_FAKE_JITTER); a recording is a list of launches.
 * EMB_FAKE_FAIL=N makes the N-th call that can fail do so, EMB_FAKE_LAUNCH=N the N-th launch,
 * EMB_FAKE_GRAPHS=N all recordings from the N-th on; others' variables stand where they are read.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/cuda/host/blocks.h"
#include "backend/cuda/host/pack.h"
#include "backend/cuda/host/products.h"
#include "backend/cuda/sizes/support.h"
#include "base/error.h"
#include "fake_kernels.h"
#include "fake_stream.h"

#define CONTEXT_BYTES (10u << 20)
#define CARD_BYTES    (4ull << 30)

static unsigned long calls; /* that may fail, so far */
static long blocks;         /* of device memory, not given back */
static uint32_t contexts;   /* bits of the devices that have one */
static struct { uint32_t open, most; /* now, and at once so far */ } lanes[EMB_DEVICES_MAX];

/* So that a test can fail the next one but n. */
__attribute__((visibility("default"))) unsigned long fake_module_calls(void);
unsigned long fake_module_calls(void) {
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}

/* So that a test sees what is not given back. */
__attribute__((visibility("default"))) long fake_module_blocks(void);
long fake_module_blocks(void) {
    return __atomic_load_n(&blocks, __ATOMIC_RELAXED);
}

static bool fails(void) {
    const char *wanted = getenv("EMB_FAKE_FAIL");
    return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) ==
           (wanted ? strtoul(wanted, NULL, 10) : 0);
}

static emb_status lost(emb_error *error, const char *what) {
    return emb_error_set(error, EMB_DEVICE, "fake device: %s failed", what);
}

/* The card's books, as a driver keeps them for NVML: EMB_FAKE_HELD is a folder, where the file
 * named by this process gets what it holds of the first card (tests/cli/fake_nvml.c). */
static uint64_t own_bytes(uint32_t device);

static void enter_held(void) {
    const char *folder = getenv("EMB_FAKE_HELD");
    if (!folder) return;
    char path[512];
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%llu\n", (unsigned long long)own_bytes(0));
    fclose(file);
}

/* ---- threads --------------------------------------------------------------------------------- */

static _Thread_local int current = -1; /* device of the thread; -1: none */

/* So that a test sees that its own stays. */
__attribute__((visibility("default"))) int *fake_module_current(void);
int *fake_module_current(void) {
    return &current;
}

static int restore(void *context) {
    current = (int)(intptr_t)context;
    return 0;
}

static void enter(emb_device_thread *before, uint32_t device) {
    *before = (emb_device_thread){.restore = restore, .context = (void *)(intptr_t)current};
    current = (int)device;
}

static void leave(const emb_device_thread *before) {
    before->restore(before->context);
}

/* ---- device calls ---------------------------------------------------------------------------- */

static emb_status open_device(uint32_t device, emb_error *error) {
    current = (int)device;
    return fails() ? lost(error, "open") : EMB_OK;
}

static emb_status uploaded(uint32_t device, emb_error *error) {
    (void)device;
    return fails() ? lost(error, "an upload") : EMB_OK;
}

static uint64_t bytes_of(const char *variable) {
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : 0;
}

/* In front of what is taken of a card. */
typedef struct head {
    uint64_t bytes;
    uint32_t device;
} head;
#define HEAD_BYTES 256

static uint64_t region_bytes[EMB_DEVICES_MAX];

/* What others than this program's engines hold of a card: EMB_FAKE_OTHERS other processes,
 * EMB_FAKE_OWN this one's other libraries, among which a context may be. */
static uint64_t free_bytes(uint32_t device);

/* EMB_FAKE_MEMORY is the most that one block may have. */
static void *take(uint32_t device, uint64_t bytes) {
    current = (int)device;
    const char *memory = getenv("EMB_FAKE_MEMORY");
    if (fails() || (memory && bytes > strtoull(memory, NULL, 10))) return NULL;
    if (bytes > free_bytes(device)) return NULL;
    char *block = aligned_alloc(256, (bytes + 255) / 256 * 256 + HEAD_BYTES);
    if (!block) return NULL;
    const head kept = {bytes, device};
    memcpy(block, &kept, sizeof kept);
    memset(block + HEAD_BYTES, 0xA5, bytes); /* what was never written must show */
    __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&region_bytes[device], bytes, __ATOMIC_RELAXED);
    enter_held();
    return block + HEAD_BYTES;
}

static void give(void *base) {
    char *block = (char *)base - HEAD_BYTES;
    head kept;
    memcpy(&kept, block, sizeof kept);
    __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&region_bytes[kept.device], kept.bytes, __ATOMIC_RELAXED);
    enter_held();
    free(block);
}

static bool pin(void *base, uint64_t bytes) {
    (void)base, (void)bytes;
    return !fails();
}

static void unpin(void *base) {
    (void)base;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* A launch with a copy of its arguments. */
typedef struct launch {
    fake_call run;
    void *arguments;
    size_t bytes;
} launch;

/* What was launched for a tile of so many tokens. */
typedef struct recording {
    launch *launches; /* [room] */
    uint32_t tokens, count, room;
} recording;

/* A lane's, which is its own stream to launchers. */
typedef struct fake_state {
    emb_cuda_queue queue; /* first: blocks know no more */
    fake_stream *stream;
    recording recordings[EMB_BUCKETS_MAX];
    uint32_t count;  /* of them */
    bool recording;  /* the one behind those is being made */
    uint32_t broken; /* recordings, so far */
    uint32_t device;
} fake_state;

_Static_assert(sizeof(fake_state) <= EMB_CUDA_STATE_BYTES, "layout books too little for state");

static void note_launch(recording *r, const launch *what) {
    if (r->count == r->room) {
        r->room = 2 * r->room + 16;
        r->launches = realloc(r->launches, r->room * sizeof *r->launches);
    }
    launch *kept = &r->launches[r->count++];
    *kept = (launch){what->run, malloc(what->bytes), what->bytes};
    memcpy(kept->arguments, what->arguments, what->bytes);
}

static void forget(recording *r) {
    for (uint32_t i = 0; i < r->count; i++) free(r->launches[i].arguments);
    free(r->launches);
    *r = (recording){0};
}

static unsigned long launches; /* so far */

int fake_enqueue(void *stream, fake_call run, const void *arguments, size_t bytes) {
    fake_state *state = stream;
    const char *failing = getenv("EMB_FAKE_LAUNCH");
    void *copied = (void *)(uintptr_t)arguments;
    if (!state) {
        run(copied);
        return 0;
    }
    bool failed = __atomic_add_fetch(&launches, 1, __ATOMIC_RELAXED) ==
                  (failing ? strtoul(failing, NULL, 10) : 0);
    if (failed || state->queue.failure) return 1; /* as in a context that has broken */
    if (state->recording)
        note_launch(&state->recordings[state->count], &(launch){run, copied, bytes});
    else
        fake_stream_run(state->stream, run, arguments, bytes);
    return 0;
}

static fake_stream *stream_of(const emb_lane_scratch *scratch) {
    return ((const fake_state *)scratch->state)->stream;
}

/* What fails is kept until finish tells it. */
static bool lane_fails(emb_lane_scratch *scratch) {
    emb_cuda_queue *queue = scratch->state;
    emb_cuda_note(queue, fails());
    return queue->failure;
}

/* EMB_FAKE_CAPABILITY is that of every card. */
static uint32_t capability(void) {
    const char *stated = getenv("EMB_FAKE_CAPABILITY");
    return stated ? (uint32_t)strtoul(stated, NULL, 10) : 90;
}

static emb_status lane_open(const emb_backend *self, emb_lane_scratch *scratch, uint32_t device,
                            emb_error *error) {
    fake_state *state = scratch->state;
    current = (int)device;
    memset(state, 0, sizeof *state);
    if (fails()) return lost(error, "a stream");
    state->stream = fake_stream_open();
    if (!state->stream) return lost(error, "memory");
    state->device = device;
    state->queue.launch = &fake_kernels;
    state->queue.stream = state;
    state->queue.device = (emb_cuda_device){.multiprocessors = 1, .capability = capability()};
    if (emb_cuda_gemm_of(self) == EMB_GEMM_CUBLASLT) state->queue.blas.handle = state;
    uint32_t open = __atomic_add_fetch(&lanes[device].open, 1, __ATOMIC_RELAXED);
    if (open > lanes[device].most) lanes[device].most = open;
    return EMB_OK;
}

static void lane_close(emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    if (state->stream) __atomic_sub_fetch(&lanes[state->device].open, 1, __ATOMIC_RELAXED);
    fake_stream_close(state->stream);
    for (uint32_t i = 0; i < EMB_BUCKETS_MAX; i++) forget(&state->recordings[i]);
    memset(state, 0, sizeof *state);
}

/* The loops are one kernel for each product: what is found has no meaning but that it is kept. */
static emb_status tune(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                       uint32_t tokens, const emb_layer *layer, const emb_layer_spec *shape,
                       emb_error *error) {
    (void)self, (void)layer, (void)shape, (void)scratch;
    if (fails()) return lost(error, "tuning");
    uint32_t row = emb_cuda_tuning_row(tokens);
    for (uint32_t p = 0; p < EMB_TUNING_PRODUCTS; p++)
        tuning->kernels[row][p] = (uint8_t)(1 + (row + p) % 3);
    return EMB_OK;
}

static void record(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    emb_cuda_queue *queue = &state->queue;
    uint32_t chunks = emb_chunks_max(tokens, scratch->chunk_tokens_min);
    *tile = (emb_tile){.tokens = tokens, .chunks = chunks};
    state->recordings[state->count].tokens = tokens;
    state->recording = true;
    queue->replayed = false;
    emb_cuda_view v = emb_cuda_view_indices(scratch, tile);
    emb_cuda_note(queue, queue->launch->prepare(&v.batch, queue->stream));
}

/* A failure leaves the lane as it was before. */
static emb_status recorded(emb_lane_scratch *scratch, emb_error *error) {
    fake_state *state = scratch->state;
    const char *broken = getenv("EMB_FAKE_GRAPHS");
    bool failed = state->queue.failure;
    state->recording = false;
    state->queue.failure = 0;
    if (broken && ++state->broken >= strtoul(broken, NULL, 10)) failed = true;
    if (!failed) {
        state->count++;
        return EMB_OK;
    }
    forget(&state->recordings[state->count]);
    return lost(error, "recording");
}

static bool replay(fake_state *state, uint32_t tokens) {
    const recording *best = NULL;
    for (uint32_t i = 0; i < state->count; i++) {
        const recording *at = &state->recordings[i];
        if (at->tokens >= tokens && (!best || at->tokens < best->tokens)) best = at;
    }
    state->queue.replayed = best != NULL;
    for (uint32_t i = 0; best && i < best->count; i++) {
        const launch *what = &best->launches[i];
        fake_stream_run(state->stream, what->run, what->arguments, what->bytes);
    }
    return best != NULL;
}

static void do_upload(void *arguments) {
    const emb_cuda_upload *what = arguments;
    memcpy(what->to, what->from, what->bytes);
}

static bool begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    emb_cuda_queue *queue = &state->queue;
    emb_cuda_view v = emb_cuda_view_indices(scratch, tile);
    const emb_cuda_upload indices = emb_cuda_upload_of(&v, tile, targets);
    fake_stream_run(state->stream, do_upload, &indices, sizeof indices);
    if (replay(state, tile->tokens)) return true;
    emb_cuda_note(queue, queue->launch->prepare(&v.batch, queue->stream));
    return false;
}

static emb_status finish(emb_lane_scratch *scratch, emb_error *error) {
    fake_stream_finish(stream_of(scratch));
    return lane_fails(scratch) ? lost(error, "a kernel") : EMB_OK;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static void copier_close(void *copier, void **events, uint32_t count) {
    fake_stream_close(copier);
    for (uint32_t i = 0; i < count; i++) fake_event_close(events[i]);
}

static emb_status copier_open(void **copier, void **events, uint32_t count, uint32_t device,
                              emb_error *error) {
    (void)device;
    memset(events, 0, count * sizeof *events);
    void *stream = fails() ? NULL : fake_stream_open();
    bool whole = stream != NULL;
    for (uint32_t i = 0; whole && i < count; i++) {
        events[i] = fails() ? NULL : fake_event_open();
        whole = events[i] != NULL;
    }
    if (whole) {
        *copier = stream;
        return EMB_OK;
    }
    copier_close(stream, events, count);
    return lost(error, "a stream of copies");
}

/* Spoils what was there first: a layer that is read while it comes must show. */
static void do_copy(void *arguments) {
    const emb_device_copy *copy = arguments;
    memset(copy->to, 0xA5, copy->bytes);
    memcpy(copy->to, copy->from, copy->bytes);
}

static emb_status copy(void *copier, const emb_device_copy *copy, uint32_t device,
                       emb_error *error) {
    (void)device;
    if (fails()) return lost(error, "copying a layer");
    for (uint32_t i = 0; i < copy->after_count; i++) fake_event_wait(copier, copy->after[i]);
    fake_stream_run(copier, do_copy, copy, sizeof *copy);
    fake_event_mark(copier, copy->done);
    return EMB_OK;
}

/* A lane that failed still waits: its rows are thrown away, but it must not be seen to race. */
static void lane_wait(emb_lane_scratch *scratch, void *event) {
    lane_fails(scratch);
    fake_event_wait(stream_of(scratch), event);
}

static void lane_mark(emb_lane_scratch *scratch, void *event) {
    lane_fails(scratch);
    fake_event_mark(stream_of(scratch), event);
}

static emb_status event_finish(void *event, uint32_t device, emb_error *error) {
    (void)device;
    fake_event_finish(event);
    return fails() ? lost(error, "a kernel") : EMB_OK;
}

/* ---- rows of the caller's -------------------------------------------------------------------- */

static void *rows_take(uint32_t device, uint64_t bytes) {
    emb_device_thread before;
    enter(&before, device);
    void *base = take(device, bytes);
    leave(&before);
    return base;
}

static void rows_give(void *base, uint32_t device) {
    (void)device;
    give(base);
}

static emb_status rows_copy(const emb_rows_copy *copy, uint32_t device, emb_error *error) {
    (void)device;
    if (fails()) return lost(error, "copying rows");
    for (uint64_t i = 0; i < copy->rows; i++)
        memcpy((char *)copy->to + i * copy->to_stride,
               (const char *)copy->from + i * copy->from_stride, copy->row_bytes);
    return EMB_OK;
}

/* ---- weights --------------------------------------------------------------------------------- */

static void put(void *to, const void *from, uint64_t bytes) {
    memcpy(to, from, bytes);
}

static void convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                    uint64_t rows, uint32_t cols) {
    (void)self;
    emb_cuda_pack_values(out, dtype, in, rows, cols, put);
}

static void linear_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                        const float *values) {
    convert(self, (char *)linear->packed + row0 * emb_dtype_row_bytes(linear->dtype, linear->cols),
            linear->dtype, values, rows, linear->cols);
}

static void pack_quantized(const emb_backend *self, emb_linear *linear, uint32_t row0,
                           const emb_quantized_rows *rows) {
    (void)self;
    emb_cuda_pack_rows(linear, row0, rows, put);
}

static emb_status layer_finish(const emb_backend *self, emb_layer *layer, uint32_t device,
                               emb_error *error) {
    (void)device;
    const emb_linear *l = &layer->ffn_in;
    const emb_cuda_device about = {.multiprocessors = 1, .capability = capability()};
    if (self->dtype != EMB_DTYPE_FP8) return EMB_OK;
    if (fails()) return lost(error, "bounding a matrix");
    emb_cuda_quantized matrix = emb_cuda_quantized_of(l);
    fake_kernels.quantized_bounds(l->bounds, &matrix, &about, NULL);
    return EMB_OK;
}

/* ---- the module ------------------------------------------------------------------------------ */

static const emb_device_calls device_calls = {
    .enter = enter,
    .leave = leave,
    .open = open_device,
    .uploaded = uploaded,
    .take = take,
    .give = give,
    .pin = pin,
    .unpin = unpin,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .tuned = emb_cuda_tuned,
    .tune = tune,
    .record = record,
    .recorded = recorded,
    .begin = begin,
    .finish = finish,
    .copier_open = copier_open,
    .copier_close = copier_close,
    .copy = copy,
    .lane_wait = lane_wait,
    .lane_mark = lane_mark,
    .event_finish = event_finish,
    .rows_take = rows_take,
    .rows_give = rows_give,
    .rows_copy = rows_copy,
};

#define BACKEND(numerics, dtype, gemm)                                                             \
    {EMB_CUDA_SIZES(numerics, dtype, gemm),                                                        \
     .device = &device_calls,                                                                      \
     .linear_pack = linear_pack,                                                                   \
     .linear_pack_quantized = pack_quantized,                                                      \
     .layer_finish = layer_finish,                                                                 \
     .convert = convert,                                                                           \
     EMB_CUDA_BLOCKS},
static const emb_backend backends[] = {EMB_CUDA_ROWS(BACKEND)};

static emb_status probe_library(emb_device_info *device, const emb_device_list *wanted,
                                emb_error *error) {
    const char *library = getenv("EMB_FAKE_CUBLASLT");
    if (!wanted || wanted->gemm != EMB_GEMM_CUBLASLT) return EMB_OK;
    if (!library) return emb_error_set(error, EMB_DEVICE, "fake device: no cuBLASLt (--gemm own)");
    device->cublaslt_bytes = strtoull(library, NULL, 10);
    return EMB_OK;
}

/* Of this process: EMB_FAKE_GROWTH is what its contexts have grown by once lanes were open. */
static uint64_t own_bytes(uint32_t device) {
    uint64_t own =
        bytes_of("EMB_FAKE_OWN") + __atomic_load_n(&region_bytes[device], __ATOMIC_RELAXED);
    if (contexts & 1u << device) own += CONTEXT_BYTES;
    if (lanes[device].most) own += bytes_of("EMB_FAKE_GROWTH");
    return own;
}

static uint64_t free_bytes(uint32_t device) {
    uint64_t gone = bytes_of("EMB_FAKE_OTHERS") + own_bytes(device);
    return gone < CARD_BYTES ? CARD_BYTES - gone : 0;
}

/* As torch's would, EMB_FAKE_OWN holds the context already. */
static emb_status probe_one(emb_device_info *out, uint32_t index) {
    bool has_context = bytes_of("EMB_FAKE_OWN") || (contexts & 1u << index);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "fake %u", index);
    snprintf(out->driver, sizeof out->driver, "1.0");
    out->index = index;
    out->compute_capability = capability();
    out->memory_bytes = CARD_BYTES;
    out->held_bytes = own_bytes(index);
    out->free_bytes = free_bytes(index);
    out->context_bytes = has_context ? 0 : CONTEXT_BYTES;
    out->grown = lanes[index].most > 0;
    out->grown_lanes = lanes[index].most - lanes[index].open;
    if (out->context_bytes > out->free_bytes) return EMB_NO_MEMORY;
    if (!bytes_of("EMB_FAKE_OWN")) contexts |= 1u << index;
    out->free_bytes = free_bytes(index);
    return EMB_OK;
}

static emb_status probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                        emb_error *error) {
    const char *number = getenv("EMB_FAKE_DEVICES");
    uint32_t present = number ? (uint32_t)strtoul(number, NULL, 10) : 1;
    *count = 0;
    if (fails()) return lost(error, "probe");
    uint32_t asked = wanted ? wanted->count : 0;
    for (uint32_t i = 0; i < (asked ? asked : present); i++) {
        uint32_t index = asked ? wanted->indices[i] : i;
        if (index >= present)
            return emb_error_set(error, EMB_DEVICE, "there is no fake device %u", index);
        emb_status status = probe_one(&devices[i], index);
        if (status != EMB_OK) return emb_error_set(error, status, "no room");
        *count = i + 1;
    }
    return probe_library(devices, wanted, error);
}

/* EMB_FAKE_BUILT names the only capability that this build is for. */
static bool supports(uint32_t compute_capability) {
    uint64_t built = bytes_of("EMB_FAKE_BUILT");
    return !built || built == compute_capability;
}

/* The loops know f32 and f16 activations, as of sm_80 and later. */
static const emb_backend *backend(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm) {
    if (compute_capability < 80 || dtype == EMB_DTYPE_BF16) return NULL;
    return emb_cuda_find(backends, sizeof backends / sizeof backends[0], compute_capability, dtype,
                         gemm);
}

static const emb_cuda_module module_table = {EMB_CUDA_ABI, 12000, supports, probe, backend, NULL};

__attribute__((visibility("default"))) const emb_cuda_module *emb_cuda_query(void);
const emb_cuda_module *emb_cuda_query(void) {
    return &module_table;
}
