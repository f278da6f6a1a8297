/* members.h - plans, counters and models as JSON, from the library's tables.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_MEMBERS_H
#define EMB_COMMON_MEMBERS_H

#include "sink/writer.h"

/* A struct whose members are written one after another. */
typedef struct emb_members {
    const void *object;
    emb_struct kind;
    bool flags_as_numbers; /* 0 and 1, not false and true */
    bool inside;           /* not the first in its object: a comma comes first */
    const char *left_out;  /* a field that is not written; NULL: none */
    uint32_t next;
} emb_members;

/* Writes "name":value of the members up to, not including, `until`, where the next call continues.
 * NULL: all the rest. */
void emb_members_write(emb_writer *out, emb_members *members, const char *until);

/* Writes ,"name":value of single ones. */
void emb_members_write_one(emb_writer *out, emb_struct kind, const void *object, const char *name);
void emb_members_write_number(emb_writer *out, const char *name, uint64_t value);
void emb_members_write_real(emb_writer *out, const char *name, double value);
void emb_members_write_text(emb_writer *out, const char *name, const char *value);

#endif
