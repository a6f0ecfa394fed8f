// Convolution: chooses an algorithm, nothing else. The loops are in conv_gemm.hpp, conv_winograd.hpp, conv_weights.hpp
// and, on tile registers, conv_tiles.hpp and conv_weights_tiles.hpp.
#include "kernels/conv_gemm.hpp"
#include "kernels/conv_weights.hpp"
#include "kernels/conv_weights_tiles.hpp"
#include "kernels/conv_winograd.hpp"
#include "kernels/table.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr Prologue kNoPrologue{nullptr, nullptr, nullptr, false};

winograd::Problem winograd_forward(const Conv2DShape& s) {
  return {s.N, s.H, s.W, s.C, s.K, s.P, s.Q, s.pad_top, s.pad_left};
}
// dx is the convolution of dy with the turned window, padded by what the forward pass did not pad.
winograd::Problem winograd_backward(const Conv2DShape& s) {
  return {s.N, s.P, s.Q, s.K, s.C, s.H, s.W, s.R - 1 - s.pad_top, s.S - 1 - s.pad_left};
}
bool winograd_fits(const Conv2DShape& s) {
  return winograd::fits(s.R, s.S, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w);
}

Conv2DAlgorithm conv2d_choose(const Conv2DShape& s) {
  return winograd_fits(s) && winograd::pays(s.C, s.K, s.P, s.Q) ? Conv2DAlgorithm::winograd : Conv2DAlgorithm::gemm;
}
bool conv2d_can(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::gemm || winograd_fits(s);
}
int64_t conv2d_packed_size(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::winograd ? winograd::packed_size(s.C, s.K, s.P, s.Q)
                                                : gemm::packed_size(gemm::forward_problem(s));
}
void conv2d_pack(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* w, const float* scale, float* packed) {
  if (algorithm == Conv2DAlgorithm::winograd)
    winograd::pack(s.C, s.K, s.P, s.Q, w, scale, false, packed);
  else
    gemm::pack(s, w, scale, packed);
}
int64_t conv2d_statistics_blocks(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::winograd ? winograd::grid(winograd_forward(s)).chunks
                                                : gemm::grid(gemm::forward_problem(s), false).blocks;
}
ScratchSize conv2d_forward_scratch(const Conv2DShape& s, Conv2DAlgorithm algorithm, const Epilogue& epilogue) {
  if (algorithm == Conv2DAlgorithm::winograd) return winograd::scratch_size(winograd_forward(s));
  return gemm::scratch_size(gemm::forward_problem(s), epilogue.pool);
}
void conv2d_forward(const Conv2DShape& s, Conv2DAlgorithm algorithm, const Prologue& prologue, const float* x,
                    const float* packed, const Epilogue& epilogue, float* y, const Scratch& scratch) {
  if (algorithm == Conv2DAlgorithm::winograd)
    winograd::run(winograd_forward(s), prologue, x, packed, epilogue, y, scratch);
  else
    gemm::run(gemm::forward_problem(s), prologue, x, packed, epilogue, y, scratch);
}

Conv2DAlgorithm conv2d_backward_data_choose(const Conv2DShape& s) {
  return winograd_fits(s) && winograd::pays(s.K, s.C, s.H, s.W) ? Conv2DAlgorithm::winograd : Conv2DAlgorithm::gemm;
}
int64_t conv2d_backward_data_packed_size(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::winograd ? winograd::packed_size(s.K, s.C, s.H, s.W)
                                                : gemm::packed_size(gemm::phase_problem(s, 0, 0));
}
void conv2d_backward_data_pack(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* w, const float* scale,
                               float* packed) {
  if (algorithm == Conv2DAlgorithm::winograd)
    winograd::pack(s.K, s.C, s.H, s.W, w, scale, true, packed);
  else
    gemm::pack_turned(s, w, scale, packed);
}
ScratchSize conv2d_backward_data_scratch(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  if (algorithm == Conv2DAlgorithm::winograd) return winograd::scratch_size(winograd_backward(s));
  ScratchSize size{0, 0};
  gemm::for_phases(s, [&](const gemm::Problem& p) {
    size.per_worker = larger(size.per_worker, gemm::scratch_size(p, false).per_worker);
  });
  return size;
}
void conv2d_backward_data(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* dy, const float* packed,
                          bool accumulate, float* dx, const Scratch& scratch) {
  const Epilogue epilogue{nullptr, accumulate ? dx : nullptr, false, nullptr, nullptr, nullptr, false};
  if (algorithm == Conv2DAlgorithm::winograd)
    winograd::run(winograd_backward(s), kNoPrologue, dy, packed, epilogue, dx, scratch);
  else
    gemm::for_phases(s, [&](const gemm::Problem& p) { gemm::run(p, kNoPrologue, dy, packed, epilogue, dx, scratch); });
}

ScratchSize conv2d_backward_weights_scratch(const Conv2DShape& s) {
#if FASTCNN_TILES
  if (weights::on_tiles(s)) return weights::tile_scratch_size(s);
#endif
  return weights::scratch_size(s);
}
void conv2d_backward_weights(const Conv2DShape& s, const float* x, const float* dy, bool accumulate, float* dw,
                             const Scratch& scratch) {
#if FASTCNN_TILES
  if (weights::on_tiles(s)) return weights::run_on_tiles(s, x, dy, accumulate, dw, scratch);
#endif
  weights::run(s, x, dy, accumulate, dw, scratch);
}

}  // namespace

void fill_conv(Kernels& kernels) {
  kernels.conv2d_choose = conv2d_choose;
  kernels.conv2d_can = conv2d_can;
  kernels.conv2d_packed_size = conv2d_packed_size;
  kernels.conv2d_pack = conv2d_pack;
  kernels.conv2d_statistics_blocks = conv2d_statistics_blocks;
  kernels.conv2d_forward_scratch = conv2d_forward_scratch;
  kernels.conv2d_forward = conv2d_forward;
  kernels.conv2d_backward_data_choose = conv2d_backward_data_choose;
  kernels.conv2d_backward_data_can = conv2d_can;
  kernels.conv2d_backward_data_packed_size = conv2d_backward_data_packed_size;
  kernels.conv2d_backward_data_pack = conv2d_backward_data_pack;
  kernels.conv2d_backward_data_scratch = conv2d_backward_data_scratch;
  kernels.conv2d_backward_data = conv2d_backward_data;
  kernels.conv2d_backward_weights_scratch = conv2d_backward_weights_scratch;
  kernels.conv2d_backward_weights = conv2d_backward_weights;
}

}  // namespace fastcnn::FASTCNN_ISA
