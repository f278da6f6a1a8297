/* digest.h - SHA-256 and SHA-1 of a file, as the hub names its contents.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_DIGEST_H
#define EMB_HUB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct emb_digest {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];
    bool sha1;
} emb_digest;

void emb_digest_init(emb_digest *digest, bool sha1);
void emb_digest_add(emb_digest *digest, const void *data, size_t length);

/* Gives lower-case hexadecimal digits: 64, or 40 of SHA-1, and a NUL. */
void emb_digest_finish(emb_digest *digest, char out[65]);

#endif
