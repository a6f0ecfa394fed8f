// A program as Python sees it: the engine's list of steps plus what must stay alive for it.
#pragma once
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/dispatch.hpp"
#include "core/program.hpp"

namespace fastcnn::bindings {

struct Copy {
  const void* from;
  void* to;
  size_t bytes;
};
using Copies = std::vector<Copy>;

class PyProgram {
 public:
  explicit PyProgram(std::shared_ptr<Arena> scratch) : program(std::move(scratch)), kernels(&fastcnn::kernels()) {}
  PyProgram() : PyProgram(std::make_shared<Arena>()) {}

  // Steps hold raw pointers: every array that a step reads or writes is kept here.
  template <class... T>
  void keep(const T&... objects) {
    (keep_one(objects), ...);
  }
  void append(const char* name, std::function<void(const Scratch&)> run, ScratchSize scratch = {0, 0}) {
    program.append({name, scratch, std::move(run)});
  }
  // Copies what goes in, runs the steps, copies what comes out, all without the GIL.
  void run(int64_t first, int64_t last, bool interruptible = true, const Copies& in = {}, const Copies& out = {},
           double* seconds = nullptr);
  // What `predict` fills and returns copies of, and the step it ends before.
  void bind_prediction(Array x, std::vector<Array> outputs, std::optional<int64_t> last);
  py::list predict(const OptionalArray& x);

  Program program;
  const Kernels* kernels;  // the table that was active when the program was made

 private:
  struct Prediction {
    Array x;
    Dims x_dims;
    std::vector<Array> outputs;
    int64_t last;
  };
  std::optional<Prediction> prediction_;
  void keep_one(const py::object& object) { kept_.push_back(object); }
  void keep_one(const OptionalArray& array) {
    if (array) kept_.push_back(*array);
  }
  std::vector<py::object> kept_;
};

using ProgramClass = py::class_<PyProgram>;

// One operation under one name: Program.<name>(...) appends a step, _core.<name>(...) appends it to a program of its
// own and runs that. Both go through the same checks.
template <class... A, class... Extra>
void bind_op(py::module_& m, ProgramClass& program, const char* name, void (*append)(PyProgram&, A...),
             const Extra&... extra) {
  program.def(name, append, extra...);
  m.def(
      name,
      [append](A... arguments) {
        PyProgram one;
        append(one, std::forward<A>(arguments)...);
        one.run(0, one.program.size());
      },
      extra...);
}

void bind_program(py::module_& m, ProgramClass& program);
void bind_runtime(py::module_& m);
void bind_conv(py::module_& m, ProgramClass& program);
void bind_dense(py::module_& m, ProgramClass& program);
void bind_loss(py::module_& m, ProgramClass& program);
void bind_norm(py::module_& m, ProgramClass& program);
void bind_optim(py::module_& m, ProgramClass& program);
void bind_pointwise(py::module_& m, ProgramClass& program);
void bind_pool(py::module_& m, ProgramClass& program);
void bind_softmax(py::module_& m, ProgramClass& program);
void bind_warp(py::module_& m, ProgramClass& program);

}  // namespace fastcnn::bindings
