// The tile instructions that tiles.hpp uses, in plain loops: the set amx, slowly, on processors without AMX. For tests.
#pragma once
#include "simd/simd.hpp"

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(settings) emulated::configure(settings)
#define _tile_release() emulated::release()
#define _tile_zero(tile) emulated::zero(tile)
#define _tile_loadd(tile, from, stride) emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated::store(tile, to, stride)
#define _tile_dpbf16ps(sums, a, b) emulated::multiply(sums, a, b)

namespace fastcnn::FASTCNN_ISA {
namespace tiles::emulated {

struct Tile {
  int64_t rows, row_bytes;
  char data[16][64];
};
inline thread_local Tile state[8];

inline void configure(const void* settings) {
  const auto* const bytes = static_cast<const uint8_t*>(settings);
  for (int i = 0; i < 8; ++i) {
    uint16_t row_bytes;
    __builtin_memcpy(&row_bytes, bytes + 16 + 2 * i, 2);
    state[i] = {bytes[48 + i], row_bytes, {}};
  }
}
// What is used without a configuration afterwards ends the process, as it would on the processor.
inline void release() {
  for (Tile& tile : state) tile = {-1, -1, {}};
}
inline Tile& configured(int tile) {
  if (state[tile].rows <= 0) __builtin_trap();
  return state[tile];
}
inline void zero(int tile) { __builtin_memset(configured(tile).data, 0, sizeof(Tile::data)); }
inline void load(int tile, const void* from, int64_t stride) {
  Tile& t = configured(tile);
  zero(tile);
  for (int64_t i = 0; i < t.rows; ++i)
    __builtin_memcpy(t.data[i], static_cast<const char*>(from) + i * stride, static_cast<size_t>(t.row_bytes));
}
inline void store(int tile, void* to, int64_t stride) {
  const Tile& t = configured(tile);
  for (int64_t i = 0; i < t.rows; ++i)
    __builtin_memcpy(static_cast<char*>(to) + i * stride, t.data[i], static_cast<size_t>(t.row_bytes));
}

// Denormals are zero, as they are to the instruction.
inline vf flushed(vf value) {
  const vi bits = reinterpret_cast<vi>(value);
  return reinterpret_cast<vf>((bits & 0x7f800000) == 0 ? bits & (vi{} + INT32_MIN) : bits);
}
// The bfloat16 of the lower halves of pairs, and of the upper ones.
inline vf lower(vi pairs) { return flushed(reinterpret_cast<vf>(pairs << 16)); }
inline vf upper(vi pairs) { return flushed(reinterpret_cast<vf>(pairs & static_cast<int32_t>(0xffff0000))); }

// sums[i][j] += sum over pairs k of a[i][k] . b[k][j]: lower and upper halves in a sum each, as Intel's manual has it.
inline void multiply(int sums, int a, int b) {
  Tile& s = configured(sums);
  const Tile &x = configured(a), &y = configured(b);
  if (x.rows != s.rows || y.rows * 4 != x.row_bytes || y.row_bytes != 64 || s.row_bytes != 64) __builtin_trap();
  for (int64_t i = 0; i < s.rows; ++i) {
    vf low{}, high{}, sum;
    for (int64_t k = 0; k < y.rows; ++k) {
      int32_t pair;
      vi row;
      __builtin_memcpy(&pair, x.data[i] + 4 * k, 4);
      __builtin_memcpy(&row, y.data[k], 64);
      low = flushed(low + lower(vi{} + pair) * lower(row));
      high = flushed(high + upper(vi{} + pair) * upper(row));
    }
    __builtin_memcpy(&sum, s.data[i], 64);
    sum = flushed(flushed(sum) + flushed(low + high));
    __builtin_memcpy(s.data[i], &sum, 64);
  }
}

}  // namespace tiles::emulated
}  // namespace fastcnn::FASTCNN_ISA
