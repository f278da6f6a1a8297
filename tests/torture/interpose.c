/* interpose.c - preloaded into a program: counts its calls for memory and files, and makes the n-th
 * fail.
 *
 * Steered through interpose.h from inside, or from outside by a file of interpose_state that
 * EMB_INTERPOSE names (mapped shared, so that the counts survive a crash). Uses raw system calls,
 * so that it never counts itself.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "torture/interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

/* This is a test tool: unlike the library it has to keep global state. */
static interpose_state own_state;
static interpose_state *state = &own_state;

typedef enum verdict { GO_ON, FAIL, INTERRUPT, SHORTEN } verdict;

static verdict judge(interpose_class which, bool partial) {
    uint64_t number = __atomic_add_fetch(&state->calls[which], 1, __ATOMIC_SEQ_CST);
    uint64_t mode = state->mode;
    if (mode == INTERPOSE_OFF || which != state->fail_class) return GO_ON;
    if (mode == INTERPOSE_FOREVER ? number < state->fail_at : number != state->fail_at)
        return GO_ON;
    if (mode >= INTERPOSE_INTERRUPTED && !partial) return GO_ON;
    __atomic_add_fetch(&state->failed, 1, __ATOMIC_SEQ_CST);
    if (mode == INTERPOSE_INTERRUPTED) return INTERRUPT;
    return mode == INTERPOSE_SHORT ? SHORTEN : FAIL;
}

static void take(void) {
    __atomic_add_fetch(&state->balance, 1, __ATOMIC_SEQ_CST);
}
static void give(void) {
    __atomic_add_fetch(&state->balance, -1, __ATOMIC_SEQ_CST);
}

void interpose_arm(interpose_mode mode, interpose_class which, uint64_t at) {
    state->mode = INTERPOSE_OFF;
    state->calls[INTERPOSE_MEMORY] = state->calls[INTERPOSE_FILES] = 0;
    state->failed = 0;
    state->fail_class = which;
    state->fail_at = at;
    __atomic_store_n(&state->mode, (uint64_t)mode, __ATOMIC_SEQ_CST);
}

const interpose_state *interpose_look(void) {
    return state;
}

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("EMB_INTERPOSE");
    if (!path) return;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0) return;
    long mapped =
        syscall(SYS_mmap, NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0L);
    syscall(SYS_close, descriptor);
    if (mapped > 0 || mapped < -4095) state = (interpose_state *)mapped;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool memory_fails(void) {
    if (judge(INTERPOSE_MEMORY, false) == GO_ON) return false;
    errno = ENOMEM;
    return true;
}

static void *taken(void *block) {
    if (block) take();
    return block;
}

void *malloc(size_t bytes) {
    return memory_fails() ? NULL : taken(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes) {
    return memory_fails() ? NULL : taken(__libc_calloc(count, bytes));
}

void *realloc(void *block, size_t bytes) {
    if (memory_fails()) return NULL;
    void *moved = __libc_realloc(block, bytes);
    if (!block && moved) take();
    if (block && !moved && bytes == 0) give();
    return moved;
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return memory_fails() ? NULL : taken(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (memory_fails()) return ENOMEM;
    *out = taken(__libc_memalign(alignment, bytes));
    return *out ? 0 : ENOMEM;
}

void free(void *block) {
    if (block) give();
    __libc_free(block);
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    if (memory_fails()) return MAP_FAILED;
    long mapped = syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
    if (mapped != -1) take();
    return (void *)mapped;
}

int munmap(void *address, size_t length) {
    int result = (int)syscall(SYS_munmap, address, length);
    if (result == 0) give();
    return result;
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                   void *(*start)(void *), void *restrict user) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    if (judge(INTERPOSE_MEMORY, false) != GO_ON) return EAGAIN;
    return next(thread, attributes, start, user);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Gives true if the call has to fail with the errno set here; shortens *length where asked. */
static bool file_fails(int descriptor, size_t *length, int code) {
    if (descriptor == STDERR_FILENO) return false;
    verdict found = judge(INTERPOSE_FILES, length && *length > 0);
    if (found == SHORTEN) *length = 1;
    if (found == GO_ON || found == SHORTEN) return false;
    errno = found == INTERRUPT ? EINTR : code;
    return true;
}

ssize_t read(int descriptor, void *buffer, size_t length) {
    if (file_fails(descriptor, &length, EIO)) return -1;
    return syscall(SYS_read, descriptor, buffer, length);
}

ssize_t pread(int descriptor, void *buffer, size_t length, off_t offset) {
    if (file_fails(descriptor, &length, EIO)) return -1;
    return syscall(SYS_pread64, descriptor, buffer, length, offset);
}

ssize_t write(int descriptor, const void *buffer, size_t length) {
    if (file_fails(descriptor, &length, ENOSPC)) return -1;
    return syscall(SYS_write, descriptor, buffer, length);
}

ssize_t pwrite(int descriptor, const void *buffer, size_t length, off_t offset) {
    if (file_fails(descriptor, &length, ENOSPC)) return -1;
    return syscall(SYS_pwrite64, descriptor, buffer, length, offset);
}

static int open_mode(int flags, va_list *rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(*rest, int) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = open_mode(flags, &rest);
    va_end(rest);
    if (file_fails(-1, NULL, EMFILE)) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = open_mode(flags, &rest);
    va_end(rest);
    if (file_fails(-1, NULL, EMFILE)) return -1;
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

int fsync(int descriptor) {
    return file_fails(descriptor, NULL, EIO) ? -1 : (int)syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor) {
    return file_fails(descriptor, NULL, EIO) ? -1 : (int)syscall(SYS_fdatasync, descriptor);
}

int ftruncate(int descriptor, off_t length) {
    return file_fails(descriptor, NULL, ENOSPC) ? -1
                                                : (int)syscall(SYS_ftruncate, descriptor, length);
}

int rename(const char *from, const char *to) {
    return file_fails(-1, NULL, EACCES) ? -1 : (int)syscall(SYS_rename, from, to);
}

void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
ssize_t pread64(int, void *, size_t, off_t) __attribute__((alias("pread")));
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));
