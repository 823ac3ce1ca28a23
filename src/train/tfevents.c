#include "train/tfevents.h"

#include "base/file.h"

#include "events.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_HEAD = 12, /* u64 length, u32 masked CRC of the length */
    FRAME_TAIL = 4,  /* u32 masked CRC of the message */
    MAX_MESSAGE = 1024
};

struct oct_tfevents {
    char *path;
    int fd;
};

/* Bit by bit: a record has some 60 bytes and is written once in a while. Debian has no C library
 * of CRC-32C alone, and zlib's polynomial is another one. */
uint32_t oct_crc32c(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* TFRecord masks its CRCs so that a CRC over data that holds CRCs stays a good one. */
static uint32_t masked_crc(const void *data, size_t bytes)
{
    uint32_t crc = oct_crc32c(data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_le(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static double wall_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The frame goes out in one write: a reader never sees half of it unless the disk is full. */
static enum oct_status write_event(struct oct_tfevents *events, Oct__Event *event)
{
    uint8_t frame[FRAME_HEAD + MAX_MESSAGE + FRAME_TAIL];
    event->wall_time = wall_time();
    size_t bytes = oct__event__get_packed_size(event);
    if (bytes > MAX_MESSAGE)
        return oct_fail(OCT_INTERNAL, "an event of %zu bytes for '%s'; at most %d", bytes,
            events->path, MAX_MESSAGE);
    put_le(frame, bytes, 8);
    put_le(frame + 8, masked_crc(frame, 8), 4);
    oct__event__pack(event, frame + FRAME_HEAD);
    put_le(frame + FRAME_HEAD + bytes, masked_crc(frame + FRAME_HEAD, bytes), 4);
    return oct_write_all(events->fd, frame, FRAME_HEAD + bytes + FRAME_TAIL, events->path);
}

/* TensorBoard reads the files of a folder in the order of their names. */
static enum oct_status create_file(struct oct_tfevents *events, const char *dir)
{
    char host[64] = "host", name[160];
    gethostname(host, sizeof host - 1);
    for (int n = 0;; n++) {
        free(events->path);
        events->path = NULL;
        snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld.%d", (long long)time(NULL),
            host, (long)getpid(), n);
        OCT_TRY(oct_path_join(dir, name, &events->path));
        events->fd = open(events->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (events->fd >= 0)
            return OCT_OK;
        if (errno != EEXIST)
            return oct_fail(OCT_IO, "cannot create '%s': %s", events->path, strerror(errno));
    }
}

enum oct_status oct_tfevents_open(const char *dir, int64_t purge_step, struct oct_tfevents **out)
{
    enum oct_status status = OCT_OK;
    Oct__Event version = OCT__EVENT__INIT, start = OCT__EVENT__INIT;
    Oct__SessionLog session = OCT__SESSION_LOG__INIT;
    struct oct_tfevents *events = calloc(1, sizeof *events);
    if (!events)
        return oct_fail(OCT_NOMEM, "no memory for the TensorBoard file in '%s'", dir);
    events->fd = -1;
    OCT_OUT(create_file(events, dir));
    version.what_case = OCT__EVENT__WHAT_FILE_VERSION;
    version.file_version = (char *)"brain.Event:2";
    OCT_OUT(write_event(events, &version));
    if (purge_step >= 0) {
        session.status = OCT__SESSION_LOG__SESSION_STATUS__START;
        start.step = purge_step;
        start.what_case = OCT__EVENT__WHAT_SESSION_LOG;
        start.session_log = &session;
        OCT_OUT(write_event(events, &start));
    }
    *out = events;
    events = NULL;
out:
    oct_tfevents_close(events);
    return status;
}

enum oct_status oct_tfevents_write(
    struct oct_tfevents *events, int64_t step, const struct oct_scalar *scalars, size_t count)
{
    Oct__Summary__Value values[OCT_MAX_SCALARS], *pointers[OCT_MAX_SCALARS];
    Oct__Summary summary = OCT__SUMMARY__INIT;
    Oct__Event event = OCT__EVENT__INIT;
    if (count > OCT_MAX_SCALARS)
        return oct_fail(OCT_INTERNAL, "%zu scalars for one event of '%s'; at most %d", count,
            events->path, OCT_MAX_SCALARS);
    for (size_t i = 0; i < count; i++) {
        if (isnan(scalars[i].value))
            continue;
        Oct__Summary__Value *value = &values[summary.n_value];
        oct__summary__value__init(value);
        value->tag = (char *)scalars[i].tag;
        value->value_case = OCT__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
        value->simple_value = (float)scalars[i].value;
        pointers[summary.n_value++] = value;
    }
    summary.value = pointers;
    event.step = step;
    event.what_case = OCT__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(events, &event);
}

void oct_tfevents_close(struct oct_tfevents *events)
{
    if (!events)
        return;
    if (events->fd >= 0)
        close(events->fd);
    free(events->path);
    free(events);
}
