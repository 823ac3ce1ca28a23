/* The float products against double, within derived error bounds. */
#include "cpu/dnnl.h"
#include "oracle/oracle_fconv.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 20240611 };

/* n h w c k r s, stride, pad and dilation in h and w */
#define SHAPE(n_, h_, w_, c_, k_, r_, s_, sh, sw, ph, pw, dh, dw)                                  \
    {                                                                                              \
        .n = n_, .d = 1, .h = h_, .w = w_, .c = c_, .k = k_, .t = 1, .r = r_, .s = s_,             \
        .stride_d = 1, .stride_h = sh, .stride_w = sw, .pad_h = ph, .pad_w = pw, .dilation_d = 1,  \
        .dilation_h = dh, .dilation_w = dw, .groups = 1                                            \
    }
#define SQUARE(n_, h_, c_, k_, r_, stride, pad, dilation)                                          \
    SHAPE(n_, h_, h_, c_, k_, r_, r_, stride, stride, pad, pad, dilation, dilation)

static struct oct_conv_shape shapes[] = {
    SQUARE(1, 1, 1, 1, 1, 1, 0, 1),
    SQUARE(3, 7, 3, 16, 3, 1, 1, 1),
    SHAPE(7, 17, 16, 16, 17, 3, 3, 2, 2, 1, 1, 1, 1),
    SHAPE(1, 16, 17, 17, 65, 3, 3, 1, 1, 1, 1, 1, 1), /* one image: cut into rows */
    SQUARE(16, 7, 64, 64, 3, 1, 1, 1),                /* dgrad as a rotated forward */
    SQUARE(2, 16, 64, 65, 3, 1, 2, 2),                /* the same, dilated, cut into rows */
    SQUARE(3, 16, 65, 64, 1, 1, 0, 1),
    SQUARE(17, 16, 16, 32, 1, 2, 0, 1),
    SQUARE(2, 17, 3, 64, 7, 2, 3, 1),
    SQUARE(1, 7, 7, 7, 1, 1, 3, 1), /* outputs that see padding only */
    SQUARE(1, 7, 1, 3, 7, 1, 3, 1),
    SQUARE(64, 3, 16, 16, 3, 1, 1, 1),
    SQUARE(5, 28, 16, 128, 3, 2, 1, 1),  /* wgrad cut along K */
    SQUARE(16, 16, 32, 128, 3, 1, 1, 1), /* wgrad cut along N and K */
    SQUARE(19, 16, 16, 64, 1, 1, 0, 1),  /* ranges of unequal length */
    SQUARE(19, 32, 16, 64, 1, 2, 0, 1),
    SQUARE(3, 17, 65, 16, 1, 2, 0, 1), /* the last stride reaches beyond the image */
    SHAPE(2, 7, 9, 65, 16, 1, 1, 1, 2, 0, 0, 1, 1),
    SHAPE(2, 7, 9, 65, 16, 1, 1, 3, 1, 0, 0, 1, 1),
    SQUARE(19, 16, 80, 64, 1, 1, 0, 1),
    SQUARE(19, 16, 16, 16, 3, 1, 1, 1),
    SHAPE(3, 9, 12, 7, 16, 3, 5, 2, 1, 1, 2, 1, 1),
    SQUARE(65, 1, 64, 10, 1, 1, 0, 1), /* linear layers */
    SQUARE(16, 1, 65, 1000, 1, 1, 0, 1),
    SQUARE(3, 1, 17, 65, 1, 1, 0, 1),
};

enum { SHAPES = sizeof shapes / sizeof *shapes };

/* operand type, output type */
static const enum oct_dtype types[4][2] = {
    {OCT_F32, OCT_F32}, {OCT_BF16, OCT_BF16}, {OCT_BF16, OCT_F32}, {OCT_F32, OCT_BF16}};

static void open_cpu(struct oct_cpu *cpu, int threads)
{
    memset(cpu, 0, sizeof *cpu);
    oct_cpu_flush_subnormals();
    cr_assert_eq(oct_pool_open(threads, &cpu->pool), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(oct_dnnl_open(cpu), OCT_OK, "%s", oct_last_error());
}

static void close_cpu(struct oct_cpu *cpu)
{
    oct_dnnl_close(cpu);
    oct_pool_close(cpu->pool);
}

/* A float tensor with its exact values in double. */
struct tensor {
    enum oct_dtype dtype;
    int64_t n;
    void *data;
    double *value;
};

static double value_of(enum oct_dtype dtype, const void *data, int64_t i)
{
    return dtype == OCT_BF16 ? (double)oct_f32_from_bf16(((const uint16_t *)data)[i])
                             : (double)((const float *)data)[i];
}

static struct tensor make_tensor(enum oct_dtype dtype, int64_t n, uint64_t seed)
{
    struct tensor t = {dtype, n, guard_alloc((size_t)n * oct_dtype_bytes(dtype)),
        calloc((size_t)n, sizeof(double))};
    if (dtype == OCT_BF16)
        fill_bf16(t.data, n, FILL_RANDOM, seed);
    else
        fill_f32(t.data, n, FILL_RANDOM, seed);
    for (int64_t i = 0; i < n; i++)
        t.value[i] = value_of(dtype, t.data, i);
    return t;
}

static void free_tensor(struct tensor *t)
{
    cr_expect(guard_intact(t->data, "tensor"));
    guard_free(t->data);
    free(t->value);
}

/* One op on one shape: operands, and the result of the last run. */
struct trial {
    struct oct_conv_shape shape;
    enum oct_dtype in, out;
    enum oct_write mode;
    struct tensor x, w, dy, bias;
    struct tensor old; /* what the output holds before */
    void *got;
};

enum op { FPROP, DGRAD, WGRAD };
static const char *const op_names[] = {"fprop", "dgrad", "wgrad"};

static struct trial make_trial(
    enum op op, struct oct_conv_shape shape, const enum oct_dtype type[2], enum oct_write mode)
{
    struct trial t = {
        .shape = shape, .in = type[0], .out = op == WGRAD ? OCT_F32 : type[1], .mode = mode};
    int64_t outputs[] = {
        oct_conv_y_elements(&shape), oct_conv_x_elements(&shape), oct_conv_w_elements(&shape)};
    t.x = make_tensor(t.in, oct_conv_x_elements(&shape), SEED);
    t.w = make_tensor(OCT_F32, oct_conv_w_elements(&shape), SEED + 1);
    t.dy = make_tensor(t.in, oct_conv_y_elements(&shape), SEED + 2);
    t.bias = make_tensor(OCT_F32, shape.k, SEED + 3);
    t.old = make_tensor(t.out, outputs[op], SEED + 4);
    t.got = guard_alloc((size_t)t.old.n * oct_dtype_bytes(t.out));
    /* weights are rounded to the operand type by the pack */
    for (int64_t i = 0; t.in == OCT_BF16 && i < t.w.n; i++)
        t.w.value[i] = oct_f32_from_bf16(oct_bf16_from_f32(((float *)t.w.data)[i]));
    return t;
}

static void free_trial(struct trial *t)
{
    free_tensor(&t->x), free_tensor(&t->w), free_tensor(&t->dy), free_tensor(&t->bias);
    free_tensor(&t->old);
    cr_expect(guard_intact(t->got, "output"));
    guard_free(t->got);
}

static void *pack_weights(struct oct_cpu *cpu, const struct trial *t, int dgrad)
{
    size_t bytes = oct_dnnl_weight_pack_bytes(cpu, &t->shape, t->in, dgrad);
    cr_assert_gt(bytes, 0, "%s", oct_last_error());
    void *packed = guard_alloc(bytes);
    struct oct_weight_pack_args args = {
        .shape = t->shape, .w = t->w.data, .dtype = t->in, .planes = 1};
    *(dgrad ? &args.dgrad : &args.fprop) = packed;
    cr_assert_eq(oct_dnnl_weight_pack(cpu, &args), OCT_OK, "%s", oct_last_error());
    cr_expect(guard_intact(packed, "packed weights"));
    return packed;
}

static struct oct_operand operand(enum oct_dtype dtype, const void *data)
{
    return (struct oct_operand){.dtype = dtype, .planes = 1, .data = data};
}

/* Runs the op `times` times from the same old output. */
static void run_op(struct oct_cpu *cpu, enum op op, struct trial *t, int times)
{
    size_t bytes = 0;
    void *packed = op == WGRAD ? NULL : pack_weights(cpu, t, op == DGRAD);
    struct oct_operand w = operand(t->in, packed);
    struct oct_conv_fprop_args f = {.shape = t->shape,
        .x = operand(t->in, t->x.data),
        .w = w,
        .bias = t->bias.data,
        .y = t->got,
        .y_dtype = t->out};
    struct oct_conv_dgrad_args d = {.shape = t->shape,
        .dy = operand(t->in, t->dy.data),
        .w = w,
        .dx = t->got,
        .dx_dtype = t->out,
        .mode = t->mode};
    struct oct_conv_wgrad_args g = {
        .shape = t->shape, .x = f.x, .dy = d.dy, .dw = t->got, .mode = t->mode};
    enum oct_status status = op == FPROP   ? oct_dnnl_conv_fprop_check(cpu, &f, &bytes)
                             : op == DGRAD ? oct_dnnl_conv_dgrad_check(cpu, &d, &bytes)
                                           : oct_dnnl_conv_wgrad_check(cpu, &g, &bytes);
    cr_assert_eq(status, OCT_OK, "%s", oct_last_error());
    f.workspace = d.workspace = g.workspace = guard_alloc(bytes);
    for (int i = 0; i < times && status == OCT_OK; i++) {
        memcpy(t->got, t->old.data, (size_t)t->old.n * oct_dtype_bytes(t->out));
        status = op == FPROP   ? oct_dnnl_conv_fprop(cpu, &f)
                 : op == DGRAD ? oct_dnnl_conv_dgrad(cpu, &d)
                               : oct_dnnl_conv_wgrad(cpu, &g);
    }
    cr_assert_eq(status, OCT_OK, "%s", oct_last_error());
    cr_expect(guard_intact(f.workspace, "workspace"));
    guard_free(f.workspace);
    guard_free(packed);
}

/* Half a unit in the last place of a bf16 number of magnitude up to `value`. */
static double half_ulp_bf16(double value)
{
    int exponent;
    frexp(value, &exponent); /* value = m 2^exponent, 1/2 <= m < 1: ulp = 2^(exponent-8) */
    return ldexp(1.0, exponent - 9);
}

/* Any order of summation of n f32 products (each product and each addition rounded once, or fused)
 * errs by at most gamma(n) sum|product|, gamma(n) = n u / (1 - n u), u = 2^-24 (Higham, Accuracy
 * and Stability of Numerical Algorithms, section 3.1); the bias or the old output is one more term.
 * Flushed subnormals lose at most 2^-126 per operation. A bf16 output then rounds once more: half
 * an ulp of the computed value, whose magnitude is at most |exact| + that error. A second rounding
 * to bf16 would break this bound. */
static void check(enum op op, const struct trial *t, const double *want, const double *magnitude)
{
    static const char *const modes[] = {"overwrite", "accumulate"};
    const struct oct_conv_shape *v = &t->shape;
    int64_t products = op == FPROP   ? (int64_t)v->r * v->s * v->c
                       : op == DGRAD ? (int64_t)v->r * v->s * v->k
                                     : (int64_t)v->n * oct_conv_p(v) * oct_conv_q(v);
    double nu = (double)(products + 1) * ldexp(1.0, -24), gamma = nu / (1.0 - nu);
    double *exact = malloc((size_t)t->old.n * sizeof *exact);
    double *bound = malloc((size_t)t->old.n * sizeof *bound);
    float *got = malloc((size_t)t->old.n * sizeof *got);
    char name[200];

    for (int64_t i = 0; i < t->old.n; i++) {
        double old = t->mode == OCT_ACCUMULATE ? t->old.value[i] : 0.0;
        exact[i] = want[i] + old;
        bound[i] = gamma * (magnitude[i] + fabs(old)) + 2.0 * (double)products * ldexp(1.0, -126);
        if (t->out == OCT_BF16)
            bound[i] += half_ulp_bf16(fabs(exact[i]) + bound[i]);
        got[i] = (float)value_of(t->out, t->got, i);
    }
    snprintf(name, sizeof name, "%s %s->%s %s n%d %dx%d c%d k%d r%d s%d stride %d pad %d seed %d",
        op_names[op], oct_dtype_name(t->in), oct_dtype_name(t->out), modes[t->mode], v->n, v->h,
        v->w, v->c, v->k, v->r, v->s, v->stride_h, v->pad_h, SEED);
    cr_expect(near_tensor(name, got, exact, t->old.n, bound, 0.0));
    free(exact), free(bound), free(got);
}

static void test_op(enum op op, const struct oct_conv_shape *shape)
{
    struct oct_cpu cpu;
    open_cpu(&cpu, 2);
    for (int type = 0; type < (op == WGRAD ? 2 : 4); type++) {
        for (int mode = 0; mode < (op == FPROP ? 1 : 2); mode++) {
            struct trial t = make_trial(op, *shape, types[type], (enum oct_write)mode);
            double *want = calloc((size_t)t.old.n, sizeof *want);
            double *magnitude = calloc((size_t)t.old.n, sizeof *magnitude);
            run_op(&cpu, op, &t, 2);
            if (op == FPROP)
                oracle_fconv_fprop(shape, t.x.value, t.w.value, t.bias.value, want, magnitude);
            else if (op == DGRAD)
                oracle_fconv_dgrad(shape, t.dy.value, t.w.value, want, magnitude);
            else
                oracle_fconv_wgrad(shape, t.x.value, t.dy.value, want, magnitude);
            check(op, &t, want, magnitude);
            free(want), free(magnitude);
            free_trial(&t);
        }
    }
    close_cpu(&cpu);
}

ParameterizedTestParameters(dnnl, fprop)
{
    return cr_make_param_array(struct oct_conv_shape, shapes, SHAPES);
}

ParameterizedTest(struct oct_conv_shape *shape, dnnl, fprop)
{
    test_op(FPROP, shape);
}

ParameterizedTestParameters(dnnl, dgrad)
{
    return cr_make_param_array(struct oct_conv_shape, shapes, SHAPES);
}

ParameterizedTest(struct oct_conv_shape *shape, dnnl, dgrad)
{
    test_op(DGRAD, shape);
}

ParameterizedTestParameters(dnnl, wgrad)
{
    return cr_make_param_array(struct oct_conv_shape, shapes, SHAPES);
}

ParameterizedTest(struct oct_conv_shape *shape, dnnl, wgrad)
{
    test_op(WGRAD, shape);
}

Test(dnnl, equal_bits_for_any_number_of_threads)
{
    for (int i = 0; i < SHAPES; i++) {
        for (int op = FPROP; op <= WGRAD; op++) {
            const enum oct_dtype *type = types[(i + op) % 2];
            struct trial t = make_trial((enum op)op, shapes[i], type, (enum oct_write)(i % 2));
            size_t bytes = (size_t)t.old.n * oct_dtype_bytes(t.out);
            void *first = malloc(bytes);
            for (int threads = 1; threads <= 3; threads++) {
                struct oct_cpu cpu;
                open_cpu(&cpu, threads);
                run_op(&cpu, (enum op)op, &t, 1);
                if (threads == 1)
                    memcpy(first, t.got, bytes);
                cr_expect(same_tensor(op_names[op], t.out, t.got, first, t.old.n, NULL, 0),
                    "shape %d, %d threads, seed %d", i, threads, SEED);
                close_cpu(&cpu);
            }
            free(first);
            free_trial(&t);
        }
    }
}

/* A pack made for one batch size serves another. */
Test(dnnl, packs_do_not_depend_on_the_batch)
{
    struct oct_cpu cpu;
    open_cpu(&cpu, 2);
    for (int i = 0; i < SHAPES; i++) {
        for (int dgrad = 0; dgrad < 2; dgrad++) {
            struct oct_conv_shape one = shapes[i];
            one.n = 100;
            cr_expect_eq(oct_dnnl_weight_pack_bytes(&cpu, &shapes[i], OCT_BF16, dgrad),
                oct_dnnl_weight_pack_bytes(&cpu, &one, OCT_BF16, dgrad));
        }
    }
    struct trial a = make_trial(FPROP, shapes[4], types[1], OCT_OVERWRITE);
    struct oct_conv_shape few = shapes[4];
    few.n = 3;
    struct trial b = make_trial(FPROP, few, types[1], OCT_OVERWRITE);
    void *packed_a = pack_weights(&cpu, &a, 1), *packed_b = pack_weights(&cpu, &b, 1);
    cr_expect(same_tensor("pack", OCT_BF16, packed_b, packed_a, a.w.n, NULL, 0));
    guard_free(packed_a), guard_free(packed_b);
    free_trial(&a), free_trial(&b);
    close_cpu(&cpu);
}

static int tasks(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* The products run on our pool alone, and leave the caller's OpenMP setting as it was. */
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);

Test(dnnl, no_openmp_team)
{
    struct oct_cpu cpu;
    int before = tasks();
    omp_set_num_threads(4);
    open_cpu(&cpu, 3);
    for (int op = FPROP; op <= WGRAD; op++) {
        struct trial t = make_trial((enum op)op, shapes[13], types[0], OCT_OVERWRITE);
        run_op(&cpu, (enum op)op, &t, 3);
        free_trial(&t);
    }
    cr_expect_eq(
        tasks(), before + 2, "%d threads besides the caller, expected 2", tasks() - before);
    cr_expect_eq(omp_get_max_threads(), 4);
    close_cpu(&cpu);
}

/* oneDNN allocates its argument map in every call and frees it; nothing may stay. A call that kept
 * one block would keep at least CALLS of the heap's smallest, 32 bytes; what the heap's own caches
 * hold varies by less. */
Test(dnnl, steps_keep_no_memory)
{
    enum { CALLS = 80 };
    struct oct_cpu cpu;
    open_cpu(&cpu, 1);
    for (int i = 0; i < SHAPES; i++) {
        for (int op = FPROP; op <= WGRAD; op++) {
            struct trial t = make_trial((enum op)op, shapes[i], types[i % 2], OCT_ACCUMULATE);
            run_op(&cpu, (enum op)op, &t, 1);
            struct mallinfo2 before = mallinfo2();
            run_op(&cpu, (enum op)op, &t, CALLS);
            struct mallinfo2 after = mallinfo2();
            int64_t kept = (int64_t)(after.uordblks + after.hblkhd) -
                           (int64_t)(before.uordblks + before.hblkhd);
            cr_expect_lt(kept, 32 * CALLS, "%s of shape %d kept %lld bytes in %d calls",
                op_names[op], i, (long long)kept, CALLS);
            free_trial(&t);
        }
    }
    close_cpu(&cpu);
}

Test(dnnl, refuses_what_it_cannot_do)
{
    struct oct_cpu cpu;
    size_t bytes = 77;
    struct oct_acc_stats stats = {0};
    struct oct_conv_fprop_args f = {.shape = shapes[1],
        .x = operand(OCT_F32, NULL),
        .w = operand(OCT_F32, NULL),
        .y_dtype = OCT_F32};
    struct oct_conv_wgrad_args g = {
        .shape = shapes[1], .x = operand(OCT_F32, NULL), .dy = operand(OCT_BF16, NULL)};
    open_cpu(&cpu, 1);

    cr_expect_eq(oct_dnnl_conv_fprop(&cpu, &f), OCT_INTERNAL, "never checked");
    f.stats = &stats;
    cr_expect_eq(oct_dnnl_conv_fprop_check(&cpu, &f, &bytes), OCT_UNSUPPORTED);
    f.stats = NULL;
    f.y_dtype = OCT_S8;
    cr_expect_eq(oct_dnnl_conv_fprop_check(&cpu, &f, &bytes), OCT_UNSUPPORTED);
    f.y_dtype = OCT_F32;
    f.shape.groups = 3;
    cr_expect_eq(oct_dnnl_conv_fprop_check(&cpu, &f, &bytes), OCT_UNSUPPORTED);
    cr_expect_eq(oct_dnnl_weight_pack_bytes(&cpu, &f.shape, OCT_F32, 0), 0);
    f.shape.groups = 1;
    f.shape.r = 20;
    cr_expect_eq(oct_dnnl_conv_fprop_check(&cpu, &f, &bytes), OCT_SHAPE);
    cr_expect_eq(oct_dnnl_conv_wgrad_check(&cpu, &g, &bytes), OCT_UNSUPPORTED);
    g.dy.dtype = OCT_F32;
    g.dy.planes = 2;
    cr_expect_eq(oct_dnnl_conv_wgrad_check(&cpu, &g, &bytes), OCT_UNSUPPORTED);
    cr_expect_eq(bytes, 77, "results are set only on success");
    close_cpu(&cpu);
}
