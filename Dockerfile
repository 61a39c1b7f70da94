# syntax=docker/dockerfile:1
# A static program in an image with nothing else: no shell, no package manager, not root.
#
# Linted (charts/test.sh), but never built and never run: where this was written there is no engine for it.
#
#   docker build -t tasklog .
#   docker run --rm -p 127.0.0.1:7711:7711 -v tasklog:/data -e TASKLOG_TOKEN tasklog serve --listen 0.0.0.0:7711

FROM rust:1.91-alpine AS build
# The headers that SQLite's C code is compiled with. They belong to the image's release of Alpine, which the tag does not pin.
# hadolint ignore=DL3018
RUN apk add --no-cache musl-dev
WORKDIR /source
COPY . .
# Line tables are five sixths of the program; names in a backtrace stay.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
# Of the lock file or not at all. The caches stay on the builder.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin tasklog \
    && cp target/release/tasklog /tasklog \
    && mkdir /data

# Has the certificates of public authorities and a user 65532, and no more.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /tasklog /usr/local/bin/tasklog
COPY --from=build --chown=65532:65532 /data /data
ENV TASKLOG_STORE=sqlite:/data/miroir-tasks.db
WORKDIR /data
USER 65532:65532
EXPOSE 7711 9090
ENTRYPOINT ["/usr/local/bin/tasklog"]
CMD ["serve"]
