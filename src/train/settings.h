/* The options of a run as the trainer keeps them: own copies of all strings, checked, and one table
 * that names every field, from which args.yaml, the configuration hash and the comparison with a
 * checkpoint are made. */
#ifndef OCT_SETTINGS_H
#define OCT_SETTINGS_H

#include "base/status.h"

#include <stdbool.h>

enum oct_setting_kind {
    OCT_SETTING_TEXT,
    OCT_SETTING_INT,
    OCT_SETTING_INT64,
    OCT_SETTING_UINT64,
    OCT_SETTING_DOUBLE
};

struct oct_setting {
    const char *key;
    enum oct_setting_kind kind;
    size_t offset;     /* in struct oct_options */
    bool decides_bits; /* a run with another value computes other losses */
};

const struct oct_setting *oct_setting_at(size_t index); /* NULL at the end */

/* Prints a field's value as text (doubles with 17 significant digits; NULL as ""). */
void oct_setting_print(
    const struct oct_setting *setting, const struct oct_options *options, char *out, size_t size);

/* Deep copy with every value checked; refuses the first one that makes no sense. */
enum oct_status oct_settings_copy(const struct oct_options *from, struct oct_options *out);
void oct_settings_free(struct oct_options *options);

/* XXH3-64 over all settings that decide bits. */
uint64_t oct_settings_hash(const struct oct_options *options);

#endif
