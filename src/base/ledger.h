/* ledger.h - books every byte of a region under a name; the same layout code measures and binds.
 *
 * A layout function takes a ledger and calls emb_ledger_take for each of its buffers. With a base
 * of NULL it only counts; run again with the real base it hands out the addresses. So the estimate
 * cannot differ from the use.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_LEDGER_H
#define EMB_BASE_LEDGER_H

#include <stdbool.h>

#include "embound.h"

#define EMB_ALIGN 64 /* every buffer starts on a cache line */

typedef struct emb_ledger {
    unsigned char *base; /* NULL: measuring */
    uint64_t capacity;   /* of base */
    uint64_t bytes;      /* booked so far */
    bool foreign;        /* not host memory */
    bool overflow;    /* a size did not fit 64 bits, or the base was too small: a bug or refuse */
    uint32_t current; /* item under which takes are booked */
    uint32_t items_count;
    emb_item items[EMB_ITEMS_MAX];
} emb_ledger;

/* Measures if base is NULL, else binds. */
void emb_ledger_init(emb_ledger *ledger, void *base, uint64_t capacity);

/* The same for memory that the host cannot access (a device's): nothing is poisoned in it. */
void emb_ledger_init_foreign(emb_ledger *ledger, void *base, uint64_t capacity);

/* Books what follows under this name (an existing item of that name grows). */
void emb_ledger_item(emb_ledger *ledger, const char *name);

/* Books count * size bytes at EMB_ALIGN and gives their address (NULL while measuring). Sizes are
 * checked; on overflow the ledger is marked and the result is NULL. */
void *emb_ledger_take(emb_ledger *ledger, uint64_t count, uint64_t size);

/* Same, on a page boundary (thread stacks). */
void *emb_ledger_take_pages(emb_ledger *ledger, uint64_t bytes);

/* ---- arena: the one allocation of a region --------------------------------------------------- */

/* Takes `bytes` from the system in one piece, zeroed, every page resident. NULL if refused. */
void *emb_arena_open(uint64_t bytes);
void emb_arena_close(void *base, uint64_t bytes);

/* In sanitizer builds, marks a range of the arena as unusable, or usable again; else nothing. */
void emb_arena_poison(const void *start, uint64_t bytes);
void emb_arena_unpoison(const void *start, uint64_t bytes);

#endif
