#include "support/runs.h"

#include "schemes/scheme.h"
#include "support/folder.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

oct_trainer *run_open(const struct oct_options *options)
{
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(options, &t), OCT_OK, "%s: %s", options->model, oct_last_error());
    return t;
}

bool run_takes_any_model(const char *scheme)
{
    return !oct_scheme_find(scheme)->instead_of_norm;
}

const char *run_model_of(const char *scheme)
{
    if (!run_takes_any_model(scheme))
        return "fixup_resnet8";
    return strcmp(scheme, "wageubn") == 0 ? "preact_resnet8" : "resnet8";
}

struct oct_options run_options(const char *scheme)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 256;
    o.synthetic_size = 16;
    o.model = run_model_of(scheme);
    o.precision = "int8";
    o.scheme = scheme;
    o.batch_size = 16;
    o.epochs = 4;
    o.lr = 0.05;
    o.seed = 3;
    o.threads = 1;
    return o;
}

struct oct_options run_emulated_options(const char *scheme, const char *scheme_opt)
{
    struct oct_options o = run_options(scheme);
    o.scheme_opt = scheme_opt;
    o.simulate = 1;
    o.act_dtype = "f32";
    o.batch_size = 8;
    return o;
}

void run_steps(oct_trainer *t, int steps, double *loss)
{
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "step %d: %s", i, oct_last_error());
        cr_assert_not(r.flagged, "step %d was flagged", i);
        loss[i] = r.loss;
    }
}

/* Well-formed as far as a test without an XML parser can say; pictures are looked at by people.
 * PLplot writes every character of a text as a character reference, which also settles escaping. */
void expect_svg(const char *path, const char *fragment)
{
    char *svg = file_read(path, NULL), coded[1024] = "";
    for (size_t n = 0; *fragment; fragment++)
        n += (size_t)snprintf(coded + n, sizeof coded - n, "&#x%x;", (unsigned char)*fragment);
    cr_expect(strncmp(svg, "<?xml", 5) == 0 && strstr(svg, "</svg>"), "%s", path);
    cr_expect(strstr(svg, coded) != NULL, "no '%s' in %s", coded, path);
    cr_expect(!strstr(svg, "\"nan") && !strstr(svg, ",nan") && !strstr(svg, "inf,"), "%s", path);
    free(svg);
}
