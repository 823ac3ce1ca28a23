/* The program, run as a function against the stand-in library of fake_octet.h. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#define TEXT_MAX 65536

/* What the last call of octet() printed. */
extern char out_text[TEXT_MAX], err_text[TEXT_MAX];

/* Runs `octet LINE` (words split at blanks) and returns its exit code. */
int octet(const char *line);
void expect_in(const char *text, const char *part);
/* A line that must be refused with exit code 2 and exactly this message. */
void refused(const char *line, const char *message);
/* A file of this text, the same one at every call; its path. */
const char *write_file(const char *text);

#endif
