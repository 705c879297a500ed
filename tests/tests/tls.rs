//! AMQP over TLS, and clients that log in by their certificates (EXTERNAL), with pika.

use std::path::Path;

use black_box::{Node, address, free_port, http, python_with};

use crate::certificates::Authority;

/// A node with a TLS listener, and certificates for it and for the client `worker`.
struct Secure {
    node: Node,
    port: u16,
    certificates: tempfile::TempDir,
}

impl Secure {
    fn start(settings: &str) -> Secure {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_certificates(folder.path());
        let (ip, port, at) = (address(), free_port(), folder.path().display());
        let node = Node::configured(&format!(
            "listeners.ssl.1 = {ip}:{port}\n\
             ssl_options.cacertfile = {at}/ca.pem\n\
             ssl_options.certfile = {at}/server.pem\n\
             ssl_options.keyfile = {at}/server.key\n\
             {settings}"
        ));
        Secure { node, port, certificates: folder }
    }

    /// Clients log in by the common name of their certificates.
    fn external() -> Secure {
        Secure::start(
            "ssl_options.verify = verify_peer\n\
             ssl_cert_login_from = common_name\n\
             auth_mechanisms.1 = PLAIN\n\
             auth_mechanisms.2 = EXTERNAL\n",
        )
    }

    #[track_caller]
    fn play(&self, scenario: &str) {
        let (port, folder) = (self.port.to_string(), self.certificates.path().display().to_string());
        python_with("tls.py", scenario, &self.node, &[("TLS_PORT", &port), ("CERTIFICATES", &folder)]);
    }
}

fn write_certificates(folder: &Path) {
    let authority = Authority::new();
    authority.write(folder);
    authority.issue(folder, "server", "a broker");
    authority.issue(folder, "client", "worker");
}

#[test]
fn a_client_logs_in_by_password_over_tls() {
    Secure::start("").play("login_by_password");
}

#[test]
fn a_client_logs_in_by_its_certificate() {
    let secure = Secure::external();
    secure.node.put("/api/users/worker", r#"{"tags":""}"#);
    secure.node.put("/api/permissions/%2f/worker", r#"{"configure":".*","write":".*","read":".*"}"#);
    secure.play("login_by_certificate");
    secure.play("no_login_without_a_certificate");
    secure.play("login_by_password");
}

#[test]
fn a_certificate_of_nobody_logs_nobody_in() {
    Secure::external().play("no_login_as_nobody");
}

#[test]
fn a_client_without_a_certificate_stays_outside_if_the_node_insists() {
    Secure::start("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n")
        .play("no_connection_without_a_certificate");
}

#[test]
fn the_api_tells_how_a_connection_is_encrypted() {
    let secure = Secure::start("");
    let (status, listeners) = http(secure.node.http(), "GET", "/api/overview", "");
    assert_eq!(status, 200);
    assert!(listeners.contains("amqp/ssl"), "{listeners}");
}
