/* pieces.c - texts in pieces, with their prompts and places; the same for all sources.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/pieces.h"

#include <string.h>

#include "fail.h"

#define LINE_BITS 40

void emb_source_init(emb_source *source, const emb_source_ops *ops, void *own,
                     const emb_source_options *options) {
    memset(source, 0, sizeof *source);
    source->ops = ops;
    source->own = own;
    source->options = *options;
    source->prompt_length = options->prompt ? strlen(options->prompt) : 0;
    source->texts_per_row = 1;
    source->input.descriptor = -1;
}

void emb_source_place(uint64_t user, uint32_t *file, uint64_t *line) {
    *file = (uint32_t)(user >> LINE_BITS);
    *line = user & ((UINT64_C(1) << LINE_BITS) - 1);
}

bool emb_piece_list_full(const emb_piece_list *list) {
    return list->count + 3 > list->capacity;
}

static void push(emb_source *source, emb_piece_list *list, const void *data, size_t length) {
    uint64_t file = source->input.next ? source->input.next - 1 : 0;
    list->pieces[list->count++] = (emb_piece){
        .data = data,
        .length = length,
        .flags = source->begun ? 0 : EMB_PIECE_FIRST,
        .user = file << LINE_BITS | source->line,
    };
    source->begun = true;
}

void emb_source_add(emb_source *source, emb_piece_list *list, const void *data, size_t length) {
    if (!source->begun) emb_utf8_begin(&source->utf8, source->ops->nul_is_text);
    emb_utf8_add(&source->utf8, data, length);
    if (!source->begun && source->prompt_length) {
        push(source, list, source->options.prompt, source->prompt_length);
    }
    if (length || !source->begun) push(source, list, data, length);
}

void emb_source_end_bad(emb_source *source, emb_piece_list *list) {
    emb_source_add(source, list, "", 0);
    if (list->count == 0) push(source, list, "", 0);
    list->pieces[list->count - 1].flags |= EMB_PIECE_LAST;
    source->begun = false;
    source->return_inside = false;
}

emb_status emb_source_end(emb_source *source, emb_piece_list *list, emb_error *error) {
    emb_utf8 *utf8 = &source->utf8;
    emb_source_notes *notes = &source->notes;
    bool inside = source->return_inside;
    emb_source_end_bad(source, list);
    emb_utf8_end(utf8);
    uint64_t place = list->pieces[list->count - 1].user;
    source->form_seen = true;
    if (utf8->replaced && source->options.invalid && utf8->value == 0) {
        return emb_app_fail(error, EMB_BAD_TEXT,
                            "%s line %llu: byte %llu of the text is NUL: a binary file, or remove "
                            "such bytes with tr -d '\\000'",
                            emb_input_shown(&source->input), (unsigned long long)source->line,
                            (unsigned long long)utf8->first);
    }
    if (utf8->replaced && source->options.invalid) {
        return emb_app_fail(error, EMB_BAD_TEXT,
                            "%s line %llu: byte %llu of the text (0x%02X) is not UTF-8",
                            emb_input_shown(&source->input), (unsigned long long)source->line,
                            (unsigned long long)utf8->first, utf8->value);
    }
    if (inside && notes->texts_return++ == 0) notes->return_place = place;
    if (utf8->replaced == 0) return EMB_OK;
    if (notes->texts_replaced++ == 0) {
        notes->replaced_place = place;
        notes->replaced_byte = utf8->first;
        notes->replaced_value = utf8->value;
    }
    notes->replaced += utf8->replaced;
    notes->nuls += utf8->nuls;
    return EMB_OK;
}

void emb_source_names_add(emb_source_names *names, const char *name, size_t length) {
    size_t shown = (size_t)emb_app_whole(name, length, 24);
    const char *comma = names->used ? ", " : "", *more = shown < length ? "..." : "";
    size_t wanted = strlen(comma) + shown + strlen(more) + 2;
    if (names->full) return;
    if (names->used + wanted + sizeof ", ..." > sizeof names->text) {
        names->full = true;
        strcpy(names->text + names->used, ", ...");
        return;
    }
    char *out = names->text + names->used;
    snprintf(out, wanted + 1, "%s\"%.*s%s\"", comma, (int)shown, name, more);
    emb_utf8 utf8;
    emb_utf8_begin(&utf8, true);
    emb_utf8_add(&utf8, out, wanted);
    for (size_t i = 0; i < wanted; i++) { /* a message is one line of UTF-8 */
        unsigned char byte = (unsigned char)out[i];
        if (byte < ' ' || byte == 0x7F || (byte > 0x7F && utf8.replaced)) out[i] = '?';
    }
    names->used += (uint8_t)wanted;
}
