/* Opens devices by name: the CPU and the predictions of cards are part of the library, others are
 * plug-ins. */
#include "cpu/cpu.h"
#include "plugin.h"
#include "predict/predict.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct plugin_kind {
    const char *device;  /* the name, or what stands before ':' */
    const char *library; /* file of the plug-in */
    const char *what;    /* of the message when it is not there */
};

static const struct plugin_kind kinds[] = {
    {"cuda", "liboctet-cuda.so", "NVIDIA GPUs"},
    {"sim", "liboctet-sim.so", "the CUDA backend, simulated on the CPU"},
};

static const struct plugin_kind *find_kind(const char *device)
{
    size_t length = strcspn(device, ":");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strlen(kinds[i].device) == length && strncmp(kinds[i].device, device, length) == 0)
            return &kinds[i];
    return NULL;
}

/* Folder of the program or library this code is in; false if it cannot be told. */
static bool own_folder(char *out, size_t size)
{
    Dl_info info;
    char path[PATH_BYTES];
    ssize_t length;

    /* A library is known by its path. A program only by what it was called: ask the system. */
    if (dladdr((const void *)kinds, &info) && info.dli_fname && strstr(info.dli_fname, ".so"))
        length = snprintf(path, sizeof path, "%s", info.dli_fname);
    else
        length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0 || (size_t)length >= sizeof path)
        return false;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    if (!slash)
        return false;
    *slash = 0;
    return (size_t)snprintf(out, size, "%s", path) < size;
}

/* Where the plug-in lies: OCT_PLUGIN_PATH if set; else beside the program or library, or in
 * lib/octet of their prefix. False, and the folders that were searched, if nowhere. */
static bool find_library(const char *library, char *out, char *searched, size_t size)
{
    static const char *const below[] = {"", "/octet", "/../lib/octet"};
    const char *fixed = secure_getenv("OCT_PLUGIN_PATH");
    char own[PATH_BYTES];
    int count = fixed && *fixed ? 1 : (int)(sizeof below / sizeof below[0]);

    searched[0] = 0;
    if (fixed && *fixed)
        snprintf(own, sizeof own, "%s", fixed);
    else if (!own_folder(own, sizeof own))
        return false;
    for (int i = 0; i < count; i++) {
        size_t used = strlen(searched);
        if ((size_t)snprintf(out, PATH_BYTES, "%s%s/%s", own, below[i], library) >= PATH_BYTES)
            continue;
        if (access(out, F_OK) == 0)
            return true;
        snprintf(searched + used, size - used, "%s%s%s", i ? ", " : "", own, below[i]);
    }
    return false;
}

static enum oct_status open_plugin(
    const struct plugin_kind *kind, const struct oct_backend_options *options, oct_backend **out)
{
    static const struct oct_plugin_host host = {OCT_VERSION, sizeof(oct_backend), oct_fail};
    char path[PATH_BYTES], searched[3 * PATH_BYTES];
    oct_plugin_open_fn *open;

    if (!find_library(kind->library, path, searched, sizeof searched))
        return oct_fail(OCT_DEVICE,
            "device \"%s\" (%s) needs %s, which is not in %s: build octet where nvcc is, or set "
            "OCT_PLUGIN_PATH",
            options->device, kind->what, kind->library, searched);
    /* Never closed: a device's run-time library keeps handlers that run when the process ends. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void *symbol = library ? dlsym(library, "oct_plugin_open") : NULL;
    if (!symbol)
        return oct_fail(
            OCT_DEVICE, "device \"%s\": cannot load %s: %s", options->device, path, dlerror());
    memcpy(&open, &symbol, sizeof open); /* POSIX's way from an object to a function pointer */
    return open(&host, options, out);
}

enum oct_status oct_backend_open(const struct oct_backend_options *options, oct_backend **out)
{
    const char *device = options->device ? options->device : "";
    const struct plugin_kind *kind = find_kind(device);

    if (strcmp(device, "cpu") == 0)
        return oct_cpu_open(options->isa, options->threads, out);
    if (kind)
        return open_plugin(kind, options, out);
    if (strncmp(device, "model:", 6) == 0)
        return oct_predict_open(device + 6, options->isa, out);
    return oct_fail(OCT_DEVICE,
        "unknown device \"%s\": there are \"cpu\", \"cuda\", \"cuda:N\", \"sim\" and "
        "\"model:CARD\"",
        device);
}

void oct_backend_close(oct_backend *backend)
{
    if (backend)
        backend->close(backend);
}
