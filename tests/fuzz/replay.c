/* replay.c - the main of a fuzz program outside the fuzz preset: gives it every file of the folders
 * named, each also cut short at a few places, and the empty input. A finding is a crash.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int inputs;

/* A copy of exactly that size, so that sanitizers see a read past its end. */
static void give(const uint8_t *data, size_t size) {
    uint8_t *copy = calloc(size ? size : 1, 1);
    if (!copy) abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    inputs++;
}

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return 1;
    static uint8_t data[1 << 20];
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    give(data, size);
    for (int part = 1; part < 8; part++) give(data, size * part / 8);
    return 0;
}

int main(int count, char **arguments) {
    int failed = 0;
    give((const uint8_t *)"", 0);
    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(arguments[i]);
        if (!folder) {
            printf("%s: no such corpus\n0 passed, 1 failed, 0 skipped\n", arguments[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[1024];
            if (entry->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", arguments[i], entry->d_name);
            failed += replay(path);
        }
        closedir(folder);
    }
    printf("%d passed, %d failed, 0 skipped\n", inputs, failed);
    return failed ? 1 : 0;
}
