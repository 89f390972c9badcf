#include "consumer/crash_guard.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pgque/error.hpp>

#include "consumer/options.hpp"
#include "support/in_words.hpp"

namespace pgque::detail {

namespace {

// The beginning of the file. It is written once, by one call.
struct Header {
  char magic[8];
  std::uint64_t layout;
  std::uint64_t checksum;  // of what follows
  std::uint64_t owner;     // the queue and the consumer
  char owner_in_words[1024];
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == 1056, "there are no gaps");

constexpr char magic[sizeof Header::magic] = {'p', 'g', 'q', 'c', 'r', 'a', 's', 'h'};
constexpr std::uint64_t layout_version = 1;

// More than can be in flight at once, so that the messages of one crash never push each other out.
constexpr std::size_t most_suspects = 4096;
static_assert(most_suspects > most_concurrency);

// 64-bit FNV-1a.
std::uint64_t hash(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211U;
  return hash;
}

std::uint64_t checksum(const Header& header) {
  constexpr auto from = offsetof(Header, owner);
  return hash({reinterpret_cast<const char*>(&header) + from, sizeof header - from});
}

Header header_of(const std::string& queue, const std::string& consumer) {
  Header header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.layout = layout_version;
  header.owner = hash(queue + '\0' + consumer);
  const auto words = "queue \"" + queue + "\", consumer \"" + consumer + '"';
  words.copy(header.owner_in_words, sizeof header.owner_in_words - 1);
  header.checksum = checksum(header);
  return header;
}

// What is known about a suspect, in one word, so that it is stored as a whole.
struct Record {
  std::uint32_t run = 0;  // in which run of the consumer it was in flight the last time
  bool alone = false;     // in one of the crashes it was the only one in flight
  std::uint32_t crashes = 0;

  static constexpr std::uint32_t most_crashes = 0x7FFFFFFF;

  static Record of(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32U), (word >> 31U & 1U) != 0,
            static_cast<std::uint32_t>(word & most_crashes)};
  }
  std::uint64_t word() const { return std::uint64_t{run} << 32U | std::uint64_t{alone} << 31U | crashes; }
};

[[noreturn]] void fail_guard(const std::string& path, const std::string& why) {
  Error::Facts facts;
  facts.operation = "crash_guard \"" + path + '"';
  facts.advice = why;
  throw Error{std::move(facts)};
}

[[noreturn]] void fail_guard(const std::string& path, int error, const std::string& advice) {
  fail_guard(path, std::generic_category().message(error) + "; " + advice);
}

[[noreturn]] void fail_damaged(const std::string& path) {
  fail_guard(path, "the file is damaged; delete it, and what crashed the process so far counts from 0 again");
}

constexpr auto choose_another = "choose the path of a file that this process may make, read and write";
constexpr auto one_each = "give each consumer of each process a file of its own";

class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_{number} {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  operator int() const noexcept { return number_; }  // NOLINT(google-explicit-constructor)
  int release() noexcept { return std::exchange(number_, -1); }

 private:
  int number_;
};

// A file is what it is, whatever path leads to it.
using FileId = std::pair<dev_t, ino_t>;

// What the guards of one process share. The lock of a file is the process's: it does not keep another consumer of the
// process away, and it is gone as soon as the process closes any descriptor of the file. So no guard opens a file that
// is open.
struct GuardsOfProcess {
  const HomeProcess home{};
  std::mutex mutex{};
  std::set<FileId> open{};
  bool suspect_in_flight = false;
  std::condition_variable turn_over{};
};

GuardsOfProcess& guards() {
  static std::atomic<GuardsOfProcess*> current{nullptr};
  auto* seen = current.load();
  // In a child process the parent's mutex may be locked for ever.
  while (!seen || !seen->home.is_this()) {
    auto made = std::make_unique<GuardsOfProcess>();
    if (!current.compare_exchange_strong(seen, made.get())) continue;
    if (seen) keep_for_ever(seen);
    return *made.release();
  }
  return *seen;
}

FileId id_of(const struct stat& status) {
  return {status.st_dev, status.st_ino};
}

// Before it is opened, because to open a device may do something, and to close an open guard would unlock it.
void require_closed_file(const std::string& path, const std::set<FileId>& open) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    fail_guard(path, errno, choose_another);
  }
  if (!S_ISREG(status.st_mode)) {
    fail_guard(path, std::string{S_ISDIR(status.st_mode) ? "this is a directory; " : "this is not a regular file; "} +
                         choose_another);
  }
  if (open.count(id_of(status)) != 0)
    fail_guard(path, std::string{"another consumer of this process has it; "} + one_each);
}

// fcntl() and not flock(): a child process does not inherit this lock, and so does not keep it when the process ends.
void lock_file(const std::string& path, int descriptor) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(descriptor, F_SETLK, &whole) == 0) return;
  const int error = errno;
  if (error != EACCES && error != EAGAIN) fail_guard(path, error, "choose a path on a file system that has locks");
  const bool found = ::fcntl(descriptor, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK && whole.l_pid > 0;
  fail_guard(path, (found ? "process " + std::to_string(whole.l_pid) : std::string{"another process"}) + " has it; " +
                       one_each);
}

std::string read_up_to(std::size_t size, const std::string& path, int descriptor) {
  std::string content(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const auto got = ::pread(descriptor, content.data() + done, size - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_guard(path, errno, choose_another);
    if (got == 0) {
      content.resize(done);
      break;
    }
    done += static_cast<std::size_t>(got);
  }
  return content;
}

void require_own_guard(const std::string& path, std::string_view content, bool right_size, const Header& own) {
  if (content.substr(0, sizeof magic) != std::string_view{magic, sizeof magic}) {
    fail_guard(path,
               "this is not a crash guard, and nothing of it was changed; choose another path, or delete the file");
  }
  Header header{};
  if (content.size() < sizeof header) fail_damaged(path);
  std::memcpy(&header, content.data(), sizeof header);
  if (header.layout != layout_version) {
    fail_guard(path,
               "another version of this library made it, and nothing of it was changed; delete the file, and what "
               "crashed the process so far counts from 0 again");
  }
  if (!right_size || header.checksum != checksum(header)) fail_damaged(path);
  if (header.owner != own.owner) {
    fail_guard(path, std::string{"it belongs to "} + header.owner_in_words + ", and nothing of it was changed; " +
                         one_each + ", or delete this one");
  }
}

// Until the header is there, in one call, the file has nothing but zeros.
void make_guard(const std::string& path, int descriptor, off_t old_size, std::size_t size, const Header& own) {
  const auto give_up = [&](int error) {
    const bool undone = ::ftruncate(descriptor, old_size) == 0;
    fail_guard(path, error,
               "it needs " + std::to_string(size / 1024) + " KiB; make room" + (undone ? "" : ", delete the file") +
                   ", or choose another path");
  };
  // Otherwise a full disk would be a SIGBUS when a message is handled.
  int error = 0;
  do error = ::posix_fallocate(descriptor, 0, static_cast<off_t>(size));
  while (error == EINTR);
  if (error != 0) give_up(error);
  const auto written = ::pwrite(descriptor, &own, sizeof own, 0);
  if (written != static_cast<ssize_t>(sizeof own)) give_up(written < 0 ? errno : ENOSPC);
  if (::fsync(descriptor) != 0) give_up(errno);
}

}  // namespace

struct CrashGuardFile::Entry {
  std::atomic<std::int64_t> msg_id;  // 0: none; written last
  std::atomic<std::uint64_t> record;
};

struct CrashGuardFile::Layout {
  Header header;
  std::atomic<std::uint64_t> run;  // how often the guard was opened
  // One for each thread that calls handlers, in a cache line of its own.
  struct alignas(64) Slot {
    std::atomic<std::int64_t> msg_id;        // 0: none
    std::atomic<std::int64_t> among_others;  // 1: it stands for several messages
  };
  alignas(4096) Slot slots[most_concurrency];
  Entry suspects[most_suspects];
};

CrashGuardFile::CrashGuardFile(const CrashGuard& options, const std::string& queue, const std::string& consumer)
    : path_{options.file}, limit_{options.crashes} {
  static_assert(std::atomic<std::int64_t>::is_always_lock_free && sizeof(std::atomic<std::int64_t>) == 8);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);
  static_assert(sizeof(Layout) == std::size_t{132} * 1024);

  auto& others = guards();
  const std::lock_guard guard{others.mutex};
  require_closed_file(path_, others.open);
  Descriptor file{::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600)};
  if (file < 0) fail_guard(path_, errno, choose_another);
  struct stat status {};
  if (::fstat(file, &status) != 0) fail_guard(path_, errno, choose_another);
  if (others.open.count(id_of(status)) != 0) {
    file.release();  // somebody has just put an open guard there, and to close this would unlock it
    fail_guard(path_, std::string{"another consumer of this process has it; "} + one_each);
  }
  lock_file(path_, file);
  // Another process may have made it meanwhile.
  if (::fstat(file, &status) != 0) fail_guard(path_, errno, choose_another);

  const auto own = header_of(queue, consumer);
  const auto size = static_cast<std::size_t>(status.st_size);
  const auto content = read_up_to(std::min(size, sizeof(Layout)), path_, file);
  if (size <= sizeof(Layout) && content.find_first_not_of('\0') == std::string::npos) {
    make_guard(path_, file, status.st_size, sizeof(Layout), own);
  } else {
    require_own_guard(path_, content, size == sizeof(Layout), own);
  }

  void* const memory = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) fail_guard(path_, errno, choose_another);
  layout_.reset(static_cast<Layout*>(memory));
  read_suspects();
  count_crashes();
  others.open.insert(id_of(status));
  descriptor_ = file.release();
}

CrashGuardFile::~CrashGuardFile() {
  if (!home_.is_this()) return;
  auto& others = guards();
  const std::lock_guard guard{others.mutex};
  struct stat status {};
  if (::fstat(descriptor_, &status) == 0) others.open.erase(id_of(status));
  ::close(descriptor_);
}

void CrashGuardFile::Unmap::operator()(Layout* layout) const noexcept {
  ::munmap(layout, sizeof *layout);
}

void CrashGuardFile::read_suspects() {
  for (const auto& slot : layout_->slots) {
    if (slot.msg_id < 0) fail_damaged(path_);
  }
  for (auto& entry : layout_->suspects) {
    const std::int64_t msg_id = entry.msg_id;
    if (msg_id == 0) continue;
    const bool is_new = suspects_.emplace(EventId{msg_id}, &entry).second;
    if (msg_id < 0 || !is_new || Record::of(entry.record).crashes == 0) fail_damaged(path_);
  }
}

// If the process ends in the middle of this, the next attempt counts only what has not been counted yet.
void CrashGuardFile::count_crashes() {
  auto run = static_cast<std::uint32_t>(layout_->run);
  // After a crash of the machine the parts of the file may be of different age.
  for (const auto& [msg_id, entry] : suspects_) run = std::max(run, Record::of(entry->record).run);

  std::set<EventId> in_flight;
  bool among_others = false;
  for (const auto& slot : layout_->slots) {
    if (slot.msg_id == 0) continue;
    in_flight.insert(EventId{slot.msg_id.load()});
    among_others = among_others || slot.among_others != 0;
  }
  const bool alone = in_flight.size() == 1 && !among_others;
  for (const auto msg_id : in_flight) {
    auto& entry = entry_for(msg_id);
    auto record = Record::of(entry.record);
    if (record.run != run || record.crashes == 0) {
      record.run = run;
      record.alone = record.alone || alone;
      record.crashes = std::min(record.crashes + 1, Record::most_crashes);
    }
    entry.record = record.word();
    entry.msg_id = static_cast<std::int64_t>(msg_id);
    found_.push_back({msg_id, static_cast<std::int32_t>(record.crashes)});
  }
  for (auto& slot : layout_->slots) slot.msg_id = 0;
  layout_->run = std::uint64_t{run} + 1;
}

// The suspect's entry, or an empty one; if there is none, that of the suspect that has not crashed for longest.
CrashGuardFile::Entry& CrashGuardFile::entry_for(EventId msg_id) {
  const auto found = suspects_.find(msg_id);
  if (found != suspects_.end()) return *found->second;
  const auto run = [](const Entry& entry) -> std::uint64_t {
    return entry.msg_id == 0 ? 0 : std::uint64_t{Record::of(entry.record).run} + 1;
  };
  auto& entry = *std::min_element(std::begin(layout_->suspects), std::end(layout_->suspects),
                                  [&](const Entry& a, const Entry& b) { return run(a) < run(b); });
  suspects_.erase(EventId{entry.msg_id.load()});
  entry.msg_id = 0;
  entry.record = 0;
  suspects_.emplace(msg_id, &entry);
  return entry;
}

std::string CrashGuardFile::refusal(EventId msg_id) const {
  const auto record = Record::of(suspects_.at(msg_id)->record);
  // With others in flight it is not known which one did it.
  if (!record.alone || record.crashes < static_cast<std::uint32_t>(limit_)) return {};
  return "crash_guard: the process ended " + times_in_words(record.crashes) + " while this message was handled";
}

void CrashGuardFile::survived(EventId msg_id) noexcept {
  const auto found = suspects_.find(msg_id);
  if (found == suspects_.end()) return;
  found->second->msg_id = 0;
  suspects_.erase(found);
}

CrashGuardFile::InFlight::InFlight(CrashGuardFile* file, std::size_t thread, EventId msg_id, bool among_others) noexcept
    : file_{file}, thread_{thread}, msg_id_{msg_id} {
  if (!file_) return;
  auto& slot = file_->layout_->slots[thread_];
  slot.among_others.store(among_others ? 1 : 0, std::memory_order_relaxed);
  slot.msg_id.store(static_cast<std::int64_t>(msg_id_), std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // a crash comes after it
}

CrashGuardFile::InFlight::~InFlight() {
  if (!file_ || !file_->home_.is_this()) return;
  file_->layout_->slots[thread_].msg_id.store(0, std::memory_order_release);
  if (!comes_again_ && !file_->suspects_.empty()) file_->survived(msg_id_);
}

CrashGuardFile::Turn::Turn(const std::function<bool()>& go_on, std::chrono::milliseconds patience) {
  // How soon it notices that it should not go on.
  constexpr std::chrono::milliseconds look_again{50};
  auto& all = guards();
  const auto until = std::chrono::steady_clock::now() + patience;
  std::unique_lock lock{all.mutex};
  while (all.suspect_in_flight) {
    if (!go_on() || std::chrono::steady_clock::now() >= until) return;
    all.turn_over.wait_for(lock, look_again);
  }
  has_come_ = all.suspect_in_flight = true;
}

CrashGuardFile::Turn::~Turn() {
  if (!has_come_ || !home_.is_this()) return;
  auto& all = guards();
  const std::lock_guard lock{all.mutex};
  all.suspect_in_flight = false;
  all.turn_over.notify_all();
}

}  // namespace pgque::detail
