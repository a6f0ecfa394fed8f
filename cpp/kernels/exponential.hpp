// exp of a vector, within 1 ULP.
#pragma once
#include "simd/simd.hpp"

namespace fastcnn::FASTCNN_ISA {

constexpr int64_t kExpCost = 16;  // multiply-adds

// 2^n for -126 <= n <= 127
FASTCNN_INLINE vf power_of_two(vi n) { return reinterpret_cast<vf>((n + 127) << 23); }

// exp(x - most) for x <= most, within 1 ULP; denormal results too. With a + rest = x - most without error (Knuth's
// sum), exp = 2^n * exp(r), r = a + rest - n*ln 2, |r| <= ln(2)/2, and exp(r) = 1 + r + r^2 * q(r), where q has the
// least greatest relative error (0.06 * 2^-24) of its degree.
FASTCNN_INLINE vf exponential_below(vf x, vf most) {
  const vf least = broadcast(-105.0f);  // below, the result rounds to 0
  const vf shifter = broadcast(0x1.8p23f);  // adding it rounds to an integer, which stands in the low bits
  vf a = x - most;
  const vf taken = a - x;
  vf rest = (x - (a - taken)) - (most + taken);
  rest = select(a < least, vf{}, rest);
  a = select(a < least, least, a);
  const vf shifted = a * broadcast(0x1.715476p+0f) + shifter;  // 1 / ln 2
  const vi n = reinterpret_cast<vi>(shifted) - reinterpret_cast<vi>(shifter);
  const vf times = shifted - shifter;
  // ln 2 in two parts; the first has 15 bits, so that its product with n is exact without FMA too
  const vf r = (a - times * broadcast(0x1.62e4p-1f)) - (times * broadcast(0x1.7f7d1cp-20f) - rest);
  vf q = broadcast(0x1.6a23d0p-10f);
  q = q * r + broadcast(0x1.123a20p-7f);
  q = q * r + broadcast(0x1.5558f2p-5f);
  q = q * r + broadcast(0x1.555492p-3f);
  q = q * r + broadcast(0x1.fffffcp-2f);
  const vf e = (q * (r * r) + r) + broadcast(1.0f);
  const vi half = n >> 1;  // in two factors: 2^n may be denormal
  return e * power_of_two(half) * power_of_two(n - half);
}

}  // namespace fastcnn::FASTCNN_ISA
