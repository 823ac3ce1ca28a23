/* Fuzz target: one of the CIFAR files is the input after its first byte, which chooses it. */
#include "fuzz/fuzz_data.h"
#include "support/data_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char cifar_folders[2][TEST_PATH];

static void remove_cifar_folders(void)
{
    temp_folder_remove(cifar_folders[0]);
    temp_folder_remove(cifar_folders[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[2][2] = {
        {"data_batch_3.bin", "test_batch.bin"}, {"train.bin", "test.bin"}};
    if (size < 1)
        return 0;
    if (!cifar_folders[0][0]) {
        temp_folder_create(cifar_folders[0]);
        temp_folder_create(cifar_folders[1]);
        cifar10_dataset_write(cifar_folders[0]);
        cifar100_dataset_write(cifar_folders[1]);
        atexit(remove_cifar_folders);
    }
    int kind = data[0] % 2, which = data[0] / 2 % 2;
    struct bytes valid = kind == 0 ? cifar_bytes(1, 2, 0) : cifar_bytes(2, 2, 0);
    data_file_write(cifar_folders[kind], names[kind][which], data + 1, size - 1);
    fuzz_open_splits(cifar_folders[kind]);
    data_file_write(cifar_folders[kind], names[kind][which], valid.bytes, valid.count);
    free(valid.bytes);
    return 0;
}
