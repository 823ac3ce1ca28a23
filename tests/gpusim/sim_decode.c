/* PTX text: one instruction into its decoded form. A spelling that is not known in every part is an
 * error: nothing is guessed and nothing skipped. */
#include "sim_operand.h"

#include <stdio.h>
#include <string.h>

static uint8_t class_of_space(enum gpusim_space space)
{
    static const uint8_t classes[] = {[SPACE_GENERIC] = GPUSIM_GLOBAL,
        [SPACE_GLOBAL] = GPUSIM_GLOBAL,
        [SPACE_SHARED] = GPUSIM_SHARED,
        [SPACE_LOCAL] = GPUSIM_LOCAL,
        [SPACE_PARAM] = GPUSIM_PARAM,
        [SPACE_CONST] = GPUSIM_PARAM};
    return classes[space];
}

static uint32_t address(struct gpusim_parser *s, const struct gpusim_operand *o,
    struct gpusim_inst *inst, int64_t *offset)
{
    if (o->form != FORM_MEMORY)
        gpusim_parse_fail(s, "an address is expected");
    *offset = (int64_t)o->value;
    if (o->width == 'd')
        inst->wide |= 1;
    return o->slot;
}

/* ---- one function per family; operands are laid out as the comment says ---- */

struct decoding {
    struct gpusim_parser *s;
    struct gpusim_spelling sp;
    struct gpusim_operands all;
    struct gpusim_inst *inst;
};

static void result(
    struct decoding *d, int reads, int writes, enum gpusim_kind kind, enum gpusim_class class)
{
    d->inst->reads = (uint8_t)reads;
    d->inst->writes = (uint8_t)writes;
    d->inst->kind = (uint8_t)kind;
    d->inst->class = (uint8_t) class;
    gpusim_all_taken(d->s, &d->sp);
}

/* load: data..., address. store: address, data... */
static void decode_load_store(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    const bool load = d->sp.part[0][0] == 'l';
    if (strstr(d->sp.whole, ".volatile") || strstr(d->sp.whole, ".relaxed"))
        inst->how = GPUSIM_ATOMIC_ACCESS;
    gpusim_take_caching(&d->sp);
    inst->space = (uint8_t)gpusim_take_space(&d->sp);
    static const char *const vectors[] = {"v2", "v4", NULL};
    const int vector = gpusim_take_one(&d->sp, vectors);
    inst->vec = vector < 0 ? 1 : vector == 0 ? 2 : 4;
    gpusim_take_type(s, &d->sp, inst);
    if (inst->vec * inst->size > 16)
        gpusim_parse_fail(s, "an access of more than 16 bytes");
    const struct gpusim_operand *data = gpusim_operand_nth(s, &d->all, load ? 0 : 1);
    const struct gpusim_operand *where = gpusim_operand_nth(s, &d->all, load ? 1 : 0);
    uint32_t *to = &inst->r[load ? 0 : 1];
    char width = inst->size == 8 ? 'd' : 'w';
    if (data->form == FORM_VECTOR) {
        if (data->count != inst->vec)
            gpusim_parse_fail(s, "the vector has the wrong length");
        if (data->element_width)
            width = data->element_width;
        memcpy(to, data->element, sizeof *to * inst->vec);
    } else {
        if (data->form == FORM_REGISTER && !data->trash)
            width = data->width;
        to[0] = load ? gpusim_operand_destination(s, data, width)
                     : gpusim_operand_source(s, data, width);
    }
    if (width == 'p' || (inst->size == 8 && width != 'd') || (load && inst->vec == 0))
        gpusim_parse_fail(s, "the registers do not fit the type");
    inst->wide = width == 'd' ? 2 : 0;
    inst->r[load ? inst->vec : 0] = address(s, where, inst, &inst->offset);
    if (!load && (inst->space == SPACE_PARAM || inst->space == SPACE_CONST))
        gpusim_parse_fail(s, "a store to read-only memory");
    result(d, load ? 1 : 1 + inst->vec, load ? inst->vec : 0, load ? KIND_LOAD : KIND_STORE,
        class_of_space(inst->space));
}

/* old value, address, operand, second operand of cas */
static void decode_atomic(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    static const char *const names[] = {
        "add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec", NULL};
    const bool red = strcmp(d->sp.part[0], "red") == 0;
    gpusim_take_caching(&d->sp);
    inst->space = (uint8_t)gpusim_take_space(&d->sp);
    const int at = gpusim_take_one(&d->sp, names);
    if (at < 0)
        gpusim_parse_fail(s, "unknown operation of %s", d->sp.whole);
    if (strstr(d->sp.whole, ".f"))
        gpusim_parse_fail(s, "a float atomic: its result depends on the order of threads");
    inst->mode = (uint8_t)at;
    gpusim_take_type(s, &d->sp, inst);
    if (inst->size < 4)
        gpusim_parse_fail(s, "an atomic of %d bytes", inst->size);
    const char width = inst->size == 8 ? 'd' : 'w';
    const int first = red ? 0 : 1;
    inst->vec = 1;
    inst->wide = width == 'd' ? 2 : 0;
    inst->r[0] = red ? SPECIAL_TRASH * GPUSIM_SLOT
                     : gpusim_operand_destination(s, gpusim_operand_nth(s, &d->all, 0), width);
    inst->r[1] = address(s, gpusim_operand_nth(s, &d->all, first), inst, &inst->offset);
    inst->r[2] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, first + 1), width);
    if (at == RMW_CAS)
        inst->r[3] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, first + 2), width);
    result(d, at == RMW_CAS ? 3 : 2, 1, KIND_ATOMIC, GPUSIM_ATOMIC);
}

static void decode_branch(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    const bool table = strcmp(d->sp.part[0], "brx") == 0;
    gpusim_take(&d->sp, "uni");
    if (table) {
        gpusim_take(&d->sp, "idx");
        struct gpusim_operand index = {0};
        gpusim_parse_operand(s, &index);
        d->inst->r[0] = gpusim_operand_source(s, &index, 'w');
        gpusim_expect(s, ',');
    }
    struct gpusim_fix *fix = GPUSIM_APPEND(s->fixes);
    fix->name = gpusim_name(s);
    fix->instruction = s->kernel->count - 1;
    fix->table_word = -1;
    fix->line = s->line;
    gpusim_expect(s, ';');
    result(d, table, 0, table ? KIND_BRANCH_TABLE : KIND_BRANCH, GPUSIM_CONTROL);
}

/* bar.sync: id, count (0: all). bar.red: result, id, count, predicate. */
static void decode_barrier(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    const uint32_t zero = gpusim_constant(s, 0, false);
    gpusim_take(&d->sp, "cta");
    const bool aligned = gpusim_take(&d->sp, "aligned") || strcmp(d->sp.part[0], "bar") == 0;
    if (gpusim_take(&d->sp, "warp")) {
        gpusim_take(&d->sp, "sync");
        inst->r[0] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 0), 'w');
        result(d, 1, 0, KIND_WARP_BARRIER, GPUSIM_BARRIER);
        return;
    }
    if (!aligned)
        gpusim_parse_fail(s, "a barrier that lanes of a warp may meet one by one");
    if (gpusim_take(&d->sp, "sync")) {
        inst->r[0] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 0), 'w');
        inst->r[1] = d->all.count > 1
                         ? gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 1), 'w')
                         : zero;
        result(d, 2, 0, KIND_BARRIER, GPUSIM_BARRIER);
        return;
    }
    static const char *const operations[] = {"popc", "and", "or", NULL};
    if (!gpusim_take(&d->sp, "red") ||
        (inst->mode = (uint8_t)gpusim_take_one(&d->sp, operations)) > 2)
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    const char width = inst->mode == 0 ? 'w' : 'p';
    gpusim_take(&d->sp, inst->mode == 0 ? "u32" : "pred");
    const struct gpusim_operand *last = gpusim_operand_nth(s, &d->all, d->all.count - 1);
    inst->r[0] = gpusim_operand_destination(s, gpusim_operand_nth(s, &d->all, 0), width);
    inst->r[1] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 1), 'w');
    inst->r[2] =
        d->all.count > 3 ? gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 2), 'w') : zero;
    inst->r[3] = gpusim_operand_source(s, last, 'p');
    inst->operand_not = last->negated;
    result(d, 3, 1, KIND_BARRIER_REDUCE, GPUSIM_BARRIER);
}

/* value, predicate, a, b, c, members */
static void decode_shuffle(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    static const char *const modes[] = {"idx", "up", "down", "bfly", NULL};
    const int mode = gpusim_take_one(&d->sp, modes);
    if (mode < 0 || !gpusim_take(&d->sp, "sync") || !gpusim_take(&d->sp, "b32"))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    inst->mode = (uint8_t)mode;
    const struct gpusim_operand *to = gpusim_operand_nth(s, &d->all, 0);
    inst->r[0] = gpusim_operand_destination(s, to, 'w');
    inst->r[1] = to->second ? to->second : SPECIAL_TRASH * GPUSIM_SLOT;
    for (int i = 1; i <= 4; i++)
        inst->r[i + 1] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, i), 'w');
    result(d, 4, 2, KIND_SHUFFLE, GPUSIM_WARP);
}

/* vote: result, predicate, members. match: result, predicate, value, members. redux: result, value,
 * members. activemask: result. */
static void decode_vote(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    static const char *const modes[] = {"ballot", "any", "all", "uni", NULL};
    const int mode = gpusim_take_one(&d->sp, modes);
    if (mode < 0 || !gpusim_take(&d->sp, "sync") ||
        !gpusim_take(&d->sp, mode == VOTE_BALLOT ? "b32" : "pred"))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    d->inst->mode = (uint8_t)mode;
    d->inst->r[0] = gpusim_operand_destination(
        s, gpusim_operand_nth(s, &d->all, 0), mode == VOTE_BALLOT ? 'w' : 'p');
    d->inst->r[1] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 1), 'p');
    d->inst->operand_not = d->all.item[1].negated;
    d->inst->r[2] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 2), 'w');
    result(d, 2, 1, KIND_VOTE, GPUSIM_WARP);
}

static void decode_match(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    static const char *const modes[] = {"any", "all", NULL};
    const int mode = gpusim_take_one(&d->sp, modes);
    const bool wide = gpusim_take(&d->sp, "b64");
    if (mode < 0 || !gpusim_take(&d->sp, "sync") || (!wide && !gpusim_take(&d->sp, "b32")))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    d->inst->mode = (uint8_t)mode;
    d->inst->wide = wide ? 2 : 0;
    const struct gpusim_operand *to = gpusim_operand_nth(s, &d->all, 0);
    d->inst->r[0] = gpusim_operand_destination(s, to, 'w');
    d->inst->r[1] = to->second ? to->second : SPECIAL_TRASH * GPUSIM_SLOT;
    d->inst->r[2] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 1), wide ? 'd' : 'w');
    d->inst->r[3] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 2), 'w');
    result(d, 2, 2, KIND_MATCH, GPUSIM_WARP);
}

static void decode_redux(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    static const char *const operations[] = {"add", "min", "max", "and", "or", "xor", NULL};
    static const char *const types[] = {"u32", "s32", "b32", NULL};
    const int at = gpusim_take_one(&d->sp, operations);
    const int type = gpusim_take_one(&d->sp, types);
    if (at < 0 || type < 0 || !gpusim_take(&d->sp, "sync"))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    d->inst->mode = (uint8_t)at;
    d->inst->type = type == 1 ? TYPE_S32 : TYPE_U32;
    d->inst->r[0] = gpusim_operand_destination(s, gpusim_operand_nth(s, &d->all, 0), 'w');
    d->inst->r[1] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 1), 'w');
    d->inst->r[2] = gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 2), 'w');
    result(d, 2, 1, KIND_REDUX, GPUSIM_WARP);
}

/* matrices..., address */
static void decode_ldmatrix(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    static const char *const counts[] = {"x1", "x2", "x4", NULL};
    const int count = gpusim_take_one(&d->sp, counts);
    if (count < 0 || !gpusim_take(&d->sp, "sync") || !gpusim_take(&d->sp, "aligned") ||
        !gpusim_take(&d->sp, "m8n8") || !gpusim_take(&d->sp, "b16") ||
        gpusim_take_space(&d->sp) != SPACE_SHARED)
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    inst->mode = gpusim_take(&d->sp, "trans");
    inst->vec = (uint8_t)(1 << count);
    inst->size = 16;
    inst->space = SPACE_SHARED;
    const struct gpusim_operand *to = gpusim_operand_nth(s, &d->all, 0);
    if (to->form != FORM_VECTOR || to->count != inst->vec || to->element_width != 'w')
        gpusim_parse_fail(s, "the registers do not fit the matrices");
    memcpy(inst->r, to->element, sizeof *inst->r * inst->vec);
    inst->r[inst->vec] = address(s, gpusim_operand_nth(s, &d->all, 1), inst, &inst->offset);
    result(d, 1, inst->vec, KIND_LDMATRIX, GPUSIM_LDMATRIX);
}

/* d..., a..., b..., c... */
static void decode_mma(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    static const char *const shapes[] = {"m8n8k16", "m16n8k16", "m16n8k32", NULL};
    static const int8_t registers[][4] = {{2, 1, 1, 2}, {4, 2, 1, 4}, {4, 4, 2, 4}};
    const int shape = gpusim_take_one(&d->sp, shapes);
    if (shape < 0 || strcmp(strstr(d->sp.whole, shapes[shape]) + strlen(shapes[shape]),
                         ".row.col.s32.s8.s8.s32") != 0)
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    for (int i = 0; i < d->sp.count; i++)
        d->sp.used[i] = true;
    inst->mode = (uint8_t)shape;
    int at = 0;
    for (int n = 0; n < 4; n++) {
        const struct gpusim_operand *o = gpusim_operand_nth(s, &d->all, n);
        const int count = registers[shape][n];
        if (o->form == FORM_REGISTER && count == 1) {
            inst->r[at++] = gpusim_operand_source(s, o, 'w');
            continue;
        }
        if (o->form != FORM_VECTOR || o->count != count || o->element_width != 'w')
            gpusim_parse_fail(s, "operand %d of mma has the wrong registers", n + 1);
        memcpy(&inst->r[at], o->element, sizeof *inst->r * (size_t)count);
        at += count;
    }
    result(d, at - registers[shape][0], registers[shape][0], KIND_MMA, GPUSIM_MMA);
}

/* to, from, valid bytes */
static void decode_cp_async(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    if (!gpusim_take(&d->sp, "async"))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    if (gpusim_take(&d->sp, "commit_group")) {
        result(d, 0, 0, KIND_CP_COMMIT, GPUSIM_CP_ASYNC);
        return;
    }
    const bool all = gpusim_take(&d->sp, "wait_all");
    if (all || gpusim_take(&d->sp, "wait_group")) {
        inst->offset = all ? -1 : (int64_t)gpusim_operand_nth(s, &d->all, 0)->value;
        result(d, 0, 0, KIND_CP_WAIT, GPUSIM_CP_ASYNC);
        return;
    }
    gpusim_take_caching(&d->sp);
    const bool shared = gpusim_take(&d->sp, "shared") || gpusim_take(&d->sp, "shared::cta");
    const struct gpusim_operand *size = gpusim_operand_nth(s, &d->all, 2);
    if (!shared || !gpusim_take(&d->sp, "global") || size->form != FORM_IMMEDIATE ||
        (size->value != 4 && size->value != 8 && size->value != 16))
        gpusim_parse_fail(s, "gpusim does not know %s", d->sp.whole);
    if (strstr(d->sp.whole, ".cg") && size->value != 16)
        gpusim_parse_fail(s, "cp.async.cg copies 16 bytes");
    inst->size = (uint8_t)size->value;
    inst->vec = 1;
    inst->space = SPACE_SHARED;
    inst->r[0] = address(s, gpusim_operand_nth(s, &d->all, 0), inst, &inst->offset);
    const uint8_t wide = inst->wide;
    inst->r[1] = address(s, gpusim_operand_nth(s, &d->all, 1), inst, &inst->offset2);
    inst->wide = wide;
    if (d->all.item[1].width != 'd')
        gpusim_parse_fail(s, "the source address must have 64 bits");
    inst->r[2] = d->all.count > 3 ? gpusim_operand_source(s, gpusim_operand_nth(s, &d->all, 3), 'w')
                                  : gpusim_constant(s, size->value, false);
    result(d, 3, 0, KIND_CP_ASYNC, GPUSIM_CP_ASYNC);
}

static void decode_simple(struct decoding *d, enum gpusim_kind kind)
{
    /* one for the own block only orders nothing between blocks; one between proxies neither */
    if (kind == KIND_FENCE && (strstr(d->sp.whole, ".cta") || strstr(d->sp.whole, ".cluster") ||
                                  strstr(d->sp.whole, ".proxy")))
        kind = KIND_NOP;
    gpusim_take_caching(&d->sp);
    static const char *const orders[] = {
        "sc", "acq_rel", "gl", "proxy", "global", "L1", "L2", NULL};
    while (gpusim_take_one(&d->sp, orders) >= 0)
        ;
    if (kind == KIND_ACTIVE_MASK) {
        gpusim_take(&d->sp, "b32");
        d->inst->r[0] = gpusim_operand_destination(d->s, gpusim_operand_nth(d->s, &d->all, 0), 'w');
    }
    result(d, 0, kind == KIND_ACTIVE_MASK, kind, GPUSIM_CONTROL);
}

/* ---- lane by lane ---- */

static struct gpusim_inst *append_instruction(struct gpusim_kernel *kernel)
{
    if (kernel->count == kernel->capacity)
        kernel->code = gpusim_list_grow(kernel->code, &kernel->capacity, sizeof *kernel->code);
    struct gpusim_inst *inst = &kernel->code[kernel->count++];
    memset(inst, 0, sizeof *inst);
    return inst;
}

/* cvt may read the low part of a wider register: makes the present instruction one that narrows it
 * and gives a new one that reads the narrow value as operand `slot`. */
static struct gpusim_inst *narrow_first(
    struct decoding *d, int slot, const struct gpusim_operand *wide)
{
    struct gpusim_parser *s = d->s;
    const struct gpusim_alu_entry *entry = gpusim_alu_find("cvt.u32.u64");
    const struct gpusim_inst made = *d->inst;
    const uint32_t narrow = s->next_slot;
    s->next_slot += GPUSIM_SLOT;
    d->inst->run = entry->run;
    d->inst->kind = entry->kind;
    d->inst->class = entry->class;
    d->inst->r[0] = narrow;
    d->inst->r[1] = wide->slot;
    d->inst->writes = d->inst->reads = 1;
    d->inst = append_instruction(s->kernel);
    *d->inst = made;
    d->inst->r[slot] = narrow;
    return d->inst;
}

static void use_entry(struct decoding *d, const char *spelling)
{
    const struct gpusim_alu_entry *entry = gpusim_alu_find(spelling);
    struct gpusim_parser *s = d->s;
    struct gpusim_inst *inst = d->inst;
    if (!entry)
        gpusim_parse_fail(s, "gpusim does not know the instruction %s", d->sp.whole);
    const char *want = entry->operands;
    int at = 0, slot = 0;
    for (; *want != ':'; want++) {
        const struct gpusim_operand *o = gpusim_operand_nth(s, &d->all, at);
        if (o->form == FORM_VECTOR) { /* unpacking */
            inst->r[slot] = o->element[slot];
            if (++slot == o->count)
                at++;
            continue;
        }
        inst->r[slot++] = gpusim_operand_destination(s, o, *want == 'q' ? 'p' : *want);
        if (*want == 'q')
            inst->r[slot++] = o->second ? o->second : SPECIAL_TRASH * GPUSIM_SLOT;
        at++;
    }
    inst->writes = (uint8_t)slot;
    int element = 0;
    for (want++; *want; want++) {
        const struct gpusim_operand *o = gpusim_operand_nth(s, &d->all, at);
        if (o->form == FORM_VECTOR) { /* packing */
            inst->r[slot++] = o->element[element++];
            at += element == o->count;
            continue;
        }
        if (o->negated)
            gpusim_parse_fail(s, "a negated operand");
        if (*want == 'x' && o->width == 'd') {
            inst = narrow_first(d, slot, o);
            slot++;
        } else {
            inst->r[slot++] = gpusim_operand_source(s, o, *want == 'x' ? 'w' : *want);
        }
        at++;
    }
    inst->reads = (uint8_t)(slot - inst->writes);
    inst->run = entry->run;
    inst->wide = entry->kind == KIND_DIVIDE && entry->operands[0] == 'd' ? 2 : 0;
    inst->kind = entry->kind;
    inst->class = entry->class;
    if (at != d->all.count)
        gpusim_parse_fail(s, "%d operands, expected %d", d->all.count, at);
}

/* setp.lt.and.s32 p|q, a, b, !r: the table has it without the second step. */
static void decode_setp(struct decoding *d)
{
    static const char *const steps[] = {"and", "or", "xor", NULL};
    const int step = gpusim_take_one(&d->sp, steps);
    if (step < 0) {
        use_entry(d, d->sp.whole);
        return;
    }
    char spelling[160] = "";
    for (int i = 0; i < d->sp.count; i++)
        if (i == 0 || !d->sp.used[i]) {
            size_t n = strlen(spelling);
            snprintf(spelling + n, sizeof spelling - n, "%s%s", i ? "." : "", d->sp.part[i]);
        }
    const struct gpusim_operand last = *gpusim_operand_nth(d->s, &d->all, 3);
    d->all.count = 3;
    use_entry(d, spelling);
    d->inst->mode = (uint8_t)(step + 1);
    d->inst->r[4] = gpusim_operand_source(d->s, &last, 'p');
    d->inst->operand_not = last.negated;
    d->inst->reads = 3;
}

static void decode_mov(struct decoding *d)
{
    const struct gpusim_operand *to = gpusim_operand_nth(d->s, &d->all, 0),
                                *from = gpusim_operand_nth(d->s, &d->all, 1);
    const bool wide = strstr(d->sp.whole, "64") != NULL;
    const struct gpusim_operand *vector = to->form == FORM_VECTOR     ? to
                                          : from->form == FORM_VECTOR ? from
                                                                      : NULL;
    if (vector && (vector->count != 2 || vector->element_width != 'w'))
        gpusim_parse_fail(d->s, "gpusim packs and unpacks halves only");
    if (to->form == FORM_VECTOR)
        use_entry(d, wide ? "unpack.b64" : "unpack.b32");
    else if (from->form == FORM_VECTOR)
        use_entry(d, wide ? "pack.b64" : "pack.b32");
    else
        use_entry(d, d->sp.whole);
}

static void decode_cvta(struct decoding *d)
{
    struct gpusim_parser *s = d->s;
    const bool to = gpusim_take(&d->sp, "to");
    const enum gpusim_space space = gpusim_take_space(&d->sp);
    if (!gpusim_take(&d->sp, "u64"))
        gpusim_parse_fail(s, "gpusim has 64-bit addresses only");
    uint64_t window = 0;
    if (space == SPACE_SHARED)
        window = GPUSIM_SHARED_WINDOW;
    else if (space == SPACE_LOCAL)
        window = GPUSIM_LOCAL_WINDOW;
    else if (space == SPACE_PARAM)
        window = GPUSIM_PARAM_WINDOW;
    if (d->all.count != 2)
        gpusim_parse_fail(s, "two operands are expected");
    d->all.item[2] = (struct gpusim_operand){.form = FORM_IMMEDIATE, .value = window};
    d->all.count = 3;
    use_entry(d, to ? "cvta.to" : "cvta");
    gpusim_all_taken(s, &d->sp);
}

static void decode(struct decoding *d)
{
    static const struct {
        const char *stem;
        void (*run)(struct decoding *);
        enum gpusim_kind kind;
    } families[] = {{"ld", decode_load_store, 0}, {"ldu", decode_load_store, 0},
        {"st", decode_load_store, 0}, {"atom", decode_atomic, 0}, {"red", decode_atomic, 0},
        {"bar", decode_barrier, 0}, {"barrier", decode_barrier, 0}, {"shfl", decode_shuffle, 0},
        {"vote", decode_vote, 0}, {"match", decode_match, 0}, {"redux", decode_redux, 0},
        {"ldmatrix", decode_ldmatrix, 0}, {"mma", decode_mma, 0}, {"cp", decode_cp_async, 0},
        {"setp", decode_setp, 0}, {"mov", decode_mov, 0}, {"cvta", decode_cvta, 0},
        {"ret", NULL, KIND_EXIT}, {"exit", NULL, KIND_EXIT}, {"trap", NULL, KIND_TRAP},
        {"membar", NULL, KIND_FENCE}, {"fence", NULL, KIND_FENCE}, {"prefetch", NULL, KIND_NOP},
        {"activemask", NULL, KIND_ACTIVE_MASK}};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(d->sp.part[0], families[i].stem) != 0)
            continue;
        if (families[i].run)
            families[i].run(d);
        else
            decode_simple(d, families[i].kind);
        return;
    }
    use_entry(d, d->sp.whole);
}

void gpusim_parse_instruction(struct gpusim_parser *s)
{
    struct gpusim_kernel *kernel = s->kernel;
    struct gpusim_inst *inst = append_instruction(kernel);
    struct decoding d = {.s = s, .inst = inst};
    if (gpusim_accept(s, '@')) {
        inst->guard_not = gpusim_accept(s, '!');
        struct gpusim_word name = gpusim_name(s);
        char width;
        if (!gpusim_find_register(s, name, &inst->guard, &width) || width != 'p')
            gpusim_parse_fail(s, "%.*s is no predicate", name.length, name.at);
    }
    gpusim_read_spelling(s, &d.sp);
    inst->line = s->line;
    if (strcmp(d.sp.part[0], "bra") == 0 || strcmp(d.sp.part[0], "brx") == 0) {
        decode_branch(&d);
        return;
    }
    if (strcmp(d.sp.part[0], "call") == 0)
        gpusim_parse_fail(s, "a call; device functions must be inlined");
    gpusim_all_operands(s, &d.all);
    decode(&d);
}
