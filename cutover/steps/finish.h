// The end of a migration: `finish` after the soak, `cancel` before any switch. Both destructive, both
// idempotent.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cutover/report/report.h"
#include "cutover/steps/handover.h"

namespace cutover::steps {

using Tell = std::function<void(const std::string& text)>;

// Drops slots, publications and the tool's schema on both sides, puts replica identities back. The side that
// doesn't take writes stays closed. `tell` is called, before the target's record goes, with what a person
// should know: which side takes writes, how to reopen the other.
void finish(Context& context, const Tell& tell);

// Drops the same on both sides and empties the target, which was empty when the migration began (of tables
// that were there the rows only); gives CONNECT back. Throws StateError once authority has moved.
void cancel(Context& context, const Tell& tell);

// Both sides without the tool's schema; the source's goes first.
void drop_our_schemas(Context& context);

// Throw StateError where finish or cancel can't be done now: asked before anything is stopped for them.
void require_finishable(Context& context);
void require_cancellable(Context& context);

// "finish" or "cancel" where one was begun on this target and not completed.
std::optional<std::string> begun_ending(postgres::Connection& target);
// Does what only the last moment would show to be refused, and takes it back: an ending that can't be
// completed is not begun. The stream must be stopped (it holds locks on our tables).
void rehearse_ending(Context& context);
// Completes an ending that was cut off when nothing but the target's schema was left.
void drop_last_trace(Context& context, const Tell& tell);

// Everything that is known, for the evidence report.
report::Report make_report(Context& context, const state::Status& status);

}  // namespace cutover::steps
