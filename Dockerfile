# The connector as an image. Two stages; nothing here depends on the processor, so amd64 and arm64 build alike:
#   docker build -t source-planetscale:3.0.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 -t source-planetscale:3.0.0 .
FROM debian:bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        cmake default-libmysqlclient-dev g++ libcaf-dev libcxxopts-dev libexpected-dev libgrpc++-dev \
        libprotobuf-dev libssl-dev ninja-build pkg-config protobuf-compiler protobuf-compiler-grpc rapidjson-dev \
        zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cmake -S . -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPSOURCE_TESTS=OFF \
    && cmake --build /build --target source-planetscale \
    && strip /build/source-planetscale

# gRPC is part of the program (PSOURCE_STATIC_GRPC).
# bookworm-slim brings sh, sleep and mv, which Airbyte's launcher uses inside the image, and glibc's character sets.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates libc-ares2 libcaf-core0.17 libmariadb3 libprotobuf32 libre2-9 libssl3 libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 airbyte \
    && useradd --uid 1000 --gid 1000 --home-dir /airbyte --create-home --shell /bin/sh airbyte
COPY --from=build /build/source-planetscale /usr/local/bin/source-planetscale
# A library that is missing here shows at once.
RUN ["/usr/local/bin/source-planetscale", "--version"]
WORKDIR /airbyte
USER 1000:1000
# Airbyte starts the connector by this variable, not by the ENTRYPOINT: the two must say the same.
ENV AIRBYTE_ENTRYPOINT="/usr/local/bin/source-planetscale"
ENTRYPOINT ["/usr/local/bin/source-planetscale"]
LABEL io.airbyte.name="source-planetscale" \
      io.airbyte.version="3.0.0"
