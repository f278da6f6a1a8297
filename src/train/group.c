/* group.c - trainers of several GPUs that work as one: a thread for each, which go through a step
 * side by side and meet inside it, where the loss needs all vectors and the update all gradients.
 *
 * Each does the same update with the same sums, so that their parameters stay the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "train/trainer.h"

typedef struct call {
    emb_trainer *first;
    emb_group_part part;
    void *user;
    emb_status statuses[EMB_DEVICES_MAX];
    emb_error errors[EMB_DEVICES_MAX];
} call;

static void run_member(void *user, uint32_t index, uint32_t count) {
    call *c = user;
    emb_trainer *member = c->first->group.members[index];
    emb_device_thread before = {0};
    (void)count;
    member->device->calls->enter(&before, member->gpu.index);
    c->statuses[index] = c->part(c->user, member, &c->errors[index]);
    member->device->calls->leave(&before);
}

emb_status emb_group_run(emb_trainer *first, emb_group_part part, void *user, emb_error *error) {
    call c = {.first = first, .part = part, .user = user};
    emb_team_run(&first->group.team, run_member, &c);
    for (uint32_t i = 0; i < first->group.count; i++) {
        if (c.statuses[i] == EMB_OK) continue;
        if (error) *error = c.errors[i];
        return c.statuses[i];
    }
    return EMB_OK;
}

emb_status emb_group_meet(emb_trainer *first, emb_error *error) {
    emb_train_group *group = &first->group;
    void *states[EMB_DEVICES_MAX];
    for (uint32_t i = 0; i < group->count; i++) states[i] = group->members[i]->state;
    return first->device->meet(states, group->count, &group->device_bytes, error);
}

static emb_status copy_first(void *user, emb_trainer *member, emb_error *error) {
    const emb_train_run *run = &member->lane.run;
    emb_optimizer_part parts[EMB_TRAINER_PARTS];
    (void)user;
    emb_trainer_list(parts, member);
    for (uint32_t i = 0; i < EMB_TRAINER_PARTS; i++)
        if (parts[i].count) member->device->copy_first(run, parts[i].bytes, parts[i].count);
    return member->device->finish(run, error);
}

emb_status emb_group_copy_first(emb_trainer *first, emb_error *error) {
    for (uint32_t i = 1; i < first->group.count; i++) {
        emb_trainer *member = first->group.members[i];
        member->optimizer.step = first->optimizer.step;
        member->part = first->part;
        member->broken = first->broken;
        member->options.seed = first->options.seed;
    }
    return emb_group_run(first, copy_first, NULL, error);
}

/* ---- a step ---------------------------------------------------------------------------------- */

typedef struct job {
    const emb_text *texts;
    uint32_t examples, count;
    emb_train_step steps[EMB_DEVICES_MAX]; /* what each says */
} job;

static emb_status read_share(void *user, emb_trainer *member, emb_error *error) {
    const job *j = user;
    uint32_t begin = emb_team_begin(j->examples, 1, member->rank, j->count);
    uint32_t end = emb_team_begin(j->examples, 1, member->rank + 1, j->count);
    return emb_trainer_read(member, j->texts, begin, end - begin, j->examples, error);
}

static emb_status compute(void *user, emb_trainer *member, emb_error *error) {
    job *j = user;
    return emb_trainer_compute(&j->steps[member->rank], member, NULL, error);
}

/* No member begins to compute before all have read: one that failed would be waited for. */
emb_status emb_group_step(emb_train_step *out, emb_trainer *first, const emb_text *texts,
                          uint32_t examples, emb_error *error) {
    job j = {.texts = texts, .examples = examples, .count = first->group.count};
    EMB_TRY(emb_group_run(first, read_share, &j, error));
    EMB_TRY(emb_group_run(first, compute, &j, error));
    *out = j.steps[0]; /* loss and norm are those of all */
    out->tokens = out->truncated = 0;
    for (uint32_t i = 0; i < j.count; i++) {
        out->tokens += first->group.members[i]->batch.tokens;
        out->truncated += first->group.members[i]->batch.truncated;
    }
    return EMB_OK;
}
