/* The float products of the CPU backend against bare oneDNN, interleaved in one process.
 *
 *     bench_dnnl [resnet20|resnet18|resnet50|all] [rounds] [threads]
 *
 * Bare oneDNN is what a user of the library gets at best: one primitive per product on an OpenMP
 * team of the same size, the faster of NHWC activations and of every layout left to oneDNN with
 * operands already reordered, weights packed beforehand. Ours reads and writes NHWC and writes dw
 * as KRSC. Minimum over the rounds, in ms of wall time, one product of one layer; the sum counts
 * repeated layers. pack: ours only, both packs of a layer. */
#include "cpu/dnnl.h"
#include "support/support.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void omp_set_num_threads(int threads);

struct layer {
    const char *net;
    int n, c, k, h, r, stride, count;
};

static const struct layer layers[] = {
    {"resnet20", 128, 3, 16, 32, 3, 1, 1},
    {"resnet20", 128, 16, 16, 32, 3, 1, 6},
    {"resnet20", 128, 16, 32, 32, 3, 2, 1},
    {"resnet20", 128, 32, 32, 16, 3, 1, 5},
    {"resnet20", 128, 32, 64, 16, 3, 2, 1},
    {"resnet20", 128, 64, 64, 8, 3, 1, 5},
    {"resnet20", 128, 64, 10, 1, 1, 1, 1},
    {"resnet18", 16, 3, 64, 224, 7, 2, 1},
    {"resnet18", 16, 64, 64, 56, 3, 1, 4},
    {"resnet18", 16, 64, 128, 56, 3, 2, 1},
    {"resnet18", 16, 128, 128, 28, 3, 1, 3},
    {"resnet18", 16, 64, 128, 56, 1, 2, 1},
    {"resnet18", 16, 128, 256, 28, 3, 2, 1},
    {"resnet18", 16, 256, 256, 14, 3, 1, 3},
    {"resnet18", 16, 128, 256, 28, 1, 2, 1},
    {"resnet18", 16, 256, 512, 14, 3, 2, 1},
    {"resnet18", 16, 512, 512, 7, 3, 1, 3},
    {"resnet18", 16, 256, 512, 14, 1, 2, 1},
    {"resnet18", 16, 512, 1000, 1, 1, 1, 1},
    {"resnet50", 16, 3, 64, 224, 7, 2, 1},
    {"resnet50", 16, 64, 64, 56, 1, 1, 1},
    {"resnet50", 16, 64, 64, 56, 3, 1, 3},
    {"resnet50", 16, 64, 256, 56, 1, 1, 4},
    {"resnet50", 16, 256, 64, 56, 1, 1, 2},
    {"resnet50", 16, 256, 128, 56, 1, 1, 1},
    {"resnet50", 16, 128, 128, 56, 3, 2, 1},
    {"resnet50", 16, 128, 512, 28, 1, 1, 4},
    {"resnet50", 16, 256, 512, 56, 1, 2, 1},
    {"resnet50", 16, 512, 128, 28, 1, 1, 3},
    {"resnet50", 16, 128, 128, 28, 3, 1, 3},
    {"resnet50", 16, 512, 256, 28, 1, 1, 1},
    {"resnet50", 16, 256, 256, 28, 3, 2, 1},
    {"resnet50", 16, 256, 1024, 14, 1, 1, 6},
    {"resnet50", 16, 512, 1024, 28, 1, 2, 1},
    {"resnet50", 16, 1024, 256, 14, 1, 1, 5},
    {"resnet50", 16, 256, 256, 14, 3, 1, 5},
    {"resnet50", 16, 1024, 512, 14, 1, 1, 1},
    {"resnet50", 16, 512, 512, 14, 3, 2, 1},
    {"resnet50", 16, 512, 2048, 7, 1, 1, 3},
    {"resnet50", 16, 1024, 2048, 14, 1, 2, 1},
    {"resnet50", 16, 2048, 512, 7, 1, 1, 2},
    {"resnet50", 16, 512, 512, 7, 3, 1, 2},
    {"resnet50", 16, 2048, 1000, 1, 1, 1, 1},
};

enum pass { FPROP, DGRAD, WGRAD, PASSES };

static void require(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_dnnl: %s: %s\n", what, oct_last_error());
    exit(1);
}

/* With one thread its CPU time is taken, which other programs disturb less. */
static double now_ms(const struct oct_cpu *cpu)
{
    struct timespec t;
    clock_gettime(oct_pool_threads(cpu->pool) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static struct oct_conv_shape shape_of(const struct layer *l)
{
    int pad = l->r / 2;
    return (struct oct_conv_shape){l->n, 1, l->h, l->h, l->c, l->k, 1, l->r, l->r, 1, l->stride,
        l->stride, 0, pad, pad, 1, 1, 1, 1};
}

/* Buffers large enough for every operand, filled once: ordinary numbers, no subnormals. */
struct data {
    size_t bytes;
    void *x, *w, *y, *packed, *workspace;
};

/* ---- bare oneDNN ---- */

struct bare {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[4];
    dnnl_memory_t memory[4];
};

static dnnl_primitive_desc_t bare_desc(
    dnnl_engine_t engine, const struct oct_conv_shape *v, enum pass pass, int bf16, int nhwc)
{
    dnnl_data_type_t type = bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_format_tag_t tag = nhwc ? dnnl_nhwc : dnnl_format_tag_any;
    const dnnl_dims_t x_dims = {v->n, v->c, v->h, v->w}, w_dims = {v->k, v->c, v->r, v->s};
    const dnnl_dims_t y_dims = {v->n, v->k, oct_conv_p(v), oct_conv_q(v)};
    const dnnl_dims_t stride = {v->stride_h, v->stride_w}, pad = {v->pad_h, v->pad_w};
    dnnl_memory_desc_t x, w, y;
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t out = NULL;

    dnnl_memory_desc_init_by_tag(&x, 4, x_dims, type, tag);
    dnnl_memory_desc_init_by_tag(&y, 4, y_dims, type, tag);
    dnnl_memory_desc_init_by_tag(
        &w, 4, w_dims, pass == WGRAD ? dnnl_f32 : type, dnnl_format_tag_any);
    if (pass == FPROP)
        dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_direct,
            &x, &w, NULL, &y, stride, pad, pad);
    else if (pass == DGRAD)
        dnnl_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, &x, &w, &y, stride, pad, pad);
    else
        dnnl_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, &x, &w, NULL, &y, stride, pad, pad);
    dnnl_primitive_attr_create(&attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    require(dnnl_primitive_desc_create(&out, &desc, attr, engine, NULL) == dnnl_success,
        "bare oneDNN has no such convolution");
    dnnl_primitive_attr_destroy(attr);
    return out;
}

static struct bare bare_open(dnnl_engine_t engine, const struct oct_conv_shape *v, enum pass pass,
    int bf16, int nhwc, const struct data *data)
{
    struct bare bare = {0};
    dnnl_primitive_desc_t desc = bare_desc(engine, v, pass, bf16, nhwc);
    const int arg[4] = {pass == DGRAD ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC,
        pass == WGRAD ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
        pass == FPROP ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD};
    void *const buffer[4] = {
        data->x, pass == WGRAD ? data->packed : data->w, data->y, data->workspace};

    for (int i = 0; i < 4; i++) {
        const dnnl_memory_desc_t *md =
            i < 3 ? dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, arg[i])
                  : dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        require(dnnl_memory_desc_get_size(md) <= data->bytes, "buffers too small");
        dnnl_memory_create(&bare.memory[i], md, engine, buffer[i]);
        bare.args[i] = (dnnl_exec_arg_t){arg[i], bare.memory[i]};
    }
    require(dnnl_primitive_create(&bare.primitive, desc) == dnnl_success, "bare primitive");
    dnnl_primitive_desc_destroy(desc);
    return bare;
}

static void bare_close(struct bare *bare)
{
    dnnl_primitive_destroy(bare->primitive);
    for (int i = 0; i < 4; i++)
        dnnl_memory_destroy(bare->memory[i]);
}

static double bare_time(const struct oct_cpu *cpu, const struct bare *bare, dnnl_stream_t stream)
{
    omp_set_num_threads(oct_pool_threads(cpu->pool));
    double start = now_ms(cpu);
    require(dnnl_primitive_execute(bare->primitive, stream, 4, bare->args) == dnnl_success,
        "bare execution");
    dnnl_stream_wait(stream);
    return now_ms(cpu) - start;
}

/* ---- ours ---- */

struct ours {
    struct oct_cpu *cpu;
    enum pass pass;
    struct oct_conv_fprop_args f;
    struct oct_conv_dgrad_args d;
    struct oct_conv_wgrad_args g;
};

static struct ours ours_open(struct oct_cpu *cpu, const struct oct_conv_shape *v, enum pass pass,
    int bf16, const struct data *data)
{
    enum oct_dtype type = bf16 ? OCT_BF16 : OCT_F32;
    struct oct_operand x = {.dtype = type, .planes = 1, .data = data->x};
    struct oct_operand w = {.dtype = type, .planes = 1, .data = data->packed};
    struct oct_operand y = {.dtype = type, .planes = 1, .data = data->y};
    struct ours o = {.cpu = cpu,
        .pass = pass,
        .f = {.shape = *v,
            .x = x,
            .w = w,
            .y = data->y,
            .y_dtype = type,
            .workspace = data->workspace},
        .d = {.shape = *v,
            .dy = y,
            .w = w,
            .dx = data->x,
            .dx_dtype = type,
            .workspace = data->workspace},
        .g = {.shape = *v, .x = x, .dy = y, .dw = data->packed, .workspace = data->workspace}};
    size_t bytes = 0;

    require((pass == FPROP      ? oct_dnnl_conv_fprop_check(cpu, &o.f, &bytes)
                : pass == DGRAD ? oct_dnnl_conv_dgrad_check(cpu, &o.d, &bytes)
                                : oct_dnnl_conv_wgrad_check(cpu, &o.g, &bytes)) == OCT_OK,
        "check");
    require(bytes <= data->bytes, "buffers too small");
    return o;
}

static void ours_run(const struct ours *o)
{
    require((o->pass == FPROP      ? oct_dnnl_conv_fprop(o->cpu, &o->f)
                : o->pass == DGRAD ? oct_dnnl_conv_dgrad(o->cpu, &o->d)
                                   : oct_dnnl_conv_wgrad(o->cpu, &o->g)) == OCT_OK,
        "run");
}

/* The idle OpenMP team spins for a few ms after each region; it must be asleep by now, and our
 * pool awake. */
static double ours_time(const struct ours *o)
{
    usleep(10000);
    ours_run(o);
    double start = now_ms(o->cpu);
    ours_run(o);
    return now_ms(o->cpu) - start;
}

static double pack_time(
    struct oct_cpu *cpu, const struct oct_conv_shape *v, int bf16, const struct data *data)
{
    struct oct_weight_pack_args args = {.shape = *v,
        .w = data->w,
        .dtype = bf16 ? OCT_BF16 : OCT_F32,
        .planes = 1,
        .fprop = data->packed,
        .dgrad = v->c > 3 ? data->y : NULL};
    double best = 1e9;

    for (int dgrad = 0; dgrad < 2; dgrad++)
        require(oct_dnnl_weight_pack_bytes(cpu, v, args.dtype, dgrad) > 0, "pack plan");
    for (int round = 0; round < 3; round++) {
        usleep(10000);
        double start = now_ms(cpu);
        require(oct_dnnl_weight_pack(cpu, &args) == OCT_OK, "pack");
        double time = now_ms(cpu) - start;
        best = time < best ? time : best;
    }
    return best;
}

/* ---- the table ---- */

struct totals {
    double ours, bare, pack;
};

static void bench_product(struct oct_cpu *cpu, dnnl_engine_t engine, dnnl_stream_t stream,
    const struct layer *l, enum pass pass, int bf16, int rounds, const struct data *data,
    struct totals *total)
{
    struct oct_conv_shape v = shape_of(l);
    double best[3] = {1e9, 1e9, 1e9};
    struct bare bare[2];
    omp_set_num_threads(oct_pool_threads(cpu->pool));
    for (int nhwc = 0; nhwc < 2; nhwc++)
        bare[nhwc] = bare_open(engine, &v, pass, bf16, nhwc, data);
    struct ours ours = ours_open(cpu, &v, pass, bf16, data);

    for (int round = 0; round < rounds; round++) {
        for (int who = 0; who < 3; who++) {
            double time = who < 2 ? bare_time(cpu, &bare[who], stream) : ours_time(&ours);
            best[who] = time < best[who] ? time : best[who];
        }
    }
    double least = best[0] < best[1] ? best[0] : best[1];
    printf("%-8s %4d->%4d %3d %dx%d/%d x%d  %-4s %c  bare any %7.3f  nhwc %7.3f  ours %7.3f  "
           "ratio %.2f\n",
        l->net, l->c, l->k, l->h, l->r, l->r, l->stride, l->count, bf16 ? "bf16" : "f32",
        "FDW"[pass], best[0], best[1], best[2], best[2] / least);
    fflush(stdout);
    total->ours += best[2] * l->count;
    total->bare += least * l->count;
    bare_close(&bare[0]);
    bare_close(&bare[1]);
}

static void bench_net(struct oct_cpu *cpu, dnnl_engine_t engine, dnnl_stream_t stream,
    const char *net, int rounds, const struct data *data)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct totals total[PASSES + 1] = {{0}};
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            const struct layer *l = &layers[i];
            struct oct_conv_shape v = shape_of(l);
            if (strcmp(l->net, net) != 0)
                continue;
            for (int pass = 0; pass < PASSES; pass++)
                if (pass != DGRAD || l->c > 3)
                    bench_product(
                        cpu, engine, stream, l, (enum pass)pass, bf16, rounds, data, &total[pass]);
            total[PASSES].pack += pack_time(cpu, &v, bf16, data) * l->count;
        }
        for (int pass = 0; pass < PASSES; pass++) {
            printf("SUM %s %s %c  bare %8.2f  ours %8.2f  ratio %.3f\n", net, bf16 ? "bf16" : "f32",
                "FDW"[pass], total[pass].bare, total[pass].ours,
                total[pass].ours / total[pass].bare);
            total[PASSES].ours += total[pass].ours;
            total[PASSES].bare += total[pass].bare;
        }
        printf("SUM %s %s all  bare %8.2f  ours %8.2f  ratio %.3f  pack %.2f\n", net,
            bf16 ? "bf16" : "f32", total[PASSES].bare, total[PASSES].ours,
            total[PASSES].ours / total[PASSES].bare, total[PASSES].pack);
    }
}

int main(int argc, char **argv)
{
    static const char *const nets[] = {"resnet20", "resnet18", "resnet50"};
    const char *wanted = argc > 1 ? argv[1] : "all";
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    int threads = argc > 3 ? atoi(argv[3]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    struct oct_cpu cpu = {0};
    struct data data = {.bytes = (size_t)160 << 20};
    void **const buffers[] = {&data.x, &data.w, &data.y, &data.packed, &data.workspace};
    dnnl_engine_t engine;
    dnnl_stream_t stream;

    oct_cpu_flush_subnormals();
    require(oct_pool_open(threads, &cpu.pool) == OCT_OK, "pool");
    require(oct_dnnl_open(&cpu) == OCT_OK, "oneDNN");
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    for (int i = 0; i < 5; i++) {
        *buffers[i] = aligned_alloc(64, data.bytes);
        require(*buffers[i] != NULL, "no memory");
        memset(*buffers[i], 0x3e, data.bytes); /* 0.186 in f32 and in bf16 */
    }
    printf("%d threads, %d rounds, oneDNN %d.%d.%d\n", threads, rounds, dnnl_version()->major,
        dnnl_version()->minor, dnnl_version()->patch);
    for (int i = 0; i < 3; i++)
        if (strcmp(wanted, "all") == 0 || strcmp(wanted, nets[i]) == 0)
            bench_net(&cpu, engine, stream, nets[i], rounds, &data);
    for (int i = 0; i < 5; i++)
        free(*buffers[i]);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    oct_dnnl_close(&cpu);
    oct_pool_close(cpu.pool);
    return 0;
}
