#pragma once

// A fixed number of threads that work through a list of tasks together.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pgque::detail {

class WorkerPool {
 public:
  explicit WorkerPool(std::size_t threads);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  ~WorkerPool();

  // A task, with the number of the thread that it runs on, from 0.
  using Task = std::function<void(std::size_t index, std::size_t thread)>;
  // Calls task(0, ...) to task(count - 1, ...), each once and begun in that order, and returns when all have returned.
  // Throws the first exception that a task threw, if any.
  void run(std::size_t count, const Task& task);

 private:
  void work(std::size_t thread);
  void end() noexcept;

  std::mutex mutex_;
  std::condition_variable work_to_do_;
  std::condition_variable all_done_;
  const Task* task_ = nullptr;
  std::atomic<std::size_t> next_{0};
  std::size_t count_ = 0;
  std::size_t busy_ = 0;  // threads that take tasks
  std::exception_ptr error_;
  bool quit_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pgque::detail
