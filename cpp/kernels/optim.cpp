// Optimizer steps over one flat range of weights, by Keras' formulas. Bound by memory: every array is passed once.
#include "kernels/channels.hpp"
#include "kernels/doubles.hpp"
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

// What every rule does alike: g = clip(grads*scale, -limit, limit), and a weight loses weight*decay beside its step.
// Step and decay are added before they meet the weight, which so is rounded once.
struct Update {
  const float* grads;
  float* values;
  float scale, limit, decay;

  Update(const float* g, float* w, const UpdateSettings& settings)
      : grads(g),
        values(w),
        scale(static_cast<float>(settings.scale)),
        limit(static_cast<float>(settings.limit)),
        decay(static_cast<float>(settings.decay)) {}

  FASTCNN_INLINE vf gradient(int64_t i, int64_t n) const {
    const vf g = load_upto(grads + i, n) * broadcast(scale), most = broadcast(limit);
    return select(g > most, most, select(g < -most, -most, g));  // NaN stays NaN
  }
  FASTCNN_INLINE void take(int64_t i, int64_t n, vf step) const {
    const vf w = load_upto(values + i, n);
    store_upto(values + i, w - (step + broadcast(decay) * w), n);
  }
};

// m = momentum*m - lr*g;  w += m, or w += momentum*m - lr*g for Nesterov
void sgd_step(int64_t size, const float* grads, const SGDSettings& settings, float* m, float* values) {
  const float rate = static_cast<float>(settings.learning_rate), momentum = static_cast<float>(settings.momentum);
  const bool nesterov = settings.nesterov != 0;
  const Update update(grads, values, settings.update);
  if (!m)
    over_range(size, 2, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      update.take(i, n, broadcast(rate) * update.gradient(i, n));
    });
  else if (nesterov)
    over_range(size, 3, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      const vf step = broadcast(rate) * update.gradient(i, n);
      const vf v = broadcast(momentum) * load_upto(m + i, n) - step;
      store_upto(m + i, v, n);
      update.take(i, n, step - broadcast(momentum) * v);
    });
  else
    over_range(size, 3, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
      const vf v = broadcast(momentum) * load_upto(m + i, n) - broadcast(rate) * update.gradient(i, n);
      store_upto(m + i, v, n);
      update.take(i, n, -v);
    });
}

// old*keep + new*(1-keep), the factors rounded from double
struct Average {
  float keep, take;
  explicit Average(double factor) : keep(static_cast<float>(factor)), take(static_cast<float>(1 - factor)) {}
  FASTCNN_INLINE vf operator()(vf old, vf now) const { return broadcast(keep) * old + broadcast(take) * now; }
};

// m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;  w -= lr * sqrt(1-b2^t)/(1-b1^t) * m / (sqrt(v) + epsilon)
template <bool kAMSGrad>
void adam(int64_t size, const AdamSettings& settings, const Update& update, float* m, float* v, float* v_max) {
  const double beta_1 = settings.beta_1, beta_2 = settings.beta_2;
  const float rate = static_cast<float>(settings.learning_rate * __builtin_sqrt(1 - __builtin_pow(beta_2, settings.t)) /
                                        (1 - __builtin_pow(beta_1, settings.t)));
  const Average mean(beta_1), square(beta_2);
  const float epsilon = static_cast<float>(settings.epsilon);
  over_range(size, kAMSGrad ? 5 : 4, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf g = update.gradient(i, n);
    const vf first = mean(load_upto(m + i, n), g);
    vf second = square(load_upto(v + i, n), g * g);
    store_upto(m + i, first, n);
    store_upto(v + i, second, n);
    if constexpr (kAMSGrad) {
      const vf most = load_upto(v_max + i, n);
      second = select(second < most, most, second);
      store_upto(v_max + i, second, n);
    }
    update.take(i, n, broadcast(rate) * first / (square_root(second) + broadcast(epsilon)));
  });
}

void adam_step(int64_t size, const float* grads, const AdamSettings& settings, float* m, float* v, float* v_max,
               float* values) {
  const Update update(grads, values, settings.update);
  if (v_max)
    adam<true>(size, settings, update, m, v, v_max);
  else
    adam<false>(size, settings, update, m, v, nullptr);
}

// v = rho*v + (1-rho)*g^2;  mean = rho*mean + (1-rho)*g;  m = momentum*m + lr*g / sqrt(v - mean^2 + epsilon);  w -= m
template <bool kMomentum, bool kCentered>
void rmsprop(int64_t size, const RMSpropSettings& settings, const Update& update, float* v, float* m, float* mean) {
  const float rate = static_cast<float>(settings.learning_rate), momentum = static_cast<float>(settings.momentum);
  const float epsilon = static_cast<float>(settings.epsilon);
  const Average average(settings.rho);
  over_range(size, 3 + kMomentum + kCentered, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf g = update.gradient(i, n);
    vf variance = average(load_upto(v + i, n), g * g);
    store_upto(v + i, variance, n);
    if constexpr (kCentered) {
      const vf centre = average(load_upto(mean + i, n), g);
      store_upto(mean + i, centre, n);
      variance = relu(variance - centre * centre);  // at least 0 but for rounding
    }
    vf step = broadcast(rate) * g / square_root(variance + broadcast(epsilon));
    if constexpr (kMomentum) {
      step = broadcast(momentum) * load_upto(m + i, n) + step;
      store_upto(m + i, step, n);
    }
    update.take(i, n, step);
  });
}

void rmsprop_step(int64_t size, const float* grads, const RMSpropSettings& settings, float* v, float* m, float* mean,
                  float* values) {
  const Update update(grads, values, settings.update);
  if (m && mean)
    rmsprop<true, true>(size, settings, update, v, m, mean);
  else if (m)
    rmsprop<true, false>(size, settings, update, v, m, mean);
  else if (mean)
    rmsprop<false, true>(size, settings, update, v, m, mean);
  else
    rmsprop<false, false>(size, settings, update, v, m, mean);
}

// average = momentum*average + (1-momentum)*w;  overwrite: w = average
void ema_step(int64_t size, const EMASettings& settings, float* average, float* values) {
  const Average mean(settings.momentum);
  const bool overwrite = settings.overwrite != 0;
  over_range(size, overwrite ? 3 : 2, [=](int64_t i, int64_t n) FASTCNN_LAMBDA {
    const vf a = mean(load_upto(average + i, n), load_upto(values + i, n));
    store_upto(average + i, a, n);
    if (overwrite) store_upto(values + i, a, n);
  });
}

// Partial sums of fixed chunks, added in order: the bits follow from the sizes alone.
ScratchSize squared_norms_scratch(int64_t longest) {
  return {ceil_div(longest, kGrain) * static_cast<int64_t>(sizeof(double)), 0};
}

void squared_norms(int64_t parts, const int64_t* offsets, const float* grads, double* sums, const Scratch& scratch) {
  double* const partial = reinterpret_cast<double*>(scratch.shared);
  for (int64_t part = 0; part < parts; ++part) {
    const float* const from = grads + offsets[part];
    const int64_t size = offsets[part + 1] - offsets[part];
    parallel_for(size, kGrain, size * kMoved, [=](int64_t begin, int64_t end) {
      vd sum{};
      over_channels(end - begin, [&](int64_t i, int64_t n) FASTCNN_LAMBDA {
        const vd g = to_double(load_upto(from + begin + i, n));
        sum += g * g;
      });
      partial[begin / kGrain] = sum_lanes_double(sum);
    });
    double total = 0;
    for (int64_t chunk = 0; chunk < ceil_div(size, kGrain); ++chunk) total += partial[chunk];
    sums[part] = total;
  }
}

}  // namespace

void fill_optim(Kernels& kernels) {
  kernels.sgd_step = sgd_step;
  kernels.adam_step = adam_step;
  kernels.rmsprop_step = rmsprop_step;
  kernels.ema_step = ema_step;
  kernels.squared_norms_scratch = squared_norms_scratch;
  kernels.squared_norms = squared_norms;
}

}  // namespace fastcnn::FASTCNN_ISA
