/* Writing files without ever leaving half of one behind, and without losing the file that was
 * there: temporary file in the same folder, fsync, rename, fsync of the folder. */
#ifndef OCT_FILE_H
#define OCT_FILE_H

#include "base/status.h"

struct oct_atomic_file {
    char *path, *temporary; /* owned; path.tmp.<pid> */
    int fd;
};

/* Opens the temporary file. On success the caller ends with commit or abandon, never both
 * omitted; abandon after commit, and on a zeroed struct with fd -1, does nothing. */
enum oct_status oct_atomic_open(struct oct_atomic_file *file, const char *path);
enum oct_status oct_atomic_write(struct oct_atomic_file *file, const void *data, size_t bytes);
/* Puts the new file in place. On failure the temporary file is removed. */
enum oct_status oct_atomic_commit(struct oct_atomic_file *file);
void oct_atomic_abandon(struct oct_atomic_file *file);

/* Writes all `bytes` or fails (OCT_IO); `path` is for the message only. */
enum oct_status oct_write_all(int fd, const void *data, size_t bytes, const char *path);

/* "dir/name", owned by the caller. */
enum oct_status oct_path_join(const char *dir, const char *name, char **out);

/* Creates the folder and its parents; an existing folder is fine. */
enum oct_status oct_make_folders(const char *dir);

#endif
