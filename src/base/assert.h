/* assert.h - what must hold if this program is right, whatever its inputs are.
 *
 * Stands where a value picks from a table and where state changes hands: once a window, a tile or a
 * text, so that release builds keep it too. A debug build says where it broke; a release build ends
 * at the instruction, sooner than it would give wrong vectors or write past a buffer.
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
