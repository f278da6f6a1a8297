/* monitor.c - `embound monitor`: GPUs, what runs on them, and our own engines, once a second.
 *
 * Takes nothing on a GPU. What a card or its driver does not say is "-", in JSON null.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/print.h"
#include "common/exit.h"
#include "common/nvml.h"
#include "common/say.h"
#include "common/status.h"

#define ENGINES_MAX    256
#define SILENT_SECONDS 5 /* an engine that waits for input does not renew its file */
#define MIB(bytes)     ((double)(bytes) / 1048576)

typedef struct monitor {
    emb_nvml nvml; /* devices_count 0: no GPU can be seen */
    emb_error nvml_error;
    emb_nvml_sample samples[EMB_NVML_DEVICES_MAX];
    emb_engine_status engines[ENGINES_MAX];
    uint32_t engines_count;
    struct timespec now;
} monitor;

static void take_samples(monitor *job) {
    clock_gettime(CLOCK_REALTIME, &job->now);
    for (uint32_t i = 0; i < job->nvml.devices_count; i++) {
        emb_nvml_read(&job->samples[i], &job->nvml, i);
    }
    job->engines_count = emb_status_read_all(job->engines, ENGINES_MAX);
}

static const emb_engine_status *engine_of(const monitor *job, uint32_t pid) {
    for (uint32_t i = 0; i < job->engines_count; i++) {
        if (job->engines[i].pid == pid) return &job->engines[i];
    }
    return NULL;
}

/* What NVML sees of an engine; on several GPUs, on the one where it holds most. */
static uint64_t observed_bytes(const monitor *job, const emb_engine_status *engine) {
    uint64_t most = EMB_NVML_UNKNOWN;
    for (uint32_t i = 0; i < job->nvml.devices_count; i++) {
        const emb_nvml_sample *sample = &job->samples[i];
        for (uint32_t p = 0; p < sample->processes_count; p++) {
            uint64_t bytes = sample->processes[p].bytes;
            if (sample->processes[p].pid != engine->pid || bytes == EMB_NVML_UNKNOWN) continue;
            if (most == EMB_NVML_UNKNOWN || bytes > most) most = bytes;
        }
    }
    return most;
}

/* The program's name; "?" where the process belongs to another container. */
static void process_name(char *out, size_t capacity, uint32_t pid) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, out, capacity - 1) : 0;
    if (descriptor >= 0) close(descriptor);
    if (length <= 0) {
        out[0] = '?';
        length = 1;
    }
    if (out[length - 1] == '\n') length--;
    out[length] = '\0';
    for (char *at = out; *at; at++) {
        if (iscntrl((unsigned char)*at)) *at = '?'; /* a name must not steer the terminal */
    }
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* "412 W" with the number divided, or "- W". */
static void line_value(emb_writer *out, const char *before, uint64_t value, double divisor,
                       int width, const char *unit) {
    if (value == EMB_NVML_UNKNOWN)
        emb_writer_format(out, "%s%*s%s", before, width, "-", unit);
    else
        emb_writer_format(out, "%s%*.0f%s", before, width, (double)value / divisor, unit);
}

static void line_throttle(emb_writer *out, uint64_t bits) {
    const char *between = "";
    emb_writer_text(out, "  throttled by ");
    if (bits == EMB_NVML_UNKNOWN) emb_writer_text(out, "-");
    if (bits == 0) emb_writer_text(out, "nothing");
    for (uint32_t bit = 0; bits != EMB_NVML_UNKNOWN && bit < 64; bit++) {
        if (!(bits >> bit & 1)) continue;
        const char *name = emb_nvml_throttle_name(bit);
        emb_writer_format(out, "%s%s", between, name ? name : "another reason");
        between = ", ";
    }
    emb_writer_text(out, "\n");
}

static void line_process(emb_writer *out, const monitor *job, const emb_nvml_process *process) {
    char name[64];
    const emb_engine_status *engine = engine_of(job, process->pid);
    process_name(name, sizeof name, process->pid);
    emb_writer_format(out, "            process %u", process->pid);
    line_value(out, "  ", process->bytes, 1048576, 6, " MiB");
    emb_writer_format(out, "  %s", name);
    if (engine) emb_writer_format(out, " (engine, %.127s)", engine->model);
    emb_writer_text(out, "\n");
}

static void line_gpu(emb_writer *out, const monitor *job, uint32_t index) {
    const emb_nvml_sample *sample = &job->samples[index];
    emb_writer_format(out, "  gpu %u  %s", index, sample->name[0] ? sample->name : "-");
    line_value(out, "  ", sample->utilization, 1, 3, " %");
    line_value(out, "  ", sample->memory_used, 1048576, 6, "");
    line_value(out, " of ", sample->memory_total, 1048576, 0, " MiB");
    line_value(out, "  ", sample->power, 1000, 4, " W");
    line_value(out, "  ", sample->temperature, 1, 3, " C");
    line_value(out, "  sm ", sample->clock_sm, 1, 4, " MHz");
    line_value(out, "  memory ", sample->clock_memory, 1, 4, " MHz");
    line_throttle(out, sample->throttle);
    for (uint32_t p = 0; p < sample->processes_count; p++) {
        line_process(out, job, &sample->processes[p]);
    }
    if (!sample->processes_known) emb_writer_text(out, "            processes -\n");
}

static void line_engine(emb_writer *out, const monitor *job, const emb_engine_status *engine) {
    emb_writer_format(out, "  engine %" PRIu64 "  %.127s  %.15s on %.15s", engine->pid,
                      engine->model, engine->dtype, engine->device);
    emb_writer_format(out, "  host %.1f of %.1f MiB planned", MIB(engine->host_bytes_peak),
                      MIB(engine->host_bytes_planned));
    if (engine->device_bytes_planned) {
        line_value(out, "  device ", observed_bytes(job, engine), 1048576, 0, "");
        emb_writer_format(out, " of %.0f MiB planned", MIB(engine->device_bytes_planned));
    }
    emb_writer_format(out, "  %.0f tokens/s  %" PRIu64 " texts", engine->tokens_per_second,
                      engine->texts);
    if (engine->age_seconds > SILENT_SECONDS)
        emb_writer_format(out, "  (silent for %.0f s)", engine->age_seconds);
    emb_writer_text(out, "\n");
}

static void print_lines(emb_writer *out, const monitor *job) {
    char clock[16];
    struct tm local;
    localtime_r(&job->now.tv_sec, &local);
    strftime(clock, sizeof clock, "%H:%M:%S", &local);
    for (uint32_t i = 0; i < job->nvml.devices_count; i++) {
        emb_writer_text(out, clock);
        line_gpu(out, job, i);
    }
    for (uint32_t i = 0; i < job->engines_count; i++) {
        emb_writer_text(out, clock);
        line_engine(out, job, &job->engines[i]);
    }
    if (job->nvml.devices_count + job->engines_count == 0)
        emb_writer_format(out, "%s  no engine runs any more\n", clock);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_value(emb_writer *out, const char *key, uint64_t value) {
    emb_writer_format(out, ",\"%s\":", key);
    if (value == EMB_NVML_UNKNOWN)
        emb_writer_text(out, "null");
    else
        emb_writer_u64(out, value);
}

static void json_text(emb_writer *out, const char *key, const char *text) {
    emb_writer_format(out, "\"%s\":", key);
    emb_writer_string(out, text, strlen(text));
}

static void json_throttle(emb_writer *out, uint64_t bits) {
    const char *between = "";
    emb_writer_text(out, ",\"throttle\":");
    if (bits == EMB_NVML_UNKNOWN) {
        emb_writer_text(out, "null");
        return;
    }
    emb_writer_text(out, "[");
    for (uint32_t bit = 0; bit < 64; bit++) {
        if (!(bits >> bit & 1)) continue;
        const char *name = emb_nvml_throttle_name(bit);
        emb_writer_format(out, "%s\"%s\"", between, name ? name : "another reason");
        between = ",";
    }
    emb_writer_text(out, "]");
}

static void json_processes(emb_writer *out, const emb_nvml_sample *sample) {
    emb_writer_text(out, ",\"processes\":");
    if (!sample->processes_known) {
        emb_writer_text(out, "null");
        return;
    }
    for (uint32_t p = 0; p < sample->processes_count; p++) {
        char name[64];
        process_name(name, sizeof name, sample->processes[p].pid);
        emb_writer_format(out, "%s{\"pid\":%u", p ? "," : "[", sample->processes[p].pid);
        json_value(out, "device_bytes", sample->processes[p].bytes);
        emb_writer_text(out, ",");
        json_text(out, "name", name);
        emb_writer_text(out, "}");
    }
    emb_writer_text(out, sample->processes_count ? "]" : "[]");
}

static void json_gpu(emb_writer *out, const emb_nvml_sample *sample, uint32_t index) {
    emb_writer_format(out, "%s{\"index\":%u,", index ? "," : "", index);
    json_text(out, "name", sample->name);
    json_value(out, "utilization_percent", sample->utilization);
    json_value(out, "memory_used_bytes", sample->memory_used);
    json_value(out, "memory_total_bytes", sample->memory_total);
    json_value(out, "power_milliwatts", sample->power);
    json_value(out, "temperature_celsius", sample->temperature);
    json_value(out, "clock_sm_mhz", sample->clock_sm);
    json_value(out, "clock_memory_mhz", sample->clock_memory);
    json_throttle(out, sample->throttle);
    json_processes(out, sample);
    emb_writer_text(out, "}");
}

static void json_engine(emb_writer *out, const monitor *job, uint32_t index) {
    const emb_engine_status *engine = &job->engines[index];
    emb_writer_format(out, "%s{\"pid\":%" PRIu64 ",", index ? "," : "", engine->pid);
    json_text(out, "model", engine->model);
    emb_writer_text(out, ",");
    json_text(out, "device", engine->device);
    emb_writer_text(out, ",");
    json_text(out, "dtype", engine->dtype);
    json_value(out, "host_bytes_planned", engine->host_bytes_planned);
    json_value(out, "host_bytes_now", engine->host_bytes_now);
    json_value(out, "host_bytes_peak", engine->host_bytes_peak);
    json_value(out, "device_bytes_planned", engine->device_bytes_planned);
    json_value(out, "device_bytes_observed", observed_bytes(job, engine));
    json_value(out, "texts", engine->texts);
    json_value(out, "tokens", engine->tokens);
    emb_writer_format(out, ",\"seconds\":%.3f,\"tokens_per_second\":%.1f,\"age_seconds\":%.1f}",
                      engine->seconds, engine->tokens_per_second, engine->age_seconds);
}

static void print_json(emb_writer *out, const monitor *job) {
    emb_writer_format(out, "{\"time\":%lld.%03ld,", (long long)job->now.tv_sec,
                      job->now.tv_nsec / 1000000);
    if (job->nvml.devices_count)
        emb_writer_text(out, "\"nvml_error\":null");
    else
        json_text(out, "nvml_error", job->nvml_error.message);
    emb_writer_text(out, ",\"gpus\":[");
    for (uint32_t i = 0; i < job->nvml.devices_count; i++) json_gpu(out, &job->samples[i], i);
    emb_writer_text(out, "],\"engines\":[");
    for (uint32_t i = 0; i < job->engines_count; i++) json_engine(out, job, i);
    emb_writer_text(out, "]}\n");
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Waits until `due`; false if the reader of standard output has gone meanwhile. */
static bool wait_until(double due) {
    for (;;) {
        double left = due - emb_app_seconds();
        if (left <= 0) return true;
        struct pollfd reader = {.fd = 1};
        if (poll(&reader, 1, (int)(left * 1000) + 1) > 0) return false;
    }
}

static int run_reports(monitor *job, const emb_options *options) {
    emb_writer *out = emb_cli_stdout();
    double due = emb_app_seconds();
    for (uint32_t report = 1;; report++) {
        if (options->json)
            print_json(out, job);
        else
            print_lines(out, job);
        /* emb_cli_finish says what went wrong and gives the code */
        if (emb_writer_flush(out, NULL) != EMB_OK) return EMB_EXIT_OK;
        if (report == options->reports_max) return EMB_EXIT_OK;
        double now = emb_app_seconds();
        due = due + options->interval > now ? due + options->interval : now;
        if (!wait_until(due)) return EMB_EXIT_OUTPUT;
        take_samples(job);
    }
}

int emb_command_monitor(emb_session *session, emb_options *options) {
    static monitor job;
    (void)session;
    emb_status status = emb_nvml_open(&job.nvml, &job.nvml_error);
    if (status == EMB_OK && job.nvml.devices_count == 0)
        snprintf(job.nvml_error.message, sizeof job.nvml_error.message, "NVML knows of no GPU");
    take_samples(&job);
    int code = EMB_EXIT_DEVICE;
    if (job.nvml.devices_count + job.engines_count == 0) {
        emb_app_say("nothing to show: no GPU (%s), and no engine of yours that was started with "
                    "--status",
                    job.nvml_error.message);
    } else {
        if (job.nvml.devices_count == 0 && !options->settings.quiet && !options->json)
            emb_app_say("no GPU is shown: %s", job.nvml_error.message);
        code = run_reports(&job, options);
    }
    emb_nvml_close(&job.nvml);
    return code;
}
