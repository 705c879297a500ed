use bytes::BytesMut;

use super::*;

const NODE: &str = "warren@box";
const TOOL: &str = "warrenctl-17@box";

fn cookie(text: &str) -> Cookie {
    Cookie::new(text.as_bytes()).unwrap()
}

/// Two ends joined by a wire that hands over `chunk` bytes at a time.
struct Pair {
    initiator: Initiator,
    acceptor: Acceptor,
    to_acceptor: Vec<u8>,
    to_initiator: Vec<u8>,
}

type Verdicts = (
    Result<Option<Peer>, HandshakeError>,
    Result<Option<Peer>, HandshakeError>,
);

impl Pair {
    fn new(initiator_cookie: &str, acceptor_cookie: &str) -> Pair {
        let mut to_acceptor = Vec::new();
        let initiator = Initiator::new(
            Kind::Control,
            TOOL,
            Some(NODE),
            cookie(initiator_cookie),
            [1; 32],
            &mut to_acceptor,
        );
        let acceptor = Acceptor::new(NODE, cookie(acceptor_cookie), [2; 32]);
        Pair {
            initiator,
            acceptor,
            to_acceptor,
            to_initiator: Vec::new(),
        }
    }

    /// Runs until nothing moves any more.
    fn run(mut self, chunk: usize) -> Verdicts {
        let (mut at_acceptor, mut at_initiator) = (BytesMut::new(), BytesMut::new());
        let (mut of_initiator, mut of_acceptor) = (Ok(None), Ok(None));
        loop {
            let up = drain(&mut self.to_acceptor, chunk);
            let down = drain(&mut self.to_initiator, chunk);
            if up.is_empty() && down.is_empty() {
                return (of_initiator, of_acceptor);
            }
            at_acceptor.extend_from_slice(&up);
            at_initiator.extend_from_slice(&down);
            if matches!(of_acceptor, Ok(None)) {
                of_acceptor = self
                    .acceptor
                    .receive(&mut at_acceptor, &mut self.to_initiator);
            }
            if matches!(of_initiator, Ok(None)) {
                of_initiator = self
                    .initiator
                    .receive(&mut at_initiator, &mut self.to_acceptor);
            }
        }
    }
}

fn drain(wire: &mut Vec<u8>, chunk: usize) -> Vec<u8> {
    let count = wire.len().min(chunk);
    wire.drain(..count).collect()
}

/// Plays a byte string to a fresh acceptor.
fn accept(bytes: &[u8]) -> (Result<Option<Peer>, HandshakeError>, Vec<u8>) {
    let mut acceptor = Acceptor::new(NODE, cookie("secret"), [2; 32]);
    let mut output = Vec::new();
    let verdict = acceptor.receive(&mut BytesMut::from(bytes), &mut output);
    (verdict, output)
}

#[test]
fn both_sides_learn_the_other_however_the_bytes_are_cut() {
    for chunk in [1, 2, 7, 33, 1000] {
        let (initiator, acceptor) = Pair::new("secret", "secret").run(chunk);
        assert_eq!(
            initiator,
            Ok(Some(Peer {
                kind: Kind::Control,
                name: NODE.to_owned()
            }))
        );
        assert_eq!(
            acceptor,
            Ok(Some(Peer {
                kind: Kind::Control,
                name: TOOL.to_owned()
            }))
        );
    }
}

#[test]
fn another_cookie_is_refused_and_both_sides_say_so() {
    let (initiator, acceptor) = Pair::new("guess", "secret").run(1000);
    assert_eq!(
        initiator,
        Err(HandshakeError::Refused(Refusal::WrongCookie))
    );
    assert_eq!(acceptor, Err(HandshakeError::WrongCookie(TOOL.to_owned())));
}

#[test]
fn a_kind_that_comes_by_tls_only_is_told_so_before_anything_is_proved() {
    let mut pair = Pair::new("secret", "secret");
    pair.acceptor = pair.acceptor.taking(&[Kind::NodeLink]);
    let (initiator, acceptor) = pair.run(1000);
    assert_eq!(initiator, Err(HandshakeError::Refused(Refusal::WantsTls)));
    assert_eq!(acceptor, Err(HandshakeError::WithoutTls(TOOL.to_owned())));
    let mut pair = Pair::new("secret", "secret");
    pair.acceptor = pair.acceptor.taking(&[Kind::Control]);
    let (initiator, acceptor) = pair.run(1000);
    assert!(matches!((initiator, acceptor), (Ok(Some(_)), Ok(Some(_)))));
}

#[test]
fn the_acceptor_proves_nothing_before_the_initiator_has() {
    let mut hello = Vec::new();
    let _ = Initiator::new(
        Kind::NodeLink,
        "evil@x",
        None,
        cookie("?"),
        [9; 32],
        &mut hello,
    );
    let (verdict, output) = accept(&hello);
    assert_eq!(verdict, Ok(None));
    assert_eq!(output.len(), HELLO_HEAD_BYTES + NODE.len());
    hello.extend_from_slice(&[0; 32]);
    let (verdict, output) = accept(&hello);
    assert_eq!(
        verdict,
        Err(HandshakeError::WrongCookie("evil@x".to_owned()))
    );
    assert_eq!(
        output.len(),
        HELLO_HEAD_BYTES + NODE.len() + 1,
        "a hello and a code, no proof"
    );
}

/// An attacker without the cookie accepts a connection that a node makes to it, and answers the node
/// with what the node itself has just said.
#[test]
fn a_proof_sent_back_to_its_maker_is_worthless() {
    let mut hello = Vec::new();
    let mut victim = Initiator::new(
        Kind::NodeLink,
        "a@x",
        None,
        cookie("secret"),
        [1; 32],
        &mut hello,
    );
    let mut proof = Vec::new();
    assert_eq!(
        victim.receive(&mut BytesMut::from(&hello[..]), &mut proof),
        Ok(None)
    );
    assert_eq!(proof.len(), PROOF_BYTES);
    let mut echo = BytesMut::from(&[0][..]);
    echo.extend_from_slice(&proof);
    assert_eq!(
        victim.receive(&mut echo, &mut Vec::new()),
        Err(HandshakeError::WrongCookie("a@x".to_owned()))
    );
}

/// An attacker connects to a node that at the same time connects to the attacker, and uses the
/// node's own nonce and proof against it.
#[test]
fn a_proof_made_for_another_direction_is_worthless() {
    let (mut to_attacker, mut proof) = (Vec::new(), Vec::new());
    let mut victim = Initiator::new(
        Kind::NodeLink,
        NODE,
        None,
        cookie("secret"),
        [1; 32],
        &mut to_attacker,
    );
    let mut acceptor = Acceptor::new(NODE, cookie("secret"), [2; 32]);
    let mut challenge = Vec::new();
    let mut input = BytesMut::from(&to_attacker[..]);
    assert_eq!(acceptor.receive(&mut input, &mut challenge), Ok(None));
    // The same hellos on both connections, in the same roles: only a relay gets this far.
    assert_eq!(
        victim.receive(&mut BytesMut::from(&challenge[..]), &mut proof),
        Ok(None)
    );
    // As the answer of an acceptor, the initiator's proof does not pass.
    let mut answer = BytesMut::from(&[0][..]);
    answer.extend_from_slice(&proof);
    let refused = Err(HandshakeError::WrongCookie(NODE.to_owned()));
    assert_eq!(victim.receive(&mut answer, &mut Vec::new()), refused);
}

#[test]
fn a_recorded_proof_does_not_open_another_connection() {
    let mut pair = Pair::new("secret", "secret");
    let hello = pair.to_acceptor.clone();
    let mut answer = Vec::new();
    pair.acceptor
        .receive(&mut BytesMut::from(&hello[..]), &mut answer)
        .unwrap();
    let mut proof = Vec::new();
    pair.initiator
        .receive(&mut BytesMut::from(&answer[..]), &mut proof)
        .unwrap();
    let replay = |nonce: Nonce| {
        let mut acceptor = Acceptor::new(NODE, cookie("secret"), nonce);
        let mut input = BytesMut::from(&hello[..]);
        input.extend_from_slice(&proof);
        acceptor.receive(&mut input, &mut Vec::new())
    };
    assert!(
        matches!(replay([2; 32]), Ok(Some(_))),
        "the recording is good as such"
    );
    assert_eq!(
        replay([3; 32]),
        Err(HandshakeError::WrongCookie(TOOL.to_owned()))
    );
}

#[test]
fn every_byte_of_both_hellos_is_covered_by_the_proofs() {
    let mut hello = Vec::new();
    let _ = Initiator::new(
        Kind::Control,
        TOOL,
        None,
        cookie("secret"),
        [1; 32],
        &mut hello,
    );
    // Kind, nonce and name, as a man in the middle may change them without breaking the form.
    for position in [
        MAGIC.len(),
        MAGIC.len() + 1,
        HELLO_HEAD_BYTES - 2,
        hello.len() - 1,
    ] {
        let mut pair = Pair::new("secret", "secret");
        pair.to_acceptor[position] ^= 3;
        let (_, acceptor) = pair.run(1000);
        assert!(
            !matches!(acceptor, Ok(Some(_))),
            "byte {position} could be changed"
        );
    }
}

#[test]
fn an_unexpected_node_gets_no_proof() {
    let mut to_acceptor = Vec::new();
    let expect = Some("hare@box:25673");
    let mut initiator = Initiator::new(
        Kind::Control,
        TOOL,
        expect,
        cookie("secret"),
        [1; 32],
        &mut to_acceptor,
    );
    let (_, hello) = accept(&to_acceptor);
    let mut output = Vec::new();
    assert_eq!(
        initiator.receive(&mut BytesMut::from(&hello[..]), &mut output),
        Err(HandshakeError::OtherNode {
            found: NODE.to_owned()
        })
    );
    assert!(output.is_empty());
}

#[test]
fn ports_do_not_make_another_node() {
    assert!(is_same_node("warren@box", "warren@box:25673"));
    assert!(is_same_node("w@[::1]:9", "w@[::1]"));
    assert!(!is_same_node("w@[::1]", "w@[::2]"));
    assert!(!is_same_node("w@box", "w@box1"));
}

#[test]
fn other_programs_are_told_apart_at_once() {
    assert_eq!(
        accept(b"GET / HTTP/1.1\r\n").0,
        Err(HandshakeError::NotWarren)
    );
    assert_eq!(accept(b"W").0, Ok(None));
    let (verdict, output) = accept(b"WARREN\x02");
    assert_eq!(
        (verdict, output),
        (Err(HandshakeError::UnknownVersion(2)), vec![2])
    );
    let (verdict, output) = accept(b"WARREN\x01\x09");
    assert_eq!(
        (verdict, output),
        (Err(HandshakeError::UnknownKind(9)), vec![3])
    );
    // The name must not carry control characters into a log.
    let mut hello = b"WARREN\x01\x01".to_vec();
    hello.extend_from_slice(&[0; 32]);
    hello.extend_from_slice(b"\x02a\n");
    assert_eq!(accept(&hello).0, Err(HandshakeError::NotWarren));
}

#[test]
fn the_initiator_understands_a_refused_hello() {
    let mut initiator = Initiator::new(
        Kind::NodeLink,
        TOOL,
        None,
        cookie("secret"),
        [1; 32],
        &mut Vec::new(),
    );
    assert_eq!(
        initiator.receive(&mut BytesMut::from(&[3][..]), &mut Vec::new()),
        Err(HandshakeError::Refused(Refusal::UnknownKind))
    );
    let mut initiator = Initiator::new(
        Kind::NodeLink,
        TOOL,
        None,
        cookie("secret"),
        [1; 32],
        &mut Vec::new(),
    );
    let mut http = BytesMut::from(&b"HTTP/1.1 400"[..]);
    assert_eq!(
        initiator.receive(&mut http, &mut Vec::new()),
        Err(HandshakeError::NotWarren)
    );
}

#[test]
fn an_acceptor_hears_nothing_before_its_own_proof() {
    let mut hello = Vec::new();
    let _ = Initiator::new(
        Kind::Control,
        TOOL,
        None,
        cookie("secret"),
        [1; 32],
        &mut hello,
    );
    hello.extend_from_slice(&[0; 32]);
    hello.extend_from_slice(b"GET /api/overview");
    assert_eq!(accept(&hello).0, Err(HandshakeError::EarlyBytes));
}

#[test]
fn white_space_around_a_cookie_does_not_count_and_nothing_is_no_cookie() {
    assert_eq!(cookie("secret\n"), cookie("  secret"));
    assert_eq!(Cookie::new(b" \n"), None);
    assert!(!format!("{:?}", cookie("secret")).contains("secret"));
}
