#pragma once

// An operator new that fails when it is told to. A program that links failing_new.cpp has it.

#include <cstdint>
#include <limits>

namespace pgque::test {

// For as long as it lives, which must not overlap with another, the allocation with this number fails, counted from 1,
// and those after it up to `last`.
class AllocationFailure {
 public:
  enum class In { this_thread, other_threads };
  static constexpr auto all_later = std::numeric_limits<std::int64_t>::max();

  AllocationFailure(In threads, std::int64_t first, std::int64_t last);
  AllocationFailure(In threads, std::int64_t only) : AllocationFailure{threads, only, only} {}
  AllocationFailure(const AllocationFailure&) = delete;
  AllocationFailure& operator=(const AllocationFailure&) = delete;
  ~AllocationFailure();

  // Whether there were enough allocations for one to fail.
  static bool happened() noexcept;
};

}  // namespace pgque::test
