/* libFuzzer target: whatever the bytes are, the reader refuses them or hands out tensors that can
 * be read to their last byte. */
#include "train/safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char path[64];
    struct oct_safetensors *file;
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (oct_safetensors_open(path, &file) == OCT_OK) {
        size_t sum = 0;
        size_t total = 0;
        for (size_t i = 0; i < oct_safetensors_count(file); i++) {
            const struct oct_named_tensor *tensor = oct_safetensors_at(file, i);
            size_t n = oct_named_tensor_bytes(tensor);
            for (size_t b = 0; b < n; b++)
                sum += ((const uint8_t *)tensor->data)[b];
            total += n;
        }
        if (total > bytes || sum > 255 * total)
            abort();
        oct_safetensors_close(file);
    }
    close(fd);
    return 0;
}
