/* save.c - the trained model's directory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "embound_train.h"

emb_status emb_trainer_save(const emb_trainer *trainer, const char *directory, uint32_t overwrite,
                            emb_error *error) {
    (void)trainer, (void)directory, (void)overwrite;
    return emb_error_set(error, EMB_UNSUPPORTED, "not yet");
}
