// Weights packed for one algorithm and one instruction set, with the version they were packed from.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/arena.hpp"

namespace fastcnn {

class PackedWeights;

// Memory for packed weights: one per layer to keep them, or one shared by many layers, the last packer owning it.
struct PackedStorage {
  Arena memory;
  const PackedWeights* owner = nullptr;
  std::mutex mutex;
};

class PackedWeights {
 public:
  // pack writes `floats` floats; `versions` are the counters of all arrays that it reads.
  PackedWeights(int64_t floats, std::vector<const int64_t*> versions, std::function<void(float*)> pack,
                std::shared_ptr<PackedStorage> storage);
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  const float* get();  // packs first when stale
  int64_t floats() const { return floats_; }

 private:
  int64_t version() const;
  int64_t floats_;
  int64_t packed_version_ = -1;
  std::vector<const int64_t*> versions_;
  std::function<void(float*)> pack_;
  std::shared_ptr<PackedStorage> storage_;
};

}  // namespace fastcnn
