/* families.h - the list of the families of tokenizers. A new one is a folder and its lines here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_FAMILIES_H
#define EMB_TEXT_FAMILIES_H

#include "text/wordpiece/wordpiece.h"

/* Their data in a spec. */
typedef union emb_text_own {
    emb_wordpiece_spec wordpiece;
} emb_text_own;

/* Their operations, in the order in which messages name them. */
#define EMB_TEXT_FAMILIES &emb_text_wordpiece

#endif
