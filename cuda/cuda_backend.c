/* Opens the CUDA backend: the device, its refusals, the stream, the table. */
#include "cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST_ARCH = 75, ARCH_B300 = 103 };

enum oct_status oct_cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return OCT_OK;
    (void)cudaGetLastError(); /* or the next launch would report this failure again */
    if (error == cudaErrorMemoryAllocation)
        return oct_fail(
            OCT_NOMEM, "the device has too little memory (%s): use a smaller batch or model", what);
    return oct_fail(
        OCT_DEVICE, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

/* "cuda:3" is 3, "cuda" and "sim" are 0. */
static enum oct_status parse_ordinal(const char *device, int *out)
{
    const char *colon = strchr(device, ':');
    char *end = NULL;
    long value = 0;

    if (colon) {
        errno = 0;
        value = strtol(colon + 1, &end, 10);
        if (colon[1] < '0' || colon[1] > '9' || *end || errno != 0 || value > 1000)
            return oct_fail(OCT_ARG,
                "device \"%s\": a device number from 0 on is expected after the colon", device);
    }
    *out = (int)value;
    return OCT_OK;
}

static enum oct_status find_device(const char *device, int *ordinal)
{
    int count = 0;
    cudaError_t error;

    OCT_TRY(parse_ordinal(device, ordinal));
    error = cudaGetDeviceCount(&count);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
        return oct_fail(
            OCT_DEVICE, "device \"%s\": this machine has no CUDA device: use --device cpu", device);
    if (error == cudaErrorInsufficientDriver)
        return oct_fail(OCT_DEVICE,
            "device \"%s\": no NVIDIA driver, or one that is too old for CUDA %d.%d: install a "
            "newer driver or use --device cpu",
            device, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    OCT_TRY(oct_cuda_status(error, "asking for CUDA devices"));
    if (*ordinal >= count)
        return oct_fail(OCT_DEVICE,
            "device \"%s\" is not there: this machine has %d CUDA device%s, counted from 0", device,
            count, count == 1 ? "" : "s");
    return OCT_OK;
}

static enum oct_status read_properties(struct oct_cuda *cuda)
{
    int major = 0, minor = 0;
    const int device = cuda->device;

    OCT_CUDA(cudaSetDevice(device));
    OCT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    OCT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    OCT_CUDA(
        cudaDeviceGetAttribute(&cuda->multiprocessors, cudaDevAttrMultiProcessorCount, device));
    cuda->arch = 10 * major + minor;
    snprintf(cuda->isa_name, sizeof cuda->isa_name, "sm_%d", cuda->arch);
    if (cuda->arch < OLDEST_ARCH)
        return oct_fail(OCT_UNSUPPORTED,
            "CUDA device %d is %s, which has no int8 tensor cores: Turing (sm_75) or newer is "
            "needed",
            device, cuda->isa_name);
    if (cuda->arch == ARCH_B300)
        return oct_fail(OCT_UNSUPPORTED,
            "CUDA device %d is sm_103 (B300), whose int8 tensor cores run at a thirtieth of those "
            "of sm_100: int8 is pointless there, use another device",
            device);
    return OCT_OK;
}

static double nothing_to_probe(oct_backend *backend)
{
    (void)backend;
    return 0;
}

static void install(oct_backend *table)
{
    const char *graphs = getenv("OCT_CUDA_GRAPHS"); /* "off": every op by itself, to find a fault */

    oct_cuda_memory_install(table);
    if (!graphs || strcmp(graphs, "off") != 0)
        oct_cuda_graph_install(table);
    table->slowdown = nothing_to_probe;
    table->conv_fprop_check = oct_cuda_conv_fprop_check;
    table->conv_fprop = oct_cuda_conv_fprop;
    table->conv_dgrad_check = oct_cuda_conv_dgrad_check;
    table->conv_dgrad = oct_cuda_conv_dgrad;
    table->conv_wgrad_check = oct_cuda_conv_wgrad_check;
    table->conv_wgrad = oct_cuda_conv_wgrad;
    table->weight_pack_bytes = oct_cuda_weight_pack_bytes;
    table->weight_pack = oct_cuda_weight_pack;
    table->stats_clear = oct_cuda_stats_clear;
    table->channel_workspace = oct_cuda_channel_workspace;
    table->quantise = oct_cuda_quantise;
    table->channel_stats = oct_cuda_channel_stats;
    table->channel_sum = oct_cuda_channel_sum;
    table->count_above = oct_cuda_count_above;
    table->range_update = oct_cuda_range_update;
    table->cosine_search = oct_cuda_cosine_search;
    table->bn_finalize = oct_cuda_bn_finalize;
    table->act_fwd = oct_cuda_act_fwd;
    table->bn_workspace = oct_cuda_bn_workspace;
    table->bn_bwd_reduce = oct_cuda_bn_bwd_reduce;
    table->bn_bwd_finalize = oct_cuda_bn_bwd_finalize;
    table->bn_bwd_apply = oct_cuda_bn_bwd_apply;
    table->affine_finalize = oct_cuda_affine_finalize;
    table->affine_bwd_finalize = oct_cuda_affine_bwd_finalize;
    table->shift_finalize = oct_cuda_shift_finalize;
    table->act_shift = oct_cuda_act_shift;
    table->pool = oct_cuda_pool;
    table->pool_bwd = oct_cuda_pool_bwd;
    table->image = oct_cuda_image;
    table->loss = oct_cuda_loss;
    table->sgd = oct_cuda_sgd;
    table->regrid = oct_cuda_regrid;
    table->barrier_bwd = oct_cuda_barrier_bwd;
    table->compensate = oct_cuda_compensate;
    table->compensate_bwd = oct_cuda_compensate_bwd;
    table->sgd_fixed = oct_cuda_sgd_fixed;
    table->ema = oct_cuda_ema;
}

static void close_cuda(oct_backend *backend)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    if (cuda->stream) {
        (void)cudaSetDevice(cuda->device);
        (void)cudaStreamSynchronize(cuda->stream);
        oct_cuda_memory_close(cuda);
        (void)cudaStreamDestroy(cuda->stream);
    }
    free(cuda);
}

enum oct_status oct_cuda_open(const struct oct_backend_options *options, oct_backend **out)
{
    enum oct_status status = OCT_OK;
    struct oct_cuda *cuda = calloc(1, sizeof *cuda);

    if (!cuda)
        return oct_fail(OCT_NOMEM, "no memory for the CUDA backend");
    if (options->isa && strcmp(options->isa, "auto") != 0)
        OCT_OUT(oct_fail(OCT_ARG,
            "instruction set \"%s\" was asked for on device \"%s\", whose kernels follow from the "
            "device: leave it \"auto\"",
            options->isa, options->device));
    OCT_OUT(find_device(options->device, &cuda->device));
    OCT_OUT(read_properties(cuda));
    OCT_OUT(oct_cuda_status(
        cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "making a stream"));
    OCT_OUT(oct_cuda_memory_open(cuda));
    cuda->table.name = strncmp(options->device, "sim", 3) == 0 ? "sim" : "cuda";
    cuda->table.isa = cuda->isa_name;
    cuda->table.ctx = cuda;
    cuda->table.close = close_cuda;
    install(&cuda->table);
    *out = &cuda->table;
    return OCT_OK;
out:
    close_cuda(&cuda->table);
    return status;
}
