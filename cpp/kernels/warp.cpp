// A picture seen through an affine map. Coordinates are double, so that their error is far below a float's; pixels are
// mixed in float, columns before rows. One thread: the threads that read pictures run it side by side.
#include "kernels/table.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr double kEdge = 1e-6;  // pixels: a turn by a quarter may miss the border by a rounding error and still hits it

FASTCNN_INLINE int64_t floor_of(double a) {
  const int64_t cut = static_cast<int64_t>(a);
  return cut - (static_cast<double>(cut) > a);
}

FASTCNN_INLINE int64_t clamped(int64_t i, int64_t size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

FASTCNN_INLINE int64_t remainder_of(int64_t i, int64_t size) {
  const int64_t r = i % size;
  return r < 0 ? r + size : r;
}

// The pixel inside 0..size-1 that stands at place i.
template <Border kBorder>
FASTCNN_INLINE int64_t inside(int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  if (kBorder == Border::wrap) return remainder_of(i, size);
  if (kBorder == Border::reflect) {
    const int64_t r = remainder_of(i, 2 * size);
    return r < size ? r : 2 * size - 1 - r;
  }
  return clamped(i, size);
}

FASTCNN_INLINE bool misses(double at, int64_t size) {
  return at < -kEdge || at > static_cast<double>(size - 1) + kEdge;
}

// kChannels 0: any number, read at run time.
template <Border kBorder, bool kBilinear, int64_t kChannels>
void warp(const WarpShape& s, const float* x, const double* m, float value, float* y) {
  const int64_t C = kChannels ? kChannels : s.C;
  for (int64_t p = 0; p < s.P; ++p)
    for (int64_t q = 0; q < s.Q; ++q, y += C) {
      const double row = m[0] * static_cast<double>(p) + m[1] * static_cast<double>(q) + m[2];
      const double column = m[3] * static_cast<double>(p) + m[4] * static_cast<double>(q) + m[5];
      if (kBorder == Border::constant && (misses(row, s.H) || misses(column, s.W))) {
        for (int64_t c = 0; c < C; ++c) y[c] = value;
        continue;
      }
      const int64_t h = floor_of(kBilinear ? row : row + 0.5), w = floor_of(kBilinear ? column : column + 0.5);
      const int64_t left = inside<kBorder>(w, s.W) * C;
      const float* upper = x + inside<kBorder>(h, s.H) * s.W * C;
      if (!kBilinear) {
        for (int64_t c = 0; c < C; ++c) y[c] = upper[left + c];
        continue;
      }
      const int64_t right = inside<kBorder>(w + 1, s.W) * C;
      const float* lower = x + inside<kBorder>(h + 1, s.H) * s.W * C;
      const float down = static_cast<float>(row - static_cast<double>(h));
      const float across = static_cast<float>(column - static_cast<double>(w));
      for (int64_t c = 0; c < C; ++c) {
        const float above = upper[left + c] + across * (upper[right + c] - upper[left + c]);
        const float below = lower[left + c] + across * (lower[right + c] - lower[left + c]);
        y[c] = above + down * (below - above);
      }
    }
}

template <Border kBorder, bool kBilinear>
void warp_channels(const WarpShape& s, const float* x, const double* m, float value, float* y) {
  switch (s.C) {
    case 1:
      return warp<kBorder, kBilinear, 1>(s, x, m, value, y);
    case 3:
      return warp<kBorder, kBilinear, 3>(s, x, m, value, y);
    default:
      return warp<kBorder, kBilinear, 0>(s, x, m, value, y);
  }
}

template <Border kBorder>
void warp_border(const WarpShape& s, const float* x, const double* m, float value, bool bilinear, float* y) {
  if (bilinear)
    warp_channels<kBorder, true>(s, x, m, value, y);
  else
    warp_channels<kBorder, false>(s, x, m, value, y);
}

void warp_forward(const WarpShape& s, const float* x, const double* matrix, Border border, float value, bool bilinear,
                  float* y) {
  switch (border) {
    case Border::nearest:
      return warp_border<Border::nearest>(s, x, matrix, value, bilinear, y);
    case Border::constant:
      return warp_border<Border::constant>(s, x, matrix, value, bilinear, y);
    case Border::reflect:
      return warp_border<Border::reflect>(s, x, matrix, value, bilinear, y);
    case Border::wrap:
      return warp_border<Border::wrap>(s, x, matrix, value, bilinear, y);
  }
}

}  // namespace

void fill_warp(Kernels& kernels) { kernels.warp_forward = warp_forward; }

}  // namespace fastcnn::FASTCNN_ISA
