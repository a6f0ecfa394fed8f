#include <algorithm>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

// The settings array is read when the step runs, so a schedule changes it between runs. Its last three numbers are
// those of UpdateSettings.
UpdateSettings update_settings(const double* last) { return {last[0], last[1], last[2]}; }

struct Named {
  const char* name;
  OptionalArray array;
};

// The arrays that a rule writes lie apart from each other, from the gradients and from the settings.
void check_apart(const Check& check, const std::vector<Named>& written, const Array& grads, const Array& settings) {
  for (size_t i = 0; i < written.size(); ++i) {
    if (!written[i].array) continue;
    const Array& array = *written[i].array;
    check.apart(written[i].name, array, "grads", grads);
    check.apart(written[i].name, array, "settings", settings);
    for (size_t j = 0; j < i; ++j)
      if (written[j].array) check.apart(written[i].name, array, written[j].name, *written[j].array);
  }
}

void sgd_step(PyProgram& p, Array values, Array grads, Array settings, OptionalArray m) {
  const Check check("sgd_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const float* pgrads = check.in("grads", grads, dims);
  const double* s = check.in<double>("settings", settings, {6});
  float* pm = check.out("m", m, dims);
  check_apart(check, {{"values", values}, {"m", m}}, grads, settings);
  p.keep(values, grads, settings, m);
  p.append("sgd_step", [k = p.kernels, size = total(dims), pgrads, s, pm, pvalues](const Scratch&) {
    k->sgd_step(size, pgrads, {s[0], s[1], s[2], update_settings(s + 3)}, pm, pvalues);
  });
}

void adam_step(PyProgram& p, Array values, Array grads, Array m, Array v, Array settings, OptionalArray v_max) {
  const Check check("adam_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const float* pgrads = check.in("grads", grads, dims);
  float* pm = check.out("m", m, dims);
  float* pv = check.out("v", v, dims);
  const double* s = check.in<double>("settings", settings, {8});
  float* pv_max = check.out("v_max", v_max, dims);
  check_apart(check, {{"values", values}, {"m", m}, {"v", v}, {"v_max", v_max}}, grads, settings);
  p.keep(values, grads, m, v, settings, v_max);
  p.append("adam_step", [k = p.kernels, size = total(dims), pgrads, s, pm, pv, pv_max, pvalues](const Scratch&) {
    k->adam_step(size, pgrads, {s[0], s[1], s[2], s[3], s[4], update_settings(s + 5)}, pm, pv, pv_max, pvalues);
  });
}

void rmsprop_step(PyProgram& p, Array values, Array grads, Array v, Array settings, OptionalArray m,
                  OptionalArray mean) {
  const Check check("rmsprop_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const float* pgrads = check.in("grads", grads, dims);
  float* pv = check.out("v", v, dims);
  const double* s = check.in<double>("settings", settings, {7});
  float* pm = check.out("m", m, dims);
  float* pmean = check.out("mean", mean, dims);
  check_apart(check, {{"values", values}, {"v", v}, {"m", m}, {"mean", mean}}, grads, settings);
  p.keep(values, grads, v, settings, m, mean);
  p.append("rmsprop_step", [k = p.kernels, size = total(dims), pgrads, s, pv, pm, pmean, pvalues](const Scratch&) {
    k->rmsprop_step(size, pgrads, {s[0], s[1], s[2], s[3], update_settings(s + 4)}, pv, pm, pmean, pvalues);
  });
}

void ema_step(PyProgram& p, Array values, Array average, Array settings) {
  const Check check("ema_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  float* paverage = check.out("average", average, dims);
  const double* s = check.in<double>("settings", settings, {2});
  check.apart("values", values, "settings", settings);
  check.apart("average", average, "values", values);
  check.apart("average", average, "settings", settings);
  p.keep(values, average, settings);
  p.append("ema_step", [k = p.kernels, size = total(dims), s, paverage, pvalues](const Scratch&) {
    k->ema_step(size, {s[0], s[1]}, paverage, pvalues);
  });
}

void squared_norms(PyProgram& p, Array grads, Array offsets, Array sums) {
  const Check check("squared_norms");
  check.rank("grads", grads, 1, "[size]");
  check.rank("sums", sums, 1, "[parts]");
  const int64_t parts = sums.shape(0), size = grads.size();
  const float* pgrads = check.in("grads", grads, {size});
  const int64_t* given = check.in<int64_t>("offsets", offsets, {parts + 1});
  double* psums = check.out<double>("sums", sums, {parts});
  check.apart("sums", sums, "grads", grads);
  check.apart("sums", sums, "offsets", offsets);
  const std::vector<int64_t> ends(given, given + parts + 1);  // a copy: what was checked cannot change
  check.require(ends.front() == 0 && ends.back() == size && std::is_sorted(ends.begin(), ends.end()),
                "offsets must ascend from 0 to the size of grads, " + std::to_string(size));
  int64_t longest = 0;
  for (int64_t i = 0; i < parts; ++i)
    longest = std::max(longest, ends[static_cast<size_t>(i + 1)] - ends[static_cast<size_t>(i)]);
  p.keep(grads, sums);
  p.append(
      "squared_norms",
      [k = p.kernels, parts, ends, pgrads, psums](const Scratch& scratch) {
        k->squared_norms(parts, ends.data(), pgrads, psums, scratch);
      },
      p.kernels->squared_norms_scratch(longest));
}

}  // namespace

void bind_optim(py::module_& m, ProgramClass& program) {
  bind_op(m, program, "sgd_step", sgd_step, py::arg("values"), py::arg("grads"), py::arg("settings"),
          py::arg("m") = py::none());
  bind_op(m, program, "adam_step", adam_step, py::arg("values"), py::arg("grads"), py::arg("m"), py::arg("v"),
          py::arg("settings"), py::arg("v_max") = py::none());
  bind_op(m, program, "rmsprop_step", rmsprop_step, py::arg("values"), py::arg("grads"), py::arg("v"),
          py::arg("settings"), py::arg("m") = py::none(), py::arg("mean") = py::none());
  bind_op(m, program, "ema_step", ema_step, py::arg("values"), py::arg("average"), py::arg("settings"));
  bind_op(m, program, "squared_norms", squared_norms, py::arg("grads"), py::arg("offsets"), py::arg("sums"));
}

}  // namespace fastcnn::bindings
