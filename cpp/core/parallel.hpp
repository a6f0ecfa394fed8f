// The one file that says `omp`: the worker team and the fork guard.
#pragma once
#include <atomic>
#include <cstdint>
#include <omp.h>
#include <pthread.h>

#include "core/float_environment.hpp"

namespace fastcnn {

inline std::atomic<bool> team_started{false};
inline std::atomic<bool> run_serial{false};  // set in a forked child: libgomp's threads do not exist there

inline bool in_parallel() { return omp_in_parallel() != 0; }

inline void run_team(int threads, int64_t count, void (*body)(void*, int64_t, int), void* context) {
  if (!team_started.exchange(true)) pthread_atfork(nullptr, nullptr, [] { run_serial = true; });
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(threads)
  {
    const FloatEnvironment environment;
    const int worker = omp_get_thread_num();
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(context, task, worker);
  }
}

}  // namespace fastcnn
