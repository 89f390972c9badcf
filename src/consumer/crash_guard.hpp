#pragma once

// The file of a crash guard: which messages are being handled, and which were when the process ended.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <pgque/crash_guard.hpp>
#include <pgque/message.hpp>

#include "support/home_process.hpp"

namespace pgque::detail {

class CrashGuardFile {
 public:
  // A message that was being handled when the process ended.
  struct Suspect {
    EventId msg_id{};
    std::int32_t crashes = 0;  // how often that has happened
  };

  // Opens the file, or makes it, and locks it. `consumer`: with its subconsumer. Throws Error if that cannot be done,
  // and has then changed nothing that is in a file.
  CrashGuardFile(const CrashGuard& options, const std::string& queue, const std::string& consumer);
  CrashGuardFile(const CrashGuardFile&) = delete;
  CrashGuardFile& operator=(const CrashGuardFile&) = delete;
  ~CrashGuardFile();

  // What was being handled when the process ended the last time.
  const std::vector<Suspect>& found() const noexcept { return found_; }

  // From any thread, but not while a suspect is in flight.
  bool suspects(EventId msg_id) const { return !suspects_.empty() && suspects_.count(msg_id) != 0; }
  // Why a suspect must not be handled any more; empty if it may be.
  std::string refusal(EventId msg_id) const;

  // A message is in flight, on the thread of that number, for as long as this lives. A suspect must be the only one in
  // flight; when this ends, it has survived and is no suspect any more. In a child process the end means nothing.
  // `among_others`: it stands for several messages, any of which may end the process.
  class InFlight {
   public:
    // Without a file it does nothing.
    InFlight(CrashGuardFile* file, std::size_t thread, EventId msg_id, bool among_others = false) noexcept;
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;
    ~InFlight();
    // The message is going to be in flight again, so a suspect has not survived yet.
    void comes_again() noexcept { comes_again_ = true; }

   private:
    CrashGuardFile* const file_;
    const std::size_t thread_;
    const EventId msg_id_;
    bool comes_again_ = false;
  };

  // The suspects of all consumers of the process take turns. Otherwise a message that is handled for long would be
  // suspected each time when another consumer's message crashes the process.
  class Turn {
   public:
    // Waits for it as long as `go_on` says so, and no longer than `patience`: the handler whose turn it is may hang, or
    // wait for something that this consumer has locked.
    explicit Turn(const std::function<bool()>& go_on, std::chrono::milliseconds patience = std::chrono::seconds{10});
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();
    bool has_come() const noexcept { return has_come_; }

   private:
    const HomeProcess home_;
    bool has_come_ = false;
  };

 private:
  struct Layout;
  struct Entry;
  struct Unmap {
    void operator()(Layout* layout) const noexcept;
  };

  void read_suspects();
  void count_crashes();
  Entry& entry_for(EventId msg_id);
  void survived(EventId msg_id) noexcept;

  const std::string path_;
  const std::int32_t limit_;
  const HomeProcess home_;
  int descriptor_ = -1;  // holds the lock
  std::unique_ptr<Layout, Unmap> layout_;
  std::unordered_map<EventId, Entry*> suspects_;
  std::vector<Suspect> found_;
};

}  // namespace pgque::detail
