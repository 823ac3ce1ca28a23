/* The commands that print tables and draw figures, against a stand-in library. */
#include "cli/bench.h"
#include "support/cli_run.h"
#include "support/fake_octet.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Test(cli_tables, compare_makes_one_table)
{
    char line[256], dir[] = "/tmp/octet-test-XXXXXX", want[512];

    cr_assert_not_null(mkdtemp(dir));
    snprintf(line, sizeof line,
        "compare DIR --model resnet8 --precision fp32,bf16,int8 --scheme dai8,amax --epochs 1 "
        "--output-dir %s/new -o csv",
        dir);
    cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(out_text,
        "precision,scheme,top1,top5,eval_loss,train_loss,seconds_per_epoch,images_per_second,"
        "speedup_vs_fp32,int8_share_percent\n"
        "fp32,,90.00,99.00,0.7000,0.5000,3.12,320.0,1.00,0.0\n"
        "bf16,,90.00,99.00,0.7000,0.5000,1.56,640.0,2.00,0.0\n"
        "int8,dai8,89.50,99.00,0.7000,0.5000,0.78,1280.0,4.00,75.0\n"
        "int8,amax,89.50,99.00,0.7000,0.5000,0.78,1280.0,4.00,75.0\n");
    snprintf(want, sizeof want,
        "%s/new/fp32 %s/new/bf16 %s/new/int8-dai8 %s/new/int8-amax %s/new/compare.svg", dir, dir,
        dir, dir, dir);
    cr_expect_str_eq(fake.plotted, want);
    snprintf(want, sizeof want, "int8|amax|resnet8|DIR|%s/new/int8-amax|-|-", dir);
    cr_expect_str_eq(fake.strings[3], want);
    expect_in(err_text, "Epoch: [0][ 50/100]");
    cr_expect_eq(fake.close_count, 4);
    snprintf(line, sizeof line, "%s/new", dir);
    rmdir(line);
    rmdir(dir);
}

Test(cli_tables, compare_limits_the_drop)
{
    cr_expect_eq(octet("compare DIR --epochs 1 --max-drop 1"), OCT_EXIT_OK);
    expect_in(err_text, "int8 dai8 ends 0.50 points below fp32 (limit 1.00)\n");
    fake.int8_top1 = 88.9;
    cr_expect_eq(octet("compare DIR --epochs 1 --max-drop 1"), OCT_EXIT_FAILURE);
    expect_in(err_text, "int8 dai8 ends 1.10 points below fp32 (limit 1.00): too much\n");
    cr_expect_str_eq(fake.plotted, "");
}

Test(cli_tables, compare_usage)
{
    refused("compare DIR --precision bf16,int8 --max-drop 1",
        "octet compare: --max-drop needs fp32 and int8 among --precision");
    refused("compare DIR --resume FILE",
        "octet compare: --resume takes only auto here: each run goes on from its own folder");
}

/* Each int8 run is tried before the first one trains: a key that one scheme does not know costs no
 * training. */
Test(cli_tables, scheme_options_are_for_int8_runs)
{
    refused("compare DIR --precision fp32,bf16 --scheme-opt k=1",
        "octet compare: --scheme-opt needs int8 among --precision");
    refused("bench --precision fp32 --model resnet8 --scheme-opt k=1",
        "octet bench: --scheme-opt needs int8 among --precision");
    cr_expect_eq(octet("compare DIR --epochs 1 --precision fp32,int8 --scheme dai8,amax "
                       "--scheme-opt residual=float"),
        OCT_EXIT_OK, "%s", err_text);
    cr_assert_eq(fake.open_count, 2 + 3);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(fake.opened[i].scheme_opt != NULL, i != 2, "run %d", i);
    cr_expect_eq(fake.close_count, 5);
}

Test(cli_tables, compare_refuses_the_same_run_twice)
{
    refused("compare DIR --precision fp32,int8 --scheme dai8,dai8",
        "octet compare: int8 dai8 stands twice in the list");
}

Test(cli_tables, compare_stops_on_a_signal)
{
    fake.raise_signal = SIGTERM;
    cr_expect_eq(octet("compare DIR --epochs 3"), 143);
    cr_expect_eq(fake.open_count, 1);
    cr_expect_str_eq(out_text, "");
}

Test(cli_tables, bench_interleaves_and_compares_inside_rounds)
{
    cr_assert_eq(octet("bench --model resnet20 --batch-size 64 --precision fp32,bf16,int8 "
                       "--warmup 1 -r 3 -o csv"),
        OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(fake.steps, "abcabcabcabc");
    /* Steps take base * (2, 3, 4): median base * 3, spread (3.8 - 2.2) / 2 / 3 = 26.7 %. */
    cr_expect_str_eq(out_text,
        "model,precision,scheme,batch,median_ms,min_ms,spread_percent,images_per_second,vs_fp32,"
        "vs_bf16,vs_int8,isa,threads,config_hash\n"
        "resnet20,fp32,,64,1200.000,800.000,26.7,53.3,1.00,0.50,0.25,vnni,2,0000000000abcdef\n"
        "resnet20,bf16,,64,600.000,400.000,26.7,106.7,2.00,1.00,0.50,vnni,2,0000000000abcdef\n"
        "resnet20,int8,dai8,64,300.000,200.000,26.7,213.3,4.00,2.00,1.00,vnni,2,0000000000abcdef"
        "\n");
    cr_expect_str_eq(fake.opened[0].dataset, "synthetic");
    cr_expect_eq(fake.opened[0].synthetic_images, 512);
    cr_expect_eq(fake.close_count, 3);
}

Test(cli_tables, bench_leaves_out_rounds_of_a_slow_unit)
{
    /* A round is two probes here, before and after its one step; a slow first one ends it. */
    fake.slow_probes = 3;
    cr_assert_eq(octet("bench --model resnet20 --batch-size 64 --precision int8 --warmup 0 -r 2 "
                       "-o csv"),
        OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(fake.steps, "aaaaa");
    expect_in(out_text, "resnet20,int8,dai8,64,450.000,400.000,");
    cr_expect_null(strstr(err_text, "undisturbed"), "%s", err_text);
}

Test(cli_tables, bench_says_what_it_could_not_measure)
{
    fake.slow_probes = 1000;
    cr_assert_eq(octet("bench --model resnet20 --batch-size 64 --precision int8 --warmup 0 -r 2 "
                       "-o csv"),
        OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(fake.steps, "aaaaaaaa");
    expect_in(err_text, "octet bench: resnet20: the product unit was undisturbed in 0 of 8 rounds, "
                        "2 were asked for: not measured");
    expect_in(out_text, "resnet20,int8,dai8,64,,,,,,,,vnni,2,");
}

Test(cli_tables, bench_batches_per_model)
{
    cr_assert_eq(octet("bench --model resnet20,resnet50 -b 128,16 --precision int8 -r 1 -o json"),
        OCT_EXIT_OK, "%s", err_text);
    cr_expect_eq(fake.opened[0].batch_size, 128);
    cr_expect_eq(fake.opened[1].batch_size, 16);
    expect_in(out_text, "[\n{\"model\": \"resnet20\", \"precision\": \"int8\", \"scheme\": "
                        "\"dai8\", \"batch\": 128, ");
    expect_in(out_text, "\"vs_fp32\": null, ");
    expect_in(out_text, "}\n]\n");
    fake = (struct fake_octet){0};
    refused("bench --model resnet20,resnet50,resnet8 -b 128,16",
        "octet bench: --batch-size names 2 sizes for 3 models");
    refused("bench --layers --append F",
        "octet bench: --append records whole steps; leave --layers out");
}

Test(cli_tables, bench_layers)
{
    cr_assert_eq(octet("bench --model resnet20 -b 8 --precision int8 --layers -r 1"), OCT_EXIT_OK);
    expect_in(out_text, "| conv1 | conv | fprop   | 3.0000 |      75.0 | 6.0000 | 2000.0 |    1 |");
    expect_in(out_text, "| bn1   | bn   | forward | 1.0000 |      25.0 | 0.0000 |    0.0 |    0 |");
}

Test(cli_tables, bench_predicts_on_a_model_of_a_card)
{
    cr_assert_eq(octet("bench --device model:a100 --model resnet50 -b 256 -o csv"), OCT_EXIT_OK,
        "%s", err_text);
    expect_in(out_text, "network,device,precision,scheme,batch,model_ms,model_ms_best,");
    /* Rivals take 16 ms (fp32) and 8 ms, int8 4 ms; its band: 12 to 24 and 6 to 12 over 3 to 6. */
    expect_in(
        out_text, "resnet50,model:a100,fp32,,256,16.00,12.00,24.00,16000,1.00,,0.50,0.25..1.00");
    expect_in(
        out_text, "resnet50,model:a100,tf32,,256,8.00,6.00,12.00,32000,2.00,1.00..4.00,1.00,");
    expect_in(out_text, "resnet50,model:a100,fp16,,256,8.00,");
    expect_in(out_text,
        "resnet50,model:a100,int8,dai8,256,4.00,3.00,6.00,64000,4.00,2.00..8.00,2.00,"
        "1.00..4.00,2.00,1.00..4.00,5.00,products 75 %,3,");
    cr_expect_str_eq(fake.opened[1].isa, "tf32");
    cr_expect_eq(fake.opened[3].synthetic_images, 256);
    cr_expect_str_eq(fake.steps, "", "a step was measured");
    cr_expect_eq(fake.close_count, 4);
    fake = (struct fake_octet){0};
    cr_assert_eq(
        octet("bench --device model:a100 --model resnet50 -b 256 --precision int8"), OCT_EXIT_OK);
    expect_in(out_text, "model:a100: a model, nothing here was measured.");
    cr_assert_eq(
        octet("bench --device model:a100 --model resnet50 -b 256 --precision int8 --layers"),
        OCT_EXIT_OK);
    expect_in(out_text, "| model ms | model ms, best | model ms, worst |");
    expect_in(out_text, "| conv1 | conv | fprop   |");
    fake = (struct fake_octet){0};
    refused("bench --device model:a100 --append F",
        "octet bench: --append records measurements; model:a100 has none");
}

Test(cli_tables, bench_appends_json_lines)
{
    char line[256], text[4096];
    const char *path = write_file("");
    FILE *file;
    size_t length;

    snprintf(line, sizeof line,
        "bench --model resnet20 -b 8 --precision fp32,int8 -r 2 --append %s --commit abc\"d", path);
    cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
    cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
    file = fopen(path, "r");
    length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    unlink(path);
    expect_in(text, "\"commit\": \"abc\\\"d\"");
    expect_in(text, "\"model\": \"resnet20\", \"batch\": 8, \"rounds\": 2, \"attempted\": 2, "
                    "\"probed\": true, \"warmup\": 2");
    expect_in(text, "\"vs_fp32\": 4.000");
    cr_expect_eq(strchr(text, '\n')[1], '{');
    cr_expect_eq(octet("bench -r 1 --append /nonexistent/f"), OCT_EXIT_USAGE);
}

Test(cli_tables, analyse_makes_one_table_and_a_file)
{
    char line[400], path[300], text[1024], dir[] = "/tmp/octet-test-XXXXXX";

    cr_assert(mkdtemp(dir));
    snprintf(line, sizeof line, "analyse %s --format csv", dir);
    cr_expect_eq(octet(line), OCT_EXIT_OK);
    expect_in(out_text, "dai8,2,25.00,20.00,40.00,1.000e-03,1.000e-02,0.500,1.00e-03");
    expect_in(out_text, "\"dai8, per tensor\",2,15.50,10.00,35.00,1.000e-02,2.000e-02,,0.00e+00");
    expect_in(err_text, "dai8: a scale per channel raises the worst channel's SNR of dW over one "
                        "per tensor in 1 of 2 layers (mean over steps), in 50.0 % of 2 tensors");
    snprintf(path, sizeof path, "%s/analysis.csv", dir);
    FILE *file = fopen(path, "r");
    cr_assert(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    expect_in(text, "scheme,layer,step,snr_dw_worst,");
    expect_in(text, "\"dai8, per tensor\",conv2,1,21,35,0.99,0.98,nan,0\n");
    unlink(path);
    rmdir(dir);
    snprintf(line, sizeof line, "4 rows to %s/analysis.svg", dir);
    cr_expect_str_eq(fake.plotted, line);
    refused("analyse", "octet analyse: no run folder; name one that octet train "
                       "--record-gradients wrote");
}

Test(cli_tables, plot_takes_any_number_of_runs)
{
    refused("plot", "octet plot: no run folder; name those of octet train");
    cr_expect_eq(octet("plot runs/a runs/b runs/c --figure here.svg"), OCT_EXIT_OK);
    cr_expect_str_eq(fake.plotted, "runs/a runs/b runs/c here.svg");
    expect_in(err_text, "Saved here.svg");
    cr_expect_eq(octet("plot runs/a"), OCT_EXIT_OK);
    cr_expect_str_eq(fake.plotted, "runs/a curves.svg");
}
