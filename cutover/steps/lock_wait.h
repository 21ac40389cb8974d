// Emptying a database that others may be using: whoever is in the way is waited for a while, by name.
#pragma once

#include <functional>

#include "replication/base/deadline.h"
#include "replication/postgres/connection.h"

namespace cutover::steps {

namespace base = replication::base;
namespace postgres = replication::postgres;

// How long a person is kept waiting for somebody else's lock.
inline constexpr base::milliseconds kLockPatience{30'000};

// Runs `work`, outside a transaction: statements that want the strongest locks and may be run again. Waits
// for locks are short, so that nobody queues behind us; after the first one whoever holds them is logged, and
// when `patience` is used up a TimeoutError names them. Work that has its locks may take as long as it needs.
void despite_locks(postgres::Connection& connection, base::milliseconds patience,
                   const std::function<void()>& work);

}  // namespace cutover::steps
