// Dense layers and bias sums.
#pragma once
#include <algorithm>

#include "driver/harness.hpp"

namespace fastcnn::driver {

inline void check_dense(const DenseShape& s) {
  case_name = "dense N" + std::to_string(s.N) + "C" + std::to_string(s.C) + "K" + std::to_string(s.K);
  const Floats x = integers(s.N * s.C), w = integers(s.C * s.K), b = integers(s.K), dy = integers(s.N * s.K);
  const ScratchSize size = table->dense_scratch(s);
  for (const bool with_bias : {false, true}) {
    Floats y(s.N * s.K);
    run("dense_forward", size, {output(y)}, [&](const Scratch& scratch) {
      table->dense_forward(s, x.data(), w.data(), with_bias ? b.data() : nullptr, with_bias, y.data(), scratch);
    });
    Values want(at(s.N * s.K));
    for (int64_t n = 0; n < s.N; ++n)
      for (int64_t k = 0; k < s.K; ++k) {
        Value& v = want[at(n * s.K + k)];
        for (int64_t c = 0; c < s.C; ++c) v.add(static_cast<double>(x[n * s.C + c] * w[c * s.K + k]));
        if (with_bias) v.value = relu(v.value + static_cast<double>(b[k]));
      }
    compare("dense_forward", y, want);
  }
  for (const bool accumulate : {false, true}) {
    Floats dx = accumulate ? x : Floats(s.N * s.C), dw = accumulate ? w : Floats(s.C * s.K),
           db = accumulate ? b : Floats(s.K);
    Values want_x(at(s.N * s.C)), want_w(at(s.C * s.K)), want_b(at(s.K));
    for (int64_t i = 0; accumulate && i < dx.size(); ++i) want_x[at(i)].add(static_cast<double>(x[i]));
    for (int64_t i = 0; accumulate && i < dw.size(); ++i) want_w[at(i)].add(static_cast<double>(w[i]));
    for (int64_t i = 0; accumulate && i < db.size(); ++i) want_b[at(i)].add(static_cast<double>(b[i]));
    for (int64_t n = 0; n < s.N; ++n)
      for (int64_t k = 0; k < s.K; ++k) {
        for (int64_t c = 0; c < s.C; ++c) {
          want_x[at(n * s.C + c)].add(static_cast<double>(dy[n * s.K + k] * w[c * s.K + k]));
          want_w[at(c * s.K + k)].add(static_cast<double>(dy[n * s.K + k] * x[n * s.C + c]));
        }
        want_b[at(k)].add(static_cast<double>(dy[n * s.K + k]));
      }
    run("dense_backward_data", size, {output(dx)}, [&](const Scratch& scratch) {
      table->dense_backward_data(s, dy.data(), w.data(), accumulate, dx.data(), scratch);
    });
    compare("dense_backward_data", dx, want_x);
    run("dense_backward_weights", size, {output(dw)}, [&](const Scratch& scratch) {
      table->dense_backward_weights(s, x.data(), dy.data(), accumulate, dw.data(), scratch);
    });
    compare("dense_backward_weights", dw, want_w);
    if (!accumulate) {
      Floats taken(s.C * s.K);
      run("dense_update", table->dense_update_scratch(s), {output(taken)}, [&](const Scratch& scratch) {
        const auto take = [](void* context, int64_t first, int64_t count, const float* grads) {
          std::copy(grads, grads + count, static_cast<float*>(context) + first);
        };
        table->dense_update(s, x.data(), dy.data(), take, taken.data(), scratch);
      });
      compare("dense_update", taken, want_w);
    }
    const RowsShape rows{s.N, s.K};
    run("bias_backward", table->bias_backward_scratch(rows), {output(db)},
        [&](const Scratch& scratch) { table->bias_backward(rows, dy.data(), accumulate, db.data(), scratch); });
    compare("bias_backward", db, want_b);
  }
}

}  // namespace fastcnn::driver
