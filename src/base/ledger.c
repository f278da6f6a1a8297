/* ledger.c - counts or hands out the bytes of one region, and takes that region from the system.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMB_ASAN 1
#endif
#endif
#ifdef EMB_ASAN
#include <sanitizer/asan_interface.h>
/* a gap after each buffer, so that an overrun hits poisoned memory */
#define EMB_GAP EMB_ALIGN
#else
#define EMB_GAP 0
#endif

void emb_ledger_init(emb_ledger *ledger, void *base, uint64_t capacity) {
    memset(ledger, 0, sizeof *ledger);
    ledger->base = base;
    ledger->capacity = capacity;
    if (base) emb_arena_poison(base, capacity);
}

void emb_ledger_init_foreign(emb_ledger *ledger, void *base, uint64_t capacity) {
    emb_ledger_init(ledger, NULL, capacity);
    ledger->base = base;
    ledger->foreign = true;
}

void emb_ledger_item(emb_ledger *ledger, const char *name) {
    for (uint32_t i = 0; i < ledger->items_count; i++) {
        if (strcmp(ledger->items[i].name, name) == 0) {
            ledger->current = i;
            return;
        }
    }
    if (ledger->items_count == EMB_ITEMS_MAX) {
        ledger->overflow = true;
        return;
    }
    ledger->current = ledger->items_count++;
    emb_item *item = &ledger->items[ledger->current];
    snprintf(item->name, sizeof item->name, "%s", name);
    item->bytes = 0;
}

static void *take(emb_ledger *ledger, uint64_t bytes, uint64_t align) {
    uint64_t start, rounded, end;
    if (__builtin_add_overflow(ledger->bytes, align - 1, &start) ||
        __builtin_add_overflow(bytes, (uint64_t)EMB_ALIGN - 1 + EMB_GAP, &rounded) ||
        __builtin_add_overflow(start & ~(align - 1), rounded & ~(uint64_t)(EMB_ALIGN - 1), &end)) {
        ledger->overflow = true;
        return NULL;
    }
    start &= ~(align - 1);
    if (ledger->items_count == 0) emb_ledger_item(ledger, "other");
    ledger->items[ledger->current].bytes += end - ledger->bytes;
    ledger->bytes = end;
    if (!ledger->base) return NULL;
    if (end > ledger->capacity) {
        ledger->overflow = true;
        return NULL;
    }
    if (!ledger->foreign) emb_arena_unpoison(ledger->base + start, bytes);
    return ledger->base + start;
}

void *emb_ledger_take(emb_ledger *ledger, uint64_t count, uint64_t size) {
    uint64_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        ledger->overflow = true;
        return NULL;
    }
    return take(ledger, bytes, EMB_ALIGN);
}

void *emb_ledger_take_pages(emb_ledger *ledger, uint64_t bytes) {
    return take(ledger, bytes, (uint64_t)sysconf(_SC_PAGESIZE));
}

/* Uses huge pages for those that are entirely inside the region: weights are read sequentially, and
 * small pages cost TLB misses and cache conflicts, which vary from run to run. Not at its ends:
 * there they would round the region up beyond the plan. */
static void prefer_huge_pages(void *base, uint64_t bytes) {
    const uintptr_t huge = 2u << 20, start = (uintptr_t)base;
    uintptr_t first = (start + huge - 1) / huge * huge, end = (start + bytes) / huge * huge;
    madvise(base, (size_t)bytes, MADV_NOHUGEPAGE);
    if (first < end) madvise((void *)first, end - first, MADV_HUGEPAGE);
}

void *emb_arena_open(uint64_t bytes) {
    if (bytes == 0 || bytes > SIZE_MAX) return NULL;
    void *base =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    prefer_huge_pages(base, bytes);
    /* all pages become resident here, so that the process cannot grow later */
#ifdef MADV_POPULATE_WRITE
    if (madvise(base, (size_t)bytes, MADV_POPULATE_WRITE) == 0) return base;
    if (errno != EINVAL) { /* EINVAL: the kernel does not know it. Anything else: no memory. */
        munmap(base, (size_t)bytes);
        return NULL;
    }
#endif
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (uint64_t i = 0; i < bytes; i += page) ((volatile unsigned char *)base)[i] = 0;
    return base;
}

void emb_arena_close(void *base, uint64_t bytes) {
    if (!base) return;
    emb_arena_unpoison(base, bytes);
    munmap(base, (size_t)bytes);
}

void emb_arena_poison(const void *start, uint64_t bytes) {
#ifdef EMB_ASAN
    ASAN_POISON_MEMORY_REGION(start, bytes);
#else
    (void)start, (void)bytes;
#endif
}

void emb_arena_unpoison(const void *start, uint64_t bytes) {
#ifdef EMB_ASAN
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
#else
    (void)start, (void)bytes;
#endif
}
