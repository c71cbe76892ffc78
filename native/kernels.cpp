// Compiled once per instruction set, with HSPAN_ISA naming the namespace: isa_avx512 and so on.
#include "kernels.h"

#include "attend.h"

#define HSPAN_TEXT(x) #x
#define HSPAN_NAME(x) HSPAN_TEXT(x)

namespace hspan::HSPAN_ISA {

const Kernels& table();

const Kernels& table() {
  static const Kernels kernels{
      HSPAN_NAME(HSPAN_ISA) + 4,  // without isa_
      kChannelsPerWord,
      kWordMultiple,
      kTilesPerGroup,
      {sum_columns<float>, pack_keys<float>, attend<float>},
      {sum_columns<double>, pack_keys<double>, attend<double>},
  };
  return kernels;
}

}  // namespace hspan::HSPAN_ISA
