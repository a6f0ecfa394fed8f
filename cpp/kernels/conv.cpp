// Convolution: chooses an algorithm, nothing else. The loops are in conv_gemm.hpp, conv_winograd.hpp, conv_weights.hpp,
// conv_weights_winograd.hpp and, on tile registers, conv_tiles.hpp and conv_weights_tiles.hpp.
#include "kernels/conv_gemm.hpp"
#include "kernels/conv_weights.hpp"
#include "kernels/conv_weights_tiles.hpp"
#include "kernels/conv_weights_winograd.hpp"
#include "kernels/conv_winograd.hpp"
#include "kernels/table.hpp"
#include "kernels/winograd_choice.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr Prologue kNoPrologue{nullptr, nullptr, nullptr, false};

bool is_winograd(Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::winograd || algorithm == Conv2DAlgorithm::winograd_late;
}
winograd::Problem winograd_forward(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  const bool late = algorithm == Conv2DAlgorithm::winograd_late;
  return {s.N, s.H, s.W, s.C, s.K, s.P, s.Q, s.pad_top, s.pad_left, late, s.stride_h == 2};
}
// dx is the convolution of dy with the turned window, padded by what the forward pass did not pad.
winograd::Problem winograd_backward(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  const bool late = algorithm == Conv2DAlgorithm::winograd_late;
  return {s.N, s.P, s.Q, s.K, s.C, s.H, s.W, s.R - 1 - s.pad_top, s.S - 1 - s.pad_left, late, false};
}
bool is_batched(Conv2DAlgorithm algorithm) { return algorithm == Conv2DAlgorithm::gemm_batched; }

Conv2DAlgorithm variant(const winograd::Problem& p, Conv2DAlgorithm algorithm, bool batched) {
  if (is_winograd(algorithm)) {
    const bool late = !p.strided && winograd::transformed_late(p.C, p.K, p.P, p.Q, batched);
    return late ? Conv2DAlgorithm::winograd_late : Conv2DAlgorithm::winograd;
  }
  return batched && p.P * p.Q <= gemm::kFewPixels ? Conv2DAlgorithm::gemm_batched : Conv2DAlgorithm::gemm;
}
Conv2DAlgorithm choose(const winograd::Problem& p, bool fits, bool batched) {
  const bool winograd = fits && winograd::pays(p, batched);
  return variant(p, winograd ? Conv2DAlgorithm::winograd : Conv2DAlgorithm::gemm, batched);
}

Conv2DAlgorithm conv2d_variant(const Conv2DShape& s, Conv2DAlgorithm algorithm, bool batched) {
  return variant(winograd_forward(s, algorithm), algorithm, batched);
}
Conv2DAlgorithm conv2d_choose(const Conv2DShape& s, bool batched) {
  const bool fits = winograd::fits(s) || winograd::fits_strided(s);
  return choose(winograd_forward(s, Conv2DAlgorithm::winograd), fits, batched);
}
bool conv2d_can(const Conv2DShape& s, Conv2DAlgorithm algorithm, Conv2DPass pass) {
  const bool strided = algorithm == Conv2DAlgorithm::winograd && pass == Conv2DPass::forward;
  return !is_winograd(algorithm) || winograd::fits(s) || (strided && winograd::fits_strided(s));
}
int64_t conv2d_products(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  if (!is_winograd(algorithm)) return s.P * s.Q * s.R * s.S;
  return winograd::products(winograd_forward(s, algorithm));
}
int64_t conv2d_packed_size(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return is_winograd(algorithm) ? winograd::packed_size(winograd_forward(s, algorithm))
                                : gemm::packed_size(gemm::forward_problem(s, is_batched(algorithm)));
}
void conv2d_pack(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* w, const float* scale, float* packed) {
  if (is_winograd(algorithm))
    winograd::pack(winograd_forward(s, algorithm), w, scale, false, packed);
  else
    gemm::pack(s, is_batched(algorithm), w, scale, packed);
}
int64_t conv2d_statistics_blocks(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return is_winograd(algorithm) ? winograd::grid(winograd_forward(s, algorithm)).chunks
                                : gemm::blocks(gemm::forward_problem(s, is_batched(algorithm)));
}
ScratchSize conv2d_forward_scratch(const Conv2DShape& s, Conv2DAlgorithm algorithm, const Epilogue& epilogue) {
  if (is_winograd(algorithm)) return winograd::scratch_size(winograd_forward(s, algorithm));
  return gemm::scratch_size(gemm::forward_problem(s, is_batched(algorithm)), epilogue.pool);
}
void conv2d_forward(const Conv2DShape& s, Conv2DAlgorithm algorithm, const Prologue& prologue, const float* x,
                    const float* packed, const Epilogue& epilogue, float* y, const Scratch& scratch) {
  if (is_winograd(algorithm))
    winograd::run(winograd_forward(s, algorithm), prologue, x, packed, epilogue, y, scratch);
  else
    gemm::run(gemm::forward_problem(s, is_batched(algorithm)), prologue, x, packed, epilogue, y, scratch);
}

Conv2DAlgorithm conv2d_backward_data_variant(const Conv2DShape& s, Conv2DAlgorithm algorithm, bool batched) {
  return variant(winograd_backward(s, algorithm), algorithm, batched);
}
Conv2DAlgorithm conv2d_backward_data_choose(const Conv2DShape& s, bool batched) {
  return choose(winograd_backward(s, Conv2DAlgorithm::winograd), winograd::fits(s), batched);
}
int64_t conv2d_backward_data_packed_size(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  return is_winograd(algorithm) ? winograd::packed_size(winograd_backward(s, algorithm))
                                : gemm::packed_size(gemm::phase_problem(s, 0, 0, is_batched(algorithm)));
}
void conv2d_backward_data_pack(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* w, const float* scale,
                               float* packed) {
  if (is_winograd(algorithm))
    winograd::pack(winograd_backward(s, algorithm), w, scale, true, packed);
  else
    gemm::pack_turned(s, is_batched(algorithm), w, scale, packed);
}
ScratchSize conv2d_backward_data_scratch(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  if (is_winograd(algorithm)) return winograd::scratch_size(winograd_backward(s, algorithm));
  ScratchSize size{0, 0};
  gemm::for_phases(s, is_batched(algorithm), [&](const gemm::Problem& p) {
    size.per_worker = larger(size.per_worker, gemm::scratch_size(p, false).per_worker);
  });
  return size;
}
void conv2d_backward_data(const Conv2DShape& s, Conv2DAlgorithm algorithm, const float* dy, const float* packed,
                          bool accumulate, float* dx, const Scratch& scratch) {
  const Epilogue epilogue{nullptr, accumulate ? dx : nullptr, false, nullptr, nullptr, nullptr, false};
  if (is_winograd(algorithm))
    winograd::run(winograd_backward(s, algorithm), kNoPrologue, dy, packed, epilogue, dx, scratch);
  else
    gemm::for_phases(s, is_batched(algorithm), [&](const gemm::Problem& p) {
      gemm::run_part(p, kNoPrologue, dy, packed, epilogue, dx, scratch);
    });
}

Conv2DAlgorithm conv2d_backward_weights_choose(const Conv2DShape& s) {
  return winograd::fits(s) && weights::winograd_pays(s) ? Conv2DAlgorithm::winograd : Conv2DAlgorithm::gemm;
}
ScratchSize conv2d_backward_weights_scratch(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  if (is_winograd(algorithm)) return weights::winograd_scratch_size(s);
#if FASTCNN_TILES
  if (weights::on_tiles(s)) return weights::tile_scratch_size(s);
#endif
  return weights::scratch_size(s);
}
void conv2d_backward_weights(const Conv2DShape& s, Conv2DAlgorithm algorithm, const Prologue& prologue, const float* x,
                             const float* dy, bool accumulate, float* dw, const Scratch& scratch) {
  if (is_winograd(algorithm)) return weights::run_winograd(s, prologue, x, dy, accumulate, dw, scratch);
#if FASTCNN_TILES
  if (weights::on_tiles(s)) return weights::run_on_tiles(s, prologue, x, dy, accumulate, dw, scratch);
#endif
  weights::run(s, prologue, x, dy, accumulate, dw, scratch);
}

}  // namespace

void fill_conv(Kernels& kernels) {
  kernels.conv2d_choose = conv2d_choose;
  kernels.conv2d_variant = conv2d_variant;
  kernels.conv2d_can = conv2d_can;
  kernels.conv2d_products = conv2d_products;
  kernels.conv2d_packed_size = conv2d_packed_size;
  kernels.conv2d_pack = conv2d_pack;
  kernels.conv2d_statistics_blocks = conv2d_statistics_blocks;
  kernels.conv2d_forward_scratch = conv2d_forward_scratch;
  kernels.conv2d_forward = conv2d_forward;
  kernels.conv2d_backward_data_choose = conv2d_backward_data_choose;
  kernels.conv2d_backward_data_variant = conv2d_backward_data_variant;
  kernels.conv2d_backward_data_packed_size = conv2d_backward_data_packed_size;
  kernels.conv2d_backward_data_pack = conv2d_backward_data_pack;
  kernels.conv2d_backward_data_scratch = conv2d_backward_data_scratch;
  kernels.conv2d_backward_data = conv2d_backward_data;
  kernels.conv2d_backward_weights_choose = conv2d_backward_weights_choose;
  kernels.conv2d_backward_weights_scratch = conv2d_backward_weights_scratch;
  kernels.conv2d_backward_weights = conv2d_backward_weights;
}

}  // namespace fastcnn::FASTCNN_ISA
