/* assert.h - invariants that hold for any input if the program is correct.
 *
 * Used where a value indexes a table and where state is handed over: once per window, tile or text,
 * so that release builds keep it too. A debug build says where it broke; a release build traps,
 * rather than give wrong vectors or write past a buffer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_ASSERT_H
#define EMB_BASE_ASSERT_H

#ifdef NDEBUG
#define EMB_ASSERT(holds)                                                                          \
    do {                                                                                           \
        if (!(holds)) __builtin_trap();                                                            \
    } while (0)
#else
#include <assert.h>
#define EMB_ASSERT(holds) assert(holds)
#endif

#endif
