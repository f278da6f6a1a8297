/* members.c - the members of structs as members of JSON objects.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/members.h"

#include <string.h>

void emb_members_write_number(emb_writer *out, const char *name, uint64_t value) {
    emb_writer_format(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

void emb_members_write_real(emb_writer *out, const char *name, double value) {
    emb_writer_format(out, ",\"%s\":%.6f", name, value);
}

void emb_members_write_text(emb_writer *out, const char *name, const char *value) {
    emb_writer_format(out, ",\"%s\":", name);
    emb_writer_string(out, value, strlen(value));
}

static void write_value(emb_writer *out, const emb_member *member, bool flags_as_numbers) {
    if (member->kind == EMB_MEMBER_TEXT || member->kind == EMB_MEMBER_WORD)
        emb_writer_string(out, member->text, strlen(member->text));
    else if (member->kind == EMB_MEMBER_REAL)
        emb_writer_format(out, "%.6f", member->real);
    else if (member->kind == EMB_MEMBER_FLAG && !flags_as_numbers)
        emb_writer_text(out, member->number ? "true" : "false");
    else
        emb_writer_u64(out, member->number);
}

void emb_members_write(emb_writer *out, emb_members *members, const char *until) {
    emb_member member;
    for (; emb_member_get(&member, members->kind, members->object, members->next);
         members->next++) {
        if (until && strcmp(member.name, until) == 0) return;
        if (members->left_out && strcmp(member.name, members->left_out) == 0) continue;
        emb_writer_format(out, "%s\"%s\":", members->inside ? "," : "", member.name);
        write_value(out, &member, members->flags_as_numbers);
        members->inside = true;
    }
}

void emb_members_write_one(emb_writer *out, emb_struct kind, const void *object, const char *name) {
    emb_member member;
    for (uint32_t i = 0; emb_member_get(&member, kind, object, i); i++) {
        if (strcmp(member.name, name) != 0) continue;
        emb_writer_format(out, ",\"%s\":", name);
        write_value(out, &member, true);
    }
}
