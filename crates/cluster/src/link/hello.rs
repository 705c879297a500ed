//! The first packet on a link: who one is and which versions of the packets one speaks.
//!
//! The handshake has proved that the other side knows the cookie. The hello says the rest, and
//! [`agree`] decides, at both ends alike, whether the two belong together and in which version they
//! talk. The layout of the hello outlives versions: later ones add fields at its end only, and what
//! stands beyond the fields known here is not read.

use std::cmp::Ordering;
use std::fmt;

use bytes::Buf;

use crate::handshake::{NAME_BYTES_MAX, is_printable};
use crate::metadata_log::NodeId;

/// Bytes of a hello before the name.
const HEAD_BYTES: usize = 2 + 2 + 4 * 8 + 1;

/// One life of a node: the number of times its process has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which cluster a node belongs to: a random number, drawn when the cluster was founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl ClusterId {
    /// Of a node that belongs to no cluster so far.
    pub const NONE: ClusterId = ClusterId(0);
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Rises when an operator makes one node the new beginning of its cluster. Nodes of an earlier
/// generation must join anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Versions of the packets that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Versions = Versions { min: 1, max: 1 };
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.min)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

/// What a node says of itself before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub versions: Versions,
    /// Its number in the metadata log.
    pub node: NodeId,
    /// Its name, `warren@box`.
    pub name: String,
    /// Which of its lives this is.
    pub incarnation: Incarnation,
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// Which beginning of that cluster it knows of.
    pub generation: Generation,
}

/// Why a packet is no hello.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It ends before all fields are there.
    #[error("hello of {0} bytes is too short")]
    TooShort(usize),
    /// The name is empty, no UTF-8, or has control characters.
    #[error("name in the hello is not readable")]
    UnreadableName,
    /// The oldest version is newer than the newest.
    #[error("hello with versions from {} to {}", .0.min, .0.max)]
    NoVersions(Versions),
}

impl Hello {
    /// The packet.
    ///
    /// # Panics
    /// When the name is empty or longer than [`NAME_BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let name = self.name.as_bytes();
        let name_bytes = u8::try_from(name.len()).ok().filter(|bytes| *bytes > 0);
        let name_bytes =
            name_bytes.unwrap_or_else(|| panic!("a name has 1 to {NAME_BYTES_MAX} bytes"));
        let mut packet = Vec::with_capacity(HEAD_BYTES + name.len());
        packet.extend_from_slice(&self.versions.min.to_le_bytes());
        packet.extend_from_slice(&self.versions.max.to_le_bytes());
        let numbers = [
            self.node.0,
            self.incarnation.0,
            self.cluster.0,
            self.generation.0,
        ];
        for number in numbers {
            packet.extend_from_slice(&number.to_le_bytes());
        }
        packet.push(name_bytes);
        packet.extend_from_slice(name);
        packet
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it is no hello.
    pub fn decode(packet: &[u8]) -> Result<Hello, HelloError> {
        let too_short = HelloError::TooShort(packet.len());
        let Some((mut head, rest)) = packet.split_at_checked(HEAD_BYTES) else {
            return Err(too_short);
        };
        let versions = Versions {
            min: head.get_u16_le(),
            max: head.get_u16_le(),
        };
        let node = NodeId(head.get_u64_le());
        let incarnation = Incarnation(head.get_u64_le());
        let cluster = ClusterId(head.get_u64_le());
        let generation = Generation(head.get_u64_le());
        let name = rest.get(..usize::from(head.get_u8())).ok_or(too_short)?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_printable(name));
        let name = name.ok_or(HelloError::UnreadableName)?.to_owned();
        if versions.min > versions.max {
            return Err(HelloError::NoVersions(versions));
        }
        Ok(Hello {
            versions,
            node,
            name,
            incarnation,
            cluster,
            generation,
        })
    }
}

/// How two nodes talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version of every packet after the hellos.
    pub version: u16,
    /// How their generation compares with ours: the side with the lesser one was left behind by a
    /// new beginning of the cluster and must join anew before it takes part. Equal if one of the
    /// two belongs to no cluster.
    pub generation: Ordering,
}

/// Why two nodes do not talk. The texts are for the log of the side that calls [`agree`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// No version that both speak.
    #[error(
        "this node speaks {ours} of the node link, {name} {theirs}; upgrade {}",
        older(*ours, *theirs, name)
    )]
    Versions {
        /// What this node speaks.
        ours: Versions,
        /// What the other speaks.
        theirs: Versions,
        /// The other.
        name: String,
    },
    /// The other belongs to another cluster.
    #[error(
        "{name} belongs to another cluster ({theirs}), this node to {ours}; one of the two must \
         be reset before it can join the other"
    )]
    OtherCluster {
        /// The cluster of this node.
        ours: ClusterId,
        /// The cluster of the other.
        theirs: ClusterId,
        /// The other.
        name: String,
    },
    /// The other has this node's number, for instance because it runs on a copy of its files.
    #[error(
        "{name} has the number of this node ({node}) in the same cluster; stop one of the two, \
         and reset it if it runs on copied files"
    )]
    SameNode {
        /// The number.
        node: NodeId,
        /// The other.
        name: String,
    },
}

fn older(ours: Versions, theirs: Versions, name: &str) -> String {
    if ours.max < theirs.max {
        "this node".to_owned()
    } else {
        name.to_owned()
    }
}

/// Whether two nodes belong together and how they talk. Both ends come to the same answer.
///
/// # Errors
/// When they must not talk.
pub fn agree(ours: &Hello, theirs: &Hello) -> Result<Agreed, Incompatible> {
    let version = ours.versions.max.min(theirs.versions.max);
    if version < ours.versions.min || version < theirs.versions.min {
        return Err(Incompatible::Versions {
            ours: ours.versions,
            theirs: theirs.versions,
            name: theirs.name.clone(),
        });
    }
    let mut generation = Ordering::Equal;
    if ours.cluster != ClusterId::NONE && theirs.cluster != ClusterId::NONE {
        if ours.cluster != theirs.cluster {
            return Err(Incompatible::OtherCluster {
                ours: ours.cluster,
                theirs: theirs.cluster,
                name: theirs.name.clone(),
            });
        }
        if ours.node == theirs.node {
            return Err(Incompatible::SameNode {
                node: theirs.node,
                name: theirs.name.clone(),
            });
        }
        generation = theirs.generation.cmp(&ours.generation);
    }
    Ok(Agreed {
        version,
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u64, name: &str) -> Hello {
        Hello {
            versions: Versions { min: 2, max: 4 },
            node: NodeId(node),
            name: name.to_owned(),
            incarnation: Incarnation(17),
            cluster: ClusterId(0xc1),
            generation: Generation(1),
        }
    }

    fn speaking(min: u16, max: u16) -> Hello {
        Hello {
            versions: Versions { min, max },
            ..hello(2, "warren@b")
        }
    }

    #[test]
    fn bytes_are_as_documented() {
        let bytes = hello(0x0102, "w@b").encode();
        let expected = [
            &[2, 0, 4, 0][..],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[17, 0, 0, 0, 0, 0, 0, 0],
            &[0xc1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[3],
            b"w@b",
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Hello::decode(&bytes), Ok(hello(0x0102, "w@b")));
    }

    #[test]
    fn fields_of_later_versions_are_not_read() {
        let mut bytes = hello(1, "warren@a").encode();
        bytes.extend_from_slice(b"more");
        assert_eq!(Hello::decode(&bytes), Ok(hello(1, "warren@a")));
    }

    #[test]
    fn what_is_no_hello_is_named() {
        let whole = hello(1, "warren@a").encode();
        for length in 0..whole.len() {
            assert_eq!(
                Hello::decode(&whole[..length]),
                Err(HelloError::TooShort(length))
            );
        }
        let mut bad_name = whole.clone();
        *bad_name.last_mut().unwrap() = 7;
        assert_eq!(Hello::decode(&bad_name), Err(HelloError::UnreadableName));
        let mut no_name = whole[..HEAD_BYTES].to_vec();
        no_name[HEAD_BYTES - 1] = 0;
        assert_eq!(Hello::decode(&no_name), Err(HelloError::UnreadableName));
        let error = Hello::decode(&speaking(5, 4).encode()).unwrap_err();
        assert_eq!(error.to_string(), "hello with versions from 5 to 4");
    }

    #[test]
    fn the_newest_common_version_is_used() {
        let ours = hello(1, "warren@a");
        let version = |theirs: &Hello| {
            let agreed = agree(&ours, theirs).ok().map(|agreed| agreed.version);
            assert_eq!(
                agree(theirs, &ours).ok().map(|agreed| agreed.version),
                agreed
            );
            agreed
        };
        assert_eq!(version(&speaking(1, 2)), Some(2));
        assert_eq!(version(&speaking(1, 9)), Some(4));
        assert_eq!(version(&speaking(4, 5)), Some(4));
        assert_eq!(version(&speaking(3, 3)), Some(3));
        assert_eq!(version(&speaking(1, 1)), None);
        assert_eq!(version(&speaking(5, 9)), None);
    }

    #[test]
    fn versions_apart_say_which_node_to_upgrade() {
        let ours = hello(1, "warren@a");
        assert_eq!(
            agree(&ours, &speaking(5, 5)).unwrap_err().to_string(),
            "this node speaks versions 2 to 4 of the node link, warren@b version 5; upgrade this node"
        );
        assert_eq!(
            agree(&speaking(5, 5), &ours).unwrap_err().to_string(),
            "this node speaks version 5 of the node link, warren@a versions 2 to 4; upgrade warren@a"
        );
    }

    #[test]
    fn clusters_do_not_mix_and_a_node_without_one_is_welcome() {
        let ours = hello(1, "warren@a");
        let stranger = Hello {
            cluster: ClusterId(0xc2),
            ..hello(1, "warren@b")
        };
        assert_eq!(
            agree(&ours, &stranger).unwrap_err().to_string(),
            "warren@b belongs to another cluster (00000000000000c2), this node to \
             00000000000000c1; one of the two must be reset before it can join the other"
        );
        let fresh = Hello {
            cluster: ClusterId::NONE,
            ..hello(1, "warren@b")
        };
        assert!(agree(&ours, &fresh).is_ok() && agree(&fresh, &ours).is_ok());
        assert_eq!(
            agree(&ours, &hello(1, "warren@b")).unwrap_err().to_string(),
            "warren@b has the number of this node (1) in the same cluster; stop one of the two, \
             and reset it if it runs on copied files"
        );
    }

    #[test]
    fn who_was_left_behind_by_a_new_beginning_is_told() {
        let ours = hello(1, "warren@a");
        let ahead = Hello {
            generation: Generation(2),
            ..hello(2, "warren@b")
        };
        assert_eq!(agree(&ours, &ahead).unwrap().generation, Ordering::Greater);
        assert_eq!(agree(&ahead, &ours).unwrap().generation, Ordering::Less);
        let joining = Hello {
            cluster: ClusterId::NONE,
            ..ahead
        };
        assert_eq!(agree(&ours, &joining).unwrap().generation, Ordering::Equal);
    }
}
