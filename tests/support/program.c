#include "support/program.h"

#include "support/folder.h"
#include "train/safetensors.h"

#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

char *program_out, *program_err;
static char *folder, octet[PATH_MAX + 8];

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\nout: %s\nerr: %s\n", what, program_out ? program_out : "",
            program_err ? program_err : "");
        abort();
    }
}

static void find_program(void)
{
    const char *named = getenv("OCTET");
    char self[PATH_MAX], candidate[PATH_MAX + 16];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    need(length > 0, "/proc/self/exe cannot be read");
    self[length] = '\0';
    snprintf(candidate, sizeof candidate, "%s/../octet", dirname(self));
    need(realpath(named ? named : candidate, octet) != NULL, "no program: make it, or name $OCTET");
}

void program_begin(void)
{
    find_program();
    folder = folder_make();
    need(chdir(folder) == 0, folder);
}

void program_end(void)
{
    need(chdir("/") == 0, "/");
    folder_remove(folder);
    free(program_out);
    free(program_err);
}

static void read_output(void)
{
    free(program_out);
    free(program_err);
    program_out = file_read("out.txt", NULL);
    program_err = file_read("err.txt", NULL);
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int program_run(const char *format, ...)
{
    char arguments[4096], command[PATH_MAX + 4200];
    va_list list;
    int status;

    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "exec '%s' %s >out.txt 2>err.txt", octet, arguments);
    status = system(command);
    read_output();
    return exit_code(status);
}

int program_run_and_signal(int number, const char *text, const char *arguments)
{
    char command[PATH_MAX + 4200];
    const struct timespec pause = {.tv_nsec = 2000000};
    bool ended = false;
    int status = 0;
    pid_t child;

    snprintf(command, sizeof command, "exec '%s' %s >out.txt 2>err.txt", octet, arguments);
    file_write("out.txt", "", 0);
    child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    for (;;) {
        char *printed = file_read("out.txt", NULL);
        bool there = strstr(printed, text) != NULL;

        free(printed);
        ended = waitpid(child, &status, WNOHANG) == child;
        if (there || ended)
            break;
        nanosleep(&pause, NULL);
    }
    if (!ended) {
        kill(child, number);
        waitpid(child, &status, 0);
    }
    read_output();
    return exit_code(status);
}

static void expect(const char *in, const char *text)
{
    char what[512];

    snprintf(what, sizeof what, "expected '%s'", text);
    need(strstr(in, text) != NULL, what);
}

void program_expect_out(const char *text)
{
    expect(program_out, text);
}

void program_expect_err(const char *text)
{
    expect(program_err, text);
}

const char *program_line(const char *start, const char *end)
{
    static char line[1024];
    const char *found = NULL, *stop;

    for (const char *at = program_out; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, start, strlen(start)) == 0)
            found = at;
        if (*at == '\0')
            break;
    }
    if (!found)
        return "";
    stop = strstr(found, end);
    snprintf(line, sizeof line, "%.*s", (int)(stop ? stop - found : 0), found);
    return line;
}

static bool same_tensor(
    const struct oct_named_tensor *a, const struct oct_named_tensor *b, const char *path)
{
    if (b && a->dtype == b->dtype && a->dims == b->dims &&
        memcmp(a->dim, b->dim, sizeof a->dim[0] * (size_t)a->dims) == 0 &&
        memcmp(a->data, b->data, oct_named_tensor_bytes(a)) == 0)
        return true;
    fprintf(stderr, "%s: tensor %s differs\n", path, a->name);
    return false;
}

bool program_same_tensors(const char *path_a, const char *path_b)
{
    struct oct_safetensors *a = NULL, *b = NULL;
    bool same = oct_safetensors_open(path_a, &a) == OCT_OK &&
                oct_safetensors_open(path_b, &b) == OCT_OK &&
                oct_safetensors_count(a) == oct_safetensors_count(b);

    if (!a || !b)
        fprintf(stderr, "%s\n", oct_last_error());
    for (size_t i = 0; same && i < oct_safetensors_count(a); i++) {
        const struct oct_named_tensor *tensor = oct_safetensors_at(a, i);
        same = same_tensor(tensor, oct_safetensors_find(b, tensor->name), path_b);
    }
    oct_safetensors_close(a);
    oct_safetensors_close(b);
    return same;
}
