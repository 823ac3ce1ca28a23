#include "support/followed.h"

#include "support/folder.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void kept_params_take(struct kept_params *kept, const struct oct_graph *g)
{
    cr_assert_leq(g->param_count, FOLLOWED_PARAMS);
    for (int i = 0; i < g->param_count; i++) {
        size_t bytes = 4 * (size_t)g->params[i].count;
        kept->w[i] = realloc(kept->w[i], bytes);
        kept->momentum[i] = realloc(kept->momentum[i], bytes);
        cr_assert(kept->w[i] && kept->momentum[i]);
        memcpy(kept->w[i], g->params[i].value->data, bytes);
        memcpy(kept->momentum[i], g->params[i].momentum->data, bytes);
    }
}

void kept_params_expect(const struct kept_params *kept, const struct oct_graph *g, int index)
{
    const struct oct_param *p = &g->params[index];
    size_t bytes = 4 * (size_t)p->count;
    cr_assert(memcmp(kept->w[index], p->value->data, bytes) == 0, "%s: update", p->name);
    cr_assert(
        memcmp(kept->momentum[index], p->momentum->data, bytes) == 0, "%s: momentum", p->name);
}

void follow_over_checkpoint(const struct followed_run *run, const struct oct_options *o)
{
    char *folder = folder_make();
    const char *path = folder_path(folder, "a.safetensors");
    double whole[20], parts[20];

    run->open(o);
    run->advance(20, whole);
    oct_trainer_close(*run->trainer);
    run->forget();
    run->open(o);
    run->advance(10, parts);
    cr_assert_eq(oct_trainer_save(*run->trainer, path), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(*run->trainer);
    run->open(o);
    cr_assert_eq(oct_trainer_load(*run->trainer, path), OCT_OK, "%s", oct_last_error());
    run->advance(10, parts + 10);
    cr_assert_arr_eq(parts, whole, sizeof whole);
    oct_trainer_close(*run->trainer);
    folder_remove(folder);
}
