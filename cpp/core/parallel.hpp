// The one file that says `omp`: the worker team and the fork guard.
//
// The workers are the threads of one OpenMP region that lasts as long as the process. A region of OpenMP's own for
// every operation would end at a barrier that waits for a thread even when nothing is left for it to do, and behind
// which it burns its processor for milliseconds; here a worker that comes late is not missed, and one without work
// falls asleep.
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include "core/float_environment.hpp"
#include "core/threads.hpp"

namespace fastcnn {

inline std::atomic<bool> run_serial{false};  // set in a forked child: the workers do not exist there
inline thread_local bool in_team = false;    // this thread is running tasks

// The tasks of one call, shared by the caller and its workers. Each begins with its own part of the tasks, the same
// part in every layer, so that it finds in its cache what it wrote there; then it helps the others.
class Tasks {
 public:
  Tasks(int members, int64_t count, void (*body)(void*, int64_t, int), void* context)
      : members_(members), body_(body), context_(context) {
    for (int i = 0; i < members; ++i) new (&part(i)) Part{count * i / members, count * (i + 1) / members};
  }
  void run(int member) {
    const FloatEnvironment environment;
    in_team = true;
    for (int i = 0; i < members_; ++i) {
      Part& from = part((member + i) % members_);
      for (int64_t task; (task = from.next.fetch_add(1, std::memory_order_relaxed)) < from.end;)
        body_(context_, task, member);
    }
    in_team = false;
  }

 private:
  struct alignas(64) Part {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Part& part(int i) { return reinterpret_cast<Part*>(parts_)[i]; }
  alignas(Part) std::byte parts_[kMostThreads * sizeof(Part)];  // only the members' are touched: it is 8 KB
  int members_;
  void (*body_)(void*, int64_t, int);
  void* context_;
};

inline void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // `yield` does nothing on most of them
#endif
}

// Waits until `state` is no longer `value`: awake for longer than most gaps between two layers, then asleep, which
// `asleep` tells.
inline void await_change(const std::atomic<int>& state, int value, std::atomic<bool>& asleep) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kAwake = std::chrono::microseconds(50);
  const auto asleep_at = Clock::now() + kAwake;
  do {
    for (int i = 0; i < 16; ++i) {
      if (state.load(std::memory_order_acquire) != value) return;
      pause_processor();
    }
  } while (Clock::now() < asleep_at);
  asleep.store(true, std::memory_order_relaxed);
  state.wait(value, std::memory_order_acquire);
  asleep.store(false, std::memory_order_relaxed);
}

// Lets a thread run on the caller's processors but for the one the caller is on. Where two processors share no cache,
// Linux likes to wake a thread beside the one that wakes it; there it would get no time, since the caller goes on, and
// it may be many milliseconds until it is moved. A user who binds OpenMP's threads to places has decided otherwise.
inline void keep_off_this_processor(pid_t thread) {
  cpu_set_t processors;
  const int here = sched_getcpu();
  if (here < 0 || omp_get_proc_bind() != omp_proc_bind_false) return;
  if (sched_getaffinity(0, sizeof processors, &processors) != 0) return;
  CPU_CLR(here, &processors);
  if (CPU_COUNT(&processors) > 0) sched_setaffinity(thread, sizeof processors, &processors);
}

// A thread that runs tasks for others. Only the one whom it is lent to offers, and takes back what was not begun.
class alignas(64) Worker {
 public:
  void offer(Tasks& tasks, int member) {
    tasks_ = &tasks;
    member_ = member;
    if (asleep_.load(std::memory_order_relaxed)) keep_off_this_processor(thread_);
    change(kOffered);
  }
  void end() {
    int seen = kOffered;
    if (state_.compare_exchange_strong(seen, kIdle)) return;  // it came too late
    std::atomic<bool> caller_asleep{false};
    if (seen == kTaken) await_change(state_, kTaken, caller_asleep);
  }
  [[noreturn]] void serve() {
    thread_ = static_cast<pid_t>(syscall(SYS_gettid));
    for (;;) {
      await_change(state_, kIdle, asleep_);
      int seen = kOffered;
      if (!state_.compare_exchange_strong(seen, kTaken)) continue;
      tasks_->run(member_);
      change(kIdle);
    }
  }
  bool lent = false;  // under the team's mutex

 private:
  enum : int { kIdle, kOffered, kTaken };
  // Sequentially consistent: whether somebody sleeps is looked up after the change can be seen.
  void change(int state) {
    state_.store(state);
    state_.notify_one();
  }
  std::atomic<int> state_{kIdle};
  std::atomic<bool> asleep_{false};
  pid_t thread_ = 0;
  int member_ = 0;
  Tasks* tasks_ = nullptr;
};

// The workers of the process. None is started before the first call that wants one.
class Team {
 public:
  // Lends up to `wanted` workers, those of the lowest numbers that are free, so that a lone caller gets the same ones
  // each time; returns how many.
  int lend(int wanted, Worker** lent) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (wanted > started_) start(wanted);
    int count = 0;
    for (int i = 0; i < started_ && count < wanted; ++i) {
      if (workers_[i].lent) continue;
      workers_[i].lent = true;
      lent[count++] = &workers_[i];
    }
    return count;
  }
  void give_back(int count, Worker** lent) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int i = 0; i < count; ++i) lent[i]->lent = false;
  }

 private:
  // The thread that opens the region stands where the caller would be, so that OpenMP's places, if the user sets them,
  // are the workers'. Those for workers that exist already, and those that OpenMP does not grant, do not matter.
  void start(int count) {
    if (started_ == 0) pthread_atfork(nullptr, nullptr, [] { run_serial = true; });
    std::thread([this, count, first = started_] {
#pragma omp parallel num_threads(count + 1)
      {
        const int number = omp_get_thread_num() - 1;
        if (number >= first) workers_[number].serve();
      }
    }).detach();
    started_ = count;
  }
  std::mutex mutex_;
  int started_ = 0;
  Worker workers_[kMostThreads];
};

inline Team team;

inline void run_team(int threads, int64_t count, void (*body)(void*, int64_t, int), void* context) {
  Worker* lent[kMostThreads];
  const int workers = team.lend(threads - 1, lent);
  Tasks tasks(workers + 1, count, body, context);
  for (int i = 0; i < workers; ++i) lent[i]->offer(tasks, i + 1);
  tasks.run(0);
  for (int i = 0; i < workers; ++i) lent[i]->end();
  team.give_back(workers, lent);
}

}  // namespace fastcnn
