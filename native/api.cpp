#include "dispatch.h"
#include "kernels.h"

float hspan_sum(const float* values, long count, int level) {
  return hspan::choose(level).sum(values, count);
}
