// Optimizer steps.
#pragma once
#include "driver/harness.hpp"

namespace fastcnn::driver {

inline void check_optimizers(int64_t size) {
  case_name = "optimizers size " + std::to_string(size);
  const Floats grads = uniform(size, -1, 1), start = uniform(size, -1, 1), first = uniform(size, -1, 1),
               second = uniform(size, 0, 1);
  const auto G = [&](int64_t i) { return static_cast<double>(grads[i]); };
  const auto M = [&](int64_t i) { return static_cast<double>(first[i]); };
  const auto sized = [](Values want) {
    for (Value& v : want) v.size += 2;
    return want;
  };
  for (const double nesterov : {0.0, 1.0}) {
    const SGDSettings settings{0.1, 0.9, nesterov};
    Floats m = first, w = start;
    run("sgd_step", {0, 0}, {output(m), output(w)},
        [&](const Scratch&) { table->sgd_step(size, grads.data(), settings, m.data(), w.data()); });
    const auto velocity = [&](int64_t i) { return 0.9 * M(i) - 0.1 * G(i); };
    compare("sgd_step's m", m, sized(values(size, velocity)), 8);
    compare("sgd_step", w,
            sized(values(size,
                         [&](int64_t i) {
                           return static_cast<double>(start[i]) +
                                  (nesterov != 0 ? 0.9 * velocity(i) - 0.1 * G(i) : velocity(i));
                         })),
            8);
  }
  {
    Floats w = start;
    run("sgd_step", {0, 0}, {output(w)},
        [&](const Scratch&) { table->sgd_step(size, grads.data(), {0.1, 0, 0}, nullptr, w.data()); });
    compare("sgd_step without m", w,
            sized(values(size, [&](int64_t i) { return static_cast<double>(start[i]) - 0.1 * G(i); })), 8);
  }
  const AdamSettings settings{0.01, 0.9, 0.999, 1e-7, 3};
  Floats m = first, v = second, w = start;
  run("adam_step", {0, 0}, {output(m), output(v), output(w)},
      [&](const Scratch&) { table->adam_step(size, grads.data(), settings, m.data(), v.data(), w.data()); });
  const double rate = 0.01 * std::sqrt(1 - std::pow(0.999, 3)) / (1 - std::pow(0.9, 3));
  const auto mean = [&](int64_t i) { return 0.9 * M(i) + 0.1 * G(i); };
  const auto square = [&](int64_t i) { return 0.999 * static_cast<double>(second[i]) + 0.001 * G(i) * G(i); };
  compare("adam_step's m", m, sized(values(size, mean)), 8);
  compare("adam_step's v", v, sized(values(size, square)), 8);
  compare("adam_step", w,
          sized(values(size,
                       [&](int64_t i) {
                         return static_cast<double>(start[i]) - rate * mean(i) / (std::sqrt(square(i)) + 1e-7);
                       })),
          64);
}

}  // namespace fastcnn::driver
