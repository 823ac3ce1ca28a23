/* Tiny data sets on disk, for the tests and fuzzers of the readers. */
#ifndef OCT_TEST_DATA_FILES_H
#define OCT_TEST_DATA_FILES_H

#include <stddef.h>
#include <stdint.h>

enum { TEST_PATH = 512 };

/* Creates an empty folder under $TMPDIR, /dev/shm (in memory: the damage tests write thousands of
 * files) or /tmp, the first there is. Failures of these helpers end the program. */
void temp_folder_create(char path[TEST_PATH]);
/* Removes a folder and what is in it. */
void temp_folder_remove(const char *path);

/* Writes folder/name; missing folders of the path `folder` are not created. */
void data_file_write(const char *folder, const char *name, const uint8_t *bytes, size_t count);
void data_file_remove(const char *folder, const char *name);

/* Memory owned by the caller, freed with free(bytes). */
struct bytes {
    uint8_t *bytes;
    size_t count;
};

/* u8 IDX file of the given dimensions; data byte i is first + i * step. */
struct bytes idx_bytes(int rank, const uint32_t *dims, int first, int step);
/* The same bytes as one gzip member. */
struct bytes gzip_bytes(struct bytes plain);
/* `count` CIFAR records; label bytes and pixels follow from the record's number plus `first`. */
struct bytes cifar_bytes(int label_bytes, int count, int first);
/* What cifar_bytes put there: colour value at a pixel, and the class. */
uint8_t cifar_value(int record, int y, int x, int channel);
int cifar_label(int label_bytes, int record);

/* Writes the four IDX files of `train` and `val` images of 4x4 with labels 0, 1, 2, 0, 1, ...
 * Image i has bytes i * 16 + pixel. `suffix`: "" or ".gz". */
void idx_dataset_write(const char *folder, int train, int val, const char *suffix);
/* Writes the six CIFAR-10 files, two records each, or the two CIFAR-100 files. */
void cifar10_dataset_write(const char *folder);
void cifar100_dataset_write(const char *folder);

#endif
