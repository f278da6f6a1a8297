/* wake.h - a descriptor that is readable while there is something to do: one side sets it, others
 * poll it or wait here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_WAKE_H
#define EMB_BASE_WAKE_H

#include <stdbool.h>

typedef struct emb_wake {
    int descriptor; /* -1: not open */
    bool told;      /* the last state set by emb_wake_tell; guarded by the caller's lock */
} emb_wake;

/* Closed on exec. False, with errno, if the system gives no descriptor. */
bool emb_wake_open(emb_wake *wake);
void emb_wake_close(emb_wake *wake);

/* Makes the descriptor readable or not; costs a system call only if that changes.
 * Threads: any, under one lock of the caller's. */
void emb_wake_tell(emb_wake *wake, bool ready);

/* Makes it readable until it is next set to not readable: whoever does that must afterwards check
 * for an interruption. Threads: any, without the lock; async-signal-safe. */
void emb_wake_interrupt(const emb_wake *wake);

/* Waits until it is readable, the time is up, or a signal arrives. HUGE_VAL: no limit.
 * Threads: any, without the lock. */
void emb_wake_wait(const emb_wake *wake, double seconds);

#endif
