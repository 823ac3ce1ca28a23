/* Runs the program itself in a private folder, for tests of whole commands. One test at a time. */
#ifndef OCT_TEST_PROGRAM_H
#define OCT_TEST_PROGRAM_H

#include <stdbool.h>

/* What the last run printed. */
extern char *program_out, *program_err;

/* Makes a folder and goes there; the program is $OCTET or the `octet` of this build. */
void program_begin(void);
/* Removes the folder. */
void program_end(void);

/* Runs `octet ARGUMENTS` through the shell and waits; its exit code, 128 + N for signal N. */
int program_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with signal `number` sent as soon as the run has printed `text`. */
int program_run_and_signal(int number, const char *text, const char *arguments);

/* Fails the test, with everything printed, unless the last run printed `text`. */
void program_expect_out(const char *text);
void program_expect_err(const char *text);

/* The last line of standard output that starts with `start`, until `end`, in a buffer that the
 * next call overwrites; "" if there is none. */
const char *program_line(const char *start, const char *end);

/* True if two checkpoints hold the same tensors, bit for bit; prints the first that differs. */
bool program_same_tensors(const char *path_a, const char *path_b);

#endif
