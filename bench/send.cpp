// Producing: one by one, in transactions and in batches.

#include <algorithm>
#include <future>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

using nlohmann::json;

// About 150 bytes each as JSON.
std::vector<json> objects(std::size_t count) {
  std::vector<json> out;
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back({{"order_id", 1'000'000 + i},
                   {"customer", "customer-" + std::to_string(100'000 + i)},
                   {"total", 99.95},
                   {"currency", "EUR"},
                   {"items", json::array({{{"sku", "A-1000"}, {"quantity", 2}}})},
                   {"note", "as discussed"}});
  }
  return out;
}

std::vector<std::string> texts(std::size_t count) {
  std::vector<std::string> out;
  for (const auto& object : objects(count)) out.push_back(object.dump());
  return out;
}

enum class Kind {
  text,     // ready-made JSON text, stored as it is
  jsonb,    // ready-made JSON text, checked by the server
  objects,  // nlohmann_json values, serialised by the client
};

std::vector<Payload> payloads(const std::vector<std::string>& texts, Kind kind) {
  std::vector<Payload> out;
  for (const auto& text : texts) out.push_back(kind == Kind::jsonb ? Payload{text} : pgque::text(text));
  return out;
}

// Both sides of a sending workload, and what they have to send.
struct Sender {
  explicit Sender(const Setting& setting) : queue{setting.dsn}, client{setting.dsn}, raw{setting.dsn} {
    queue.subscribe(check);
    raw.prepare("send_text", "select pgque.send($1::text, $2::text, $3::text)");
    raw.prepare("send_jsonb", "select pgque.send($1::text, $2::text, $3::jsonb)");
    raw.prepare("batch_text", "select pgque.send_batch($1::text, $2::text, $3::text[])");
    raw.prepare("batch_jsonb", "select pgque.send_batch($1::text, $2::text, $3::text[]::jsonb[])");
    raw.prepare("mixed",
                "select array_agg(id order by i) from (select i, pgque.insert_event($1::text, type, data, key, "
                "null::text, null::text, headers) as id from (select * from unnest($2::text[], $3::text[], $4::text[], "
                "$5::text[]) with ordinality as e(type, data, key, headers, i) order by i) as e) as inserted");
  }
  // Checks that everything that was sent is stored.
  void check_all_stored() {
    queue.tick();
    const auto stored = queue.size_of_batch(check);
    require(stored == sent, "sent " + std::to_string(sent) + " messages, found " + std::to_string(stored));
  }

  Queue queue;
  Client client;
  Raw raw;
  const std::string check = "check";
  std::int64_t sent = 0;
};

void send_one_by_one(const std::string& name, const Setting& setting, Report& report, Kind kind, bool transaction,
                     const std::string& at_least) {
  Sender sender{setting};
  const auto count = setting.size<std::size_t>(transaction ? 1000 : 25, 5);
  const auto all_objects = objects(count);
  const auto all_texts = texts(count);
  const auto all_payloads = payloads(all_texts, kind);

  const auto send_all = [&](Operations& operations) {
    for (std::size_t i = 0; i < count; ++i) {
      if (kind == Kind::objects) {
        operations.send(sender.queue.name(), all_objects[i], "order.created");
      } else {
        operations.send(sender.queue.name(), all_payloads[i], "order.created");
      }
    }
  };
  const Side pgque = [&](Meter& meter) {
    meter.start();
    if (transaction) {
      auto tx = sender.client.begin();
      send_all(tx);
      tx.commit();
    } else {
      send_all(sender.client);
    }
    meter.stop(static_cast<std::int64_t>(count));
    sender.sent += meter.messages();
  };
  const Side raw = [&](Meter& meter) {
    const auto* const statement = kind == Kind::jsonb ? "send_jsonb" : "send_text";
    meter.start();
    if (transaction) sender.raw("begin");
    for (std::size_t i = 0; i < count; ++i) {
      const auto id =
          number_of(sender.raw.execute(statement, {sender.queue.name(), "order.created",
                                                   kind == Kind::objects ? all_objects[i].dump() : all_texts[i]}));
      require(id > 0, "send returned no id");
    }
    if (transaction) sender.raw("commit");
    meter.stop(static_cast<std::int64_t>(count));
    sender.sent += meter.messages();
  };
  report.add(name, compare(setting.pairs(transaction ? 25 : 300), pgque, raw), at_least);
  sender.check_all_stored();
}

void send_batches(const std::string& name, const Setting& setting, Report& report, std::size_t size, Kind kind,
                  bool literal, const std::string& at_least) {
  Sender sender{setting};
  const auto batch = setting.size<std::size_t>(size, std::min<std::size_t>(size, 20));
  // Runs of a few milliseconds, and many of them: other work of the machine then affects both sides alike.
  const auto batches = setting.size<std::size_t>(std::max<std::size_t>(1, 20 / size), 2);
  const int pairs = setting.pairs(size >= 10'000 ? 15 : size >= 1000 ? 60 : 150);
  const auto all_objects = objects(batch);
  const auto all_texts = texts(batch);
  const auto all_payloads = payloads(all_texts, kind);

  const Side pgque = [&](Meter& meter) {
    meter.start();
    for (std::size_t i = 0; i < batches; ++i) {
      const auto ids =
          kind == Kind::objects
              ? sender.client.send_batch(sender.queue.name(), "order.created", {all_objects.begin(), all_objects.end()})
              : sender.client.send_batch(sender.queue.name(), "order.created", all_payloads);
      require(ids.size() == batch, "send_batch returned " + std::to_string(ids.size()) + " ids");
    }
    meter.stop(static_cast<std::int64_t>(batch * batches));
    sender.sent += meter.messages();
  };
  const Side raw = [&](Meter& meter) {
    const auto* const statement = kind == Kind::jsonb ? "batch_jsonb" : "batch_text";
    meter.start();
    for (std::size_t i = 0; i < batches; ++i) {
      std::vector<std::string> dumped;
      if (kind == Kind::objects) {
        dumped.reserve(batch);
        for (const auto& object : all_objects) dumped.push_back(object.dump());
      }
      const auto& payloads = kind == Kind::objects ? dumped : all_texts;
      const auto array = literal ? array_literal(payloads) : binary_array(payloads);
      const auto ids = numbers_of(sender.raw.execute(
          statement, {sender.queue.name(), "order.created", literal ? Value{array} : Value::binary(array)}));
      require(ids.size() == batch, "raw send_batch returned " + std::to_string(ids.size()) + " ids");
    }
    meter.stop(static_cast<std::int64_t>(batch * batches));
    sender.sent += meter.messages();
  };
  const auto result = compare(pairs, pgque, raw);
  report.add(name, result, at_least);
  if (!literal) {
    report.point(kind == Kind::text    ? "send_batch_text"
                 : kind == Kind::jsonb ? "send_batch_jsonb"
                                       : "send_batch_json",
                 {static_cast<double>(batch), 1 / result.seconds, 1 / result.raw_seconds});
  }
  sender.check_all_stored();
}

// 1000 events of ten types, each with a key and a header.
std::vector<Event> mixed_events(std::size_t count) {
  std::vector<Event> out;
  const auto all_texts = texts(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto& event = out.emplace_back(Event{pgque::text(all_texts[i]), "order." + std::to_string(i % 10)});
    event.key = "customer-" + std::to_string(i % 100);
    event.headers["traceparent"] =
        "00-4bf92f3577b34da6a3ce929d0e0e" + std::to_string(1000 + i % 9000) + "-00f067aa0ba902b7-01";
  }
  return out;
}

enum class Beside { raw, single_sends, plain_batch };

void send_mixed(const std::string& name, const Setting& setting, Report& report, Beside what) {
  Sender sender{setting};
  const auto count = setting.size<std::size_t>(1000, 20);
  const auto events = mixed_events(count);
  const auto all_texts = texts(count);
  const auto all_payloads = payloads(all_texts, Kind::text);
  const auto side = [&](const std::function<std::size_t()>& send) {
    return [&, send](Meter& meter) {
      meter.start();
      require(send() == count, "not every event was sent");
      meter.stop(static_cast<std::int64_t>(count));
      sender.sent += meter.messages();
    };
  };
  const auto mixed = side([&] { return sender.client.send_batch(sender.queue.name(), events).size(); });
  const auto raw = side([&] {
    std::vector<std::string> types, keys, headers;
    for (const auto& event : events) {
      types.push_back(event.type);
      keys.push_back(*event.key);
      headers.push_back("{\"traceparent\": \"" + event.headers.at("traceparent") + "\"}");
    }
    const auto type_array = binary_array(types);
    const auto text_array = binary_array(all_texts);
    const auto key_array = binary_array(keys);
    const auto header_array = binary_array(headers);
    return numbers_of(
               sender.raw.execute("mixed", {sender.queue.name(), Value::binary(type_array), Value::binary(text_array),
                                            Value::binary(key_array), Value::binary(header_array)}))
        .size();
  });
  const auto single = side([&] {
    auto transaction = sender.client.begin();
    for (const auto& event : events) transaction.send(sender.queue.name(), event);
    transaction.commit();
    return count;
  });
  const auto plain =
      side([&] { return sender.client.send_batch(sender.queue.name(), "order.created", all_payloads).size(); });
  const bool slow = what == Beside::single_sends;
  report.add(name, compare(setting.pairs(slow ? 25 : 60), mixed, slow ? single : what == Beside::raw ? raw : plain));
  sender.check_all_stored();
}

// Threads that share one connection, against sends one by one.
void send_buffered(const std::string& name, const Setting& setting, Report& report) {
  Sender sender{setting};
  constexpr std::size_t thread_count = 4;
  const auto count = setting.size<std::size_t>(2500, 10);  // for each thread
  const auto all_texts = texts(thread_count * count);
  BufferedProducer producer{setting.dsn};

  const Side pgque = [&](Meter& meter) {
    std::vector<std::vector<std::future<EventId>>> futures(thread_count);
    std::vector<std::thread> threads;
    meter.start();
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      threads.emplace_back([&, thread] {
        for (std::size_t i = 0; i < count; ++i) {
          futures[thread].push_back(
              producer.send(sender.queue.name(), pgque::text(all_texts[thread * count + i]), "order.created"));
        }
      });
    }
    for (auto& thread : threads) thread.join();
    require(producer.flush(std::chrono::seconds{60}), "flush() took too long");
    std::int64_t stored = 0;
    for (auto& of_thread : futures) {
      for (auto& future : of_thread) stored += future.get() > EventId{0} ? 1 : 0;
    }
    meter.stop(stored);
    sender.sent += stored;
  };
  const Side raw = [&](Meter& meter) {
    meter.start();
    for (const auto& text : all_texts) {
      require(number_of(sender.raw.execute("send_text", {sender.queue.name(), "order.created", text})) > 0, "no id");
    }
    meter.stop(static_cast<std::int64_t>(all_texts.size()));
    sender.sent += meter.messages();
  };
  report.add(name, compare(setting.pairs(15), pgque, raw), "8");
  sender.check_all_stored();
}

}  // namespace

std::vector<Workload> send_workloads() {
  std::vector<Workload> out;
  const auto one_by_one = [&](const std::string& name, Kind kind, bool transaction, const std::string& at_least) {
    out.push_back({name, [=](const auto& title, const auto& setting, auto& report) {
                     send_one_by_one(title, setting, report, kind, transaction, at_least);
                   }});
  };
  one_by_one("send, autocommit, text", Kind::text, false, "0.90");
  one_by_one("send, autocommit, jsonb", Kind::jsonb, false, "0.90");
  one_by_one("send, autocommit, nlohmann", Kind::objects, false, "-");
  one_by_one("1000 sends in a transaction, text", Kind::text, true, "-");
  one_by_one("1000 sends in a transaction, jsonb", Kind::jsonb, true, "-");

  const auto batches = [&](const std::string& name, std::size_t size, Kind kind, bool literal = false,
                           const std::string& at_least = "-") {
    out.push_back({"send_batch(" + std::to_string(size) + "), " + name,
                   [=](const auto& title, const auto& setting, auto& report) {
                     send_batches(title, setting, report, size, kind, literal, at_least);
                   }});
  };
  for (const std::size_t size : {1U, 10U, 100U, 1000U, 10'000U}) {
    batches("text", size, Kind::text, false, size == 1000 ? "0.90" : "-");
    if (size == 1000) batches("text, literal", size, Kind::text, true, "1.30");
    batches("jsonb", size, Kind::jsonb);
    batches("nlohmann", size, Kind::objects, false, size == 1000 ? "0.80" : "-");
  }
  for (const auto& [name, beside] : {std::pair{"send_batch of 1000 mixed events", Beside::raw},
                                     std::pair{"1000 mixed events, against sends", Beside::single_sends},
                                     std::pair{"1000 mixed events, against send_batch", Beside::plain_batch}}) {
    out.push_back({name, [what = beside](const auto& title, const auto& setting, auto& report) {
                     send_mixed(title, setting, report, what);
                   }});
  }
  out.push_back({"BufferedProducer, 4 threads", send_buffered});
  return out;
}

}  // namespace pgque::bench
