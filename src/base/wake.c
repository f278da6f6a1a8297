/* wake.c - an eventfd that is read and written only when its state changes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/wake.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SECONDS_MAX 1e6 /* longer waits are split */

bool emb_wake_open(emb_wake *wake) {
    wake->told = false;
    wake->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake->descriptor >= 0;
}

void emb_wake_close(emb_wake *wake) {
    if (wake->descriptor >= 0) close(wake->descriptor);
    wake->descriptor = -1;
}

/* Adding one and reading all never block here, so they are not interrupted and cannot fail. */
void emb_wake_tell(emb_wake *wake, bool ready) {
    eventfd_t count;
    if (ready == wake->told) return;
    wake->told = ready;
    if (ready)
        eventfd_write(wake->descriptor, 1);
    else
        eventfd_read(wake->descriptor, &count);
}

void emb_wake_interrupt(const emb_wake *wake) {
    int kept = errno;
    eventfd_write(wake->descriptor, 1);
    errno = kept;
}

void emb_wake_wait(const emb_wake *wake, double seconds) {
    struct pollfd on = {.fd = wake->descriptor, .events = POLLIN};
    if (seconds > WAIT_SECONDS_MAX) seconds = WAIT_SECONDS_MAX;
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)(1e9 * (seconds - (double)left.tv_sec));
    ppoll(&on, 1, &left, NULL);
}
