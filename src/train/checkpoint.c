/* checkpoint.c - a trainer's whole state as one file, and back: training goes on with the same
 * bits.
 *
 * The file is written beside its place and gets its name when it is on the disk, so that at every
 * instant there is a whole one. A header of fixed size, then the parameters, then the moments. It
 * is read twice: its checksum is known to be right before any of it counts.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "train/trainer.h"

#define FORMAT 1
#define MAGIC  "EMBTRAIN" /* without its NUL */

typedef struct header {
    char magic[8]; /* MAGIC */
    uint32_t format, bytes;
    uint64_t shape; /* of the model: a checksum of its table of parameters */
    uint64_t values, step, seed;
    uint32_t optimizer_bits, optimizer; /* optimizer: as optimizer_of */
    emb_train_mark mark;
    uint64_t data;  /* checksum of all that follows */
    uint64_t whole; /* checksum of this header up to here */
} header;

typedef emb_optimizer_part part;

enum { PARTS = EMB_TRAINER_PARTS };

/* As emb_hash_bytes, but over words of 8 bytes: states are large. The bytes that are left follow
 * one by one. */
static uint64_t checksum(uint64_t sum, const void *bytes, uint64_t count) {
    const unsigned char *at = bytes;
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        sum = (sum ^ word) * 0x100000001b3u;
        sum ^= sum >> 29;
    }
    return emb_hash_bytes(sum, at, count);
}

/* How much of what is left goes at once: whole words of the checksum. */
static uint64_t piece(uint64_t left) {
    return left < EMB_TRAIN_STAGING ? left : EMB_TRAIN_STAGING;
}

void emb_trainer_list(part *parts, const emb_trainer *t) {
    parts[0] = (part){t->lane.values, t->optimizer.params->values * sizeof(float)};
    emb_optimizer_list(parts + 1, &t->optimizer);
}

/* 0: AdamW; 1: SGD; 2: with momentum. */
static uint32_t optimizer_of(const emb_trainer *t) {
    if (t->optimizer.kind == EMB_OPTIMIZER_ADAMW) return 0;
    return t->optimizer.m ? 2 : 1;
}

/* Adapters are worth nothing without the parameters that they were trained over. */
static uint64_t shape_of(const emb_trainer *t) {
    const emb_params *params = t->optimizer.params;
    uint64_t sum = EMB_HASH_START;
    if (t->lane.lora) {
        const emb_lora *lora = t->lane.lora;
        sum = checksum(sum, lora->values, lora->base.values * sizeof(float));
        sum = checksum(sum, lora->stored, lora->base.stored);
        sum = checksum(sum, &lora->scale, sizeof lora->scale);
    }
    for (uint32_t i = 0; i < params->count; i++) {
        const emb_param *p = &params->tensors[i];
        uint64_t words[] = {(uint64_t)p->role, p->layer, p->rows, p->cols, p->first};
        sum = checksum(sum, words, sizeof words);
    }
    return sum;
}

static header make_header(const emb_trainer *t, const emb_train_mark *mark, const part *parts) {
    header h = {.magic = MAGIC, .format = FORMAT, .bytes = sizeof h};
    h.shape = shape_of(t);
    h.values = t->optimizer.params->values;
    h.step = t->optimizer.step;
    h.seed = t->options.seed;
    h.optimizer_bits = t->optimizer.eight ? 8 : 32;
    h.optimizer = optimizer_of(t);
    if (mark) h.mark = *mark;
    h.data = EMB_HASH_START;
    for (uint32_t i = 0; i < PARTS; i++) {
        const unsigned char *from = parts[i].bytes;
        for (uint64_t left = parts[i].count, some; left; left -= some, from += some) {
            some = piece(left);
            h.data = checksum(h.data, emb_trainer_see(t, from, some), some);
        }
    }
    h.whole = checksum(EMB_HASH_START, &h, offsetof(header, whole));
    return h;
}

static emb_status write_state(int descriptor, const emb_trainer *t, const emb_train_mark *mark,
                              const char *path, emb_error *error) {
    part parts[PARTS];
    emb_trainer_list(parts, t);
    header h = make_header(t, mark, parts);
    uint64_t at = sizeof h;
    EMB_TRY(emb_file_write_at(descriptor, &h, sizeof h, 0, path, error));
    for (uint32_t i = 0; i < PARTS; i++) {
        const unsigned char *from = parts[i].bytes;
        for (uint64_t left = parts[i].count, some; left; left -= some, from += some) {
            some = piece(left);
            EMB_TRY(emb_file_write_at(descriptor, emb_trainer_see(t, from, some), some, at, path,
                                      error));
            at += some;
        }
    }
    return EMB_OK;
}

/* What is at the place may be replaced if it is empty or a checkpoint. */
static emb_status check_place(const char *path, emb_error *error) {
    struct stat about;
    char magic[8] = "";
    int descriptor;
    uint64_t bytes;
    if (lstat(path, &about) != 0) return EMB_OK;
    if (S_ISREG(about.st_mode) && about.st_size == 0) return EMB_OK;
    if (S_ISREG(about.st_mode)) {
        EMB_TRY(emb_file_open(&descriptor, &bytes, path, error));
        bool read = bytes >= sizeof magic &&
                    emb_file_read_at(descriptor, magic, sizeof magic, 0, path, NULL) == EMB_OK;
        emb_file_close(descriptor);
        if (read && memcmp(magic, MAGIC, sizeof magic) == 0) return EMB_OK;
    }
    return emb_error_set(error, EMB_INVALID_ARGUMENT,
                         "%s: is there and is no checkpoint; name another file", path);
}

emb_status emb_trainer_store(const emb_trainer *t, const char *path, const emb_train_mark *mark,
                             emb_error *error) {
    char temporary[EMB_DIRECTORY_PATH];
    int descriptor;
    if (!t || !path || !*path)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "trainer and path must not be NULL, the path not empty");
    int length = snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid());
    if (length <= 0 || (size_t)length >= sizeof temporary)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%.60s...: the path is too long", path);
    EMB_TRY(check_place(path, error));
    EMB_TRY(emb_trainer_check_finite(t, error));
    emb_tree_clear(path);
    EMB_TRY(emb_file_create(&descriptor, temporary, error));
    emb_status status = write_state(descriptor, t, mark, path, error);
    int failed = status == EMB_OK ? emb_file_publish(AT_FDCWD, descriptor, temporary, path) : 0;
    if (failed)
        status = emb_error_set(error, EMB_IO, "%s: cannot be written: %s; the one before stays",
                               path, strerror(failed));
    emb_file_close(descriptor);
    if (status != EMB_OK) unlink(temporary);
    return status;
}

static emb_status check_header(const header *h, const emb_trainer *t, const char *path,
                               emb_error *error) {
    uint32_t bits = t->optimizer.eight ? 8 : 32;
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0 || h->bytes != sizeof *h)
        return emb_error_set(error, EMB_BAD_FILE, "%s: is no checkpoint of a training", path);
    if (h->format != FORMAT)
        return emb_error_set(error, EMB_UNSUPPORTED, "%s: is of format %u; this version reads %u",
                             path, h->format, FORMAT);
    if (h->whole != checksum(EMB_HASH_START, h, offsetof(header, whole)))
        return emb_error_set(error, EMB_BAD_FILE, "%s: its header is damaged", path);
    if (h->shape != shape_of(t) || h->values != t->optimizer.params->values)
        return emb_error_set(error, EMB_BAD_FILE, "%s: is of %s; state what was trained", path,
                             t->lane.lora ? "another model or other adapters"
                                          : "a model of another shape");
    if (h->optimizer != optimizer_of(t))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%s: is of another optimizer, or of another with momentum: state the "
                             "same",
                             path);
    if (h->optimizer_bits != bits)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%s: its optimizer has %u bits, this one %u: state the same", path,
                             h->optimizer_bits, bits);
    return EMB_OK;
}

/* Reads all parts: to their places, or a piece after the other into `elsewhere`. */
static emb_status read_parts(const emb_trainer *t, int descriptor, const part *parts,
                             void *elsewhere, uint64_t *sum, const char *path, emb_error *error) {
    uint64_t at = sizeof(header);
    *sum = EMB_HASH_START;
    for (uint32_t i = 0; i < PARTS; i++) {
        unsigned char *to = parts[i].bytes;
        for (uint64_t left = parts[i].count, some; left; left -= some, to += some, at += some) {
            some = piece(left);
            void *room = emb_trainer_room(t, elsewhere ? elsewhere : to);
            EMB_TRY(emb_file_read_at(descriptor, room, some, at, path, error));
            *sum = checksum(*sum, room, some);
            if (!elsewhere) emb_trainer_put(t, to, some);
        }
    }
    return EMB_OK;
}

/* What a whole file of this trainer has. */
static uint64_t state_bytes(const part *parts) {
    uint64_t bytes = sizeof(header);
    for (uint32_t i = 0; i < PARTS; i++) bytes += parts[i].count;
    return bytes;
}

static emb_status read_state(int descriptor, uint64_t bytes, emb_trainer *t, emb_train_mark *mark,
                             const char *path, emb_error *error) {
    header h;
    part parts[PARTS];
    uint64_t sum;
    emb_trainer_list(parts, t);
    if (bytes < sizeof h)
        return emb_error_set(error, EMB_BAD_FILE, "%s: is no checkpoint of a training", path);
    EMB_TRY(emb_file_read_at(descriptor, &h, sizeof h, 0, path, error));
    EMB_TRY(check_header(&h, t, path, error));
    if (bytes != state_bytes(parts))
        return emb_error_set(error, EMB_BAD_FILE, "%s: was cut: %llu bytes of %llu", path,
                             (unsigned long long)bytes, (unsigned long long)state_bytes(parts));
    /* gradients are not at work between two steps */
    EMB_TRY(read_parts(t, descriptor, parts, t->lane.gradients, &sum, path, error));
    if (sum != h.data)
        return emb_error_set(error, EMB_BAD_FILE, "%s: is damaged: its checksum is another", path);
    EMB_TRY(read_parts(t, descriptor, parts, NULL, &sum, path, error));
    if (sum != h.data) return emb_error_set(error, EMB_IO, "%s: changed while it was read", path);
    t->optimizer.step = h.step;
    t->part = 0;
    t->broken = false;
    t->options.seed = h.seed;
    if (mark) *mark = h.mark;
    return EMB_OK;
}

emb_status emb_trainer_resume(emb_train_mark *mark, emb_trainer *t, const char *path,
                              emb_error *error) {
    int descriptor;
    uint64_t bytes;
    if (!t || !path)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "trainer and path must not be NULL");
    EMB_TRY(emb_file_open(&descriptor, &bytes, path, error));
    emb_status status = read_state(descriptor, bytes, t, mark, path, error);
    emb_file_close(descriptor);
    if (status == EMB_OK && t->group.count) status = emb_group_copy_first(t, error);
    return status;
}
