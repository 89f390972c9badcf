#pragma once

/// @file
/// What producers and consumers need. Opt-in headers: `pgque/json.hpp` (nlohmann_json), `pgque/pqxx.hpp` (libpqxx),
/// `pgque/buffered_producer.hpp`, whose `<future>` costs more time than all of this, and for those who run queues
/// `pgque/admin.hpp` and `pgque/doctor.hpp`.

#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/consumer_options.hpp>
#include <pgque/context.hpp>
#include <pgque/error.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/operations.hpp>
#include <pgque/payload.hpp>
#include <pgque/reconnect.hpp>
#include <pgque/retry.hpp>
#include <pgque/signals.hpp>
#include <pgque/ticker.hpp>
#include <pgque/transaction.hpp>
#include <pgque/version.hpp>
