/* amax: the plain control. Every operand has one scale per tensor, its largest magnitude; nothing
 * adapts, nothing is clipped. What a published system gains, it gains over this.
 *
 *   s = amax / 127,  q = rne(x * 127 / amax) */
#include "schemes/scheme_list.h"

static const char *const notes[] = {
    "s = amax(T)/127 for every operand of every product, one scale per tensor, nearest rounding.",
    "A control of our own making, not a published system.", NULL};

static const struct oct_scheme_option options[] = {
    {"residual", "int8|float", "format of the skip connection (default int8)", oct_option_residual},
    {NULL, NULL, NULL, NULL}};

const struct oct_scheme oct_scheme_amax = {
    .name = "amax",
    .notes = notes,
    .integer = true,
    .options = options,
    .role =
        {
            [OCT_ROLE_X] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_W_FWD] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_W_DX] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_Y] = {.format = OCT_FORMAT_BF16},
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_DY_DW] = {.format = OCT_FORMAT_INT8, .refresh = OCT_REFRESH_BOUND},
            [OCT_ROLE_DY_DX] = {.format = OCT_FORMAT_INT8, .refresh = OCT_REFRESH_BOUND},
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_BF16},
        },
};
