#include <atomic>
#include <cmath>

#include "bindings/program.hpp"
#include "core/packed.hpp"

namespace fastcnn::bindings {
namespace {

using Pair = std::pair<int64_t, int64_t>;
using Padding = std::pair<Pair, Pair>;
using BatchNorm = std::tuple<OptionalArray, OptionalArray, Array, Array, double>;

std::atomic<bool> winograd_enabled{true};

// Variants are no choice of the caller's, so they have no names.
const char* name_of(Conv2DAlgorithm algorithm) {
  const bool winograd = algorithm == Conv2DAlgorithm::winograd || algorithm == Conv2DAlgorithm::winograd_late;
  return winograd ? "winograd" : "gemm";
}

// Output length of one axis; every argument is checked.
int64_t output_length(const Check& check, const char* axis, int64_t size, int64_t window, int64_t stride, Pair pad,
                      int64_t dilation) {
  constexpr int64_t kLargest = int64_t{1} << 31;
  const std::string where = std::string(" along the ") + axis;
  const auto within = [&](const char* what, int64_t value, int64_t least) {
    check.require(value >= least && value < kLargest, std::string(what) + where + " must be " + std::to_string(least) +
                                                          " or more, below 2^31, but is " + std::to_string(value));
  };
  within("input size", size, 1);
  within("window", window, 1);
  within("strides", stride, 1);
  within("dilation", dilation, 1);
  within("padding", pad.first, 0);
  within("padding", pad.second, 0);
  const int64_t reach = (window - 1) * dilation + 1, padded = size + pad.first + pad.second;
  check.require(padded >= reach, "the window covers " + std::to_string(reach) + where +
                                     " but the padded input has only " + std::to_string(padded));
  return (padded - reach) / stride + 1;
}

Conv2DShape make_shape(const Check& check, int64_t N, Pair input, const Dims& w, Pair strides, Padding padding,
                       Pair dilation) {
  Conv2DShape s;
  s.N = N;
  s.H = input.first, s.W = input.second;
  s.R = w[0], s.S = w[1], s.C = w[2], s.K = w[3];
  check.require(s.C > 0 && s.K > 0, "w must have at least one input and output channel but is " + text(w));
  s.stride_h = strides.first, s.stride_w = strides.second;
  s.pad_top = padding.first.first, s.pad_left = padding.second.first;
  s.dilation_h = dilation.first, s.dilation_w = dilation.second;
  s.P = output_length(check, "height", s.H, s.R, s.stride_h, padding.first, s.dilation_h);
  s.Q = output_length(check, "width", s.W, s.S, s.stride_w, padding.second, s.dilation_w);
  check.product({N, s.H, s.W, s.C, 4});
  check.product({N, s.P, s.Q, s.K, 4});
  check.product({s.R, s.S, s.C, s.K, 144});
  return s;
}

Conv2DShape with_batch(Conv2DShape shape, int64_t N) {
  shape.N = N;
  return shape;
}

using Algorithm = std::optional<std::string>;

// The algorithm of that name, without one `choose`'s, or gemm where Winograd is switched off.
template <class Choose>
Conv2DAlgorithm algorithm_of(const Check& check, const Kernels& kernels, const Conv2DShape& s, Conv2DPass pass,
                             const Algorithm& algorithm, const Choose& choose) {
  if (!algorithm) return winograd_enabled ? choose() : Conv2DAlgorithm::gemm;
  if (algorithm == "gemm") return Conv2DAlgorithm::gemm;
  if (algorithm != "winograd") check.fail("algorithm must be None, 'gemm' or 'winograd' but is '" + *algorithm + "'");
  check.require(kernels.conv2d_can(s, Conv2DAlgorithm::winograd, pass),
                "algorithm 'winograd' needs a 3x3 window, strides 1 (forward also 2) and dilation 1 but w is " +
                    text({s.R, s.S, s.C, s.K}) + " with strides " + text({s.stride_h, s.stride_w}));
  return Conv2DAlgorithm::winograd;
}

class PackedConv2D {
 public:
  PackedConv2D(Array w, Pair input_size, Pair strides, Padding padding, Pair dilation, bool backward_data, bool batched,
               const Algorithm& algorithm, OptionalArray bias, const std::optional<BatchNorm>& batch_norm,
               const std::vector<Array>& versions, bool kept)
      : kernels(&fastcnn::kernels()), backward_data(backward_data) {
    const Check check("PackedConv2D");
    check.rank("w", w, 4, "[R,S,C,K]");
    w_ = check.in("w", w, dims_of(w));
    shape = make_shape(check, 1, input_size, dims_of(w), strides, padding, dilation);
    choose(check, algorithm, batched);
    keep_.push_back(w);
    bias_ = check.in("bias", bias, {shape.K});
    if (bias) keep_.push_back(*bias);
    if (batch_norm) fold(check, *batch_norm);
    check.require(!backward_data || (!bias && !batch_norm), "bias and batch_norm belong to the forward pass only");
    check.require(kept || !batch_norm, "batch_norm needs kept=True");

    std::vector<const int64_t*> counters;
    for (const Array& version : versions) {
      counters.push_back(check.in<int64_t>("versions", version, {1}));
      keep_.push_back(version);
    }
    floats = backward_data ? kernels->conv2d_backward_data_packed_size(shape, choice)
                           : kernels->conv2d_packed_size(shape, choice);
    if (kept) kept_ = std::make_unique<PackedWeights>(floats, std::move(counters), [this](float* to) { pack(to); });
  }

  // Adds what an operation needs for the packed weights to its scratch; returns where in the shared part they lie.
  int64_t claim(ScratchSize& size) const {
    const int64_t offset = (size.shared + 63) / 64 * 64;
    if (!kept_) size.shared = offset + floats * static_cast<int64_t>(sizeof(float));
    return offset;
  }
  // The packed weights, for an operation whose claim they lie at; without the GIL.
  const float* get(const Scratch& scratch, int64_t offset) {
    if (kept_) return kept_->get();
    float* const to = reinterpret_cast<float*>(scratch.shared + offset);
    pack(to);
    return to;
  }

  const float* bias() const { return folds_ ? folded_bias_.data() : bias_; }

  Conv2DShape shape;  // of one image
  Conv2DAlgorithm choice;
  const Kernels* kernels;
  bool backward_data;
  int64_t floats;  // of the packed weights

 private:
  void choose(const Check& check, const Algorithm& algorithm, bool batched) {
    const Conv2DPass pass = backward_data ? Conv2DPass::backward_data : Conv2DPass::forward;
    choice = algorithm_of(check, *kernels, shape, pass, algorithm, [&] {
      return (backward_data ? kernels->conv2d_backward_data_choose : kernels->conv2d_choose)(shape, batched);
    });
    choice = (backward_data ? kernels->conv2d_backward_data_variant : kernels->conv2d_variant)(shape, choice, batched);
  }

  void fold(const Check& check, const BatchNorm& batch_norm) {
    const auto& [gamma, beta, mean, variance, epsilon] = batch_norm;
    gamma_ = check.in("gamma", gamma, {shape.K});
    beta_ = check.in("beta", beta, {shape.K});
    mean_ = check.in("moving_mean", mean, {shape.K});
    variance_ = check.in("moving_variance", variance, {shape.K});
    for (const OptionalArray& array : {gamma, beta}) {
      if (array) keep_.push_back(*array);
    }
    keep_.push_back(mean);
    keep_.push_back(variance);
    epsilon_ = epsilon;
    folds_ = true;
    folded_bias_.resize(static_cast<size_t>(shape.K));
    scale_.resize(static_cast<size_t>(shape.K));
  }

  void pack(float* to) {
    if (folds_)
      for (size_t k = 0; k < scale_.size(); ++k) {
        const double scale = (gamma_ ? gamma_[k] : 1.0) / std::sqrt(static_cast<double>(variance_[k]) + epsilon_);
        const double bias = bias_ ? bias_[k] : 0.0;
        scale_[k] = static_cast<float>(scale);
        folded_bias_[k] = static_cast<float>((beta_ ? beta_[k] : 0.0) + (bias - mean_[k]) * scale);
      }
    const float* scale = folds_ ? scale_.data() : nullptr;
    if (backward_data)
      kernels->conv2d_backward_data_pack(shape, choice, w_, scale, to);
    else
      kernels->conv2d_pack(shape, choice, w_, scale, to);
  }

  std::vector<py::object> keep_;
  std::unique_ptr<PackedWeights> kept_;
  const float *w_ = nullptr, *bias_ = nullptr;
  bool folds_ = false;
  const float *gamma_ = nullptr, *beta_ = nullptr, *mean_ = nullptr, *variance_ = nullptr;
  double epsilon_ = 0;
  std::vector<float> scale_, folded_bias_;
};

using PrologueArrays = std::optional<std::tuple<Array, Array, Array, bool>>;

Prologue prologue_of(PyProgram& p, const Check& check, const PrologueArrays& prologue, int64_t C) {
  if (!prologue) return {nullptr, nullptr, nullptr, false};
  const auto& [mean, scale, shift, relu] = *prologue;
  p.keep(mean, scale, shift);
  return {check.in("prologue mean", mean, {C}), check.in("prologue scale", scale, {C}),
          check.in("prologue shift", shift, {C}), relu};
}

using SharedPacked = std::shared_ptr<PackedConv2D>;

void same_isa(const Check& check, const PyProgram& p, const PackedConv2D& w) {
  check.require(p.kernels == w.kernels, "w was packed for the instruction set " + std::string(w.kernels->isa) +
                                            " but the program runs " + p.kernels->isa);
}

void conv2d_forward(PyProgram& p, Array x, SharedPacked w, Array y, OptionalArray residual, bool relu,
                    const PrologueArrays& prologue, OptionalArray statistics, OptionalArray counts, bool pool,
                    OptionalArray argmax) {
  const Check check("conv2d_forward");
  check.require(!w->backward_data, "w is packed for backward-data");
  same_isa(check, p, *w);
  check.rank("x", x, 4, "[N,H,W,C]");
  const Conv2DShape s = with_batch(w->shape, x.shape(0));
  if (x.shape(3) != s.C)
    check.fail("w has " + std::to_string(s.C) + " input channels but x has " + std::to_string(x.shape(3)) + " (x is " +
               text(dims_of(x)) + ", w is " + text({s.R, s.S, s.C, s.K}) + ")");
  const float* px = check.in("x", x, {s.N, s.H, s.W, s.C});
  const Dims out = pool ? Dims{s.N, s.P / 2, s.Q / 2, s.K} : Dims{s.N, s.P, s.Q, s.K};
  check.product({s.N, s.P, s.Q, s.K, 4});
  float* py_ = check.out("y", y, out);
  check.require(!pool || (!residual && !statistics), "pool goes with neither residual nor statistics");
  check.require(pool || !argmax, "argmax needs pool");
  check.require(statistics.has_value() == counts.has_value(), "statistics and counts come together");
  check.require(!statistics || !relu, "statistics are those of the plain convolution: relu must be False");

  const Prologue before = prologue_of(p, check, prologue, s.C);
  const int64_t blocks = p.kernels->conv2d_statistics_blocks(s, w->choice);
  Epilogue after{nullptr,
                 check.in("residual", residual, out),
                 relu,
                 check.out("statistics", statistics, {blocks, 2, s.K}),
                 check.out<int64_t>("counts", counts, {blocks}),
                 check.out<uint8_t>("argmax", argmax, out),
                 pool};
  // What is written lies apart from all that is read or written, except that y may be the residual.
  std::vector<std::pair<const char*, Array>> others{{"x", x}};
  if (prologue) {
    const auto& [mean, scale, shift, prologue_relu] = *prologue;
    others.insert(others.end(), {{"prologue mean", mean}, {"prologue scale", scale}, {"prologue shift", shift}});
  }
  const auto claim = [&](const char* name, const OptionalArray& written) {
    if (!written) return;
    for (const auto& [other, array] : others) check.apart(name, *written, other, array);
    others.emplace_back(name, *written);
  };
  claim("y", y);
  if (residual) {
    check.apart("y", y, "residual", *residual, true);
    others.emplace_back("residual", *residual);
  }
  claim("statistics", statistics);
  claim("counts", counts);
  claim("argmax", argmax);
  p.keep(x, y, residual, statistics, counts, argmax, py::cast(w));
  if (total(out) == 0) return;
  ScratchSize size = p.kernels->conv2d_forward_scratch(s, w->choice, after);
  p.append(
      "conv2d_forward",
      [k = p.kernels, s, w = w.get(), at = w->claim(size), before, px, after, py_](const Scratch& scratch) {
        const float* packed = w->get(scratch, at);
        Epilogue epilogue = after;
        epilogue.bias = w->bias();
        k->conv2d_forward(s, w->choice, before, px, packed, epilogue, py_, scratch);
      },
      size);
}

void conv2d_backward_data(PyProgram& p, Array dy, SharedPacked w, Array dx, bool accumulate) {
  const Check check("conv2d_backward_data");
  check.require(w->backward_data, "w is packed for the forward pass");
  same_isa(check, p, *w);
  check.rank("dy", dy, 4, "[N,P,Q,K]");
  const Conv2DShape s = with_batch(w->shape, dy.shape(0));
  check.product({s.N, s.H, s.W, s.C, 4});
  const float* pdy = check.in("dy", dy, {s.N, s.P, s.Q, s.K});
  float* pdx = check.out("dx", dx, {s.N, s.H, s.W, s.C});
  check.apart("dx", dx, "dy", dy);
  p.keep(dy, dx, py::cast(w));
  if (s.N == 0) return;
  ScratchSize size = p.kernels->conv2d_backward_data_scratch(s, w->choice);
  p.append(
      "conv2d_backward_data",
      [k = p.kernels, s, w = w.get(), at = w->claim(size), pdy, accumulate, pdx](const Scratch& scratch) {
        k->conv2d_backward_data(s, w->choice, pdy, w->get(scratch, at), accumulate, pdx, scratch);
      },
      size);
}

void conv2d_backward_weights(PyProgram& p, Array x, Array dy, Array dw, Pair strides, Padding padding, Pair dilation,
                             bool accumulate, const PrologueArrays& prologue, const Algorithm& algorithm) {
  const Check check("conv2d_backward_weights");
  check.rank("x", x, 4, "[N,H,W,C]");
  check.rank("dw", dw, 4, "[R,S,C,K]");
  const Conv2DShape s =
      make_shape(check, x.shape(0), {x.shape(1), x.shape(2)}, dims_of(dw), strides, padding, dilation);
  const float* px = check.in("x", x, {s.N, s.H, s.W, s.C});
  const float* pdy = check.in("dy", dy, {s.N, s.P, s.Q, s.K});
  float* pdw = check.out("dw", dw, {s.R, s.S, s.C, s.K});
  check.require(s.N > 0, "x holds no image: " + text(dims_of(x)));
  check.apart("dw", dw, "x", x);
  check.apart("dw", dw, "dy", dy);
  const Prologue before = prologue_of(p, check, prologue, s.C);
  if (prologue) {
    check.apart("dw", dw, "prologue mean", std::get<0>(*prologue));
    check.apart("dw", dw, "prologue scale", std::get<1>(*prologue));
    check.apart("dw", dw, "prologue shift", std::get<2>(*prologue));
  }
  const Conv2DAlgorithm choice = algorithm_of(check, *p.kernels, s, Conv2DPass::backward_weights, algorithm,
                                              [&] { return p.kernels->conv2d_backward_weights_choose(s); });
  p.keep(x, dy, dw);
  p.append(
      "conv2d_backward_weights",
      [k = p.kernels, s, choice, before, px, pdy, accumulate, pdw](const Scratch& scratch) {
        k->conv2d_backward_weights(s, choice, before, px, pdy, accumulate, pdw, scratch);
      },
      p.kernels->conv2d_backward_weights_scratch(s, choice));
}

std::vector<std::string> conv2d_algorithms(Pair input_size, const std::vector<int64_t>& w_shape, Pair strides,
                                           Padding padding, Pair dilation, bool backward_data, bool backward_weights,
                                           bool batched, int64_t batch) {
  const Check check("conv2d_algorithms");
  check.require(w_shape.size() == 4, "w_shape must have rank 4 [R,S,C,K] but is " + text(w_shape));
  check.require(!(backward_data && backward_weights), "backward_data and backward_weights are two operations");
  check.require(batch > 0, "batch must be at least 1 but is " + std::to_string(batch));
  const Conv2DShape s = make_shape(check, batch, input_size, w_shape, strides, padding, dilation);
  const Kernels& k = kernels();
  const Conv2DPass pass = backward_weights ? Conv2DPass::backward_weights
                          : backward_data  ? Conv2DPass::backward_data
                                           : Conv2DPass::forward;
  if (!k.conv2d_can(s, Conv2DAlgorithm::winograd, pass)) return {"gemm"};
  const auto first = backward_weights ? k.conv2d_backward_weights_choose(s)
                     : backward_data  ? k.conv2d_backward_data_choose(s, batched)
                                      : k.conv2d_choose(s, batched);
  if (name_of(first) == std::string("winograd") && winograd_enabled) return {"winograd", "gemm"};
  return {"gemm", "winograd"};
}

}  // namespace

void bind_conv(py::module_& m, ProgramClass& program) {
  const Pair one{1, 1};
  const Padding none{{0, 0}, {0, 0}};
  py::class_<PackedConv2D, SharedPacked>(m, "PackedConv2D")
      .def(py::init<Array, Pair, Pair, Padding, Pair, bool, bool, Algorithm, OptionalArray, std::optional<BatchNorm>,
                    std::vector<Array>, bool>(),
           py::arg("w"), py::arg("input_size"), py::kw_only(), py::arg("strides") = one, py::arg("padding") = none,
           py::arg("dilation") = one, py::arg("backward_data") = false, py::arg("batched") = false,
           py::arg("algorithm") = py::none(), py::arg("bias") = py::none(), py::arg("batch_norm") = py::none(),
           py::arg("versions") = std::vector<Array>{}, py::arg("kept") = true)
      .def_property_readonly("algorithm", [](const PackedConv2D& self) { return name_of(self.choice); })
      .def_property_readonly("nbytes", [](const PackedConv2D& self) { return 4 * self.floats; })
      .def_property_readonly(
          "products", [](const PackedConv2D& self) { return self.kernels->conv2d_products(self.shape, self.choice); },
          "Multiplications of one image for each input and output channel, forward; those with padding are counted.")
      .def_property_readonly("output_size", [](const PackedConv2D& self) { return Pair{self.shape.P, self.shape.Q}; })
      .def(
          "statistics_blocks",
          [](const PackedConv2D& self, int64_t batch) {
            const Check check("PackedConv2D.statistics_blocks");
            check.require(batch >= 0, "batch must be 0 or more but is " + std::to_string(batch));
            check.product({batch, self.shape.P, self.shape.Q, self.shape.K, 4});
            return self.kernels->conv2d_statistics_blocks(with_batch(self.shape, batch), self.choice);
          },
          py::arg("batch"));
  m.def("conv2d_algorithms", &conv2d_algorithms, py::arg("input_size"), py::arg("w_shape"), py::kw_only(),
        py::arg("strides") = one, py::arg("padding") = none, py::arg("dilation") = one,
        py::arg("backward_data") = false, py::arg("backward_weights") = false, py::arg("batched") = false,
        py::arg("batch") = 32);
  m.def("set_winograd", [](bool enabled) { winograd_enabled = enabled; }, py::arg("enabled"));
  m.def("winograd", [] { return winograd_enabled.load(); });

  bind_op(m, program, "conv2d_forward", conv2d_forward, py::arg("x"), py::arg("w"), py::arg("y"), py::kw_only(),
          py::arg("residual") = py::none(), py::arg("relu") = false, py::arg("prologue") = py::none(),
          py::arg("statistics") = py::none(), py::arg("counts") = py::none(), py::arg("pool") = false,
          py::arg("argmax") = py::none());
  bind_op(m, program, "conv2d_backward_data", conv2d_backward_data, py::arg("dy"), py::arg("w"), py::arg("dx"),
          py::kw_only(), py::arg("accumulate") = false);
  bind_op(m, program, "conv2d_backward_weights", conv2d_backward_weights, py::arg("x"), py::arg("dy"), py::arg("dw"),
          py::kw_only(), py::arg("strides") = one, py::arg("padding") = none, py::arg("dilation") = one,
          py::arg("accumulate") = false, py::arg("prologue") = py::none(), py::arg("algorithm") = py::none());
}

}  // namespace fastcnn::bindings
