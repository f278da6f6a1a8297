/* option_list.h - the table of options: the single source of parsing, --help, the manual and shell
 * completions.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_OPTION_LIST_H
#define EMB_CLI_OPTION_LIST_H

#include "cli/options.h"

/* How the value is read, and what it is stored as. */
typedef enum emb_option_kind {
    EMB_OPTION_FLAG,     /* no value: bool true */
    EMB_OPTION_CONSTANT, /* no value: uint32_t or enum, min */
    EMB_OPTION_TEXT,     /* const char *: the argument as it is */
    EMB_OPTION_NUMBER,   /* uint32_t from min to max */
    EMB_OPTION_CHOICE,   /* uint32_t or enum: min + place in words */
    EMB_OPTION_REAL,     /* double from 0 to max */
    EMB_OPTION_SIZE,     /* uint64_t bytes */
    /* each with a function of its own in options.c */
    EMB_OPTION_INPUT,
    EMB_OPTION_OUTPUT,
    EMB_OPTION_DEVICE,
    EMB_OPTION_DTYPE,
    EMB_OPTION_DELIMITER,
    EMB_OPTION_LONG,
    EMB_OPTION_SECONDS,
    EMB_OPTION_HELP
} emb_option_kind;

/* Headings of --help and sections of the manual, in this order. */
typedef enum emb_option_group {
    EMB_GROUP_COMMAND, /* of single commands */
    EMB_GROUP_INPUT,
    EMB_GROUP_OUTPUT,
    EMB_GROUP_MEMORY,
    EMB_GROUP_VECTORS,
    EMB_GROUP_RUN,
    EMB_GROUPS
} emb_option_group;

#define EMB_WORDS_FILES "/" /* in `words`: file names */

typedef struct emb_option_entry {
    const char *name;  /* "--memory" */
    char letter;       /* 'm', or 0 */
    const char *value; /* what --help calls the value; NULL: the option takes none */
    unsigned commands; /* that take it: emb_cli_command */
    emb_option_group group;
    emb_option_kind kind;
    const char *words; /* allowed values, separated by blanks; NULL: any */
    bool may_be_empty;
    size_t offset; /* in emb_options */
    uint32_t min, max;
    const char *help;   /* one paragraph, up to the first ';' in completions */
    const char *manual; /* mdoc; NULL: help, and "": not in the manual */
} emb_option_entry;

/* An option that means something else for other commands has an entry for each meaning. */
extern const emb_option_entry emb_option_list[];
extern const size_t emb_option_list_count;

/* "memory and machine" */
const char *emb_option_group_name(emb_option_group group);

#endif
