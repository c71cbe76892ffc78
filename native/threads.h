// Threads come from OpenMP, which torch has loaded already; a build without it has one thread.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
namespace hspan {
inline int thread_index() { return omp_get_thread_num(); }
}  // namespace hspan
#else
namespace hspan {
inline int thread_index() { return 0; }
}  // namespace hspan
#endif
