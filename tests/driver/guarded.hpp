// Arrays that end at a page that nobody may touch, filled with NaN, small integers or real numbers.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

namespace fastcnn::driver {

template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t count, int64_t align = sizeof(T)) : count_(count) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T)), padded = (bytes + align - 1) / align * align;
    inner_ = (padded + page - 1) / page * page;
    mapped_ = inner_ + 2 * page;
    base_ = static_cast<char*>(mmap(nullptr, size_t(mapped_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || (inner_ && mprotect(base_ + page, size_t(inner_), PROT_READ | PROT_WRITE)))
      throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(base_ + page + inner_ - padded);
    std::memset(static_cast<void*>(data_), 0xff, size_t(padded));  // NaN, -1, 255
  }
  Guarded(const Guarded& other) : Guarded(other.count_) { *this = other; }
  Guarded& operator=(const Guarded& other) {
    std::memcpy(data_, other.data_, size_t(count_) * sizeof(T));
    return *this;
  }
  ~Guarded() { munmap(base_, size_t(mapped_)); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  T operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return count_; }

 private:
  int64_t count_, inner_, mapped_;
  char* base_;
  T* data_;
};

using Floats = Guarded<float>;

inline uint64_t random_state = 1;
inline uint64_t random_bits() {  // splitmix64 (Steele, Lea and Flood 2014)
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
inline Floats integers(int64_t count) {
  Floats a(count);
  for (int64_t i = 0; i < count; ++i) a[i] = static_cast<float>(random_bits() % 7) - 3;
  return a;
}
inline Floats uniform(int64_t count, double low, double high) {
  Floats a(count);
  for (int64_t i = 0; i < count; ++i)
    a[i] = static_cast<float>(low + (high - low) * static_cast<double>(random_bits() >> 11) * 0x1p-53);
  return a;
}

}  // namespace fastcnn::driver
