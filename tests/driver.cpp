// The kernels without Python: each instruction set that runs here against plain loops in double, on 1, 2 and 3 threads,
// every array and scratch area ending at a page that nobody may touch. For targets without a Python, qemu and
// sanitizers.
//
//   driver [isa ...]      all that run here by default; exit code 1 when a check fails
//
// Arrays hold small integers where a pass only multiplies and adds: any order of summation is then exact, and so is the
// comparison. Accuracy on real numbers is measured by the Python tests; the bounds here are wide and catch wrong logic.
#include <cstdio>
#include <string>
#include <vector>

#include "core/dispatch.hpp"
#include "driver/conv.hpp"
#include "driver/dense.hpp"
#include "driver/loss.hpp"
#include "driver/norm.hpp"
#include "driver/optim.hpp"
#include "driver/pointwise.hpp"
#include "driver/pool.hpp"
#include "driver/softmax.hpp"
#include "driver/warp.hpp"

namespace fastcnn::driver {
namespace {

void check_table() {
  const int64_t L = table->lanes;
  random_state = 1;
  check_convolutions();
  for (const DenseShape& s :
       {DenseShape{1, 1, 1}, DenseShape{1, 37, 8 * L + 3}, DenseShape{1, 600, 16 * L}, DenseShape{5, L + 1, 2 * L - 1},
        DenseShape{2, 300, 2 * L}, DenseShape{13, 257, 70}, DenseShape{600, 5, L + 1}})
    check_dense(s);
  for (const int64_t C : {int64_t{1}, L - 1, L, 2 * L + 1}) {
    check_pool({2, 6, 7, C, 2, 2, 2, 2, 0, 0, 3, 3});
    check_pool({1, 9, 8, C, 3, 3, 2, 2, 1, 1, 5, 4});
    check_pool({1, 5, 6, C, 2, 3, 1, 2, 0, 1, 4, 3});
    check_global_pool_and_padding(2, 3, 5, C);
    check_global_max_pool(2, 15, C);
    check_batchnorm({7, C});
    check_batchnorm({1100, C});
  }
  check_pool({4, 28, 28, 64, 3, 3, 2, 2, 1, 1, 14, 14});
  check_global_max_pool(3, 196, 4 * L + 3);
  check_batchnorm({300, 515});
  for (const int64_t size : {int64_t{1}, L - 1, L, L + 1, int64_t{16384}, int64_t{40003}}) {
    check_pointwise(size);
    check_dropout(size);
    check_penalty(size);
    check_optimizers(size);
    check_rmsprop(size);
    check_ema_and_norms(size);
  }
  check_concatenate(1, 1, 1, 0);
  check_concatenate(7, L - 1, 3 * L, L + 1);
  check_concatenate(2, 20000, 20003, 3);
  check_concatenate(3000, 24, 40, 16);
  for (const RowsShape& s : {RowsShape{1, 1}, RowsShape{3, L - 1}, RowsShape{5, L + 1}, RowsShape{70, 1000}}) {
    check_softmax(s);
    check_loss(s);
  }
  for (const int64_t C : {1, 2, 3}) {
    check_warp({5, 4, C, 7, 9});
    check_warp({1, 1, C, 3, 2});
  }
}

}  // namespace
}  // namespace fastcnn::driver

int main(int argc, char** argv) {
  using namespace fastcnn::driver;
  std::vector<std::string> names(argv + 1, argv + argc);
  if (names.empty()) names = fastcnn::isas();
  for (const std::string& name : names) {
    table = fastcnn::find_kernels(name);
    if (!table) {
      std::fprintf(stderr, "driver: instruction set '%s' is not in this build or does not run here\n", name.c_str());
      return 1;
    }
    const int64_t before = checks, failed = failures;
    check_table();
    std::printf("%s: %lld checks, %lld failed\n", name.c_str(), static_cast<long long>(checks - before),
                static_cast<long long>(failures - failed));
  }
  return failures ? 1 : 0;
}
