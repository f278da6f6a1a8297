/* session.h - what every job on a model has: machine, model, plan, one block of memory, engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_SESSION_H
#define EMB_COMMON_SESSION_H

#include <stdbool.h>

#include "common/tuning.h"
#include "embound.h"

/* What the user states about it. */
typedef struct emb_session_settings {
    emb_limits limits;
    emb_device_list devices;
    bool device_stated; /* by an option, not by EMB_DEVICE */
    char device_by[64]; /* "EMB_DEVICE=cuda" if that chose the device; else empty */
    bool dtype_auto;
    bool quiet;
    emb_tune tune;
    bool opens_nothing; /* a plan is all that is made: no kernels are looked up or timed */
} emb_session_settings;

typedef struct emb_session {
    emb_machine machine;
    emb_model *model;
    emb_model_info info;
    emb_limits limits;
    emb_plan plan;
    emb_engine *engine;
    emb_tuned tuned;
    unsigned char *block; /* everything that the job keeps: limits.caller_bytes */
    uint64_t block_used;
} emb_session;

/* Measures the machine, its GPUs only if they are looked at. Call first, before other memory is
 * used. */
emb_status emb_session_probe(emb_session *session, const emb_session_settings *settings,
                             bool looks_at_gpus, emb_error *error);

/* Opens the model at `path` (a path, or a name in the hub cache). */
emb_status emb_session_open_model(emb_session *session, const char *path, emb_error *error);

/* Makes the plan, with `caller_bytes` for ourselves. */
emb_status emb_session_plan(emb_session *session, const emb_session_settings *settings,
                            uint64_t caller_bytes, emb_error *error);

/* Takes the block that the plan has booked for ourselves, every page resident. */
emb_status emb_session_open_block(emb_session *session, emb_error *error);

/* Opens the engine, which signals then cancel, and keeps what it found of a GPU's kernels. */
emb_status emb_session_open_engine(emb_session *session, emb_error *error);

/* See emb_tuning_keep. */
emb_status emb_session_keep_tuning(emb_session *session, emb_error *error);

/* Takes bytes from the block. Never fails: they were booked. */
void *emb_session_take(emb_session *session, uint64_t bytes);

/* Closes engine and model; the block stays, for a second model. */
void emb_session_close_model(emb_session *session);

/* Closes engine, model and block; the machine stays. */
void emb_session_close(emb_session *session);

/* Rounds a size up to what emb_session_take uses. */
uint64_t emb_session_round(uint64_t bytes);

/* Gives in `prompt`, unless one is stated there, the model's of that name (NULL: its default one),
 * or NULL. Fails: EMB_INVALID_ARGUMENT (no such prompt name; both are stated). */
emb_status emb_session_prompt(const char **prompt, const emb_session *session, const char *name,
                              emb_error *error);

/* emb_exit_say_device, which for EMB_BUDGET names minima that can be pasted. */
int emb_session_fail(const emb_session *session, const emb_session_settings *settings,
                     emb_status status, const emb_error *error);

#endif
