// `vd`, as many doubles as `vf` has floats: for sums whose rounding must not show.
#pragma once
#include "simd/simd.hpp"

namespace fastcnn::FASTCNN_ISA {

typedef double vd __attribute__((vector_size(8 * FASTCNN_LANES)));

FASTCNN_INLINE vd to_double(vf a) { return __builtin_convertvector(a, vd); }

FASTCNN_INLINE double sum_lanes_double(vd a) {
  double sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += a[i];
  return sum;
}

}  // namespace fastcnn::FASTCNN_ISA
