// Every name in SQL is qualified: in the library's statements, and in the SQL of the other sources, examples and pages.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "every_statement.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}

// Names with their dots, numbers, parameters and operators, in small letters; without comments and texts, where a text
// is ''.
std::vector<std::string> tokens(std::string_view sql) {
  constexpr std::string_view operators = "+-*/<>=~!@#%^&|`?:";
  std::vector<std::string> out;
  for (std::size_t i = 0; i < sql.size();) {
    const auto begin = i;
    const char c = sql[i];
    if (sql.substr(i, 2) == "--") {
      i = std::min(sql.find('\n', i), sql.size());
    } else if (c == '\'') {
      do i = std::min(sql.find('\'', i + 1), sql.size() - 1) + 1;
      while (i < sql.size() && sql[i] == '\'');
      out.emplace_back("''");
    } else if (is_name(c)) {
      while (i < sql.size() && (is_name(sql[i]) || sql[i] == '.')) ++i;
      out.emplace_back(sql.substr(begin, i - begin));
      for (auto& letter : out.back()) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    } else if (operators.find(c) != std::string_view::npos) {
      while (i < sql.size() && operators.find(sql[i]) != std::string_view::npos) ++i;
      out.emplace_back(sql.substr(begin, i - begin));
    } else {
      if (c != ' ' && c != '\n') out.emplace_back(1, c);
      ++i;
    }
  }
  return out;
}

// What others could put something else in the place of, in the order of the text. Names of tables must be qualified,
// too, unless they are those of a WITH.
std::vector<std::string> unqualified(std::string_view sql) {
  // What the grammar itself knows; not a list of all of it.
  static const std::set<std::string> words{"all",    "and",      "any",  "array",   "as",      "by",           "case",
                                           "check",  "coalesce", "else", "exists",  "extract", "filter",       "from",
                                           "in",     "into",     "join", "lateral", "limit",   "materialized", "not",
                                           "offset", "on",       "or",   "over",    "row",     "select",       "then",
                                           "union",  "values",   "when", "where",   "with",    "greatest",     "least"};
  static const std::set<std::string> types{"bigint", "integer", "boolean", "double", "interval", "timestamp"};
  // Their operators and functions cannot be qualified.
  static const std::set<std::string> forbidden{"in",      "between", "like",  "ilike",
                                               "similar", "nullif",  "using", "natural"};
  std::vector<std::string> out;
  std::set<std::string> known;  // the names of WITH
  const auto all = tokens(sql);
  const auto at = [&](std::size_t i) { return i < all.size() ? all[i] : std::string{}; };
  // After the FROM of EXTRACT, DISTINCT and FETCH there is no table.
  const auto is_table_next = [&](std::size_t i) {
    if (i == 0 || all[0] == "fetch") return false;
    const auto& before = all[i - 1];
    if (before == "from") return i < 2 || (all[i - 2] != "epoch" && all[i - 2] != "distinct");
    return before == "join" || before == "into" || before == "update";
  };
  bool setting = false;  // in a SET, or the SET of an UPDATE, where = is no operator
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& token = all[i];
    const auto next = at(i + 1);
    const auto before = i == 0 ? std::string{} : all[i - 1];
    const bool qualified = token.find('.') != std::string::npos;
    const bool name = is_name(token.front()) && token.front() != '$' && std::isdigit(token.front()) == 0;
    if (token == "set") setting = true;
    if (token == ";" || token == "where" || token == "from") setting = false;
    if (token == "operator" && next == "(") {
      std::string full;
      for (i += 2; i < all.size() && all[i] != ")"; ++i) full += all[i];
      if (full.rfind("pg_catalog.", 0) != 0) out.push_back(full);
    } else if (token == "::") {
      if (next.find('.') == std::string::npos && types.count(next) == 0) out.push_back("::" + next);
    } else if (token == "*" && (before == "(" || before == "," || before == "select")) {
      // count(*), select *
    } else if (token == "=" && setting) {
      // SET a = b
    } else if (std::string_view{"+-*/<>=~!@#%^&|`?:"}.find(token.front()) != std::string_view::npos) {
      out.push_back(token);
    } else if (!name) {
      continue;
    } else if (forbidden.count(token) != 0) {
      out.push_back(token);
    } else if (token == "case" && next != "when") {
      out.push_back("case " + next);
    } else if (token == "distinct" && next == "from") {
      out.emplace_back("distinct from");
    } else if (is_table_next(i) && !qualified && known.count(token) == 0 && words.count(token) == 0 &&
               token != "rows" && next != "(" && at(i + 2) != "materialized") {
      out.push_back(before + ' ' + token);
    } else if (next == "as" && (before == "with" || before == ",") &&
               (at(i + 2) == "materialized" || at(i + 2) == "(")) {
      known.insert(token);
    } else if (next == "(" && !qualified && words.count(token) == 0 && before != "as" && before != "with" &&
               !(token == "from" || token == "rows")) {
      out.push_back(token + "()");
    }
  }
  return out;
}

TEST(SqlTest, EveryNameInTheLibrarysStatementsIsQualified) {
  const auto statements = every_statement();
  EXPECT_GT(statements.size(), 70U);
  for (const auto& statement : statements) {
    EXPECT_THAT(unqualified(statement.sql), IsEmpty()) << statement.name << ": " << statement.sql;
  }
}

TEST(SqlTest, EveryKindOfUnqualifiedNameIsFound) {
  EXPECT_THAT(unqualified("select pgque.nack($1::bigint, $3::bigint * interval '1 second')"), ElementsAre("*"));
  EXPECT_THAT(unqualified("select a operator(other.=) b, a operator(=) c, -1"), ElementsAre("other.=", "=", "-"));
  EXPECT_THAT(unqualified("select count(*), Max(a), array_agg(b) from pgque.tick"),
              ElementsAre("count()", "max()", "array_agg()"));
  EXPECT_THAT(unqualified("select $1::text, $2::int8, a::int4[]"), ElementsAre("::text", "::int8", "::int4"));
  EXPECT_THAT(unqualified("select 1 from pg_settings s join pg_locks on true"),
              ElementsAre("from pg_settings", "join pg_locks"));
  EXPECT_THAT(unqualified("select case a when 1 then b end, nullif(a, b), a is distinct from b, a in (1)"),
              ElementsAre("case a", "nullif", "distinct from", "in"));
  EXPECT_THAT(unqualified("select 1 from a.b join c.d using (e) where f like 'g' and h between 1 and 2"),
              ElementsAre("using", "like", "between"));
  EXPECT_THAT(unqualified("set a = b; select 1 where a = b"), ElementsAre("="));
  EXPECT_THAT(unqualified("update queue set a = b where c = d"), ElementsAre("update queue", "="));
}

TEST(SqlTest, WhatIsQualifiedOrTheGrammarsOwnIsNotFound) {
  for (const auto* sql : {
           "select pg_catalog.count(*) filter (where a operator(pg_catalog.<) 1) from pgque.tick",
           "with a as materialized (select 1 as b) select b from a union all (select 'count(b) = c' limit 1)",
           "select * from rows from (pg_catalog.unnest($1::pg_catalog.text[])) with ordinality as p(a, i)",
           "select extract(epoch from a), coalesce(b, 'it''s'), row(c)::pgque.message, d::double precision, "
           "array['e'], exists (select from pgque.queue), case when f then g end -- = h",
           "set local lock_timeout = '5s'; set constraints all immediate; savepoint pgque_attempt",
       }) {
    EXPECT_THAT(unqualified(sql), IsEmpty()) << sql;
  }
}

std::string content(const std::filesystem::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

// The SQL in a text of C++ or Markdown: string literals that begin like a statement, each with what is appended to it,
// where the values of C++ are $1; ```sql blocks; and `statements` in a line.
std::vector<std::string> embedded(const std::string& text) {
  static const std::regex literal{
      R"re("((?:select|insert into|update|delete from|declare) (?:[^"\\]|\\.)*)"((?:[^;"]*"(?:[^"\\]|\\.)*")*))re"};
  static const std::regex more{R"re(([^"]*)"((?:[^"\\]|\\.)*)")re"};
  static const std::regex block{R"re(```sql\n((?:[^`])*)```)re"};
  static const std::regex in_line{R"re(`((?:select|update|delete from) [^`]*)`)re"};
  std::vector<std::string> out;
  for (std::sregex_iterator i{text.begin(), text.end(), literal}, end; i != end; ++i) {
    auto sql = (*i)[1].str();
    const auto rest = (*i)[2].str();
    for (std::sregex_iterator j{rest.begin(), rest.end(), more}; j != end; ++j) {
      if ((*j)[1].str().find_first_not_of(" \n") != std::string::npos) sql += "$1";
      sql += (*j)[2].str();
    }
    out.push_back(std::move(sql));
  }
  for (const auto& pattern : {block, in_line}) {
    for (std::sregex_iterator i{text.begin(), text.end(), pattern}, end; i != end; ++i) out.push_back((*i)[1]);
  }
  return out;
}

TEST(SqlTest, StatementsAreFoundInSourcesAndPages) {
  EXPECT_THAT(
      embedded("f(\"select 1 from \"\n  \"a.b where c = \" + id + \" and d\");\n`select e()`\n```sql\ngrant f;\n```"),
      UnorderedElementsAre("select 1 from a.b where c = $1 and d", "select e()", "grant f;\n"));
}

// Tables of examples are the user's own, and need no schema.
std::vector<std::string> without_tables(std::vector<std::string> found) {
  const auto is_table = [](const std::string& name) {
    return name.find(' ') != std::string::npos && name.rfind("case", 0) != 0;
  };
  found.erase(std::remove_if(found.begin(), found.end(), is_table), found.end());
  return found;
}

TEST(SqlTest, EveryNameInTheSqlOfOtherSourcesExamplesAndPagesIsQualified) {
  const std::filesystem::path root{PGQUE_TEST_SOURCE_DIR};
  std::vector<std::filesystem::path> files{root / "README.md"};
  for (const auto* directory : {"src", "include", "tools", "examples", "docs"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator{root / directory}) {
      const auto& extension = entry.path().extension();
      if (extension == ".cpp" || extension == ".hpp" || extension == ".md") files.push_back(entry.path());
    }
  }
  std::size_t statements = 0;
  for (const auto& file : files) {
    if (file.filename() == "sql.hpp") continue;  // see above
    for (const auto& sql : embedded(content(file))) {
      ++statements;
      EXPECT_THAT(without_tables(unqualified(sql)), IsEmpty()) << file << ": " << sql;
    }
  }
  EXPECT_GT(statements, 20U);
}

}  // namespace
}  // namespace pgque::test
