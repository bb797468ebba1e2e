# The agent: docker build -f deploy/docker/agent.Dockerfile -t blackstart-agent .
# BASE needs Debian's packages, and Python 3.11 or later with venv. The index of pip, where not the usual one: PIP_INDEX_URL.
ARG BASE=docker.io/library/python:3.12-slim-bookworm
FROM ${BASE} AS build
ARG PIP_INDEX_URL=
COPY . /src
RUN python3 -m venv /opt/blackstart \
    && /opt/blackstart/bin/pip install --quiet --no-cache-dir --constraint /src/requirements.lock \
       '/src[gpu,k8s,docker,postgres,amqp,s3]' \
    && /opt/blackstart/bin/pip uninstall --quiet --yes pip

FROM ${BASE}
# What the faults call: nft and iptables (packet queues), ip and tc, libfaketime for clocks, ps and the like for people.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
       iproute2 iptables libfaketime nftables procps \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/blackstart /opt/blackstart
COPY deploy/docker/keep-agent.sh /usr/local/lib/blackstart/keep-agent.sh
ENV PATH=/opt/blackstart/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
# Root by default, since faults on a node need it; what does without runs as 64701 (the overlay `restricted`).
ENTRYPOINT ["/bin/sh", "/usr/local/lib/blackstart/keep-agent.sh"]
CMD ["run"]
