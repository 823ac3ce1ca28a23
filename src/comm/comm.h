/* Communication between the processes of one training run. Every gradient and every statistic that
 * feeds a scale's persistent state passes through here at a named point, so that more than one
 * process needs no change above. One process: comm_self, where every call is a no-op. */
#ifndef OCT_COMM_H
#define OCT_COMM_H

#include "base/status.h"
#include "base/tensor.h"

enum oct_reduction { OCT_REDUCE_SUM, OCT_REDUCE_MAX };

struct oct_comm {
    const char *name;
    int rank, size;
    void *ctx;
    /* In-place reduction of device memory over all ranks; `point` names the call in errors. */
    enum oct_status (*all_reduce)(struct oct_comm *, void *data, int64_t count, enum oct_dtype,
        enum oct_reduction, const char *point);
    enum oct_status (*broadcast)(
        struct oct_comm *, void *data, size_t bytes, int root, const char *point);
    enum oct_status (*barrier)(struct oct_comm *, const char *point);
    void (*close)(struct oct_comm *);
};

/* The communicator of a run with one process. Accepts no failure. */
struct oct_comm *oct_comm_self(void);

#endif
