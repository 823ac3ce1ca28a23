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
    silent.trace_hash = 0;
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

/* What of the run that wrote a checkpoint decides its accuracy. The first two a file must say. */
static const char *const adopted[] = {"model", "precision", "data", "dataset", "synthetic_images",
    "synthetic_size", "synthetic_classes", "seed", "scheme", "scheme_opt", "rounding", "refresh",
    "int8_fwd", "int8_dgrad", "int8_wgrad", "int8_skip", "first_last", "act_dtype", "batch_size",
    "label_smoothing", "model_ema"};
enum { ADOPTED = sizeof adopted / sizeof *adopted, NEEDED = 2 };

struct adoption {
    const struct oct_settings *asked;
    struct oct_settings *settings;
    int known[NEEDED]; /* decided here or told by the file */
    int code;
};

/* 1 if the command line has the last word on `key`. */
static int decided(const struct oct_settings *settings, const char *key)
{
    if (strcmp(key, "dataset") == 0 && oct_settings_given(settings, "data"))
        return 1; /* a folder is named: what it holds shows */
    if (strcmp(key, "scheme_opt") == 0 && oct_settings_given(settings, "scheme"))
        return 1; /* options of another scheme */
    if (strcmp(key, "scheme_opt") == 0 && oct_settings_given(settings, "precision") &&
        strcmp(settings->run.precision, "int8") != 0)
        return 1; /* of none */
    return oct_settings_given(settings, key);
}

static void adopt(void *user, const char *key, const char *value)
{
    struct adoption *adoption = user;
    char shown[1200];
    size_t i = 0;

    while (i < ADOPTED && strcmp(adopted[i], key) != 0)
        i++;
    if (i == ADOPTED || adoption->code != OCT_EXIT_OK)
        return;
    if (i < NEEDED)
        adoption->known[i] = 1;
    if (value[0] == '\0' || decided(adoption->asked, key))
        return;
    snprintf(shown, sizeof shown, "%s: %s", adoption->asked->run.checkpoint, key);
    adoption->code = oct_settings_set(
        adoption->settings, OCT_CMD_EVAL, oct_option_find(OCT_CMD_TRAIN, key), shown, value);
}

/* Settings that the command line leaves open become those of the run that wrote the checkpoint. */
static int adopt_settings(const struct oct_settings *asked, struct oct_settings *settings)
{
    struct adoption adoption = {.asked = asked, .settings = settings, .code = OCT_EXIT_OK};
    const char *path = asked->run.checkpoint;
    enum oct_status status = oct_checkpoint_settings(path, adopt, &adoption);

    if (status != OCT_OK)
        return oct_library_error(OCT_CMD_EVAL, status);
    for (size_t i = 0; i < NEEDED && adoption.code == OCT_EXIT_OK; i++)
        if (!adoption.known[i] && !decided(asked, adopted[i]))
            adoption.code = oct_usage_error(OCT_CMD_EVAL,
                "%s does not say its %s: name it on the command line", path, adopted[i]);
    return adoption.code;
}

int oct_cli_eval(const struct oct_settings *settings)
{
    struct oct_settings own = *settings;
    int code;

    if (settings->run.checkpoint == NULL)
        return oct_usage_error(OCT_CMD_EVAL, "no weights; name them with --checkpoint FILE");
    own.owned = NULL; /* what is adopted, and nothing else, is freed here */
    own.owned_count = 0;
    code = adopt_settings(settings, &own);
    if (code == OCT_EXIT_OK && own.run.data == NULL && strcmp(own.run.dataset, "synthetic") != 0)
        code =
            oct_usage_error(OCT_CMD_EVAL, "no data; name the folder, or use --dataset synthetic");
    if (code == OCT_EXIT_OK)
        code = oct_cli_evaluate(OCT_CMD_EVAL, &own.run);
    oct_settings_close(&own);
    return code;
}
