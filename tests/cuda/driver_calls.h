/* driver_calls.h - what a program may ask of driver_calls.so when it runs under it; found by dlsym.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_DRIVER_CALLS_H
#define EMB_TESTS_DRIVER_CALLS_H

#include <stdint.h>

/* Calls from now on are counted as after the mark (on = 1) or before it (0). */
__attribute__((visibility("default"))) void driver_calls_mark(int on);

/* Calls of the index-th function before or after the mark, and its name; NULL past the last. */
__attribute__((visibility("default"))) uint64_t driver_calls_counted(const char **name,
                                                                     uint32_t index, int after);

#endif
