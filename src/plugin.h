/* What the program and a device plug-in say to each other. A plug-in is a shared library that holds
 * one backend, so that the program needs none of the device's libraries to start. It exports
 * oct_plugin_open and nothing else. */
#ifndef OCT_PLUGIN_H
#define OCT_PLUGIN_H

#include "backend.h"

/* Handed to the plug-in when it is opened. */
struct oct_plugin_host {
    const char *version; /* OCT_VERSION of the program */
    size_t table_bytes;  /* sizeof(oct_backend) of the program */
    /* oct_fail of the program: its last message is per thread and lives there */
    enum oct_status (*fail)(enum oct_status code, const char *format, ...);
};

/* options->device is the device's whole name. Fails like oct_backend_open. */
typedef enum oct_status oct_plugin_open_fn(
    const struct oct_plugin_host *, const struct oct_backend_options *options, oct_backend **out);

oct_plugin_open_fn oct_plugin_open;

#endif
