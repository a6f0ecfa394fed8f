#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

// The settings array is read when the step runs, so a schedule changes it between runs.
void sgd_step(PyProgram& p, Array values, Array grads, Array settings, OptionalArray m) {
  const Check check("sgd_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const float* pgrads = check.in("grads", grads, dims);
  const double* s = check.in<double>("settings", settings, {3});
  float* pm = check.out("m", m, dims);
  check.apart("values", values, "grads", grads);
  check.apart("values", values, "settings", settings);
  if (m) {
    check.apart("m", *m, "grads", grads);
    check.apart("m", *m, "values", values);
    check.apart("m", *m, "settings", settings);
  }
  p.keep(values, grads, settings, m);
  p.append("sgd_step", [k = p.kernels, size = total(dims), pgrads, s, pm, pvalues](const Scratch&) {
    k->sgd_step(size, pgrads, {s[0], s[1], s[2]}, pm, pvalues);
  });
}

void adam_step(PyProgram& p, Array values, Array grads, Array m, Array v, Array settings) {
  const Check check("adam_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const float* pgrads = check.in("grads", grads, dims);
  float* pm = check.out("m", m, dims);
  float* pv = check.out("v", v, dims);
  const double* s = check.in<double>("settings", settings, {5});
  check.apart("values", values, "grads", grads);
  check.apart("values", values, "settings", settings);
  check.apart("m", m, "grads", grads);
  check.apart("m", m, "values", values);
  check.apart("m", m, "settings", settings);
  check.apart("v", v, "grads", grads);
  check.apart("v", v, "values", values);
  check.apart("v", v, "m", m);
  check.apart("v", v, "settings", settings);
  p.keep(values, grads, m, v, settings);
  p.append("adam_step", [k = p.kernels, size = total(dims), pgrads, s, pm, pv, pvalues](const Scratch&) {
    k->adam_step(size, pgrads, {s[0], s[1], s[2], s[3], s[4]}, pm, pv, pvalues);
  });
}

}  // namespace

void bind_optim(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "sgd_step", sgd_step, py::arg("values"), py::arg("grads"), py::arg("settings"),
          py::arg("m") = py::none());
  bind_op(m, program, "adam_step", adam_step, py::arg("values"), py::arg("grads"), py::arg("m"), py::arg("v"),
          py::arg("settings"));
}

}  // namespace fastcnn::bindings
