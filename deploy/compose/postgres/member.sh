. /usr/local/lib/keep.sh
export PATRONI_NAME="$HOSTNAME" PATRONI_RESTAPI_CONNECT_ADDRESS="$HOSTNAME:8008"
export PATRONI_POSTGRESQL_CONNECT_ADDRESS="$HOSTNAME:5432"
keep etcd 2 etcd --name "$HOSTNAME" --data-dir etcd \
    --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls "http://$HOSTNAME:2379" \
    --listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls "http://$HOSTNAME:2380" \
    --initial-cluster db1=http://db1:2380,db2=http://db2:2380,db3=http://db3:2380 \
    --heartbeat-interval 100 --election-timeout 1000 --enable-v2
keep patroni 20 patroni /etc/blackstart/patroni.yaml # after the TTL: sooner, and no replica may take over
stay
