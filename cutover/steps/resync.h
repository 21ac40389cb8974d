// Copies tables again while a migration streams, and takes in tables that were created on the source since it
// began. The stream rests for the time of the copy; the source's slot keeps what comes meanwhile.
//
// Exact by the same rule as the first copy: each table gets a snapshot of its own, not older than the moment
// at which the stream rested (nothing that was applied can be missing from it) nor than the publication of a
// new table, and the stream skips for it what that snapshot has seen. What was begun is noted on the target
// first: a run that dies on the way completes it before it streams again.
#pragma once

#include <string>
#include <vector>

#include "cutover/steps/handover.h"
#include "cutover/steps/publisher.h"
#include "replication/catalog/catalog.h"

namespace cutover::steps {

struct Resync {
  std::vector<catalog::Table>
      again;  // in the stream already, copied once more; leaves of partitioned tables too
  std::vector<catalog::Table> fresh;  // created meanwhile: roots as published, and their leaves
  std::string text() const;           // for people, one line
};

// What these patterns (schema.table, as in the plan's filters) select on the source. UsageError where one
// selects nothing that the plan moves.
Resync plan_resync(Context& context, const std::vector<std::string>& patterns);

// With the stream still running: makes new tables on the target.
void create_fresh_tables(Context& context, const Resync& resync);

// With the stream stopped. After this the copy has to be completed before anything may be streamed.
void begin_resync(Context& context, const Resync& resync);
bool resync_pending(Context& context);
bool resync_begun(postgres::Connection& target);  // the same
// Publishes and copies; idempotent. To be followed by the stream, with the filters of the snapshots.
// `stop` ends the copying of rows.
void copy_resync(Context& context, Publisher& publisher, const base::Stop& stop);
// Once the stream has passed every snapshot: foreign keys, the way back's publication, and the note is gone.
void end_resync(Context& context);

}  // namespace cutover::steps
