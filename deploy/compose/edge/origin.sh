. /usr/local/lib/keep.sh
mkdir -p www/static www/objects www/live/low www/live/high
for n in $(seq 200); do
    { echo "object $n of the origin" && head -c 20000 /dev/zero | tr '\0' x; } >www/static/$n.txt
done
keep origin 3 nginx -e /var/lib/blackstart/error.log -p /var/lib/blackstart -c /etc/blackstart/origin.conf
keep live 2 sh /etc/blackstart/live.sh
stay
