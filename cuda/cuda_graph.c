/* Recordings of the CUDA backend: a part of a training step captured once as a CUDA graph, then
 * launched as one. Everything a step needs from outside lies in device memory, so that one graph
 * serves all steps. */
#include "cuda.h"

static enum oct_status cuda_record(oct_backend *backend)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_CUDA(cudaSetDevice(cuda->device));
    OCT_CUDA(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    return OCT_OK;
}

static enum oct_status cuda_recorded(oct_backend *backend, int keep, void **recording)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaError_t error = cudaStreamEndCapture(oct_cuda_of(backend)->stream, &graph);

    if (keep && error == cudaSuccess)
        error = cudaGraphInstantiate(&exec, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (!keep) {
        (void)cudaGetLastError(); /* that of the broken recording; its cause has been told */
        return OCT_OK;
    }
    OCT_TRY(oct_cuda_status(error, "recording a step as a CUDA graph"));
    *recording = exec;
    return OCT_OK;
}

static enum oct_status cuda_replay(oct_backend *backend, void *recording)
{
    OCT_CUDA(cudaGraphLaunch(recording, oct_cuda_of(backend)->stream));
    return OCT_OK;
}

static void cuda_forget(oct_backend *backend, void *recording)
{
    (void)cudaStreamSynchronize(oct_cuda_of(backend)->stream);
    (void)cudaGraphExecDestroy(recording);
}

void oct_cuda_graph_install(oct_backend *table)
{
    table->record = cuda_record;
    table->recorded = cuda_recorded;
    table->replay = cuda_replay;
    table->forget = cuda_forget;
}
