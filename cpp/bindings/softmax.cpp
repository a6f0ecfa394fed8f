#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

RowsShape rows_of(const Check& check, const char* name, const Array& x) {
  check.require(x.ndim() >= 1, std::string(name) + " must be [..., C] but has no axis");
  const int64_t C = x.shape(x.ndim() - 1);
  check.require(C >= 1, std::string(name) + " has no classes (" + name + " is " + text(dims_of(x)) + ")");
  return {x.size() / C, C};
}

void softmax_forward(PyProgram& p, Array x, Array y) {
  const Check check("softmax_forward");
  const RowsShape s = rows_of(check, "x", x);
  const float* px = check.in("x", x, dims_of(x));
  float* py_ = check.out("y", y, dims_of(x));
  check.apart("y", y, "x", x, true);
  p.keep(x, y);
  p.append("softmax_forward", [k = p.kernels, s, px, py_](const Scratch&) { k->softmax_forward(s, px, py_); });
}

void softmax_backward(PyProgram& p, Array y, Array dy, Array dx, bool accumulate) {
  const Check check("softmax_backward");
  const RowsShape s = rows_of(check, "y", y);
  const Dims dims = dims_of(y);
  const float* py_ = check.in("y", y, dims);
  const float* pdy = check.in("dy", dy, dims);
  float* pdx = check.out("dx", dx, dims);
  check.apart("dx", dx, "y", y);
  check.apart("dx", dx, "dy", dy, !accumulate);
  p.keep(y, dy, dx);
  p.append("softmax_backward", [k = p.kernels, s, py_, pdy, accumulate, pdx](const Scratch&) {
    k->softmax_backward(s, py_, pdy, accumulate, pdx);
  });
}

void softmax_cross_entropy(PyProgram& p, Array x, Array t, Array weight, Array probabilities, Array loss, float floor,
                           OptionalArray dx) {
  const Check check("softmax_cross_entropy");
  check.rank("x", x, 2, "[N, C]");
  const RowsShape s = rows_of(check, "x", x);
  const Dims dims = dims_of(x), rows{s.rows};
  const float* px = check.in("x", x, dims);
  const float* pt = check.in("t", t, dims);
  const float* pweight = check.in("weight", weight, rows);
  float* pp = check.out("p", probabilities, dims);
  float* ploss = check.out("loss", loss, rows);
  float* pdx = check.out("dx", dx, dims);
  check.require(floor >= 0 && floor < 0.5f, "floor must be within 0 to 0.5 but is " + std::to_string(floor));
  check.apart("p", probabilities, "x", x, true);
  check.apart("p", probabilities, "t", t);
  check.apart("p", probabilities, "weight", weight);
  check.apart("loss", loss, "x", x);
  check.apart("loss", loss, "t", t);
  check.apart("loss", loss, "weight", weight);
  check.apart("loss", loss, "p", probabilities);
  if (dx) {
    check.apart("dx", *dx, "x", x);
    check.apart("dx", *dx, "t", t);
    check.apart("dx", *dx, "weight", weight);
    check.apart("dx", *dx, "p", probabilities);
    check.apart("dx", *dx, "loss", loss);
  }
  p.keep(x, t, weight, probabilities, loss, dx);
  p.append("softmax_cross_entropy", [k = p.kernels, s, px, pt, pweight, floor, pp, ploss, pdx](const Scratch&) {
    k->softmax_cross_entropy(s, px, pt, pweight, floor, pp, ploss, pdx);
  });
}

}  // namespace

void bind_softmax(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "softmax_forward", softmax_forward, py::arg("x"), py::arg("y"));
  bind_op(m, program, "softmax_backward", softmax_backward, py::arg("y"), py::arg("dy"), py::arg("dx"), py::kw_only(),
          py::arg("accumulate") = false);
  bind_op(m, program, "softmax_cross_entropy", softmax_cross_entropy, py::arg("x"), py::arg("t"), py::arg("weight"),
          py::arg("p"), py::arg("loss"), py::kw_only(), py::arg("floor") = 1e-7f, py::arg("dx") = py::none());
}

}  // namespace fastcnn::bindings
