//! The routes under `/api/internal/` that commands ask for.
//!
//! Served, and needed as they are:
//!
//! | route | used by |
//! |---|---|
//! | `GET status` | status, check_running, shutdown, listeners, memory_breakdown, … |
//! | `GET cluster-status` | cluster_status, alarms, forget_cluster_node |
//! | `GET environment` | environment |
//! | `POST stop` | stop, shutdown |
//! | `POST authenticate-user` | authenticate_user |
//! | `POST users/:user`, `PUT users/:user/password`, `PUT users/:user/tags` | users |
//! | `DELETE user-limits/:user`, `DELETE vhost-limits/:vhost` | limits |
//! | `DELETE queues/:vhost/:queue` | delete_queue |
//! | `DELETE queues/:vhost/:queue/contents` | purge_queue |
//! | `POST close-connections` | close_all_connections, close_all_user_connections |
//! | `PUT memory-watermark`, `PUT disk-free-limit`, `PUT log-level` | the commands of these names |
//!
//! Asked for, and answered with 404 by a node that cannot do it, which the command then says:
//!
//! | route | body or answer | used by |
//! |---|---|---|
//! | `POST app/stop`, `POST app/start` | | stop_app, start_app |
//! | `POST cluster/join` | `{"node"}` | join_cluster |
//! | `POST cluster/forget` | `{"node"}` | forget_cluster_node |
//! | `POST reset` | `{"force"}` | reset, force_reset |
//! | `POST standalone` | | force_standalone_khepri_boot |
//! | `POST drain`, `POST revive` | | drain, revive |
//! | `POST listeners/suspend`, `POST listeners/resume` | | suspend_listeners, resume_listeners |
//! | `GET peers` | list of node names | discover_peers |
//! | `GET os-env` | object of variables | os_env |
//! | `GET arguments` | list of words | command_line_arguments |
//! | `GET certificates` | list of objects | certificates |
//!
//! `GET status` may say `"is_booted": false` while the node starts; without it a node that answers
//! has started.
