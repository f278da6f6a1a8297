/* tensorboard.c - writes Event messages (wall_time 1, step 2, file_version 3, summary 5 of values
 * with tag 1 and simple_value 2) as TFRecords.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "fail.h"

enum { SCALARS_MAX = 8, VALUE_MAX = 16 + EMB_TENSORBOARD_TAG, HEAD = 12, TAIL = 4 };

/* A message that is being put together. */
typedef struct message {
    unsigned char bytes[HEAD + 64 + SCALARS_MAX * VALUE_MAX + TAIL];
    size_t used;
} message;

/* ---- checksums ------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli), masked as TFRecord wants it. */
static uint32_t checksum(const unsigned char *bytes, size_t count) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- protocol buffers ------------------------------------------------------------------------ */

static void put_little(unsigned char *out, uint64_t value, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> 8 * i);
}

static void put_fixed(message *m, unsigned char key, const void *value, uint32_t bytes) {
    uint64_t bits = 0;
    memcpy(&bits, value, bytes);
    m->bytes[m->used++] = key;
    put_little(m->bytes + m->used, bits, bytes);
    m->used += bytes;
}

static void put_number(message *m, unsigned char key, uint64_t value) {
    m->bytes[m->used++] = key;
    for (; value >= 128; value >>= 7) m->bytes[m->used++] = (unsigned char)(value | 128);
    m->bytes[m->used++] = (unsigned char)value;
}

static void put_bytes(message *m, unsigned char key, const void *bytes, size_t count) {
    put_number(m, key, count);
    memcpy(m->bytes + m->used, bytes, count);
    m->used += count;
}

enum {
    KEY_WALL_TIME = 1 << 3 | 1,
    KEY_STEP = 2 << 3 | 0,
    KEY_FILE_VERSION = 3 << 3 | 2,
    KEY_SUMMARY = 5 << 3 | 2,
    KEY_VALUE = 1 << 3 | 2, /* of a summary */
    KEY_TAG = 1 << 3 | 2,   /* of a value */
    KEY_SIMPLE_VALUE = 2 << 3 | 5
};

static void begin(message *m) {
    struct timeval now;
    gettimeofday(&now, NULL);
    double seconds = (double)now.tv_sec + (double)now.tv_usec * 1e-6;
    m->used = HEAD;
    put_fixed(m, KEY_WALL_TIME, &seconds, sizeof seconds);
}

/* Puts length and checksums around the message, and writes it behind the others. */
static emb_status write_record(emb_tensorboard *out, message *m, emb_error *error) {
    size_t length = m->used - HEAD;
    put_little(m->bytes, length, 8);
    put_little(m->bytes + 8, checksum(m->bytes, 8), 4);
    put_little(m->bytes + m->used, checksum(m->bytes + HEAD, length), TAIL);
    int failed = emb_file_write(out->descriptor, m->bytes, m->used + TAIL, out->at, NULL);
    if (failed)
        return emb_app_fail(error, EMB_IO, "%.*s: %s", EMB_APP_CUT(out->path, 150),
                            strerror(failed));
    out->at += m->used + TAIL;
    return EMB_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

emb_status emb_tensorboard_open(emb_tensorboard *out, const char *directory, emb_error *error) {
    static const char version[] = "brain.Event:2";
    char host[64] = "localhost", folder[1024];
    struct timeval now;
    message m;
    gettimeofday(&now, NULL);
    (void)gethostname(host, sizeof host - 1);
    *out = (emb_tensorboard){.descriptor = -1};
    int length =
        snprintf(out->path, sizeof out->path, "%s/events.out.tfevents.%010lld.%s.%ld.%06ld",
                 directory, (long long)now.tv_sec, host, (long)getpid(), (long)now.tv_usec);
    int failed = ENAMETOOLONG;
    if (length > 0 && (size_t)length < sizeof out->path) {
        memcpy(folder, directory, strlen(directory) + 1);
        failed = emb_file_make_folders(folder, 0777);
    }
    if (!failed) {
        out->descriptor = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out->descriptor < 0) failed = errno;
    }
    if (failed)
        return emb_app_fail(error, EMB_IO, "%.*s: %s", EMB_APP_CUT(directory, 150),
                            strerror(failed));
    begin(&m);
    put_bytes(&m, KEY_FILE_VERSION, version, sizeof version - 1);
    return write_record(out, &m, error);
}

emb_status emb_tensorboard_add(emb_tensorboard *out, uint64_t step,
                               const emb_tensorboard_scalar *scalars, uint32_t count,
                               emb_error *error) {
    message m, summary = {.used = 0}, value;
    begin(&m);
    put_number(&m, KEY_STEP, step);
    for (uint32_t i = 0; i < count && i < SCALARS_MAX; i++) {
        float number = (float)scalars[i].value;
        value.used = 0;
        put_bytes(&value, KEY_TAG, scalars[i].tag, strnlen(scalars[i].tag, EMB_TENSORBOARD_TAG));
        put_fixed(&value, KEY_SIMPLE_VALUE, &number, sizeof number);
        put_bytes(&summary, KEY_VALUE, value.bytes, value.used);
    }
    put_bytes(&m, KEY_SUMMARY, summary.bytes, summary.used);
    return write_record(out, &m, error);
}

void emb_tensorboard_close(emb_tensorboard *out) {
    if (out->descriptor >= 0) close(out->descriptor);
    out->descriptor = -1;
}
