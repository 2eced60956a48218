use proptest::prelude::*;

use super::table::Columns;
use super::*;

/// From the tests of Go's `text/tabwriter`.
#[test]
fn columns_are_aligned_as_gos() {
    let status = Columns { min: 0, pad: 2 };
    assert_eq!(
        status.align("a\tbbb\t\nlong\tc\t\n"),
        "a     bbb  \nlong  c    \n"
    );
    let whois = Columns { min: 10, pad: 5 };
    assert_eq!(
        whois.align("Machine:\n  Name:\tx\n  Addresses:\ty\nUser:\n  ID:\t1\n"),
        "Machine:\n  Name:          x\n  Addresses:     y\nUser:\n  ID:     1\n"
    );
    assert_eq!(
        status.align("a\tb\tc\naa\n\tbb\tcc\n"),
        "a  b  c\naa\n  bb  cc\n"
    );
    assert_eq!(status.align("ä\tx\nbb\ty"), "ä   x\nbb  y");
    assert_eq!(status.align(""), "");
}

#[test]
fn json_is_laid_out_as_gos() {
    let text = "{\"b\":[1,2.50,{}],\"a\":{ } ,\"s\":\"<a,b:{\\\"&\\u00e9>\",\"n\":null,\"e\":[]}\n";
    let want = "{\n  \"b\": [\n    1,\n    2.50,\n    {}\n  ],\n  \"a\": {},\n  \"s\": \"\\u003ca,b:{\\\"\\u0026\\u00e9\\u003e\",\n  \"n\": null,\n  \"e\": []\n}";
    assert_eq!(json::indent(text, "", "  "), want);
    assert_eq!(json::indent("[1]", "> ", "\t"), "[\n> \t1\n> ]");
    let mut object: json::Object =
        serde_json::from_str("{\"z\":1,\"a\":[ 2 ]}").expect("an object");
    assert_eq!(object.get_mut("a").expect("a member").get(), "[ 2 ]");
    assert_eq!(object.to_text(), "{\"z\":1,\"a\":[ 2 ]}");
}

#[test]
fn words_are_quoted_for_a_shell() {
    for (word, want) in [
        ("", "''"),
        ("plain,10.0.0.0/8", "plain,10.0.0.0/8"),
        ("it's", "it\\'s"),
        ("a b", "'a b'"),
        ("it's a b", "'it'\\''s a b'"),
        ("~x", "\\~x"),
        ("x~", "x~"),
        ("$(rm)", "\\$\\(rm\\)"),
    ] {
        assert_eq!(shell::quote(word), want);
    }
}

#[test]
fn names_are_shown_short_and_readable() {
    for (name, suffix, want) in [
        ("a.net.test.", "net.test", "a"),
        ("a.net.test", ".net.test.", "a"),
        ("anet.test.", "net.test", "anet.test"),
        ("net.test.", "net.test", "net.test"),
        ("a.b.", "", "a.b"),
        ("", "x", ""),
    ] {
        assert_eq!(dnsname::trim_suffix(name, suffix), want, "{name} {suffix}");
    }
    for (name, want) in [
        ("My Mac.local", "my-mac"),
        ("-a_b-", "a-b"),
        ("Ünï", "n"),
        ("...", ""),
        ("a..b", "a--b"),
    ] {
        assert_eq!(dnsname::sanitize_hostname(name), want);
    }
    // RFC 3492, section 7.1.
    for (name, want) in [
        ("xn--bcher-kva", "bücher"),
        ("xn--ihqwcrb4cv8a8dqg056pqjye.x", "他们为什么不说中文.x"),
    ] {
        assert_eq!(dnsname::to_unicode(name).as_deref(), Some(want));
    }
    assert_eq!(dnsname::to_unicode("xn--!"), None);
}

#[test]
fn keys_are_masked() {
    assert_eq!(
        mask_keys("flag -x: \"tskey-auth-kABC-9\" tskey-"),
        "flag -x: \"tskey-XXXXXXXXXXX\" tskey-"
    );
}

proptest! {
    #[test]
    fn indented_json_means_the_same(value in any::<Vec<(String, Option<i32>)>>()) {
        let value: serde_json::Value = value.into_iter().map(|(k, v)| (k, serde_json::json!([v]))).collect::<serde_json::Map<_, _>>().into();
        let text = json::indent(&value.to_string(), "", "  ");
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("still JSON"), value);
    }

    #[test]
    fn any_name_gives_a_label_or_nothing(name in ".{0,80}") {
        let label = dnsname::sanitize_hostname(&name);
        prop_assert!(label.is_empty() || dnsname::check_hostname(&label).is_ok(), "{}", label);
        let _ = dnsname::to_unicode(&format!("xn--{name}"));
        let _ = dnsname::check_hostname(&name);
    }
}
