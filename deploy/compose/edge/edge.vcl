vcl 4.1;
probe health {
  .url = "/health";
  .interval = 500ms;
  .timeout = 400ms;
  .window = 4;
  .threshold = 3;
  .initial = 3;
}
backend origin {
  .host = "origin";
  .port = "80";
  .connect_timeout = 1s;
  .first_byte_timeout = 2s;
  .between_bytes_timeout = 2s;
  .probe = health;
}
sub vcl_backend_response {
  if (beresp.status >= 500 && bereq.is_bgfetch) {
    return (abandon);
  }
  set beresp.grace = 3600s;
}
