/* directory.h - a model's directory anew: built beside its place and moved there when it is whole,
 * with the files that belong to the model beside its weights.
 *
 * Fed by what computes weights (quantizer, train) and by model (the files beside them). On failure
 * nothing is left.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PACKAGE_DIRECTORY_H
#define EMB_PACKAGE_DIRECTORY_H

#include "base/ledger.h"
#include "model/model.h"

#define EMB_DIRECTORY_PATH  1024
#define EMB_DIRECTORY_NAME  320
#define EMB_DIRECTORY_FILES 24 /* weights, marker, and what emb_model_companions visits */

/* Who writes: what stands in messages, and the file that shows a directory to be theirs. */
typedef struct emb_directory_maker {
    const char *name, *marker;
} emb_directory_maker;

typedef struct emb_directory {
    const emb_directory_maker *maker;
    const emb_model_files *files;
    bool overwrite;                      /* replace a directory with that marker */
    bool alone;                          /* without the model's other files */
    char (*written)[EMB_DIRECTORY_NAME]; /* [EMB_DIRECTORY_FILES] in the temporary folder */
    uint32_t written_count;
    char final[EMB_DIRECTORY_PATH], temporary[EMB_DIRECTORY_PATH];
} emb_directory;

/* Books the list of files. */
void emb_directory_layout(emb_directory *directory, emb_ledger *ledger);

/* Makes the temporary folder. maker, files and overwrite are set.
 * Fails: EMB_INVALID_ARGUMENT (something is at the place), EMB_IO. */
emb_status emb_directory_open(emb_directory *directory, const char *path, emb_error *error);

/* Makes a file in it, and the folders above it; path [EMB_DIRECTORY_PATH] gets where. The caller
 * finishes it. Fails: EMB_IO. */
emb_status emb_directory_create(emb_directory *directory, int *descriptor, char *path,
                                const char *name, emb_error *error);

/* Copies the files beside the weights, writes the marker's text, moves the folder to its place.
 * Fails: EMB_IO, EMB_BAD_FILE, EMB_INVALID_ARGUMENT (something has come to the place). */
emb_status emb_directory_commit(emb_directory *directory, const char *marker, emb_error *error);

/* Removes what was written, unless it was committed. */
void emb_directory_abort(emb_directory *directory);

/* ---- tree.c: folders ------------------------------------------------------------------------- */

void emb_tree_remove(const char *path);

/* Fails: EMB_NO_MEMORY, EMB_IO (it cannot be read). */
emb_status emb_tree_empty(const char *path, bool *empty, emb_error *error);

/* Removes what processes that are gone have left beside `path`: files and folders whose name goes
 * on with ".tmp-" and the number of the process. */
void emb_tree_clear(const char *path);

#endif
