// Loops over rows of [rows, C] that are few and short.
#pragma once
#include "kernels/exponential.hpp"
#include "kernels/tasks.hpp"

namespace fastcnn::FASTCNN_ISA {

constexpr int64_t kRowGrain = 2048;  // floats that make one chunk of rows

// f(row) for each; an element costs about one exponential.
template <class F>
FASTCNN_INLINE void over_rows(const RowsShape& shape, const F& f) {
  parallel_for(shape.rows, larger(1, kRowGrain / larger(1, shape.C)), shape.rows * shape.C * kExpCost,
               [f](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) f(row);
               });
}

}  // namespace fastcnn::FASTCNN_ISA
