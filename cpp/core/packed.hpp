// Weights packed for one algorithm and one instruction set, with the version they were packed from.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "core/arena.hpp"

namespace fastcnn {

class PackedWeights {
 public:
  // pack writes `floats` floats; `versions` are the counters of all arrays that it reads.
  PackedWeights(int64_t floats, std::vector<const int64_t*> versions, std::function<void(float*)> pack);
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  const float* get();  // packs first when stale

 private:
  int64_t version() const;
  Arena memory_;
  int64_t packed_version_ = -1;
  std::vector<const int64_t*> versions_;
  std::function<void(float*)> pack_;
  std::mutex mutex_;
};

}  // namespace fastcnn
