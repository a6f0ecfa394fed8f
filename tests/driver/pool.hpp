// Pooling and zero padding.
#pragma once
#include "driver/harness.hpp"

namespace fastcnn::driver {

// f(index into y, index into x, place in the window) for each pixel in each window
template <class F>
void for_places(const Pool2DShape& s, const F& f) {
  for (int64_t o = 0; o < s.N * s.P * s.Q * s.C; ++o) {
    const int64_t c = o % s.C, q = o / s.C % s.Q, p = o / s.C / s.Q % s.P, n = o / s.C / s.Q / s.P;
    for (int64_t place = 0; place < s.R * s.S; ++place) {
      const int64_t h = p * s.stride_h - s.pad_top + place / s.S, w = q * s.stride_w - s.pad_left + place % s.S;
      if (h >= 0 && h < s.H && w >= 0 && w < s.W) f(o, ((n * s.H + h) * s.W + w) * s.C + c, place);
    }
  }
}

inline void check_pool(const Pool2DShape& s) {
  case_name = "pool H" + std::to_string(s.H) + "W" + std::to_string(s.W) + "C" + std::to_string(s.C) + "R" +
              std::to_string(s.R) + "S" + std::to_string(s.S) + " stride " + std::to_string(s.stride_h);
  const int64_t inputs = s.N * s.H * s.W * s.C, outputs = s.N * s.P * s.Q * s.C;
  const Floats x = integers(inputs), dy = integers(outputs), before = integers(inputs);
  Values most(at(outputs), {-1e30, 0}), winner(at(outputs)), places(at(outputs)), mean(at(outputs)), count(at(outputs));
  for_places(s, [&](int64_t o, int64_t i, int64_t place) {
    mean[at(o)].add(static_cast<double>(x[i]));
    count[at(o)].value += 1;
    if (static_cast<double>(x[i]) <= most[at(o)].value) return;
    most[at(o)].value = static_cast<double>(x[i]);
    winner[at(o)].value = static_cast<double>(i);
    places[at(o)].value = static_cast<double>(place);
  });
  for (int64_t o = 0; o < outputs; ++o) mean[at(o)].value /= count[at(o)].value;

  Floats y(outputs);
  Guarded<uint8_t> argmax(outputs);
  run("max_pool2d_forward", {0, 0}, {output(y), output(argmax)},
      [&](const Scratch&) { table->max_pool2d_forward(s, x.data(), y.data(), argmax.data()); });
  compare("max_pool2d_forward", y, most);
  compare("max_pool2d_forward's argmax", argmax, places);
  run("max_pool2d_forward", {0, 0}, {output(y)},
      [&](const Scratch&) { table->max_pool2d_forward(s, x.data(), y.data(), nullptr); });
  compare("max_pool2d_forward without argmax", y, most);
  run("average_pool2d_forward", {0, 0}, {output(y)},
      [&](const Scratch&) { table->average_pool2d_forward(s, x.data(), y.data()); });
  compare("average_pool2d_forward", y, mean, 8);

  for (const bool accumulate : {false, true}) {
    Values want_max(at(inputs)), want_mean(at(inputs));
    for (int64_t i = 0; accumulate && i < inputs; ++i) {
      want_max[at(i)].add(static_cast<double>(before[i]));
      want_mean[at(i)].add(static_cast<double>(before[i]));
    }
    for (int64_t o = 0; o < outputs; ++o)
      want_max[at(static_cast<int64_t>(winner[at(o)].value))].add(static_cast<double>(dy[o]));
    for_places(s, [&](int64_t o, int64_t i, int64_t) {
      want_mean[at(i)].add(static_cast<double>(dy[o]) / count[at(o)].value);
    });
    Floats dx = accumulate ? before : Floats(inputs);
    run("max_pool2d_backward", {0, 0}, {output(dx)},
        [&](const Scratch&) { table->max_pool2d_backward(s, dy.data(), argmax.data(), accumulate, dx.data()); });
    compare("max_pool2d_backward", dx, want_max);
    if (accumulate) dx = before;
    run("average_pool2d_backward", {0, 0}, {output(dx)},
        [&](const Scratch&) { table->average_pool2d_backward(s, dy.data(), accumulate, dx.data()); });
    compare("average_pool2d_backward", dx, want_mean, 16);
  }
}

inline void check_global_max_pool(int64_t N, int64_t HW, int64_t C) {
  case_name = "global max-pool HW" + std::to_string(HW) + "C" + std::to_string(C);
  const Floats x = integers(N * HW * C), dy = integers(N * C);
  Values most(at(N * C), {-1e30, 0}), places(at(N * C));
  for (int64_t i = 0; i < x.size(); ++i) {  // ascending pixels: the first of equal values stays
    const size_t o = at(i / (HW * C) * C + i % C);
    if (static_cast<double>(x[i]) <= most[o].value) continue;
    most[o].value = static_cast<double>(x[i]);
    places[o].value = static_cast<double>(i / C % HW);
  }
  Floats y(N * C);
  Guarded<int64_t> argmax(N * C);
  run("global_max_pool2d_forward", {0, 0}, {output(y), output(argmax)},
      [&](const Scratch&) { table->global_max_pool2d_forward(N, HW, C, x.data(), y.data(), argmax.data()); });
  compare("global_max_pool2d_forward", y, most);
  compare("global_max_pool2d_forward's argmax", argmax, places);
  run("global_max_pool2d_forward", {0, 0}, {output(y)},
      [&](const Scratch&) { table->global_max_pool2d_forward(N, HW, C, x.data(), y.data(), nullptr); });
  compare("global_max_pool2d_forward without argmax", y, most);
  for (const bool accumulate : {false, true}) {
    Values want(at(x.size()));
    for (int64_t i = 0; accumulate && i < x.size(); ++i) want[at(i)].add(static_cast<double>(x[i]));
    for (int64_t o = 0; o < N * C; ++o) {
      const int64_t pixel = o / C * HW + static_cast<int64_t>(places[at(o)].value);
      want[at(pixel * C + o % C)].add(static_cast<double>(dy[o]));
    }
    Floats dx = accumulate ? x : Floats(x.size());
    run("global_max_pool2d_backward", {0, 0}, {output(dx)}, [&](const Scratch&) {
      table->global_max_pool2d_backward(N, HW, C, dy.data(), argmax.data(), accumulate, dx.data());
    });
    compare("global_max_pool2d_backward", dx, want);
  }
}

inline void check_global_pool_and_padding(int64_t N, int64_t H, int64_t W, int64_t C) {
  case_name = "global pool, padding H" + std::to_string(H) + "W" + std::to_string(W) + "C" + std::to_string(C);
  const int64_t HW = H * W, top = 1, left = 2, P = H + 3, Q = W + 2;
  const Pool2DShape s{N, H, W, C, 1, 1, 1, 1, top, left, P, Q};
  const Floats x = integers(N * HW * C), dmean = integers(N * C), dpadded = integers(N * P * Q * C);
  Values mean(at(N * C)), padded(at(N * P * Q * C));
  const auto inner = [=](int64_t i) {  // where pixel i of x lies in the padded array
    const int64_t c = i % C, w = i / C % W, h = i / C / W % H, n = i / C / W / H;
    return ((n * P + h + top) * Q + w + left) * C + c;
  };
  for (int64_t i = 0; i < x.size(); ++i) {
    mean[at(i / (HW * C) * C + i % C)].add(static_cast<double>(x[i]) / static_cast<double>(HW));
    padded[at(inner(i))].value = static_cast<double>(x[i]);
  }
  Floats y(N * C), z(N * P * Q * C);
  run("global_average_pool2d_forward", {0, 0}, {output(y)},
      [&](const Scratch&) { table->global_average_pool2d_forward(N, HW, C, x.data(), y.data()); });
  compare("global_average_pool2d_forward", y, mean, 2 * std::sqrt(static_cast<double>(HW)) + 2);
  run("zero_pad2d_forward", {0, 0}, {output(z)},
      [&](const Scratch&) { table->zero_pad2d_forward(s, x.data(), z.data()); });
  compare("zero_pad2d_forward", z, padded);
  for (const bool accumulate : {false, true}) {
    Values want_mean(at(x.size())), want_inner(at(x.size()));
    for (int64_t i = 0; i < x.size(); ++i) {
      const double start = accumulate ? static_cast<double>(x[i]) : 0;
      want_mean[at(i)].add(start);
      want_mean[at(i)].add(static_cast<double>(dmean[i / (HW * C) * C + i % C]) / static_cast<double>(HW));
      want_inner[at(i)].value = start + static_cast<double>(dpadded[inner(i)]);
    }
    Floats dx = accumulate ? x : Floats(x.size());
    run("global_average_pool2d_backward", {0, 0}, {output(dx)},
        [&](const Scratch&) { table->global_average_pool2d_backward(N, HW, C, dmean.data(), accumulate, dx.data()); });
    compare("global_average_pool2d_backward", dx, want_mean, 4);
    if (accumulate) dx = x;
    run("zero_pad2d_backward", {0, 0}, {output(dx)},
        [&](const Scratch&) { table->zero_pad2d_backward(s, dpadded.data(), accumulate, dx.data()); });
    compare("zero_pad2d_backward", dx, want_inner);
  }
}

}  // namespace fastcnn::driver
