#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int oct_list_parse(const char *text, struct oct_list *out)
{
    struct oct_list list = {0};

    for (;;) {
        size_t length = strcspn(text, ",");

        if (length == 0 || length >= OCT_ITEM_MAX || list.count == OCT_LIST_MAX)
            return -1;
        memcpy(list.item[list.count], text, length);
        list.count++;
        if (text[length] == '\0')
            break;
        text += length + 1;
    }
    *out = list;
    return 0;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

int oct_list_has(const struct oct_list *list, const char *item)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->item[i], item) == 0)
            return 1;
    return 0;
}

size_t oct_text_distance(const char *a, const char *b)
{
    size_t rows[3][OCT_ITEM_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    size_t na = strlen(a), nb = strlen(b);

    if (na > OCT_ITEM_MAX || nb > OCT_ITEM_MAX)
        return OCT_ITEM_MAX;
    for (size_t j = 0; j <= nb; j++)
        above[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *recycled = before;

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t replace = above[j - 1] + (a[i - 1] != b[j - 1]);

            row[j] = least(replace, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = recycled;
    }
    return above[nb];
}

void oct_nearest_try(struct oct_nearest *nearest, const char *candidate)
{
    size_t asked = strlen(nearest->asked);
    size_t distance = oct_text_distance(nearest->asked, candidate);
    /* A third of the letters may be wrong; the beginning of a name is no slip. */
    size_t limit = asked < 3 ? 1 : asked / 3 < 2 ? 2 : asked / 3;

    if (asked >= 3 && strncmp(nearest->asked, candidate, asked) == 0)
        distance = 0;
    if (distance > limit || distance >= strlen(candidate))
        return;
    if (nearest->best == NULL || distance < nearest->distance) {
        nearest->best = candidate;
        nearest->distance = distance;
    }
}

int oct_text_integer(const char *text, long long *out)
{
    char *end;
    long long value;

    if (!isdigit((unsigned char)text[text[0] == '-' || text[0] == '+']))
        return -1;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (*end != '\0' || errno != 0)
        return -1;
    *out = value;
    return 0;
}

int oct_text_unsigned(const char *text, unsigned long long *out)
{
    char *end;
    unsigned long long value;

    if (!isdigit((unsigned char)text[0]))
        return -1;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0)
        return -1;
    *out = value;
    return 0;
}

int oct_text_real(const char *text, double *out)
{
    char *end;
    double value;

    if (text[0] == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0')
        return -1;
    errno = 0;
    value = strtod(text, &end);
    /* ERANGE of a value too small is harmless: it reads as 0 or a subnormal. */
    if (end == text || *end != '\0' || !isfinite(value))
        return -1;
    *out = value;
    return 0;
}

void oct_text_from_real(double value, char *out, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

void oct_text_duration(double seconds, char *out, size_t size)
{
    long long total = seconds > 0 && seconds < 1e12 ? (long long)(seconds + 0.5) : 0;
    long long hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;

    if (hours > 0)
        snprintf(out, size, "%lld:%02lld:%02lld", hours, minutes, rest);
    else
        snprintf(out, size, "%lld:%02lld", minutes, rest);
}

void oct_text_bytes(double bytes, char *out, size_t size)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;

    while (bytes >= 1024 && i + 1 < sizeof unit / sizeof *unit) {
        bytes /= 1024;
        i++;
    }
    snprintf(out, size, i == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[i]);
}
