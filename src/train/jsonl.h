/* Reading log.jsonl: one JSON object a line. A run that was killed may leave a torn last line. */
#ifndef OCT_JSONL_H
#define OCT_JSONL_H

#include "base/status.h"

#include <jansson.h>

/* Calls `record` for each line, in order, with the line's text (without its newline) and its
 * object, both borrowed. Stops at the first failure. A last line that is no object is left out; one
 * in the middle is OCT_IO. A missing file has no lines where `may_be_missing`. */
enum oct_status oct_jsonl_read(const char *path, int may_be_missing,
    enum oct_status (*record)(void *user, const char *line, const json_t *object), void *user);

#endif
