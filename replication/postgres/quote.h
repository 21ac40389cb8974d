// Quoting for SQL text, as PostgreSQL's quote_ident() (always quoted) and quote_literal() do it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace replication::postgres {

std::string quote_identifier(std::string_view name);                          // "a ""b"""
std::string quote_qualified(std::string_view schema, std::string_view name);  // "s"."t"
std::string quote_literal(std::string_view text);                             // 'it''s', E'a\\b' where needed
// {a,"b c",NULL is never made}: a text[] literal's value (not quoted as SQL; pass it as a parameter).
std::string array_literal(std::span<const std::string> items);

}  // namespace replication::postgres
