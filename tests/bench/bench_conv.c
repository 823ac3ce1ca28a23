/* Times the int8 products of the ResNets' layers next to oneDNN's f32 and bf16 convolutions in the
 * same process, contenders alternating. Every layer is verified against the oracle first, at batch
 * 1. Prints, per layer and pass, the minimum over rounds, TOPS, and the share of the rate that a
 * loop without memory accesses reaches in the same run. With one thread, time is the thread's own
 * processor time, which other programs on the machine disturb least; else wall time.
 *
 * usage: bench_conv [resnet20|resnet18|resnet50|all] [isa] [threads] [rounds] [first layer] [last]
 */
#include "cpu/cpu.h"
#include "cpu/tile.h"
#include "oracle/oracle_conv.h"
#include "oracle/oracle_ops.h"
#include "support/conv_cases.h"
#include "support/support.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FPROP, DGRAD, WGRAD, PASSES };
enum { INT8, F32, BF16, CONTENDERS };

struct options {
    const char *isa;
    int threads, rounds, first, last;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_conv: %s: %s\n", what, oct_last_error());
    exit(1);
}

static double now(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- int8 ---- */

struct int8_layer {
    struct oct_cpu *cpu;
    struct oct_conv_shape shape;
    int8_t *x, *dy;
    float *w, *dw, *scales;
    void *y, *dx, *pack[2], *workspace[PASSES];
    int64_t *stats;
    struct oct_acc_stats acc_stats;
    struct oct_conv_fprop_args fprop;
    struct oct_conv_dgrad_args dgrad;
    struct oct_conv_wgrad_args wgrad;
};

static void open_int8(struct int8_layer *l, struct oct_cpu *cpu, struct oct_conv_shape v)
{
    const int64_t xn = oct_conv_x_elements(&v), yn = oct_conv_y_elements(&v),
                  wn = oct_conv_w_elements(&v);
    oct_backend *b = &cpu->table;
    uint32_t flag = 0;
    size_t bytes[PASSES];
    *l = (struct int8_layer){.cpu = cpu, .shape = v};
    l->x = guard_alloc((size_t)xn);
    l->dy = guard_alloc((size_t)yn);
    l->w = guard_alloc((size_t)wn * 4);
    l->dw = guard_alloc((size_t)wn * 4);
    l->y = guard_alloc((size_t)yn * 2);
    l->dx = guard_alloc((size_t)xn * 2);
    l->stats = guard_alloc((size_t)v.k * 32);
    l->scales = guard_alloc((size_t)v.k * 8);
    fill_s8(l->x, xn, FILL_RANDOM, 1);
    fill_s8(l->dy, yn, FILL_RANDOM, 2);
    fill_f32(l->w, wn, FILL_RANDOM, 3);
    for (int k = 0; k < v.k; k++) {
        l->scales[k] = 0.01f;
        l->scales[v.k + k] = 50.0f;
    }
    l->pack[0] = guard_alloc(b->weight_pack_bytes(b, &v, OCT_S8, 0));
    l->pack[1] = guard_alloc(b->weight_pack_bytes(b, &v, OCT_S8, 1));
    struct oct_weight_pack_args pack = {.shape = v,
        .w = l->w,
        .dtype = OCT_S8,
        .planes = 1,
        .range = {.inverse = l->scales + v.k, .count = 1, .code_max = 127},
        .fprop = l->pack[0],
        .dgrad = l->pack[1],
        .flag = &flag};
    if (b->weight_pack(b, &pack) != OCT_OK)
        die("weight_pack");
    struct oct_operand x = {OCT_S8, 1, l->x, NULL, l->scales, 0},
                       dy = {OCT_S8, 1, l->dy, NULL, l->scales, 1};
    struct oct_operand wf = {OCT_S8, 1, l->pack[0], NULL, l->scales, 1},
                       wd = {OCT_S8, 1, l->pack[1], NULL, l->scales, 0};
    l->acc_stats = (struct oct_acc_stats){l->stats, l->stats + v.k, l->stats + 2 * v.k,
        l->stats + 3 * v.k, oct_conv_stats_shift(&v, 127)};
    l->fprop = (struct oct_conv_fprop_args){
        .shape = v, .x = x, .w = wf, .y = l->y, .y_dtype = OCT_BF16, .stats = &l->acc_stats};
    l->wgrad = (struct oct_conv_wgrad_args){.shape = v, .x = x, .dy = dy, .dw = l->dw};
    dy.scale_per_k = 0;
    l->dgrad = (struct oct_conv_dgrad_args){
        .shape = v, .dy = dy, .w = wd, .dx = l->dx, .dx_dtype = OCT_BF16};
    if (b->conv_fprop_check(b, &l->fprop, &bytes[0]) != OCT_OK ||
        b->conv_dgrad_check(b, &l->dgrad, &bytes[1]) != OCT_OK ||
        b->conv_wgrad_check(b, &l->wgrad, &bytes[2]) != OCT_OK)
        die("check");
    for (int i = 0; i < PASSES; i++)
        l->workspace[i] = guard_alloc(bytes[i]);
    l->fprop.workspace = l->workspace[0];
    l->dgrad.workspace = l->workspace[1];
    l->wgrad.workspace = l->workspace[2];
    b->stats_clear(b, &l->acc_stats, v.k);
}

static void close_int8(struct int8_layer *l)
{
    void *all[] = {l->x, l->dy, l->w, l->dw, l->scales, l->y, l->dx, l->pack[0], l->pack[1],
        l->workspace[0], l->workspace[1], l->workspace[2], l->stats};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guard_free(all[i]);
}

static void run_int8(struct int8_layer *l, int pass)
{
    oct_backend *b = &l->cpu->table;
    if ((pass == FPROP      ? b->conv_fprop(b, &l->fprop)
            : pass == DGRAD ? b->conv_dgrad(b, &l->dgrad)
                            : b->conv_wgrad(b, &l->wgrad)) != OCT_OK)
        die("product");
}

static void verify(struct oct_cpu *cpu, struct oct_conv_shape v)
{
    v.n = 1;
    struct int8_layer l;
    open_int8(&l, cpu, v);
    const int64_t xn = oct_conv_x_elements(&v), yn = oct_conv_y_elements(&v),
                  wn = oct_conv_w_elements(&v), most = xn > yn ? xn : yn;
    int32_t *x = calloc((size_t)xn, 4), *w = calloc((size_t)wn, 4), *dy = calloc((size_t)yn, 4);
    int64_t *acc = calloc((size_t)(most > wn ? most : wn), 8);
    const float s = l.scales[0];
    int good = x && w && dy && acc;
    for (int pass = 0; good && pass < PASSES; pass++)
        run_int8(&l, pass);
    oracle_codes(x, l.x, NULL, xn);
    oracle_codes(dy, l.dy, NULL, yn);
    oracle_weight_codes(w, l.w, v.k, wn / v.k, l.scales + v.k, 0, 127);
    oracle_conv_fprop(acc, &v, x, w);
    for (int64_t i = 0; good && i < yn; i++)
        good = ((uint16_t *)l.y)[i] == oracle_bf16(oracle_conv_real(acc[i], s, s, NULL, NULL));
    oracle_conv_dgrad(acc, &v, dy, w);
    for (int64_t i = 0; good && i < xn; i++)
        good = ((uint16_t *)l.dx)[i] == oracle_bf16(oracle_conv_real(acc[i], s, s, NULL, NULL));
    oracle_conv_wgrad(acc, &v, x, dy);
    for (int64_t i = 0; good && i < wn; i++)
        good = l.dw[i] == oracle_conv_real(acc[i], s, s, NULL, NULL);
    free(x), free(w), free(dy), free(acc);
    close_int8(&l);
    if (!good) {
        fprintf(stderr, "bench_conv: a product differs from the oracle: run test_conv\n");
        exit(1);
    }
}

/* ---- oneDNN ---- */

static void dnnl_must(dnnl_status_t status)
{
    if (status != dnnl_success) {
        fprintf(stderr, "bench_conv: oneDNN status %d\n", (int)status);
        exit(1);
    }
}

struct dnnl_pass {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[3];
    void *data[3];
};

static void make_memory(
    struct dnnl_pass *p, int slot, int arg, const_dnnl_primitive_desc_t desc, dnnl_engine_t engine)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, arg);
    size_t bytes = dnnl_memory_desc_get_size(md);
    p->data[slot] = guard_alloc(bytes);
    memset(p->data[slot], 0x3c, bytes); /* 0.0115 in both types: no subnormals */
    p->args[slot].arg = arg;
    dnnl_must(dnnl_memory_create(&p->args[slot].memory, md, engine, p->data[slot]));
}

/* Formats "any": oneDNN's best case, no reorders. dW is f32. */
static void open_dnnl(struct dnnl_pass *p, const struct oct_conv_shape *v, int pass,
    dnnl_data_type_t type, dnnl_engine_t engine)
{
    const dnnl_dims_t x = {v->n, v->c, v->h, v->w}, w = {v->k, v->c, v->r, v->s},
                      y = {v->n, v->k, oct_conv_p(v), oct_conv_q(v)};
    const dnnl_dims_t strides = {v->stride_h, v->stride_w}, pads = {v->pad_h, v->pad_w};
    const dnnl_dims_t dilates = {v->dilation_h - 1, v->dilation_w - 1};
    dnnl_memory_desc_t xd, wd, yd;
    dnnl_convolution_desc_t conv, hint;
    dnnl_primitive_desc_t forward, desc;
    dnnl_must(dnnl_memory_desc_init_by_tag(&xd, 4, x, type, dnnl_format_tag_any));
    dnnl_must(dnnl_memory_desc_init_by_tag(
        &wd, 4, w, pass == WGRAD ? dnnl_f32 : type, dnnl_format_tag_any));
    dnnl_must(dnnl_memory_desc_init_by_tag(&yd, 4, y, type, dnnl_format_tag_any));
    dnnl_memory_desc_t wf = wd;
    wf.data_type = type;
    dnnl_must(dnnl_dilated_convolution_forward_desc_init(&hint, dnnl_forward_training,
        dnnl_convolution_direct, &xd, &wf, NULL, &yd, strides, dilates, pads, pads));
    dnnl_must(dnnl_primitive_desc_create(&forward, &hint, NULL, engine, NULL));
    if (pass == FPROP)
        conv = hint;
    else if (pass == DGRAD)
        dnnl_must(dnnl_dilated_convolution_backward_data_desc_init(
            &conv, dnnl_convolution_direct, &xd, &wd, &yd, strides, dilates, pads, pads));
    else
        dnnl_must(dnnl_dilated_convolution_backward_weights_desc_init(
            &conv, dnnl_convolution_direct, &xd, &wd, NULL, &yd, strides, dilates, pads, pads));
    dnnl_must(dnnl_primitive_desc_create(&desc, &conv, NULL, engine, forward));
    dnnl_must(dnnl_primitive_create(&p->primitive, desc));
    make_memory(p, 0, pass == DGRAD ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, desc, engine);
    make_memory(p, 1, pass == WGRAD ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, desc, engine);
    make_memory(p, 2, pass == FPROP ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, desc, engine);
    dnnl_primitive_desc_destroy(desc);
    dnnl_primitive_desc_destroy(forward);
}

static void close_dnnl(struct dnnl_pass *p)
{
    for (int i = 0; i < 3; i++) {
        dnnl_memory_destroy(p->args[i].memory);
        guard_free(p->data[i]);
    }
    dnnl_primitive_destroy(p->primitive);
}

/* ---- measuring ---- */

struct peak_job {
    const struct oct_tile_kernels *tile;
    double products[64];
};

static void peak_work(void *arg, int64_t item, int thread)
{
    struct peak_job *job = arg;
    (void)thread;
    job->products[item] = job->tile->peak(400000);
}

/* Products per second of all threads in registers; 0 where the kernels have no such loop. */
static double measure_peak(struct oct_cpu *cpu)
{
    struct peak_job job = {.tile = cpu->tile};
    const int threads = oct_pool_threads(cpu->pool);
    double best = 0.0;
    for (int i = 0; cpu->tile->peak && threads <= 64 && i < 10; i++) {
        double t = now(threads), sum = 0.0;
        oct_pool_run(cpu->pool, threads, peak_work, &job);
        t = now(threads) - t;
        for (int n = 0; n < threads; n++)
            sum += job.products[n];
        best = sum / t > best ? sum / t : best;
    }
    return best;
}

struct totals {
    double ms[PASSES][CONTENDERS], macs[PASSES];
};

static void time_layer(struct oct_cpu *cpu, const struct conv_layer *layer, int n,
    const struct options *o, double peak, struct totals *sum)
{
    const struct oct_conv_shape v = conv_of_layer(layer, n);
    static const char *const names[] = {"F", "D", "W"};
    struct int8_layer l;
    struct dnnl_pass dnnl[PASSES][CONTENDERS];
    double best[PASSES][CONTENDERS];
    dnnl_engine_t engine;
    dnnl_stream_t stream;

    verify(cpu, v);
    open_int8(&l, cpu, v);
    dnnl_must(dnnl_engine_create(&engine, dnnl_cpu, 0));
    dnnl_must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    for (int pass = 0; pass < PASSES; pass++) {
        open_dnnl(&dnnl[pass][F32], &v, pass, dnnl_f32, engine);
        open_dnnl(&dnnl[pass][BF16], &v, pass, dnnl_bf16, engine);
        best[pass][INT8] = best[pass][F32] = best[pass][BF16] = 1e9;
    }
    for (int round = 0; round <= o->rounds; round++) { /* round 0 warms up */
        for (int pass = 0; pass < PASSES; pass++) {
            for (int who = 0; who < CONTENDERS; who++) {
                double t = now(o->threads);
                if (who == INT8) {
                    run_int8(&l, pass);
                } else {
                    struct dnnl_pass *p = &dnnl[pass][who];
                    dnnl_must(dnnl_primitive_execute(p->primitive, stream, 3, p->args));
                    dnnl_must(dnnl_stream_wait(stream));
                }
                t = now(o->threads) - t;
                if (round > 0 && t < best[pass][who])
                    best[pass][who] = t;
            }
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        double *b = best[pass], rate = (double)oct_conv_macs(&v) / b[INT8];
        printf("%4d->%-4d %3d %dx%d/%d x%d %s  %7.3f ms %5.2f TOPS", v.c, v.k, v.h, v.r, v.s,
            v.stride_h, layer->count, names[pass], 1e3 * b[INT8], 2e-12 * rate);
        if (peak > 0.0)
            printf(" %3.0f%%", 100.0 * rate / peak);
        printf("   f32 %7.3f ms (%4.1fx)  bf16 %7.3f ms (%4.1fx)\n", 1e3 * b[F32], b[F32] / b[INT8],
            1e3 * b[BF16], b[BF16] / b[INT8]);
        if (pass == DGRAD && layer->c == 3)
            continue; /* a first layer has no input gradient */
        for (int who = 0; who < CONTENDERS; who++)
            sum->ms[pass][who] += 1e3 * b[who] * layer->count;
        sum->macs[pass] += (double)oct_conv_macs(&v) * layer->count;
    }
    fflush(stdout);
    for (int pass = 0; pass < PASSES; pass++) {
        close_dnnl(&dnnl[pass][F32]);
        close_dnnl(&dnnl[pass][BF16]);
    }
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    close_int8(&l);
}

static void time_network(
    const char *name, const struct conv_layer *layers, int count, int n, const struct options *o)
{
    struct oct_cpu cpu = {.pool = NULL};
    struct totals sum = {0};
    double all[CONTENDERS] = {0};
    if (oct_pool_open(o->threads, &cpu.pool) != OCT_OK || oct_cpu_conv_open(&cpu, o->isa) != OCT_OK)
        die("open");
    oct_cpu_conv_install(&cpu.table);
    const double peak = measure_peak(&cpu);
    printf("%s, batch %d, isa %s, %d threads, %d rounds, register-only peak %.2f TOPS\n", name, n,
        cpu.isa_name, o->threads, o->rounds, 2e-12 * peak);
    for (int i = o->first; i < count && i <= o->last; i++)
        time_layer(&cpu, &layers[i], n, o, peak, &sum);
    for (int pass = 0; pass < PASSES; pass++) {
        const double *ms = sum.ms[pass], rate = sum.macs[pass] / ms[INT8] * 1e3;
        printf("sum %s: int8 %.2f ms (%.2f TOPS, %.0f%%), f32 %.2f ms (%.2fx), bf16 %.2f ms "
               "(%.2fx)\n",
            pass == FPROP   ? "F"
            : pass == DGRAD ? "D"
                            : "W",
            ms[INT8], 2e-12 * rate, peak > 0.0 ? 100.0 * rate / peak : 0.0, ms[F32],
            ms[F32] / ms[INT8], ms[BF16], ms[BF16] / ms[INT8]);
        for (int who = 0; who < CONTENDERS; who++)
            all[who] += ms[who];
    }
    printf("sum: int8 %.2f ms, f32 %.2f ms (%.2fx), bf16 %.2f ms (%.2fx)\n\n", all[INT8], all[F32],
        all[F32] / all[INT8], all[BF16], all[BF16] / all[INT8]);
    oct_cpu_conv_close(&cpu);
    oct_pool_close(cpu.pool);
}

#define COUNT(table) ((int)(sizeof table / sizeof table[0]))

int main(int argc, char **argv)
{
    const char *net = argc > 1 ? argv[1] : "all";
    const struct options o = {.isa = argc > 2 && strcmp(argv[2], "best") != 0 ? argv[2] : NULL,
        .threads = argc > 3 ? atoi(argv[3]) : 2,
        .rounds = argc > 4 ? atoi(argv[4]) : 7,
        .first = argc > 5 ? atoi(argv[5]) : 0,
        .last = argc > 6 ? atoi(argv[6]) : 1000};
    const int all = strcmp(net, "all") == 0;
    /* A team of OpenMP threads that spins after oneDNN's turn would slow down the next contender.
     * The settings count only when the process starts. */
    if (!getenv("OMP_WAIT_POLICY")) {
        char threads[16];
        snprintf(threads, sizeof threads, "%d", o.threads);
        setenv("OMP_WAIT_POLICY", "passive", 1);
        setenv("OMP_NUM_THREADS", threads, 1);
        execv("/proc/self/exe", argv);
    }
    oct_cpu_flush_subnormals();
    if (all || strcmp(net, "resnet20") == 0)
        time_network("resnet20", conv_resnet20, COUNT(conv_resnet20), 128, &o);
    if (all || strcmp(net, "resnet18") == 0)
        time_network("resnet18", conv_resnet18, COUNT(conv_resnet18), 16, &o);
    if (all || strcmp(net, "resnet50") == 0)
        time_network("resnet50", conv_resnet50, COUNT(conv_resnet50), 16, &o);
    return 0;
}
