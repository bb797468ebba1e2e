. /usr/local/lib/keep.sh
keep varnish 1 varnishd -F -j none -n /var/lib/blackstart/varnish -a :80 -f /etc/blackstart/edge.vcl -s malloc,20m
stay
