#include "failing_new.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace pgque::test {

namespace {

std::atomic<bool> armed{false};
std::atomic<std::int64_t> first_failing{0};
std::atomic<std::int64_t> last_failing{0};
std::atomic<std::int64_t> allocations{0};
std::atomic<bool> in_this_thread{false};
thread_local bool is_this_thread = false;

void* allocate(std::size_t size) noexcept {
  if (armed && is_this_thread == in_this_thread) {
    const auto number = ++allocations;
    if (number >= first_failing && number <= last_failing) return nullptr;
  }
  return std::malloc(size == 0 ? 1 : size);
}

void* allocate_or_throw(std::size_t size) {
  void* const memory = allocate(size);
  if (!memory) throw std::bad_alloc{};
  return memory;
}

}  // namespace

AllocationFailure::AllocationFailure(In threads, std::int64_t first, std::int64_t last) {
  first_failing = first;
  last_failing = last;
  allocations = 0;
  is_this_thread = true;
  in_this_thread = threads == In::this_thread;
  armed = true;
}

AllocationFailure::~AllocationFailure() {
  armed = false;
  is_this_thread = false;
}

bool AllocationFailure::happened() noexcept {
  return allocations >= first_failing;
}

}  // namespace pgque::test

void* operator new(std::size_t size) {
  return pgque::test::allocate_or_throw(size);
}
void* operator new[](std::size_t size) {
  return pgque::test::allocate_or_throw(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return pgque::test::allocate(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return pgque::test::allocate(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
