/* Integer-only activations on the CPU: the coefficients, one item over the channels (base/shift.h),
 * and the pass over elements (vec_shift.c). */
#include "backend_check.h"
#include "base/shift.h"
#include "cpu/vec_ops.h"

static struct oct_shift_problem problem_of(const struct oct_shift_finalize_args *g)
{
    struct oct_shift_problem p = {.has_scale = g->scale != NULL,
        .has_residual = g->residual_scale != NULL,
        .window = g->window,
        .scale = g->scale ? g->scale[0] : 1.0f,
        .y_unit = g->w_scale ? g->y_scale[0] * g->w_scale[0] : g->y_scale[0],
        .residual_unit = g->residual_scale ? g->residual_scale[0] : 0.0f,
        .x_unit = g->x_scale[0]};
    return p;
}

static void find_amax(const struct oct_shift_finalize_args *g)
{
    for (int c = 0; c < g->channels; c++)
        g->amax[c] = oct_shift_amax(
            g->acc->min[c], g->acc->max[c], g->shift.bias[c], g->relu, g->shift.by[OCT_SHIFT_UNIT]);
}

static void finalize_work(void *arg, int64_t item, int thread)
{
    const struct oct_shift_finalize_args *g = arg;
    (void)item, (void)thread;
    if (g->acc) {
        find_amax(g);
        return;
    }
    const struct oct_shift_problem problem = problem_of(g);
    const struct oct_shift_plan plan = oct_shift_plan_of(&problem);
    g->shift.by[OCT_SHIFT_MULTIPLIER] = plan.multiplier;
    g->shift.by[OCT_SHIFT_Y] = plan.by_y;
    g->shift.by[OCT_SHIFT_RESIDUAL] = plan.by_residual;
    g->shift.by[OCT_SHIFT_RIGHT] = plan.right;
    g->shift.by[OCT_SHIFT_UNIT] = plan.unit;
    for (int c = 0; c < g->channels; c++) {
        const float bias = g->bias ? g->bias[g->bias_count == 1 ? 0 : c] : 0.0f;
        g->shift.bias[c] = oct_shift_bias(bias, plan.unit);
        if (!g->a)
            continue;
        g->a[c] = plan.a;
        g->b[c] = 0.0f;
        g->ix[c] = g->result ? problem.x_unit : problem.y_unit;
        g->jx[c] = 0.0f;
    }
}

static enum oct_status shift_finalize(oct_backend *backend, const struct oct_shift_finalize_args *g)
{
    struct oct_shift_finalize_args args = *g;
    OCT_TRY(oct_check_shift_finalize(g));
    oct_pool_run(oct_cpu_of(backend)->pool, 1, finalize_work, &args);
    return OCT_OK;
}

/* In a pool's thread, where subnormals are zero. */
static void write_amax(void *arg, int64_t item, int thread)
{
    const struct oct_shift_job *job = arg;
    (void)item, (void)thread;
    job->args->amax[0] = (float)job->largest * oct_unit_of(job->args->shift.by[OCT_SHIFT_UNIT]);
}

static enum oct_status act_shift(oct_backend *backend, const struct oct_act_shift_args *a)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    struct oct_shift_job job = {.args = a};
    OCT_TRY(oct_check_act_shift(a));
    oct_pool_run(cpu->pool, oct_vec_items(a->rows * a->channels, OCT_VEC_QUANTISE),
        cpu->ops->act_shift, &job);
    if (a->amax)
        oct_pool_run(cpu->pool, 1, write_amax, &job);
    return OCT_OK;
}

void oct_cpu_shift_install(oct_backend *table)
{
    table->shift_finalize = shift_finalize;
    table->act_shift = act_shift;
}
