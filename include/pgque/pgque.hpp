#pragma once

/// @file
/// Includes what producers and consumers need. Opt-in headers: `pgque/json.hpp` needs nlohmann_json, `pgque/pqxx.hpp`
/// needs libpqxx, `pgque/buffered_producer.hpp` includes `<future>`, which takes longer to compile than all of this,
/// and `pgque/admin.hpp` and `pgque/doctor.hpp` are for administration.

#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/consumer_options.hpp>
#include <pgque/context.hpp>
#include <pgque/crash_guard.hpp>
#include <pgque/dsn.hpp>
#include <pgque/error.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/on_send.hpp>
#include <pgque/operations.hpp>
#include <pgque/payload.hpp>
#include <pgque/reconnect.hpp>
#include <pgque/retry.hpp>
#include <pgque/signals.hpp>
#include <pgque/ticker.hpp>
#include <pgque/transaction.hpp>
#include <pgque/version.hpp>
