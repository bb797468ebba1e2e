#!/bin/sh
# A container ends, and everything in it is killed, when its first process ends. Were that the agent, its death would be
# the guardian's, at the very moment for which the guardian is there. So this is the first process: when the agent dies,
# the guardian reverts what was in force, and a second later the next agent starts and reads the journal.
# A SIGTERM is the agent's, which reverts everything itself; bad settings (2) end the container, for the cluster to tell.
agent=
ending=
trap 'ending=yes; [ -n "$agent" ] && kill -TERM "$agent" 2>/dev/null' TERM INT
while :; do
    blackstart-agent "$@" &
    agent=$!
    [ -n "$ending" ] && kill -TERM "$agent" 2>/dev/null  # it came about when the agent was started, and met none
    # `wait` returns early at each signal that is trapped.
    while :; do
        wait "$agent"
        status=$?
        kill -0 "$agent" 2>/dev/null || break
    done
    agent=
    [ -n "$ending" ] && exit "$status"
    [ "$status" -eq 2 ] && exit 2
    echo "the agent has ended with status $status: the next one starts in a second" >&2
    sleep 1
    [ -n "$ending" ] && exit "$status"
done
