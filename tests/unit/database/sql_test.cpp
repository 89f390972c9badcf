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

constexpr std::string_view operators = "+-*/<>=~!@#%^&|`?:";

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}

// Names with their dots, numbers, parameters and operators, in small letters; without comments, and a text is ''. What
// this reader of SQL does not know is a token, so that it is found: quoted names, other kinds of texts and comments.
std::vector<std::string> tokens(std::string_view sql) {
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

// What others could put something else in the place of, in the order of the text: functions, operators, types and, but
// for the names of a WITH, tables. It knows the SQL of this project and no other: queries and settings. Anything
// else is better found once too often.
std::vector<std::string> unqualified(std::string_view sql) {
  // What the grammar itself knows and may come before a parenthesis or a text; not a list of all of it.
  static const std::set<std::string> words{
      "all",   "and",     "any",   "array",   "as",           "by",        "case",     "coalesce", "declare",
      "else",  "exists",  "for",   "extract", "filter",       "from",      "greatest", "group",    "into",
      "join",  "lateral", "least", "limit",   "materialized", "not",       "offset",   "on",       "or",
      "order", "over",    "rows",  "row",     "select",       "then",      "to",       "union",    "values",
      "when",  "where",   "with",  "begin",   "set",          "ordinality"};
  static const std::set<std::string> types{"bigint", "integer", "boolean", "double", "interval", "timestamp"};
  // Their operators and functions cannot be qualified, or this reader does not understand them.
  static const std::set<std::string> forbidden{"in",    "between", "like", "ilike",   "similar", "nullif",
                                               "using", "natural", "cast", "collate", "\"",      "overlaps"};
  static const std::set<std::string> ends_of_from{"where",  "group", "order", "limit", "union",
                                                  "select", "set",   ";",     "offset"};
  const auto all = tokens(sql);
  const auto at = [&](std::size_t i) { return i < all.size() ? all[i] : std::string{}; };
  const auto schema_is_known = [](const std::string& name) {
    return name.rfind("pg_catalog.", 0) == 0 || name.rfind("pgque.", 0) == 0;
  };
  std::set<std::string> known{"lateral", "rows", "(", "$1"};  // where a table is expected; also the names of WITH
  for (std::size_t i = 1; i < all.size(); ++i) {
    const bool defined = all[i] == "as" && (at(i + 1) == "materialized" || at(i + 1) == "(") && at(i - 1) != ")";
    if (defined && (at(i - 2) == "with" || at(i - 2) == ",")) known.insert(all[i - 1]);
  }
  std::vector<std::string> out;
  std::vector<bool> in_from{false};  // for each open parenthesis
  bool setting = false;              // a SET, up to its =
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& token = all[i];
    const auto next = at(i + 1);
    const auto before = i == 0 ? std::string{} : all[i - 1];
    const bool name = is_name(token.front()) && token.front() != '$' && std::isdigit(token.front()) == 0;
    const bool of_extract = i >= 3 && all[i - 1] == "epoch" && all[i - 2] == "(" && all[i - 3] == "extract";
    const bool of_table = token == "from" && !of_extract && before != "distinct";
    const bool expects_table =
        of_table || token == "join" || token == "into" || token == "update" || (token == "," && in_from.back());
    if (ends_of_from.count(token) != 0) in_from.back() = false;
    if (of_table) in_from.back() = true;
    if (token == "(") in_from.push_back(false);
    if (token == ")" && in_from.size() > 1) in_from.pop_back();
    if (token == "set") setting = true;

    if (expects_table && all[0] != "fetch" && known.count(next) == 0 && !schema_is_known(next)) {
      out.push_back(token + ' ' + next);
    }
    if (token == "operator" && next == "(") {
      std::string full;
      for (i += 2; i < all.size() && all[i] != ")"; ++i) full += all[i];
      if (full.rfind("pg_catalog.", 0) != 0) out.push_back(full);
    } else if (token == "::") {
      if (!schema_is_known(next) && types.count(next) == 0) out.push_back("::" + next);
    } else if (token == "*" && (before == "(" || before == "," || before == "select")) {
      // count(*), select *
    } else if (token == "=" && setting) {
      setting = false;
    } else if (token == "-" && (before == "," || before == "(") && std::isdigit(next.front()) != 0) {
      // a negative number
    } else if (token == ":") {
      // of a slice: no operator has a colon
    } else if (operators.find(token.front()) != std::string_view::npos || forbidden.count(token) != 0 ||
               token.rfind("$$", 0) == 0) {
      out.push_back(token);
    } else if (token == "case" && next != "when") {
      out.push_back("case " + next);
    } else if (token == "distinct" && next == "from") {
      out.emplace_back("distinct from");
    } else if (name && next == "''" && words.count(token) == 0 && types.count(token) == 0) {
      out.push_back(token + " ''");
    } else if (name && next == "(" && words.count(token) == 0 && !schema_is_known(token) && before != "as" &&
               before != "into") {
      out.push_back(token + "()");
    }
  }
  return out;
}

std::string content(const std::filesystem::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

TEST(SqlTest, EveryNameInTheLibrarysStatementsIsQualified) {
  const auto statements = every_statement();
  EXPECT_GT(statements.size(), 70U);
  for (const auto& statement : statements) {
    EXPECT_THAT(unqualified(statement.sql), IsEmpty()) << statement.name << ": " << statement.sql;
  }
}

// Another kind of declaration would be missed by the list.
TEST(SqlTest, EveryDeclarationOfTheHeaderIsListed) {
  const auto header = content(std::filesystem::path{PGQUE_TEST_SOURCE_DIR} / "src/database/sql.hpp");
  static const std::regex listed{
      R"(\ninline (constexpr (Statement|const char\*) |std::string |constexpr Cursor |constexpr (int|std::int64_t) ))"};
  static const std::regex declared{R"(\ninline )"};
  const auto count = [&](const std::regex& pattern) {
    return std::distance(std::sregex_iterator{header.begin(), header.end(), pattern}, std::sregex_iterator{});
  };
  EXPECT_EQ(count(declared), count(listed));
  static const std::regex functions{R"(\ninline std::string \w+\()"};
  EXPECT_EQ(count(functions), 8) << "one that is missing in every_statement.hpp?";
}

TEST(SqlTest, EveryKindOfUnqualifiedNameIsFound) {
  EXPECT_THAT(unqualified("select pgque.nack($1::bigint, $3::bigint * interval '1 second')"), ElementsAre("*"));
  EXPECT_THAT(unqualified("select a operator(other.=) b, a operator(=) c, a - 1"), ElementsAre("other.=", "=", "-"));
  EXPECT_THAT(unqualified("select count(*), Max(a), array_agg(b), public.f(c) from pgque.tick"),
              ElementsAre("count()", "max()", "array_agg()", "public.f()"));
  EXPECT_THAT(unqualified("select $1::text, $2::int8, a::int4[], b::other.text, text 'c', other.t 'd'"),
              ElementsAre("::text", "::int8", "::int4", "::other.text", "text ''", "other.t ''"));
  EXPECT_THAT(unqualified("select 1 from pg_settings s join pg_locks on true"),
              ElementsAre("from pg_settings", "join pg_locks"));
  EXPECT_THAT(unqualified("select 1 from pgque.queue q, pg_locks, (select epoch from evil) e"),
              ElementsAre(", pg_locks", "from evil"));
  EXPECT_THAT(unqualified("select case a when 1 then b end, nullif(a, b), a is distinct from b, a in (1)"),
              ElementsAre("case a", "nullif", "distinct from", "in"));
  EXPECT_THAT(unqualified("select 1 from pgque.b join pgque.d using (e) where f like 'g' and h between 1 and 2"),
              ElementsAre("using", "like", "between"));
  EXPECT_THAT(unqualified("set a = b = c; select 1 where a = b"), ElementsAre("=", "="));
  EXPECT_THAT(unqualified("update queue set a = b where c = d"), ElementsAre("update queue", "="));
  EXPECT_THAT(unqualified("select \"count\"(*), cast(a as b), c collate d, $$ e $$"),
              testing::IsSupersetOf({"\"", "cast", "collate", "$$"}));
}

TEST(SqlTest, WhatIsQualifiedOrTheGrammarsOwnIsNotFound) {
  for (const auto* sql : {
           "select pg_catalog.count(*) filter (where a operator(pg_catalog.<) 1) from pgque.tick",
           "with a as materialized (select 1 as b) select b from a union all (select 'count(b) = c' limit 1)",
           "select * from rows from (pg_catalog.unnest($1::pg_catalog.text[])) with ordinality as p(a, i), pgque.queue",
           "select greatest(a, -1) from pgque.tick t, lateral (select 1) l cross join pgque.queue order by b, c",
           "select extract(epoch from a), coalesce(b, 'it''s'), row(c)::pgque.message, d::double precision, "
           "array['e'], exists (select from pgque.queue), case when f then g end -- = h",
           "select (a)[1:$2::integer], (a)[:b], (a)[b operator(pg_catalog.+) 1:]",
           "set local lock_timeout = '5s'; set constraints all immediate; savepoint pgque_attempt",
       }) {
    EXPECT_THAT(unqualified(sql), IsEmpty()) << sql;
  }
}

// The texts of a C++ source: literals, and what is joined to them with values between, which are $1.
std::vector<std::string> texts_of_source(const std::string& source) {
  static const std::regex token{
      R"re(//[^\n]*|/\*[\s\S]*?\*/|R"(\w*)\(([\s\S]*?)\)\1"|"((?:[^"\\\n]|\\[\s\S])*)"|'(?:[^'\\]|\\.)+'|[;{}]|[^\s;{}"'/]+|/)re"};
  static const std::regex escape{R"(\\(.))"};
  std::vector<std::string> out;
  bool text = false, between = false;
  for (std::sregex_iterator i{source.begin(), source.end(), token}, end; i != end; ++i) {
    const auto whole = i->str();
    if (whole.rfind("//", 0) == 0 || whole.rfind("/*", 0) == 0) continue;
    const bool raw = (*i)[2].matched;
    if (raw || (*i)[3].matched) {
      if (!text) out.emplace_back();
      if (text && between) out.back() += "$1";
      auto content = raw ? (*i)[2].str() : (*i)[3].str();
      if (!raw) content = std::regex_replace(content, std::regex{R"(\\n)"}, "\n");
      out.back() += raw ? content : std::regex_replace(content, escape, "$1");
      text = true;
      between = false;
    } else if (whole == ";" || whole == "{" || whole == "}" || whole.back() == ',') {
      text = false;
    } else {
      between = true;
    }
  }
  return out;
}

// The SQL in a text: from its first word, which may be in the middle, to a semicolon.
std::vector<std::string> statements_in(const std::string& text) {
  static const std::regex statement{
      R"(\b(select\s+(?!\()|insert\s+into\s+\S+\s+(?:values|select|\()|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|explain\s|declare\s+\w+\s)[^;]*)",
      std::regex::icase};
  std::vector<std::string> out;
  for (std::sregex_iterator i{text.begin(), text.end(), statement}, end; i != end; ++i) out.push_back(i->str());
  return out;
}

// The same in a page: its blocks, but for those in C++, whose texts count, and its `statements` in a line.
std::vector<std::string> statements_of_page(const std::string& page) {
  static const std::regex code{R"re(```(\w*)\n([\s\S]*?)\n```|`([^`\n]+)`)re"};
  std::vector<std::string> out;
  for (std::sregex_iterator i{page.begin(), page.end(), code}, end; i != end; ++i) {
    const auto content = (*i)[3].matched ? (*i)[3].str() : (*i)[2].str();
    for (const auto& text : (*i)[1] == "cpp" ? texts_of_source(content) : std::vector<std::string>{content}) {
      for (auto& statement : statements_in(text)) out.push_back(std::move(statement));
    }
  }
  return out;
}

std::vector<std::string> statements_of_file(const std::filesystem::path& file) {
  const auto text = content(file);
  if (file.extension() == ".md") return statements_of_page(text);
  std::vector<std::string> out;
  for (const auto& each : texts_of_source(text)) {
    for (auto& statement : statements_in(each)) out.push_back(std::move(statement));
  }
  return out;
}

TEST(SqlTest, StatementsAreFoundInSourcesAndPages) {
  const auto in_source = [](const std::string& source) {
    std::vector<std::string> out;
    for (const auto& text : texts_of_source(source)) {
      for (auto& statement : statements_in(text)) out.push_back(std::move(statement));
    }
    return out;
  };
  EXPECT_THAT(in_source("f(\"select 1 from \"\n  \"a.b where c = \" + id + \" and d\"); // \"select 2\""),
              ElementsAre("select 1 from a.b where c = $1 and d"));
  EXPECT_THAT(
      in_source("x = R\"sql(\n with a as (b) SELECT \"c\" )sql\"; g('\"', \"; Select \\\"d\\\"; e\", \"for example\")"),
      ElementsAre("with a as (b) SELECT \"c\" ", "Select \"d\""));
  EXPECT_THAT(in_source("h(\"do this; or repeat select pgque.f(\" + name + \"); until it is 0\")"),
              ElementsAre("select pgque.f($1)"));
  EXPECT_THAT(
      statements_of_page("`select e()` and\n```sql\ngrant f; select `g`\n```\n```cpp\nw(\"delete from h\");\n```"),
      ElementsAre("select e()", "select `g`", "delete from h"));
}

TEST(SqlTest, EveryNameInTheSqlOfOtherSourcesExamplesAndPagesIsQualified) {
  const std::filesystem::path root{PGQUE_TEST_SOURCE_DIR};
  const auto check = [](const std::filesystem::path& file) {
    const auto statements = statements_of_file(file);
    for (const auto& statement : statements) {
      // In pages, what has to do with no catalog and not with PgQue is their readers' own.
      if (file.extension() == ".md" && statement.find("pg") == std::string::npos) continue;
      auto found = unqualified(statement);
      // So are the tables of examples and pages, and the extensions.
      found.erase(std::remove_if(found.begin(), found.end(),
                                 [](const std::string& name) {
                                   return name.find("into ") == 0 || name.find("from ") == 0 ||
                                          name.find("update ") == 0 || name.find("cron.") == 0;
                                 }),
                  found.end());
      EXPECT_THAT(found, IsEmpty()) << file << ": " << statement;
    }
    return statements.size();
  };
  for (const auto* directory : {"src", "tools", "examples", "docs"}) {
    std::size_t statements = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{root / directory}) {
      const auto& extension = entry.path().extension();
      const bool read = extension == ".cpp" || extension == ".hpp" || extension == ".md";
      if (read && entry.path().filename() != "sql.hpp") statements += check(entry.path());
    }
    EXPECT_TRUE(statements > 0 || directory == std::string_view{"tools"}) << directory;
  }
  check(root / "README.md");
}

}  // namespace
}  // namespace pgque::test
