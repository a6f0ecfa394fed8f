// A picture through an affine map: whole pixels exactly, places between them within a few roundings.
#pragma once

#include "driver/harness.hpp"

namespace fastcnn::driver {

// The pixel at place i of a row, by walking there from inside.
inline int64_t place_in(int64_t i, int64_t size, Border border) {
  while (i < 0 || i >= size) {
    if (border == Border::wrap)
      i += i < 0 ? size : -size;
    else if (border == Border::reflect)
      i = i < 0 ? -1 - i : 2 * size - 1 - i;
    else
      i = i < 0 ? 0 : size - 1;
  }
  return i;
}

inline void check_warp(const WarpShape& s) {
  const Floats x = uniform(s.H * s.W * s.C, -4, 4);
  const float value = 2.5f;
  // a shift by whole pixels that leaves the picture on all sides, and a turn with places between pixels
  const double matrices[2][6] = {{1, 0, -2, 0, 1, -3}, {0.75, -0.31, 0.2, 0.43, 0.77, -1.6}};
  for (const auto& m : matrices)
    for (const Border border : {Border::nearest, Border::constant, Border::reflect, Border::wrap})
      for (const bool bilinear : {false, true}) {
        case_name = "warp " + std::to_string(s.H) + "x" + std::to_string(s.W) + "x" + std::to_string(s.C) + " border " +
                    std::to_string(static_cast<int>(border)) + (bilinear ? " bilinear" : " nearest pixel");
        Values want(at(s.P * s.Q * s.C));
        for (int64_t p = 0; p < s.P; ++p)
          for (int64_t q = 0; q < s.Q; ++q) {
            const double row = m[0] * static_cast<double>(p) + m[1] * static_cast<double>(q) + m[2];
            const double column = m[3] * static_cast<double>(p) + m[4] * static_cast<double>(q) + m[5];
            const bool outside =
                row < 0 || row > static_cast<double>(s.H - 1) || column < 0 || column > static_cast<double>(s.W - 1);
            for (int64_t c = 0; c < s.C; ++c) {
              Value& w = want[at((p * s.Q + q) * s.C + c)];
              w.size = 4;
              const auto pixel = [&](double h, double v) {
                return static_cast<double>(x[(place_in(static_cast<int64_t>(h), s.H, border) * s.W +
                                              place_in(static_cast<int64_t>(v), s.W, border)) *
                                                 s.C +
                                             c]);
              };
              if (border == Border::constant && outside) {
                w.value = static_cast<double>(value);
              } else if (!bilinear) {
                w.value = pixel(std::floor(row + 0.5), std::floor(column + 0.5));
              } else {
                const double h = std::floor(row), v = std::floor(column), down = row - h, across = column - v;
                w.value = (1 - down) * ((1 - across) * pixel(h, v) + across * pixel(h, v + 1)) +
                          down * ((1 - across) * pixel(h + 1, v) + across * pixel(h + 1, v + 1));
              }
            }
          }
        Floats y(s.P * s.Q * s.C);
        run("warp_forward", {0, 0}, {output(y)},
            [&](const Scratch&) { table->warp_forward(s, x.data(), m, border, value, bilinear, y.data()); });
        compare("warp_forward", y, want, bilinear ? 16 : 0);
      }
}

}  // namespace fastcnn::driver
