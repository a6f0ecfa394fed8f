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
  const UpdateSettings plain{1, HUGE_VAL, 0};
  for (const double nesterov : {0.0, 1.0}) {
    const SGDSettings settings{0.1, 0.9, nesterov, plain};
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
        [&](const Scratch&) { table->sgd_step(size, grads.data(), {0.1, 0, 0, plain}, nullptr, w.data()); });
    compare("sgd_step without m", w,
            sized(values(size, [&](int64_t i) { return static_cast<double>(start[i]) - 0.1 * G(i); })), 8);
  }
  const AdamSettings settings{0.01, 0.9, 0.999, 1e-7, 3, plain};
  Floats m = first, v = second, w = start;
  run("adam_step", {0, 0}, {output(m), output(v), output(w)},
      [&](const Scratch&) { table->adam_step(size, grads.data(), settings, m.data(), v.data(), nullptr, w.data()); });
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
  Floats v_max = second;
  m = first, v = second, w = start;
  run("adam_step", {0, 0}, {output(m), output(v), output(v_max), output(w)}, [&](const Scratch&) {
    table->adam_step(size, grads.data(), settings, m.data(), v.data(), v_max.data(), w.data());
  });
  const auto largest = [&](int64_t i) { return std::fmax(static_cast<double>(second[i]), square(i)); };
  compare("adam_step's v_max", v_max, sized(values(size, largest)), 8);
}

inline void check_rmsprop(int64_t size) {
  case_name = "rmsprop size " + std::to_string(size);
  const Floats grads = uniform(size, -1, 1), start = uniform(size, -1, 1), momentum = uniform(size, -1, 1),
               square = uniform(size, 2, 3), centre = uniform(size, -1, 1);
  const RMSpropSettings settings{0.01, 0.9, 0.5, 1e-7, {0.5, 0.25, 0.125}};
  const auto G = [&](int64_t i) { return std::fmin(0.25, std::fmax(-0.25, static_cast<double>(grads[i]) / 2)); };
  const auto V = [&](int64_t i) { return 0.9 * static_cast<double>(square[i]) + 0.1 * G(i) * G(i); };
  const auto mean_of = [&](int64_t i) { return 0.9 * static_cast<double>(centre[i]) + 0.1 * G(i); };
  for (const bool centered : {false, true}) {
    for (const bool heavy : {false, true}) {
      Floats w = start, v = square, m = momentum, mean = centre;
      run("rmsprop_step", {0, 0}, {output(v), output(m), output(mean), output(w)}, [&](const Scratch&) {
        table->rmsprop_step(size, grads.data(), settings, v.data(), heavy ? m.data() : nullptr,
                            centered ? mean.data() : nullptr, w.data());
      });
      const auto step = [&](int64_t i) {
        const double variance = V(i) - (centered ? mean_of(i) * mean_of(i) : 0);
        return (heavy ? 0.5 * static_cast<double>(momentum[i]) : 0) + 0.01 * G(i) / std::sqrt(variance + 1e-7);
      };
      Values want = values(size, [&](int64_t i) { return 0.875 * static_cast<double>(start[i]) - step(i); });
      for (Value& value : want) value.size += 2;
      compare("rmsprop_step", w, want, 16);
      compare("rmsprop_step's v", v, values(size, V), 8);
    }
  }
}

inline void check_ema_and_norms(int64_t size) {
  case_name = "ema and norms size " + std::to_string(size);
  const Floats start = integers(size), before = integers(size);
  for (const double overwrite : {0.0, 1.0}) {
    Floats w = start, average = before;
    run("ema_step", {0, 0}, {output(w), output(average)},
        [&](const Scratch&) { table->ema_step(size, {0.5, overwrite}, average.data(), w.data()); });
    const Values mean = values(size, [&](int64_t i) { return (static_cast<double>(before[i]) + start[i]) / 2; });
    compare("ema_step", average, mean);
    compare("ema_step's w", w,
            overwrite != 0 ? mean : values(size, [&](int64_t i) { return static_cast<double>(start[i]); }));
  }
  const int64_t offsets[] = {0, size / 3, size / 3, size};
  Guarded<double> sums(3);
  run("squared_norms", table->squared_norms_scratch(size), {output(sums)},
      [&](const Scratch& scratch) { table->squared_norms(3, offsets, start.data(), sums.data(), scratch); });
  Values want(3);
  for (size_t part = 0; part < 3; ++part)
    for (int64_t i = offsets[part]; i < offsets[part + 1]; ++i)
      want[part].add(static_cast<double>(start[i]) * static_cast<double>(start[i]));
  compare("squared_norms", sums, want);
}

}  // namespace fastcnn::driver
