#pragma once

// The only file that distinguishes libpqxx 6, 7 and 8.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pqxx/pqxx>

#include "database/statement.hpp"

#define PGQUE_PQXX (PQXX_VERSION_MAJOR * 1000 + PQXX_VERSION_MINOR)

namespace pgque::detail {

#if PQXX_VERSION_MAJOR < 7
using Connection = pqxx::connection_base;
#else
using Connection = pqxx::connection;
#endif
using OwnedConnection = pqxx::connection;

}  // namespace pgque::detail

#if PQXX_VERSION_MAJOR < 7
// Lets libpqxx 6 take a run-time number of parameters of run-time kinds.
template <>
struct pqxx::string_traits<pgque::detail::Param> {
  using Param = pgque::detail::Param;
  static constexpr const char* name() noexcept { return "pgque parameter"; }
  static constexpr bool has_null() noexcept { return true; }
  static bool is_null(const Param& param) { return param.kind() == Param::Kind::null; }
  static Param null() { return std::nullopt; }
  static std::string to_string(const Param& param) {
    return param.kind() == Param::Kind::number ? std::to_string(param.number()) : std::string{param.text()};
  }
};
#endif

namespace pgque::detail {

#if PQXX_VERSION_MAJOR < 7
// Calls run() with the parameters as separate arguments: libpqxx 6 allocates memory once for these, but repeatedly for
// a list. The last parameter may be binary, for which libpqxx 6 has another type.
template <std::size_t Most = 8, class Run, class... Args>
pqxx::result with_params(Params params, const Run& run, const Args&... args) {
  if (params.size() == sizeof...(args)) return run(args...);
  if constexpr (sizeof...(args) == Most) {
    throw std::logic_error{"a statement has more parameters than libpqxx 6 is given"};
  } else {
    const Param& param = *(params.begin() + sizeof...(args));
    if (param.kind() != Param::Kind::binary) return with_params<Most>(params, run, args..., param);
    return run(args..., pqxx::binarystring{param.text().data(), param.text().size()});
  }
}
#else
inline pqxx::params to_pqxx(Params params) {
  pqxx::params out;
  out.reserve(params.size());
  for (const auto& param : params) {
    switch (param.kind()) {
      case Param::Kind::null:
        out.append();
        break;
      case Param::Kind::number:
        out.append(param.number());
        break;
      case Param::Kind::text:  // text's binary format is its bytes: neither a copy nor a terminator is needed
      case Param::Kind::binary: {
        const auto* bytes = reinterpret_cast<const std::byte*>(param.text().data());
#if PGQUE_PQXX < 7009
        out.append(std::basic_string_view<std::byte>{bytes, param.text().size()});
#else
        out.append(pqxx::bytes_view{bytes, param.text().size()});
#endif
        break;
      }
    }
  }
  return out;
}
#endif

// Does not leave it to the first execution, as libpqxx 6 would.
inline void prepare_now(Connection& connection, const std::string& name, const char* sql) {
  connection.prepare(name, sql);
#if PQXX_VERSION_MAJOR < 7
  connection.prepare_now(name);
#endif
}

inline pqxx::result exec_prepared(pqxx::transaction_base& tx, const std::string& name, Params params) {
#if PQXX_VERSION_MAJOR < 7
  return with_params(params, [&](const auto&... args) { return tx.exec_prepared(name, args...); });
#elif PGQUE_PQXX < 7010
  return tx.exec_prepared(name, to_pqxx(params));
#else
  return tx.exec(pqxx::prepped{name}, to_pqxx(params));
#endif
}

inline pqxx::result exec_params(pqxx::transaction_base& tx, const char* sql, Params params) {
#if PQXX_VERSION_MAJOR < 7
  return with_params(params, [&](const auto&... args) { return tx.exec_params(sql, args...); });
#elif PGQUE_PQXX < 7010
  return tx.exec_params(sql, to_pqxx(params));
#else
  return tx.exec(sql, to_pqxx(params));
#endif
}

// libpqxx 6 sets a savepoint only with the first plain exec().
inline void set_savepoint(pqxx::subtransaction& savepoint) {
#if PQXX_VERSION_MAJOR < 7
  savepoint.exec(std::string{});
#else
  static_cast<void>(savepoint);
#endif
}

inline std::string quote(pqxx::transaction_base& tx, std::string_view text) {
  return tx.quote(std::string{text});
}

inline Connection& connection_of(pqxx::transaction_base& tx) {
  return tx.conn();
}

// libpqxx 6 silently replaces a lost connection by a new one, without its session state.
inline void inhibit_reconnect(Connection& connection) {
#if PQXX_VERSION_MAJOR < 7
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection.inhibit_reactivation(true);
#pragma GCC diagnostic pop
#else
  static_cast<void>(connection);
#endif
}

inline void disconnect(Connection& connection) {
#if PQXX_VERSION_MAJOR < 7
  connection.disconnect();
#else
  connection.close();
#endif
}

inline std::string client_encoding(Connection& connection) {
  return connection.get_client_encoding();
}

// The server process that the connection was made to; behind a pooler that is not the one that answers.
inline std::int64_t backend_pid(Connection& connection) {
  return connection.backendpid();
}

enum class PqxxFailure {
  sql,       // the server reported an error
  lost,      // the connection is gone, or libpqxx thinks so
  in_doubt,  // the connection was lost during a commit
  usage,     // libpqxx was called wrongly, for instance on a finished transaction
  argument,  // text that cannot be sent
  other
};

struct Classified {
  PqxxFailure kind;
  std::string sqlstate;
};

// The order matters: libpqxx derives some classes from others and leaves the SQLSTATE of some empty.
inline Classified classify(const std::exception& error) {
  if (dynamic_cast<const pqxx::in_doubt_error*>(&error)) return {PqxxFailure::in_doubt, "08007"};
  if (dynamic_cast<const pqxx::too_many_connections*>(&error)) return {PqxxFailure::lost, "53300"};
#if PGQUE_PQXX >= 7008
  if (dynamic_cast<const pqxx::protocol_violation*>(&error)) return {PqxxFailure::sql, "08P01"};
#endif
  if (dynamic_cast<const pqxx::broken_connection*>(&error)) return {PqxxFailure::lost, "08006"};
  if (const auto* sql = dynamic_cast<const pqxx::sql_error*>(&error)) {
    std::string state{sql->sqlstate()};
    if (state.empty() && dynamic_cast<const pqxx::insufficient_privilege*>(&error)) state = "42501";
    return {PqxxFailure::sql, std::move(state)};
  }
#if PQXX_VERSION_MAJOR < 7
  if (dynamic_cast<const pqxx::serialization_failure*>(&error)) return {PqxxFailure::sql, "40001"};
  if (dynamic_cast<const pqxx::deadlock_detected*>(&error)) return {PqxxFailure::sql, "40P01"};
  if (dynamic_cast<const pqxx::statement_completion_unknown*>(&error)) return {PqxxFailure::sql, "40003"};
  if (dynamic_cast<const pqxx::transaction_rollback*>(&error)) return {PqxxFailure::sql, "40000"};
#endif
  if (dynamic_cast<const pqxx::usage_error*>(&error)) return {PqxxFailure::usage, {}};
  if (dynamic_cast<const pqxx::argument_error*>(&error)) return {PqxxFailure::argument, {}};
  return {PqxxFailure::other, {}};
}

// Calls visit(iterator to the first field) per row. Walking by iterator makes no row or field objects, whose shared
// pointers cost up to twice the time of the whole read in libpqxx 6 and 7.
template <class Visit>
void for_each_row(const pqxx::result& result, const Visit& visit) {
  // NOLINTNEXTLINE(modernize-loop-convert)
  for (auto row = result.begin(), end = result.end(); row != end; ++row) visit(row->begin());
}

#if PQXX_VERSION_MAJOR < 8
// libpqxx 6 and 7 have this only as a private member. An explicit instantiation may name it.
template <const char* (Connection::*Member)() const noexcept>
struct LastError {
  friend const char* error_message_of(const Connection& connection) noexcept { return (connection.*Member)(); }
};
const char* error_message_of(const Connection& connection) noexcept;
template struct LastError<&Connection::err_msg>;
#endif

// What was wrong with the connection's last statement; empty if nothing was, and with libpqxx 8, which does not tell.
inline std::string_view last_error(const Connection& connection) noexcept {
#if PQXX_VERSION_MAJOR < 8
  return error_message_of(connection);
#else
  static_cast<void>(connection);
  return {};
#endif
}

// What a handler gets of the transaction around it. A pqxx::subtransaction would take a round trip to set its savepoint
// and another to release it, and libpqxx 6 would roll it back after any error. This one sends nothing by itself:
// whoever owns the outer transaction sets the savepoint, and looks at ended() afterwards.
class InnerTransaction final : public pqxx::dbtransaction {
 public:
#if PQXX_VERSION_MAJOR < 7
  explicit InnerTransaction(pqxx::dbtransaction& outer)
      : pqxx::internal::namedclass{"transaction of a handler"}, pqxx::dbtransaction{outer.conn(), false} {}
#else
  explicit InnerTransaction(pqxx::dbtransaction& outer)
      : pqxx::dbtransaction{outer.conn(), "pgque_handler", std::make_shared<std::string>()} {}
#endif

  // Whether commit() or abort() was called, or, with libpqxx 6, a statement failed.
  bool ended() const noexcept {
    return ended_;
  }
  // What the server said of the statement that failed, if that is known: empty if the last one succeeded.
  std::string failure() const {
    return failure_.empty() ? std::string{last_error(conn())} : failure_;
  }

 private:
#if PQXX_VERSION_MAJOR < 7
  void do_begin() override {}
#endif
#if PQXX_VERSION_MAJOR < 8
  void do_commit() override {
    refuse_commit();
  }
  void do_abort() override {
    if (ended_) return;
    ended_ = true;
#if PQXX_VERSION_MAJOR < 7
    failure_ = last_error(conn());
#endif
  }
#else
  void do_commit(pqxx::sl) override {
    refuse_commit();
  }
  void do_abort(pqxx::sl) override {
    ended_ = true;
  }
#endif
  [[noreturn]] void refuse_commit() {
    ended_ = true;
    throw std::logic_error{
        "only the consumer commits this transaction, together with the acknowledgement of the batch"};
  }

  bool ended_ = false;
  std::string failure_;
};

// LISTEN for as long as it lives; calls back from get_notifs() with the notification's channel.
class Listener {
 public:
  Listener(Connection& connection, const std::string& channel, std::function<void()> notified);

 private:
#if PGQUE_PQXX < 7010
  struct Receiver final : pqxx::notification_receiver {
    Receiver(Connection& connection, const std::string& channel, std::function<void()> callback)
        : pqxx::notification_receiver{connection, channel}, notified{std::move(callback)} {}
    void operator()(const std::string&, int) override { notified(); }
    std::function<void()> notified;
  };
  Receiver receiver_;
#endif
};

#if PGQUE_PQXX < 7010
inline Listener::Listener(Connection& connection, const std::string& channel, std::function<void()> notified)
    : receiver_{connection, channel, std::move(notified)} {}
#else
// The connection is thrown away together with the listener, so there is no need to UNLISTEN.
inline Listener::Listener(Connection& connection, const std::string& channel, std::function<void()> notified) {
  connection.listen(channel, [notified = std::move(notified)](const pqxx::notification&) { notified(); });
}
#endif

}  // namespace pgque::detail
