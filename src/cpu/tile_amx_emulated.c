/* tile_amx.c on software tiles: tests the AMX path where there is no AMX. */
#define OCT_AMX_EMULATED
#include "cpu/tile_amx.c"
