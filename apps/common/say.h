/* say.h - what the programs tell their users: lines on standard error.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_SAY_H
#define EMB_COMMON_SAY_H

#include <stddef.h>
#include <stdint.h>

/* One line on standard error, after "embound: ". */
void emb_app_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes as they are, on standard error. */
void emb_app_err(const char *text, size_t length);

/* "", or "s" after any other number than one. */
const char *emb_app_plural(uint64_t count);

/* Seconds of a monotonic clock. */
double emb_app_seconds(void);

#endif
