/* The float precisions are schemes like the others: every role in one format, so that a baseline
 * runs through the same graph, layers and fused passes as an int8 run. */
#include "schemes/scheme_list.h"

#define ALL_ROLES(format_)                                                                         \
    {                                                                                              \
        [0 ... OCT_ROLES - 1] = {.format = format_ }                                               \
    }

static const char *const fp32_notes[] = {
    "All tensors and products in binary32 (products through oneDNN).", NULL};

static const char *const bf16_notes[] = {
    "Activations, errors and product operands in bfloat16, accumulation and master weights in",
    "binary32 (products through oneDNN).", NULL};

const struct oct_scheme oct_scheme_fp32 = {
    .name = "fp32",
    .notes = fp32_notes,
    .role = ALL_ROLES(OCT_FORMAT_F32),
};

const struct oct_scheme oct_scheme_bf16 = {
    .name = "bf16",
    .notes = bf16_notes,
    .role = ALL_ROLES(OCT_FORMAT_BF16),
};
