#include "bindings/program.hpp"

#include <cstring>

namespace fastcnn::bindings {
namespace {

// A thread that wants the interpreter lock back from a busy Python thread waits one switch interval, by default 5 ms.
// While programs run it is shorter; the last one to end puts the old one back. All under the lock.
class ShortSwitchInterval {
 public:
  ShortSwitchInterval() {
    if (running_++ > 0) return;
    before_ = get();
    if (before_ > kSeconds) set(kSeconds);
  }
  ~ShortSwitchInterval() {
    if (--running_ > 0 || before_ <= kSeconds) return;
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
  static inline int running_ = 0;
  static inline double before_ = 0;
};

}  // namespace

void PyProgram::run(int64_t first, int64_t last, bool interruptible, const std::vector<Copy>& feeds,
                    const std::vector<Copy>& fetches, double* seconds) {
  const auto ask = [] {
    const py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  };
  const std::function<bool()> interrupted = interruptible ? std::function<bool()>(ask) : nullptr;
  bool finished;
  {
    const ShortSwitchInterval short_interval;
    const py::gil_scoped_release release;
    for (const Copy& copy : feeds) std::memcpy(copy.to, copy.from, copy.bytes);
    finished = program.run(first, last, interrupted, seconds);
    for (const Copy& copy : fetches) std::memcpy(copy.to, copy.from, copy.bytes);
  }
  if (!finished) throw py::error_already_set();
}

namespace {

void check_range(const PyProgram& program, int64_t first, int64_t last) {
  if (first < 0 || last < first || last > program.program.size())
    throw py::value_error("Program.run: steps " + std::to_string(first) + " to " + std::to_string(last) +
                          " are not within the " + std::to_string(program.program.size()) + " steps");
}

using Pairs = std::vector<std::pair<Array, Array>>;

std::vector<Copy> make_copies(const char* what, Pairs& pairs) {
  const Check check("Program.run");
  std::vector<Copy> copies;
  for (auto& [from, to] : pairs) {
    const std::string name = std::string(what) + " source";
    const float* source = check.in(name.c_str(), from, dims_of(to));
    copies.push_back({source, check.out(what, to, dims_of(to)), static_cast<size_t>(to.nbytes())});
    check.apart(what, to, name.c_str(), from);
  }
  return copies;
}

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
          [](PyProgram& self, int64_t first, std::optional<int64_t> last, bool interruptible, Pairs feed, Pairs fetch) {
            const int64_t end = last.value_or(self.program.size());
            check_range(self, first, end);
            const std::vector<Copy> feeds = make_copies("feed", feed), fetches = make_copies("fetch", fetch);
            self.run(first, end, interruptible, feeds, fetches);
          },
          py::arg("first") = 0, py::arg("last") = py::none(), py::kw_only(), py::arg("interruptible") = true,
          py::arg("feed") = Pairs{}, py::arg("fetch") = Pairs{},
          "Copies each (source, destination) of feed, runs steps first..last-1, copies those of fetch, all without the "
          "GIL; "
          "Ctrl-C between steps raises KeyboardInterrupt, unless interruptible is False.")
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
            check_range(self, first, end);
            std::vector<double> seconds(static_cast<size_t>(end - first));
            self.run(first, end, true, {}, {}, seconds.data());
            return seconds;
          },
          py::arg("first") = 0, py::arg("last") = py::none(), "As run; returns the seconds of each step.");
}

}  // namespace fastcnn::bindings
