/* A backend that hands every op on to a device and then tells somebody what work it was. */
#ifndef OCT_TEST_OP_WATCH_H
#define OCT_TEST_OP_WATCH_H

#include "predict/work.h"

#include <stdbool.h>

struct op_watch {
    oct_backend table; /* first: the backend pointer is the watch */
    oct_backend *device;
    bool skip;           /* the device only gives memory: ops are told of, not run */
    int multiprocessors; /* for which weight gradients are split */
    void (*after)(void *user, const struct oct_work *work);
    void *user;
};

/* Fills watch->table; device and the rest are the caller's. */
void op_watch_open(struct op_watch *watch);

#endif
