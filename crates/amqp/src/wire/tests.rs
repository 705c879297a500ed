use super::*;

#[test]
fn bits_share_octets_until_another_field_comes() {
    let mut out = Vec::new();
    let mut writer = ArgumentWriter::new(&mut out);
    let nine = [true, false, true, false, false, false, false, true, true];
    nine.iter().for_each(|bit| bit.write(&mut writer));
    7u8.write(&mut writer);
    true.write(&mut writer);
    assert_eq!(out, [0b1000_0101, 0b1, 7, 0b1]);

    let mut reader = ArgumentReader::new(&out, true);
    for bit in nine {
        assert_eq!(bool::read(&mut reader), Ok(bit));
    }
    assert_eq!(u8::read(&mut reader), Ok(7));
    assert_eq!(bool::read(&mut reader), Ok(true));
    assert_eq!(reader.fields().finish(), Ok(()));
    assert_eq!(bool::read(&mut reader), Err(Malformed::Cut));
}

#[test]
fn nothing_is_read_beyond_the_end() {
    let reader = || Reader::new(b"\x05abc");
    assert_eq!(reader().short_bytes(), Err(Malformed::Cut));
    assert_eq!(reader().long_bytes(), Err(Malformed::Cut));
    assert_eq!(reader().u64(), Err(Malformed::Cut));
    assert_eq!(reader().take(5), Err(Malformed::Cut));
    assert_eq!(reader().finish(), Err(Malformed::Trailing));

    let mut whole = reader();
    assert_eq!(whole.take(4), Ok(&b"\x05abc"[..]));
    assert_eq!((whole.is_empty(), whole.finish()), (true, Ok(())));
}

#[test]
fn what_is_counted_may_be_empty() {
    let mut out = Vec::new();
    put_counted(&mut out, |_| {});
    put_counted(&mut out, |out| put_long(out, b"x"));
    assert_eq!(out, b"\0\0\0\0\0\0\0\x05\0\0\0\x01x");
}
