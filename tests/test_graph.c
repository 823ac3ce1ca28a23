/* The network as a whole: gradients of the loss agree with finite differences, through residual
 * additions, shortcuts, pooling, normalisation, biases and scales. */
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double batch_loss(struct oct_trainer *t)
{
    struct oct_graph *g = t->graph;
    const float *loss;
    double sum = 0.0;
    cr_assert_eq(oct_graph_prepare(g), OCT_OK);
    cr_assert_eq(oct_graph_forward(g), OCT_OK);
    loss = g->loss->data;
    for (int i = 0; i < g->batch; i++)
        sum += loss[i];
    return sum / g->batch;
}

/* Slope of the loss along the gradient of one parameter: must be its squared length. Along the
 * gradient the signal is as large as it can be against f32 rounding. The loss moves by `step`, or
 * twice that, to either side. */
static void check_param(struct oct_trainer *t, const struct oct_param *param, double step)
{
    size_t n = (size_t)param->count;
    float *w = param->value->data, *grad = malloc(n * sizeof *grad), *old = malloc(n * sizeof *old);
    double square = 0.0, slope[2];

    memcpy(grad, param->grad->data, n * sizeof *grad);
    memcpy(old, w, n * sizeof *old);
    for (size_t i = 0; i < n; i++)
        square += (double)grad[i] * grad[i];
    for (int k = 0; k < 2; k++) { /* two step lengths: their difference shows the curvature */
        double h = (k ? step : 2.0 * step) / sqrt(square), up, down;
        for (size_t i = 0; i < n; i++)
            w[i] = old[i] + (float)(h * grad[i]);
        up = batch_loss(t);
        for (size_t i = 0; i < n; i++)
            w[i] = old[i] - (float)(h * grad[i]);
        down = batch_loss(t);
        slope[k] = (up - down) / (2.0 * h);
    }
    memcpy(w, old, n * sizeof *old);
    /* Rounding: each of some 20 layers adds roundings of 2^-24 to its activations; they add in
     * quadrature and BN may amplify them a few times, so that a loss near 2 is known to 2^-19.
     * Over the step 2h = 2 step / |g| that is a slope of 2^-19 |g| / step. Curvature and the kinks
     * of ReLU: the change between the two step lengths, with a factor for the kinks. */
    double tolerance = ldexp(sqrt(square), -19) / step + 4.0 * fabs(slope[0] - slope[1]);
    cr_expect(fabs(slope[1] - square) <= tolerance, "%s: slope %g, squared gradient %g (%g)",
        param->name, slope[1], square, slope[0]);
    free(grad);
    free(old);
}

/* Parameters that begin at 0 hide the gradients of those before them. What takes their place is
 * small, so that the loss of a network without normalisation stays near 2 too. */
static void fill_zeros(struct oct_graph *g)
{
    for (int i = 0; i < g->param_count; i++) {
        float *w = g->params[i].value->data;
        for (int64_t j = 0; j < g->params[i].count; j++)
            w[j] = w[j] != 0.0f ? w[j] : 0.03f * sinf((float)(j + i + 1));
    }
}

static void check_model(const char *model, int size, double step)
{
    struct oct_options o;
    oct_trainer *t = NULL;
    struct oct_step_result r;
    struct oct_batch batch;

    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 64;
    o.synthetic_size = size;
    o.model = model;
    o.precision = "fp32";
    o.batch_size = 16;
    o.lr = 0.02;
    o.threads = 2;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s", oct_last_error());
    fill_zeros(t->graph);
    cr_assert_eq(oct_graph_prepare(t->graph), OCT_OK);
    for (int i = 0; i < 2; i++) /* away from the initial point, where BN gradients are special */
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK);
    struct oct_graph *g = t->graph;
    cr_assert_eq(oct_loader_next(t->train_loader, &batch), OCT_OK);
    memcpy(g->images->data, batch.images, (size_t)16 * size * size * t->train->c);
    memcpy(g->labels->data, batch.labels, 16 * sizeof(int32_t));
    g->training = true;
    g->grad_mode = OCT_OVERWRITE;
    batch_loss(t);
    cr_assert_eq(oct_graph_backward(g), OCT_OK);
    for (int i = 0; i < g->param_count; i++)
        check_param(t, &g->params[i], step);
    oct_trainer_close(t);
}

Test(graph, gradients_of_a_cifar_resnet_agree_with_finite_differences)
{
    check_model("resnet8", 16, 1e-3);
}

Test(graph, gradients_of_an_imagenet_resnet_agree_with_finite_differences)
{
    check_model("resnet18", 33, 1e-3);
}

Test(graph, gradients_of_lenet5_agree_with_finite_differences)
{
    check_model("lenet5", 28, 1e-3);
}

/* Pooling behind BN has many kinks, on either side of which another pixel is the largest: shorter
 * steps meet fewer. */
Test(graph, gradients_of_lenet5_bn_agree_with_finite_differences)
{
    check_model("lenet5_bn", 28, 2.5e-4);
}

Test(graph, gradients_of_a_preactivation_resnet_agree_with_finite_differences)
{
    check_model("preact_resnet8", 16, 1e-3);
}

Test(graph, gradients_of_a_fixup_resnet_agree_with_finite_differences)
{
    check_model("fixup_resnet8", 16, 1e-3);
}
