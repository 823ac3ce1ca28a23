/* octet analyse: float64 gradients against the oracle's, what SNR and cosine say of known errors,
 * and a recorded run measured twice. */
#include "support/folder.h"
#include "support/runs.h"
#include "support/support.h"
#include "train/analyse.h"
#include "train/safetensors.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* <conv(x, w), dy> = <x, dX> = <w, dW>, with a convolution written out here. Integers of at most
 * three bits: all sums are exact in double. */
static double forward_dot(
    const struct oct_conv_shape *v, const float *x, const float *w, const float *dy)
{
    double sum = 0.0;
    int p_count = oct_conv_p(v), q_count = oct_conv_q(v);
    for (int n = 0; n < v->n; n++)
        for (int p = 0; p < p_count; p++)
            for (int q = 0; q < q_count; q++)
                for (int k = 0; k < v->k; k++, dy++)
                    for (int i = 0; i < v->r * v->s * v->c; i++) {
                        int r = i / (v->s * v->c), s = i / v->c % v->s, c = i % v->c;
                        int h = p * v->stride_h - v->pad_h + r,
                            column = q * v->stride_w - v->pad_w + s;
                        if (h >= 0 && h < v->h && column >= 0 && column < v->w)
                            sum += (double)*dy *
                                   (double)x[((n * v->h + h) * v->w + column) * v->c + c] *
                                   (double)w[k * v->r * v->s * v->c + i];
                    }
    return sum;
}

static float *integers(int64_t n, uint32_t seed)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((int)(oct_mix32((uint32_t)i * 7919u + seed) % 15u) - 7);
    return x;
}

Test(analyse, float64_gradients_are_adjoint_to_the_convolution)
{
    for (int stride = 1; stride <= 2; stride++)
        for (int filter = 1; filter <= 3; filter += 2) {
            struct oct_conv_shape v = oct_conv_pointwise(2, 7, 6, 5, 3);
            v.r = v.s = filter;
            v.stride_h = v.stride_w = stride;
            v.pad_h = v.pad_w = filter / 2;
            int64_t nx = oct_conv_x_elements(&v), nw = oct_conv_w_elements(&v);
            float *x = integers(nx, 1), *w = integers(nw, 2);
            float *dy = integers(oct_conv_y_elements(&v), 3);
            double *dx = malloc((size_t)nx * sizeof *dx), *dw = malloc((size_t)nw * sizeof *dw);
            double with_x = 0.0, with_w = 0.0, want = forward_dot(&v, x, w, dy);
            oct_float64_gradients(&v, x, w, dy, dw, dx);
            for (int64_t i = 0; i < nx; i++)
                with_x += dx[i] * (double)x[i];
            for (int64_t i = 0; i < nw; i++)
                with_w += dw[i] * (double)w[i];
            cr_expect_eq(
                with_x, want, "filter %d, stride %d: %g, %g", filter, stride, with_x, want);
            cr_expect_eq(
                with_w, want, "filter %d, stride %d: %g, %g", filter, stride, with_w, want);
            free(x), free(w), free(dy), free(dx), free(dw);
        }
}

Test(analyse, measures_of_known_errors)
{
    const double want[6] = {3.0, 4.0, 0.0, 0.0, 1.0, 0.0};
    const float got[6] = {3.0f, 4.5f, 1.0f, 0.0f, 1.0f, 1.0f};
    /* 25 against 0.25; nothing against 1; 1 against 1 */
    cr_expect_eq(oct_snr(got, want, 2), 10.0 * log10(100.0));
    cr_expect(isnan(oct_snr(got + 2, want + 2, 2)));
    cr_expect_eq(oct_worst_snr(got, want, 3, 2), 0.0);
    cr_expect(isinf(oct_snr(got, (const double[]){3.0, 4.5}, 2)));
    cr_expect_eq(oct_cosine(got + 4, want + 4, 2), 1.0 / sqrt(2.0));
    cr_expect(isnan(oct_cosine(got, want + 2, 2)));
}

enum { ROWS = 4096 };

struct table {
    struct oct_analysis_row row[ROWS];
    char scheme[ROWS][64], layer[ROWS][64];
    size_t count;
};

static void keep(void *user, const struct oct_analysis_row *row)
{
    struct table *table = user;
    cr_assert_lt(table->count, (size_t)ROWS);
    struct oct_analysis_row *to = &table->row[table->count];
    memset(to, 0, sizeof *to);
    to->step = row->step;
    to->snr_dw_worst = row->snr_dw_worst;
    to->snr_dw = row->snr_dw;
    to->cosine_dw = row->cosine_dw;
    to->cosine_dx = row->cosine_dx;
    to->tail_share = row->tail_share;
    to->clipped_share = row->clipped_share;
    snprintf(table->scheme[table->count], 64, "%s", row->scheme);
    snprintf(table->layer[table->count++], 64, "%s", row->layer);
}

static struct oct_options recorded_run(const char *folder)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 128;
    o.synthetic_size = 16;
    o.model = "resnet8";
    o.precision = "fp32";
    o.batch_size = 16;
    o.epochs = 2;
    o.threads = 2;
    o.output_dir = folder;
    o.record_gradients = 40; /* 9 convolutions: two steps a point, the last one not whole */
    return o;
}

static void train(const struct oct_options *o)
{
    struct oct_result result;
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(o, &t), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(oct_trainer_run(t, &result), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(t);
}

static size_t recorded_errors(const char *folder, int step)
{
    struct oct_safetensors *file = NULL;
    char name[64];
    snprintf(name, sizeof name, "gradients-%08d.safetensors", step);
    if (access(folder_path(folder, name), F_OK) != 0)
        return 0;
    cr_assert_eq(
        oct_safetensors_open(folder_path(folder, name), &file), OCT_OK, "%s", oct_last_error());
    size_t count = oct_safetensors_count(file);
    cr_assert_eq(count % 3, 0);
    oct_safetensors_close(file);
    return count / 3;
}

static const struct oct_analysis_row *find(
    const struct table *table, const char *scheme, const char *layer, int64_t step)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->scheme[i], scheme) == 0 && strcmp(table->layer[i], layer) == 0 &&
            table->row[i].step == step)
            return &table->row[i];
    return NULL;
}

/* 16 steps in all: the points end at step 2 (as many as they need), 2, 8 and 16. */
Test(analyse, a_recorded_run, .timeout = 300)
{
    static struct table table, again;
    char *folder = folder_make();
    struct oct_options o = recorded_run(folder);
    train(&o);
    cr_expect_eq(recorded_errors(folder, 0), 9);
    cr_expect_eq(recorded_errors(folder, 1), 9);
    cr_expect_eq(recorded_errors(folder, 2), 0);
    cr_expect_eq(recorded_errors(folder, 6), 9);
    cr_expect_eq(recorded_errors(folder, 7), 9);
    cr_expect_eq(recorded_errors(folder, 14), 4);
    cr_expect_eq(recorded_errors(folder, 15), 0);

    cr_assert_eq(oct_analyse(&o, keep, &table), OCT_OK, "%s", oct_last_error());
    o.threads = 1;
    o.isa = "c";
    cr_assert_eq(oct_analyse(&o, keep, &again), OCT_OK, "%s", oct_last_error());
    cr_expect_eq(table.count, again.count);
    cr_expect_eq(memcmp(table.row, again.row, sizeof table.row), 0, "not deterministic");

    for (size_t i = 0; oct_scheme_name(i); i++) {
        const struct oct_analysis_row *first = find(&table, oct_scheme_name(i), "conv1", 0);
        const struct oct_analysis_row *row = find(&table, oct_scheme_name(i), "layer2.0.conv2", 7);
        cr_assert(first && row, "%s was not measured", oct_scheme_name(i));
        cr_expect(isnan(first->cosine_dx), "the first layer has no dX");
        cr_expect(row->cosine_dw > 0.9 && row->cosine_dw <= 1.0, "%g", row->cosine_dw);
        cr_expect(row->cosine_dx > 0.9 && row->cosine_dx <= 1.0, "%g", row->cosine_dx);
        cr_expect(row->snr_dw_worst <= row->snr_dw, "%g, %g", row->snr_dw_worst, row->snr_dw);
        /* two planes of W and dY lose less than one of dY alone */
        cr_expect(first->snr_dw > 20.0, "%s: %g dB", oct_scheme_name(i), first->snr_dw);
    }
    cr_expect_null(find(&table, "amax, unclipped", "conv1", 0), "an ablation that changes nothing");
    cr_expect_not_null(find(&table, "amax, per channel", "conv1", 0));

    for (size_t i = 0; i < table.count; i++) {
        table.row[i].scheme = table.scheme[i];
        table.row[i].layer = table.layer[i];
    }
    char *figure = strdup(folder_path(folder, "analysis.svg"));
    cr_assert_eq(oct_plot_analysis(table.row, table.count, figure), OCT_OK, "%s", oct_last_error());
    expect_svg(figure, "dai8, per tensor: worst channel ");
    cr_expect_eq(oct_plot_analysis(table.row, 0, figure), OCT_ARG, "nothing to draw");
    free(figure);
    folder_remove(folder);
}

Test(analyse, what_cannot_be_recorded_is_refused)
{
    char *folder = folder_make();
    struct oct_options o = recorded_run(folder);
    oct_trainer *t = NULL;
    static struct table table;
    cr_expect_eq(oct_analyse(&o, keep, &table), OCT_IO);
    cr_expect(strstr(oct_last_error(), "--record-gradients"), "%s", oct_last_error());
    o.precision = "int8";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_ARG);
    cr_expect(strstr(oct_last_error(), "fp32"), "%s", oct_last_error());
    o = recorded_run(NULL);
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_ARG);
    cr_expect_null(t);
    folder_remove(folder);
}
