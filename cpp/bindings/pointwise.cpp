#include <cmath>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

void relu_forward(PyProgram& p, Array x, Array y) {
  const Check check("relu_forward");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append("relu_forward",
           [k = p.kernels, size = total(dims), px, py_](const Scratch&) { k->relu_forward(size, px, py_); });
}

void relu_backward(PyProgram& p, Array y, Array dy, Array dx, bool accumulate) {
  const Check check("relu_backward");
  const Dims dims = dims_of(y);
  const float* py_ = check.in("y", y, dims);
  const float* pdy = check.in("dy", dy, dims);
  float* pdx = check.out("dx", dx, dims);
  check.apart("dx", dx, "y", y);
  check.apart("dx", dx, "dy", dy, !accumulate);
  p.keep(y, dy, dx);
  p.append("relu_backward", [k = p.kernels, size = total(dims), py_, pdy, accumulate, pdx](const Scratch&) {
    k->relu_backward(size, py_, pdy, accumulate, pdx);
  });
}

void check_slope(const Check& check, float negative_slope) {
  check.require(std::isfinite(negative_slope) && negative_slope >= 0,
                "negative_slope must be a finite float32 of 0 or more but is " + std::to_string(negative_slope));
}

void leaky_relu_forward(PyProgram& p, Array x, Array y, float negative_slope) {
  const Check check("leaky_relu_forward");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  check_slope(check, negative_slope);
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append("leaky_relu_forward", [k = p.kernels, size = total(dims), px, negative_slope, py_](const Scratch&) {
    k->leaky_relu_forward(size, px, negative_slope, py_);
  });
}

void leaky_relu_backward(PyProgram& p, Array y, Array dy, Array dx, float negative_slope, bool accumulate) {
  const Check check("leaky_relu_backward");
  const Dims dims = dims_of(y);
  const float* py_ = check.in("y", y, dims);
  const float* pdy = check.in("dy", dy, dims);
  float* pdx = check.out("dx", dx, dims);
  check_slope(check, negative_slope);
  check.apart("dx", dx, "y", y);
  check.apart("dx", dx, "dy", dy, !accumulate);
  p.keep(y, dy, dx);
  p.append("leaky_relu_backward",
           [k = p.kernels, size = total(dims), py_, pdy, negative_slope, accumulate, pdx](const Scratch&) {
             k->leaky_relu_backward(size, py_, pdy, negative_slope, accumulate, pdx);
           });
}

void sigmoid_forward(PyProgram& p, Array x, Array y) {
  const Check check("sigmoid_forward");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append("sigmoid_forward",
           [k = p.kernels, size = total(dims), px, py_](const Scratch&) { k->sigmoid_forward(size, px, py_); });
}

void sigmoid_backward(PyProgram& p, Array y, Array dy, Array dx, bool accumulate) {
  const Check check("sigmoid_backward");
  const Dims dims = dims_of(y);
  const float* py_ = check.in("y", y, dims);
  const float* pdy = check.in("dy", dy, dims);
  float* pdx = check.out("dx", dx, dims);
  check.apart("dx", dx, "y", y);
  check.apart("dx", dx, "dy", dy, !accumulate);
  p.keep(y, dy, dx);
  p.append("sigmoid_backward", [k = p.kernels, size = total(dims), py_, pdy, accumulate, pdx](const Scratch&) {
    k->sigmoid_backward(size, py_, pdy, accumulate, pdx);
  });
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
  const Check check("scale");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, dims);
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append("scale", [k = p.kernels, size = total(dims), px, factor, offset, py_](const Scratch&) {
    k->scale(size, px, factor, offset, py_);
  });
}

void fill(PyProgram& p, Array y, float value) {
  const Check check("fill");
  float* py_ = check.out("y", y, dims_of(y));
  p.keep(y);
  p.append("fill", [k = p.kernels, size = y.size(), value, py_](const Scratch&) { k->fill(size, value, py_); });
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
}

}  // namespace fastcnn::bindings
