/* Learning curves: training loss and evaluation top-1 by epoch of one or several runs, drawn by
 * PLplot's svg driver.
 *
 * PLplot is made for programs of its own: it has one global state, and where it cannot go on it
 * asks on the terminal, prints, or calls exit(). A training run must survive that, so drawing
 * happens under a lock, in a stream of our own, with a driver that was looked up before, into
 * memory (the file is then put in place by oct_atomic_*), and PLplot's abort and exit handlers jump
 * back here. After such a jump its state is unknown and it is not used again. */
#include "base/file.h"
#include "train/jsonl.h"

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
    MAX_MARKED = 60, /* longer axes: lines without markers */
    LABEL = 160
};

/* Colour-blind safe (Okabe and Ito 2008, without yellow). */
static const PLINT palette[COLORS][3] = {{0, 114, 178}, {213, 94, 0}, {0, 158, 115},
    {204, 121, 167}, {86, 180, 233}, {230, 159, 0}, {90, 90, 90}};
enum { INK = 1, GRID, FIRST_COLOR };

enum quantity { LOSS, TOP1, QUANTITIES };

/* Points of one quantity of one run; x: epochs completed. */
struct points {
    double *x, *y; /* a y that is not finite is a gap in the line */
    size_t count, room;
};

struct series {
    struct points of[QUANTITIES];
    double epochs; /* completed */
    char label[LABEL];
};

static double number(const json_t *object, const char *key)
{
    const json_t *json = json_object_get(object, key);
    return json_is_number(json) ? json_number_value(json) : NAN;
}

static enum oct_status add_point(struct points *p, double x, double y)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        double *grown_x = realloc(p->x, room * sizeof *p->x);
        if (grown_x)
            p->x = grown_x;
        double *grown_y = realloc(p->y, room * sizeof *p->y);
        if (grown_y)
            p->y = grown_y;
        if (!grown_x || !grown_y)
            return oct_fail(OCT_NOMEM, "no memory for a learning curve");
        p->room = room;
    }
    p->x[p->count] = x;
    p->y[p->count++] = y;
    return OCT_OK;
}

/* A loss that is not finite is a gap; a missing top-1 is an epoch without evaluation, no gap. */
static enum oct_status add_record(void *user, const char *line, const json_t *object)
{
    struct series *s = user;
    const char *type = json_string_value(json_object_get(object, "type"));
    (void)line;
    if (!type || strcmp(type, "epoch") != 0)
        return OCT_OK;
    double top1 = number(object, "top_1");
    s->epochs = number(object, "epoch") + 1;
    if (!isfinite(s->epochs))
        return oct_fail(OCT_IO, "an epoch record of '%s' has no epoch", s->label);
    OCT_TRY(add_point(&s->of[LOSS], s->epochs, number(object, "train_loss")));
    return isfinite(top1) ? add_point(&s->of[TOP1], s->epochs, top1) : OCT_OK;
}

/* The end of the folder's path, in UTF-8 that PLplot and XML accept: '#' doubled (PLplot's escape),
 * the rest that they would refuse as '?'. */
static void set_label(struct series *s, const char *dir)
{
    enum { KEPT = 56 };
    size_t length = strlen(dir), n = 0;
    while (length > 1 && dir[length - 1] == '/')
        length--;
    const char *from = length > KEPT ? dir + length - KEPT : dir;
    while (from > dir && ((unsigned char)*from & 0xc0) == 0x80)
        from++;
    json_t *utf8 = json_stringn(from, (size_t)(dir + length - from));
    if (from > dir)
        n = (size_t)snprintf(s->label, LABEL, "...");
    for (; from < dir + length; from++) {
        unsigned char c = (unsigned char)*from;
        s->label[n++] = c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) ? '?' : *from;
        if (c == '#')
            s->label[n++] = '#';
    }
    s->label[n] = '\0';
    json_decref(utf8);
}

static enum oct_status load_series(struct series *s, const char *dir)
{
    char *path;
    set_label(s, dir);
    OCT_TRY(oct_path_join(dir, "log.jsonl", &path));
    enum oct_status status = oct_jsonl_read(path, 0, add_record, s);
    free(path);
    return status;
}

static void free_series(struct series *s, size_t count)
{
    for (size_t i = 0; s && i < count; i++) {
        for (int q = 0; q < QUANTITIES; q++) {
            free(s[i].of[q].x);
            free(s[i].of[q].y);
        }
    }
    free(s);
}

/* Loss starts at 0; top-1 spans the multiples of 10 around its values. */
static void value_range(
    const struct series *s, size_t count, enum quantity q, double *low, double *high)
{
    double min = INFINITY, max = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct points *p = &s[i].of[q];
        for (size_t k = 0; k < p->count; k++) {
            if (isfinite(p->y[k])) {
                min = fmin(min, p->y[k]);
                max = fmax(max, p->y[k]);
            }
        }
    }
    if (q == LOSS) {
        *low = fmin(min < 0 ? 1.05 * min : 0, 0);
        *high = max > 0 ? 1.05 * max : 1;
    } else {
        *low = isfinite(min) ? fmax(10 * floor(min / 10), 0) : 0;
        *high = isfinite(max) ? fmin(10 * floor(max / 10) + 10, 100) : 100;
        if (*low >= *high)
            *low = *high - 10;
    }
}

static void draw_line(const struct points *p, bool marked)
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

static void draw_panel(const struct series *s, size_t count, enum quantity q, double height)
{
    static const char *const title[] = {"Training loss", "Evaluation top-1"};
    static const char *const axis[] = {"loss (nats per image)", "top-1 (%)"};
    double low, high, left = q == LOSS ? 0.075 : 0.575, last = 1;
    for (size_t i = 0; i < count; i++)
        last = fmax(last, s[i].epochs);
    value_range(s, count, q, &low, &high);
    plvpor(left, left + 0.405, 1 - (PANEL_HEIGHT - 62) / height, 1 - 36 / height);
    plwind(0, 1.03 * last, low, high);
    double tick = last <= 10 ? 1 : 0;
    plcol0(GRID);
    plwidth(0.5);
    plbox("g", tick, 0, "g", 0, 0);
    plcol0(INK);
    plbox("bcnst", tick, tick > 0 ? 1 : 0, "bcnstv", 0, 0);
    plmtex("b", 3.0, 0.5, 0.5, "epoch");
    plmtex("l", 4.2, 0.5, 0.5, axis[q]);
    plmtex("t", 1.2, 0.5, 0.5, title[q]);
    plwidth(1.8);
    for (size_t i = 0; i < count; i++) {
        use_color(i);
        draw_line(&s[i].of[q], last <= MAX_MARKED);
    }
    pllsty(1);
}

/* "runs/a: epoch 30, loss 0.1344, top-1 92.20 %", each as last measured. */
static void describe(const struct series *s, char *text, size_t room)
{
    const struct points *loss = &s->of[LOSS], *top1 = &s->of[TOP1];
    size_t n = (size_t)snprintf(text, room, "%s: ", s->label);
    if (loss->count == 0) {
        snprintf(text + n, room - n, "no epoch yet");
        return;
    }
    n += (size_t)snprintf(text + n, room - n, "epoch %.0f, loss ", s->epochs);
    n += (size_t)snprintf(text + n, room - n, "%.4g", loss->y[loss->count - 1]);
    if (top1->count > 0)
        snprintf(text + n, room - n, ", top-1 %.2f %%", top1->y[top1->count - 1]);
}

/* One row per run below the panels: line, name, and where it stands. */
static void draw_legend(const struct series *s, size_t count, double height)
{
    plvpor(0, 1, 0, 1);
    plwind(0, WIDTH, 0, height);
    for (size_t i = 0; i < count; i++) {
        double y = height - PANEL_HEIGHT - ROW_HEIGHT * ((double)i + 0.5);
        char text[LABEL + 120];
        describe(&s[i], text, sizeof text);
        plwidth(1.8);
        use_color(i);
        pljoin(72, y, 112, y);
        pllsty(1);
        plcol0(INK);
        plptex(122, y, 1, 0, 0, text);
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

static void draw_page(const struct series *s, size_t count, FILE *page)
{
    PLINT before, own;
    double height = PANEL_HEIGHT + ROW_HEIGHT * (double)count + 12;
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
    draw_panel(s, count, LOSS, height);
    draw_panel(s, count, TOP1, height);
    draw_legend(s, count, height);
    plend1();
    plsstrm(before);
}

/* Draws with PLplot's ways out barred, and closes `page`. The lock is held. */
static enum oct_status draw(const struct series *s, size_t count, FILE *page)
{
    volatile bool handed_over = false; /* PLplot closes the page then */
    if (!plplot_unusable && setjmp(plplot_exit) == 0) {
        plsexit(give_up_exit);
        plsabort(give_up);
        need_svg_driver();
        handed_over = true;
        draw_page(s, count, page);
    } else {
        plplot_unusable = true;
    }
    plsexit(NULL);
    plsabort(NULL);
    if (!handed_over)
        fclose(page);
    if (plplot_unusable)
        return oct_fail(OCT_UNSUPPORTED,
            "PLplot cannot draw a learning curve: %s; check its svg "
            "driver (package libplplot17, variable PLPLOT_DRV_DIR)",
            plplot_reason);
    return OCT_OK;
}

static enum oct_status render(const struct series *s, size_t count, char **svg, size_t *bytes)
{
    FILE *page = open_memstream(svg, bytes);
    if (!page)
        return oct_fail(OCT_NOMEM, "no memory for a learning curve");
    pthread_mutex_lock(&plplot_lock);
    enum oct_status status = draw(s, count, page);
    pthread_mutex_unlock(&plplot_lock);
    return status;
}

enum oct_status oct_plot_curves(const char *const *run_dirs, size_t count, const char *path)
{
    enum oct_status status = OCT_OK;
    struct oct_atomic_file file = {.fd = -1};
    char *svg = NULL;
    size_t bytes = 0, epochs = 0;
    if (count < 1 || count > 100)
        return oct_fail(OCT_ARG, "a plot of %zu runs was asked for; 1 to 100 can be drawn", count);
    struct series *s = calloc(count, sizeof *s);
    if (!s)
        return oct_fail(OCT_NOMEM, "no memory for a learning curve");
    for (size_t i = 0; i < count; i++) {
        OCT_OUT(load_series(&s[i], run_dirs[i]));
        epochs += s[i].of[LOSS].count;
    }
    if (epochs == 0)
        OCT_OUT(oct_fail(OCT_ARG, "no epoch is logged in '%s'%s; there is nothing to draw yet",
            run_dirs[0], count > 1 ? " and the other folders" : ""));
    OCT_OUT(render(s, count, &svg, &bytes));
    OCT_OUT(oct_atomic_open(&file, path));
    OCT_OUT(oct_atomic_write(&file, svg, bytes));
    OCT_OUT(oct_atomic_commit(&file));
out:
    oct_atomic_abandon(&file);
    free(svg);
    free_series(s, count);
    return status;
}
