#pragma once

/// @file
/// Symbol visibility. The library is compiled with hidden visibility; what carries this macro is its interface.

/// @def PGQUE_EXPORT
/// Marks what a shared library exports. Empty in a static one, where PGQUE_STATIC_DEFINE is defined.
#if defined(PGQUE_STATIC_DEFINE)
#define PGQUE_EXPORT
#elif defined(_WIN32) && defined(pgque_EXPORTS)
#define PGQUE_EXPORT __declspec(dllexport)
#elif defined(_WIN32)
#define PGQUE_EXPORT __declspec(dllimport)
#else
#define PGQUE_EXPORT __attribute__((visibility("default")))
#endif
