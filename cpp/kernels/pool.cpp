// Pooling over windows and whole images, and zero padding; NHWC, vectors along the channels, output rows as tasks.
//
// Padding is absent: it never wins and is never counted. The backward passes gather: each input pixel sums what the
// windows over it send, in window order, so rows are independent, nothing is cleared first and the bits are fixed.
#include "kernels/channels.hpp"
#include "kernels/largest.hpp"
#include "kernels/table.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

FASTCNN_INLINE vi load_places(const uint8_t* p, int64_t n) {
  if (n >= kLanes) return load_bytes(p);
  uint8_t places[kLanes] = {};
  __builtin_memcpy(places, p, static_cast<size_t>(n));
  return load_bytes(places);
}

FASTCNN_INLINE void store_places(uint8_t* p, vi a, int64_t n) {
  if (n >= kLanes) return store_bytes(p, a);
  uint8_t places[kLanes];
  store_bytes(places, a);
  __builtin_memcpy(p, places, static_cast<size_t>(n));
}

struct Range {
  int64_t begin, end;
};

// Of window `index` along one axis, the places that lie inside the image.
FASTCNN_INLINE Range places_inside(int64_t index, int64_t stride, int64_t pad, int64_t window, int64_t size) {
  const int64_t start = index * stride - pad;
  return {larger(0, -start), smaller(window, size - start)};
}

// The windows along one axis that cover pixel `at`.
FASTCNN_INLINE Range windows_over(int64_t at, int64_t stride, int64_t pad, int64_t window, int64_t count) {
  return {larger(0, ceil_div(at + pad - window + 1, stride)), smaller((at + pad) / stride + 1, count)};
}

// Rows of about `kGrain` floats in all that make one chunk.
FASTCNN_INLINE int64_t rows_grain(int64_t row_size) { return larger(1, kGrain / larger(1, row_size)); }

// The part of a window inside the image: its first pixel, and that pixel's place in the window.
struct Patch {
  const float* first;
  int64_t rows, columns, row_pitch, C;
  int32_t place, place_pitch;
};

FASTCNN_INLINE Patch patch_of(const Pool2DShape& s, const float* x, int64_t row, int64_t q) {
  const int64_t p = row % s.P;
  const Range r = places_inside(p, s.stride_h, s.pad_top, s.R, s.H);
  const Range c = places_inside(q, s.stride_w, s.pad_left, s.S, s.W);
  const int64_t h = p * s.stride_h - s.pad_top + r.begin, w = q * s.stride_w - s.pad_left + c.begin;
  const float* first = x + ((row / s.P * s.H + h) * s.W + w) * s.C;
  return {first,
          r.end - r.begin,
          c.end - c.begin,
          s.W * s.C,
          s.C,
          static_cast<int32_t>(r.begin * s.S + c.begin),
          static_cast<int32_t>(s.S)};
}

// f(patch, output pixel) for every window; `f.template run<R>` unrolls the usual full windows, 2x2 and 3x3.
template <class F>
FASTCNN_INLINE void over_windows(const Pool2DShape& s, const float* x, const F& f) {
  const int64_t row_size = s.Q * s.C;
  parallel_for(s.N * s.P, rows_grain(row_size), s.N * s.P * row_size * s.R * s.S * kMoved,
               [s, x, f](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row)
                   for (int64_t q = 0; q < s.Q; ++q) {
                     const Patch patch = patch_of(s, x, row, q);
                     const int64_t to = (row * s.Q + q) * s.C;
                     if (patch.rows == 2 && patch.columns == 2)
                       f.template run<2>(patch, to);
                     else if (patch.rows == 3 && patch.columns == 3)
                       f.template run<3>(patch, to);
                     else
                       f.template run<0>(patch, to);
                   }
               });
}

struct MaxWithPlace {
  float* y;
  uint8_t* argmax;
  template <int kWindow>
  FASTCNN_INLINE void run(const Patch& patch, int64_t to) const {
    const Patch a = patch;
    const int64_t rows = kWindow ? kWindow : a.rows, columns = kWindow ? kWindow : a.columns;
    float* const out = y + to;
    uint8_t* const places = argmax + to;
    over_channels(a.C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      Largest best{load_upto(a.first + c, n), a.place - vi{}};
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t s = 0; s < columns; ++s) {
          const int32_t place = a.place + static_cast<int32_t>(r) * a.place_pitch + static_cast<int32_t>(s);
          best.take(load_upto(a.first + r * a.row_pitch + s * a.C + c, n), place, true);
        }
      store_upto(out + c, best.value, n);
      store_places(places + c, best.place, n);
    });
  }
};

struct MaxAlone {
  float* y;
  template <int kWindow>
  FASTCNN_INLINE void run(const Patch& patch, int64_t to) const {
    const Patch a = patch;
    const int64_t rows = kWindow ? kWindow : a.rows, columns = kWindow ? kWindow : a.columns;
    float* const out = y + to;
    over_channels(a.C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      Largest best{load_upto(a.first + c, n)};
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t s = 0; s < columns; ++s)
          best.take(load_upto(a.first + r * a.row_pitch + s * a.C + c, n), 0, false);
      store_upto(out + c, best.value, n);
    });
  }
};

struct Average {
  float* y;
  template <int kWindow>
  FASTCNN_INLINE void run(const Patch& patch, int64_t to) const {
    const Patch a = patch;
    const int64_t rows = kWindow ? kWindow : a.rows, columns = kWindow ? kWindow : a.columns;
    const vf count = broadcast(static_cast<float>(rows * columns));
    float* const out = y + to;
    over_channels(a.C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      vf sum{};
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t s = 0; s < columns; ++s) sum += load_upto(a.first + r * a.row_pitch + s * a.C + c, n);
      store_upto(out + c, sum / count, n);
    });
  }
};

void max_pool2d_forward(const Pool2DShape& s, const float* x, float* y, uint8_t* argmax) {
  if (argmax)
    over_windows(s, x, MaxWithPlace{y, argmax});
  else
    over_windows(s, x, MaxAlone{y});
}

void average_pool2d_forward(const Pool2DShape& s, const float* x, float* y) { over_windows(s, x, Average{y}); }

// dx[n,h,w,:] (+)= sum of part(p, q, r, s, offset of [n,p,q,:]) over the windows that have the pixel at place (r, s).
template <class MakePart>
FASTCNN_INLINE void gather(const Pool2DShape& shape, bool accumulate, float* dx, const MakePart& make_part) {
  const int64_t row_size = shape.W * shape.C;
  parallel_for(
      shape.N * shape.H, rows_grain(row_size), shape.N * shape.H * row_size * kMoved, [=](int64_t begin, int64_t end) {
        const Pool2DShape s = shape;
        for (int64_t row = begin; row < end; ++row) {
          const int64_t h = row % s.H;
          const Range ps = windows_over(h, s.stride_h, s.pad_top, s.R, s.P);
          for (int64_t w = 0; w < s.W; ++w) {
            const Range qs = windows_over(w, s.stride_w, s.pad_left, s.S, s.Q);
            float* const to = dx + (row * s.W + w) * s.C;
            bool first = !accumulate;
            for (int64_t p = ps.begin; p < ps.end; ++p)
              for (int64_t q = qs.begin; q < qs.end; ++q) {
                const auto part = make_part(p, q, h + s.pad_top - p * s.stride_h, w + s.pad_left - q * s.stride_w,
                                            ((row / s.H * s.P + p) * s.Q + q) * s.C);
                if (first)
                  over_channels(s.C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA { store_upto(to + c, part(c, n), n); });
                else
                  over_channels(s.C, [=](int64_t c, int64_t n)
                                         FASTCNN_LAMBDA { store_upto(to + c, load_upto(to + c, n) + part(c, n), n); });
                first = false;
              }
            if (first) __builtin_memset(to, 0, static_cast<size_t>(s.C) * 4);
          }
        }
      });
}

void max_pool2d_backward(const Pool2DShape& shape, const float* dy, const uint8_t* argmax, bool accumulate, float* dx) {
  const int64_t S = shape.S;
  gather(shape, accumulate, dx, [=](int64_t, int64_t, int64_t r, int64_t s, int64_t from) FASTCNN_LAMBDA {
    const vi place = static_cast<int32_t>(r * S + s) - vi{};
    return [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      return select(load_places(argmax + from + c, n) == place, load_upto(dy + from + c, n), vf{});
    };
  });
}

void average_pool2d_backward(const Pool2DShape& shape, const float* dy, bool accumulate, float* dx) {
  gather(shape, accumulate, dx, [=](int64_t p, int64_t q, int64_t, int64_t, int64_t from) FASTCNN_LAMBDA {
    const Range r = places_inside(p, shape.stride_h, shape.pad_top, shape.R, shape.H);
    const Range c = places_inside(q, shape.stride_w, shape.pad_left, shape.S, shape.W);
    const vf share = broadcast(1.0f / static_cast<float>((r.end - r.begin) * (c.end - c.begin)));
    return [=](int64_t channel, int64_t n) FASTCNN_LAMBDA { return load_upto(dy + from + channel, n) * share; };
  });
}

constexpr int64_t kVectors = 4;  // sums or maxima kept in registers: enough to hide the latency of an addition
constexpr int64_t kRun = 64;     // pixels summed before they join the total, which keeps long sums accurate

// y[0:kCount*kLanes] = mean of x[HW,C]; the last vector may have n < kLanes lanes.
template <int64_t kCount>
FASTCNN_INLINE void mean_of_pixels(int64_t HW, int64_t C, int64_t n, const float* x, float* y) {
  vf total[kCount]{};
  for (int64_t begin = 0; begin < HW; begin += kRun) {
    vf sum[kCount]{};
    const int64_t end = smaller(begin + kRun, HW);
    for (int64_t i = begin; i < end; ++i) {
      FASTCNN_UNROLL
      for (int64_t j = 0; j < kCount; ++j) sum[j] += load_upto(x + i * C + j * kLanes, n);
    }
    FASTCNN_UNROLL
    for (int64_t j = 0; j < kCount; ++j) total[j] += sum[j];
  }
  FASTCNN_UNROLL
  for (int64_t j = 0; j < kCount; ++j) store_upto(y + j * kLanes, total[j] / broadcast(static_cast<float>(HW)), n);
}

// The same for the maximum; argmax[0:kCount*kLanes], if wanted, is its first pixel.
template <int64_t kCount, bool kPlaces>
FASTCNN_INLINE void max_of_pixels(int64_t HW, int64_t C, int64_t n, const float* x, float* y, int64_t* argmax) {
  Largest best[kCount];
  FASTCNN_UNROLL
  for (int64_t j = 0; j < kCount; ++j) best[j] = {load_upto(x + j * kLanes, n)};
  for (int64_t i = 1; i < HW; ++i) {
    FASTCNN_UNROLL
    for (int64_t j = 0; j < kCount; ++j)
      best[j].take(load_upto(x + i * C + j * kLanes, n), static_cast<int32_t>(i), kPlaces);
  }
  FASTCNN_UNROLL
  for (int64_t j = 0; j < kCount; ++j) {
    store_upto(y + j * kLanes, best[j].value, n);
    if constexpr (kPlaces)
      for (int64_t lane = 0; lane < n; ++lane) argmax[j * kLanes + lane] = best[j].place[lane];
  }
}

// f.run<vectors>(n, offset into an image, offset into y): some channels of one image in each call, n as above.
template <class F>
FASTCNN_INLINE void over_images(int64_t N, int64_t HW, int64_t C, const F& f) {
  constexpr int64_t kWide = kVectors * kLanes;
  const int64_t blocks = ceil_div(C, kWide);
  parallel_for_tasks(N * blocks, N * HW * C * kMoved, [=](int64_t task, int) {
    const int64_t image = task / blocks, c = task % blocks * kWide, width = smaller(kWide, C - c);
    const int64_t from = image * HW * C + c, to = image * C + c;
    if (width == kWide)
      f.template run<kVectors>(kLanes, from, to);
    else
      over_channels(width, [=](int64_t at, int64_t n) { f.template run<1>(n, from + at, to + at); });
  });
}

struct GlobalAverage {
  int64_t HW, C;
  const float* x;
  float* y;
  template <int64_t kCount>
  FASTCNN_INLINE void run(int64_t n, int64_t from, int64_t to) const {
    mean_of_pixels<kCount>(HW, C, n, x + from, y + to);
  }
};

template <bool kPlaces>
struct GlobalMax {
  int64_t HW, C;
  const float* x;
  float* y;
  int64_t* argmax;
  template <int64_t kCount>
  FASTCNN_INLINE void run(int64_t n, int64_t from, int64_t to) const {
    max_of_pixels<kCount, kPlaces>(HW, C, n, x + from, y + to, kPlaces ? argmax + to : nullptr);
  }
};

void global_average_pool2d_forward(int64_t N, int64_t HW, int64_t C, const float* x, float* y) {
  over_images(N, HW, C, GlobalAverage{HW, C, x, y});
}

void global_max_pool2d_forward(int64_t N, int64_t HW, int64_t C, const float* x, float* y, int64_t* argmax) {
  if (argmax)
    over_images(N, HW, C, GlobalMax<true>{HW, C, x, y, argmax});
  else
    over_images(N, HW, C, GlobalMax<false>{HW, C, x, y, nullptr});
}

void global_average_pool2d_backward(int64_t N, int64_t HW, int64_t C, const float* dy, bool accumulate, float* dx) {
  parallel_for(N * HW, rows_grain(C), N * HW * C * kMoved, [=](int64_t begin, int64_t end) {
    const vf share = broadcast(1.0f / static_cast<float>(HW));
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const float* const from = dy + pixel / HW * C;
      float* const to = dx + pixel * C;
      if (accumulate)
        over_channels(C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
          store_upto(to + c, load_upto(to + c, n) + load_upto(from + c, n) * share, n);
        });
      else
        over_channels(
            C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA { store_upto(to + c, load_upto(from + c, n) * share, n); });
    }
  });
}

FASTCNN_INLINE void clear(float* y, int64_t size) { __builtin_memset(y, 0, static_cast<size_t>(size) * 4); }

// Each chunk of pixels looks for the winners among them.
void global_max_pool2d_backward(int64_t N, int64_t HW, int64_t C, const float* dy, const int64_t* argmax,
                                bool accumulate, float* dx) {
  parallel_for(N * HW, rows_grain(C), N * HW * C * kMoved, [=](int64_t begin, int64_t end) {
    if (!accumulate) clear(dx + begin * C, (end - begin) * C);
    for (int64_t n = begin / HW; n * HW < end; ++n) {
      const int64_t first = larger(begin - n * HW, 0), last = smaller(end - n * HW, HW);
      float* const image = dx + n * HW * C;
      for (int64_t c = 0; c < C; ++c) {
        const int64_t place = argmax[n * C + c];
        if (place >= first && place < last) image[place * C + c] += dy[n * C + c];
      }
    }
  });
}

void zero_pad2d_forward(const Pool2DShape& shape, const float* x, float* y) {
  const int64_t row_size = shape.Q * shape.C;
  parallel_for(
      shape.N * shape.P, rows_grain(row_size), shape.N * shape.P * row_size * kMoved, [=](int64_t begin, int64_t end) {
        const int64_t left = shape.pad_left * shape.C, middle = shape.W * shape.C;
        for (int64_t row = begin; row < end; ++row) {
          const int64_t h = row % shape.P - shape.pad_top;
          float* const to = y + row * row_size;
          if (h < 0 || h >= shape.H) {
            clear(to, row_size);
            continue;
          }
          clear(to, left);
          __builtin_memcpy(to + left, x + (row / shape.P * shape.H + h) * middle, static_cast<size_t>(middle) * 4);
          clear(to + left + middle, row_size - left - middle);
        }
      });
}

void zero_pad2d_backward(const Pool2DShape& shape, const float* dy, bool accumulate, float* dx) {
  const int64_t row_size = shape.W * shape.C;
  parallel_for(shape.N * shape.H, rows_grain(row_size), shape.N * shape.H * row_size * kMoved,
               [=](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   const int64_t p = row / shape.H * shape.P + row % shape.H + shape.pad_top;
                   const float* const from = dy + (p * shape.Q + shape.pad_left) * shape.C;
                   float* const to = dx + row * row_size;
                   if (accumulate)
                     over_channels(row_size, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
                       store_upto(to + c, load_upto(to + c, n) + load_upto(from + c, n), n);
                     });
                   else
                     __builtin_memcpy(to, from, static_cast<size_t>(row_size) * 4);
                 }
               });
}

}  // namespace

void fill_pool(Kernels& kernels) {
  kernels.max_pool2d_forward = max_pool2d_forward;
  kernels.max_pool2d_backward = max_pool2d_backward;
  kernels.average_pool2d_forward = average_pool2d_forward;
  kernels.average_pool2d_backward = average_pool2d_backward;
  kernels.global_average_pool2d_forward = global_average_pool2d_forward;
  kernels.global_average_pool2d_backward = global_average_pool2d_backward;
  kernels.global_max_pool2d_forward = global_max_pool2d_forward;
  kernels.global_max_pool2d_backward = global_max_pool2d_backward;
  kernels.zero_pad2d_forward = zero_pad2d_forward;
  kernels.zero_pad2d_backward = zero_pad2d_backward;
}

}  // namespace fastcnn::FASTCNN_ISA
