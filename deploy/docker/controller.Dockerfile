# The controller: docker build -f deploy/docker/controller.Dockerfile -t blackstart-controller .
# BASE needs Python 3.11 or later with venv, and a shell. The index of pip, where it is not the usual one: PIP_INDEX_URL.
ARG BASE=docker.io/library/python:3.12-slim-bookworm
FROM ${BASE} AS build
ARG PIP_INDEX_URL=
COPY . /src
# pip compiles what it installs: the root file system is read-only where it runs.
RUN python3 -m venv /opt/blackstart \
    && /opt/blackstart/bin/pip install --quiet --no-cache-dir --constraint /src/requirements.lock '/src[postgres]' \
    && /opt/blackstart/bin/pip uninstall --quiet --yes pip

FROM ${BASE}
COPY --from=build /opt/blackstart /opt/blackstart
ENV PATH=/opt/blackstart/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
# A number, so that a cluster can tell that it is not root's.
USER 64700:64700
WORKDIR /tmp
EXPOSE 7400 7401 7402
ENTRYPOINT ["blackstart-controller"]
