// From settings to gRPC channels.
#include "clients/grpc_channel.hpp"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "clients/grpc_window.hpp"
#include "clients/tls_material.hpp"
#include "protocol/base64.hpp"

#ifndef PSOURCE_VERSION
#define PSOURCE_VERSION "0"
#endif

namespace psource {
namespace {

// gRPC ends the process when metadata holds a byte that HTTP/2 does not allow: refuse such values here.
bool can_be_header(const std::string& value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

result<metadata_list> authentication_metadata(const connection_settings& settings) {
  metadata_list metadata;
  if (settings.username.empty()) {
    return metadata;
  }
  switch (settings.auth) {
    case grpc_auth::none:
      break;
    case grpc_auth::basic_header:
      if (settings.username.find(':') != std::string::npos) {
        return fail(error_code::config_invalid,
                    "username must not contain a colon: the server would cut it there.");
      }
      metadata.emplace_back("authorization", "Basic ");
      append_base64(metadata.back().second, settings.username + ":" + settings.password);
      break;
    case grpc_auth::username_password:
      if (!can_be_header(settings.username) || !can_be_header(settings.password)) {
        return fail(error_code::config_invalid,
                    "username and password may hold printable ASCII characters only: they are sent as gRPC "
                    "metadata.");
      }
      metadata.emplace_back("username", settings.username);
      metadata.emplace_back("password", settings.password);
      break;
  }
  return metadata;
}

result<std::string> target_of(const connection_settings& settings) {
  const std::string& host = settings.host;
  const bool allowed = !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && std::strchr("-._:%", c) != nullptr);
  });
  if (!allowed) {
    return fail(error_code::config_invalid,
                "host must be a host name or an IP address alone, without a scheme, a path or a port.");
  }
  if (settings.port == 0) {
    return fail(error_code::config_invalid, "port must be between 1 and 65535.");
  }
  const bool ipv6 = host.find(':') != std::string::npos;
  return "dns:///" + (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(settings.port);
}

result<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(const tls_settings& tls) {
  if (!tls.enabled) {
    return grpc::InsecureChannelCredentials();
  }
  if (auto checked = check_tls_material(tls); !checked) {
    return fail(checked.error());
  }
  if (tls.ca_certificate.empty()) {
    // Left empty below: gRPC reads the same file, and then shares one parsed copy between channels.
    if (auto roots = system_roots_file(); !roots) {
      return fail(roots.error());
    }
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = tls.ca_certificate;
  options.pem_private_key = tls.client_key;
  options.pem_cert_chain = tls.client_certificate;
  return grpc::SslCredentials(options);
}

// `window_is_set`: to plan.window, for the whole process. gRPC asks for it where it would probe.
grpc::ChannelArguments arguments_of(const tls_settings& tls, const channel_plan& plan, bool window_is_set,
                                    const transport_limits& limits) {
  grpc::ChannelArguments args;
  // Otherwise channels with equal arguments share one connection.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, plan.bdp_probe || window_is_set ? 1 : 0);
  // How much one read of the socket may allocate for (see process_settings.hpp): gRPC's own limit of 4 MiB is more memory per
  // connection, and no faster.
  args.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 256 * 1024);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // An idle stream is silent for long: without this gRPC stops pinging after two pings.
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // vtgate answers pings on a connection without calls with "too_many_pings".
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  args.SetMaxReceiveMessageSize(static_cast<int>(std::min<std::size_t>(limits.receive_limit, 0x7fffffff)));
  args.SetMaxSendMessageSize(-1);
  // Retries belong to the engine, which knows the last complete position.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // Containers often have the variables of a proxy for the web. The MySQL port knows none.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A compressed response ends its call all the same. Not unpacked before that: the limit on responses counts
  // what arrives, and few bytes can unpack to very many.
  args.SetInt(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE);
  args.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // Nor is anything compressed, limited in time, or told to a diagnostic service: each of them is looked at by every call.
  args.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  args.SetInt(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 0);
  args.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  args.SetUserAgentPrefix("source-planetscale/" PSOURCE_VERSION);
  if (tls.enabled && !tls.server_name.empty()) {
    args.SetSslTargetNameOverride(tls.server_name);
  }
  return args;
}

}  // namespace

result<channel_maker> channel_maker::of(const connection_settings& settings, const channel_plan& plan,
                                        const transport_limits& limits) {
  result<std::string> target = target_of(settings);
  if (!target) {
    return fail(target.error());
  }
  result<metadata_list> metadata = authentication_metadata(settings);
  if (!metadata) {
    return fail(metadata.error());
  }
  auto credentials = credentials_of(settings.tls);
  if (!credentials) {
    return fail(credentials.error());
  }
  const bool window_is_set = set_grpc_window(plan.window);
  return channel_maker(*std::move(target), *std::move(credentials), arguments_of(settings.tls, plan, window_is_set, limits),
                       *std::move(metadata));
}

channel_maker::channel_maker(std::string target, std::shared_ptr<grpc::ChannelCredentials> credentials,
                             grpc::ChannelArguments args, metadata_list metadata)
    : target_(std::move(target)),
      credentials_(std::move(credentials)),
      args_(std::move(args)),
      metadata_(std::move(metadata)) {}

std::shared_ptr<grpc::Channel> channel_maker::make() const {
  return grpc::CreateCustomChannel(target_, credentials_, args_);
}

}  // namespace psource
