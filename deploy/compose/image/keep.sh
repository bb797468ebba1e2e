# Several services in one container, as on a node of its own: what ended is started again, after a while.
over=
trap 'over=1' TERM INT

# keep NAME RESTART_S COMMAND...: runs it, and again RESTART_S after it ended; its words go to the container's log and to a file.
keep() {
    name=$1 restart_s=$2
    shift 2
    (
        trap 'over=1' TERM INT
        while [ ! "$over" ]; do
            "$@"
            [ "$over" ] || sleep "$restart_s"
        done
    ) 2>&1 | (trap '' TERM INT && exec tee -a "/var/lib/blackstart-services/log/$HOSTNAME-$name.log") &
}

# Until all have ended, which a stop of the container tells them to.
stay() {
    until wait; do :; done
}
