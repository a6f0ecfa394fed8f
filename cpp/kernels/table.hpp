// Each family fills its part of the table; table.cpp calls them all.
#pragma once
#include "core/kernels.hpp"

namespace fastcnn::FASTCNN_ISA {

void fill_conv(Kernels&);
void fill_dense(Kernels&);
void fill_loss(Kernels&);
void fill_norm(Kernels&);
void fill_optim(Kernels&);
void fill_pointwise(Kernels&);
void fill_pool(Kernels&);
void fill_roof(Kernels&);
void fill_softmax(Kernels&);
void fill_warp(Kernels&);

}  // namespace fastcnn::FASTCNN_ISA
