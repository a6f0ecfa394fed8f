#include "core/program.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/float_environment.hpp"
#include "core/threads.hpp"

namespace fastcnn {
namespace {
constexpr int64_t kAlign = 4096;  // workers start on pages of their own
int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
}  // namespace

int64_t Program::scratch_bytes(int threads) const {
  return aligned(largest_.shared) + threads * aligned(largest_.per_worker);
}

Scratch Program::reserve_scratch(int threads) {
  scratch_->reserve(static_cast<size_t>(scratch_bytes(threads)));
  return {scratch_->data(), scratch_->data() + aligned(largest_.shared), aligned(largest_.per_worker)};
}

void Program::append(Step step) {
  largest_.shared = std::max(largest_.shared, step.scratch.shared);
  largest_.per_worker = std::max(largest_.per_worker, step.scratch.per_worker);
  reserve_scratch(num_threads());
  steps_.push_back(std::move(step));
}

bool Program::run(int64_t first, int64_t last, const std::function<bool()>& interrupted, double* seconds) {
  using Clock = std::chrono::steady_clock;
  // Asking takes the interpreter lock, which a busy Python thread gives away only every 5 ms: the longer the last
  // question took, the longer until the next, so that waiting stays below 2 % of the time.
  constexpr auto kAskEvery = std::chrono::milliseconds(100);
  constexpr int kPatience = 50;
  const FloatEnvironment environment;
  const ThreadShare share;
  const Scratch scratch = reserve_scratch(share.threads());
  auto before = Clock::now(), ask_at = before + kAskEvery;
  for (int64_t i = first; i < last; ++i) {
    steps_[static_cast<size_t>(i)].run(scratch);
    const auto now = Clock::now();
    if (seconds) seconds[i - first] = std::chrono::duration<double>(now - before).count();
    before = now;
    if (interrupted && now >= ask_at) {
      if (interrupted()) return false;
      before = Clock::now();
      ask_at = before + std::max<Clock::duration>(kAskEvery, kPatience * (before - now));
    }
  }
  return true;
}

}  // namespace fastcnn
