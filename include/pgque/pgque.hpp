#pragma once

/// @file
/// Everything except the opt-in headers: `pgque/json.hpp` (nlohmann_json), `pgque/pqxx.hpp` (libpqxx), and
/// `pgque/buffered_producer.hpp`, whose `<future>` costs more time than all of this.

#include <pgque/admin.hpp>
#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/doctor.hpp>
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
