/* octet eval */
#include "commands.h"
#include "progress.h"

#include <string.h>

int oct_cli_evaluate(unsigned command, const struct oct_options *options)
{
    struct oct_options silent = *options;
    struct oct_eval_result result;
    oct_trainer *trainer = NULL;
    enum oct_status status;

    /* Only the weights count here: a resumed run would open the run folder for writing. */
    if (options->resume != NULL && strcmp(options->resume, "auto") == 0)
        return oct_usage_error(command, "--evaluate with --resume auto: name the checkpoint file");
    if (options->resume != NULL)
        silent.checkpoint = options->resume;
    silent.resume = NULL;
    silent.output_dir = NULL;
    status = oct_trainer_open(&silent, &trainer);
    if (status != OCT_OK)
        return oct_library_error(command, status);
    oct_progress_box(stdout, &silent, oct_trainer_info(trainer));
    status = oct_trainer_evaluate(trainer, &result);
    oct_trainer_close(trainer);
    if (status != OCT_OK)
        return oct_library_error(command, status);
    oct_progress_accuracy(stdout, result.top1, result.top5);
    printf(" Loss %.4e Time %.1f\n%lld images in %s\n", result.loss, result.seconds,
        (long long)result.images, options->precision);
    return OCT_EXIT_OK;
}

int oct_cli_eval(const struct oct_settings *settings)
{
    if (settings->run.checkpoint == NULL)
        return oct_usage_error(OCT_CMD_EVAL, "no weights; name them with --checkpoint FILE");
    if (settings->run.data == NULL && strcmp(settings->run.dataset, "synthetic") != 0)
        return oct_usage_error(
            OCT_CMD_EVAL, "no data; name the folder, or use --dataset synthetic");
    return oct_cli_evaluate(OCT_CMD_EVAL, &settings->run);
}
