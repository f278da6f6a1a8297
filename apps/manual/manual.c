/* manual.c - makes the manual page: copies the template on standard input, and puts the options
 * where it says @OPTIONS@. Runs at build time only.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/option_list.h"

/* What --help calls the value, as an argument: FILE is `file`, N stays. */
static void print_value(const char *value) {
    bool single = value[1] == '\0';
    printf(" Ar ");
    for (const char *at = value; *at; at++) {
        if (*at == ',')
            printf(" , Ns Ar ");
        else
            putchar(single ? *at : tolower((unsigned char)*at));
    }
}

/* The text of --help as a sentence. */
static void print_sentence(const char *text) {
    size_t length = strlen(text);
    if (!length) return;
    if (text[0] == '.' || text[0] == '\'') printf("\\&");
    printf("%c%s%s\n", toupper((unsigned char)text[0]), text + 1,
           text[length - 1] == '.' ? "" : ".");
}

static void print_option(const emb_option_entry *entry) {
    printf(".It");
    if (entry->letter) printf(" Fl %c ,", entry->letter);
    printf(" Fl %s", entry->name + 1);
    if (entry->value) print_value(entry->value);
    printf("\n");
    if (entry->manual)
        printf("%s\n", entry->manual);
    else
        print_sentence(entry->help);
}

static void print_options(void) {
    for (emb_option_group group = 0; group < EMB_GROUPS; group++) {
        const char *name = emb_option_group_name(group);
        printf(".Ss %c%s\n.Bl -tag -width Ds\n", toupper((unsigned char)name[0]), name + 1);
        for (size_t i = 0; i < emb_option_list_count; i++) {
            const emb_option_entry *entry = &emb_option_list[i];
            bool shown = !entry->manual || *entry->manual;
            if (entry->group == group && shown) print_option(entry);
        }
        printf(".El\n");
    }
}

int main(void) {
    char line[1024];
    bool placed = false;
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "@OPTIONS@\n") == 0) {
            print_options();
            placed = true;
        } else {
            fputs(line, stdout);
        }
    }
    if (!placed || ferror(stdin) || fflush(stdout) != 0) {
        fprintf(stderr, "manual: the template has no line @OPTIONS@, or cannot be read\n");
        return 1;
    }
    return 0;
}
