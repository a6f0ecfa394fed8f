"""Faults of dense layers, pooling, normalisation, pointwise operations, losses, optimizers and the workers."""

from __future__ import annotations

from fault import Fault

DENSE = "kernels/dense.cpp"
POOL = "kernels/pool.cpp"
NORM = "kernels/norm.cpp"
POINTWISE = "kernels/pointwise.cpp"
SOFTMAX = "kernels/softmax.cpp"
OPTIM = "kernels/optim.cpp"
LOSS = "kernels/loss.cpp"

FAULTS_LAYERS = [
    Fault(
        DENSE,
        "finish_row(b ? b + k : nullptr, with_relu, width, y + n * s.K + k);",
        "finish_row(nullptr, with_relu, width, y + n * s.K + k);",
        "lost bias of several rows",
    ),
    Fault(
        DENSE,
        "const int64_t left = smaller(kLanes, width - k);",
        "const int64_t left = smaller(kLanes, width - k - 1);",
        "the last column of a few rows is missing",
    ),
    Fault(
        DENSE,
        "packed, depth, width, c == 0, y + k, s.K);",
        "packed, depth, width, true, y + k, s.K);",
        "a block of depth overwrites the ones before",
    ),
    Fault(DENSE, "if (k < s.K) add(k,", "if (k + 1 < s.K) add(k,", "a tail of one lane is dropped in dot products"),
    Fault(DENSE, "double sum = accumulate ? db[c] : 0.0;", "double sum = 0.0;", "accumulate ignored in column sums"),
    Fault(
        DENSE,
        "vf sum = accumulate ? load_upto(at + i * s.K + j, left) : vf{};",
        "vf sum = vf{};",
        "accumulate ignored in the last panel of a dense weight gradient",
    ),
    Fault(
        POOL,
        "smaller((at + pad) / stride + 1, count)",
        "smaller((at + pad) / stride, count)",
        "the last window over a pixel is missing in the backward pass",
    ),
    Fault(
        POOL,
        "static_cast<int32_t>(r.begin * s.S + c.begin)",
        "static_cast<int32_t>(r.begin + c.begin)",
        "wrong argmax where the window starts in the padding",
    ),
    Fault(
        POOL,
        "if (first) __builtin_memset(to, 0, static_cast<size_t>(s.C) * 4);",
        "",
        "pixels under no window are not cleared",
    ),
    Fault(
        POOL,
        "static_cast<float>((r.end - r.begin) * (c.end - c.begin))",
        "static_cast<float>(shape.R * shape.S)",
        "the gradient of average pooling counts the padding",
    ),
    Fault(
        NORM,
        "(square[c] < 0 ? 0 : square[c]) / static_cast<double>(total);",
        "(square[c] < 0 ? 0 : square[c]) / static_cast<double>(total - 1);",
        "unbiased variance",
    ),
    Fault(
        NORM,
        "square[c] += static_cast<double>(slot[C + c]) + d * d * weight;",
        "square[c] += static_cast<double>(slot[C + c]);",
        "merged blocks lose the spread of their means",
    ),
    Fault(
        NORM, "static_cast<float>(-scale * sum[i] / rows);", "0;", "dx of batch normalisation without the mean of dy"
    ),
    Fault(
        POINTWISE,
        "if (i < end) store_tail(y + i, f(i, end - i), end - i);",
        "if (i < end) store_tail(y + i, f(i, end - i), end - i - 1);",
        "the last element of a tail is not stored",
    ),
    Fault("simd/simd.hpp", "return select(a < vf{}, vf{}, a);", "return select(a > vf{}, a, vf{});", "ReLU drops NaN"),
    Fault(
        POINTWISE,
        "(a >> 64) ^ c[3] ^ key1;",
        "(a >> 64) ^ c[3];",
        "dropout: one half of the key is left out",
    ),
    Fault(
        POINTWISE,
        "static_cast<uint64_t>(i / kPhiloxBlock) + 1, numbers",
        "static_cast<uint64_t>(i / kPhiloxBlock), numbers",
        "dropout: the counter begins at 0",
    ),
    Fault(
        POINTWISE,
        "to[c] += from[c];",
        "to[c] = from[c];",
        "concatenation: an accumulated gradient is overwritten",
    ),
    Fault(
        POINTWISE,
        "a < broadcast(max_value)",
        "a <= broadcast(max_value)",
        "bounded ReLU: the gradient passes at the bound",
    ),
    Fault(
        POINTWISE,
        "sign + broadcast(2 * l2) * a",
        "sign + broadcast(l2) * a",
        "penalty: half the gradient",
    ),
    Fault(
        POINTWISE,
        "j < end - i; ++j) add",
        "j < end - i - 1; ++j) add",
        "penalty: the last weight is left out",
    ),
    Fault(
        SOFTMAX,
        "load_upto(to + c, n) * factor - load_upto(target + c, n)",
        "load_upto(to + c, n) - load_upto(target + c, n)",
        "the gradient takes targets to sum to one",
    ),
    Fault(
        SOFTMAX,
        "const double dot = sum_over(C,",
        "const double dot = sum_over(C - 1,",
        "the last class is missing in the softmax gradient's mean",
    ),
    Fault(
        OPTIM,
        "__builtin_pow(beta_2, settings.t)",
        "__builtin_pow(beta_2, settings.t + 1)",
        "Adam's bias correction is one step ahead",
    ),
    Fault(OPTIM, "step - broadcast(momentum) * v", "-v", "Nesterov's step is plain momentum"),
    Fault(
        OPTIM, "relu(variance - centre * centre)", "variance - centre * centre", "a centered variance may be negative"
    ),
    Fault(OPTIM, "select(second < most, most, second)", "second", "AMSGrad forgets the largest square"),
    Fault(OPTIM, "chunk < ceil_div(size, kGrain)", "chunk < size / kGrain", "a norm leaves its last chunk out"),
    Fault(OPTIM, "step + broadcast(decay) * w", "step + broadcast(decay)", "weight decay does not see the weight"),
    Fault(LOSS, "free - (passes ? wanted / q : 0)", "1 - (passes ? wanted / q : 0)", "targets are taken to sum to one"),
    Fault(LOSS, "(probability - target) *", "(target - probability) *", "the sigmoid's gradient has the wrong sign"),
    Fault(
        LOSS,
        "clipped(1 - p, 1 - clip.most, clip.most)",
        "1 - p",
        "the clip of 1 - p is lost",
    ),
    Fault(
        "core/parallel.hpp",
        "count * (i + 1) / members}",
        "count / members * (i + 1)}",
        "the tasks left over by an even split are lost",
    ),
    Fault(
        NORM,
        "relu ? Mask::input : Mask::none;",
        "Mask::none;",
        "the ReLU made again from x lets every gradient through",
    ),
    Fault(
        NORM,
        "if (scale) scale[begin + c] = scale_of(gamma, inv_std, begin + c);",
        "if (scale) scale[begin + c] = scale_of(nullptr, inv_std, begin + c);",
        "gamma is missing where the reader normalises",
    ),
    Fault(
        DENSE,
        "add_run(out + n * columns, width, c - begin <= kRun, block + n * columns);",
        "add_run(out, width, c - begin <= kRun, block + n * columns);",
        "all rows that weights stream past get the sums of the first",
    ),
    Fault(
        DENSE,
        "take(context, c * s.K, rows * s.K, dw);",
        "take(context, task * s.K, rows * s.K, dw);",
        "blocks of a gradient change other weights than their own",
    ),
    Fault(
        "bindings/optim.cpp",
        "return array ? array + first : nullptr;",
        "return array;",
        "every block of a gradient meets the first block's momentum",
    ),
]
