/* Operands of backward products recorded from a float run, for `octet analyse`: at 1, 10, 50 and
 * 100 % of the training some steps in a row, a file gradients-STEP.safetensors in the run folder
 * for each. A file has LAYER.x, LAYER.w and LAYER.dy of every convolution, f32, NHWC and KRSC, of
 * the first images of the batch; metadata LAYER is "stride pad dilation edge dgrad". */
#ifndef OCT_RECORD_H
#define OCT_RECORD_H

#include "base/status.h"

struct oct_trainer;

enum { OCT_RECORD_IMAGES = 16 }; /* of a batch, at most */

/* Does nothing unless options.record_gradients says how many dY to record in all. */
enum oct_status oct_record_open(struct oct_trainer *t);
void oct_record_close(struct oct_trainer *t);
/* Before and after the device's work of a step. */
void oct_record_arm(struct oct_trainer *t);
enum oct_status oct_record_step(struct oct_trainer *t);

#endif
