//! Methods: every class and method of AMQP 0-9-1 with RabbitMQ's extensions, in both directions.
//!
//! One struct per method stands in the module of its class; [`Method`] is one of them all. The
//! arguments are declared once, in the order they travel, and both directions are derived from
//! that. Arguments that the protocol reserves are written as zeros and read over.
//!
//! Invariant: `Method::decode` accepts what `encode` writes, and gives the same method back.

use crate::error::ConnectionError;
use crate::frame::{FRAME_METHOD, frame_error};
use crate::wire::{ArgumentReader, ArgumentWriter, Malformed};

/// Declares the methods of one class: id, name, `+ content` if a content follows, and arguments.
/// Brackets in front of and behind the arguments hold the types of reserved ones.
macro_rules! class {
    ($(
        $(#[$doc:meta])*
        $name:ident = ($class:literal, $method:literal) $text:literal
        $(+ $content:ident)? $([$($front:ty),*])? {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
        } $([$($back:ty),*])?
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::method::Arguments for $name {
            const ID: (u16, u16) = ($class, $method);
            const NAME: &'static str = $text;
            const HAS_CONTENT: bool = [$(stringify!($content),)? ""].len() == 2;

            fn read(
                reader: &mut $crate::wire::ArgumentReader<'_>,
            ) -> Result<$name, $crate::wire::Malformed> {
                let _ = &reader;
                $($(<$front as $crate::wire::Argument>::read(reader)?;)*)?
                $(let $field = <$type as $crate::wire::Argument>::read(reader)?;)*
                $($(<$back as $crate::wire::Argument>::read(reader)?;)*)?
                Ok($name { $($field,)* })
            }

            fn write(&self, writer: &mut $crate::wire::ArgumentWriter<'_>) {
                let _ = &writer;
                $($($crate::wire::Argument::write(&<$front>::default(), writer);)*)?
                $($crate::wire::Argument::write(&self.$field, writer);)*
                $($($crate::wire::Argument::write(&<$back>::default(), writer);)*)?
            }

            #[cfg(test)]
            fn random(rng: &mut stdx::Rng) -> $name {
                let _ = &rng;
                $name { $($field: $crate::testing::Random::random(rng),)* }
            }
        }
    )*};
}

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

/// What every struct of a method has.
pub(crate) trait Arguments: Sized {
    const ID: (u16, u16);
    const NAME: &'static str;
    const HAS_CONTENT: bool;

    fn read(reader: &mut ArgumentReader<'_>) -> Result<Self, Malformed>;
    fn write(&self, writer: &mut ArgumentWriter<'_>);

    #[cfg(test)]
    fn random(rng: &mut stdx::Rng) -> Self;
}

macro_rules! methods {
    ($($variant:ident($class:ident::$name:ident),)*) => {
        /// Any method, with its arguments.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Method {
            $(
                #[doc = concat!("[`", stringify!($class), "::", stringify!($name), "`]")]
                $variant($class::$name),
            )*
        }

        impl Method {
            /// Gives class and method id.
            #[must_use]
            pub const fn id(&self) -> (u16, u16) {
                match self {
                    $(Method::$variant(_) => <$class::$name as Arguments>::ID,)*
                }
            }

            /// Gives the name, such as `basic.publish`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Method::$variant(_) => <$class::$name as Arguments>::NAME,)*
                }
            }

            /// Says whether a content header follows.
            #[must_use]
            pub const fn has_content(&self) -> bool {
                match self {
                    $(Method::$variant(_) => <$class::$name as Arguments>::HAS_CONTENT,)*
                }
            }

            fn read(id: (u16, u16), arguments: &[u8]) -> Result<Method, ConnectionError> {
                match id {
                    $(<$class::$name as Arguments>::ID => {
                        Ok(Method::$variant(read_all(arguments)?))
                    })*
                    _ => Err(unknown(id)),
                }
            }

            fn write(&self, writer: &mut ArgumentWriter<'_>) {
                match self {
                    $(Method::$variant(method) => method.write(writer),)*
                }
            }

            /// Gives the name that belongs to an id, if there is such a method.
            #[must_use]
            pub const fn name_of(id: (u16, u16)) -> Option<&'static str> {
                match id {
                    $(<$class::$name as Arguments>::ID => {
                        Some(<$class::$name as Arguments>::NAME)
                    })*
                    _ => None,
                }
            }

            /// One method of each kind, with random arguments.
            #[cfg(test)]
            pub(crate) fn random_of_each(rng: &mut stdx::Rng) -> Vec<Method> {
                vec![$(Method::$variant(Arguments::random(rng)),)*]
            }
        }

        $(
            impl From<$class::$name> for Method {
                fn from(method: $class::$name) -> Method {
                    Method::$variant(method)
                }
            }
        )*
    };
}

methods! {
    ConnectionStart(connection::Start),
    ConnectionStartOk(connection::StartOk),
    ConnectionSecure(connection::Secure),
    ConnectionSecureOk(connection::SecureOk),
    ConnectionTune(connection::Tune),
    ConnectionTuneOk(connection::TuneOk),
    ConnectionOpen(connection::Open),
    ConnectionOpenOk(connection::OpenOk),
    ConnectionClose(connection::Close),
    ConnectionCloseOk(connection::CloseOk),
    ConnectionBlocked(connection::Blocked),
    ConnectionUnblocked(connection::Unblocked),
    ConnectionUpdateSecret(connection::UpdateSecret),
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ChannelOpen(channel::Open),
    ChannelOpenOk(channel::OpenOk),
    ChannelFlow(channel::Flow),
    ChannelFlowOk(channel::FlowOk),
    ChannelClose(channel::Close),
    ChannelCloseOk(channel::CloseOk),
    AccessRequest(access::Request),
    AccessRequestOk(access::RequestOk),
    ExchangeDeclare(exchange::Declare),
    ExchangeDeclareOk(exchange::DeclareOk),
    ExchangeDelete(exchange::Delete),
    ExchangeDeleteOk(exchange::DeleteOk),
    ExchangeBind(exchange::Bind),
    ExchangeBindOk(exchange::BindOk),
    ExchangeUnbind(exchange::Unbind),
    ExchangeUnbindOk(exchange::UnbindOk),
    QueueDeclare(queue::Declare),
    QueueDeclareOk(queue::DeclareOk),
    QueueBind(queue::Bind),
    QueueBindOk(queue::BindOk),
    QueuePurge(queue::Purge),
    QueuePurgeOk(queue::PurgeOk),
    QueueDelete(queue::Delete),
    QueueDeleteOk(queue::DeleteOk),
    QueueUnbind(queue::Unbind),
    QueueUnbindOk(queue::UnbindOk),
    BasicQos(basic::Qos),
    BasicQosOk(basic::QosOk),
    BasicConsume(basic::Consume),
    BasicConsumeOk(basic::ConsumeOk),
    BasicCancel(basic::Cancel),
    BasicCancelOk(basic::CancelOk),
    BasicPublish(basic::Publish),
    BasicReturn(basic::Return),
    BasicDeliver(basic::Deliver),
    BasicGet(basic::Get),
    BasicGetOk(basic::GetOk),
    BasicGetEmpty(basic::GetEmpty),
    BasicAck(basic::Ack),
    BasicReject(basic::Reject),
    BasicRecoverAsync(basic::RecoverAsync),
    BasicRecover(basic::Recover),
    BasicRecoverOk(basic::RecoverOk),
    BasicNack(basic::Nack),
    ConfirmSelect(confirm::Select),
    ConfirmSelectOk(confirm::SelectOk),
    TxSelect(tx::Select),
    TxSelectOk(tx::SelectOk),
    TxCommit(tx::Commit),
    TxCommitOk(tx::CommitOk),
    TxRollback(tx::Rollback),
    TxRollbackOk(tx::RollbackOk),
}

impl Method {
    /// Reads the payload of a method frame.
    ///
    /// # Errors
    /// 503 for an unknown class or method, 502 for arguments that are cut, malformed or followed by
    /// more bytes, 501 for a payload too short to name a method, and for names that are not UTF-8.
    pub fn decode(payload: &[u8]) -> Result<Method, ConnectionError> {
        let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk() else {
            return Err(frame_error(FRAME_METHOD, payload, "unknown_frame"));
        };
        let id = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        Method::read(id, arguments).map_err(|error| error.at(id))
    }

    /// Appends the payload of a method frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (class, method) = self.id();
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&method.to_be_bytes());
        self.write(&mut ArgumentWriter::new(out));
    }
}

fn read_all<A: Arguments>(arguments: &[u8]) -> Result<A, Malformed> {
    // As RabbitMQ: the names of things must be UTF-8; what comes with each message is not checked.
    let mut reader = ArgumentReader::new(arguments, !A::HAS_CONTENT);
    let method = A::read(&mut reader)?;
    reader.fields().finish()?;
    Ok(method)
}

#[cold]
fn unknown((class, method): (u16, u16)) -> ConnectionError {
    ConnectionError::command_invalid(format_args!("unknown method {class}.{method}"))
}

#[cfg(test)]
mod tests;
