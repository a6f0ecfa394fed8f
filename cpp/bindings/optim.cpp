#include <algorithm>
#include <functional>
#include <variant>

#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

// The settings array is read when the step runs, so a schedule changes it between runs. Its last three numbers are
// those of UpdateSettings.
UpdateSettings update_settings(const double* last) { return {last[0], last[1], last[2]}; }

// The gradient of a dense layer's weights, x^T dy, which nobody has computed yet.
struct DenseGradient {
  Array x, dy;
};
using Gradient = std::variant<DenseGradient, Array>;

// A rule applied to `size` weights from number `first` on, whose gradients are given.
using Rule = std::function<void(int64_t first, int64_t size, const float* grads)>;

struct Named {
  const char* name;
  OptionalArray array;
};

void check_apart(const Check& check, const Named& written, const char* read_name, const Array& read) {
  if (written.array) check.apart(written.name, *written.array, read_name, read);
}

// Appends a rule. The arrays that it writes, values first, lie apart from each other, from the gradient and from the
// settings.
void append_rule(PyProgram& p, const Check& check, const std::string& name, const Gradient& grads,
                 const Array& settings, const std::vector<Named>& written, Rule rule) {
  for (size_t i = 0; i < written.size(); ++i) {
    check_apart(check, written[i], "settings", settings);
    for (size_t j = 0; j < i; ++j)
      if (written[j].array) check_apart(check, written[i], written[j].name, *written[j].array);
    p.keep(written[i].array);
  }
  p.keep(settings);
  const Dims dims = dims_of(*written.front().array);
  if (const Array* const whole = std::get_if<Array>(&grads)) {
    const float* const pgrads = check.in("grads", *whole, dims);
    for (const Named& array : written) check_apart(check, array, "grads", *whole);
    p.keep(*whole);
    p.append(name.c_str(), [size = total(dims), pgrads, rule](const Scratch&) { rule(0, size, pgrads); });
    return;
  }
  const auto& [x, dy] = std::get<DenseGradient>(grads);
  check.rank("grads.x", x, 2, "[N,C]");
  check.rank("grads.dy", dy, 2, "[N,K]");
  const DenseShape s{x.shape(0), x.shape(1), dy.shape(1)};
  const float* const px = check.in("grads.x", x, {s.N, s.C});
  const float* const pdy = check.in("grads.dy", dy, {s.N, s.K});
  check.require(check.product({s.C, s.K}) == total(dims),
                "grads has " + text({s.C, s.K}) + " weights but values is " + text(dims));
  for (const Named& array : written) {
    check_apart(check, array, "grads.x", x);
    check_apart(check, array, "grads.dy", dy);
  }
  p.keep(x, dy);
  p.append(("dense_" + name).c_str(),
           [k = p.kernels, s, px, pdy, rule](const Scratch& scratch) {
             const auto take = [](void* context, int64_t first, int64_t size, const float* block) {
               (*static_cast<const Rule*>(context))(first, size, block);
             };
             k->dense_update(s, px, pdy, take, const_cast<Rule*>(&rule), scratch);
           },
           p.kernels->dense_update_scratch(s));
}

// Where an array that a rule may do without goes on; null stays null.
float* from(float* array, int64_t first) { return array ? array + first : nullptr; }

void sgd_step(PyProgram& p, Array values, Gradient grads, Array settings, OptionalArray m) {
  const Check check("sgd_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  const double* s = check.in<double>("settings", settings, {6});
  float* pm = check.out("m", m, dims);
  const auto rule = [k = p.kernels, s, pm, pvalues](int64_t first, int64_t size, const float* pgrads) {
    k->sgd_step(size, pgrads, {s[0], s[1], s[2], update_settings(s + 3)}, from(pm, first), pvalues + first);
  };
  append_rule(p, check, "sgd_step", grads, settings, {{"values", values}, {"m", m}}, rule);
}

void adam_step(PyProgram& p, Array values, Gradient grads, Array m, Array v, Array settings, OptionalArray v_max) {
  const Check check("adam_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  float* pm = check.out("m", m, dims);
  float* pv = check.out("v", v, dims);
  const double* s = check.in<double>("settings", settings, {8});
  float* pv_max = check.out("v_max", v_max, dims);
  const auto rule = [k = p.kernels, s, pm, pv, pv_max, pvalues](int64_t first, int64_t size, const float* pgrads) {
    k->adam_step(size, pgrads, {s[0], s[1], s[2], s[3], s[4], update_settings(s + 5)}, pm + first, pv + first,
                 from(pv_max, first), pvalues + first);
  };
  append_rule(p, check, "adam_step", grads, settings, {{"values", values}, {"m", m}, {"v", v}, {"v_max", v_max}}, rule);
}

void rmsprop_step(PyProgram& p, Array values, Gradient grads, Array v, Array settings, OptionalArray m,
                  OptionalArray mean) {
  const Check check("rmsprop_step");
  const Dims dims = dims_of(values);
  float* pvalues = check.out("values", values, dims);
  float* pv = check.out("v", v, dims);
  const double* s = check.in<double>("settings", settings, {7});
  float* pm = check.out("m", m, dims);
  float* pmean = check.out("mean", mean, dims);
  const auto rule = [k = p.kernels, s, pv, pm, pmean, pvalues](int64_t first, int64_t size, const float* pgrads) {
    k->rmsprop_step(size, pgrads, {s[0], s[1], s[2], s[3], update_settings(s + 4)}, pv + first, from(pm, first),
                    from(pmean, first), pvalues + first);
  };
  append_rule(p, check, "rmsprop_step", grads, settings, {{"values", values}, {"v", v}, {"m", m}, {"mean", mean}},
              rule);
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
  py::class_<DenseGradient>(m, "DenseGradient",
                            "The gradient x^T dy of a dense layer's weights, in the place of `grads`: made in blocks "
                            "that the rule takes at once, so that no array holds it; x is [N,C], dy [N,K].")
      .def(py::init<Array, Array>(), py::arg("x"), py::arg("dy"))
      .def_readonly("x", &DenseGradient::x)
      .def_readonly("dy", &DenseGradient::dy);
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
