/* completion.c - prints what bash, zsh and fish need to complete command lines, from the lists of
 * commands and options.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/help.h"
#include "cli/option_list.h"

#define LICENCE "# SPDX-License-Identifier: Apache-2.0\n"

/* Text inside single quotes of a shell; characters of `escape` get a backslash before them. An
 * option's help goes up to its first ';'. */
static void print_quoted(emb_writer *writer, const char *text, const char *escape,
                         const char *quote) {
    size_t length = strcspn(text, ";");
    for (size_t i = 0; i < length; i++) {
        const char one[2] = {text[i], '\0'};
        if (strchr(escape, text[i])) emb_writer_text(writer, "\\");
        emb_writer_text(writer, text[i] == '\'' ? quote : one);
    }
}

static bool is_files(const emb_option_entry *entry) {
    return entry->words && strcmp(entry->words, EMB_WORDS_FILES) == 0;
}

/* Whether an earlier entry has the same name, for other commands. */
static bool is_repeated(size_t which) {
    for (size_t i = 0; i < which; i++) {
        if (strcmp(emb_option_list[i].name, emb_option_list[which].name) == 0) return true;
    }
    return false;
}

static void print_command_names(emb_writer *writer) {
    for (size_t i = 0; i < emb_command_list_count; i++) {
        emb_writer_format(writer, "%s%s", i ? " " : "", emb_command_list[i].name);
    }
}

/* ---- bash ------------------------------------------------------------------------------------ */

/* What stands before the option's value: any command, or one that takes other values. */
static void print_bash_place(emb_writer *writer, const emb_option_entry *entry,
                             const char *command) {
    emb_writer_format(writer, "        %s\" %s\"", command, entry->name);
    if (entry->letter) emb_writer_format(writer, " | %s\" -%c\"", command, entry->letter);
}

static void print_bash_values(emb_writer *writer, const emb_option_entry *entry,
                              const char *command) {
    print_bash_place(writer, entry, command);
    if (is_files(entry))
        emb_writer_text(writer,
                        ") mapfile -t COMPREPLY < <(compgen -f -- \"$word\") && return ;;\n");
    else if (entry->words)
        emb_writer_format(writer, ") options=\"%s\" ;;\n", entry->words);
    else
        emb_writer_text(writer, ") return ;;\n");
}

/* The first pattern that fits wins: entries for single commands come first. */
static void print_bash_cases(emb_writer *writer, bool repeated) {
    for (size_t i = 0; i < emb_option_list_count; i++) {
        const emb_option_entry *entry = &emb_option_list[i];
        if (!entry->value || is_repeated(i) != repeated) continue;
        if (!repeated) print_bash_values(writer, entry, "*");
        for (size_t c = 0; repeated && c < emb_command_list_count; c++) {
            if (entry->commands & emb_command_list[c].id)
                print_bash_values(writer, entry, emb_command_list[c].name);
        }
    }
}

static void print_bash(emb_writer *writer) {
    emb_writer_text(writer,
                    "# Completion of the embound command for bash.\n" LICENCE "_embound() {\n"
                    "    local word=${COMP_WORDS[COMP_CWORD]} options=\n"
                    "    local previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
                    "    COMPREPLY=()\n"
                    "    if ((COMP_CWORD == 1)); then\n        options=\"");
    print_command_names(writer);
    emb_writer_text(writer, " help --help --version\"\n    else\n"
                            "        case \"${COMP_WORDS[1]} $previous\" in\n");
    print_bash_cases(writer, true);
    print_bash_cases(writer, false);
    emb_writer_text(writer, "        esac\n    fi\n"
                            "    if [[ -z $options && $word == -* ]]; then\n"
                            "        case ${COMP_WORDS[1]} in\n");
    for (size_t c = 0; c < emb_command_list_count; c++) {
        emb_writer_format(writer, "        %s) options=\"", emb_command_list[c].name);
        for (size_t i = 0; i < emb_option_list_count; i++) {
            if (emb_option_list[i].commands & emb_command_list[c].id)
                emb_writer_format(writer, "%s ", emb_option_list[i].name);
        }
        emb_writer_text(writer, "\" ;;\n");
    }
    emb_writer_text(writer, "        esac\n    fi\n"
                            "    [[ -n $options || ${COMP_WORDS[1]} != help ]] || options=\"");
    print_command_names(writer);
    emb_writer_text(writer,
                    "\"\n"
                    "    if [[ -n $options ]]; then\n"
                    "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")\n"
                    "    else\n"
                    "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                    "    fi\n}\n"
                    "complete -o filenames -F _embound embound\n");
}

/* ---- zsh ------------------------------------------------------------------------------------- */

#define ZSH_QUOTE "'\\''"

static void print_zsh_option(emb_writer *writer, const emb_option_entry *entry) {
    bool repeats = entry->kind == EMB_OPTION_INPUT;
    if (entry->letter && repeats)
        emb_writer_format(writer, " \\\n        '*'{-%c,%s}'", entry->letter, entry->name);
    else if (entry->letter)
        emb_writer_format(writer, " \\\n        '(-%c %s)'{-%c,%s}'", entry->letter, entry->name,
                          entry->letter, entry->name);
    else
        emb_writer_format(writer, " \\\n        '%s", entry->name);
    emb_writer_text(writer, "[");
    print_quoted(writer, entry->help, "[]:\\", ZSH_QUOTE);
    emb_writer_text(writer, "]");
    if (entry->value) emb_writer_format(writer, ":%s:", entry->value);
    if (is_files(entry)) {
        emb_writer_text(writer, "_files");
    } else if (entry->words && entry->value) {
        emb_writer_text(writer, "(");
        print_quoted(writer, entry->words, ":", ZSH_QUOTE);
        emb_writer_text(writer, ")");
    }
    emb_writer_text(writer, "'");
}

static void print_zsh(emb_writer *writer) {
    emb_writer_text(writer,
                    "#compdef embound\n# Completion of the embound command for zsh.\n" LICENCE
                    "local -a commands\ncommands=(\n");
    for (size_t i = 0; i < emb_command_list_count; i++) {
        emb_writer_format(writer, "    '%s:", emb_command_list[i].name);
        print_quoted(writer, emb_command_list[i].summary, ":\\", ZSH_QUOTE);
        emb_writer_text(writer, "'\n");
    }
    emb_writer_text(writer,
                    "    'help:show the options of a command'\n)\n"
                    "if ((CURRENT == 2)); then\n    _describe command commands\n    return\nfi\n"
                    "local command=$words[2]\nshift words\n((CURRENT--))\ncase $command in\n");
    for (size_t c = 0; c < emb_command_list_count; c++) {
        const emb_command_entry *command = &emb_command_list[c];
        emb_writer_format(writer, "%s)\n    _arguments", command->name);
        if (strstr(command->usage, "MODEL")) emb_writer_text(writer, " '1:model:_files'");
        if (strstr(command->usage, "QUERY")) emb_writer_text(writer, " '*:query:'");
        for (size_t i = 0; i < emb_option_list_count; i++) {
            if (emb_option_list[i].commands & command->id)
                print_zsh_option(writer, &emb_option_list[i]);
        }
        emb_writer_text(writer, "\n    ;;\n");
    }
    emb_writer_text(writer, "help) _describe command commands ;;\n*) _files ;;\nesac\n");
}

/* ---- fish ------------------------------------------------------------------------------------ */

static void print_fish_option(emb_writer *writer, const emb_option_entry *entry) {
    emb_writer_text(writer, "complete -c embound -n '__fish_seen_subcommand_from");
    for (size_t c = 0; c < emb_command_list_count; c++) {
        if (entry->commands & emb_command_list[c].id)
            emb_writer_format(writer, " %s", emb_command_list[c].name);
    }
    emb_writer_format(writer, "' -l %s", entry->name + 2);
    if (entry->letter) emb_writer_format(writer, " -s %c", entry->letter);
    if (is_files(entry))
        emb_writer_text(writer, " -r -F");
    else if (entry->value)
        emb_writer_text(writer, " -x");
    if (entry->words && entry->value && !is_files(entry))
        emb_writer_format(writer, " -a '%s'", entry->words);
    emb_writer_text(writer, " -d '");
    print_quoted(writer, entry->help, "\\", "\\'");
    emb_writer_text(writer, "'\n");
}

static void print_fish(emb_writer *writer) {
    emb_writer_text(writer, "# Completion of the embound command for fish.\n" LICENCE);
    for (size_t i = 0; i < emb_command_list_count; i++) {
        emb_writer_format(writer, "complete -c embound -n __fish_use_subcommand -f -a %s -d '",
                          emb_command_list[i].name);
        print_quoted(writer, emb_command_list[i].summary, "\\", "\\'");
        emb_writer_text(writer, "'\n");
    }
    for (size_t i = 0; i < emb_option_list_count; i++) {
        print_fish_option(writer, &emb_option_list[i]);
    }
}

bool emb_completion_print(emb_writer *writer, const char *shell) {
    if (strcmp(shell, "bash") == 0) {
        print_bash(writer);
    } else if (strcmp(shell, "zsh") == 0) {
        print_zsh(writer);
    } else if (strcmp(shell, "fish") == 0) {
        print_fish(writer);
    } else {
        return false;
    }
    return true;
}
