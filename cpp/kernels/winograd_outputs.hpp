// From M to y: the output transform with its epilogue, and statistics while the outputs are in cache.
#pragma once
#include "kernels/winograd_grid.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

// Y of one group: bias, residual, ReLU, or 2x2 maxima with their places
static void transform_output(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t first, int64_t count,
                             int64_t panel, int64_t group_panels, const float* m, float* y) {
  const int64_t columns = smaller(group_panels * kPanelNR, p.K - panel * kPanelNR);
  TileAt at = tile_at(g.tiles, first), ahead = at;
  for (int64_t i = 0; i < count; ++i, at = ahead) {
    ahead = tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1));
    const int64_t rows_left = smaller(kTile, p.P - at.h), columns_left = smaller(kTile, p.Q - at.w);
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t n = smaller(kLanes, columns - c), k = panel * kPanelNR + c;
      if (!epilogue.pool)
        for (int64_t r = 0; r < kTile; ++r)
          for (int64_t s = 0; s < kTile; ++s) {
            const int64_t to = ((ahead.n * p.P + ahead.h + r) * p.Q + ahead.w + s) * p.K + k;
            if (epilogue.residual) prefetch(epilogue.residual + to);
            prefetch_to_write(y + to);
          }
      const float* from = m + (c / kPanelNR * g.rows + i) * kPanelNR + c % kPanelNR;
      vf t[4 * 6], out[16];
      // has(r, s): whether the tile has that point
      const auto pass_columns = [&](const auto& has) FASTCNN_LAMBDA {
        for (int64_t s = 0; s < 6; ++s) {
          const auto load_m = [&](int64_t r)
                                  FASTCNN_LAMBDA { return has(r, s) ? load(from + (r * 6 + s) * g.m_plane) : vf{}; };
          output_pass(load_m(0), load_m(1), load_m(2), load_m(3), load_m(4), load_m(5), t + s, 6);
        }
      };
      if (g.strided)
        pass_columns([](int64_t r, int64_t s) FASTCNN_LAMBDA { return r > 0 && s > 0; });
      else if (at.whole())
        pass_columns([](int64_t, int64_t) FASTCNN_LAMBDA { return true; });
      else
        pass_columns([&](int64_t r, int64_t s) FASTCNN_LAMBDA { return at.has(r * 6 + s); });
      for (int64_t r = 0; r < 4; ++r) {
        const vf* row = t + r * 6;
        output_pass(row[0], row[1], row[2], row[3], row[4], row[5], out + r * 4, 1);
      }
      const vf bias = epilogue.bias ? load_upto(epilogue.bias + k, n) : vf{};
      if (epilogue.pool) {
        const int64_t PH = p.P / 2, PW = p.Q / 2;
        for (int64_t r = 0; r < 2; ++r)
          for (int64_t s = 0; s < 2; ++s) {
            const int64_t ph = at.h / 2 + r, pw = at.w / 2 + s;
            if (ph >= PH || pw >= PW) continue;
            const auto output = [&](int32_t q) FASTCNN_LAMBDA { return out[(2 * r + q / 2) * 4 + 2 * s + q % 2]; };
            Largest best{output(0)};
            for (int32_t q = 1; q < 4; ++q) best.take(output(q), q, epilogue.argmax != nullptr);
            vf largest = best.value + bias;
            if (epilogue.relu) largest = relu(largest);
            const int64_t to = ((at.n * PH + ph) * PW + pw) * p.K + k;
            store_upto(y + to, largest, n);
            if (epilogue.argmax)
              for (int64_t lane = 0; lane < n; ++lane)
                epilogue.argmax[to + lane] = static_cast<uint8_t>(best.place[lane]);
          }
        continue;
      }
      for (int64_t r = 0; r < rows_left; ++r)
        for (int64_t s = 0; s < columns_left; ++s) {
          const int64_t to = ((at.n * p.P + at.h + r) * p.Q + at.w + s) * p.K + k;
          vf v = out[r * 4 + s] + bias;
          if (epilogue.residual) v += load_upto(epilogue.residual + to, n);
          if (epilogue.relu) v = relu(v);
          store_upto(y + to, v, n);
        }
    }
  }
}

// mean and sum of squared deviations of the outputs of a chunk's tiles, channels of one group, while they are in cache
static void chunk_statistics(const Problem& p, const Grid& g, int64_t first, int64_t count, int64_t k0, int64_t columns,
                             const float* y, float* mean, float* squares) {
  // f(y) for the outputs of tile i
  const auto each = [&](int64_t i, int64_t k, int64_t n, const auto& f) FASTCNN_LAMBDA {
    const TileAt at = tile_at(g.tiles, first + i);
    const int64_t rows_left = smaller(kTile, p.P - at.h), columns_left = smaller(kTile, p.Q - at.w);
    for (int64_t r = 0; r < rows_left; ++r)
      for (int64_t s = 0; s < columns_left; ++s)
        f(load_upto(y + ((at.n * p.P + at.h + r) * p.Q + at.w + s) * p.K + k, n));
  };
  // Sums of a tile, then of a run of tiles, then of all: see gemm::kSumRun.
  constexpr int64_t kTiles = gemm::kSumRun;
  for (int64_t c = 0; c < columns; c += kLanes) {
    const int64_t n = smaller(kLanes, columns - c);
    vf total{}, deviations{}, rest{};
    int64_t pixels = 0;
    for (int64_t begin = 0; begin < count; begin += kTiles) {
      vf sum{};
      for (int64_t i = begin; i < smaller(count, begin + kTiles); ++i) {
        vf tile{};
        each(i, k0 + c, n, [&](vf v) FASTCNN_LAMBDA {
          tile += v;
          ++pixels;
        });
        sum += tile;
      }
      total += sum;
    }
    const vf average = total * broadcast(1.0f / static_cast<float>(pixels));
    for (int64_t begin = 0; begin < count; begin += kTiles) {
      vf squares_run{}, rest_run{};
      for (int64_t i = begin; i < smaller(count, begin + kTiles); ++i) {
        vf tile_squares{}, tile_rest{};
        each(i, k0 + c, n, [&](vf v) FASTCNN_LAMBDA {
          const vf d = v - average;
          tile_squares += d * d;
          tile_rest += d;
        });
        squares_run += tile_squares;
        rest_run += tile_rest;
      }
      deviations += squares_run;
      rest += rest_run;
    }
    const vf shift = rest * broadcast(1.0f / static_cast<float>(pixels));  // corrects the rounded mean
    store_upto(mean + k0 + c, average + shift, n);
    store_upto(squares + k0 + c, deviations - rest * shift, n);
  }
}

// Y of some panels of a chunk, and statistics of it
static void finish_panels(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t chunk, int64_t panel,
                          int64_t panels, const float* m, float* y) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  transform_output(p, g, epilogue, first, count, panel, panels, m, y);
  if (!epilogue.statistics) return;
  float* mean = epilogue.statistics + chunk * 2 * p.K;
  chunk_statistics(p, g, first, count, panel * kPanelNR, smaller(panels * kPanelNR, p.K - panel * kPanelNR), y, mean,
                   mean + p.K);
}

static void count_pixels(const Problem& p, const Grid& g, int64_t chunk, int64_t* counts) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  int64_t pixels = 0;
  for (int64_t i = 0; i < count; ++i) {
    const TileAt at = tile_at(g.tiles, first + i);
    pixels += smaller(kTile, p.P - at.h) * smaller(kTile, p.Q - at.w);
  }
  counts[chunk] = pixels;
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
