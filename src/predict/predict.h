/* The devices "model:CARD": they compute nothing, but say what the ops of a step would cost on a
 * card. Memory is only addresses: what is downloaded is 0. */
#ifndef OCT_PREDICT_H
#define OCT_PREDICT_H

#include "backend.h"

/* card: a name of card.c. unit: NULL, or "tf32" for f32 products on that unit. */
enum oct_status oct_predict_open(const char *card, const char *unit, oct_backend **out);

#endif
