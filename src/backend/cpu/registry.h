/* registry.h - every set of CPU kernels that this build has, one row each.
 *
 * Selection, tests and benchmarks read it: kernels are registered only here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_REGISTRY_H
#define EMB_BACKEND_CPU_REGISTRY_H

#include "backend/backend.h"

typedef struct emb_cpu_row {
    uint32_t needs;      /* set of emb_cpu_feature */
    emb_backend backend; /* `own` is an emb_cpu_kernels */
} emb_cpu_row;

/* Within a dtype the fastest come first. Rows with the same `numerics` give the same bits and need
 * the same memory. */
extern const emb_cpu_row emb_cpu_rows[];
extern const uint32_t emb_cpu_rows_count;

#endif
