#include "tests/demo/proofs.h"

#include "replication/base/error.h"
#include "tests/harness/wait.h"
#include "tests/load/bank_proof.h"

namespace demo {

namespace base = replication::base;

namespace {

// A proof that can't be made (a table is missing, the server is gone) doesn't hold. A stop request passes.
template <typename Judge>
Proof judge(std::string name, Judge judge_it) {
  Proof proof{std::move(name), false, {}};
  try {
    judge_it(proof);
  } catch (const base::Error& error) {
    if (error.exit_code() == base::ExitCode::interrupted) {
      throw;
    }
    proof.holds = false;
    proof.details = error.describe();
  }
  return proof;
}

}  // namespace

Proof prove_bank_on(const Stage& stage, Side side, const load::BankLoad& bank, bool follows,
                    const base::Stop& stop) {
  const std::string server = name_of(side);
  return judge("acknowledged commits are on the " + server + " exactly once", [&](Proof& proof) {
    auto connection = stage.connect(side);
    const auto sent = bank.log().transfers();
    if (follows) {
      harness::wait_until(base::Deadline::in(base::milliseconds(180'000)),
                          "the " + server + " has what was acknowledged", [&] {
                            stop.check();
                            return load::has_acknowledged(connection, sent);
                          });
    }
    const auto books = load::prove_bank(connection, bank.log(), stage.shop(), sent);
    proof.holds = books.holds();
    proof.details = books.summary();
  });
}

Proof prove_pgbench_sums(const Stage& stage, Side side) {
  return judge(std::string("pgbench's balances agree on the ") + name_of(side), [&](Proof& proof) {
    auto connection = stage.connect(side);
    const auto row = connection.one_row(
        "SELECT (SELECT coalesce(sum(delta), 0) FROM public.pgbench_history), "
        "(SELECT sum(abalance) FROM public.pgbench_accounts), (SELECT sum(tbalance) FROM "
        "public.pgbench_tellers), "
        "(SELECT sum(bbalance) FROM public.pgbench_branches), (SELECT count(*) FROM public.pgbench_history)");
    proof.holds = row.integer(0, 4) > 0;  // an empty history proves nothing
    for (int column = 1; column <= 3; ++column) {
      proof.holds = proof.holds && row.integer(0, column) == row.integer(0, 0);
    }
    proof.details = "history " + row.text(0, 0) + ", accounts " + row.text(0, 1) + ", tellers " +
                    row.text(0, 2) + ", branches " + row.text(0, 3) + " over " + row.text(0, 4) +
                    " transactions";
  });
}

Proof prove_copied_once(const Stage& stage) {
  return judge("the large object and the materialized view are on both sides", [&](Proof& proof) {
    const std::string sql =
        "SELECT pg_catalog.md5(pg_catalog.lo_get(body)), (SELECT count(*) FROM shop.sales) FROM "
        "shop.document";
    const auto source = stage.connect(Side::source).one_row(sql);
    const auto target = stage.connect(Side::target).one_row(sql);
    proof.holds =
        source.view(0, 0) == target.view(0, 0) && source.integer(0, 1) > 0 && target.integer(0, 1) > 0;
    proof.details = "md5 " + source.text(0, 0) + " and " + target.text(0, 0) + ", view of " +
                    source.text(0, 1) + " and " + target.text(0, 1) + " rows";
  });
}

Proof prove_pgbench_count(const Stage& stage, Side side, const PgbenchResult& result) {
  const std::string server = name_of(side);
  return judge("pgbench's transactions are on the " + server + " exactly once", [&](Proof& proof) {
    auto connection = stage.connect(side);
    const auto rows = connection.one_row("SELECT count(*) FROM public.pgbench_history").integer(0, 0);
    proof.holds = rows == result.processed && rows > 0;
    proof.details =
        std::to_string(rows) + " rows of history, " + std::to_string(result.processed) + " processed";
  });
}

Proof prove_no_failures(const PgbenchResult& bench, const load::LoadReport& bank) {
  Proof proof{"no client transaction failed", false, {}};
  proof.holds = bench.exit_code == 0 && bench.failed == 0 && bench.processed > 0 && bank.failed == 0 &&
                bank.in_doubt == 0 && bank.acknowledged > 0;
  proof.details = "pgbench " + std::to_string(bench.processed) + " done and " + std::to_string(bench.failed) +
                  " failed, bank " + std::to_string(bank.acknowledged) + " done, " +
                  std::to_string(bank.failed) + " failed, " + std::to_string(bank.in_doubt) + " in doubt";
  if (!proof.holds) {
    for (const auto& failure : bank.failures) {
      proof.details +=
          "\n  client " + std::to_string(failure.client) + ": " + failure.kind + ": " + failure.text;
    }
    proof.details += "\n  pgbench said: " + bench.output;
  }
  return proof;
}

Proof prove_clean(const Stage& stage) {
  return judge("nothing of the tool is left behind", [&](Proof& proof) {
    proof.holds = true;
    for (const auto side : {Side::source, Side::target}) {
      auto connection = stage.connect(side);
      const auto row = connection.one_row(
          "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots), "
          "(SELECT count(*) FROM pg_catalog.pg_publication)");
      proof.holds = proof.holds && row.integer(0, 0) == 0 && row.integer(0, 1) == 0;
      proof.details += std::string(proof.details.empty() ? "" : ", ") + name_of(side) + ": " +
                       row.text(0, 0) + " slots and " + row.text(0, 1) + " publications";
    }
  });
}

}  // namespace demo
