// Schema changes on the side that takes writes: followed on the other side where that is proven to give old
// rows what they have there (schema-changes: apply), else named with what a person has to run.
//
// Followed are: an added column without a default or with a constant one, a varchar or numeric that became
// longer, an integer that became larger, labels added to an enum. Proof needs to know since when a table has
// its file: RewriteWatch keeps that. Threads: mend, mend_types and mended are apply's; the rest may be called
// from any.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cutover/steps/handover.h"
#include "replication/apply/applier.h"
#include "replication/catalog/evolution.h"

namespace cutover::steps {

// Where it is kept since when a table has its file. On the target.
std::string table_file_schema_sql();

class SchemaChanges {
 public:
  // `from`: the side that takes writes. `context` outlives it.
  SchemaChanges(const Context& context, Side from);

  replication::apply::Mend mend(const replication::pgoutput::CachedRelation& relation, base::Lsn commit_lsn);
  replication::apply::Mend mend_types();
  // Defaults that had to wait until the rows before the change were applied. False where some still wait.
  bool mended(base::Lsn applied);

  // What was run since this object is there, for the status.
  std::vector<std::string> followed() const;

 private:
  struct Work;
  std::string statement_for(Work& work, const replication::pgoutput::CachedColumn& column);
  // Runs what makes the tables fit, notes that it was.
  replication::apply::Mend follow(Work& work);
  replication::postgres::Connection& record(Work& work) const;  // the target's: facts and events are there

  const Context& context_;
  const Side from_;
  mutable std::mutex mutex_;
  std::vector<std::string> followed_;
};

// Notices that a table's file is another one. A rewrite by ALTER TABLE may have changed values without a row
// in the stream: both sides have to be compared again before a switch. VACUUM FULL, CLUSTER and TRUNCATE
// leave the columns' definitions alone and are told apart by that. One thread: the controller's.
class RewriteWatch {
 public:
  explicit RewriteWatch(Context& context) : context_(context) {}

  // Looks at both sides at most every few seconds, or `now`. Changes on the side that is closed are ours.
  void tend(Side from, bool now = false);
  // A comparison was equal: what was rewritten before counts no more.
  void settled();
  // For the status: one for each table that has to be compared, and one for the columns that are left out,
  // those that were added meanwhile among them.
  base::Findings findings();
  // Whether the side that takes writes may have tables since this was last answered by took_new_tables().
  bool new_tables() const { return new_tables_; }
  void took_new_tables() { new_tables_ = false; }

 private:
  struct Entry {
    base::Oid oid = 0, filenode = 0;
    int columns = 0;
  };
  struct Known {
    bool loaded = false;
    std::string xid;     // what was written before it is older than the entries
    std::string digest;  // of the look that the entries are from
    std::map<std::pair<std::string, std::string>, Entry> tables;
  };
  void load(Side side, Known& known);
  void look(Side side, bool takes_writes);
  void rewritten(Side side, const replication::catalog::TableFile& file);

  Context& context_;
  Known source_, target_;
  base::Clock::time_point looked_{};
  bool new_tables_ = true;
  std::optional<base::Finding> left_out_;
};

}  // namespace cutover::steps
