/* PTX text: what a module holds. Entries are found here and decoded when they are first needed. */
#include "sim_parse.h"

#include <stdlib.h>
#include <string.h>

static void skip_braces(struct gpusim_parser *s)
{
    int depth = 0;
    do {
        gpusim_skip_blanks(s);
        if (s->p >= s->end)
            gpusim_parse_fail(s, "unbalanced braces");
        depth += *s->p == '{';
        depth -= *s->p == '}';
        s->p++;
    } while (depth > 0);
}

static void skip_function(struct gpusim_parser *s)
{
    while (s->p < s->end && *s->p != '{' && *s->p != ';') {
        s->line += *s->p == '\n';
        s->p++;
    }
    if (!gpusim_accept(s, ';'))
        skip_braces(s);
}

static void module_level(struct gpusim_parser *s)
{
    bool is_extern = false;
    for (gpusim_skip_blanks(s); s->p < s->end && *s->p; gpusim_skip_blanks(s)) {
        struct gpusim_word word = gpusim_directive(s);
        if (gpusim_word_is(word, ".version") || gpusim_word_is(word, ".target") ||
            gpusim_word_is(word, ".address_size") || gpusim_word_is(word, ".file") ||
            gpusim_word_is(word, ".pragma")) {
            gpusim_skip_line(s);
        } else if (gpusim_word_is(word, ".extern")) {
            is_extern = true;
            continue;
        } else if (gpusim_word_is(word, ".visible") || gpusim_word_is(word, ".weak")) {
            continue;
        } else if (gpusim_word_is(word, ".shared")) {
            gpusim_variables(s, SPACE_SHARED, is_extern);
        } else if (gpusim_word_is(word, ".global")) {
            gpusim_variables(s, SPACE_GLOBAL, is_extern);
        } else if (gpusim_word_is(word, ".const")) {
            gpusim_variables(s, SPACE_CONST, is_extern);
        } else if (gpusim_word_is(word, ".entry")) {
            struct gpusim_entry *entry = GPUSIM_APPEND(s->module->entries);
            entry->name = gpusim_name(s);
            entry->at = s->p;
            entry->line = s->line;
            skip_function(s);
        } else if (gpusim_word_is(word, ".func")) {
            skip_function(s); /* a call of it is refused where it stands */
        } else if (gpusim_word_is(word, ".section")) {
            while (s->p < s->end && *s->p != '{')
                s->p++;
            skip_braces(s);
        } else {
            gpusim_parse_fail(s, "gpusim does not know %.*s", word.length, word.at);
        }
        is_extern = false;
    }
}

static bool scan(struct gpusim_module *module)
{
    char error[512];
    struct gpusim_parser s = {.p = module->text,
        .end = module->text + module->length,
        .line = 1,
        .module = module,
        .error = error,
        .error_capacity = sizeof error};
    const bool failed = setjmp(s.fail) != 0;
    if (failed)
        gpusim_report("%s", error);
    else
        module_level(&s);
    gpusim_parser_free(&s);
    return !failed;
}

struct gpusim_module *gpusim_module_open(const char *text, size_t length)
{
    struct gpusim_module *module = calloc(1, sizeof *module);
    if (!module || !(module->text = malloc(length + 2))) {
        free(module);
        return NULL;
    }
    memcpy(module->text, text, length);
    module->text[length] = module->text[length + 1] = 0;
    module->length = strlen(module->text);
    if (scan(module))
        return module;
    gpusim_module_close(module);
    return NULL;
}

void *gpusim_module_variable(struct gpusim_module *module, const char *name, size_t *size)
{
    for (int i = 0; i < module->symbols.count; i++) {
        const struct gpusim_symbol *symbol = &module->symbols.item[i];
        if (symbol->space != SPACE_SHARED && gpusim_word_is(symbol->name, name)) {
            *size = symbol->size;
            return (void *)(uintptr_t)symbol->address;
        }
    }
    return NULL;
}

void gpusim_module_close(struct gpusim_module *module)
{
    if (!module)
        return;
    for (int i = 0; i < module->symbols.count; i++)
        if (module->symbols.item[i].space != SPACE_SHARED)
            gpusim_release((void *)(uintptr_t)module->symbols.item[i].address);
    free(module->entries.item);
    free(module->symbols.item);
    free(module->text);
    free(module);
}
