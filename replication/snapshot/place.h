// Says where an error of a server happened: the object is what an operator looks for, not the statement.
#pragma once

#include <string>

#include "replication/base/error.h"

namespace replication::snapshot {

// To be called while `error` is being handled. Throws it again, its message led by `place` ("copying
// app.orders: ...") where it came from a server, and with `place` as its place where it had none.
[[noreturn]] void rethrow_at(base::Error& error, const std::string& place);

}  // namespace replication::snapshot
