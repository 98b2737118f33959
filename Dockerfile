# The operator's image: built with hash-locked requirements, run without pip, without a shell's help, as nobody in particular.
#   docker build -t ghcr.io/dbclusterref/dbclusterref:v0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Pinned by tag: a digest could not be looked up where this was written. Pin it where you build:
#   --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# What changes least comes first, so that a change of the code rebuilds the last steps only.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /build \
 && /build/bin/python -m pip install --require-hashes --no-deps -r requirements/build.txt \
 && python -m venv --without-pip /app \
 && /build/bin/python -m pip --python /app/bin/python install --require-hashes --no-deps --only-binary :all: --no-compile \
      -r requirements/runtime.txt

COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# `--no-index` everywhere: nothing but the locked requirements above ever comes from outside. `pip check` proves the lock whole.
# Compiled here, since the running container cannot write; by content, since time stamps do not survive every copy.
RUN /build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && /build/bin/python -m pip --python /app/bin/python install --no-index --no-deps --no-compile /dist/*.whl \
 && /build/bin/python -m pip --python /app/bin/python check \
 && /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dbclusterref" \
      org.opencontainers.image.description="Keeps a Secret true to a DigitalOcean managed database cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The base image's own pip: nothing is installed here any more.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip /root/.cache

COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A name for the number, for whatever asks for one; any other number (OpenShift's) works without.
RUN echo 'nonroot:x:65532:' >>/etc/group \
 && echo 'nonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin' >>/etc/passwd
USER 65532:65532
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# -P: the working directory is never a place to import from.
ENTRYPOINT ["python", "-P", "-m", "dbclusterref"]
CMD ["run"]
