#include "table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void oct_table_init(struct oct_table *table, const struct oct_column *columns, size_t count)
{
    memset(table, 0, sizeof *table);
    table->columns = columns;
    table->column_count = count;
}

void oct_table_free(struct oct_table *table)
{
    free(table->cells);
    table->cells = NULL;
}

int oct_table_row(struct oct_table *table)
{
    if (table->row_count == table->row_capacity) {
        size_t capacity = table->row_capacity * 2 + 16;
        void *cells = realloc(table->cells, capacity * sizeof *table->cells);

        if (cells == NULL)
            return -1;
        table->cells = cells;
        table->row_capacity = capacity;
    }
    memset(table->cells[table->row_count], 0, sizeof *table->cells);
    table->row_count++;
    table->next = 0;
    return 0;
}

void oct_table_cell(struct oct_table *table, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(table->cells[table->row_count - 1][table->next], OCT_CELL_MAX, format, args);
    va_end(args);
    table->next++;
}

void oct_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

static size_t column_width(const struct oct_table *table, size_t column)
{
    size_t width = strlen(table->columns[column].title);

    if (width < 3)
        width = 3;
    for (size_t row = 0; row < table->row_count; row++) {
        size_t length = strlen(table->cells[row][column]);

        if (length > width)
            width = length;
    }
    return width;
}

static void print_markdown(const struct oct_table *table, FILE *out)
{
    for (size_t c = 0; c < table->column_count; c++)
        fprintf(out, "| %*s ", (table->columns[c].is_number ? 1 : -1) * (int)column_width(table, c),
            table->columns[c].title);
    fputs("|\n", out);
    for (size_t c = 0; c < table->column_count; c++) {
        fputs("| ", out);
        for (size_t i = 1; i < column_width(table, c); i++)
            fputc('-', out);
        fputs(table->columns[c].is_number ? ": " : "- ", out);
    }
    fputs("|\n", out);
    for (size_t row = 0; row < table->row_count; row++) {
        for (size_t c = 0; c < table->column_count; c++)
            fprintf(out, "| %*s ",
                (table->columns[c].is_number ? 1 : -1) * (int)column_width(table, c),
                table->cells[row][c]);
        fputs("|\n", out);
    }
}

static void print_csv_cell(FILE *out, const char *text)
{
    if (strpbrk(text, ",\"\n") == NULL) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_csv(const struct oct_table *table, FILE *out)
{
    for (size_t c = 0; c < table->column_count; c++)
        fprintf(out, "%s%s", c > 0 ? "," : "", table->columns[c].key);
    fputc('\n', out);
    for (size_t row = 0; row < table->row_count; row++) {
        for (size_t c = 0; c < table->column_count; c++) {
            if (c > 0)
                fputc(',', out);
            print_csv_cell(out, table->cells[row][c]);
        }
        fputc('\n', out);
    }
}

/* JSON has no word for an empty cell, NaN or infinity. */
static int is_json_number(const char *cell)
{
    return cell[0] != '\0' && cell[strspn(cell, "+-.0123456789eE")] == '\0';
}

static void print_json_row(const struct oct_table *table, size_t row, FILE *out)
{
    fputc('{', out);
    for (size_t c = 0; c < table->column_count; c++) {
        const char *cell = table->cells[row][c];

        if (c > 0)
            fputs(", ", out);
        oct_json_string(out, table->columns[c].key);
        fputs(": ", out);
        if (table->columns[c].is_number)
            fputs(is_json_number(cell) ? cell : "null", out);
        else
            oct_json_string(out, cell);
    }
    fputc('}', out);
}

void oct_table_print(const struct oct_table *table, const char *format, FILE *out)
{
    int lines = strcmp(format, "jsonl") == 0;

    if (strcmp(format, "md") == 0) {
        print_markdown(table, out);
        return;
    }
    if (strcmp(format, "csv") == 0) {
        print_csv(table, out);
        return;
    }
    if (!lines)
        fputs("[\n", out);
    for (size_t row = 0; row < table->row_count; row++) {
        print_json_row(table, row, out);
        fputs(!lines && row + 1 < table->row_count ? ",\n" : "\n", out);
    }
    if (!lines)
        fputs("]\n", out);
}
