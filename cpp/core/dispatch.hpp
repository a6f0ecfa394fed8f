// Which instruction sets this build holds, which this CPU can run, and which one is active.
#pragma once
#include <string>
#include <vector>

#include "core/kernels.hpp"

namespace fastcnn {

const Kernels& kernels();                       // the active table
const Kernels* find_kernels(const std::string& isa);  // null: not built or not runnable here
std::vector<std::string> isas();                // runnable here, slowest first
// Makes a table active; throws std::invalid_argument with a sentence when it can't be.
void set_isa(const std::string& isa);
// Called once at import: honours FASTCNN_ISA, else takes the best; throws std::runtime_error below the baseline.
void choose_isa();

}  // namespace fastcnn
