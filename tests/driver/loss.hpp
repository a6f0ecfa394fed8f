// Losses of an output for targets: values and gradients.
#pragma once
#include <algorithm>

#include "driver/harness.hpp"

namespace fastcnn::driver {

inline void check_loss(const RowsShape& s) {
  case_name = "loss rows " + std::to_string(s.rows) + " C " + std::to_string(s.C);
  const int64_t size = s.rows * s.C;
  const Floats x = uniform(size, -9, 9), q = uniform(size, 0.01f, 0.99f), t = uniform(size, 0, 1),
               weight = uniform(s.rows, 0, 1);
  const auto C = static_cast<double>(s.C);
  Values p(at(size)), entropy(at(s.rows)), entropy_dx(at(size)), binary(at(s.rows)), binary_dx(at(size));
  Values square(at(s.rows)), square_dx(at(size)), category(at(s.rows)), category_dx(at(size));
  for (int64_t row = 0; row < s.rows; ++row) {
    const double w = static_cast<double>(weight[row]);
    double sum = 0, targets = 0;
    for (int64_t i = row * s.C; i < (row + 1) * s.C; ++i) {
      sum += static_cast<double>(q[i]);
      targets += static_cast<double>(t[i]);
    }
    for (int64_t i = row * s.C; i < (row + 1) * s.C; ++i) {
      const double T = static_cast<double>(t[i]), Q = static_cast<double>(q[i]);
      const double P = 1 / (1 + std::exp(-static_cast<double>(x[i])));
      const double share = std::min(Q / sum, static_cast<double>(1 - 1e-7f));
      p[at(i)].add(P);
      entropy[at(row)].add(-(T * std::log(P) + (1 - T) * std::log(1 - P)) / C);
      entropy_dx[at(i)] = {(P - T) / C * w, 1};
      binary[at(row)].add(-(T * std::log(Q) + (1 - T) * std::log(1 - Q)) / C);
      binary_dx[at(i)].add(((1 - T) / (1 - Q) - T / Q) / C * w);
      binary_dx[at(i)].size += 200;
      category[at(row)].add(-T * std::log(share));
      category_dx[at(i)] = {s.C == 1 ? 0 : (targets - T * sum / Q) / sum * w, targets / sum + 1 / Q};
      square[at(row)].add((Q - T) * (Q - T) / C);
      square_dx[at(i)] = {2 * (Q - T) / C * w, 2};
    }
  }
  Floats y(size), loss(s.rows), dx(size);
  run("sigmoid_cross_entropy", {0, 0}, {output(y), output(loss), output(dx)}, [&](const Scratch&) {
    table->sigmoid_cross_entropy(s, x.data(), t.data(), weight.data(), 1e-7f, y.data(), loss.data(), dx.data());
  });
  compare("sigmoid_cross_entropy's p", y, p, 2);
  compare("sigmoid_cross_entropy's loss", loss, entropy, 2);
  compare("sigmoid_cross_entropy's dx", dx, entropy_dx, 2);
  const auto check = [&](const char* op, const Values& want, const Values& want_dx, auto kernel) {
    run(op, {0, 0}, {output(loss), output(dx)}, [&](const Scratch&) { kernel(loss.data(), dx.data()); });
    compare(op, loss, want, 2);
    compare(op, dx, want_dx, 2);
  };
  check("categorical_cross_entropy", category, category_dx, [&](float* l, float* d) {
    table->categorical_cross_entropy(s, q.data(), t.data(), weight.data(), 1e-7f, l, d);
  });
  check("binary_cross_entropy", binary, binary_dx,
        [&](float* l, float* d) { table->binary_cross_entropy(s, q.data(), t.data(), weight.data(), 1e-7f, l, d); });
  check("squared_error", square, square_dx,
        [&](float* l, float* d) { table->squared_error(s, q.data(), t.data(), weight.data(), l, d); });
}

}  // namespace fastcnn::driver
