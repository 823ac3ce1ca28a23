/* The backend table's products: checks what was asked, sends float operands to oneDNN and int8 ones
 * to the sweeps and the weight gradient. */
#include "cpu/cpu_conv.h"

#include "backend_check.h"
#include "cpu/dnnl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Best first. */
static const struct oct_tile_kernels *const kernels[] = {
    &oct_tile_amx, &oct_tile_vnni, &oct_tile_c, &oct_tile_amx_emulated, &oct_tile_simulate};

enum { KERNELS = sizeof kernels / sizeof kernels[0] };

static const struct oct_tile_kernels *find_kernels(const char *isa)
{
    for (int i = 0; i < KERNELS; i++) {
        int wanted = isa ? strcmp(isa, kernels[i]->name) == 0 : kernels[i]->automatic;
        if (wanted && kernels[i]->available())
            return kernels[i];
    }
    return NULL;
}

static enum oct_status refuse_isa(const char *isa)
{
    char list[128] = "";
    size_t used = 0;
    for (int i = 0; i < KERNELS && used < sizeof list; i++) {
        if (kernels[i]->available())
            used += (size_t)snprintf(
                list + used, sizeof list - used, "%s%s", used ? ", " : "", kernels[i]->name);
    }
    return oct_fail(OCT_UNSUPPORTED,
        "instruction set '%s' is not available on this CPU; it has: %s", isa, list);
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

enum oct_status oct_cpu_conv_open(struct oct_cpu *cpu, const char *isa)
{
    const int threads = oct_pool_threads(cpu->pool);
    const struct oct_tile_kernels *tile = find_kernels(isa);
    if (!tile)
        return refuse_isa(isa);
    cpu->scratch = calloc((size_t)threads, sizeof *cpu->scratch);
    cpu->scratch_count = threads;
    for (int i = 0; cpu->scratch && i < threads; i++) {
        const size_t bytes = (sizeof(struct oct_conv_scratch) + 63) / 64 * 64;
        cpu->scratch[i] = aligned_alloc(64, bytes);
        if (!cpu->scratch[i]) {
            oct_cpu_conv_close(cpu);
            break;
        }
        memset(cpu->scratch[i], 0, bytes);
    }
    if (!cpu->scratch)
        return oct_fail(OCT_NOMEM, "no memory for the work space of %d threads", threads);
    cpu->tile = tile;
    cpu->conv = !tile->portable && has_avx512() ? &oct_vec_conv_avx512 : &oct_vec_conv_base;
    snprintf(cpu->isa_name, sizeof cpu->isa_name, "%s", tile->name);
    return OCT_OK;
}

void oct_cpu_conv_close(struct oct_cpu *cpu)
{
    for (int i = 0; cpu->scratch && i < cpu->scratch_count; i++)
        free(cpu->scratch[i]);
    free(cpu->scratch);
    cpu->scratch = NULL;
}

static struct oct_sweep_args fprop_sweep(const struct oct_conv_fprop_args *a)
{
    struct oct_sweep_args s = {.shape = &a->shape,
        .x = &a->x,
        .w = &a->w,
        .bias = a->bias,
        .out = a->y,
        .dtype = a->y_dtype,
        .mode = OCT_OVERWRITE,
        .norm = a->norm,
        .shift = a->shift,
        .relu = a->relu,
        .stats = a->stats,
        .workspace = a->workspace};
    return s;
}

static struct oct_sweep_args dgrad_sweep(const struct oct_conv_dgrad_args *a)
{
    struct oct_sweep_args s = {.shape = &a->shape,
        .dgrad = 1,
        .x = &a->dy,
        .w = &a->w,
        .out = a->dx,
        .dtype = a->dx_dtype,
        .mode = a->mode,
        .workspace = a->workspace};
    return s;
}

static enum oct_status conv_fprop_check(
    oct_backend *backend, const struct oct_conv_fprop_args *a, size_t *workspace)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    const struct oct_sweep_args sweep = fprop_sweep(a);
    if (a->x.dtype != OCT_S8)
        return oct_dnnl_conv_fprop_check(cpu, a, workspace);
    OCT_TRY(oct_check_conv_fprop(a));
    return oct_sweep_check(cpu, &sweep, workspace);
}

static enum oct_status conv_fprop(oct_backend *backend, const struct oct_conv_fprop_args *a)
{
    const struct oct_sweep_args sweep = fprop_sweep(a);
    if (a->x.dtype != OCT_S8)
        return oct_dnnl_conv_fprop(oct_cpu_of(backend), a);
    oct_sweep_run(oct_cpu_of(backend), &sweep);
    return OCT_OK;
}

static enum oct_status conv_dgrad_check(
    oct_backend *backend, const struct oct_conv_dgrad_args *a, size_t *workspace)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    const struct oct_sweep_args sweep = dgrad_sweep(a);
    if (a->dy.dtype != OCT_S8)
        return oct_dnnl_conv_dgrad_check(cpu, a, workspace);
    OCT_TRY(oct_check_conv_dgrad(a));
    return oct_sweep_check(cpu, &sweep, workspace);
}

static enum oct_status conv_dgrad(oct_backend *backend, const struct oct_conv_dgrad_args *a)
{
    const struct oct_sweep_args sweep = dgrad_sweep(a);
    if (a->dy.dtype != OCT_S8)
        return oct_dnnl_conv_dgrad(oct_cpu_of(backend), a);
    oct_sweep_run(oct_cpu_of(backend), &sweep);
    return OCT_OK;
}

static enum oct_status conv_wgrad_check(
    oct_backend *backend, const struct oct_conv_wgrad_args *a, size_t *workspace)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    if (a->x.dtype != OCT_S8)
        return oct_dnnl_conv_wgrad_check(cpu, a, workspace);
    OCT_TRY(oct_check_conv_wgrad(a));
    return oct_wgrad_check(cpu, a, workspace);
}

static enum oct_status conv_wgrad(oct_backend *backend, const struct oct_conv_wgrad_args *a)
{
    if (a->x.dtype != OCT_S8)
        return oct_dnnl_conv_wgrad(oct_cpu_of(backend), a);
    oct_wgrad_run(oct_cpu_of(backend), a);
    return OCT_OK;
}

static size_t weight_pack_bytes(
    oct_backend *backend, const struct oct_conv_shape *v, enum oct_dtype dtype, int dgrad)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    if (dtype != OCT_S8)
        return oct_dnnl_weight_pack_bytes(cpu, v, dtype, dgrad);
    return oct_sweep_pack_bytes(v, cpu->tile, dgrad);
}

static enum oct_status weight_pack(oct_backend *backend, const struct oct_weight_pack_args *a)
{
    if (a->dtype != OCT_S8)
        return oct_dnnl_weight_pack(oct_cpu_of(backend), a);
    OCT_TRY(oct_check_weight_pack(a));
    oct_pack_run(oct_cpu_of(backend), a);
    return OCT_OK;
}

static enum oct_status stats_clear(
    oct_backend *backend, const struct oct_acc_stats *stats, int channels)
{
    (void)backend;
    for (int k = 0; k < channels; k++) {
        stats->sum[k] = stats->sumsq[k] = 0;
        stats->min[k] = INT64_MAX;
        stats->max[k] = INT64_MIN;
    }
    return OCT_OK;
}

void oct_cpu_conv_install(oct_backend *table)
{
    table->conv_fprop_check = conv_fprop_check;
    table->conv_fprop = conv_fprop;
    table->conv_dgrad_check = conv_dgrad_check;
    table->conv_dgrad = conv_dgrad;
    table->conv_wgrad_check = conv_wgrad_check;
    table->conv_wgrad = conv_wgrad;
    table->weight_pack_bytes = weight_pack_bytes;
    table->weight_pack = weight_pack;
    table->stats_clear = stats_clear;
}
