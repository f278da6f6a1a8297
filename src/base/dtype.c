/* dtype.c - the names of the dtypes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/dtype.h"

#include <string.h>

static const char *const names[] = {
    [EMB_DTYPE_DEFAULT] = "default", [EMB_DTYPE_F32] = "f32",   [EMB_DTYPE_BF16] = "bf16",
    [EMB_DTYPE_F16] = "f16",         [EMB_DTYPE_INT8] = "int8", [EMB_DTYPE_INT4] = "int4",
    [EMB_DTYPE_FP8] = "fp8",
};

enum { NAMES = sizeof names / sizeof names[0] };

const char *emb_dtype_name(emb_dtype dtype) {
    return (uint32_t)dtype < NAMES ? names[dtype] : "unknown";
}

emb_status emb_dtype_from_name(emb_dtype *out, const char *name) {
    for (uint32_t i = 0; i < NAMES; i++) {
        if (strcmp(name, names[i])) continue;
        *out = (emb_dtype)i;
        return EMB_OK;
    }
    return EMB_INVALID_ARGUMENT;
}
