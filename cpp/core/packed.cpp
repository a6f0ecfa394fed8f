#include "core/packed.hpp"

#include <algorithm>
#include <utility>

namespace fastcnn {

PackedWeights::PackedWeights(int64_t floats, std::vector<const int64_t*> versions, std::function<void(float*)> pack,
                             std::shared_ptr<PackedStorage> storage)
    : floats_(floats), versions_(std::move(versions)), pack_(std::move(pack)), storage_(std::move(storage)) {
  const std::lock_guard<std::mutex> lock(storage_->mutex);
  const char* before = storage_->memory.data();
  storage_->memory.reserve(sizeof(float) * static_cast<size_t>(floats_));
  if (storage_->memory.data() != before) storage_->owner = nullptr;
}

PackedWeights::~PackedWeights() {
  const std::lock_guard<std::mutex> lock(storage_->mutex);
  if (storage_->owner == this) storage_->owner = nullptr;
}

// Counters only grow, so their sum changes whenever one of them does.
int64_t PackedWeights::version() const {
  int64_t sum = 0;
  for (const int64_t* counter : versions_) sum += *counter;
  return sum;
}

const float* PackedWeights::get() {
  const std::lock_guard<std::mutex> lock(storage_->mutex);
  float* packed = reinterpret_cast<float*>(storage_->memory.data());
  const int64_t now = version();
  if (storage_->owner != this || packed_version_ != now) {
    pack_(packed);
    storage_->owner = this;
    packed_version_ = now;
  }
  return packed;
}

}  // namespace fastcnn
