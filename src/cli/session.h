/* Runs a trainer for a command: opens it, shows what it is, stops it gently on a signal. */
#ifndef OCT_CLI_SESSION_H
#define OCT_CLI_SESSION_H

#include "options.h"
#include "progress.h"

/* From here on the first SIGINT, SIGTERM or SIGHUP asks `trainer` to stop after its step and to
 * save; the second acts as if it had never been caught. */
void oct_session_catch(oct_trainer *trainer);

/* Restores the default actions; returns the signal that came since oct_session_catch, or 0. */
int oct_session_release(void);

/* Opens, prints the box to progress->out, runs and closes. *info is a copy whose strings are gone.
 * Returns an exit code; 128 + signal where a signal stopped the run after saving. */
int oct_session_run(unsigned command, const struct oct_options *options, FILE *out,
    struct oct_run_info *info, struct oct_result *result);

#endif
