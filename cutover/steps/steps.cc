// The list that `plan` prints: every step of strategy switchover, in the order in which it is executed.
#include <algorithm>
#include <array>

#include "cutover/steps/prepare.h"

namespace cutover::steps {

const std::vector<StepInfo>& switchover_steps() {
  static const std::vector<StepInfo> steps{
      {"check", "check both servers", "a migration that can't end well is not begun", "changes nothing"},
      {"publish", "publish the tables on the source, one by one",
       "the publication is committed before the slot, so that no change can miss it",
       "drop the publication, put replica identities back"},
      {"close-target", "close the target: only our role may connect",
       "no application writes to the target before it is opened", "give CONNECT back as it was"},
      {"slot", "create the slot and its exported snapshot", "copy and stream meet with no gap and no overlap",
       "drop the slot"},
      {"schema", "restore the schema", "the target has the source's objects", "empty the target again"},
      {"copy", "copy the rows under the slot's snapshot", "a table is either copied whole or not begun",
       "empty the target again"},
      {"indexes", "build indexes and constraints", "keys are there before changes are applied",
       "empty the target again"},
      {"catch-up", "stream the changes and catch up", "every change exactly once, in commit order",
       "stop the stream"},
      {"foreign-keys", "validate foreign keys, refresh matviews, gather statistics",
       "nobody is let in before plans are good", "empty the target again"},
      {"way-back", "publish the target and make the slot for the way back",
       "rollback is possible from the first write on", "drop the slot"},
      {"gate", "wait for `pgcutover switch`, streaming on", "a person decides", "pgcutover cancel"},
      {"hold", "hold traffic at every pooler, all or nothing", "applications wait instead of failing",
       "release"},
      {"lock", "lock the published tables against writers", "no write can be under way", "the session's end"},
      {"drain", "pass a marker through the stream", "everything before it was applied", "nothing to undo"},
      {"fence", "take CONNECT away and end every other session", "no write can come back",
       "give CONNECT back"},
      {"sequences", "set the target's sequences beyond the source's", "no id is handed out on both sides",
       "nothing to undo"},
      {"prove", "pass a second marker: no change in between", "the fence is proven, not assumed",
       "nothing to undo"},
      {"commit", "POINT OF NO RETURN: one COMMIT on the source", "exactly one side has the authority",
       "none: from here on the way back is `pgcutover rollback`"},
      {"open", "open the target, move and release the traffic", "applications go on where they stopped",
       "pgcutover rollback"},
      {"reverse", "stream the target's changes back to the source", "rollback loses nothing",
       "pgcutover finish"},
  };
  return steps;
}

std::vector<StepInfo> steps_of(plan::Content content) {
  auto steps = switchover_steps();
  if (content == plan::Content::schema_only) {
    static constexpr std::array kSchema{std::string_view("check"), std::string_view("close-target"),
                                        std::string_view("schema"), std::string_view("indexes"),
                                        std::string_view("foreign-keys")};
    std::erase_if(steps, [](const StepInfo& step) {
      return std::find(kSchema.begin(), kSchema.end(), step.id) == kSchema.end();
    });
  }
  return steps;
}

std::vector<std::string> preparation_steps() {
  std::vector<std::string> ids;
  for (const auto& step : switchover_steps()) {
    if (step.id == "gate") {
      break;
    }
    if (step.id != "check") {
      ids.push_back(step.id);
    }
  }
  return ids;
}

}  // namespace cutover::steps
