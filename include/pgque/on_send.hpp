#pragma once

/// @file
/// Interceptors of what is sent.

#include <functional>
#include <initializer_list>
#include <vector>

#include <pgque/export.hpp>
#include <pgque/payload.hpp>

namespace pgque {

/// Code that sees each event before it is sent, for example to add a `traceparent` to its headers. It may change
/// everything of the event; what it leaves is checked as if the caller had given it. An empty type has become "default"
/// before. It may see an event that is not sent after all, because of a later error. An exception that it throws
/// reaches the caller, and nothing is sent. It must not use the client, transaction or producer that calls it.
///
/// **Thread safety.** It is called on the thread that sends. A client and its transactions call it one event at a time;
/// a `BufferedProducer` calls it from as many threads at once as send.
using OnSend = std::function<void(Event& event)>;

/// One that calls all of these, in their order: each sees what those before it have made of the event. Empty ones are
/// left out; without any others the result is empty, too.
PGQUE_EXPORT OnSend chain(std::vector<OnSend> interceptors);
/// The same for a list in braces: two plain functions could be a vector's begin and end, too.
inline OnSend chain(std::initializer_list<OnSend> interceptors) {
  return chain(std::vector<OnSend>{interceptors});
}

}  // namespace pgque
