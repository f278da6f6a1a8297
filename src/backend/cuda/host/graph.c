/* graph.c - a lane's recordings: the forward for a bucket of tokens as one CUDA graph.
 *
 * Grids are sized by the bucket, lengths are read on the device, so one graph serves every tile
 * that fits it. Recorded at open; a replay launches what plain operations would.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/module.h"

void emb_cuda_record(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch) {
    emb_cuda_state *state = scratch->state;
    uint32_t chunks = emb_chunks_max(tokens, scratch->chunk_tokens_min);
    *tile = (emb_tile){.tokens = tokens, .chunks = chunks};
    emb_cuda_queue *queue = &state->queue;
    state->recording = tokens;
    queue->replayed = false;
    emb_cuda_note(queue, cudaSetDevice((int)state->index));
    /* only this thread's calls: other lanes may work meanwhile */
    emb_cuda_note(queue, cudaStreamBeginCapture(queue->stream, cudaStreamCaptureModeThreadLocal));
    emb_cuda_view v = emb_cuda_view_indices(scratch, tile);
    emb_cuda_note(queue, queue->launch->prepare(&v.batch, queue->stream));
}

emb_status emb_cuda_recorded(emb_lane_scratch *scratch, emb_error *error) {
    emb_cuda_state *state = scratch->state;
    emb_cuda_queue *queue = &state->queue;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    cudaError_t reason = cudaStreamEndCapture(queue->stream, &graph);
    if (reason == cudaSuccess) reason = (cudaError_t)queue->failure;
    if (reason == cudaSuccess) reason = cudaGraphInstantiate(&ready, graph, 0);
    /* now, not at the first launch, it allocates on the device */
    if (reason == cudaSuccess) reason = cudaGraphUpload(ready, queue->stream);
    if (reason == cudaSuccess) reason = cudaStreamSynchronize(queue->stream);
    if (graph) cudaGraphDestroy(graph);
    uint32_t tokens = state->recording;
    state->recording = 0;
    if (reason == cudaSuccess && state->graphs_count < EMB_BUCKETS_MAX) {
        state->graphs[state->graphs_count++] = (struct emb_cuda_recorded){tokens, ready};
        return EMB_OK;
    }
    if (ready) cudaGraphExecDestroy(ready);
    emb_cuda_lane_failed(error, state, "its work cannot be recorded", reason);
    queue->failure = 0; /* it was the recording's; a broken context fails the next call too */
    queue->blas_status = 0;
    cudaGetLastError();
    return EMB_DEVICE;
}

bool emb_cuda_replay(emb_cuda_state *state, uint32_t tokens) {
    const struct emb_cuda_recorded *best = NULL;
    for (uint32_t i = 0; i < state->graphs_count; i++) {
        const struct emb_cuda_recorded *at = &state->graphs[i];
        if (at->tokens >= tokens && (!best || at->tokens < best->tokens)) best = at;
    }
    state->queue.replayed = best != NULL;
    if (best) emb_cuda_note(&state->queue, cudaGraphLaunch(best->graph, state->queue.stream));
    return best != NULL;
}

void emb_cuda_forget(emb_cuda_state *state) {
    for (uint32_t i = 0; i < state->graphs_count; i++) cudaGraphExecDestroy(state->graphs[i].graph);
    state->graphs_count = 0;
}
