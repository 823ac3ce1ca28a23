/* The order of work on the simulated CUDA device, whose streams here run late and in random order:
 * uploads, downloads, copies and fills in any mixture, and recordings of them, leave the bytes that
 * the order of the calls says. */
#include "backend.h"
#include "base/rng.h"
#include "support/mirror.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static oct_backend *open_late_device(void)
{
    const struct oct_backend_options options = {.device = "sim"};
    oct_backend *device = NULL;
    mirror_find_plugins();
    setenv("GPUSIM_STREAMS", "random:5", 1);
    cr_assert_eq(oct_backend_open(&options, &device), OCT_OK, "%s", oct_last_error());
    return device;
}

static void *device_memory(oct_backend *device, size_t bytes)
{
    void *p = NULL;
    cr_assert_eq(device->alloc(device, bytes, &p), OCT_OK, "%s", oct_last_error());
    return p;
}

static void fill(uint8_t *p, size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)oct_mix32((uint32_t)i + 7919 * seed);
}

static void expect_bytes(oct_backend *device, const char *what, int number, const void *on_device,
    const uint8_t *want, size_t bytes)
{
    uint8_t *got = guard_alloc(bytes);
    char name[80];
    snprintf(name, sizeof name, "%s %d", what, number);
    cr_assert_eq(device->download(device, got, on_device, bytes), OCT_OK, "%s", oct_last_error());
    cr_assert(same_tensor(name, OCT_U8, got, want, (int64_t)bytes, NULL, 0));
    cr_assert(guard_intact(got, name));
    guard_free(got);
}

enum { AREAS = 12, CALLS = 400, LARGEST = (10 << 20) + 7 };

/* Memory on the device and what it should hold. The largest area goes up in more pieces than there
 * are pinned slots. */
struct area {
    size_t bytes;
    void *device;
    uint8_t *want;
};

static void open_areas(oct_backend *device, struct area *areas)
{
    static const size_t sizes[] = {1, 16, 1000, 4096, 100001, LARGEST};
    for (int i = 0; i < AREAS; i++) {
        struct area *a = &areas[i];
        a->bytes = sizes[i % 6];
        a->device = device_memory(device, a->bytes);
        a->want = guard_alloc(a->bytes);
        memset(a->want, 0, a->bytes);
        cr_assert_eq(device->clear(device, a->device, a->bytes), OCT_OK);
    }
}

/* The host's memory is another's as soon as `upload` returns. */
static void upload_and_spoil(
    oct_backend *device, struct area *to, uint8_t *host, uint32_t seed, size_t bytes)
{
    fill(host, bytes, seed);
    memcpy(to->want, host, bytes);
    cr_assert_eq(device->upload(device, to->device, host, bytes), OCT_OK, "%s", oct_last_error());
    memset(host, 0x5A, bytes);
}

Test(sim_order, memory_is_as_the_calls_say, .timeout = 120)
{
    oct_backend *device = open_late_device();
    struct area areas[AREAS];
    uint8_t *host = guard_alloc(LARGEST);
    open_areas(device, areas);
    for (uint32_t call = 0; call < CALLS; call++) {
        const struct oct_philox draw = oct_random(2, OCT_RNG_SYNTHETIC, 1, call);
        struct area *to = &areas[draw.v[0] % AREAS], *from = &areas[draw.v[1] % AREAS];
        const size_t shared = to->bytes < from->bytes ? to->bytes : from->bytes;
        switch (draw.v[2] % 8) {
        case 0:
            cr_assert_eq(device->clear(device, to->device, shared), OCT_OK);
            memset(to->want, 0, shared);
            break;
        case 1:
            if (to == from)
                break;
            cr_assert_eq(device->copy(device, to->device, from->device, shared), OCT_OK);
            memcpy(to->want, from->want, shared);
            break;
        case 2:
            expect_bytes(device, "call", (int)call, to->device, to->want, to->bytes);
            break;
        default:
            upload_and_spoil(device, to, host, call, to->bytes);
        }
    }
    for (int i = 0; i < AREAS; i++) {
        expect_bytes(device, "area", i, areas[i].device, areas[i].want, areas[i].bytes);
        device->free(device, areas[i].device);
        guard_free(areas[i].want);
    }
    guard_free(host);
    oct_backend_close(device);
}

enum { BYTES = 3000 };

static void *record_copy_and_clear(oct_backend *device, void *to, void *cleared, const void *from)
{
    void *recording = NULL;
    cr_assert_eq(device->record(device), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->copy(device, to, from, BYTES), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->clear(device, cleared, BYTES), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->recorded(device, 1, &recording), OCT_OK, "%s", oct_last_error());
    cr_assert_not_null(recording);
    return recording;
}

/* Two recordings, each replayed on what the uploads since have brought; neither runs while it is
 * recorded. */
Test(sim_order, a_recording_runs_when_it_is_replayed, .timeout = 120)
{
    enum { FROM, TO_A, TO_B, CLEARED_A, CLEARED_B, COUNT };
    oct_backend *device = open_late_device();
    struct area areas[COUNT];
    uint8_t *host = guard_alloc(BYTES);
    void *recordings[2];
    for (int i = 0; i < COUNT; i++) {
        areas[i] = (struct area){BYTES, device_memory(device, BYTES), guard_alloc(BYTES)};
        upload_and_spoil(device, &areas[i], host, 50u + (uint32_t)i, BYTES);
    }
    for (int i = 0; i < 2; i++)
        recordings[i] = record_copy_and_clear(
            device, areas[TO_A + i].device, areas[CLEARED_A + i].device, areas[FROM].device);
    for (int i = 0; i < COUNT; i++)
        expect_bytes(device, "before replay, area", i, areas[i].device, areas[i].want, BYTES);
    for (uint32_t turn = 0; turn < 40; turn++) {
        const int which = (int)(oct_mix32(turn) & 1);
        upload_and_spoil(device, &areas[CLEARED_A + which], host, 200 + turn, BYTES);
        upload_and_spoil(device, &areas[FROM], host, 100 + turn, BYTES);
        cr_assert_eq(device->replay(device, recordings[which]), OCT_OK, "%s", oct_last_error());
        memcpy(areas[TO_A + which].want, areas[FROM].want, BYTES);
        memset(areas[CLEARED_A + which].want, 0, BYTES);
        upload_and_spoil(device, &areas[FROM], host, 300 + turn, BYTES);
        for (int i = 0; i < COUNT && turn % 4 == 3; i++)
            expect_bytes(device, "area", i, areas[i].device, areas[i].want, BYTES);
    }
    for (int i = 0; i < 2; i++)
        device->forget(device, recordings[i]);
    for (int i = 0; i < COUNT; i++) {
        expect_bytes(device, "at last, area", i, areas[i].device, areas[i].want, BYTES);
        device->free(device, areas[i].device);
        guard_free(areas[i].want);
    }
    guard_free(host);
    oct_backend_close(device);
}

/* What may not be recorded fails, and the device is as good as before once the recording is thrown
 * away. */
Test(sim_order, a_recording_that_failed_leaves_no_trace, .timeout = 120)
{
    oct_backend *device = open_late_device();
    struct area from = {BYTES, device_memory(device, BYTES), guard_alloc(BYTES)};
    struct area to = {BYTES, device_memory(device, BYTES), guard_alloc(BYTES)};
    uint8_t *host = guard_alloc(BYTES);
    void *more = NULL;
    for (uint32_t turn = 0; turn < 3; turn++) {
        upload_and_spoil(device, &from, host, turn, BYTES);
        upload_and_spoil(device, &to, host, 10 + turn, BYTES);
        cr_assert_eq(device->record(device), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(device->copy(device, to.device, from.device, BYTES), OCT_OK);
        if (turn == 0)
            cr_assert_eq(device->alloc(device, BYTES, &more), OCT_DEVICE);
        else if (turn == 1)
            cr_assert_eq(device->sync(device), OCT_DEVICE);
        else
            cr_assert_eq(device->upload(device, to.device, host, BYTES), OCT_DEVICE);
        cr_assert_eq(device->recorded(device, 0, NULL), OCT_OK, "%s", oct_last_error());
        expect_bytes(device, "thrown away,", (int)turn, to.device, to.want, BYTES);
        void *again = record_copy_and_clear(device, to.device, from.device, from.device);
        cr_assert_eq(device->replay(device, again), OCT_OK, "%s", oct_last_error());
        expect_bytes(device, "recorded anew,", (int)turn, to.device, from.want, BYTES);
        device->forget(device, again);
    }
    device->free(device, from.device);
    device->free(device, to.device);
    guard_free(from.want);
    guard_free(to.want);
    guard_free(host);
    oct_backend_close(device);
}
