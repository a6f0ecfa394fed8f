// Batch normalisation.
#pragma once
#include "driver/statistics.hpp"

namespace fastcnn::driver {

inline void check_batchnorm(const RowsShape& s) {
  case_name = "batchnorm rows " + std::to_string(s.rows) + " C " + std::to_string(s.C);
  const int64_t size = s.rows * s.C, blocks = table->batchnorm_blocks(s);
  const double rows = static_cast<double>(s.rows), epsilon = 1e-3, units = 32 + 8 * std::sqrt(rows);
  const Floats x = uniform(size, -2, 3), residual = uniform(size, -1, 1), dy = uniform(size, -1, 1);
  const Floats gamma = uniform(s.C, -2, 2), beta = uniform(s.C, -1, 1);
  Values plain(at(size));
  for (int64_t i = 0; i < size; ++i) plain[at(i)].add(static_cast<double>(x[i]));

  Floats statistics(blocks * 2 * s.C), mean(s.C), inv_std(s.C), moving_mean = integers(s.C),
                                                                moving_variance = uniform(s.C, 1, 2);
  const Floats old_mean = moving_mean, old_variance = moving_variance;
  Guarded<int64_t> counts(blocks);
  run("batchnorm_statistics", {0, 0}, {output(statistics), output(counts)},
      [&](const Scratch&) { table->batchnorm_statistics(s, x.data(), statistics.data(), counts.data()); });
  check_statistics("batchnorm_statistics", statistics, counts, plain, s.C);
  run("batchnorm_merge", {0, 0}, {output(mean), output(inv_std), output(moving_mean), output(moving_variance)},
      [&](const Scratch&) {
        table->batchnorm_merge(s, blocks, statistics.data(), counts.data(), nullptr, epsilon, 0.75, mean.data(),
                               inv_std.data(), nullptr, moving_mean.data(), moving_variance.data());
      });
  const auto [merged, squares] = merge(statistics, counts, s.C);
  Values want_mean(at(s.C)), want_inverse(at(s.C)), want_moving_mean(at(s.C)), want_moving_variance(at(s.C));
  for (int64_t c = 0; c < s.C; ++c) {
    want_mean[at(c)].add(merged[at(c)].value);
    want_inverse[at(c)].add(1 / std::sqrt(squares[at(c)].value / rows + epsilon));
    want_moving_mean[at(c)].add(0.75 * static_cast<double>(old_mean[c]) + 0.25 * merged[at(c)].value);
    want_moving_variance[at(c)].add(0.75 * static_cast<double>(old_variance[c]) + 0.25 * squares[at(c)].value / rows);
  }
  compare("batchnorm_merge's mean", mean, want_mean, 8);
  compare("batchnorm_merge's inv_std", inv_std, want_inverse, 8);
  compare("batchnorm_merge's moving_mean", moving_mean, want_moving_mean, 8);
  compare("batchnorm_merge's moving_variance", moving_variance, want_moving_variance, 8);

  Floats y(size);
  Values want(at(size));
  for (int64_t i = 0; i < size; ++i) {
    const int64_t c = i % s.C;
    want[at(i)].add((static_cast<double>(x[i]) - static_cast<double>(mean[c])) *
                    static_cast<double>(inv_std[c] * gamma[c]));
    want[at(i)].add(static_cast<double>(beta[c]));
    want[at(i)].add(static_cast<double>(residual[i]));
    want[at(i)].size += std::fabs(static_cast<double>(mean[c] * inv_std[c] * gamma[c]));
    want[at(i)].value = relu(want[at(i)].value);
  }
  run("batchnorm_forward", {0, 0}, {output(y)}, [&](const Scratch&) {
    table->batchnorm_forward(s, x.data(), mean.data(), inv_std.data(), gamma.data(), beta.data(), residual.data(), true,
                             y.data());
  });
  compare("batchnorm_forward", y, want, 8);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t c = i % s.C;
    const double scale = 1 / std::sqrt(static_cast<double>(old_variance[c]) + epsilon);
    want[at(i)] = {};
    want[at(i)].add(static_cast<double>(x[i]) * scale);
    want[at(i)].add(static_cast<double>(-old_mean[c]) * scale);
  }
  // scale and shift: two rows of scratch, as the backward pass of the same channels has at least
  run("batchnorm_inference", {2 * s.C * 4, 0}, {output(y)}, [&](const Scratch& scratch) {
    table->batchnorm_inference(s, x.data(), old_mean.data(), old_variance.data(), epsilon, nullptr, nullptr, nullptr,
                               false, y.data(), scratch);
  });
  compare("batchnorm_inference", y, want, 8);

  for (const bool frozen : {false, true}) {
    const bool accumulate = frozen;
    const Floats mask = integers(size);  // stands for the ReLU's output
    Values dx_want(at(size)), dresidual_want(at(size)), dgamma_want(at(s.C)), dbeta_want(at(s.C));
    for (int64_t i = 0; i < size; ++i) {
      const double g = mask[i] > 0 ? static_cast<double>(dy[i]) : 0;
      const double centred = static_cast<double>(x[i]) - static_cast<double>(mean[i % s.C]);
      dbeta_want[at(i % s.C)].add(g);
      dgamma_want[at(i % s.C)].add(g * centred * static_cast<double>(inv_std[i % s.C]));
      if (accumulate) dresidual_want[at(i)].add(static_cast<double>(residual[i]));
      dresidual_want[at(i)].add(g);
    }
    for (int64_t i = 0; i < size; ++i) {
      const int64_t c = i % s.C;
      const double g = mask[i] > 0 ? static_cast<double>(dy[i]) : 0, inverse = static_cast<double>(inv_std[c]);
      const double centred = static_cast<double>(x[i]) - static_cast<double>(mean[c]),
                   a = static_cast<double>(gamma[c]) * inverse;
      if (accumulate) dx_want[at(i)].add(static_cast<double>(residual[i]));
      dx_want[at(i)].add(a * g);
      if (frozen) continue;
      dx_want[at(i)].add(-a * inverse * dgamma_want[at(c)].value / rows * centred);
      dx_want[at(i)].add(-a * dbeta_want[at(c)].value / rows);
      dx_want[at(i)].size +=
          std::fabs(a) * (dgamma_want[at(c)].size * std::fabs(centred) * inverse + dbeta_want[at(c)].size) / rows;
    }
    Floats dx = accumulate ? residual : Floats(size), dresidual = accumulate ? residual : Floats(size), dgamma(s.C),
           dbeta(s.C);
    run("batchnorm_backward", table->batchnorm_backward_scratch(s),
        {output(dx), output(dresidual), output(dgamma), output(dbeta)}, [&](const Scratch& scratch) {
          table->batchnorm_backward(s, x.data(), mask.data(), dy.data(), mean.data(), inv_std.data(), gamma.data(),
                                    nullptr, false, frozen, accumulate, dx.data(), accumulate, dresidual.data(),
                                    dgamma.data(), dbeta.data(), scratch);
        });
    compare("batchnorm_backward's dx", dx, dx_want, units);
    compare("batchnorm_backward's dresidual", dresidual, dresidual_want, 2);
    compare("batchnorm_backward's dgamma", dgamma, dgamma_want, units);
    compare("batchnorm_backward's dbeta", dbeta, dbeta_want, units);
  }
}

}  // namespace fastcnn::driver
