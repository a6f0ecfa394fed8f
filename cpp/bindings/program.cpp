#include "bindings/program.hpp"

#include <cstring>

namespace fastcnn::bindings {
namespace {

// A thread that wants the interpreter lock back from a busy Python thread waits one switch interval, by default 5 ms.
// While programs run it is shorter; the last one to end puts the old one back. All under the lock. A thread that is the
// only one of Python's has nobody to wait for.
class ShortSwitchInterval {
 public:
  ShortSwitchInterval() : wanted_(!alone()) {
    if (!wanted_ || running_++ > 0) return;
    before_ = get();
    if (before_ > kSeconds) set(kSeconds);
  }
  ~ShortSwitchInterval() {
    if (!wanted_ || --running_ > 0 || before_ <= kSeconds) return;
    const py::error_scope interrupted;  // an exception that waits to be thrown goes on waiting
    try {
      if (get() <= 2 * kSeconds) set(before_);  // else someone chose another one meanwhile
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("fastcnn: sys.setswitchinterval");
    }
  }
  ShortSwitchInterval(const ShortSwitchInterval&) = delete;
  ShortSwitchInterval& operator=(const ShortSwitchInterval&) = delete;

 private:
  static constexpr double kSeconds = 0.0005;
  // Built-in functions reached without an import: no Python code runs, at which the lock could change hands.
  static py::handle of_sys(const char* name) { return PySys_GetObject(name); }
  static double get() { return of_sys("getswitchinterval")().cast<double>(); }
  static void set(double seconds) { of_sys("setswitchinterval")(seconds + 0.5e-6); }  // it cuts to microseconds
  static bool alone() { return !PyThreadState_Next(PyInterpreterState_ThreadHead(PyInterpreterState_Get())); }
  const bool wanted_;
  static inline int running_ = 0;
  static inline double before_ = 0;
};

void check_range(const char* operation, const PyProgram& program, int64_t first, int64_t last) {
  if (first < 0 || last < first || last > program.program.size())
    throw py::value_error(std::string(operation) + ": steps " + std::to_string(first) + " to " + std::to_string(last) +
                          " are not within the " + std::to_string(program.program.size()) + " steps");
}

}  // namespace

void PyProgram::run(int64_t first, int64_t last, bool interruptible, const Copies& in, const Copies& out,
                    double* seconds) {
  const auto ask = [] {
    const py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  };
  const std::function<bool()> interrupted = interruptible ? std::function<bool()>(ask) : nullptr;
  bool finished;
  {
    const ShortSwitchInterval short_interval;
    const py::gil_scoped_release release;
    for (const Copy& copy : in) std::memcpy(copy.to, copy.from, copy.bytes);
    finished = program.run(first, last, interrupted, seconds);
    for (const Copy& copy : out) std::memcpy(copy.to, copy.from, copy.bytes);
  }
  if (!finished) throw py::error_already_set();
}

void PyProgram::bind_prediction(Array x, std::vector<Array> outputs, std::optional<int64_t> last) {
  const Check check("Program.bind_prediction");
  check.out("x", x, dims_of(x));
  for (const Array& output : outputs) check.in("output", output, dims_of(output));
  const int64_t end = last.value_or(program.size());
  check_range("Program.bind_prediction", *this, 0, end);
  prediction_ = Prediction{x, dims_of(x), std::move(outputs), end};
}

py::list PyProgram::predict(const OptionalArray& x) {
  const Check check("Program.predict");
  check.require(prediction_.has_value(), "call bind_prediction first");
  Copies in, out;
  if (x) {
    in.push_back({check.in("x", *x, prediction_->x_dims), prediction_->x.mutable_data(),
                  static_cast<size_t>(prediction_->x.nbytes())});
    check.apart("the bound x", prediction_->x, "x", *x);
  }
  py::list results(prediction_->outputs.size());
  for (size_t i = 0; i < prediction_->outputs.size(); ++i) {
    const Array& output = prediction_->outputs[i];
    Array copy(output.dtype(), std::vector<py::ssize_t>(output.shape(), output.shape() + output.ndim()));
    out.push_back({output.data(), copy.mutable_data(), static_cast<size_t>(output.nbytes())});
    results[i] = std::move(copy);
  }
  run(0, prediction_->last, true, in, out);
  return results;
}

namespace {

// An arena as a numpy array of bytes that keeps it alive.
py::array_t<uint8_t> bytes_of(const std::shared_ptr<Arena>& arena) {
  const py::capsule owner(new std::shared_ptr<Arena>(arena),
                          [](void* p) { delete static_cast<std::shared_ptr<Arena>*>(p); });
  return py::array_t<uint8_t>(static_cast<py::ssize_t>(arena->size()), reinterpret_cast<uint8_t*>(arena->data()),
                              owner);
}

}  // namespace

void bind_program(py::module_& m, ProgramClass& program) {
  py::class_<Arena, std::shared_ptr<Arena>>(m, "Arena", "Zeroed, 64-byte aligned memory; huge pages where possible.")
      .def(py::init<size_t>(), py::arg("nbytes") = 0)
      .def_property_readonly("nbytes", &Arena::size)
      .def("bytes", &bytes_of, "The memory as a uint8 array that keeps it alive.");

  program.def(py::init<>())
      .def(py::init<std::shared_ptr<Arena>>(), py::arg("scratch"))
      .def("__len__", [](const PyProgram& self) { return self.program.size(); })
      .def_property_readonly("isa", [](const PyProgram& self) { return self.kernels->isa; })
      .def_property_readonly("scratch_bytes", [](const PyProgram& self) { return self.program.scratch_bytes(); })
      .def_property_readonly("steps",
                             [](const PyProgram& self) {
                               std::vector<std::string> names;
                               for (int64_t i = 0; i < self.program.size(); ++i)
                                 names.push_back(self.program.step(i).name);
                               return names;
                             })
      .def(
          "run",
          [](PyProgram& self, int64_t first, std::optional<int64_t> last, bool interruptible) {
            const int64_t end = last.value_or(self.program.size());
            check_range("Program.run", self, first, end);
            self.run(first, end, interruptible);
          },
          py::arg("first") = 0, py::arg("last") = py::none(), py::kw_only(), py::arg("interruptible") = true,
          "Runs steps first..last-1 without the GIL; Ctrl-C between steps raises KeyboardInterrupt, unless "
          "interruptible is False.")
      .def("bind_prediction", &PyProgram::bind_prediction, py::arg("x"), py::arg("outputs"),
           py::arg("last") = py::none(),
           "Names what predict fills and returns copies of, and the step that it ends before.")
      .def("predict", &PyProgram::predict, py::arg("x") = py::none(),
           "Copies x to the bound one, unless it is None because that has been filled, runs as `run` does, and returns "
           "copies of the outputs.")
      .def(
          "call",
          [](PyProgram& self, py::function function) {
            self.append("call", [function = std::move(function)](const Scratch&) {
              const py::gil_scoped_acquire gil;
              function();
            });
          },
          py::arg("function"),
          "Appends a call of a Python function without arguments, made with the GIL; what it raises ends the run.")
      .def(
          "profile",
          [](PyProgram& self, int64_t first, std::optional<int64_t> last) {
            const int64_t end = last.value_or(self.program.size());
            check_range("Program.profile", self, first, end);
            std::vector<double> seconds(static_cast<size_t>(end - first));
            self.run(first, end, true, {}, {}, seconds.data());
            return seconds;
          },
          py::arg("first") = 0, py::arg("last") = py::none(), "As run; returns the seconds of each step.");
}

}  // namespace fastcnn::bindings
