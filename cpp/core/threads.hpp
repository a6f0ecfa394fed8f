// Parallelism as plain functions; parallel.hpp holds the back end.
#pragma once
#include <cstdint>

namespace fastcnn {

constexpr int kMostThreads = 128;

// Runs body(context, task, worker) for task = 0..count-1, each once, in any order, on as many workers as this thread
// may use now, numbered from 0. `work` is the whole cost in multiply-adds: small or nested calls run serially on the
// caller. body must not throw.
void parallel_tasks(int64_t count, int64_t work, void (*body)(void* context, int64_t task, int worker), void* context);

// Lives while its thread runs a program, which uses at most `threads()` workers: num_threads() as it was at the
// beginning. Programs that several threads run at the same time share that number, from the first operation on that
// wants more than one worker: with as many programs as processors, each runs on its own thread alone.
class ThreadShare {
 public:
  ThreadShare();
  ~ThreadShare();
  ThreadShare(const ThreadShare&) = delete;
  ThreadShare& operator=(const ThreadShare&) = delete;
  int threads() const;

 private:
  bool outermost_;
};

int num_threads();
void set_num_threads(int threads);  // 1 to 128
int default_num_threads();          // min(affinity, cgroup quota, OMP_NUM_THREADS)
bool forked();                      // true in a child forked after the first parallel region: it runs serially

}  // namespace fastcnn
