// Runs a kernel on 1, 2 and 3 threads and compares what it wrote with values in double.
#pragma once
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/kernels.hpp"
#include "core/threads.hpp"
#include "driver/guarded.hpp"

namespace fastcnn::driver {

constexpr double kUnitRoundoff = 0x1p-24;

inline int64_t checks = 0, failures = 0;
inline const Kernels* table;   // under test
inline std::string case_name;  // of the shape under test

inline void fail(const std::string& sentence) {
  if (++failures <= 20) std::fprintf(stderr, "FAIL %s[%s]: %s\n", case_name.c_str(), table->isa, sentence.c_str());
}

struct Output {
  void* data;
  int64_t bytes;
};
template <class T>
Output output(Guarded<T>& a) {
  return {a.data(), a.size() * static_cast<int64_t>(sizeof(T))};
}

// Runs f(scratch) on 1, 2 and 3 threads from the same start; the bits of the outputs may not differ.
template <class F>
void run(const char* op, ScratchSize size, std::initializer_list<Output> outputs, const F& f) {
  std::vector<std::vector<char>> start, first;
  for (const Output& o : outputs) start.emplace_back(static_cast<char*>(o.data), static_cast<char*>(o.data) + o.bytes);
  for (int threads = 1; threads <= 3; ++threads) {
    const int64_t worker_bytes = (size.per_worker + 63) / 64 * 64;
    Guarded<char> shared(size.shared, 64), workers(threads * worker_bytes, 64);
    size_t index = 0;
    for (const Output& o : outputs) std::memcpy(o.data, start[index++].data(), size_t(o.bytes));
    set_num_threads(threads);
    f(Scratch{shared.data(), workers.data(), worker_bytes});
    index = 0;
    for (const Output& o : outputs) {
      const char* bytes = static_cast<const char*>(o.data);
      if (threads == 1) {
        first.emplace_back(bytes, bytes + o.bytes);
      } else {
        ++checks;
        if (o.bytes && std::memcmp(bytes, first[index].data(), size_t(o.bytes)) != 0)
          fail(std::string(op) + ": output " + std::to_string(index) + " differs on " + std::to_string(threads) +
               " threads");
      }
      ++index;
    }
  }
}

struct Value {
  double value = 0, size = 0;  // size: sum of the absolute terms
  void add(double term) {
    value += term;
    size += std::fabs(term);
  }
};
using Values = std::vector<Value>;

// |got - want| <= units * u * size for each element; units 0: equal.
template <class T>
void compare(const char* op, const Guarded<T>& got, const Values& want, double units = 0) {
  ++checks;
  if (static_cast<size_t>(got.size()) != want.size())
    return fail(std::string(op) + ": the test compares different sizes");
  for (int64_t i = 0; i < got.size(); ++i) {
    const Value& w = want[static_cast<size_t>(i)];
    const double difference = std::fabs(static_cast<double>(got[i]) - w.value);
    if (difference <= units * kUnitRoundoff * w.size + (units > 0 ? 0x1p-126 : 0)) continue;
    return fail(std::string(op) + ": element " + std::to_string(i) + " is " +
                std::to_string(static_cast<double>(got[i])) + ", expected " + std::to_string(w.value));
  }
}

inline double relu(double a) { return a < 0 ? 0 : a; }
inline size_t at(int64_t i) { return static_cast<size_t>(i); }

// want[i] = f(i), its own magnitude
template <class F>
Values values(int64_t size, const F& f) {
  Values want(at(size));
  for (int64_t i = 0; i < size; ++i) want[at(i)].add(f(i));
  return want;
}

}  // namespace fastcnn::driver
