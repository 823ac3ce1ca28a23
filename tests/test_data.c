/* Readers of the data sets: right bytes from good files, one clear line for bad ones. */
#include "data/data.h"
#include "oracle/oracle_data.h"
#include "support/data_files.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The fuzz targets' own entry points, fed with planned damage below. */
#define LLVMFuzzerTestOneInput fuzz_idx_one
#include "fuzz/fuzz_idx.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_cifar_one
#include "fuzz/fuzz_cifar.c"
#undef LLVMFuzzerTestOneInput

static const char fashion[] = "data/fashion-mnist-15k";

static char folder[TEST_PATH]; /* of the running test; Criterion gives each test a process */

static void set_up(void)
{
    temp_folder_create(folder);
}

static void tear_down(void)
{
    temp_folder_remove(folder);
}

TestSuite(data, .init = set_up, .fini = tear_down);

static enum oct_status try_open(
    const char *data, const char *kind, enum oct_split split, struct oct_dataset **out)
{
    struct oct_dataset_options options = {.data = data, .dataset = kind, .split = split};
    *out = NULL;
    return oct_dataset_open(&options, out);
}

static struct oct_dataset *open_or_fail(const char *data, const char *kind, enum oct_split split)
{
    struct oct_dataset *dataset;
    enum oct_status status = try_open(data, kind, split, &dataset);
    cr_assert_eq(status, OCT_OK, "%s", oct_last_error());
    return dataset;
}

/* Opening must fail with `want`, and the message must hold every text of the NULL-ended list. */
static void expect_refusal(
    const char *kind, enum oct_split split, enum oct_status want, const char *const *texts)
{
    struct oct_dataset *dataset;
    enum oct_status status = try_open(folder, kind, split, &dataset);
    cr_assert_eq(status, want, "%s: %s", oct_status_name(status), oct_last_error());
    cr_assert_null(dataset);
    cr_assert_null(strchr(oct_last_error(), '\n'), "more than one line: %s", oct_last_error());
    for (; *texts; texts++)
        cr_assert(
            strstr(oct_last_error(), *texts), "\"%s\" is not in: %s", *texts, oct_last_error());
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect_cifar_record(
    const struct oct_dataset *dataset, int64_t at, int labels, int record)
{
    cr_assert_eq(dataset->labels[at], cifar_label(labels, record), "label %lld", (long long)at);
    for (int y = 0; y < 32; y++) {
        for (int x = 0; x < 32; x++) {
            for (int c = 0; c < 3; c++)
                cr_assert_eq(dataset->images[((at * 32 + y) * 32 + x) * 3 + c],
                    cifar_value(record, y, x, c), "image %lld y %d x %d c %d", (long long)at, y, x,
                    c);
        }
    }
}

static void expect_cifar10(const char *data, const char *kind)
{
    struct oct_dataset *train = open_or_fail(data, kind, OCT_TRAIN);
    struct oct_dataset *val = open_or_fail(data, kind, OCT_VAL);
    cr_assert_str_eq(train->name, "cifar10");
    cr_assert(train->count == 10 && val->count == 2 && train->classes == 10);
    cr_assert(train->h == 32 && train->w == 32 && train->c == 3);
    cr_assert(train->mean[2] == 0.4465 && train->std[0] == 0.2470 && val->std[2] == 0.2616);
    for (int i = 0; i < 10; i++)
        expect_cifar_record(train, i, 1, i);
    for (int i = 0; i < 2; i++)
        expect_cifar_record(val, i, 1, 100 + i);
    oct_dataset_close(train);
    oct_dataset_close(val);
}

Test(data, cifar10_from_its_folder_and_from_the_parent)
{
    char inside[TEST_PATH + 32];
    cifar10_dataset_write(folder);
    expect_cifar10(folder, "auto");
    expect_cifar10(folder, NULL);
    expect_cifar10(folder, "cifar10");
    tear_down();
    cr_assert_eq(mkdir(folder, 0700), 0);
    snprintf(inside, sizeof inside, "%s/cifar-10-batches-bin", folder);
    cr_assert_eq(mkdir(inside, 0700), 0);
    cifar10_dataset_write(inside);
    expect_cifar10(folder, "auto");
    expect_cifar10(folder, "cifar10");
}

Test(data, cifar100_takes_the_fine_label)
{
    cifar100_dataset_write(folder);
    struct oct_dataset *train = open_or_fail(folder, "auto", OCT_TRAIN);
    struct oct_dataset *val = open_or_fail(folder, "cifar100", OCT_VAL);
    cr_assert_str_eq(train->name, "cifar100");
    cr_assert(train->count == 3 && val->count == 2 && train->classes == 100);
    cr_assert(train->mean[0] == 0.5071 && train->std[2] == 0.2762);
    for (int i = 0; i < 3; i++)
        expect_cifar_record(train, i, 2, i);
    expect_cifar_record(val, 1, 2, 101);
    oct_dataset_close(train);
    oct_dataset_close(val);
}

static void expect_tiny_idx(void)
{
    struct oct_dataset *train = open_or_fail(folder, "auto", OCT_TRAIN);
    struct oct_dataset *val = open_or_fail(folder, "idx", OCT_VAL);
    cr_assert_str_eq(val->name, "idx");
    cr_assert(train->count == 7 && val->count == 5 && val->classes == 3);
    cr_assert(val->h == 4 && val->w == 4 && val->c == 1);
    for (int i = 0; i < 7 * 16; i++)
        cr_assert_eq(train->images[i], i);
    for (int i = 0; i < 5 * 16; i++)
        cr_assert_eq(val->images[i], i);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(val->labels[i], i % 3);
    /* 0 to 111: mean 55.5, variance (112^2 - 1) / 12; both splits report it. Two roundings of
     * the division and the root each stay within 2^-52 relative. */
    cr_assert(fabs(val->mean[0] - 55.5 / 255) <= 55.5 / 255 * 0x1p-51);
    cr_assert(fabs(val->std[0] - sqrt(12543 / 12.0) / 255) <= 0x1p-51);
    cr_assert(train->mean[0] == val->mean[0] && train->std[0] == val->std[0]);
    oct_dataset_close(train);
    oct_dataset_close(val);
}

static void rename_in_folder(const char *from, const char *to)
{
    char old[TEST_PATH + 64], new[TEST_PATH + 64];
    snprintf(old, sizeof old, "%s/%s", folder, from);
    snprintf(new, sizeof new, "%s/%s", folder, to);
    cr_assert_eq(rename(old, new), 0);
}

Test(data, idx_plain_gzip_and_with_a_dot)
{
    idx_dataset_write(folder, 7, 5, "");
    expect_tiny_idx();
    rename_in_folder("train-images-idx3-ubyte", "train-images.idx3-ubyte");
    rename_in_folder("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte");
    expect_tiny_idx();
    tear_down();
    cr_assert_eq(mkdir(folder, 0700), 0);
    idx_dataset_write(folder, 7, 5, ".gz");
    expect_tiny_idx();
    rename_in_folder("train-labels-idx1-ubyte.gz", "train-labels.idx1-ubyte.gz");
    expect_tiny_idx();
}

Test(data, built_in_fashion_mnist)
{
    struct oct_dataset *train = open_or_fail(fashion, "auto", OCT_TRAIN);
    struct oct_dataset *val = open_or_fail(fashion, "auto", OCT_VAL);
    int64_t counts[10] = {0};
    double mean, std;
    cr_assert(train->count == 15000 && val->count == 10000 && train->classes == 10);
    cr_assert(train->h == 28 && train->w == 28 && train->c == 1);
    /* The oracle rounds 255 n terms of at most 1 in 64-bit mantissas: below 2^24 * 2^-64. */
    oracle_mean_std(train->images, train->count * 784, 1, 0, &mean, &std);
    cr_assert(fabs(train->mean[0] - mean) <= 0x1p-40 && fabs(train->std[0] - std) <= 0x1p-38);
    cr_assert(val->mean[0] == train->mean[0] && val->std[0] == train->std[0]);
    for (int64_t i = 0; i < val->count; i++)
        counts[val->labels[i]]++;
    for (int k = 0; k < 10; k++)
        cr_assert_eq(counts[k], 1000, "class %d: %lld", k, (long long)counts[k]);
    cr_assert(train->labels[0] == 9 && train->labels[1] == 0 && val->labels[0] == 9);
    oct_dataset_close(train);
    oct_dataset_close(val);
}

static struct oct_dataset_options synthetic_options(enum oct_split split, uint64_t seed)
{
    return (struct oct_dataset_options){.dataset = "synthetic",
        .split = split,
        .images = 400,
        .size = 16,
        .channels = 3,
        .classes = 10,
        .seed = seed};
}

static struct oct_dataset *synthetic(enum oct_split split, uint64_t seed)
{
    struct oct_dataset_options options = synthetic_options(split, seed);
    struct oct_dataset *dataset = NULL;
    cr_assert_eq(oct_dataset_open(&options, &dataset), OCT_OK, "%s", oct_last_error());
    return dataset;
}

Test(data, synthetic_depends_on_seed_and_split_only)
{
    struct oct_dataset *a = synthetic(OCT_TRAIN, 1), *b = synthetic(OCT_TRAIN, 1);
    struct oct_dataset *other = synthetic(OCT_TRAIN, 2), *val = synthetic(OCT_VAL, 1);
    size_t bytes = 400 * 16 * 16 * 3;
    cr_assert_eq(a->count, 400);
    cr_assert_eq(val->count, 100);
    cr_assert_eq(memcmp(a->images, b->images, bytes), 0);
    cr_assert_neq(memcmp(a->images, other->images, bytes), 0);
    /* Image i of both splits has the same pattern. Independent noise, uniform over 192 values,
     * differs by 64 on average; shared noise would leave the small difference in contrast. */
    int64_t apart = 0;
    for (size_t i = 0; i < bytes / 4; i++)
        apart += abs(a->images[i] - val->images[i]);
    cr_assert(apart > 50 * (int64_t)bytes / 4, "%lld", (long long)apart);
    for (int c = 0; c < 3; c++) {
        double mean, std; /* tolerance: as in built_in_fashion_mnist */
        oracle_mean_std(a->images, 400 * 256, 3, c, &mean, &std);
        cr_assert(fabs(a->mean[c] - mean) <= 0x1p-40 && fabs(a->std[c] - std) <= 0x1p-38);
        cr_assert(val->mean[c] == a->mean[c] && val->std[c] == a->std[c]);
    }
    oct_dataset_close(a);
    oct_dataset_close(b);
    oct_dataset_close(other);
    oct_dataset_close(val);
}

/* Share of `val` whose nearest class mean of `train` is the right one, over the first `bytes`
 * bytes of an image. */
static double nearest_mean_accuracy(
    const struct oct_dataset *train, const struct oct_dataset *val, int bytes)
{
    int64_t image = (int64_t)train->h * train->w * train->c;
    double *means = calloc((size_t)(train->classes * bytes), sizeof *means);
    int64_t right = 0;
    for (int64_t i = 0; i < train->count; i++) {
        for (int j = 0; j < bytes; j++)
            means[train->labels[i] * bytes + j] +=
                (double)train->images[i * image + j] * train->classes / (double)train->count;
    }
    for (int64_t i = 0; i < val->count; i++) {
        double best = INFINITY;
        int choice = 0;
        for (int k = 0; k < train->classes; k++) {
            double distance = 0;
            for (int j = 0; j < bytes; j++) {
                double d = val->images[i * image + j] - means[k * bytes + j];
                distance += d * d;
            }
            choice = distance < best ? k : choice;
            best = fmin(best, distance);
        }
        right += choice == val->labels[i];
    }
    free(means);
    return (double)right / (double)val->count;
}

Test(data, synthetic_can_be_learned_but_not_from_one_pixel)
{
    struct oct_dataset *train = synthetic(OCT_TRAIN, 5), *val = synthetic(OCT_VAL, 5);
    double whole = nearest_mean_accuracy(train, val, 16 * 16 * 3);
    double pixel = nearest_mean_accuracy(train, val, 3);
    cr_log_info("synthetic: nearest class mean %.2f, from one pixel %.2f", whole, pixel);
    cr_assert(whole >= 0.9, "%.2f", whole);
    cr_assert(pixel <= 0.5, "%.2f", pixel);
    oct_dataset_close(train);
    oct_dataset_close(val);
}

Test(data, synthetic_refuses_senseless_sizes)
{
    const struct oct_dataset_options cases[] = {
        {.images = 0, .size = 8, .channels = 3, .classes = 10},
        {.images = 9, .size = 8, .channels = 3, .classes = 10},
        {.images = 20, .size = 0, .channels = 3, .classes = 10},
        {.images = 20, .size = 1 << 20, .channels = 3, .classes = 10},
        {.images = 20, .size = 8, .channels = 5, .classes = 10},
        {.images = 20, .size = 8, .channels = 3, .classes = -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_dataset_options options = cases[i];
        struct oct_dataset *dataset = NULL;
        options.dataset = "synthetic";
        cr_assert_eq(oct_dataset_open(&options, &dataset), OCT_ARG, "case %zu", i);
        cr_assert_null(dataset);
    }
}

Test(data, missing_empty_and_ambiguous_folders)
{
    struct oct_dataset *dataset;
    cr_assert_eq(try_open(NULL, "auto", OCT_TRAIN, &dataset), OCT_ARG);
    cr_assert_eq(try_open("/no/such/folder", "auto", OCT_TRAIN, &dataset), OCT_IO);
    cr_assert(strstr(oct_last_error(), "/no/such/folder: No such file"));
    cr_assert(strstr(oct_last_error(), "train.bin"));
    cr_assert_eq(try_open("Makefile", "auto", OCT_TRAIN, &dataset), OCT_IO);
    cr_assert(strstr(oct_last_error(), "not a folder"));
    expect_refusal("auto", OCT_TRAIN, OCT_IO,
        TEXTS(folder, "data_batch_1.bin", "train.bin", "train-images-idx3-ubyte",
            "cifar-10-batches-bin", "fetch-cifar10"));
    expect_refusal("imagenet", OCT_TRAIN, OCT_ARG, TEXTS("imagenet", "cifar100"));
    cifar10_dataset_write(folder);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS(folder, "\"idx\"", "train-images"));
    idx_dataset_write(folder, 3, 3, "");
    expect_refusal("auto", OCT_TRAIN, OCT_ARG, TEXTS(folder, "cifar10", "idx"));
    oct_dataset_close(open_or_fail(folder, "idx", OCT_TRAIN));
}

Test(data, damaged_cifar_files)
{
    struct bytes good = cifar_bytes(1, 2, 0);
    cifar10_dataset_write(folder);
    data_file_write(folder, "data_batch_4.bin", good.bytes, good.count - 1);
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("data_batch_4.bin", "6145", "3073"));
    data_file_write(folder, "data_batch_4.bin", good.bytes, 0);
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("data_batch_4.bin", "holds 0 bytes"));
    good.bytes[3073] = 10;
    data_file_write(folder, "data_batch_4.bin", good.bytes, good.count);
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("data_batch_4.bin", "record 1", "label 10"));
    data_file_remove(folder, "data_batch_4.bin");
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("data_batch_4.bin", "No such file"));
    oct_dataset_close(open_or_fail(folder, "auto", OCT_VAL));
    free(good.bytes);
}

Test(data, damaged_cifar100_labels)
{
    struct bytes good = cifar_bytes(2, 2, 0);
    cifar100_dataset_write(folder);
    good.bytes[0] = 20;
    data_file_write(folder, "train.bin", good.bytes, good.count);
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("record 0", "label 20", "0 to 19"));
    good.bytes[0] = 19;
    good.bytes[1] = 100;
    data_file_write(folder, "train.bin", good.bytes, good.count);
    expect_refusal("auto", OCT_TRAIN, OCT_IO, TEXTS("record 0", "label 100", "0 to 99"));
    free(good.bytes);
}

/* Writes an IDX file of its own dimensions over a good one. */
static void put_idx(const char *name, int rank, uint32_t d0, uint32_t d1, uint32_t d2)
{
    const uint32_t dims[3] = {d0, d1, d2};
    struct bytes made = idx_bytes(rank, dims, 0, 0);
    data_file_write(folder, name, made.bytes, made.count);
    free(made.bytes);
}

Test(data, idx_files_that_do_not_belong_together)
{
    idx_dataset_write(folder, 6, 3, "");
    put_idx("train-labels-idx1-ubyte", 1, 5, 1, 1);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("6 images", "5 labels"));
    idx_dataset_write(folder, 6, 3, "");
    put_idx("t10k-images-idx3-ubyte", 3, 3, 4, 5);
    expect_refusal("idx", OCT_VAL, OCT_IO, TEXTS("t10k", "4x5", "4x4"));
    idx_dataset_write(folder, 2, 3, ""); /* training labels 0 and 1 only */
    expect_refusal("idx", OCT_VAL, OCT_IO, TEXTS("t10k-labels", "label 2 of image 2", "0 to 1"));
    put_idx("train-images-idx3-ubyte", 1, 5, 1, 1);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("train-images", "00000801", "00000803"));
    data_file_remove(folder, "t10k-labels-idx1-ubyte");
    idx_dataset_write(folder, 3, 3, "");
    data_file_remove(folder, "t10k-labels-idx1-ubyte");
    expect_refusal("idx", OCT_VAL, OCT_IO, TEXTS("t10k-labels-idx1-ubyte", "t10k-labels.idx1"));
    oct_dataset_close(open_or_fail(folder, "idx", OCT_TRAIN));
}

Test(data, idx_headers_that_lie)
{
    uint32_t dims[3] = {3, 4, 4};
    struct bytes good = idx_bytes(3, dims, 0, 1);
    struct bytes huge = {malloc(good.count), good.count};
    idx_dataset_write(folder, 3, 3, "");
    data_file_write(folder, "train-images-idx3-ubyte", good.bytes, good.count - 1);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("48 bytes", "holds 47"));
    /* 2^31 - 1 images of 4096x4096: plain and inside gzip, no memory may be asked for. */
    memcpy(huge.bytes, good.bytes, good.count);
    memcpy(huge.bytes + 4, "\x7f\xff\xff\xff\x00\x00\x10\x00\x00\x00\x10\x00", 12);
    data_file_write(folder, "train-images-idx3-ubyte", huge.bytes, huge.count);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("36028797002186752", "holds 48"));
    struct bytes packed = gzip_bytes(huge);
    data_file_write(folder, "train-images-idx3-ubyte", packed.bytes, packed.count);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("36028797002186752", "can expand"));
    huge.bytes[8] = 0xff;
    data_file_write(folder, "train-images-idx3-ubyte", huge.bytes, huge.count);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("dimension 1", "4096"));
    put_idx("train-images-idx3-ubyte", 3, 3, 4, 0);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("dimension 2 is 0"));
    put_idx("train-images-idx3-ubyte", 3, 0, 4, 4);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("dimension 0 is 0"));
    free(packed.bytes);
    free(huge.bytes);
    free(good.bytes);
}

Test(data, constant_pictures_have_a_deviation_of_one_grey_level)
{
    idx_dataset_write(folder, 3, 3, "");
    put_idx("train-images-idx3-ubyte", 3, 3, 4, 4);
    struct oct_dataset *dataset = open_or_fail(folder, "idx", OCT_VAL);
    cr_assert(dataset->mean[0] == 0 && dataset->std[0] == 1 / 255.0);
    oct_dataset_close(dataset);
}

Test(data, gzip_that_ends_early_or_is_damaged)
{
    uint32_t dims[3] = {3, 4, 4};
    struct bytes plain = idx_bytes(3, dims, 0, 7), packed = gzip_bytes(plain);
    idx_dataset_write(folder, 3, 3, ".gz");
    for (size_t length = 0; length < packed.count; length++) {
        struct oct_dataset *dataset;
        data_file_write(folder, "train-images-idx3-ubyte.gz", packed.bytes, length);
        cr_assert_eq(try_open(folder, "idx", OCT_TRAIN, &dataset), OCT_IO, "length %zu", length);
        cr_assert(strstr(oct_last_error(), "train-images"), "%s", oct_last_error());
    }
    packed.bytes[packed.count - 5] ^= 1; /* the checksum */
    data_file_write(folder, "train-images-idx3-ubyte.gz", packed.bytes, packed.count);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("train-images", "data check"));
    plain.bytes[7] = 2; /* one image fewer than data */
    free(packed.bytes);
    packed = gzip_bytes(plain);
    data_file_write(folder, "train-images-idx3-ubyte.gz", packed.bytes, packed.count);
    expect_refusal("idx", OCT_TRAIN, OCT_IO, TEXTS("train-images", "more data"));
    free(plain.bytes);
    free(packed.bytes);
}

/* Every truncation, then random damage of `valid`, through a fuzz target. `selector`: its first
 * byte. `stride`: lengths between truncations. */
struct damage {
    int (*target)(const uint8_t *data, size_t size);
    struct bytes valid;
    uint8_t selector;
    int stride, flips;
    uint64_t seed;
};

static void feed_damage(const struct damage *damage)
{
    size_t count = damage->valid.count;
    uint8_t *input = malloc(count + 1);
    printf("damage: selector %d, %zu bytes, seed %llu\n", damage->selector, count,
        (unsigned long long)damage->seed);
    for (size_t length = 0; length <= count; length += (size_t)damage->stride) {
        uint8_t *exact = malloc(length + 1); /* an over-read is one byte past this block */
        exact[0] = damage->selector;
        memcpy(exact + 1, damage->valid.bytes, length);
        damage->target(exact, length + 1);
        free(exact);
    }
    for (int i = 0; i < damage->flips; i++) {
        struct oct_philox draw =
            oct_random(damage->seed, OCT_RNG_INIT, damage->selector, (uint64_t)i);
        memcpy(input + 1, damage->valid.bytes, count);
        input[0] = damage->selector;
        /* Mostly one flipped bit; sometimes three, half of them in the first 24 bytes. */
        for (uint32_t j = 0; j < 1 + draw.v[0] % 2 * 2; j++) {
            size_t range = draw.v[3] >> j & 1 && count > 24 ? 24 : count;
            size_t bit = (draw.v[1] + j * (size_t)draw.v[2]) % (8 * range);
            input[1 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        damage->target(input, count + 1);
    }
    free(input);
}

Test(data, planned_damage_to_idx_files, .timeout = 120)
{
    const uint32_t dims[3] = {3, 4, 4};
    struct bytes images = idx_bytes(3, dims, 0, 1), labels = idx_bytes(1, dims, 0, 1);
    struct bytes packed_images = gzip_bytes(images), packed_labels = gzip_bytes(labels);
    const struct bytes files[] = {images, labels, packed_images, packed_labels};
    for (int i = 0; i < 4; i++) {
        for (int split = 0; split < 2; split++) {
            struct damage damage = {fuzz_idx_one, files[i], (uint8_t)(2 * split + i % 2), 1, 2000,
                20240u + (unsigned)i};
            feed_damage(&damage);
        }
        free(files[i].bytes);
    }
    cr_assert(1);
}

Test(data, planned_damage_to_cifar_files, .timeout = 120)
{
    struct bytes ten = cifar_bytes(1, 2, 0), hundred = cifar_bytes(2, 2, 0);
    for (uint8_t selector = 0; selector < 4; selector++) {
        struct damage damage = {fuzz_cifar_one, selector % 2 ? hundred : ten, selector,
            selector < 2 ? 1 : 61, 2000, 30240u + selector};
        feed_damage(&damage);
    }
    free(ten.bytes);
    free(hundred.bytes);
    cr_assert(1);
}

Test(data, close_accepts_null)
{
    oct_dataset_close(NULL);
    cr_assert(1);
}
