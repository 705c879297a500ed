//! Scenarios of pika, the Python client; each function of the script is a test here.

use black_box::{Node, python};

macro_rules! scenarios {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            python("features.py", stringify!($name), &Node::start());
        }
    )* };
}

scenarios! {
    declare_publish_get
}
