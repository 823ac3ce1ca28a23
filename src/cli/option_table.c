/* Every option of every command, once. Names follow the field names of struct oct_options; aliases
 * are the names that users of other trainers type. */
#include "options.h"

#include <stdint.h>

#define AT(field) offsetof(struct oct_settings, field)
#define TRAIN OCT_CMD_TRAIN
#define EVAL OCT_CMD_EVAL
#define COMPARE OCT_CMD_COMPARE
#define BENCH OCT_CMD_BENCH
#define RUNS (OCT_CMD_TRAIN | OCT_CMD_EVAL | OCT_CMD_COMPARE)
#define FITS (OCT_CMD_TRAIN | OCT_CMD_COMPARE)
#define NETS (RUNS | OCT_CMD_BENCH)
#define ANALYSE OCT_CMD_ANALYSE

static const char DATA[] = "Data";
static const char NETWORK[] = "Network and arithmetic";
static const char OPTIMISE[] = "Optimisation";
static const char DEVICE[] = "Device";
static const char FOLDER[] = "Run folder";
static const char OUTPUT[] = "Command";

#define MANY 1e9
#define BIG 9e15 /* integers up to here are exact in a double */

/* clang-format off */
const struct oct_option oct_option_table[] = {
    {"data", 0, {"data-dir", "data-path"}, DATA, OCT_KIND_TEXT, AT(run.data), NULL, 0, 0, RUNS,
        "folder of CIFAR or IDX files; the same as the argument DIR"},
    {"data", 0, {"run-dir"}, DATA, OCT_KIND_TEXT, AT(run.data), NULL, 0, 0, ANALYSE,
        "folder of the recorded run; the same as the argument RUN_DIR"},
    {"dataset", 0, {0}, DATA, OCT_KIND_CHOICE, AT(run.dataset),
        "auto|cifar10|cifar100|idx|synthetic", 0, 0, RUNS, "kind of the data set"},
    {"synthetic-images", 0, {0}, DATA, OCT_KIND_INT, AT(run.synthetic_images), NULL, 1, MANY, RUNS,
        "training images of --dataset synthetic"},
    {"synthetic-images", 0, {0}, DATA, OCT_KIND_INT, AT(run.synthetic_images), NULL, 0, MANY, BENCH,
        "synthetic training images; 0: eight batches"},
    {"synthetic-size", 0, {0}, DATA, OCT_KIND_INT, AT(run.synthetic_size), NULL, 0, 4096, NETS,
        "height and width of synthetic images; 0: what the model is made for"},
    {"synthetic-classes", 0, {0}, DATA, OCT_KIND_INT, AT(run.synthetic_classes), NULL, 2, 1e6, NETS,
        "classes of synthetic data"},
    {"workers", 'j', {0}, DATA, OCT_KIND_INT, AT(run.workers), NULL, 1, 256, NETS,
        "threads that prepare batches"},
    {"augment", 0, {0}, DATA, OCT_KIND_SWITCH, AT(run.augment), NULL, 0, 1, FITS,
        "random crop with padding, and flip where it makes sense"},
    {"crop-padding", 0, {0}, DATA, OCT_KIND_INT, AT(run.crop_padding), NULL, 0, 64, FITS,
        "pixels of padding before the crop"},
    {"crop-padding-mode", 0, {0}, DATA, OCT_KIND_CHOICE, AT(run.crop_padding_mode),
        "constant|reflect", 0, 0, FITS, "what the padding holds: black, or the image mirrored"},
    {"hflip", 0, {0}, DATA, OCT_KIND_REAL, AT(run.hflip), NULL, -1, 1, FITS,
        "probability of a horizontal flip; -1: 0.5 for colour images, 0 for grey"},

    {"model", 'a', {"arch"}, NETWORK, OCT_KIND_CHOICE, AT(run.model), "@model", 0, 0, RUNS,
        "network"},
    {"model", 'a', {"arch", "models"}, NETWORK, OCT_KIND_LIST, AT(models), "@model", 0, 0, BENCH,
        "networks, as a comma list"},
    {"precision", 0, {0}, NETWORK, OCT_KIND_CHOICE, AT(run.precision), "fp32|bf16|int8", 0, 0,
        TRAIN, "arithmetic of the products"},
    {"precision", 0, {"eval-precision"}, NETWORK, OCT_KIND_CHOICE, AT(run.precision),
        "fp32|bf16|int8", 0, 0, EVAL, "arithmetic of the products"},
    {"precision", 0, {"precisions"}, NETWORK, OCT_KIND_LIST, AT(precisions), "fp32|bf16|int8", 0, 0,
        COMPARE | BENCH, "arithmetics of the products, as a comma list"},
    {"scheme", 0, {"int8-scheme"}, NETWORK, OCT_KIND_CHOICE, AT(run.scheme), "@scheme", 0, 0,
        TRAIN | EVAL, "how int8 runs choose scales (octet info --scheme NAME explains one)"},
    {"scheme", 0, {"int8-scheme", "schemes"}, NETWORK, OCT_KIND_LIST, AT(schemes), "@scheme", 0, 0,
        COMPARE | BENCH, "int8 schemes, as a comma list"},
    {"scheme", 0, {"int8-scheme"}, NETWORK, OCT_KIND_CHOICE, AT(scheme_asked), "@scheme", 0, 0,
        OCT_CMD_INFO, "explain this scheme too: source, equations, what is reconstructed"},
    {"scheme-opt", 0, {0}, NETWORK, OCT_KIND_TEXT, AT(run.scheme_opt), NULL, 0, 0, NETS,
        "options of the scheme: key=value,..."},
    {"rounding", 0, {0}, NETWORK, OCT_KIND_CHOICE, AT(run.rounding), "nearest|stochastic", 0, 0,
        NETS | ANALYSE, "rounding of gradient codes; without it the scheme's own"},
    {"refresh", 0, {0}, NETWORK, OCT_KIND_CHOICE, AT(run.refresh), "exact|bound|last", 0, 0, NETS,
        "where scales come from; without it the scheme's own"},
    {"int8-fwd", 0, {0}, NETWORK, OCT_KIND_SWITCH, AT(run.int8_fwd), NULL, 0, 1, NETS,
        "forward products in int8"},
    {"int8-dgrad", 0, {0}, NETWORK, OCT_KIND_SWITCH, AT(run.int8_dgrad), NULL, 0, 1, NETS,
        "input gradients in int8"},
    {"int8-wgrad", 0, {0}, NETWORK, OCT_KIND_SWITCH, AT(run.int8_wgrad), NULL, 0, 1, NETS,
        "weight gradients in int8"},
    {"int8-skip", 0, {0}, NETWORK, OCT_KIND_TEXT, AT(run.int8_skip), NULL, 0, 0, NETS,
        "regular expression of layers that stay in float"},
    {"first-last", 0, {0}, NETWORK, OCT_KIND_CHOICE, AT(run.first_last), "int8|int16|float", 0, 0,
        NETS | ANALYSE, "arithmetic of the first and the last layer of an int8 run"},
    {"act-dtype", 0, {0}, NETWORK, OCT_KIND_CHOICE, AT(run.act_dtype), "bf16|f32", 0, 0, NETS,
        "storage of pre-activations and their gradients in int8 runs"},
    {"simulate", 0, {0}, NETWORK, OCT_KIND_FLAG, AT(run.simulate), NULL, 0, 1, RUNS,
        "float64 products on the codes: slow, equal bits; what no code holds, in float"},

    {"epochs", 0, {0}, OPTIMISE, OCT_KIND_INT, AT(run.epochs), NULL, 1, 1e6, FITS,
        "passes over the training images"},
    {"batch-size", 'b', {0}, OPTIMISE, OCT_KIND_INT, AT(run.batch_size), NULL, 1, 65536, RUNS,
        "images per step"},
    {"batch-size", 'b', {"batch-sizes"}, OPTIMISE, OCT_KIND_NUMBERS, AT(batch_sizes), NULL, 1,
        65536, BENCH, "images per step: one number, or one per model"},
    {"grad-accum-steps", 0, {0}, OPTIMISE, OCT_KIND_INT, AT(run.grad_accum_steps), NULL, 1, 65536,
        FITS | BENCH, "batches whose gradients make one update"},
    {"max-steps", 0, {0}, OPTIMISE, OCT_KIND_INT64, AT(run.max_steps), NULL, 0, BIG, FITS,
        "stop after so many updates in all; 0: no limit"},
    {"opt", 0, {"optimizer", "optimiser"}, OPTIMISE, OCT_KIND_CHOICE, AT(optimiser), "sgd", 0, 0,
        FITS, "optimiser"},
    {"lr", 0, {"learning-rate"}, OPTIMISE, OCT_KIND_REAL, AT(run.lr), NULL, 0, 1e6, FITS | BENCH,
        "learning rate after the warm-up"},
    {"momentum", 0, {0}, OPTIMISE, OCT_KIND_REAL, AT(run.momentum), NULL, 0, 1, FITS, "momentum"},
    {"weight-decay", 0, {"wd"}, OPTIMISE, OCT_KIND_REAL, AT(run.weight_decay), NULL, 0, 1e6, FITS,
        "weight decay"},
    {"nesterov", 0, {0}, OPTIMISE, OCT_KIND_FLAG, AT(run.nesterov), NULL, 0, 1, FITS,
        "Nesterov momentum"},
    {"label-smoothing", 0, {"smoothing"}, OPTIMISE, OCT_KIND_REAL, AT(run.label_smoothing), NULL, 0,
        1, FITS, "share of the target spread over all classes"},
    {"sched", 0, {"lr-scheduler", "lr-schedule"}, OPTIMISE, OCT_KIND_CHOICE, AT(run.sched),
        "cosine|step|multistep|constant", 0, 0, FITS, "schedule of the learning rate"},
    {"warmup-epochs", 0, {"lr-warmup-epochs"}, OPTIMISE, OCT_KIND_REAL, AT(run.warmup_epochs), NULL,
        0, 1e6, FITS, "epochs of linear warm-up"},
    {"warmup-lr", 0, {0}, OPTIMISE, OCT_KIND_REAL, AT(run.warmup_lr), NULL, 0, 1e6, FITS,
        "learning rate at the start of the warm-up"},
    {"min-lr", 0, {0}, OPTIMISE, OCT_KIND_REAL, AT(run.min_lr), NULL, 0, 1e6, FITS,
        "learning rate at the end of cosine"},
    {"decay-rate", 0, {"lr-gamma"}, OPTIMISE, OCT_KIND_REAL, AT(run.decay_rate), NULL, 0, 1, FITS,
        "factor of one step of step and multistep"},
    {"decay-epochs", 0, {"lr-step-size"}, OPTIMISE, OCT_KIND_INT, AT(run.decay_epochs), NULL, 1,
        1e6, FITS, "epochs between the steps of step"},
    {"decay-milestones", 0, {0}, OPTIMISE, OCT_KIND_TEXT, AT(run.decay_milestones), NULL, 0, 0,
        FITS, "epochs of the steps of multistep, as 80,120"},
    {"model-ema", 0, {0}, OPTIMISE, OCT_KIND_FLAG, AT(run.model_ema), NULL, 0, 1, FITS,
        "keep a moving average of the weights"},
    {"model-ema-decay", 0, {0}, OPTIMISE, OCT_KIND_REAL, AT(run.model_ema_decay), NULL, 0, 1, FITS,
        "decay of that average"},
    {"seed", 0, {0}, OPTIMISE, OCT_KIND_UINT64, AT(run.seed), NULL, 0, 0, NETS | ANALYSE,
        "seed of weights, order, augmentation and rounding"},

    {"device", 0, {0}, DEVICE, OCT_KIND_TEXT, AT(run.device), NULL, 0, 0, NETS | ANALYSE,
        "device to run on: cpu, cuda, cuda:N, sim; bench also model:CARD, a prediction"},
    {"isa", 0, {0}, DEVICE, OCT_KIND_TEXT, AT(run.isa), NULL, 0, 0, NETS | ANALYSE,
        "instruction set of the kernels (octet info lists them); also OCT_ISA"},
    {"threads", 0, {0}, DEVICE, OCT_KIND_INT, AT(run.threads), NULL, 0, 1024, NETS | ANALYSE,
        "compute threads; 0: all processors"},

    {"output-dir", 0, {"output"}, FOLDER, OCT_KIND_TEXT, AT(run.output_dir), NULL, 0, 0, FITS,
        "folder for logs, curves and checkpoints; without it nothing is written"},
    {"resume", 0, {0}, FOLDER, OCT_KIND_TEXT, AT(run.resume), NULL, 0, 0, FITS,
        "go on from this checkpoint; auto: the newest usable one of --output-dir"},
    {"checkpoint", 0, {"initial-checkpoint"}, FOLDER, OCT_KIND_TEXT, AT(run.checkpoint), NULL, 0, 0,
        RUNS, "start from the weights of this checkpoint"},
    {"val-interval", 0, {0}, FOLDER, OCT_KIND_INT, AT(run.val_interval), NULL, 0, 1e6, FITS,
        "epochs between evaluations; 0: only at the end"},
    {"checkpoint-hist", 0, {0}, FOLDER, OCT_KIND_INT, AT(run.checkpoint_hist), NULL, 0, 1e6, FITS,
        "files checkpoint-EPOCH that are kept"},
    {"recovery-interval", 0, {0}, FOLDER, OCT_KIND_INT64, AT(run.recovery_interval), NULL, 0, BIG,
        FITS, "steps between recovery checkpoints inside an epoch; 0: none"},
    {"log-interval", 'p', {"print-freq"}, FOLDER, OCT_KIND_INT, AT(run.log_interval), NULL, 1, MANY,
        FITS, "steps between progress lines"},
    {"stats-interval", 0, {0}, FOLDER, OCT_KIND_INT, AT(run.stats_interval), NULL, 0, MANY, FITS,
        "steps between samples of gradient health; 0: once an epoch"},
    {"trace-hash", 0, {0}, FOLDER, OCT_KIND_FLAG, AT(run.trace_hash), NULL, 0, 1, FITS,
        "write a hash of every tensor of every step to trace.txt"},
    {"record-gradients", 0, {0}, FOLDER, OCT_KIND_INT, AT(run.record_gradients), NULL, 0, 1e6,
        TRAIN, "fp32: record so many errors with their products' operands, for octet analyse"},

    {"evaluate", 'e', {"test-only"}, OUTPUT, OCT_KIND_FLAG, AT(evaluate), NULL, 0, 1, TRAIN,
        "evaluate on the validation images and stop"},
    {"plan", 0, {0}, OUTPUT, OCT_KIND_FLAG, AT(plan), NULL, 0, 1, TRAIN,
        "print the memory plan and stop"},
    {"max-drop", 0, {0}, OUTPUT, OCT_KIND_REAL, AT(max_drop), NULL, -1, 100, COMPARE,
        "fail if an int8 run ends more points of accuracy below fp32; -1: no limit"},
    {"format", 'o', {0}, OUTPUT, OCT_KIND_CHOICE, AT(format), "md|csv|json|jsonl", 0, 0,
        COMPARE | BENCH | ANALYSE, "form of the table"},
    {"figure", 0, {0}, OUTPUT, OCT_KIND_TEXT, AT(figure), NULL, 0, 0, OCT_CMD_PLOT,
        "SVG file to write"},
    {"rounds", 'r', {"repetitions"}, OUTPUT, OCT_KIND_INT, AT(rounds), NULL, 1, 100000, BENCH,
        "timed steps of each contender"},
    {"warmup", 0, {0}, OUTPUT, OCT_KIND_INT, AT(warmup), NULL, 0, 100000, BENCH,
        "steps of each contender before timing"},
    {"layers", 0, {"detail"}, OUTPUT, OCT_KIND_FLAG, AT(layers), NULL, 0, 1, BENCH,
        "time every node of the network instead of whole steps"},
    {"append", 0, {0}, OUTPUT, OCT_KIND_TEXT, AT(append), NULL, 0, 0, BENCH,
        "append the figures to this file, one JSON line per model"},
    {"commit", 0, {0}, OUTPUT, OCT_KIND_TEXT, AT(commit), NULL, 0, 0, BENCH,
        "commit to name in that line"},
    {"config", 'c', {"config-file"}, OUTPUT, OCT_KIND_TEXT, AT(config), NULL, 0, 0, NETS,
        "YAML file of settings; flags override it"},
    {"print-config", 0, {0}, OUTPUT, OCT_KIND_FLAG, AT(print_config), NULL, 0, 1, NETS,
        "print the resolved settings as YAML and stop"},
    {"help", 'h', {0}, OUTPUT, OCT_KIND_FLAG, AT(help), NULL, 0, 1, OCT_CMD_ALL, "this text"},
};
/* clang-format on */

const size_t oct_option_count = sizeof oct_option_table / sizeof *oct_option_table;
