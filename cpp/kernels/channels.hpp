// Loops over the channels of one pixel or row.
#pragma once
#include <cstdint>

#include "simd/simd.hpp"

namespace fastcnn::FASTCNN_ISA {

// f(c, n) for channels c..c+n-1: n = kLanes but for the last call, so one body serves full vectors and the tail.
template <class F>
FASTCNN_INLINE void over_channels(int64_t C, const F& f) {
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) f(c, kLanes);
  if (c < C) f(c, C - c);
}

}  // namespace fastcnn::FASTCNN_ISA
