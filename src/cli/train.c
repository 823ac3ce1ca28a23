/* octet train */
#include "commands.h"
#include "session.h"

#include <string.h>

static int check_data(unsigned command, const struct oct_options *options)
{
    if (options->data == NULL && strcmp(options->dataset, "synthetic") != 0)
        return oct_usage_error(command, "no data; name the folder, or use --dataset synthetic");
    return OCT_EXIT_OK;
}

static int print_plan(unsigned command, const struct oct_options *options)
{
    struct oct_options silent = *options;
    oct_trainer *trainer = NULL;
    enum oct_status status;

    silent.output_dir = NULL;
    silent.trace_hash = 0;
    silent.resume = NULL;
    status = oct_trainer_open(&silent, &trainer);
    if (status != OCT_OK)
        return oct_library_error(command, status);
    fputs(oct_trainer_plan(trainer), stdout);
    oct_trainer_close(trainer);
    return OCT_EXIT_OK;
}

int oct_cli_train(const struct oct_settings *settings)
{
    struct oct_run_info info;
    struct oct_result result = {0};
    int code = check_data(OCT_CMD_TRAIN, &settings->run);

    if (code != OCT_EXIT_OK)
        return code;
    if (settings->plan)
        return print_plan(OCT_CMD_TRAIN, &settings->run);
    if (settings->evaluate)
        return oct_cli_evaluate(OCT_CMD_TRAIN, &settings->run);
    code = oct_session_run(OCT_CMD_TRAIN, &settings->run, stdout, &info, &result);
    if (code == OCT_EXIT_OK)
        printf("Done: %d epochs, %lld steps, Acc@1 %.2f (best %.2f), %.1f s of training, "
               "%.1f img/s\n",
            result.epochs, (long long)result.steps, result.eval_top1, result.best_top1,
            result.train_seconds, result.images_per_second);
    return code;
}
