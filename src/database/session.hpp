#pragma once

// One connection with its prepared statements.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <pgque/dsn.hpp>
#include <pgque/error.hpp>

#include "database/pqxx_compat.hpp"
#include "database/session_options.hpp"
#include "database/statement.hpp"
#include "support/home_process.hpp"
#include "support/one_at_a_time.hpp"

namespace pgque::detail {

class Session {
 public:
  // Connects, or throws ConnectionError, which is permanent if a fixed DSN has a wrong password.
  static std::shared_ptr<Session> connect(const Dsn& dsn, const SessionOptions& options);
  // Works on the caller's connection, without prepared statements.
  static std::shared_ptr<Session> borrow(Connection& connection);

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  // The connection, ready for a new transaction. Throws std::logic_error after close(), while a transaction is open and
  // in a child process, ConnectionError once it is lost, which is found out without a round trip. A renewable session
  // that is worn out connects again first.
  Connection& idle_connection(const Call& call);

  // The connection in any state, for waiting on its socket.
  Connection& connection() noexcept { return *connection_; }

  // Prepares the statement, if that has not been done. Nothing is executed yet. Returns the name, or null where nothing
  // is prepared.
  const std::string* prepare(const Statement& statement);
  pqxx::result execute(pqxx::transaction_base& tx, const Statement& statement, Params params);

  // All statements are then prepared again, under new names, because libpqxx 6 never prepares a name twice.
  void forget_statements();

  // What became of a call. Some errors come again for as long as the session lasts: plans and types that an upgrade has
  // changed, statements and cursors that a pooler has lost. So a call that fails three times in a row with the same
  // error of this kind wears the session out.
  void succeeded(const Call& call);
  void failed(const Call& call, const Error& error);
  bool worn_out() const noexcept { return worn_out_; }
  // The caller may keep a reference to the connection, so it stays.
  void keep_connection() noexcept { renewable_ = false; }

  void close() noexcept;
  bool closed() const noexcept { return closed_; }
  bool is_open() const noexcept;

  void transaction_begun() noexcept { transaction_open_ = true; }
  void transaction_ended() noexcept { transaction_open_ = false; }

  // The thread that uses the session: it holds a OneAtATime::Use for the whole of a call.
  OneAtATime& users() noexcept { return users_; }

  // Asks the server to cancel what the connection is executing. May be called from another thread.
  void cancel() noexcept;
  // Ends all traffic on the socket at once, so that nothing waits for an answer any more. May be called from another
  // thread while the session lives. Does nothing unless the session is stoppable.
  void shut_down() noexcept;
  // Whether the connection is lost, as far as that can be known without asking the server. Costs one system call.
  bool finds_loss() noexcept;
  // The process whose connection it is. In its children close(), cancel(), shut_down() and the destructor do nothing,
  // because they would end the parent's.
  const HomeProcess& home() const noexcept { return home_; }

 private:
  Session(const Dsn& dsn, const SessionOptions& options);
  explicit Session(Connection& borrowed);

  void renew();

  struct Failures {
    std::string error;
    int count = 0;
  };

  const Dsn dsn_{};
  const SessionOptions options_{};
  const HomeProcess home_;
  OneAtATime users_;
  AtHome<OwnedConnection> owned_;
  Connection* connection_;
  std::unordered_map<const char*, std::string> prepared_;  // the names, by address: the statements are constants
  int generation_ = 0;
  // By the verbs of calls, which are constants, and by queues: the same call may work for another queue.
  std::map<std::pair<std::string_view, std::string>, Failures> failures_;
  bool worn_out_ = false;
  bool renewable_ = false;
  bool closed_ = false;
  bool lost_ = false;  // and libpq may not know it
  bool transaction_open_ = false;
  std::mutex cancel_mutex_;  // cancel() must not meet close()
  // libpq closes its descriptor when the connection is lost, and another file may get the same number a moment later,
  // so shut_down() uses a separate descriptor.
  const int socket_ = -1;
};

}  // namespace pgque::detail
