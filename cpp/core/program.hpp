// A program: the list of steps of one model at one batch size, run without Python.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/arena.hpp"
#include "core/kernels.hpp"
#include "core/threads.hpp"

namespace fastcnn {

struct Step {
  std::string name;  // the operation, `<op>_<pass>`
  ScratchSize scratch;
  std::function<void(const Scratch&)> run;
};

class Program {
 public:
  // Programs that never run at the same time may share their scratch memory.
  explicit Program(std::shared_ptr<Arena> scratch) : scratch_(std::move(scratch)) {}
  void append(Step step);  // throws std::bad_alloc when its scratch can't be had
  int64_t size() const { return static_cast<int64_t>(steps_.size()); }
  const Step& step(int64_t index) const { return steps_[static_cast<size_t>(index)]; }
  int64_t scratch_bytes(int threads = num_threads()) const;
  // Runs steps first..last-1. Between steps, at most every 100 ms, asks `interrupted`; true stops the run.
  // `seconds` (null: not wanted) receives each step's time. Returns false when interrupted.
  bool run(int64_t first, int64_t last, const std::function<bool()>& interrupted, double* seconds);

 private:
  Scratch reserve_scratch(int threads);
  std::vector<Step> steps_;
  ScratchSize largest_{0, 0};
  std::shared_ptr<Arena> scratch_;
};

}  // namespace fastcnn
