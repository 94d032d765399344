// Messages that are parts of CUDA graphs. post() and on_done() run on the driver's thread and on
// whichever thread completes a message: without the interpreter's lock (GIL), and no call of the
// driver is made there.
#include "bindings/graph_message.h"

#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "bindings/notices.h"
#include "bindings/request_completion.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

// Of the driver, which may do little while it calls back.
constexpr std::uint64_t kLongestCallNs = 20'000'000;

std::atomic<bool> ended{false};

std::mutex& all_mutex() noexcept {
  static auto* instance = new std::mutex;
  return *instance;
}
std::vector<GraphMessage*>& all_messages() noexcept {
  static auto* instance = new std::vector<GraphMessage*>;
  return *instance;
}

cuda_driver::DeviceAddress address_in(const std::byte* memory) noexcept {
  return reinterpret_cast<cuda_driver::DeviceAddress>(memory);
}

struct FailureNotice final : Notices::Notice {
  FailureNotice(std::uint32_t context_number, Error what, std::string why) noexcept
      : context(context_number), error(what), reason(std::move(why)) {}
  void settle() override { Communicator::note_failure(context, error, std::move(reason)); }

  std::uint32_t context;
  Error error;
  std::string reason;
};

// Gives the operation of one replay back, and tells of its error.
struct ReplayNotice final : Notices::Notice {
  explicit ReplayNotice(Operation& replayed) noexcept : operation(replayed) {}
  void settle() override {
    const Completion completion = operation.completion;
    if (completion.error != Error::kNone) {
      Communicator::note_failure(operation.context_number, completion.error,
                                 completion_message(completion.error, completion));
    }
    runtime().engine->release(operation);
  }

  Operation& operation;
};

}  // namespace

void tell_of_failure(std::uint32_t context, Error error, std::string reason) noexcept {
  auto* notice = new (std::nothrow) FailureNotice(context, error, std::move(reason));
  if (notice != nullptr) notice->on_done();
}

Result<bool> GraphMessage::capture(cuda::GpuMemory& memory, Way way, ContextHold hold, int rank,
                                   int tag, const Buffer& buffer, int device,
                                   cuda_driver::StreamHandle stream) {
  auto message =
      std::unique_ptr<GraphMessage>(new GraphMessage(memory, way, std::move(hold), rank, tag));
  auto given = message->give_to(stream, device, buffer);
  // What was captured before the driver refused may run, too.
  const std::scoped_lock lock(all_mutex());
  all_messages().push_back(message.release());
  return given;
}

// A send keeps no copy for its stream to wait for: the array is copied out and may be written.
Result<bool> GraphMessage::give_to(cuda_driver::StreamHandle stream, int device,
                                   const Buffer& buffer) {
  cuda_driver::Driver& driver = memory_.driver();
  auto word = memory_.gates().take_word(device);
  if (!word) return word.failure();
  word_ = word.value();
  host_ = {buffer.address, buffer.bytes};
  if (buffer.device != nullptr) {
    auto block = memory_.blocks().take(device, buffer.bytes);
    if (!block) return block.failure();
    block_ = block.value();
    host_.address = block_->memory();
    auto copied = driver.copy_in(device, stream, address_in(host_.address),
                                 address_in(buffer.address), buffer.bytes);
    if (!copied) return copied;
  }
  auto called = driver.call_in(device, stream, &GraphMessage::run, this);
  if (!called || way_ == Way::kSend) return called;
  auto waits = driver.wait_in(device, stream, *word_, 1);
  if (!waits || block_ == nullptr) return waits;
  return driver.copy_in(device, stream, address_in(buffer.address), address_in(host_.address),
                        buffer.bytes);
}

void GraphMessage::close() noexcept {
  word_->store(0, std::memory_order_release);
  if (closed_.load() == 0) closed_.store(memory_.gates().count_closed(kLongestCallNs));
}

void GraphMessage::open() noexcept {
  word_->store(1, std::memory_order_release);
  if (const std::uint64_t number = closed_.exchange(0); number != 0) {
    memory_.gates().count_opened(number);
  }
}

void GraphMessage::post() noexcept {
  close();
  Context& context = hold_.context();
  if (ended.load() || context.closing) {
    open();
    return;
  }
  const bool send = way_ == Way::kSend;
  Posting posting;
  posting.context = &context;
  posting.kind = send ? Posting::Kind::kSend : Posting::Kind::kReceive;
  posting.mode = SendMode::kBuffered;  // the next replay may come before the message has gone
  posting.rank = rank_;
  posting.tag = tag_;
  posting.buffer = host_;
  runtime().engine->post_as_visitor(posting, [&] {
    Operation* operation = posting.operation;
    if (operation == nullptr) return;
    auto* notice = new (std::nothrow) ReplayNotice(*operation);
    if (operation->done.load() == Operation::kFinished) {
      if (notice != nullptr) notice->on_done();
      open();
      return;
    }
    if (notice != nullptr) operation->add_watch(*notice);
    operation->add_watch(*this);
  });
  if (posting.operation != nullptr) return;
  open();
  if (posting.error != Error::kNone) {
    tell_of_failure(context.number, posting.error, std::move(posting.reason));
  }
}

void GraphMessage::end_all() noexcept {
  ended.store(true);
  const std::scoped_lock lock(all_mutex());
  for (GraphMessage* message : all_messages())
    if (message->word_ != nullptr) message->open();
}

}  // namespace mooncake_mpi::bindings
