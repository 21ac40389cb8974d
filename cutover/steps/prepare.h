// The way from an empty target to the gate before the switch, as a list of steps. Each step is idempotent: it
// looks at what is there and does what is missing, so that a run that was killed anywhere goes on when it is
// called again. A step is recorded as done in pgcutover.event on the target; the source gets nothing but what
// the stream needs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cutover/report/report.h"
#include "cutover/steps/handover.h"
#include "cutover/steps/link.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/slot_watch.h"
#include "cutover/steps/throttle.h"
#include "replication/catalog/catalog.h"
#include "replication/snapshot/index_builder.h"
#include "replication/snapshot/schema.h"

namespace cutover::steps {

// What `plan` prints for a step, and what `run` executes.
struct StepInfo {
  std::string id;        // "copy": for --until, events, status
  std::string title;     // what it does, in a line
  std::string protects;  // what it guards against
  std::string inverse;   // how it is undone
};
// Every step of the strategy in order, those of the hand-over included.
const std::vector<StepInfo>& switchover_steps();
// Those that a migration of this content takes: all, or for a schema alone those that bring it.
std::vector<StepInfo> steps_of(plan::Content content);
// Those of `run`, from "publish" to "way-back": what --until may name.
std::vector<std::string> preparation_steps();

// The fact that holds what was copied, as a report of that alone.
inline constexpr std::string_view kCopySummary = "copy.summary";

// Whether a comparison of structure looks at keys: not before the target's indexes are built.
enum class Keys { compared, left_out };

class Preparation {
 public:
  Preparation(Context& context, Publisher& publisher, SlotWatch& slot_watch);

  // Executes every step that isn't done up to `until` (empty = all) and returns the running stream; null
  // where `until` comes before the stream. A server that restarts is waited for: `keep_place` is called
  // before each attempt at a step, and throws where somebody else took our place.
  std::unique_ptr<Link> run(const std::string& until, const std::function<void()>& keep_place);
  // A stream from the side that takes writes, for a migration whose preparation is done.
  std::unique_ptr<Link> start_link(Side from);
  // Waits until the stream from the source has passed every table's snapshot: both sides are consistent then.
  void reach_consistency(Link& link);
  // Secondary indexes were put off (copy: {indexes: later}) and aren't built yet.
  bool indexes_left();
  // Builds them. While no stream writes: a plain CREATE INDEX makes writers wait.
  void build_indexes_left();
  // The slot of the direction that isn't streamed, on `idle`. Nothing where it is there.
  void make_idle_slot(Side idle);

 private:
  postgres::Connection& source() { return context_.servers.source(); }
  postgres::Connection& target() { return context_.servers.target(); }
  const catalog::Catalog& source_catalog();
  bool begin(const std::string& step, const std::string& state);  // false where it is done already
  void done(const std::string& step, const std::string& message);

  void let_go();
  void require_same_structure(const catalog::Catalog& target_tables, Keys keys);
  void quiet_receiver(Side from);
  void publish();
  void close_target();
  replication::stream::CreatedSlot create_slot(const std::string& name);
  void make_slot();
  const replication::snapshot::SchemaArchive& schema_archive();
  void start_index_builder();
  void restore_schema();
  void adopt_schema();
  void copy();
  std::vector<report::LeftOutRecord> left_out();
  void restore_indexes();
  void catch_up(Link& link);
  void restore_rest();
  void make_way_back();

  LinkOptions link_options(Side from);
  base::Lsn applied_on_target();
  void ensure_spool();
  void refuse_lost_spool(base::Lsn covered);

  Context& context_;
  Publisher& publisher_;
  SlotWatch& slot_watch_;
  std::unique_ptr<replication::stream::Spool> spool_;  // of the stream from the source
  bool spool_binary_ = false;
  std::optional<Throttle> throttle_;  // while run() works
  std::optional<catalog::Catalog> catalog_;
  std::optional<postgres::Connection> slot_session_;  // keeps the exported snapshot alive
  std::unique_ptr<replication::snapshot::SchemaArchive> archive_;
  std::unique_ptr<replication::snapshot::IndexBuilder> indexes_;  // at work since the copy's first table
  std::string snapshot_;  // of the slot; empty where it isn't ours any more
};

// Says that the source has been told of changes that only a tool host's spool has; nothing where that isn't
// so.
std::optional<base::Finding> spool_finding(Servers& servers, const std::string& run);

// A transaction id that is assigned now: above that of every transaction that had ended, decimal, 64 bits.
std::string assign_xid(postgres::Connection& connection);

// Tables without a key under keyless: full; what their identity was before is kept as a fact for the way
// back. `budget`: for the lock on each.
void set_identities(Context& context, const catalog::Catalog& tables, Side side,
                    base::milliseconds budget = base::milliseconds(60'000));
// Partitions that came to a published table on the side that takes writes (from 13 on): with the identity
// that the application's UPDATE needs, and listed in the publication by themselves. Throws where a lock is in
// the way: to be called again.
void adopt_partitions(Context& context, Side from);
void restore_identities(Context& context, Side side);

// What of `here` a stream to `there` can't bridge, one line each; empty = none. `where` names the other side.
std::vector<std::string> structure_differences(const catalog::Catalog& here, const catalog::Catalog& there,
                                               std::string_view where, Keys keys = Keys::compared);

}  // namespace cutover::steps
