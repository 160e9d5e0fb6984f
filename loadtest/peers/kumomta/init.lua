-- KumoMTA as a relay for one domain, doing the job of the gateway in front of one backend: its spool is told to flush every
-- message. There is no package of it; it is taken when `kumod` is on the PATH. @NAMES@ are filled in by `gatepost-load compare`.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.define_spool { name = 'data', path = '@DIR@/data', flush = true }
  kumo.define_spool { name = 'meta', path = '@DIR@/meta', flush = true }
  kumo.configure_local_logs { log_dir = '@DIR@/logs' }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:@PORT@',
    hostname = 'edge.example.test',
    relay_hosts = {},
    -- Limits that would refuse the load as such.
    max_messages_per_connection = 1000000,
  }
end)

kumo.on('get_listener_domain', function(domain, listener, conn_meta)
  return kumo.make_listener_domain { relay_to = domain == 'example.test' }
end)

kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  return kumo.make_queue_config {
    protocol = { smtp = { mx_list = { { name = 'backend', addr = '127.0.0.1' } } } },
  }
end)

kumo.on('get_egress_path_config', function(domain, source_name, site_name)
  return kumo.make_egress_path {
    smtp_port = @BACKEND_PORT@,
    prohibited_hosts = {},
    enable_tls = 'Disabled',
    connection_limit = 20,
    max_deliveries_per_connection = 1000000,
  }
end)
