// Compiled once per instruction set, with HSPAN_ISA naming the namespace: isa_avx512 and so on.
#include "kernels.h"

#include "attend.h"
#include "differentiate.h"
#include "differentiate_tiles.h"
#include "residual.h"
#include "short.h"

#define HSPAN_TEXT(x) #x
#define HSPAN_NAME(x) HSPAN_TEXT(x)

namespace hspan::HSPAN_ISA {

const Kernels& table();

const Kernels& table() {
  static const Kernels kernels{
      &HSPAN_NAME(HSPAN_ISA)[4],  // without isa_
      kChannelsPerWord,
      kWordMultiple,
      kTilesPerGroup,
      kPrefixPays,
      kMostPrefixed,
      {sum_columns<float>, pack_keys<float>,
#if defined(HSPAN_PAIRS)
       pack_values,
#else
       nullptr,
#endif
       find_basis, project_keys, probe<float>, attend<float>, differentiate_queries<float>,
       differentiate_keys<float>},
      {sum_columns<double>, pack_keys<double>, nullptr, nullptr, nullptr, probe<double>,
       attend<double>, differentiate_queries<double>, differentiate_keys<double>},
#if defined(HSPAN_PAIRS)
      {kTilesTogether, kWordMultiple, pack_rows, count_tiles, differentiate_tiles},
#else
      {},
#endif
#if defined(HSPAN_RESIDUAL)
      {kMatrices, kPartHalves, own_bytes, pack_weights, unpack_gradients, residual_forward,
       residual_backward},
#else
      {},
#endif
#if defined(HSPAN_AMX)
      {short_forward, short_backward},
#else
      {},
#endif
  };
  return kernels;
}

}  // namespace hspan::HSPAN_ISA
