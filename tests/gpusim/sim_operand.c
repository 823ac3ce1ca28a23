/* PTX text: operands and spellings. */
#include "sim_operand.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum gpusim_special slot;
} specials[] = {{"%tid.x", SPECIAL_TID_X}, {"%tid.y", SPECIAL_TID_Y}, {"%tid.z", SPECIAL_TID_Z},
    {"%ntid.x", SPECIAL_NTID_X}, {"%ntid.y", SPECIAL_NTID_Y}, {"%ntid.z", SPECIAL_NTID_Z},
    {"%ctaid.x", SPECIAL_CTAID_X}, {"%ctaid.y", SPECIAL_CTAID_Y}, {"%ctaid.z", SPECIAL_CTAID_Z},
    {"%nctaid.x", SPECIAL_NCTAID_X}, {"%nctaid.y", SPECIAL_NCTAID_Y},
    {"%nctaid.z", SPECIAL_NCTAID_Z}, {"%laneid", SPECIAL_LANEID}, {"%warpid", SPECIAL_WARPID},
    {"%nwarpid", SPECIAL_NWARPID}, {"%lanemask_eq", SPECIAL_MASK_EQ},
    {"%lanemask_lt", SPECIAL_MASK_LT}, {"%lanemask_le", SPECIAL_MASK_LE},
    {"%lanemask_gt", SPECIAL_MASK_GT}, {"%lanemask_ge", SPECIAL_MASK_GE},
    {"%dynamic_smem_size", SPECIAL_DYNAMIC_SIZE}, {"%total_smem_size", SPECIAL_TOTAL_SIZE}};

/* ---- operands ---- */

bool gpusim_find_register(
    struct gpusim_parser *s, struct gpusim_word name, uint32_t *slot, char *width)
{
    int digits = name.length;
    while (digits > 0 && isdigit((unsigned char)name.at[digits - 1]))
        digits--;
    for (int i = s->registers.count - 1; i >= 0; i--) {
        const struct gpusim_registers *r = &s->registers.item[i];
        long number = 0;
        if (r->count < 0) {
            if (!gpusim_same_word(r->prefix, name))
                continue;
        } else {
            if (r->prefix.length != digits || digits == name.length ||
                memcmp(r->prefix.at, name.at, (size_t)digits) != 0)
                continue;
            number = strtol(name.at + digits, NULL, 10);
            if (number >= r->count)
                continue;
        }
        *width = r->width;
        *slot = r->first + (uint32_t)number * (r->width == 'd' ? GPUSIM_SLOT64 : GPUSIM_SLOT);
        return true;
    }
    return false;
}

static void symbol_address(
    struct gpusim_parser *s, struct gpusim_operand *o, struct gpusim_word name)
{
    o->symbol = gpusim_find_symbol(s, name);
    if (!o->symbol)
        gpusim_parse_fail(s, "unknown name %.*s", name.length, name.at);
    o->value = o->symbol->address;
}

static void vector_operand(struct gpusim_parser *s, struct gpusim_operand *o)
{
    o->form = FORM_VECTOR;
    do {
        struct gpusim_word name = gpusim_name(s);
        uint32_t slot = SPECIAL_TRASH * GPUSIM_SLOT;
        char width = 0;
        if (o->count == MAX_VECTOR)
            gpusim_parse_fail(s, "a vector of more than %d", MAX_VECTOR);
        if (!gpusim_word_is(name, "_")) {
            if (name.length && (isdigit((unsigned char)*name.at))) {
                s->p = name.at;
                slot = gpusim_constant(s, gpusim_number(s), false);
                width = 'w';
            } else if (!gpusim_find_register(s, name, &slot, &width)) {
                gpusim_parse_fail(s, "unknown register %.*s", name.length, name.at);
            }
        }
        if (width && o->element_width && width != o->element_width)
            gpusim_parse_fail(s, "a vector of registers of two widths");
        if (width)
            o->element_width = width;
        o->element[o->count++] = slot;
    } while (gpusim_accept(s, ','));
    gpusim_expect(s, '}');
}

static void memory_operand(struct gpusim_parser *s, struct gpusim_operand *o)
{
    o->form = FORM_MEMORY;
    gpusim_skip_blanks(s);
    if (isdigit((unsigned char)*s->p)) {
        o->value = gpusim_number(s);
    } else {
        struct gpusim_word name = gpusim_name(s);
        if (!gpusim_find_register(s, name, &o->slot, &o->width)) {
            symbol_address(s, o, name);
            if (o->symbol->dynamic) {
                o->slot = SPECIAL_DYNAMIC_BASE * GPUSIM_SLOT;
                o->width = 'w';
            }
        }
    }
    if (gpusim_accept(s, '+'))
        o->value += gpusim_number(s);
    else if (*s->p == '-')
        o->value += gpusim_number(s);
    gpusim_expect(s, ']');
}

void gpusim_parse_operand(struct gpusim_parser *s, struct gpusim_operand *o)
{
    gpusim_skip_blanks(s);
    if (gpusim_accept(s, '{')) {
        vector_operand(s, o);
        return;
    }
    if (gpusim_accept(s, '[')) {
        memory_operand(s, o);
        return;
    }
    if (gpusim_accept(s, '!'))
        o->negated = true;
    if (*s->p == '-' || isdigit((unsigned char)*s->p)) {
        o->form = FORM_IMMEDIATE;
        o->value = gpusim_number(s);
        return;
    }
    struct gpusim_word name = gpusim_name(s);
    if (gpusim_word_is(name, "_")) {
        o->trash = true;
        o->slot = SPECIAL_TRASH * GPUSIM_SLOT;
    } else if (gpusim_find_register(s, name, &o->slot, &o->width)) {
        o->form = FORM_REGISTER;
    } else if (gpusim_word_is(name, "WARP_SZ")) {
        o->form = FORM_IMMEDIATE;
        o->value = GPUSIM_LANES;
    } else {
        for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
            if (gpusim_word_is(name, specials[i].name)) {
                o->slot = (uint32_t)specials[i].slot * GPUSIM_SLOT;
                o->width = 'w';
                return;
            }
        if (name.length && *name.at == '%')
            gpusim_parse_fail(s, "gpusim has no register %.*s", name.length, name.at);
        o->form = FORM_SYMBOL;
        symbol_address(s, o, name);
        if (gpusim_accept(s, '+'))
            o->value += gpusim_number(s);
    }
    if (gpusim_accept(s, '|')) {
        name = gpusim_name(s);
        char width = 'p';
        if (gpusim_word_is(name, "_"))
            o->second = SPECIAL_TRASH * GPUSIM_SLOT;
        else if (!gpusim_find_register(s, name, &o->second, &width) || width != 'p')
            gpusim_parse_fail(s, "%.*s is no predicate", name.length, name.at);
    }
}

void gpusim_all_operands(struct gpusim_parser *s, struct gpusim_operands *all)
{
    gpusim_skip_blanks(s);
    if (*s->p != ';')
        do {
            if (all->count == (int)(sizeof all->item / sizeof *all->item))
                gpusim_parse_fail(s, "too many operands");
            gpusim_parse_operand(s, &all->item[all->count++]);
        } while (gpusim_accept(s, ','));
    gpusim_expect(s, ';');
}

const struct gpusim_operand *gpusim_operand_nth(
    struct gpusim_parser *s, const struct gpusim_operands *all, int n)
{
    if (n >= all->count)
        gpusim_parse_fail(s, "operand %d is missing", n + 1);
    return &all->item[n];
}

uint32_t gpusim_operand_source(struct gpusim_parser *s, const struct gpusim_operand *o, char width)
{
    switch (o->form) {
    case FORM_REGISTER:
        if (o->trash || o->width != width)
            gpusim_parse_fail(s, "a source register has the wrong width");
        return o->slot;
    case FORM_IMMEDIATE:
        if (width == 'p')
            return gpusim_constant(s, o->value ? UINT32_MAX : 0, false);
        return gpusim_constant(s, o->value, width == 'd');
    case FORM_SYMBOL:
        if (!o->symbol->dynamic)
            return gpusim_constant(s, o->value, width == 'd');
        if (o->value)
            gpusim_parse_fail(s, "an offset to the dynamic shared array");
        return (width == 'd' ? SPECIAL_DYNAMIC_BASE64 : SPECIAL_DYNAMIC_BASE) * GPUSIM_SLOT;
    default:
        gpusim_parse_fail(s, "a vector or address where a register is expected");
    }
}

uint32_t gpusim_operand_destination(
    struct gpusim_parser *s, const struct gpusim_operand *o, char width)
{
    if (o->trash)
        return SPECIAL_TRASH * GPUSIM_SLOT;
    if (o->form != FORM_REGISTER || o->width != width)
        gpusim_parse_fail(s, "the destination register has the wrong width");
    return o->slot;
}

/* ---- spelling ---- */

void gpusim_read_spelling(struct gpusim_parser *s, struct gpusim_spelling *sp)
{
    gpusim_skip_blanks(s);
    const char *from = s->p;
    while (isalnum((unsigned char)*s->p) || (*s->p && strchr("_.:", *s->p)))
        s->p++;
    const int length = (int)(s->p - from);
    if (length == 0 || length >= (int)sizeof sp->whole)
        gpusim_parse_fail(s, "expected an instruction before \"%.20s\"", from);
    memcpy(sp->whole, from, (size_t)length);
    sp->whole[length] = 0;
    for (const char *p = sp->whole; p;) {
        const char *dot = strchr(p, '.');
        const int n = dot ? (int)(dot - p) : (int)strlen(p);
        if (sp->count == MAX_PARTS || n >= PART_BYTES)
            gpusim_parse_fail(s, "unknown instruction %s", sp->whole);
        memcpy(sp->part[sp->count], p, (size_t)n);
        sp->part[sp->count++][n] = 0;
        p = dot ? dot + 1 : NULL;
    }
    sp->used[0] = true;
}

bool gpusim_take(struct gpusim_spelling *sp, const char *part)
{
    for (int i = 1; i < sp->count; i++)
        if (!sp->used[i] && strcmp(sp->part[i], part) == 0)
            return sp->used[i] = true;
    return false;
}

int gpusim_take_one(struct gpusim_spelling *sp, const char *const *parts)
{
    for (int i = 0; parts[i]; i++)
        if (gpusim_take(sp, parts[i]))
            return i;
    return -1;
}

void gpusim_all_taken(struct gpusim_parser *s, const struct gpusim_spelling *sp)
{
    for (int i = 0; i < sp->count; i++)
        if (!sp->used[i])
            gpusim_parse_fail(s, "gpusim does not know .%s of %s", sp->part[i], sp->whole);
}

enum gpusim_space gpusim_take_space(struct gpusim_spelling *sp)
{
    static const char *const names[] = {
        "global", "shared", "shared::cta", "local", "param", "param::entry", "const", NULL};
    static const enum gpusim_space spaces[] = {SPACE_GLOBAL, SPACE_SHARED, SPACE_SHARED,
        SPACE_LOCAL, SPACE_PARAM, SPACE_PARAM, SPACE_CONST};
    const int at = gpusim_take_one(sp, names);
    return at < 0 ? SPACE_GENERIC : spaces[at];
}

void gpusim_take_type(struct gpusim_parser *s, struct gpusim_spelling *sp, struct gpusim_inst *inst)
{
    static const char *const names[] = {"u8", "s8", "b8", "u16", "s16", "b16", "f16", "u32", "s32",
        "b32", "f32", "u64", "s64", "b64", "f64", NULL};
    static const uint8_t bytes[] = {1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8};
    const int at = gpusim_take_one(sp, names);
    if (at < 0)
        gpusim_parse_fail(s, "%s has no type", sp->whole);
    inst->size = bytes[at];
    const bool sign = names[at][0] == 's';
    inst->type = (uint8_t)(2 * __builtin_ctz(bytes[at]) + sign);
}

void gpusim_take_caching(struct gpusim_spelling *sp)
{
    static const char *const hints[] = {"volatile", "relaxed", "weak", "gpu", "sys", "cta", "ca",
        "cg", "cs", "lu", "cv", "wb", "wt", "nc", "L1::evict_normal", "L1::evict_first",
        "L1::evict_last", "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B", NULL};
    while (gpusim_take_one(sp, hints) >= 0)
        ;
}
