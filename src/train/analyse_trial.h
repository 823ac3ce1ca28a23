/* One scheme, or ablation of one, on one recorded layer: codes, products and their distance from
 * float64 (analyse.c). */
#ifndef OCT_ANALYSE_TRIAL_H
#define OCT_ANALYSE_TRIAL_H

#include "quant/quant.h"

/* One recorded layer. */
struct oct_subject {
    char name[80];
    struct oct_conv_shape shape;
    int edge, dgrad;
    const float *x, *w, *dy;
    double *dw, *dx; /* float64 products; dx NULL for a first layer */
};

/* Device memory of one scheme with one layer; its clip values live from step to step. */
struct oct_trial {
    oct_backend *backend;
    struct oct_layer_numerics layer;
    struct oct_plan *plan;
    void *memory, *workspace;
    struct oct_buffer *step;
    struct oct_buffer *x, *w, *dy, *x_codes, *pack, *pack_lo, *dw, *dx;
    struct oct_buffer *codes[2], *codes_lo[2]; /* of dy for dW, for dX */
    struct oct_buffer *amax, *sum, *sumsq, *sigma, *sigma_all, *above, *above_all, *sums;
    struct oct_range_state x_range, w_range, dy_range[2];
};

/* Leaves trial->plan NULL where the layer stays in float: nothing to measure. */
enum oct_status oct_trial_open(struct oct_trial *trial, oct_backend *backend,
    const struct oct_numerics *numerics, const struct oct_subject *subject);
void oct_trial_close(struct oct_trial *trial);
/* Fills everything of *row but its names. `seed` and `step` key stochastic rounding. */
enum oct_status oct_trial_measure(struct oct_trial *trial, const struct oct_subject *subject,
    int64_t step, uint64_t seed, struct oct_analysis_row *row);

#endif
