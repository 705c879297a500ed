//! Settings of what RabbitMQ has as plugins and is not served yet: other protocols, other places to look up users.

use super::super::key::{Status, Table};

pub(super) fn add(table: &mut Table) {
    for (prefix, lines) in [
        ("mqtt.", MQTT),
        ("stomp.", STOMP),
        ("stream.", STREAM),
        ("web_mqtt.", WEB),
        ("web_mqtt.", "proxy_protocol boolean"),
        ("web_stomp.", WEB),
        ("web_stomp.", WEB_STOMP),
        ("auth_http.", AUTH_HTTP),
        ("auth_ldap.", AUTH_LDAP),
        ("auth_cache.", AUTH_CACHE),
        ("auth_oauth2.", AUTH_OAUTH2),
        ("trust_store.", TRUST_STORE),
        ("amqp1_0.", AMQP_1_0),
        ("event_exchange.", EVENT_EXCHANGE),
        ("amqp_client.", "ssl_options none"),
        ("shovel.", "delete_after_duration_floor integer"),
        ("http_dispatch.", "access_log_dir text"),
    ] {
        table.known(Status::NotServed, prefix, lines);
    }
    for protocol in ["mqtt", "stomp", "stream"] {
        table.known(
            Status::NotServed,
            &format!("{protocol}.listeners."),
            LISTENERS,
        );
        table.known(
            Status::NotServed,
            &format!("{protocol}."),
            "tcp_listen_options none",
        );
        table.known(
            Status::NotServed,
            &format!("{protocol}.tcp_listen_options."),
            SOCKET,
        );
    }
    for prefix in [
        "amqp_client.ssl_options",
        "auth_http.ssl_options",
        "auth_ldap.ssl_options",
        "definitions.tls",
        "trust_store.ssl_options",
        "web_mqtt.ssl",
        "web_stomp.ssl",
    ] {
        super::tls::known_under(table, prefix);
    }
}

const LISTENERS: &str = "
    tcp none
    tcp.$name listener
    ssl none
    ssl.$name listener
";

const SOCKET: &str = "
    backlog integer
    buffer integer
    delay_send boolean
    dontroute boolean
    exit_on_close boolean
    fd integer
    high_msgq_watermark integer
    high_watermark integer
    keepalive boolean
    linger.on boolean
    linger.timeout integer
    low_msgq_watermark integer
    low_watermark integer
    nodelay boolean
    port integer
    priority integer
    recbuf integer
    send_timeout integer
    send_timeout_close boolean
    sndbuf integer
    tos integer
";

const MQTT: &str = "
    default_user text
    default_pass secret
    allow_anonymous boolean
    vhost text
    exchange text
    subscription_ttl text
    max_session_expiry_interval_seconds limit
    prefetch integer
    sparkplug boolean
    retained_message_store text
    retained_message_store_dets_sync_interval integer
    proxy_protocol boolean
    login_timeout integer
    num_acceptors.tcp integer
    num_acceptors.ssl integer
    ssl_cert_login boolean
    ssl_cert_client_id_from distinguished_name|subject_alternative_name
    ssl_cert_login_san_type dns|ip|email|uri|other_name
    ssl_cert_login_san_index integer
    durable_queue_type classic|quorum
    mailbox_soft_limit integer
    max_packet_size_unauthenticated integer
    max_packet_size_authenticated integer
    topic_alias_maximum integer
    disconnect_on_unauthorized boolean
";

const STOMP: &str = "
    num_acceptors.tcp integer
    num_acceptors.ssl integer
    max_connections limit
    ssl_cert_login boolean
    default_vhost text
    default_user text
    default_pass secret
    default_topic_exchange text
    implicit_connect boolean
    login_timeout integer
    proxy_protocol boolean
    hide_server_info boolean
    default_nack_requeue boolean
    max_frame_size integer
    max_frame_size_unauthenticated integer
";

const STREAM: &str = "
    num_acceptors.tcp integer
    num_acceptors.ssl integer
    ssl_cert_login boolean
    initial_credits integer
    credits_required_for_unblocking integer
    frame_max integer
    heartbeat integer
    advertised_host text
    advertised_tls_host text
    advertised_port integer
    advertised_tls_port integer
    max_connections limit
    proxy_protocol boolean
    data_dir text
    replication.port_range.min integer
    replication.port_range.max integer
    replication.address_family inet|inet6|ipv4|ipv6
";

const WEB: &str = "
    num_acceptors.tcp integer
    num_acceptors.ssl integer
    max_connections limit
    tcp.backlog integer
    tcp.listener text
    tcp.ip ip
    tcp.port integer
    ssl.backlog integer
    ssl.listener text
    ssl.ip ip
    ssl.port integer
    ws_path text
    cowboy_opts.max_empty_lines integer
    cowboy_opts.max_header_name_length integer
    cowboy_opts.max_header_value_length integer
    cowboy_opts.max_headers integer
    cowboy_opts.max_keepalive integer
    cowboy_opts.max_request_line_length integer
    cowboy_opts.timeout integer
    cowboy_opts.idle_timeout integer
    ws_opts.compress boolean
    ws_opts.max_frame_size integer
    ws_opts.idle_timeout integer
    hsts.policy text
    allow_origins none
    allow_origins.$name text
    use_file_handle_cache boolean
";

const WEB_STOMP: &str = "
    port integer
    ws_frame binary|text
    use_http_auth boolean
    proxy_protocol boolean
";

const AUTH_HTTP: &str = "
    http_method get|post
    user_path text
    vhost_path text
    resource_path text
    topic_path text
    request_timeout integer
    connection_timeout integer
    authorization_failure_disclosure boolean
    ssl_options none
";

const AUTH_LDAP: &str = "
    servers none
    servers.$server text
    port integer
    connection_pool_size integer
    timeout limit
    idle_timeout limit
    log true|false|network|network_unsafe
    user_bind_pattern text
    user_dn_pattern text
    dn_lookup_attribute text
    dn_lookup_base text
    dn_lookup_bind as_user|anon
    dn_lookup_bind.user_dn text
    dn_lookup_bind.password secret
    other_bind as_user|anon
    other_bind.user_dn text
    other_bind.password secret
    group_lookup_base text
    use_ssl boolean
    use_starttls boolean
    ssl_options none
";

const AUTH_CACHE: &str = "
    cached_backend text
    cached_backend.authn text
    cached_backend.authz text
    cache_ttl integer
    cache_module text
    cache_refusals boolean
";

const AUTH_OAUTH2: &str = "
    resource_server_id text
    resource_server_type text
    additional_scopes_key text
    preferred_username_claims.$claim_order text
    scope_prefix text
    scope_aliases.$alias text
    scope_aliases.$index.alias text
    scope_aliases.$index.scope text
    verify_aud boolean
    require_exp boolean
    default_key text
    signing_keys.$name text
    issuer text
    discovery_endpoint_path text
    discovery_endpoint_params.$param text
    jwks_url text
    jwks_uri text
    token_endpoint text
    end_session_endpoint text
    authorization_endpoint text
    https.verify verify_peer|verify_none
    https.peer_verification verify_peer|verify_none
    https.cacertfile text
    https.depth integer
    https.hostname_verification wildcard|none
    https.crl_check true|false|peer|best_effort
    https.fail_if_no_peer_cert boolean
    algorithms.$algorithm text
    default_oauth_provider text
    oauth_providers.$name.issuer text
    oauth_providers.$name.discovery_endpoint_path text
    oauth_providers.$name.discovery_endpoint_params.$param text
    oauth_providers.$name.jwks_uri text
    oauth_providers.$name.token_endpoint text
    oauth_providers.$name.end_session_endpoint text
    oauth_providers.$name.authorization_endpoint text
    oauth_providers.$name.default_key text
    oauth_providers.$name.signing_keys.$keyid text
    oauth_providers.$name.algorithms.$algorithm text
    oauth_providers.$name.https.verify verify_peer|verify_none
    oauth_providers.$name.https.cacertfile text
    oauth_providers.$name.https.depth integer
    oauth_providers.$name.https.hostname_verification wildcard|none
    oauth_providers.$name.https.crl_check true|false|peer|best_effort
    oauth_providers.$name.https.fail_if_no_peer_cert boolean
    resource_servers.$name.id text
    resource_servers.$name.resource_server_type text
    resource_servers.$name.additional_scopes_key text
    resource_servers.$name.oauth_provider_id text
    resource_servers.$name.preferred_username_claims.$claim_order text
    resource_servers.$name.scope_prefix text
    resource_servers.$name.scope_aliases.$alias text
    resource_servers.$name.verify_aud boolean
";

const TRUST_STORE: &str = "
    providers.$name text
    refresh_interval integer
    directory text
    url text
    ssl_options none
";

const AMQP_1_0: &str = "
    default_user text
    default_vhost text
    protocol_strict_mode boolean
";

const EVENT_EXCHANGE: &str = "
    vhost text
    protocol amqp_0_9_1|amqp_1_0
";
