/* process.h - resident bytes of this process; cores, caches and memory of its host.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_PROCESS_H
#define EMB_BASE_PROCESS_H

#include <stdbool.h>

#include "embound.h"

/* Makes the pages of the program and its libraries (own_alone: of the file that holds this code)
 * resident, and of the calling thread's stack the next `stack_bytes` as far as it reaches, so that
 * the process base cannot grow later. Other files' mappings are not touched. */
void emb_process_populate(uint64_t stack_bytes, bool own_alone);

/* Resident bytes now and at the peak (VmRSS, VmHWM); 0 if not available. Allocates nothing. */
void emb_process_memory(uint64_t *bytes_now, uint64_t *bytes_peak);

/* Monotonic seconds. */
double emb_process_seconds(void);

/* Fills cores, page size, caches, CPU name, and memory: the host's, or the lowest limit of this
 * process's cgroup and its parents. */
void emb_process_host(emb_machine *out);

#endif
