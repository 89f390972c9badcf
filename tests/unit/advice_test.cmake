# Compiles programs with the mistakes of a beginner. The first error must say what to include or write.
# Called with -D COMPILER=... -D INCLUDE_DIRS=a|b -D WORK_DIR=...

get_filename_component(name "${COMPILER}" NAME)
string(REPLACE "|" ";" include_dirs "${INCLUDE_DIRS}")
list(TRANSFORM include_dirs PREPEND "-I")

set(payload "this is no payload. Include <pgque/json.hpp> for what nlohmann_json serialises")
set(range "send_batch() takes a range of payloads, such as a std::vector. A text, a map or any other single payload")
set(characters "If they are text, write a std::string in UTF-8; if numbers, nlohmann::json(...)")
set(decoder "no T can be made of a payload. Include <pgque/json.hpp>, and for a type of yours write from_json(")
set(untyped "For one that takes (const Message&), write on() without <T>; in a typed handler, context.message()")
set(typed "a handler of on() takes (const Message&) or (const Message&, Context&). For one that takes (const T&), write")

set(plain "#include <nlohmann/json.hpp>")
set(with_json "#include <pgque/json.hpp>")

# The first error must contain the text. The statement is in a function with these arguments.
function(expect text header statement)
  set(file "${WORK_DIR}/advice_${name}.cpp")
  file(
    WRITE "${file}"
    "#include <map>\n#include <string>\n#include <vector>\n${header}\n#include <pgque/pgque.hpp>\n"
    "#include <pgque/buffered_producer.hpp>\n"
    "struct Order {\n  int id;\n};\n"
    "void program(pgque::Client& client, pgque::Transaction& transaction, pgque::BufferedProducer& producer,\n"
    "             pgque::Consumer& consumer, pgque::Context& context, const pgque::Message& message) {\n"
    "  static_cast<void>(client), static_cast<void>(transaction), static_cast<void>(producer);\n"
    "  static_cast<void>(consumer), static_cast<void>(context), static_cast<void>(message);\n"
    "  ${statement};\n}\n")
  execute_process(COMMAND "${COMPILER}" -std=c++17 -fsyntax-only ${include_dirs} "${file}" ERROR_VARIABLE output
                  RESULT_VARIABLE result)
  string(REGEX MATCH "[^\n]*error:[^\n]*" first "${output}")
  string(FIND "${first}" "${text}" at)
  if(text STREQUAL "")
    if(NOT result EQUAL 0)
      message(SEND_ERROR "refused: ${statement}:\n${output}")
    endif()
  elseif(at EQUAL -1)
    message(SEND_ERROR "${statement}:\n  says first: ${first}\n  and not:    ${text}")
  endif()
endfunction()

# What is right compiles.
expect("" "${with_json}" [[client.send("q", nlohmann::json{{"a", 1}}, "t"), client.send("q", std::map<std::string, int>{}),
  client.send_batch("q", "t", std::vector<int>{}), client.send_batch("q", "t", {nlohmann::json(1), nlohmann::json(2)}),
  producer.send("q", 1), transaction.send("q", 1), consumer.on<int>("t", [](int) {})]])

# json.hpp or to_json() forgotten
expect("${payload}" "${plain}" [[client.send("q", nlohmann::json{{"a", 1}}, "t")]])
expect("${payload}" "${plain}" [[context.send("q", nlohmann::json{{"a", 1}})]])
expect("${payload}" "${plain}" [[transaction.send("q", nlohmann::json{{"a", 1}})]])
expect("${payload}" "${plain}" [[producer.send("q", nlohmann::json{{"a", 1}}, "t")]])
expect("${payload}" "" [[client.send("q", std::map<std::string, int>{{"a", 1}})]])
expect("${payload}" "${plain}" [[client.send_batch("q", "t", {nlohmann::json(1), nlohmann::json(2)})]])
expect("${payload}" "${with_json}" [[client.send("q", Order{1}, "t")]])
expect("${payload}" "${with_json}" [[client.send_batch("q", "t", std::vector<Order>{})]])
expect("${payload}" "${with_json}" [[transaction.send_batch("q", "t", {Order{1}, Order{2}})]])

# A JSON value converts to a std::string. The compiler shows the line that says what to include.
expect("delete" "${plain}" [[pgque::Payload{nlohmann::json("x")}]])

# Characters, which may be text or numbers.
expect("${characters}" "${with_json}" [[client.send_batch("q", "t", std::wstring{L"x"})]])
expect("${characters}" "" [[client.send_batch("q", "t", std::vector<std::wstring>{})]])
expect("${characters}" "" [[transaction.send_batch("q", "t", std::vector<std::uint8_t>{})]])

# No range of payloads.
expect("${range}" "" [[client.send_batch("q", "t", std::string{"{}"})]])
expect("${range}" "" [[client.send_batch("q", "t", std::map<std::string, std::string>{})]])
expect("${range}" "" [[client.send_batch("q", "t", pgque::text("x"))]])
expect("Write send_batch(queue, events)." "" [[client.send_batch("q", "t", std::vector<pgque::Event>{})]])

# json.hpp or from_json() forgotten
expect("${decoder}" "${plain}" [[consumer.on<nlohmann::json>("t", [](const nlohmann::json&) {})]])
expect("${decoder}" "" [[consumer.on<Order>("t", [](const Order&) {})]])
expect("${decoder}" "${with_json}" [[consumer.on<Order>("t", [](const Order&, pgque::Context&) {})]])
expect("nlohmann_json makes no T of a payload. Write from_json(" "${with_json}" [[pgque::payload_as<Order>(message)]])

# Handlers of the wrong kind.
expect("${untyped}" "${with_json}" [[consumer.on<int>("t", [](const pgque::Message&) {})]])
expect("${typed}" "${with_json}" [[consumer.on("t", [](const Order&) {})]])
expect("a handler of on<T>() takes (const T&) or (const T&, Context&)." "${with_json}"
       [[consumer.on<int>("t", [](const std::string&) {})]])
