// What is text here is the same text there, whatever is in it.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <rapidcheck/gtest.h>
#include <pgque/pqxx.hpp>
#include <pqxx/pqxx>

#include "binary_array.hpp"
#include "database.hpp"
#include "database/conninfo.hpp"
#include "database/text_array.hpp"
#include "properties.hpp"

namespace pgque::test {
namespace {

using Texts = std::vector<std::optional<std::string>>;

rc::Gen<Texts> any_texts() {
  // One NULL among some texts; not as many as there might be, because there are as many pieces in each.
  constexpr int size = 25;
  return rc::gen::resize(
      size, rc::gen::container<Texts>(rc::gen::map(
                rc::gen::pair(rc::gen::inRange(0, 5), any_text()), [](const std::pair<int, std::string>& drawn) {
                  return drawn.first == 0 ? std::nullopt : std::optional{drawn.second};
                })));
}

RC_GTEST_PROP(EscapingProperties, AnArrayHoldsTheTextsThatWerePutIntoIt, ()) {
  const auto texts = *any_texts();
  const auto expected_bytes = *rc::gen::inRange<std::size_t>(0, 1000);
  detail::TextArray array{texts.size(), expected_bytes};
  for (const auto& text : texts) array.add(text);
  RC_ASSERT(texts_of(array.bytes()) == texts);
}

RC_GTEST_PROP(EscapingProperties, IdsAreReadAsTheyWereWritten, ()) {
  const auto ids = *rc::gen::arbitrary<std::vector<std::int64_t>>();
  std::string text = "{";
  for (const auto id : ids) text += (text.size() > 1 ? "," : "") + std::to_string(id);
  RC_ASSERT(detail::parse_int64_array(text + '}') == ids);
}

// Every character is escaped, which is not how the library does it.
std::string escaped(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    out += '\\';
    out += c;
  }
  return out + '\'';
}

RC_GTEST_PROP(EscapingProperties, ADsnKeepsItsSettings, ()) {
  const std::vector<const char*> keywords{"user", "password", "dbname", "application_name", "options"};
  std::map<std::string, std::string> settings;
  std::string dsn;
  for (const auto* const keyword : keywords) {
    if (!*rc::gen::arbitrary<bool>()) continue;
    const auto value = *any_text();
    settings[keyword] = value;
    dsn += std::string{keyword} + " = " + escaped(value) + ' ';
  }
  const auto conninfo = detail::complete_conninfo(dsn, {});
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options{
      PQconninfoParse(conninfo.c_str(), nullptr), PQconninfoFree};
  RC_ASSERT(options != nullptr);
  std::map<std::string, std::string> read;
  for (const auto* option = options.get(); option->keyword; ++option) {
    for (const auto* const keyword : keywords) {
      if (option->val && option->keyword == std::string{keyword}) read[keyword] = option->val;
    }
  }
  RC_ASSERT(read == settings);
}

class ServerProperties : public DatabaseTest {};

// The server's own parsers are the judge: of arrays in binary form, of parameters, and of literals.
TEST_F(ServerProperties, TextComesBackAsItWasSentOnEveryWay) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  EXPECT_TRUE(rc::check("text comes back as it was sent", [&] {
    const auto texts = *any_texts();
    std::vector<Payload> payloads;
    for (const auto& one : texts) payloads.push_back(one ? text(*one) : Payload{std::nullopt});
    Texts expected;
    const auto sent = [&] { expected.insert(expected.end(), texts.begin(), texts.end()); };

    client.send_batch(queue(), "t", payloads);
    sent();
    for (const auto& payload : payloads) client.send(queue(), payload);
    sent();
    {
      pqxx::work work{native(client)};
      Transaction transaction{work};
      transaction.send_batch(queue(), "t", payloads);
      sent();
      for (const auto& payload : payloads) transaction.send(queue(), payload);
      sent();
      work.commit();
    }

    queue().tick();
    Texts received;
    const auto messages = client.receive(queue(), consumer_name());
    for (const auto& message : messages) received.push_back(message.payload);
    if (!messages.empty()) client.ack(messages.front().batch_id);
    RC_ASSERT(received == expected);
  }));
}

}  // namespace
}  // namespace pgque::test
