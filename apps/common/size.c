/* size.c - byte sizes as people write them: 96MiB, 1.5GB, 64M.
 *
 * K, M, G, T and KiB ... are powers of 1024; KB, MB ... are powers of 1000.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/size.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "fail.h"

/* The factor of a unit, or 0 if there is no such unit. */
static uint64_t unit_factor(const char *unit) {
    static const char letters[] = "KMGT";
    if (*unit == '\0' || strcasecmp(unit, "B") == 0) return 1;
    const char *letter = strchr(letters, toupper((unsigned char)*unit));
    if (!letter) return 0;
    bool decimal = strcasecmp(unit + 1, "B") == 0;
    if (!decimal && unit[1] != '\0' && strcasecmp(unit + 1, "iB") != 0) return 0;
    uint64_t factor = 1;
    for (const char *at = letters; at <= letter; at++) factor *= decimal ? 1000 : 1024;
    return factor;
}

static emb_status refuse(const char *text, const char *option, const char *why, emb_error *error) {
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s '%s': %s; write a size such as 96MiB, 1.5GB or 64M", option, text, why);
}

emb_status emb_size_parse(uint64_t *out, const char *text, const char *option, emb_error *error) {
    if (strcmp(text, "auto") == 0) {
        *out = 0;
        return EMB_OK;
    }
    const char *at = text;
    long double value = 0, place = 1;
    if (*at == '-') return refuse(text, option, "a size is not negative", error);
    if (!isdigit((unsigned char)*at)) return refuse(text, option, "not a number", error);
    for (; isdigit((unsigned char)*at); at++) value = value * 10 + (*at - '0');
    if (*at == '.') {
        at++;
        if (!isdigit((unsigned char)*at)) return refuse(text, option, "digits are missing", error);
        for (; isdigit((unsigned char)*at); at++) value += (*at - '0') * (place /= 10);
    }
    uint64_t factor = unit_factor(at);
    if (factor == 0) return refuse(text, option, "not a unit of bytes", error);
    value *= factor;
    if (value >= 0x1p62L) return refuse(text, option, "more than any machine has", error);
    /* a size printed with one decimal must not lose a byte to the binary fraction */
    uint64_t bytes = (uint64_t)(value + 1e-4L);
    if (bytes == 0) return refuse(text, option, "no work can be done in that", error);
    *out = bytes;
    return EMB_OK;
}

void emb_size_text(char *out, size_t capacity, uint64_t bytes) {
    uint64_t tenths = bytes / 1048576 * 10 + (bytes % 1048576 * 10 + 1048575) / 1048576;
    snprintf(out, capacity, "%llu.%lluMiB", (unsigned long long)(tenths / 10),
             (unsigned long long)(tenths % 10));
}

void emb_size_stated(char *out, size_t capacity, uint64_t bytes) {
    if (bytes < 1048576) {
        snprintf(out, capacity, "%llu bytes", (unsigned long long)bytes);
        return;
    }
    unsigned thousandths = (unsigned)(bytes % 1048576 * 1000 / 1048576);
    int length =
        snprintf(out, capacity, "%llu.%03u", (unsigned long long)(bytes / 1048576), thousandths);
    while (out[length - 1] == '0' && out[length - 2] != '.') length--;
    snprintf(out + length, capacity - (size_t)length, "MiB");
}

/* The process base differs by a few pages from run to run; the minimum that is named must work. */
#define BASE_MARGIN_BYTES (96u << 10)

void emb_size_minimum(char *out, size_t capacity, uint64_t bytes_min) {
    emb_size_text(out, capacity, bytes_min + BASE_MARGIN_BYTES);
}
