// Ways of a plan in and out: file, text for people, bytes for the guardian. All go over the table in
// schema.cc.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cutover/plan/plan.h"
#include "cutover/plan/schema.h"
#include "replication/base/error.h"

namespace cutover::plan {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{1} << 20;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) {
    throw base::UsageError("can't read the plan file " + path, "give the path of a readable YAML file");
  }
  std::string text;
  text.reserve(4096);
  for (std::istreambuf_iterator<char> at(in), end; at != end; ++at) {
    text.push_back(*at);
    if (text.size() > kFileBytesMax) {
      throw base::UsageError("the plan file " + path + " is larger than 1 MiB", "is that the right file?");
    }
  }
  if (in.bad()) {
    throw base::UsageError("can't read the plan file " + path);
  }
  return text;
}

YAML::Node parse_document(const std::string& yaml, const Source& source) {
  try {
    const auto documents = YAML::LoadAll(yaml);
    if (documents.empty() || documents.front().IsNull()) {
      throw base::UsageError(source.file + ": the plan is empty", "give at least source and target");
    }
    if (documents.size() > 1) {
      source.fail(documents[1].Mark(), "a second document begins here", "a plan is one YAML document");
    }
    return documents.front();
  } catch (const YAML::Exception& error) {
    source.fail(error.mark, "not valid YAML: " + error.msg, "a value with ': ', '#' or '*' needs quotes");
  }
}

std::string write(const Plan& plan, Secrets secrets) {
  Plan copy = plan;
  YAML::Emitter out;
  out.SetIndent(2);
  write_map(out, secrets, plan_fields(copy));
  return std::string(out.c_str()) + "\n";
}

void explain(const Fields& fields, const std::string& prefix, std::string& out) {
  for (const auto& field : fields) {
    if (field.meaning.empty()) {
      continue;
    }
    std::string line = prefix + std::string(field.key);
    line.resize(std::max<std::size_t>(line.size() + 1, 24), ' ');
    line += std::string(field.meaning) + " (" + std::string(field.type);
    if (!field.fallback.empty()) {
      line += ", default " + field.fallback;
    }
    out += line + ")\n";
    explain(field.children, prefix + "  ", out);
  }
}

}  // namespace

Plan parse_plan(const std::string& yaml, const std::string& file) {
  const Source source{file};
  const auto document = parse_document(yaml, source);
  Plan plan;
  read_map(source, Item{document, document.Mark(), ""}, plan_fields(plan));
  plan.file = file;
  return plan;
}

Plan load_plan_file(const std::string& path) {
  return parse_plan(read_file(path), path);
}

std::string redacted_text(const Plan& plan) {
  return write(plan, Secrets::hidden);
}

std::string to_secret_bytes(const Plan& plan) {
  return write(plan, Secrets::shown);
}

Plan from_secret_bytes(std::string_view bytes) {
  auto plan = parse_plan(std::string(bytes), "plan");
  plan.file.clear();
  return plan;
}

std::string format_help() {
  Plan plan;
  std::string out;
  explain(plan_fields(plan), "  ", out);
  return out;
}

}  // namespace cutover::plan
