// The one file that says `omp`: the worker team and the fork guard.
#pragma once
#include <atomic>
#include <cstdint>
#include <omp.h>
#include <pthread.h>

#include "core/float_environment.hpp"
#include "core/threads.hpp"

namespace fastcnn {

inline std::atomic<bool> team_started{false};
inline std::atomic<bool> run_serial{false};  // set in a forked child: libgomp's threads do not exist there

inline bool in_parallel() { return omp_in_parallel() != 0; }

// Each worker begins with its own part of the tasks, the same part in every layer, so that it finds in its cache what
// it wrote there; then it helps the others.
inline void run_team(int threads, int64_t count, void (*body)(void*, int64_t, int), void* context) {
  if (!team_started.exchange(true)) pthread_atfork(nullptr, nullptr, [] { run_serial = true; });
  struct alignas(64) Part {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Part parts[kMostThreads];
  for (int i = 0; i < threads; ++i) {
    parts[i].next.store(count * i / threads, std::memory_order_relaxed);
    parts[i].end = count * (i + 1) / threads;
  }
#pragma omp parallel num_threads(threads)
  {
    const FloatEnvironment environment;
    const int worker = omp_get_thread_num();
    for (int i = 0; i < threads; ++i) {
      Part& part = parts[(worker + i) % threads];
      for (int64_t task; (task = part.next.fetch_add(1, std::memory_order_relaxed)) < part.end;)
        body(context, task, worker);
    }
  }
}

}  // namespace fastcnn
