/* wake.h - a descriptor that is readable while there is something to do: one side says so, others
 * poll it or wait here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_WAKE_H
#define EMB_BASE_WAKE_H

#include <stdbool.h>

typedef struct emb_wake {
    int descriptor; /* -1: not open */
    bool told;      /* what emb_wake_tell said last; guarded by the caller's lock */
} emb_wake;

/* Closed on exec. False, with errno, if the system gives no descriptor. */
bool emb_wake_open(emb_wake *wake);
void emb_wake_close(emb_wake *wake);

/* Makes the descriptor readable, or not any more; costs a system call only where that changes.
 * Threads: any, under one lock of the caller's. */
void emb_wake_tell(emb_wake *wake, bool ready);

/* Makes it readable until the next change to not readable: whoever tells that looks for the reason
 * of an interruption afterwards. Threads: any, without the lock; async-signal-safe. */
void emb_wake_interrupt(const emb_wake *wake);

/* Waits until it is readable, the time is over, or a signal came. HUGE_VAL: for ever.
 * Threads: any, without the lock. */
void emb_wake_wait(const emb_wake *wake, double seconds);

#endif
