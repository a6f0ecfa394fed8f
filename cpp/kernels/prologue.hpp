// The normalisation of inputs while they are loaded; see Prologue.
#pragma once
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE vf normalised(const Prologue& prologue, vf x, int64_t c, int64_t n) {
  const vf v =
      (x - load_upto(prologue.mean + c, n)) * load_upto(prologue.scale + c, n) + load_upto(prologue.shift + c, n);
  return prologue.relu ? relu(v) : v;
}
FASTCNN_INLINE float normalised(const Prologue& prologue, float x, int64_t c) {
  const float v = (x - prologue.mean[c]) * prologue.scale[c] + prologue.shift[c];
  return prologue.relu && v < 0 ? 0 : v;
}

}  // namespace fastcnn::FASTCNN_ISA
