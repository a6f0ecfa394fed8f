// Elementwise passes: ReLUs, sigmoid, add, copy, scale, fill, dropout, concatenation, weight penalties. Bound by memory
// but for dropout's random numbers; one chunk fits the L2 cache.
#include "kernels/exponential.hpp"
#include "kernels/table.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

// y[i] = f(i, n): f loads n <= kLanes floats at i itself, so one body serves full vectors and the tail.
template <class F>
FASTCNN_INLINE void map(int64_t size, float* y, const F& f) {
  parallel_for(size, kGrain, size * kMoved, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(y + i, f(i, kLanes));
    if (i < end) store_tail(y + i, f(i, end - i), end - i);
  });
}

void relu_forward(int64_t size, const float* x, float* y) {
  map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return relu(load_upto(x + i, n)); });
}

// The gradient passes where y > 0.
void relu_backward(int64_t size, const float* y, const float* dy, bool accumulate, float* dx) {
  if (accumulate)
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      return load_upto(dx + i, n) + select(load_upto(y + i, n) > vf{}, load_upto(dy + i, n), vf{});
    });
  else
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      return select(load_upto(y + i, n) > vf{}, load_upto(dy + i, n), vf{});
    });
}

// Where y or x > 0 the value passes, elsewhere it is scaled; NaN is no number above 0 and stays NaN.
FASTCNN_INLINE vf leak(vf sign, vf a, float negative_slope) {
  return select(sign > vf{}, a, a * broadcast(negative_slope));
}

void leaky_relu_forward(int64_t size, const float* x, float negative_slope, float* y) {
  map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf a = load_upto(x + i, n);
    return leak(a, a, negative_slope);
  });
}

void leaky_relu_backward(int64_t size, const float* y, const float* dy, float negative_slope, bool accumulate,
                         float* dx) {
  if (accumulate)
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      return load_upto(dx + i, n) + leak(load_upto(y + i, n), load_upto(dy + i, n), negative_slope);
    });
  else
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      return leak(load_upto(y + i, n), load_upto(dy + i, n), negative_slope);
    });
}

// With e = exp(-|x|) neither branch overflows nor cancels.
void sigmoid_forward(int64_t size, const float* x, float* y) {
  map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf a = load_upto(x + i, n), one = broadcast(1.0f);
    const vf e = exponential_below(-absolute(a), vf{});
    return select(a < vf{}, e, one) / (one + e);
  });
}

void sigmoid_backward(int64_t size, const float* y, const float* dy, bool accumulate, float* dx) {
  const auto slope = [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf p = load_upto(y + i, n);
    return load_upto(dy + i, n) * (p * (broadcast(1.0f) - p));
  };
  if (accumulate)
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(dx + i, n) + slope(i, n); });
  else
    map(size, dx, slope);
}

void add_forward(int64_t size, const float* a, const float* b, bool with_relu, float* y) {
  if (with_relu)
    map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return relu(load_upto(a + i, n) + load_upto(b + i, n)); });
  else
    map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(a + i, n) + load_upto(b + i, n); });
}

void copy(int64_t size, const float* x, bool accumulate, float* y) {
  if (accumulate)
    map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(y + i, n) + load_upto(x + i, n); });
  else
    map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(x + i, n); });
}

void scale(int64_t size, const float* x, float factor, float offset, float* y) {
  map(size, y,
      [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(x + i, n) * broadcast(factor) + broadcast(offset); });
}

void fill(int64_t size, float value, float* y) {
  map(size, y, [=](int64_t, int64_t) FASTCNN_LAMBDA { return broadcast(value); });
}

// Infinity times a slope of 0 is no 0, so that slope is left out.
FASTCNN_INLINE vf bound(vf a, float max_value, float negative_slope, float threshold) {
  const vf low = broadcast(threshold), high = broadcast(max_value);
  const vf below = negative_slope > 0 ? (a - low) * broadcast(negative_slope) : select(a <= low, vf{}, a);
  return select(a > low, select(a > high, high, a), below);
}

void bounded_relu_forward(int64_t size, const float* x, float max_value, float negative_slope, float threshold,
                          float* y) {
  map(size, y, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    return bound(load_upto(x + i, n), max_value, negative_slope, threshold);
  });
}

void bounded_relu_backward(int64_t size, const float* x, const float* dy, float max_value, float negative_slope,
                           float threshold, bool accumulate, float* dx) {
  const auto gradient = [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf a = load_upto(x + i, n), g = load_upto(dy + i, n);
    return select(a > broadcast(threshold), select(a < broadcast(max_value), g, vf{}), g * broadcast(negative_slope));
  };
  if (accumulate)
    map(size, dx, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { return load_upto(dx + i, n) + gradient(i, n); });
  else
    map(size, dx, gradient);
}

// Philox4x64-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. The block of numbers that a key
// and a counter stand for: eight of 32 bits.
constexpr int64_t kPhiloxBlock = 8;

FASTCNN_INLINE void philox(uint64_t key0, uint64_t key1, uint64_t counter, uint32_t* numbers) {
  __extension__ typedef unsigned __int128 wide;
  uint64_t c[4] = {counter, 0, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const wide a = static_cast<wide>(0xD2E7470EE14C6C93u) * c[0], b = static_cast<wide>(0xCA5A826395121157u) * c[2];
    c[0] = static_cast<uint64_t>(b >> 64) ^ c[1] ^ key0;
    c[1] = static_cast<uint64_t>(b);
    c[2] = static_cast<uint64_t>(a >> 64) ^ c[3] ^ key1;
    c[3] = static_cast<uint64_t>(a);
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
  for (int i = 0; i < 4; ++i) {
    numbers[2 * i] = static_cast<uint32_t>(c[i]);
    numbers[2 * i + 1] = static_cast<uint32_t>(c[i] >> 32);
  }
}

constexpr int64_t kRandom = 64;  // cost of one float with its random number, in multiply-adds

void dropout(int64_t size, const float* x, const int64_t* state, double rate, bool accumulate, float* y) {
  static_assert(kGrain % kPhiloxBlock == 0, "a chunk begins with a block of numbers");
  const uint64_t key0 = static_cast<uint64_t>(state[0]), key1 = static_cast<uint64_t>(state[1]);
  const uint64_t threshold = static_cast<uint64_t>(rate * 4294967296.0 + 0.5);
  const float scale = static_cast<float>(1 / (1 - rate));
  parallel_for(size, kGrain, size * kRandom, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kPhiloxBlock) {
      uint32_t numbers[kPhiloxBlock];
      philox(key0, key1, static_cast<uint64_t>(i / kPhiloxBlock) + 1, numbers);
      const int64_t count = smaller(kPhiloxBlock, end - i);
      for (int64_t j = 0; j < count; ++j) {
        const float kept = numbers[j] >= threshold ? x[i + j] * scale : 0.0f;
        y[i + j] = accumulate ? y[i + j] + kept : kept;
      }
    }
  });
}

// f(row) for all rows, as many to a task as move kGrain floats.
template <class F>
FASTCNN_INLINE void each_row(const RowsShape& s, const F& f) {
  parallel_for(s.rows, ceil_div(kGrain, larger(s.C, 1)), s.rows * s.C * kMoved, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

void concatenate_forward(const RowsShape& s, int64_t K, int64_t offset, const float* x, float* y) {
  each_row(s, [=](int64_t row) {
    __builtin_memcpy(y + row * K + offset, x + row * s.C, static_cast<size_t>(s.C) * sizeof(float));
  });
}

void concatenate_backward(const RowsShape& s, int64_t K, int64_t offset, const float* dy, bool accumulate, float* dx) {
  each_row(s, [=](int64_t row) {
    const float* from = dy + row * K + offset;
    float* to = dx + row * s.C;
    if (!accumulate)
      __builtin_memcpy(to, from, static_cast<size_t>(s.C) * sizeof(float));
    else
      for (int64_t c = 0; c < s.C; ++c) to[c] += from[c];
  });
}

ScratchSize penalty_scratch(int64_t size) {
  return {2 * ceil_div(size, kGrain) * static_cast<int64_t>(sizeof(double)), 0};
}

void penalty_forward(int64_t size, const float* w, double l1, double l2, double* loss, const Scratch& scratch) {
  constexpr int64_t kSums = 16;  // side by side: each is a chain of additions
  double* chunks = reinterpret_cast<double*>(scratch.shared);
  parallel_for(size, kGrain, size * kMoved, [=](int64_t begin, int64_t end) {
    double sizes[kSums] = {}, squares[kSums] = {};
    const auto add = [&](int64_t i, int64_t j) FASTCNN_LAMBDA {
      const double a = static_cast<double>(w[i + j]);
      sizes[j] += __builtin_fabs(a);
      squares[j] += a * a;
    };
    int64_t i = begin;
    for (; i + kSums <= end; i += kSums)
      for (int64_t j = 0; j < kSums; ++j) add(i, j);
    for (int64_t j = 0; j < end - i; ++j) add(i, j);
    for (int64_t j = 1; j < kSums; ++j) {
      sizes[0] += sizes[j];
      squares[0] += squares[j];
    }
    chunks[2 * (begin / kGrain)] = sizes[0];
    chunks[2 * (begin / kGrain) + 1] = squares[0];
  });
  double all_sizes = 0, all_squares = 0;
  for (int64_t i = 0; i < ceil_div(size, kGrain); ++i) {
    all_sizes += chunks[2 * i];
    all_squares += chunks[2 * i + 1];
  }
  loss[0] += l1 * all_sizes + l2 * all_squares;
}

void penalty_backward(int64_t size, const float* w, float l1, float l2, float* dw) {
  map(size, dw, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf a = load_upto(w + i, n);
    const vf sign = select(a > vf{}, broadcast(l1), select(a < vf{}, broadcast(-l1), vf{}));
    return load_upto(dw + i, n) + (sign + broadcast(2 * l2) * a);
  });
}

}  // namespace

void fill_pointwise(Kernels& kernels) {
  kernels.relu_forward = relu_forward;
  kernels.relu_backward = relu_backward;
  kernels.leaky_relu_forward = leaky_relu_forward;
  kernels.leaky_relu_backward = leaky_relu_backward;
  kernels.sigmoid_forward = sigmoid_forward;
  kernels.sigmoid_backward = sigmoid_backward;
  kernels.add_forward = add_forward;
  kernels.copy = copy;
  kernels.scale = scale;
  kernels.fill = fill;
  kernels.bounded_relu_forward = bounded_relu_forward;
  kernels.bounded_relu_backward = bounded_relu_backward;
  kernels.dropout = dropout;
  kernels.concatenate_forward = concatenate_forward;
  kernels.concatenate_backward = concatenate_backward;
  kernels.penalty_scratch = penalty_scratch;
  kernels.penalty_forward = penalty_forward;
  kernels.penalty_backward = penalty_backward;
}

}  // namespace fastcnn::FASTCNN_ISA
