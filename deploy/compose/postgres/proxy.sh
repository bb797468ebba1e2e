. /usr/local/lib/keep.sh
keep haproxy 2 haproxy -W -db -f /etc/blackstart/haproxy.cfg
keep pgbouncer 2 pgbouncer /etc/blackstart/pgbouncer.ini
stay
