#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum oct_status oct_write_all(int fd, const void *data, size_t bytes, const char *path)
{
    const char *from = data;
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = write(fd, from + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return oct_fail(OCT_IO,
                "cannot write '%s': %s after %zu of %zu bytes; free space there "
                "or choose another folder",
                path, strerror(errno), done, bytes);
        done += (size_t)n;
    }
    return OCT_OK;
}

enum oct_status oct_path_join(const char *dir, const char *name, char **out)
{
    size_t bytes = strlen(dir) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (!path)
        return oct_fail(OCT_NOMEM, "no memory for the path '%s/%s'", dir, name);
    snprintf(path, bytes, "%s/%s", dir, name);
    *out = path;
    return OCT_OK;
}

enum oct_status oct_make_folders(const char *dir)
{
    enum oct_status status = OCT_OK;
    char *path = strdup(dir);
    if (!path)
        return oct_fail(OCT_NOMEM, "no memory for the path '%s'", dir);
    for (char *end = path; *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = '\0';
        /* mkdir reports EEXIST for files too, and EROFS or EACCES before it looks: ask stat. */
        struct stat info;
        if (mkdir(path, 0777) != 0) {
            int error = errno;
            if (stat(path, &info) != 0)
                OCT_OUT(
                    oct_fail(OCT_IO, "cannot create the folder '%s': %s", path, strerror(error)));
            if (!S_ISDIR(info.st_mode))
                OCT_OUT(oct_fail(OCT_IO,
                    "cannot create the folder '%s': '%s' is a file; choose "
                    "another folder",
                    dir, path));
        }
        *end = kept;
    }
out:
    free(path);
    return status;
}

static void forget(struct oct_atomic_file *file)
{
    free(file->path);
    free(file->temporary);
    *file = (struct oct_atomic_file){.fd = -1};
}

enum oct_status oct_atomic_open(struct oct_atomic_file *file, const char *path)
{
    size_t bytes = strlen(path) + 32;
    struct oct_atomic_file opened = {strdup(path), malloc(bytes), -1};
    *file = (struct oct_atomic_file){.fd = -1};
    if (!opened.path || !opened.temporary) {
        forget(&opened);
        return oct_fail(OCT_NOMEM, "no memory for the path '%s'", path);
    }
    snprintf(opened.temporary, bytes, "%s.tmp.%ld", path, (long)getpid());
    /* O_TRUNC, not O_EXCL: a killed process with our number may have left its file. */
    opened.fd = open(opened.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (opened.fd < 0) {
        oct_fail(OCT_IO, "cannot create '%s': %s; the folder must exist and be writable",
            opened.temporary, strerror(errno));
        forget(&opened);
        return OCT_IO;
    }
    *file = opened;
    return OCT_OK;
}

enum oct_status oct_atomic_write(struct oct_atomic_file *file, const void *data, size_t bytes)
{
    return oct_write_all(file->fd, data, bytes, file->temporary);
}

/* Makes the rename itself durable. */
static enum oct_status sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!dir)
        return oct_fail(OCT_NOMEM, "no memory for the folder of '%s'", path);
    enum oct_status status = OCT_OK;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: this file system has nothing to synchronise for a folder. */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        status = oct_fail(OCT_IO, "'%s' is written, but its folder could not be synchronised: %s",
            path, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(dir);
    return status;
}

enum oct_status oct_atomic_commit(struct oct_atomic_file *file)
{
    enum oct_status status = OCT_OK;
    int fd = file->fd;
    if (fsync(fd) != 0)
        OCT_OUT(oct_fail(OCT_IO, "cannot synchronise '%s': %s", file->temporary, strerror(errno)));
    file->fd = -1;
    if (close(fd) != 0)
        OCT_OUT(oct_fail(OCT_IO, "cannot close '%s': %s", file->temporary, strerror(errno)));
    if (rename(file->temporary, file->path) != 0)
        OCT_OUT(oct_fail(OCT_IO, "cannot rename '%s' to '%s': %s", file->temporary, file->path,
            strerror(errno)));
    status = sync_folder_of(file->path);
    forget(file);
out:
    oct_atomic_abandon(file);
    return status;
}

void oct_atomic_abandon(struct oct_atomic_file *file)
{
    if (!file->path)
        return;
    if (file->fd >= 0)
        close(file->fd);
    unlink(file->temporary);
    forget(file);
}
