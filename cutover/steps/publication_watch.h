// Notices that our own publication was changed behind our back on the side that takes writes, also where it
// was put back meanwhile: what was written in between is in no stream, and nothing else would tell.
//
// By the marks of its catalog rows (replication/stream/publication_marks.h), kept on the target from before
// the stream's position: at the slot's creation, and at each hand-over for the side that opens. What we
// change ourselves is noted before it is committed. Tables whose rows may be missing are in `findings` until
// they are copied again. A publication that was dropped, made again or not, is the end of its stream
// (StreamLost): no position in it can be trusted, and a walsender doesn't get past the gap. One thread: the
// controller's. Errors: StateError where another controller took over.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "cutover/steps/handover.h"
#include "replication/catalog/catalog.h"

namespace cutover::steps {

// Where the marks are kept. On the target.
std::string publication_schema_sql();

class PublicationWatch {
 public:
  explicit PublicationWatch(Context& context) : context_(context) {}

  // Looks at the publication of the side that takes writes at most every few seconds, or `now`.
  void tend(Side from, bool now = false);
  // Of the last look there, for comparison with publication_digest().
  const std::string& digest(Side from) { return digests_[from]; }

 private:
  Context& context_;
  std::map<Side, std::string> digests_;  // of the looks that the marks are from
  base::Clock::time_point looked_{};
};

// What is published there now is as it has to be, from here on. Before a slot is made, or while `side` takes
// no writes: what a stream missed earlier is none of its business. Returns the publication's digest from
// right before.
std::string keep_publication(Context& context, Side side);

// Those to be copied again, or to be accepted by name; they block a hand-over.
base::Findings publication_findings(Context& context, Side from);

// Puts tables into the publication of the side that takes writes, or in anew those that were asked for.
void publish_tables(Context& context, Side side, const std::vector<catalog::Table>& tables,
                    base::milliseconds budget);
// The same for those that aren't in it.
void publish_missing(Context& context, Side side, const std::vector<catalog::Table>& tables,
                     base::milliseconds budget);
// Tables of the source of which rows may be missing.
std::set<base::Oid> troubled_tables(postgres::Connection& target);
// For a resync: notes that these are to be published anew before they are copied, where they aren't in the
// publication as they were. In a transaction of the caller's on the target.
void ask_anew(Context& context, const std::vector<catalog::Table>& tables);
// Looks, then publishes anew what was asked for; what may be missing of it is copied by whoever asked.
void publish_anew(Context& context, const catalog::Catalog& content, base::milliseconds budget);

}  // namespace cutover::steps
