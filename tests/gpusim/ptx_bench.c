#include "ptx_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char head[] = ".version 9.0\n.target sm_80\n.address_size 64\n";

int ptx_run(const struct ptx_launch *l)
{
    char error[512];
    void *pointers[8];
    for (int i = 0; i < 8; i++)
        pointers[i] = (void *)(uintptr_t)(l->arguments + i);
    struct gpusim_module *module = gpusim_module_open(l->text, strlen(l->text));
    if (!module)
        return -1;
    struct gpusim_kernel *kernel = gpusim_module_kernel(module, "t", error, sizeof error);
    int result = -1;
    if (!kernel) {
        gpusim_report("%s", error);
    } else {
        const uint32_t grid[3] = {l->grid ? l->grid : 1, 1, 1}, block[3] = {l->threads, 1, 1};
        struct gpusim_launch *launch = NULL;
        result = gpusim_launch_kernel(kernel, grid, block, pointers, l->dynamic_shared, &launch);
        if (!result)
            result = gpusim_launch_run(launch);
        gpusim_launch_free(launch);
    }
    gpusim_kernel_free(kernel);
    gpusim_module_close(module);
    return result;
}

static char *lane_text(const char *body)
{
    static const char form[] =
        "%s.visible .entry t(.param .u64 in, .param .u64 out) {\n"
        ".reg .pred %%p, %%q;\n.reg .b16 %%h, %%k;\n.reg .b32 %%a, %%b, %%c, %%o, %%t, %%u;\n"
        ".reg .b64 %%A, %%B, %%C, %%O, %%T, %%in, %%out;\n"
        "ld.param.u64 %%in, [in];\nld.param.u64 %%out, [out];\nmov.u32 %%t, %%laneid;\n"
        "mad.wide.u32 %%in, %%t, 24, %%in;\nmad.wide.u32 %%out, %%t, 8, %%out;\n"
        "ld.global.u64 %%A, [%%in];\nld.global.u64 %%B, [%%in+8];\nld.global.u64 %%C, [%%in+16];\n"
        "cvt.u32.u64 %%a, %%A;\ncvt.u32.u64 %%b, %%B;\ncvt.u32.u64 %%c, %%C;\n"
        "%s\n%sst.global.u64 [%%out], %%O;\nret;\n}\n";
    const char *widen = strstr(body, "%O") ? "" : "cvt.u64.u32 %O, %o;\n";
    const size_t size = sizeof form + sizeof head + strlen(body) + 64;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, form, head, body, widen);
    return text;
}

int ptx_check(const char *body, const struct ptx_row *rows, int count)
{
    char *text = lane_text(body);
    uint64_t *in = gpusim_alloc(24 * (size_t)count), *out = gpusim_alloc(8 * (size_t)count);
    int wrong = 0;
    for (int i = 0; i < count; i++)
        memcpy(in + 3 * i, &rows[i], 24);
    gpusim_mark_written(in, 24 * (size_t)count);
    const uint64_t arguments[8] = {(uint64_t)(uintptr_t)in, (uint64_t)(uintptr_t)out};
    const struct ptx_launch launch = {
        .text = text, .arguments = arguments, .threads = (uint32_t)count};
    const int error = ptx_run(&launch);
    if (error) {
        printf("%s: %s\n", body, gpusim_last_report());
        wrong = -1;
    }
    for (int i = 0; i < count && !error; i++)
        if (out[i] != rows[i].want) {
            printf("%s: a %#llx b %#llx c %#llx gave %#llx, not %#llx\n", body,
                (unsigned long long)rows[i].a, (unsigned long long)rows[i].b,
                (unsigned long long)rows[i].c, (unsigned long long)out[i],
                (unsigned long long)rows[i].want);
            wrong++;
        }
    gpusim_release(in);
    gpusim_release(out);
    free(text);
    gpusim_reset();
    return wrong;
}

bool ptx_refused(const char *body)
{
    char *text = lane_text(body);
    char error[512];
    struct gpusim_module *module = gpusim_module_open(text, strlen(text));
    struct gpusim_kernel *kernel =
        module ? gpusim_module_kernel(module, "t", error, sizeof error) : NULL;
    const bool refused = module && !kernel;
    gpusim_kernel_free(kernel);
    gpusim_module_close(module);
    free(text);
    gpusim_reset();
    return refused;
}
