// Consumer: dispatch, failures, ways of writing rows, and memory.

#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

// Lets a consumer handle the waiting messages. The first batch has one message and warms the consumer up: the time
// begins when that batch is acknowledged and ends with the ack of the last batch.
ConsumerStats consume(const std::string& dsn, ConsumerOptions options, Meter& meter, int batches, std::int64_t messages,
                      const std::function<void(Consumer&)>& add_handlers) {
  Consumer* running = nullptr;
  int acked = 0;
  int other = 0;
  options.slow_batch_after = std::chrono::milliseconds{0};  // some are meant to be slow
  options.log = [&](const LogRecord& record) {
    if (record.event == LogEvent::batch_acked) {
      if (++acked == 1) meter.start();
      if (acked != 1 + batches) return;
      meter.stop(messages);
      running->stop();
    } else if (record.level >= LogLevel::warning && record.event != LogEvent::handler_failed) {
      ++other;
    }
  };
  Consumer consumer{dsn, std::move(options)};
  running = &consumer;
  add_handlers(consumer);
  consumer.start();
  const auto stats = consumer.stats();
  require(other == 0, "the consumer logged warnings");
  require(stats.batches == static_cast<std::uint64_t>(1 + batches), "batches: " + std::to_string(stats.batches));
  require(stats.messages + stats.failures == static_cast<std::uint64_t>(1 + messages),
          "handled: " + std::to_string(stats.messages) + ", failed: " + std::to_string(stats.failures));
  return stats;
}

ConsumerOptions options_for(const Queue& queue, const std::string& consumer) {
  ConsumerOptions options;
  options.queue = queue.name();
  options.name = consumer;
  return options;
}

struct Shape {
  std::int64_t size;
  int batches = 1;
  int pairs = 9;
};

// What the handlers do; they are empty unless one of these says otherwise.
struct Variant {
  std::function<void(ConsumerOptions&)> configure = [](ConsumerOptions&) {};
  std::int64_t fail_every = 0;  // 0: never
  bool insert = false;          // a row per message, in the batch's transaction
  bool savepoints = true;       // whether raw libpq sets one for each row; each ends along with the next one's begin
  bool deferred = false;        // whether a deferred constraint checks the rows
};

Comparison dispatch(const Setting& setting, Shape shape, const Variant& variant) {
  shape.size = setting.size<std::int64_t>(shape.size, std::min<std::int64_t>(shape.size, 30));
  shape.batches = setting.size(shape.batches, 2);
  const int pairs = setting.pairs(shape.pairs);
  const auto total = shape.size * shape.batches;
  Queue queue{setting.dsn};
  const auto table = queue.name() + "_rows";
  const auto parent = queue.name() + "_parent";
  if (variant.deferred) queue.sql()("create table " + parent + " (id int primary key)");
  if (variant.deferred) queue.sql()("insert into " + parent + " values (1)");
  queue.sql()("create table " + table + " (id bigint" +
              (variant.deferred ? ", parent int default 1 references " + parent + " deferrable initially deferred)"
                                : std::string{")"}));
  queue.subscribe_consumers(2 * (pairs + 1));
  queue.publish(1);
  for (int i = 0; i < shape.batches; ++i) queue.publish(shape.size);
  const auto fails = [&](std::int64_t nth) { return variant.fail_every != 0 && nth % variant.fail_every == 0; };

  const Side pgque = [&](Meter& meter) {
    auto options = options_for(queue, queue.next_consumer());
    variant.configure(options);
    std::int64_t handled = 0;  // only handlers that are not called concurrently count
    const auto stats = consume(setting.dsn, options, meter, shape.batches, total, [&](Consumer& consumer) {
      if (variant.insert) {
        consumer.on("t", [&](const Message& message, Context& context) {
          context.transaction().exec("insert into " + table + " values (" + to_string(message.msg_id) + ")");
        });
      } else if (variant.fail_every != 0) {
        consumer.on("t", [&](const Message&) {
          if (fails(handled++)) throw std::runtime_error{"no"};
        });
      } else {
        consumer.on("t", [](const Message&) {});
      }
    });
    require(stats.retries == stats.failures, "not every failure was nacked");
  };
  const Side raw = [&](Meter& meter) {
    const auto& name = queue.next_consumer();
    RawConsumer consumer{setting.dsn};
    std::int64_t handled = 0;
    for (int i = 0; i <= shape.batches; ++i) {
      const bool transaction = variant.insert || variant.fail_every != 0;
      if (transaction) consumer("begin");
      const auto messages = consumer.receive(queue.name(), name);
      require(messages.size() == static_cast<std::size_t>(i == 0 ? 1 : shape.size), "raw: wrong batch");
      std::vector<std::int64_t> failed;
      for (const auto& message : messages) {
        if (variant.insert) {
          const auto insert = "insert into " + table + " values (" + std::to_string(message.msg_id) + ")";
          if (variant.savepoints && &message == &messages.front()) consumer("savepoint s");
          consumer(insert);
          if (variant.savepoints) consumer("release savepoint s; savepoint s");
        }
        if (fails(handled++)) failed.push_back(message.msg_id);
      }
      if (!failed.empty()) consumer.nack(messages.front().batch_id, failed, "handler error: no");
      consumer.ack(messages.front().batch_id);
      if (transaction) consumer("commit");
      // On both sides, the time ends before the last messages are destroyed.
      if (i == 0) meter.start();
      if (i == shape.batches) meter.stop(total);
    }
  };
  auto result = compare(pairs, pgque, raw);
  if (variant.insert) {
    const auto rows = queue.sql().number("select count(*) from " + table);
    require(rows == 2 * (pairs + 1) * (1 + total), "rows written: " + std::to_string(rows));
  }
  queue.sql()("drop table " + table);
  if (variant.deferred) queue.sql()("drop table " + parent);
  return result;
}

void dispatch_by_size(const std::string& name, const Setting& setting, Report& report, Shape shape) {
  const auto result = dispatch(setting, shape, {});
  report.add(name, result, shape.size == 100'000 ? "0.85" : "-");
  report.point("dispatch", {static_cast<double>(setting.size<std::int64_t>(shape.size, 30)), result.seconds * 1e6,
                            result.raw_seconds * 1e6, result.cpu * 1e6, result.raw_cpu * 1e6});
}

// A way of writing a row for each message of a batch: receives, writes and acknowledges the waiting batches, of which
// the first has one message.
struct Writing {
  const std::string& dsn;
  Queue& queue;
  const std::string table;
  const std::int64_t size;  // of the second batch
};
using Way = std::function<void(const Writing&, Meter&)>;

Comparison write_rows(const Setting& setting, std::int64_t size, int all_pairs, const Way& way, const Way& beside) {
  size = setting.size<std::int64_t>(size, 30);
  const int pairs = setting.pairs(all_pairs);
  Queue queue{setting.dsn};
  const Writing writing{setting.dsn, queue, queue.name() + "_rows", size};
  queue.sql()("create table " + writing.table + " (id bigint)");
  queue.subscribe_consumers(2 * (pairs + 1));
  queue.publish(1);
  queue.publish(size);
  auto result = compare(
      pairs, [&](Meter& meter) { way(writing, meter); }, [&](Meter& meter) { beside(writing, meter); });
  const auto rows = queue.sql().number("select count(*) from " + writing.table);
  require(rows == 2 * (pairs + 1) * (1 + size), "rows written: " + std::to_string(rows));
  queue.sql()("drop table " + writing.table);
  return result;
}

void by_consumer(const Writing& writing, Meter& meter, TransactionMode mode,
                 const std::function<void(Consumer&)>& add_handlers) {
  auto options = options_for(writing.queue, writing.queue.next_consumer());
  options.transaction = mode;
  consume(writing.dsn, options, meter, 1, writing.size, add_handlers);
}

std::string insert_of(const Writing& writing, const std::string& id) {
  return "insert into " + writing.table + " values (" + id + ")";
}

void insert_each(const Writing& writing, Meter& meter) {
  by_consumer(writing, meter, TransactionMode::per_batch, [&](Consumer& consumer) {
    consumer.on("t", [&](const Message& message, Context& context) {
      context.transaction().exec(insert_of(writing, to_string(message.msg_id)));
    });
  });
}

void insert_each_on_ack(const Writing& writing, Meter& meter) {
  by_consumer(writing, meter, TransactionMode::split, [&](Consumer& consumer) {
    consumer.on("t", [&](const Message& message, Context& context) {
      context.on_ack([&writing, insert = insert_of(writing, to_string(message.msg_id))](
                         pqxx::transaction_base& transaction) { transaction.exec(insert); });
    });
  });
}

enum class AtOnce { copy, insert };

// Of numbers.
std::string values_of(const std::vector<std::string>& ids) {
  std::string values;
  for (const auto& id : ids) values.append(values.empty() ? "(" : "), (").append(id);
  return values + ')';
}

void write_at_once(const Writing& writing, Meter& meter, AtOnce how) {
  by_consumer(writing, meter, TransactionMode::per_batch, [&](Consumer& consumer) {
    consumer.on_batch("t", [&, how](const std::vector<Message>& messages, BatchContext& context) {
      if (how == AtOnce::insert) {
        std::vector<std::string> ids;
        ids.reserve(messages.size());
        for (const auto& message : messages) ids.push_back(to_string(message.msg_id));
        context.transaction().exec("insert into " + writing.table + " values " + values_of(ids));
        return;
      }
#if PQXX_VERSION_MAJOR < 7
      pqxx::stream_to stream{context.transaction(), writing.table};
#else
      auto stream = pqxx::stream_to::table(context.transaction(), {writing.table});
#endif
      for (const auto& message : messages) stream << std::make_tuple(static_cast<std::int64_t>(message.msg_id));
      stream.complete();
    });
  });
}

void write_at_once_raw(const Writing& writing, Meter& meter, AtOnce how) {
  const auto& name = writing.queue.next_consumer();
  RawConsumer consumer{writing.dsn};
  for (const bool first : {true, false}) {
    consumer("begin");
    const auto messages = consumer.receive(writing.queue.name(), name);
    require(messages.size() == static_cast<std::size_t>(first ? 1 : writing.size), "raw: wrong batch");
    consumer("savepoint s");
    if (how == AtOnce::insert) {
      std::vector<std::string> ids;
      ids.reserve(messages.size());
      for (const auto& message : messages) ids.push_back(std::to_string(message.msg_id));
      consumer("insert into " + writing.table + " values " + values_of(ids));
    } else {
      std::string lines;
      for (const auto& message : messages) lines.append(std::to_string(message.msg_id)).append("\n");
      consumer.copy(writing.table, lines);
    }
    consumer("release savepoint s");
    consumer.ack(messages.front().batch_id);
    consumer("commit");
    if (first) {
      meter.start();
    } else {
      meter.stop(writing.size);
    }
  }
}

// A whole batch through a consumer that holds max_messages at a time, by default.
void paged_memory(const std::string& name, const Setting& setting, Report& report, TransactionMode mode) {
  const auto messages = setting.size<std::int64_t>(1'000'000, 100);
  Queue queue{setting.dsn};
  queue.subscribe_consumers(1);
  queue.publish(1);
  queue.publish(messages);
  const auto growth = memory_growth_mib([&] {
    auto options = options_for(queue, queue.next_consumer());
    options.transaction = mode;
    Meter meter;
    consume(setting.dsn, options, meter, 1, messages,
            [](Consumer& consumer) { consumer.on("t", [](const Message&) {}); });
    std::fprintf(stderr, "  %s\n", per_second(meter.seconds()).c_str());
  });
  report.add({name, "all handled, one ack", "-", "-", "-", fixed(growth, 1) + " MiB", "below 32 MiB"});
}

}  // namespace

std::vector<Workload> consume_workloads() {
  std::vector<Workload> out;
  for (const Shape shape : {Shape{1000, 10, 15}, Shape{10'000, 4}, Shape{100'000, 1}, Shape{1'000'000, 1, 3}}) {
    out.push_back(
        {"dispatch " + std::to_string(shape.size), [shape](const auto& name, const auto& setting, auto& report) {
           dispatch_by_size(name, setting, report, shape);
         }});
  }
  const auto variant = [&](const std::string& name, Shape shape, const Variant& what,
                           const std::string& at_least = "-") {
    out.push_back({name, [=](const auto& title, const auto& setting, auto& report) {
                     report.add(title, dispatch(setting, shape, what), at_least);
                   }});
  };
  variant("dispatch 100000, split", {100'000}, {[](auto& options) { options.transaction = TransactionMode::split; }});
  variant("dispatch 100000, concurrency 4", {100'000}, {[](auto& options) { options.concurrency = 4; }});
  variant("dispatch 100000, pages of 1000", {100'000}, {[](auto& options) { options.max_messages = 1000; }});
  variant("dispatch 100000, no pages", {100'000}, {[](auto& options) { options.max_messages = std::nullopt; }});
  Variant transactional;
  transactional.insert = true;
  variant("dispatch 2000, each inserting a row", {2000, 1, 7}, transactional, "0.85");
  transactional.savepoints = false;
  variant("2000 inserts, raw: no savepoints", {2000, 1, 7}, transactional);
  transactional.savepoints = true;
  transactional.deferred = true;
  for (const std::int64_t size : {1000, 4000}) {
    variant(std::to_string(size) + " inserts, deferred checks", {size, 1, 5}, transactional);
  }
  const auto writes = [&](const std::string& name, std::int64_t size, int pairs, const Way& way, const Way& beside,
                          const std::string& at_least = "-") {
    out.push_back({name, [=](const auto& title, const auto& setting, auto& report) {
                     report.add(title, write_rows(setting, size, pairs, way, beside), at_least);
                   }});
  };
  writes("2000 by on_ack, against per_batch", 2000, 9, insert_each_on_ack, insert_each);
  for (const auto how : {AtOnce::copy, AtOnce::insert}) {
    const std::string statement{how == AtOnce::copy ? "COPY" : "insert"};
    const Way way = [how](const auto& writing, auto& meter) { write_at_once(writing, meter, how); };
    const Way raw = [how](const auto& writing, auto& meter) { write_at_once_raw(writing, meter, how); };
    writes("on_batch 10000, " + statement, 10'000, 15, way, raw);
    writes("on_batch " + statement + ", against singles", 10'000, 3, way, insert_each, "20");
  }
  Variant one_percent;
  one_percent.fail_every = 100;
  variant("dispatch 1000, 1 % nacked", {1000, 10}, one_percent);
  Variant all;
  all.fail_every = 1;
  // Seconds on the server, and sixteen times as many.
  variant("dispatch 1000, all nacked", {1000, 1, 3}, all);
  variant("dispatch 4000, all nacked", {4000, 1, 1}, all);
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    out.push_back(
        {std::string{"memory of a batch of 1000000"} + (mode == TransactionMode::split ? ", split" : ""),
         [mode](const auto& name, const auto& setting, auto& report) { paged_memory(name, setting, report, mode); }});
  }
  return out;
}

}  // namespace pgque::bench
