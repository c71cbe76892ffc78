// Instruction sets are chosen at run time: kernels.cpp is compiled once for each, and this file asks
// the processor and the operating system which of them may run. It is compiled for the oldest
// machine of its architecture, as everything outside kernels.cpp is.

#include "dispatch.h"

#include "kernels.h"

#if defined(HSPAN_WITH_AVX2)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(HSPAN_WITH_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace hspan {

namespace isa_portable {
const Kernels& table();
}
namespace isa_avx2 {
const Kernels& table();
}
namespace isa_avx512 {
const Kernels& table();
}
namespace isa_avx512_bf16 {
const Kernels& table();
}
namespace isa_amx {
const Kernels& table();
}

namespace {

struct Level {
  const char* name;
  const Kernels& (*table)();
  bool usable;
};

#if defined(HSPAN_WITH_AVX2)

struct Registers {
  unsigned eax, ebx, ecx, edx;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r{0, 0, 0, 0};  // stays zero where the processor has no such leaf
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(unsigned word, int position) { return (word >> position) & 1u; }

// The registers that the operating system saves when it switches threads (XCR0). A processor may
// have wider ones than the system, or the virtual machine, lets programs use.
unsigned saved_state() {
  const bool readable = bit(cpuid(1, 0).ecx, 27);  // OSXSAVE
  if (!readable) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Linux hands out the 8 KiB of tile registers only to processes that ask for them; without that
// the first tile instruction kills the process.
[[maybe_unused]] bool tiles_permitted() {
#if defined(__linux__) && defined(HSPAN_WITH_AMX)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

struct Usable {
  bool avx2, avx512, avx512_bf16, amx;
};

Usable ask_processor() {
  constexpr unsigned kYmm = 0x6;                // SSE and AVX
  constexpr unsigned kZmm = kYmm | 0xe0;        // masks, upper halves, registers 16 to 31
  constexpr unsigned kTiles = kZmm | 0x60000u;  // tile configuration and data

  const unsigned saved = saved_state();
  const auto saves = [saved](unsigned state) { return (saved & state) == state; };
  const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);

  Usable can{};
  can.avx2 = saves(kYmm) && bit(basic.ecx, 28) && bit(basic.ecx, 12)  // AVX, FMA
             && bit(extended.ebx, 5);
  can.avx512 = can.avx2 && saves(kZmm) && bit(extended.ebx, 16) && bit(extended.ebx, 17)  // F, DQ
               && bit(extended.ebx, 30) && bit(extended.ebx, 31);                         // BW, VL
  can.avx512_bf16 = can.avx512 && bit(more.eax, 5);
#if defined(HSPAN_WITH_AMX)
  can.amx = can.avx512_bf16 && saves(kTiles) && bit(extended.edx, 24) && bit(extended.edx, 22)
            && tiles_permitted();
#else
  static_cast<void>(kTiles);
#endif
  return can;
}

#endif

struct Levels {
  Level all[5];
  int count = 0;

  Levels() {
    add("portable", isa_portable::table, true);
#if defined(HSPAN_WITH_AVX2)
    const Usable can = ask_processor();
    add("avx2", isa_avx2::table, can.avx2);
#if defined(HSPAN_WITH_AVX512)
    add("avx512", isa_avx512::table, can.avx512);
#endif
#if defined(HSPAN_WITH_AVX512_BF16)
    add("avx512_bf16", isa_avx512_bf16::table, can.avx512_bf16);
#endif
#if defined(HSPAN_WITH_AMX)
#if defined(HSPAN_EMULATE_AMX)
    add("amx", isa_amx::table, true);
#else
    add("amx", isa_amx::table, can.amx);
#endif
#endif
#endif
  }

  void add(const char* name, const Kernels& (*table)(), bool usable) {
    all[count++] = Level{name, table, usable};
  }

  bool has(int level) const { return level >= 0 && level < count; }
};

// Asked once, when it is first needed, and not while the library is being loaded.
const Levels& levels() {
  static const Levels once;
  return once;
}

}  // namespace

const Kernels& choose(int level) {
  const Levels& known = levels();
  if (level == -1) {
    level = known.count - 1;
    while (!known.all[level].usable) --level;
  } else if (!hspan_isa_usable(level)) {
    level = 0;
  }
  return known.all[level].table();
}

}  // namespace hspan

int hspan_abi_version(void) { return HSPAN_ABI_VERSION; }

int hspan_isa_count(void) { return hspan::levels().count; }

const char* hspan_isa_name(int level) {
  return hspan::levels().has(level) ? hspan::levels().all[level].name : nullptr;
}

int hspan_isa_usable(int level) {
  return hspan::levels().has(level) && hspan::levels().all[level].usable;
}
