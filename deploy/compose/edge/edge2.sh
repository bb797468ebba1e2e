. /usr/local/lib/keep.sh
keep nginx 1 nginx -e /var/lib/blackstart/error.log -p /var/lib/blackstart -c /etc/blackstart/edge.conf
stay
