#include <cmath>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

Border border_of(const Check& check, const std::string& fill_mode) {
  if (fill_mode == "nearest") return Border::nearest;
  if (fill_mode == "constant") return Border::constant;
  if (fill_mode == "reflect") return Border::reflect;
  check.require(fill_mode == "wrap", "fill_mode must be nearest, constant, reflect or wrap but is " + fill_mode);
  return Border::wrap;
}

// Every pixel of y must look at a place that has a number.
void check_matrix(const Check& check, const double* m, int64_t P, int64_t Q) {
  constexpr double kFarthest = 0x1p40;
  for (const int64_t p : {int64_t{0}, P - 1})
    for (const int64_t q : {int64_t{0}, Q - 1})
      for (const double* row : {m, m + 3}) {
        const double at = row[0] * static_cast<double>(p) + row[1] * static_cast<double>(q) + row[2];
        check.require(std::isfinite(row[0]) && std::isfinite(row[1]) && std::abs(at) <= kFarthest,
                      "matrix must be finite and lead no farther than 2^40 pixels away");
      }
}

// The matrix is copied: what was checked here is what runs.
void warp_forward(PyProgram& p, Array x, Array matrix, Array y, const std::string& fill_mode, float value,
                  bool bilinear) {
  const Check check("warp_forward");
  check.rank("x", x, 3, "[H,W,C]");
  check.rank("y", y, 3, "[P,Q,C]");
  const WarpShape shape{x.shape(0), x.shape(1), x.shape(2), y.shape(0), y.shape(1)};
  const float* px = check.in("x", x, {shape.H, shape.W, shape.C});
  const double* given = check.in<double>("matrix", matrix, {2, 3});
  float* py_ = check.out("y", y, {shape.P, shape.Q, shape.C});
  check.apart("y", y, "x", x);
  check.apart("y", y, "matrix", matrix);
  const Border border = border_of(check, fill_mode);
  check.require(shape.H > 0 && shape.W > 0, "x must have at least one pixel but is " + text(dims_of(x)));
  check_matrix(check, given, shape.P, shape.Q);
  std::vector<double> m(given, given + 6);
  p.keep(x, y);
  p.append("warp_forward", [k = p.kernels, shape, px, m, border, value, bilinear, py_](const Scratch&) {
    k->warp_forward(shape, px, m.data(), border, value, bilinear, py_);
  });
}

}  // namespace

void bind_warp(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "warp_forward", warp_forward, py::arg("x"), py::arg("matrix"), py::arg("y"),
          py::arg("fill_mode") = "nearest", py::arg("value") = 0.0f, py::arg("bilinear") = true);
}

}  // namespace fastcnn::bindings
