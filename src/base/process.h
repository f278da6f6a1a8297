/* process.h - what this process and its host cost and offer: resident bytes, cores, caches.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_PROCESS_H
#define EMB_BASE_PROCESS_H

#include "embound.h"

/* Makes every page of the program, its libraries and the first `stack_bytes` of the calling
 * thread's stack resident, so that the process base cannot grow later. */
void emb_process_populate(uint64_t stack_bytes);

/* Resident bytes now and at their highest (VmRSS, VmHWM); 0 where the system does not say.
 * Allocates nothing. */
void emb_process_memory(uint64_t *bytes_now, uint64_t *bytes_peak);

/* Monotonic seconds. */
double emb_process_seconds(void);

/* Fills cores, page size, caches and memory of the host (or of its cgroup if smaller), CPU name. */
void emb_process_host(emb_machine *out);

#endif
