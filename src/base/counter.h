/* counter.h - a count that one thread at a time adds to while any thread reads it, without a lock.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_COUNTER_H
#define EMB_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct emb_counter {
    _Atomic uint64_t value;
} emb_counter;

/* Threads: one at a time, the owner or under the owner's lock, so it needs no atomic addition.
 */
static inline void emb_counter_add(emb_counter *counter, uint64_t amount) {
    uint64_t value = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, value + amount, memory_order_relaxed);
}

/* Threads: any. */
static inline uint64_t emb_counter_read(const emb_counter *counter) {
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

#endif
