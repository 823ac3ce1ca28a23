/* Machine code is not run, but it says how many registers ptxas gave a kernel: the attribute of
 * .nv.info that scripts/cuda-gates reads too. */
#include "sim_core.h"

#include <elf.h>
#include <string.h>

enum { FORM_BYTES = 4, REGISTERS = 0x2f }; /* form of an attribute with a value; count per symbol */

struct cubin {
    const unsigned char *image;
    size_t bytes;
    Elf64_Ehdr head;
};

static bool read_at(const struct cubin *c, uint64_t at, void *out, size_t bytes)
{
    if (at > c->bytes || bytes > c->bytes - at)
        return false;
    memcpy(out, c->image + at, bytes);
    return true;
}

/* The string at `at` of a section of strings equals `text`. */
static bool is_string(
    const struct cubin *c, const Elf64_Shdr *strings, uint64_t at, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    const uint64_t from = strings->sh_offset + at;
    return from <= c->bytes && bytes <= c->bytes - from &&
           memcmp(c->image + from, text, bytes) == 0;
}

static bool header(const struct cubin *c, unsigned index, Elf64_Shdr *out)
{
    return read_at(c, c->head.e_shoff + (uint64_t)index * sizeof *out, out, sizeof *out);
}

static bool find_section(const struct cubin *c, const char *name, Elf64_Shdr *out)
{
    Elf64_Shdr names;
    if (!header(c, c->head.e_shstrndx, &names))
        return false;
    for (unsigned i = 1; i < c->head.e_shnum && header(c, i, out); i++)
        if (is_string(c, &names, out->sh_name, name))
            return true;
    return false;
}

static bool is_symbol(const struct cubin *c, uint32_t index, const char *name)
{
    Elf64_Shdr symbols, strings;
    Elf64_Sym symbol;
    return find_section(c, ".symtab", &symbols) && find_section(c, ".strtab", &strings) &&
           read_at(
               c, symbols.sh_offset + (uint64_t)index * sizeof symbol, &symbol, sizeof symbol) &&
           is_string(c, &strings, symbol.st_name, name);
}

int gpusim_cubin_registers(const void *image, size_t bytes, const char *kernel)
{
    struct cubin c = {.image = image, .bytes = bytes};
    Elf64_Shdr info;
    if (!read_at(&c, 0, &c.head, sizeof c.head) || memcmp(c.head.e_ident, ELFMAG, SELFMAG) != 0 ||
        !find_section(&c, ".nv.info", &info))
        return 0;
    struct {
        uint8_t form, what;
        uint16_t value;
    } entry;
    const uint64_t end = info.sh_offset + info.sh_size;
    for (uint64_t at = info.sh_offset; at < end && read_at(&c, at, &entry, sizeof entry);) {
        uint32_t pair[2]; /* symbol, number */
        at += sizeof entry;
        if (entry.form != FORM_BYTES)
            continue;
        if (entry.what == REGISTERS && read_at(&c, at, pair, sizeof pair) &&
            is_symbol(&c, pair[0], kernel))
            return (int)pair[1];
        at += entry.value;
    }
    return 0;
}
