/* train_place.c - an empty directory under the output's name, and an empty file beside the
 * checkpoint, with locks that go with the process, however it ends.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/train_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"

enum { TRIES = 8 };

/* Whether the descriptor is still what has the name. */
static bool is_named(int descriptor, const char *path) {
    struct stat held, named;
    return fstat(descriptor, &held) == 0 && stat(path, &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

static emb_status hold(emb_train_place *place, bool *gone, emb_error *error) {
    /* a link or FIFO under the lock's name is not ours: neither followed nor waited for */
    int kind = place->is_file ? O_NOFOLLOW | O_NONBLOCK : O_DIRECTORY;
    *gone = false;
    int descriptor = open(place->path, O_RDONLY | O_CLOEXEC | kind);
    if (descriptor < 0) {
        *gone = errno == ENOENT;
        return EMB_OK; /* of another kind, or not ours to read: saving says what is wrong */
    }
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(descriptor);
        return emb_app_fail(error, EMB_TIMEOUT,
                            "%.*s: another job is writing it; wait, or choose another %s",
                            EMB_APP_CUT(place->shown, 180), place->is_file ? "--checkpoint" : "-o");
    }
    if (!is_named(descriptor, place->path)) {
        close(descriptor);
        *gone = true;
        return EMB_OK;
    }
    place->descriptor = descriptor;
    return EMB_OK;
}

emb_status emb_train_place_take(emb_train_place *place, const char *path, emb_error *error) {
    *place = (emb_train_place){.path = path, .shown = path, .descriptor = -1};
    bool gone = true;
    /* between making and holding it another may have come and gone; a link may lead nowhere */
    for (int tries = 0; gone && tries < TRIES; tries++) {
        place->made = mkdir(path, 0777) == 0;
        if (!place->made && errno != EEXIST)
            return emb_app_fail(error, EMB_IO, "%.*s: no directory can be made there: %s",
                                EMB_APP_CUT(path, 180), strerror(errno));
        EMB_APP_TRY(hold(place, &gone, error));
    }
    return EMB_OK;
}

void emb_train_place_renew(emb_train_place *place) {
    bool gone;
    emb_error none;
    if (place->descriptor >= 0) close(place->descriptor);
    place->descriptor = -1;
    (void)hold(place, &gone, &none);
}

/* The checkpoint's own file would not do: each new one takes its place, and its lock with it. */
emb_status emb_train_place_take_file(emb_train_place *place, const char *path, emb_error *error) {
    *place =
        (emb_train_place){.path = place->name, .shown = path, .descriptor = -1, .is_file = true};
    int length = snprintf(place->name, sizeof place->name, "%s.lock", path);
    bool gone = length > 0 && (size_t)length < sizeof place->name;
    for (int tries = 0; gone && tries < TRIES; tries++) {
        int made = open(place->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (made >= 0) close(made);
        if (made < 0 && errno != EEXIST) return EMB_OK; /* storing says what is wrong */
        EMB_APP_TRY(hold(place, &gone, error));
    }
    return EMB_OK;
}

void emb_train_place_release(emb_train_place *place) {
    if (place->descriptor < 0) return;
    struct stat held;
    bool named = is_named(place->descriptor, place->path);
    if (named && place->made) (void)!rmdir(place->path);
    if (named && place->is_file && fstat(place->descriptor, &held) == 0 && held.st_size == 0)
        (void)!unlink(place->path); /* or what one that was killed has left */
    close(place->descriptor);
    place->descriptor = -1;
}
