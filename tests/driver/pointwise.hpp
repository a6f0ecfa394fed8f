// Elementwise passes.
#pragma once
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
  step("fill", empty, values(size, [](int64_t) { return 1.5; }), [&](float* y) { table->fill(size, 1.5f, y); });
}

}  // namespace fastcnn::driver
