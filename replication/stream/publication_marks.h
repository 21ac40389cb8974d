// By what one sees that a publication isn't the same as before, also where it was put back meanwhile.
//
// A table that is taken out of a publication and put in again looks as if nothing had happened, but what was
// written in between is in no stream. Each change of a publication writes catalog rows anew, so their oid and
// the transaction that wrote them (xmin) are other ones afterwards. Both stay as they are through VACUUM
// (freezing keeps xmin since 9.4), restarts and failovers. The marker's own row doesn't count. Pure
// questions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

struct PublicationMarks {
  struct Table {
    base::Oid oid = 0;
    std::string schema, name;
    std::string mark;  // "16402 751"
  };
  std::string publication;    // its own: kinds of change, owner; empty where there is none of this name
  std::vector<Table> tables;  // by oid
};
PublicationMarks publication_marks(postgres::Connection& connection, const std::string& name);
// All of it in a few bytes: the same for two looks between which nothing was changed. "" where there is none.
std::string publication_digest(postgres::Connection& connection, const std::string& name);

// The oid in a mark: another one means dropped and made again.
std::string_view mark_oid(std::string_view mark);

}  // namespace replication::stream
