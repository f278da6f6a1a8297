/* train_place.h - the names of a training's output and checkpoint, held while the work goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_TRAIN_PLACE_H
#define EMB_CLI_TRAIN_PLACE_H

#include <stdbool.h>

#include "embound.h"

#define EMB_TRAIN_PLACE_NAME 4096

typedef struct emb_train_place {
    const char *path, *shown; /* what is locked; as the user stated it */
    int descriptor;           /* of the locked directory or file; -1: none is held */
    bool is_file;
    bool made;                       /* it is ours, and empty unless a model was written */
    char name[EMB_TRAIN_PLACE_NAME]; /* of a file */
} emb_train_place;

/* Makes the directory unless it is there, and locks it against another training. What is no
 * directory is left to those who write.
 * Fails: EMB_TIMEOUT (another one holds it), EMB_IO. */
emb_status emb_train_place_take(emb_train_place *place, const char *path, emb_error *error);

/* A model was written there, and took the locked directory's place: holds the new one. */
void emb_train_place_renew(emb_train_place *place);

/* Holds a checkpoint: locks an empty file FILE.lock, made unless it is there; errors but the lock
 * are left to those who write. Needs: the place stays where it is.
 * Fails: EMB_TIMEOUT (another one holds it). */
emb_status emb_train_place_take_file(emb_train_place *place, const char *path, emb_error *error);

/* Lets go, and removes the directory if nothing was written, or the empty file. */
void emb_train_place_release(emb_train_place *place);

#endif
