# The operator's image: Python, the operator and its hash-locked requirements. No shell, no package manager, no setuid file.
#   docker build -t ghcr.io/dbclusterref/dbclusterref:v0.1.0 \
#     --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" .
#
# Named by tag here. A release looks up the tag's digest, builds from that, and says it in the label base.name and in its notes
# (.github/workflows/release.yaml). Do the same where you build:
#   --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0
WORKDIR /src

# What changes least comes first, so that a change of the code rebuilds the last steps only.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /build \
 && /build/bin/python -m pip install --require-hashes --no-deps -r requirements/build.txt \
 && python -m venv --without-pip /app \
 && /build/bin/python -m pip --python /app/bin/python install --require-hashes --no-deps --only-binary :all: --no-compile \
      -r requirements/runtime.txt

COPY pyproject.toml README.md LICENSE ./
COPY tools/image tools/image
COPY operator operator
# `--no-index` everywhere: nothing but the locked requirements above ever comes from outside. `pip check` proves the lock whole.
# Compiled here, since the running container cannot write; by content, since time stamps do not survive every copy; all of it (-f),
# since pip imports some (attr, for its vendored rich) and leaves files that hold time stamps. The last two steps run in the finished
# root: what is left there is enough.
RUN /build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && /build/bin/python -m pip --python /app/bin/python install --no-index --no-deps --no-compile /dist/*.whl \
 && /build/bin/python -m pip --python /app/bin/python check \
 && PYTHONDONTWRITEBYTECODE=1 /app/bin/python -P tools/image/trim.py \
 && python -P tools/image/assemble.py /app /rootfs \
 && python -m compileall -q -f -s /rootfs --invalidation-mode unchecked-hash /rootfs/app/lib /rootfs/usr \
 && chroot /rootfs /app/bin/python -P - <tools/image/prove.py \
 && chroot /rootfs /app/bin/python -P -m dbclusterref --version
# The same input gives the same layer, whenever it is built.
ARG SOURCE_DATE_EPOCH=0
RUN find /rootfs -depth -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM scratch
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="dbclusterref" \
      org.opencontainers.image.description="Keeps a Kubernetes Secret in sync with a DigitalOcean managed database cluster" \
      org.opencontainers.image.source="https://github.com/dbclusterref/dbclusterref" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

COPY --from=build /rootfs /
ENV PATH=/app/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DBCLUSTERREF_REVISION="${REVISION}"
# By number, so that `runAsNonRoot` can judge it; /etc/passwd calls it nonroot.
USER 65532:65532
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# -P: the working directory is never a place to import from.
ENTRYPOINT ["python", "-P", "-m", "dbclusterref"]
CMD ["run"]
