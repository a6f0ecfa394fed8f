// The table of avx512 with convolutions on tile registers.
#include "kernels/table.hpp"

namespace fastcnn {
namespace avx512 {
extern const Kernels& table();
}
namespace amx {

extern const Kernels& table();

const Kernels& table() {
  static Kernels kernels;  // as in table.cpp
  if (!kernels.isa) {
    kernels = avx512::table();
    fill_conv(kernels);
    kernels.isa = "amx";
  }
  return kernels;
}

}  // namespace amx
}  // namespace fastcnn
