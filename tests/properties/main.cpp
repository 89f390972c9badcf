// Runs the properties over the same cases each time, unless RC_PARAMS says otherwise, for example seed=7 or
// max_success=100000. With PGQUE_NIGHTLY=1 there are ten times as many. What a failure prints as reproduce=... repeats
// it in RC_PARAMS.

#include <cstdio>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  const char* const nightly = std::getenv("PGQUE_NIGHTLY");
  const bool many = nightly && std::string{nightly} == "1";
  // What comes later in RC_PARAMS wins.
  std::string parameters = std::string{"seed=2026 max_success="} + (many ? "3000" : "300");
  if (const char* const given = std::getenv("RC_PARAMS")) parameters += std::string{" "} + given;
  ::setenv("RC_PARAMS", parameters.c_str(), 1);
  std::fprintf(stderr, "RC_PARAMS=\"%s\"\n", parameters.c_str());
  return RUN_ALL_TESTS();
}
