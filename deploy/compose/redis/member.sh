. /usr/local/lib/keep.sh
# Redis and Sentinel write their roles into their own files, and read them there when they come back.
if [ ! -e redis.conf ]; then
    cp /etc/blackstart/redis.conf /etc/blackstart/sentinel.conf .
    [ "$HOSTNAME" = redis1 ] || echo 'replicaof 10.78.2.11 6379' >>redis.conf
fi
keep redis 3 redis-server redis.conf
# A Sentinel looks for replicas every 10 s only: it starts when they are there.
until redis-cli info replication | grep -Eq 'connected_slaves:2|master_link_status:up' || [ "$over" ]; do sleep 0.2; done
keep sentinel 2 redis-sentinel sentinel.conf
stay
