/* classes.h - labelled examples by class, and orders of them in which each stands beside another of
 * its class.
 *
 * Feeds batches.c for losses that compare the texts of a class in a batch. The order follows from a
 * stream of random numbers alone.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_CLASSES_H
#define EMB_CLI_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

enum { EMB_CLASSES_TOGETHER = 3 }; /* examples that a batch must have room for, at most */

typedef struct emb_classes {
    uint32_t count;    /* examples */
    uint32_t classes;  /* that there are */
    uint32_t pairs;    /* of them, those with two examples at least */
    uint32_t *rows;    /* [count] examples, class by class */
    uint32_t *numbers; /* [count] an example's class, from 0 */
    uint32_t *firsts;  /* [count + 1] where in rows a class begins, and the last one ends */
    uint32_t *units;   /* [count] where in rows each unit begins: two or three of a class, or one
                          that is alone in its own */
    uint8_t *begins;   /* [count] of the order: 1 where a unit begins */
} emb_classes;

/* Bytes of the arrays, once count is set; binds them. */
uint64_t emb_classes_bytes(const emb_classes *classes);
void emb_classes_bind(emb_classes *classes, void *memory);

/* Tells the classes apart by the hashes of their labels [count]. */
void emb_classes_sort(emb_classes *classes, const uint64_t *hashes);

/* Fills order [count], and begins. */
void emb_classes_order(uint32_t *order, emb_classes *classes, uint64_t stream, bool shuffles);

/* Fisher and Yates's shuffle by the random numbers of a stream. */
void emb_shuffle(uint32_t *values, uint32_t count, uint64_t stream);

#endif
