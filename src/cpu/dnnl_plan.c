/* Plans of the oneDNN products: how they are kept and run. What a plan consists of is decided in
 * dnnl_conv.c, dnnl_wgrad.c and dnnl_pack.c; the oneDNN descriptors are made in dnnl_desc.c. */
#include "cpu/dnnl_plan.h"

#include "cpu/dnnl.h"

#include <stdlib.h>
#include <string.h>

/* oneDNN runs its loops on an OpenMP team of this size; ours must be 1 everywhere. Declared here
 * because <omp.h> is not installed with every compiler that can link the run-time library. */
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);

enum { ALIGN = 64 };

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

enum oct_status oct_dnnl_status(dnnl_status_t status, const char *what)
{
    switch (status) {
    case dnnl_success:
        return OCT_OK;
    case dnnl_out_of_memory:
        return oct_fail(OCT_NOMEM, "oneDNN has no memory for %s", what);
    case dnnl_unimplemented:
        return oct_fail(OCT_UNSUPPORTED, "oneDNN has no implementation of %s on this CPU", what);
    default:
        return oct_fail(OCT_INTERNAL, "oneDNN refused %s (status %d)", what, (int)status);
    }
}

static void close_phase(struct oct_dnnl_phase *phase, int threads)
{
    for (int k = 0; k < phase->kinds; k++) {
        for (int s = 0; s < phase->kind[k].steps; s++) {
            struct oct_dnnl_step *step = &phase->kind[k].step[s];
            for (int m = 0; step->memory && m < threads * OCT_DNNL_MAX_ARGS; m++)
                dnnl_memory_destroy(step->memory[m]);
            free(step->memory);
            dnnl_primitive_destroy(step->primitive);
        }
    }
    free(phase->item);
}

static void close_plan(struct oct_dnnl_plan *plan, int threads)
{
    for (int p = 0; p < 2; p++)
        close_phase(&plan->phase[p], threads);
    free(plan);
}

void oct_dnnl_close(struct oct_cpu *cpu)
{
    struct oct_dnnl *d = oct_dnnl_of(cpu);
    if (!d)
        return;
    while (d->plans) {
        struct oct_dnnl_plan *plan = d->plans;
        d->plans = plan->next;
        close_plan(plan, d->threads);
    }
    for (int t = 0; d->stream && t < d->threads; t++)
        dnnl_stream_destroy(d->stream[t]);
    free(d->stream);
    for (int i = 0; i < 2; i++)
        dnnl_primitive_attr_destroy(d->attr[i]);
    dnnl_engine_destroy(d->engine);
    free(d->pack_scratch);
    free(d);
    cpu->dnnl = NULL;
}

static enum oct_status make_attributes(struct oct_dnnl *d)
{
    dnnl_post_ops_t sum = NULL;
    enum oct_status status = OCT_OK;

    for (int i = 0; i < 2; i++) {
        OCT_OUT(oct_dnnl_status(dnnl_primitive_attr_create(&d->attr[i]), "attributes"));
        OCT_OUT(oct_dnnl_status(
            dnnl_primitive_attr_set_scratchpad_mode(d->attr[i], dnnl_scratchpad_mode_user),
            "a user scratchpad"));
    }
    OCT_OUT(oct_dnnl_status(dnnl_post_ops_create(&sum), "post-operations"));
    OCT_OUT(oct_dnnl_status(dnnl_post_ops_append_sum(sum, 1.0f), "accumulation"));
    OCT_OUT(oct_dnnl_status(dnnl_primitive_attr_set_post_ops(d->attr[1], sum), "accumulation"));
out:
    dnnl_post_ops_destroy(sum);
    return status;
}

enum oct_status oct_dnnl_open(struct oct_cpu *cpu)
{
    enum oct_status status = OCT_OK;
    struct oct_dnnl *d = calloc(1, sizeof *d);
    if (!d)
        return oct_fail(OCT_NOMEM, "no memory for oneDNN's context");
    cpu->dnnl = d;
    d->threads = oct_pool_threads(cpu->pool);
    OCT_OUT(oct_dnnl_status(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "a CPU engine"));
    d->stream = calloc((size_t)d->threads, sizeof(dnnl_stream_t));
    if (!d->stream)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for %d oneDNN streams", d->threads));
    for (int t = 0; t < d->threads; t++)
        OCT_OUT(oct_dnnl_status(
            dnnl_stream_create(&d->stream[t], d->engine, dnnl_stream_default_flags), "a stream"));
    OCT_OUT(make_attributes(d));
    return OCT_OK;
out:
    oct_dnnl_close(cpu);
    return status;
}

struct oct_dnnl_plan *oct_dnnl_find(const struct oct_dnnl *d, const struct oct_dnnl_key *key)
{
    for (struct oct_dnnl_plan *plan = d->plans; plan; plan = plan->next)
        if (memcmp(&plan->key, key, sizeof *key) == 0)
            return plan;
    return NULL;
}

enum oct_status oct_dnnl_require(
    const struct oct_dnnl *d, const struct oct_dnnl_key *key, struct oct_dnnl_plan **out)
{
    static const char *const ops[] = {"conv_fprop", "conv_dgrad", "conv_wgrad", "weight_pack"};
    const struct oct_conv_shape *v = &key->shape;

    *out = oct_dnnl_find(d, key);
    if (*out)
        return OCT_OK;
    return oct_fail(OCT_INTERNAL,
        "%s of x %dx%dx%dx%d, w %dx%dx%d in %s with output %s, mode %d, bias %d was never "
        "checked: ask for its workspace (weight_pack: its bytes) with the same arguments first",
        ops[key->op], v->n, v->h, v->w, v->c, v->k, v->r, v->s,
        oct_dtype_name((enum oct_dtype)key->in_dtype),
        oct_dtype_name((enum oct_dtype)key->out_dtype), key->mode, key->bias);
}

static size_t thread_bytes(const struct oct_dnnl_phase *phase)
{
    size_t sum = 0;
    for (int b = 0; b < OCT_DNNL_BUFFERS - OCT_DNNL_SHARED; b++)
        sum += phase->tmp_bytes[b];
    return sum;
}

enum oct_status oct_dnnl_plan_for(struct oct_dnnl *d, const struct oct_dnnl_key *key,
    oct_dnnl_builder *build, struct oct_dnnl_plan **out)
{
    struct oct_dnnl_plan *plan = oct_dnnl_find(d, key);
    if (plan) {
        *out = plan;
        return OCT_OK;
    }
    plan = calloc(1, sizeof *plan);
    if (!plan)
        return oct_fail(OCT_NOMEM, "no memory for a oneDNN plan");
    plan->key = *key;

    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    enum oct_status status = build(d, plan);
    omp_set_num_threads(threads);
    if (status != OCT_OK) {
        close_plan(plan, d->threads);
        return status;
    }
    plan->partial_bytes = round_up(plan->partial_bytes);
    for (int p = 0; p < plan->phases; p++) {
        size_t bytes = plan->partial_bytes + (size_t)d->threads * thread_bytes(&plan->phase[p]);
        plan->workspace = bytes > plan->workspace ? bytes : plan->workspace;
    }
    plan->next = d->plans;
    d->plans = plan;
    *out = plan;
    return OCT_OK;
}

void oct_dnnl_need_tmp(struct oct_dnnl_phase *phase, enum oct_dnnl_buffer buffer, size_t bytes)
{
    size_t *room = &phase->tmp_bytes[buffer - OCT_DNNL_SHARED];
    bytes = round_up(bytes);
    *room = bytes > *room ? bytes : *room;
}

enum oct_status oct_dnnl_add_items(struct oct_dnnl_phase *phase, int items)
{
    phase->item = calloc((size_t)items, sizeof *phase->item);
    if (!phase->item)
        return oct_fail(OCT_NOMEM, "no memory for %d slices", items);
    phase->items = items;
    return OCT_OK;
}

static enum oct_status bind_argument(struct oct_dnnl *d, struct oct_dnnl_phase *phase,
    struct oct_dnnl_step *step, const struct oct_dnnl_bind *bind)
{
    int i = step->args++;
    step->arg[i] = bind->arg;
    step->buffer[i] = (int)bind->buffer;
    if (bind->buffer >= OCT_DNNL_SHARED)
        oct_dnnl_need_tmp(phase, bind->buffer, dnnl_memory_desc_get_size(bind->md));
    for (int t = 0; t < d->threads; t++)
        OCT_TRY(oct_dnnl_status(dnnl_memory_create(&step->memory[t * OCT_DNNL_MAX_ARGS + i],
                                    bind->md, d->engine, DNNL_MEMORY_NONE),
            "a memory object"));
    return OCT_OK;
}

enum oct_status oct_dnnl_add_step(struct oct_dnnl *d, struct oct_dnnl_phase *phase, int kind,
    dnnl_primitive_desc_t desc, const struct oct_dnnl_bind *binds, int count)
{
    enum oct_status status = OCT_OK;
    struct oct_dnnl_step *step = &phase->kind[kind].step[phase->kind[kind].steps++];

    phase->kinds = kind >= phase->kinds ? kind + 1 : phase->kinds;
    step->memory = calloc((size_t)d->threads * OCT_DNNL_MAX_ARGS, sizeof(dnnl_memory_t));
    if (!step->memory)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for a oneDNN primitive"));
    OCT_OUT(oct_dnnl_status(dnnl_primitive_create(&step->primitive, desc), "a primitive"));
    for (int i = 0; i < count; i++) {
        struct oct_dnnl_bind bind = binds[i];
        if (!bind.md)
            bind.md = dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, bind.arg);
        OCT_OUT(bind_argument(d, phase, step, &bind));
    }
    struct oct_dnnl_bind scratchpad = {DNNL_ARG_SCRATCHPAD, OCT_DNNL_SCRATCHPAD,
        dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0)};
    if (dnnl_memory_desc_get_size(scratchpad.md) > 0)
        OCT_OUT(bind_argument(d, phase, step, &scratchpad));
out:
    dnnl_primitive_desc_destroy(desc);
    return status;
}

/* One phase of one call, as the pool's threads see it. */
struct phase_run {
    const struct oct_dnnl *d;
    const struct oct_dnnl_plan *plan;
    const struct oct_dnnl_phase *phase;
    char *const *shared;
    char *scratch;      /* TMP buffers: [threads][thread_bytes] */
    _Atomic int failed; /* first dnnl_status_t that was not success */
};

/* A handle is set only when it changes: setting one makes oneDNN zero the layout's padding (packed
 * weights have some, already zero), which costs time and an allocation. */
static dnnl_status_t point(dnnl_memory_t memory, void *handle, dnnl_stream_t stream)
{
    void *old = NULL;
    dnnl_status_t status = dnnl_memory_get_data_handle(memory, &old);
    if (status != dnnl_success || old == handle)
        return status;
    return dnnl_memory_set_data_handle_v2(memory, handle, stream);
}

static dnnl_status_t run_step(
    const struct oct_dnnl_step *step, char *const *at, int thread, dnnl_stream_t stream)
{
    dnnl_exec_arg_t args[OCT_DNNL_MAX_ARGS];
    for (int i = 0; i < step->args; i++) {
        args[i].arg = step->arg[i];
        args[i].memory = step->memory[thread * OCT_DNNL_MAX_ARGS + i];
        dnnl_status_t status = point(args[i].memory, at[step->buffer[i]], stream);
        if (status != dnnl_success)
            return status;
    }
    return dnnl_primitive_execute(step->primitive, stream, step->args, args);
}

static void run_item(void *run_, int64_t i, int thread)
{
    struct phase_run *run = run_;
    const struct oct_dnnl_phase *phase = run->phase;
    const struct oct_dnnl_item *item = &phase->item[i];
    const struct oct_dnnl_kind *kind = &phase->kind[item->kind];
    dnnl_stream_t stream = run->d->stream[thread];
    char *at[OCT_DNNL_BUFFERS];
    dnnl_status_t status = dnnl_success;

    if (omp_get_max_threads() != 1)
        omp_set_num_threads(1);
    for (int b = 0; b < OCT_DNNL_SHARED; b++)
        at[b] = run->shared[b] ? run->shared[b] + item->offset[b] : NULL;
    char *tmp = run->scratch + (size_t)thread * thread_bytes(phase);
    for (int b = OCT_DNNL_SHARED; b < OCT_DNNL_BUFFERS; b++) {
        at[b] = tmp;
        tmp += phase->tmp_bytes[b - OCT_DNNL_SHARED];
    }
    if (phase->before)
        phase->before(run->plan, item, at);
    for (int s = 0; s < kind->steps && status == dnnl_success; s++)
        status = run_step(&kind->step[s], at, thread, stream);
    if (status == dnnl_success)
        status = dnnl_stream_wait(stream);
    if (status != dnnl_success)
        run->failed = (int)status;
    else if (phase->after)
        phase->after(run->plan, item, at);
}

enum oct_status oct_dnnl_run(
    struct oct_cpu *cpu, const struct oct_dnnl_plan *plan, char *const *shared, char *workspace)
{
    enum oct_status status = OCT_OK;
    char *at[OCT_DNNL_SHARED];
    int threads = omp_get_max_threads(); /* the caller's setting, changed by run_item */

    memcpy(at, shared, sizeof at);
    at[OCT_DNNL_PARTIAL] = workspace;
    for (int p = 0; p < plan->phases && status == OCT_OK; p++) {
        struct phase_run run = {.d = oct_dnnl_of(cpu),
            .plan = plan,
            .phase = &plan->phase[p],
            .shared = at,
            .scratch = workspace + plan->partial_bytes};
        oct_pool_run(cpu->pool, run.phase->items, run_item, &run);
        status = oct_dnnl_status((dnnl_status_t)run.failed, "the execution of a product");
    }
    omp_set_num_threads(threads);
    return status;
}
