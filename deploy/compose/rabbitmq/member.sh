. /usr/local/lib/keep.sh
export HOME=/var/lib/blackstart RABBITMQ_CONF_ENV_FILE=/var/lib/blackstart/none RABBITMQ_NODENAME="rabbit@$HOSTNAME"
export RABBITMQ_CONFIG_FILE=/etc/blackstart/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=/etc/blackstart/enabled_plugins
export RABBITMQ_MNESIA_BASE=/var/lib/blackstart/mnesia RABBITMQ_LOG_BASE=/var/lib/blackstart/log RABBITMQ_ALLOW_INPUT=1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-setcookie blackstart -kernel net_ticktime 5"
keep rabbitmq 10 /usr/lib/rabbitmq/bin/rabbitmq-server -noinput
stay
