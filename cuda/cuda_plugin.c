/* The plug-in's one exported function, and oct_fail for the code inside it: the last message lives
 * in the program, per thread. */
#include "plugin.h"

#include "cuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum oct_status (*host_fail)(enum oct_status code, const char *format, ...);

enum oct_status oct_fail(enum oct_status code, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return host_fail(code, "%s", text);
}

__attribute__((visibility("default"))) enum oct_status oct_plugin_open(
    const struct oct_plugin_host *host, const struct oct_backend_options *options,
    oct_backend **out)
{
    host_fail = host->fail;
    if (strcmp(host->version, OCT_VERSION) != 0 || host->table_bytes != sizeof(oct_backend))
        return oct_fail(OCT_DEVICE,
            "device \"%s\": its plug-in is of octet %s and the program of %s: install both anew",
            options->device, OCT_VERSION, host->version);
    return oct_cuda_open(options, out);
}
