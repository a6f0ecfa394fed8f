#include "bindings/program.hpp"

namespace fastcnn::bindings {
namespace {

constexpr int64_t kFloat = sizeof(float);

// x as rows of channels: [N, C] or [N, H, W, C], any number of leading axes.
RowsShape rows_of(const Check& check, const char* name, const Array& x) {
  check.require(x.ndim() >= 2, std::string(name) + " must be [N, ..., C] but is " + text(dims_of(x)));
  const int64_t C = x.shape(x.ndim() - 1);
  check.require(C >= 1, std::string(name) + " has no channels (" + name + " is " + text(dims_of(x)) + ")");
  return {x.size() / C, C};
}

void apart(const Check& check, const char* out_name, const OptionalArray& out, const char* in_name,
           const OptionalArray& in, bool same_allowed = false) {
  if (out && in) check.apart(out_name, *out, in_name, *in, same_allowed);
}

void check_epsilon(const Check& check, double epsilon) {
  check.require(epsilon >= 0, "epsilon must be 0 or more but is " + std::to_string(epsilon));
}

int64_t batchnorm_blocks(int64_t rows, int64_t channels) {
  const Check check("batchnorm_blocks");
  check.require(rows >= 0, "rows must be 0 or more but is " + std::to_string(rows));
  check.require(channels >= 1, "channels must be 1 or more but is " + std::to_string(channels));
  check.product({rows, channels});
  return kernels().batchnorm_blocks({rows, channels});
}

void batchnorm_statistics(PyProgram& p, Array x, Array statistics, Array counts) {
  const Check check("batchnorm_statistics");
  const RowsShape s = rows_of(check, "x", x);
  const float* px = check.in("x", x, dims_of(x));
  check.require(s.rows >= 2, "x must have at least 2 values per channel but has " + std::to_string(s.rows) + " (x is " +
                                 text(dims_of(x)) + ")");
  const int64_t blocks = p.kernels->batchnorm_blocks(s);
  float* slots = check.out("statistics", statistics, {blocks, 2, s.C});
  int64_t* pcounts = check.out<int64_t>("counts", counts, {blocks});
  check.apart("statistics", statistics, "x", x);
  check.apart("counts", counts, "x", x);
  check.apart("counts", counts, "statistics", statistics);
  p.keep(x, statistics, counts);
  p.append("batchnorm_statistics",
           [k = p.kernels, s, px, slots, pcounts](const Scratch&) { k->batchnorm_statistics(s, px, slots, pcounts); });
}

void batchnorm_merge(PyProgram& p, Array statistics, Array counts, Array mean, Array inv_std, double epsilon,
                     double momentum, OptionalArray gamma, OptionalArray scale, OptionalArray moving_mean,
                     OptionalArray moving_variance) {
  const Check check("batchnorm_merge");
  check.rank("statistics", statistics, 3, "[blocks, 2, C]");
  const int64_t blocks = statistics.shape(0), C = statistics.shape(2);
  const float* slots = check.in("statistics", statistics, {blocks, 2, C});
  const int64_t* pcounts = check.in<int64_t>("counts", counts, {blocks});
  float* pmean = check.out("mean", mean, {C});
  float* pinv_std = check.out("inv_std", inv_std, {C});
  const float* pgamma = check.in("gamma", gamma, {C});
  float* pscale = check.out("scale", scale, {C});
  float* pmoving_mean = check.out("moving_mean", moving_mean, {C});
  float* pmoving_variance = check.out("moving_variance", moving_variance, {C});
  check_epsilon(check, epsilon);
  check.require(momentum >= 0 && momentum <= 1, "momentum must be within 0 to 1 but is " + std::to_string(momentum));
  const std::pair<const char*, const OptionalArray> outputs[] = {{"mean", mean},
                                                                 {"inv_std", inv_std},
                                                                 {"scale", scale},
                                                                 {"moving_mean", moving_mean},
                                                                 {"moving_variance", moving_variance}};
  for (size_t i = 0; i < 5; ++i) {
    apart(check, outputs[i].first, outputs[i].second, "gamma", gamma);
    apart(check, outputs[i].first, outputs[i].second, "statistics", statistics);
    apart(check, outputs[i].first, outputs[i].second, "counts", counts);
    for (size_t j = 0; j < i; ++j)
      apart(check, outputs[i].first, outputs[i].second, outputs[j].first, outputs[j].second);
  }
  p.keep(statistics, counts, mean, inv_std, gamma, scale, moving_mean, moving_variance);
  p.append("batchnorm_merge", [=, k = p.kernels](const Scratch&) {
    k->batchnorm_merge({0, C}, blocks, slots, pcounts, pgamma, epsilon, momentum, pmean, pinv_std, pscale, pmoving_mean,
                       pmoving_variance);
  });
}

// What batchnorm_forward and batchnorm_inference have in common.
struct Forward {
  RowsShape shape;
  const float *x, *mean, *deviation, *gamma, *beta, *residual;
  float* y;
};

Forward check_forward(PyProgram& p, const Check& check, const Array& x, const char* mean_name, const Array& mean,
                      const char* deviation_name, const Array& deviation, Array& y, const OptionalArray& gamma,
                      const OptionalArray& beta, const OptionalArray& residual) {
  const RowsShape s = rows_of(check, "x", x);
  const Dims dims = dims_of(x), channels{s.C};
  const Forward forward{s,
                        check.in("x", x, dims),
                        check.in(mean_name, mean, channels),
                        check.in(deviation_name, deviation, channels),
                        check.in("gamma", gamma, channels),
                        check.in("beta", beta, channels),
                        check.in("residual", residual, dims),
                        check.out("y", y, dims)};
  check.apart("y", y, "x", x, true);
  check.apart("y", y, mean_name, mean);
  check.apart("y", y, deviation_name, deviation);
  apart(check, "y", y, "gamma", gamma);
  apart(check, "y", y, "beta", beta);
  apart(check, "y", y, "residual", residual, true);
  p.keep(x, mean, deviation, y, gamma, beta, residual);
  return forward;
}

void batchnorm_forward(PyProgram& p, Array x, Array mean, Array inv_std, Array y, OptionalArray gamma,
                       OptionalArray beta, OptionalArray residual, bool relu) {
  const Check check("batchnorm_forward");
  const Forward f = check_forward(p, check, x, "mean", mean, "inv_std", inv_std, y, gamma, beta, residual);
  p.append("batchnorm_forward", [k = p.kernels, f, relu](const Scratch&) {
    k->batchnorm_forward(f.shape, f.x, f.mean, f.deviation, f.gamma, f.beta, f.residual, relu, f.y);
  });
}

void batchnorm_inference(PyProgram& p, Array x, Array moving_mean, Array moving_variance, Array y, double epsilon,
                         OptionalArray gamma, OptionalArray beta, OptionalArray residual, bool relu) {
  const Check check("batchnorm_inference");
  check_epsilon(check, epsilon);
  const Forward f = check_forward(p, check, x, "moving_mean", moving_mean, "moving_variance", moving_variance, y, gamma,
                                  beta, residual);
  p.append("batchnorm_inference",
           [k = p.kernels, f, epsilon, relu](const Scratch& scratch) {
             k->batchnorm_inference(f.shape, f.x, f.mean, f.deviation, epsilon, f.gamma, f.beta, f.residual, relu, f.y,
                                    scratch);
           },
           {2 * f.shape.C * kFloat, 0});  // scale and shift
}

void batchnorm_backward(PyProgram& p, Array x, Array dy, Array mean, Array inv_std, OptionalArray y,
                        OptionalArray gamma, OptionalArray beta, bool relu, bool frozen, OptionalArray dx,
                        bool accumulate, OptionalArray dresidual, bool accumulate_residual, OptionalArray dgamma,
                        OptionalArray dbeta) {
  const Check check("batchnorm_backward");
  const RowsShape s = rows_of(check, "x", x);
  const Dims dims = dims_of(x), channels{s.C};
  const float* px = check.in("x", x, dims);
  const float* pdy = check.in("dy", dy, dims);
  const float* pmean = check.in("mean", mean, channels);
  const float* pinv_std = check.in("inv_std", inv_std, channels);
  const float* py_ = check.in("y", y, dims);
  const float* pgamma = check.in("gamma", gamma, channels);
  const float* pbeta = check.in("beta", beta, channels);
  check.require(!y || !relu, "y is the ReLU's output, relu asks to make it again from x: one of both");
  float* pdx = check.out("dx", dx, dims);
  float* pdresidual = check.out("dresidual", dresidual, dims);
  float* pdgamma = check.out("dgamma", dgamma, channels);
  float* pdbeta = check.out("dbeta", dbeta, channels);
  check.require(dx || dresidual || dgamma || dbeta, "one of dx, dresidual, dgamma and dbeta must be given");
  const std::pair<const char*, const OptionalArray> inputs[] = {
      {"x", x}, {"dy", dy}, {"mean", mean}, {"inv_std", inv_std}, {"y", y}, {"gamma", gamma}, {"beta", beta}};
  const std::pair<const char*, const OptionalArray> outputs[] = {
      {"dx", dx}, {"dresidual", dresidual}, {"dgamma", dgamma}, {"dbeta", dbeta}};
  for (size_t i = 0; i < 4; ++i) {
    for (size_t j = 0; j < 7; ++j)  // dx may be dy
      apart(check, outputs[i].first, outputs[i].second, inputs[j].first, inputs[j].second,
            i == 0 && j == 1 && !accumulate);
    for (size_t j = 0; j < i; ++j)
      apart(check, outputs[i].first, outputs[i].second, outputs[j].first, outputs[j].second);
  }
  p.keep(x, dy, mean, inv_std, y, gamma, beta, dx, dresidual, dgamma, dbeta);
  p.append(
      "batchnorm_backward",
      [=, k = p.kernels](const Scratch& scratch) {
        k->batchnorm_backward(s, px, py_, pdy, pmean, pinv_std, pgamma, pbeta, relu, frozen, accumulate, pdx,
                              accumulate_residual, pdresidual, pdgamma, pdbeta, scratch);
      },
      p.kernels->batchnorm_backward_scratch(s));
}

}  // namespace

void bind_norm(py::module_& m, ProgramClass& program) {
  m.def("batchnorm_blocks", &batchnorm_blocks, py::arg("rows"), py::arg("channels"),
        "Blocks that batchnorm_statistics makes of N*H*W rows.");
  bind_op(m, program, "batchnorm_statistics", batchnorm_statistics, py::arg("x"), py::arg("statistics"),
          py::arg("counts"));
  bind_op(m, program, "batchnorm_merge", batchnorm_merge, py::arg("statistics"), py::arg("counts"), py::arg("mean"),
          py::arg("inv_std"), py::kw_only(), py::arg("epsilon"), py::arg("momentum") = 0.99,
          py::arg("gamma") = py::none(), py::arg("scale") = py::none(), py::arg("moving_mean") = py::none(),
          py::arg("moving_variance") = py::none());
  bind_op(m, program, "batchnorm_forward", batchnorm_forward, py::arg("x"), py::arg("mean"), py::arg("inv_std"),
          py::arg("y"), py::kw_only(), py::arg("gamma") = py::none(), py::arg("beta") = py::none(),
          py::arg("residual") = py::none(), py::arg("relu") = false);
  bind_op(m, program, "batchnorm_inference", batchnorm_inference, py::arg("x"), py::arg("moving_mean"),
          py::arg("moving_variance"), py::arg("y"), py::kw_only(), py::arg("epsilon"), py::arg("gamma") = py::none(),
          py::arg("beta") = py::none(), py::arg("residual") = py::none(), py::arg("relu") = false);
  bind_op(m, program, "batchnorm_backward", batchnorm_backward, py::arg("x"), py::arg("dy"), py::arg("mean"),
          py::arg("inv_std"), py::kw_only(), py::arg("y") = py::none(), py::arg("gamma") = py::none(),
          py::arg("beta") = py::none(), py::arg("relu") = false, py::arg("frozen") = false, py::arg("dx") = py::none(),
          py::arg("accumulate") = false, py::arg("dresidual") = py::none(), py::arg("accumulate_residual") = false,
          py::arg("dgamma") = py::none(), py::arg("dbeta") = py::none());
}

}  // namespace fastcnn::bindings
