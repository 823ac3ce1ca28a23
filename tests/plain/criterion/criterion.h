/* The part of Criterion that our tests use, in one header, for the thread sanitizer: Criterion
 * reserves an address range that the sanitizer needs. Parameterized tests are not in it. `make
 * SANITIZE=thread` finds this header instead of the library's. As there, every test runs in a
 * process of its own. */
#ifndef OCT_PLAIN_CRITERION_H
#define OCT_PLAIN_CRITERION_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct plain_options {
    void (*init)(void);
    void (*fini)(void);
    const char *description;
    double timeout; /* seconds; 0: none */
    int disabled;
};

struct plain_suite {
    const char *name;
    struct plain_options options;
    struct plain_suite *next;
};

struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    struct plain_options options;
    struct plain_test *next;
};

static struct plain_suite *plain_suites;
static struct plain_test *plain_tests, **plain_last = &plain_tests;

#define TestSuite(SUITE, ...)                                                                      \
    static struct plain_suite plain_suite_##SUITE = {#SUITE, {__VA_ARGS__}, NULL};                 \
    __attribute__((constructor)) static void plain_add_suite_##SUITE(void)                         \
    {                                                                                              \
        plain_suite_##SUITE.next = plain_suites;                                                   \
        plain_suites = &plain_suite_##SUITE;                                                       \
    }                                                                                              \
    struct plain_suite

#define Test(SUITE, NAME, ...)                                                                     \
    static void plain_run_##SUITE##_##NAME(void);                                                  \
    static struct plain_test plain_test_##SUITE##_##NAME = {                                       \
        #SUITE, #NAME, plain_run_##SUITE##_##NAME, {__VA_ARGS__}, NULL};                           \
    __attribute__((constructor)) static void plain_add_##SUITE##_##NAME(void)                      \
    {                                                                                              \
        *plain_last = &plain_test_##SUITE##_##NAME;                                                \
        plain_last = &plain_test_##SUITE##_##NAME.next;                                            \
    }                                                                                              \
    static void plain_run_##SUITE##_##NAME(void)

__attribute__((format(printf, 4, 5), noreturn)) static inline void plain_fail(
    const char *file, int line, const char *condition, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: failed: %s:", file, line, condition);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _exit(1);
}

/* The format of a message is a literal, so a blank can be put before it or stand alone. */
#define plain_check(CONDITION, TEXT, ...)                                                          \
    do {                                                                                           \
        if (!(CONDITION))                                                                          \
            plain_fail(__FILE__, __LINE__, TEXT, " " __VA_ARGS__);                                 \
    } while (0)
#define cr_assert(CONDITION, ...) plain_check(CONDITION, #CONDITION, __VA_ARGS__)
#define cr_assert_not(CONDITION, ...) plain_check(!(CONDITION), "not " #CONDITION, __VA_ARGS__)
#define cr_assert_fail(...) plain_check(0, "reached", __VA_ARGS__)
#define cr_fatal(...) plain_check(0, "reached", __VA_ARGS__)
#define cr_assert_eq(A, B, ...) plain_check((A) == (B), #A " == " #B, __VA_ARGS__)
#define cr_assert_neq(A, B, ...) plain_check((A) != (B), #A " != " #B, __VA_ARGS__)
#define cr_assert_lt(A, B, ...) plain_check((A) < (B), #A " < " #B, __VA_ARGS__)
#define cr_assert_leq(A, B, ...) plain_check((A) <= (B), #A " <= " #B, __VA_ARGS__)
#define cr_assert_gt(A, B, ...) plain_check((A) > (B), #A " > " #B, __VA_ARGS__)
#define cr_assert_geq(A, B, ...) plain_check((A) >= (B), #A " >= " #B, __VA_ARGS__)
#define cr_assert_null(A, ...) plain_check((A) == NULL, #A " is null", __VA_ARGS__)
#define cr_assert_not_null(A, ...) plain_check((A) != NULL, #A " is not null", __VA_ARGS__)
#define cr_assert_str_eq(A, B, ...) plain_check(strcmp(A, B) == 0, #A " equals " #B, __VA_ARGS__)
#define cr_assert_float_eq(A, B, E, ...)                                                           \
    plain_check(fabs((double)(A) - (double)(B)) <= (E), #A " ~ " #B, __VA_ARGS__)
/* An expectation ends the test here too: one report is enough. */
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq
#define cr_expect_neq cr_assert_neq
#define cr_expect_lt cr_assert_lt
#define cr_expect_leq cr_assert_leq
#define cr_expect_null cr_assert_null
#define cr_expect_str_eq cr_assert_str_eq
#define cr_skip_test(...) _exit(0)
#define cr_log_info(...)                                                                           \
    do {                                                                                           \
        printf(__VA_ARGS__);                                                                       \
        putchar('\n');                                                                             \
    } while (0)

static inline void plain_run(const struct plain_test *test)
{
    const struct plain_options *fixture = &test->options;
    for (const struct plain_suite *s = plain_suites; s; s = s->next) {
        if (strcmp(s->name, test->suite) == 0 && !fixture->init)
            fixture = &s->options;
    }
    alarm((unsigned)test->options.timeout * 10); /* the sanitizer is slow */
    if (fixture->init)
        fixture->init();
    test->run();
    if (fixture->fini)
        fixture->fini();
}

int main(void)
{
    int tested = 0, failed = 0;
    for (const struct plain_test *test = plain_tests; test; test = test->next) {
        int code = 0;
        if (test->options.disabled)
            continue;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            plain_run(test);
            exit(0); /* runs the sanitizer's checks: it exits with 66 after a report */
        }
        if (child < 0 || waitpid(child, &code, 0) != child || code != 0) {
            printf("[FAIL] %s::%s (status %x)\n", test->suite, test->name, (unsigned)code);
            failed++;
        }
        tested++;
    }
    printf("tested: %d, failed: %d\n", tested, failed);
    return failed != 0;
}

#endif
