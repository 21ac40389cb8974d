#include "tests/harness/tcp_proxy.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <list>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "replication/base/error.h"
#include "tests/harness/temp_dir.h"

namespace harness {

using replication::base::Clock;
using replication::base::Error;
using replication::base::milliseconds;

namespace {

constexpr std::size_t kUnderWayMax = std::size_t{1} << 20;
constexpr std::size_t kReadSize = 65'536;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {
    if (fd_ < 0) {
      throw Error(std::string("socket: ") + std::strerror(errno));
    }
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  ~Socket() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  int get() const { return fd_; }
  // The peer of a TCP socket gets a reset instead of an end.
  void reset_on_close() const {
    const linger now{.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }

 private:
  int fd_;
};

// One direction: what was read and waits for its time.
struct Flow {
  struct Piece {
    std::string bytes;
    Clock::time_point due;
  };
  std::deque<Piece> pieces;
  std::size_t under_way = 0;
  bool ended = false;   // the reading side said end of file
  bool passed = false;  // ... and the writing side was told
};

struct Line {
  Line(Socket a, Socket b) : client(std::move(a)), server(std::move(b)) {}
  Socket client, server;
  Flow to_server, to_client;
  bool broken = false;
};

Socket connect_unix(const std::string& path) {
  Socket result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw Error("socket path too long: " + path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (connect(result.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw Error("cannot connect to " + path + ": " + std::strerror(errno));
  }
  fcntl(result.get(), F_SETFL, O_NONBLOCK);
  return result;
}

Socket listen_loopback(int& port) {
  Socket result(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(result.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      listen(result.get(), 64) != 0 ||
      getsockname(result.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw Error(std::string("cannot listen on 127.0.0.1: ") + std::strerror(errno));
  }
  port = ntohs(address.sin_port);
  return result;
}

}  // namespace

struct TcpProxy::State {
  explicit State(std::string path)
      : server_path(std::move(path)),
        listener(listen_loopback(port)),
        wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  void loop();
  void poke() const { eventfd_write(wake.get(), 1); }

  int port = 0;
  const std::string server_path;
  Socket listener, wake;
  std::atomic<std::int64_t> delay_ms{0};
  std::atomic<bool> silent{false}, refusing{false}, cut{false}, ending{false};
  std::atomic<std::int64_t> cut_after{0};  // the how manieth byte from now on must not pass; 0 = none
  std::atomic<std::size_t> open{0}, from_server{0};
  std::list<Line> lines;  // the thread's own
  std::thread thread;

 private:
  void accept_clients();
  void read_some(Line& line, bool from_client);
  void write_due(Line& line, bool to_client);
  std::size_t allowed(std::size_t wanted);
  void poll_lines();
  int poll_timeout() const;
  void drop_broken();
};

void TcpProxy::State::accept_clients() {
  for (;;) {
    const int fd = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      return;
    }
    Socket client(fd);
    const int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (refusing) {
      client.reset_on_close();
      continue;
    }
    try {
      lines.emplace_back(std::move(client), connect_unix(server_path));
    } catch (const Error&) {
      // The server is down: its clients see a closed connection, as through a real proxy.
    }
  }
}

void TcpProxy::State::read_some(Line& line, bool from_client) {
  auto& flow = from_client ? line.to_server : line.to_client;
  const auto& socket = from_client ? line.client : line.server;
  std::array<char, kReadSize> buffer;
  const auto count = read(socket.get(), buffer.data(), buffer.size());
  if (count > 0) {
    const auto size = static_cast<std::size_t>(count);
    flow.pieces.push_back({std::string(buffer.data(), size), Clock::now() + milliseconds(delay_ms)});
    flow.under_way += size;
  } else if (count == 0) {
    flow.ended = true;
  } else if (errno != EAGAIN && errno != EINTR) {
    line.broken = true;
  }
}

// How many of `wanted` bytes from the server may still pass before the ordered cut.
std::size_t TcpProxy::State::allowed(std::size_t wanted) {
  const auto left = cut_after.load();
  return left == 0 ? wanted : std::min(wanted, static_cast<std::size_t>(left - 1));
}

void TcpProxy::State::write_due(Line& line, bool to_client) {
  auto& flow = to_client ? line.to_client : line.to_server;
  const auto& socket = to_client ? line.client : line.server;
  while (!flow.pieces.empty() && flow.pieces.front().due <= Clock::now() && !line.broken) {
    auto& piece = flow.pieces.front();
    const auto size = to_client ? allowed(piece.bytes.size()) : piece.bytes.size();
    const auto count = size == 0 ? 0 : send(socket.get(), piece.bytes.data(), size, MSG_NOSIGNAL);
    if (count < 0) {
      line.broken = errno != EAGAIN && errno != EINTR;
      return;
    }
    const auto sent = static_cast<std::size_t>(count);
    piece.bytes.erase(0, sent);
    flow.under_way -= sent;
    if (to_client) {
      from_server += sent;
      if (cut_after != 0 && (cut_after -= count) == 1) {
        cut_after = 0;
        line.broken = true;  // the next byte is the one that must not pass
        return;
      }
    }
    if (piece.bytes.empty()) {
      flow.pieces.pop_front();
    }
  }
  if (flow.pieces.empty() && flow.ended && !flow.passed) {
    shutdown(socket.get(), SHUT_WR);
    flow.passed = true;
  }
}

int TcpProxy::State::poll_timeout() const {
  std::optional<Clock::time_point> next;
  for (const auto& line : lines) {
    for (const auto* flow : {&line.to_server, &line.to_client}) {
      if (!flow->pieces.empty() && (!next || flow->pieces.front().due < *next)) {
        next = flow->pieces.front().due;
      }
    }
  }
  if (silent || !next) {
    return -1;
  }
  const auto left = std::chrono::ceil<milliseconds>(*next - Clock::now()).count();
  // What is due and could not be written waits for the receiver.
  return static_cast<int>(std::max<std::int64_t>(left, 5));
}

void TcpProxy::State::poll_lines() {
  std::vector<pollfd> fds = {{wake.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
  for (const auto& line : lines) {
    const auto wants = [this](const Flow& flow) {
      return static_cast<short>(!silent && !flow.ended && flow.under_way < kUnderWayMax ? POLLIN : 0);
    };
    // A hang-up is reported even where nothing is wanted; a negative descriptor is left out.
    const auto client = wants(line.to_server);
    const auto server = wants(line.to_client);
    fds.push_back({client != 0 ? line.client.get() : -1, client, 0});
    fds.push_back({server != 0 ? line.server.get() : -1, server, 0});
  }
  ::poll(fds.data(), fds.size(), poll_timeout());
  if ((fds[0].revents & POLLIN) != 0) {
    eventfd_t ignored = 0;
    eventfd_read(wake.get(), &ignored);
  }
  std::size_t at = 2;
  for (auto& line : lines) {
    if (fds[at++].revents != 0) {
      read_some(line, true);
    }
    if (fds[at++].revents != 0) {
      read_some(line, false);
    }
  }
  if ((fds[1].revents & POLLIN) != 0) {
    accept_clients();
  }
}

void TcpProxy::State::drop_broken() {
  const bool all = cut.exchange(false);
  lines.remove_if([all](const Line& line) {
    const bool over = line.to_server.passed && line.to_client.passed;
    if (all || line.broken) {
      line.client.reset_on_close();
    }
    return all || line.broken || over;
  });
  open = lines.size();
}

void TcpProxy::State::loop() {
  while (!ending) {
    poll_lines();
    if (!silent) {
      for (auto& line : lines) {
        write_due(line, true);
        write_due(line, false);
      }
    }
    drop_broken();
  }
}

TcpProxy::TcpProxy(const std::string& socket_directory, int port)
    : state_(std::make_unique<State>(socket_directory + "/.s.PGSQL." + std::to_string(port))) {
  state_->thread = std::thread([state = state_.get()] { state->loop(); });
}

TcpProxy::~TcpProxy() {
  state_->ending = true;
  state_->poke();
  state_->thread.join();
}

std::string TcpProxy::conninfo(std::string_view dbname, std::string_view user) const {
  return socket_conninfo("127.0.0.1", state_->port, dbname, user);
}

int TcpProxy::port() const {
  return state_->port;
}

void TcpProxy::set_delay(milliseconds delay) {
  state_->delay_ms = delay.count();
  state_->poke();
}

void TcpProxy::set_silent(bool silent) {
  state_->silent = silent;
  state_->poke();
}

void TcpProxy::set_refusing(bool refusing) {
  state_->refusing = refusing;
  state_->poke();
}

void TcpProxy::cut() {
  state_->cut = true;
  state_->poke();
}

void TcpProxy::cut_after(std::size_t bytes_from_server) {
  state_->cut_after = static_cast<std::int64_t>(bytes_from_server);
  state_->poke();
}

std::size_t TcpProxy::connections() const {
  return state_->open;
}

std::size_t TcpProxy::bytes_from_server() const {
  return state_->from_server;
}

}  // namespace harness
