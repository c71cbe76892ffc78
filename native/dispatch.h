// Which instruction sets this binary holds, which of them this machine runs, and their kernels.
//
// Levels count from 0, the set that runs everywhere, upwards; each level's instructions include
// those of the levels below it. A build holds the levels that its compiler knows.
#pragma once

#include "export.h"

namespace hspan {

struct Kernels;

// To be raised whenever an exported function changes its arguments or its meaning; ABI_VERSION in
// src/hspan/ops/_library.py is the same number, and a library with another one is refused.
constexpr int kAbiVersion = 1;

// The kernels of one level: -1 is the best that is usable here. A level that is not usable here
// gives those of level 0, which run everywhere.
const Kernels& choose(int level) noexcept;

}  // namespace hspan

HSPAN_API int hspan_abi_version(void) noexcept;

// How many levels this binary holds.
HSPAN_API int hspan_isa_count(void) noexcept;

// "portable", "avx2", …; null where there is no such level.
HSPAN_API const char* hspan_isa_name(int level) noexcept;

// 1 if this processor and this operating system run that level, else 0.
HSPAN_API int hspan_isa_usable(int level) noexcept;
