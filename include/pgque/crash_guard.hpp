#pragma once

/// @file
/// What keeps a message that crashes the process from crashing it for ever.

#include <cstdint>
#include <string>

namespace pgque {

/// Counts how often the process ended while a message was handled, and refuses to handle a message that did it too
/// often. PgQue cannot know: it counts nacks, not deliveries, so a message whose handler crashes the process comes
/// again for ever, and everything behind it waits.
///
/// The file is opened when `start()` begins and closed when it returns. It holds the ids of the messages that are being
/// handled. The ids that it holds when it is opened again are those of messages that were being handled when the
/// process ended: each of them is logged as `LogEvent::crash_suspected` with how often that has happened now. From then
/// on, no other handler of this consumer runs beside the handler of such a message, until one of its handlers has
/// returned or thrown. A message that has reached the limit is not handled any more. It fails, with a reason such as
/// `crash_guard: the process ended 3 times while this message was handled`, and is nacked with `retry_after`, until it
/// is a dead letter. If several messages were being handled when the process ended, each of them is counted, but none
/// is refused before the process has ended once while it was handled alone.
///
/// **What counts.** Every end of the process counts, whatever caused it, because the guard cannot tell: a crash,
/// SIGKILL, the end of power, or an `exit()` while a handler ran on another thread. The file survives the process, but
/// nothing forces it onto the disk, so after a crash of the machine it may be older than that. It does not outlive its
/// disk.
///
/// **What it cannot see.** A crash in the log sink, or outside the handling of messages. The file must not be truncated
/// while it is in use: the process would end with SIGBUS.
///
/// **To let a message run again,** stop the process and delete the file, or replay the dead letter, which gives it
/// another id. Delete the file also when the queue is dropped or the database is set back to an earlier state, because
/// the same ids then belong to other messages.
struct CrashGuard {
  /// The path of the file, which is made if it is not there; its directory must exist. Required. It belongs to one
  /// consumer of one process at a time: `start()` throws `Error` if another process or another consumer has it, if it
  /// was made for another queue or consumer, if it is damaged or something else, or if the disk is full. It takes 132
  /// KiB.
  std::string file{};
  /// How many crashes are enough: then the message is nacked instead of handled. Default 3; at least 1.
  std::int32_t crashes = 3;
};

}  // namespace pgque
