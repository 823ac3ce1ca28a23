/* State of the PTX parser, shared by its two halves: declarations (sim_parse.c) and instructions
 * (sim_decode.c). */
#ifndef GPUSIM_SIM_PARSE_H
#define GPUSIM_SIM_PARSE_H

#include "sim_core.h"

struct gpusim_word { /* a piece of the text */
    const char *at;
    int length;
};

struct gpusim_registers { /* .reg .b32 %r<9>; or .reg .b32 name; (count -1) */
    struct gpusim_word prefix;
    int count;
    char width; /* p, w or d, as in the operand strings */
    uint32_t first;
};

struct gpusim_symbol {
    struct gpusim_word name;
    enum gpusim_space space;
    uint64_t address; /* or offset inside its space */
    uint64_t size;
    bool dynamic; /* the unsized shared array */
};

struct gpusim_label {
    struct gpusim_word name;
    int index; /* instruction, or position of a branch table */
    bool table;
};

struct gpusim_fix { /* a label used before it was met */
    struct gpusim_word name;
    int instruction, table_word; /* one of them is -1 */
    int line;
};

#define GPUSIM_LIST(type)                                                                          \
    struct {                                                                                       \
        type *item;                                                                                \
        int count, capacity;                                                                       \
    }

struct gpusim_entry {
    struct gpusim_word name;
    const char *at; /* behind the name */
    int line;
};

struct gpusim_module {
    char *text;
    size_t length;
    GPUSIM_LIST(struct gpusim_entry) entries;
    GPUSIM_LIST(struct gpusim_symbol) symbols;
    uint32_t shared_bytes; /* of module-level shared arrays */
    uint32_t dynamic_align;
};

struct gpusim_parser {
    const char *p, *end;
    int line;
    struct gpusim_module *module;
    struct gpusim_kernel *kernel;                   /* NULL at module level */
    GPUSIM_LIST(struct gpusim_registers) registers; /* in scope */
    GPUSIM_LIST(struct gpusim_registers) wide;      /* all of 64 bits */
    GPUSIM_LIST(struct gpusim_symbol) symbols;      /* of the entry */
    GPUSIM_LIST(struct gpusim_label) labels;
    GPUSIM_LIST(struct gpusim_fix) fixes;
    uint32_t next_slot;
    char *error;
    size_t error_capacity;
    jmp_buf fail;
};

void *gpusim_list_grow(void *items, int *capacity, size_t size);
/* Appends a zeroed item and gives its address. */
#define GPUSIM_APPEND(list)                                                                        \
    ((list).count == (list).capacity ? (void)((list).item = gpusim_list_grow((list).item,          \
                                                  &(list).capacity, sizeof *(list).item))          \
                                     : (void)0,                                                    \
        memset(&(list).item[(list).count], 0, sizeof *(list).item), &(list).item[(list).count++])

void gpusim_parse_fail(struct gpusim_parser *, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
void gpusim_skip_blanks(struct gpusim_parser *);
bool gpusim_accept(struct gpusim_parser *, char);
void gpusim_expect(struct gpusim_parser *, char);
struct gpusim_word gpusim_name(struct gpusim_parser *); /* letters, digits and _ $ % . */
uint64_t gpusim_number(struct gpusim_parser *);
bool gpusim_word_is(struct gpusim_word, const char *);
bool gpusim_same_word(struct gpusim_word, struct gpusim_word);
const struct gpusim_symbol *gpusim_find_symbol(struct gpusim_parser *, struct gpusim_word);
uint32_t gpusim_constant(struct gpusim_parser *, uint64_t value, bool wide);
/* One word of a declaration: ".visible", ".align", ".b32"... Stops before the next dot. */
struct gpusim_word gpusim_directive(struct gpusim_parser *);
/* .shared, .local, .global or .const with the word already read. */
void gpusim_variables(struct gpusim_parser *, enum gpusim_space space, bool is_extern);
void gpusim_skip_line(struct gpusim_parser *);
void gpusim_parser_free(struct gpusim_parser *);
/* Parses one instruction, the guard included, up to its semicolon. */
void gpusim_parse_instruction(struct gpusim_parser *);

#endif
