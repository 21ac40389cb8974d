#include "replication/postgres/params.h"

namespace replication::postgres {

void Params::add(const char* value, std::size_t length, int format, base::Oid type) {
  values_.push_back(value);
  lengths_.push_back(static_cast<int>(length));
  formats_.push_back(format);
  types_.push_back(type);
}

Params::Params(std::initializer_list<std::string_view> texts) {
  for (const auto value : texts) {
    text(value);
  }
}

Params& Params::text(std::string_view value) {
  const auto& kept = owned_.emplace_back(value);
  add(kept.c_str(), kept.size(), 0, 0);
  return *this;
}

Params& Params::text(const std::optional<std::string>& value) {
  return value ? text(std::string_view(*value)) : null();
}

Params& Params::integer(std::int64_t value) {
  return text(std::string_view(std::to_string(value)));
}

Params& Params::boolean(bool value) {
  return text(std::string_view(value ? "t" : "f"));
}

Params& Params::lsn(base::Lsn value) {
  return text(std::string_view(value.to_string()));
}

Params& Params::null() {
  add(nullptr, 0, 0, 0);
  return *this;
}

Params& Params::binary(std::string_view bytes, base::Oid type) {
  add(bytes.data() == nullptr ? "" : bytes.data(), bytes.size(), 1,
      type);  // libpq takes a null pointer for NULL
  return *this;
}

Params& Params::typed_text_view(std::string_view value, base::Oid type) {
  add(value.data() == nullptr ? "" : value.data(), value.size(), 0, type);
  return *this;
}

}  // namespace replication::postgres
