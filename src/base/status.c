#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[1024];

enum oct_status oct_fail(enum oct_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    /* Names from hostile files and odd paths must not break the promise of one line. */
    for (char *c = last_error; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    return code;
}

enum oct_status oct_fail_unknown(
    const char *kind, const char *asked, const char *(*name_at)(size_t index))
{
    char names[512] = "";
    size_t used = 0;
    for (size_t i = 0; name_at(i) && used < sizeof names; i++)
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", name_at(i));
    return oct_fail(OCT_ARG, "unknown %s '%s': use one of %s", kind, asked, names);
}

const char *oct_last_error(void)
{
    return last_error;
}

const char *oct_status_name(enum oct_status status)
{
    static const char *const names[] = {"ok", "bad argument", "bad shape", "unsupported",
        "out of memory", "input/output error", "device error", "communication error",
        "numeric error", "interrupted", "internal error"};
    size_t index = (size_t)status;
    return index < sizeof names / sizeof names[0] ? names[index] : "unknown status";
}
