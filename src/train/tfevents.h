/* TensorBoard event files: TFRecord frames around protobuf messages (events.proto). */
#ifndef OCT_TFEVENTS_H
#define OCT_TFEVENTS_H

#include "base/status.h"

struct oct_tfevents;

struct oct_scalar {
    const char *tag;
    double value; /* NaN: not written */
};

enum { OCT_MAX_SCALARS = 8 };

/* Starts a new file events.out.tfevents.<time>.<host>.<pid>.<n> in `dir`. purge_step >= 0 tells
 * TensorBoard to forget what earlier files of the folder say from that step on; -1: nothing. */
enum oct_status oct_tfevents_open(const char *dir, int64_t purge_step, struct oct_tfevents **out);

/* One event with up to OCT_MAX_SCALARS values. */
enum oct_status oct_tfevents_write(
    struct oct_tfevents *events, int64_t step, const struct oct_scalar *scalars, size_t count);

/* Accepts NULL. */
void oct_tfevents_close(struct oct_tfevents *events);

/* CRC-32C (Castagnoli), as TFRecord wants it before masking. */
uint32_t oct_crc32c(const void *data, size_t bytes);

#endif
