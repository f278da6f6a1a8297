/* registry.h - the formats that texts are read from. A new one is a file that defines its
 * emb_source_ops, and a row here; --input-format, its help and the completions follow.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_REGISTRY_H
#define EMB_SOURCE_REGISTRY_H

/* name, as --input-format says it, and NAME, of EMB_SOURCE_NAME; with emb_source_name_ops */
#define EMB_SOURCES(FIRST, ROW)                                                                    \
    FIRST(txt, TXT)   /* one text a line, LF or CRLF; an empty line is an empty text; a CR         \
                       anywhere else is a character of the text */                                 \
    ROW(whole, WHOLE) /* one text a file */                                                        \
    ROW(jsonl, JSONL) /* one JSON object a line, the text in one of its fields */                  \
    ROW(csv, CSV)     /* RFC 4180 */                                                               \
    ROW(tsv, TSV)     /* the same with tabs */

#define EMB_SOURCE_ENTRY(name, NAME) EMB_SOURCE_##NAME,
#define EMB_SOURCE_TEXT(name, NAME)  #name
#define EMB_SOURCE_BLANK(name, NAME) " " #name
#define EMB_SOURCE_COMMA(name, NAME) ", " #name

typedef enum emb_source_format {
    EMB_SOURCE_AUTO = 0, /* by the suffix of the first file */
    EMB_SOURCES(EMB_SOURCE_ENTRY, EMB_SOURCE_ENTRY) EMB_SOURCE_FORMATS
} emb_source_format;

/* "txt whole jsonl csv tsv", and with commas */
#define EMB_SOURCE_WORDS EMB_SOURCES(EMB_SOURCE_TEXT, EMB_SOURCE_BLANK)
#define EMB_SOURCE_LIST  EMB_SOURCES(EMB_SOURCE_TEXT, EMB_SOURCE_COMMA)

#endif
