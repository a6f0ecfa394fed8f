// Aligned anonymous memory with huge pages where the system allows them.
#pragma once
#include <cstddef>

namespace fastcnn {

class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t bytes);  // zeroed; throws std::bad_alloc
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  void reserve(size_t bytes);  // grows without keeping the content; a smaller request changes nothing

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
  void* mapped_ = nullptr;
  size_t mapped_size_ = 0;
};

}  // namespace fastcnn
