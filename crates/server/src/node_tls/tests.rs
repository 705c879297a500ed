use tokio::net::TcpListener;

use super::*;
use crate::config::TlsOptions;
use crate::tls::tests::{Folder, authority};

fn node(options: &TlsOptions) -> NodeTls {
    let (tls, _) = Tls::load(PREFIX, options, &[]).unwrap();
    NodeTls(Arc::new(tls))
}

/// Both sides verify each other.
fn mutual(folder: &Folder) -> TlsOptions {
    TlsOptions { verify: true, fail_if_no_peer_cert: true, ..folder.options() }
}

type Met = (Result<(), String>, Result<(), String>);

/// One node calls another by this name; what came of it for the caller and for the other. Each sends a byte and reads
/// one, since with TLS 1.3 a caller hears only then whether it was accepted.
fn call(caller: &NodeTls, name: &str, other: &NodeTls) -> Met {
    async fn greet(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
        stream.write_all(b"x").await?;
        stream.flush().await?;
        stream.read_u8().await.map_err(explained)?;
        Ok(())
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (called, answered) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let called = async { greet(caller.call(name, TcpStream::connect(at).await?).await?).await };
        let answered = async { greet(other.answer(listener.accept().await?.0).await?).await };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(called, answered) }).await.unwrap()
    });
    (called.map_err(|error| error.to_string()), answered.map_err(|error| error.to_string()))
}

#[track_caller]
fn says(result: Result<(), String>, part: &str) {
    let said = result.unwrap_err();
    assert!(said.contains(part), "{said}");
}

#[test]
fn nodes_with_certificates_of_one_authority_meet() {
    let ca = authority("ours");
    let (one, other) = (Folder::of(&ca), Folder::of(&ca));
    assert_eq!(call(&node(&mutual(&one)), "warren@localhost:25672", &node(&mutual(&other))), (Ok(()), Ok(())));
    let encrypts_only = |folder: &Folder| node(&folder.options());
    let stranger = Folder::of(&authority("theirs"));
    assert_eq!(call(&encrypts_only(&stranger), "warren@box", &encrypts_only(&other)), (Ok(()), Ok(())));
}

#[test]
fn a_node_of_another_authority_is_refused_and_both_sides_say_why() {
    let ours = Folder::of(&authority("ours"));
    // Names say nothing.
    for name in ["theirs", "ours"] {
        let theirs = Folder::of(&authority(name));
        let (called, answered) = call(&node(&mutual(&ours)), "warren@localhost", &node(&mutual(&theirs)));
        says(called, "its certificate leads to none in inter_node.ssl_options.cacertfile");
        says(answered, "it does not accept the certificate of this node");
        // The caller takes any certificate, the other does not.
        let (called, answered) = call(&node(&ours.options()), "warren@localhost", &node(&mutual(&theirs)));
        says(called, "it does not accept the certificate of this node");
        says(answered, "its certificate leads to none in inter_node.ssl_options.cacertfile");
    }
}

#[test]
fn a_certificate_must_be_for_the_host_that_is_called() {
    let ca = authority("ours");
    let (one, other) = (Folder::of(&ca), Folder::of(&ca));
    for name in ["warren@elsewhere", "warren@127.0.0.1", "warren@[::1]"] {
        let (called, answered) = call(&node(&mutual(&one)), name, &node(&mutual(&other)));
        says(called, "its certificate is not accepted: certificate not valid for name");
        says(answered, "it does not accept the certificate of this node (BadCertificate)");
    }
}

#[test]
fn a_node_that_speaks_no_tls_is_told_from_one_that_refuses() {
    let folder = Folder::of(&authority("ours"));
    let caller = node(&mutual(&folder));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for answer in ["", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let called = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let other = async {
                let (mut stream, _) = listener.accept().await?;
                assert!(begins_with_tls(&stream).await?);
                stream.write_all(answer.as_bytes()).await
            };
            let called = async { caller.call("warren@localhost", TcpStream::connect(at).await?).await };
            let (called, other) = tokio::join!(called, other);
            other.unwrap();
            called
        });
        let said = called.err().unwrap().to_string();
        assert!(said.contains("it speaks no TLS between nodes: inter_node.ssl_options"), "{said}");
    }
}

#[test]
fn without_tls_only_tools_of_the_own_host_are_taken() {
    let admitted = |from: &str, own: &str| {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 25672);
        Admitted::without_tls(at(from), at(own))
    };
    for (from, own) in [("127.0.0.1", "127.0.0.1"), ("127.3.2.1", "127.0.0.9"), ("::1", "::1")] {
        assert_eq!(admitted(from, own), Admitted::Tools);
    }
    assert_eq!(admitted("::ffff:127.0.0.1", "::ffff:127.0.0.1"), Admitted::Tools);
    assert_eq!(admitted("10.0.0.7", "::ffff:10.0.0.7"), Admitted::Tools);
    assert_eq!(admitted("10.0.0.8", "10.0.0.7"), Admitted::Nothing);
    assert_eq!(admitted("fd00::8", "fd00::7"), Admitted::Nothing);
    assert_eq!(Admitted::Tools.kinds(), [Kind::Control]);
    assert_eq!(Admitted::Nothing.kinds(), []);
}
