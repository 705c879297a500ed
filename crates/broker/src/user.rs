//! Users and their passwords.
//!
//! A password is kept as RabbitMQ keeps it: 4 bytes of salt, then the digest of salt and password, so
//! that definitions move between the two. Digests are compared in constant time, and a login for an
//! unknown user costs the same digest as one for a known user. Salts are drawn by the caller.

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::id::Name;

/// The algorithm of new hashes.
pub const DEFAULT_HASHING: &str = "rabbit_password_hashing_sha256";

const SALT_LEN: usize = 4;

/// A user of the internal database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub name: Name,
    /// 4 bytes of salt and the digest of salt and password; empty when no password opens the account.
    pub password_hash: Vec<u8>,
    pub hashing_algorithm: Name,
    pub tags: Vec<Name>,
    pub limits: UserLimits,
}

/// Limits of a user; `None` means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserLimits {
    pub max_connections: Option<u64>,
    pub max_channels: Option<u64>,
}

/// How a digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    Sha256,
    Sha512,
    Md5,
}

impl Hashing {
    /// Finds an algorithm by RabbitMQ's name for it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Hashing> {
        match name {
            "rabbit_password_hashing_sha256" => Some(Hashing::Sha256),
            "rabbit_password_hashing_sha512" => Some(Hashing::Sha512),
            "rabbit_password_hashing_md5" => Some(Hashing::Md5),
            _ => None,
        }
    }

    /// RabbitMQ's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Hashing::Sha256 => "rabbit_password_hashing_sha256",
            Hashing::Sha512 => "rabbit_password_hashing_sha512",
            Hashing::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// Salt and digest, as they are stored. The salt must be random.
    #[must_use]
    pub fn hash(self, salt: [u8; SALT_LEN], password: &[u8]) -> Vec<u8> {
        let mut hash = salt.to_vec();
        match self {
            Hashing::Sha256 => hash.extend_from_slice(&digest::<Sha256>(&salt, password)),
            Hashing::Sha512 => hash.extend_from_slice(&digest::<Sha512>(&salt, password)),
            Hashing::Md5 => hash.extend_from_slice(&digest::<Md5>(&salt, password)),
        }
        hash
    }
}

fn digest<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
    D::new()
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .to_vec()
}

impl User {
    /// Whether `password` opens the account. An empty password never does.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let hashing = Hashing::by_name(&self.hashing_algorithm).unwrap_or(Hashing::Sha256);
        verify_hash(&self.password_hash, hashing, password)
    }

    /// Whether the user carries a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| &**t == tag)
    }

    /// May do everything in the management API.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.has_tag("administrator")
    }

    /// May see connections, channels and nodes of everybody.
    #[must_use]
    pub fn is_monitoring(&self) -> bool {
        self.is_administrator() || self.has_tag("monitoring")
    }

    /// May set policies and parameters where it has access.
    #[must_use]
    pub fn is_policymaker(&self) -> bool {
        self.is_administrator() || self.has_tag("policymaker")
    }

    /// May use the management API at all.
    #[must_use]
    pub fn is_management(&self) -> bool {
        self.is_monitoring() || self.is_policymaker() || self.has_tag("management")
    }

    /// May publish with any `user-id`.
    #[must_use]
    pub fn is_impersonator(&self) -> bool {
        self.has_tag("impersonator")
    }
}

/// Whether `password` opens the account of `user`; takes as long when there is no such user.
#[must_use]
pub fn authenticate(user: Option<&User>, password: &[u8]) -> bool {
    match user {
        Some(user) => user.verify(password),
        None => {
            // The stored digest is one that no password has: it is too short.
            let _ = verify_hash(&[0; SALT_LEN + 1], Hashing::Sha256, password);
            false
        }
    }
}

fn verify_hash(stored: &[u8], hashing: Hashing, password: &[u8]) -> bool {
    let Some((salt, _)) = stored.split_first_chunk::<SALT_LEN>() else {
        return false;
    };
    let right = hashing.hash(*salt, password);
    !password.is_empty() && bool::from(right.as_slice().ct_eq(stored))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn user(hash: Vec<u8>, algorithm: &str, tags: &[&str]) -> User {
        User {
            name: "alice".into(),
            password_hash: hash,
            hashing_algorithm: algorithm.into(),
            tags: tags.iter().map(|t| Name::from(*t)).collect(),
            limits: UserLimits::default(),
        }
    }

    #[test]
    fn opens_what_rabbitmq_hashed() {
        // The example of RabbitMQ's documentation: salt 908DC60A, password "test12".
        let hash = STANDARD
            .decode("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")
            .unwrap();
        let alice = user(hash, "rabbit_password_hashing_sha256", &[]);
        assert!(alice.verify(b"test12"));
        assert!(!alice.verify(b"test13"));
        assert!(!alice.verify(b""));
    }

    #[test]
    fn verifies_what_it_hashed_with_each_algorithm() {
        for hashing in [Hashing::Sha256, Hashing::Sha512, Hashing::Md5] {
            let hash = hashing.hash([1, 2, 3, 4], b"secret");
            assert_eq!(&hash[..4], &[1, 2, 3, 4]);
            assert_eq!(Hashing::by_name(hashing.name()), Some(hashing));
            let alice = user(hash, hashing.name(), &[]);
            assert!(alice.verify(b"secret"), "{hashing:?}");
            assert!(!alice.verify(b"Secret"), "{hashing:?}");
        }
    }

    #[test]
    fn no_password_opens_an_account_without_a_hash_or_with_the_empty_one() {
        assert!(!user(Vec::new(), DEFAULT_HASHING, &[]).verify(b""));
        assert!(!user(Vec::new(), DEFAULT_HASHING, &[]).verify(b"x"));
        let blank = Hashing::Sha256.hash([0; 4], b"");
        assert!(!user(blank, DEFAULT_HASHING, &[]).verify(b""));
        assert!(!authenticate(None, b"x"));
    }

    #[test]
    fn tags_include_lesser_tags() {
        // tag, administrator, monitoring, policymaker, management
        let cases = [
            ("administrator", true, true, true, true),
            ("monitoring", false, true, false, true),
            ("policymaker", false, false, true, true),
            ("management", false, false, false, true),
            ("impersonator", false, false, false, false),
            ("custom", false, false, false, false),
        ];
        for (tag, administrator, monitoring, policymaker, management) in cases {
            let user = user(Vec::new(), DEFAULT_HASHING, &[tag]);
            assert_eq!(user.is_administrator(), administrator, "{tag}");
            assert_eq!(user.is_monitoring(), monitoring, "{tag}");
            assert_eq!(user.is_policymaker(), policymaker, "{tag}");
            assert_eq!(user.is_management(), management, "{tag}");
            assert_eq!(user.is_impersonator(), tag == "impersonator");
        }
    }
}
