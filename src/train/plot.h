/* Figures: two panels side by side, a legend below, written as one SVG. */
#ifndef OCT_PLOT_H
#define OCT_PLOT_H

#include "base/status.h"

#include <stddef.h>

enum { OCT_PLOT_PANELS = 2 };

struct oct_plot_line {
    double *x, *y; /* a y that is not finite is a gap */
    size_t count;
};

struct oct_plot_panel {
    const char *title, *x_axis, *y_axis;
    double right;                     /* x runs from 0 to a little more than this */
    double low, high;                 /* y runs from low to high */
    const struct oct_plot_line *line; /* [lines] */
};

struct oct_plot {
    struct oct_plot_panel panel[OCT_PLOT_PANELS];
    size_t lines;
    const char *const *text; /* [lines], of the legend; UTF-8, '#' stands doubled */
};

/* Replaces the file at `path` as a whole. UNSUPPORTED: PLplot cannot draw. */
enum oct_status oct_plot_write(const struct oct_plot *plot, const char *path);

#endif
