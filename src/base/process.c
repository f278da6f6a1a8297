/* process.c - resident bytes, cores, caches and memory, read from the system without allocating.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Reads all of a small file (NUL-terminated); gives its length, 0 if it cannot be read. */
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

/* ---- files of lines, in constant memory ------------------------------------------------------ */

struct lines {
    int file;
    size_t start, length; /* of what is read and not yet returned */
    bool cut;             /* the line at `start` is the rest of one too long for the buffer */
    char text[2048];
};

static bool lines_open(struct lines *in, const char *path) {
    in->file = open(path, O_RDONLY | O_CLOEXEC);
    in->start = in->length = 0;
    in->cut = false;
    return in->file >= 0;
}

/* The next line without its line feed, valid until the next call; truncated if longer than the
 * buffer. NULL at the end. */
static const char *lines_next(struct lines *in) {
    for (;;) {
        char *line = in->text + in->start;
        char *end = memchr(line, '\n', in->length - in->start);
        if (end) {
            *end = '\0';
            in->start = (size_t)(end + 1 - in->text);
            bool rest = in->cut;
            in->cut = false;
            if (rest) continue;
            return line;
        }
        in->length -= in->start;
        memmove(in->text, line, in->length);
        in->start = 0;
        if (in->length == sizeof in->text - 1) {
            in->text[in->length] = '\0';
            in->length = 0;
            bool rest = in->cut;
            in->cut = true;
            if (rest) continue;
            return in->text;
        }
        ssize_t got = read(in->file, in->text + in->length, sizeof in->text - 1 - in->length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return NULL;
        in->length += (size_t)got;
    }
}

/* ---- residence ------------------------------------------------------------------------------- */

#define EXECUTABLES_AT_ONCE 256

struct file_id {
    uint64_t device, inode;
};

struct mapping {
    uint64_t start, end;
    struct file_id file;
    bool readable, executable;
};

/* False for mappings that cannot be a program's or library's: shared, anonymous, of a device. */
static bool parse_mapping(struct mapping *out, const char *line) {
    unsigned long long start, end, inode;
    unsigned major_number, minor_number;
    char rights[5];
    int path = 0;
    if (sscanf(line, "%llx-%llx %4s %*x %x:%x %llu %n", &start, &end, rights, &major_number,
               &minor_number, &inode, &path) != 6)
        return false;
    if (inode == 0 || rights[3] != 'p' || strncmp(line + path, "/dev/", 5) == 0) return false;
    out->start = start;
    out->end = end;
    out->file.device = (uint64_t)major_number << 32 | minor_number;
    out->file.inode = inode;
    out->readable = rights[0] == 'r';
    out->executable = rights[2] == 'x';
    return true;
}

/* Programs and libraries are the files that this process has mapped executable. Gives those after
 * the first `skip`; may contain duplicates. */
static size_t list_executables(struct file_id *out, size_t capacity, size_t skip) {
    struct lines maps;
    if (!lines_open(&maps, "/proc/self/maps")) return 0;
    size_t count = 0;
    const char *line;
    struct mapping mapping;
    while (count < capacity && (line = lines_next(&maps))) {
        if (!parse_mapping(&mapping, line) || !mapping.executable) continue;
        if (skip) {
            skip--;
        } else {
            out[count++] = mapping.file;
        }
    }
    close(maps.file);
    return count;
}

static bool is_listed(const struct file_id *files, size_t count, struct file_id file) {
    for (size_t i = 0; i < count; i++)
        if (files[i].device == file.device && files[i].inode == file.inode) return true;
    return false;
}

/* For kernels without MADV_POPULATE_READ. Reads through /proc/self/mem, so that a page that cannot
 * be read, as past a file's end, is an error and not a signal. */
static void populate_through_file(uint64_t start, uint64_t end, uint32_t page) {
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (memory < 0) return;
    char byte;
    for (uint64_t at = start; at < end; at += page)
        if (pread(memory, &byte, 1, (off_t)at) != 1) break;
    close(memory);
}

/* Tried on a stack page, so that EINVAL can only mean that the advice is unknown. */
static bool kernel_populates(uint32_t page) {
#ifdef MADV_POPULATE_READ
    char own = 0;
    void *at = (void *)((uintptr_t)&own & ~(uintptr_t)(page - 1));
    return madvise(at, page, MADV_POPULATE_READ) == 0 || errno != EINVAL;
#else
    (void)page;
    return false;
#endif
}

static void populate_files(const struct file_id *files, size_t count, uint32_t page) {
    struct lines maps;
    if (!lines_open(&maps, "/proc/self/maps")) return;
    bool advise = kernel_populates(page);
    const char *line;
    struct mapping mapping;
    while ((line = lines_next(&maps))) {
        if (!parse_mapping(&mapping, line) || !mapping.readable) continue;
        if (!is_listed(files, count, mapping.file)) continue;
#ifdef MADV_POPULATE_READ
        if (advise)
            madvise((void *)(uintptr_t)mapping.start, (size_t)(mapping.end - mapping.start),
                    MADV_POPULATE_READ);
#endif
        if (!advise) populate_through_file(mapping.start, mapping.end, page);
    }
    close(maps.file);
}

/* Address sanitizer reports writes to the stack below the frame. */
#if defined(__SANITIZE_ADDRESS__)
#define EMB_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMB_HAS_ASAN 1
#endif
#endif

#ifndef EMB_HAS_ASAN
/* The lowest address of the calling thread's stack that may be touched; UINTPTR_MAX if unknown. */
static uintptr_t stack_floor(uintptr_t frame, uint32_t page) {
    pthread_attr_t attributes;
    void *low;
    size_t size, guard;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return UINTPTR_MAX;
    bool known = pthread_attr_getstack(&attributes, &low, &size) == 0 &&
                 pthread_attr_getguardsize(&attributes, &guard) == 0;
    pthread_attr_destroy(&attributes);
    /* a frame elsewhere is on a coroutine's stack or a signal stack */
    if (!known || frame < (uintptr_t)low || frame - (uintptr_t)low >= size) return UINTPTR_MAX;
    return (uintptr_t)low + guard + page;
}

static void populate_stack(uint64_t bytes, uint32_t page) {
    volatile char here = 0;
    uintptr_t frame = (uintptr_t)&here, floor = stack_floor(frame, page);
    /* the kernel grows the stack as pages are touched in order; their contents are preserved */
    for (uint64_t depth = page; depth < bytes && frame > depth && frame - depth >= floor;
         depth += page) {
        volatile char *at = (volatile char *)(frame - depth);
        *at = *at;
    }
}
#endif

/* The file from which this code is mapped. */
static size_t own_file(struct file_id *out) {
    struct lines maps;
    if (!lines_open(&maps, "/proc/self/maps")) return 0;
    uint64_t here = (uint64_t)(uintptr_t)&own_file;
    const char *line;
    struct mapping mapping;
    size_t count = 0;
    while (!count && (line = lines_next(&maps)))
        if (parse_mapping(&mapping, line) && mapping.start <= here && here < mapping.end)
            out[count++] = mapping.file;
    close(maps.file);
    return count;
}

void emb_process_populate(uint64_t stack_bytes, bool own_alone) {
    uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
#ifndef EMB_HAS_ASAN
    populate_stack(stack_bytes, page);
#else
    (void)stack_bytes;
#endif
    struct file_id files[EXECUTABLES_AT_ONCE];
    if (own_alone) {
        populate_files(files, own_file(files), page);
        return;
    }
    for (size_t skip = 0;; skip += EXECUTABLES_AT_ONCE) {
        size_t count = list_executables(files, EXECUTABLES_AT_ONCE, skip);
        if (count) populate_files(files, count, page);
        if (count < EXECUTABLES_AT_ONCE) break;
    }
}

/* If the line has this key, its value. */
static void read_kib(uint64_t *out, const char *line, const char *key) {
    size_t length = strlen(key);
    if (strncmp(line, key, length) == 0) *out = strtoull(line + length, NULL, 10) << 10;
}

void emb_process_memory(uint64_t *bytes_now, uint64_t *bytes_peak) {
    *bytes_now = *bytes_peak = 0;
    struct lines status;
    if (!lines_open(&status, "/proc/self/status")) return;
    const char *line;
    while ((!*bytes_now || !*bytes_peak) && (line = lines_next(&status))) {
        read_kib(bytes_peak, line, "VmHWM:");
        read_kib(bytes_now, line, "VmRSS:");
    }
    close(status.file);
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

/* The lowest limit of a cgroup and its parents. If a container sees its path on the host, only the
 * root exists, and that is the container's own cgroup. */
static uint64_t least_limit(const char *root, const char *group, const char *file) {
    uint64_t least = UINT64_MAX;
    size_t length = strlen(group);
    for (;;) {
        char path[2200], text[32];
        while (length && group[length - 1] == '/') length--;
        int written = snprintf(path, sizeof path, "%s%.*s/%s", root, (int)length, group, file);
        if (written > 0 && (size_t)written < sizeof path && read_small(path, text, sizeof text) &&
            text[0] >= '0' && text[0] <= '9') {
            uint64_t limit = strtoull(text, NULL, 10);
            if (limit < least) least = limit;
        }
        if (!length) return least;
        while (length && group[length - 1] != '/') length--;
    }
}

/* Whether a list such as "a,b,c" names the controller. */
static bool has_controller(const char *list, size_t length, const char *name) {
    for (const char *end = list + length; list < end;) {
        size_t one = strcspn(list, ",:");
        if (one == strlen(name) && memcmp(list, name, one) == 0) return true;
        list += one + 1;
    }
    return false;
}

static uint64_t cgroup_bytes(void) {
    static const char root[] = "/sys/fs/cgroup", old_root[] = "/sys/fs/cgroup/memory";
    static const char limit[] = "memory.max", old_limit[] = "memory.limit_in_bytes";
    struct lines groups;
    if (!lines_open(&groups, "/proc/self/cgroup")) {
        uint64_t bytes = least_limit(root, "", limit), old = least_limit(old_root, "", old_limit);
        return old < bytes ? old : bytes;
    }
    uint64_t least = UINT64_MAX;
    const char *line;
    while ((line = lines_next(&groups))) { /* "4:memory:/path", in version 2 "0::/path" */
        const char *list = strchr(line, ':');
        const char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        list++;
        uint64_t bytes = UINT64_MAX;
        if (path == list) bytes = least_limit(root, path + 1, limit);
        if (has_controller(list, (size_t)(path - list), "memory"))
            bytes = least_limit(old_root, path + 1, old_limit);
        if (bytes < least) least = bytes;
    }
    close(groups.file);
    return least;
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
