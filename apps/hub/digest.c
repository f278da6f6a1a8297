/* digest.c - SHA-256 and SHA-1 (FIPS 180-4), in plain C: libcurl gives neither.
 *
 * Single letters are those of the standard.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/digest.h"

#include <stdio.h>
#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotl(uint32_t x, unsigned n) {
    return x << n | x >> (32 - n);
}
static uint32_t rotr(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

static uint32_t load(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* One step; the caller rotates the variables' names instead of moving their values. */
static inline void step(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f,
                        uint32_t g, uint32_t *h, uint32_t word) {
    uint32_t T1 = *h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + word;
    *d += T1;
    *h = T1 + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)));
}

static void block_sha256(uint32_t *H, const unsigned char *data) {
    uint32_t W[64];
    for (int t = 0; t < 16; t++) W[t] = load(data + 4 * t);
    for (int t = 16; t < 64; t++) {
        uint32_t x = W[t - 15], y = W[t - 2];
        W[t] = W[t - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ x >> 3) + W[t - 7] +
               (rotr(y, 17) ^ rotr(y, 19) ^ y >> 10);
    }
    uint32_t a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7];
    for (int t = 0; t < 64; t += 8) {
        step(a, b, c, &d, e, f, g, &h, K[t] + W[t]);
        step(h, a, b, &c, d, e, f, &g, K[t + 1] + W[t + 1]);
        step(g, h, a, &b, c, d, e, &f, K[t + 2] + W[t + 2]);
        step(f, g, h, &a, b, c, d, &e, K[t + 3] + W[t + 3]);
        step(e, f, g, &h, a, b, c, &d, K[t + 4] + W[t + 4]);
        step(d, e, f, &g, h, a, b, &c, K[t + 5] + W[t + 5]);
        step(c, d, e, &f, g, h, a, &b, K[t + 6] + W[t + 6]);
        step(b, c, d, &e, f, g, h, &a, K[t + 7] + W[t + 7]);
    }
    H[0] += a, H[1] += b, H[2] += c, H[3] += d, H[4] += e, H[5] += f, H[6] += g, H[7] += h;
}

static void block_sha1(uint32_t *H, const unsigned char *data) {
    uint32_t W[80], a = H[0], b = H[1], c = H[2], d = H[3], e = H[4];
    for (int t = 0; t < 16; t++) W[t] = load(data + 4 * t);
    for (int t = 16; t < 80; t++) W[t] = rotl(W[t - 3] ^ W[t - 8] ^ W[t - 14] ^ W[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        uint32_t f, k;
        if (t < 20) {
            f = (b & c) | (~b & d), k = 0x5a827999;
        } else if (t < 40) {
            f = b ^ c ^ d, k = 0x6ed9eba1;
        } else if (t < 60) {
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        } else {
            f = b ^ c ^ d, k = 0xca62c1d6;
        }
        uint32_t T = rotl(a, 5) + f + e + k + W[t];
        e = d, d = c, c = rotl(b, 30), b = a, a = T;
    }
    H[0] += a, H[1] += b, H[2] += c, H[3] += d, H[4] += e;
}

void emb_digest_init(emb_digest *digest, bool sha1) {
    static const uint32_t first256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    static const uint32_t first1[8] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(digest->state, sha1 ? first1 : first256, sizeof digest->state);
    digest->bytes = 0;
    digest->sha1 = sha1;
}

void emb_digest_add(emb_digest *digest, const void *data, size_t length) {
    void (*block)(uint32_t *, const unsigned char *) = digest->sha1 ? block_sha1 : block_sha256;
    const unsigned char *at = data;
    size_t held = digest->bytes % 64;
    digest->bytes += length;
    while (length) {
        if (held == 0 && length >= 64) {
            block(digest->state, at);
            at += 64, length -= 64;
            continue;
        }
        size_t part = length < 64 - held ? length : 64 - held;
        memcpy(digest->block + held, at, part);
        at += part, length -= part, held += part;
        if (held == 64) {
            block(digest->state, digest->block);
            held = 0;
        }
    }
}

void emb_digest_finish(emb_digest *digest, char out[65]) {
    static const unsigned char padding[64] = {0x80};
    unsigned char bits[8];
    for (int i = 0; i < 8; i++) bits[i] = (unsigned char)(digest->bytes * 8 >> (56 - 8 * i));
    size_t held = digest->bytes % 64;
    emb_digest_add(digest, padding, held < 56 ? 56 - held : 120 - held);
    emb_digest_add(digest, bits, sizeof bits);
    int words = digest->sha1 ? 5 : 8;
    for (int i = 0; i < words; i++) snprintf(out + 8 * i, 9, "%08x", (unsigned)digest->state[i]);
}
