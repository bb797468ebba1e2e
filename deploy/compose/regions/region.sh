. /usr/local/lib/keep.sh
keep app 2 nginx -e /var/lib/blackstart/error.log -p /var/lib/blackstart -c /etc/blackstart/app.conf
stay
