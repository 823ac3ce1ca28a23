/* The inside of the mirror: which buffers an op's arguments name, and the two directions. */
#ifndef OCT_TEST_MIRROR_SPAN_H
#define OCT_TEST_MIRROR_SPAN_H

#include "support/mirror.h"

enum { MOST_SPANS = 48 };

struct span {
    void *field; /* address of the pointer inside the arguments */
    void *host, *device;
    size_t bytes;
    bool in, out, shared; /* shared: an earlier span has the same buffer */
};

struct mirror {
    oct_backend *device;
    struct span spans[MOST_SPANS];
    int count;
};

/* Starts an op: forgets the buffers of the one before. */
struct mirror *mirror_begin(oct_backend *table);
/* Names a buffer: `field` is the address of the pointer inside the copied arguments. */
void mirror_bind(struct mirror *m, void *field, int64_t bytes, bool in, bool out);
void mirror_bind_stats(struct mirror *m, struct oct_acc_stats *stats, int channels);
void mirror_bind_range(struct mirror *m, struct oct_range *range, bool out);
/* Puts the inputs on the device and its addresses into the arguments. */
enum oct_status mirror_carry(struct mirror *m);
/* Copies the outputs back if the op went well, and frees. */
enum oct_status mirror_finish(struct mirror *m, enum oct_status status);

/* mirror_conv.c: the products of the table. */
void mirror_install_products(oct_backend *table);
/* mirror_norm.c: normalisations and activations. */
void mirror_install_norms(oct_backend *table);

/* Of arguments `a` in an op's function. Outputs go there too: what an op leaves must stay. */
#define IN(field, bytes) mirror_bind(m, &(field), (int64_t)(bytes), true, false)
#define OUT(field, bytes) mirror_bind(m, &(field), (int64_t)(bytes), true, true)
#define SCRATCH(field, bytes) mirror_bind(m, &(field), (int64_t)(bytes), false, false)

/* Runs `op` of the device on the copy `a` of its arguments. */
#define RUN(op)                                                                                    \
    do {                                                                                           \
        enum oct_status status_ = mirror_carry(m);                                                 \
        if (status_ == OCT_OK)                                                                     \
            status_ = m->device->op(m->device, &a);                                                \
        return mirror_finish(m, status_);                                                          \
    } while (0)

static inline struct mirror *mirror_of(oct_backend *table)
{
    return table->ctx;
}

static inline int64_t size_of(enum oct_dtype dtype)
{
    return (int64_t)oct_dtype_bytes(dtype);
}

#endif
