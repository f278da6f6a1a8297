/* signals.h - how Ctrl-C and similar signals end the work.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_SIGNALS_H
#define EMB_COMMON_SIGNALS_H

#include <stdbool.h>

#include "embound.h"

/* First signal: cancels the engine that runs, if any. Second: leaves at once. */
void emb_signals_install(void);
void emb_signals_set_engine(emb_engine *engine); /* NULL: none runs */
void emb_signals_set_busy(bool works);           /* other work that looks at `received` */
int emb_signals_descriptor(void);                /* becomes readable with the first signal */
int emb_signals_received(void);                  /* its number, or 0 */

#endif
