// The C interface, called from Python with plain arrays.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define HSPAN_EXPORT __attribute__((visibility("default")))

// Raised with every change of what follows, so that Python never calls a library it doesn't know.
#define HSPAN_ABI_VERSION 1

HSPAN_EXPORT int hspan_abi_version(void);

HSPAN_EXPORT float hspan_sum(const float* values, long count, int level);

#ifdef __cplusplus
}
#endif
