// The machine's arithmetic roof: multiply-adds on registers only, as many chains as hide their latency.
#include "kernels/gemm.hpp"
#include "kernels/table.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

int64_t multiply_add_loop(int64_t tasks, int64_t iterations) {
  constexpr int kChains = 2 * kMR;
  parallel_for_tasks(tasks, tasks * iterations * kChains * kLanes, [&](int64_t, int) {
    const vf factor = broadcast(0.5f), addend = broadcast(1.0f);
    vf sums[kChains];
    FASTCNN_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = broadcast(static_cast<float>(i));
    for (int64_t k = 0; k < iterations; ++k)
      FASTCNN_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + addend;
    FASTCNN_UNROLL for (int i = 1; i < kChains; ++i) sums[0] += sums[i];
    volatile float sink = sum_lanes(sums[0]);  // or the compiler would drop the loop
    (void)sink;
  });
  return tasks * iterations * kChains * kLanes * 2;
}

}  // namespace

void fill_roof(Kernels& kernels) { kernels.multiply_add_loop = multiply_add_loop; }

}  // namespace fastcnn::FASTCNN_ISA
