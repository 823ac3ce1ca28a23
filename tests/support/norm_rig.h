/* For tests and benches of the normalise-and-activate ops: a CPU backend that has only these, for a
 * chosen instruction set and thread count; and outputs held three times (initial content, the
 * oracle's, the op's). */
#ifndef OCT_TEST_NORM_RIG_H
#define OCT_TEST_NORM_RIG_H

#include "cpu/cpu.h"
#include "support/support.h"

enum { RIG_ISAS = 2, RIG_THREADS = 3, RIG_OUTPUTS = 16 };

/* isa 0: base, 1: avx512. False where this machine lacks it. With another device under test isa 0
 * and one thread stand for that device, the others are not there. Flushes subnormals in this
 * thread. */
bool norm_rig_open(int isa, int threads, struct oct_cpu *out);
void norm_rig_close(struct oct_cpu *cpu);

/* An output of n elements; n = 0 is an output that was not asked for: its pointer is NULL. */
struct output {
    const char *name;
    enum oct_dtype dtype;
    int64_t n;
    void *initial, *want, *got;
};

struct outputs {
    struct output at[RIG_OUTPUTS];
    int count;
    bool use_got; /* which copy output_ptr gives */
};

/* Adds an output, all bytes 0, or 0xA5 if `garbage`; returns its initial content (NULL if n is 0).
 */
void *output_add(
    struct outputs *outs, const char *name, enum oct_dtype dtype, int64_t n, bool garbage);
void *output_ptr(const struct outputs *outs, const char *name);
/* Copies the initial contents to the copy in use. */
void outputs_reset(struct outputs *outs);
/* got equals want bit for bit, and guards are whole. */
bool outputs_same(const struct outputs *outs, int channels);
void outputs_free(struct outputs *outs);

#endif
