/* Trains ResNet-20 on CIFAR-10 with 8-bit integer products, through the library.
 *
 *     cc train_cifar.c $(pkg-config --cflags --libs octet) -o train_cifar
 *     ./train_cifar cifar-10-batches-bin 5
 *
 * The folder holds data_batch_1.bin ... test_batch.bin. Compiles as C99 and as C++. */
#include <octet.h>

#include <stdio.h>
#include <stdlib.h>

/* The library prints nothing: what is shown, and where, is the program's choice. */
static void show(void *user, const struct oct_event *event)
{
    FILE *out = (FILE *)user;

    if (event->kind == OCT_EVENT_STEP)
        fprintf(out, "epoch %d, step %lld of %lld: loss %.4f, %.0f images/s\n", event->epoch,
            (long long)event->step_in_epoch, (long long)event->steps_per_epoch, event->loss_average,
            event->images_per_second);
    else if (event->kind == OCT_EVENT_EVAL)
        fprintf(out, "epoch %d: %.2f %% right\n", event->epoch, event->top1);
    else if (event->kind == OCT_EVENT_WARNING)
        fprintf(stderr, "warning: %s\n", event->text);
}

int main(int argc, char **argv)
{
    struct oct_options options;
    struct oct_result result;
    oct_trainer *trainer = NULL; /* closing NULL is fine, so one exit path serves all */
    int code = 1;

    if (argc < 2) {
        fprintf(stderr, "usage: train_cifar FOLDER [EPOCHS]\n");
        return 2;
    }
    oct_options_init(&options); /* every field has its default from here on */
    options.data = argv[1];
    options.dataset = "cifar10";
    options.model = "resnet20";
    options.precision = "int8";
    options.epochs = argc > 2 ? atoi(argv[2]) : 5;
    options.output_dir = "cifar-run"; /* logs, curve and checkpoints; resume goes on from there */
    options.resume = "auto";
    options.on_event = show;
    options.user = stdout;

    if (oct_trainer_open(&options, &trainer) != OCT_OK)
        goto out;
    printf("%s: %lld parameters, %.0f %% of the forward products in int8\n", options.model,
        (long long)oct_trainer_info(trainer)->parameters,
        100 * oct_trainer_info(trainer)->int8_share[0]);
    if (oct_trainer_run(trainer, &result) != OCT_OK)
        goto out;
    printf("%d epochs: %.2f %% right, %.0f images/s\n", result.epochs, result.eval_top1,
        result.images_per_second);
    code = 0;
out:
    if (code != 0)
        fprintf(stderr, "train_cifar: %s\n", oct_last_error());
    oct_trainer_close(trainer);
    return code;
}
