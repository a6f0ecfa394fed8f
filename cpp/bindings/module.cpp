#include "bindings/program.hpp"

PYBIND11_MODULE(_core, m) {
  using namespace fastcnn::bindings;
  m.doc() = "The engine of fastcnn: kernels, programs, instruction sets and threads. Private; arrays are float32.";
  bind_runtime(m);
  ProgramClass program(m, "Program", "Steps of one model at one batch size; arrays are bound when a step is appended.");
  bind_program(m, program);
  bind_conv(m, program);
  bind_dense(m, program);
  bind_loss(m, program);
  bind_norm(m, program);
  bind_optim(m, program);
  bind_pointwise(m, program);
  bind_pool(m, program);
  bind_softmax(m, program);
  bind_warp(m, program);
}
