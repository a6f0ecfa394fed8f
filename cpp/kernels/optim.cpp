// Optimizer steps over one flat range of weights, by Keras' formulas. Bound by memory: every array is passed once.
#include "kernels/channels.hpp"
#include "kernels/table.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

// f(first, count) for vectors of the whole range, the last one shorter.
template <class F>
FASTCNN_INLINE void over_range(int64_t size, int64_t arrays, const F& f) {
  parallel_for(size, kGrain, size * arrays * kMoved, [f](int64_t begin, int64_t end) {
    over_channels(end - begin, [=](int64_t i, int64_t n) FASTCNN_LAMBDA { f(begin + i, n); });
  });
}

// m = momentum*m - lr*g;  w += m, or w += momentum*m - lr*g for Nesterov
void sgd_step(int64_t size, const float* grads, const SGDSettings& settings, float* m, float* values) {
  const float rate = static_cast<float>(settings.learning_rate), momentum = static_cast<float>(settings.momentum);
  const bool nesterov = settings.nesterov != 0;
  if (!m)
    over_range(size, 2, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      store_upto(values + i, load_upto(values + i, n) - broadcast(rate) * load_upto(grads + i, n), n);
    });
  else if (nesterov)
    over_range(size, 3, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      const vf step = broadcast(rate) * load_upto(grads + i, n);
      const vf v = broadcast(momentum) * load_upto(m + i, n) - step;
      store_upto(m + i, v, n);
      store_upto(values + i, load_upto(values + i, n) + (broadcast(momentum) * v - step), n);
    });
  else
    over_range(size, 3, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      const vf v = broadcast(momentum) * load_upto(m + i, n) - broadcast(rate) * load_upto(grads + i, n);
      store_upto(m + i, v, n);
      store_upto(values + i, load_upto(values + i, n) + v, n);
    });
}

// m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;  w -= lr * sqrt(1-b2^t)/(1-b1^t) * m / (sqrt(v) + epsilon)
void adam_step(int64_t size, const float* grads, const AdamSettings& settings, float* m, float* v, float* values) {
  const double beta_1 = settings.beta_1, beta_2 = settings.beta_2;
  const float rate = static_cast<float>(settings.learning_rate * __builtin_sqrt(1 - __builtin_pow(beta_2, settings.t)) /
                                        (1 - __builtin_pow(beta_1, settings.t)));
  const float keep_m = static_cast<float>(beta_1), take_m = static_cast<float>(1 - beta_1);
  const float keep_v = static_cast<float>(beta_2), take_v = static_cast<float>(1 - beta_2);
  const float epsilon = static_cast<float>(settings.epsilon);
  over_range(size, 4, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf g = load_upto(grads + i, n);
    const vf first = broadcast(keep_m) * load_upto(m + i, n) + broadcast(take_m) * g;
    const vf second = broadcast(keep_v) * load_upto(v + i, n) + broadcast(take_v) * (g * g);
    store_upto(m + i, first, n);
    store_upto(v + i, second, n);
    const vf step = broadcast(rate) * first / (square_root(second) + broadcast(epsilon));
    store_upto(values + i, load_upto(values + i, n) - step, n);
  });
}

}  // namespace

void fill_optim(Kernels& kernels) {
  kernels.sgd_step = sgd_step;
  kernels.adam_step = adam_step;
}

}  // namespace fastcnn::FASTCNN_ISA
