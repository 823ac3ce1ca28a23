/* Pieces of an instruction: the parts of its spelling and its operands. */
#ifndef GPUSIM_SIM_OPERAND_H
#define GPUSIM_SIM_OPERAND_H

#include "sim_parse.h"

enum { MAX_PARTS = 16, PART_BYTES = 24, MAX_VECTOR = 8 };

/* "ld.global.nc.v4.f32" in its parts. */
struct gpusim_spelling {
    char part[MAX_PARTS][PART_BYTES];
    bool used[MAX_PARTS];
    int count;
    char whole[160];
};

enum gpusim_operand_form { FORM_REGISTER, FORM_IMMEDIATE, FORM_SYMBOL, FORM_VECTOR, FORM_MEMORY };

struct gpusim_operand {
    enum gpusim_operand_form form;
    char width;      /* register: p, w or d */
    bool negated;    /* !%p */
    bool trash;      /* _ */
    uint32_t slot;   /* register, or base of an address (0: none) */
    uint32_t second; /* the q of p|q, or 0 */
    uint64_t value;  /* immediate, or offset of an address */
    const struct gpusim_symbol *symbol;
    int count; /* vector */
    uint32_t element[MAX_VECTOR];
    char element_width;
};

struct gpusim_operands {
    struct gpusim_operand item[6];
    int count;
};

bool gpusim_find_register(
    struct gpusim_parser *, struct gpusim_word name, uint32_t *slot, char *width);
void gpusim_parse_operand(struct gpusim_parser *, struct gpusim_operand *);
/* Up to the semicolon. */
void gpusim_all_operands(struct gpusim_parser *, struct gpusim_operands *);
const struct gpusim_operand *gpusim_operand_nth(
    struct gpusim_parser *, const struct gpusim_operands *, int n);
/* Slot of a source of the given width; immediates and addresses become constants. */
uint32_t gpusim_operand_source(struct gpusim_parser *, const struct gpusim_operand *, char width);
uint32_t gpusim_operand_destination(
    struct gpusim_parser *, const struct gpusim_operand *, char width);

void gpusim_read_spelling(struct gpusim_parser *, struct gpusim_spelling *);
/* Takes a modifier away; true if it was there. */
bool gpusim_take(struct gpusim_spelling *, const char *part);
/* Takes the first of a NULL-ended list that is there; its index, or -1. */
int gpusim_take_one(struct gpusim_spelling *, const char *const *parts);
/* Fails if a modifier is left that nobody took. */
void gpusim_all_taken(struct gpusim_parser *, const struct gpusim_spelling *);
enum gpusim_space gpusim_take_space(struct gpusim_spelling *);
/* Element type of a memory instruction: bytes, and whether loads extend a sign. */
void gpusim_take_type(struct gpusim_parser *, struct gpusim_spelling *, struct gpusim_inst *);
/* Modifiers of caching and memory order, which change nothing here. */
void gpusim_take_caching(struct gpusim_spelling *);

#endif
