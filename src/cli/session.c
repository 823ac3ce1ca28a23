#include "session.h"

#include <signal.h>
#include <string.h>

/* The only mutable globals of the program: a signal handler has no other way to its trainer. */
static oct_trainer *volatile caught_trainer;
static volatile sig_atomic_t caught_signal;

static const struct {
    int number;
    const char *name;
} caught_signals[] = {{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}};

static void on_signal(int number)
{
    oct_trainer *trainer = caught_trainer;

    caught_signal = number;
    if (trainer != NULL)
        oct_trainer_stop(trainer);
}

static void set_action(void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART; /* the second time: default action */
    for (size_t i = 0; i < sizeof caught_signals / sizeof *caught_signals; i++) {
        struct sigaction present;

        sigaction(caught_signals[i].number, NULL, &present);
        if (present.sa_handler != SIG_IGN) /* nohup, and shells for background jobs */
            sigaction(caught_signals[i].number, &action, NULL);
    }
}

static const char *signal_name(int number)
{
    for (size_t i = 0; i < sizeof caught_signals / sizeof *caught_signals; i++)
        if (caught_signals[i].number == number)
            return caught_signals[i].name;
    return "a signal";
}

void oct_session_catch(oct_trainer *trainer)
{
    caught_signal = 0;
    caught_trainer = trainer;
    set_action(on_signal);
}

int oct_session_release(void)
{
    set_action(SIG_DFL);
    caught_trainer = NULL;
    return (int)caught_signal;
}

int oct_session_run(unsigned command, const struct oct_options *options, FILE *out,
    struct oct_run_info *info, struct oct_result *result)
{
    struct oct_options with_events = *options;
    struct oct_progress progress;
    oct_trainer *trainer = NULL;
    enum oct_status status;
    int number;

    oct_progress_init(&progress, out, options->epochs);
    with_events.on_event = oct_progress_event;
    with_events.user = &progress;
    status = oct_trainer_open(&with_events, &trainer);
    if (status != OCT_OK)
        return oct_library_error(command, status);
    *info = *oct_trainer_info(trainer);
    oct_progress_box(out, options, info);
    oct_session_catch(trainer);
    status = oct_trainer_run(trainer, result);
    number = oct_session_release();
    oct_progress_end(&progress);
    oct_trainer_close(trainer);
    if (status != OCT_OK && status != OCT_INTERRUPTED)
        return oct_library_error(command, status);
    if (number != 0 && (status == OCT_INTERRUPTED || result->interrupted)) {
        fprintf(out, "Stopped by %s after the running step%s\n", signal_name(number),
            options->output_dir != NULL ? "; --resume auto goes on" : "; nothing was saved");
        return 128 + number;
    }
    return OCT_EXIT_OK;
}
