/* safetensors files: the writer against bytes written down by hand, the reader against files that
 * lie, are cut off or damaged. */
#include "support/folder.h"
#include "train/safetensors.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;

static void setup(void)
{
    dir = folder_make();
}

static void teardown(void)
{
    folder_remove(dir);
}

TestSuite(safetensors, .init = setup, .fini = teardown);

/* Writes the length prefix, `header` and `data_bytes` bytes 0, 1, 2, ... */
static const char *write_raw(const char *header, size_t data_bytes)
{
    size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (unsigned char)i;
    const char *path = folder_path(dir, "raw.safetensors");
    file_write(path, bytes, 8 + length + data_bytes);
    free(bytes);
    return path;
}

static void expect_refused(
    const char *path, enum oct_status want, const char *fragment, const char *what)
{
    struct oct_safetensors *file = (void *)1;
    enum oct_status status = oct_safetensors_open(path, &file);
    cr_expect(status == want, "%s: status %d, expected %d (%s)", what, status, want,
        status == OCT_OK ? "accepted" : oct_last_error());
    if (status == OCT_OK)
        return;
    cr_expect(file == (void *)1, "%s: the output was touched", what);
    cr_expect(
        strstr(oct_last_error(), path) != NULL, "%s: no file name in: %s", what, oct_last_error());
    cr_expect(strstr(oct_last_error(), fragment) != NULL, "%s: no '%s' in: %s", what, fragment,
        oct_last_error());
    cr_expect(strchr(oct_last_error(), '\n') == NULL, "%s: more than one line", what);
}

static float weights[6] = {0.0f, -0.0f, 1.5f, -2.25f, 1e-30f, 3e38f};
static int8_t codes[5] = {-127, -1, 0, 1, 127};
static int64_t step = INT64_C(-0x0123456789abcdef);
static uint16_t halves[2] = {0x3f80, 0x7fc0};
static uint8_t pixels[3] = {0, 128, 255};
static int32_t counts[2] = {INT32_MIN, INT32_MAX};
static double moments[2] = {0.1, -1e300};

static const struct oct_named_tensor all[] = {
    {"conv1.weight", OCT_F32, 5, {1, 2, 1, 3, 1}, weights},
    {"codes \"quoted\" \xc3\xa9", OCT_S8, 1, {5}, codes},
    {"step", OCT_S64, 0, {0}, &step},
    {"empty", OCT_F32, 2, {0, 7}, NULL},
    {"y", OCT_BF16, 2, {2, 1}, halves},
    {"x", OCT_U8, 3, {1, 3, 1}, pixels},
    {"n", OCT_S32, 1, {2}, counts},
    {"m", OCT_F64, 1, {2}, moments},
};
enum { ALL = sizeof all / sizeof all[0] };

static const struct oct_metadata notes[] = {{"octet.args", "line 1\nline 2\ttab"}, {"empty", ""}};

Test(safetensors, round_trip_keeps_every_bit)
{
    const char *path = folder_path(dir, "all.safetensors");
    struct oct_safetensors *file;
    cr_assert(oct_safetensors_write(path, all, ALL, notes, 2) == OCT_OK, "%s", oct_last_error());
    cr_assert(oct_safetensors_open(path, &file) == OCT_OK, "%s", oct_last_error());
    cr_assert(oct_safetensors_count(file) == ALL);
    for (size_t i = 0; i < ALL; i++) {
        const struct oct_named_tensor *got = oct_safetensors_find(file, all[i].name);
        cr_assert(got != NULL, "%s is missing", all[i].name);
        cr_expect(got->dtype == all[i].dtype && got->dims == all[i].dims, "%s", all[i].name);
        cr_expect(memcmp(got->dim, all[i].dim, sizeof(int64_t) * (size_t)got->dims) == 0);
        cr_expect((uintptr_t)got->data % 64 == 0, "%s is not aligned", all[i].name);
        size_t bytes = oct_named_tensor_bytes(&all[i]);
        cr_expect(bytes == 0 || memcmp(got->data, all[i].data, bytes) == 0, "%s", all[i].name);
    }
    cr_expect(oct_safetensors_find(file, "absent") == NULL);
    cr_expect(oct_safetensors_at(file, ALL) == NULL);
    cr_expect(oct_safetensors_metadata(file, "absent") == NULL);
    cr_expect_str_eq(oct_safetensors_metadata(file, "octet.args"), notes[0].value);
    cr_expect_str_eq(oct_safetensors_metadata(file, "empty"), "");
    cr_expect(folder_count(dir, "") == 1, "a temporary file stayed");
    oct_safetensors_close(file);
    oct_safetensors_close(NULL);
}

/* The format as its specification states it, byte by byte. XXH3-64 of "" is the published
 * 2d06800538d394c2. */
Test(safetensors, writer_bytes)
{
    const char *path = folder_path(dir, "one.safetensors");
    size_t bytes;
    cr_assert(oct_safetensors_write(path, NULL, 0, NULL, 0) == OCT_OK, "%s", oct_last_error());
    char *text = file_read(path, &bytes);
    const char *want = "{\"__metadata__\":{\"octet.checksum\":\"2d06800538d394c2\"}}";
    cr_expect(bytes == 64 && memcmp(text, "\x38\0\0\0\0\0\0\0", 8) == 0, "%zu bytes", bytes);
    cr_expect(strncmp(text + 8, want, strlen(want)) == 0, "%s", text + 8);
    free(text);

    struct oct_named_tensor two[] = {
        {"b", OCT_U8, 1, {3}, pixels}, {"a", OCT_S32, 2, {1, 2}, counts}};
    cr_assert(oct_safetensors_write(path, two, 2, NULL, 0) == OCT_OK, "%s", oct_last_error());
    text = file_read(path, &bytes);
    unsigned char length = (unsigned char)text[0];
    cr_expect((8 + length) % 64 == 0 && bytes == 8u + length + 3 + 8);
    cr_expect(strncmp(text + 8,
                  "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                  "\"a\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[3,11]},",
                  100) == 0,
        "%s", text + 8);
    cr_expect(text[8 + length - 1] == ' ', "padding is spaces");
    cr_expect(memcmp(text + 8 + length, pixels, 3) == 0, "given order, no gap");
    cr_expect(memcmp(text + 8 + length + 3, counts, 8) == 0, "given order, no gap");
    free(text);
}

/* A file of another writer: no metadata, data in another order than the header, unaligned. */
Test(safetensors, reads_foreign_order)
{
    const char *path =
        write_raw("{\"late\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]},"
                  "\"early\":{\"shape\":[],\"data_offsets\":[0,1],\"dtype\":\"U8\"}}   ",
            9);
    struct oct_safetensors *file;
    cr_assert(oct_safetensors_open(path, &file) == OCT_OK, "%s", oct_last_error());
    cr_expect_str_eq(oct_safetensors_at(file, 0)->name, "early");
    const struct oct_named_tensor *late = oct_safetensors_find(file, "late");
    cr_expect((uintptr_t)late->data % 64 == 0);
    cr_expect(memcmp(late->data, "\1\2\3\4\5\6\7\10", 8) == 0);
    oct_safetensors_close(file);
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define A "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"

static const struct {
    const char *header;
    size_t data_bytes;
    enum oct_status status;
    const char *fragment;
} lies[] = {
    {"", 0, OCT_IO, "at least 10"},
    {"{", 1, OCT_IO, "header"},
    {"[]", 0, OCT_IO, "'{'"},
    {" {}", 0, OCT_IO, "'{'"},
    {"{}x", 0, OCT_IO, "JSON"},
    {"{}", 1, OCT_IO, "end at byte 0"},
    {"{\"\xff\":1}", 0, OCT_IO, "decode byte 0xff"},
    {"{\"a\":1,\"a\":1}", 0, OCT_IO, "uplicate"},
    {"{\"a\":1}", 0, OCT_IO, "'a' is not an object"},
    {"{\"a\":{}}", 0, OCT_IO, "'a' is not an object of"},
    {"{\"__metadata__\":[]}", 0, OCT_IO, "object of strings"},
    {"{\"__metadata__\":{\"k\":1}}", 0, OCT_IO, "'k' is not a string"},
    {"{\"__metadata__\":{\"octet.checksum\":\"0\"}}", 0, OCT_IO, "2d06800538d394c2"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, OCT_IO, "name"},
    {"{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, OCT_IO, "name"},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, OCT_IO, "JSON"},
    {T("F32", "[1]", "[0,4]"), 3, OCT_IO, "spans bytes 0 to 4 of a data section of 3"},
    {T("F32", "[1]", "[0,4]"), 5, OCT_IO, "end at byte 4"},
    {T("F32", "[1]", "[1,5]"), 5, OCT_IO, "hole"},
    {T("F32", "[1]", "[4,0]"), 4, OCT_IO, "spans bytes 4 to 0"},
    {T("F32", "[1]", "[-4,0]"), 4, OCT_IO, "spans bytes -4"},
    {T("F32", "[2]", "[0,4]"), 4, OCT_IO, "need 8"},
    {T("F32", "[1]", "[0,4,4]"), 4, OCT_IO, "two integers"},
    {T("F32", "[1]", "[0,4.0]"), 4, OCT_IO, "two integers"},
    {T("F32", "[1]", "4"), 4, OCT_IO, "two integers"},
    {T("F32", "[1]", "[0,99999999999999999999]"), 4, OCT_IO, "JSON"},
    {T("F32", "4", "[0,4]"), 4, OCT_IO, "shape array"},
    {T("F32", "[-1]", "[0,4]"), 4, OCT_IO, "integer >= 0"},
    {T("F32", "[0,-1]", "[0,0]"), 0, OCT_IO, "integer >= 0"},
    {T("F32", "[1.0]", "[0,4]"), 4, OCT_IO, "integer >= 0"},
    {T("U8", "[4294967296,4294967296]", "[0,0]"), 0, OCT_IO, "exceeds"},
    {T("F64", "[2305843009213693952]", "[0,0]"), 0, OCT_IO, "exceeds"},
    {T("F32", "[1,1,1,1,1,1]", "[0,4]"), 4, OCT_UNSUPPORTED, "6 dimensions"},
    {T("F16", "[2]", "[0,4]"), 4, OCT_UNSUPPORTED, "'t' has dtype F16"},
    {T("U16", "[2]", "[0,4]"), 4, OCT_UNSUPPORTED, "'t' has dtype U16"},
    {"{\"t\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, OCT_IO, "dtype string"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, OCT_IO, "overlap"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, OCT_IO, "overlap"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}", 6, OCT_IO, "hole"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}", 1, OCT_IO,
        "not an object of"},
};

Test(safetensors, refuses_headers_that_lie)
{
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        expect_refused(write_raw(lies[i].header, lies[i].data_bytes), lies[i].status,
            lies[i].fragment, lies[i].header);
}

Test(safetensors, name_length_limit)
{
    char header[512], name[257];
    for (int length = 255; length <= 256; length++) {
        memset(name, 'n', sizeof name);
        name[length] = '\0';
        snprintf(header, sizeof header,
            "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
        struct oct_safetensors *file = NULL;
        enum oct_status status = oct_safetensors_open(write_raw(header, 0), &file);
        cr_expect(status == (length == 255 ? OCT_OK : OCT_IO), "length %d", length);
        oct_safetensors_close(file);
    }
}

Test(safetensors, refuses_what_is_no_file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", folder_path(dir, "pipe"));
    expect_refused(folder_path(dir, "absent"), OCT_IO, "No such file", "absent");
    expect_refused(dir, OCT_IO, "regular file", "folder");
    cr_assert(mkfifo(path, 0600) == 0);
    expect_refused(path, OCT_IO, "regular file", "named pipe");
    file_write(folder_path(dir, "huge"), "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    expect_refused(folder_path(dir, "huge"), OCT_IO, "18446744073709551615", "length 2^64 - 1");
}

/* The limit of 100 MB for the header holds even where the file is large enough (sparse here). */
Test(safetensors, refuses_huge_header)
{
    const char *path = folder_path(dir, "sparse");
    file_write(path, "\x01\xe1\xf5\x05\0\0\0\0{}", 10); /* 100,000,001 */
    cr_assert(truncate(path, 200 * 1000 * 1000) == 0);
    expect_refused(path, OCT_IO, "expected 2 to 100000000", "sparse");
}

/* A valid file in memory, for the sweeps. */
static char *sample(size_t *bytes)
{
    const char *path = folder_path(dir, "sample.safetensors");
    cr_assert(oct_safetensors_write(path, all, ALL, notes, 2) == OCT_OK, "%s", oct_last_error());
    return file_read(path, bytes);
}

Test(safetensors, every_truncation_is_refused)
{
    size_t bytes;
    char *data = sample(&bytes);
    const char *path = folder_path(dir, "cut.safetensors");
    for (size_t length = 0; length < bytes; length++) {
        struct oct_safetensors *file;
        file_write(path, data, length);
        cr_expect(
            oct_safetensors_open(path, &file) == OCT_IO, "cut to %zu of %zu bytes", length, bytes);
    }
    free(data);
}

/* One to three flipped bits: refused, or every tensor readable (ASan looks on) and the data as the
 * checksum says; flips inside the checksum's own key turn it off, so contents are not compared. */
Test(safetensors, bit_flips)
{
    size_t bytes;
    char *data = sample(&bytes);
    const char *path = folder_path(dir, "flipped.safetensors");
    const uint64_t seed = 20240607;
    int accepted = 0;
    for (uint32_t trial = 0; trial < 5000; trial++) {
        uint64_t state = seed + trial * UINT64_C(0x9e3779b97f4a7c15);
        size_t at[3];
        int flips = 1 + (int)(trial % 3);
        for (int f = 0; f < flips; f++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            at[f] = (size_t)((state >> 16) % (bytes * 8));
            data[at[f] / 8] = (char)(data[at[f] / 8] ^ (1 << (at[f] % 8)));
        }
        file_write(path, data, bytes);
        struct oct_safetensors *file = NULL;
        enum oct_status status = oct_safetensors_open(path, &file);
        cr_expect(status == OCT_OK || status == OCT_IO || status == OCT_UNSUPPORTED,
            "seed %" PRIu64 " trial %" PRIu32 ": status %d", seed, trial, status);
        if (status == OCT_OK) {
            size_t total = 0;
            unsigned sum = 0;
            for (size_t i = 0; i < oct_safetensors_count(file); i++) {
                const struct oct_named_tensor *t = oct_safetensors_at(file, i);
                size_t n = oct_named_tensor_bytes(t);
                for (size_t b = 0; b < n; b++)
                    sum += ((const unsigned char *)t->data)[b];
                total += n;
            }
            cr_expect(
                total < bytes && sum < 256 * bytes, "seed %" PRIu64 " trial %" PRIu32, seed, trial);
            accepted++;
            oct_safetensors_close(file);
        }
        for (int f = 0; f < flips; f++)
            data[at[f] / 8] = (char)(data[at[f] / 8] ^ (1 << (at[f] % 8)));
    }
    cr_expect(accepted > 0 && accepted < 5000, "%d accepted: the sweep is blind", accepted);
    free(data);
}

Test(safetensors, a_flip_in_the_data_is_always_found)
{
    size_t bytes;
    char *data = sample(&bytes);
    size_t begin = 8 + (size_t)(unsigned char)data[0] + 256 * (size_t)(unsigned char)data[1];
    const char *path = folder_path(dir, "flipped.safetensors");
    for (size_t bit = begin * 8; bit < bytes * 8; bit++) {
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << (bit % 8)));
        file_write(path, data, bytes);
        expect_refused(path, OCT_IO, "checksum", "flip in the data");
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << (bit % 8)));
    }
    free(data);
}

Test(safetensors, a_changed_metadata_value_is_found)
{
    const char *path = folder_path(dir, "step.safetensors");
    struct oct_metadata metadata[] = {{"octet.step", "1234"}, {"octet.epoch", "5"}};
    size_t bytes;
    cr_assert_eq(oct_safetensors_write(path, NULL, 0, metadata, 2), OCT_OK);
    char *data = file_read(path, &bytes);
    char *digits = memmem(data, bytes, "1234", 4);
    cr_assert(digits);
    digits[3] = '5';
    file_write(path, data, bytes);
    expect_refused(path, OCT_IO, "checksum", "another step");
    free(data);
}

static void expect_not_written(const struct oct_named_tensor *tensors, size_t count,
    const struct oct_metadata *metadata, size_t metadata_count, enum oct_status want,
    const char *fragment)
{
    const char *path = folder_path(dir, "never.safetensors");
    enum oct_status status = oct_safetensors_write(path, tensors, count, metadata, metadata_count);
    cr_expect(status == want, "%s: status %d", fragment, status);
    cr_expect(
        strstr(oct_last_error(), fragment) != NULL, "no '%s' in: %s", fragment, oct_last_error());
    cr_expect(folder_count(dir, "never") == 0, "%s: a file stayed", fragment);
}

Test(safetensors, writer_refuses)
{
    char name[257];
    memset(name, 'n', 256);
    name[256] = '\0';
    struct oct_named_tensor bad[] = {
        {"", OCT_U8, 1, {3}, pixels},
        {"__metadata__", OCT_U8, 1, {3}, pixels},
        {name, OCT_U8, 1, {3}, pixels},
        {"new\nline", OCT_U8, 1, {3}, pixels},
        {"\xff", OCT_U8, 1, {3}, pixels},
        {"negative", OCT_U8, 1, {-3}, pixels},
        {"six", OCT_U8, 6, {1, 1, 1, 1, 1}, pixels},
        {"huge", OCT_F32, 2, {INT64_C(1) << 40, INT64_C(1) << 40}, pixels},
    };
    for (int i = 0; i < 4; i++)
        expect_not_written(&bad[i], 1, NULL, 0, OCT_ARG, "cannot be saved");
    expect_not_written(&bad[4], 1, NULL, 0, OCT_ARG, "UTF-8");
    for (int i = 5; i < 8; i++)
        expect_not_written(&bad[i], 1, NULL, 0, OCT_SHAPE, "impossible size");
    struct oct_named_tensor twice[] = {all[0], all[0]};
    expect_not_written(twice, 2, NULL, 0, OCT_ARG, "two tensors");
    struct oct_metadata own = {"octet.checksum", "x"}, latin = {"k", "\xe9"};
    struct oct_metadata repeated[] = {{"k", "1"}, {"k", "2"}};
    expect_not_written(all, 1, &own, 1, OCT_ARG, "octet.checksum");
    expect_not_written(all, 1, &latin, 1, OCT_ARG, "UTF-8");
    expect_not_written(all, 1, repeated, 2, OCT_ARG, "twice");
}

/* Whatever fails, the file that was there is still there, whole, and alone. */
static void expect_old_file_kept(const char *path, const char *old, size_t bytes)
{
    size_t now;
    char *data = file_read(path, &now);
    cr_expect(now == bytes && memcmp(data, old, bytes) == 0, "the old file changed");
    cr_expect(folder_count(dir, "sample.safetensors") == 1, "a temporary file stayed");
    free(data);
}

Test(safetensors, full_disk_keeps_the_old_file)
{
    static char big[1 << 16];
    struct oct_named_tensor tensor = {"big", OCT_U8, 1, {sizeof big}, big};
    size_t bytes;
    char *old = sample(&bytes);
    char path[4096];
    snprintf(path, sizeof path, "%s", folder_path(dir, "sample.safetensors"));
    limit_file_size(sizeof big / 2);
    cr_expect(oct_safetensors_write(path, &tensor, 1, NULL, 0) == OCT_IO);
    cr_expect(strstr(oct_last_error(), "sample.safetensors") && !strchr(oct_last_error(), '\n'));
    expect_old_file_kept(path, old, bytes);
    free(old);
}

Test(safetensors, read_only_folder_keeps_the_old_file)
{
    size_t bytes;
    char *old = sample(&bytes);
    char path[4096];
    snprintf(path, sizeof path, "%s", folder_path(dir, "sample.safetensors"));
    cr_assert(chmod(dir, 0555) == 0);
    /* The superuser may write anywhere: become nobody for the attempt. */
    bool root = geteuid() == 0;
    cr_assert(!root || seteuid(65534) == 0);
    cr_expect(oct_safetensors_write(path, all, ALL, NULL, 0) == OCT_IO);
    cr_expect(strstr(oct_last_error(), "cannot create"), "%s", oct_last_error());
    cr_assert(!root || seteuid(0) == 0);
    cr_assert(chmod(dir, 0755) == 0);
    expect_old_file_kept(path, old, bytes);
    free(old);
}

Test(safetensors, missing_folder)
{
    const char *path = folder_path(dir, "no/such.safetensors");
    cr_expect(oct_safetensors_write(path, all, ALL, NULL, 0) == OCT_IO);
    cr_expect(strstr(oct_last_error(), "No such file") && strstr(oct_last_error(), path));
}
