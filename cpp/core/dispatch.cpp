#include "core/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#ifdef FASTCNN_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastcnn {

#define FASTCNN_DECLARE(name)    \
  namespace name {               \
  extern const Kernels& table(); \
  }
#ifdef FASTCNN_HAS_BASE
FASTCNN_DECLARE(base)
#endif
#ifdef FASTCNN_HAS_AVX2
FASTCNN_DECLARE(avx2)
#endif
#ifdef FASTCNN_HAS_AVX2X16
FASTCNN_DECLARE(avx2x16)
#endif
#ifdef FASTCNN_HAS_AVX512
FASTCNN_DECLARE(avx512)
#endif
#ifdef FASTCNN_HAS_AMX
FASTCNN_DECLARE(amx)
#endif
#ifdef FASTCNN_HAS_NEON
FASTCNN_DECLARE(neon)
#endif

namespace {

#ifdef FASTCNN_EMULATED_TILES
bool tiles_granted() { return __builtin_cpu_supports("x86-64-v4") != 0; }
#elif defined(FASTCNN_HAS_AMX)
// Tile registers must be there, and granted by the system: Linux saves them only for processes that ask.
bool tiles_granted() {
  static const bool granted = [] {
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("x86-64-v4") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kBF16 = 1U << 22, kTile = 1U << 24;
    if (!(d & kBF16) || !(d & kTile)) return false;
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return granted;
}
#endif

struct Row {
  const char* isa;
  const Kernels& (*table)();
  bool (*runs_here)();  // tests every feature that the set's compiler flag permits
  bool for_tests;       // never chosen by itself
  const char* needs;
};

// Slowest first; the last runnable row that is not for tests is the default.
const Row kRows[] = {
#ifdef FASTCNN_HAS_BASE
#if defined(__x86_64__)
    {"base", base::table, [] { return __builtin_cpu_supports("x86-64-v2") != 0; }, false,
     "x86-64-v2 (SSE4.2, SSSE3, POPCNT)"},
#else
    {"base", base::table, [] { return true; }, false, "nothing"},
#endif
#endif
#ifdef FASTCNN_HAS_AVX2X16
    {"avx2x16", avx2x16::table, [] { return __builtin_cpu_supports("x86-64-v3") != 0; }, true,
     "x86-64-v3 (AVX2, FMA, BMI2, F16C)"},
#endif
#ifdef FASTCNN_HAS_AVX2
    {"avx2", avx2::table, [] { return __builtin_cpu_supports("x86-64-v3") != 0; }, false,
     "x86-64-v3 (AVX2, FMA, BMI2, F16C)"},
#endif
#ifdef FASTCNN_HAS_AVX512
    {"avx512", avx512::table, [] { return __builtin_cpu_supports("x86-64-v4") != 0; }, false,
     "x86-64-v4 (AVX-512 F, BW, CD, DQ, VL)"},
#endif
#ifdef FASTCNN_HAS_AMX
    {"amx", amx::table, tiles_granted, false, "x86-64-v4, AMX-TILE and AMX-BF16, granted by the system"},
#endif
#ifdef FASTCNN_HAS_NEON
    {"neon", neon::table, [] { return true; }, false, "ARMv8-A"},
#endif
};

std::atomic<const Kernels*> active{nullptr};

}  // namespace

const Kernels& kernels() { return *active.load(std::memory_order_acquire); }

const Kernels* find_kernels(const std::string& isa) {
  for (const Row& row : kRows)
    if (isa == row.isa && row.runs_here()) return &row.table();
  return nullptr;
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Row& row : kRows)
    if (row.runs_here()) names.emplace_back(row.isa);
  return names;
}

void set_isa(const std::string& isa) {
  if (const Kernels* found = find_kernels(isa)) {
    active.store(found, std::memory_order_release);
    return;
  }
  std::string message, here;
  for (const Row& row : kRows) {
    if (isa == row.isa) message = "this CPU lacks " + std::string(row.needs) + ", which it needs";
    if (row.runs_here()) here += (here.empty() ? "" : ", ") + std::string(row.isa);
  }
  if (message.empty()) message = "this build has no such set";
  throw std::invalid_argument("instruction set '" + isa + "': " + message + "; here you can choose " + here);
}

void choose_isa() {
  if (const char* wanted = std::getenv("FASTCNN_ISA"); wanted && *wanted) {
    try {
      set_isa(wanted);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error("FASTCNN_ISA: " + std::string(error.what()));
    }
    return;
  }
  for (const Row& row : kRows)
    if (row.runs_here() && !row.for_tests) active.store(&row.table(), std::memory_order_release);
  if (!active.load())
    throw std::runtime_error("fastcnn: this CPU is below the baseline, it lacks " + std::string(kRows[0].needs));
}

}  // namespace fastcnn
