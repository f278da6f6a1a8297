/* driver_calls.c - counts and fails calls of the CUDA driver, from a statically linked runtime too.
 *
 *   LD_PRELOAD=driver_calls.so DRIVER_CALLS=REPORT DRIVER_FAIL=N [DRIVER_CODE=C] program
 *
 * Every runtime finds the driver by dlsym and cuGetProcAddress; both are answered with a stub that
 * counts and then jumps to the driver, arguments untouched. The N-th call gives an error instead.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "driver_calls.h"

#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUBS 1024 /* functions; the driver has about 700 */
#define ORDER 65536

typedef struct stub {
    void *real;
    char name[64];
    uint64_t calls[2]; /* before and after the mark */
} stub;

typedef int (*get_v1)(const char *, void **, int, uint64_t);
typedef int (*get_v2)(const char *, void **, int, uint64_t, int *);
typedef void *(*dlsym_call)(void *, const char *);

static stub stubs[STUBS];
static uint16_t order[ORDER]; /* stubs of the first calls */
static int stubs_used, stubs_lock, marked;
static uint64_t total, fail_at;
static int fail_code; /* 0: by the name of the call */
static dlsym_call real_dlsym;
static void *real_get_v1, *real_get_v2;

/* ---- stubs ----------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Stub i pushes i and goes to the common part, which keeps every argument register, asks
 * driver_calls_enter, and then jumps to the driver or gives the error. */
__asm__(".text\n"
        ".p2align 4\n"
        "driver_calls_stubs:\n"
        ".set number, 0\n"
        ".rept 1024\n"
        ".p2align 4\n"
        "pushq $number\n"
        "jmp driver_calls_common\n"
        ".set number, number + 1\n"
        ".endr\n"
        ".p2align 4\n"
        "driver_calls_common:\n"
        "pushq %rdi\n pushq %rsi\n pushq %rdx\n pushq %rcx\n pushq %r8\n pushq %r9\n pushq %rax\n"
        "subq $136, %rsp\n" /* the stack is aligned at the call */
        "movups %xmm0, (%rsp)\n movups %xmm1, 16(%rsp)\n movups %xmm2, 32(%rsp)\n"
        "movups %xmm3, 48(%rsp)\n movups %xmm4, 64(%rsp)\n movups %xmm5, 80(%rsp)\n"
        "movups %xmm6, 96(%rsp)\n movups %xmm7, 112(%rsp)\n"
        "movq 192(%rsp), %rdi\n"
        "call driver_calls_enter\n"
        "movq %rax, %r11\n movq %rdx, %r10\n"
        "movups (%rsp), %xmm0\n movups 16(%rsp), %xmm1\n movups 32(%rsp), %xmm2\n"
        "movups 48(%rsp), %xmm3\n movups 64(%rsp), %xmm4\n movups 80(%rsp), %xmm5\n"
        "movups 96(%rsp), %xmm6\n movups 112(%rsp), %xmm7\n"
        "addq $136, %rsp\n"
        "popq %rax\n popq %r9\n popq %r8\n popq %rcx\n popq %rdx\n popq %rsi\n popq %rdi\n"
        "addq $8, %rsp\n"
        "testq %r11, %r11\n"
        "jz 1f\n"
        "jmp *%r11\n"
        "1: movl %r10d, %eax\n"
        "ret\n");
extern const char driver_calls_stubs[];
#define STUB_AT(i) ((void *)(uintptr_t)(driver_calls_stubs + 16 * (size_t)(i)))
#else
#define STUB_AT(i) (stubs[i].real) /* counted on x86-64 alone */
#endif

typedef struct answer {
    void *real; /* NULL: give `code` instead */
    uint64_t code;
} answer;

__attribute__((visibility("hidden"))) answer driver_calls_enter(uint64_t index);

static void tell_failed(uint64_t call, const char *name, int code) {
    const char *path = getenv("DRIVER_CALLS");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (file < 0) return;
    char line[160];
    int length = snprintf(line, sizeof line, "{\"failed\": \"%s\", \"call\": %llu, \"code\": %d}\n",
                          name, (unsigned long long)call, code);
    if (write(file, line, (size_t)length) != length) _exit(70);
    close(file);
}

/* Out of memory where memory is asked for, else an unknown error. */
static int code_of(const char *name) {
    if (fail_code) return fail_code;
    return strstr(name, "Alloc") || strstr(name, "Register") ? 2 : 999;
}

__attribute__((visibility("hidden"))) answer driver_calls_enter(uint64_t index) {
    stub *s = &stubs[index];
    uint64_t call = __atomic_add_fetch(&total, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&s->calls[__atomic_load_n(&marked, __ATOMIC_RELAXED)], 1, __ATOMIC_RELAXED);
    if (call <= ORDER) order[call - 1] = (uint16_t)index;
    if (call != fail_at) return (answer){s->real, 0};
    tell_failed(call, s->name, code_of(s->name));
    return (answer){NULL, (uint64_t)code_of(s->name)};
}

/* The stub of a function; the function itself once there are too many. */
static void *stub_of(const char *name, void *real) {
    while (__atomic_exchange_n(&stubs_lock, 1, __ATOMIC_ACQUIRE)) {
    }
    int i = 0;
    while (i < stubs_used && stubs[i].real != real) i++;
    if (i == stubs_used && i < STUBS) {
        stubs[i].real = real;
        snprintf(stubs[i].name, sizeof stubs[i].name, "%s", name);
        stubs_used++;
    }
    __atomic_store_n(&stubs_lock, 0, __ATOMIC_RELEASE);
    return i < STUBS ? STUB_AT(i) : real;
}

/* ---- where runtimes look --------------------------------------------------------------------- */

static int get_address_v1(const char *name, void **out, int version, uint64_t flags);
static int get_address_v2(const char *name, void **out, int version, uint64_t flags, int *found);

static void *wrapped(const char *name, void *real, int version) {
    if (strcmp(name, "cuGetProcAddress_v2") == 0 ||
        (strcmp(name, "cuGetProcAddress") == 0 && version >= 12000)) {
        real_get_v2 = real;
        return (void *)(uintptr_t)get_address_v2;
    }
    if (strcmp(name, "cuGetProcAddress") == 0) {
        real_get_v1 = real;
        return (void *)(uintptr_t)get_address_v1;
    }
    return stub_of(name, real);
}

static int get_address_v1(const char *name, void **out, int version, uint64_t flags) {
    int code = ((get_v1)(uintptr_t)real_get_v1)(name, out, version, flags);
    if (code == 0 && out && *out) *out = wrapped(name, *out, version);
    return code;
}

static int get_address_v2(const char *name, void **out, int version, uint64_t flags, int *found) {
    int code = ((get_v2)(uintptr_t)real_get_v2)(name, out, version, flags, found);
    if (code == 0 && out && *out) *out = wrapped(name, *out, version);
    return code;
}

/* Whether an address is the driver's: a function of that name may stand elsewhere too. */
static bool is_driver(void *address) {
    Dl_info about;
    return dladdr(address, &about) && about.dli_fname && strstr(about.dli_fname, "libcuda.so");
}

__attribute__((visibility("default"))) void *dlsym(void *library, const char *name) {
    if (!real_dlsym) {
        void *found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
        if (!found) found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
        *(void **)&real_dlsym = found;
    }
    void *found = real_dlsym(library, name);
    bool candidate = found && name[0] == 'c' && name[1] == 'u' && isupper((unsigned char)name[2]);
    return candidate && is_driver(found) ? wrapped(name, found, 0) : found;
}

/* ---- counts ---------------------------------------------------------------------------------- */

void driver_calls_mark(int on) {
    __atomic_store_n(&marked, on ? 1 : 0, __ATOMIC_RELAXED);
}

uint64_t driver_calls_counted(const char **name, uint32_t index, int after) {
    if (index >= (uint32_t)stubs_used) {
        *name = NULL;
        return 0;
    }
    *name = stubs[index].name;
    return stubs[index].calls[after ? 1 : 0];
}

__attribute__((constructor)) static void begin(void) {
    const char *fail = getenv("DRIVER_FAIL"), *code = getenv("DRIVER_CODE");
    fail_at = fail ? strtoull(fail, NULL, 10) : 0;
    fail_code = code ? (int)strtol(code, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("DRIVER_CALLS");
    FILE *file = path && total ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "{\"calls\": %llu, \"functions\": {", (unsigned long long)total);
    const char *comma = "";
    for (int i = 0; i < stubs_used; i++) {
        if (!(stubs[i].calls[0] + stubs[i].calls[1])) continue;
        fprintf(file, "%s\"%s#%d\": [%llu, %llu]", comma, stubs[i].name, i,
                (unsigned long long)stubs[i].calls[0], (unsigned long long)stubs[i].calls[1]);
        comma = ", ";
    }
    fprintf(file, "}, \"order\": [");
    for (uint64_t i = 0; i < total && i < ORDER; i++)
        fprintf(file, "%s%u", i ? "," : "", (unsigned)order[i]);
    fprintf(file, "]}\n");
    fclose(file);
}
