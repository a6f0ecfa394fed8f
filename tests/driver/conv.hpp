// Convolution forward with its prologues and epilogues, and both gradients.
#pragma once
#include "driver/statistics.hpp"

namespace fastcnn::driver {

// f(index into y, index into x, index into w) for each product of the convolution
template <class F>
void for_products(const Conv2DShape& s, const F& f) {
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t p = 0; p < s.P; ++p)
      for (int64_t q = 0; q < s.Q; ++q)
        for (int64_t r = 0; r < s.R; ++r)
          for (int64_t t = 0; t < s.S; ++t) {
            const int64_t h = p * s.stride_h - s.pad_top + r * s.dilation_h;
            const int64_t w = q * s.stride_w - s.pad_left + t * s.dilation_w;
            if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
            for (int64_t c = 0; c < s.C; ++c)
              for (int64_t k = 0; k < s.K; ++k)
                f(((n * s.P + p) * s.Q + q) * s.K + k, ((n * s.H + h) * s.W + w) * s.C + c,
                  ((r * s.S + t) * s.C + c) * s.K + k);
          }
}

inline bool is_winograd(Conv2DAlgorithm algorithm) {
  return algorithm == Conv2DAlgorithm::winograd || algorithm == Conv2DAlgorithm::winograd_late;
}

inline void check_conv(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  const bool winograd = is_winograd(algorithm);
  // Winograd multiplies sums of several inputs by sums of several weights: 64 covers how much larger they are.
  const auto units = [=](int64_t terms) { return winograd ? 64 * (2 * std::sqrt(static_cast<double>(terms)) + 8) : 0; };
  const auto widen = [=](Values& values, int64_t terms) {  // neighbouring outputs of a tile share their errors
    if (winograd)
      for (Value& v : values) v.size += static_cast<double>(9 * terms);
  };
  const int64_t outputs = s.N * s.P * s.Q * s.K;
  const Floats x = integers(s.N * s.H * s.W * s.C), w = integers(s.R * s.S * s.C * s.K);
  const Floats bias = integers(s.K), residual = integers(outputs);
  Floats packed(table->conv2d_packed_size(s, algorithm));
  table->conv2d_pack(s, algorithm, w.data(), nullptr, packed.data());
  const Prologue plain{nullptr, nullptr, nullptr, false};

  Values product(at(outputs));
  for_products(s, [&](int64_t y, int64_t i, int64_t j) { product[at(y)].add(static_cast<double>(x[i] * w[j])); });
  widen(product, s.C);

  for (int variant = 0; variant < 4; ++variant) {  // bit 0: ReLU, bit 1: the residual is y itself
    Floats y = residual;
    const Epilogue epilogue{
        bias.data(), variant & 2 ? y.data() : residual.data(), (variant & 1) != 0, nullptr, nullptr, nullptr, false};
    run("conv2d_forward", table->conv2d_forward_scratch(s, algorithm, epilogue), {output(y)},
        [&](const Scratch& scratch) {
          table->conv2d_forward(s, algorithm, plain, x.data(), packed.data(), epilogue, y.data(), scratch);
        });
    Values want = product;
    for (int64_t i = 0; i < outputs; ++i) {
      want[at(i)].value += static_cast<double>(bias[i % s.K] + residual[i]);
      if (variant & 1) want[at(i)].value = relu(want[at(i)].value);
    }
    compare("conv2d_forward", y, want, units(s.C));
  }

  {  // statistics, and a prologue with its ReLU; padding stays zero
    const Floats mean = integers(s.C), scale = integers(s.C), shift = integers(s.C);
    const Prologue before{mean.data(), scale.data(), shift.data(), true};
    const int64_t blocks = table->conv2d_statistics_blocks(s, algorithm);
    Floats y(outputs), statistics(blocks * 2 * s.K);
    Guarded<int64_t> counts(blocks);
    const Epilogue epilogue{nullptr, nullptr, false, statistics.data(), counts.data(), nullptr, false};
    run("conv2d_forward", table->conv2d_forward_scratch(s, algorithm, epilogue),
        {output(y), output(statistics), output(counts)}, [&](const Scratch& scratch) {
          table->conv2d_forward(s, algorithm, before, x.data(), packed.data(), epilogue, y.data(), scratch);
        });
    Values want(at(outputs));
    for_products(s, [&](int64_t o, int64_t i, int64_t j) {
      const int64_t c = i % s.C;
      want[at(o)].add(relu((x[i] - mean[c]) * scale[c] + shift[c]) * static_cast<double>(w[j]));
    });
    widen(want, 7 * s.C);  // the prologue's values go up to 21
    compare("conv2d_forward with prologue", y, want, units(s.C));
    check_statistics("conv2d_forward", statistics, counts, want, s.K);
  }

  if (s.P >= 2 && s.Q >= 2) {  // pooled, with the place of the maximum
    const int64_t pooled = s.N * (s.P / 2) * (s.Q / 2) * s.K;
    Floats y(pooled);
    Guarded<uint8_t> argmax(pooled);
    const Epilogue epilogue{bias.data(), nullptr, true, nullptr, nullptr, argmax.data(), true};
    run("conv2d_forward", table->conv2d_forward_scratch(s, algorithm, epilogue), {output(y), output(argmax)},
        [&](const Scratch& scratch) {
          table->conv2d_forward(s, algorithm, plain, x.data(), packed.data(), epilogue, y.data(), scratch);
        });
    Values want(at(pooled)), places(at(pooled));
    for (int64_t o = 0; o < pooled; ++o) {
      const int64_t k = o % s.K, q = o / s.K % (s.Q / 2), p = o / s.K / (s.Q / 2) % (s.P / 2),
                    n = o / s.K / (s.Q / 2) / (s.P / 2);
      want[at(o)].value = -1e30;
      for (int64_t place = 0; place < 4; ++place) {
        const Value& v = product[at(((n * s.P + 2 * p + place / 2) * s.Q + 2 * q + place % 2) * s.K + k)];
        if (v.value + static_cast<double>(bias[k]) <= want[at(o)].value) continue;
        want[at(o)] = {v.value + static_cast<double>(bias[k]), v.size};
        places[at(o)].value = static_cast<double>(place);
      }
      want[at(o)].value = relu(want[at(o)].value);
    }
    compare("conv2d_forward with pool", y, want, units(s.C));
    if (!winograd) compare("conv2d_forward with argmax", argmax, places);  // rounding may turn a tie
  }
}

inline void check_conv_backward_data(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  const bool winograd = is_winograd(algorithm);
  const int64_t inputs = s.N * s.H * s.W * s.C;
  const Floats dy = integers(s.N * s.P * s.Q * s.K), w = integers(s.R * s.S * s.C * s.K), before = integers(inputs);
  Floats packed(table->conv2d_backward_data_packed_size(s, algorithm));
  table->conv2d_backward_data_pack(s, algorithm, w.data(), nullptr, packed.data());
  for (const bool accumulate : {false, true}) {
    Floats dx = accumulate ? before : Floats(inputs);
    run("conv2d_backward_data", table->conv2d_backward_data_scratch(s, algorithm), {output(dx)},
        [&](const Scratch& scratch) {
          table->conv2d_backward_data(s, algorithm, dy.data(), packed.data(), accumulate, dx.data(), scratch);
        });
    Values want(at(inputs));
    for_products(s, [&](int64_t y, int64_t i, int64_t j) { want[at(i)].add(static_cast<double>(dy[y] * w[j])); });
    for (int64_t i = 0; i < inputs; ++i) {
      want[at(i)].value += accumulate ? static_cast<double>(before[i]) : 0;
      want[at(i)].size += static_cast<double>(9 * s.K);
    }
    compare("conv2d_backward_data", dx, want, winograd ? 64 * (2 * std::sqrt(static_cast<double>(s.K)) + 8) : 0);
  }
}

inline void check_conv_backward_weights(const Conv2DShape& s, Conv2DAlgorithm algorithm) {
  const bool winograd = is_winograd(algorithm);
  const int64_t tiles = s.N * ((s.P + 3) / 4) * ((s.Q + 3) / 4), weights = s.R * s.S * s.C * s.K;
  const Floats x = integers(s.N * s.H * s.W * s.C), dy = integers(s.N * s.P * s.Q * s.K), before = integers(weights);
  const Floats mean = integers(s.C), scale = integers(s.C), shift = integers(s.C);
  const Prologue none{nullptr, nullptr, nullptr, false}, normalising{mean.data(), scale.data(), shift.data(), true};
  for (const bool accumulate : {false, true}) {  // the second time with a prologue
    const Prologue& prologue = accumulate ? normalising : none;
    Floats dw = accumulate ? before : Floats(weights);
    run("conv2d_backward_weights", table->conv2d_backward_weights_scratch(s, algorithm), {output(dw)},
        [&](const Scratch& scratch) {
          table->conv2d_backward_weights(s, algorithm, prologue, x.data(), dy.data(), accumulate, dw.data(), scratch);
        });
    Values want(at(weights));
    for_products(s, [&](int64_t y, int64_t i, int64_t j) {
      const int64_t c = i % s.C;
      const double v = accumulate ? relu((x[i] - mean[c]) * scale[c] + shift[c]) : x[i];
      want[at(j)].add(v * static_cast<double>(dy[y]));
    });
    for (int64_t i = 0; accumulate && i < weights; ++i) want[at(i)].value += static_cast<double>(before[i]);
    for (Value& v : want)
      v.size += winograd ? static_cast<double>(21 * 3 * 16 * tiles) : 0;  // a prologue's values go up to 21
    compare("conv2d_backward_weights", dw, want, winograd ? 64 * (2 * std::sqrt(static_cast<double>(tiles)) + 8) : 0);
  }
}

inline Conv2DShape conv_shape(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t R, int64_t S,
                              int64_t stride, int64_t pad_before, int64_t pad_after, int64_t dilation) {
  const auto length = [=](int64_t size, int64_t window) {
    return (size + pad_before + pad_after - (window - 1) * dilation - 1) / stride + 1;
  };
  return {N, H, W, C, K, R, S, stride, stride, pad_before, pad_before, dilation, dilation, length(H, R), length(W, S)};
}

inline void check_convolutions() {
  const int64_t L = table->lanes;
  const Conv2DShape shapes[] = {
      conv_shape(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1),            // one pixel, one channel
      conv_shape(2, 5, 7, L - 1, L + 1, 1, 1, 1, 0, 0, 1),    // 1x1, around a vector
      conv_shape(1, 9, 8, 2 * L, 2 * L, 1, 1, 2, 0, 0, 1),    // 1x1 stride 2
      conv_shape(1, 11, 9, 3, 2 * L + 3, 7, 7, 2, 3, 3, 1),   // the stem of a ResNet
      conv_shape(2, 7, 9, 8, 3, 3, 3, 1, 1, 1, 1),            // 3x3 same
      conv_shape(1, 4, 4, L, 2 * L + 1, 3, 3, 1, 0, 0, 1),    // 3x3 valid: less than one tile
      conv_shape(3, 13, 6, L + 1, 2 * L, 3, 3, 1, 1, 1, 1),   // tiles cut at both edges
      conv_shape(1, 8, 8, 5, L, 3, 3, 2, 0, 1, 1),            // stride 2, padded on one side
      conv_shape(2, 6, 10, 17, 4, 2, 5, 1, 1, 0, 1),          // an uneven window
      conv_shape(1, 12, 11, 4, 5, 3, 3, 1, 2, 2, 2),          // dilation
      conv_shape(1, 9, 9, 6, 7, 3, 3, 3, 1, 1, 1),            // stride 3: a phase per tap
      conv_shape(1, 6, 6, 4, 6, 1, 1, 3, 0, 0, 1),            // stride beyond the window: phases without a tap
      conv_shape(3, 14, 14, 40, 72, 3, 3, 1, 1, 1, 1),        // enough work for several threads
      conv_shape(2, 15, 13, 65, 2 * L + 1, 1, 1, 1, 0, 0, 1),
      conv_shape(2, 28, 28, 1, 6, 5, 5, 1, 2, 2, 1),            // one channel: two pixels a vector
      conv_shape(1, 5, 34, 1, 8, 3, 5, 1, 0, 2, 1),
      conv_shape(5, 2, 2, 2 * L + 3, L + 1, 3, 3, 1, 1, 1, 1),  // windows on few pixels
      conv_shape(3, 1, 2, L, 2 * L, 3, 3, 1, 1, 1, 1),
      conv_shape(4, 4, 3, 33, 34, 3, 3, 2, 0, 1, 1),
  };
  for (const Conv2DShape& s : shapes) {
    case_name = "conv N" + std::to_string(s.N) + "H" + std::to_string(s.H) + "W" + std::to_string(s.W) + "C" +
                std::to_string(s.C) + "K" + std::to_string(s.K) + "R" + std::to_string(s.R) + "S" +
                std::to_string(s.S) + " stride " + std::to_string(s.stride_h);
    for (const Conv2DAlgorithm algorithm : {Conv2DAlgorithm::gemm, Conv2DAlgorithm::winograd,
                                            Conv2DAlgorithm::gemm_batched, Conv2DAlgorithm::winograd_late}) {
      if (table->conv2d_can(s, algorithm, Conv2DPass::forward)) check_conv(s, algorithm);
      if (table->conv2d_can(s, algorithm, Conv2DPass::backward_data)) check_conv_backward_data(s, algorithm);
    }
    for (const Conv2DAlgorithm algorithm : {Conv2DAlgorithm::gemm, Conv2DAlgorithm::winograd})
      if (table->conv2d_can(s, algorithm, Conv2DPass::backward_weights)) check_conv_backward_weights(s, algorithm);
  }
}

}  // namespace fastcnn::driver
