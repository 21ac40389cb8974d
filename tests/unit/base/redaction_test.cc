#include "replication/base/redaction.h"

#include <doctest/doctest.h>
#include <string>
#include <vector>

namespace replication::base {
namespace {

TEST_CASE("passwords are taken out of URIs") {
  CHECK(redact("postgresql://mover:s3cret@db.example/shop") == "postgresql://mover:***@db.example/shop");
  CHECK(redact("can't connect to postgres://u:p%40ss@h:5432/d?sslmode=require: refused") ==
        "can't connect to postgres://u:***@h:5432/d?sslmode=require: refused");
  CHECK(redact("postgresql://h/d?user=u&password=s3cret&sslmode=require") ==
        "postgresql://h/d?user=u&password=***&sslmode=require");
  CHECK(redact("postgresql://u:pa'ss\"wo@h/d") == "postgresql://u:***@h/d");
  CHECK(redact("postgresql://u:pa/ss@h/d") == "postgresql://u:***@h/d");
  CHECK(redact("a postgresql://u:one@h/d b postgresql://v:two@h/d c") ==
        "a postgresql://u:***@h/d b postgresql://v:***@h/d c");
}

TEST_CASE("what only looks like a password in a URI stays") {
  for (const std::string text :
       {"postgresql://host:5432/db", "postgresql://user@host:5432/db", "postgresql:///db",
        R"({"url":"postgresql://h:5432/d","user":"a@b"})", R"({"url":"postgresql://h:5432","user":"a@b"})"}) {
    CHECK(redact(text) == text);
  }
}

TEST_CASE("passwords are taken out of keyword strings, JSON, YAML and the environment") {
  CHECK(redact("host=h password=s3cret dbname=d") == "host=h password=*** dbname=d");
  CHECK(redact("host=h password = 'a b\\'c' dbname=d") == "host=h password = '***' dbname=d");
  CHECK(redact("sslpassword=x1 PGPASSWORD=y2") == "sslpassword=*** PGPASSWORD=***");
  CHECK(redact(R"({"password": "a\"b", "user": "u"})") == R"({"password": "***", "user": "u"})");
  CHECK(redact("password: hunter2\nuser: u") == "password: ***\nuser: u");
  CHECK(redact("Password='cut off in the mid") == "Password='***");
}

TEST_CASE("passwords are taken out of SQL") {
  CHECK(redact("CREATE ROLE r LOGIN PASSWORD 'it''s' VALID UNTIL 'x'") ==
        "CREATE ROLE r LOGIN PASSWORD '***' VALID UNTIL 'x'");
  CHECK(redact("alter role r encrypted password E'a\\'b'") == "alter role r encrypted password E'***'");
}

TEST_CASE("password verifiers are secrets too") {
  CHECK(redact("rolpassword is SCRAM-SHA-256$4096:c2FsdA==$abc=:def= here") == "rolpassword is *** here");
  CHECK(redact("was md5d41d8cd98f00b204e9800998ecf8427e.") == "was ***.");
  CHECK(redact("md5d41d8cd98f00b204e9800998ecf8427e0") ==
        "md5d41d8cd98f00b204e9800998ecf8427e0");  // one too many
}

TEST_CASE("plain messages stay as they are") {
  for (const std::string text :
       {"", "password authentication failed for user \"u\"", "no password supplied",
        "passfile=/home/u/.pgpass", "md5 authentication", "p", "password", "password="}) {
    CHECK(redact(text) == text);
  }
}

TEST_CASE("a registered secret is taken out wherever it stands, the longer one first") {
  register_secret("Tr0ub4dor");
  register_secret("Tr0ub4dor&3");
  register_secret("abc");  // too short: it would make holes into every text
  CHECK(redact("fe_sendauth: Tr0ub4dor&3 and Tr0ub4dor, abc") == "fe_sendauth: *** and ***, abc");
}

TEST_CASE("redaction is idempotent") {
  for (const std::string text :
       {"postgresql://u:p@h/d?password=x", "password='a b' md5d41d8cd98f00b204e9800998ecf8427e",
        R"("password":"x")", "ALTER ROLE r PASSWORD 'x'", "SCRAM-SHA-256$4096:a$b:c"}) {
    const auto once = redact(text);
    CHECK(once != text);
    CHECK(redact(once) == once);
  }
}

TEST_CASE("values of many megabytes are taken out, too") {
  const std::string value(8'000'000, 'x');
  CHECK(redact("password='" + value + "' end") == "password='***' end");
  CHECK(redact("postgresql://u:" + value + "@h") == "postgresql://u:***@h");
  CHECK(redact("password " + value) == "password " + value);
}

}  // namespace
}  // namespace replication::base
