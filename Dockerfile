# syntax=docker/dockerfile:1
# The program as a static binary in an image without a shell, run by a user that is not root; built from Cargo.lock.
#
# There was no container engine where this was written: it is linted, and its build context is checked by charts/test.sh,
# but the image was neither built nor run. Whoever builds it first, please say so in an issue, or put right what is wrong.
#
#   docker build --tag tasklog:0.1.0 .
#   docker run --rm --read-only --tmpfs /tmp --volume tasklog:/data --env TASKLOG_TOKEN --publish 127.0.0.1:7711:7711 tasklog:0.1.0
ARG RUST_VERSION=1.91

# Alpine's own target links musl statically; the image has the C compiler that SQLite, zstd and ring need.
FROM rust:${RUST_VERSION}-alpine3.22 AS build
WORKDIR /build
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package tasklog --bin tasklog \
    && mkdir -p /out/data \
    && cp target/release/tasklog /out/tasklog \
    && /out/tasklog --version

# Certificate authorities for rediss:// and object stores, /tmp, and the user: nothing else.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/tasklog /usr/local/bin/tasklog
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV TASKLOG_STORE=sqlite:/data/miroir-tasks.db
EXPOSE 7711 9090
ENTRYPOINT ["/usr/local/bin/tasklog"]
# Beyond loopback it wants a token, and says so.
CMD ["serve", "--listen", "0.0.0.0:7711", "--metrics-listen", "0.0.0.0:9090"]
