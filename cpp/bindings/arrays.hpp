// The wall between Python and the engine: numpy arrays become checked pointers here and nowhere else.
// Arrays are float32 (or the type asked for), native, C-contiguous, never converted; outputs are given, never resized.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace fastcnn::bindings {

namespace py = pybind11;

using Array = py::array;
using OptionalArray = std::optional<py::array>;
using Dims = std::vector<int64_t>;
constexpr int64_t kAny = -1;

std::string text(const Dims& dims);  // "[8, 56, 56, 32]"
Dims dims_of(const Array& array);

// One operation's name, for its error sentences.
class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  // The data of `array` after checking type, order and shape; kAny fits every size.
  template <class T = float>
  const T* in(const char* name, const Array& array, const Dims& dims) const {
    layout(name, array, py::dtype::of<T>(), dims);
    return static_cast<const T*>(array.data());
  }
  template <class T = float>
  const T* in(const char* name, const OptionalArray& array, const Dims& dims) const {
    return array ? in<T>(name, *array, dims) : nullptr;
  }
  template <class T = float>
  T* out(const char* name, Array& array, const Dims& dims) const {
    layout(name, array, py::dtype::of<T>(), dims);
    if (!array.writeable()) fail(std::string(name) + " is read-only");
    return static_cast<T*>(array.mutable_data());
  }
  template <class T = float>
  T* out(const char* name, OptionalArray& array, const Dims& dims) const {
    return array ? out<T>(name, *array, dims) : nullptr;
  }
  // An output may not share memory with an input, unless it is the very same array and the operation allows that.
  void apart(const char* out_name, const Array& out, const char* in_name, const Array& in,
             bool same_allowed = false) const;

  void rank(const char* name, const Array& array, int64_t rank, const char* letters) const;
  void require(bool condition, const std::string& sentence) const {
    if (!condition) fail(sentence);
  }
  [[noreturn]] void fail(const std::string& sentence) const;
  int64_t product(std::initializer_list<int64_t> factors) const;  // checked: an overflow is an error

 private:
  void layout(const char* name, const Array& array, const py::dtype& dtype, const Dims& dims) const;
  const char* op_;
};

int64_t total(const Dims& dims);

}  // namespace fastcnn::bindings
