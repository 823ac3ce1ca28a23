/* What nvcc's start-up code registers: fat binaries with PTX as plain text, kernels, variables.
 * Registration runs before main; text is decoded when a kernel is first needed. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <fatbinary_section.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FATBIN_MAGIC = (int)0xba55ed50, FILE_PTX = 1, FILE_ELF = 2, MAX_TARGETS = 16 };

struct fat_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
};

struct fat_file {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
    uint32_t compressed_bytes, options;
    uint16_t minor, major;
    uint32_t arch;
};

struct target {
    int sm;
    const char *text;
    size_t length;
    struct gpusim_module *module;
};

struct cubin {
    int sm;
    const void *image;
    size_t bytes;
};

struct binary {
    struct target target[MAX_TARGETS];
    struct cubin cubin[MAX_TARGETS];
    int count, cubins;
    bool compressed;
    struct binary *next;
};

struct gpusim_function {
    struct binary *binary;
    const void *host;
    char *name;
    struct {
        int sm;
        struct gpusim_kernel *kernel;
    } made[MAX_TARGETS];
    struct gpusim_function *next;
};

struct variable {
    struct binary *binary;
    const void *host;
    char *name;
    struct variable *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct binary *binaries;
static struct gpusim_function *functions;
static struct variable *variables;

static void collect_targets(struct binary *binary, const void *data)
{
    struct fat_header header;
    memcpy(&header, data, sizeof header);
    if (header.magic != (uint32_t)FATBIN_MAGIC)
        return;
    const unsigned char *at = (const unsigned char *)data + header.header_bytes;
    const unsigned char *end = at + header.bytes;
    while (at + sizeof(struct fat_file) <= end) {
        struct fat_file file;
        memcpy(&file, at, sizeof file);
        const char *text = (const char *)at + file.header_bytes;
        if (file.kind == FILE_ELF && binary->cubins < MAX_TARGETS) {
            binary->cubin[binary->cubins++] =
                (struct cubin){(int)file.arch, text, (size_t)file.bytes};
        } else if (file.kind == FILE_PTX && binary->count < MAX_TARGETS) {
            text += strspn(text, " \t\n");
            if (strncmp(text, ".version", 8) == 0 || strncmp(text, "//", 2) == 0)
                binary->target[binary->count++] =
                    (struct target){(int)file.arch, text, strlen(text), NULL};
            else
                binary->compressed = true;
        }
        at += file.header_bytes + file.bytes;
    }
}

void **__cudaRegisterFatBinary(void *wrapper);
void **__cudaRegisterFatBinary(void *wrapper)
{
    __fatBinC_Wrapper_t fat;
    memcpy(&fat, wrapper, sizeof fat);
    struct binary *binary = calloc(1, sizeof *binary);
    if (!binary)
        abort();
    collect_targets(binary, fat.data);
    pthread_mutex_lock(&mutex);
    binary->next = binaries;
    binaries = binary;
    pthread_mutex_unlock(&mutex);
    return (void **)binary;
}

void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

static void forget_functions(const struct binary *binary)
{
    for (struct gpusim_function **at = &functions; *at;) {
        struct gpusim_function *f = *at;
        if (f->binary != binary) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        for (int i = 0; i < MAX_TARGETS; i++)
            gpusim_kernel_free(f->made[i].kernel);
        free(f->name);
        free(f);
    }
    for (struct variable **at = &variables; *at;) {
        struct variable *v = *at;
        if (v->binary != binary) {
            at = &v->next;
            continue;
        }
        *at = v->next;
        free(v->name);
        free(v);
    }
}

void __cudaUnregisterFatBinary(void **handle);
void __cudaUnregisterFatBinary(void **handle)
{
    struct binary *binary = (struct binary *)handle;
    pthread_mutex_lock(&mutex);
    forget_functions(binary);
    for (struct binary **at = &binaries; *at; at = &(*at)->next)
        if (*at == binary) {
            *at = binary->next;
            break;
        }
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < binary->count; i++)
        gpusim_module_close(binary->target[i].module);
    free(binary);
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
    int thread_limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp_size);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
    int thread_limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp_size)
{
    (void)device, (void)thread_limit, (void)tid, (void)bid, (void)block, (void)grid;
    (void)warp_size;
    struct gpusim_function *f = calloc(1, sizeof *f);
    if (!f || !(f->name = strdup(name)))
        abort();
    f->binary = (struct binary *)handle;
    f->host = host;
    pthread_mutex_lock(&mutex);
    f->next = functions;
    functions = f;
    pthread_mutex_unlock(&mutex);
}

void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int is_extern,
    size_t size, int constant, int global);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int is_extern,
    size_t size, int constant, int global)
{
    (void)device, (void)is_extern, (void)size, (void)constant, (void)global;
    struct variable *v = calloc(1, sizeof *v);
    if (!v || !(v->name = strdup(name)))
        abort();
    v->binary = (struct binary *)handle;
    v->host = host;
    pthread_mutex_lock(&mutex);
    v->next = variables;
    variables = v;
    pthread_mutex_unlock(&mutex);
}

char __cudaInitModule(void **handle);
char __cudaInitModule(void **handle)
{
    (void)handle;
    return 1;
}

/* The text for the highest target that a device of this capability can run, opened. */
static struct gpusim_module *module_for(struct binary *binary, int sm, const char *name)
{
    struct target *best = NULL;
    for (int i = 0; i < binary->count; i++)
        if (binary->target[i].sm <= sm && (!best || binary->target[i].sm > best->sm))
            best = &binary->target[i];
    if (!best) {
        gpusim_report("%s: no PTX for sm_%d or below%s", name, sm,
            binary->compressed ? "; what there is is compressed: build with nvcc --no-compress"
                               : "; build with -gencode arch=compute_XX,code=compute_XX");
        return NULL;
    }
    if (!best->module)
        best->module = gpusim_module_open(best->text, best->length);
    return best->module;
}

/* Registers a thread in the machine code that a device of this capability would choose: of the same
 * major version, the highest it can run. 0: it would compile the PTX, and nobody knows. */
static int registers_for(const struct binary *binary, int sm, const char *name)
{
    const struct cubin *best = NULL;
    for (int i = 0; i < binary->cubins; i++) {
        const struct cubin *c = &binary->cubin[i];
        if (c->sm / 10 == sm / 10 && c->sm <= sm && (!best || c->sm > best->sm))
            best = c;
    }
    return best ? gpusim_cubin_registers(best->image, best->bytes, name) : 0;
}

struct gpusim_function *gpusim_function_of(const void *handle)
{
    pthread_mutex_lock(&mutex);
    struct gpusim_function *f = functions;
    while (f && f->host != handle && f != handle)
        f = f->next;
    pthread_mutex_unlock(&mutex);
    return f;
}

const char *gpusim_function_name(const struct gpusim_function *f)
{
    return f->name;
}

struct gpusim_kernel *gpusim_function_kernel(struct gpusim_function *f)
{
    const int sm = gpusim_options().sm;
    int at = 0;
    while (at < MAX_TARGETS && f->made[at].kernel && f->made[at].sm != sm)
        at++;
    if (at == MAX_TARGETS)
        return NULL;
    if (f->made[at].kernel)
        return f->made[at].kernel;
    struct gpusim_module *module = module_for(f->binary, sm, f->name);
    if (!module)
        return NULL;
    char error[512];
    struct gpusim_kernel *kernel = gpusim_module_kernel(module, f->name, error, sizeof error);
    if (!kernel) {
        gpusim_report("%s: %s", f->name, error);
        return NULL;
    }
    kernel->sass_registers = registers_for(f->binary, sm, f->name);
    f->made[at].sm = sm;
    return f->made[at].kernel = kernel;
}

void *gpusim_variable_of(const void *host, size_t *size)
{
    pthread_mutex_lock(&mutex);
    struct variable *v = variables;
    while (v && v->host != host)
        v = v->next;
    pthread_mutex_unlock(&mutex);
    struct gpusim_module *module = v ? module_for(v->binary, gpusim_options().sm, v->name) : NULL;
    return module ? gpusim_module_variable(module, v->name, size) : NULL;
}

/* ---- counters, which live with the kernels ---- */

static void add_counts(struct gpusim_counts *to, const struct gpusim_kernel *kernel)
{
    const struct gpusim_counts *c = &kernel->counts;
    to->launches += c->launches;
    to->blocks += c->blocks;
    to->wavefronts += c->wavefronts;
    to->wavefronts_ideal += c->wavefronts_ideal;
    to->sectors += c->sectors;
    to->sectors_ideal += c->sectors_ideal;
    to->bytes_read += c->bytes_read;
    to->bytes_written += c->bytes_written;
    to->footprint_read += c->footprint_read;
    to->footprint_written += c->footprint_written;
    static const int macs[] = {[MMA_8816] = 1024, [MMA_16816] = 2048, [MMA_16832] = 4096};
    for (int i = 0; i < kernel->count; i++) {
        const struct gpusim_inst *inst = &kernel->code[i];
        to->instructions[inst->class] += kernel->executed[i];
        to->total += kernel->executed[i];
        if (inst->kind == KIND_MMA)
            to->macs += kernel->executed[i] * (uint64_t)macs[inst->mode];
        to->covered += kernel->executed[i] > 0;
    }
    to->ptx_instructions += kernel->count;
}

int gpusim_counts_of(const char *name, struct gpusim_counts *out)
{
    int found = 0;
    memset(out, 0, sizeof *out);
    for (const struct gpusim_function *f = functions; f; f = f->next)
        for (int i = 0; i < MAX_TARGETS; i++)
            if (f->made[i].kernel && (!name || strcmp(name, f->name) == 0)) {
                add_counts(out, f->made[i].kernel);
                found = 1;
            }
    return found;
}

void gpusim_clear_counts(void)
{
    for (struct gpusim_function *f = functions; f; f = f->next)
        for (int i = 0; i < MAX_TARGETS; i++) {
            struct gpusim_kernel *kernel = f->made[i].kernel;
            if (!kernel)
                continue;
            memset(&kernel->counts, 0, sizeof kernel->counts);
            memset(kernel->executed, 0, (size_t)kernel->count * sizeof *kernel->executed);
        }
}

void gpusim_each_kernel(
    void (*visit)(const char *kernel, const struct gpusim_counts *, void *user), void *user)
{
    for (struct gpusim_function *f = functions; f; f = f->next)
        for (int i = 0; i < MAX_TARGETS; i++)
            if (f->made[i].kernel && f->made[i].kernel->counts.launches) {
                struct gpusim_counts counts = {0};
                add_counts(&counts, f->made[i].kernel);
                visit(f->name, &counts, user);
            }
}

int gpusim_uncovered(const char *name, char *out, size_t capacity)
{
    int count = 0;
    size_t used = 0;
    if (capacity)
        out[0] = 0;
    for (const struct gpusim_function *f = functions; f; f = f->next) {
        const struct gpusim_kernel *kernel = f->made[0].kernel;
        if (!kernel || strcmp(name, f->name) != 0)
            continue;
        for (int i = 0; i < kernel->count; i++) {
            if (kernel->executed[i])
                continue;
            char text[128];
            gpusim_line_text(kernel->text, kernel->code[i].line, text, sizeof text);
            count++;
            if (used < capacity) {
                const int n =
                    snprintf(out + used, capacity - used, "%d: %s\n", kernel->code[i].line, text);
                used += n > 0 ? (size_t)n : 0;
            }
        }
    }
    return count;
}
