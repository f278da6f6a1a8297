/* registry.h - the formats that vectors are written in. A new one is a file that defines its
 * emb_sink_ops, and a row here; --output-format, its help and the completions follow.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_REGISTRY_H
#define EMB_SINK_REGISTRY_H

/* name, as --output-format says it, and NAME, of EMB_SINK_NAME; with emb_sink_name_ops */
#define EMB_SINKS(FIRST, ROW)                                                                      \
    FIRST(npy, NPY)   /* NumPy array, f32, [texts, dim] */                                         \
    ROW(jsonl, JSONL) /* {"index":0,"embedding":[...],"tokens":9} a line */

#define EMB_SINK_ENTRY(name, NAME) EMB_SINK_##NAME,
#define EMB_SINK_TEXT(name, NAME)  #name
#define EMB_SINK_BLANK(name, NAME) " " #name
#define EMB_SINK_COMMA(name, NAME) ", " #name

typedef enum emb_sink_format {
    EMB_SINK_AUTO = 0, /* by the suffix of the output */
    EMB_SINKS(EMB_SINK_ENTRY, EMB_SINK_ENTRY) EMB_SINK_FORMATS
} emb_sink_format;

/* "npy jsonl", and with commas */
#define EMB_SINK_WORDS EMB_SINKS(EMB_SINK_TEXT, EMB_SINK_BLANK)
#define EMB_SINK_LIST  EMB_SINKS(EMB_SINK_TEXT, EMB_SINK_COMMA)

#endif
