// A communicator's native side: its life in the engine, and what is said of a rank or tag that is
// none. With the interpreter's lock (GIL) held; the engine takes its own.
#include "bindings/communicator.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <unordered_set>
#include <utility>
#include <vector>

#include "bindings/fork.h"
#include "bindings/hang_signal.h"
#include "bindings/interpreter_lock.h"
#include "bindings/runtime.h"

namespace nb = nanobind;

namespace mooncake_mpi::bindings {
namespace {

Py_ssize_t slot_offset = 0;

// Of this process; guarded by the GIL.
std::unordered_set<Communicator*>& all_communicators() {
  static auto* all = new std::unordered_set<Communicator*>;
  return *all;
}

bool raise_value(const char* name, const char* what, const char* argument, int value, int limit) {
  char message[160];
  std::snprintf(message, sizeof message, "%s: %s=%d is not in [0, %d]", what, argument, value,
                limit);
  raise_error(name, message);
  return false;
}

}  // namespace

Communicator::Communicator(int rank, int size, int tag_ub)
    : rank_(rank), size_(size), tag_ub_(tag_ub) {
  Engine* engine = runtime().engine.get();
  if (engine == nullptr) throw std::runtime_error("the engine is not running (MPI is finalized?)");
  Result<Context*> context = engine->create_context(rank, size);
  if (!context) throw std::runtime_error(context.failure().message);
  context_ = context.value();
  all_communicators().insert(this);
}

Communicator::~Communicator() {
  close();
  all_communicators().erase(this);
}

void Communicator::leave_all_behind() noexcept {
  for (Communicator* communicator : all_communicators()) {
    communicator->active_ = false;
    communicator->failure_ = Error::kNone;
  }
}

wire::Head Communicator::head() const {
  if (context_ == nullptr) throw std::invalid_argument("the communicator was freed");
  return runtime().engine->head(*context_);
}

std::vector<std::byte> Communicator::entry() const {
  return wire::encode(runtime().engine->address(*context_));
}

void Communicator::activate(Bytes entries, std::size_t entry_bytes, std::string label) {
  Result<bool> activated =
      runtime().engine->activate(*context_, entries, entry_bytes, std::move(label));
  answer_hang_signal();
  if (!activated) throw std::invalid_argument(activated.failure().message);
  active_ = true;
}

void Communicator::inherit(const Communicator& parent, const std::vector<int>& ranks,
                           std::string label) {
  if (!parent.is_open()) throw std::invalid_argument("the communicator was freed");
  const std::vector<Context::Member>& known = parent.context().members;
  const std::size_t size = ranks.empty() ? known.size() : ranks.size();
  if (size != static_cast<std::size_t>(size_)) {
    throw std::invalid_argument("expected " + std::to_string(size_) + " members, got " +
                                std::to_string(size));
  }
  inherited_.resize(size);
  for (std::size_t i = 0; i < size; ++i)
    inherited_[i] = known.at(ranks.empty() ? i : static_cast<std::size_t>(ranks[i]));
  inherited_label_ = std::move(label);
}

void Communicator::join(const std::vector<std::uint32_t>& numbers) {
  if (numbers.size() != inherited_.size()) {
    throw std::invalid_argument("expected a number of each member");
  }
  for (std::size_t i = 0; i < numbers.size(); ++i)
    inherited_[i].number = numbers[i];
  begin(std::move(inherited_label_));
}

void Communicator::begin(std::string label) {
  if (context_ == nullptr || inherited_.empty()) throw std::invalid_argument("it is not a spare");
  runtime().engine->activate_known(*context_, std::move(inherited_), std::move(label));
  inherited_.clear();
  active_ = true;
}

std::vector<wire::Head> Communicator::make_spares() {
  unknown_spares_.clear();
  std::vector<wire::Head> heads;
  for (std::size_t i = 0; i < spares_at_once_; ++i) {
    auto spare = std::make_unique<Communicator>(rank_, size_, tag_ub_);
    spare->inherit(*this, {}, {});
    heads.push_back(spare->head());
    unknown_spares_.push_back(std::move(spare));
  }
  return heads;
}

// Who duplicates one communicator again and again has them made known in fewer and fewer goes.
bool Communicator::keep_spares(Bytes heads) {
  constexpr std::size_t kMost = 16;
  constexpr std::size_t kMostMembers = 4096;  // of all of them: they take memory
  auto spares = std::exchange(unknown_spares_, {});
  const auto members = static_cast<std::size_t>(size_);
  std::vector<wire::Head> all(spares_at_once_ * members);
  if (heads.size() != all.size() * sizeof(wire::Head)) {
    throw std::invalid_argument("expected a head of each spare of each member");
  }
  std::memcpy(all.data(), heads.data(), heads.size());
  const std::size_t most = std::clamp<std::size_t>(kMostMembers / members, 1, kMost);
  spares_at_once_ = std::min(2 * spares_at_once_, most);
  if (std::ranges::any_of(all, [](const auto& head) { return head.part == wire::Part::kCannot; })) {
    return false;
  }
  for (std::size_t i = 0; i < spares.size(); ++i) {
    for (std::size_t rank = 0; rank < members; ++rank)
      spares[i]->inherited_[rank].number = all[rank * spares.size() + i].context;
  }
  std::ranges::reverse(spares);
  spares_ = std::move(spares);
  return true;
}

std::unique_ptr<Communicator> Communicator::take_spare() {
  if (spares_.empty()) return nullptr;
  auto spare = std::move(spares_.back());
  spares_.pop_back();
  return spare;
}

bool Communicator::join(Bytes heads, const std::vector<int>& ranks) {
  const std::size_t count = heads.size() / sizeof(wire::Head);
  std::vector<wire::Head> all(count);
  std::memcpy(all.data(), heads.data(), count * sizeof(wire::Head));
  if (std::ranges::any_of(all, [](const auto& head) { return head.part == wire::Part::kCannot; })) {
    return false;
  }
  std::vector<std::uint32_t> numbers(ranks.empty() ? count : ranks.size());
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = all.at(ranks.empty() ? i : static_cast<std::size_t>(ranks[i])).context;
  join(numbers);
  return true;
}

void Communicator::reshape(int rank, int size) {
  rank_ = rank;
  size_ = size;
  runtime().engine->reshape(*context_, rank, size);
}

std::tuple<std::vector<int>, std::size_t> Communicator::failures() const {
  Engine::Failures failures = runtime().engine->failures(*context_);
  return {std::move(failures.ranks), failures.acknowledged};
}

void Communicator::note_failure(std::uint32_t context, Error error, std::string reason) {
  for (Communicator* communicator : all_communicators()) {
    if (!communicator->active_ || communicator->number() != context) continue;
    communicator->active_ = false;
    communicator->failure_ = error;
    communicator->failure_reason_ = std::move(reason);
    return;
  }
}

bool Communicator::raise_failure() const {
  if (failure_ == Error::kNone) return false;
  active_ = true;
  raise_error(std::exchange(failure_, Error::kNone), failure_reason_.c_str());
  set_error_context(context_->number);
  return true;
}

std::uint32_t Communicator::number_at(int rank) const noexcept {
  const auto index = static_cast<std::size_t>(rank);
  if (context_ == nullptr || rank < 0 || index >= context_->members.size()) return 0;
  return context_->members[index].number;
}

void Communicator::close() {
  active_ = false;
  failure_ = Error::kNone;
  if (context_ != nullptr && runtime().engine != nullptr)
    runtime().engine->close_context(*context_);
  context_ = nullptr;
  spares_.clear();
  unknown_spares_.clear();
}

ContextHold::ContextHold(Context& context) : context_(&context) {
  runtime().engine->hold(*context_);
}

ContextHold::~ContextHold() {
  if (context_ != nullptr) runtime().engine->let_go(*context_);
}

void set_communicator_slot(Py_ssize_t offset) noexcept {
  slot_offset = offset;
}

PyObject* giver_of(PyObject* self) noexcept {
  PyObject* giver = reinterpret_cast<PyObject**>(reinterpret_cast<char*>(self) + slot_offset)[1];
  return giver != nullptr ? giver : Py_None;
}

PyObject* native_side_of(PyObject* self) noexcept {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(self) + slot_offset);
}

void raise_unusable() {
  raise_error("ERR_COMM",
              left_behind() ? kLeftBehind : "invalid communicator: it is null or was freed");
}

void raise_unusable(const Communicator& communicator) {
  if (!communicator.raise_failure()) raise_unusable();
}

Communicator* communicator_of(PyObject* self) {
  PyObject* slot = native_side_of(self);
  if (slot == nullptr || slot == Py_None) [[unlikely]] {
    // The object may be older than the engine.
    slot = with_interpreter([&] { return PyObject_CallMethod(self, "_checked_communicator", ""); });
    if (slot == nullptr) return nullptr;
    Py_DECREF(slot);  // the object has it now
  }
  Communicator* communicator = nb::inst_ptr<Communicator>(slot);
  if (communicator->usable()) [[likely]]
    return communicator;
  raise_unusable(*communicator);
  return nullptr;
}

bool check_not_revoked(const Communicator& communicator) {
  if (!communicator.context().revoked) return true;
  raise_error(Error::kRevoked, "the communicator was revoked");
  return false;
}

bool check_unusual_dest(const Communicator& communicator, int dest, const char* argument) {
  if (dest == runtime().constants.proc_null) return true;
  return raise_value("ERR_RANK", "invalid rank", argument, dest, communicator.size() - 1);
}

bool check_send_tag(const Communicator& communicator, int tag, const char* argument) {
  if (tag >= 0 && tag <= communicator.tag_ub()) [[likely]]
    return true;
  return raise_value("ERR_TAG", "invalid tag", argument, tag, communicator.tag_ub());
}

bool check_unusual_source(const Communicator& communicator, int& source, const char* argument) {
  if (source == runtime().constants.proc_null) return true;
  if (source == runtime().constants.any_source) {
    source = kAnySource;
    return true;
  }
  return raise_value("ERR_RANK", "invalid rank", argument, source, communicator.size() - 1);
}

bool check_unusual_receive_tag(const Communicator& communicator, int& tag, const char* argument) {
  if (tag == runtime().constants.any_tag) {
    tag = kAnyTag;
    return true;
  }
  return raise_value("ERR_TAG", "invalid tag", argument, tag, communicator.tag_ub());
}

}  // namespace mooncake_mpi::bindings
