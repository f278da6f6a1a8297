/* features.h - the features of a CPU that its operating system enables, as a set of
 * emb_cpu_feature.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_FEATURES_H
#define EMB_BACKEND_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embound.h"

/* Gives this CPU's features, restricted by EMB_CPU. Fails: EMB_INVALID_ARGUMENT (EMB_CPU names
 * something unknown, or absent here). */
emb_status emb_cpu_detect(uint32_t *features, emb_error *error);

#define EMB_CPU_FEATURES_TEXT 64 /* bytes that the names of all features take */

/* Writes the names separated by blanks, such as "avx2 avx512 vnni"; "none" for the empty set. */
void emb_cpu_features_write(char *text, size_t capacity, uint32_t features);

/* The inverse; false if a name is unknown. */
bool emb_cpu_features_read(uint32_t *features, const char *text);

#endif
