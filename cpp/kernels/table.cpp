// The table of this instruction set: the only symbol used from outside.
#include "kernels/table.hpp"

#include "simd/simd.hpp"

#define FASTCNN_STRING(text) #text
#define FASTCNN_NAME(macro) FASTCNN_STRING(macro)

namespace fastcnn::FASTCNN_ISA {

extern const Kernels& table();

const Kernels& table() {
  static Kernels kernels;  // zeroed at load; filled on the first call, which dispatch makes under the import lock
  if (!kernels.isa) {
    kernels.lanes = static_cast<int>(kLanes);
    fill_conv(kernels);
    fill_dense(kernels);
    fill_loss(kernels);
    fill_norm(kernels);
    fill_optim(kernels);
    fill_pointwise(kernels);
    fill_pool(kernels);
    fill_roof(kernels);
    fill_softmax(kernels);
    fill_warp(kernels);
    kernels.isa = FASTCNN_NAME(FASTCNN_ISA);
  }
  return kernels;
}

}  // namespace fastcnn::FASTCNN_ISA
