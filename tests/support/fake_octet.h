/* What the stand-in of the library records and how it behaves; linked into test_cli only. */
#ifndef FAKE_OCTET_H
#define FAKE_OCTET_H

#include <octet.h>

#define FAKE_TRAINERS 8

struct fake_octet {
    /* behaviour */
    double int8_top1;            /* final accuracy of int8 runs; others end at 90 */
    enum oct_status open_status; /* what oct_trainer_open returns */
    int raise_signal;            /* raised in the middle of oct_trainer_run */
    const char *setting[8][2];   /* what checkpoints say of their runs: key, value; NULL: the end */
    int slow_probes;             /* so many probes find the product unit slow, later ones do not */
    double data_share;           /* share of the step time spent waiting for images */

    /* record */
    struct oct_options opened[FAKE_TRAINERS]; /* options of every opened trainer, in order */
    char strings[FAKE_TRAINERS][512];         /* "precision|scheme|model|data|output_dir|..." */
    int open_count, close_count, run_count, eval_count, stop_count;
    char steps[256];   /* one letter per oct_trainer_step: trainer 0 is 'a' */
    char plotted[512]; /* folders and path given to oct_plot_curves */
};

extern struct fake_octet fake;

#endif
