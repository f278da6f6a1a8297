/* npy.c - the header of an .npy file: 32-bit floats in rows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"

#define HEADER_MAX 4096

emb_status emb_npy_fail(const char *path, const char *why, emb_error *error) {
    return emb_app_fail(error, EMB_BAD_FILE, "%.*s: %s; write it with embound encode -o FILE.npy",
                        EMB_APP_CUT(path, 150), why);
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (ROWS, DIM), } */
static emb_status parse_header(emb_npy *npy, const char *text, const char *path, uint64_t bytes,
                               emb_error *error) {
    const char *shape = strstr(text, "'shape':"), *order = strstr(text, "'fortran_order':");
    if (!strstr(text, "'<f4'")) return emb_npy_fail(path, "its numbers are not f32", error);
    if (order) order += strlen("'fortran_order':");
    while (order && *order == ' ') order++;
    if (!order || strncmp(order, "False", 5) != 0) {
        return emb_npy_fail(path, "its order is by columns", error);
    }
    const char *open = shape ? strchr(shape, '(') : NULL;
    char *end = NULL;
    while (open && open[1] == ' ') open++;
    if (open && (open[1] == '-' || strstr(open, ",-") || strstr(open, ", -"))) {
        return emb_npy_fail(path, "its shape is negative", error);
    }
    if (open) npy->rows = strtoull(open + 1, &end, 10);
    if (!end || *end != ',') return emb_npy_fail(path, "its shape is not (rows, dim)", error);
    uint64_t dim = strtoull(end + 1, &end, 10);
    if (*end != ')' || dim == 0 || dim > 65536) {
        return emb_npy_fail(path, "its shape is not (rows, dim)", error);
    }
    npy->dim = (uint32_t)dim;
    if (npy->rows > bytes / (dim * sizeof(float)) ||
        bytes - npy->data_offset < npy->rows * dim * sizeof(float)) {
        return emb_npy_fail(path, "it is shorter than its header says", error);
    }
    return EMB_OK;
}

emb_status emb_npy_open(emb_npy *npy, const char *path, emb_error *error) {
    struct stat status;
    char header[HEADER_MAX];
    *npy = (emb_npy){.descriptor = -1};
    npy->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (npy->descriptor < 0 || fstat(npy->descriptor, &status) != 0) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s: %s", path, strerror(errno));
    }
    ssize_t got = pread(npy->descriptor, header, sizeof header - 1, 0);
    if (got < 16 || memcmp(header, "\x93NUMPY", 6) != 0) {
        return emb_npy_fail(path, "not an .npy file", error);
    }
    const unsigned char *bytes = (const unsigned char *)header;
    if (bytes[6] < 1 || bytes[6] > 2 || bytes[7] != 0) {
        char why[64];
        snprintf(why, sizeof why, "version %u.%u of .npy is not supported", bytes[6], bytes[7]);
        return emb_npy_fail(path, why, error);
    }
    size_t prefix = bytes[6] == 1 ? 10 : 12;
    size_t length = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] == 2) length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (prefix + length > (size_t)got) {
        return emb_npy_fail(path, "its header is too long", error);
    }
    npy->data_offset = prefix + length;
    memmove(header, header + prefix, length);
    header[length] = '\0';
    return parse_header(npy, header, path, (uint64_t)status.st_size, error);
}
