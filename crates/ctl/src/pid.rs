//! What stands for Erlang processes in lists: `<node.a.b.c>`, as an operator passes it back to
//! `close_connection`.
//!
//! The numbers are made from the names of things, so that one thing has the same pid in every list
//! and as long as it lives.

use crate::term::Term;

/// The pid of a connection.
pub(crate) fn connection(node: &str, name: &str) -> String {
    pid(node, &["connection", name], 0)
}

/// The pid of a channel, which lies beside its connection's.
pub(crate) fn channel(node: &str, connection: &str, number: u64) -> String {
    pid(node, &["connection", connection], number)
}

/// The pid of a queue, or of its copy on a node.
pub(crate) fn queue(node: &str, vhost: &str, name: &str) -> Term {
    Term::Pid(pid(node, &["queue", vhost, name], 0))
}

/// Whether a text has the form of a pid.
pub(crate) fn is_pid(text: &str) -> bool {
    let inner = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'));
    let numbers = inner.map(|inner| inner.rsplitn(4, '.').take(3).collect::<Vec<_>>());
    numbers.is_some_and(|numbers| {
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        numbers.len() == 3 && numbers.iter().all(is_number)
    })
}

fn pid(node: &str, parts: &[&str], last: u64) -> String {
    // FNV-1a, which is the same in every process.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("<{node}.{}.{}.{last}>", hash >> 32, hash & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_have_the_form_of_pids_and_differ() {
        let one = connection("w@127.0.0.1", "a -> b");
        assert!(is_pid(&one), "{one}");
        assert_ne!(one, connection("w@127.0.0.1", "a -> c"));
        assert!(channel("w@h", "a -> b", 7).ends_with(".7>"));
        assert!(is_pid("<probe@localhost.1795216455.2529.0>") && is_pid("<0.1.2>"));
        assert!(!is_pid("nosuch") && !is_pid("<a.b.c>") && !is_pid("1.2.3"));
    }
}
