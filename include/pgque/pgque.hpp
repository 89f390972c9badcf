#pragma once

/// @file
/// Everything except the opt-in headers `pgque/json.hpp` (nlohmann_json) and `pgque/pqxx.hpp` (libpqxx).

#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
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
