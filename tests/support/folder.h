/* A private folder for one test, and whole files in memory. Failures abort the test. */
#ifndef OCT_TEST_FOLDER_H
#define OCT_TEST_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* A fresh folder below /dev/shm or /tmp; the caller frees the string with folder_remove. */
char *folder_make(void);
/* Removes the folder with everything in it. */
void folder_remove(char *dir);

/* "dir/name" in a buffer that the next call overwrites. */
const char *folder_path(const char *dir, const char *name);

/* Number of entries whose names start with `prefix`. */
int folder_count(const char *dir, const char *prefix);

/* The whole file with a 0 behind it; *bytes may be NULL. The caller frees it. */
char *file_read(const char *path, size_t *bytes);
void file_write(const char *path, const void *data, size_t bytes);

/* From now on this process can make no file longer than `bytes`: writes fail as on a full disk. */
void limit_file_size(size_t bytes);

#endif
