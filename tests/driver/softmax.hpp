// Softmax and its cross-entropy.
#pragma once
#include <algorithm>

#include "driver/harness.hpp"

namespace fastcnn::driver {

inline void check_softmax(const RowsShape& s) {
  case_name = "softmax rows " + std::to_string(s.rows) + " C " + std::to_string(s.C);
  const int64_t size = s.rows * s.C;
  const Floats x = uniform(size, -9, 9), dy = uniform(size, -1, 1), weight = uniform(s.rows, 0, 1);
  Floats t(size), y(size), dx(size), loss(s.rows);
  Values p(at(size)), want_dx(at(size)), want_loss(at(s.rows)), want_gradient(at(size));
  for (int64_t row = 0; row < s.rows; ++row) {
    double sum = 0, dot = 0;
    const int64_t label = static_cast<int64_t>(random_bits() % static_cast<uint64_t>(s.C));
    for (int64_t c = 0; c < s.C; ++c) sum += std::exp(static_cast<double>(x[row * s.C + c]));
    for (int64_t i = row * s.C; i < (row + 1) * s.C; ++i) {
      p[at(i)].add(std::exp(static_cast<double>(x[i])) / sum);
      t[i] = i == row * s.C + label ? 1.0f : 0.0f;
      dot += p[at(i)].value * static_cast<double>(dy[i]);
    }
    for (int64_t i = row * s.C; i < (row + 1) * s.C; ++i) {
      want_dx[at(i)] = {p[at(i)].value * (static_cast<double>(dy[i]) - dot), p[at(i)].value};
      want_gradient[at(i)] = {(p[at(i)].value - static_cast<double>(t[i])) * static_cast<double>(weight[row]), 1};
    }
    const double wanted = p[at(row * s.C + label)].value;
    want_loss[at(row)] = {-std::log(std::min(std::max(wanted, 1e-7), static_cast<double>(1 - 1e-7f))), 1};
  }
  run("softmax_forward", {0, 0}, {output(y)}, [&](const Scratch&) { table->softmax_forward(s, x.data(), y.data()); });
  compare("softmax_forward", y, p, 64);
  run("softmax_backward", {0, 0}, {output(dx)},
      [&](const Scratch&) { table->softmax_backward(s, y.data(), dy.data(), false, dx.data()); });
  compare("softmax_backward", dx, want_dx, 256);
  run("softmax_cross_entropy", {0, 0}, {output(y), output(loss), output(dx)}, [&](const Scratch&) {
    table->softmax_cross_entropy(s, x.data(), t.data(), weight.data(), 1e-7f, y.data(), loss.data(), dx.data());
  });
  compare("softmax_cross_entropy's p", y, p, 64);
  compare("softmax_cross_entropy's loss", loss, want_loss, 256);
  compare("softmax_cross_entropy's dx", dx, want_gradient, 256);
}

}  // namespace fastcnn::driver
