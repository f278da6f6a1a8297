/* fake_kernels.h - the launchers of the device that fake_module.c plays: loops over a tile.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_CUDA_FAKE_KERNELS_H
#define EMB_TESTS_CUDA_FAKE_KERNELS_H

#include "backend/cuda/kernels/launch.h"
#include "fake_stream.h"

/* Their `stream` is what fake_enqueue takes; NULL: at once. */
extern const emb_cuda_launch fake_kernels;

/* fake_module.c's: runs the call, with a copy of its arguments, in the order of the stream, or
 * notes it while a recording is made. Gives 0, or what a launch fails with. */
int fake_enqueue(void *stream, fake_call run, const void *arguments, size_t bytes);

#endif
