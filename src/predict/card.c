/* Sources. Multiprocessors, boost clocks, bandwidths and the FP16 (FP32 accumulation), TF32 and
 * FP32 peaks are the vendor's data sheets; the int8 peak is multiprocessors x operations a clock
 * (2048, on A100 4096, on H100 8192) x clock, which gives the data sheet's figure on every card.
 * TF32 runs at the FP32 rate on GeForce cards and does not exist on Turing: no unit there. H100:
 * mma.sync reaches about 63 % of the peak, the rest takes wgmma, which octet does not use. T4: 70 W
 * hold about 65 % of the boost clock under load. Efficiencies: FP32, TF32 and FP16 were chosen so
 * that images per second of ResNet-50 come out as published for V100, A100 and H100 (FP32 and FP16
 * within 15 %, TF32 within 20 %); int8 has no published training figure, its 50 % is an assumption,
 * and so are 85 % of the bandwidth and 2 microseconds a kernel. */
#include "predict/card.h"

#include <string.h>

const struct oct_card_assumptions oct_card_assumptions = {
    .efficiency = {[OCT_UNIT_INT8] = 0.50,
        [OCT_UNIT_FP16] = 0.55,
        [OCT_UNIT_TF32] = 0.33,
        [OCT_UNIT_FP32] = 0.80},
    .band_low = 0.30,
    .band_high = 0.60,
    .bandwidth = 0.85,
    .launch_seconds = 2e-6,
    .issue_slots = 4,
};

static const struct oct_card cards[] = {
    /* int8, FP16, TF32, FP32 */
    {"t4", "NVIDIA T4", 75, 40, 1.59, 0.65, {130.0, 65.0, 0.0, 8.1}, 1.0, 320.0, 16.0},
    {"2080ti", "NVIDIA GeForce RTX 2080 Ti", 75, 68, 1.545, 1.0, {215.0, 53.8, 0.0, 13.4}, 1.0,
        616.0, 11.0},
    {"a100", "NVIDIA A100 SXM 80 GB", 80, 108, 1.41, 1.0, {624.0, 312.0, 156.0, 19.5}, 1.0, 2039.0,
        80.0},
    {"3090", "NVIDIA GeForce RTX 3090", 86, 82, 1.695, 1.0, {284.0, 71.0, 0.0, 35.6}, 1.0, 936.0,
        24.0},
    {"4090", "NVIDIA GeForce RTX 4090", 89, 128, 2.52, 1.0, {661.0, 165.0, 0.0, 82.6}, 1.0, 1008.0,
        24.0},
    {"h100", "NVIDIA H100 SXM", 90, 132, 1.83, 1.0, {1979.0, 989.0, 494.0, 66.9}, 0.63, 3352.0,
        80.0},
};

const struct oct_card *oct_card_at(size_t index)
{
    return index < sizeof cards / sizeof cards[0] ? &cards[index] : NULL;
}

const struct oct_card *oct_card_find(const char *name)
{
    for (size_t i = 0; oct_card_at(i); i++)
        if (strcmp(cards[i].name, name) == 0)
            return &cards[i];
    return NULL;
}

const char *oct_card_name(size_t index)
{
    const struct oct_card *card = oct_card_at(index);
    return card ? card->name : NULL;
}
