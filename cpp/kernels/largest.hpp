// The maximum of windows, and where it lies.
#pragma once
#include "simd/simd.hpp"

namespace fastcnn::FASTCNN_ISA {

// The largest value so far, and if wanted its place: of equal values the first, and NaN beats every number.
struct Largest {
  vf value;
  vi place{};
  FASTCNN_INLINE void take(vf other, int32_t at, bool with_place) {
    const vi wins = ~(other <= value) & (value == value);
    if (with_place) place = wins ? at - vi{} : place;
    value = select(wins, other, value);
  }
};

}  // namespace fastcnn::FASTCNN_ISA
