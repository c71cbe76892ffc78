// What the library shows to the outside: C functions marked HSPAN_API, whose names begin with
// hspan_, and nothing else.
#pragma once

#if defined(_WIN32)
#define HSPAN_API extern "C" __declspec(dllexport)
#else
#define HSPAN_API extern "C" __attribute__((visibility("default")))
#endif
