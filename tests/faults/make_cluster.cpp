// Makes a cluster with PgQue for the fault tests to copy, which is much faster than each making its own.

#include <cstdio>
#include <exception>

#include "database.hpp"
#include "private_server.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  try {
    if (const auto why = pgque::test::PrivateServer::missing(); !why.empty()) {
      // The tests say so themselves.
      std::printf("%s\n", why.c_str());
      return 0;
    }
    pgque::test::PrivateServer server;
    {
      // Many of a cluster's files belong to a database that no test needs. New ones are made of template0.
      pgque::test::Sql sql{server.dsn()};
      sql("update pg_database set datistemplate = false where datname = 'template1'");
      sql("drop database template1");
    }
    server.stop(pgque::test::PrivateServer::Stop::fast);
    server.save_as(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
