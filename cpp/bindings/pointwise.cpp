#include <cmath>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

// y = f(x) element by element, y may be x: call(kernels, size, x, y).
template <class Call>
void elementwise_forward(const Check& check, PyProgram& p, const char* name, Array& x, Array& y, Call call) {
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append(name, [k = p.kernels, size = total(dims), px, py_, call](const Scratch&) { call(*k, size, px, py_); });
}

// dx (+)= dy f'(x) from what the forward pass kept, x or y; dx may be dy: call(kernels, size, kept, dy, accumulate,
// dx).
template <class Call>
void elementwise_backward(const Check& check, PyProgram& p, const char* name, const char* kept_name, Array& kept,
                          Array& dy, Array& dx, bool accumulate, Call call) {
  const Dims dims = dims_of(kept);
  const float* pkept = check.in(kept_name, kept, dims);
  const float* pdy = check.in("dy", dy, dims);
  float* pdx = check.out("dx", dx, dims);
  check.apart("dx", dx, kept_name, kept);
  check.apart("dx", dx, "dy", dy, !accumulate);
  p.keep(kept, dy, dx);
  p.append(name, [k = p.kernels, size = total(dims), pkept, pdy, accumulate, pdx, call](const Scratch&) {
    call(*k, size, pkept, pdy, accumulate, pdx);
  });
}

void relu_forward(PyProgram& p, Array x, Array y) {
  elementwise_forward(Check("relu_forward"), p, "relu_forward", x, y,
                      [](const Kernels& k, auto... arguments) { k.relu_forward(arguments...); });
}

void relu_backward(PyProgram& p, Array y, Array dy, Array dx, bool accumulate) {
  elementwise_backward(Check("relu_backward"), p, "relu_backward", "y", y, dy, dx, accumulate,
                       [](const Kernels& k, auto... arguments) { k.relu_backward(arguments...); });
}

void check_slope(const Check& check, float negative_slope) {
  check.require(std::isfinite(negative_slope) && negative_slope >= 0,
                "negative_slope must be a finite float32 of 0 or more but is " + std::to_string(negative_slope));
}

void leaky_relu_forward(PyProgram& p, Array x, Array y, float negative_slope) {
  const Check check("leaky_relu_forward");
  check_slope(check, negative_slope);
  elementwise_forward(check, p, "leaky_relu_forward", x, y,
                      [negative_slope](const Kernels& k, int64_t size, const float* px, float* py_) {
                        k.leaky_relu_forward(size, px, negative_slope, py_);
                      });
}

void leaky_relu_backward(PyProgram& p, Array y, Array dy, Array dx, float negative_slope, bool accumulate) {
  const Check check("leaky_relu_backward");
  check_slope(check, negative_slope);
  elementwise_backward(
      check, p, "leaky_relu_backward", "y", y, dy, dx, accumulate,
      [negative_slope](const Kernels& k, int64_t size, const float* py_, const float* pdy, bool add, float* pdx) {
        k.leaky_relu_backward(size, py_, pdy, negative_slope, add, pdx);
      });
}

void sigmoid_forward(PyProgram& p, Array x, Array y) {
  elementwise_forward(Check("sigmoid_forward"), p, "sigmoid_forward", x, y,
                      [](const Kernels& k, auto... arguments) { k.sigmoid_forward(arguments...); });
}

void sigmoid_backward(PyProgram& p, Array y, Array dy, Array dx, bool accumulate) {
  elementwise_backward(Check("sigmoid_backward"), p, "sigmoid_backward", "y", y, dy, dx, accumulate,
                       [](const Kernels& k, auto... arguments) { k.sigmoid_backward(arguments...); });
}

void add_forward(PyProgram& p, Array a, Array b, Array y, bool relu) {
  const Check check("add_forward");
  const Dims dims = dims_of(a);
  const float* pa = check.in("a", a, dims);
  const float* pb = check.in("b", b, dims);
  float* py_ = check.out("y", y, dims);
  check.apart("y", y, "a", a, true);
  check.apart("y", y, "b", b, true);
  p.keep(a, b, y);
  p.append("add_forward", [k = p.kernels, size = total(dims), pa, pb, relu, py_](const Scratch&) {
    k->add_forward(size, pa, pb, relu, py_);
  });
}

void copy(PyProgram& p, Array x, Array y, bool accumulate) {
  const Check check("copy");
  const float* px = check.in("x", x, dims_of(x));
  float* py_ = check.out("y", y, dims_of(y));
  check.require(x.size() == y.size(),
                "y must have as many elements as x " + text(dims_of(x)) + " but is " + text(dims_of(y)));
  check.apart("y", y, "x", x);
  p.keep(x, y);
  p.append("copy", [k = p.kernels, size = x.size(), px, accumulate, py_](const Scratch&) {
    k->copy(size, px, accumulate, py_);
  });
}

void scale(PyProgram& p, Array x, Array y, float factor, float offset) {
  elementwise_forward(Check("scale"), p, "scale", x, y,
                      [factor, offset](const Kernels& k, int64_t size, const float* px, float* py_) {
                        k.scale(size, px, factor, offset, py_);
                      });
}

void fill(PyProgram& p, Array y, float value) {
  const Check check("fill");
  float* py_ = check.out("y", y, dims_of(y));
  p.keep(y);
  p.append("fill", [k = p.kernels, size = y.size(), value, py_](const Scratch&) { k->fill(size, value, py_); });
}

void check_bounds(const Check& check, float max_value, float negative_slope, float threshold) {
  check_slope(check, negative_slope);
  check.require(max_value >= 0, "max_value must be 0 or more but is " + std::to_string(max_value));
  check.require(std::isfinite(threshold) && threshold >= 0,
                "threshold must be a finite float32 of 0 or more but is " + std::to_string(threshold));
}

void bounded_relu_forward(PyProgram& p, Array x, Array y, float max_value, float negative_slope, float threshold) {
  const Check check("bounded_relu_forward");
  check_bounds(check, max_value, negative_slope, threshold);
  elementwise_forward(
      check, p, "bounded_relu_forward", x, y,
      [max_value, negative_slope, threshold](const Kernels& k, int64_t size, const float* px, float* py_) {
        k.bounded_relu_forward(size, px, max_value, negative_slope, threshold, py_);
      });
}

void bounded_relu_backward(PyProgram& p, Array x, Array dy, Array dx, float max_value, float negative_slope,
                           float threshold, bool accumulate) {
  const Check check("bounded_relu_backward");
  check_bounds(check, max_value, negative_slope, threshold);
  elementwise_backward(check, p, "bounded_relu_backward", "x", x, dy, dx, accumulate,
                       [max_value, negative_slope, threshold](const Kernels& k, int64_t size, const float* px,
                                                              const float* pdy, bool add, float* pdx) {
                         k.bounded_relu_backward(size, px, pdy, max_value, negative_slope, threshold, add, pdx);
                       });
}

// The state is read when the step runs: its second number changes from step to step.
void dropout(PyProgram& p, Array x, Array y, Array state, double rate, bool accumulate) {
  const Check check("dropout");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  const int64_t* pstate = check.in<int64_t>("state", state, {2});
  check.require(rate >= 0 && rate < 1, "rate must lie in [0, 1) but is " + std::to_string(rate));
  check.apart("y", y, "x", x, !accumulate);
  check.apart("y", y, "state", state);
  p.keep(x, y, state);
  p.append("dropout", [k = p.kernels, size = total(dims), px, pstate, rate, accumulate, py_](const Scratch&) {
    k->dropout(size, px, pstate, rate, accumulate, py_);
  });
}

void check_columns(const Check& check, int64_t C, int64_t K, int64_t offset) {
  check.require(offset >= 0 && offset <= K - C, "offset must lie in 0.." + std::to_string(K - C) + " for " +
                                                    std::to_string(C) + " of " + std::to_string(K) +
                                                    " columns but is " + std::to_string(offset));
}

void concatenate_forward(PyProgram& p, Array x, Array y, int64_t offset) {
  const Check check("concatenate_forward");
  check.rank("x", x, 2, "[rows, C]");
  const RowsShape shape{x.shape(0), x.shape(1)};
  const float* px = check.in("x", x, {shape.rows, shape.C});
  float* py_ = check.out("y", y, {shape.rows, kAny});
  const int64_t K = y.shape(1);
  check_columns(check, shape.C, K, offset);
  check.apart("y", y, "x", x);
  p.keep(x, y);
  p.append("concatenate_forward", [k = p.kernels, shape, K, offset, px, py_](const Scratch&) {
    k->concatenate_forward(shape, K, offset, px, py_);
  });
}

void concatenate_backward(PyProgram& p, Array dy, Array dx, int64_t offset, bool accumulate) {
  const Check check("concatenate_backward");
  check.rank("dx", dx, 2, "[rows, C]");
  const RowsShape shape{dx.shape(0), dx.shape(1)};
  const float* pdy = check.in("dy", dy, {shape.rows, kAny});
  float* pdx = check.out("dx", dx, {shape.rows, shape.C});
  const int64_t K = dy.shape(1);
  check_columns(check, shape.C, K, offset);
  check.apart("dx", dx, "dy", dy);
  p.keep(dy, dx);
  p.append("concatenate_backward", [k = p.kernels, shape, K, offset, pdy, accumulate, pdx](const Scratch&) {
    k->concatenate_backward(shape, K, offset, pdy, accumulate, pdx);
  });
}

void check_penalty(const Check& check, double l1, double l2) {
  for (const auto& [name, value] : {std::pair{"l1", l1}, std::pair{"l2", l2}})
    check.require(std::isfinite(value) && value >= 0,
                  std::string(name) + " must be a finite number of 0 or more but is " + std::to_string(value));
}

void penalty_forward(PyProgram& p, Array w, Array loss, double l1, double l2) {
  const Check check("penalty_forward");
  const Dims dims = dims_of(w);
  const float* pw = check.in("w", w, dims);
  double* ploss = check.out<double>("loss", loss, {1});
  check_penalty(check, l1, l2);
  check.apart("loss", loss, "w", w);
  p.keep(w, loss);
  const int64_t size = total(dims);
  p.append(
      "penalty_forward",
      [k = p.kernels, size, pw, l1, l2, ploss](const Scratch& scratch) {
        k->penalty_forward(size, pw, l1, l2, ploss, scratch);
      },
      p.kernels->penalty_scratch(size));
}

void penalty_backward(PyProgram& p, Array w, Array dw, float l1, float l2) {
  const Check check("penalty_backward");
  const Dims dims = dims_of(w);
  const float* pw = check.in("w", w, dims);
  float* pdw = check.out("dw", dw, dims);
  check_penalty(check, static_cast<double>(l1), static_cast<double>(l2));
  check.apart("dw", dw, "w", w);
  p.keep(w, dw);
  p.append("penalty_backward", [k = p.kernels, size = total(dims), pw, l1, l2, pdw](const Scratch&) {
    k->penalty_backward(size, pw, l1, l2, pdw);
  });
}

}  // namespace

void bind_pointwise(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "relu_forward", relu_forward, py::arg("x"), py::arg("y"));
  bind_op(m, program, "relu_backward", relu_backward, py::arg("y"), py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("accumulate") = false);
  bind_op(m, program, "leaky_relu_forward", leaky_relu_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("negative_slope"));
  bind_op(m, program, "leaky_relu_backward", leaky_relu_backward, py::arg("y"), py::arg("dy"), py::arg("dx"),
          py::kw_only(), py::arg("negative_slope"), py::arg("accumulate") = false);
  bind_op(m, program, "sigmoid_forward", sigmoid_forward, py::arg("x"), py::arg("y"));
  bind_op(m, program, "sigmoid_backward", sigmoid_backward, py::arg("y"), py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("accumulate") = false);
  bind_op(m, program, "add_forward", add_forward, py::arg("a"), py::arg("b"), py::arg("y"), py::kw_only(),
          py::arg("relu") = false);
  bind_op(m, program, "copy", copy, py::arg("x"), py::arg("y"), py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "scale", scale, py::arg("x"), py::arg("y"), py::arg("factor"), py::arg("offset") = 0.0f);
  bind_op(m, program, "fill", fill, py::arg("y"), py::arg("value"));
  bind_op(m, program, "bounded_relu_forward", bounded_relu_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("max_value"), py::arg("negative_slope"), py::arg("threshold"));
  bind_op(m, program, "bounded_relu_backward", bounded_relu_backward, py::arg("x"), py::arg("dy"), py::arg("dx"),
          py::kw_only(), py::arg("max_value"), py::arg("negative_slope"), py::arg("threshold"),
          py::arg("accumulate") = false);
  bind_op(m, program, "dropout", dropout, py::arg("x"), py::arg("y"), py::arg("state"), py::kw_only(), py::arg("rate"),
          py::arg("accumulate") = false);
  bind_op(m, program, "concatenate_forward", concatenate_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("offset"));
  bind_op(m, program, "concatenate_backward", concatenate_backward, py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("offset"), py::arg("accumulate") = false);
  bind_op(m, program, "penalty_forward", penalty_forward, py::arg("w"), py::arg("loss"), py::kw_only(), py::arg("l1"),
          py::arg("l2"));
  bind_op(m, program, "penalty_backward", penalty_backward, py::arg("w"), py::arg("dw"), py::kw_only(), py::arg("l1"),
          py::arg("l2"));
}

}  // namespace fastcnn::bindings
