/* train_place.h - the names of a training's output and checkpoint, held while the work goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_TRAIN_PLACE_H
#define EMB_CLI_TRAIN_PLACE_H

#include <stdbool.h>

#include "embound.h"

typedef struct emb_train_place {
    const char *path;
    int descriptor; /* of the locked directory or file; -1: none is held */
    bool is_file;
    bool made; /* it is ours, and empty unless a model or checkpoint was written */
} emb_train_place;

/* Makes the directory unless it is there, and locks it against another training. What is no
 * directory is left to those who write.
 * Fails: EMB_TIMEOUT (another one holds it), EMB_IO. */
emb_status emb_train_place_take(emb_train_place *place, const char *path, emb_error *error);

/* A model was written there, and took the locked directory's place: holds the new one. */
void emb_train_place_renew(emb_train_place *place);

/* The same for a file, empty if it is made here; errors but the lock are left to those who write.
 * Fails: EMB_TIMEOUT. */
emb_status emb_train_place_take_file(emb_train_place *place, const char *path, emb_error *error);

/* Holds what has the file's name now: before a checkpoint is written, which takes the locked
 * file's place, and after it. Fails: EMB_TIMEOUT (another one has taken it in between). */
emb_status emb_train_place_keep_file(emb_train_place *place, emb_error *error);

/* Whether the held file has no byte: nothing was stored yet. */
bool emb_train_place_is_empty(const emb_train_place *place);

/* Lets go, and removes the directory or file if nothing was written. */
void emb_train_place_release(emb_train_place *place);

#endif
