// Batch normalisation over rows, per channel:
//
//   y = relu((x - mean) * inv_std * gamma + beta + residual),   inv_std = 1 / sqrt(variance + epsilon)
//   g = dy where y > 0;   dbeta = sum g;   dgamma = sum g * (x - mean) * inv_std
//   dx = a*g + b*(x - mean) + c,   a = gamma*inv_std,   b = -a*inv_std*dgamma/rows,   c = -a*dbeta/rows
//
// The variance is never taken as E[x^2] - E[x]^2. Rows form blocks that depend on the shape only: each block's sums go
// to a slot of its own, and the slots are merged in order in double (Chan, Golub and LeVeque 1979).
#include "kernels/channels.hpp"
#include "kernels/table.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr int64_t kChunk = 512;           // channels whose sums stay in the L1 cache
constexpr int64_t kBlockFloats = 32768;   // 128 KB: the second pass over a block finds it in the L2 cache
constexpr int64_t kFewestRows = 32;       // more channels: a slot stays small beside its block
constexpr int64_t kMostRows = 512;        // fewer channels: sums stay short, hence accurate
constexpr int64_t kMergeChannels = 16;    // one cache line of floats
constexpr int64_t kSumCost = 16;          // multiply-adds that a value costs in a pass that also sums

FASTCNN_INLINE int64_t block_rows(int64_t C) {
  return larger(kFewestRows, smaller(kMostRows, kBlockFloats / larger(1, C)));
}

int64_t batchnorm_blocks(const RowsShape& shape) { return ceil_div(shape.rows, block_rows(shape.C)); }

FASTCNN_INLINE void add_to(float* sum, vf a) { store(sum, load(sum) + a); }

// f(first channel, count) for chunks of channels.
template <class F>
FASTCNN_INLINE void over_chunks(int64_t C, const F& f) {
  for (int64_t c = 0; c < C; c += kChunk) f(c, smaller(kChunk, C - c));
}

// One block of rows, at most kChunk channels: mean, and squared deviations from it. The first pass sums the differences
// from the first row, which are small where the mean is not; the second corrects the first's rounded mean. Rows come
// one by one: the prefetchers follow that best.
FASTCNN_INLINE void chunk_statistics(const float* x, int64_t rows, int64_t C, int64_t channels, float* mean,
                                     float* squares) {
  float m[kChunk], sum[kChunk] = {}, square[kChunk] = {};
  const vf count = broadcast(static_cast<float>(rows));
  for (int64_t row = 1; row < rows; ++row)
    over_channels(channels, [=, &sum](int64_t c, int64_t n) FASTCNN_LAMBDA {
      add_to(sum + c, load_upto(x + row * C + c, n) - load_upto(x + c, n));
    });
  over_channels(channels, [=, &m, &sum](int64_t c, int64_t n) FASTCNN_LAMBDA {
    store(m + c, load_upto(x + c, n) + load(sum + c) / count);
    store(sum + c, vf{});
  });
  for (int64_t row = 0; row < rows; ++row)
    over_channels(channels, [=, &m, &sum, &square](int64_t c, int64_t n) FASTCNN_LAMBDA {
      const vf d = load_upto(x + row * C + c, n) - load(m + c);
      add_to(sum + c, d);
      add_to(square + c, d * d);
    });
  over_channels(channels, [=, &m, &sum, &square](int64_t c, int64_t n) FASTCNN_LAMBDA {
    const vf shift = load(sum + c) / count;
    store_upto(mean + c, load(m + c) + shift, n);
    store_upto(squares + c, load(square + c) - load(sum + c) * shift, n);
  });
}

void batchnorm_statistics(const RowsShape& shape, const float* x, float* statistics, int64_t* counts) {
  const int64_t C = shape.C, grain = block_rows(C);
  parallel_for(shape.rows, grain, shape.rows * C * kSumCost, [=](int64_t begin, int64_t end) {
    const int64_t block = begin / grain;
    float* const mean = statistics + block * 2 * C;
    over_chunks(C, [=](int64_t c, int64_t n) {
      chunk_statistics(x + begin * C + c, end - begin, C, n, mean + c, mean + C + c);
    });
    counts[block] = end - begin;
  });
}

FASTCNN_INLINE double inverse_deviation(double variance, double epsilon) {
  return 1.0 / __builtin_sqrt(variance + epsilon);
}

FASTCNN_INLINE float scale_of(const float* gamma, const float* inv_std, int64_t c) {
  return gamma ? gamma[c] * inv_std[c] : inv_std[c];
}
FASTCNN_INLINE vf normalised(vf x, vf mean, vf scale, vf shift) { return (x - mean) * scale + shift; }

// Slots that a convolution left empty have count 0. shape.rows is not read: the counts tell.
void batchnorm_merge(const RowsShape& shape, int64_t blocks, const float* statistics, const int64_t* counts,
                     const float* gamma, double epsilon, double momentum, float* mean, float* inv_std, float* scale,
                     float* moving_mean, float* moving_variance) {
  const int64_t C = shape.C;
  parallel_for(C, kMergeChannels, blocks * C * kSumCost, [=](int64_t begin, int64_t end) {
    const int64_t n = end - begin;
    double m[kMergeChannels] = {}, square[kMergeChannels] = {};
    int64_t total = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (counts[block] == 0) continue;
      const float* const slot = statistics + block * 2 * C + begin;
      const double before = static_cast<double>(total);
      total += counts[block];
      const double share = static_cast<double>(counts[block]) / static_cast<double>(total), weight = before * share;
      for (int64_t c = 0; c < n; ++c) {
        const double d = static_cast<double>(slot[c]) - m[c];
        m[c] += d * share;
        square[c] += static_cast<double>(slot[C + c]) + d * d * weight;
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      const double variance = (square[c] < 0 ? 0 : square[c]) / static_cast<double>(total);  // NaN stays
      mean[begin + c] = static_cast<float>(m[c]);
      inv_std[begin + c] = static_cast<float>(inverse_deviation(variance, epsilon));
      if (scale) scale[begin + c] = scale_of(gamma, inv_std, begin + c);
      if (moving_mean)
        moving_mean[begin + c] =
            static_cast<float>(momentum * static_cast<double>(moving_mean[begin + c]) + (1 - momentum) * m[c]);
      if (moving_variance)
        moving_variance[begin + c] =
            static_cast<float>(momentum * static_cast<double>(moving_variance[begin + c]) + (1 - momentum) * variance);
    }
  });
}

// y = relu((x - mean) * scale + shift + residual) for rows of `channels` out of C.
template <bool kResidual, bool kRelu, bool kStream>
FASTCNN_INLINE void normalise_rows(int64_t rows, int64_t C, int64_t channels, const float* x, const float* mean,
                                   const float* scale, const float* shift, const float* residual, float* y) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * C;
    over_channels(channels, [=](int64_t c, int64_t n) FASTCNN_LAMBDA {
      vf a = normalised(load_upto(x + at + c, n), load_upto(mean + c, n), load_upto(scale + c, n),
                        load_upto(shift + c, n));
      if (kResidual) a += load_upto(residual + at + c, n);
      put_upto<kStream>(y + at + c, kRelu ? relu(a) : a, n);
    });
  }
  if (kStream) end_stream();
}

// Calls f(constant) with the constant true or false, as a type.
template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};
template <class F>
FASTCNN_INLINE void with_constant(bool value, const F& f) {
  if (value)
    f(Constant<true>{});
  else
    f(Constant<false>{});
}

void normalise(int64_t rows, int64_t C, int64_t channels, const float* x, const float* mean, const float* scale,
               const float* shift, const float* residual, bool relu, bool streamed, float* y) {
  with_constant(residual != nullptr, [=](auto add) {
    with_constant(relu, [=](auto clip) {
      with_constant(streamed, [=](auto past_caches) {
        normalise_rows<add.value, clip.value, past_caches.value>(rows, C, channels, x, mean, scale, shift, residual, y);
      });
    });
  });
}

void batchnorm_forward(const RowsShape& shape, const float* x, const float* mean, const float* inv_std,
                       const float* gamma, const float* beta, const float* residual, bool relu, float* y) {
  const int64_t C = shape.C, grain = block_rows(C);
  const bool streamed = streams(y, shape.rows * C, C);
  parallel_for(shape.rows, grain, shape.rows * C * kMoved, [=](int64_t begin, int64_t end) {
    over_chunks(C, [=](int64_t first, int64_t channels) {
      float scale[kChunk], shift[kChunk];
      for (int64_t c = 0; c < channels; ++c) {
        scale[c] = scale_of(gamma, inv_std, first + c);
        shift[c] = beta ? beta[first + c] : 0.0f;
      }
      const int64_t at = begin * C + first;
      normalise(end - begin, C, channels, x + at, mean + first, scale, shift, residual ? residual + at : nullptr, relu,
                streamed, y + at);
    });
  });
}

void batchnorm_inference(const RowsShape& shape, const float* x, const float* moving_mean, const float* moving_variance,
                         double epsilon, const float* gamma, const float* beta, const float* residual, bool relu,
                         float* y, const Scratch& scratch) {
  const int64_t C = shape.C, grain = block_rows(C);
  float* const scale = shared_floats(scratch);
  float* const shift = scale + C;
  for (int64_t c = 0; c < C; ++c) {
    const double inverse = inverse_deviation(static_cast<double>(moving_variance[c]), epsilon);
    scale[c] = static_cast<float>(gamma ? static_cast<double>(gamma[c]) * inverse : inverse);
    shift[c] = beta ? beta[c] : 0.0f;
  }
  const bool streamed = streams(y, shape.rows * C, C);
  parallel_for(shape.rows, grain, shape.rows * C * kMoved, [=](int64_t begin, int64_t end) {
    const int64_t at = begin * C;
    normalise(end - begin, C, C, x + at, moving_mean, scale, shift, residual ? residual + at : nullptr, relu, streamed,
              y + at);
  });
}

// Where the ReLU let the gradient through: everywhere, where y > 0, or where y made again from x is.
enum class Mask { none, output, input };

// What a backward pass reads. scale, shift: those of the forward pass, for Mask::input.
struct Inputs {
  const float *x, *y, *dy, *mean, *scale, *shift;

  FASTCNN_INLINE Inputs from(int64_t at, int64_t c) const {
    return {x + at + c, y ? y + at + c : nullptr, dy + at + c, mean + c, scale + c, shift + c};
  }
  FASTCNN_INLINE vf deviation(int64_t at, int64_t c, int64_t n) const {
    return load_upto(x + at + c, n) - load_upto(mean + c, n);
  }
  template <Mask kMask>
  FASTCNN_INLINE vf gradient(int64_t at, int64_t c, int64_t n) const {
    const vf g = load_upto(dy + at + c, n);
    if constexpr (kMask == Mask::none) return g;
    vf through;
    if constexpr (kMask == Mask::output)
      through = load_upto(y + at + c, n);
    else
      through = normalised(load_upto(x + at + c, n), load_upto(mean + c, n), load_upto(scale + c, n),
                           load_upto(shift + c, n));
    return select(through > vf{}, g, vf{});
  }
};

enum class Residual { none, write, stream, accumulate };

// Sums of g and of g * (x - mean) over one block of rows, at most kChunk channels; writes dresidual on the way.
template <Mask kMask, Residual kResidual>
FASTCNN_INLINE void chunk_gradients(int64_t rows, int64_t C, int64_t channels, const Inputs& in, float* dresidual,
                                    float* sum_g, float* sum_gx) {
  float sum[kChunk] = {}, product[kChunk] = {};
  const auto gradient = [=](int64_t at, int64_t c, int64_t n) FASTCNN_LAMBDA {
    const vf g = in.gradient<kMask>(at, c, n);
    float* const to = dresidual + at + c;
    if (kResidual == Residual::write) store_upto(to, g, n);
    if (kResidual == Residual::stream) stream(to, g);
    if (kResidual == Residual::accumulate) store_upto(to, load_upto(to, n) + g, n);
    return g;
  };
  for (int64_t row = 0; row < rows; ++row)
    over_channels(channels, [=, &sum, &product](int64_t c, int64_t n) FASTCNN_LAMBDA {
      const vf g = gradient(row * C, c, n);
      add_to(sum + c, g);
      add_to(product + c, g * in.deviation(row * C, c, n));
    });
  over_channels(channels, [=, &sum, &product](int64_t c, int64_t n) FASTCNN_LAMBDA {
    store_upto(sum_g + c, load(sum + c), n);
    store_upto(sum_gx + c, load(product + c), n);
  });
}

template <Mask kMask, Residual kResidual>
void reduce_gradients(const RowsShape& shape, const Inputs& in, float* dresidual, float* slots) {
  const int64_t C = shape.C, grain = block_rows(C);
  parallel_for(shape.rows, grain, shape.rows * C * kSumCost, [=](int64_t begin, int64_t end) {
    float* const slot = slots + begin / grain * 2 * C;
    over_chunks(C, [=](int64_t c, int64_t n) {
      chunk_gradients<kMask, kResidual>(end - begin, C, n, in.from(begin * C, c),
                                        kResidual == Residual::none ? nullptr : dresidual + begin * C + c, slot + c,
                                        slot + C + c);
    });
    if (kResidual == Residual::stream) end_stream();
  });
}

// dx (+)= a*g + b*(x - mean) + c, or a*g when the statistics are constants.
template <Mask kMask, bool kFrozen, bool kAccumulate, bool kStream>
void apply_gradients(const RowsShape& shape, const Inputs& in, const float* a, const float* b, const float* c,
                     float* dx) {
  const int64_t C = shape.C;
  parallel_for(shape.rows, block_rows(C), shape.rows * C * kMoved, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      over_channels(C, [=](int64_t channel, int64_t n) FASTCNN_LAMBDA {
        const int64_t at = row * C + channel;
        vf d = load_upto(a + channel, n) * in.gradient<kMask>(row * C, channel, n);
        if (!kFrozen) d += load_upto(b + channel, n) * in.deviation(row * C, channel, n) + load_upto(c + channel, n);
        if (kAccumulate) d += load_upto(dx + at, n);
        put_upto<kStream>(dx + at, d, n);
      });
    if (kStream) end_stream();
  });
}

ScratchSize batchnorm_backward_scratch(const RowsShape& shape) {
  return {(batchnorm_blocks(shape) * 2 + 5) * shape.C * 4, 0};
}

template <Mask kMask>
FASTCNN_INLINE void reduce_gradients_to(const RowsShape& shape, const Inputs& in, bool accumulate, float* dresidual,
                                        float* slots) {
  if (!dresidual)
    reduce_gradients<kMask, Residual::none>(shape, in, nullptr, slots);
  else if (accumulate)
    reduce_gradients<kMask, Residual::accumulate>(shape, in, dresidual, slots);
  else if (streams(dresidual, shape.rows * shape.C, shape.C))
    reduce_gradients<kMask, Residual::stream>(shape, in, dresidual, slots);
  else
    reduce_gradients<kMask, Residual::write>(shape, in, dresidual, slots);
}

// Calls f(mask) with the mask as a type.
template <Mask kMask>
struct MaskConstant {
  static constexpr Mask value = kMask;
};
template <class F>
FASTCNN_INLINE void with_mask(Mask mask, const F& f) {
  if (mask == Mask::none)
    f(MaskConstant<Mask::none>{});
  else if (mask == Mask::output)
    f(MaskConstant<Mask::output>{});
  else
    f(MaskConstant<Mask::input>{});
}

void batchnorm_backward(const RowsShape& shape, const float* x, const float* y, const float* dy, const float* mean,
                        const float* inv_std, const float* gamma, const float* beta, bool relu, bool frozen,
                        bool accumulate, float* dx, bool accumulate_residual, float* dresidual, float* dgamma,
                        float* dbeta, const Scratch& scratch) {
  const int64_t C = shape.C, blocks = batchnorm_blocks(shape);
  float* const slots = shared_floats(scratch);
  float* const a = slots + blocks * 2 * C;
  float *const b = a + C, *const c = b + C, *const scale = c + C, *const shift = scale + C;
  for (int64_t i = 0; i < C; ++i) {
    scale[i] = scale_of(gamma, inv_std, i);
    shift[i] = beta ? beta[i] : 0.0f;
  }
  Inputs in{x, y, dy, mean, scale, shift};
  Mask mask = y ? Mask::output : relu ? Mask::input : Mask::none;

  const bool sums = dgamma || dbeta || (dx && !frozen);
  if (sums || dresidual)
    with_mask(mask,
              [=](auto known) { reduce_gradients_to<known.value>(shape, in, accumulate_residual, dresidual, slots); });
  parallel_for(C, kMergeChannels, (sums ? blocks : 1) * C * kSumCost, [=](int64_t begin, int64_t end) {
    const int64_t n = end - begin;
    double sum[kMergeChannels] = {}, product[kMergeChannels] = {};
    for (int64_t block = 0; sums && block < blocks; ++block) {
      const float* const slot = slots + block * 2 * C + begin;
      for (int64_t i = 0; i < n; ++i) {
        sum[i] += static_cast<double>(slot[i]);
        product[i] += static_cast<double>(slot[C + i]);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      const double inverse = static_cast<double>(inv_std[begin + i]), rows = static_cast<double>(shape.rows);
      const double scale = gamma ? static_cast<double>(gamma[begin + i]) * inverse : inverse;
      product[i] *= inverse;
      if (dgamma) dgamma[begin + i] = static_cast<float>(product[i]);
      if (dbeta) dbeta[begin + i] = static_cast<float>(sum[i]);
      a[begin + i] = static_cast<float>(scale);
      b[begin + i] = static_cast<float>(-scale * inverse * product[i] / rows);
      c[begin + i] = static_cast<float>(-scale * sum[i] / rows);
    }
  });
  if (!dx) return;
  if (dresidual && !accumulate_residual) {  // it holds g already
    in.dy = dresidual;
    mask = Mask::none;
  }
  with_mask(mask, [=](auto known) {
    with_constant(frozen, [=](auto constant_statistics) {
      with_constant(accumulate, [=](auto add) {
        with_constant(!accumulate && streams(dx, shape.rows * C, C), [=](auto past_caches) {
          apply_gradients<known.value, constant_statistics.value, add.value, past_caches.value>(shape, in, a, b, c, dx);
        });
      });
    });
  });
}

}  // namespace

void fill_norm(Kernels& kernels) {
  kernels.batchnorm_blocks = batchnorm_blocks;
  kernels.batchnorm_statistics = batchnorm_statistics;
  kernels.batchnorm_merge = batchnorm_merge;
  kernels.batchnorm_forward = batchnorm_forward;
  kernels.batchnorm_inference = batchnorm_inference;
  kernels.batchnorm_backward_scratch = batchnorm_backward_scratch;
  kernels.batchnorm_backward = batchnorm_backward;
}

}  // namespace fastcnn::FASTCNN_ISA
