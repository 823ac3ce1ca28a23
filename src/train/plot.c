/* PLplot's svg driver behind oct_plot_write.
 *
 * PLplot is made for programs of its own: it has one global state, and where it cannot go on it
 * asks on the terminal, prints, or calls exit(). A training run must survive that, so drawing
 * happens under a lock, in a stream of our own, with a driver that was looked up before, into
 * memory (the file is then put in place by oct_atomic_*), and PLplot's abort and exit handlers jump
 * back here. After such a jump its state is unknown and it is not used again. */
#include "train/plot.h"

#include "base/file.h"

#include <math.h>
#include <plplot/plplot.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t plplot_lock = PTHREAD_MUTEX_INITIALIZER;
static jmp_buf plplot_exit; /* guarded by the lock */
static char plplot_reason[160];
static bool plplot_unusable;

enum {
    WIDTH = 960, /* points */
    PANEL_HEIGHT = 400,
    ROW_HEIGHT = 24, /* of the legend */
    COLORS = 7,
    MAX_MARKED = 60 /* longer axes: lines without markers */
};

/* Colour-blind safe (Okabe and Ito 2008, without yellow). */
static const PLINT palette[COLORS][3] = {{0, 114, 178}, {213, 94, 0}, {0, 158, 115},
    {204, 121, 167}, {86, 180, 233}, {230, 159, 0}, {90, 90, 90}};
enum { INK = 1, GRID, FIRST_COLOR };

static void draw_line(const struct oct_plot_line *p, bool marked)
{
    for (size_t begin = 0, end; begin < p->count; begin = end + 1) {
        for (end = begin; end < p->count && isfinite(p->y[end]); end++)
            ;
        if (end - begin >= 2)
            plline((PLINT)(end - begin), p->x + begin, p->y + begin);
        if (end > begin && (end - begin == 1 || marked))
            plpoin((PLINT)(end - begin), p->x + begin, p->y + begin, 17);
    }
}

static void use_color(size_t i)
{
    plcol0((PLINT)(FIRST_COLOR + i % COLORS));
    pllsty((PLINT)(1 + i / COLORS % 8));
}

static void draw_panel(const struct oct_plot *plot, int side, double height)
{
    const struct oct_plot_panel *panel = &plot->panel[side];
    double left = side == 0 ? 0.075 : 0.575, tick = panel->right <= 10 ? 1 : 0;
    plvpor(left, left + 0.405, 1 - (PANEL_HEIGHT - 62) / height, 1 - 36 / height);
    plwind(0, 1.03 * panel->right, panel->low, panel->high);
    plcol0(GRID);
    plwidth(0.5);
    plbox("g", tick, 0, "g", 0, 0);
    plcol0(INK);
    plbox("bcnst", tick, tick > 0 ? 1 : 0, "bcnstv", 0, 0);
    plmtex("b", 3.0, 0.5, 0.5, panel->x_axis);
    plmtex("l", 4.2, 0.5, 0.5, panel->y_axis);
    plmtex("t", 1.2, 0.5, 0.5, panel->title);
    plwidth(1.8);
    for (size_t i = 0; i < plot->lines; i++) {
        use_color(i);
        draw_line(&panel->line[i], panel->right <= MAX_MARKED);
    }
    pllsty(1);
}

/* One row per line below the panels: its looks and its text. */
static void draw_legend(const struct oct_plot *plot, double height)
{
    plvpor(0, 1, 0, 1);
    plwind(0, WIDTH, 0, height);
    for (size_t i = 0; i < plot->lines; i++) {
        double y = height - PANEL_HEIGHT - ROW_HEIGHT * ((double)i + 0.5);
        plwidth(1.8);
        use_color(i);
        pljoin(72, y, 112, y);
        pllsty(1);
        plcol0(INK);
        plptex(122, y, 1, 0, 0, plot->text[i]);
    }
}

static void set_colors(void)
{
    plscolbg(255, 255, 255);
    plscmap0n(FIRST_COLOR + COLORS);
    plscol0(INK, 30, 30, 30);
    plscol0(GRID, 215, 215, 215);
    for (int i = 0; i < COLORS; i++)
        plscol0(FIRST_COLOR + i, palette[i][0], palette[i][1], palette[i][2]);
}

static void give_up(const char *reason)
{
    snprintf(plplot_reason, sizeof plplot_reason, "%s", reason ? reason : "no reason given");
    longjmp(plplot_exit, 1);
}

static int give_up_exit(const char *reason)
{
    give_up(reason);
    return 1;
}

/* PLplot would ask for another device on standard input, for ever. */
static void need_svg_driver(void)
{
    enum { DEVICES = 64 };
    const char *menu[DEVICES], *name[DEVICES], **menu_list = menu, **name_list = name;
    int count = DEVICES;
    plgDevs(&menu_list, &name_list, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(name[i], "svg") == 0)
            return;
    }
    give_up("it has no svg driver");
}

static void draw_page(const struct oct_plot *plot, FILE *page)
{
    PLINT before, own;
    double height = PANEL_HEIGHT + ROW_HEIGHT * (double)plot->lines + 12;
    plgstrm(&before);
    plmkstrm(&own);
    plsdev("svg");
    plsfile(page);
    plspage(0, 0, WIDTH, (PLINT)height, 0, 0);
    set_colors();
    plinit();
    pladv(0);
    plschr(3.4, 1); /* sizes in millimetres, whatever the height of the page */
    plssym(5, 1);
    plsmaj(1.6, 1);
    plsmin(0.9, 1);
    for (int side = 0; side < OCT_PLOT_PANELS; side++)
        draw_panel(plot, side, height);
    draw_legend(plot, height);
    plend1();
    plsstrm(before);
}

/* Draws with PLplot's ways out barred, and closes `page`. The lock is held. */
static enum oct_status draw(const struct oct_plot *plot, FILE *page)
{
    volatile bool handed_over = false; /* PLplot closes the page then */
    if (!plplot_unusable && setjmp(plplot_exit) == 0) {
        plsexit(give_up_exit);
        plsabort(give_up);
        need_svg_driver();
        handed_over = true;
        draw_page(plot, page);
    } else {
        plplot_unusable = true;
    }
    plsexit(NULL);
    plsabort(NULL);
    if (!handed_over)
        fclose(page);
    if (plplot_unusable)
        return oct_fail(OCT_UNSUPPORTED,
            "PLplot cannot draw a figure: %s; check its svg "
            "driver (package libplplot17, variable PLPLOT_DRV_DIR)",
            plplot_reason);
    return OCT_OK;
}

static enum oct_status render(const struct oct_plot *plot, char **svg, size_t *bytes)
{
    FILE *page = open_memstream(svg, bytes);
    if (!page)
        return oct_fail(OCT_NOMEM, "no memory for a figure");
    pthread_mutex_lock(&plplot_lock);
    enum oct_status status = draw(plot, page);
    pthread_mutex_unlock(&plplot_lock);
    return status;
}

enum oct_status oct_plot_write(const struct oct_plot *plot, const char *path)
{
    enum oct_status status = OCT_OK;
    struct oct_atomic_file file = {.fd = -1};
    char *svg = NULL;
    size_t bytes = 0;

    OCT_OUT(render(plot, &svg, &bytes));
    OCT_OUT(oct_atomic_open(&file, path));
    OCT_OUT(oct_atomic_write(&file, svg, bytes));
    OCT_OUT(oct_atomic_commit(&file));
out:
    oct_atomic_abandon(&file);
    free(svg);
    return status;
}
