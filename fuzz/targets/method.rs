//! Methods: any payload is decoded or refused with a code of the protocol; what is decoded means
//! the same after another trip; the borrowed views agree with the owned methods.
//!
//! Input: the payload of a method frame.

#![no_main]

use amqp::{Ack, Deliver, Method, Nack, Publish, Reject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let decoded = Method::decode(data);
    check_views(data, decoded.as_ref().ok());
    match decoded {
        Ok(method) => {
            assert_eq!(data[..4], head(method.id()));
            assert_eq!(Method::name_of(method.id()), Some(method.name()));
            let encoded = encode(&method);
            let again = Method::decode(&encoded).expect("what was written can be read");
            assert_eq!(encode(&again), encoded);
        }
        Err(error) => {
            assert!(matches!(error.code.value(), 501..=503), "{error}");
            assert!(error.text.len() <= 255);
        }
    }
});

fn head((class, method): (u16, u16)) -> [u8; 4] {
    let ([c0, c1], [m0, m1]) = (class.to_be_bytes(), method.to_be_bytes());
    [c0, c1, m0, m1]
}

fn encode(method: &Method) -> Vec<u8> {
    let mut out = Vec::new();
    method.encode(&mut out);
    out
}

/// Each view must see exactly what the owned method holds, and refuse what is refused.
fn check_views(data: &[u8], decoded: Option<&Method>) {
    let refused = decoded.is_none();
    match Publish::peek(data) {
        Ok(Some(view)) => {
            let Some(Method::BasicPublish(method)) = decoded else {
                panic!("{view:?}")
            };
            assert_eq!(view.exchange, method.exchange.as_bytes());
            assert_eq!(view.routing_key, method.routing_key.as_bytes());
            assert_eq!(view.mandatory, method.mandatory);
            assert_eq!(view.immediate, method.immediate);
        }
        Ok(None) => assert!(!matches!(decoded, Some(Method::BasicPublish(_)))),
        Err(_) => assert!(refused),
    }
    match Deliver::peek(data) {
        Ok(Some(view)) => {
            let Some(Method::BasicDeliver(method)) = decoded else {
                panic!("{view:?}")
            };
            assert_eq!(view.consumer_tag, method.consumer_tag.as_bytes());
            assert_eq!(view.delivery_tag, method.delivery_tag);
            assert_eq!(view.redelivered, method.redelivered);
            assert_eq!(view.exchange, method.exchange.as_bytes());
            assert_eq!(view.routing_key, method.routing_key.as_bytes());
        }
        Ok(None) => assert!(!matches!(decoded, Some(Method::BasicDeliver(_)))),
        Err(_) => assert!(refused),
    }
    match Ack::peek(data) {
        Ok(Some(view)) => {
            let Some(Method::BasicAck(method)) = decoded else {
                panic!("{view:?}")
            };
            assert_eq!(
                (view.delivery_tag, view.multiple),
                (method.delivery_tag, method.multiple)
            );
        }
        Ok(None) => assert!(!matches!(decoded, Some(Method::BasicAck(_)))),
        Err(_) => assert!(refused),
    }
    match Nack::peek(data) {
        Ok(Some(view)) => {
            let Some(Method::BasicNack(method)) = decoded else {
                panic!("{view:?}")
            };
            assert_eq!(
                (view.delivery_tag, view.multiple),
                (method.delivery_tag, method.multiple)
            );
            assert_eq!(view.requeue, method.requeue);
        }
        Ok(None) => assert!(!matches!(decoded, Some(Method::BasicNack(_)))),
        Err(_) => assert!(refused),
    }
    match Reject::peek(data) {
        Ok(Some(view)) => {
            let Some(Method::BasicReject(method)) = decoded else {
                panic!("{view:?}")
            };
            assert_eq!(
                (view.delivery_tag, view.requeue),
                (method.delivery_tag, method.requeue)
            );
        }
        Ok(None) => assert!(!matches!(decoded, Some(Method::BasicReject(_)))),
        Err(_) => assert!(refused),
    }
}
