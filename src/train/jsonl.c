#include "train/jsonl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum oct_status oct_jsonl_read(const char *path, int may_be_missing,
    enum oct_status (*record)(void *user, const char *line, const json_t *object), void *user)
{
    enum oct_status status = OCT_OK;
    json_t *object = NULL;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int64_t torn = 0, number = 0; /* torn: number of a line that is no object, 0: none so far */
    FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT && may_be_missing)
        return OCT_OK;
    if (!file)
        return oct_fail(OCT_IO, "cannot open '%s': %s", path, strerror(errno));
    while ((length = getline(&line, &room, file)) >= 0) {
        number++;
        if (torn)
            OCT_OUT(oct_fail(OCT_IO,
                "'%s': line %" PRId64 " is not a JSON object; remove that line "
                "or choose another folder",
                path, torn));
        if (length > 0 && line[length - 1] == '\n')
            line[--length] = '\0';
        json_decref(object);
        object = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(object))
            OCT_OUT(record(user, line, object));
        else
            torn = number;
    }
    if (ferror(file))
        OCT_OUT(oct_fail(OCT_IO, "cannot read '%s': %s", path, strerror(errno)));
out:
    json_decref(object);
    free(line);
    fclose(file);
    return status;
}
