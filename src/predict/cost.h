/* From work and card to time: every op takes as long as its slowest resource (memory, product unit,
 * issue slots), plus a launch each. A model, never a measurement. */
#ifndef OCT_PREDICT_COST_H
#define OCT_PREDICT_COST_H

#include "predict/card.h"
#include "predict/work.h"

/* Warp instructions that one launch of an int8 product issues on an architecture: its main loop as
 * the machine code has it, the rest of its blocks as gpusim counts it. */
double oct_cost_product_slots(const struct oct_work_launch *, enum oct_work_kind kind, int arch);
/* Blocks of it on one multiprocessor at a time. */
int oct_cost_product_blocks(const struct oct_work_launch *, int arch);

/* Adds the op to the estimate. `unit`: what does the products, if it has any; launches: of an int8
 * product, NULL for others. */
void oct_cost_add(struct oct_estimate *, const struct oct_card *, enum oct_unit unit,
    const struct oct_work *work, const struct oct_work_launch *launches, int launch_count);

/* Bytes that memory moves for an int8 run's op, from the list and gpusim's counters. */
double oct_cost_bytes(const struct oct_work *work);

#endif
