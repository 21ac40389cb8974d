// Measures apply against PostgreSQL's own logical replication: the same backlog, the same servers, by turns.
//
// Prints each run, then for each variant the medians, the CPU seconds of source, target and tool, and the
// ratio to native's best and to the decoding floor, round by round. Only ratios of one run are worth quoting.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>

#include "replication/base/error.h"
#include "tests/bench/stream/lag.h"
#include "tests/bench/stream/options.h"
#include "tests/bench/stream/play.h"
#include "tests/bench/stream/variants.h"

namespace {

using bench::Options;
using bench::Sample;

double median(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::sort(values.begin(), values.end());
  const auto middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

using Runs = std::map<std::string, std::vector<Sample>>;

double median_of(const std::vector<Sample>& samples, double Sample::*field) {
  std::vector<double> values;
  for (const auto& sample : samples) {
    values.push_back(sample.*field);
  }
  return median(values);
}

// Of each round, then the median: noise that lasts longer than a round cancels out.
double ratio(const std::vector<Sample>& a, const std::vector<Sample>& b, double Sample::*field) {
  std::vector<double> values;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    values.push_back(a[i].*field / std::max(0.01, b[i].*field));
  }
  return median(values);
}

std::string best_native(const Runs& runs) {
  std::string best;
  for (const auto& [name, samples] : runs) {
    if (name.starts_with("native") &&
        (best.empty() || median_of(samples, &Sample::seconds) < median_of(runs.at(best), &Sample::seconds))) {
      best = name;
    }
  }
  return best;
}

void report(const Options& options, const Runs& runs) {
  const auto native = best_native(runs);
  for (const auto& [name, samples] : runs) {
    std::printf("%-7s %-15s median %7.2f s, cpu source %6.2f target %6.2f tool %6.2f",
                options.workload.c_str(), name.c_str(), median_of(samples, &Sample::seconds),
                median_of(samples, &Sample::source_cpu), median_of(samples, &Sample::target_cpu),
                median_of(samples, &Sample::tool_cpu));
    if (samples[0].tool_peak_kib > 0) {
      std::int64_t peak = 0;
      for (const auto& sample : samples) {
        peak = std::max(peak, sample.tool_peak_kib);
      }
      std::printf(", peak %lld MiB", static_cast<long long>(peak / 1024));
    }
    if (!native.empty() && name != native) {
      std::printf("; to %s: time %.2f, target cpu %.2f", native.c_str(),
                  ratio(samples, runs.at(native), &Sample::seconds),
                  ratio(samples, runs.at(native), &Sample::target_cpu));
    }
    if (runs.contains("floor") && name != "floor") {
      std::printf("; to floor: time %.2f", ratio(samples, runs.at("floor"), &Sample::seconds));
    }
    std::printf("\n");
  }
}

void measure_backlog(const Options& options) {
  bench::Pair pair(options);
  const auto variants = options.variants.empty() ? bench::all_variants(pair) : options.variants;
  std::printf("%s: %lld changes, PostgreSQL %d to %d\n", options.workload.c_str(),
              static_cast<long long>(options.changes), pair.source().major(), pair.target().major());
  Runs runs;
  for (int round = 1; round <= options.rounds; ++round) {
    for (const auto& variant : variants) {
      const auto sample = bench::run_variant(pair, variant);
      runs[variant].push_back(sample);
      std::printf("  round %d %-15s %7.2f s, cpu source %6.2f target %6.2f tool %6.2f, stolen %6.2f %s\n",
                  round, variant.c_str(), sample.seconds, sample.source_cpu, sample.target_cpu,
                  sample.tool_cpu, sample.stolen, sample.remark.c_str());
      std::fflush(stdout);
    }
  }
  report(options, runs);
}

void measure_lag(const Options& options) {
  bench::Pair pair(options);
  const auto variants =
      options.variants.empty() ? std::vector<std::string>{"pgcutover", "native-off"} : options.variants;
  std::map<std::string, std::vector<bench::LagSample>> runs;
  for (int round = 1; round <= options.rounds; ++round) {
    for (const auto& variant : variants) {
      const auto sample = bench::run_lag(pair, options, variant);
      runs[variant].push_back(sample);
      std::printf(
          "  round %d %-15s p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d of %d), cpu target %.2f, tool %.1f %% "
          "of a core\n",
          round, variant.c_str(), sample.p50_ms, sample.p99_ms, sample.max_ms, sample.seen, sample.sent,
          sample.target_cpu, sample.tool_cpu_percent);
      std::fflush(stdout);
    }
  }
  for (const auto& [name, samples] : runs) {
    std::vector<double> p50, p99, tool;
    for (const auto& sample : samples) {
      p50.push_back(sample.p50_ms);
      p99.push_back(sample.p99_ms);
      tool.push_back(sample.tool_cpu_percent);
    }
    std::printf("lag %-15s median p50 %.1f ms, p99 %.1f ms, tool %.1f %% of a core\n", name.c_str(),
                median(p50), median(p99), median(tool));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 6 && std::string(argv[1]) == "play") {
      bench::play(argv[2], argv[3], argv[4], argv[5]);
    }
    const auto options = bench::parse_options(argc, argv);
    options.workload == "lag" ? measure_lag(options) : measure_backlog(options);
    return 0;
  } catch (const replication::base::Error& error) {
    std::fprintf(stderr, "bench: %s\n", error.describe().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
  }
  return 1;
}
