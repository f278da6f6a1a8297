/* batch.c - batchstrategy.so: the server ends a batch where the parameter tokens_per_batch does.
 *
 * A hint that saves no memory: the engine cuts what it gets into tiles of its own.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "triton/config.h"
#include "triton/report.h"
#include "triton/request.h"

#define EXPORT __attribute__((visibility("default")))

enum { SPECIALS = 2 }; /* tokens around a text, in most models */

/* What the server calls a batcher: the tokens that a batch may have. */
struct TRITONBACKEND_Batcher {
    uint64_t tokens_max;
};

typedef struct batch {
    uint64_t tokens, tokens_max;
} batch;

EXPORT emb_triton_error TRITONBACKEND_ModelBatcherInitialize(TRITONBACKEND_Batcher **batcher,
                                                             TRITONBACKEND_Model *model) {
    emb_triton_config config;
    EMB_TRITON_TRY(emb_triton_config_get(&config, model));
    *batcher = malloc(sizeof **batcher);
    if (!*batcher)
        return emb_triton_fail(TRITONSERVER_ERROR_UNAVAILABLE, "the system refused memory");
    (*batcher)->tokens_max = config.tokens_per_batch;
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelBatcherFinalize(TRITONBACKEND_Batcher *batcher) {
    free(batcher);
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelBatchInitialize(const TRITONBACKEND_Batcher *batcher,
                                                           void **user) {
    batch *made = malloc(sizeof *made);
    if (!made) return emb_triton_fail(TRITONSERVER_ERROR_UNAVAILABLE, "the system refused memory");
    *made = (batch){0, batcher->tokens_max};
    *user = made;
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelBatchIncludeRequest(TRITONBACKEND_Request *request,
                                                               void *user, bool *should_include) {
    batch *b = user;
    uint64_t tokens = emb_triton_request_tokens(request, SPECIALS);
    /* a request larger than a batch is one by itself */
    *should_include = b->tokens == 0 || b->tokens + tokens <= b->tokens_max;
    if (*should_include) b->tokens += tokens;
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelBatchFinalize(void *user) {
    free(user);
    return NULL;
}
