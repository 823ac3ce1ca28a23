/* What elementwise ops over [rows, channels] are tried with: around vectors, chunks and the shares
 * of threads. */
#ifndef OCT_TEST_ELEMENTWISE_CASES_H
#define OCT_TEST_ELEMENTWISE_CASES_H

#include "support/support.h"

static const struct {
    int64_t rows;
    int channels;
} shapes[] = {{1, 1}, {3, 7}, {7, 3}, {1, 17}, {64, 1}, {65, 16}, {257, 64}, {255, 65}, {513, 33},
    {1025, 80}, {300, 257}, {31, 1024}, {9, 1025}, {5, 4100}, {40000, 3}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static const enum fill fills[] = {FILL_RANDOM, FILL_ZERO, FILL_ALTERNATE, FILL_OUTLIER, FILL_TINY};
enum { FILLS = sizeof fills / sizeof fills[0] };

#endif
