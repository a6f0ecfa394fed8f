#include "core/packed.hpp"

#include <utility>

namespace fastcnn {

PackedWeights::PackedWeights(int64_t floats, std::vector<const int64_t*> versions, std::function<void(float*)> pack)
    : memory_(sizeof(float) * static_cast<size_t>(floats)), versions_(std::move(versions)), pack_(std::move(pack)) {}

// Counters only grow, so their sum changes whenever one of them does.
int64_t PackedWeights::version() const {
  int64_t sum = 0;
  for (const int64_t* counter : versions_) sum += *counter;
  return sum;
}

const float* PackedWeights::get() {
  const std::lock_guard<std::mutex> lock(mutex_);
  float* const packed = reinterpret_cast<float*>(memory_.data());
  const int64_t now = version();
  if (packed_version_ != now) {
    pack_(packed);
    packed_version_ = now;
  }
  return packed;
}

}  // namespace fastcnn
