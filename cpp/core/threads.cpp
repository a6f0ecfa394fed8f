#include "core/threads.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sched.h>
#include <sstream>
#include <string>

#include "core/parallel.hpp"

namespace fastcnn {
namespace {

constexpr int64_t kSerialWork = 500'000;  // multiply-adds; below, waking a second core costs more than it brings

int affinity_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

double number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? -1.0 : value;
}

// CPUs that one cgroup directory grants, or infinity: v2 "cpu.max" is "quota period", v1 has two files.
double quota_in(const std::string& directory) {
  std::istringstream line(first_line(directory + "/cpu.max"));
  std::string quota, period;
  if (!(line >> quota >> period)) {
    quota = first_line(directory + "/cpu.cfs_quota_us");
    period = first_line(directory + "/cpu.cfs_period_us");
  }
  const double q = number(quota), p = number(period);
  return q > 0 && p > 0 ? q / p : std::numeric_limits<double>::infinity();
}

// The tightest quota of this process's cgroup and all its parents.
double cgroup_quota() {
  double quota = std::numeric_limits<double>::infinity();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers.find("cpu") == std::string::npos) continue;
    const std::string root = controllers.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controllers;
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      quota = std::min(quota, quota_in(root + path));
      if (path.empty() || path.rfind('/') == std::string::npos) break;
    }
  }
  return quota;
}

std::atomic<int>& threads_setting() {
  static std::atomic<int> threads{default_num_threads()};
  return threads;
}

// Programs that are running and have wanted more than one worker.
std::atomic<int> sharing{0};

// Of the program that this thread runs: its number of threads, 0 for no program, and whether `sharing` counts it.
thread_local int share_threads = 0;
thread_local bool share_counted = false;

}  // namespace

// A program that is run by a step of another is a part of that.
ThreadShare::ThreadShare() : outermost_(share_threads == 0) {
  if (outermost_) share_threads = num_threads();
}

ThreadShare::~ThreadShare() {
  if (!outermost_) return;
  if (share_counted) sharing.fetch_sub(1, std::memory_order_relaxed);
  share_counted = false;
  share_threads = 0;
}

int ThreadShare::threads() const { return share_threads; }

int default_num_threads() {
  int threads = affinity_threads();
  const double quota = cgroup_quota();
  if (quota < threads) threads = std::max(1, static_cast<int>(std::ceil(quota)));
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const double wanted = number(text);
    if (wanted >= 1) threads = static_cast<int>(std::min<double>(threads, wanted));
  }
  return std::min(threads, kMostThreads);
}

int num_threads() { return threads_setting(); }
void set_num_threads(int threads) { threads_setting() = std::clamp(threads, 1, kMostThreads); }
bool forked() { return run_serial; }

void parallel_tasks(int64_t count, int64_t work, void (*body)(void*, int64_t, int), void* context) {
  const ThreadShare share;
  int threads = static_cast<int>(std::min<int64_t>(share.threads(), count));
  if (threads > 1 && work >= kSerialWork && !run_serial && !in_team) {
    if (!share_counted) sharing.fetch_add(1, std::memory_order_relaxed);
    share_counted = true;
    threads = std::min(threads, std::max(1, share.threads() / sharing.load(std::memory_order_relaxed)));
  } else {
    threads = 1;
  }
  if (threads > 1) {
    run_team(threads, count, body, context);
  } else {
    for (int64_t task = 0; task < count; ++task) body(context, task, 0);
  }
}

}  // namespace fastcnn
