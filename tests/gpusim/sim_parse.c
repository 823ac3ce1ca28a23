/* PTX text: an entry, with its parameters, declarations, blocks and labels. */
#include "sim_parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *gpusim_list_grow(void *items, int *capacity, size_t size)
{
    *capacity = *capacity ? 2 * *capacity : 16;
    items = realloc(items, (size_t)*capacity * size);
    if (!items) {
        fputs("gpusim: out of memory\n", stderr);
        abort();
    }
    return items;
}

void gpusim_parse_fail(struct gpusim_parser *s, const char *format, ...)
{
    char text[256];
    gpusim_line_text(s->module->text, s->line, text, sizeof text);
    int n = snprintf(s->error, s->error_capacity, "PTX line %d (%s): ", s->line, text);
    va_list list;
    va_start(list, format);
    if (n >= 0 && (size_t)n < s->error_capacity)
        vsnprintf(s->error + n, s->error_capacity - (size_t)n, format, list);
    va_end(list);
    longjmp(s->fail, 1);
}

void gpusim_line_text(const char *text, int line, char *out, size_t capacity)
{
    for (int n = 1; n < line && text; n++) {
        text = strchr(text, '\n');
        text += text != NULL;
    }
    if (!text)
        text = "";
    text += strspn(text, " \t");
    int length = (int)strcspn(text, "\n");
    snprintf(out, capacity, "%.*s", length, text);
    for (char *c = out; *c; c++)
        if (*c == '\t')
            *c = ' ';
}

void gpusim_skip_blanks(struct gpusim_parser *s)
{
    while (s->p < s->end) {
        if (*s->p == '\n') {
            s->line++;
            s->p++;
        } else if (isspace((unsigned char)*s->p)) {
            s->p++;
        } else if (s->p[0] == '/' && s->p[1] == '/') {
            while (s->p < s->end && *s->p != '\n')
                s->p++;
        } else if (s->p[0] == '/' && s->p[1] == '*') {
            for (s->p += 2; s->p < s->end && !(s->p[0] == '*' && s->p[1] == '/'); s->p++)
                s->line += *s->p == '\n';
            s->p += 2;
        } else {
            return;
        }
    }
}

bool gpusim_accept(struct gpusim_parser *s, char c)
{
    gpusim_skip_blanks(s);
    if (s->p >= s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

void gpusim_expect(struct gpusim_parser *s, char c)
{
    if (!gpusim_accept(s, c))
        gpusim_parse_fail(s, "expected '%c' before \"%.20s\"", c, s->p);
}

struct gpusim_word gpusim_name(struct gpusim_parser *s)
{
    gpusim_skip_blanks(s);
    const char *from = s->p;
    while (s->p < s->end && (isalnum((unsigned char)*s->p) || (*s->p && strchr("_$%.", *s->p))))
        s->p++;
    return (struct gpusim_word){from, (int)(s->p - from)};
}

bool gpusim_word_is(struct gpusim_word word, const char *text)
{
    return strlen(text) == (size_t)word.length && memcmp(word.at, text, (size_t)word.length) == 0;
}

bool gpusim_same_word(struct gpusim_word a, struct gpusim_word b)
{
    return a.length == b.length && memcmp(a.at, b.at, (size_t)a.length) == 0;
}

uint64_t gpusim_number(struct gpusim_parser *s)
{
    gpusim_skip_blanks(s);
    bool minus = false;
    if (*s->p == '-') {
        minus = true;
        s->p++;
    }
    uint64_t value;
    char *behind;
    if (s->p[0] == '0' && strchr("fFdD", s->p[1]) && s->p[1]) {
        const int digits = tolower((unsigned char)s->p[1]) == 'f' ? 8 : 16;
        char hex[17] = "";
        memcpy(hex, s->p + 2, (size_t)digits);
        value = strtoull(hex, &behind, 16);
        if (behind != hex + digits || minus)
            gpusim_parse_fail(s, "\"%.20s\" is not a float constant", s->p);
        s->p += 2 + digits;
        return value;
    }
    value = strtoull(s->p, &behind, 0);
    if (behind == s->p)
        gpusim_parse_fail(s, "expected a number before \"%.20s\"", s->p);
    s->p = behind;
    if (*s->p == 'U')
        s->p++;
    return minus ? 0 - value : value;
}

const struct gpusim_symbol *gpusim_find_symbol(struct gpusim_parser *s, struct gpusim_word name)
{
    for (int i = s->symbols.count - 1; i >= 0; i--)
        if (gpusim_same_word(s->symbols.item[i].name, name))
            return &s->symbols.item[i];
    for (int i = 0; i < s->module->symbols.count; i++)
        if (gpusim_same_word(s->module->symbols.item[i].name, name))
            return &s->module->symbols.item[i];
    return NULL;
}

uint32_t gpusim_constant(struct gpusim_parser *s, uint64_t value, bool wide)
{
    struct gpusim_kernel *kernel = s->kernel;
    if (!wide)
        value &= UINT32_MAX;
    for (int i = 0; i < kernel->constant_count; i++)
        if (kernel->constants[i].value == value && kernel->constants[i].wide == wide)
            return kernel->constants[i].slot;
    if (kernel->constant_count % 16 == 0) {
        int capacity = kernel->constant_count + 16;
        kernel->constants =
            realloc(kernel->constants, (size_t)capacity * sizeof *kernel->constants);
        if (!kernel->constants)
            gpusim_parse_fail(s, "out of memory");
    }
    const uint32_t slot = s->next_slot;
    s->next_slot += wide ? GPUSIM_SLOT64 : GPUSIM_SLOT;
    kernel->constants[kernel->constant_count++] = (struct gpusim_constant){value, slot, wide};
    return slot;
}

/* Bytes of a fundamental type, with its width as an operand; 0: not a type. */
static int type_bytes(struct gpusim_word type, char *width)
{
    static const struct {
        const char *name;
        int bytes;
        char width;
    } types[] = {{".pred", 1, 'p'}, {".b8", 1, 'w'}, {".u8", 1, 'w'}, {".s8", 1, 'w'},
        {".b16", 2, 'w'}, {".u16", 2, 'w'}, {".s16", 2, 'w'}, {".f16", 2, 'w'}, {".b32", 4, 'w'},
        {".u32", 4, 'w'}, {".s32", 4, 'w'}, {".f32", 4, 'w'}, {".b64", 8, 'd'}, {".u64", 8, 'd'},
        {".s64", 8, 'd'}, {".f64", 8, 'd'}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (gpusim_word_is(type, types[i].name)) {
            *width = types[i].width;
            return types[i].bytes;
        }
    return 0;
}

struct gpusim_word gpusim_directive(struct gpusim_parser *s)
{
    gpusim_skip_blanks(s);
    const char *from = s->p;
    if (*s->p == '.')
        s->p++;
    while (isalnum((unsigned char)*s->p) || *s->p == '_')
        s->p++;
    return (struct gpusim_word){from, (int)(s->p - from)};
}

static uint32_t rounded_up(uint32_t value, uint32_t align)
{
    return (value + align - 1) / align * align;
}

struct declaration {
    enum gpusim_space space;
    uint32_t align;
    int element; /* bytes */
    bool is_extern;
};

static void initial_values(
    struct gpusim_parser *s, unsigned char *to, const struct declaration *d, uint64_t capacity)
{
    const bool list = gpusim_accept(s, '{');
    uint64_t used = 0;
    do {
        if (*s->p == '}')
            break;
        uint64_t value = gpusim_number(s);
        if (used + (uint64_t)d->element > capacity)
            gpusim_parse_fail(s, "more values than the array holds");
        memcpy(to + used, &value, (size_t)d->element);
        used += (uint64_t)d->element;
    } while (list && gpusim_accept(s, ','));
    if (list)
        gpusim_expect(s, '}');
}

static void place(struct gpusim_parser *s, struct gpusim_symbol *symbol, struct declaration *d)
{
    uint32_t *shared = s->kernel ? &s->kernel->static_shared : &s->module->shared_bytes;
    switch (d->space) {
    case SPACE_SHARED:
        *shared = rounded_up(*shared, d->align);
        symbol->address = *shared;
        *shared += (uint32_t)symbol->size;
        return;
    case SPACE_LOCAL:
        s->kernel->local_bytes = rounded_up(s->kernel->local_bytes, d->align);
        symbol->address = s->kernel->local_bytes;
        s->kernel->local_bytes += (uint32_t)symbol->size;
        return;
    default: {
        unsigned char *memory = gpusim_alloc(symbol->size);
        if (!memory)
            gpusim_parse_fail(s, "out of memory");
        memset(memory, 0, symbol->size);
        gpusim_mark_written(memory, symbol->size);
        symbol->address = (uint64_t)(uintptr_t)memory;
        if (gpusim_accept(s, '='))
            initial_values(s, memory, d, symbol->size);
    }
    }
}

void gpusim_variables(struct gpusim_parser *s, enum gpusim_space space, bool is_extern)
{
    struct declaration d = {.space = space, .is_extern = is_extern};
    for (gpusim_skip_blanks(s); *s->p == '.'; gpusim_skip_blanks(s)) {
        struct gpusim_word word = gpusim_directive(s);
        char width;
        if (gpusim_word_is(word, ".align"))
            d.align = (uint32_t)gpusim_number(s);
        else if (!(d.element = type_bytes(word, &width)))
            gpusim_parse_fail(s, "%.*s in a declaration", word.length, word.at);
    }
    if (!d.align)
        d.align = (uint32_t)d.element;
    do {
        struct gpusim_symbol *symbol =
            s->kernel ? GPUSIM_APPEND(s->symbols) : GPUSIM_APPEND(s->module->symbols);
        symbol->name = gpusim_name(s);
        symbol->space = space;
        symbol->size = (uint64_t)d.element;
        while (gpusim_accept(s, '[')) {
            gpusim_skip_blanks(s);
            if (*s->p == ']')
                symbol->dynamic = is_extern && space == SPACE_SHARED;
            else
                symbol->size *= gpusim_number(s);
            gpusim_expect(s, ']');
        }
        if (symbol->dynamic) {
            if (s->module->dynamic_align < d.align)
                s->module->dynamic_align = d.align;
        } else if (is_extern) {
            gpusim_parse_fail(s, "a variable of another translation unit");
        } else {
            place(s, symbol, &d);
        }
    } while (gpusim_accept(s, ','));
    gpusim_expect(s, ';');
}

static void registers(struct gpusim_parser *s)
{
    struct gpusim_word type = gpusim_directive(s);
    char width;
    if (!type_bytes(type, &width))
        gpusim_parse_fail(s, "registers of type %.*s", type.length, type.at);
    do {
        struct gpusim_registers *r = GPUSIM_APPEND(s->registers);
        r->prefix = gpusim_name(s);
        r->count = -1;
        r->width = width;
        if (gpusim_accept(s, '<')) {
            r->count = (int)gpusim_number(s);
            gpusim_expect(s, '>');
        }
        r->first = s->next_slot;
        if (width == 'd')
            *GPUSIM_APPEND(s->wide) = *r;
        s->next_slot +=
            (uint32_t)(r->count < 0 ? 1 : r->count) * (width == 'd' ? GPUSIM_SLOT64 : GPUSIM_SLOT);
    } while (gpusim_accept(s, ','));
    gpusim_expect(s, ';');
}

void gpusim_skip_line(struct gpusim_parser *s)
{
    while (s->p < s->end && *s->p != '\n')
        s->p++;
}

static void branch_targets(struct gpusim_parser *s)
{
    struct gpusim_kernel *kernel = s->kernel;
    const int head = kernel->table_words;
    int words = 1;
    kernel->tables = realloc(kernel->tables, (size_t)(head + 1) * sizeof *kernel->tables);
    do {
        struct gpusim_fix *fix = GPUSIM_APPEND(s->fixes);
        fix->name = gpusim_name(s);
        fix->instruction = -1;
        fix->table_word = head + words++;
        fix->line = s->line;
        kernel->tables = realloc(kernel->tables, (size_t)(head + words) * sizeof *kernel->tables);
        if (!kernel->tables)
            gpusim_parse_fail(s, "out of memory");
    } while (gpusim_accept(s, ','));
    gpusim_expect(s, ';');
    kernel->tables[head] = (uint32_t)words - 1;
    kernel->table_words = head + words;
}

/* What follows a dot inside a body. False: it was no declaration. */
static void body_directive(struct gpusim_parser *s)
{
    struct gpusim_word word = gpusim_directive(s);
    if (gpusim_word_is(word, ".reg"))
        registers(s);
    else if (gpusim_word_is(word, ".shared"))
        gpusim_variables(s, SPACE_SHARED, false);
    else if (gpusim_word_is(word, ".local"))
        gpusim_variables(s, SPACE_LOCAL, false);
    else if (gpusim_word_is(word, ".branchtargets")) {
        if (s->labels.count == 0)
            gpusim_parse_fail(s, "a branch table without a label");
        struct gpusim_label *label = &s->labels.item[s->labels.count - 1];
        label->table = true;
        label->index = s->kernel->table_words;
        branch_targets(s);
    } else if (gpusim_word_is(word, ".loc") || gpusim_word_is(word, ".pragma") ||
               gpusim_word_is(word, ".file"))
        gpusim_skip_line(s);
    else
        gpusim_parse_fail(s, "gpusim does not know %.*s", word.length, word.at);
}

static bool label(struct gpusim_parser *s)
{
    const char *start = s->p;
    const int line = s->line;
    struct gpusim_word word = gpusim_name(s);
    gpusim_skip_blanks(s);
    if (word.length && *s->p == ':' && s->p[1] != ':') {
        s->p++;
        struct gpusim_label *made = GPUSIM_APPEND(s->labels);
        made->name = word;
        made->index = s->kernel->count;
        return true;
    }
    s->p = start;
    s->line = line;
    return false;
}

/* Statements up to the closing brace; register names of inline assembly end with it. */
static void block(struct gpusim_parser *s)
{
    const int outer = s->registers.count;
    for (;;) {
        gpusim_skip_blanks(s);
        if (s->p >= s->end)
            gpusim_parse_fail(s, "the text ends inside a body");
        if (gpusim_accept(s, '}'))
            break;
        if (gpusim_accept(s, '{'))
            block(s);
        else if (*s->p == '.')
            body_directive(s);
        else if (*s->p == '@' || !label(s))
            gpusim_parse_instruction(s);
    }
    s->registers.count = outer;
}

static void parameters(struct gpusim_parser *s)
{
    struct gpusim_kernel *kernel = s->kernel;
    if (!gpusim_accept(s, '(') || gpusim_accept(s, ')'))
        return;
    do {
        uint32_t align = 0, bytes = 0;
        for (gpusim_skip_blanks(s); *s->p == '.'; gpusim_skip_blanks(s)) {
            struct gpusim_word word = gpusim_directive(s);
            char width;
            if (gpusim_word_is(word, ".align")) /* of .ptr: says where it points, not itself */
                align = (uint32_t)gpusim_number(s);
            else if (gpusim_word_is(word, ".ptr"))
                align = 0;
            else if (type_bytes(word, &width))
                bytes = (uint32_t)type_bytes(word, &width);
        }
        struct gpusim_symbol *symbol = GPUSIM_APPEND(s->symbols);
        symbol->name = gpusim_name(s);
        symbol->space = SPACE_PARAM;
        const uint32_t element = bytes;
        if (gpusim_accept(s, '[')) {
            bytes *= (uint32_t)gpusim_number(s);
            gpusim_expect(s, ']');
        } else {
            align = element;
        }
        const uint32_t offset = rounded_up((uint32_t)kernel->param_bytes, align ? align : element);
        symbol->address = offset;
        symbol->size = bytes;
        kernel->params =
            realloc(kernel->params, (size_t)(kernel->param_count + 1) * sizeof *kernel->params);
        if (!kernel->params)
            gpusim_parse_fail(s, "out of memory");
        kernel->params[kernel->param_count++] = (struct gpusim_param){offset, bytes};
        kernel->param_bytes = (int)(offset + bytes);
    } while (gpusim_accept(s, ','));
    gpusim_expect(s, ')');
}

/* Between the parameters and the body: .maxntid and others. */
static void performance_directives(struct gpusim_parser *s)
{
    for (gpusim_skip_blanks(s); *s->p == '.'; gpusim_skip_blanks(s)) {
        struct gpusim_word word = gpusim_directive(s);
        int product = 1;
        do
            product *= (int)gpusim_number(s);
        while (gpusim_accept(s, ','));
        if (gpusim_word_is(word, ".maxntid") || gpusim_word_is(word, ".reqntid"))
            s->kernel->max_threads = product;
        else if (!gpusim_word_is(word, ".minnctapersm") && !gpusim_word_is(word, ".maxnreg"))
            gpusim_parse_fail(s, "gpusim does not know %.*s", word.length, word.at);
    }
}

static void resolve(struct gpusim_parser *s)
{
    for (int i = 0; i < s->fixes.count; i++) {
        const struct gpusim_fix *fix = &s->fixes.item[i];
        const struct gpusim_label *found = NULL;
        for (int n = 0; n < s->labels.count && !found; n++)
            if (gpusim_same_word(s->labels.item[n].name, fix->name))
                found = &s->labels.item[n];
        s->line = fix->line;
        if (!found)
            gpusim_parse_fail(s, "no label %.*s", fix->name.length, fix->name.at);
        if (fix->instruction >= 0)
            s->kernel->code[fix->instruction].target = (uint32_t)found->index;
        else
            s->kernel->tables[fix->table_word] = (uint32_t)found->index;
    }
}

void gpusim_parser_free(struct gpusim_parser *s)
{
    free(s->registers.item);
    free(s->wide.item);
    free(s->symbols.item);
    free(s->labels.item);
    free(s->fixes.item);
}

static void analyse(struct gpusim_parser *s)
{
    s->kernel->regs_bytes = s->next_slot;
    bool *wide = calloc(s->next_slot / GPUSIM_SLOT + 1, sizeof *wide);
    for (int i = 0; wide && i < s->wide.count; i++) {
        const struct gpusim_registers *r = &s->wide.item[i];
        for (int n = 0; n < (r->count < 0 ? 1 : r->count); n++)
            wide[r->first / GPUSIM_SLOT + 2 * (uint32_t)n] = true;
    }
    const bool fine = wide && gpusim_flow_analyse(s->kernel, wide);
    free(wide);
    if (!fine)
        gpusim_parse_fail(s, "out of memory");
}

struct gpusim_kernel *gpusim_module_kernel(
    struct gpusim_module *module, const char *name, char *error, size_t capacity)
{
    const struct gpusim_entry *entry = NULL;
    for (int i = 0; i < module->entries.count && !entry; i++)
        if (gpusim_word_is(module->entries.item[i].name, name))
            entry = &module->entries.item[i];
    if (!entry) {
        snprintf(error, capacity, "the embedded PTX has no entry %s", name);
        return NULL;
    }
    struct gpusim_kernel *const kernel = calloc(1, sizeof *kernel);
    struct gpusim_parser s = {.p = entry->at,
        .end = module->text + module->length,
        .line = entry->line,
        .module = module,
        .kernel = kernel,
        .error = error,
        .error_capacity = capacity,
        .next_slot = SPECIAL_COUNT * GPUSIM_SLOT};
    if (!kernel || setjmp(s.fail)) {
        gpusim_parser_free(&s);
        gpusim_kernel_free(kernel);
        return NULL;
    }
    kernel->name = strdup(name);
    kernel->text = module->text;
    kernel->static_shared = module->shared_bytes;
    parameters(&s);
    performance_directives(&s);
    gpusim_expect(&s, '{');
    block(&s);
    resolve(&s);
    kernel->uses_dynamic_align = module->dynamic_align;
    analyse(&s);
    kernel->executed = calloc((size_t)kernel->count + 1, sizeof *kernel->executed);
    gpusim_parser_free(&s);
    return kernel;
}

void gpusim_kernel_free(struct gpusim_kernel *kernel)
{
    if (!kernel)
        return;
    free(kernel->name);
    free(kernel->code);
    free(kernel->params);
    free(kernel->constants);
    free(kernel->tables);
    free(kernel->executed);
    free(kernel);
}
