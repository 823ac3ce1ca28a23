/* A table of texts that prints itself as Markdown, CSV, JSON (an array) or JSON lines. */
#ifndef OCT_CLI_TABLE_H
#define OCT_CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#define OCT_COLUMNS_MAX 20
#define OCT_CELL_MAX 160

struct oct_column {
    const char *title; /* of Markdown */
    const char *key;   /* of CSV and JSON */
    int is_number;     /* right-aligned; unquoted in JSON; an empty cell is null there */
};

struct oct_table {
    const struct oct_column *columns; /* borrowed */
    size_t column_count;
    char (*cells)[OCT_COLUMNS_MAX][OCT_CELL_MAX];
    size_t row_count, row_capacity;
    size_t next; /* column of the last row that the next cell fills */
};

void oct_table_init(struct oct_table *table, const struct oct_column *columns, size_t count);
void oct_table_free(struct oct_table *table);

/* Appends an empty row; returns 0, or -1 if memory ran out. */
int oct_table_row(struct oct_table *table);

/* Fills the next cell of the last row. */
void oct_table_cell(struct oct_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* format: "md", "csv", "json" or "jsonl". */
void oct_table_print(const struct oct_table *table, const char *format, FILE *out);

/* The text as a JSON string with its quotes. */
void oct_json_string(FILE *out, const char *text);

#endif
