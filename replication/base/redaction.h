// The one place where secrets are taken out of text before anybody may see it.
#pragma once

#include <string>
#include <string_view>

namespace replication::base {

// Replaces the values of passwords in URIs, keyword/value strings and SCRAM/md5 verifiers by "***", and every
// secret that was registered. Idempotent.
std::string redact(std::string_view text);

// Makes `secret` (a password read from a URI, a file or the environment) unprintable. Secrets of fewer than
// four characters are only caught by their context. Safe from every thread.
void register_secret(std::string_view secret);

}  // namespace replication::base
