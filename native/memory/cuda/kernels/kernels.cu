// What streams of the program run for messages: copies whose ends the host names while the stream
// waits. kernels.ptx is made of it (scripts/cuda-kernels), so that building needs no CUDA.
//
// A command is four vectors of 16 bytes in pinned memory. The last word of each says for which turn
// it is: a vector is read at once, so a command is complete when all four say the turn that is
// waited for, and no second read of the host's memory is needed.
//
//   0  from, low and high; bytes, low; turn
//   1  to, low and high; bytes, high; turn
//   2  what is to be written where `from` is 0: 12 bytes; turn
//   3  and 12 more; turn
using u32 = unsigned int;
using u64 = unsigned long long;

namespace {

constexpr u32 kVectors = 4;
constexpr u32 kInline = 24;

__device__ u64 wide(u32 low, u32 high) { return static_cast<u64>(high) << 32 | low; }

__device__ uint4 read_now(const uint4* where) {
  uint4 got;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(got.x), "=r"(got.y), "=r"(got.z), "=r"(got.w)
               : "l"(where)
               : "memory");
  return got;
}

__device__ void write_now(uint4* where, uint4 what) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(where), "r"(what.x), "r"(what.y), "r"(what.z), "r"(what.w)
               : "memory");
}

// By all threads of the grid, in units that both ends and the length allow.
template <class Unit>
__device__ void copy_units(char* to, const char* from, u64 bytes) {
  auto* into = reinterpret_cast<Unit*>(to);
  const auto* out_of = reinterpret_cast<const volatile Unit*>(from);
  const u64 count = bytes / sizeof(Unit);
  const u64 step = static_cast<u64>(gridDim.x) * blockDim.x;
  u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += step)
    into[i] = out_of[i];
  const u64 done = count * sizeof(Unit);
  const u64 rest = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (rest < bytes - done) {
    to[done + rest] = *reinterpret_cast<const volatile char*>(from + done + rest);
  }
}

__device__ void copy_vectors(char* to, const char* from, u64 bytes) {
  auto* into = reinterpret_cast<uint4*>(to);
  const auto* out_of = reinterpret_cast<const uint4*>(from);
  const u64 count = bytes / 16;
  const u64 step = static_cast<u64>(gridDim.x) * blockDim.x;
  u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  constexpr u32 kAtOnce = 8;  // reads of another GPU that are under way
  for (; i + (kAtOnce - 1) * step < count; i += kAtOnce * step) {
    uint4 got[kAtOnce];
#pragma unroll
    for (u32 k = 0; k < kAtOnce; ++k)
      got[k] = read_now(out_of + i + k * step);
#pragma unroll
    for (u32 k = 0; k < kAtOnce; ++k)
      into[i + k * step] = got[k];
  }
  for (; i < count; i += step)
    into[i] = read_now(out_of + i);
  const u64 done = count * 16;
  const u64 rest = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (rest < bytes - done) {
    to[done + rest] = *reinterpret_cast<const volatile char*>(from + done + rest);
  }
}

__device__ void copy(char* to, const char* from, u64 bytes) {
  const u64 apart = reinterpret_cast<u64>(to) | reinterpret_cast<u64>(from);
  if (apart % 16 == 0) {
    copy_vectors(to, from, bytes);
  } else if (apart % 4 == 0) {
    copy_units<u32>(to, from, bytes);
  } else {
    copy_units<unsigned char>(to, from, bytes);
  }
}

__device__ void tell(u32* word, u32 value) {
  __threadfence_system();
  *reinterpret_cast<volatile u32*>(word) = value;
}

__device__ void carry_out(const uint4* given) {
  char* to = reinterpret_cast<char*>(wide(given[1].x, given[1].y));
  const char* from = reinterpret_cast<const char*>(wide(given[0].x, given[0].y));
  const u64 bytes = wide(given[0].z, given[1].z);
  if (from != nullptr) {
    copy(to, from, bytes);
  } else if (blockIdx.x == 0 && threadIdx.x < bytes && threadIdx.x < kInline) {
    const u32 part = threadIdx.x / 12;
    to[threadIdx.x] = reinterpret_cast<const char*>(&given[2 + part])[threadIdx.x % 12];
  }
}

__device__ u64 clock_ns() {
  u64 now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

}  // namespace

// The command of a turn, which is there already, by many blocks. Reads of the host's memory by each
// of them would take a microsecond each, one after the other: the first block reads, and publishes
// what it has read in the device's memory. Behind that they count those that are done; the last one
// says so.
extern "C" __global__ void mooncake_mpi_copy(const uint4* command, uint4* published, u32 turn,
                                             u32* done) {
  __shared__ uint4 given[kVectors];
  if (threadIdx.x < kVectors) {
    const uint4* where = (blockIdx.x == 0 ? command : published) + threadIdx.x;
    uint4 got;
    do {
      got = read_now(where);
    } while (__any_sync((1u << kVectors) - 1, got.w != turn));
    given[threadIdx.x] = got;
    if (blockIdx.x == 0) write_now(published + threadIdx.x, got);
  }
  __syncthreads();
  carry_out(given);
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence_system();
  u32* count = &published[kVectors].x;
  if (atomicAdd(count, 1) == gridDim.x - 1) {
    *count = 0;
    tell(done, turn);
  }
}

// One block waits for the command of a turn, carries it out and says so in `done`.
extern "C" __global__ void mooncake_mpi_take(const uint4* command, u32 turn, u32* done) {
  __shared__ uint4 given[kVectors];
  if (threadIdx.x < kVectors) {
    uint4 got;
    do {
      got = read_now(command + threadIdx.x);
    } while (__any_sync((1u << kVectors) - 1, got.w != turn));
    given[threadIdx.x] = got;
  }
  __syncthreads();
  carry_out(given);
  __syncthreads();
  if (threadIdx.x == 0) tell(done, turn);
}

// One block that stays: it carries out one command after another, each in the slot of its turn, says
// of each in `done` that it has, and leaves when none has come for so long. `left` then has the turn
// that it does not carry out any more, and behind that a one.
extern "C" __global__ void mooncake_mpi_stay(const uint4* commands, u32 slots, u32 turn, u32* done,
                                             u32* left, u64 idle_ns) {
  __shared__ uint4 given[kVectors];
  __shared__ u32 leaves;
  for (;; ++turn) {
    if (threadIdx.x < kVectors) {
      const u64 since = clock_ns();
      u32 reads = 0;
      const uint4* command = commands + static_cast<u64>(turn % slots) * kVectors + threadIdx.x;
      uint4 got;
      bool is_over = false;
      do {
        got = read_now(command);
        if (++reads % 4 == 0) is_over = clock_ns() - since > idle_ns;
      } while (__any_sync((1u << kVectors) - 1, got.w != turn) &&
               !__any_sync((1u << kVectors) - 1, is_over));
      if (__any_sync((1u << kVectors) - 1, got.w != turn)) {
        if (threadIdx.x == 0) leaves = 1;
      } else {
        given[threadIdx.x] = got;
        if (threadIdx.x == 0) leaves = 0;
      }
    }
    __syncthreads();
    if (leaves != 0) {
      if (threadIdx.x == 0) {
        *reinterpret_cast<volatile u32*>(left) = turn;
        tell(left + 1, 1);
      }
      return;
    }
    carry_out(given);
    __syncthreads();
    if (threadIdx.x == 0) tell(done, turn);
  }
}
