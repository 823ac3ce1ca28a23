/* A fixed pool of threads. The caller works too, as thread 0. Workers spin briefly for the next
 * job, since a training step hands out several hundred jobs a few microseconds apart, and then
 * sleep, since a pool that spins beside another program costs it a core. */
#include "cpu/cpu.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000, MAX_THREADS = 1024 };

struct oct_pool {
    int threads;
    pthread_t *workers;
    int started;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_uint generation; /* of the current job; workers wait for it to change */
    atomic_int open;        /* the job below may be worked on */
    atomic_int active;      /* workers that are looking at it */
    atomic_int sleeping;
    atomic_int quit;
    atomic_int_fast64_t next;
    int64_t items;
    oct_pool_work *work;
    void *arg;
};

struct worker_start {
    struct oct_pool *pool;
    int thread;
};

void oct_cpu_flush_subnormals(void)
{
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* FTZ | DAZ */
}

static void take_items(struct oct_pool *pool, int thread)
{
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->items)
            return;
        pool->work(pool->arg, item, thread);
    }
}

static void wait_for_job(struct oct_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
            return;
        _mm_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleeping, 1);
    while (atomic_load(&pool->generation) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *start_)
{
    struct worker_start start = *(struct worker_start *)start_;
    free(start_);
    struct oct_pool *pool = start.pool;
    unsigned seen = 0;

    oct_cpu_flush_subnormals();
    for (;;) {
        wait_for_job(pool, seen);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load(&pool->quit))
            return NULL;
        /* A worker that comes late finds the job closed and is not waited for. It says that it
         * looks before it looks; the caller closes before it waits: one of the two sees the other.
         */
        atomic_fetch_add(&pool->active, 1);
        if (atomic_load(&pool->open))
            take_items(pool, start.thread);
        atomic_fetch_sub(&pool->active, 1);
    }
}

static void publish(struct oct_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleeping) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void run_items(struct oct_pool *pool, int64_t items, oct_pool_work *work, void *arg)
{
    if (pool->threads == 1 || items == 1) {
        for (int64_t item = 0; item < items; item++)
            work(arg, item, 0);
        return;
    }
    pool->items = items;
    pool->work = work;
    pool->arg = arg;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->open, 1);
    publish(pool);
    take_items(pool, 0);
    atomic_store(&pool->open, 0);
    for (unsigned spins = 0; atomic_load(&pool->active) > 0; spins++) {
        if (spins > 100000)
            sched_yield();
        else
            _mm_pause();
    }
}

void oct_pool_run(struct oct_pool *pool, int64_t items, oct_pool_work *work, void *arg)
{
    /* The caller is any thread of the program: it flushes subnormals only while it works here. */
    unsigned callers = _mm_getcsr();
    oct_cpu_flush_subnormals();
    run_items(pool, items, work, arg);
    _mm_setcsr(callers);
}

int oct_pool_threads(const struct oct_pool *pool)
{
    return pool->threads;
}

enum oct_status oct_pool_open(int threads, struct oct_pool **out)
{
    enum oct_status status = OCT_OK;
    struct oct_pool *pool = NULL;

    if (threads < 1 || threads > MAX_THREADS)
        return oct_fail(OCT_ARG, "thread pool of %d threads: use 1 to %d", threads, MAX_THREADS);
    pool = calloc(1, sizeof *pool);
    if (!pool)
        return oct_fail(OCT_NOMEM, "no memory for a thread pool");
    pool->threads = threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->workers)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for %d threads", threads));
    for (int i = 1; i < threads; i++) {
        struct worker_start *start = malloc(sizeof *start);
        if (!start)
            OCT_OUT(oct_fail(OCT_NOMEM, "no memory for thread %d", i));
        *start = (struct worker_start){pool, i};
        if (pthread_create(&pool->workers[i], NULL, worker_main, start) != 0) {
            free(start);
            OCT_OUT(oct_fail(OCT_DEVICE, "cannot start thread %d of %d", i, threads));
        }
        pool->started = i;
    }
    *out = pool;
    return OCT_OK;
out:
    oct_pool_close(pool);
    return status;
}

void oct_pool_close(struct oct_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->quit, 1);
    publish(pool);
    for (int i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}
