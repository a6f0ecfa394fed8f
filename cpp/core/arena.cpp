#include "core/arena.hpp"

#include <cstdint>
#include <new>
#include <sys/mman.h>
#include <utility>

namespace fastcnn {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmall = size_t{1} << 20;  // below, huge pages would waste more than they speed up
}  // namespace

Arena::Arena(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= kSmall;
  mapped_size_ = bytes + (huge ? kHugePage : 0);
  if (mapped_size_ < bytes) throw std::bad_alloc();
  mapped_ = mmap(nullptr, mapped_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) {
    mapped_ = nullptr;
    throw std::bad_alloc();
  }
  auto address = reinterpret_cast<uintptr_t>(mapped_);
  if (huge) address = (address + kHugePage - 1) / kHugePage * kHugePage;
  data_ = reinterpret_cast<char*>(address);
  // Only whole huge pages are asked for, so that no memory beyond the request becomes resident.
  if (huge) madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
}

Arena::~Arena() {
  if (mapped_) munmap(mapped_, mapped_size_);
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, nullptr)),
      mapped_size_(std::exchange(other.mapped_size_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  std::swap(mapped_size_, other.mapped_size_);
  return *this;
}

void Arena::reserve(size_t bytes) {
  if (bytes <= size_) return;
  *this = Arena();  // the old memory goes first: both together could be too much
  *this = Arena(bytes);
}

}  // namespace fastcnn
