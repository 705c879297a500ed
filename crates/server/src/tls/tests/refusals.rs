use super::{Folder, Tls, TlsOptions, authority};

/// Loading is refused, naming the setting and the file, and saying why.
fn check(options: &TlsOptions, key: &str, file: &str, why: &str) {
    let error = Tls::load("ssl_options", options, &[]).expect_err("that should be refused");
    assert_eq!(error.key, format!("ssl_options.{key}"), "{error}");
    let named = error
        .path
        .as_ref()
        .and_then(|path| path.file_name())
        .and_then(|name| name.to_str());
    assert_eq!(named.unwrap_or_default(), file, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn files_that_are_missing() {
    let folder = Folder::of(&authority("CA"));
    for (name, key) in [
        ("cert.pem", "certfile"),
        ("key.pem", "keyfile"),
        ("ca.pem", "cacertfile"),
    ] {
        let kept = std::fs::read_to_string(folder.path(name)).unwrap();
        std::fs::remove_file(folder.path(name)).unwrap();
        check(&folder.options(), key, name, "cannot be read: No such file");
        folder.write(name, &kept);
    }
    check(
        &TlsOptions {
            certfile: None,
            ..folder.options()
        },
        "certfile",
        "",
        "must name a file",
    );
    check(
        &TlsOptions {
            keyfile: None,
            ..folder.options()
        },
        "keyfile",
        "",
        "must name a file",
    );
}

#[test]
fn files_that_hold_something_else() {
    let folder = Folder::of(&authority("CA"));
    for (name, key, why) in [
        ("cert.pem", "certfile", "holds no certificate in PEM form"),
        ("ca.pem", "cacertfile", "holds no certificate in PEM form"),
        ("key.pem", "keyfile", "holds no private key in PEM form"),
    ] {
        let kept = std::fs::read_to_string(folder.path(name)).unwrap();
        folder.write(name, "what is this\n");
        check(&folder.options(), key, name, why);
        folder.write(name, &kept);
    }
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    folder.write("cert.pem", broken);
    check(
        &folder.options(),
        "certfile",
        "cert.pem",
        "holds a malformed certificate",
    );
    folder.write("cert.pem", "-----BEGIN CERTIFICATE-----\n!!!\n");
    check(&folder.options(), "certfile", "cert.pem", "is no PEM file");
}

#[test]
fn a_key_of_another_certificate() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    let kept = std::fs::read_to_string(folder.path("key.pem")).unwrap();
    folder.write_server("another", &ca);
    folder.write("key.pem", &kept);
    check(
        &folder.options(),
        "keyfile",
        "key.pem",
        "does not belong to the certificate in",
    );
}

#[test]
fn keys_that_cannot_be_used() {
    let folder = Folder::of(&authority("CA"));
    let modern =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    for text in [modern, old] {
        folder.write("key.pem", text);
        let options = TlsOptions {
            password: Some("hush".into()),
            ..folder.options()
        };
        check(&options, "keyfile", "key.pem", "openssl pkey -in");
        let error = Tls::load("ssl_options", &options, &[]).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    folder.write(
        "key.pem",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
    );
    check(
        &folder.options(),
        "keyfile",
        "key.pem",
        "the key is of no supported kind",
    );
}

#[test]
fn ciphers_that_do_not_work() {
    let folder = Folder::of(&authority("CA"));
    let options = TlsOptions {
        ciphers: vec!["RC4-MD5".into()],
        ..folder.options()
    };
    check(
        &options,
        "ciphers",
        "",
        "none of the ciphers is supported; use some of TLS_AES_256_GCM_SHA384",
    );
    let options = TlsOptions {
        ciphers: vec!["TLS_AES_256_GCM_SHA384".into()],
        versions: vec![crate::config::TlsVersion::V1_2],
        ..folder.options()
    };
    check(
        &options,
        "ciphers",
        "",
        "none of the ciphers belongs to one of the versions",
    );
}

#[test]
fn verification_without_authorities() {
    let folder = Folder::of(&authority("CA"));
    let error = Tls::load(
        "ssl_options",
        &TlsOptions {
            verify: true,
            cacertfile: None,
            ..folder.options()
        },
        &[],
    );
    assert_eq!(error.unwrap_err().key, "ssl_options.cacertfile");
}
