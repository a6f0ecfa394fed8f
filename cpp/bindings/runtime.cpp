#include "bindings/program.hpp"
#include "core/threads.hpp"

namespace fastcnn::bindings {

void bind_runtime(py::module_& m) {
  choose_isa();
  m.def("isas", &isas, "Instruction sets that this build holds and this CPU runs, slowest first.");
  m.def("isa", [] { return kernels().isa; });
  m.def("lanes", [] { return kernels().lanes; });
  m.def("set_isa", &set_isa, py::arg("name"));
  m.def("num_threads", &num_threads);
  m.def("default_num_threads", &default_num_threads);
  m.def(
      "set_num_threads",
      [](int threads) {
        if (threads < 1 || threads > 128)
          throw py::value_error("set_num_threads: threads must be 1 to 128 but is " + std::to_string(threads));
        set_num_threads(threads);
      },
      py::arg("threads"));
  m.def("forked", &forked, "True in a child forked after the worker team started: it runs serially.");
  m.def(
      "multiply_add_loop",
      [](int64_t iterations) {
        const py::gil_scoped_release release;
        return kernels().multiply_add_loop(num_threads(), iterations);
      },
      py::arg("iterations"), "Runs multiply-adds on registers, one loop a thread; returns the number of flops.");
  m.attr("compiler") =
#if defined(__clang__)
      "clang " __clang_version__;
#else
      "gcc " __VERSION__;
#endif
}

}  // namespace fastcnn::bindings
