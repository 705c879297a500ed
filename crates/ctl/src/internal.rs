//! The routes under `/api/internal/` that commands ask for.
//!
//! Served by the process, whether the broker application runs or not:
//!
//! | route | body or answer | used by |
//! |---|---|---|
//! | `GET app` | `{"state", "why"}`, state `running`, `starting`, `stopped` or `paused` | every command that needs it one way or the other |
//! | `POST app/stop`, `POST app/start` | | stop_app, start_app |
//! | `POST stop` | | stop, shutdown |
//! | `POST reset` | `{"force"}` | reset, force_reset |
//! | `POST cluster/join` | `{"node", "kind"}` → `{"already"}` | join_cluster |
//! | `POST cluster/kind` | `{"kind"}` → `{"changed"}` | change_cluster_node_type |
//! | `POST cluster/force-boot` | | force_boot |
//! | `POST cluster/forget-offline` | `{"node"}` | forget_cluster_node --offline |
//! | `POST cluster/leave` | `{"drain", "force"}` | leave_cluster |
//! | `GET os-env`, `GET arguments` | variables, words | os_env, command_line_arguments |
//!
//! Served by the application, and with less to tell (`"is_booted": false`, the nodes last known) while
//! it does not run: `GET status`, `GET cluster-status`. Both have `app`, which is as `GET app`.
//!
//! Served by the application alone:
//!
//! | route | body or answer | used by |
//! |---|---|---|
//! | `POST cluster/forget` | `{"node", "force"}` | forget_cluster_node |
//! | `POST cluster/heal` | | heal_partition |
//! | `POST drain`, `POST revive` | | drain, revive |
//! | `POST listeners/suspend`, `POST listeners/resume` | | suspend_listeners, resume_listeners |
//! | `GET peers` | list of node names | discover_peers |
//! | `POST rebalance` | `{"type", "vhost_pattern", "queue_pattern", "target"}` → `[{"node", "classic"}]` | rebalance |
//! | `POST queues/:vhost/:queue/sync` | `{"action"}` → `{"result"}` | sync_queue, cancel_sync_queue |
//! | `POST queues/:vhost/:queue/leader` | `{"node"}` | transfer_leader |
//! | `GET environment` | | environment |
//! | `POST authenticate-user` | | authenticate_user |
//! | `POST users/:user`, `PUT users/:user/password`, `PUT users/:user/tags` | | users |
//! | `DELETE user-limits/:user`, `DELETE vhost-limits/:vhost` | | limits |
//! | `DELETE queues/:vhost/:queue` | | delete_queue |
//! | `DELETE queues/:vhost/:queue/contents` | | purge_queue |
//! | `POST close-connections` | | close_all_connections, close_all_user_connections |
//! | `PUT memory-watermark`, `PUT disk-free-limit`, `PUT log-level` | | the commands of these names |
//! | `GET certificates` | list of objects | certificates |
//!
//! While the application does not run, everything else is answered with 503 and `"error":
//! "app_not_running"`. A refusal may carry `exit_code`, with which the tool then ends.
//!
//! Asked for, and answered with 404 by a node that cannot do it, which the command then says:
//! `POST standalone` (force_standalone_khepri_boot).
