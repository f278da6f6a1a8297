/* names.c - the names of what a plan chooses: poolings, rungs of the ladder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "embound.h"

#define COUNT(names) (sizeof(names) / sizeof(names)[0])

const char *emb_pooling_name(emb_pooling pooling) {
    static const char *const names[] = {"model", "mean", "cls", "max"};
    return (size_t)pooling < COUNT(names) ? names[pooling] : "unknown";
}

const char *emb_rung_name(emb_rung rung) {
    switch (rung) {
    case EMB_RUNG_FULL:
        return "full";
    case EMB_RUNG_FEWER:
        return "fewer tokens";
    case EMB_RUNG_GATHER:
        return "embeddings from file";
    case EMB_RUNG_STREAM:
        return "layers streamed";
    case EMB_RUNG_PINNED_EMBEDDINGS:
        return "embeddings in pinned memory";
    case EMB_RUNG_PINNED_LAYERS:
        return "layers from pinned memory";
    }
    return "unknown";
}
