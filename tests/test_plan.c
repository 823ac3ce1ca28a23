/* The memory planner: buffers alive at the same time never overlap, hand-solved graphs get the hand
 * answer, and the total never exceeds the sum. */
#include "base/plan.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 40 };

static bool overlap(const struct oct_buffer *a, const struct oct_buffer *b)
{
    bool together = a->first <= b->last && b->first <= a->last;
    bool touching = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
    return together && touching && a->bytes > 0 && b->bytes > 0;
}

Test(plan, live_buffers_never_overlap)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct oct_buffer buffers[MANY] = {0}, *list[MANY];
        size_t sum = 0;
        for (int i = 0; i < MANY; i++) {
            struct oct_philox r = oct_random(seed, OCT_RNG_SYNTHETIC, 0, (uint64_t)i);
            buffers[i].bytes = 64 * (r.v[0] % 50);
            buffers[i].first = (int)(r.v[1] % 30);
            buffers[i].last = buffers[i].first + (int)(r.v[2] % 12);
            snprintf(buffers[i].name, sizeof buffers[i].name, "b%d", i);
            sum += buffers[i].bytes;
            list[i] = &buffers[i];
        }
        size_t total = oct_layout_buffers(list, MANY);
        cr_assert(total <= sum, "seed %d: %zu bytes for a sum of %zu", (int)seed, total, sum);
        for (int i = 0; i < MANY; i++) {
            cr_assert(buffers[i].offset + buffers[i].bytes <= total);
            for (int j = 0; j < i; j++)
                cr_assert_not(overlap(&buffers[i], &buffers[j]), "seed %d: %s and %s overlap",
                    (int)seed, buffers[i].name, buffers[j].name);
        }
    }
}

static size_t layout(struct oct_buffer *buffers, size_t count)
{
    struct oct_buffer *list[8];
    for (size_t i = 0; i < count; i++)
        list[i] = &buffers[i];
    return oct_layout_buffers(list, count);
}

Test(plan, hand_solved_graphs)
{
    struct oct_buffer chain[] = {{.name = "a", .bytes = 100, .first = 0, .last = 1},
        {.name = "b", .bytes = 100, .first = 1, .last = 2},
        {.name = "c", .bytes = 100, .first = 2, .last = 3}};
    cr_assert_eq(layout(chain, 3), 200, "a chain needs two buffers at a time");

    struct oct_buffer apart[] = {{.name = "a", .bytes = 64, .first = 0, .last = 0},
        {.name = "b", .bytes = 128, .first = 1, .last = 1}};
    cr_assert_eq(layout(apart, 2), 128, "buffers that never meet share their place");

    struct oct_buffer skip[] = {{.name = "x", .bytes = 100, .first = 0, .last = 5},
        {.name = "y", .bytes = 50, .first = 1, .last = 2},
        {.name = "z", .bytes = 50, .first = 3, .last = 4}};
    cr_assert_eq(layout(skip, 3), 150, "a skip connection holds its place");

    struct oct_buffer none[] = {{.name = "empty", .bytes = 0, .first = 0, .last = 9}};
    cr_assert_eq(layout(none, 1), 0);
}

Test(plan, state_lies_in_one_piece_beside_its_copy)
{
    struct oct_plan *plan = NULL;
    size_t persistent, transient;
    static char blocks[2][4096];

    cr_assert_eq(oct_plan_open(&plan), OCT_OK);
    struct oct_buffer *w = oct_plan_book(plan, 100, OCT_PERSISTENT, 0, "w");
    struct oct_buffer *mean = oct_plan_book(plan, 300, OCT_PERSISTENT, 0, "mean");
    struct oct_buffer *scale = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "scale");
    struct oct_buffer *clip = oct_plan_book(plan, 8, OCT_PERSISTENT, 0, "clip");
    cr_assert_eq(oct_plan_kept(plan).bytes, 0, "no state yet");
    oct_plan_keep(plan, clip); /* in another order than that of the booking, one of them twice */
    oct_plan_keep(plan, mean);
    oct_plan_keep(plan, mean);
    cr_assert_eq(oct_plan_layout(plan, &persistent, &transient), OCT_OK);
    oct_plan_place(plan, blocks[0], blocks[1]);
    const struct oct_plan_kept kept = oct_plan_kept(plan);
    char *now = kept.now, *before = kept.before;
    cr_assert_eq(persistent, 256 + 512 + 256 + 256 + kept.bytes);
    cr_assert_eq(kept.bytes, 512 + 256);
    cr_assert_eq(mean->data, now);
    cr_assert_eq(clip->data, now + 512);
    const struct oct_buffer *others[] = {w, scale};
    for (size_t i = 0; i < 2; i++) {
        const char *at = others[i]->data;
        cr_assert(at + others[i]->bytes <= now || at >= now + kept.bytes);
        cr_assert(at + others[i]->bytes <= before || at >= before + kept.bytes);
    }
    cr_assert(before >= now + kept.bytes && before + kept.bytes <= blocks[0] + persistent);
    oct_plan_close(plan);
}

Test(plan, buffers_persist_or_move)
{
    struct oct_plan *plan = NULL;
    size_t persistent, transient;
    static char blocks[2][4096];

    cr_assert_eq(oct_plan_open(&plan), OCT_OK);
    struct oct_buffer *weight = oct_plan_book(plan, 100, OCT_PERSISTENT, 0, "w");
    struct oct_buffer *x = oct_plan_book(plan, 300, 0, 0, "x");
    oct_plan_use(x, 7);
    oct_plan_use(weight, 7); /* no effect */
    oct_plan_workspace(plan, 10);
    oct_plan_workspace(plan, 500);
    cr_assert_eq(oct_plan_layout(plan, &persistent, &transient), OCT_OK);
    oct_plan_place(plan, blocks[0], blocks[1]);
    cr_assert_eq(persistent, 256);
    cr_assert_eq(transient, 512 + 512, "x and the workspace live together");
    cr_assert_eq(weight->data, blocks[0]);
    cr_assert_eq(x->last, 7);
    cr_assert_eq(oct_plan_saved_bytes(plan, 4), 512, "x is saved for backward, nothing else");
    char *table = oct_plan_table(plan, 1);
    cr_assert(strstr(table, "w ") && strstr(table, "x "));
    free(table);
    oct_plan_close(plan);
}
