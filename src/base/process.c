/* process.c - resident bytes, cores, caches and memory, read from the system without allocating.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Reads a small file whole (NUL-terminated); gives its length, 0 if it cannot be read. */
static size_t read_small(const char *path, char *out, size_t capacity) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    size_t length = 0;
    while (length < capacity - 1) {
        ssize_t got = read(descriptor, out + length, capacity - 1 - length);
        if (got <= 0) break;
        length += (size_t)got;
    }
    close(descriptor);
    out[length] = '\0';
    return length;
}

/* Touches one mapping if it belongs to a file (the program or a library) and can be read. */
static void populate_mapping(const char *line, size_t page) {
    unsigned long long start, end, inode;
    char rights[5], device[16];
    if (sscanf(line, "%llx-%llx %4s %*x %15s %llu", &start, &end, rights, device, &inode) != 5)
        return;
    if (inode == 0 || rights[0] != 'r') return;
#ifdef MADV_POPULATE_READ
    if (madvise((void *)(uintptr_t)start, (size_t)(end - start), MADV_POPULATE_READ) == 0) return;
#endif
    for (unsigned long long at = start; at < end; at += page)
        (void)*(volatile const char *)(uintptr_t)at;
}

static void populate_stack(uint64_t bytes) {
    volatile char frame[4096];
    frame[0] = frame[4095] = 1;
    /* below this frame; the kernel grows the stack as the pages are touched in order */
    for (uint64_t depth = sizeof frame; depth < bytes; depth += sizeof frame)
        *((volatile char *)frame - depth) = 1;
}

/* The stack below the frame is not ours to write as far as a sanitizer knows. */
#if defined(__SANITIZE_ADDRESS__)
#define EMB_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMB_HAS_ASAN 1
#endif
#endif

void emb_process_populate(uint64_t stack_bytes) {
#ifndef EMB_HAS_ASAN
    populate_stack(stack_bytes);
#else
    (void)stack_bytes, (void)populate_stack;
#endif
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return;
    char buffer[2048];
    size_t length = 0;
    ssize_t got;
    while ((got = read(maps, buffer + length, sizeof buffer - 1 - length)) > 0) {
        length += (size_t)got;
        buffer[length] = '\0';
        char *line = buffer, *end;
        while ((end = strchr(line, '\n'))) {
            *end = '\0';
            populate_mapping(line, page);
            line = end + 1;
        }
        length -= (size_t)(line - buffer);
        memmove(buffer, line, length);
        if (length == sizeof buffer - 1) length = 0; /* a path longer than the buffer: skip it */
    }
    close(maps);
}

static uint64_t kib_after(const char *text, const char *key) {
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) << 10 : 0;
}

void emb_process_memory(uint64_t *bytes_now, uint64_t *bytes_peak) {
    char text[2048];
    *bytes_now = *bytes_peak = 0;
    if (!read_small("/proc/self/status", text, sizeof text)) return;
    *bytes_peak = kib_after(text, "VmHWM:");
    *bytes_now = kib_after(text, "VmRSS:");
}

double emb_process_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint64_t cache_bytes(int level) {
    for (int index = 0; index < 8; index++) {
        char path[96], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!read_small(path, text, sizeof text)) break;
        if (strtol(text, NULL, 10) != level) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (!read_small(path, text, sizeof text)) break;
        char *unit;
        uint64_t size = strtoull(text, &unit, 10);
        return *unit == 'M' ? size << 20 : *unit == 'K' ? size << 10 : size;
    }
    return 0;
}

static uint64_t cgroup_bytes(void) {
    char text[32];
    if (!read_small("/sys/fs/cgroup/memory.max", text, sizeof text) &&
        !read_small("/sys/fs/cgroup/memory/memory.limit_in_bytes", text, sizeof text))
        return UINT64_MAX;
    return text[0] == 'm' ? UINT64_MAX : strtoull(text, NULL, 10);
}

static void cpu_name(char *out, size_t capacity) {
    char text[2048];
    snprintf(out, capacity, "unknown");
    if (!read_small("/proc/cpuinfo", text, sizeof text)) return;
    const char *at = strstr(text, "model name");
    at = at ? strchr(at, ':') : NULL;
    if (!at) return;
    size_t length = strcspn(at + 1, "\n");
    snprintf(out, capacity, "%.*s", (int)(length > 1 ? length - 1 : 0), at + 2);
}

void emb_process_host(emb_machine *out) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    out->cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                     ? (uint32_t)CPU_COUNT(&allowed)
                     : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (out->cores == 0) out->cores = 1;
    out->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    out->cache_l2_bytes = cache_bytes(2);
    out->cache_l3_bytes = cache_bytes(3);
    out->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * out->page_bytes;
    uint64_t cgroup = cgroup_bytes();
    if (cgroup < out->memory_bytes) out->memory_bytes = cgroup;
    cpu_name(out->cpu_name, sizeof out->cpu_name);
}
