// The lanes that every promise of the protocol is tested over.
#pragma once

#include <gtest/gtest.h>

#include "party.h"

namespace mooncake_mpi::testing {

inline const Lane kLanes[] = {
    {"Shm", Lane::Kind::kShm},
    {"ShmWithoutCma", Lane::Kind::kShmWithoutCma},
    {"ShmOneWay", Lane::Kind::kShmOneWay},
    {"ShmWithdrawn", Lane::Kind::kShmWithdrawn},
    {"ShmMapped", Lane::Kind::kShm, {}, true, true},
    {"ShmSourceMapped", Lane::Kind::kShm, {}, true, false},
    {"ShmMappedWithoutCma", Lane::Kind::kShmWithoutCma, {}, true, true},
    {"ShmSourceMappedWithoutCma", Lane::Kind::kShmWithoutCma, {}, true, false},
    {"ShmTargetMappedWithoutCma", Lane::Kind::kShmWithoutCma, {}, false, true},
    {"ShmMappingRefused", Lane::Kind::kShm, {}, true, true, false},
    {"ShmAllRefused", Lane::Kind::kShmWithoutCma, {}, true, true, false},
    {"Fake", Lane::Kind::kFake},
    {"FakeStream", Lane::Kind::kFake, {.reads_peer = false}},
    {"FakeWithoutJobs", Lane::Kind::kFake, {.jobs = 0}},
    {"FakeWriteFails", Lane::Kind::kFake, {.writes_peer = false}},
    {.name = "Verbs", .kind = Lane::Kind::kVerbs},
    {.name = "VerbsRegistered",
     .kind = Lane::Kind::kVerbs,
     .send_shared = true,
     .receive_shared = true},
    {.name = "VerbsTwoRails", .kind = Lane::Kind::kVerbs, .rails = 2},
    {"FakeNarrow", Lane::Kind::kFake, {.packets = 1, .reads_peer = false}},
};

class OverEveryLane : public ::testing::TestWithParam<Lane> {};

inline std::string lane_name(const ::testing::TestParamInfo<Lane>& test) {
  return test.param.name;
}

}  // namespace mooncake_mpi::testing
