// Elementwise passes.
#pragma once
#include <algorithm>

#include "driver/harness.hpp"

namespace fastcnn::driver {

inline void check_pointwise(int64_t size) {
  case_name = "pointwise size " + std::to_string(size);
  const Floats a = integers(size), b = integers(size);
  const auto step = [&](const char* op, Floats y, const Values& want, auto f) {
    run(op, {0, 0}, {output(y)}, [&](const Scratch&) { f(y.data()); });
    compare(op, y, want);
  };
  const auto A = [&](int64_t i) { return static_cast<double>(a[i]); };
  const auto B = [&](int64_t i) { return static_cast<double>(b[i]); };
  const Floats empty(size);
  step("relu_forward", empty, values(size, [&](int64_t i) { return relu(A(i)); }),
       [&](float* y) { table->relu_forward(size, a.data(), y); });
  step("relu_backward", empty, values(size, [&](int64_t i) { return A(i) > 0 ? B(i) : 0; }),
       [&](float* y) { table->relu_backward(size, a.data(), b.data(), false, y); });
  step("relu_backward", b, values(size, [&](int64_t i) { return B(i) + (A(i) > 0 ? B(i) : 0); }),
       [&](float* y) { table->relu_backward(size, a.data(), b.data(), true, y); });
  const auto leaky = [&](int64_t i, double a) { return A(i) > 0 ? a : a * 0.25; };
  step("leaky_relu_forward", empty, values(size, [&](int64_t i) { return leaky(i, A(i)); }),
       [&](float* y) { table->leaky_relu_forward(size, a.data(), 0.25f, y); });
  step("leaky_relu_backward", empty, values(size, [&](int64_t i) { return leaky(i, B(i)); }),
       [&](float* y) { table->leaky_relu_backward(size, a.data(), b.data(), 0.25f, false, y); });
  step("leaky_relu_backward", b, values(size, [&](int64_t i) { return B(i) + leaky(i, B(i)); }),
       [&](float* y) { table->leaky_relu_backward(size, a.data(), b.data(), 0.25f, true, y); });
  const auto sigmoid = [&](int64_t i) { return 1 / (1 + std::exp(-A(i))); };
  {
    Floats y(size), dx = b;
    run("sigmoid_forward", {0, 0}, {output(y)},
        [&](const Scratch&) { table->sigmoid_forward(size, a.data(), y.data()); });
    compare("sigmoid_forward", y, values(size, sigmoid), 16);
    run("sigmoid_backward", {0, 0}, {output(dx)},
        [&](const Scratch&) { table->sigmoid_backward(size, y.data(), b.data(), true, dx.data()); });
    Values want = values(size, [&](int64_t i) { return B(i) + B(i) * sigmoid(i) * (1 - sigmoid(i)); });
    for (Value& value : want) value.size += 1;
    compare("sigmoid_backward", dx, want, 64);
  }
  step("add_forward", empty, values(size, [&](int64_t i) { return A(i) + B(i); }),
       [&](float* y) { table->add_forward(size, a.data(), b.data(), false, y); });
  step("add_forward", b, values(size, [&](int64_t i) { return relu(A(i) + B(i)); }),
       [&](float* y) { table->add_forward(size, a.data(), y, true, y); });
  step("copy", empty, values(size, A), [&](float* y) { table->copy(size, a.data(), false, y); });
  step("copy", b, values(size, [&](int64_t i) { return A(i) + B(i); }),
       [&](float* y) { table->copy(size, a.data(), true, y); });
  step("scale", b, values(size, [&](int64_t i) { return B(i) * 3 - 2; }),
       [&](float* y) { table->scale(size, y, 3, -2, y); });
  const auto bounded = [&](int64_t i) { return A(i) > 1 ? std::min(A(i), 2.0) : (A(i) - 1) * 0.25; };
  const auto slope = [&](int64_t i) { return A(i) > 1 ? (A(i) < 2 ? B(i) : 0) : B(i) * 0.25; };
  step("bounded_relu_forward", empty, values(size, bounded),
       [&](float* y) { table->bounded_relu_forward(size, a.data(), 2, 0.25f, 1, y); });
  step("bounded_relu_backward", empty, values(size, slope),
       [&](float* y) { table->bounded_relu_backward(size, a.data(), b.data(), 2, 0.25f, 1, false, y); });
  step("bounded_relu_backward", b, values(size, [&](int64_t i) { return B(i) + slope(i); }),
       [&](float* y) { table->bounded_relu_backward(size, a.data(), b.data(), 2, 0.25f, 1, true, y); });
  step("fill", empty, values(size, [](int64_t) { return 1.5; }), [&](float* y) { table->fill(size, 1.5f, y); });
}

// The first numbers of Philox4x64-10 with the key {3, 5}, lower halves of words first, from numpy.random.Philox.
constexpr uint32_t kPhilox[] = {0xa147ecbbu, 0x16cf4cc9u, 0x6f07666fu, 0x54f6dd4du, 0xdab4539eu, 0x2a4b22afu,
                                0xff3ef953u, 0x5f31eec4u, 0xf24147d6u, 0x6503f05au, 0xbbf3771cu, 0xf38f243du,
                                0xcd7578f0u, 0x197a27c1u, 0xf2737260u, 0x7d1a1974u};

inline void check_dropout(int64_t size) {
  case_name = "dropout size " + std::to_string(size);
  const Floats x = integers(size), before = integers(size);
  const int64_t state[] = {3, 5};
  for (const bool accumulate : {false, true}) {
    Floats y = before;
    run("dropout", {0, 0}, {output(y)},
        [&](const Scratch&) { table->dropout(size, x.data(), state, 0.5, accumulate, y.data()); });
    int64_t kept = 0;
    ++checks;
    for (int64_t i = 0; i < size; ++i) {
      const double base = accumulate ? static_cast<double>(before[i]) : 0, a = static_cast<double>(y[i]) - base;
      const double want = 2 * static_cast<double>(x[i]);
      kept += a == want;
      if (a != want && a != 0) return fail("dropout: element " + std::to_string(i) + " is " + std::to_string(a));
      if (i < int64_t{sizeof kPhilox / sizeof *kPhilox} && a != (kPhilox[i] >= 0x80000000u ? want : 0))
        return fail("dropout: element " + std::to_string(i) + " has another number than NumPy's Philox");
    }
    if (size > 1000 && (kept < size * 4 / 10 || kept > size * 7 / 10))
      fail("dropout: kept " + std::to_string(kept) + " of " + std::to_string(size));
  }
}

inline void check_concatenate(int64_t rows, int64_t C, int64_t K, int64_t offset) {
  case_name = "concatenate " + std::to_string(rows) + " x " + std::to_string(C) + " of " + std::to_string(K);
  const RowsShape shape{rows, C};
  const Floats wide = integers(rows * K), narrow = integers(rows * C);
  const auto inside = [&](int64_t i) { return i % K >= offset && i % K < offset + C; };
  const auto from = [&](int64_t i) { return static_cast<double>(wide[i / C * K + offset + i % C]); };
  Floats y = wide;
  run("concatenate_forward", {0, 0}, {output(y)},
      [&](const Scratch&) { table->concatenate_forward(shape, K, offset, narrow.data(), y.data()); });
  compare("concatenate_forward", y, values(rows * K, [&](int64_t i) {
            return static_cast<double>(inside(i) ? narrow[i / K * C + i % K - offset] : wide[i]);
          }));
  Floats dx(rows * C);
  run("concatenate_backward", {0, 0}, {output(dx)},
      [&](const Scratch&) { table->concatenate_backward(shape, K, offset, wide.data(), false, dx.data()); });
  compare("concatenate_backward", dx, values(rows * C, from));
  Floats sum = narrow;
  run("concatenate_backward", {0, 0}, {output(sum)},
      [&](const Scratch&) { table->concatenate_backward(shape, K, offset, wide.data(), true, sum.data()); });
  compare("concatenate_backward", sum,
          values(rows * C, [&](int64_t i) { return static_cast<double>(narrow[i]) + from(i); }));
}

inline void check_penalty(int64_t size) {
  case_name = "penalty size " + std::to_string(size);
  const Floats w = integers(size), before = integers(size);
  Guarded<double> loss(1);
  loss[0] = 3;
  run("penalty_forward", table->penalty_scratch(size), {output(loss)},
      [&](const Scratch& scratch) { table->penalty_forward(size, w.data(), 0.5, 0.25, loss.data(), scratch); });
  Values want(1);
  want[0].add(3);
  for (int64_t i = 0; i < size; ++i) {
    const double a = static_cast<double>(w[i]);
    want[0].add(0.5 * std::fabs(a) + 0.25 * a * a);
  }
  compare("penalty_forward", loss, want);
  Floats dw = before;
  run("penalty_backward", {0, 0}, {output(dw)},
      [&](const Scratch&) { table->penalty_backward(size, w.data(), 0.5f, 0.25f, dw.data()); });
  compare("penalty_backward", dw, values(size, [&](int64_t i) {
            const double a = static_cast<double>(w[i]);
            return static_cast<double>(before[i]) + 0.5 * ((a > 0) - (a < 0)) + 0.5 * a;
          }));
}

}  // namespace fastcnn::driver
