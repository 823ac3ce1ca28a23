#include "support/folder.h"

#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void need(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

char *folder_make(void)
{
    /* In memory if possible: fsync, which the code under test calls a lot, is free there. */
    bool memory = access("/dev/shm", W_OK | X_OK) == 0;
    char *dir = strdup(memory ? "/dev/shm/octet-test-XXXXXX" : "/tmp/octet-test-XXXXXX");
    need(dir && mkdtemp(dir), "folder_make");
    return dir;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

void folder_remove(char *dir)
{
    need(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0, dir);
    free(dir);
}

const char *folder_path(const char *dir, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

int folder_count(const char *dir, const char *prefix)
{
    DIR *stream = opendir(dir);
    need(stream != NULL, dir);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        count += entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(stream);
    return count;
}

char *file_read(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    need(file != NULL, path);
    need(fseek(file, 0, SEEK_END) == 0, path);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(size + 1);
    need(data && fread(data, 1, size, file) == size, path);
    data[size] = '\0';
    fclose(file);
    if (bytes)
        *bytes = size;
    return data;
}

void file_write(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    need(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0, path);
}

void limit_file_size(size_t bytes)
{
    struct rlimit limit = {bytes, bytes};
    signal(SIGXFSZ, SIG_IGN);
    need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
}
