/* Small things about words: nearest name, comma lists, numbers and durations as people read them.
 */
#ifndef OCT_CLI_TEXT_H
#define OCT_CLI_TEXT_H

#include <stddef.h>

#define OCT_LIST_MAX 16
#define OCT_ITEM_MAX 64

/* A comma list of a command line, e.g. fp32,bf16,int8. */
struct oct_list {
    size_t count;
    char item[OCT_LIST_MAX][OCT_ITEM_MAX];
};

/* Splits text at commas. Returns 0, or -1 if an item is empty or too long or there are too many. */
int oct_list_parse(const char *text, struct oct_list *out);

/* 1 if `item` is in the list. */
int oct_list_has(const struct oct_list *list, const char *item);

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b; names up to 63 bytes. */
size_t oct_text_distance(const char *a, const char *b);

/* Keeps in *best the candidate nearest to `asked`; candidates too far to be a slip are ignored.
 * Start with *best NULL. */
struct oct_nearest {
    const char *asked;
    const char *best;
    size_t distance;
};
void oct_nearest_try(struct oct_nearest *nearest, const char *candidate);

/* Strict numbers: the whole text, no blanks. Return 0, or -1. */
int oct_text_integer(const char *text, long long *out);
int oct_text_unsigned(const char *text, unsigned long long *out);
int oct_text_real(const char *text, double *out);

/* The shortest decimal text that reads back as exactly `value`. */
void oct_text_from_real(double value, char *out, size_t size);

/* Seconds as 0:12 or 1:02:03. */
void oct_text_duration(double seconds, char *out, size_t size);

/* Bytes as 12.3 MiB. */
void oct_text_bytes(double bytes, char *out, size_t size);

#endif
