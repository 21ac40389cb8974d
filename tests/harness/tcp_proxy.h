// A line between libpq and a server's unix socket that a test can make slow, cut or dead. Listens on
// 127.0.0.1, so that keepalives and tcp_user_timeout mean something on the client's side.
//
// Threads: one of its own forwards; the control functions are safe from every thread and take effect at once.
// Memory: at most 1 MiB under way for each direction of a connection; then the sender is held back.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "replication/base/deadline.h"

namespace harness {

class TcpProxy {
 public:
  // Forwards to SOCKET_DIRECTORY/.s.PGSQL.PORT. Throws Error where it can't listen.
  TcpProxy(const std::string& socket_directory, int port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  std::string conninfo(std::string_view dbname, std::string_view user) const;
  int port() const;

  // Each byte arrives this much later, in both directions.
  void set_delay(replication::base::milliseconds delay);
  // Silence: nothing is forwarded in either direction, nothing is closed, new connections are taken and
  // starve. What was under way stays there and is delivered when the silence ends.
  void set_silent(bool silent);
  // New connections are closed at once.
  void set_refusing(bool refusing);
  // Ends every connection with a reset, on both sides.
  void cut();
  // Resets the connection on which the n-th byte from the server (counted over all, from now on) would pass;
  // the bytes before it are delivered. 0 takes the order back.
  void cut_after(std::size_t bytes_from_server);

  std::size_t connections() const;        // open now
  std::size_t bytes_from_server() const;  // forwarded since the start

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace harness
