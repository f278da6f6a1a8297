/* batches.h - which examples make which step: an order for each epoch, cut into batches.
 *
 * The order follows from the seed and the epoch alone, so that it can be had again at any step.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_BATCHES_H
#define EMB_CLI_BATCHES_H

#include "cli/classes.h"
#include "source/examples.h"

typedef struct emb_batches {
    const emb_examples *examples;
    uint32_t size;  /* examples of a batch, at most */
    uint32_t least; /* and at least: what is left over and smaller is left out */
    uint32_t seed;
    bool shuffles;
    bool no_duplicates;   /* no text stands twice in a batch, but inside one example */
    emb_classes *classes; /* NULL, or in each batch an example stands beside one of its class */
    uint32_t epoch;       /* from 0 */
    uint32_t next;        /* place in the order: what stands before it is used up */
    uint32_t *order;      /* [examples->count] */
    uint32_t *rows;       /* [size] the batch */
    uint64_t *texts;      /* [table] hashes of the batch's texts; 0: free. no_duplicates alone */
    uint32_t table;       /* a power of 2, at least twice the texts of a batch */
} emb_batches;

/* Bytes of the three arrays, once examples, size and no_duplicates are set; binds them. What
 * classes has is bound apart. */
uint64_t emb_batches_bytes(emb_batches *batches);
void emb_batches_bind(emb_batches *batches, void *memory);

/* Batches of one epoch: so many there are without no_duplicates, which may need a few more. */
uint64_t emb_batches_per_epoch(const emb_batches *batches);

/* Goes to the beginning of an epoch. */
void emb_batches_begin(emb_batches *batches, uint32_t epoch);

/* Fills rows with the next batch and gives its count, going on to the next epoch where one ends; 0:
 * no batch can be made of these examples. */
uint32_t emb_batches_next(emb_batches *batches);

#endif
