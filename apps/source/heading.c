/* heading.c - finds columns by the names or numbers that the user or a reader states.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/heading.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool emb_heading_number(const char *text, double *value) {
    char *end;
    double parsed = strtod(text, &end);
    if (value) *value = parsed;
    return end != text && end[strspn(end, " \t\r")] == '\0' && isfinite(parsed);
}

void emb_heading_guess(emb_heading *heading, const char *bytes, size_t length,
                       const emb_source_options *options) {
    const char *newline = memchr(bytes, '\n', length);
    size_t line = newline ? (size_t)(newline - bytes) : length;
    bool tabs = !options->delimiter && memchr(bytes, '\t', line) != NULL;
    heading->delimiter = tabs ? '\t' : options->delimiter ? options->delimiter : ',';
    heading->quotes = !tabs && !options->no_quotes;
}

void emb_heading_add(emb_heading *heading, const emb_csv *csv) {
    if (heading->cells_count > 0 || csv->column >= EMB_HEADING_CELLS) return;
    char *cell = heading->cells[csv->column];
    size_t used = strlen(cell), room = EMB_HEADING_CELL_TEXT - 1 - used;
    size_t length = csv->text_length < room ? csv->text_length : room;
    memcpy(cell + used, csv->text, length);
    cell[used + length] = '\0';
}

uint32_t emb_heading_kept(const emb_heading *heading) {
    return heading->cells_count < EMB_HEADING_CELLS ? heading->cells_count : EMB_HEADING_CELLS;
}

uint32_t emb_heading_find(const emb_heading *heading, const char *name, size_t length) {
    for (uint32_t i = 0; i < emb_heading_kept(heading) && heading->names; i++) {
        const char *cell = heading->cells[i];
        if (strlen(cell) == length && memcmp(cell, name, length) == 0) return i;
    }
    char *end;
    unsigned long number = isdigit((unsigned char)*name) ? strtoul(name, &end, 10) : 0;
    bool whole = number > 0 && end == name + length;
    return whole && number <= heading->cells_count ? (uint32_t)number - 1 : EMB_HEADING_NONE;
}

bool emb_heading_resolve(const emb_heading *heading, const char *columns, uint32_t *found,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strcspn(columns, ",");
        bool at_end = columns[length] == '\0';
        found[i] = length ? emb_heading_find(heading, columns, length) : EMB_HEADING_NONE;
        if (found[i] == EMB_HEADING_NONE || at_end != (i == count - 1)) return false;
        for (uint32_t k = 0; k < i; k++)
            if (found[k] == found[i]) return false;
        columns += length + 1;
    }
    return true;
}

const char *emb_heading_describe(const emb_heading *heading, emb_source_names *names) {
    emb_csv_others others = {0};
    for (uint32_t i = 0; i < emb_heading_kept(heading); i++) {
        size_t length = strlen(heading->cells[i]);
        emb_source_names_add(names, heading->cells[i], length);
        emb_csv_others_add(&others, heading->cells[i], length);
    }
    return emb_csv_others_hint(&others, heading->delimiter, heading->cells_count);
}
