#include <pgque/admin.hpp>

#include <ostream>
#include <stdexcept>

#include <pgque/error.hpp>

#include "admin/dead_letter_cursor.hpp"
#include "admin/queries.hpp"
#include "admin/queue_settings.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/verbs.hpp"
#include "support/checks.hpp"
#include "support/text.hpp"

namespace pgque {

namespace {

constexpr std::chrono::seconds longest_age{std::chrono::hours{24 * 36525}};

// A worker that runs is silent for as long as its poll_interval, which is half of this by default.
void check_silence(std::chrono::seconds older_than) {
  detail::check_duration("older_than", older_than, std::chrono::minutes{1}, longest_age);
}

}  // namespace

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

Admin::Admin(const Dsn& dsn, const ClientOptions& options)
    : queries_{
          std::make_unique<detail::AdminQueries>(detail::Session::connect(dsn, detail::session_options(options)))} {}

Admin::Admin(Admin&&) noexcept = default;
Admin& Admin::operator=(Admin&&) noexcept = default;
Admin::~Admin() = default;

detail::AdminQueries& Admin::queries() const {
  if (!queries_) throw std::logic_error{"pgque: use of a moved-from object"};
  queries_->session().home().require("pgque");
  return *queries_;
}

void Admin::close() noexcept {
  if (queries_) queries_->session().close();
}

bool Admin::is_open() const noexcept {
  return queries_ && queries_->session().is_open();
}

bool Admin::create_queue(std::string_view queue, const QueueSettings& settings) {
  detail::check_queue(queue);
  const auto arrays = detail::render(settings);
  return detail::read_int64(queries().executor().run(detail::sql::create_queue, {queue, arrays.names, arrays.values},
                                                     {"create_queue", queue})) == 1;
}

void Admin::drop_queue(std::string_view queue, bool with_consumers) {
  detail::check_queue(queue);
  const detail::Call call{"drop_queue", queue};
  queries().executor().require_usable(call);
  detail::TransactionExecutor transaction{queries().shared_session()};
  if (with_consumers) transaction.run(detail::sql::drop_subconsumers, {queue}, call);
  transaction.run(detail::sql::drop_queue, {queue, std::int64_t{with_consumers}}, call);
  transaction.commit(call);
}

void Admin::configure_queue(std::string_view queue, const QueueSettings& settings) {
  detail::check_queue(queue);
  const auto arrays = detail::render(settings);
  if (arrays.names == "{}") return queries().require_queue(queue, "configure_queue");
  queries().executor().run(detail::sql::set_queue_config, {queue, arrays.names, arrays.values},
                           {"configure_queue", queue});
}

bool Admin::subscribe_at(std::string_view queue, std::string_view consumer, TickId tick) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return detail::read_int64(queries().executor().run(detail::sql::subscribe_at,
                                                     {queue, consumer, static_cast<std::int64_t>(tick)},
                                                     {"subscribe_at", queue, consumer})) == 1;
}

bool Admin::subscribe_at(std::string_view queue, std::string_view consumer, Timestamp time) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  const auto tick = queries().tick_at(queue, time);
  if (!tick) detail::throw_queue_not_found(queue, "subscribe_at");
  return subscribe_at(queue, consumer, *tick);
}

std::vector<QueueInfo> Admin::queues() {
  return queries().queues(std::nullopt);
}

QueueInfo Admin::queue(std::string_view queue) {
  detail::check_queue(queue);
  auto infos = queries().queues(std::string{queue});
  if (infos.empty()) detail::throw_queue_not_found(queue, "queue information");
  return std::move(infos.front());
}

std::vector<ConsumerInfo> Admin::consumers() {
  return queries().consumers(std::nullopt, std::nullopt);
}

std::vector<ConsumerInfo> Admin::consumers(std::string_view queue) {
  detail::check_queue(queue);
  auto infos = queries().consumers(std::string{queue}, std::nullopt);
  if (infos.empty()) queries().require_queue(queue, "consumer information");
  return infos;
}

ConsumerInfo Admin::consumer(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  auto infos = queries().consumers(std::string{queue}, std::string{consumer});
  if (!infos.empty()) return std::move(infos.front());
  Error::Facts facts;
  facts.operation = detail::Call{"consumer information", queue, consumer}.describe();
  facts.advice = "no such queue, or the consumer is not subscribed to it";
  throw ConsumerNotFound{std::move(facts)};
}

std::map<std::string, std::int64_t> Admin::unticked_events() {
  return queries().unticked_events();
}

std::vector<ConsumerInfo> Admin::gone_subconsumers(std::chrono::seconds older_than) {
  check_silence(older_than);
  return queries().gone_subconsumers(older_than);
}

bool Admin::unsubscribe_gone(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                             std::chrono::seconds older_than) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  detail::check_consumer("subconsumer", subconsumer);
  check_silence(older_than);
  return queries().unsubscribe_gone(queue, consumer, subconsumer, older_than);
}

std::optional<BatchInfo> Admin::batch(BatchId batch) {
  std::optional<BatchInfo> info;
  detail::for_each_row(queries().executor().run(detail::sql::batch_info, {static_cast<std::int64_t>(batch)},
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
  detail::for_each_row(queries().executor().run(detail::sql::server_version, {}, {"version"}),
                       [&](auto field) { version = detail::RowReader{field}.text_or_empty(); });
  return version;
}

std::vector<StatusLine> Admin::status() {
  std::vector<StatusLine> lines;
  detail::for_each_row(queries().executor().run(detail::sql::status, {}, {"status"}), [&](auto field) {
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
      queries().executor().run(detail::sql::dead_letters, {queue, std::int64_t{limit}}, {"dead_letters", queue}));
  if (letters.empty()) queries().require_queue(queue, "dead_letters");
  return letters;
}

void Admin::for_each_dead_letter(std::string_view queue, const std::function<bool(const DeadLetter&)>& visit) {
  if (!visit) throw std::invalid_argument{"visit: must not be empty"};
  queries().require_queue(queue, "for_each_dead_letter");
  detail::DeadLetterCursor cursor{queries().shared_session(), queue};
  for (auto page = cursor.fetch(); !page.empty(); page = cursor.fetch()) {
    for (const auto& letter : page) {
      if (!visit(letter)) return;
    }
  }
}

std::vector<DeadLetterCount> Admin::count_dead_letters() {
  std::vector<DeadLetterCount> counts;
  detail::for_each_row(queries().executor().run(detail::sql::count_dead_letters, {}, {"count_dead_letters"}),
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
    const auto event = detail::read_int64(queries().executor().run(
        detail::sql::replay_dead_letter, {static_cast<std::int64_t>(id)}, {"replay_dead_letter"}));
    return event ? std::optional{EventId{*event}} : std::nullopt;
  } catch (const Error& error) {
    // PgQue raises nearly all errors with this SQLSTATE, so only the text tells.
    if (error.server_message().find("dead letter entry not found") == std::string::npos) throw;
    return std::nullopt;
  }
}

ReplayResult Admin::replay_dead_letters(std::string_view queue) {
  queries().require_queue(queue, "replay_dead_letters");
  ReplayResult replay;
  detail::for_each_row(
      queries().executor().run(detail::sql::replay_dead_letters, {queue}, {"replay_dead_letters", queue}),
      [&](auto field) {
        detail::RowReader row{field};
        replay.replayed = row.integer();
        replay.failed = row.integer();
        replay.first_error = row.text();
      });
  return replay;
}

std::int64_t Admin::purge_dead_letters(std::string_view queue, std::chrono::seconds older_than) {
  detail::check_duration("older_than", older_than, std::chrono::milliseconds{0}, longest_age);
  queries().require_queue(queue, "purge_dead_letters");
  return detail::read_int64(queries().executor().run(detail::sql::purge_dead_letters,
                                                     {queue, std::int64_t{older_than.count()}},
                                                     {"purge_dead_letters", queue}))
      .value_or(0);
}

std::int64_t Admin::bring_retries_back() {
  for (std::int64_t moved = 0;;) {
    const auto now = detail::verbs::maint_retry_events(queries().executor());
    if (now == 0) return moved;
    moved += now;
  }
}

void Admin::maintain() {
  detail::verbs::maint(queries().executor());
}

void Admin::finish_rotation() {
  detail::verbs::rotate_step2(queries().executor());
}

void Admin::set_tick_period(std::chrono::milliseconds period) {
  if (period.count() < 1 || period.count() > 1000 || 1000 % period.count() != 0) {
    throw std::invalid_argument{"period: must be a divisor of 1000 ms, is " + std::to_string(period.count()) + " ms"};
  }
  queries().executor().run(detail::sql::set_tick_period, {std::int64_t{period.count()}}, {"set_tick_period_ms"});
}

std::chrono::milliseconds Admin::tick_period() {
  return std::chrono::milliseconds{
      detail::read_int64(queries().executor().run(detail::sql::tick_period, {}, {"tick_period"})).value_or(0)};
}

}  // namespace pgque
