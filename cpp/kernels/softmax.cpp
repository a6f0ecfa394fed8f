// Softmax over the last axis and its cross-entropy. Rows are few and short: the sums are in double, and exp is computed
// again where storing it would cost an array.
#include "kernels/channels.hpp"
#include "kernels/doubles.hpp"
#include "kernels/exponential.hpp"
#include "kernels/rows.hpp"
#include "kernels/table.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

// The greatest value. A NaN may be passed over: it comes back through the exponential and the sum.
FASTCNN_INLINE float greatest(const float* x, int64_t C) {
  float result = x[0];
  int64_t i = 0;
  if (C >= kLanes) {
    vf most = load(x);
    for (; i + kLanes <= C; i += kLanes) {
      const vf a = load(x + i);
      most = select(a > most, a, most);
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) result = most[lane] > result ? most[lane] : result;
  }
  for (; i < C; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// The sum of f(c, n) over the row; lanes beyond n do not count.
template <class F>
FASTCNN_INLINE double sum_over(int64_t C, const F& f) {
  vd sum{};
  over_channels(C, [&](int64_t c, int64_t n) FASTCNN_LAMBDA {
    float kept[kLanes];
    store(kept, f(c, n));
    sum += to_double(load_upto(kept, n));
  });
  return sum_lanes_double(sum);
}

FASTCNN_INLINE double sum_of_exponentials(const float* x, int64_t C, float most) {
  return sum_over(
      C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA { return exponential_below(load_upto(x + c, n), broadcast(most)); });
}

void softmax_forward(const RowsShape& shape, const float* x, float* y) {
  const int64_t C = shape.C;
  over_rows(shape, [=](int64_t row) {
    const float* const from = x + row * C;
    float* const to = y + row * C;
    const float most = greatest(from, C);
    const vf sum = broadcast(static_cast<float>(sum_of_exponentials(from, C, most)));
    over_channels(C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      store_upto(to + c, exponential_below(load_upto(from + c, n), broadcast(most)) / sum, n);
    });
  });
}

// dx (+)= y * (dy - sum dy*y)
void softmax_backward(const RowsShape& shape, const float* y, const float* dy, bool accumulate, float* dx) {
  const int64_t C = shape.C;
  over_rows(shape, [=](int64_t row) {
    const float* const p = y + row * C;
    const float* const g = dy + row * C;
    float* const to = dx + row * C;
    const auto product = [=](int64_t c, int64_t n) FASTCNN_LAMBDA { return load_upto(p + c, n) * load_upto(g + c, n); };
    const double dot = sum_over(C, product);
    const vf mean = broadcast(static_cast<float>(dot));
    over_channels(C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      const vf d = load_upto(p + c, n) * (load_upto(g + c, n) - mean);
      store_upto(to + c, accumulate ? load_upto(to + c, n) + d : d, n);
    });
  });
}

// log p = x - max - log(sum exp(x - max)) in double is finite where p underflows; the clip of p is one of log p.
void softmax_cross_entropy(const RowsShape& shape, const float* x, const float* t, const float* weight, float floor,
                           float* p, float* loss, float* dx) {
  const int64_t C = shape.C;
  // 1 - floor is rounded to float32, as Keras has it: a sure and right prediction costs 1.19e-7 for floor 1e-7
  const double least = __builtin_log(static_cast<double>(floor)),
               most_log = __builtin_log(static_cast<double>(1 - floor));
  over_rows(shape, [=](int64_t row) {
    const float* const from = x + row * C;
    const float* const target = t + row * C;
    float* const to = p + row * C;
    const float most = greatest(from, C);
    const double sum = sum_of_exponentials(from, C, most), offset = static_cast<double>(most) + __builtin_log(sum);
    double total = 0, targets = 0;
    for (int64_t c = 0; c < C; ++c) {
      const double wanted = static_cast<double>(target[c]);
      if (wanted == 0) continue;  // 0 * log 0 is 0
      const double log_p = static_cast<double>(from[c]) - offset;
      total -= wanted * (log_p < least ? least : log_p > most_log ? most_log : log_p);
      targets += wanted;
    }
    loss[row] = static_cast<float>(total);
    const vf divisor = broadcast(static_cast<float>(sum)), factor = broadcast(static_cast<float>(targets));
    over_channels(C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      store_upto(to + c, exponential_below(load_upto(from + c, n), broadcast(most)) / divisor, n);
    });
    if (!dx) return;
    float* const gradient = dx + row * C;
    const vf scale = broadcast(weight[row]);
    over_channels(C, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      store_upto(gradient + c, (load_upto(to + c, n) * factor - load_upto(target + c, n)) * scale, n);
    });
  });
}

}  // namespace

void fill_softmax(Kernels& kernels) {
  kernels.softmax_forward = softmax_forward;
  kernels.softmax_backward = softmax_backward;
  kernels.softmax_cross_entropy = softmax_cross_entropy;
}

}  // namespace fastcnn::FASTCNN_ISA
