/* status.c - the small file in which a running engine says what it does, for `embound monitor`.
 *
 * PID.json in $XDG_RUNTIME_DIR/embound or /tmp/embound-UID, replaced atomically about once a
 * second. Process ids are reused, so the file also says when its process began.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "common/members.h"
#include "common/say.h"
#include "fail.h"

#define REWRITE_SECONDS 1.0
#define FOLDERS         2 /* places where files may be */

static emb_status_file *volatile open_file; /* for a signal that ends the process at once */

/* When a process began, in the system's ticks; 0: there is none, or the system does not say. */
static uint64_t process_start(uint32_t pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    ssize_t length = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    text[length > 0 ? length : 0] = '\0';
    /* the second field is a name in brackets, in which anything may stand */
    const char *at = strrchr(text, ')');
    for (int field = 3; at && field <= 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

static bool is_alive(uint32_t pid, uint64_t started) {
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) return false;
    return started == 0 || process_start(pid) == started;
}

/* Place number `which`, or false if there is none. */
static bool folder_path(char *out, size_t capacity, uint32_t which) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;
    if (which == 1) {
        length = snprintf(out, capacity, "/tmp/embound-%u", (unsigned)geteuid());
    } else {
        if (!runtime || *runtime != '/') return false;
        length = snprintf(out, capacity, "%s/embound", runtime);
    }
    return length > 0 && (size_t)length < capacity;
}

/* Opens a folder that nobody else can write to; `*out` is -1 if it is not there. Fails: EMB_IO. */
static emb_status open_folder(int *out, const char *path, emb_error *error) {
    struct stat status;
    *out = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*out < 0 && errno == ENOENT) return EMB_OK;
    if (*out < 0) {
        bool other = errno == ENOTDIR || errno == ELOOP;
        return emb_app_fail(error, EMB_IO, "--status: %.*s: %s; remove it or leave out --status",
                            EMB_APP_CUT(path, 120),
                            other ? "a link or no folder" : strerror(errno));
    }
    bool ours = fstat(*out, &status) == 0 && status.st_uid == geteuid();
    if (ours && (status.st_mode & 022) == 0) return EMB_OK;
    close(*out);
    *out = -1;
    return emb_app_fail(error, EMB_IO, "--status: %.*s %s; remove it or leave out --status",
                        EMB_APP_CUT(path, 120),
                        ours ? "can be written by others" : "belongs to another user");
}

/* ---- writing --------------------------------------------------------------------------------- */

emb_status emb_status_file_open(emb_status_file *file, const emb_status_of *of, emb_error *error) {
    char path[PATH_MAX];
    uint32_t pid = (uint32_t)getpid();
    char *buffer = file->buffer;
    memset(file, 0, sizeof *file);
    file->buffer = buffer;
    file->of = *of;
    file->folder = -1;
    file->started = process_start(pid);
    snprintf(file->name, sizeof file->name, "%u.json", pid);
    snprintf(file->temporary, sizeof file->temporary, ".%u.json", pid);
    for (uint32_t i = 0; i < FOLDERS && file->folder < 0; i++) {
        if (!folder_path(path, sizeof path, i)) continue;
        if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != ENOENT) {
            return emb_app_fail(error, EMB_IO, "--status: %.*s cannot be made: %s",
                                EMB_APP_CUT(path, 120), strerror(errno));
        }
        EMB_APP_TRY(open_folder(&file->folder, path, error));
    }
    if (file->folder < 0) {
        return emb_app_fail(error, EMB_IO,
                            "--status: there is no /tmp for the file; set "
                            "XDG_RUNTIME_DIR to a folder");
    }
    open_file = file;
    emb_status_file_write(file);
    return EMB_OK;
}

/* Over the last few writes: steady even if work finishes in bursts, yet current. */
static double recent_rate(emb_status_file *file, const emb_engine_stats_t *stats) {
    emb_status_mark *mark = &file->marks[file->writes++ % EMB_STATUS_MARKS];
    double seconds = stats->seconds - mark->seconds;
    double rate = seconds > 1e-3 ? (double)(stats->tokens - mark->tokens) / seconds : 0;
    *mark = (emb_status_mark){stats->tokens, stats->seconds};
    return rate;
}

static size_t compose(emb_status_file *file) {
    const emb_plan *plan = file->of.plan;
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    emb_engine_stats(&stats, file->of.engine);
    emb_writer out; /* never full: the model's name is the only text, and it is short */
    emb_writer_init(&out, NULL, file->buffer, EMB_STATUS_BYTES);
    emb_writer_format(&out, "{\"version\":\"%s\",\"pid\":%u", emb_version(), (unsigned)getpid());
    emb_members_write_number(&out, "started", file->started);
    emb_members_write_text(&out, "model", file->of.model);
    emb_members_write_one(&out, EMB_STRUCT_PLAN, plan, "device");
    emb_members_write_one(&out, EMB_STRUCT_PLAN, plan, "dtype");
    emb_members_write_number(&out, "host_bytes_planned", plan->host_bytes);
    emb_members_write_number(&out, "host_bytes_now", stats.host_bytes_now);
    emb_members_write_number(&out, "host_bytes_peak", stats.host_bytes_peak);
    emb_members_write_number(&out, "device_bytes_planned", plan->device_bytes);
    emb_members_write_number(&out, "texts", stats.texts);
    emb_members_write_number(&out, "tokens", stats.tokens);
    emb_writer_format(&out, ",\"seconds\":%.3f,\"tokens_per_second\":%.1f}\n", stats.seconds,
                      recent_rate(file, &stats));
    return out.used;
}

void emb_status_file_write(emb_status_file *file) {
    double now = emb_app_seconds();
    if (file->folder < 0 || (file->writes && now - file->written < REWRITE_SECONDS)) return;
    file->written = now;
    size_t length = compose(file);
    int failed = emb_file_replace(file->folder, file->temporary, file->name, 0600, file->buffer,
                                  length, false);
    if (!failed) return;
    emb_app_say("--status: the file cannot be written (%s); the work goes on without it",
                strerror(failed));
    emb_status_file_close(file);
}

void emb_status_file_close(emb_status_file *file) {
    if (file->folder < 0) return;
    emb_status_file_abort();
    open_file = NULL;
    close(file->folder);
    file->folder = -1;
}

void emb_status_file_abort(void) {
    if (!open_file) return;
    unlinkat(open_file->folder, open_file->temporary, 0);
    unlinkat(open_file->folder, open_file->name, 0);
}

/* ---- reading --------------------------------------------------------------------------------- */

static emb_status read_field(emb_json *json, emb_engine_status *out, const char *key,
                             emb_error *error) {
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"pid", &out->pid},
                   {"started", &out->started},
                   {"host_bytes_planned", &out->host_bytes_planned},
                   {"host_bytes_now", &out->host_bytes_now},
                   {"host_bytes_peak", &out->host_bytes_peak},
                   {"device_bytes_planned", &out->device_bytes_planned},
                   {"texts", &out->texts},
                   {"tokens", &out->tokens}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(key, numbers[i].name) != 0) continue;
        return emb_json_next_u64(json, numbers[i].value, key, error);
    }
    if (strcmp(key, "model") == 0)
        return emb_json_next_string(json, out->model, sizeof out->model, key, error);
    if (strcmp(key, "device") == 0)
        return emb_json_next_string(json, out->device, sizeof out->device, key, error);
    if (strcmp(key, "dtype") == 0)
        return emb_json_next_string(json, out->dtype, sizeof out->dtype, key, error);
    if (strcmp(key, "seconds") == 0) return emb_json_next_double(json, &out->seconds, key, error);
    if (strcmp(key, "tokens_per_second") == 0)
        return emb_json_next_double(json, &out->tokens_per_second, key, error);
    return emb_json_skip(json, error);
}

static emb_status parse(emb_engine_status *out, const char *text, size_t length, emb_error *error) {
    unsigned char buffer[512];
    emb_json_memory memory = {text, length};
    emb_json json;
    emb_json_event event;
    memset(out, 0, sizeof *out);
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    EMB_APP_TRY(emb_json_next(&json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN) return EMB_BAD_FILE;
    for (;;) {
        char key[32];
        size_t key_length;
        EMB_APP_TRY(emb_json_next(&json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        EMB_APP_TRY(emb_json_string(&json, key, sizeof key, &key_length, error));
        EMB_APP_TRY(read_field(&json, out, key, error));
    }
}

/* Reads one file; false if it says nothing that can be used. */
static bool read_file(emb_engine_status *out, int folder, const char *name) {
    char text[EMB_STATUS_BYTES];
    struct stat status;
    struct timespec now;
    emb_error error;
    int descriptor = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return false;
    bool ours =
        fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid();
    ssize_t length = ours ? read(descriptor, text, sizeof text) : -1;
    close(descriptor);
    if (length <= 0 || parse(out, text, (size_t)length, &error) != EMB_OK) return false;
    clock_gettime(CLOCK_REALTIME, &now);
    double age = (double)(now.tv_sec - status.st_mtim.tv_sec) +
                 (double)(now.tv_nsec - status.st_mtim.tv_nsec) * 1e-9;
    out->age_seconds = age > 0 ? age : 0;
    return true;
}

/* "123.json" or ".123.json" -> 123; 0: another name. */
static uint32_t pid_of(const char *name) {
    char *end;
    if (*name == '.') name++;
    if (*name < '1' || *name > '9') return 0;
    unsigned long pid = strtoul(name, &end, 10);
    return strcmp(end, ".json") == 0 && pid <= INT32_MAX ? (uint32_t)pid : 0;
}

static uint32_t read_folder(emb_engine_status *out, uint32_t capacity, const char *path) {
    emb_error error;
    uint32_t count = 0;
    int folder;
    if (open_folder(&folder, path, &error) != EMB_OK || folder < 0) return 0;
    DIR *listing = fdopendir(folder);
    if (!listing) {
        close(folder);
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(listing));) {
        emb_engine_status one = {0};
        uint32_t pid = pid_of(entry->d_name);
        if (pid == 0) continue;
        bool read = *entry->d_name != '.' && read_file(&one, folder, entry->d_name);
        if (!is_alive(pid, read ? one.started : 0)) {
            unlinkat(folder, entry->d_name, 0);
        } else if (read && one.pid == pid && count < capacity) {
            out[count++] = one;
        }
    }
    closedir(listing);
    return count;
}

static int by_pid(const void *a, const void *b) {
    const emb_engine_status *left = a, *right = b;
    return (left->pid > right->pid) - (left->pid < right->pid);
}

uint32_t emb_status_read_all(emb_engine_status *out, uint32_t capacity) {
    char path[PATH_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < FOLDERS; i++) {
        if (folder_path(path, sizeof path, i))
            count += read_folder(out + count, capacity - count, path);
    }
    qsort(out, count, sizeof *out, by_pid);
    return count;
}
