/* The products' checks at plan time, and the entries that are a sweep (conv_sweep.h). */
#include "backend_check.h"
#include "conv_fold.h"
#include "conv_merge.h"
#include "conv_sweep.h"
#include "conv_wgrad.h"

static enum oct_status check_int8(const char *op, enum oct_dtype dtype)
{
    if (dtype != OCT_S8)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: operands are %s: the cuda backend has int8 products only, use --precision int8 "
            "without float layers or --device cpu",
            op, oct_dtype_name(dtype));
    return OCT_OK;
}

/* Kernels count pixels and the bytes of one image in 32 bits. */
static enum oct_status check_size(const char *op, const struct oct_conv_shape *v)
{
    const int64_t p = oct_conv_p(v), q = oct_conv_q(v), most = INT32_MAX / 2;
    const int64_t pixels_x = (int64_t)v->n * v->h * v->w, pixels_y = v->n * p * q;
    const int64_t image_x = (int64_t)v->h * v->w * v->c, image_y = p * q * v->k;
    const int64_t filter = (int64_t)v->r * v->s * v->c;
    const int64_t most_filter = (int64_t)65535 * 4 * 256; /* sums of wgrad: a grid's second axis */
    if (pixels_x > most || pixels_y > most)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: a batch of %lld pixels, the cuda backend takes %lld: use a smaller batch", op,
            (long long)(pixels_x > pixels_y ? pixels_x : pixels_y), (long long)most);
    if (filter > most_filter)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: a filter of %lld elements, the cuda backend takes %lld: use fewer channels", op,
            (long long)filter, (long long)most_filter);
    if (image_x > most || image_y > most)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: an image of %lld elements, the cuda backend takes %lld: use a smaller image or "
            "fewer channels",
            op, (long long)(image_x > image_y ? image_x : image_y), (long long)most);
    return OCT_OK;
}

static enum oct_status check_sums(const char *op, const struct oct_conv_shape *v, int dgrad)
{
    for (int i = 0; i < oct_gpu_sweep_count(v, dgrad); i++) {
        struct oct_gpu_sweep s;
        oct_gpu_sweep_make(v, dgrad, i, &s);
        if (s.depth > OCT_ACC_MAX_K)
            return oct_fail(OCT_UNSUPPORTED,
                "%s: sums of %lld products, an int32 accumulator holds %d: use fewer channels or "
                "a smaller filter",
                op, (long long)s.depth, OCT_ACC_MAX_K);
    }
    return OCT_OK;
}

/* In whole blocks of memory: the coefficients of a normalisation may follow. */
static size_t fold_bytes(const struct oct_gpu_fold *fold, const struct oct_conv_fprop_args *a)
{
    return (oct_gpu_fold_bytes(fold, a->x.planes) + 255) / 256 * 256;
}

enum oct_status oct_cuda_conv_fprop_check(
    oct_backend *backend, const struct oct_conv_fprop_args *a, size_t *workspace)
{
    (void)backend;
    OCT_TRY(check_int8("conv_fprop", a->x.dtype));
    OCT_TRY(oct_check_conv_fprop(a));
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    OCT_TRY(check_size("conv_fprop", &a->shape));
    OCT_TRY(check_size("conv_fprop", &fold.shape));
    OCT_TRY(check_sums("conv_fprop", &a->shape, 0));
    *workspace = fold_bytes(&fold, a) + (a->norm.a ? oct_cuda_merge_bytes(a->shape.k) : 0);
    return OCT_OK;
}

enum oct_status oct_cuda_conv_fprop(oct_backend *backend, const struct oct_conv_fprop_args *a)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    struct oct_operand x = a->x;
    struct oct_cuda_merged *merged = NULL;
    if (fold.down)
        OCT_TRY(oct_cuda_fold(cuda, &a->shape, &a->x, a->workspace, &x));
    if (a->norm.a) {
        merged = (struct oct_cuda_merged *)((char *)a->workspace + fold_bytes(&fold, a));
        OCT_TRY(oct_cuda_merge(cuda, a, merged));
    }
    const struct oct_cuda_sweep_args sweep = {.shape = &a->shape,
        .x = &x,
        .w = &a->w,
        .bias = a->bias,
        .out = a->y,
        .dtype = a->y_dtype,
        .mode = OCT_OVERWRITE,
        .merged = merged,
        .shift = a->shift,
        .relu = a->relu,
        .stats = a->stats,
        .tile = cuda->tiles.fprop};
    return oct_cuda_sweep_run(cuda, &sweep);
}

enum oct_status oct_cuda_conv_dgrad_check(
    oct_backend *backend, const struct oct_conv_dgrad_args *a, size_t *workspace)
{
    (void)backend;
    OCT_TRY(check_int8("conv_dgrad", a->dy.dtype));
    OCT_TRY(oct_check_conv_dgrad(a));
    OCT_TRY(check_size("conv_dgrad", &a->shape));
    OCT_TRY(check_sums("conv_dgrad", &a->shape, 1));
    *workspace = 0;
    return OCT_OK;
}

enum oct_status oct_cuda_conv_dgrad(oct_backend *backend, const struct oct_conv_dgrad_args *a)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    const struct oct_cuda_sweep_args sweep = {.shape = &a->shape,
        .dgrad = 1,
        .x = &a->dy,
        .w = &a->w,
        .out = a->dx,
        .dtype = a->dx_dtype,
        .mode = a->mode,
        .tile = cuda->tiles.dgrad};
    return oct_cuda_sweep_run(cuda, &sweep);
}

enum oct_status oct_cuda_conv_wgrad_check(
    oct_backend *backend, const struct oct_conv_wgrad_args *a, size_t *workspace)
{
    OCT_TRY(check_int8("conv_wgrad", a->x.dtype));
    OCT_TRY(oct_check_conv_wgrad(a));
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    OCT_TRY(check_size("conv_wgrad", &a->shape));
    OCT_TRY(check_size("conv_wgrad", &fold.shape));
    *workspace = oct_cuda_wgrad_workspace(oct_cuda_of(backend), a);
    return OCT_OK;
}
