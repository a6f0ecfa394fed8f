#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

// The arrays of a loss, checked.
struct Loss {
  RowsShape shape;
  const float *x, *t, *weight;
  float *loss, *dx;

  Loss(const Check& check, Array x_, Array t_, Array weight_, Array loss_, OptionalArray dx_) {
    check.rank("x", x_, 2, "[N, C]");
    shape = {x_.shape(0), x_.shape(1)};
    check.require(shape.C >= 1, "x has no outputs (x is " + text(dims_of(x_)) + ")");
    const Dims dims = dims_of(x_), rows{shape.rows};
    x = check.in("x", x_, dims);
    t = check.in("t", t_, dims);
    weight = check.in("weight", weight_, rows);
    loss = check.out("loss", loss_, rows);
    dx = check.out("dx", dx_, dims);
    const auto apart = [&](const char* name, const Array& array) {
      check.apart(name, array, "x", x_);
      check.apart(name, array, "t", t_);
      check.apart(name, array, "weight", weight_);
    };
    apart("loss", loss_);
    if (!dx_) return;
    apart("dx", *dx_);
    check.apart("dx", *dx_, "loss", loss_);
  }
};

void check_floor(const Check& check, float floor) {
  check.require(floor >= 0 && floor < 0.5f, "floor must be within 0 to 0.5 but is " + std::to_string(floor));
}

void sigmoid_cross_entropy(PyProgram& p, Array x, Array t, Array weight, Array probabilities, Array loss, float floor,
                           OptionalArray dx) {
  const Check check("sigmoid_cross_entropy");
  const Loss a(check, x, t, weight, loss, dx);
  float* pp = check.out("p", probabilities, dims_of(x));
  check_floor(check, floor);
  check.apart("p", probabilities, "x", x, true);
  check.apart("p", probabilities, "t", t);
  check.apart("p", probabilities, "weight", weight);
  check.apart("loss", loss, "p", probabilities);
  if (dx) check.apart("dx", *dx, "p", probabilities);
  p.keep(x, t, weight, probabilities, loss, dx);
  p.append("sigmoid_cross_entropy", [k = p.kernels, a, floor, pp](const Scratch&) {
    k->sigmoid_cross_entropy(a.shape, a.x, a.t, a.weight, floor, pp, a.loss, a.dx);
  });
}

void categorical_cross_entropy(PyProgram& p, Array x, Array t, Array weight, Array loss, float floor,
                               OptionalArray dx) {
  const Check check("categorical_cross_entropy");
  const Loss a(check, x, t, weight, loss, dx);
  check_floor(check, floor);
  p.keep(x, t, weight, loss, dx);
  p.append("categorical_cross_entropy", [k = p.kernels, a, floor](const Scratch&) {
    k->categorical_cross_entropy(a.shape, a.x, a.t, a.weight, floor, a.loss, a.dx);
  });
}

void binary_cross_entropy(PyProgram& p, Array x, Array t, Array weight, Array loss, float floor, OptionalArray dx) {
  const Check check("binary_cross_entropy");
  const Loss a(check, x, t, weight, loss, dx);
  check_floor(check, floor);
  p.keep(x, t, weight, loss, dx);
  p.append("binary_cross_entropy", [k = p.kernels, a, floor](const Scratch&) {
    k->binary_cross_entropy(a.shape, a.x, a.t, a.weight, floor, a.loss, a.dx);
  });
}

void squared_error(PyProgram& p, Array x, Array t, Array weight, Array loss, OptionalArray dx) {
  const Check check("squared_error");
  const Loss a(check, x, t, weight, loss, dx);
  p.keep(x, t, weight, loss, dx);
  p.append("squared_error",
           [k = p.kernels, a](const Scratch&) { k->squared_error(a.shape, a.x, a.t, a.weight, a.loss, a.dx); });
}

}  // namespace

void bind_loss(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "sigmoid_cross_entropy", sigmoid_cross_entropy, py::arg("x"), py::arg("t"), py::arg("weight"),
          py::arg("p"), py::arg("loss"), py::kw_only(), py::arg("floor") = 1e-7f, py::arg("dx") = py::none());
  bind_op(m, program, "categorical_cross_entropy", categorical_cross_entropy, py::arg("x"), py::arg("t"),
          py::arg("weight"), py::arg("loss"), py::kw_only(), py::arg("floor") = 1e-7f, py::arg("dx") = py::none());
  bind_op(m, program, "binary_cross_entropy", binary_cross_entropy, py::arg("x"), py::arg("t"), py::arg("weight"),
          py::arg("loss"), py::kw_only(), py::arg("floor") = 1e-7f, py::arg("dx") = py::none());
  bind_op(m, program, "squared_error", squared_error, py::arg("x"), py::arg("t"), py::arg("weight"), py::arg("loss"),
          py::kw_only(), py::arg("dx") = py::none());
}

}  // namespace fastcnn::bindings
