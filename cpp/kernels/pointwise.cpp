// Elementwise passes: ReLU, leaky ReLU, sigmoid, add, copy, scale, fill. Bound by memory; one chunk fits the L2 cache.
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
}

}  // namespace fastcnn::FASTCNN_ISA
