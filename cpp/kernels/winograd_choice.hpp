// Which convolutions Winograd can compute, and for which it pays.
#pragma once
#include "kernels/winograd_packing.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

FASTCNN_INLINE bool fits(const Conv2DShape& s) {
  return s.R == 3 && s.S == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1;
}
// The forward pass alone
FASTCNN_INLINE bool fits_strided(const Conv2DShape& s) {
  return s.R == 3 && s.S == 3 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1;
}

// In products of Winograd: a weight, since it comes from memory; its transform when used; the transforms of an input
// and an output; and a product of the direct convolution, which reads its operands in longer runs. Fitted to the layers
// of VGG and ResNet.
constexpr double kWeightCost = FASTCNN_TILES ? 18.5 : kLanes == 16 ? 20 : 6;
constexpr double kLateCost = kLanes == 16 ? 320 : 220;
constexpr double kLateCostInRegisters = kLanes == 16 ? 100 : 170, kLateTileCost = kLanes == 16 ? 26 : 0;
constexpr double kInputCost = FASTCNN_TILES ? 17 : 4.7, kOutputCost = FASTCNN_TILES ? 17 : 3.3;
constexpr double kDirectCost = FASTCNN_TILES ? 0.64 : 0.8;
// Strides of 2: the same for weights of the shared schedule, which are fetched ahead unless the products take less time
// than that, and, of many images, for packing them; bytes of weights at most
constexpr double kStridedWeightCost = kLanes == 16 ? 4.7 : 1.4, kPackCost = 4;
constexpr double kFetchCost = kLanes == 16 ? 24 : kLanes == 8 ? 12 : 4;
constexpr int64_t kMostStridedWeights = int64_t{8} << 20;
// Of few tiles, where the direct convolution has few rows: up to a quarter more for one image is well spent, since
// batches, whose algorithm is that of one image, take a half or a third.
constexpr double kDirectCostBesideLate = 1.2 * 1.25;

// Worth it for one image: products, transforms and, unless many images share them, weights of both ways.
FASTCNN_INLINE bool pays(const Problem& convolution, bool batched) {
  Problem p = convolution;
  if (p.C < 16 || p.K < 16) return false;
  p.late = !p.strided && transformed_late(p.C, p.K, p.P, p.Q, batched);
  const int64_t tiles = ceil_div(p.P, kTile) * ceil_div(p.Q, kTile);
  const double transforms = kInputCost / static_cast<double>(p.K) + kOutputCost / static_cast<double>(p.C);
  const double multiplied = static_cast<double>(products(p)) * (1 + transforms);
  const double direct = 9 * static_cast<double>(p.P * p.Q);
  if (p.strided) {
    const double planes = static_cast<double>(all_planes(true)), fetched = planes * kFetchCost;
    const double strided = batched ? multiplied + planes * kPackCost
                                   : (multiplied > fetched ? multiplied : fetched) + planes * kStridedWeightCost;
    const bool faster = strided < kDirectCost * direct + 9 * kWeightCost;
    return faster && !FASTCNN_TILES && all_planes(true) * p.C * p.K * 4 <= kMostStridedWeights;
  }
  if (p.late && (!FASTCNN_TILES || p.P * p.Q <= gemm::kFewPixels)) {
    const double transformed =
        in_registers(tiles) ? kLateCostInRegisters + kLateTileCost * static_cast<double>(tiles) : kLateCost;
    return multiplied + transformed < kDirectCostBesideLate * direct;
  }
  const double weights = batched ? 0 : kWeightCost;
  return multiplied + kPoints * weights < kDirectCost * direct + 9 * weights;
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
