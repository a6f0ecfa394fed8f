#include "bindings/arrays.hpp"

namespace fastcnn::bindings {

std::string text(const Dims& dims) {
  std::string out = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i) out += ", ";
    out += dims[i] == kAny ? "any" : std::to_string(dims[i]);
  }
  return out + "]";
}

Dims dims_of(const Array& array) { return Dims(array.shape(), array.shape() + array.ndim()); }

int64_t total(const Dims& dims) {
  int64_t size = 1;
  for (int64_t d : dims) size *= d;
  return size;
}

void Check::fail(const std::string& sentence) const { throw py::value_error(std::string(op_) + ": " + sentence); }

int64_t Check::product(std::initializer_list<int64_t> factors) const {
  int64_t result = 1;
  for (int64_t factor : factors)
    if (__builtin_mul_overflow(result, factor, &result)) fail("the sizes are too large for 64-bit arithmetic");
  return result;
}

void Check::rank(const char* name, const Array& array, int64_t rank, const char* letters) const {
  if (array.ndim() != rank)
    fail(std::string(name) + " must have rank " + std::to_string(rank) + " " + letters + " but is " +
         text(dims_of(array)));
}

void Check::layout(const char* name, const Array& array, const py::dtype& dtype, const Dims& dims) const {
  if (!array.dtype().is(dtype) && !array.dtype().equal(dtype))
    throw py::type_error(std::string(op_) + ": " + name + " must be " + std::string(py::str(dtype)) + " but is " +
                         std::string(py::str(array.dtype())));
  const Dims given = dims_of(array);
  bool fits = given.size() == dims.size();
  for (size_t i = 0; fits && i < dims.size(); ++i) fits = dims[i] == kAny || dims[i] == given[i];
  if (!fits) fail(std::string(name) + " must be " + text(dims) + " but is " + text(given));
  if (!(array.flags() & py::array::c_style)) fail(std::string(name) + " must be C-contiguous");
  if (reinterpret_cast<uintptr_t>(array.data()) % static_cast<uintptr_t>(dtype.itemsize()) != 0)
    fail(std::string(name) + " must be aligned to its item size");
}

void Check::apart(const char* out_name, const Array& out, const char* in_name, const Array& in,
                  bool same_allowed) const {
  const auto* a = static_cast<const char*>(out.data());
  const auto* b = static_cast<const char*>(in.data());
  if (a + out.nbytes() <= b || b + in.nbytes() <= a || out.nbytes() == 0 || in.nbytes() == 0) return;
  if (same_allowed && a == b && out.nbytes() == in.nbytes()) return;
  fail(std::string(out_name) + " shares memory with " + in_name);
}

}  // namespace fastcnn::bindings
