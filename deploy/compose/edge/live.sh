# A live stream: two rungs of segments of a second, which hold noise in the place of pictures.
cd /var/lib/blackstart/www/live
printf '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=800000\nlow/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nhigh/index.m3u8\n' > main.m3u8
# after a restart the numbers go on: by the clock
number=$(date +%s)
: > listed
while :; do
  printf '#EXT-X-PROGRAM-DATE-TIME:%s\n#EXTINF:1.0,\nseg-%s.m4s\n' "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" $number >> listed
  sleep 1
  tail -n 18 listed > kept
  cp kept listed
  first=$((number - $(wc -l < listed) / 3 + 1))
  for rung in low high; do
    head -c 5000 /dev/urandom > $rung/seg-$number.m4s
    { printf '#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:%s\n' $first; cat listed; } > $rung/next
    mv $rung/next $rung/index.m3u8
    rm -f $rung/seg-$((number - 30)).m4s
  done
  number=$((number + 1))
done
