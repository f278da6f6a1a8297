/* train_place.h - the name of a training's output, held while the work goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_TRAIN_PLACE_H
#define EMB_CLI_TRAIN_PLACE_H

#include <stdbool.h>

#include "embound.h"

typedef struct emb_train_place {
    const char *path;
    int descriptor; /* of the locked directory; -1: none is held */
    bool made;      /* it is ours, and empty unless a model was written */
} emb_train_place;

/* Makes the directory unless it is there, and locks it against another training. What is no
 * directory is left to those who write.
 * Fails: EMB_TIMEOUT (another one holds it), EMB_IO. */
emb_status emb_train_place_take(emb_train_place *place, const char *path, emb_error *error);

/* A model was written there, and took the locked directory's place: holds the new one. */
void emb_train_place_renew(emb_train_place *place);

/* Lets go, and removes the directory if nothing was written. */
void emb_train_place_release(emb_train_place *place);

#endif
