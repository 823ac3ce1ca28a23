#include "support/cli_run.h"

#include "cli/commands.h"
#include "support/fake_octet.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char out_text[TEXT_MAX], err_text[TEXT_MAX];

static int temporary(void)
{
    char path[] = "/tmp/octet-test-XXXXXX";
    int file = mkstemp(path);

    cr_assert(file >= 0);
    unlink(path);
    return file;
}

static void read_back(int file, char *text)
{
    ssize_t length = pread(file, text, TEXT_MAX - 1, 0);

    cr_assert(length >= 0);
    text[length] = '\0';
    close(file);
}

int octet(const char *line)
{
    char copy[2048], *argv[64] = {(char *)"octet"}, *rest = copy;
    int argc = 1, code, out = temporary(), err = temporary();
    int kept_out = dup(STDOUT_FILENO), kept_err = dup(STDERR_FILENO);

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word; argc < 63 && (word = strtok_r(rest, " ", &rest)) != NULL;)
        argv[argc++] = word;
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    code = octet_main(argc, argv);
    fflush(NULL);
    dup2(kept_out, STDOUT_FILENO);
    dup2(kept_err, STDERR_FILENO);
    close(kept_out);
    close(kept_err);
    read_back(out, out_text);
    read_back(err, err_text);
    return code;
}

void expect_in(const char *text, const char *part)
{
    cr_expect(strstr(text, part) != NULL, "expected >>>%s<<< in >>>%s<<<", part, text);
}

void refused(const char *line, const char *message)
{
    char with_newline[1024];
    int code = octet(line);

    snprintf(with_newline, sizeof with_newline, "%s\n", message);
    cr_expect_eq(code, OCT_EXIT_USAGE, "octet %s: exit code %d", line, code);
    cr_expect_str_eq(err_text, with_newline, "octet %s said: %s", line, err_text);
    cr_expect_eq(fake.open_count, 0);
}

const char *write_file(const char *text)
{
    static char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/tmp/octet-test-%d.yaml", (int)getpid());
    file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}
