/* Fuzz target: one of the four IDX files is the input after its first byte, which chooses it. */
#include "fuzz/fuzz_data.h"
#include "support/data_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char idx_folder[TEST_PATH];

static void remove_idx_folder(void)
{
    temp_folder_remove(idx_folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
    if (size < 1)
        return 0;
    if (!idx_folder[0]) {
        temp_folder_create(idx_folder);
        idx_dataset_write(idx_folder, 3, 3, "");
        atexit(remove_idx_folder);
    }
    int which = data[0] % 4;
    const uint32_t dims[3] = {3, 4, 4};
    struct bytes valid = which % 2 == 0 ? idx_bytes(3, dims, 0, 1) : idx_bytes(1, dims, 0, 1);
    data_file_write(idx_folder, names[which], data + 1, size - 1);
    fuzz_open_splits(idx_folder);
    data_file_write(idx_folder, names[which], valid.bytes, valid.count);
    free(valid.bytes);
    return 0;
}
