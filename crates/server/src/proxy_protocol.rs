//! The PROXY protocol, versions 1 and 2: who the client behind a proxy is.
//!
//! With `proxy_protocol = true` each AMQP connection begins with a header from the proxy, before TLS. What
//! follows it is the client's. The header is read byte by byte up to its end, so that nothing of the client is
//! taken. A connection without a good header is closed: its sender is not the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Both ends as the client sees them; `None` where the proxy speaks for itself (health checks).
pub(crate) type Ends = Option<(SocketAddr, SocketAddr)>;

/// Why a header was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadHeader {
    #[error("the connection ended within the PROXY header: {0}")]
    Io(#[from] std::io::Error),
    #[error("it does not begin with a PROXY header; set proxy_protocol = false for clients without a proxy")]
    Missing,
    #[error("its PROXY header is malformed")]
    Malformed,
}

/// What version 2 begins with; version 1 begins with `PROXY `.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
/// The longest rest of version 2 that is read; addresses take 36 bytes, what follows is skipped.
const REST_BYTES_MAX: usize = 4096;

/// Reads the header.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Ends, BadHeader> {
    let mut start = [0; 6];
    stream.read_exact(&mut start).await?;
    if start == *b"PROXY " {
        return parse_line(&read_line(stream).await?);
    }
    if start != SIGNATURE[..6] {
        return Err(BadHeader::Missing);
    }
    let mut rest = [0; 10];
    stream.read_exact(&mut rest).await?;
    if rest[..6] != SIGNATURE[6..] {
        return Err(BadHeader::Missing);
    }
    let (version_and_command, family) = (rest[6], rest[7]);
    let length = usize::from(u16::from_be_bytes([rest[8], rest[9]]));
    if length > REST_BYTES_MAX {
        return Err(BadHeader::Malformed);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    parse_binary(version_and_command, family, &body)
}

/// The rest of a line of version 1, without its end.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, BadHeader> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        line.push(stream.read_u8().await?);
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            return Ok(line);
        }
    }
    Err(BadHeader::Malformed)
}

/// `TCP4 192.0.2.1 192.0.2.2 50000 5672`, or `UNKNOWN` and anything.
fn parse_line(line: &[u8]) -> Result<Ends, BadHeader> {
    let line = std::str::from_utf8(line).map_err(|_| BadHeader::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let is_v4 = match words[0] {
        "UNKNOWN" => return Ok(None),
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(BadHeader::Malformed),
    };
    let [_, source, destination, source_port, destination_port] = words[..] else { return Err(BadHeader::Malformed) };
    let end = |ip: &str, port: &str| -> Result<SocketAddr, BadHeader> {
        let ip: IpAddr = ip.parse().map_err(|_| BadHeader::Malformed)?;
        let port: u16 = port.parse().map_err(|_| BadHeader::Malformed)?;
        if ip.is_ipv4() == is_v4 { Ok(SocketAddr::new(ip, port)) } else { Err(BadHeader::Malformed) }
    };
    Ok(Some((end(source, source_port)?, end(destination, destination_port)?)))
}

fn parse_binary(version_and_command: u8, family: u8, body: &[u8]) -> Result<Ends, BadHeader> {
    match version_and_command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(BadHeader::Malformed),
    }
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match family {
        0x11 if body.len() >= 12 => {
            let ip = |at: usize| IpAddr::V4(Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]));
            Ok(Some((SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10)))))
        }
        0x21 if body.len() >= 36 => {
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            Ok(Some((SocketAddr::new(ip(0), port(32)), SocketAddr::new(ip(16), port(34)))))
        }
        0x11 | 0x21 => Err(BadHeader::Malformed),
        // Sockets without addresses that mean something here.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the header says, and what is left for the client.
    fn read_all(bytes: &[u8]) -> (Result<Ends, String>, usize) {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ends = runtime.block_on(read(&mut rest)).map_err(|error| error.to_string());
        (ends, rest.len())
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body, b"AMQP"].concat()
    }

    fn ends(source: &str, destination: &str) -> Ends {
        Some((source.parse().expect("an address"), destination.parse().expect("an address")))
    }

    #[test]
    fn both_versions_name_both_ends_and_leave_the_rest() {
        let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0xC3, 0x50, 0x16, 0x28], b"more"].concat();
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xC3, 0x50, 0x16, 0x28];
        let cases = [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 5672\r\nAMQP".to_vec(), ends("192.0.2.1:50000", "192.0.2.2:5672")),
            (b"PROXY TCP6 ::1 ::2 50000 5672\r\nAMQP".to_vec(), ends("[::1]:50000", "[::2]:5672")),
            (b"PROXY UNKNOWN whatever\r\nAMQP".to_vec(), None),
            (binary(0x21, 0x11, &v4), ends("192.0.2.1:50000", "192.0.2.2:5672")),
            (binary(0x21, 0x21, &v6), ends("[::1]:50000", "[::2]:5672")),
            (binary(0x20, 0x00, b""), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read_all(&bytes), (Ok(expected), 4), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200], b"\r\n"].concat();
        for bytes in [
            &b"AMQP\0\0\x09\x01"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 50000\r\n",
            b"PROXY TCP4 ::1 ::2 50000 5672\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 99999\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 50000 5672\r\n",
            b"PROXY TCP4 192.0.2.1",
            &long,
            &binary(0x11, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(read_all(bytes).0.is_err(), "{}", bytes.escape_ascii());
        }
    }
}
