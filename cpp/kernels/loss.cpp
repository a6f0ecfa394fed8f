// Losses of a model's output [rows, C] other than softmax with cross-entropy. Rows are few: double, element by element.
#include "kernels/rows.hpp"
#include "kernels/table.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

// Keras clips probabilities to [least, most], most = 1 - floor rounded to float32; floor 0 leaves them.
struct Clip {
  double least, most;
};
FASTCNN_INLINE Clip clip_of(float floor) { return {static_cast<double>(floor), static_cast<double>(1 - floor)}; }
FASTCNN_INLINE double clipped(double a, double least, double most) { return a < least ? least : a > most ? most : a; }

// 0 * log 0 is 0.
FASTCNN_INLINE double weighed(double weight, double log_p) { return weight == 0 ? 0 : weight * log_p; }

// log p = -log(1 + exp(-x)) and log(1 - p) = -log(1 + exp(x)) are finite where p or 1 - p underflows; the clip of p is
// one of both logarithms.
void sigmoid_cross_entropy(const RowsShape& shape, const float* x, const float* t, const float* weight, float floor,
                           float* p, float* loss, float* dx) {
  const int64_t C = shape.C;
  const Clip clip = clip_of(floor);
  const double least = __builtin_log(clip.least), most = __builtin_log(clip.most);
  const double least_rest = __builtin_log(1 - clip.most);
  over_rows(shape, [=](int64_t row) {
    double total = 0;
    for (int64_t i = row * C; i < (row + 1) * C; ++i) {
      const double logit = static_cast<double>(x[i]), target = static_cast<double>(t[i]);
      const double e = __builtin_exp(-__builtin_fabs(logit)), soft = __builtin_log1p(e);
      const double log_p = logit < 0 ? logit - soft : -soft, log_rest = logit < 0 ? -soft : -logit - soft;
      total -= weighed(target, clipped(log_p, least, most)) + weighed(1 - target, clipped(log_rest, least_rest, most));
      const double probability = (logit < 0 ? e : 1) / (1 + e);
      p[i] = static_cast<float>(probability);
      if (dx)
        dx[i] = static_cast<float>((probability - target) * static_cast<double>(weight[row]) / static_cast<double>(C));
    }
    loss[row] = static_cast<float>(total / static_cast<double>(C));
  });
}

// With q = x / sum x clipped and T the targets of the classes where the clip does nothing:
// dx = (sum T - T/q) / sum x
void categorical_cross_entropy(const RowsShape& shape, const float* x, const float* t, const float* weight, float floor,
                               float* loss, float* dx) {
  const int64_t C = shape.C;
  const Clip clip = clip_of(floor);
  over_rows(shape, [=](int64_t row) {
    const float* const from = x + row * C;
    const float* const target = t + row * C;
    double sum = 0, total = 0, free = 0;
    for (int64_t c = 0; c < C; ++c) sum += static_cast<double>(from[c]);
    for (int64_t c = 0; c < C; ++c) {
      const double q = static_cast<double>(from[c]) / sum, wanted = static_cast<double>(target[c]);
      total -= weighed(wanted, __builtin_log(clipped(q, clip.least, clip.most)));
      if (q >= clip.least && q <= clip.most) free += wanted;
    }
    loss[row] = static_cast<float>(total);
    if (!dx) return;
    const double factor = static_cast<double>(weight[row]) / sum;
    for (int64_t c = 0; c < C; ++c) {
      const double q = static_cast<double>(from[c]) / sum, wanted = static_cast<double>(target[c]);
      const bool passes = wanted != 0 && q >= clip.least && q <= clip.most;
      dx[row * C + c] = static_cast<float>((free - (passes ? wanted / q : 0)) * factor);
    }
  });
}

void binary_cross_entropy(const RowsShape& shape, const float* x, const float* t, const float* weight, float floor,
                          float* loss, float* dx) {
  const int64_t C = shape.C;
  const Clip clip = clip_of(floor);
  over_rows(shape, [=](int64_t row) {
    const double factor = static_cast<double>(weight[row]) / static_cast<double>(C);
    double total = 0;
    for (int64_t i = row * C; i < (row + 1) * C; ++i) {
      const double given = static_cast<double>(x[i]), target = static_cast<double>(t[i]);
      const double p = clipped(given, clip.least, clip.most);
      total -= weighed(target, __builtin_log(p)) +
               weighed(1 - target, __builtin_log(clipped(1 - p, 1 - clip.most, clip.most)));
      if (dx) {
        const double slope = (target == 1 ? 0 : (1 - target) / (1 - p)) - (target == 0 ? 0 : target / p);
        dx[i] = given >= clip.least && given <= clip.most ? static_cast<float>(slope * factor) : 0.0f;
      }
    }
    loss[row] = static_cast<float>(total / static_cast<double>(C));
  });
}

void squared_error(const RowsShape& shape, const float* x, const float* t, const float* weight, float* loss,
                   float* dx) {
  const int64_t C = shape.C;
  over_rows(shape, [=](int64_t row) {
    const double factor = 2 * static_cast<double>(weight[row]) / static_cast<double>(C);
    double total = 0;
    for (int64_t i = row * C; i < (row + 1) * C; ++i) {
      const double error = static_cast<double>(x[i]) - static_cast<double>(t[i]);
      total += error * error;
      if (dx) dx[i] = static_cast<float>(error * factor);
    }
    loss[row] = static_cast<float>(total / static_cast<double>(C));
  });
}

}  // namespace

void fill_loss(Kernels& kernels) {
  kernels.sigmoid_cross_entropy = sigmoid_cross_entropy;
  kernels.categorical_cross_entropy = categorical_cross_entropy;
  kernels.binary_cross_entropy = binary_cross_entropy;
  kernels.squared_error = squared_error;
}

}  // namespace fastcnn::FASTCNN_ISA
