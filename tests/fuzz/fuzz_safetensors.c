/* fuzz_safetensors.c - the header reader over any bytes as a file in memory. What it accepts must
 * cover the file: every byte behind the header belongs to exactly one tensor.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static emb_status add_up(void *user, const emb_tensor_header *tensor, emb_error *error) {
    uint64_t *total = user;
    (void)error;
    if (tensor->begin > tensor->end || !memchr(tensor->name, 0, sizeof tensor->name)) abort();
    *total += tensor->end - tensor->begin;
    return EMB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1; /* one for all inputs: making it is slower than the reader */
    uint64_t total = 0, header = 0;
    emb_error error = {.message = ""};
    if (file < 0) file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size)
        abort();
    emb_status status = emb_safetensors_scan(file, size, "fuzz", add_up, &total, &error);
    if (status != EMB_OK) {
        if (strncmp(error.message, "fuzz: ", 6) != 0) abort();
        return 0;
    }
    for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
    if (8 + header + total != size) abort();
    return 0;
}
