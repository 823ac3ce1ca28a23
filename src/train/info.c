/* The report of `octet info`: processor, kernels with the rate they reach in a probe, libraries,
 * schemes. */
#include "schemes/scheme.h"
#include "train/trainer.h"

#include <dnnl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct report {
    void (*line)(void *user, const char *text);
    void *user;
};

__attribute__((format(printf, 2, 3))) static void say(
    const struct report *report, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report->line(report->user, text);
}

static void say_processor(const struct report *report)
{
    char text[512], *value;
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info && fgets(text, sizeof text, info)) {
        if (strncmp(text, "model name", 10) != 0 || !(value = strchr(text, ':')))
            continue;
        value[strcspn(value, "\n")] = 0;
        say(report, "processor   %s, %ld online", value + 2, sysconf(_SC_NPROCESSORS_ONLN));
        break;
    }
    if (info)
        fclose(info);
    __builtin_cpu_init();
    say(report,
        "features    avx2 %s, fma %s, avx512f %s, avx512bw %s, avx512vnni %s, avx512bf16 %s",
        __builtin_cpu_supports("avx2") ? "yes" : "no", __builtin_cpu_supports("fma") ? "yes" : "no",
        __builtin_cpu_supports("avx512f") ? "yes" : "no",
        __builtin_cpu_supports("avx512bw") ? "yes" : "no",
        __builtin_cpu_supports("avx512vnni") ? "yes" : "no",
        __builtin_cpu_supports("avx512bf16") ? "yes" : "no");
}

/* A 3x3 convolution of 256 channels at 14x14: compute bound and small enough for the cache. */
static struct oct_conv_shape probe_shape(void)
{
    struct oct_conv_shape v = oct_conv_pointwise(8, 14, 14, 256, 256);
    v.r = v.s = 3;
    v.pad_h = v.pad_w = 1;
    return v;
}

struct probe {
    void *x, *y, *w, *pack, *scale, *workspace, *flag;
};

static void probe_free(oct_backend *backend, struct probe *p)
{
    void *all[] = {p->x, p->y, p->w, p->pack, p->scale, p->workspace, p->flag};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i])
            backend->free(backend, all[i]);
}

static enum oct_status probe_open(
    oct_backend *backend, enum oct_dtype dtype, struct probe *p, struct oct_conv_fprop_args *args)
{
    const float ones[3] = {1.0f, 1.0f, 1.0f};
    const struct oct_conv_shape shape = probe_shape();
    size_t bytes = 0, x = (size_t)oct_conv_x_elements(&shape) * 4;

    *args = (struct oct_conv_fprop_args){.shape = shape,
        .x = {.dtype = dtype, .planes = 1},
        .w = {.dtype = dtype, .planes = 1},
        .y_dtype = dtype == OCT_F32 ? OCT_F32 : OCT_BF16};
    OCT_TRY(backend->conv_fprop_check(backend, args, &bytes));
    OCT_TRY(backend->alloc(backend, x, &p->x));
    OCT_TRY(backend->alloc(backend, (size_t)oct_conv_y_elements(&shape) * 4, &p->y));
    OCT_TRY(backend->alloc(backend, (size_t)oct_conv_w_elements(&shape) * 4, &p->w));
    OCT_TRY(
        backend->alloc(backend, backend->weight_pack_bytes(backend, &shape, dtype, 0), &p->pack));
    OCT_TRY(backend->alloc(backend, sizeof ones, &p->scale));
    OCT_TRY(backend->alloc(backend, bytes ? bytes : 64, &p->workspace));
    OCT_TRY(backend->alloc(backend, 64, &p->flag));
    OCT_TRY(backend->clear(backend, p->x, x));
    OCT_TRY(backend->clear(backend, p->w, (size_t)oct_conv_w_elements(&shape) * 4));
    OCT_TRY(backend->upload(backend, p->scale, ones, sizeof ones));
    float *scale = p->scale;
    struct oct_weight_pack_args pack = {.shape = shape,
        .w = p->w,
        .dtype = dtype,
        .planes = 1,
        .range = {.clip = scale,
            .scale = scale + 1,
            .inverse = scale + 2,
            .count = 1,
            .code_max = OCT_CODE_MAX},
        .fprop = p->pack,
        .flag = p->flag};
    OCT_TRY(backend->weight_pack(backend, &pack));
    args->x.data = p->x;
    args->w.data = p->pack;
    args->x.scale = args->w.scale = dtype == OCT_S8 ? p->scale : NULL;
    args->y = p->y;
    args->workspace = p->workspace;
    return OCT_OK;
}

/* Best rate of a few runs, in 10^12 operations per second (2 per multiply-accumulate). */
static enum oct_status probe_rate(oct_backend *backend, enum oct_dtype dtype, double *tera)
{
    enum oct_status status = OCT_OK;
    struct probe p = {0};
    struct oct_conv_fprop_args args;
    double best = 1e9;

    OCT_OUT(probe_open(backend, dtype, &p, &args));
    for (int i = 0; i < 20; i++) {
        double begin = oct_seconds();
        OCT_OUT(backend->conv_fprop(backend, &args));
        OCT_OUT(backend->sync(backend));
        double seconds = oct_seconds() - begin;
        best = seconds < best ? seconds : best;
    }
    *tera = 2e-12 * (double)oct_conv_macs(&args.shape) / best;
out:
    probe_free(backend, &p);
    return status;
}

static void say_rate(
    const struct report *report, oct_backend *backend, enum oct_dtype dtype, const char *name)
{
    double tera;
    if (probe_rate(backend, dtype, &tera) == OCT_OK)
        say(report, "            %s convolution 3x3, 256 channels, 14x14: %.2f T op/s, %d threads",
            name, tera, backend->threads);
    else
        say(report, "            %s convolution: %s", name, oct_last_error());
}

static void say_kernels(const struct report *report)
{
    static const char *const isas[] = {"amx", "vnni", "c"};
    bool chosen = false;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        oct_backend *backend = NULL;
        struct oct_backend_options options = {.device = "cpu", .isa = isas[i]};
        if (oct_backend_open(&options, &backend) != OCT_OK) {
            say(report, "kernels     %s: not available: %s", isas[i], oct_last_error());
            continue;
        }
        say(report, "kernels     %s%s", isas[i], chosen ? "" : " (chosen)");
        say_rate(report, backend, OCT_S8, "int8");
        if (!chosen) {
            say_rate(report, backend, OCT_BF16, "bf16 (oneDNN)");
            say_rate(report, backend, OCT_F32, "fp32 (oneDNN)");
        }
        chosen = true;
        oct_backend_close(backend);
    }
}

/* What stands behind each device's name, and how far its results have been proven. */
static void say_devices(const struct report *report)
{
    static const struct {
        const char *device, *claim;
    } devices[] = {
        {"cuda", "not yet run on hardware; speeds of GPUs are modelled"},
        {"sim",
            "the CUDA kernels' PTX interpreted on the CPU: bits simulated, speed means nothing"},
    };
    say(report, "devices     cpu: run on this hardware");
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        oct_backend *backend = NULL;
        struct oct_backend_options options = {.device = devices[i].device};
        if (oct_backend_open(&options, &backend) == OCT_OK)
            say(report, "            %s: %s: %s", devices[i].device, backend->isa,
                devices[i].claim);
        else
            say(report, "            %s: not available: %s", devices[i].device, oct_last_error());
        oct_backend_close(backend);
    }
    for (size_t i = 0; oct_card_name(i); i++)
        say(report, "            model:%s: modelled: octet bench predicts a step, nothing is run",
            oct_card_name(i));
}

static enum oct_status say_scheme(const struct report *report, const char *name)
{
    const struct oct_scheme *scheme = oct_scheme_find(name);
    if (!scheme)
        return oct_fail(OCT_ARG, "unknown scheme '%s': octet info lists them", name);
    say(report, "scheme      %s", scheme->name);
    say(report, "source      %s", scheme->paper ? scheme->paper : "none: a baseline of octet");
    for (int i = 0; scheme->notes && scheme->notes[i]; i++)
        say(report, "            %s", scheme->notes[i]);
    for (const struct oct_scheme_option *o = scheme->options; o && o->key; o++)
        say(report, "option      %s=%s: %s", o->key, o->values, o->text);
    return OCT_OK;
}

enum oct_status oct_info(const char *scheme, void (*line)(void *user, const char *text), void *user)
{
    struct report report = {line, user};
    const dnnl_version_t *dnnl = dnnl_version();

    if (scheme)
        return say_scheme(&report, scheme);
    say(&report, "octet       %s", OCT_VERSION);
    say_processor(&report);
    say_kernels(&report);
    say(&report, "libraries   oneDNN %d.%d.%d (fp32 and bf16 products)", dnnl->major, dnnl->minor,
        dnnl->patch);
    say_devices(&report);
    for (size_t i = 0; oct_scheme_at(i); i++)
        say(&report, "scheme      %-6s %s", oct_scheme_at(i)->name,
            oct_scheme_at(i)->paper ? oct_scheme_at(i)->paper : "baseline");
    for (size_t i = 0; oct_model_name(i); i++)
        say(&report, "model       %s", oct_model_name(i));
    return OCT_OK;
}
