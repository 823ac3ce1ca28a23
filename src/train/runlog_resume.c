#include "train/runlog_resume.h"

#include "base/file.h"
#include "train/jsonl.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cut {
    struct oct_atomic_file file;
    int64_t step;
    int epochs;
};

static enum oct_status write_line(struct oct_atomic_file *file, const char *line)
{
    OCT_TRY(oct_atomic_write(file, line, strlen(line)));
    return oct_atomic_write(file, "\n", 1);
}

static enum oct_status keep_record(void *user, const char *line, const json_t *object)
{
    struct cut *cut = user;
    json_int_t epoch = json_integer_value(json_object_get(object, "epoch"));
    const char *type = json_string_value(json_object_get(object, "type"));
    if (cut->step == 0 && cut->epochs == 0 && epoch > 0)
        return oct_fail(OCT_ARG,
            "'%s' holds several epochs of a run whose checkpoints are gone: choose another folder",
            cut->file.path);
    if (type && strcmp(type, "epoch") == 0) {
        if (epoch >= cut->epochs)
            return OCT_OK;
    } else if (json_integer_value(json_object_get(object, "step")) > cut->step) {
        return OCT_OK;
    }
    return write_line(&cut->file, line);
}

void oct_runlog_sweep(const char *dir)
{
    struct dirent *entry;
    DIR *folder = opendir(dir);

    while (folder && (entry = readdir(folder))) {
        const char *mark = strstr(entry->d_name, ".tmp.");
        if (mark && mark[5] && strspn(mark + 5, "0123456789") == strlen(mark + 5))
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder)
        closedir(folder);
}

enum oct_status oct_runlog_cut_json(const char *path, int64_t step, int epochs)
{
    enum oct_status status = OCT_OK;
    struct cut cut = {.step = step, .epochs = epochs};
    OCT_TRY(oct_atomic_open(&cut.file, path));
    OCT_OUT(oct_jsonl_read(path, 1, keep_record, &cut));
    OCT_OUT(oct_atomic_commit(&cut.file));
out:
    oct_atomic_abandon(&cut.file);
    return status;
}

enum oct_status oct_runlog_cut_csv(const char *path, int epochs)
{
    enum oct_status status = OCT_OK;
    struct oct_atomic_file file;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    FILE *old = fopen(path, "re");
    if (!old && errno != ENOENT)
        return oct_fail(OCT_IO, "cannot open '%s': %s", path, strerror(errno));
    OCT_OUT(oct_atomic_open(&file, path));
    OCT_OUT(oct_atomic_write(&file, OCT_SUMMARY_HEADER, strlen(OCT_SUMMARY_HEADER)));
    while (old && (length = getline(&line, &room, old)) > 0) {
        char *end;
        long epoch = strtol(line, &end, 10);
        /* The header, and a last row without its newline, are no rows. */
        bool row = end != line && *end == ',' && line[length - 1] == '\n';
        if (row && epoch < epochs)
            OCT_OUT(oct_atomic_write(&file, line, (size_t)length));
    }
    if (old && ferror(old))
        OCT_OUT(oct_fail(OCT_IO, "cannot read '%s': %s", path, strerror(errno)));
    OCT_OUT(oct_atomic_commit(&file));
out:
    oct_atomic_abandon(&file);
    free(line);
    if (old)
        fclose(old);
    return status;
}
