/* parts.h - tests of the kernels under the blocks: see parts.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_KERNELS_PARTS_H
#define EMB_TESTS_KERNELS_PARTS_H

#include "backend/cpu/cpu.h"

/* The kernels of a row of the registry. */
void parts_test(const emb_backend *backend);

/* The parts of quantized kernels: see dots.c. */
void dots_test(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype);

#endif
