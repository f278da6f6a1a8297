/* help.c - prints --help, from the lists of commands and options.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "cli/option_list.h"

#define COLUMNS     80
#define TEXT_COLUMN 24

/* Words from `column` on, broken before COLUMNS; later lines begin at `indent`. */
static void print_words(emb_writer *writer, const char *text, size_t column, size_t indent) {
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > indent && column + 1 + length > COLUMNS) {
            emb_writer_format(writer, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            emb_writer_text(writer, " ");
            column++;
        }
        emb_writer_format(writer, "%.*s", (int)length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    emb_writer_text(writer, "\n");
}

void emb_help_print_usage(emb_writer *writer) {
    emb_writer_text(writer, "usage: embound COMMAND MODEL [options]\n\n"
                            "Sentence embeddings inside a stated memory budget.\n\ncommands\n");
    for (size_t i = 0; i < emb_command_list_count; i++) {
        const emb_command_entry *entry = &emb_command_list[i];
        emb_writer_format(writer, "  %-9s ", entry->name);
        print_words(writer, entry->summary, 12, 12);
    }
    emb_writer_text(
        writer,
        "  serve     is a program of its own, embound-serve\n"
        "\n"
        "MODEL is a sentence-transformers directory, a .safetensors file beside its\n"
        "config.json, or the name of a model that embound pull has put into the hub cache.\n"
        "\n"
        "  embound COMMAND --help   the options of a command\n"
        "  embound --version\n"
        "  embound help --completion SHELL   for bash, zsh or fish\n"
        "\n"
        "example\n"
        "  embound plan models/all-MiniLM-L6-v2 --memory 64MiB\n"
        "  embound encode models/all-MiniLM-L6-v2 -i texts.txt -o vectors.npy --memory 64MiB\n");
}

static void print_option(emb_writer *writer, const emb_option_entry *entry) {
    char left[64] = "      ";
    if (entry->letter) snprintf(left, sizeof left, "  -%c, ", entry->letter);
    snprintf(left + 6, sizeof left - 6, "%s%s%s", entry->name, entry->value ? " " : "",
             entry->value ? entry->value : "");
    bool fits = strlen(left) < TEXT_COLUMN;
    emb_writer_format(writer, "%-*s%s", TEXT_COLUMN, left, "");
    if (!fits) emb_writer_format(writer, "\n%*s", TEXT_COLUMN, "");
    print_words(writer, entry->help, TEXT_COLUMN, TEXT_COLUMN);
}

void emb_help_print(emb_writer *writer, const emb_command_entry *command) {
    emb_writer_format(writer, "usage: embound %s %s\n\n", command->name, command->usage);
    print_words(writer, command->about, 0, 0);
    for (emb_option_group group = 0; group < EMB_GROUPS; group++) {
        bool begun = false;
        for (size_t i = 0; i < emb_option_list_count; i++) {
            const emb_option_entry *entry = &emb_option_list[i];
            if (entry->group != group || !(entry->commands & command->id)) continue;
            if (!begun && group == EMB_GROUP_COMMAND) emb_writer_text(writer, "\n");
            if (!begun && group != EMB_GROUP_COMMAND)
                emb_writer_format(writer, "\n%s\n", emb_option_group_name(group));
            begun = true;
            print_option(writer, entry);
        }
    }
}
