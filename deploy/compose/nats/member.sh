. /usr/local/lib/keep.sh
# After the longest election (9 s): sooner, and the old leader is back before there is another.
keep nats 15 nats-server -c /etc/blackstart/nats.conf
stay
