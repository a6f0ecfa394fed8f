// Parallelism as plain functions; parallel.hpp holds the back end.
#pragma once
#include <cstdint>

namespace fastcnn {

constexpr int kMostThreads = 128;

// Runs body(context, task, worker) for task = 0..count-1, each once, in any order, on up to num_threads() workers
// numbered from 0. `work` is the whole cost in multiply-adds: small or nested calls run serially on the caller. body
// must not throw.
void parallel_tasks(int64_t count, int64_t work, void (*body)(void* context, int64_t task, int worker), void* context);

int num_threads();
void set_num_threads(int threads);  // 1 to 128
int default_num_threads();          // min(affinity, cgroup quota, OMP_NUM_THREADS)
bool forked();                      // true in a child forked after the first parallel region: it runs serially

}  // namespace fastcnn
