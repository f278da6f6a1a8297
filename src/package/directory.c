/* directory.c - a model's directory anew: files in a temporary folder beside its place, which is
 * moved there when all are whole.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "package/directory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

#define COPY_BYTES 16384

void emb_directory_layout(emb_directory *out, emb_ledger *ledger) {
    out->written = emb_ledger_take(ledger, EMB_DIRECTORY_FILES, sizeof *out->written);
}

static emb_status join(char *out, const char *folder, const char *name, emb_error *error) {
    const char *slash = *name ? "/" : "";
    int length = snprintf(out, EMB_DIRECTORY_PATH, "%s%s%s", folder, slash, name);
    if (length > 0 && length < EMB_DIRECTORY_PATH) return EMB_OK;
    return emb_error_set(error, EMB_INVALID_ARGUMENT, "%.60s...: the path is too long", folder);
}

/* An existing directory may be replaced if it is empty, or if its maker wrote it and overwrite is
 * set. */
static emb_status check_place(const emb_directory *out, emb_error *error) {
    struct stat about;
    char marker[EMB_DIRECTORY_PATH];
    const char *slash = strrchr(out->final, '/'), *name = slash ? slash + 1 : out->final;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) /* what is in use cannot be moved */
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%s: state the directory's own name, not '.' or '..'", out->final);
    if (lstat(out->final, &about) != 0) return EMB_OK;
    if (!S_ISDIR(about.st_mode))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%s: is there and is not a directory; name another", out->final);
    EMB_TRY(join(marker, out->final, out->maker->marker, error));
    bool ours = lstat(marker, &about) == 0, empty = false;
    if (ours && out->overwrite) return EMB_OK;
    if (!ours) EMB_TRY(emb_tree_empty(out->final, &empty, error));
    if (empty) return EMB_OK;
    return emb_error_set(error, EMB_INVALID_ARGUMENT,
                         ours ? "%s: is there already; --force replaces it"
                              : "%s: is there already, and not by %s; name another directory",
                         out->final, out->maker->name);
}

/* Its name is noted first, so that everything can be removed without listing folders. */
emb_status emb_directory_create(emb_directory *out, int *descriptor, char *path, const char *name,
                                emb_error *error) {
    EMB_TRY(join(path, out->temporary, name, error));
    if (strlen(name) >= EMB_DIRECTORY_NAME || out->written_count == EMB_DIRECTORY_FILES)
        return emb_error_set(error, EMB_INTERNAL, "%s: too many files or too long a name", name);
    memcpy(out->written[out->written_count++], name, strlen(name) + 1);
    char *slash = strrchr(path, '/');
    *slash = 0;
    int failed = emb_file_make_folders(path, 0777);
    if (failed)
        return emb_error_set(error, EMB_IO, "%s: cannot be made: %s", path, strerror(failed));
    *slash = '/';
    return emb_file_create(descriptor, path, error);
}

emb_status emb_directory_open(emb_directory *out, const char *path, emb_error *error) {
    out->written_count = 0; /* of a directory before */
    EMB_TRY(join(out->final, path, "", error));
    for (size_t length = strlen(out->final); length > 1 && out->final[length - 1] == '/';)
        out->final[--length] = 0;
    EMB_TRY(check_place(out, error));
    emb_tree_clear(out->final);
    int length =
        snprintf(out->temporary, sizeof out->temporary, "%s.tmp-%ld", out->final, (long)getpid());
    bool fits = length > 0 && (size_t)length < sizeof out->temporary;
    if (fits && mkdir(out->temporary, 0777) == 0) return EMB_OK;
    int reason = fits ? errno : ENAMETOOLONG;
    out->temporary[0] = 0; /* not ours to remove */
    return emb_error_set(error, EMB_IO, "%s: no directory can be made there: %s", out->final,
                         strerror(reason));
}

static emb_status copy_bytes(int from, const char *from_path, int to, const char *to_path,
                             uint64_t bytes, emb_error *error) {
    unsigned char block[COPY_BYTES];
    for (uint64_t done = 0; done < bytes;) {
        size_t part = bytes - done < sizeof block ? (size_t)(bytes - done) : sizeof block;
        EMB_TRY(emb_file_read_at(from, block, part, done, from_path, error));
        EMB_TRY(emb_file_write_at(to, block, part, done, to_path, error));
        done += part;
    }
    return EMB_OK;
}

static emb_status copy_companion(void *user, const char *name, emb_error *error) {
    emb_directory *out = user;
    /* a file that the maker has written itself, such as a model card, stands */
    for (uint32_t i = 0; i < out->written_count; i++)
        if (strcmp(out->written[i], name) == 0) return EMB_OK;
    char root[EMB_MODEL_PATH_MAX], from_path[EMB_DIRECTORY_PATH], to_path[EMB_DIRECTORY_PATH];
    int from, to;
    uint64_t bytes;
    emb_model_files_root(out->files, root);
    EMB_TRY(join(from_path, root, name, error));
    EMB_TRY(emb_file_open(&from, &bytes, from_path, error));
    emb_status status = emb_directory_create(out, &to, to_path, name, error);
    if (status == EMB_OK) {
        status = copy_bytes(from, from_path, to, to_path, bytes, error);
        emb_status finished = emb_file_finish(to, to_path, status == EMB_OK ? error : NULL);
        if (status == EMB_OK) status = finished;
    }
    emb_file_close(from);
    return status;
}

static emb_status write_marker(emb_directory *out, const char *marker, emb_error *error) {
    char path[EMB_DIRECTORY_PATH];
    int descriptor;
    EMB_TRY(emb_directory_create(out, &descriptor, path, out->maker->marker, error));
    emb_status status = emb_file_write_at(descriptor, marker, strlen(marker), 0, path, error);
    emb_status finished = emb_file_finish(descriptor, path, status == EMB_OK ? error : NULL);
    return status == EMB_OK ? finished : status;
}

/* An older directory is moved aside first and removed last. One that appeared since the work began,
 * minutes ago, is not replaced. */
static emb_status move(emb_directory *out, emb_error *error) {
    char aside[EMB_DIRECTORY_PATH + 16];
    struct stat about;
    bool empty = false;
    EMB_TRY(check_place(out, error));
    snprintf(aside, sizeof aside, "%s.old-%ld", out->final, (long)getpid());
    bool exists = lstat(out->final, &about) == 0;
    if (exists) EMB_TRY(emb_tree_empty(out->final, &empty, error));
    bool replaces = exists && !empty;
    if (replaces && rename(out->final, aside) != 0)
        return emb_error_set(error, EMB_IO, "%s: cannot be moved aside: %s", out->final,
                             strerror(errno));
    if (rename(out->temporary, out->final) != 0) {
        int reason = errno;
        if (replaces) (void)!rename(aside, out->final);
        return emb_error_set(error, EMB_IO, "%s: cannot be moved to its place: %s", out->final,
                             strerror(reason));
    }
    out->temporary[0] = 0;
    if (replaces) emb_tree_remove(aside);
    return EMB_OK;
}

emb_status emb_directory_commit(emb_directory *out, const char *marker, emb_error *error) {
    if (!out->alone) EMB_TRY(emb_model_companions(out->files, copy_companion, out, error));
    EMB_TRY(write_marker(out, marker, error));
    return move(out, error);
}

/* Removes the file, and the folders above it that become empty. */
static void remove_written(const emb_directory *out, const char *name) {
    char path[EMB_DIRECTORY_PATH];
    size_t root = strlen(out->temporary);
    if (join(path, out->temporary, name, NULL) != EMB_OK) return;
    unlink(path);
    for (char *slash; (slash = strrchr(path, '/')) && slash > path + root;) {
        *slash = 0;
        rmdir(path);
    }
}

void emb_directory_abort(emb_directory *out) {
    if (!out->temporary[0]) return;
    while (out->written_count > 0) remove_written(out, out->written[--out->written_count]);
    rmdir(out->temporary);
    out->temporary[0] = 0;
}
