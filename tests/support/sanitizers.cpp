// What the sanitizers are to ignore, compiled into the programs because it belongs to them wherever they run.

extern "C" {

// libpqxx 6.4 asks a connection for its encoding before it takes over a result. When the connection has just been lost
// that throws, and the result is never freed: about 2 KiB for each statement that a lost connection ends.
const char* __lsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
const char* __lsan_default_suppressions() {
  return "leak:libpqxx-6.4.so\n";
}

// Otherwise a program would say on its standard error what was ignored.
const char* __lsan_default_options();  // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
const char* __lsan_default_options() {
  return "print_suppressions=0";
}
}
