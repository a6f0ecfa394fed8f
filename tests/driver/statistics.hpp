// Means and squared deviations kept per block of rows, as convolutions and batch normalisation make them.
#pragma once
#include <algorithm>
#include <utility>

#include "driver/harness.hpp"

namespace fastcnn::driver {

// Statistics of blocks merged in order: mean and squared deviations of each channel.
inline std::pair<Values, Values> merge(const Floats& statistics, const Guarded<int64_t>& counts, int64_t C) {
  Values mean(at(C)), squares(at(C));
  for (int64_t c = 0; c < C; ++c) {
    double total = 0;
    for (int64_t block = 0; block < counts.size(); ++block) {
      const double count = static_cast<double>(counts[block]);
      if (count == 0) continue;
      const double d = statistics[(2 * block) * C + c] - mean[at(c)].value;
      squares[at(c)].value += statistics[(2 * block + 1) * C + c] + d * d * total * count / (total + count);
      mean[at(c)].value += d * count / (total + count);
      total += count;
    }
  }
  return {mean, squares};
}

inline void check_statistics(const char* op, const Floats& statistics, const Guarded<int64_t>& counts, const Values& y,
                             int64_t C) {
  const double rows = static_cast<double>(y.size()) / static_cast<double>(C);
  const auto [mean, squares] = merge(statistics, counts, C);
  int64_t total = 0;
  for (int64_t block = 0; block < counts.size(); ++block) total += counts[block];
  ++checks;
  if (static_cast<double>(total) != rows) fail(std::string(op) + ": counts add up to " + std::to_string(total));
  for (int64_t c = 0; c < C; ++c) {
    double sum = 0, most = 0, squared = 0;
    for (size_t i = at(c); i < y.size(); i += at(C)) {
      sum += y[i].value;
      most = std::max(most, y[i].size + std::fabs(y[i].value));
    }
    for (size_t i = at(c); i < y.size(); i += at(C)) squared += (y[i].value - sum / rows) * (y[i].value - sum / rows);
    ++checks;
    if (!(std::fabs(mean[at(c)].value - sum / rows) <= 1e-5 * most)) fail(std::string(op) + ": wrong mean");
    if (!(std::fabs(squares[at(c)].value - squared) <= 1e-5 * (squared + rows * most)))
      fail(std::string(op) + ": wrong squares");
  }
}

}  // namespace fastcnn::driver
