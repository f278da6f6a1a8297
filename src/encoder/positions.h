/* positions.h - the buckets that relative positions share numbers in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_POSITIONS_H
#define EMB_ENCODER_POSITIONS_H

#include <stdint.h>

/* The bucket of a distance (key - query): near distances have one each, far ones share on a log
 * scale up to distance_max (Raffel et al. 2020, T5; as MPNet uses them). Any thread. */
uint32_t emb_relative_bucket(int32_t distance, uint32_t buckets, uint32_t distance_max);

#endif
