/* How functions of this project fail: a status code, and one thread-local line that says what was
 * asked, what was found and what to do. The codes are public (octet.h); these macros are not. */
#ifndef OCT_STATUS_H
#define OCT_STATUS_H

#include "octet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stores the formatted message as this thread's last error and returns `code`. */
enum oct_status oct_fail(enum oct_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* OCT_ARG: `kind` (e.g. "model") has no `asked`, but the names name_at(0), name_at(1), ... */
enum oct_status oct_fail_unknown(
    const char *kind, const char *asked, const char *(*name_at)(size_t index));

#ifdef __cplusplus
}
#endif

/* Forwards a failure to the caller. */
#define OCT_TRY(call)                                                                              \
    do {                                                                                           \
        enum oct_status oct_try_ = (call);                                                         \
        if (oct_try_ != OCT_OK)                                                                    \
            return oct_try_;                                                                       \
    } while (0)

/* Jumps to the function's single cleanup label `out`, keeping the failure in `status`. */
#define OCT_OUT(call)                                                                              \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != OCT_OK)                                                                      \
            goto out;                                                                              \
    } while (0)

#endif
