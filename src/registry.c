/* Opens devices by name. */
#include "cpu/cpu.h"

enum oct_status oct_backend_open(const struct oct_backend_options *options, oct_backend **out)
{
    if (options->device && strcmp(options->device, "cpu") == 0)
        return oct_cpu_open(options->isa, options->threads, out);
    return oct_fail(OCT_DEVICE, "device \"%s\" is not in this build: it has \"cpu\"",
        options->device ? options->device : "");
}

void oct_backend_close(oct_backend *backend)
{
    if (backend)
        oct_cpu_close(backend);
}
