#include "support/data_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static void require(int condition, const char *what)
{
    if (!condition) {
        perror(what);
        abort();
    }
}

static void join(char path[TEST_PATH], const char *folder, const char *name)
{
    require(snprintf(path, TEST_PATH, "%s/%s", folder, name) < TEST_PATH, "path too long");
}

void temp_folder_create(char path[TEST_PATH])
{
    const char *base = getenv("TMPDIR");
    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    join(path, base, "octet-test-XXXXXX");
    require(mkdtemp(path) != NULL, path);
}

void temp_folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        char inside[TEST_PATH];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        join(inside, path, entry->d_name);
        if (lstat(inside, &info) == 0 && S_ISDIR(info.st_mode))
            temp_folder_remove(inside);
        else
            unlink(inside);
    }
    closedir(folder);
    rmdir(path);
}

void data_file_write(const char *folder, const char *name, const uint8_t *bytes, size_t count)
{
    char path[TEST_PATH];
    join(path, folder, name);
    FILE *file = fopen(path, "wb");
    require(file != NULL, path);
    require(fwrite(bytes, 1, count, file) == count, path);
    require(fclose(file) == 0, path);
}

void data_file_remove(const char *folder, const char *name)
{
    char path[TEST_PATH];
    join(path, folder, name);
    require(unlink(path) == 0, path);
}

static struct bytes allocate(size_t count)
{
    struct bytes made = {calloc(count, 1), count};
    require(made.bytes != NULL, "memory");
    return made;
}

struct bytes idx_bytes(int rank, const uint32_t *dims, int first, int step)
{
    size_t head = 4 + 4 * (size_t)rank, data = 1;
    for (int i = 0; i < rank; i++)
        data *= dims[i];
    struct bytes made = allocate(head + data);
    made.bytes[2] = 8;
    made.bytes[3] = (uint8_t)rank;
    for (int i = 0; i < rank; i++) {
        for (int j = 0; j < 4; j++)
            made.bytes[4 + 4 * i + j] = (uint8_t)(dims[i] >> (24 - 8 * j));
    }
    for (size_t i = 0; i < data; i++)
        made.bytes[head + i] = (uint8_t)(first + (int)i * step);
    return made;
}

struct bytes gzip_bytes(struct bytes plain)
{
    struct bytes made = allocate(plain.count + 128);
    z_stream stream = {.next_in = plain.bytes,
        .avail_in = (unsigned)plain.count,
        .next_out = made.bytes,
        .avail_out = (unsigned)made.count};
    require(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
    require(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib");
    made.count = stream.total_out;
    deflateEnd(&stream);
    return made;
}

uint8_t cifar_value(int record, int y, int x, int channel)
{
    return (uint8_t)(record * 37 + y * 5 + x * 3 + channel * 85);
}

int cifar_label(int label_bytes, int record)
{
    return label_bytes == 1 ? record % 10 : (record * 7 + 3) % 100;
}

struct bytes cifar_bytes(int label_bytes, int count, int first)
{
    struct bytes made = allocate((size_t)count * (size_t)(label_bytes + 3072));
    uint8_t *byte = made.bytes;
    for (int record = first; record < first + count; record++) {
        if (label_bytes == 2)
            *byte++ = (uint8_t)(record % 20);
        *byte++ = (uint8_t)cifar_label(label_bytes, record);
        for (int channel = 0; channel < 3; channel++) {
            for (int y = 0; y < 32; y++) {
                for (int x = 0; x < 32; x++)
                    *byte++ = cifar_value(record, y, x, channel);
            }
        }
    }
    return made;
}

static void write_and_free(const char *folder, const char *name, struct bytes content)
{
    data_file_write(folder, name, content.bytes, content.count);
    free(content.bytes);
}

static void write_idx(const char *folder, const char *stem, struct bytes plain, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    if (strcmp(suffix, ".gz") == 0) {
        write_and_free(folder, name, gzip_bytes(plain));
        free(plain.bytes);
        return;
    }
    write_and_free(folder, name, plain);
}

static struct bytes cyclic_labels(int count)
{
    struct bytes labels = idx_bytes(1, &(uint32_t){(uint32_t)count}, 0, 1);
    for (int i = 0; i < count; i++)
        labels.bytes[8 + i] = (uint8_t)(i % 3);
    return labels;
}

void idx_dataset_write(const char *folder, int train, int val, const char *suffix)
{
    const uint32_t train_dims[3] = {(uint32_t)train, 4, 4}, val_dims[3] = {(uint32_t)val, 4, 4};
    write_idx(folder, "train-images-idx3-ubyte", idx_bytes(3, train_dims, 0, 1), suffix);
    write_idx(folder, "train-labels-idx1-ubyte", cyclic_labels(train), suffix);
    write_idx(folder, "t10k-images-idx3-ubyte", idx_bytes(3, val_dims, 0, 1), suffix);
    write_idx(folder, "t10k-labels-idx1-ubyte", cyclic_labels(val), suffix);
}

void cifar10_dataset_write(const char *folder)
{
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i + 1);
        write_and_free(folder, name, cifar_bytes(1, 2, 2 * i));
    }
    write_and_free(folder, "test_batch.bin", cifar_bytes(1, 2, 100));
}

void cifar100_dataset_write(const char *folder)
{
    write_and_free(folder, "train.bin", cifar_bytes(2, 3, 0));
    write_and_free(folder, "test.bin", cifar_bytes(2, 2, 100));
}
