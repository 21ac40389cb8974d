// Parameters of a statement. Text by default; binary values carry their type's OID. The bytes are referenced,
// not copied, where a view is given: they must live until the statement was sent.
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"

namespace replication::postgres {

class Params {
 public:
  Params() = default;
  // Params{"a", "b"}: text parameters, copied.
  Params(std::initializer_list<std::string_view> texts);

  Params& text(std::string_view value);                   // copied
  Params& text(const std::optional<std::string>& value);  // NULL where empty
  Params& integer(std::int64_t value);
  Params& boolean(bool value);
  Params& lsn(base::Lsn value);
  Params& null();
  // Binary value of type `type`, in the type's send/receive format. Referenced, not copied.
  Params& binary(std::string_view bytes, base::Oid type);
  // Text value of type `type`. Referenced, not copied.
  Params& typed_text_view(std::string_view value, base::Oid type);

  std::size_t size() const { return values_.size(); }
  const char* const* values() const { return values_.data(); }
  const int* lengths() const { return lengths_.data(); }
  const int* formats() const { return formats_.data(); }
  const base::Oid* types() const { return types_.data(); }

 private:
  void add(const char* value, std::size_t length, int format, base::Oid type);
  std::deque<std::string> owned_;  // a deque never moves what it holds
  std::vector<const char*> values_;
  std::vector<int> lengths_, formats_;
  std::vector<base::Oid> types_;
};

}  // namespace replication::postgres
