//! Tables and properties: any bytes are decoded or refused with 502; encoding gives as many bytes
//! as came (only the spelling of a bool and of a 64-bit integer may change) and is stable; the view
//! of properties agrees with the owned ones.
//!
//! Input: the same bytes are taken as the entries of a table and as properties.

#![no_main]

use amqp::{Properties, PropertiesView, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check_table(data);
    check_properties(data);
});

fn check_table(data: &[u8]) {
    let table = match Table::decode(data) {
        Ok(table) => table,
        Err(error) => {
            assert_eq!(error.code.value(), 502);
            return;
        }
    };
    let mut encoded = Vec::new();
    table.encode(&mut encoded);
    assert_eq!(encoded.len(), data.len() + 4);
    let again = Table::decode(&encoded[4..]).expect("what was written can be read");
    let mut stable = Vec::new();
    again.encode(&mut stable);
    assert_eq!(stable, encoded);
}

fn check_properties(data: &[u8]) {
    let (owned, view) = (Properties::decode(data), PropertiesView::parse(data));
    let (properties, view) = match (owned, view) {
        (Ok(properties), Ok(view)) => (properties, view),
        (Err(owned), Err(view)) => {
            assert_eq!((owned.code.value(), owned.text), (502, view.text));
            return;
        }
        disagreement => panic!("{disagreement:?}"),
    };
    assert_eq!(PropertiesView::of_checked(data), view);
    assert_eq!(view.delivery_mode(), properties.delivery_mode);
    assert_eq!(
        view.expiration(),
        properties.expiration.as_ref().map(|text| text.as_bytes())
    );
    assert_eq!(
        view.cluster_id(),
        properties.cluster_id.as_ref().map(|text| text.as_bytes())
    );
    assert_eq!(view.timestamp(), properties.timestamp);
    if let (Some(raw), Some(table)) = (view.headers(), &properties.headers) {
        for name in table.iter().filter_map(|(name, _)| name.as_str()) {
            // By their texts, since a NaN is not equal to itself.
            assert_eq!(
                format!("{:?}", raw.get(name)),
                format!("{:?}", table.get(name))
            );
            assert!(raw.contains(name));
        }
    }
    let encoded = properties.to_bytes();
    assert_eq!(encoded.len(), data.len());
    let again = Properties::decode(&encoded).expect("what was written can be read");
    assert_eq!(again.to_bytes(), encoded);
}
