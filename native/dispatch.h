// Which instruction sets this binary holds, which of them this machine runs, and their kernels.
//
// Levels count from 0, the set that runs everywhere, upwards; each level's instructions include
// those of the levels below it. A build holds the levels that its compiler knows.
#pragma once

#include "hspan.h"

namespace hspan {

struct Kernels;

// The kernels of one level: -1 is the best that is usable here. A level that is not usable here
// gives those of level 0, which run everywhere.
const Kernels& choose(int level);

}  // namespace hspan

extern "C" {

// How many levels this binary holds.
HSPAN_EXPORT int hspan_isa_count(void);

// "portable", "avx2", …; null where there is no such level.
HSPAN_EXPORT const char* hspan_isa_name(int level);

// 1 if this processor and this operating system run that level, else 0.
HSPAN_EXPORT int hspan_isa_usable(int level);
}
