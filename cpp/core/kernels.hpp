// TABLE OF CONTENTS of the engine: the alphabet, the plain shape structs and the table of kernels.
//
// The alphabet, used in every comment, test id and table:
//   N H W C   images, rows, columns and channels of the input      K      output channels
//   R S       rows and columns of the window                       P Q    rows and columns of the output
// Activations are NHWC, convolution weights HWIO = [R,S,C,K], dense weights [C,K]; all float32, row-major, contiguous.
//
// Plain data only: no member functions and no default initialisers, since these structs are compiled into units with
// different instruction sets and an inline function shared between them could be linked in the wrong copy.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct Conv2DShape {
  int64_t N, H, W, C, K, R, S;
  int64_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  int64_t P, Q;
};

struct Pool2DShape {
  int64_t N, H, W, C, R, S;
  int64_t stride_h, stride_w, pad_top, pad_left;
  int64_t P, Q;
};

struct DenseShape {  // y[N,K] = x[N,C] w[C,K]
  int64_t N, C, K;
};

enum class Conv2DPass : int32_t { forward, backward_data, backward_weights };

// How a convolution is computed. The choice depends on the shape of one image, and on whether many images share the
// weights each time these are packed, as in training: never on N, threads or timings.
enum class Conv2DAlgorithm : int32_t {
  gemm = 0,
  winograd = 1,
  gemm_batched = 2,   // for maps of few pixels, whose rows only a batch makes many
  winograd_late = 3,  // weights are transformed when used: few images share them
};

// Applied while x is loaded: x' = (x - mean) * scale + shift per channel, then ReLU. Zero padding stays zero.
struct Prologue {
  const float* mean;  // null: no prologue
  const float* scale;
  const float* shift;
  bool relu;
};

// Applied to a finished block of the output, in this order; a null pointer or false leaves a part out.
struct Epilogue {
  const float* bias;      // [K]
  const float* residual;  // [N,P,Q,K]; may be y itself
  bool relu;
  float* statistics;  // [blocks][2][K]: mean and sum of squared deviations of each block of output pixels
  int64_t* counts;    // [blocks]: pixels in each block
  uint8_t* argmax;    // [N,P/2,Q/2,K]: place 0..3 of the maximum; null with pool: not wanted
  bool pool;          // 2x2 max-pool, stride 2, no padding: y is then [N,P/2,Q/2,K]
};

// What lies outside a picture a b c d, along each axis on its own.
enum class Border : int32_t {
  nearest = 0,   // a a a | a b c d | d d d
  constant = 1,  // k k k | a b c d | k k k; the picture ends at the centres of its outer pixels
  reflect = 2,   // c b a | a b c d | d c b
  wrap = 3       // b c d | a b c d | a b c
};

struct WarpShape {  // y[P,Q,C] from x[H,W,C]
  int64_t H, W, C, P, Q;
};

struct ScratchSize {
  int64_t shared;      // bytes
  int64_t per_worker;  // bytes
};

struct Scratch {
  char* shared;
  char* workers;  // worker i owns [i * worker_bytes, (i + 1) * worker_bytes)
  int64_t worker_bytes;
};

// Rows of a matrix whose columns are channels: [rows, C], rows = N*H*W of an activation.
struct RowsShape {
  int64_t rows, C;
};

// One optimizer step's numbers, read at run time; t counts from 1.
struct UpdateSettings {  // for every rule: g = clip(grads*scale, -limit, limit), and w loses w*decay beside the step
  double scale, limit, decay;
};
struct SGDSettings {
  double learning_rate, momentum;
  double nesterov;  // 0 or 1
  UpdateSettings update;
};
struct AdamSettings {
  double learning_rate, beta_1, beta_2, epsilon, t;
  UpdateSettings update;
};
struct RMSpropSettings {
  double learning_rate, rho, momentum, epsilon;
  UpdateSettings update;
};
struct EMASettings {
  double momentum;
  double overwrite;  // 0 or 1
};

// Takes a block of a gradient: `size` values, the first of which is number `first` of the whole.
using TakeGradient = void (*)(void* context, int64_t first, int64_t size, const float* grads);

struct Kernels {
  const char* isa;
  int lanes;

  // -- conv: y[N,P,Q,K] = epilogue(conv(prologue(x[N,H,W,C]), w[R,S,C,K])) --------------------------------------------
  Conv2DAlgorithm (*conv2d_choose)(const Conv2DShape&, bool batched);
  Conv2DAlgorithm (*conv2d_variant)(const Conv2DShape&, Conv2DAlgorithm, bool batched);  // of gemm or winograd
  bool (*conv2d_can)(const Conv2DShape&, Conv2DAlgorithm, Conv2DPass);
  // of one image, for each input and output channel; what the padding adds is counted
  int64_t (*conv2d_products)(const Conv2DShape&, Conv2DAlgorithm);
  int64_t (*conv2d_packed_size)(const Conv2DShape&, Conv2DAlgorithm);  // floats
  void (*conv2d_pack)(const Conv2DShape&, Conv2DAlgorithm, const float* w, const float* scale, float* packed);
  int64_t (*conv2d_statistics_blocks)(const Conv2DShape&, Conv2DAlgorithm);
  ScratchSize (*conv2d_forward_scratch)(const Conv2DShape&, Conv2DAlgorithm, const Epilogue&);
  void (*conv2d_forward)(const Conv2DShape&, Conv2DAlgorithm, const Prologue&, const float* x, const float* packed,
                         const Epilogue&, float* y, const Scratch&);
  // dx[N,H,W,C] (+)= dy[N,P,Q,K] convolved with w turned round; `packed` holds the weights turned and packed
  Conv2DAlgorithm (*conv2d_backward_data_choose)(const Conv2DShape&, bool batched);
  Conv2DAlgorithm (*conv2d_backward_data_variant)(const Conv2DShape&, Conv2DAlgorithm, bool batched);
  int64_t (*conv2d_backward_data_packed_size)(const Conv2DShape&, Conv2DAlgorithm);
  void (*conv2d_backward_data_pack)(const Conv2DShape&, Conv2DAlgorithm, const float* w, const float* scale,
                                    float* packed);
  ScratchSize (*conv2d_backward_data_scratch)(const Conv2DShape&, Conv2DAlgorithm);
  void (*conv2d_backward_data)(const Conv2DShape&, Conv2DAlgorithm, const float* dy, const float* packed,
                               bool accumulate, float* dx, const Scratch&);
  // dw[R,S,C,K] (+)= prologue(x) correlated with dy
  Conv2DAlgorithm (*conv2d_backward_weights_choose)(const Conv2DShape&);
  ScratchSize (*conv2d_backward_weights_scratch)(const Conv2DShape&, Conv2DAlgorithm);
  void (*conv2d_backward_weights)(const Conv2DShape&, Conv2DAlgorithm, const Prologue&, const float* x, const float* dy,
                                  bool accumulate, float* dw, const Scratch&);

  // -- dense: y[N,K] = x[N,C] w[C,K] + b[K], then ReLU ----------------------------------------------------------------
  ScratchSize (*dense_scratch)(const DenseShape&);  // enough for each of the three passes
  void (*dense_forward)(const DenseShape&, const float* x, const float* w, const float* b, bool relu, float* y,
                        const Scratch&);
  void (*dense_backward_data)(const DenseShape&, const float* dy, const float* w, bool accumulate, float* dx,
                              const Scratch&);
  void (*dense_backward_weights)(const DenseShape&, const float* x, const float* dy, bool accumulate, float* dw,
                                 const Scratch&);
  // The same gradient, never held as a whole: each block of it goes to `take` while it lies in the cache.
  ScratchSize (*dense_update_scratch)(const DenseShape&);
  void (*dense_update)(const DenseShape&, const float* x, const float* dy, TakeGradient take, void* context,
                       const Scratch&);
  // db[C] (+)= column sums of dy[rows,C]; serves conv and dense
  ScratchSize (*bias_backward_scratch)(const RowsShape&);
  void (*bias_backward)(const RowsShape&, const float* dy, bool accumulate, float* db, const Scratch&);

  // -- pool -----------------------------------------------------------------------------------------------------------
  // argmax: place r*S+s of the first maximum inside the window (NaN wins); null when not wanted
  void (*max_pool2d_forward)(const Pool2DShape&, const float* x, float* y, uint8_t* argmax);
  void (*max_pool2d_backward)(const Pool2DShape&, const float* dy, const uint8_t* argmax, bool accumulate, float* dx);
  void (*average_pool2d_forward)(const Pool2DShape&, const float* x, float* y);  // padding is not counted
  void (*average_pool2d_backward)(const Pool2DShape&, const float* dy, bool accumulate, float* dx);
  // y[N,C] = mean of x[N,HW,C]
  void (*global_average_pool2d_forward)(int64_t N, int64_t HW, int64_t C, const float* x, float* y);
  void (*global_average_pool2d_backward)(int64_t N, int64_t HW, int64_t C, const float* dy, bool accumulate, float* dx);
  // y[N,C] = maximum of x[N,HW,C]; argmax[N,C]: its first pixel (NaN wins); null when not wanted
  void (*global_max_pool2d_forward)(int64_t N, int64_t HW, int64_t C, const float* x, float* y, int64_t* argmax);
  void (*global_max_pool2d_backward)(int64_t N, int64_t HW, int64_t C, const float* dy, const int64_t* argmax,
                                     bool accumulate, float* dx);
  // y[N,P,Q,C] = x with zero rows and columns around; Pool2DShape with R = S = stride = 1
  void (*zero_pad2d_forward)(const Pool2DShape&, const float* x, float* y);
  void (*zero_pad2d_backward)(const Pool2DShape&, const float* dy, bool accumulate, float* dx);

  // -- norm: batch normalisation over rows, per channel ---------------------------------------------------------------
  int64_t (*batchnorm_blocks)(const RowsShape&);  // blocks of the two-pass statistics when no convolution made them
  // block means and squared deviations: statistics[blocks][2][C], counts[blocks]
  void (*batchnorm_statistics)(const RowsShape&, const float* x, float* statistics, int64_t* counts);
  // merges the blocks in order in double: mean[C], inv_std[C]; scale (null: not wanted) = gamma*inv_std; moving (null:
  // kept) = momentum*moving + (1-momentum)*batch
  void (*batchnorm_merge)(const RowsShape&, int64_t blocks, const float* statistics, const int64_t* counts,
                          const float* gamma, double epsilon, double momentum, float* mean, float* inv_std,
                          float* scale, float* moving_mean, float* moving_variance);
  // y = relu((x - mean) * inv_std * gamma + beta + residual); gamma, beta, residual may be null; y may be x
  void (*batchnorm_forward)(const RowsShape&, const float* x, const float* mean, const float* inv_std,
                            const float* gamma, const float* beta, const float* residual, bool relu, float* y);
  // scale and shift from moving statistics, then as above
  void (*batchnorm_inference)(const RowsShape&, const float* x, const float* moving_mean, const float* moving_variance,
                              double epsilon, const float* gamma, const float* beta, const float* residual, bool relu,
                              float* y, const Scratch&);
  // g = dy where y > 0 (y null: no ReLU, or, with `relu`, made again from x without residual); dbeta = sum g; dgamma =
  // sum g*xhat; dx = a*g + b*(x - mean) + c dresidual (null: not wanted) (+)= g. frozen: the statistics are constants,
  // dx = a*g.
  ScratchSize (*batchnorm_backward_scratch)(const RowsShape&);
  void (*batchnorm_backward)(const RowsShape&, const float* x, const float* y, const float* dy, const float* mean,
                             const float* inv_std, const float* gamma, const float* beta, bool relu, bool frozen,
                             bool accumulate, float* dx, bool accumulate_residual, float* dresidual, float* dgamma,
                             float* dbeta, const Scratch&);

  // -- pointwise ------------------------------------------------------------------------------------------------------
  void (*relu_forward)(int64_t size, const float* x, float* y);                       // x < 0 ? 0 : x; y may be x
  void (*relu_backward)(int64_t size, const float* y, const float* dy, bool accumulate, float* dx);  // dx may be dy
  // x > 0 ? x : x*negative_slope, negative_slope >= 0; y may be x
  void (*leaky_relu_forward)(int64_t size, const float* x, float negative_slope, float* y);
  // dx (+)= y > 0 ? dy : dy*negative_slope; dx may be dy
  void (*leaky_relu_backward)(int64_t size, const float* y, const float* dy, float negative_slope, bool accumulate,
                              float* dx);
  void (*sigmoid_forward)(int64_t size, const float* x, float* y);  // 1 / (1 + exp(-x)); y may be x
  // dx (+)= dy*y*(1-y); dx may be dy
  void (*sigmoid_backward)(int64_t size, const float* y, const float* dy, bool accumulate, float* dx);
  void (*add_forward)(int64_t size, const float* a, const float* b, bool relu, float* y);  // y may be a or b
  void (*copy)(int64_t size, const float* x, bool accumulate, float* y);              // y (+)= x
  void (*scale)(int64_t size, const float* x, float factor, float offset,
                float* y);  // y = x*factor + offset; y may be x
  void (*fill)(int64_t size, float value, float* y);
  // x > threshold ? min(x, max_value) : (x - threshold)*negative_slope; all at least 0; y may be x
  void (*bounded_relu_forward)(int64_t size, const float* x, float max_value, float negative_slope, float threshold,
                               float* y);
  // dx (+)= x > threshold ? (x < max_value ? dy : 0) : dy*negative_slope; dx may be dy
  void (*bounded_relu_backward)(int64_t size, const float* x, const float* dy, float max_value, float negative_slope,
                                float threshold, bool accumulate, float* dx);
  // y (+)= kept ? x/(1-rate) : 0, also from dy to dx; y may be x. Element i is kept where number i of the stream is at
  // least rate*2^32. The stream is Philox4x64-10 with the key {state[0], state[1]} and counters 1, 2, 3...; each of its
  // words is two numbers, the lower half first.
  void (*dropout)(int64_t size, const float* x, const int64_t* state, double rate, bool accumulate, float* y);
  // columns offset..offset+C-1 of y[rows,K] = x[rows,C]
  void (*concatenate_forward)(const RowsShape&, int64_t K, int64_t offset, const float* x, float* y);
  // dx[rows,C] (+)= columns offset..offset+C-1 of dy[rows,K]
  void (*concatenate_backward)(const RowsShape&, int64_t K, int64_t offset, const float* dy, bool accumulate,
                               float* dx);
  // loss[0] += sum of l1*|w| + l2*w*w, in double
  ScratchSize (*penalty_scratch)(int64_t size);
  void (*penalty_forward)(int64_t size, const float* w, double l1, double l2, double* loss, const Scratch&);
  // dw += l1*sign(w) + 2*l2*w
  void (*penalty_backward)(int64_t size, const float* w, float l1, float l2, float* dw);

  // -- softmax over the last axis -------------------------------------------------------------------------------------
  void (*softmax_forward)(const RowsShape&, const float* x, float* y);                               // y may be x
  void (*softmax_backward)(const RowsShape&, const float* y, const float* dy, bool accumulate, float* dx);
  // p = softmax(x) (may be x); loss[row] = -sum t*log(clip(p, floor, 1-floor)); dx (null: inference) = (p*sum t - t) *
  // weight[row]
  void (*softmax_cross_entropy)(const RowsShape&, const float* x, const float* t, const float* weight, float floor,
                                float* p, float* loss, float* dx);

  // -- loss of an output x[rows,C] for targets t[rows,C]; dx (null: not wanted) is scaled by weight[row]
  // --------------- p = sigmoid(x) (may be x); with p clipped to [floor, 1-floor]: loss[row] = -mean(t*log(p) +
  // (1-t)*log(1-p)), dx = (p - t)/C * weight[row]
  void (*sigmoid_cross_entropy)(const RowsShape&, const float* x, const float* t, const float* weight, float floor,
                                float* p, float* loss, float* dx);
  // loss[row] = -sum t*log(clip(x / sum x, floor, 1-floor))
  void (*categorical_cross_entropy)(const RowsShape&, const float* x, const float* t, const float* weight, float floor,
                                    float* loss, float* dx);
  // loss[row] = -mean(t*log(p) + (1-t)*log(q)), p = clip(x, floor, 1-floor), q = 1-p clipped likewise
  void (*binary_cross_entropy)(const RowsShape&, const float* x, const float* t, const float* weight, float floor,
                               float* loss, float* dx);
  void (*squared_error)(const RowsShape&, const float* x, const float* t, const float* weight, float* loss,
                        float* dx);  // loss[row] = mean (x - t)^2

  // -- optim over one flat range --------------------------------------------------------------------------------------
  void (*sgd_step)(int64_t size, const float* grads, const SGDSettings&, float* m,
                   float* values);  // m null: no momentum
  // v_max null: no AMSGrad, which divides by the root of the largest v so far
  void (*adam_step)(int64_t size, const float* grads, const AdamSettings&, float* m, float* v, float* v_max,
                    float* values);
  // m null: no momentum; mean null: not centered
  void (*rmsprop_step)(int64_t size, const float* grads, const RMSpropSettings&, float* v, float* m, float* mean,
                       float* values);
  // average = momentum*average + (1-momentum)*values; overwrite: values = average
  void (*ema_step)(int64_t size, const EMASettings&, float* average, float* values);
  // sums[part] = sum of grads^2 from offsets[part] to offsets[part + 1], in double; longest: size of the longest part
  ScratchSize (*squared_norms_scratch)(int64_t longest);
  void (*squared_norms)(int64_t parts, const int64_t* offsets, const float* grads, double* sums, const Scratch&);

  // -- warp of one picture; never more than one thread: callers warp pictures side by side ----------------------------
  // y[p,q] = x at (row, column) = matrix[2][3] (p, q, 1), pixel centres at whole numbers; bilinear, or the nearest
  // pixel
  void (*warp_forward)(const WarpShape&, const float* x, const double* matrix, Border, float value, bool bilinear,
                       float* y);

  // -- roof: the flops of `tasks` loops of multiply-adds on registers, for measuring the machine
  // ------------------------
  int64_t (*multiply_add_loop)(int64_t tasks, int64_t iterations);
};

}  // namespace fastcnn
