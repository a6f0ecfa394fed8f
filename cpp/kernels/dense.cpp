// Dense layers: y[N,K] = x[N,C] w[C,K] + b. The weights are the biggest arrays of VGG, so none of the passes keeps a
// packed copy: each task packs blocks of w into its cache as it reads them, once, and uses them for all N rows.
#include "kernels/gemm.hpp"
#include "kernels/table.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr int64_t kDepthBlock = 256;    // reduction values a block: a packed panel fills half the L1 cache
constexpr int64_t kColumns = 8 * kNR;   // columns a task
// Errors grow with the length of a sum: so many terms are summed before they join the sum of a block of depth, and that
// the total.
constexpr int64_t kRun = 64;
constexpr int64_t kStreamRows = 16;  // up to so many rows, packing w takes longer than it saves;
constexpr int64_t kFewColumns = 64, kStreamRowsOfFewColumns = 4;  // of fewer columns, whose runs are short, up to these
constexpr int64_t kFewRows = kLanes / 2;  // whose sums may pass through the L2 cache: w is then read in longer runs
// Weights at most that a single row leaves to hardware prefetchers: of more, with loads of half a line or less, they
// would fetch too few.
constexpr int64_t kMostFollowed = kLanes == 16 ? INT64_MAX : 4 << 20;

ScratchSize dense_scratch(const DenseShape&) { return {0, kColumns * kDepthBlock * 4}; }

FASTCNN_INLINE void finish_row(const float* b, bool with_relu, int64_t count, float* y) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = smaller(kLanes, count - i);
    vf v = load_upto(y + i, n);
    if (b) v += load_upto(b + i, n);
    store_upto(y + i, with_relu ? relu(v) : v, n);
  }
}

// y (+)= the sums of a run or block
FASTCNN_INLINE void add_run(const float* sums, int64_t count, bool first, float* y) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = smaller(kLanes, count - i);
    const vf v = load_upto(sums + i, n);
    store_upto(y + i, first ? v : load_upto(y + i, n) + v, n);
  }
}

// sums[0..width) += 8 rows of w times 8 values of x. Hardware prefetchers keep up with eight runs, but end with a page
// of memory, 1024 floats: the first lines of the next one, or of the eight rows that follow, are fetched for them.
FASTCNN_INLINE void add_rows_of_one(const DenseShape& s, const float* x, const float* w, int64_t width, float* sums) {
  constexpr int64_t kPage = 1024, kFetched = 32;
  vf xs[8];
  FASTCNN_UNROLL for (int64_t r = 0; r < 8; ++r) xs[r] = broadcast(x[r]);
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    if (k % kPage < kFetched) {
      const float* const next = k + kPage < width ? w + k + kPage : w + 8 * s.K + k % kPage;
      FASTCNN_UNROLL for (int64_t r = 0; r < 8; ++r) prefetch_to_l2(next + r * s.K);
    }
    vf sum = load(sums + k);
    FASTCNN_UNROLL for (int64_t r = 0; r < 8; ++r) sum += xs[r] * load(w + r * s.K + k);
    store(sums + k, sum);
  }
  if (k == width) return;
  vf sum = load_upto(sums + k, width - k);
  FASTCNN_UNROLL for (int64_t r = 0; r < 8; ++r) sum += xs[r] * load_upto(w + r * s.K + k, width - k);
  store_upto(sums + k, sum, width - k);
}

// Few rows, the memory-bound case: w is read once, in long runs, a few rows side by side, while y stays in cache.
// Columns do not depend on each other, so the cut may follow the number of threads: one long run each.
void forward_streaming(const DenseShape& s, const float* x, const float* w, const float* b, bool with_relu, float* y,
                       const Scratch& scratch) {
  constexpr int64_t kRows = 8, kLine = 16;
  const int64_t in_cache = round_up((s.N <= kFewRows ? 16384 : 4096) / s.N, 64);  // of each row of y
  const int64_t columns = smaller(smaller(2048, in_cache), round_up(ceil_div(s.K, num_threads()), 64));
  const bool alone = s.N == 1 && s.C * s.K <= kMostFollowed;
  parallel_for_tasks(ceil_div(s.K, columns), s.N * s.C * s.K * 2, [&](int64_t task, int worker) {
    const int64_t k0 = task * columns, width = smaller(columns, s.K - k0);
    float* const out = worker_floats(scratch, worker);  // sums of a run, and of a block, as wide as y's rows
    float* const block = out + s.N * columns;
    // Ends the run, and maybe the block, that row c of w comes behind.
    const auto end_run = [&](int64_t c, bool ends_block) {
      const int64_t begin = (c - 1) / kDepthBlock * kDepthBlock;
      for (int64_t n = 0; n < s.N; ++n) {
        add_run(out + n * columns, width, c - begin <= kRun, block + n * columns);
        if (ends_block) add_run(block + n * columns, width, begin == 0, y + n * s.K + k0);
      }
    };
    for (int64_t c = 0; c < s.C; c += kRows) {
      if (c % kRun == 0) {
        if (c) end_run(c, c % kDepthBlock == 0);
        for (int64_t n = 0; n < s.N; ++n)
          for (int64_t k = 0; k < width; ++k) out[n * columns + k] = 0;
      }
      const int64_t rows = smaller(kRows, s.C - c);
      const float* row = w + c * s.K + k0;
      int64_t k = 0;
      if (rows == kRows && alone) {
        add_rows_of_one(s, x + c, row, width, out);
        continue;
      }
      if (rows == kRows)
        for (; k + kLine <= width; k += kLine) {
          FASTCNN_UNROLL for (int64_t r = 0; r < kRows; ++r) prefetch_to_l2(row + (2 * kRows + r) * s.K + k);
          for (int64_t i = k; i < k + kLine; i += kLanes) {
            vf wi[kRows];
            FASTCNN_UNROLL for (int64_t r = 0; r < kRows; ++r) wi[r] = load(row + r * s.K + i);
            for (int64_t n = 0; n < s.N; ++n) {
              vf sum = load(out + n * columns + i);
              FASTCNN_UNROLL for (int64_t r = 0; r < kRows; ++r) sum += broadcast(x[n * s.C + c + r]) * wi[r];
              store(out + n * columns + i, sum);
            }
          }
        }
      for (; k < width; k += kLanes) {
        const int64_t left = smaller(kLanes, width - k);
        for (int64_t n = 0; n < s.N; ++n) {
          vf sum = load_upto(out + n * columns + k, left);
          for (int64_t r = 0; r < rows; ++r) sum += broadcast(x[n * s.C + c + r]) * load_upto(row + r * s.K + k, left);
          store_upto(out + n * columns + k, sum, left);
        }
      }
    }
    end_run(s.C, true);
    for (int64_t n = 0; n < s.N; ++n) finish_row(b ? b + k0 : nullptr, with_relu, width, y + n * s.K + k0);
  });
}

// y[0..rows)[0..width) (+)= A * packed, summed in runs; the first block starts the totals.
FASTCNN_INLINE void multiply_block(int64_t rows, const float* a, int64_t a_stride, const float* packed, int64_t depth,
                                   int64_t width, bool first, float* y, int64_t y_stride) {
  for_tiles(rows, [&](int64_t m, int64_t count) {
    with_rows(count, [&]<int MR>() {
      for (int64_t j = 0; j < width; j += kNR) {
        const int64_t columns = smaller(kNR, width - j);
        float* at = y + m * y_stride + j;
        alignas(64) float sums[MR * kNR];
        Tile<MR> tile;
        for (int64_t d = 0; d < depth; d += kRun) {
          tile.zero();
          RowsA<MR> rows_a;
          FASTCNN_UNROLL for (int i = 0; i < MR; ++i) rows_a.row[i] = a + (m + i) * a_stride + d;
          tile.multiply(rows_a, packed + j * kDepthBlock + d * kNR, kNR, smaller(kRun, depth - d));
          if (d) tile.add_from(sums, kNR);
          if (d + kRun < depth) tile.store_to(sums, kNR);
        }
        tile.each([&](vf& sum, int i, int64_t column) FASTCNN_LAMBDA {
          const int64_t n = smaller(kLanes, columns - column);
          if (n <= 0) return;
          float* const to = at + i * y_stride + column;
          store_upto(to, first ? sum : load_upto(to, n) + sum, n);
        });
      }
    });
  });
}

// packed[panel][c][NR] = w[c0 + c][k + ...], zeros beyond K
FASTCNN_INLINE void pack_columns(const float* w, int64_t K, int64_t depth, int64_t width, float* packed) {
  for (int64_t c = 0; c < depth; ++c, w += K) {
    for (int64_t line = 0; line < width; line += 16) prefetch(w + 8 * K + line);
    for (int64_t j = 0; j < width; j += kNR) {
      float* to = packed + j * kDepthBlock + c * kNR;
      if (width - j >= kNR) {
        store(to, load(w + j));
        store(to + kLanes, load(w + j + kLanes));
      } else {
        for (int64_t i = 0; i < kNR; ++i) to[i] = i < width - j ? w[j + i] : 0.0f;
      }
    }
  }
}

void dense_forward(const DenseShape& s, const float* x, const float* w, const float* b, bool with_relu, float* y,
                   const Scratch& scratch) {
  if (s.N <= (s.K < kFewColumns ? kStreamRowsOfFewColumns : kStreamRows))
    return forward_streaming(s, x, w, b, with_relu, y, scratch);
  parallel_for_tasks(ceil_div(s.K, kColumns), s.N * s.C * s.K, [&](int64_t task, int worker) {
    float* packed = worker_floats(scratch, worker);
    const int64_t k = task * kColumns, width = smaller(kColumns, s.K - k);
    for (int64_t c = 0; c < s.C; c += kDepthBlock) {
      const int64_t depth = smaller(kDepthBlock, s.C - c);
      pack_columns(w + c * s.K + k, s.K, depth, width, packed);
      multiply_block(s.N, x + c, s.C, packed, depth, width, c == 0, y + k, s.K);
    }
    for (int64_t n = 0; n < s.N; ++n) finish_row(b ? b + k : nullptr, with_relu, width, y + n * s.K + k);
  });
}

// Dot products of ROWS rows of dy with COLUMNS rows of w, lanes of k summed at the end.
template <int ROWS, int COLUMNS>
FASTCNN_INLINE void dot_block(const DenseShape& s, const float* dy, const float* w, bool accumulate, float* dx) {
  vf sums[ROWS][COLUMNS];
  FASTCNN_UNROLL for (int n = 0; n < ROWS; ++n) { FASTCNN_UNROLL for (int c = 0; c < COLUMNS; ++c) sums[n][c] = vf{}; }
  const auto add = [&](int64_t k, const auto& load_at) FASTCNN_LAMBDA {
    vf wk[COLUMNS];
    FASTCNN_UNROLL for (int c = 0; c < COLUMNS; ++c) wk[c] = load_at(w + c * s.K + k);
    FASTCNN_UNROLL for (int n = 0; n < ROWS; ++n) {
      const vf dyk = load_at(dy + n * s.K + k);
      FASTCNN_UNROLL for (int c = 0; c < COLUMNS; ++c) sums[n][c] += dyk * wk[c];
    }
  };
  int64_t k = 0;
  for (; k + kLanes <= s.K; k += kLanes) add(k, [](const float* p) FASTCNN_LAMBDA { return load(p); });
  if (k < s.K) add(k, [&](const float* p) FASTCNN_LAMBDA { return load_tail(p, s.K - k); });
  FASTCNN_UNROLL for (int n = 0; n < ROWS; ++n) {
    FASTCNN_UNROLL for (int c = 0; c < COLUMNS; ++c) {
      float* at = dx + n * s.C + c;
      *at = accumulate ? *at + sum_lanes(sums[n][c]) : sum_lanes(sums[n][c]);
    }
  }
}

// dx[N,C] (+)= dy[N,K] w^T: rows of w are rows of the product, so they are read as they lie.
void dense_backward_data(const DenseShape& s, const float* dy, const float* w, bool accumulate, float* dx,
                         const Scratch&) {
  constexpr int kDyRows = 4, kWRows = 3;  // 12 sums in registers
  constexpr int64_t kGroup = 8 * kWRows;
  parallel_for_tasks(ceil_div(s.C, kGroup), s.N * s.C * s.K + s.C * s.K * 2, [&](int64_t task, int) {
    const int64_t first = task * kGroup, last = smaller(s.C, first + kGroup);
    for (int64_t c = first; c < last; c += kWRows)
      for (int64_t n = 0; n < s.N; n += kDyRows) {
        const float* from = dy + n * s.K;
        const float* rows = w + c * s.K;
        float* to = dx + n * s.C + c;
        if (n + kDyRows <= s.N && c + kWRows <= last) {
          dot_block<kDyRows, kWRows>(s, from, rows, accumulate, to);
        } else {
          for (int64_t i = 0; i < smaller(kDyRows, s.N - n); ++i)
            for (int64_t j = 0; j < smaller(kWRows, last - c); ++j)
              dot_block<1, 1>(s, from + i * s.K, rows + j * s.K, accumulate, to + i * s.C + j);
        }
      }
  });
}

// dw[rows,K] (+)= the gradient of the rows of w from x's column on.
FASTCNN_INLINE void weights_block(const DenseShape& s, const float* x, const float* dy, int64_t rows, bool accumulate,
                                  float* dw) {
  for_tiles(rows, [&](int64_t c, int64_t count) {
    with_rows(count, [&]<int MR>() {
      for (int64_t k = 0; k < s.K; k += kNR) {
        const int64_t width = smaller(kNR, s.K - k);
        float* at = dw + c * s.K + k;
        Tile<MR> tile;
        tile.zero();
        if (width == kNR) {
          if (accumulate) tile.load_from(at, s.K);
          tile.multiply(StridedA{x + c, 1, s.C}, dy + k, s.K, s.N);
          tile.store_to(at, s.K);
        } else {
          for (int64_t i = 0; i < MR; ++i)
            for (int64_t j = 0; j < width; j += kLanes) {
              const int64_t left = smaller(kLanes, width - j);
              vf sum = accumulate ? load_upto(at + i * s.K + j, left) : vf{};
              for (int64_t n = 0; n < s.N; ++n)
                sum += broadcast(x[n * s.C + c + i]) * load_upto(dy + n * s.K + k + j, left);
              store_upto(at + i * s.K + j, sum, left);
            }
        }
      }
    });
  });
}

// dw[C,K] (+)= x^T dy: a sum over the few rows of a batch, bound by writing dw.
void dense_backward_weights(const DenseShape& s, const float* x, const float* dy, bool accumulate, float* dw,
                            const Scratch&) {
  constexpr int64_t kRows = 4 * kMR;
  parallel_for_tasks(ceil_div(s.C, kRows), s.N * s.C * s.K + s.C * s.K * kMoved, [&](int64_t task, int) {
    const int64_t c = task * kRows;
    weights_block(s, x + c, dy, smaller(kRows, s.C - c), accumulate, dw + c * s.K);
  });
}

// dw is as large as w: written and read once, it is a third of what an update by Adam moves through memory.
constexpr int64_t kUpdateRows = 8;  // of dw a block: 128 KB of the L2 cache in VGG's largest layers

ScratchSize dense_update_scratch(const DenseShape& s) { return {0, smaller(kUpdateRows, s.C) * s.K * 4}; }
void dense_update(const DenseShape& s, const float* x, const float* dy, TakeGradient take, void* context,
                  const Scratch& scratch) {
  parallel_for_tasks(ceil_div(s.C, kUpdateRows), s.N * s.C * s.K + s.C * s.K * kMoved, [&](int64_t task, int worker) {
    const int64_t c = task * kUpdateRows, rows = smaller(kUpdateRows, s.C - c);
    float* const dw = worker_floats(scratch, worker);
    weights_block(s, x + c, dy, rows, false, dw);
    take(context, c * s.K, rows * s.K, dw);
  });
}

// Column sums: float sums of a fixed number of rows, merged in order in double.
constexpr int64_t kSumRows = 512;

ScratchSize bias_backward_scratch(const RowsShape& s) { return {ceil_div(s.rows, kSumRows) * s.C * 4, 0}; }
void bias_backward(const RowsShape& s, const float* dy, bool accumulate, float* db, const Scratch& scratch) {
  float* slots = shared_floats(scratch);
  const int64_t blocks = ceil_div(s.rows, kSumRows);
  parallel_for_tasks(blocks, s.rows * s.C * kMoved, [&](int64_t block, int) {
    const int64_t first = block * kSumRows, last = smaller(s.rows, first + kSumRows);
    float* slot = slots + block * s.C;
    for (int64_t c = 0; c < s.C; c += 4 * kLanes) {
      const int64_t n = s.C - c;
      vf sums[4] = {};
      if (n >= 4 * kLanes) {
        for (int64_t row = first; row < last; ++row)
          FASTCNN_UNROLL for (int64_t i = 0; i < 4; ++i) sums[i] += load(dy + row * s.C + c + i * kLanes);
        FASTCNN_UNROLL for (int64_t i = 0; i < 4; ++i) store(slot + c + i * kLanes, sums[i]);
      } else {
        for (int64_t i = 0; i * kLanes < n; ++i) {
          const int64_t left = smaller(kLanes, n - i * kLanes);
          for (int64_t row = first; row < last; ++row) sums[i] += load_upto(dy + row * s.C + c + i * kLanes, left);
          store_upto(slot + c + i * kLanes, sums[i], left);
        }
      }
    }
  });
  for (int64_t c = 0; c < s.C; ++c) {
    double sum = accumulate ? db[c] : 0.0;
    for (int64_t block = 0; block < blocks; ++block) sum += slots[block * s.C + c];
    db[c] = static_cast<float>(sum);
  }
}

}  // namespace

void fill_dense(Kernels& kernels) {
  kernels.dense_scratch = dense_scratch;
  kernels.dense_forward = dense_forward;
  kernels.dense_backward_data = dense_backward_data;
  kernels.dense_backward_weights = dense_backward_weights;
  kernels.dense_update_scratch = dense_update_scratch;
  kernels.dense_update = dense_update;
  kernels.bias_backward_scratch = bias_backward_scratch;
  kernels.bias_backward = bias_backward;
}

}  // namespace fastcnn::FASTCNN_ISA
