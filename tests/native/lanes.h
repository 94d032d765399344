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
    {.name = "Tcp", .kind = Lane::Kind::kTcp},
    {.name = "TcpFake", .kind = Lane::Kind::kTcpFake, .few_peers = 0, .closely_ns = kAlways},
    {.name = "TcpTls", .kind = Lane::Kind::kTcpFake, .few_peers = 0, .encrypts = true},
    {.name = "TcpTlsRough", .kind = Lane::Kind::kTcpFake, .rough = true, .encrypts = true},
    {.name = "TcpRough", .kind = Lane::Kind::kTcpFake, .rough = true, .closely_ns = kAlways},
    {.name = "TcpDevice", .kind = Lane::Kind::kTcp, .send_device = true, .receive_device = true},
    {.name = "TcpToDevice", .kind = Lane::Kind::kTcpFake, .receive_device = true},
    {"FakeNarrow", Lane::Kind::kFake, {.packets = 1, .reads_peer = false}},
    {.name = "FakeDevice", .kind = Lane::Kind::kFake, .send_device = true, .receive_device = true},
    {.name = "FakeToDevice", .kind = Lane::Kind::kFake, .receive_device = true},
    {.name = "FakeNarrowDevice",
     .kind = Lane::Kind::kFake,
     .fake = {.packets = 1, .reads_peer = false},
     .send_device = true,
     .receive_device = true},
    {.name = "ShmDevice", .kind = Lane::Kind::kShm, .send_device = true, .receive_device = true},
    {.name = "ShmFromDevice", .kind = Lane::Kind::kShm, .send_device = true},
    {.name = "ShmToDevice", .kind = Lane::Kind::kShm, .receive_device = true},
    {.name = "ShmMappedToDevice",
     .kind = Lane::Kind::kShmWithoutCma,
     .send_shared = true,
     .receive_device = true},
    {.name = "VerbsDevice",
     .kind = Lane::Kind::kVerbs,
     .send_device = true,
     .receive_device = true},
    {.name = "Cuda",
     .kind = Lane::Kind::kShm,
     .send_device = true,
     .receive_device = true,
     .cuda = true},
    {.name = "CudaNotOpened",
     .kind = Lane::Kind::kShm,
     .send_device = true,
     .receive_device = true,
     .cuda = true,
     .opens = false},
    {.name = "CudaNotChosen",
     .kind = Lane::Kind::kShm,
     .send_device = true,
     .receive_device = true,
     .cuda = true,
     .pushes = false},
    {.name = "FromCuda", .kind = Lane::Kind::kShm, .send_device = true, .cuda = true},
    {.name = "ToCuda", .kind = Lane::Kind::kShm, .receive_device = true, .cuda = true},
    {.name = "VerbsCuda",
     .kind = Lane::Kind::kVerbs,
     .send_device = true,
     .receive_device = true,
     .cuda = true},
    {.name = "VerbsToDevice", .kind = Lane::Kind::kVerbs, .receive_device = true},
};

class OverEveryLane : public ::testing::TestWithParam<Lane> {};

inline std::string lane_name(const ::testing::TestParamInfo<Lane>& test) {
  return test.param.name;
}

}  // namespace mooncake_mpi::testing
