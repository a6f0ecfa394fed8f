#include <utility>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

using Pair = std::pair<int64_t, int64_t>;
using Padding = std::pair<Pair, Pair>;  // ((top, bottom), (left, right))

constexpr int64_t kLargest =
    int64_t{1} << 31;  // of sizes, strides and padding: their sums and products stay in 64 bits
constexpr int64_t kPlaces = 256;                // an argmax is one byte

std::string pair_text(const Pair& pair) {
  return "(" + std::to_string(pair.first) + ", " + std::to_string(pair.second) + ")";
}

void check_range(const Check& check, const char* name, const Pair& pair, int64_t least) {
  for (const int64_t value : {pair.first, pair.second})
    check.require(value >= least && value < kLargest,
                  std::string(name) + " must be " + std::to_string(least) + " or more but is " + pair_text(pair));
}

// The number of windows along one axis.
int64_t outputs(const Check& check, const char* axis, int64_t size, const Pair& padding, int64_t window,
                int64_t stride) {
  check.require(size >= 1, std::string("x has no ") + axis);
  check.require(
      padding.first < window && padding.second < window,
      "padding " + pair_text(padding) + " of the " + axis + " must be less than pool_size " + std::to_string(window));
  const int64_t padded = size + padding.first + padding.second;
  check.require(window <= padded, "pool_size " + std::to_string(window) + " exceeds the " + std::to_string(padded) +
                                      " " + axis + " of the padded x");
  return (padded - window) / stride + 1;
}

// x is the larger array of the pass, x or dx.
Pool2DShape pool_shape(const Check& check, const Dims& x, const Pair& pool_size, const Pair& strides,
                       const Padding& padding) {
  check_range(check, "pool_size", pool_size, 1);
  check_range(check, "strides", strides, 1);
  check_range(check, "padding", padding.first, 0);
  check_range(check, "padding", padding.second, 0);
  const int64_t P = outputs(check, "rows", x[1], padding.first, pool_size.first, strides.first);
  const int64_t Q = outputs(check, "columns", x[2], padding.second, pool_size.second, strides.second);
  return {x[0],
          x[1],
          x[2],
          x[3],
          pool_size.first,
          pool_size.second,
          strides.first,
          strides.second,
          padding.first.first,
          padding.second.first,
          P,
          Q};
}

void check_places(const Check& check, const Pair& pool_size) {
  check.require(pool_size.first * pool_size.second <= kPlaces,
                "argmax holds up to " + std::to_string(kPlaces) + " places but pool_size is " + pair_text(pool_size));
}

void max_pool2d_forward(PyProgram& p, Array x, Array y, Pair pool_size, Pair strides, Padding padding,
                        OptionalArray argmax) {
  const Check check("max_pool2d_forward");
  check.rank("x", x, 4, "[N, H, W, C]");
  const float* px = check.in("x", x, dims_of(x));
  const Pool2DShape s = pool_shape(check, dims_of(x), pool_size, strides, padding);
  float* py_ = check.out("y", y, {s.N, s.P, s.Q, s.C});
  uint8_t* places = check.out<uint8_t>("argmax", argmax, {s.N, s.P, s.Q, s.C});
  check.apart("y", y, "x", x);
  if (argmax) {
    check_places(check, pool_size);
    check.apart("argmax", *argmax, "x", x);
    check.apart("argmax", *argmax, "y", y);
  }
  p.keep(x, y, argmax);
  p.append("max_pool2d_forward",
           [k = p.kernels, s, px, py_, places](const Scratch&) { k->max_pool2d_forward(s, px, py_, places); });
}

void max_pool2d_backward(PyProgram& p, Array dy, Array argmax, Array dx, Pair pool_size, Pair strides, Padding padding,
                         bool accumulate) {
  const Check check("max_pool2d_backward");
  check.rank("dx", dx, 4, "[N, H, W, C]");
  float* pdx = check.out("dx", dx, dims_of(dx));
  const Pool2DShape s = pool_shape(check, dims_of(dx), pool_size, strides, padding);
  check_places(check, pool_size);
  const float* pdy = check.in("dy", dy, {s.N, s.P, s.Q, s.C});
  const uint8_t* places = check.in<uint8_t>("argmax", argmax, {s.N, s.P, s.Q, s.C});
  check.apart("dx", dx, "dy", dy);
  check.apart("dx", dx, "argmax", argmax);
  p.keep(dy, argmax, dx);
  p.append("max_pool2d_backward", [k = p.kernels, s, pdy, places, accumulate, pdx](const Scratch&) {
    k->max_pool2d_backward(s, pdy, places, accumulate, pdx);
  });
}

void average_pool2d_forward(PyProgram& p, Array x, Array y, Pair pool_size, Pair strides, Padding padding) {
  const Check check("average_pool2d_forward");
  check.rank("x", x, 4, "[N, H, W, C]");
  const float* px = check.in("x", x, dims_of(x));
  const Pool2DShape s = pool_shape(check, dims_of(x), pool_size, strides, padding);
  float* py_ = check.out("y", y, {s.N, s.P, s.Q, s.C});
  check.apart("y", y, "x", x);
  p.keep(x, y);
  p.append("average_pool2d_forward",
           [k = p.kernels, s, px, py_](const Scratch&) { k->average_pool2d_forward(s, px, py_); });
}

void average_pool2d_backward(PyProgram& p, Array dy, Array dx, Pair pool_size, Pair strides, Padding padding,
                             bool accumulate) {
  const Check check("average_pool2d_backward");
  check.rank("dx", dx, 4, "[N, H, W, C]");
  float* pdx = check.out("dx", dx, dims_of(dx));
  const Pool2DShape s = pool_shape(check, dims_of(dx), pool_size, strides, padding);
  const float* pdy = check.in("dy", dy, {s.N, s.P, s.Q, s.C});
  check.apart("dx", dx, "dy", dy);
  p.keep(dy, dx);
  p.append("average_pool2d_backward", [k = p.kernels, s, pdy, accumulate, pdx](const Scratch&) {
    k->average_pool2d_backward(s, pdy, accumulate, pdx);
  });
}

void global_average_pool2d_forward(PyProgram& p, Array x, Array y) {
  const Check check("global_average_pool2d_forward");
  check.rank("x", x, 4, "[N, H, W, C]");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, {dims[0], dims[3]});
  const int64_t N = dims[0], HW = dims[1] * dims[2], C = dims[3];
  check.require(HW >= 1, "x has no pixels (x is " + text(dims) + ")");
  check.apart("y", y, "x", x);
  p.keep(x, y);
  p.append("global_average_pool2d_forward",
           [k = p.kernels, N, HW, C, px, py_](const Scratch&) { k->global_average_pool2d_forward(N, HW, C, px, py_); });
}

void global_average_pool2d_backward(PyProgram& p, Array dy, Array dx, bool accumulate) {
  const Check check("global_average_pool2d_backward");
  check.rank("dx", dx, 4, "[N, H, W, C]");
  const Dims dims = dims_of(dx);
  float* pdx = check.out("dx", dx, dims);
  const float* pdy = check.in("dy", dy, {dims[0], dims[3]});
  const int64_t N = dims[0], HW = dims[1] * dims[2], C = dims[3];
  check.require(HW >= 1, "dx has no pixels (dx is " + text(dims) + ")");
  check.apart("dx", dx, "dy", dy);
  p.keep(dy, dx);
  p.append("global_average_pool2d_backward", [k = p.kernels, N, HW, C, pdy, accumulate, pdx](const Scratch&) {
    k->global_average_pool2d_backward(N, HW, C, pdy, accumulate, pdx);
  });
}

// Pixels of an image [N, H, W, C]; `name` is that array.
int64_t pixels_with_places(const Check& check, const char* name, const Dims& dims) {
  const int64_t HW = check.product({dims[1], dims[2]});
  check.require(HW >= 1, std::string(name) + " has no pixels (" + name + " is " + text(dims) + ")");
  check.require(HW < kLargest, std::string(name) + " must have fewer than 2^31 pixels but is " + text(dims));
  return HW;
}

void global_max_pool2d_forward(PyProgram& p, Array x, Array y, OptionalArray argmax) {
  const Check check("global_max_pool2d_forward");
  check.rank("x", x, 4, "[N, H, W, C]");
  const Dims dims = dims_of(x);
  const float* px = check.in("x", x, dims);
  float* py_ = check.out("y", y, {dims[0], dims[3]});
  int64_t* places = check.out<int64_t>("argmax", argmax, {dims[0], dims[3]});
  const int64_t N = dims[0], HW = pixels_with_places(check, "x", dims), C = dims[3];
  check.apart("y", y, "x", x);
  if (argmax) {
    check.apart("argmax", *argmax, "x", x);
    check.apart("argmax", *argmax, "y", y);
  }
  p.keep(x, y, argmax);
  p.append("global_max_pool2d_forward", [k = p.kernels, N, HW, C, px, py_, places](const Scratch&) {
    k->global_max_pool2d_forward(N, HW, C, px, py_, places);
  });
}

void global_max_pool2d_backward(PyProgram& p, Array dy, Array argmax, Array dx, bool accumulate) {
  const Check check("global_max_pool2d_backward");
  check.rank("dx", dx, 4, "[N, H, W, C]");
  const Dims dims = dims_of(dx);
  float* pdx = check.out("dx", dx, dims);
  const float* pdy = check.in("dy", dy, {dims[0], dims[3]});
  const int64_t* places = check.in<int64_t>("argmax", argmax, {dims[0], dims[3]});
  const int64_t N = dims[0], HW = pixels_with_places(check, "dx", dims), C = dims[3];
  check.apart("dx", dx, "dy", dy);
  check.apart("dx", dx, "argmax", argmax);
  p.keep(dy, argmax, dx);
  p.append("global_max_pool2d_backward", [k = p.kernels, N, HW, C, pdy, places, accumulate, pdx](const Scratch&) {
    k->global_max_pool2d_backward(N, HW, C, pdy, places, accumulate, pdx);
  });
}

// x is the smaller array of the pass, x or dx.
Pool2DShape pad_shape(const Check& check, const Dims& x, const Padding& padding) {
  check_range(check, "padding", padding.first, 0);
  check_range(check, "padding", padding.second, 0);
  return {x[0],
          x[1],
          x[2],
          x[3],
          1,
          1,
          1,
          1,
          padding.first.first,
          padding.second.first,
          x[1] + padding.first.first + padding.first.second,
          x[2] + padding.second.first + padding.second.second};
}

void zero_pad2d_forward(PyProgram& p, Array x, Array y, Padding padding) {
  const Check check("zero_pad2d_forward");
  check.rank("x", x, 4, "[N, H, W, C]");
  const float* px = check.in("x", x, dims_of(x));
  const Pool2DShape s = pad_shape(check, dims_of(x), padding);
  float* py_ = check.out("y", y, {s.N, s.P, s.Q, s.C});
  check.apart("y", y, "x", x);
  p.keep(x, y);
  p.append("zero_pad2d_forward", [k = p.kernels, s, px, py_](const Scratch&) { k->zero_pad2d_forward(s, px, py_); });
}

void zero_pad2d_backward(PyProgram& p, Array dy, Array dx, Padding padding, bool accumulate) {
  const Check check("zero_pad2d_backward");
  check.rank("dx", dx, 4, "[N, H, W, C]");
  float* pdx = check.out("dx", dx, dims_of(dx));
  const Pool2DShape s = pad_shape(check, dims_of(dx), padding);
  const float* pdy = check.in("dy", dy, {s.N, s.P, s.Q, s.C});
  check.apart("dx", dx, "dy", dy);
  p.keep(dy, dx);
  p.append("zero_pad2d_backward", [k = p.kernels, s, pdy, accumulate, pdx](const Scratch&) {
    k->zero_pad2d_backward(s, pdy, accumulate, pdx);
  });
}

}  // namespace

void bind_pool(py::module_& m, ProgramClass& program) {
  const Padding none{{0, 0}, {0, 0}};
  bind_op(m, program, "max_pool2d_forward", max_pool2d_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("pool_size"), py::arg("strides"), py::arg("padding") = none, py::arg("argmax") = py::none());
  bind_op(m, program, "max_pool2d_backward", max_pool2d_backward, py::arg("dy"), py::arg("argmax"), py::arg("dx"),
          py::kw_only(), py::arg("pool_size"), py::arg("strides"), py::arg("padding") = none,
          py::arg("accumulate") = false);
  bind_op(m, program, "average_pool2d_forward", average_pool2d_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("pool_size"), py::arg("strides"), py::arg("padding") = none);
  bind_op(m, program, "average_pool2d_backward", average_pool2d_backward, py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("pool_size"), py::arg("strides"), py::arg("padding") = none, py::arg("accumulate") = false);
  bind_op(m, program, "global_average_pool2d_forward", global_average_pool2d_forward, py::arg("x"), py::arg("y"));
  bind_op(m, program, "global_average_pool2d_backward", global_average_pool2d_backward, py::arg("dy"), py::arg("dx"),
          py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "global_max_pool2d_forward", global_max_pool2d_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("argmax") = py::none());
  bind_op(m, program, "global_max_pool2d_backward", global_max_pool2d_backward, py::arg("dy"), py::arg("argmax"),
          py::arg("dx"), py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "zero_pad2d_forward", zero_pad2d_forward, py::arg("x"), py::arg("y"), py::kw_only(),
          py::arg("padding"));
  bind_op(m, program, "zero_pad2d_backward", zero_pad2d_backward, py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("padding"), py::arg("accumulate") = false);
}

}  // namespace fastcnn::bindings
