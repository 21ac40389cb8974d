#include "tests/bench/stream/play.h"

#include "replication/apply/applier.h"
#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/stream/receiver.h"

namespace bench {

namespace apply = replication::apply;
namespace base = replication::base;
namespace postgres = replication::postgres;
namespace stream = replication::stream;

void play(const std::string& source, const std::string& target, const std::string& slot,
          const std::string& publication) {
  stream::ChunkQueue queue(4096, std::size_t{64} << 20);  // as cutover/steps/link.cc
  stream::Receiver* fed = nullptr;
  apply::ApplierOptions apply_options;
  apply_options.server = postgres::ConnInfo::parse(target, "target");
  apply_options.token = postgres::FencingToken(1);
  apply_options.on_durable = [&](base::Lsn lsn) { fed->set_durable_lsn(lsn); };
  apply::Applier applier(apply_options, queue);
  stream::ReceiverOptions receive;
  receive.server = postgres::ConnInfo::parse(source, "source");
  receive.slot = slot;
  receive.publication = publication;
  receive.binary = true;
  stream::Receiver receiver(receive, queue, [&] { return applier.start_lsn(); });
  fed = &receiver;
  applier.start();
  receiver.start();
  for (;;) {
    base::Stop::never().wait(base::Deadline::in(base::milliseconds{200}));
    for (const auto& failure : {applier.failure(), receiver.failure()}) {
      if (failure) {
        std::rethrow_exception(failure);
      }
    }
  }
}

}  // namespace bench
