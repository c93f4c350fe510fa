// From settings to gRPC channels: target, credentials, arguments and metadata. Needs gRPC's headers; what reads streams uses
// clients/grpc_vstream.hpp instead.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "clients/connection.hpp"
#include "clients/grpc_vstream.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// The method that all calls go to.
inline constexpr char vstream_method[] = "/vtgateservice.Vitess/VStream";

/// Keys and values that a call sends beside its request.
using metadata_list = std::vector<std::pair<std::string, std::string>>;

/// Makes the channels of one client, each with a connection of its own. Holds the credentials. Thread-safe.
class channel_maker {
 public:
  /// Errors: those of grpc_vstream_client::make(). The plan's window counts for the whole process.
  static result<channel_maker> of(const connection_settings& settings, const channel_plan& plan, const transport_limits& limits);

  /// Connects to nothing yet.
  std::shared_ptr<grpc::Channel> make() const;

  /// What each call sends.
  const metadata_list& metadata() const { return metadata_; }

 private:
  channel_maker(std::string target, std::shared_ptr<grpc::ChannelCredentials> credentials, grpc::ChannelArguments args,
                metadata_list metadata);

  std::string target_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  grpc::ChannelArguments args_;
  metadata_list metadata_;
};

}  // namespace psource
