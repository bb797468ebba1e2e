#!/bin/sh
# A controller, and an agent for every host of a set that is up, until Ctrl-C. An agent runs from this machine's files, in the network
# and among the processes of its container. As root on the Docker host, with Blackstart's programs in the PATH.
set -eu
begun=$(date +%s)
[ $# = 2 ] || { echo "usage: $0 SET STATE_FOLDER" >&2; exit 2; }
experiments=$(dirname "$0")/../../experiments
mkdir -p -m 700 "$2"
state=$(cd "$2" && pwd)
address=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "blackstart-$1" | sed 's|0/24$|1|')
export BLACKSTART_CONTROLLER="$address:7443" BLACKSTART_CERTS="$state/controller/admin"
export BLACKSTART_CONTROLLER_BUDGET__TARGETS_FRACTION=1.0 # of five hosts, all may be broken
echo 'faults: ["*"]
longest_s: 900
commands: [["*"]]' >"$state/policy.yaml"

pids=
ended() { for pid in $pids; do kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true; done; wait; }
trap ended EXIT
trap 'exit 130' INT TERM
setsid blackstart-controller run --state "$state/controller" --listen "$BLACKSTART_CONTROLLER" --enrol-listen "$address:0" \
    --profile "$experiments/profiles/dailydoco.yaml" >"$state/controller.log" 2>&1 &
pids=$!
until blackstart agents list >/dev/null 2>&1; do kill -0 $! && sleep 0.5 || exit 1; done

# agent NAME LABEL... -- PREFIX...: PREFIX is what takes a command to the agent's host.
agent() {
    name=$1 labels=
    shift
    while [ "$1" != -- ]; do labels="$labels --label $1" && shift; done
    shift
    own="--id $name --state $state/agent-$name"
    mkdir -p -m 700 "$state/agent-$name"
    if [ ! -e "$state/agent-$name/certs" ]; then
        blackstart certs join-token --agent "$name" -o "$state/agent-$name/join.json" >/dev/null
        "$@" blackstart-agent enrol "$state/agent-$name/join.json" $own >>"$state/agent-$name.log" 2>&1
    fi
    exec setsid "$@" blackstart-agent run $own --controller "$BLACKSTART_CONTROLLER" --policy "$state/policy.yaml" $labels \
        >>"$state/agent-$name.log" 2>&1
}

# What an agent's host has in the place of this machine's: the processes, and the names of its peers.
here='mount -t proc proc /proc && mount --bind "$0" /etc/hosts && exec "$@"'
count=1
for container in $(docker ps -q --filter "label=set=$1"); do
    name=$(docker inspect -f '{{.Config.Hostname}}' "$container")
    pid=$(docker inspect -f '{{.State.Pid}}' "$container")
    labels=$(docker inspect -f '{{range $key, $value := .Config.Labels}}{{println $key $value}}{{end}}' "$container" |
        awk 'NF == 2 && $1 !~ /[.]/ {print $1 "=" $2}')
    cat "/proc/$pid/root/etc/hosts" >"$state/hosts-$name.txt"
    count=$((count + 1))
    agent "$name" "host=$name" $labels -- nsenter -t "$pid" -n -p unshare -m sh -c "$here" "$state/hosts-$name.txt" &
    pids="$! $pids" # agents end before the controller
done
agent rack role=rack -- env &
pids="$! $pids"
until [ "$(blackstart agents list | grep -c ' yes ')" = $count ]; do
    sleep 1
    [ "$(($(date +%s) - begun))" -lt 120 ] || { echo "not all of $count agents are connected: see $state/*.log" >&2; exit 1; }
done
echo "in another terminal:
export BLACKSTART_CONTROLLER=$BLACKSTART_CONTROLLER BLACKSTART_CERTS=$BLACKSTART_CERTS
export BLACKSTART_VAR_SERVICES=$(docker volume inspect -f '{{.Mountpoint}}' "blackstart-$1")
blackstart agents list"
wait
