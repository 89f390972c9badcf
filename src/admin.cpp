#include <pgque/admin.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <ostream>
#include <stdexcept>

#include <pgque/error.hpp>

#include "admin_impl.hpp"
#include "limits.hpp"
#include "row.hpp"
#include "text.hpp"

namespace pgque {

namespace detail {

namespace {

using std::chrono::milliseconds;

// Beyond that, times leave what PostgreSQL can represent sooner than one would think.
constexpr milliseconds longest_setting{std::chrono::hours{24 * 3653}};
constexpr std::chrono::seconds longest_age{std::chrono::hours{24 * 36525}};

class SettingList {
 public:
  explicit SettingList(const std::vector<QueueSetting>& reset) : reset_{reset} {
    for (const auto setting : reset_) add(setting, "NULL");
  }
  void count(QueueSetting setting, std::optional<std::int32_t> value, std::int32_t least) {
    if (!value) return;
    check_at_least(to_string(setting), *value, least);
    set(setting, std::to_string(*value));
  }
  void period(QueueSetting setting, std::optional<milliseconds> value) {
    if (!value) return;
    check_duration(to_string(setting), *value, milliseconds{1}, longest_setting);
    set(setting, '"' + std::to_string(value->count()) + " milliseconds\"");
  }
  void flag(QueueSetting setting, std::optional<bool> value) {
    if (value) set(setting, *value ? "true" : "false");
  }
  SettingArrays arrays() const { return {'{' + names_ + '}', '{' + values_ + '}'}; }

 private:
  void set(QueueSetting setting, const std::string& value) {
    if (std::find(reset_.begin(), reset_.end(), setting) != reset_.end()) {
      throw std::invalid_argument{std::string{to_string(setting)} + ": is both set and reset"};
    }
    add(setting, value);
  }
  void add(QueueSetting setting, const std::string& value) {
    const auto name = to_string(setting);
    if (name.empty()) throw std::invalid_argument{"reset: not one of the enumerators of QueueSetting"};
    names_ += (names_.empty() ? "" : ",") + std::string{name};
    values_ += (values_.empty() ? "" : ",") + value;
  }

  const std::vector<QueueSetting>& reset_;
  std::string names_;
  std::string values_;
};

constexpr const char* denied_note =
    "this PgQue denies get_queue_info() to pgque_reader, as 0.2.0 does, so new events and events per second are not "
    "known; grant pgque_admin to see them";

template <class Row>
DeadLetter read_dead_letter(Row row) {
  DeadLetter letter;
  letter.id = DeadLetterId{row.integer()};
  letter.queue = row.text_or_empty();
  letter.consumer = row.text_or_empty();
  letter.time = row.time();
  letter.reason = row.text();
  letter.event_id = EventId{row.integer()};
  letter.created_at = row.time();
  letter.retry_count = row.optional_int32();
  letter.type = row.text();
  letter.payload = row.text();
  letter.extra1 = row.text();
  letter.extra2 = row.text();
  letter.extra3 = row.text();
  letter.extra4 = row.text();
  return letter;
}

std::vector<DeadLetter> read_dead_letters(const pqxx::result& result) {
  std::vector<DeadLetter> letters;
  for_each_row(result, [&](auto field) { letters.push_back(read_dead_letter(RowReader{field})); });
  return letters;
}

// A cursor that outlives its transaction, so that the caller may go on using the connection.
class DeadLetterCursor {
 public:
  DeadLetterCursor(AdminImpl& impl, std::string_view queue) : impl_{impl}, operation_{"for_each_dead_letter", queue} {
    TransactionExecutor transaction{impl_.shared_session()};
    transaction.run_plain("declare pgque_dead_letters no scroll cursor with hold for " +
                              render(transaction.work(), sql::dead_letters, {queue, std::nullopt}),
                          operation_);
    transaction.commit(operation_);
  }
  DeadLetterCursor(const DeadLetterCursor&) = delete;
  DeadLetterCursor& operator=(const DeadLetterCursor&) = delete;
  ~DeadLetterCursor() {
    try {
      if (impl_.session().is_open()) impl_.executor().run_plain("close pgque_dead_letters", operation_);
    } catch (...) {
      // A connection that is lost takes its cursors with it, and the next statement finds out.
    }
  }
  std::vector<DeadLetter> fetch() {
    return read_dead_letters(impl_.executor().run_plain("fetch forward 100 from pgque_dead_letters", operation_));
  }

 private:
  AdminImpl& impl_;
  const Operation operation_;
};

[[noreturn]] void throw_queue_not_found(std::string_view queue, const char* verb) {
  Error::Facts facts;
  facts.operation = Operation{verb, queue}.describe();
  facts.advice = "there is no such queue";
  throw QueueNotFound{std::move(facts)};
}

}  // namespace

SettingArrays render(const QueueSettings& settings) {
  SettingList list{settings.reset};
  list.count(QueueSetting::ticker_max_count, settings.ticker_max_count, 1);
  list.period(QueueSetting::ticker_max_lag, settings.ticker_max_lag);
  list.period(QueueSetting::ticker_idle_period, settings.ticker_idle_period);
  list.period(QueueSetting::rotation_period, settings.rotation_period);
  list.count(QueueSetting::max_retries, settings.max_retries, 0);
  list.flag(QueueSetting::paused, settings.paused);
  list.flag(QueueSetting::external_ticker, settings.external_ticker);
  return list.arrays();
}

ConsumerRole consumer_role(std::string_view name) {
  if (name == "coop_main") return ConsumerRole::group;
  if (name == "coop_member") return ConsumerRole::subconsumer;
  return ConsumerRole::normal;
}

bool is_denied_inside_queue_info(const Error& error) {
  return error.sqlstate() == "42501" && error.server_message().find("get_queue_info") == std::string::npos &&
         error.server_message().find("schema") == std::string::npos;
}

// PgQue answers nothing, instead of an error, for most questions about a queue that is not there.
void AdminImpl::require_queue(std::string_view queue, const char* verb) {
  check_queue(queue);
  if (!read_int64(executor_.run(sql::queue_exists, {queue}, {verb, queue}))) throw_queue_not_found(queue, verb);
}

std::vector<QueueInfo> AdminImpl::queues(const std::optional<std::string>& queue) {
  const Operation operation{"queue information", queue ? std::string_view{*queue} : std::string_view{}};
  pqxx::result result;
  if (denied_.empty()) {
    try {
      result = executor_.run(sql::queue_info, {queue}, operation);
    } catch (const Error& error) {
      if (!is_denied_inside_queue_info(error)) throw;
      denied_ = denied_note;
    }
  }
  if (!denied_.empty()) result = executor_.run(sql::queue_info_limited, {queue}, operation);
  std::vector<QueueInfo> infos;
  for_each_row(result, [&](auto field) {
    RowReader row{field};
    auto& info = infos.emplace_back();
    info.queue = row.text_or_empty();
    info.tables = row.int32();
    info.current_table = row.int32();
    info.rotation_period = row.duration();
    info.rotated_at = row.time();
    info.ticker_max_count = row.int32();
    info.ticker_max_lag = row.duration();
    info.ticker_idle_period = row.duration();
    info.paused = row.boolean();
    info.external_ticker = row.boolean();
    info.inserts_disabled = row.boolean();
    info.max_retries = row.optional_int32();
    info.last_tick = row.template optional<TickId>();
    info.ticker_lag = row.template optional<std::chrono::microseconds>();
    info.new_events = row.optional_integer();
    if (const auto thousandths = row.optional_integer()) {
      info.events_per_second = static_cast<double>(*thousandths) / 1000;
    }
    info.note = denied_;
  });
  return infos;
}

std::vector<ConsumerInfo> AdminImpl::consumers(const std::optional<std::string>& queue,
                                               const std::optional<std::string>& consumer) {
  const auto view = [](const std::optional<std::string>& name) { return name ? *name : std::string_view{}; };
  const Operation operation{"consumer information", view(queue), view(consumer)};
  std::vector<ConsumerInfo> infos;
  for_each_row(executor_.run(sql::consumer_info, {queue, consumer}, operation), [&](auto field) {
    RowReader row{field};
    auto& info = infos.emplace_back();
    info.queue = row.text_or_empty();
    info.consumer = row.text_or_empty();
    info.role = consumer_role(row.text_or_empty());
    info.group = row.text_or_empty();
    info.lag = row.template optional<std::chrono::microseconds>();
    info.last_seen = row.duration();
    info.last_tick = row.template optional<TickId>();
    info.current_batch = row.template optional<BatchId>();
    info.next_tick = row.template optional<TickId>();
    info.pending_events = row.optional_integer();
    if (info.current_batch) info.open_batch_age = info.last_seen;
  });
  return infos;
}

}  // namespace detail

std::string to_string(DeadLetterId id) {
  return std::to_string(static_cast<std::int64_t>(id));
}

std::ostream& operator<<(std::ostream& out, DeadLetterId id) {
  return out << static_cast<std::int64_t>(id);
}

std::string_view to_string(QueueSetting setting) noexcept {
  switch (setting) {
    case QueueSetting::ticker_max_count:
      return "ticker_max_count";
    case QueueSetting::ticker_max_lag:
      return "ticker_max_lag";
    case QueueSetting::ticker_idle_period:
      return "ticker_idle_period";
    case QueueSetting::rotation_period:
      return "rotation_period";
    case QueueSetting::max_retries:
      return "max_retries";
    case QueueSetting::paused:
      return "ticker_paused";
    case QueueSetting::external_ticker:
      return "external_ticker";
  }
  return {};
}

std::string_view to_string(ConsumerRole role) noexcept {
  switch (role) {
    case ConsumerRole::normal:
      return "normal";
    case ConsumerRole::group:
      return "group";
    case ConsumerRole::subconsumer:
      return "subconsumer";
  }
  return "unknown";
}

Admin::Admin(std::string_view dsn, const ClientOptions& options)
    : impl_{std::make_unique<detail::AdminImpl>(detail::Session::connect(dsn, detail::session_options(options)))} {}

Admin::Admin(Admin&&) noexcept = default;
Admin& Admin::operator=(Admin&&) noexcept = default;
Admin::~Admin() = default;

detail::AdminImpl& Admin::impl() const {
  if (!impl_) throw std::logic_error{"pgque: use of a moved-from object"};
  return *impl_;
}

void Admin::close() noexcept {
  if (impl_) impl_->session().close();
}

bool Admin::is_open() const noexcept {
  return impl_ && impl_->session().is_open();
}

bool Admin::create_queue(std::string_view queue, const QueueSettings& settings) {
  detail::check_queue(queue);
  const auto arrays = detail::render(settings);
  const auto created =
      detail::read_int64(impl().executor().run(detail::sql::create_queue, {queue}, {"create_queue", queue}));
  if (arrays.names != "{}") configure_queue(queue, settings);
  return created == 1;
}

void Admin::drop_queue(std::string_view queue, bool with_consumers) {
  detail::check_queue(queue);
  const detail::Operation operation{"drop_queue", queue};
  impl().executor().require_usable(operation);
  detail::TransactionExecutor transaction{impl().shared_session()};
  if (with_consumers) transaction.run(detail::sql::drop_subconsumers, {queue}, operation);
  transaction.run(detail::sql::drop_queue, {queue, std::int64_t{with_consumers}}, operation);
  transaction.commit(operation);
}

void Admin::configure_queue(std::string_view queue, const QueueSettings& settings) {
  detail::check_queue(queue);
  const auto arrays = detail::render(settings);
  if (arrays.names == "{}") return impl().require_queue(queue, "configure_queue");
  impl().executor().run(detail::sql::set_queue_config, {queue, arrays.names, arrays.values},
                        {"configure_queue", queue});
}

bool Admin::subscribe_at(std::string_view queue, std::string_view consumer, TickId tick) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return detail::read_int64(impl().executor().run(detail::sql::subscribe_at,
                                                  {queue, consumer, static_cast<std::int64_t>(tick)},
                                                  {"subscribe_at", queue, consumer})) == 1;
}

std::vector<QueueInfo> Admin::queues() {
  return impl().queues(std::nullopt);
}

QueueInfo Admin::queue(std::string_view queue) {
  detail::check_queue(queue);
  auto infos = impl().queues(std::string{queue});
  if (infos.empty()) detail::throw_queue_not_found(queue, "queue information");
  return std::move(infos.front());
}

std::vector<ConsumerInfo> Admin::consumers() {
  return impl().consumers(std::nullopt, std::nullopt);
}

std::vector<ConsumerInfo> Admin::consumers(std::string_view queue) {
  detail::check_queue(queue);
  auto infos = impl().consumers(std::string{queue}, std::nullopt);
  if (infos.empty()) impl().require_queue(queue, "consumer information");
  return infos;
}

ConsumerInfo Admin::consumer(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  auto infos = impl().consumers(std::string{queue}, std::string{consumer});
  if (!infos.empty()) return std::move(infos.front());
  Error::Facts facts;
  facts.operation = detail::Operation{"consumer information", queue, consumer}.describe();
  facts.advice = "no such queue, or the consumer is not subscribed to it";
  throw ConsumerNotFound{std::move(facts)};
}

std::optional<BatchInfo> Admin::batch(BatchId batch) {
  std::optional<BatchInfo> info;
  detail::for_each_row(impl().executor().run(detail::sql::batch_info, {static_cast<std::int64_t>(batch)},
                                             {"batch information", {}, {}, batch}),
                       [&](auto field) {
                         detail::RowReader row{field};
                         info.emplace();
                         info->queue = row.text_or_empty();
                         info->consumer = row.text_or_empty();
                         info->begin = row.time();
                         info->end = row.time();
                         info->first_tick = TickId{row.integer()};
                         info->last_tick = TickId{row.integer()};
                         info->lag = row.duration();
                         info->events = row.integer();
                       });
  return info;
}

std::string Admin::server_version() {
  std::string version;
  detail::for_each_row(impl().executor().run(detail::sql::server_version, {}, {"version"}),
                       [&](auto field) { version = detail::RowReader{field}.text_or_empty(); });
  return version;
}

std::vector<StatusLine> Admin::status() {
  std::vector<StatusLine> lines;
  detail::for_each_row(impl().executor().run(detail::sql::status, {}, {"status"}), [&](auto field) {
    detail::RowReader row{field};
    auto& line = lines.emplace_back();
    line.component = row.text_or_empty();
    line.status = row.text_or_empty();
    line.detail = row.text_or_empty();
  });
  return lines;
}

std::vector<DeadLetter> Admin::dead_letters(std::string_view queue, std::int32_t limit) {
  detail::check_queue(queue);
  detail::check_at_least("limit", limit, 1);
  auto letters = detail::read_dead_letters(
      impl().executor().run(detail::sql::dead_letters, {queue, std::int64_t{limit}}, {"dead_letters", queue}));
  if (letters.empty()) impl().require_queue(queue, "dead_letters");
  return letters;
}

void Admin::for_each_dead_letter(std::string_view queue, const std::function<bool(const DeadLetter&)>& visit) {
  if (!visit) throw std::invalid_argument{"visit: must not be empty"};
  impl().require_queue(queue, "for_each_dead_letter");
  detail::DeadLetterCursor cursor{impl(), queue};
  for (auto page = cursor.fetch(); !page.empty(); page = cursor.fetch()) {
    for (const auto& letter : page) {
      if (!visit(letter)) return;
    }
  }
}

std::vector<DeadLetterCount> Admin::count_dead_letters() {
  std::vector<DeadLetterCount> counts;
  detail::for_each_row(impl().executor().run(detail::sql::count_dead_letters, {}, {"count_dead_letters"}),
                       [&](auto field) {
                         detail::RowReader row{field};
                         auto& count = counts.emplace_back();
                         count.queue = row.text_or_empty();
                         count.consumer = row.text_or_empty();
                         count.count = row.integer();
                         count.oldest = row.time();
                         count.newest = row.time();
                       });
  return counts;
}

std::optional<EventId> Admin::replay_dead_letter(DeadLetterId id) {
  try {
    const auto event = detail::read_int64(impl().executor().run(
        detail::sql::replay_dead_letter, {static_cast<std::int64_t>(id)}, {"replay_dead_letter"}));
    return event ? std::optional{EventId{*event}} : std::nullopt;
  } catch (const Error& error) {
    // Its SQLSTATE is that of everything.
    if (error.server_message().find("dead letter entry not found") == std::string::npos) throw;
    return std::nullopt;
  }
}

ReplayResult Admin::replay_dead_letters(std::string_view queue) {
  impl().require_queue(queue, "replay_dead_letters");
  ReplayResult replay;
  detail::for_each_row(impl().executor().run(detail::sql::replay_dead_letters, {queue}, {"replay_dead_letters", queue}),
                       [&](auto field) {
                         detail::RowReader row{field};
                         replay.replayed = row.integer();
                         replay.failed = row.integer();
                         replay.first_error = row.text();
                       });
  return replay;
}

std::int64_t Admin::purge_dead_letters(std::string_view queue, std::chrono::seconds older_than) {
  detail::check_duration("older_than", older_than, std::chrono::milliseconds{0}, detail::longest_age);
  impl().require_queue(queue, "purge_dead_letters");
  return detail::read_int64(impl().executor().run(detail::sql::purge_dead_letters,
                                                  {queue, std::int64_t{older_than.count()}},
                                                  {"purge_dead_letters", queue}))
      .value_or(0);
}

std::int64_t Admin::bring_retries_back() {
  for (std::int64_t moved = 0;;) {
    const auto now =
        detail::read_int64(impl().executor().run(detail::sql::maint_retry_events, {}, {"maint_retry_events"}));
    if (now.value_or(0) == 0) return moved;
    moved += *now;
  }
}

void Admin::maintain() {
  impl().executor().run(detail::sql::maint, {}, {"maint"});
}

void Admin::finish_rotation() {
  impl().executor().run(detail::sql::rotate_step2, {}, {"maint_rotate_tables_step2"});
}

void Admin::set_tick_period(std::chrono::milliseconds period) {
  if (period.count() < 1 || period.count() > 1000 || 1000 % period.count() != 0) {
    throw std::invalid_argument{"period: must be a divisor of 1000 ms, is " + std::to_string(period.count()) + " ms"};
  }
  impl().executor().run(detail::sql::set_tick_period, {std::int64_t{period.count()}}, {"set_tick_period_ms"});
}

std::chrono::milliseconds Admin::tick_period() {
  return std::chrono::milliseconds{
      detail::read_int64(impl().executor().run(detail::sql::tick_period, {}, {"tick_period"})).value_or(0)};
}

}  // namespace pgque
