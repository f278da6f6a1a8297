/* command.h - the commands: what each is called, and runs.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_COMMAND_H
#define EMB_CLI_COMMAND_H

#include "cli/options.h"

/* Gives an exit code. */
typedef int (*emb_command_run)(emb_session *session, emb_options *options);

typedef struct emb_command_entry {
    const char *name;
    emb_cli_command id;
    emb_command_run run;
    const char *usage; /* what stands after the name */
    const char *summary, *about;
} emb_command_entry;

extern const emb_command_entry emb_command_list[];
extern const size_t emb_command_list_count;

int emb_command_plan(emb_session *session, emb_options *options);
int emb_command_encode(emb_session *session, emb_options *options);
int emb_command_tokenize(emb_session *session, emb_options *options);
int emb_command_search(emb_session *session, emb_options *options);
int emb_command_eval(emb_session *session, emb_options *options);
int emb_command_info(emb_session *session, emb_options *options);
int emb_command_bench(emb_session *session, emb_options *options);
int emb_command_monitor(emb_session *session, emb_options *options);
int emb_command_pull(emb_session *session, emb_options *options);
int emb_command_tune(emb_session *session, emb_options *options);
int emb_command_quantize(emb_session *session, emb_options *options);
int emb_command_triton_repo(emb_session *session, emb_options *options);
int emb_command_train(emb_session *session, emb_options *options);

#endif
