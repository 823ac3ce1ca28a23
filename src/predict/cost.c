#include "predict/cost.h"

#include "predict/cost_table.h"

#include <assert.h>

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static const struct oct_product_slots *find_slots(const struct oct_work_launch *launch, int arch)
{
    for (size_t i = 0; i < sizeof oct_product_slots / sizeof oct_product_slots[0]; i++) {
        const struct oct_product_slots *s = &oct_product_slots[i];
        if (s->arch == arch && s->gradient == launch->gradient && s->tile == launch->tile &&
            s->load == (launch->gradient ? launch->narrow : launch->load) &&
            s->two_planes == launch->two_planes)
            return s;
    }
    assert(!"cuda/ has a kernel for every cut, and every card's architecture is in the table");
    return NULL;
}

static double outside_loop(const struct oct_work_launch *launch, enum oct_work_kind kind)
{
    for (size_t i = 0; i < sizeof oct_block_slots / sizeof oct_block_slots[0]; i++) {
        const struct oct_block_slots *s = &oct_block_slots[i];
        if (s->kind == kind && s->tile == launch->tile && s->two_planes == launch->two_planes)
            return s->slots;
    }
    assert(!"the table has every tile of every product");
    return 0.0;
}

double oct_cost_product_slots(
    const struct oct_work_launch *launch, enum oct_work_kind kind, int arch)
{
    return find_slots(launch, arch)->slots * launch->products +
           outside_loop(launch, kind) * launch->blocks;
}

int oct_cost_product_blocks(const struct oct_work_launch *launch, int arch)
{
    return find_slots(launch, arch)->blocks;
}

/* Kinds of op that the counted step does not have (copies, averages) are not in the table: they are
 * taken at their list. */
static struct oct_kind_cost kind_cost(enum oct_work_kind kind)
{
    static const struct oct_kind_cost listed = {1.0, 0.0, 1};
    return oct_kind_costs[kind].launches > 0 ? oct_kind_costs[kind] : listed;
}

double oct_cost_bytes(const struct oct_work *work)
{
    return (work->read + work->written) * kind_cost(work->kind).traffic;
}

/* Share of the blocks' places that have one, the last wave of blocks being a part of a wave. */
static double filled(const struct oct_work_launch *launch, const struct oct_card *card)
{
    const double places =
        (double)card->multiprocessors * oct_cost_product_blocks(launch, card->arch);
    const double waves = (double)(int64_t)((launch->blocks + places - 1.0) / places);
    return launch->blocks / (waves * places);
}

static double issue_rate(const struct oct_card *card)
{
    return card->multiprocessors * card->clock_ghz * card->sustained * 1e9 *
           oct_card_assumptions.issue_slots;
}

static double unit_rate(const struct oct_card *card, enum oct_unit unit)
{
    const double reachable = unit == OCT_UNIT_INT8 ? card->reachable_int8 : 1.0;
    return card->peak_tera[unit] * 1e12 * card->sustained * reachable;
}

/* Efficiencies of the estimate's three times: nominal, the band's best, its worst. A unit whose
 * nominal efficiency lies above the band has that as its best. */
static double efficiency_of(enum oct_unit unit, int which)
{
    const struct oct_card_assumptions *a = &oct_card_assumptions;
    if (which == OCT_ESTIMATE_BEST)
        return larger(a->efficiency[unit], a->band_high);
    return which == OCT_ESTIMATE_WORST ? a->band_low : a->efficiency[unit];
}

/* What keeps an op busy, seconds each; that of products at full efficiency. */
struct busy {
    double memory, unit, issue;
    int launches;
};

static struct busy busy_of(const struct oct_card *card, enum oct_unit unit,
    const struct oct_work *work, const struct oct_work_launch *launch, int count)
{
    const double bandwidth = card->bandwidth_gb * 1e9 * oct_card_assumptions.bandwidth;
    const struct oct_kind_cost cost = kind_cost(work->kind);
    struct busy busy = {.launches = cost.launches};

    if (unit != OCT_UNIT_INT8) { /* a rival: its bytes, its products, nothing of our kernels */
        busy.memory = (work->read + work->written) / bandwidth;
        busy.unit = 2.0 * work->macs / unit_rate(card, unit);
        return busy;
    }
    busy.memory = oct_cost_bytes(work) / bandwidth;
    busy.issue = cost.slots * work->elements / issue_rate(card);
    for (int i = 0; i < count; i++) {
        const double full = filled(&launch[i], card);
        busy.unit += 8192.0 * launch[i].products / unit_rate(card, unit) / full;
        busy.issue +=
            oct_cost_product_slots(&launch[i], work->kind, card->arch) / issue_rate(card) / full;
    }
    if (count > 0)
        busy.launches += count - 1;
    if (work->folded > 0) {
        busy.issue += OCT_FOLD_SLOTS * work->folded / issue_rate(card);
        busy.launches++;
    }
    return busy;
}

void oct_cost_add(struct oct_estimate *e, const struct oct_card *card, enum oct_unit unit,
    const struct oct_work *work, const struct oct_work_launch *launch, int count)
{
    const struct busy busy = busy_of(card, unit, work, launch, count);
    const double launched = busy.launches * oct_card_assumptions.launch_seconds;

    for (int i = 0; i < OCT_ESTIMATE_TIMES; i++) {
        const double unit_time = busy.unit / efficiency_of(unit, i);
        const double work_time = larger(busy.memory, larger(unit_time, busy.issue));
        e->seconds[i] += work_time + launched;
        if (i != OCT_ESTIMATE_NOMINAL)
            continue;
        if (work_time < launched)
            e->bound[OCT_BOUND_LAUNCH] += work_time + launched;
        else if (work_time == busy.memory)
            e->bound[OCT_BOUND_MEMORY] += work_time + launched;
        else
            e->bound[work_time == busy.issue ? OCT_BOUND_ISSUE : OCT_BOUND_PRODUCTS] +=
                work_time + launched;
    }
    e->listed_bytes += work->read + work->written;
    e->bytes += unit == OCT_UNIT_INT8 ? oct_cost_bytes(work) : work->read + work->written;
    e->macs += work->macs;
    e->launches += busy.launches;
}
