// Products of float32 on bfloat16 tile registers (Intel AMX), and the tile instructions: the other place for
// intrinsics.
//
// A float32 is the sum of three bfloat16, of 8 significant bits each: x = x1 + x2 + x3, exactly. Of the nine products
// of two such sums the six largest are added up in float32; those left out are below 2^-24 of x*y, as a rounding is
// (Henry, Tang and Heinecke 2019). Tile registers do 16 times the multiply-adds of a float32 vector unit, so six
// products still take little more than a third of the time.
//
// Values of k come in groups of 32, as 16 pairs (i, 16 + i) that lie side by side. A: [group][part][row][pair][2];
// B: [group][part][half of the columns][pair][column][2], split from floats [group][32][32] shortly before it is used:
// they are a third less to read, and the vector units would idle otherwise.
#pragma once
#include "simd/simd.hpp"

#if defined(__AMX_BF16__)
#define FASTCNN_TILES 1
#ifdef FASTCNN_EMULATED_TILES
#include "simd/tiles_emulated.hpp"
#endif

namespace fastcnn::FASTCNN_ISA {
namespace tiles {

constexpr int64_t kGroup = 32;  // values of k
constexpr int64_t kParts = 3;
constexpr int64_t kRows = 32;  // at most, of a product: two registers
constexpr int64_t kColumns = 32;
constexpr int64_t kRowParts = kGroup / 2;  // floats that one part of a group takes in a row
constexpr int64_t kGroupB = kGroup * kColumns;  // floats of a group of B
constexpr int64_t kGroupParts = kParts * kGroupB / 2;  // and of its parts
constexpr int64_t kGroupsB = 2;  // groups of B split at a time: with the rows that pass by they stay in the L1 cache

// Registers 0..3 hold sums, 4 and 5 the `upper` and `lower` rows of A, 6 and 7 columns of B. They are given back at the
// end of the object's life.
struct Registers {
  int64_t upper = 0, lower = 0;
  FASTCNN_INLINE void configure(int64_t rows) {
    const int64_t first = rows <= 16 ? rows : rows - rows / 2, second = rows - first;
    if (first == upper && second == lower) return;
    upper = first;
    lower = second;
    struct {
      uint8_t palette, start, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    } settings{};
    settings.palette = 1;
    const int64_t counts[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      settings.row_bytes[i] = counts[i] ? 64 : 0;
      settings.rows[i] = static_cast<uint8_t>(counts[i]);
    }
    asm volatile("" ::"r"(&settings) : "memory");  // to the compiler the next line reads its first 8 bytes
    _tile_loadconfig(&settings);
  }
  FASTCNN_INLINE ~Registers() { _tile_release(); }
};

// Three parts of two vectors, the values of a group in 16 lanes: the pair of a lane lies in its halves.
struct Parts {
  vi part[kParts];
};
FASTCNN_INLINE bool any(vi lanes) {
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(lanes), reinterpret_cast<__m512i>(lanes)) != 0;
}
FASTCNN_INLINE vi rounded(vf x) { return (reinterpret_cast<vi>(x) + 0x8000) & static_cast<int32_t>(0xffff0000); }
FASTCNN_INLINE vi pairs(vi low, vi high) {
  typedef uint32_t vu __attribute__((vector_size(64)));
  return reinterpret_cast<vi>(reinterpret_cast<vu>(low) >> 16) | (high & static_cast<int32_t>(0xffff0000));
}
FASTCNN_INLINE Parts split(vf x, vf y) {
  const vi x1 = rounded(x), y1 = rounded(y);
  const vf x_rest = x - reinterpret_cast<vf>(x1), y_rest = y - reinterpret_cast<vf>(y1);
  const vi x2 = rounded(x_rest), y2 = rounded(y_rest);
  // What is left has 8 bits, but for subnormal numbers, of which the registers make zero.
  const vf x3 = x_rest - reinterpret_cast<vf>(x2), y3 = y_rest - reinterpret_cast<vf>(y2);
  return {{pairs(x1, y1), pairs(x2, y2), pairs(reinterpret_cast<vi>(x3), reinterpret_cast<vi>(y3))}};
}
// As split, of values that may be infinite or NaN: these are their own first part, and the others are zero.
FASTCNN_INLINE Parts split_any(vf x, vf y) {
  const vf zero{};
  const vi x_finite = (x - x) == zero, y_finite = (y - y) == zero;
  Parts parts = split(select(x_finite, x, zero), select(y_finite, y, zero));
  const vi quiet = vi{} + 0x400000;
  const auto special = [&](vf v, vi finite) FASTCNN_LAMBDA {
    const vi bits = reinterpret_cast<vi>(v);
    return ~finite & (v == v ? bits : (bits | quiet)) & static_cast<int32_t>(0xffff0000);
  };
  parts.part[0] |= pairs(special(x, x_finite), special(y, y_finite));
  return parts;
}
// `part_step` floats from part to part.
FASTCNN_INLINE void store_parts(const Parts& parts, float* to, int64_t part_step) {
  FASTCNN_UNROLL for (int64_t i = 0; i < kParts; ++i) store(to + i * part_step, reinterpret_cast<vf>(parts.part[i]));
}
// The parts of a group of B; `any`: see split_any.
FASTCNN_INLINE void split_group(const float* b, bool any, float* parts) {
  constexpr int64_t kPair = kLanes * kColumns;  // from one value of a pair to the other
  const auto rows = [&](const auto& split_pair) FASTCNN_LAMBDA {
    for (int64_t half = 0; half < 2; ++half, b += kLanes)
      for (int64_t i = 0; i < kGroup / 2; ++i, parts += kRowParts)
        store_parts(split_pair(load(b + i * kColumns), load(b + i * kColumns + kPair)), parts, kGroupB / 2);
  };
  if (any)
    rows([](vf x, vf y) FASTCNN_LAMBDA { return split_any(x, y); });
  else
    rows([](vf x, vf y) FASTCNN_LAMBDA { return split(x, y); });
}
// Rows become columns: blocks of `step` lanes change places between rows that are `step` apart.
template <int step>
FASTCNN_INLINE void exchange(vf* rows) {
  constexpr auto low = [](int lane) { return lane & step ? kLanes + lane - step : lane; };
  constexpr auto high = [](int lane) { return lane & step ? kLanes + lane : lane + step; };
  constexpr vi to_low{low(0), low(1), low(2),  low(3),  low(4),  low(5),  low(6),  low(7),
                      low(8), low(9), low(10), low(11), low(12), low(13), low(14), low(15)};
  constexpr vi to_high{high(0), high(1), high(2),  high(3),  high(4),  high(5),  high(6),  high(7),
                       high(8), high(9), high(10), high(11), high(12), high(13), high(14), high(15)};
  FASTCNN_UNROLL for (int64_t first = 0; first < kLanes; first += 2 * step) {
    FASTCNN_UNROLL for (int64_t i = first; i < first + step; ++i) {
      const vf a = rows[i], b = rows[i + step];
      rows[i] = __builtin_shuffle(a, b, to_low);
      rows[i + step] = __builtin_shuffle(a, b, to_high);
    }
  }
}
FASTCNN_INLINE void transpose(vf* rows) {
  exchange<8>(rows);
  exchange<4>(rows);
  exchange<2>(rows);
  exchange<1>(rows);
}

// The float that parts at `at` (halves of a pair, `step` halves from part to part) stand for.
FASTCNN_INLINE float joined(const uint16_t* at, int64_t step) {
  float part[kParts];
  for (int64_t i = 0; i < kParts; ++i) {
    const uint32_t bits = static_cast<uint32_t>(at[i * step]) << 16;
    __builtin_memcpy(&part[i], &bits, 4);
  }
  return part[0] + (part[1] + part[2]);
}

// Rows come in parts of equal size, since the registers' is slow to change; the last part may end with rows that do not
// count.
FASTCNN_INLINE int64_t part_rows(int64_t rows) {
  const int64_t parts = (rows + kRows - 1) / kRows;
  return parts ? (rows + parts - 1) / parts : 0;
}
FASTCNN_INLINE int64_t padded_rows(int64_t rows) {
  const int64_t part = part_rows(rows);
  return part ? (rows + part - 1) / part * part : 0;
}

// Tile loads that follow see the stores before: the compiler does not know what they read.
FASTCNN_INLINE void settle() { asm volatile("" ::: "memory"); }
FASTCNN_INLINE void zero_sums(bool both) {
  _tile_zero(0);
  _tile_zero(1);
  if (both) {
    _tile_zero(2);
    _tile_zero(3);
  }
}
FASTCNN_INLINE void load_sums(const float* y, int64_t row_stride, int64_t upper, bool both) {
  _tile_loadd(0, y, row_stride * 4);
  _tile_loadd(1, y + 16, row_stride * 4);
  if (both) {
    _tile_loadd(2, y + upper * row_stride, row_stride * 4);
    _tile_loadd(3, y + upper * row_stride + 16, row_stride * 4);
  }
}
FASTCNN_INLINE void store_sums(float* y, int64_t row_stride, int64_t upper, bool both) {
  _tile_stored(0, y, row_stride * 4);
  _tile_stored(1, y + 16, row_stride * 4);
  if (both) {
    _tile_stored(2, y + upper * row_stride, row_stride * 4);
    _tile_stored(3, y + upper * row_stride + 16, row_stride * 4);
  }
}

template <bool kBoth>
FASTCNN_INLINE void load_rows(const float* a, int64_t upper) {
  _tile_loadd(4, a, 64);
  if constexpr (kBoth) _tile_loadd(5, a + upper * kRowParts, 64);
}
FASTCNN_INLINE void load_columns(const float* b, int64_t half) {
  _tile_loadd(6, b, 64);
  _tile_loadd(7, b + half, 64);
}
template <bool kBoth>
FASTCNN_INLINE void add_products() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (kBoth) {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}
constexpr int64_t kFetches = 6;  // of `ahead` in a product

// Floats from part to part of A and B, and between the halves of B's columns.
struct Steps {
  int64_t a_part, b_part = kGroupB / 2, b_half = 16 * 16;
};

// sums += A B over one group. Small products come first. Between them `ahead` fetches a few lines: many at once would
// hold up the loads that follow.
template <bool kBoth, class Ahead>
FASTCNN_INLINE void multiply(const float* a, const float* b, const Steps& steps, int64_t upper, Ahead& ahead) {
  load_rows<kBoth>(a, upper);
  load_columns(b + 2 * steps.b_part, steps.b_half);
  add_products<kBoth>();  // 1 x 3
  ahead.fetch();
  load_columns(b + steps.b_part, steps.b_half);
  add_products<kBoth>();  // 1 x 2
  ahead.fetch();
  load_rows<kBoth>(a + steps.a_part, upper);
  add_products<kBoth>();  // 2 x 2
  ahead.fetch();
  load_columns(b, steps.b_half);
  add_products<kBoth>();  // 2 x 1
  ahead.fetch();
  load_rows<kBoth>(a + 2 * steps.a_part, upper);
  add_products<kBoth>();  // 3 x 1
  ahead.fetch();
  load_rows<kBoth>(a, upper);
  add_products<kBoth>();  // 1 x 1
  ahead.fetch();
}

// Registers (+)= A B over `count` groups; sums: where earlier ones are, a(k): rows of group k.
template <class A, class Ahead>
FASTCNN_INLINE void multiply_groups(const Registers& registers, bool fresh, int64_t count, const A& a, int64_t a_part,
                                    const float* b, const float* sums, Ahead& ahead) {
  const bool both = registers.lower > 0;
  const Steps steps{a_part};
  if (fresh)
    zero_sums(both);
  else
    load_sums(sums, kColumns, registers.upper, both);
  if (both)
    for (int64_t k = 0; k < count; ++k) multiply<true>(a(k), b + k * kGroupParts, steps, registers.upper, ahead);
  else
    for (int64_t k = 0; k < count; ++k) multiply<false>(a(k), b + k * kGroupParts, steps, registers.upper, ahead);
}

}  // namespace tiles
}  // namespace fastcnn::FASTCNN_ISA
#else
#define FASTCNN_TILES 0
#endif
