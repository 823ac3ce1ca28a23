/* The files of a run folder, read back by independent means: jansson for the records, protobuf-c
 * and the test's own table CRC for TensorBoard. */
#include "support/folder.h"
#include "support/runs.h"
#include "train/runlog.h"
#include "train/tfevents.h"

#include "events.pb-c.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

TestSuite(runlog, .init = setup, .fini = teardown);

static const struct oct_key_value args[] = {{"lr", "0.1"}, {"resume", NULL}, {"note", ""},
    {"data", "a: b # \"c\""}, {"milestones", "[1"}, {"name", "r\xc3\xa9seau"}};

static struct oct_runlog *open_log(int64_t step, int epochs)
{
    struct oct_runlog_options options = {
        .dir = dir, .args = args, .args_count = 6, .resume_step = step, .resume_epoch = epochs};
    struct oct_runlog *log = NULL;
    cr_assert(oct_runlog_open(&options, &log) == OCT_OK, "%s", oct_last_error());
    return log;
}

/* Ten steps an epoch, logged every five. */
static void log_epochs(struct oct_runlog *log, int from, int to)
{
    for (int e = from; e < to; e++) {
        for (int half = 1; half <= 2; half++) {
            struct oct_step_record s = {.step = 10 * e + 5 * half,
                .epoch = e,
                .train_loss = 1.0 / (3 + e),
                .lr = 0.1,
                .images_per_second = 100.5,
                .data_seconds = 0.25,
                .step_seconds = 1.5,
                .saturation = NAN};
            cr_assert(oct_runlog_step(log, &s) == OCT_OK, "%s", oct_last_error());
        }
        struct oct_layer_record layers[] = {{.layer = "conv1",
            .int8_share = 1,
            .saturation_dw = 0.01,
            .saturation_dx = 0.02,
            .tail_share = 0.03,
            .clip_over_amax = 0.9,
            .cosine_dw = NAN}};
        struct oct_epoch_record r = {.epoch = e,
            .step = 10 * e + 10,
            .train_loss = 2.0 / (1 + e),
            .eval_loss = 2.5,
            .eval_top1 = e == 1 ? NAN : 10.0 * e,
            .eval_top5 = 99.5,
            .lr = 0.1,
            .train_seconds = 12,
            .val_seconds = 3,
            .images_per_second = 100.5,
            .data_share = 0.125,
            .flagged_steps = 2,
            .layers = layers,
            .layer_count = 1};
        cr_assert(oct_runlog_epoch(log, &r) == OCT_OK, "%s", oct_last_error());
    }
}

static char *read_in(const char *name)
{
    return file_read(folder_path(dir, name), NULL);
}

/* "s5 s10 e0 ..." of log.jsonl: s: step of a step record, e: epoch of an epoch record. */
static const char *outline(void)
{
    static char text[4096];
    char *log = read_in("log.jsonl"), *rest = log;
    text[0] = '\0';
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        cr_assert(o != NULL, "no JSON: %s", line);
        const char *type = json_string_value(json_object_get(o, "type"));
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%c%lld ", type[0],
            json_integer_value(json_object_get(o, type)));
        json_decref(o);
    }
    free(log);
    return text;
}

Test(runlog, records)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 2);
    oct_runlog_close(log);
    oct_runlog_close(NULL);
    cr_expect_str_eq(outline(), "s5 s10 e0 s15 s20 e1 ");

    char *text = read_in("log.jsonl");
    json_t *step = json_loads(strtok(text, "\n"), 0, NULL);
    const char *keys[] = {"train_loss", "lr", "img_per_s", "data_s", "step_s"};
    const double want[] = {1.0 / 3, 0.1, 100.5, 0.25, 1.5};
    for (int i = 0; i < 5; i++)
        cr_expect(json_real_value(json_object_get(step, keys[i])) == want[i], "%s", keys[i]);
    cr_expect(json_is_null(json_object_get(step, "sat")), "NaN is null");
    cr_expect(json_object_size(step) == 9);
    json_decref(step);
    strtok(NULL, "\n");
    json_t *epoch = json_loads(strtok(NULL, "\n"), 0, NULL);
    static const char *const names[] = {"type", "timestamp", "relative_time", "epoch", "step",
        "current_lr", "train_loss", "eval_loss", "top_1", "top_5", "train_time", "val_time",
        "img_per_s", "data_share", "layers", "flagged_steps"};
    for (int i = 0; i < 16; i++)
        cr_expect(json_object_get(epoch, names[i]) != NULL, "%s is missing", names[i]);
    cr_expect_eq(json_integer_value(json_object_get(epoch, "flagged_steps")), 2);
    json_t *layer = json_array_get(json_object_get(epoch, "layers"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(layer, "layer")), "conv1");
    cr_expect(json_real_value(json_object_get(layer, "clip_over_amax")) == 0.9);
    cr_expect(json_is_null(json_object_get(layer, "cosine_dw")));
    json_decref(epoch);
    free(text);

    text = read_in("summary.csv");
    cr_expect_str_eq(text, "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"
                           "0,2.0,2.5,0.0,99.5,0.1\n1,1.0,2.5,,99.5,0.1\n");
    free(text);
    text = read_in("args.yaml");
    cr_expect_str_eq(text, "lr: 0.1\nresume: null\nnote: ''\ndata: 'a: b # \"c\"'\n"
                           "milestones: '[1'\nname: r\xc3\xa9seau\n");
    free(text);
}

/* Records reach the file at once: a killed run loses nothing. */
Test(runlog, every_record_is_in_the_file_when_the_call_returns)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 1);
    cr_expect_str_eq(outline(), "s5 s10 e0 ");
    cr_expect(access(folder_path(dir, "curve.svg"), R_OK) == 0);
    oct_runlog_close(log);
}

static void append(const char *name, const char *text)
{
    FILE *file = fopen(folder_path(dir, name), "a");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

Test(runlog, resume_cuts_back_and_every_step_stands_once)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 4);
    oct_runlog_close(log);
    append("log.jsonl", "{\"type\":\"step\",\"st");
    append("summary.csv", "4,0.12");
    log = open_log(25, 2);
    cr_expect_str_eq(outline(), "s5 s10 e0 s15 s20 e1 s25 ");
    char *text = read_in("summary.csv");
    cr_expect_str_eq(text, "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"
                           "0,2.0,2.5,0.0,99.5,0.1\n1,1.0,2.5,,99.5,0.1\n");
    free(text);
    log_epochs(log, 3, 4);
    oct_runlog_close(log);
    cr_expect_str_eq(outline(), "s5 s10 e0 s15 s20 e1 s25 s35 s40 e3 ");
    cr_expect(folder_count(dir, "events.out.tfevents.") == 2, "a resumed run starts a new file");
    cr_expect(folder_count(dir, "") == 6, "a temporary file stayed");
}

Test(runlog, resume_with_every_torn_tail)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 2);
    oct_runlog_close(log);
    size_t bytes;
    char *text = file_read(folder_path(dir, "log.jsonl"), &bytes);
    /* From the middle of the last but one line on. */
    for (size_t length = (size_t)(strstr(text, "\"step\":20") - text); length <= bytes; length++) {
        file_write(folder_path(dir, "log.jsonl"), text, length);
        oct_runlog_close(open_log(20, 2));
        size_t kept;
        char *now = file_read(folder_path(dir, "log.jsonl"), &kept);
        /* Whole lines only; a line that lost nothing but its newline is whole. */
        size_t want = length;
        while (want < bytes && text[want] != '\n' && want > 0 && text[want - 1] != '\n')
            want--;
        if (length < bytes && text[length] == '\n')
            want = length + 1;
        cr_expect(kept == want && memcmp(now, text, kept) == 0,
            "cut to %zu: kept %zu, expected %zu", length, kept, want);
        free(now);
    }
    free(text);
}

static void expect_open_fails(int64_t step, enum oct_status want, const char *fragment)
{
    struct oct_runlog_options options = {
        .dir = dir, .args = args, .args_count = 6, .resume_step = step};
    struct oct_runlog *log = NULL;
    enum oct_status status = oct_runlog_open(&options, &log);
    cr_expect(status == want && log == NULL, "%s: status %d", fragment, status);
    cr_expect(strstr(oct_last_error(), fragment) && strstr(oct_last_error(), dir), "no '%s' in: %s",
        fragment, oct_last_error());
}

Test(runlog, refusals)
{
    struct oct_runlog *log = open_log(-1, 0);
    expect_open_fails(0, OCT_ARG, "another run");
    log_epochs(log, 0, 1);
    oct_runlog_close(log);
    expect_open_fails(-1, OCT_ARG, "--resume auto");
    cr_expect_str_eq(outline(), "s5 s10 e0 ");
    append("log.jsonl", "damaged\n{\"type\":\"step\",\"step\":11}\n");
    expect_open_fails(20, OCT_IO, "line 4");
    unlink(folder_path(dir, "log.jsonl"));
    expect_open_fails(-1, OCT_ARG, "summary.csv");
}

/* A run that died before its first record is no run: the same command works again. */
Test(runlog, an_empty_log_is_no_run)
{
    oct_runlog_close(open_log(-1, 0));
    oct_runlog_close(open_log(-1, 0));
}

Test(runlog, creates_parents_and_refuses_files)
{
    char *root = dir, deep[4096];
    snprintf(deep, sizeof deep, "%s/a//b/c/", root);
    dir = deep;
    oct_runlog_close(open_log(-1, 0));
    file_write(folder_path(root, "file"), "x", 1);
    snprintf(deep, sizeof deep, "%s/file", root);
    expect_open_fails(-1, OCT_IO, "is a file");
    dir = root;
}

Test(runlog, full_disk_is_told_once)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 1);
    size_t bytes;
    free(file_read(folder_path(dir, "log.jsonl"), &bytes));
    limit_file_size(bytes + 10);
    struct oct_step_record s = {.step = 11, .epoch = 1};
    cr_expect(oct_runlog_step(log, &s) == OCT_IO);
    cr_expect(strstr(oct_last_error(), "log.jsonl"), "%s", oct_last_error());
    cr_expect(oct_runlog_step(log, &s) == OCT_OK, "told once");
    oct_runlog_close(log);
}

/* CRC-32C from its definition: remainder modulo 0x1EDC6F41, reflected; not the code under test. */
static uint32_t crc_by_table(const uint8_t *data, size_t bytes)
{
    uint32_t table[256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t r = i;
        for (int k = 0; k < 8; k++)
            r = r & 1 ? (r >> 1) ^ 0x82f63b78u : r >> 1;
        table[i] = r;
    }
    for (size_t i = 0; i < bytes; i++)
        crc = table[(crc ^ data[i]) & 255] ^ (crc >> 8);
    return crc ^ 0xffffffffu;
}

static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool crc_ok(const uint8_t *data, size_t bytes, uint32_t masked)
{
    uint32_t rotated = masked - 0xa282ead8u;
    return (rotated >> 17 | rotated << 15) == crc_by_table(data, bytes);
}

/* RFC 3720, appendix B.4, and the check value of the catalogue of CRCs. */
Test(runlog, crc32c_published_values)
{
    uint8_t data[32] = {0};
    cr_expect(oct_crc32c("123456789", 9) == 0xe3069283u);
    cr_expect(oct_crc32c(data, 32) == 0x8a9136aau);
    memset(data, 0xff, 32);
    cr_expect(oct_crc32c(data, 32) == 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++)
        data[i] = i;
    cr_expect(oct_crc32c(data, 32) == 0x46dd794eu);
    cr_expect(oct_crc32c(data, 0) == 0);
}

/* "v- 5:train/loss=0.333,..." of one event file; v: version, S: session start. */
static const char *events_outline(const char *name)
{
    static char text[4096];
    size_t bytes, n = 0;
    uint8_t *data = (uint8_t *)file_read(folder_path(dir, name), &bytes), *p = data;
    text[0] = '\0';
    while (p < data + bytes) {
        size_t length = u32_at(p);
        cr_assert(u32_at(p + 4) == 0 && p + 16 + length <= data + bytes, "frame length");
        cr_assert(crc_ok(p, 8, u32_at(p + 8)), "CRC of the length");
        cr_assert(crc_ok(p + 12, length, u32_at(p + 12 + length)), "CRC of the message");
        Oct__Event *e = oct__event__unpack(NULL, length, p + 12);
        cr_assert(e && e->wall_time > 1e9);
        n += (size_t)snprintf(text + n, sizeof text - n, "%lld:", (long long)e->step);
        if (e->what_case == OCT__EVENT__WHAT_FILE_VERSION)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", e->file_version);
        if (e->what_case == OCT__EVENT__WHAT_SESSION_LOG)
            n += (size_t)snprintf(text + n, sizeof text - n, "session%d", e->session_log->status);
        for (size_t i = 0; e->what_case == OCT__EVENT__WHAT_SUMMARY && i < e->summary->n_value; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s=%g,", e->summary->value[i]->tag,
                e->summary->value[i]->simple_value);
        n += (size_t)snprintf(text + n, sizeof text - n, " ");
        oct__event__free_unpacked(e, NULL);
        p += 16 + length;
    }
    free(data);
    return text;
}

static const char *event_file(int index)
{
    static char name[256];
    struct dirent **list;
    int count = scandir(dir, &list, NULL, alphasort), seen = 0;
    name[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (strncmp(list[i]->d_name, "events.out.tfevents.", 20) == 0 && seen++ == index)
            snprintf(name, sizeof name, "%s", list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return name;
}

Test(runlog, tensorboard_events)
{
    struct oct_runlog *log = open_log(-1, 0);
    log_epochs(log, 0, 2);
    oct_runlog_close(log);
    const char *steps[] = {"train/loss=0.333333,train/lr=0.1,train/img_per_s=100.5, ",
        "train/loss=0.25,train/lr=0.1,train/img_per_s=100.5, "};
    char want[2048];
    snprintf(want, sizeof want,
        "0:brain.Event:2 5:%s10:%s10:eval/loss=2.5,eval/top1=0,eval/top5=99.5, "
        "15:%s20:%s20:eval/loss=2.5,eval/top5=99.5, ",
        steps[0], steps[0], steps[1], steps[1]);
    cr_expect_str_eq(events_outline(event_file(0)), want);

    oct_runlog_close(open_log(20, 2));
    cr_expect_str_eq(events_outline(event_file(1)), "0:brain.Event:2 21:session1 ");
}

Test(runlog, curves)
{
    char *root = dir, path[3][4096], out[4096];
    const char *dirs[3];
    static const char *const names[] = {"one", "a<b>&#\x01\xff", "empty"};
    snprintf(out, sizeof out, "%s", folder_path(root, "compare.svg"));
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s", folder_path(root, names[i]));
        dirs[i] = dir = path[i];
        struct oct_runlog *log = open_log(-1, 0);
        log_epochs(log, 0, i == 0 ? 1 : i == 1 ? 3 : 0);
        oct_runlog_close(log);
    }
    dir = root;
    cr_assert(oct_plot_curves(dirs, 3, out) == OCT_OK, "%s", oct_last_error());
    expect_svg(out, "one: epoch 1, loss 2, top-1 0.00 %");
    expect_svg(out, "no epoch yet");
    expect_svg(out, "a<b>&#??: epoch 3");
    cr_expect(oct_plot_curves(dirs + 2, 1, out) == OCT_ARG, "nothing to draw");
    cr_expect(oct_plot_curves(dirs, 0, out) == OCT_ARG);
    dirs[1] = "/no/such/run";
    cr_expect(oct_plot_curves(dirs, 2, out) == OCT_IO);
    cr_expect(strstr(oct_last_error(), "/no/such/run"), "%s", oct_last_error());
}

/* A training run must survive a broken PLplot: no exit, no question on the terminal. */
static void expect_told_once(const char *drivers)
{
    setenv("PLPLOT_DRV_DIR", drivers, 1);
    struct oct_runlog *log = open_log(-1, 0);
    struct oct_epoch_record r = {.epoch = 0, .train_loss = 1};
    cr_expect(oct_runlog_epoch(log, &r) == OCT_UNSUPPORTED);
    cr_expect(strstr(oct_last_error(), "PLplot"), "%s", oct_last_error());
    cr_expect(oct_runlog_epoch(log, &r) == OCT_OK, "told once");
    cr_expect_str_eq(outline(), "e0 e0 ");
    oct_runlog_close(log);
}

Test(runlog, curve_without_driver_folder)
{
    expect_told_once("/no/such/folder");
}

Test(runlog, curve_without_svg_driver)
{
    /* Two others: with one PLplot would take that, with two it asks. */
    static const char others[] = "null:Null device:-1:null:42:null\n"
                                 "mem:User-supplied memory device:-1:mem:46:mem\n";
    file_write(folder_path(dir, "others.driver_info"), others, strlen(others));
    expect_told_once(dir);
}

/* Degenerate curves: constant, all NaN, huge, negative. PLplot must not abort. */
Test(runlog, odd_curves)
{
    static const double losses[][3] = {{0, 0, 0}, {NAN, NAN, NAN}, {1e30, 1, NAN}, {-1, -2, -3},
        {1e-30, 1e-30, 1e-30}, {INFINITY, 1, 2}};
    static const double top1[] = {100, 0, 50};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        struct oct_runlog *log = open_log(-1, 0);
        for (int e = 0; e < 3; e++) {
            struct oct_epoch_record r = {
                .epoch = e, .train_loss = losses[i][e], .eval_top1 = top1[i % 3]};
            cr_expect(oct_runlog_epoch(log, &r) == OCT_OK, "case %zu: %s", i, oct_last_error());
        }
        oct_runlog_close(log);
        cr_assert_eq(remove(folder_path(dir, "log.jsonl")), 0);
        cr_assert_eq(remove(folder_path(dir, "summary.csv")), 0);
    }
}
