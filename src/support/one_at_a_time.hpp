#pragma once

// Notices that two threads use an object at once that is for one thread at a time.

#include <atomic>
#include <stdexcept>
#include <thread>

namespace pgque::detail {

class OneAtATime {
 public:
  // As long as it lives, its thread uses the object. That thread may begin to use it again meanwhile.
  class Use {
   public:
    // Throws std::logic_error while another thread uses the object; its text begins with `call.describe()`.
    template <class Call>
    Use(OneAtATime& object, const Call& call) : user_{object.user_} {
      std::thread::id user{};
      ours_ = user_.compare_exchange_strong(user, std::this_thread::get_id());
      if (ours_ || user == std::this_thread::get_id()) return;
      throw std::logic_error{
          call.describe() +
          ": another thread is using the same connection now. A Client, with its transactions, and an "
          "Admin are for one thread at a time: give each thread its own. A BufferedProducer takes "
          "events from all threads."};
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (ours_) user_.store(std::thread::id{});
    }

   private:
    std::atomic<std::thread::id>& user_;
    bool ours_ = false;
  };

 private:
  std::atomic<std::thread::id> user_{};
};

}  // namespace pgque::detail
