/* interpose.h - how a test program steers the preloaded interposer of interpose.c.
 *
 * interpose_find gives false when it is not preloaded, and the test then says "skipped".
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_INTERPOSE_H
#define EMB_TESTS_INTERPOSE_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum interpose_class {
    INTERPOSE_MEMORY = 0, /* malloc and its family, mmap, pthread_create */
    INTERPOSE_FILES = 1,  /* open, read, write, fsync, rename, ... ; standard error is spared */
    INTERPOSE_CLASSES = 2
} interpose_class;

typedef enum interpose_mode {
    INTERPOSE_OFF = 0,
    INTERPOSE_ONCE = 1,        /* the n-th call fails */
    INTERPOSE_FOREVER = 2,     /* the n-th and all later calls of the class fail */
    INTERPOSE_INTERRUPTED = 3, /* the n-th call gives EINTR, once (reads and writes) */
    INTERPOSE_SHORT = 4        /* the n-th call moves one byte only (reads and writes) */
} interpose_mode;

/* Shared with the Python driver as a file of these seven 64-bit numbers. */
typedef struct interpose_state {
    uint64_t mode, fail_class, fail_at;
    uint64_t calls[INTERPOSE_CLASSES]; /* since armed */
    uint64_t failed;                   /* calls made to fail since armed */
    int64_t balance;                   /* blocks and mappings taken less given back */
} interpose_state;

/* Starts counting anew; mode OFF only counts. */
void interpose_arm(interpose_mode mode, interpose_class which, uint64_t at);
const interpose_state *interpose_look(void);

/* The same two in a test program, found at run time. */
typedef struct interpose_calls {
    void (*arm)(interpose_mode mode, interpose_class which, uint64_t at);
    const interpose_state *(*look)(void);
} interpose_calls;

/* Gives false if the interposer is not preloaded. */
static inline bool interpose_find(interpose_calls *out) {
    *(void **)&out->arm = dlsym(RTLD_DEFAULT, "interpose_arm");
    *(void **)&out->look = dlsym(RTLD_DEFAULT, "interpose_look");
    return out->arm && out->look;
}

#endif
