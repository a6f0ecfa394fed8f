#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

DenseShape make_shape(const Check& check, const char* rows_name, const Array& rows, const char* w_name,
                      const Array& w) {
  check.rank(rows_name, rows, 2, "[N,channels]");
  check.rank(w_name, w, 2, "[C,K]");
  const DenseShape s{rows.shape(0), w.shape(0), w.shape(1)};
  check.require(s.C > 0 && s.K > 0, std::string(w_name) + " must not be empty but is " + text(dims_of(w)));
  return s;
}

void dense_forward(PyProgram& p, Array x, Array w, Array y, OptionalArray bias, bool relu) {
  const Check check("dense_forward");
  const DenseShape s = make_shape(check, "x", x, "w", w);
  if (x.shape(1) != s.C)
    check.fail("w has " + std::to_string(s.C) + " input channels but x has " + std::to_string(x.shape(1)) + " (x is " +
               text(dims_of(x)) + ", w is " + text(dims_of(w)) + ")");
  const float* px = check.in("x", x, {s.N, s.C});
  const float* pw = check.in("w", w, {s.C, s.K});
  const float* pb = check.in("bias", bias, {s.K});
  float* py_ = check.out("y", y, {s.N, s.K});
  check.apart("y", y, "x", x);
  check.apart("y", y, "w", w);
  if (bias) check.apart("y", y, "bias", *bias);
  p.keep(x, w, y, bias);
  if (s.N == 0) return;
  p.append(
      "dense_forward",
      [k = p.kernels, s, px, pw, pb, relu, py_](const Scratch& scratch) {
        k->dense_forward(s, px, pw, pb, relu, py_, scratch);
      },
      p.kernels->dense_scratch(s));
}

void dense_backward_data(PyProgram& p, Array dy, Array w, Array dx, bool accumulate) {
  const Check check("dense_backward_data");
  const DenseShape s = make_shape(check, "dy", dy, "w", w);
  const float* pdy = check.in("dy", dy, {s.N, s.K});
  const float* pw = check.in("w", w, {s.C, s.K});
  float* pdx = check.out("dx", dx, {s.N, s.C});
  check.apart("dx", dx, "dy", dy);
  check.apart("dx", dx, "w", w);
  p.keep(dy, w, dx);
  if (s.N == 0) return;
  p.append(
      "dense_backward_data",
      [k = p.kernels, s, pdy, pw, accumulate, pdx](const Scratch& scratch) {
        k->dense_backward_data(s, pdy, pw, accumulate, pdx, scratch);
      },
      p.kernels->dense_scratch(s));
}

void dense_backward_weights(PyProgram& p, Array x, Array dy, Array dw, bool accumulate) {
  const Check check("dense_backward_weights");
  const DenseShape s = make_shape(check, "x", x, "dw", dw);
  const float* px = check.in("x", x, {s.N, s.C});
  const float* pdy = check.in("dy", dy, {s.N, s.K});
  float* pdw = check.out("dw", dw, {s.C, s.K});
  check.require(s.N > 0, "x holds no row: " + text(dims_of(x)));
  check.apart("dw", dw, "x", x);
  check.apart("dw", dw, "dy", dy);
  p.keep(x, dy, dw);
  p.append(
      "dense_backward_weights",
      [k = p.kernels, s, px, pdy, accumulate, pdw](const Scratch& scratch) {
        k->dense_backward_weights(s, px, pdy, accumulate, pdw, scratch);
      },
      p.kernels->dense_scratch(s));
}

void bias_backward(PyProgram& p, Array dy, Array db, bool accumulate) {
  const Check check("bias_backward");
  check.require(dy.ndim() >= 1 && dy.size() > 0, "dy must be [..., channels], not empty, but is " + text(dims_of(dy)));
  const int64_t C = dy.shape(dy.ndim() - 1);
  const RowsShape s{dy.size() / C, C};
  const float* pdy = check.in("dy", dy, dims_of(dy));
  float* pdb = check.out("db", db, {C});
  check.apart("db", db, "dy", dy);
  p.keep(dy, db);
  p.append(
      "bias_backward",
      [k = p.kernels, s, pdy, accumulate, pdb](const Scratch& scratch) {
        k->bias_backward(s, pdy, accumulate, pdb, scratch);
      },
      p.kernels->bias_backward_scratch(s));
}

}  // namespace

void bind_dense(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "dense_forward", dense_forward, py::arg("x"), py::arg("w"), py::arg("y"), py::kw_only(),
          py::arg("bias") = py::none(), py::arg("relu") = false);
  bind_op(m, program, "dense_backward_data", dense_backward_data, py::arg("dy"), py::arg("w"), py::arg("dx"),
          py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "dense_backward_weights", dense_backward_weights, py::arg("x"), py::arg("dy"), py::arg("dw"),
          py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "bias_backward", bias_backward, py::arg("dy"), py::arg("db"), py::kw_only(),
          py::arg("accumulate") = false);
}

}  // namespace fastcnn::bindings
