//! Class connection, 10. Opening, tuning and closing a connection.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::field::Table;
use crate::short_str::ShortStr;

class! {
    /// The server's first word: who it is and how one may log in.
    Start = (10, 10) "connection.start" {
        /// Always 0.
        version_major: u8,
        /// Always 9.
        version_minor: u8,
        /// Product, version, capabilities.
        server_properties: Table,
        /// Names of login mechanisms, with spaces between them.
        mechanisms: Vec<u8>,
        /// Names of locales, with spaces between them.
        locales: Vec<u8>,
    }

    /// The client's choice and its credentials.
    StartOk = (10, 11) "connection.start-ok" {
        /// Product, version, capabilities, connection name.
        client_properties: Table,
        /// The chosen login mechanism.
        mechanism: ShortStr,
        /// Credentials in the form of the mechanism.
        response: Vec<u8>,
        /// The chosen locale.
        locale: ShortStr,
    }

    /// A further question of the login mechanism.
    Secure = (10, 20) "connection.secure" {
        /// The question.
        challenge: Vec<u8>,
    }

    /// The answer to `secure`.
    SecureOk = (10, 21) "connection.secure-ok" {
        /// The answer.
        response: Vec<u8>,
    }

    /// The limits the server proposes.
    Tune = (10, 30) "connection.tune" {
        /// Highest channel number; 0 is no limit.
        channel_max: u16,
        /// Largest frame in bytes, overhead included; 0 is no limit.
        frame_max: u32,
        /// Seconds between signs of life; 0 is none.
        heartbeat: u16,
    }

    /// The limits the client settles on.
    TuneOk = (10, 31) "connection.tune-ok" {
        /// Highest channel number; 0 is no limit.
        channel_max: u16,
        /// Largest frame in bytes, overhead included; 0 is no limit.
        frame_max: u32,
        /// Seconds between signs of life; 0 is none.
        heartbeat: u16,
    }

    /// Enters a virtual host.
    Open = (10, 40) "connection.open" {
        /// Its name.
        virtual_host: ShortStr,
    } [ShortStr, bool]

    /// The virtual host is entered.
    OpenOk = (10, 41) "connection.open-ok" {} [ShortStr]

    /// Ends the connection; either side may send it.
    Close = (10, 50) "connection.close" {
        /// Why, as a number.
        reply_code: u16,
        /// Why, in words.
        reply_text: ShortStr,
        /// Class of the method at fault, or 0.
        class_id: u16,
        /// Method at fault, or 0.
        method_id: u16,
    }

    /// The answer to `close`, and the last frame of a connection.
    CloseOk = (10, 51) "connection.close-ok" {}

    /// RabbitMQ: the server has stopped reading from publishers.
    Blocked = (10, 60) "connection.blocked" {
        /// What has run low.
        reason: ShortStr,
    }

    /// RabbitMQ: the server reads again.
    Unblocked = (10, 61) "connection.unblocked" {}

    /// RabbitMQ: new credentials for a running connection.
    UpdateSecret = (10, 70) "connection.update-secret" {
        /// The credentials.
        new_secret: Vec<u8>,
        /// Why they are renewed.
        reason: ShortStr,
    }

    /// The new credentials are taken.
    UpdateSecretOk = (10, 71) "connection.update-secret-ok" {}
}
