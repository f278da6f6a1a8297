/* test_process.c - what is read of the process and its host, what is made resident, stack guards.
 *
 * Stands in for open, madvise and mprotect, so that any /proc and any kernel can be shown.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/ledger.h"
#include "base/process.h"
#include "base/threads.h"

#define MIB (1u << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* ---- stand-ins ------------------------------------------------------------------------------- */

static const char *fake_root; /* paths below /proc/self and /sys/fs/cgroup are taken from here */
static bool old_kernel;       /* knows neither MADV_POPULATE_READ nor MADV_POPULATE_WRITE */
static bool no_mprotect;

int open(const char *path, int flags, ...) {
    char faked[512];
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    bool system = strncmp(path, "/proc/self/", 11) == 0 || strncmp(path, "/sys/fs/cgroup", 14) == 0;
    if (fake_root && system) {
        snprintf(faked, sizeof faked, "%s%s", fake_root, path);
        path = faked;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int madvise(void *start, size_t bytes, int advice) {
    if (old_kernel && (advice == 22 || advice == 23)) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, start, bytes, advice);
}

int mprotect(void *start, size_t bytes, int rights) {
    if (no_mprotect) {
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_mprotect, start, bytes, rights);
}

static char root[] = "/tmp/test_process.XXXXXX";

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static int real_again(void **state) {
    (void)state;
    fake_root = NULL;
    old_kernel = no_mprotect = false;
    return 0;
}

/* Writes a file below the fake root, with the folders it needs. */
static void fake_file(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        mkdir(full, 0700);
        *at = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* ---- /proc/self/status ----------------------------------------------------------------------- */

static void memory_is_found_behind_many_groups(void **state) {
    (void)state;
    static char text[32768];
    for (int groups = 0; groups < 2000; groups += 37) {
        size_t length = (size_t)snprintf(text, sizeof text, "Name:\tVmHWM: 1 kB\nGroups:\t");
        for (int i = 0; i < groups; i++)
            length += (size_t)snprintf(text + length, sizeof text - length, "%d ", 1000000 + i);
        snprintf(text + length, sizeof text - length,
                 "\nVmPeak:\t    9000 kB\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n");
        fake_file("/proc/self/status", text);
        fake_root = root;
        uint64_t now, peak;
        emb_process_memory(&now, &peak);
        fake_root = NULL;
        assert_int_equal(peak, 4 * MIB);
        assert_int_equal(now, 2 * MIB);
    }
}

static void no_proc_is_an_error_of_the_probe(void **state) {
    (void)state;
    emb_machine machine;
    emb_error error;
    uint64_t now, peak;
    fake_root = "/nowhere";
    emb_process_memory(&now, &peak);
    assert_true(now == 0 && peak == 0);
    assert_int_equal(emb_machine_probe(&machine, NULL, &error), EMB_IO);
    assert_non_null(strstr(error.message, "cannot read this process's memory from /proc"));
    fake_root = NULL;
    assert_int_equal(emb_machine_probe(&machine, NULL, &error), EMB_OK);
    assert_true(machine.process_base_bytes > 0);
}

/* ---- populate -------------------------------------------------------------------------------- */

/* A mapping of a file of `file_bytes` that nobody has touched yet; NULL if it may not execute. */
static unsigned char *map_file(size_t file_bytes, size_t bytes, int rights) {
    char path[64];
    snprintf(path, sizeof path, "%s/mapped", root);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0700);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)file_bytes), 0);
    void *at = mmap(NULL, bytes, rights, MAP_PRIVATE, file, 0);
    close(file);
    return at == MAP_FAILED ? NULL : at;
}

static uint64_t grown_by_populate(void) {
    uint64_t before, after, peak;
    emb_process_memory(&before, &peak);
    assert_true(before > 0);
    emb_process_populate(0, false);
    emb_process_memory(&after, &peak);
    return after > before ? after - before : 0;
}

static void only_executables_become_resident(void **state) {
    (void)state;
    emb_process_populate(256u << 10, false);
    for (int round = 0; round < 2; round++, old_kernel = true) {
        unsigned char *data = map_file(32 * MIB, 32 * MIB, PROT_READ);
        assert_non_null(data);
        assert_true(grown_by_populate() < 8 * MIB);
        munmap(data, 32 * MIB);
        unsigned char *code = map_file(32 * MIB, 32 * MIB, PROT_READ | PROT_EXEC);
        if (!code) skip(); /* a mount without exec */
        /* read-only segments of a library go with its code */
        assert_int_equal(syscall(SYS_mprotect, code, 16 * MIB, PROT_READ), 0);
        assert_true(grown_by_populate() > 30 * MIB);
        munmap(code, 32 * MIB);
    }
}

/* Inside an interpreter its other libraries are not ours to fill. */
static void own_file_alone_becomes_resident(void **state) {
    (void)state;
    unsigned char *code = map_file(32 * MIB, 32 * MIB, PROT_READ | PROT_EXEC);
    if (!code) skip();
    uint64_t before, after, peak;
    emb_process_memory(&before, &peak);
    emb_process_populate(0, true);
    emb_process_memory(&after, &peak);
    assert_true(after < before + 8 * MIB);
    munmap(code, 32 * MIB);
}

static void mappings_beyond_their_file_do_no_harm(void **state) {
    (void)state;
    for (int round = 0; round < 2; round++, old_kernel = true) {
        unsigned char *data = map_file(100, MIB, PROT_READ);
        assert_non_null(data);
        emb_process_populate(0, false);
        munmap(data, MIB);
        unsigned char *code = map_file(100, MIB, PROT_READ | PROT_EXEC);
        emb_process_populate(0, false);
        if (code) munmap(code, MIB);
    }
}

static void *populate_deeply(void *unused) {
    (void)unused;
    emb_process_populate(16 * MIB, false);
    return NULL;
}

static void small_stacks_are_filled_and_not_left(void **state) {
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = EMB_STACK_BYTES > 256u << 10 ? EMB_STACK_BYTES : 128u << 10;
    unsigned char *region =
        mmap(NULL, bytes + 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region != MAP_FAILED);
    madvise(region, bytes + 16 * page, MADV_NOHUGEPAGE);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstack(&attributes, region + 16 * page, bytes), 0);
    assert_int_equal(pthread_create(&thread, &attributes, populate_deeply, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    static unsigned char resident[1024];
    assert_int_equal(mincore(region, bytes + 16 * page, resident), 0);
    for (size_t i = 0; i < 16; i++) assert_false(resident[i] & 1);
    for (size_t i = 16 + 4; i < 16 + bytes / page && !SANITIZED; i++) assert_true(resident[i] & 1);
    munmap(region, bytes + 16 * page);

    assert_int_equal(pthread_create(&thread, NULL, populate_deeply, NULL), 0);
    pthread_join(thread, NULL);
    populate_deeply(NULL); /* the first thread's own stack ends at its limit */
}

/* ---- cgroups --------------------------------------------------------------------------------- */

static uint64_t memory_with_groups(const char *groups) {
    emb_machine machine;
    memset(&machine, 0, sizeof machine);
    fake_file("/proc/self/cgroup", groups);
    fake_root = root;
    emb_process_host(&machine);
    fake_root = NULL;
    return machine.memory_bytes;
}

static void the_least_limit_above_a_cgroup_holds(void **state) {
    (void)state;
    uint64_t all = memory_with_groups("0::/\n");
    assert_true(all > 64 * MIB);
    fake_file("/sys/fs/cgroup/user/own/memory.max", "33554432\n");
    fake_file("/sys/fs/cgroup/user/own/free/memory.max", "max\n");
    assert_int_equal(memory_with_groups("0::/\n"), all);
    assert_int_equal(memory_with_groups("0::/user\n"), all);
    assert_int_equal(memory_with_groups("0::/user/own\n"), 32 * MIB);
    assert_int_equal(memory_with_groups("0::/user/own/free\n"), 32 * MIB);
    assert_int_equal(memory_with_groups("0::/user/own/free/not/there\n"), 32 * MIB);
    assert_int_equal(memory_with_groups("1:name=systemd:/user/own\n0::/\n"), all);
    fake_file("/sys/fs/cgroup/user/memory.max", "16777216\n");
    assert_int_equal(memory_with_groups("0::/user/own/free\n"), 16 * MIB);
    fake_file("/sys/fs/cgroup/memory.max", "8388608\n");
    assert_int_equal(memory_with_groups("0::/a/host's/path\n"), 8 * MIB);
}

static void version_1_is_read_too(void **state) {
    (void)state;
    fake_file("/sys/fs/cgroup/memory.max", "max\n");
    uint64_t all = memory_with_groups("5:memory:/slurm/job:7\n0::/\n");
    fake_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    fake_file("/sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", "50331648\n");
    assert_int_equal(memory_with_groups("5:memory:/slurm/job:7\n0::/\n"), 48 * MIB);
    assert_int_equal(memory_with_groups("5:cpu,memory:/slurm\n"), 48 * MIB);
    assert_int_equal(memory_with_groups("6:memoryless:/slurm\n5:memory:/\n0::/\n"), all);
    assert_int_equal(memory_with_groups("no colons\n5:memory\n\n"), all);
}

/* ---- stacks of threads ----------------------------------------------------------------------- */

static void do_nothing(void *user, uint32_t index) {
    (void)user, (void)index;
}

/* Asks the kernel, which answers with an error and no signal. */
static bool is_readable(const void *at) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bool readable = syscall(SYS_write, ends[1], at, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return readable;
}

static void *open_threads(emb_thread_set *set, uint64_t *bytes) {
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    emb_thread_set_layout(set, 2, &ledger);
    *bytes = ledger.bytes;
    void *arena = emb_arena_open(*bytes);
    assert_non_null(arena);
    emb_ledger_init(&ledger, arena, *bytes);
    emb_thread_set_layout(set, 2, &ledger);
    assert_true(ledger.bytes == *bytes && !ledger.overflow);
    return arena;
}

static void stacks_are_guarded(void **state) {
    (void)state;
    emb_thread_set set;
    uint64_t bytes, page = (uint64_t)sysconf(_SC_PAGESIZE);
    void *arena = open_threads(&set, &bytes);
    assert_true(bytes >= 2 * (EMB_STACK_BYTES + page));
    for (uint32_t i = 0; i < 2; i++) {
        const char *stack = set.threads[i].stack;
        assert_int_equal((uintptr_t)stack % page, 0);
        assert_true(is_readable(stack - 1));
        assert_int_equal(emb_thread_start(&set, i, do_nothing, NULL, NULL), EMB_OK);
        assert_false(is_readable(stack - 1) || is_readable(stack - page));
        assert_true(is_readable(stack) && is_readable(stack + EMB_STACK_BYTES - 1));
        assert_true(is_readable(stack - page - 1)); /* the neighbour or the table */
    }
    emb_thread_set_join(&set);
    emb_arena_close(arena, bytes);
}

static void a_stack_without_its_guard_is_refused(void **state) {
    (void)state;
    emb_thread_set set;
    emb_error error;
    uint64_t bytes;
    void *arena = open_threads(&set, &bytes);
    no_mprotect = true;
    assert_int_equal(emb_thread_start(&set, 1, do_nothing, NULL, &error), EMB_NO_MEMORY);
    assert_non_null(strstr(error.message, "thread 2 of 2"));
    assert_false(set.threads[1].started);
    emb_thread_set_join(&set);
    emb_arena_close(arena, bytes);
}

int main(void) {
#define CASE(test) cmocka_unit_test_teardown(test, real_again)
    const struct CMUnitTest tests[] = {
        CASE(memory_is_found_behind_many_groups),
        CASE(no_proc_is_an_error_of_the_probe),
        CASE(only_executables_become_resident),
        CASE(own_file_alone_becomes_resident),
        CASE(mappings_beyond_their_file_do_no_harm),
        CASE(small_stacks_are_filled_and_not_left),
        CASE(the_least_limit_above_a_cgroup_holds),
        CASE(version_1_is_read_too),
        CASE(stacks_are_guarded),
        CASE(a_stack_without_its_guard_is_refused),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
